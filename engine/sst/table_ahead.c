/*
 * A window is free when it is not in flight and lies behind the iterator. Windows that a jump made
 * useless are not waited for: their memory becomes free when their reads are reaped.
 */
#include "engine/sst/table_ahead.h"

void table_ahead_init(struct table_ahead *a, struct table *table, size_t first_size,
                      size_t max_size, unsigned depth)
{
    *a = (struct table_ahead){.table = table,
                              .first_size = first_size,
                              .max_size = max_size,
                              .size = first_size,
                              .depth = depth};
}

void table_ahead_release(struct table_ahead *a)
{
    io_queue_close(a->queue);
    for (size_t i = 0; i < TABLE_AHEAD_WINDOWS; i++)
        mem_free_buffer(a->windows[i].memory, a->windows[i].capacity);
    *a = (struct table_ahead){.table = a->table};
}

void table_ahead_stop(struct table_ahead *a)
{
    for (size_t i = 0; i < TABLE_AHEAD_WINDOWS; i++)
        a->windows[i].first = a->windows[i].limit = 0;
    a->next = 0;
    a->size = a->first_size;
}

/* Takes one finished read off the queue. False when there is none. */
static bool reap(struct table_ahead *a, bool wait)
{
    struct io_request *done = a->queue == NULL ? NULL : io_queue_reap(a->queue, wait);
    if (done == NULL)
        return false;
    ((struct table_window *)done->owner)->in_flight = false;
    return true;
}

void table_ahead_turn_to(struct table_ahead *a, struct table *table)
{
    while (reap(a, true))
        ;
    table_ahead_stop(a);
    a->table = table;
}

/* A window that can be used for blocks after `index`, or NULL when enough are in flight. */
static struct table_window *free_window(struct table_ahead *a, uint32_t index)
{
    unsigned wanted = 0; /* in flight, or full and not reached yet */
    struct table_window *found = NULL;
    for (size_t i = 0; i < TABLE_AHEAD_WINDOWS; i++) {
        struct table_window *w = &a->windows[i];
        bool is_ahead = w->limit > w->first && w->first > index;
        if (is_ahead)
            wanted++;
        else if (!w->in_flight && w->limit <= index)
            found = w;
    }
    return wanted < a->depth ? found : NULL;
}

static bool is_cached(const struct table_ahead *a, uint32_t index)
{
    return atomic_load_explicit(&a->table->index.entries[index].slot, memory_order_relaxed) != NULL;
}

/* The next run of blocks that are not cached, no longer than a window and not too far ahead. */
static bool next_run(struct table_ahead *a, uint32_t index, uint32_t *first, uint32_t *limit)
{
    const uint64_t *offsets = a->table->index.offsets;
    uint32_t count = a->table->index.count, at = a->next > index ? a->next : index;
    uint64_t horizon = offsets[index] + a->size * (a->depth + 1);
    while (at < count && offsets[at] < horizon && is_cached(a, at))
        at++;
    a->next = at;
    if (at == count || offsets[at] >= horizon)
        return false;
    *first = at++;
    while (at < count && offsets[at + 1] - offsets[*first] <= a->size && !is_cached(a, at))
        at++;
    *limit = at;
    return true;
}

static bool window_reserve(struct table_window *w, uint64_t size)
{
    if (w->capacity >= size)
        return true;
    mem_free_buffer(w->memory, w->capacity);
    w->capacity = 0;
    w->memory = size > SIZE_MAX ? NULL : mem_alloc_buffer((size_t)size);
    if (w->memory == NULL)
        return false;
    w->capacity = (size_t)size;
    return true;
}

/* False when there is no memory for it, which matters only to the one who needs a block. */
static bool push(struct table_ahead *a, struct table_window *w, uint32_t first, uint32_t limit)
{
    struct table_span pages = table_pages(table_blocks_span(a->table, first, limit));
    w->first = w->limit = 0;
    if (!window_reserve(w, pages.size))
        return false;
    w->request = (struct io_request){
        .operation = IO_READ,
        .file = a->table->file,
        .memory = w->memory,
        .size = (size_t)pages.size,
        .offset = pages.offset,
        .owner = w,
    };
    w->first = first;
    w->limit = limit;
    w->in_flight = true;
    io_queue_push(a->queue, &w->request);
    a->next = limit;
    a->size = a->size * 2 < a->max_size ? a->size * 2 : a->max_size;
    return true;
}

static bool have_queue(struct table_ahead *a)
{
    if (a->queue == NULL && !a->refused)
        a->refused =
            io_queue_open(a->table->env->io, TABLE_AHEAD_WINDOWS, &a->queue, NULL) != LSM_OK;
    return !a->refused;
}

lsm_status table_ahead_advance(struct table_ahead *a, uint32_t index, lsm_error *err)
{
    bool pushed = false;
    while (reap(a, false))
        ;
    for (;;) {
        uint32_t first, limit;
        struct table_window *w = free_window(a, index);
        if (w == NULL || !next_run(a, index, &first, &limit) || !have_queue(a) ||
            !push(a, w, first, limit))
            break;
        pushed = true;
    }
    return pushed ? io_queue_submit(a->queue, err) : LSM_OK;
}

static struct table_window *window_of(struct table_ahead *a, uint32_t index)
{
    for (size_t i = 0; i < TABLE_AHEAD_WINDOWS; i++) {
        struct table_window *w = &a->windows[i];
        if (w->first <= index && index < w->limit)
            return w;
    }
    return NULL;
}

lsm_status table_ahead_take(struct table_ahead *a, uint32_t index, const uint8_t **bytes,
                            lsm_error *err)
{
    struct table_window *w = window_of(a, index);
    *bytes = NULL;
    if (w == NULL)
        return LSM_OK;
    while (w->in_flight && reap(a, true))
        ;
    lsm_status status = LSM_OK;
    uint64_t offset = a->table->index.offsets[index];
    if (w->in_flight)
        status = lsm_fail(err, LSM_IO, "a read of '%s' at offset %" PRIu64 " was lost by its queue",
                          io_file_name(a->table->file), w->request.offset);
    else if (w->request.os_errno != 0)
        status = io_request_error(&w->request, err);
    else if (w->request.transferred != w->request.size)
        status =
            table_fail_corrupt(a->table, "a data block", offset,
                               &(struct table_problem){"the file ends too early", w->request.size,
                                                       w->request.transferred},
                               err);
    if (status != LSM_OK) {
        w->first = w->limit = 0; /* a later try reads again */
        return status;
    }
    *bytes = w->memory + (offset - w->request.offset);
    return LSM_OK;
}
