/* The loop that every byte of a compaction goes through: keep it short. */
#include "engine/compact/job_private.h"

#define CHECK_BYTES (UINT64_C(1) << 20) /* read between two looks at the cancel flag */

lsm_status pump_watch_ask(struct pump_watch *w, lsm_error *err)
{
    const struct compact_env *env = w->env;
    uint64_t raw = atomic_load_explicit(&w->raw_bytes, memory_order_relaxed);
    uint64_t done = raw < w->raw_total
                        ? (uint64_t)((double)w->total_bytes * (double)raw / (double)w->raw_total)
                        : w->total_bytes;
    if (env->told_read != NULL)
        atomic_store_explicit(env->told_read, done, memory_order_relaxed);
    if (env->told_written != NULL)
        atomic_store_explicit(env->told_written,
                              atomic_load_explicit(&w->written_bytes, memory_order_relaxed),
                              memory_order_relaxed);
    if (env->cancel != NULL && atomic_load_explicit(env->cancel, memory_order_relaxed))
        return lsm_fail(err, LSM_CANCELLED, "a job in '%s' was cancelled",
                        io_dir_path(env->tables->dir));
    if (env->progress != NULL && !env->progress(env->progress_context, done))
        return lsm_fail(err, LSM_CANCELLED, "the caller cancelled a job in '%s'",
                        io_dir_path(env->tables->dir));
    return LSM_OK;
}

static lsm_status look_around(struct pump *p, lsm_error *err)
{
    struct pump_watch *w = p->watch;
    uint64_t written = output_bytes(p->output);
    atomic_fetch_add_explicit(&w->raw_bytes, p->raw_bytes - p->raw_told, memory_order_relaxed);
    /* A table may turn out smaller than it was thought to be: the sum is right all the same. */
    atomic_fetch_add_explicit(&w->written_bytes, written - p->written_told, memory_order_relaxed);
    p->raw_told = p->raw_bytes;
    p->written_told = written;
    p->both_told = p->raw_bytes + p->moved_bytes;
    if (atomic_load_explicit(&w->is_stopped, memory_order_relaxed))
        return lsm_fail(err, LSM_CANCELLED, "another part of a job in '%s' failed",
                        io_dir_path(w->env->tables->dir));
    return p->is_asking ? pump_watch_ask(w, err) : LSM_OK;
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

/* A value that stays where it is passes as a reference. It comes along when too little of its blob
 * file is live, or when the family does not want it there any more. */
static bool value_stays(const struct pump *p, const struct version_blob *blob, uint64_t size)
{
    return output_separates(p->output, (size_t)size) && !version_blob_is_sparse(blob);
}

static lsm_status add_separated(struct pump *p, const struct iter_entry *e, bool is_new_key,
                                lsm_error *err)
{
    const struct version_blob *blob = NULL;
    lsm_slice value = e->value;
    uint64_t size = 0, trailer = e->trailer;
    lsm_status status = version_blob_of(p->values.version, e->value, &blob, &size, err);
    if (status == LSM_OK && !value_stays(p, blob, size)) {
        status = value_reader_get(&p->values, e->key, e->trailer, e->value, &value, err);
        trailer = entry_trailer(entry_sequence(trailer), ENTRY_PUT);
        p->moved_bytes += size;
    }
    return status == LSM_OK ? output_add(p->output, e->key, trailer, value, is_new_key, err)
                            : status;
}

static bool is_behind(const struct pump *p, lsm_slice key)
{
    return p->limit.data != NULL && slice_compare(key, p->limit) >= 0;
}

lsm_status pump_run(struct pump *p, lsm_error *err)
{
    struct iter *source = p->source;
    uint64_t limit_head = p->limit.data == NULL ? UINT64_MAX : iter_head(p->limit, source->common);
    lsm_status status = look_around(p, err);
    for (; status == LSM_OK && source->valid; iter_next(source)) {
        bool is_new_key;
        if (source->entry->head >= limit_head && is_behind(p, source->entry->key))
            break;
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
        if (!is_dropped && entry_type_of(source->entry->trailer) == ENTRY_BLOB)
            status = add_separated(p, source->entry, is_new_key, err);
        else if (!is_dropped)
            status = output_add(p->output, source->entry->key, source->entry->trailer,
                                source->entry->value, is_new_key, err);
        if (status == LSM_OK && p->raw_bytes + p->moved_bytes - p->both_told >= CHECK_BYTES)
            status = look_around(p, err);
    }
    return status == LSM_OK ? source->status : status;
}
