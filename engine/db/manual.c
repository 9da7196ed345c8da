/*
 * Compaction of a range, by hand.
 *
 * It walks the levels downwards, one step a time, and asks the workers to leave the field to it
 * meanwhile, so that its files are not busy. Where another process works on them it waits for that
 * job's end. How far it is, and that somebody wants it to stop, stands in the process's slot
 * (struct shm_manual).
 *
 * A damaged input ends the step that met it. From then on it counts as busy, so that the picker
 * leaves it and what belongs to it alone, and the walk goes on with the rest.
 */
#include "engine/db/db_private.h"

#include "engine/base/cancel.h"
#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/file_name.h"

#define MANUAL_FIRST_DAMAGED 8 /* room for so many damaged tables at first */

struct manual {
    lsm_db *db;
    uint32_t cf;
    const lsm_compact_options *options;
    int32_t compression_level;
    uint32_t cancels; /* of the slot, when the call began */
    uint64_t bytes_done, bytes_total;
    struct buffer forced_to; /* the lowest level was rewritten up to here */

    uint64_t *damaged; /* file numbers; owned */
    size_t damaged_count, damaged_room;
    lsm_error first_damage;
};

/* ---- the field ------------------------------------------------------------------------------- */

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

/* ---- what others see, and want --------------------------------------------------------------- */

static void report_begin(struct manual *m)
{
    struct shm_manual *r = &m->db->slot->manual;
    atomic_store_explicit(&r->cf, m->cf, memory_order_relaxed);
    atomic_store_explicit(&r->bytes_done, 0, memory_order_relaxed);
    atomic_store_explicit(&r->bytes_total, m->bytes_total, memory_order_relaxed);
    atomic_store_explicit(&r->since_ns, io_now_ns(m->db->io), memory_order_relaxed);
}

static void report_end(struct manual *m)
{
    atomic_store_explicit(&m->db->slot->manual.since_ns, 0, memory_order_relaxed);
}

/* As an lsm_progress: true to go on. */
static bool tell(void *context, uint64_t bytes_done, uint64_t bytes_total)
{
    struct manual *m = context;
    struct shm_manual *r = &m->db->slot->manual;
    const lsm_compact_options *o = m->options;
    atomic_store_explicit(&r->bytes_done, bytes_done, memory_order_relaxed);
    atomic_store_explicit(&r->bytes_total, bytes_total, memory_order_relaxed);
    if (atomic_load_explicit(&r->cancels, memory_order_relaxed) != m->cancels)
        return false;
    return o->progress == NULL || o->progress(o->progress_context, bytes_done, bytes_total);
}

static lsm_status tell_progress(struct manual *m, lsm_error *err)
{
    if (tell(m, m->bytes_done, m->bytes_total))
        return LSM_OK;
    return lsm_fail(err, LSM_CANCELLED, "the compaction of '%s' was cancelled", m->db->path);
}

static bool writers_wait(lsm_db *db)
{
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        struct shm_report *r = &db->layout->slots[i].report;
        if (atomic_load_explicit(&r->stalled_writers, memory_order_relaxed) > 0 ||
            atomic_load_explicit(&r->stall_reason, memory_order_relaxed) != LSM_STALL_NONE)
            return true;
    }
    return false;
}

/* Nothing is claimed meanwhile. What empties level 0 is what writers may wait for. */
static lsm_status pause_while_stalled(struct manual *m, uint32_t level, lsm_error *err)
{
    lsm_status status = LSM_OK;
    while (status == LSM_OK && m->options->pause_if_stall && level > 0 && writers_wait(m->db)) {
        db_wait_changed(m->db, shm_event_count(&m->db->layout->version.changed));
        status = tell_progress(m, err);
    }
    return status;
}

/* ---- damage ---------------------------------------------------------------------------------- */

static bool is_input(const struct compaction *c, uint64_t number)
{
    for (size_t i = 0; i < c->input_count; i++) {
        if (c->inputs[i]->meta.number == number)
            return true;
    }
    return false;
}

/* Takes the failure for settled when it is damage of one of the step's inputs. */
static lsm_status settle_damage(struct manual *m, const struct compaction *c, lsm_status status,
                                const lsm_error *failure)
{
    enum file_kind kind;
    uint64_t number;
    if (status != LSM_CORRUPT || !file_name_parse(failure->file, &kind, &number) ||
        kind != FILE_TABLE || !is_input(c, number))
        return status;
    if (m->damaged_count == m->damaged_room) {
        size_t room = m->damaged_room == 0 ? MANUAL_FIRST_DAMAGED : m->damaged_room * 2;
        uint64_t *grown = mem_resize(m->damaged, room * sizeof *grown);
        if (grown == NULL)
            return status; /* the damage is what matters */
        m->damaged = grown;
        m->damaged_room = room;
    }
    if (m->damaged_count == 0)
        status_copy(&m->first_damage, failure);
    m->damaged[m->damaged_count++] = number;
    if (m->options->damaged != NULL)
        m->options->damaged(m->options->damaged_context, failure);
    return LSM_OK;
}

/* A rewrite stays within its level, so what lies elsewhere is not in its way. */
static void mark_damaged(const struct manual *m, const struct version *version, uint32_t level,
                         enum compact_mode mode, bool busy)
{
    for (size_t i = 0; i < m->damaged_count; i++) {
        struct version_file *file = version_find_file(version, m->damaged[i]);
        if (file != NULL && (mode == COMPACT_DOWN || file->meta.level == level))
            file->busy = busy;
    }
}

/* ---- steps ----------------------------------------------------------------------------------- */

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
    enum compact_mode mode;
};

static bool pick_step(void *context, const struct version *version, struct compaction *c)
{
    const struct step *s = context;
    const struct manual *m = s->m;
    bool goes_on = s->mode != COMPACT_DOWN && m->forced_to.size > 0;
    lsm_slice first = goes_on ? buffer_slice(&m->forced_to) : m->options->first;
    mark_damaged(m, version, s->level, s->mode, true);
    bool found = compact_pick_range(version, m->cf, s->level, first, m->options->limit, s->mode, c);
    mark_damaged(m, version, s->level, s->mode, false);
    if (found) {
        c->is_manual = true;
        c->compression = m->options->compression;
        c->compression_level = m->compression_level;
    }
    return found;
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

static lsm_status step_run(struct step *step, struct version *version, struct compaction *c,
                           lsm_error *err)
{
    struct manual *m = step->m;
    lsm_error failure = {0};
    if (m->bytes_done + c->input_bytes > m->bytes_total)
        m->bytes_total = m->bytes_done + c->input_bytes;
    lsm_status status =
        db_compaction_run(m->db, version, c, tell, m, m->bytes_done, m->bytes_total, &failure);
    if (status == LSM_OK) {
        m->bytes_done += c->input_bytes;
        return step->mode == COMPACT_DOWN ? LSM_OK : remember_end(m, c, err);
    }
    status = settle_damage(m, c, status, &failure);
    if (status != LSM_OK)
        status_copy(err, &failure);
    return status;
}

static lsm_status manual_step(struct manual *m, uint32_t level, enum compact_mode mode,
                              bool *did_work, lsm_error *err)
{
    lsm_db *db = m->db;
    struct compaction c = {0};
    struct step step = {m, level, mode};
    struct version *version = NULL;
    bool in_the_way = true;
    *did_work = false;
    lsm_status status = pause_while_stalled(m, level, err);
    while (status == LSM_OK && in_the_way) {
        version_drop(version);
        version = NULL;
        uint32_t seen = shm_event_count(&db->layout->version.changed);
        status = step_take(db, &step, &version, &c, did_work, &in_the_way, err);
        if (status == LSM_OK && in_the_way) {
            STEP("manual: waits");
            db_wait_changed(db, seen);
            status = tell_progress(m, err);
        }
    }
    if (status == LSM_OK && *did_work)
        status = step_run(&step, version, &c, err);
    compaction_release(&c);
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

/* ---- the walk -------------------------------------------------------------------------------- */

static lsm_status walk_down(struct manual *m, uint32_t bottom, bool *moved, lsm_error *err)
{
    const lsm_compact_options *o = m->options;
    lsm_status status = LSM_OK;
    bool did_work;
    for (uint32_t level = 0; level < VERSION_LEVELS - 1 && status == LSM_OK; level++) {
        /* What lies in the lowest level already need not go deeper, except out of level 0. */
        if (level > 0 && level >= bottom)
            break;
        did_work = !o->one_level || o->level == level;
        while (status == LSM_OK && did_work) {
            status = manual_step(m, level, COMPACT_DOWN, &did_work, err);
            *moved |= did_work;
        }
    }
    return status;
}

static lsm_status rewrite_bottom(struct manual *m, lsm_error *err)
{
    const lsm_compact_options *o = m->options;
    enum compact_mode mode = o->force_bottom ? COMPACT_REWRITE : COMPACT_REFRESH;
    uint32_t bottom = lowest_level(m);
    bool did_work = bottom > 0;
    lsm_status status = LSM_OK;
    while (status == LSM_OK && did_work)
        status = manual_step(m, bottom, mode, &did_work, err);
    return status;
}

static lsm_status manual_run(struct manual *m, lsm_error *err)
{
    const lsm_compact_options *o = m->options;
    uint32_t bottom = lowest_level(m);
    bool moved = false;
    lsm_status status = walk_down(m, bottom, &moved, err);
    if (status != LSM_OK || (!o->force_bottom && !o->refresh_bottom) ||
        (o->one_level && o->level != bottom) || (moved && bottom == 0))
        return status;
    return rewrite_bottom(m, err);
}

/* ---- the call -------------------------------------------------------------------------------- */

static lsm_status check_options(struct manual *m, lsm_error *err)
{
    const lsm_compact_options *o = m->options;
    if (o->one_level && o->level >= VERSION_LEVELS)
        return lsm_fail(err, LSM_INVALID, "there is no level %" PRIu32 ", the lowest is %d",
                        o->level, VERSION_LEVELS - 1);
    if (o->compression > LSM_COMPRESSION_ZSTD || (int)o->compression < 0)
        return lsm_fail(err, LSM_INVALID, "there is no compression %d", (int)o->compression);
    if (o->compression_level < LSM_LEAST_COMPRESSION || o->compression_level > LSM_MOST_COMPRESSION)
        return lsm_fail(err, LSM_INVALID,
                        "the compression level is %" PRId32 ", not between %d and %d",
                        o->compression_level, LSM_LEAST_COMPRESSION, LSM_MOST_COMPRESSION);
    m->compression_level = o->compression_level == 0 ? 1 : o->compression_level;
    return LSM_OK;
}

static lsm_status take_turn(struct manual *m, lsm_error *err)
{
    lsm_db *db = m->db;
    int before = cancel_hold(); /* progress() may do anything, and the field is taken */
    field_take(db);
    m->bytes_total = estimate(m);
    report_begin(m);
    lsm_status status = tell_progress(m, err);
    if (status == LSM_OK)
        status = manual_run(m, err);
    report_end(m);
    field_leave(db);
    cancel_release(before);
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
        status = check_options(&m, err);
    if (status != LSM_OK)
        return status;
    uint64_t staged = atomic_load(&db->layout->commit.staged);
    db_manual_begin(db, &m.cancels);
    status = lsm_flush(db, err);
    if (status == LSM_OK)
        status = take_turn(&m, err);
    db_manual_end(db);
    if (status == LSM_OK)
        db_log_rest(db, staged);
    if (status == LSM_OK && m.damaged_count > 0) {
        status = m.first_damage.status;
        status_copy(err, &m.first_damage);
    }
    if (status == LSM_OK && m.options->progress != NULL)
        (void)m.options->progress(m.options->progress_context, m.bytes_total, m.bytes_total);
    buffer_release(&m.forced_to);
    mem_free(m.damaged);
    return status;
}
