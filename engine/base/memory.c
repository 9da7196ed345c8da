/* Thin over malloc: one relaxed counter and one countdown, both off the paths that must be fast. */
#include "engine/base/memory.h"

#include "engine/base/pages.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static _Atomic uint64_t allocation_count;
static _Atomic int64_t fail_countdown = -1;
static _Atomic bool fail_sticky;

static bool must_fail(void)
{
    atomic_fetch_add_explicit(&allocation_count, 1, memory_order_relaxed);
    int64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    if (left < 0)
        return false;
    if (left == 0)
        return atomic_load(&fail_sticky) ||
               atomic_compare_exchange_strong(&fail_countdown, &left, -1);
    atomic_fetch_sub(&fail_countdown, 1);
    return false;
}

void *mem_alloc(size_t size)
{
    return must_fail() ? NULL : malloc(size > 0 ? size : 1);
}

/* glibc serves small malloc() from a list of the thread's own, but calloc() never. */
#define ZEROED_BY_HAND ((size_t)1024)

void *mem_alloc_zeroed(size_t size)
{
    if (must_fail())
        return NULL;
    if (size > ZEROED_BY_HAND)
        return calloc(1, size);
    void *memory = malloc(size > 0 ? size : 1);
    if (memory != NULL)
        memset(memory, 0, size);
    return memory;
}

void *mem_resize(void *memory, size_t size)
{
    return must_fail() ? NULL : realloc(memory, size > 0 ? size : 1);
}

char *mem_copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = mem_alloc(size);
    if (copy != NULL)
        memcpy(copy, text, size);
    return copy;
}

void *mem_alloc_aligned(size_t alignment, size_t size)
{
    void *memory = NULL;
    if (must_fail() || posix_memalign(&memory, alignment, size > 0 ? size : alignment) != 0)
        return NULL;
    return memory;
}

void mem_free(void *memory)
{
    free(memory);
}

void mem_trim(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}

/* ---- large pieces ---------------------------------------------------------------------------- */

#define MAPPED_FROM ((size_t)128 << 10) /* below it a mapping costs more than it saves */

/* The address sanitizer watches the borders of heap memory only. */
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

static bool is_mapped(size_t size)
{
#ifdef __SANITIZE_ADDRESS__
    (void)size;
    return false;
#else
    return size >= MAPPED_FROM;
#endif
}

static void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* What stands over on both sides is given back. */
static void *map_aligned(size_t alignment, size_t size)
{
    size_t whole, length = (size + (MEM_PAGE - 1)) & ~(MEM_PAGE - 1);
    if (length < size || !mem_add(length, alignment - MEM_PAGE, &whole))
        return NULL;
    uint8_t *first = map(whole);
    if (first == NULL)
        return NULL;
    size_t before = -(uintptr_t)first & (alignment - 1), behind = whole - before - length;
    if (before > 0)
        (void)munmap(first, before);
    if (behind > 0)
        (void)munmap(first + before + length, behind);
    return first + before;
}

void *mem_alloc_large(size_t alignment, size_t size)
{
    if (!is_mapped(size))
        return mem_alloc_aligned(alignment, size);
    if (must_fail())
        return NULL;
    return alignment <= MEM_PAGE ? map(size) : map_aligned(alignment, size);
}

/* From the heap into a mapping, or back. */
static void *move_large(void *memory, size_t size, size_t new_size)
{
    void *moved = is_mapped(new_size) ? map(new_size) : malloc(new_size);
    if (moved == NULL)
        return NULL;
    memcpy(moved, memory, size < new_size ? size : new_size);
    mem_free_large(memory, size);
    return moved;
}

void *mem_resize_large(void *memory, size_t size, size_t new_size)
{
    if (!is_mapped(size) && !is_mapped(new_size))
        return mem_resize(memory, new_size);
    if (must_fail())
        return NULL;
    if (memory == NULL)
        return map(new_size);
    if (!is_mapped(size) || !is_mapped(new_size))
        return move_large(memory, size, new_size > 0 ? new_size : 1);
    void *moved = mremap(memory, size, new_size, MREMAP_MAYMOVE);
    return moved == MAP_FAILED ? NULL : moved;
}

void mem_free_large(void *memory, size_t size)
{
    if (memory == NULL)
        return;
    if (is_mapped(size))
        (void)munmap(memory, size);
    else
        free(memory);
}

/* The address sanitizer shall watch their borders, too. */
static bool is_run(size_t size)
{
#ifdef __SANITIZE_ADDRESS__
    (void)size;
    return false;
#else
    return !is_mapped(size);
#endif
}

void *mem_alloc_buffer(size_t size)
{
    if (!is_run(size))
        return mem_alloc_large(MEM_PAGE, size);
    return must_fail() ? NULL : pages_take(size);
}

void mem_free_buffer(void *memory, size_t size)
{
    if (memory != NULL && is_run(size))
        pages_give_back(memory, size);
    else
        mem_free_large(memory, size);
}

uint64_t mem_allocation_count(void)
{
    return atomic_load_explicit(&allocation_count, memory_order_relaxed);
}

void mem_fail_after(int64_t count, bool sticky)
{
    atomic_store(&fail_sticky, sticky);
    atomic_store(&fail_countdown, count);
}
