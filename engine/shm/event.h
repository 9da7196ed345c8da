/*
 * Waiting for something to happen in shared memory: a futex word that counts happenings.
 *
 *     waiter: seen = shm_event_count(e); if (!condition) shm_event_wait(e, seen, 20 ms); repeat
 *     waker:  make the condition true; shm_event_signal(e);
 *
 * Counts are hints: a killed waker costs a waiter one time-out, so every wait has one. Signalling
 * without waiters costs no system call; a killed waiter costs the next signal one in vain.
 *
 * The lowest bit of the word says that somebody waits, the rest counts in steps of two. With both
 * in one word a waiter sleeps only while the bit stands, and every signal clears it and sees that
 * it stood: no wake-up is lost, and nothing has to be repaired when a waiter is killed.
 */
#ifndef ENGINE_SHM_EVENT_H
#define ENGINE_SHM_EVENT_H

#include <stdatomic.h>
#include <stdint.h>

struct shm_event {
    _Atomic uint32_t word; /* zero at first */
};

#define SHM_EVENT_WAITED UINT32_C(1)

static inline uint32_t shm_event_count(struct shm_event *event)
{
    /* Pairs with the release in shm_event_signal(): what the waker did before is seen. */
    return atomic_load_explicit(&event->word, memory_order_acquire) & ~SHM_EVENT_WAITED;
}

/* Returns when the count is no longer `seen`, or after the time-out, or for no reason. */
void shm_event_wait(struct shm_event *event, uint32_t seen, uint64_t timeout_ns);
void shm_event_signal(struct shm_event *event); /* wakes all */

#endif
