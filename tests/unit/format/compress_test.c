/* What was compressed comes back, with and without a dictionary; wrong sizes and bytes do not. */
#include "engine/base/random.h"
#include "engine/format/compress.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define SIZE ((size_t)8192)

static void fill_text(uint8_t *at, size_t size, uint64_t seed)
{
    struct random_state r = random_seeded(seed);
    static const char *const words[] = {"\"name\":", "\"value\":", "{",  "}",
                                        "alpha",     "beta",       "12", "7"};
    size_t used = 0;
    while (used < size) {
        const char *word = words[random_below(&r, 8)];
        for (size_t i = 0; word[i] != '\0' && used < size; i++)
            at[used++] = (uint8_t)word[i];
    }
}

static const char *decode(struct decompress_pool *pool, const struct decompress_dictionary *d,
                          const uint8_t *packed, size_t size, uint8_t *raw, size_t raw_size)
{
    bool no_memory = true;
    const char *wrong =
        decompress_run(pool, d, (lsm_slice){packed, size}, raw, raw_size, &no_memory);
    ck_assert(!no_memory);
    return wrong;
}

START_TEST(test_compress_round_trip_gives_the_bytes_back)
{
    static uint8_t raw[SIZE], packed[SIZE], again[SIZE];
    struct compressor *c = compressor_new(1);
    struct decompress_pool *pool = decompress_pool_new();
    for (uint64_t round = 0; round < 50; round++) {
        fill_text(raw, SIZE, round);
        size_t size = compressor_run(c, (lsm_slice){raw, SIZE}, packed, SIZE);
        ck_assert_uint_gt(size, 0);
        ck_assert_uint_lt(size, SIZE / 2);
        memset(again, 0, SIZE);
        ck_assert_ptr_null(decode(pool, NULL, packed, size, again, SIZE));
        ck_assert_mem_eq(raw, again, SIZE);
    }
    compressor_free(c);
    decompress_pool_free(pool);
}
END_TEST

START_TEST(test_compress_that_does_not_fit_is_refused)
{
    static uint8_t raw[SIZE], packed[SIZE];
    struct random_state r = random_seeded(3);
    for (size_t i = 0; i < SIZE; i++)
        raw[i] = (uint8_t)random_next(&r);
    struct compressor *c = compressor_new(1);
    ck_assert_uint_eq(compressor_run(c, (lsm_slice){raw, SIZE}, packed, SIZE - SIZE / 8), 0);
    compressor_free(c);
}
END_TEST

START_TEST(test_decompress_wrong_size_or_bytes_is_told)
{
    static uint8_t raw[SIZE], packed[SIZE], again[2 * SIZE];
    struct compressor *c = compressor_new(1);
    struct decompress_pool *pool = decompress_pool_new();
    fill_text(raw, SIZE, 1);
    size_t size = compressor_run(c, (lsm_slice){raw, SIZE}, packed, SIZE);
    ck_assert_str_eq(decode(pool, NULL, packed, size, again, SIZE - 1),
                     "the compressed bytes tell another raw size");
    ck_assert_str_eq(decode(pool, NULL, packed, size, again, SIZE + 1),
                     "the compressed bytes tell another raw size");
    ck_assert_str_eq(decode(pool, NULL, raw, SIZE, again, SIZE),
                     "the compressed bytes do not tell their raw size");
    ck_assert_str_eq(decode(pool, NULL, packed, size - 10, again, SIZE),
                     "the compressed bytes do not decode");
    /* Any flipped bit decodes to something of the right size or to nothing; never beyond it. */
    for (size_t bit = 0; bit < size * 8; bit += 3) {
        packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        memset(again, 0xee, 2 * SIZE);
        (void)decode(pool, NULL, packed, size, again, SIZE);
        ck_assert_uint_eq(again[SIZE], 0xee);
        packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_ptr_null(decode(pool, NULL, packed, size, again, SIZE));
    compressor_free(c);
    decompress_pool_free(pool);
}
END_TEST

START_TEST(test_compress_dictionary_helps_small_pieces_and_is_needed)
{
    enum { PIECES = 400, PIECE = 512 };
    uint8_t *samples = malloc(PIECES * PIECE), dictionary[4096], packed[PIECE], again[PIECE];
    size_t sizes[PIECES];
    for (size_t i = 0; i < PIECES; i++) {
        fill_text(samples + i * PIECE, PIECE, i);
        sizes[i] = PIECE;
    }
    size_t trained = compress_train(samples, sizes, PIECES, dictionary, sizeof dictionary);
    ck_assert_uint_gt(trained, 0);
    struct compressor *c = compressor_new(1);
    size_t without = compressor_run(c, (lsm_slice){samples, PIECE}, packed, PIECE);
    ck_assert(compressor_set_dictionary(c, (lsm_slice){dictionary, trained}));
    size_t with = compressor_run(c, (lsm_slice){samples, PIECE}, packed, PIECE);
    ck_assert_uint_gt(with, 0);
    ck_assert_uint_lt(with, without);
    struct decompress_pool *pool = decompress_pool_new();
    struct decompress_dictionary *d = decompress_dictionary_new((lsm_slice){dictionary, trained});
    ck_assert_ptr_null(decode(pool, d, packed, with, again, PIECE));
    ck_assert_mem_eq(samples, again, PIECE);
    ck_assert_ptr_nonnull(decode(pool, NULL, packed, with, again, PIECE));
    decompress_dictionary_free(d);
    decompress_pool_free(pool);
    compressor_free(c);
    free(samples);
}
END_TEST

START_TEST(test_compress_train_from_too_little_gives_none)
{
    uint8_t dictionary[4096];
    size_t size = 10;
    ck_assert_uint_eq(compress_train("0123456789", &size, 1, dictionary, sizeof dictionary), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("compress");
    TCase *c = tcase_create("compress");
    tcase_add_test(c, test_compress_round_trip_gives_the_bytes_back);
    tcase_add_test(c, test_compress_that_does_not_fit_is_refused);
    tcase_add_test(c, test_decompress_wrong_size_or_bytes_is_told);
    tcase_add_test(c, test_compress_dictionary_helps_small_pieces_and_is_needed);
    tcase_add_test(c, test_compress_train_from_too_little_gives_none);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
