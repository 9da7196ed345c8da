/* The skiplist goes forwards only; a step back is a search for the node before. */
#include "engine/db/txn_map.h"

#include "engine/base/memory.h"
#include "engine/base/status.h"

#include <assert.h>

struct place {
    uint64_t cf;
    uint64_t head;
    lsm_slice key;
};

static struct place place_of(uint64_t cf, lsm_slice key)
{
    return (struct place){.cf = cf, .head = bytes_head(key.data, key.size), .key = key};
}

static int node_compare(const struct txn_node *node, const struct place *p)
{
    if (node->cf != p->cf)
        return node->cf < p->cf ? -1 : 1;
    if (node->head != p->head)
        return node->head < p->head ? -1 : 1;
    return slice_compare(txn_node_key(node), p->key);
}

/* ---- searches -------------------------------------------------------------------------------- */

/* The links of `node`; of the map itself when it is NULL. */
static struct txn_node *const *links_of(const struct txn_map *map, const struct txn_node *node)
{
    return node == NULL ? map->first : node->next;
}

/* The last node before the place; `path` (or NULL) takes the last one on every height. */
static struct txn_node *search(const struct txn_map *map, const struct place *p,
                               struct txn_node *path[TXN_MAP_HEIGHT])
{
    struct txn_node *at = NULL;
    for (size_t height = TXN_MAP_HEIGHT; height-- > 0;) {
        struct txn_node *next;
        while ((next = links_of(map, at)[height]) != NULL && node_compare(next, p) < 0)
            at = next;
        if (path != NULL)
            path[height] = at;
    }
    return at;
}

struct txn_node *txn_map_before(const struct txn_map *map, uint64_t cf, lsm_slice key)
{
    struct place p = place_of(cf, key);
    return search(map, &p, NULL);
}

struct txn_node *txn_map_seek(const struct txn_map *map, uint32_t cf, lsm_slice key)
{
    return links_of(map, txn_map_before(map, cf, key))[0];
}

struct txn_node *txn_map_find(const struct txn_map *map, uint32_t cf, lsm_slice key)
{
    if (map->count == 0)
        return NULL;
    struct place p = place_of(cf, key);
    struct txn_node *node = links_of(map, search(map, &p, NULL))[0];
    return node != NULL && node_compare(node, &p) == 0 ? node : NULL;
}

/* ---- changes --------------------------------------------------------------------------------- */

static size_t node_size(size_t height, size_t key_size)
{
    return sizeof(struct txn_node) + height * sizeof(struct txn_node *) + key_size;
}

size_t txn_node_size(size_t key_size)
{
    return node_size(TXN_MAP_HEIGHT, key_size);
}

size_t txn_version_size(size_t value_size)
{
    return sizeof(struct txn_version) + value_size;
}

/* One node in four is a step higher. */
static uint32_t random_height(struct txn_map *map)
{
    uint32_t height = 1;
    for (uint64_t bits = random_next(&map->random); height < TXN_MAP_HEIGHT && (bits & 3) == 0;
         bits >>= 2)
        height++;
    return height;
}

static struct txn_node *node_new(uint32_t height, uint32_t cf, lsm_cf *family, lsm_slice key)
{
    struct txn_node *node = mem_alloc(node_size(height, key.size));
    if (node == NULL)
        return NULL;
    uint8_t *bytes = (uint8_t *)(node->next + height);
    *node = (struct txn_node){.family = family,
                              .cf = cf,
                              .height = height,
                              .head = bytes_head(key.data, key.size),
                              .key = bytes,
                              .key_size = key.size};
    bytes_copy(bytes, key.data, key.size);
    return node;
}

static struct txn_node **link_to(struct txn_map *map, struct txn_node *before, size_t height)
{
    return before == NULL ? &map->first[height] : &before->next[height];
}

struct txn_node *txn_map_take(struct txn_map *map, uint32_t cf, lsm_cf *family, lsm_slice key)
{
    struct place p = place_of(cf, key);
    struct txn_node *path[TXN_MAP_HEIGHT];
    struct txn_node *node = links_of(map, search(map, &p, path))[0];
    if (node != NULL && node_compare(node, &p) == 0)
        return node;
    node = node_new(random_height(map), cf, family, key);
    if (node == NULL)
        return NULL;
    for (size_t i = 0; i < node->height; i++) {
        struct txn_node **link = link_to(map, path[i], i);
        node->next[i] = *link;
        *link = node;
    }
    map->count++;
    map->size_bytes += node_size(node->height, key.size);
    return node;
}

bool txn_map_push(struct txn_map *map, struct txn_node *node, uint64_t operation,
                  enum entry_type type, lsm_slice value, bool replace)
{
    struct txn_version *v = mem_alloc(txn_version_size(value.size));
    if (v == NULL)
        return false;
    *v = (struct txn_version){.operation = operation, .type = type, .value_size = value.size};
    bytes_copy(v->value, value.data, value.size);
    if (replace) {
        v->operation = node->newest->operation;
        txn_map_pop(map, node);
    }
    v->older = node->newest;
    node->newest = v;
    map->size_bytes += txn_version_size(value.size);
    return true;
}

void txn_map_pop(struct txn_map *map, struct txn_node *node)
{
    struct txn_version *v = node->newest;
    map->size_bytes -= txn_version_size(v->value_size);
    node->newest = v->older;
    mem_free(v);
}

void txn_map_remove(struct txn_map *map, struct txn_node *node)
{
    struct place p = place_of(node->cf, txn_node_key(node));
    struct txn_node *path[TXN_MAP_HEIGHT];
    search(map, &p, path);
    for (size_t i = 0; i < node->height; i++)
        *link_to(map, path[i], i) = node->next[i];
    while (node->newest != NULL)
        txn_map_pop(map, node);
    map->count--;
    map->size_bytes -= node_size(node->height, node->key_size);
    mem_free(node);
}

void txn_map_release(struct txn_map *map)
{
    for (struct txn_node *node = map->first[0], *next; node != NULL; node = next) {
        next = node->next[0];
        while (node->newest != NULL)
            txn_map_pop(map, node);
        mem_free(node);
    }
    *map = (struct txn_map){.random = map->random};
}

/* ---- iterator -------------------------------------------------------------------------------- */

struct txn_iter {
    struct iter base;
    struct iter_entry entry;
    const struct txn_map *map;
    uint32_t cf;
    uint64_t operation;
    struct txn_node *node; /* shown */
};

static struct txn_iter *self_of(struct iter *it)
{
    return (struct txn_iter *)it;
}

static const struct txn_version *version_at(const struct txn_iter *t, const struct txn_node *node)
{
    const struct txn_version *v = node->newest;
    while (v != NULL && v->operation > t->operation)
        v = v->older;
    return v;
}

static bool is_inside(const struct txn_iter *t, const struct txn_node *node)
{
    return node != NULL && node->cf == t->cf;
}

static void show(struct txn_iter *t, struct txn_node *node, const struct txn_version *v)
{
    t->node = node;
    t->base.valid = true;
    lsm_slice key = txn_node_key(node);
    t->entry = (struct iter_entry){.head = iter_head(key, t->base.common),
                                   .key = key,
                                   .trailer = entry_trailer(ENTRY_MAX_SEQUENCE, v->type),
                                   .value = LSM_SLICE(v->value, v->value_size)};
}

/* From `node` on, the first one that has something to show. */
static void show_forwards(struct txn_iter *t, struct txn_node *node)
{
    t->base.valid = false;
    for (; is_inside(t, node); node = node->next[0]) {
        const struct txn_version *v = version_at(t, node);
        if (v != NULL) {
            show(t, node, v);
            return;
        }
    }
}

static void show_backwards(struct txn_iter *t, struct txn_node *node)
{
    t->base.valid = false;
    while (is_inside(t, node)) {
        const struct txn_version *v = version_at(t, node);
        if (v != NULL) {
            show(t, node, v);
            return;
        }
        node = txn_map_before(t->map, node->cf, txn_node_key(node));
    }
}

static void txn_iter_first(struct iter *it)
{
    struct txn_iter *t = self_of(it);
    show_forwards(t, txn_map_seek(t->map, t->cf, LSM_SLICE(NULL, 0)));
}

static void txn_iter_last(struct iter *it)
{
    struct txn_iter *t = self_of(it);
    show_backwards(t, txn_map_before(t->map, (uint64_t)t->cf + 1, LSM_SLICE(NULL, 0)));
}

static void txn_iter_next(struct iter *it)
{
    struct txn_iter *t = self_of(it);
    show_forwards(t, t->node->next[0]);
}

static void txn_iter_prev(struct iter *it)
{
    struct txn_iter *t = self_of(it);
    show_backwards(t, txn_map_before(t->map, t->cf, txn_node_key(t->node)));
}

static void txn_iter_seek(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct txn_iter *t = self_of(it);
    show_forwards(t, txn_map_seek(t->map, t->cf, key));
    if (it->valid && entry_compare(t->entry.key, t->entry.trailer, key, trailer) < 0)
        txn_iter_next(it);
}

static void txn_iter_seek_for_prev(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct txn_iter *t = self_of(it);
    struct txn_node *node = txn_map_find(t->map, t->cf, key);
    show_backwards(t, node != NULL ? node : txn_map_before(t->map, t->cf, key));
    if (it->valid && entry_compare(t->entry.key, t->entry.trailer, key, trailer) > 0)
        txn_iter_prev(it);
}

static void txn_iter_release(struct iter *it)
{
    mem_free(it);
}

static const struct iter_ops txn_iter_ops = {
    .first = txn_iter_first,
    .last = txn_iter_last,
    .seek = txn_iter_seek,
    .seek_for_prev = txn_iter_seek_for_prev,
    .next = txn_iter_next,
    .prev = txn_iter_prev,
    .release = txn_iter_release,
};

lsm_status txn_map_iter_new(const struct txn_map *map, uint32_t cf, uint64_t operation,
                            struct iter **it, lsm_error *err)
{
    struct txn_iter *t = mem_alloc_zeroed(sizeof *t);
    if (t == NULL)
        return lsm_fail_memory(err, sizeof *t);
    t->base.ops = &txn_iter_ops;
    t->base.entry = &t->entry;
    t->map = map;
    t->cf = cf;
    t->operation = operation;
    *it = &t->base;
    return LSM_OK;
}
