/*
 * The keys that a transaction wrote, or read, in order: a private skiplist whose nodes carry the
 * values written.
 *
 * A memtable would not do: its arena is set up for one size, it takes nothing back, and a
 * transaction of three keys should not begin with 64 KiB. A sorted array moves half of itself at
 * every insert. Versions of a key stay in a chain, newest first, numbered by the transaction's
 * operations, so that a savepoint can be returned to and an iterator sees what there was when it
 * was opened.
 */
#ifndef ENGINE_DB_TXN_MAP_H
#define ENGINE_DB_TXN_MAP_H

#include "engine/base/random.h"
#include "engine/iter/iter.h"

#define TXN_MAP_HEIGHT 12

struct txn_version {
    struct txn_version *older; /* owned */
    uint64_t operation;        /* of the transaction, counted from 1 */
    enum entry_type type;
    size_t value_size;
    uint8_t value[];
};

struct txn_node {
    lsm_cf *family; /* as the caller gave it; NULL: default */
    uint32_t cf;
    uint32_t height;
    uint64_t head;              /* of the key */
    struct txn_version *newest; /* owned; NULL: none (a key that was read) */
    const uint8_t *key;         /* behind the links */
    size_t key_size;
    struct txn_node *next[]; /* `height` of them */
};

struct txn_map {
    struct txn_node *first[TXN_MAP_HEIGHT];
    struct random_state random;
    size_t count;
    size_t size_bytes; /* of nodes and versions */
};

/* A zeroed map is empty. */
void txn_map_release(struct txn_map *map); /* becomes empty */

static inline lsm_slice txn_node_key(const struct txn_node *node)
{
    return LSM_SLICE(node->key, node->key_size);
}
static inline struct txn_node *txn_map_first(const struct txn_map *map)
{
    return map->first[0];
}

/* NULL when it is not there. */
struct txn_node *txn_map_find(const struct txn_map *map, uint32_t cf, lsm_slice key);
/* The first node at or behind the key; NULL when there is none. */
struct txn_node *txn_map_seek(const struct txn_map *map, uint32_t cf, lsm_slice key);
/* The last node before the key (of any family), NULL when there is none; `cf` may be 2^32. */
struct txn_node *txn_map_before(const struct txn_map *map, uint64_t cf, lsm_slice key);

/* Bytes that a node, and a version, take. */
size_t txn_node_size(size_t key_size);
size_t txn_version_size(size_t value_size);

/* The key's node, made when it is not there; NULL when out of memory. */
struct txn_node *txn_map_take(struct txn_map *map, uint32_t cf, lsm_cf *family, lsm_slice key);
/* Puts a version in front. `replace`: of the newest one, whose operation it keeps. False when out
 * of memory; then nothing has changed. */
bool txn_map_push(struct txn_map *map, struct txn_node *node, uint64_t operation,
                  enum entry_type type, lsm_slice value, bool replace);
/* Takes the newest version away. */
void txn_map_pop(struct txn_map *map, struct txn_node *node);
void txn_map_remove(struct txn_map *map, struct txn_node *node);

/*
 * The entries of one family that operations up to `operation` left, deletions included, with the
 * sequence number ENTRY_MAX_SEQUENCE: newer than all that is stored. Owned by the caller
 * (iter_release()). It may be moved as long as none of those versions has been taken away, and
 * released at any time.
 */
lsm_status txn_map_iter_new(const struct txn_map *map, uint32_t cf, uint64_t operation,
                            struct iter **it, lsm_error *err);

#endif
