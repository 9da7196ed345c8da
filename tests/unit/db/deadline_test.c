/*
 * Writes with a deadline while another process is stopped with something that they need: the error
 * names it in time, the database goes on being read, and when the process goes on so does all else.
 * Time-outs here are short, and what is waited for does not come before the test lets it. Others are
 * started before the test has a handle, whose threads make a fork unsafe for some allocators.
 */
#include "tests/unit/db/peers.h"

#include "engine/base/step.h"

#include <stdatomic.h>
#include <time.h>

#define SHARED_OPTIONS                                                                             \
    "create=true,memtable_size=64KiB,stage_size=128KiB,wal_segment_size=128KiB,"                   \
    "cache_size=1MiB,memtable_count=2"
#define LIGHT    SHARED_OPTIONS ",workers=none"
#define SHORT    100   /* ms */
#define LONG     30000 /* ms */
#define TOO_LATE 10000 /* ms: far from it on any machine, but not for ever */

static const char *stop_at;
static unsigned stops_left;

static void stop_at_step(const char *step)
{
    if (stops_left > 0 && strcmp(step, stop_at) == 0) {
        stops_left--;
        raise(SIGSTOP);
    }
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void expect_says(const char *part)
{
    ck_assert_msg(strstr(error.message, part) != NULL, "'%s' is not in '%s'", part, error.message);
}

/* The last failure names the stopped process. */
static void expect_names(const struct peer *stopped, const char *what)
{
    char process[32];
    snprintf(process, sizeof process, "process %d (", (int)stopped->pid);
    expect_says(process);
    expect_says("which is stopped");
    expect_says(what);
}

#define ck_fails_in_time(wanted, call)                                                             \
    do {                                                                                           \
        uint64_t begin_ = now_ms();                                                                \
        ck_fails(wanted, call);                                                                    \
        uint64_t took_ = now_ms() - begin_;                                                        \
        ck_assert_msg(took_ + 1 >= SHORT && took_ < TOO_LATE, "%s took %u ms", #call,              \
                      (unsigned)took_);                                                            \
    } while (0)

static lsm_status put_within(lsm_db *db, const char *key, const char *value,
                             lsm_durability durability, uint32_t ms)
{
    lsm_write_options options = {.durability = durability, .timeout_ms = ms};
    return lsm_put(db, NULL, text(key), text(value), &options, &error);
}

static void resume(const struct peer *p)
{
    kill(p->pid, SIGCONT);
}

/* ---- inside locks ---------------------------------------------------------------------------- */

/* Stops at the step of an LSM_SYNC, and goes on when told to. */
static void sync_writer(struct peer *test)
{
    char message[PEER_TEXT];
    ck_assert(peer_hear(test, message));
    lsm_db *db = open_with(LIGHT);
    stop_at = message;
    stops_left = 1;
    atomic_store(&step_hook, stop_at_step);
    ck_ok(put_within(db, "theirs", "new", LSM_SYNC, 0));
    peer_say(test, "written");
    close_ok(db);
}

static void begin_and_stop(struct peer *p, const char *step)
{
    peer_say(p, step);
    peer_await_stop(p);
}

static void end_and_close(struct peer *p, lsm_db *db)
{
    peer_expect(p, "written");
    peer_end(p);
    expect_text(db, NULL, "theirs", "new");
    close_ok(db);
    db = open_with(LIGHT);
    expect_text(db, NULL, "ours", "new");
    expect_text(db, NULL, "theirs", "new");
    close_ok(db);
}

static const char *const append_steps[] = {"commit: begin", "commit: record in the ring",
                                           "commit: inserted", "commit: published"};
static const char *const modes[] = {SHARED_OPTIONS, LIGHT};

START_TEST(test_deadline_behind_a_stopped_append_lock_writes_nothing)
{
    struct peer other = peer_start(sync_writer);
    lsm_db *db = open_with(modes[_i % 2]);
    put_text(db, NULL, "ours", "old");
    begin_and_stop(&other, append_steps[_i / 2]);
    lsm_txn *txn = NULL;
    lsm_batch *batch = NULL;
    lsm_write_options options = {.timeout_ms = SHORT};
    ck_ok(lsm_batch_new(&batch, &error));
    ck_ok(lsm_batch_put(batch, NULL, text("ours"), text("batch"), &error));
    ck_ok(lsm_txn_begin(db, NULL, &txn, &error));
    ck_ok(lsm_txn_put(txn, NULL, text("ours"), text("new"), &error));

    ck_fails_in_time(LSM_TIMEOUT, put_within(db, "ours", "put", LSM_WRITE, SHORT));
    expect_names(&other, "holds the append lock");
    expect_says("nothing was written within 100 ms");
    ck_fails_in_time(LSM_TIMEOUT, lsm_delete(db, NULL, text("ours"), &options, &error));
    ck_fails_in_time(LSM_TIMEOUT, lsm_write(db, batch, &options, &error));
    expect_names(&other, "holds the append lock");
    ck_fails_in_time(LSM_TIMEOUT, lsm_txn_commit(txn, &options, &error));
    expect_names(&other, "holds the append lock");
    expect_text(db, NULL, "ours", "old");
    expect_text(db, NULL, "none", NULL);

    resume(&other);
    options.timeout_ms = LONG;
    ck_ok(lsm_txn_commit(txn, &options, &error)); /* it is still there */
    expect_text(db, NULL, "ours", "new");
    lsm_txn_free(txn);
    lsm_batch_free(batch);
    end_and_close(&other, db);
}
END_TEST

START_TEST(test_deadline_behind_a_stopped_sync_lock_leaves_the_outcome_open)
{
    struct peer other = peer_start(sync_writer);
    lsm_db *db = open_with(modes[_i]);
    lsm_txn *txn = NULL;
    lsm_write_options options = {.timeout_ms = SHORT};
    put_text(db, NULL, "ours", "old");
    put_text(db, NULL, "second", "old");
    put_text(db, NULL, "third", "old");
    begin_and_stop(&other, "sync: locked");

    ck_fails_in_time(LSM_PENDING, put_within(db, "ours", "new", LSM_SYNC, SHORT));
    expect_names(&other, "holds the sync lock");
    expect_says("is in the log, but was not durable");
    expect_says("not known");
    ck_fails_in_time(LSM_PENDING, put_within(db, "second", "new", LSM_WRITE, SHORT));
    expect_names(&other, "holds the sync lock");
    expect_says("sync writes before it");
    ck_ok(lsm_txn_begin(db, NULL, &txn, &error));
    ck_ok(lsm_txn_put(txn, NULL, text("third"), text("new"), &error));
    ck_fails_in_time(LSM_PENDING, lsm_txn_commit(txn, &options, &error));
    expect_names(&other, "holds the sync lock");
    ck_fails(LSM_INVALID, lsm_txn_commit(txn, &options, &error));
    expect_says("not durable or visible in time");
    lsm_txn_free(txn);
    expect_text(db, NULL, "ours", "old"); /* reads go on, and see nothing that may be lost */
    expect_text(db, NULL, "second", "old");

    resume(&other);
    ck_ok(put_within(db, "fourth", "new", LSM_SYNC, LONG));
    expect_text(db, NULL, "ours", "new");
    expect_text(db, NULL, "second", "new");
    expect_text(db, NULL, "third", "new");
    end_and_close(&other, db);
}
END_TEST

/* The ring in front of the log fills, and nobody may empty it. */
START_TEST(test_deadline_behind_a_full_ring_writes_nothing)
{
    char value[4000];
    struct peer other = peer_start(sync_writer);
    lsm_db *db = open_with("create=true,workers=none,memtable_size=1MiB,"
                           "stage_size=64KiB,wal_segment_size=64KiB,cache_size=1MiB");
    put_text(db, NULL, "ours", "new");
    begin_and_stop(&other, "sync: locked");
    memset(value, 'v', sizeof value);
    lsm_write_options options = {.timeout_ms = SHORT};
    lsm_status status = LSM_PENDING; /* behind the sync write */
    unsigned writes = 0;
    for (; status == LSM_PENDING && writes < 100; writes++) {
        char key[16];
        snprintf(key, sizeof key, "fill %u", writes);
        options.timeout_ms = status == LSM_PENDING ? 5 : SHORT;
        status = lsm_put(db, NULL, text(key), LSM_SLICE(value, sizeof value), &options, &error);
    }
    ck_assert_int_eq(status, LSM_TIMEOUT);
    ck_assert_uint_gt(writes, 5);
    expect_names(&other, "holds the sync lock");
    expect_says("nothing was written");
    resume(&other);
    ck_ok(put_within(db, "more", "new", LSM_SYNC, LONG));
    end_and_close(&other, db);
}
END_TEST

/* ---- room ------------------------------------------------------------------------------------ */

/* Stops in the middle of a flush. */
static void flusher(struct peer *test)
{
    char message[PEER_TEXT];
    ck_assert(peer_hear(test, message));
    lsm_db *db = open_with(LIGHT);
    stop_at = message;
    stops_left = 1;
    atomic_store(&step_hook, stop_at_step);
    while (stops_left > 0) { /* the test's workers may have been faster */
        put_text(db, NULL, "theirs", "old");
        ck_ok(lsm_flush(db, &error));
    }
    peer_say(test, "flushed");
    close_ok(db);
}

static lsm_status fill_until_it_fails(lsm_db *db, unsigned *writes)
{
    lsm_status status = LSM_OK;
    char value[500];
    memset(value, 'v', sizeof value);
    lsm_write_options options = {.timeout_ms = SHORT};
    for (*writes = 0; status == LSM_OK && *writes < 5000; ++*writes) {
        char key[16];
        snprintf(key, sizeof key, "fill %06u", *writes);
        status = lsm_put(db, NULL, text(key), LSM_SLICE(value, sizeof value), &options, &error);
    }
    return status;
}

static const struct {
    const char *step, *says;
} flush_stops[] = {
    {"flush: written", "has yet to flush the full memtables"}, /* holds a claim only */
    {"flush: durable", NULL},                                  /* and the version lock, too */
};

START_TEST(test_deadline_behind_a_stopped_flush_writes_nothing)
{
    unsigned writes;
    struct peer other = peer_start(flusher);
    lsm_db *db = open_with(modes[_i % 2]);
    put_text(db, NULL, "ours", "new");
    begin_and_stop(&other, flush_stops[_i / 2].step);
    uint64_t begin = now_ms();
    ck_assert_int_eq(fill_until_it_fails(db, &writes), LSM_TIMEOUT);
    ck_assert_uint_lt(now_ms() - begin, TOO_LATE);
    expect_says("nothing was written");
    if (flush_stops[_i / 2].says != NULL)
        expect_names(&other, flush_stops[_i / 2].says);
    else
        expect_names(&other, "");
    expect_text(db, NULL, "ours", "new");
    lsm_write_options no_wait = {.no_wait = true, .timeout_ms = SHORT};
    char value[500] = "";
    ck_fails(LSM_BUSY,
             lsm_put(db, NULL, text("ours"), LSM_SLICE(value, sizeof value), &no_wait, &error));
    resume(&other);
    ck_ok(put_within(db, "theirs", "new", LSM_WRITE, LONG));
    peer_expect(&other, "flushed");
    peer_end(&other);
    expect_text(db, NULL, "ours", "new");
    close_ok(db);
}
END_TEST

#define ITERATORS 100 /* more than there are arenas */

/* Opens an iterator for every memtable there is, each time it is told to, and stops at last. */
static void greedy_reader(struct peer *test)
{
    char message[PEER_TEXT];
    lsm_iter *iterators[ITERATORS];
    size_t count = 0;
    lsm_db *db = NULL;
    while (peer_hear(test, message) && strcmp(message, "stop") != 0) {
        if (db == NULL)
            db = open_with(LIGHT);
        ck_assert_uint_lt(count, ITERATORS);
        ck_ok(lsm_iter_open(db, NULL, NULL, &iterators[count++], &error));
        peer_say(test, "held");
    }
    raise(SIGSTOP);
    while (count > 0)
        lsm_iter_close(iterators[--count]);
    expect_text(db, NULL, "ours", "new"); /* brings its view up to date */
    close_ok(db);
}

static bool blames_readers(void)
{
    return strstr(error.message, "reads old memtables") != NULL;
}

START_TEST(test_deadline_behind_a_reader_of_all_memtables_names_the_reader)
{
    struct peer other = peer_start(greedy_reader);
    lsm_db *db = open_with(modes[_i]);
    put_text(db, NULL, "ours", "new");
    lsm_status status = LSM_OK;
    for (unsigned i = 0; i < ITERATORS && status == LSM_OK; i++) {
        peer_say(&other, "hold");
        peer_expect(&other, "held");
        unsigned writes = 0;
        char value[4000];
        memset(value, 'v', sizeof value);
        lsm_write_options options = {.timeout_ms = SHORT};
        for (; writes < 20 && status == LSM_OK; writes++) {
            char key[16];
            snprintf(key, sizeof key, "fill %u", writes);
            status = lsm_put(db, NULL, text(key), LSM_SLICE(value, sizeof value), &options, &error);
            if (status == LSM_TIMEOUT && !blames_readers())
                status = LSM_OK; /* a flush that took its time */
        }
    }
    ck_assert_int_eq(status, LSM_TIMEOUT);
    peer_say(&other, "stop");
    peer_await_stop(&other);
    char value[60000];
    memset(value, 'v', sizeof value);
    lsm_write_options options = {.timeout_ms = SHORT};
    unsigned tries = 0;
    do {
        ck_fails_in_time(LSM_TIMEOUT, lsm_put(db, NULL, text("large"),
                                              LSM_SLICE(value, sizeof value), &options, &error));
    } while (!blames_readers() && ++tries < 50);
    expect_names(&other, "reads old memtables");
    expect_text(db, NULL, "ours", "new");
    resume(&other);
    options.timeout_ms = LONG;
    ck_ok(lsm_put(db, NULL, text("large"), LSM_SLICE(value, sizeof value), &options, &error));
    peer_end(&other);
    close_ok(db);
}
END_TEST

/* ---- nobody is in the way -------------------------------------------------------------------- */

START_TEST(test_deadline_far_away_changes_nothing)
{
    lsm_db *db = open_with(modes[_i]);
    lsm_write_options options = {.timeout_ms = UINT32_MAX};
    for (unsigned i = 0; i < 2000; i++) {
        char key[16], value[500] = "";
        snprintf(key, sizeof key, "key %06u", i);
        options.durability = i % 100 == 0 ? LSM_SYNC : LSM_WRITE;
        ck_ok(lsm_put(db, NULL, text(key), LSM_SLICE(value, sizeof value), &options, &error));
    }
    ck_assert_uint_gt(property(db, "tables"), 0);
    close_ok(db);
}
END_TEST

/* The owner dies while somebody waits with a deadline: that is no time-out. */
START_TEST(test_deadline_not_over_when_the_owner_dies_takes_over)
{
    struct peer other = peer_start(sync_writer);
    lsm_db *db = open_with(LIGHT);
    put_text(db, NULL, "theirs", "old");
    begin_and_stop(&other, "commit: inserted");
    ck_fails_in_time(LSM_TIMEOUT, put_within(db, "ours", "new", LSM_WRITE, SHORT));
    peer_kill(&other);
    ck_ok(put_within(db, "ours", "new", LSM_WRITE, LONG));
    expect_text(db, NULL, "theirs", "new"); /* had an intent: finished for it */
    expect_text(db, NULL, "ours", "new");
    close_ok(db);
}
END_TEST

int main(void)
{
    if (PEERS_CANNOT_RUN)
        return PEERS_SKIPPED;
    Suite *suite = suite_create("db/deadline");
    TCase *tests = tcase_create("deadline");
    tcase_add_checked_fixture(tests, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_deadline_behind_a_stopped_append_lock_writes_nothing, 0,
                        2 * sizeof append_steps / sizeof *append_steps);
    tcase_add_loop_test(tests, test_deadline_behind_a_stopped_sync_lock_leaves_the_outcome_open, 0,
                        2);
    tcase_add_test(tests, test_deadline_behind_a_full_ring_writes_nothing);
    tcase_add_loop_test(tests, test_deadline_behind_a_stopped_flush_writes_nothing, 0,
                        2 * sizeof flush_stops / sizeof *flush_stops);
    tcase_add_loop_test(tests, test_deadline_behind_a_reader_of_all_memtables_names_the_reader, 0,
                        2);
    tcase_add_loop_test(tests, test_deadline_far_away_changes_nothing, 0, 2);
    tcase_add_test(tests, test_deadline_not_over_when_the_owner_dies_takes_over);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
