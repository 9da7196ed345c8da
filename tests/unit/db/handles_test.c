/*
 * Several handles of one process on one database: each is to the others what another process is,
 * with a slot and a view of its own over one segment. So the thread sanitizer sees both sides.
 */
#include "tests/unit/db/db_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define OPTIONS                                                                                    \
    "create=true,memtable_size=64KiB,stage_size=64KiB,wal_segment_size=64KiB,"                     \
    "table_size=32KiB,level_base_size=64KiB,level0_trigger=2,cache_size=256KiB"
#define WORKERS ",workers=1"
#define LIGHT   ",workers=none"
#define HANDLES 3
#define THREADS 2 /* of each handle */
#define ROUNDS  500
#define KEYS    60

START_TEST(test_handles_of_one_process_see_each_others_writes)
{
    lsm_db *first = open_with(OPTIONS LIGHT), *second = open_with(OPTIONS LIGHT);
    put_text(first, NULL, "a", "1");
    expect_text(second, NULL, "a", "1");
    put_text(second, NULL, "a", "2");
    ck_ok(lsm_flush(second, &error));
    expect_text(first, NULL, "a", "2");
    lsm_snapshot *snapshot = NULL;
    lsm_read_options options = {0};
    ck_ok(lsm_snapshot_acquire(first, &snapshot, &error));
    put_text(second, NULL, "a", "3");
    ck_ok(lsm_compact_range(second, NULL, NULL, &error));
    char value[8] = "";
    size_t size = 0;
    options.snapshot = snapshot;
    ck_ok(lsm_get_into(first, NULL, text("a"), &options, value, sizeof value, &size, &error));
    ck_assert_uint_eq(size, 1);
    ck_assert_int_eq(value[0], '2');
    lsm_snapshot_release(first, snapshot);
    close_ok(first);
    put_text(second, NULL, "b", "4");
    close_ok(second);
    first = open_with(OPTIONS LIGHT);
    expect_text(first, NULL, "a", "3");
    expect_text(first, NULL, "b", "4");
    close_ok(first);
}
END_TEST

/* The one that flushes has seen nothing of the family before. */
START_TEST(test_handles_flush_a_family_that_another_has_just_made)
{
    lsm_db *first = open_with(OPTIONS LIGHT), *second = open_with(OPTIONS LIGHT);
    lsm_cf *mine = NULL, *theirs = NULL;
    ck_ok(lsm_cf_create(first, "new", NULL, &mine, &error));
    put_text(first, mine, "key", "value");
    ck_ok(lsm_flush(second, &error));
    expect_text(first, mine, "key", "value");
    ck_ok(lsm_cf_open(second, "new", &theirs, &error));
    expect_text(second, theirs, "key", "value");
    close_ok(second);
    close_ok(first);
    first = open_with(OPTIONS LIGHT);
    ck_ok(lsm_cf_open(first, "new", &mine, &error));
    expect_text(first, mine, "key", "value");
    close_ok(first);
}
END_TEST

START_TEST(test_handles_find_families_as_others_name_them)
{
    lsm_db *first = open_with(OPTIONS LIGHT), *second = open_with(OPTIONS LIGHT);
    lsm_cf *mine = NULL, *theirs = NULL;
    char **names = NULL;
    size_t count = 0;
    ck_ok(lsm_cf_create(first, "old", NULL, &mine, &error));
    ck_ok(lsm_cf_open(second, "old", &theirs, &error));
    ck_ok(lsm_cf_rename(first, mine, "new", &error));
    ck_fails(LSM_MISSING, lsm_cf_open(second, "old", &theirs, &error));
    ck_ok(lsm_cf_open(second, "new", &theirs, &error));
    ck_assert_str_eq(lsm_cf_name(theirs), "new");
    ck_ok(lsm_cf_drop(first, mine, &error));
    ck_ok(lsm_cf_list(second, &names, &count, &error));
    ck_assert_uint_eq(count, 1);
    lsm_free(names);
    ck_fails(LSM_MISSING, lsm_put(second, theirs, text("k"), text("v"), NULL, &error));
    close_ok(first);
    close_ok(second);
}
END_TEST

/* A handle and what belongs to another one are kept apart. */
START_TEST(test_handles_refuse_what_is_anothers)
{
    lsm_db *first = open_with(OPTIONS LIGHT), *second = open_with(OPTIONS LIGHT);
    ck_fails(LSM_INVALID,
             lsm_put(first, lsm_cf_default(second), text("k"), text("v"), NULL, &error));
    lsm_options alone = options_of("create=true,exclusive=true");
    lsm_db *third = NULL;
    ck_fails(LSM_BUSY, lsm_open(db_path, &alone, &third, &error));
    close_ok(first);
    close_ok(second);
}
END_TEST

/* ---- threads --------------------------------------------------------------------------------- */

struct job {
    lsm_db *db;
    const lsm_options *options;
    unsigned handle, thread;
    lsm_error error;
    const char *wrong; /* what was not as it should be; NULL: all is well */
};

/* Written by each thread alone, read by all: a number, the same in both keys of a pair. */
static _Atomic uint32_t acknowledged[HANDLES * THREADS][KEYS], begun[HANDLES * THREADS][KEYS];

static lsm_slice pair_key(unsigned writer, unsigned key, unsigned half, char buffer[24])
{
    return LSM_SLICE(buffer, (size_t)snprintf(buffer, 24, "w%u-%02u-%u", writer, key, half));
}

#define job_must(job, call)                                                                        \
    do {                                                                                           \
        if ((call) != LSM_OK && (job)->wrong == NULL)                                              \
            (job)->wrong = #call;                                                                  \
    } while (0)

static void write_pair(struct job *job, unsigned key, uint32_t number)
{
    unsigned writer = job->handle * THREADS + job->thread;
    char buffer[24], value[400] = {0};
    lsm_batch *batch = NULL;
    lsm_write_options options = {.durability = number % 16 == 0 ? LSM_SYNC : LSM_WRITE};
    memcpy(value, &number, sizeof number);
    job_must(job, lsm_batch_new(&batch, &job->error));
    for (unsigned half = 0; half < 2; half++)
        job_must(job, lsm_batch_put(batch, NULL, pair_key(writer, key, half, buffer),
                                    LSM_SLICE(value, sizeof value), &job->error));
    atomic_store(&begun[writer][key], number);
    job_must(job, lsm_write(job->db, batch, &options, &job->error));
    atomic_store(&acknowledged[writer][key], number);
    lsm_batch_free(batch);
}

static uint32_t number_of(const lsm_pin *pin)
{
    uint32_t number = 0;
    if (pin->found)
        memcpy(&number, pin->value.data, sizeof number);
    return number;
}

static void read_pair(struct job *job, unsigned writer, unsigned key)
{
    char buffers[2][24];
    lsm_pin pins[2] = {LSM_PIN_INIT, LSM_PIN_INIT};
    lsm_slice keys[2] = {pair_key(writer, key, 0, buffers[0]),
                         pair_key(writer, key, 1, buffers[1])};
    uint32_t before = atomic_load(&acknowledged[writer][key]);
    job_must(job, lsm_multi_get(job->db, NULL, 2, keys, NULL, pins, &job->error));
    uint32_t after = atomic_load(&begun[writer][key]);
    uint32_t found = number_of(&pins[0]);
    if (job->wrong == NULL && found != number_of(&pins[1]))
        job->wrong = "a batch was torn";
    if (job->wrong == NULL && (found < before || found > after))
        job->wrong = "a read was stale, or of the future";
    lsm_pin_release(&pins[0]);
    lsm_pin_release(&pins[1]);
}

static void walk_all(struct job *job)
{
    lsm_iter *it = NULL;
    job_must(job, lsm_iter_open(job->db, NULL, NULL, &it, &job->error));
    if (job->wrong != NULL)
        return;
    uint32_t first = 0;
    unsigned count = 0;
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it)) {
        lsm_slice key = lsm_iter_key(it);
        uint32_t number;
        if (((const char *)key.data)[0] != 'w')
            continue;
        memcpy(&number, lsm_iter_value(it).data, sizeof number);
        if (count++ % 2 == 0)
            first = number;
        else if (first != number)
            job->wrong = "a walk sees a torn batch";
    }
    job_must(job, lsm_iter_status(it, &job->error));
    lsm_iter_close(it);
}

/* A counter that all raise, each by a transaction. */
static void raise_counter(struct job *job, _Atomic uint32_t *raised)
{
    lsm_txn *txn = NULL;
    lsm_pin pin = LSM_PIN_INIT;
    job_must(job, lsm_txn_begin(job->db, NULL, &txn, &job->error));
    job_must(job, lsm_txn_get(txn, NULL, text("counter"), NULL, &pin, &job->error));
    uint32_t number = number_of(&pin) + 1;
    lsm_pin_release(&pin);
    job_must(job, lsm_txn_put(txn, NULL, text("counter"), LSM_SLICE(&number, sizeof number),
                              &job->error));
    lsm_status status = lsm_txn_commit(txn, NULL, &job->error);
    if (status == LSM_OK)
        atomic_fetch_add(raised, 1);
    else if (status != LSM_CONFLICT && job->wrong == NULL)
        job->wrong = "a transaction failed";
    lsm_txn_free(txn);
}

static _Atomic uint32_t raised_count;

static void *work(void *argument)
{
    struct job *job = argument;
    for (uint32_t i = 1; i <= ROUNDS && job->wrong == NULL; i++) {
        write_pair(job, i % KEYS, i);
        read_pair(job, (i * 7 + job->handle) % (HANDLES * THREADS), i * 13 % KEYS);
        if (i % 50 == 0)
            walk_all(job);
        if (i % 10 == 0)
            raise_counter(job, &raised_count);
        if (i % 170 == 0)
            job_must(job, lsm_flush(job->db, &job->error));
        if (i % 400 == 0 && job->thread == 0)
            job_must(job, lsm_compact_range(job->db, NULL, NULL, &job->error));
    }
    return NULL;
}

static void run_jobs(struct job jobs[HANDLES * THREADS])
{
    pthread_t threads[HANDLES * THREADS];
    for (unsigned i = 0; i < HANDLES * THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &jobs[i]), 0);
    for (unsigned i = 0; i < HANDLES * THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < HANDLES * THREADS; i++)
        ck_assert_msg(jobs[i].wrong == NULL, "handle %u: %s: %s", jobs[i].handle, jobs[i].wrong,
                      jobs[i].error.message);
}

START_TEST(test_handles_serve_threads_of_their_own)
{
    static struct job jobs[HANDLES * THREADS];
    lsm_db *handles[HANDLES];
    for (unsigned i = 0; i < HANDLES; i++) /* the last one has no workers */
        handles[i] = open_with(i + 1 == HANDLES ? OPTIONS LIGHT : OPTIONS WORKERS);
    for (unsigned i = 0; i < HANDLES * THREADS; i++)
        jobs[i] =
            (struct job){.db = handles[i / THREADS], .handle = i / THREADS, .thread = i % THREADS};
    run_jobs(jobs);
    for (unsigned i = 0; i < HANDLES * THREADS; i++) {
        jobs[i].db = handles[HANDLES - 1];
        for (unsigned key = 0; key < KEYS; key++)
            read_pair(&jobs[i], i, key);
        ck_assert_msg(jobs[i].wrong == NULL, "in the end: %s", jobs[i].wrong);
    }
    lsm_pin pin = LSM_PIN_INIT;
    ck_ok(lsm_get(handles[0], NULL, text("counter"), NULL, &pin, &error));
    ck_assert_uint_eq(number_of(&pin), atomic_load(&raised_count));
    lsm_pin_release(&pin);
    for (unsigned i = 0; i < HANDLES; i++)
        close_ok(handles[i]);
}
END_TEST

/* ---- coming and going ------------------------------------------------------------------------ */

static void *come_and_go(void *argument)
{
    struct job *job = argument;
    lsm_options options = *job->options;
    char key[24], value[8] = "x";
    for (unsigned i = 0; i < 12 && job->wrong == NULL; i++) {
        lsm_db *db = NULL;
        options.workers = (i + job->thread) % 2 == 0 ? 1 : LSM_NO_WORKERS;
        job_must(job, lsm_open(db_path, &options, &db, &job->error));
        if (db == NULL)
            break;
        size_t size = 0;
        for (unsigned k = 0; k < 20; k++) {
            snprintf(key, sizeof key, "t%u-%u", job->thread, i * 20 + k);
            job_must(job, lsm_put(db, NULL, text(key), text(value), NULL, &job->error));
            job_must(job, lsm_get_into(db, NULL, text(key), NULL, value, sizeof value, &size,
                                       &job->error));
            if (size != 1)
                job->wrong = "an own write is not there";
        }
        job_must(job, lsm_close(db, &job->error));
    }
    return NULL;
}

START_TEST(test_handles_come_and_go_in_threads)
{
    lsm_options options = options_of(OPTIONS);
    struct job jobs[4];
    pthread_t threads[4];
    for (unsigned i = 0; i < 4; i++) {
        jobs[i] = (struct job){.options = &options, .thread = i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, come_and_go, &jobs[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_msg(jobs[i].wrong == NULL, "thread %u: %s: %s", i, jobs[i].wrong,
                      jobs[i].error.message);
    }
    lsm_db *db = open_with(OPTIONS LIGHT);
    for (unsigned t = 0; t < 4; t++) {
        for (unsigned k = 0; k < 240; k++) {
            char key[24];
            snprintf(key, sizeof key, "t%u-%u", t, k);
            expect_text(db, NULL, key, "x");
        }
    }
    close_ok(db);
}
END_TEST

int main(void)
{
#if defined(__SANITIZE_THREAD__)
    /* liburing maps rings without telling the sanitizer, which takes a ring where another one was
     * before for the same memory. */
    setenv("LSM_IO", "posix", 1);
#endif
    Suite *suite = suite_create("db/handles");
    TCase *tests = tcase_create("handles");
    tcase_add_checked_fixture(tests, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, test_handles_of_one_process_see_each_others_writes);
    tcase_add_test(tests, test_handles_flush_a_family_that_another_has_just_made);
    tcase_add_test(tests, test_handles_find_families_as_others_name_them);
    tcase_add_test(tests, test_handles_refuse_what_is_anothers);
    tcase_add_test(tests, test_handles_serve_threads_of_their_own);
    tcase_add_test(tests, test_handles_come_and_go_in_threads);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
