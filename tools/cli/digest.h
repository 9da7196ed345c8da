/*
 * The content hash of a run of pairs: XXH3-64, seed 0, over the size of the key (8 bytes,
 * little-endian), the size of the value (the same), the key, the value, for each pair in order. Two
 * families with the same pairs have the same digest, however they are stored.
 */
#ifndef TOOLS_CLI_DIGEST_H
#define TOOLS_CLI_DIGEST_H

#include "engine/lsm.h"

struct digest {
    void *state; /* owned; NULL before the first begin */
    uint64_t pair_count;
    uint64_t byte_count; /* of keys and values */
};

void digest_begin(struct digest *d); /* may be called again */
void digest_add(struct digest *d, lsm_slice key, lsm_slice value);
uint64_t digest_value(const struct digest *d);
void digest_release(struct digest *d);

#endif
