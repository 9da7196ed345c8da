#include "tools/stat/stat.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *stat_state_name(enum shm_peek_state state)
{
    static const char *const names[] = {"closed", "changing", "alone", "shared", "hidden"};
    return names[state];
}

const char *stat_memtable_state_name(enum shm_memtable_state state)
{
    static const char *const names[] = {"free",   "building", "active",
                                        "sealed", "flushing", "flushed"};
    return names[state];
}

const char *stat_run_state_name(char run_state)
{
    switch (run_state) {
    case 0:
        return "";
    case 'R':
        return "running";
    case 'S':
    case 'I':
        return "asleep";
    case 'D':
        return "waiting for a device";
    case 'T':
    case 't':
        return "stopped";
    case 'Z':
    case 'X':
        return "dying";
    default:
        return "in an unknown state";
    }
}

const char *stat_uuid(const uint8_t uuid[TABLE_UUID_SIZE], char text[2 * TABLE_UUID_SIZE + 1])
{
    bool is_set = false;
    for (size_t i = 0; i < TABLE_UUID_SIZE; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", uuid[i]);
        is_set = is_set || uuid[i] != 0;
    }
    if (!is_set)
        text[0] = '\0';
    return text;
}

static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~')
            *text = '?';
    }
}

const char *stat_who(int64_t pid, const char *command, char text[STAT_TEXT])
{
    (void)snprintf(text, STAT_TEXT, "%" PRId64 " ('%s')", pid, command);
    make_printable(text);
    return text;
}

const char *stat_stall_name(uint32_t reason)
{
    static const char *const names[] = {"none", "memtables", "level0", "log"};
    return reason < sizeof names / sizeof *names ? names[reason] : "unknown";
}

const char *stat_role_name(uint32_t roles)
{
    if ((roles & SHM_ROLE_OPEN) == 0)
        return "opening";
    if ((roles & SHM_ROLE_ALONE) != 0)
        return "alone";
    if ((roles & SHM_ROLE_READER) != 0)
        return "reader";
    return (roles & SHM_ROLE_WORKERS) != 0 ? "workers" : "light client";
}

const char *stat_duration(uint64_t ns, char text[STAT_TEXT])
{
    if (ns == INSPECT_UNKNOWN) {
        (void)snprintf(text, STAT_TEXT, "an unknown time");
        return text;
    }
    double seconds = (double)ns / 1e9;
    if (seconds < 120)
        (void)snprintf(text, STAT_TEXT, "%.1f s", seconds);
    else if (seconds < 7200)
        (void)snprintf(text, STAT_TEXT, "%.0f min", seconds / 60);
    else if (seconds < 172800)
        (void)snprintf(text, STAT_TEXT, "%.1f h", seconds / 3600);
    else
        (void)snprintf(text, STAT_TEXT, "%.1f days", seconds / 86400);
    return text;
}

const char *stat_family_name(const struct inspect_live *live, uint32_t id, char text[STAT_TEXT])
{
    struct text escaped = {0};
    (void)snprintf(text, STAT_TEXT, "family %" PRIu32, id);
    for (size_t i = 0; i < live->files.family_count; i++) {
        const struct inspect_family *family = &live->files.families[i];
        if (family->id != id)
            continue;
        text_append_print(&escaped, LSM_SLICE(family->name, strlen(family->name)));
        (void)snprintf(text, STAT_TEXT, "%s", text_string(&escaped));
    }
    text_release(&escaped);
    return text;
}
