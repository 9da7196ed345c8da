/*
 * A small database that holds every kind of file there is, made the same way each time, for tests
 * that damage one: tables on several levels, raw and compressed with a dictionary, four column
 * families of which one was dropped and one has never been flushed, a log with records that are in
 * no table, tables that were replaced and are still there, two manifests, a spare.
 *
 * The process that wrote it was killed, or, where a test asks for that, others came after it and
 * closed it: then the log is empty. What it ought to hold is in the model.
 */
#ifndef TESTS_LIB_SPECIMEN_H
#define TESTS_LIB_SPECIMEN_H

#include "tests/lib/folder.h"
#include "tests/lib/model.h"

/* Ids of the families. */
enum specimen_family {
    SPECIMEN_DEFAULT, /* raw and compressed tables on several levels, deletions, log */
    SPECIMEN_WORDS,   /* "words": compressed with a dictionary */
    SPECIMEN_GONE,    /* "gone": dropped; its tables may still be there */
    SPECIMEN_LATE,    /* "late": in the log only */
    SPECIMEN_FAMILIES,
};

/* The seed of one with blob files: most values of "default" and "words" are in them. */
#define SPECIMEN_BLOBS UINT64_MAX

struct specimen {
    struct model model;
    struct folder files;
    struct folder earlier; /* before the last of the lives that wrote it */
};

/*
 * Makes it in the directory `path`, which does not exist yet, and takes a copy of its files. `seed`
 * 0 is the one that all tests mean that need no other; others have other keys and sizes. Forks: no
 * thread of the engine may run. Ends the program (99) on failure.
 */
void specimen_make(struct specimen *s, const char *path, uint64_t seed);
void specimen_make_closed(struct specimen *s, const char *path, uint64_t seed); /* and closed */
void specimen_release(struct specimen *s);

/* How tests open it: read-write; add ",read_only=true". */
#define SPECIMEN_OPTIONS                                                                           \
    "io=posix,workers=none,memtable_size=64KiB,memtable_count=2,stage_size=16KiB,"                 \
    "wal_segment_size=16KiB,cache_size=256KiB"

#endif
