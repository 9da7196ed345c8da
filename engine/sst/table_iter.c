/*
 * Walking a table. The current block is held by reference, so no epoch is held between calls; the
 * current key is rebuilt in a buffer whose front, the block's prefix, stays as it is.
 */
#include "engine/sst/table_ahead.h"
#include "engine/sst/table_private.h"

#include <assert.h>

struct table_iter {
    struct iter it; /* first: the caller's view */
    struct iter_entry entry;
    struct table *table;
    lsm_error *err;
    unsigned flags;
    struct block *block; /* held; NULL before the first move */
    struct block_view view;
    uint32_t block_index;
    uint32_t index;       /* of the current entry in the block */
    uint64_t prefix_head; /* bytes_head() of the block's prefix */
    uint32_t approached;  /* one above the block that the coming seek ends in; 0: not known */
    struct buffer key;
    struct table_ahead ahead;
    bool eager;   /* read ahead from the first block on */
    uint32_t run; /* blocks entered one after the other */
};

#define CACHE_LINE       64
#define ENTRIES_AHEAD    4
#define PREFETCH_LINES   10 /* of a block: header and columns of some forty entries */
#define RUN_BEFORE_AHEAD 2  /* blocks in sequence until reading ahead begins */

/* ---- blocks ---------------------------------------------------------------------------------- */

/* The block from the cache, held, or NULL. */
static struct block *cached_block(struct table_iter *ti, uint32_t index)
{
    struct block_cache *cache = ti->table->env->cache;
    void *_Atomic *slot = &ti->table->index.entries[index].slot;
    epoch_enter();
    struct block *block =
        ti->flags & TABLE_NO_FILL ? block_cache_peek(slot) : block_cache_find(cache, slot);
    if (block != NULL)
        block_keep(block);
    epoch_exit();
    return block;
}

/* Gives a decoded block to the cache and holds what is used in its place. */
static struct block *publish_block(struct table_iter *ti, uint32_t index, struct block *block)
{
    if (ti->flags & TABLE_NO_FILL)
        return block;
    bool owned;
    epoch_enter();
    block = table_block_publish(ti->table, index, ti->flags, block, &owned);
    if (!owned)
        block_keep(block);
    epoch_exit();
    return block;
}

/* From a window that was read ahead, else from the file. */
static lsm_status read_block(struct table_iter *ti, uint32_t index, struct block **block)
{
    const uint8_t *bytes;
    lsm_status status = table_ahead_take(&ti->ahead, index, &bytes, ti->err);
    if (status == LSM_OK)
        status = bytes != NULL ? table_block_decode(ti->table, index, bytes, block, ti->err)
                               : table_block_read(ti->table, index, block, ti->err);
    if (status == LSM_OK)
        *block = publish_block(ti, index, *block);
    return status;
}

/* Is the iterator on its way forwards? Then it may read ahead. */
static lsm_status look_ahead(struct table_iter *ti, uint32_t index)
{
    bool in_sequence = ti->block != NULL && index == ti->block_index + 1;
    if (!in_sequence)
        table_ahead_stop(&ti->ahead);
    ti->run = in_sequence ? ti->run + 1 : 0;
    bool is_forward = ti->block == NULL || index > ti->block_index;
    if (ti->run >= RUN_BEFORE_AHEAD || (ti->eager && is_forward))
        return table_ahead_advance(&ti->ahead, index, ti->err);
    return LSM_OK;
}

/* Room for every key of the block, and the prefix in its place. */
static bool prepare_key(struct table_iter *ti)
{
    size_t longest = ti->view.key_size;
    if (ti->view.flags & BLOCK_KEY_SIZES) {
        for (size_t i = 0; i < ti->view.count; i++) {
            size_t size = block_suffix_size(&ti->view, i);
            longest = size > longest ? size : longest;
        }
    }
    buffer_clear(&ti->key);
    if (!buffer_reserve(&ti->key, ti->view.prefix_size + longest + BLOCK_HEAD_SIZE))
        return false;
    if (ti->view.prefix_size > 0)
        bytes_copy(ti->key.data, ti->view.prefix, ti->view.prefix_size);
    ti->prefix_head = bytes_head(ti->view.prefix, ti->view.prefix_size);
    return true;
}

static void fail(struct table_iter *ti, lsm_status status)
{
    ti->it.valid = false;
    ti->it.status = status;
}

/* Fetches what is read first of a block that is in memory: its columns, as long as it is small.
 * Outside an epoch the block may be gone: its address is fetched, never read. */
static void prefetch_block(const struct table_iter *ti, uint32_t index)
{
    const struct block *block = block_cache_peek(&ti->table->index.entries[index].slot);
    if (block == NULL)
        return;
    const uint8_t *bytes = (const uint8_t *)block;
    for (size_t i = 0; i < PREFETCH_LINES; i++)
        __builtin_prefetch(bytes + i * CACHE_LINE);
}

/* Makes `index` the current block. False when that failed. */
static bool enter_block(struct table_iter *ti, uint32_t index)
{
    if (ti->block != NULL && ti->block_index == index)
        return true;
    lsm_status status = look_ahead(ti, index);
    struct block *block = status == LSM_OK ? cached_block(ti, index) : NULL;
    if (block == NULL && status == LSM_OK)
        status = read_block(ti, index, &block);
    if (status != LSM_OK) {
        fail(ti, status);
        return false;
    }
    if (ti->run > 0 && index + 1 < ti->table->index.count)
        prefetch_block(ti, index + 1);
    block_drop(ti->block);
    ti->block = block;
    ti->block_index = index;
    ti->view = block_view_of(block->data);
    block_view_raise(&ti->view, ti->table->properties.sequence_base);
    if (!prepare_key(ti)) {
        block_drop(ti->block);
        ti->block = NULL;
        fail(ti, lsm_fail_memory(ti->err, LSM_MAX_KEY_SIZE));
        return false;
    }
    return true;
}

/* ---- entries --------------------------------------------------------------------------------- */

/* bytes_head() of a key, from its parts: what was just written in pieces is slow to read whole. */
static inline uint64_t whole_head(const struct table_iter *ti, uint32_t index)
{
    uint32_t prefix_size = ti->view.prefix_size;
    if (prefix_size >= sizeof(uint64_t))
        return ti->prefix_head;
    return ti->prefix_head | block_head(&ti->view, index) >> (8 * prefix_size);
}

/* What a walk reads some entries later: a merge gets there within a miss or two. */
static inline void prefetch_entries(const struct block_view *v, uint32_t index)
{
    uint32_t later = index + ENTRIES_AHEAD < v->count ? index + ENTRIES_AHEAD : v->count;
    const uint8_t *at = v->data + block_offset(v, later);
    __builtin_prefetch(at);
    __builtin_prefetch(at - CACHE_LINE);
}

/* Shows entry `index` of the current block. */
static inline void show(struct table_iter *ti, uint32_t index)
{
    const struct block_view *v = &ti->view;
    struct iter_entry *entry = &ti->entry;
    ti->index = index;
    entry->key.data = ti->key.data;
    entry->key.size = v->prefix_size + block_copy_suffix(v, index, ti->key.data + v->prefix_size);
    entry->head = whole_head(ti, index);
    entry->trailer = block_trailer(v, index);
    entry->value = block_value(v, index);
    prefetch_entries(v, index);
    ti->it.valid = true;
}

static void end(struct table_iter *ti)
{
    ti->it.valid = false;
}

static void show_first_of(struct table_iter *ti, uint32_t block_index)
{
    if (block_index >= ti->table->index.count)
        end(ti);
    else if (enter_block(ti, block_index))
        show(ti, 0);
}

static void show_last_of(struct table_iter *ti, uint32_t block_index)
{
    if (enter_block(ti, block_index))
        show(ti, ti->view.count - 1);
}

static struct table_iter *of(struct iter *it)
{
    return (struct table_iter *)it;
}

static void iter_first_entry(struct iter *it)
{
    it->status = LSM_OK;
    show_first_of(of(it), 0);
}

static void iter_last_entry(struct iter *it)
{
    it->status = LSM_OK;
    show_last_of(of(it), of(it)->table->index.count - 1);
}

static void iter_approach_entry(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct table_iter *ti = of(it);
    uint32_t index = table_index_find(&ti->table->index, key, trailer);
    ti->approached = index + 1;
    prefetch_block(ti, index);
}

/* The block in which (key, trailer) is, as approached or looked up now. */
static uint32_t find_block(struct table_iter *ti, lsm_slice key, uint64_t trailer)
{
    uint32_t approached = ti->approached;
    ti->approached = 0;
    return approached != 0 ? approached - 1 : table_index_find(&ti->table->index, key, trailer);
}

static void iter_seek_entry(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct table_iter *ti = of(it);
    it->status = LSM_OK;
    if (!enter_block(ti, find_block(ti, key, trailer)))
        return;
    uint32_t index = block_seek(&ti->view, key, trailer);
    if (index < ti->view.count)
        show(ti, index);
    else
        show_first_of(ti, ti->block_index + 1);
}

static void iter_seek_for_prev_entry(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct table_iter *ti = of(it);
    it->status = LSM_OK;
    if (!enter_block(ti, find_block(ti, key, trailer)))
        return;
    uint32_t index = block_seek(&ti->view, key, trailer);
    if (index < ti->view.count && block_compare(&ti->view, index, key, trailer) == 0)
        show(ti, index);
    else if (index > 0)
        show(ti, index - 1);
    else if (ti->block_index > 0)
        show_last_of(ti, ti->block_index - 1);
    else
        end(ti);
}

static void iter_next_entry(struct iter *it)
{
    struct table_iter *ti = of(it);
    assert(it->valid);
    if (ti->index + 1 < ti->view.count)
        show(ti, ti->index + 1);
    else
        show_first_of(ti, ti->block_index + 1);
}

static void iter_prev_entry(struct iter *it)
{
    struct table_iter *ti = of(it);
    assert(it->valid);
    if (ti->index > 0)
        show(ti, ti->index - 1);
    else if (ti->block_index > 0)
        show_last_of(ti, ti->block_index - 1);
    else
        end(ti);
}

static void iter_release_entry(struct iter *it)
{
    struct table_iter *ti = of(it);
    table_ahead_release(&ti->ahead);
    block_drop(ti->block);
    buffer_release(&ti->key);
    mem_free(ti);
}

static const struct iter_ops table_iter_ops = {
    .first = iter_first_entry,
    .last = iter_last_entry,
    .seek = iter_seek_entry,
    .seek_for_prev = iter_seek_for_prev_entry,
    .next = iter_next_entry,
    .prev = iter_prev_entry,
    .release = iter_release_entry,
    .approach = iter_approach_entry,
};

static void init_ahead(struct table_iter *ti, const struct table_iter_options *options)
{
    size_t half = options->readahead / TABLE_AHEAD_DEPTH;
    if (options->whole)
        table_ahead_init(&ti->ahead, ti->table, TABLE_AHEAD_WHOLE, TABLE_AHEAD_WHOLE,
                         TABLE_AHEAD_WHOLE_DEPTH);
    else if (options->readahead > 0)
        table_ahead_init(&ti->ahead, ti->table, half, half, TABLE_AHEAD_DEPTH);
    else
        table_ahead_init(&ti->ahead, ti->table, TABLE_AHEAD_FIRST, TABLE_AHEAD_MAX,
                         TABLE_AHEAD_DEPTH);
}

lsm_status table_iter_new(struct table *table, const struct table_iter_options *options,
                          struct iter **it, lsm_error *err)
{
    struct table_iter *ti = mem_alloc_zeroed(sizeof *ti);
    if (ti == NULL)
        return lsm_fail_memory(err, sizeof *ti);
    ti->it.ops = &table_iter_ops;
    ti->it.entry = &ti->entry;
    ti->table = table;
    ti->err = err;
    ti->flags = options->flags;
    ti->eager = options->whole || options->readahead > 0;
    init_ahead(ti, options);
    *it = &ti->it;
    return LSM_OK;
}
