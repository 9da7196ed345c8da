/*
 * Calls fail: each read, write, sync, allocation, open and rename of a scripted run in turn, once
 * or from then on; the disk is full; memory runs out at each allocation in turn.
 *
 * Never a crash, never a wrong answer. A call that fails says so in a sentence that names a file. A
 * write that failed is there whole or not at all, an acknowledged one is there, also after the
 * database was opened again; when the disk stops failing it opens.
 *
 *   fault_test [--full] [--seed N] [SUITE...]   suites: faults poison space memory
 */
#include "tests/crash/crash_script.h"

#include "engine/base/memory.h"
#include "engine/db/open.h"
#include "tests/lib/scratch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DB_PATH "/db"

static struct {
    uint64_t seed;
    bool full;
} arguments = {.seed = 1};

static uint64_t case_count, failure_count;
static struct script afterwards;

static const struct fault {
    const char *name;
    enum sim_fault_kind kind;
    int os_errno;
} faults[] = {
    {"read EIO", SIM_FAULT_READ, EIO},         {"write EIO", SIM_FAULT_WRITE, EIO},
    {"write ENOSPC", SIM_FAULT_WRITE, ENOSPC}, {"sync EIO", SIM_FAULT_SYNC, EIO},
    {"sync ENOSPC", SIM_FAULT_SYNC, ENOSPC},   {"allocate ENOSPC", SIM_FAULT_ALLOCATE, ENOSPC},
    {"open EMFILE", SIM_FAULT_OPEN, EMFILE},   {"rename EIO", SIM_FAULT_NAME, EIO},
};
#define FAULT_COUNT (sizeof faults / sizeof faults[0])

static void fail(const char *what, const char *where, const struct driver *d)
{
    failure_count++;
    printf("FAILED %s, %s: %s\n", what, where, driver_message(d));
    fflush(stdout);
}

/* ---- each operation in turn ------------------------------------------------------------------ */

static struct driver *driver_on(struct sim_disk *disk, bool tolerant)
{
    struct driver_setup setup = {.backend = "sim",
                                 .options = CRASH_OPTIONS,
                                 .path = DB_PATH,
                                 .disk = disk,
                                 .tolerant = tolerant};
    return driver_new(&setup);
}

/* The faults are over: what is there is read, the database opened again and used. */
static void check_healed(struct driver *d, const char *what)
{
    driver_set_tolerant(d, false);
    if (driver_db(d) != NULL && driver_verify(d) != DRIVER_OK) {
        fail(what, "reading after the fault", d);
        return;
    }
    driver_set_tolerant(d, true); /* after a failed sync the close says so again */
    if (driver_db(d) != NULL && driver_close(d) == DRIVER_WRONG) {
        fail(what, "closing", d);
        return;
    }
    driver_set_tolerant(d, false);
    if (driver_open(d) != DRIVER_OK)
        fail(what, "opening again", d);
    else if (driver_verify(d) != DRIVER_OK)
        fail(what, "reading after opening again", d);
    else if (driver_run(d, &afterwards, 0, afterwards.count, NULL) != DRIVER_OK)
        fail(what, "going on", d);
    else if (driver_close(d) != DRIVER_OK)
        fail(what, "closing at the end", d);
}

static void run_with_fault(const struct script *s, const struct fault *fault, uint64_t at,
                           bool sticky)
{
    char what[100];
    snprintf(what, sizeof what, "%s after %" PRIu64 "%s", fault->name, at,
             sticky ? " for ever" : "");
    struct sim_disk *disk = sim_disk_new(arguments.seed);
    struct driver *d = driver_on(disk, true);
    case_count++;
    sim_fail_after(disk, fault->kind, at, fault->os_errno, sticky);
    enum driver_result result = driver_open(d);
    if (result == DRIVER_OK)
        result = driver_run(d, s, 0, s->count, NULL);
    if (result == DRIVER_WRONG)
        fail(what, "during the fault", d);
    else {
        sim_fail_never(disk);
        check_healed(d, what);
    }
    driver_free(d);
    sim_disk_free(disk);
}

/* How many operations of a kind the run makes when nothing fails. */
static uint64_t count_operations(const struct script *s, enum sim_fault_kind kind)
{
    struct sim_disk *disk = sim_disk_new(arguments.seed);
    struct driver *d = driver_on(disk, false);
    if (driver_open(d) != DRIVER_OK || driver_run(d, s, 0, s->count, NULL) != DRIVER_OK)
        fail("without a fault", "running", d);
    uint64_t count = sim_operation_count(disk, kind);
    driver_free(d);
    sim_disk_free(disk);
    return count;
}

static void suite_faults(void)
{
    struct script s = crash_script(arguments.full ? CRASH_LONG : CRASH_SHORT);
    static const char *const recovery[] = {
        "put key=6b*1.01 value=301:2000",   "put cf=1 key=6b*1.02 value=302:2000",
        "put key=6b*1.03 value=303:9 sync", "put key=6b*1.04 value=304:100",
        "crash power=kill seed=1",          "put key=6b*1.05 value=305:100 sync",
        "crash power=kill seed=2",          "get key=6b*1.01",
    };
    for (size_t i = 0; i < sizeof recovery / sizeof recovery[0]; i++) {
        if (!script_append_text(&s, recovery[i]))
            exit(99);
    }
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        uint64_t count = count_operations(&s, faults[i].kind);
        for (uint64_t at = 0; at < count; at++) {
            run_with_fault(&s, &faults[i], at, false);
            run_with_fault(&s, &faults[i], at, true);
        }
    }
    script_release(&s);
}

/* ---- a failed sync --------------------------------------------------------------------------- */

static void expect(bool is_right, const char *what, const lsm_error *err)
{
    if (is_right)
        return;
    failure_count++;
    printf("FAILED %s (%s: %s)\n", what, lsm_strerror(err->status), err->message);
}

static lsm_status put_text(lsm_db *db, const char *key, const char *value,
                           lsm_durability durability, lsm_error *err)
{
    lsm_write_options options = {.durability = durability};
    *err = (lsm_error){0};
    return lsm_put(db, NULL, LSM_SLICE(key, strlen(key)), LSM_SLICE(value, strlen(value)), &options,
                   err);
}

static bool holds_text(lsm_db *db, const char *key, const char *value)
{
    lsm_pin pin = LSM_PIN_INIT;
    lsm_error err = {0};
    lsm_status status = lsm_get(db, NULL, LSM_SLICE(key, strlen(key)), NULL, &pin, &err);
    bool is_right = status == LSM_OK && pin.found && pin.value.size == strlen(value) &&
                    memcmp(pin.value.data, value, pin.value.size) == 0;
    lsm_pin_release(&pin);
    return is_right;
}

static lsm_db *open_plain(struct io *io, lsm_error *err)
{
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_db *db = NULL;
    options.create = true;
    options.exclusive = true;
    if (lsm_options_parse(&options, CRASH_OPTIONS, err) != LSM_OK ||
        db_open_on(io, DB_PATH, &options, &db, err) != LSM_OK)
        expect(false, "the database does not open", err);
    return db;
}

static void check_poison(int os_errno)
{
    struct sim_disk *disk = sim_disk_new(arguments.seed);
    struct io *io = NULL;
    lsm_error err = {0};
    case_count++;
    if (sim_open(disk, &io, &err) != LSM_OK)
        exit(99);
    lsm_db *db = open_plain(io, &err);
    if (db == NULL)
        exit(1);
    expect(put_text(db, "kept", "1", LSM_SYNC, &err) == LSM_OK, "a sync write fails", &err);
    sim_fail_after(disk, SIM_FAULT_SYNC, 0, os_errno, false);
    lsm_status failed = put_text(db, "torn", "1", LSM_SYNC, &err);
    expect(failed == LSM_IO || failed == LSM_NO_SPACE || failed == LSM_POISONED,
           "a failed sync is not told", &err);
    expect(err.message[0] != '\0' && strchr(err.message, '\'') != NULL,
           "a failed sync does not name its file", &err);
    expect(put_text(db, "later", "1", LSM_WRITE, &err) == LSM_POISONED,
           "a write after a failed sync is not refused", &err);
    expect(put_text(db, "later", "1", LSM_SYNC, &err) == LSM_POISONED,
           "a sync write after a failed sync is not refused", &err);
    expect(lsm_sync(db, &err) == LSM_POISONED, "lsm_sync after a failed sync is not refused", &err);
    expect(holds_text(db, "kept", "1"), "a durable write is not read after a failed sync", &err);
    expect(!holds_text(db, "later", "1"), "a refused write is there", &err);
    expect(!holds_text(db, "torn", "1"), "a sync write is read that never was durable", &err);
    (void)lsm_close(db, &err);
    db = open_plain(io, &err);
    if (db == NULL)
        exit(1);
    expect(holds_text(db, "kept", "1"), "a durable write is lost after a failed sync", &err);
    expect(!holds_text(db, "later", "1"), "a refused write is there after the reopening", &err);
    expect(put_text(db, "later", "2", LSM_SYNC, &err) == LSM_OK, "no write after reopening", &err);
    expect(lsm_close(db, &err) == LSM_OK, "it does not close", &err);
    io_close(io);
    sim_disk_free(disk);
}

static void suite_poison(void)
{
    check_poison(EIO);
    check_poison(ENOSPC);
}

/* ---- a full disk ----------------------------------------------------------------------------- */

#define SPACE_WRITES 300 /* batches */
#define SPACE_VALUE  3000

static void space_key(unsigned i, char *key)
{
    snprintf(key, 24, "key-%06u", i);
}

/* Batches of two keys until the disk is full; gives how many were acknowledged. */
static unsigned fill(lsm_db *db, unsigned first, lsm_status *status, lsm_error *err)
{
    static uint8_t value[SPACE_VALUE];
    unsigned i = first;
    for (*status = LSM_OK; i < first + SPACE_WRITES; i++) {
        char a[24], b[24];
        lsm_batch *batch = NULL;
        space_key(2 * i, a);
        space_key(2 * i + 1, b);
        model_value_fill((struct model_value){3 * i, SPACE_VALUE}, value);
        *status = lsm_batch_new(&batch, err);
        if (*status == LSM_OK)
            *status = lsm_batch_put(batch, NULL, LSM_SLICE(a, strlen(a)),
                                    LSM_SLICE(value, sizeof value), err);
        if (*status == LSM_OK)
            *status = lsm_batch_put(batch, NULL, LSM_SLICE(b, strlen(b)),
                                    LSM_SLICE(value, sizeof value), err);
        if (*status == LSM_OK)
            *status = lsm_write(db, batch, NULL, err);
        lsm_batch_free(batch);
        if (*status != LSM_OK)
            break;
    }
    return i;
}

static void check_filled(lsm_db *db, unsigned acknowledged, const char *when)
{
    lsm_error err = {0};
    char what[200];
    for (unsigned i = 0; i < 2 * acknowledged + 2; i++) {
        char key[24], other[24];
        lsm_pin pin = LSM_PIN_INIT, twin = LSM_PIN_INIT;
        space_key(i, key);
        space_key(i ^ 1, other);
        lsm_status status = lsm_get(db, NULL, LSM_SLICE(key, strlen(key)), NULL, &pin, &err);
        if (status == LSM_OK)
            status = lsm_get(db, NULL, LSM_SLICE(other, strlen(other)), NULL, &twin, &err);
        snprintf(what, sizeof what, "key %u %s: reading fails", i, when);
        expect(status == LSM_OK, what, &err);
        snprintf(what, sizeof what, "key %u of %u %s: half a batch", i, acknowledged * 2, when);
        expect(pin.found == twin.found, what, &err);
        snprintf(what, sizeof what, "key %u of %u %s: lost", i, acknowledged * 2, when);
        expect(pin.found || i >= 2 * acknowledged, what, &err);
        lsm_pin_release(&pin);
        lsm_pin_release(&twin);
    }
}

static void check_full_disk(uint64_t capacity)
{
    struct sim_disk *disk = sim_disk_new(arguments.seed);
    struct io *io = NULL;
    lsm_error err = {0};
    case_count++;
    if (sim_open(disk, &io, &err) != LSM_OK)
        exit(99);
    lsm_db *db = open_plain(io, &err);
    if (db == NULL)
        exit(1);
    lsm_status status;
    sim_set_capacity(disk, capacity);
    unsigned count = fill(db, 0, &status, &err);
    expect(status == LSM_NO_SPACE, "a full disk is not told", &err);
    check_filled(db, count, "on the full disk");
    sim_set_capacity(disk, 0);
    unsigned more = fill(db, count + 1, &status, &err);
    expect(status == LSM_OK && more == count + 1 + SPACE_WRITES,
           "writes do not go on when there is space again", &err);
    check_filled(db, count, "with space again");
    status = lsm_close(db, &err);
    expect(status == LSM_OK, "it does not close when there is space again", &err);
    db = open_plain(io, &err);
    if (db == NULL)
        exit(1);
    check_filled(db, count, "after opening again");
    expect(lsm_close(db, &err) == LSM_OK, "it does not close", &err);
    io_close(io);
    sim_disk_free(disk);
}

static void suite_space(void)
{
    for (uint64_t capacity = 512 << 10; capacity <= 1024 << 10; capacity += 37 << 10)
        check_full_disk(capacity);
}

/* ---- no memory ------------------------------------------------------------------------------- */

static void run_without_memory(const struct script *s, int64_t at, bool sticky, bool *was_hit)
{
    char what[100], directory[SCRATCH_PATH_SIZE], path[SCRATCH_PATH_SIZE + 8];
    snprintf(what, sizeof what, "no memory after %" PRId64 "%s", at, sticky ? " for ever" : "");
    snprintf(path, sizeof path, "%s/db", scratch_make(directory));
    struct driver_setup setup = {.backend = "posix",
                                 .options = CRASH_OPTIONS,
                                 .path = path,
                                 .shm_dir = directory,
                                 .tolerant = true};
    struct driver *d = driver_new(&setup);
    case_count++;
    mem_fail_after(at, sticky);
    enum driver_result result = driver_open(d);
    if (result == DRIVER_OK)
        result = driver_run(d, s, 0, s->count, NULL);
    if (result != DRIVER_WRONG && driver_db(d) != NULL)
        result = driver_close(d);
    *was_hit = driver_saw_error(d);
    mem_fail_after(-1, false);
    if (result == DRIVER_WRONG)
        fail(what, "without memory", d);
    else
        check_healed(d, what);
    driver_free(d);
    scratch_remove(directory);
}

static uint64_t count_allocations(const struct script *s)
{
    uint64_t before = mem_allocation_count();
    bool was_hit;
    run_without_memory(s, -1, false, &was_hit);
    return mem_allocation_count() - before;
}

static void suite_memory(void)
{
    struct script s = crash_script(CRASH_SHORT);
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1); /* nothing here needs a slow disk */
    uint64_t count = count_allocations(&s);
    uint64_t stride = arguments.full ? 1 : count / 400 + 1;
    for (uint64_t at = 0; at < count; at += at < 300 ? 1 : stride) {
        bool was_hit;
        run_without_memory(&s, (int64_t)at, false, &was_hit);
        if (at % 4 == 0 || arguments.full)
            run_without_memory(&s, (int64_t)at, true, &was_hit);
    }
    script_release(&s);
}

/* ---- main ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    void (*run)(void);
} suites[] = {
    {"faults", suite_faults},
    {"poison", suite_poison},
    {"space", suite_space},
    {"memory", suite_memory},
};
#define SUITE_COUNT (sizeof suites / sizeof suites[0])

int main(int count, char **words)
{
    bool chosen[SUITE_COUNT] = {false}, any = false;
    for (int i = 1; i < count; i++) {
        bool known = false;
        for (size_t k = 0; k < SUITE_COUNT; k++) {
            if (strcmp(words[i], suites[k].name) == 0)
                known = any = chosen[k] = true;
        }
        if (strcmp(words[i], "--full") == 0)
            known = arguments.full = true;
        else if (strcmp(words[i], "--seed") == 0 && i + 1 < count) {
            arguments.seed = strtoull(words[++i], NULL, 10);
            known = true;
        }
        if (!known) {
            fprintf(stderr, "fault_test: unknown word '%s'\n", words[i]);
            return 2;
        }
    }
    afterwards = crash_afterwards();
    for (size_t i = 0; i < SUITE_COUNT; i++) {
        if (any && !chosen[i])
            continue;
        uint64_t cases = case_count, failures = failure_count;
        suites[i].run();
        printf("%s: cases=%" PRIu64 " failures=%" PRIu64 " seed=%" PRIu64 "\n", suites[i].name,
               case_count - cases, failure_count - failures, arguments.seed);
        fflush(stdout);
    }
    script_release(&afterwards);
    return failure_count > 0;
}
