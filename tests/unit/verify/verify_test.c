/*
 * Faults that only a program that writes databases can make: every checksum fits, and yet tables
 * contradict themselves, each other, or the manifest. Each is told by its id, once, with the keys
 * that it concerns, and nothing else is told.
 */
#include "engine/base/hash.h"
#include "engine/base/memory.h"
#include "engine/format/current.h"
#include "engine/format/edit.h"
#include "engine/format/file_name.h"
#include "engine/format/frame.h"
#include "engine/format/table_format.h"
#include "engine/format/table_properties.h"
#include "engine/inspect/walk_table.h"
#include "engine/sst/table.h"
#include "tests/lib/scratch.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_TABLES   8
#define MOST_FINDINGS 64
#define KEY_SIZE      12

static char scratch[SCRATCH_PATH_SIZE];
static lsm_error error;
static struct io *io;
static struct table_env env;
static struct table_meta metas[MOST_TABLES];
static size_t meta_count;
static uint64_t next_file_number;

struct told {
    char id[40];
    char file[40];
    lsm_severity severity;
    bool has_range;
    char first[KEY_SIZE + 1], last[KEY_SIZE + 1];
};
static struct told told[MOST_FINDINGS];
static size_t told_count, unmeasured_count;

#define ck_ok(call)                                                                                \
    do {                                                                                           \
        lsm_status status_ = (call);                                                               \
        ck_assert_msg(status_ == LSM_OK, "%s: %s", #call, error.message);                          \
    } while (0)

static void set_up(void)
{
    scratch_make(scratch);
    ck_ok(io_open("posix", &io, &error));
    env = (struct table_env){.io = io, .cache = block_cache_new(1 << 20)};
    ck_ok(io_dir_open(io, scratch, 0, 0, &env.dir, &error));
    for (size_t i = 0; i < sizeof env.uuid; i++)
        env.uuid[i] = (uint8_t)(i * 7 + 1);
    meta_count = 0;
    next_file_number = 100;
}

static void tear_down(void)
{
    for (size_t i = 0; i < meta_count; i++)
        table_meta_release(&metas[i]);
    block_cache_free(env.cache);
    io_dir_close(env.dir);
    io_close(io);
    scratch_remove(scratch);
}

/* ---- making a database ----------------------------------------------------------------------- */

static lsm_slice key_of(unsigned number, char key[KEY_SIZE + 1])
{
    snprintf(key, KEY_SIZE + 1, "key-%08u", number % 100000000u);
    return LSM_SLICE(key, KEY_SIZE);
}

/* Keys [first, limit), all of sequence number `sequence`. */
static struct table_meta *make_table(uint64_t number, uint32_t level, unsigned first,
                                     unsigned limit, uint64_t sequence, const uint64_t *replaced,
                                     size_t replaced_count)
{
    struct table_write_options options = {.number = number,
                                          .cf = 0,
                                          .cf_name = "default",
                                          .level = level,
                                          .block_size = 1024,
                                          .filter_bits = 12,
                                          .replaced = replaced,
                                          .replaced_count = replaced_count};
    struct table_writer *w = NULL;
    ck_ok(table_writer_new(&env, &options, &w, &error));
    for (unsigned i = first; i < limit; i++) {
        char key[KEY_SIZE + 1];
        ck_ok(table_writer_add(w, key_of(i, key), entry_trailer(sequence, ENTRY_PUT),
                               LSM_SLICE("0123456789abcdef", 16), &error));
    }
    struct table_meta *meta = &metas[meta_count++];
    *meta = (struct table_meta){.number = 0};
    ck_ok(table_writer_finish(w, meta, &error));
    return meta;
}

static void write_file(const char *name, const void *bytes, size_t size)
{
    struct io_file *file = NULL;
    ck_ok(io_file_open(env.dir, name, IO_FILE_WRITE | IO_FILE_CREATE, 0, &file, &error));
    ck_ok(io_file_write(file, bytes, size, 0, &error));
    io_file_close(file);
}

/* MANIFEST-000001 with the tables made so far, and CURRENT; closed, so there is no log. */
static void make_manifest(void)
{
    struct frame_place place = {.file_number = 1};
    memcpy(place.uuid, env.uuid, sizeof place.uuid);
    struct buffer bytes = {0}, payload = {0};
    struct frame_chain chain = frame_begin_file(&place, 1, &bytes);
    struct version_edit edit = {.is_snapshot = true,
                                .has_log = true,
                                .clean = true,
                                .last_sequence = 1000,
                                .next_file_number = next_file_number,
                                .next_cf = 1};
    lsm_cf_options options = LSM_CF_OPTIONS_INIT;
    ck_ok(edit_create_cf(&edit, 0, "default", &options, &error));
    for (size_t i = 0; i < meta_count; i++)
        ck_ok(edit_add_table(&edit, &metas[i], &error));
    ck_ok(edit_encode(&edit, &payload, &error));
    frame_append(&place, FRAME_EDIT, 0, buffer_slice(&payload), &chain, &bytes);
    write_file("MANIFEST-000001", bytes.data, bytes.size);
    char text[CURRENT_MAX_SIZE];
    write_file("CURRENT", text, current_encode(env.uuid, 1, text));
    edit_release(&edit);
    buffer_release(&bytes);
    buffer_release(&payload);
}

/* ---- changing a table so that its checksums fit again ---------------------------------------- */

typedef void (*change)(uint8_t *payload, struct table_frame *frame);

static void change_frame(uint64_t number, uint64_t offset, change apply)
{
    char name[FILE_NAME_SIZE];
    struct io_file *file = NULL;
    uint8_t head[TABLE_FRAME_SIZE];
    ck_ok(io_file_open(env.dir, file_name_make(FILE_TABLE, number, name), IO_FILE_WRITE, 0, &file,
                       &error));
    ck_ok(io_file_read_exact(file, head, sizeof head, offset, &error));
    size_t size = TABLE_FRAME_SIZE + bytes_get_u32(head + 16);
    uint8_t *bytes = malloc(size);
    ck_ok(io_file_read_exact(file, bytes, size, offset, &error));
    struct table_frame frame;
    struct table_problem problem;
    uint64_t seed = hash_place(env.uuid, number, offset);
    ck_assert_msg(table_frame_open((lsm_slice){bytes, size}, seed, &frame, &problem), "%s",
                  problem.what);
    apply(bytes + TABLE_FRAME_SIZE, &frame);
    table_frame_seal(bytes, &frame, seed);
    ck_ok(io_file_write(file, bytes, size, offset, &error));
    io_file_close(file);
    free(bytes);
}

static struct walk_table *open_walk(uint64_t number)
{
    struct walk_env walk_env = {.io = io, .dir = env.dir};
    memcpy(walk_env.uuid, env.uuid, sizeof walk_env.uuid);
    struct walk_table_options options = {.number = number};
    struct walk_table *walk = NULL;
    ck_ok(walk_table_open(&walk_env, &options, &walk, &error));
    return walk;
}

/* ---- verifying ------------------------------------------------------------------------------- */

static void copy_key(char to[KEY_SIZE + 1], lsm_slice key)
{
    size_t size = key.size < KEY_SIZE ? key.size : KEY_SIZE;
    memset(to, 0, KEY_SIZE + 1);
    if (size > 0)
        memcpy(to, key.data, size);
}

static bool take_finding(void *context, const lsm_finding *f)
{
    (void)context;
    ck_assert_uint_lt(told_count, MOST_FINDINGS);
    struct told *t = &told[told_count++];
    *t = (struct told){.severity = f->severity, .has_range = f->has_range};
    snprintf(t->id, sizeof t->id, "%s", f->id);
    snprintf(t->file, sizeof t->file, "%s", f->file == NULL ? "" : f->file);
    if (f->has_range && !f->first_open)
        copy_key(t->first, f->first);
    if (f->has_range && !f->last_open)
        copy_key(t->last, f->last);
    return true;
}

static void take_unmeasured(void *context, unsigned pass, const char *file, const char *cause)
{
    (void)context;
    (void)pass;
    printf("unmeasured: %s: %s\n", file == NULL ? "" : file, cause);
    unmeasured_count++;
}

static lsm_status verify(lsm_verify_level level, lsm_verify_result *result)
{
    lsm_verify_options options = LSM_VERIFY_OPTIONS_INIT;
    lsm_verify_result ignored;
    options.level = level;
    options.io = "posix";
    options.finding = take_finding;
    options.unmeasured = take_unmeasured;
    told_count = unmeasured_count = 0;
    return lsm_verify(scratch, &options, result == NULL ? &ignored : result, &error);
}

static void expect_only(lsm_verify_level level, const char *id)
{
    lsm_status status = verify(level, NULL);
    for (size_t i = 0; i < told_count; i++)
        printf("%s %s [%s, %s]\n", told[i].id, told[i].file, told[i].first, told[i].last);
    if (id == NULL) {
        ck_assert_uint_eq(told_count, 0);
        ck_assert_msg(status == LSM_OK, "%s", error.message);
        return;
    }
    ck_assert_int_eq(status, LSM_CORRUPT);
    ck_assert_uint_eq(told_count, 1);
    ck_assert_str_eq(told[0].id, id);
    ck_assert_int_eq(told[0].severity, LSM_DAMAGE);
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(test_verify_sound_tables_tell_nothing)
{
    make_table(10, 1, 0, 500, 5, NULL, 0);
    make_table(11, 1, 500, 900, 9, NULL, 0);
    make_table(12, 2, 0, 900, 2, NULL, 0);
    make_table(13, 0, 100, 200, 20, NULL, 0);
    make_table(14, 0, 150, 250, 21, NULL, 0);
    make_manifest();
    expect_only(LSM_VERIFY_QUICK, NULL);
    expect_only(LSM_VERIFY_NORMAL, NULL);
    expect_only(LSM_VERIFY_FULL, NULL);
    lsm_verify_result result;
    ck_ok(verify(LSM_VERIFY_FULL, &result));
    ck_assert_uint_eq(result.entries, 500 + 400 + 900 + 100 + 100);
    ck_assert_uint_eq(result.tables, 5);
    ck_assert_uint_eq(result.sequence, 1000);
    ck_assert_uint_eq(unmeasured_count, 0);
    ck_assert_int_eq(memcmp(result.uuid, env.uuid, sizeof env.uuid), 0);
}
END_TEST

START_TEST(test_verify_overlap_in_a_level_is_told)
{
    make_table(10, 1, 0, 500, 5, NULL, 0);
    make_table(11, 1, 450, 900, 9, NULL, 0);
    make_manifest();
    expect_only(LSM_VERIFY_QUICK, "7-level-overlap");
    ck_assert_str_eq(told[0].first, "key-00000450");
    ck_assert_str_eq(told[0].last, "key-00000499");
}
END_TEST

START_TEST(test_verify_newer_below_older_is_told_with_its_keys)
{
    make_table(10, 1, 0, 500, 5, NULL, 0);
    make_table(11, 2, 300, 700, 9, NULL, 0);
    make_manifest();
    expect_only(LSM_VERIFY_NORMAL, NULL);
    expect_only(LSM_VERIFY_FULL, "7-newer-below");
    ck_assert_str_eq(told[0].file, "000011.sst");
    ck_assert_str_eq(told[0].first, "key-00000300");
    ck_assert_str_eq(told[0].last, "key-00000499");
}
END_TEST

START_TEST(test_verify_table_beside_its_replacement_is_told)
{
    const uint64_t replaced[] = {10, 99};
    make_table(10, 0, 0, 500, 5, NULL, 0);
    make_table(11, 1, 0, 500, 3, replaced, 2);
    make_manifest();
    expect_only(LSM_VERIFY_QUICK, "7-replaced-alive");
    ck_assert_str_eq(told[0].file, "000010.sst");
}
END_TEST

START_TEST(test_verify_manifest_and_properties_that_differ_are_told)
{
    struct table_meta *meta = make_table(10, 1, 0, 500, 5, NULL, 0);
    meta->entry_count++;
    make_manifest();
    expect_only(LSM_VERIFY_QUICK, "7-meta-differs");
    ck_assert_str_eq(told[0].first, "key-00000000");
    ck_assert_str_eq(told[0].last, "key-00000499");
}
END_TEST

START_TEST(test_verify_unknown_family_is_told)
{
    struct table_write_options options = {
        .number = 10, .cf = 4, .cf_name = "gone", .level = 1, .block_size = 1024};
    struct table_writer *w = NULL;
    ck_ok(table_writer_new(&env, &options, &w, &error));
    ck_ok(table_writer_add(w, LSM_SLICE("k", 1), entry_trailer(1, ENTRY_PUT), LSM_SLICE("v", 1),
                           &error));
    ck_ok(table_writer_finish(w, &metas[meta_count++], &error));
    make_manifest();
    expect_only(LSM_VERIFY_NORMAL, "7-family-unknown");
}
END_TEST

START_TEST(test_verify_number_not_given_out_is_told)
{
    make_table(10, 1, 0, 500, 5, NULL, 0);
    next_file_number = 10;
    make_manifest();
    expect_only(LSM_VERIFY_QUICK, "1-file-counter");
}
END_TEST

static void clear_filter(uint8_t *payload, struct table_frame *frame)
{
    memset(payload, 0, frame->stored_size);
}

START_TEST(test_verify_filter_that_misses_keys_is_told_once)
{
    make_table(10, 1, 0, 500, 5, NULL, 0);
    make_manifest();
    struct walk_table *walk = open_walk(10);
    change_frame(10, walk->filter.extent.offset, clear_filter);
    walk_table_close(walk);
    expect_only(LSM_VERIFY_NORMAL, NULL);
    expect_only(LSM_VERIFY_FULL, "7-filter-misses");
}
END_TEST

/* The separator of block 3 becomes that of block 4, and so on: too high. */
static void raise_separator(uint8_t *payload, struct table_frame *frame)
{
    (void)frame;
    bytes_put_u64(payload + 16 + 3 * 8, bytes_get_u64(payload + 16 + 4 * 8) - 1);
}

START_TEST(test_verify_wrong_separator_is_told)
{
    make_table(10, 1, 0, 500, 5, NULL, 0);
    make_manifest();
    struct walk_table *walk = open_walk(10);
    ck_assert_uint_gt(walk->table_index.count, 5);
    change_frame(10, walk->index.extent.offset, raise_separator);
    walk_table_close(walk);
    expect_only(LSM_VERIFY_NORMAL, NULL);
    expect_only(LSM_VERIFY_FULL, "7-index-separator");
}
END_TEST

static void change_tag(uint8_t *payload, struct table_frame *frame)
{
    (void)frame;
    payload[BLOCK_HEADER_SIZE + 2] ^= 1;
}

START_TEST(test_verify_wrong_tag_is_told)
{
    make_table(10, 1, 0, 500, 5, NULL, 0);
    make_manifest();
    change_frame(10, 0, change_tag);
    expect_only(LSM_VERIFY_NORMAL, NULL);
    expect_only(LSM_VERIFY_FULL, "4-block-tags");
}
END_TEST

/* Entries 1 and 2 change places, by their heads. */
static void swap_heads(uint8_t *payload, struct table_frame *frame)
{
    (void)frame;
    struct block_view v = block_view_of(payload);
    uint8_t *heads = payload + (v.heads - v.data);
    uint64_t second = bytes_get_u64(heads + 8), third = bytes_get_u64(heads + 16);
    bytes_put_u64(heads + 8, third);
    bytes_put_u64(heads + 16, second);
}

START_TEST(test_verify_entries_out_of_order_are_told)
{
    make_table(10, 1, 0, 500, 5, NULL, 0);
    make_manifest();
    change_frame(10, 0, swap_heads);
    expect_only(LSM_VERIFY_NORMAL, "4-block-order");
}
END_TEST

static void change_family(uint8_t *payload, struct table_frame *frame)
{
    (void)payload;
    frame->cf = 3;
}
static void change_count(uint8_t *payload, struct table_frame *frame)
{
    (void)payload;
    frame->entry_count++;
}
static void change_sequence(uint8_t *payload, struct table_frame *frame)
{
    (void)payload;
    frame->max_sequence++;
}
static void change_columns(uint8_t *payload, struct table_frame *frame)
{
    (void)frame;
    payload[9] = 1;
}
static void change_raw_size(uint8_t *payload, struct table_frame *frame)
{
    (void)payload;
    frame->raw_size++;
}
static void change_type(uint8_t *payload, struct table_frame *frame)
{
    (void)frame;
    bytes_put_u64(payload + 16, entry_trailer(5, ENTRY_MERGE));
}
static void claim_bomb(uint8_t *payload, struct table_frame *frame)
{
    (void)payload;
    frame->compression = TABLE_ZSTD;
    frame->raw_size = 1u << 30;
}
static void claim_dictionary(uint8_t *payload, struct table_frame *frame)
{
    (void)payload;
    frame->compression = TABLE_ZSTD;
}

START_TEST(test_verify_block_that_contradicts_itself_is_told)
{
    static const struct {
        change apply;
        const char *id;
    } cases[] = {
        {change_family, "4-block-family"},         {change_count, "4-block-count"},
        {change_sequence, "4-block-sequence"},     {change_columns, "4-block-malformed"},
        {change_raw_size, "4-block-size"},         {change_type, "4-entry-type"},
        {claim_dictionary, "4-block-undecodable"},
    };
    make_table(10, 1, 0, 500, 5, NULL, 0);
    make_manifest();
    change_frame(10, 0, cases[_i].apply);
    expect_only(LSM_VERIFY_NORMAL, cases[_i].id);
    expect_only(LSM_VERIFY_FULL, cases[_i].id);
}
END_TEST

/* A block that says that it unpacks to a gigabyte takes no gigabyte. */
START_TEST(test_verify_size_bomb_is_not_unpacked)
{
    make_table(10, 1, 0, 500, 5, NULL, 0);
    make_manifest();
    change_frame(10, 0, claim_bomb);
    lsm_status status = verify(LSM_VERIFY_NORMAL, NULL);
    ck_assert_msg(status == LSM_CORRUPT || unmeasured_count == 1, "%s", error.message);
}
END_TEST

static uint32_t field_of_property; /* which property is changed */

static void change_property(uint8_t *payload, struct table_frame *frame)
{
    struct table_properties p;
    struct buffer bytes = {0};
    ck_ok(table_properties_decode((lsm_slice){payload, frame->stored_size}, &p, &error));
    switch (field_of_property) {
    case 0:
        p.key_count--;
        break;
    case 1:
        p.digest ^= 1;
        break;
    case 2:
        p.raw_size--;
        break;
    default:
        p.block_count--;
    }
    ck_ok(table_properties_encode(&p, &bytes, &error));
    ck_assert_uint_eq(bytes.size, frame->stored_size);
    memcpy(payload, bytes.data, bytes.size);
    buffer_release(&bytes);
    table_properties_release(&p);
}

START_TEST(test_verify_properties_that_do_not_fit_the_blocks_are_told)
{
    static const char *const ids[] = {"7-property-counts", "7-digest", "7-property-counts",
                                      "7-index-blocks"};
    struct table_meta *meta = make_table(10, 1, 0, 500, 5, NULL, 0);
    struct walk_table *walk = open_walk(10);
    field_of_property = (uint32_t)_i;
    if (_i == 2)
        meta->raw_size--;
    make_manifest();
    change_frame(10, walk->properties.extent.offset, change_property);
    walk_table_close(walk);
    expect_only(LSM_VERIFY_FULL, ids[_i]);
}
END_TEST

START_TEST(test_verify_table_of_another_database_is_foreign)
{
    make_table(10, 1, 0, 500, 5, NULL, 0);
    env.uuid[0] ^= 1;
    make_manifest();
    expect_only(LSM_VERIFY_FULL, "3-table-foreign");
    ck_assert(told[0].has_range);
}
END_TEST

START_TEST(test_verify_exchanged_tables_are_told_each)
{
    make_table(10, 1, 0, 500, 5, NULL, 0);
    make_table(11, 1, 500, 1000, 5, NULL, 0);
    make_manifest();
    ck_ok(io_dir_rename(env.dir, "000010.sst", "000012.sst", &error));
    ck_ok(io_dir_rename(env.dir, "000011.sst", "000010.sst", &error));
    ck_ok(io_dir_rename(env.dir, "000012.sst", "000011.sst", &error));
    ck_assert_int_eq(verify(LSM_VERIFY_NORMAL, NULL), LSM_CORRUPT);
    ck_assert_uint_eq(told_count, 2);
    ck_assert_str_eq(told[0].id, "3-table-foreign");
    ck_assert_str_eq(told[1].id, "3-table-foreign");
}
END_TEST

static bool refuse_finding(void *context, const lsm_finding *f)
{
    (void)f;
    ++*(unsigned *)context;
    return false;
}

START_TEST(test_verify_callback_that_refuses_cancels)
{
    lsm_verify_options options = LSM_VERIFY_OPTIONS_INIT;
    unsigned calls = 0;
    make_table(10, 1, 0, 500, 5, NULL, 0);
    make_table(11, 1, 450, 900, 9, NULL, 0);
    make_table(12, 1, 800, 999, 9, NULL, 0);
    make_manifest();
    options.context = &calls;
    options.finding = refuse_finding;
    ck_assert_int_eq(lsm_verify(scratch, &options, NULL, &error), LSM_CANCELLED);
    ck_assert_uint_eq(calls, 1);
    options.finding = NULL;
    options.first_error = true;
    ck_assert_int_eq(lsm_verify(scratch, &options, NULL, &error), LSM_CORRUPT);
}
END_TEST

START_TEST(test_verify_list_of_tables_over_the_memory_is_unmeasured)
{
    lsm_verify_options options = LSM_VERIFY_OPTIONS_INIT;
    make_table(10, 1, 0, 300, 5, NULL, 0);
    make_manifest();
    options.io = "posix";
    options.finding = take_finding;
    options.unmeasured = take_unmeasured;
    options.memory_limit = 64; /* less than what a table takes */
    told_count = unmeasured_count = 0;
    ck_ok(lsm_verify(scratch, &options, NULL, &error));
    ck_assert_uint_eq(told_count, 0);
    ck_assert_uint_eq(unmeasured_count, 1);
}
END_TEST

START_TEST(test_verify_out_of_memory_anywhere_is_an_error)
{
    make_table(10, 1, 0, 300, 5, NULL, 0);
    make_table(11, 2, 0, 300, 9, NULL, 0);
    make_manifest();
    for (int64_t count = 0;; count++) {
        mem_fail_after(count, false);
        lsm_status status = verify(LSM_VERIFY_FULL, NULL);
        mem_fail_after(-1, false);
        if (status == LSM_CORRUPT && unmeasured_count == 0)
            break; /* it came to the inversion, with all the memory that it wanted */
        ck_assert_msg(status == LSM_NO_MEMORY || unmeasured_count > 0 || status == LSM_CORRUPT ||
                          status == LSM_BUSY,
                      "allocation %lld: %s: %s", (long long)count, lsm_strerror(status),
                      error.message);
    }
}
END_TEST

START_TEST(test_verify_findings_have_unique_ids_of_their_pass)
{
    const char *meaning, *repair;
    size_t count = 0;
    for (const char *id; (id = lsm_finding_id(count, &meaning, &repair)) != NULL; count++) {
        ck_assert_int_eq(finding_parse(id), (int)count);
        ck_assert_uint_eq((unsigned)(id[0] - '0'), finding_kind_of(finding_parse(id))->pass);
        ck_assert(id[1] == '-' && meaning[0] != '\0' && repair[0] != '\0');
    }
    ck_assert_uint_ge(count, 60);
    ck_assert_int_eq(finding_parse("4-nothing"), FINDING_COUNT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("verify");
    TCase *tests = tcase_create("contradictions");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_verify_sound_tables_tell_nothing);
    tcase_add_test(tests, test_verify_overlap_in_a_level_is_told);
    tcase_add_test(tests, test_verify_newer_below_older_is_told_with_its_keys);
    tcase_add_test(tests, test_verify_table_beside_its_replacement_is_told);
    tcase_add_test(tests, test_verify_manifest_and_properties_that_differ_are_told);
    tcase_add_test(tests, test_verify_unknown_family_is_told);
    tcase_add_test(tests, test_verify_number_not_given_out_is_told);
    tcase_add_test(tests, test_verify_filter_that_misses_keys_is_told_once);
    tcase_add_test(tests, test_verify_wrong_separator_is_told);
    tcase_add_test(tests, test_verify_wrong_tag_is_told);
    tcase_add_test(tests, test_verify_entries_out_of_order_are_told);
    tcase_add_loop_test(tests, test_verify_block_that_contradicts_itself_is_told, 0, 7);
    tcase_add_test(tests, test_verify_size_bomb_is_not_unpacked);
    tcase_add_loop_test(tests, test_verify_properties_that_do_not_fit_the_blocks_are_told, 0, 4);
    tcase_add_test(tests, test_verify_table_of_another_database_is_foreign);
    tcase_add_test(tests, test_verify_exchanged_tables_are_told_each);
    tcase_add_test(tests, test_verify_callback_that_refuses_cancels);
    tcase_add_test(tests, test_verify_list_of_tables_over_the_memory_is_unmeasured);
    tcase_add_test(tests, test_verify_out_of_memory_anywhere_is_an_error);
    tcase_add_test(tests, test_verify_findings_have_unique_ids_of_their_pass);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
