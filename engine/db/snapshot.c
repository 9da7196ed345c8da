/*
 * Snapshots: sequence numbers held in a sorted ring, and told to other processes in this one's
 * slot.
 *
 * Taking one reads visible_sequence under the change lock, and so does a compaction, of any
 * process, that lists them: so a snapshot taken later is at or above the newest number the
 * compaction keeps.
 */
#include "engine/db/snapshot.h"

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
    if (entry == NULL) {
        entry = slot_entry(db->slot, 0);
        if (entry != NULL)
            atomic_store_explicit(&db->slot->report.snapshot_ns[entry - db->slot->snapshots],
                                  io_now_ns(db->io), memory_order_relaxed);
    }
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

/* Into the ring, at its place (snapshot_lock held). Most are the newest. */
static void ring_add_locked(lsm_db *db, lsm_snapshot *s)
{
    lsm_snapshot *after = db->snapshots.previous;
    while (after != &db->snapshots && after->sequence > s->sequence)
        after = after->previous;
    s->previous = after;
    s->next = after->next;
    s->previous->next = s;
    s->next->previous = s;
    db->snapshot_count++;
}

static lsm_status slot_is_full(const lsm_db *db, lsm_error *err)
{
    return lsm_fail(err, LSM_TOO_LARGE,
                    "this process holds snapshots of %d states of '%s' already, as many as can "
                    "be; release some",
                    SHM_SLOT_SNAPSHOTS, db->path);
}

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
    if (taken)
        ring_add_locked(db, s);
    pthread_mutex_unlock(&db->snapshot_lock);
    if (!taken) {
        mem_free(s);
        return slot_is_full(db, err);
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

/* ---- of other processes ---------------------------------------------------------------------- */

bool db_snapshot_place(lsm_db *db, const lsm_snapshot *snapshot, struct db_snapshot_place *place)
{
    pthread_mutex_lock(&db->snapshot_lock);
    const _Atomic uint64_t *entry = slot_entry(db->slot, snapshot->sequence + 1);
    if (entry != NULL)
        *place = (struct db_snapshot_place){.slot = (uint32_t)(db->slot - db->layout->slots),
                                            .generation = atomic_load(&db->slot->generation),
                                            .entry = (uint32_t)(entry - db->slot->snapshots),
                                            .sequence = snapshot->sequence};
    pthread_mutex_unlock(&db->snapshot_lock);
    return entry != NULL;
}

static bool place_is_held(struct shm_slot *slot, const struct db_snapshot_place *place)
{
    return atomic_load(&slot->snapshots[place->entry]) == place->sequence + 1;
}

static bool place_is_owned(struct shm_slot *slot, const struct db_snapshot_place *place)
{
    return atomic_load(&slot->state) == SHM_SLOT_IN_USE &&
           atomic_load(&slot->generation) == place->generation;
}

/*
 * Why no flush and no compaction can drop what the new snapshot sees: its number is entered while
 * the change lock is held, and only after the other's was seen to stand. They, too, list under that
 * lock. One that lists later finds the new entry. One that listed before found the other's, if that
 * stood then; and if it did not stand yet, it was taken later, at a number that was the newest
 * visible one (or by this very step from one that was), so that nothing the job merges is above
 * what it lists as the newest. Releasing and reaping clear entries without the lock: an entry that
 * stands here stood at every moment since it was made, since a cleared one only comes back as a
 * snapshot of the same number taken anew, of which the same holds.
 */
static lsm_status slot_join(lsm_db *db, const struct db_snapshot_place *place, lsm_error *err)
{
    struct shm_slot *other = &db->layout->slots[place->slot];
    _Atomic uint64_t *entry = NULL;
    db_change_lock(db);
    bool is_held = place_is_held(other, place);
    bool is_owned = place_is_owned(other, place);
    STEP("snapshot: other's seen");
    if (is_held && is_owned) {
        entry = slot_entry(db->slot, place->sequence + 1);
        if (entry == NULL)
            entry = slot_entry(db->slot, 0);
        if (entry != NULL)
            atomic_store(entry, place->sequence + 1);
    }
    STEP("snapshot: own entered");
    db_change_unlock(db);
    if (!is_owned)
        return lsm_fail(err, LSM_MISSING,
                        "the process that made the snapshot token has closed '%s' or died",
                        db->path);
    if (!is_held)
        return lsm_fail(err, LSM_MISSING,
                        "the snapshot of '%s' at sequence number %" PRIu64
                        " was released; it has to be held until it is opened",
                        db->path, place->sequence);
    return entry == NULL ? slot_is_full(db, err) : LSM_OK;
}

lsm_status db_snapshot_join(lsm_db *db, const struct db_snapshot_place *place,
                            lsm_snapshot **snapshot, lsm_error *err)
{
    /* A dead process's entries stand until it is reaped, so they are safe; but whether they still
     * do would be a matter of luck. */
    if (!shm_slot_is_alive(db->attachment, place->slot))
        return lsm_fail(err, LSM_MISSING,
                        "the process that made the snapshot token has closed '%s' or died",
                        db->path);
    lsm_snapshot *s = mem_alloc(sizeof *s);
    if (s == NULL)
        return lsm_fail_memory(err, sizeof *s);
    s->sequence = place->sequence;
    pthread_mutex_lock(&db->snapshot_lock);
    lsm_status status = slot_join(db, place, err);
    if (status == LSM_OK)
        ring_add_locked(db, s);
    pthread_mutex_unlock(&db->snapshot_lock);
    if (status != LSM_OK) {
        mem_free(s);
        return status;
    }
    *snapshot = s;
    return LSM_OK;
}

/* A place where some process holds the number; false when there is none. It may be gone the next
 * moment: db_snapshot_join() looks again. */
static bool find_holder(lsm_db *db, uint64_t sequence, struct db_snapshot_place *place)
{
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        struct shm_slot *slot = &db->layout->slots[i];
        const _Atomic uint64_t *entry = slot_entry(slot, sequence + 1);
        if (entry == NULL || !shm_slot_is_alive(db->attachment, i))
            continue;
        *place = (struct db_snapshot_place){.slot = i,
                                            .generation = atomic_load(&slot->generation),
                                            .entry = (uint32_t)(entry - slot->snapshots),
                                            .sequence = sequence};
        return true;
    }
    return false;
}

lsm_status db_snapshot_hold(lsm_db *db, uint64_t sequence, lsm_snapshot **snapshot, lsm_error *err)
{
    lsm_snapshot *newest = NULL;
    struct db_snapshot_place place;
    lsm_status status = lsm_snapshot_acquire(db, &newest, err);
    if (status != LSM_OK)
        return status;
    uint64_t newest_sequence = newest->sequence;
    if (newest_sequence == sequence) {
        *snapshot = newest;
        return LSM_OK;
    }
    lsm_snapshot_release(db, newest);
    if (!db->is_private && sequence < newest_sequence && find_holder(db, sequence, &place))
        return db_snapshot_join(db, &place, snapshot, err);
    status = lsm_fail(err, LSM_MISSING,
                      "the state of '%s' at sequence number %" PRIu64
                      " cannot be read: the newest is %" PRIu64
                      ", and no snapshot of any process holds another one",
                      db->path, sequence, newest_sequence);
    status_numbers(err, newest_sequence, sequence);
    return status;
}

/* ---- lists ----------------------------------------------------------------------------------- */

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
