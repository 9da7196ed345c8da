/*
 * A chunk is 256 pages, the first of which is its header with a bit for each; a run lies within the
 * 64 pages of one word. Chunks are tried in the order of their list. One that is nearly full and
 * had no room for a run is put aside until more of it is free, so that many of them cost no search.
 */
#include "engine/base/pages.h"

#include "engine/base/memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

#define CHUNK_SIZE  ((size_t)1 << 20)
#define WORD_PAGES  ((size_t)64)
#define WORDS       (CHUNK_SIZE / MEM_PAGE / WORD_PAGES)
#define CHUNK_PAGES (WORDS * WORD_PAGES)
#define ASIDE_FROM  (CHUNK_PAGES / 8 * 7) /* used pages */
#define ASIDE_UNTIL (CHUNK_PAGES / 4 * 3)

_Static_assert(PAGES_RUN_BYTES <= WORD_PAGES / 2 * MEM_PAGE, "a word has room for the largest run");

struct chunk {
    struct chunk *next, *previous; /* in the list of those that are tried */
    uint64_t free[WORDS];
    uint32_t used; /* pages */
    bool is_aside; /* in no list */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct chunk *first, *last; /* guarded by lock, as the next */
static struct chunk *unused;       /* of these the one that is kept although nobody uses it */
static _Atomic uint64_t bytes;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* ---- forks ----------------------------------------------------------------------------------- */

static void fork_prepare(void)
{
    pthread_mutex_lock(&lock);
}

static void fork_is_over(void)
{
    pthread_mutex_unlock(&lock);
}

static void watch_forks(void)
{
    (void)pthread_atfork(fork_prepare, fork_is_over, fork_is_over);
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static void list_append(struct chunk *chunk)
{
    chunk->next = NULL;
    chunk->previous = last;
    *(last != NULL ? &last->next : &first) = chunk;
    last = chunk;
}

static void list_remove(struct chunk *chunk)
{
    *(chunk->previous != NULL ? &chunk->previous->next : &first) = chunk->next;
    *(chunk->next != NULL ? &chunk->next->previous : &last) = chunk->previous;
}

static struct chunk *chunk_new(void)
{
    size_t whole = 2 * CHUNK_SIZE;
    uint8_t *memory = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)memory & (CHUNK_SIZE - 1);
    if (before > 0)
        (void)munmap(memory, before);
    (void)munmap(memory + before + CHUNK_SIZE, whole - before - CHUNK_SIZE);
    struct chunk *chunk = (struct chunk *)(void *)(memory + before);
    (void)madvise(chunk, CHUNK_SIZE, MADV_NOHUGEPAGE); /* a wish: what is not used takes nothing */
    for (size_t i = 0; i < WORDS; i++)
        chunk->free[i] = UINT64_MAX;
    chunk->free[0] &= ~UINT64_C(1);
    list_append(chunk);
    atomic_fetch_add_explicit(&bytes, CHUNK_SIZE, memory_order_relaxed);
    return chunk;
}

/* ---- runs ------------------------------------------------------------------------------------ */

static uint64_t mask_of(size_t pages)
{
    return (UINT64_C(1) << pages) - 1;
}

/* Where runs of so many ones begin. */
static uint64_t runs_of(uint64_t ones, size_t pages)
{
    for (size_t step; pages > 1; pages -= step) {
        step = pages / 2;
        ones &= ones >> step;
    }
    return ones;
}

static void *take_from(struct chunk *chunk, size_t pages)
{
    for (size_t i = 0; i < WORDS; i++) {
        uint64_t runs = runs_of(chunk->free[i], pages);
        if (runs == 0)
            continue;
        size_t at = (size_t)__builtin_ctzll(runs);
        chunk->free[i] &= ~(mask_of(pages) << at);
        chunk->used += (uint32_t)pages;
        if (chunk == unused)
            unused = NULL;
        return (uint8_t *)chunk + (i * WORD_PAGES + at) * MEM_PAGE;
    }
    return NULL;
}

static size_t pages_of(size_t size)
{
    return size > 0 ? (size + MEM_PAGE - 1) / MEM_PAGE : 1;
}

static void *take_locked(size_t pages)
{
    void *run;
    for (struct chunk *chunk = first, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        if ((run = take_from(chunk, pages)) != NULL)
            return run;
        if (chunk->used >= ASIDE_FROM) {
            list_remove(chunk);
            chunk->is_aside = true;
        }
    }
    struct chunk *chunk = chunk_new();
    return chunk != NULL ? take_from(chunk, pages) : NULL;
}

void *pages_take(size_t size)
{
    (void)pthread_once(&once, watch_forks);
    pthread_mutex_lock(&lock);
    void *run = take_locked(pages_of(size));
    pthread_mutex_unlock(&lock);
    return run;
}

/* True: it is to be unmapped. */
static bool leave_if_unused(struct chunk *chunk)
{
    if (chunk->used > 0)
        return false;
    list_remove(chunk); /* used after all others */
    if (unused == NULL) {
        unused = chunk;
        list_append(chunk);
        return false;
    }
    atomic_fetch_sub_explicit(&bytes, CHUNK_SIZE, memory_order_relaxed);
    return true;
}

void pages_give_back(void *run, size_t size)
{
    struct chunk *chunk = (struct chunk *)((uintptr_t)run & ~(uintptr_t)(CHUNK_SIZE - 1));
    size_t pages = pages_of(size), at = ((uintptr_t)run - (uintptr_t)chunk) / MEM_PAGE;
    pthread_mutex_lock(&lock);
    chunk->free[at / WORD_PAGES] |= mask_of(pages) << at % WORD_PAGES;
    chunk->used -= (uint32_t)pages;
    if (chunk->is_aside && chunk->used <= ASIDE_UNTIL) {
        chunk->is_aside = false;
        list_append(chunk);
    }
    bool is_left = leave_if_unused(chunk);
    pthread_mutex_unlock(&lock);
    if (is_left)
        (void)munmap(chunk, CHUNK_SIZE);
}

uint64_t pages_bytes(void)
{
    return atomic_load_explicit(&bytes, memory_order_relaxed);
}
