/* A bound on memory that the page cache counts towards: a control group, where we may make one. */
#ifndef BENCH_LIMIT_H
#define BENCH_LIMIT_H

#include <stdint.h>

/*
 * Puts this process, and those it starts, into a new control group that may use `bytes` of memory;
 * the group is removed when the process exits. Dies when that is not possible, because figures for
 * data beyond memory mean nothing then. A process that was started inside of one stays there.
 */
void limit_memory(uint64_t bytes);

#endif
