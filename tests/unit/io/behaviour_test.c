/* What every backend does alike: files, directories, mappings, locks and the words of errors. */
#include "tests/unit/io/backend.h"

#include "engine/base/memory.h"

#include <errno.h>

#define RW (IO_FILE_WRITE | IO_FILE_CREATE)

static struct backend b;

/* Begins a test on backend _i; the test ends where that one is refused. */
#define BEGIN                                                                                      \
    if (!backend_open(&b, _i))                                                                     \
        return;

/* ---- files ----------------------------------------------------------------------------------- */

START_TEST(test_file_written_bytes_are_read_back)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW);
    char got[10] = {0};
    ck_ok(io_file_write(f, "hello", 5, 3, err));
    ck_ok(io_file_write(f, "HE", 2, 3, err));
    io_file_write_back(f, 0, 8);
    io_file_write_back(f, 4096, UINT64_MAX - 4096); /* a hint: it has no way to fail */
    ck_ok(io_file_sync(f, err));
    ck_ok(io_file_read_exact(f, got, 8, 0, err));
    ck_assert_mem_eq(got, "\0\0\0HEllo", 8);
    uint64_t size = 0;
    ck_ok(io_file_size(f, &size, err));
    ck_assert_uint_eq(size, 8);
    ck_assert_str_eq(io_file_name(f), "a");
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_file_read_at_end_is_short)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW);
    char bytes[100];
    memset(bytes, 'x', sizeof bytes);
    size_t got = 77;
    ck_ok(io_file_read(f, bytes, 100, 0, &got, err));
    ck_assert_uint_eq(got, 0);
    ck_ok(io_file_write(f, bytes, 10, 0, err));
    ck_ok(io_file_read(f, bytes, 100, 4, &got, err));
    ck_assert_uint_eq(got, 6);
    ck_ok(io_file_read(f, bytes, 100, 10, &got, err));
    ck_assert_uint_eq(got, 0);
    ck_ok(io_file_read(f, bytes, 100, 100000, &got, err));
    ck_assert_uint_eq(got, 0);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_file_early_end_is_an_error_with_place_and_numbers)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW);
    char bytes[100] = {0};
    ck_ok(io_file_write(f, bytes, 50, 0, err));
    lsm_error error = {0};
    ck_assert_int_eq(io_file_read_exact(f, bytes, 100, 8, &error), LSM_CORRUPT);
    char expected[400];
    snprintf(expected, sizeof expected,
             "'%s/a' ends early: expected 100 bytes at offset 8, found 42", b.path);
    ck_assert_str_eq(error.message, expected);
    ck_assert_str_eq(error.file, "a");
    ck_assert_uint_eq(error.offset, 8);
    ck_assert_uint_eq(error.expected, 100);
    ck_assert_uint_eq(error.found, 42);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_file_opened_for_reading_refuses_changes)
{
    BEGIN
    io_file_close(backend_file(&b, "a", RW));
    struct io_file *f = backend_file(&b, "a", 0);
    lsm_error error = {0};
    struct io_mapping *m = NULL;
    struct io_lock *l = NULL;
    ck_assert_int_eq(io_file_write(f, "x", 1, 7, &error), LSM_IO);
    char expected[400];
    snprintf(expected, sizeof expected,
             "cannot write 1 bytes at offset 7 to '%s/a': Bad file descriptor", b.path);
    ck_assert_str_eq(error.message, expected);
    ck_assert_uint_eq(error.offset, 7);
    ck_assert_int_eq(io_file_truncate(f, 0, &error), LSM_IO);
    ck_assert_int_eq(io_file_allocate(f, 0, 10, &error), LSM_IO);
    ck_assert_int_eq(io_map(f, 10, IO_MAP_WRITE, &m, &error), LSM_IO);
    ck_assert_int_eq(io_lock(f, 0, &l, &error), LSM_IO);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_file_missing_and_existing_are_told_apart)
{
    BEGIN
    struct io_file *f = NULL;
    lsm_error error = {0};
    ck_assert_int_eq(io_file_open(b.dir, "none", IO_FILE_WRITE, 0, &f, &error), LSM_MISSING);
    char expected[400];
    snprintf(expected, sizeof expected, "cannot open '%s/none': it does not exist", b.path);
    ck_assert_str_eq(error.message, expected);
    ck_assert_str_eq(error.file, "none");
    io_file_close(backend_file(&b, "a", RW | IO_FILE_NEW));
    ck_assert_int_eq(io_file_open(b.dir, "a", RW | IO_FILE_NEW, 0, &f, &error), LSM_EXISTS);
    ck_assert_ptr_null(f);
    io_file_close(backend_file(&b, "a", RW));
    backend_close(&b);
}
END_TEST

START_TEST(test_file_names_that_lead_elsewhere_are_refused)
{
    BEGIN
    char long_name[300];
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    const char *names[] = {"", ".", "..", "../x", "a/b", "/etc/passwd", long_name};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct io_file *f = NULL;
        lsm_error error = {0};
        ck_assert_int_eq(io_file_open(b.dir, names[i], RW, 0, &f, &error), LSM_INVALID);
        ck_assert_int_eq(io_dir_unlink(b.dir, names[i], NULL, &error), LSM_INVALID);
        ck_assert_int_eq(io_dir_rename(b.dir, "a", names[i], &error), LSM_INVALID);
        ck_assert_int_eq(io_dir_rename(b.dir, names[i], "a", &error), LSM_INVALID);
    }
    backend_close(&b);
}
END_TEST

START_TEST(test_file_direct_transfers_must_be_aligned)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW | IO_FILE_DIRECT);
    char *pages = backend_pages(3 * IO_ALIGNMENT, 'p');
    size_t got = 0;
    lsm_error error = {0};
    ck_ok(io_file_write(f, pages, 2 * IO_ALIGNMENT, 0, err));
    ck_assert_int_eq(io_file_write(f, pages + 1, IO_ALIGNMENT, 0, &error), LSM_IO);
    ck_assert_int_eq(io_file_write(f, pages, 100, 0, &error), LSM_IO);
    ck_assert_int_eq(io_file_write(f, pages, IO_ALIGNMENT, 512, &error), LSM_IO);
    ck_assert_int_eq(io_file_read(f, pages, 100, 0, &got, &error), LSM_IO);
    ck_ok(io_file_truncate(f, 5000, err));
    memset(pages, 0, 3 * IO_ALIGNMENT);
    ck_ok(io_file_read(f, pages, 3 * IO_ALIGNMENT, 0, &got, err));
    ck_assert_uint_eq(got, 5000);
    ck_assert_int_eq(pages[4999], 'p');
    ck_assert_int_eq(pages[5000], 0);
    io_file_close(f);
    free(pages);
    backend_close(&b);
}
END_TEST

START_TEST(test_file_truncated_and_extended_shows_zeros)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW);
    char bytes[10000];
    memset(bytes, 'x', sizeof bytes);
    ck_ok(io_file_write(f, bytes, sizeof bytes, 0, err));
    ck_ok(io_file_truncate(f, 5000, err));
    ck_ok(io_file_truncate(f, 9000, err));
    ck_ok(io_file_read_exact(f, bytes, 9000, 0, err));
    size_t wrong = 0;
    for (size_t i = 0; i < 9000; i++)
        wrong += bytes[i] != (i < 5000 ? 'x' : 0);
    ck_assert_uint_eq(wrong, 0);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_file_allocation_extends_and_keeps_bytes)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW);
    char bytes[10000];
    uint64_t size = 0;
    ck_ok(io_file_write(f, "abc", 3, 0, err));
    ck_ok(io_file_allocate(f, 0, 100000, err));
    ck_ok(io_file_size(f, &size, err));
    ck_assert_uint_eq(size, 100000);
    ck_ok(io_file_read_exact(f, bytes, sizeof bytes, 0, err));
    ck_assert_mem_eq(bytes, "abc\0\0", 5);
    ck_assert_int_eq(bytes[9999], 0);
    ck_ok(io_file_allocate(f, 0, 10, err));
    ck_ok(io_file_size(f, &size, err));
    ck_assert_uint_eq(size, 100000);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_file_ranges_that_overflow_are_refused)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW);
    char byte = 0;
    size_t got = 0;
    lsm_error error = {0};
    ck_assert_int_eq(io_file_read(f, &byte, 1, UINT64_MAX, &got, &error), LSM_IO);
    ck_assert_int_eq(io_file_write(f, &byte, 1, (uint64_t)INT64_MAX, &error), LSM_IO);
    ck_assert_int_eq(io_file_truncate(f, UINT64_MAX, &error), LSM_IO);
    ck_assert_int_eq(io_file_allocate(f, UINT64_MAX - 5, 10, &error), LSM_IO);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_file_unlinked_while_open_stays_readable)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW);
    char got[3];
    ck_ok(io_file_write(f, "abc", 3, 0, err));
    ck_ok(io_dir_unlink(b.dir, "a", NULL, err));
    ck_ok(io_file_read_exact(f, got, 3, 0, err));
    ck_assert_mem_eq(got, "abc", 3);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

/* ---- directories ----------------------------------------------------------------------------- */

START_TEST(test_dir_missing_is_told_and_made_when_asked)
{
    BEGIN
    struct io_dir *dir = NULL;
    lsm_error error = {0};
    char path[300];
    snprintf(path, sizeof path, "%s-sub", b.path);
    ck_assert_int_eq(io_dir_open(b.io, path, 0, 0, &dir, &error), LSM_MISSING);
    ck_assert_ptr_nonnull(strstr(error.message, path));
    ck_assert_int_eq(io_dir_remove(b.io, path, &error), LSM_MISSING);
    ck_ok(io_dir_open(b.io, path, IO_DIR_CREATE, 0, &dir, err));
    ck_assert_str_eq(io_dir_path(dir), path);
    io_dir_close(dir);
    ck_ok(io_dir_open(b.io, path, 0, 0, &dir, err));
    struct io_file *f = NULL;
    ck_ok(io_file_open(dir, "x", RW, 0, &f, err));
    io_file_close(f);
    ck_assert_int_eq(io_dir_remove(b.io, path, &error), LSM_EXISTS);
    ck_ok(io_dir_unlink(dir, "x", NULL, err));
    io_dir_close(dir);
    ck_ok(io_dir_remove(b.io, path, err));
    backend_close(&b);
}
END_TEST

START_TEST(test_dir_unlink_tells_whether_there_was_one)
{
    BEGIN
    bool existed = true;
    ck_ok(io_dir_unlink(b.dir, "a", &existed, err));
    ck_assert(!existed);
    io_file_close(backend_file(&b, "a", RW));
    ck_ok(io_dir_unlink(b.dir, "a", &existed, err));
    ck_assert(existed);
    ck_ok(io_dir_sync(b.dir, err));
    backend_close(&b);
}
END_TEST

START_TEST(test_dir_rename_replaces)
{
    BEGIN
    struct io_file *f = backend_file(&b, "new", RW);
    ck_ok(io_file_write(f, "new", 3, 0, err));
    io_file_close(f);
    io_file_close(backend_file(&b, "old", RW));
    ck_ok(io_dir_rename(b.dir, "new", "old", err));
    f = backend_file(&b, "old", 0);
    uint64_t size = 0;
    ck_ok(io_file_size(f, &size, err));
    ck_assert_uint_eq(size, 3);
    io_file_close(f);
    lsm_error error = {0};
    ck_assert_int_eq(io_dir_rename(b.dir, "new", "old", &error), LSM_MISSING);
    char expected[400];
    snprintf(expected, sizeof expected, "cannot rename '%s/new' to 'old': it does not exist",
             b.path);
    ck_assert_str_eq(error.message, expected);
    backend_close(&b);
}
END_TEST

struct seen {
    unsigned count;
    unsigned mask;
    unsigned stop_after;
};

static lsm_status note_name(void *context, const char *name, lsm_error *err)
{
    struct seen *seen = context;
    ck_assert_msg(strlen(name) == 1 && *name >= 'a' && *name <= 'e', "%s", name);
    seen->mask |= 1u << (*name - 'a');
    if (++seen->count == seen->stop_after)
        return lsm_fail(err, LSM_CANCELLED, "enough");
    return LSM_OK;
}

START_TEST(test_dir_link_is_the_same_file_in_another_directory)
{
    BEGIN
    char other_path[240], moved_path[240];
    struct io_dir *other = NULL, *moved = NULL;
    struct io_identity one, two;
    snprintf(other_path, sizeof other_path, "%s.other", b.path);
    snprintf(moved_path, sizeof moved_path, "%s.moved", b.path);
    ck_ok(io_dir_open(b.io, other_path, IO_DIR_CREATE, 0, &other, err));
    struct io_file *f = backend_file(&b, "a", RW), *g = NULL;
    ck_ok(io_file_write(f, "bytes", 5, 0, err));
    ck_ok(io_dir_link(b.dir, "a", other, err));
    ck_ok(io_file_open(other, "a", 0, 0, &g, err));
    ck_ok(io_file_identity(f, &one, err));
    ck_ok(io_file_identity(g, &two, err));
    ck_assert(io_identity_equal(one, two));
    ck_ok(io_dir_unlink(b.dir, "a", NULL, err));
    char got[5];
    ck_ok(io_file_read_exact(g, got, 5, 0, err));
    ck_assert_mem_eq(got, "bytes", 5);
    io_file_close(f);
    io_file_close(g);
    lsm_error error = {0};
    ck_assert_int_eq(io_dir_link(b.dir, "a", other, &error), LSM_MISSING);
    io_file_close(backend_file(&b, "a", RW));
    ck_assert_int_eq(io_dir_link(b.dir, "a", other, &error), LSM_EXISTS);

    bool is_moved = true;
    ck_assert_int_eq(io_dir_move(b.io, other_path, b.path, &is_moved, &error), LSM_EXISTS);
    ck_assert(!is_moved);
    ck_ok(io_dir_move(b.io, other_path, moved_path, &is_moved, err));
    ck_assert(is_moved);
    ck_assert_int_ne(io_dir_move(b.io, other_path, moved_path, NULL, &error), LSM_OK);
    ck_ok(io_dir_open(b.io, moved_path, 0, 0, &moved, err));
    ck_ok(io_file_open(moved, "a", 0, 0, &g, err)); /* by either handle it is the same one */
    io_file_close(g);
    ck_ok(io_dir_unlink(other, "a", NULL, err));
    io_dir_close(other);
    io_dir_close(moved);
    ck_ok(io_dir_remove(b.io, moved_path, err));
    backend_close(&b);
}
END_TEST

START_TEST(test_file_copy_has_the_same_bytes)
{
    BEGIN
    enum { SIZE = 3 << 20 };
    uint8_t *bytes = malloc(SIZE), *got = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 24);
    struct io_file *f = backend_file(&b, "a", RW), *g = backend_file(&b, "b", RW);
    ck_ok(io_file_write(f, bytes, SIZE, 0, err));
    ck_ok(io_file_copy(f, g, 0, 0, err));
    ck_ok(io_file_copy(f, g, 0, 1000, err));
    ck_ok(io_file_copy(f, g, 1000, SIZE - 1000, err));
    ck_ok(io_file_read_exact(g, got, SIZE, 0, err));
    ck_assert_mem_eq(got, bytes, SIZE);
    lsm_error error = {0};
    ck_assert_int_eq(io_file_copy(f, g, SIZE - 10, 11, &error), LSM_CORRUPT);
    io_file_close(f);
    io_file_close(g);
    free(bytes);
    free(got);
    backend_close(&b);
}
END_TEST

START_TEST(test_dir_list_visits_every_entry_until_stopped)
{
    BEGIN
    const char *names[] = {"a", "b", "c", "d", "e"};
    for (size_t i = 0; i < 5; i++)
        io_file_close(backend_file(&b, names[i], RW));
    struct seen all = {0};
    ck_ok(io_dir_list(b.dir, note_name, &all, err));
    ck_ok(io_dir_list(b.dir, note_name, &all, err));
    ck_assert_uint_eq(all.count, 10);
    ck_assert_uint_eq(all.mask, 31);
    struct seen some = {.stop_after = 2};
    lsm_error error = {0};
    ck_assert_int_eq(io_dir_list(b.dir, note_name, &some, &error), LSM_CANCELLED);
    ck_assert_uint_eq(some.count, 2);
    ck_assert_str_eq(error.message, "enough");
    backend_close(&b);
}
END_TEST

/* ---- mappings -------------------------------------------------------------------------------- */

START_TEST(test_mapping_and_transfers_show_each_other)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW);
    struct io_mapping *m = NULL;
    ck_ok(io_file_allocate(f, 0, 65536, err));
    ck_ok(io_file_write(f, "first", 5, 100, err));
    ck_ok(io_map(f, 65536, IO_MAP_WRITE, &m, err));
    char *memory = io_mapping_memory(m);
    ck_assert_mem_eq(memory + 100, "first", 5);
    memcpy(memory + 20000, "stored", 6);
    char got[6];
    ck_ok(io_file_read_exact(f, got, 6, 20000, err));
    ck_assert_mem_eq(got, "stored", 6);
    ck_ok(io_file_write(f, "W", 1, 20001, err));
    ck_assert_mem_eq(memory + 20000, "sWored", 6);
    ck_ok(io_file_sync(f, err));
    io_mapping_populate(m, 0, 65536);
    io_mapping_populate(m, 60000, 100000);
    ck_assert_mem_eq(memory + 20000, "sWored", 6);
    io_file_close(f);
    memory[65535] = '!';
    io_unmap(m);
    f = backend_file(&b, "a", 0);
    ck_ok(io_file_read_exact(f, got, 1, 65535, err));
    ck_assert_int_eq(got[0], '!');
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_mapping_past_the_end_is_refused)
{
    BEGIN
    struct io_file *f = backend_file(&b, "a", RW);
    struct io_mapping *m = NULL;
    lsm_error error = {0};
    ck_ok(io_file_allocate(f, 0, 4096, err));
    ck_assert_int_eq(io_map(f, 8192, IO_MAP_WRITE, &m, &error), LSM_INVALID);
    char expected[400];
    snprintf(expected, sizeof expected,
             "cannot map 8192 bytes of '%s/a': they are not all allocated", b.path);
    ck_assert_str_eq(error.message, expected);
    ck_assert_int_eq(io_map(f, 0, 0, &m, &error), LSM_IO);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

/* ---- locks ----------------------------------------------------------------------------------- */

START_TEST(test_lock_excludes_other_handles_by_byte)
{
    BEGIN
    struct io_file *f = backend_file(&b, "LOCK", RW);
    struct io_file *g = backend_file(&b, "LOCK", RW);
    struct io_lock *one = NULL;
    struct io_lock *two = NULL;
    lsm_error error = {0};
    ck_assert(!io_lock_is_held(f, 7));
    ck_ok(io_lock(f, 7, &one, err));
    ck_assert(io_lock_is_held(f, 7));
    ck_assert(io_lock_is_held(g, 7));
    ck_assert(!io_lock_is_held(g, 8));
    ck_assert_int_eq(io_lock(g, 7, &two, &error), LSM_BUSY);
    ck_assert_ptr_nonnull(strstr(error.message, "byte 7 of '"));
    ck_assert_int_eq(io_try_lock(f, 7, &two, &error), LSM_BUSY);
    ck_ok(io_try_lock(g, 8, &two, err));
    io_unlock(two);
    io_unlock(one);
    ck_ok(io_lock(g, 7, &two, err));
    io_unlock(two);
    io_file_close(f);
    io_file_close(g);
    backend_close(&b);
}
END_TEST

START_TEST(test_lock_shared_is_shared_and_excludes_exclusive_ones)
{
    BEGIN
    struct io_file *f = backend_file(&b, "LOCK", RW);
    struct io_file *g = backend_file(&b, "LOCK", RW);
    struct io_lock *one = NULL;
    struct io_lock *two = NULL;
    struct io_lock *three = NULL;
    ck_ok(io_lock_as(f, 7, IO_LOCK_SHARED, 0, &one, err));
    ck_ok(io_lock_as(g, 7, IO_LOCK_SHARED, 0, &two, err));
    ck_assert(io_lock_is_held(f, 7));
    ck_assert_int_eq(io_try_lock(f, 7, &three, NULL), LSM_BUSY);
    io_unlock(one);
    ck_assert(io_lock_is_held(f, 7));
    ck_assert_int_eq(io_try_lock(f, 7, &three, NULL), LSM_BUSY);
    io_unlock(two);
    ck_assert(!io_lock_is_held(f, 7));
    ck_ok(io_try_lock(f, 7, &three, err));
    ck_assert_int_eq(io_lock_as(g, 7, IO_LOCK_SHARED, 5, &one, NULL), LSM_BUSY);
    io_unlock(three);
    io_file_close(f);
    io_file_close(g);
    backend_close(&b);
}
END_TEST

START_TEST(test_identity_tells_files_apart_whatever_their_names)
{
    BEGIN
    struct io_identity first, again, other;
    struct io_file *f = backend_file(&b, "a", RW);
    struct io_file *g = backend_file(&b, "b", RW);
    ck_ok(io_file_identity(f, &first, err));
    ck_ok(io_file_identity(g, &other, err));
    ck_assert(!io_identity_equal(first, other));
    ck_ok(io_dir_rename(b.dir, "a", "c", err));
    struct io_file *h = backend_file(&b, "c", RW);
    ck_ok(io_file_identity(h, &again, err));
    ck_assert(io_identity_equal(first, again));
    io_file_close(h);
    h = backend_file(&b, "a", RW);
    ck_ok(io_file_identity(h, &again, err));
    ck_assert(!io_identity_equal(first, again));
    io_file_close(f);
    io_file_close(g);
    io_file_close(h);
    backend_close(&b);
}
END_TEST

START_TEST(test_real_path_finds_the_directory_again)
{
    BEGIN
    char path[256];
    lsm_error error = {0};
    ck_ok(io_dir_real_path(b.dir, path, sizeof path, err));
    ck_assert(b.disk != NULL || path[0] == '/');
    struct io_dir *again = NULL;
    ck_ok(io_dir_open(b.io, path, 0, 0, &again, err));
    io_dir_close(again);
    ck_assert_int_eq(io_dir_real_path(b.dir, path, strlen(path), &error), LSM_IO);
    ck_assert_int_eq(error.os_errno, ENAMETOOLONG);
    backend_close(&b);
}
END_TEST

START_TEST(test_process_is_described)
{
    BEGIN
    struct io_process process;
    io_describe_process(b.io, &process);
    ck_assert_int_eq(process.pid, getpid());
    ck_assert_uint_gt(strlen(process.boot_id), 0);
    ck_assert_uint_ne(process.pid_namespace, 0);
    ck_assert_uint_gt(strlen(process.command), 0);
    backend_close(&b);
}
END_TEST

START_TEST(test_thread_is_described_with_its_process)
{
    BEGIN
    struct io_process process;
    struct io_thread found;
    io_describe_process(b.io, &process);
    bool is_told = io_describe_thread(b.io, getpid(), &found);
    ck_assert(is_told == (b.disk == NULL)); /* a simulated machine tells of nobody */
    if (is_told) {
        ck_assert_int_eq(found.pid, getpid());
        ck_assert_str_eq(found.command, process.command);
        ck_assert(!found.is_stopped);
    }
    ck_assert(!io_describe_thread(b.io, INT32_MAX, &found)); /* above the kernel's largest */
    ck_assert_int_eq(found.pid, 0);
    ck_assert_str_eq(found.command, "");
    backend_close(&b);
}
END_TEST

START_TEST(test_lock_outlives_its_file_handle)
{
    BEGIN
    struct io_file *f = backend_file(&b, "LOCK", RW);
    struct io_lock *one = NULL;
    ck_ok(io_lock(f, 0, &one, err));
    io_file_close(f);
    f = backend_file(&b, "LOCK", RW);
    ck_assert(io_lock_is_held(f, 0));
    io_file_close(f);
    f = backend_file(&b, "LOCK", RW);
    ck_assert(io_lock_is_held(f, 0));
    io_unlock(one);
    ck_assert(!io_lock_is_held(f, 0));
    io_file_close(f);
    backend_close(&b);
}
END_TEST

/* ---- environment ----------------------------------------------------------------------------- */

START_TEST(test_environment_has_clock_randomness_and_a_reason)
{
    BEGIN
    uint64_t before = io_now_ns(b.io);
    ck_assert_uint_ge(io_now_ns(b.io), before);
    ck_assert_uint_gt(io_wall_ms(b.io), UINT64_C(1600000000000));
    unsigned char bytes[2][32] = {{0}};
    io_random(b.io, bytes[0], 32);
    io_random(b.io, bytes[1], 32);
    ck_assert_mem_ne(bytes[0], bytes[1], 32);
    ck_assert_str_eq(io_name(b.io), backend_names[_i]);
    ck_assert_uint_gt(strlen(io_reason(b.io)), 10);
    backend_close(&b);
}
END_TEST

/* ---- lack of memory -------------------------------------------------------------------------- */

static lsm_status count_visit(void *context, const char *name, lsm_error *err)
{
    (void)name;
    (void)err;
    ++*(unsigned *)context;
    return LSM_OK;
}

static lsm_status write_by_queue(struct io *io, struct io_file *f, lsm_error *err)
{
    struct io_queue *queue = NULL;
    char bytes[512] = {0};
    struct io_request requests[3];
    lsm_status status = io_queue_open(io, 2, &queue, err);
    if (status != LSM_OK)
        return status;
    for (size_t i = 0; i < 3; i++) {
        requests[i] = (struct io_request){.operation = IO_WRITE,
                                          .file = f,
                                          .memory = bytes,
                                          .size = sizeof bytes,
                                          .offset = i * sizeof bytes};
        io_queue_push(queue, &requests[i]);
    }
    for (const struct io_request *r; (r = io_queue_reap(queue, true)) != NULL;)
        if (r->os_errno != 0)
            status = io_request_error(r, err);
    io_queue_close(queue);
    return status;
}

/* A walk through the whole floor in an environment of its own. */
static lsm_status tour(int backend, lsm_error *err)
{
    struct io *io = NULL;
    struct io_dir *dir = NULL;
    struct io_file *f = NULL;
    struct io_lock *lock = NULL;
    struct io_mapping *mapping = NULL;
    char path[300];
    unsigned visits = 0;
    snprintf(path, sizeof path, "%s-tour", b.path);
    lsm_status status =
        b.disk != NULL ? sim_open(b.disk, &io, err) : io_open(backend_names[backend], &io, err);
    if (status == LSM_OK)
        status = io_dir_open(io, path, IO_DIR_CREATE, 0, &dir, err);
    if (status == LSM_OK)
        status = io_file_open(dir, "a", RW, 0, &f, err);
    if (status == LSM_OK)
        status = io_file_allocate(f, 0, 8192, err);
    if (status == LSM_OK)
        status = io_lock(f, 0, &lock, err);
    if (status == LSM_OK)
        status = write_by_queue(io, f, err);
    if (status == LSM_OK)
        status = io_map(f, 4096, IO_MAP_WRITE, &mapping, err);
    if (status == LSM_OK)
        status = io_file_sync(f, err);
    if (status == LSM_OK)
        status = io_dir_rename(dir, "a", "b", err);
    if (status == LSM_OK)
        status = io_dir_sync(dir, err);
    if (status == LSM_OK)
        status = io_dir_list(dir, count_visit, &visits, err);
    io_unmap(mapping);
    io_unlock(lock);
    io_file_close(f);
    io_dir_close(dir);
    if (io != NULL)
        io_close(io);
    return status;
}

static void remove_tour(void)
{
    struct io_dir *dir = NULL;
    char path[300];
    snprintf(path, sizeof path, "%s-tour", b.path);
    if (io_dir_open(b.io, path, 0, 0, &dir, NULL) != LSM_OK)
        return;
    ck_ok(io_dir_list(dir, backend_unlink_visit, dir, err));
    io_dir_close(dir);
    ck_ok(io_dir_remove(b.io, path, err));
}

START_TEST(test_every_failed_allocation_is_reported_and_leaks_nothing)
{
    BEGIN
    unsigned failures = 0;
    for (int64_t i = 0;; i++) {
        lsm_error error = {0};
        uint64_t before = mem_allocation_count();
        mem_fail_after(i, false);
        lsm_status status = tour(_i, &error);
        mem_fail_after(-1, false);
        remove_tour();
        if ((int64_t)(mem_allocation_count() - before) <= i)
            break; /* none was left to fail */
        if (status == LSM_OK)
            continue; /* done without it */
        ck_assert_msg(status == LSM_NO_MEMORY, "allocation %d: %s", (int)i, error.message);
        ck_assert_int_eq(error.status, LSM_NO_MEMORY);
        failures++;
    }
    ck_assert_uint_gt(failures, 8);
    backend_close(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("io behaviour");
    TCase *cases = tcase_create("all backends");
    const TTest *const tests[] = {
        test_file_written_bytes_are_read_back,
        test_file_read_at_end_is_short,
        test_file_early_end_is_an_error_with_place_and_numbers,
        test_file_opened_for_reading_refuses_changes,
        test_file_missing_and_existing_are_told_apart,
        test_file_names_that_lead_elsewhere_are_refused,
        test_file_direct_transfers_must_be_aligned,
        test_file_truncated_and_extended_shows_zeros,
        test_file_allocation_extends_and_keeps_bytes,
        test_file_ranges_that_overflow_are_refused,
        test_file_unlinked_while_open_stays_readable,
        test_dir_missing_is_told_and_made_when_asked,
        test_dir_unlink_tells_whether_there_was_one,
        test_dir_rename_replaces,
        test_dir_link_is_the_same_file_in_another_directory,
        test_file_copy_has_the_same_bytes,
        test_dir_list_visits_every_entry_until_stopped,
        test_mapping_and_transfers_show_each_other,
        test_mapping_past_the_end_is_refused,
        test_lock_excludes_other_handles_by_byte,
        test_lock_shared_is_shared_and_excludes_exclusive_ones,
        test_identity_tells_files_apart_whatever_their_names,
        test_real_path_finds_the_directory_again,
        test_process_is_described,
        test_thread_is_described_with_its_process,
        test_lock_outlives_its_file_handle,
        test_environment_has_clock_randomness_and_a_reason,
        test_every_failed_allocation_is_reported_and_leaks_nothing,
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_loop_test(cases, tests[i], 0, BACKEND_COUNT);
    suite_add_tcase(suite, cases);
    return backend_run(suite);
}
