#include "engine/base/hash.h"

#include <check.h>
#include <string.h>

/* Files hold these numbers: a change here is a change of format. */
START_TEST(test_hash_values_never_change)
{
    ck_assert_uint_eq(hash_key("", 0), 0x2d06800538d394c2);
    ck_assert_uint_eq(hash_key("abc", 3), 0x78af5f94892f3950);
    ck_assert_uint_eq(hash_bytes("abc", 3, 0), 0x78af5f94892f3950);
}
END_TEST

START_TEST(test_hash_bytes_depends_on_every_bit_and_on_the_seed)
{
    uint8_t bytes[100] = {0};
    uint64_t whole = hash_bytes(bytes, sizeof bytes, 1);
    ck_assert_uint_ne(whole, hash_bytes(bytes, sizeof bytes, 2));
    ck_assert_uint_ne(whole, hash_bytes(bytes, sizeof bytes - 1, 1));
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_uint_ne(whole, hash_bytes(bytes, sizeof bytes, 1));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
END_TEST

START_TEST(test_hash_place_differs_by_database_file_and_offset)
{
    uint8_t uuid[HASH_UUID_SIZE] = {1}, other[HASH_UUID_SIZE] = {2};
    uint64_t place = hash_place(uuid, 7, 4096);
    ck_assert_uint_eq(place, hash_place(uuid, 7, 4096));
    ck_assert_uint_ne(place, hash_place(other, 7, 4096));
    ck_assert_uint_ne(place, hash_place(uuid, 8, 4096));
    ck_assert_uint_ne(place, hash_place(uuid, 7, 8192));
    ck_assert_uint_ne(hash_place(uuid, 7, 8), hash_place(uuid, 8, 7));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hash");
    TCase *cases = tcase_create("hash");
    tcase_add_test(cases, test_hash_values_never_change);
    tcase_add_test(cases, test_hash_bytes_depends_on_every_bit_and_on_the_seed);
    tcase_add_test(cases, test_hash_place_differs_by_database_file_and_offset);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
