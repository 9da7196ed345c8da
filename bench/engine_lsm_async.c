/* libengine's asynchronous queue. */
#include "bench/async.h"

#include <stdlib.h>

struct queue {
    lsm_async *async;
    lsm_pin *pins; /* owned; one a place, which is its user_data, too */
    uint32_t depth;
};

static void check(lsm_status status, const lsm_error *err)
{
    if (status != LSM_OK)
        die("async: %s (%s)", err == NULL ? "" : err->message, lsm_strerror(status));
}

static void *open_queue(void *db, uint32_t depth)
{
    lsm_async_options options = LSM_ASYNC_OPTIONS_INIT;
    lsm_error err = {0};
    struct queue *q = calloc(1, sizeof *q);
    lsm_pin *pins = calloc(depth, sizeof *pins);
    if (q == NULL || pins == NULL)
        die("out of memory");
    q->pins = pins;
    q->depth = depth;
    options.depth = depth < 4096 ? depth : 4096;
    check(lsm_async_open(db, &options, &q->async, &err), &err);
    return q;
}

/* Everything that was begun has been answered. */
static void close_queue(void *queue)
{
    struct queue *q = queue;
    lsm_async_close(q->async);
    for (uint32_t i = 0; i < q->depth; i++)
        lsm_pin_release(&q->pins[i]);
    free(q->pins);
    free(q);
}

static void get(void *queue, uint32_t place, lsm_slice key)
{
    struct queue *q = queue;
    lsm_pin *pin = &q->pins[place];
    lsm_error err;
    check(lsm_async_get(q->async, NULL, key, NULL, pin, pin, &err), &err);
}

static size_t wait_for_some(void *queue, struct async_answer *answers, size_t capacity)
{
    struct queue *q = queue;
    lsm_completion completions[64];
    size_t count = 0, most = capacity < 64 ? capacity : 64;
    lsm_error err;
    check(lsm_async_wait(q->async, 1, 0, completions, most, &count, &err), &err);
    for (size_t i = 0; i < count; i++) {
        const lsm_pin *pin = completions[i].user_data;
        check(completions[i].status, completions[i].error);
        answers[i] = (struct async_answer){(uint32_t)(pin - q->pins), pin->found, pin->value};
    }
    return count;
}

const struct engine_async engine_lsm_async = {
    .open = open_queue,
    .close = close_queue,
    .get = get,
    .wait = wait_for_some,
};
