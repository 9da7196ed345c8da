/*
 * Asynchronous queues on every backend: what they answer is what the plain calls answer, each
 * request once, whatever fails, is cancelled or given up meanwhile.
 */
#include "tests/unit/db/db_fixture.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/io/sim.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS                                                                                    \
    "create=true,workers=none,memtable_size=64KiB,stage_size=128KiB,wal_segment_size=128KiB,"      \
    "block_size=512,table_size=32KiB"
#define KEYS       500
#define VALUE_SIZE 120

static const char *const backends[] = {"uring", "posix", "sim"};
#define BACKENDS 3
#define SIM      2

static struct sim_disk *disk; /* NULL: the host's */
static struct io *io;
static lsm_db *db;
static lsm_async *async;

static lsm_slice key_of(unsigned i, char key[24])
{
    return LSM_SLICE(key, (size_t)snprintf(key, 24, "key-%06u", i));
}

static void put_number(unsigned i, unsigned round)
{
    char key[24], value[VALUE_SIZE];
    memset(value, 'v', sizeof value);
    snprintf(value, sizeof value, "%u of round %u", i, round);
    ck_ok(lsm_put(db, NULL, key_of(i, key), LSM_SLICE(value, sizeof value), NULL, &error));
}

/* Rounds that overwrite every second, third, ... key, each in tables of its own, but the last. */
static void fill(void)
{
    char key[24];
    for (unsigned i = 0; i < KEYS; i++)
        put_number(i, 1);
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    for (unsigned round = 2; round <= 5; round++) {
        for (unsigned i = 0; i < KEYS; i += round)
            put_number(i, round);
        ck_ok(lsm_delete(db, NULL, key_of(round * 7, key), NULL, &error));
        if (round < 5)
            ck_ok(lsm_flush(db, &error));
    }
}

static void open_database(unsigned backend, const char *more)
{
    char all[400];
    snprintf(all, sizeof all, OPTIONS "%s%s",
             backend == SIM ? "" : ",io=", backend == SIM ? "" : backends[backend]);
    snprintf(all + strlen(all), sizeof all - strlen(all), ",%s", more);
    lsm_options options = options_of(all);
    disk = NULL;
    io = NULL;
    if (backend != SIM) {
        ck_ok(lsm_open(db_path, &options, &db, &error));
        return;
    }
    disk = sim_disk_new(11);
    ck_assert_ptr_nonnull(disk);
    ck_ok(sim_open(disk, &io, &error));
    ck_ok(db_open_on(io, "/db", &options, &db, &error));
}

static bool open_queue(unsigned backend, const char *more, uint32_t depth)
{
    lsm_async_options options = LSM_ASYNC_OPTIONS_INIT;
    options.depth = depth;
    if (backend == 0) {
        struct io *tried = NULL;
        if (io_open("uring", &tried, &error) != LSM_OK) {
            printf("skipped on uring: %s\n", error.message);
            return false;
        }
        io_close(tried);
    }
    open_database(backend, more);
    fill();
    ck_ok(lsm_async_open(db, &options, &async, &error));
    return true;
}

static void close_database(void)
{
    close_ok(db); /* which refuses while a value is pinned */
    if (disk != NULL) {
        io_close(io);
        sim_disk_free(disk);
    }
}

static void close_all(void)
{
    ck_assert_uint_eq(lsm_async_pending(async), 0);
    lsm_async_close(async);
    close_database();
}

/* ---- expectations ---------------------------------------------------------------------------- */

/* A request, and what a plain call gave when it was submitted. */
struct asked {
    lsm_pin pin;
    char buffer[VALUE_SIZE];
    size_t size;
    bool into;
    lsm_pin expected;
    unsigned completed;
};

static void ask(struct asked *a, unsigned i, const lsm_read_options *options, bool into)
{
    char key[24];
    *a = (struct asked){.into = into};
    ck_ok(lsm_get(db, NULL, key_of(i, key), options, &a->expected, &error));
    if (into)
        ck_ok(lsm_async_get_into(async, NULL, key_of(i, key), options, a->buffer, sizeof a->buffer,
                                 &a->size, a, &error));
    else
        ck_ok(lsm_async_get(async, NULL, key_of(i, key), options, &a->pin, a, &error));
    memset(key, 'x', sizeof key); /* it was copied */
}

static void check_value(bool found, lsm_slice value, const lsm_pin *expected)
{
    ck_assert_int_eq(found, expected->found);
    if (!found)
        return;
    ck_assert_uint_eq(value.size, expected->value.size);
    ck_assert_mem_eq(value.data, expected->value.data, value.size);
}

static void check_answer(struct asked *a)
{
    if (a->into)
        check_value(a->size != LSM_ABSENT, LSM_SLICE(a->buffer, a->size), &a->expected);
    else
        check_value(a->pin.found, a->pin.value, &a->expected);
    lsm_pin_release(&a->pin);
    lsm_pin_release(&a->expected);
    a->completed++;
}

/* Takes what is there, at least `least`; all of it must have succeeded. */
static size_t take(size_t least)
{
    lsm_completion done[16];
    size_t count = 0;
    ck_ok(lsm_async_wait(async, least, 0, done, 16, &count, &error));
    for (size_t i = 0; i < count; i++) {
        ck_assert_msg(done[i].status == LSM_OK, "%s",
                      done[i].error == NULL ? "" : done[i].error->message);
        ck_assert_ptr_null(done[i].error);
        if (done[i].user_data != NULL)
            check_answer(done[i].user_data);
    }
    return count;
}

static void take_all(void)
{
    while (lsm_async_pending(async) > 0)
        ck_assert_uint_gt(take(1), 0);
}

/* ---- reads ----------------------------------------------------------------------------------- */

#define MODEL_STEPS 2000

static const struct {
    unsigned backend;
    const char *options;
} mixes[] = {{SIM, "cache_size=none"},
             {SIM, "cache_size=16KiB"},
             {SIM, "cache_size=1MiB"},
             {0, "cache_size=16KiB"},
             {1, "cache_size=none"}};
#define MIXES ((int)(sizeof mixes / sizeof *mixes))

START_TEST(test_async_gets_agree_with_plain_gets)
{
    struct random_state random;
    uint64_t seed = 20261122 + (uint64_t)_i;
    static struct asked asked[MODEL_STEPS];
    size_t next = 0;
    printf("seed %" PRIu64 "\n", seed);
    random = random_seeded(seed);
    if (!open_queue(mixes[_i].backend, mixes[_i].options, 8))
        return;
    lsm_snapshot *snapshot = NULL;
    while (next < MODEL_STEPS) {
        unsigned i = (unsigned)random_below(&random, KEYS + 20);
        lsm_read_options options = {.no_fill_cache = random_below(&random, 8) == 0};
        switch (random_below(&random, 40)) {
        case 0:
            put_number(i, 100 + (unsigned)next);
            break;
        case 1:
            lsm_snapshot_release(db, snapshot);
            ck_ok(lsm_snapshot_acquire(db, &snapshot, &error));
            break;
        case 2:
            if (next % 200 < 10)
                ck_ok(lsm_compact_range(db, NULL, NULL, &error));
            else if (next % 4 == 0)
                ck_ok(lsm_flush(db, &error));
            break;
        case 3:
        case 4:
            take(random_below(&random, 20));
            break;
        default:
            options.snapshot = random_below(&random, 2) == 0 ? snapshot : NULL;
            ask(&asked[next++], i, &options, random_below(&random, 2) == 0);
        }
    }
    lsm_snapshot_release(db, snapshot);
    take_all();
    for (size_t i = 0; i < next; i++)
        ck_assert_uint_eq(asked[i].completed, 1);
    close_all();
}
END_TEST

START_TEST(test_async_multi_get_sees_one_moment)
{
    enum { COUNT = 150 };
    lsm_pin pins[COUNT] = {LSM_PIN_INIT}, expected[COUNT] = {LSM_PIN_INIT};
    char bytes[COUNT][24];
    lsm_slice keys[COUNT];
    if (!open_queue((unsigned)_i, "cache_size=16KiB", 4))
        return;
    for (unsigned i = 0; i < COUNT; i++)
        keys[i] = key_of(i * 5 % (KEYS + 30), bytes[i]);
    ck_ok(lsm_multi_get(db, NULL, COUNT, keys, NULL, expected, &error));
    ck_ok(lsm_async_multi_get(async, NULL, COUNT, keys, NULL, pins, NULL, &error));
    ck_ok(lsm_async_multi_get(async, NULL, 0, NULL, NULL, NULL, NULL, &error));
    ck_assert_uint_eq(lsm_async_pending(async), 2);
    for (unsigned i = 0; i < KEYS; i++)
        put_number(i, 1000);
    take_all();
    for (unsigned i = 0; i < COUNT; i++) {
        check_value(pins[i].found, pins[i].value, &expected[i]);
        lsm_pin_release(&pins[i]);
        lsm_pin_release(&expected[i]);
    }
    close_all();
}
END_TEST

START_TEST(test_async_thousands_are_in_flight)
{
    enum { COUNT = 6000 };
    static struct asked asked[COUNT];
    if (!open_queue((unsigned)_i, "cache_size=64KiB", 16))
        return;
    for (unsigned i = 0; i < COUNT; i++)
        ask(&asked[i], i * 37 % KEYS, NULL, i % 2 == 0);
    ck_assert_uint_eq(lsm_async_pending(async), COUNT);
    take_all();
    for (unsigned i = 0; i < COUNT; i++)
        ck_assert_uint_eq(asked[i].completed, 1);
    close_all();
}
END_TEST

START_TEST(test_async_replaced_tables_stay_for_requests_in_flight)
{
    static struct asked asked[KEYS];
    if (!open_queue((unsigned)_i, "cache_size=none", 1))
        return;
    for (unsigned i = 0; i < KEYS; i++)
        ask(&asked[i], i, NULL, false);
    for (unsigned i = 0; i < KEYS; i++)
        put_number(i, 2000);
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    take_all();
    ask(&asked[0], 3, NULL, true); /* and a new one sees what is new */
    take_all();
    ck_assert_str_eq(asked[0].buffer, "3 of round 2000");
    close_all();
}
END_TEST

START_TEST(test_async_one_block_is_read_once)
{
    static struct asked asked[200];
    lsm_pin none = LSM_PIN_INIT;
    ck_assert(open_queue(SIM, "cache_size=none", 8));
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    ck_ok(lsm_get(db, NULL, text("key-000100"), NULL, &none, &error)); /* the table is open */
    lsm_pin_release(&none);
    uint64_t before = sim_operation_count(disk, SIM_FAULT_READ);
    char key[24];
    for (unsigned i = 0; i < 200; i++) {
        asked[i] = (struct asked){.pin = LSM_PIN_INIT};
        ck_ok(lsm_async_get(async, NULL, key_of(100, key), NULL, &asked[i].pin, NULL, &error));
    }
    take_all();
    ck_assert_uint_eq(sim_operation_count(disk, SIM_FAULT_READ), before + 1);
    for (unsigned i = 0; i < 200; i++) {
        ck_assert(asked[i].pin.found);
        lsm_pin_release(&asked[i].pin);
    }
    close_all();
}
END_TEST

/* ---- failures -------------------------------------------------------------------------------- */

START_TEST(test_async_failed_read_fails_its_requests_alone)
{
    enum { COUNT = 40 };
    static lsm_pin pins[COUNT];
    char key[24];
    unsigned failed = 0, answered = 0;
    ck_assert(open_queue(SIM, "cache_size=none", 8));
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    for (unsigned i = 0; i < COUNT; i++) { /* opens the tables */
        ck_ok(lsm_get(db, NULL, key_of(i * 12 + 1, key), NULL, &pins[i], &error));
        lsm_pin_release(&pins[i]);
    }
    for (unsigned i = 0; i < COUNT; i++)
        ck_ok(
            lsm_async_get(async, NULL, key_of(i * 12 + 1, key), NULL, &pins[i], &pins[i], &error));
    sim_fail_after(disk, SIM_FAULT_READ, 5, EIO, false);
    while (lsm_async_pending(async) > 0) {
        lsm_completion done[7];
        size_t count = 0;
        ck_ok(lsm_async_wait(async, 3, 0, done, 7, &count, &error));
        for (size_t i = 0; i < count; i++) {
            lsm_pin *pin = done[i].user_data;
            failed += done[i].status != LSM_OK;
            answered += done[i].status == LSM_OK;
            ck_assert_int_eq(pin->found, done[i].status == LSM_OK);
            if (done[i].status == LSM_OK)
                continue;
            ck_assert_int_eq(done[i].status, LSM_IO);
            ck_assert_int_eq(done[i].error->os_errno, EIO);
            ck_assert_ptr_nonnull(strstr(done[i].error->message, ".sst"));
        }
    }
    ck_assert_uint_gt(failed, 0);
    ck_assert_uint_gt(answered, COUNT / 2);
    for (unsigned i = 0; i < COUNT; i++)
        lsm_pin_release(&pins[i]);
    close_all();
}
END_TEST

START_TEST(test_async_multi_get_that_fails_pins_nothing)
{
    enum { COUNT = 40 };
    static lsm_pin pins[COUNT];
    char bytes[COUNT][24];
    lsm_slice keys[COUNT];
    lsm_completion done;
    size_t count = 0;
    ck_assert(open_queue(SIM, "cache_size=none", 4));
    for (unsigned i = 0; i < COUNT; i++)
        keys[i] = key_of(i * 12 + 1, bytes[i]);
    ck_ok(lsm_async_multi_get(async, NULL, COUNT, keys, NULL, pins, pins, &error));
    sim_fail_after(disk, SIM_FAULT_READ, 9, EIO, false);
    ck_ok(lsm_async_wait(async, 1, 0, &done, 1, &count, &error));
    ck_assert_uint_eq(count, 1);
    ck_assert_int_eq(done.status, LSM_IO);
    for (unsigned i = 0; i < COUNT; i++)
        ck_assert(!pins[i].found);
    close_all();
}
END_TEST

/* Allocations fail one after the other: a call fails or a request does, and nothing is lost. */
START_TEST(test_async_out_of_memory_is_told)
{
    char bytes[3][24];
    lsm_slice keys[3];
    unsigned failures = 0;
    ck_assert(open_queue((unsigned)_i, "cache_size=16KiB", 2));
    for (unsigned i = 0; i < 3; i++)
        keys[i] = key_of(i * 150 + 1, bytes[i]);
    for (int64_t after = 0;; after++) {
        lsm_completion done = {.status = LSM_OK};
        lsm_pin pins[3] = {LSM_PIN_INIT};
        lsm_async *own = NULL;
        size_t count = 0;
        uint64_t before = mem_allocation_count();
        mem_fail_after(after, false);
        lsm_status status = lsm_async_open(db, NULL, &own, &error);
        if (status == LSM_OK)
            status = lsm_async_multi_get(own, NULL, 3, keys, NULL, pins, NULL, &error);
        if (status == LSM_OK)
            status = lsm_async_wait(own, 1, 10000, &done, 1, &count, &error);
        uint64_t made = mem_allocation_count() - before;
        mem_fail_after(-1, false);
        ck_assert(status == LSM_OK || status == LSM_NO_MEMORY);
        ck_assert(done.status == LSM_OK || done.status == LSM_NO_MEMORY);
        bool failed = status != LSM_OK || done.status != LSM_OK;
        failures += failed;
        lsm_async_close(own);
        for (unsigned i = 0; i < 3; i++) {
            ck_assert(failed ? !pins[i].found : pins[i].found);
            lsm_pin_release(&pins[i]);
        }
        if ((uint64_t)after > made)
            break;
    }
    ck_assert_uint_gt(failures, 5);
    close_all();
}
END_TEST

START_TEST(test_async_wrong_use_is_refused)
{
    lsm_async_options options = {.struct_size = 3};
    lsm_async *other = NULL;
    lsm_completion done;
    lsm_pin pin = LSM_PIN_INIT;
    size_t count, size;
    static const char long_key[LSM_MAX_KEY_SIZE + 1];
    ck_assert(open_queue(1, "cache_size=1MiB", 4));
    ck_fails(LSM_INVALID, lsm_async_open(db, &options, &other, &error));
    options = (lsm_async_options)LSM_ASYNC_OPTIONS_INIT;
    options.depth = 4097;
    ck_fails(LSM_INVALID, lsm_async_open(db, &options, &other, &error));
    ck_fails(LSM_INVALID, lsm_async_open(db, NULL, NULL, &error));
    ck_fails(LSM_INVALID, lsm_async_open(NULL, NULL, &other, &error));
    ck_fails(LSM_INVALID, lsm_async_get(async, NULL, text("a"), NULL, NULL, NULL, &error));
    ck_fails(LSM_INVALID,
             lsm_async_get_into(async, NULL, text("a"), NULL, NULL, 1, &size, NULL, &error));
    ck_fails(LSM_TOO_LARGE, lsm_async_get(async, NULL, LSM_SLICE(long_key, sizeof long_key), NULL,
                                          &pin, NULL, &error));
    ck_fails(LSM_INVALID, lsm_async_get(NULL, NULL, text("a"), NULL, &pin, NULL, &error));
    ck_fails(LSM_INVALID, lsm_async_poll(async, NULL, 1, &count, &error));
    ck_fails(LSM_INVALID, lsm_async_wait(async, 1, 0, &done, 1, NULL, &error));
    ck_fails(LSM_INVALID, lsm_async_fd(async, NULL, &error));
    ck_ok(lsm_async_wait(async, 5, 0, &done, 1, &count, &error)); /* nothing is pending */
    ck_assert_uint_eq(count, 0);
    ck_assert_uint_eq(lsm_async_pending(NULL), 0);
    ck_assert_uint_eq(lsm_async_cancel(NULL, NULL), 0);
    lsm_async_close(NULL);
    ck_fails(LSM_BUSY, lsm_close(db, &error)); /* the queue is open */
    ck_assert_ptr_nonnull(strstr(error.message, "1 asynchronous"));
    close_all();
}
END_TEST

/* ---- giving up ------------------------------------------------------------------------------- */

START_TEST(test_async_close_in_flight_leaves_nothing)
{
    static lsm_pin pins[KEYS];
    char key[24];
    if (!open_queue((unsigned)_i, "cache_size=none", 4))
        return;
    lsm_write_options sync = {.durability = LSM_SYNC};
    lsm_batch *batch = NULL;
    ck_ok(lsm_batch_new(&batch, &error));
    ck_ok(lsm_batch_put(batch, NULL, text("last"), text("value"), &error));
    for (unsigned i = 0; i < KEYS; i++)
        ck_ok(lsm_async_get(async, NULL, key_of(i, key), NULL, &pins[i], NULL, &error));
    ck_ok(lsm_async_write(async, batch, &sync, NULL, &error));
    lsm_completion done[3];
    size_t count = 0;
    ck_ok(lsm_async_wait(async, 3, 0, done, 3, &count, &error)); /* some, not all */
    ck_assert_uint_eq(count, 3);
    lsm_async_close(async);
    unsigned pinned = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        pinned += pins[i].found;
        lsm_pin_release(&pins[i]); /* those that were delivered */
    }
    ck_assert_uint_le(pinned, 3);
    expect_text(db, NULL, "last", "value");
    lsm_batch_free(batch);
    close_database();
}
END_TEST

START_TEST(test_async_cancel_ends_reads_that_wait)
{
    static lsm_pin pins[KEYS];
    char key[24], odd = 0, even = 0;
    size_t cancelled = 0, answered = 0;
    if (!open_queue((unsigned)_i, "cache_size=none", 4))
        return;
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    for (unsigned i = 0; i < KEYS; i++)
        ck_ok(lsm_async_get(async, NULL, key_of(i, key), NULL, &pins[i], i % 2 ? &odd : &even,
                            &error));
    size_t expected = lsm_async_cancel(async, &odd);
    ck_assert_uint_gt(expected, 0);
    ck_assert_uint_eq(lsm_async_cancel(async, &odd), 0);
    while (lsm_async_pending(async) > 0) {
        lsm_completion done[16];
        size_t count;
        ck_ok(lsm_async_wait(async, 1, 0, done, 16, &count, &error));
        for (size_t i = 0; i < count; i++) {
            bool is_cancelled = done[i].status == LSM_CANCELLED;
            ck_assert(is_cancelled ? done[i].user_data == &odd : done[i].status == LSM_OK);
            cancelled += is_cancelled;
            answered += !is_cancelled;
        }
    }
    ck_assert_uint_eq(cancelled, expected);
    ck_assert_uint_eq(cancelled + answered, KEYS);
    for (unsigned i = 0; i < KEYS; i++)
        lsm_pin_release(&pins[i]);
    close_all();
}
END_TEST

START_TEST(test_async_child_of_fork_is_refused)
{
    lsm_pin pin = LSM_PIN_INIT;
    lsm_completion done;
    size_t count;
    int status;
    open_database(1, "cache_size=none");
    fill();
    ck_ok(lsm_async_open(db, NULL, &async, &error));
    ck_ok(lsm_async_get(async, NULL, text("key-000003"), NULL, &pin, NULL, &error));
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        lsm_pin own = LSM_PIN_INIT;
        bool refused =
            lsm_async_get(async, NULL, text("a"), NULL, &own, NULL, &error) == LSM_FORKED &&
            lsm_async_wait(async, 1, 0, &done, 1, &count, &error) == LSM_FORKED &&
            lsm_async_sync(async, NULL, &error) == LSM_FORKED;
        lsm_async_close(async);
        _exit(refused ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    take_all();
    lsm_pin_release(&pin);
    close_all();
}
END_TEST

/* ---- scans ----------------------------------------------------------------------------------- */

/* The entries are those of the iterator from where it stands on; leaves it behind them. */
static void check_entries(const lsm_scan *scan, lsm_iter *it)
{
    for (size_t i = 0; i < scan->count; i++, lsm_iter_next(it)) {
        const lsm_entry *entry = &scan->entries[i];
        lsm_slice key = lsm_iter_key(it), value = lsm_iter_value(it);
        ck_assert(lsm_iter_valid(it));
        ck_assert_uint_eq(entry->key.size, key.size);
        ck_assert_mem_eq(entry->key.data, key.data, key.size);
        ck_assert_uint_eq(entry->value.size, value.size);
        if (value.size > 0)
            ck_assert_mem_eq(entry->value.data, value.data, value.size);
    }
    ck_assert_int_eq(scan->has_more, lsm_iter_valid(it));
}

START_TEST(test_async_scans_agree_with_iterators)
{
    enum { COUNT = 40 };
    static lsm_scan scans[COUNT];
    lsm_iter *iters[COUNT] = {NULL};
    char first[COUNT][24];
    if (!open_queue((unsigned)_i, "cache_size=16KiB", 4))
        return;
    for (unsigned i = 0; i < COUNT; i++) {
        lsm_read_options options = {.first = key_of(i * 13, first[i]), .keys_only = i % 5 == 0};
        if (i % 3 == 0)
            options.limit = text("key-000300");
        ck_ok(lsm_iter_open(db, NULL, &options, &iters[i], &error));
        lsm_iter_first(iters[i]);
        scans[i] = (lsm_scan){0};
        size_t bytes = i % 4 == 0 ? 1500 : 0;
        ck_ok(lsm_async_scan(async, NULL, &options, i * 4, bytes, &scans[i], NULL, &error));
        put_number(i * 13 + 1, 3000); /* which is too late */
    }
    take_all();
    for (unsigned i = 0; i < COUNT; i++) {
        check_entries(&scans[i], iters[i]);
        ck_assert_uint_le(scans[i].count, i * 4);
        lsm_free(scans[i].entries);
        lsm_iter_close(iters[i]);
    }
    close_all();
}
END_TEST

START_TEST(test_async_scan_goes_on_where_the_last_one_ended)
{
    lsm_iter *it = NULL;
    lsm_scan scan = {.has_more = true};
    char first[64] = "";
    lsm_read_options options = {.first = LSM_SLICE(first, 0)};
    if (!open_queue((unsigned)_i, "cache_size=none", 4))
        return;
    ck_ok(lsm_iter_open(db, NULL, NULL, &it, &error));
    lsm_iter_first(it);
    while (scan.has_more) {
        ck_ok(lsm_async_scan(async, NULL, &options, SIZE_MAX, 5000, &scan, NULL, &error));
        take_all();
        check_entries(&scan, it);
        ck_assert_uint_gt(scan.count, 0);
        lsm_slice last = scan.entries[scan.count - 1].key;
        memset(first, 0, sizeof first);
        memcpy(first, last.data, last.size);
        options.first.size = last.size + 1;
        lsm_free(scan.entries);
    }
    lsm_iter_close(it);
    close_all();
}
END_TEST

START_TEST(test_async_scan_tells_why_it_failed)
{
    lsm_scan scan = {.count = 77};
    lsm_completion done;
    size_t count = 0;
    ck_assert(open_queue(SIM, "cache_size=none", 4));
    ck_fails(LSM_INVALID, lsm_async_scan(async, NULL, NULL, 10, 0, NULL, NULL, &error));
    sim_fail_after(disk, SIM_FAULT_READ, 3, EIO, true);
    ck_ok(lsm_async_scan(async, NULL, NULL, SIZE_MAX, 0, &scan, &scan, &error));
    ck_ok(lsm_async_wait(async, 1, 0, &done, 1, &count, &error));
    ck_assert_int_eq(done.status, LSM_IO);
    ck_assert_int_eq(done.error->os_errno, EIO);
    ck_assert_uint_eq(scan.count, 77); /* untouched */
    sim_fail_never(disk);
    close_all();
}
END_TEST

START_TEST(test_async_scans_are_cancelled_and_given_up)
{
    enum { COUNT = 60 };
    static lsm_scan scans[COUNT];
    char odd = 0, even = 0;
    size_t ended = 0;
    if (!open_queue((unsigned)_i, "cache_size=none", 4))
        return;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            scans[i] = (lsm_scan){0};
            ck_ok(lsm_async_scan(async, NULL, NULL, SIZE_MAX, 0, &scans[i], i % 2 ? &odd : &even,
                                 &error));
        }
        if (round == 1)
            break; /* closed in flight */
        ck_assert_uint_le(lsm_async_cancel(async, &odd), COUNT / 2);
        while (lsm_async_pending(async) > 0) {
            lsm_completion done[8];
            size_t count;
            ck_ok(lsm_async_wait(async, 1, 0, done, 8, &count, &error));
            for (size_t i = 0; i < count; i++, ended++)
                ck_assert(done[i].status == LSM_OK ||
                          (done[i].status == LSM_CANCELLED && done[i].user_data == &odd));
        }
        ck_assert_uint_eq(ended, COUNT);
        for (unsigned i = 0; i < COUNT; i++)
            lsm_free(scans[i].entries);
    }
    lsm_async_close(async);
    close_database();
}
END_TEST

/* ---- writes ---------------------------------------------------------------------------------- */

START_TEST(test_async_durable_writes_share_syncs)
{
    enum { COUNT = 200 };
    lsm_write_options sync = {.durability = LSM_SYNC};
    lsm_batch *batch = NULL;
    char key[24];
    if (!open_queue((unsigned)_i, "cache_size=1MiB", 4))
        return;
    ck_ok(lsm_batch_new(&batch, &error));
    uint64_t before = disk == NULL ? 0 : sim_operation_count(disk, SIM_FAULT_SYNC);
    for (unsigned i = 0; i < COUNT; i++) {
        lsm_batch_clear(batch);
        ck_ok(lsm_batch_put(batch, NULL, key_of(i, key), text("durable"), &error));
        ck_ok(lsm_async_write(async, batch, i % 4 == 3 ? NULL : &sync, NULL, &error));
    }
    ck_ok(lsm_async_sync(async, NULL, &error));
    ck_assert_uint_eq(lsm_async_pending(async), COUNT + 1);
    take_all();
    if (disk != NULL)
        ck_assert_uint_lt(sim_operation_count(disk, SIM_FAULT_SYNC) - before, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        key_of(i, key);
        expect_text(db, NULL, key, "durable");
    }
    lsm_batch_clear(batch); /* an empty one has nothing to wait for */
    ck_ok(lsm_async_write(async, batch, &sync, NULL, &error));
    ck_assert_uint_eq(take(1), 1);
    lsm_batch_free(batch);
    close_all();
}
END_TEST

START_TEST(test_async_failed_sync_fails_those_that_wait)
{
    enum { COUNT = 20 };
    lsm_write_options sync = {.durability = LSM_SYNC};
    lsm_batch *batch = NULL;
    size_t failed = 0;
    ck_assert(open_queue(SIM, "cache_size=1MiB", 4));
    ck_ok(lsm_batch_new(&batch, &error));
    ck_ok(lsm_batch_put(batch, NULL, text("a"), text("b"), &error));
    sim_fail_after(disk, SIM_FAULT_SYNC, 0, EIO, true);
    for (unsigned i = 0; i < COUNT; i++) {
        lsm_status status = lsm_async_write(async, batch, &sync, NULL, &error);
        ck_assert(status == LSM_OK || status == LSM_POISONED);
    }
    size_t submitted = lsm_async_pending(async);
    ck_assert_uint_gt(submitted, 0);
    while (lsm_async_pending(async) > 0) {
        lsm_completion done[4];
        size_t count = 0;
        ck_ok(lsm_async_wait(async, 1, 0, done, 4, &count, &error));
        for (size_t i = 0; i < count; i++) {
            ck_assert(done[i].status == LSM_IO || done[i].status == LSM_POISONED);
            ck_assert_ptr_nonnull(strchr(done[i].error->message, ' '));
            failed++;
        }
    }
    ck_assert_uint_eq(failed, submitted);
    ck_fails(LSM_POISONED, lsm_async_write(async, batch, &sync, NULL, &error));
    ck_fails(LSM_POISONED, lsm_async_sync(async, NULL, &error));
    lsm_batch_free(batch);
    lsm_async_close(async);
    (void)lsm_close(db, NULL);
    io_close(io);
    sim_disk_free(disk);
}
END_TEST

/* ---- waiting --------------------------------------------------------------------------------- */

static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    int ready;
    while ((ready = poll(&one, 1, timeout_ms)) < 0 && errno == EINTR)
        ;
    return ready > 0;
}

static size_t poll_once(void)
{
    lsm_completion done[5];
    size_t count = 0;
    ck_ok(lsm_async_poll(async, done, 5, &count, &error));
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(done[i].status, LSM_OK);
        if (done[i].user_data != NULL)
            check_answer(done[i].user_data);
    }
    return count;
}

/* Nothing is called but poll, and only when the descriptor says so. */
START_TEST(test_async_descriptor_drives_a_loop)
{
    enum { COUNT = 300 };
    static struct asked asked[COUNT];
    lsm_write_options sync = {.durability = LSM_SYNC};
    lsm_batch *batch = NULL;
    lsm_scan scan = {0};
    int fd = -1;
    if (!open_queue((unsigned)_i, "cache_size=16KiB", 8))
        return;
    ck_ok(lsm_async_fd(async, &fd, &error));
    while (is_readable(fd, 0))
        poll_once();
    ck_ok(lsm_batch_new(&batch, &error));
    ck_ok(lsm_batch_put(batch, NULL, text("key-000001"), text("synced"), &error));
    for (unsigned next = 0; next < COUNT || lsm_async_pending(async) > 0;) {
        if (next < COUNT) { /* chained: a few at a time, some in memory, a sync now and then */
            for (unsigned i = 0; i < 3; i++, next++)
                ask(&asked[next], next * 7 % KEYS, NULL, true);
            if (next == 60)
                ck_ok(lsm_async_scan(async, NULL, NULL, 20, 0, &scan, NULL, &error));
            if (next % 30 == 0)
                ck_ok(lsm_async_write(async, batch, &sync, NULL, &error));
        }
        ck_assert_msg(is_readable(fd, 20000), "%zu pending, and nobody is told",
                      lsm_async_pending(async));
        poll_once();
    }
    for (unsigned i = 0; i < COUNT; i++)
        ck_assert_uint_eq(asked[i].completed, 1);
    while (is_readable(fd, 0)) /* and then it rests */
        ck_assert_uint_eq(poll_once(), 0);
    ck_assert(!is_readable(fd, 0));
    ck_assert_uint_eq(scan.count, 20);
    lsm_free(scan.entries);
    lsm_batch_free(batch);
    close_all();
}
END_TEST

START_TEST(test_async_wait_is_over_in_time)
{
    lsm_completion done[KEYS];
    static lsm_pin pins[KEYS];
    char key[24];
    size_t count = 0, all = 0;
    if (!open_queue((unsigned)_i, "cache_size=none", 2))
        return;
    for (unsigned i = 0; i < KEYS; i++)
        ck_ok(lsm_async_get(async, NULL, key_of(i, key), NULL, &pins[i], NULL, &error));
    ck_ok(lsm_async_wait(async, 0, 0, done, 1, &count, &error));
    ck_assert_uint_le(count, 1);
    for (all = count; all < KEYS; all += count)
        ck_ok(lsm_async_wait(async, KEYS, 1, done, KEYS, &count, &error));
    ck_assert_uint_eq(all, KEYS);
    for (unsigned i = 0; i < KEYS; i++)
        lsm_pin_release(&pins[i]);
    close_all();
}
END_TEST

/* ---- threads --------------------------------------------------------------------------------- */

static void *read_in_a_thread(void *argument)
{
    unsigned seed = *(unsigned *)argument, wrong = 0;
    lsm_async *own = NULL;
    static _Thread_local lsm_pin pins[64];
    if (lsm_async_open(db, NULL, &own, NULL) != LSM_OK)
        return (void *)1;
    for (unsigned round = 0; round < 40; round++) {
        char key[24];
        for (unsigned i = 0; i < 64; i++)
            wrong += lsm_async_get(own, NULL, key_of((seed + round * 64 + i * 7) % KEYS, key), NULL,
                                   &pins[i], &pins[i], NULL) != LSM_OK;
        while (lsm_async_pending(own) > 0) {
            lsm_completion done[64];
            size_t count = 0;
            wrong += lsm_async_wait(own, 8, 0, done, 64, &count, NULL) != LSM_OK;
            for (size_t i = 0; i < count; i++)
                wrong += done[i].status != LSM_OK || !((lsm_pin *)done[i].user_data)->found;
        }
    }
    for (unsigned i = 0; i < 64; i++)
        lsm_pin_release(&pins[i]);
    lsm_async_close(own);
    return (void *)(uintptr_t)wrong;
}

START_TEST(test_async_queues_of_many_threads)
{
    pthread_t threads[3];
    unsigned seeds[3] = {1, 200, 300};
    if (!open_queue((unsigned)_i, "cache_size=16KiB,max_open_tables=8", 8))
        return;
    for (unsigned i = 0; i < KEYS; i++)
        put_number(i, 6);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_in_a_thread, &seeds[i]), 0);
    for (unsigned round = 7; round < 12; round++) {
        for (unsigned i = 0; i < KEYS; i += 3)
            put_number(i, round);
        ck_ok(lsm_flush(db, &error));
    }
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    for (unsigned i = 0; i < 3; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
    close_all();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("async");
    TCase *cases = tcase_create("async");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, fixture_set_up, fixture_tear_down);
    tcase_add_loop_test(cases, test_async_gets_agree_with_plain_gets, 0, MIXES);
    tcase_add_loop_test(cases, test_async_multi_get_sees_one_moment, 0, BACKENDS);
    tcase_add_loop_test(cases, test_async_thousands_are_in_flight, 0, BACKENDS);
    tcase_add_loop_test(cases, test_async_replaced_tables_stay_for_requests_in_flight, 0, BACKENDS);
    tcase_add_test(cases, test_async_one_block_is_read_once);
    tcase_add_test(cases, test_async_failed_read_fails_its_requests_alone);
    tcase_add_test(cases, test_async_multi_get_that_fails_pins_nothing);
    tcase_add_loop_test(cases, test_async_out_of_memory_is_told, 1, BACKENDS);
    tcase_add_test(cases, test_async_wrong_use_is_refused);
    tcase_add_loop_test(cases, test_async_close_in_flight_leaves_nothing, 0, BACKENDS);
    tcase_add_loop_test(cases, test_async_cancel_ends_reads_that_wait, 0, BACKENDS);
    tcase_add_test(cases, test_async_child_of_fork_is_refused);
    tcase_add_loop_test(cases, test_async_scans_agree_with_iterators, 0, BACKENDS);
    tcase_add_loop_test(cases, test_async_scan_goes_on_where_the_last_one_ended, 1, BACKENDS);
    tcase_add_test(cases, test_async_scan_tells_why_it_failed);
    tcase_add_loop_test(cases, test_async_scans_are_cancelled_and_given_up, 1, BACKENDS);
    tcase_add_loop_test(cases, test_async_durable_writes_share_syncs, 0, BACKENDS);
    tcase_add_test(cases, test_async_failed_sync_fails_those_that_wait);
    tcase_add_loop_test(cases, test_async_descriptor_drives_a_loop, 0, BACKENDS);
    tcase_add_loop_test(cases, test_async_wait_is_over_in_time, 0, BACKENDS);
    tcase_add_loop_test(cases, test_async_queues_of_many_threads, 0, BACKENDS);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
