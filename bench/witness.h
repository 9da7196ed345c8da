/*
 * Whether it is the machine that stands still: a thread on each processor, of the highest real-time
 * priority, that sleeps a millisecond at a time and notes when its processor was withheld, by a
 * hypervisor for instance. See span_withheld() for what it takes as shown.
 */
#ifndef BENCH_WITNESS_H
#define BENCH_WITNESS_H

#include "bench/waits.h"

#include <stdbool.h>

struct witness;

/* What the pauses within a stretch of time come to. */
struct witness_sums {
    uint64_t count; /* pauses, those of each processor by themselves */
    uint64_t any_sum_ns;
    uint64_t any_longest_ns;
    uint64_t all_sum_ns;
    uint64_t all_longest_ns;
    uint64_t late_sum_ns; /* by which the threads were late, shown to be withheld or not */
    uint64_t late_longest_ns;
    bool full; /* the later pauses were not noted */
};

/* For the processors that this process may use. NULL, and why, when the machine does not let it. */
struct witness *witness_new(const char **refusal);
void witness_free(struct witness *w);

/* What other processes are given to have this witness's pauses, and how they take it. */
int witness_file(const struct witness *w);
struct witness *witness_attach(int file);

size_t witness_processors(const struct witness *w);
uint64_t witness_tick_ns(const struct witness *w);

/* Around what is measured; forgets what was before. By the process that made it. */
void witness_begin(struct witness *w);
void witness_end(struct witness *w);

/* Every pause that began before `ns` has been noted when it returns. While it watches. */
void witness_settle(const struct witness *w, uint64_t ns);

/* What was noted so far. Released by pauses_release(). */
void witness_pauses(const struct witness *w, struct pauses *pauses);
void pauses_release(struct pauses *pauses);
struct witness_sums witness_sums(const struct witness *w, struct span within);

#endif
