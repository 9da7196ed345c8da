/* What iterators over tables read: how much, in how many pieces, and together. */
#include "tests/unit/sst/fixture.h"

#include "engine/iter/merging.h"

#include <errno.h>
#include <pthread.h>

#define TABLES      5
#define ENTRIES     2000
#define VALUE_SIZE  400
#define PER_BLOCK   20    /* about so many entries make a block of 8 KiB */
#define BLOCK_PAGES 12288 /* a block that is not at the beginning of a page lies in three */

static uint64_t seed;

/* Entries with the keys n * step + first, as eight bytes. */
static struct entries numbered_entries(uint64_t first, uint64_t step)
{
    struct entries e = {calloc(ENTRIES, sizeof(struct entry)), ENTRIES};
    uint8_t value[VALUE_SIZE];
    for (size_t i = 0; i < ENTRIES; i++) {
        uint8_t key[8];
        uint64_t number = first + i * step;
        for (size_t b = 0; b < sizeof key; b++)
            key[b] = (uint8_t)(number >> (56 - 8 * b));
        memset(value, (int)i, sizeof value);
        e.at[i] = (struct entry){own_bytes(key, sizeof key), entry_trailer(1 + number, ENTRY_PUT),
                                 own_bytes(value, sizeof value)};
    }
    return e;
}

static struct table *make_table(const struct entries *e, uint64_t number)
{
    struct table_write_options options = write_options(number);
    struct table_meta meta = write_table(e, &options);
    struct table *t;
    ck_ok(table_open(&f.env, number, meta.size, &t, &f.error));
    table_meta_release(&meta);
    return t;
}

/* One table and an iterator over it. */
struct bench {
    struct entries e;
    struct table *t;
    struct iter *it;
    uint64_t reads, bytes; /* when bench_reset() was called */
};

static void bench_reset(struct bench *b)
{
    b->reads = sim_operation_count(f.disk, SIM_FAULT_READ);
    b->bytes = sim_read_bytes(f.disk);
}

static uint64_t bench_reads(const struct bench *b)
{
    return sim_operation_count(f.disk, SIM_FAULT_READ) - b->reads;
}

static uint64_t bench_bytes(const struct bench *b)
{
    return sim_read_bytes(f.disk) - b->bytes;
}

static void bench_open(struct bench *b, uint64_t cache, struct table_iter_options options)
{
    fixture_open(seed, cache);
    b->e = numbered_entries(0, 1);
    b->t = make_table(&b->e, 2);
    ck_ok(table_iter_new(b->t, &options, &b->it, &f.error));
    bench_reset(b);
}

static void bench_close(struct bench *b)
{
    iter_release(b->it);
    table_close(b->t);
    free_entries(&b->e);
    fixture_close();
}

static void check_at(const struct iter *it, const struct entries *e, size_t index)
{
    ck_assert_msg(it->status == LSM_OK, "%s", f.error.message);
    ck_assert_int_eq(it->valid, index < e->count);
    if (!it->valid)
        return;
    ck_assert(slice_equal(it->entry->key, e->at[index].key));
    ck_assert(slice_equal(it->entry->value, e->at[index].value));
}

/* Seeks entry `from` and walks over `count` entries in all. */
static void walk(struct bench *b, size_t from, size_t count)
{
    iter_seek(b->it, b->e.at[from].key, ENTRY_MAX_TRAILER);
    for (size_t i = 0; i < count; i++) {
        check_at(b->it, &b->e, from + i);
        iter_next(b->it);
    }
}

#define APPROACH_STEPS 3 /* the index, the block, the entry */

static void approach(struct iter *it, lsm_slice key, uint64_t trailer, size_t steps)
{
    for (size_t i = 0; i < steps; i++)
        iter_approach(it, key, trailer);
}

START_TEST(test_ahead_long_walk_backwards_reads_in_large_pieces)
{
    struct bench b;
    bench_open(&b, 0, (struct table_iter_options){0});
    uint64_t submissions = io_submission_count(f.io);
    size_t i = b.e.count;
    for (b.it->ops->last(b.it); b.it->valid; iter_prev(b.it))
        check_at(b.it, &b.e, --i);
    ck_assert_uint_eq(i, 0);
    ck_assert_int_eq(b.it->status, LSM_OK);
    ck_assert_uint_gt(io_submission_count(f.io), submissions); /* in advance */
    ck_assert_uint_le(bench_reads(&b), 10); /* 1 + 1 blocks, 16 KiB, 32, 64, 128, 256, 512 */
    ck_assert_uint_lt(bench_bytes(&b),
                      table_range_bytes(b.t, LSM_SLICE(NULL, 0), LSM_SLICE(NULL, 0)) +
                          10 * IO_ALIGNMENT);
    bench_close(&b);
}
END_TEST

/* Where memory is bound, windows take what there is, and give it back. */
START_TEST(test_ahead_keeps_to_what_is_left)
{
    enum { WALKERS = 4 };
    const int64_t whole = 200 << 10;
    _Atomic int64_t left = whole;
    struct bench b;
    bench_open(&b, 0, (struct table_iter_options){0});
    f.env.ahead_left = &left;
    struct iter *walkers[WALKERS];
    for (size_t n = 0; n < WALKERS; n++) {
        struct table_iter_options options = {.whole = true};
        ck_ok(table_iter_new(b.t, &options, &walkers[n], &f.error));
        walkers[n]->ops->first(walkers[n]);
    }
    int64_t least = left;
    for (size_t i = 0; i < b.e.count; i++) {
        for (size_t n = 0; n < WALKERS; n++) {
            check_at(walkers[n], &b.e, i);
            iter_next(walkers[n]);
            least = left < least ? left : least;
        }
    }
    ck_assert_int_lt(least, whole / 2);
    ck_assert_int_ge(least, -2 * whole); /* six of 16 KiB a walker; without a bound 4 MiB */
    for (size_t n = 0; n < WALKERS; n++)
        iter_release(walkers[n]);
    ck_assert_int_eq(left, whole);
    f.env.ahead_left = NULL;
    bench_close(&b);
}
END_TEST

/* What was read for the way there is not read on the way back, and nothing but what is walked over.
 */
START_TEST(test_ahead_walk_that_turns_reads_the_other_way)
{
    struct bench b;
    bench_open(&b, 0, (struct table_iter_options){0});
    walk(&b, 1000, 3 * PER_BLOCK);
    bench_reset(&b);
    size_t at = 1000 + 3 * PER_BLOCK;
    for (; at > 1000 - 30 * PER_BLOCK; at--) {
        check_at(b.it, &b.e, at);
        iter_prev(b.it);
    }
    iter_rest(b.it);
    ck_assert_uint_le(bench_reads(&b), 9); /* 1, 1, 2, 4, 8, 16 blocks, and some more */
    lsm_slice limit = b.e.at[1000 + 4 * PER_BLOCK].key;
    ck_assert_uint_lt(bench_bytes(&b), table_range_bytes(b.t, LSM_SLICE(NULL, 0), limit));
    bench_close(&b);
}
END_TEST

START_TEST(test_ahead_announced_seek_that_is_not_made_reads_nothing)
{
    struct bench b;
    bench_open(&b, 0, (struct table_iter_options){0});
    approach(b.it, b.e.at[700].key, ENTRY_MAX_TRAILER, APPROACH_STEPS);
    iter_rest(b.it);
    ck_assert_uint_eq(bench_reads(&b), 0);
    walk(&b, 30, 1);
    ck_assert_uint_eq(bench_reads(&b), 1);
    bench_close(&b);
}
END_TEST

START_TEST(test_ahead_failed_block_can_be_sought_again)
{
    struct bench b;
    bench_open(&b, 0, (struct table_iter_options){0});
    size_t at = 0;
    sim_fail_after(f.disk, SIM_FAULT_READ, 4, EIO, false);
    for (b.it->ops->first(b.it); b.it->valid; iter_next(b.it))
        check_at(b.it, &b.e, at++);
    ck_assert_int_eq(b.it->status, LSM_IO);
    ck_assert_uint_lt(at, ENTRIES);
    iter_seek(b.it, b.e.at[at].key, ENTRY_MAX_TRAILER);
    for (; b.it->valid; iter_next(b.it))
        check_at(b.it, &b.e, at++);
    ck_assert_uint_eq(at, ENTRIES);
    bench_close(&b);
}
END_TEST

START_TEST(test_ahead_walks_get_what_earlier_ones_used)
{
    struct bench b;
    bench_open(&b, 0, (struct table_iter_options){0});
    for (size_t i = 0; i < 12; i++)
        walk(&b, i * 797 % 1800, 5 * PER_BLOCK);
    bench_reset(&b);
    walk(&b, 777, 4 * PER_BLOCK);
    ck_assert_uint_eq(bench_reads(&b), 1);
    for (size_t i = 0; i < 120; i++)
        walk(&b, i * 797 % 1800, 1);
    bench_reset(&b);
    walk(&b, 777, 1);
    ck_assert_uint_eq(bench_reads(&b), 1);
    ck_assert_uint_le(bench_bytes(&b), BLOCK_PAGES);
    bench_close(&b);
}
END_TEST

/* Seeks that skip some of what was read go on with the walk. */
START_TEST(test_ahead_seek_uses_what_was_read_for_the_walk)
{
    struct bench b;
    bench_open(&b, 0, (struct table_iter_options){0});
    for (size_t i = 0; i < 12; i++)
        walk(&b, i * 797 % 1800, 6 * PER_BLOCK);
    bench_reset(&b);
    walk(&b, 200, 1);
    for (size_t i = 2; i < 5; i += i) { /* 2 and 4 blocks ahead */
        if (i == 4)
            approach(b.it, b.e.at[200 + i * PER_BLOCK].key, ENTRY_MAX_TRAILER, APPROACH_STEPS);
        walk(&b, 200 + i * PER_BLOCK, 1);
    }
    ck_assert_uint_eq(bench_reads(&b), 1);
    walk(&b, 200, 1); /* back again */
    ck_assert_uint_eq(bench_reads(&b), 2);
    bench_close(&b);
}
END_TEST

START_TEST(test_ahead_walk_through_the_cache_reads_nothing)
{
    struct bench b;
    bench_open(&b, 64 << 20, (struct table_iter_options){0});
    walk(&b, 0, ENTRIES);
    walk(&b, 100, 300);
    bench_reset(&b);
    walk(&b, 0, ENTRIES);
    walk(&b, 100, 300);
    ck_assert_uint_eq(bench_reads(&b), 0);
    bench_close(&b);
}
END_TEST

/* 0, 1: as it grows; 2, 3: all at once. Odd: backwards. */
START_TEST(test_ahead_bounded_walk_reads_nothing_outside)
{
    struct bench b;
    uint8_t keys[2][8] = {{0, 0, 0, 0, 0, 0, 600 >> 8, 600 & 255},
                          {0, 0, 0, 0, 0, 0, 1200 >> 8, 1200 & 255}};
    struct table_iter_options options = {
        .readahead = _i < 2 ? 0 : 1 << 20,
        .first = LSM_SLICE(keys[0], 8),
        .limit = LSM_SLICE(keys[1], 8),
    };
    bench_open(&b, 0, options);
    uint64_t inside = table_range_bytes(b.t, options.first, options.limit);
    size_t i = 600, limit = 1200;
    if (_i % 2 == 0) {
        for (iter_seek(b.it, options.first, ENTRY_MAX_TRAILER); i < limit; i++, iter_next(b.it))
            check_at(b.it, &b.e, i);
    } else {
        b.it->ops->seek_for_prev(b.it, options.limit, ENTRY_MAX_TRAILER);
        for (; i < limit; iter_prev(b.it))
            check_at(b.it, &b.e, --limit);
    }
    iter_rest(b.it);
    ck_assert_uint_le(bench_bytes(&b), inside + 2 * BLOCK_PAGES + 12 * IO_ALIGNMENT);
    ck_assert_uint_lt(bench_bytes(&b), table_range_bytes(b.t, LSM_SLICE(NULL, 0), options.limit));
    bench_close(&b);
}
END_TEST

/* ---- several tables -------------------------------------------------------------------------- */

/* Tables whose keys alternate, and iterators that share a lane. */
struct merge {
    struct io_queue_pool *queues;
    struct entries e[TABLES];
    struct table *t[TABLES];
    struct iter *its[TABLES];
    struct read_lane lane;
};

static void merge_open(struct merge *m, uint64_t cache, bool has_pool)
{
    fixture_open(seed, cache);
    *m = (struct merge){.queues = has_pool ? io_queue_pool_new(f.io, 16, 2) : NULL};
    f.env.queues = m->queues;
    read_lane_init(&m->lane, f.io, m->queues);
    struct table_iter_options options = {.lane = &m->lane};
    for (size_t i = 0; i < TABLES; i++) {
        m->e[i] = numbered_entries(i, TABLES);
        m->t[i] = make_table(&m->e[i], 2 + i);
        ck_ok(table_iter_new(m->t[i], &options, &m->its[i], &f.error));
    }
}

/* The iterators have been released. */
static void merge_close(struct merge *m)
{
    read_lane_release(&m->lane);
    for (size_t i = 0; i < TABLES; i++) {
        table_close(m->t[i]);
        free_entries(&m->e[i]);
    }
    io_queue_pool_free(m->queues);
    fixture_close();
}

START_TEST(test_ahead_seek_hands_all_reads_over_at_once)
{
    struct merge m;
    merge_open(&m, 64 << 20, true);
    struct iter *it;
    ck_ok(merging_new(m.its, TABLES, &it, &f.error));
    for (size_t n = 0; n < 3; n++) {
        uint64_t submissions = io_submission_count(f.io);
        uint64_t reads = sim_operation_count(f.disk, SIM_FAULT_READ);
        iter_seek(it, m.e[0].at[500 + 200 * n].key, ENTRY_MAX_TRAILER);
        check_at(it, &m.e[0], 500 + 200 * n);
        ck_assert_uint_eq(io_submission_count(f.io) - submissions, 1);
        ck_assert_uint_eq(sim_operation_count(f.disk, SIM_FAULT_READ) - reads, TABLES);
    }
    iter_release(it);
    merge_close(&m);
}
END_TEST

/* 0: as one walk; 1: as two, which begin with a block. */
START_TEST(test_ahead_walk_goes_on_in_the_next_table)
{
    struct merge m;
    merge_open(&m, 0, true);
    struct iter *it = m.its[0];
    size_t i = 0;
    for (it->ops->first(it); it->valid; iter_next(it))
        check_at(it, &m.e[0], i++);
    uint64_t reads = sim_operation_count(f.disk, SIM_FAULT_READ);
    table_iter_turn_to(it, m.t[1], _i == 0);
    it->ops->first(it);
    check_at(it, &m.e[1], 0);
    iter_rest(it);
    reads = sim_operation_count(f.disk, SIM_FAULT_READ) - reads;
    if (_i == 0)
        ck_assert_uint_ge(reads, 2); /* what comes is on its way already */
    else
        ck_assert_uint_eq(reads, 1);
    for (size_t k = 0; k < TABLES; k++)
        iter_release(m.its[k]);
    merge_close(&m);
}
END_TEST

START_TEST(test_ahead_failed_read_is_told_and_tried_again)
{
    struct merge m;
    merge_open(&m, 0, _i % 2 == 0);
    struct iter *it;
    ck_ok(merging_new(m.its, TABLES, &it, &f.error));
    lsm_slice key = m.e[0].at[500].key;
    for (uint64_t n = 0; n < 40; n++) {
        sim_fail_after(f.disk, SIM_FAULT_READ, n, EIO, false);
        iter_seek(it, key, ENTRY_MAX_TRAILER);
        for (size_t i = 0; i < 700 && it->valid; i++)
            iter_next(it);
        if (!it->valid)
            ck_assert_int_eq(it->status, LSM_IO);
        sim_fail_never(f.disk);
        iter_seek(it, key, ENTRY_MAX_TRAILER);
        for (size_t i = 0; i < 700; i++, iter_next(it))
            check_at(it, &m.e[i % TABLES], 500 + i / TABLES);
        iter_rest(it);
    }
    iter_release(it);
    merge_close(&m);
}
END_TEST

/* One of the moves of a random walk; the entry that it comes to, or e->count. */
static size_t move(struct random_state *r, struct iter *it, const struct entries *e, size_t at)
{
    size_t to = random_below(r, e->count);
    switch (random_below(r, it->valid ? 9 : 6)) {
    case 0:
        approach(it, e->at[to].key, ENTRY_MAX_TRAILER, random_below(r, APPROACH_STEPS + 1));
        iter_seek(it, e->at[to].key, ENTRY_MAX_TRAILER);
        return to;
    case 1:
        iter_seek(it, e->at[to].key, 0); /* behind it */
        return to + 1;
    case 2:
        it->ops->seek_for_prev(it, e->at[to].key, 0);
        return to;
    case 3:
        it->ops->first(it);
        return 0;
    case 4:
        it->ops->last(it);
        return e->count - 1;
    case 5:
        iter_rest(it);
        iter_seek(it, e->at[to].key, ENTRY_MAX_TRAILER);
        return to;
    case 6:
        iter_prev(it);
        return at == 0 ? e->count : at - 1;
    default:
        iter_next(it);
        return at + 1;
    }
}

/* The same kind of step some times; a walk one way, mostly. */
static size_t wander(struct random_state *r, struct iter *it, const struct entries *e, size_t at)
{
    size_t steps = random_below(r, 4) == 0 ? random_below(r, 800) : random_below(r, 40);
    bool is_backwards = random_below(r, 2) == 0;
    at = move(r, it, e, at);
    check_at(it, e, at);
    for (; steps > 0 && it->valid; steps--) {
        at = is_backwards ? (at == 0 ? e->count : at - 1) : at + 1;
        if (is_backwards)
            iter_prev(it);
        else
            iter_next(it);
        check_at(it, e, at);
    }
    return at;
}

START_TEST(test_ahead_random_walks_beside_each_other_agree_with_arrays)
{
    static const uint64_t capacities[] = {0, 100000, UINT64_C(64) << 20};
    struct random_state r = random_seeded(seed + (uint64_t)_i);
    struct merge m;
    merge_open(&m, capacities[_i % 3], random_below(&r, 2) == 0);
    size_t at[TABLES] = {0};
    for (size_t n = 0; n < 400; n++) {
        size_t i = random_below(&r, TABLES);
        if (random_below(&r, 6) == 0) { /* announced, and not made */
            approach(m.its[i], m.e[i].at[random_below(&r, ENTRIES)].key, 0,
                     random_below(&r, APPROACH_STEPS + 1));
            iter_rest(m.its[i]);
        }
        at[i] = wander(&r, m.its[i], &m.e[i], at[i]);
        if (random_below(&r, 20) == 0) { /* a failure leaves it without a place */
            sim_fail_after(f.disk, SIM_FAULT_READ, random_below(&r, 3), EIO, false);
            m.its[i]->ops->first(m.its[i]);
            for (size_t k = 0; k < 100 && m.its[i]->valid; k++)
                iter_next(m.its[i]);
            sim_fail_never(f.disk);
            iter_rest(m.its[i]);
        }
    }
    for (size_t i = 0; i < TABLES; i++)
        iter_release(m.its[i]);
    merge_close(&m);
}
END_TEST

/* ---- many threads ---------------------------------------------------------------------------- */

#define THREADS 4

/* Walks about, to blocks that others put into the cache and out of it meanwhile. */
static void *stroll(void *context)
{
    const struct bench *b = context;
    struct random_state r = random_seeded(seed + (uint64_t)(uintptr_t)&r);
    lsm_error error;
    struct iter *it;
    if (table_iter_new(b->t, &(struct table_iter_options){0}, &it, &error) != LSM_OK)
        return "no iterator";
    const char *wrong = NULL;
    for (size_t n = 0; wrong == NULL && n < 1500; n++) {
        size_t at = random_below(&r, 300), count = random_below(&r, 5 * PER_BLOCK);
        iter_approach(it, b->e.at[at].key, ENTRY_MAX_TRAILER);
        iter_seek(it, b->e.at[at].key, ENTRY_MAX_TRAILER);
        for (; wrong == NULL && count > 0; count--, iter_next(it))
            if (!it->valid || !slice_equal(it->entry->key, b->e.at[at++].key))
                wrong = "an entry is not the one that was wanted";
    }
    iter_release(it);
    return (void *)(uintptr_t)wrong;
}

START_TEST(test_ahead_threads_share_a_cache_that_is_too_small)
{
    struct bench b;
    bench_open(&b, 100000, (struct table_iter_options){0});
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, stroll, &b), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *wrong;
        ck_assert_int_eq(pthread_join(threads[i], &wrong), 0);
        ck_assert_msg(wrong == NULL, "%s", (const char *)wrong);
    }
    bench_close(&b);
}
END_TEST

int main(void)
{
    const char *given = getenv("TEST_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    TCase *c = tcase_create("ahead");
    tcase_add_test(c, test_ahead_long_walk_backwards_reads_in_large_pieces);
    tcase_add_test(c, test_ahead_keeps_to_what_is_left);
    tcase_add_test(c, test_ahead_walk_that_turns_reads_the_other_way);
    tcase_add_test(c, test_ahead_announced_seek_that_is_not_made_reads_nothing);
    tcase_add_test(c, test_ahead_failed_block_can_be_sought_again);
    tcase_add_test(c, test_ahead_walks_get_what_earlier_ones_used);
    tcase_add_test(c, test_ahead_seek_uses_what_was_read_for_the_walk);
    tcase_add_test(c, test_ahead_walk_through_the_cache_reads_nothing);
    tcase_add_loop_test(c, test_ahead_bounded_walk_reads_nothing_outside, 0, 4);
    tcase_add_test(c, test_ahead_seek_hands_all_reads_over_at_once);
    tcase_add_loop_test(c, test_ahead_walk_goes_on_in_the_next_table, 0, 2);
    tcase_add_loop_test(c, test_ahead_failed_read_is_told_and_tried_again, 0, 2);
    tcase_add_loop_test(c, test_ahead_random_walks_beside_each_other_agree_with_arrays, 0, 12);
    tcase_add_test(c, test_ahead_threads_share_a_cache_that_is_too_small);
    tcase_set_timeout(c, 60);
    Suite *s = suite_create("table ahead");
    suite_add_tcase(s, c);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
