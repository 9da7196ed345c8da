/*
 * Bringing in blocks: every block under way once, however many wait for it, and no more reads in
 * flight than there are lanes. What is read is given to the cache and to those who wait at once,
 * so that neither a small cache nor none can make anybody read a block again and again.
 */
#include "engine/db/async_private.h"

#include "engine/base/memory.h"
#include "engine/sst/table_fetch.h"

#define SEND_EARLY 4 /* pushed reads that are handed over without waiting for more */

lsm_status async_fetches_open(lsm_async *async, lsm_error *err)
{
    async->lanes = mem_alloc_zeroed(async->depth * sizeof *async->lanes);
    if (async->lanes == NULL)
        return lsm_fail_memory(err, async->depth * sizeof *async->lanes);
    for (uint32_t i = async->depth; i > 0; i--) {
        async->lanes[i - 1].next = async->free_lanes;
        async->free_lanes = &async->lanes[i - 1];
    }
    return io_queue_open(async->db->io, async->depth, &async->queue, err);
}

/* ---- fetches --------------------------------------------------------------------------------- */

static struct async_fetch **bucket_of(lsm_async *async, const struct table *table, uint32_t index)
{
    uint64_t mixed = ((uint64_t)(uintptr_t)table ^ index) * UINT64_C(0x9e3779b97f4a7c15);
    return &async->buckets[mixed >> 32 & (ASYNC_BUCKETS - 1)];
}

static void fetch_free(lsm_async *async, struct async_fetch *fetch)
{
    version_table_drop(fetch->file);
    db_state_drop(fetch->state);
    if (async->spare_fetch_count == ASYNC_SPARES) {
        mem_free(fetch);
        return;
    }
    fetch->next = async->spare_fetches;
    async->spare_fetches = fetch;
    async->spare_fetch_count++;
}

static struct async_fetch *fetch_alloc(lsm_async *async)
{
    struct async_fetch *fetch = async->spare_fetches;
    if (fetch == NULL)
        return mem_alloc(sizeof *fetch);
    async->spare_fetches = fetch->next;
    async->spare_fetch_count--;
    return fetch;
}

static lsm_status fetch_new(lsm_async *async, const struct async_search *search,
                            struct db_state *state, struct async_fetch **made, lsm_error *err)
{
    struct async_fetch *fetch = fetch_alloc(async);
    if (fetch == NULL)
        return lsm_fail_memory(err, sizeof *fetch);
    *fetch = (struct async_fetch){
        .state = state,
        .file = search->search.file,
        .block_index = search->search.block_index,
        .flags = search->request->table_flags,
    };
    lsm_status status = version_table_keep(fetch->file, &fetch->table, err);
    if (status != LSM_OK) {
        mem_free(fetch);
        return status;
    }
    db_state_keep(state);
    *made = fetch;
    return LSM_OK;
}

static void leave_bucket(lsm_async *async, struct async_fetch *fetch)
{
    struct async_fetch **at = bucket_of(async, fetch->table, fetch->block_index);
    while (*at != fetch)
        at = &(*at)->next_bucket;
    *at = fetch->next_bucket;
}

static void add_waiter(struct async_fetch *fetch, struct async_search *search)
{
    search->fetch = fetch;
    search->next_waiter = NULL;
    if (fetch->last_waiter == NULL)
        fetch->first_waiter = search;
    else
        fetch->last_waiter->next_waiter = search;
    fetch->last_waiter = search;
}

void async_fetch_forget(struct async_search *search)
{
    struct async_fetch *fetch = search->fetch;
    struct async_search *before = NULL;
    for (struct async_search *s = fetch->first_waiter; s != search; s = s->next_waiter)
        before = s;
    if (before == NULL)
        fetch->first_waiter = search->next_waiter;
    else
        before->next_waiter = search->next_waiter;
    if (fetch->last_waiter == search)
        fetch->last_waiter = before;
    search->fetch = NULL;
}

/* Tells all that wait, and frees the fetch. Inside an epoch, in which the block may be used. */
static void fetch_arrived(lsm_async *async, struct async_fetch *fetch, struct block *block,
                          lsm_status status, const lsm_error *error)
{
    leave_bucket(async, fetch); /* who wants it now finds it in the cache, or reads it anew */
    for (struct async_search *search; (search = fetch->first_waiter) != NULL;) {
        fetch->first_waiter = search->next_waiter;
        search->fetch = NULL;
        async_search_arrived(async, search, block, status, error);
    }
    fetch_free(async, fetch);
}

/* ---- lanes ----------------------------------------------------------------------------------- */

static bool lane_reserve(struct async_lane *lane, size_t size)
{
    if (lane->capacity >= size)
        return true;
    mem_free_buffer(lane->memory, lane->capacity);
    lane->capacity = 0;
    lane->memory = mem_alloc_buffer(size);
    if (lane->memory == NULL)
        return false;
    lane->capacity = size;
    return true;
}

/* The next fetch in line that somebody still waits for. */
static struct async_fetch *line_take(lsm_async *async)
{
    for (struct async_fetch *fetch; (fetch = async->line_first) != NULL;) {
        async->line_first = fetch->next;
        if (async->line_first == NULL)
            async->line_last = NULL;
        if (fetch->first_waiter != NULL)
            return fetch;
        leave_bucket(async, fetch);
        fetch_free(async, fetch);
    }
    return NULL;
}

static void send_pushed(lsm_async *async)
{
    if (async->unsent == 0)
        return;
    async->unsent = 0;
    (void)io_queue_submit(async->queue, NULL); /* a failure comes back with the requests */
}

void async_fetches_push(lsm_async *async)
{
    while (async->free_lanes != NULL) {
        struct async_fetch *fetch = line_take(async);
        if (fetch == NULL)
            return;
        struct async_lane *lane = async->free_lanes;
        size_t size = table_fetch_size(fetch->table, fetch->block_index);
        if (!lane_reserve(lane, size)) {
            lsm_error error;
            fetch_arrived(async, fetch, NULL, lsm_fail_memory(&error, size), &error);
            continue;
        }
        async->free_lanes = lane->next;
        lane->fetch = fetch;
        table_fetch_begin(fetch->table, fetch->block_index, lane->memory, &lane->request);
        lane->request.owner = lane;
        io_queue_push(async->queue, &lane->request);
        if (++async->unsent >= SEND_EARLY)
            send_pushed(async);
    }
}

lsm_status async_fetch_want(lsm_async *async, struct async_search *search, struct db_state *state,
                            lsm_error *err)
{
    const struct version_search *s = &search->search;
    struct async_fetch **bucket = bucket_of(async, s->table, s->block_index);
    struct async_fetch *fetch = *bucket;
    while (fetch != NULL && (fetch->table != s->table || fetch->block_index != s->block_index))
        fetch = fetch->next_bucket;
    if (fetch != NULL) {
        fetch->flags &= search->request->table_flags;
        add_waiter(fetch, search);
        return LSM_OK;
    }
    lsm_status status = fetch_new(async, search, state, &fetch, err);
    if (status != LSM_OK)
        return status;
    /* The table may have been closed and opened again since the search found it. */
    search->search.table = fetch->table;
    bucket = bucket_of(async, fetch->table, fetch->block_index);
    fetch->next_bucket = *bucket;
    *bucket = fetch;
    add_waiter(fetch, search);
    if (async->line_last == NULL)
        async->line_first = fetch;
    else
        async->line_last->next = fetch;
    async->line_last = fetch;
    return LSM_OK;
}

void async_fetches_send(lsm_async *async)
{
    epoch_enter();
    async_fetches_push(async);
    epoch_exit();
    send_pushed(async);
}

bool async_fetches_in_flight(const lsm_async *async)
{
    return io_queue_in_flight(async->queue) > 0 || async->line_first != NULL;
}

/* ---- arrivals -------------------------------------------------------------------------------- */

static void lane_arrived(lsm_async *async, struct async_lane *lane)
{
    struct async_fetch *fetch = lane->fetch;
    struct block *block = NULL;
    bool owned = false;
    lsm_error error;
    epoch_enter();
    lsm_status status = table_fetch_finish(fetch->table, fetch->block_index, fetch->flags,
                                           &lane->request, &block, &owned, &error);
    lane->fetch = NULL;
    lane->next = async->free_lanes;
    async->free_lanes = lane;
    fetch_arrived(async, fetch, block, status, &error);
    async_fetches_push(async);
    if (owned)
        block_drop(block);
    epoch_exit();
}

void async_fetches_collect(lsm_async *async, bool wait)
{
    struct async_lane *arrived = NULL, **last = &arrived;
    epoch_enter();
    async_fetches_push(async);
    epoch_exit();
    async->unsent = 0; /* reaping hands over what was pushed */
    for (struct io_request *r; (r = io_queue_reap(async->queue, wait)) != NULL;) {
        struct async_lane *lane = r->owner;
        lane->next = NULL;
        *last = lane;
        last = &lane->next;
        wait = false;
    }
    while (arrived != NULL) {
        struct async_lane *lane = arrived;
        arrived = lane->next;
        lane_arrived(async, lane);
    }
}

/* ---- the end --------------------------------------------------------------------------------- */

void async_fetches_close(lsm_async *async)
{
    io_queue_close(async->queue); /* waits for what is in flight */
    for (uint32_t i = 0; async->lanes != NULL && i < async->depth; i++) {
        struct async_lane *lane = &async->lanes[i];
        if (lane->fetch != NULL)
            fetch_free(async, lane->fetch);
        mem_free_buffer(lane->memory, lane->capacity);
    }
    while (line_take(async) != NULL)
        ;
    for (struct async_fetch *fetch; (fetch = async->spare_fetches) != NULL;) {
        async->spare_fetches = fetch->next;
        mem_free(fetch);
    }
    mem_free(async->lanes);
}
