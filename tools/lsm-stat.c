/*
 * lsm-stat: what a database is doing now, who has it open, and who holds up whom.
 *
 * It only looks (engine/inspect): nothing is locked, joined or written, so that it can be asked
 * when everything else is stuck.
 */
#include "tools/stat/stat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
static const char help[] =
    "Usage: lsm-stat [OPTION]... DIR\n"
    "Show what the database in DIR is doing now. Nothing is locked, joined or written.\n"
    "\n"
    "  -r, --processes         who has it open, what each holds and keeps others from freeing\n"
    "      --json              one JSON object with everything instead of text for people\n"
    "      --cf=NAME           only this column family; may be given again (default: all)\n"
    "  -q, --quiet             no warnings\n"
    "  -v, --verbose           say more on stderr\n"
    "  -h, --help              this text\n"
    "  -V, --version           the version of tool and library\n"
    "\n"
    "Exit status: 0 done, 4 damage found, 8 could not work, 16 wrong usage, 32 cancelled.\n"
    "The manual: lsm-stat(1).\n";

static const struct option long_options[] = {
    {"processes", no_argument, NULL, 'r'},
    {"json", no_argument, NULL, CLI_OPTION_JSON},
    {"cf", required_argument, NULL, CLI_OPTION_CF},
    {"quiet", no_argument, NULL, 'q'},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};
/* clang-format on */

struct stat_tool {
    struct cli cli;
    unsigned sections; /* flags of enum stat_section */
    struct io *io;
};

static void take_options(struct stat_tool *t, int argc, char **argv)
{
    int option;
    while ((option = getopt_long(argc, argv, "rhVqv", long_options, NULL)) != -1) {
        switch (option) {
        case 'r':
            t->sections |= STAT_PROCESSES;
            break;
        default:
            cli_take_option(&t->cli, option, optarg);
        }
    }
    cli_parsed(&t->cli, argc, argv, optind);
    if (t->sections == 0)
        t->sections = STAT_SUMMARY;
}

/* Damage, and what could not be seen, as messages and a code. */
static int judge(struct stat_tool *t, const struct inspect_live *live)
{
    int code = EXIT_DONE;
    for (size_t i = 0; i < live->files.damage_count; i++)
        code |= cli_library_error(&t->cli, NULL, &live->files.damages[i]);
    if (live->state == SHM_PEEK_HIDDEN)
        code |= cli_error(&t->cli, EXIT_OPERATION, cli_status_name(live->why.status),
                          "it cannot be looked at while it is open: %s", live->why.message);
    for (size_t i = 0; i < t->cli.family_count && live->files.has_manifest; i++) {
        bool is_there = false;
        for (size_t j = 0; j < live->files.family_count; j++)
            is_there = is_there || strcmp(t->cli.families[i], live->files.families[j].name) == 0;
        if (!is_there)
            code |=
                cli_error(&t->cli, EXIT_OPERATION, "LSM_MISSING", "'%s' has no column family '%s'",
                          t->cli.directory, t->cli.families[i]);
    }
    return code;
}

static int show_text(struct stat_tool *t, const struct inspect_live *live)
{
    stat_print(&t->cli, live, t->sections);
    int code = fflush(stdout) == 0
                   ? EXIT_DONE
                   : cli_error(&t->cli, EXIT_OPERATION, "LSM_IO", "cannot write to stdout");
    return code | judge(t, live);
}

static int show_json(struct stat_tool *t, const struct inspect_live *live, int code)
{
    struct json_object *object = json_begin("lsm-stat/1");
    if (live != NULL) {
        stat_add_json(object, &t->cli, live);
        code |= judge(t, live);
    }
    return json_finish(&t->cli, object, code);
}

static int look(struct stat_tool *t)
{
    lsm_error err = {0};
    struct inspect_live *live = NULL;
    int code = EXIT_DONE;
    if (inspect_live_open(t->io, t->cli.directory, &live, &err) != LSM_OK)
        code = cli_library_error(&t->cli, NULL, &err);
    if (t->cli.json)
        code = show_json(t, live, code);
    else if (live != NULL)
        code = show_text(t, live);
    inspect_live_free(live);
    return code;
}

int main(int argc, char **argv)
{
    struct stat_tool t = {0};
    lsm_error err = {0};
    cli_init(&t.cli, "lsm-stat", help);
    take_options(&t, argc, argv);
    int code =
        io_open("posix", &t.io, &err) == LSM_OK ? look(&t) : cli_library_error(&t.cli, NULL, &err);
    io_close(t.io);
    cli_release(&t.cli);
    return code;
}
