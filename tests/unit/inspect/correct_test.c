/* One wrong byte anywhere is found and put right, and nothing else is. */
#include "engine/inspect/correct.h"

#include "engine/base/bytes.h"
#include "engine/format/current.h"
#include "engine/format/frame.h"
#include "engine/format/log_record.h"
#include "engine/format/stage_trailer.h"
#include "engine/format/table_format.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SEED UINT64_C(0x1234567890abcdef)

static uint32_t next_random(void)
{
    return (uint32_t)random() ^ (uint32_t)random() << 16;
}

static void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)next_random();
}

/* A frame whose payload has `size` bytes, and some bytes behind it. */
static size_t make_table_frame(uint8_t *bytes, size_t size)
{
    struct table_frame frame = {.kind = TABLE_FRAME_DATA,
                                .stored_size = (uint32_t)size,
                                .raw_size = (uint32_t)size,
                                .entry_count = 7,
                                .min_sequence = 3,
                                .max_sequence = 99};
    fill(bytes + TABLE_FRAME_SIZE, size);
    table_frame_seal(bytes, &frame, SEED);
    memset(bytes + TABLE_FRAME_SIZE + size, 0, 8);
    return TABLE_FRAME_SIZE + size;
}

/* Damages one byte, corrects it and compares. */
static void check_table_byte(uint8_t *bytes, size_t whole, size_t at, uint8_t change)
{
    struct correct_change c;
    uint8_t before = bytes[at];
    bytes[at] ^= change;
    ck_assert_msg(correct_table_frame(bytes, whole + 8, SEED, &c) == CORRECT_DONE,
                  "byte %zu of %zu, change %02x", at, whole, change);
    ck_assert_uint_eq(bytes[at], before);
    ck_assert_uint_eq(c.offset, at);
    ck_assert_uint_eq(c.expected, before);
    ck_assert_uint_eq(c.found, before ^ change);
    ck_assert_int_eq(c.is_bit, (change & (change - 1)) == 0);
}

START_TEST(test_correct_any_bit_of_a_frame_is_found)
{
    static uint8_t bytes[2048];
    size_t whole = make_table_frame(bytes, 300);
    for (size_t bit = 0; bit < 8 * whole; bit++)
        check_table_byte(bytes, whole, bit / 8, (uint8_t)(1u << bit % 8));
}
END_TEST

START_TEST(test_correct_any_byte_of_frames_of_all_sizes_is_found)
{
    static uint8_t bytes[1 << 16];
    for (size_t size = 0; size < 2400; size += 1 + size / 60) {
        size_t whole = make_table_frame(bytes, size);
        for (int i = 0; i < 20; i++)
            check_table_byte(bytes, whole, next_random() % whole,
                             (uint8_t)(1 + next_random() % 255));
    }
    size_t whole = make_table_frame(bytes, 40000);
    for (int i = 0; i < 5; i++)
        check_table_byte(bytes, whole, next_random() % whole, (uint8_t)(1 + next_random() % 255));
}
END_TEST

START_TEST(test_correct_more_than_a_byte_is_refused)
{
    static uint8_t bytes[8192], damaged[8192];
    size_t whole = make_table_frame(bytes, 3000);
    for (int i = 0; i < 5; i++) {
        struct correct_change c;
        memcpy(damaged, bytes, sizeof bytes);
        size_t a = 8 + next_random() % (whole - 8), b = 8 + (a + 1) % (whole - 8);
        damaged[a] ^= 1;
        damaged[b] ^= 4;
        static uint8_t copy[8192];
        memcpy(copy, damaged, sizeof copy);
        ck_assert_int_eq(correct_table_frame(damaged, whole, SEED, &c), CORRECT_FAILED);
        ck_assert_mem_eq(copy, damaged, sizeof copy);
    }
}
END_TEST

START_TEST(test_correct_what_is_whole_stays)
{
    static uint8_t bytes[4096];
    struct correct_change c;
    size_t whole = make_table_frame(bytes, 1000);
    ck_assert_int_eq(correct_table_frame(bytes, whole, SEED, &c), CORRECT_NOTHING);
    ck_assert_int_eq(correct_table_frame(bytes, 10, SEED, &c), CORRECT_FAILED);
    ck_assert_int_eq(correct_table_frame(bytes, whole - 1, SEED, &c), CORRECT_FAILED);
}
END_TEST

START_TEST(test_correct_long_bytes_only_bits_are_tried)
{
    size_t size = CORRECT_BYTES_LIMIT + 100;
    uint8_t *bytes = malloc(size + 64);
    size_t whole = make_table_frame(bytes, size);
    struct correct_change c;
    check_table_byte(bytes, whole, whole - 1000, 0x40);
    bytes[70] ^= 0x41;
    ck_assert_int_eq(correct_table_frame(bytes, whole, SEED, &c), CORRECT_TOO_LONG);
    bytes[70] ^= 0x41;
    bytes[3] ^= 0x41; /* of the checksum */
    ck_assert_int_eq(correct_table_frame(bytes, whole, SEED, &c), CORRECT_DONE);
    free(bytes);
}
END_TEST

START_TEST(test_correct_footer_and_segment_header)
{
    struct table_footer footer = {.number = 12, .file_size = 1 << 20, .data = {0, 4096}};
    uint8_t bytes[TABLE_FOOTER_SIZE], right[TABLE_FOOTER_SIZE];
    struct correct_change c;
    table_footer_encode(&footer, 8192, right);
    uint64_t seed = hash_place(footer.uuid, 12, 8192);
    for (size_t at = 0; at < sizeof bytes; at++) {
        memcpy(bytes, right, sizeof bytes);
        bytes[at] ^= 0xa5;
        ck_assert_int_eq(correct_table_footer(bytes, seed, &c), CORRECT_DONE);
        ck_assert_mem_eq(bytes, right, sizeof bytes);
    }
    static uint8_t block[LOG_SEGMENT_HEADER], whole[LOG_SEGMENT_HEADER];
    struct log_segment_header header = {.number = 3, .size = 65536};
    log_segment_encode(whole, &header);
    for (size_t at = 0; at < sizeof block; at += 1 + next_random() % 300) {
        memcpy(block, whole, sizeof block);
        block[at] ^= 0x11;
        ck_assert_int_eq(correct_log_segment(block, hash_place(header.uuid, 3, 0), &c),
                         CORRECT_DONE);
        ck_assert_mem_eq(block, whole, sizeof block);
    }
    static uint8_t page[STAGE_TRAILER_SIZE], right_page[STAGE_TRAILER_SIZE];
    struct stage_trailer trailer = {.ring_size = 65536, .nonce = {1, 2, 3}};
    stage_trailer_encode(right_page, &trailer);
    for (size_t at = 0; at < STAGE_TRAILER_BYTES; at++) {
        memcpy(page, right_page, sizeof page);
        page[at] ^= 0x42;
        ck_assert_int_eq(correct_stage_trailer(page, hash_place(trailer.uuid, 0, 65536), &c),
                         CORRECT_DONE);
        ck_assert_mem_eq(page, right_page, sizeof page);
    }
}
END_TEST

START_TEST(test_correct_log_record_anywhere)
{
    static uint8_t right[1024], bytes[1024];
    uint8_t batch[500];
    struct correct_change c;
    for (size_t size = 5; size <= sizeof batch; size += 99) {
        fill(batch, size);
        fill(right, sizeof right);
        struct log_record record = {.position = 4096, .sequence = 9, .synced = 100};
        lsm_slice piece = {batch, size};
        log_record_encode(right, &record, &piece, 1, SEED);
        for (size_t at = 0; at < record.size; at += 1 + next_random() % 3) {
            memcpy(bytes, right, sizeof bytes);
            bytes[at] ^= (uint8_t)(1 + next_random() % 255);
            ck_assert_int_eq(correct_log_record(bytes, sizeof bytes, SEED, &c), CORRECT_DONE);
            ck_assert_mem_eq(bytes, right, sizeof bytes);
        }
    }
}
END_TEST

START_TEST(test_correct_manifest_anywhere)
{
    struct frame_place place = {.file_number = 5};
    struct buffer file = {0};
    struct correct_change c;
    uint8_t payload[333];
    fill(payload, sizeof payload);
    struct frame_chain chain = frame_begin_file(&place, 1, &file);
    frame_append(&place, FRAME_EDIT, 0, LSM_SLICE(payload, sizeof payload), &chain, &file);
    buffer_append_zeros(&file, 64);
    ck_assert(!file.failed);
    uint8_t *copy = malloc(file.size);
    size_t end = (size_t)chain.offset;
    for (size_t at = 0; at < end; at += 1 + next_random() % 3) {
        memcpy(copy, file.data, file.size);
        copy[at] ^= (uint8_t)(1 + next_random() % 255);
        enum correct_outcome outcome =
            at < FRAME_FILE_HEADER_SIZE
                ? correct_manifest_header(copy, hash_place(place.uuid, 5, 0), &c)
                : correct_manifest_frame(copy + FRAME_FILE_HEADER_SIZE,
                                         file.size - FRAME_FILE_HEADER_SIZE,
                                         hash_place(place.uuid, 5, FRAME_FILE_HEADER_SIZE), &c);
        ck_assert_msg(outcome == CORRECT_DONE, "byte %zu: %d", at, (int)outcome);
        ck_assert_mem_eq(copy, file.data, file.size);
    }
    free(copy);
    buffer_release(&file);
}
END_TEST

START_TEST(test_correct_current_anywhere)
{
    uint8_t uuid[HASH_UUID_SIZE] = {1, 2, 3};
    char text[CURRENT_MAX_SIZE], copy[CURRENT_MAX_SIZE];
    struct correct_change c;
    size_t size = current_encode(uuid, 17, text);
    for (size_t at = 0; at < size; at++) {
        memcpy(copy, text, sizeof copy);
        copy[at] = (char)(copy[at] ^ 0x21);
        ck_assert_int_eq(correct_current((uint8_t *)copy, size, &c), CORRECT_DONE);
        ck_assert_mem_eq(copy, text, size);
    }
    ck_assert_int_eq(correct_current((uint8_t *)text, size, &c), CORRECT_NOTHING);
}
END_TEST

int main(void)
{
    const char *given = getenv("LSM_TEST_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("LSM_TEST_SEED=%u\n", seed);
    srandom(seed);
    Suite *suite = suite_create("correct");
    TCase *tcase = tcase_create("search");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_correct_any_bit_of_a_frame_is_found);
    tcase_add_test(tcase, test_correct_any_byte_of_frames_of_all_sizes_is_found);
    tcase_add_test(tcase, test_correct_more_than_a_byte_is_refused);
    tcase_add_test(tcase, test_correct_what_is_whole_stays);
    tcase_add_test(tcase, test_correct_long_bytes_only_bits_are_tried);
    tcase_add_test(tcase, test_correct_footer_and_segment_header);
    tcase_add_test(tcase, test_correct_log_record_anywhere);
    tcase_add_test(tcase, test_correct_manifest_anywhere);
    tcase_add_test(tcase, test_correct_current_anywhere);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
