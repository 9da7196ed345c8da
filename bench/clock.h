/*
 * Time, cheaply: the processor's counter where it ticks evenly (a third of a clock_gettime), else
 * the monotonic clock.
 */
#ifndef BENCH_CLOCK_H
#define BENCH_CLOCK_H

#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

static inline uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline uint64_t clock_ticks(void)
{
#if defined(__x86_64__)
    return __rdtsc();
#else
    return clock_ns();
#endif
}

/* Finds out how long a tick is; takes 20 ms. Before the first clock_ticks_to_ns(). */
void clock_calibrate(void);

uint64_t clock_ticks_to_ns(uint64_t ticks);

/* What clock_ns() was when clock_ticks() was `ticks`, a moment ago. */
uint64_t clock_ns_at(uint64_t ticks);

#endif
