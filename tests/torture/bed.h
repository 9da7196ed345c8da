/* The specimen on which a suite tries its damages, one case after the other. */
#ifndef TESTS_TORTURE_BED_H
#define TESTS_TORTURE_BED_H

#include "tests/lib/specimen.h"
#include "tests/torture/trial.h"

struct bed {
    struct torture *torture;
    struct specimen specimen;
    struct atlas atlas;
    struct trial trial;
    struct folder work; /* what a case damages */
};

/* How the life of the specimen ended. */
enum bed_end {
    BED_KILLED,
    BED_CLOSED,
};

/* False when the specimen is not sound; bed_end() either way. Runs the case without damage. What
 * is in the directory of the torture goes. */
bool bed_begin(struct bed *bed, struct torture *t);
/* Another specimen. */
bool bed_begin_seeded(struct bed *bed, struct torture *t, uint64_t seed, enum bed_end end);
void bed_end(struct bed *bed);

/* Makes `work` sound again. */
void bed_clear(struct bed *bed);
/* Runs the case on `work`. */
void bed_run(struct bed *bed, struct trial_wants wants);

/* A part of a random kind, live; a random byte of it. */
const struct atlas_part *bed_random_part(struct bed *bed);
uint64_t bed_random_byte(struct bed *bed, const struct atlas_part *part);
struct folder_file *bed_random_file(struct bed *bed);
void bed_fill_random(struct bed *bed, uint8_t *bytes, size_t size);

#endif
