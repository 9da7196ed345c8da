/*
 * pthread_cancel(3) ends a thread at its next cancellation point, which many system calls are. In
 * the middle of a call it would leave locks held and work half done, so every place of the library
 * that may reach one is between these two: what was cancelled meanwhile ends outside of it. Places
 * that only touch memory need nothing.
 *
 *     int before = cancel_hold();
 *     ...
 *     cancel_release(before);
 *
 * They nest. A thread that may be cancelled asynchronously must not call the library at all.
 */
#ifndef ENGINE_BASE_CANCEL_H
#define ENGINE_BASE_CANCEL_H

#include <pthread.h>

static inline int cancel_hold(void)
{
    int before = PTHREAD_CANCEL_ENABLE;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}

static inline void cancel_release(int before)
{
    (void)pthread_setcancelstate(before, NULL);
}

#endif
