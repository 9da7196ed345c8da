#include "bench/clock.h"
#include "bench/options.h"
#include "bench/spans.h"
#include "bench/waits.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH 40 /* of the line on which random spans lie */
#define MOST   12

#define COUNT(array) (sizeof(array) / sizeof *(array))

void die(const char *format, ...)
{
    fputs(format, stderr);
    exit(EXIT_FAILURE);
}

static void assert_cover(const struct span *spans, size_t count, size_t depth,
                         const struct span *wanted, size_t wanted_count)
{
    struct span covered[MOST];
    ck_assert_uint_eq(spans_cover(spans, count, depth, covered), wanted_count);
    for (size_t i = 0; i < wanted_count; i++) {
        ck_assert_uint_eq(covered[i].first, wanted[i].first);
        ck_assert_uint_eq(covered[i].limit, wanted[i].limit);
    }
}

START_TEST(test_cover_depth_tells_any_from_all)
{
    static const struct span spans[] = {{10, 20}, {15, 30}, {40, 50}, {45, 47}, {50, 60}, {70, 70}};
    static const struct span any[] = {{10, 30}, {40, 60}};
    static const struct span both[] = {{15, 20}, {45, 47}};
    assert_cover(spans, COUNT(spans), 1, any, COUNT(any));
    assert_cover(spans, COUNT(spans), 2, both, COUNT(both));
    assert_cover(spans, COUNT(spans), 3, NULL, 0);
    assert_cover(NULL, 0, 1, NULL, 0);
}
END_TEST

START_TEST(test_cover_spans_that_touch_become_one_and_lie_not_over_each_other)
{
    static const struct span spans[] = {{20, 30}, {10, 20}};
    static const struct span any[] = {{10, 30}};
    assert_cover(spans, COUNT(spans), 1, any, COUNT(any));
    assert_cover(spans, COUNT(spans), 2, NULL, 0);
}
END_TEST

/* How many spans lie over the place [at, at + 1). */
static size_t depth_at(const struct span *spans, size_t count, uint64_t at)
{
    size_t depth = 0;
    for (size_t i = 0; i < count; i++)
        depth += spans[i].first <= at && at < spans[i].limit;
    return depth;
}

/* Against counting, place by place. */
START_TEST(test_cover_and_overlap_are_what_counting_says)
{
    unsigned seed = (unsigned)_i;
    struct span spans[MOST], covered[MOST];
    for (size_t i = 0; i < MOST; i++) {
        spans[i].first = (uint64_t)rand_r(&seed) % LENGTH;
        spans[i].limit = spans[i].first + (uint64_t)rand_r(&seed) % 8;
    }
    for (size_t depth = 1; depth <= MOST; depth++) {
        size_t count = spans_cover(spans, MOST, depth, covered);
        for (uint64_t at = 0; at < LENGTH + 8; at++) {
            bool in = depth_at(spans, MOST, at) >= depth;
            ck_assert_uint_eq(depth_at(covered, count, at), in);
        }
        for (size_t i = 1; i < count; i++)
            ck_assert_uint_lt(covered[i - 1].limit, covered[i].first);
        struct span with = {(uint64_t)rand_r(&seed) % LENGTH, (uint64_t)rand_r(&seed) % LENGTH};
        uint64_t wanted = 0;
        for (uint64_t at = with.first; at < with.limit; at++)
            wanted += depth_at(covered, count, at);
        ck_assert_uint_eq(spans_overlap(covered, count, with), wanted);
    }
}
END_TEST

START_TEST(test_withheld_is_what_is_left_of_a_delay)
{
    ck_assert_uint_eq(span_size(span_withheld(100, 150, 10, 4)), 36);
    ck_assert_uint_eq(span_withheld(100, 150, 10, 4).first, 100);
    ck_assert_uint_eq(span_size(span_withheld(100, 114, 10, 4)), 0); /* the kernel alone */
    ck_assert_uint_eq(span_size(span_withheld(100, 105, 10, 4)), 0);
    ck_assert_uint_eq(span_size(span_withheld(100, 90, 0, 0)), 0); /* woken early */
}
END_TEST

#define MS UINT64_C(1000000)

START_TEST(test_reckon_takes_off_only_what_lies_in_a_pause)
{
    struct span any[] = {{10 * MS, 30 * MS}, {50 * MS, 60 * MS}};
    struct span all[] = {{15 * MS, 20 * MS}};
    struct span waits[] = {{5 * MS, 45 * MS}, {52 * MS, 58 * MS}, {70 * MS, 79 * MS}};
    const struct pauses pauses = {any, all, COUNT(any), COUNT(all)};
    const struct waits w = {.spans = waits, .count = COUNT(waits), .longest_other_ns = 4 * MS};
    struct waits_left left = {0};
    waits_reckon(&w, &pauses, &left);
    ck_assert_uint_eq(left.count, 3);
    ck_assert_uint_eq(left.sum_ns, 55 * MS);
    ck_assert_uint_eq(left.of_all.sum_ns, 50 * MS);
    ck_assert_uint_eq(left.of_all.longest_ns, 35 * MS);
    ck_assert_uint_eq(left.of_any.sum_ns, 29 * MS);
    ck_assert_uint_eq(left.of_any.longest_ns, 20 * MS);
}
END_TEST

START_TEST(test_reckon_short_operations_bound_the_longest)
{
    struct span any[] = {{10 * MS, 30 * MS}}, waits[] = {{11 * MS, 29 * MS}};
    const struct pauses pauses = {any, any, 1, 1};
    const struct waits w = {.spans = waits, .count = 1, .longest_other_ns = 4 * MS};
    struct waits_left left = {0};
    waits_reckon(&w, &pauses, &left);
    ck_assert_uint_eq(left.of_any.sum_ns, 0);
    ck_assert_uint_eq(left.of_any.longest_ns, 4 * MS);
    struct waits_left more = {.count = 1, .of_any = {.longest_ns = 7 * MS, .sum_ns = 7 * MS}};
    waits_left_add(&left, &more);
    ck_assert_uint_eq(left.count, 2);
    ck_assert_uint_eq(left.of_any.longest_ns, 7 * MS);
    ck_assert_uint_eq(left.of_all.longest_ns, 4 * MS);
}
END_TEST

static uint64_t ticks_of(uint64_t ns)
{
    return (uint64_t)((double)ns * 1e9 / (double)clock_ticks_to_ns(1000000000));
}

START_TEST(test_note_keeps_the_long_ones_by_their_time)
{
    struct waits waits = {0};
    clock_calibrate();
    uint64_t before = clock_ns(), end = clock_ticks(), after = clock_ns();
    for (int i = 0; i < 1000; i++) {
        waits_note(&waits, end, ticks_of(WAITS_LEAST_NS + MS));
        waits_note(&waits, end, ticks_of(WAITS_LEAST_NS - MS));
    }
    ck_assert_uint_eq(waits.count, 1000);
    ck_assert_uint_lt(waits.longest_other_ns, WAITS_LEAST_NS);
    ck_assert_uint_gt(waits.longest_other_ns, WAITS_LEAST_NS - 2 * MS);
    for (size_t i = 0; i < waits.count; i++) {
        ck_assert_uint_ge(span_size(waits.spans[i]), WAITS_LEAST_NS);
        ck_assert_uint_lt(span_size(waits.spans[i]), WAITS_LEAST_NS + 2 * MS);
        ck_assert_uint_gt(waits.spans[i].limit + MS, before);
        ck_assert_uint_lt(waits.spans[i].limit, after + MS);
    }
    waits_release(&waits);
    ck_assert_uint_eq(waits.count, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("waits");
    TCase *cases = tcase_create("waits");
    tcase_add_test(cases, test_cover_depth_tells_any_from_all);
    tcase_add_test(cases, test_cover_spans_that_touch_become_one_and_lie_not_over_each_other);
    tcase_add_loop_test(cases, test_cover_and_overlap_are_what_counting_says, 1, 301);
    tcase_add_test(cases, test_withheld_is_what_is_left_of_a_delay);
    tcase_add_test(cases, test_reckon_takes_off_only_what_lies_in_a_pause);
    tcase_add_test(cases, test_reckon_short_operations_bound_the_longest);
    tcase_add_test(cases, test_note_keeps_the_long_ones_by_their_time);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
