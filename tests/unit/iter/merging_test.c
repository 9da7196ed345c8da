/*
 * The merging iterator against a sorted array: any number of children, walks that turn round at
 * random, seeks, equal entries in several children, failing children. Random cases print their
 * seed.
 */
#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/base/status.h"
#include "engine/iter/merging.h"

#include <check.h>
#include <stdlib.h>

#define KEY_SIZE   12
#define MAX_CHILD  16
#define MAX_ENTRY  400
#define MAX_RUN    23
#define NO_FAILURE SIZE_MAX

struct entry {
    char key[KEY_SIZE];
    size_t key_size;
    uint64_t trailer;
    size_t child;
};

static struct entry all[MAX_ENTRY];
static size_t all_count;

/* ---- a child over an array ------------------------------------------------------------------- */

struct array_iter {
    struct iter it;
    struct iter_entry shown[MAX_RUN]; /* entries from `shown_from` on */
    size_t shown_from;
    struct entry *entries[MAX_ENTRY];
    size_t count;
    size_t at;
    size_t fails_at; /* standing there is a failure */
};

static unsigned released;

static struct array_iter *array_of(struct iter *it)
{
    return (struct array_iter *)(void *)it;
}

/* False: there is nothing to show. */
static bool array_settle(struct array_iter *a)
{
    a->it.status = a->at == a->fails_at ? LSM_CORRUPT : LSM_OK;
    a->it.valid = a->at < a->count && a->it.status == LSM_OK;
    a->it.run = a->it.back = 0;
    return a->it.valid;
}

static void array_fill(struct array_iter *a, size_t from, size_t count)
{
    a->shown_from = from;
    for (size_t i = 0; i < count; i++) {
        const struct entry *e = a->entries[from + i];
        a->shown[i] = (struct iter_entry){.head = bytes_head(e->key, e->key_size),
                                          .key = LSM_SLICE(e->key, e->key_size),
                                          .trailer = e->trailer,
                                          .value = LSM_SLICE(&e->child, sizeof e->child)};
    }
    a->it.entry = &a->shown[a->at - from];
}

/* How many entries are shown at once: any number. */
static size_t array_run(const struct array_iter *a)
{
    return a->at * 7 % MAX_RUN + 1;
}

static void array_show(struct array_iter *a)
{
    if (!array_settle(a))
        return;
    size_t count = 1;
    while (count < array_run(a) && a->at + count < a->count && a->at + count != a->fails_at)
        count++;
    array_fill(a, a->at, count);
    a->it.run = (uint32_t)count - 1;
}

static void array_show_back(struct array_iter *a)
{
    if (!array_settle(a))
        return;
    size_t count = 1;
    while (count < array_run(a) && count <= a->at && a->at - count != a->fails_at)
        count++;
    array_fill(a, a->at + 1 - count, count);
    a->it.back = (uint32_t)count - 1;
}

/* Where it stands, after a walk over what it shows. */
static size_t array_at(const struct array_iter *a)
{
    return a->shown_from + (size_t)(a->it.entry - a->shown);
}

static void array_first(struct iter *it)
{
    array_of(it)->at = 0;
    array_show(array_of(it));
}

static void array_last(struct iter *it)
{
    array_of(it)->at = array_of(it)->count - 1; /* wraps when empty: not valid */
    array_show_back(array_of(it));
}

static int order_of(const struct entry *e, lsm_slice key, uint64_t trailer)
{
    return entry_compare(LSM_SLICE(e->key, e->key_size), e->trailer, key, trailer);
}

static void array_seek(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct array_iter *a = array_of(it);
    a->at = 0;
    while (a->at < a->count && order_of(a->entries[a->at], key, trailer) < 0)
        a->at++;
    array_show(a);
}

static void array_seek_for_prev(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct array_iter *a = array_of(it);
    a->at = a->count;
    while (a->at > 0 && order_of(a->entries[a->at - 1], key, trailer) > 0)
        a->at--;
    a->at--;
    array_show(a);
}

static void array_next(struct iter *it)
{
    ck_assert(it->valid && it->run == 0);
    array_of(it)->at = array_at(array_of(it)) + 1;
    array_show(array_of(it));
}

static void array_prev(struct iter *it)
{
    ck_assert(it->valid && it->back == 0);
    array_of(it)->at = array_at(array_of(it)) - 1;
    array_show_back(array_of(it));
}

static void array_release(struct iter *it)
{
    released++;
    free(it);
}

static const struct iter_ops array_ops = {
    .first = array_first,
    .last = array_last,
    .seek = array_seek,
    .seek_for_prev = array_seek_for_prev,
    .next = array_next,
    .prev = array_prev,
    .release = array_release,
};

/* ---- the reference --------------------------------------------------------------------------- */

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = order_of(x, LSM_SLICE(y->key, y->key_size), y->trailer);
    if (order != 0)
        return order;
    return (x->child > y->child) - (x->child < y->child);
}

static void make_entries(struct random_state *r, size_t child_count, size_t count)
{
    all_count = child_count == 0 ? 0 : count;
    size_t alphabet = 1 + random_below(r, 3), run_child = 0;
    for (size_t i = 0; i < all_count; i++) {
        struct entry *e = &all[i];
        *e = (struct entry){.trailer = random_below(r, 4)};
        e->key_size = random_below(r, KEY_SIZE + 1);
        for (size_t k = 0; k < e->key_size; k++)
            e->key[k] = (char)random_below(r, alphabet);
        if (random_below(r, 4) == 0)
            run_child = random_below(r, child_count);
        e->child = run_child;
    }
    qsort(all, all_count, sizeof *all, compare_entries);
    /* Within a child every entry is different; equal ones in different children may stay. */
    size_t kept = 0;
    for (size_t i = 0; i < all_count; i++) {
        if (kept == 0 || compare_entries(&all[i], &all[kept - 1]) != 0)
            all[kept++] = all[i];
    }
    all_count = kept;
}

static struct iter *make_merge(size_t child_count, size_t failing_child, size_t fails_at)
{
    struct iter *children[MAX_CHILD];
    for (size_t c = 0; c < child_count; c++) {
        struct array_iter *a = calloc(1, sizeof *a);
        a->it.ops = &array_ops;
        a->fails_at = c == failing_child ? fails_at : NO_FAILURE - 1;
        for (size_t i = 0; i < all_count; i++) {
            if (all[i].child == c)
                a->entries[a->count++] = &all[i];
        }
        children[c] = &a->it;
    }
    struct iter *merged = NULL;
    ck_assert_int_eq(merging_new(children, child_count, &merged, NULL), LSM_OK);
    return merged;
}

static void check_stands_on(const struct iter *m, size_t at)
{
    ck_assert_int_eq(m->status, LSM_OK);
    ck_assert_int_eq(m->valid, at < all_count);
    if (!m->valid)
        return;
    const struct entry *e = &all[at];
    ck_assert(slice_equal(m->entry->key, LSM_SLICE(e->key, e->key_size)));
    ck_assert_uint_eq(m->entry->trailer, e->trailer);
    ck_assert_uint_eq(m->entry->head, bytes_head(e->key, e->key_size));
    ck_assert_ptr_eq(m->entry->value.data, &e->child);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static size_t random_move(struct random_state *r, struct iter *m, size_t at)
{
    struct entry *e = all_count > 0 ? &all[random_below(r, all_count)] : NULL;
    uint64_t kind = random_below(r, 12);
    if (kind == 0) {
        m->ops->first(m);
        return 0;
    }
    if (kind == 1) {
        m->ops->last(m);
        return all_count - 1;
    }
    if (kind <= 3 && e != NULL) {
        lsm_slice key = LSM_SLICE(e->key, random_below(r, e->key_size + 1));
        uint64_t trailer = random_below(r, 5);
        if (kind == 2) {
            iter_seek(m, key, trailer);
            for (at = 0; at < all_count && order_of(&all[at], key, trailer) < 0; at++)
                ;
            return at;
        }
        m->ops->seek_for_prev(m, key, trailer);
        for (at = all_count; at > 0 && order_of(&all[at - 1], key, trailer) > 0; at--)
            ;
        return at - 1;
    }
    if (!m->valid)
        return at;
    if (kind % 2 == 0) {
        iter_next(m);
        return at + 1;
    }
    iter_prev(m);
    return at - 1;
}

/* One seed a round of the loop; a failure prints it. */
START_TEST(test_merging_any_walk_follows_the_sorted_array)
{
    static const size_t child_counts[] = {0, 1, 2, 3, 7, 16};
    struct random_state r = random_seeded((uint64_t)_i);
    size_t child_count = child_counts[_i % 6];
    make_entries(&r, child_count, 1 + random_below(&r, MAX_ENTRY));
    struct iter *m = make_merge(child_count, SIZE_MAX, 0);
    size_t at = SIZE_MAX;
    ck_assert(!m->valid);
    uint64_t streak = 0; /* steps forwards yet to come, so that it merges ahead */
    for (unsigned move = 0; move < 400; move++) {
        if (streak > 0 && m->valid) {
            iter_next(m);
            at++;
            streak--;
        } else {
            at = random_move(&r, m, at);
            streak = random_below(&r, 8) == 0 ? random_below(&r, 60) : 0;
        }
        check_stands_on(m, at);
    }
    released = 0;
    iter_release(m);
    ck_assert_uint_eq(released, child_count);
}
END_TEST

START_TEST(test_merging_long_walks_follow_the_sorted_array)
{
    for (uint64_t seed = 1000; seed < 1040; seed++) {
        struct random_state r = random_seeded(seed);
        make_entries(&r, 5, MAX_ENTRY);
        struct iter *m = make_merge(5, SIZE_MAX, 0);
        m->ops->first(m);
        size_t at = 0;
        for (; m->valid; at++) {
            check_stands_on(m, at);
            iter_next(m);
        }
        ck_assert_uint_eq(at, all_count);
        m->ops->last(m);
        for (at = all_count; m->valid; at--) {
            check_stands_on(m, at - 1);
            iter_prev(m);
        }
        ck_assert_uint_eq(at, 0);
        iter_release(m);
    }
}
END_TEST

START_TEST(test_merging_failing_child_ends_the_walk_with_its_status)
{
    struct random_state r = random_seeded(7);
    make_entries(&r, 4, MAX_ENTRY);
    for (size_t fails_at = 0; fails_at < 20; fails_at++) {
        struct iter *m = make_merge(4, 2, fails_at);
        size_t shown = 0;
        for (m->ops->first(m); m->valid; iter_next(m))
            shown++;
        ck_assert_int_eq(m->status, LSM_CORRUPT);
        ck_assert_uint_lt(shown, all_count);
        iter_release(m);
    }
}
END_TEST

START_TEST(test_merging_without_memory_releases_the_children)
{
    struct random_state r = random_seeded(8);
    make_entries(&r, 3, 30);
    struct iter *children[3], *merged = NULL;
    for (size_t c = 0; c < 3; c++) {
        struct array_iter *a = calloc(1, sizeof *a);
        a->it.ops = &array_ops;
        children[c] = &a->it;
    }
    released = 0;
    lsm_error error = {0};
    mem_fail_after(0, false);
    ck_assert_int_eq(merging_new(children, 3, &merged, &error), LSM_NO_MEMORY);
    mem_fail_after(-1, false);
    ck_assert_ptr_null(merged);
    ck_assert_uint_eq(released, 3);
    ck_assert_int_eq(error.status, LSM_NO_MEMORY);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("merging");
    TCase *cases = tcase_create("merging");
    tcase_set_timeout(cases, 60);
    tcase_add_loop_test(cases, test_merging_any_walk_follows_the_sorted_array, 1, 241);
    tcase_add_test(cases, test_merging_long_walks_follow_the_sorted_array);
    tcase_add_test(cases, test_merging_failing_child_ends_the_walk_with_its_status);
    tcase_add_test(cases, test_merging_without_memory_releases_the_children);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
