/* Edits to bytes and back, and hostile bytes behind a valid checksum: never a crash, bounded
 * memory. */
#include "engine/format/edit.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/base/status.h"
#include "engine/format/entry.h"
#include "proto/manifest.pb-c.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static lsm_slice text(const char *s)
{
    return LSM_SLICE(s, strlen(s));
}

static struct table_meta sample_table(uint64_t number)
{
    return (struct table_meta){.number = number,
                               .size = 12345,
                               .cf = 3,
                               .level = 4,
                               .smallest = LSM_SLICE("a\0b", 3),
                               .largest = LSM_SLICE("z\0", 2),
                               .min_sequence = 5,
                               .max_sequence = ENTRY_MAX_SEQUENCE,
                               .entry_count = 10,
                               .delete_count = 10,
                               .raw_size = 99,
                               .oldest_time = 1000 + number,
                               .newest_time = UINT64_MAX,
                               .compress_later = number % 2 == 0};
}

static const lsm_cf_options sample_options = {.struct_size = sizeof(lsm_cf_options),
                                              .compression = LSM_COMPRESSION_ZSTD,
                                              .compression_level = -5,
                                              .dictionary_size = 1,
                                              .block_size = 2,
                                              .filter_bits = LSM_NO_FILTER,
                                              .table_size = UINT64_MAX,
                                              .level_base_size = 4,
                                              .level_ratio = 5,
                                              .level0_trigger = 6,
                                              .level0_slowdown = 7,
                                              .level0_stop = 8,
                                              .compaction = LSM_COMPACTION_TIERED,
                                              .ttl = 9,
                                              .fifo_size = 10,
                                              .size_ratio = 11,
                                              .min_merge_width = 12,
                                              .max_size_amplification = 13,
                                              .compression_above = -14,
                                              .blob_threshold = 15};

/* Two blob files, and a table that refers to both. */
static void add_blobs(struct version_edit *e)
{
    struct blob_use uses[] = {{.number = 30, .entry_count = 2, .bytes = UINT64_MAX},
                              {.number = 31, .entry_count = 3, .bytes = 1}};
    struct table_meta refers = sample_table(21);
    refers.delete_count = 5;
    refers.blobs = uses;
    refers.blob_count = 2;
    ck_assert_int_eq(edit_add_table(e, &refers, NULL), LSM_OK);
    for (uint64_t i = 30; i < 32; i++) {
        struct blob_meta blob = {
            .number = i, .size = UINT64_MAX, .cf = 3, .entry_count = i, .raw_size = 7};
        ck_assert_int_eq(edit_add_blob(e, &blob, NULL), LSM_OK);
    }
}

static struct version_edit sample_edit(void)
{
    struct version_edit e = {.is_snapshot = true,
                             .has_log = true,
                             .log_position = 1,
                             .log_chain = UINT64_MAX,
                             .clean = true,
                             .last_sequence = 77,
                             .next_file_number = 88,
                             .next_cf = 9};
    ck_assert_int_eq(edit_create_cf(&e, 0, "default", &sample_options, NULL), LSM_OK);
    ck_assert_int_eq(edit_create_cf(&e, 3, "\xff other", &sample_options, NULL), LSM_OK);
    ck_assert_int_eq(edit_rename_cf(&e, 3, "renamed", NULL), LSM_OK);
    for (uint32_t i = 0; i < 5; i++)
        ck_assert_int_eq(edit_drop_cf(&e, i * 1000, NULL), LSM_OK);
    for (uint64_t i = 1; i < 20; i++) {
        struct table_meta meta = sample_table(i);
        ck_assert_int_eq(edit_add_table(&e, &meta, NULL), LSM_OK);
        ck_assert_int_eq(edit_remove_table(&e, 3, (uint32_t)i % 7, i << 40, NULL), LSM_OK);
    }
    struct table_meta empty_key = sample_table(20);
    empty_key.smallest = empty_key.largest = LSM_SLICE("", 0);
    ck_assert_int_eq(edit_add_table(&e, &empty_key, NULL), LSM_OK);
    add_blobs(&e);
    return e;
}

static struct buffer encode(const struct version_edit *e)
{
    struct buffer bytes = {0};
    ck_assert_int_eq(edit_encode(e, &bytes, NULL), LSM_OK);
    return bytes;
}

static void assert_family_equal(const struct edit_cf *a, const struct edit_cf *b)
{
    ck_assert_uint_eq(a->id, b->id);
    ck_assert_str_eq(a->name, b->name);
    const lsm_cf_options *x = &a->options, *y = &b->options;
    ck_assert(x->compression == y->compression && x->compression_level == y->compression_level);
    ck_assert(x->dictionary_size == y->dictionary_size && x->block_size == y->block_size);
    ck_assert(x->filter_bits == y->filter_bits && x->table_size == y->table_size);
    ck_assert(x->level_base_size == y->level_base_size && x->level_ratio == y->level_ratio);
    ck_assert(x->level0_trigger == y->level0_trigger && x->level0_stop == y->level0_stop);
    ck_assert(x->level0_slowdown == y->level0_slowdown);
    ck_assert(x->compaction == y->compaction && x->ttl == y->ttl && x->fifo_size == y->fifo_size);
    ck_assert(x->size_ratio == y->size_ratio && x->min_merge_width == y->min_merge_width);
    ck_assert(x->max_size_amplification == y->max_size_amplification);
    ck_assert_int_eq(x->compression_above, y->compression_above);
    ck_assert_uint_eq(x->blob_threshold, y->blob_threshold);
}

START_TEST(test_edit_options_alone_round_trip_and_bear_any_bytes)
{
    struct edit_cf family = {.name = "", .options = sample_options}, decoded = {.name = ""};
    struct buffer bytes = {0};
    ck_assert_int_eq(edit_options_encode(&family.options, &bytes, NULL), LSM_OK);
    ck_assert_int_eq(edit_options_decode(buffer_slice(&bytes), &decoded.options, NULL), LSM_OK);
    assert_family_equal(&family, &decoded);
    for (size_t bit = 0; bit < 8 * bytes.size; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        lsm_status status = edit_options_decode(buffer_slice(&bytes), &decoded.options, NULL);
        ck_assert(status == LSM_OK || status == LSM_CORRUPT || status == LSM_NEWER_FORMAT);
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buffer_release(&bytes);
}
END_TEST

static void assert_table_equal(const struct table_meta *a, const struct table_meta *b)
{
    ck_assert(slice_equal(a->smallest, b->smallest) && slice_equal(a->largest, b->largest));
    ck_assert(a->number == b->number && a->size == b->size && a->cf == b->cf);
    ck_assert(a->level == b->level && a->raw_size == b->raw_size);
    ck_assert(a->oldest_time == b->oldest_time && a->newest_time == b->newest_time);
    ck_assert(a->min_sequence == b->min_sequence && a->max_sequence == b->max_sequence);
    ck_assert(a->entry_count == b->entry_count && a->delete_count == b->delete_count);
    ck_assert(a->compress_later == b->compress_later);
    ck_assert_uint_eq(a->blob_count, b->blob_count);
    for (size_t i = 0; i < a->blob_count; i++)
        ck_assert(a->blobs[i].number == b->blobs[i].number &&
                  a->blobs[i].entry_count == b->blobs[i].entry_count &&
                  a->blobs[i].bytes == b->blobs[i].bytes);
}

static void assert_edit_equal(const struct version_edit *a, const struct version_edit *b)
{
    ck_assert(a->is_snapshot == b->is_snapshot && a->has_log == b->has_log && a->clean == b->clean);
    ck_assert_uint_eq(a->log_position, b->log_position);
    ck_assert_uint_eq(a->log_chain, b->log_chain);
    ck_assert_uint_eq(a->last_sequence, b->last_sequence);
    ck_assert_uint_eq(a->next_file_number, b->next_file_number);
    ck_assert_uint_eq(a->next_cf, b->next_cf);
    ck_assert_uint_eq(a->created_count, b->created_count);
    for (size_t i = 0; i < a->created_count; i++)
        assert_family_equal(&a->created[i], &b->created[i]);
    ck_assert_uint_eq(a->renamed_count, b->renamed_count);
    for (size_t i = 0; i < a->renamed_count; i++)
        assert_family_equal(&a->renamed[i], &b->renamed[i]);
    ck_assert_uint_eq(a->dropped_count, b->dropped_count);
    for (size_t i = 0; i < a->dropped_count; i++)
        ck_assert_uint_eq(a->dropped[i], b->dropped[i]);
    ck_assert_uint_eq(a->added_count, b->added_count);
    for (size_t i = 0; i < a->added_count; i++)
        assert_table_equal(&a->added[i], &b->added[i]);
    ck_assert_uint_eq(a->removed_count, b->removed_count);
    for (size_t i = 0; i < a->removed_count; i++) {
        ck_assert_uint_eq(a->removed[i].cf, b->removed[i].cf);
        ck_assert_uint_eq(a->removed[i].level, b->removed[i].level);
        ck_assert_uint_eq(a->removed[i].number, b->removed[i].number);
    }
    ck_assert_uint_eq(a->blob_count, b->blob_count);
    for (size_t i = 0; i < a->blob_count; i++) {
        const struct blob_meta *x = &a->blobs[i], *y = &b->blobs[i];
        ck_assert(x->number == y->number && x->size == y->size && x->cf == y->cf);
        ck_assert(x->entry_count == y->entry_count && x->raw_size == y->raw_size);
    }
}

START_TEST(test_edit_every_field_comes_back)
{
    struct version_edit e = sample_edit(), back;
    struct buffer bytes = encode(&e);
    ck_assert_int_eq(edit_decode(buffer_slice(&bytes), &back, NULL), LSM_OK);
    assert_edit_equal(&e, &back);
    struct buffer again = encode(&back);
    ck_assert(slice_equal(buffer_slice(&bytes), buffer_slice(&again)));
    buffer_release(&bytes);
    buffer_release(&again);
    edit_release(&e);
    edit_release(&back);
}
END_TEST

START_TEST(test_edit_empty_comes_back)
{
    struct version_edit e = {0}, back = {.next_cf = 1};
    struct buffer bytes = encode(&e);
    ck_assert_uint_eq(bytes.size, 0);
    ck_assert_int_eq(edit_decode(buffer_slice(&bytes), &back, NULL), LSM_OK);
    assert_edit_equal(&e, &back);
    buffer_release(&bytes);
}
END_TEST

/* Whatever the bytes, decoding ends with an edit that encodes, or with an error that says why. */
static void decode_hostile(const uint8_t *data, size_t size)
{
    struct version_edit e;
    lsm_error error = {0};
    lsm_status status = edit_decode(LSM_SLICE(data, size), &e, &error);
    if (status == LSM_OK) {
        struct buffer bytes = encode(&e);
        buffer_release(&bytes);
        edit_release(&e);
    } else {
        ck_assert(status == LSM_CORRUPT || status == LSM_NEWER_FORMAT);
        ck_assert_int_eq(error.status, status);
        ck_assert(error.message[0] != '\0');
    }
}

START_TEST(test_edit_every_flipped_bit_is_survived)
{
    struct version_edit e = sample_edit();
    struct buffer bytes = encode(&e);
    for (size_t i = 0; i < bytes.size * 8; i++) {
        bytes.data[i / 8] ^= (uint8_t)(1u << (i % 8));
        decode_hostile(bytes.data, bytes.size);
        bytes.data[i / 8] ^= (uint8_t)(1u << (i % 8));
    }
    for (size_t size = 0; size < bytes.size; size++)
        decode_hostile(bytes.data, size);
    buffer_release(&bytes);
    edit_release(&e);
}
END_TEST

START_TEST(test_edit_random_damage_is_survived)
{
    uint64_t seed = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    struct random_state r = random_seeded(seed);
    struct version_edit e = sample_edit();
    struct buffer bytes = encode(&e);
    uint8_t *copy = malloc(bytes.size);
    for (int round = 0; round < 20000; round++) {
        memcpy(copy, bytes.data, bytes.size);
        for (uint64_t i = 1 + random_below(&r, 8); i > 0; i--)
            copy[random_below(&r, bytes.size)] = (uint8_t)random_next(&r);
        decode_hostile(copy, bytes.size);
    }
    free(copy);
    buffer_release(&bytes);
    edit_release(&e);
}
END_TEST

START_TEST(test_edit_memory_bomb_is_refused)
{
    /* A megabyte of empty tables wants 92 times its size. */
    size_t size = (size_t)1 << 20;
    uint8_t *bytes = malloc(size);
    for (size_t i = 0; i + 1 < size; i += 2) {
        bytes[i] = 10 << 3 | 2; /* field 10, a message, */
        bytes[i + 1] = 0;       /* of no bytes */
    }
    struct version_edit e;
    lsm_error error;
    ck_assert_int_eq(edit_decode(LSM_SLICE(bytes, size), &e, &error), LSM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "memory"));
    free(bytes);
}
END_TEST

/* One broken rule each. */
static lsm_status decode_changed(void (*change)(struct version_edit *), lsm_error *error)
{
    struct version_edit e = sample_edit(), back;
    change(&e);
    struct buffer bytes = encode(&e);
    lsm_status status = edit_decode(buffer_slice(&bytes), &back, error);
    if (status == LSM_OK)
        edit_release(&back);
    buffer_release(&bytes);
    edit_release(&e);
    return status;
}

static void change_number(struct version_edit *e)
{
    e->added[3].number = 0;
}
static void change_size(struct version_edit *e)
{
    e->added[3].size = 0;
}
static void change_level(struct version_edit *e)
{
    e->added[3].level = EDIT_LEVEL_COUNT;
}
static void change_removed_level(struct version_edit *e)
{
    e->removed[0].level = 7;
}
static void change_order(struct version_edit *e)
{
    *(uint8_t *)(uintptr_t)e->added[3].smallest.data = 0xff;
}
static void change_sequences(struct version_edit *e)
{
    e->added[3].min_sequence = UINT64_MAX;
}
static void change_sequence(struct version_edit *e)
{
    e->added[3].max_sequence = ENTRY_MAX_SEQUENCE + 1;
}
static void change_count(struct version_edit *e)
{
    e->added[3].entry_count = 0;
}
static void change_deletes(struct version_edit *e)
{
    e->added[3].delete_count = 11;
}
static void change_last(struct version_edit *e)
{
    e->last_sequence = UINT64_MAX;
}
static void change_name(struct version_edit *e)
{
    e->created[0].name[0] = '\0';
}
static void change_compression(struct version_edit *e)
{
    e->created[0].options.compression = (lsm_compression)3;
}

static struct blob_use *last_uses(struct version_edit *e)
{
    return e->added[e->added_count - 1].blobs;
}

static void change_blob_order(struct version_edit *e)
{
    last_uses(e)[0].number = 31;
}

static void change_blob_number(struct version_edit *e)
{
    last_uses(e)[0].number = 0;
}

static void change_blob_entries(struct version_edit *e)
{
    last_uses(e)[1].entry_count = 4;
}

static void change_blob_count(struct version_edit *e)
{
    last_uses(e)[0].entry_count = 0;
}

static void change_blob_size(struct version_edit *e)
{
    e->blobs[1].size = 0;
}

START_TEST(test_edit_each_broken_rule_of_blob_files_is_corrupt)
{
    static void (*const changes[])(struct version_edit *) = {change_blob_order, change_blob_number,
                                                             change_blob_entries, change_blob_count,
                                                             change_blob_size};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        lsm_error error = {0};
        ck_assert_msg(decode_changed(changes[i], &error) == LSM_CORRUPT, "change %zu", i);
        ck_assert(error.message[0] != '\0');
    }
}
END_TEST

START_TEST(test_edit_each_broken_rule_is_corrupt)
{
    static void (*const changes[])(struct version_edit *) = {
        change_number,  change_size,      change_level,    change_removed_level,
        change_order,   change_sequences, change_sequence, change_count,
        change_deletes, change_last,      change_name,     change_compression};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        lsm_error error = {0};
        ck_assert_msg(decode_changed(changes[i], &error) == LSM_CORRUPT, "change %zu", i);
        ck_assert(error.message[0] != '\0');
    }
}
END_TEST

START_TEST(test_edit_name_with_a_zero_byte_is_corrupt)
{
    Lsm__Manifest__VersionEdit e = LSM__MANIFEST__VERSION_EDIT__INIT;
    Lsm__Manifest__Family family = LSM__MANIFEST__FAMILY__INIT, *families[] = {&family};
    Lsm__Manifest__Options options = LSM__MANIFEST__OPTIONS__INIT;
    uint8_t name[] = "a\0b";
    family.name = (ProtobufCBinaryData){3, name};
    family.options = &options;
    e.n_created = 1;
    e.created = families;
    uint8_t bytes[64];
    size_t size = lsm__manifest__version_edit__pack(&e, bytes);
    struct version_edit back;
    ck_assert_int_eq(edit_decode(LSM_SLICE(bytes, size), &back, NULL), LSM_CORRUPT);
    family.name.len = 1;
    family.options = NULL;
    size = lsm__manifest__version_edit__pack(&e, bytes);
    ck_assert_int_eq(edit_decode(LSM_SLICE(bytes, size), &back, NULL), LSM_CORRUPT);
}
END_TEST

START_TEST(test_edit_unknown_fields_are_skipped_but_not_incompatible_ones)
{
    struct version_edit back;
    /* field 100, varint 5 */
    static const uint8_t unknown[] = {0xa0, 0x06, 5, 6 << 3, 9};
    ck_assert_int_eq(edit_decode(LSM_SLICE(unknown, sizeof unknown), &back, NULL), LSM_OK);
    ck_assert_uint_eq(back.next_cf, 9);
    edit_release(&back);
    static const uint8_t incompatible[] = {1 << 3, 4};
    lsm_error error;
    ck_assert_int_eq(edit_decode(LSM_SLICE(incompatible, sizeof incompatible), &back, &error),
                     LSM_NEWER_FORMAT);
}
END_TEST

/* What a reader has to know; the edit is released. */
static uint32_t needs_of(struct version_edit edit)
{
    struct buffer bytes = {0};
    ck_assert_int_eq(edit_encode(&edit, &bytes, NULL), LSM_OK);
    Lsm__Manifest__VersionEdit *m =
        lsm__manifest__version_edit__unpack(NULL, bytes.size, bytes.data);
    ck_assert_ptr_nonnull(m);
    uint32_t incompatible = m->incompatible;
    lsm__manifest__version_edit__free_unpacked(m, NULL);
    buffer_release(&bytes);
    edit_release(&edit);
    return incompatible;
}

static uint32_t incompatible_of(lsm_compaction style)
{
    struct version_edit edit = {0};
    lsm_cf_options options = sample_options;
    options.compaction = style;
    ck_assert_int_eq(edit_create_cf(&edit, 1, "one", &options, NULL), LSM_OK);
    return needs_of(edit);
}

/* An older library would remove the values. */
START_TEST(test_edit_blob_files_are_for_those_that_know_them)
{
    struct version_edit with = {0}, without = {0}, refers = {0};
    struct table_meta meta = sample_table(1);
    add_blobs(&with);
    ck_assert_uint_eq(needs_of(with), 2);
    ck_assert_int_eq(edit_add_table(&without, &meta, NULL), LSM_OK);
    ck_assert_uint_eq(needs_of(without), 0);
    add_blobs(&refers);
    refers.blob_count = 0;
    ck_assert_uint_eq(needs_of(refers), 2);
}
END_TEST

static void change_style(struct version_edit *e)
{
    e->created[0].options.compaction = (lsm_compaction)4;
}

/* An older library would merge such a family level by level, and forget what was asked for. */
START_TEST(test_edit_styles_are_for_those_that_know_them)
{
    ck_assert_uint_eq(incompatible_of(LSM_COMPACTION_DEFAULT), 0);
    ck_assert_uint_eq(incompatible_of(LSM_COMPACTION_LEVELED), 0);
    ck_assert_uint_eq(incompatible_of(LSM_COMPACTION_TIERED), 1);
    ck_assert_uint_eq(incompatible_of(LSM_COMPACTION_FIFO), 1);
    lsm_error error = {0};
    ck_assert_int_eq(decode_changed(change_style, &error), LSM_NEWER_FORMAT);
    ck_assert(strstr(error.message, "compaction style 4") != NULL);
}
END_TEST

START_TEST(test_edit_without_memory_fails_cleanly)
{
    struct version_edit e = sample_edit();
    struct buffer bytes = encode(&e);
    for (int64_t n = 0;; n++) {
        struct version_edit back;
        mem_fail_after(n, false);
        lsm_status status = edit_decode(buffer_slice(&bytes), &back, NULL);
        mem_fail_after(-1, false);
        if (status == LSM_OK) {
            edit_release(&back);
            break;
        }
        ck_assert_int_eq(status, LSM_NO_MEMORY);
    }
    for (int64_t n = 0; n < 2; n++) {
        struct buffer again = {0};
        mem_fail_after(n, false);
        ck_assert_int_eq(edit_encode(&e, &again, NULL), LSM_NO_MEMORY);
        mem_fail_after(-1, false);
        buffer_release(&again);
    }
    buffer_release(&bytes);
    edit_release(&e);
}
END_TEST

START_TEST(test_edit_over_its_limit_is_too_large)
{
    struct version_edit e = {0};
    uint8_t *key = calloc(1, LSM_MAX_KEY_SIZE);
    struct table_meta meta = sample_table(1);
    meta.smallest = text("");
    meta.largest = LSM_SLICE(key, LSM_MAX_KEY_SIZE);
    for (size_t i = 0; i * LSM_MAX_KEY_SIZE < EDIT_MAX_SIZE + 2 * LSM_MAX_KEY_SIZE; i++)
        ck_assert_int_eq(edit_add_table(&e, &meta, NULL), LSM_OK);
    struct buffer bytes = {0};
    ck_assert_int_eq(edit_encode(&e, &bytes, NULL), LSM_TOO_LARGE);
    e.added_count -= 10;
    lsm_status status = edit_encode(&e, &bytes, NULL);
    ck_assert_int_eq(status, LSM_OK);
    struct version_edit back;
    ck_assert_int_eq(edit_decode(buffer_slice(&bytes), &back, NULL), LSM_OK);
    ck_assert_uint_eq(back.added_count, e.added_count);
    e.added_count += 10;
    edit_release(&back);
    edit_release(&e);
    buffer_release(&bytes);
    free(key);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("edit");
    TCase *tcase = tcase_create("edit");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_edit_options_alone_round_trip_and_bear_any_bytes);
    tcase_add_test(tcase, test_edit_every_field_comes_back);
    tcase_add_test(tcase, test_edit_empty_comes_back);
    tcase_add_test(tcase, test_edit_every_flipped_bit_is_survived);
    tcase_add_test(tcase, test_edit_random_damage_is_survived);
    tcase_add_test(tcase, test_edit_memory_bomb_is_refused);
    tcase_add_test(tcase, test_edit_each_broken_rule_is_corrupt);
    tcase_add_test(tcase, test_edit_each_broken_rule_of_blob_files_is_corrupt);
    tcase_add_test(tcase, test_edit_blob_files_are_for_those_that_know_them);
    tcase_add_test(tcase, test_edit_name_with_a_zero_byte_is_corrupt);
    tcase_add_test(tcase, test_edit_styles_are_for_those_that_know_them);
    tcase_add_test(tcase, test_edit_unknown_fields_are_skipped_but_not_incompatible_ones);
    tcase_add_test(tcase, test_edit_without_memory_fails_cleanly);
    tcase_add_test(tcase, test_edit_over_its_limit_is_too_large);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
