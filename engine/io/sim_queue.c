/*
 * Queues on a simulated disk: a submitted write is done at once or when it completes, and requests
 * complete in any order, both as the disk's seed says. The bytes of a write are copied when it is
 * submitted, so that it can land after its process has died.
 */
#include "engine/io/sim_private.h"

#include "engine/base/memory.h"

/* A request in flight. */
struct ticket {
    struct io_request *request;
    struct sim_op *op; /* of a write; NULL for a read and for a request that failed at submission */
    bool is_waiting;   /* `op` is among the flights of its file */
    int number;
};

struct sim_queue {
    struct io_queue base;
    struct ticket *tickets; /* depth of them */
    unsigned count;
};

static struct sim_inode *inode_of(const struct io_request *request)
{
    return ((const struct sim_file *)request->file)->inode;
}

static bool overlaps(const struct sim_op *op, const struct io_request *r)
{
    return op->offset < r->offset + r->size && r->offset < op->offset + op->size;
}

/* Whether a write shares bytes with one in flight: of its own queue, or of any that has not landed.
 */
static bool is_racing_locked(const struct sim_queue *q, const struct io_request *r)
{
    const struct sim_inode *inode = inode_of(r);
    for (unsigned i = 0; i < q->count; i++) {
        const struct ticket *t = &q->tickets[i];
        if (t->op != NULL && inode_of(t->request) == inode && overlaps(t->op, r))
            return true;
    }
    for (size_t i = 0; i < inode->flight_count; i++)
        if (overlaps(inode->flights[i].op, r))
            return true;
    return false;
}

/* Begins a write. Its errno is delivered when it completes. */
static int begin_write_locked(struct sim_disk *disk, const struct sim_queue *q, struct ticket *t)
{
    const struct io_request *r = t->request;
    disk->overlap_count += is_racing_locked(q, r);
    int number = sim_step_locked(disk);
    if (number == 0)
        number = sim_fault_locked(disk, SIM_FAULT_WRITE);
    if (number != 0)
        return number;
    t->op = sim_op_new(SIM_OP_WRITE, r->offset, r->size, r->memory);
    if (t->op == NULL)
        return ENOMEM;
    if (sim_chance_locked(disk, 2)) {
        t->is_waiting = true;
        return sim_inode_fly_locked(inode_of(r), t->op, r->file->io);
    }
    number = sim_inode_apply_locked(disk, inode_of(r), t->op);
    if (number == 0)
        sim_op_acquire(t->op);
    return number;
}

static void begin(struct io_queue *queue, struct ticket *t)
{
    struct sim_disk *disk = NULL;
    t->number = queue_check(t->request);
    if (t->number == 0)
        t->number = sim_enter(queue->io, &disk);
    if (t->number != 0)
        return;
    if (t->request->operation == IO_WRITE)
        t->number = begin_write_locked(disk, (struct sim_queue *)queue, t);
    sim_leave(disk);
}

static int submit(struct io_queue *queue)
{
    struct sim_queue *q = (struct sim_queue *)queue;
    if (q->count == queue->depth)
        return 0;
    atomic_fetch_add_explicit(&queue->io->submission_count, 1, memory_order_relaxed);
    while (q->count < queue->depth && queue->pushed_first != NULL) {
        struct ticket *t = &q->tickets[q->count++];
        *t = (struct ticket){.request = queue_take_pushed(queue)};
        begin(queue, t);
    }
    return 0;
}

/* The result of a request that completes now. */
static int complete_locked(struct sim_disk *disk, struct ticket *t)
{
    struct io_request *r = t->request;
    if (r->operation == IO_READ) {
        int number = sim_fault_locked(disk, SIM_FAULT_READ);
        return number != 0 ? number
                           : sim_read_locked(disk, inode_of(r), r->memory, r->size, r->offset,
                                             &r->progress);
    }
    if (t->is_waiting) {
        sim_inode_land_locked(inode_of(r), t->op);
        int number = sim_inode_apply_locked(disk, inode_of(r), t->op);
        if (number != 0)
            return number;
        sim_op_acquire(t->op);
    }
    r->progress = r->size;
    return 0;
}

/* Ends a ticket; without a disk the machine is off. */
static void finish(struct sim_queue *q, unsigned index, struct sim_disk *disk)
{
    struct ticket *t = &q->tickets[index];
    if (disk == NULL)
        t->number = IO_ERRNO_OFF;
    else if (t->number == 0)
        t->number = complete_locked(disk, t);
    sim_op_drop(t->op);
    queue_add_done(&q->base, t->request, t->number);
    *t = q->tickets[--q->count];
}

static void collect(struct io_queue *queue, bool wait)
{
    struct sim_queue *q = (struct sim_queue *)queue;
    struct sim_disk *disk = NULL;
    if (queue->pushed_first != NULL)
        submit(queue);
    if (sim_enter(queue->io, &disk) != 0) {
        while (q->count > 0)
            finish(q, q->count - 1, NULL);
        return;
    }
    if (q->count > 0 && (wait || sim_chance_locked(disk, 2)))
        finish(q, (unsigned)random_below(&disk->random, q->count), disk);
    sim_leave(disk);
}

static void close_queue(struct io_queue *queue)
{
    mem_free(((struct sim_queue *)queue)->tickets);
    mem_free(queue);
}

static const struct io_queue_ops sim_queue_ops = {
    .submit = submit,
    .collect = collect,
    .close = close_queue,
};

int sim_queue_open(struct io *io, unsigned depth, struct io_queue **queue)
{
    struct sim_queue *q = mem_alloc_zeroed(sizeof *q);
    struct ticket *tickets = mem_alloc(depth * sizeof *tickets);
    if (q == NULL || tickets == NULL) {
        mem_free(q);
        mem_free(tickets);
        return ENOMEM;
    }
    q->base = (struct io_queue){.io = io, .ops = &sim_queue_ops, .depth = depth};
    q->tickets = tickets;
    *queue = &q->base;
    return 0;
}
