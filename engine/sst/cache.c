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
#define OWN_SHARE      8  /* of the capacity one part in so many is for what cannot be shared */
#define POOL_SLACK     16 /* of the capacity one part in so many is for slabs in partial use */
#define RETIRED_SHARE  16 /* and one part for blocks that readers keep from being freed */

/* A block of this process alone. */
struct own_block {
    struct block block; /* first; its stamp is the pool whose memory it is, 0: the heap's */
    union {
        struct {                 /* in the cache; the cache's, guarded by its lock */
            void *_Atomic *slot; /* that points here */
            uint32_t ring_index;
        };
        struct epoch_retired retired; /* taken out */
    };
    _Atomic uint32_t references; /* the slot's, and everybody's who keeps it */
    uint32_t size;               /* of data */
    _Alignas(LINE_SIZE) uint8_t data[];
};

static_assert(offsetof(struct own_block, data) == LINE_SIZE, "a header is a line");
static_assert(LINE_SIZE % FRAMES_UNIT == 0, "a frame's place can name it");

struct counter {
    _Alignas(LINE_SIZE) _Atomic uint64_t hits;
    _Atomic uint64_t misses;
};

struct block_cache {
    struct counter counters[COUNTER_COUNT];
    uint64_t capacity;        /* of blocks, as all is lent back, */
    uint64_t whole;           /* memory for them, when some may be lent, */
    uint64_t lendable;        /* how much of that may be lent, */
    uint64_t free_bytes;      /* and what others have besides. All set before use */
    _Atomic uint64_t charged; /* held by others */
    struct decompress_pool *pool;
    struct block_pool *memory; /* NULL: the heap */
    struct shm_frames *frames; /* NULL: nothing is shared */
    _Alignas(LINE_SIZE) pthread_mutex_t lock;
    _Atomic uint64_t bytes;  /* written under lock, as the next */
    _Atomic uint64_t beside; /* of these, in blocks that are not the pool's */
    struct own_block **ring; /* guarded by lock, as all below; places may be NULL */
    uint32_t *holes;         /* stack of ring places that are NULL */
    size_t ring_capacity;    /* of ring and holes */
    size_t ring_size;        /* places in use or holes */
    size_t hole_count;
    size_t hand;
};

/* ---- blocks ---------------------------------------------------------------------------------- */

static struct own_block *own(const struct block *block)
{
    return (struct own_block *)block;
}

static struct block_pool *pool_of(const struct own_block *block)
{
    return (struct block_pool *)(uintptr_t)block->block.frame.stamp;
}

/* What others hold of the memory for blocks. */
static uint64_t lent(const struct block_cache *cache)
{
    uint64_t charged = atomic_load_explicit(&cache->charged, memory_order_relaxed);
    uint64_t wanted = charged > cache->free_bytes ? charged - cache->free_bytes : 0;
    return wanted < cache->lendable ? wanted : cache->lendable;
}

/* Memory that the pool may have, when some may be lent. */
static uint64_t pool_room(const struct block_cache *cache)
{
    uint64_t room = cache->whole - lent(cache);
    uint64_t beside = atomic_load_explicit(&cache->beside, memory_order_relaxed);
    return room > beside ? room - beside : 0;
}

static bool has_bound(const struct block_cache *cache)
{
    return cache->memory != NULL && cache->lendable > 0;
}

struct block *block_new(struct block_cache *cache, size_t size)
{
    size_t whole = sizeof(struct own_block) + size;
    struct block_pool *pool = whole <= BLOCK_POOL_MAX_PIECE ? cache->memory : NULL;
    if (size > UINT32_MAX)
        return NULL;
    struct own_block *made = NULL;
    if (pool != NULL)
        made = block_pool_take(pool, whole, has_bound(cache) ? pool_room(cache) : UINT64_MAX);
    if (made == NULL) { /* used once and freed, if it could have been the pool's */
        pool = NULL;
        made = mem_alloc_large(_Alignof(struct own_block), whole);
    }
    if (made == NULL)
        return NULL;
    memset(&made->block, 0, sizeof made->block);
    made->block.frame.stamp = (uint64_t)(uintptr_t)pool;
    made->block.frame.place = LINE_SIZE / FRAMES_UNIT;
    made->block.frame.kind = SHM_FRAME_OWN;
    atomic_init(&made->references, 1);
    made->size = (uint32_t)size;
    return &made->block;
}

uint8_t *block_memory(struct block *block)
{
    return own(block)->data;
}

size_t block_size(const struct block *block)
{
    return own(block)->size;
}

void block_keep(struct block *block)
{
    if (block->frame.kind == SHM_FRAME_SHARED) {
        shm_frame_keep(&block->frame);
        return;
    }
    uint32_t before = atomic_fetch_add_explicit(&own(block)->references, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
}

void block_drop(struct block *block)
{
    if (block == NULL)
        return;
    if (block->frame.kind == SHM_FRAME_SHARED) {
        shm_frame_drop(&block->frame);
        return;
    }
    struct own_block *o = own(block);
    /* Release: our reads are done; acquire: before the memory is reused. */
    if (atomic_fetch_sub_explicit(&o->references, 1, memory_order_acq_rel) != 1)
        return;
    if (pool_of(o) != NULL)
        block_pool_give_back(pool_of(o), o);
    else
        mem_free_large(o, sizeof *o + o->size);
}

static uint64_t cost(const struct own_block *block)
{
    size_t whole = sizeof *block + block->size;
    return pool_of(block) != NULL ? block_pool_piece_size(whole) : whole;
}

static struct own_block *of_retired(struct epoch_retired *retired)
{
    return (struct own_block *)(void *)((uint8_t *)retired - offsetof(struct own_block, retired));
}

static void drop_retired(struct epoch_retired *retired)
{
    struct own_block *o = of_retired(retired);
    if (pool_of(o) != NULL)
        block_pool_note_freed(pool_of(o), cost(o));
    block_drop(&o->block);
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
    if (capacity_bytes >= BLOCK_CACHE_POOLED)
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
    shm_frames_close(cache->frames);
    decompress_pool_free(cache->pool);
    block_pool_close(cache->memory);
    pthread_mutex_destroy(&cache->lock);
    mem_free(cache->ring);
    mem_free(cache->holes);
    mem_free(cache);
}

void block_cache_lend(struct block_cache *cache, uint64_t free_bytes, uint64_t least)
{
    if (cache->memory == NULL)
        return;
    cache->whole = cache->capacity + cache->capacity / (POOL_SLACK - 1);
    cache->capacity -= BLOCK_POOL_CHUNK; /* so that blocks fit into whole chunks less than that */
    cache->lendable = cache->capacity > least ? cache->capacity - least : 0;
    cache->free_bytes = free_bytes;
}

void block_cache_touch_ahead(struct block_cache *cache)
{
    if (cache->memory != NULL)
        block_pool_touch_ahead(cache->memory, cache->capacity);
}

void block_cache_share(struct block_cache *cache, struct shm_frames *frames)
{
    assert(cache->frames == NULL && atomic_load(&cache->bytes) == 0);
    cache->frames = frames;
    cache->capacity /= OWN_SHARE;
    cache->lendable = 0;
}

struct shm_frames *block_cache_frames(const struct block_cache *cache)
{
    return cache->frames;
}

struct decompress_pool *block_cache_pool(struct block_cache *cache)
{
    return cache->pool;
}

uint64_t block_cache_room(const struct block_cache *cache)
{
    return cache->capacity - lent(cache);
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

/* ---- finding --------------------------------------------------------------------------------- */

/* From `before`, which is not the block (any more). Fails when another thread was faster, and
 * leaves alone what the cache has put in. */
static void turn_slot(void *_Atomic *slot, struct block *before, struct shm_frame *frame)
{
    void *expected = before;
    /* Release: pairs with the acquire of who finds the frame through the slot. */
    atomic_compare_exchange_strong_explicit(slot, &expected, frame, memory_order_release,
                                            memory_order_relaxed);
}

/* Another process may have put it in, or another frame holds it now. */
static __attribute__((noinline)) struct block *find_shared(struct block_cache *cache,
                                                           void *_Atomic *slot,
                                                           struct block *before, uint64_t number,
                                                           uint32_t index)
{
    struct shm_frame *frame = NULL;
    if (cache->frames != NULL)
        frame = shm_frames_find(cache->frames, number, index);
    struct counter *counter = my_counter(cache);
    count_one(frame == NULL ? &counter->misses : &counter->hits);
    if (frame == NULL)
        return NULL;
    turn_slot(slot, before, frame);
    shm_frame_touch(frame);
    return (struct block *)frame;
}

struct block *block_cache_find(struct block_cache *cache, void *_Atomic *slot, uint64_t number,
                               uint32_t index)
{
    /* Acquire: pairs with the release that published the block in block_cache_insert(). */
    struct block *block = atomic_load_explicit(slot, memory_order_acquire);
    if (block == NULL || !shm_frame_is(&block->frame, number, index))
        return find_shared(cache, slot, block, number, index);
    count_one(&my_counter(cache)->hits);
    shm_frame_touch(&block->frame);
    return block;
}

struct block *block_cache_peek(struct block_cache *cache, void *_Atomic *slot, uint64_t number,
                               uint32_t index)
{
    struct block *block = block_cache_glance(slot, number, index);
    if (block == NULL && cache->frames != NULL)
        block = (struct block *)shm_frames_peek(cache->frames, number, index);
    return block;
}

static bool is_shared(const struct block_cache *cache, const void *block)
{
    return cache->frames != NULL && shm_frames_have(cache->frames, block);
}

/* Outside an epoch a block of our own may be gone: only its address is looked at. */
const uint8_t *block_cache_place(const struct block_cache *cache, void *_Atomic *slot,
                                 uint64_t number, uint32_t index)
{
    const struct block *block = atomic_load_explicit(slot, memory_order_acquire);
    if (block == NULL || !is_shared(cache, block))
        return (const uint8_t *)block;
    return shm_frame_is(&block->frame, number, index) ? block_data(block) : NULL;
}

bool block_cache_has(struct block_cache *cache, void *_Atomic *slot, uint64_t number,
                     uint32_t index)
{
    if (block_cache_place(cache, slot, number, index) != NULL)
        return true;
    return cache->frames != NULL && shm_frames_peek(cache->frames, number, index) != NULL;
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
    struct own_block **ring = mem_resize(cache->ring, capacity * sizeof *ring);
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

static void count_bytes_locked(struct block_cache *cache, const struct own_block *block,
                               uint64_t more)
{
    atomic_store_explicit(&cache->bytes, cache->bytes + more, memory_order_relaxed);
    if (pool_of(block) == NULL)
        atomic_store_explicit(&cache->beside, cache->beside + more, memory_order_relaxed);
}

static void place_locked(struct block_cache *cache, struct own_block *block)
{
    size_t at = cache->hole_count > 0 ? cache->holes[--cache->hole_count] : cache->ring_size++;
    cache->ring[at] = block;
    block->ring_index = (uint32_t)at;
    count_bytes_locked(cache, block, cost(block));
}

/* Takes a block out of ring and slot; the slot's reference is the caller's now. */
static void unplace_locked(struct block_cache *cache, struct own_block *block)
{
    cache->ring[block->ring_index] = NULL;
    cache->holes[cache->hole_count++] = block->ring_index;
    /* The epoch orders this store: whoever still sees the block entered before it was retired. */
    atomic_store_explicit(block->slot, NULL, memory_order_release);
    block->slot = NULL;
    count_bytes_locked(cache, block, -cost(block));
}

/* The next block that was not touched in a round, or NULL when there is none at all. */
static struct own_block *next_victim_locked(struct block_cache *cache)
{
    while (cache->hole_count < cache->ring_size) {
        cache->hand = cache->hand + 1 < cache->ring_size ? cache->hand + 1 : 0;
        struct own_block *block = cache->ring[cache->hand];
        if (block == NULL)
            continue;
        _Atomic bool *touched = &block->block.frame.touched;
        if (!atomic_load_explicit(touched, memory_order_relaxed))
            return block;
        atomic_store_explicit(touched, false, memory_order_relaxed);
    }
    return NULL;
}

/* `evicted` are linked through retired.next. */
static void evict_one_locked(struct block_cache *cache, struct own_block *block,
                             struct epoch_retired **evicted)
{
    unplace_locked(cache, block);
    block->retired.next = *evicted;
    *evicted = &block->retired;
}

/* Evicts until `wanted` more bytes fit. */
static void evict_locked(struct block_cache *cache, uint64_t wanted, struct epoch_retired **evicted)
{
    while (cache->bytes + wanted > block_cache_room(cache)) {
        struct own_block *victim = next_victim_locked(cache);
        if (victim == NULL)
            break;
        evict_one_locked(cache, victim, evicted);
    }
}

/* Also what was touched: only a whole chunk is memory that somebody else can have. */
static void evict_chunk_locked(struct block_cache *cache, const struct own_block *victim,
                               struct epoch_retired **evicted)
{
    uintptr_t chunk = block_pool_chunk(victim);
    block_pool_drain(cache->memory, victim);
    for (size_t i = 0; i < cache->ring_size; i++) {
        struct own_block *block = cache->ring[i];
        if (block != NULL && block_pool_chunk(block) == chunk)
            evict_one_locked(cache, block, evicted);
    }
}

static void evict_slab_locked(struct block_cache *cache, const struct own_block *victim,
                              struct epoch_retired **evicted)
{
    uintptr_t slab = block_pool_slab(victim);
    for (size_t i = 0; i < cache->ring_size; i++) {
        struct own_block *block = cache->ring[i];
        if (block != NULL && block_pool_slab(block) == slab)
            evict_one_locked(cache, block, evicted);
    }
}

/* Do the pool's chunks hold much more than blocks, since sizes of these have changed? */
static bool is_spread(const struct block_cache *cache)
{
    return block_pool_lasting(cache->memory) > pool_room(cache);
}

/* It would keep the chunk that it is in. */
static bool is_leaving(const struct own_block *block)
{
    return pool_of(block) != NULL && block_pool_is_draining(block);
}

/* Gives memory back until the cache keeps to what is left to it. */
static void shrink_locked(struct block_cache *cache, struct epoch_retired **evicted)
{
    block_pool_trim(cache->memory, pool_room(cache));
    while (cache->bytes > block_cache_room(cache) || is_spread(cache)) {
        struct own_block *victim = next_victim_locked(cache);
        if (victim == NULL)
            break;
        if (pool_of(victim) != NULL)
            evict_chunk_locked(cache, victim, evicted);
        else
            evict_one_locked(cache, victim, evicted);
    }
}

static void retire_all(struct epoch_retired *evicted)
{
    while (evicted != NULL) {
        struct epoch_retired *next = evicted->next;
        struct own_block *o = of_retired(evicted);
        if (pool_of(o) != NULL)
            block_pool_note_retired(pool_of(o), cost(o));
        epoch_retire(evicted, drop_retired);
        evicted = next;
    }
}

/* The slot's contents are the block, unless it holds it already. Slots get blocks of our own under
 * the lock only; frames come and go any time. */
static struct block *fill_slot_locked(void *_Atomic *slot, struct own_block *block)
{
    const struct shm_frame *wanted = &block->block.frame;
    void *before = atomic_load_explicit(slot, memory_order_acquire);
    for (;;) {
        struct block *found = before;
        if (found != NULL &&
            shm_frame_is(&found->frame, wanted->number,
                         atomic_load_explicit(&wanted->index, memory_order_relaxed)))
            return found;
        /* Release: pairs with the acquire in block_cache_find(). */
        if (atomic_compare_exchange_weak_explicit(slot, &before, block, memory_order_release,
                                                  memory_order_acquire))
            return &block->block;
    }
}

/*
 * A reader that sleeps inside an epoch, for the disk or for a processor, keeps all that is evicted
 * meanwhile from being freed, which could be as much as the cache itself. Then nothing more is
 * evicted: what is read is used and dropped.
 */
static bool too_much_is_retired(const struct block_cache *cache, const struct own_block *block)
{
    return cache->memory != NULL &&
           block_cache_bytes(cache) + cost(block) > block_cache_room(cache) &&
           block_pool_retired(cache->memory) > block_cache_room(cache) / RETIRED_SHARE;
}

/* Of a size that the pool had no memory for. */
static bool is_homeless(const struct block_cache *cache, const struct own_block *block)
{
    return has_bound(cache) && pool_of(block) == NULL &&
           sizeof *block + block->size <= BLOCK_POOL_MAX_PIECE;
}

/*
 * The pool is full, and nothing of it has the size that was wanted. When that is not for what
 * readers keep from being freed, slabs of other sizes have it: one of them gives way. Not a chunk:
 * where many blocks are held there may be one in each.
 */
static void make_home(struct block_cache *cache)
{
    if (block_pool_retired(cache->memory) > block_cache_room(cache) / RETIRED_SHARE)
        return;
    struct epoch_retired *evicted = NULL;
    pthread_mutex_lock(&cache->lock);
    struct own_block *victim = next_victim_locked(cache);
    if (victim != NULL && pool_of(victim) != NULL)
        evict_slab_locked(cache, victim, &evicted);
    else if (victim != NULL)
        evict_one_locked(cache, victim, &evicted);
    pthread_mutex_unlock(&cache->lock);
    retire_all(evicted);
}

static struct block *insert_own(struct block_cache *cache, void *_Atomic *slot, uint64_t number,
                                uint32_t index, struct own_block *block)
{
    if (cost(block) > block_cache_room(cache) || too_much_is_retired(cache, block))
        return NULL;
    if (is_homeless(cache, block)) {
        make_home(cache);
        return NULL;
    }
    struct epoch_retired *evicted = NULL;
    struct block *used = NULL;
    atomic_store_explicit(&block->block.frame.index, index, memory_order_relaxed);
    atomic_store_explicit(&block->block.frame.number, number, memory_order_release);
    pthread_mutex_lock(&cache->lock);
    if (cache->lendable > 0 && is_spread(cache))
        shrink_locked(cache, &evicted);
    if (!is_leaving(block) && reserve_place_locked(cache)) {
        used = fill_slot_locked(slot, block);
        if (used == &block->block) {
            evict_locked(cache, cost(block), &evicted);
            block->slot = slot;
            place_locked(cache, block);
        }
    }
    pthread_mutex_unlock(&cache->lock);
    retire_all(evicted);
    if (used != NULL && used != &block->block)
        block_drop(&block->block);
    return used;
}

static bool fits(const struct block_cache *cache)
{
    return block_cache_bytes(cache) <= block_cache_room(cache) && !is_spread(cache);
}

void block_cache_charge(struct block_cache *cache, int64_t bytes)
{
    atomic_fetch_add_explicit(&cache->charged, (uint64_t)bytes, memory_order_relaxed);
    if (bytes <= 0 || cache->lendable == 0 || fits(cache))
        return;
    struct epoch_retired *evicted = NULL;
    pthread_mutex_lock(&cache->lock);
    shrink_locked(cache, &evicted);
    pthread_mutex_unlock(&cache->lock);
    retire_all(evicted);
}

struct block *block_cache_insert(struct block_cache *cache, void *_Atomic *slot, uint64_t number,
                                 uint32_t index, struct block *block)
{
    assert(epoch_is_inside());
    struct own_block *o = own(block);
    struct block *before = atomic_load_explicit(slot, memory_order_acquire);
    struct shm_frame *frame = NULL;
    if (cache->frames != NULL && (before == NULL || is_shared(cache, before)))
        frame = shm_frames_insert(cache->frames, number, index, o->data, o->size);
    if (frame == NULL)
        return insert_own(cache, slot, number, index, o);
    turn_slot(slot, before, frame);
    block_drop(block);
    return (struct block *)frame;
}

void block_cache_remove(struct block_cache *cache, void *_Atomic *slot)
{
    pthread_mutex_lock(&cache->lock);
    struct block *block = atomic_load_explicit(slot, memory_order_relaxed);
    if (block != NULL && is_shared(cache, block)) {
        atomic_store_explicit(slot, NULL, memory_order_relaxed);
        block = NULL;
    }
    if (block != NULL)
        unplace_locked(cache, own(block));
    pthread_mutex_unlock(&cache->lock);
    block_drop(block);
}
