#include "bench/histogram.h"

#include <inttypes.h>
#include <stdio.h>

/* Values below HISTOGRAM_STEPS have a bucket each; above, the 5 bits after the leading one choose
 * the step within the power of two. */
static uint32_t bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_STEPS)
        return (uint32_t)value;
    uint32_t exponent = 63 - (uint32_t)__builtin_clzll(value);
    return (exponent - 4) * HISTOGRAM_STEPS + (uint32_t)(value >> (exponent - 5)) % HISTOGRAM_STEPS;
}

static uint64_t bucket_first(uint32_t bucket)
{
    if (bucket < HISTOGRAM_STEPS)
        return bucket;
    uint32_t exponent = bucket / HISTOGRAM_STEPS + 4;
    return (uint64_t)(HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS) << (exponent - 5);
}

void histogram_add(struct histogram *h, uint64_t value)
{
    h->counts[bucket_of(value)]++;
    h->total++;
    h->sum += (double)value;
    if (value > h->max)
        h->max = value;
}

void histogram_merge(struct histogram *h, const struct histogram *other)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        h->counts[i] += other->counts[i];
    h->total += other->total;
    h->sum += other->sum;
    if (other->max > h->max)
        h->max = other->max;
}

uint64_t histogram_percentile(const struct histogram *h, double share)
{
    uint64_t below = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        below += h->counts[i];
        if (h->counts[i] == 0 || (double)below < share * (double)h->total)
            continue;
        uint64_t middle = (bucket_first(i) + bucket_first(i + 1)) / 2;
        return middle < h->max ? middle : h->max;
    }
    return h->max;
}

void histogram_print(const struct histogram *h)
{
    uint64_t below = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (h->counts[i] == 0)
            continue;
        below += h->counts[i];
        printf("    from %10.2f us %10" PRIu64 " %8.4f%%\n", (double)bucket_first(i) / 1000,
               h->counts[i], 100 * (double)below / (double)h->total);
    }
}
