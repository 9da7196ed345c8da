#include "engine/base/slice.h"

#include <check.h>

static int compare_text(const char *a, const char *b)
{
    return slice_compare(slice_of_text(a), slice_of_text(b));
}

START_TEST(test_slice_order_is_bytes_then_length)
{
    ck_assert_int_lt(compare_text("a", "b"), 0);
    ck_assert_int_gt(compare_text("b", "a"), 0);
    ck_assert_int_eq(compare_text("ab", "ab"), 0);
    ck_assert_int_lt(compare_text("a", "ab"), 0);
    ck_assert_int_lt(compare_text("ab", "b"), 0);
    ck_assert_int_lt(compare_text("", "a"), 0);
    ck_assert_int_gt(compare_text("\x80", "\x7f"), 0); /* unsigned */
    ck_assert_int_lt(slice_compare(LSM_SLICE("a", 1), LSM_SLICE("a\0", 2)), 0);
}
END_TEST

START_TEST(test_slice_empty_may_be_null)
{
    lsm_slice null = LSM_SLICE(NULL, 0);
    ck_assert_int_eq(slice_compare(null, null), 0);
    ck_assert_int_eq(slice_compare(null, LSM_SLICE("", 0)), 0);
    ck_assert_int_lt(slice_compare(null, LSM_SLICE("\0", 1)), 0);
    ck_assert(slice_equal(null, LSM_SLICE("", 0)));
    ck_assert(slice_begins_with(LSM_SLICE("a", 1), null));
    ck_assert(slice_begins_with(null, null));
    ck_assert_uint_eq(slice_common_prefix(null, LSM_SLICE("a", 1)), 0);
}
END_TEST

START_TEST(test_slice_equal_and_prefix)
{
    ck_assert(slice_equal(slice_of_text("abc"), slice_of_text("abc")));
    ck_assert(!slice_equal(slice_of_text("abc"), slice_of_text("abd")));
    ck_assert(!slice_equal(slice_of_text("abc"), slice_of_text("ab")));
    ck_assert(slice_begins_with(slice_of_text("abc"), slice_of_text("ab")));
    ck_assert(!slice_begins_with(slice_of_text("abc"), slice_of_text("abcd")));
    ck_assert(!slice_begins_with(slice_of_text("abc"), slice_of_text("ac")));
    ck_assert_uint_eq(slice_common_prefix(slice_of_text("abcx"), slice_of_text("abdx")), 2);
    ck_assert_uint_eq(slice_common_prefix(slice_of_text("ab"), slice_of_text("abc")), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("slice");
    TCase *cases = tcase_create("slice");
    tcase_add_test(cases, test_slice_order_is_bytes_then_length);
    tcase_add_test(cases, test_slice_empty_may_be_null);
    tcase_add_test(cases, test_slice_equal_and_prefix);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
