/*
 * Laying out a block. The common prefix is known only when the last key is: keys and values are
 * kept as they came and put in columns at the end, in one pass.
 */
#include "engine/format/block.h"

#include "engine/base/memory.h"

#include <assert.h>

#define FIRST_CAPACITY ((size_t)128)
/* Buffers grown over this by a giant entry are given back afterwards. */
#define KEPT_CAPACITY ((size_t)4 << 20)

struct block_builder_entry {
    uint64_t trailer;
    uint32_t key_size;
    uint32_t value_size;
    uint8_t tag;
};

void block_builder_init(struct block_builder *b, size_t headroom)
{
    *b = (struct block_builder){.headroom = headroom};
}

void block_builder_release(struct block_builder *b)
{
    buffer_release(&b->bytes);
    buffer_release(&b->built);
    mem_free(b->entries);
    *b = (struct block_builder){0};
}

static void clear_buffer(struct buffer *buffer)
{
    if (buffer->capacity > KEPT_CAPACITY)
        buffer_release(buffer);
    buffer_clear(buffer);
}

void block_builder_clear(struct block_builder *b)
{
    clear_buffer(&b->bytes);
    clear_buffer(&b->built);
    b->count = 0;
    b->failed = false;
    b->prefix_size = 0;
    b->key_bytes = 0;
    b->value_bytes = 0;
}

static bool reserve_entry(struct block_builder *b)
{
    if (b->count < b->capacity)
        return true;
    size_t capacity = b->capacity == 0 ? FIRST_CAPACITY : b->capacity * 2;
    struct block_builder_entry *entries = mem_resize(b->entries, capacity * sizeof *entries);
    if (entries == NULL)
        return false;
    b->entries = entries;
    b->capacity = capacity;
    return true;
}

lsm_slice block_builder_last_key(const struct block_builder *b)
{
    assert(b->count > 0);
    const struct block_builder_entry *last = &b->entries[b->count - 1];
    return (lsm_slice){b->bytes.data + b->bytes.size - last->value_size - last->key_size,
                       last->key_size};
}

uint64_t block_builder_last_trailer(const struct block_builder *b)
{
    assert(b->count > 0);
    return b->entries[b->count - 1].trailer;
}

/* Bytes that `key` and the prefix so far begin with. */
static size_t shorter_prefix(const struct block_builder *b, lsm_slice key)
{
    const uint8_t *first = b->bytes.data, *other = key.data;
    size_t limit = b->prefix_size < key.size ? b->prefix_size : key.size;
    if (limit == 0 || memcmp(first, other, limit) == 0)
        return limit;
    size_t n = 0;
    while (first[n] == other[n])
        n++;
    return n;
}

static void note_bounds(struct block_builder *b, lsm_slice key, uint64_t trailer)
{
    uint32_t key_size = (uint32_t)key.size;
    if (b->count == 0) {
        b->prefix_size = key.size;
        b->min_key_size = b->max_key_size = key_size;
        b->min_trailer = b->max_trailer = trailer;
        return;
    }
    b->prefix_size = shorter_prefix(b, key);
    b->min_key_size = key_size < b->min_key_size ? key_size : b->min_key_size;
    b->max_key_size = key_size > b->max_key_size ? key_size : b->max_key_size;
    b->min_trailer = trailer < b->min_trailer ? trailer : b->min_trailer;
    b->max_trailer = trailer > b->max_trailer ? trailer : b->max_trailer;
}

void block_builder_add(struct block_builder *b, lsm_slice key, uint64_t hash, uint64_t trailer,
                       lsm_slice value)
{
    assert(key.size <= LSM_MAX_KEY_SIZE && value.size <= LSM_MAX_VALUE_SIZE);
    /* One more: an empty key with an empty value has a place, too. */
    if (!reserve_entry(b) || !buffer_reserve(&b->bytes, key.size + value.size + 1)) {
        b->failed = true;
        return;
    }
    note_bounds(b, key, trailer);
    b->entries[b->count++] = (struct block_builder_entry){
        .trailer = trailer,
        .key_size = (uint32_t)key.size,
        .value_size = (uint32_t)value.size,
        .tag = (uint8_t)(hash >> 32),
    };
    uint8_t *at = b->bytes.data + b->bytes.size;
    if (key.size > 0)
        memcpy(at, key.data, key.size);
    if (value.size > 0)
        memcpy(at + key.size, value.data, value.size);
    b->bytes.size += key.size + value.size;
    b->key_bytes += key.size;
    b->value_bytes += value.size;
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static size_t trailer_size_for(uint64_t min, uint64_t max)
{
    if (min == max)
        return 0;
    return max - min <= UINT32_MAX ? 4 : 8;
}

struct shape {
    size_t count, prefix_size, key_bytes, value_bytes;
    uint32_t min_key_size, max_key_size;
    uint64_t min_trailer, max_trailer;
};

/* Bytes of the columns and the prefix, when offsets take `offset_size`. */
static size_t columns_size(const struct shape *s, size_t offset_size)
{
    return BLOCK_HEADER_SIZE + block_tags_size((uint32_t)s->count) + s->count * BLOCK_HEAD_SIZE +
           s->count * trailer_size_for(s->min_trailer, s->max_trailer) +
           (s->count + 1) * offset_size + (s->min_key_size == s->max_key_size ? 0 : s->count * 2) +
           s->prefix_size;
}

static size_t estimate(const struct shape *s)
{
    size_t stripped = s->count * (s->prefix_size + BLOCK_HEAD_SIZE);
    size_t heap = s->value_bytes + (s->key_bytes > stripped ? s->key_bytes - stripped : 0);
    size_t size = columns_size(s, 2) + heap;
    return size <= UINT16_MAX ? size : columns_size(s, 4) + heap;
}

size_t block_builder_size_with(const struct block_builder *b, lsm_slice key, size_t value_size)
{
    struct shape s = {b->count,        b->prefix_size,  b->key_bytes,   b->value_bytes,
                      b->min_key_size, b->max_key_size, b->min_trailer, b->max_trailer};
    if (key.size == 0 && value_size == 0)
        return estimate(&s);
    s.count++;
    s.key_bytes += key.size;
    s.value_bytes += value_size;
    if (b->count == 0) {
        s.prefix_size = key.size;
        s.min_key_size = s.max_key_size = (uint32_t)key.size;
        return estimate(&s);
    }
    s.prefix_size = shorter_prefix(b, key);
    if (key.size < s.min_key_size || key.size > s.max_key_size)
        s.max_key_size = s.min_key_size + 1; /* a column of sizes is needed */
    return estimate(&s);
}

/* ---- layout ---------------------------------------------------------------------------------- */

static size_t rest_size(const struct block_builder_entry *e, size_t prefix)
{
    size_t suffix = e->key_size - prefix;
    return suffix > BLOCK_HEAD_SIZE ? suffix - BLOCK_HEAD_SIZE : 0;
}

static size_t heap_size(const struct block_builder *b)
{
    if (b->min_key_size - b->prefix_size >= BLOCK_HEAD_SIZE)
        return b->bytes.size - b->count * (b->prefix_size + BLOCK_HEAD_SIZE);
    size_t size = b->value_bytes;
    for (size_t i = 0; i < b->count; i++)
        size += rest_size(&b->entries[i], b->prefix_size);
    return size;
}

static void put_header(const struct block_builder *b, uint8_t *at, unsigned flags)
{
    memset(at, 0, BLOCK_HEADER_SIZE);
    bytes_put_u32(at, b->count);
    bytes_put_u16(at + 4, (uint16_t)b->prefix_size);
    if (!(flags & BLOCK_KEY_SIZES))
        bytes_put_u16(at + 6, (uint16_t)(b->max_key_size - b->prefix_size));
    at[8] = (uint8_t)flags;
    if (!(flags & BLOCK_LONG_TRAILERS))
        bytes_put_u64(at + 16, b->min_trailer);
}

static void put_trailers(const struct block_builder *b, uint8_t *at, unsigned flags)
{
    for (size_t i = 0; i < b->count; i++) {
        if (flags & BLOCK_SHORT_TRAILERS)
            bytes_put_u32(at + i * 4, (uint32_t)(b->entries[i].trailer - b->min_trailer));
        else
            bytes_put_u64(at + i * 8, b->entries[i].trailer);
    }
}

static void put_key_sizes(const struct block_builder *b, uint8_t *at)
{
    for (size_t i = 0; i < b->count; i++)
        bytes_put_u16(at + i * 2, (uint16_t)(b->entries[i].key_size - b->prefix_size));
}

/* Tags, heads, offsets and heap in one pass over the collected bytes. */
static void put_entries(const struct block_builder *b, const struct block_view *v, uint8_t *data,
                        size_t heap)
{
    uint8_t *tags = data + BLOCK_HEADER_SIZE;
    uint8_t *heads = data + (v->heads - v->data);
    uint8_t *offsets = data + (v->offsets - v->data);
    bool wide = (v->flags & BLOCK_WIDE_OFFSETS) != 0;
    size_t prefix = b->prefix_size;
    const uint8_t *from = b->bytes.data;
    for (size_t i = 0; i <= b->count; i++) {
        if (wide)
            bytes_put_u32(offsets + i * 4, (uint32_t)heap);
        else
            bytes_put_u16(offsets + i * 2, (uint16_t)heap);
        if (i == b->count)
            break;
        const struct block_builder_entry *e = &b->entries[i];
        size_t rest = rest_size(e, prefix);
        tags[i] = e->tag;
        bytes_put_u64(heads + i * BLOCK_HEAD_SIZE, bytes_head(from + prefix, e->key_size - prefix));
        /* The end of the key and the value are neighbours already. */
        size_t copied = rest + e->value_size;
        from += e->key_size + e->value_size;
        if (copied > 0)
            memcpy(data + heap, from - copied, copied);
        heap += copied;
    }
    memset(tags + b->count, 0, block_tags_size(b->count) - b->count);
}

static unsigned flags_for(const struct block_builder *b)
{
    size_t trailer_size = trailer_size_for(b->min_trailer, b->max_trailer);
    unsigned flags = trailer_size == 4   ? BLOCK_SHORT_TRAILERS
                     : trailer_size == 8 ? BLOCK_LONG_TRAILERS
                                         : 0;
    return b->min_key_size == b->max_key_size ? flags : flags | BLOCK_KEY_SIZES;
}

lsm_status block_builder_finish(struct block_builder *b, uint8_t **data, size_t *size)
{
    assert(b->count > 0 || b->failed);
    if (b->failed)
        return LSM_NO_MEMORY;
    struct shape s = {b->count,        b->prefix_size,  b->key_bytes,   b->value_bytes,
                      b->min_key_size, b->max_key_size, b->min_trailer, b->max_trailer};
    unsigned flags = flags_for(b);
    size_t heap = columns_size(&s, 2), total = heap + heap_size(b);
    if (total > UINT16_MAX) {
        flags |= BLOCK_WIDE_OFFSETS;
        heap = columns_size(&s, 4);
        total = heap + heap_size(b);
    }
    if (total > BLOCK_MAX_SIZE)
        return LSM_TOO_LARGE;
    buffer_clear(&b->built);
    uint8_t *built = buffer_grow(&b->built, b->headroom + total);
    if (built == NULL)
        return LSM_NO_MEMORY;
    built += b->headroom;
    put_header(b, built, flags);
    struct block_view v = block_view_of(built);
    if (flags & (BLOCK_SHORT_TRAILERS | BLOCK_LONG_TRAILERS))
        put_trailers(b, built + (v.trailers - v.data), flags);
    if (flags & BLOCK_KEY_SIZES)
        put_key_sizes(b, built + (v.key_sizes - v.data));
    if (b->prefix_size > 0)
        memcpy(built + (v.prefix - v.data), b->bytes.data, b->prefix_size);
    put_entries(b, &v, built, heap);
    *data = built;
    *size = total;
    return LSM_OK;
}
