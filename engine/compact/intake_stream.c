/* The tables that an intake makes: sealed ones of their final form, and runs for the sorting. */
#include "engine/compact/intake_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/file_name.h"
#include "engine/iter/merging.h"

#define SIZE_STEPS     64 /* the size of a table is looked at so many times, not at every key */
#define RUN_BLOCK_SIZE ((uint32_t)64 << 10)
#define RUN_FAN_IN     64                  /* runs of a tier that are merged into one of the next */
#define RUN_READ_MIN   ((size_t)128 << 10) /* bytes read ahead of one source of a merge */
#define RUN_READ_MAX   ((size_t)2 << 20)
#define RUN_TOP        (UINT64_C(1) << 40) /* above every ordinal of a run */
#define CHECK_BYTES    (UINT64_C(1) << 20) /* merged between two looks at the cancel flag */

static bool wants_zstd(const struct intake_family *family)
{
    return family->options.compression == LSM_COMPRESSION_ZSTD;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static lsm_status begin_table(struct stream *s, lsm_error *err)
{
    const lsm_cf_options *options = &s->family->options;
    struct table_write_options write = {
        .number = version_new_file_number(s->env->set),
        .cf = s->family->id,
        .cf_name = s->family->name,
        .level = VERSION_LEVELS - 1,
        .block_size = options->block_size,
        .filter_bits = options->filter_bits == LSM_NO_FILTER ? 0 : options->filter_bits,
        .compress = wants_zstd(s->family),
        .compression_level = options->compression_level,
        .dictionary_size = options->dictionary_size,
        .rate = s->env->rate,
    };
    write.job = write.number;
    s->unchecked = 0;
    lsm_status status = table_writer_new(s->env->tables, &write, &s->writer, err);
    if (status == LSM_OK)
        s->empty_size = table_writer_size(s->writer);
    return status;
}

static lsm_status end_table(struct stream *s, lsm_error *err)
{
    if (s->writer == NULL)
        return LSM_OK;
    if (s->count == s->room) {
        size_t room = s->room == 0 ? 16 : s->room * 2;
        struct table_writer **grown = mem_resize(s->sealed, room * sizeof(struct table_writer *));
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof(struct table_writer *));
        s->sealed = grown;
        s->room = room;
    }
    struct table_writer *writer = s->writer;
    s->writer = NULL;
    lsm_status status = table_writer_seal(writer, err);
    if (status == LSM_OK)
        s->sealed[s->count++] = writer;
    return status;
}

static bool table_is_full(struct stream *s)
{
    uint64_t most = s->family->options.table_size;
    if (s->writer == NULL || s->unchecked < most / SIZE_STEPS)
        return false;
    s->unchecked = 0;
    return table_writer_size(s->writer) - s->empty_size >= most;
}

lsm_status stream_add(struct stream *s, lsm_slice key, enum entry_type type, lsm_slice value,
                      lsm_error *err)
{
    lsm_status status = table_is_full(s) ? end_table(s, err) : LSM_OK;
    if (status == LSM_OK && s->writer == NULL)
        status = begin_table(s, err);
    if (status == LSM_OK)
        status = table_writer_add(s->writer, key, (uint64_t)type, value, err);
    s->unchecked += key.size + value.size;
    s->entries++;
    return status;
}

lsm_status stream_finish(struct stream *s, lsm_error *err)
{
    return end_table(s, err);
}

void stream_release(struct stream *s)
{
    table_writer_abort(s->writer);
    for (size_t i = 0; i < s->count; i++)
        table_writer_abort(s->sealed[i]);
    mem_free(s->sealed);
    buffer_release(&s->last_key);
    *s = (struct stream){.env = s->env, .family = s->family};
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
        status = table_writer_add(writer, chunk_key(e),
                                  entry_trailer(sequence, (enum entry_type)e->type), chunk_value(e),
                                  err);
    }
    if (status != LSM_OK) {
        table_writer_abort(writer);
        return status;
    }
    status = run_end(in, family, writer, 0, err);
    return status == LSM_OK ? merge_tiers(in, family, err) : status;
}

void runs_release(struct intake *in, struct intake_family *family)
{
    for (size_t i = 0; i < family->run_count; i++)
        remove_table(in, family->runs[i].number);
    mem_free(family->runs);
    family->runs = NULL;
    family->run_count = family->run_room = 0;
}

/* ---- merging --------------------------------------------------------------------------------- */

/* Tables read together. */
struct merge {
    struct intake *in;
    struct table **tables; /* owned, open */
    size_t count;
    struct iter *source;
    uint64_t raw_total, raw_done, raw_told;
    struct buffer key; /* of the last entry */
    bool has_key;
    lsm_error error; /* of the sources */
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
    if (status == LSM_OK)
        m->source->ops->first(m->source);
    return status;
}

static lsm_status check_cancel(struct merge *m, lsm_error *err)
{
    const struct compact_env *env = m->in->options.env;
    m->raw_told = m->raw_done;
    if (env->cancel != NULL && atomic_load_explicit(env->cancel, memory_order_relaxed))
        return lsm_fail(err, LSM_CANCELLED, "an ingest into '%s' was cancelled",
                        io_dir_path(env->tables->dir));
    if (env->progress == NULL || env->progress(env->progress_context, m->raw_done))
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

lsm_status runs_merge(struct intake *in, struct intake_family *family, lsm_error *err)
{
    struct merge m = {.in = in};
    lsm_status status = stream_to_runs(in, family, err);
    if (status == LSM_OK)
        status = merge_open(&m, family->runs, family->run_count, err);
    if (status == LSM_OK)
        status = merge_run(&m, &family->stream, NULL, err);
    if (status == LSM_OK)
        status = stream_finish(&family->stream, err);
    merge_close(&m);
    runs_release(in, family);
    return status;
}
