/*
 * Many real processes on one database, killed at random moments while the others go on.
 *
 * Each process writes keys of its own, in ascending numbers, batches of three in two families, and
 * notes in shared memory what it begins and what was acknowledged. It also reads what others have
 * acknowledged: that must be there, since they said so before the read began. When a process is
 * killed another takes its place. Now and then all of them are killed, so that the next one
 * recovers. At the end everything acknowledged is there, once, and nothing else.
 *
 *   processes_test [--kills N] [--seconds N] [--processes N] [--seed N]
 */
#include "engine/base/random.h"
#include "engine/lsm.h"
#include "tests/lib/scratch.h"
#include "tests/lib/verdict.h"

#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_PROCESSES 32
#define MEMBERS       3
#define KILL_ALL      23 /* one kill in so many takes everybody */
#define STUCK_SECONDS 60 /* without a write of anybody */

struct place {
    _Atomic uint64_t begun, acknowledged; /* numbers of writes of all lives in this place */
    _Atomic uint64_t life;
};

struct board {
    struct place places[MAX_PROCESSES];
    _Atomic uint64_t writes;
    struct verdict verdict;
};

static struct board *board;
static char directory[SCRATCH_PATH_SIZE];
static char path[SCRATCH_PATH_SIZE + 8];
static struct {
    uint64_t seed, kills, seconds, processes;
} arguments = {.seed = 1, .kills = 60, .seconds = 12, .processes = 6};

static lsm_slice make_key(unsigned place, uint64_t number, unsigned member, char key[48])
{
    return LSM_SLICE(key,
                     (size_t)snprintf(key, 48, "p%02u/%08" PRIu64 "/%u", place, number, member));
}

static lsm_db *open_it(bool with_workers, lsm_cf **second)
{
    lsm_options options = LSM_OPTIONS_INIT;
    must(lsm_options_parse(&options,
                           "create=true,memtable_size=256KiB,stage_size=256KiB,"
                           "wal_segment_size=256KiB,table_size=128KiB,level_base_size=512KiB,"
                           "level0_trigger=2,cache_size=1MiB",
                           err));
    options.workers = with_workers ? 2 : LSM_NO_WORKERS;
    options.shm_dir = directory;
    lsm_db *db = NULL;
    must(lsm_open(path, &options, &db, err));
    if (lsm_cf_open(db, "second", second, NULL) != LSM_OK) {
        lsm_error err;
        lsm_status status = lsm_cf_create(db, "second", NULL, second, &err);
        if (status == LSM_EXISTS) /* somebody else was first */
            status = lsm_cf_open(db, "second", second, &err);
        if (status != LSM_OK)
            verdict_end("making the second family: %s", err.message);
    }
    return db;
}

/* The number of the write that a key's value names; 0: the key is absent. */
static uint64_t read_number(lsm_db *db, lsm_cf *cf, lsm_slice key)
{
    char value[400];
    size_t size = 0;
    uint64_t number;
    must(lsm_get_into(db, cf, key, NULL, value, sizeof value, &size, err));
    if (size == LSM_ABSENT)
        return 0;
    memcpy(&number, value, sizeof number);
    return number;
}

static void write_one(lsm_db *db, lsm_cf *second, unsigned place, uint64_t number,
                      struct random_state *r)
{
    char key[48], value[400];
    lsm_batch *batch = NULL;
    lsm_write_options options = {.durability = random_below(r, 9) == 0 ? LSM_SYNC : LSM_WRITE};
    memset(value, (int)(number % 251), sizeof value);
    memcpy(value, &number, sizeof number);
    must(lsm_batch_new(&batch, err));
    for (unsigned i = 0; i < MEMBERS; i++)
        must(lsm_batch_put(batch, i == 1 ? second : NULL, make_key(place, number, i, key),
                           LSM_SLICE(value, 20 + random_below(r, 380)), err));
    atomic_store(&board->places[place].begun, number);
    must(lsm_write(db, batch, &options, err));
    atomic_store(&board->places[place].acknowledged, number);
    atomic_fetch_add(&board->writes, 1);
    lsm_batch_free(batch);
}

/* What another process has acknowledged before is there, whole. */
static void read_of_others(lsm_db *db, lsm_cf *second, struct random_state *r)
{
    unsigned place = (unsigned)random_below(r, arguments.processes);
    uint64_t newest = atomic_load(&board->places[place].acknowledged);
    if (newest == 0)
        return;
    uint64_t number = random_below(r, 3) == 0 ? 1 + random_below(r, newest) : newest;
    for (unsigned i = 0; i < MEMBERS; i++) {
        char key[48];
        uint64_t found = read_number(db, i == 1 ? second : NULL, make_key(place, number, i, key));
        if (found == number)
            continue;
        verdict_end("process %u reads %" PRIu64 " at '%s' while %" PRIu64 " is acknowledged",
                    (unsigned)getpid(), found, key, newest);
    }
}

static void live(unsigned place, uint64_t seed)
{
    struct random_state r = random_seeded(seed);
    lsm_cf *second = NULL;
    lsm_db *db = open_it(random_below(&r, 4) != 0, &second);
    /* Its last life may have died within a write: that one is there, or not, for good. */
    uint64_t begun = atomic_load(&board->places[place].begun);
    if (begun > atomic_load(&board->places[place].acknowledged)) {
        char key[48];
        if (read_number(db, NULL, make_key(place, begun, 0, key)) == begun)
            atomic_store(&board->places[place].acknowledged, begun);
        else
            begun--;
    }
    uint64_t limit = 200 + random_below(&r, 20000);
    for (uint64_t n = 1; n <= limit; n++) {
        write_one(db, second, place, begun + n, &r);
        if (n % 8 == 0)
            read_of_others(db, second, &r);
        if (random_below(&r, 3000) == 0)
            must(lsm_flush(db, err));
    }
    must(lsm_close(db, err));
    _exit(0);
}

static pid_t start(unsigned place)
{
    uint64_t life = atomic_fetch_add(&board->places[place].life, 1);
    pid_t pid = fork();
    if (pid == 0)
        live(place, arguments.seed * 1000003 + place * 7919 + life);
    return pid;
}

static uint64_t count_all(lsm_db *db, lsm_cf *cf)
{
    lsm_iter *it = NULL;
    uint64_t count = 0;
    must(lsm_iter_open(db, cf, NULL, &it, err));
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it))
        count++;
    must(lsm_iter_status(it, err));
    lsm_iter_close(it);
    return count;
}

/* Everything acknowledged, nothing twice, and of what was only begun all or nothing. */
static uint64_t check(void)
{
    lsm_cf *second = NULL;
    lsm_db *db = open_it(false, &second);
    uint64_t writes = 0;
    for (unsigned place = 0; place < arguments.processes; place++) {
        struct place *p = &board->places[place];
        uint64_t last = atomic_load(&p->begun);
        for (uint64_t n = 1; n <= last; n++) {
            char key[48];
            unsigned there = 0;
            for (unsigned i = 0; i < MEMBERS; i++)
                there += read_number(db, i == 1 ? second : NULL, make_key(place, n, i, key)) == n;
            bool must_be = n <= atomic_load(&p->acknowledged);
            if (there == MEMBERS)
                writes++;
            else if (there > 0 || must_be)
                verdict_end("%u of %d members of write %" PRIu64 " of place %u%s", there, MEMBERS,
                            n, place, must_be ? ", which was acknowledged" : "");
        }
    }
    uint64_t first = count_all(db, NULL), other = count_all(db, second);
    if (first != 2 * writes || other != writes)
        verdict_end("the families hold other entries than were written");
    must(lsm_close(db, err));
    return writes;
}

static bool is_killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void check_end(int status)
{
    if (is_killed(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
        return;
    verdict_fail("a process ended with status %d", status);
}

static void sleep_us(uint64_t us)
{
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    nanosleep(&t, NULL);
}

/* Starts again those that have ended. */
static void replace_ended(pid_t pids[MAX_PROCESSES])
{
    for (unsigned i = 0; i < arguments.processes; i++) {
        int status;
        if (pids[i] > 0 && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
            check_end(status);
            pids[i] = start(i);
        }
    }
}

static void kill_some(pid_t pids[MAX_PROCESSES], struct random_state *r)
{
    bool all = random_below(r, KILL_ALL) == 0;
    unsigned one = (unsigned)random_below(r, arguments.processes);
    for (unsigned i = 0; i < arguments.processes; i++) {
        if (all || i == one)
            kill(pids[i], SIGKILL);
    }
}

static uint64_t storm(void)
{
    struct random_state r = random_seeded(arguments.seed);
    pid_t pids[MAX_PROCESSES];
    uint64_t kills = 0, writes_before = 0;
    time_t end = time(NULL) + (time_t)arguments.seconds, moved = time(NULL);
    for (unsigned i = 0; i < arguments.processes; i++)
        pids[i] = start(i);
    while (kills < arguments.kills && time(NULL) < end && !verdict_is_failed()) {
        sleep_us(1000 + random_below(&r, 200000));
        kill_some(pids, &r);
        kills++;
        replace_ended(pids);
        uint64_t writes = atomic_load(&board->writes);
        if (writes != writes_before)
            moved = time(NULL);
        writes_before = writes;
        if (time(NULL) - moved > STUCK_SECONDS)
            verdict_fail("nobody has written for %d seconds", STUCK_SECONDS);
    }
    for (unsigned i = 0; i < arguments.processes; i++) {
        int status;
        kill(pids[i], SIGKILL);
        if (waitpid(pids[i], &status, 0) == pids[i])
            check_end(status);
    }
    return kills;
}

static uint64_t number_after(int *at, int count, char **words)
{
    if (*at + 1 >= count) {
        fprintf(stderr, "%s wants a value\n", words[*at]);
        exit(99);
    }
    return strtoull(words[++*at], NULL, 10);
}

static void take_arguments(int count, char **words)
{
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "--kills") == 0)
            arguments.kills = number_after(&i, count, words);
        else if (strcmp(words[i], "--seconds") == 0)
            arguments.seconds = number_after(&i, count, words);
        else if (strcmp(words[i], "--processes") == 0)
            arguments.processes = number_after(&i, count, words);
        else if (strcmp(words[i], "--seed") == 0)
            arguments.seed = number_after(&i, count, words);
        else {
            fprintf(stderr, "processes_test: unknown word '%s'\n", words[i]);
            exit(99);
        }
    }
    if (arguments.processes < 1 || arguments.processes > MAX_PROCESSES)
        exit(99);
}

int main(int count, char **words)
{
    take_arguments(count, words);
    board = shared_memory(sizeof *board);
    verdict = &board->verdict;
    scratch_make(directory);
    snprintf(path, sizeof path, "%s/db", directory);
    uint64_t kills = storm();
    if (!verdict_is_failed()) {
        pid_t checker = fork();
        if (checker == 0) {
            uint64_t first = check();
            if (check() != first) /* a clean close in between */
                verdict_end("the second look finds other writes than the first");
            _exit(0);
        }
        int status;
        waitpid(checker, &status, 0);
        check_end(status);
    }
    printf("processes: kills=%" PRIu64 " acknowledged=%" PRIu64 " seed=%" PRIu64 "\n", kills,
           atomic_load(&board->writes), arguments.seed);
    if (verdict_is_failed()) {
        printf("FAILED: %s\n(left in %s)\n", verdict->message, directory);
        return 1;
    }
    scratch_remove(directory);
    return 0;
}
