/* A memtable that is filled at once against one that takes the same entries as inserts. */
#include "tests/unit/memtable/memtable_reference.h"

#include "engine/base/hash.h"
#include "engine/base/memory.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB ((size_t)1 << 20)

static const enum memtable_kind kinds[] = {MEMTABLE_BTREE, MEMTABLE_SKIPLIST};

struct fixture {
    uint8_t *plan_arena, *arena; /* owned */
    size_t size;
    struct memtable *plan; /* takes inserts, so that the reference has what is to be added */
    struct memtable *mt;
    struct memtable_bulk *bulk;
    struct reference reference;
};

static uint8_t *arena_of(size_t size, enum memtable_kind kind, struct memtable **mt)
{
    uint8_t *arena = aligned_alloc(64, (size + 63) & ~(size_t)63);
    ck_assert_ptr_nonnull(arena);
    memset(arena, 0xa5, size); /* what an earlier life left in it */
    ck_assert_int_eq(memtable_new(kind, arena, size, 7, mt, NULL), LSM_OK);
    return arena;
}

static struct fixture fixture_of(enum memtable_kind kind, size_t size)
{
    struct fixture f = {.size = size};
    f.plan_arena = arena_of(4 * size, MEMTABLE_BTREE, &f.plan); /* whose nodes are not full */
    f.arena = arena_of(size, kind, &f.mt);
    ck_assert_int_eq(memtable_bulk_new(&f.bulk, NULL), LSM_OK);
    ck_assert_int_eq(memtable_bulk_begin(f.bulk, f.mt, NULL), LSM_OK);
    return f;
}

static void fixture_release(struct fixture *f)
{
    memtable_bulk_free(f->bulk);
    reference_release(&f->reference);
    memtable_free(f->plan);
    memtable_free(f->mt);
    free(f->plan_arena);
    free(f->arena);
}

static void plan_add(struct fixture *f, uint32_t cf, lsm_slice key, uint64_t sequence,
                     uint32_t value_size)
{
    enum entry_type type = value_size == 0 ? ENTRY_DELETE : ENTRY_PUT;
    reference_insert(&f->reference, f->plan, cf, key, entry_trailer(sequence, type), value_size);
}

/* Adds what is planned; nothing but what was said to be reached changes. */
static void add_all(struct fixture *f)
{
    uint8_t *before = malloc(f->size);
    size_t room = 0, low, high;
    for (size_t i = 0; i < f->reference.count; i++) {
        const struct reference_entry *e = &f->reference.entries[i];
        room += memtable_record_room(e->key_size, e->value_size);
    }
    ck_assert(memtable_bulk_reserve(f->bulk, f->reference.count, room));
    memtable_bulk_reach(f->bulk, f->reference.count, room, &low, &high);
    memcpy(before, f->arena, f->size);
    for (size_t i = 0; i < f->reference.count; i++)
        reference_bulk_add(&f->reference, i, f->bulk);
    memtable_bulk_end(f->bulk);
    ck_assert_uint_le(high, f->size);
    if (low < high)
        ck_assert(memcmp(before + low, f->arena + low, high - low) == 0);
    free(before);
}

static void check_counters(const struct fixture *f)
{
    const struct reference *r = &f->reference;
    ck_assert_uint_eq(memtable_entry_count(f->mt), r->count);
    ck_assert_uint_eq(memtable_position(f->mt), memtable_position(f->plan));
    ck_assert_uint_eq(memtable_min_sequence(f->mt), memtable_min_sequence(f->plan));
    ck_assert_uint_eq(memtable_max_sequence(f->mt), memtable_max_sequence(f->plan));
}

/* As a process that comes later finds it. */
static void attach(struct fixture *f)
{
    memtable_free(f->mt);
    ck_assert_int_eq(memtable_attach(f->arena, f->size, &f->mt, NULL), LSM_OK);
}

/* ---- any keys -------------------------------------------------------------------------------- */

static uint32_t random_cf(struct random_state *random)
{
    static const uint32_t families[] = {0, 1, 2, 255, 256, 65536, UINT32_MAX - 1, UINT32_MAX};
    return families[random_below(random, 8)];
}

/* Some keys again, some sequence numbers twice. */
static uint64_t plan_shape(struct fixture *f, enum key_shape shape, size_t count,
                           bool many_families, struct random_state *random)
{
    static uint8_t key[KEY_BUFFER_SIZE];
    uint64_t sequence = 1 + random_below(random, 100);
    for (size_t i = 0; i < count; i++) {
        size_t size = make_key(shape, i, random, key);
        uint32_t cf = many_families ? random_cf(random) : 3;
        if (i > 0 && random_below(random, 6) == 0) {
            const struct reference_entry *e = &f->reference.entries[random_below(random, i)];
            cf = e->cf;
            size = e->key_size;
            memcpy(key, e->key, size);
        }
        sequence += random_below(random, 3);
        plan_add(f, cf, LSM_SLICE(key, size), sequence, (uint32_t)random_below(random, 60));
    }
    return sequence;
}

START_TEST(test_bulk_of_any_keys_agrees_with_a_sorted_array)
{
    uint64_t seed = reference_seed(key_shape_names[_i / 4]);
    enum key_shape shape = (enum key_shape)(_i / 4);
    struct random_state random = random_seeded(seed + (uint64_t)_i);
    bool is_huge = shape == KEYS_HUGE;
    struct fixture f = fixture_of(kinds[_i % 2], is_huge ? 32 * MIB : 4 * MIB);
    size_t count = is_huge ? 200 : 1 + random_below(&random, 6000);
    uint64_t sequence = plan_shape(&f, shape, count, _i % 4 >= 2, &random);
    add_all(&f);
    check_counters(&f);
    reference_check(&f.reference, count, f.mt, &random);

    /* It takes inserts as any other. */
    attach(&f);
    static uint8_t key[KEY_BUFFER_SIZE];
    for (size_t i = 0; i < count / 3; i++) {
        size_t size = make_key(shape, count + i, &random, key);
        reference_insert(&f.reference, f.mt, 3, LSM_SLICE(key, size),
                         entry_trailer(++sequence, ENTRY_PUT), 9);
    }
    reference_check(&f.reference, f.reference.count, f.mt, &random);
    fixture_release(&f);
}
END_TEST

/* Counts around what fills nodes and levels. */
START_TEST(test_bulk_of_few_keys_agrees_with_a_sorted_array)
{
    static const size_t counts[] = {0, 1, 2, 14, 15, 16, 17, 30, 31, 224, 225, 226, 240, 241, 3376};
    uint64_t seed = reference_seed("few keys");
    struct random_state random = random_seeded(seed + (uint64_t)_i);
    struct fixture f = fixture_of(MEMTABLE_BTREE, 4 * MIB);
    plan_shape(&f, KEYS_SHUFFLED_DECIMAL, counts[_i], false, &random);
    add_all(&f);
    check_counters(&f);
    reference_check(&f.reference, counts[_i], f.mt, &random);
    fixture_release(&f);
}
END_TEST

/* ---- ties ------------------------------------------------------------------------------------ */

/* Keys in several parts, each longer than what one round looks at. */
static size_t tied_key(uint64_t number, unsigned parts, uint8_t *key)
{
    size_t size = 0;
    for (unsigned part = 0; part < parts; part++, number /= 5) {
        memset(key + size, (int)(number % 5 == 4 ? 0 : 'a' + number % 5), 11);
        size += 11;
    }
    return size;
}

START_TEST(test_bulk_of_keys_that_part_late_agrees_with_a_sorted_array)
{
    uint64_t seed = reference_seed("ties");
    struct random_state random = random_seeded(seed + (uint64_t)_i);
    struct fixture f = fixture_of(MEMTABLE_BTREE, 8 * MIB);
    static uint8_t key[KEY_BUFFER_SIZE];
    unsigned parts = _i == 0 ? 6 : 14;
    for (uint64_t i = 0; i < 8000; i++) {
        uint64_t number = random_next(&random) % 15625 * (_i == 0 ? 1 : 390625);
        size_t size = tied_key(number, parts, key);
        size -= random_below(&random, 4) == 0 ? random_below(&random, size) : 0;
        plan_add(&f, 1 + (uint32_t)random_below(&random, 2), LSM_SLICE(key, size), i + 1, 5);
    }
    add_all(&f);
    reference_check(&f.reference, f.reference.count, f.mt, &random);
    fixture_release(&f);
}
END_TEST

/* Zeros at a key's end look in a head as if there were none. */
START_TEST(test_bulk_of_keys_of_zeros_agrees_with_a_sorted_array)
{
    struct random_state random = random_seeded(reference_seed("zeros"));
    struct fixture f = fixture_of(MEMTABLE_BTREE, 4 * MIB);
    static const uint8_t zeros[200];
    for (uint64_t i = 0; i < 5000; i++)
        plan_add(&f, 0, LSM_SLICE(zeros, random_below(&random, 200)), i + 1, 4);
    add_all(&f);
    reference_check(&f.reference, f.reference.count, f.mt, &random);
    fixture_release(&f);
}
END_TEST

START_TEST(test_bulk_of_one_key_chains_its_versions)
{
    struct random_state random = random_seeded(1);
    struct fixture f = fixture_of(MEMTABLE_BTREE, 4 * MIB);
    for (uint64_t i = 0; i < 3000; i++)
        plan_add(&f, 5, slice_of_text("counter"), 1 + i / 2, 4);
    add_all(&f);
    reference_check(&f.reference, f.reference.count, f.mt, &random);
    fixture_release(&f);
}
END_TEST

/* ---- room ------------------------------------------------------------------------------------ */

/* What has no room is refused, and of what has room nothing overflows, inserts behind it neither.
 */
START_TEST(test_bulk_filled_to_the_brim_never_overflows)
{
    struct random_state random = random_seeded(reference_seed("brim"));
    struct fixture f = fixture_of(MEMTABLE_BTREE, MEMTABLE_MIN_ARENA + (size_t)_i * 8 * 1013);
    size_t room = memtable_record_room(8, 4), size = room;
    while (memtable_bulk_reserve(f.bulk, f.reference.count + 1, size)) {
        uint64_t number = _i % 2 == 0 ? random_next(&random) : BYTES_BE64(f.reference.count * 3);
        plan_add(&f, 1, LSM_SLICE(&number, 8), f.reference.count + 1, 4);
        size += room;
    }
    ck_assert(!memtable_bulk_reserve(f.bulk, 1, SIZE_MAX));
    add_all(&f);
    while (memtable_has_room(f.mt, memtable_entry_room(f.mt, 8, 4))) {
        uint64_t number = BYTES_BE64(f.reference.count * 7 % 512);
        reference_insert(&f.reference, f.mt, 1, LSM_SLICE(&number, 8),
                         entry_trailer(f.reference.count + 1, ENTRY_PUT), 4);
    }
    reference_check(&f.reference, f.reference.count, f.mt, &random);
    fixture_release(&f);
}
END_TEST

START_TEST(test_bulk_serves_one_memtable_after_the_other)
{
    struct random_state random = random_seeded(reference_seed("twice"));
    struct fixture f = fixture_of(MEMTABLE_BTREE, 4 * MIB);
    struct memtable *other = NULL;
    uint8_t *arena = arena_of(f.size, MEMTABLE_BTREE, &other);
    plan_shape(&f, KEYS_LONG_PREFIX, 2000, false, &random);
    add_all(&f);
    ck_assert_int_eq(memtable_bulk_begin(f.bulk, other, NULL), LSM_OK);
    for (size_t i = 0; i < 500; i++)
        reference_bulk_add(&f.reference, i, f.bulk);
    memtable_bulk_end(f.bulk);
    reference_check(&f.reference, 2000, f.mt, &random);
    reference_check(&f.reference, 500, other, &random);
    memtable_free(other);
    free(arena);
    fixture_release(&f);
}
END_TEST

/* It cannot collect so many: from then on they are inserted. */
START_TEST(test_bulk_of_too_many_takes_all_of_them)
{
    struct random_state random = random_seeded(reference_seed("too many"));
    struct fixture f = fixture_of(MEMTABLE_BTREE, 4 * MIB);
    size_t room = memtable_record_room(20, 60), collected = _i == 0 ? 0 : 1500;
    ck_assert(!memtable_bulk_is_full(f.bulk, 3000));
    plan_shape(&f, KEYS_MIXED, 3000, true, &random);
    for (size_t i = 0; i < 3000; i++) {
        if (i == collected) {
            ck_assert(memtable_bulk_is_full(f.bulk, MEMTABLE_BULK_MAX + 1));
            ck_assert(!memtable_bulk_reserve(f.bulk, MEMTABLE_BULK_MAX + 1, 0)); /* no room, too */
            ck_assert(memtable_bulk_is_full(f.bulk, 1));
        }
        ck_assert(memtable_bulk_reserve(f.bulk, 1, room));
        reference_bulk_add(&f.reference, i, f.bulk);
    }
    memtable_bulk_end(f.bulk);
    check_counters(&f);
    reference_check(&f.reference, 3000, f.mt, &random);
    fixture_release(&f);
}
END_TEST

START_TEST(test_bulk_without_memory_says_so)
{
    struct memtable_bulk *bulk = NULL;
    struct memtable *mt = NULL;
    uint8_t *arena = arena_of(MIB, MEMTABLE_BTREE, &mt);
    mem_fail_after(0, false);
    ck_assert_int_eq(memtable_bulk_new(&bulk, NULL), LSM_NO_MEMORY);
    ck_assert_ptr_null(bulk);
    mem_fail_after(-1, false);
    ck_assert_int_eq(memtable_bulk_new(&bulk, NULL), LSM_OK);
    for (int64_t count = 0; count < 2; count++) {
        mem_fail_after(count, false);
        ck_assert_int_eq(memtable_bulk_begin(bulk, mt, NULL), LSM_NO_MEMORY);
    }
    mem_fail_after(-1, false);
    ck_assert_int_eq(memtable_bulk_begin(bulk, mt, NULL), LSM_OK);
    memtable_bulk_end(bulk);
    memtable_bulk_free(bulk);
    memtable_free(mt);
    free(arena);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memtable bulk");
    TCase *tests = tcase_create("bulk");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_bulk_of_any_keys_agrees_with_a_sorted_array, 0,
                        4 * KEYS_SHAPES);
    tcase_add_loop_test(tests, test_bulk_of_few_keys_agrees_with_a_sorted_array, 0, 15);
    tcase_add_loop_test(tests, test_bulk_of_keys_that_part_late_agrees_with_a_sorted_array, 0, 2);
    tcase_add_test(tests, test_bulk_of_keys_of_zeros_agrees_with_a_sorted_array);
    tcase_add_test(tests, test_bulk_of_one_key_chains_its_versions);
    tcase_add_loop_test(tests, test_bulk_filled_to_the_brim_never_overflows, 0, 8);
    tcase_add_test(tests, test_bulk_serves_one_memtable_after_the_other);
    tcase_add_loop_test(tests, test_bulk_of_too_many_takes_all_of_them, 0, 2);
    tcase_add_test(tests, test_bulk_without_memory_says_so);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
