/*
 * Scans of an asynchronous queue. Iterators wait for the disk inside their calls, so scans are done
 * by threads of the queue, made when scans wait and up to a few; an iterator opened in the
 * submitting call sees what was there then. A thread gathers entries in memory of the request,
 * which the owner of the queue hands over.
 */
#include "engine/db/async_private.h"

#include "engine/base/buffer.h"
#include "engine/base/cancel.h"
#include "engine/base/memory.h"

#define SCAN_BYTES ((size_t)1 << 20) /* of keys and values, unless the caller says */

void async_scanner_open(lsm_async *async)
{
    pthread_mutex_init(&async->scanner.lock, NULL);
    pthread_cond_init(&async->scanner.wake, NULL);
}

/* ---- lists ----------------------------------------------------------------------------------- */

static void list_add(struct async_list *list, struct async_request *request)
{
    request->next_waiting = NULL;
    if (list->last == NULL)
        list->first = request;
    else
        list->last->next_waiting = request;
    list->last = request;
}

static struct async_request *list_take(struct async_list *list)
{
    struct async_request *request = list->first;
    if (request == NULL)
        return NULL;
    list->first = request->next_waiting;
    if (list->first == NULL)
        list->last = NULL;
    return request;
}

/* ---- the threads ----------------------------------------------------------------------------- */

/* Appends the iterator's entry: two sizes and the bytes. */
static void gather(struct buffer *gathered, lsm_slice key, lsm_slice value)
{
    buffer_append_u64(gathered, key.size);
    buffer_append_u64(gathered, value.size);
    buffer_append(gathered, key.data, key.size);
    buffer_append(gathered, value.data, value.size);
}

#define GATHERED_HEAD (2 * sizeof(uint64_t))

/* Entries and their bytes in one piece of memory, for one lsm_free(). */
static lsm_status arrange(const struct buffer *gathered, size_t count, lsm_entry **entries,
                          lsm_error *err)
{
    size_t size = count * sizeof(lsm_entry) + gathered->size - count * GATHERED_HEAD;
    lsm_entry *made = gathered->failed ? NULL : mem_alloc(size);
    if (made == NULL)
        return lsm_fail_memory(err, size);
    uint8_t *to = (uint8_t *)(made + count);
    const uint8_t *from = gathered->data;
    for (size_t i = 0; i < count; i++) {
        size_t key_size = (size_t)bytes_get_u64(from);
        size_t value_size = (size_t)bytes_get_u64(from + sizeof(uint64_t));
        from += GATHERED_HEAD;
        bytes_copy(to, from, key_size + value_size);
        made[i] = (lsm_entry){LSM_SLICE(to, key_size), LSM_SLICE(to + key_size, value_size)};
        to += key_size + value_size;
        from += key_size + value_size;
    }
    *entries = made;
    return LSM_OK;
}

static lsm_status scan(struct async_request *request, lsm_error *err)
{
    lsm_iter *it = request->iter;
    lsm_scan *found = &request->found;
    struct buffer gathered = {0};
    size_t bytes = 0;
    lsm_status status = LSM_OK;
    lsm_iter_first(it);
    for (; lsm_iter_valid(it) && !gathered.failed; lsm_iter_next(it)) {
        lsm_slice key = lsm_iter_key(it), value = lsm_iter_value(it);
        bool is_full = found->count == request->most_entries ||
                       (found->count > 0 && key.size + value.size > request->most_bytes - bytes);
        if (is_full) {
            found->has_more = true;
            break;
        }
        if (atomic_load_explicit(&request->is_cancelled, memory_order_relaxed)) {
            status = lsm_fail(err, LSM_CANCELLED, "the scan was cancelled");
            break;
        }
        gather(&gathered, key, value);
        found->count++;
        bytes += key.size + value.size;
        bytes = bytes < request->most_bytes ? bytes : request->most_bytes;
    }
    if (status == LSM_OK)
        status = lsm_iter_status(it, err);
    if (status == LSM_OK && found->count > 0)
        status = arrange(&gathered, found->count, &found->entries, err);
    buffer_release(&gathered);
    return status;
}

static void *run(void *argument)
{
    lsm_async *async = argument;
    struct async_scanner *s = &async->scanner;
    pthread_mutex_lock(&s->lock);
    while (!s->closing) {
        struct async_request *request = list_take(&s->waiting);
        if (request == NULL) {
            s->idle_count++;
            pthread_cond_wait(&s->wake, &s->lock);
            s->idle_count--;
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        lsm_error error;
        lsm_status status = scan(request, &error);
        lsm_iter_close(request->iter);
        request->iter = NULL;
        if (status != LSM_OK)
            async_request_fail(request, status, &error);
        pthread_mutex_lock(&s->lock);
        list_add(&s->done, request);
        io_signal_raise(async->signal);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static lsm_status start_locked(lsm_async *async, lsm_error *err)
{
    struct async_scanner *s = &async->scanner;
    int failed = pthread_create(&s->threads[s->thread_count], NULL, run, async);
    if (failed == 0)
        s->thread_count++;
    if (s->thread_count > 0)
        return LSM_OK; /* one will do */
    return lsm_fail_errno(err, failed, "no thread could be made to scan '%s'", async->db->path);
}

/* ---- the owner ------------------------------------------------------------------------------- */

static lsm_status enqueue(lsm_async *async, struct async_request *request, lsm_error *err)
{
    struct async_scanner *s = &async->scanner;
    lsm_status status = async_signal_make(async, err);
    if (status != LSM_OK)
        return status;
    int before = cancel_hold();
    pthread_mutex_lock(&s->lock);
    if (s->idle_count == 0 && s->thread_count < ASYNC_SCANNERS)
        status = start_locked(async, err);
    if (status == LSM_OK) {
        list_add(&s->waiting, request);
        pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    cancel_release(before);
    return status;
}

void async_scans_collect(lsm_async *async)
{
    struct async_scanner *s = &async->scanner;
    if (s->pending == 0)
        return;
    pthread_mutex_lock(&s->lock);
    struct async_list done = s->done;
    s->done = (struct async_list){0};
    pthread_mutex_unlock(&s->lock);
    for (struct async_request *request; (request = list_take(&done)) != NULL;) {
        s->pending--;
        if (request->status == LSM_OK) {
            *request->scan = request->found;
            request->is_answered = true;
        }
        async_request_finish(async, request);
    }
}

void async_scan_cancel(struct async_request *request)
{
    atomic_store_explicit(&request->is_cancelled, true, memory_order_relaxed);
}

void async_scanner_close(lsm_async *async)
{
    struct async_scanner *s = &async->scanner;
    for (struct async_request *r = async->active; r != NULL; r = r->next)
        async_scan_cancel(r);
    int before = cancel_hold();
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    while (s->thread_count > 0)
        pthread_join(s->threads[--s->thread_count], NULL);
    cancel_release(before);
    for (struct async_request *request; (request = list_take(&s->waiting)) != NULL;)
        lsm_iter_close(request->iter);
    for (struct async_request *request; (request = list_take(&s->done)) != NULL;)
        mem_free(request->found.entries);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
}

LSM_API lsm_status lsm_async_scan(lsm_async *async, lsm_cf *cf, const lsm_read_options *options,
                                  size_t most_entries, size_t most_bytes, lsm_scan *scan,
                                  void *user_data, lsm_error *err)
{
    struct async_request *request = NULL;
    lsm_status status = async_check(async, err);
    if (status == LSM_OK && scan == NULL)
        status = lsm_fail(err, LSM_INVALID, "the place for the entries is NULL");
    if (status == LSM_OK)
        status = async_request_new(async, 0, 0, &request, err);
    if (status != LSM_OK)
        return status;
    request->kind = ASYNC_SCAN;
    request->user_data = user_data;
    request->scan = scan;
    request->most_entries = most_entries;
    request->most_bytes = most_bytes == 0 ? SCAN_BYTES : most_bytes;
    status = lsm_iter_open(async->db, cf, options, &request->iter, err);
    if (status == LSM_OK)
        status = enqueue(async, request, err);
    if (status != LSM_OK) {
        if (request->iter != NULL)
            lsm_iter_close(request->iter);
        async_request_forget(async, request);
        return status;
    }
    async->scanner.pending++;
    return LSM_OK;
}
