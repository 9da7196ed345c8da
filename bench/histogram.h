/*
 * Counts of latencies in buckets that grow with the latency: 32 to each power of two, so that a
 * percentile is off by 3 % at most, in any range, without knowing the range before.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS   32
#define HISTOGRAM_BUCKETS (60 * HISTOGRAM_STEPS)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t max;
    double sum;
};

void histogram_add(struct histogram *h, uint64_t value);
void histogram_merge(struct histogram *h, const struct histogram *other);

/* The value that `share` (0 to 1) of all lie at or below; 0 when there are none. */
uint64_t histogram_percentile(const struct histogram *h, double share);

/* A line for each bucket that holds something. */
void histogram_print(const struct histogram *h);

#endif
