/*
 * What every tool shares: options, exit codes, messages, signals and the progress bar.
 *
 * Text for people goes to stdout, diagnostics and the bar to stderr. A message clears the bar
 * first. Keys and values never appear in diagnostics.
 */
#ifndef TOOLS_CLI_CLI_H
#define TOOLS_CLI_CLI_H

#include "engine/lsm.h"
#include "tools/cli/progress.h"
#include "tools/cli/text.h"

#include <getopt.h>

/* The exit code is a sum of these; the table stands in every manual page of section 1. */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_CHANGED = 1,    /* something was corrected, or records were skipped as asked */
    EXIT_DAMAGE = 4,     /* damage was found or is left */
    EXIT_OPERATION = 8,  /* a system call, a lock, a limit or the input stopped the work */
    EXIT_USAGE = 16,     /* the command line is wrong; nothing was done */
    EXIT_CANCELLED = 32, /* SIGINT or SIGTERM; the state is consistent */
    EXIT_LOST = 64,      /* data is missing that was there */
};

enum key_format {
    KEY_TEXT, /* print escapes */
    KEY_HEX,
    KEY_BASE64,
};

/* Values of the long options that have no letter. A tool's own begin at CLI_OPTION_OWN. */
enum cli_option {
    CLI_OPTION_JSON = 256,
    CLI_OPTION_CF,
    CLI_OPTION_KEY_FORMAT,
    CLI_OPTION_START,
    CLI_OPTION_END,
    CLI_OPTION_PREFIX,
    CLI_OPTION_IO,
    CLI_OPTION_PROGRESS,
    CLI_OPTION_OPTIONS,
    CLI_OPTION_RATE,
    CLI_OPTION_THREADS,
    CLI_OPTION_OWN,
};

/* clang-format off */
#define CLI_SHORT_OPTIONS "hVqvC:"
#define CLI_LONG_OPTIONS                                         \
    {"help", no_argument, NULL, 'h'},                            \
    {"version", no_argument, NULL, 'V'},                         \
    {"quiet", no_argument, NULL, 'q'},                           \
    {"verbose", no_argument, NULL, 'v'},                         \
    {"json", no_argument, NULL, CLI_OPTION_JSON},                \
    {"cf", required_argument, NULL, CLI_OPTION_CF},              \
    {"io", required_argument, NULL, CLI_OPTION_IO},              \
    {"rate", required_argument, NULL, CLI_OPTION_RATE},          \
    {"options", required_argument, NULL, CLI_OPTION_OPTIONS},    \
    {"progress", required_argument, NULL, CLI_OPTION_PROGRESS}
#define CLI_RANGE_OPTIONS                                        \
    {"key-format", required_argument, NULL, CLI_OPTION_KEY_FORMAT}, \
    {"start", required_argument, NULL, CLI_OPTION_START},        \
    {"end", required_argument, NULL, CLI_OPTION_END},            \
    {"prefix", required_argument, NULL, CLI_OPTION_PREFIX}
#define CLI_THREAD_OPTIONS                                       \
    {"threads", required_argument, NULL, CLI_OPTION_THREADS}

#define CLI_HELP                                                                                   \
    "      --cf=NAME           only this column family; may be given again (default: all)\n"       \
    "      --options=TEXT      options of the database, as memory sizes: 'cache_size=1GiB,...'\n"  \
    "      --io=auto|uring|posix\n"                                                                \
    "                          how files are read and written\n"                                   \
    "      --rate=BYTES        at most so many bytes a second; K, M, G are understood\n"           \
    "      --json              one JSON object instead of text for people\n"                       \
    "      --progress=auto|always|never\n"                                                         \
    "                          a bar on stderr; auto: when that is a terminal\n"                   \
    "  -C FD                   write 'pass current maximum name' lines to descriptor FD\n"         \
    "  -q, --quiet             no summary, no warnings\n"                                          \
    "  -v, --verbose           say more on stderr\n"                                               \
    "  -h, --help              this text\n"                                                        \
    "  -V, --version           the version of tool and library\n"
#define CLI_RANGE_HELP                                                                             \
    "      --start=KEY         first key\n"                                                        \
    "      --end=KEY           stop before this key\n"                                             \
    "      --prefix=KEY        only keys that begin with KEY\n"                                    \
    "      --key-format=text|hex|base64\n"                                                         \
    "                          how keys are written here; text knows \\\\ and \\hh\n"
/* clang-format on */

struct cli {
    /* set at start */
    const char *program; /* "lsm-load" */
    const char *help;    /* the text of --help */

    /* set by options */
    bool quiet;
    bool json;
    int verbosity;
    const char **families; /* of --cf, borrowed from argv; the array is owned */
    size_t family_count;
    enum key_format key_format;
    bool key_format_given;
    const char *start_text, *end_text, *prefix_text; /* as given; NULL: not given */
    uint64_t rate;                                   /* bytes a second; 0: no limit */
    lsm_options options;
    const char *directory;

    /* set by cli_parsed() */
    struct text start, end, prefix;
    bool has_start, has_end, has_prefix;

    struct progress progress;
    struct text error;       /* the first error's sentence; empty when none */
    const char *error_name;  /* of its status as in lsm(7), or "INPUT" and the like */
    uint64_t throttle_began; /* ns */
};

void cli_init(struct cli *cli, const char *program, const char *help);
void cli_release(struct cli *cli);

/*
 * One shared option. Ends the program for --help and --version, and with EXIT_USAGE for what is
 * wrong or unknown.
 */
void cli_take_option(struct cli *cli, int option, const char *argument);
/* A key as --key-format says; `option` is for the message. Ends the program when it is wrong. */
void cli_decode_key(struct cli *cli, const char *option, const char *text, struct text *key);
/* After the options: takes the directory, decodes keys, starts signals and the bar. */
void cli_parsed(struct cli *cli, int argc, char **argv, int first_operand);
/* Says what is wrong with the command line and ends the program. */
_Noreturn void cli_usage(struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* For a tool's own options. All end the program when the text is wrong. */
uint64_t cli_number(struct cli *cli, const char *option, const char *text, uint64_t limit);
uint64_t cli_size(struct cli *cli, const char *option, const char *text);

/* True when --cf was not given or names it. */
bool cli_wants_family(const struct cli *cli, const char *name);
/* LSM_OK, or an error was reported, when a family of --cf is not among `names`. */
int cli_check_families(struct cli *cli, char *const *names, size_t count);
/* A key as --key-format asks. */
void cli_append_key(const struct cli *cli, struct text *to, lsm_slice key);
/* "keys from 'a' to 'b'", without `shows` what is known of the range; NULL: there is no bound. */
void cli_append_range(const struct cli *cli, struct text *to, const lsm_slice *first,
                      const lsm_slice *last, bool shows);

/* Messages, one line each, with the program's name in front. error: returns `code`. */
int cli_error(struct cli *cli, enum exit_code code, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void cli_warn(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_note(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The library's sentence, with `context` and ": " in front when it is not NULL. Returns the code.
 */
int cli_library_error(struct cli *cli, const char *context, const lsm_error *err);
const char *cli_status_name(lsm_status status);

/* True once SIGINT or SIGTERM came. cli_cancelled() reports it and returns EXIT_CANCELLED. */
bool cli_is_cancelled(void);
int cli_cancelled(struct cli *cli);

/* Sleeps as long as --rate asks after `total` bytes since the first call. */
void cli_throttle(struct cli *cli, uint64_t total);
uint64_t cli_now_ns(void);

/* "1.5 MiB"; `text` holds at least CLI_SIZE_TEXT bytes. Returns text. */
#define CLI_SIZE_TEXT 32
const char *cli_format_size(uint64_t bytes, char *text);
/* "1 table", "2 tables": `one` and an s when there are more, or none. */
#define CLI_COUNT_TEXT 128
const char *cli_plural(uint64_t count, const char *one, char text[CLI_COUNT_TEXT]);

#endif
