/*
 * The filter of a table: a split-block Bloom filter. Each key sets one bit in each of the 8 words
 * (u32, little-endian) of one 32-byte block, so that a test touches one line of memory.
 *
 * Block = upper half of the hash times block count, shifted; bit of word i = top 5 bits of the
 * lower half times the i-th odd constant. 12 bits a key give 0.5 % false positives.
 */
#ifndef ENGINE_FORMAT_TABLE_FILTER_H
#define ENGINE_FORMAT_TABLE_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TABLE_FILTER_BLOCK    ((size_t)32)
#define TABLE_FILTER_MAX_BITS UINT32_C(64) /* a key */

/* Bytes of the filter of so many keys: a multiple of TABLE_FILTER_BLOCK, at least one. 0 when it
 * would not fit into a frame. */
size_t table_filter_size(uint64_t key_count, uint32_t bits);

/* `filter` was zeroed; hashes are hash_key() of the keys. */
void table_filter_build(uint8_t *filter, size_t size, const uint64_t *hashes, size_t count);

/* False: certainly not there. Any size that is a multiple of TABLE_FILTER_BLOCK; 0 is all there. */
bool table_filter_may_have(const uint8_t *filter, size_t size, uint64_t hash);

static inline size_t table_filter_offset(size_t size, uint64_t hash)
{
    return (size_t)((hash >> 32) * (size / TABLE_FILTER_BLOCK) >> 32) * TABLE_FILTER_BLOCK;
}

/* For tests: as block_use_portable(). */
void table_filter_use_portable(bool portable);

#endif
