/*
 * Reading the tree without locks: point lookups and cursors.
 *
 * What makes it right:
 *  - Slots beyond the published count are masked off.
 *  - Root and height are one word.
 *  - A split publishes the right half in the parent first and then replaces the pointer to the old
 *    node by the left half. A reader that loaded the permutation before and the pointer after would
 *    look for a key of the right half in the left one, so it loads the permutation again and starts
 *    the node over when it changed.
 *  - A node that was replaced is never touched again: whoever is in it, or comes to it through a
 *    parent that was replaced as well, finds everything that was there when it was replaced. It may
 *    hold keys beyond its range (which the right half holds now); lookups are not led there,
 * cursors cut them off. Only a full node can be such a one.
 */
#include "engine/memtable/btree_private.h"

__attribute__((noinline)) int64_t btree_guarded_head(const struct memtable *mt,
                                                     const struct btree_node *n,
                                                     const struct target *t)
{
    int order = target_prefix_order(t, record_at(mt, n->guard), n->prefix);
    if (order == 0)
        return head_bias(target_head(t, n->prefix));
    return order < 0 ? HEAD_LOWEST : HEAD_HIGHEST;
}

static bool sep_is_below(const struct memtable *mt, uint32_t sep, const struct target *t,
                         size_t prefix, bool or_equal)
{
    if (sep == 0)
        return true;
    int order = record_compare(record_at(mt, sep), t, prefix);
    return order < 0 || (order == 0 && or_equal);
}

__attribute__((noinline)) unsigned btree_rank_ties(const struct memtable *mt,
                                                   const struct btree_node *n,
                                                   const _Atomic uint32_t *keys, uint64_t perm,
                                                   struct rank r, const struct target *t,
                                                   bool or_equal)
{
    unsigned first = r.less, limit = r.less + (unsigned)__builtin_popcount(r.equal);
    while (first < limit) {
        unsigned middle = first + (limit - first) / 2;
        uint32_t key = atomic_load_explicit(&keys[perm_slot(perm, middle)], memory_order_acquire);
        if (sep_is_below(mt, key, t, node_tie_prefix(n), or_equal))
            first = middle + 1;
        else
            limit = middle;
    }
    return first;
}

/* ---- lookups --------------------------------------------------------------------------------- */

/* The record that has the key if one of the leaf has it; 0: none has. */
ALWAYS_INLINE uint32_t leaf_candidate(const struct memtable *mt, const struct btree_node *leaf,
                                      const struct target *t, rank_function rank)
{
    uint64_t perm = node_perm(leaf);
    struct rank r = rank(leaf, perm_count(perm), node_head(mt, leaf, t));
    if (r.equal == 0)
        return 0;
    unsigned slot = (unsigned)__builtin_ctz(r.equal);
    if (__builtin_expect((r.equal & (r.equal - 1)) != 0, 0)) {
        unsigned index = btree_rank_ties(mt, leaf, leaf->off, perm, r, t, false);
        if (index == perm_count(perm))
            return 0;
        slot = perm_slot(perm, index);
    }
    return node_off(leaf, slot);
}

/* The child on the way to the key. */
ALWAYS_INLINE const struct btree_node *child_for(const struct memtable *mt,
                                                 const struct btree_node *n, const struct target *t,
                                                 rank_function rank)
{
    for (;;) {
        uint64_t perm = node_perm(n);
        unsigned after = node_rank(mt, n, n->sep, perm, t, true, rank);
        uint32_t child = node_off(n, perm_slot(perm, after > 0 ? after - 1 : 0));
        if (__builtin_expect(atomic_load_explicit(&n->perm, memory_order_relaxed) == perm, 1))
            return node_at(mt, child);
    }
}

ALWAYS_INLINE uint32_t find_with(const struct memtable *mt, const struct target *t,
                                 rank_function rank)
{
    uint64_t root = btree_root(mt);
    const struct btree_node *n = node_at(mt, BTREE_ROOT_NODE(root));
    for (unsigned height = BTREE_ROOT_HEIGHT(root); height > 0; height--) {
        n = child_for(mt, n, t, rank);
        node_prefetch(n);
    }
    uint32_t at = leaf_candidate(mt, n, t, rank);
    return at != 0 && record_has_key(record_at(mt, at), t) ? at : 0;
}

BTREE_DISPATCH(uint32_t, find, find_with, mt, (const struct memtable *mt, const struct target *t),
               mt, t)

uint32_t btree_find(const struct memtable *mt, const struct target *t)
{
    return find(mt, t);
}

/* ---- bounds ---------------------------------------------------------------------------------- */

static bool record_is_below(const struct memtable *mt, uint32_t at, uint32_t bound)
{
    struct target t = record_target(record_at(mt, bound));
    return record_compare(record_at(mt, at), &t, 0) < 0;
}

/* The number of keys below `high`; a node with a free slot holds no others. */
static unsigned count_below(const struct memtable *mt, const _Atomic uint32_t *keys, uint64_t perm,
                            uint32_t high)
{
    unsigned count = perm_count(perm);
    if (count < BTREE_SLOTS || high == 0)
        return count;
    while (count > 0) {
        uint32_t key =
            atomic_load_explicit(&keys[perm_slot(perm, count - 1)], memory_order_acquire);
        if (key == 0 || record_is_below(mt, key, high))
            break;
        count--;
    }
    return count;
}

/* ---- from leaf to leaf ----------------------------------------------------------------------- */

static void set_leaf_range(struct btree_step *s)
{
    s->low = s->index > 0 ? node_sep(s->parent, perm_slot(s->perm, s->index)) : s->parent_low;
    s->high = s->index + 1 < s->count ? node_sep(s->parent, perm_slot(s->perm, s->index + 1))
                                      : s->parent_high;
}

/* Where a descent has come to. */
struct descent {
    const struct btree_node *node;
    unsigned height; /* of the node; 0: a leaf */
};

/* Goes on down to nodes of height `to`, on the way to *t (NULL: to the last leaf): in the leaf it
 * is the one whose range holds it, or, with `before`, the one that holds the keys right below it.
 */
ALWAYS_INLINE struct descent go_down_with(const struct memtable *mt, struct btree_step *s,
                                          struct descent d, unsigned to, const struct target *t,
                                          bool before, rank_function rank)
{
    while (d.height > to) {
        const struct btree_node *n = d.node;
        uint64_t perm = node_perm(n);
        unsigned after =
            t == NULL ? perm_count(perm) : node_rank(mt, n, n->sep, perm, t, !before, rank);
        unsigned index = after > 0 ? after - 1 : 0;
        uint32_t child = node_off(n, perm_slot(perm, index));
        if (atomic_load_explicit(&n->perm, memory_order_relaxed) != perm)
            continue;
        *s = (struct btree_step){.parent = n,
                                 .perm = perm,
                                 .index = index,
                                 .count = perm_count(perm),
                                 .parent_low = s->low,
                                 .parent_high = s->high};
        set_leaf_range(s);
        d.node = node_at(mt, child);
        node_prefetch(d.node);
        d.height--;
    }
    return d;
}

BTREE_DISPATCH(struct descent, go_down, go_down_with, mt,
               (const struct memtable *mt, struct btree_step *s, struct descent d, unsigned to,
                const struct target *t, bool before),
               mt, s, d, to, t, before)

ALWAYS_INLINE struct descent begin_descent(const struct memtable *mt, struct btree_step *s)
{
    uint64_t root = btree_root(mt);
    *s = (struct btree_step){0};
    return (struct descent){node_at(mt, BTREE_ROOT_NODE(root)), BTREE_ROOT_HEIGHT(root)};
}

/* The parent's keys that are beyond its range do not count. */
static void end_descent(const struct memtable *mt, struct btree_step *s)
{
    if (s->parent != NULL)
        s->count = count_below(mt, s->parent->sep, s->perm, s->parent_high);
}

static const struct btree_node *descend(const struct memtable *mt, struct btree_step *s,
                                        const struct target *t, bool before)
{
    struct descent d = begin_descent(mt, s);
    d = go_down(mt, s, d, 0, t, before);
    end_descent(mt, s);
    return d.node;
}

/* The leaf that the step names; NULL when the parent changed, and one has to descend anew. */
static const struct btree_node *child_of(const struct memtable *mt, struct btree_step *s)
{
    uint32_t child = node_off(s->parent, perm_slot(s->perm, s->index));
    if (atomic_load_explicit(&s->parent->perm, memory_order_relaxed) != s->perm)
        return NULL;
    set_leaf_range(s);
    return node_at(mt, child);
}

/* Separators never go away, so a leaf's upper bound is the lower bound of the next one for ever. */
static const struct btree_node *step_forwards(const struct memtable *mt, struct btree_step *s)
{
    const struct btree_node *leaf = NULL;
    uint32_t bound = s->high;
    if (bound == 0)
        return NULL;
    if (s->parent != NULL && s->index + 1 < s->count) {
        s->index++;
        leaf = child_of(mt, s);
    }
    if (leaf == NULL) {
        struct target t = record_target(record_at(mt, bound));
        leaf = descend(mt, s, &t, false);
    }
    return leaf;
}

static const struct btree_node *step_backwards(const struct memtable *mt, struct btree_step *s)
{
    const struct btree_node *leaf = NULL;
    uint32_t bound = s->low;
    if (bound == 0)
        return NULL;
    if (s->parent != NULL && s->index > 0) {
        s->index--;
        leaf = child_of(mt, s);
    }
    if (leaf == NULL) {
        struct target t = record_target(record_at(mt, bound));
        leaf = descend(mt, s, &t, true);
    }
    return leaf;
}

/* ---- fetching ahead -------------------------------------------------------------------------- */

static void fetch_records(const struct memtable *mt, const struct btree_node *leaf)
{
    unsigned count = perm_count(node_perm(leaf));
    for (unsigned slot = 0; slot < count; slot++)
        record_prefetch(mt, node_off(leaf, slot));
}

/* Fetches the node of one more leaf into the cache, and the records of the leaf whose node was
 * fetched BTREE_AHEAD_NODES calls before. */
static void fetch_one_ahead(struct btree_cursor *c)
{
    const struct btree_node *leaf = c->fetched[0];
    for (unsigned i = 1; i < BTREE_AHEAD_NODES; i++)
        c->fetched[i - 1] = c->fetched[i];
    const struct btree_node *next =
        c->is_backwards ? step_backwards(c->mt, &c->ahead) : step_forwards(c->mt, &c->ahead);
    c->fetched[BTREE_AHEAD_NODES - 1] = next;
    if (next != NULL)
        node_prefetch(next);
    if (leaf != NULL)
        fetch_records(c->mt, leaf);
}

/* The leaf that the walk comes to next, when the parent tells it; NULL: it does not. */
static const struct btree_node *neighbour(const struct btree_cursor *c, bool backwards)
{
    const struct btree_step *s = &c->at;
    if (s->parent == NULL || (backwards ? s->index == 0 : s->index + 1 >= s->count))
        return NULL;
    unsigned index = backwards ? s->index - 1 : s->index + 1;
    return node_at(c->mt, node_off(s->parent, perm_slot(s->perm, index)));
}

static void fetch_neighbour(const struct btree_cursor *c, bool backwards)
{
    const struct btree_node *leaf = neighbour(c, backwards);
    if (leaf != NULL)
        node_prefetch(leaf);
}

void btree_cursor_fetch_next(struct btree_cursor *c)
{
    if (c->has_next || c->crossings + 1 >= BTREE_AHEAD_START)
        return;
    const struct btree_node *leaf = neighbour(c, false);
    c->has_next = true;
    if (leaf != NULL)
        fetch_records(c->mt, leaf);
}

/* A walk has to cross some leaves first: for a short scan it would cost more than it saves. Up to
 * then only what is near is fetched. */
static void fetch_ahead(struct btree_cursor *c, bool backwards)
{
    bool has_records = c->has_next && !backwards;
    c->has_next = false;
    if (c->is_backwards != backwards) {
        c->is_backwards = backwards;
        c->crossings = 0;
    }
    if (++c->crossings < BTREE_AHEAD_START) {
        for (unsigned i = 0; !has_records && i < c->count; i++)
            record_prefetch(c->mt, c->records[i]);
        fetch_neighbour(c, backwards);
        return;
    }
    if (c->crossings == BTREE_AHEAD_START) {
        c->ahead = c->at;
        memset(c->fetched, 0, sizeof c->fetched);
        for (unsigned i = 1; i < BTREE_AHEAD_NODES + BTREE_AHEAD_RECORDS; i++)
            fetch_one_ahead(c);
    }
    fetch_one_ahead(c);
}

/* ---- cursors --------------------------------------------------------------------------------- */

static inline void copy_records(struct btree_cursor *c, const struct btree_node *leaf,
                                uint64_t perm)
{
    unsigned count = perm_count(perm);
    for (unsigned i = 0; i < count; i++)
        c->records[i] = node_off(leaf, perm_slot(perm, i));
}

static void copy_leaf(struct btree_cursor *c, const struct btree_node *leaf)
{
    uint64_t perm = node_perm(leaf);
    copy_records(c, leaf, perm);
    c->count = count_below(c->mt, leaf->off, perm, c->at.high);
}

/* Copies the leaf; returns the rank of *t among its keys. The records from there on, or, with
 * `before`, those up to there, are fetched before the first of them is looked at. */
ALWAYS_INLINE unsigned seek_leaf_with(struct btree_cursor *c, const struct btree_node *leaf,
                                      const struct target *t, bool before, rank_function rank)
{
    uint64_t perm = node_perm(leaf);
    unsigned count = perm_count(perm);
    struct rank r = rank(leaf, count, node_head(c->mt, leaf, t));
    unsigned first = before ? 0 : r.less, limit = before && r.less + 1 < count ? r.less + 1 : count;
    copy_records(c, leaf, perm);
    for (unsigned i = first; i < limit; i++)
        record_prefetch(c->mt, c->records[i]);
    c->count = count_below(c->mt, leaf->off, perm, c->at.high);
    unsigned below = r.less;
    if (r.equal != 0)
        below = btree_rank_ties(c->mt, leaf, leaf->off, perm, r, t, false);
    return below < c->count ? below : c->count;
}

BTREE_DISPATCH(unsigned, seek_leaf, seek_leaf_with, c->mt,
               (struct btree_cursor * c, const struct btree_node *leaf, const struct target *t,
                bool before),
               c, leaf, t, before)

uint32_t btree_cursor_next_leaf(struct btree_cursor *c)
{
    for (;;) {
        const struct btree_node *leaf = step_forwards(c->mt, &c->at);
        if (leaf == NULL) {
            c->index = c->count;
            return 0;
        }
        copy_leaf(c, leaf);
        fetch_ahead(c, false);
        c->index = 0;
        if (c->count > 0)
            return c->records[0];
    }
}

static uint32_t stand_before(struct btree_cursor *c, unsigned rank)
{
    while (rank == 0) {
        const struct btree_node *leaf = step_backwards(c->mt, &c->at);
        if (leaf == NULL) {
            c->index = c->count;
            return 0;
        }
        copy_leaf(c, leaf);
        rank = c->count;
        fetch_ahead(c, true);
    }
    c->index = rank - 1;
    return c->records[c->index];
}

void btree_cursor_approach(struct btree_cursor *c, const struct target *t)
{
    struct btree_approach *a = &c->approach;
    struct descent d = {a->node, a->height};
    if (a->steps == 0)
        d = begin_descent(c->mt, &c->at);
    if (a->steps < BTREE_APPROACH_LEAF) {
        d = go_down(c->mt, &c->at, d, a->steps == 0 && d.height > 0 ? 1 : 0, t, false);
        *a = (struct btree_approach){d.node, d.height, a->steps + 1};
    } else if (a->steps == BTREE_APPROACH_LEAF) {
        end_descent(c->mt, &c->at);
        c->index = seek_leaf(c, d.node, t, false);
        a->steps++;
    }
}

/* The rank of *t in its leaf, as approached or looked up now. */
static unsigned find_rank(struct btree_cursor *c, const struct target *t)
{
    unsigned steps = c->approach.steps;
    c->approach.steps = 0;
    if (steps > BTREE_APPROACH_LEAF)
        return c->index;
    return seek_leaf(c, descend(c->mt, &c->at, t, false), t, false);
}

uint32_t btree_cursor_seek(struct btree_cursor *c, const struct target *t)
{
    c->index = find_rank(c, t);
    c->crossings = 0;
    c->has_next = false;
    if (c->index >= c->count)
        return btree_cursor_next_leaf(c);
    fetch_neighbour(c, false);
    return c->records[c->index];
}

uint32_t btree_cursor_seek_before(struct btree_cursor *c, const struct target *t)
{
    c->approach.steps = 0;
    const struct btree_node *leaf = descend(c->mt, &c->at, t, true);
    unsigned rank;
    if (t != NULL) {
        rank = seek_leaf(c, leaf, t, true);
    } else {
        copy_leaf(c, leaf);
        rank = c->count;
    }
    c->crossings = 0;
    c->has_next = false;
    fetch_neighbour(c, true);
    return stand_before(c, rank);
}

uint32_t btree_cursor_prev(struct btree_cursor *c)
{
    return stand_before(c, c->index);
}
