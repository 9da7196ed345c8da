/* A compaction as a job: inputs merged into tables of the output level, or moved as they are. */
#include "engine/compact/job_private.h"

#include "engine/base/memory.h"
#include "engine/format/file_name.h"
#include "engine/format/table_properties.h"

#define LINGERING_MAX 4096 /* files of one input that are looked for */
#define PART_TABLES   2    /* table sizes of keys and values that are worth a part of their own */

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

/* A run of level 0 is one table, so it is written by one. */
uint32_t compact_worth_threads(const struct version_cf *cf, const struct compaction *c)
{
    uint64_t parts = raw_bytes(c) / (PART_TABLES * cf->options.table_size);
    if (c->output_level == 0 || c->trivial || c->is_expiry || parts < 1)
        return 1;
    return parts < UINT32_MAX ? (uint32_t)parts : UINT32_MAX;
}

static size_t part_limit(const struct version_cf *cf, const struct compaction *c)
{
    uint32_t worth = compact_worth_threads(cf, c);
    return c->threads == 0 ? 1 : c->threads < worth ? c->threads : worth;
}

static lsm_status run_merge(const struct compact_env *env, const struct version *version,
                            const struct version_cf *cf, const struct compaction *c,
                            const uint64_t *snapshots, size_t snapshot_count,
                            struct version_edit *edit, struct compact_result *result,
                            lsm_error *err)
{
    struct inputs inputs;
    lsm_status status = inputs_of(env, c, &inputs, err);
    struct output output = output_of(env, cf, c, &inputs);
    struct merge merge = {
        .c = c,
        .version = version,
        .output = &output,
        .snapshots = snapshots,
        .snapshot_count = snapshot_count,
        .part_limit = part_limit(cf, c),
        .watch = {.env = env, .total_bytes = c->input_bytes, .raw_total = raw_bytes(c)}};
    if (status == LSM_OK)
        status = merge_run(&merge, err);
    if (status == LSM_OK)
        status = remove_inputs(c, edit, err);
    if (status == LSM_OK)
        status = merge_give(&merge, edit, result, err);
    result->bytes_read += c->input_bytes;
    merge_release(&merge, status == LSM_OK);
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
