/*
 * lsm_verify() and lsm_repair() with what they say kept, so that a test can ask about it
 * afterwards. Zeroed structs are empty.
 */
#ifndef TESTS_TORTURE_EXAMINE_H
#define TESTS_TORTURE_EXAMINE_H

#include "engine/lsm.h"
#include "tests/lib/folder.h"

#define EXAMINE_TEXT 400

struct found {
    char id[48];
    unsigned pass;
    lsm_severity severity;
    char file[FOLDER_NAME_SIZE]; /* empty: none */
    uint64_t offset, length;
    bool has_range;
    char text[EXAMINE_TEXT];
};

struct examination {
    lsm_status status;
    struct found *found; /* owned */
    size_t count;
    size_t damage_count;  /* of them */
    size_t unclean_count; /* damage and warnings, but for what the file system is like */
    char failed[EXAMINE_TEXT];
};

/* At the level "full". `io` as in lsm_options. */
void examination_take(struct examination *e, const char *path, const char *io);
void examination_release(struct examination *e);
/* Is there a finding about the file, at least that severe? */
bool examination_names(const struct examination *e, const char *file, lsm_severity least);
bool examination_has(const struct examination *e, const char *id);
/* "4-block-checksum 000007.sst, ..." in static memory, cut when there are many. */
const char *examination_text(const struct examination *e);

/* Keys that may have been lost, be stale, or have come back. */
struct suspect {
    bool all_families;
    uint32_t family;
    bool first_open, last_open;
    char *first, *last; /* owned */
    size_t first_size, last_size;
};

struct mending {
    lsm_status status;
    bool has_changed, has_lost, has_left; /* exit bits 1, 64, 4 */
    struct suspect *suspects;             /* owned */
    size_t suspect_count;
    bool tells_unseen; /* that a table which is gone would not be missed */
    char failed[EXAMINE_TEXT];
};

void mending_take(struct mending *m, const char *path, const char *io);
void mending_release(struct mending *m);
/* Does the report say that this key may be affected? */
bool mending_reports(const struct mending *m, uint32_t family, lsm_slice key);

#endif
