#include "tools/cli/cli.h"

#include "tools/cli/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLI_MOST_THREADS 32 /* see lsm_options.workers */

/* ---- signals --------------------------------------------------------------------------------- */

static volatile sig_atomic_t cancel_wish;

static void signal_arrived(int number)
{
    if (number == SIGUSR1 || number == SIGUSR2)
        progress_signal(number == SIGUSR1);
    else
        cancel_wish = 1;
}

/* No SA_RESTART for the first two: a read or write that waits must return. */
static void signals_begin(void)
{
    struct sigaction action = {.sa_handler = signal_arrived};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
}

bool cli_is_cancelled(void)
{
    return cancel_wish != 0;
}

int cli_cancelled(struct cli *cli)
{
    return cli_error(cli, EXIT_CANCELLED, "CANCELLED", "cancelled by a signal");
}

/* ---- messages -------------------------------------------------------------------------------- */

int cli_error(struct cli *cli, enum exit_code code, const char *name, const char *format, ...)
{
    struct text sentence = {0};
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    text_append_string(&sentence, line);

    progress_clear(&cli->progress);
    fprintf(stderr, "%s: %s\n", cli->program, text_string(&sentence));
    if (cli->error.size == 0) {
        text_append(&cli->error, sentence.bytes, sentence.size);
        cli->error_name = name;
    }
    text_release(&sentence);
    return (int)code;
}

void cli_warn(struct cli *cli, const char *format, ...)
{
    if (cli->quiet)
        return;
    va_list arguments;
    progress_clear(&cli->progress);
    fprintf(stderr, "%s: warning: ", cli->program);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

void cli_note(struct cli *cli, const char *format, ...)
{
    if (cli->verbosity == 0)
        return;
    va_list arguments;
    progress_clear(&cli->progress);
    fprintf(stderr, "%s: ", cli->program);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

const char *cli_status_name(lsm_status status)
{
    static const struct {
        lsm_status status;
        const char *name;
    } names[] = {
#define STATUS_NAME(name, number, text) {name, #name},
        LSM_STATUS_LIST(STATUS_NAME)
#undef STATUS_NAME
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].status == status)
            return names[i].name;
    }
    return "unknown";
}

static enum exit_code exit_code_of(lsm_status status)
{
    if (status == LSM_CORRUPT)
        return EXIT_DAMAGE;
    if (status == LSM_INVALID) /* an option of the command line that only the library can judge */
        return EXIT_USAGE;
    return status == LSM_CANCELLED ? EXIT_CANCELLED : EXIT_OPERATION;
}

int cli_library_error(struct cli *cli, const char *context, const lsm_error *err)
{
    const char *sentence = err->message[0] != '\0' ? err->message : lsm_strerror(err->status);
    return cli_error(cli, exit_code_of(err->status), cli_status_name(err->status), "%s%s%s",
                     context == NULL ? "" : context, context == NULL ? "" : ": ", sentence);
}

_Noreturn void cli_usage(struct cli *cli, const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "%s: ", cli->program);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\nTry '%s --help'.\n", cli->program);
    exit(EXIT_USAGE);
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* Digits in front of a number; *rest is what follows. False when there are none or too many. */
static bool parse_digits(const char *text, uint64_t *value, const char **rest)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    *value = parsed;
    *rest = end;
    return true;
}

uint64_t cli_number(struct cli *cli, const char *option, const char *text, uint64_t limit)
{
    uint64_t value = 0;
    const char *rest = "";
    if (!parse_digits(text, &value, &rest) || *rest != '\0')
        cli_usage(cli, "%s: '%s' is not a number", option, text);
    if (value > limit)
        cli_usage(cli, "%s: '%s' is over the limit %" PRIu64, option, text, limit);
    return value;
}

uint64_t cli_size(struct cli *cli, const char *option, const char *text)
{
    static const char units[] = "KMGT";
    uint64_t value = 0;
    const char *rest = "";
    unsigned shift = 0;
    bool is_good = parse_digits(text, &value, &rest);
    if (is_good && *rest != '\0' && strcmp(rest, "B") != 0) {
        const char *unit = strchr(units, rest[0]);
        is_good = unit != NULL &&
                  (rest[1] == '\0' || strcmp(rest + 1, "B") == 0 || strcmp(rest + 1, "iB") == 0);
        shift = unit == NULL ? 0 : (unsigned)(unit - units + 1) * 10;
    }
    if (!is_good || value > UINT64_MAX >> shift)
        cli_usage(cli, "%s: '%s' is not a size such as 64M or 1GiB", option, text);
    return value << shift;
}

const char *cli_plural(uint64_t count, const char *one, char text[CLI_COUNT_TEXT])
{
    size_t length = strlen(one);
    if (count == 1)
        (void)snprintf(text, CLI_COUNT_TEXT, "1 %s", one);
    else if (length > 2 && one[length - 1] == 'y')
        (void)snprintf(text, CLI_COUNT_TEXT, "%" PRIu64 " %.*sies", count, (int)length - 1, one);
    else
        (void)snprintf(text, CLI_COUNT_TEXT, "%" PRIu64 " %s%s", count, one,
                       one[length - 1] == 's' ? "es" : "s");
    return text;
}

const char *cli_format_size(uint64_t bytes, char *text)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes / 1024.0;
    size_t unit = 0;
    if (bytes < 1024) {
        (void)snprintf(text, CLI_SIZE_TEXT, "%" PRIu64 " B", bytes);
        return text;
    }
    /* 1023.95 would print as 1024.0 */
    while (value >= 1023.95 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024.0;
        unit++;
    }
    (void)snprintf(text, CLI_SIZE_TEXT, "%.1f %s", value, units[unit]);
    return text;
}

uint64_t cli_now_ns(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

void cli_throttle(struct cli *cli, uint64_t total)
{
    if (cli->rate == 0)
        return;
    uint64_t now = cli_now_ns();
    if (cli->throttle_began == 0)
        cli->throttle_began = now;
    double due = (double)total / (double)cli->rate * 1e9;
    double early = due - (double)(now - cli->throttle_began);
    if (early < 1e6) /* sleep for a millisecond or more, or not at all */
        return;
    struct timespec pause = {.tv_sec = (time_t)(early / 1e9)};
    pause.tv_nsec = (long)(early - (double)pause.tv_sec * 1e9);
    nanosleep(&pause, NULL); /* a signal ends it early, as it should */
}

/* ---- options --------------------------------------------------------------------------------- */

void cli_init(struct cli *cli, const char *program, const char *help)
{
    *cli = (struct cli){
        .program = program, .help = help, .options = LSM_OPTIONS_INIT, .error_name = ""};
    progress_init(&cli->progress);
}

void cli_release(struct cli *cli)
{
    memory_free(cli->families);
    text_release(&cli->start);
    text_release(&cli->end);
    text_release(&cli->prefix);
    text_release(&cli->error);
}

static const char *one_of(struct cli *cli, const char *option, const char *text,
                          const char *const *words, size_t *index)
{
    for (size_t i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0) {
            *index = i;
            return words[i];
        }
    }
    cli_usage(cli, "%s: '%s' is not one of its values", option, text);
}

static void take_options_text(struct cli *cli, const char *text)
{
    lsm_error err = {0};
    if (lsm_options_parse(&cli->options, text, &err) != LSM_OK)
        cli_usage(cli, "--options: %s", err.message);
}

_Noreturn static void print_and_exit(struct cli *cli, bool is_help)
{
    if (is_help)
        fputs(cli->help, stdout);
    else
        printf("%s (libengine) %s\n", cli->program, lsm_version());
    exit(fflush(stdout) == 0 ? EXIT_DONE : EXIT_OPERATION);
}

void cli_take_option(struct cli *cli, int option, const char *argument)
{
    static const char *const io_words[] = {"auto", "uring", "posix", NULL};
    static const char *const progress_words[] = {"auto", "always", "never", NULL};
    static const char *const key_words[] = {"text", "hex", "base64", NULL};
    size_t index = 0;
    switch (option) {
    case 'h':
    case 'V':
        print_and_exit(cli, option == 'h');
    case 'q':
        cli->quiet = true;
        break;
    case 'v':
        cli->verbosity++;
        break;
    case 'C':
        cli->progress.line_descriptor = (int)cli_number(cli, "-C", argument, INT16_MAX);
        break;
    case CLI_OPTION_JSON:
        cli->json = true;
        break;
    case CLI_OPTION_CF:
        cli->families =
            memory_resize(cli->families, (cli->family_count + 1) * sizeof *cli->families);
        cli->families[cli->family_count++] = argument;
        break;
    case CLI_OPTION_KEY_FORMAT:
        (void)one_of(cli, "--key-format", argument, key_words, &index);
        cli->key_format = (enum key_format)index;
        cli->key_format_given = true;
        break;
    case CLI_OPTION_START:
        cli->start_text = argument;
        break;
    case CLI_OPTION_END:
        cli->end_text = argument;
        break;
    case CLI_OPTION_PREFIX:
        cli->prefix_text = argument;
        break;
    case CLI_OPTION_IO:
        cli->options.io = one_of(cli, "--io", argument, io_words, &index);
        break;
    case CLI_OPTION_PROGRESS:
        (void)one_of(cli, "--progress", argument, progress_words, &index);
        cli->progress.mode = (enum progress_mode)index;
        break;
    case CLI_OPTION_OPTIONS:
        take_options_text(cli, argument);
        break;
    case CLI_OPTION_RATE:
        cli->rate = cli_size(cli, "--rate", argument);
        break;
    case CLI_OPTION_THREADS:
        cli->options.workers = (uint32_t)cli_number(cli, "--threads", argument, CLI_MOST_THREADS);
        if (cli->options.workers == 0)
            cli_usage(cli, "--threads: at least one is needed");
        break;
    default:
        /* getopt_long() has said what is wrong */
        fprintf(stderr, "Try '%s --help'.\n", cli->program);
        exit(EXIT_USAGE);
    }
}

void cli_decode_key(struct cli *cli, const char *option, const char *text, struct text *key)
{
    static const char *(*const decoders[])(struct text *, lsm_slice, size_t *) = {
        [KEY_TEXT] = text_decode_print,
        [KEY_HEX] = text_decode_hex,
        [KEY_BASE64] = text_decode_base64,
    };
    const char *wrong = decoders[cli->key_format](key, LSM_SLICE(text, strlen(text)), NULL);
    if (wrong != NULL)
        cli_usage(cli, "%s: %s", option, wrong);
}

static void decode_bound(struct cli *cli, const char *option, const char *text, struct text *key,
                         bool *is_given)
{
    *is_given = text != NULL;
    if (text != NULL)
        cli_decode_key(cli, option, text, key);
}

void cli_parsed(struct cli *cli, int argc, char **argv, int first_operand)
{
    if (first_operand == argc)
        cli_usage(cli, "the database's directory is missing");
    if (first_operand + 1 < argc)
        cli_usage(cli, "one directory is wanted, '%s' is too many", argv[first_operand + 1]);
    cli->directory = argv[first_operand];
    decode_bound(cli, "--start", cli->start_text, &cli->start, &cli->has_start);
    decode_bound(cli, "--end", cli->end_text, &cli->end, &cli->has_end);
    decode_bound(cli, "--prefix", cli->prefix_text, &cli->prefix, &cli->has_prefix);
    signals_begin();
    progress_begin(&cli->progress);
}

/* ---- families and keys ----------------------------------------------------------------------- */

bool cli_wants_family(const struct cli *cli, const char *name)
{
    for (size_t i = 0; i < cli->family_count; i++) {
        if (strcmp(cli->families[i], name) == 0)
            return true;
    }
    return cli->family_count == 0;
}

int cli_check_families(struct cli *cli, char *const *names, size_t count)
{
    for (size_t i = 0; i < cli->family_count; i++) {
        bool is_there = false;
        for (size_t j = 0; j < count && !is_there; j++)
            is_there = strcmp(cli->families[i], names[j]) == 0;
        if (!is_there)
            return cli_error(cli, EXIT_OPERATION, "LSM_MISSING", "'%s' has no column family '%s'",
                             cli->directory, cli->families[i]);
    }
    return EXIT_DONE;
}

void cli_append_key(const struct cli *cli, struct text *to, lsm_slice key)
{
    switch (cli->key_format) {
    case KEY_TEXT:
        text_append_print(to, key);
        break;
    case KEY_HEX:
        text_append_hex(to, key);
        break;
    case KEY_BASE64:
        text_append_base64(to, key);
        break;
    }
}

static void append_bound(const struct cli *cli, struct text *to, const char *before, lsm_slice key)
{
    text_append_format(to, " %s '", before);
    cli_append_key(cli, to, key);
    text_append_string(to, "'");
}

void cli_append_range(const struct cli *cli, struct text *to, const lsm_slice *first,
                      const lsm_slice *last, bool shows)
{
    if (first == NULL && last == NULL) {
        text_append_string(to, "any key");
        return;
    }
    text_append_string(to, "keys");
    if (!shows) {
        text_append_string(to, " in one range (--show-data)");
        return;
    }
    if (first != NULL)
        append_bound(cli, to, "from", *first);
    if (last != NULL)
        append_bound(cli, to, first == NULL ? "up to" : "to", *last);
    else
        text_append_string(to, " on");
}
