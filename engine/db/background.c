/*
 * Flush and compaction in worker threads.
 *
 * Workers look for due work under work_lock, do it without, and sleep when there is none. A flush
 * goes first, and one worker stays free for it whenever there are two. Without workers the same
 * steps run on the thread that needs them (db_work_wait).
 *
 * Background failures: the status is kept and given to whoever waits for the work; workers try
 * again after a pause, since a full disk may empty.
 */
#include "engine/db/read_account.h"

#include "engine/base/cancel.h"
#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/file_name.h"

#include <errno.h>
#include <sys/resource.h>
#include <time.h>

#define WORK_RETRY_MS   200
#define WORK_LOOK_MS    2    /* how often somebody with a deadline looks at the clock */
#define EXPIRY_LOOK_S   3600 /* the clock may be set: tables' ages are looked at so often */
#define WORKER_NICENESS 5

uint64_t db_wall_seconds(lsm_db *db)
{
    return io_wall_ms(db->io) / 1000;
}

/* ---- flush ----------------------------------------------------------------------------------- */

static struct compact_env compact_env_of(lsm_db *db)
{
    return (struct compact_env){.tables = &db->tables,
                                .set = db->versions,
                                .rate = db->options.background_rate,
                                .in_haste = db->opening,
                                .cancel = &db->cancel_work};
}

/*
 * A family may be dropped while its tables are written: takes them out of the edit again, and off
 * the disk (version lock held).
 */
static void leave_out_dropped_locked(lsm_db *db, struct version_edit *edit)
{
    struct version *version = version_set_current(db->versions);
    size_t kept = 0;
    for (size_t i = 0; i < edit->added_count; i++) {
        struct table_meta *meta = &edit->added[i];
        char name[FILE_NAME_SIZE];
        if (version_find_cf(version, meta->cf) != NULL) {
            edit->added[kept++] = *meta;
            continue;
        }
        /* One that cannot be removed now is an orphan, removed by the next open. */
        (void)io_dir_unlink(db->dir, file_name_make(FILE_TABLE, meta->number, name), NULL, NULL);
        table_meta_release(meta);
    }
    edit->added_count = kept;
    kept = 0;
    for (size_t i = 0; i < edit->blob_count; i++) {
        const struct blob_meta *meta = &edit->blobs[i];
        char name[FILE_NAME_SIZE];
        if (version_find_cf(version, meta->cf) != NULL)
            edit->blobs[kept++] = *meta;
        else
            (void)io_dir_unlink(db->dir, file_name_make(FILE_BLOB, meta->number, name), NULL, NULL);
    }
    edit->blob_count = kept;
    kept = 0;
    for (size_t i = 0; i < edit->removed_count; i++) {
        if (version_find_cf(version, edit->removed[i].cf) != NULL)
            edit->removed[kept++] = edit->removed[i];
    }
    edit->removed_count = kept;
    version_drop(version);
}

/* Somebody who died had made a flush of these durable: their tables are there twice. */
static bool flush_is_repeated(lsm_db *db, const struct db_flush *flush)
{
    struct version_state state;
    version_set_state(db->versions, &state);
    return flush->recovered_count == 0 && state.log_position > flush->log_begin;
}

/* What cannot be removed now is removed as an orphan. */
void db_edit_forget_tables(lsm_db *db, const struct version_edit *edit)
{
    for (size_t i = 0; i < edit->added_count; i++) {
        char name[FILE_NAME_SIZE];
        file_name_make(FILE_TABLE, edit->added[i].number, name);
        (void)io_dir_unlink(db->dir, name, NULL, NULL);
    }
    for (size_t i = 0; i < edit->blob_count; i++) {
        char name[FILE_NAME_SIZE];
        file_name_make(FILE_BLOB, edit->blobs[i].number, name);
        (void)io_dir_unlink(db->dir, name, NULL, NULL);
    }
}

/* Puts flushed tables in and flushed memtables out, in one state. */
static lsm_status flush_install(lsm_db *db, struct version_edit *edit, const struct db_flush *flush,
                                lsm_error *err)
{
    struct shm_layout *l = db->layout;
    struct db_state *blank = db_state_new();
    if (blank == NULL)
        return lsm_fail_memory(err, sizeof *blank);
    lsm_status status = db_edit_begin(db, err);
    if (status != LSM_OK) {
        mem_free(blank);
        return status;
    }
    if (flush_is_repeated(db, flush)) {
        db_edit_forget_tables(db, edit);
        db_edit_end(db);
        mem_free(blank);
        return lsm_fail(err, LSM_BUSY, "memtables of '%s' were flushed by somebody else", db->path);
    }
    leave_out_dropped_locked(db, edit);
    version_set_last_sequence(db->versions, atomic_load(&l->commit.applied_sequence));
    status = version_set_apply(db->versions, edit, err);
    STEP("flush: durable");
    if (status == LSM_OK) {
        db_change_lock(db);
        db_place_publish_locked(db);
        db_flush_done_locked(db, flush);
        db_state_publish_locked(db, blank);
        STEP("flush: told");
        db_change_unlock(db);
        blank = NULL;
    }
    STEP("flush: in force");
    db_edit_end(db);
    mem_free(blank);
    return status;
}

void db_forget_log(lsm_db *db, uint64_t position)
{
    if (db->wal == NULL)
        return;
    if (db->opening && db_has_workers(db)) { /* removing large files takes its time */
        db->forget_later = position;
        return;
    }
    db_sync_lock(db);
    STEP("log forget: begin");
    (void)wal_forget_locked(db->wal, position, NULL);
    shm_unlock(&db->layout->locks.sync);
    STEP("log forget: unlocked");
}

/* Keys and values that were put, or somewhat more: what the flush read of them is less where keys
 * were written again. */
static uint64_t bytes_written_to(struct memtable *const *memtables, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t used = memtable_bytes_used(memtables[i]);
        uint64_t besides = memtable_entry_count(memtables[i]) * MEMTABLE_RECORD_OVERHEAD;
        bytes += used > besides ? used - besides : 0;
    }
    return bytes;
}

static lsm_status flush_memtables(lsm_db *db, const struct db_flush *flush, lsm_error *err)
{
    struct version_edit edit = {
        .has_log = true, .log_position = flush->log_end, .log_chain = flush->log_chain};
    struct memtable *tables[DB_MAX_MEMTABLES];
    for (size_t i = 0; i < flush->count; i++)
        tables[i] = flush->memtables[i]->table;
    struct compact_env env = compact_env_of(db);
    env.cancel = NULL;
    struct compact_result result = {0};
    uint64_t *snapshots = NULL;
    size_t snapshot_count = 0;
    uint64_t begin = io_now_ns(db->io);
    /* Another process may have made a family since, and have written to it: whoever writes to one
     * has seen its edit published, so after the memtables were taken every family is found. Nobody
     * else is there while this one opens. */
    lsm_status status = db->opening ? LSM_OK : db_refresh(db, err);
    if (status != LSM_OK)
        return status;
    struct version *version = version_set_current(db->versions);
    /*
     * The log is never behind the tables: a recovery that starts at log_position finds it there.
     * And all that is flushed is visible before the snapshots are listed: of two versions between
     * the newest visible number and the next one, the older would be dropped, although a snapshot
     * taken meanwhile may see it.
     */
    status = db_log_sync(db, edit.log_position, err);
    STEP("flush: log synced");
    if (status == LSM_OK) {
        db_advance_visible(db);
        status = db_snapshot_list(db, &snapshots, &snapshot_count, err);
    }
    if (status == LSM_OK)
        status = compact_flush(&env, version, tables, flush->count, snapshots, snapshot_count,
                               &edit, &result, err);
    version_drop(version);
    STEP("flush: written");
    if (status == LSM_OK)
        status = flush_install(db, &edit, flush, err);
    mem_free(snapshots);
    if (status == LSM_OK) {
        atomic_fetch_add(&db->statistics.flush_bytes_written, result.bytes_written);
        db_stall_measure_flush(db, bytes_written_to(tables, flush->count),
                               io_now_ns(db->io) - begin);
        db_forget_log(db, edit.log_position);
        db_stall_update(db);
        db_tell(db, &(lsm_event){.kind = LSM_EVENT_FLUSH,
                                 .output_bytes = result.bytes_written,
                                 .entry_count = result.entries_written,
                                 .duration_us = (io_now_ns(db->io) - begin) / 1000});
    }
    edit_release(&edit);
    return status;
}

/* What an edit left undone, or what keeps this process from any, comes first: else each try would
 * write its tables in vain. */
static lsm_status settle_edits(lsm_db *db, lsm_error *err)
{
    if (atomic_load(&db->layout->version.roll_forward_due) == 0)
        return LSM_OK;
    lsm_status status = db_edit_begin(db, err);
    if (status == LSM_OK)
        db_edit_end(db);
    return status;
}

/* One flush at a time in this process: db->flushing is set by the caller. */
lsm_status db_flush_once(lsm_db *db, bool *did_work, lsm_error *err)
{
    struct db_flush flush;
    struct db_outputs outputs;
    *did_work = true;
    lsm_status status = settle_edits(db, err);
    if (status != LSM_OK)
        return status;
    status = db_flush_take(db, &flush, err);
    *did_work = flush.count > 0;
    if (flush.count == 0)
        return status;
    db_outputs_begin(db, &outputs);
    status = flush_memtables(db, &flush, err);
    db_outputs_end(db, &outputs);
    if (status != LSM_OK) {
        db_flush_give_back(db, &flush);
        db_orphans_expect(db);
    }
    if (status == LSM_BUSY)
        status = LSM_OK; /* repeated: what is left comes next */
    db_flush_release(&flush);
    return status;
}

/* ---- compaction ------------------------------------------------------------------------------ */

struct progress {
    lsm_progress tell;
    void *context;
    uint64_t before, total;
};

static bool pass_progress(void *context, uint64_t bytes_done)
{
    struct progress *p = context;
    return p->tell(p->context, p->before + bytes_done, p->total);
}

static void measure_drain(lsm_db *db, const struct compaction *c, uint64_t duration_ns)
{
    if (c->input_level != 0 || c->trivial || c->is_expiry || duration_ns == 0)
        return;
    uint64_t upper = 0;
    for (size_t i = 0; i < c->upper_count; i++)
        upper += c->inputs[i]->meta.size;
    uint64_t rate = (uint64_t)((double)upper * 1e9 / (double)duration_ns);
    uint64_t old = atomic_load(&db->throttle.drain_rate);
    atomic_store(&db->throttle.drain_rate, old == 0 ? rate : (old * 3 + rate) / 4);
}

lsm_status db_compaction_run(lsm_db *db, struct version *version, struct compaction *c,
                             lsm_progress tell, void *context, uint64_t before, uint64_t total,
                             lsm_error *err)
{
    struct progress progress = {tell, context, before, total};
    struct compact_env env = compact_env_of(db);
    if (tell != NULL) {
        env.progress = pass_progress;
        env.progress_context = &progress;
    }
    struct shm_job *job = c->claim;
    env.told_read = &job->bytes_done;
    env.told_written = &job->bytes_written;
    struct version_edit edit = {0};
    struct compact_result result = {0};
    uint64_t *snapshots = NULL;
    size_t snapshot_count = 0;
    uint64_t begin = io_now_ns(db->io);
    struct db_outputs outputs;
    struct db_state *blank = db_state_new();
    lsm_status status = blank == NULL ? lsm_fail_memory(err, sizeof *blank)
                                      : db_snapshot_list(db, &snapshots, &snapshot_count, err);
    db_outputs_begin(db, &outputs);
    STEP("compaction: claimed");
    if (status == LSM_OK)
        status = compact_run(&env, version, c, snapshots, snapshot_count, &edit, &result, err);
    mem_free(snapshots);
    STEP("compaction: written");
    lsm_status begun = db_edit_begin(db, status == LSM_OK ? err : NULL);
    if (begun == LSM_OK)
        db_job_end_locked(db, c);
    else
        db_job_end(db, c);
    if (status == LSM_OK)
        status = begun;
    if (status == LSM_OK) {
        leave_out_dropped_locked(db, &edit);
        version_set_last_sequence(db->versions, atomic_load(&db->layout->commit.applied_sequence));
        status = version_set_apply(db->versions, &edit, err);
        STEP("compaction: durable");
    }
    if (status == LSM_OK) {
        db_state_publish(db, blank);
        STEP("compaction: in force");
        blank = NULL;
        if (c->is_for_reads)
            db_reads_spend_locked(db, version, c);
    }
    if (begun == LSM_OK)
        db_edit_end(db);
    db_outputs_end(db, &outputs);
    if (status != LSM_OK)
        db_orphans_expect(db);
    mem_free(blank);
    edit_release(&edit);
    if (status != LSM_OK)
        return status;
    uint64_t duration = io_now_ns(db->io) - begin;
    measure_drain(db, c, duration);
    atomic_fetch_add(&db->statistics.compaction_bytes_read, result.bytes_read);
    atomic_fetch_add(&db->statistics.compaction_bytes_written, result.bytes_written);
    db_stall_update(db);
    const struct version_cf *cf = version_find_cf(version, c->cf);
    db_tell(db, &(lsm_event){.kind = LSM_EVENT_COMPACTION,
                             .cf_name = cf == NULL ? NULL : cf->name,
                             .level = (int)c->output_level,
                             .input_bytes = c->is_expiry ? c->input_bytes : result.bytes_read,
                             .output_bytes = result.bytes_written,
                             .entry_count = result.entries_written,
                             .duration_us = duration / 1000});
    return LSM_OK;
}

static bool pick_most_urgent(void *context, const struct version *version, struct compaction *c)
{
    lsm_db *db = context;
    return compact_pick(version, db_wall_seconds(db), c) || db_reads_pick(db, version, c);
}

/* Picks and marks the most urgent compaction; *version is held for it. */
static lsm_status compaction_take(lsm_db *db, struct version **version, struct compaction *c,
                                  bool *due, lsm_error *err)
{
    *due = false;
    lsm_status status = db_edit_begin(db, err);
    if (status != LSM_OK)
        return status;
    *version = version_set_current(db->versions);
    *due = (!db_has_workers(db) || db_job_is_allowed_locked(db)) &&
           db_job_take_locked(db, *version, c, pick_most_urgent, db);
    db_edit_end(db);
    if (!*due)
        version_drop(*version);
    return LSM_OK;
}

static lsm_status compact_once(lsm_db *db, bool *did_work, lsm_error *err)
{
    struct version *version = NULL;
    struct compaction c = {0};
    lsm_status status = compaction_take(db, &version, &c, did_work, err);
    if (!*did_work)
        return status;
    status = db_compaction_run(db, version, &c, NULL, NULL, 0, 0, err);
    if (c.is_for_reads && status != LSM_OK && status != LSM_CANCELLED)
        db_reads_forget(db, &c); /* nobody needs it: not again until as much was read */
    compaction_release(&c);
    version_drop(version);
    return status;
}

/* ---- workers --------------------------------------------------------------------------------- */

static bool has_sealed(lsm_db *db)
{
    return db_memtables_waiting(db) > 0;
}

static void keep_failure(lsm_db *db, lsm_status status, const lsm_error *error)
{
    db->work_status = status;
    if (status != LSM_OK)
        status_copy(&db->work_error, error);
    db_report_work(db, status, status == LSM_OK ? "" : db->work_error.message);
}

/* Something may be due, or is done (work_lock held). */
static void announce_locked(lsm_db *db)
{
    db->work_generation++;
    pthread_cond_broadcast(&db->work_due);
    pthread_cond_broadcast(&db->work_done);
}

void db_work_done_wait_locked(lsm_db *db)
{
    int before = cancel_hold();
    pthread_cond_wait(&db->work_done, &db->work_lock);
    cancel_release(before);
}

static void wait_ms(pthread_cond_t *condition, pthread_mutex_t *lock, long ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms % 1000 * 1000000L;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    int before = cancel_hold();
    pthread_cond_timedwait(condition, lock, &until);
    cancel_release(before);
}

static bool may_compact_locked(const lsm_db *db)
{
    uint32_t limit = db->options.workers > 1 ? db->options.workers - 1 : 1;
    return db->compacting < limit && db->manual_waiting == 0;
}

/* One step of due work (work_lock held; let go of meanwhile). False: nothing is due. */
static bool work_step_locked(lsm_db *db, lsm_error *err, lsm_status *status)
{
    bool did_work = false;
    if (!db->flushing && has_sealed(db)) {
        db->flushing = true;
        pthread_mutex_unlock(&db->work_lock);
        *status = db_flush_once(db, &did_work, err);
        pthread_mutex_lock(&db->work_lock);
        db->flushing = false;
    } else if (may_compact_locked(db) && !atomic_load(&db->cancel_work)) {
        db->compacting++;
        pthread_mutex_unlock(&db->work_lock);
        *status = compact_once(db, &did_work, err);
        if (!did_work && *status == LSM_OK)
            did_work = db_reads_seal(db);
        pthread_mutex_lock(&db->work_lock);
        db->compacting--;
    }
    if (did_work && db->options.memory > 0) {
        pthread_mutex_unlock(&db->work_lock);
        mem_trim(); /* buffers of a merge are freed, and the heap would keep them for the next */
        pthread_mutex_lock(&db->work_lock);
    }
    /* Who waits for the field to be free waits for tries that found nothing, too. */
    pthread_cond_broadcast(&db->work_done);
    if (did_work)
        announce_locked(db);
    return did_work;
}

static uint64_t next_expiry_ms(lsm_db *db)
{
    struct version *version = version_set_current(db->versions);
    uint64_t seconds = compact_next_expiry(version, db_wall_seconds(db));
    version_drop(version);
    if (seconds == UINT64_MAX)
        return UINT64_MAX;
    return seconds < EXPIRY_LOOK_S ? (seconds + 1) * 1000 : EXPIRY_LOOK_S * 1000;
}

/* Until something is announced after generation `seen`, or a table grows too old (work_lock held).
 */
static void await_work_locked(lsm_db *db, uint64_t seen)
{
    pthread_mutex_unlock(&db->work_lock);
    uint64_t ms = next_expiry_ms(db);
    pthread_mutex_lock(&db->work_lock);
    if (seen != db->work_generation || atomic_load(&db->closing))
        return;
    if (ms == UINT64_MAX)
        pthread_cond_wait(&db->work_due, &db->work_lock);
    else
        wait_ms(&db->work_due, &db->work_lock, (long)ms);
}

static void *worker(void *argument)
{
    lsm_db *db = argument;
    (void)setpriority(PRIO_PROCESS, 0, WORKER_NICENESS); /* this thread only; a wish */
    pthread_mutex_lock(&db->work_lock);
    while (!atomic_load(&db->closing)) {
        lsm_status status = LSM_OK;
        lsm_error error = {0};
        uint64_t seen = db->work_generation;
        if (!work_step_locked(db, &error, &status)) {
            pthread_cond_broadcast(&db->work_done);
            await_work_locked(db, seen);
            continue;
        }
        if (status == LSM_CANCELLED)
            status = LSM_OK;
        keep_failure(db, status, &error);
        if (status == LSM_OK)
            continue;
        pthread_mutex_unlock(&db->work_lock);
        db_tell(db, &(lsm_event){.kind = LSM_EVENT_ERROR, .error = &error});
        pthread_mutex_lock(&db->work_lock);
        if (!atomic_load(&db->closing))
            wait_ms(&db->work_due, &db->work_lock, WORK_RETRY_MS);
    }
    pthread_mutex_unlock(&db->work_lock);
    return NULL;
}

void db_work_signal(lsm_db *db)
{
    pthread_mutex_lock(&db->work_lock);
    announce_locked(db);
    pthread_mutex_unlock(&db->work_lock);
}

/* Another thread of this process flushes (work_lock held). */
static lsm_status await_flush_locked(lsm_db *db, const struct db_deadline *deadline, lsm_error *err)
{
    while (db->flushing && !db_deadline_is_over(deadline)) {
        if (db_deadline_is_set(deadline))
            wait_ms(&db->work_done, &db->work_lock, WORK_LOOK_MS);
        else
            db_work_done_wait_locked(db);
    }
    return db->flushing ? db_timeout(db, deadline, DB_BEHIND_MEMTABLES, err) : LSM_OK;
}

/* A step that was begun is ended, whatever the deadline; so none is begun that would have to wait.
 */
static lsm_status work_here(lsm_db *db, const struct db_deadline *deadline, lsm_error *err)
{
    lsm_status status = LSM_OK;
    bool more = true;
    while (status == LSM_OK && more && !db_deadline_is_over(deadline)) {
        if (db_deadline_is_set(deadline))
            status = db_work_await(db, deadline, err);
        pthread_mutex_lock(&db->work_lock);
        more = status == LSM_OK && work_step_locked(db, err, &status);
        pthread_mutex_unlock(&db->work_lock);
    }
    pthread_mutex_lock(&db->work_lock);
    if (status == LSM_OK)
        status = await_flush_locked(db, deadline, err);
    pthread_mutex_unlock(&db->work_lock);
    return status;
}

lsm_status db_work_wait_until(lsm_db *db, const struct db_deadline *deadline, lsm_error *err)
{
    if (!db_has_workers(db))
        return work_here(db, deadline, err);
    pthread_mutex_lock(&db->work_lock);
    announce_locked(db);
    lsm_status status = db->work_status;
    if (status != LSM_OK)
        status_copy(err, &db->work_error);
    pthread_mutex_unlock(&db->work_lock);
    return status;
}

/* Another process flushes (work_lock held; let go of meanwhile). */
static void wait_for_others_locked(lsm_db *db)
{
    uint32_t seen = shm_event_count(&db->layout->version.changed);
    pthread_mutex_unlock(&db->work_lock);
    db_wait_changed(db, seen);
    pthread_mutex_lock(&db->work_lock);
}

lsm_status db_flush_sealed(lsm_db *db, lsm_error *err)
{
    lsm_status status = LSM_OK;
    pthread_mutex_lock(&db->work_lock);
    bool did_work = true;
    while (status == LSM_OK && (db->flushing || has_sealed(db))) {
        if (db->flushing) {
            db_work_done_wait_locked(db);
            continue;
        }
        if (!did_work)
            wait_for_others_locked(db);
        db->flushing = true;
        pthread_mutex_unlock(&db->work_lock);
        lsm_error error;
        status = db_flush_once(db, &did_work, &error);
        if (status != LSM_OK) {
            db_tell(db, &(lsm_event){.kind = LSM_EVENT_ERROR, .error = &error});
            status_copy(err, &error);
        }
        pthread_mutex_lock(&db->work_lock);
        db->flushing = false;
        keep_failure(db, status, &error);
        announce_locked(db);
    }
    pthread_mutex_unlock(&db->work_lock);
    return status;
}

lsm_status db_background_start(lsm_db *db, lsm_error *err)
{
    if (!db_has_workers(db))
        return LSM_OK;
    for (uint32_t i = 0; i < db->options.workers; i++) {
        int failed = pthread_create(&db->workers[i], NULL, worker, db);
        if (failed != 0)
            return lsm_fail_errno(err, failed, "no worker thread could be made for '%s'", db->path);
        db->worker_count++;
    }
    return LSM_OK;
}

void db_background_stop(lsm_db *db)
{
    atomic_store(&db->closing, true);
    atomic_store(&db->cancel_work, true);
    db_work_signal(db);
    for (size_t i = 0; i < db->worker_count; i++)
        pthread_join(db->workers[i], NULL);
    db->worker_count = 0;
    atomic_store(&db->cancel_work, false);
}
