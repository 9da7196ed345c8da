/*
 * Several handles of one database, each with an attachment of its own as if it were another process
 * (none of them has threads): what one does between two steps of another.
 */
#include "tests/unit/db/db_fixture.h"

#include "engine/base/step.h"
#include "engine/db/db_private.h"

#include <pthread.h>

#define OPTIONS                                                                                    \
    "create=true,shared=true,workers=none,memtable_size=256KiB,stage_size=128KiB,"                 \
    "wal_segment_size=128KiB,cache_size=1MiB"

/* ---- flushes --------------------------------------------------------------------------------- */

/* It has not looked at the families since: they must not be missing in what it flushes. */
START_TEST(test_flush_keeps_a_family_that_another_process_made)
{
    lsm_db *flusher = open_with(OPTIONS), *writer = open_with(OPTIONS);
    lsm_cf *cf = NULL;
    ck_ok(lsm_cf_create(writer, "second", NULL, &cf, &error));
    put_text(writer, cf, "key", "value");
    ck_ok(lsm_flush(flusher, &error));
    expect_text(writer, cf, "key", "value");
    ck_ok(lsm_cf_open(flusher, "second", &cf, &error));
    expect_text(flusher, cf, "key", "value");
    close_ok(writer);
    close_ok(flusher);
}
END_TEST

START_TEST(test_family_that_another_process_made_is_found_at_once)
{
    lsm_db *first = open_with(OPTIONS), *second = open_with(OPTIONS);
    lsm_cf *made = NULL, *found = NULL;
    char **names = NULL;
    size_t count = 0;
    ck_ok(lsm_cf_create(first, "made", NULL, &made, &error));
    ck_ok(lsm_cf_list(second, &names, &count, &error));
    ck_assert_uint_eq(count, 2);
    lsm_free(names);
    ck_ok(lsm_cf_create(first, "more", NULL, &made, &error));
    ck_ok(lsm_cf_open(second, "more", &found, &error));
    ck_assert_uint_eq(lsm_cf_id(found), lsm_cf_id(made));
    close_ok(first);
    close_ok(second);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("db/peers");
    TCase *tests = tcase_create("peers");
    tcase_add_checked_fixture(tests, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_flush_keeps_a_family_that_another_process_made);
    tcase_add_test(tests, test_family_that_another_process_made_is_found_at_once);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
