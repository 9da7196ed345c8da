/* How a short transfer goes on. */
#include "tests/unit/io/backend.h"

#include "engine/io/io_private.h"

#include <errno.h>

static struct io_file buffered;
static struct io_file direct = {.direct = true};

static struct io_request request(enum io_operation operation, struct io_file *file, size_t size)
{
    return (struct io_request){.operation = operation, .file = file, .size = size};
}

START_TEST(test_transfer_short_one_goes_on_where_it_ended)
{
    int number = 77;
    struct io_request r = request(IO_WRITE, &buffered, 10000);
    ck_assert_uint_eq(transfer_start(&r), 0);
    ck_assert_uint_eq(transfer_size(&r), 10000);
    ck_assert(!transfer_advance(&r, 0, 3000, &number));
    ck_assert_uint_eq(transfer_start(&r), 3000);
    ck_assert_uint_eq(transfer_size(&r), 7000);
    ck_assert(transfer_advance(&r, 3000, 7000, &number));
    ck_assert_int_eq(number, 0);
    ck_assert_uint_eq(r.progress, 10000);
}
END_TEST

START_TEST(test_transfer_direct_one_goes_on_from_an_aligned_place)
{
    int number = 77;
    struct io_request r = request(IO_WRITE, &direct, 4 * IO_ALIGNMENT);
    ck_assert(!transfer_advance(&r, 0, IO_ALIGNMENT + 512, &number));
    ck_assert_uint_eq(transfer_start(&r), IO_ALIGNMENT);
    ck_assert_uint_eq(transfer_size(&r), 3 * IO_ALIGNMENT);
    ck_assert(transfer_advance(&r, IO_ALIGNMENT, 3 * IO_ALIGNMENT, &number));
    ck_assert_int_eq(number, 0);
    ck_assert_uint_eq(r.progress, 4 * IO_ALIGNMENT);
}
END_TEST

START_TEST(test_transfer_read_without_headway_is_the_end_of_the_file)
{
    int number = 77;
    struct io_request r = request(IO_READ, &direct, 4 * IO_ALIGNMENT);
    ck_assert(!transfer_advance(&r, 0, IO_ALIGNMENT + 100, &number));
    ck_assert(transfer_advance(&r, IO_ALIGNMENT, 100, &number)); /* the same end again */
    ck_assert_int_eq(number, 0);
    ck_assert_uint_eq(r.progress, IO_ALIGNMENT + 100);
    struct io_request empty = request(IO_READ, &buffered, 100);
    ck_assert(transfer_advance(&empty, 0, 0, &number));
    ck_assert_int_eq(number, 0);
    ck_assert_uint_eq(empty.progress, 0);
}
END_TEST

START_TEST(test_transfer_write_without_headway_is_an_error)
{
    int number = 0;
    struct io_request r = request(IO_WRITE, &buffered, 100);
    ck_assert(!transfer_advance(&r, 0, 50, &number));
    ck_assert(transfer_advance(&r, 50, 0, &number));
    ck_assert_int_eq(number, EIO);
}
END_TEST

START_TEST(test_transfer_of_nothing_is_complete)
{
    int number = 77;
    struct io_request r = request(IO_WRITE, &buffered, 0);
    ck_assert(transfer_advance(&r, 0, 0, &number));
    ck_assert_int_eq(number, 0);
}
END_TEST

START_TEST(test_transfer_huge_one_is_handed_over_in_parts)
{
    int number = 0;
    struct io_request r = request(IO_READ, &direct, 3 * IO_TRANSFER_MAX / 2);
    ck_assert_uint_eq(transfer_size(&r), IO_TRANSFER_MAX);
    ck_assert(!transfer_advance(&r, 0, IO_TRANSFER_MAX, &number));
    ck_assert_uint_eq(transfer_start(&r), IO_TRANSFER_MAX);
    ck_assert_uint_eq(transfer_size(&r), IO_TRANSFER_MAX / 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("io transfer");
    TCase *cases = tcase_create("transfer");
    tcase_add_test(cases, test_transfer_short_one_goes_on_where_it_ended);
    tcase_add_test(cases, test_transfer_direct_one_goes_on_from_an_aligned_place);
    tcase_add_test(cases, test_transfer_read_without_headway_is_the_end_of_the_file);
    tcase_add_test(cases, test_transfer_write_without_headway_is_an_error);
    tcase_add_test(cases, test_transfer_of_nothing_is_complete);
    tcase_add_test(cases, test_transfer_huge_one_is_handed_over_in_parts);
    suite_add_tcase(suite, cases);
    return backend_run(suite);
}
