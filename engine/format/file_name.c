/* Parsing is making backwards: a name is the engine's when making it again gives the same bytes. */
#include "engine/format/file_name.h"

#include "engine/base/parse.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct pattern {
    const char *before;
    const char *after;
    bool numbered;
};

static const struct pattern patterns[] = {
    [FILE_CURRENT] = {"CURRENT", "", false}, [FILE_LOCK] = {"LOCK", "", false},
    [FILE_STAGE] = {"STAGE", "", false},     [FILE_MANIFEST] = {"MANIFEST-", "", true},
    [FILE_TABLE] = {"", ".sst", true},       [FILE_WAL] = {"", ".wal", true},
    [FILE_WAL_SPARE] = {"", ".spare", true}, [FILE_TEMPORARY] = {"", ".tmp", true},
    [FILE_BLOB] = {"", ".blob", true},
};

const char *file_name_make(enum file_kind kind, uint64_t number, char *name)
{
    const struct pattern *p = &patterns[kind];
    if (p->numbered)
        snprintf(name, FILE_NAME_SIZE, "%s%06" PRIu64 "%s", p->before, number, p->after);
    else
        snprintf(name, FILE_NAME_SIZE, "%s", p->before);
    return name;
}

static bool parse_number(const char *name, const struct pattern *p, uint64_t *number)
{
    size_t size = strlen(name), before = strlen(p->before), after = strlen(p->after);
    char digits[FILE_NAME_SIZE];
    if (size <= before + after || size >= sizeof digits)
        return false;
    size_t count = size - before - after;
    memcpy(digits, name + before, count);
    digits[count] = '\0';
    return parse_u64(digits, number);
}

bool file_name_parse(const char *name, enum file_kind *kind, uint64_t *number)
{
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        uint64_t value = 0;
        char again[FILE_NAME_SIZE];
        if (patterns[i].numbered && !parse_number(name, &patterns[i], &value))
            continue;
        if (strcmp(file_name_make((enum file_kind)i, value, again), name) != 0)
            continue;
        *kind = (enum file_kind)i;
        *number = value;
        return true;
    }
    return false;
}
