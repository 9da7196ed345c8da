#include "engine/base/parse.h"

#include <check.h>

static void assert_size(const char *text, uint64_t wanted)
{
    uint64_t bytes = 1;
    ck_assert_msg(parse_size(text, &bytes), "'%s' is refused", text);
    ck_assert_uint_eq(bytes, wanted);
}

START_TEST(test_parse_u64_takes_the_whole_text)
{
    uint64_t value = 7;
    ck_assert(parse_u64("0", &value));
    ck_assert_uint_eq(value, 0);
    ck_assert(parse_u64("18446744073709551615", &value));
    ck_assert_uint_eq(value, UINT64_MAX);
}
END_TEST

START_TEST(test_parse_u64_bad_text_leaves_the_value)
{
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "-1",
                                      "+1",
                                      "0x1",
                                      "1.0",
                                      "a",
                                      "12a",
                                      "18446744073709551616",
                                      "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t value = 7;
        ck_assert_msg(!parse_u64(bad[i], &value), "'%s' is taken", bad[i]);
        ck_assert_uint_eq(value, 7);
    }
}
END_TEST

START_TEST(test_parse_i64_takes_a_minus)
{
    int64_t value = 7;
    ck_assert(parse_i64("-12", &value));
    ck_assert_int_eq(value, -12);
    ck_assert(parse_i64("9223372036854775807", &value));
    ck_assert_int_eq(value, INT64_MAX);
    ck_assert(!parse_i64("9223372036854775808", &value));
    ck_assert(!parse_i64("--1", &value));
    ck_assert(!parse_i64("-", &value));
    ck_assert_int_eq(value, INT64_MAX);
}
END_TEST

START_TEST(test_parse_size_knows_units)
{
    assert_size("0", 0);
    assert_size("12", 12);
    assert_size("12B", 12);
    assert_size("4K", 4096);
    assert_size("4KB", 4096);
    assert_size("4KiB", 4096);
    assert_size("64MiB", UINT64_C(64) << 20);
    assert_size("1G", UINT64_C(1) << 30);
    assert_size("2TiB", UINT64_C(2) << 40);
    assert_size("16777215TiB", UINT64_C(16777215) << 40);
}
END_TEST

START_TEST(test_parse_size_bad_text_leaves_the_value)
{
    static const char *const bad[] = {"",    "K",    "4k",  "4 KiB",       "4KiBs",
                                      "-4K", "1.5M", "4PB", "16777216TiB", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t bytes = 7;
        ck_assert_msg(!parse_size(bad[i], &bytes), "'%s' is taken", bad[i]);
        ck_assert_uint_eq(bytes, 7);
    }
}
END_TEST

START_TEST(test_parse_bool_knows_its_words)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < 4; i++) {
        bool value = false;
        ck_assert(parse_bool(yes[i], &value));
        ck_assert(value);
        ck_assert(parse_bool(no[i], &value));
        ck_assert(!value);
    }
    bool value = true;
    ck_assert(!parse_bool("", &value));
    ck_assert(!parse_bool("TRUE", &value));
    ck_assert(!parse_bool("2", &value));
    ck_assert(value);
}
END_TEST

START_TEST(test_parse_format_size_reads_well)
{
    char text[PARSE_SIZE_TEXT];
    ck_assert_str_eq(parse_format_size(0, text), "0 B");
    ck_assert_str_eq(parse_format_size(1023, text), "1023 B");
    ck_assert_str_eq(parse_format_size(1536, text), "1.5 KiB");
    ck_assert_str_eq(parse_format_size(UINT64_C(64) << 20, text), "64.0 MiB");
    ck_assert_str_eq(parse_format_size(UINT64_MAX, text), "16384.0 PiB");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("parse");
    TCase *cases = tcase_create("parse");
    tcase_add_test(cases, test_parse_u64_takes_the_whole_text);
    tcase_add_test(cases, test_parse_u64_bad_text_leaves_the_value);
    tcase_add_test(cases, test_parse_i64_takes_a_minus);
    tcase_add_test(cases, test_parse_size_knows_units);
    tcase_add_test(cases, test_parse_size_bad_text_leaves_the_value);
    tcase_add_test(cases, test_parse_bool_knows_its_words);
    tcase_add_test(cases, test_parse_format_size_reads_well);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
