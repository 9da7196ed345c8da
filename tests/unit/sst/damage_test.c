/* Tables that lie, disks that fail: a wrong answer is never given, and the machine's fault is told
 * from the file's. */
#include "tests/unit/sst/fixture.h"

#include <errno.h>

static uint64_t seed;

static const char *table_name(uint64_t number, char *name)
{
    sprintf(name, "%06u.sst", (unsigned)number);
    return name;
}

/* Entries that fill a few small blocks, some compressed. */
static struct entries small_entries(size_t count)
{
    struct random_state r = random_seeded(42);
    return make_entries(&r, count, KEYS_DECIMAL, 2, 60);
}

static struct table_write_options small_options(uint64_t number)
{
    struct table_write_options o = write_options(number);
    o.block_size = 512;
    o.compress = true;
    return o;
}

/*
 * Opens the table and reads everything. Every answer that is given is right. Returns the first
 * failure, LSM_OK when all of it could be read.
 */
static lsm_status read_all(uint64_t number, uint64_t size, const struct entries *e)
{
    struct table *t = NULL;
    lsm_error error = {0};
    lsm_status status = table_open(&f.env, number, size, &t, &error);
    if (status != LSM_OK) {
        ck_assert_ptr_nonnull(strstr(error.message, ".sst"));
        return status;
    }
    for (size_t i = 0; i < e->count; i++) {
        bool is_found = false;
        struct table_found found;
        lsm_slice key = e->at[i].key;
        epoch_enter();
        lsm_status got = table_get(t, key, hash_key(key.data, key.size),
                                   entry_sequence(e->at[i].trailer), 0, &is_found, &found, &error);
        if (got == LSM_OK) {
            ck_assert(is_found);
            ck_assert_uint_eq(found.trailer, e->at[i].trailer);
            ck_assert(slice_equal(found.value, e->at[i].value));
            if (found.owned)
                block_drop(found.block);
        }
        epoch_exit();
        status = status == LSM_OK ? got : status;
    }
    struct iter *it;
    ck_ok(table_iter_new(t, &(struct table_iter_options){.whole = true}, &it, &error));
    size_t i = 0;
    for (it->ops->first(it); it->valid; iter_next(it), i++) {
        ck_assert(slice_equal(it->entry->key, e->at[i].key));
        ck_assert_uint_eq(it->entry->trailer, e->at[i].trailer);
        ck_assert(slice_equal(it->entry->value, e->at[i].value));
    }
    ck_assert(it->status != LSM_OK || i == e->count);
    status = status == LSM_OK ? it->status : status;
    iter_release(it);
    table_close(t);
    return status;
}

static void flip(uint64_t number, uint64_t bit)
{
    char name[32];
    const void *bytes;
    size_t size;
    ck_ok(sim_contents(f.disk, FIXTURE_DIR, table_name(number, name), &bytes, &size, &f.error));
    uint8_t byte = (uint8_t)(((const uint8_t *)bytes)[bit / 8] ^ 1u << bit % 8);
    ck_ok(sim_overwrite(f.disk, FIXTURE_DIR, name, bit / 8, &byte, 1, &f.error));
}

/* Bytes that differ from zero get every bit flipped, zeros one of them. */
START_TEST(test_damage_of_any_bit_is_told)
{
    fixture_open(1, 1 << 20);
    struct entries e = small_entries(24);
    struct table_write_options options = small_options(3);
    struct table_meta meta = write_table(&e, &options);
    ck_assert_int_eq(read_all(3, meta.size, &e), LSM_OK);
    char name[32];
    const void *bytes;
    size_t size;
    ck_ok(sim_contents(f.disk, FIXTURE_DIR, table_name(3, name), &bytes, &size, &f.error));
    ck_assert_uint_eq(size, meta.size);
    uint8_t *copy = malloc(size);
    memcpy(copy, bytes, size);
    uint64_t footers = size - 2 * 4096;
    for (uint64_t at = 0; at < size; at++) {
        bool in_footers = at >= footers;
        if (in_footers && copy[at] == 0 && at % 7 != 0)
            continue;
        for (uint64_t bit = copy[at] == 0 ? at % 8 : 0; bit < 8; bit += copy[at] == 0 ? 8 : 1) {
            flip(3, at * 8 + bit);
            lsm_status status = read_all(3, bit % 2 == 0 ? meta.size : 0, &e);
            /* One sound footer is enough; all else is found. */
            ck_assert_msg(status == (in_footers ? LSM_OK : LSM_CORRUPT),
                          "bit %u of byte %u: status %d", (unsigned)bit, (unsigned)at, (int)status);
            flip(3, at * 8 + bit);
        }
    }
    ck_assert_int_eq(read_all(3, meta.size, &e), LSM_OK);
    free(copy);
    table_meta_release(&meta);
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_damage_of_both_footers_is_told)
{
    fixture_open(1, 1 << 20);
    struct entries e = small_entries(24);
    struct table_write_options options = small_options(3);
    struct table_meta meta = write_table(&e, &options);
    flip(3, (meta.size - 4096 + 20) * 8);
    flip(3, (meta.size - 2 * 4096 + 50) * 8);
    ck_assert_int_eq(read_all(3, meta.size, &e), LSM_CORRUPT);
    table_meta_release(&meta);
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_damage_truncation_at_any_length_is_told)
{
    fixture_open(1, 1 << 20);
    struct entries e = small_entries(600);
    struct table_write_options options = small_options(3);
    options.compress = false;
    struct table_meta meta = write_table(&e, &options);
    ck_assert_uint_gt(meta.size, 5 * 4096);
    char name[32];
    struct io_file *file;
    ck_ok(io_file_open(f.dir, table_name(3, name), IO_FILE_WRITE, 0, &file, &f.error));
    for (uint64_t size = meta.size - 1;; size -= size % 512 == 0 ? 1 : size % 512) {
        ck_ok(io_file_truncate(file, size, &f.error));
        struct table *t;
        ck_assert_int_eq(table_open(&f.env, 3, 0, &t, &f.error), LSM_CORRUPT);
        ck_assert_int_eq(table_open(&f.env, 3, meta.size, &t, &f.error), LSM_CORRUPT);
        if (size == 0)
            break;
    }
    io_file_close(file);
    table_meta_release(&meta);
    free_entries(&e);
    fixture_close();
}
END_TEST

/* Every block swapped with every other one: bytes are sound, the place is not. */
START_TEST(test_damage_block_in_another_place_is_told)
{
    fixture_open(1, 0);
    struct entries e = small_entries(600);
    struct table_write_options options = small_options(3);
    options.compress = false;
    options.block_size = 4096; /* a raw block and its frame take a page each */
    struct table_meta meta = write_table(&e, &options);
    char name[32];
    const void *bytes;
    size_t size;
    ck_ok(sim_contents(f.disk, FIXTURE_DIR, table_name(3, name), &bytes, &size, &f.error));
    uint8_t *copy = malloc(size);
    memcpy(copy, bytes, size);
    ck_assert_uint_ge(size, 6 * 4096);
    for (uint64_t i = 1; i < 3; i++) {
        ck_ok(sim_overwrite(f.disk, FIXTURE_DIR, name, 0, copy + i * 4096, 4096, &f.error));
        ck_assert_int_eq(read_all(3, meta.size, &e), LSM_CORRUPT);
        ck_ok(sim_overwrite(f.disk, FIXTURE_DIR, name, 0, copy, 4096, &f.error));
    }
    ck_assert_int_eq(read_all(3, meta.size, &e), LSM_OK);
    /* The same blocks in a file of another number. */
    options.number = 4;
    struct table_meta other = write_table(&e, &options);
    ck_ok(sim_overwrite(f.disk, FIXTURE_DIR, table_name(4, name), 0, copy, 4096, &f.error));
    ck_assert_int_eq(read_all(4, other.size, &e), LSM_CORRUPT);
    free(copy);
    table_meta_release(&meta);
    table_meta_release(&other);
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_damage_table_of_another_database_or_number_says_so)
{
    fixture_open(1, 0);
    struct entries e = small_entries(20);
    struct table_write_options options = small_options(3);
    struct table_meta meta = write_table(&e, &options);
    struct table *t;
    f.env.uuid[5] ^= 1;
    ck_assert_int_eq(table_open(&f.env, 3, meta.size, &t, &f.error), LSM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(f.error.message, "another database"));
    f.env.uuid[5] ^= 1;
    ck_ok(io_dir_rename(f.dir, "000003.sst", "000004.sst", &f.error));
    ck_assert_int_eq(table_open(&f.env, 4, meta.size, &t, &f.error), LSM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(f.error.message, "another file"));
    ck_assert_str_eq(f.error.file, "000004.sst");
    ck_assert_int_eq(table_open(&f.env, 3, meta.size, &t, &f.error), LSM_MISSING);
    table_meta_release(&meta);
    free_entries(&e);
    fixture_close();
}
END_TEST

/* Fields that cannot be, under a sound checksum: only an attacker or a bug makes those. */
START_TEST(test_damage_hostile_blocks_with_sound_checksums_are_harmless)
{
    struct random_state r = random_seeded(seed);
    fixture_open(1, 1 << 20);
    struct entries e = small_entries(60);
    struct table_write_options options = small_options(3);
    struct table_meta meta = write_table(&e, &options);
    char name[32];
    const void *bytes;
    size_t size;
    ck_ok(sim_contents(f.disk, FIXTURE_DIR, table_name(3, name), &bytes, &size, &f.error));
    uint8_t *good = malloc(size), *bad = malloc(size);
    memcpy(good, bytes, size);
    uint64_t starts[100];
    size_t frames = 0;
    for (uint64_t at = 0; at + 48 < size - 2 * 4096 && frames < 100; at += 8) {
        uint32_t stored = bytes_get_u32(good + at + 16);
        if (bytes_get_u32(good + at + 8) == 0x624c5331 && at + 48 + stored <= size)
            starts[frames++] = at;
    }
    ck_assert_uint_gt(frames, 5);
    for (int round = 0; round < 1500; round++) {
        memcpy(bad, good, size);
        for (uint64_t n = 1 + random_below(&r, 3); n > 0; n--) {
            uint64_t at = starts[random_below(&r, frames)];
            uint32_t stored = bytes_get_u32(good + at + 16);
            uint64_t where = at + 8 + random_below(&r, 40 + (stored > 200 ? 200 : stored));
            bad[where] ^= (uint8_t)(1u << random_below(&r, 8));
            stored = bytes_get_u32(bad + at + 16);
            if (at + 48 + stored <= size)
                bytes_put_u64(bad + at,
                              hash_bytes(bad + at + 8, 40 + stored, hash_place(f.env.uuid, 3, at)));
        }
        ck_ok(sim_overwrite(f.disk, FIXTURE_DIR, name, 0, bad, size, &f.error));
        struct table *t;
        lsm_error error = {0};
        if (table_open(&f.env, 3, meta.size, &t, &error) != LSM_OK)
            continue;
        struct iter *it;
        ck_ok(table_iter_new(t, &(struct table_iter_options){0}, &it, &error));
        uint64_t seen = 0;
        for (it->ops->first(it); it->valid && seen < 1000; iter_next(it))
            seen += 1 + it->entry->value.size / 1000;
        for (size_t i = 0; i < e.count; i++)
            iter_seek(it, e.at[i].key, e.at[i].trailer);
        iter_release(it);
        for (size_t i = 0; i < e.count; i++) {
            bool is_found;
            struct table_found found;
            epoch_enter();
            (void)table_get(t, e.at[i].key, hash_key(e.at[i].key.data, e.at[i].key.size),
                            ENTRY_MAX_SEQUENCE, 0, &is_found, &found, &error);
            epoch_exit();
        }
        table_close(t);
    }
    free(good);
    free(bad);
    table_meta_release(&meta);
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_failure_of_each_read_is_told_and_passes)
{
    fixture_open(1, 100000);
    struct entries e = small_entries(200);
    struct table_write_options options = small_options(3);
    struct table_meta meta = write_table(&e, &options);
    uint64_t before = sim_operation_count(f.disk, SIM_FAULT_READ);
    ck_assert_int_eq(read_all(3, meta.size, &e), LSM_OK);
    uint64_t reads = sim_operation_count(f.disk, SIM_FAULT_READ) - before;
    ck_assert_uint_gt(reads, 10);
    for (uint64_t n = 0; n < reads; n++) {
        sim_fail_after(f.disk, SIM_FAULT_READ, n, EIO, false);
        lsm_status status = read_all(3, meta.size, &e);
        ck_assert_msg(status == LSM_IO || status == LSM_OK, "read %u: %d", (unsigned)n, status);
        sim_fail_never(f.disk);
        ck_assert_int_eq(read_all(3, meta.size, &e), LSM_OK);
    }
    sim_fail_after(f.disk, SIM_FAULT_READ, 0, EIO, true);
    ck_assert_int_eq(read_all(3, meta.size, &e), LSM_IO);
    sim_fail_never(f.disk);
    table_meta_release(&meta);
    free_entries(&e);
    fixture_close();
}
END_TEST

/* A scan through windows, and probes through a queue, each read failing in turn. */
START_TEST(test_failure_of_each_queued_read_is_told_and_passes)
{
    fixture_open(1, 0);
    struct entries e = small_entries(600);
    struct table_write_options options = small_options(3);
    struct table_meta meta = write_table(&e, &options);
    struct table *t;
    ck_ok(table_open(&f.env, 3, meta.size, &t, &f.error));
    struct table_iter_options reading = {.readahead = 4096};
    size_t failures = 0;
    for (uint64_t n = 0; n < 1000; n++) {
        lsm_error error = {0};
        struct iter *it;
        ck_ok(table_iter_new(t, &reading, &it, &error));
        sim_fail_after(f.disk, SIM_FAULT_READ, n, EIO, false);
        size_t i = 0;
        for (it->ops->first(it); it->valid; iter_next(it), i++)
            ck_assert(slice_equal(it->entry->key, e.at[i].key));
        sim_fail_never(f.disk);
        lsm_status status = it->status;
        if (status != LSM_OK) {
            failures++;
            ck_assert_int_eq(status, LSM_IO);
            ck_assert_ptr_nonnull(strstr(error.message, "000003.sst"));
            for (i = 0, it->ops->first(it); it->valid; iter_next(it), i++)
                ck_assert(slice_equal(it->entry->key, e.at[i].key));
        }
        ck_assert_uint_eq(i, e.count);
        iter_release(it);
        if (status == LSM_OK)
            break;
    }
    ck_assert_uint_gt(failures, 3);
    struct table_probe p = {.table = t, .key = e.at[5].key, .max_sequence = ENTRY_MAX_SEQUENCE};
    p.hash = hash_key(p.key.data, p.key.size);
    enum table_probe_state state;
    epoch_enter();
    ck_ok(table_probe_begin(&p, &state, &f.error));
    ck_assert_int_eq(state, TABLE_PROBE_READ);
    p.request.os_errno = EIO;
    ck_assert_int_eq(table_probe_finish(&p, &state, &f.error), LSM_IO);
    ck_ok(table_probe_begin(&p, &state, &f.error));
    p.request.os_errno = 0;
    p.request.transferred = p.request.size - 1;
    ck_assert_int_eq(table_probe_finish(&p, &state, &f.error), LSM_CORRUPT);
    epoch_exit();
    table_close(t);
    table_meta_release(&meta);
    free_entries(&e);
    fixture_close();
}
END_TEST

static bool file_exists(const char *wanted)
{
    struct io_file *file;
    if (io_file_open(f.dir, wanted, 0, 0, &file, NULL) != LSM_OK)
        return false;
    io_file_close(file);
    return true;
}

/* Adds all and finishes; the first failure. */
static lsm_status try_write(const struct entries *e, const struct table_write_options *options,
                            struct table_meta *meta)
{
    struct table_writer *w;
    lsm_status status = table_writer_new(&f.env, options, &w, &f.error);
    if (status != LSM_OK)
        return status;
    for (size_t i = 0; i < e->count && status == LSM_OK; i++)
        status = table_writer_add(w, e->at[i].key, e->at[i].trailer, e->at[i].value, &f.error);
    if (status == LSM_OK)
        return table_writer_finish(w, meta, &f.error);
    table_writer_abort(w);
    return status;
}

START_TEST(test_failure_of_each_write_or_sync_removes_the_file)
{
    struct random_state r = random_seeded(7);
    fixture_open(1, 0);
    struct entries e = make_entries(&r, 3000, KEYS_BINARY, 1, 16000); /* some MiB */
    struct table_write_options options = write_options(5);
    struct table_meta meta;
    static const struct {
        enum sim_fault_kind kind;
        int os_errno;
        lsm_status status;
    } faults[] = {{SIM_FAULT_WRITE, EIO, LSM_IO},
                  {SIM_FAULT_WRITE, ENOSPC, LSM_NO_SPACE},
                  {SIM_FAULT_SYNC, EIO, LSM_IO}};
    for (size_t i = 0; i < 3; i++) {
        for (uint64_t n = 0;; n++) {
            sim_fail_after(f.disk, faults[i].kind, n, faults[i].os_errno, false);
            lsm_status status = try_write(&e, &options, &meta);
            sim_fail_never(f.disk);
            if (status == LSM_OK) {
                ck_assert_uint_gt(n, 0);
                table_meta_release(&meta);
                ck_ok(io_dir_unlink(f.dir, "000005.sst", NULL, &f.error));
                break;
            }
            ck_assert_int_eq(status, faults[i].status);
            ck_assert(!file_exists("000005.sst"));
        }
    }
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_failure_of_each_allocation_is_told)
{
    fixture_open(1, 50000);
    struct entries e = small_entries(150);
    struct table_write_options options = small_options(6);
    options.dictionary_size = 1024;
    struct table_meta meta;
    for (int64_t n = 0; n < 60; n++) {
        mem_fail_after(n, false);
        lsm_status status = try_write(&e, &options, &meta);
        mem_fail_after(-1, false);
        if (status == LSM_OK) { /* nothing failed, or something that one can do without */
            ck_assert_int_eq(read_all(6, meta.size, &e), LSM_OK);
            table_meta_release(&meta);
        } else {
            /* Opening may have made the file before it failed; it is an orphan then. */
            bool in_open = strstr(f.error.source_file, "engine/io/") != NULL;
            ck_assert_int_eq(status, LSM_NO_MEMORY);
            ck_assert(!file_exists("000006.sst") || in_open);
        }
        ck_ok(io_dir_unlink(f.dir, "000006.sst", NULL, &f.error));
    }
    meta = write_table(&e, &options);
    for (int64_t n = 0; n < 400; n++) {
        mem_fail_after(n, false);
        struct table *t = NULL;
        struct iter *it = NULL;
        lsm_status status = table_open(&f.env, 6, meta.size, &t, &f.error);
        if (status == LSM_OK)
            status =
                table_iter_new(t, &(struct table_iter_options){.readahead = 4096}, &it, &f.error);
        size_t seen = 0;
        if (status == LSM_OK) {
            for (it->ops->first(it); it->valid; iter_next(it))
                ck_assert(slice_equal(it->entry->key, e.at[seen++].key));
            status = it->status;
        }
        mem_fail_after(-1, false);
        ck_assert_msg(status == LSM_NO_MEMORY || (status == LSM_OK && seen == e.count),
                      "allocation %d: status %d, %u entries, %s", (int)n, (int)status,
                      (unsigned)seen, f.error.message);
        iter_release(it);
        table_close(t);
    }
    table_meta_release(&meta);
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_writer_refuses_what_is_out_of_order_or_empty)
{
    fixture_open(1, 0);
    struct table_write_options options = write_options(9);
    struct table_writer *w;
    struct table_meta meta;
    ck_ok(table_writer_new(&f.env, &options, &w, &f.error));
    ck_assert_int_eq(table_writer_new(&f.env, &options, &w, &f.error), LSM_EXISTS);
    ck_assert_int_eq(table_writer_finish(w, &meta, &f.error), LSM_INVALID);
    ck_assert(!file_exists("000009.sst"));
    ck_ok(table_writer_new(&f.env, &options, &w, &f.error));
    lsm_slice b = LSM_SLICE("b", 1), a = LSM_SLICE("a", 1);
    ck_ok(table_writer_add(w, b, 500, a, &f.error));
    ck_assert_int_eq(table_writer_add(w, a, 500, a, &f.error), LSM_CORRUPT);
    ck_assert_int_eq(table_writer_add(w, b, 500, a, &f.error), LSM_CORRUPT);
    ck_assert_int_eq(table_writer_add(w, b, 501, a, &f.error), LSM_CORRUPT);
    ck_ok(table_writer_add(w, b, 499, a, &f.error));
    table_writer_abort(w);
    ck_assert(!file_exists("000009.sst"));
    table_writer_abort(NULL);
    fixture_close();
}
END_TEST

START_TEST(test_writer_refuses_impossible_options)
{
    fixture_open(1, 0);
    struct table_writer *w = NULL;
    static char long_name[TABLE_MAX_NAME + 2];
    memset(long_name, 'n', TABLE_MAX_NAME + 1);
    struct table_write_options options = write_options(9);
    options.cf_name = long_name;
    ck_assert_int_eq(table_writer_new(&f.env, &options, &w, &f.error), LSM_INVALID);
    options = write_options(9);
    options.level = 256;
    ck_assert_int_eq(table_writer_new(&f.env, &options, &w, &f.error), LSM_INVALID);
    options = write_options(9);
    options.dictionary_size = (1 << 20) + 1;
    ck_assert_int_eq(table_writer_new(&f.env, &options, &w, &f.error), LSM_INVALID);
    ck_assert_ptr_null(w);
    ck_assert(!file_exists("000009.sst"));
    fixture_close();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("table_damage");
    TCase *c = tcase_create("damage");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, test_damage_of_any_bit_is_told);
    tcase_add_test(c, test_damage_of_both_footers_is_told);
    tcase_add_test(c, test_damage_truncation_at_any_length_is_told);
    tcase_add_test(c, test_damage_block_in_another_place_is_told);
    tcase_add_test(c, test_damage_table_of_another_database_or_number_says_so);
    tcase_add_test(c, test_damage_hostile_blocks_with_sound_checksums_are_harmless);
    tcase_add_test(c, test_failure_of_each_read_is_told_and_passes);
    tcase_add_test(c, test_failure_of_each_queued_read_is_told_and_passes);
    tcase_add_test(c, test_writer_refuses_impossible_options);
    tcase_add_test(c, test_failure_of_each_write_or_sync_removes_the_file);
    tcase_add_test(c, test_failure_of_each_allocation_is_told);
    tcase_add_test(c, test_writer_refuses_what_is_out_of_order_or_empty);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    const char *given = getenv("TEST_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
