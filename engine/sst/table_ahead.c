/*
 * Windows are made in the direction of the walk, each where the one before ended, and used in that
 * order; the first place is for the window that opens a walk, and for single blocks. A window is
 * free when its read is finished and it lies behind the walk. Windows that a jump made useless are
 * not waited for: their memory becomes free when their reads are reaped.
 */
#include "engine/sst/table_ahead.h"

#include <inttypes.h>

#define RUN_BEFORE_AHEAD 2  /* blocks that are read alone, unless it is the habit to use more */
#define SHARE_OF_WALK    4  /* a window is no less than one part in so many of the walk up to now */
#define HABIT_UP         4  /* the habit moves by one part in so many of the difference, */
#define HABIT_DOWN       16 /* more slowly where less was used: a few reads cost more than bytes */
#define KEPT_MEMORY      (TABLE_AHEAD_HABIT + ((size_t)16 << 10)) /* of an iterator that rests */

void table_ahead_init(struct table_ahead *a, struct table *table, struct read_lane *lane,
                      const struct table_ahead_plan *plan)
{
    *a = (struct table_ahead){
        .table = table, .lane = lane, .plan = *plan, .left = table->env->ahead_left};
}

/* ---- habits ---------------------------------------------------------------------------------- */

static uint64_t bytes_between(const struct table_ahead *a, uint32_t first, uint32_t limit)
{
    return a->table->index.offsets[limit] - a->table->index.offsets[first];
}

/* Bytes of the blocks from the one that opened the walk to where it is, that one not counted. */
static uint64_t walked_bytes(const struct table_ahead *a)
{
    return a->is_backwards ? bytes_between(a, a->at + 1, a->opened + 1)
                           : bytes_between(a, a->opened, a->at);
}

static uint32_t walked_blocks(const struct table_ahead *a)
{
    return a->is_backwards ? a->opened - a->at : a->at - a->opened;
}

/* A walk has ended: how much did it use? Many threads may say so at once, and one is heard. */
static void learn(struct table_ahead *a)
{
    uint64_t used = walked_bytes(a) + bytes_between(a, a->at, a->at + 1);
    uint32_t now = used < TABLE_AHEAD_HABIT ? (uint32_t)used : (uint32_t)TABLE_AHEAD_HABIT;
    uint32_t habit = atomic_load_explicit(&a->table->habit, memory_order_relaxed);
    uint32_t next = habit == 0    ? now
                    : now > habit ? habit + (now - habit + HABIT_UP - 1) / HABIT_UP
                                  : habit - (habit - now) / HABIT_DOWN;
    if (next != habit)
        atomic_store_explicit(&a->table->habit, next, memory_order_relaxed);
}

/* ---- windows --------------------------------------------------------------------------------- */

static void forget(struct table_ahead *a, struct table_window *w)
{
    read_lane_cancel(a->lane, &w->read);
    w->first = w->limit = 0;
}

void table_ahead_stop(struct table_ahead *a)
{
    a->goes_on = false;
    if (!a->is_open)
        return;
    if (!a->plan.is_sure && !a->is_fresh)
        learn(a);
    for (size_t i = 0; i < TABLE_AHEAD_WINDOWS; i++)
        forget(a, &a->windows[i]);
    a->is_open = false;
}

static void wait_for_all(struct table_ahead *a)
{
    for (size_t i = 0; i < TABLE_AHEAD_WINDOWS; i++)
        if (a->windows[i].read.state != LANE_IDLE)
            (void)read_lane_wait(a->lane, &a->windows[i].read, NULL);
}

static void window_free(const struct table_ahead *a, struct table_window *w)
{
    mem_free_buffer(w->memory, w->capacity);
    if (a->left != NULL)
        atomic_fetch_add_explicit(a->left, (int64_t)w->capacity, memory_order_relaxed);
    w->memory = NULL;
    w->capacity = 0;
}

static void free_memory(struct table_ahead *a, size_t kept)
{
    for (size_t i = 0; i < TABLE_AHEAD_WINDOWS; i++) {
        struct table_window *w = &a->windows[i];
        if (i == 0 && w->capacity <= kept)
            continue;
        window_free(a, w);
    }
}

void table_ahead_rest(struct table_ahead *a)
{
    table_ahead_stop(a);
    if (!a->has_asked)
        return;
    wait_for_all(a);
    free_memory(a, KEPT_MEMORY);
    a->has_asked = false;
}

void table_ahead_release(struct table_ahead *a)
{
    table_ahead_stop(a);
    wait_for_all(a);
    window_free(a, &a->windows[0]);
    free_memory(a, SIZE_MAX);
}

void table_ahead_turn_to(struct table_ahead *a, struct table *table, bool goes_on)
{
    bool was_sure = a->is_open && a->is_sure;
    table_ahead_stop(a);
    wait_for_all(a);
    a->table = table;
    a->goes_on = goes_on && was_sure;
}

/* What of `size` bytes a window may have now. */
static uint64_t allowed(const struct table_ahead *a, uint64_t size)
{
    if (a->left == NULL)
        return size;
    int64_t left = atomic_load_explicit(a->left, memory_order_relaxed) / TABLE_AHEAD_SHARE;
    uint64_t most = left > (int64_t)TABLE_AHEAD_FIRST ? (uint64_t)left : TABLE_AHEAD_FIRST;
    return size < most ? size : most;
}

static bool window_reserve(const struct table_ahead *a, struct table_window *w, uint64_t size)
{
    if (w->capacity >= size)
        return true;
    window_free(a, w);
    w->memory = size > SIZE_MAX ? NULL : mem_alloc_buffer((size_t)size);
    if (w->memory == NULL)
        return false;
    w->capacity = (size_t)size;
    if (a->left != NULL)
        atomic_fetch_sub_explicit(a->left, (int64_t)size, memory_order_relaxed);
    return true;
}

/* Puts the read of blocks [first, limit) into the lane. False when there is no memory for it. */
static bool ask(struct table_ahead *a, struct table_window *w, uint32_t first, uint32_t limit)
{
    struct table_span pages = table_pages(table_blocks_span(a->table, first, limit));
    w->first = w->limit = 0;
    if (!window_reserve(a, w, pages.size))
        return false;
    w->read.request = (struct io_request){
        .operation = IO_READ,
        .file = a->table->file,
        .memory = w->memory,
        .size = (size_t)pages.size,
        .offset = pages.offset,
    };
    w->first = first;
    w->limit = limit;
    a->has_asked = true;
    read_lane_add(a->lane, &w->read);
    return true;
}

/* ---- what is in a window --------------------------------------------------------------------- */

static bool is_cached(const struct table_ahead *a, uint32_t index)
{
    const struct table *t = a->table;
    return block_cache_has(t->env->cache, table_slot(t, index), t->number, index);
}

/* The next blocks that are not cached, in about `size` bytes, no farther than `horizon` bytes from
 * where the walk is. A few cached ones between them are taken along. False when there are none. */
static bool next_up(struct table_ahead *a, uint64_t size, uint64_t horizon, uint32_t *first,
                    uint32_t *limit)
{
    uint32_t at = a->next;
    while (at < a->edge && bytes_between(a, a->at, at) < horizon && is_cached(a, at))
        at++;
    a->next = at;
    if (at >= a->edge || bytes_between(a, a->at, at) >= horizon)
        return false;
    *first = at;
    *limit = ++at;
    for (; at < a->edge && bytes_between(a, *first, at + 1) <= size; at++) {
        if (!is_cached(a, at))
            *limit = at + 1;
        else if (bytes_between(a, *limit, at + 1) > TABLE_AHEAD_GAP)
            break;
    }
    a->next = *limit;
    return true;
}

static bool next_down(struct table_ahead *a, uint64_t size, uint64_t horizon, uint32_t *first,
                      uint32_t *limit)
{
    uint32_t at = a->next;
    while (at > a->edge && bytes_between(a, at, a->at + 1) < horizon && is_cached(a, at - 1))
        at--;
    a->next = at;
    if (at <= a->edge || bytes_between(a, at, a->at + 1) >= horizon)
        return false;
    *limit = at;
    *first = --at;
    for (; at > a->edge && bytes_between(a, at - 1, *limit) <= size; at--) {
        if (!is_cached(a, at - 1))
            *first = at - 1;
        else if (bytes_between(a, at - 1, *first) > TABLE_AHEAD_GAP)
            break;
    }
    a->next = *first;
    return true;
}

static bool next_window(struct table_ahead *a, uint64_t size, uint32_t *first, uint32_t *limit)
{
    size = allowed(a, size);
    uint64_t horizon = size * (a->plan.depth + 1);
    return a->is_backwards ? next_down(a, size, horizon, first, limit)
                           : next_up(a, size, horizon, first, limit);
}

static void grow(struct table_ahead *a)
{
    a->size = a->size * 2 < a->plan.max_size ? a->size * 2 : a->plan.max_size;
}

/* ---- in advance ------------------------------------------------------------------------------ */

/* Does the window hold what the walk has yet to come to? */
static bool is_ahead(const struct table_ahead *a, const struct table_window *w)
{
    if (w->first == w->limit)
        return false;
    return a->is_backwards ? w->limit <= a->at : w->first > a->at;
}

static bool is_here(const struct table_window *w, uint32_t index)
{
    return w->first <= index && index < w->limit;
}

/* A window that can be used for what comes, or NULL when enough is asked for. */
static struct table_window *free_window(struct table_ahead *a)
{
    unsigned wanted = 0;
    struct table_window *found = NULL;
    for (size_t i = 1; i < TABLE_AHEAD_WINDOWS; i++) {
        struct table_window *w = &a->windows[i];
        if (is_ahead(a, w))
            wanted++;
        else if (w->read.state == LANE_IDLE && !is_here(w, a->at))
            found = w;
    }
    return wanted < a->plan.depth ? found : NULL;
}

/* A lack of memory matters only to the one who needs a block. */
static lsm_status ask_in_advance(struct table_ahead *a, lsm_error *err)
{
    bool asked = false;
    read_lane_poll(a->lane);
    for (;;) {
        uint32_t first, limit;
        struct table_window *w = free_window(a);
        if (w == NULL || !next_window(a, a->size, &first, &limit) || !ask(a, w, first, limit))
            break;
        grow(a);
        asked = true;
    }
    return asked ? read_lane_start(a->lane, err) : LSM_OK;
}

lsm_status table_ahead_follow(struct table_ahead *a, uint32_t index, lsm_error *err)
{
    a->at = index;
    a->is_fresh = false;
    if (!a->is_sure && walked_bytes(a) >= TABLE_AHEAD_SURE)
        a->is_sure = true;
    bool is_first = index == a->opened && !a->plan.is_sure;
    return a->is_sure && !is_first ? ask_in_advance(a, err) : LSM_OK;
}

/* ---- a walk begins --------------------------------------------------------------------------- */

static uint32_t find_edge(const struct table_ahead *a)
{
    const struct table_index *index = &a->table->index;
    if (a->is_backwards)
        return a->first.data == NULL ? 0 : table_index_find(index, a->first, ENTRY_MAX_TRAILER);
    return a->limit.data == NULL ? index->count
                                 : table_index_find(index, a->limit, ENTRY_MAX_TRAILER) + 1;
}

void table_ahead_begin(struct table_ahead *a, uint32_t index, bool is_backwards)
{
    a->is_open = true;
    a->is_fresh = false;
    a->is_backwards = is_backwards;
    a->is_sure = a->plan.is_sure || a->goes_on;
    a->opened = a->at = index;
    a->edge = find_edge(a);
    a->next = is_backwards ? index + 1 : index;
    if (!a->goes_on)
        a->size = a->plan.first_size;
}

/* Asks for the one block. */
static lsm_status ask_single(struct table_ahead *a, uint32_t index, lsm_error *err)
{
    struct table_window *w = &a->windows[0];
    if (w->read.state != LANE_IDLE) { /* of a walk before */
        forget(a, w);
        if (w->read.state != LANE_IDLE)
            (void)read_lane_wait(a->lane, &w->read, NULL);
    }
    if (!ask(a, w, index, index + 1))
        return lsm_fail_memory(err, (size_t)bytes_between(a, index, index + 1));
    if (a->is_backwards && index < a->next)
        a->next = index;
    else if (!a->is_backwards && index >= a->next)
        a->next = index + 1;
    return LSM_OK;
}

/* Asks for a block that is missing, and some that come behind it. Another thread may have put it
 * into the cache meanwhile; then the window would begin behind it. */
static lsm_status ask_with_more(struct table_ahead *a, struct table_window *w, uint64_t size,
                                lsm_error *err)
{
    uint32_t first, limit, index = a->at, next = a->is_backwards ? index + 1 : index;
    a->next = next;
    bool is_asked = w != NULL && w->read.state == LANE_IDLE &&
                    next_window(a, size, &first, &limit) && first <= index && index < limit &&
                    ask(a, w, first, limit);
    if (is_asked)
        return LSM_OK;
    a->next = next;
    return ask_single(a, index, err);
}

/* With the first block comes what is usually used; a half block more or less does not count. A walk
 * from another table gets little at first, so that it waits shortly, and the rest behind that. */
static lsm_status ask_first(struct table_ahead *a, lsm_error *err)
{
    uint32_t habit = atomic_load_explicit(&a->table->habit, memory_order_relaxed);
    uint64_t size = a->goes_on ? TABLE_AHEAD_SURE : habit + bytes_between(a, a->at, a->at + 1) / 2;
    if (!a->plan.is_sure && habit >= TABLE_AHEAD_HABIT)
        a->is_sure = true;
    lsm_status status = ask_with_more(a, &a->windows[0], size, err);
    return status == LSM_OK && a->goes_on ? ask_in_advance(a, err) : status;
}

/* The walk goes on behind what was asked for. */
static lsm_status ask_next(struct table_ahead *a, lsm_error *err)
{
    bool was_asked = a->is_backwards ? a->at >= a->next : a->at < a->next;
    if (was_asked || walked_blocks(a) < RUN_BEFORE_AHEAD)
        return ask_single(a, a->at, err);
    uint64_t share = walked_bytes(a) / SHARE_OF_WALK;
    while (a->size < share && a->size < a->plan.max_size)
        grow(a);
    lsm_status status = ask_with_more(a, free_window(a), a->size, err);
    grow(a);
    return status;
}

bool table_ahead_reaches(const struct table_ahead *a, uint32_t index, bool is_backwards)
{
    bool is_on_the_way = is_backwards ? index < a->at : index > a->at;
    if (!a->is_open || a->is_fresh || a->is_backwards != is_backwards || !is_on_the_way)
        return false;
    for (size_t i = 0; i < TABLE_AHEAD_WINDOWS; i++)
        if (is_here(&a->windows[i], index))
            return true;
    return false;
}

void table_ahead_approach(struct table_ahead *a, uint32_t index)
{
    if (table_ahead_reaches(a, index, false))
        return;
    table_ahead_stop(a);
    table_ahead_begin(a, index, false);
    a->is_fresh = true;
    if (a->plan.is_sure || a->windows[0].read.state != LANE_IDLE)
        return;
    (void)ask_first(a, NULL); /* without memory the seek will say so */
}

/* ---- taking ---------------------------------------------------------------------------------- */

static struct table_window *window_of(struct table_ahead *a, uint32_t index)
{
    for (size_t i = 0; i < TABLE_AHEAD_WINDOWS; i++)
        if (is_here(&a->windows[i], index))
            return &a->windows[i];
    return NULL;
}

static lsm_status check_read(const struct table_ahead *a, const struct io_request *r,
                             uint64_t offset, lsm_error *err)
{
    if (r->os_errno != 0)
        return io_request_error(r, err);
    if (r->transferred == r->size)
        return LSM_OK;
    struct table_problem problem = {"the file ends too early", r->size, r->transferred};
    return table_fail_corrupt(a->table, "a data block", offset, &problem, err);
}

lsm_status table_ahead_take(struct table_ahead *a, uint32_t index, const uint8_t **bytes,
                            lsm_error *err)
{
    lsm_status status = LSM_OK;
    struct table_window *w = window_of(a, index);
    if (w == NULL)
        status = index == a->opened && !a->plan.is_sure ? ask_first(a, err) : ask_next(a, err);
    if (status != LSM_OK)
        return status;
    w = window_of(a, index);
    status = read_lane_wait(a->lane, &w->read, err);
    uint64_t offset = a->table->index.offsets[index];
    if (status == LSM_OK)
        status = check_read(a, &w->read.request, offset, err);
    if (status != LSM_OK) {
        w->first = w->limit = 0; /* a later try reads again */
        return status;
    }
    *bytes = w->memory + (offset - w->read.request.offset);
    return LSM_OK;
}
