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

#define APPEND_TOLD_NS UINT64_C(1000000) /* a shorter wait for the lock is not counted */

/* The sync write stands in the pending ring already, or is put there. */
static void redo_pending_locked(struct shm_commit *c, uint64_t sequence, uint64_t end)
{
    uint64_t tail = atomic_load(&c->pending_tail), head = atomic_load(&c->pending_head);
    if (tail > head && atomic_load(&c->pending[(tail - 1) % SHM_MAX_PENDING].sequence) == sequence)
        return;
    if (atomic_load(&c->durable) < end)
        db_pending_enter_locked(c, sequence, end);
}

/* The record counts as staged, unless it did before its writer died. */
static lsm_status republish_locked(lsm_db *db, lsm_error *err)
{
    const struct shm_intent *intent = &db->layout->intent;
    if (atomic_load(&db->layout->commit.staged) != intent->position)
        return LSM_OK;
    bool found;
    uint64_t sequence, end;
    lsm_slice batch;
    lsm_status status = wal_stage_again_locked(db->wal, &found, &sequence, &batch, &end, err);
    if (status == LSM_OK && (!found || sequence != intent->sequence))
        status =
            lsm_fail(err, LSM_CORRUPT,
                     "the stage ring of '%s' does not go on with the record at position %" PRIu64
                     " that an interrupted write was to commit",
                     db->path, intent->position);
    if (status == LSM_OK)
        wal_publish_locked(db->wal);
    return status;
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
        wal_staged_record_locked(db->wal, intent->position, intent->size, bytes, &record, err);
    if (status == LSM_OK && record.sequence != intent->sequence)
        status = lsm_fail(err, LSM_CORRUPT,
                          "the record of an interrupted write of '%s' has the sequence number "
                          "%" PRIu64 ", expected %" PRIu64,
                          db->path, record.sequence, intent->sequence);
    if (status != LSM_OK)
        return status;
    if (intent->durability == LSM_SYNC)
        redo_pending_locked(c, intent->sequence, intent->position + intent->size);
    STEP("redo: pending");
    status = republish_locked(db, err);
    if (status != LSM_OK)
        return status;
    STEP("redo: staged");
    memtable_rewind(db->active, (size_t)intent->memtable_place);
    db_commit_insert_locked(db, record.batch, intent->sequence);
    STEP("redo: inserted");
    db_commit_publish_locked(db, intent->sequence);
    STEP("redo: published");
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
    STEP("takeover: begin");
    lsm_status status = wal_append_takeover_locked(db->wal, err);
    uint32_t intent = atomic_load(&db->layout->intent.state);
    if (status == LSM_OK && intent == SHM_INTENT_INGEST) {
        status = db_ingest_redo_locked(db, err);
    } else if (status == LSM_OK && intent != SHM_INTENT_NONE) {
        struct buffer bytes = {0};
        status = redo_locked(db, &bytes, err);
        buffer_release(&bytes);
    }
    if (status == LSM_CORRUPT)
        poison(db);
    STEP("takeover: done");
    if (status == LSM_OK)
        atomic_store(&db->layout->intent.takeover_due, 0);
    STEP("takeover: told");
    return status;
}

/* The lock was taken. */
static inline lsm_status append_begin_locked(lsm_db *db, lsm_error *err)
{
    bool is_due = atomic_load_explicit(&db->layout->intent.takeover_due, memory_order_relaxed) != 0;
    if (__builtin_expect(is_due, 0)) {
        db_change_lock(db); /* it may have died in a switch */
        db_change_unlock(db);
    }
    lsm_status status = db_memtable_follow(db, err);
    if (__builtin_expect(is_due, 0) && status == LSM_OK)
        status = take_over_locked(db, err);
    if (status != LSM_OK)
        shm_unlock(&db->layout->locks.append);
    return status;
}

static void append_owner_died(lsm_db *db)
{
    STEP("takeover: owner dead");
    atomic_store(&db->layout->intent.takeover_due, 1);
    shm_lock_repaired(&db->layout->locks.append);
    STEP("takeover: due");
}

/* Waiting for the lock is only worth telling when it is long: writers that come together wait for
 * each other all the time. */
static enum shm_lock_result append_wait(lsm_db *db)
{
    uint64_t begin = io_now_ns(db->io);
    enum shm_lock_result result = shm_lock(&db->layout->locks.append);
    if (io_now_ns(db->io) - begin >= APPEND_TOLD_NS)
        db_stall_count(db, SHM_WAIT_LOCK, begin);
    return result;
}

/*
 * What a dead owner began wants a memtable, and none is free: waits for one as a write does. The
 * first look is without a wait, for one may have become free since the last one.
 */
static __attribute__((cold)) lsm_status append_wait_memtable(lsm_db *db,
                                                             const struct db_deadline *deadline,
                                                             lsm_error *err)
{
    for (;;) {
        uint32_t seen = shm_event_count(&db->layout->version.changed);
        lsm_status status = db_append_lock_now(db, deadline, err);
        if (status != LSM_BUSY)
            return status;
        STEP("takeover: no memtable");
        db_stall_tell(db, LSM_STALL_MEMTABLES);
        status = db_work_wait_until(db, deadline, err);
        if (status == LSM_OK && db_deadline_is_over(deadline))
            status = db_timeout(db, deadline, DB_BEHIND_MEMTABLES, err);
        if (status != LSM_OK)
            return status;
        db_wait_changed_until(db, seen, deadline);
    }
}

static lsm_status append_lock_now(lsm_db *db, lsm_error *err)
{
    enum shm_lock_result result = shm_trylock(&db->layout->locks.append);
    if (result == SHM_LOCK_BUSY)
        result = append_wait(db);
    if (result == SHM_LOCKED_OWNER_DIED)
        append_owner_died(db);
    return append_begin_locked(db, err);
}

lsm_status db_append_lock_now(lsm_db *db, const struct db_deadline *deadline, lsm_error *err)
{
    struct shm_lock *lock = &db->layout->locks.append;
    if (!db_deadline_is_set(deadline))
        return append_lock_now(db, err);
    enum shm_lock_result result = shm_lock_until(lock, deadline->at_ns);
    if (result == SHM_LOCK_TIMED_OUT)
        return db_timeout(db, deadline, DB_BEHIND_APPEND, err);
    if (result == SHM_LOCKED_OWNER_DIED)
        append_owner_died(db);
    lsm_status status = db_change_await(db, deadline, err);
    if (status != LSM_OK) {
        shm_unlock(lock);
        return status;
    }
    return append_begin_locked(db, err);
}

lsm_status db_append_lock(lsm_db *db, lsm_error *err)
{
    lsm_status status = append_lock_now(db, err);
    return __builtin_expect(status == LSM_BUSY, 0) ? append_wait_memtable(db, NULL, err) : status;
}

void db_append_hold(lsm_db *db)
{
    if (shm_lock(&db->layout->locks.append) == SHM_LOCKED_OWNER_DIED)
        append_owner_died(db);
}

lsm_status db_append_lock_until(lsm_db *db, const struct db_deadline *deadline, lsm_error *err)
{
    lsm_status status = db_append_lock_now(db, deadline, err);
    return status == LSM_BUSY ? append_wait_memtable(db, deadline, err) : status;
}
