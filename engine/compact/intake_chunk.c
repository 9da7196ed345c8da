/* Entries in memory: records in one arena, and an item of 16 bytes for each. */
#include "engine/compact/intake_private.h"

#include "engine/base/memory.h"

#define ITEMS_AT_FIRST 1024

size_t chunk_memory(const struct chunk *c)
{
    return c->used + c->count * 2 * sizeof *c->items;
}

bool chunk_has_room(const struct chunk *c, lsm_slice key, lsm_slice value)
{
    return c->arena != NULL && c->arena_size - c->used >= record_size(key.size, value.size);
}

/* An empty chunk's arena, of `size` bytes. */
static bool make_arena(struct chunk *c, size_t size)
{
    mem_free_buffer(c->arena, c->arena_size);
    c->arena = mem_alloc_buffer(size);
    c->arena_size = c->arena == NULL ? 0 : size;
    return c->arena != NULL;
}

static bool grow_items(struct chunk *c)
{
    size_t room = c->room == 0 ? ITEMS_AT_FIRST : c->room * 2;
    struct head_item *grown = mem_resize(c->items, room * sizeof *grown);
    if (grown == NULL)
        return false;
    c->items = grown;
    c->room = room;
    return true;
}

/* What all keys begin with is the first key's beginning; the heads before this one show more. */
static void shrink_prefix(struct chunk *c, lsm_slice key)
{
    lsm_slice prefix = {record_key(c->arena).data, c->prefix_size};
    c->prefix_size = slice_common_prefix(prefix, key);
    c->stale_heads = c->count;
}

static inline uint64_t head_of(struct chunk *c, lsm_slice key)
{
    if (c->count == 0)
        c->prefix_size = key.size;
    else if (key.size < c->prefix_size ||
             memcmp(key.data, record_key(c->arena).data, c->prefix_size) != 0)
        shrink_prefix(c, key);
    return bytes_head((const uint8_t *)key.data + c->prefix_size, key.size - c->prefix_size);
}

bool chunk_add(struct chunk *c, size_t arena_size, uint32_t cf, enum entry_type type, lsm_slice key,
               lsm_slice value)
{
    size_t size = record_size(key.size, value.size);
    if (arena_size > CHUNK_ARENA_MAX)
        arena_size = CHUNK_ARENA_MAX;
    if (!chunk_has_room(c, key, value) && !make_arena(c, size > arena_size ? size : arena_size))
        return false;
    if (c->count == c->room && !grow_items(c))
        return false;
    record_put(c->arena + c->used, type, key, value);
    c->items[c->count] = (struct head_item){
        .head = head_of(c, key), .place = (uint32_t)(c->used / RECORD_ALIGNMENT), .mark = cf};
    c->has_several = c->has_several || c->items[0].mark != cf;
    c->count++;
    c->used += size;
    return true;
}

void chunk_clear(struct chunk *c)
{
    c->used = 0;
    c->count = 0;
    c->stale_heads = 0;
    c->has_several = false;
    c->is_unsorted = false;
}

void chunk_release(struct chunk *c)
{
    mem_free_buffer(c->arena, c->arena_size);
    mem_free(c->items);
    mem_free(c->scratch);
    *c = (struct chunk){0};
}
