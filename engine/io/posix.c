/*
 * The backend of last resort: a queue whose submit does all the work, in the order of the disk.
 * Sorting costs little and lets the kernel's readahead see what a batch of reads wants.
 */
#include "engine/io/host.h"

#include "engine/base/memory.h"

#include <stdlib.h>

struct posix_queue {
    struct io_queue base;
    struct io_request **batch; /* grows to the largest batch so far */
    size_t capacity;
};

static int compare_requests(const void *left, const void *right)
{
    const struct io_request *a = *(struct io_request *const *)left;
    const struct io_request *b = *(struct io_request *const *)right;
    if (a->file != b->file)
        return (uintptr_t)a->file < (uintptr_t)b->file ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static void perform(struct io_queue *queue, struct io_request *r)
{
    int number = queue_check(r);
    if (number == 0 && r->operation == IO_READ)
        number = host_file_read(r->file, r->memory, r->size, r->offset, &r->progress);
    else if (number == 0) {
        number = host_file_write(r->file, r->memory, r->size, r->offset);
        r->progress = number == 0 ? r->size : 0;
    }
    queue_add_done(queue, r, number);
}

/* Room for a batch of `count`; without it the batch is done in the order it was pushed. */
static bool reserve(struct posix_queue *q, size_t count)
{
    if (count <= q->capacity)
        return true;
    struct io_request **larger = mem_resize(q->batch, count * sizeof *larger);
    if (larger == NULL)
        return false;
    q->batch = larger;
    q->capacity = count;
    return true;
}

static int submit(struct io_queue *queue)
{
    struct posix_queue *q = (struct posix_queue *)queue;
    atomic_fetch_add_explicit(&queue->io->submission_count, 1, memory_order_relaxed);
    size_t count = 0;
    for (const struct io_request *r = queue->pushed_first; r != NULL; r = r->next)
        count++;
    if (count == 1 || !reserve(q, count)) {
        for (struct io_request *r; (r = queue_take_pushed(queue)) != NULL;)
            perform(queue, r);
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        q->batch[i] = queue_take_pushed(queue);
    qsort(q->batch, count, sizeof *q->batch, compare_requests);
    for (size_t i = 0; i < count; i++)
        perform(queue, q->batch[i]);
    return 0;
}

static void collect(struct io_queue *queue, bool wait)
{
    (void)wait; /* submit finishes everything */
    if (queue->pushed_first != NULL)
        submit(queue);
}

static void close_queue(struct io_queue *queue)
{
    mem_free(((struct posix_queue *)queue)->batch);
    mem_free(queue);
}

static const struct io_queue_ops posix_queue_ops = {
    .submit = submit,
    .collect = collect,
    .close = close_queue,
};

int posix_queue_open(struct io *io, unsigned depth, struct io_queue **queue)
{
    struct posix_queue *q = mem_alloc_zeroed(sizeof *q);
    if (q == NULL)
        return ENOMEM;
    q->base = (struct io_queue){.io = io, .ops = &posix_queue_ops, .depth = depth};
    *queue = &q->base;
    return 0;
}

static void close_posix(struct io *io)
{
    mem_free(io);
}

static const struct io_ops posix_ops = {
    HOST_OPS,
    .close = close_posix,
    .queue_open = posix_queue_open,
};

int posix_open(struct io **io)
{
    struct io *made = mem_alloc_zeroed(sizeof *made);
    if (made == NULL)
        return ENOMEM;
    made->ops = &posix_ops;
    made->name = "posix";
    *io = made;
    return 0;
}
