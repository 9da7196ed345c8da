/*
 * Asynchronous queues: opening and closing, requests from submission to delivery, and waiting.
 *
 * Whatever happens to a request happens in a call of its owner's; the one other thread, the syncer,
 * leaves word and raises the signal. So there are two ways to wait: on the ring, when there are
 * only reads and no time limit, which is one system call with the submission; else on the signal,
 * which the ring raises as well.
 */
#include "engine/db/async_private.h"

#include "engine/base/memory.h"

#define WAIT_NS UINT64_C(1000000000) /* for the signal, at a time */

/* ---- opening and closing --------------------------------------------------------------------- */

lsm_status async_check(const lsm_async *async, lsm_error *err)
{
    if (async == NULL || async->magic != ASYNC_MAGIC)
        return lsm_fail(err, LSM_INVALID, "the asynchronous queue is NULL or was closed");
    return db_check(async->db, err);
}

static lsm_status resolve(const lsm_async_options *given, uint32_t *depth, lsm_error *err)
{
    *depth = ASYNC_DEPTH;
    if (given == NULL)
        return LSM_OK;
    if (given->struct_size != sizeof *given)
        return lsm_fail(err, LSM_INVALID,
                        "lsm_async_options has struct_size %zu, not %zu; begin with "
                        "LSM_ASYNC_OPTIONS_INIT",
                        given->struct_size, sizeof *given);
    if (given->depth > ASYNC_MAX_DEPTH)
        return lsm_fail(err, LSM_INVALID, "a depth of %" PRIu32 " is over the limit of %u",
                        given->depth, ASYNC_MAX_DEPTH);
    if (given->depth != 0)
        *depth = given->depth;
    return LSM_OK;
}

LSM_API lsm_status lsm_async_open(lsm_db *db, const lsm_async_options *options, lsm_async **async,
                                  lsm_error *err)
{
    uint32_t depth;
    lsm_status status = db_check(db, err);
    if (status == LSM_OK && async == NULL)
        status = lsm_fail(err, LSM_INVALID, "the place for the queue is NULL");
    if (status == LSM_OK)
        status = resolve(options, &depth, err);
    if (status != LSM_OK)
        return status;
    lsm_async *made = mem_alloc_zeroed(sizeof *made);
    if (made == NULL)
        return lsm_fail_memory(err, sizeof *made);
    made->magic = ASYNC_MAGIC;
    made->db = db;
    made->fork_count = db->fork_count;
    made->depth = depth;
    async_syncer_open(made);
    async_scanner_open(made);
    atomic_fetch_add(&db->async_count, 1);
    status = async_fetches_open(made, err);
    if (status != LSM_OK) {
        lsm_async_close(made);
        return status;
    }
    *async = made;
    return LSM_OK;
}

static void free_list(struct async_request *list)
{
    while (list != NULL) {
        struct async_request *next = list->next;
        mem_free(list->error);
        mem_free(list);
        list = next;
    }
}

/* What was found for somebody who will not hear of it. */
static void forget_answers(lsm_async *async)
{
    for (struct async_request *r = async->finished_first; r != NULL; r = r->next) {
        for (size_t i = 0; r->kind == ASYNC_GET && i < r->search_count; i++)
            lsm_pin_release(&r->pins[i]);
        if (r->kind == ASYNC_SCAN && r->status == LSM_OK && r->is_answered) {
            lsm_free(r->scan->entries);
            *r->scan = (lsm_scan){0};
        }
    }
}

static void give_up_active(lsm_async *async)
{
    for (struct async_request *r; (r = async->active) != NULL;) {
        if (r->kind == ASYNC_WRITE || r->kind == ASYNC_SCAN) {
            async_request_finish(async, r);
        } else {
            r->status = LSM_CANCELLED;
            async_read_give_up(async, r);
        }
    }
}

LSM_API void lsm_async_close(lsm_async *async)
{
    /* A child leaves it alone: what it holds is the parent's. */
    if (async == NULL || async->magic != ASYNC_MAGIC || async->fork_count != db_fork_count())
        return;
    async_syncer_close(async);
    async_scanner_close(async);
    give_up_active(async);
    async_fetches_close(async);
    forget_answers(async);
    free_list(async->finished_first);
    free_list(async->delivered);
    free_list(async->spares);
    io_signal_close(async->signal);
    async->magic = 0;
    atomic_fetch_sub(&async->db->async_count, 1);
    mem_free(async);
}

/* ---- requests -------------------------------------------------------------------------------- */

#define SPARE_SIZE (sizeof(struct async_request) + sizeof(struct async_search) + 64)

static void request_free(lsm_async *async, struct async_request *request)
{
    mem_free(request->error);
    if (request->size_bytes != SPARE_SIZE || async->spare_count == ASYNC_SPARES) {
        mem_free(request);
        return;
    }
    request->error = NULL;
    request->next = async->spares;
    async->spares = request;
    async->spare_count++;
}

static struct async_request *request_alloc(lsm_async *async, size_t size)
{
    struct async_request *request = async->spares;
    if (size > SPARE_SIZE || request == NULL)
        return mem_alloc(size < SPARE_SIZE ? SPARE_SIZE : size);
    async->spares = request->next;
    async->spare_count--;
    return request;
}

lsm_status async_request_new(lsm_async *async, size_t search_count, size_t key_bytes,
                             struct async_request **request, lsm_error *err)
{
    size_t size;
    if (!mem_multiply(search_count, sizeof(struct async_search), &size) ||
        !mem_add(size, key_bytes, &size) || !mem_add(size, sizeof **request, &size))
        return lsm_fail_memory(err, SIZE_MAX);
    struct async_request *made = request_alloc(async, size);
    if (made == NULL)
        return lsm_fail_memory(err, size);
    *made = (struct async_request){
        .size_bytes = size < SPARE_SIZE ? SPARE_SIZE : size,
        .search_count = search_count,
        .next = async->active,
    };
    if (made->next != NULL)
        made->next->previous = made;
    async->active = made;
    async->pending++;
    *request = made;
    return LSM_OK;
}

static void leave_active(lsm_async *async, const struct async_request *request)
{
    if (request->previous != NULL)
        request->previous->next = request->next;
    else
        async->active = request->next;
    if (request->next != NULL)
        request->next->previous = request->previous;
}

void async_request_forget(lsm_async *async, struct async_request *request)
{
    leave_active(async, request);
    async->pending--;
    request_free(async, request);
}

void async_request_finish(lsm_async *async, struct async_request *request)
{
    leave_active(async, request);
    db_state_drop(request->state);
    request->state = NULL;
    request->next = NULL;
    if (async->finished_last == NULL)
        async->finished_first = request;
    else
        async->finished_last->next = request;
    async->finished_last = request;
    async->finished_count++;
}

void async_request_fail(struct async_request *request, lsm_status status, const lsm_error *from)
{
    if (request->status != LSM_OK)
        return;
    request->status = status;
    request->error = mem_alloc(sizeof *request->error);
    if (request->error != NULL)
        *request->error = *from;
}

/* ---- the signal ------------------------------------------------------------------------------ */

lsm_status async_signal_make(lsm_async *async, lsm_error *err)
{
    if (async->signal != NULL)
        return LSM_OK;
    lsm_status status = io_signal_open(&async->signal, err);
    if (status == LSM_OK)
        async->queue_raises = io_queue_raise(async->queue, async->signal);
    return status;
}

void async_tell(lsm_async *async)
{
    if (!async->fd_is_out || async->is_raised)
        return;
    bool sleeps = async->queue_raises || !async_fetches_in_flight(async);
    if (async->finished_count == 0 && async->unsent == 0 && sleeps)
        return;
    async->is_raised = true;
    io_signal_raise(async->signal);
}

LSM_API lsm_status lsm_async_fd(lsm_async *async, int *fd, lsm_error *err)
{
    lsm_status status = async_check(async, err);
    if (status == LSM_OK && fd == NULL)
        status = lsm_fail(err, LSM_INVALID, "the place for the descriptor is NULL");
    if (status == LSM_OK)
        status = async_signal_make(async, err);
    if (status != LSM_OK)
        return status;
    async->fd_is_out = true;
    io_signal_raise(async->signal); /* for what completed before the ring knew of it */
    *fd = io_signal_descriptor(async->signal);
    return LSM_OK;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void lower(lsm_async *async)
{
    io_signal_lower(async->signal);
    async->is_raised = false;
}

static void collect(lsm_async *async, bool wait)
{
    if (async->fd_is_out)
        lower(async);
    async_fetches_collect(async, wait);
    async_acks_collect(async);
    async_scans_collect(async);
}

/* Until something has happened, or the deadline. */
static lsm_status sleep_until(lsm_async *async, const struct db_deadline *deadline, lsm_error *err)
{
    bool reads = async_fetches_in_flight(async);
    bool others = async->syncer.first != NULL || async->scanner.pending > 0;
    if (reads && !others && !db_deadline_is_set(deadline)) {
        collect(async, true);
        return LSM_OK;
    }
    lsm_status status = async_signal_make(async, err);
    if (status != LSM_OK)
        return status;
    size_t before = async->finished_count;
    lower(async);
    collect(async, reads && !async->queue_raises);
    async_fetches_send(async);
    bool may_sleep = async->queue_raises || !async_fetches_in_flight(async);
    if (async->finished_count == before && may_sleep)
        io_signal_wait(async->signal, db_deadline_left_ns(deadline, WAIT_NS));
    return LSM_OK;
}

/* ---- delivery -------------------------------------------------------------------------------- */

static void free_delivered(lsm_async *async)
{
    for (struct async_request *r; (r = async->delivered) != NULL;) {
        async->delivered = r->next;
        request_free(async, r);
    }
}

static size_t deliver(lsm_async *async, lsm_completion *completions, size_t capacity)
{
    size_t count = 0;
    for (struct async_request *r; count < capacity && (r = async->finished_first) != NULL;) {
        async->finished_first = r->next;
        if (async->finished_first == NULL)
            async->finished_last = NULL;
        completions[count++] =
            (lsm_completion){.user_data = r->user_data, .status = r->status, .error = r->error};
        if (r->error != NULL) {
            r->next = async->delivered;
            async->delivered = r;
        } else {
            request_free(async, r);
        }
    }
    async->finished_count -= count;
    async->pending -= count;
    return count;
}

static lsm_status check_places(const lsm_async *async, const lsm_completion *completions,
                               size_t capacity, const size_t *count, lsm_error *err)
{
    lsm_status status = async_check(async, err);
    if (status == LSM_OK && (count == NULL || (completions == NULL && capacity > 0)))
        status = lsm_fail(err, LSM_INVALID, "the place for completions or their count is NULL");
    return status;
}

LSM_API lsm_status lsm_async_poll(lsm_async *async, lsm_completion *completions, size_t capacity,
                                  size_t *count, lsm_error *err)
{
    lsm_status status = check_places(async, completions, capacity, count, err);
    if (status != LSM_OK)
        return status;
    free_delivered(async);
    collect(async, false);
    async_fetches_send(async);
    *count = deliver(async, completions, capacity);
    async_tell(async);
    return LSM_OK;
}

LSM_API lsm_status lsm_async_wait(lsm_async *async, size_t least, uint32_t timeout_ms,
                                  lsm_completion *completions, size_t capacity, size_t *count,
                                  lsm_error *err)
{
    lsm_status status = check_places(async, completions, capacity, count, err);
    if (status != LSM_OK)
        return status;
    struct db_deadline deadline = {0};
    if (timeout_ms != 0)
        db_deadline_set(&deadline, timeout_ms);
    free_delivered(async);
    least = least < capacity ? least : capacity;
    least = least < async->pending ? least : async->pending;
    if (async->finished_count >= least)
        collect(async, false);
    while (status == LSM_OK && async->finished_count < least && !db_deadline_is_over(&deadline))
        status = sleep_until(async, &deadline, err);
    if (status != LSM_OK)
        return status;
    async_fetches_send(async);
    *count = deliver(async, completions, capacity);
    async_tell(async);
    return LSM_OK;
}

LSM_API size_t lsm_async_pending(const lsm_async *async)
{
    return async == NULL ? 0 : async->pending;
}

LSM_API size_t lsm_async_cancel(lsm_async *async, const void *user_data)
{
    size_t count = 0;
    if (async_check(async, NULL) != LSM_OK)
        return 0;
    for (struct async_request *r = async->active, *next; r != NULL; r = next) {
        next = r->next;
        if (r->user_data != user_data || r->kind == ASYNC_WRITE)
            continue;
        count++;
        if (r->kind == ASYNC_SCAN) {
            async_scan_cancel(r);
            continue;
        }
        lsm_error error;
        (void)lsm_fail(&error, LSM_CANCELLED, "the read was cancelled");
        async_request_fail(r, LSM_CANCELLED, &error);
        async_read_give_up(async, r);
    }
    async_tell(async);
    return count;
}
