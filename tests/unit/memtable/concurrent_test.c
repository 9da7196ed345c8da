/*
 * One thread inserts, three read: no key that was published before a lookup began may be missed,
 * and an iterator goes forwards only and passes every key that was there when it was placed.
 *
 * Keys are numbers of a dense range, inserted in an order that can be computed backwards, so that a
 * reader knows for every number whether it was published when it looked.
 */
#include "engine/base/hash.h"
#include "engine/base/random.h"
#include "engine/memtable/memtable.h"
#include "tests/unit/memtable/memtable_reference.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define KEY_BITS     16
#define KEY_COUNT    (UINT64_C(1) << KEY_BITS)
#define VERSIONS     2 /* each key is written so often, the second time in the same order */
#define READERS      3
#define LOOKUP_COUNT UINT64_C(4000000) /* at least; until then there are more rounds */
#define MAX_ROUNDS   200

enum order {
    ORDER_SHUFFLED,
    ORDER_ASCENDING,
    ORDER_DESCENDING,
    ORDER_RUNS, /* ascending runs, interleaved */
    ORDERS,
};

struct round {
    struct memtable *mt;
    enum order order;
    bool decimal; /* keys as text with a long prefix in common, or 8 bytes */
    uint64_t seed;
    _Atomic uint64_t published; /* inserts that readers have to find */
    _Atomic uint64_t lookups;
    _Atomic uint64_t missed;
    _Atomic uint64_t iterated;
};

#define MULTIPLIER UINT64_C(40503) /* odd: has an inverse */

static uint64_t inverse_of_multiplier(void)
{
    uint64_t inverse = 1;
    for (int i = 0; i < 6; i++)
        inverse *= 2 - MULTIPLIER * inverse;
    return inverse;
}

/* The number that is inserted as the i-th, and back. */
static uint64_t number_of(const struct round *r, uint64_t i)
{
    i %= KEY_COUNT;
    switch (r->order) {
    case ORDER_SHUFFLED:
        return (i * MULTIPLIER + r->seed) % KEY_COUNT;
    case ORDER_DESCENDING:
        return KEY_COUNT - 1 - i;
    case ORDER_RUNS:
        return i % 16 * (KEY_COUNT / 16) + i / 16;
    default:
        return i;
    }
}

static uint64_t place_of(const struct round *r, uint64_t number)
{
    switch (r->order) {
    case ORDER_SHUFFLED:
        return (number - r->seed) * inverse_of_multiplier() % KEY_COUNT;
    case ORDER_DESCENDING:
        return KEY_COUNT - 1 - number;
    case ORDER_RUNS:
        return number % (KEY_COUNT / 16) * 16 + number / (KEY_COUNT / 16);
    default:
        return number;
    }
}

#define KEY_MAX ((size_t)32)

static lsm_slice key_of(const struct round *r, uint64_t number, uint8_t key[KEY_MAX])
{
    if (r->decimal)
        return LSM_SLICE(key, (size_t)snprintf((char *)key, KEY_MAX, "user:table:%010llu",
                                               (unsigned long long)number));
    uint64_t bytes = BYTES_BE64(number << 40);
    memcpy(key, &bytes, sizeof bytes);
    return LSM_SLICE(key, sizeof bytes);
}

static uint64_t number_of_key(const struct round *r, lsm_slice key)
{
    if (!r->decimal)
        return bytes_head(key.data, key.size) >> 40;
    uint64_t number = 0;
    for (size_t at = 11; at < key.size; at++)
        number = number * 10 + (uint64_t)(((const uint8_t *)key.data)[at] - '0');
    return number;
}

static void *write_all(void *argument)
{
    struct round *r = argument;
    uint8_t key[KEY_MAX];
    for (uint64_t i = 0; i < VERSIONS * KEY_COUNT; i++) {
        uint64_t number = number_of(r, i);
        lsm_slice name = key_of(r, number, key);
        memtable_insert(r->mt, 1, name, hash_key(name.data, name.size),
                        entry_trailer(i + 1, ENTRY_PUT), LSM_SLICE(&number, sizeof number));
        atomic_store_explicit(&r->published, i + 1, memory_order_release);
    }
    return NULL;
}

static uint64_t published_of(struct round *r)
{
    return atomic_load_explicit(&r->published, memory_order_acquire);
}

static void look_up(struct round *r, struct random_state *random)
{
    uint64_t published = published_of(r);
    if (published == 0)
        return;
    uint64_t i = random_below(random, 4) == 0 ? published - 1 : random_below(random, published);
    uint64_t number = number_of(r, i), found_number;
    uint8_t key[KEY_MAX];
    lsm_slice name = key_of(r, number, key);
    struct memtable_found found;
    bool is_there =
        memtable_get(r->mt, 1, name, hash_key(name.data, name.size), ENTRY_MAX_SEQUENCE, &found);
    if (is_there) {
        memcpy(&found_number, found.value.data, sizeof found_number);
        is_there = found_number == number && entry_sequence(found.trailer) >= i + 1;
    }
    if (!is_there)
        atomic_fetch_add(&r->missed, 1);
    atomic_fetch_add_explicit(&r->lookups, 1, memory_order_relaxed);
}

/* The same for some keys at once. */
static void look_up_many(struct round *r, struct random_state *random)
{
    enum { MANY = 8 };
    struct memtable_wanted wanted[MANY];
    uint64_t numbers[MANY], orders[MANY], published = published_of(r);
    uint8_t keys[MANY][KEY_MAX];
    if (published == 0)
        return;
    for (size_t k = 0; k < MANY; k++) {
        orders[k] = k == 0 ? published - 1 : random_below(random, published);
        numbers[k] = number_of(r, orders[k]);
        lsm_slice name = key_of(r, numbers[k], keys[k]);
        wanted[k] = (struct memtable_wanted){.key = name, .hash = hash_key(name.data, name.size)};
    }
    (void)memtable_get_many(r->mt, 1, ENTRY_MAX_SEQUENCE, wanted, MANY);
    for (size_t k = 0; k < MANY; k++) {
        uint64_t found_number;
        bool is_there = wanted[k].is_found;
        if (is_there) {
            memcpy(&found_number, wanted[k].found.value.data, sizeof found_number);
            is_there = found_number == numbers[k] &&
                       entry_sequence(wanted[k].found.trailer) >= orders[k] + 1;
        }
        if (!is_there)
            atomic_fetch_add(&r->missed, 1);
    }
    atomic_fetch_add_explicit(&r->lookups, MANY, memory_order_relaxed);
}

/* Counts a miss for every number between `first` and `limit` that was published. */
static void check_gap(struct round *r, uint64_t first, uint64_t limit, uint64_t published)
{
    for (uint64_t number = first; number < limit; number++)
        if (place_of(r, number) < published)
            atomic_fetch_add(&r->missed, 1);
}

static void iterate_forwards(struct round *r, struct iter *it, uint64_t start)
{
    uint8_t key[KEY_MAX];
    uint64_t published = published_of(r), first = start;
    uint64_t last = UINT64_MAX, last_trailer = 0;
    for (uint64_t steps = start % 4; steps > 0; steps--)
        iter_approach(it, key_of(r, start, key), ENTRY_MAX_TRAILER);
    iter_seek(it, key_of(r, start, key), ENTRY_MAX_TRAILER);
    for (int steps = 0; it->valid && steps < 400; steps++, iter_next(it)) {
        uint64_t number = number_of_key(r, it->entry->key);
        if (number == last ? it->entry->trailer >= last_trailer : number < first)
            atomic_fetch_add(&r->missed, 1);
        if (number != last)
            check_gap(r, first, number, published);
        last = number;
        last_trailer = it->entry->trailer;
        first = number + 1;
    }
    if (!it->valid)
        check_gap(r, first, KEY_COUNT, published);
    atomic_fetch_add_explicit(&r->iterated, 1, memory_order_relaxed);
}

static void iterate_backwards(struct round *r, struct iter *it, uint64_t start)
{
    uint8_t key[KEY_MAX];
    uint64_t published = published_of(r), limit = start + 1;
    uint64_t last = UINT64_MAX, last_trailer = 0;
    it->ops->seek_for_prev(it, key_of(r, start, key), 0);
    for (int steps = 0; it->valid && steps < 100; steps++, iter_prev(it)) {
        uint64_t number = number_of_key(r, it->entry->key);
        if (number == last ? it->entry->trailer <= last_trailer : number >= limit)
            atomic_fetch_add(&r->missed, 1);
        if (number != last)
            check_gap(r, number + 1, limit, published);
        last = number;
        last_trailer = it->entry->trailer;
        limit = number;
    }
    if (!it->valid)
        check_gap(r, 0, limit, published);
    atomic_fetch_add_explicit(&r->iterated, 1, memory_order_relaxed);
}

static void *read_all(void *argument)
{
    struct round *r = argument;
    struct random_state random = random_seeded(r->seed ^ (uint64_t)(uintptr_t)&random);
    static const uint64_t newest = ENTRY_MAX_SEQUENCE;
    struct iter *it = NULL, *scan = NULL;
    if (memtable_iter_new(r->mt, 1, &it, NULL) != LSM_OK ||
        memtable_scan_new(r->mt, 1, &newest, &scan, NULL) != LSM_OK)
        abort();
    for (uint64_t i = 0; published_of(r) < VERSIONS * KEY_COUNT; i++) {
        look_up(r, &random);
        look_up_many(r, &random);
        if (i % 500 == 0)
            iterate_forwards(r, i % 1000 == 0 ? it : scan, random_below(&random, KEY_COUNT));
        if (i % 1500 == 0)
            iterate_backwards(r, i % 3000 == 0 ? it : scan, random_below(&random, KEY_COUNT));
    }
    iter_release(it);
    iter_release(scan);
    return NULL;
}

static void run_round(struct round *r, enum memtable_kind kind, uint8_t *arena, size_t size)
{
    ck_assert_int_eq(memtable_new(kind, arena, size, 1, &r->mt, NULL), LSM_OK);
    pthread_t writer, readers[READERS];
    for (int i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_create(&readers[i], NULL, read_all, r), 0);
    ck_assert_int_eq(pthread_create(&writer, NULL, write_all, r), 0);
    ck_assert_int_eq(pthread_join(writer, NULL), 0);
    for (int i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_join(readers[i], NULL), 0);
    ck_assert_msg(atomic_load(&r->missed) == 0, "%llu missed in order %d, decimal %d",
                  (unsigned long long)atomic_load(&r->missed), (int)r->order, r->decimal);
    memtable_free(r->mt);
}

static void run(enum memtable_kind kind, uint64_t lookup_count)
{
    uint64_t seed = reference_seed(kind == MEMTABLE_BTREE ? "btree" : "skiplist");
    size_t size = KEY_COUNT * VERSIONS * 150 + ((size_t)1 << 20);
    uint8_t *arena = aligned_alloc(64, (size + 63) & ~(size_t)63);
    ck_assert_ptr_nonnull(arena);
    uint64_t lookups = 0, iterated = 0;
    int rounds = 0;
    for (; rounds < ORDERS || (lookups < lookup_count && rounds < MAX_ROUNDS); rounds++) {
        struct round r = {.order = (enum order)(rounds % ORDERS),
                          .decimal = (rounds + rounds / ORDERS) % 2 == 1,
                          .seed = seed + (uint64_t)rounds};
        run_round(&r, kind, arena, size);
        lookups += atomic_load(&r.lookups);
        iterated += atomic_load(&r.iterated);
    }
    printf("%llu lookups and %llu walks in %d rounds, none missed\n", (unsigned long long)lookups,
           (unsigned long long)iterated, rounds);
    ck_assert_uint_gt(iterated, 0);
    free(arena);
}

START_TEST(test_btree_readers_beside_a_writer_miss_nothing)
{
    run(MEMTABLE_BTREE, LOOKUP_COUNT);
}
END_TEST

START_TEST(test_skiplist_readers_beside_a_writer_miss_nothing)
{
    run(MEMTABLE_SKIPLIST, LOOKUP_COUNT / 10);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memtable readers and a writer");
    TCase *tests = tcase_create("concurrent");
    tcase_set_timeout(tests, 600);
    tcase_add_test(tests, test_btree_readers_beside_a_writer_miss_nothing);
    tcase_add_test(tests, test_skiplist_readers_beside_a_writer_miss_nothing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
