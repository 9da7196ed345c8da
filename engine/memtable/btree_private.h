/*
 * A node of the permutation B+tree, and how a key finds its rank in one.
 *
 * A node has 15 slots. An insert fills the next free slot and then publishes it with one release
 * store of `perm`: the count in the low 4 bits, then the slots in the order of their keys, 4 bits
 * each. Slots are never used twice, so a reader that loaded `perm` can read the slots it names
 * without a lock. `head` holds the 8 bytes of each key behind `prefix`, the number of bytes that
 * all keys of the node's range have in common.
 *
 * A node at the left or right edge of the tree has a range without end, whose keys have nothing in
 * common. There `prefix` may be a guess after the keys seen so far, and `guard` a record that
 * begins with the guessed bytes: a key that does not begin with them has the lowest or the highest
 * head, which is the same order, and ties are settled by the keys themselves as everywhere.
 *
 * Leaf: off[s] is the newest record of a key, replaced when a version is added.
 * Inner node: off[s] is a child and sep[s] a record whose key is the lowest of the child's range
 * (0: the range has no lower bound). sep[] is not used in leaves.
 */
#ifndef ENGINE_MEMTABLE_BTREE_PRIVATE_H
#define ENGINE_MEMTABLE_BTREE_PRIVATE_H

#include "engine/memtable/memtable_private.h"

struct btree_node {
    _Atomic uint64_t perm;
    _Atomic int64_t head[BTREE_SLOTS]; /* biased, see head_bias() */
    _Atomic uint32_t off[BTREE_SLOTS];
    uint32_t prefix; /* bytes; set before the node is linked, as is guard */
    _Atomic uint32_t sep[BTREE_SLOTS];
    uint32_t guard; /* record; 0: every key of the range has the prefix */
};

/* A guessed prefix costs a comparison with the guard at every visit, so it has to gain this much: 4
 * bytes of the user key are in the head without it. */
#define BTREE_GUARD_MIN 5

static_assert(sizeof(struct btree_node) == BTREE_NODE_SIZE, "a node is four cache lines");

static inline struct btree_node *node_at(const struct memtable *mt, uint32_t offset)
{
    return arena_at(mt, offset);
}

static inline void node_prefetch(const struct btree_node *n)
{
    const char *line = (const char *)n;
    __builtin_prefetch(line);
    __builtin_prefetch(line + 64);
    __builtin_prefetch(line + 128);
}

/* ---- permutations ---------------------------------------------------------------------------- */

static inline unsigned perm_count(uint64_t perm)
{
    return (unsigned)(perm & 15);
}

static inline unsigned perm_slot(uint64_t perm, unsigned index)
{
    return (unsigned)(perm >> (4 + 4 * index) & 15);
}

/* With slot `count` put at `index`. */
static inline uint64_t perm_insert(uint64_t perm, unsigned index)
{
    unsigned shift = 4 + 4 * index;
    uint64_t below = perm & ((UINT64_C(1) << shift) - 1);
    uint64_t above = index < BTREE_SLOTS - 1 ? perm >> shift << (shift + 4) : 0;
    return (above | (uint64_t)perm_count(perm) << shift | below) + 1;
}

/* Slots 0 to count - 1 in order. */
static inline uint64_t perm_identity(unsigned count)
{
    return (UINT64_C(0xedcba98765432100) & ~(UINT64_C(0xfffffffffffffff0) << (4 * count))) | count;
}

static inline uint64_t node_perm(const struct btree_node *n)
{
    /* Pairs with the release in node_add() and with the release that links a new node. */
    return atomic_load_explicit(&n->perm, memory_order_acquire);
}

static inline uint32_t node_off(const struct btree_node *n, unsigned slot)
{
    return atomic_load_explicit(&n->off[slot], memory_order_acquire);
}

static inline uint32_t node_sep(const struct btree_node *n, unsigned slot)
{
    return atomic_load_explicit(&n->sep[slot], memory_order_relaxed);
}

/* ---- rank ------------------------------------------------------------------------------------ */

/* Signed, so that the vector compare of the instruction set fits, in the order of the heads. */
static inline int64_t head_bias(uint64_t head)
{
    return (int64_t)(head ^ UINT64_C(1) << 63);
}

#define HEAD_LOWEST  INT64_MIN
#define HEAD_HIGHEST INT64_MAX

/* The head of a key in a node with a guard. */
int64_t btree_guarded_head(const struct memtable *mt, const struct btree_node *n,
                           const struct target *t);

static inline int64_t node_head(const struct memtable *mt, const struct btree_node *n,
                                const struct target *t)
{
    if (__builtin_expect(n->guard != 0, 0))
        return btree_guarded_head(mt, n, t);
    return head_bias(target_head(t, n->prefix));
}

/* Bytes that the keys whose heads tie are known to have in common. */
static inline size_t node_tie_prefix(const struct btree_node *n)
{
    return n->guard != 0 ? 0 : n->prefix;
}

struct rank {
    unsigned less;  /* heads below the one looked for */
    unsigned equal; /* the slots of those that equal it, one bit each */
};

typedef struct rank (*rank_function)(const struct btree_node *n, unsigned count, int64_t head);

static inline struct rank rank_scalar(const struct btree_node *n, unsigned count, int64_t head)
{
    struct rank r = {0, 0};
    for (unsigned i = 0; i < count; i++) {
        int64_t h = atomic_load_explicit(&n->head[i], memory_order_relaxed);
        r.less += h < head;
        r.equal |= (unsigned)(h == head) << i;
    }
    return r;
}

#ifdef BTREE_HAS_SIMD
/* The last of the four loads takes in two words behind head[]; they and the slots that are being
 * filled meanwhile are masked off by the published count. */
BTREE_SIMD static inline struct rank rank_simd(const struct btree_node *n, unsigned count,
                                               int64_t head)
{
    const __m256i *at = (const __m256i *)(const void *)n->head;
    __m256i wanted = _mm256_set1_epi64x(head);
    unsigned less = 0, equal = 0;
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        __m256i heads = _mm256_loadu_si256(at + i);
        __m256i below = _mm256_cmpgt_epi64(wanted, heads);
        __m256i same = _mm256_cmpeq_epi64(wanted, heads);
        less |= (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(below)) << (4 * i);
        equal |= (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(same)) << (4 * i);
    }
    unsigned used = (1u << count) - 1;
    return (struct rank){(unsigned)__builtin_popcount(less & used), equal & used};
}
#endif

/*
 * Defines `name` as `body` with the vector rank where the processor has it. `body` is an
 * ALWAYS_INLINE function whose last parameter is the rank function; the two copies differ in
 * nothing else.
 */
#ifdef BTREE_HAS_SIMD
#define BTREE_DISPATCH(result, name, body, mt, parameters, ...)                                    \
    BTREE_SIMD static result name##_simd parameters                                                \
    {                                                                                              \
        return body(__VA_ARGS__, rank_simd);                                                       \
    }                                                                                              \
    static result name##_scalar parameters                                                         \
    {                                                                                              \
        return body(__VA_ARGS__, rank_scalar);                                                     \
    }                                                                                              \
    static inline result name parameters                                                           \
    {                                                                                              \
        return (mt)->has_simd ? name##_simd(__VA_ARGS__) : name##_scalar(__VA_ARGS__);             \
    }
#else
#define BTREE_DISPATCH(result, name, body, mt, parameters, ...)                                    \
    static inline result name parameters                                                           \
    {                                                                                              \
        return body(__VA_ARGS__, rank_scalar);                                                     \
    }
#endif

/*
 * Heads tie: the rank among the tied ones by the keys themselves, which are those of the records in
 * `keys` (n->off of a leaf, n->sep of an inner node). Returns the number of keys of the node that
 * are below the target, or, with `or_equal`, not above it.
 */
unsigned btree_rank_ties(const struct memtable *mt, const struct btree_node *n,
                         const _Atomic uint32_t *keys, uint64_t perm, struct rank r,
                         const struct target *t, bool or_equal);

ALWAYS_INLINE unsigned node_rank(const struct memtable *mt, const struct btree_node *n,
                                 const _Atomic uint32_t *keys, uint64_t perm,
                                 const struct target *t, bool or_equal, rank_function rank)
{
    struct rank r = rank(n, perm_count(perm), node_head(mt, n, t));
    if (__builtin_expect(r.equal != 0, 0))
        return btree_rank_ties(mt, n, keys, perm, r, t, or_equal);
    return r.less;
}

#define BTREE_ROOT_NODE(root)   ((uint32_t)(root))
#define BTREE_ROOT_HEIGHT(root) ((unsigned)((root) >> 32))

/* Root and height are one word: a reader never sees one without the other. */
static inline uint64_t btree_root(const struct memtable *mt)
{
    return atomic_load_explicit(&mt->header->root, memory_order_acquire);
}

/* ---- changes, by the inserting thread -------------------------------------------------------- */

static inline void btree_store_root(struct memtable *mt, uint32_t node, unsigned height)
{
    /* Pairs with btree_root(). */
    atomic_store_explicit(&mt->header->root, (uint64_t)height << 32 | node, memory_order_release);
}

/* Fills the next slot of a node that is not full, at rank `index`, and publishes it. */
static inline void node_add(struct btree_node *n, unsigned index, int64_t head, uint32_t off,
                            uint32_t sep)
{
    uint64_t perm = atomic_load_explicit(&n->perm, memory_order_relaxed);
    unsigned slot = perm_count(perm);
    assert(slot < BTREE_SLOTS && index <= slot);
    atomic_store_explicit(&n->head[slot], head, memory_order_relaxed);
    atomic_store_explicit(&n->off[slot], off, memory_order_relaxed);
    atomic_store_explicit(&n->sep[slot], sep, memory_order_relaxed);
    /* Pairs with node_perm(). */
    atomic_store_explicit(&n->perm, perm_insert(perm, index), memory_order_release);
}

static inline bool node_is_full(const struct memtable *mt, uint32_t node)
{
    return perm_count(node_perm(node_at(mt, node))) == BTREE_SLOTS;
}

/* Inserts into the full leaf at the way's end, at `rank`: from the lowest ancestor with a free slot
 * on, every node of the way is split. The way then ends where the record is. */
void btree_insert_with_split(struct memtable *mt, struct memtable_way *p, unsigned rank,
                             int64_t head, uint32_t record);

#endif
