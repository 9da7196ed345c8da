/*
 * A growable run of bytes: the one buffer type. Zeroed is empty. A failed growth sets `failed` and
 * makes every later append do nothing, so a writer checks once at the end.
 */
#ifndef ENGINE_BASE_BUFFER_H
#define ENGINE_BASE_BUFFER_H

#include "engine/base/bytes.h"
#include "engine/base/slice.h"

struct buffer {
    uint8_t *data; /* owned */
    size_t size;
    size_t capacity;
    bool failed; /* an allocation failed; contents are cut */
};

void buffer_release(struct buffer *b);                /* becomes empty */
bool buffer_reserve(struct buffer *b, size_t extra);  /* room for `extra` more bytes */
uint8_t *buffer_grow(struct buffer *b, size_t extra); /* appends unset bytes; NULL on failure */
void buffer_append(struct buffer *b, const void *data, size_t size);
void buffer_append_u8(struct buffer *b, uint8_t value);
void buffer_append_u16(struct buffer *b, uint16_t value); /* little-endian, as all below */
void buffer_append_u32(struct buffer *b, uint32_t value);
void buffer_append_u64(struct buffer *b, uint64_t value);
void buffer_append_varint(struct buffer *b, uint64_t value);
void buffer_append_zeros(struct buffer *b, size_t count);

static inline void buffer_clear(struct buffer *b)
{
    b->size = 0;
    b->failed = false;
}

/* Makes `bytes` all that it holds; false when that failed. */
static inline bool buffer_assign(struct buffer *b, lsm_slice bytes)
{
    buffer_clear(b);
    if (bytes.size > b->capacity && !buffer_reserve(b, bytes.size))
        return false;
    if (bytes.size > 0)
        bytes_copy(b->data, bytes.data, bytes.size);
    b->size = bytes.size;
    return true;
}

static inline lsm_slice buffer_slice(const struct buffer *b)
{
    return (lsm_slice){b->data, b->size};
}

#endif
