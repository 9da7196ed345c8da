/* Filling a memtable at once: what is collected, its sorting, and the tree that is built of it. */
#ifndef ENGINE_MEMTABLE_BULK_PRIVATE_H
#define ENGINE_MEMTABLE_BULK_PRIVATE_H

#include "engine/base/head_sort.h"
#include "engine/memtable/memtable_private.h"

/* An entry is a head_item: 8 bytes of the tree's key behind a prefix of its group's, the place of
 * its record, and as mark what is known of the entries from this one on, up to the next that begins
 * a group. */
enum bulk_group {
    BULK_GROUP_INSIDE = 0, /* it belongs to the group of the one before */
    BULK_GROUP_OPEN = 1,   /* their keys may differ */
    BULK_GROUP_KEY = 2,    /* they have one key: versions, oldest first */
};

/*
 * Sorts entries, which came in order of their places and whose heads are set, by key and then by
 * place: on return every entry either begins a group of one key or is inside of one. `scratch` has
 * room for as many.
 */
void bulk_sort(const struct memtable *mt, struct head_item *entries, struct head_item *scratch,
               size_t count);

/* A node of the tree to be: where it is, and the lowest key of its range. */
struct btree_child {
    uint32_t off;
    uint32_t
        sep; /* record; 0: the range has no lower bound. In a leaf's entries the record itself */
};

/* Builds the tree over the newest records of `count` keys in their order, at least one, in an empty
 * memtable. `children` is used up. */
void btree_build(struct memtable *mt, struct btree_child *children, size_t count);

#endif
