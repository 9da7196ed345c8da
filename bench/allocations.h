/* How often the calling thread has entered the heap, whoever of the engines did it. */
#ifndef BENCH_ALLOCATIONS_H
#define BENCH_ALLOCATIONS_H

#include <stdbool.h>
#include <stdint.h>

/* Since the thread began; 0 for ever where allocations_are_counted() is false. */
uint64_t allocations_of_thread(void);

/* False under a sanitizer, which has the heap's entries for itself, and without glibc. */
bool allocations_are_counted(void);

#endif
