/*
 * lsm-dump: the contents of a database as text.
 *
 * One snapshot serves all column families. A section's header is written before anything of it is
 * read, and its end only after all of it was: whatever stops the dump leaves a section without its
 * end, which every careful loader refuses.
 */
#include "tools/cli/cli.h"
#include "tools/cli/dump_format.h"
#include "tools/cli/json.h"
#include "tools/cli/memory.h"
#include "tools/cli/output.h"

#include <inttypes.h>
#include <stdio.h>
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
};

static const struct option long_options[] = {
    {"file", required_argument, NULL, 'f'},
    {"print", no_argument, NULL, 'p'},
    {"all", no_argument, NULL, 'a'},
    {"section", required_argument, NULL, 's'},
    {"list", no_argument, NULL, 'l'},
    {"digest", no_argument, NULL, OPTION_DIGEST},
    {"compat", required_argument, NULL, OPTION_COMPAT},
    CLI_RANGE_OPTIONS,
    CLI_LONG_OPTIONS,
    {NULL, 0, NULL, 0},
};
/* clang-format on */

enum dump_work {
    DUMP_CONTENTS,
    DUMP_NAMES,
    DUMP_DIGESTS,
};

struct dumper {
    struct cli cli;
    enum dump_work work;
    struct dump_style style;
    bool compat_given;
    const char *file;

    lsm_db *db;
    lsm_snapshot *snapshot;
    char **names; /* of lsm_cf_list() */
    size_t name_count;
    struct output output;
    struct digest digest;
    uint64_t pair_count;     /* of all families so far */
    uint64_t byte_count;     /* of keys and values so far */
    uint64_t entry_estimate; /* of the family */
    uint64_t map_bytes;
};

/* ---- options --------------------------------------------------------------------------------- */

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

/* ---- walking a family ------------------------------------------------------------------------ */

typedef int (*pair_visitor)(struct dumper *d, lsm_slice key, lsm_slice value);

static lsm_read_options range_of(const struct dumper *d)
{
    lsm_read_options options = {.snapshot = d->snapshot, .no_fill_cache = true};
    if (d->cli.has_start)
        options.first = text_slice(&d->cli.start);
    if (d->cli.has_end)
        options.limit = text_slice(&d->cli.end);
    if (d->cli.has_prefix)
        options.prefix = text_slice(&d->cli.prefix);
    return options;
}

static int visit_pairs(struct dumper *d, lsm_iter *iter, pair_visitor visit)
{
    uint64_t family_pairs = 0;
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter)) {
        if (cli_is_cancelled())
            return cli_cancelled(&d->cli);
        lsm_slice key = lsm_iter_key(iter), value = lsm_iter_value(iter);
        int code = visit(d, key, value);
        if (code != EXIT_DONE)
            return code;
        family_pairs++;
        d->byte_count += key.size + value.size;
        progress_update(&d->cli.progress, family_pairs, d->entry_estimate, d->byte_count);
        cli_throttle(&d->cli, d->byte_count);
    }
    d->pair_count += family_pairs;
    progress_end(&d->cli.progress, family_pairs);
    lsm_error err = {0};
    if (lsm_iter_status(iter, &err) != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    return cli_is_cancelled() ? cli_cancelled(&d->cli) : EXIT_DONE;
}

/* Calls `visit` for each pair of the family in the range, in order. */
static int walk_family(struct dumper *d, const char *name, pair_visitor visit)
{
    lsm_error err = {0};
    lsm_cf *cf = NULL;
    lsm_iter *iter = NULL;
    lsm_read_options options = range_of(d);
    d->entry_estimate = 0;
    if (lsm_cf_open(d->db, name, &cf, &err) != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    if (lsm_property(d->db, cf, "entries", &d->entry_estimate, NULL) != LSM_OK)
        d->entry_estimate = 0; /* the bar then shows no end */
    if (lsm_iter_open(d->db, cf, &options, &iter, &err) != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    progress_pass(&d->cli.progress, name);
    int code = visit_pairs(d, iter, visit);
    lsm_iter_close(iter);
    return code;
}

/* ---- contents -------------------------------------------------------------------------------- */

static int fail_output(struct dumper *d)
{
    if (cli_is_cancelled())
        return cli_cancelled(&d->cli);
    return cli_error(&d->cli, EXIT_OPERATION, "LSM_IO", "cannot write '%s': %s",
                     d->file == NULL ? "stdout" : d->file, strerror(d->output.os_errno));
}

static int refuse_pair(struct dumper *d, lsm_slice key, lsm_slice value)
{
    const char *why = dump_refuses_pair(&d->style, key, value);
    if (why == NULL)
        return EXIT_DONE;
    return cli_error(&d->cli, EXIT_OPERATION, "LSM_UNSUPPORTED", "%s (column family '%s')", why,
                     d->cli.progress.name);
}

static int measure_pair(struct dumper *d, lsm_slice key, lsm_slice value)
{
    d->map_bytes += dump_map_bytes(key, value);
    return refuse_pair(d, key, value);
}

static int write_pair(struct dumper *d, lsm_slice key, lsm_slice value)
{
    int code = d->style.format == DUMP_LMDB ? EXIT_DONE : refuse_pair(d, key, value);
    if (code != EXIT_DONE)
        return code;
    dump_write_pair(&d->output.pending, &d->style, key, value);
    if (d->style.format == DUMP_NATIVE || d->style.format == DUMP_JSONL)
        digest_add(&d->digest, key, value);
    return output_put(&d->output) ? EXIT_DONE : fail_output(d);
}

/*
 * A family that is alone and called "default" is dumped without a name, so that it becomes the main
 * database of Berkeley DB and LMDB.
 */
static const char *section_name(const struct dumper *d, const char *name, size_t wanted_count)
{
    bool is_peer_format = d->style.format == DUMP_BDB || d->style.format == DUMP_LMDB;
    if (is_peer_format && wanted_count == 1 &&
        strcmp(name, lsm_cf_name(lsm_cf_default(d->db))) == 0)
        return NULL;
    return name;
}

static size_t count_wanted(const struct dumper *d)
{
    size_t count = 0;
    for (size_t i = 0; i < d->name_count; i++)
        count += cli_wants_family(&d->cli, d->names[i]) ? 1 : 0;
    return count;
}

/* What can be refused is refused before a byte is written. */
static int check_contents(struct dumper *d)
{
    size_t wanted = count_wanted(d);
    for (size_t i = 0; i < d->name_count; i++) {
        if (!cli_wants_family(&d->cli, d->names[i]) || section_name(d, d->names[i], wanted) == NULL)
            continue;
        const char *why = dump_refuses_name(&d->style, d->names[i]);
        if (why != NULL)
            return cli_error(&d->cli, EXIT_OPERATION, "LSM_UNSUPPORTED",
                             "the name of column family %zu of %zu: %s", i + 1, d->name_count, why);
    }
    if (d->style.format != DUMP_LMDB)
        return EXIT_DONE;
    for (size_t i = 0; i < d->name_count; i++) {
        if (!cli_wants_family(&d->cli, d->names[i]))
            continue;
        int code = walk_family(d, d->names[i], measure_pair);
        if (code != EXIT_DONE)
            return code;
    }
    d->style.map_size = dump_map_size(d->map_bytes);
    d->pair_count = 0;
    d->byte_count = 0;
    return EXIT_DONE;
}

static int write_family(struct dumper *d, const char *name, size_t wanted_count)
{
    digest_begin(&d->digest);
    dump_write_header(&d->output.pending, &d->style, section_name(d, name, wanted_count));
    int code = walk_family(d, name, write_pair);
    if (code == EXIT_DONE)
        dump_write_end(&d->output.pending, &d->style, &d->digest);
    return code;
}

static void say_what_was_dumped(struct dumper *d, size_t wanted)
{
    char size[CLI_SIZE_TEXT];
    cli_note(&d->cli, "%" PRIu64 " pairs of %zu column families as of sequence %" PRIu64 ", %s",
             d->pair_count, wanted, lsm_snapshot_sequence(d->snapshot),
             cli_format_size(d->byte_count, size));
}

static int dump_contents(struct dumper *d)
{
    size_t wanted = count_wanted(d);
    int code = check_contents(d);
    if (code != EXIT_DONE)
        return code;
    if (!output_open(&d->output, d->file)) {
        code = fail_output(d);
        output_close(&d->output);
        return code;
    }
    dump_write_begin(&d->output.pending, &d->style);
    for (size_t i = 0; i < d->name_count && code == EXIT_DONE; i++) {
        if (cli_wants_family(&d->cli, d->names[i]))
            code = write_family(d, d->names[i], wanted);
    }
    if (code == EXIT_DONE)
        dump_write_finish(&d->output.pending, &d->style, wanted);
    if (code == EXIT_DONE && !output_commit(&d->output))
        code = fail_output(d);
    output_close(&d->output);
    if (code == EXIT_DONE)
        say_what_was_dumped(d, wanted);
    return code;
}

/* ---- names and digests ----------------------------------------------------------------------- */

static int add_to_digest(struct dumper *d, lsm_slice key, lsm_slice value)
{
    digest_add(&d->digest, key, value);
    return EXIT_DONE;
}

/* The line of a family, or its object in `families`. */
static void describe_family(struct dumper *d, const char *name, struct json_object *families)
{
    struct text line = {0};
    if (families == NULL) {
        if (d->work == DUMP_DIGESTS)
            text_append_format(&line, "%016" PRIx64 "  %" PRIu64 "  ", digest_value(&d->digest),
                               d->digest.pair_count);
        text_append_print(&line, LSM_SLICE(name, strlen(name)));
        puts(text_string(&line));
        text_release(&line);
        return;
    }
    struct json_object *family = json_object_new_object();
    json_add_text(family, "name", name);
    if (d->work == DUMP_DIGESTS) {
        text_append_format(&line, "%016" PRIx64, digest_value(&d->digest));
        json_add_text(family, "xxh3", text_string(&line));
        json_add_u64(family, "count", d->digest.pair_count);
        json_add_u64(family, "bytes", d->digest.byte_count);
    }
    json_object_array_add(families, family);
    text_release(&line);
}

static int describe_families(struct dumper *d, struct json_object *families)
{
    for (size_t i = 0; i < d->name_count; i++) {
        if (!cli_wants_family(&d->cli, d->names[i]))
            continue;
        if (d->work == DUMP_DIGESTS) {
            digest_begin(&d->digest);
            int code = walk_family(d, d->names[i], add_to_digest);
            if (code != EXIT_DONE)
                return code;
        }
        describe_family(d, d->names[i], families);
    }
    if (fflush(stdout) != 0)
        return cli_error(&d->cli, EXIT_OPERATION, "LSM_IO", "cannot write to stdout");
    return EXIT_DONE;
}

/* ---- the database ---------------------------------------------------------------------------- */

static int open_database(struct dumper *d)
{
    lsm_error err = {0};
    char reason[256];
    size_t size = 0;
    d->cli.options.read_only = true;
    d->cli.options.create = false;
    if (lsm_open(d->cli.directory, &d->cli.options, &d->db, &err) != LSM_OK ||
        lsm_snapshot_acquire(d->db, &d->snapshot, &err) != LSM_OK ||
        lsm_cf_list(d->db, &d->names, &d->name_count, &err) != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    if (lsm_property_text(d->db, NULL, "io", reason, sizeof reason, &size, NULL) == LSM_OK)
        cli_note(&d->cli, "I/O: %s", reason);
    d->style.sequence = lsm_snapshot_sequence(d->snapshot);
    return cli_check_families(&d->cli, d->names, d->name_count);
}

static int close_database(struct dumper *d, int code)
{
    lsm_error err = {0};
    lsm_free(d->names);
    if (d->db == NULL)
        return code;
    lsm_snapshot_release(d->db, d->snapshot);
    if (lsm_close(d->db, &err) != LSM_OK)
        code |= cli_library_error(&d->cli, "closing", &err);
    return code;
}

int main(int argc, char **argv)
{
    struct dumper d = {0};
    cli_init(&d.cli, "lsm-dump", help);
    take_options(&d, argc, argv);

    bool is_object = d.cli.json && d.work != DUMP_CONTENTS;
    struct json_object *object = is_object ? json_begin("lsm-dump/1") : NULL;
    struct json_object *families = is_object ? json_object_new_array() : NULL;

    int code = open_database(&d);
    if (code == EXIT_DONE)
        code = d.work == DUMP_CONTENTS ? dump_contents(&d) : describe_families(&d, families);
    if (is_object && d.snapshot != NULL)
        json_add_u64(object, "sequence", lsm_snapshot_sequence(d.snapshot));
    code = close_database(&d, code);
    if (is_object) {
        json_add(object, "families", families);
        code = json_finish(&d.cli, object, code);
    }
    digest_release(&d.digest);
    cli_release(&d.cli);
    return code;
}
