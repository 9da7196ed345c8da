/*
 * Keys and values from numbers. Key n is the same in every run of the same options, and its value
 * follows from it, so that a reader can check both without having stored anything.
 */
#ifndef BENCH_KEYS_H
#define BENCH_KEYS_H

#include "bench/options.h"
#include "engine/lsm.h"

#define KEY_MAX_SIZE 1024

struct key_maker {
    uint64_t count; /* keys are 0 .. count-1; see key_permute() */
    uint64_t mask;  /* smallest 2^n - 1 at or above count - 1 */
    uint64_t seed;
    uint8_t *values; /* owned; every value is a piece of it */
    uint64_t value_places;
    uint32_t key_size;
    uint32_t value_size;
    enum key_format format;
};

void key_maker_init(struct key_maker *m, const struct bench_options *o);
void key_maker_release(struct key_maker *m);

/* Writes key number n (which may be beyond count) to `at`, which holds KEY_MAX_SIZE bytes. */
lsm_slice key_make(const struct key_maker *m, uint64_t n, uint8_t *at);

/* A key that no workload ever writes, right behind key n in order. */
lsm_slice key_make_missing(const struct key_maker *m, uint64_t n, uint8_t *at);

/* The i-th key number in random order, each once: i and the result are below count. */
uint64_t key_permute(const struct key_maker *m, uint64_t i);

/* The value of a key, in `at`, which holds value_size bytes. */
lsm_slice value_make(const struct key_maker *m, lsm_slice key, uint8_t *at);
bool value_fits(const struct key_maker *m, lsm_slice key, lsm_slice value);

/* Numbers from a seed: splitmix64. */
struct rng {
    uint64_t state;
};
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t limit); /* uniform in [0, limit) */
double rng_share(struct rng *r);                   /* uniform in [0, 1) */

#endif
