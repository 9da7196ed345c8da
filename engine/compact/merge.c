/*
 * The merge of a compaction: its inputs' entries, in order, into tables of the output level. A
 * large one is done in parts by ranges of keys, each of them a merge by itself on a thread of its
 * own, the first one on the caller's. Together they are one job: one lineage, one pace, one edit.
 *
 * Only the calling thread asks whoever wants the merge to stop. A part that fails stops the others;
 * the threads have ended when the merge returns.
 */
#include "engine/compact/job_private.h"

#include "engine/base/cancel.h"
#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/iter/merging.h"
#include "engine/version/level_iter.h"

#include <errno.h>
#include <time.h>

#define ASK_MS 20 /* how often the caller is asked while other parts are at work */

struct merge_part {
    struct merge *m;
    lsm_slice first, limit; /* data NULL: no border there. Borrowed */
    struct output output;
    uint64_t entries, moved_bytes;
    struct part_threads *threads;
    pthread_t thread;
    bool has_thread;
    lsm_status status;
    lsm_error error;
};

/* ---- the source ------------------------------------------------------------------------------ */

static bool is_outside(const struct merge_part *p, const struct version_file *file)
{
    return (p->first.data != NULL && slice_compare(file->meta.largest, p->first) < 0) ||
           (p->limit.data != NULL && slice_compare(file->meta.smallest, p->limit) >= 0);
}

/* Of a run the files that reach into the part. */
static lsm_status add_run(const struct merge_part *p, struct version_file *const *files,
                          size_t count, struct iter **children, size_t *made, lsm_error *err)
{
    struct table_iter_options options = {
        .flags = TABLE_NO_FILL, .whole = true, .first = p->first, .limit = p->limit};
    while (count > 0 && is_outside(p, files[0])) {
        files++;
        count--;
    }
    while (count > 0 && is_outside(p, files[count - 1]))
        count--;
    if (count == 0)
        return LSM_OK;
    lsm_status status = level_iter_new(files, count, &options, &children[*made], err);
    if (status == LSM_OK)
        ++*made;
    return status;
}

/* The run that begins with input `first`: a file of level 0, or all of a deeper level. */
static size_t run_end(const struct compaction *c, size_t first)
{
    size_t limit = first + 1;
    uint32_t level = c->inputs[first]->meta.level;
    while (level > 0 && limit < c->input_count && c->inputs[limit]->meta.level == level)
        limit++;
    return limit;
}

static lsm_status open_source(const struct merge_part *p, struct iter **source, lsm_error *err)
{
    const struct compaction *c = p->m->c;
    size_t run_count = 0, made = 0;
    for (size_t i = 0; i < c->input_count; i = run_end(c, i))
        run_count++;
    struct iter **children = mem_alloc(run_count * sizeof(struct iter *));
    if (children == NULL)
        return lsm_fail_memory(err, run_count * sizeof(struct iter *));
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < c->input_count; i = run_end(c, i))
        status = add_run(p, &c->inputs[i], run_end(c, i) - i, children, &made, err);
    if (status == LSM_OK)
        status = merging_new(children, made, source, err);
    else
        while (made > 0)
            iter_release(children[--made]);
    mem_free(children);
    return status;
}

/* ---- one part -------------------------------------------------------------------------------- */

static lsm_status part_merge(struct merge_part *p, bool is_asking, lsm_error *err)
{
    struct merge *m = p->m;
    struct iter *source = NULL;
    const struct compaction *c = m->c;
    struct pump pump = {
        .output = &p->output,
        .limit = p->limit,
        .watch = &m->watch,
        .is_asking = is_asking,
        .deeper = c->output_level > 0 ? p->output.cf : NULL, /* level 0 has older runs */
        .deeper_from = c->output_level + 1,
        .values = {.version = m->version, .options = {.flags = TABLE_NO_FILL, .whole = true}}};
    visible_init(&pump.visible, m->snapshots, m->snapshot_count);
    lsm_status status = open_source(p, &source, err);
    if (status != LSM_OK)
        goto out;
    pump.source = source;
    if (p->first.data == NULL)
        source->ops->first(source);
    else
        iter_seek(source, p->first, ENTRY_MAX_TRAILER);
    STEP("compaction: part begun");
    status = pump_run(&pump, err);
    if (status == LSM_OK)
        status = output_rest(&p->output, err);
    STEP("compaction: part written");
    p->entries = pump.entries;
    p->moved_bytes = pump.moved_bytes;
out:
    iter_release(source);
    visible_release(&pump.visible);
    value_reader_release(&pump.values);
    return status;
}

static void part_run(struct merge_part *p, bool is_asking)
{
    p->status = part_merge(p, is_asking, &p->error);
    if (p->status != LSM_OK)
        atomic_store(&p->m->watch.is_stopped, true);
}

/* ---- threads --------------------------------------------------------------------------------- */

struct part_threads {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    size_t running; /* guarded by lock */
};

static void *merge_thread(void *argument)
{
    struct merge_part *p = argument;
    part_run(p, false);
    pthread_mutex_lock(&p->threads->lock);
    p->threads->running--;
    pthread_cond_signal(&p->threads->ended);
    pthread_mutex_unlock(&p->threads->lock);
    return NULL;
}

static bool threads_init(struct part_threads *t)
{
    pthread_condattr_t attributes;
    t->running = 0;
    if (pthread_condattr_init(&attributes) != 0)
        return false;
    bool is_made = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
                   pthread_cond_init(&t->ended, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    if (is_made && pthread_mutex_init(&t->lock, NULL) != 0) {
        pthread_cond_destroy(&t->ended);
        is_made = false;
    }
    return is_made;
}

static void threads_release(struct part_threads *t)
{
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->ended);
}

static void start_threads(struct merge *m, struct part_threads *t)
{
    for (size_t i = 1; i < m->part_count; i++) {
        struct merge_part *p = &m->parts[i];
        p->threads = t;
        pthread_mutex_lock(&t->lock);
        p->has_thread = pthread_create(&p->thread, NULL, merge_thread, p) == 0;
        t->running += p->has_thread;
        pthread_mutex_unlock(&t->lock);
    }
}

static bool is_running(struct part_threads *t)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ASK_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&t->lock);
    while (t->running > 0 && pthread_cond_timedwait(&t->ended, &t->lock, &until) != ETIMEDOUT)
        ;
    bool is_left = t->running > 0;
    pthread_mutex_unlock(&t->lock);
    return is_left;
}

/* Until the threads have ended, asking meanwhile on behalf of the first part. */
static void await_threads(struct merge *m, struct part_threads *t)
{
    struct merge_part *own = &m->parts[0];
    while (is_running(t)) {
        if (own->status != LSM_OK || atomic_load(&m->watch.is_stopped))
            continue;
        own->status = pump_watch_ask(&m->watch, &own->error);
        if (own->status != LSM_OK)
            atomic_store(&m->watch.is_stopped, true);
    }
    for (size_t i = 1; i < m->part_count; i++) {
        if (m->parts[i].has_thread)
            pthread_join(m->parts[i].thread, NULL);
    }
}

/* Parts that no thread can be made for are done here. */
static void run_parts(struct merge *m)
{
    struct part_threads threads;
    int before = cancel_hold();
    bool is_threaded = m->part_count > 1 && threads_init(&threads);
    if (is_threaded)
        start_threads(m, &threads);
    for (size_t i = 0; i < m->part_count; i++) {
        if (!m->parts[i].has_thread)
            part_run(&m->parts[i], true);
    }
    if (is_threaded) {
        await_threads(m, &threads);
        threads_release(&threads);
    }
    cancel_release(before);
}

/* ---- all parts ------------------------------------------------------------------------------- */

static lsm_status make_parts(struct merge *m, const struct borders *borders, lsm_error *err)
{
    size_t count = borders->count + 1;
    m->parts = mem_alloc_zeroed(count * sizeof *m->parts);
    if (m->parts == NULL)
        return lsm_fail_memory(err, count * sizeof *m->parts);
    m->part_count = count;
    for (size_t i = 0; i < count; i++) {
        struct merge_part *p = &m->parts[i];
        p->m = m;
        p->output = *m->output;
        p->output.siblings = &m->job;
        p->output.pace = &m->pace;
        if (i > 0)
            p->first = borders->keys[i - 1];
        if (i < borders->count)
            p->limit = borders->keys[i];
    }
    return LSM_OK;
}

/* The failure that the others gave up for. */
static lsm_status parts_status(const struct merge *m, lsm_error *err)
{
    const struct merge_part *failed = NULL;
    for (size_t i = 0; i < m->part_count; i++) {
        const struct merge_part *p = &m->parts[i];
        if (p->status != LSM_OK && (failed == NULL || failed->status == LSM_CANCELLED))
            failed = p;
    }
    if (failed == NULL)
        return LSM_OK;
    status_copy(err, &failed->error);
    return failed->status;
}

lsm_status merge_run(struct merge *m, lsm_error *err)
{
    struct borders borders = {0};
    lsm_status status = LSM_OK;
    m->pace.rate = m->watch.env->rate;
    if (m->part_limit > 1)
        status = borders_find(&borders, m->c, m->part_limit, err);
    if (status == LSM_OK)
        status = make_parts(m, &borders, err);
    if (status != LSM_OK)
        goto out;
    run_parts(m);
    status = parts_status(m, err);
    /* Of one of them the last table is left: that of the job. */
    for (size_t i = 0; status == LSM_OK && i < m->part_count; i++)
        status = output_finish(&m->parts[i].output, err);
out:
    borders_release(&borders);
    return status;
}

lsm_status merge_give(struct merge *m, struct version_edit *edit, struct compact_result *result,
                      lsm_error *err)
{
    uint32_t tables = atomic_load(&m->job.table_count);
    lsm_status status = tables > 0 ? io_dir_sync(m->watch.env->tables->dir, err) : LSM_OK;
    STEP("compaction: names synced");
    for (size_t i = 0; i < m->part_count; i++) {
        struct merge_part *p = &m->parts[i];
        if (status == LSM_OK)
            status = output_give(&p->output, edit, result, err);
        result->entries_read += p->entries;
        result->bytes_read += p->moved_bytes;
    }
    return status;
}

void merge_release(struct merge *m, bool keep)
{
    for (size_t i = 0; i < m->part_count; i++)
        output_release(&m->parts[i].output, keep);
    mem_free(m->parts);
    m->parts = NULL;
    m->part_count = 0;
}
