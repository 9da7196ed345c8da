/*
 * Waiting for something to happen in shared memory: a futex word that counts happenings.
 *
 *     waiter: seen = shm_event_count(e); if (!condition) shm_event_wait(e, seen, 20 ms); repeat
 *     waker:  make the condition true; shm_event_signal(e);
 *
 * Counts are hints: a killed waker costs a waiter one time-out, so every wait has one. Signalling
 * without waiters costs no system call.
 */
#ifndef ENGINE_SHM_EVENT_H
#define ENGINE_SHM_EVENT_H

#include <stdatomic.h>
#include <stdint.h>

struct shm_event {
    _Atomic uint32_t count;
    _Atomic uint32_t waiters;
};

static inline uint32_t shm_event_count(struct shm_event *event)
{
    return atomic_load_explicit(&event->count, memory_order_acquire);
}

/* Returns when the count is no longer `seen`, or after the time-out, or for no reason. */
void shm_event_wait(struct shm_event *event, uint32_t seen, uint64_t timeout_ns);
void shm_event_signal(struct shm_event *event); /* wakes all */

#endif
