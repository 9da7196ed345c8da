/*
 * Idle queues, kept for whoever needs one for a short time: making and closing a ring takes longer
 * than reading a block. Any thread.
 */
#ifndef ENGINE_IO_QUEUE_POOL_H
#define ENGINE_IO_QUEUE_POOL_H

#include "engine/io/io.h"

struct io_queue_pool;

/* Queues of `depth`, of which up to `kept` idle ones stay open. NULL when out of memory. */
struct io_queue_pool *io_queue_pool_new(struct io *io, unsigned depth, unsigned kept);
void io_queue_pool_free(struct io_queue_pool *pool); /* all were given back; NULL is allowed */

lsm_status io_queue_pool_take(struct io_queue_pool *pool, struct io_queue **queue, lsm_error *err);
/* Nothing is in flight in it. One that a failed submission left broken is not handed out again. NULL
 * is allowed. */
void io_queue_pool_give_back(struct io_queue_pool *pool, struct io_queue *queue);

#endif
