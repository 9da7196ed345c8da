/* Frames, footers, index, filter and properties: there and back, and every damage is told. */
#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/format/table_filter.h"
#include "engine/format/table_format.h"
#include "engine/format/table_index.h"
#include "engine/format/table_properties.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t seed;
static const uint8_t uuid[HASH_UUID_SIZE] = "0123456789abcde";

/* ---- frames ---------------------------------------------------------------------------------- */

#define PAYLOAD 37

static struct table_frame make_frame(uint8_t *at, uint64_t place)
{
    struct table_frame frame = {.kind = TABLE_FRAME_DATA,
                                .level = 3,
                                .stored_size = PAYLOAD,
                                .raw_size = PAYLOAD,
                                .cf = 5,
                                .entry_count = 11,
                                .min_sequence = 100,
                                .max_sequence = 200};
    memset(at, 0, TABLE_FRAME_SIZE + PAYLOAD + 7);
    memset(at + TABLE_FRAME_SIZE, 'p', PAYLOAD);
    table_frame_seal(at, &frame, place);
    return frame;
}

START_TEST(test_frame_round_trip_keeps_every_field)
{
    uint8_t bytes[TABLE_FRAME_SIZE + PAYLOAD + 7];
    struct table_frame wanted = make_frame(bytes, 77), frame;
    struct table_problem problem;
    lsm_slice whole = {bytes, sizeof bytes};
    ck_assert(table_frame_open_whole(whole, 77, TABLE_FRAME_DATA, &frame, &problem));
    ck_assert_uint_eq(frame.kind, wanted.kind);
    ck_assert_uint_eq(frame.compression, TABLE_RAW);
    ck_assert_uint_eq(frame.level, 3);
    ck_assert_uint_eq(frame.stored_size, PAYLOAD);
    ck_assert_uint_eq(frame.raw_size, PAYLOAD);
    ck_assert_uint_eq(frame.cf, 5);
    ck_assert_uint_eq(frame.entry_count, 11);
    ck_assert_uint_eq(frame.min_sequence, 100);
    ck_assert_uint_eq(frame.max_sequence, 200);
    ck_assert_uint_eq(((const uint8_t *)table_frame_payload(whole, &frame).data)[0], 'p');
}
END_TEST

START_TEST(test_frame_every_flipped_bit_and_cut_is_told)
{
    uint8_t bytes[TABLE_FRAME_SIZE + PAYLOAD + 7];
    make_frame(bytes, 77);
    struct table_frame frame;
    struct table_problem problem;
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        problem.what = NULL;
        ck_assert(!table_frame_open_whole((lsm_slice){bytes, sizeof bytes}, 77, TABLE_FRAME_DATA,
                                          &frame, &problem));
        ck_assert_ptr_nonnull(problem.what);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t size = 0; size < TABLE_FRAME_SIZE + PAYLOAD; size++) {
        uint8_t *copy = malloc(size + 1 - (size > 0));
        memcpy(copy, bytes, size);
        ck_assert(!table_frame_open((lsm_slice){copy, size}, 77, &frame, &problem));
        free(copy);
    }
    ck_assert(!table_frame_open((lsm_slice){bytes, sizeof bytes}, 78, &frame, &problem));
    ck_assert_str_eq(problem.what, "the checksum differs");
    ck_assert(!table_frame_open_whole((lsm_slice){bytes, sizeof bytes}, 77, TABLE_FRAME_INDEX,
                                      &frame, &problem));
    ck_assert_str_eq(problem.what, "the frame is of another kind");
}
END_TEST

/* Fields that a sound checksum covers, but that cannot be. */
START_TEST(test_frame_impossible_fields_are_refused)
{
    static const struct {
        size_t at;
        uint8_t value;
        const char *what;
    } cases[] = {
        {12, 0, "the frame is of an unknown kind"},
        {12, 6, "the frame is of an unknown kind"},
        {13, 5, "the frame's compression is unknown"},
        {15, 1, "the frame's header is not zero where it must be"},
        {20, PAYLOAD + 1, "the frame's sizes disagree"},
    };
    uint8_t bytes[TABLE_FRAME_SIZE + PAYLOAD + 7];
    struct table_frame frame;
    struct table_problem problem;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_frame(bytes, 1);
        bytes[cases[i].at] = cases[i].value;
        bytes_put_u64(bytes, hash_bytes(bytes + 8, TABLE_FRAME_SIZE - 8 + PAYLOAD, 1));
        ck_assert(!table_frame_open((lsm_slice){bytes, sizeof bytes}, 1, &frame, &problem));
        ck_assert_str_eq(problem.what, cases[i].what);
    }
    make_frame(bytes, 1);
    bytes[13] = TABLE_ZSTD;
    bytes_put_u32(bytes + 20, UINT32_MAX);
    bytes_put_u64(bytes, hash_bytes(bytes + 8, TABLE_FRAME_SIZE - 8 + PAYLOAD, 1));
    ck_assert(!table_frame_open((lsm_slice){bytes, sizeof bytes}, 1, &frame, &problem));
    ck_assert_str_eq(problem.what, "the frame's raw size is over the limit");
}
END_TEST

START_TEST(test_frame_place_saves_pages_when_the_gap_is_small)
{
    ck_assert_uint_eq(table_frame_place(0, 8192), 0);
    ck_assert_uint_eq(table_frame_place(1, 100), 8);
    ck_assert_uint_eq(table_frame_place(4000, 50), 4000);  /* fits in the page */
    ck_assert_uint_eq(table_frame_place(4000, 100), 4000); /* the gap would cost too much */
    ck_assert_uint_eq(table_frame_place(4000, 4000), 4096);
    ck_assert_uint_eq(table_frame_place(8150, 8192), 8192);
    ck_assert_uint_eq(table_frame_place(6000, 8192), 6000);
}
END_TEST

/* ---- footer ---------------------------------------------------------------------------------- */

static struct table_footer make_footer(void)
{
    struct table_footer f = {.number = 12, .file_size = 6 * TABLE_PAGE_SIZE};
    memcpy(f.uuid, uuid, HASH_UUID_SIZE);
    f.data.size = 5000;
    f.filter = (struct table_extent){5000, 3000};
    f.index = (struct table_extent){8000, 200};
    f.properties = (struct table_extent){8200, 4 * TABLE_PAGE_SIZE - 8200};
    return f;
}

static lsm_status decode_footer(const uint8_t *page, struct table_footer *f,
                                struct table_problem *problem)
{
    return table_footer_decode(page, 4 * TABLE_PAGE_SIZE, 6 * TABLE_PAGE_SIZE, uuid, 12, f,
                               problem);
}

START_TEST(test_footer_round_trip_keeps_every_field)
{
    uint8_t page[TABLE_PAGE_SIZE] = {0};
    struct table_footer wanted = make_footer(), f;
    struct table_problem problem;
    table_footer_encode(&wanted, table_footer_offset(wanted.file_size, 0), page);
    ck_assert_int_eq(decode_footer(page, &f, &problem), LSM_OK);
    ck_assert_mem_eq(&f, &wanted, sizeof f);
}
END_TEST

START_TEST(test_footer_every_flipped_bit_of_its_page_is_told)
{
    static uint8_t page[TABLE_PAGE_SIZE];
    struct table_footer wanted = make_footer(), f;
    struct table_problem problem;
    table_footer_encode(&wanted, 4 * TABLE_PAGE_SIZE, page);
    for (size_t bit = 0; bit < TABLE_PAGE_SIZE * 8; bit++) {
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(decode_footer(page, &f, &problem), LSM_CORRUPT);
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
END_TEST

START_TEST(test_footer_of_another_database_file_or_place_is_told)
{
    uint8_t page[TABLE_PAGE_SIZE] = {0};
    struct table_footer wanted = make_footer(), f;
    struct table_problem problem;
    table_footer_encode(&wanted, 5 * TABLE_PAGE_SIZE, page);
    ck_assert_int_eq(decode_footer(page, &f, &problem), LSM_CORRUPT);
    ck_assert_str_eq(problem.what, "the footer's checksum differs");
    wanted.number = 13;
    table_footer_encode(&wanted, 4 * TABLE_PAGE_SIZE, page);
    ck_assert_int_eq(decode_footer(page, &f, &problem), LSM_CORRUPT);
    ck_assert_str_eq(problem.what, "the table is another file of this database");
    wanted.number = 12;
    wanted.uuid[3] ^= 1;
    table_footer_encode(&wanted, 4 * TABLE_PAGE_SIZE, page);
    ck_assert_int_eq(decode_footer(page, &f, &problem), LSM_CORRUPT);
    ck_assert_str_eq(problem.what, "the table belongs to another database");
}
END_TEST

START_TEST(test_footer_of_a_later_version_is_told_apart_from_damage)
{
    uint8_t page[TABLE_PAGE_SIZE] = {0};
    struct table_footer wanted = make_footer(), f;
    struct table_problem problem;
    table_footer_encode(&wanted, 4 * TABLE_PAGE_SIZE, page);
    bytes_put_u32(page + 8, TABLE_FORMAT_VERSION + 1);
    ck_assert_int_eq(decode_footer(page, &f, &problem), LSM_CORRUPT);
    uint64_t place = hash_place(uuid, 12, 4 * TABLE_PAGE_SIZE);
    bytes_put_u64(page + TABLE_FOOTER_SIZE - 8, hash_bytes(page, TABLE_FOOTER_SIZE - 8, place));
    ck_assert_int_eq(decode_footer(page, &f, &problem), LSM_NEWER_FORMAT);
}
END_TEST

START_TEST(test_footer_extents_outside_or_overlapping_are_refused)
{
    uint8_t page[TABLE_PAGE_SIZE] = {0};
    struct table_problem problem;
    for (int i = 0; i < 8; i++) {
        struct table_footer bad = make_footer(), f;
        switch (i) {
        case 0:
            bad.data.size = 0;
            break;
        case 1:
            bad.data.size = UINT64_MAX - 10;
            break;
        case 2:
            bad.filter.offset -= 8;
            break;
        case 3:
            bad.index.size += 8;
            break;
        case 4:
            bad.properties.size = UINT64_MAX - 8000;
            break;
        case 5:
            bad.properties.size -= 8;
            break;
        case 6:
            bad.dictionary = (struct table_extent){0, 5000};
            break;
        default:
            bad.index = (struct table_extent){0, 0};
            break;
        }
        table_footer_encode(&bad, 4 * TABLE_PAGE_SIZE, page);
        ck_assert_int_eq(decode_footer(page, &f, &problem), LSM_CORRUPT);
        ck_assert_str_eq(problem.what, "the footer's parts do not fill the file");
    }
}
END_TEST

/* ---- filter ---------------------------------------------------------------------------------- */

START_TEST(test_filter_portable_and_avx2_make_the_same_bytes_and_answers)
{
    struct random_state r = random_seeded(seed + (uint64_t)_i);
    size_t count = 1 + random_below(&r, 3000);
    size_t size = table_filter_size(count, 1 + (uint32_t)random_below(&r, 20));
    uint64_t *hashes = malloc(count * sizeof *hashes);
    for (size_t i = 0; i < count; i++)
        hashes[i] = random_next(&r);
    uint8_t *a = calloc(1, size), *b = calloc(1, size);
    table_filter_build(a, size, hashes, count);
    table_filter_use_portable(true);
    table_filter_build(b, size, hashes, count);
    table_filter_use_portable(false);
    ck_assert_mem_eq(a, b, size);
    for (size_t i = 0; i < 5000; i++) {
        uint64_t hash = i < count ? hashes[i] : random_next(&r);
        bool fast = table_filter_may_have(a, size, hash);
        table_filter_use_portable(true);
        ck_assert_int_eq(table_filter_may_have(a, size, hash), fast);
        table_filter_use_portable(false);
        ck_assert(fast || i >= count);
    }
    free(a);
    free(b);
    free(hashes);
}
END_TEST

START_TEST(test_filter_of_twelve_bits_lets_few_strangers_in)
{
    enum { COUNT = 20000 };
    struct random_state r = random_seeded(5);
    size_t size = table_filter_size(COUNT, 12);
    uint64_t *hashes = malloc(COUNT * sizeof *hashes);
    for (size_t i = 0; i < COUNT; i++)
        hashes[i] = random_next(&r);
    uint8_t *filter = calloc(1, size);
    table_filter_build(filter, size, hashes, COUNT);
    unsigned strangers = 0;
    for (size_t i = 0; i < 100000; i++)
        strangers += table_filter_may_have(filter, size, random_next(&r));
    ck_assert_uint_lt(strangers, 800); /* 0.54 % expected */
    free(filter);
    free(hashes);
}
END_TEST

START_TEST(test_filter_sizes_are_bounded)
{
    ck_assert_uint_eq(table_filter_size(0, 12), TABLE_FILTER_BLOCK);
    ck_assert_uint_eq(table_filter_size(UINT64_MAX, 12), 0);
    ck_assert_uint_eq(table_filter_size(UINT64_C(1) << 31, 64), 0);
    ck_assert(table_filter_may_have(NULL, 0, 42));
}
END_TEST

/* ---- index ----------------------------------------------------------------------------------- */

struct pivot {
    uint8_t key[40];
    size_t size;
    uint64_t trailer;
};

static lsm_slice pivot_key(const struct pivot *p)
{
    return (lsm_slice){p->key, p->size};
}

static int compare_pivots(const void *a, const void *b)
{
    const struct pivot *x = a, *y = b;
    return entry_compare(pivot_key(x), x->trailer, pivot_key(y), y->trailer);
}

static struct pivot random_pivot(struct random_state *r, int shape)
{
    static const uint8_t alphabet[] = {0, 0, 0xff, 'm'};
    struct pivot p = {.trailer = entry_trailer(1 + random_below(r, 50), ENTRY_PUT)};
    if (shape % 3 == 0) {
        p.size = (size_t)sprintf((char *)p.key, "tab%09u", (unsigned)random_below(r, 1000000));
        return p;
    }
    size_t same = shape % 3 == 1 ? 12 : 0;
    memset(p.key, 0xff, same);
    p.size = same + random_below(r, 12);
    for (size_t i = same; i < p.size; i++)
        p.key[i] = alphabet[random_below(r, 4)];
    return p;
}

/* Each pair of neighbours is a block: its first and its last entry. */
static void build_index(const struct pivot *pivots, size_t blocks, struct buffer *to)
{
    struct table_index_builder b = {0};
    for (size_t i = 0; i < blocks; i++) {
        const struct pivot *first = &pivots[i * 2], *last = &pivots[i == 0 ? 0 : i * 2 - 1];
        table_index_add(&b, pivot_key(last), last->trailer, pivot_key(first), i * 4096);
    }
    ck_assert_int_eq(
        table_index_finish(&b, pivot_key(&pivots[0]), pivot_key(&pivots[blocks * 2 - 1]), to),
        LSM_OK);
    table_index_builder_release(&b);
}

static size_t random_pivots(struct random_state *r, int shape, struct pivot *pivots, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pivots[i] = random_pivot(r, shape);
    qsort(pivots, count, sizeof *pivots, compare_pivots);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || compare_pivots(&pivots[kept - 1], &pivots[i]) != 0)
            pivots[kept++] = pivots[i];
    }
    return kept;
}

/* The search in two steps finds the same, and what it says of the key's first bytes is so. */
static void check_steps(const struct table_index *index, const struct pivot *pivots,
                        const struct pivot *wanted, uint32_t expected)
{
    struct table_index_search s;
    uint32_t shared;
    table_index_search_begin(index, pivot_key(wanted), &s);
    ck_assert_uint_eq(table_index_search_end(index, &s, wanted->trailer, &shared), expected);
    ck_assert_uint_le(table_index_share(index, &s, expected, 1000), 1000);
    for (size_t i = 0; i < 2; i++) {
        lsm_slice key = pivot_key(&pivots[expected * 2 + i]);
        size_t common = slice_common_prefix(key, pivot_key(wanted)), known = shared;
        known = known < key.size ? known : key.size;
        known = known < wanted->size ? known : wanted->size;
        ck_assert_uint_ge(common, known);
    }
}

START_TEST(test_index_finds_the_block_of_every_entry)
{
    struct random_state r = random_seeded(seed + (uint64_t)_i);
    struct pivot *pivots = calloc(3000, sizeof *pivots);
    size_t blocks = random_pivots(&r, _i, pivots, 2 + random_below(&r, 2998)) / 2;
    ck_assert_uint_gt(blocks, 0);
    struct buffer bytes = {0};
    build_index(pivots, blocks, &bytes);
    struct table_index index;
    struct table_problem problem;
    ck_assert_msg(table_index_decode(buffer_slice(&bytes), blocks * 4096, &index, &problem), "%s",
                  problem.what);
    ck_assert_uint_eq(index.count, blocks);
    for (size_t i = 0; i < blocks * 2; i++) {
        const struct pivot *p = &pivots[i];
        ck_assert_uint_eq(table_index_find(&index, pivot_key(p), p->trailer), i / 2);
        check_steps(&index, pivots, p, (uint32_t)(i / 2));
    }
    /* Others: not in a block that ends before them, nor in one whose follower begins at or before
     * them. */
    for (size_t n = 0; n < 3000; n++) {
        struct pivot p = random_pivot(&r, (int)random_below(&r, 3));
        uint32_t at = table_index_find(&index, pivot_key(&p), p.trailer);
        ck_assert_uint_lt(at, blocks);
        ck_assert(at == 0 || table_index_compare(&index, at, pivot_key(&p), p.trailer) <= 0);
        ck_assert(at == 0 || compare_pivots(&pivots[at * 2 - 1], &p) < 0);
        ck_assert(at + 1 == blocks || compare_pivots(&p, &pivots[at * 2 + 2]) < 0);
        check_steps(&index, pivots, &p, at);
    }
    table_index_release(&index);
    buffer_release(&bytes);
    free(pivots);
}
END_TEST

START_TEST(test_index_hostile_bytes_are_refused_or_harmless)
{
    struct random_state r = random_seeded(seed + 50);
    struct pivot pivots[60];
    size_t refused = 0, used = 0;
    for (int round = 0; round < 3000; round++) {
        size_t blocks = random_pivots(&r, round, pivots, 2 + random_below(&r, 58)) / 2;
        if (blocks == 0)
            continue;
        struct buffer bytes = {0};
        build_index(pivots, blocks, &bytes);
        if (random_below(&r, 4) == 0)
            bytes.size = random_below(&r, bytes.size + 1);
        for (uint64_t n = random_below(&r, 3); n > 0 && bytes.size > 0; n--)
            bytes.data[random_below(&r, bytes.size)] ^= (uint8_t)(1u << random_below(&r, 8));
        uint8_t *exact = malloc(bytes.size + 1 - (bytes.size > 0));
        memcpy(exact, bytes.data, bytes.size);
        struct table_index index;
        struct table_problem problem;
        if (table_index_decode((lsm_slice){exact, bytes.size}, blocks * 4096, &index, &problem)) {
            used++;
            for (int n = 0; n < 20; n++) {
                struct pivot p = random_pivot(&r, n);
                ck_assert_uint_lt(table_index_find(&index, pivot_key(&p), p.trailer), index.count);
            }
            table_index_release(&index);
        } else {
            refused++;
            ck_assert_ptr_nonnull(problem.what);
        }
        free(exact);
        buffer_release(&bytes);
    }
    ck_assert_uint_gt(refused, 300);
    ck_assert_uint_gt(used, 300);
}
END_TEST

/* ---- properties ------------------------------------------------------------------------------ */

static const uint64_t replaced[] = {4, 5, UINT64_MAX};
static const uint64_t jobs[] = {3, 1};
static const struct blob_use blobs[] = {{6, 90, 1000}, {8, 7, UINT64_MAX}};

static struct table_properties make_properties(void)
{
    return (struct table_properties){
        .number = 9,
        .cf = 3,
        .cf_name = LSM_SLICE("na\0me", 5),
        .level = 1,
        .smallest = LSM_SLICE("\0a", 2),
        .largest = LSM_SLICE("z", 1),
        .min_sequence = 10,
        .max_sequence = 20,
        .entry_count = 100,
        .delete_count = 3,
        .key_count = 90,
        .raw_size = 12345,
        .block_count = 7,
        .data_size = 9000,
        .block_size = 8192,
        .filter_bits = 12,
        .compressed = true,
        .compression_level = -3,
        .job = 77,
        .output_index = 2,
        .replaced = replaced,
        .replaced_count = 3,
        .last_output = true,
        .replaced_jobs = jobs,
        .replaced_job_count = 2,
        .digest = UINT64_MAX - 1,
        .digest_size = 9500,
        .writer = LSM_SLICE("1.2.3", 5),
        .cf_options = LSM_SLICE("\10\1", 2),
        .blobs = blobs,
        .blob_count = 2,
    };
}

START_TEST(test_properties_of_blob_files_are_checked)
{
    struct table_properties wanted = make_properties(), p;
    struct blob_use wrong[] = {{6, 90, 1000}, {6, 7, 1}};
    struct buffer bytes = {0};
    wanted.blobs = wrong; /* one twice, */
    for (int i = 0; i < 4; i++) {
        buffer_clear(&bytes);
        ck_assert_int_eq(table_properties_encode(&wanted, &bytes, NULL), LSM_OK);
        ck_assert_int_eq(table_properties_decode(buffer_slice(&bytes), &p, NULL),
                         i < 3 ? LSM_CORRUPT : LSM_OK);
        if (i == 0) /* more than there are values, */
            wrong[1] = (struct blob_use){7, 8, 1};
        else if (i == 1) /* a blob file with deletions */
            wanted.is_blob = true, wanted.blob_count = 0;
        else if (i == 2)
            wanted.delete_count = 0;
    }
    ck_assert(p.is_blob);
    table_properties_release(&p);
    buffer_release(&bytes);
}
END_TEST

START_TEST(test_properties_round_trip_keeps_every_field)
{
    struct table_properties wanted = make_properties(), p;
    struct buffer bytes = {0};
    ck_assert_int_eq(table_properties_encode(&wanted, &bytes, NULL), LSM_OK);
    ck_assert_int_eq(table_properties_decode(buffer_slice(&bytes), &p, NULL), LSM_OK);
    ck_assert(slice_equal(p.cf_name, wanted.cf_name));
    ck_assert(slice_equal(p.smallest, wanted.smallest));
    ck_assert(slice_equal(p.largest, wanted.largest));
    ck_assert(slice_equal(p.writer, wanted.writer));
    ck_assert(slice_equal(p.cf_options, wanted.cf_options));
    ck_assert_uint_eq(p.replaced_count, 3);
    ck_assert_mem_eq(p.replaced, replaced, sizeof replaced);
    ck_assert(p.last_output);
    ck_assert_uint_eq(p.replaced_job_count, 2);
    ck_assert_mem_eq(p.replaced_jobs, jobs, sizeof jobs);
    ck_assert_uint_eq(p.blob_count, 2);
    ck_assert_mem_eq(p.blobs, blobs, sizeof blobs);
    struct table_properties plain = p;
    plain.cf_name = wanted.cf_name;
    plain.smallest = wanted.smallest;
    plain.largest = wanted.largest;
    plain.writer = wanted.writer;
    plain.cf_options = wanted.cf_options;
    plain.replaced = wanted.replaced;
    plain.replaced_jobs = wanted.replaced_jobs;
    plain.blobs = wanted.blobs;
    struct buffer again = {0};
    ck_assert_int_eq(table_properties_encode(&plain, &again, NULL), LSM_OK);
    ck_assert(slice_equal(buffer_slice(&again), buffer_slice(&bytes)));
    ck_assert_uint_eq(p.number, 9);
    ck_assert_int_eq(p.compression_level, -3);
    table_properties_release(&p);
    buffer_release(&bytes);
    buffer_release(&again);
}
END_TEST

START_TEST(test_properties_hostile_bytes_are_refused_or_bounded)
{
    struct random_state r = random_seeded(seed + 60);
    struct table_properties wanted = make_properties(), p;
    struct buffer bytes = {0};
    ck_assert_int_eq(table_properties_encode(&wanted, &bytes, NULL), LSM_OK);
    for (int round = 0; round < 20000; round++) {
        size_t size = random_below(&r, 4) == 0 ? random_below(&r, bytes.size + 1) : bytes.size;
        uint8_t *copy = malloc(size + 1 - (size > 0));
        memcpy(copy, bytes.data, size);
        for (uint64_t n = random_below(&r, 4); n > 0 && size > 0; n--)
            copy[random_below(&r, size)] ^= (uint8_t)(1u << random_below(&r, 8));
        if (table_properties_decode((lsm_slice){copy, size}, &p, NULL) == LSM_OK) {
            ck_assert_uint_gt(p.entry_count, 0);
            ck_assert_uint_le(p.cf_name.size, LSM_MAX_CF_NAME);
            ck_assert_int_le(slice_compare(p.smallest, p.largest), 0);
            table_properties_release(&p);
        }
        free(copy);
    }
    buffer_release(&bytes);
}
END_TEST

/* Unknown fields of three bytes would take many times their size. */
START_TEST(test_properties_bombs_are_refused)
{
    size_t size = TABLE_PROPERTIES_MAX_SIZE;
    uint8_t *bomb = calloc(1, size + 1);
    for (size_t i = 0; i + 2 < size; i += 3) {
        bomb[i] = 0xf8; /* field 127, unknown */
        bomb[i + 1] = 0x07;
        bomb[i + 2] = 0x00;
    }
    struct table_properties p;
    lsm_error error = {0};
    ck_assert_int_eq(table_properties_decode((lsm_slice){bomb, size / 3 * 3}, &p, &error),
                     LSM_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "memory"));
    ck_assert_int_eq(table_properties_decode((lsm_slice){bomb, size + 1}, &p, &error), LSM_CORRUPT);
    free(bomb);
}
END_TEST

START_TEST(test_properties_that_need_a_later_library_say_so)
{
    struct table_properties wanted = make_properties(), p;
    struct buffer bytes = {0};
    ck_assert_int_eq(table_properties_encode(&wanted, &bytes, NULL), LSM_OK);
    buffer_append_u8(&bytes, 1 << 3); /* incompatible: a bit that nobody knows yet */
    buffer_append_u8(&bytes, 1 << 6);
    ck_assert_int_eq(table_properties_decode(buffer_slice(&bytes), &p, NULL), LSM_NEWER_FORMAT);
    buffer_release(&bytes);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("table_format");
    TCase *c = tcase_create("table_format");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_frame_round_trip_keeps_every_field);
    tcase_add_test(c, test_frame_every_flipped_bit_and_cut_is_told);
    tcase_add_test(c, test_frame_impossible_fields_are_refused);
    tcase_add_test(c, test_frame_place_saves_pages_when_the_gap_is_small);
    tcase_add_test(c, test_footer_round_trip_keeps_every_field);
    tcase_add_test(c, test_footer_every_flipped_bit_of_its_page_is_told);
    tcase_add_test(c, test_footer_of_another_database_file_or_place_is_told);
    tcase_add_test(c, test_footer_of_a_later_version_is_told_apart_from_damage);
    tcase_add_test(c, test_footer_extents_outside_or_overlapping_are_refused);
    tcase_add_loop_test(c, test_filter_portable_and_avx2_make_the_same_bytes_and_answers, 0, 5);
    tcase_add_test(c, test_filter_of_twelve_bits_lets_few_strangers_in);
    tcase_add_test(c, test_filter_sizes_are_bounded);
    tcase_add_loop_test(c, test_index_finds_the_block_of_every_entry, 0, 12);
    tcase_add_test(c, test_index_hostile_bytes_are_refused_or_harmless);
    tcase_add_test(c, test_properties_round_trip_keeps_every_field);
    tcase_add_test(c, test_properties_of_blob_files_are_checked);
    tcase_add_test(c, test_properties_hostile_bytes_are_refused_or_bounded);
    tcase_add_test(c, test_properties_bombs_are_refused);
    tcase_add_test(c, test_properties_that_need_a_later_library_say_so);
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
