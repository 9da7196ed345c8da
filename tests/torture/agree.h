/*
 * Whether a database agrees with itself: what a walk finds forwards, a walk backwards finds too,
 * and a get of each of the keys. Nothing is known of what it should hold.
 */
#ifndef TESTS_TORTURE_AGREE_H
#define TESTS_TORTURE_AGREE_H

#include "tests/torture/reading.h"

struct agreement {
    lsm_status status; /* of opening and reading; all of it has to work */
    uint64_t key_count;
    uint64_t contradiction_count;
    char text[READING_TEXT]; /* the failure, else the first contradiction */
};

/* setup->model may be NULL. */
void agreement_take(const struct reading_setup *setup, struct agreement *agreement);

#endif
