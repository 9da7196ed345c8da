/* What a caller may ask for by hand: flush, and waiting until all is done. See manual.c, too. */
#include "engine/db/read_account.h"

LSM_API lsm_status lsm_flush(lsm_db *db, lsm_error *err)
{
    lsm_status status = db_check_write(db, err);
    if (status == LSM_OK)
        status = db_seal_active(db, err);
    return status == LSM_OK ? db_flush_sealed(db, err) : status;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static bool compaction_is_due(lsm_db *db)
{
    struct compaction c = {0};
    pthread_mutex_lock(&db->view_lock);
    struct version *version = version_set_current(db->versions);
    bool due = compact_pick(version, db_wall_seconds(db), &c) || db_reads_pick(db, version, &c) ||
               db_reads_want_flush(db, version);
    pthread_mutex_unlock(&db->view_lock);
    compaction_release(&c);
    version_drop(version);
    return due;
}

static lsm_status wait_idle(lsm_db *db, lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (!db_has_workers(db))
        return db_work_wait(db, err);
    for (;;) {
        uint32_t seen = shm_event_count(&db->layout->version.changed);
        status = db_work_wait(db, err);
        if (status != LSM_OK)
            return status;
        pthread_mutex_lock(&db->work_lock);
        bool busy = db->flushing || db->compacting > 0 || db->manual_running;
        pthread_mutex_unlock(&db->work_lock);
        busy |= db_memtables_waiting(db) > 0;
        if (!busy && !compaction_is_due(db))
            return LSM_OK;
        db_wait_changed(db, seen);
    }
}

LSM_API lsm_status lsm_wait_idle(lsm_db *db, lsm_error *err)
{
    lsm_status status = db_check_write(db, err);
    if (status != LSM_OK)
        return status;
    uint64_t staged = atomic_load(&db->layout->commit.staged);
    status = wait_idle(db, err);
    if (status == LSM_OK)
        db_log_rest(db, staged);
    return status;
}
