/* Iterators: those that are kept for the next open, and walks whose sources come and go. */
#include "engine/db/db_private.h"
#include "engine/base/random.h"
#include "tests/unit/db/db_fixture.h"

#include <unistd.h>

static lsm_iter *iter_over(lsm_db *db)
{
    lsm_iter *it = NULL;
    ck_ok(lsm_iter_open(db, NULL, NULL, &it, &error));
    return it;
}

static unsigned count_forwards(lsm_db *db)
{
    lsm_iter *it = iter_over(db);
    unsigned count = 0;
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it))
        count++;
    ck_ok(lsm_iter_status(it, &error));
    lsm_iter_close(it);
    return count;
}

static unsigned count_parked(lsm_db *db)
{
    unsigned count = 0;
    for (size_t i = 0; i < DB_PARKED_ITERATORS; i++)
        count += atomic_load(&db->parked[i]) != NULL;
    return count;
}

START_TEST(test_iterator_taken_over_shows_what_was_written_since)
{
    lsm_db *db = open_small();
    ck_assert_uint_eq(count_forwards(db), 0); /* its memtable was empty and is not in the merge */
    put_many(db, NULL, 0, 10, 10);
    ck_assert_uint_eq(count_forwards(db), 10);
    lsm_iter *parked = atomic_load(&db->parked[0]);
    put_many(db, NULL, 10, 10, 10);
    lsm_iter *it = iter_over(db);
    ck_assert_ptr_eq(it, parked);
    ck_assert(!lsm_iter_valid(it));
    lsm_iter_seek(it, text("many-000019"));
    ck_assert(lsm_iter_valid(it));
    lsm_iter_close(it);
    close_ok(db);
}
END_TEST

START_TEST(test_iterator_taken_over_shows_its_own_snapshot_family_and_bounds)
{
    lsm_db *db = open_small();
    lsm_cf *cf = NULL;
    lsm_snapshot *snapshot = NULL;
    ck_ok(lsm_cf_create(db, "other", NULL, &cf, &error));
    put_many(db, NULL, 0, 10, 10);
    ck_ok(lsm_snapshot_acquire(db, &snapshot, &error));
    put_many(db, NULL, 10, 10, 10);
    ck_assert_uint_eq(count_forwards(db), 20);
    lsm_read_options options[] = {
        {.snapshot = snapshot}, {.limit = text("many-000003")}, {.keys_only = true}, {0}};
    unsigned expected[] = {10, 3, 20, 20};
    for (unsigned i = 0; i < 4; i++) {
        lsm_iter *it = NULL;
        unsigned count = 0;
        ck_ok(lsm_iter_open(db, NULL, &options[i], &it, &error));
        for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it), count++)
            ck_assert_uint_eq(lsm_iter_value(it).size, options[i].keys_only ? 0 : 10);
        ck_assert_uint_eq(count, expected[i]);
        lsm_iter_close(it);
    }
    lsm_iter *it = NULL;
    ck_ok(lsm_iter_open(db, cf, NULL, &it, &error));
    lsm_iter_first(it);
    ck_assert(!lsm_iter_valid(it));
    lsm_iter_close(it);
    lsm_snapshot_release(db, snapshot);
    close_ok(db);
}
END_TEST

/* A memtable is only used again when nobody holds it: with two of them each flush needs the other.
 */
START_TEST(test_iterator_parked_is_let_go_when_the_state_changes)
{
    lsm_db *db = open_with(SMALL_OPTIONS ",memtable_count=2");
    for (unsigned round = 0; round < 6; round++) {
        put_many(db, NULL, round * 100, 100, 10);
        ck_assert_uint_eq(count_forwards(db), (round + 1) * 100);
        ck_assert_uint_eq(count_parked(db), 1);
        ck_ok(lsm_flush(db, &error));
        ck_assert_uint_eq(count_parked(db), 0);
    }
    close_ok(db);
}
END_TEST

START_TEST(test_iterator_more_at_once_than_are_kept_are_all_closed)
{
    lsm_db *db = open_small();
    lsm_iter *its[DB_PARKED_ITERATORS + 2];
    put_many(db, NULL, 0, 10, 10);
    for (size_t i = 0; i < DB_PARKED_ITERATORS + 2; i++)
        its[i] = iter_over(db);
    for (size_t i = 0; i < DB_PARKED_ITERATORS + 2; i++)
        lsm_iter_close(its[i]);
    ck_assert_uint_eq(count_parked(db), DB_PARKED_ITERATORS);
    ck_assert_uint_eq(count_forwards(db), 10);
    close_ok(db);
}
END_TEST

/* Every key begins with all of the others' bytes or more, so heads decide nothing, and a table has
 * one key: what is compared is the key of a table that the walk has just left. */
START_TEST(test_iterator_walk_over_tables_of_one_key_each_shows_all)
{
    lsm_db *db = open_with(SMALL_OPTIONS ",table_size=4KiB,level0_trigger=100");
    char key[64];
    memset(key, 'k', sizeof key);
    for (size_t size = 1; size <= sizeof key; size++) {
        ck_ok(lsm_put(db, NULL, LSM_SLICE(key, size), text("value"), NULL, &error));
        ck_ok(lsm_flush(db, &error));
    }
    for (int pass = 0; pass < 2; pass++) {
        ck_assert_uint_eq(count_forwards(db), sizeof key);
        ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    }
    close_ok(db);
}
END_TEST

/* ---- any walk, both ways --------------------------------------------------------------------- */

enum { WALK_KEYS = 300, WALK_LONG = 3000 };

/* What keys hold, and held when a snapshot was taken: a number that value bytes follow from; 0: the
 * key is not there. */
struct walk {
    lsm_db *db;
    struct random_state random;
    uint32_t now[WALK_KEYS], then[WALK_KEYS];
    uint32_t last_number;
};

/* Some keys are too long for many to stand in one array. */
static lsm_slice walk_key(uint32_t k, char *key)
{
    int size = snprintf(key, WALK_LONG, "walk-%05u", k);
    if (k % 7 != 3)
        return LSM_SLICE(key, (size_t)size);
    memset(key + size, 'x', WALK_LONG - (size_t)size);
    return LSM_SLICE(key, k % 2 == 0 ? 200 : WALK_LONG);
}

static size_t walk_value(uint32_t number, char *value)
{
    size_t size = number * 37 % 500;
    memset(value, 'a' + (int)(number % 26), size);
    return size;
}

static void walk_write(struct walk *w, unsigned count)
{
    char key[WALK_LONG], value[500];
    for (unsigned i = 0; i < count; i++) {
        uint32_t k = (uint32_t)random_below(&w->random, WALK_KEYS);
        w->now[k] = random_below(&w->random, 4) == 0 ? 0 : ++w->last_number;
        if (w->now[k] == 0)
            ck_ok(lsm_delete(w->db, NULL, walk_key(k, key), NULL, &error));
        else
            ck_ok(lsm_put(w->db, NULL, walk_key(k, key),
                          LSM_SLICE(value, walk_value(w->now[k], value)), NULL, &error));
    }
}

static void check_walk_at(lsm_iter *it, const uint32_t *model, uint32_t k, uint32_t limit)
{
    char key[WALK_LONG], value[500];
    ck_assert_int_eq(lsm_iter_valid(it), k < limit);
    ck_ok(lsm_iter_status(it, &error));
    if (k >= limit)
        return;
    lsm_slice wanted = walk_key(k, key), shown = lsm_iter_key(it), bytes = lsm_iter_value(it);
    ck_assert(shown.size == wanted.size && memcmp(shown.data, wanted.data, shown.size) == 0);
    size_t size = walk_value(model[k], value);
    ck_assert(bytes.size == size && (size == 0 || memcmp(bytes.data, value, size) == 0));
}

/* The key at or after k; `limit` when there is none below it. */
static uint32_t model_up(const uint32_t *model, uint32_t k, uint32_t limit)
{
    while (k < limit && model[k] == 0)
        k++;
    return k < limit ? k : limit;
}

/* The key below k; `limit` when there is none from `first` on. */
static uint32_t model_down(const uint32_t *model, uint32_t k, uint32_t first, uint32_t limit)
{
    while (k > first) {
        if (model[--k] != 0)
            return k;
    }
    return limit;
}

static void walk_about(struct walk *w, const uint32_t *model, const lsm_snapshot *snapshot)
{
    char first_key[WALK_LONG], limit_key[WALK_LONG], key[WALK_LONG];
    bool is_bounded = random_below(&w->random, 2) == 0;
    uint32_t first = is_bounded ? (uint32_t)random_below(&w->random, WALK_KEYS / 3) : 0;
    uint32_t limit = WALK_KEYS - (is_bounded ? (uint32_t)random_below(&w->random, 90) : 0);
    lsm_read_options options = {.snapshot = snapshot,
                                .no_fill_cache = random_below(&w->random, 2) == 0};
    if (is_bounded) {
        options.first = walk_key(first, first_key);
        options.limit = walk_key(limit, limit_key);
    }
    lsm_iter *it = NULL;
    ck_ok(lsm_iter_open(w->db, NULL, &options, &it, &error));
    uint32_t at = limit;
    for (unsigned move = 0; move < 60; move++) {
        uint32_t k = first + (uint32_t)random_below(&w->random, limit - first);
        switch (random_below(&w->random, 4)) {
        case 0:
            lsm_iter_seek(it, walk_key(k, key));
            at = model_up(model, k, limit);
            break;
        case 1:
            lsm_iter_seek_for_prev(it, walk_key(k, key));
            at = model_down(model, k + 1, first, limit);
            break;
        case 2:
            lsm_iter_last(it);
            at = model_down(model, limit, first, limit);
            break;
        default: /* goes on from where it stands */
            break;
        }
        check_walk_at(it, model, at, limit);
        bool down = random_below(&w->random, 3) > 0;
        for (uint64_t left = random_below(&w->random, 80); left > 0 && at < limit; left--) {
            if (random_below(&w->random, 25) == 0)
                down = !down;
            if (down)
                lsm_iter_prev(it);
            else
                lsm_iter_next(it);
            at = down ? model_down(model, at, first, limit) : model_up(model, at + 1, limit);
            check_walk_at(it, model, at, limit);
        }
    }
    lsm_iter_close(it);
}

/* Blocks of few entries, versions that are newer than what is seen, deletions, several sources. */
START_TEST(test_iterator_any_walk_shows_what_was_there)
{
    uint64_t seed = (uint64_t)getpid() * 100 + (uint64_t)_i;
    printf("walk seed %" PRIu64 "\n", seed);
    struct walk w = {.random = random_seeded(seed)};
    w.db = open_with(SMALL_OPTIONS ",block_size=1KiB");
    walk_write(&w, WALK_KEYS * 2);
    if (_i % 3 > 0)
        ck_ok(lsm_compact_range(w.db, NULL, NULL, &error));
    walk_write(&w, (unsigned)random_below(&w.random, WALK_KEYS));
    lsm_snapshot *snapshot = NULL;
    ck_ok(lsm_snapshot_acquire(w.db, &snapshot, &error));
    memcpy(w.then, w.now, sizeof w.then);
    for (int round = 0; round < 3; round++) {
        walk_write(&w, WALK_KEYS);
        if (_i % 3 > 1)
            ck_ok(lsm_flush(w.db, &error));
    }
    for (int round = 0; round < 6; round++) {
        walk_about(&w, w.then, snapshot);
        walk_about(&w, w.now, NULL);
    }
    lsm_snapshot_release(w.db, snapshot);
    close_ok(w.db);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("iterator");
    tcase_add_checked_fixture(tests, fixture_set_up, fixture_tear_down);
    tcase_add_test(tests, test_iterator_taken_over_shows_what_was_written_since);
    tcase_add_test(tests, test_iterator_taken_over_shows_its_own_snapshot_family_and_bounds);
    tcase_add_test(tests, test_iterator_parked_is_let_go_when_the_state_changes);
    tcase_add_test(tests, test_iterator_more_at_once_than_are_kept_are_all_closed);
    tcase_add_test(tests, test_iterator_walk_over_tables_of_one_key_each_shows_all);
    tcase_add_loop_test(tests, test_iterator_any_walk_shows_what_was_there, 0, 6);
    Suite *suite = suite_create("iterator");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
