#include "bench/zipf.h"

#include <math.h>

#define ZIPF_THETA 0.99

static double zeta(uint64_t count)
{
    double sum = 0;
    for (uint64_t i = 1; i <= count; i++)
        sum += 1 / pow((double)i, ZIPF_THETA);
    return sum;
}

void zipf_init(struct zipf *z, uint64_t count)
{
    double zeta_count = zeta(count), zeta_two = zeta(2);
    *z = (struct zipf){.count = count,
                       .alpha = 1 / (1 - ZIPF_THETA),
                       .eta = (1 - pow(2.0 / (double)count, 1 - ZIPF_THETA)) /
                              (1 - zeta_two / zeta_count),
                       .zeta_count = zeta_count,
                       .second = 1 + pow(0.5, ZIPF_THETA)};
}

uint64_t zipf_next(const struct zipf *z, struct rng *r)
{
    double share = rng_share(r), weight = share * z->zeta_count;
    uint64_t rank = weight < 1 ? 0
                    : weight < z->second
                        ? 1
                        : (uint64_t)((double)z->count * pow(z->eta * share - z->eta + 1, z->alpha));
    return rank < z->count ? rank : z->count - 1;
}

uint64_t zipf_next_scrambled(const struct zipf *z, struct rng *r)
{
    struct rng spread = {zipf_next(z, r)};
    return rng_next(&spread) % z->count;
}
