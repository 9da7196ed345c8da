/*
 * Point reads: filter, index, slot, tags. Nothing is allocated when the block is in memory. The
 * block's columns and, where it can be guessed, the entry are fetched before either is looked at.
 */
#include "engine/sst/table_fetch.h"
#include "engine/sst/table_private.h"

#include <assert.h>

void table_prefetch_filter(const struct table *table, uint64_t hash)
{
    if (table->filter_size > 0)
        __builtin_prefetch(table->filter + table_filter_offset(table->filter_size, hash));
}

#define CACHE_LINE           64
#define GET_PREFETCH_LINES   13 /* of a block's data: the columns of some seventy entries */
#define PROBE_PREFETCH_LINES 2  /* the header and the tags of most blocks */

/* The block, if the slot leads to it. */
static const struct block *glance(const struct table *table, uint32_t index)
{
    return block_cache_glance(table_slot(table, index), table->number, index);
}

/*
 * Begins to fetch what is read first of the block that the slot leads to, reading nothing of it:
 * the data of a block of the process's own stands right behind its head.
 */
static inline void prefetch_block(const struct table *table, uint32_t index, size_t lines)
{
    const uint8_t *block = atomic_load_explicit(table_slot(table, index), memory_order_relaxed);
    if (block == NULL)
        return;
    __builtin_prefetch(block, 1); /* its references will be counted */
    for (size_t i = 1; i <= lines; i++)
        __builtin_prefetch(block + i * CACHE_LINE);
}

static inline struct block_view view_of(const struct table *table, const struct block *block)
{
    struct block_view view = block_view_of(block_data(block));
    block_view_raise(&view, table->properties.sequence_base);
    return view;
}

/* The answer of a block; one that holds none is dropped when it is owned. */
static inline bool take_answer(bool is_there, const struct block_view *view, uint32_t index,
                               struct block *block, bool owned, struct table_found *found)
{
    if (!is_there) {
        if (owned)
            block_drop(block);
        return false;
    }
    *found = (struct table_found){
        .trailer = block_trailer(view, index),
        .value = block_value(view, index),
        .block = block,
        .owned = owned,
    };
    return true;
}

static bool find_in_block(const struct table *table, struct block *block, bool owned, lsm_slice key,
                          uint64_t hash, uint64_t max_sequence, uint32_t shared,
                          struct table_found *found)
{
    struct block_view view = view_of(table, block);
    uint32_t index;
    bool is_there = block_find(&view, key, hash, entry_seek_trailer(max_sequence), shared, &index);
    return take_answer(is_there, &view, index, block, owned, found);
}

/* Begins to fetch the bytes around the guessed place of an entry's value. */
static inline void prefetch_guessed(const struct table *table, uint32_t index, uint32_t place)
{
    const uint8_t *block = atomic_load_explicit(table_slot(table, index), memory_order_relaxed);
    if (block == NULL)
        return;
    for (int i = -1; i <= 1; i++)
        __builtin_prefetch(block + CACHE_LINE + place + i * CACHE_LINE);
}

void table_guess_learn(struct table *table, struct guess g, uint64_t share, const uint8_t *block,
                       uint32_t place)
{
    struct guess next;
    if (guess_was_right(g, share, place)) {
        next = guess_praised(g);
    } else {
        struct block_view view = block_view_of(block);
        next = guess_corrected(g, block_offset(&view, 0), block_offset(&view, view.count));
    }
    if (guess_pack(next) != guess_pack(g))
        atomic_store_explicit(&table->guess, guess_pack(next), memory_order_relaxed);
}

static inline void learn(struct table *table, struct guess g, uint64_t share,
                         const struct table_found *found)
{
    const uint8_t *data = block_data(found->block);
    table_guess_learn(table, g, share, data, (uint32_t)((const uint8_t *)found->value.data - data));
}

lsm_status table_get(struct table *table, lsm_slice key, uint64_t hash, uint64_t max_sequence,
                     unsigned flags, bool *is_found, struct table_found *found, lsm_error *err)
{
    assert(epoch_is_inside());
    *is_found = false;
    if (!table_filter_may_have(table->filter, table->filter_size, hash))
        return LSM_OK;
    struct table_index_search search;
    uint32_t shared;
    table_index_search_begin(&table->index, key, &search);
    uint32_t index =
        table_index_search_end(&table->index, &search, entry_seek_trailer(max_sequence), &shared);
    prefetch_block(table, index, GET_PREFETCH_LINES);
    /* Shorter ones are compared by their heads alone. */
    bool is_long = key.size > shared + BLOCK_HEAD_SIZE;
    struct guess g = guess_unpack(atomic_load_explicit(&table->guess, memory_order_relaxed));
    uint64_t share = GUESS_WHOLE;
    if (is_long)
        share = table_index_share(&table->index, &search, index, GUESS_WHOLE);
    if (share < GUESS_WHOLE && guess_is_trusted(g))
        prefetch_guessed(table, index, guess_place(g, share));
    struct block *block;
    bool owned;
    lsm_status status = table_block_get(table, index, flags, &block, &owned, err);
    if (status != LSM_OK)
        return status;
    *is_found = find_in_block(table, block, owned, key, hash, max_sequence, shared, found);
    if (*is_found && share < GUESS_WHOLE && guess_wants_answer(g, hash))
        learn(table, g, share, found);
    return LSM_OK;
}

/* ---- in steps -------------------------------------------------------------------------------- */

bool table_probe_locate(struct table_probe *probe)
{
    assert(epoch_is_inside());
    const struct table *table = probe->table;
    if (!table_filter_may_have(table->filter, table->filter_size, probe->hash))
        return false;
    table_index_search_begin(&table->index, probe->key, &probe->search);
    probe->is_located = true;
    probe->has_block_index = false;
    return true;
}

void table_probe_find_block(struct table_probe *probe)
{
    probe->block_index =
        table_index_search_end(&probe->table->index, &probe->search,
                               entry_seek_trailer(probe->max_sequence), &probe->shared);
    probe->has_block_index = true;
    probe->view.data = NULL;
    probe->block = NULL;
    prefetch_block(probe->table, probe->block_index, PROBE_PREFETCH_LINES);
}

void table_probe_approach(struct table_probe *probe)
{
    probe->block = glance(probe->table, probe->block_index);
    if (probe->block == NULL)
        return;
    probe->view = view_of(probe->table, probe->block);
    block_approach(&probe->view, probe->hash, probe->shared);
}

void table_probe_approach_entry(struct table_probe *probe)
{
    if (probe->block != NULL)
        probe->entry = block_approach_entry(&probe->view, probe->key, probe->hash);
}

bool table_probe_wants_same(const struct table_probe *a, const struct table_probe *b)
{
    return a->table == b->table && a->block_index == b->block_index;
}

static void look_into(struct table_probe *probe, struct block *block, bool owned,
                      enum table_probe_state *state)
{
    bool is_there;
    uint32_t index;
    uint64_t trailer = entry_seek_trailer(probe->max_sequence);
    if (probe->view.data == block_data(block)) {
        is_there = block_find_at(&probe->view, probe->key, probe->hash, trailer, probe->shared,
                                 probe->entry, &index);
    } else {
        probe->view = view_of(probe->table, block);
        is_there =
            block_find(&probe->view, probe->key, probe->hash, trailer, probe->shared, &index);
    }
    bool is_found = take_answer(is_there, &probe->view, index, block, owned, &probe->found);
    *state = is_found ? TABLE_PROBE_FOUND : TABLE_PROBE_ABSENT;
}

lsm_status table_probe_begin(struct table_probe *probe, enum table_probe_state *state,
                             lsm_error *err)
{
    assert(epoch_is_inside());
    struct table *table = probe->table;
    probe->read_memory = NULL;
    *state = TABLE_PROBE_ABSENT;
    if (!probe->is_located && !table_probe_locate(probe))
        return LSM_OK;
    if (!probe->has_block_index)
        table_probe_find_block(probe);
    struct block *block = table_block_find(table, probe->block_index);
    if (block != NULL) {
        look_into(probe, block, false, state);
        return LSM_OK;
    }
    size_t size = table_fetch_size(table, probe->block_index);
    probe->read_memory = table_alloc_pages(size);
    if (probe->read_memory == NULL)
        return lsm_fail_memory(err, size);
    void *owner = probe->request.owner;
    table_fetch_begin(table, probe->block_index, probe->read_memory, &probe->request);
    probe->request.owner = owner;
    *state = TABLE_PROBE_READ;
    return LSM_OK;
}

lsm_status table_probe_finish(struct table_probe *probe, enum table_probe_state *state,
                              lsm_error *err)
{
    assert(epoch_is_inside());
    struct block *block;
    bool owned;
    *state = TABLE_PROBE_ABSENT;
    lsm_status status = table_fetch_finish(probe->table, probe->block_index, probe->flags,
                                           &probe->request, &block, &owned, err);
    if (status == LSM_OK)
        look_into(probe, block, owned, state);
    mem_free_buffer(probe->read_memory, table_fetch_size(probe->table, probe->block_index));
    probe->read_memory = NULL;
    return status;
}

/* ---- apart from their reads ------------------------------------------------------------------ */

bool table_fetch_locate(const struct table *table, lsm_slice key, uint64_t hash,
                        uint64_t max_sequence, uint32_t *index)
{
    if (!table_filter_may_have(table->filter, table->filter_size, hash))
        return false;
    *index = table_index_find(&table->index, key, entry_seek_trailer(max_sequence));
    return true;
}

struct block *table_fetch_cached(struct table *table, uint32_t index)
{
    assert(epoch_is_inside());
    return table_block_find(table, index);
}

bool table_fetch_look(const struct table *table, struct block *block, lsm_slice key, uint64_t hash,
                      uint64_t max_sequence, struct table_found *found)
{
    return find_in_block(table, block, false, key, hash, max_sequence, 0, found);
}
