/* A compaction as a job: inputs merged into tables of the output level, or moved as they are. */
#include "engine/compact/job_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/table_properties.h"
#include "engine/iter/merging.h"
#include "engine/version/level_iter.h"

static lsm_status remove_inputs(const struct compaction *c, struct version_edit *edit,
                                lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < c->input_count; i++) {
        uint32_t level = i < c->upper_count ? c->input_level : c->output_level;
        status = edit_remove_table(edit, c->cf, level, c->inputs[i]->meta.number, err);
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

/* One iterator a file of level 0, newest first, and one for each run of a deeper level. */
static lsm_status open_source(const struct compaction *c, struct iter **source, lsm_error *err)
{
    bool is_level0 = c->input_level == 0;
    size_t run_count = (is_level0 ? c->upper_count : 1) + 1, made = 0;
    struct iter **children = mem_alloc(run_count * sizeof(struct iter *));
    if (children == NULL)
        return lsm_fail_memory(err, run_count * sizeof(struct iter *));
    lsm_status status = LSM_OK;
    for (size_t i = c->upper_count; is_level0 && status == LSM_OK && i > 0; i--)
        status = add_run(&c->inputs[i - 1], 1, children, &made, err);
    if (!is_level0)
        status = add_run(c->inputs, c->upper_count, children, &made, err);
    if (status == LSM_OK)
        status = add_run(c->inputs + c->upper_count, c->input_count - c->upper_count, children,
                         &made, err);
    if (status == LSM_OK)
        status = merging_new(children, made, source, err);
    else
        while (made > 0)
            iter_release(children[--made]);
    mem_free(children);
    return status;
}

/* For the lineage: which files the outputs replace, and which jobs had written them. */
struct inputs {
    uint64_t *numbers; /* owned, the jobs are behind them */
    uint64_t *jobs;
    size_t job_count;
};

static void add_job(struct inputs *inputs, uint64_t job)
{
    for (size_t i = 0; i < inputs->job_count; i++) {
        if (inputs->jobs[i] == job)
            return;
    }
    inputs->jobs[inputs->job_count++] = job;
}

static lsm_status inputs_of(const struct compaction *c, struct inputs *inputs, lsm_error *err)
{
    *inputs = (struct inputs){.numbers = mem_alloc(2 * c->input_count * sizeof(uint64_t))};
    if (inputs->numbers == NULL)
        return lsm_fail_memory(err, 2 * c->input_count * sizeof(uint64_t));
    inputs->jobs = inputs->numbers + c->input_count;
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < c->input_count; i++) {
        struct table *table = NULL;
        inputs->numbers[i] = c->inputs[i]->meta.number;
        status = version_table_keep(c->inputs[i], &table, err);
        if (status != LSM_OK)
            break;
        add_job(inputs, table_properties(table)->job);
        version_table_drop(c->inputs[i]);
    }
    return status;
}

static uint64_t raw_bytes(const struct compaction *c)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < c->input_count; i++)
        bytes += c->inputs[i]->meta.raw_size;
    return bytes;
}

static struct output output_of(const struct compact_env *env, const struct version_cf *cf,
                               const struct compaction *c, const struct inputs *inputs)
{
    bool is_wish = c->compression != LSM_COMPRESSION_DEFAULT;
    lsm_compression compression = is_wish ? c->compression : cf->options.compression;
    return (struct output){
        .env = env,
        .cf = cf,
        .level = c->output_level,
        /* Compression is spent once a byte. */
        .compress = compression == LSM_COMPRESSION_ZSTD && version_is_lowest(cf, c->output_level),
        .compression_level = is_wish ? c->compression_level : cf->options.compression_level,
        .max_size = cf->options.table_size,
        .replaced = inputs->numbers,
        .replaced_count = c->input_count,
        .replaced_jobs = inputs->jobs,
        .replaced_job_count = inputs->job_count,
        .below = c->output_level + 1 < VERSION_LEVELS ? &cf->levels[c->output_level + 1] : NULL,
    };
}

static lsm_status run_merge(const struct compact_env *env, const struct version_cf *cf,
                            const struct compaction *c, const uint64_t *snapshots,
                            size_t snapshot_count, struct version_edit *edit,
                            struct compact_result *result, lsm_error *err)
{
    struct iter *source = NULL;
    struct inputs inputs;
    lsm_status status = inputs_of(c, &inputs, err);
    struct output output = output_of(env, cf, c, &inputs);
    struct pump pump = {.env = env,
                        .output = &output,
                        .deeper = cf,
                        .deeper_from = c->output_level + 1,
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
    result->bytes_read += c->input_bytes;
    result->entries_read += pump.entries;
out:
    iter_release(source);
    visible_release(&pump.visible);
    output_release(&output, status == LSM_OK);
    mem_free(inputs.numbers);
    return status;
}

lsm_status compact_run(const struct compact_env *env, const struct version *version,
                       const struct compaction *c, const uint64_t *snapshots, size_t snapshot_count,
                       struct version_edit *edit, struct compact_result *result, lsm_error *err)
{
    const struct version_cf *cf = version_find_cf(version, c->cf);
    if (cf == NULL)
        return lsm_fail(err, LSM_MISSING, "column family %u does not exist", c->cf);
    if (c->trivial)
        return run_move(c, edit, result, err);
    return run_merge(env, cf, c, snapshots, snapshot_count, edit, result, err);
}
