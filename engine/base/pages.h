/*
 * Buffers of whole pages, aligned to pages, of this process: what blocks are read into. Thousands
 * of them are taken and given back a second, by many threads at once, few at a time are in use. The
 * C library's aligned allocation leaves splinters around each, in a heap per thread; here they are
 * runs of pages in chunks, the chunks that are in use first, and one that nobody uses is the
 * kernel's again.
 */
#ifndef ENGINE_BASE_PAGES_H
#define ENGINE_BASE_PAGES_H

#include <stddef.h>
#include <stdint.h>

#define PAGES_RUN_BYTES ((size_t)128 << 10) /* a run is at most so large */

/* Of at most PAGES_RUN_BYTES. NULL when out of memory. Any thread. */
void *pages_take(size_t size);
void pages_give_back(void *run, size_t size); /* as taken */

/* Memory behind all runs. */
uint64_t pages_bytes(void);

#endif
