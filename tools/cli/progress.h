/*
 * The progress bar: one line on stderr, at most eight times a second, as wide as the terminal.
 *
 * Drawn when stderr is a terminal that can move its cursor (TERM is set and not "dumb"), or always,
 * or never. SIGUSR1 turns it on and SIGUSR2 off while the program runs. It uses no colours, so
 * NO_COLOR asks for nothing more. Apart from it, `-C FD` has the same numbers as lines for another
 * program: "pass current maximum name".
 */
#ifndef TOOLS_CLI_PROGRESS_H
#define TOOLS_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum progress_mode {
    PROGRESS_AUTO,
    PROGRESS_ALWAYS,
    PROGRESS_NEVER,
};

struct progress {
    enum progress_mode mode;
    int line_descriptor; /* of -C; -1: none */

    bool is_on;
    bool is_drawn; /* the terminal's line holds the bar */
    int pass;
    const char *name; /* of the pass; borrowed */
    const char *note; /* shown behind the name in the bar; borrowed; NULL: none */
    uint64_t began_ns;
    uint64_t drawn_ns;
    uint64_t lines_ns;
};

void progress_init(struct progress *p);
void progress_begin(struct progress *p); /* once the mode is known */
/* Begins the next pass. */
void progress_pass(struct progress *p, const char *name);
/* `current` of `maximum` (0: not known) is done, `bytes` were moved so far. Cheap when not due. */
void progress_update(struct progress *p, uint64_t current, uint64_t maximum, uint64_t bytes);
/* The pass has ended: the last line of -C is written, the bar is cleared. */
void progress_end(struct progress *p, uint64_t current);
void progress_clear(struct progress *p); /* before a message */

/* For the signal handler. */
void progress_signal(bool is_on);

/*
 * The bar's text, without the line control: made apart from the terminal so that it can be tested.
 * Writes at most `width` columns and a NUL into `line`, which holds width + 1 bytes.
 */
void progress_format(char *line, unsigned width, const char *name, uint64_t current,
                     uint64_t maximum, uint64_t bytes, uint64_t elapsed_ns);

#endif
