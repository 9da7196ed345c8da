/*
 * The machine stops at every step of a scripted run: every write, sync, name change and allocation.
 * What was not synced is then lost wholly, in part, or not at all, or only the process died. Each
 * time the database must open without help, hold every durable write and of the others a prefix in
 * commit order with batches whole, go on working, and open again.
 *
 * For some of the states the machine stops again at every step of the recovery and of the work that
 * follows it.
 *
 *   powercut_test [--full] [--seed N] [--step N [--until N]]
 */
#include "tests/crash/crash_script.h"

#include "engine/base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DB_PATH    "/db"
#define SEEN_SLOTS ((size_t)1 << 20) /* a power of two */

static const char *const crash_names[] = {"kill", "lose all", "keep all", "random"};

static struct {
    uint64_t seed;
    uint64_t first, until; /* steps; until 0: all */
    bool full;
} arguments = {.seed = 1, .first = 1};

static uint64_t *seen;
static uint64_t seen_count, state_count, equal_count, nested_count, failure_count;
static struct script afterwards;

/* ---- states that were met before ------------------------------------------------------------- */

struct hashing {
    struct sim_disk *disk;
    uint64_t sum;
};

static lsm_status hash_file(void *context, const char *name, lsm_error *err)
{
    struct hashing *h = context;
    const void *bytes = NULL;
    size_t size = 0;
    lsm_status status = sim_contents(h->disk, DB_PATH, name, &bytes, &size, err);
    if (status == LSM_OK) /* a sum: files are listed in any order */
        h->sum += hash_bytes(bytes, size, hash_bytes(name, strlen(name), size));
    return status;
}

static uint64_t disk_hash(struct sim_disk *disk)
{
    struct io *io = NULL;
    struct io_dir *dir = NULL;
    struct hashing h = {.disk = disk};
    if (sim_open(disk, &io, NULL) != LSM_OK)
        exit(99);
    if (io_dir_open(io, DB_PATH, 0, 0, &dir, NULL) == LSM_OK) {
        if (io_dir_list(dir, hash_file, &h, NULL) != LSM_OK)
            exit(99);
        io_dir_close(dir);
    }
    io_close(io);
    return h.sum;
}

/* True at the first time. */
static bool is_new(uint64_t state)
{
    if (state == 0)
        state = 1;
    size_t at = state & (SEEN_SLOTS - 1);
    while (seen[at] != 0 && seen[at] != state)
        at = (at + 1) & (SEEN_SLOTS - 1);
    if (seen[at] == state || seen_count == SEEN_SLOTS / 2)
        return seen[at] != state;
    seen[at] = state;
    seen_count++;
    return true;
}

/* ---- one crash ------------------------------------------------------------------------------- */

struct moment {
    uint64_t step, inner_step;
    enum sim_crash crash, inner_crash;
    uint64_t seed;
};

static void report(const struct moment *m, const char *what, const struct driver *d)
{
    failure_count++;
    printf("FAILED at step %" PRIu64 " (%s, seed %" PRIu64 ")", m->step, crash_names[m->crash],
           m->seed);
    if (m->inner_step != 0)
        printf(" and step %" PRIu64 " after it (%s)", m->inner_step, crash_names[m->inner_crash]);
    printf(", %s: %s\n", what, driver_message(d));
    fflush(stdout);
}

/* Opens, compares, goes on, and opens again. */
static void check_recovery(struct driver *d, const struct moment *m)
{
    state_count++;
    if (driver_open(d) != DRIVER_OK)
        report(m, "opening", d);
    else if (driver_verify(d) != DRIVER_OK)
        report(m, "reading", d);
    else if (driver_run(d, &afterwards, 0, afterwards.count, NULL) != DRIVER_OK)
        report(m, "going on", d);
    else if (driver_close(d) != DRIVER_OK)
        report(m, "closing", d);
}

static struct sim_disk *clone_of(const struct sim_disk *disk)
{
    struct sim_disk *clone = sim_disk_clone(disk);
    if (clone == NULL)
        exit(99);
    return clone;
}

/* The machine stops again at each step of the recovery of `crashed`, and of what is done then. */
static void check_nested(const struct driver *d, const struct sim_disk *crashed, struct moment m)
{
    static const enum sim_crash crashes[] = {SIM_CRASH_LOSE_ALL, SIM_CRASH_RANDOM, SIM_CRASH_KILL};
    bool is_over = false;
    for (m.inner_step = 1; !is_over; m.inner_step++) {
        struct sim_disk *disk = clone_of(crashed);
        struct driver *first = driver_fork(d, disk);
        sim_stop_at(disk, sim_step_count(disk) + m.inner_step);
        enum driver_result result = driver_open(first);
        if (result == DRIVER_OK)
            result = driver_run(first, &afterwards, 0, afterwards.count, NULL);
        is_over = !sim_is_stopped(disk);
        if (result == DRIVER_WRONG) {
            report(&m, "before the second crash", first);
            is_over = true;
        }
        driver_abandon(first, false);
        for (size_t i = 0; i < 3 && !is_over; i++) {
            struct sim_disk *again = clone_of(disk);
            struct driver *second = driver_fork(first, again);
            m.inner_crash = crashes[i];
            driver_abandon(second, m.inner_crash != SIM_CRASH_KILL);
            sim_crash(again, m.inner_crash, m.seed + m.inner_step);
            if (is_new(disk_hash(again) ^ driver_oracle_hash(second))) {
                nested_count++;
                check_recovery(second, &m);
            } else
                equal_count++;
            driver_free(second);
            sim_disk_free(again);
        }
        driver_free(first);
        sim_disk_free(disk);
    }
}

static void check_crash(const struct driver *stopped, const struct sim_disk *disk,
                        const struct moment *m, bool nested)
{
    struct sim_disk *crashed = clone_of(disk);
    struct driver *d = driver_fork(stopped, crashed);
    driver_abandon(d, m->crash != SIM_CRASH_KILL);
    sim_crash(crashed, m->crash, m->seed);
    if (is_new(disk_hash(crashed) ^ driver_oracle_hash(d))) {
        if (nested)
            check_nested(d, crashed, *m);
        check_recovery(d, m);
    } else
        equal_count++;
    driver_free(d);
    sim_disk_free(crashed);
}

/* ---- every step ------------------------------------------------------------------------------ */

static bool check_step(const struct script *s, uint64_t step, unsigned random_count, bool nested)
{
    struct sim_disk *disk = sim_disk_new(arguments.seed);
    struct driver_setup setup = {
        .backend = "sim", .options = CRASH_OPTIONS, .path = DB_PATH, .disk = disk};
    struct driver *d = driver_new(&setup);
    struct moment m = {.step = step, .seed = arguments.seed};
    sim_stop_at(disk, step);
    enum driver_result result = driver_open(d);
    if (result == DRIVER_OK)
        result = driver_run(d, s, 0, s->count, NULL);
    if (result == DRIVER_OK)
        result = driver_close(d);
    bool was_stopped = sim_is_stopped(disk);
    if (result == DRIVER_WRONG)
        report(&m, "before the crash", d);
    driver_abandon(d, false);
    if (was_stopped && result != DRIVER_WRONG) {
        static const enum sim_crash crashes[] = {SIM_CRASH_KILL, SIM_CRASH_LOSE_ALL,
                                                 SIM_CRASH_KEEP_ALL};
        for (size_t i = 0; i < 3; i++) {
            m.crash = crashes[i];
            check_crash(d, disk, &m, nested && m.crash != SIM_CRASH_KEEP_ALL);
        }
        m.crash = SIM_CRASH_RANDOM;
        for (unsigned i = 0; i < random_count; i++) {
            m.seed = arguments.seed * 1000003 + step * 1009 + i;
            check_crash(d, disk, &m, nested && i == 0);
        }
    }
    driver_free(d);
    sim_disk_free(disk);
    return was_stopped;
}

static void check_script(enum crash_size size, unsigned random_count, unsigned nested_every)
{
    struct script s = crash_script(size);
    for (uint64_t step = arguments.first;; step++) {
        if (arguments.until != 0 && step > arguments.until)
            break;
        bool nested = step % nested_every == 0;
        if (!check_step(&s, step, random_count, nested))
            break;
    }
    script_release(&s);
}

int main(int count, char **words)
{
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "--full") == 0)
            arguments.full = true;
        else if (strcmp(words[i], "--seed") == 0 && i + 1 < count)
            arguments.seed = strtoull(words[++i], NULL, 10);
        else if (strcmp(words[i], "--step") == 0 && i + 1 < count)
            arguments.until = arguments.first = strtoull(words[++i], NULL, 10);
        else if (strcmp(words[i], "--until") == 0 && i + 1 < count)
            arguments.until = strtoull(words[++i], NULL, 10);
        else {
            fprintf(stderr, "powercut_test: unknown word '%s'\n", words[i]);
            return 2;
        }
    }
    seen = calloc(SEEN_SLOTS, sizeof *seen);
    if (seen == NULL)
        return 99;
    afterwards = crash_afterwards();
    check_script(CRASH_SHORT, arguments.full ? 16 : 3, arguments.full ? 1 : 20);
    check_script(CRASH_LONG, arguments.full ? 16 : 1, arguments.full ? 5 : 60);
    printf("powercut: states=%" PRIu64 " nested=%" PRIu64 " equal=%" PRIu64 " failures=%" PRIu64
           " seed=%" PRIu64 "\n",
           state_count, nested_count, equal_count, failure_count, arguments.seed);
    script_release(&afterwards);
    free(seen);
    return failure_count > 0;
}
