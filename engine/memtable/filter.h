/*
 * The filter in front of the structure: a split-block Bloom filter. A key has one bit in each of
 * the eight 32-bit words of one 32-byte block, so a test touches one cache line. Bits are set
 * before the entry is published and never cleared; only the inserting thread sets them.
 */
#ifndef ENGINE_MEMTABLE_FILTER_H
#define ENGINE_MEMTABLE_FILTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FILTER_WORDS ((size_t)8)

struct filter_block {
    _Atomic uint32_t words[FILTER_WORDS];
};

#define FILTER_BLOCK_SIZE sizeof(struct filter_block)

/* Odd numbers whose products spread a 32-bit hash, one a word. */
static const uint32_t filter_salts[FILTER_WORDS] = {
    0x47b6137bu, 0x44974d91u, 0x8824ad5bu, 0xa2b7289du,
    0x705495c7u, 0x2df1424bu, 0x9efc4947u, 0x5c6bfb31u,
};

/* The same user key in two families is two keys. */
static inline uint64_t filter_hash(uint32_t cf, uint64_t hash)
{
    return hash ^ cf * UINT64_C(0x9e3779b97f4a7c15);
}

static inline struct filter_block *filter_block(void *filter, uint32_t block_count, uint64_t hash)
{
    return (struct filter_block *)filter + (size_t)((hash >> 32) * block_count >> 32);
}

static inline void filter_add(struct filter_block *block, uint64_t hash)
{
    for (size_t i = 0; i < FILTER_WORDS; i++) {
        uint32_t bit = UINT32_C(1) << ((uint32_t)hash * filter_salts[i] >> 27);
        uint32_t old = atomic_load_explicit(&block->words[i], memory_order_relaxed);
        atomic_store_explicit(&block->words[i], old | bit, memory_order_relaxed);
    }
}

static inline bool filter_may_contain(const struct filter_block *block, uint64_t hash)
{
    for (size_t i = 0; i < FILTER_WORDS; i++) {
        uint32_t bit = UINT32_C(1) << ((uint32_t)hash * filter_salts[i] >> 27);
        if ((atomic_load_explicit(&block->words[i], memory_order_relaxed) & bit) == 0)
            return false;
    }
    return true;
}

#endif
