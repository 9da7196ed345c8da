/*
 * The content hash of a set of pairs: the sum, modulo 2^64, of a hash for each pair, which is
 * XXH3-64 of the value, seeded with XXH3-64 (seed 0) of the key. Two families with the same pairs
 * have the same digest, however they are stored and in whatever order they are read.
 */
#ifndef TOOLS_CLI_DIGEST_H
#define TOOLS_CLI_DIGEST_H

#include "engine/lsm.h"

struct digest {
    uint64_t sum;
    uint64_t pair_count;
    uint64_t byte_count; /* of keys and values */
};

void digest_begin(struct digest *d); /* may be called again */
void digest_add(struct digest *d, lsm_slice key, lsm_slice value);
uint64_t digest_value(const struct digest *d);

#endif
