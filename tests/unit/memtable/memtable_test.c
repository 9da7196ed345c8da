/* The memtable against a sorted array: keys of all shapes, versions, families, full arenas. */
#include "tests/unit/memtable/memtable_reference.h"

#include "engine/base/hash.h"
#include "engine/base/memory.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB ((size_t)1 << 20)

static const enum memtable_kind kinds[] = {MEMTABLE_BTREE, MEMTABLE_SKIPLIST};

struct fixture {
    uint8_t *arena; /* owned */
    size_t size;
    struct memtable *mt;
    struct reference reference;
};

/* The arena has what an earlier life left in it. */
static struct fixture fixture_of(enum memtable_kind kind, size_t size)
{
    struct fixture f = {.arena = aligned_alloc(64, (size + 63) & ~(size_t)63), .size = size};
    ck_assert_ptr_nonnull(f.arena);
    memset(f.arena, 0xa5, size);
    lsm_error err = {0};
    ck_assert_msg(memtable_new(kind, f.arena, size, 7, &f.mt, &err) == LSM_OK, "%s", err.message);
    return f;
}

static void fixture_release(struct fixture *f)
{
    reference_release(&f->reference);
    memtable_free(f->mt);
    free(f->arena);
}

static uint64_t put(uint64_t sequence)
{
    return entry_trailer(sequence, ENTRY_PUT);
}

/* ---- shapes ---------------------------------------------------------------------------------- */

static uint32_t random_cf(struct random_state *random)
{
    static const uint32_t families[] = {0, 1, 2, 255, 256, 65536, UINT32_MAX - 1, UINT32_MAX};
    return random_below(random, 2) == 0 ? 1 : families[random_below(random, 8)];
}

/* Inserts `count` entries, often several of one key, several of one sequence number. */
static void fill(struct fixture *f, enum key_shape shape, size_t count, bool many_families,
                 struct random_state *random)
{
    static uint8_t key[KEY_BUFFER_SIZE];
    uint64_t sequence = 1 + random_below(random, 100);
    for (size_t i = 0; i < count; i++) {
        size_t size = make_key(shape, i, random, key);
        uint32_t cf = many_families ? random_cf(random) : 3;
        lsm_slice name = LSM_SLICE(key, size);
        if (i > 0 && random_below(random, 6) == 0) {
            const struct reference_entry *e = &f->reference.entries[random_below(random, i)];
            cf = e->cf;
            name = LSM_SLICE(e->key, e->key_size);
            memcpy(key, e->key, e->key_size);
            name.data = key;
        }
        sequence += random_below(random, 3);
        enum entry_type type = random_below(random, 4) == 0 ? ENTRY_DELETE : ENTRY_PUT;
        uint32_t value_size = type == ENTRY_DELETE ? 0 : (uint32_t)random_below(random, 60);
        ck_assert(memtable_has_room(f->mt, memtable_entry_room(f->mt, name.size, value_size)));
        reference_insert(&f->reference, f->mt, cf, name, entry_trailer(sequence, type), value_size);
    }
}

START_TEST(test_memtable_random_inserts_agree_with_a_sorted_array)
{
    uint64_t seed = reference_seed(key_shape_names[_i / 4]);
    enum key_shape shape = (enum key_shape)(_i / 4);
    struct random_state random = random_seeded(seed + (uint64_t)_i);
    size_t count = shape == KEYS_HUGE ? 300 : 6000;
    struct fixture f = fixture_of(kinds[_i % 2], shape == KEYS_HUGE ? 32 * MIB : 4 * MIB);
    fill(&f, shape, count, _i % 4 >= 2, &random);
    reference_check(&f.reference, count, f.mt, &random);
    fixture_release(&f);
}
END_TEST

START_TEST(test_memtable_approaches_ahead_of_others_agree_with_a_sorted_array)
{
    uint64_t seed = reference_seed("approached ahead");
    enum key_shape shape = (enum key_shape)(_i / 2);
    struct random_state random = random_seeded(seed + (uint64_t)_i);
    struct fixture f = fixture_of(kinds[_i % 2], shape == KEYS_HUGE ? 32 * MIB : 4 * MIB);
    struct fixture ahead = fixture_of(kinds[_i % 2], f.size);
    size_t count = shape == KEYS_HUGE ? 300 : 6000;
    fill(&f, shape, count, false, &random);
    reference_repeat_ahead(&f.reference, ahead.mt, &random);
    reference_check(&f.reference, count, ahead.mt, &random);
    ck_assert_uint_eq(memtable_position(ahead.mt), memtable_position(f.mt));
    ck_assert_uint_eq(memtable_bytes_used(ahead.mt), memtable_bytes_used(f.mt));
    fixture_release(&ahead);
    fixture_release(&f);
}
END_TEST

START_TEST(test_memtable_is_right_after_every_insert)
{
    uint64_t seed = reference_seed("after every insert");
    struct random_state random = random_seeded(seed);
    struct fixture f = fixture_of(kinds[_i], MEMTABLE_MIN_ARENA);
    for (size_t count = 0; count < 70; count++) {
        reference_check(&f.reference, count, f.mt, &random);
        uint8_t key[64];
        size_t size = make_key(KEYS_EXTREME, count, &random, key);
        reference_insert(&f.reference, f.mt, random_cf(&random), LSM_SLICE(key, size),
                         put(count + 1), 3);
    }
    fixture_release(&f);
}
END_TEST

/* ---- versions -------------------------------------------------------------------------------- */

static void insert_text(struct memtable *mt, uint32_t cf, const char *key, uint64_t trailer,
                        const char *value)
{
    memtable_insert(mt, cf, slice_of_text(key), hash_key(key, strlen(key)), trailer,
                    slice_of_text(value));
}

static void check_text(const struct memtable *mt, const char *key, uint64_t sequence,
                       const char *value)
{
    struct memtable_found found;
    bool is_there =
        memtable_get(mt, 0, slice_of_text(key), hash_key(key, strlen(key)), sequence, &found);
    ck_assert_int_eq(is_there, value != NULL);
    if (value != NULL)
        ck_assert(slice_equal(found.value, slice_of_text(value)));
}

START_TEST(test_memtable_get_at_a_snapshot_sees_the_version_of_then)
{
    struct fixture f = fixture_of(kinds[_i], MIB);
    insert_text(f.mt, 0, "k", put(10), "ten");
    insert_text(f.mt, 0, "k", entry_trailer(20, ENTRY_DELETE), "");
    insert_text(f.mt, 0, "k", put(30), "thirty");
    check_text(f.mt, "k", 9, NULL);
    check_text(f.mt, "k", 10, "ten");
    check_text(f.mt, "k", 19, "ten");
    struct memtable_found found;
    ck_assert(memtable_get(f.mt, 0, slice_of_text("k"), hash_key("k", 1), 25, &found));
    ck_assert_int_eq(entry_type_of(found.trailer), ENTRY_DELETE);
    check_text(f.mt, "k", ENTRY_MAX_SEQUENCE, "thirty");
    ck_assert_uint_eq(memtable_min_sequence(f.mt), 10);
    ck_assert_uint_eq(memtable_max_sequence(f.mt), 30);
    fixture_release(&f);
}
END_TEST

START_TEST(test_memtable_two_of_one_sequence_the_later_is_found)
{
    struct fixture f = fixture_of(kinds[_i], MIB);
    insert_text(f.mt, 0, "k", put(5), "older");
    insert_text(f.mt, 0, "k", put(6), "first");
    insert_text(f.mt, 0, "k", entry_trailer(6, ENTRY_DELETE), "");
    insert_text(f.mt, 0, "k", put(6), "last");
    check_text(f.mt, "k", 6, "last");
    check_text(f.mt, "k", 5, "older");
    struct iter *it = NULL;
    ck_assert_int_eq(memtable_iter_new(f.mt, 0, &it, NULL), LSM_OK);
    it->ops->first(it);
    ck_assert(slice_equal(it->entry->value, slice_of_text("last")));
    iter_next(it);
    ck_assert(slice_equal(it->entry->value, slice_of_text("older")));
    iter_prev(it);
    ck_assert(slice_equal(it->entry->value, slice_of_text("last")));
    iter_release(it);
    ck_assert_uint_eq(memtable_entry_count(f.mt), 4);
    fixture_release(&f);
}
END_TEST

START_TEST(test_memtable_many_versions_of_one_key_walk_both_ways)
{
    enum { VERSIONS = 30000 };
    struct fixture f = fixture_of(kinds[_i], 8 * MIB);
    insert_text(f.mt, 0, "a", put(1), "");
    for (uint64_t i = 1; i <= VERSIONS; i++)
        insert_text(f.mt, 0, "hot", put(i), "v");
    insert_text(f.mt, 0, "z", put(VERSIONS), "");
    struct iter *it = NULL;
    ck_assert_int_eq(memtable_iter_new(f.mt, 0, &it, NULL), LSM_OK);
    it->ops->last(it);
    iter_prev(it);
    for (uint64_t i = 1; i <= VERSIONS; i++, iter_prev(it))
        ck_assert_uint_eq(entry_sequence(it->entry->trailer), i);
    ck_assert(it->valid && it->entry->key.size == 1);
    iter_next(it);
    for (uint64_t i = VERSIONS; i > 0; i--, iter_next(it))
        ck_assert_uint_eq(entry_sequence(it->entry->trailer), i);
    ck_assert(it->valid && it->entry->key.size == 1);
    iter_release(it);
    fixture_release(&f);
}
END_TEST

START_TEST(test_memtable_as_of_a_moment_a_key_is_one_step)
{
    enum { VERSIONS = 30000 };
    struct fixture f = fixture_of(kinds[_i], 8 * MIB);
    insert_text(f.mt, 0, "a", put(1), "");
    for (uint64_t i = 2; i <= VERSIONS; i++)
        insert_text(f.mt, 0, "hot", put(i), "v");
    insert_text(f.mt, 0, "late", put(VERSIONS), "");
    insert_text(f.mt, 0, "z", put(3), "");
    uint64_t sequence = VERSIONS;
    struct iter *it = NULL;
    ck_assert_int_eq(memtable_scan_new(f.mt, 0, &sequence, &it, NULL), LSM_OK);
    it->ops->first(it);
    iter_next(it);
    ck_assert_uint_eq(entry_sequence(it->entry->trailer), VERSIONS);
    iter_next(it);
    ck_assert(slice_equal(it->entry->key, slice_of_text("late")));
    iter_prev(it);
    ck_assert_uint_eq(entry_sequence(it->entry->trailer), VERSIONS);
    iter_prev(it);
    ck_assert(slice_equal(it->entry->key, slice_of_text("a")));

    sequence = 7; /* the next move is to a place */
    iter_seek(it, slice_of_text("hot"), ENTRY_MAX_TRAILER);
    ck_assert_uint_eq(entry_sequence(it->entry->trailer), 7);
    iter_next(it);
    ck_assert(slice_equal(it->entry->key, slice_of_text("z")));
    iter_prev(it);
    ck_assert_uint_eq(entry_sequence(it->entry->trailer), 7);
    iter_release(it);
    fixture_release(&f);
}
END_TEST

START_TEST(test_memtable_iterator_sees_what_was_there_and_may_see_more)
{
    struct fixture f = fixture_of(kinds[_i], MIB);
    char key[16];
    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "%04d", 2 * i);
        insert_text(f.mt, 0, key, put(1), "");
    }
    struct iter *it = NULL;
    ck_assert_int_eq(memtable_iter_new(f.mt, 0, &it, NULL), LSM_OK);
    it->ops->first(it);
    int seen = 0;
    lsm_slice last = LSM_SLICE(NULL, 0);
    uint64_t last_trailer = 0;
    for (int i = 0; it->valid; iter_next(it), i++) {
        ck_assert_int_gt(entry_compare(it->entry->key, it->entry->trailer, last, last_trailer), 0);
        last = it->entry->key; /* keys in the arena stay */
        last_trailer = it->entry->trailer;
        seen += entry_sequence(it->entry->trailer) == 1;
        /* Splits the leaf the iterator is in, and others. */
        for (int j = 0; i < 499 && j < 3; j++) {
            int number = j == 0 ? 2 * i + 1 : j == 1 ? 999 - 2 * i : (2 * i + 31) | 1;
            snprintf(key, sizeof key, "%04d", number);
            insert_text(f.mt, 0, key, put(2 + (uint64_t)i), "");
        }
    }
    ck_assert_int_eq(seen, 500);
    iter_release(it);
    fixture_release(&f);
}
END_TEST

/* ---- room ------------------------------------------------------------------------------------ */

enum filling {
    FILL_SINGLE_EMPTY, /* the smallest entries: nodes take the most of the arena */
    FILL_ASCENDING,
    FILL_DESCENDING,
    FILL_BROKEN_RUNS, /* ascending just long enough, then into the middle of what it left full */
    FILL_FULL_LEAVES, /* ascending first, then one into every leaf */
    FILL_GROUPS,
    FILL_HOSTILE_SIZES,
    FILL_VERSIONS,
    FILLINGS,
};

static uint64_t filling_key(enum filling filling, size_t i, struct random_state *random)
{
    switch (filling) {
    case FILL_ASCENDING:
        return i << 20;
    case FILL_DESCENDING:
        return UINT64_MAX - i;
    case FILL_BROKEN_RUNS:
        return i % 66 < 65 ? (uint64_t)i << 32 : random_next(random) % ((uint64_t)(i + 1) << 32);
    case FILL_FULL_LEAVES:
        return i < 500 ? (uint64_t)i << 32 : (uint64_t)((i - 500) * 15 % 500) << 32 | i;
    case FILL_VERSIONS:
        return random_below(random, 10);
    default:
        return random_next(random);
    }
}

/* Inserts a group when there is room for it; the parts of the arena that it said it would not touch
 * are the same after. */
static bool insert_group(struct fixture *f, enum filling filling, size_t group,
                         struct random_state *random, uint8_t *before)
{
    static uint8_t key[KEY_BUFFER_SIZE];
    size_t sizes[64][2], room = 0;
    for (size_t i = 0; i < group; i++) {
        sizes[i][0] = filling == FILL_SINGLE_EMPTY ? 2 + random_below(random, 2) : 8;
        sizes[i][1] = filling == FILL_GROUPS ? random_below(random, 40) : 0;
        if (filling == FILL_HOSTILE_SIZES) {
            sizes[i][0] = random_below(random, 20) == 0 ? random_below(random, 9000)
                                                        : random_below(random, 40);
            sizes[i][1] = random_below(random, 20) == 0 ? random_below(random, 9000) : 0;
        }
        room += memtable_entry_room(f->mt, sizes[i][0], sizes[i][1]);
    }
    if (!memtable_has_room(f->mt, room))
        return false;
    size_t low, high;
    memtable_reach(f->mt, room, &low, &high);
    ck_assert_uint_le(low, f->size);
    ck_assert_uint_le(high, f->size);
    bool is_watched = low < high && random_below(random, f->size / 16384) == 0;
    if (is_watched)
        memcpy(before, f->arena, f->size);
    for (size_t i = 0; i < group; i++) {
        size_t count = f->reference.count;
        uint64_t number = BYTES_BE64(filling_key(filling, count, random));
        memset(key, 'k', sizes[i][0]);
        memcpy(key, &number, sizes[i][0] < 8 ? sizes[i][0] : 8);
        reference_insert(&f->reference, f->mt, 1, LSM_SLICE(key, sizes[i][0]), put(count + 1),
                         (uint32_t)sizes[i][1]);
    }
    if (is_watched)
        ck_assert(memcmp(before + low, f->arena + low, high - low) == 0);
    return true;
}

START_TEST(test_memtable_filled_to_the_brim_never_overflows)
{
    static const size_t arena_sizes[] = {MEMTABLE_MIN_ARENA, MEMTABLE_MIN_ARENA + 8 * 37,
                                         3 * MEMTABLE_MIN_ARENA, MIB};
    uint64_t seed = reference_seed("to the brim");
    enum filling filling = (enum filling)(_i % FILLINGS);
    enum memtable_kind kind = kinds[_i / FILLINGS];
    for (size_t s = 0; s < 4; s++) {
        struct random_state random = random_seeded(seed + (uint64_t)_i * 4 + s);
        struct fixture f = fixture_of(kind, arena_sizes[s]);
        uint8_t *before = malloc(f.size);
        size_t refusals = 0;
        while (refusals < 50) {
            size_t group = filling == FILL_GROUPS ? 1 + random_below(&random, 64) : 1;
            refusals += !insert_group(&f, filling, group, &random, before);
        }
        ck_assert_uint_le(memtable_bytes_used(f.mt), f.size);
        /* Honest the other way round too: it does not refuse long before it must. */
        ck_assert_uint_ge(memtable_bytes_used(f.mt), f.size - f.size / 5 - 16384);
        reference_check(&f.reference, f.reference.count, f.mt, &random);
        free(before);
        fixture_release(&f);
    }
}
END_TEST

START_TEST(test_memtable_room_for_a_large_batch_is_near_what_it_takes)
{
    struct fixture f = fixture_of(kinds[_i], 16 * MIB);
    size_t room = 0;
    for (int i = 0; i < 60000; i++)
        room += memtable_entry_room(f.mt, 16, 100);
    ck_assert(memtable_has_room(f.mt, room)); /* 144 bytes a record: 8.6 MB, and the nodes */
    ck_assert(!memtable_has_room(f.mt, 17 * MIB));
    ck_assert(!memtable_has_room(f.mt, SIZE_MAX));
    fixture_release(&f);
}
END_TEST

START_TEST(test_memtable_new_touches_what_it_says)
{
    size_t size = MIB + 8, low, high;
    uint8_t *arena = aligned_alloc(64, MIB + 64);
    memset(arena, 0xa5, size);
    struct memtable *mt = NULL;
    ck_assert_int_eq(memtable_new(kinds[_i], arena, size, 7, &mt, NULL), LSM_OK);
    memtable_reach_new(size, &low, &high);
    size_t untouched = low;
    while (untouched < high && arena[untouched] == 0xa5)
        untouched++;
    ck_assert_uint_eq(untouched, high);
    ck_assert_uint_le(high, size);
    ck_assert_uint_eq(memtable_entry_count(mt), 0);
    ck_assert_uint_eq(memtable_min_sequence(mt), UINT64_MAX);
    ck_assert_uint_eq(memtable_max_sequence(mt), 0);
    ck_assert_uint_eq(memtable_id(mt), 7);
    memtable_free(mt);
    free(arena);
}
END_TEST

START_TEST(test_memtable_large_value_and_largest_key_come_back)
{
    size_t value_size = 24 * MIB;
    struct fixture f = fixture_of(kinds[_i], 64 * MIB);
    struct random_state random = random_seeded(1);
    uint8_t *key = malloc(KEY_BUFFER_SIZE), *value = malloc(value_size);
    memset(key, 0xff, KEY_BUFFER_SIZE);
    memset(value, 0x5a, value_size);
    reference_insert(&f.reference, f.mt, 0, LSM_SLICE(key, KEY_BUFFER_SIZE), put(1), 10);
    reference_insert(&f.reference, f.mt, 0, LSM_SLICE(key, KEY_BUFFER_SIZE - 1), put(2), 0);
    reference_insert(&f.reference, f.mt, 0, LSM_SLICE(NULL, 0), put(3), 5000);
    reference_insert(&f.reference, f.mt, UINT32_MAX, LSM_SLICE(NULL, 0), put(4), 5);
    reference_check(&f.reference, 4, f.mt, &random);

    struct memtable_found found;
    uint64_t hash = hash_key("large", 5);
    memtable_insert(f.mt, 0, LSM_SLICE("large", 5), hash, put(5), LSM_SLICE(value, value_size));
    ck_assert(memtable_get(f.mt, 0, LSM_SLICE("large", 5), hash, 5, &found));
    ck_assert_uint_eq(found.value.size, value_size);
    ck_assert(memcmp(found.value.data, value, value_size) == 0);
    ck_assert(!memtable_has_room(f.mt, memtable_entry_room(f.mt, 10, 40 * MIB)));
    free(value);
    free(key);
    fixture_release(&f);
}
END_TEST

/* ---- attach ---------------------------------------------------------------------------------- */

START_TEST(test_memtable_attached_twice_shows_and_takes_the_same)
{
    struct fixture f = fixture_of(kinds[_i], MIB);
    struct random_state random = random_seeded(reference_seed("attached"));
    struct memtable *other = NULL;
    ck_assert_int_eq(memtable_attach(f.arena, f.size, &other, NULL), LSM_OK);
    uint8_t key[64];
    for (size_t i = 0; i < 3000; i++) { /* ascending runs, taken over by the other in the middle */
        size_t size = make_key(KEYS_ASCENDING_DECIMAL, i, &random, key);
        struct memtable *mt = random_below(&random, 40) < 20 ? f.mt : other;
        for (size_t run = random_below(&random, 90); run > 0 && i < 3000; run--, i++) {
            size = make_key(KEYS_ASCENDING_DECIMAL, i, &random, key);
            reference_insert(&f.reference, mt, 1, LSM_SLICE(key, size), put(i + 1), 8);
        }
    }
    reference_check(&f.reference, f.reference.count, other, &random);
    reference_check(&f.reference, f.reference.count, f.mt, &random);
    ck_assert_uint_eq(memtable_id(other), 7);
    memtable_free(other);
    fixture_release(&f);
}
END_TEST

START_TEST(test_memtable_attach_to_other_bytes_is_corrupt)
{
    struct fixture f = fixture_of(MEMTABLE_BTREE, MIB);
    struct memtable *other = NULL;
    lsm_error err = {0};
    ck_assert_int_eq(memtable_attach(f.arena, f.size - 64, &other, &err), LSM_CORRUPT);
    ck_assert_int_eq(err.status, LSM_CORRUPT);
    ck_assert_uint_eq(err.expected, f.size - 64);
    ck_assert_uint_eq(err.found, f.size);
    for (size_t word = 0; word < 24; word++) { /* no damage of the header crashes it */
        uint64_t saved;
        memcpy(&saved, f.arena + 8 * word, 8);
        memset(f.arena + 8 * word, 0xee, 8);
        lsm_status status = memtable_attach(f.arena, f.size, &other, NULL);
        ck_assert(status == LSM_OK || status == LSM_CORRUPT);
        if (status == LSM_OK)
            memtable_free(other);
        memcpy(f.arena + 8 * word, &saved, 8);
    }
    memset(f.arena, 0, f.size);
    ck_assert_int_eq(memtable_attach(f.arena, f.size, &other, NULL), LSM_CORRUPT);
    fixture_release(&f);
}
END_TEST

START_TEST(test_memtable_new_with_a_bad_arena_is_invalid)
{
    uint8_t *arena = aligned_alloc(64, MIB);
    struct memtable *mt = NULL;
    ck_assert_int_eq(memtable_new(MEMTABLE_BTREE, arena, MEMTABLE_MIN_ARENA - 1, 1, &mt, NULL),
                     LSM_INVALID);
    ck_assert_int_eq(memtable_new(MEMTABLE_BTREE, arena, MEMTABLE_MAX_ARENA + 1, 1, &mt, NULL),
                     LSM_INVALID);
    ck_assert_int_eq(memtable_new(MEMTABLE_BTREE, arena + 4, MIB - 8, 1, &mt, NULL), LSM_INVALID);
    ck_assert_int_eq(memtable_new((enum memtable_kind)9, arena, MIB, 1, &mt, NULL), LSM_INVALID);
    mem_fail_after(0, false);
    ck_assert_int_eq(memtable_new(MEMTABLE_BTREE, arena, MIB, 1, &mt, NULL), LSM_NO_MEMORY);
    mem_fail_after(-1, false);
    ck_assert_ptr_null(mt);
    free(arena);
}
END_TEST

/* ---- costs ----------------------------------------------------------------------------------- */

START_TEST(test_memtable_insert_and_get_allocate_nothing)
{
    struct fixture f = fixture_of(kinds[_i], 4 * MIB);
    struct random_state random = random_seeded(3);
    uint8_t key[64];
    uint64_t before = mem_allocation_count();
    for (uint64_t i = 0; i < 5000; i++) {
        struct memtable_found found;
        lsm_slice name = LSM_SLICE(key, make_key(KEYS_EXTREME, i, &random, key));
        uint64_t hash = hash_key(name.data, name.size);
        memtable_insert(f.mt, 0, name, hash, put(i + 1), name);
        ck_assert(memtable_get(f.mt, 0, name, hash, i + 1, &found));
    }
    ck_assert_uint_eq(mem_allocation_count(), before);
    fixture_release(&f);
}
END_TEST

static size_t count_strangers(const struct memtable *mt, uint32_t cf, struct random_state *random)
{
    size_t strangers = 0;
    uint8_t key[16];
    for (int i = 0; i < 20000; i++) {
        make_key(KEYS_RANDOM, 0, random, key);
        strangers += memtable_may_contain(mt, cf, hash_key(key, 16));
    }
    return strangers;
}

START_TEST(test_memtable_index_lets_few_strangers_pass)
{
    struct fixture f = fixture_of(kinds[_i], 4 * MIB);
    struct random_state random = random_seeded(reference_seed("strangers"));
    size_t count = 0;
    uint8_t key[16];
    for (; memtable_has_room(f.mt, memtable_entry_room(f.mt, 16, 100)); count++) {
        make_key(KEYS_RANDOM, count, &random, key);
        uint8_t value[100] = {0};
        memtable_insert(f.mt, 4, LSM_SLICE(key, 16), hash_key(key, 16), put(count + 1),
                        LSM_SLICE(value, 100));
        ck_assert(memtable_may_contain(f.mt, 4, hash_key(key, 16)));
    }
    /* A line has 8 words on average, each with a tag of 13 bits. */
    ck_assert_uint_lt(count_strangers(f.mt, 4, &random), 20000 / 200);
    ck_assert_uint_lt(count_strangers(f.mt, 5, &random), 20000 / 200);
    fixture_release(&f);
}
END_TEST

static struct memtable *fill_at_once(const struct fixture *f, uint8_t *arena)
{
    struct memtable *mt = NULL;
    struct memtable_bulk *bulk = NULL;
    ck_assert_int_eq(memtable_new(MEMTABLE_BTREE, arena, f->size, 7, &mt, NULL), LSM_OK);
    ck_assert_int_eq(memtable_bulk_new(&bulk, NULL), LSM_OK);
    ck_assert_int_eq(memtable_bulk_begin(bulk, mt, NULL), LSM_OK);
    for (size_t i = 0; i < f->reference.count; i++)
        reference_bulk_add(&f->reference, i, bulk);
    memtable_bulk_end(bulk);
    memtable_bulk_free(bulk);
    return mt;
}

/* Entries as small as can be are more than the index has room for. */
static void fill_over_the_index(struct fixture *f, struct random_state *random)
{
    for (uint64_t i = 1; memtable_has_room(f->mt, memtable_entry_room(f->mt, 4, 0)); i++) {
        uint32_t key = (uint32_t)random_next(random);
        if (i > 1 && random_below(random, 8) == 0) /* again */
            memcpy(&key, f->reference.entries[random_below(random, i - 1)].key, sizeof key);
        reference_insert(&f->reference, f->mt, 1, LSM_SLICE(&key, sizeof key), put(i), 0);
    }
}

START_TEST(test_memtable_with_more_keys_than_its_index_holds_finds_all)
{
    struct random_state random = random_seeded(reference_seed("full index") + (uint64_t)_i);
    struct fixture f = fixture_of(kinds[_i], MEMTABLE_MIN_ARENA);
    fill_over_the_index(&f, &random);
    ck_assert_uint_gt(count_strangers(f.mt, 1, &random), 20000 / 4);
    reference_check(&f.reference, f.reference.count, f.mt, &random);

    fixture_release(&f);
}
END_TEST

START_TEST(test_memtable_filled_at_once_over_its_index_finds_all)
{
    struct random_state random = random_seeded(reference_seed("full index at once"));
    struct fixture f = fixture_of(MEMTABLE_BTREE, MEMTABLE_MIN_ARENA);
    fill_over_the_index(&f, &random);
    uint8_t *arena = aligned_alloc(64, f.size);
    struct memtable *mt = fill_at_once(&f, arena);
    ck_assert_uint_gt(count_strangers(mt, 1, &random), 20000 / 4);
    reference_check(&f.reference, f.reference.count, mt, &random);
    memtable_free(mt);
    free(arena);
    fixture_release(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memtable");
    TCase *tests = tcase_create("memtable");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_memtable_random_inserts_agree_with_a_sorted_array, 0,
                        KEYS_SHAPES * 4);
    tcase_add_loop_test(tests, test_memtable_approaches_ahead_of_others_agree_with_a_sorted_array,
                        0, 2 * KEYS_SHAPES);
    tcase_add_loop_test(tests, test_memtable_is_right_after_every_insert, 0, 2);
    tcase_add_loop_test(tests, test_memtable_get_at_a_snapshot_sees_the_version_of_then, 0, 2);
    tcase_add_loop_test(tests, test_memtable_two_of_one_sequence_the_later_is_found, 0, 2);
    tcase_add_loop_test(tests, test_memtable_many_versions_of_one_key_walk_both_ways, 0, 2);
    tcase_add_loop_test(tests, test_memtable_as_of_a_moment_a_key_is_one_step, 0, 2);
    tcase_add_loop_test(tests, test_memtable_iterator_sees_what_was_there_and_may_see_more, 0, 2);
    tcase_add_loop_test(tests, test_memtable_filled_to_the_brim_never_overflows, 0, 2 * FILLINGS);
    tcase_add_loop_test(tests, test_memtable_room_for_a_large_batch_is_near_what_it_takes, 0, 2);
    tcase_add_loop_test(tests, test_memtable_new_touches_what_it_says, 0, 2);
    tcase_add_loop_test(tests, test_memtable_large_value_and_largest_key_come_back, 0, 2);
    tcase_add_loop_test(tests, test_memtable_attached_twice_shows_and_takes_the_same, 0, 2);
    tcase_add_test(tests, test_memtable_attach_to_other_bytes_is_corrupt);
    tcase_add_test(tests, test_memtable_new_with_a_bad_arena_is_invalid);
    tcase_add_loop_test(tests, test_memtable_insert_and_get_allocate_nothing, 0, 2);
    tcase_add_loop_test(tests, test_memtable_index_lets_few_strangers_pass, 0, 2);
    tcase_add_loop_test(tests, test_memtable_with_more_keys_than_its_index_holds_finds_all, 0, 2);
    tcase_add_test(tests, test_memtable_filled_at_once_over_its_index_finds_all);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
