/*
 * The program's own malloc and its relatives, which the dynamic linker prefers to those of libc for
 * every library in the process: they count and go on to libc's. An increment in thread-local
 * storage costs about a nanosecond, the same for all engines.
 */
#include "bench/allocations.h"

#include <stddef.h>

#if defined(__GLIBC__) || (defined(__has_include) && __has_include(<features.h>))
#include <features.h>
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTS 0
#endif
#endif
#ifndef COUNTS
#ifdef __GLIBC__
#define COUNTS 1
#else
#define COUNTS 0
#endif
#endif

static __thread uint64_t count;

uint64_t allocations_of_thread(void)
{
    return count;
}

bool allocations_are_counted(void)
{
    return COUNTS;
}

#if COUNTS
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t number, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size);
void *calloc(size_t number, size_t size);
void *realloc(void *memory, size_t size);
void *memalign(size_t alignment, size_t size);
void *aligned_alloc(size_t alignment, size_t size);
int posix_memalign(void **memory, size_t alignment, size_t size);

void *malloc(size_t size)
{
    count++;
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count++;
    return __libc_calloc(number, size);
}

void *realloc(void *memory, size_t size)
{
    count++;
    return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size)
{
    count++;
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    void *got = memalign(alignment, size);
    if (got == NULL)
        return 12; /* ENOMEM */
    *memory = got;
    return 0;
}
#endif
