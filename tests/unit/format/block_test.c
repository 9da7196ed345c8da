/* Blocks against a sorted array, the portable search against the one for AVX2, hostile bytes. */
#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/format/block.h"
#include "engine/format/block_columns.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define HEADROOM 48
#define MAX_KEY  60

static uint64_t seed;

struct item {
    uint8_t key[MAX_KEY];
    size_t key_size;
    uint64_t trailer;
    uint8_t value[40];
    size_t value_size;
};

static lsm_slice key_of(const struct item *i)
{
    return (lsm_slice){i->key, i->key_size};
}

static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    return entry_compare(key_of(x), x->trailer, key_of(y), y->trailer);
}

static size_t random_key(struct random_state *r, unsigned shape, uint8_t *key)
{
    static const uint8_t alphabet[] = {0, 0xff, 'x', 'y'};
    size_t size;
    switch (shape % 5) {
    case 0: /* nothing but ties of heads */
        memset(key, 'p', 24);
        size = 24 + random_below(r, 4);
        for (size_t i = 24; i < size; i++)
            key[i] = alphabet[random_below(r, 4)];
        return size;
    case 1:
        size = random_below(r, 5);
        for (size_t i = 0; i < size; i++)
            key[i] = alphabet[random_below(r, 4)];
        return size;
    case 2:
        return (size_t)sprintf((char *)key, "key%08u", (unsigned)random_below(r, 5000));
    case 3:
        size = random_below(r, MAX_KEY);
        for (size_t i = 0; i < size; i++)
            key[i] = (uint8_t)random_next(r);
        return size;
    default: /* around the 8 bytes of a head */
        memset(key, 'a', 16);
        size = 6 + random_below(r, 5);
        for (size_t i = 5; i < size; i++)
            key[i] = alphabet[random_below(r, 4)];
        return size;
    }
}

/* Sorted, without equals. */
static size_t random_items(struct random_state *r, unsigned shape, struct item *items, size_t count)
{
    uint64_t range = random_below(r, 3) == 0 ? UINT64_MAX >> 8 : 1 + random_below(r, 1000);
    bool one_sequence = random_below(r, 4) == 0;
    for (size_t i = 0; i < count; i++) {
        items[i].key_size = random_key(r, shape, items[i].key);
        items[i].trailer = entry_trailer(one_sequence ? 9 : random_below(r, range), ENTRY_PUT);
        items[i].value_size = random_below(r, sizeof items[i].value);
        for (size_t j = 0; j < items[i].value_size; j++)
            items[i].value[j] = (uint8_t)random_next(r);
    }
    qsort(items, count, sizeof *items, compare_items);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || compare_items(&items[kept - 1], &items[i]) != 0)
            items[kept++] = items[i];
    }
    return kept;
}

static void build(struct block_builder *b, const struct item *items, size_t count, uint8_t **data,
                  size_t *size)
{
    block_builder_clear(b);
    for (size_t i = 0; i < count; i++)
        block_builder_add(b, key_of(&items[i]), hash_key(items[i].key, items[i].key_size),
                          items[i].trailer, (lsm_slice){items[i].value, items[i].value_size});
    ck_assert_int_eq(block_builder_finish(b, data, size), LSM_OK);
}

static size_t model_seek(const struct item *items, size_t count, lsm_slice key, uint64_t trailer)
{
    size_t i = 0;
    while (i < count && entry_compare(key_of(&items[i]), items[i].trailer, key, trailer) < 0)
        i++;
    return i;
}

static void check_entries(const struct block_view *v, const struct item *items, size_t count)
{
    struct buffer key = {0};
    ck_assert_uint_eq(v->count, count);
    for (size_t i = 0; i < count; i++) {
        ck_assert(block_copy_key(v, i, &key));
        ck_assert(slice_equal(buffer_slice(&key), key_of(&items[i])));
        ck_assert_uint_eq(block_trailer(v, i), items[i].trailer);
        ck_assert(slice_equal(block_value(v, i), (lsm_slice){items[i].value, items[i].value_size}));
    }
    buffer_release(&key);
}

static void check_search(const struct block_view *v, const struct item *items, size_t count,
                         lsm_slice key, uint64_t trailer)
{
    size_t wanted = model_seek(items, count, key, trailer);
    ck_assert_uint_eq(block_seek(v, key, trailer), wanted);
    bool there = wanted < count && slice_equal(key_of(&items[wanted]), key);
    for (int portable = 0; portable < 2; portable++) {
        uint32_t index = UINT32_MAX;
        block_use_portable(portable == 1);
        ck_assert_int_eq(block_find(v, key, hash_key(key.data, key.size), trailer, 0, &index),
                         there);
        if (there)
            ck_assert_uint_eq(index, wanted);
        /* In steps, with what is known of the prefix, it is the same. */
        size_t shared = slice_common_prefix(key, (lsm_slice){v->prefix, v->prefix_size});
        uint64_t hash = hash_key(key.data, key.size);
        block_approach(v, hash, shared);
        uint32_t entry = block_approach_entry(v, key, hash);
        index = UINT32_MAX;
        ck_assert_int_eq(block_find_at(v, key, hash, trailer, shared, entry, &index), there);
        if (there)
            ck_assert_uint_eq(index, wanted);
    }
    block_use_portable(false);
    if (wanted < count) {
        int order = entry_compare(key_of(&items[wanted]), items[wanted].trailer, key, trailer);
        int got = block_compare(v, wanted, key, trailer);
        ck_assert_int_eq((got > 0) - (got < 0), (order > 0) - (order < 0));
    }
}

START_TEST(test_block_random_entries_agree_with_an_array)
{
    struct random_state r = random_seeded(seed + (uint64_t)_i);
    struct item *items = calloc(700, sizeof *items);
    struct block_builder b;
    block_builder_init(&b, HEADROOM);
    for (int round = 0; round < 6; round++) {
        size_t count =
            random_items(&r, (unsigned)_i, items, 1 + random_below(&r, round == 5 ? 700 : 90));
        uint8_t *data;
        size_t size;
        build(&b, items, count, &data, &size);
        ck_assert_ptr_null(block_check(data, size));
        struct block_view v = block_view_of(data);
        ck_assert_ptr_null(block_check_order(&v));
        check_entries(&v, items, count);
        for (size_t n = 0; n < 300; n++) {
            uint8_t other[MAX_KEY];
            const struct item *item = &items[random_below(&r, count)];
            lsm_slice key = key_of(item);
            if (random_below(&r, 3) == 0)
                key = (lsm_slice){other, random_key(&r, (unsigned)random_below(&r, 6), other)};
            uint64_t trailer = item->trailer + random_below(&r, 3) - 1;
            check_search(&v, items, count, key, random_below(&r, 4) ? trailer : UINT64_MAX);
        }
    }
    block_builder_release(&b);
    free(items);
}
END_TEST

START_TEST(test_block_size_estimate_is_exact_for_keys_over_the_head)
{
    struct random_state r = random_seeded(seed);
    struct block_builder b;
    block_builder_init(&b, 0);
    for (size_t n = 0; n < 900; n++) {
        char key[40];
        int size =
            sprintf(key, "table/%06zu/12345678%.*s", n, (int)random_below(&r, 9), "abcdefghi");
        uint8_t value[200] = {0};
        block_builder_add(&b, LSM_SLICE(key, (size_t)size), 0, entry_trailer(n, ENTRY_PUT),
                          LSM_SLICE(value, random_below(&r, 200)));
        uint8_t *data;
        size_t built;
        ck_assert_int_eq(block_builder_finish(&b, &data, &built), LSM_OK);
        ck_assert_uint_eq(block_builder_size_with(&b, LSM_SLICE(NULL, 0), 0), built);
    }
    block_builder_release(&b);
}
END_TEST

START_TEST(test_block_giant_entry_takes_wide_offsets)
{
    size_t size = (size_t)3 << 20;
    uint8_t *value = malloc(size), *key = malloc(LSM_MAX_KEY_SIZE);
    memset(value, 'v', size);
    memset(key, 'k', LSM_MAX_KEY_SIZE);
    struct block_builder b;
    block_builder_init(&b, HEADROOM);
    lsm_slice k = {key, LSM_MAX_KEY_SIZE}, longer = {value, size};
    block_builder_add(&b, LSM_SLICE("a", 1), 1, 256, LSM_SLICE("x", 1));
    block_builder_add(&b, k, hash_key(k.data, k.size), 257, longer);
    uint8_t *data;
    size_t built;
    ck_assert_int_eq(block_builder_finish(&b, &data, &built), LSM_OK);
    ck_assert_ptr_null(block_check(data, built));
    struct block_view v = block_view_of(data);
    ck_assert(v.flags & BLOCK_WIDE_OFFSETS);
    uint32_t index;
    ck_assert(block_find(&v, k, hash_key(k.data, k.size), UINT64_MAX, 0, &index));
    ck_assert(slice_equal(block_value(&v, index), longer));
    block_builder_release(&b);
    free(value);
    free(key);
}
END_TEST

/* Exercises everything that trusts a checked block; sanitizers watch. */
static void use_block(const uint8_t *data, size_t size)
{
    struct block_view v = block_view_of(data);
    struct buffer key = {0};
    volatile uint8_t last = 0;
    for (size_t i = 0; i < v.count; i++) {
        ck_assert(block_copy_key(&v, i, &key));
        lsm_slice value = block_value(&v, i);
        ck_assert(value.size <= size);
        if (value.size > 0)
            last = ((const uint8_t *)value.data)[value.size - 1];
        uint32_t index = 0;
        ck_assert_uint_le(block_seek(&v, buffer_slice(&key), block_trailer(&v, i)), v.count);
        if (block_find(&v, buffer_slice(&key), hash_key(key.data, key.size), UINT64_MAX, 0, &index))
            ck_assert_uint_lt(index, v.count);
    }
    (void)last;
    (void)block_check_order(&v);
    buffer_release(&key);
}

/* Damaged blocks in allocations of exactly their size, so that a read beyond is seen. */
START_TEST(test_block_hostile_bytes_are_refused_or_harmless)
{
    struct random_state r = random_seeded(seed + 100 + (uint64_t)_i);
    struct item *items = calloc(40, sizeof *items);
    struct block_builder b;
    block_builder_init(&b, 0);
    size_t refused = 0, used = 0;
    for (unsigned round = 0; round < 4000; round++) {
        uint8_t *data;
        size_t size;
        build(&b, items, random_items(&r, round, items, 1 + random_below(&r, 40)), &data, &size);
        if (random_below(&r, 4) == 0)
            size = random_below(&r, size + 1);
        uint8_t *copy = malloc(size + 1 - (size > 0));
        memcpy(copy, data, size);
        for (uint64_t n = random_below(&r, 4); n > 0 && size > 0; n--) {
            /* Mostly in header and columns, where it hurts. */
            size_t at = random_below(&r, 2) ? random_below(&r, size)
                                            : random_below(&r, size < 64 ? size : 64);
            copy[at] = (uint8_t)(random_below(&r, 2) ? random_next(&r)
                                                     : copy[at] ^ 1u << random_below(&r, 8));
        }
        if (block_check(copy, size) == NULL) {
            used++;
            use_block(copy, size);
        } else {
            refused++;
        }
        free(copy);
    }
    ck_assert_uint_gt(refused, 500);
    ck_assert_uint_gt(used, 500);
    block_builder_release(&b);
    free(items);
}
END_TEST

START_TEST(test_block_out_of_order_or_wrong_tag_is_told)
{
    struct item items[2] = {{.key = "b", .key_size = 1, .trailer = 1},
                            {.key = "a", .key_size = 1, .trailer = 1}};
    struct block_builder b;
    block_builder_init(&b, 0);
    uint8_t *data;
    size_t size;
    build(&b, items, 2, &data, &size);
    struct block_view v = block_view_of(data);
    ck_assert_str_eq(block_check_order(&v), "entries are out of order");
    qsort(items, 2, sizeof *items, compare_items);
    build(&b, items, 2, &data, &size);
    ck_assert_ptr_null(block_check_order(&v));
    data[BLOCK_HEADER_SIZE + 1] ^= 1;
    ck_assert_str_eq(block_check_order(&v), "a tag is not that of its key");
    data[BLOCK_HEADER_SIZE + 1] ^= 1;
    data[BLOCK_HEADER_SIZE + 32] ^= 1; /* the end of the first head: beyond the key */
    ck_assert_str_eq(block_check_order(&v), "a short key's head is not filled up with zeros");
    block_builder_release(&b);
}
END_TEST

START_TEST(test_builder_without_memory_says_so)
{
    for (int64_t n = 0; n < 4; n++) {
        struct block_builder b;
        block_builder_init(&b, 0);
        mem_fail_after(n, false);
        block_builder_add(&b, LSM_SLICE("key", 3), 0, 1, LSM_SLICE("value", 5));
        uint8_t *data;
        size_t size;
        lsm_status status = block_builder_finish(&b, &data, &size);
        mem_fail_after(-1, false);
        ck_assert_int_eq(status, n < 3 ? LSM_NO_MEMORY : LSM_OK);
        block_builder_release(&b);
    }
}
END_TEST

/* ---- turned columns -------------------------------------------------------------------------- */

static void check_turned(lsm_slice raw)
{
    bool no_memory = true;
    uint8_t *turned = malloc(raw.size); /* of exactly its size, for the sanitizer */
    block_columns_turn(raw, turned);
    ck_assert_ptr_null(block_columns_turn_back(turned, raw.size, &no_memory));
    ck_assert(!no_memory);
    ck_assert_mem_eq(turned, raw.data, raw.size);
    free(turned);
}

START_TEST(test_block_columns_turned_and_back_are_the_same)
{
    struct random_state r = random_seeded(seed + 100 + (uint64_t)_i);
    struct item *items = calloc(3000, sizeof *items);
    struct block_builder b;
    block_builder_init(&b, HEADROOM);
    uint32_t flags = 0;
    for (int round = 0; round < 20; round++) {
        size_t most = round == 0 ? 3000 : 100; /* the first has wide offsets */
        size_t count = random_items(&r, (unsigned)_i, items, 1 + random_below(&r, most));
        uint8_t *data;
        size_t size;
        build(&b, items, count, &data, &size);
        flags |= block_view_of(data).flags;
        check_turned((lsm_slice){data, size});
    }
    ck_assert_uint_ne(flags, 0);
    block_builder_release(&b);
    free(items);
}
END_TEST

/* As lsm-format(5) has it, byte by byte. */
START_TEST(test_block_columns_turned_are_planes_of_differences)
{
    struct item items[2] = {
        {.key = "ab", .key_size = 2, .trailer = entry_trailer(0x30201, ENTRY_PUT)},
        {.key = "ad", .key_size = 2, .trailer = entry_trailer(0x30202, ENTRY_PUT)},
    };
    items[0].value_size = 3;
    struct block_builder b;
    block_builder_init(&b, HEADROOM);
    uint8_t *data, turned[256];
    size_t size;
    build(&b, items, 2, &data, &size);
    ck_assert_uint_le(size, sizeof turned);
    block_columns_turn((lsm_slice){data, size}, turned);
    struct block_view v = block_view_of(data);
    ck_assert_uint_eq(v.flags, BLOCK_SHORT_TRAILERS);
    const size_t heads = (size_t)(v.heads - data), trailers = (size_t)(v.trailers - data);
    const size_t offsets = (size_t)(v.offsets - data), prefix = (size_t)(v.prefix - data);
    ck_assert_mem_eq(turned, data, heads);
    ck_assert_mem_eq(turned + prefix, data + prefix, size - prefix);
    /* Behind the prefix "a" the heads are 0x62 << 56 and 2 << 56 more. */
    static const uint8_t wanted_heads[16] = {[14] = 0x62, [15] = 0x02};
    ck_assert_mem_eq(turned + heads, wanted_heads, 16);
    /* The base is the smaller one: 0 and 0x100. */
    static const uint8_t wanted_trailers[8] = {[3] = 1};
    ck_assert_mem_eq(turned + trailers, wanted_trailers, 8);
    uint16_t first = bytes_get_u16(v.offsets);
    const uint8_t wanted_offsets[6] = {(uint8_t)first, 3, 0, (uint8_t)(first >> 8), 0, 0};
    ck_assert_mem_eq(turned + offsets, wanted_offsets, 6);
    block_builder_release(&b);
}
END_TEST

START_TEST(test_block_columns_that_do_not_fit_are_refused)
{
    bool no_memory;
    uint8_t block[64] = {0};
    ck_assert_ptr_nonnull(block_columns_turn_back(block, BLOCK_HEADER_SIZE - 1, &no_memory));
    ck_assert_ptr_null(block_columns_turn_back(block, BLOCK_HEADER_SIZE + 2, &no_memory));
    bytes_put_u32(block, 1);
    ck_assert_ptr_nonnull(block_columns_turn_back(block, sizeof block, &no_memory));
    bytes_put_u32(block, UINT32_MAX);
    ck_assert_ptr_nonnull(block_columns_turn_back(block, sizeof block, &no_memory));
    struct random_state r = random_seeded(seed + 200);
    for (unsigned round = 0; round < 3000; round++) {
        size_t size = BLOCK_HEADER_SIZE + random_below(&r, 6000);
        uint8_t *bytes = malloc(size); /* of exactly its size, for the sanitizer */
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)random_next(&r);
        bytes_put_u32(bytes, (uint32_t)random_below(&r, size / 8));
        (void)block_columns_turn_back(bytes, size, &no_memory);
        free(bytes);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("block");
    TCase *c = tcase_create("block");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, test_block_random_entries_agree_with_an_array, 0, 20);
    tcase_add_test(c, test_block_size_estimate_is_exact_for_keys_over_the_head);
    tcase_add_test(c, test_block_giant_entry_takes_wide_offsets);
    tcase_add_loop_test(c, test_block_hostile_bytes_are_refused_or_harmless, 0, 3);
    tcase_add_test(c, test_block_out_of_order_or_wrong_tag_is_told);
    tcase_add_test(c, test_builder_without_memory_says_so);
    tcase_add_loop_test(c, test_block_columns_turned_and_back_are_the_same, 0, 5);
    tcase_add_test(c, test_block_columns_turned_are_planes_of_differences);
    tcase_add_test(c, test_block_columns_that_do_not_fit_are_refused);
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
