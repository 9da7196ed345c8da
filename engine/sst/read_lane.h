/*
 * What the iterators of one walk have in common for their reads: what each of them misses waits
 * here until the first one needs it, and is handed over with all that the others have put beside
 * it. A single read takes no queue. One thread at a time.
 */
#ifndef ENGINE_SST_READ_LANE_H
#define ENGINE_SST_READ_LANE_H

#include "engine/io/queue_pool.h"

enum lane_state {
    LANE_IDLE,    /* not asked for, or read: the request says how that went */
    LANE_WAITING, /* not handed over yet */
    LANE_IN_FLIGHT,
};

/* One read: zeroed at first; its memory, and the file, live until it is idle again. */
struct lane_read {
    struct io_request request;
    struct lane_read *next; /* the lane's */
    enum lane_state state;  /* the lane's */
};

struct read_lane {
    struct io *io;
    struct io_queue_pool *pool; /* NULL: queues are made anew */
    struct io_queue *queue;     /* while something is in flight, or NULL */
    struct lane_read *waiting;
    bool refused; /* no queue to be had: everything is read when it is needed */
};

void read_lane_init(struct read_lane *lane, struct io *io, struct io_queue_pool *pool);
/* Gives back what it holds. Every read is idle. */
void read_lane_release(struct read_lane *lane);

/* Asks for a read that is idle: its request was filled in. */
void read_lane_add(struct read_lane *lane, struct lane_read *read);
/* Nobody wants it any more: idle, if it was waiting; otherwise it goes on. */
void read_lane_cancel(struct read_lane *lane, struct lane_read *read);

/* Hands over all that waits. Without a queue nothing happens. */
lsm_status read_lane_start(struct read_lane *lane, lsm_error *err);
/* Finds out, without waiting, which reads are finished. */
void read_lane_poll(struct read_lane *lane);
/* Until the read is idle. A failure that is returned is not in its request. */
lsm_status read_lane_wait(struct read_lane *lane, struct lane_read *read, lsm_error *err);

#endif
