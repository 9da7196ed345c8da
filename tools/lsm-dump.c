/*
 * lsm-dump: the contents of a database as text, and what its files hold.
 *
 * This file takes the command line and hands over to tools/dump/.
 */
#include "tools/dump/dump.h"

#include <string.h>

/* clang-format off */
static const char help[] =
    "Usage: lsm-dump [OPTION]... DIR\n"
    "Write the contents of the database in DIR as text that lsm-load, db_load and mdb_load read.\n"
    "\n"
    "  -f, --file=FILE         write to FILE, which appears whole or not at all\n"
    "  -p, --print             printable characters as they are instead of hexadecimal digits\n"
    "  -a, --all               all column families (the default)\n"
    "  -s, --section=NAME      only this column family; the same as --cf\n"
    "  -l, --list              only the names of the column families\n"
    "      --digest            only a hash of the contents of each family, and its pair count\n"
    "      --at=TOKEN|SEQUENCE the state of a snapshot that some process holds\n"
    "      --compat=bdb|lmdb|native|jsonl\n"
    "                          bdb (default): both Berkeley DB and LMDB load it; lmdb: with the\n"
    "                          map size that mdb_load needs; native: with count and hash; jsonl\n"
    CLI_RANGE_HELP
    CLI_HELP
    "\n"
    "Exit status: 0 done, 4 damage found, 8 could not work, 16 wrong usage, 32 cancelled.\n"
    "The manual: lsm-dump(1).\n";

enum {
    OPTION_DIGEST = CLI_OPTION_OWN,
    OPTION_COMPAT,
    OPTION_AT,
};

static const struct option long_options[] = {
    {"file", required_argument, NULL, 'f'},
    {"print", no_argument, NULL, 'p'},
    {"all", no_argument, NULL, 'a'},
    {"section", required_argument, NULL, 's'},
    {"list", no_argument, NULL, 'l'},
    {"digest", no_argument, NULL, OPTION_DIGEST},
    {"compat", required_argument, NULL, OPTION_COMPAT},
    {"at", required_argument, NULL, OPTION_AT},
    CLI_RANGE_OPTIONS,
    CLI_LONG_OPTIONS,
    {NULL, 0, NULL, 0},
};
/* clang-format on */

static void take_compat(struct dumper *d, const char *text)
{
    static const char *const names[] = {"bdb", "lmdb", "native", "jsonl"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], text) == 0) {
            d->style.format = (enum dump_format)i;
            d->compat_given = true;
            return;
        }
    }
    cli_usage(&d->cli, "--compat: '%s' is none of bdb, lmdb, native, jsonl", text);
}

static void take_options(struct dumper *d, int argc, char **argv)
{
    bool wants_all = false;
    int option;
    while ((option = getopt_long(argc, argv, "f:pas:l" CLI_SHORT_OPTIONS, long_options, NULL)) !=
           -1) {
        switch (option) {
        case 'f':
            d->file = optarg;
            break;
        case 'p':
            d->style.is_print = true;
            break;
        case 'a':
            wants_all = true;
            break;
        case 's':
            cli_take_option(&d->cli, CLI_OPTION_CF, optarg);
            break;
        case 'l':
            d->work = DUMP_NAMES;
            break;
        case OPTION_DIGEST:
            d->work = DUMP_DIGESTS;
            break;
        case OPTION_COMPAT:
            take_compat(d, optarg);
            break;
        case OPTION_AT:
            d->at = optarg;
            break;
        default:
            cli_take_option(&d->cli, option, optarg);
        }
    }
    if (wants_all && d->cli.family_count > 0)
        cli_usage(&d->cli, "-a and --cf contradict each other");
    if (d->work != DUMP_CONTENTS && d->file != NULL)
        cli_usage(&d->cli, "-f is for contents, not for -l or --digest");
    cli_parsed(&d->cli, argc, argv, optind);
    if (d->cli.json && d->work == DUMP_CONTENTS) {
        if (d->compat_given && d->style.format != DUMP_JSONL)
            cli_usage(&d->cli, "--json and --compat=%s contradict each other",
                      d->style.format == DUMP_NATIVE ? "native" : "bdb or lmdb");
        d->style.format = DUMP_JSONL;
    }
    if (d->style.format == DUMP_JSONL && d->style.is_print)
        cli_usage(&d->cli, "-p is not for jsonl");
    if (d->cli.key_format_given)
        d->style.key_format = d->cli.key_format;
}

int main(int argc, char **argv)
{
    struct dumper d = {0};
    cli_init(&d.cli, "lsm-dump", help);
    take_options(&d, argc, argv);

    bool is_object = d.cli.json && d.work != DUMP_CONTENTS;
    struct json_object *object = is_object ? json_begin("lsm-dump/1") : NULL;
    struct json_object *families = is_object ? json_object_new_array() : NULL;

    int code = dump_open_database(&d);
    if (code == EXIT_DONE)
        code = d.work == DUMP_CONTENTS ? dump_contents(&d) : dump_describe_families(&d, families);
    if (is_object && d.snapshot != NULL)
        json_add_u64(object, "sequence", d.style.sequence);
    code = dump_close_database(&d, code);
    if (is_object) {
        json_add(object, "families", families);
        code = json_finish(&d.cli, object, code);
    }
    cli_release(&d.cli);
    return code;
}
