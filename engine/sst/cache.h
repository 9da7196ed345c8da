/*
 * The block cache: decoded blocks of all open tables of a database, bounded in bytes.
 *
 * There is no hash table. Every open table has an array with one slot a block; a slot holds a
 * pointer to the block in memory, or nothing. A hit is one load next to the index. A hand walks the
 * cached blocks in a circle and evicts those not touched since its last round (CLOCK); readers set
 * the touched mark only when it is clear, so hot blocks are not written to.
 *
 * Lifetime: a block found through a slot may be used until epoch_exit(); to keep it longer take a
 * reference with block_keep(). An evicted block is freed when nobody is inside and the last
 * reference is dropped.
 */
#ifndef ENGINE_SST_CACHE_H
#define ENGINE_SST_CACHE_H

#include "engine/base/epoch.h"
#include "engine/base/status.h"

#include <stdatomic.h>

struct block_cache;
struct block_pool;

struct block {
    struct epoch_retired retired;
    _Atomic uint32_t references; /* the slot's, and everybody's who keeps it */
    _Atomic bool touched;
    uint32_t ring_index;         /* the cache's, guarded by its lock */
    void *_Atomic *slot;         /* that points here; the cache's, guarded by its lock */
    size_t size;                 /* of data */
    struct block_pool *pool;     /* whose memory it is; NULL: the heap's */
    _Alignas(64) uint8_t data[]; /* decoded form */
};

/* NULL when out of memory. Capacity 0: blocks are read, used and dropped. */
struct block_cache *block_cache_new(uint64_t capacity_bytes);
void block_cache_free(struct block_cache *cache); /* every table has been closed */
uint64_t block_cache_bytes(const struct block_cache *cache);
/* The memory behind them, partly used slabs and all. */
uint64_t block_cache_memory(const struct block_cache *cache);
void block_cache_counts(const struct block_cache *cache, uint64_t *hits, uint64_t *misses);

/* Keeps a block beyond the epoch; called inside it, or by who holds a reference already. */
void block_keep(struct block *block);
void block_drop(struct block *block); /* NULL is allowed */

#endif
