/*
 * A chunk is made of slabs, a slab of pieces of one class. Slabs and chunks are aligned to their
 * sizes, so a piece finds both by masking its address; the chunk's header lives in its first
 * slab's. A slab whose pieces are all free belongs to no class; a chunk whose slabs are all free is
 * kept for a while, or freed. Slabs are much smaller than chunks, so that the many classes of a
 * cache, each of which leaves one slab or two half used, do not add up.
 *
 * A chunk that is drained leaves the lists with all its slabs, and is freed when they are.
 *
 * Memory is slow when it is first touched: the kernel clears 2 MiB, and a virtual machine's host
 * may have to find them first. So that never happens under the lock, and where there is a thread to
 * touch chunks ahead, a share of what is in use stands ready among the empty ones.
 */
#include "engine/sst/block_pool.h"

#include "engine/base/memory.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define CHUNK_SIZE  BLOCK_POOL_CHUNK
#define SLAB_SIZE   BLOCK_POOL_SLAB
#define SLAB_COUNT  (CHUNK_SIZE / SLAB_SIZE)
#define SLAB_HEADER ((size_t)256)
#define ALL_SLABS   ((uint32_t)((UINT64_C(1) << SLAB_COUNT) - 1))
#define SMALL_STEP  ((size_t)256)  /* classes are multiples of it up to SMALL_MAX, */
#define SMALL_MAX   ((size_t)4096) /* then 16 to a doubling */
#define SMALL_BITS  12
#define STEPS       16
#define CLASS_COUNT (STEPS + 3 * STEPS) /* up to BLOCK_POOL_MAX_PIECE */
#define KEPT_CHUNKS 2                   /* empty ones */
#define AHEAD_SHARE 8                   /* for so many chunks one is touched ahead, */
#define AHEAD_MOST  8                   /* up to so many */

struct piece {
    struct piece *next;
};

/* A link of a list without a head element. */
struct link {
    struct link *next, *previous;
};

struct slab {
    struct link link;   /* first: among those of its class with a free piece */
    struct piece *free; /* given back */
    size_t piece_size;
    uint32_t class;
    uint32_t used;
    uint32_t fresh_left; /* pieces at the end never taken yet */
};

struct chunk {
    struct link link;         /* first: among those with a free slab */
    uint32_t free;            /* slabs, a bit each */
    _Atomic bool is_draining; /* in no list, nor are its slabs */
};

struct chunk_head { /* what a chunk begins with */
    struct slab slab;
    struct chunk chunk;
};

static_assert(sizeof(struct chunk_head) <= SLAB_HEADER, "headers fit in front of the pieces");
static_assert(STEPS * SMALL_STEP == SMALL_MAX && SMALL_MAX << 3 == BLOCK_POOL_MAX_PIECE,
              "the classes end with the largest piece");

struct block_pool {
    pthread_mutex_t lock;
    struct link *partial[CLASS_COUNT]; /* slabs; guarded by lock, as all below */
    struct link *open;                 /* chunks with a free slab and a used one */
    struct link *empty;                /* chunks with free slabs only */
    uint32_t empty_count;
    uint64_t used;          /* pieces */
    bool is_closing;        /* the toucher ends */
    bool closed;            /* the last piece takes the pool with it */
    uint64_t most;          /* bytes that the last one who wanted a chunk would allow */
    pthread_mutex_t making; /* taken before lock: one at a time makes a chunk for itself */
    pthread_cond_t opened;  /* a chunk, or the pool is closed */
    pthread_t toucher;      /* written once, read when the pool is closed; as the next */
    bool has_toucher;
    bool is_touching;       /* a chunk, which bytes counts and no list has yet; guarded by lock */
    pthread_cond_t touched; /* it is over */
    uint64_t ahead_most;    /* what the toucher keeps to */
    _Atomic uint64_t bytes; /* of all chunks; written under lock, as the next */
    _Atomic uint64_t draining; /* of that */
    _Atomic uint64_t retired;
};

/* ---- size classes ---------------------------------------------------------------------------- */

static uint32_t class_of(size_t size, size_t *piece_size)
{
    if (size <= SMALL_MAX) {
        uint32_t class = size == 0 ? 0 : (uint32_t)((size - 1) / SMALL_STEP);
        *piece_size = (class + 1) * SMALL_STEP;
        return class;
    }
    uint32_t bits = 63 - (uint32_t)__builtin_clzll(size - 1); /* 2^bits < size <= 2^(bits + 1) */
    size_t step = ((size_t)1 << bits) / STEPS;
    uint32_t steps = (uint32_t)((size - 1 - ((size_t)1 << bits)) / step);
    *piece_size = ((size_t)1 << bits) + (steps + 1) * step;
    return STEPS + (bits - SMALL_BITS) * STEPS + steps;
}

size_t block_pool_piece_size(size_t size)
{
    size_t piece_size;
    (void)class_of(size, &piece_size);
    return piece_size;
}

/* ---- lists ----------------------------------------------------------------------------------- */

static void list_add(struct link **list, struct link *l)
{
    l->previous = NULL;
    l->next = *list;
    if (l->next != NULL)
        l->next->previous = l;
    *list = l;
}

static void list_remove(struct link **list, struct link *l)
{
    if (l->previous != NULL)
        l->previous->next = l->next;
    else
        *list = l->next;
    if (l->next != NULL)
        l->next->previous = l->previous;
}

/* ---- pool ------------------------------------------------------------------------------------ */

struct block_pool *block_pool_new(void)
{
    struct block_pool *pool = mem_alloc_zeroed(sizeof *pool);
    if (pool == NULL)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_mutex_init(&pool->making, NULL);
    pthread_cond_init(&pool->opened, NULL);
    pthread_cond_init(&pool->touched, NULL);
    return pool;
}

static struct chunk_head *head_of(struct link *chunk)
{
    return (struct chunk_head *)((uintptr_t)chunk & ~(uintptr_t)(CHUNK_SIZE - 1));
}

static void destroy(struct block_pool *pool)
{
    while (pool->empty != NULL) {
        struct link *l = pool->empty;
        pool->empty = l->next;
        mem_free_large(head_of(l), CHUNK_SIZE);
    }
    pthread_mutex_destroy(&pool->lock);
    pthread_mutex_destroy(&pool->making);
    pthread_cond_destroy(&pool->opened);
    pthread_cond_destroy(&pool->touched);
    mem_free(pool);
}

void block_pool_close(struct block_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->is_closing = true;
    pthread_cond_signal(&pool->opened);
    pthread_mutex_unlock(&pool->lock);
    if (pool->has_toucher)
        pthread_join(pool->toucher, NULL);
    pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    bool is_last = pool->used == 0;
    pthread_mutex_unlock(&pool->lock);
    if (is_last)
        destroy(pool);
}

uint64_t block_pool_bytes(const struct block_pool *pool)
{
    return atomic_load_explicit(&pool->bytes, memory_order_relaxed);
}

uint64_t block_pool_lasting(const struct block_pool *pool)
{
    uint64_t bytes = block_pool_bytes(pool);
    uint64_t draining = atomic_load_explicit(&pool->draining, memory_order_relaxed);
    return bytes > draining ? bytes - draining : 0;
}

void block_pool_note_retired(struct block_pool *pool, uint64_t bytes)
{
    atomic_fetch_add_explicit(&pool->retired, bytes, memory_order_relaxed);
}

void block_pool_note_freed(struct block_pool *pool, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&pool->retired, bytes, memory_order_relaxed);
}

uint64_t block_pool_retired(const struct block_pool *pool)
{
    return atomic_load_explicit(&pool->retired, memory_order_relaxed);
}

/* ---- chunks ---------------------------------------------------------------------------------- */

/* The lock is held. */
static void count(_Atomic uint64_t *bytes, uint64_t more)
{
    uint64_t before = atomic_load_explicit(bytes, memory_order_relaxed);
    atomic_store_explicit(bytes, before + more, memory_order_relaxed);
}

/* Its first bytes have been touched: a huge page, or a small one. */
static struct chunk *chunk_new(void)
{
    struct chunk_head *head = mem_alloc_large(CHUNK_SIZE, CHUNK_SIZE);
    if (head == NULL)
        return NULL;
    (void)madvise(head, CHUNK_SIZE, MADV_HUGEPAGE); /* a wish; refused, pages are small */
    head->chunk.is_draining = false;
    return &head->chunk;
}

/* The bytes of a chunk were counted before it was made, so that nobody makes one too many. */
static bool add_empty(struct block_pool *pool, struct chunk *c)
{
    if (c == NULL) {
        count(&pool->bytes, -CHUNK_SIZE);
        return false;
    }
    list_add(&pool->empty, &c->link);
    pool->empty_count++;
    return true;
}

static void touch_whole(struct chunk *c)
{
    volatile uint8_t *bytes = (volatile uint8_t *)head_of(&c->link);
    for (size_t at = SLAB_HEADER; at < CHUNK_SIZE; at += MEM_PAGE)
        bytes[at] = 0;
}

/* One more empty chunk. The lock is let go of meanwhile. */
static bool make_chunk(struct block_pool *pool, uint64_t most, bool whole)
{
    if (block_pool_bytes(pool) + CHUNK_SIZE > most)
        return false;
    count(&pool->bytes, CHUNK_SIZE);
    pthread_mutex_unlock(&pool->lock);
    struct chunk *c = chunk_new();
    if (c != NULL && whole)
        touch_whole(c);
    pthread_mutex_lock(&pool->lock);
    return add_empty(pool, c);
}

/* What the toucher is at may be the last chunk that there is room for. */
static bool await_chunk(struct block_pool *pool)
{
    if (!pool->is_touching)
        return false;
    while (pool->is_touching)
        pthread_cond_wait(&pool->touched, &pool->lock);
    return true;
}

/* A chunk with a free slab, in the list of open ones. NULL when one has to be made. */
static struct chunk *open_chunk(struct block_pool *pool, uint64_t most)
{
    if (pool->open != NULL)
        return (struct chunk *)(void *)pool->open;
    struct chunk *c = (struct chunk *)(void *)pool->empty;
    if (c == NULL)
        return NULL;
    list_remove(&pool->empty, &c->link);
    pool->empty_count--;
    c->free = ALL_SLABS;
    c->is_draining = false;
    list_add(&pool->open, &c->link);
    pool->most = most;
    pthread_cond_signal(&pool->opened);
    return c;
}

static struct slab *take_slab(struct block_pool *pool, uint32_t class, size_t piece_size,
                              uint64_t most)
{
    struct chunk *c = open_chunk(pool, most);
    if (c == NULL)
        return NULL;
    uint32_t index = (uint32_t)__builtin_ctz(c->free);
    c->free &= c->free - 1;
    if (c->free == 0)
        list_remove(&pool->open, &c->link);
    struct slab *slab = (struct slab *)((uintptr_t)head_of(&c->link) + index * SLAB_SIZE);
    *slab = (struct slab){.piece_size = piece_size, .class = class};
    slab->fresh_left = (uint32_t)((SLAB_SIZE - SLAB_HEADER) / piece_size);
    list_add(&pool->partial[class], &slab->link);
    return slab;
}

/* Returns the memory of a chunk that is to be freed, or NULL. */
static void *give_slab(struct block_pool *pool, struct slab *slab)
{
    struct chunk_head *head = head_of(&slab->link);
    struct chunk *c = &head->chunk;
    bool was_full = c->free == 0;
    c->free |= UINT32_C(1) << (((uintptr_t)slab - (uintptr_t)head) / SLAB_SIZE);
    if (was_full && !c->is_draining)
        list_add(&pool->open, &c->link);
    if (c->free != ALL_SLABS)
        return NULL;
    if (!c->is_draining)
        list_remove(&pool->open, &c->link);
    if (c->is_draining || pool->empty_count >= KEPT_CHUNKS) {
        count(&pool->bytes, -CHUNK_SIZE);
        count(&pool->draining, c->is_draining ? -CHUNK_SIZE : 0);
        return head;
    }
    list_add(&pool->empty, &c->link);
    pool->empty_count++;
    return NULL;
}

/* The chunk leaves the pool, its memory is the caller's to free. NULL when there is none. */
static void *drop_empty(struct block_pool *pool)
{
    if (pool->empty == NULL)
        return NULL;
    struct chunk_head *head = head_of(pool->empty);
    list_remove(&pool->empty, pool->empty);
    pool->empty_count--;
    count(&pool->bytes, -CHUNK_SIZE);
    return head;
}

uint64_t block_pool_empty(struct block_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    uint64_t bytes = pool->empty_count * (uint64_t)CHUNK_SIZE;
    pthread_mutex_unlock(&pool->lock);
    return bytes;
}

void block_pool_trim(struct block_pool *pool, uint64_t most)
{
    void *unused = NULL;
    do {
        pthread_mutex_lock(&pool->lock);
        pool->most = most;
        unused = block_pool_lasting(pool) > most ? drop_empty(pool) : NULL;
        pthread_mutex_unlock(&pool->lock);
        mem_free_large(unused, CHUNK_SIZE);
    } while (unused != NULL);
}

/* ---- touching ahead -------------------------------------------------------------------------- */

static uint64_t least_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* So that little data takes little, nothing is made before somebody has made the first. */
static bool wants_ahead(const struct block_pool *pool)
{
    uint64_t bytes = block_pool_bytes(pool), most = least_of(pool->most, pool->ahead_most);
    uint64_t in_use = bytes / CHUNK_SIZE - pool->empty_count;
    uint64_t ahead = least_of((in_use + AHEAD_SHARE - 1) / AHEAD_SHARE, AHEAD_MOST);
    return pool->empty_count < ahead && bytes + CHUNK_SIZE <= most;
}

static void *toucher(void *argument)
{
    struct block_pool *pool = argument;
    pthread_mutex_lock(&pool->lock);
    while (!pool->is_closing) {
        bool made = false;
        if (wants_ahead(pool)) {
            pool->is_touching = true;
            made = make_chunk(pool, UINT64_MAX, true);
            pool->is_touching = false;
            pthread_cond_broadcast(&pool->touched);
        }
        void *unused = made && block_pool_lasting(pool) > pool->most ? drop_empty(pool) : NULL;
        if (unused != NULL) { /* the pool was trimmed meanwhile */
            pthread_mutex_unlock(&pool->lock);
            mem_free_large(unused, CHUNK_SIZE);
            pthread_mutex_lock(&pool->lock);
        } else if (!made && !pool->is_closing) {
            pthread_cond_wait(&pool->opened, &pool->lock);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

void block_pool_touch_ahead(struct block_pool *pool, uint64_t most)
{
    pool->ahead_most = most;
    pool->has_toucher = pthread_create(&pool->toucher, NULL, toucher, pool) == 0;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static bool slab_is_full(const struct slab *slab)
{
    return slab->free == NULL && slab->fresh_left == 0;
}

static void *take_from(struct block_pool *pool, struct slab *slab)
{
    void *taken = slab->free;
    if (taken != NULL)
        slab->free = slab->free->next;
    else
        taken = (uint8_t *)slab + SLAB_HEADER + --slab->fresh_left * slab->piece_size;
    slab->used++;
    pool->used++;
    if (slab_is_full(slab))
        list_remove(&pool->partial[slab->class], &slab->link);
    return taken;
}

/* The lock is held. */
static void *take(struct block_pool *pool, size_t size, uint64_t most)
{
    size_t piece_size;
    uint32_t class = class_of(size, &piece_size);
    struct slab *slab = (struct slab *)(void *)pool->partial[class];
    if (slab == NULL)
        slab = take_slab(pool, class, piece_size, most);
    return slab == NULL ? NULL : take_from(pool, slab);
}

/* Others may have made one, or given some back, while this one waited for its turn. */
static __attribute__((noinline)) void *take_from_new(struct block_pool *pool, size_t size,
                                                     uint64_t most)
{
    pthread_mutex_lock(&pool->making);
    pthread_mutex_lock(&pool->lock);
    void *taken = take(pool, size, most);
    while (taken == NULL && (make_chunk(pool, most, false) || await_chunk(pool)))
        taken = take(pool, size, most);
    pthread_mutex_unlock(&pool->lock);
    pthread_mutex_unlock(&pool->making);
    return taken;
}

void *block_pool_take(struct block_pool *pool, size_t size, uint64_t most)
{
    assert(size <= BLOCK_POOL_MAX_PIECE);
    pthread_mutex_lock(&pool->lock);
    void *taken = take(pool, size, most);
    pthread_mutex_unlock(&pool->lock);
    return taken != NULL ? taken : take_from_new(pool, size, most);
}

/* Returns memory that is to be freed, or NULL. */
static void *give_to(struct block_pool *pool, struct slab *slab, struct piece *piece)
{
    bool is_draining = head_of(&slab->link)->chunk.is_draining, was_full = slab_is_full(slab);
    piece->next = slab->free;
    slab->free = piece;
    slab->used--;
    pool->used--;
    if (was_full && !is_draining)
        list_add(&pool->partial[slab->class], &slab->link);
    if (slab->used > 0)
        return NULL;
    if (!is_draining)
        list_remove(&pool->partial[slab->class], &slab->link);
    return give_slab(pool, slab);
}

void block_pool_give_back(struct block_pool *pool, void *piece)
{
    struct slab *slab = (struct slab *)((uintptr_t)piece & ~(uintptr_t)(SLAB_SIZE - 1));
    pthread_mutex_lock(&pool->lock);
    void *unused = give_to(pool, slab, piece);
    bool is_last = pool->closed && pool->used == 0;
    pthread_mutex_unlock(&pool->lock);
    mem_free_large(unused, CHUNK_SIZE);
    if (is_last)
        destroy(pool);
}

bool block_pool_is_draining(const void *piece)
{
    const struct chunk_head *head = (const struct chunk_head *)block_pool_chunk(piece);
    return atomic_load_explicit(&head->chunk.is_draining, memory_order_relaxed);
}

void block_pool_drain(struct block_pool *pool, const void *piece)
{
    struct chunk_head *head = (struct chunk_head *)block_pool_chunk(piece);
    struct chunk *c = &head->chunk;
    pthread_mutex_lock(&pool->lock);
    if (!c->is_draining) {
        c->is_draining = true;
        count(&pool->draining, CHUNK_SIZE);
        if (c->free != 0)
            list_remove(&pool->open, &c->link);
        for (uint32_t i = 0; i < SLAB_COUNT; i++) {
            struct slab *slab = (struct slab *)((uintptr_t)head + i * SLAB_SIZE);
            if ((c->free & UINT32_C(1) << i) == 0 && !slab_is_full(slab))
                list_remove(&pool->partial[slab->class], &slab->link);
        }
    }
    pthread_mutex_unlock(&pool->lock);
}
