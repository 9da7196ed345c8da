#include "engine/base/memory.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(test_memory_of_size_zero_may_be_freed)
{
    void *a = mem_alloc(0), *b = mem_alloc_zeroed(0);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_nonnull(b);
    a = mem_resize(a, 0);
    ck_assert_ptr_nonnull(a);
    mem_free(a);
    mem_free(b);
    mem_free(NULL);
}
END_TEST

START_TEST(test_memory_zeroed_and_resized_holds_what_it_should)
{
    uint8_t *bytes = mem_alloc_zeroed(100);
    for (int i = 0; i < 100; i++)
        ck_assert_uint_eq(bytes[i], 0);
    memset(bytes, 7, 100);
    bytes = mem_resize(bytes, 100000);
    for (int i = 0; i < 100; i++)
        ck_assert_uint_eq(bytes[i], 7);
    mem_free(bytes);
    char *copy = mem_copy_text("text");
    ck_assert_str_eq(copy, "text");
    mem_free(copy);
}
END_TEST

START_TEST(test_memory_aligned_is_aligned)
{
    for (size_t alignment = sizeof(void *); alignment <= 65536; alignment *= 2) {
        void *memory = mem_alloc_aligned(alignment, 10);
        ck_assert_uint_eq((uintptr_t)memory % alignment, 0);
        mem_free(memory);
    }
}
END_TEST

START_TEST(test_memory_every_allocation_is_counted)
{
    uint64_t before = mem_allocation_count();
    void *a = mem_alloc(1), *b = mem_alloc_zeroed(1), *c = mem_alloc_aligned(64, 1);
    a = mem_resize(a, 2);
    char *d = mem_copy_text("x");
    ck_assert_uint_eq(mem_allocation_count() - before, 5);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(d);
    ck_assert_uint_eq(mem_allocation_count() - before, 5);
}
END_TEST

START_TEST(test_memory_fail_once_fails_that_one_only)
{
    mem_fail_after(2, false);
    void *first = mem_alloc(1), *second = mem_alloc(1);
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_nonnull(second);
    ck_assert_ptr_null(mem_alloc(1));
    void *fourth = mem_alloc(1);
    ck_assert_ptr_nonnull(fourth);
    mem_free(first);
    mem_free(second);
    mem_free(fourth);
}
END_TEST

START_TEST(test_memory_fail_sticky_fails_until_told_otherwise)
{
    mem_fail_after(0, true);
    ck_assert_ptr_null(mem_alloc(1));
    ck_assert_ptr_null(mem_alloc_zeroed(1));
    ck_assert_ptr_null(mem_alloc_aligned(64, 1));
    ck_assert_ptr_null(mem_copy_text("x"));
    ck_assert_ptr_null(mem_resize(NULL, 1));
    mem_fail_after(-1, false);
    void *memory = mem_alloc(1);
    ck_assert_ptr_nonnull(memory);
    mem_free(memory);
}
END_TEST

static void fill(uint8_t *memory, size_t first, size_t limit)
{
    for (size_t i = first; i < limit; i++)
        memory[i] = (uint8_t)(i * 7 + i / 256);
}

/* Also over the border between heap and mappings, both ways. */
START_TEST(test_memory_large_keeps_its_bytes_when_resized)
{
    static const size_t sizes[] = {100, 131071, 131072, 1 << 20, 5000000, 200000, 70000, 131072, 1};
    size_t size = 0;
    uint8_t *memory = NULL, *wanted = malloc(5000000);
    fill(wanted, 0, 5000000);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        memory = mem_resize_large(memory, size, sizes[i]);
        ck_assert_ptr_nonnull(memory);
        if (sizes[i] > size)
            fill(memory, size, sizes[i]);
        size = sizes[i];
        ck_assert_mem_eq(memory, wanted, size);
    }
    mem_free_large(memory, size);
    free(wanted);
    mem_free_large(NULL, 0);
}
END_TEST

START_TEST(test_memory_large_is_aligned_and_may_fail)
{
    for (size_t alignment = 16; alignment <= (size_t)4 << 20; alignment *= 4) {
        for (size_t size = 1000; size < 5000000; size *= 3) {
            uint8_t *memory = mem_alloc_large(alignment, size);
            ck_assert_uint_eq((uintptr_t)memory % alignment, 0);
            memory[0] = memory[size - 1] = 1;
            mem_free_large(memory, size);
        }
    }
    uint8_t *kept = mem_alloc_large(64, 200000);
    mem_fail_after(0, true);
    ck_assert_ptr_null(mem_alloc_large(64, 200000));
    ck_assert_ptr_null(mem_alloc_large(64, 200));
    ck_assert_ptr_null(mem_resize_large(kept, 200000, 300000));
    ck_assert_ptr_null(mem_resize_large(NULL, 0, 300000));
    mem_fail_after(-1, false);
    kept[199999] = 1; /* still there */
    mem_free_large(kept, 200000);
}
END_TEST

START_TEST(test_memory_sizes_that_overflow_are_refused)
{
    size_t size = 3;
    ck_assert(!mem_add(SIZE_MAX, 1, &size));
    ck_assert(!mem_multiply(SIZE_MAX / 2, 3, &size));
    ck_assert(mem_add(SIZE_MAX - 1, 1, &size));
    ck_assert_uint_eq(size, SIZE_MAX);
    ck_assert(mem_multiply(6, 7, &size));
    ck_assert_uint_eq(size, 42);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory");
    TCase *cases = tcase_create("memory");
    tcase_add_test(cases, test_memory_of_size_zero_may_be_freed);
    tcase_add_test(cases, test_memory_zeroed_and_resized_holds_what_it_should);
    tcase_add_test(cases, test_memory_aligned_is_aligned);
    tcase_add_test(cases, test_memory_every_allocation_is_counted);
    tcase_add_test(cases, test_memory_fail_once_fails_that_one_only);
    tcase_add_test(cases, test_memory_fail_sticky_fails_until_told_otherwise);
    tcase_add_test(cases, test_memory_large_keeps_its_bytes_when_resized);
    tcase_add_test(cases, test_memory_large_is_aligned_and_may_fail);
    tcase_add_test(cases, test_memory_sizes_that_overflow_are_refused);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
