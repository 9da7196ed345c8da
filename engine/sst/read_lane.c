#include "engine/sst/read_lane.h"

#include <inttypes.h>

#define LANE_DEPTH 64 /* of a queue that comes from no pool */

void read_lane_init(struct read_lane *lane, struct io *io, struct io_queue_pool *pool)
{
    *lane = (struct read_lane){.io = io, .pool = pool};
}

static void give_queue_back(struct read_lane *lane)
{
    if (lane->queue == NULL)
        return;
    if (lane->pool != NULL)
        io_queue_pool_give_back(lane->pool, lane->queue);
    else
        io_queue_close(lane->queue);
    lane->queue = NULL;
}

void read_lane_release(struct read_lane *lane)
{
    give_queue_back(lane);
    lane->refused = false; /* perhaps there is one the next time */
}

void read_lane_add(struct read_lane *lane, struct lane_read *read)
{
    read->request.owner = read;
    read->next = lane->waiting;
    read->state = LANE_WAITING;
    lane->waiting = read;
}

static void stop_waiting(struct read_lane *lane, struct lane_read *read)
{
    struct lane_read **at = &lane->waiting;
    while (*at != read)
        at = &(*at)->next;
    *at = read->next;
    read->state = LANE_IDLE;
}

void read_lane_cancel(struct read_lane *lane, struct lane_read *read)
{
    if (read->state == LANE_WAITING)
        stop_waiting(lane, read);
}

static bool have_queue(struct read_lane *lane)
{
    if (lane->queue != NULL || lane->refused)
        return !lane->refused;
    lsm_status status = lane->pool != NULL
                            ? io_queue_pool_take(lane->pool, &lane->queue, NULL)
                            : io_queue_open(lane->io, LANE_DEPTH, &lane->queue, NULL);
    lane->refused = status != LSM_OK;
    return !lane->refused;
}

static void hand_over(struct read_lane *lane)
{
    while (lane->waiting != NULL) {
        struct lane_read *read = lane->waiting;
        lane->waiting = read->next;
        read->state = LANE_IN_FLIGHT;
        io_queue_push(lane->queue, &read->request);
    }
}

lsm_status read_lane_start(struct read_lane *lane, lsm_error *err)
{
    if (lane->waiting == NULL || !have_queue(lane))
        return LSM_OK;
    hand_over(lane);
    return io_queue_submit(lane->queue, err);
}

/* Takes one finished read off the queue. False when there is none. */
static bool reap(struct read_lane *lane, bool wait)
{
    struct io_request *done = lane->queue == NULL ? NULL : io_queue_reap(lane->queue, wait);
    if (done == NULL)
        return false;
    ((struct lane_read *)done->owner)->state = LANE_IDLE;
    return true;
}

void read_lane_poll(struct read_lane *lane)
{
    while (reap(lane, false))
        ;
}

/* By a plain call, which is the shortest way for one. */
static lsm_status read_now(struct read_lane *lane, struct lane_read *read, lsm_error *err)
{
    struct io_request *r = &read->request;
    stop_waiting(lane, read);
    r->os_errno = 0;
    return io_file_read(r->file, r->memory, r->size, r->offset, &r->transferred, err);
}

lsm_status read_lane_wait(struct read_lane *lane, struct lane_read *read, lsm_error *err)
{
    if (read->state == LANE_WAITING) {
        bool is_alone = lane->waiting == read && read->next == NULL;
        if (is_alone || !have_queue(lane))
            return read_now(lane, read, err);
        hand_over(lane);
    }
    while (read->state == LANE_IN_FLIGHT && reap(lane, true))
        ;
    if (read->state == LANE_IN_FLIGHT)
        return lsm_fail(err, LSM_IO, "a read of '%s' at offset %" PRIu64 " was lost by its queue",
                        io_file_name(read->request.file), read->request.offset);
    if (lane->queue != NULL && io_queue_in_flight(lane->queue) == 0 && lane->waiting == NULL)
        give_queue_back(lane);
    return LSM_OK;
}
