/*
 * lsm-dump: the contents of a database as text, and what its files hold.
 *
 * This file takes the command line and hands over to tools/dump/.
 */
#include "tools/cli/sandbox.h"
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
    "  -r, --salvage           leave out what is damaged, and say which keys that may be\n"
    "  -R, --aggressive        the same, with superseded versions of keys too\n"
    "      --compat=bdb|lmdb|native|jsonl\n"
    "                          bdb (default): both Berkeley DB and LMDB load it; lmdb: with the\n"
    "                          map size that mdb_load needs; native: with count and hash; jsonl\n"
    CLI_RANGE_HELP
    "\n"
    "A database in the place of text:\n"
    "      --checkpoint=DIR    make DIR, a database that holds what this one holds now; it shares\n"
    "                          the table files where it can\n"
    "      --copy              with table files of its own\n"
    "\n"
    "What stands in the files, which are only read, however damaged:\n"
    "      --manifest[=FILE]   every edit of the manifest in force, or of FILE\n"
    "      --sst=FILE          one table; without it the next five are of all\n"
    "      --blocks            the blocks of tables\n"
    "      --index             the separators between them\n"
    "      --filter            how full the filters are\n"
    "      --properties        what tables say of themselves\n"
    "      --internal          every version of every key: key@sequence:type\n"
    "      --wal=FILE|all      the records of a log segment, or of the whole log\n"
    "      --find=KEY          every place that mentions the key, and how each file came to be\n"
    "      --layout            what stands at which offset of all files\n"
    "      --image=FILE        what files say of themselves, without the user's bytes, for a bug\n"
    "                          report: keys and names are hashed\n"
    "      --show-data         with keys and values; only their sizes otherwise\n"
    "\n"
    CLI_HELP
    "\n"
    "Exit status, a sum: 0 done, 4 damage found, 8 could not work, 16 wrong usage, 32 cancelled,\n"
    "64 data is missing from what was salvaged.\n"
    "The manual: lsm-dump(1).\n";

enum {
    OPTION_DIGEST = CLI_OPTION_OWN,
    OPTION_COMPAT,
    OPTION_AT,
    OPTION_CHECKPOINT,
    OPTION_COPY,
    OPTION_MANIFEST,
    OPTION_SST,
    OPTION_BLOCKS,
    OPTION_INDEX,
    OPTION_FILTER,
    OPTION_PROPERTIES,
    OPTION_INTERNAL,
    OPTION_WAL,
    OPTION_FIND,
    OPTION_LAYOUT,
    OPTION_IMAGE,
    OPTION_SHOW_DATA,
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
    {"checkpoint", required_argument, NULL, OPTION_CHECKPOINT},
    {"copy", no_argument, NULL, OPTION_COPY},
    {"salvage", no_argument, NULL, 'r'},
    {"aggressive", no_argument, NULL, 'R'},
    {"manifest", optional_argument, NULL, OPTION_MANIFEST},
    {"sst", required_argument, NULL, OPTION_SST},
    {"blocks", no_argument, NULL, OPTION_BLOCKS},
    {"index", no_argument, NULL, OPTION_INDEX},
    {"filter", no_argument, NULL, OPTION_FILTER},
    {"properties", no_argument, NULL, OPTION_PROPERTIES},
    {"internal", no_argument, NULL, OPTION_INTERNAL},
    {"wal", required_argument, NULL, OPTION_WAL},
    {"find", required_argument, NULL, OPTION_FIND},
    {"layout", no_argument, NULL, OPTION_LAYOUT},
    {"image", required_argument, NULL, OPTION_IMAGE},
    {"show-data", no_argument, NULL, OPTION_SHOW_DATA},
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

/* One kind of work a run. */
static void take_work(struct dumper *d, enum dump_work work, const char *argument)
{
    if (d->work != DUMP_CONTENTS && d->work != work)
        cli_usage(&d->cli, "two of the options ask for different things");
    d->work = work;
    if (argument != NULL && d->inspected != NULL)
        cli_usage(&d->cli, "one file is wanted, '%s' is too many", argument);
    if (argument != NULL)
        d->inspected = argument;
}

static void take_view(struct dumper *d, enum dump_view view)
{
    take_work(d, DUMP_TABLES, NULL);
    d->views |= (uint32_t)view;
}

/* False: it is none of the options that look at files. */
static bool take_inspection(struct dumper *d, int option, const char *argument)
{
    switch (option) {
    case OPTION_MANIFEST:
        take_work(d, DUMP_MANIFESTS, argument);
        return true;
    case OPTION_SST:
        take_work(d, DUMP_TABLES, argument);
        return true;
    case OPTION_WAL:
        take_work(d, DUMP_LOG, argument);
        return true;
    case OPTION_BLOCKS:
        take_view(d, DUMP_VIEW_BLOCKS);
        return true;
    case OPTION_INDEX:
        take_view(d, DUMP_VIEW_INDEX);
        return true;
    case OPTION_FILTER:
        take_view(d, DUMP_VIEW_FILTER);
        return true;
    case OPTION_PROPERTIES:
        take_view(d, DUMP_VIEW_PROPERTIES);
        return true;
    case OPTION_INTERNAL:
        take_view(d, DUMP_VIEW_INTERNAL);
        return true;
    case OPTION_FIND:
        take_work(d, DUMP_FIND, NULL);
        d->find_text = argument;
        return true;
    case OPTION_LAYOUT:
        take_work(d, DUMP_LAYOUT, NULL);
        return true;
    case OPTION_IMAGE:
        take_work(d, DUMP_IMAGE, NULL);
        d->file = argument;
        return true;
    case OPTION_SHOW_DATA:
        d->shows_data = true;
        return true;
    default:
        return false;
    }
}

static void take_option(struct dumper *d, int option, const char *argument)
{
    switch (option) {
    case 'f':
        d->file = argument;
        break;
    case 'p':
        d->style.is_print = true;
        break;
    case 'a':
        d->wants_all = true;
        break;
    case 's':
        cli_take_option(&d->cli, CLI_OPTION_CF, argument);
        break;
    case 'l':
        take_work(d, DUMP_NAMES, NULL);
        break;
    case 'r':
    case 'R':
        d->is_salvage = true;
        d->is_aggressive = d->is_aggressive || option == 'R';
        break;
    case OPTION_DIGEST:
        take_work(d, DUMP_DIGESTS, NULL);
        break;
    case OPTION_COMPAT:
        take_compat(d, argument);
        break;
    case OPTION_AT:
        d->at = argument;
        break;
    case OPTION_CHECKPOINT:
        take_work(d, DUMP_CHECKPOINT, NULL);
        d->checkpoint = argument;
        break;
    case OPTION_COPY:
        d->is_copy = true;
        break;
    default:
        if (!take_inspection(d, option, argument))
            cli_take_option(&d->cli, option, argument);
    }
}

/* The directory may be left out where a file is given with a path. */
static void take_operands(struct dumper *d, int argc, char **argv)
{
    const char *slash = d->inspected == NULL ? NULL : strrchr(d->inspected, '/');
    if (optind < argc || slash == NULL) {
        if (slash != NULL)
            cli_usage(&d->cli, "'%s' is a path: leave out the directory", d->inspected);
        cli_parsed(&d->cli, argc, argv, optind);
        return;
    }
    text_append(&d->directory, d->inspected, (size_t)(slash - d->inspected) + 1);
    char *operand = (char *)(uintptr_t)text_string(&d->directory);
    cli_parsed(&d->cli, 1, &operand, 0);
}

static void check_options(struct dumper *d)
{
    struct cli *cli = &d->cli;
    if (d->wants_all && cli->family_count > 0)
        cli_usage(cli, "-a and --cf contradict each other");
    if (d->is_copy && d->work != DUMP_CHECKPOINT)
        cli_usage(cli, "--copy is for --checkpoint");
    if (d->work == DUMP_CHECKPOINT && (d->file != NULL || cli->family_count > 0 || cli->has_start ||
                                       cli->has_end || cli->has_prefix))
        cli_usage(cli, "--checkpoint makes a directory of all that there is");
    if ((d->work == DUMP_NAMES || d->work == DUMP_DIGESTS) && d->file != NULL)
        cli_usage(cli, "-f is for contents and files, not for -l or --digest");
    if (d->work >= DUMP_CHECKPOINT && (d->is_salvage || d->at != NULL || d->compat_given))
        cli_usage(cli, "--salvage, --at and --compat are for contents, not for files");
    if (d->work == DUMP_IMAGE) {
        if (d->shows_data)
            cli_usage(cli, "an image has no data: --show-data and --image contradict each other");
        d->is_image = cli->json = true;
        d->views = DUMP_VIEW_BLOCKS;
    }
    if (d->is_salvage && d->at != NULL)
        cli_usage(cli, "--salvage gives out the newest state, not that of --at");
    if (cli->json && d->work == DUMP_CONTENTS) {
        if (d->compat_given && d->style.format != DUMP_JSONL)
            cli_usage(cli, "--json and --compat=%s contradict each other",
                      d->style.format == DUMP_NATIVE ? "native" : "bdb or lmdb");
        d->style.format = DUMP_JSONL;
    }
    if (d->style.format == DUMP_JSONL && d->style.is_print)
        cli_usage(cli, "-p is not for jsonl");
    if (cli->key_format_given)
        d->style.key_format = cli->key_format;
}

static void take_options(struct dumper *d, int argc, char **argv)
{
    int option;
    while ((option = getopt_long(argc, argv, "f:pas:lrR" CLI_SHORT_OPTIONS, long_options, NULL)) !=
           -1)
        take_option(d, option, optarg);
    check_options(d);
    take_operands(d, argc, argv);
    if (d->find_text != NULL)
        cli_decode_key(&d->cli, "--find", d->find_text, &d->find_key);
}

/* Contents, names or digests, of an open database or of what is whole of a damaged one. */
static int dump_database(struct dumper *d)
{
    bool is_object = d->cli.json && d->work != DUMP_CONTENTS;
    struct json_object *object = is_object ? json_begin("lsm-dump/1") : NULL;
    struct json_object *families = is_object ? json_object_new_array() : NULL;

    int code = d->is_salvage ? dump_open_salvage(d) : dump_open_database(d);
    if (code == EXIT_DONE)
        code = d->work == DUMP_CONTENTS ? dump_contents(d) : dump_describe_families(d, families);
    if (is_object && d->names != NULL)
        json_add_u64(object, "sequence", d->style.sequence);
    code = d->is_salvage ? dump_close_salvage(d, code) : dump_close_database(d, code);
    if (!is_object)
        return code;
    json_add(object, "families", families);
    return json_finish(&d->cli, object, code);
}

int main(int argc, char **argv)
{
    struct dumper d = {0};
    cli_init(&d.cli, "lsm-dump", help);
    take_options(&d, argc, argv);
    const char *const written[] = {d.checkpoint != NULL ? d.checkpoint : d.file, NULL};
    /* A file can only be linked from where as much is allowed as where it is linked to. */
    sandbox_enter(&d.cli, &(struct sandbox_wish){.write_files = written,
                                                 .writes_database = d.checkpoint != NULL});
    int code = d.work >= DUMP_MANIFESTS    ? dump_inspect(&d)
               : d.work == DUMP_CHECKPOINT ? dump_checkpoint(&d)
                                           : dump_database(&d);
    text_release(&d.directory);
    text_release(&d.find_key);
    cli_release(&d.cli);
    return code;
}
