/*
 * Sorting by key without looking at most of the keys: by the 8 bytes behind what all keys have in
 * common. Where these tie the group is sorted again by the 8 bytes behind what the
 * group has in common; small groups, and those that take many rounds, by comparisons.
 */
#include "engine/memtable/bulk_private.h"

#define SMALL_GROUP 24 /* entries that are sorted by comparisons */
#define MAX_ROUNDS  8  /* of digits: ties of keys and zeros behind them never end */

static size_t group_limit(const struct head_item *entries, size_t first, size_t count)
{
    size_t limit = first + 1;
    while (limit < count && entries[limit].mark == BULK_GROUP_INSIDE)
        limit++;
    return limit;
}

/* ---- by comparisons -------------------------------------------------------------------------- */

static int compare(const struct memtable *mt, const struct head_item *a, const struct head_item *b)
{
    struct target t = record_target(record_at(mt, b->place));
    return record_compare(record_at(mt, a->place), &t, 0);
}

/* Merges the sorted [first, middle) and [middle, limit); of equal keys those of the left first. */
static void merge(const struct memtable *mt, const struct head_item *from, struct head_item *to,
                  size_t first, size_t middle, size_t limit)
{
    size_t left = first, right = middle;
    for (size_t at = first; at < limit; at++) {
        bool is_left =
            right == limit || (left < middle && compare(mt, &from[left], &from[right]) <= 0);
        to[at] = from[is_left ? left++ : right++];
    }
}

static void sort_by_keys(const struct memtable *mt, struct head_item *entries,
                         struct head_item *scratch, size_t count)
{
    struct head_item *from = entries, *to = scratch;
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t first = 0; first < count; first += 2 * width) {
            size_t middle = first + width < count ? first + width : count;
            size_t limit = middle + width < count ? middle + width : count;
            merge(mt, from, to, first, middle, limit);
        }
        struct head_item *other = from;
        from = to;
        to = other;
    }
    if (from != entries)
        memcpy(entries, from, count * sizeof *entries);
    entries[0].mark = BULK_GROUP_KEY;
    for (size_t i = 1; i < count; i++)
        entries[i].mark =
            compare(mt, &entries[i - 1], &entries[i]) == 0 ? BULK_GROUP_INSIDE : BULK_GROUP_KEY;
}

/* ---- by heads -------------------------------------------------------------------------------- */

/* Entries are in the order of their heads: those whose heads tie are a group. True when there is
 * one of more than one entry. */
static bool mark_ties(struct head_item *entries, size_t count)
{
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        bool is_tie = i > 0 && entries[i].head == entries[i - 1].head;
        bool is_tied = i + 1 < count && entries[i].head == entries[i + 1].head;
        entries[i].mark = is_tie ? BULK_GROUP_INSIDE : is_tied ? BULK_GROUP_OPEN : BULK_GROUP_KEY;
        any |= is_tie;
    }
    return any;
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static lsm_slice tree_key(const struct memtable *mt, const struct head_item *e)
{
    const struct record *r = record_at(mt, e->place);
    return LSM_SLICE(r->family, FAMILY_SIZE + r->key_size);
}

/* Sets the heads behind what all keys have in common. Where a key ends the head has zeros, which
 * may make a tie and never a wrong order. */
static void set_heads(const struct memtable *mt, struct head_item *entries, size_t count)
{
    lsm_slice common = tree_key(mt, &entries[0]);
    for (size_t i = 1; i < count; i++)
        common.size = slice_common_prefix(common, tree_key(mt, &entries[i]));
    for (size_t i = 0; i < count; i++)
        entries[i].head = record_head(record_at(mt, entries[i].place), common.size);
}

static bool is_one_key(const struct memtable *mt, const struct head_item *entries, size_t count)
{
    lsm_slice key = tree_key(mt, &entries[0]);
    for (size_t i = 1; i < count; i++) {
        if (!slice_equal(key, tree_key(mt, &entries[i])))
            return false;
    }
    return true;
}

/* True when groups with several keys may be left. */
static bool sort_group(const struct memtable *mt, struct head_item *entries,
                       struct head_item *scratch, size_t count, unsigned round)
{
    if (is_one_key(mt, entries, count)) {
        entries[0].mark = BULK_GROUP_KEY;
        return false;
    }
    if (count <= SMALL_GROUP || round > MAX_ROUNDS) {
        sort_by_keys(mt, entries, scratch, count);
        return false;
    }
    set_heads(mt, entries, count);
    head_sort(entries, scratch, count);
    return mark_ties(entries, count);
}

void bulk_sort(const struct memtable *mt, struct head_item *entries, struct head_item *scratch,
               size_t count)
{
    if (count == 0)
        return;
    head_sort(entries, scratch, count);
    bool again = mark_ties(entries, count);
    for (unsigned round = 1; again; round++) {
        again = false;
        for (size_t first = 0, limit; first < count; first = limit) {
            limit = group_limit(entries, first, count);
            if (entries[first].mark == BULK_GROUP_OPEN)
                again |= sort_group(mt, entries + first, scratch, limit - first, round);
        }
    }
}
