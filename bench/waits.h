/*
 * The timed operations that took long, one thread's, and what is left of them when the stretches
 * are taken off in which the machine is shown to have withheld its processors.
 */
#ifndef BENCH_WAITS_H
#define BENCH_WAITS_H

#include "bench/spans.h"

#include <stdint.h>

#define WAITS_LEAST_NS UINT64_C(5000000) /* shorter ones are not looked into */

/* Of one processor at least, and of all at once. Owned by whoever filled it. */
struct pauses {
    struct span *any;
    struct span *all;
    size_t any_count;
    size_t all_count;
};

struct waits {
    struct span *spans; /* owned; not on the heap, whose entries are counted */
    size_t count;
    size_t capacity;
    uint64_t longest_other_ns; /* of the operations that were not noted */
};

/* What is left of the long waits. The operations that were not noted count for the longest. */
struct outside {
    uint64_t longest_ns;
    uint64_t sum_ns;
};

struct waits_left {
    uint64_t count;
    uint64_t sum_ns;       /* nothing taken off */
    struct outside of_all; /* without the time in which all processors were withheld */
    struct outside of_any; /* without that in which one or more were */
};

/* An operation that ended just now, at clock_ticks() `end`. */
void waits_note(struct waits *waits, uint64_t end_ticks, uint64_t ticks);
void waits_release(struct waits *waits);

/* Adds to `left`. */
void waits_reckon(const struct waits *waits, const struct pauses *pauses, struct waits_left *left);
void waits_left_add(struct waits_left *all, const struct waits_left *one);

#endif
