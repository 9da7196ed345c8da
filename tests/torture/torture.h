/*
 * What the suites of tests/torture/torture share. Each suite damages a database, or treats it badly
 * in another way, case after case, and counts what it checks:
 *
 *     torture SUITE [--seed N] [--cases N] [--full] [--minutes N] [--io KIND] [--look] [--keep]
 *
 * --full is all there is, which may take days; --minutes ends it in good order. What is enumerated
 * comes in an order that spreads over everything and depends on the seed, so that runs that are cut
 * short look at different parts.
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
    uint64_t cases;   /* 0: as many as the suite thinks are enough */
    bool is_full;     /* all there are */
    uint64_t minutes; /* 0: as long as it takes */
    uint64_t began;   /* CLOCK_MONOTONIC, in seconds */
    const char *suite;
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

/* Begins the next case; ends the program when it has run for so many minutes as it may. */
__attribute__((format(printf, 2, 3))) void torture_case(struct torture *t, const char *format, ...);

/* Counts a check; prints the case and the sentence when it does not hold. Returns `holds`. */
__attribute__((format(printf, 3, 4))) bool torture_check(struct torture *t, bool holds,
                                                         const char *format, ...);

/* How many cases to run: what --cases or --full say, else `quick`. */
uint64_t torture_cases(const struct torture *t, uint64_t quick, uint64_t full);

/* The `index`-th of the numbers [0, total) in the order of this run. */
uint64_t torture_shuffled(const struct torture *t, uint64_t index, uint64_t total);

/* Of all bytes of all files, each counted `each` times, the file that holds number *place, which
 * becomes that within the file. There is one. */
struct folder_file *torture_file_at(const struct folder *files, unsigned each, uint64_t *place);

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
