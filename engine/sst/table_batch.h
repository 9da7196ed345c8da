/*
 * Some entries of a block that follow each other, taken out of its columns at once: a walk then
 * goes from one to the next without a call and without asking again what kind of block it is in.
 */
#ifndef ENGINE_SST_TABLE_BATCH_H
#define ENGINE_SST_TABLE_BATCH_H

#include "engine/base/buffer.h"
#include "engine/format/block.h"
#include "engine/iter/iter.h"

#define TABLE_BATCH_MAX 32u /* entries */

#define TABLE_BATCH_SHORT_PREFIX 16u /* bytes: of a prefix that is stored as one word */

/* A block, and its prefix as it is put before every key and into every head. */
struct table_batch_block {
    struct block_view view;
    uint8_t prefix[TABLE_BATCH_SHORT_PREFIX]; /* of a short one */
    uint64_t prefix_head;                     /* of the part of it that is in heads, */
    uint32_t prefix_in_heads;                 /* and the size of that */
};

/* Heads of entries begin behind `common_size` bytes of their keys: the block's prefix is no
 * shorter. */
static inline void table_batch_block_init(struct table_batch_block *b, const uint8_t *data,
                                          uint64_t sequence_base, size_t common_size)
{
    struct block_view *v = &b->view;
    *v = block_view_of(data);
    block_view_raise(v, sequence_base);
    uint32_t common = common_size < v->prefix_size ? (uint32_t)common_size : v->prefix_size;
    bytes_copy(b->prefix, v->prefix,
               v->prefix_size <= sizeof b->prefix ? v->prefix_size : sizeof b->prefix);
    b->prefix_in_heads = v->prefix_size - common;
    b->prefix_head = bytes_head(v->prefix + common, b->prefix_in_heads);
}

struct table_batch {
    uint32_t count;
    struct buffer keys;                         /* zeroed at first */
    struct iter_entry entries[TABLE_BATCH_MAX]; /* values are in the block */
};

/*
 * Takes entries [first, first + count) of the block: at least one of them, and fewer than `count`
 * when their keys are long. False when out of memory.
 */
bool table_batch_fill(struct table_batch *batch, const struct table_batch_block *block,
                      uint32_t first, uint32_t count);
void table_batch_release(struct table_batch *batch);

#endif
