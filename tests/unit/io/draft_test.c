/* A draft shows what would become of a directory, and nothing below it changes. */
#include "engine/io/draft.h"
#include "tests/unit/io/backend.h"

#define RW (IO_FILE_WRITE | IO_FILE_CREATE)

static struct backend b;
static struct io *draft;
static struct io_dir *dir;

static void write_whole(struct io_dir *to, const char *name, const char *text)
{
    struct io_file *file = NULL;
    ck_ok(io_file_open(to, name, RW, 0, &file, err));
    ck_ok(io_file_write(file, text, strlen(text), 0, err));
    ck_ok(io_file_sync(file, err));
    io_file_close(file);
}

/* NULL: the file is not there. */
static void expect_whole(struct io_dir *in, const char *name, const char *text)
{
    struct io_file *file = NULL;
    char bytes[100] = {0};
    size_t got = 0;
    lsm_status status = io_file_open(in, name, 0, 0, &file, NULL);
    ck_assert_int_eq(status, text == NULL ? LSM_MISSING : LSM_OK);
    if (text == NULL)
        return;
    ck_ok(io_file_read(file, bytes, sizeof bytes - 1, 0, &got, err));
    ck_assert_str_eq(bytes, text);
    io_file_close(file);
}

static lsm_status note_name(void *context, const char *name, lsm_error *err)
{
    (void)err;
    strcat(context, name);
    strcat(context, " ");
    return LSM_OK;
}

/* In the order of names. */
static void expect_names(struct io_dir *in, const char *const *names)
{
    char all[400] = " ", word[100];
    size_t length = 1;
    ck_ok(io_dir_list(in, note_name, all, err));
    for (; *names != NULL; names++) {
        snprintf(word, sizeof word, " %s ", *names);
        ck_assert_msg(strstr(all, word) != NULL, "'%s' is not in '%s'", *names, all);
        length += strlen(*names) + 1;
    }
    ck_assert_msg(strlen(all) == length, "'%s'", all);
}

static void begin(int index, size_t most)
{
    draft = NULL;
    if (!backend_open(&b, index))
        return;
    write_whole(b.dir, "a", "first");
    write_whole(b.dir, "b", "second");
    ck_ok(draft_open(b.io, most, &draft, err));
    ck_ok(io_dir_open(draft, b.path, 0, 0, &dir, err));
}

static void end(void)
{
    static const char *const names[] = {"a", "b", NULL};
    io_dir_close(dir);
    io_close(draft);
    expect_names(b.dir, names);
    expect_whole(b.dir, "a", "first");
    expect_whole(b.dir, "b", "second");
    backend_close(&b);
}

START_TEST(test_draft_shows_new_renamed_and_removed_files)
{
    static const char *const names[] = {"b", "c", "d", NULL};
    begin(_i, 1 << 20);
    if (draft == NULL)
        return;
    expect_whole(dir, "a", "first");
    write_whole(dir, "new", "third");
    ck_ok(io_dir_rename(dir, "new", "b", err)); /* over one that is there */
    ck_ok(io_dir_rename(dir, "a", "c", err));
    write_whole(dir, "d", "fourth");
    write_whole(dir, "e", "fifth");
    ck_ok(io_dir_unlink(dir, "e", NULL, err));
    expect_names(dir, names);
    expect_whole(dir, "a", NULL);
    expect_whole(dir, "b", "third");
    expect_whole(dir, "c", "first");
    expect_whole(dir, "e", NULL);
    struct io_entry entry;
    ck_ok(io_dir_describe(dir, "d", &entry, err));
    ck_assert(entry.kind == IO_ENTRY_FILE && entry.size == 6 && entry.mode == 0600);
    ck_ok(io_dir_describe(dir, "c", &entry, err));
    ck_assert_uint_eq(entry.size, 5);
    ck_assert_int_eq(io_dir_describe(dir, "a", &entry, NULL), LSM_MISSING);
    ck_assert_int_eq(io_dir_rename(dir, "a", "f", NULL), LSM_MISSING);
    ck_ok(io_dir_rename(dir, "c", "a", err)); /* and back */
    expect_whole(dir, "a", "first");
    end();
}
END_TEST

START_TEST(test_draft_files_live_while_they_are_open)
{
    struct io_file *file = NULL, *again = NULL;
    char got[8] = {0};
    begin(_i, 1 << 20);
    if (draft == NULL)
        return;
    ck_ok(io_file_open(dir, "c", RW | IO_FILE_NEW, 0640, &file, err));
    ck_assert_int_eq(io_file_open(dir, "c", RW | IO_FILE_NEW, 0, &again, NULL), LSM_EXISTS);
    ck_ok(io_file_write(file, "xyz", 3, 2, err));
    ck_ok(io_dir_unlink(dir, "c", NULL, err));
    ck_ok(io_file_read_exact(file, got, 5, 0, err));
    ck_assert_mem_eq(got, "\0\0xyz", 5);
    uint64_t size = 0;
    ck_ok(io_file_truncate(file, 3, err));
    ck_ok(io_file_allocate(file, 0, 4, err));
    ck_ok(io_file_size(file, &size, err));
    ck_assert_uint_eq(size, 4);
    ck_ok(io_file_read_exact(file, got, 4, 0, err));
    ck_assert_mem_eq(got, "\0\0x\0", 4);
    io_file_close(file);
    end();
}
END_TEST

START_TEST(test_draft_never_writes_below)
{
    struct io_file *file = NULL;
    struct io_dir *other = NULL;
    char path[sizeof b.path + 8];
    begin(_i, 1 << 20);
    if (draft == NULL)
        return;
    ck_assert_int_ne(io_file_open(dir, "a", IO_FILE_WRITE, 0, &file, NULL), LSM_OK);
    snprintf(path, sizeof path, "%s/sub", b.path);
    ck_assert_int_ne(io_dir_open(draft, path, IO_DIR_CREATE, 0, &other, NULL), LSM_OK);
    ck_assert_int_ne(io_dir_remove(draft, b.path, NULL), LSM_OK);
    end();
}
END_TEST

START_TEST(test_draft_holds_so_many_bytes)
{
    static const char page[4096];
    struct io_file *file = NULL;
    begin(_i, 10000);
    if (draft == NULL)
        return;
    ck_ok(io_file_open(dir, "c", RW, 0, &file, err));
    ck_ok(io_file_write(file, page, sizeof page, 0, err));
    ck_ok(io_file_write(file, page, sizeof page, sizeof page, err));
    ck_assert_int_eq(io_file_write(file, page, sizeof page, 2 * sizeof page, NULL), LSM_NO_SPACE);
    io_file_close(file);
    ck_ok(io_dir_unlink(dir, "c", NULL, err)); /* makes room */
    ck_ok(io_file_open(dir, "d", RW, 0, &file, err));
    ck_ok(io_file_write(file, page, sizeof page, sizeof page, err));
    io_file_close(file);
    end();
}
END_TEST

START_TEST(test_draft_queue_reads_and_writes_both_kinds)
{
    struct io_file *above = NULL, *below = NULL;
    struct io_queue *queue = NULL;
    char first[8] = {0}, second[8] = {0};
    begin(_i, 1 << 20);
    if (draft == NULL)
        return;
    ck_ok(io_file_open(dir, "c", RW, 0, &above, err));
    ck_ok(io_file_open(dir, "a", 0, 0, &below, err));
    ck_ok(io_queue_open(draft, 4, &queue, err));
    struct io_request write = {.operation = IO_WRITE, .file = above, .memory = "new", .size = 3};
    struct io_request reads[2] = {
        {.operation = IO_READ, .file = above, .memory = first, .size = 3},
        {.operation = IO_READ, .file = below, .memory = second, .size = 8},
    };
    io_queue_push(queue, &write);
    ck_assert_ptr_eq(io_queue_reap(queue, true), &write);
    ck_assert_int_eq(write.os_errno, 0);
    io_queue_push(queue, &reads[0]);
    io_queue_push(queue, &reads[1]);
    ck_assert_ptr_nonnull(io_queue_reap(queue, true));
    ck_assert_ptr_nonnull(io_queue_reap(queue, true));
    ck_assert_str_eq(first, "new");
    ck_assert_str_eq(second, "first");
    ck_assert_uint_eq(reads[1].transferred, 5);
    io_queue_close(queue);
    io_file_close(above);
    io_file_close(below);
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("draft");
    TCase *tcase = tcase_create("draft");
    tcase_add_loop_test(tcase, test_draft_shows_new_renamed_and_removed_files, 0, BACKEND_COUNT);
    tcase_add_loop_test(tcase, test_draft_files_live_while_they_are_open, 0, BACKEND_COUNT);
    tcase_add_loop_test(tcase, test_draft_never_writes_below, 0, BACKEND_COUNT);
    tcase_add_loop_test(tcase, test_draft_holds_so_many_bytes, 0, BACKEND_COUNT);
    tcase_add_loop_test(tcase, test_draft_queue_reads_and_writes_both_kinds, 0, BACKEND_COUNT);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
