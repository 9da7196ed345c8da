#include "tools/cli/digest.h"

#include <xxhash.h>

void digest_begin(struct digest *d)
{
    *d = (struct digest){0};
}

void digest_add(struct digest *d, lsm_slice key, lsm_slice value)
{
    const void *key_bytes = key.size == 0 ? "" : key.data;
    const void *value_bytes = value.size == 0 ? "" : value.data;
    XXH64_hash_t seed = XXH3_64bits(key_bytes, key.size);
    d->sum += XXH3_64bits_withSeed(value_bytes, value.size, seed);
    d->pair_count++;
    d->byte_count += key.size + value.size;
}

uint64_t digest_value(const struct digest *d)
{
    return d->sum;
}
