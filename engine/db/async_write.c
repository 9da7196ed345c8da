/*
 * Writes of an asynchronous queue. The caller's thread puts the batch into log and memtable, which
 * is a copy; what has to be waited for, the sync or the visibility behind somebody else's, is the
 * syncer's. One sync serves all requests that came before it, so that a thread with thousands of
 * writes in flight pays for a few.
 *
 * Requests stand in the order of their ends in the log: an answer for one is an answer for all
 * before it.
 */
#include "engine/db/async_private.h"

#include "engine/base/cancel.h"

void async_syncer_open(lsm_async *async)
{
    pthread_mutex_init(&async->syncer.lock, NULL);
    pthread_cond_init(&async->syncer.wake, NULL);
}

static void widen(struct db_ack *sum, const struct db_ack *ack)
{
    sum->sequence = ack->sequence > sum->sequence ? ack->sequence : sum->sequence;
    sum->end = ack->end > sum->end ? ack->end : sum->end;
    sum->is_sync |= ack->is_sync;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void *run(void *argument)
{
    lsm_async *async = argument;
    struct async_syncer *s = &async->syncer;
    pthread_mutex_lock(&s->lock);
    while (!s->closing || s->asked != s->answered) {
        if (s->asked == s->answered) {
            pthread_cond_wait(&s->wake, &s->lock);
            continue;
        }
        struct db_ack ack = s->wanted;
        uint64_t ticket = s->asked;
        s->wanted = (struct db_ack){0};
        pthread_mutex_unlock(&s->lock);
        lsm_error error;
        lsm_status status = db_ack_wait(async->db, &ack, &error);
        pthread_mutex_lock(&s->lock);
        s->answered = ticket;
        s->status = status;
        if (status != LSM_OK)
            s->error = error;
        io_signal_raise(async->signal);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static lsm_status start(lsm_async *async, lsm_error *err)
{
    struct async_syncer *s = &async->syncer;
    if (s->runs)
        return LSM_OK;
    lsm_status status = async_signal_make(async, err);
    if (status != LSM_OK)
        return status;
    int before = cancel_hold();
    int failed = pthread_create(&s->thread, NULL, run, async);
    cancel_release(before);
    if (failed != 0)
        return lsm_fail_errno(err, failed, "no thread could be made to sync the log of '%s'",
                              async->db->path);
    s->runs = true;
    return LSM_OK;
}

/* What was asked for is still done: a write that waits for its sync keeps later ones, of anybody,
 * from being seen. */
void async_syncer_close(lsm_async *async)
{
    struct async_syncer *s = &async->syncer;
    if (s->runs) {
        pthread_mutex_lock(&s->lock);
        s->closing = true;
        pthread_cond_signal(&s->wake);
        pthread_mutex_unlock(&s->lock);
        int before = cancel_hold();
        pthread_join(s->thread, NULL);
        cancel_release(before);
    }
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
}

/* ---- acks ------------------------------------------------------------------------------------ */

static void wait_for_ack(lsm_async *async, struct async_request *request)
{
    struct async_syncer *s = &async->syncer;
    request->next_ack = NULL;
    if (s->last == NULL)
        s->first = request;
    else
        s->last->next_ack = request;
    s->last = request;
    pthread_mutex_lock(&s->lock);
    request->ticket = ++s->asked;
    widen(&s->wanted, &request->ack);
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

void async_acks_collect(lsm_async *async)
{
    struct async_syncer *s = &async->syncer;
    if (s->first == NULL)
        return;
    lsm_error error;
    pthread_mutex_lock(&s->lock);
    uint64_t answered = s->answered;
    lsm_status status = s->status;
    if (status != LSM_OK)
        error = s->error;
    pthread_mutex_unlock(&s->lock);
    for (struct async_request *request; (request = s->first) != NULL;) {
        if (!db_ack_is_given(async->db, &request->ack)) {
            if (status == LSM_OK || request->ticket > answered)
                return;
            async_request_fail(request, status, &error);
        }
        s->first = request->next_ack;
        if (s->first == NULL)
            s->last = NULL;
        async_request_finish(async, request);
    }
}

/* ---- submitting ------------------------------------------------------------------------------ */

static lsm_status request_new(lsm_async *async, void *user_data, struct async_request **request,
                              lsm_error *err)
{
    lsm_status status = async_request_new(async, 0, 0, request, err);
    if (status == LSM_OK) {
        (*request)->kind = ASYNC_WRITE;
        (*request)->user_data = user_data;
    }
    return status;
}

/* It is in the log, so it cannot fail for want of a thread any more: then this one waits. */
static void submitted(lsm_async *async, struct async_request *request)
{
    lsm_error error;
    if (db_ack_is_given(async->db, &request->ack)) {
        async_request_finish(async, request);
    } else if (start(async, NULL) == LSM_OK) {
        wait_for_ack(async, request);
    } else {
        lsm_status status = db_ack_wait(async->db, &request->ack, &error);
        if (status != LSM_OK)
            async_request_fail(request, status, &error);
        async_request_finish(async, request);
    }
    async_tell(async);
}

LSM_API lsm_status lsm_async_write(lsm_async *async, const lsm_batch *batch,
                                   const lsm_write_options *options, void *user_data,
                                   lsm_error *err)
{
    struct async_request *request = NULL;
    lsm_status status = async_check(async, err);
    if (status == LSM_OK)
        status = request_new(async, user_data, &request, err);
    if (status != LSM_OK)
        return status;
    status = db_write_begin(async->db, batch, options, &request->ack, err);
    if (status != LSM_OK)
        async_request_forget(async, request);
    else
        submitted(async, request);
    return status;
}

LSM_API lsm_status lsm_async_sync(lsm_async *async, void *user_data, lsm_error *err)
{
    struct async_request *request = NULL;
    lsm_status status = async_check(async, err);
    if (status == LSM_OK)
        status = db_check_write(async->db, err);
    if (status == LSM_OK)
        status = request_new(async, user_data, &request, err);
    if (status != LSM_OK)
        return status;
    request->ack =
        (struct db_ack){.end = atomic_load(&async->db->layout->commit.staged), .is_sync = true};
    submitted(async, request);
    return LSM_OK;
}
