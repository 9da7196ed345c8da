/*
 * Opening what processes left that died: all that their log held is there, whatever it is recovered
 * into, and when whoever recovers dies on the way.
 */
#include "engine/base/random.h"
#include "engine/base/step.h"
#include "tests/unit/db/peers.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <time.h>

#define KEYS     1500
#define FAMILIES 2
#define WRITER                                                                                     \
    "create=true,workers=none,memtable_size=16MiB,stage_size=256KiB,wal_segment_size=1MiB"
#define SMALL       "memtable_size=64KiB,stage_size=256KiB,wal_segment_size=1MiB"
#define VALUE_SIZE  120
#define FEW_WRITES  3000u
#define MANY_WRITES 24000u

/* ---- what is written ------------------------------------------------------------------------- */

/* The last of `count` writes to each key: its number, or 0 for a key that is not there. */
static void expect_writes(unsigned count, unsigned last[FAMILIES][KEYS])
{
    memset(last, 0, sizeof(unsigned) * FAMILIES * KEYS);
    for (unsigned i = 1; i <= count; i++)
        last[i % 3 == 0][i * 7919u % KEYS] = i % 5 == 0 ? 0 : i;
}

static lsm_slice key_of(unsigned key, char text_of[32])
{
    snprintf(text_of, 32, "tenant-%02u/%06u", key % 7, key);
    return text(text_of);
}

static lsm_slice value_of(unsigned number, char value[VALUE_SIZE])
{
    memset(value, 'a' + (int)(number % 26), VALUE_SIZE);
    snprintf(value, VALUE_SIZE, "%u", number);
    return LSM_SLICE(value, VALUE_SIZE);
}

static lsm_cf *second_family(lsm_db *db)
{
    lsm_cf *cf = NULL;
    lsm_status status = lsm_cf_open(db, "second", &cf, &error);
    if (status == LSM_MISSING)
        status = lsm_cf_create(db, "second", NULL, &cf, &error);
    ck_assert_int_eq(status, LSM_OK);
    return cf;
}

/* The writes [first, limit), the first of all being 1. */
static void write_range(lsm_db *db, unsigned first, unsigned limit,
                        const lsm_write_options *options)
{
    lsm_cf *second = second_family(db);
    char key[32], value[VALUE_SIZE];
    for (unsigned i = first; i < limit; i++) {
        lsm_cf *cf = i % 3 == 0 ? second : NULL;
        lsm_slice name = key_of(i * 7919u % KEYS, key);
        if (i % 5 == 0)
            ck_ok(lsm_delete(db, cf, name, options, &error));
        else
            ck_ok(lsm_put(db, cf, name, value_of(i, value), options, &error));
    }
}

static void check_family(lsm_db *db, lsm_cf *cf, const unsigned last[KEYS])
{
    lsm_iter *iter = NULL;
    unsigned there = 0, seen = 0;
    char key[32], value[VALUE_SIZE];
    for (unsigned i = 0; i < KEYS; i++) {
        lsm_pin pin = LSM_PIN_INIT;
        ck_ok(lsm_get(db, cf, key_of(i, key), NULL, &pin, &error));
        ck_assert_msg(pin.found == (last[i] != 0), "key %u: write %u", i, last[i]);
        if (pin.found) {
            ck_assert_uint_eq(pin.value.size, VALUE_SIZE);
            ck_assert_mem_eq(pin.value.data, value_of(last[i], value).data, VALUE_SIZE);
            there++;
        }
        lsm_pin_release(&pin);
    }
    ck_ok(lsm_iter_open(db, cf, NULL, &iter, &error));
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter))
        seen++;
    ck_ok(lsm_iter_status(iter, &error));
    lsm_iter_close(iter);
    ck_assert_uint_eq(seen, there);
}

static void check_writes(lsm_db *db, unsigned count)
{
    static unsigned last[FAMILIES][KEYS];
    expect_writes(count, last);
    check_family(db, NULL, last[0]);
    check_family(db, second_family(db), last[1]);
}

/* ---- processes that die ---------------------------------------------------------------------- */

static unsigned asked; /* what the next peer does */
static const char *asked_options;

static void await_death(struct peer *p)
{
    int status;
    ck_assert_int_eq(waitpid(p->pid, &status, 0), p->pid);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "ended with %d", status);
    close(p->to);
    close(p->from);
}

static void write_and_die(struct peer *test)
{
    (void)test;
    lsm_db *db = open_with(asked_options);
    write_range(db, 1, asked + 1, NULL);
    kill(getpid(), SIGKILL);
}

/* Leaves a log of so many writes. */
static void leave_log(unsigned count)
{
    asked = count;
    asked_options = WRITER;
    struct peer p = peer_start(write_and_die);
    await_death(&p);
}

/* ---- into what it is recovered --------------------------------------------------------------- */

static _Atomic unsigned misfits, switches;

static void count_steps(const char *name)
{
    misfits += strcmp(name, "recover: does not fit") == 0;
    switches += strcmp(name, "switch: built") == 0;
}

static const char *const openings[] = {
    "workers=none," SMALL,
    "workers=2," SMALL,
    "workers=2,memtable_count=2," SMALL,
    "workers=2,memtable=skiplist," SMALL,
    "workers=2,exclusive=true," SMALL,
    "workers=none,exclusive=true," WRITER,
    "workers=2,create=true",
    "workers=2,io=posix," SMALL,
    "workers=2,memtable_size=4MiB,stage_size=256KiB,wal_segment_size=1MiB",
};
#define OPENINGS (sizeof openings / sizeof *openings)

/* How many memtables it fills, by how long it is: of the segment, or more than may be there. */
static void recover_with(const char *options, unsigned count)
{
    leave_log(count);
    atomic_store(&misfits, 0);
    atomic_store(&switches, 0);
    atomic_store(&step_hook, count_steps);
    lsm_db *db = open_with(options);
    atomic_store(&step_hook, NULL);
    check_writes(db, count);
    write_range(db, count + 1, count + 200, NULL);
    check_writes(db, count + 199);
    ck_ok(lsm_flush(db, &error));
    check_writes(db, count + 199);
    close_ok(db);
    db = open_with(options);
    check_writes(db, count + 199);
    close_ok(db);
}

START_TEST(test_recover_of_a_log_finds_all_of_it)
{
    recover_with(openings[_i], FEW_WRITES);
    ck_assert_uint_eq(misfits, 0);
    if (strstr(openings[_i], "64KiB") != NULL)
        ck_assert_uint_gt(switches, 5);
}
END_TEST

/* Those of 64 KiB are too many for the segment; of the larger ones each has enough in it to be
 * finished by a thread. */
START_TEST(test_recover_of_a_long_log_finds_all_of_it)
{
    static const size_t some[] = {0, 1, 3, 5, OPENINGS - 1};
    const char *options = openings[some[_i]];
    recover_with(options, MANY_WRITES);
    ck_assert_uint_eq(misfits, strstr(options, "memtable_size=64KiB") != NULL);
    if (_i == 4)
        ck_assert_uint_ge(switches, 3);
}
END_TEST

static char large[100000];

static void write_large_and_die(struct peer *test)
{
    (void)test;
    lsm_db *db = open_with(WRITER);
    write_range(db, 1, 500, NULL);
    ck_ok(lsm_put(db, NULL, text("large"), LSM_SLICE(large, sizeof large), NULL, &error));
    write_range(db, 500, 1000, NULL);
    kill(getpid(), SIGKILL);
}

START_TEST(test_recover_of_a_record_larger_than_a_memtable_finds_it)
{
    memset(large, 'x', sizeof large);
    struct peer p = peer_start(write_large_and_die);
    await_death(&p);
    lsm_db *db = open_with(_i == 0 ? "workers=none," SMALL : "workers=2," SMALL);
    lsm_pin pin = LSM_PIN_INIT;
    ck_ok(lsm_get(db, NULL, text("large"), NULL, &pin, &error));
    ck_assert(pin.found && pin.value.size == sizeof large);
    lsm_pin_release(&pin);
    ck_ok(lsm_delete(db, NULL, text("large"), NULL, &error));
    check_writes(db, 999);
    close_ok(db);
}
END_TEST

START_TEST(test_recover_by_a_reader_finds_all_of_it_and_changes_nothing)
{
    leave_log(FEW_WRITES);
    for (int i = 0; i < 2; i++) {
        lsm_db *db = open_with("read_only=true," SMALL);
        static unsigned last[FAMILIES][KEYS];
        expect_writes(FEW_WRITES, last);
        check_family(db, NULL, last[0]);
        close_ok(db);
    }
}
END_TEST

/* ---- deaths ---------------------------------------------------------------------------------- */

static _Atomic unsigned steps_left;

static void die_at_step(const char *name)
{
    (void)name;
    if (atomic_fetch_sub(&steps_left, 1) == 1)
        kill(getpid(), SIGKILL);
}

static void open_and_die(struct peer *test)
{
    atomic_store(&steps_left, asked);
    atomic_store(&step_hook, die_at_step);
    lsm_db *db = open_with(asked_options);
    atomic_store(&step_hook, NULL);
    peer_say(test, "open");
    (void)db;
    kill(getpid(), SIGKILL); /* with workers: somewhere in the flush */
}

static uint64_t seed_of(const char *test)
{
    const char *wanted = getenv("SEED");
    uint64_t seed = wanted == NULL ? (uint64_t)time(NULL) : strtoull(wanted, NULL, 0);
    printf("%s: SEED=%" PRIu64 "\n", test, seed);
    fflush(stdout);
    return seed;
}

/* True when it was open before it died. */
static bool open_until(unsigned step, const char *options)
{
    char message[PEER_TEXT];
    asked = step;
    asked_options = options;
    struct peer p = peer_start(open_and_die);
    bool is_open = peer_hear(&p, message);
    await_death(&p);
    return is_open;
}

START_TEST(test_recover_that_dies_at_any_step_can_be_done_again)
{
    static const char *const options[] = {"workers=none," SMALL, "workers=2," SMALL};
    struct random_state random = random_seeded(seed_of("steps"));
    leave_log(FEW_WRITES);
    unsigned step = 1;
    while (!open_until(step, options[_i])) {
        if (random_below(&random, 8) == 0) {
            lsm_db *db = open_with("read_only=true," SMALL);
            static unsigned last[FAMILIES][KEYS];
            expect_writes(FEW_WRITES, last);
            check_family(db, NULL, last[0]);
            close_ok(db);
        }
        step += 1 + (unsigned)random_below(&random, 5); /* others each time the test is run */
    }
    ck_assert_uint_gt(step, 40);
    lsm_db *db = open_with(options[_i]);
    check_writes(db, FEW_WRITES);
    close_ok(db);
}
END_TEST

static void open_write_and_die(struct peer *test)
{
    (void)test;
    lsm_db *db = open_with(asked_options);
    write_range(db, asked, asked + 500, NULL);
    kill(getpid(), SIGKILL);
}

/* Each recovers what the ones before left, partly in tables by then. */
START_TEST(test_recover_of_one_death_after_the_other_finds_all_of_it)
{
    leave_log(FEW_WRITES);
    for (unsigned i = 0; i < 8; i++) {
        asked = FEW_WRITES + 1 + i * 500;
        asked_options = i % 2 == 0 ? "workers=2," SMALL : "workers=2";
        struct peer p = peer_start(open_write_and_die);
        await_death(&p);
    }
    lsm_db *db = open_with("workers=2");
    check_writes(db, FEW_WRITES + 8 * 500);
    close_ok(db);
}
END_TEST

/* ---- damage ---------------------------------------------------------------------------------- */

static void sync_and_die(struct peer *test)
{
    (void)test;
    lsm_write_options synced = {.durability = LSM_SYNC};
    lsm_db *db = open_with(WRITER);
    write_range(db, 1, 200, NULL);
    write_range(db, 200, 202, &synced);
    kill(getpid(), SIGKILL);
}

static void damage(const char *name, off_t offset)
{
    char path[SCRATCH_PATH_SIZE + 300];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/%s", db_path, name);
    int file = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(file, 0);
    ck_assert_int_eq(pread(file, &byte, 1, offset), 1);
    byte ^= 0x40;
    ck_assert_int_eq(pwrite(file, &byte, 1, offset), 1);
    ck_assert_int_eq(fsync(file), 0);
    close(file);
}

/* Changes the byte at a position of the log that has one segment, there and in the stage file. */
static void damage_log(off_t position)
{
    char name[256] = "";
    DIR *folder = opendir(db_path);
    struct dirent *entry;
    ck_assert_ptr_nonnull(folder);
    while ((entry = readdir(folder)) != NULL) {
        if (strstr(entry->d_name, ".wal") != NULL)
            snprintf(name, sizeof name, "%s", entry->d_name);
    }
    closedir(folder);
    damage(name, 4096 + position);
    damage("STAGE", position);
}

/* What the dead left in shared memory says that more was durable, so it is looked for. */
START_TEST(test_recover_of_a_damaged_record_that_was_synced_is_corrupt)
{
    struct peer p = peer_start(sync_and_die);
    await_death(&p);
    damage_log(5000);
    lsm_options options = options_of("workers=none," SMALL);
    lsm_db *db = NULL;
    for (int i = 0; i < 2; i++) /* the second time the dead have left nothing */
        ck_fails(LSM_CORRUPT, lsm_open(db_path, &options, &db, &error));
}
END_TEST

int main(void)
{
    if (PEERS_CANNOT_RUN)
        return PEERS_SKIPPED;
    Suite *suite = suite_create("recover");
    TCase *tests = tcase_create("recover");
    tcase_add_checked_fixture(tests, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_recover_of_a_log_finds_all_of_it, 0, OPENINGS);
    tcase_add_loop_test(tests, test_recover_of_a_long_log_finds_all_of_it, 0, 5);
    tcase_add_loop_test(tests, test_recover_of_a_record_larger_than_a_memtable_finds_it, 0, 2);
    tcase_add_test(tests, test_recover_by_a_reader_finds_all_of_it_and_changes_nothing);
    tcase_add_loop_test(tests, test_recover_that_dies_at_any_step_can_be_done_again, 0, 2);
    tcase_add_test(tests, test_recover_of_one_death_after_the_other_finds_all_of_it);
    tcase_add_test(tests, test_recover_of_a_damaged_record_that_was_synced_is_corrupt);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
