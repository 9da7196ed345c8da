/* That the checker of histories accepts what can have happened, and finds what cannot. */
#include "engine/base/random.h"
#include "tests/lib/history.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct history_call calls[4000];
static size_t count;
static char message[400];

static void begin_history(void)
{
    memset(calls, 0, sizeof calls);
    count = 0;
}

/* On key 0, and with `both` on key 1, too. */
static struct history_call *call(bool writes, uint64_t begin, uint64_t end, bool both,
                                 uint64_t value)
{
    struct history_call *c = &calls[count++];
    *c = (struct history_call){.begin = begin,
                               .end = end,
                               .writes = writes,
                               .keys = both ? 3 : 1,
                               .values = {value, both ? value : 0}};
    return c;
}

static enum history_verdict verdict(void)
{
    return history_check(calls, count, message, sizeof message);
}

START_TEST(test_history_of_overlapping_calls_is_linearisable)
{
    call(true, 10, 20, false, 1);
    call(false, 15, 40, false, 2); /* the write that begins later may come first */
    call(true, 30, 50, false, 2);
    call(false, 16, 18, false, 0);
    call(false, 45, 60, false, 2);
    ck_assert_msg(verdict() == HISTORY_LINEARISABLE, "%s", message);
}
END_TEST

START_TEST(test_history_stale_read_is_found)
{
    call(true, 10, 20, false, 1);
    call(true, 30, 40, false, 2);
    call(false, 50, 60, false, 1);
    ck_assert_int_eq(verdict(), HISTORY_VIOLATED);
}
END_TEST

START_TEST(test_history_lost_write_is_found)
{
    call(true, 10, 20, false, 1);
    call(false, 30, 40, false, 0);
    ck_assert_int_eq(verdict(), HISTORY_VIOLATED);
}
END_TEST

/* Each read alone is right: together they see the writes in two orders. */
START_TEST(test_history_reordered_writes_are_found)
{
    call(true, 10, 100, false, 1);
    call(true, 10, 100, false, 2);
    call(false, 20, 30, false, 1);
    call(false, 40, 50, false, 2);
    call(false, 60, 70, false, 1);
    ck_assert_int_eq(verdict(), HISTORY_VIOLATED);
}
END_TEST

START_TEST(test_history_torn_batch_is_found)
{
    call(true, 10, 100, true, 1);
    struct history_call *torn = call(false, 20, 30, true, 1);
    ck_assert_int_eq(verdict(), HISTORY_LINEARISABLE);
    torn->values[1] = 0;
    ck_assert_int_eq(verdict(), HISTORY_VIOLATED);
}
END_TEST

START_TEST(test_history_write_of_the_dead_may_count_or_not_but_not_both)
{
    call(true, 10, 20, false, 1);
    call(true, 30, 100, false, 2)->optional = true;
    struct history_call *found = call(false, 110, 120, false, 1);
    ck_assert_int_eq(verdict(), HISTORY_LINEARISABLE);
    found->values[0] = 2;
    ck_assert_int_eq(verdict(), HISTORY_LINEARISABLE);
    call(false, 130, 140, false, 1);
    ck_assert_int_eq(verdict(), HISTORY_VIOLATED); /* it went away again */
    found->values[0] = 1;
    calls[count - 1].values[0] = 2;
    ck_assert_int_eq(verdict(), HISTORY_VIOLATED); /* it came after it was settled */
}
END_TEST

START_TEST(test_history_deletion_that_comes_back_is_found)
{
    call(true, 10, 20, false, 1);
    call(true, 30, 40, false, HISTORY_ABSENT);
    call(false, 50, 60, false, HISTORY_ABSENT);
    ck_assert_int_eq(verdict(), HISTORY_LINEARISABLE);
    call(false, 70, 80, false, 1);
    ck_assert_int_eq(verdict(), HISTORY_VIOLATED);
}
END_TEST

/* A store of the test's own: each call takes effect at a moment of its own between begin and end.
 */
static void make_random(struct random_state *r, size_t length)
{
    uint64_t store[HISTORY_KEYS] = {0}, free_at[5] = {0}, effect = 0;
    for (uint64_t i = 0; i < length; i++) {
        uint32_t process = (uint32_t)random_below(r, 5);
        effect += 1 + random_below(r, 20);
        uint64_t begin = effect - random_below(r, 15);
        if (effect < 15 || begin <= free_at[process])
            continue;
        struct history_call *c = &calls[count++];
        *c = (struct history_call){.begin = begin,
                                   .end = effect + random_below(r, 30),
                                   .process = process,
                                   .writes = random_below(r, 2) == 0,
                                   .keys = (uint8_t)(1 + random_below(r, 255))};
        c->optional = c->writes && random_below(r, 20) == 0;
        bool happens = !c->optional || random_below(r, 2) == 0;
        for (size_t k = 0; k < HISTORY_KEYS; k++) {
            if (c->writes)
                c->values[k] = i % 7 == 0 ? HISTORY_ABSENT : i + 1;
            if (c->writes && happens && (c->keys >> k & 1) != 0)
                store[k] = c->values[k];
            if (!c->writes)
                c->values[k] = store[k];
        }
        free_at[process] = c->end;
    }
}

START_TEST(test_history_random_ones_hold_until_a_read_is_changed)
{
    uint64_t seed = (uint64_t)time(NULL) * 1000 + (uint64_t)_i, changed = 0;
    struct random_state r = random_seeded(seed);
    begin_history();
    make_random(&r, 3000);
    ck_assert_msg(verdict() == HISTORY_LINEARISABLE, "seed %" PRIu64 ": %s", seed, message);
    for (size_t i = count / 2; i < count && changed < 20; i++) {
        if (calls[i].writes || calls[i].values[0] == 0 || (calls[i].keys & 1) == 0)
            continue;
        uint64_t right = calls[i].values[0];
        calls[i].values[0] = 1 + random_below(&r, 500); /* long overwritten, or never written */
        ck_assert_msg(verdict() == HISTORY_VIOLATED, "seed %" PRIu64 ", call %zu", seed, i);
        calls[i].values[0] = right;
        changed++;
    }
    ck_assert_uint_gt(changed, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("crash/history_check");
    TCase *tests = tcase_create("check");
    tcase_add_checked_fixture(tests, begin_history, NULL);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_history_of_overlapping_calls_is_linearisable);
    tcase_add_test(tests, test_history_stale_read_is_found);
    tcase_add_test(tests, test_history_lost_write_is_found);
    tcase_add_test(tests, test_history_reordered_writes_are_found);
    tcase_add_test(tests, test_history_torn_batch_is_found);
    tcase_add_test(tests, test_history_write_of_the_dead_may_count_or_not_but_not_both);
    tcase_add_test(tests, test_history_deletion_that_comes_back_is_found);
    tcase_add_loop_test(tests, test_history_random_ones_hold_until_a_read_is_changed, 0, 10);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
