/* What is done once to the whole database, and timed by its phases. */
#include "bench/clock.h"
#include "bench/machine.h"
#include "bench/processes.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static double seconds_since(uint64_t began_ns)
{
    return (double)(clock_ns() - began_ns) / 1e9;
}

void bench_open(struct bench *b)
{
    b->db = b->engine->open(b->options, b->directory);
    b->user_bytes = 0;
    b->storage_bytes = machine_use_now().written_bytes;
}

void bench_close(struct bench *b)
{
    b->engine->close(b->db);
    b->db = NULL;
}

static void open_timed(struct bench *b, struct phase *phase)
{
    uint64_t began = clock_ns();
    bench_open(b);
    *phase = (struct phase){"open", seconds_since(began)};
}

static void close_timed(struct bench *b, struct phase *phase)
{
    uint64_t began = clock_ns();
    bench_close(b);
    *phase = (struct phase){"close", seconds_since(began)};
}

static void call_timed(struct bench *b, void (*call)(void *db), struct phase *phase,
                       const char *name)
{
    uint64_t began = clock_ns();
    call(b->db);
    *phase = (struct phase){name, seconds_since(began)};
}

void control_compact(struct bench *b, struct phase phases[RESULT_PHASES])
{
    call_timed(b, b->engine->compact, &phases[0], "compact");
}

void control_flush(struct bench *b, struct phase phases[RESULT_PHASES])
{
    call_timed(b, b->engine->flush, &phases[0], "flush");
}

void control_settle(struct bench *b, struct phase phases[RESULT_PHASES])
{
    call_timed(b, b->engine->wait_idle, &phases[0], "wait");
}

void control_reopen(struct bench *b, struct phase phases[RESULT_PHASES])
{
    close_timed(b, &phases[0]);
    open_timed(b, &phases[1]);
}

/* Clean pages only can be dropped: sync first. */
static void evict_files(const char *directory)
{
    DIR *folder = opendir(directory);
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        int file = openat(dirfd(folder), entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (file < 0)
            continue;
        fsync(file);
        posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        close(file);
    }
    if (folder != NULL)
        closedir(folder);
}

void control_evict(struct bench *b, struct phase phases[RESULT_PHASES])
{
    close_timed(b, &phases[0]);
    evict_files(b->directory);
    open_timed(b, &phases[1]);
}

/* Another process, because engines have threads that a fork would leave behind: this program with
 * its own arguments and a few that override them. */
void control_recover(struct bench *b, struct phase phases[RESULT_PHASES])
{
    static char workloads[] = "--workloads=overwrite,die", json[] = "--json=/dev/null";
    static char alone[] = "--processes=1";
    char *directory = NULL;
    if (asprintf(&directory, "--db=%s", b->directory) < 0)
        die("out of memory");
    char **arguments = process_arguments(b, (char *[]){workloads, json, alone, directory}, 4);
    bench_close(b);
    process_wait(process_spawn(arguments));
    free(directory);
    free(arguments);
    open_timed(b, &phases[0]);
}

void control_die(struct bench *b, struct phase phases[RESULT_PHASES])
{
    (void)b;
    (void)phases;
    fflush(stdout);
    _exit(0);
}
