#include "tools/cli/digest.h"

#include "tools/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

void digest_begin(struct digest *d)
{
    if (d->state == NULL)
        d->state = XXH3_createState();
    if (d->state == NULL || XXH3_64bits_reset(d->state) != XXH_OK) {
        fputs("out of memory: the state of a digest was wanted\n", stderr);
        exit(EXIT_OPERATION);
    }
    d->pair_count = 0;
    d->byte_count = 0;
}

static void put_u64(unsigned char *at, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

void digest_add(struct digest *d, lsm_slice key, lsm_slice value)
{
    unsigned char sizes[16];
    put_u64(sizes, key.size);
    put_u64(sizes + 8, value.size);
    XXH3_64bits_update(d->state, sizes, sizeof sizes);
    if (key.size > 0)
        XXH3_64bits_update(d->state, key.data, key.size);
    if (value.size > 0)
        XXH3_64bits_update(d->state, value.data, value.size);
    d->pair_count++;
    d->byte_count += key.size + value.size;
}

uint64_t digest_value(const struct digest *d)
{
    return XXH3_64bits_digest(d->state);
}

void digest_release(struct digest *d)
{
    XXH3_freeState(d->state);
    *d = (struct digest){0};
}
