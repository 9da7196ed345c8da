/* Stretches of time and what they have in common: pure functions, in nanoseconds of clock_ns(). */
#ifndef BENCH_SPANS_H
#define BENCH_SPANS_H

#include <stddef.h>
#include <stdint.h>

/* [first, limit); empty when limit is not behind first. */
struct span {
    uint64_t first;
    uint64_t limit;
};

uint64_t span_size(struct span span);

/*
 * For how long a processor is shown to have been withheld from everybody, by a thread of the
 * highest priority that was to wake up on it at `due` and did so at `woke`. Until it was woken no
 * timer interrupt came through, so nothing ran; from then on it waited for the kernel, perhaps for
 * what the measured program had asked of it. When it was woken nobody tells: the kernel's count of
 * how long it was queued begins there and may stop as early as `tick` before it ran (a clock that
 * is brought up to date by ticks). What is left for certain ends `queued` and `tick` before `woke`.
 */
struct span span_withheld(uint64_t due, uint64_t woke, uint64_t queued, uint64_t tick);

/*
 * The stretches in which at least `depth` (1 or more) of `count` spans lie over each other, into
 * `covered`, which has room for `count` and may not be `spans`; in order, apart from each other.
 * Returns how many, SIZE_MAX without memory. With each processor's own spans apart from each other,
 * depth 1 is when any processor was in one, and their number is when all were.
 */
size_t spans_cover(const struct span *spans, size_t count, size_t depth, struct span *covered);

/* How much of `with` lies in `spans`, which are in order and apart from each other. */
uint64_t spans_overlap(const struct span *spans, size_t count, struct span with);

#endif
