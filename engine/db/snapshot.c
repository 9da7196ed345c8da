/*
 * Snapshots: sequence numbers held in a sorted ring. Taking one reads visible_sequence under
 * snapshot_lock, and so does a compaction that lists them: so a snapshot taken later is at or above
 * the newest number the compaction keeps.
 */
#include "engine/db/db_private.h"

#include "engine/base/memory.h"

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
    s->sequence = atomic_load(&db->layout->commit.visible_sequence);
    s->next = &db->snapshots;
    s->previous = db->snapshots.previous;
    s->previous->next = s;
    s->next->previous = s;
    db->snapshot_count++;
    pthread_mutex_unlock(&db->snapshot_lock);
    *snapshot = s;
    return LSM_OK;
}

LSM_API void lsm_snapshot_release(lsm_db *db, lsm_snapshot *snapshot)
{
    if (snapshot == NULL || db_check(db, NULL) != LSM_OK)
        return;
    pthread_mutex_lock(&db->snapshot_lock);
    snapshot->previous->next = snapshot->next;
    snapshot->next->previous = snapshot->previous;
    db->snapshot_count--;
    pthread_mutex_unlock(&db->snapshot_lock);
    mem_free(snapshot);
}

LSM_API uint64_t lsm_snapshot_sequence(const lsm_snapshot *snapshot)
{
    return snapshot->sequence;
}

lsm_status db_snapshot_list(lsm_db *db, uint64_t **sequences, size_t *count, lsm_error *err)
{
    pthread_mutex_lock(&db->snapshot_lock);
    size_t capacity = (size_t)db->snapshot_count + 1;
    uint64_t *list = mem_alloc(capacity * sizeof *list);
    size_t n = 0;
    if (list != NULL) {
        for (lsm_snapshot *s = db->snapshots.next; s != &db->snapshots; s = s->next) {
            if (n == 0 || list[n - 1] != s->sequence)
                list[n++] = s->sequence;
        }
        uint64_t visible = atomic_load(&db->layout->commit.visible_sequence);
        if (n == 0 || list[n - 1] != visible)
            list[n++] = visible;
    }
    pthread_mutex_unlock(&db->snapshot_lock);
    if (list == NULL)
        return lsm_fail_memory(err, capacity * sizeof *list);
    *sequences = list;
    *count = n;
    return LSM_OK;
}
