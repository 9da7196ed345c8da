/*
 * New nodes and splits, in the order of stores that engine/memtable/btree.c explains.
 */
#include "engine/memtable/btree_private.h"

#define APPEND_STREAK UINT64_C(64)

/* Taking bytes off the head costs a look at every record, so the prefix of a node only follows its
 * range when it grew by this much, or when heads tie. */
#define PREFIX_STEP 4

/* A node's entries in order, and room for one more. */
struct draft {
    unsigned count;
    size_t prefix; /* that the heads are behind, with `guard` as in the node */
    uint32_t guard;
    int64_t head[BTREE_SLOTS + 1];
    uint32_t off[BTREE_SLOTS + 1];
    uint32_t sep[BTREE_SLOTS + 1];
};

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
                          unsigned limit, const struct memtable_step *range, struct btree_node *n)
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
    struct memtable_step range = {.low = low, .high = high};
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
static void draft_take(const struct memtable *mt, struct draft *d, const struct memtable_step *step,
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
static void replace_node(struct memtable *mt, struct memtable_way *p, unsigned level, uint32_t node)
{
    if (level == 0) {
        btree_store_root(mt, node, p->height);
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
static void replace_by_halves(struct memtable *mt, struct memtable_way *p, unsigned level,
                              const struct draft *d, unsigned middle, unsigned index)
{
    struct memtable_step *step = &p->steps[level];
    if (middle == d->count) {
        replace_node(mt, p, level, node_make(mt, d, 0, d->count, step->low, step->high));
        step->index = index;
        return;
    }
    struct memtable_step *parent_step = &p->steps[level - 1];
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
        *step = (struct memtable_step){right, index - middle, sep, step->high};
        parent_step->index++;
    }
}

/* Have inserts gone on one behind the other for so long that full nodes may be left full? */
static bool is_appending(const struct memtable *mt, const struct memtable_way *p, unsigned level)
{
    return mt->hint.streak >= APPEND_STREAK << (3 * (p->height - level));
}

static void split_inner(struct memtable *mt, struct memtable_way *p, unsigned level)
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

static void split_leaf(struct memtable *mt, struct memtable_way *p, unsigned rank, int64_t head,
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

/* Puts a root with one child on top of the tree: it can take the halves of the old root. What the
 * old root's keys have in common is the best guess for the separators to come. */
static void grow(struct memtable *mt, struct memtable_way *p)
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
    p->steps[0] = (struct memtable_step){.node = place};
    btree_store_root(mt, place, p->height);
}

void btree_insert_with_split(struct memtable *mt, struct memtable_way *p, unsigned rank,
                             int64_t head, uint32_t record)
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
