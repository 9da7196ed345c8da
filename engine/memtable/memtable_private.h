/*
 * Inside the memtable: the arena's header, records and version chains, and the names of the two
 * structures that find a chain by its key.
 *
 *   record.c         writing records, chaining versions
 *   hash_index.h     the hash index at the arena's end
 *   btree*           the permutation B+tree
 *   skiplist*        the skiplist to compare with
 *   bulk*            filling an empty memtable at once
 *   memtable.c       the door: arenas, room, lookups
 *   insert.c         the door: inserts, and going back to repeat them
 *   memtable_iter.c  the iterator over all versions in either structure
 *   memtable_scan.c  the iterator over one version of each key, for readers
 *
 * Offsets are 32 bits in units of 8 bytes from the arena's start; 0 is "none".
 */
#ifndef ENGINE_MEMTABLE_MEMTABLE_PRIVATE_H
#define ENGINE_MEMTABLE_MEMTABLE_PRIVATE_H

#include "engine/base/bytes.h"
#include "engine/memtable/memtable.h"

#include <assert.h>
#include <stdatomic.h>

#define ARENA_UNIT    ((size_t)8)
#define ARENA_MAGIC   UINT64_C(0x3254424d454d6c65) /* "elMEMBT2" */
#define FAMILY_SIZE   ((size_t)4)                  /* bytes of the family id in front of a key */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* ---- vectors --------------------------------------------------------------------------------- */

#if defined(__SANITIZE_THREAD__)
#define BTREE_NO_SIMD 1 /* vector loads are no atomic loads in its eyes */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BTREE_NO_SIMD 1
#endif
#endif

#if defined(__x86_64__) && !defined(BTREE_NO_SIMD)
#include <immintrin.h>

#define BTREE_HAS_SIMD 1
#define BTREE_SIMD     __attribute__((target("avx2,popcnt")))
#endif

/* ---- arena ----------------------------------------------------------------------------------- */

struct arena_header {
    /* Set at memtable_new(). */
    _Alignas(64) uint64_t magic;
    uint64_t size; /* bytes of the arena */
    uint64_t id;
    uint32_t kind;         /* enum memtable_kind */
    uint32_t index_offset; /* also the end of the nodes */
    uint32_t index_line_count;

    /* Stored by the inserting thread, loaded by all readers. On a line that few inserts touch. */
    _Alignas(64) _Atomic uint64_t root; /* btree: height << 32 | node; skiplist: head node */

    /* Stored by the inserting thread, absolute values only, so that a redo may repeat them. */
    _Alignas(64) _Atomic uint64_t progress; /* entry count << 32 | end of the records */
    _Atomic uint32_t node_low;              /* nodes are in [node_low, index_offset) */
    _Atomic uint64_t min_sequence;
    _Atomic uint64_t max_sequence;
};

static_assert(sizeof(struct arena_header) == 192, "the header is part of the layout");

/* What the inserting thread remembers of its last insert; only good while nobody else inserted. */
struct append_hint {
    uint64_t progress; /* of the arena after that insert */
    uint32_t leaf;     /* 0: no hint. The last insert put `last` at this leaf's end */
    uint32_t last;     /* record */
    uint32_t high;     /* record whose key ends the leaf's range; 0: no end */
    uint64_t streak;   /* inserts in a row that went right behind the one before */
};

struct index_line;

struct memtable {
    uint8_t *arena; /* borrowed */
    struct arena_header *header;
    struct index_line *index;
    uint32_t index_home_count; /* lines that a window begins with */
    uint32_t index_places;     /* the bits of a word that are a place */
    enum memtable_kind kind;
    bool has_simd;

    /* The inserting thread's, away from what readers load. */
    _Alignas(64) struct append_hint hint;
    uint32_t records_limit; /* end of the record being inserted */
};

static inline void *arena_at(const struct memtable *mt, uint32_t offset)
{
    return mt->arena + (size_t)offset * ARENA_UNIT;
}

static inline uint32_t progress_end(uint64_t progress)
{
    return (uint32_t)progress;
}

static inline uint64_t progress_count(uint64_t progress)
{
    return progress >> 32;
}

#define INDEX_LINE_SIZE ((size_t)64)

static inline uint64_t load_progress(const struct memtable *mt)
{
    return atomic_load_explicit(&mt->header->progress, memory_order_relaxed);
}

static inline void store_progress(struct memtable *mt, uint64_t count, uint32_t end)
{
    atomic_store_explicit(&mt->header->progress, count << 32 | end, memory_order_relaxed);
}

static inline uint32_t load_node_low(const struct memtable *mt)
{
    return atomic_load_explicit(&mt->header->node_low, memory_order_relaxed);
}

#define RECORDS_START ((uint32_t)(sizeof(struct arena_header) / ARENA_UNIT))

/* Takes `size` bytes from the nodes' end of the arena. The room was checked before. */
uint32_t arena_take_node(struct memtable *mt, size_t size);

/* ---- keys ------------------------------------------------------------------------------------ */

/* A key to look for: the tree's key is the family id, big-endian, followed by the user key. */
struct target {
    uint32_t cf;
    size_t size; /* of the user key */
    const uint8_t *key;
};

static inline struct target target_of(uint32_t cf, lsm_slice key)
{
    return (struct target){cf, key.size, key.data};
}

/* bytes_head() of what is behind the first `from` bytes; short rests without a byte loop. */
static inline uint64_t tail_head(const uint8_t *key, size_t size, size_t from)
{
    size_t left = size - from;
    if (left >= 8)
        return bytes_head(key + from, 8);
    if (size < 8)
        return left == 0 ? 0 : bytes_head(key + from, left);
    return left == 0 ? 0 : bytes_head(key + size - 8, 8) << (64 - 8 * left);
}

/* The 8 bytes of the tree's key behind its first `prefix` bytes, which it has. */
static inline uint64_t target_head(const struct target *t, size_t prefix)
{
    if (prefix >= FAMILY_SIZE)
        return tail_head(t->key, t->size, prefix - FAMILY_SIZE);
    uint64_t key_head = tail_head(t->key, t->size, 0);
    uint64_t first = (uint64_t)t->cf << 32 | key_head >> 32;
    if (prefix == 0)
        return first;
    return first << (8 * prefix) | key_head << 32 >> (64 - 8 * prefix);
}

/* ---- records --------------------------------------------------------------------------------- */

/*
 * One version of one key. Written before it is linked, then only its two links change. `older` and
 * `newer` chain the versions of a key; the structure over the keys points to the newest. A newer
 * record always has a higher offset, because sequence numbers and offsets grow together.
 */
struct record {
    _Atomic uint32_t older;
    _Atomic uint32_t newer;
    uint64_t trailer;
    uint32_t value_size;
    uint32_t key_size;
    uint8_t family[FAMILY_SIZE]; /* big-endian, so that with `bytes` it is the tree's key */
    uint8_t bytes[];             /* user key, value */
};

#define RECORD_HEADER_SIZE offsetof(struct record, bytes)
#define RECORD_MIN_SIZE    ((size_t)32) /* bytes of the record of an empty key without value */

static_assert(RECORD_HEADER_SIZE == 28, "the record is part of the layout");
static_assert(RECORD_HEADER_SIZE + ARENA_UNIT - 1 == MEMTABLE_RECORD_OVERHEAD, "as it says");

static inline size_t record_size(size_t key_size, size_t value_size)
{
    return (RECORD_HEADER_SIZE + key_size + value_size + ARENA_UNIT - 1) & ~(ARENA_UNIT - 1);
}

static inline struct record *record_at(const struct memtable *mt, uint32_t offset)
{
    return arena_at(mt, offset);
}

static inline uint32_t record_cf(const struct record *r)
{
    return (uint32_t)r->family[0] << 24 | (uint32_t)r->family[1] << 16 |
           (uint32_t)r->family[2] << 8 | r->family[3];
}

static inline lsm_slice record_key(const struct record *r)
{
    return LSM_SLICE(r->bytes, r->key_size);
}

static inline lsm_slice record_value(const struct record *r)
{
    return LSM_SLICE(r->bytes + r->key_size, r->value_size);
}

static inline struct target record_target(const struct record *r)
{
    return target_of(record_cf(r), record_key(r));
}

static inline uint64_t record_head(const struct record *r, size_t prefix)
{
    return tail_head(r->family, FAMILY_SIZE + r->key_size, prefix);
}

static inline uint32_t record_older(const struct record *r)
{
    return atomic_load_explicit(&r->older, memory_order_acquire);
}

static inline uint32_t record_newer(const struct record *r)
{
    return atomic_load_explicit(&r->newer, memory_order_acquire);
}

/* The order of the record's key against the target's; both begin with the same `prefix` bytes. */
static inline int record_compare(const struct record *r, const struct target *t, size_t prefix)
{
    size_t from = 0;
    if (prefix >= FAMILY_SIZE) {
        from = prefix - FAMILY_SIZE;
    } else {
        uint32_t cf = record_cf(r);
        if (cf != t->cf)
            return cf < t->cf ? -1 : 1;
    }
    size_t common = r->key_size < t->size ? r->key_size : t->size;
    int order = common > from ? memcmp(r->bytes + from, t->key + from, common - from) : 0;
    if (order != 0)
        return order;
    return (r->key_size > t->size) - (r->key_size < t->size);
}

/* The order of the target's key against the first `size` bytes of the record's; 0 when it begins
 * with them. */
static inline int target_prefix_order(const struct target *t, const struct record *r, size_t size)
{
    uint32_t cf = record_cf(r);
    if (size <= FAMILY_SIZE) {
        unsigned shift = (unsigned)(8 * (FAMILY_SIZE - size));
        uint32_t wanted = size == 0 ? 0 : t->cf >> shift, guard = size == 0 ? 0 : cf >> shift;
        return (wanted > guard) - (wanted < guard);
    }
    if (t->cf != cf)
        return t->cf < cf ? -1 : 1;
    size -= FAMILY_SIZE;
    size_t common = t->size < size ? t->size : size;
    int order = common > 0 ? memcmp(t->key, r->bytes, common) : 0;
    return order != 0 ? order : -(t->size < size);
}

static inline bool record_has_key(const struct record *r, const struct target *t)
{
    return r->key_size == t->size && record_cf(r) == t->cf &&
           (t->size == 0 || memcmp(r->bytes, t->key, t->size) == 0);
}

/* The record's fields and the first bytes of its key, which a merge compares; on one line or two.
 */
static inline void record_prefetch(const struct memtable *mt, uint32_t at)
{
    const uint8_t *first = arena_at(mt, at);
    const uint8_t *last = first + RECORD_HEADER_SIZE + sizeof(uint64_t) - 1;
    __builtin_prefetch(first);
    if (((uintptr_t)first ^ (uintptr_t)last) >= 64)
        __builtin_prefetch(last);
}

/* What memtable_insert() was asked to put, and where the record goes. */
struct entry {
    struct target target;
    uint64_t trailer;
    lsm_slice value;
    uint32_t place;
};

/* Writes the record at its place, not linked yet. */
void record_write(struct memtable *mt, const struct entry *e, uint32_t older);
/* Makes the entry the newest version in the chain that starts at *newest. False when an interrupted
 * insert had done so before: then only the link back is made sure of. */
bool chain_push(struct memtable *mt, _Atomic uint32_t *newest, const struct entry *e);

/* ---- the two structures ---------------------------------------------------------------------- */

#define BTREE_NODE_SIZE  ((size_t)256)
#define BTREE_MAX_HEIGHT 16
static_assert(BTREE_MAX_HEIGHT + 1 == MEMTABLE_WAY_STEPS, "a way goes from the root to a leaf");

void btree_init(struct memtable *mt);
/* The two parts of an insert; the way's key, progress and node_low are set. */
void btree_approach(const struct memtable *mt, struct memtable_way *way);
void btree_insert(struct memtable *mt, const struct entry *e, struct memtable_way *way);
/* The newest record of the key; 0 when it is not there. */
uint32_t btree_find(const struct memtable *mt, const struct target *t);
/* The lowest offset of a node that can be reached. */
uint32_t btree_lowest_node(const struct memtable *mt);
/* Node bytes that `count` more entries may take over BTREE_ENTRY_ROOM each. */
size_t btree_extra_room(const struct memtable *mt, size_t count);
/* Bytes of nodes an entry takes at most, taken over the memtable's life; see btree.c. */
#define BTREE_ENTRY_ROOM ((size_t)88)

#define SKIPLIST_MAX_HEIGHT 12
#define SKIPLIST_ENTRY_ROOM ((size_t)56) /* bytes of the highest node */

void skiplist_init(struct memtable *mt);
void skiplist_insert(struct memtable *mt, const struct entry *e);
uint32_t skiplist_find(const struct memtable *mt, const struct target *t);
uint32_t skiplist_lowest_node(const struct memtable *mt);

/* ---- cursors: from key to key, not from version to version ----------------------------------- */

#define BTREE_SLOTS 15

struct btree_node;

/* Which leaf: the one at `index` of `parent`, as the parent's permutation was. */
struct btree_step {
    const struct btree_node *parent; /* NULL: the leaf is the root */
    uint64_t perm;
    unsigned index, count;            /* of the parent's children */
    uint32_t parent_low, parent_high; /* records whose keys bound the parent's range; 0: no bound */
    uint32_t low, high;               /* of the leaf's range */
};

/* A walk fetches into the cache: the records of leaves up to so many further on, and the
 * nodes of so many leaves behind those. It begins when so many leaves were crossed. */
#define BTREE_AHEAD_RECORDS 3
#define BTREE_AHEAD_NODES   2
#define BTREE_AHEAD_START   2

#define BTREE_APPROACH_LEAF 2 /* steps of an approach that end with the leaf's node on its way */

/* How far a seek was announced. */
struct btree_approach {
    const struct btree_node *node; /* on its way into the cache; 0 steps: none */
    unsigned height;
    unsigned steps;
};

/*
 * A place in the tree. Holds copies of the leaf's record offsets and of the parent's permutation,
 * so what the inserting thread does meanwhile does not disturb it. A long walk has a
 * second step that runs ahead and fetches nodes, then records, into the cache.
 */
struct btree_cursor {
    const struct memtable *mt;
    unsigned index; /* of the current key; < count while the cursor is on a key */
    unsigned count;
    uint32_t records[BTREE_SLOTS]; /* newest versions, in order of their keys */
    unsigned crossings;            /* from leaf to leaf, one way, since the last seek */
    bool is_backwards;             /* that way */
    bool has_next;                 /* the records of the leaf that comes next were fetched */
    struct btree_step at;
    struct btree_step ahead;
    struct btree_approach approach;
    const struct btree_node *fetched[BTREE_AHEAD_NODES]; /* leaves whose records come next */
};

struct skiplist_cursor {
    const struct memtable *mt;
    uint32_t node;
};

/* All give the newest record at the new place, 0 at either end. */
uint32_t btree_cursor_seek(struct btree_cursor *c, const struct target *t); /* first key >= */
/* A seek to *t is the next move: fetches what it reads first, given again what it reads then: the
 * lowest inner node, the leaf, the records. */
void btree_cursor_approach(struct btree_cursor *c, const struct target *t);
/* Last key < *t; the very last one when t is NULL. */
uint32_t btree_cursor_seek_before(struct btree_cursor *c, const struct target *t);
uint32_t btree_cursor_next_leaf(struct btree_cursor *c);
uint32_t btree_cursor_prev(struct btree_cursor *c);
/* For a walk forwards that is about to leave the leaf: fetches the records of the next one. */
void btree_cursor_fetch_next(struct btree_cursor *c);

static inline uint32_t btree_cursor_next(struct btree_cursor *c)
{
    return ++c->index < c->count ? c->records[c->index] : btree_cursor_next_leaf(c);
}

uint32_t skiplist_cursor_seek(struct skiplist_cursor *c, const struct target *t);
uint32_t skiplist_cursor_seek_before(struct skiplist_cursor *c, const struct target *t);
uint32_t skiplist_cursor_next(struct skiplist_cursor *c);
uint32_t skiplist_cursor_prev(struct skiplist_cursor *c);

/* Over either structure. */
struct memtable_cursor {
    enum memtable_kind kind;
    union {
        struct btree_cursor btree;
        struct skiplist_cursor skiplist;
    } in;
};

/* Zeroed before. */
static inline void cursor_init(struct memtable_cursor *c, const struct memtable *mt)
{
    c->kind = mt->kind;
    if (c->kind == MEMTABLE_BTREE)
        c->in.btree.mt = mt;
    else
        c->in.skiplist.mt = mt;
}

static inline uint32_t cursor_seek(struct memtable_cursor *c, const struct target *t)
{
    return c->kind == MEMTABLE_BTREE ? btree_cursor_seek(&c->in.btree, t)
                                     : skiplist_cursor_seek(&c->in.skiplist, t);
}

static inline uint32_t cursor_seek_before(struct memtable_cursor *c, const struct target *t)
{
    return c->kind == MEMTABLE_BTREE ? btree_cursor_seek_before(&c->in.btree, t)
                                     : skiplist_cursor_seek_before(&c->in.skiplist, t);
}

/* The last key of a family. */
static inline uint32_t cursor_seek_last(struct memtable_cursor *c, uint32_t cf)
{
    struct target behind = {.cf = cf + 1};
    return cursor_seek_before(c, cf == UINT32_MAX ? NULL : &behind);
}

static inline uint32_t cursor_next(struct memtable_cursor *c)
{
    return c->kind == MEMTABLE_BTREE ? btree_cursor_next(&c->in.btree)
                                     : skiplist_cursor_next(&c->in.skiplist);
}

static inline uint32_t cursor_prev(struct memtable_cursor *c)
{
    return c->kind == MEMTABLE_BTREE ? btree_cursor_prev(&c->in.btree)
                                     : skiplist_cursor_prev(&c->in.skiplist);
}

#endif
