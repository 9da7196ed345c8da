/*
 * CLOCK over a ring of blocks. A new block takes a place that an evicted one left, so it is looked
 * at last; the hand clears marks and evicts the unmarked. The lock is for insertion and eviction
 * only. Hits are counted on a line that, up to COUNTER_COUNT threads, no other thread writes; with
 * more threads a few counts may be lost, which is better than a locked instruction for every hit.
 */
#include "engine/sst/cache.h"
#include "engine/sst/cache_private.h"

#include "engine/base/memory.h"
#include "engine/sst/block_pool.h"

#include <assert.h>
#include <pthread.h>

#define LINE_SIZE      64
#define COUNTER_COUNT  64
#define FIRST_CAPACITY ((size_t)256)
#define POOL_SLACK     16 /* of the capacity one part in so many is for slabs in partial use */
#define POOL_CAPACITY  ((uint64_t)32 << 20) /* smaller caches leave the memory to the heap */

struct counter {
    _Alignas(LINE_SIZE) _Atomic uint64_t hits;
    _Atomic uint64_t misses;
};

struct block_cache {
    struct counter counters[COUNTER_COUNT];
    uint64_t capacity;
    struct decompress_pool *pool;
    struct block_pool *memory; /* NULL: the heap */
    _Alignas(LINE_SIZE) pthread_mutex_t lock;
    _Atomic uint64_t bytes; /* written under lock */
    struct block **ring;    /* guarded by lock, as all below; places may be NULL */
    uint32_t *holes;        /* stack of ring places that are NULL */
    size_t ring_capacity;   /* of ring and holes */
    size_t ring_size;       /* places in use or holes */
    size_t hole_count;
    size_t hand;
};

/* ---- blocks ---------------------------------------------------------------------------------- */

struct block *block_new(struct block_cache *cache, size_t size)
{
    size_t whole = sizeof(struct block) + size;
    struct block_pool *pool = whole <= BLOCK_POOL_MAX_PIECE ? cache->memory : NULL;
    struct block *block = pool == NULL ? mem_alloc_aligned(_Alignof(struct block), whole)
                                       : block_pool_take(pool, whole);
    if (block == NULL)
        return NULL;
    atomic_init(&block->references, 1);
    atomic_init(&block->touched, false);
    block->slot = NULL;
    block->size = size;
    block->pool = pool;
    return block;
}

void block_keep(struct block *block)
{
    uint32_t before = atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
}

void block_drop(struct block *block)
{
    if (block == NULL)
        return;
    /* Release: our reads are done; acquire: before the memory is reused. */
    if (atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel) != 1)
        return;
    if (block->pool != NULL)
        block_pool_give_back(block->pool, block);
    else
        mem_free(block);
}

static void drop_retired(struct epoch_retired *retired)
{
    block_drop((struct block *)(void *)((uint8_t *)retired - offsetof(struct block, retired)));
}

static uint64_t cost(const struct block *block)
{
    size_t whole = sizeof *block + block->size;
    return block->pool != NULL ? block_pool_piece_size(whole) : whole;
}

/* ---- cache ----------------------------------------------------------------------------------- */

struct block_cache *block_cache_new(uint64_t capacity_bytes)
{
    struct block_cache *cache = mem_alloc_aligned(LINE_SIZE, sizeof *cache);
    if (cache == NULL)
        return NULL;
    memset(cache, 0, sizeof *cache);
    cache->capacity = capacity_bytes;
    cache->pool = decompress_pool_new();
    if (cache->pool == NULL) {
        mem_free(cache);
        return NULL;
    }
    if (capacity_bytes >= POOL_CAPACITY)
        cache->memory = block_pool_new(); /* without one the heap serves */
    if (cache->memory != NULL)
        cache->capacity -= capacity_bytes / POOL_SLACK;
    pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

void block_cache_free(struct block_cache *cache)
{
    if (cache == NULL)
        return;
    assert(atomic_load(&cache->bytes) == 0);
    decompress_pool_free(cache->pool);
    block_pool_close(cache->memory);
    pthread_mutex_destroy(&cache->lock);
    mem_free(cache->ring);
    mem_free(cache->holes);
    mem_free(cache);
}

struct decompress_pool *block_cache_pool(struct block_cache *cache)
{
    return cache->pool;
}

uint64_t block_cache_bytes(const struct block_cache *cache)
{
    return atomic_load_explicit(&cache->bytes, memory_order_relaxed);
}

uint64_t block_cache_memory(const struct block_cache *cache)
{
    return cache->memory != NULL ? block_pool_bytes(cache->memory) : block_cache_bytes(cache);
}

void block_cache_counts(const struct block_cache *cache, uint64_t *hits, uint64_t *misses)
{
    *hits = 0;
    *misses = 0;
    for (size_t i = 0; i < COUNTER_COUNT; i++) {
        *hits += atomic_load_explicit(&cache->counters[i].hits, memory_order_relaxed);
        *misses += atomic_load_explicit(&cache->counters[i].misses, memory_order_relaxed);
    }
}

static struct counter *my_counter(struct block_cache *cache)
{
    static _Atomic uint32_t thread_count;
    static __thread uint32_t my_number; /* counted from 1 */
    if (my_number == 0)
        my_number = atomic_fetch_add_explicit(&thread_count, 1, memory_order_relaxed) + 1;
    return &cache->counters[my_number % COUNTER_COUNT];
}

static void count_one(_Atomic uint64_t *count)
{
    uint64_t before = atomic_load_explicit(count, memory_order_relaxed);
    atomic_store_explicit(count, before + 1, memory_order_relaxed);
}

struct block *block_cache_find(struct block_cache *cache, void *_Atomic *slot)
{
    /* Acquire: pairs with the release that published the block in block_cache_insert(). */
    struct block *block = atomic_load_explicit(slot, memory_order_acquire);
    struct counter *counter = my_counter(cache);
    if (block == NULL) {
        count_one(&counter->misses);
        return NULL;
    }
    count_one(&counter->hits);
    if (!atomic_load_explicit(&block->touched, memory_order_relaxed))
        atomic_store_explicit(&block->touched, true, memory_order_relaxed);
    return block;
}

struct block *block_cache_peek(void *_Atomic *slot)
{
    return atomic_load_explicit(slot, memory_order_acquire);
}

/* ---- eviction -------------------------------------------------------------------------------- */

/* Room for one more place in the ring and for as many holes. */
static bool reserve_place_locked(struct block_cache *cache)
{
    if (cache->hole_count > 0 || cache->ring_size < cache->ring_capacity)
        return true;
    size_t capacity = cache->ring_capacity == 0 ? FIRST_CAPACITY : cache->ring_capacity * 2;
    if (capacity > UINT32_MAX)
        return false;
    struct block **ring = mem_resize(cache->ring, capacity * sizeof *ring);
    if (ring == NULL)
        return false;
    cache->ring = ring;
    uint32_t *holes = mem_resize(cache->holes, capacity * sizeof *holes);
    if (holes == NULL)
        return false;
    cache->holes = holes;
    cache->ring_capacity = capacity;
    return true;
}

static void place_locked(struct block_cache *cache, struct block *block)
{
    size_t at = cache->hole_count > 0 ? cache->holes[--cache->hole_count] : cache->ring_size++;
    cache->ring[at] = block;
    block->ring_index = (uint32_t)at;
    atomic_store_explicit(&cache->bytes, cache->bytes + cost(block), memory_order_relaxed);
}

/* Takes a block out of ring and slot; the slot's reference is the caller's now. */
static void unplace_locked(struct block_cache *cache, struct block *block)
{
    cache->ring[block->ring_index] = NULL;
    cache->holes[cache->hole_count++] = block->ring_index;
    /* The epoch orders this store: whoever still sees the block entered before it was retired. */
    atomic_store_explicit(block->slot, NULL, memory_order_release);
    block->slot = NULL;
    atomic_store_explicit(&cache->bytes, cache->bytes - cost(block), memory_order_relaxed);
}

/* Evicts until `wanted` more bytes fit; returns the evicted, linked through retired.next. */
static struct epoch_retired *evict_locked(struct block_cache *cache, uint64_t wanted)
{
    struct epoch_retired *evicted = NULL;
    while (cache->bytes + wanted > cache->capacity && cache->hole_count < cache->ring_size) {
        cache->hand = cache->hand + 1 < cache->ring_size ? cache->hand + 1 : 0;
        struct block *block = cache->ring[cache->hand];
        if (block == NULL)
            continue;
        if (atomic_load_explicit(&block->touched, memory_order_relaxed)) {
            atomic_store_explicit(&block->touched, false, memory_order_relaxed);
            continue;
        }
        unplace_locked(cache, block);
        block->retired.next = evicted;
        evicted = &block->retired;
    }
    return evicted;
}

static void retire_all(struct epoch_retired *evicted)
{
    while (evicted != NULL) {
        struct epoch_retired *next = evicted->next;
        epoch_retire(evicted, drop_retired);
        evicted = next;
    }
}

struct block *block_cache_insert(struct block_cache *cache, void *_Atomic *slot,
                                 struct block *block)
{
    assert(epoch_is_inside());
    if (cost(block) > cache->capacity)
        return NULL;
    struct epoch_retired *evicted = NULL;
    pthread_mutex_lock(&cache->lock);
    struct block *used = atomic_load_explicit(slot, memory_order_acquire);
    if (used == NULL && reserve_place_locked(cache)) {
        evicted = evict_locked(cache, cost(block));
        block->slot = slot;
        place_locked(cache, block);
        used = block;
        /* Release: pairs with the acquire in block_cache_find(). Slots change under the lock only.
         */
        atomic_store_explicit(slot, block, memory_order_release);
    }
    pthread_mutex_unlock(&cache->lock);
    retire_all(evicted);
    if (used != NULL && used != block)
        block_drop(block);
    return used;
}

void block_cache_remove(struct block_cache *cache, void *_Atomic *slot)
{
    pthread_mutex_lock(&cache->lock);
    struct block *block = atomic_load_explicit(slot, memory_order_relaxed);
    if (block != NULL)
        unplace_locked(cache, block);
    pthread_mutex_unlock(&cache->lock);
    block_drop(block);
}
