/*
 * Histories of calls on a few keys, and whether they are linearisable: is there one order of all
 * calls, each within the time from its begin to its end, in which every read finds what was written
 * last? A call on several keys (a batch, a multi-get, a walk, a snapshot) counts as one step, so a
 * torn batch is a violation, too.
 */
#ifndef TESTS_LIB_HISTORY_H
#define TESTS_LIB_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_KEYS    8
#define HISTORY_PENDING UINT64_MAX /* as `end`: nobody knows */
#define HISTORY_ABSENT  0          /* as a value: the key is not there */

struct history_call {
    uint64_t begin, end; /* on one clock */
    uint32_t process;
    bool writes;   /* else it reads */
    bool optional; /* its process died: by `end` it has taken effect, or never does */
    uint8_t keys;  /* a bit each that it reads or writes */
    uint64_t values[HISTORY_KEYS]; /* written or found; every value but HISTORY_ABSENT once */
};

enum history_verdict {
    HISTORY_LINEARISABLE,
    HISTORY_VIOLATED,
    HISTORY_TOO_WIDE, /* too many calls at once to tell */
};

/* All keys are absent at first. `text` says which call cannot be explained. */
enum history_verdict history_check(const struct history_call *calls, size_t count, char *text,
                                   size_t text_size);

#endif
