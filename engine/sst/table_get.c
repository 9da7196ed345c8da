/* Point reads: filter, index, slot, tags. Nothing is allocated when the block is in memory. */
#include "engine/sst/table_fetch.h"
#include "engine/sst/table_private.h"

#include <assert.h>

void table_prefetch_filter(const struct table *table, uint64_t hash)
{
    if (table->filter_size > 0)
        __builtin_prefetch(table->filter + table_filter_offset(table->filter_size, hash));
}

/* Looks into a block; a block that holds no answer is dropped when it is owned. */
static bool find_in_block(const struct table *table, struct block *block, bool owned, lsm_slice key,
                          uint64_t hash, uint64_t max_sequence, struct table_found *found)
{
    struct block_view view = block_view_of(block->data);
    block_view_raise(&view, table->properties.sequence_base);
    uint32_t index;
    if (!block_find(&view, key, hash, entry_seek_trailer(max_sequence), &index)) {
        if (owned)
            block_drop(block);
        return false;
    }
    *found = (struct table_found){
        .trailer = block_trailer(&view, index),
        .value = block_value(&view, index),
        .block = block,
        .owned = owned,
    };
    return true;
}

lsm_status table_get(struct table *table, lsm_slice key, uint64_t hash, uint64_t max_sequence,
                     unsigned flags, bool *is_found, struct table_found *found, lsm_error *err)
{
    assert(epoch_is_inside());
    *is_found = false;
    if (!table_filter_may_have(table->filter, table->filter_size, hash))
        return LSM_OK;
    uint32_t index = table_index_find(&table->index, key, entry_seek_trailer(max_sequence));
    struct block *block;
    bool owned;
    lsm_status status = table_block_get(table, index, flags, &block, &owned, err);
    if (status == LSM_OK)
        *is_found = find_in_block(table, block, owned, key, hash, max_sequence, found);
    return status;
}

/* ---- in steps -------------------------------------------------------------------------------- */

static void probe_block(struct table_probe *probe, struct block *block, bool owned,
                        enum table_probe_state *state)
{
    bool is_found = find_in_block(probe->table, block, owned, probe->key, probe->hash,
                                  probe->max_sequence, &probe->found);
    *state = is_found ? TABLE_PROBE_FOUND : TABLE_PROBE_ABSENT;
}

#define CACHE_LINE     64
#define PREFETCH_LINES 3 /* of a block: its header, its tags, and where its heads begin */

bool table_probe_locate(struct table_probe *probe)
{
    assert(epoch_is_inside());
    const struct table *table = probe->table;
    if (!table_filter_may_have(table->filter, table->filter_size, probe->hash))
        return false;
    probe->block_index =
        table_index_find(&table->index, probe->key, entry_seek_trailer(probe->max_sequence));
    const struct block *block = block_cache_peek(&table->index.entries[probe->block_index].slot);
    if (block != NULL) {
        __builtin_prefetch(block);
        for (size_t i = 0; i < PREFETCH_LINES; i++)
            __builtin_prefetch(block->data + i * CACHE_LINE);
    }
    probe->located = true;
    return true;
}

void table_probe_approach(const struct table_probe *probe)
{
    const struct block *block =
        block_cache_peek(&probe->table->index.entries[probe->block_index].slot);
    if (block == NULL)
        return;
    struct block_view view = block_view_of(block->data);
    block_prefetch(&view, probe->hash);
}

lsm_status table_probe_begin(struct table_probe *probe, enum table_probe_state *state,
                             lsm_error *err)
{
    assert(epoch_is_inside());
    struct table *table = probe->table;
    probe->read_memory = NULL;
    *state = TABLE_PROBE_ABSENT;
    if (!probe->located && !table_probe_locate(probe))
        return LSM_OK;
    struct block *block =
        block_cache_find(table->env->cache, &table->index.entries[probe->block_index].slot);
    if (block != NULL) {
        probe_block(probe, block, false, state);
        return LSM_OK;
    }
    size_t size = table_fetch_size(table, probe->block_index);
    probe->read_memory = mem_alloc_aligned(IO_ALIGNMENT, size);
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
        probe_block(probe, block, owned, state);
    mem_free(probe->read_memory);
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
    return block_cache_find(table->env->cache, &table->index.entries[index].slot);
}

bool table_fetch_look(const struct table *table, struct block *block, lsm_slice key, uint64_t hash,
                      uint64_t max_sequence, struct table_found *found)
{
    return find_in_block(table, block, false, key, hash, max_sequence, found);
}
