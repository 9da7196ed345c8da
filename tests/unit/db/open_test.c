/* Opening, closing and removing databases, and what a directory can hold to make it hard. */
#include "engine/db/db_private.h"
#include "tests/unit/db/db_fixture.h"

#include "engine/base/hash.h"
#include "engine/db/open.h"
#include "engine/format/current.h"
#include "engine/io/sim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534 /* a user id without rights */

static char path_text[SCRATCH_PATH_SIZE + 300];

static const char *path_of(const char *name)
{
    snprintf(path_text, sizeof path_text, "%s/%s", db_path, name);
    return path_text;
}

/* The name of some file that ends so; the test fails when there is none. */
static const char *find_file(const char *ending)
{
    static char name[256];
    DIR *dir = opendir(db_path);
    ck_assert_ptr_nonnull(dir);
    name[0] = '\0';
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        size_t length = strlen(entry->d_name), size = strlen(ending);
        if (length > size && strcmp(entry->d_name + length - size, ending) == 0)
            snprintf(name, sizeof name, "%s", entry->d_name);
    }
    closedir(dir);
    ck_assert_msg(name[0] != '\0', "there is no '*%s'", ending);
    return name;
}

/* Names, sizes, modes, times and bytes of all that is in the directory. */
static uint64_t tree_hash(void)
{
    uint64_t sum = 0;
    DIR *dir = opendir(db_path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct stat info;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        ck_assert_int_eq(stat(path_of(entry->d_name), &info), 0);
        uint64_t numbers[] = {(uint64_t)info.st_size, info.st_mode, (uint64_t)info.st_mtim.tv_sec,
                              (uint64_t)info.st_mtim.tv_nsec, (uint64_t)info.st_ino};
        uint64_t hash = hash_bytes(numbers, sizeof numbers, 0);
        hash = hash_bytes(entry->d_name, strlen(entry->d_name), hash);
        char *bytes = malloc((size_t)info.st_size + 1);
        int fd = open(path_text, O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(read(fd, bytes, (size_t)info.st_size), info.st_size);
        close(fd);
        sum += hash_bytes(bytes, (size_t)info.st_size, hash);
        free(bytes);
    }
    closedir(dir);
    return sum;
}

static lsm_status try_open(const char *option_text)
{
    lsm_options options = options_of(option_text);
    lsm_db *db = NULL;
    lsm_status status = lsm_open(db_path, &options, &db, &error);
    if (status == LSM_OK)
        close_ok(db);
    else
        ck_assert_ptr_null(db);
    return status;
}

static void make_database(void)
{
    lsm_db *db = open_small();
    put_many(db, NULL, 0, 200, 200);
    ck_ok(lsm_flush(db, &error));
    put_many(db, NULL, 200, 20, 200);
    close_ok(db);
}

/* ---- arguments and options ------------------------------------------------------------------- */

START_TEST(test_open_without_a_place_is_refused)
{
    lsm_options options = options_of(SMALL_OPTIONS);
    lsm_db *db = NULL;
    ck_fails(LSM_INVALID, lsm_open("", &options, &db, &error));
    ck_fails(LSM_INVALID, lsm_open(NULL, &options, &db, &error));
    ck_fails(LSM_INVALID, lsm_open(db_path, &options, NULL, &error));
    ck_assert_ptr_null(db);
}
END_TEST

START_TEST(test_open_missing_without_create_leaves_nothing)
{
    ck_fails(LSM_MISSING, try_open("create=false"));
    ck_assert_int_ne(access(db_path, F_OK), 0);
    ck_assert_int_eq(mkdir(db_path, 0700), 0);
    uint64_t before = tree_hash();
    ck_fails(LSM_MISSING, try_open("create=false"));
    ck_fails(LSM_MISSING, try_open("read_only=true"));
    ck_assert_uint_eq(tree_hash(), before);
    ck_fails(LSM_INVALID, try_open("create=true,read_only=true"));
    snprintf(db_path, sizeof db_path, "%s/a/b", scratch);
    ck_assert_int_ne(try_open("create=true"), LSM_OK); /* the parent is not made */
}
END_TEST

START_TEST(test_open_error_if_exists)
{
    ck_ok(try_open(SMALL_OPTIONS ",error_if_exists=true"));
    uint64_t before = tree_hash();
    ck_fails(LSM_EXISTS, try_open(SMALL_OPTIONS ",error_if_exists=true"));
    ck_assert_uint_eq(tree_hash(), before);
    ck_ok(try_open(SMALL_OPTIONS));
}
END_TEST

START_TEST(test_open_options_out_of_range_are_refused)
{
    static const char *const texts[] = {
        "memtable_size=1KiB",
        "memtable_size=1TiB",
        "memtable_count=1",
        "memtable_count=9",
        "memtable=heap",
        "io=carrier-pigeon",
        "workers=1000",
        "block_size=100",
        "block_size=2MiB",
        "level_ratio=1",
        "level_ratio=101",
        "no_such_option=1",
        "create",
        "create=perhaps",
        "cache_size=many",
        "cache_size=-1",
        "compression=lzma",
        "compression=zstd:99",
        "=1",
        "filter_bits=1000",
        "mode=888",
        "workers=99999999999",
        "open_timeout_ms=99999999999",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        lsm_options options = LSM_OPTIONS_INIT;
        options.create = true;
        options.shm_dir = scratch;
        error = (lsm_error){0};
        lsm_status status = lsm_options_parse(&options, texts[i], &error);
        lsm_db *db = NULL;
        if (status == LSM_OK) /* family options are judged at the open */
            status = lsm_open(db_path, &options, &db, &error);
        ck_assert_msg(status == LSM_INVALID, "'%s': %s", texts[i], lsm_strerror(status));
        ck_assert_msg(error.message[0] != '\0', "'%s': no message", texts[i]);
        ck_assert_int_ne(access(db_path, F_OK), 0);
    }
    lsm_options unset = {.create = true};
    lsm_db *db = NULL;
    ck_fails(LSM_INVALID, lsm_open(db_path, &unset, &db, &error));
}
END_TEST

START_TEST(test_open_options_parse_from_text)
{
    lsm_options o = LSM_OPTIONS_INIT;
    ck_ok(lsm_options_parse(&o,
                            "memtable_size=128MiB, cache_size=none,compression=zstd:3,create=true,"
                            "workers=none,filter_bits=none,block_size=4KiB,mode=0640,"
                            "memtable=skiplist,io=posix,level_ratio=10,open_timeout_ms=20,"
                            "shm_dir=/dev/shm",
                            &error));
    ck_assert_uint_eq(o.memtable_size, 128u << 20);
    ck_assert_uint_eq(o.cache_size, LSM_NO_CACHE);
    ck_assert_int_eq(o.cf.compression, LSM_COMPRESSION_ZSTD);
    ck_assert_int_eq(o.cf.compression_level, 3);
    ck_assert(o.create);
    ck_assert_uint_eq(o.workers, LSM_NO_WORKERS);
    ck_assert_uint_eq(o.cf.filter_bits, LSM_NO_FILTER);
    ck_assert_uint_eq(o.cf.block_size, 4096);
    ck_assert_uint_eq(o.mode, 0640);
    ck_assert_str_eq(o.memtable, "skiplist");
    ck_assert_str_eq(o.io, "posix");
    ck_assert_uint_eq(o.cf.level_ratio, 10);
    ck_assert_str_eq(o.shm_dir, "/dev/shm");
    ck_assert_uint_eq(o.open_timeout_ms, 20);
    ck_ok(lsm_options_parse(&o, "", &error));
}
END_TEST

START_TEST(test_open_stored_family_options_win)
{
    lsm_db *db = open_with(SMALL_OPTIONS ",block_size=512");
    close_ok(db);
    db = open_with(SMALL_OPTIONS ",block_size=64KiB");
    put_many(db, NULL, 0, 100, 100);
    ck_ok(lsm_flush(db, &error));
    for (unsigned i = 0; i < 20; i++)
        expect_text(db, NULL, "many-000099x", NULL);
    close_ok(db);
}
END_TEST

START_TEST(test_open_modes_of_files_follow_the_option)
{
    mode_t mask = umask(0077);
    lsm_db *db = open_with(SMALL_OPTIONS ",mode=0640");
    put_many(db, NULL, 0, 10, 100);
    ck_ok(lsm_flush(db, &error));
    close_ok(db);
    umask(mask);
    static const char *const endings[] = {".sst", ".wal", "URRENT", "LOCK", "STAGE"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        struct stat info;
        if (strcmp(endings[i], ".wal") == 0)
            continue; /* a clean close may keep segments as spares */
        ck_assert_int_eq(stat(path_of(find_file(endings[i] + (i > 1))), &info), 0);
        ck_assert_msg((info.st_mode & 0777) == 0640, "%s: mode %o", path_text,
                      (unsigned)info.st_mode & 0777);
    }
}
END_TEST

/* ---- who else ----------------------------------------------------------------------------------
 */

#define EXCLUSIVE SMALL_OPTIONS ",exclusive=true"
#define IN_HASTE  ",open_timeout_ms=300"

/* Nobody else may come in to one that is held exclusively. */
START_TEST(test_open_of_an_exclusive_one_is_busy)
{
    lsm_db *db = open_with(EXCLUSIVE);
    char pid[20];
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    ck_fails(LSM_BUSY, try_open(_i == 0 ? EXCLUSIVE : SMALL_OPTIONS IN_HASTE));
    ck_assert_msg(strstr(error.message, pid) != NULL, "no pid: %s", error.message);
    ck_fails(LSM_BUSY, try_open("read_only=true" IN_HASTE));
    ck_fails(LSM_BUSY, lsm_destroy(db_path, &error));
    put_text(db, NULL, "k", "v");
    close_ok(db);
    ck_ok(try_open(SMALL_OPTIONS));
}
END_TEST

START_TEST(test_open_exclusively_while_others_have_it_is_busy)
{
    lsm_db *db = open_small();
    ck_fails(LSM_BUSY, try_open(EXCLUSIVE));
    ck_fails(LSM_BUSY, try_open("read_only=true,exclusive=true"));
    ck_fails(LSM_BUSY, lsm_destroy(db_path, &error));
    close_ok(db);
    ck_ok(try_open(EXCLUSIVE));
}
END_TEST

START_TEST(test_open_twice_in_a_process_is_one_database)
{
    lsm_db *one = open_small(), *other = open_small();
    put_text(one, NULL, "k", "v");
    expect_text(other, NULL, "k", "v");
    put_text(other, NULL, "k", "w");
    ck_ok(lsm_flush(other, &error));
    expect_text(one, NULL, "k", "w");
    close_ok(one);
    put_text(other, NULL, "l", "v");
    close_ok(other);
    one = open_small();
    expect_text(one, NULL, "k", "w");
    expect_text(one, NULL, "l", "v");
    close_ok(one);
}
END_TEST

START_TEST(test_open_for_reading_joins_writers)
{
    lsm_db *writer = open_small();
    put_text(writer, NULL, "k", "v");
    lsm_db *reader = open_with("read_only=true");
    lsm_cf *made = NULL, *seen = NULL;
    expect_text(reader, NULL, "k", "v");
    ck_fails(LSM_READ_ONLY, lsm_put(reader, NULL, text("k"), text("w"), NULL, &error));
    ck_fails(LSM_READ_ONLY, lsm_flush(reader, &error));
    put_text(writer, NULL, "k", "w");
    expect_text(reader, NULL, "k", "w");
    lsm_snapshot *snapshot = NULL;
    ck_ok(lsm_snapshot_acquire(reader, &snapshot, &error));
    put_text(writer, NULL, "k", "x");
    ck_ok(lsm_flush(writer, &error));
    ck_ok(lsm_compact_range(writer, NULL, NULL, &error));
    expect_text_at(reader, NULL, snapshot, "k", "w"); /* the compaction has kept it */
    expect_text(reader, NULL, "k", "x");
    lsm_snapshot_release(reader, snapshot);
    ck_ok(lsm_cf_create(writer, "made", NULL, &made, &error));
    put_text(writer, made, "m", "v");
    ck_ok(lsm_cf_open(reader, "made", &seen, &error));
    expect_text(reader, seen, "m", "v");
    put_text(writer, NULL, "k", "y");
    close_ok(writer);
    expect_text(reader, NULL, "k", "y"); /* it is the last one now */
    close_ok(reader);
    writer = open_small();
    expect_text(writer, NULL, "k", "y");
    close_ok(writer);
}
END_TEST

START_TEST(test_open_exclusively_in_another_process_is_busy_until_it_dies)
{
    int told[2];
    char byte;
    ck_assert_int_eq(pipe(told), 0);
    pid_t child = fork();
    if (child == 0) {
        lsm_options options = options_of(EXCLUSIVE);
        lsm_db *db = NULL;
        if (lsm_open(db_path, &options, &db, &error) != LSM_OK ||
            lsm_put(db, NULL, text("k"), text("v"), NULL, &error) != LSM_OK)
            _exit(1);
        (void)!write(told[1], "x", 1);
        pause();
    }
    ck_assert_int_eq(read(told[0], &byte, 1), 1);
    char pid[20];
    snprintf(pid, sizeof pid, "%ld", (long)child);
    ck_fails(LSM_BUSY, try_open(SMALL_OPTIONS IN_HASTE));
    ck_assert_msg(strstr(error.message, pid) != NULL, "no pid: %s", error.message);
    ck_fails(LSM_BUSY, lsm_destroy(db_path, &error));
    kill(child, SIGKILL);
    lsm_db *db = open_small(); /* at once, although it may still be dying */
    waitpid(child, NULL, 0);
    expect_text(db, NULL, "k", "v");
    close_ok(db);
    close(told[0]);
    close(told[1]);
}
END_TEST

START_TEST(test_open_handle_in_a_forked_child_is_refused)
{
    lsm_db *db = open_with("create=true,workers=1,memtable_size=1MiB");
    put_text(db, NULL, "k", "v");
    lsm_iter *iter = NULL;
    lsm_batch *batch = NULL;
    ck_ok(lsm_iter_open(db, NULL, NULL, &iter, &error));
    ck_ok(lsm_batch_new(&batch, &error));
    ck_ok(lsm_batch_put(batch, NULL, text("b"), text("v"), &error));
    pid_t child = fork();
    if (child == 0) {
        lsm_pin pin = LSM_PIN_INIT;
        lsm_snapshot *snapshot = NULL;
        size_t size;
        lsm_iter_first(iter);
        bool refused =
            lsm_put(db, NULL, text("k"), text("w"), NULL, &error) == LSM_FORKED &&
            lsm_delete(db, NULL, text("k"), NULL, &error) == LSM_FORKED &&
            lsm_write(db, batch, NULL, &error) == LSM_FORKED &&
            lsm_get(db, NULL, text("k"), NULL, &pin, &error) == LSM_FORKED &&
            lsm_get_into(db, NULL, text("k"), NULL, NULL, 0, &size, &error) == LSM_FORKED &&
            lsm_snapshot_acquire(db, &snapshot, &error) == LSM_FORKED &&
            lsm_flush(db, &error) == LSM_FORKED && lsm_sync(db, &error) == LSM_FORKED &&
            lsm_wait_idle(db, &error) == LSM_FORKED &&
            lsm_compact_range(db, NULL, NULL, &error) == LSM_FORKED && !lsm_iter_valid(iter) &&
            lsm_iter_status(iter, &error) == LSM_FORKED && error.message[0] != '\0' &&
            lsm_close(db, &error) == LSM_FORKED;
        _exit(refused ? 0 : 1);
    }
    int how = 0;
    waitpid(child, &how, 0);
    ck_assert_msg(WIFEXITED(how) && WEXITSTATUS(how) == 0, "the child: %x", (unsigned)how);
    put_text(db, NULL, "k", "still mine");
    lsm_batch_free(batch);
    lsm_iter_close(iter);
    close_ok(db);
    ck_ok(try_open(SMALL_OPTIONS));
}
END_TEST

/* ---- reading only ---------------------------------------------------------------------------- */

static void read_only_changes_nothing(void)
{
    lsm_db *db = NULL;
    ck_assert_int_eq(chmod(db_path, 0500), 0);
    uint64_t before = tree_hash();
    lsm_options options = options_of("read_only=true,cache_size=1MiB");
    ck_ok(lsm_open(db_path, &options, &db, &error));
    expect_text(db, NULL, "k", "v");
    lsm_iter *iter = NULL;
    ck_ok(lsm_iter_open(db, NULL, NULL, &iter, &error));
    unsigned count = 0;
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter))
        count++;
    ck_ok(lsm_iter_status(iter, &error));
    ck_assert_uint_eq(count, 221);
    lsm_iter_close(iter);
    lsm_cf *cf = NULL;
    ck_fails(LSM_READ_ONLY, lsm_put(db, NULL, text("k"), text("w"), NULL, &error));
    ck_fails(LSM_READ_ONLY, lsm_delete(db, NULL, text("k"), NULL, &error));
    ck_fails(LSM_READ_ONLY, lsm_cf_create(db, "x", NULL, &cf, &error));
    ck_fails(LSM_READ_ONLY, lsm_compact_range(db, NULL, NULL, &error));
    close_ok(db);
    ck_assert_uint_eq(tree_hash(), before);
    ck_assert_int_eq(chmod(db_path, 0700), 0);
}

START_TEST(test_open_read_only_changes_nothing)
{
    lsm_db *db = open_small();
    put_text(db, NULL, "k", "v");
    close_ok(db);
    make_database();
    read_only_changes_nothing();
}
END_TEST

START_TEST(test_open_read_only_after_a_crash_reads_the_log_and_changes_nothing)
{
    lsm_db *db = open_small();
    put_many(db, NULL, 0, 200, 200);
    ck_ok(lsm_flush(db, &error));
    put_many(db, NULL, 200, 20, 200);
    put_text(db, NULL, "k", "v");
    db_abandon(db);
    read_only_changes_nothing();
    db = open_small();
    expect_text(db, NULL, "k", "v");
    close_ok(db);
}
END_TEST

START_TEST(test_open_read_only_as_a_user_without_rights)
{
    if (geteuid() != 0)
        return;
    lsm_db *db = open_with(SMALL_OPTIONS ",mode=0644");
    put_text(db, NULL, "k", "v");
    close_ok(db);
    ck_assert_int_eq(chmod(db_path, 0755), 0);
    ck_assert_int_eq(chmod(scratch, 0755), 0);
    ck_assert_int_eq(seteuid(NOBODY), 0);
    lsm_options options = options_of("read_only=true,cache_size=1MiB");
    ck_ok(lsm_open(db_path, &options, &db, &error));
    expect_text(db, NULL, "k", "v");
    close_ok(db);
    ck_fails(LSM_IO, try_open(SMALL_OPTIONS));
    ck_assert_int_eq(error.os_errno, EACCES);
    ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

/* ---- recovery -------------------------------------------------------------------------------- */

/* What the log holds fills several of the new, smaller memtables, some of which are flushed before
 * the next crash. */
START_TEST(test_open_recovery_into_many_memtables_leaves_a_whole_log)
{
    lsm_db *db = open_with("create=true,workers=none,memtable_size=1MiB,cache_size=1MiB");
    put_text(db, NULL, "first", "1");
    ck_ok(lsm_flush(db, &error));
    put_many(db, NULL, 0, 300, 1000);
    db_abandon(db);
    for (unsigned round = 0; round < 3; round++) {
        db = open_small();
        ck_ok(lsm_wait_idle(db, &error));
        put_many(db, NULL, 300 + round, 1, 1000);
        db_abandon(db);
    }
    db = open_small();
    expect_text(db, NULL, "first", "1");
    lsm_iter *iter = NULL;
    ck_ok(lsm_iter_open(db, NULL, NULL, &iter, &error));
    unsigned count = 0;
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter))
        count++;
    ck_assert_uint_eq(count, 304);
    lsm_iter_close(iter);
    close_ok(db);
}
END_TEST

/* ---- odd things in the directory ------------------------------------------------------------- */

START_TEST(test_open_and_destroy_leave_foreign_files_alone)
{
    static const char *const names[] = {"notes.txt", "1.sst", "000001.SST", "CURRENT.old", "x.wal"};
    make_database();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        FILE *file = fopen(path_of(names[i]), "w");
        fputs("mine", file);
        fclose(file);
    }
    lsm_db *db = open_small();
    put_many(db, NULL, 0, 200, 200);
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    close_ok(db);
    ck_ok(lsm_destroy(db_path, &error));
    unsigned left = 0;
    DIR *dir = opendir(db_path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        left += entry->d_name[0] != '.';
    closedir(dir);
    ck_assert_uint_eq(left, sizeof names / sizeof names[0]);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct stat info;
        ck_assert_int_eq(stat(path_of(names[i]), &info), 0);
        ck_assert_int_eq(info.st_size, 4);
    }
}
END_TEST

START_TEST(test_open_destroy_removes_all_of_a_database)
{
    ck_fails(LSM_MISSING, lsm_destroy(db_path, &error));
    make_database();
    ck_ok(lsm_destroy(db_path, &error));
    ck_assert_int_ne(access(db_path, F_OK), 0);
    ck_fails(LSM_MISSING, lsm_destroy(db_path, &error));
    ck_fails(LSM_INVALID, lsm_destroy("", &error));
    make_database();
}
END_TEST

START_TEST(test_open_newer_format_is_refused_unchanged)
{
    make_database();
    char body[200], line[250];
    FILE *file = fopen(path_of("CURRENT"), "r");
    size_t size = fread(body, 1, sizeof body - 1, file);
    fclose(file);
    body[size] = '\0';
    char *checksum = strstr(body, "checksum ");
    ck_assert_ptr_nonnull(checksum);
    *checksum = '\0';
    ck_assert(strncmp(body, "lsm-current 1\n", 14) == 0);
    body[12] = '9';
    uint64_t sum = hash_bytes(body, strlen(body), 0);
    snprintf(line, sizeof line, "%schecksum %016" PRIx64 "\n", body, sum);
    file = fopen(path_of("CURRENT"), "w");
    fputs(line, file);
    fclose(file);
    uint64_t before = tree_hash();
    ck_fails(LSM_NEWER_FORMAT, try_open("read_only=true"));
    ck_assert_uint_eq(tree_hash(), before);
    ck_fails(LSM_NEWER_FORMAT, try_open(SMALL_OPTIONS));
}
END_TEST

START_TEST(test_open_planted_current_is_refused)
{
    make_database();
    char elsewhere[SCRATCH_PATH_SIZE + 20];
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", scratch);
    ck_assert_int_eq(rename(path_of("CURRENT"), elsewhere), 0);
    ck_assert_int_eq(symlink(elsewhere, path_of("CURRENT")), 0);
    ck_assert_int_ne(try_open(SMALL_OPTIONS), LSM_OK);
    ck_assert_msg(strstr(error.message, "CURRENT") != NULL, "%s", error.message);
    ck_assert_int_eq(unlink(path_of("CURRENT")), 0);
    ck_assert_int_eq(mkfifo(path_of("CURRENT"), 0600), 0);
    ck_assert_int_ne(try_open(SMALL_OPTIONS), LSM_OK); /* and does not hang */
    ck_assert_int_ne(try_open("read_only=true"), LSM_OK);
    ck_assert_int_eq(unlink(path_of("CURRENT")), 0);
    ck_fails(LSM_CORRUPT, try_open(SMALL_OPTIONS)); /* it lost its CURRENT: not made anew */
    ck_assert_int_eq(rename(elsewhere, path_of("CURRENT")), 0);
    ck_ok(try_open(SMALL_OPTIONS));
}
END_TEST

START_TEST(test_open_planted_table_is_refused)
{
    make_database();
    char table[SCRATCH_PATH_SIZE + 300], elsewhere[SCRATCH_PATH_SIZE + 20];
    snprintf(table, sizeof table, "%s", path_of(find_file(".sst")));
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", scratch);
    ck_assert_int_eq(rename(table, elsewhere), 0);
    lsm_status status = try_open(SMALL_OPTIONS);
    ck_assert_msg(status == LSM_CORRUPT || status == LSM_MISSING, "%s", lsm_strerror(status));
    ck_assert_int_eq(mkfifo(table, 0600), 0);
    ck_assert_int_ne(try_open(SMALL_OPTIONS), LSM_OK);
    ck_assert_int_eq(unlink(table), 0);
    ck_assert_int_eq(symlink(elsewhere, table), 0);
    ck_assert_int_ne(try_open(SMALL_OPTIONS), LSM_OK);
    ck_assert_int_eq(unlink(table), 0);
    ck_assert_int_eq(rename(elsewhere, table), 0);
    lsm_db *db = open_small();
    expect_text(db, NULL, "many-000000x", NULL);
    close_ok(db);
}
END_TEST

START_TEST(test_open_unreadable_file_is_told)
{
    if (geteuid() != 0)
        return;
    make_database();
    ck_assert_int_eq(chmod(scratch, 0755), 0);
    ck_assert_int_eq(chown(scratch, NOBODY, NOBODY), 0);
    ck_assert_int_eq(chown(db_path, NOBODY, NOBODY), 0);
    ck_assert_int_eq(seteuid(NOBODY), 0);
    ck_fails(LSM_IO, try_open(SMALL_OPTIONS)); /* its files belong to root, 0600 */
    ck_assert_int_eq(error.os_errno, EACCES);
    ck_assert_msg(error.file[0] != '\0', "no file: %s", error.message);
    ck_assert_int_eq(seteuid(0), 0);
    ck_ok(try_open(SMALL_OPTIONS));
}
END_TEST

START_TEST(test_open_place_that_is_a_file_is_refused)
{
    FILE *file = fopen(db_path, "w");
    fclose(file);
    ck_assert_int_ne(try_open(SMALL_OPTIONS), LSM_OK);
    ck_assert_msg(error.message[0] != '\0', "no message");
    ck_assert_int_ne(lsm_destroy(db_path, &error), LSM_OK);
    ck_assert_int_eq(access(db_path, F_OK), 0);
}
END_TEST

/* ---- past the page cache or through it ------------------------------------------------------- */

/* Open descriptors of this process for files that end in ".sst", those with O_DIRECT apart. */
static void count_tables(unsigned *direct, unsigned *buffered)
{
    *direct = *buffered = 0;
    for (int fd = 0; fd < 256; fd++) {
        char link[40], name[512];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(link, name, sizeof name);
        if (size < 4 || memcmp(name + size - 4, ".sst", 4) != 0)
            continue;
        *((fcntl(fd, F_GETFL) & O_DIRECT) != 0 ? direct : buffered) += 1;
    }
}

/* Does the file system that the databases are on take O_DIRECT? */
static bool can_be_direct(void)
{
    int fd = open(db_path, O_TMPFILE | O_RDWR | O_DIRECT, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

START_TEST(test_open_direct_io_decides_how_tables_are_read)
{
    static const char *const texts[] = {SMALL_OPTIONS, SMALL_OPTIONS ",direct_io=true",
                                        SMALL_OPTIONS ",direct_io=false",
                                        SMALL_OPTIONS ",memory=64MiB"};
    for (unsigned round = 0; round < 8; round++) { /* also over tables made the other way */
        unsigned direct, buffered;
        lsm_db *db = open_with(texts[round % 4]);
        put_many(db, NULL, 0, 300, 300);
        ck_ok(lsm_flush(db, &error));
        ck_ok(lsm_compact_range(db, NULL, &(lsm_compact_options){.force_bottom = true}, &error));
        lsm_iter *it = NULL;
        ck_ok(lsm_iter_open(db, NULL, NULL, &it, &error));
        unsigned count = 0;
        for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it))
            count++;
        ck_assert_uint_ge(count, 300);
        count_tables(&direct, &buffered);
        lsm_iter_close(it);
        ck_assert_uint_gt(direct + buffered, 0);
        if (round % 2 == 0 || !can_be_direct())
            ck_assert_uint_eq(direct, 0);
        else
            ck_assert_uint_eq(buffered, 0);
        close_ok(db);
    }
    lsm_options options = LSM_OPTIONS_INIT;
    ck_assert_int_eq(lsm_options_parse(&options, "direct_io=perhaps", &error), LSM_INVALID);
    options.direct_io = "perhaps";
    lsm_db *db = NULL;
    ck_assert_int_eq(lsm_open(db_path, &options, &db, &error), LSM_INVALID);
}
END_TEST

/* ---- few descriptors ------------------------------------------------------------------------- */

static void limit_descriptors(rlim_t count)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = count;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* What each part may take at most is what it gets, and all of them are no more than the whole. */
static void check_parts(const lsm_options *o)
{
    struct db_memory_parts p;
    db_memory_parts(o, &p);
    uint64_t sum = p.memtables + p.log + p.written + p.ahead + p.heap + p.blocks_and_tables;
    ck_assert_uint_eq(sum, o->memory);
    ck_assert_uint_ge(p.memtables, (o->memtable_count + UINT64_C(2)) * o->memtable_size);
    ck_assert_uint_ge(p.log, o->stage_size);
    ck_assert_uint_gt(p.ahead, 0);
    ck_assert_uint_ge(p.heap, o->memory / 6 < 16u << 20 ? o->memory / 6 : 16u << 20);
    uint64_t cache = o->cache_size == LSM_NO_CACHE ? 0 : o->cache_size;
    ck_assert_uint_ge(p.blocks_and_tables, cache);
    uint64_t kept = o->shared_cache ? cache : o->memory / 16;
    ck_assert_uint_eq(p.tables_most + kept, p.blocks_and_tables);
    ck_assert_uint_ge(p.tables_most, o->memory / 8);
}

START_TEST(test_open_memory_parts_add_up_to_the_whole)
{
    for (uint64_t memory = 16u << 20; memory < UINT64_C(1) << 40; memory += memory / 7) {
        for (uint32_t n = 0; n < 48; n++) {
            lsm_options given = LSM_OPTIONS_INIT, o;
            static const uint32_t workers[] = {0, 1, 7, 32, LSM_NO_WORKERS, 2};
            given.memory = memory;
            given.workers = workers[n % 6];
            given.shared_cache = n / 6 % 2 == 1;
            given.memtable_count = n / 12 % 2 == 1 ? 2 : 0;
            given.cache_size = n / 24 == 1 ? memory / 8 : 0;
            ck_ok(db_options_resolve(&given, &o, &error));
            check_parts(&o);
        }
    }
    lsm_options o = LSM_OPTIONS_INIT;
    struct db_memory_parts p;
    db_memory_parts(&o, &p);
    ck_assert_uint_eq(p.ahead + p.tables_most + p.blocks_and_tables, 0);
}
END_TEST

/* What memtables, cache, stage file, tables and merges may take is no more than the whole. */
START_TEST(test_open_memory_is_shared_out)
{
    static const uint64_t sizes[] = {16, 17, 64, 100, 256, 1024, 65536};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        lsm_options given = LSM_OPTIONS_INIT, o;
        given.memory = sizes[i] << 20;
        ck_ok(db_options_resolve(&given, &o, &error));
        uint64_t sum = o.cache_size + 5 * o.memtable_size + o.stage_size;
        ck_assert_uint_lt(sum, o.memory);
        ck_assert_uint_ge(sum, sizes[i] == 16 ? o.memory / 100 * 49 : o.memory / 2);
        ck_assert_uint_ge(o.cache_size, o.memory / 5);
        ck_assert_uint_eq(o.max_open_tables, 1000);
        ck_assert_uint_le(o.memtable_size, 64u << 20);
        ck_assert_uint_eq(o.memtable_count, 3);
        struct db_memory_parts parts;
        db_memory_parts(&o, &parts);
        ck_assert_uint_ge(parts.ahead, o.memory / 64 < 5u << 20 ? o.memory / 64 : 5u << 20);
    }
    lsm_options given = LSM_OPTIONS_INIT, o, more;
    ck_ok(lsm_options_parse(&given, "memory=256MiB,memtable_size=8MiB,memtable_count=2", &error));
    ck_ok(db_options_resolve(&given, &o, &error));
    ck_assert_uint_eq(o.memtable_size, 8u << 20);
    given.memtable_size = 16u << 20;
    ck_ok(db_options_resolve(&given, &more, &error));
    ck_assert_uint_le(o.cache_size - more.cache_size, 4 * (8u << 20));
    ck_assert_uint_ge(o.cache_size - more.cache_size, 30u << 20);
    given.cache_size = LSM_NO_CACHE;
    ck_ok(db_options_resolve(&given, &o, &error));
    ck_assert_uint_eq(o.cache_size, LSM_NO_CACHE);
    given.cache_size = 250u << 20;
    ck_fails(LSM_INVALID, db_options_resolve(&given, &o, &error));
    ck_assert_uint_eq(error.found, given.memory);
    given.cache_size = 0;
    given.memtable_size = 128u << 20;
    ck_fails(LSM_INVALID, db_options_resolve(&given, &o, &error));
    ck_assert_ptr_nonnull(strstr(error.message, "'memory'"));
    given.memtable_size = 1;
    ck_fails(LSM_INVALID, db_options_resolve(&given, &o, &error));
    ck_assert_ptr_nonnull(strstr(error.message, "'memtable_size'"));
    given = (lsm_options)LSM_OPTIONS_INIT;
    given.memory = 1u << 20;
    ck_fails(LSM_INVALID, db_options_resolve(&given, &o, &error));
    ck_assert_ptr_nonnull(strstr(error.message, "option 'memory' is"));
    lsm_db *db = open_with("create=true,memory=16MiB");
    put_many(db, NULL, 0, 3000, 1000);
    expect_text(db, NULL, "nothing", NULL);
    close_ok(db);
}
END_TEST

START_TEST(test_open_with_few_descriptors_evicts_or_tells)
{
    static const char many_tables[] = SMALL_OPTIONS
        ",table_size=16KiB,level_base_size=1MiB,level0_trigger=2,max_open_tables=1000,"
        "compression=none";
    lsm_db *db = open_with(many_tables);
    put_many(db, NULL, 0, 3000, 300);
    ck_ok(lsm_compact_range(db, NULL, &(lsm_compact_options){.force_bottom = true}, &error));
    ck_assert_uint_gt(property(db, "tables"), 15);
    close_ok(db);
    db = open_with(many_tables);
    limit_descriptors(24);
    unsigned told = 0;
    char key[32];
    for (unsigned i = 0; i < 3000; i += 7) {
        lsm_pin pin = LSM_PIN_INIT;
        snprintf(key, sizeof key, "many-%06u", i);
        lsm_status status = lsm_get(db, NULL, text(key), NULL, &pin, &error);
        ck_assert_msg(status == LSM_OK || (status == LSM_IO && error.os_errno == EMFILE), "%s: %s",
                      lsm_strerror(status), error.message);
        ck_assert(status != LSM_OK || pin.found);
        told += status != LSM_OK;
        lsm_pin_release(&pin);
    }
    limit_descriptors(1024);
    for (unsigned i = 0; i < 3000; i += 7) {
        snprintf(key, sizeof key, "many-%06u", i);
        lsm_pin pin = LSM_PIN_INIT;
        ck_ok(lsm_get(db, NULL, text(key), NULL, &pin, &error));
        ck_assert(pin.found);
        lsm_pin_release(&pin);
    }
    close_ok(db);
    (void)told;
    for (rlim_t count = 4; count < 24; count++) {
        limit_descriptors(count);
        lsm_status status = try_open(many_tables);
        ck_assert_msg(status == LSM_OK || status == LSM_IO, "%u descriptors: %s: %s",
                      (unsigned)count, lsm_strerror(status), error.message);
    }
    limit_descriptors(1024);
    ck_ok(try_open(many_tables));
}
END_TEST

/* ---- background errors ----------------------------------------------------------------------- */

static _Atomic unsigned error_events;

static void count_errors(void *context, const lsm_event *event)
{
    (void)context;
    if (event->kind == LSM_EVENT_ERROR && event->error != NULL && event->error->message[0] != '\0')
        error_events++;
}

START_TEST(test_open_listener_is_told_of_a_failed_flush)
{
    struct sim_disk *disk = sim_disk_new(3);
    struct io *io = NULL;
    lsm_db *db = NULL;
    lsm_options options = LSM_OPTIONS_INIT;
    ck_ok(sim_open(disk, &io, &error));
    ck_ok(lsm_options_parse(&options,
                            "create=true,workers=1,memtable_size=64KiB,stage_size=1MiB,"
                            "wal_segment_size=8MiB,cache_size=1MiB",
                            &error));
    options.listener = count_errors;
    ck_ok(db_open_on(io, "/db", &options, &db, &error));
    sim_fail_after(disk, SIM_FAULT_OPEN, 0, EMFILE, true);
    put_many(db, NULL, 0, 150, 1000); /* more than two memtables: a flush is due */
    for (unsigned i = 0; i < 5000 && error_events == 0; i++)
        usleep(1000);
    ck_assert_uint_gt(error_events, 0);
    expect_text(db, NULL, "no-such-key", NULL);
    sim_fail_never(disk);
    lsm_status status = LSM_IO; /* the failure may be told once more, until the next attempt */
    for (unsigned i = 0; i < 5000 && (status = lsm_flush(db, &error)) != LSM_OK; i++)
        usleep(1000);
    ck_ok(status);
    ck_ok(lsm_wait_idle(db, &error));
    close_ok(db);
    io_close(io);
    sim_disk_free(disk);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("open");
    TCase *cases = tcase_create("open");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, fixture_set_up, fixture_tear_down);
    tcase_add_test(cases, test_open_without_a_place_is_refused);
    tcase_add_test(cases, test_open_missing_without_create_leaves_nothing);
    tcase_add_test(cases, test_open_error_if_exists);
    tcase_add_test(cases, test_open_options_out_of_range_are_refused);
    tcase_add_test(cases, test_open_options_parse_from_text);
    tcase_add_test(cases, test_open_stored_family_options_win);
    tcase_add_test(cases, test_open_modes_of_files_follow_the_option);
    tcase_add_loop_test(cases, test_open_of_an_exclusive_one_is_busy, 0, 2);
    tcase_add_test(cases, test_open_exclusively_while_others_have_it_is_busy);
    tcase_add_test(cases, test_open_twice_in_a_process_is_one_database);
    tcase_add_test(cases, test_open_for_reading_joins_writers);
    tcase_add_test(cases, test_open_exclusively_in_another_process_is_busy_until_it_dies);
    tcase_add_test(cases, test_open_handle_in_a_forked_child_is_refused);
    tcase_add_test(cases, test_open_read_only_changes_nothing);
    tcase_add_test(cases, test_open_read_only_after_a_crash_reads_the_log_and_changes_nothing);
    tcase_add_test(cases, test_open_read_only_as_a_user_without_rights);
    tcase_add_test(cases, test_open_recovery_into_many_memtables_leaves_a_whole_log);
    tcase_add_test(cases, test_open_and_destroy_leave_foreign_files_alone);
    tcase_add_test(cases, test_open_destroy_removes_all_of_a_database);
    tcase_add_test(cases, test_open_newer_format_is_refused_unchanged);
    tcase_add_test(cases, test_open_planted_current_is_refused);
    tcase_add_test(cases, test_open_planted_table_is_refused);
    tcase_add_test(cases, test_open_unreadable_file_is_told);
    tcase_add_test(cases, test_open_place_that_is_a_file_is_refused);
    tcase_add_test(cases, test_open_direct_io_decides_how_tables_are_read);
    tcase_add_test(cases, test_open_with_few_descriptors_evicts_or_tells);
    tcase_add_test(cases, test_open_listener_is_told_of_a_failed_flush);
    tcase_add_test(cases, test_open_memory_is_shared_out);
    tcase_add_test(cases, test_open_memory_parts_add_up_to_the_whole);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
