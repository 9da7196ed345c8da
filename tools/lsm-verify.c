/*
 * lsm-verify: reads a database and tells what is wrong with it.
 *
 * All of the work is lsm_verify(); here are the options, what is printed, and the memory of which
 * tables were verified when.
 */
#include "tools/cli/cli.h"
#include "tools/cli/json.h"
#include "tools/cli/memory.h"
#include "tools/cli/sandbox.h"
#include "tools/verify/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SAVE_EVERY_NS UINT64_C(10000000000) /* of the state */

/* clang-format off */
static const char help[] =
    "Usage: lsm-verify [OPTION]... DIR\n"
    "Read the database in DIR and tell everything that is wrong with it. Nothing is changed.\n"
    "\n"
    "      --level=quick|normal|full\n"
    "                          quick: no blocks of tables; full: hold everything against\n"
    "                          everything (default: normal, every byte once)\n"
    "      --sample=PERCENT    read only so many of the blocks, other ones each time\n"
    "      --file=NAME         only this table of DIR\n"
    "      --first-error       stop at the first damage\n"
    "      --keep-going        tell all of it (default)\n"
    "      --offline           only when no process has the database open\n"
    "  -E ignore=ID,...        findings that are not told and do not count\n"
    "      --list-findings     print all ids, what they mean, and what lsm-repair does\n"
    "      --since-last        leave out tables that an earlier run found sound\n"
    "      --max-age=TIME      leave out those found sound within TIME, such as 12h or 30d\n"
    "      --resume            leave out those that the run before this one, which was stopped,\n"
    "                          found sound\n"
    "      --state=FILE        where it is remembered (default: by directory, below\n"
    "                          $XDG_STATE_HOME or ~/.local/state)\n"
    "      --memory=BYTES      use about so much at most (default: 64MiB)\n"
    "      --threads=N         threads that read tables (default: 2)\n"
    "      --show-data         print the keys of damaged ranges\n"
    "      --key-format=text|hex|base64\n"
    "                          how keys are printed\n"
    CLI_HELP
    "\n"
    "Exit status: 0 no damage, 4 damage found, 8 could not work or something was unmeasured,\n"
    "16 wrong usage, 32 cancelled.\n"
    "The manual: lsm-verify(1).\n";

enum {
    OPTION_LEVEL = CLI_OPTION_OWN,
    OPTION_SAMPLE,
    OPTION_FILE,
    OPTION_FIRST_ERROR,
    OPTION_KEEP_GOING,
    OPTION_OFFLINE,
    OPTION_LIST,
    OPTION_SINCE_LAST,
    OPTION_MAX_AGE,
    OPTION_RESUME,
    OPTION_STATE,
    OPTION_MEMORY,
    OPTION_SHOW_DATA,
};

static const struct option long_options[] = {
    {"level", required_argument, NULL, OPTION_LEVEL},
    {"sample", required_argument, NULL, OPTION_SAMPLE},
    {"file", required_argument, NULL, OPTION_FILE},
    {"first-error", no_argument, NULL, OPTION_FIRST_ERROR},
    {"keep-going", no_argument, NULL, OPTION_KEEP_GOING},
    {"offline", no_argument, NULL, OPTION_OFFLINE},
    {"list-findings", no_argument, NULL, OPTION_LIST},
    {"since-last", no_argument, NULL, OPTION_SINCE_LAST},
    {"max-age", required_argument, NULL, OPTION_MAX_AGE},
    {"resume", no_argument, NULL, OPTION_RESUME},
    {"state", required_argument, NULL, OPTION_STATE},
    {"memory", required_argument, NULL, OPTION_MEMORY},
    {"show-data", no_argument, NULL, OPTION_SHOW_DATA},
    {"key-format", required_argument, NULL, CLI_OPTION_KEY_FORMAT},
    CLI_THREAD_OPTIONS,
    CLI_LONG_OPTIONS,
    {NULL, 0, NULL, 0},
};
/* clang-format on */

struct verifier {
    struct cli cli;
    struct verify_output output;
    struct verify_state state;
    lsm_verify_options options;
    char *ignore_text; /* owned; the ids of -E are in it */
    const char **ignored;
    bool lists_findings;
    bool since_last, resumes;
    uint64_t max_age;      /* seconds; 0: not given */
    uint64_t began;        /* seconds since 1970 */
    uint64_t resumes_from; /* what was found sound since then is left out */
    uint64_t saved_ns;
    int pass;
    uint64_t pass_done;
};

/* ---- options --------------------------------------------------------------------------------- */

static const char *const level_names[] = {
    [LSM_VERIFY_NORMAL] = "normal", [LSM_VERIFY_QUICK] = "quick", [LSM_VERIFY_FULL] = "full"};

static void take_level(struct verifier *v, const char *text)
{
    for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            v->options.level = (lsm_verify_level)i;
            return;
        }
    }
    cli_usage(&v->cli, "--level: '%s' is neither quick nor normal nor full", text);
}

static void take_sample(struct verifier *v, const char *text)
{
    v->options.sample_percent = (unsigned)cli_number(&v->cli, "--sample", text, 100);
    if (v->options.sample_percent == 0)
        cli_usage(&v->cli, "--sample: nothing at all is no sample");
}

/* "ignore=ID,ID" */
static void take_extended(struct verifier *v, const char *text)
{
    static const char word[] = "ignore=";
    if (strncmp(text, word, sizeof word - 1) != 0)
        cli_usage(&v->cli, "-E: '%s' is not ignore=ID,...", text);
    memory_free(v->ignore_text);
    v->ignore_text = memory_copy_text(text + sizeof word - 1);
    v->options.ignored_count = 0;
    for (char *rest = v->ignore_text, *id; (id = strsep(&rest, ",")) != NULL;) {
        const char *known = NULL;
        for (size_t i = 0; (known = lsm_finding_id(i, NULL, NULL)) != NULL; i++) {
            if (strcmp(known, id) == 0)
                break;
        }
        if (known == NULL)
            cli_usage(&v->cli, "-E: there is no finding '%s'; see --list-findings", id);
        v->ignored = memory_resize(v->ignored, (v->options.ignored_count + 1) * sizeof *v->ignored);
        v->ignored[v->options.ignored_count++] = known;
    }
    v->options.ignored = v->ignored;
}

static void take_max_age(struct verifier *v, const char *text)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    char number[32];
    size_t length = strlen(text);
    for (size_t i = 0; length > 1 && length < sizeof number && i < sizeof units / sizeof units[0];
         i++) {
        if (text[length - 1] != units[i].unit)
            continue;
        memcpy(number, text, length - 1);
        number[length - 1] = '\0';
        v->max_age = cli_number(&v->cli, "--max-age", number, UINT32_MAX) * units[i].seconds;
        if (v->max_age > 0)
            return;
    }
    cli_usage(&v->cli, "--max-age: '%s' is not a time such as 90s, 12h or 30d", text);
}

static void take_option(struct verifier *v, int option)
{
    switch (option) {
    case OPTION_LEVEL:
        take_level(v, optarg);
        break;
    case OPTION_SAMPLE:
        take_sample(v, optarg);
        break;
    case OPTION_FILE:
        v->options.file = optarg;
        break;
    case OPTION_FIRST_ERROR:
    case OPTION_KEEP_GOING:
        v->options.first_error = option == OPTION_FIRST_ERROR;
        break;
    case OPTION_OFFLINE:
        v->options.offline = true;
        break;
    case OPTION_LIST:
        v->lists_findings = true;
        break;
    case OPTION_SINCE_LAST:
        v->since_last = true;
        break;
    case OPTION_MAX_AGE:
        take_max_age(v, optarg);
        break;
    case OPTION_RESUME:
        v->resumes = true;
        break;
    case OPTION_STATE:
        memory_free(v->state.path);
        v->state.path = memory_copy_text(optarg);
        break;
    case OPTION_MEMORY:
        v->options.memory_limit = cli_size(&v->cli, "--memory", optarg);
        break;
    case OPTION_SHOW_DATA:
        v->output.shows_data = true;
        break;
    case 'E':
        take_extended(v, optarg);
        break;
    default:
        cli_take_option(&v->cli, option, optarg);
    }
}

static void list_findings(struct verifier *v)
{
    verify_output_ids(v->cli.json);
    exit(fflush(stdout) == 0 ? EXIT_DONE : EXIT_OPERATION);
}

static void take_options(struct verifier *v, int argc, char **argv)
{
    int option;
    while ((option = getopt_long(argc, argv, CLI_SHORT_OPTIONS "E:", long_options, NULL)) != -1)
        take_option(v, option);
    if (v->lists_findings)
        list_findings(v);
    cli_parsed(&v->cli, argc, argv, optind);
    v->options.io = v->cli.options.io;
    v->options.rate = v->cli.rate;
    v->options.threads = v->cli.options.workers;
    v->options.families = v->cli.families;
    v->options.family_count = v->cli.family_count;
    v->options.seed = (uint64_t)time(NULL);
}

/* ---- callbacks ------------------------------------------------------------------------------- */

static bool told_finding(void *context, const lsm_finding *finding)
{
    struct verifier *v = context;
    verify_output_finding(&v->output, finding);
    return !cli_is_cancelled();
}

static void told_unmeasured(void *context, unsigned pass, const char *file, const char *cause)
{
    struct verifier *v = context;
    verify_output_unmeasured(&v->output, pass, file, cause);
}

static bool told_progress(void *context, unsigned pass, const char *name, uint64_t done,
                          uint64_t total)
{
    struct verifier *v = context;
    if (v->pass != (int)pass) {
        if (v->pass >= 0)
            progress_end(&v->cli.progress, v->pass_done);
        progress_pass(&v->cli.progress, name);
        v->cli.progress.pass = (int)pass;
        v->pass = (int)pass;
    }
    v->pass_done = done;
    progress_update(&v->cli.progress, done, total, pass == 4 ? done : 0);
    return !cli_is_cancelled();
}

static void told_identity(void *context, const uint8_t uuid[16], uint64_t sequence)
{
    struct verifier *v = context;
    cli_note(&v->cli, "everything up to sequence number %" PRIu64, sequence);
    if (v->state.path != NULL) {
        verify_state_identify(&v->state, uuid);
        v->resumes_from = v->resumes && !v->state.run_is_complete ? v->state.run_began : UINT64_MAX;
        if (v->resumes_from == UINT64_MAX || v->resumes_from == 0)
            v->state.run_began = v->began; /* else it goes on with that run */
        v->state.run_is_complete = false;
    }
}

static bool asked_skip(void *context, const char *file, uint64_t size, uint64_t digest)
{
    struct verifier *v = context;
    const struct verified *t =
        v->state.path == NULL ? NULL : verify_state_find(&v->state, file, size, digest);
    if (t == NULL || t->level < (v->options.level == LSM_VERIFY_FULL ? 1u : 0u))
        return false;
    return v->since_last || (v->resumes && t->seconds >= v->resumes_from) ||
           (v->max_age > 0 && t->seconds + v->max_age >= v->began && t->seconds <= v->began);
}

static void save_state(struct verifier *v)
{
    int number = v->state.path == NULL || !v->state.has_uuid ? 0 : verify_state_save(&v->state);
    if (number != 0)
        cli_warn(&v->cli, "cannot write '%s': %s", v->state.path, strerror(number));
    v->saved_ns = cli_now_ns();
}

static void told_table(void *context, const char *file, uint64_t size, uint64_t digest,
                       bool is_sound)
{
    struct verifier *v = context;
    if (v->state.path == NULL)
        return;
    verify_state_note(&v->state, file, size, digest, v->options.level == LSM_VERIFY_FULL,
                      (uint64_t)time(NULL), is_sound);
    if (cli_now_ns() - v->saved_ns >= SAVE_EVERY_NS)
        save_state(v);
}

/* ---- the run --------------------------------------------------------------------------------- */

/* The file of what was verified is found, and made when it is needed, before the sandbox closes. */
static int open_state(struct verifier *v)
{
    bool is_wanted = v->since_last || v->resumes || v->max_age > 0;
    if (v->state.path == NULL && !is_wanted)
        return EXIT_DONE;
    if (v->state.path == NULL)
        v->state.path = verify_state_default_path(v->cli.directory);
    if (v->state.path == NULL)
        return cli_error(&v->cli, EXIT_OPERATION, "STATE",
                         "there is no place to remember what was verified: give --state=FILE");
    const char *wrong = verify_state_load(&v->state);
    if (wrong != NULL)
        return cli_error(&v->cli, EXIT_OPERATION, "STATE", "cannot read '%s': %s", v->state.path,
                         wrong);
    return EXIT_DONE;
}

static void set_callbacks(struct verifier *v)
{
    v->options.context = v;
    v->options.finding = told_finding;
    v->options.unmeasured = told_unmeasured;
    v->options.progress = told_progress;
    v->options.identified = told_identity;
    v->options.skip_table = asked_skip;
    v->options.table_done = told_table;
}

static int run(struct verifier *v)
{
    lsm_error err = {0};
    lsm_verify_result result = {.struct_size = sizeof result};
    set_callbacks(v);
    v->saved_ns = cli_now_ns();
    lsm_status status = lsm_verify(v->cli.directory, &v->options, &result, &err);
    if (v->pass >= 0)
        progress_end(&v->cli.progress, v->pass_done);
    int code = EXIT_DONE;
    if (status == LSM_CANCELLED && cli_is_cancelled())
        code = cli_cancelled(&v->cli);
    else if (status != LSM_OK && status != LSM_CORRUPT)
        code = cli_library_error(&v->cli, NULL, &err);
    if (result.damages > 0)
        code |= EXIT_DAMAGE;
    if (result.unmeasured > 0 || result.has_newer_format)
        code |= EXIT_OPERATION;
    if (status == LSM_OK || status == LSM_CORRUPT)
        v->state.run_is_complete = !v->options.first_error || result.damages == 0;
    save_state(v);
    if (status == LSM_OK || status == LSM_CORRUPT || status == LSM_CANCELLED)
        verify_output_result(&v->output, &result, level_names[v->options.level]);
    return code;
}

static void enter_sandbox(struct verifier *v)
{
    const char *const files[] = {v->state.path, NULL};
    sandbox_enter(&v->cli, &(struct sandbox_wish){.write_files = files});
}

int main(int argc, char **argv)
{
    struct verifier v = {.options = LSM_VERIFY_OPTIONS_INIT, .pass = -1};
    cli_init(&v.cli, "lsm-verify", help);
    take_options(&v, argc, argv);
    v.began = (uint64_t)time(NULL);
    v.output.cli = &v.cli;
    if (v.cli.json) {
        v.output.object = json_begin("lsm-verify/1");
        v.output.findings = json_object_new_array();
        v.output.unmeasured = json_object_new_array();
    }
    int code = open_state(&v);
    if (code == EXIT_DONE) {
        enter_sandbox(&v);
        code = run(&v);
    }
    if (v.cli.json) {
        json_add(v.output.object, "findings", v.output.findings);
        json_add(v.output.object, "unmeasured", v.output.unmeasured);
        code = json_finish(&v.cli, v.output.object, code);
    } else if (fflush(stdout) != 0 || ferror(stdout)) {
        code |= cli_error(&v.cli, EXIT_OPERATION, "LSM_IO", "cannot write to stdout");
    }
    verify_state_release(&v.state);
    memory_free(v.ignore_text);
    memory_free(v.ignored);
    cli_release(&v.cli);
    return code;
}
