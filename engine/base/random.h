/* A small seeded generator (splitmix64) for tests, skiplist heights and sampling. Not for secrets. */
#ifndef ENGINE_BASE_RANDOM_H
#define ENGINE_BASE_RANDOM_H

#include <stdint.h>

struct random_state {
    uint64_t state;
};

static inline struct random_state random_seeded(uint64_t seed)
{
    return (struct random_state){seed};
}

static inline uint64_t random_next(struct random_state *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in [0, limit); limit > 0. */
static inline uint64_t random_below(struct random_state *r, uint64_t limit)
{
    return (uint64_t)((__extension__(unsigned __int128)random_next(r) * limit) >> 64);
}

#endif
