/*
 * Changing the tree: one thread at a time, readers beside it (btree_read.c), and a death between
 * any two stores leaves a tree that is right for readers and can be changed further.
 *
 * A full node is replaced by two new ones: first the right half is published in the parent together
 * with its separator, then the pointer to the old node is replaced by the left half. Should the
 * inserting thread die between the two, the old node stays where it was with the right half's keys
 * still in it; it is full, so the next insert that comes there has to split it, and then only what
 * is below the parent's next separator is copied.
 *
 * Ascending keys: an insert right behind the last one needs no descent, and when that has gone on
 * for long enough a full node is left full and the new key begins the next one.
 *
 * Space. An insert that splits a full leaf in the middle leaves two leaves of 8, and 8 inserts
 * later one of them may be split: 2 nodes in 8 inserts. A leaf that was begun by an ascending split
 * takes 15 inserts to the next one, which makes 2 nodes and leaves a full one behind that may be
 * split at once: 4 nodes in 16 inserts. The first ascending split after a break may meet a leaf
 * that was made in the middle: 1.75 nodes too many, once in APPEND_STREAK (64) inserts. So a leaf
 * level takes at most 0.25 + 1.75 / 64 nodes an insert, and in the same way gives its parents at
 * most 0.125 + 0.875 / 64 children an insert; inner levels do the same with an eightfold streak
 * each. The sum over all levels is 0.322 nodes or 82.5 bytes; BTREE_ENTRY_ROOM is that rounded up.
 */
#include "engine/memtable/btree_private.h"

void btree_init(struct memtable *mt)
{
    uint32_t root = arena_take_node(mt, BTREE_NODE_SIZE);
    memset(node_at(mt, root), 0, BTREE_NODE_SIZE);
    btree_store_root(mt, root, 0);
}

/* ---- insert ---------------------------------------------------------------------------------- */

struct leaf_place {
    int64_t head; /* of the key, behind the leaf's prefix */
    unsigned rank;
    unsigned slot; /* of the key, BTREE_SLOTS when it is not there */
};

/* From the root to the leaf, which is not looked into yet. Returns the leaf. */
ALWAYS_INLINE uint32_t descend_with(const struct memtable *mt, const struct target *t,
                                    struct memtable_way *p, rank_function rank)
{
    uint64_t root = btree_root(mt);
    uint32_t node = BTREE_ROOT_NODE(root), low = 0, high = 0;
    p->height = BTREE_ROOT_HEIGHT(root);
    for (unsigned level = 0; level < p->height; level++) {
        const struct btree_node *n = node_at(mt, node);
        uint64_t perm = atomic_load_explicit(&n->perm, memory_order_relaxed);
        unsigned after = node_rank(mt, n, n->sep, perm, t, true, rank);
        unsigned index = after > 0 ? after - 1 : 0;
        uint32_t child = node_off(n, perm_slot(perm, index));
        node_prefetch(node_at(mt, child));
        p->steps[level] = (struct memtable_step){node, index, low, high};
        if (index > 0)
            low = node_sep(n, perm_slot(perm, index));
        if (index + 1 < perm_count(perm))
            high = node_sep(n, perm_slot(perm, index + 1));
        node = child;
    }
    p->steps[p->height] = (struct memtable_step){node, 0, low, high};
    return node;
}

BTREE_DISPATCH(uint32_t, descend, descend_with, mt,
               (const struct memtable *mt, const struct target *t, struct memtable_way *p), mt, t,
               p)

ALWAYS_INLINE struct leaf_place locate_with(const struct memtable *mt, const struct target *t,
                                            const struct btree_node *leaf, rank_function rank)
{
    uint64_t perm = atomic_load_explicit(&leaf->perm, memory_order_relaxed);
    struct leaf_place place = {.head = node_head(mt, leaf, t), .slot = BTREE_SLOTS};
    struct rank r = rank(leaf, perm_count(perm), place.head);
    place.rank = r.less;
    if (r.equal != 0) {
        place.rank = btree_rank_ties(mt, leaf, leaf->off, perm, r, t, false);
        if (place.rank < perm_count(perm)) {
            unsigned slot = perm_slot(perm, place.rank);
            if (record_has_key(record_at(mt, node_off(leaf, slot)), t))
                place.slot = slot;
        }
    }
    return place;
}

BTREE_DISPATCH(struct leaf_place, locate, locate_with, mt,
               (const struct memtable *mt, const struct target *t, const struct btree_node *leaf),
               mt, t, leaf)

/* Is the key right behind the last one that was inserted, in the leaf that ended with it? */
static bool continues_hint(const struct memtable *mt, const struct target *t)
{
    const struct append_hint *h = &mt->hint;
    if (h->leaf == 0 ||
        h->progress != atomic_load_explicit(&mt->header->progress, memory_order_relaxed) ||
        record_compare(record_at(mt, h->last), t, 0) >= 0)
        return false;
    return h->high == 0 || record_compare(record_at(mt, h->high), t, 0) > 0;
}

static void remember(struct memtable *mt, const struct memtable_step *leaf, unsigned rank,
                     uint32_t record)
{
    const struct btree_node *n = node_at(mt, leaf->node);
    uint64_t perm = atomic_load_explicit(&n->perm, memory_order_relaxed);
    bool is_last = rank + 1 == perm_count(perm);
    mt->hint.leaf = is_last ? leaf->node : 0;
    mt->hint.last = record;
    mt->hint.high = leaf->high;
}

/* What splitting the leaf will read, and the place of its halves, all of it at once. */
static void fetch_for_split(const struct memtable *mt, const struct memtable_step *step)
{
    const struct btree_node *n = node_at(mt, step->node);
    uint64_t perm = atomic_load_explicit(&n->perm, memory_order_relaxed);
    const uint32_t records[] = {step->low, step->high,
                                node_off(n, perm_slot(perm, BTREE_SLOTS / 2)),
                                node_off(n, perm_slot(perm, BTREE_SLOTS - 1))};
    for (size_t i = 0; i < sizeof records / sizeof *records; i++)
        __builtin_prefetch(record_at(mt, records[i]));
}

/* The way leads to the leaf of the key. */
static void insert_into_leaf(struct memtable *mt, const struct entry *e, struct memtable_way *way)
{
    struct memtable_step *leaf = &way->steps[way->height];
    struct btree_node *n = node_at(mt, leaf->node);
    bool is_full = node_is_full(mt, leaf->node);
    if (is_full)
        fetch_for_split(mt, leaf);
    struct leaf_place place = locate(mt, &e->target, n);
    if (place.slot < BTREE_SLOTS) {
        (void)chain_push(mt, &n->off[place.slot], e);
        mt->hint.leaf = 0;
        return;
    }
    record_write(mt, e, 0);
    leaf->index = place.rank;
    if (is_full)
        btree_insert_with_split(mt, way, place.rank, place.head, e->place);
    else
        node_add(n, place.rank, place.head, e->place, 0);
    leaf = &way->steps[way->height];
    remember(mt, leaf, leaf->index, e->place);
}

void btree_approach(const struct memtable *mt, struct memtable_way *way)
{
    struct target t = target_of(way->cf, way->key);
    way->continues = continues_hint(mt, &t);
    if (!way->continues)
        (void)descend(mt, &t, way);
}

/* What the approach found may have changed by inserts since then: the end of the leaf that the hint
 * is about by any, the nodes of the way only where new ones were made. */
static bool continues_still(const struct memtable *mt, const struct memtable_way *way,
                            const struct target *t)
{
    if (atomic_load_explicit(&mt->header->progress, memory_order_relaxed) == way->progress)
        return way->continues;
    return continues_hint(mt, t);
}

static bool leads_there_still(const struct memtable *mt, const struct memtable_way *way)
{
    return !way->continues &&
           atomic_load_explicit(&mt->header->node_low, memory_order_relaxed) == way->node_low;
}

void btree_insert(struct memtable *mt, const struct entry *e, struct memtable_way *way)
{
    const struct append_hint *hint = &mt->hint;
    unsigned count = BTREE_SLOTS;
    if (!continues_still(mt, way, &e->target)) {
        mt->hint.streak = 0;
    } else {
        mt->hint.streak++;
        count = perm_count(node_perm(node_at(mt, hint->leaf)));
    }
    if (count == BTREE_SLOTS) {
        if (!leads_there_still(mt, way))
            (void)descend(mt, &e->target, way);
        insert_into_leaf(mt, e, way);
        return;
    }
    struct btree_node *n = node_at(mt, hint->leaf);
    record_write(mt, e, 0);
    node_add(n, count, node_head(mt, n, &e->target), e->place, 0);
    mt->hint.last = e->place;
}

/* ---- space ----------------------------------------------------------------------------------- */

/* A descent over all inner nodes; only a takeover asks. */
uint32_t btree_lowest_node(const struct memtable *mt)
{
    uint64_t root = btree_root(mt);
    uint32_t lowest = BTREE_ROOT_NODE(root);
    unsigned height = BTREE_ROOT_HEIGHT(root), level = 0;
    struct {
        uint32_t node;
        unsigned next;
    } stack[BTREE_MAX_HEIGHT + 1] = {{BTREE_ROOT_NODE(root), 0}};
    assert(height <= BTREE_MAX_HEIGHT);
    for (;;) {
        const struct btree_node *n = node_at(mt, stack[level].node);
        unsigned slot = stack[level].next++;
        if (level == height || slot >= perm_count(node_perm(n))) {
            if (level == 0)
                return lowest;
            level--;
            continue;
        }
        uint32_t child = node_off(n, slot);
        lowest = child < lowest ? child : lowest;
        level++;
        stack[level].node = child;
        stack[level].next = 0;
    }
}

/*
 * Two bounds for what goes beyond BTREE_ENTRY_ROOM, the smaller one counts. What earlier entries
 * were granted and did not use is all that full nodes can still cost. And an insert splits at most
 * one node of each level, which there must be: a level has a seventh of the nodes of the one below,
 * or a new one for eight splits there.
 */
size_t btree_extra_room(const struct memtable *mt, size_t count)
{
    size_t height = BTREE_ROOT_HEIGHT(btree_root(mt));
    size_t used = (mt->header->index_offset -
                   (size_t)atomic_load_explicit(&mt->header->node_low, memory_order_relaxed)) *
                  ARENA_UNIT;
    size_t granted = memtable_entry_count(mt) * BTREE_ENTRY_ROOM + (height + 4) * BTREE_NODE_SIZE;
    size_t by_life = granted > used ? granted - used : 0;

    size_t existing = used / BTREE_NODE_SIZE, splits = count, nodes = height + 2;
    for (size_t level = 0; level <= height + 1; level++) {
        nodes += 2 * splits;
        existing = existing / 7 + 1;
        size_t most = existing + splits / 8;
        splits = splits < most ? splits : most;
    }
    size_t by_insert = nodes * BTREE_NODE_SIZE;
    return by_life < by_insert ? by_life : by_insert;
}
