/*
 * Merges that reads pay for: how many reads it takes is counted, not timed. Tables of level 0 lie
 * over each other, one fewer than merge by themselves, and each read looks into all of them.
 */
#include "engine/compact/compact.h"
#include "tests/unit/db/db_fixture.h"

#define OPTIONS                                                                                    \
    "create=true,memtable_size=1MiB,stage_size=256KiB,wal_segment_size=256KiB,level0_trigger=10"
#define RUNS 9
#define KEYS 300

/* Reads that cost the least sum for which anything is merged. */
#define SEEKS_ENOUGH (COMPACT_READS_LEAST_NS / ((RUNS - 1) * COMPACT_SEEK_NS) + 1500)
#define SEEKS_FEWER  (COMPACT_READS_LEAST_NS / ((RUNS - 1) * COMPACT_SEEK_NS) * 9 / 10)
#define GETS_ENOUGH  (COMPACT_READS_LEAST_NS / ((RUNS - 1) * COMPACT_GET_NS) * 11 / 10)

static void fill(lsm_db *db, lsm_cf *cf)
{
    for (unsigned i = 0; i < RUNS; i++) {
        put_many(db, cf, 0, KEYS, 20 + i);
        ck_ok(lsm_flush(db, &error));
    }
    ck_ok(lsm_wait_idle(db, &error));
}

static lsm_db *open_runs(const char *more)
{
    char options[300];
    snprintf(options, sizeof options, "%s,%s", OPTIONS, more);
    lsm_db *db = open_with(options);
    fill(db, NULL);
    ck_assert_uint_eq(property(db, "level0-tables"), RUNS);
    return db;
}

static lsm_slice key_of(unsigned i, char key[32])
{
    snprintf(key, 32, "many-%06u", i % KEYS);
    return text(key);
}

static void seek(lsm_db *db, lsm_cf *cf, unsigned count)
{
    char key[32];
    lsm_iter *it = NULL;
    ck_ok(lsm_iter_open(db, cf, NULL, &it, &error));
    for (unsigned i = 0; i < count; i++)
        lsm_iter_seek(it, key_of(i, key));
    lsm_iter_close(it);
}

static void get(lsm_db *db, const char *pattern, unsigned count)
{
    char key[32], value[32];
    size_t size;
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof key, pattern, i % KEYS);
        ck_ok(lsm_get_into(db, NULL, text(key), NULL, value, sizeof value, &size, &error));
    }
}

static void expect_merged(lsm_db *db, unsigned merges)
{
    ck_ok(lsm_wait_idle(db, &error));
    ck_assert_uint_eq(property(db, "read-merges"), merges);
    ck_assert_uint_eq(property(db, "level0-tables"), merges > 0 ? 0 : RUNS);
}

START_TEST(test_read_merges_enough_seeks_merge_once)
{
    lsm_db *db = open_runs("workers=2");
    seek(db, NULL, SEEKS_FEWER);
    expect_merged(db, 0);
    seek(db, NULL, SEEKS_ENOUGH - SEEKS_FEWER);
    expect_merged(db, 1);
    ck_assert_uint_eq(property(db, "tables"), 1);
    seek(db, NULL, 2 * SEEKS_ENOUGH);
    expect_merged(db, 1);
    close_ok(db);
}
END_TEST

START_TEST(test_read_merges_iterators_opened_for_each_seek_pay)
{
    char key[32];
    lsm_db *db = open_runs("workers=1");
    for (unsigned i = 0; i < SEEKS_ENOUGH; i++) {
        lsm_slice first = key_of(i, key);
        lsm_read_options options = {
            .first = {.data = i % 2 == 0 ? first.data : NULL, .size = i % 2 == 0 ? first.size : 0}};
        lsm_iter *it = NULL;
        ck_ok(lsm_iter_open(db, NULL, &options, &it, &error));
        lsm_iter_seek(it, first);
        ck_assert(lsm_iter_valid(it));
        lsm_iter_close(it);
    }
    expect_merged(db, 1);
    close_ok(db);
}
END_TEST

/* What is not there is looked for in all runs; what is, up to where it is found. */
START_TEST(test_read_merges_gets_pay_for_what_they_look_into)
{
    lsm_db *db = open_runs("workers=1");
    get(db, "many-%06u", GETS_ENOUGH);
    expect_merged(db, 0);
    get(db, "many-%06u-", GETS_ENOUGH);
    expect_merged(db, 1);
    close_ok(db);
}
END_TEST

START_TEST(test_read_merges_multi_gets_pay)
{
    char names[100][32];
    lsm_slice keys[100];
    lsm_pin pins[100];
    lsm_db *db = open_runs("workers=1");
    for (unsigned i = 0; i < 100; i++) {
        snprintf(names[i], sizeof names[i], "many-%06u-", i);
        keys[i] = text(names[i]);
        pins[i] = (lsm_pin)LSM_PIN_INIT;
    }
    for (unsigned i = 0; i < GETS_ENOUGH; i += 100)
        ck_ok(lsm_multi_get(db, NULL, 100, keys, NULL, pins, &error));
    expect_merged(db, 1);
    close_ok(db);
}
END_TEST

START_TEST(test_read_merges_walks_pay_for_their_steps)
{
    lsm_db *db = open_runs("workers=1");
    unsigned walks = (unsigned)(COMPACT_READS_LEAST_NS / (COMPACT_STEP_NS * (RUNS - 1) * KEYS));
    lsm_iter *it = NULL;
    ck_ok(lsm_iter_open(db, NULL, NULL, &it, &error));
    for (unsigned i = 0; i < walks; i++) {
        unsigned steps = 0;
        for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it))
            steps++;
        ck_assert_uint_eq(steps, KEYS);
    }
    lsm_iter_close(it);
    expect_merged(db, 1);
    close_ok(db);
}
END_TEST

/* One run of values below one of deletions. */
START_TEST(test_read_merges_walks_over_deletions_pay)
{
    char key[32];
    lsm_db *db = open_with(OPTIONS ",workers=1");
    put_many(db, NULL, 0, KEYS, 20);
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    for (unsigned i = 0; i < KEYS; i++)
        ck_ok(lsm_delete(db, NULL, key_of(i, key), NULL, &error));
    ck_ok(lsm_flush(db, &error));
    lsm_iter *it = NULL;
    ck_ok(lsm_iter_open(db, NULL, NULL, &it, &error));
    for (unsigned i = 0; i < 11 * COMPACT_READS_LEAST_NS / (10 * KEYS * COMPACT_DELETE_NS); i++) {
        lsm_iter_first(it);
        ck_assert(!lsm_iter_valid(it));
    }
    lsm_iter_close(it);
    ck_ok(lsm_wait_idle(db, &error));
    ck_assert_uint_eq(property(db, "read-merges"), 1);
    ck_assert_uint_eq(property(db, "tables"), 0);
    close_ok(db);
}
END_TEST

START_TEST(test_read_merges_what_was_read_before_a_change_does_not_count)
{
    lsm_db *db = open_runs("workers=1,level0_trigger=11");
    seek(db, NULL, SEEKS_FEWER);
    put_many(db, NULL, 0, KEYS, 20);
    ck_ok(lsm_flush(db, &error));
    seek(db, NULL, SEEKS_FEWER / 3); /* in one run more: each costs more */
    ck_ok(lsm_wait_idle(db, &error));
    ck_assert_uint_eq(property(db, "read-merges"), 0);
    ck_assert_uint_eq(property(db, "level0-tables"), RUNS + 1);
    close_ok(db);
}
END_TEST

START_TEST(test_read_merges_turned_off_merge_nothing)
{
    lsm_db *db = open_runs("workers=1,no_read_merges=true");
    seek(db, NULL, SEEKS_ENOUGH);
    expect_merged(db, 0);
    close_ok(db);
}
END_TEST

START_TEST(test_read_merges_other_styles_are_left_alone)
{
    static const char *const styles[] = {"compaction=tiered", "compaction=fifo,fifo_size=1GiB"};
    for (size_t i = 0; i < 2; i++) {
        char options[100];
        snprintf(options, sizeof options, "workers=1,%s", styles[i]);
        lsm_db *db = open_runs(options);
        seek(db, NULL, SEEKS_ENOUGH);
        expect_merged(db, 0);
        close_ok(db);
        ck_ok(lsm_destroy(db_path, &error));
    }
}
END_TEST

START_TEST(test_read_merges_families_pay_for_themselves)
{
    lsm_cf *cf = NULL;
    lsm_cf_options cf_options = LSM_CF_OPTIONS_INIT;
    cf_options.level0_trigger = RUNS + 1;
    uint64_t tables = 0;
    lsm_db *db = open_runs("workers=1");
    ck_ok(lsm_cf_create(db, "other", &cf_options, &cf, &error));
    fill(db, cf);
    seek(db, NULL, SEEKS_FEWER);
    seek(db, cf, SEEKS_ENOUGH);
    ck_ok(lsm_wait_idle(db, &error));
    ck_assert_uint_eq(property(db, "read-merges"), 1);
    ck_ok(lsm_property(db, cf, "level0-tables", &tables, &error));
    ck_assert_uint_eq(tables, 0);
    ck_assert_uint_eq(property(db, "level0-tables"), RUNS);
    close_ok(db);
}
END_TEST

/* ---- what is in memory ----------------------------------------------------------------------- */

START_TEST(test_read_merges_take_the_memtable_in_when_nobody_writes)
{
    lsm_db *db = open_runs("workers=2,level0_trigger=11");
    put_many(db, NULL, 0, KEYS, 30);
    seek(db, NULL, COMPACT_READS_LEAST_NS / (RUNS * COMPACT_SEEK_NS) * 9 / 10);
    expect_merged(db, 0);
    seek(db, NULL, COMPACT_READS_LEAST_NS / (RUNS * COMPACT_SEEK_NS) / 5);
    ck_ok(lsm_wait_idle(db, &error));
    ck_assert_uint_eq(property(db, "read-merges"), 1);
    ck_assert_uint_eq(property(db, "tables"), 1);
    ck_assert_uint_eq(property(db, "level0-tables"), 0);
    ck_assert_uint_eq(property(db, "entries"), KEYS);
    close_ok(db);
}
END_TEST

START_TEST(test_read_merges_leave_a_memtable_that_is_written_to)
{
    lsm_db *db = open_with(OPTIONS ",workers=2");
    put_many(db, NULL, 0, KEYS, 20);
    ck_ok(lsm_flush(db, &error));
    for (unsigned i = 0; i < 2; i++) { /* one run, so that nothing but the memtable is paid for */
        put_many(db, NULL, i, 1, 30);
        seek(db, NULL, COMPACT_READS_LEAST_NS / COMPACT_SEEK_NS * 11 / 20);
    }
    ck_ok(lsm_wait_idle(db, &error));
    ck_assert_uint_eq(property(db, "read-merges"), 0);
    ck_assert_uint_eq(property(db, "level0-tables"), 1);
    close_ok(db);
}
END_TEST

/* ---- several processes ----------------------------------------------------------------------- */

START_TEST(test_read_merges_of_a_process_without_workers_are_made_by_another)
{
    lsm_db *db = open_with(OPTIONS ",workers=none"), *other = open_with(OPTIONS ",workers=1");
    fill(db, NULL);
    ck_assert_uint_eq(property(db, "level0-tables"), RUNS);
    seek(db, NULL, SEEKS_ENOUGH);
    expect_merged(other, 1);
    ck_assert_uint_eq(property(db, "level0-tables"), 0);
    ck_assert_uint_eq(property(db, "read-merges"), 0);
    close_ok(other);
    close_ok(db);
}
END_TEST

/* Each reads too little for it. */
START_TEST(test_read_merges_of_processes_that_read_together_are_made_once)
{
    lsm_db *db = open_runs("workers=2"), *other = open_with(OPTIONS ",workers=2");
    seek(db, NULL, SEEKS_FEWER);
    seek(other, NULL, SEEKS_ENOUGH - SEEKS_FEWER);
    ck_ok(lsm_wait_idle(db, &error));
    ck_ok(lsm_wait_idle(other, &error));
    ck_assert_uint_eq(property(db, "read-merges") + property(other, "read-merges"), 1);
    ck_assert_uint_eq(property(other, "tables"), 1);
    close_ok(other);
    close_ok(db);
}
END_TEST

START_TEST(test_read_merges_readers_ask_for_none)
{
    lsm_db *db = open_runs("workers=1"), *reader = open_with("read_only=true");
    seek(reader, NULL, SEEKS_ENOUGH);
    expect_merged(db, 0);
    close_ok(reader);
    close_ok(db);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("read_merges");
    TCase *tcase = tcase_create("read_merges");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, fixture_set_up, fixture_tear_down);
    tcase_add_test(tcase, test_read_merges_enough_seeks_merge_once);
    tcase_add_test(tcase, test_read_merges_iterators_opened_for_each_seek_pay);
    tcase_add_test(tcase, test_read_merges_gets_pay_for_what_they_look_into);
    tcase_add_test(tcase, test_read_merges_multi_gets_pay);
    tcase_add_test(tcase, test_read_merges_walks_pay_for_their_steps);
    tcase_add_test(tcase, test_read_merges_walks_over_deletions_pay);
    tcase_add_test(tcase, test_read_merges_what_was_read_before_a_change_does_not_count);
    tcase_add_test(tcase, test_read_merges_turned_off_merge_nothing);
    tcase_add_test(tcase, test_read_merges_other_styles_are_left_alone);
    tcase_add_test(tcase, test_read_merges_families_pay_for_themselves);
    tcase_add_test(tcase, test_read_merges_take_the_memtable_in_when_nobody_writes);
    tcase_add_test(tcase, test_read_merges_leave_a_memtable_that_is_written_to);
    tcase_add_test(tcase, test_read_merges_of_a_process_without_workers_are_made_by_another);
    tcase_add_test(tcase, test_read_merges_of_processes_that_read_together_are_made_once);
    tcase_add_test(tcase, test_read_merges_readers_ask_for_none);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
