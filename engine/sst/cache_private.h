/* How tables put blocks into the cache and take them out. A block is named by its file's number and
 * its index there; `slot` is its place in the table's index. */
#ifndef ENGINE_SST_CACHE_PRIVATE_H
#define ENGINE_SST_CACHE_PRIVATE_H

#include "engine/format/compress.h"
#include "engine/sst/cache.h"

/* An uncached block with one reference, its data unset. NULL when out of memory. */
struct block *block_new(struct block_cache *cache, size_t size);
/* Its data and that one's size, before anybody else knows it. */
uint8_t *block_memory(struct block *block);
size_t block_size(const struct block *block);

/*
 * Puts a block that nobody else knows into the cache; the caller's reference is the cache's then,
 * and the block may be gone, another one in its place. Inside an epoch. Returns the block to use
 * until epoch_exit(): this one, a copy that is shared, or the one that another thread was faster
 * with. NULL when the cache does not take it: the caller still owns it.
 */
struct block *block_cache_insert(struct block_cache *cache, void *_Atomic *slot, uint64_t number,
                                 uint32_t index, struct block *block);

/* The block, counted as a hit and marked as used, or NULL, counted as a miss. Inside an epoch. */
struct block *block_cache_find(struct block_cache *cache, void *_Atomic *slot, uint64_t number,
                               uint32_t index);

/* The same without a trace. */
struct block *block_cache_peek(struct block_cache *cache, void *_Atomic *slot, uint64_t number,
                               uint32_t index);

/* The block that `slot` alone leads to, or NULL. Inside an epoch. */
static inline struct block *block_cache_glance(void *_Atomic *slot, uint64_t number, uint32_t index)
{
    /* Acquire: pairs with the release that published the block. */
    struct block *block = atomic_load_explicit(slot, memory_order_acquire);
    return block != NULL && shm_frame_is(&block->frame, number, index) ? block : NULL;
}

/* What of the block is read first, to be prefetched and not read; NULL when it is not there. Also
 * outside an epoch. */
const uint8_t *block_cache_place(const struct block_cache *cache, void *_Atomic *slot,
                                 uint64_t number, uint32_t index);

/* Whether the block is there just now. Also outside an epoch. */
bool block_cache_has(struct block_cache *cache, void *_Atomic *slot, uint64_t number,
                     uint32_t index);

/* Empties `slot` for good; nobody reads through it any more. */
void block_cache_remove(struct block_cache *cache, void *_Atomic *slot);

struct decompress_pool *block_cache_pool(struct block_cache *cache);

#endif
