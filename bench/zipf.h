/* Ranks that follow Zipf's law with YCSB's constant 0.99 (Gray et al., SIGMOD 1994). */
#ifndef BENCH_ZIPF_H
#define BENCH_ZIPF_H

#include "bench/keys.h"

struct zipf {
    uint64_t count;
    double alpha;
    double eta;
    double zeta_count;
    double second; /* 1 + 0.5^theta: up to here it is rank 1 */
};

/* Costs a power for each of `count`. */
void zipf_init(struct zipf *z, uint64_t count);

uint64_t zipf_next(const struct zipf *z, struct rng *r); /* 0 is the most frequent; below count */

/* The same, the frequent ones spread over all numbers. */
uint64_t zipf_next_scrambled(const struct zipf *z, struct rng *r);

#endif
