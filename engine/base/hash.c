/* XXH3 is inlined here so that short keys hash in a few nanoseconds. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "engine/base/hash.h"

#include "engine/base/bytes.h"
#include "engine/base/memory.h"

uint64_t hash_bytes(const void *data, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, size, seed);
}

struct hash_stream {
    XXH3_state_t state;
};

struct hash_stream *hash_stream_new(void)
{
    return mem_alloc_aligned(64, sizeof(struct hash_stream));
}

void hash_stream_free(struct hash_stream *stream)
{
    mem_free(stream);
}

void hash_stream_begin(struct hash_stream *stream, uint64_t seed)
{
    XXH3_64bits_reset_withSeed(&stream->state, seed);
}

void hash_stream_add(struct hash_stream *stream, const void *data, size_t size)
{
    if (size > 0)
        XXH3_64bits_update(&stream->state, data, size);
}

uint64_t hash_stream_end(const struct hash_stream *stream)
{
    return XXH3_64bits_digest(&stream->state);
}

uint64_t hash_place(const uint8_t uuid[HASH_UUID_SIZE], uint64_t file_number, uint64_t offset)
{
    uint8_t place[HASH_UUID_SIZE + 16];
    memcpy(place, uuid, HASH_UUID_SIZE);
    bytes_put_u64(place + HASH_UUID_SIZE, file_number);
    bytes_put_u64(place + HASH_UUID_SIZE + 8, offset);
    return XXH3_64bits(place, sizeof place);
}

uint64_t hash_key(const void *key, size_t size)
{
    return XXH3_64bits(key, size);
}
