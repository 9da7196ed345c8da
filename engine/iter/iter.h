/*
 * The iterator that every sorted source inside the engine offers: memtables, tables, a level, a
 * merge of them. It walks internal entries (every version, deletions included) of one column family
 * in the order of engine/format/entry.h.
 *
 * The current entry is read through a pointer that stays while the walk stays in one source:
 * reading costs no call, and an iterator over iterators hands the pointer up instead of copying.
 * `head` is a number that grows with the key, so that a merge compares numbers first: equal heads
 * decide nothing. It is made of 8 bytes of the key, those behind `common`: what most keys of the
 * iterators that are compared begin with, or nothing. An iterator may have several
 * entries in an array; then it says how many follow the current one there (`run`), or stand before
 * it (`back`), and walking over those costs no call either: iter_next() and iter_prev() count.
 * Every operation finds out where it stands from `entry`.
 *
 * Memory: an implementation embeds struct iter as its first member. The entry, its key and value
 * are borrowed from it, valid until it moves or is released; what iter_next() or iter_prev() has
 * just left, key and value, stays until the next move. Not valid plus status != LSM_OK is a
 * failure; the details are in the lsm_error that was given at its creation.
 */
#ifndef ENGINE_ITER_ITER_H
#define ENGINE_ITER_ITER_H

#include "engine/base/bytes.h"
#include "engine/format/entry.h"

struct iter;

struct iter_ops {
    void (*first)(struct iter *it);
    void (*last)(struct iter *it);
    void (*seek)(struct iter *it, lsm_slice key, uint64_t trailer);          /* first entry >= */
    void (*seek_for_prev)(struct iter *it, lsm_slice key, uint64_t trailer); /* last entry <= */
    void (*next)(struct iter *it);    /* it->valid, it->run is 0: use iter_next() */
    void (*prev)(struct iter *it);    /* it->valid, it->back is 0: use iter_prev() */
    void (*release)(struct iter *it); /* frees what it holds, and itself when it was allocated */
    /* NULL, or a hint: a seek to the same place is the next move. Begins to fetch the memory that
     * it will read, so that several sources wait for theirs together; given again, what is to be
     * read after that. */
    void (*approach)(struct iter *it, lsm_slice key, uint64_t trailer);
    /* NULL, or: gives back what only a walk needs, blocks above all. The next move is to a place.
     */
    void (*rest)(struct iter *it);
};

struct iter_entry {
    uint64_t head; /* of key: iter_head() */
    lsm_slice key; /* user key */
    uint64_t trailer;
    lsm_slice value;
};

struct iter {
    const struct iter_ops *ops;
    const struct iter_entry *entry; /* meaningless unless valid */
    /* On a walk forwards entry[1] to entry[run] come next, on one backwards entry[-1] to
     * entry[-back]. One of them is 0; both unless valid. */
    uint32_t run, back;
    bool valid;
    lsm_status status;
    lsm_slice common; /* set by who compares several, before the first move; borrowed */
};

static inline uint64_t iter_head(lsm_slice key, lsm_slice common)
{
    if (__builtin_expect(!slice_begins_with(key, common), 0))
        return slice_compare(key, common) < 0 ? 0 : UINT64_MAX;
    if (common.size == 0)
        return bytes_head(key.data, key.size);
    return bytes_head((const uint8_t *)key.data + common.size, key.size - common.size);
}

static inline void iter_next(struct iter *it)
{
    if (it->run > 0) {
        it->run--;
        it->entry++;
    } else {
        it->ops->next(it);
    }
}

static inline void iter_prev(struct iter *it)
{
    if (it->back > 0) {
        it->back--;
        it->entry--;
    } else {
        it->ops->prev(it);
    }
}

static inline void iter_seek(struct iter *it, lsm_slice key, uint64_t trailer)
{
    it->ops->seek(it, key, trailer);
}

static inline void iter_approach(struct iter *it, lsm_slice key, uint64_t trailer)
{
    if (it->ops->approach != NULL)
        it->ops->approach(it, key, trailer);
}

static inline void iter_rest(struct iter *it)
{
    it->run = it->back = 0;
    it->valid = false;
    if (it->ops->rest != NULL)
        it->ops->rest(it);
}

static inline void iter_release(struct iter *it) /* NULL is allowed */
{
    if (it != NULL)
        it->ops->release(it);
}

#endif
