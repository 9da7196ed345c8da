/*
 * Places where a test may stop a thread or kill its process: one before and behind each step of
 * what is shared with other processes. Without a test a step costs one load and a branch that is
 * never taken.
 *
 *     STEP("commit: staged");
 *
 * Names are unique and begin with what is being done: a test finds out which there are by a run
 * that only counts them.
 */
#ifndef ENGINE_BASE_STEP_H
#define ENGINE_BASE_STEP_H

#include <stdatomic.h>
#include <stddef.h>

/* Called with the name at every step of every thread of the process, at once by several: a test
 * that means one thread tells it by a thread-local word of its own. Set by tests only. */
extern void (*_Atomic step_hook)(const char *name);

static inline void step_reached(const char *name)
{
    void (*hook)(const char *) = atomic_load_explicit(&step_hook, memory_order_relaxed);
    if (__builtin_expect(hook != NULL, 0))
        hook(name);
}

#define STEP(name) step_reached(name)

#endif
