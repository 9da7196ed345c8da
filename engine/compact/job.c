/* A compaction as a job: inputs merged into tables of the output level, or moved as they are. */
#include "engine/compact/job_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/file_name.h"
#include "engine/format/table_properties.h"
#include "engine/iter/merging.h"
#include "engine/version/level_iter.h"

#define LINGERING_MAX 4096 /* files of one input that are looked for */

static lsm_status remove_inputs(const struct compaction *c, struct version_edit *edit,
                                lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < c->input_count; i++) {
        const struct table_meta *meta = &c->inputs[i]->meta;
        status = edit_remove_table(edit, c->cf, meta->level, meta->number, err);
    }
    return status;
}

static lsm_status run_move(const struct compaction *c, struct version_edit *edit,
                           struct compact_result *result, lsm_error *err)
{
    lsm_status status = remove_inputs(c, edit, err);
    for (size_t i = 0; status == LSM_OK && i < c->input_count; i++) {
        struct table_meta meta = c->inputs[i]->meta;
        meta.level = c->output_level;
        status = edit_add_table(edit, &meta, err);
    }
    result->table_count += c->input_count;
    return status;
}

static lsm_status add_run(struct version_file *const *files, size_t count, struct iter **children,
                          size_t *made, lsm_error *err)
{
    static const struct table_iter_options options = {.flags = TABLE_NO_FILL, .whole = true};
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

static lsm_status open_source(const struct compaction *c, struct iter **source, lsm_error *err)
{
    size_t run_count = 0, made = 0;
    for (size_t i = 0; i < c->input_count; i = run_end(c, i))
        run_count++;
    struct iter **children = mem_alloc(run_count * sizeof(struct iter *));
    if (children == NULL)
        return lsm_fail_memory(err, run_count * sizeof(struct iter *));
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < c->input_count; i = run_end(c, i))
        status = add_run(&c->inputs[i], run_end(c, i) - i, children, &made, err);
    if (status == LSM_OK)
        status = merging_new(children, made, source, err);
    else
        while (made > 0)
            iter_release(children[--made]);
    mem_free(children);
    return status;
}

/*
 * For the lineage: which files the outputs replace, and which jobs had written them. Files that the
 * inputs replaced themselves, and that a reader has kept from being removed, are named again: when
 * the inputs are gone, nobody else would know that these are not live.
 */
struct inputs {
    struct buffer numbers; /* u64 each, in memory order */
    struct buffer jobs;    /* the same */
};

static void inputs_release(struct inputs *inputs)
{
    buffer_release(&inputs->numbers);
    buffer_release(&inputs->jobs);
}

static void add_once(struct buffer *list, uint64_t number)
{
    for (size_t at = 0; at < list->size; at += sizeof number) {
        if (memcmp(list->data + at, &number, sizeof number) == 0)
            return;
    }
    buffer_append(list, &number, sizeof number);
}

static lsm_status add_lingering(const struct compact_env *env, const struct table_properties *p,
                                struct inputs *inputs, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    struct io_entry entry;
    for (size_t i = 0; i < p->replaced_count && i < LINGERING_MAX; i++) {
        file_name_make(FILE_TABLE, p->replaced[i], name);
        lsm_status status = io_dir_describe(env->tables->dir, name, &entry, err);
        if (status == LSM_OK)
            add_once(&inputs->numbers, p->replaced[i]);
        else if (status == LSM_NO_MEMORY)
            return status;
    }
    return LSM_OK;
}

static lsm_status inputs_of(const struct compact_env *env, const struct compaction *c,
                            struct inputs *inputs, lsm_error *err)
{
    lsm_status status = LSM_OK;
    *inputs = (struct inputs){0};
    for (size_t i = 0; i < c->input_count; i++)
        add_once(&inputs->numbers, c->inputs[i]->meta.number);
    for (size_t i = 0; status == LSM_OK && i < c->input_count; i++) {
        struct table *table = NULL;
        status = version_table_keep(c->inputs[i], &table, err);
        if (status != LSM_OK)
            break;
        add_once(&inputs->jobs, table_properties(table)->job);
        status = add_lingering(env, table_properties(table), inputs, err);
        version_table_drop(c->inputs[i]);
    }
    if (status == LSM_OK && (inputs->numbers.failed || inputs->jobs.failed))
        status = lsm_fail_memory(err, inputs->numbers.size + inputs->jobs.size);
    return status;
}

static uint64_t raw_bytes(const struct compaction *c)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < c->input_count; i++)
        bytes += c->inputs[i]->meta.raw_size;
    return bytes;
}

/* When the entries were flushed; what is not known counts as now. */
static void add_times(struct output *output, const struct compaction *c)
{
    bool is_known = true;
    for (size_t i = 0; i < c->input_count; i++) {
        const struct table_meta *meta = &c->inputs[i]->meta;
        if (meta->oldest_time != 0 &&
            (output->oldest_time == 0 || meta->oldest_time < output->oldest_time))
            output->oldest_time = meta->oldest_time;
        if (meta->newest_time > output->newest_time)
            output->newest_time = meta->newest_time;
        is_known = is_known && meta->newest_time != 0;
    }
    if (!is_known)
        output->newest_time = 0;
}

/* Whether, and how much, the outputs are compressed. Level 0 holds newer runs than the lowest,
 * unless all else is empty; then they will be merged again, too. */
static void choose_compression(struct output *output, const struct compaction *c)
{
    const lsm_cf_options *options = &output->cf->options;
    bool is_wish = c->compression != LSM_COMPRESSION_DEFAULT;
    bool is_lowest = c->output_level > 0 && version_is_lowest(output->cf, c->output_level);
    lsm_compression compression = is_wish ? c->compression : options->compression;
    output->compress = compression == LSM_COMPRESSION_ZSTD &&
                       (is_lowest || (!is_wish && options->compression_above != 0));
    if (is_wish)
        output->compression_level = c->compression_level;
    else
        output->compression_level =
            is_lowest ? options->compression_level : options->compression_above;
}

static struct output output_of(const struct compact_env *env, const struct version_cf *cf,
                               const struct compaction *c, const struct inputs *inputs)
{
    struct output output = {
        .env = env,
        .cf = cf,
        .level = c->output_level,
        .max_size = c->output_level == 0 ? LEVEL0_TABLE_SIZE : cf->options.table_size,
        .replaced = (const uint64_t *)(const void *)inputs->numbers.data,
        .replaced_count = inputs->numbers.size / sizeof(uint64_t),
        .replaced_jobs = (const uint64_t *)(const void *)inputs->jobs.data,
        .replaced_job_count = inputs->jobs.size / sizeof(uint64_t),
    };
    if (cf->options.compaction == LSM_COMPACTION_LEVELED && c->output_level < VERSION_LEVELS - 1)
        output.below = &cf->levels[c->output_level + 1];
    add_times(&output, c);
    choose_compression(&output, c);
    return output;
}

static lsm_status run_merge(const struct compact_env *env, const struct version *version,
                            const struct version_cf *cf, const struct compaction *c,
                            const uint64_t *snapshots, size_t snapshot_count,
                            struct version_edit *edit, struct compact_result *result,
                            lsm_error *err)
{
    struct iter *source = NULL;
    struct inputs inputs;
    lsm_status status = inputs_of(env, c, &inputs, err);
    struct output output = output_of(env, cf, c, &inputs);
    struct pump pump = {
        .env = env,
        .output = &output,
        .deeper = c->output_level > 0 ? cf : NULL, /* level 0 has older runs */
        .deeper_from = c->output_level + 1,
        .values = {.version = version, .options = {.flags = TABLE_NO_FILL, .whole = true}},
        .total_bytes = c->input_bytes,
        .raw_total = raw_bytes(c)};
    visible_init(&pump.visible, snapshots, snapshot_count);
    if (status == LSM_OK)
        status = open_source(c, &source, err);
    if (status != LSM_OK)
        goto out;
    pump.source = source;
    source->ops->first(source);
    status = pump_run(&pump, err);
    if (status == LSM_OK)
        status = output_finish(&output, err);
    if (status == LSM_OK && output.count > 0)
        status = io_dir_sync(env->tables->dir, err);
    STEP("compaction: names synced");
    if (status == LSM_OK)
        status = remove_inputs(c, edit, err);
    if (status == LSM_OK)
        status = output_give(&output, edit, result, err);
    result->bytes_read += c->input_bytes + pump.moved_bytes;
    result->entries_read += pump.entries;
out:
    iter_release(source);
    visible_release(&pump.visible);
    value_reader_release(&pump.values);
    output_release(&output, status == LSM_OK);
    inputs_release(&inputs);
    return status;
}

lsm_status compact_run(const struct compact_env *env, const struct version *version,
                       const struct compaction *c, const uint64_t *snapshots, size_t snapshot_count,
                       struct version_edit *edit, struct compact_result *result, lsm_error *err)
{
    const struct version_cf *cf = version_find_cf(version, c->cf);
    if (cf == NULL)
        return lsm_fail(err, LSM_MISSING, "column family %u does not exist", c->cf);
    if (c->is_expiry)
        return remove_inputs(c, edit, err);
    if (c->trivial)
        return run_move(c, edit, result, err);
    return run_merge(env, version, cf, c, snapshots, snapshot_count, edit, result, err);
}
