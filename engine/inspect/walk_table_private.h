/* What stands behind struct walk_table; for walk_table.c and walk_block.c. */
#ifndef ENGINE_INSPECT_WALK_TABLE_PRIVATE_H
#define ENGINE_INSPECT_WALK_TABLE_PRIVATE_H

#include "engine/format/compress.h"
#include "engine/inspect/walk_table.h"

struct walk {
    struct walk_table base;
    struct walk_env env; /* memory_limit is set */
    struct io_file *file;
    struct walk_stream *stream; /* NULL before the first block */
    bool want_digest;
    struct decompress_pool *pool;
    struct decompress_dictionary *prepared; /* NULL: none, or damaged */
    uint8_t *filter_memory;
    struct hash_stream *hash; /* made when first needed */

    /* where the walk is */
    uint64_t offset;
    uint32_t next_block;  /* in the index */
    uint64_t search_left; /* bytes that may still be hashed to find frames behind damage */

    struct buffer raw;
    struct buffer last_key; /* of the good block before; empty and !has_last_key: none */
    bool has_last_key;
    struct buffer bound_first, bound_last;
    struct buffer smallest, largest; /* base.first, base.last */
};

static inline struct walk *walk_of(struct walk_table *table)
{
    return (struct walk *)table;
}

/* How many bytes may be hashed to find frames in a file of this size: keeps a file that is full of
 * magic words from taking for ever. */
static inline uint64_t walk_search_budget(uint64_t file_size)
{
    return 8 * file_size + ((uint64_t)64 << 20);
}

/*
 * The first frame that stands whole in [offset, limit), at a multiple of its alignment; or `limit`
 * when there is none, or the budget is used up. Reads by itself, not through the stream.
 */
lsm_status walk_find_frame(struct walk *w, uint64_t offset, uint64_t limit, uint64_t *found,
                           struct table_frame *frame, lsm_error *err);

#endif
