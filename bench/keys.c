/*
 * A value begins with 8 bytes that hash its key; the rest is a piece of one random buffer, chosen
 * by the key. The buffer is made of runs of which `compressible` is random and the rest repeats it,
 * as db_bench does it, and is small enough to stay in the second-level cache.
 */
#include "bench/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_POOL_SIZE ((size_t)256 << 10)
#define VALUE_RUN_SIZE  ((size_t)100)
#define VALUE_HASH_SIZE sizeof(uint64_t)

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t rng_next(struct rng *r)
{
    return mix(r->state += 0x9e3779b97f4a7c15u);
}

uint64_t rng_below(struct rng *r, uint64_t limit)
{
    return (uint64_t)((__extension__(unsigned __int128) rng_next(r) * limit) >> 64);
}

double rng_share(struct rng *r)
{
    return (double)(rng_next(r) >> 11) * 0x1p-53;
}

void key_maker_init(struct key_maker *m, const struct bench_options *o)
{
    size_t pool = VALUE_POOL_SIZE + o->value_size;
    *m = (struct key_maker){.count = o->key_count,
                            .seed = mix(o->seed),
                            .values = malloc(pool),
                            .value_places = VALUE_POOL_SIZE,
                            .key_size = o->key_size,
                            .value_size = o->value_size,
                            .format = o->key_format};
    if (m->values == NULL)
        die("out of memory");
    while (m->mask < m->count - 1)
        m->mask = m->mask * 2 + 1;
    struct rng r = {o->seed};
    size_t fresh = (size_t)((double)VALUE_RUN_SIZE * o->compressible);
    if (fresh == 0)
        fresh = 1;
    for (size_t i = 0; i < pool; i++) {
        size_t place = i % VALUE_RUN_SIZE;
        m->values[i] = place < fresh ? (uint8_t)(' ' + rng_below(&r, 95)) : m->values[i - fresh];
    }
}

void key_maker_release(struct key_maker *m)
{
    free(m->values);
    *m = (struct key_maker){0};
}

static void put_digits(uint8_t *at, uint32_t size, uint64_t n)
{
    for (uint32_t i = size; i > 0; i--) {
        at[i - 1] = (uint8_t)('0' + n % 10);
        n /= 10;
    }
}

lsm_slice key_make(const struct key_maker *m, uint64_t n, uint8_t *at)
{
    switch (m->format) {
    case KEY_BINARY: {
        uint64_t big = __builtin_bswap64(n);
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
        big = n;
#endif
        memcpy(at, &big, sizeof big);
        memset(at + sizeof big, '0', m->key_size - sizeof big);
        break;
    }
    case KEY_DECIMAL:
        put_digits(at, m->key_size, n);
        break;
    case KEY_USER:
        memcpy(at, "user", 4);
        put_digits(at + 4, m->key_size - 4, n);
        break;
    }
    return LSM_SLICE(at, m->key_size);
}

/* The last byte of a real key is a digit; here it is a letter. */
lsm_slice key_make_missing(const struct key_maker *m, uint64_t n, uint8_t *at)
{
    lsm_slice key = key_make(m, n, at);
    at[m->key_size - 1] = (uint8_t)(at[m->key_size - 1] + ('a' - '0'));
    return key;
}

/* Two rounds of reversible steps on the bits of mask, again until the result is below count. */
uint64_t key_permute(const struct key_maker *m, uint64_t i)
{
    unsigned half = (64 - (unsigned)__builtin_clzll(m->mask | 1)) / 2 + 1;
    do {
        for (int round = 0; round < 2; round++) {
            i = (i * 0x9e3779b97f4a7c15u + m->seed) & m->mask;
            i ^= i >> half;
            i = (i * 0xbf58476d1ce4e5b9u) & m->mask;
            i ^= i >> half;
        }
    } while (i >= m->count);
    return i;
}

static uint64_t hash_of_key(const struct key_maker *m, lsm_slice key)
{
    const uint8_t *at = key.data;
    uint64_t hash = m->seed, word;
    size_t left = key.size;
    for (; left >= sizeof word; left -= sizeof word, at += sizeof word) {
        memcpy(&word, at, sizeof word);
        hash = mix(hash ^ word);
    }
    word = left;
    memcpy(&word, at, left);
    return mix(hash ^ word);
}

static const uint8_t *value_piece(const struct key_maker *m, uint64_t hash)
{
    return m->values + hash % m->value_places;
}

lsm_slice value_make(const struct key_maker *m, lsm_slice key, uint8_t *at)
{
    uint64_t hash = hash_of_key(m, key);
    memcpy(at, &hash, VALUE_HASH_SIZE);
    memcpy(at + VALUE_HASH_SIZE, value_piece(m, hash), m->value_size - VALUE_HASH_SIZE);
    return LSM_SLICE(at, m->value_size);
}

bool value_fits(const struct key_maker *m, lsm_slice key, lsm_slice value)
{
    uint64_t hash = hash_of_key(m, key);
    return value.size == m->value_size && memcmp(value.data, &hash, VALUE_HASH_SIZE) == 0 &&
           memcmp((const uint8_t *)value.data + VALUE_HASH_SIZE, value_piece(m, hash),
                  m->value_size - VALUE_HASH_SIZE) == 0;
}
