/*
 * No false alarms: databases made by random operations under many options, every second one left
 * by a process that was killed at a random moment, some looked at while they are written. Verify
 * finds nothing, and repair changes nothing.
 */
#include "tests/lib/driver.h"
#include "tests/torture/examine.h"
#include "tests/torture/torture.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SMALL "memtable_size=64KiB,stage_size=128KiB,wal_segment_size=128KiB,cache_size=1MiB,"

static const char *const option_sets[] = {
    SMALL "workers=none",
    SMALL "workers=none,compression=zstd:3,block_size=1KiB",
    SMALL "workers=none,compression=zstd,dictionary_size=4KiB,block_size=512",
    SMALL "workers=none,table_size=4KiB,level_base_size=4KiB,level_ratio=2,level0_trigger=1,"
          "compression=none",
    SMALL "workers=none,filter_bits=none,memtable_count=2",
    SMALL "workers=1,memtable=skiplist,filter_bits=5",
    SMALL "workers=2,table_size=4KiB,level_base_size=4KiB,level_ratio=2,level0_trigger=2",
    SMALL "workers=2,compression=zstd,dictionary_size=2KiB,table_size=32KiB",
    "memtable_size=1MiB,stage_size=128KiB,wal_segment_size=128KiB,workers=none,cache_size=1MiB",
};
#define OPTION_SETS (sizeof option_sets / sizeof option_sets[0])

#define MORE_WRITES 2000

/* What is done to the database while it is written. */
enum fate {
    CLOSED,  /* nothing: it is closed */
    KILLED,  /* the writer is killed */
    WATCHED, /* verified meanwhile, then the writer is killed */
    TWICE,   /* a second writer is killed on it */
    FATES,
};

static const char *const fate_names[FATES] = {"closed", "killed", "looked at, then killed",
                                              "killed twice"};

/* In a child: random operations until they are done. */
static void write_database(struct torture *t, const char *options, uint64_t seed, uint32_t ops)
{
    struct script_profile profile = {.seed = seed, .op_count = ops};
    struct driver_setup setup = {
        .backend = t->io, .options = options, .path = t->path, .shm_dir = t->scratch};
    struct script script = script_generate(&profile);
    struct driver *d = driver_new(&setup);
    if (driver_open(d) != DRIVER_OK || driver_run(d, &script, 0, script.count, NULL) != DRIVER_OK ||
        driver_close(d) != DRIVER_OK) {
        fprintf(stderr, "the writer: %s\n", driver_message(d));
        _exit(1);
    }
    _exit(0);
}

/* In a child: recovers what is there, and goes on. */
static void write_more(struct torture *t, const char *text)
{
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_error err = {0};
    lsm_db *db;
    lsm_status status = lsm_options_parse(&options, text, &err);
    options.create = true;
    options.io = t->io;
    options.shm_dir = t->scratch;
    if (status == LSM_OK)
        status = lsm_open(t->path, &options, &db, &err);
    for (unsigned i = 0; i < MORE_WRITES && status == LSM_OK; i++) {
        char key[32];
        lsm_slice written = {key, (size_t)snprintf(key, sizeof key, "more %u", i * 7919 % 1000)};
        status = i % 5 == 4 ? lsm_delete(db, NULL, written, NULL, &err)
                            : lsm_put(db, NULL, written, LSM_SLICE(text, strlen(text)), NULL, &err);
        if (status == LSM_OK && i % 300 == 299)
            status = lsm_flush(db, &err);
    }
    if (status == LSM_OK)
        status = lsm_close(db, &err);
    if (status != LSM_OK)
        fprintf(stderr, "the second writer: %s\n", err.message);
    _exit(status != LSM_OK);
}

/* ops 0: more writes to what is there. */
static pid_t start_writer(struct torture *t, const char *options, uint32_t ops)
{
    uint64_t seed = random_next(&t->random);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(TORTURE_CASE_SECONDS);
        if (ops > 0)
            write_database(t, options, seed, ops);
        else
            write_more(t, options);
    }
    if (child < 0)
        exit(99);
    return child;
}

static void wait_for(struct torture *t, pid_t child, bool may_be_killed)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    torture_check(t, (WIFEXITED(status) && WEXITSTATUS(status) == 0) || (killed && may_be_killed),
                  "the writer ended with status %d", status);
}

static void doze(struct torture *t, uint64_t longest_us)
{
    struct timespec time = {.tv_nsec = (long)random_below(&t->random, longest_us) * 1000};
    nanosleep(&time, NULL);
}

/* Is there a database yet? A writer that was killed too soon has made none. */
static bool is_there(const struct torture *t)
{
    char current[SCRATCH_PATH_SIZE + 32];
    snprintf(current, sizeof current, "%s/CURRENT", t->path);
    return access(current, F_OK) == 0;
}

static void verify(struct torture *t, const char *when)
{
    struct examination e = {0};
    if (!is_there(t))
        return;
    examination_take(&e, t->path, t->io);
    torture_check(t, e.status == LSM_OK && e.unclean_count == 0, "a false alarm %s: %s%s", when,
                  e.failed, examination_text(&e));
    examination_release(&e);
}

static void repair(struct torture *t)
{
    struct mending m = {0};
    struct folder before = {0}, after = {0};
    if (!is_there(t))
        return;
    folder_load(&before, t->path);
    mending_take(&m, t->path, t->io);
    folder_load(&after, t->path);
    const char *difference = folder_difference(&before, &after);
    torture_check(t, m.status == LSM_OK && !m.has_changed && difference == NULL,
                  "repair found something to do: %s%s", m.failed,
                  difference != NULL ? difference : "");
    mending_release(&m);
    folder_release(&before);
    folder_release(&after);
}

static void try_one(struct torture *t, const char *options, enum fate fate)
{
    uint32_t ops = 100 + (uint32_t)random_below(&t->random, fate == CLOSED ? 300 : 3000);
    pid_t writer = start_writer(t, options, ops);
    for (unsigned i = 0; fate == WATCHED && i < 3; i++) {
        doze(t, 20000);
        verify(t, "while it is written");
    }
    if (fate != CLOSED) {
        doze(t, 60000);
        kill(writer, SIGKILL);
    }
    wait_for(t, writer, fate != CLOSED);
    if (fate == TWICE) {
        writer = start_writer(t, options, 0);
        doze(t, 30000);
        kill(writer, SIGKILL);
        wait_for(t, writer, true);
    }
    verify(t, "at the end");
    repair(t);
    verify(t, "after the repair");
}

int suite_clean(struct torture *t)
{
    uint64_t count = torture_cases(t, 30, 1000);
    for (uint64_t i = 0; i < count; i++) {
        struct folder nothing = {0};
        enum fate fate = i % 2 == 0 ? CLOSED : (enum fate)(1 + i / 2 % (FATES - 1));
        const char *options = option_sets[random_below(&t->random, OPTION_SETS)];
        torture_case(t, "database %" PRIu64 ", %s, '%s'", i, fate_names[fate], options);
        folder_store(&nothing, t->path);
        rmdir(t->path);
        try_one(t, options, fate);
    }
    return TORTURE_DONE;
}
