/* The loop that every byte of a compaction goes through: keep it short. */
#include "engine/compact/job_private.h"

#define CHECK_BYTES (UINT64_C(1) << 20) /* read between two looks at the cancel flag */

static void tell(const struct pump *p, uint64_t done)
{
    const struct compact_env *env = p->env;
    if (env->told_read != NULL)
        atomic_store_explicit(env->told_read, done, memory_order_relaxed);
    if (env->told_written != NULL)
        atomic_store_explicit(env->told_written, output_bytes(p->output), memory_order_relaxed);
}

static lsm_status check_cancel(struct pump *p, lsm_error *err)
{
    const struct compact_env *env = p->env;
    uint64_t done =
        p->raw_bytes < p->raw_total
            ? (uint64_t)((double)p->total_bytes * (double)p->raw_bytes / (double)p->raw_total)
            : p->total_bytes;
    p->raw_told = p->raw_bytes;
    tell(p, done);
    if (env->cancel != NULL && atomic_load_explicit(env->cancel, memory_order_relaxed))
        return lsm_fail(err, LSM_CANCELLED, "a job in '%s' was cancelled",
                        io_dir_path(env->tables->dir));
    if (env->progress == NULL)
        return LSM_OK;
    if (!env->progress(env->progress_context, done))
        return lsm_fail(err, LSM_CANCELLED, "the caller cancelled a job in '%s'",
                        io_dir_path(env->tables->dir));
    return LSM_OK;
}

/* May a deeper level hold an older version of the key? */
static bool deeper_may_hold(struct pump *p, lsm_slice key)
{
    for (uint32_t i = p->deeper_from; i < VERSION_LEVELS; i++) {
        const struct version_level *level = &p->deeper->levels[i];
        size_t *at = &p->deeper_at[i];
        while (*at < level->count && slice_compare(level->files[*at]->meta.largest, key) < 0)
            ++*at;
        if (*at < level->count && slice_compare(level->files[*at]->meta.smallest, key) <= 0)
            return true;
    }
    return false;
}

static lsm_status unknown_type(const struct iter *source, lsm_error *err)
{
    return lsm_fail(err, LSM_NEWER_FORMAT,
                    "an entry has the type %u, which this library does not know",
                    (unsigned)(source->entry->trailer & 0xff));
}

lsm_status pump_run(struct pump *p, lsm_error *err)
{
    struct iter *source = p->source;
    lsm_status status = check_cancel(p, err);
    for (; status == LSM_OK && source->valid; iter_next(source)) {
        bool is_new_key;
        enum visible_verdict verdict;
        if (p->limit_sequence != 0 && entry_sequence(source->entry->trailer) >= p->limit_sequence)
            continue;
        status = visible_next(&p->visible, source->entry->head, source->entry->key,
                              source->entry->trailer, &is_new_key, &verdict);
        if (status != LSM_OK)
            return lsm_fail_memory(err, source->entry->key.size);
        if (!entry_type_is_known(source->entry->trailer))
            return unknown_type(source, err);
        p->entries++;
        p->raw_bytes += source->entry->key.size + source->entry->value.size;
        bool is_dropped =
            verdict == VISIBLE_HIDDEN || (verdict == VISIBLE_OLDEST && p->deeper != NULL &&
                                          entry_type_of(source->entry->trailer) == ENTRY_DELETE &&
                                          !deeper_may_hold(p, source->entry->key));
        if (!is_dropped)
            status = output_add(p->output, source->entry->key, source->entry->trailer,
                                source->entry->value, is_new_key, err);
        if (status == LSM_OK && p->raw_bytes - p->raw_told >= CHECK_BYTES)
            status = check_cancel(p, err);
    }
    return status == LSM_OK ? source->status : status;
}
