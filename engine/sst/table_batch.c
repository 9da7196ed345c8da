/*
 * A key is put together from three places: the block's prefix, its head, and the rest. Keys stand
 * one behind the other with some room after each, so that a short prefix and a head are stored as
 * whole words.
 */
#include "engine/sst/table_batch.h"

#define BATCH_KEY_BYTES ((size_t)4096) /* of all keys, unless one alone is longer */
#define KEY_SLACK       ((size_t)TABLE_BATCH_SHORT_PREFIX) /* behind each */

/* Room for entry `index`'s key. */
static inline size_t key_room(const struct block_view *v, size_t index)
{
    return block_key_size(v, index) + KEY_SLACK;
}

/* Of `count` entries, those whose keys fit together; and the room that they need. */
static uint32_t count_fitting(const struct block_view *v, uint32_t first, uint32_t count,
                              size_t *room)
{
    if (!(v->flags & BLOCK_KEY_SIZES)) {
        size_t each = key_room(v, first);
        if (count > 1 && count * each > BATCH_KEY_BYTES)
            count = each > BATCH_KEY_BYTES ? 1 : (uint32_t)(BATCH_KEY_BYTES / each);
        *room = count * each;
        return count;
    }
    size_t sum = key_room(v, first);
    uint32_t fitting = 1;
    for (; fitting < count; fitting++) {
        size_t one = key_room(v, first + fitting);
        if (sum + one > BATCH_KEY_BYTES)
            break;
        sum += one;
    }
    *room = sum;
    return fitting;
}

static inline void put_prefix(uint8_t *to, const struct table_batch_block *b)
{
    memcpy(to, b->prefix, sizeof b->prefix);
    if (__builtin_expect(b->view.prefix_size > sizeof b->prefix, 0))
        memcpy(to, b->view.prefix, b->view.prefix_size);
}

/* The head of a key, from its parts: what was just written in pieces is slow to read whole. */
static inline uint64_t whole_head(const struct table_batch_block *b, uint64_t head)
{
    if (b->prefix_in_heads >= sizeof head)
        return b->prefix_head;
    return b->prefix_head | head >> (8 * b->prefix_in_heads);
}

/* `flags` are the view's, known to the compiler where that makes the loop shorter. */
static inline __attribute__((always_inline)) void decode(struct table_batch *batch,
                                                         const struct table_batch_block *block,
                                                         uint32_t first, unsigned flags)
{
    struct block_view v = block->view;
    v.flags = flags;
    uint8_t *to = batch->keys.data;
    size_t offset = block_offset(&v, first);
    for (uint32_t i = 0; i < batch->count; i++) {
        size_t index = first + i;
        struct iter_entry *e = &batch->entries[i];
        size_t suffix = block_suffix_size(&v, index), rest = block_rest_size(&v, index);
        size_t next = block_offset(&v, index + 1);
        uint64_t head = block_head(&v, index), bytes = BYTES_BE64(head);
        put_prefix(to, block);
        memcpy(to + v.prefix_size, &bytes, sizeof bytes);
        if (rest > 0)
            bytes_copy(to + v.prefix_size + BLOCK_HEAD_SIZE, v.data + offset, rest);
        e->head = whole_head(block, head);
        e->key = (lsm_slice){to, v.prefix_size + suffix};
        e->trailer = block_trailer(&v, index);
        e->value = (lsm_slice){v.data + offset + rest, next - offset - rest};
        __builtin_prefetch(v.data + next);
        offset = next;
        to += v.prefix_size + suffix + KEY_SLACK;
    }
}

bool table_batch_fill(struct table_batch *batch, const struct table_batch_block *block,
                      uint32_t first, uint32_t count)
{
    const struct block_view *v = &block->view;
    size_t room;
    batch->count =
        count_fitting(v, first, count < TABLE_BATCH_MAX ? count : TABLE_BATCH_MAX, &room);
    if (room > batch->keys.capacity && !buffer_reserve(&batch->keys, room))
        return false;
    if (v->flags == 0)
        decode(batch, block, first, 0);
    else if (v->flags == BLOCK_SHORT_TRAILERS)
        decode(batch, block, first, BLOCK_SHORT_TRAILERS);
    else
        decode(batch, block, first, v->flags);
    return true;
}

void table_batch_release(struct table_batch *batch)
{
    buffer_release(&batch->keys);
    batch->count = 0;
}
