/*
 * Entries in memory, and putting them in order: a merge sort over descriptions of 32 bytes, which
 * compares numbers first, the eight bytes behind what all keys of the chunk begin with.
 */
#include "engine/compact/intake_private.h"

#include "engine/base/memory.h"

#define ENTRIES_AT_FIRST 1024
#define SMALL_RUN        12 /* entries that are put in order by insertion */

size_t chunk_memory(const struct chunk *c)
{
    return c->used + c->count * 2 * sizeof *c->entries;
}

bool chunk_has_room(const struct chunk *c, lsm_slice key, lsm_slice value)
{
    return c->arena != NULL && c->arena_size - c->used >= key.size + value.size;
}

/* An empty chunk's arena, of `size` bytes. */
static bool make_arena(struct chunk *c, size_t size)
{
    mem_free_buffer(c->arena, c->arena_size);
    c->arena = mem_alloc_buffer(size);
    c->arena_size = c->arena == NULL ? 0 : size;
    return c->arena != NULL;
}

static bool grow_entries(struct chunk *c)
{
    size_t room = c->room == 0 ? ENTRIES_AT_FIRST : c->room * 2;
    struct chunk_entry *grown = mem_resize(c->entries, room * sizeof *grown);
    if (grown == NULL)
        return false;
    c->entries = grown;
    c->room = room;
    return true;
}

bool chunk_add(struct chunk *c, size_t arena_size, uint32_t cf, enum entry_type type, lsm_slice key,
               lsm_slice value)
{
    size_t size = key.size + value.size;
    if (!chunk_has_room(c, key, value) && !make_arena(c, size > arena_size ? size : arena_size))
        return false;
    if (c->count == c->room && !grow_entries(c))
        return false;
    uint8_t *at = c->arena + c->used;
    if (key.size > 0)
        memcpy(at, key.data, key.size);
    if (value.size > 0)
        memcpy(at + key.size, value.data, value.size);
    c->used += size;
    c->entries[c->count++] = (struct chunk_entry){.bytes = at,
                                                  .cf = cf,
                                                  .value_size = (uint32_t)value.size,
                                                  .key_size = (uint16_t)key.size,
                                                  .type = (uint8_t)type};
    return true;
}

void chunk_clear(struct chunk *c)
{
    c->used = 0;
    c->count = 0;
    c->is_unsorted = false;
}

void chunk_release(struct chunk *c)
{
    mem_free_buffer(c->arena, c->arena_size);
    mem_free(c->entries);
    mem_free(c->scratch);
    *c = (struct chunk){0};
}

/* ---- sorting --------------------------------------------------------------------------------- */

static size_t common_prefix(const struct chunk *c)
{
    lsm_slice first = chunk_key(&c->entries[0]);
    size_t size = first.size;
    for (size_t i = 1; i < c->count && size > 0; i++) {
        lsm_slice key = chunk_key(&c->entries[i]);
        if (key.size < size || memcmp(key.data, first.data, size) != 0)
            size = slice_common_prefix((lsm_slice){first.data, size}, key);
    }
    return size;
}

static void set_heads(struct chunk *c)
{
    size_t prefix = common_prefix(c);
    for (size_t i = 0; i < c->count; i++) {
        struct chunk_entry *e = &c->entries[i];
        e->head = bytes_head(e->bytes + prefix, e->key_size - prefix);
    }
}

/* Must `b`, which came later, stand before `a`? */
static inline bool comes_before(const struct chunk_entry *b, const struct chunk_entry *a)
{
    if (b->cf != a->cf)
        return b->cf < a->cf;
    if (b->head != a->head)
        return b->head < a->head;
    return slice_compare(chunk_key(b), chunk_key(a)) < 0;
}

static void sort_small(struct chunk_entry *entries, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct chunk_entry moved = entries[i];
        size_t at = i;
        for (; at > 0 && comes_before(&moved, &entries[at - 1]); at--)
            entries[at] = entries[at - 1];
        entries[at] = moved;
    }
}

/* [0, middle) and [middle, count) of `from` are in order. */
static void merge_halves(const struct chunk_entry *from, size_t middle, size_t count,
                         struct chunk_entry *to)
{
    size_t a = 0, b = middle;
    while (a < middle && b < count)
        *to++ = comes_before(&from[b], &from[a]) ? from[b++] : from[a++];
    if (a < middle)
        memcpy(to, from + a, (middle - a) * sizeof *to);
    else if (b < count)
        memcpy(to, from + b, (count - b) * sizeof *to);
}

static void merge_all(const struct chunk_entry *from, size_t count, size_t width,
                      struct chunk_entry *to)
{
    for (size_t i = 0; i < count; i += 2 * width) {
        size_t left = count - i;
        merge_halves(from + i, left < width ? left : width, left < 2 * width ? left : 2 * width,
                     to + i);
    }
}

bool chunk_sort(struct chunk *c)
{
    if (c->count < 2 || !c->is_unsorted)
        return true;
    if (c->scratch_room < c->count) {
        mem_free(c->scratch);
        c->scratch = mem_alloc(c->room * sizeof *c->scratch);
        c->scratch_room = c->scratch == NULL ? 0 : c->room;
        if (c->scratch == NULL)
            return false;
    }
    set_heads(c);
    for (size_t i = 0; i < c->count; i += SMALL_RUN)
        sort_small(c->entries + i, c->count - i < SMALL_RUN ? c->count - i : SMALL_RUN);
    for (size_t width = SMALL_RUN; width < c->count; width *= 2) {
        merge_all(c->entries, c->count, width, c->scratch);
        struct chunk_entry *swapped = c->entries;
        size_t room = c->room;
        c->entries = c->scratch;
        c->room = c->scratch_room;
        c->scratch = swapped;
        c->scratch_room = room;
    }
    c->is_unsorted = false;
    return true;
}
