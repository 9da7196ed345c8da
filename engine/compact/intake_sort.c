/*
 * Putting a chunk's items in order: by their heads, the eight bytes behind what all keys begin
 * with, one byte of them at a time from the last on, without looking at a key. Where heads are
 * equal the next eight bytes are taken likewise, a few times; what is equal then, and what is few,
 * is merged by whole keys. All of it keeps the order of equal keys.
 */
#include "engine/compact/intake_private.h"

#include "engine/base/memory.h"

#define FEW       256 /* items, which are sorted by comparing */
#define SMALL_RUN 12  /* items that are put in order by insertion */
#define DEPTH_MAX 4   /* times eight bytes that are taken before whole keys are compared */

struct sorter {
    const struct chunk *chunk;
    struct head_item *items;
    struct head_item *scratch; /* the same place there */
    size_t count;
};

/* ---- by comparing ---------------------------------------------------------------------------- */

/* Must `b`, which came later, stand before `a`? They are of one family. */
static inline bool comes_before(const struct chunk *c, const struct head_item *b,
                                const struct head_item *a)
{
    if (b->head != a->head)
        return b->head < a->head;
    return slice_compare(chunk_key(c, b), chunk_key(c, a)) < 0;
}

static void sort_small(const struct chunk *c, struct head_item *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct head_item moved = items[i];
        size_t at = i;
        for (; at > 0 && comes_before(c, &moved, &items[at - 1]); at--)
            items[at] = items[at - 1];
        items[at] = moved;
    }
}

/* [0, middle) and [middle, count) of `from` are in order. */
static void merge_halves(const struct chunk *c, const struct head_item *from, size_t middle,
                         size_t count, struct head_item *to)
{
    size_t a = 0, b = middle;
    while (a < middle && b < count)
        *to++ = comes_before(c, &from[b], &from[a]) ? from[b++] : from[a++];
    if (a < middle)
        memcpy(to, from + a, (middle - a) * sizeof *to);
    else if (b < count)
        memcpy(to, from + b, (count - b) * sizeof *to);
}

static void merge_all(const struct sorter *s, const struct head_item *from, size_t width,
                      struct head_item *to)
{
    for (size_t i = 0; i < s->count; i += 2 * width) {
        size_t left = s->count - i;
        merge_halves(s->chunk, from + i, left < width ? left : width,
                     left < 2 * width ? left : 2 * width, to + i);
    }
}

/* The heads are of one kind. */
static void sort_by_comparing(const struct sorter *s)
{
    struct head_item *from = s->items, *to = s->scratch;
    for (size_t i = 0; i < s->count; i += SMALL_RUN)
        sort_small(s->chunk, from + i, s->count - i < SMALL_RUN ? s->count - i : SMALL_RUN);
    for (size_t width = SMALL_RUN; width < s->count; width *= 2) {
        merge_all(s, from, width, to);
        struct head_item *swapped = from;
        from = to;
        to = swapped;
    }
    if (from != s->items)
        memcpy(s->items, from, s->count * sizeof *from);
}

/* ---- by heads -------------------------------------------------------------------------------- */

/* Heads of the bytes behind what these keys have in common. */
static void set_heads(const struct sorter *s)
{
    lsm_slice first = chunk_key(s->chunk, &s->items[0]);
    for (size_t i = 1; i < s->count && first.size > 0; i++)
        first.size = slice_common_prefix(first, chunk_key(s->chunk, &s->items[i]));
    for (size_t i = 0; i < s->count; i++) {
        lsm_slice key = chunk_key(s->chunk, &s->items[i]);
        s->items[i].head =
            bytes_head((const uint8_t *)key.data + first.size, key.size - first.size);
    }
}

/* Items of one family, whose heads are of one kind; `depth`: how often they were set. */
static void sort_group(const struct sorter *s, unsigned depth)
{
    if (s->count < FEW || depth >= DEPTH_MAX) {
        sort_by_comparing(s);
        return;
    }
    head_sort(s->items, s->scratch, s->count);
    for (size_t first = 0, next; first < s->count; first = next) {
        for (next = first + 1; next < s->count && s->items[next].head == s->items[first].head;)
            next++;
        struct sorter equals = {s->chunk, s->items + first, s->scratch + first, next - first};
        if (equals.count < 2)
            continue;
        if (equals.count >= FEW)
            set_heads(&equals);
        sort_group(&equals, depth + 1);
    }
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static bool make_scratch(struct chunk *c)
{
    if (c->scratch_room >= c->count)
        return true;
    mem_free(c->scratch);
    c->scratch = mem_alloc(c->room * sizeof *c->scratch);
    c->scratch_room = c->scratch == NULL ? 0 : c->room;
    return c->scratch != NULL;
}

/* By family, stable: their numbers take the place of the heads for a while. */
static void sort_by_family(const struct sorter *s)
{
    for (size_t i = 0; i < s->count; i++)
        s->items[i].head = s->items[i].mark;
    head_sort(s->items, s->scratch, s->count);
}

static void sort_each_family(const struct sorter *s)
{
    sort_by_family(s);
    for (size_t first = 0, next; first < s->count; first = next) {
        for (next = first + 1; next < s->count && s->items[next].mark == s->items[first].mark;)
            next++;
        struct sorter family = {s->chunk, s->items + first, s->scratch + first, next - first};
        set_heads(&family);
        sort_group(&family, 0);
    }
}

static void refresh_heads(struct chunk *c)
{
    for (size_t i = 0; i < c->stale_heads; i++) {
        lsm_slice key = chunk_key(c, &c->items[i]);
        c->items[i].head =
            bytes_head((const uint8_t *)key.data + c->prefix_size, key.size - c->prefix_size);
    }
}

bool chunk_sort(struct chunk *c)
{
    if (c->count < 2 || !c->is_unsorted)
        return true;
    if (!make_scratch(c))
        return false;
    struct sorter all = {c, c->items, c->scratch, c->count};
    if (c->has_several) {
        sort_each_family(&all);
    } else {
        refresh_heads(c);
        sort_group(&all, 0);
    }
    c->is_unsorted = false;
    return true;
}
