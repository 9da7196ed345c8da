/* What the parts of the table reader share. */
#ifndef ENGINE_SST_TABLE_PRIVATE_H
#define ENGINE_SST_TABLE_PRIVATE_H

#include "engine/base/memory.h"
#include "engine/format/compress.h"
#include "engine/format/table_filter.h"
#include "engine/format/table_format.h"
#include "engine/format/table_index.h"
#include "engine/format/table_properties.h"
#include "engine/sst/cache_private.h"
#include "engine/sst/guess.h"
#include "engine/sst/table.h"

struct table {
    /* Set at open. */
    const struct table_env *env;
    struct io_file *file;
    uint64_t number;
    struct table_index index; /* its slots are atomic */
    uint8_t *filter;          /* owned; NULL: none */
    size_t filter_size;
    uint64_t charged;                         /* bytes, to the cache */
    struct decompress_dictionary *dictionary; /* NULL: none */
    size_t dictionary_size;
    struct table_properties properties;
    /* Changes. */
    _Atomic uint32_t habit; /* bytes that iterators use from a missing block on; 0: not known */
    _Atomic uint64_t guess; /* where entries are in their blocks: guess.h */
};

/* The bytes of the file that hold data blocks [first, limit), with their padding. */
struct table_span {
    uint64_t offset;
    uint64_t size;
};

static inline struct table_span table_blocks_span(const struct table *table, uint32_t first,
                                                  uint32_t limit)
{
    uint64_t offset = table->index.offsets[first];
    return (struct table_span){offset, table->index.offsets[limit] - offset};
}

/* The whole pages around a span. */
static inline struct table_span table_pages(struct table_span span)
{
    uint64_t first = span.offset & ~(uint64_t)(TABLE_PAGE_SIZE - 1);
    uint64_t limit =
        (span.offset + span.size + TABLE_PAGE_SIZE - 1) & ~(uint64_t)(TABLE_PAGE_SIZE - 1);
    return (struct table_span){first, limit - first};
}

/* Memory for whole pages that direct I/O accepts; freed with mem_free_buffer(). */
static_assert(MEM_PAGE % IO_ALIGNMENT == 0, "a buffer is aligned for direct I/O");
static inline uint8_t *table_alloc_pages(uint64_t size)
{
    return size > SIZE_MAX ? NULL : mem_alloc_buffer((size_t)size);
}

static inline void *_Atomic *table_slot(const struct table *table, uint32_t index)
{
    return &table->index.entries[index].slot;
}

/* The block from the cache, or NULL. Inside an epoch. */
static inline struct block *table_block_find(const struct table *table, uint32_t index)
{
    return block_cache_find(table->env->cache, table_slot(table, index), table->number, index);
}

/*
 * Verifies and decodes block `index`, whose frame stands at `bytes`, into a new block with one
 * reference, owned by the caller.
 */
lsm_status table_block_decode(const struct table *table, uint32_t index, const uint8_t *bytes,
                              struct block **block, lsm_error *err);

/* Reads and decodes block `index`, past the cache. */
lsm_status table_block_read(const struct table *table, uint32_t index, struct block **block,
                            lsm_error *err);

/* Hands a decoded block to the cache unless TABLE_NO_FILL. Inside an epoch. Returns the block to
 * use; *owned tells that its reference is the caller's. */
struct block *table_block_publish(struct table *table, uint32_t index, unsigned flags,
                                  struct block *block, bool *owned);

/* The block from cache or file. Inside an epoch. */
lsm_status table_block_get(struct table *table, uint32_t index, unsigned flags,
                           struct block **block, bool *owned, lsm_error *err);

/* What `g` was made for was found: `place` bytes behind the first one of the block's data. */
void table_guess_learn(struct table *table, struct guess g, uint64_t share, const uint8_t *block,
                       uint32_t place);

/* Fills *err for damage of block or part `what` at `offset`. */
lsm_status table_fail_corrupt(const struct table *table, const char *what, uint64_t offset,
                              const struct table_problem *problem, lsm_error *err);

#endif
