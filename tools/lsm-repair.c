/*
 * lsm-repair: puts a damaged database right, after having said what that means.
 *
 * All of the work is lsm_repair(); here are the options, the questions, and what is printed.
 */
#include "tools/cli/cli.h"
#include "tools/cli/json.h"
#include "tools/cli/memory.h"
#include "tools/cli/sandbox.h"
#include "tools/repair/repair.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* clang-format off */
static const char help[] =
    "Usage: lsm-repair [OPTION]... DIR\n"
    "Find out what is wrong with the database in DIR, say what can be done and what is lost, and\n"
    "do it. Nobody may have it open. Nothing is written in place, and all can be taken back.\n"
    "\n"
    "  -n                      only make the plan; change nothing\n"
    "  -p                      preen: do it when everything can be corrected exactly, else nothing\n"
    "  -y                      do it without a question\n"
    "  -i                      ask for each step\n"
    "  -f                      with --undo: although the database was opened since\n"
    "      --manifest=FILE     believe this manifest of DIR, whatever CURRENT says\n"
    "      --generation=N      the same: the manifest with number N\n"
    "      --rebuild-manifest  believe none: the tables themselves tell which are live\n"
    "      --salvage-blocks    write every table anew from its blocks, damaged or not\n"
    "      --wal=skip|stop|none\n"
    "                          where records of the log are damaged, leave them out, or end the\n"
    "                          log there; or leave out all of it (default: skip)\n"
    "      --to=NEWDIR         repair a copy in NEWDIR; DIR is not written to\n"
    "      --lost=DIR          where replaced files go (default: DIR/lost+found)\n"
    "      --undo=FILE         take the repair back that left this record\n"
    "      --undo-last         take the last repair back\n"
    "      --report=FILE       write plan, losses with their keys, and result to FILE, as JSON\n"
    "      --show-data         print the keys of ranges that are lost\n"
    "      --key-format=text|hex|base64\n"
    "                          how keys are printed\n"
    CLI_HELP
    "\n"
    "Exit status: 0 nothing is wrong, 1 repaired, 4 damage is left, 8 could not work,\n"
    "16 wrong usage, 32 cancelled, 64 data was lost.\n"
    "The manual: lsm-repair(1).\n";

enum {
    OPTION_MANIFEST = CLI_OPTION_OWN,
    OPTION_GENERATION,
    OPTION_REBUILD,
    OPTION_SALVAGE,
    OPTION_WAL,
    OPTION_TO,
    OPTION_LOST,
    OPTION_UNDO,
    OPTION_UNDO_LAST,
    OPTION_REPORT,
    OPTION_SHOW_DATA,
};

static const struct option long_options[] = {
    {"manifest", required_argument, NULL, OPTION_MANIFEST},
    {"generation", required_argument, NULL, OPTION_GENERATION},
    {"rebuild-manifest", no_argument, NULL, OPTION_REBUILD},
    {"salvage-blocks", no_argument, NULL, OPTION_SALVAGE},
    {"wal", required_argument, NULL, OPTION_WAL},
    {"to", required_argument, NULL, OPTION_TO},
    {"lost", required_argument, NULL, OPTION_LOST},
    {"undo", required_argument, NULL, OPTION_UNDO},
    {"undo-last", no_argument, NULL, OPTION_UNDO_LAST},
    {"report", required_argument, NULL, OPTION_REPORT},
    {"show-data", no_argument, NULL, OPTION_SHOW_DATA},
    {"key-format", required_argument, NULL, CLI_OPTION_KEY_FORMAT},
    CLI_LONG_OPTIONS,
    {NULL, 0, NULL, 0},
};
/* clang-format on */

struct repairer {
    struct cli cli;
    struct repair_output output;
    lsm_repair_options options;
    bool agrees, asks_each, forces;
    bool undoes;
    const char *undo_file; /* NULL: the last one */
    const char *report;
    bool was_declined;
    bool has_pass;
};

/* ---- options --------------------------------------------------------------------------------- */

static void take_manifest(struct repairer *r, const char *text)
{
    static const char prefix[] = "MANIFEST-";
    const char *slash = strrchr(text, '/');
    const char *name = slash == NULL ? text : slash + 1;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        cli_usage(&r->cli, "--manifest: '%s' is not a name such as MANIFEST-000007", text);
    r->options.manifest =
        cli_number(&r->cli, "--manifest", name + sizeof prefix - 1, UINT64_MAX / 4);
}

static void take_wal(struct repairer *r, const char *text)
{
    static const char *const names[] = {[LSM_REPAIR_LOG_SKIP] = "skip",
                                        [LSM_REPAIR_LOG_STOP] = "stop",
                                        [LSM_REPAIR_LOG_NONE] = "none"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            r->options.log = (lsm_repair_log)i;
            return;
        }
    }
    cli_usage(&r->cli, "--wal: '%s' is neither skip nor stop nor none", text);
}

static void take_long_option(struct repairer *r, int option)
{
    switch (option) {
    case OPTION_MANIFEST:
        take_manifest(r, optarg);
        break;
    case OPTION_GENERATION:
        r->options.manifest = cli_number(&r->cli, "--generation", optarg, UINT64_MAX / 4);
        break;
    case OPTION_REBUILD:
        r->options.rebuild_manifest = true;
        break;
    case OPTION_SALVAGE:
        r->options.salvage_blocks = true;
        break;
    case OPTION_WAL:
        take_wal(r, optarg);
        break;
    case OPTION_TO:
        r->options.to = optarg;
        break;
    case OPTION_LOST:
        r->options.lost = optarg;
        break;
    case OPTION_UNDO:
    case OPTION_UNDO_LAST:
        r->undoes = true;
        r->undo_file = option == OPTION_UNDO ? optarg : NULL;
        break;
    case OPTION_REPORT:
        r->report = optarg;
        break;
    case OPTION_SHOW_DATA:
        r->output.shows_data = true;
        break;
    default:
        cli_take_option(&r->cli, option, optarg);
    }
}

static void take_options(struct repairer *r, int argc, char **argv)
{
    int option;
    while ((option = getopt_long(argc, argv, CLI_SHORT_OPTIONS "npyif", long_options, NULL)) !=
           -1) {
        switch (option) {
        case 'n':
            r->options.dry_run = true;
            break;
        case 'p':
            r->options.only_exact = true;
            break;
        case 'y':
            r->agrees = true;
            break;
        case 'i':
            r->asks_each = true;
            break;
        case 'f':
            r->forces = true;
            break;
        default:
            take_long_option(r, option);
        }
    }
    cli_parsed(&r->cli, argc, argv, optind);
    if (r->options.dry_run + r->options.only_exact + r->agrees + r->asks_each > 1)
        cli_usage(&r->cli, "only one of -n, -p, -y and -i can be given");
    if (r->cli.family_count > 0)
        cli_usage(&r->cli, "--cf: a repair is of all column families");
    if (r->options.manifest != 0 && r->options.rebuild_manifest)
        cli_usage(&r->cli, "--rebuild-manifest believes no manifest, not even the given one");
    if (r->undoes && (r->options.dry_run || r->options.to != NULL))
        cli_usage(&r->cli, "--undo goes neither with -n nor with --to");
    r->options.io = r->cli.options.io;
}

/* ---- questions ------------------------------------------------------------------------------- */

static bool ask(struct repairer *r, const char *question)
{
    char answer[16];
    if (!isatty(STDIN_FILENO) || r->cli.json)
        return false;
    progress_clear(&r->cli.progress);
    printf("%s [y/N] ", question);
    fflush(stdout);
    return fgets(answer, sizeof answer, stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

static bool told_step(void *context, const lsm_repair_step *step)
{
    struct repairer *r = context;
    repair_output_step(&r->output, step);
    return !r->asks_each || ask(r, "    do this?");
}

static void told_loss(void *context, const lsm_loss *loss)
{
    struct repairer *r = context;
    repair_output_loss(&r->output, loss);
}

static bool told_plan(void *context, const lsm_repair_result *planned)
{
    struct repairer *r = context;
    if (r->agrees || r->options.only_exact || r->asks_each)
        return true;
    r->was_declined = !ask(r, planned->round_count > 1 ? "\nGo on with this, too?" : "\nGo on?");
    if (r->was_declined && !isatty(STDIN_FILENO))
        cli_warn(&r->cli, "nothing was changed: nobody is there to be asked; -y agrees");
    return !r->was_declined;
}

static void told_done(void *context, const char *text)
{
    struct repairer *r = context;
    repair_output_done(&r->output, text);
}

static bool told_progress(void *context, uint64_t bytes_done, uint64_t bytes_total)
{
    struct repairer *r = context;
    if (!r->has_pass)
        progress_pass(&r->cli.progress, "reading");
    r->has_pass = true;
    progress_update(&r->cli.progress, bytes_done, bytes_total, bytes_done);
    cli_throttle(&r->cli, bytes_done);
    return !cli_is_cancelled();
}

/* ---- the run --------------------------------------------------------------------------------- */

static int undo(struct repairer *r)
{
    lsm_error err = {0};
    if (lsm_repair_undo(r->cli.directory, r->undo_file, r->forces, &err) != LSM_OK)
        return cli_library_error(&r->cli, NULL, &err);
    repair_output_done(&r->output, "every file has its bytes from before the repair");
    return EXIT_CHANGED;
}

static int run(struct repairer *r)
{
    lsm_error err = {0};
    lsm_repair_result result = LSM_REPAIR_RESULT_INIT;
    r->options.context = r;
    r->options.on_step = told_step;
    r->options.on_loss = told_loss;
    r->options.on_plan = told_plan;
    r->options.on_done = told_done;
    r->options.progress = told_progress;
    lsm_status status = lsm_repair(r->cli.directory, &r->options, &result, &err);
    if (r->has_pass)
        progress_end(&r->cli.progress, 0);
    int code = EXIT_DONE;
    if (cli_is_cancelled() && status == LSM_CANCELLED) {
        code = cli_cancelled(&r->cli);
    } else if (status == LSM_CANCELLED) { /* by an answer, or by -p */
        if (r->options.only_exact)
            cli_warn(&r->cli, "%s", err.message);
    } else if (status != LSM_OK) {
        code = cli_library_error(&r->cli, NULL, &err);
    }
    if (result.is_changed)
        code |= EXIT_CHANGED;
    if (result.is_damage_left)
        code |= EXIT_DAMAGE;
    if (result.is_changed && result.is_data_lost)
        code |= EXIT_LOST;
    if (status == LSM_OK || result.step_count > 0)
        repair_output_result(&r->output, &result);
    return code;
}

/* ---- the sandbox ----------------------------------------------------------------------------- */

/* Directories that are written to exist before the sandbox closes. */
static int make_directories(struct repairer *r)
{
    const char *const paths[] = {r->options.to, r->options.lost};
    for (size_t i = 0; i < 2 && !r->options.dry_run; i++) {
        if (paths[i] != NULL && mkdir(paths[i], 0700) != 0 && errno != EEXIST)
            return cli_error(&r->cli, EXIT_OPERATION, "LSM_IO", "cannot make '%s': %s", paths[i],
                             strerror(errno));
    }
    return EXIT_DONE;
}

static void enter_sandbox(struct repairer *r)
{
    char *beside = r->undo_file == NULL ? NULL : memory_copy_text(r->undo_file);
    char *slash = beside == NULL ? NULL : strrchr(beside, '/');
    const char *directories[4] = {0};
    size_t count = 0;
    if (r->options.to != NULL && !r->options.dry_run)
        directories[count++] = r->options.to;
    if (r->options.lost != NULL && !r->options.dry_run)
        directories[count++] = r->options.lost;
    if (slash != NULL)
        *slash = '\0';
    if (beside != NULL)
        directories[count++] = slash != NULL ? beside : ".";
    const char *const files[] = {r->report, NULL};
    struct sandbox_wish wish = {
        .writes_database = !r->options.dry_run && r->options.to == NULL,
        .write_files = files,
        .write_directories = directories,
    };
    sandbox_enter(&r->cli, &wish);
    memory_free(beside);
}

int main(int argc, char **argv)
{
    struct repairer r = {.options = LSM_REPAIR_OPTIONS_INIT};
    umask(077); /* the report holds keys */
    cli_init(&r.cli, "lsm-repair", help);
    take_options(&r, argc, argv);
    r.output.cli = &r.cli;
    r.output.is_dry = r.options.dry_run;
    if (r.cli.json || r.report != NULL)
        repair_output_begin(&r.output);
    int code = make_directories(&r);
    if (code == EXIT_DONE) {
        enter_sandbox(&r);
        code = r.undoes ? undo(&r) : run(&r);
    }
    if (r.report != NULL)
        code |= repair_output_report(&r.output, r.report);
    if (r.cli.json)
        code = json_finish(&r.cli, r.output.object, code);
    else
        json_object_put(r.output.object);
    if (!r.cli.json && (fflush(stdout) != 0 || ferror(stdout)))
        code |= cli_error(&r.cli, EXIT_OPERATION, "LSM_IO", "cannot write to stdout");
    cli_release(&r.cli);
    return code;
}
