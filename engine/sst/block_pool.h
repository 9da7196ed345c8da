/*
 * Memory for the blocks of a large cache: chunks of 2 MiB, which the kernel is asked to back with
 * huge pages, cut into slabs of 128 KiB and these into pieces of one size class each. A block is
 * then found through the few translations that the processor keeps, and evicting and loading blocks
 * does not stir the heap.
 *
 * A pool that is to get smaller is drained chunk by chunk: pieces that are left here and there
 * would keep all of them.
 *
 * Pieces may be given back after the cache has gone; the pool goes with the last of them.
 */
#ifndef ENGINE_SST_BLOCK_POOL_H
#define ENGINE_SST_BLOCK_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK_POOL_MAX_PIECE ((size_t)32 << 10) /* bytes; larger blocks come from the heap */

struct block_pool;

struct block_pool *block_pool_new(void); /* NULL when out of memory */
/* No more pieces will be taken. NULL is allowed. */
void block_pool_close(struct block_pool *pool);

/*
 * From now on a thread makes chunks ahead and touches them, an eighth of what is in use, for who
 * takes a piece not to wait for memory to be cleared; not beyond `most` bytes, nor beyond what the
 * last one who took a piece allowed. Without a thread, since none could be made, the pool works all
 * the same. Once, by one thread.
 */
void block_pool_touch_ahead(struct block_pool *pool, uint64_t most);

/* What a piece of `size` bytes really takes. */
size_t block_pool_piece_size(size_t size);

/* Memory behind all pieces, chunks that are being drained with it; and without these. */
uint64_t block_pool_bytes(const struct block_pool *pool);
uint64_t block_pool_lasting(const struct block_pool *pool);

/*
 * The chunk that the piece is in: no piece of it is taken any more, and it is freed with the last
 * that is given back. Who wants that soon gives up all that block_pool_chunk() says are in it.
 */
#define BLOCK_POOL_CHUNK ((size_t)2 << 20)
void block_pool_drain(struct block_pool *pool, const void *piece);
bool block_pool_is_draining(const void *piece);
static inline uintptr_t block_pool_chunk(const void *piece)
{
    return (uintptr_t)piece & ~(uintptr_t)(BLOCK_POOL_CHUNK - 1);
}

/* All pieces of a slab have one size; as soon as all of them are given back it may get another. */
#define BLOCK_POOL_SLAB ((size_t)128 << 10)
static inline uintptr_t block_pool_slab(const void *piece)
{
    return (uintptr_t)piece & ~(uintptr_t)(BLOCK_POOL_SLAB - 1);
}

/* Bytes of chunks that nobody uses. Part of block_pool_bytes(), which counts, besides, those that
 * are being made. */
uint64_t block_pool_empty(struct block_pool *pool);

/* Frees chunks that nobody uses, touched ahead or left over, while more than `most` bytes last. */
void block_pool_trim(struct block_pool *pool, uint64_t most);

/* Bytes of pieces that are out of use and not given back yet, as those who use it tell. */
void block_pool_note_retired(struct block_pool *pool, uint64_t bytes);
void block_pool_note_freed(struct block_pool *pool, uint64_t bytes);
uint64_t block_pool_retired(const struct block_pool *pool);

/* At most BLOCK_POOL_MAX_PIECE bytes, aligned to 64. NULL when out of memory, or when it would take
 * one more chunk than fits into `most` bytes. Any thread. */
void *block_pool_take(struct block_pool *pool, size_t size, uint64_t most);
void block_pool_give_back(struct block_pool *pool, void *piece);

#endif
