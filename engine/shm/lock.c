/*
 * The kernel walks a dead thread's list of robust mutexes and marks them, so the next owner is told
 * within a fraction of a millisecond and no lease or time-out is involved: a slow owner is never
 * mistaken for a dead one.
 */
#include "engine/shm/lock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND UINT64_C(1000000000)
#define TURN_NS       UINT64_C(50000000)

/* Asked once a thread: the system call costs more than the lock. Only for messages, but a child
 * must not speak with its parent's number, so fork forgets it. */
static _Thread_local int64_t thread_id;
static pthread_once_t fork_handler_once = PTHREAD_ONCE_INIT;

static void forget_thread_id(void)
{
    thread_id = 0;
}

static void install_fork_handler(void)
{
    (void)pthread_atfork(NULL, NULL, forget_thread_id);
}

static int64_t own_thread_id(void)
{
    if (thread_id == 0)
        thread_id = (int64_t)syscall(SYS_gettid);
    return thread_id;
}

/* A broken invariant: going on would work on shared memory that two owners change. */
static _Noreturn void lock_is_broken(const char *call, int error)
{
    char text[128];
    fprintf(stderr, "libengine: %s of a shared lock: %s\n", call,
            strerror_r(error, text, sizeof text));
    abort();
}

int shm_lock_init(struct shm_lock *lock)
{
    pthread_mutexattr_t attributes;
    pthread_once(&fork_handler_once, install_fork_handler);
    int error = pthread_mutexattr_init(&attributes);
    if (error != 0)
        return error;
    error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (error == 0)
        error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (error == 0)
        error = pthread_mutex_init(&lock->mutex, &attributes);
    atomic_store_explicit(&lock->owner, 0, memory_order_relaxed);
    pthread_mutexattr_destroy(&attributes);
    return error;
}

void shm_lock_destroy(struct shm_lock *lock)
{
    pthread_mutex_destroy(&lock->mutex);
}

static enum shm_lock_result locked(struct shm_lock *lock, const char *call, int error)
{
    if (error != 0 && error != EOWNERDEAD)
        lock_is_broken(call, error);
    atomic_store_explicit(&lock->owner, own_thread_id(), memory_order_relaxed);
    return error == 0 ? SHM_LOCKED : SHM_LOCKED_OWNER_DIED;
}

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

#ifdef __SANITIZE_THREAD__
/* The thread sanitizer of gcc 12 does not see pthread_mutex_clocklock(), and then wonders who
 * unlocks: it is shown tries instead. */
static int lock_until(pthread_mutex_t *mutex, uint64_t until_ns)
{
    for (;;) {
        struct timespec pause = {.tv_nsec = 1000000};
        int error = pthread_mutex_trylock(mutex);
        if (error != EBUSY)
            return error;
        if (monotonic_ns() >= until_ns)
            return ETIMEDOUT;
        nanosleep(&pause, NULL);
    }
}
#else
static int lock_until(pthread_mutex_t *mutex, uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_SECOND),
                             .tv_nsec = (long)(until_ns % NS_PER_SECOND)};
    return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &until);
}
#endif

/*
 * Waits in short turns: who lets go wakes one waiter, and where that one is stopped before it takes
 * the lock the others would sleep beside a free lock until it goes on.
 */
static int wait_until(struct shm_lock *lock, uint64_t deadline_ns)
{
    for (;;) {
        uint64_t turn = monotonic_ns() + TURN_NS;
        bool is_last = turn >= deadline_ns;
        int error = lock_until(&lock->mutex, is_last ? deadline_ns : turn);
        if (error != ETIMEDOUT || is_last)
            return error;
    }
}

enum shm_lock_result shm_lock(struct shm_lock *lock)
{
    int error = pthread_mutex_trylock(&lock->mutex);
    if (error == EBUSY)
        error = wait_until(lock, UINT64_MAX);
    return locked(lock, "locking", error);
}

enum shm_lock_result shm_trylock(struct shm_lock *lock)
{
    int error = pthread_mutex_trylock(&lock->mutex);
    if (error == EBUSY)
        return SHM_LOCK_BUSY;
    return locked(lock, "trying", error);
}

enum shm_lock_result shm_lock_until(struct shm_lock *lock, uint64_t deadline_ns)
{
    int error = wait_until(lock, deadline_ns);
    if (error == ETIMEDOUT)
        return SHM_LOCK_TIMED_OUT;
    return locked(lock, "waiting for", error);
}

void shm_lock_repaired(struct shm_lock *lock)
{
    int error = pthread_mutex_consistent(&lock->mutex);
    if (error != 0)
        lock_is_broken("repairing", error);
}

void shm_unlock(struct shm_lock *lock)
{
    atomic_store_explicit(&lock->owner, 0, memory_order_relaxed);
    int error = pthread_mutex_unlock(&lock->mutex);
    if (error != 0)
        lock_is_broken("unlocking", error);
}
