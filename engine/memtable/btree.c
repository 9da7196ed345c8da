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

#define APPEND_STREAK UINT64_C(64)

/* Taking bytes off the head costs a look at every record, so the prefix of a node only follows its
 * range when it grew by this much, or when heads tie. */
#define PREFIX_STEP 4

struct step {
    uint32_t node;
    unsigned index;     /* of the child that the path goes on to */
    uint32_t low, high; /* records whose keys bound the range; 0: no bound */
};

/* From the root (steps[0]) to the leaf (steps[height]). */
struct path {
    unsigned height;
    struct step steps[BTREE_MAX_HEIGHT + 1];
};

/* A node's entries in order, and room for one more. */
struct draft {
    unsigned count;
    size_t prefix; /* that the heads are behind, with `guard` as in the node */
    uint32_t guard;
    int64_t head[BTREE_SLOTS + 1];
    uint32_t off[BTREE_SLOTS + 1];
    uint32_t sep[BTREE_SLOTS + 1];
};

static void store_root(struct memtable *mt, uint32_t node, unsigned height)
{
    /* Pairs with btree_root(). */
    atomic_store_explicit(&mt->header->root, (uint64_t)height << 32 | node, memory_order_release);
}

/* Fills the next slot of a node that is not full, at rank `index`, and publishes it. */
static void node_add(struct btree_node *n, unsigned index, int64_t head, uint32_t off, uint32_t sep)
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

void btree_init(struct memtable *mt)
{
    uint32_t root = arena_take_node(mt, BTREE_NODE_SIZE);
    memset(node_at(mt, root), 0, BTREE_NODE_SIZE);
    store_root(mt, root, 0);
}

/* ---- new nodes ------------------------------------------------------------------------------- */

static lsm_slice tree_key(const struct memtable *mt, uint32_t record)
{
    const struct record *r = record_at(mt, record);
    return LSM_SLICE(r->family, FAMILY_SIZE + r->key_size);
}

/* Bytes that both keys begin with, and so all keys between them. */
static size_t common_prefix(const struct memtable *mt, uint32_t low, uint32_t high)
{
    if (low == 0 || high == 0)
        return 0;
    return slice_common_prefix(tree_key(mt, low), tree_key(mt, high));
}

static bool heads_tie(const struct draft *d, unsigned first, unsigned limit)
{
    for (unsigned i = first + 1; i < limit; i++)
        if (d->head[i] == d->head[i - 1])
            return true;
    return false;
}

/* Chooses the prefix of a node of the draft's entries [first, limit) for the range [low, high).
 * True when it is the draft's, so that the heads can stay. */
static bool choose_prefix(const struct memtable *mt, const struct draft *d, unsigned first,
                          unsigned limit, const struct step *range, struct btree_node *n)
{
    size_t prefix = common_prefix(mt, range->low, range->high);
    n->guard = 0;
    n->prefix = (uint32_t)prefix;
    if (range->low == 0 || range->high == 0) {
        uint32_t lowest =
            d->sep[first] != 0 || first + 1 == limit ? d->sep[first] : d->sep[first + 1];
        size_t guess = limit - first > 2 ? common_prefix(mt, lowest, d->sep[limit - 1]) : 0;
        if (guess >= BTREE_GUARD_MIN) {
            n->prefix = (uint32_t)guess;
            n->guard = lowest;
        }
        return false;
    }
    if (d->guard != 0)
        return false;
    assert(prefix >= d->prefix);
    if (prefix >= d->prefix + PREFIX_STEP)
        return false;
    if (prefix > d->prefix && heads_tie(d, first, limit))
        return false;
    n->prefix = (uint32_t)d->prefix;
    return true;
}

static int64_t head_in(const struct memtable *mt, const struct btree_node *n, uint32_t record)
{
    if (record == 0)
        return HEAD_LOWEST;
    struct target t = record_target(record_at(mt, record));
    return node_head(mt, n, &t);
}

/* A node of the entries [first, limit) of the draft; not linked. */
static uint32_t node_make(struct memtable *mt, const struct draft *d, unsigned first,
                          unsigned limit, uint32_t low, uint32_t high)
{
    uint32_t place = arena_take_node(mt, BTREE_NODE_SIZE);
    struct btree_node *n = node_at(mt, place);
    struct step range = {.low = low, .high = high};
    bool keep_heads = choose_prefix(mt, d, first, limit, &range, n);
    for (unsigned i = first; i < limit; i++) {
        unsigned slot = i - first;
        int64_t head = keep_heads ? d->head[i] : head_in(mt, n, d->sep[i]);
        atomic_store_explicit(&n->head[slot], head, memory_order_relaxed);
        atomic_store_explicit(&n->off[slot], d->off[i], memory_order_relaxed);
        atomic_store_explicit(&n->sep[slot], d->sep[i], memory_order_relaxed);
    }
    /* Whoever links the node publishes it. */
    atomic_store_explicit(&n->perm, perm_identity(limit - first), memory_order_relaxed);
    return place;
}

/* The entries of a node that belong to its range. A leaf's key is its record, so sep is off. */
static void draft_take(const struct memtable *mt, struct draft *d, const struct step *step,
                       bool is_leaf)
{
    const struct btree_node *n = node_at(mt, step->node);
    uint64_t perm = node_perm(n);
    d->prefix = n->prefix;
    d->guard = n->guard;
    d->count = perm_count(perm);
    for (unsigned i = 0; i < d->count; i++) {
        unsigned slot = perm_slot(perm, i);
        d->head[i] = atomic_load_explicit(&n->head[slot], memory_order_relaxed);
        d->off[i] = node_off(n, slot);
        d->sep[i] = is_leaf ? d->off[i] : node_sep(n, slot);
    }
    if (step->high == 0)
        return;
    struct target high = record_target(record_at(mt, step->high));
    while (d->count > 0 && d->sep[d->count - 1] != 0 &&
           record_compare(record_at(mt, d->sep[d->count - 1]), &high, node_tie_prefix(n)) >= 0)
        d->count--;
}

static void draft_insert(struct draft *d, unsigned index, int64_t head, uint32_t record)
{
    size_t behind = d->count - index;
    memmove(d->head + index + 1, d->head + index, behind * sizeof *d->head);
    memmove(d->off + index + 1, d->off + index, behind * sizeof *d->off);
    memmove(d->sep + index + 1, d->sep + index, behind * sizeof *d->sep);
    d->head[index] = head;
    d->off[index] = record;
    d->sep[index] = record;
    d->count++;
}

/* ---- splits ---------------------------------------------------------------------------------- */

/* Makes whatever points to the node at `level` point to another one for the same range. */
static void replace_node(struct memtable *mt, struct path *p, unsigned level, uint32_t node)
{
    if (level == 0) {
        store_root(mt, node, p->height);
    } else {
        struct btree_node *parent = node_at(mt, p->steps[level - 1].node);
        uint64_t perm = atomic_load_explicit(&parent->perm, memory_order_relaxed);
        unsigned slot = perm_slot(perm, p->steps[level - 1].index);
        /* Pairs with node_off(). */
        atomic_store_explicit(&parent->off[slot], node, memory_order_release);
    }
    p->steps[level].node = node;
}

/*
 * Replaces the node at `level` by [0, middle) and [middle, count) of the draft, or only by a copy
 * when it all fits in one. Its parent has a free slot. The path goes on in the half with `index`.
 */
static void replace_by_halves(struct memtable *mt, struct path *p, unsigned level,
                              const struct draft *d, unsigned middle, unsigned index)
{
    struct step *step = &p->steps[level];
    if (middle == d->count) {
        replace_node(mt, p, level, node_make(mt, d, 0, d->count, step->low, step->high));
        step->index = index;
        return;
    }
    struct step *parent_step = &p->steps[level - 1];
    struct btree_node *parent = node_at(mt, parent_step->node);
    uint32_t sep = d->sep[middle];
    uint32_t right = node_make(mt, d, middle, d->count, sep, step->high);
    uint32_t left = node_make(mt, d, 0, middle, step->low, sep);
    node_add(parent, parent_step->index + 1, head_in(mt, parent, sep), right, sep);
    replace_node(mt, p, level, left);
    if (index < middle) {
        step->index = index;
        step->high = sep;
    } else {
        *step = (struct step){right, index - middle, sep, step->high};
        parent_step->index++;
    }
}

/* Have inserts gone on one behind the other for so long that full nodes may be left full? */
static bool is_appending(const struct memtable *mt, const struct path *p, unsigned level)
{
    return mt->hint.streak >= APPEND_STREAK << (3 * (p->height - level));
}

static void split_inner(struct memtable *mt, struct path *p, unsigned level)
{
    struct draft d;
    unsigned index = p->steps[level].index;
    draft_take(mt, &d, &p->steps[level], false);
    assert(index < d.count);
    unsigned middle = d.count;
    if (d.count == BTREE_SLOTS)
        middle =
            index == d.count - 1 && is_appending(mt, p, level) ? d.count - 1 : (d.count + 1) / 2;
    replace_by_halves(mt, p, level, &d, middle, index);
}

static void split_leaf(struct memtable *mt, struct path *p, unsigned rank, int64_t head,
                       uint32_t record)
{
    struct draft d;
    draft_take(mt, &d, &p->steps[p->height], true);
    assert(rank <= d.count);
    bool is_full = d.count == BTREE_SLOTS;
    draft_insert(&d, rank, head, record);
    unsigned middle = d.count;
    if (is_full)
        middle = rank == BTREE_SLOTS && is_appending(mt, p, p->height) ? BTREE_SLOTS : d.count / 2;
    replace_by_halves(mt, p, p->height, &d, middle, rank);
}

static bool node_is_full(const struct memtable *mt, uint32_t node)
{
    return perm_count(node_perm(node_at(mt, node))) == BTREE_SLOTS;
}

/* Puts a root with one child on top of the tree: it can take the halves of the old root. What the
 * old root's keys have in common is the best guess for the separators to come. */
static void grow(struct memtable *mt, struct path *p)
{
    assert(p->height < BTREE_MAX_HEIGHT);
    struct draft d = {.count = 1, .head = {HEAD_LOWEST}, .off = {p->steps[0].node}};
    uint32_t place = node_make(mt, &d, 0, 1, 0, 0);
    struct draft old;
    draft_take(mt, &old, &p->steps[0], p->height == 0);
    uint32_t lowest = old.sep[0] != 0 ? old.sep[0] : old.sep[1];
    size_t guess = common_prefix(mt, lowest, old.sep[old.count - 1]);
    if (guess >= BTREE_GUARD_MIN) {
        struct btree_node *root = node_at(mt, place);
        root->prefix = (uint32_t)guess;
        root->guard = lowest;
    }
    memmove(p->steps + 1, p->steps, (p->height + 1) * sizeof *p->steps);
    p->height++;
    p->steps[0] = (struct step){.node = place};
    store_root(mt, place, p->height);
}

/* Inserts into the full leaf at the path's end: from the lowest ancestor with a free slot on, every
 * node of the path is split. */
static void insert_with_split(struct memtable *mt, struct path *p, unsigned rank, int64_t head,
                              uint32_t record)
{
    unsigned level = p->height;
    while (level > 0 && node_is_full(mt, p->steps[level - 1].node))
        level--;
    if (level == 0) {
        grow(mt, p);
        level = 1;
    }
    for (; level < p->height; level++)
        split_inner(mt, p, level);
    split_leaf(mt, p, rank, head, record);
}

/* ---- insert ---------------------------------------------------------------------------------- */

struct leaf_place {
    int64_t head; /* of the key, behind the leaf's prefix */
    unsigned rank;
    unsigned slot; /* of the key, BTREE_SLOTS when it is not there */
};

ALWAYS_INLINE struct leaf_place locate_with(const struct memtable *mt, const struct target *t,
                                            struct path *p, rank_function rank)
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
        p->steps[level] = (struct step){node, index, low, high};
        if (index > 0)
            low = node_sep(n, perm_slot(perm, index));
        if (index + 1 < perm_count(perm))
            high = node_sep(n, perm_slot(perm, index + 1));
        node = child;
    }
    p->steps[p->height] = (struct step){node, 0, low, high};

    const struct btree_node *leaf = node_at(mt, node);
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
               (const struct memtable *mt, const struct target *t, struct path *p), mt, t, p)

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

static void remember(struct memtable *mt, const struct step *leaf, unsigned rank, uint32_t record)
{
    const struct btree_node *n = node_at(mt, leaf->node);
    uint64_t perm = atomic_load_explicit(&n->perm, memory_order_relaxed);
    bool is_last = rank + 1 == perm_count(perm);
    mt->hint.leaf = is_last ? leaf->node : 0;
    mt->hint.last = record;
    mt->hint.high = leaf->high;
}

static void insert_by_descent(struct memtable *mt, const struct entry *e)
{
    struct path path;
    struct leaf_place place = locate(mt, &e->target, &path);
    struct step *leaf = &path.steps[path.height];
    struct btree_node *n = node_at(mt, leaf->node);
    if (place.slot < BTREE_SLOTS) {
        (void)chain_push(mt, &n->off[place.slot], e);
        mt->hint.leaf = 0;
        return;
    }
    record_write(mt, e, 0);
    leaf->index = place.rank;
    if (node_is_full(mt, leaf->node))
        insert_with_split(mt, &path, place.rank, place.head, e->place);
    else
        node_add(n, place.rank, place.head, e->place, 0);
    leaf = &path.steps[path.height];
    remember(mt, leaf, leaf->index, e->place);
}

void btree_insert(struct memtable *mt, const struct entry *e)
{
    if (!continues_hint(mt, &e->target)) {
        mt->hint.streak = 0;
        insert_by_descent(mt, e);
        return;
    }
    mt->hint.streak++;
    struct btree_node *n = node_at(mt, mt->hint.leaf);
    unsigned count = perm_count(atomic_load_explicit(&n->perm, memory_order_relaxed));
    if (count == BTREE_SLOTS) {
        insert_by_descent(mt, e);
        return;
    }
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
