#include "engine/base/status.h"

#include <check.h>
#include <errno.h>
#include <string.h>

START_TEST(test_status_fail_fills_the_error)
{
    lsm_error err = {.offset = 5, .expected = 6, .found = 7, .file = "old"};
    int line = __LINE__ + 1;
    lsm_status status = lsm_fail(&err, LSM_CORRUPT, "block %d of '%s'", 3, "f");
    ck_assert_int_eq(status, LSM_CORRUPT);
    ck_assert_int_eq(err.status, LSM_CORRUPT);
    ck_assert_str_eq(err.message, "block 3 of 'f'");
    ck_assert_int_eq(err.source_line, line);
    ck_assert_ptr_nonnull(strstr(err.source_file, "status_test.c"));
    ck_assert_int_eq(err.os_errno, 0);
    ck_assert_uint_eq(err.offset, LSM_NO_OFFSET);
    ck_assert_uint_eq(err.expected, 0);
    ck_assert_uint_eq(err.found, 0);
    ck_assert_str_eq(err.file, "");
}
END_TEST

START_TEST(test_status_errno_chooses_the_status_and_ends_the_sentence)
{
    lsm_error err;
    ck_assert_int_eq(lsm_fail_errno(&err, ENOSPC, "cannot write 'f'"), LSM_NO_SPACE);
    ck_assert_str_eq(err.message, "cannot write 'f': No space left on device");
    ck_assert_int_eq(err.os_errno, ENOSPC);
    ck_assert_int_eq(lsm_fail_errno(&err, EDQUOT, "x"), LSM_NO_SPACE);
    ck_assert_int_eq(lsm_fail_errno(&err, ENOMEM, "x"), LSM_NO_MEMORY);
    ck_assert_int_eq(lsm_fail_errno(&err, EIO, "x"), LSM_IO);
    ck_assert_int_eq(lsm_fail_memory(&err, 12), LSM_NO_MEMORY);
    ck_assert_str_eq(err.message, "out of memory: 12 bytes wanted");
}
END_TEST

START_TEST(test_status_null_error_is_allowed)
{
    ck_assert_int_eq(lsm_fail(NULL, LSM_BUSY, "x"), LSM_BUSY);
    status_place(NULL, "f", 1);
    status_numbers(NULL, 1, 2);
    lsm_error err = {0};
    status_copy(NULL, &err);
}
END_TEST

START_TEST(test_status_long_message_and_file_are_cut)
{
    char text[1000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    lsm_error err;
    (void)lsm_fail(&err, LSM_IO, "%s", text);
    ck_assert_uint_eq(strlen(err.message), sizeof err.message - 1);
    (void)lsm_fail_errno(&err, EIO, "%s", text);
    ck_assert_uint_eq(strlen(err.message), sizeof err.message - 1);
    (void)lsm_fail_errno(&err, EIO, "%.395s", text); /* the reason is what gets cut */
    ck_assert_uint_eq(strlen(err.message), sizeof err.message - 1);
    status_place(&err, text, 9);
    ck_assert_uint_eq(strlen(err.file), sizeof err.file - 1);
    ck_assert_uint_eq(err.offset, 9);
}
END_TEST

START_TEST(test_status_place_numbers_and_copy)
{
    lsm_error err, copy = {0};
    (void)lsm_fail(&err, LSM_CORRUPT, "x");
    status_place(&err, "000001.sst", 4096);
    status_numbers(&err, 1, 2);
    status_copy(&copy, &err);
    ck_assert_str_eq(copy.file, "000001.sst");
    ck_assert_uint_eq(copy.offset, 4096);
    ck_assert_uint_eq(copy.expected, 1);
    ck_assert_uint_eq(copy.found, 2);
    ck_assert_str_eq(copy.message, "x");
}
END_TEST

START_TEST(test_status_every_status_has_a_text)
{
#define CHECK_TEXT(name, number, text)                                                             \
    ck_assert_int_eq(name, number);                                                                \
    ck_assert_str_eq(lsm_strerror(name), text);
    LSM_STATUS_LIST(CHECK_TEXT)
#undef CHECK_TEXT
    ck_assert_str_eq(lsm_strerror((lsm_status)1000), "unknown status");
}
END_TEST

START_TEST(test_version_is_that_of_the_package)
{
    ck_assert_str_eq(lsm_version(), PACKAGE_VERSION);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("status");
    TCase *cases = tcase_create("status");
    tcase_add_test(cases, test_status_fail_fills_the_error);
    tcase_add_test(cases, test_status_errno_chooses_the_status_and_ends_the_sentence);
    tcase_add_test(cases, test_status_null_error_is_allowed);
    tcase_add_test(cases, test_status_long_message_and_file_are_cut);
    tcase_add_test(cases, test_status_place_numbers_and_copy);
    tcase_add_test(cases, test_status_every_status_has_a_text);
    tcase_add_test(cases, test_version_is_that_of_the_package);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
