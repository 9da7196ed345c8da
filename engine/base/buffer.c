/* Grows by doubling, so that appends cost a constant each over time. */
#include "engine/base/buffer.h"

#include "engine/base/memory.h"

#include <string.h>

#define BUFFER_FIRST_CAPACITY ((size_t)64)

void buffer_release(struct buffer *b)
{
    mem_free_large(b->data, b->capacity);
    *b = (struct buffer){0};
}

bool buffer_reserve(struct buffer *b, size_t extra)
{
    size_t wanted;
    if (b->failed || !mem_add(b->size, extra, &wanted)) {
        b->failed = true;
        return false;
    }
    if (wanted <= b->capacity)
        return true;
    size_t capacity = b->capacity < BUFFER_FIRST_CAPACITY ? BUFFER_FIRST_CAPACITY : b->capacity;
    while (capacity < wanted && capacity <= SIZE_MAX / 2)
        capacity *= 2;
    if (capacity < wanted)
        capacity = wanted;
    uint8_t *data = mem_resize_large(b->data, b->capacity, capacity);
    if (data == NULL) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

uint8_t *buffer_grow(struct buffer *b, size_t extra)
{
    if (!buffer_reserve(b, extra))
        return NULL;
    uint8_t *at = b->data + b->size;
    b->size += extra;
    return at;
}

void buffer_append(struct buffer *b, const void *data, size_t size)
{
    if (size == 0)
        return;
    uint8_t *at = buffer_grow(b, size);
    if (at != NULL)
        memcpy(at, data, size);
}

void buffer_append_u8(struct buffer *b, uint8_t value)
{
    buffer_append(b, &value, 1);
}

void buffer_append_u16(struct buffer *b, uint16_t value)
{
    uint8_t *at = buffer_grow(b, sizeof value);
    if (at != NULL)
        bytes_put_u16(at, value);
}

void buffer_append_u32(struct buffer *b, uint32_t value)
{
    uint8_t *at = buffer_grow(b, sizeof value);
    if (at != NULL)
        bytes_put_u32(at, value);
}

void buffer_append_u64(struct buffer *b, uint64_t value)
{
    uint8_t *at = buffer_grow(b, sizeof value);
    if (at != NULL)
        bytes_put_u64(at, value);
}

void buffer_append_varint(struct buffer *b, uint64_t value)
{
    if (!buffer_reserve(b, BYTES_VARINT_MAX))
        return;
    b->size += bytes_put_varint(b->data + b->size, value);
}

void buffer_append_zeros(struct buffer *b, size_t count)
{
    if (count == 0)
        return;
    uint8_t *at = buffer_grow(b, count);
    if (at != NULL)
        memset(at, 0, count);
}
