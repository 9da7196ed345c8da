/* An eventfd(2) and what is done with it. */
#include "engine/io/host.h"

#include "engine/base/cancel.h"
#include "engine/base/memory.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define NS_A_SECOND UINT64_C(1000000000)

struct io_signal {
    int fd;
};

lsm_status io_signal_open(struct io_signal **signal, lsm_error *err)
{
    struct io_signal *made = mem_alloc(sizeof *made);
    if (made == NULL)
        return lsm_fail_memory(err, sizeof *made);
    int before = cancel_hold();
    made->fd = host_raise_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    int number = made->fd < 0 ? errno : 0;
    cancel_release(before);
    if (number != 0) {
        mem_free(made);
        return lsm_fail_errno(err, number, "cannot make an eventfd to wake a thread with");
    }
    *signal = made;
    return LSM_OK;
}

void io_signal_close(struct io_signal *signal)
{
    if (signal == NULL)
        return;
    int before = cancel_hold();
    close(signal->fd);
    cancel_release(before);
    mem_free(signal);
}

int io_signal_descriptor(const struct io_signal *signal)
{
    return signal->fd;
}

/* Neither can fail in a way that matters: a full counter is raised, an empty one lowered. */
void io_signal_raise(struct io_signal *signal)
{
    int before = cancel_hold();
    (void)eventfd_write(signal->fd, 1);
    cancel_release(before);
}

void io_signal_lower(struct io_signal *signal)
{
    eventfd_t count;
    int before = cancel_hold();
    (void)eventfd_read(signal->fd, &count);
    cancel_release(before);
}

void io_signal_wait(struct io_signal *signal, uint64_t most_ns)
{
    struct pollfd one = {.fd = signal->fd, .events = POLLIN};
    struct timespec most = {.tv_sec = (time_t)(most_ns / NS_A_SECOND),
                            .tv_nsec = (long)(most_ns % NS_A_SECOND)};
    int before = cancel_hold();
    (void)ppoll(&one, 1, &most, NULL);
    cancel_release(before);
}

bool io_queue_raise(struct io_queue *queue, struct io_signal *signal)
{
    return queue->ops->raise != NULL && queue->ops->raise(queue, signal->fd);
}
