/*
 * lsm-compact: merges tables now, says how they stand and who merges what, or stops that.
 *
 * One column family after the other. What cannot be merged because it is damaged is left alone and
 * reported; the rest is still compacted.
 */
#include "tools/cli/memory.h"
#include "tools/cli/sandbox.h"
#include "tools/compact/compact.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* clang-format off */
static const char help[] =
    "Usage: lsm-compact [OPTION]... DIR\n"
    "Merge the tables of the database in DIR, so that deleted and overwritten data give up their\n"
    "space, and reads look into fewer files.\n"
    "\n"
    "      --range=FIRST..END  only keys from FIRST up to END; either may be empty\n"
    "      --level=N           only the tables of this level; 0 is the newest\n"
    "      --bottommost=skip|changed|force\n"
    "                          write the lowest level again, too: what a rewrite changes, for it\n"
    "                          holds deletions or is not compressed yet; or all (default: skip)\n"
    "      --compression=none|zstd[:LEVEL]\n"
    "                          of what is written to the lowest level this time\n"
    "      --recompress        write all of the lowest level again, with the compression of the\n"
    "                          column family or that of --compression\n"
    "      --max-bytes=BYTES   stop after having merged about so much\n"
    "      --until=HH:MM       stop at this time of day\n"
    "      --pause-if-stall    wait as long as writers of any process wait\n"
    "      --threads=N         threads that merge (default: one a processor)\n"
    "      --status            only show the levels, and who merges what; nothing is changed\n"
    "      --cancel            ask all that were told to compact it, in any process, to stop\n"
    CLI_RANGE_HELP
    CLI_HELP
    "\n"
    "Exit status: 0 done, 4 damage found, 8 could not work, 16 wrong usage, 32 cancelled.\n"
    "The manual: lsm-compact(1).\n";

enum {
    OPTION_RANGE = CLI_OPTION_OWN,
    OPTION_LEVEL,
    OPTION_BOTTOMMOST,
    OPTION_COMPRESSION,
    OPTION_RECOMPRESS,
    OPTION_MAX_BYTES,
    OPTION_UNTIL,
    OPTION_PAUSE,
    OPTION_STATUS,
    OPTION_CANCEL,
};

static const struct option long_options[] = {
    {"range", required_argument, NULL, OPTION_RANGE},
    {"level", required_argument, NULL, OPTION_LEVEL},
    {"bottommost", required_argument, NULL, OPTION_BOTTOMMOST},
    {"compression", required_argument, NULL, OPTION_COMPRESSION},
    {"recompress", no_argument, NULL, OPTION_RECOMPRESS},
    {"max-bytes", required_argument, NULL, OPTION_MAX_BYTES},
    {"until", required_argument, NULL, OPTION_UNTIL},
    {"pause-if-stall", no_argument, NULL, OPTION_PAUSE},
    {"status", no_argument, NULL, OPTION_STATUS},
    {"cancel", no_argument, NULL, OPTION_CANCEL},
    CLI_THREAD_OPTIONS,
    CLI_RANGE_OPTIONS,
    CLI_LONG_OPTIONS,
    {NULL, 0, NULL, 0},
};
/* clang-format on */

struct compactor {
    struct cli cli;
    lsm_compact_options wish; /* without the range */
    bool is_status, is_cancel;
    uint64_t max_bytes; /* 0: no limit */
    time_t deadline;    /* 0: none */
    char *range_first;  /* owned copy of --range's halves; NULL: not given */
    const char *range_limit;
    struct text after_prefix; /* the first key behind every key with the prefix */

    struct io *io; /* to look at the files with */
    lsm_db *db;
    char **names;
    size_t name_count;
    size_t worked_count;          /* families of `names` that were compacted, or tried */
    uint64_t read_before;         /* by merges of this process, when the family was begun */
    uint64_t written_before;      /* the same */
    uint64_t bytes_now;           /* read for the family, as it was told last */
    char note[CLI_SIZE_TEXT + 8]; /* in the bar */
    unsigned damage_count;        /* of this family, reported */
    const char *stopped_by;       /* "--max-bytes", "--until"; NULL: not stopped */
};

/* ---- options --------------------------------------------------------------------------------- */

static void take_range(struct compactor *c, const char *text)
{
    memory_free(c->range_first);
    c->range_first = memory_copy_text(text);
    char *dots = strstr(c->range_first, "..");
    if (dots == NULL)
        cli_usage(&c->cli, "--range: '..' between the first and the last key is missing");
    *dots = '\0';
    c->range_limit = dots + 2;
    if (c->range_first[0] != '\0')
        c->cli.start_text = c->range_first;
    if (c->range_limit[0] != '\0')
        c->cli.end_text = c->range_limit;
}

static void take_until(struct compactor *c, const char *text)
{
    time_t now = time(NULL);
    struct tm day = {0};
    const char *rest = NULL;
    localtime_r(&now, &day);
    day.tm_sec = 0;
    day.tm_isdst = -1;
    rest = strptime(text, "%H:%M", &day);
    if (rest == NULL || *rest != '\0')
        cli_usage(&c->cli, "--until: '%s' is not a time such as 06:30", text);
    c->deadline = mktime(&day);
    if (c->deadline <= now) {
        day.tm_mday++;
        day.tm_isdst = -1;
        c->deadline = mktime(&day);
    }
}

static void take_bottommost(struct compactor *c, const char *text)
{
    c->wish.force_bottom = strcmp(text, "force") == 0;
    c->wish.refresh_bottom = strcmp(text, "changed") == 0;
    if (!c->wish.force_bottom && !c->wish.refresh_bottom && strcmp(text, "skip") != 0)
        cli_usage(&c->cli, "--bottommost: '%s' is not one of skip, changed, force", text);
}

/* As the option of a column family. */
static void take_compression(struct compactor *c, const char *text)
{
    lsm_options options = LSM_OPTIONS_INIT;
    struct text option = {0};
    text_append_format(&option, "compression=%s", text);
    if (strchr(text, ',') != NULL ||
        lsm_options_parse(&options, text_string(&option), NULL) != LSM_OK)
        cli_usage(&c->cli, "--compression: '%s' is neither none nor zstd or zstd:LEVEL", text);
    c->wish.compression = options.cf.compression;
    c->wish.compression_level = options.cf.compression_level;
    text_release(&option);
}

static void take_option(struct compactor *c, int option, bool *recompresses)
{
    switch (option) {
    case OPTION_RANGE:
        take_range(c, optarg);
        break;
    case OPTION_LEVEL:
        c->wish.one_level = true;
        c->wish.level = (uint32_t)cli_number(&c->cli, "--level", optarg, VERSION_LEVELS - 1);
        break;
    case OPTION_BOTTOMMOST:
        take_bottommost(c, optarg);
        break;
    case OPTION_COMPRESSION:
        take_compression(c, optarg);
        break;
    case OPTION_RECOMPRESS:
        *recompresses = true;
        break;
    case OPTION_MAX_BYTES:
        c->max_bytes = cli_size(&c->cli, "--max-bytes", optarg);
        break;
    case OPTION_UNTIL:
        take_until(c, optarg);
        break;
    case OPTION_PAUSE:
        c->wish.pause_if_stall = true;
        break;
    case OPTION_STATUS:
        c->is_status = true;
        break;
    case OPTION_CANCEL:
        c->is_cancel = true;
        break;
    default:
        cli_take_option(&c->cli, option, optarg);
    }
}

static void take_options(struct compactor *c, int argc, char **argv)
{
    int option;
    bool recompresses = false;
    while ((option = getopt_long(argc, argv, CLI_SHORT_OPTIONS, long_options, NULL)) != -1)
        take_option(c, option, &recompresses);
    if (c->is_status && c->is_cancel)
        cli_usage(&c->cli, "--status and --cancel contradict each other");
    c->wish.force_bottom = c->wish.force_bottom || recompresses;
    cli_parsed(&c->cli, argc, argv, optind);
}

/* ---- the range ------------------------------------------------------------------------------- */

/* Sets after_prefix. False when no key is behind the prefix (it is empty or all 0xff). */
static bool make_after_prefix(struct compactor *c)
{
    text_clear(&c->after_prefix);
    text_append(&c->after_prefix, c->cli.prefix.bytes, c->cli.prefix.size);
    while (c->after_prefix.size > 0) {
        char *last = c->after_prefix.bytes + c->after_prefix.size - 1;
        if ((unsigned char)*last != 0xff) {
            *last = (char)((unsigned char)*last + 1);
            return true;
        }
        c->after_prefix.size--;
    }
    return false;
}

static bool sorts_before(lsm_slice a, lsm_slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    return order < 0 || (order == 0 && a.size < b.size);
}

/* The narrower of --start, --end and --prefix. False when no key can be in it. */
static bool set_range(struct compactor *c, lsm_compact_options *options)
{
    if (c->cli.has_start)
        options->first = text_slice(&c->cli.start);
    if (c->cli.has_end)
        options->limit = text_slice(&c->cli.end);
    if (c->cli.has_prefix) {
        lsm_slice prefix = text_slice(&c->cli.prefix);
        if (options->first.data == NULL || sorts_before(options->first, prefix))
            options->first = prefix;
        if (make_after_prefix(c)) {
            lsm_slice behind = text_slice(&c->after_prefix);
            if (options->limit.data == NULL || sorts_before(behind, options->limit))
                options->limit = behind;
        }
    }
    return options->first.data == NULL || options->limit.data == NULL ||
           sorts_before(options->first, options->limit);
}

/* ---- compacting ------------------------------------------------------------------------------ */

static uint64_t property(const struct compactor *c, const char *name)
{
    uint64_t value = 0;
    return lsm_property(c->db, NULL, name, &value, NULL) == LSM_OK ? value : 0;
}

static bool told_progress(void *context, uint64_t bytes_done, uint64_t bytes_total)
{
    struct compactor *c = context;
    char size[CLI_SIZE_TEXT];
    uint64_t written =
        property(c, "compaction-bytes-written") + property(c, "compaction-bytes-running");
    c->bytes_now = bytes_done;
    (void)snprintf(c->note, sizeof c->note, "%s out",
                   cli_format_size(written - c->written_before, size));
    c->cli.progress.note = c->note;
    progress_update(&c->cli.progress, bytes_done, bytes_total, bytes_done);
    if (c->max_bytes != 0 && c->read_before + bytes_done >= c->max_bytes)
        c->stopped_by = "--max-bytes";
    else if (c->deadline != 0 && time(NULL) >= c->deadline)
        c->stopped_by = "--until";
    return c->stopped_by == NULL && !cli_is_cancelled();
}

static void told_damage(void *context, const lsm_error *err)
{
    struct compactor *c = context;
    c->damage_count++;
    (void)cli_library_error(&c->cli, "left as it is", err);
}

static int judge(struct compactor *c, lsm_status status, const lsm_error *err)
{
    if (status == LSM_OK || (status == LSM_CANCELLED && c->stopped_by != NULL))
        return c->damage_count > 0 ? EXIT_DAMAGE : EXIT_DONE;
    if (status == LSM_CORRUPT && c->damage_count > 0)
        return EXIT_DAMAGE; /* told already */
    int damage = c->damage_count > 0 ? EXIT_DAMAGE : EXIT_DONE;
    if (status == LSM_CANCELLED && cli_is_cancelled())
        return damage | cli_cancelled(&c->cli);
    if (status == LSM_CANCELLED)
        return damage | cli_error(&c->cli, EXIT_CANCELLED, "CANCELLED",
                                  "cancelled by another process; what was merged stays merged");
    return damage | cli_library_error(&c->cli, NULL, err);
}

static int compact_one(struct compactor *c, lsm_cf *cf)
{
    lsm_error err = {0};
    lsm_compact_options options = c->wish;
    options.progress = told_progress;
    options.progress_context = c;
    options.damaged = told_damage;
    options.damaged_context = c;
    c->bytes_now = 0;
    c->damage_count = 0;
    c->read_before = property(c, "compaction-bytes-read");
    c->written_before = property(c, "compaction-bytes-written");
    progress_pass(&c->cli.progress, lsm_cf_name(cf));
    lsm_status status = LSM_OK;
    if (set_range(c, &options))
        status = lsm_compact_range(c->db, cf, &options, &err);
    progress_end(&c->cli.progress, c->bytes_now);
    return judge(c, status, &err);
}

static int work_on_family(struct compactor *c, const char *name)
{
    lsm_error err = {0};
    lsm_cf *cf = NULL;
    lsm_status status = lsm_cf_open(c->db, name, &cf, &err);
    if (status == LSM_MISSING) {
        cli_warn(&c->cli, "column family '%s' was dropped meanwhile", name);
        return EXIT_DONE;
    }
    return status == LSM_OK ? compact_one(c, cf) : cli_library_error(&c->cli, NULL, &err);
}

/* Damage of one family (4) does not keep the others from being compacted; all else does. */
static int work_on_families(struct compactor *c)
{
    int code = EXIT_DONE;
    for (; c->worked_count < c->name_count; c->worked_count++) {
        if (!cli_wants_family(&c->cli, c->names[c->worked_count]))
            continue;
        if (cli_is_cancelled())
            return code | cli_cancelled(&c->cli);
        code |= work_on_family(c, c->names[c->worked_count]);
        if ((code & ~EXIT_DAMAGE) != 0 || c->stopped_by != NULL) {
            c->worked_count++;
            break;
        }
    }
    return code;
}

/* ---- what became of it ----------------------------------------------------------------------- */

static void show_text(struct compactor *c, const struct inspect_live *before,
                      const struct inspect_live *after)
{
    char in[CLI_SIZE_TEXT], out[CLI_SIZE_TEXT];
    if (c->cli.quiet)
        return;
    for (size_t i = 0; i < c->worked_count; i++) {
        const struct inspect_family *family = compact_family(before, c->names[i]);
        const struct inspect_family *now = compact_family(after, c->names[i]);
        if (family != NULL && now != NULL && cli_wants_family(&c->cli, c->names[i]))
            compact_print_levels(family, now);
    }
    printf("merged %s, wrote %s\n", cli_format_size(property(c, "compaction-bytes-read"), in),
           cli_format_size(property(c, "compaction-bytes-written"), out));
    if (c->stopped_by != NULL)
        printf("stopped by %s\n", c->stopped_by);
}

static void show_json(struct compactor *c, const struct inspect_live *before,
                      const struct inspect_live *after, struct json_object *object)
{
    struct json_object *families = json_object_new_array();
    for (size_t i = 0; i < c->worked_count; i++) {
        if (!cli_wants_family(&c->cli, c->names[i]))
            continue;
        struct json_object *family = json_object_new_object();
        json_add(family, "name", json_bytes(LSM_SLICE(c->names[i], strlen(c->names[i]))));
        json_add(family, "before", compact_levels_json(compact_family(before, c->names[i])));
        json_add(family, "after", compact_levels_json(compact_family(after, c->names[i])));
        json_object_array_add(families, family);
    }
    json_add(object, "families", families);
    json_add_u64(object, "bytes-merged", property(c, "compaction-bytes-read"));
    json_add_u64(object, "bytes-written", property(c, "compaction-bytes-written"));
    if (c->stopped_by != NULL)
        json_add_text(object, "stopped-by", c->stopped_by);
}

static int open_database(struct compactor *c)
{
    lsm_error err = {0};
    c->cli.options.create = false;
    if (c->cli.rate != 0)
        c->cli.options.background_rate = c->cli.rate;
    if (c->cli.options.max_merge_threads == 0 && c->cli.options.workers != LSM_NO_WORKERS)
        c->cli.options.max_merge_threads = c->cli.options.workers;
    if (lsm_open(c->cli.directory, &c->cli.options, &c->db, &err) != LSM_OK ||
        lsm_cf_list(c->db, &c->names, &c->name_count, &err) != LSM_OK)
        return cli_library_error(&c->cli, NULL, &err);
    return cli_check_families(&c->cli, c->names, c->name_count);
}

static int close_database(struct compactor *c, int code)
{
    lsm_error err = {0};
    if (c->db != NULL && lsm_close(c->db, &err) != LSM_OK)
        code |= cli_library_error(&c->cli, "closing", &err);
    c->db = NULL;
    return code;
}

/*
 * The levels are looked at from outside, and before the database is opened, for its workers begin
 * at once. Where that cannot be done (the segment may be hidden) the work is done all the same;
 * what is wrong with the files the open says.
 */
static int compact(struct compactor *c, struct json_object *object)
{
    struct inspect_live *before = NULL;
    if (inspect_live_open(c->io, c->cli.directory, &before, NULL) != LSM_OK)
        before = NULL;
    int code = open_database(c);
    if (code == EXIT_DONE) {
        code = work_on_families(c);
        struct inspect_live *after = compact_look(&c->cli, c->io, &code);
        if (object != NULL)
            show_json(c, before, after, object);
        else
            show_text(c, before, after);
        inspect_live_free(after);
    }
    inspect_live_free(before);
    return close_database(c, code);
}

static int run(struct compactor *c, struct json_object *object)
{
    lsm_error err = {0};
    if (io_open("posix", &c->io, &err) != LSM_OK)
        return cli_library_error(&c->cli, NULL, &err);
    if (c->is_status)
        return compact_status(&c->cli, c->io, object);
    return c->is_cancel ? compact_cancel(&c->cli, c->io, object) : compact(c, object);
}

int main(int argc, char **argv)
{
    struct compactor c = {0};
    cli_init(&c.cli, "lsm-compact", help);
    take_options(&c, argc, argv);
    sandbox_enter(&c.cli, &(struct sandbox_wish){.writes_database = !c.is_status});

    struct json_object *object = c.cli.json ? json_begin("lsm-compact/1") : NULL;
    int code = run(&c, object);
    if (object != NULL)
        code = json_finish(&c.cli, object, code);
    else if (fflush(stdout) != 0)
        code |= cli_error(&c.cli, EXIT_OPERATION, "LSM_IO", "cannot write to stdout");
    io_close(c.io);
    lsm_free(c.names);
    memory_free(c.range_first);
    text_release(&c.after_prefix);
    cli_release(&c.cli);
    return code;
}
