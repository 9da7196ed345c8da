/*
 * Building the tree from its leaves up, over keys that are sorted, while nobody reads: every node
 * but the last of a level is full. Later inserts find an ordinary tree, whose nodes took less than
 * was granted for its entries, so they may all be split.
 */
#include "engine/memtable/btree_private.h"
#include "engine/memtable/bulk_private.h"

/* Records are fetched into the cache so many entries before their nodes are made. */
#define FETCH_AHEAD 48

struct range {
    uint32_t low, high; /* records; 0: no bound */
};

static lsm_slice tree_key(const struct memtable *mt, uint32_t record)
{
    const struct record *r = record_at(mt, record);
    return LSM_SLICE(r->family, FAMILY_SIZE + r->key_size);
}

/* As choose_prefix() of btree.c: what the range has in common, or a guess with its guard. */
static void set_prefix(const struct memtable *mt, struct btree_node *n,
                       const struct btree_child *children, unsigned count, struct range range)
{
    n->guard = 0;
    n->prefix = 0;
    if (range.low != 0 && range.high != 0) {
        n->prefix =
            (uint32_t)slice_common_prefix(tree_key(mt, range.low), tree_key(mt, range.high));
        return;
    }
    uint32_t lowest = children[0].sep != 0 || count == 1 ? children[0].sep : children[1].sep;
    if (count <= 2)
        return;
    size_t guess = slice_common_prefix(tree_key(mt, lowest), tree_key(mt, children[count - 1].sep));
    if (guess < BTREE_GUARD_MIN)
        return;
    n->prefix = (uint32_t)guess;
    n->guard = lowest;
}

static uint32_t node_build(struct memtable *mt, const struct btree_child *children, unsigned count,
                           struct range range)
{
    uint32_t place = arena_take_node(mt, BTREE_NODE_SIZE);
    struct btree_node *n = node_at(mt, place);
    set_prefix(mt, n, children, count, range);
    for (unsigned slot = 0; slot < count; slot++) {
        uint32_t sep = children[slot].sep;
        int64_t head = HEAD_LOWEST;
        if (sep != 0) {
            struct target t = record_target(record_at(mt, sep));
            head = node_head(mt, n, &t);
        }
        atomic_store_explicit(&n->head[slot], head, memory_order_relaxed);
        atomic_store_explicit(&n->off[slot], children[slot].off, memory_order_relaxed);
        atomic_store_explicit(&n->sep[slot], sep, memory_order_relaxed);
    }
    atomic_store_explicit(&n->perm, perm_identity(count), memory_order_relaxed);
    return place;
}

static void fetch(const struct memtable *mt, const struct btree_child *children, size_t first,
                  size_t limit, size_t count)
{
    for (size_t i = first + FETCH_AHEAD; i < limit + FETCH_AHEAD && i < count; i++)
        __builtin_prefetch(record_at(mt, children[i].sep));
}

/* Makes the nodes over `count` children, and children of them for the next level. The outermost
 * ranges have no bound. Returns how many. */
static size_t build_level(struct memtable *mt, struct btree_child *children, size_t count)
{
    size_t made = 0;
    for (size_t first = 0; first < count; first += BTREE_SLOTS) {
        size_t limit = first + BTREE_SLOTS < count ? first + BTREE_SLOTS : count;
        struct range range = {.low = first > 0 ? children[first].sep : 0,
                              .high = limit < count ? children[limit].sep : 0};
        fetch(mt, children, first, limit, count);
        uint32_t node = node_build(mt, children + first, (unsigned)(limit - first), range);
        children[made++] = (struct btree_child){.off = node, .sep = range.low};
    }
    return made;
}

void btree_build(struct memtable *mt, struct btree_child *children, size_t count)
{
    unsigned height = 0;
    assert(count > 0);
    while ((count = build_level(mt, children, count)) > 1)
        height++;
    assert(height <= BTREE_MAX_HEIGHT);
    /* Pairs with btree_root(). */
    atomic_store_explicit(&mt->header->root, (uint64_t)height << 32 | children[0].off,
                          memory_order_release);
}
