/*
 * Closing. The last one who has the database open flushes, then says in the manifest "clean, the
 * log is empty from here on".
 */
#include "engine/db/open_private.h"

#include "engine/base/cancel.h"
#include "engine/base/step.h"

void db_abandon(lsm_db *db)
{
    db_keeper_stop(db);
    db_background_stop(db);
    db_log_writer_stop(db);
    wal_abandon(db->wal);
    db->wal = NULL;
    db_handle_free(db);
}

static lsm_status flush_all(lsm_db *db, lsm_error *err)
{
    lsm_status status = db_check_write(db, err);
    if (status == LSM_OK)
        status = db_seal_active(db, err);
    return status == LSM_OK ? db_flush_sealed(db, err) : status;
}

static lsm_status check_unused(lsm_db *db, lsm_error *err)
{
    uint32_t iterators = atomic_load(&db->iterator_count), pins = atomic_load(&db->pin_count);
    uint32_t ingests = atomic_load(&db->ingest_count), queues = atomic_load(&db->async_count);
    uint32_t checkpoints = atomic_load(&db->checkpoint_count);
    if (iterators > 0 || pins > 0 || ingests > 0 || queues > 0 || checkpoints > 0 ||
        db->snapshot_count > 0)
        return lsm_fail(err, LSM_BUSY,
                        "'%s' has %" PRIu32 " open iterators, %" PRIu32
                        " snapshots (of transactions, too), %" PRIu32 " pinned values, %" PRIu32
                        " ingests, %" PRIu32 " checkpoints and %" PRIu32
                        " asynchronous queues; release them before closing",
                        db->path, iterators, db->snapshot_count, pins, ingests, checkpoints,
                        queues);
    return LSM_OK;
}

/* The last one leaves nothing in the log. */
static lsm_status close_files(lsm_db *db, lsm_error *err)
{
    lsm_status status = flush_all(db, err);
    STEP("close: flushed");
    if (status == LSM_OK)
        status = db_log_mark(db, atomic_load(&db->layout->commit.staged), db->layout->commit.chain,
                             true, err);
    STEP("close: marked clean");
    lsm_status closed = wal_close(db->wal, status == LSM_OK, status == LSM_OK ? err : NULL);
    STEP("close: log closed");
    return status == LSM_OK ? closed : status;
}

/* From here on this thread does what is still to be done. */
static void stop_threads(lsm_db *db)
{
    db_keeper_stop(db);
    db_background_stop(db);
    db_log_writer_stop(db);
    db->options.workers = LSM_NO_WORKERS;
    atomic_store(&db->closing, false);
}

static lsm_status leave(lsm_db *db, lsm_error *err)
{
    bool is_last = false;
    STEP("close: begin");
    stop_threads(db);
    STEP("close: threads ended");
    lsm_status status = shm_detach_begin(db->attachment, &is_last, err);
    db->is_leaving = status == LSM_OK;
    /* The last one who only reads leaves to the next opening what writers that died, or left it
     * behind, did not put into tables: it is all in the log. */
    if (is_last && !db->options.read_only)
        status = close_files(db, err);
    else
        wal_detach(db->wal);
    db->wal = NULL;
    db_handle_free(db);
    return status;
}

static lsm_status close_handle(lsm_db *db, lsm_error *err)
{
    lsm_status status = db_check(db, err);
    if (status == LSM_OK)
        status = check_unused(db, err);
    if (status != LSM_OK)
        return status;
    if (db->is_private) {
        db_abandon(db);
        return LSM_OK;
    }
    return leave(db, err);
}

LSM_API lsm_status lsm_close(lsm_db *db, lsm_error *err)
{
    if (db == NULL)
        return LSM_OK;
    int before = cancel_hold(); /* it waits for threads that end */
    lsm_status status = close_handle(db, err);
    cancel_release(before);
    return status;
}
