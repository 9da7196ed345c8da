/*
 * Flush: the memtables' entries, family by family, become tables of level 0. They stay raw, for
 * they will be merged soon, unless the family's entries lie where it holds nothing yet: such a
 * table sinks to the lowest level as it is, so compressing it now is compressing it once. Nor are
 * those of style fifo ever merged.
 */
#include "engine/compact/job_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/iter/merging.h"

struct flush {
    const struct compact_env *env;
    struct memtable *const *memtables;
    size_t memtable_count;
    const uint64_t *snapshots;
    size_t snapshot_count;
    uint64_t last_sequence; /* of what is written */
    struct output *outputs; /* one a family, owned; kept until all are written */
    size_t output_count, output_room;
    struct compact_result *result;
};

/* Does a snapshot see the memtable half written? If none does, only the newest version of each of
 * its keys is seen by anybody (visible.h): the others need not be looked at, and each of them is a
 * record far from the last one in memory. */
static bool is_cut_by_snapshot(const struct flush *f, const struct memtable *mt)
{
    uint64_t first = memtable_min_sequence(mt), last = memtable_max_sequence(mt);
    last = last < f->last_sequence ? last : f->last_sequence;
    for (size_t i = 0; i < f->snapshot_count; i++) {
        if (f->snapshots[i] >= first && f->snapshots[i] < last)
            return true;
    }
    return false;
}

/* The memtables as one sorted source of a family's entries. */
static lsm_status open_source(const struct flush *f, uint32_t cf, struct iter **source,
                              lsm_error *err)
{
    struct iter **children = mem_alloc(f->memtable_count * sizeof(struct iter *));
    if (children == NULL)
        return lsm_fail_memory(err, f->memtable_count * sizeof(struct iter *));
    size_t made = 0;
    lsm_status status = LSM_OK;
    for (size_t i = f->memtable_count; status == LSM_OK && i > 0; i--) {
        const struct memtable *mt = f->memtables[i - 1];
        status = is_cut_by_snapshot(f, mt)
                     ? memtable_iter_new(mt, cf, &children[made], err)
                     : memtable_scan_new(mt, cf, &f->last_sequence, &children[made], err);
        if (status == LSM_OK)
            made++;
    }
    if (status == LSM_OK)
        status = merging_new(children, made, source, err);
    else
        while (made > 0)
            iter_release(children[--made]);
    mem_free(children);
    return status;
}

static bool level_overlaps(const struct version_level *level, lsm_slice smallest, lsm_slice largest)
{
    for (size_t i = 0; i < level->count; i++) {
        if (slice_compare(level->files[i]->meta.smallest, largest) <= 0 &&
            slice_compare(smallest, level->files[i]->meta.largest) <= 0)
            return true;
    }
    return false;
}

/* Looks at both ends of the source and leaves it on its first entry. */
static lsm_status lies_apart(const struct version_cf *cf, struct iter *source, bool *apart,
                             lsm_error *err)
{
    struct buffer largest = {0};
    *apart = true;
    source->ops->last(source);
    if (source->valid)
        buffer_append(&largest, source->entry->key.data, source->entry->key.size);
    source->ops->first(source);
    for (size_t i = 0; source->valid && !largest.failed && i < VERSION_LEVELS; i++)
        *apart =
            *apart && !level_overlaps(&cf->levels[i], source->entry->key, buffer_slice(&largest));
    lsm_status status = source->status;
    if (largest.failed)
        status = lsm_fail_memory(err, largest.size);
    buffer_release(&largest);
    return status;
}

static lsm_status new_output(struct flush *f, const struct version_cf *cf, struct output **output,
                             lsm_error *err)
{
    if (f->output_count == f->output_room) {
        size_t room = f->output_room == 0 ? 4 : f->output_room * 2;
        struct output *grown = mem_resize(f->outputs, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        f->outputs = grown;
        f->output_room = room;
    }
    *output = &f->outputs[f->output_count++];
    **output = (struct output){.env = f->env,
                               .cf = cf,
                               .compression_level = cf->options.compression_level,
                               .max_size = LEVEL0_TABLE_SIZE};
    return LSM_OK;
}

static lsm_status flush_family(struct flush *f, const struct version_cf *cf, lsm_error *err)
{
    struct iter *source = NULL;
    struct output *output = NULL;
    struct pump_watch watch = {.env = f->env};
    struct pump pump = {
        .limit_sequence = f->env->limit_sequence, .watch = &watch, .is_asking = true};
    bool apart = false;
    lsm_status status = open_source(f, cf->id, &source, err);
    if (status == LSM_OK)
        status = lies_apart(cf, source, &apart, err);
    if (status == LSM_OK)
        status = new_output(f, cf, &output, err);
    if (status != LSM_OK)
        goto out;
    output->compress = (apart || cf->options.compaction == LSM_COMPACTION_FIFO) &&
                       !f->env->in_haste && cf->options.compression == LSM_COMPRESSION_ZSTD;
    pump.source = source;
    pump.output = output;
    visible_init(&pump.visible, f->snapshots, f->snapshot_count);
    status = pump_run(&pump, err);
    if (status == LSM_OK)
        status = output_finish(output, err);
    f->result->entries_read += pump.entries;
    f->result->bytes_read += pump.raw_bytes;
out:
    visible_release(&pump.visible);
    iter_release(source);
    return status;
}

/* The smallest family id >= from that any memtable holds. */
static bool next_family(const struct flush *f, uint32_t from, uint32_t *cf)
{
    bool any = false;
    for (size_t i = 0; i < f->memtable_count; i++) {
        uint32_t found;
        if (!memtable_next_cf(f->memtables[i], from, &found) || (any && found >= *cf))
            continue;
        *cf = found;
        any = true;
    }
    return any;
}

static lsm_status flush_families(struct flush *f, const struct version *version, lsm_error *err)
{
    lsm_status status = LSM_OK;
    uint32_t id = 0;
    for (bool more = next_family(f, 0, &id); status == LSM_OK && more;) {
        const struct version_cf *cf = version_find_cf(version, id);
        if (cf != NULL)
            status = flush_family(f, cf, err);
        more = id < UINT32_MAX && next_family(f, id + 1, &id);
    }
    return status;
}

static lsm_status give_outputs(struct flush *f, struct version_edit *edit, lsm_error *err)
{
    size_t tables = 0;
    for (size_t i = 0; i < f->output_count; i++)
        tables += f->outputs[i].count;
    lsm_status status = tables > 0 ? io_dir_sync(f->env->tables->dir, err) : LSM_OK;
    STEP("flush: names synced");
    for (size_t i = 0; status == LSM_OK && i < f->output_count; i++)
        status = output_give(&f->outputs[i], edit, f->result, err);
    return status;
}

lsm_status compact_flush(const struct compact_env *env, const struct version *version,
                         struct memtable *const *memtables, size_t memtable_count,
                         const uint64_t *snapshots, size_t snapshot_count,
                         struct version_edit *edit, struct compact_result *result, lsm_error *err)
{
    struct flush f = {.env = env,
                      .memtables = memtables,
                      .memtable_count = memtable_count,
                      .snapshots = snapshots,
                      .snapshot_count = snapshot_count,
                      .last_sequence = entry_sequence(ENTRY_MAX_TRAILER),
                      .result = result};
    if (env->limit_sequence != 0)
        f.last_sequence = env->limit_sequence - 1;
    lsm_status status = flush_families(&f, version, err);
    if (status == LSM_OK)
        status = give_outputs(&f, edit, err);
    for (size_t i = 0; i < f.output_count; i++)
        output_release(&f.outputs[i], status == LSM_OK);
    mem_free(f.outputs);
    return status;
}
