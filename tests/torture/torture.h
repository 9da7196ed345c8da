/*
 * What the suites of tests/torture/torture share. Each suite damages a database, or treats it badly
 * in another way, case after case, and counts what it checks:
 *
 *     torture SUITE [--seed N] [--cases N] [--full] [--io KIND] [--look] [--keep]
 *
 * A failed check prints the case, and with --keep the directory as it was before the case stays. A
 * crash or a hang ends the program with the name of the case on stderr.
 */
#ifndef TESTS_TORTURE_TORTURE_H
#define TESTS_TORTURE_TORTURE_H

#include "engine/base/random.h"
#include "tests/lib/folder.h"
#include "tests/lib/scratch.h"

#define TORTURE_CASE_SECONDS 60 /* no case takes that long */

struct torture {
    uint64_t seed;
    uint64_t cases; /* 0: as many as the suite thinks are enough */
    bool is_full;   /* all there are */
    bool look_only; /* read and verify, do not repair */
    bool keep;
    const char *io;   /* for lsm_options_parse() */
    const char *tree; /* of the build: where the tools are; NULL: not known */

    char scratch[SCRATCH_PATH_SIZE];   /* also where shared segments go */
    char path[SCRATCH_PATH_SIZE + 16]; /* of the database that is tortured */
    struct random_state random;

    uint64_t case_count, check_count, failure_count;
    char current[256];            /* the case, for messages */
    const struct folder *damaged; /* what --keep keeps; may be NULL */
};

/* Begins the next case; false when there were enough. */
__attribute__((format(printf, 2, 3))) void torture_case(struct torture *t, const char *format, ...);

/* Counts a check; prints the case and the sentence when it does not hold. Returns `holds`. */
__attribute__((format(printf, 3, 4))) bool torture_check(struct torture *t, bool holds,
                                                         const char *format, ...);

/* How many cases to run: what --cases or --full say, else `quick`. */
uint64_t torture_cases(const struct torture *t, uint64_t quick, uint64_t full);

/* A suite; TORTURE_SKIPPED when it cannot run here. */
#define TORTURE_DONE    0
#define TORTURE_SKIPPED 77
typedef int torture_suite(struct torture *t);

torture_suite suite_bitflip;
torture_suite suite_smash;
torture_suite suite_truncate;
torture_suite suite_missing;
torture_suite suite_salvage;
torture_suite suite_repair_crash;
torture_suite suite_symlink;
torture_suite suite_readonly;
torture_suite suite_boundary;
torture_suite suite_clean;

#endif
