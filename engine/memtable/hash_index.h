/*
 * The hash index in front of the structure: from the hash of a key to its newest record, which a
 * point read then finds by two misses of the processor's cache and not by one for each level.
 *
 * It is an array of lines of 16 words. A word is the place of a record, and in the bits above that
 * the arena's size leaves free a part of the key's hash, the tag; 0 is empty. A key's word is in
 * the first of INDEX_WINDOW lines, from the one that its hash names on, that was not full when the
 * key was inserted. Words are filled in their order and never cleared, a newer version replaces the
 * word of the one before. So a line that is not full ends the search: the key is not there. The
 * index is no larger than it is useful, and there may be no room in any line of the window: then
 * the key is not in the index, and whoever finds the window full asks the structure.
 *
 * The inserting thread stores a word after the structure has the record, and before anybody is told
 * of a sequence number at which it can be seen: who does not find it here was not to see it. Should
 * the thread die before, its insert is done again, and so is this store.
 */
#ifndef ENGINE_MEMTABLE_HASH_INDEX_H
#define ENGINE_MEMTABLE_HASH_INDEX_H

#include "engine/memtable/memtable_private.h"

#define INDEX_WORDS   16u /* of a line */
#define INDEX_WINDOW  4u  /* lines that may have a key */
#define INDEX_UNKNOWN UINT32_MAX

struct index_line {
    _Atomic uint32_t words[INDEX_WORDS];
};

static_assert(sizeof(struct index_line) == INDEX_LINE_SIZE, "a line of the cache");

/* The same user key in two families is two keys. */
static inline uint64_t index_hash(uint32_t cf, uint64_t hash)
{
    return hash ^ cf * UINT64_C(0x9e3779b97f4a7c15);
}

/* The first line of the window; all of it is in the index. */
static inline struct index_line *index_line(const struct memtable *mt, uint64_t mixed)
{
    return mt->index + (size_t)((mixed >> 32) * mt->index_home_count >> 32);
}

static inline uint32_t index_tag(const struct memtable *mt, uint64_t mixed)
{
    return (uint32_t)mixed & ~mt->index_places;
}

static inline uint32_t index_word(const struct index_line *line, unsigned i)
{
    /* Acquire: pairs with index_store(). */
    return atomic_load_explicit(&line->words[i], memory_order_acquire);
}

static inline bool index_line_is_full(const struct index_line *line)
{
    return atomic_load_explicit(&line->words[INDEX_WORDS - 1], memory_order_relaxed) != 0;
}

#if defined(__SANITIZE_THREAD__)
#define INDEX_NO_SIMD 1 /* vector loads are no atomic loads in its eyes */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define INDEX_NO_SIMD 1
#endif
#endif

#if defined(__SSE2__) && !defined(INDEX_NO_SIMD)
#include <emmintrin.h>

static inline __m128i index_compare(const struct index_line *line, int i, __m128i tag,
                                    __m128i places)
{
    __m128i words = _mm_loadu_si128((const __m128i *)(const void *)line->words + i);
    return _mm_cmpeq_epi32(_mm_andnot_si128(places, words), tag);
}

/* The words with the tag, one bit each; empty ones may be among them. */
static inline unsigned index_hits(const struct memtable *mt, const struct index_line *line,
                                  uint32_t tag)
{
    __m128i wanted = _mm_set1_epi32((int)tag), places = _mm_set1_epi32((int)mt->index_places);
    __m128i low = _mm_packs_epi32(index_compare(line, 0, wanted, places),
                                  index_compare(line, 1, wanted, places));
    __m128i high = _mm_packs_epi32(index_compare(line, 2, wanted, places),
                                   index_compare(line, 3, wanted, places));
    return (unsigned)_mm_movemask_epi8(_mm_packs_epi16(low, high));
}
#else
static inline unsigned index_hits(const struct memtable *mt, const struct index_line *line,
                                  uint32_t tag)
{
    unsigned hits = 0;
    for (unsigned i = 0; i < INDEX_WORDS; i++) {
        uint32_t word = atomic_load_explicit(&line->words[i], memory_order_relaxed);
        hits |= (unsigned)((word & ~mt->index_places) == tag) << i;
    }
    return hits;
}
#endif

/* The newest record of the key; 0: it is not there; INDEX_UNKNOWN: the structure may have it. */
static inline uint32_t index_find(const struct memtable *mt, uint64_t mixed, const struct target *t)
{
    const struct index_line *line = index_line(mt, mixed);
    uint32_t tag = index_tag(mt, mixed);
    for (unsigned i = 0; i < INDEX_WINDOW; i++, line++) {
        for (unsigned hits = index_hits(mt, line, tag); hits != 0; hits &= hits - 1) {
            uint32_t at = index_word(line, (unsigned)__builtin_ctz(hits)) & mt->index_places;
            if (at == 0)
                return 0;
            if (record_has_key(record_at(mt, at), t))
                return at;
        }
        if (!index_line_is_full(line))
            return 0;
    }
    return INDEX_UNKNOWN;
}

/* Without a look at records. */
static inline bool index_may_have(const struct memtable *mt, uint64_t mixed)
{
    const struct index_line *line = index_line(mt, mixed);
    uint32_t tag = index_tag(mt, mixed);
    for (unsigned i = 0; i < INDEX_WINDOW; i++, line++) {
        unsigned hits = index_hits(mt, line, tag);
        if (hits != 0)
            return (index_word(line, (unsigned)__builtin_ctz(hits)) & mt->index_places) != 0;
        if (!index_line_is_full(line))
            return false;
    }
    return true;
}

static inline void index_store(_Atomic uint32_t *word, uint32_t tag, uint32_t place)
{
    /* Release: pairs with index_word(). */
    atomic_store_explicit(word, tag | place, memory_order_release);
}

/*
 * Makes the index lead to the record, which the structure has, unless it is the redo of an insert
 * that a newer version came after: the index leads there already.
 */
static inline void index_add(struct memtable *mt, uint64_t mixed, uint32_t place)
{
    const struct record *r = record_at(mt, place);
    uint32_t tag = index_tag(mt, mixed), older = record_older(r);
    if (record_newer(r) != 0)
        return;
    struct index_line *line = index_line(mt, mixed);
    for (unsigned i = 0; i < INDEX_WINDOW * INDEX_WORDS; i++) {
        _Atomic uint32_t *word = &line[i / INDEX_WORDS].words[i % INDEX_WORDS];
        uint32_t found = atomic_load_explicit(word, memory_order_relaxed);
        if (found != 0 && found != (tag | place) && (older == 0 || found != (tag | older)))
            continue;
        index_store(word, tag, place);
        return;
    }
}

/* The same of a record that is newer than all before and linked to none so far. */
static inline void index_add_unlinked(struct memtable *mt, uint64_t mixed, const struct entry *e)
{
    struct index_line *line = index_line(mt, mixed);
    uint32_t tag = index_tag(mt, mixed);
    for (unsigned i = 0; i < INDEX_WINDOW * INDEX_WORDS; i++) {
        _Atomic uint32_t *word = &line[i / INDEX_WORDS].words[i % INDEX_WORDS];
        uint32_t found = atomic_load_explicit(word, memory_order_relaxed);
        uint32_t at = found & mt->index_places;
        if (found != 0 && ((found ^ at) != tag || !record_has_key(record_at(mt, at), &e->target)))
            continue;
        index_store(word, tag, e->place);
        return;
    }
}

#endif
