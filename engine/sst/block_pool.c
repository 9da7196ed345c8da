/*
 * A chunk is aligned to its size, so a piece finds its chunk by masking its address. A chunk whose
 * pieces are all free belongs to no class: it is kept for any of them, or freed.
 */
#include "engine/sst/block_pool.h"

#include "engine/base/memory.h"

#include <assert.h>
#include <pthread.h>
#include <sys/mman.h>

#define CHUNK_SIZE   ((size_t)2 << 20)
#define CHUNK_HEADER ((size_t)256)
#define SMALL_STEP   ((size_t)256)  /* classes are multiples of it up to SMALL_MAX, */
#define SMALL_MAX    ((size_t)4096) /* then 16 to a doubling */
#define SMALL_BITS   12
#define STEPS        16
#define CLASS_COUNT  (STEPS + 5 * STEPS) /* up to 128 KiB */
#define KEPT_CHUNKS  4                   /* empty ones */

struct piece {
    struct piece *next;
};

struct chunk {
    struct chunk *next, *previous; /* among those of its class with a free piece */
    struct piece *free;            /* given back */
    size_t piece_size;
    uint32_t class;
    uint32_t used;
    uint32_t fresh_left; /* pieces at the end never taken yet */
};

static_assert(sizeof(struct chunk) <= CHUNK_HEADER, "a chunk's header fits in front of its pieces");

struct block_pool {
    pthread_mutex_t lock;
    struct chunk *partial[CLASS_COUNT]; /* guarded by lock, as all below */
    struct chunk *empty;
    uint32_t empty_count;
    uint64_t used; /* pieces */
    bool closed;
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

static void link_partial(struct block_pool *pool, struct chunk *c)
{
    c->previous = NULL;
    c->next = pool->partial[c->class];
    if (c->next != NULL)
        c->next->previous = c;
    pool->partial[c->class] = c;
}

static void unlink_partial(struct block_pool *pool, struct chunk *c)
{
    if (c->previous != NULL)
        c->previous->next = c->next;
    else
        pool->partial[c->class] = c->next;
    if (c->next != NULL)
        c->next->previous = c->previous;
}

/* ---- pool ------------------------------------------------------------------------------------ */

struct block_pool *block_pool_new(void)
{
    struct block_pool *pool = mem_alloc_zeroed(sizeof *pool);
    if (pool != NULL)
        pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

static void destroy(struct block_pool *pool)
{
    while (pool->empty != NULL) {
        struct chunk *c = pool->empty;
        pool->empty = c->next;
        mem_free(c);
    }
    pthread_mutex_destroy(&pool->lock);
    mem_free(pool);
}

void block_pool_close(struct block_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    bool is_last = pool->used == 0;
    pthread_mutex_unlock(&pool->lock);
    if (is_last)
        destroy(pool);
}

static struct chunk *chunk_new(void)
{
    struct chunk *c = mem_alloc_aligned(CHUNK_SIZE, CHUNK_SIZE);
    if (c != NULL)
        (void)madvise(c, CHUNK_SIZE, MADV_HUGEPAGE); /* a wish; refused, pages are small */
    return c;
}

/* A chunk of the class with a free piece. */
static struct chunk *chunk_for(struct block_pool *pool, uint32_t class, size_t piece_size)
{
    struct chunk *c = pool->partial[class];
    if (c != NULL)
        return c;
    c = pool->empty;
    if (c != NULL) {
        pool->empty = c->next;
        pool->empty_count--;
    } else if ((c = chunk_new()) == NULL) {
        return NULL;
    }
    *c = (struct chunk){.piece_size = piece_size, .class = class};
    c->fresh_left = (uint32_t)((CHUNK_SIZE - CHUNK_HEADER) / piece_size);
    link_partial(pool, c);
    return c;
}

static void *take_from(struct block_pool *pool, struct chunk *c)
{
    void *taken = c->free;
    if (taken != NULL)
        c->free = c->free->next;
    else
        taken = (uint8_t *)c + CHUNK_HEADER + --c->fresh_left * c->piece_size;
    c->used++;
    pool->used++;
    if (c->free == NULL && c->fresh_left == 0)
        unlink_partial(pool, c);
    return taken;
}

void *block_pool_take(struct block_pool *pool, size_t size)
{
    assert(size <= BLOCK_POOL_MAX_PIECE);
    size_t piece_size;
    uint32_t class = class_of(size, &piece_size);
    pthread_mutex_lock(&pool->lock);
    struct chunk *c = chunk_for(pool, class, piece_size);
    void *taken = c == NULL ? NULL : take_from(pool, c);
    pthread_mutex_unlock(&pool->lock);
    return taken;
}

/* Returns the chunk when it is to be freed. */
static struct chunk *give_to(struct block_pool *pool, struct chunk *c, struct piece *piece)
{
    bool was_full = c->free == NULL && c->fresh_left == 0;
    piece->next = c->free;
    c->free = piece;
    pool->used--;
    if (--c->used > 0) {
        if (was_full)
            link_partial(pool, c);
        return NULL;
    }
    if (!was_full)
        unlink_partial(pool, c);
    if (pool->empty_count == KEPT_CHUNKS)
        return c;
    c->next = pool->empty;
    pool->empty = c;
    pool->empty_count++;
    return NULL;
}

void block_pool_give_back(struct block_pool *pool, void *piece)
{
    struct chunk *c = (struct chunk *)((uintptr_t)piece & ~(uintptr_t)(CHUNK_SIZE - 1));
    pthread_mutex_lock(&pool->lock);
    struct chunk *unused = give_to(pool, c, piece);
    bool is_last = pool->closed && pool->used == 0;
    pthread_mutex_unlock(&pool->lock);
    mem_free(unused);
    if (is_last)
        destroy(pool);
}
