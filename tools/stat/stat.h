/* What the files of lsm-stat share: one look at a database, and the ways to show it. */
#ifndef TOOLS_STAT_STAT_H
#define TOOLS_STAT_STAT_H

#include "engine/inspect/inspect_live.h"
#include "tools/cli/cli.h"
#include "tools/cli/json.h"

enum stat_section {
    STAT_SUMMARY = 1,
    STAT_PROCESSES = 2,
};

#define STAT_TEXT 128

/* "closed", "changing", "alone", "shared", "hidden"; "active", "sealed", ... */
const char *stat_state_name(enum shm_peek_state state);
const char *stat_memtable_state_name(enum shm_memtable_state state);
/* "running", "asleep", "stopped", ...; "" when it is not known. */
const char *stat_run_state_name(char run_state);

/* The hexadecimal uuid; "" when it is all zeros. */
const char *stat_uuid(const uint8_t uuid[TABLE_UUID_SIZE], char text[2 * TABLE_UUID_SIZE + 1]);
/* "4711 ('writer')", with '?' for what a terminal should not get. */
const char *stat_who(int64_t pid, const char *command, char text[STAT_TEXT]);
/* "1.5 s", "12 min", "3.2 h". */
const char *stat_duration(uint64_t ns, char text[STAT_TEXT]);
/* "memtables": `one` and an s when there are more. */
const char *stat_plural(uint64_t count, const char *one, char text[STAT_TEXT]);
/* The name of a family, with escapes; "family 7" when it is not known. */
const char *stat_family_name(const struct inspect_live *live, uint32_t id, char text[STAT_TEXT]);

/* Tables for people on stdout. */
void stat_print(const struct cli *cli, const struct inspect_live *live, unsigned sections);
/* The whole as members of `object`. */
void stat_add_json(struct json_object *object, const struct cli *cli,
                   const struct inspect_live *live);

#endif
