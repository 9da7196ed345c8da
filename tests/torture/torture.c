#include "tests/torture/torture.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct suite {
    const char *name;
    torture_suite *run;
    const char *text;
} suites[] = {
    {"bitflip", suite_bitflip, "every bit of a small database: read, verify, repair, compare"},
    {"smash", suite_smash, "bytes and pages overwritten, blocks swapped, old copies put back"},
    {"truncate", suite_truncate, "every file cut and grown"},
    {"missing", suite_missing, "every file, and every pair of files, gone, empty or doubled"},
    {"salvage", suite_salvage, "random databases, random damage: what repair saves, and says"},
    {"repair-crash", suite_repair_crash, "repair killed at each step, and out of space"},
    {"symlink", suite_symlink, "links, FIFOs and folders in place of files"},
    {"readonly", suite_readonly, "nothing can be written"},
    {"boundary", suite_boundary, "keys and values at the limits"},
    {"clean", suite_clean, "sound databases, half of them after kills: nothing is found"},
};
#define SUITES (sizeof suites / sizeof suites[0])

#define LARGE_PRIME UINT64_C(1000003)

/* For the signal handler. */
static char *current_case;

static void die(int number)
{
    static const char text[] = ": the case that was running\n";
    const char *what = number == SIGALRM ? "HANG in " : "CRASH in ";
    ssize_t ignored = write(STDERR_FILENO, what, strlen(what));
    ignored += write(STDERR_FILENO, current_case, strlen(current_case));
    ignored += write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    signal(number, SIG_DFL);
    raise(number);
}

static uint64_t now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

static int conclude(const struct torture *t, int result)
{
    alarm(0);
    if (t->keep && t->failure_count > 0)
        printf("kept: %s\n", t->scratch);
    else
        scratch_remove(t->scratch);
    printf("%s cases=%" PRIu64 " checks=%" PRIu64 " failures=%" PRIu64 " seed=%" PRIu64 "\n",
           t->suite, t->case_count, t->check_count, t->failure_count, t->seed);
    return t->failure_count > 0 ? 1 : result;
}

void torture_case(struct torture *t, const char *format, ...)
{
    if (t->minutes > 0 && now_seconds() - t->began >= t->minutes * 60) {
        printf("stopped after %" PRIu64 " minutes\n", t->minutes);
        int result = conclude(t, TORTURE_DONE);
        fflush(stdout);
        _exit(result); /* in the middle of a suite, which has not given back what it holds */
    }

    va_list arguments;
    va_start(arguments, format);
    vsnprintf(t->current, sizeof t->current, format, arguments);
    va_end(arguments);
    t->case_count++;
    alarm(TORTURE_CASE_SECONDS);
}

static void keep_damaged(struct torture *t)
{
    char kept[SCRATCH_PATH_SIZE + 64];
    if (!t->keep || t->damaged == NULL)
        return;
    snprintf(kept, sizeof kept, "%s/failed-%" PRIu64, t->scratch, t->failure_count);
    folder_store(t->damaged, kept);
    printf("    before the case: %s\n", kept);
}

bool torture_check(struct torture *t, bool holds, const char *format, ...)
{
    t->check_count++;
    if (holds)
        return true;
    t->failure_count++;
    va_list arguments;
    va_start(arguments, format);
    printf("FAILED %s: ", t->current);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    keep_damaged(t);
    fflush(stdout);
    return false;
}

uint64_t torture_cases(const struct torture *t, uint64_t quick, uint64_t full)
{
    return t->cases > 0 ? t->cases : t->is_full ? full : quick;
}

/* ---- all of something ------------------------------------------------------------------------ */

/* Steps of a prime that does not divide the total, which reach every number once. */
uint64_t torture_shuffled(const struct torture *t, uint64_t index, uint64_t total)
{
    uint64_t step = total % LARGE_PRIME != 0 ? LARGE_PRIME : 1;
    uint64_t first = t->seed % total;
    return (uint64_t)((index % total * (step % total) + first) % total);
}

struct folder_file *torture_file_at(const struct folder *files, unsigned each, uint64_t *place)
{
    size_t i = 0;
    while (*place >= each * files->files[i].size)
        *place -= each * files->files[i++].size;
    return &files->files[i];
}

/* ---- the command line ------------------------------------------------------------------------ */

static int usage(void)
{
    fprintf(stderr, "usage: torture SUITE [--seed N] [--cases N] [--full] [--minutes N] "
                    "[--io auto|uring|posix] [--look] [--keep]\n");
    for (size_t i = 0; i < SUITES; i++)
        fprintf(stderr, "  %-14s%s\n", suites[i].name, suites[i].text);
    return 99;
}

static bool read_number(const char *text, uint64_t *number)
{
    char *end;
    errno = 0;
    *number = text == NULL ? 0 : strtoull(text, &end, 0);
    return text != NULL && errno == 0 && *text != '\0' && *end == '\0';
}

static bool read_arguments(struct torture *t, char **argv)
{
    for (; *argv != NULL; argv++) {
        if (strcmp(*argv, "--full") == 0)
            t->is_full = true;
        else if (strcmp(*argv, "--look") == 0)
            t->look_only = true;
        else if (strcmp(*argv, "--keep") == 0)
            t->keep = true;
        else if (strcmp(*argv, "--seed") == 0 && read_number(argv[1], &t->seed))
            argv++;
        else if (strcmp(*argv, "--cases") == 0 && read_number(argv[1], &t->cases))
            argv++;
        else if (strcmp(*argv, "--minutes") == 0 && read_number(argv[1], &t->minutes))
            argv++;
        else if (strcmp(*argv, "--io") == 0 && argv[1] != NULL)
            t->io = *++argv;
        else
            return false;
    }
    return true;
}

static int run(struct torture *t, const struct suite *suite)
{
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM};
    current_case = t->current;
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++)
        signal(deadly[i], die);
    scratch_make(t->scratch);
    snprintf(t->path, sizeof t->path, "%s/db", t->scratch);
    t->random = random_seeded(t->seed);
    t->tree = getenv("top_builddir");
    t->suite = suite->name;
    t->began = now_seconds();
    snprintf(t->current, sizeof t->current, "%s: getting ready", suite->name);
    return conclude(t, suite->run(t));
}

int main(int argc, char **argv)
{
    struct torture t = {.seed = 1, .io = "posix"};
    if (argc < 2 || !read_arguments(&t, argv + 2))
        return usage();
    for (size_t i = 0; i < SUITES; i++) {
        if (strcmp(argv[1], suites[i].name) == 0)
            return run(&t, &suites[i]);
    }
    return usage();
}
