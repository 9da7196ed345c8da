/*
 * A robust lock in shared memory: the next owner learns that the last one died inside.
 *
 * Over pthread's robust, process-shared mutex. They live at fixed places for the segment's life,
 * and nobody unmaps the segment while holding one.
 */
#ifndef ENGINE_SHM_LOCK_H
#define ENGINE_SHM_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct shm_lock {
    _Alignas(64) pthread_mutex_t mutex;
    _Atomic int64_t owner; /* thread id, for messages; 0: nobody */
};

enum shm_lock_result {
    SHM_LOCKED = 0,
    SHM_LOCKED_OWNER_DIED = 1, /* locked; repair what it guards, then shm_lock_repaired() */
    SHM_LOCK_BUSY = 2,         /* trylock only */
    SHM_LOCK_TIMED_OUT = 3,    /* shm_lock_until() only */
};

int shm_lock_init(struct shm_lock *lock); /* an errno; 0 on success */
void shm_lock_destroy(struct shm_lock *lock);

/* A thread that holds the lock must not lock it again. Aborts when an earlier owner unlocked it
 * without the shm_lock_repaired() it owed: what the lock guards cannot be trusted any more. */
enum shm_lock_result shm_lock(struct shm_lock *lock);
enum shm_lock_result shm_trylock(struct shm_lock *lock);
/* Waits until CLOCK_MONOTONIC reads `deadline_ns` at most; a free lock is taken even then. The
 * owner is never deprived of it, however long it takes. */
enum shm_lock_result shm_lock_until(struct shm_lock *lock, uint64_t deadline_ns);

/* Thread id of who holds it, for messages: it may not any more. 0: nobody. */
static inline int64_t shm_lock_owner(const struct shm_lock *lock)
{
    return atomic_load_explicit(&lock->owner, memory_order_relaxed);
}

/* Says that what the dead owner left is in order again. Until then the next owner, should this one
 * die as well, gets SHM_LOCKED_OWNER_DIED too. */
void shm_lock_repaired(struct shm_lock *lock);
void shm_unlock(struct shm_lock *lock);

#endif
