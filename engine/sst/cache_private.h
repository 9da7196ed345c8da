/* How tables put blocks into the cache and take them out. */
#ifndef ENGINE_SST_CACHE_PRIVATE_H
#define ENGINE_SST_CACHE_PRIVATE_H

#include "engine/format/compress.h"
#include "engine/sst/cache.h"

/* An uncached block with one reference, its data unset. NULL when out of memory. */
struct block *block_new(struct block_cache *cache, size_t size);

/*
 * Puts a block that nobody else knows into `slot`; its one reference becomes the slot's. Inside an
 * epoch. Returns the block to use until epoch_exit(): this one, or the one that another thread was
 * faster with. NULL when the cache does not take it: the caller still owns it.
 */
struct block *block_cache_insert(struct block_cache *cache, void *_Atomic *slot,
                                 struct block *block);

/* The block in `slot`, counted as a hit and marked as used, or NULL, counted as a miss. Inside an
 * epoch. */
struct block *block_cache_find(struct block_cache *cache, void *_Atomic *slot);

/* The same without a trace. */
struct block *block_cache_peek(void *_Atomic *slot);

/* Empties `slot` for good; nobody reads through it any more. */
void block_cache_remove(struct block_cache *cache, void *_Atomic *slot);

struct decompress_pool *block_cache_pool(struct block_cache *cache);

#endif
