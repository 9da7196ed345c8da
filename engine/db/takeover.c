/*
 * Taking the append lock, also from a dead owner.
 *
 * Its owner makes a commit in this order: the record into the stage ring, the intent, then the
 * effects (pending ring, staged, memtable, applied, visible), then the intent is cleared. Every
 * effect is an absolute store or, in the memtable, an insert at a given place that finds itself
 * done. So who finds an intent simply does it all again, and who finds none has nothing to do but
 * to forget what stands in the ring behind `staged`.
 */
#include "engine/db/db_private.h"

#include "engine/base/hash.h"
#include "engine/base/step.h"
#include "engine/format/batch.h"
#include "engine/format/log_record.h"

#include <errno.h>

/* The sync write stands in the pending ring already, or is put there. */
static void redo_pending_locked(struct shm_commit *c, uint64_t sequence, uint64_t end)
{
    uint64_t tail = atomic_load(&c->pending_tail), head = atomic_load(&c->pending_head);
    if (tail > head && atomic_load(&c->pending[(tail - 1) % SHM_MAX_PENDING].sequence) == sequence)
        return;
    if (atomic_load(&c->durable) < end)
        db_pending_enter_locked(c, sequence, end);
}

static lsm_status redo_locked(lsm_db *db, struct buffer *bytes, lsm_error *err)
{
    struct shm_intent *intent = &db->layout->intent;
    struct shm_commit *c = &db->layout->commit;
    if (intent->memtable_id != memtable_id(db->active))
        return lsm_fail(err, LSM_CORRUPT,
                        "an interrupted write of '%s' was meant for memtable %" PRIu64
                        " and not for %" PRIu64,
                        db->path, intent->memtable_id, memtable_id(db->active));
    struct log_record record;
    lsm_status status =
        wal_restage_locked(db->wal, intent->position, intent->size, bytes, &record, err);
    if (status == LSM_OK && record.sequence != intent->sequence)
        status = lsm_fail(err, LSM_CORRUPT,
                          "the record of an interrupted write of '%s' has the sequence number "
                          "%" PRIu64 ", expected %" PRIu64,
                          db->path, record.sequence, intent->sequence);
    if (status != LSM_OK)
        return status;
    if (intent->durability == LSM_SYNC)
        redo_pending_locked(c, intent->sequence, intent->position + intent->size);
    wal_publish_locked(db->wal);
    memtable_rewind(db->active, (size_t)intent->memtable_place);
    db_commit_insert_locked(db, record.batch, intent->sequence);
    db_commit_publish_locked(db, intent->sequence);
    db_commit_done_locked(db);
    return LSM_OK;
}

/* What cannot be made good again must not be built upon. */
static void poison(lsm_db *db)
{
    uint32_t healthy = 0;
    atomic_compare_exchange_strong(&db->layout->ctl.poisoned, &healthy, EIO);
}

static lsm_status take_over_locked(lsm_db *db, lsm_error *err)
{
    lsm_status status = LSM_OK;
    STEP("takeover: begin");
    if (atomic_load(&db->layout->intent.state) == SHM_INTENT_NONE) {
        wal_unstage_locked(db->wal);
    } else {
        struct buffer bytes = {0};
        status = redo_locked(db, &bytes, err);
        buffer_release(&bytes);
    }
    if (status != LSM_OK)
        poison(db);
    STEP("takeover: done");
    shm_lock_repaired(&db->layout->locks.append);
    return status;
}

lsm_status db_append_lock(lsm_db *db, lsm_error *err)
{
    struct shm_lock *lock = &db->layout->locks.append;
    if (shm_lock(lock) == SHM_LOCKED)
        return LSM_OK;
    lsm_status status = take_over_locked(db, err);
    if (status != LSM_OK)
        shm_unlock(lock);
    return status;
}
