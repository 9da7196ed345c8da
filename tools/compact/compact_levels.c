/* The per-level table, from the files as they are (engine/inspect), not from a handle's view. */
#include "tools/compact/compact.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct inspect_live *compact_look(struct cli *cli, struct io *io, int *code)
{
    struct inspect_live *live = NULL;
    lsm_error err = {0};
    if (inspect_live_open(io, cli->directory, &live, &err) != LSM_OK) {
        *code |= cli_library_error(cli, NULL, &err);
        return NULL;
    }
    for (size_t i = 0; i < live->files.damage_count; i++)
        *code |= cli_library_error(cli, NULL, &live->files.damages[i]);
    return live;
}

const struct inspect_family *compact_family(const struct inspect_live *live, const char *name)
{
    for (size_t i = 0; live != NULL && i < live->files.family_count; i++) {
        if (strcmp(live->files.families[i].name, name) == 0)
            return &live->files.families[i];
    }
    return NULL;
}

static void print_name(const struct inspect_family *family)
{
    struct text escaped = {0};
    text_append_print(&escaped, LSM_SLICE(family->name, strlen(family->name)));
    printf("%s\n", text_string(&escaped));
    text_release(&escaped);
}

static void print_one(const struct inspect_family *family)
{
    char size[CLI_SIZE_TEXT];
    printf("  %5s %8s %12s %14s %12s\n", "level", "tables", "size", "entries", "deletes");
    for (size_t i = 0; i < VERSION_LEVELS; i++) {
        const struct inspect_level *l = &family->levels[i];
        if (l->tables > 0 || i == 0)
            printf("  %5zu %8" PRIu64 " %12s %14" PRIu64 " %12" PRIu64 "\n", i, l->tables,
                   cli_format_size(l->bytes, size), l->entries, l->deletes);
    }
}

static void print_both(const struct inspect_family *before, const struct inspect_family *after)
{
    char size[CLI_SIZE_TEXT], size_after[CLI_SIZE_TEXT];
    printf("  %5s   %7s %12s %14s   %7s\n", "", "before:", "", "", "after:");
    printf("  %5s   %7s %12s %14s   %7s %12s %14s\n", "level", "tables", "size", "entries",
           "tables", "size", "entries");
    for (size_t i = 0; i < VERSION_LEVELS; i++) {
        const struct inspect_level *b = &before->levels[i], *a = &after->levels[i];
        if (b->tables == 0 && a->tables == 0 && i > 0)
            continue;
        printf("  %5zu   %7" PRIu64 " %12s %14" PRIu64 "   %7" PRIu64 " %12s %14" PRIu64 "\n", i,
               b->tables, cli_format_size(b->bytes, size), b->entries, a->tables,
               cli_format_size(a->bytes, size_after), a->entries);
    }
}

void compact_print_levels(const struct inspect_family *before, const struct inspect_family *after)
{
    print_name(before);
    if (after == NULL)
        print_one(before);
    else
        print_both(before, after);
}

struct json_object *compact_levels_json(const struct inspect_family *family)
{
    struct json_object *object = json_object_new_object(), *levels = json_object_new_array();
    struct inspect_level sum = {0};
    if (family == NULL) {
        json_object_put(object);
        json_object_put(levels);
        return NULL;
    }
    for (size_t i = 0; i < VERSION_LEVELS; i++) {
        const struct inspect_level *l = &family->levels[i];
        struct json_object *level = json_object_new_object();
        json_add_u64(level, "level", i);
        json_add_u64(level, "tables", l->tables);
        json_add_u64(level, "bytes", l->bytes);
        json_add_u64(level, "entries", l->entries);
        json_add_u64(level, "deletes", l->deletes);
        json_object_array_add(levels, level);
        sum.tables += l->tables;
        sum.bytes += l->bytes;
        sum.entries += l->entries;
        sum.deletes += l->deletes;
    }
    json_add_u64(object, "tables", sum.tables);
    json_add_u64(object, "table-bytes", sum.bytes);
    json_add_u64(object, "entries", sum.entries);
    json_add_u64(object, "deletes", sum.deletes);
    json_add_u64(object, "level0-tables", family->levels[0].tables);
    json_add(object, "levels", levels);
    return object;
}
