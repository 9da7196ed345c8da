/*
 * Bytes to numbers and back. Stored integers are little-endian; keys are compared as big-endian
 * 8-byte heads. The cursor is the only way to decode bytes that came from outside: it never reads
 * past its limit, and one check of `failed` after a run of takes is enough.
 */
#ifndef ENGINE_BASE_BYTES_H
#define ENGINE_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BYTES_VARINT_MAX 10 /* bytes of the longest varint */

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#define BYTES_LE16(x) __builtin_bswap16(x)
#define BYTES_LE32(x) __builtin_bswap32(x)
#define BYTES_LE64(x) __builtin_bswap64(x)
#define BYTES_BE64(x) (x)
#else
#define BYTES_LE16(x) (x)
#define BYTES_LE32(x) (x)
#define BYTES_LE64(x) (x)
#define BYTES_BE64(x) __builtin_bswap64(x)
#endif

static inline uint16_t bytes_get_u16(const void *at)
{
    uint16_t v;
    memcpy(&v, at, sizeof v);
    return BYTES_LE16(v);
}
static inline uint32_t bytes_get_u32(const void *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return BYTES_LE32(v);
}
static inline uint64_t bytes_get_u64(const void *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return BYTES_LE64(v);
}
static inline void bytes_put_u16(void *at, uint16_t v)
{
    v = BYTES_LE16(v);
    memcpy(at, &v, sizeof v);
}
static inline void bytes_put_u32(void *at, uint32_t v)
{
    v = BYTES_LE32(v);
    memcpy(at, &v, sizeof v);
}
static inline void bytes_put_u64(void *at, uint64_t v)
{
    v = BYTES_LE64(v);
    memcpy(at, &v, sizeof v);
}

/* memcpy() for runs that are short most of the time: keys. No call below 17 bytes. */
static inline void bytes_copy(void *to, const void *from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (size > 16) {
        memcpy(t, f, size);
    } else if (size >= 8) {
        uint64_t first, last;
        memcpy(&first, f, sizeof first);
        memcpy(&last, f + size - sizeof last, sizeof last);
        memcpy(t, &first, sizeof first);
        memcpy(t + size - sizeof last, &last, sizeof last);
    } else if (size >= 4) {
        uint32_t first, last;
        memcpy(&first, f, sizeof first);
        memcpy(&last, f + size - sizeof last, sizeof last);
        memcpy(t, &first, sizeof first);
        memcpy(t + size - sizeof last, &last, sizeof last);
    } else if (size > 0) {
        uint8_t first = f[0], middle = f[size / 2], last = f[size - 1];
        t[0] = first;
        t[size / 2] = middle;
        t[size - 1] = last;
    }
}

/* The first 8 bytes of a key as a big-endian number, zero-filled at the end when it is shorter:
 * head(a) < head(b) implies a < b; equal heads decide nothing. */
static inline uint64_t bytes_head(const void *key, size_t size)
{
    uint64_t v = 0;
    if (size >= sizeof v)
        memcpy(&v, key, sizeof v);
    else
        bytes_copy(&v, key, size);
    return BYTES_BE64(v);
}

/* Writes `v` as LEB128 and returns its length, at most BYTES_VARINT_MAX. */
static inline size_t bytes_put_varint(uint8_t *at, uint64_t v)
{
    size_t n = 0;
    while (v >= 0x80) {
        at[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    at[n++] = (uint8_t)v;
    return n;
}

static inline size_t bytes_varint_size(uint64_t v)
{
    size_t n = 1;
    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}

struct cursor {
    const uint8_t *at;
    const uint8_t *limit;
    bool failed; /* a take went past the limit or met a bad varint; all later takes give 0 */
};

static inline struct cursor cursor_over(const void *data, size_t size)
{
    const uint8_t *at = data;
    return (struct cursor){at, size == 0 ? at : at + size, false};
}

static inline size_t cursor_left(const struct cursor *c)
{
    return (size_t)(c->limit - c->at);
}

/* The next `size` bytes, or NULL (and failed) when fewer are left. */
static inline const uint8_t *cursor_take(struct cursor *c, size_t size)
{
    if (c->failed || cursor_left(c) < size) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *at = c->at;
    c->at += size;
    return at;
}

static inline uint8_t cursor_take_u8(struct cursor *c)
{
    const uint8_t *at = cursor_take(c, 1);
    return at == NULL ? 0 : *at;
}
static inline uint16_t cursor_take_u16(struct cursor *c)
{
    const uint8_t *at = cursor_take(c, 2);
    return at == NULL ? 0 : bytes_get_u16(at);
}
static inline uint32_t cursor_take_u32(struct cursor *c)
{
    const uint8_t *at = cursor_take(c, 4);
    return at == NULL ? 0 : bytes_get_u32(at);
}
static inline uint64_t cursor_take_u64(struct cursor *c)
{
    const uint8_t *at = cursor_take(c, 8);
    return at == NULL ? 0 : bytes_get_u64(at);
}

/* Only the shortest encoding of a number is accepted. */
static inline uint64_t cursor_take_varint(struct cursor *c)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = cursor_take_u8(c);
        if (c->failed)
            return 0;
        if (shift == 63 && byte > 1)
            break;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            if (byte == 0 && shift > 0)
                break;
            return v;
        }
    }
    c->failed = true;
    return 0;
}

#endif
