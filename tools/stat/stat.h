/* What the files of lsm-stat share: one look at a database, and the ways to show it. */
#ifndef TOOLS_STAT_STAT_H
#define TOOLS_STAT_STAT_H

#include "engine/inspect/inspect_live.h"
#include "tools/cli/cli.h"
#include "tools/cli/json.h"

enum stat_section {
    STAT_SUMMARY = 1,
    STAT_PROCESSES = 2,
    STAT_LEVELS = 4,
    STAT_CACHE = 8,
    STAT_STALLS = 16,
    STAT_IO = 32,
    STAT_ENVIRONMENT = 64,
    STAT_EXPLAIN = 128,
};

#define STAT_TEXT CLI_COUNT_TEXT

/* "closed", "changing", "alone", "shared", "hidden"; "active", "sealed", ... */
const char *stat_state_name(enum shm_peek_state state);
const char *stat_memtable_state_name(enum shm_memtable_state state);
/* "running", "asleep", "stopped", ...; "" when it is not known. */
const char *stat_run_state_name(char run_state);

/* The hexadecimal uuid; "" when it is all zeros. */
const char *stat_uuid(const uint8_t uuid[TABLE_UUID_SIZE], char text[2 * TABLE_UUID_SIZE + 1]);
/* "4711 ('writer')", with '?' for what a terminal should not get. */
const char *stat_who(int64_t pid, const char *command, char text[STAT_TEXT]);
/* "none", "memtables", "level0", "log". */
const char *stat_stall_name(uint32_t reason);
/* "workers", "light client", "alone", "opening"; see enum shm_role. */
const char *stat_role_name(uint32_t roles);
/* "1.5 s", "12 min", "3.2 h"; "an unknown time". */
const char *stat_duration(uint64_t ns, char text[STAT_TEXT]);
/* The name of a family, with escapes; "family 7" when it is not known. */
const char *stat_family_name(const struct inspect_live *live, uint32_t id, char text[STAT_TEXT]);

/* Tables for people on stdout. */
void stat_print(const struct cli *cli, const struct inspect_live *live, unsigned sections);
/* The same, section by section: stat_sections.c. */
void stat_print_levels(const struct cli *cli, const struct inspect_live *live);
void stat_print_cache(const struct inspect_live *live);
void stat_print_stalls(const struct inspect_live *live);
void stat_print_io(const struct inspect_live *live);
void stat_print_environment(const struct cli *cli, const struct inspect_live *live);

enum stat_effect {
    STAT_HINDERS_NOTHING, /* it only costs space, or is about to end */
    STAT_SLOWS_WRITERS,
    STAT_STOPS_WRITERS,
};

/*
 * A sentence for each thing that stops, slows or fails writers now, and for what keeps memory or
 * files from being freed; each names the process and says what to do. Returns how many,
 * those with the most effect first.
 */
struct stat_cause {
    const char *kind; /* static: "lock", "level0", ...; the metric's label */
    enum stat_effect effect;
    int64_t pid; /* who holds it up; 0: nobody alone */
    char sentence[512];
};
#define STAT_MOST_CAUSES 64
size_t stat_explain(const struct inspect_live *live, struct stat_cause causes[STAT_MOST_CAUSES]);
void stat_print_causes(const struct inspect_live *live);

/* The text exposition format of Prometheus. */
void stat_print_prometheus(const struct cli *cli, const struct inspect_live *live);

/* Checks a file of options, one `name=value` a line or several with commas. Returns the code. */
int stat_check_config(struct cli *cli, const char *path);

/* The whole as members of `object`. */
void stat_add_json(struct json_object *object, const struct cli *cli,
                   const struct inspect_live *live);

#endif
