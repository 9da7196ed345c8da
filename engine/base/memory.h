/*
 * The one door to the heap: everything else in engine/ allocates here.
 *
 * Counting: the number of calls is kept per process, so that a test can show that a path allocates
 * nothing. Failing: mem_fail_after() makes the n-th allocation from now fail, once or for ever, so
 * that a test can walk through every allocation of an operation.
 */
#ifndef ENGINE_BASE_MEMORY_H
#define ENGINE_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NULL when out of memory. A size of 0 gives a pointer that may be freed. */
void *mem_alloc(size_t size) __attribute__((malloc, warn_unused_result));
void *mem_alloc_zeroed(size_t size) __attribute__((malloc, warn_unused_result));
void *mem_resize(void *memory, size_t size) __attribute__((warn_unused_result));
char *mem_copy_text(const char *text) __attribute__((warn_unused_result));
/* `alignment` is a power of two, at least sizeof(void *); freed with mem_free() like all others. */
void *mem_alloc_aligned(size_t alignment, size_t size) __attribute__((malloc, warn_unused_result));
void mem_free(void *memory); /* NULL is allowed */

/*
 * The same for what may be large: from 128 KiB on it is the kernel's again as soon as it is freed.
 * malloc() keeps freed pieces, after a burst of them for good, and more the larger they were. So
 * whoever frees it tells its size. A size of 0 with memory NULL is nothing, which may be resized.
 */
#define MEM_PAGE ((size_t)4096)
void *mem_alloc_large(size_t alignment, size_t size) __attribute__((malloc, warn_unused_result));
void *mem_resize_large(void *memory, size_t size, size_t new_size)
    __attribute__((warn_unused_result));        /* aligned for all types */
void mem_free_large(void *memory, size_t size); /* as allocated; NULL is allowed */

/* A buffer for transfers, aligned to MEM_PAGE: below 128 KiB a run of pages (engine/base/pages.h).
 */
void *mem_alloc_buffer(size_t size) __attribute__((malloc, warn_unused_result));
void mem_free_buffer(void *memory, size_t size); /* as allocated; NULL is allowed */

/* Gives what the heap holds free back to the kernel, where the C library can: of all the process,
 * so for who was asked to keep to a bound. Takes some milliseconds. */
void mem_trim(void);

/* Sizes from outside are multiplied and added through these; false on overflow. */
static inline bool mem_add(size_t a, size_t b, size_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}
static inline bool mem_multiply(size_t a, size_t b, size_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/* Allocations made by this process since it began. */
uint64_t mem_allocation_count(void);

/* For tests: the allocation after `count` more fails; with `sticky` all later ones too. Negative:
 * none fails (the default). */
void mem_fail_after(int64_t count, bool sticky);

#endif
