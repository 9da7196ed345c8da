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

static char *copy_path(const struct bench *b)
{
    char *path = NULL;
    if (asprintf(&path, "%s.copy", b->directory) < 0)
        die("out of memory");
    return path;
}

void control_checkpoint(struct bench *b, struct phase phases[RESULT_PHASES])
{
    char *path = copy_path(b);
    uint64_t began = clock_ns();
    b->engine->checkpoint(b->db, path);
    phases[0] = (struct phase){"checkpoint", seconds_since(began)};
    free(path);
}

static void check_same(lsm_slice here, lsm_slice there, const char *what)
{
    if (here.size != there.size || memcmp(here.data, there.data, here.size) != 0)
        die("checkpoint: the %s of the last entry is another in the copy", what);
}

static void compare_last(const struct bench *b, void *session, void *copy_session)
{
    void *iter = b->engine->iter_open(session), *copied = b->engine->iter_open(copy_session);
    struct engine_entry last, last_copied;
    bool here = b->engine->iter_last(iter, &last);
    if (b->engine->iter_last(copied, &last_copied) != here)
        die("checkpoint: the copy has %s", here ? "no entry" : "an entry, and the database none");
    if (here) {
        check_same(last.key, last_copied.key, "key");
        check_same(last.value, last_copied.value, "value");
    }
    b->engine->iter_close(iter);
    b->engine->iter_close(copied);
}

/* What was put last has not been in memory for long, so a copy may miss it. */
static void find_newest(const struct bench *b, void *session)
{
    uint8_t bytes[KEY_MAX_SIZE];
    lsm_slice value, key = key_make(&b->keys, key_permute(&b->keys, b->keys.count - 1), bytes);
    if (b->counts->complete && !b->engine->get(session, key, &value))
        die("checkpoint: the copy does not hold the key that was put last");
}

void checkpoint_check(struct bench *b)
{
    const struct engine *engine = b->engine;
    char *path = copy_path(b);
    void *copy = engine->open(b->options, path);
    void *session = engine->session_open(b->db, b->options);
    void *copy_session = engine->session_open(copy, b->options);
    compare_last(b, session, copy_session);
    find_newest(b, copy_session);
    engine->session_close(copy_session);
    engine->session_close(session);
    engine->close(copy);
    engine->destroy(path);
    rmdir(path);
    free(path);
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
