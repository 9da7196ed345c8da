/*
 * The io_uring backend: queues over a ring, everything else by plain system calls (files.c).
 *
 * A queue has `depth` slots. A request waits in the pushed list until a slot is free, then becomes
 * a submission entry (prepared), is handed to the kernel (sent) and completes. user_data is the
 * slot and its generation, never a pointer, so that a stray completion cannot reach freed memory.
 * Short transfers, EAGAIN, EINTR and ECANCELED (the thread that submitted has ended) go back to
 * prepared.
 *
 * A ring has no set-up flags, because a queue may be handed from thread to thread under a lock:
 * SINGLE_ISSUER and DEFER_TASKRUN forbid that, and with COOP_TASKRUN a completion waits for the
 * next clock tick (4 ms) when the thread that submitted computes while another one waits. Where the
 * ring of one queue cannot be made (locked memory is counted per user), the queue works by system
 * calls, see posix.c.
 *
 * After a submission fails for good the queue is broken: what was not sent completes with that
 * errno, what was sent is waited for, and nothing is sent any more.
 */
#include "engine/io/host.h"

#include "engine/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_MAX      4096   /* slots of a queue; deeper ones wait inside */
#define AGAIN_PAUSE_NS 100000 /* before a refused submission is tried again */

struct slot {
    struct io_request *request; /* NULL: free */
    size_t start;               /* of the running transfer inside the request */
    uint32_t generation;
    unsigned again; /* retries in a row */
};

struct uring_queue {
    struct io_queue base;
    struct io_uring ring;
    struct slot *slots;
    unsigned *free_slots; /* a stack */
    unsigned free_count;
    unsigned *prepared; /* slots in the order of their entries in the submission ring */
    unsigned prepared_count;
    unsigned sent_count;
    int broken; /* errno of the submission that failed for good */
};

/* ---- the ring -------------------------------------------------------------------------------- */

/*
 * A ring's memory may be where one was that another thread has closed. The kernel keeps the two
 * apart; the thread sanitizer, which does not see what liburing maps, is told by this counter.
 */
static _Atomic unsigned closed_rings;

static void close_ring(struct io_uring *ring)
{
    atomic_fetch_add_explicit(&closed_rings, 1, memory_order_release); /* pairs with open_ring() */
    io_uring_queue_exit(ring);
}

/* Moves the ring's descriptor above stderr, see host_raise_fd(). */
static int raise_ring(struct io_uring *ring)
{
    int fd = host_raise_fd(ring->ring_fd);
    if (fd < 0)
        return errno;
    ring->ring_fd = fd;
    ring->enter_ring_fd = fd;
    return 0;
}

static int open_ring(struct io_uring *ring, unsigned depth)
{
    int result = io_uring_queue_init(depth, ring, 0);
    if (result < 0)
        return -result;
    (void)atomic_load_explicit(&closed_rings, memory_order_acquire); /* pairs with close_ring() */
    int number = raise_ring(ring);
    if (number != 0) { /* its descriptor is closed; give back the memory */
        ring->ring_fd = -1;
        close_ring(ring);
        return number;
    }
    number = -io_uring_ring_dontfork(ring);
    if (number == 0 && (ring->features & IORING_FEAT_NODROP) == 0)
        number = ENOSYS; /* completions could get lost */
    if (number != 0)
        close_ring(ring);
    return number;
}

/* ---- slots ----------------------------------------------------------------------------------- */

static void release_slot(struct uring_queue *q, unsigned index)
{
    q->slots[index].request = NULL;
    q->slots[index].generation++;
    q->free_slots[q->free_count++] = index;
}

static void finish(struct uring_queue *q, unsigned index, int number)
{
    struct io_request *r = q->slots[index].request;
    release_slot(q, index);
    queue_add_done(&q->base, r, number);
}

/* Writes the submission entry of the next transfer of a slot. There is room for one a slot. */
static void prepare(struct uring_queue *q, unsigned index)
{
    struct slot *s = &q->slots[index];
    const struct io_request *r = s->request;
    struct io_uring_sqe *sqe = q->broken == 0 ? io_uring_get_sqe(&q->ring) : NULL;
    if (sqe == NULL) {
        finish(q, index, q->broken != 0 ? q->broken : EBUSY);
        return;
    }
    s->start = transfer_start(r);
    int fd = ((const struct host_file *)r->file)->fd;
    char *memory = (char *)r->memory + s->start;
    unsigned size = (unsigned)transfer_size(r);
    if (r->operation == IO_READ)
        io_uring_prep_read(sqe, fd, memory, size, r->offset + s->start);
    else
        io_uring_prep_write(sqe, fd, memory, size, r->offset + s->start);
    io_uring_sqe_set_data64(sqe, (uint64_t)s->generation << 32 | index);
    q->prepared[q->prepared_count++] = index;
}

/* Gives free slots to pushed requests. */
static void fill(struct uring_queue *q)
{
    while (q->free_count > 0 && q->base.pushed_first != NULL) {
        struct io_request *r = queue_take_pushed(&q->base);
        int number = queue_check(r);
        if (number != 0) {
            queue_add_done(&q->base, r, number);
            continue;
        }
        unsigned index = q->free_slots[--q->free_count];
        q->slots[index].request = r;
        q->slots[index].again = 0;
        prepare(q, index);
    }
}

/* ---- submission ------------------------------------------------------------------------------ */

static void break_queue(struct uring_queue *q, int number)
{
    q->broken = number;
    q->base.is_broken = true;
    for (unsigned i = 0; i < q->prepared_count; i++)
        finish(q, q->prepared[i], number);
    q->prepared_count = 0;
}

static void count_sent(struct uring_queue *q, unsigned count)
{
    q->sent_count += count;
    q->prepared_count -= count;
    memmove(q->prepared, q->prepared + count, q->prepared_count * sizeof *q->prepared);
}

/* Hands everything prepared to the kernel; with `wait` comes back when something has completed. */
static int send_prepared(struct uring_queue *q, bool wait)
{
    unsigned again = 0;
    while (q->prepared_count > 0) {
        atomic_fetch_add_explicit(&q->base.io->submission_count, 1, memory_order_relaxed);
        int result = wait ? io_uring_submit_and_wait(&q->ring, 1) : io_uring_submit(&q->ring);
        if (result > 0) {
            count_sent(q, (unsigned)result);
            again = 0;
            continue;
        }
        if (result == -EINTR)
            continue;
        if ((result != 0 && result != -EAGAIN && result != -EBUSY) || again++ >= IO_AGAIN_MAX) {
            break_queue(q, result != 0 ? -result : EAGAIN);
            return q->broken;
        }
        nanosleep(&(struct timespec){.tv_nsec = AGAIN_PAUSE_NS}, NULL);
    }
    return 0;
}

/* ---- completion ------------------------------------------------------------------------------ */

/* The rest of a transfer that this kernel's ring cannot do, by system calls. */
static int finish_by_call(struct io_request *r)
{
    if (r->operation == IO_READ)
        return host_file_read(r->file, r->memory, r->size, r->offset, &r->progress);
    int number = host_file_write(r->file, r->memory, r->size, r->offset);
    r->progress = number == 0 ? r->size : r->progress;
    return number;
}

static void complete(struct uring_queue *q, uint64_t user_data, int result)
{
    unsigned index = (unsigned)(user_data & UINT32_MAX);
    if (index >= q->base.depth)
        return;
    struct slot *s = &q->slots[index];
    if (s->request == NULL || s->generation != user_data >> 32)
        return;
    q->sent_count--;
    int number = 0;
    if (result >= 0) {
        s->again = 0;
        if (transfer_advance(s->request, s->start, (size_t)result, &number))
            finish(q, index, number);
        else
            prepare(q, index);
        return;
    }
    number = -result;
    if ((number == EAGAIN || number == EINTR || number == ECANCELED) && s->again++ < IO_AGAIN_MAX)
        prepare(q, index);
    else if (number == EOPNOTSUPP || number == EINVAL)
        finish(q, index, finish_by_call(s->request));
    else
        finish(q, index, number);
}

static void harvest(struct uring_queue *q)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&q->ring, &cqe) == 0) {
        uint64_t user_data = io_uring_cqe_get_data64(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&q->ring, cqe);
        complete(q, user_data, result);
    }
}

/* Sleeps until a completion is there. */
static void await(struct uring_queue *q)
{
    struct io_uring_cqe *cqe;
    int result;
    do
        result = io_uring_wait_cqe(&q->ring, &cqe);
    while (result == -EINTR);
    if (result < 0) /* EAGAIN: the kernel is short of memory */
        nanosleep(&(struct timespec){.tv_nsec = AGAIN_PAUSE_NS}, NULL);
}

static int submit(struct io_queue *queue)
{
    struct uring_queue *q = (struct uring_queue *)queue;
    fill(q);
    return send_prepared(q, false);
}

static void collect(struct io_queue *queue, bool wait)
{
    struct uring_queue *q = (struct uring_queue *)queue;
    fill(q);
    for (;;) {
        bool sleep = wait && queue->done_first == NULL;
        if (q->prepared_count > 0)
            (void)send_prepared(q, sleep); /* a failure comes back with the requests */
        else if (sleep && q->sent_count > 0)
            await(q);
        harvest(q);
        fill(q);
        if (q->prepared_count == 0 && (!wait || queue->done_first != NULL || q->sent_count == 0))
            return;
    }
}

/* ---- opening and closing --------------------------------------------------------------------- */

static void free_queue(struct uring_queue *q)
{
    if (q == NULL)
        return;
    mem_free(q->slots);
    mem_free(q->free_slots);
    mem_free(q->prepared);
    mem_free(q);
}

static void close_queue(struct io_queue *queue)
{
    struct uring_queue *q = (struct uring_queue *)queue;
    close_ring(&q->ring);
    free_queue(q);
}

static bool raise_eventfd(struct io_queue *queue, int fd)
{
    return io_uring_register_eventfd(&((struct uring_queue *)queue)->ring, fd) == 0;
}

static const struct io_queue_ops uring_queue_ops = {
    .submit = submit,
    .collect = collect,
    .close = close_queue,
    .raise = raise_eventfd,
};

static struct uring_queue *new_queue(struct io *io, unsigned depth)
{
    struct uring_queue *q = mem_alloc_zeroed(sizeof *q);
    if (q == NULL)
        return NULL;
    q->base = (struct io_queue){.io = io, .ops = &uring_queue_ops, .depth = depth};
    q->slots = mem_alloc_zeroed(depth * sizeof *q->slots);
    q->free_slots = mem_alloc(depth * sizeof *q->free_slots);
    q->prepared = mem_alloc(depth * sizeof *q->prepared);
    if (q->slots == NULL || q->free_slots == NULL || q->prepared == NULL) {
        free_queue(q);
        return NULL;
    }
    while (q->free_count < depth) {
        q->free_slots[q->free_count] = depth - 1 - q->free_count;
        q->free_count++;
    }
    return q;
}

static int queue_open(struct io *io, unsigned depth, struct io_queue **queue)
{
    struct uring_queue *q = new_queue(io, depth < DEPTH_MAX ? depth : DEPTH_MAX);
    if (q == NULL)
        return ENOMEM;
    if (open_ring(&q->ring, q->base.depth) != 0) {
        free_queue(q);
        return posix_queue_open(io, depth, queue);
    }
    *queue = &q->base;
    return 0;
}

static void close_uring(struct io *io)
{
    mem_free(io);
}

static const struct io_ops uring_ops = {
    HOST_OPS,
    .close = close_uring,
    .queue_open = queue_open,
};

/* ---- probing --------------------------------------------------------------------------------- */

/* One operation through the ring; its result, or -errno. */
static int probe_one(struct io_uring *ring, int operation, int fd, void *memory, unsigned size)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    if (sqe == NULL)
        return -EBUSY;
    if (operation == IORING_OP_FSYNC)
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
    else
        io_uring_prep_rw(operation, sqe, fd, memory, size, 0);
    struct io_uring_cqe *cqe;
    int result = io_uring_submit_and_wait(ring, 1);
    if (result >= 0)
        result = io_uring_wait_cqe(ring, &cqe);
    if (result < 0)
        return result;
    result = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return result;
}

/* A real write, sync and read. A kernel that only lacks an opcode is found out here as well. */
static bool probe_transfers(struct io_uring *ring, int fd, char *reason, size_t reason_size)
{
    static const struct {
        int operation;
        int expected;
        const char *name;
    } steps[] = {
        {IORING_OP_WRITE, 8, "write"},
        {IORING_OP_FSYNC, 0, "sync"},
        {IORING_OP_READ, 8, "read"},
    };
    char sent[8] = "libengin";
    char got[8] = {0};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        void *memory = steps[i].operation == IORING_OP_WRITE ? sent : got;
        int result = probe_one(ring, steps[i].operation, fd, memory, sizeof sent);
        if (result != steps[i].expected) {
            snprintf(reason, reason_size, "a trial %s failed: %s", steps[i].name,
                     result < 0 ? strerror(-result) : "it came back short");
            return false;
        }
    }
    if (memcmp(sent, got, sizeof got) == 0)
        return true;
    snprintf(reason, reason_size, "a trial read gave other bytes than were written");
    return false;
}

static bool probe(char *reason, size_t reason_size)
{
    struct io_uring ring;
    int number = open_ring(&ring, 4);
    if (number != 0) {
        snprintf(reason, reason_size, "a ring cannot be made: %s", strerror(number));
        return false;
    }
    bool works = false;
    int fd = host_raise_fd(memfd_create("lsm-probe", MFD_CLOEXEC));
    if (fd < 0) {
        snprintf(reason, reason_size, "no file for a trial: %s", strerror(errno));
    } else {
        works = probe_transfers(&ring, fd, reason, reason_size);
        close(fd);
    }
    close_ring(&ring);
    return works;
}

int uring_open(struct io **io, char *reason, size_t reason_size)
{
    if (!probe(reason, reason_size))
        return ENOTSUP;
    struct io *made = mem_alloc_zeroed(sizeof *made);
    if (made == NULL)
        return ENOMEM;
    made->ops = &uring_ops;
    made->name = "uring";
    *io = made;
    return 0;
}
