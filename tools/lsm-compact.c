/*
 * lsm-compact: merges tables now, or says how they stand.
 *
 * One column family after the other. What cannot be merged because it is damaged is left alone and
 * reported; the other families are still compacted.
 */
#include "tools/cli/cli.h"
#include "tools/cli/json.h"
#include "tools/cli/memory.h"
#include "tools/cli/sandbox.h"

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
    "      --bottommost=skip|force\n"
    "                          force: write the lowest level again too, even when nothing above\n"
    "                          it overlaps (default: skip)\n"
    "      --max-bytes=BYTES   stop after having merged about so much\n"
    "      --until=HH:MM       stop at this time of day\n"
    "      --threads=N         threads that merge\n"
    "      --status            only show the levels; nothing is changed\n"
    CLI_RANGE_HELP
    CLI_HELP
    "\n"
    "Exit status: 0 done, 4 damage found, 8 could not work, 16 wrong usage, 32 cancelled.\n"
    "The manual: lsm-compact(1).\n";

enum {
    OPTION_RANGE = CLI_OPTION_OWN,
    OPTION_BOTTOMMOST,
    OPTION_MAX_BYTES,
    OPTION_UNTIL,
    OPTION_STATUS,
};

static const struct option long_options[] = {
    {"range", required_argument, NULL, OPTION_RANGE},
    {"bottommost", required_argument, NULL, OPTION_BOTTOMMOST},
    {"max-bytes", required_argument, NULL, OPTION_MAX_BYTES},
    {"until", required_argument, NULL, OPTION_UNTIL},
    {"status", no_argument, NULL, OPTION_STATUS},
    CLI_THREAD_OPTIONS,
    CLI_RANGE_OPTIONS,
    CLI_LONG_OPTIONS,
    {NULL, 0, NULL, 0},
};
/* clang-format on */

struct compactor {
    struct cli cli;
    bool forces_bottom;
    bool is_status;
    uint64_t max_bytes; /* 0: no limit */
    time_t deadline;    /* 0: none */
    char *range_first;  /* owned copy of --range's halves; NULL: not given */
    const char *range_limit;
    struct text after_prefix; /* the first key behind every key with the prefix */

    lsm_db *db;
    char **names;
    size_t name_count;
    uint64_t bytes_done;          /* of the families before */
    uint64_t bytes_now;           /* of this one */
    const char *stopped_by;       /* "--max-bytes", "--until"; NULL: not stopped */
    struct json_object *families; /* NULL: text for people */
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
    c->forces_bottom = strcmp(text, "force") == 0;
    if (!c->forces_bottom && strcmp(text, "skip") != 0)
        cli_usage(&c->cli, "--bottommost: '%s' is neither skip nor force", text);
}

static void take_options(struct compactor *c, int argc, char **argv)
{
    int option;
    while ((option = getopt_long(argc, argv, CLI_SHORT_OPTIONS, long_options, NULL)) != -1) {
        switch (option) {
        case OPTION_RANGE:
            take_range(c, optarg);
            break;
        case OPTION_BOTTOMMOST:
            take_bottommost(c, optarg);
            break;
        case OPTION_MAX_BYTES:
            c->max_bytes = cli_size(&c->cli, "--max-bytes", optarg);
            break;
        case OPTION_UNTIL:
            take_until(c, optarg);
            break;
        case OPTION_STATUS:
            c->is_status = true;
            break;
        default:
            cli_take_option(&c->cli, option, optarg);
        }
    }
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

/* ---- showing levels -------------------------------------------------------------------------- */

/* The library's table; owned by the caller. NULL, and an error was reported, on failure. */
static char *levels_of(struct compactor *c, lsm_cf *cf, int *code)
{
    lsm_error err = {0};
    size_t size = 0, capacity = 4096;
    char *levels = memory_alloc(capacity);
    for (;;) {
        if (lsm_property_text(c->db, cf, "levels", levels, capacity, &size, &err) != LSM_OK) {
            *code |= cli_library_error(&c->cli, NULL, &err);
            memory_free(levels);
            return NULL;
        }
        if (size < capacity)
            return levels;
        capacity = size + 1;
        levels = memory_resize(levels, capacity);
    }
}

static const char *const counted[] = {"entries", "tables", "table-bytes", "level0-tables"};

/* The numbers and the table's lines as an object. */
static struct json_object *levels_as_json(struct compactor *c, lsm_cf *cf, const char *levels)
{
    struct json_object *object = json_object_new_object();
    for (size_t i = 0; i < sizeof counted / sizeof counted[0]; i++) {
        uint64_t value = 0;
        if (lsm_property(c->db, cf, counted[i], &value, NULL) == LSM_OK)
            json_add_u64(object, counted[i], value);
    }
    struct json_object *lines = json_object_new_array();
    while (*levels != '\0') {
        size_t length = strcspn(levels, "\n");
        json_object_array_add(lines, json_bytes(LSM_SLICE(levels, length)));
        levels += length + (levels[length] == '\n' ? 1 : 0);
    }
    json_add(object, "levels", lines);
    return object;
}

static int show_levels(struct compactor *c, lsm_cf *cf, const char *when,
                       struct json_object *family)
{
    int code = EXIT_DONE;
    char *levels = levels_of(c, cf, &code);
    if (levels == NULL)
        return code;
    if (family != NULL) {
        json_add(family, when, levels_as_json(c, cf, levels));
    } else if (!c->cli.quiet) {
        size_t length = strlen(levels);
        progress_clear(&c->cli.progress);
        printf("%s: %s%s", when, levels, length > 0 && levels[length - 1] == '\n' ? "" : "\n");
    }
    memory_free(levels);
    return code;
}

/* ---- compacting ------------------------------------------------------------------------------ */

static bool told_progress(void *context, uint64_t bytes_done, uint64_t bytes_total)
{
    struct compactor *c = context;
    c->bytes_now = bytes_done;
    progress_update(&c->cli.progress, bytes_done, bytes_total, bytes_done);
    if (c->max_bytes != 0 && c->bytes_done + bytes_done >= c->max_bytes)
        c->stopped_by = "--max-bytes";
    else if (c->deadline != 0 && time(NULL) >= c->deadline)
        c->stopped_by = "--until";
    return c->stopped_by == NULL && !cli_is_cancelled();
}

static int compact_family(struct compactor *c, lsm_cf *cf, struct json_object *family)
{
    lsm_error err = {0};
    lsm_compact_options options = {
        .force_bottom = c->forces_bottom, .progress = told_progress, .progress_context = c};
    int code = show_levels(c, cf, "before", family);
    if (code != EXIT_DONE)
        return code;
    c->bytes_now = 0;
    progress_pass(&c->cli.progress, lsm_cf_name(cf));
    lsm_status status = LSM_OK;
    if (set_range(c, &options))
        status = lsm_compact_range(c->db, cf, &options, &err);
    progress_end(&c->cli.progress, c->bytes_now);
    c->bytes_done += c->bytes_now;
    if (status == LSM_CANCELLED && c->stopped_by == NULL)
        code = cli_cancelled(&c->cli);
    else if (status != LSM_OK && status != LSM_CANCELLED)
        code = cli_library_error(&c->cli, NULL, &err);
    return code | show_levels(c, cf, "after", family);
}

static int work_on_family(struct compactor *c, const char *name)
{
    lsm_error err = {0};
    lsm_cf *cf = NULL;
    if (lsm_cf_open(c->db, name, &cf, &err) != LSM_OK)
        return cli_library_error(&c->cli, NULL, &err);
    struct json_object *family = NULL;
    if (c->families != NULL) {
        family = json_object_new_object();
        json_add_text(family, "name", name);
        json_object_array_add(c->families, family);
    }
    if (c->is_status)
        return show_levels(c, cf, "now", family);
    return compact_family(c, cf, family);
}

/* Damage of one family (4) does not keep the others from being compacted; all else does. */
static int work_on_families(struct compactor *c)
{
    int code = EXIT_DONE;
    for (size_t i = 0; i < c->name_count; i++) {
        if (!cli_wants_family(&c->cli, c->names[i]))
            continue;
        if (cli_is_cancelled())
            return code | cli_cancelled(&c->cli);
        code |= work_on_family(c, c->names[i]);
        if ((code & ~EXIT_DAMAGE) != 0 || c->stopped_by != NULL)
            break;
    }
    return code;
}

static void finish_text(struct compactor *c)
{
    char size[CLI_SIZE_TEXT], stall[256];
    size_t length = 0;
    if (c->cli.quiet)
        return;
    if (!c->is_status)
        printf("merged %s\n", cli_format_size(c->bytes_done, size));
    else if (lsm_property_text(c->db, NULL, "stall", stall, sizeof stall, &length, NULL) == LSM_OK)
        printf("writers wait for: %s\n", stall);
    if (c->stopped_by != NULL)
        printf("stopped by %s\n", c->stopped_by);
}

static void finish_json(struct compactor *c, struct json_object *object)
{
    char stall[256];
    size_t length = 0;
    if (!c->is_status)
        json_add_u64(object, "bytes-merged", c->bytes_done);
    else if (lsm_property_text(c->db, NULL, "stall", stall, sizeof stall, &length, NULL) == LSM_OK)
        json_add_text(object, "stall", stall);
    if (c->stopped_by != NULL)
        json_add_text(object, "stopped-by", c->stopped_by);
}

static int open_database(struct compactor *c)
{
    lsm_error err = {0};
    c->cli.options.create = false;
    c->cli.options.read_only = c->is_status;
    if (c->cli.rate != 0)
        c->cli.options.background_rate = c->cli.rate;
    if (lsm_open(c->cli.directory, &c->cli.options, &c->db, &err) != LSM_OK ||
        lsm_cf_list(c->db, &c->names, &c->name_count, &err) != LSM_OK)
        return cli_library_error(&c->cli, NULL, &err);
    return cli_check_families(&c->cli, c->names, c->name_count);
}

static int close_database(struct compactor *c, int code)
{
    lsm_error err = {0};
    lsm_free(c->names);
    if (c->db != NULL && lsm_close(c->db, &err) != LSM_OK)
        code |= cli_library_error(&c->cli, "closing", &err);
    return code;
}

int main(int argc, char **argv)
{
    struct compactor c = {0};
    cli_init(&c.cli, "lsm-compact", help);
    take_options(&c, argc, argv);
    sandbox_enter(&c.cli, &(struct sandbox_wish){.writes_database = !c.is_status});

    struct json_object *object = c.cli.json ? json_begin("lsm-compact/1") : NULL;
    c.families = c.cli.json ? json_object_new_array() : NULL;

    int code = open_database(&c);
    if (code == EXIT_DONE) {
        code = work_on_families(&c);
        if (c.cli.json)
            finish_json(&c, object);
        else
            finish_text(&c);
    }
    code = close_database(&c, code);
    if (c.cli.json) {
        json_add(object, "families", c.families);
        code = json_finish(&c.cli, object, code);
    } else if (fflush(stdout) != 0) {
        code |= cli_error(&c.cli, EXIT_OPERATION, "LSM_IO", "cannot write to stdout");
    }
    memory_free(c.range_first);
    text_release(&c.after_prefix);
    cli_release(&c.cli);
    return code;
}
