/*
 * Values in blob files: every kind of read finds them, merges move references, what is overwritten
 * or deleted gives its space back, and damage is told, never answered with another value.
 */
#include "tests/unit/db/db_fixture.h"

#include "engine/base/step.h"
#include "engine/format/file_name.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPTIONS                                                                                    \
    "create=true,workers=none,memtable_size=256KiB,stage_size=512KiB,wal_segment_size=512KiB,"     \
    "cache_size=1MiB,compression=none,blob_threshold=256,table_size=16KiB,level_base_size=32KiB"
#define KEYS       200
#define VALUE_SIZE 1500

static lsm_db *db;

static void set_up(void)
{
    fixture_set_up();
    db = open_with(OPTIONS);
}

static void tear_down(void)
{
    if (db != NULL)
        close_ok(db);
    db = NULL;
    fixture_tear_down();
}

static void reopen(void)
{
    close_ok(db);
    db = open_with(OPTIONS);
}

static lsm_slice key_of(unsigned i, char key[24])
{
    return LSM_SLICE(key, (size_t)snprintf(key, 24, "key-%06u", i));
}

/* Most are over the threshold, each seventh is not. */
static lsm_slice value_of(unsigned i, unsigned round, char value[VALUE_SIZE])
{
    size_t size = i % 7 == 0 ? 100 : VALUE_SIZE - i;
    memset(value, 'a' + (int)((i + round) % 26), VALUE_SIZE);
    snprintf(value, VALUE_SIZE, "%u of round %u", i, round);
    return LSM_SLICE(value, size);
}

static void put_round(unsigned first, unsigned limit, unsigned round)
{
    char key[24], value[VALUE_SIZE];
    for (unsigned i = first; i < limit; i++)
        ck_ok(lsm_put(db, NULL, key_of(i, key), value_of(i, round, value), NULL, &error));
}

static void expect_value(lsm_slice found, unsigned i, unsigned round)
{
    char value[VALUE_SIZE];
    lsm_slice wanted = value_of(i, round, value);
    ck_assert_uint_eq(found.size, wanted.size);
    ck_assert_mem_eq(found.data, wanted.data, wanted.size);
}

static void expect_round(const lsm_snapshot *snapshot, unsigned first, unsigned limit,
                         unsigned round)
{
    lsm_read_options options = {.snapshot = snapshot};
    char key[24];
    for (unsigned i = first; i < limit; i++) {
        lsm_pin pin = LSM_PIN_INIT;
        ck_ok(lsm_get(db, NULL, key_of(i, key), &options, &pin, &error));
        ck_assert(pin.found);
        expect_value(pin.value, i, round);
        lsm_pin_release(&pin);
    }
}

struct sum {
    unsigned count;
    uint64_t bytes;
    uint64_t smallest; /* number */
};

static struct sum blob_files(void)
{
    struct sum sum = {.smallest = UINT64_MAX};
    DIR *dir = opendir(db_path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[2 * SCRATCH_PATH_SIZE + 300];
        enum file_kind kind;
        uint64_t number;
        struct stat found;
        if (!file_name_parse(entry->d_name, &kind, &number) || kind != FILE_BLOB)
            continue;
        snprintf(path, sizeof path, "%s/%s", db_path, entry->d_name);
        ck_assert_int_eq(stat(path, &found), 0);
        sum.count++;
        sum.bytes += (uint64_t)found.st_size;
        if (number < sum.smallest)
            sum.smallest = number;
    }
    closedir(dir);
    return sum;
}

static void path_of_blob(uint64_t number, char path[2 * SCRATCH_PATH_SIZE])
{
    char name[FILE_NAME_SIZE];
    snprintf(path, 2 * SCRATCH_PATH_SIZE, "%s/%s", db_path,
             file_name_make(FILE_BLOB, number, name));
}

static void compact_all(void)
{
    lsm_compact_options options = {.force_bottom = true};
    ck_ok(lsm_compact_range(db, NULL, &options, &error));
}

/* Every byte of it held against every other. */
static void expect_sound(void)
{
    lsm_verify_options options = LSM_VERIFY_OPTIONS_INIT;
    lsm_verify_result result;
    options.level = LSM_VERIFY_FULL;
    ck_ok(lsm_verify(db_path, &options, &result, &error));
    ck_assert_uint_eq(result.damages + result.warnings, 0);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void expect_by_iterator(bool keys_only)
{
    lsm_read_options options = {.keys_only = keys_only};
    lsm_iter *it = NULL;
    unsigned i = 0;
    ck_ok(lsm_iter_open(db, NULL, &options, &it, &error));
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it), i++) {
        if (keys_only)
            ck_assert_uint_eq(lsm_iter_value(it).size, 0);
        else
            expect_value(lsm_iter_value(it), i, 1);
    }
    ck_assert_uint_eq(i, KEYS);
    for (lsm_iter_last(it); lsm_iter_valid(it) && !keys_only; lsm_iter_prev(it))
        expect_value(lsm_iter_value(it), --i, 1);
    ck_ok(lsm_iter_status(it, &error));
    ck_assert_uint_eq(i, keys_only ? KEYS : 0);
    char key[24];
    lsm_iter_seek(it, key_of(101, key)); /* there and back */
    lsm_iter_next(it);
    lsm_iter_prev(it);
    lsm_iter_next(it);
    ck_assert(lsm_iter_valid(it));
    if (!keys_only)
        expect_value(lsm_iter_value(it), 102, 1);
    lsm_iter_close(it);
}

static void expect_by_multi_get(void)
{
    static char keys[KEYS][24];
    lsm_slice slices[KEYS];
    static lsm_pin pins[KEYS];
    for (unsigned i = 0; i < KEYS; i++) {
        slices[i] = key_of(i, keys[i]);
        pins[i] = (lsm_pin)LSM_PIN_INIT;
    }
    ck_ok(lsm_multi_get(db, NULL, KEYS, slices, NULL, pins, &error));
    for (unsigned i = 0; i < KEYS; i++) {
        ck_assert(pins[i].found);
        expect_value(pins[i].value, i, 1);
        lsm_pin_release(&pins[i]);
    }
}

static void expect_by_async(void)
{
    lsm_async *async = NULL;
    static lsm_pin pins[KEYS];
    static char buffers[KEYS][VALUE_SIZE];
    static size_t sizes[KEYS];
    size_t done = 0;
    char key[24];
    ck_ok(lsm_async_open(db, NULL, &async, &error));
    for (unsigned i = 0; i < KEYS; i++) {
        pins[i] = (lsm_pin)LSM_PIN_INIT;
        if (i % 2 == 0)
            ck_ok(lsm_async_get(async, NULL, key_of(i, key), NULL, &pins[i], NULL, &error));
        else
            ck_ok(lsm_async_get_into(async, NULL, key_of(i, key), NULL, buffers[i], VALUE_SIZE,
                                     &sizes[i], NULL, &error));
    }
    while (done < KEYS) {
        lsm_completion completions[16];
        size_t count = 0;
        ck_ok(lsm_async_wait(async, 1, 0, completions, 16, &count, &error));
        for (size_t i = 0; i < count; i++)
            ck_assert_int_eq(completions[i].status, LSM_OK);
        done += count;
    }
    for (unsigned i = 0; i < KEYS; i++) {
        lsm_slice found = i % 2 == 0 ? pins[i].value : LSM_SLICE(buffers[i], sizes[i]);
        expect_value(found, i, 1);
        lsm_pin_release(&pins[i]);
    }
    lsm_async_close(async);
}

START_TEST(test_blob_every_kind_of_read_finds_the_values)
{
    put_round(0, KEYS, 1);
    ck_ok(lsm_flush(db, &error));
    ck_assert_uint_gt(blob_files().count, 0);
    for (unsigned turn = 0; turn < 3; turn++) {
        char key[24], buffer[VALUE_SIZE];
        size_t size = 0;
        expect_round(NULL, 0, KEYS, 1);
        ck_ok(lsm_get_into(db, NULL, key_of(3, key), NULL, buffer, sizeof buffer, &size, &error));
        expect_value(LSM_SLICE(buffer, size), 3, 1);
        expect_by_iterator(false);
        expect_by_iterator(true);
        expect_by_multi_get();
        expect_by_async();
        lsm_txn *txn = NULL;
        lsm_pin pin = LSM_PIN_INIT;
        ck_ok(lsm_txn_begin(db, NULL, &txn, &error));
        ck_ok(lsm_txn_get(txn, NULL, key_of(5, key), NULL, &pin, &error));
        expect_value(pin.value, 5, 1);
        lsm_pin_release(&pin);
        lsm_txn_free(txn);
        if (turn == 0)
            compact_all();
        else
            reopen();
    }
    close_ok(db);
    db = NULL;
    expect_sound();
}
END_TEST

START_TEST(test_blob_pin_outlives_the_file)
{
    char key[24];
    lsm_pin pin = LSM_PIN_INIT;
    put_round(0, KEYS, 1);
    ck_ok(lsm_flush(db, &error));
    ck_ok(lsm_get(db, NULL, key_of(1, key), NULL, &pin, &error));
    put_round(0, KEYS, 2);
    compact_all();
    expect_value(pin.value, 1, 1);
    lsm_pin_release(&pin);
}
END_TEST

/* ---- merging --------------------------------------------------------------------------------- */

START_TEST(test_blob_merge_moves_references_only)
{
    put_round(0, KEYS / 2, 1);
    ck_ok(lsm_flush(db, &error));
    put_round(KEYS / 2, KEYS, 1);
    ck_ok(lsm_flush(db, &error));
    struct sum before = blob_files();
    compact_all();
    compact_all();
    struct sum after = blob_files();
    ck_assert_uint_eq(before.count, after.count);
    ck_assert_uint_eq(before.bytes, after.bytes);
    ck_assert_uint_eq(before.smallest, after.smallest);
    expect_round(NULL, 0, KEYS, 1);
}
END_TEST

START_TEST(test_blob_overwriting_ten_times_gives_the_space_back)
{
    put_round(0, KEYS, 1);
    compact_all();
    uint64_t once = blob_files().bytes;
    for (unsigned round = 2; round <= 10; round++) {
        put_round(0, KEYS, round);
        ck_ok(lsm_flush(db, &error));
    }
    compact_all();
    ck_assert_uint_le(blob_files().bytes, once + once / 2);
    ck_assert_uint_eq(property(db, "blob-bytes"), blob_files().bytes);
    ck_assert_uint_le(property(db, "blob-bytes-live"), property(db, "blob-bytes-raw"));
    ck_assert_uint_gt(property(db, "blob-bytes-live") * 10, property(db, "blob-bytes-raw") * 6);
    expect_round(NULL, 0, KEYS, 10);
    close_ok(db);
    db = NULL;
    expect_sound();
}
END_TEST

static _Atomic unsigned parts_begun;

static void count_parts(const char *name)
{
    parts_begun += strcmp(name, "compaction: part begun") == 0;
}

/* Values that stay and values that move, of files that several parts refer to. */
START_TEST(test_blob_merge_in_parts_keeps_every_value)
{
    enum { MANY = 4000 };
    char key[24], value[100];
    close_ok(db);
    db = open_with(OPTIONS ",blob_threshold=64,table_size=4KiB,max_merge_threads=4");
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < MANY; i += round + 1) {
            memset(value, 'a' + (int)((i + round) % 26), sizeof value);
            ck_ok(lsm_put(db, NULL, key_of(i, key), LSM_SLICE(value, 60 + i % 40), NULL, &error));
        }
        ck_ok(lsm_flush(db, &error));
        parts_begun = 0;
        atomic_store(&step_hook, count_parts);
        compact_all();
        atomic_store(&step_hook, NULL);
        ck_assert_uint_ge(parts_begun, 4);
    }
    for (unsigned i = 0; i < MANY; i++) {
        lsm_pin pin = LSM_PIN_INIT;
        unsigned round = i % 3 == 0 ? 2 : i % 2 == 0 ? 1 : 0;
        memset(value, 'a' + (int)((i + round) % 26), sizeof value);
        ck_ok(lsm_get(db, NULL, key_of(i, key), NULL, &pin, &error));
        ck_assert(pin.found && pin.value.size == 60 + i % 40);
        ck_assert_mem_eq(pin.value.data, value, pin.value.size);
        lsm_pin_release(&pin);
    }
    close_ok(db);
    db = NULL;
    expect_sound();
}
END_TEST

START_TEST(test_blob_deleting_all_keys_removes_all_files)
{
    char key[24];
    put_round(0, KEYS, 1);
    compact_all();
    ck_assert_uint_gt(blob_files().count, 0);
    for (unsigned i = 0; i < KEYS; i++)
        ck_ok(lsm_delete(db, NULL, key_of(i, key), NULL, &error));
    compact_all();
    ck_assert_uint_eq(blob_files().count, 0);
}
END_TEST

START_TEST(test_blob_sparse_file_is_written_anew_when_its_table_is)
{
    char key[24];
    put_round(0, KEYS, 1);
    compact_all();
    struct sum before = blob_files();
    for (unsigned i = 0; i < KEYS; i++) {
        if (i % 2 == 0)
            ck_ok(lsm_delete(db, NULL, key_of(i, key), NULL, &error));
    }
    compact_all(); /* the garbage shows only afterwards, */
    compact_all(); /* and then what is live moves */
    struct sum after = blob_files();
    ck_assert_uint_lt(after.bytes, before.bytes * 6 / 10);
    ck_assert_uint_gt(after.smallest, before.smallest);
    for (unsigned i = 1; i < KEYS; i += 2)
        expect_round(NULL, i, i + 1, 1);
}
END_TEST

START_TEST(test_blob_snapshot_keeps_old_values)
{
    lsm_snapshot *snapshot = NULL;
    put_round(0, KEYS, 1);
    ck_ok(lsm_flush(db, &error));
    ck_ok(lsm_snapshot_acquire(db, &snapshot, &error));
    put_round(0, KEYS, 2);
    compact_all();
    compact_all();
    expect_round(snapshot, 0, KEYS, 1);
    expect_round(NULL, 0, KEYS, 2);
    lsm_snapshot_release(db, snapshot);
}
END_TEST

START_TEST(test_blob_iterator_keeps_the_files_it_reads)
{
    lsm_iter *it = NULL;
    unsigned i = 0;
    put_round(0, KEYS, 1);
    ck_ok(lsm_flush(db, &error));
    ck_ok(lsm_iter_open(db, NULL, NULL, &it, &error));
    lsm_iter_first(it);
    put_round(0, KEYS, 2);
    compact_all();
    for (; lsm_iter_valid(it); lsm_iter_next(it))
        expect_value(lsm_iter_value(it), i++, 1);
    ck_ok(lsm_iter_status(it, &error));
    ck_assert_uint_eq(i, KEYS);
    lsm_iter_close(it);
    expect_round(NULL, 0, KEYS, 2);
}
END_TEST

START_TEST(test_blob_checkpoint_holds_its_values)
{
    char path[SCRATCH_PATH_SIZE + 16];
    put_round(0, KEYS / 2, 1);
    ck_ok(lsm_flush(db, &error));
    put_round(KEYS / 2, KEYS, 1); /* in memtables only */
    snprintf(path, sizeof path, "%s/copy", scratch);
    ck_ok(lsm_checkpoint(db, path, NULL, &error));
    expect_sound(); /* a file with two names is nothing to warn of */
    put_round(0, KEYS, 2);
    compact_all();
    close_ok(db);
    memcpy(strrchr(db_path, '/') + 1, "copy", sizeof "copy");
    expect_sound();
    db = open_with(OPTIONS);
    expect_round(NULL, 0, KEYS, 1);
    ck_assert_uint_gt(blob_files().count, 1);
}
END_TEST

START_TEST(test_blob_dropped_family_takes_its_files_along)
{
    lsm_cf_options options = LSM_CF_OPTIONS_INIT;
    lsm_cf *cf = NULL;
    char value[VALUE_SIZE];
    options.blob_threshold = 100;
    memset(value, 'x', sizeof value);
    ck_ok(lsm_cf_create(db, "values", &options, &cf, &error));
    ck_ok(lsm_put(db, cf, text("a"), LSM_SLICE(value, sizeof value), NULL, &error));
    ck_ok(lsm_flush(db, &error));
    ck_assert_uint_eq(blob_files().count, 1);
    ck_ok(lsm_cf_drop(db, cf, &error));
    reopen();
    ck_assert_uint_eq(blob_files().count, 0);
}
END_TEST

/* ---- damage ---------------------------------------------------------------------------------- */

START_TEST(test_blob_missing_file_is_told_at_open)
{
    char path[2 * SCRATCH_PATH_SIZE];
    put_round(0, KEYS, 1);
    ck_ok(lsm_flush(db, &error));
    close_ok(db);
    db = NULL;
    path_of_blob(blob_files().smallest, path);
    ck_assert_int_eq(unlink(path), 0);
    lsm_options options = options_of(OPTIONS);
    ck_fails(LSM_CORRUPT, lsm_open(db_path, &options, &db, &error));
    ck_assert_ptr_nonnull(strstr(error.message, "blob file"));
}
END_TEST

START_TEST(test_blob_damaged_value_is_an_error_of_every_read)
{
    char path[2 * SCRATCH_PATH_SIZE], key[24];
    put_round(1, 7, 1); /* two of them a block */
    ck_ok(lsm_flush(db, &error));
    path_of_blob(blob_files().smallest, path);
    close_ok(db);
    int file = open(path, O_WRONLY);
    ck_assert_int_eq(pwrite(file, "?", 1, 500), 1);
    close(file);
    db = open_with(OPTIONS);
    lsm_pin pin = LSM_PIN_INIT;
    ck_fails(LSM_CORRUPT, lsm_get(db, NULL, key_of(1, key), NULL, &pin, &error));
    ck_assert(!pin.found);
    lsm_slice keys[] = {key_of(1, key)};
    ck_fails(LSM_CORRUPT, lsm_multi_get(db, NULL, 1, keys, NULL, &pin, &error));
    expect_round(NULL, 5, 7, 1);
    lsm_iter *it = NULL;
    ck_ok(lsm_iter_open(db, NULL, NULL, &it, &error));
    lsm_iter_first(it);
    ck_assert(!lsm_iter_valid(it));
    ck_fails(LSM_CORRUPT, lsm_iter_status(it, &error));
    lsm_iter_seek(it, key_of(6, key));
    ck_assert(lsm_iter_valid(it));
    expect_value(lsm_iter_value(it), 6, 1);
    lsm_iter_close(it);
}
END_TEST

START_TEST(test_blob_table_under_the_name_of_a_blob_file_is_no_blob_file)
{
    char path[2 * SCRATCH_PATH_SIZE], table[2 * SCRATCH_PATH_SIZE], key[24];
    put_round(1, 3, 1);
    ck_ok(lsm_flush(db, &error));
    uint64_t number = blob_files().smallest;
    path_of_blob(number, path);
    snprintf(table, sizeof table, "%s/%06llu.sst", db_path, (unsigned long long)number);
    ck_assert_int_eq(rename(path, table), 0);
    lsm_pin pin = LSM_PIN_INIT;
    ck_fails(LSM_MISSING, lsm_get(db, NULL, key_of(1, key), NULL, &pin, &error));
    ck_assert_int_eq(rename(table, path), 0);
    expect_round(NULL, 1, 3, 1);
}
END_TEST

/* ---- options --------------------------------------------------------------------------------- */

START_TEST(test_blob_options_out_of_range_are_refused)
{
    lsm_cf_options options = LSM_CF_OPTIONS_INIT;
    lsm_cf *cf = NULL;
    options.blob_threshold = 63;
    ck_fails(LSM_INVALID, lsm_cf_create(db, "values", &options, &cf, &error));
    options.blob_threshold = 4096;
    options.compaction = LSM_COMPACTION_FIFO;
    options.ttl = 1;
    ck_fails(LSM_INVALID, lsm_cf_create(db, "values", &options, &cf, &error));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("db_blob");
    TCase *c = tcase_create("blob");
    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_blob_every_kind_of_read_finds_the_values);
    tcase_add_test(c, test_blob_pin_outlives_the_file);
    tcase_add_test(c, test_blob_merge_moves_references_only);
    tcase_add_test(c, test_blob_overwriting_ten_times_gives_the_space_back);
    tcase_add_test(c, test_blob_merge_in_parts_keeps_every_value);
    tcase_add_test(c, test_blob_deleting_all_keys_removes_all_files);
    tcase_add_test(c, test_blob_sparse_file_is_written_anew_when_its_table_is);
    tcase_add_test(c, test_blob_snapshot_keeps_old_values);
    tcase_add_test(c, test_blob_iterator_keeps_the_files_it_reads);
    tcase_add_test(c, test_blob_checkpoint_holds_its_values);
    tcase_add_test(c, test_blob_dropped_family_takes_its_files_along);
    tcase_add_test(c, test_blob_missing_file_is_told_at_open);
    tcase_add_test(c, test_blob_damaged_value_is_an_error_of_every_read);
    tcase_add_test(c, test_blob_table_under_the_name_of_a_blob_file_is_no_blob_file);
    tcase_add_test(c, test_blob_options_out_of_range_are_refused);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
