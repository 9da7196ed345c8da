#include "engine/base/bytes.h"
#include "engine/base/random.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

START_TEST(test_bytes_numbers_are_stored_little_endian)
{
    uint8_t at[8];
    bytes_put_u16(at, 0x0201);
    ck_assert_mem_eq(at, "\x01\x02", 2);
    ck_assert_uint_eq(bytes_get_u16(at), 0x0201);
    bytes_put_u32(at, 0x04030201);
    ck_assert_mem_eq(at, "\x01\x02\x03\x04", 4);
    ck_assert_uint_eq(bytes_get_u32(at), 0x04030201);
    bytes_put_u64(at, 0x0807060504030201);
    ck_assert_mem_eq(at, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
    ck_assert_uint_eq(bytes_get_u64(at), 0x0807060504030201);
}
END_TEST

START_TEST(test_bytes_head_orders_as_the_bytes_do)
{
    ck_assert_uint_eq(bytes_head("abcdefghij", 10), 0x6162636465666768);
    ck_assert_uint_eq(bytes_head("ab", 2), 0x6162000000000000);
    ck_assert_uint_eq(bytes_head(NULL, 0), 0);
    ck_assert_uint_lt(bytes_head("ab", 2), bytes_head("ac", 2));
    ck_assert_uint_lt(bytes_head("\x7f", 1), bytes_head("\x80", 1));
    ck_assert_uint_eq(bytes_head("a", 1), bytes_head("a\0", 2)); /* equal heads decide nothing */
}
END_TEST

START_TEST(test_bytes_varint_comes_back)
{
    static const uint64_t edges[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX};
    uint64_t seed = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    struct random_state r = random_seeded(seed);
    for (size_t i = 0; i < 20000; i++) {
        uint64_t value =
            i < sizeof edges / sizeof *edges ? edges[i] : random_next(&r) >> random_below(&r, 64);
        uint8_t at[BYTES_VARINT_MAX];
        size_t size = bytes_put_varint(at, value);
        ck_assert_uint_eq(size, bytes_varint_size(value));
        struct cursor c = cursor_over(at, size);
        ck_assert_uint_eq(cursor_take_varint(&c), value);
        ck_assert(!c.failed);
        ck_assert_uint_eq(cursor_left(&c), 0);
        struct cursor cut = cursor_over(at, size - 1);
        ck_assert_uint_eq(cursor_take_varint(&cut), 0);
        ck_assert(cut.failed);
    }
}
END_TEST

static void assert_varint_refused(const char *bytes, size_t size)
{
    struct cursor c = cursor_over(bytes, size);
    ck_assert_uint_eq(cursor_take_varint(&c), 0);
    ck_assert(c.failed);
}

START_TEST(test_cursor_varint_not_shortest_or_too_long_fails)
{
    assert_varint_refused("\x80\x00", 2);
    assert_varint_refused("\xff\x80\x00", 3);
    assert_varint_refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10); /* 65 bits */
    assert_varint_refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x01", 11);
}
END_TEST

START_TEST(test_cursor_takes_in_order)
{
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 'x', 'y'};
    struct cursor c = cursor_over(bytes, sizeof bytes);
    ck_assert_uint_eq(cursor_take_u8(&c), 1);
    ck_assert_uint_eq(cursor_take_u16(&c), 0x0302);
    ck_assert_uint_eq(cursor_take_u32(&c), 0x07060504);
    ck_assert_uint_eq(cursor_take_u64(&c), 0x0f0e0d0c0b0a0908);
    ck_assert_ptr_eq(cursor_take(&c, 2), bytes + 15);
    ck_assert(!c.failed);
    ck_assert_uint_eq(cursor_left(&c), 0);
}
END_TEST

START_TEST(test_cursor_past_the_limit_fails_for_ever)
{
    uint8_t *bytes = malloc(3); /* of exact size, so that a sanitizer sees a read past it */
    memset(bytes, 7, 3);
    struct cursor c = cursor_over(bytes, 3);
    ck_assert_uint_eq(cursor_take_u32(&c), 0);
    ck_assert(c.failed);
    ck_assert_uint_eq(cursor_take_u8(&c), 0);
    ck_assert_ptr_null(cursor_take(&c, 0));
    struct cursor huge = cursor_over(bytes, 3);
    ck_assert_ptr_null(cursor_take(&huge, SIZE_MAX));
    struct cursor empty = cursor_over(NULL, 0);
    ck_assert_uint_eq(cursor_take_u8(&empty), 0);
    ck_assert(empty.failed);
    free(bytes);
}
END_TEST

START_TEST(test_random_same_seed_gives_the_same_numbers_below_the_limit)
{
    struct random_state a = random_seeded(42), b = random_seeded(42);
    bool seen[10] = {false};
    for (int i = 0; i < 1000; i++) {
        uint64_t n = random_below(&a, 10);
        ck_assert_uint_eq(n, random_below(&b, 10));
        ck_assert_uint_lt(n, 10);
        seen[n] = true;
    }
    for (int i = 0; i < 10; i++)
        ck_assert(seen[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bytes");
    TCase *cases = tcase_create("bytes");
    tcase_add_test(cases, test_bytes_numbers_are_stored_little_endian);
    tcase_add_test(cases, test_bytes_head_orders_as_the_bytes_do);
    tcase_add_test(cases, test_bytes_varint_comes_back);
    tcase_add_test(cases, test_cursor_varint_not_shortest_or_too_long_fails);
    tcase_add_test(cases, test_cursor_takes_in_order);
    tcase_add_test(cases, test_cursor_past_the_limit_fails_for_ever);
    tcase_add_test(cases, test_random_same_seed_gives_the_same_numbers_below_the_limit);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
