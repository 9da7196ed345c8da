/*
 * A search reads the samples first, which are few and stay in the processor's cache, and then one
 * group of entries. Where heads are even, samples are guessed at; else no branch depends on a head.
 */
#include "engine/format/table_index.h"

#include "engine/base/memory.h"

#include <assert.h>
#include <stdatomic.h>

#define HEADER_SIZE  ((size_t)16)
#define BLOCK_COST   ((size_t)20) /* bytes of a block in the payload's columns */
#define TRAILER_SIZE ((size_t)8)
#define CACHE_LINE   64

/* ---- building -------------------------------------------------------------------------------- */

/* Bytes of `first` that tell it from `last`, not ending in a zero byte unless it ends there. */
static size_t separator_size(lsm_slice last, lsm_slice first)
{
    const uint8_t *bytes = first.data;
    size_t size = slice_common_prefix(last, first) + 1;
    while (size < first.size && bytes[size - 1] == 0)
        size++;
    return size < first.size ? size : first.size;
}

void table_index_add(struct table_index_builder *b, lsm_slice last, uint64_t last_trailer,
                     lsm_slice first, uint64_t offset)
{
    uint64_t trailer = ENTRY_MAX_TRAILER;
    if (b->count > 0) {
        size_t size = first.size;
        if (slice_equal(last, first))
            trailer = last_trailer - 1;
        else
            size = separator_size(last, first);
        buffer_append(&b->keys, first.data, size);
    }
    buffer_append_u64(&b->ends, b->keys.size);
    buffer_append_u64(&b->trailers, trailer);
    buffer_append_u64(&b->offsets, offset);
    b->count++;
}

static lsm_slice built_separator(const struct table_index_builder *b, size_t index)
{
    uint64_t first = index == 0 ? 0 : bytes_get_u64(b->ends.data + (index - 1) * 8);
    uint64_t limit = bytes_get_u64(b->ends.data + index * 8);
    if (limit == first)
        return (lsm_slice){NULL, 0};
    return (lsm_slice){b->keys.data + first, (size_t)(limit - first)};
}

/* True when the separator (after the prefix) needs its bytes and trailer. */
static bool needs_bytes(lsm_slice suffix, uint64_t trailer)
{
    const uint8_t *bytes = suffix.data;
    return trailer != ENTRY_MAX_TRAILER || suffix.size > 8 ||
           (suffix.size > 0 && bytes[suffix.size - 1] == 0);
}

/* The separator of block `index` > 0 after the table's prefix, with which all of them begin. */
static lsm_slice built_suffix(const struct table_index_builder *b, size_t index, size_t prefix)
{
    lsm_slice s = built_separator(b, index);
    assert(s.size >= prefix);
    return s.size == prefix ? (lsm_slice){NULL, 0}
                            : (lsm_slice){(const uint8_t *)s.data + prefix, s.size - prefix};
}

static void append_ends(const struct table_index_builder *b, size_t prefix, struct buffer *to,
                        uint64_t *total)
{
    *total = 0;
    for (size_t i = 0; i < b->count; i++) {
        if (i > 0) {
            lsm_slice suffix = built_suffix(b, i, prefix);
            if (needs_bytes(suffix, bytes_get_u64(b->trailers.data + i * 8)))
                *total += TRAILER_SIZE + suffix.size;
        }
        buffer_append_u32(to, (uint32_t)*total);
    }
}

lsm_status table_index_finish(const struct table_index_builder *b, lsm_slice smallest,
                              lsm_slice largest, struct buffer *to)
{
    if (b->keys.failed || b->ends.failed || b->trailers.failed || b->offsets.failed)
        return LSM_NO_MEMORY;
    size_t prefix = slice_common_prefix(smallest, largest);
    size_t header = to->size;
    buffer_append_u32(to, b->count);
    buffer_append_u16(to, (uint16_t)prefix);
    buffer_append_zeros(to, HEADER_SIZE - 6);
    for (size_t i = 0; i < b->count; i++) {
        lsm_slice suffix = i == 0 ? (lsm_slice){NULL, 0} : built_suffix(b, i, prefix);
        buffer_append_u64(to, bytes_head(suffix.data, suffix.size));
    }
    buffer_append(to, b->offsets.data, b->offsets.size);
    uint64_t total;
    append_ends(b, prefix, to, &total);
    if (total > UINT32_MAX / 2)
        return LSM_TOO_LARGE;
    buffer_append(to, smallest.data, prefix);
    for (size_t i = 1; i < b->count; i++) {
        lsm_slice suffix = built_suffix(b, i, prefix);
        uint64_t trailer = bytes_get_u64(b->trailers.data + i * 8);
        if (!needs_bytes(suffix, trailer))
            continue;
        buffer_append_u64(to, trailer);
        buffer_append(to, suffix.data, suffix.size);
    }
    if (to->failed)
        return LSM_NO_MEMORY;
    bytes_put_u32(to->data + header + 8, (uint32_t)total);
    return LSM_OK;
}

void table_index_builder_release(struct table_index_builder *b)
{
    buffer_release(&b->keys);
    buffer_release(&b->ends);
    buffer_release(&b->trailers);
    buffer_release(&b->offsets);
    b->count = 0;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static bool refuse(struct table_problem *problem, const char *what, uint64_t expected,
                   uint64_t found)
{
    *problem = (struct table_problem){what, expected, found};
    return false;
}

static size_t group_count(const struct table_index *index)
{
    return ((size_t)index->count + (TABLE_INDEX_GROUP - 1)) / TABLE_INDEX_GROUP;
}

/* All arrays in one piece, those with the widest elements first. */
static bool allocate(struct table_index *index, size_t bytes)
{
    size_t count = index->count, groups = group_count(index);
    size_t size = count * sizeof *index->entries + groups * sizeof *index->samples;
    size += (count + 1) * (sizeof *index->offsets + sizeof *index->ends) + bytes;
    index->entries = mem_alloc_large(CACHE_LINE, size);
    if (index->entries == NULL)
        return false;
    index->memory = size;
    index->samples = (uint64_t *)(void *)(index->entries + count);
    index->offsets = index->samples + groups;
    index->ends = (uint32_t *)(void *)(index->offsets + count + 1);
    index->bytes = (uint8_t *)(void *)(index->ends + count + 1);
    return true;
}

#define SAMPLES_NEAR ((size_t)8)  /* that are looked at around a guess */
#define SAMPLES_FEW  ((size_t)16) /* fewer are searched as fast */

/* Half of a number, as conversions from signed numbers are the fast ones. */
static inline double half_of(uint64_t n)
{
    return (double)(int64_t)(n / 2);
}

/* Without the first sample, which is 0 whatever the keys are. */
static double density_of(const uint64_t *samples, size_t count)
{
    if (count < SAMPLES_FEW || samples[count - 1] - samples[1] < 2)
        return 0;
    return (double)(count - 2) / half_of(samples[count - 1] - samples[1]);
}

static const char *take_columns(struct table_index *index, const uint8_t *heads,
                                const uint8_t *offsets, const uint8_t *ends, uint64_t data_size)
{
    index->ends[0] = 0;
    for (size_t i = 0; i < index->count; i++) {
        index->entries[i].head = bytes_get_u64(heads + i * 8);
        atomic_init(&index->entries[i].slot, NULL);
        index->offsets[i] = bytes_get_u64(offsets + i * 8);
        index->ends[i + 1] = bytes_get_u32(ends + i * 4);
        if (index->offsets[i] % TABLE_FRAME_ALIGNMENT != 0)
            return "an index entry's offset is not aligned";
        uint32_t size = index->ends[i + 1] - index->ends[i];
        if (index->ends[i + 1] < index->ends[i] || (size > 0 && size < TRAILER_SIZE) ||
            size > TRAILER_SIZE + LSM_MAX_KEY_SIZE)
            return "a separator of the index has an impossible size";
        if (i == 0 ? index->offsets[0] != 0 || size != 0 || index->entries[0].head != 0
                   : index->entries[i].head < index->entries[i - 1].head ||
                         index->offsets[i] - index->offsets[i - 1] < TABLE_FRAME_SIZE ||
                         index->offsets[i] < index->offsets[i - 1])
            return "the entries of the index are out of order";
    }
    for (size_t i = 0; i < group_count(index); i++)
        index->samples[i] = index->entries[i * TABLE_INDEX_GROUP].head;
    index->sample_density = density_of(index->samples, group_count(index));
    index->offsets[index->count] = data_size;
    if (index->offsets[index->count - 1] >= data_size ||
        data_size - index->offsets[index->count - 1] < TABLE_FRAME_SIZE)
        return "the index reaches beyond the data";
    return NULL;
}

bool table_index_decode(lsm_slice payload, uint64_t data_size, struct table_index *index,
                        struct table_problem *problem)
{
    struct table_index made = {0};
    struct cursor c = cursor_over(payload.data, payload.size);
    made.count = cursor_take_u32(&c);
    made.prefix_size = cursor_take_u16(&c);
    uint16_t zero_a = cursor_take_u16(&c);
    size_t separators = cursor_take_u32(&c);
    uint32_t zero_b = cursor_take_u32(&c);
    if (c.failed || zero_a != 0 || zero_b != 0)
        return refuse(problem, "the index has no header", HEADER_SIZE, payload.size);
    if (made.count == 0 || made.count > cursor_left(&c) / BLOCK_COST)
        return refuse(problem, "the index's block count is impossible",
                      cursor_left(&c) / BLOCK_COST, made.count);
    const uint8_t *heads = cursor_take(&c, (size_t)made.count * 8);
    const uint8_t *offsets = cursor_take(&c, (size_t)made.count * 8);
    const uint8_t *ends = cursor_take(&c, (size_t)made.count * 4);
    size_t bytes = separators + made.prefix_size;
    if (c.failed || cursor_left(&c) != bytes)
        return refuse(problem, "the index has another size", bytes, cursor_left(&c));
    *problem = (struct table_problem){NULL, 0, 0};
    if (!allocate(&made, bytes))
        return false;
    if (bytes > 0)
        memcpy(made.bytes, c.at, bytes);
    problem->what = take_columns(&made, heads, offsets, ends, data_size);
    if (problem->what == NULL && made.ends[made.count] != separators)
        problem->what = "the index's separators have another size";
    if (problem->what != NULL) {
        table_index_release(&made);
        return false;
    }
    *index = made;
    return true;
}

void table_index_release(struct table_index *index)
{
    mem_free_large(index->entries, index->memory);
    *index = (struct table_index){0};
}

/* ---- searching ------------------------------------------------------------------------------- */

/* Where the group would be with samples as far apart as they are on average: the first of
 * SAMPLES_NEAR samples around it. */
static inline const uint64_t *samples_near(const struct table_index *index, size_t count,
                                           uint64_t head)
{
    const uint64_t *samples = index->samples;
    if (head < samples[1])
        return samples;
    double most = (double)(count - SAMPLES_NEAR);
    double at = half_of(head - samples[1]) * index->sample_density - (double)(SAMPLES_NEAR / 2 - 1);
    return samples + (at <= 0 ? 0 : at < most ? (size_t)at : count - SAMPLES_NEAR);
}

/* The first entry of the last group that begins with a head of at most `head`: the first of all
 * begins with 0. */
static uint32_t group_of(const struct table_index *index, uint64_t head)
{
    const uint64_t *at = index->samples;
    size_t count = group_count(index);
    if (index->sample_density > 0) {
        const uint64_t *near = samples_near(index, count, head);
        bool ends_there = near + SAMPLES_NEAR == at + count || head < near[SAMPLES_NEAR];
        if (near[0] <= head && ends_there) {
            uint32_t group = (uint32_t)(near - at);
            for (size_t i = 1; i < SAMPLES_NEAR; i++)
                group += near[i] <= head;
            return group * TABLE_INDEX_GROUP;
        }
    }
    while (count > 1) {
        size_t half = count / 2;
        at = at[half] <= head ? at + half : at;
        count -= half;
    }
    return (uint32_t)(at - index->samples) * TABLE_INDEX_GROUP;
}

/* How many heads are at most `head`, as the group that begins with entry `first` says. */
static uint32_t count_in_group(const struct table_index *index, uint32_t first, uint64_t head)
{
    uint32_t left = index->count - first;
    const struct table_index_entry *at = &index->entries[first];
    for (uint32_t count = left < TABLE_INDEX_GROUP ? left : TABLE_INDEX_GROUP; count > 1;) {
        uint32_t half = count / 2;
        at = at[half].head <= head ? at + half : at;
        count -= half;
    }
    return (uint32_t)(at - index->entries) + 1;
}

/* How many heads are at most `head`; at least 1, as the first is 0. */
static uint32_t count_at_most(const struct table_index *index, uint64_t head)
{
    return count_in_group(index, group_of(index, head), head);
}

/* Block's separator (after the prefix) against a key suffix whose head is equal. */
static int compare_equal_heads(const struct table_index *index, uint32_t block, lsm_slice suffix,
                               uint64_t trailer)
{
    uint32_t first = index->ends[block], limit = index->ends[block + 1];
    if (first == limit)
        return -1; /* at most the key, whatever its bytes; equal does not matter */
    const uint8_t *bytes = index->bytes + index->prefix_size + first;
    uint64_t own = bytes_get_u64(bytes);
    lsm_slice separator = {bytes + TRAILER_SIZE, limit - first - TRAILER_SIZE};
    return entry_compare(separator, own, suffix, trailer);
}

/* The part of `key` after the table's prefix, with which it begins. */
static lsm_slice suffix_of(const struct table_index *index, lsm_slice key)
{
    size_t size = key.size - index->prefix_size;
    return size == 0 ? (lsm_slice){NULL, 0}
                     : (lsm_slice){(const uint8_t *)key.data + index->prefix_size, size};
}

void table_index_append_separator(const struct table_index *index, uint32_t block,
                                  struct buffer *to)
{
    uint32_t first = index->ends[block], limit = index->ends[block + 1];
    if (block == 0)
        return;
    buffer_append(to, index->bytes, index->prefix_size);
    if (first < limit) {
        buffer_append(to, index->bytes + index->prefix_size + first + TRAILER_SIZE,
                      limit - first - TRAILER_SIZE);
        return;
    }
    /* A separator that its head decides does not end in a zero byte. */
    for (uint64_t head = index->entries[block].head; head != 0; head <<= 8)
        buffer_append_u8(to, (uint8_t)(head >> 56));
}

int table_index_compare(const struct table_index *index, uint32_t block, lsm_slice key,
                        uint64_t trailer)
{
    lsm_slice prefix = {index->bytes, index->prefix_size};
    if (!slice_begins_with(key, prefix))
        return slice_compare(prefix, key);
    lsm_slice suffix = suffix_of(index, key);
    uint64_t head = bytes_head(suffix.data, suffix.size);
    if (index->entries[block].head != head)
        return index->entries[block].head < head ? -1 : 1;
    return compare_equal_heads(index, block, suffix, trailer);
}

/* Among blocks whose heads equal the key's, [first, limit): how many separators are <= the key. */
static uint32_t count_in_run(const struct table_index *index, uint32_t first, uint32_t limit,
                             lsm_slice suffix, uint64_t trailer)
{
    while (first < limit) {
        uint32_t middle = first + (limit - first) / 2;
        if (compare_equal_heads(index, middle, suffix, trailer) <= 0)
            first = middle + 1;
        else
            limit = middle;
    }
    return first;
}

static inline bool search_begin(const struct table_index *index, lsm_slice key,
                                struct table_index_search *s)
{
    lsm_slice prefix = {index->bytes, index->prefix_size};
    s->is_over = !slice_begins_with(key, prefix);
    if (s->is_over) {
        s->first = slice_compare(key, prefix) < 0 ? 0 : index->count - 1;
        return false;
    }
    s->suffix = suffix_of(index, key);
    s->head = bytes_head(s->suffix.data, s->suffix.size);
    s->first = group_of(index, s->head);
    return true;
}

static inline void fetch_group(const struct table_index *index, uint32_t first)
{
    const uint8_t *group = (const uint8_t *)&index->entries[first];
    for (size_t i = 0; i < TABLE_INDEX_GROUP * sizeof *index->entries; i += CACHE_LINE)
        __builtin_prefetch(group + i);
}

void table_index_search_begin(const struct table_index *index, lsm_slice key,
                              struct table_index_search *s)
{
    if (search_begin(index, key, s))
        fetch_group(index, s->first);
}

static uint32_t search_end(const struct table_index *index, const struct table_index_search *s,
                           uint64_t trailer)
{
    uint32_t limit = count_in_group(index, s->first, s->head);
    uint32_t last = limit - 1;
    if (last == 0 || index->entries[last].head != s->head ||
        index->ends[last] == index->ends[last + 1])
        return last;
    uint32_t first = s->head == 0 ? 1 : count_at_most(index, s->head - 1);
    return count_in_run(index, first, limit, s->suffix, trailer) - 1;
}

uint32_t table_index_search_end(const struct table_index *index, const struct table_index_search *s,
                                uint64_t trailer, uint32_t *shared)
{
    *shared = 0;
    if (s->is_over)
        return s->first;
    uint32_t block = search_end(index, s, trailer);
    /* What its separator and the next one begin with, every key between them begins with. A key
     * that ends within a head has zeros there: whoever counts on bytes looks at its size. */
    *shared = index->prefix_size;
    if (block + 1 < index->count && block + 1 - s->first < TABLE_INDEX_GROUP) {
        uint64_t differ = index->entries[block].head ^ index->entries[block + 1].head;
        *shared += differ == 0 ? 8 : (uint32_t)__builtin_clzll(differ) / 8;
    }
    return block;
}

uint64_t table_index_share(const struct table_index *index, const struct table_index_search *s,
                           uint32_t block, uint64_t whole)
{
    if (s->is_over || block + 1 >= index->count)
        return whole;
    uint64_t low = index->entries[block].head, high = index->entries[block + 1].head;
    if (s->head < low || s->head >= high)
        return whole;
    return (uint64_t)((double)(s->head - low) / (double)(high - low) * (double)(whole - 1));
}

uint32_t table_index_find(const struct table_index *index, lsm_slice key, uint64_t trailer)
{
    struct table_index_search s;
    if (!search_begin(index, key, &s))
        return s.first;
    fetch_group(index, s.first);
    return search_end(index, &s, trailer);
}
