/*
 * lsm-load: text into a database.
 *
 * The input is read once, a pair at a time, into batches. Nothing that cannot be understood is
 * skipped: the first such line ends the load with its number, and what earlier batches wrote stays.
 * With --atomic all pairs are kept in memory until the input has shown its end, then they become
 * one batch. The database is opened, and perhaps created, when the first header was understood.
 */
#include "tools/cli/cli.h"
#include "tools/cli/dump_format.h"
#include "tools/cli/json.h"
#include "tools/cli/key_set.h"
#include "tools/cli/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LOAD_BATCH_PAIRS   UINT64_C(1000)
#define LOAD_BATCH_BYTES   ((size_t)4 << 20)
#define LOAD_STAGE_DEFAULT ((uint64_t)16 << 20) /* see lsm_options.stage_size */
#define LOAD_DEFAULT_NAME  "default"

/* clang-format off */
static const char help[] =
    "Usage: lsm-load [OPTION]... DIR\n"
    "Read pairs of keys and values from a file or from stdin and write them to the database in\n"
    "DIR. The formats of lsm-dump, db_dump and mdb_dump are told apart by themselves.\n"
    "\n"
    "  -f, --file=FILE         read FILE instead of stdin\n"
    "  -T, --text              plain text: a line with a key, a line with its value, and so on\n"
    "      --create            make the database and the column families that are missing\n"
    "  -n, --no-overwrite      keep the values of keys that are there already\n"
    "  -s, --rename=[OLD=]NEW  load the section OLD, or the only one, into column family NEW\n"
    "      --crlf              lines may end with CR LF\n"
    "      --batch=N           write N pairs at a time (default 1000)\n"
    "      --sync=none|end|batch\n"
    "                          when to wait for stable storage (default end)\n"
    "      --atomic            all pairs or none; they must fit into one batch\n"
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
    OPTION_BATCH,
    OPTION_SYNC,
    OPTION_ATOMIC,
    OPTION_DRY_RUN,
};

static const struct option long_options[] = {
    {"file", required_argument, NULL, 'f'},
    {"text", no_argument, NULL, 'T'},
    {"create", no_argument, NULL, OPTION_CREATE},
    {"no-overwrite", no_argument, NULL, 'n'},
    {"rename", required_argument, NULL, 's'},
    {"crlf", no_argument, NULL, OPTION_CRLF},
    {"batch", required_argument, NULL, OPTION_BATCH},
    {"sync", required_argument, NULL, OPTION_SYNC},
    {"atomic", no_argument, NULL, OPTION_ATOMIC},
    {"dry-run", no_argument, NULL, OPTION_DRY_RUN},
    CLI_THREAD_OPTIONS,
    CLI_LONG_OPTIONS,
    {NULL, 0, NULL, 0},
};
/* clang-format on */

enum load_sync {
    SYNC_NONE,
    SYNC_END,
    SYNC_BATCH,
};

struct rename {
    char *from; /* owned; NULL: the only section */
    const char *to;
};

struct family {
    char *name; /* owned */
    lsm_cf *cf; /* NULL until it is opened, and in a dry run when it would be created */
    bool is_created;
    uint64_t pair_count;
    uint64_t byte_count;
    uint64_t kept_count; /* pairs that -n left as they were */
};

/* A pair that --atomic keeps; its bytes follow in `stage`. */
struct staged_pair {
    size_t family;
    uint64_t line;
    size_t key_size, value_size;
};

struct loader {
    struct cli cli;
    const char *file;
    bool is_text, creates, keeps, strips_cr, is_atomic, is_dry;
    enum load_sync sync;
    uint64_t batch_pairs;
    size_t batch_bytes;
    struct rename *renames;
    size_t rename_count;

    struct lines lines;
    struct dump_reader reader;
    uint64_t section_count;

    lsm_db *db;
    struct family *families;
    size_t family_count;
    size_t family;        /* of the section */
    bool section_ignored; /* --cf leaves it out */
    bool has_previous;    /* previous is a key of the section */
    struct text previous;

    lsm_batch *batch;
    struct key_set pending; /* keys of the batch; only with -n */
    uint64_t first_line;    /* of the batch */
    struct text stage;      /* --atomic */

    uint64_t pair_count, byte_count, kept_count;
    uint64_t batched_pairs, batched_bytes; /* not written yet; in pair_count when they are */
    uint64_t ignored_count;
};

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
        l->batch_pairs = cli_number(&l->cli, "--batch", optarg, LSM_MAX_BATCH_COUNT);
        if (l->batch_pairs == 0)
            cli_usage(&l->cli, "--batch: at least one pair is needed");
        break;
    case OPTION_SYNC:
        take_sync(l, optarg);
        break;
    case OPTION_ATOMIC:
        l->is_atomic = true;
        break;
    case OPTION_DRY_RUN:
        l->is_dry = true;
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
    /* `create` decides here, not in --options, so that no database appears by accident. */
    l->cli.options.create = l->creates && !l->is_dry;
    l->cli.options.read_only = l->is_dry;
    l->batch_bytes = LOAD_BATCH_BYTES;
}

/* ---- the database ---------------------------------------------------------------------------- */

static int open_database(struct loader *l)
{
    lsm_error err = {0};
    char reason[256];
    size_t size = 0;
    if (l->db != NULL)
        return EXIT_DONE;
    lsm_status status = lsm_open(l->cli.directory, &l->cli.options, &l->db, &err);
    if (status == LSM_MISSING && l->is_dry && l->creates)
        return EXIT_DONE; /* it would be created */
    if (status == LSM_MISSING && !l->creates)
        return cli_error(&l->cli, EXIT_OPERATION, cli_status_name(status), "%s; --create makes one",
                         err.message);
    if (status != LSM_OK)
        return cli_library_error(&l->cli, NULL, &err);
    /* The size of the stage file is that of who opened the database first. */
    uint64_t most = 0;
    if (lsm_property(l->db, NULL, "largest-batch", &most, NULL) == LSM_OK && most != 0 &&
        most / 2 < l->batch_bytes)
        l->batch_bytes = (size_t)(most / 2);
    if (lsm_property_text(l->db, NULL, "io", reason, sizeof reason, &size, NULL) == LSM_OK)
        cli_note(&l->cli, "I/O: %s", reason);
    if (!l->is_dry && lsm_batch_new(&l->batch, &err) != LSM_OK)
        return cli_library_error(&l->cli, NULL, &err);
    return EXIT_DONE;
}

static int open_family(struct loader *l, struct family *family)
{
    lsm_error err = {0};
    if (family->cf != NULL || l->db == NULL)
        return EXIT_DONE;
    lsm_status status = lsm_cf_open(l->db, family->name, &family->cf, &err);
    if (status == LSM_MISSING && l->creates) {
        family->is_created = true;
        if (l->is_dry)
            return EXIT_DONE;
        status = lsm_cf_create(l->db, family->name, &l->cli.options.cf, &family->cf, &err);
        family->is_created = status == LSM_OK;
    }
    if (status == LSM_MISSING)
        return cli_error(&l->cli, EXIT_OPERATION, cli_status_name(status),
                         "%s; --create makes it, -s renames the section", err.message);
    return status == LSM_OK ? EXIT_DONE : cli_library_error(&l->cli, NULL, &err);
}

static size_t find_family(struct loader *l, const char *name)
{
    for (size_t i = 0; i < l->family_count; i++) {
        if (strcmp(l->families[i].name, name) == 0)
            return i;
    }
    l->families = memory_resize(l->families, (l->family_count + 1) * sizeof *l->families);
    l->families[l->family_count] = (struct family){.name = memory_copy_text(name)};
    return l->family_count++;
}

/* ---- writing pairs --------------------------------------------------------------------------- */

static int fail_line(struct loader *l, uint64_t line, const lsm_error *err)
{
    char context[48];
    (void)snprintf(context, sizeof context, "line %" PRIu64, line);
    return cli_library_error(&l->cli, context, err);
}

static void clear_batch(struct loader *l)
{
    lsm_batch_clear(l->batch);
    key_set_clear(&l->pending);
    l->batched_pairs = 0;
    l->batched_bytes = 0;
}

static int write_batch(struct loader *l)
{
    lsm_error err = {0};
    char context[80];
    lsm_write_options options = {.durability = l->sync == SYNC_BATCH ? LSM_SYNC : LSM_WRITE};
    if (l->batched_pairs == 0)
        return EXIT_DONE;
    lsm_status status = lsm_write(l->db, l->batch, &options, &err);
    if (status == LSM_TOO_LARGE && l->is_atomic)
        return cli_error(&l->cli, EXIT_OPERATION, cli_status_name(status),
                         "the input does not fit into one batch, nothing was loaded: %s; load "
                         "without --atomic, or raise stage_size with --options",
                         err.message);
    if (status != LSM_OK) {
        (void)snprintf(context, sizeof context, "pairs of lines %" PRIu64 " to %" PRIu64,
                       l->first_line, l->lines.number);
        return cli_library_error(&l->cli, context, &err);
    }
    l->pair_count += l->batched_pairs;
    l->byte_count += l->batched_bytes;
    clear_batch(l);
    return EXIT_DONE;
}

/* Whether -n leaves the pair out: the key is in the database, or in the batch. */
static int key_is_kept(struct loader *l, size_t index, uint64_t line, lsm_slice key, bool *is_kept)
{
    lsm_error err = {0};
    size_t size = LSM_ABSENT;
    *is_kept = false;
    if (!l->keeps)
        return EXIT_DONE;
    if (!key_set_add(&l->pending, index, key)) {
        *is_kept = true;
        return EXIT_DONE;
    }
    if (l->families[index].cf != NULL &&
        lsm_get_into(l->db, l->families[index].cf, key, NULL, NULL, 0, &size, &err) != LSM_OK)
        return fail_line(l, line, &err);
    *is_kept = size != LSM_ABSENT;
    return EXIT_DONE;
}

static int add_pair(struct loader *l, size_t index, uint64_t line, lsm_slice key, lsm_slice value)
{
    lsm_error err = {0};
    struct family *family = &l->families[index];
    bool is_kept = false;
    int code = key_is_kept(l, index, line, key, &is_kept);
    if (code != EXIT_DONE)
        return code;
    if (is_kept) {
        family->kept_count++;
        l->kept_count++;
        return EXIT_DONE;
    }
    if (l->batched_pairs == 0)
        l->first_line = line;
    if (!l->is_dry && lsm_batch_put(l->batch, family->cf, key, value, &err) != LSM_OK)
        return fail_line(l, line, &err);
    family->pair_count++;
    family->byte_count += key.size + value.size;
    l->batched_pairs++;
    l->batched_bytes += key.size + value.size;
    return EXIT_DONE;
}

/* ---- all or nothing -------------------------------------------------------------------------- */

static int stage_pair(struct loader *l, size_t family, uint64_t line, lsm_slice key,
                      lsm_slice value)
{
    char limit[CLI_SIZE_TEXT];
    uint64_t stage = l->cli.options.stage_size;
    uint64_t most = (stage == 0 ? LOAD_STAGE_DEFAULT : stage) / 2;
    struct staged_pair pair = {family, line, key.size, value.size};
    l->batched_bytes += key.size + value.size;
    if (l->batched_bytes > most)
        return cli_error(&l->cli, EXIT_OPERATION, "LSM_TOO_LARGE",
                         "line %" PRIu64
                         ": the input does not fit into one batch of %s, nothing was loaded: load "
                         "without --atomic, or raise stage_size with --options",
                         line, cli_format_size(most, limit));
    text_append(&l->stage, &pair, sizeof pair);
    text_append(&l->stage, key.data, key.size);
    text_append(&l->stage, value.data, value.size);
    return EXIT_DONE;
}

/* What this run created goes again, so that a failed atomic load leaves no trace. */
static void drop_created(struct loader *l)
{
    for (size_t i = 0; i < l->family_count; i++) {
        struct family *family = &l->families[i];
        if (!family->is_created || family->cf == NULL)
            continue;
        lsm_error err = {0};
        if (lsm_cf_drop(l->db, family->cf, &err) != LSM_OK)
            (void)cli_library_error(&l->cli, "dropping the new column family", &err);
        family->cf = NULL;
        family->is_created = false;
    }
}

static int add_staged(struct loader *l)
{
    size_t at = 0;
    l->batched_bytes = 0;
    while (at < l->stage.size) {
        struct staged_pair pair;
        memcpy(&pair, l->stage.bytes + at, sizeof pair);
        at += sizeof pair;
        const char *key = l->stage.bytes + at, *value = key + pair.key_size;
        at += pair.key_size + pair.value_size;
        int code = add_pair(l, pair.family, pair.line, LSM_SLICE(key, pair.key_size),
                            LSM_SLICE(value, pair.value_size));
        if (code != EXIT_DONE)
            return code;
    }
    return EXIT_DONE;
}

static int write_staged(struct loader *l)
{
    int code = open_database(l);
    for (size_t i = 0; i < l->family_count && code == EXIT_DONE; i++)
        code = open_family(l, &l->families[i]);
    if (code == EXIT_DONE)
        code = add_staged(l);
    if (code == EXIT_DONE && cli_is_cancelled())
        code = cli_cancelled(&l->cli);
    if (code == EXIT_DONE && !l->is_dry)
        code = write_batch(l);
    if (code != EXIT_DONE && l->db != NULL)
        drop_created(l);
    return code;
}

/* ---- reading the input ----------------------------------------------------------------------- */

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
    l->family = find_family(l, name);
    if (l->is_atomic)
        return EXIT_DONE;
    int code = open_database(l);
    return code == EXIT_DONE ? open_family(l, &l->families[l->family]) : code;
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
    if (code != EXIT_DONE)
        return code;
    if (l->is_atomic)
        return stage_pair(l, l->family, line, key, value);
    if (!l->is_dry && l->batched_pairs > 0 &&
        (l->batched_pairs >= l->batch_pairs ||
         lsm_batch_size(l->batch) + key.size + value.size > l->batch_bytes)) {
        code = write_batch(l);
        if (code != EXIT_DONE)
            return code;
    }
    return add_pair(l, l->family, line, key, value);
}

static int finish_input(struct loader *l)
{
    lsm_error err = {0};
    int code = EXIT_DONE;
    if (l->is_atomic)
        code = write_staged(l);
    else if (!l->is_dry && l->db != NULL)
        code = write_batch(l);
    if (code == EXIT_DONE && l->db != NULL && !l->is_dry && l->sync == SYNC_END &&
        lsm_sync(l->db, &err) != LSM_OK)
        code = cli_library_error(&l->cli, NULL, &err);
    return code;
}

static int load_input(struct loader *l)
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
            return finish_input(l);
        case DUMP_ERROR:
            return fail_input(l);
        }
        if (code != EXIT_DONE)
            return code;
    }
}

static void warn_reader(void *context, const char *sentence)
{
    cli_warn(context, "%s", sentence);
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
    json_add(object, "dry-run", json_object_new_boolean(l->is_dry));
    json_add_u64(object, "pairs", l->pair_count);
    json_add_u64(object, "bytes", l->byte_count);
    json_add_u64(object, "kept", l->kept_count);
    json_add_u64(object, "ignored", l->ignored_count);
    json_add(object, "seconds", json_object_new_double(seconds));
    json_add(object, "families", families);
}

static void report_text(struct loader *l, double seconds)
{
    char size[CLI_SIZE_TEXT], rate[CLI_SIZE_TEXT];
    double per_second = seconds > 0 ? (double)l->byte_count / seconds : 0;
    printf("%s %" PRIu64 " pairs, %s, into %zu column famil%s in %.2f s, %s/s\n",
           l->is_dry ? "would load" : "loaded", l->pair_count, cli_format_size(l->byte_count, size),
           l->family_count, l->family_count == 1 ? "y" : "ies", seconds,
           cli_format_size((uint64_t)per_second, rate));
    if (l->kept_count > 0)
        printf("kept the values of %" PRIu64 " keys that were there\n", l->kept_count);
    if (l->ignored_count > 0)
        printf("left out %" PRIu64 " pairs of other sections\n", l->ignored_count);
}

/* Pairs of an unfinished batch were not loaded, those of a dry run only counted. */
static void settle_counts(struct loader *l, int code)
{
    if (l->is_dry && code == EXIT_DONE) {
        l->pair_count = l->batched_pairs;
        l->byte_count = l->batched_bytes;
    }
}

static int close_database(struct loader *l, int code)
{
    lsm_error err = {0};
    lsm_batch_free(l->batch);
    if (l->db != NULL && lsm_close(l->db, &err) != LSM_OK)
        code |= cli_library_error(&l->cli, "closing", &err);
    l->db = NULL;
    return code;
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
    text_release(&l->stage);
    text_release(&l->previous);
    dump_reader_release(&l->reader);
    lines_close(&l->lines);
    cli_release(&l->cli);
}

int main(int argc, char **argv)
{
    struct loader l = {0};
    int code = EXIT_DONE;
    cli_init(&l.cli, "lsm-load", help);
    take_options(&l, argc, argv);

    uint64_t began = cli_now_ns();
    if (lines_open(&l.lines, l.file)) {
        l.lines.strip_cr = l.strips_cr;
        dump_reader_init(&l.reader, &l.lines, l.is_text ? DUMP_PAIRS : DUMP_SNIFF);
        l.reader.warn = warn_reader;
        l.reader.warn_context = &l.cli;
        code = load_input(&l);
    } else {
        code = cli_error(&l.cli, EXIT_OPERATION, "LSM_IO", "cannot read '%s': %s",
                         l.file == NULL ? "stdin" : l.file, strerror(l.lines.os_errno));
    }
    code = close_database(&l, code);
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
