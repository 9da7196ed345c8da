#include "bench/processes.h"

#include "bench/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_NS 100000

extern char **environ;

/* One process's part; the parent reads it when the process has ended. */
struct seat {
    struct result result;
    struct result beside;
    uint64_t private_memory; /* at its peak, without what is mapped from files and shared */
    uint64_t shared_memory;
};

/* In a memory file without a name that the children inherit. */
struct hall {
    struct counts counts;
    _Atomic uint32_t ready;
    _Atomic bool begun;
    struct seat seats[];
};

static struct hall *the_hall; /* of this child */

static size_t hall_size(const struct bench_options *o)
{
    return sizeof(struct hall) + o->processes * sizeof(struct seat);
}

static struct hall *hall_map(const struct bench_options *o, int file)
{
    void *at = mmap(NULL, hall_size(o), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (at == MAP_FAILED)
        die("cannot map the memory that processes share: %s", strerror(errno));
    return at;
}

static void doze(void)
{
    nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
}

pid_t process_spawn(char *const arguments[])
{
    posix_spawn_file_actions_t actions;
    pid_t child;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    int failed = posix_spawn(&child, "/proc/self/exe", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0)
        die("cannot run this program again: %s", strerror(failed));
    return child;
}

static void check_end(int status)
{
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        die("another process of this benchmark has failed");
}

void process_wait(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    check_end(status);
}

char **process_arguments(const struct bench *b, char *const more[], size_t count)
{
    size_t given = (size_t)b->options->argument_count;
    char **arguments = calloc(given + count + 1, sizeof *arguments);
    if (arguments == NULL)
        die("out of memory");
    memcpy(arguments, b->options->arguments, given * sizeof *arguments);
    memcpy(arguments + given, more, count * sizeof *more);
    return arguments;
}

static char *text(const char *name, const char *value)
{
    char *option;
    if (asprintf(&option, "--%s=%s", name, value) < 0)
        die("out of memory");
    return option;
}

static pid_t spawn_child(const struct bench *b, const struct workload *workload, uint32_t index,
                         int file)
{
    char place[64], keep[] = "--keep-data";
    snprintf(place, sizeof place, "%u:%d:%d", index, file,
             b->witness != NULL ? witness_file(b->witness) : -1);
    char *more[] = {text("workloads", workload->name), text("db", b->directory),
                    text("child", place), keep};
    char **arguments = process_arguments(b, more, 4);
    pid_t child = process_spawn(arguments);
    free(arguments);
    for (int i = 0; i < 3; i++)
        free(more[i]);
    return child;
}

/* Until each has opened the database and started its threads; one that fails ends all. */
static void wait_until_ready(const struct hall *hall, const pid_t *children, uint32_t count)
{
    while (atomic_load(&hall->ready) < count) {
        for (uint32_t i = 0; i < count; i++) {
            int status = 0;
            if (waitpid(children[i], &status, WNOHANG) != children[i])
                continue;
            for (uint32_t other = 0; other < count; other++) {
                if (other != i)
                    kill(children[other], SIGKILL);
            }
            die("another process of this benchmark has failed");
        }
        doze();
    }
}

static void add_up(const struct hall *hall, uint32_t count, uint64_t began_ns,
                   struct result *result, struct result *beside)
{
    uint64_t shared = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct seat *seat = &hall->seats[i];
        result_add(result, &seat->result);
        result->peak_memory += seat->private_memory;
        if (seat->shared_memory > shared)
            shared = seat->shared_memory;
        if (seat->beside.threads > 0)
            result_add(beside, &seat->beside);
    }
    result->peak_memory += shared;
    result->seconds = (double)(result->ended_ns - began_ns) / 1e9;
    if (beside->threads > 0)
        beside->seconds = (double)(beside->ended_ns - began_ns) / 1e9;
}

void processes_run(struct bench *b, const struct workload *workload, struct result *result,
                   struct result *beside)
{
    const struct bench_options *o = b->options;
    pid_t *children = calloc(o->processes, sizeof *children);
    int file = memfd_create("lsm-bench", 0);
    if (children == NULL || file < 0 || ftruncate(file, (off_t)hall_size(o)) != 0)
        die("no memory that processes share: %s", strerror(errno));
    struct hall *hall = hall_map(o, file);
    hall->counts = *b->counts;
    for (uint32_t i = 0; i < o->processes; i++)
        children[i] = spawn_child(b, workload, i, file);
    wait_until_ready(hall, children, o->processes);
    uint64_t began = clock_ns();
    atomic_store(&hall->begun, true);
    for (uint32_t i = 0; i < o->processes; i++)
        process_wait(children[i]);
    add_up(hall, o->processes, began, result, beside);
    *b->counts = hall->counts;
    munmap(hall, hall_size(o));
    close(file);
    free(children);
}

void process_child_begin(struct bench *b)
{
    int file, witness;
    if (sscanf(b->options->child, "%u:%d:%d", &b->process_index, &file, &witness) != 3 ||
        b->process_index >= b->options->processes)
        die_of_usage("--child is what this program gives to itself");
    the_hall = hall_map(b->options, file);
    b->counts = &the_hall->counts;
    if (witness >= 0)
        b->witness = witness_attach(witness);
}

static void wait_for_begin(struct bench *b)
{
    (void)b;
    atomic_fetch_add(&the_hall->ready, 1);
    while (!atomic_load(&the_hall->begun))
        doze();
}

void process_child_run(struct bench *b, const struct workload *workload)
{
    struct seat *seat = &the_hall->seats[b->process_index];
    if (workload->zipf)
        zipf_init(&b->zipf, b->keys.count);
    machine_peak_memory_reset();
    struct machine_use before = machine_use_now();
    run_threads(b, workload, &seat->result, &seat->beside, wait_for_begin);
    measure_use(&seat->result, &before);
    uint64_t peak = machine_peak_memory();
    seat->shared_memory = machine_shared_memory();
    seat->private_memory = peak > seat->shared_memory ? peak - seat->shared_memory : 0;
}
