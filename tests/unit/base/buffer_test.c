#include "engine/base/buffer.h"
#include "engine/base/memory.h"

#include <check.h>

START_TEST(test_buffer_appends_are_kept_in_order)
{
    struct buffer b = {0};
    buffer_append(&b, "ab", 2);
    buffer_append_u8(&b, 0x01);
    buffer_append_u16(&b, 0x0302);
    buffer_append_u32(&b, 0x07060504);
    buffer_append_u64(&b, 0x0f0e0d0c0b0a0908);
    buffer_append_varint(&b, 300);
    buffer_append_zeros(&b, 3);
    static const uint8_t wanted[] = {'a', 'b', 1,  2,  3,  4,  5,    6,    7, 8, 9,
                                     10,  11,  12, 13, 14, 15, 0xac, 0x02, 0, 0, 0};
    ck_assert(!b.failed);
    ck_assert_uint_eq(b.size, sizeof wanted);
    ck_assert_mem_eq(b.data, wanted, sizeof wanted);
    buffer_release(&b);
    ck_assert_ptr_null(b.data);
    ck_assert_uint_eq(b.size, 0);
}
END_TEST

START_TEST(test_buffer_growing_keeps_what_was_there)
{
    struct buffer b = {0};
    for (uint32_t i = 0; i < 100000; i++)
        buffer_append_u32(&b, i);
    ck_assert(!b.failed);
    ck_assert_uint_eq(b.size, 400000);
    for (uint32_t i = 0; i < 100000; i++)
        ck_assert_uint_eq(bytes_get_u32(b.data + (size_t)i * 4), i);
    buffer_release(&b);
}
END_TEST

START_TEST(test_buffer_growing_costs_few_allocations)
{
    struct buffer b = {0};
    uint64_t before = mem_allocation_count();
    for (uint32_t i = 0; i < 1u << 20; i++)
        buffer_append_u8(&b, (uint8_t)i);
    ck_assert_uint_le(mem_allocation_count() - before, 16);
    buffer_release(&b);
}
END_TEST

START_TEST(test_buffer_cleared_keeps_its_memory)
{
    struct buffer b = {0};
    buffer_append_zeros(&b, 1000);
    uint8_t *data = b.data;
    buffer_clear(&b);
    uint64_t before = mem_allocation_count();
    buffer_append_zeros(&b, 1000);
    ck_assert_ptr_eq(b.data, data);
    ck_assert_uint_eq(mem_allocation_count(), before);
    buffer_release(&b);
}
END_TEST

START_TEST(test_buffer_failed_allocation_stops_all_later_appends)
{
    struct buffer b = {0};
    buffer_append(&b, "kept", 4);
    mem_fail_after(0, false);
    buffer_append_zeros(&b, 1000);
    ck_assert(b.failed);
    buffer_append_u8(&b, 1);
    buffer_append_varint(&b, 1);
    ck_assert_ptr_null(buffer_grow(&b, 1));
    ck_assert_uint_eq(b.size, 4);
    ck_assert_mem_eq(b.data, "kept", 4);
    buffer_clear(&b);
    buffer_append_u8(&b, 1);
    ck_assert(!b.failed);
    ck_assert_uint_eq(b.size, 1);
    buffer_release(&b);
}
END_TEST

START_TEST(test_buffer_size_that_overflows_fails)
{
    struct buffer b = {0};
    buffer_append_u8(&b, 1);
    ck_assert(!buffer_reserve(&b, SIZE_MAX));
    ck_assert(b.failed);
    ck_assert_uint_eq(b.size, 1);
    buffer_release(&b);
}
END_TEST

START_TEST(test_buffer_appending_nothing_allocates_nothing)
{
    struct buffer b = {0};
    buffer_append(&b, NULL, 0);
    buffer_append_zeros(&b, 0);
    ck_assert_ptr_null(b.data);
    lsm_slice s = buffer_slice(&b);
    ck_assert_uint_eq(s.size, 0);
    buffer_release(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("buffer");
    TCase *cases = tcase_create("buffer");
    tcase_add_test(cases, test_buffer_appends_are_kept_in_order);
    tcase_add_test(cases, test_buffer_growing_keeps_what_was_there);
    tcase_add_test(cases, test_buffer_growing_costs_few_allocations);
    tcase_add_test(cases, test_buffer_cleared_keeps_its_memory);
    tcase_add_test(cases, test_buffer_failed_allocation_stops_all_later_appends);
    tcase_add_test(cases, test_buffer_size_that_overflows_fails);
    tcase_add_test(cases, test_buffer_appending_nothing_allocates_nothing);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
