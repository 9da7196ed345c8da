/*
 * Begins and ends are walked through in order of time. What may have happened so far is a set of
 * configurations: the values of all keys, and which of the calls that are under way have taken
 * effect. When a call ends it must have taken effect, so each configuration is extended by calls
 * under way, in every order, until it has; where that is impossible the configuration is given up,
 * and when none is left the history is not linearisable. A read takes effect as early as it can,
 * which loses nothing, since it changes nothing: only writes make new configurations.
 */
#include "tests/lib/history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPEN_MAX    64      /* calls under way at once */
#define CONFIGS_MAX 2000000 /* configurations of one moment */

struct config {
    uint64_t effective; /* calls under way that have taken effect, a bit each */
    uint64_t values[HISTORY_KEYS];
};

/* A set: an array, and a table of places in it. */
struct configs {
    struct config *items;
    size_t count, room;
    uint32_t *table; /* place + 1; 0: free */
    size_t table_size;
};

struct event {
    uint64_t time;
    size_t call;
    bool is_end;
};

struct checker {
    const struct history_call *calls;
    size_t open[OPEN_MAX]; /* call + 1; 0: free */
    struct configs now, next;
};

/* ---- sets ------------------------------------------------------------------------------------ */

static void *must_have(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static uint64_t hash_config(const struct config *c)
{
    uint64_t hash = c->effective * 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < HISTORY_KEYS; i++)
        hash = (hash ^ c->values[i] ^ hash >> 29) * 0xbf58476d1ce4e5b9u;
    return hash ^ hash >> 32;
}

static void clear(struct configs *set)
{
    set->count = 0;
    if (set->table != NULL)
        memset(set->table, 0, set->table_size * sizeof *set->table);
}

static void grow(struct configs *set)
{
    set->room = set->room == 0 ? 64 : 2 * set->room;
    set->items = must_have(realloc(set->items, set->room * sizeof *set->items));
    free(set->table);
    set->table_size = 4 * set->room;
    set->table = must_have(calloc(set->table_size, sizeof *set->table));
    for (size_t i = 0; i < set->count; i++) {
        size_t at = hash_config(&set->items[i]) % set->table_size;
        while (set->table[at] != 0)
            at = (at + 1) % set->table_size;
        set->table[at] = (uint32_t)i + 1;
    }
}

static void add(struct configs *set, const struct config *c)
{
    if (set->count == set->room)
        grow(set);
    size_t at = hash_config(c) % set->table_size;
    while (set->table[at] != 0) {
        if (memcmp(&set->items[set->table[at] - 1], c, sizeof *c) == 0)
            return;
        at = (at + 1) % set->table_size;
    }
    set->items[set->count++] = *c;
    set->table[at] = (uint32_t)set->count;
}

/* ---- taking effect --------------------------------------------------------------------------- */

static bool may_read(const struct history_call *call, const struct config *c)
{
    for (size_t k = 0; k < HISTORY_KEYS; k++) {
        if ((call->keys >> k & 1) != 0 && call->values[k] != c->values[k])
            return false;
    }
    return true;
}

/* Every read under way that can takes effect. */
static void read_all(const struct checker *h, struct config *c)
{
    for (size_t i = 0; i < OPEN_MAX; i++) {
        if (h->open[i] == 0 || (c->effective >> i & 1) != 0)
            continue;
        const struct history_call *call = &h->calls[h->open[i] - 1];
        if (!call->writes && may_read(call, c))
            c->effective |= UINT64_C(1) << i;
    }
}

static void write_one(const struct checker *h, size_t place, struct config *c)
{
    const struct history_call *call = &h->calls[h->open[place] - 1];
    for (size_t k = 0; k < HISTORY_KEYS; k++) {
        if ((call->keys >> k & 1) != 0)
            c->values[k] = call->values[k];
    }
    c->effective |= UINT64_C(1) << place;
    read_all(h, c);
}

/* Everything that can have happened when the call at `place` ends; false when it is too much. */
static bool extend(struct checker *h, size_t place)
{
    struct configs all = h->now;
    bool is_optional = h->calls[h->open[place] - 1].optional;
    h->now = (struct configs){0};
    clear(&h->next);
    for (size_t i = 0; i < all.count && all.count < CONFIGS_MAX; i++) {
        struct config c = all.items[i];
        bool done = (c.effective >> place & 1) != 0;
        if (done || is_optional) {
            struct config kept = c;
            kept.effective &= ~(UINT64_C(1) << place);
            add(&h->next, &kept);
        }
        if (done)
            continue;
        for (size_t p = 0; p < OPEN_MAX; p++) {
            if (h->open[p] == 0 || (c.effective >> p & 1) != 0 || !h->calls[h->open[p] - 1].writes)
                continue;
            struct config more = c;
            write_one(h, p, &more);
            add(&all, &more);
        }
    }
    bool too_wide = all.count >= CONFIGS_MAX;
    h->now = h->next;
    h->next = all;
    return !too_wide;
}

/* ---- walking --------------------------------------------------------------------------------- */

static int compare_events(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return (int)x->is_end - (int)y->is_end; /* what touches may overlap */
}

static void describe(const struct checker *h, size_t index, char *text, size_t size)
{
    const struct history_call *call = &h->calls[index];
    int n =
        snprintf(text, size, "call %zu of process %" PRIu32 ", from %" PRIu64 " to %" PRIu64 ", %s",
                 index, call->process, call->begin, call->end, call->writes ? "wrote" : "read");
    for (size_t k = 0; k < HISTORY_KEYS && n > 0 && (size_t)n < size; k++) {
        if ((call->keys >> k & 1) != 0)
            n += snprintf(text + n, size - (size_t)n, " %zu=%" PRIu64, k, call->values[k]);
    }
    if (n > 0 && (size_t)n < size && h->next.count > 0) {
        n +=
            snprintf(text + n, size - (size_t)n, "; one of %zu possible states was", h->next.count);
        for (size_t k = 0; k < HISTORY_KEYS && n > 0 && (size_t)n < size; k++)
            n += snprintf(text + n, size - (size_t)n, " %" PRIu64, h->next.items[0].values[k]);
    }
}

static bool begin_call(struct checker *h, size_t index)
{
    size_t place = 0;
    while (place < OPEN_MAX && h->open[place] != 0)
        place++;
    if (place == OPEN_MAX)
        return false;
    h->open[place] = index + 1;
    if (h->calls[index].writes)
        return true;
    clear(&h->next);
    for (size_t i = 0; i < h->now.count; i++) {
        struct config c = h->now.items[i];
        read_all(h, &c);
        add(&h->next, &c);
    }
    struct configs old = h->now;
    h->now = h->next;
    h->next = old;
    return true;
}

static bool end_call(struct checker *h, size_t index)
{
    size_t place = 0;
    while (h->open[place] != index + 1)
        place++;
    bool fits = extend(h, place);
    h->open[place] = 0;
    return fits;
}

static enum history_verdict walk(struct checker *h, const struct event *events, size_t count,
                                 char *text, size_t text_size)
{
    struct config first = {0};
    add(&h->now, &first);
    for (size_t i = 0; i < count; i++) {
        bool fits = events[i].is_end ? end_call(h, events[i].call) : begin_call(h, events[i].call);
        if (fits && h->now.count > 0)
            continue;
        describe(h, events[i].call, text, text_size);
        return fits ? HISTORY_VIOLATED : HISTORY_TOO_WIDE;
    }
    return HISTORY_LINEARISABLE;
}

/* A call that never ended ends behind all others. A read of the dead tells nothing. */
enum history_verdict history_check(const struct history_call *calls, size_t count, char *text,
                                   size_t text_size)
{
    struct checker h = {.calls = calls};
    struct event *events = must_have(malloc((2 * count + 1) * sizeof *events));
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (!calls[i].writes && (calls[i].optional || calls[i].end == HISTORY_PENDING))
            continue;
        events[n++] = (struct event){.time = calls[i].begin, .call = i};
        events[n++] = (struct event){.time = calls[i].end, .call = i, .is_end = true};
    }
    qsort(events, n, sizeof *events, compare_events);
    enum history_verdict verdict = walk(&h, events, n, text, text_size);
    free(events);
    free(h.now.items);
    free(h.now.table);
    free(h.next.items);
    free(h.next.table);
    return verdict;
}
