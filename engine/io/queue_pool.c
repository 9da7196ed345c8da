#include "engine/io/queue_pool.h"

#include "engine/base/memory.h"
#include "engine/io/io_private.h"

#include <assert.h>
#include <pthread.h>

struct io_queue_pool {
    struct io *io; /* set at the beginning, as the next two */
    unsigned depth;
    unsigned kept;
    pthread_mutex_t lock;
    unsigned count; /* guarded by lock, as the next */
    struct io_queue *idle[];
};

struct io_queue_pool *io_queue_pool_new(struct io *io, unsigned depth, unsigned kept)
{
    struct io_queue_pool *pool = mem_alloc_zeroed(sizeof *pool + kept * sizeof(struct io_queue *));
    if (pool == NULL)
        return NULL;
    pool->io = io;
    pool->depth = depth;
    pool->kept = kept;
    pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

void io_queue_pool_free(struct io_queue_pool *pool)
{
    if (pool == NULL)
        return;
    while (pool->count > 0)
        io_queue_close(pool->idle[--pool->count]);
    pthread_mutex_destroy(&pool->lock);
    mem_free(pool);
}

lsm_status io_queue_pool_take(struct io_queue_pool *pool, struct io_queue **queue, lsm_error *err)
{
    pthread_mutex_lock(&pool->lock);
    struct io_queue *taken = pool->count > 0 ? pool->idle[--pool->count] : NULL;
    pthread_mutex_unlock(&pool->lock);
    if (taken == NULL)
        return io_queue_open(pool->io, pool->depth, queue, err);
    *queue = taken;
    return LSM_OK;
}

void io_queue_pool_give_back(struct io_queue_pool *pool, struct io_queue *queue)
{
    if (queue == NULL)
        return;
    assert(io_queue_in_flight(queue) == 0);
    pthread_mutex_lock(&pool->lock);
    bool is_kept = pool->count < pool->kept && !queue->is_broken;
    if (is_kept)
        pool->idle[pool->count++] = queue;
    pthread_mutex_unlock(&pool->lock);
    if (!is_kept)
        io_queue_close(queue);
}
