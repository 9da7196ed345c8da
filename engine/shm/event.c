/*
 * Futexes without the private flag: waiters and wakers may be in different processes. pthread
 * condition variables are not used because their inner state does not survive a killed waiter.
 */
#include "engine/shm/event.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND UINT64_C(1000000000)

void shm_event_wait(struct shm_event *event, uint32_t seen, uint64_t timeout_ns)
{
    uint32_t current = seen;
    uint32_t waited = seen | SHM_EVENT_WAITED;
    if (!atomic_compare_exchange_strong_explicit(&event->word, &current, waited,
                                                 memory_order_relaxed, memory_order_relaxed) &&
        current != waited)
        return; /* it happened already */
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / NS_PER_SECOND),
                               .tv_nsec = (long)(timeout_ns % NS_PER_SECOND)};
    /* Every way to return is a reason for the caller to look again, so the result does not matter.
     */
    (void)syscall(SYS_futex, &event->word, FUTEX_WAIT, waited, &timeout, NULL, 0);
}

void shm_event_signal(struct shm_event *event)
{
    uint32_t current = atomic_load_explicit(&event->word, memory_order_relaxed);
    uint32_t next;
    do {
        next = (current & ~SHM_EVENT_WAITED) + 2;
        /* Release: pairs with the acquire in shm_event_count(). */
    } while (!atomic_compare_exchange_weak_explicit(&event->word, &current, next,
                                                    memory_order_acq_rel, memory_order_relaxed));
    if ((current & SHM_EVENT_WAITED) != 0)
        (void)syscall(SYS_futex, &event->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
