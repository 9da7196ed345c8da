/* Iterators: those that are kept for the next open, and walks whose sources come and go. */
#include "engine/db/db_private.h"
#include "tests/unit/db/db_fixture.h"

static lsm_iter *iter_over(lsm_db *db)
{
    lsm_iter *it = NULL;
    ck_ok(lsm_iter_open(db, NULL, NULL, &it, &error));
    return it;
}

static unsigned count_forwards(lsm_db *db)
{
    lsm_iter *it = iter_over(db);
    unsigned count = 0;
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it))
        count++;
    ck_ok(lsm_iter_status(it, &error));
    lsm_iter_close(it);
    return count;
}

static unsigned count_parked(lsm_db *db)
{
    unsigned count = 0;
    for (size_t i = 0; i < DB_PARKED_ITERATORS; i++)
        count += atomic_load(&db->parked[i]) != NULL;
    return count;
}

START_TEST(test_iterator_taken_over_shows_what_was_written_since)
{
    lsm_db *db = open_small();
    ck_assert_uint_eq(count_forwards(db), 0); /* its memtable was empty and is not in the merge */
    put_many(db, NULL, 0, 10, 10);
    ck_assert_uint_eq(count_forwards(db), 10);
    lsm_iter *parked = atomic_load(&db->parked[0]);
    put_many(db, NULL, 10, 10, 10);
    lsm_iter *it = iter_over(db);
    ck_assert_ptr_eq(it, parked);
    ck_assert(!lsm_iter_valid(it));
    lsm_iter_seek(it, text("many-000019"));
    ck_assert(lsm_iter_valid(it));
    lsm_iter_close(it);
    close_ok(db);
}
END_TEST

START_TEST(test_iterator_taken_over_shows_its_own_snapshot_family_and_bounds)
{
    lsm_db *db = open_small();
    lsm_cf *cf = NULL;
    lsm_snapshot *snapshot = NULL;
    ck_ok(lsm_cf_create(db, "other", NULL, &cf, &error));
    put_many(db, NULL, 0, 10, 10);
    ck_ok(lsm_snapshot_acquire(db, &snapshot, &error));
    put_many(db, NULL, 10, 10, 10);
    ck_assert_uint_eq(count_forwards(db), 20);
    lsm_read_options options[] = {
        {.snapshot = snapshot}, {.limit = text("many-000003")}, {.keys_only = true}, {0}};
    unsigned expected[] = {10, 3, 20, 20};
    for (unsigned i = 0; i < 4; i++) {
        lsm_iter *it = NULL;
        unsigned count = 0;
        ck_ok(lsm_iter_open(db, NULL, &options[i], &it, &error));
        for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it), count++)
            ck_assert_uint_eq(lsm_iter_value(it).size, options[i].keys_only ? 0 : 10);
        ck_assert_uint_eq(count, expected[i]);
        lsm_iter_close(it);
    }
    lsm_iter *it = NULL;
    ck_ok(lsm_iter_open(db, cf, NULL, &it, &error));
    lsm_iter_first(it);
    ck_assert(!lsm_iter_valid(it));
    lsm_iter_close(it);
    lsm_snapshot_release(db, snapshot);
    close_ok(db);
}
END_TEST

/* A memtable is only used again when nobody holds it: with two of them each flush needs the other.
 */
START_TEST(test_iterator_parked_is_let_go_when_the_state_changes)
{
    lsm_db *db = open_with(SMALL_OPTIONS ",memtable_count=2");
    for (unsigned round = 0; round < 6; round++) {
        put_many(db, NULL, round * 100, 100, 10);
        ck_assert_uint_eq(count_forwards(db), (round + 1) * 100);
        ck_assert_uint_eq(count_parked(db), 1);
        ck_ok(lsm_flush(db, &error));
        ck_assert_uint_eq(count_parked(db), 0);
    }
    close_ok(db);
}
END_TEST

START_TEST(test_iterator_more_at_once_than_are_kept_are_all_closed)
{
    lsm_db *db = open_small();
    lsm_iter *its[DB_PARKED_ITERATORS + 2];
    put_many(db, NULL, 0, 10, 10);
    for (size_t i = 0; i < DB_PARKED_ITERATORS + 2; i++)
        its[i] = iter_over(db);
    for (size_t i = 0; i < DB_PARKED_ITERATORS + 2; i++)
        lsm_iter_close(its[i]);
    ck_assert_uint_eq(count_parked(db), DB_PARKED_ITERATORS);
    ck_assert_uint_eq(count_forwards(db), 10);
    close_ok(db);
}
END_TEST

/* Every key begins with all of the others' bytes or more, so heads decide nothing, and a table has
 * one key: what is compared is the key of a table that the walk has just left. */
START_TEST(test_iterator_walk_over_tables_of_one_key_each_shows_all)
{
    lsm_db *db = open_with(SMALL_OPTIONS ",table_size=4KiB,level0_trigger=100");
    char key[64];
    memset(key, 'k', sizeof key);
    for (size_t size = 1; size <= sizeof key; size++) {
        ck_ok(lsm_put(db, NULL, LSM_SLICE(key, size), text("value"), NULL, &error));
        ck_ok(lsm_flush(db, &error));
    }
    for (int pass = 0; pass < 2; pass++) {
        ck_assert_uint_eq(count_forwards(db), sizeof key);
        ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    }
    close_ok(db);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("iterator");
    tcase_add_checked_fixture(tests, fixture_set_up, fixture_tear_down);
    tcase_add_test(tests, test_iterator_taken_over_shows_what_was_written_since);
    tcase_add_test(tests, test_iterator_taken_over_shows_its_own_snapshot_family_and_bounds);
    tcase_add_test(tests, test_iterator_parked_is_let_go_when_the_state_changes);
    tcase_add_test(tests, test_iterator_more_at_once_than_are_kept_are_all_closed);
    tcase_add_test(tests, test_iterator_walk_over_tables_of_one_key_each_shows_all);
    Suite *suite = suite_create("iterator");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
