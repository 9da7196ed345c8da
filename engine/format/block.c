/*
 * Searching a block. The tag probe and the search over heads have a portable form and one for AVX2,
 * chosen at run time; both give the same answers.
 */
#include "engine/format/block.h"

#include <assert.h>
#include <stdatomic.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define BLOCK_HAS_AVX2 1
#endif

static _Atomic bool portable_only;

void block_use_portable(bool portable)
{
    atomic_store_explicit(&portable_only, portable, memory_order_relaxed);
}

/* ---- checking -------------------------------------------------------------------------------- */

static bool all_zero(const uint8_t *at, size_t size)
{
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++)
        any |= at[i];
    return any == 0;
}

static const char *check_header(const uint8_t *data, size_t size)
{
    if (size < BLOCK_HEADER_SIZE || size > BLOCK_MAX_SIZE)
        return "the block's size is impossible";
    unsigned known =
        BLOCK_WIDE_OFFSETS | BLOCK_KEY_SIZES | BLOCK_SHORT_TRAILERS | BLOCK_LONG_TRAILERS;
    unsigned flags = data[8];
    if ((flags & ~known) != 0)
        return "the block has unknown flags";
    if ((flags & BLOCK_SHORT_TRAILERS) && (flags & BLOCK_LONG_TRAILERS))
        return "the block has two kinds of trailers";
    if ((flags & BLOCK_LONG_TRAILERS) && bytes_get_u64(data + 16) != 0)
        return "the block has a trailer base it does not use";
    if ((flags & BLOCK_KEY_SIZES) && bytes_get_u16(data + 6) != 0)
        return "the block has a key size it does not use";
    if (!all_zero(data + 9, 7) || !all_zero(data + 24, 8))
        return "the block's header is not zero where it must be";
    uint32_t count = bytes_get_u32(data);
    /* An entry takes at least tag, head and offset, so the columns cannot overflow below. */
    if (count == 0 || count > size / (1 + BLOCK_HEAD_SIZE + 2))
        return "the block's entry count is impossible";
    return NULL;
}

/* Key sizes and offsets: every entry's key rest lies inside the entry, all inside the block. */
static const char *check_entries(const struct block_view *v, size_t heap, size_t size)
{
    if (block_offset(v, 0) != heap || block_offset(v, v->count) != size)
        return "the block's entries do not fill its heap";
    size_t at = heap;
    for (size_t i = 0; i < v->count; i++) {
        size_t next = block_offset(v, i + 1);
        if (next < at || next - at < block_rest_size(v, i) || next > size)
            return "an entry of the block reaches outside its place";
        if (block_key_size(v, i) > LSM_MAX_KEY_SIZE)
            return "a key of the block is too long";
        at = next;
    }
    return NULL;
}

const char *block_check(const void *data, size_t size)
{
    const char *wrong = check_header(data, size);
    if (wrong != NULL)
        return wrong;
    struct block_view v = block_view_of(data);
    size_t heap = (size_t)(v.prefix - v.data) + v.prefix_size;
    if (heap > size)
        return "the block's columns are longer than the block";
    if (!all_zero(v.data + BLOCK_HEADER_SIZE + v.count, block_tags_size(v.count) - v.count))
        return "the block's tags are not filled up with zeros";
    return check_entries(&v, heap, size);
}

static const char *check_pair(const struct block_view *v, size_t index, struct buffer *key,
                              struct buffer *before)
{
    size_t suffix = block_suffix_size(v, index);
    if (suffix < BLOCK_HEAD_SIZE) {
        uint64_t unused = suffix == 0 ? UINT64_MAX : UINT64_MAX >> (8 * suffix);
        if ((block_head(v, index) & unused) != 0)
            return "a short key's head is not filled up with zeros";
    }
    if (!block_copy_key(v, index, key))
        return "out of memory";
    uint64_t hash = hash_key(key->data, key->size);
    if (v->data[BLOCK_HEADER_SIZE + index] != (uint8_t)(hash >> 32))
        return "a tag is not that of its key";
    if (index == 0)
        return NULL;
    if (entry_compare(buffer_slice(before), block_trailer(v, index - 1), buffer_slice(key),
                      block_trailer(v, index)) >= 0)
        return "entries are out of order";
    return NULL;
}

const char *block_check_order(const struct block_view *v)
{
    struct buffer keys[2] = {{0}, {0}};
    const char *wrong = NULL;
    for (size_t i = 0; i < v->count && wrong == NULL; i++)
        wrong = check_pair(v, i, &keys[i % 2], &keys[(i + 1) % 2]);
    buffer_release(&keys[0]);
    buffer_release(&keys[1]);
    return wrong;
}

bool block_copy_key(const struct block_view *v, size_t index, struct buffer *key)
{
    buffer_clear(key);
    if (!buffer_reserve(key, block_key_size(v, index) + BLOCK_HEAD_SIZE))
        return false;
    if (v->prefix_size > 0)
        memcpy(key->data, v->prefix, v->prefix_size);
    key->size = v->prefix_size + block_copy_suffix(v, index, key->data + v->prefix_size);
    return true;
}

/* ---- comparing ------------------------------------------------------------------------------- */

/* What a search knows of the wanted key: its part after the block's prefix. */
struct wanted {
    const uint8_t *suffix;
    size_t size;
    uint64_t head;
};

static struct wanted wanted_of(const struct block_view *v, lsm_slice key)
{
    struct wanted w = {.size = key.size - v->prefix_size};
    w.suffix = w.size == 0 ? NULL : (const uint8_t *)key.data + v->prefix_size;
    w.head = bytes_head(w.suffix, w.size);
    return w;
}

static bool has_prefix(const struct block_view *v, lsm_slice key)
{
    return key.size >= v->prefix_size &&
           (v->prefix_size == 0 || memcmp(key.data, v->prefix, v->prefix_size) == 0);
}

/* Entry against wanted key, when their heads are equal. */
static int compare_rest(const struct block_view *v, size_t index, const struct wanted *w)
{
    size_t suffix = block_suffix_size(v, index);
    if (suffix > BLOCK_HEAD_SIZE && w->size > BLOCK_HEAD_SIZE) {
        size_t common = (suffix < w->size ? suffix : w->size) - BLOCK_HEAD_SIZE;
        int order = memcmp(v->data + block_offset(v, index), w->suffix + BLOCK_HEAD_SIZE, common);
        if (order != 0)
            return order;
    }
    return (suffix > w->size) - (suffix < w->size);
}

static int compare_wanted(const struct block_view *v, size_t index, const struct wanted *w,
                          uint64_t trailer)
{
    uint64_t head = block_head(v, index);
    if (head != w->head)
        return head < w->head ? -1 : 1;
    int order = compare_rest(v, index, w);
    if (order != 0)
        return order;
    uint64_t own = block_trailer(v, index);
    return (own < trailer) - (own > trailer);
}

/* The prefix against the wanted key, which does not begin with it. */
static int compare_prefix(const struct block_view *v, lsm_slice key)
{
    return slice_compare((lsm_slice){v->prefix, v->prefix_size}, key);
}

int block_compare(const struct block_view *v, size_t index, lsm_slice key, uint64_t trailer)
{
    if (!has_prefix(v, key))
        return compare_prefix(v, key);
    struct wanted w = wanted_of(v, key);
    return compare_wanted(v, index, &w, trailer);
}

/* ---- point reads ----------------------------------------------------------------------------- */

static bool entry_is_wanted(const struct block_view *v, size_t index, const struct wanted *w,
                            uint64_t trailer)
{
    if (block_head(v, index) != w->head || block_suffix_size(v, index) != w->size)
        return false;
    if (w->size > BLOCK_HEAD_SIZE &&
        memcmp(v->data + block_offset(v, index), w->suffix + BLOCK_HEAD_SIZE,
               w->size - BLOCK_HEAD_SIZE) != 0)
        return false;
    return block_trailer(v, index) <= trailer;
}

/* The tags of a group that equal `tag`, one bit each. */
static inline uint32_t match_portable(const struct block_view *v, uint32_t first, uint8_t tag)
{
    const uint8_t *tags = v->data + BLOCK_HEADER_SIZE + first;
    uint32_t hits = 0;
    for (uint32_t i = 0; i < BLOCK_TAG_GROUP; i++)
        hits |= (uint32_t)(tags[i] == tag) << i;
    return hits;
}

#ifdef BLOCK_HAS_AVX2
#define BLOCK_AVX2 __attribute__((target("avx2")))

BLOCK_AVX2 static inline uint32_t match_avx2(const struct block_view *v, uint32_t first,
                                             uint8_t tag)
{
    const void *tags = v->data + BLOCK_HEADER_SIZE + first;
    __m256i group = _mm256_loadu_si256((const __m256i *)tags);
    return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(group, _mm256_set1_epi8((char)tag)));
}

static inline bool use_avx2(void)
{
    return __builtin_cpu_supports("avx2") &&
           !atomic_load_explicit(&portable_only, memory_order_relaxed);
}
#endif

typedef uint32_t (*match_function)(const struct block_view *v, uint32_t first, uint8_t tag);

/* The first entry at or after *at that has the tag; false: none has. *hits are those of its group
 * that are left, to be zeroed before the first call. */
static inline __attribute__((always_inline)) bool next_hit(const struct block_view *v, uint8_t tag,
                                                           uint32_t *group, uint32_t *hits,
                                                           uint32_t *index, match_function match)
{
    while (*hits == 0) {
        if (*group >= v->count)
            return false;
        *hits = match(v, *group, tag);
        if (v->count - *group < BLOCK_TAG_GROUP)
            *hits &= (UINT32_C(1) << (v->count - *group)) - 1;
        *group += (uint32_t)BLOCK_TAG_GROUP;
    }
    *index = *group - (uint32_t)BLOCK_TAG_GROUP + (uint32_t)__builtin_ctz(*hits);
    *hits &= *hits - 1;
    return true;
}

/* Versions stand newest first, so the first match is the answer. */
static inline __attribute__((always_inline)) bool find_with(const struct block_view *v,
                                                            const struct wanted *w, uint8_t tag,
                                                            uint64_t trailer, uint32_t *index,
                                                            match_function match)
{
    uint32_t group = 0, hits = 0;
    while (next_hit(v, tag, &group, &hits, index, match)) {
        if (entry_is_wanted(v, *index, w, trailer))
            return true;
    }
    return false;
}

static inline __attribute__((always_inline)) void approach_with(const struct block_view *v,
                                                                uint8_t tag, match_function match)
{
    uint32_t group = 0, hits = 0, index;
    size_t offset_size = v->flags & BLOCK_WIDE_OFFSETS ? 4 : 2;
    while (next_hit(v, tag, &group, &hits, &index, match)) {
        __builtin_prefetch(v->heads + index * BLOCK_HEAD_SIZE);
        __builtin_prefetch(v->offsets + index * offset_size);
    }
}

static inline __attribute__((always_inline)) uint32_t first_with_head(const struct block_view *v,
                                                                      uint8_t tag, uint64_t head,
                                                                      match_function match)
{
    uint32_t group = 0, hits = 0, index;
    while (next_hit(v, tag, &group, &hits, &index, match)) {
        if (block_head(v, index) == head)
            return index;
    }
    return v->count;
}

static bool find_portable(const struct block_view *v, const struct wanted *w, uint8_t tag,
                          uint64_t trailer, uint32_t *index)
{
    return find_with(v, w, tag, trailer, index, match_portable);
}

#ifdef BLOCK_HAS_AVX2
BLOCK_AVX2 static bool find_avx2(const struct block_view *v, const struct wanted *w, uint8_t tag,
                                 uint64_t trailer, uint32_t *index)
{
    return find_with(v, w, tag, trailer, index, match_avx2);
}

BLOCK_AVX2 static void approach_avx2(const struct block_view *v, uint8_t tag)
{
    approach_with(v, tag, match_avx2);
}

BLOCK_AVX2 static uint32_t first_with_head_avx2(const struct block_view *v, uint8_t tag,
                                                uint64_t head)
{
    return first_with_head(v, tag, head, match_avx2);
}
#endif

static inline uint8_t tag_of(uint64_t hash)
{
    return (uint8_t)(hash >> 32);
}

/* Last, as it may wait for a line of its own and hardly ever fails. */
static inline bool prefix_fits(const struct block_view *v, lsm_slice key, size_t shared)
{
    return v->prefix_size <= shared || has_prefix(v, key);
}

bool block_find(const struct block_view *v, lsm_slice key, uint64_t hash, uint64_t trailer,
                size_t shared, uint32_t *index)
{
    if (key.size < v->prefix_size)
        return false;
    struct wanted w = wanted_of(v, key);
    bool is_found;
#ifdef BLOCK_HAS_AVX2
    if (use_avx2())
        is_found = find_avx2(v, &w, tag_of(hash), trailer, index);
    else
#endif
        is_found = find_portable(v, &w, tag_of(hash), trailer, index);
    return is_found && prefix_fits(v, key, shared);
}

void block_approach(const struct block_view *v, uint64_t hash, size_t shared)
{
    if (v->prefix_size > shared)
        __builtin_prefetch(v->prefix);
#ifdef BLOCK_HAS_AVX2
    if (use_avx2()) {
        approach_avx2(v, tag_of(hash));
        return;
    }
#endif
    approach_with(v, tag_of(hash), match_portable);
}

uint32_t block_approach_entry(const struct block_view *v, lsm_slice key, uint64_t hash)
{
    if (key.size < v->prefix_size)
        return v->count;
    uint64_t head = wanted_of(v, key).head;
    uint32_t entry;
#ifdef BLOCK_HAS_AVX2
    if (use_avx2())
        entry = first_with_head_avx2(v, tag_of(hash), head);
    else
#endif
        entry = first_with_head(v, tag_of(hash), head, match_portable);
    if (entry < v->count)
        __builtin_prefetch(v->data + block_offset(v, entry));
    return entry;
}

bool block_find_at(const struct block_view *v, lsm_slice key, uint64_t hash, uint64_t trailer,
                   size_t shared, uint32_t entry, uint32_t *index)
{
    if (entry == v->count)
        return false;
    struct wanted w = wanted_of(v, key);
    if (!entry_is_wanted(v, entry, &w, trailer)) /* an older version may be, or another key */
        return block_find(v, key, hash, trailer, shared, index);
    *index = entry;
    return prefix_fits(v, key, shared);
}

/* ---- ordered search -------------------------------------------------------------------------- */

/* How many heads are smaller than `head` (or equal, with `equal`); no branch depends on a head. */
static uint32_t rank_of_head(const struct block_view *v, uint64_t head, bool equal)
{
    uint32_t first = 0, count = v->count;
    while (count > 0) {
        uint32_t half = count / 2;
        uint64_t probe = block_head(v, first + half);
        bool before = probe < head || (equal && probe == head);
        first = before ? first + half + 1 : first;
        count = before ? count - half - 1 : half;
    }
    return first;
}

uint32_t block_seek(const struct block_view *v, lsm_slice key, uint64_t trailer)
{
    if (!has_prefix(v, key))
        return compare_prefix(v, key) > 0 ? 0 : v->count;
    struct wanted w = wanted_of(v, key);
    uint32_t first = rank_of_head(v, w.head, false);
    if (first == v->count || block_head(v, first) != w.head ||
        compare_wanted(v, first, &w, trailer) >= 0)
        return first;
    uint32_t limit = rank_of_head(v, w.head, true);
    while (first < limit) {
        uint32_t middle = first + (limit - first) / 2;
        if (compare_wanted(v, middle, &w, trailer) < 0)
            first = middle + 1;
        else
            limit = middle;
    }
    return first;
}
