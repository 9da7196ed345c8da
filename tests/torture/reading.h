/*
 * What a database answers, held against the model of what was written: for one that is damaged (it
 * may fail, but not lie) and for one that was repaired (what was lost has to be in the report).
 */
#ifndef TESTS_TORTURE_READING_H
#define TESTS_TORTURE_READING_H

#include "tests/lib/model.h"

#define READING_TEXT 400 /* as the message of an error */

struct reading_setup {
    const char *path;
    const char *shm_dir;
    const char *options; /* for lsm_options_parse() */
    const struct model *model;
};

struct reading {
    lsm_status status;         /* of lsm_open() */
    uint64_t sequence;         /* the state that is seen, when it was opened */
    uint64_t answer_count;     /* reads that gave what the model says */
    uint64_t failed_count;     /* reads that returned an error */
    uint64_t wrong_count;      /* reads that gave anything else */
    char wrong[READING_TEXT];  /* the first of those */
    char failed[READING_TEXT]; /* the first error */
};

/* Reads every key ever written by itself, and every family from both ends, and holds all against
 * the model as of the sequence number that the database says it is at. */
void reading_take(const struct reading_setup *setup, struct reading *reading);

enum survey_kind {
    SURVEY_RIGHT,
    SURVEY_LOST,    /* there is none, and there should be */
    SURVEY_STALE,   /* an older version than the newest */
    SURVEY_REVIVED, /* a version of a key that was deleted, or of a family that was dropped */
    SURVEY_CORRUPT, /* a value that this key never had */
    SURVEY_KINDS,
};

/* Told about every key that is not right. */
typedef void survey_visit(void *context, enum survey_kind kind, uint32_t family, lsm_slice key);

struct survey {
    lsm_status status; /* of opening and reading; all of it has to work */
    uint64_t counts[SURVEY_KINDS];
    char failed[READING_TEXT];
};

/*
 * Reads all that is there and compares it with the newest state of the model. Families are found by
 * name; one that repair had to name "recovered-<id>" is the family of that id.
 */
void survey_take(const struct reading_setup *setup, survey_visit *visit, void *context,
                 struct survey *survey);

/* "lost 3, stale 1, ..." in static memory. */
const char *survey_text(const struct survey *survey);

#endif
