/*
 * What a caller may ask for by hand: flush, compaction of a range, waiting until all is done.
 *
 * A manual compaction walks the levels downwards, one step a time, and asks the workers to leave
 * the field to it meanwhile, so that its files are not busy. Where another process works on them it
 * waits for that job's end.
 */
#include "engine/db/db_private.h"

#include "engine/base/cancel.h"
#include "engine/base/step.h"

LSM_API lsm_status lsm_flush(lsm_db *db, lsm_error *err)
{
    lsm_status status = db_check_write(db, err);
    if (status == LSM_OK)
        status = db_seal_active(db, err);
    return status == LSM_OK ? db_flush_sealed(db, err) : status;
}

/* ---- compaction of a range ------------------------------------------------------------------- */

struct manual {
    lsm_db *db;
    uint32_t cf;
    const lsm_compact_options *options;
    uint64_t bytes_done, bytes_total;
    struct buffer forced_to; /* the lowest level was rewritten up to here */
};

static void field_take(lsm_db *db)
{
    pthread_mutex_lock(&db->work_lock);
    db->manual_waiting++;
    while (db->compacting > 0 || db->manual_running)
        db_work_done_wait_locked(db);
    db->manual_running = true;
    pthread_mutex_unlock(&db->work_lock);
}

static void field_leave(lsm_db *db)
{
    pthread_mutex_lock(&db->work_lock);
    db->manual_waiting--;
    db->manual_running = false;
    pthread_cond_broadcast(&db->work_due);
    pthread_cond_broadcast(&db->work_done);
    pthread_mutex_unlock(&db->work_lock);
}

/* About how much will be read: every byte above the bottom is read once on its way down. */
static uint64_t estimate(struct manual *m)
{
    struct version *version = version_set_current(m->db->versions);
    const struct version_cf *cf = version_find_cf(version, m->cf);
    uint64_t bytes = 0;
    for (size_t level = 0; cf != NULL && level < VERSION_LEVELS; level++)
        bytes += cf->levels[level].bytes;
    version_drop(version);
    return bytes;
}

/* Remembers where the step ended: behind the largest key of its inputs. */
static lsm_status remember_end(struct manual *m, const struct compaction *c, lsm_error *err)
{
    lsm_slice largest = c->inputs[0]->meta.largest;
    for (size_t i = 1; i < c->input_count; i++) {
        if (slice_compare(c->inputs[i]->meta.largest, largest) > 0)
            largest = c->inputs[i]->meta.largest;
    }
    buffer_clear(&m->forced_to);
    buffer_append(&m->forced_to, largest.data, largest.size);
    buffer_append_u8(&m->forced_to, 0);
    return m->forced_to.failed ? lsm_fail_memory(err, largest.size + 1) : LSM_OK;
}

struct step {
    struct manual *m;
    uint32_t level;
    bool force;
};

static bool pick_step(void *context, const struct version *version, struct compaction *c)
{
    const struct step *s = context;
    const struct manual *m = s->m;
    lsm_slice first =
        s->force && m->forced_to.size > 0 ? buffer_slice(&m->forced_to) : m->options->first;
    return compact_pick_range(version, m->cf, s->level, first, m->options->limit, s->force, c);
}

/* Takes what is next; *version is held for it. *in_the_way: there is something, which another
 * process works on. */
static lsm_status step_take(lsm_db *db, struct step *step, struct version **version,
                            struct compaction *c, bool *found, bool *in_the_way, lsm_error *err)
{
    lsm_status status = db_edit_begin(db, err);
    if (status != LSM_OK)
        return status;
    struct compaction theirs = {0};
    *version = version_set_current(db->versions);
    *found = db_job_take_locked(db, *version, c, pick_step, step);
    *in_the_way = !*found && pick_step(step, *version, &theirs);
    compaction_release(&theirs);
    db_edit_end(db);
    return LSM_OK;
}

static lsm_status tell_progress(struct manual *m, lsm_error *err)
{
    const lsm_compact_options *o = m->options;
    if (o->progress == NULL || o->progress(o->progress_context, m->bytes_done, m->bytes_total))
        return LSM_OK;
    return lsm_fail(err, LSM_CANCELLED, "the compaction of '%s' was cancelled", m->db->path);
}

static lsm_status manual_step(struct manual *m, uint32_t level, bool force, bool *did_work,
                              lsm_error *err)
{
    lsm_db *db = m->db;
    struct compaction c = {0};
    struct step step = {m, level, force};
    struct version *version = NULL;
    bool in_the_way = true;
    lsm_status status = LSM_OK;
    *did_work = false;
    while (in_the_way) {
        version_drop(version);
        version = NULL;
        uint32_t seen = shm_event_count(&db->layout->version.changed);
        status = step_take(db, &step, &version, &c, did_work, &in_the_way, err);
        if (status == LSM_OK && in_the_way) {
            STEP("manual: waits");
            db_wait_changed(db, seen);
            status = tell_progress(m, err);
        }
        if (status != LSM_OK) {
            version_drop(version);
            return status;
        }
    }
    if (*did_work) {
        if (m->bytes_done + c.input_bytes > m->bytes_total)
            m->bytes_total = m->bytes_done + c.input_bytes;
        if (force)
            status = remember_end(m, &c, err);
        if (status == LSM_OK)
            status =
                db_compaction_run(db, version, &c, m->options->progress,
                                  m->options->progress_context, m->bytes_done, m->bytes_total, err);
        else
            db_job_end(db, &c);
        m->bytes_done += c.input_bytes;
        compaction_release(&c);
    }
    version_drop(version);
    return status;
}

static uint32_t lowest_level(struct manual *m)
{
    struct version *version = version_set_current(m->db->versions);
    const struct version_cf *cf = version_find_cf(version, m->cf);
    uint32_t lowest = 0;
    for (uint32_t level = 0; cf != NULL && level < VERSION_LEVELS; level++)
        lowest = cf->levels[level].count > 0 ? level : lowest;
    version_drop(version);
    return lowest;
}

static lsm_status manual_run(struct manual *m, lsm_error *err)
{
    lsm_status status = LSM_OK;
    uint32_t bottom = lowest_level(m);
    bool moved = false, did_work = true;
    for (uint32_t level = 0; level < VERSION_LEVELS - 1 && status == LSM_OK; level++) {
        /* What lies in the lowest level already need not go deeper, except out of level 0. */
        if (level > 0 && level >= bottom)
            break;
        do {
            status = manual_step(m, level, false, &did_work, err);
            moved |= did_work;
        } while (status == LSM_OK && did_work);
    }
    if (status == LSM_OK && m->options->force_bottom && !(moved && bottom == 0)) {
        bottom = lowest_level(m);
        did_work = bottom > 0;
        while (status == LSM_OK && did_work)
            status = manual_step(m, bottom, true, &did_work, err);
    }
    return status;
}

LSM_API lsm_status lsm_compact_range(lsm_db *db, lsm_cf *cf, const lsm_compact_options *options,
                                     lsm_error *err)
{
    static const lsm_compact_options whole = {.progress = NULL};
    struct manual m = {.db = db, .options = options == NULL ? &whole : options};
    lsm_status status = db_check_write(db, err);
    if (status == LSM_OK)
        status = db_check_cf(db, cf, &m.cf, err);
    if (status == LSM_OK)
        status = lsm_flush(db, err);
    if (status != LSM_OK)
        return status;
    int before = cancel_hold(); /* progress() may do anything, and the field is taken */
    field_take(db);
    m.bytes_total = estimate(&m);
    status = tell_progress(&m, err);
    if (status == LSM_OK)
        status = manual_run(&m, err);
    buffer_release(&m.forced_to);
    field_leave(db);
    cancel_release(before);
    if (status == LSM_OK && m.options->progress != NULL)
        (void)m.options->progress(m.options->progress_context, m.bytes_total, m.bytes_total);
    return status;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static bool compaction_is_due(lsm_db *db)
{
    struct compaction c = {0};
    pthread_mutex_lock(&db->view_lock);
    struct version *version = version_set_current(db->versions);
    bool due = compact_pick(version, &c);
    pthread_mutex_unlock(&db->view_lock);
    compaction_release(&c);
    version_drop(version);
    return due;
}

LSM_API lsm_status lsm_wait_idle(lsm_db *db, lsm_error *err)
{
    lsm_status status = db_check_write(db, err);
    if (status != LSM_OK)
        return status;
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
