/* Sections and pairs as they come. Nothing that cannot be understood is passed over. */
#include "tools/load/load.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int load_fail_line(struct loader *l, uint64_t line, const lsm_error *err)
{
    char context[48];
    (void)snprintf(context, sizeof context, "line %" PRIu64, line);
    return cli_library_error(&l->cli, context, err);
}

static int fail_input(struct loader *l)
{
    enum exit_code code = l->reader.is_damage ? EXIT_DAMAGE : EXIT_OPERATION;
    if (cli_is_cancelled())
        return cli_cancelled(&l->cli);
    return cli_error(&l->cli, code, "INPUT", "%s%s%s", l->file == NULL ? "" : l->file,
                     l->file == NULL ? "" : ": ", text_string(&l->reader.error));
}

/* The family a section goes to; NULL, and the error was reported, when -s does not fit. */
static const char *target_name(struct loader *l)
{
    struct dump_section *section = &l->reader.section;
    const char *name = section->has_name ? text_string(&section->name) : LOAD_DEFAULT_NAME;
    for (size_t i = 0; i < l->rename_count; i++) {
        const struct rename *rename = &l->renames[i];
        if (rename->from == NULL && l->section_count > 1) {
            (void)cli_error(&l->cli, EXIT_OPERATION, "INPUT",
                            "line %" PRIu64 ": the input has several sections: '-s %s' must say "
                            "which one, as in '-s OLD=%s'",
                            section->header_line, rename->to, rename->to);
            return NULL;
        }
        if (rename->from == NULL || strcmp(rename->from, name) == 0)
            return rename->to;
    }
    return name;
}

static int begin_section(struct loader *l)
{
    struct dump_section *section = &l->reader.section;
    const char *source = section->has_name ? text_string(&section->name) : LOAD_DEFAULT_NAME;
    l->section_count++;
    l->has_previous = false;
    if (section->has_name && memchr(section->name.bytes, '\0', section->name.size) != NULL)
        return cli_error(&l->cli, EXIT_OPERATION, "INPUT",
                         "line %" PRIu64 ": the name of the section holds a NUL byte",
                         section->header_line);
    l->section_ignored = !cli_wants_family(&l->cli, source);
    if (l->section_ignored)
        return EXIT_DONE;
    const char *name = target_name(l);
    if (name == NULL)
        return EXIT_OPERATION;
    if (section->is_other_order)
        cli_warn(&l->cli,
                 "line %" PRIu64 ": the keys of this section had another order; here they sort as "
                 "bytes",
                 section->header_line);
    l->family = load_find_family(l, name);
    int code = load_open(l);
    return code == EXIT_DONE ? load_open_family(l, &l->families[l->family]) : code;
}

/* A database with duplicates dumps them side by side. */
static bool repeats_previous(struct loader *l, lsm_slice key)
{
    if (!l->reader.section.has_duplicates || l->keeps)
        return false;
    bool repeats = l->has_previous && l->previous.size == key.size &&
                   (key.size == 0 || memcmp(l->previous.bytes, key.data, key.size) == 0);
    text_clear(&l->previous);
    text_append(&l->previous, key.data, key.size);
    l->has_previous = true;
    return repeats;
}

static int check_pair(struct loader *l, lsm_slice key, lsm_slice value)
{
    uint64_t line = l->reader.pair_line;
    if (key.size > LSM_MAX_KEY_SIZE)
        return cli_error(&l->cli, EXIT_OPERATION, "LSM_TOO_LARGE",
                         "line %" PRIu64 ": a key of %zu bytes is over the limit of %zu", line,
                         key.size, LSM_MAX_KEY_SIZE);
    if (value.size > LSM_MAX_VALUE_SIZE)
        return cli_error(&l->cli, EXIT_OPERATION, "LSM_TOO_LARGE",
                         "line %" PRIu64 ": a value of %zu bytes is over the limit of %zu",
                         line + 1, value.size, LSM_MAX_VALUE_SIZE);
    if (repeats_previous(l, key))
        return cli_error(&l->cli, EXIT_OPERATION, "INPUT",
                         "line %" PRIu64 ": the key has several values (duplicates=1), but a "
                         "column family holds one: -n loads the first of each",
                         line);
    return EXIT_DONE;
}

static int take_pair(struct loader *l)
{
    lsm_slice key = text_slice(&l->reader.key), value = text_slice(&l->reader.value);
    uint64_t line = l->reader.pair_line;
    if (l->section_ignored) {
        l->ignored_count++;
        return EXIT_DONE;
    }
    int code = check_pair(l, key, value);
    return code == EXIT_DONE ? load_add(l, l->family, line, key, value) : code;
}

int load_input(struct loader *l)
{
    progress_pass(&l->cli.progress, "load");
    for (;;) {
        int code = EXIT_DONE;
        if (cli_is_cancelled())
            return cli_cancelled(&l->cli);
        switch (dump_reader_next(&l->reader)) {
        case DUMP_SECTION:
            code = begin_section(l);
            break;
        case DUMP_PAIR:
            code = take_pair(l);
            progress_update(&l->cli.progress, l->lines.offset, l->lines.size, l->lines.offset);
            cli_throttle(&l->cli, l->lines.offset);
            break;
        case DUMP_SECTION_END:
            break;
        case DUMP_END:
            progress_end(&l->cli.progress, l->lines.offset);
            return load_finish(l);
        case DUMP_ERROR:
            return fail_input(l);
        }
        if (code != EXIT_DONE)
            return code;
    }
}
