/*
 * lsm-stat: what a database is doing now, who has it open, and who holds up whom.
 *
 * It only looks (engine/inspect): nothing is locked, joined or written, so that it can be asked
 * when everything else is stuck.
 */
#include "tools/stat/stat.h"

#include "tools/cli/sandbox.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* clang-format off */
static const char help[] =
    "Usage: lsm-stat [OPTION]... DIR\n"
    "       lsm-stat --check-config=FILE\n"
    "Show what the database in DIR is doing now. Nothing is locked, joined or written but with -rr.\n"
    "\n"
    "Without one of the next options: a summary with log, memtables, locks and jobs.\n"
    "  -r, --processes         who has it open, what each holds and keeps others from freeing;\n"
    "                          -rr: clear up after those who died first\n"
    "  -l, --levels            tables of each column family and level, and the debt of level 0\n"
    "  -c, --cache             the block cache of each process\n"
    "  -w, --stalls            how long and why writers of each process waited\n"
    "  -i, --backend           how each process does I/O, and why so\n"
    "  -e, --environment       library, files, shared memory, options of the families\n"
    "      --explain-stall     what stops or slows writers now, who does it, and what to do\n"
    "\n"
    "      --json              one JSON object with everything instead of text for people\n"
    "      --prometheus        everything in Prometheus' text format\n"
    "      --watch[=SECONDS]   again and again, each two seconds or so many\n"
    "      --check-config=FILE only check a file of options\n"
    "      --cf=NAME           only this column family; may be given again (default: all)\n"
    "      --options=TEXT      options of the database for -rr, which joins it\n"
    "  -q, --quiet             no warnings\n"
    "  -v, --verbose           say more on stderr\n"
    "  -h, --help              this text\n"
    "  -V, --version           the version of tool and library\n"
    "\n"
    "Exit status: 0 done, 1 cleaned up, 4 damage found, 8 could not work, 16 wrong usage.\n"
    "The manual: lsm-stat(1).\n";

enum {
    OPTION_EXPLAIN = CLI_OPTION_OWN,
    OPTION_PROMETHEUS,
    OPTION_WATCH,
    OPTION_CHECK_CONFIG,
};

static const struct option long_options[] = {
    {"processes", no_argument, NULL, 'r'},
    {"levels", no_argument, NULL, 'l'},
    {"cache", no_argument, NULL, 'c'},
    {"stalls", no_argument, NULL, 'w'},
    {"backend", no_argument, NULL, 'i'},
    {"environment", no_argument, NULL, 'e'},
    {"explain-stall", no_argument, NULL, OPTION_EXPLAIN},
    {"prometheus", no_argument, NULL, OPTION_PROMETHEUS},
    {"watch", optional_argument, NULL, OPTION_WATCH},
    {"check-config", required_argument, NULL, OPTION_CHECK_CONFIG},
    {"json", no_argument, NULL, CLI_OPTION_JSON},
    {"cf", required_argument, NULL, CLI_OPTION_CF},
    {"options", required_argument, NULL, CLI_OPTION_OPTIONS},
    {"quiet", no_argument, NULL, 'q'},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};
/* clang-format on */

#define WATCH_DEFAULT_S 2
#define WATCH_MOST_S    86400

struct stat_tool {
    struct cli cli;
    unsigned sections; /* flags of enum stat_section */
    unsigned reap;     /* times -r was given */
    bool prometheus;
    uint64_t watch_s; /* 0: once */
    const char *config;
    struct io *io;
};

static void take_option(struct stat_tool *t, int option)
{
    switch (option) {
    case 'r':
        t->sections |= STAT_PROCESSES;
        t->reap++;
        break;
    case 'l':
        t->sections |= STAT_LEVELS;
        break;
    case 'c':
        t->sections |= STAT_CACHE;
        break;
    case 'w':
        t->sections |= STAT_STALLS;
        break;
    case 'i':
        t->sections |= STAT_IO;
        break;
    case 'e':
        t->sections |= STAT_ENVIRONMENT;
        break;
    case OPTION_EXPLAIN:
        t->sections |= STAT_EXPLAIN;
        break;
    case OPTION_PROMETHEUS:
        t->prometheus = true;
        break;
    case OPTION_WATCH:
        t->watch_s =
            optarg == NULL ? WATCH_DEFAULT_S : cli_number(&t->cli, "--watch", optarg, WATCH_MOST_S);
        if (t->watch_s == 0)
            cli_usage(&t->cli, "--watch: at least one second is needed");
        break;
    case OPTION_CHECK_CONFIG:
        t->config = optarg;
        break;
    default:
        cli_take_option(&t->cli, option, optarg);
    }
}

static void take_options(struct stat_tool *t, int argc, char **argv)
{
    int option;
    while ((option = getopt_long(argc, argv, "rlcwiehVqv", long_options, NULL)) != -1)
        take_option(t, option);
    if (t->prometheus && t->cli.json)
        cli_usage(&t->cli, "--json and --prometheus contradict each other");
    if (t->config != NULL) {
        if (optind < argc)
            cli_usage(&t->cli, "--check-config looks at no database, '%s' is too many",
                      argv[optind]);
        return;
    }
    cli_parsed(&t->cli, argc, argv, optind);
    if (t->sections == 0)
        t->sections = STAT_SUMMARY;
}

/* ---- one look -------------------------------------------------------------------------------- */

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
    if (t->prometheus)
        stat_print_prometheus(&t->cli, live);
    else
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
    code = json_finish(&t->cli, object, code);
    text_clear(&t->cli.error); /* the next look has errors of its own */
    return code;
}

static int look(struct stat_tool *t, int code)
{
    lsm_error err = {0};
    struct inspect_live *live = NULL;
    if (inspect_live_open(t->io, t->cli.directory, &live, &err) != LSM_OK)
        code |= cli_library_error(&t->cli, NULL, &err);
    if (t->cli.json)
        code = show_json(t, live, code);
    else if (live != NULL)
        code |= show_text(t, live);
    inspect_live_free(live);
    return code;
}

/* ---- again and again ------------------------------------------------------------------------- */

static void begin_screen(const struct stat_tool *t)
{
    const char *terminal = getenv("TERM");
    if (t->cli.json || t->prometheus)
        return;
    if (isatty(STDOUT_FILENO) && terminal != NULL && strcmp(terminal, "dumb") != 0)
        fputs("\033[H\033[2J", stdout);
    else
        putchar('\n');
}

static void sleep_between(const struct stat_tool *t)
{
    struct timespec pause = {.tv_sec = (time_t)t->watch_s};
    (void)nanosleep(&pause, NULL); /* a signal ends it early, as it should */
}

/* Until a signal comes, which is how it is meant to end; only a broken stdout ends it before. */
static int watch(struct stat_tool *t, int code)
{
    while (!cli_is_cancelled() && ferror(stdout) == 0) {
        code |= look(t, EXIT_DONE);
        sleep_between(t);
        if (!cli_is_cancelled())
            begin_screen(t);
    }
    return code;
}

/* ---- clearing up after the dead -------------------------------------------------------------- */

/* A lock that its owner cannot let go of would hold up whoever joins. */
static bool may_join(struct stat_tool *t, const struct inspect_live *live, int *code)
{
    if (live->state != SHM_PEEK_SHARED || live->dead_count == 0)
        return false;
    for (size_t i = 0; i < INSPECT_LOCK_COUNT; i++) {
        const struct inspect_lock *lock = &live->locks[i];
        if (lock->thread == 0 || (lock->run_state != 'T' && lock->run_state != 't'))
            continue;
        *code = cli_error(&t->cli, EXIT_OPERATION, "LSM_BUSY",
                          "-rr: process %" PRId64 " is stopped and holds the %s lock, which would "
                          "stop this one, too; continue or end it first",
                          lock->pid, lock->name);
        return false;
    }
    return true;
}

static int join_and_leave(struct stat_tool *t)
{
    lsm_error err = {0};
    lsm_db *db = NULL;
    t->cli.options.create = false;
    t->cli.options.workers = LSM_NO_WORKERS;
    /* Joining reaps. */
    if (lsm_open(t->cli.directory, &t->cli.options, &db, &err) != LSM_OK)
        return cli_library_error(&t->cli, "-rr", &err);
    if (lsm_close(db, &err) != LSM_OK)
        return cli_library_error(&t->cli, "-rr", &err);
    return EXIT_CHANGED;
}

static int reap(struct stat_tool *t)
{
    lsm_error err = {0};
    struct inspect_live *live = NULL;
    int code = EXIT_DONE;
    if (inspect_live_open(t->io, t->cli.directory, &live, &err) != LSM_OK)
        return EXIT_DONE; /* the look that follows says so */
    size_t dead = live->dead_count;
    if (may_join(t, live, &code))
        code = join_and_leave(t);
    inspect_live_free(live);
    if (code == EXIT_CHANGED)
        cli_note(&t->cli, "cleaned up after %zu processes", dead);
    return code;
}

static int run(struct stat_tool *t)
{
    lsm_error err = {0};
    if (t->config != NULL) {
        int code = stat_check_config(&t->cli, t->config);
        return t->cli.json ? json_finish(&t->cli, json_begin("lsm-stat/1"), code) : code;
    }
    sandbox_enter(&t->cli, &(struct sandbox_wish){.writes_database = t->reap > 1});
    if (io_open("posix", &t->io, &err) != LSM_OK)
        return cli_library_error(&t->cli, NULL, &err);
    int code = t->reap > 1 ? reap(t) : EXIT_DONE;
    return t->watch_s > 0 ? watch(t, code) : look(t, code);
}

int main(int argc, char **argv)
{
    struct stat_tool t = {0};
    cli_init(&t.cli, "lsm-stat", help);
    take_options(&t, argc, argv);
    int code = run(&t);
    io_close(t.io);
    cli_release(&t.cli);
    return code;
}
