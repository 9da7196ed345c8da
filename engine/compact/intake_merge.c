/*
 * Sorting what does not fit into memory: runs, and their merge. A run is a table that nobody names,
 * raw and without a filter; its entries' sequence numbers say which of several of a key counts. The
 * last merge is done in parts, by key, each on a thread of its own.
 */
#include "engine/compact/intake_private.h"

#include "engine/base/cancel.h"
#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/file_name.h"
#include "engine/iter/merging.h"

#include <stdlib.h>

#define RUN_BLOCK_SIZE ((uint32_t)64 << 10)
#define RUN_FAN_IN     64                  /* runs of a tier that are merged into one of the next */
#define RUN_READ_MIN   ((size_t)128 << 10) /* bytes read ahead of one source of a merge */
#define RUN_READ_MAX   ((size_t)2 << 20)
#define RUN_TOP        (UINT64_C(1) << 40) /* above every ordinal of a run */
#define CHECK_BYTES    (UINT64_C(1) << 20) /* merged between two looks at the cancel flag */
#define RUN_MARKS      8  /* keys of each run that are remembered, to part the merge at */
#define MARK_SIZE      64 /* bytes of them at most */
#define ENTRIES_AHEAD  8  /* whose bytes are fetched while others are written */
#define PART_MIN_BYTES (UINT64_C(4) << 20) /* of keys and values that are worth a thread */

/* ---- marks ----------------------------------------------------------------------------------- */

static bool add_mark(struct intake_family *family, lsm_slice key)
{
    lsm_slice mark = {key.data, key.size < MARK_SIZE ? key.size : MARK_SIZE};
    buffer_append_u8(&family->marks, (uint8_t)mark.size);
    buffer_append(&family->marks, mark.data, mark.size);
    family->mark_count++;
    return !family->marks.failed;
}

static int compare_marks(const void *a, const void *b)
{
    return slice_compare(*(const lsm_slice *)a, *(const lsm_slice *)b);
}

/* Where to part the keys into at most `parts`: *count keys, ascending, borrowed of the marks; the
 * array is the caller's. Without memory there is one part. */
static lsm_slice *find_borders(const struct intake_family *family, size_t parts, size_t *count)
{
    *count = 0;
    if (family->mark_count == 0 || parts < 2)
        return NULL;
    lsm_slice *marks = mem_alloc(family->mark_count * sizeof *marks);
    const uint8_t *at = family->marks.data;
    if (marks == NULL)
        return NULL;
    for (size_t i = 0; i < family->mark_count; i++) {
        marks[i] = (lsm_slice){at + 1, *at};
        at += 1 + *at;
    }
    qsort(marks, family->mark_count, sizeof *marks, compare_marks);
    for (size_t i = 1; i < parts; i++) {
        lsm_slice border = marks[i * family->mark_count / parts];
        if (*count == 0 || slice_compare(marks[*count - 1], border) < 0)
            marks[(*count)++] = border;
    }
    return marks;
}

/* ---- runs ------------------------------------------------------------------------------------ */

uint64_t run_sequence(const struct intake *in, uint64_t ordinal)
{
    return in->options.keep_first ? RUN_TOP - ordinal : ordinal;
}

/* The stream's tables are older than every run. */
static uint64_t stream_sequence(const struct intake *in)
{
    return in->options.keep_first ? RUN_TOP : 0;
}

static lsm_status run_begin(struct intake *in, const struct intake_family *family,
                            struct table_writer **writer, lsm_error *err)
{
    struct table_write_options write = {
        .number = version_new_file_number(in->options.env->set),
        .cf = family->id,
        .cf_name = family->name,
        .level = VERSION_LEVELS - 1,
        .block_size = RUN_BLOCK_SIZE,
        .rate = in->options.env->rate,
    };
    return table_writer_new(in->options.env->tables, &write, writer, err);
}

static lsm_status keep_run(struct intake_family *family, const struct table_meta *meta,
                           uint32_t tier, lsm_error *err)
{
    if (family->run_count == family->run_room) {
        size_t room = family->run_room == 0 ? 16 : family->run_room * 2;
        struct intake_run *grown = mem_resize(family->runs, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        family->runs = grown;
        family->run_room = room;
    }
    family->runs[family->run_count++] = (struct intake_run){
        .number = meta->number, .size = meta->size, .raw_size = meta->raw_size, .tier = tier};
    return LSM_OK;
}

static void remove_table(const struct intake *in, uint64_t number)
{
    char name[FILE_NAME_SIZE];
    (void)io_dir_unlink(in->options.env->tables->dir, file_name_make(FILE_TABLE, number, name),
                        NULL, NULL);
}

static lsm_status run_end(struct intake *in, struct intake_family *family,
                          struct table_writer *writer, uint32_t tier, lsm_error *err)
{
    struct table_meta meta = {0};
    lsm_status status = table_writer_finish(writer, &meta, err);
    if (status != LSM_OK)
        return status;
    status = keep_run(family, &meta, tier, err);
    if (status != LSM_OK)
        remove_table(in, meta.number);
    table_meta_release(&meta);
    STEP("intake: run written");
    return status;
}

static lsm_status merge_tiers(struct intake *in, struct intake_family *family, lsm_error *err);

lsm_status run_write(struct intake *in, struct intake_family *family,
                     const struct chunk_entry *entries, size_t count, lsm_error *err)
{
    struct table_writer *writer = NULL;
    uint64_t sequence = run_sequence(in, ++in->run_ordinal);
    lsm_status status = run_begin(in, family, &writer, err);
    if (status != LSM_OK)
        return status;
    for (size_t i = 0, next; status == LSM_OK && i < count; i = next) {
        const struct chunk_entry *e = entry_that_counts(in, entries, i, count, &next);
        if (i + ENTRIES_AHEAD < count)
            entry_prefetch(&entries[i + ENTRIES_AHEAD]);
        status = table_writer_add(writer, chunk_key(e),
                                  entry_trailer(sequence, (enum entry_type)e->type), chunk_value(e),
                                  err);
    }
    if (status != LSM_OK) {
        table_writer_abort(writer);
        return status;
    }
    status = run_end(in, family, writer, 0, err);
    for (size_t i = 0; status == LSM_OK && i < RUN_MARKS; i++) {
        if (!add_mark(family, chunk_key(&entries[i * count / RUN_MARKS])))
            status = lsm_fail_memory(err, family->marks.capacity);
    }
    return status == LSM_OK ? merge_tiers(in, family, err) : status;
}

void runs_release(struct intake *in, struct intake_family *family)
{
    for (size_t i = 0; i < family->run_count; i++)
        remove_table(in, family->runs[i].number);
    mem_free(family->runs);
    buffer_release(&family->marks);
    family->mark_count = 0;
    family->runs = NULL;
    family->run_count = family->run_room = 0;
}

/* ---- merging --------------------------------------------------------------------------------- */

/* What the parts of a merge have in common. */
struct merge_watch {
    _Atomic uint64_t raw_done; /* bytes of keys and values */
    _Atomic bool is_stopped;   /* a part has failed */
};

/* Tables read together. */
struct merge {
    struct intake *in;
    struct merge_watch *watch; /* NULL: it is the only part */
    bool is_asking;            /* it asks env->progress */
    lsm_slice first, limit;    /* keys; data NULL: an open end */
    struct table **tables;     /* owned, open */
    size_t count;
    struct iter *source;
    uint64_t raw_total, raw_done, raw_told;
    struct buffer key; /* of the last entry */
    bool has_key;
};

static void merge_close(struct merge *m)
{
    iter_release(m->source);
    for (size_t i = 0; i < m->count; i++)
        table_close(m->tables[i]);
    mem_free(m->tables);
    buffer_release(&m->key);
}

static lsm_status merge_open(struct merge *m, const struct intake_run *runs, size_t count,
                             lsm_error *err)
{
    size_t ahead = m->in->options.memory / (2 * count), made = 0;
    ahead = ahead < RUN_READ_MIN ? RUN_READ_MIN : ahead > RUN_READ_MAX ? RUN_READ_MAX : ahead;
    struct table_iter_options options = {.flags = TABLE_NO_FILL, .readahead = ahead};
    struct iter **children = mem_alloc(count * sizeof(struct iter *));
    m->tables = mem_alloc_zeroed(count * sizeof(struct table *));
    lsm_status status = LSM_OK;
    if (children == NULL || m->tables == NULL)
        status = lsm_fail_memory(err, count * sizeof(struct table *));
    for (size_t i = 0; status == LSM_OK && i < count; i++) {
        status = table_open(m->in->options.env->tables, runs[i].number, runs[i].size,
                            &m->tables[m->count], err);
        if (status != LSM_OK)
            break;
        status = table_iter_new(m->tables[m->count++], &options, &children[made], err);
        made += status == LSM_OK;
        m->raw_total += runs[i].raw_size;
    }
    if (status == LSM_OK)
        status = merging_new(children, made, &m->source, err);
    else
        while (made > 0)
            iter_release(children[--made]);
    mem_free(children);
    if (status == LSM_OK && m->first.data != NULL)
        iter_seek(m->source, m->first, ENTRY_MAX_TRAILER);
    else if (status == LSM_OK)
        m->source->ops->first(m->source);
    return status;
}

static lsm_status check_cancel(struct merge *m, lsm_error *err)
{
    const struct compact_env *env = m->in->options.env;
    uint64_t done = m->raw_done;
    if (m->watch != NULL) {
        done = m->raw_done - m->raw_told;
        done += atomic_fetch_add(&m->watch->raw_done, done);
    }
    m->raw_told = m->raw_done;
    if (m->watch != NULL && atomic_load(&m->watch->is_stopped))
        return lsm_fail(err, LSM_CANCELLED, "another part of the merge has failed");
    if (!m->is_asking || env->progress == NULL || env->progress(env->progress_context, done))
        return LSM_OK;
    return lsm_fail(err, LSM_CANCELLED, "the caller cancelled an ingest into '%s'",
                    io_dir_path(env->tables->dir));
}

/* Is the source's entry the first of its key, which is the one that counts? */
static lsm_status merge_is_new(struct merge *m, bool *is_new, lsm_error *err)
{
    const struct iter_entry *e = m->source->entry;
    *is_new = !m->has_key || !slice_equal(e->key, buffer_slice(&m->key));
    m->raw_done += e->key.size + e->value.size;
    m->has_key = true;
    if (*is_new && !buffer_assign(&m->key, e->key))
        return lsm_fail_memory(err, e->key.size);
    return m->raw_done - m->raw_told >= CHECK_BYTES ? check_cancel(m, err) : LSM_OK;
}

/* Everything goes to one of the two. */
static lsm_status merge_run(struct merge *m, struct stream *to, struct table_writer *run,
                            lsm_error *err)
{
    struct iter *source = m->source;
    lsm_status status = LSM_OK;
    for (; status == LSM_OK && source->valid; iter_next(source)) {
        const struct iter_entry *e = source->entry;
        if (m->limit.data != NULL && slice_compare(e->key, m->limit) >= 0)
            break;
        bool is_new = false;
        status = merge_is_new(m, &is_new, err);
        if (status != LSM_OK || !is_new)
            continue;
        status = to != NULL ? stream_add(to, e->key, entry_type_of(e->trailer), e->value, err)
                            : table_writer_add(run, e->key, e->trailer, e->value, err);
    }
    if (status == LSM_OK && source->status != LSM_OK)
        status = lsm_fail(err, source->status, "a run of an ingest into '%s' cannot be read back",
                          io_dir_path(m->in->options.env->tables->dir));
    return status;
}

/* The last RUN_FAN_IN runs, which are of one tier, become one of the next. */
static lsm_status merge_last(struct intake *in, struct intake_family *family, lsm_error *err)
{
    struct merge m = {.in = in};
    struct table_writer *writer = NULL;
    size_t first = family->run_count - RUN_FAN_IN;
    uint32_t tier = family->runs[first].tier + 1;
    lsm_status status = merge_open(&m, family->runs + first, RUN_FAN_IN, err);
    if (status == LSM_OK)
        status = run_begin(in, family, &writer, err);
    if (status == LSM_OK)
        status = merge_run(&m, NULL, writer, err);
    merge_close(&m);
    if (status != LSM_OK) {
        table_writer_abort(writer);
        return status;
    }
    for (size_t i = first; i < family->run_count; i++)
        remove_table(in, family->runs[i].number);
    family->run_count = first;
    return run_end(in, family, writer, tier, err);
}

static lsm_status merge_tiers(struct intake *in, struct intake_family *family, lsm_error *err)
{
    lsm_status status = LSM_OK;
    while (status == LSM_OK && family->run_count >= RUN_FAN_IN &&
           family->runs[family->run_count - RUN_FAN_IN].tier ==
               family->runs[family->run_count - 1].tier)
        status = merge_last(in, family, err);
    return status;
}

/* What the stream holds becomes runs. */
static lsm_status stream_to_runs(struct intake *in, struct intake_family *family, lsm_error *err)
{
    struct stream *s = &family->stream;
    lsm_status status = stream_finish(s, err);
    for (size_t i = 0; i < s->count; i++) {
        struct table_meta meta = {0};
        if (status != LSM_OK) {
            table_writer_abort(s->sealed[i]);
            continue;
        }
        if (!add_mark(family, table_writer_sealed(s->sealed[i])->smallest)) {
            status = lsm_fail_memory(err, family->marks.capacity);
            table_writer_abort(s->sealed[i]);
            continue;
        }
        status = table_writer_end(s->sealed[i], stream_sequence(in), &meta, err);
        if (status == LSM_OK && keep_run(family, &meta, 0, err) != LSM_OK) {
            remove_table(in, meta.number);
            status = LSM_NO_MEMORY;
        }
        table_meta_release(&meta);
    }
    s->count = 0;
    stream_release(s);
    return status;
}

/* ---- parts ----------------------------------------------------------------------------------- */

struct part {
    struct intake *in;
    struct intake_family *family;
    struct merge_watch *watch;
    lsm_slice first, limit;
    struct stream stream;
    pthread_t thread;
    bool has_thread;
    lsm_status status;
    lsm_error error;
};

static void part_merge(struct part *p, bool is_asking)
{
    struct merge m = {.in = p->in,
                      .watch = p->watch,
                      .is_asking = is_asking,
                      .first = p->first,
                      .limit = p->limit};
    struct intake_family *family = p->family;
    p->status = merge_open(&m, family->runs, family->run_count, &p->error);
    if (p->status == LSM_OK)
        p->status = merge_run(&m, &p->stream, NULL, &p->error);
    if (p->status == LSM_OK)
        p->status = stream_finish(&p->stream, &p->error);
    merge_close(&m);
    if (p->status != LSM_OK)
        atomic_store(&p->watch->is_stopped, true);
}

static void *part_thread(void *argument)
{
    part_merge(argument, false);
    return NULL;
}

/* All but the first on threads; where none can be made, here. */
static void run_parts(struct part *parts, size_t count)
{
    for (size_t i = 1; i < count; i++)
        parts[i].has_thread = pthread_create(&parts[i].thread, NULL, part_thread, &parts[i]) == 0;
    part_merge(&parts[0], true);
    for (size_t i = 1; i < count; i++) {
        if (!parts[i].has_thread) {
            part_merge(&parts[i], true);
            continue;
        }
        int before = cancel_hold();
        pthread_join(parts[i].thread, NULL);
        cancel_release(before);
    }
}

/* The failure that the others gave up for. */
static lsm_status parts_status(const struct part *parts, size_t count, lsm_error *err)
{
    const struct part *failed = NULL;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].status != LSM_OK && (failed == NULL || failed->status == LSM_CANCELLED))
            failed = &parts[i];
    }
    if (failed == NULL)
        return LSM_OK;
    status_copy(err, &failed->error);
    return failed->status;
}

/* The parts' tables, one part's behind the other's, become the family's. */
static lsm_status take_tables(struct intake_family *family, struct part *parts, size_t count,
                              lsm_error *err)
{
    struct stream *to = &family->stream;
    for (size_t i = 0; i < count; i++)
        to->room += parts[i].stream.count;
    to->sealed = mem_alloc(to->room * sizeof(struct table_writer *));
    if (to->sealed == NULL)
        return lsm_fail_memory(err, to->room * sizeof(struct table_writer *));
    for (size_t i = 0; i < count; i++) {
        struct stream *from = &parts[i].stream;
        if (from->count > 0)
            memcpy(to->sealed + to->count, from->sealed,
                   from->count * sizeof(struct table_writer *));
        to->count += from->count;
        to->entries += from->entries;
        from->count = 0;
    }
    return LSM_OK;
}

static size_t wanted_parts(const struct intake *in, const struct intake_family *family)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < family->run_count; i++)
        bytes += family->runs[i].raw_size;
    uint64_t most = bytes / PART_MIN_BYTES;
    return most < in->options.merge_threads ? (size_t)most : in->options.merge_threads;
}

static void init_parts(struct part *parts, size_t count, const struct part *common,
                       const lsm_slice *borders)
{
    for (size_t i = 0; i < count; i++) {
        parts[i] = *common;
        parts[i].stream = (struct stream){.env = common->in->options.env, .family = common->family};
        if (i > 0)
            parts[i].first = borders[i - 1];
        if (i + 1 < count)
            parts[i].limit = borders[i];
    }
}

lsm_status runs_merge(struct intake *in, struct intake_family *family, lsm_error *err)
{
    struct merge_watch watch = {.raw_done = 0};
    size_t count = 0;
    lsm_status status = stream_to_runs(in, family, err);
    if (status != LSM_OK)
        return status;
    lsm_slice *borders = find_borders(family, wanted_parts(in, family), &count);
    struct part *parts = mem_alloc_zeroed(++count * sizeof *parts);
    if (parts == NULL) {
        mem_free(borders);
        return lsm_fail_memory(err, count * sizeof *parts);
    }
    init_parts(parts, count, &(struct part){.in = in, .family = family, .watch = &watch}, borders);
    run_parts(parts, count);
    status = parts_status(parts, count, err);
    if (status == LSM_OK)
        status = take_tables(family, parts, count, err);
    for (size_t i = 0; i < count; i++)
        stream_release(&parts[i].stream);
    mem_free(parts);
    mem_free(borders);
    runs_release(in, family);
    return status;
}
