/*
 * A robust lock in shared memory: the next owner learns that the last one died inside.
 *
 * Over pthread's robust, process-shared mutex. They live at fixed places for the segment's life,
 * and nobody unmaps the segment while holding one.
 */
#ifndef ENGINE_SHM_LOCK_H
#define ENGINE_SHM_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct shm_lock {
    _Alignas(64) pthread_mutex_t mutex;
    int64_t owner; /* thread id, for messages; 0: nobody */
};

enum shm_lock_result {
    SHM_LOCKED = 0,
    SHM_LOCKED_OWNER_DIED = 1, /* locked; repair what it guards, then shm_lock_repaired() */
    SHM_LOCK_BUSY = 2,         /* trylock only */
};

int shm_lock_init(struct shm_lock *lock); /* an errno; 0 on success */
void shm_lock_destroy(struct shm_lock *lock);
enum shm_lock_result shm_lock(struct shm_lock *lock);
enum shm_lock_result shm_trylock(struct shm_lock *lock);
void shm_lock_repaired(struct shm_lock *lock);
void shm_unlock(struct shm_lock *lock);

#endif
