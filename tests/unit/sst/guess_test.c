/* Guesses where entries are: trusted where keys are dense, and never more than a guess. */
#include "tests/unit/sst/fixture.h"

#include "engine/base/epoch.h"
#include "engine/sst/guess.h"
#include "engine/sst/table_private.h"

#define ENTRY_COUNT 3000

/* Keys of 16 bytes: `step` apart, or anywhere when it is 0. */
static struct entries entries_of(struct random_state *r, uint64_t step, size_t value_size)
{
    struct entries e = {calloc(ENTRY_COUNT, sizeof(struct entry)), 0};
    for (; e.count < ENTRY_COUNT; e.count++) {
        uint64_t number = step == 0 ? random_next(r) : e.count * step;
        uint8_t key[16] = "01234567tail8901", value[200] = {0};
        for (size_t i = 0; i < 8; i++)
            key[i] = (uint8_t)(number >> (56 - 8 * i));
        size_t size = value_size == 0 ? random_below(r, sizeof value) : value_size;
        e.at[e.count] = (struct entry){own_bytes(key, sizeof key), entry_trailer(1, ENTRY_PUT),
                                       own_bytes(value, size)};
    }
    qsort(e.at, e.count, sizeof *e.at, compare_entries);
    return e;
}

static struct table *table_of(const struct entries *e)
{
    struct table_write_options options = write_options(1);
    options.block_size = 4096;
    struct table_meta meta = write_table(e, &options);
    struct table *t;
    ck_ok(table_open(&f.env, 1, meta.size, &t, &f.error));
    table_meta_release(&meta);
    return t;
}

/* Gets random keys; returns how many times the guess was trusted before. */
static size_t get_many(struct table *t, const struct entries *e, struct random_state *r,
                       size_t count)
{
    size_t trusted = 0;
    for (size_t i = 0; i < count; i++) {
        const struct entry *wanted = &e->at[random_below(r, e->count)];
        uint64_t hash = hash_key(wanted->key.data, wanted->key.size);
        struct table_found found;
        bool is_found;
        epoch_enter();
        trusted += guess_is_trusted(guess_unpack(atomic_load(&t->guess)));
        ck_ok(table_get(t, wanted->key, hash, ENTRY_MAX_SEQUENCE, 0, &is_found, &found, &f.error));
        ck_assert(is_found);
        ck_assert(slice_equal(found.value, wanted->value));
        if (found.owned)
            block_drop(found.block);
        epoch_exit();
    }
    return trusted;
}

/* Seeks random keys, announced or not; returns as get_many(). */
static size_t seek_many(struct table *t, const struct entries *e, struct random_state *r,
                        size_t count)
{
    size_t trusted = 0;
    struct iter *it;
    ck_ok(table_iter_new(t, &(struct table_iter_options){0}, &it, &f.error));
    for (size_t i = 0; i < count; i++) {
        const struct entry *wanted = &e->at[random_below(r, e->count)];
        trusted += guess_is_trusted(guess_unpack(atomic_load(&t->guess)));
        for (uint64_t steps = random_below(r, 4); steps > 0; steps--)
            iter_approach(it, wanted->key, ENTRY_MAX_TRAILER);
        iter_seek(it, wanted->key, ENTRY_MAX_TRAILER);
        ck_assert(it->valid && slice_equal(it->entry->key, wanted->key));
        ck_assert(slice_equal(it->entry->value, wanted->value));
    }
    iter_release(it);
    return trusted;
}

static const struct {
    uint64_t step;
    size_t value_size;
    bool is_regular;
} shapes[] = {{1, 100, true}, {1000, 100, true}, {0, 100, false}, {1, 0, false}};
#define SHAPE_COUNT 4

START_TEST(test_guess_is_trusted_where_keys_are_dense)
{
    struct random_state r = random_seeded(7);
    fixture_open(7, (uint64_t)8 << 20);
    struct entries e =
        entries_of(&r, shapes[_i % SHAPE_COUNT].step, shapes[_i % SHAPE_COUNT].value_size);
    struct table *t = table_of(&e);
    bool by_seeks = _i >= SHAPE_COUNT;
    (void)(by_seeks ? seek_many : get_many)(t, &e, &r, 2000);
    size_t trusted = (by_seeks ? seek_many : get_many)(t, &e, &r, 2000);
    if (shapes[_i % SHAPE_COUNT].is_regular)
        ck_assert_uint_gt(trusted, 1000);
    else
        ck_assert_uint_lt(trusted, 100);
    table_close(t);
    free_entries(&e);
    fixture_close();
}
END_TEST

/* Whatever stands in the word: another thread may have been at it. */
START_TEST(test_guess_of_rubbish_harms_nothing)
{
    struct random_state r = random_seeded(8);
    fixture_open(8, (uint64_t)8 << 20);
    struct entries e = entries_of(&r, 1, 100);
    struct table *t = table_of(&e);
    for (int i = 0; i < 500; i++) {
        atomic_store(&t->guess, random_next(&r));
        (void)get_many(t, &e, &r, 2);
        atomic_store(&t->guess, random_next(&r));
        (void)seek_many(t, &e, &r, 2);
    }
    table_close(t);
    free_entries(&e);
    fixture_close();
}
END_TEST

START_TEST(test_guess_learns_nothing_from_impossible_places)
{
    struct guess g = {.first = 100, .limit = 4000, .right = 12};
    ck_assert_uint_eq(guess_pack(guess_corrected(g, 10, 5)), 0);
    ck_assert_uint_eq(guess_pack(guess_corrected(g, 10, GUESS_LIMIT)), 0);
    struct guess next = guess_unpack(guess_pack(guess_corrected(g, 200, GUESS_LIMIT - 1)));
    ck_assert_uint_eq(next.first, 200);
    ck_assert_uint_eq(next.limit, GUESS_LIMIT - 1);
    ck_assert_uint_eq(next.right, 6);
    ck_assert_uint_eq(guess_place(next, 0), 200);
    ck_assert_uint_lt(guess_place(next, GUESS_WHOLE - 1), GUESS_LIMIT);
    ck_assert(guess_was_right(g, 0, 100 + GUESS_NEAR) && guess_was_right(g, 0, 100 - GUESS_NEAR));
    ck_assert(!guess_was_right(g, 0, 101 + GUESS_NEAR) && !guess_was_right(g, 0, 99 - GUESS_NEAR));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("guess");
    TCase *tests = tcase_create("guess");
    tcase_add_loop_test(tests, test_guess_is_trusted_where_keys_are_dense, 0, 2 * SHAPE_COUNT);
    tcase_add_test(tests, test_guess_of_rubbish_harms_nothing);
    tcase_add_test(tests, test_guess_learns_nothing_from_impossible_places);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
