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

/* hash_bytes() of bytes that come in pieces. One allocation; NULL when out of memory. */
struct hash_stream;
struct hash_stream *hash_stream_new(void);
void hash_stream_free(struct hash_stream *stream); /* NULL is allowed */
void hash_stream_begin(struct hash_stream *stream, uint64_t seed);
void hash_stream_add(struct hash_stream *stream, const void *data, size_t size);
uint64_t hash_stream_end(const struct hash_stream *stream);

/* The seed of a checksum: bytes at `offset` of file `file_number` of database `uuid`. */
uint64_t hash_place(const uint8_t uuid[HASH_UUID_SIZE], uint64_t file_number, uint64_t offset);

/* The hash of a user key that memtable and table filters share. Never changes: filters store it. */
uint64_t hash_key(const void *key, size_t size);

#endif
