/*
 * XXH3-64 in its two uses: the checksum of stored bytes, and the hash of keys.
 *
 * A checksum is seeded with where its bytes belong, so that a block in the wrong place is damage
 * too. Source: libxxhash.
 */
#ifndef ENGINE_BASE_HASH_H
#define ENGINE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_UUID_SIZE 16

uint64_t hash_bytes(const void *data, size_t size, uint64_t seed);

/* The seed of a checksum: bytes at `offset` of file `file_number` of database `uuid`. */
uint64_t hash_place(const uint8_t uuid[HASH_UUID_SIZE], uint64_t file_number, uint64_t offset);

/* The hash of a user key that memtable and table filters share. Never changes: filters store it. */
uint64_t hash_key(const void *key, size_t size);

#endif
