#include "tools/cli/progress.h"

#include "tools/cli/cli.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PROGRESS_INTERVAL_NS  (UINT64_C(1000000000) / 8)
#define PROGRESS_WIDTH        80 /* columns when the terminal does not say */
#define PROGRESS_WIDEST       200
#define PROGRESS_NARROWEST    20
#define PROGRESS_NAME         61 /* bytes of a name that are shown, with the NUL */
#define PROGRESS_BAR_SMALLEST 10 /* no bar at all below this many columns */

/* What SIGUSR1 and SIGUSR2 asked for: 0 nothing, 1 on, 2 off. */
static volatile sig_atomic_t progress_wish;

void progress_signal(bool is_on)
{
    progress_wish = is_on ? 1 : 2;
}

void progress_init(struct progress *p)
{
    *p = (struct progress){.mode = PROGRESS_AUTO, .line_descriptor = -1, .name = ""};
}

static bool terminal_can_draw(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && term != NULL && strcmp(term, "dumb") != 0;
}

void progress_begin(struct progress *p)
{
    p->is_on = p->mode == PROGRESS_ALWAYS || (p->mode == PROGRESS_AUTO && terminal_can_draw());
}

void progress_pass(struct progress *p, const char *name)
{
    p->pass++;
    p->name = name;
    p->note = NULL;
    p->began_ns = cli_now_ns();
    p->drawn_ns = 0;
    p->lines_ns = 0;
}

static unsigned terminal_width(void)
{
    struct winsize size;
    unsigned width = PROGRESS_WIDTH;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        width = size.ws_col;
    if (width > PROGRESS_WIDEST)
        width = PROGRESS_WIDEST;
    return width < PROGRESS_NARROWEST ? PROGRESS_NARROWEST : width;
}

/* "3:07" or "1:02:03" */
static void format_duration(char *text, size_t size, uint64_t seconds)
{
    if (seconds >= 3600)
        (void)snprintf(text, size, "%" PRIu64 ":%02u:%02u", seconds / 3600,
                       (unsigned)(seconds / 60 % 60), (unsigned)(seconds % 60));
    else
        (void)snprintf(text, size, "%u:%02u", (unsigned)(seconds / 60), (unsigned)(seconds % 60));
}

/* "  45% 1.5 MiB 300.0 KiB/s ETA 0:07" */
static void format_numbers(char *text, size_t size, uint64_t current, uint64_t maximum,
                           uint64_t bytes, uint64_t elapsed_ns)
{
    char amount[CLI_SIZE_TEXT], rate[CLI_SIZE_TEXT], left[CLI_SIZE_TEXT] = "";
    double seconds = (double)elapsed_ns / 1e9;
    double fraction = maximum == 0 ? 0.0 : (double)current / (double)maximum;
    if (fraction > 1.0)
        fraction = 1.0;
    cli_format_size(bytes, amount);
    cli_format_size(seconds > 0 ? (uint64_t)((double)bytes / seconds) : 0, rate);
    if (maximum == 0) {
        (void)snprintf(text, size, "%s %s/s", amount, rate);
        return;
    }
    if (fraction > 0.0)
        format_duration(left, sizeof left, (uint64_t)(seconds * (1.0 - fraction) / fraction + 0.5));
    (void)snprintf(text, size, "%3.0f%% %s %s/s%s%s", fraction * 100, amount, rate,
                   left[0] != '\0' ? " ETA " : "", left);
}

void progress_format(char *line, unsigned width, const char *name, uint64_t current,
                     uint64_t maximum, uint64_t bytes, uint64_t elapsed_ns)
{
    char numbers[4 * CLI_SIZE_TEXT];
    format_numbers(numbers, sizeof numbers, current, maximum, bytes, elapsed_ns);
    size_t used = strlen(name) + 1 + strlen(numbers);
    if (maximum == 0 || used + 3 + PROGRESS_BAR_SMALLEST > width) {
        int length = snprintf(line, width + 1, "%s %s", name, numbers);
        (void)length; /* cut at the terminal's width on purpose */
        return;
    }
    size_t cells = width - used - 3;
    size_t filled =
        current >= maximum ? cells : (size_t)((double)current / (double)maximum * (double)cells);
    char *at = line + snprintf(line, width + 1, "%s [", name);
    memset(at, '#', filled);
    memset(at + filled, '-', cells - filled);
    (void)snprintf(at + cells, width + 1 - (size_t)(at + cells - line), "] %s", numbers);
}

static void write_all(int descriptor, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t written = write(descriptor, text, size);
        if (written <= 0)
            return; /* a bar that cannot be seen is no reason to stop */
        text += written;
        size -= (size_t)written;
    }
}

void progress_clear(struct progress *p)
{
    static const char clear[] = "\r\033[K";
    if (!p->is_drawn)
        return;
    write_all(STDERR_FILENO, clear, sizeof clear - 1);
    p->is_drawn = false;
}

/* A name may come out of a database: it gets no power over the terminal, nor over the fields of -C.
 */
static void copy_name(char *to, size_t size, const char *name, char for_blank)
{
    (void)snprintf(to, size, "%s", name);
    for (; *to != '\0'; to++) {
        if (*to == ' ')
            *to = for_blank;
        else if (*to < ' ' || *to > '~')
            *to = '?';
    }
}

static void write_line(struct progress *p, uint64_t current, uint64_t maximum)
{
    char line[128], name[PROGRESS_NAME];
    copy_name(name, sizeof name, p->name, '_');
    int length = snprintf(line, sizeof line, "%d %" PRIu64 " %" PRIu64 " %s\n", p->pass, current,
                          maximum, name);
    write_all(p->line_descriptor, line, (size_t)length);
}

void progress_update(struct progress *p, uint64_t current, uint64_t maximum, uint64_t bytes)
{
    if (progress_wish != 0) {
        p->is_on = progress_wish == 1;
        progress_wish = 0;
        if (!p->is_on)
            progress_clear(p);
    }
    if (!p->is_on && p->line_descriptor < 0)
        return;
    uint64_t now = cli_now_ns();
    if (p->line_descriptor >= 0 && now - p->lines_ns >= PROGRESS_INTERVAL_NS) {
        write_line(p, current, maximum);
        p->lines_ns = now;
    }
    if (!p->is_on || now - p->drawn_ns < PROGRESS_INTERVAL_NS)
        return;
    char line[PROGRESS_WIDEST + 8] = "\r", name[2 * PROGRESS_NAME];
    copy_name(name, PROGRESS_NAME, p->name, ' ');
    if (p->note != NULL)
        (void)snprintf(name + strlen(name), PROGRESS_NAME, " %s", p->note);
    unsigned width = terminal_width() - 1; /* the last column would wrap on some terminals */
    progress_format(line + 1, width, name, current, maximum, bytes, now - p->began_ns);
    strcat(line, "\033[K");
    write_all(STDERR_FILENO, line, strlen(line));
    p->is_drawn = true;
    p->drawn_ns = now;
}

void progress_end(struct progress *p, uint64_t current)
{
    if (p->line_descriptor >= 0)
        write_line(p, current, current);
    progress_clear(p);
}
