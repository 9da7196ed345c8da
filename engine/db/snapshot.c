/*
 * Snapshots: sequence numbers held in a sorted ring, and told to other processes in this one's
 * slot.
 *
 * Taking one reads visible_sequence under the change lock, and so does a compaction, of any
 * process, that lists them: so a snapshot taken later is at or above the newest number the
 * compaction keeps.
 */
#include "engine/db/db_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"

#include <stdlib.h>

/* ---- the slot -------------------------------------------------------------------------------- */

/* In the slot numbers are one higher, since 0 says that there is none. */
static _Atomic uint64_t *slot_entry(struct shm_slot *slot, uint64_t stored)
{
    for (uint32_t i = 0; i < SHM_SLOT_SNAPSHOTS; i++) {
        if (atomic_load(&slot->snapshots[i]) == stored)
            return &slot->snapshots[i];
    }
    return NULL;
}

/* Takes the number of a snapshot that begins now; false when the slot is full. */
static bool slot_take(lsm_db *db, uint64_t *sequence)
{
    db_change_lock(db);
    *sequence = atomic_load(&db->layout->commit.visible_sequence);
    _Atomic uint64_t *entry = slot_entry(db->slot, *sequence + 1);
    if (entry == NULL)
        entry = slot_entry(db->slot, 0);
    if (entry != NULL)
        atomic_store(entry, *sequence + 1);
    STEP("snapshot: told");
    db_change_unlock(db);
    return entry != NULL;
}

/* The last snapshot of that number has gone (snapshot_lock held). */
static void slot_leave(lsm_db *db, uint64_t sequence)
{
    _Atomic uint64_t *entry = slot_entry(db->slot, sequence + 1);
    if (entry != NULL)
        atomic_store(entry, 0);
    STEP("snapshot: left");
}

/* ---- snapshots ------------------------------------------------------------------------------- */

LSM_API lsm_status lsm_snapshot_acquire(lsm_db *db, lsm_snapshot **snapshot, lsm_error *err)
{
    lsm_status status = db_check(db, err);
    if (status != LSM_OK)
        return status;
    if (snapshot == NULL)
        return lsm_fail(err, LSM_INVALID, "the place for the snapshot is NULL");
    lsm_snapshot *s = mem_alloc(sizeof *s);
    if (s == NULL)
        return lsm_fail_memory(err, sizeof *s);
    pthread_mutex_lock(&db->snapshot_lock);
    bool taken = slot_take(db, &s->sequence);
    if (taken) {
        s->next = &db->snapshots;
        s->previous = db->snapshots.previous;
        s->previous->next = s;
        s->next->previous = s;
        db->snapshot_count++;
    }
    pthread_mutex_unlock(&db->snapshot_lock);
    if (!taken) {
        mem_free(s);
        return lsm_fail(err, LSM_TOO_LARGE,
                        "this process holds snapshots of %d states of '%s' already, as many as can "
                        "be; release some",
                        SHM_SLOT_SNAPSHOTS, db->path);
    }
    *snapshot = s;
    return LSM_OK;
}

LSM_API void lsm_snapshot_release(lsm_db *db, lsm_snapshot *snapshot)
{
    if (snapshot == NULL || db_check(db, NULL) != LSM_OK)
        return;
    pthread_mutex_lock(&db->snapshot_lock);
    bool is_last = snapshot->previous->sequence != snapshot->sequence &&
                   snapshot->next->sequence != snapshot->sequence;
    snapshot->previous->next = snapshot->next;
    snapshot->next->previous = snapshot->previous;
    db->snapshot_count--;
    if (is_last)
        slot_leave(db, snapshot->sequence);
    pthread_mutex_unlock(&db->snapshot_lock);
    mem_free(snapshot);
}

LSM_API uint64_t lsm_snapshot_sequence(const lsm_snapshot *snapshot)
{
    return snapshot->sequence;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Every slot's, and the newest visible one: unsorted (change lock held). */
static size_t gather_locked(lsm_db *db, uint64_t *list)
{
    size_t n = 0;
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        struct shm_slot *slot = &db->layout->slots[i];
        for (uint32_t j = 0; j < SHM_SLOT_SNAPSHOTS; j++) {
            uint64_t stored = atomic_load(&slot->snapshots[j]);
            if (stored != 0)
                list[n++] = stored - 1;
        }
    }
    list[n++] = atomic_load(&db->layout->commit.visible_sequence);
    return n;
}

lsm_status db_snapshot_list(lsm_db *db, uint64_t **sequences, size_t *count, lsm_error *err)
{
    size_t size = ((size_t)SHM_MAX_SLOTS * SHM_SLOT_SNAPSHOTS + 1) * sizeof(uint64_t);
    uint64_t *list = mem_alloc(size);
    if (list == NULL)
        return lsm_fail_memory(err, size);
    db_change_lock(db);
    size_t n = gather_locked(db, list), kept = 0;
    db_change_unlock(db);
    qsort(list, n, sizeof *list, compare_numbers);
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || list[kept - 1] != list[i])
            list[kept++] = list[i];
    }
    *sequences = list;
    *count = kept;
    return LSM_OK;
}
