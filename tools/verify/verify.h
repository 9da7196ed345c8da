/* The parts of lsm-verify. */
#ifndef TOOLS_VERIFY_VERIFY_H
#define TOOLS_VERIFY_VERIFY_H

#include "tools/cli/cli.h"
#include "tools/cli/json.h"

/* ---- verify_state.c: which tables were verified when --------------------------------------- */

struct verified {
    char name[40]; /* of the file */
    uint64_t size;
    uint64_t digest;
    unsigned level;   /* lsm_verify_level, by strength: 0 normal, 1 full */
    uint64_t seconds; /* since 1970, when it was found sound */
};

/* A file of lines: what earlier runs found sound. */
struct verify_state {
    char *path; /* owned; NULL: nothing is remembered */
    bool has_uuid;
    uint8_t uuid[16];
    uint64_t run_began;      /* of the run that wrote it */
    bool run_is_complete;    /* it came to its end */
    struct verified *tables; /* by name; owned */
    size_t count, room;
    size_t sorted; /* the first so many are in order */
};

/* Where the state of the database goes when --state does not say: owned by the caller. Makes the
 * directory. NULL when there is no home. */
char *verify_state_default_path(const char *directory);
/* Reads the file; a missing one is an empty state. NULL, or what is wrong, static. */
const char *verify_state_load(struct verify_state *s);
/* A state of another database is forgotten. */
void verify_state_identify(struct verify_state *s, const uint8_t uuid[16]);
const struct verified *verify_state_find(const struct verify_state *s, const char *name,
                                         uint64_t size, uint64_t digest);
/* The newest word on a table; is_sound false: none any more. */
void verify_state_note(struct verify_state *s, const char *name, uint64_t size, uint64_t digest,
                       unsigned level, uint64_t seconds, bool is_sound);
/* Writes the file whole, or leaves it as it was: then an errno. */
int verify_state_save(const struct verify_state *s);
void verify_state_release(struct verify_state *s);

/* ---- verify_output.c: what is told ------------------------------------------------------------
 */

struct verify_output {
    struct cli *cli;
    bool shows_data;            /* keys, too */
    struct json_object *object; /* NULL: text for people */
    struct json_object *findings, *unmeasured;
    uint64_t untold; /* findings beyond those that the object holds */
};

void verify_output_finding(struct verify_output *o, const lsm_finding *f);
void verify_output_unmeasured(struct verify_output *o, unsigned pass, const char *file,
                              const char *cause);
void verify_output_result(struct verify_output *o, const lsm_verify_result *r, const char *level);
/* All ids with what they mean and what repair does. */
void verify_output_ids(bool is_json);

#endif
