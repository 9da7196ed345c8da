/*
 * The skiplist: the structure of other engines, kept to compare with. One node a key, linked from
 * level 0 upwards with release stores; the height follows from the place of the key's first record,
 * so a redo makes the same node.
 */
#include "engine/memtable/memtable_private.h"

struct skip_node {
    _Atomic uint32_t newest; /* record; 0 in the head node */
    uint32_t height;
    _Atomic uint32_t next[];
};

struct skip_path {
    uint32_t before[SKIPLIST_MAX_HEIGHT]; /* last node whose key is below the target's, a level */
};

static_assert(sizeof(struct skip_node) + SKIPLIST_MAX_HEIGHT * sizeof(uint32_t) ==
                  SKIPLIST_ENTRY_ROOM,
              "an entry's room is that of the highest node");

static struct skip_node *node_at(const struct memtable *mt, uint32_t offset)
{
    return arena_at(mt, offset);
}

static uint32_t head_of(const struct memtable *mt)
{
    return (uint32_t)atomic_load_explicit(&mt->header->root, memory_order_acquire);
}

static uint32_t next_of(const struct skip_node *n, unsigned level)
{
    /* Pairs with link(). */
    return atomic_load_explicit(&n->next[level], memory_order_acquire);
}

static void link(struct skip_node *before, unsigned level, uint32_t node)
{
    atomic_store_explicit(&before->next[level], node, memory_order_release);
}

static uint32_t newest_of(const struct memtable *mt, uint32_t node)
{
    return atomic_load_explicit(&node_at(mt, node)->newest, memory_order_acquire);
}

/* A quarter of the nodes of each level are in the next one. */
static unsigned height_of(uint32_t place)
{
    uint64_t bits = place * UINT64_C(0x9e3779b97f4a7c15);
    unsigned height = 1;
    for (bits >>= 32; height < SKIPLIST_MAX_HEIGHT && (bits & 3) == 0; bits >>= 2)
        height++;
    return height;
}

static uint32_t node_make(struct memtable *mt, unsigned height)
{
    size_t size = sizeof(struct skip_node) + height * sizeof(uint32_t);
    uint32_t node = arena_take_node(mt, (size + ARENA_UNIT - 1) & ~(ARENA_UNIT - 1));
    struct skip_node *n = node_at(mt, node);
    n->height = height;
    atomic_store_explicit(&n->newest, 0, memory_order_relaxed);
    for (unsigned level = 0; level < height; level++)
        atomic_store_explicit(&n->next[level], 0, memory_order_relaxed);
    return node;
}

void skiplist_init(struct memtable *mt)
{
    uint32_t head = node_make(mt, SKIPLIST_MAX_HEIGHT);
    atomic_store_explicit(&mt->header->root, head, memory_order_release);
}

/* The first node whose key is not below the target's, 0 when there is none; t == NULL is above all
 * keys. */
static uint32_t search(const struct memtable *mt, const struct target *t, struct skip_path *path)
{
    uint32_t node = head_of(mt), next = 0;
    for (unsigned level = SKIPLIST_MAX_HEIGHT; level-- > 0;) {
        for (;;) {
            next = next_of(node_at(mt, node), level);
            if (next == 0 ||
                (t != NULL && record_compare(record_at(mt, newest_of(mt, next)), t, 0) >= 0))
                break;
            node = next;
        }
        path->before[level] = node;
    }
    return next;
}

static bool node_has_key(const struct memtable *mt, uint32_t node, const struct target *t)
{
    return node != 0 && record_has_key(record_at(mt, newest_of(mt, node)), t);
}

static void link_above(struct memtable *mt, uint32_t node, const struct skip_path *path)
{
    struct skip_node *n = node_at(mt, node);
    for (unsigned level = 1; level < n->height; level++) {
        struct skip_node *before = node_at(mt, path->before[level]);
        uint32_t next = next_of(before, level);
        if (next == node)
            continue;
        atomic_store_explicit(&n->next[level], next, memory_order_relaxed);
        link(before, level, node);
    }
}

void skiplist_insert(struct memtable *mt, const struct entry *e)
{
    struct skip_path path;
    uint32_t node = search(mt, &e->target, &path);
    if (node_has_key(mt, node, &e->target)) {
        /* The interrupted insert may have linked level 0 only. */
        if (!chain_push(mt, &node_at(mt, node)->newest, e))
            link_above(mt, node, &path);
        return;
    }
    record_write(mt, e, 0);
    uint32_t next = node;
    node = node_make(mt, height_of(e->place));
    struct skip_node *n = node_at(mt, node);
    atomic_store_explicit(&n->newest, e->place, memory_order_relaxed);
    atomic_store_explicit(&n->next[0], next, memory_order_relaxed);
    link(node_at(mt, path.before[0]), 0, node);
    link_above(mt, node, &path);
}

uint32_t skiplist_find(const struct memtable *mt, const struct target *t)
{
    struct skip_path path;
    uint32_t node = search(mt, t, &path);
    return node_has_key(mt, node, t) ? newest_of(mt, node) : 0;
}

uint32_t skiplist_lowest_node(const struct memtable *mt)
{
    uint32_t lowest = head_of(mt);
    for (uint32_t node = lowest; node != 0; node = next_of(node_at(mt, node), 0))
        lowest = node < lowest ? node : lowest;
    return lowest;
}

/* ---- cursors --------------------------------------------------------------------------------- */

static uint32_t stand_on(struct skiplist_cursor *c, uint32_t node)
{
    c->node = node;
    return node == 0 ? 0 : newest_of(c->mt, node);
}

uint32_t skiplist_cursor_seek(struct skiplist_cursor *c, const struct target *t)
{
    struct skip_path path;
    return stand_on(c, search(c->mt, t, &path));
}

uint32_t skiplist_cursor_seek_before(struct skiplist_cursor *c, const struct target *t)
{
    struct skip_path path;
    (void)search(c->mt, t, &path);
    return stand_on(c, path.before[0] == head_of(c->mt) ? 0 : path.before[0]);
}

uint32_t skiplist_cursor_next(struct skiplist_cursor *c)
{
    return stand_on(c, next_of(node_at(c->mt, c->node), 0));
}

uint32_t skiplist_cursor_prev(struct skiplist_cursor *c)
{
    struct target t = record_target(record_at(c->mt, newest_of(c->mt, c->node)));
    return skiplist_cursor_seek_before(c, &t);
}
