/*
 * What a process does at the steps that it passes (engine/base/step.h): notes them, and dies or
 * stops at one of them. All its threads count.
 */
#ifndef TESTS_LIB_STEPPING_H
#define TESTS_LIB_STEPPING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* A step and how manieth time it is passed, from 1 on. `name` is the engine's own text, which
 * stands at the same address in every process that fork made. */
struct step_point {
    const char *name; /* NULL: none */
    unsigned occurrence;
};

/* The steps passed, in shared memory. */
struct step_record {
    _Atomic size_t count; /* may be more than there is room for */
    const char *_Atomic names[8192];
};

/* From here on this process notes its steps in `record` (NULL: nowhere), and sends itself `signal`
 * at `point`. */
void stepping_begin(struct step_record *record, struct step_point point, int signal);
void stepping_end(void);

/* The points of a record in order, each name `occurrences` times at most. Returns how many;
 * `points` has room for `room`. */
size_t stepping_points(const struct step_record *record, unsigned occurrences,
                       struct step_point *points, size_t room);

#endif
