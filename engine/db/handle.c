/*
 * The handle itself: made before anything is known of the database, freed when nothing of it is in
 * use any more.
 */
#include "engine/db/open_private.h"

#include "engine/base/memory.h"

lsm_status db_handle_new(const char *path, const lsm_options *options, lsm_db **made,
                         lsm_error *err)
{
    lsm_db *db = mem_alloc_aligned(64, sizeof *db);
    if (db == NULL)
        return lsm_fail_memory(err, sizeof *db);
    memset(db, 0, sizeof *db);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&db->cf_lock, NULL);
    pthread_mutex_init(&db->snapshot_lock, NULL);
    pthread_mutex_init(&db->work_lock, NULL);
    pthread_mutex_init(&db->view_lock, NULL);
    pthread_mutex_init(&db->arena_lock, NULL);
    db->pins.next = db->pins.previous = &db->pins;
    db->outputs.next = db->outputs.previous = &db->outputs;
    pthread_cond_init(&db->work_due, &monotonic);
    pthread_cond_init(&db->work_done, &monotonic);
    pthread_condattr_destroy(&monotonic);
    db->snapshots.next = db->snapshots.previous = &db->snapshots;
    db->snapshots.sequence = UINT64_MAX; /* no snapshot's */
    db_watch_forks();
    db->fork_count = db_fork_count();
    db->path = mem_copy_text(path);
    lsm_status status = db->path == NULL ? lsm_fail_memory(err, strlen(path)) : LSM_OK;
    if (status == LSM_OK)
        status = db_options_resolve(options, &db->options, err);
    if (status == LSM_OK && db->options.read_only && db->options.create)
        status = lsm_fail(err, LSM_INVALID, "a database cannot be created read only");
    db->arena_size = (size_t)db->options.memtable_size / 64 * 64;
    *made = db;
    return status;
}

/* Frees everything without writing anything. */
void db_handle_free(lsm_db *db)
{
    struct io *io = db->owns_io ? db->io : NULL;
    if (db->layout != NULL)
        db_state_clear(db);
    if (db->slot != NULL)
        atomic_store(&db->slot->pin, 0); /* nothing here uses a version any more */
    db_cf_free_all(db);
    if (version_set_close(db->versions) && db->layout != NULL)
        db_orphans_expect(db);
    epoch_drain();
    block_cache_free(db->tables.cache);
    io_queue_pool_free(db->tables.queues);
    if (db->attachment != NULL)
        db_lock_free(db);
    else
        mem_free(db->layout);
    io_dir_close(db->dir);
    io_close(io);
    pthread_mutex_destroy(&db->cf_lock);
    pthread_mutex_destroy(&db->snapshot_lock);
    pthread_mutex_destroy(&db->work_lock);
    pthread_mutex_destroy(&db->view_lock);
    pthread_mutex_destroy(&db->arena_lock);
    pthread_cond_destroy(&db->work_due);
    pthread_cond_destroy(&db->work_done);
    mem_free(db->path);
    db_bury(db);
}
