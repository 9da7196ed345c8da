/*
 * The block cache: decoded blocks of all open tables of a database, bounded in bytes.
 *
 * There is no hash table. Every open table has an array with one slot a block; a slot holds a
 * pointer to the block in memory, or nothing. A hit is one load next to the index. A hand walks the
 * cached blocks in a circle and evicts those not touched since its last round (CLOCK); readers set
 * the touched mark only when it is clear, so hot blocks are not written to.
 *
 * Blocks are the process's own, or stand in frames that all processes of the population share
 * (engine/shm/frames.h): then the bounds are those of the frames, and the process's own cache, an
 * eighth of what it would be, holds what finds no place there. A slot may then hold an old pointer
 * to a frame, so every block carries its identity, and finding compares.
 *
 * Lifetime: a block found through a slot may be used until epoch_exit(); to keep it longer take a
 * reference with block_keep(). An evicted block is freed when nobody is inside and the last
 * reference is dropped.
 */
#ifndef ENGINE_SST_CACHE_H
#define ENGINE_SST_CACHE_H

#include "engine/base/epoch.h"
#include "engine/base/status.h"
#include "engine/shm/frames.h"

struct block_cache;

#define BLOCK_CACHE_POOLED                                                                         \
    ((uint64_t)4 << 20) /* bytes; smaller caches have their blocks in the heap */

struct block { /* a shared frame, or what a block of the process's own begins with */
    struct shm_frame frame;
};

/* Decoded form. */
static inline const uint8_t *block_data(const struct block *block)
{
    return shm_frame_data(&block->frame);
}

/* NULL when out of memory. Capacity 0: blocks are read, used and dropped. */
struct block_cache *block_cache_new(uint64_t capacity_bytes);
/* Closes the frames, too. Every table has been closed. NULL is allowed. */
void block_cache_free(struct block_cache *cache);
/*
 * From now on what block_cache_charge() counts beyond `free_bytes` comes out of the capacity, down
 * to `least` bytes: one number for blocks and for what tables hold besides. Memory that blocks
 * waste is held to that, too. Before the cache is used, and for one of BLOCK_CACHE_POOLED bytes or
 * more; others stay as they are.
 */
void block_cache_lend(struct block_cache *cache, uint64_t free_bytes, uint64_t least);
/* Somebody holds so many bytes more, or fewer; blocks give way at once. Any thread. */
void block_cache_charge(struct block_cache *cache, int64_t bytes);
/* From now on blocks are shared; the cache is empty. The frames are the cache's. */
void block_cache_share(struct block_cache *cache, struct shm_frames *frames);
/* From now on a thread touches memory for blocks before it is needed (see block_pool.h). Once,
 * after what was lent and shared. */
void block_cache_touch_ahead(struct block_cache *cache);
/* NULL: they are not. */
struct shm_frames *block_cache_frames(const struct block_cache *cache);
/* What blocks that are not shared may take together now. */
uint64_t block_cache_room(const struct block_cache *cache);
uint64_t block_cache_bytes(const struct block_cache *cache); /* of blocks that are not shared */
/* The memory behind them, partly used slabs and all. */
uint64_t block_cache_memory(const struct block_cache *cache);
void block_cache_counts(const struct block_cache *cache, uint64_t *hits, uint64_t *misses);

/* Keeps a block beyond the epoch; called inside it, or by who holds a reference already. */
void block_keep(struct block *block);
void block_drop(struct block *block); /* NULL is allowed */

#endif
