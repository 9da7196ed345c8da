/*
 * lsm-load: text into a database.
 *
 * The input is read once, a pair at a time, into batches or ingests. Nothing that cannot be
 * understood is skipped: the first such line ends the load with its number, and what was written
 * before stays; with --atomic nothing stays. The database is opened, and perhaps created, when the
 * first header was understood.
 */
#include "tools/cli/json.h"
#include "tools/cli/memory.h"
#include "tools/cli/sandbox.h"
#include "tools/load/load.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOAD_BATCH_PAIRS UINT64_C(1000)
#define LOAD_BATCH_BYTES ((size_t)4 << 20)
#define LOAD_SORT_MIN    (UINT64_C(1) << 20)

/* clang-format off */
static const char help[] =
    "Usage: lsm-load [OPTION]... DIR\n"
    "Read pairs of keys and values from a file or from stdin and write them to the database in\n"
    "DIR. The formats of lsm-dump, db_dump, mdb_dump, 'wt dump' and 'ldb dump --hex' are told\n"
    "apart by themselves.\n"
    "\n"
    "  -f, --file=FILE         read FILE instead of stdin\n"
    "  -T, --text              plain text: a line with a key, a line with its value, and so on\n"
    "      --create            make the database and the column families that are missing\n"
    "  -n, --no-overwrite      keep the values of keys that are there already\n"
    "  -s, --rename=[OLD=]NEW  load the section OLD, or the only one, into column family NEW\n"
    "      --crlf              lines may end with CR LF\n"
    "      --bulk              sort the pairs and write them past the log: much faster\n"
    "      --atomic            all pairs or none, in the way of --bulk\n"
    "      --sort-memory=BYTES memory for --bulk and --atomic (default 256M)\n"
    "      --batch=N           write N pairs at a time (default 1000)\n"
    "      --sync=none|end|batch\n"
    "                          when to wait for stable storage (default end)\n"
    "      --resume            go on where an earlier load with --resume was interrupted\n"
    "      --dry-run           only read and check the input\n"
    "      --threads=N         threads that flush and merge\n"
    CLI_HELP
    "\n"
    "Exit status: 0 done, 1 pairs were kept by -n, 4 the input or the database is damaged,\n"
    "8 could not work, 16 wrong usage, 32 cancelled.\n"
    "The manual: lsm-load(1).\n";

enum {
    OPTION_CREATE = CLI_OPTION_OWN,
    OPTION_CRLF,
    OPTION_BULK,
    OPTION_ATOMIC,
    OPTION_SORT_MEMORY,
    OPTION_BATCH,
    OPTION_SYNC,
    OPTION_RESUME,
    OPTION_DRY_RUN,
};

static const struct option long_options[] = {
    {"file", required_argument, NULL, 'f'},
    {"text", no_argument, NULL, 'T'},
    {"create", no_argument, NULL, OPTION_CREATE},
    {"no-overwrite", no_argument, NULL, 'n'},
    {"rename", required_argument, NULL, 's'},
    {"crlf", no_argument, NULL, OPTION_CRLF},
    {"bulk", no_argument, NULL, OPTION_BULK},
    {"atomic", no_argument, NULL, OPTION_ATOMIC},
    {"sort-memory", required_argument, NULL, OPTION_SORT_MEMORY},
    {"batch", required_argument, NULL, OPTION_BATCH},
    {"sync", required_argument, NULL, OPTION_SYNC},
    {"resume", no_argument, NULL, OPTION_RESUME},
    {"dry-run", no_argument, NULL, OPTION_DRY_RUN},
    CLI_THREAD_OPTIONS,
    CLI_LONG_OPTIONS,
    {NULL, 0, NULL, 0},
};
/* clang-format on */

/* ---- options --------------------------------------------------------------------------------- */

static void take_rename(struct loader *l, const char *text)
{
    const char *equals = strchr(text, '=');
    struct rename rename = {.to = equals == NULL ? text : equals + 1};
    if (equals != NULL) {
        rename.from = memory_copy_text(text);
        rename.from[equals - text] = '\0';
    }
    if (*rename.to == '\0')
        cli_usage(&l->cli, "-s: the new name is empty");
    l->renames = memory_resize(l->renames, (l->rename_count + 1) * sizeof *l->renames);
    l->renames[l->rename_count++] = rename;
}

static void take_sync(struct loader *l, const char *text)
{
    static const char *const words[] = {"none", "end", "batch"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(words[i], text) == 0) {
            l->sync = (enum load_sync)i;
            return;
        }
    }
    cli_usage(&l->cli, "--sync: '%s' is none of none, end, batch", text);
}

static void take_sort_memory(struct loader *l, const char *text)
{
    l->sort_memory = cli_size(&l->cli, "--sort-memory", text);
    if (l->sort_memory < LOAD_SORT_MIN || l->sort_memory > SIZE_MAX / 2)
        cli_usage(&l->cli, "--sort-memory: '%s' is under 1M, or more than there can be", text);
}

/* Of several options the strongest counts: --atomic includes --bulk. */
static void raise_way(struct loader *l, enum load_way way)
{
    l->way = way > l->way ? way : l->way;
}

static void take_option(struct loader *l, int option)
{
    switch (option) {
    case 'f':
        l->file = optarg;
        break;
    case 'T':
        l->is_text = true;
        break;
    case 'n':
        l->keeps = true;
        break;
    case 's':
        take_rename(l, optarg);
        break;
    case OPTION_CREATE:
        l->creates = true;
        break;
    case OPTION_CRLF:
        l->strips_cr = true;
        break;
    case OPTION_BATCH:
        l->batch_given = true;
        l->batch_pairs = cli_number(&l->cli, "--batch", optarg, LSM_MAX_BATCH_COUNT);
        if (l->batch_pairs == 0)
            cli_usage(&l->cli, "--batch: at least one pair is needed");
        break;
    case OPTION_SYNC:
        take_sync(l, optarg);
        break;
    case OPTION_BULK:
        raise_way(l, LOAD_BULK);
        break;
    case OPTION_ATOMIC:
        raise_way(l, LOAD_ATOMIC);
        break;
    case OPTION_DRY_RUN:
        raise_way(l, LOAD_DRY);
        break;
    case OPTION_SORT_MEMORY:
        take_sort_memory(l, optarg);
        break;
    case OPTION_RESUME:
        l->resumes = true;
        break;
    default:
        cli_take_option(&l->cli, option, optarg);
    }
}

static void take_options(struct loader *l, int argc, char **argv)
{
    int option;
    l->batch_pairs = LOAD_BATCH_PAIRS;
    l->sync = SYNC_END;
    while ((option = getopt_long(argc, argv, "f:Tns:" CLI_SHORT_OPTIONS, long_options, NULL)) != -1)
        take_option(l, option);
    cli_parsed(&l->cli, argc, argv, optind);
    if (l->resumes && l->way == LOAD_ATOMIC)
        cli_usage(&l->cli, "--resume: of an atomic load nothing is left to go on with");
    l->batch_bytes = LOAD_BATCH_BYTES;
}

/* ---- what came of it ------------------------------------------------------------------------- */

static void report_json(struct loader *l, struct json_object *object, double seconds)
{
    struct json_object *families = json_object_new_array();
    for (size_t i = 0; i < l->family_count; i++) {
        const struct family *family = &l->families[i];
        struct json_object *entry = json_object_new_object();
        json_add_text(entry, "name", family->name);
        json_add(entry, "created", json_object_new_boolean(family->is_created));
        json_add_u64(entry, "pairs-read", family->pair_count);
        json_add_u64(entry, "bytes-read", family->byte_count);
        json_add_u64(entry, "kept", family->kept_count);
        json_object_array_add(families, entry);
    }
    json_add(object, "dry-run", json_object_new_boolean(l->way == LOAD_DRY));
    json_add_u64(object, "pairs", l->pair_count);
    json_add_u64(object, "bytes", l->byte_count);
    json_add_u64(object, "kept", l->kept_count);
    json_add_u64(object, "ignored", l->ignored_count);
    json_add_u64(object, "resumed", l->resumed_pairs);
    json_add(object, "seconds", json_object_new_double(seconds));
    json_add(object, "families", families);
}

static void report_text(struct loader *l, double seconds)
{
    char size[CLI_SIZE_TEXT], rate[CLI_SIZE_TEXT];
    double per_second = seconds > 0 ? (double)l->byte_count / seconds : 0;
    printf("%s %" PRIu64 " pairs, %s, into %zu column famil%s in %.2f s, %s/s\n",
           l->way == LOAD_DRY ? "would load" : "loaded", l->pair_count,
           cli_format_size(l->byte_count, size), l->family_count,
           l->family_count == 1 ? "y" : "ies", seconds,
           cli_format_size((uint64_t)per_second, rate));
    if (l->kept_count > 0)
        printf("kept the values of %" PRIu64 " keys that were there\n", l->kept_count);
    if (l->resumed_pairs > 0)
        printf("passed over %" PRIu64 " pairs that an earlier load had written\n",
               l->resumed_pairs);
    if (l->ignored_count > 0)
        printf("left out %" PRIu64 " pairs of other sections\n", l->ignored_count);
}

/* Pairs of an unfinished batch were not loaded, those of a dry run only counted. */
static void settle_counts(struct loader *l, int code)
{
    if (l->way == LOAD_DRY && code == EXIT_DONE) {
        l->pair_count = l->batched_pairs;
        l->byte_count = l->batched_bytes;
    }
}

static void warn_reader(void *context, const char *sentence)
{
    cli_warn(context, "%s", sentence);
}

static void release(struct loader *l)
{
    for (size_t i = 0; i < l->family_count; i++)
        memory_free(l->families[i].name);
    memory_free(l->families);
    for (size_t i = 0; i < l->rename_count; i++)
        memory_free(l->renames[i].from);
    memory_free(l->renames);
    key_set_release(&l->pending);
    text_release(&l->previous);
    dump_reader_release(&l->reader);
    lines_close(&l->lines);
    cli_release(&l->cli);
}

static int load(struct loader *l)
{
    if (!lines_open(&l->lines, l->file))
        return cli_error(&l->cli, EXIT_OPERATION, "LSM_IO", "cannot read '%s': %s",
                         l->file == NULL ? "stdin" : l->file, strerror(l->lines.os_errno));
    l->lines.strip_cr = l->strips_cr;
    bool creates = l->creates && l->way != LOAD_DRY;
    bool makes_directory = creates && access(l->cli.directory, F_OK) != 0;
    struct sandbox_wish wish = {.writes_database = l->way != LOAD_DRY, .creates_database = creates};
    sandbox_enter(&l->cli, &wish);
    dump_reader_init(&l->reader, &l->lines, l->is_text ? DUMP_PAIRS : DUMP_SNIFF);
    l->reader.warn = warn_reader;
    l->reader.warn_context = &l->cli;
    int code = load_input(l);
    code =
        code != EXIT_DONE && l->way == LOAD_ATOMIC ? load_take_back(l, code) : load_close(l, code);
    if (makes_directory) /* stays unless the sandbox made it and it is empty */
        (void)rmdir(l->cli.directory);
    return code;
}

int main(int argc, char **argv)
{
    struct loader l = {0};
    cli_init(&l.cli, "lsm-load", help);
    take_options(&l, argc, argv);
    uint64_t began = cli_now_ns();
    int code = load(&l);
    settle_counts(&l, code);
    double seconds = (double)(cli_now_ns() - began) / 1e9;
    if (code != EXIT_DONE)
        cli_note(&l.cli, "%" PRIu64 " pairs had been loaded before", l.pair_count);
    else if (!l.cli.json && !l.cli.quiet)
        report_text(&l, seconds);
    if (code == EXIT_DONE && l.kept_count > 0)
        code = EXIT_CHANGED;
    if (l.cli.json) {
        struct json_object *object = json_begin("lsm-load/1");
        report_json(&l, object, seconds);
        code = json_finish(&l.cli, object, code);
    }
    release(&l);
    return code;
}
