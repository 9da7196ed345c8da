/* Records and segment headers: round trips, each kind of fault, and bytes of any kind. */
#include "engine/format/batch.h"
#include "engine/format/log_record.h"

#include "engine/base/random.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SEED   UINT64_C(0x5eed)
#define RECORD 512 /* bytes of the longest record here */

static const uint8_t uuid[HASH_UUID_SIZE] = "0123456789abcde";

/* ---- records --------------------------------------------------------------------------------- */

static size_t encode(uint8_t *bytes, size_t batch_size, struct log_record *record)
{
    uint8_t batch[RECORD];
    for (size_t i = 0; i < batch_size; i++)
        batch[i] = (uint8_t)(i * 7 + batch_size);
    size_t cut = batch_size / 2;
    lsm_slice pieces[] = {{batch, cut}, {NULL, 0}, {batch + cut, batch_size - cut}};
    *record = (struct log_record){.position = 8000, .sequence = 77, .synced = 640, .previous = 99};
    log_record_encode(bytes, record, pieces, 3, SEED);
    return record->size;
}

START_TEST(test_log_record_round_trip_gives_back_every_size)
{
    for (size_t batch_size = 0; batch_size < 300; batch_size++) {
        uint8_t bytes[RECORD];
        struct log_record given, got = {0};
        size_t size = encode(bytes, batch_size, &given);
        ck_assert_uint_eq(size, log_record_size(batch_size));
        ck_assert_uint_eq(size % LOG_RECORD_ALIGNMENT, 0);
        ck_assert_uint_le(size - batch_size, LOG_RECORD_OVERHEAD);
        ck_assert_int_eq(log_record_decode((lsm_slice){bytes, size}, 8000, SEED, &got),
                         LOG_RECORD_OK);
        ck_assert_uint_eq(got.position, 8000);
        ck_assert_uint_eq(got.sequence, 77);
        ck_assert_uint_eq(got.synced, 640);
        ck_assert_uint_eq(got.previous, 99);
        ck_assert_uint_eq(got.checksum, given.checksum);
        ck_assert_uint_eq(got.size, size);
        ck_assert_uint_eq(got.batch.size, batch_size);
        for (size_t i = 0; i < batch_size; i++)
            ck_assert_uint_eq(((const uint8_t *)got.batch.data)[i], (uint8_t)(i * 7 + batch_size));
    }
}
END_TEST

START_TEST(test_log_record_of_120_bytes_costs_at_most_64_more)
{
    ck_assert_uint_le(log_record_size(120), 120 + 64);
}
END_TEST

START_TEST(test_log_record_elsewhere_or_of_another_life_is_refused)
{
    uint8_t bytes[RECORD];
    struct log_record record;
    lsm_slice whole = {bytes, encode(bytes, 100, &record)};
    ck_assert_int_eq(log_record_decode(whole, 8008, SEED, &record), LOG_RECORD_OTHER_POSITION);
    ck_assert_int_eq(log_record_decode(whole, 8000, SEED + 1, &record), LOG_RECORD_BAD_CHECKSUM);
    uint8_t nonce[LOG_NONCE_SIZE] = {1}, other[LOG_NONCE_SIZE] = {2};
    ck_assert_uint_ne(log_record_seed(uuid, nonce), log_record_seed(uuid, other));
}
END_TEST

START_TEST(test_log_record_cut_anywhere_is_refused)
{
    uint8_t bytes[RECORD];
    struct log_record record;
    size_t size = encode(bytes, 100, &record);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *exact = malloc(cut + 1); /* so that a sanitizer sees a read behind it */
        memcpy(exact, bytes, cut);
        ck_assert_int_eq(log_record_decode((lsm_slice){exact, cut}, 8000, SEED, &record),
                         LOG_RECORD_SHORT);
        free(exact);
        memset(bytes + size - cut - 1, 0, cut + 1);
        ck_assert_int_ne(log_record_decode((lsm_slice){bytes, size}, 8000, SEED, &record),
                         LOG_RECORD_OK);
        encode(bytes, 100, &record);
    }
}
END_TEST

START_TEST(test_log_record_with_any_bit_flipped_is_refused)
{
    uint8_t bytes[RECORD];
    struct log_record record;
    size_t size = encode(bytes, 61, &record);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_ne(log_record_decode((lsm_slice){bytes, size}, 8000, SEED, &record),
                         LOG_RECORD_OK);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_int_eq(log_record_decode((lsm_slice){bytes, size}, 8000, SEED, &record),
                     LOG_RECORD_OK);
}
END_TEST

/* Gives damaged bytes a right checksum, as a hostile writer would. */
static void sign(uint8_t *bytes, size_t size)
{
    bytes_put_u64(bytes + size - 8, hash_bytes(bytes, size - 8, SEED));
}

START_TEST(test_log_record_signed_but_senseless_is_refused)
{
    uint8_t bytes[RECORD];
    struct log_record record;
    size_t size = encode(bytes, 61, &record);
    lsm_slice whole = {bytes, size};
    bytes_put_u32(bytes + size - 12, 8); /* as many zeros as an alignment */
    sign(bytes, size);
    ck_assert_int_eq(log_record_decode(whole, 8000, SEED, &record), LOG_RECORD_BAD_PADDING);
    encode(bytes, 61, &record);
    bytes[LOG_RECORD_HEAD + 61] = 1; /* padding that is not zero */
    sign(bytes, size);
    ck_assert_int_eq(log_record_decode(whole, 8000, SEED, &record), LOG_RECORD_BAD_PADDING);
    encode(bytes, 61, &record);
    bytes_put_u32(bytes + size - 16, (uint32_t)size + 8); /* lengths that differ */
    sign(bytes, size);
    ck_assert_int_eq(log_record_decode(whole, 8000, SEED, &record), LOG_RECORD_BAD_LENGTH);
    size = encode(bytes, 0, &record);
    bytes_put_u32(bytes + size - 12, 1); /* more zeros than there is room for */
    sign(bytes, size);
    ck_assert_int_eq(log_record_decode((lsm_slice){bytes, size}, 8000, SEED, &record),
                     LOG_RECORD_BAD_PADDING);
    bytes_put_u32(bytes + 4, 40);
    ck_assert_int_eq(log_record_decode((lsm_slice){bytes, size}, 8000, SEED, &record),
                     LOG_RECORD_BAD_LENGTH);
    bytes_put_u32(bytes + 4, UINT32_MAX - 7);
    ck_assert_int_eq(log_record_decode((lsm_slice){bytes, size}, 8000, SEED, &record),
                     LOG_RECORD_SHORT);
}
END_TEST

/* ---- segment headers ------------------------------------------------------------------------- */

static struct log_segment_header make_header(void)
{
    struct log_segment_header header = {
        .flags = LOG_SEGMENT_OPENED,
        .number = 12,
        .start = 80000,
        .size = 65536,
        .previous = 9,
        .previous_start = 8000,
        .previous_end = 80000,
        .resume = 80800,
        .chain = 4711,
        .nonce = {1, 2, 3},
        .nonce_before = {4, 5, 6},
    };
    memcpy(header.uuid, uuid, sizeof header.uuid);
    return header;
}

START_TEST(test_log_segment_round_trip_gives_back_every_field)
{
    uint8_t block[LOG_SEGMENT_HEADER];
    struct log_segment_header given = make_header(), got;
    memset(&got, 0, sizeof got);
    log_segment_encode(block, &given);
    ck_assert_int_eq(log_segment_decode(block, uuid, 12, &got), LOG_SEGMENT_OK);
    ck_assert_mem_eq(got.uuid, given.uuid, sizeof got.uuid);
    ck_assert_mem_eq(got.nonce, given.nonce, sizeof got.nonce);
    ck_assert_mem_eq(got.nonce_before, given.nonce_before, sizeof got.nonce);
    ck_assert_uint_eq(got.flags, given.flags);
    ck_assert_uint_eq(got.number, given.number);
    ck_assert_uint_eq(got.start, given.start);
    ck_assert_uint_eq(got.size, given.size);
    ck_assert_uint_eq(got.previous, given.previous);
    ck_assert_uint_eq(got.previous_start, given.previous_start);
    ck_assert_uint_eq(got.previous_end, given.previous_end);
    ck_assert_uint_eq(got.resume, given.resume);
    ck_assert_uint_eq(got.chain, given.chain);
    ck_assert_uint_eq(log_segment_limit(&got), 80000 + 65536 - 4096);
    ck_assert_uint_eq(log_segment_seed(&got, 80800), log_record_seed(uuid, given.nonce));
    ck_assert_uint_eq(log_segment_seed(&got, 80792), log_record_seed(uuid, given.nonce_before));
}
END_TEST

START_TEST(test_log_segment_with_any_bit_flipped_is_refused)
{
    uint8_t block[LOG_SEGMENT_HEADER];
    struct log_segment_header header = make_header();
    log_segment_encode(block, &header);
    for (size_t bit = 0; bit < 8 * LOG_SEGMENT_HEADER; bit++) {
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum log_segment_fault fault = log_segment_decode(block, uuid, 12, &header);
        if (fault != LOG_SEGMENT_NO_MAGIC && fault != LOG_SEGMENT_BAD_CHECKSUM)
            ck_abort_msg("bit %zu: %s", bit, log_segment_fault_text(fault));
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
END_TEST

START_TEST(test_log_segment_of_another_place_or_time_says_so)
{
    uint8_t block[LOG_SEGMENT_HEADER];
    struct log_segment_header header = make_header(), got;
    log_segment_encode(block, &header);
    ck_assert_int_eq(log_segment_decode(block, uuid, 13, &got), LOG_SEGMENT_OTHER_NUMBER);
    uint8_t other[HASH_UUID_SIZE] = {1};
    ck_assert_int_eq(log_segment_decode(block, other, 12, &got), LOG_SEGMENT_OTHER_DATABASE);
    bytes_put_u32(block + 8, LOG_SEGMENT_FORMAT + 1);
    bytes_put_u64(block + LOG_SEGMENT_HEADER - 8,
                  hash_bytes(block, LOG_SEGMENT_HEADER - 8, hash_place(uuid, 12, 0)));
    ck_assert_int_eq(log_segment_decode(block, uuid, 12, &got), LOG_SEGMENT_NEWER);
}
END_TEST

START_TEST(test_log_segment_that_contradicts_itself_is_refused)
{
    struct log_segment_header bad[] = {make_header(), make_header(), make_header(), make_header(),
                                       make_header(), make_header(), make_header()};
    bad[0].previous = 12;        /* its own predecessor */
    bad[1].previous_end = 79992; /* a hole */
    bad[2].size = 4096;          /* no room */
    bad[3].size = 65537;         /* no whole blocks */
    bad[4].start = 80001;        /* no place for a record */
    bad[5].resume = 79992;       /* opened in the middle of what was */
    bad[6].flags = 4;            /* unknown */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint8_t block[LOG_SEGMENT_HEADER];
        struct log_segment_header got;
        if (i == 4)
            bad[i].previous = 0;
        log_segment_encode(block, &bad[i]);
        ck_assert_int_eq(log_segment_decode(block, uuid, 12, &got), LOG_SEGMENT_BAD_FIELDS);
    }
}
END_TEST

/* ---- bytes of any kind ----------------------------------------------------------------------- */

/* Changes a few bytes, moves a run, or cuts: what a fuzzer does, by seed. */
static size_t mutate(struct random_state *random, uint8_t *bytes, size_t size)
{
    for (uint64_t n = 1 + random_below(random, 4); n > 0 && size > 0; n--) {
        size_t at = (size_t)random_below(random, size);
        size_t other = (size_t)random_below(random, size);
        size_t run = (size_t)random_below(random, size - (at > other ? at : other) + 1);
        switch (random_below(random, 5)) {
        case 0:
            bytes[at] = (uint8_t)random_next(random);
            break;
        case 1:
            bytes[at] ^= (uint8_t)(1u << random_below(random, 8));
            break;
        case 2:
            memmove(bytes + at, bytes + other, run);
            break;
        case 3:
            memset(bytes + at, random_below(random, 2) == 0 ? 0 : 0xff, run);
            break;
        default:
            size = at;
            break;
        }
    }
    return size;
}

/* Walks a batch; what it gives lies inside. */
static void read_batch(lsm_slice batch)
{
    struct batch_reader reader = batch_read(batch);
    struct batch_entry entry;
    uint32_t count = 0;
    while (batch_next(&reader, &entry)) {
        const uint8_t *begin = batch.data, *key = entry.key.data;
        ck_assert(entry.key.size == 0 ||
                  (key >= begin && key + entry.key.size <= begin + batch.size));
        ck_assert_uint_lt(count++, batch.size);
    }
    ck_assert(reader.corrupt || count == batch_count(batch));
}

START_TEST(test_log_record_hostile_bytes_are_read_without_harm)
{
    uint64_t seed = (uint64_t)_i;
    printf("seed %" PRIu64 "\n", seed);
    struct random_state random = random_seeded(seed);
    for (unsigned round = 0; round < 20000; round++) {
        uint8_t bytes[RECORD];
        struct log_record record;
        size_t size = mutate(&random, bytes, encode(bytes, 1 + round % 300, &record));
        uint8_t *exact = malloc(size + 1);
        memcpy(exact, bytes, size);
        if (size >= LOG_RECORD_MIN && random_below(&random, 2) == 0) {
            size = size / 8 * 8;
            bytes_put_u32(exact, LOG_RECORD_MAGIC);
            bytes_put_u32(exact + 4, (uint32_t)size);
            bytes_put_u32(exact + size - 16, (uint32_t)size);
            sign(exact, size);
        }
        if (log_record_decode((lsm_slice){exact, size}, 8000, SEED, &record) == LOG_RECORD_OK) {
            ck_assert_uint_le(record.size, size);
            ck_assert_uint_le(record.batch.size + LOG_RECORD_MIN, record.size);
            read_batch(record.batch);
        }
        read_batch((lsm_slice){exact, size});
        free(exact);
    }
}
END_TEST

START_TEST(test_log_segment_hostile_bytes_are_read_without_harm)
{
    struct random_state random = random_seeded((uint64_t)_i);
    for (unsigned round = 0; round < 2000; round++) {
        uint8_t block[LOG_SEGMENT_HEADER];
        struct log_segment_header header = make_header();
        log_segment_encode(block, &header);
        mutate(&random, block, 144);
        bytes_put_u64(block + LOG_SEGMENT_HEADER - 8,
                      hash_bytes(block, LOG_SEGMENT_HEADER - 8, hash_place(uuid, 12, 0)));
        if (log_segment_decode(block, uuid, 12, &header) == LOG_SEGMENT_OK)
            ck_assert_uint_gt(log_segment_limit(&header), header.start);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("format/log_record");
    TCase *tests = tcase_create("log_record");
    tcase_add_test(tests, test_log_record_round_trip_gives_back_every_size);
    tcase_add_test(tests, test_log_record_of_120_bytes_costs_at_most_64_more);
    tcase_add_test(tests, test_log_record_elsewhere_or_of_another_life_is_refused);
    tcase_add_test(tests, test_log_record_cut_anywhere_is_refused);
    tcase_add_test(tests, test_log_record_with_any_bit_flipped_is_refused);
    tcase_add_test(tests, test_log_record_signed_but_senseless_is_refused);
    tcase_add_test(tests, test_log_segment_round_trip_gives_back_every_field);
    tcase_add_test(tests, test_log_segment_with_any_bit_flipped_is_refused);
    tcase_add_test(tests, test_log_segment_of_another_place_or_time_says_so);
    tcase_add_test(tests, test_log_segment_that_contradicts_itself_is_refused);
    tcase_add_loop_test(tests, test_log_record_hostile_bytes_are_read_without_harm, 0, 3);
    tcase_add_loop_test(tests, test_log_segment_hostile_bytes_are_read_without_harm, 0, 3);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
