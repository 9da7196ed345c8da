/*
 * One table's iterator is moved, from table to table, and its entries are shown where they are.
 */
#include "engine/version/level_iter.h"

#include "engine/base/memory.h"
#include "engine/version/version_private.h"

struct level_iter {
    struct iter base;
    struct version_file *const *files;
    size_t count;
    struct table_iter_options options;
    lsm_error *err;
    struct iter *inner; /* over files[at], owned; NULL: none was entered yet */
    size_t at;
    size_t approached; /* one above the file that the coming seek goes to; 0: not known */
};

static void invalidate(struct level_iter *l, lsm_status status)
{
    l->base.valid = false;
    l->base.run = l->base.back = 0;
    l->base.status = status;
}

/* Lets the iterator go over files[at] instead of the file before, whose keys stay for a step. */
static lsm_status turn_to_file(struct level_iter *l, size_t at, bool goes_on)
{
    struct table *table = NULL;
    lsm_status status = version_table_keep(l->files[at], &table, l->err);
    if (status != LSM_OK)
        return status;
    if (l->inner == NULL) {
        status = table_iter_new(table, &l->options, &l->inner, l->err);
        if (status != LSM_OK) {
            version_table_drop(l->files[at]);
            return status;
        }
        l->inner->common = l->base.common;
    } else {
        table_iter_turn_to(l->inner, table, goes_on);
        version_table_drop(l->files[l->at]);
    }
    l->at = at;
    return LSM_OK;
}

/* Makes files[at] the current file; with `goes_on` the walk comes there from its neighbour. False:
 * at the end, or failed. */
static bool enter_file(struct level_iter *l, size_t at, bool goes_on)
{
    if (at >= l->count) {
        invalidate(l, LSM_OK);
        return false;
    }
    if (l->inner != NULL && l->at == at)
        return true;
    lsm_status status = turn_to_file(l, at, goes_on);
    invalidate(l, status);
    return status == LSM_OK;
}

static inline void publish(struct level_iter *l)
{
    l->base.valid = true;
    l->base.entry = l->inner->entry;
    l->base.run = l->inner->run;
    l->base.back = l->inner->back;
}

/* Before a move: tells the inner iterator how far its entries were walked over. */
static inline void follow(struct level_iter *l)
{
    l->inner->entry = l->base.entry;
    l->inner->run = l->base.run;
    l->inner->back = l->base.back;
}

/* After a move forwards: the inner entry, or the first of the next file that has one. */
static void settle_forwards(struct level_iter *l)
{
    while (!l->inner->valid) {
        if (l->inner->status != LSM_OK) {
            invalidate(l, l->inner->status);
            return;
        }
        if (!enter_file(l, l->at + 1, true))
            return;
        l->inner->ops->first(l->inner);
    }
    publish(l);
}

static void settle_backwards(struct level_iter *l)
{
    while (!l->inner->valid) {
        if (l->inner->status != LSM_OK) {
            invalidate(l, l->inner->status);
            return;
        }
        if (!enter_file(l, l->at == 0 ? l->count : l->at - 1, true))
            return;
        l->inner->ops->last(l->inner);
    }
    publish(l);
}

static void level_first(struct iter *it)
{
    struct level_iter *l = (struct level_iter *)it;
    invalidate(l, LSM_OK);
    if (!enter_file(l, 0, false))
        return;
    l->inner->ops->first(l->inner);
    settle_forwards(l);
}

static void level_last(struct iter *it)
{
    struct level_iter *l = (struct level_iter *)it;
    invalidate(l, LSM_OK);
    if (!enter_file(l, l->count == 0 ? 0 : l->count - 1, false))
        return;
    l->inner->ops->last(l->inner);
    settle_backwards(l);
}

/* The first file whose largest key is >= key. */
static size_t find_file(const struct level_iter *l, lsm_slice key)
{
    size_t low = 0, limit = l->count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (slice_compare(l->files[middle]->meta.largest, key) < 0)
            low = middle + 1;
        else
            limit = middle;
    }
    return low;
}

static void level_seek(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct level_iter *l = (struct level_iter *)it;
    size_t approached = l->approached;
    l->approached = 0;
    invalidate(l, LSM_OK);
    if (!enter_file(l, approached > 0 ? approached - 1 : find_file(l, key), false))
        return;
    iter_seek(l->inner, key, trailer);
    settle_forwards(l);
}

static void level_approach(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct level_iter *l = (struct level_iter *)it;
    bool is_second = l->approached > 0;
    size_t at = is_second ? l->approached - 1 : find_file(l, key);
    l->approached = at + 1;
    bool is_entered = is_second ? l->inner != NULL && l->at == at : enter_file(l, at, false);
    if (is_entered)
        iter_approach(l->inner, key, trailer);
}

static void level_seek_for_prev(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct level_iter *l = (struct level_iter *)it;
    size_t at = find_file(l, key);
    if (at == l->count) {
        level_last(it); /* every file ends before the key */
        return;
    }
    invalidate(l, LSM_OK);
    if (!enter_file(l, at, false))
        return;
    l->inner->ops->seek_for_prev(l->inner, key, trailer);
    settle_backwards(l);
}

static void level_next(struct iter *it)
{
    struct level_iter *l = (struct level_iter *)it;
    follow(l);
    iter_next(l->inner);
    settle_forwards(l);
}

static void level_prev(struct iter *it)
{
    struct level_iter *l = (struct level_iter *)it;
    follow(l);
    iter_prev(l->inner);
    settle_backwards(l);
}

static void level_rest(struct iter *it)
{
    struct level_iter *l = (struct level_iter *)it;
    if (l->inner != NULL)
        iter_rest(l->inner);
}

static void level_release(struct iter *it)
{
    struct level_iter *l = (struct level_iter *)it;
    if (l->inner != NULL) {
        iter_release(l->inner);
        version_table_drop(l->files[l->at]);
    }
    mem_free(l);
}

static const struct iter_ops level_iter_ops = {
    .first = level_first,
    .last = level_last,
    .seek = level_seek,
    .seek_for_prev = level_seek_for_prev,
    .next = level_next,
    .prev = level_prev,
    .release = level_release,
    .approach = level_approach,
    .rest = level_rest,
};

lsm_status level_iter_new(struct version_file *const *files, size_t count,
                          const struct table_iter_options *options, struct iter **it,
                          lsm_error *err)
{
    struct level_iter *l = mem_alloc(sizeof *l);
    if (l == NULL)
        return lsm_fail_memory(err, sizeof *l);
    *l = (struct level_iter){.base = {.ops = &level_iter_ops},
                             .files = files,
                             .count = count,
                             .options = *options,
                             .err = err};
    *it = &l->base;
    return LSM_OK;
}

/* ---- all iterators of a family ----------------------------------------------------------------
 */

lsm_slice version_common_prefix(const struct version_cf *cf)
{
    lsm_slice common = {NULL, 0};
    bool has_one = false;
    for (size_t i = 0; i < VERSION_LEVELS; i++) {
        const struct version_level *level = &cf->levels[i];
        if (level->count == 0)
            continue;
        lsm_slice own = {level->files[0]->meta.smallest.data, level->prefix_size};
        if (has_one)
            own.size = slice_common_prefix(common, own);
        common = own;
        has_one = true;
    }
    return common;
}

size_t version_iter_count(const struct version_cf *cf)
{
    size_t count = cf->levels[0].count;
    for (size_t i = 1; i < VERSION_LEVELS; i++)
        count += cf->levels[i].count > 0;
    return count;
}

static bool file_is_outside(const struct version_file *file, lsm_slice first, lsm_slice limit)
{
    return (first.data != NULL && slice_compare(file->meta.largest, first) < 0) ||
           (limit.data != NULL && slice_compare(file->meta.smallest, limit) >= 0);
}

/* Appends an iterator over the files of a level that reach into the range; level 0 file by file. */
static lsm_status add_iterator(struct version_file *const *files, size_t count,
                               const struct table_iter_options *options, lsm_slice first,
                               lsm_slice limit, struct iter **children, size_t *child_count,
                               lsm_error *err)
{
    while (count > 0 && file_is_outside(files[0], first, limit)) {
        files++;
        count--;
    }
    while (count > 0 && file_is_outside(files[count - 1], first, limit))
        count--;
    if (count == 0)
        return LSM_OK;
    lsm_status status = level_iter_new(files, count, options, &children[*child_count], err);
    if (status == LSM_OK)
        ++*child_count;
    return status;
}

lsm_status version_iters(const struct version_cf *cf, const struct table_iter_options *options,
                         lsm_slice first, lsm_slice limit, struct iter **children, size_t *count,
                         lsm_error *err)
{
    size_t before = *count;
    lsm_status status = LSM_OK;
    const struct version_level *level = &cf->levels[0];
    for (size_t i = level->count; status == LSM_OK && i > 0; i--)
        status = add_iterator(&level->files[i - 1], 1, options, first, limit, children, count, err);
    for (size_t i = 1; status == LSM_OK && i < VERSION_LEVELS; i++) {
        level = &cf->levels[i];
        status =
            add_iterator(level->files, level->count, options, first, limit, children, count, err);
    }
    while (status != LSM_OK && *count > before)
        iter_release(children[--*count]);
    return status;
}
