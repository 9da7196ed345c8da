/* Frames of the manifest: what is torn, what is damaged, and CURRENT. */
#include "engine/format/current.h"
#include "engine/format/frame.h"

#include "engine/base/random.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FRAMES 5

static const struct frame_place place = {.uuid = "0123456789abcde", .file_number = 42};

/* A file of FRAMES frames; ends[i] is where frame i ends. */
struct sample {
    struct buffer bytes;
    size_t ends[FRAMES];
};

static struct sample make_sample(size_t payload_size)
{
    struct sample s = {0};
    uint8_t payload[2000];
    struct frame_chain chain = frame_begin_file(&place, 100, &s.bytes);
    for (size_t i = 0; i < FRAMES; i++) {
        for (size_t k = 0; k < payload_size + i; k++)
            payload[k] = (uint8_t)(k * 7 + i);
        frame_append(&place, FRAME_EDIT, 0, LSM_SLICE(payload, payload_size + i), &chain, &s.bytes);
        s.ends[i] = s.bytes.size;
        ck_assert_uint_eq(chain.offset, s.bytes.size);
    }
    ck_assert(!s.bytes.failed);
    return s;
}

struct outcome {
    lsm_status status;
    enum frame_result result;
    size_t count; /* frames read */
    lsm_error error;
};

static struct outcome read_all(const struct frame_place *p, const uint8_t *bytes, size_t size)
{
    struct outcome o = {.result = FRAME_READ};
    struct frame_reader r;
    o.status = frame_reader_open(&r, p, "MANIFEST-000042", LSM_SLICE(bytes, size), &o.error);
    while (o.status == LSM_OK) {
        struct frame frame;
        o.status = frame_next(&r, &o.result, &frame, &o.error);
        if (o.status != LSM_OK || o.result != FRAME_READ)
            break;
        ck_assert_uint_eq(frame.number, 100 + o.count);
        o.count++;
    }
    return o;
}

START_TEST(test_frame_all_come_back)
{
    for (size_t size = 0; size < 40; size++) {
        struct sample s = make_sample(size);
        struct outcome o = read_all(&place, s.bytes.data, s.bytes.size);
        ck_assert_int_eq(o.status, LSM_OK);
        ck_assert_int_eq(o.result, FRAME_END);
        ck_assert_uint_eq(o.count, FRAMES);
        buffer_release(&s.bytes);
    }
}
END_TEST

START_TEST(test_frame_follow_takes_only_what_comes_next)
{
    struct sample s = make_sample(30);
    struct frame_chain chain = {.offset = FRAME_FILE_HEADER_SIZE,
                                .number = 100,
                                .previous =
                                    bytes_get_u64(s.bytes.data + FRAME_FILE_HEADER_SIZE - 8)};
    struct frame frame;
    for (size_t i = 0; i < FRAMES; i++) {
        const uint8_t *at = s.bytes.data + chain.offset;
        size_t size = s.ends[i] - chain.offset;
        struct frame_chain wrong = chain;
        for (size_t cut = 0; cut < size; cut++)
            ck_assert(!frame_follow(&place, LSM_SLICE(at, cut), &wrong, &frame));
        wrong.number++;
        ck_assert(!frame_follow(&place, LSM_SLICE(at, size), &wrong, &frame));
        wrong = chain;
        wrong.previous++;
        ck_assert(!frame_follow(&place, LSM_SLICE(at, size), &wrong, &frame));
        wrong = chain;
        wrong.offset += 8;
        ck_assert(!frame_follow(&place, LSM_SLICE(at, size), &wrong, &frame));
        ck_assert_uint_eq(wrong.offset, chain.offset + 8);
        ck_assert(frame_follow(&place, LSM_SLICE(at, s.bytes.size - chain.offset), &chain, &frame));
        ck_assert_uint_eq(frame.number, 100 + i);
        ck_assert_uint_eq(frame.payload.size, 30 + i);
        ck_assert_uint_eq(chain.offset, s.ends[i]);
    }
    ck_assert(!frame_follow(&place, LSM_SLICE(s.bytes.data, 0), &chain, &frame));
    buffer_release(&s.bytes);
}
END_TEST

START_TEST(test_frame_tail_cut_at_every_byte_is_torn)
{
    struct sample s = make_sample(60);
    for (size_t size = 0; size < s.bytes.size; size++) {
        struct outcome o = read_all(&place, s.bytes.data, size);
        if (size < s.ends[0]) { /* header and first frame are never torn */
            ck_assert_int_eq(o.status, LSM_CORRUPT);
            ck_assert_str_eq(o.error.file, "MANIFEST-000042");
            continue;
        }
        size_t whole = 0;
        while (whole < FRAMES && s.ends[whole] <= size)
            whole++;
        ck_assert_msg(o.status == LSM_OK, "size %zu: %s", size, o.error.message);
        ck_assert_uint_eq(o.count, whole);
        ck_assert_int_eq(o.result, s.ends[whole - 1] == size ? FRAME_END : FRAME_TORN);
    }
    buffer_release(&s.bytes);
}
END_TEST

/* What a torn write leaves: zeros or garbage from some sector on. */
START_TEST(test_frame_tail_lost_from_any_sector_is_torn)
{
    struct random_state r = random_seeded(7);
    struct sample s = make_sample(1200);
    uint8_t *copy = malloc(s.bytes.size);
    size_t begin = s.ends[FRAMES - 2];
    for (size_t lost = begin; lost < s.bytes.size; lost++) {
        if (lost != begin && lost % 512 != 0)
            continue;
        for (int garbage = 0; garbage < 2; garbage++) {
            memcpy(copy, s.bytes.data, s.bytes.size);
            for (size_t i = lost; i < s.bytes.size && (i < lost + 512 || lost % 1024 == 0); i++)
                copy[i] = garbage ? (uint8_t)random_next(&r) : 0;
            struct outcome o = read_all(&place, copy, s.bytes.size);
            ck_assert_msg(o.status == LSM_OK, "lost %zu: %s", lost, o.error.message);
            ck_assert_int_eq(o.result, FRAME_TORN);
            ck_assert_uint_eq(o.count, FRAMES - 1);
        }
    }
    free(copy);
    buffer_release(&s.bytes);
}
END_TEST

/* The lost sector holds one byte of the frame that is not zero: still torn, not rotten. */
START_TEST(test_frame_lost_sector_with_one_byte_is_torn)
{
    struct buffer bytes = {0};
    uint8_t payload[4096] = {0};
    struct frame_chain chain = frame_begin_file(&place, 100, &bytes);
    frame_append(&place, FRAME_EDIT, 0, LSM_SLICE(payload, 8), &chain, &bytes);
    size_t begin = bytes.size, size = 1024 - begin - FRAME_HEADER_SIZE + 16;
    memset(payload, 'x', size - 16);
    payload[size - 1] = 'y';
    frame_append(&place, FRAME_EDIT, 0, LSM_SLICE(payload, size), &chain, &bytes);
    bytes.data[begin + FRAME_HEADER_SIZE + size - 1] = 0;
    struct outcome o = read_all(&place, bytes.data, bytes.size);
    ck_assert_msg(o.status == LSM_OK, "%s", o.error.message);
    ck_assert_int_eq(o.result, FRAME_TORN);
    buffer_release(&bytes);
}
END_TEST

START_TEST(test_frame_every_flipped_bit_is_damage)
{
    struct sample s = make_sample(60);
    for (size_t i = 0; i < s.bytes.size * 8; i++) {
        s.bytes.data[i / 8] ^= (uint8_t)(1u << (i % 8));
        struct outcome o = read_all(&place, s.bytes.data, s.bytes.size);
        ck_assert_msg(o.status == LSM_CORRUPT, "bit %zu", i);
        ck_assert_str_eq(o.error.file, "MANIFEST-000042");
        ck_assert_uint_le(o.error.offset, i / 8);
        s.bytes.data[i / 8] ^= (uint8_t)(1u << (i % 8));
    }
    buffer_release(&s.bytes);
}
END_TEST

START_TEST(test_frame_every_wrong_byte_is_damage)
{
    struct sample s = make_sample(20);
    for (size_t i = 0; i < s.bytes.size; i++) {
        s.bytes.data[i] ^= 0xa5;
        ck_assert_msg(read_all(&place, s.bytes.data, s.bytes.size).status == LSM_CORRUPT,
                      "byte %zu", i);
        s.bytes.data[i] ^= 0xa5;
    }
    buffer_release(&s.bytes);
}
END_TEST

START_TEST(test_frame_damage_before_a_valid_one_is_corrupt)
{
    struct sample s = make_sample(100);
    memset(s.bytes.data + s.ends[2] + 10, 0, 50);
    struct outcome o = read_all(&place, s.bytes.data, s.bytes.size);
    ck_assert_int_eq(o.status, LSM_CORRUPT);
    ck_assert_uint_eq(o.error.offset, s.ends[2]);
    ck_assert_uint_eq(o.count, 3);
    buffer_release(&s.bytes);
}
END_TEST

/* Frames of another file, another database, or another place are no frames here. */
START_TEST(test_frame_foreign_bytes_are_refused)
{
    struct sample s = make_sample(30);
    struct frame_place other = place;
    other.uuid[3] ^= 1;
    ck_assert_int_eq(read_all(&other, s.bytes.data, s.bytes.size).status, LSM_CORRUPT);
    other = place;
    other.file_number++;
    struct outcome o = read_all(&other, s.bytes.data, s.bytes.size);
    ck_assert_int_eq(o.status, LSM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(o.error.message, "number"));
    /* The same frame once more behind itself. */
    size_t last = s.ends[FRAMES - 1] - s.ends[FRAMES - 2];
    uint8_t *at = buffer_grow(&s.bytes, last);
    memcpy(at, at - last, last);
    o = read_all(&place, s.bytes.data, s.bytes.size);
    ck_assert_int_eq(o.status, LSM_OK);
    ck_assert_int_eq(o.result, FRAME_TORN);
    buffer_release(&s.bytes);
}
END_TEST

START_TEST(test_frame_broken_chain_is_corrupt)
{
    /* Frames that are valid at their places, but one is stale: written over another first frame. */
    struct buffer a = {0}, b = {0};
    struct frame_chain chain_a = frame_begin_file(&place, 100, &a);
    struct frame_chain chain_b = frame_begin_file(&place, 100, &b);
    frame_append(&place, FRAME_EDIT, 0, LSM_SLICE("aaaa", 4), &chain_a, &a);
    frame_append(&place, FRAME_EDIT, 0, LSM_SLICE("bbbb", 4), &chain_b, &b);
    size_t first = a.size;
    frame_append(&place, FRAME_EDIT, 0, LSM_SLICE("cccc", 4), &chain_b, &b);
    buffer_append(&a, b.data + first, b.size - first);
    struct outcome o = read_all(&place, a.data, a.size);
    ck_assert_int_eq(o.status, LSM_CORRUPT);
    ck_assert_uint_eq(o.error.offset, first);
    buffer_release(&a);
    buffer_release(&b);
}
END_TEST

START_TEST(test_frame_newer_format_is_told)
{
    struct sample s = make_sample(10);
    for (int field = 8; field <= 12; field += 4) {
        uint8_t header[FRAME_FILE_HEADER_SIZE];
        memcpy(header, s.bytes.data, sizeof header);
        bytes_put_u32(header + field, 2);
        bytes_put_u64(header + 56, hash_bytes(header, 56, hash_place(place.uuid, 42, 0)));
        ck_assert_int_eq(read_all(&place, header, sizeof header).status, LSM_NEWER_FORMAT);
    }
    buffer_release(&s.bytes);
}
END_TEST

START_TEST(test_frame_hostile_tails_end_in_time)
{
    /* Magic words everywhere, each claiming a long frame: the search has a budget. */
    struct sample s = make_sample(10);
    size_t extra = (size_t)1 << 20;
    uint8_t *at = buffer_grow(&s.bytes, extra);
    for (size_t i = 0; i < extra; i += 8) {
        bytes_put_u32(at + i, 0x6d72666c);
        bytes_put_u32(at + i + 4, (uint32_t)(extra / 2));
    }
    struct outcome o = read_all(&place, s.bytes.data, s.bytes.size);
    ck_assert(o.status == LSM_CORRUPT || o.result == FRAME_TORN);
    buffer_release(&s.bytes);
}
END_TEST

/* A large frame that was torn: the search for a wrong byte is given up early. */
START_TEST(test_frame_large_torn_tail_is_judged_in_time)
{
    struct buffer bytes = {0};
    size_t size = (size_t)8 << 20;
    uint8_t *payload = malloc(size);
    memset(payload, 'p', size);
    struct frame_chain chain = frame_begin_file(&place, 100, &bytes);
    frame_append(&place, FRAME_EDIT, 0, LSM_SLICE("first", 5), &chain, &bytes);
    frame_append(&place, FRAME_EDIT, 0, LSM_SLICE(payload, size), &chain, &bytes);
    memset(bytes.data + bytes.size / 2, 0, 4096);
    struct outcome o = read_all(&place, bytes.data, bytes.size);
    ck_assert_int_eq(o.status, LSM_OK);
    ck_assert_int_eq(o.result, FRAME_TORN);
    ck_assert_uint_eq(o.count, 1);
    free(payload);
    buffer_release(&bytes);
}
END_TEST

/* ---- CURRENT ----------------------------------------------------------------------------------
 */

static lsm_status decode(const char *text, size_t size, uint64_t *number)
{
    uint8_t uuid[HASH_UUID_SIZE];
    lsm_error error = {0};
    lsm_status status = current_decode(text, size, "dir", uuid, number, &error);
    ck_assert(status == LSM_OK || error.message[0] != '\0');
    ck_assert(status != LSM_OK || memcmp(uuid, place.uuid, sizeof uuid) == 0);
    return status;
}

START_TEST(test_current_comes_back_and_every_change_is_seen)
{
    char text[CURRENT_MAX_SIZE];
    uint64_t number = 0;
    size_t size = current_encode(place.uuid, UINT64_MAX, text);
    ck_assert_int_eq(decode(text, size, &number), LSM_OK);
    ck_assert_uint_eq(number, UINT64_MAX);
    for (size_t i = 0; i < size * 8; i++) {
        text[i / 8] = (char)(text[i / 8] ^ (1 << (i % 8)));
        ck_assert_int_eq(decode(text, size, &number), LSM_CORRUPT);
        text[i / 8] = (char)(text[i / 8] ^ (1 << (i % 8)));
    }
    for (size_t i = 0; i < size; i++)
        ck_assert_int_eq(decode(text, i, &number), LSM_CORRUPT);
    for (size_t i = 1; i < 8; i++)
        ck_assert_int_eq(decode(text, size + i, &number), LSM_CORRUPT);
}
END_TEST

static size_t sign(char *text)
{
    size_t size = strlen(text);
    size += (size_t)sprintf(text + size, "checksum %016llx\n",
                            (unsigned long long)hash_bytes(text, size, 0));
    return size;
}

START_TEST(test_current_signed_but_wrong_is_corrupt)
{
    static const char *const texts[] = {
        "",
        "\n",
        "lsm-current 1\n",
        "lsm-current 1\nuuid 00\nmanifest 1\n",
        "lsm-current 1\nuuid 303132333435363738396162636465000\nmanifest 1\n",
        "lsm-current 1\nuuid 30313233343536373839616263646500\nmanifest 01\n",
        "lsm-current 1\nuuid 30313233343536373839616263646500\nmanifest -1\n",
        "lsm-current 1\nuuid 30313233343536373839616263646500\nmanifest 99999999999999999999\n",
        " lsm-current 1\nuuid 30313233343536373839616263646500\nmanifest 1\n"};
    uint64_t number;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char text[400];
        strcpy(text, texts[i]);
        ck_assert_msg(decode(text, sign(text), &number) == LSM_CORRUPT, "text %zu", i);
    }
    char newer[200] = "lsm-current 2\nanything\n";
    ck_assert_int_eq(decode(newer, sign(newer), &number), LSM_NEWER_FORMAT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("frame");
    TCase *tcase = tcase_create("frame");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_frame_all_come_back);
    tcase_add_test(tcase, test_frame_follow_takes_only_what_comes_next);
    tcase_add_test(tcase, test_frame_tail_cut_at_every_byte_is_torn);
    tcase_add_test(tcase, test_frame_tail_lost_from_any_sector_is_torn);
    tcase_add_test(tcase, test_frame_lost_sector_with_one_byte_is_torn);
    tcase_add_test(tcase, test_frame_every_flipped_bit_is_damage);
    tcase_add_test(tcase, test_frame_every_wrong_byte_is_damage);
    tcase_add_test(tcase, test_frame_damage_before_a_valid_one_is_corrupt);
    tcase_add_test(tcase, test_frame_foreign_bytes_are_refused);
    tcase_add_test(tcase, test_frame_broken_chain_is_corrupt);
    tcase_add_test(tcase, test_frame_newer_format_is_told);
    tcase_add_test(tcase, test_frame_hostile_tails_end_in_time);
    tcase_add_test(tcase, test_frame_large_torn_tail_is_judged_in_time);
    tcase_add_test(tcase, test_current_comes_back_and_every_change_is_seen);
    tcase_add_test(tcase, test_current_signed_but_wrong_is_corrupt);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
