/*
 * A group of inserts that was interrupted is done again by another handle: wherever it was, readers
 * saw what was there before, and afterwards every entry is there once.
 *
 * Three ways to interrupt: between two inserts; between any two machine instructions (the processor
 * steps through the group, and each state of the arena that differs from the one before is copied
 * and carried on from); and by a real kill of a process that inserts into shared memory.
 */
#include "tests/unit/memtable/memtable_reference.h"

#include "engine/base/hash.h"
#include "engine/memtable/memtable_private.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARENA_SIZE ((size_t)80 << 10)

static const enum memtable_kind kinds[] = {MEMTABLE_BTREE, MEMTABLE_SKIPLIST};

/* ---- the inserts ----------------------------------------------------------------------------- */

/* All inserts of a case, made beforehand: some keys again, some of one sequence number. */
static void plan_inserts(struct reference *plan, enum key_shape shape, size_t count,
                         struct random_state *random)
{
    static uint8_t key[KEY_BUFFER_SIZE], scratch[(size_t)4 << 20] __attribute__((aligned(64)));
    struct memtable *mt = NULL;
    ck_assert_int_eq(memtable_new(MEMTABLE_SKIPLIST, scratch, sizeof scratch, 1, &mt, NULL),
                     LSM_OK);
    uint64_t sequence = 1;
    for (size_t i = 0; i < count; i++) {
        lsm_slice name = LSM_SLICE(key, make_key(shape, i, random, key));
        if (i > 0 && shape != KEYS_ASCENDING_DECIMAL && random_below(random, 8) == 0) {
            const struct reference_entry *e = &plan->entries[i - 1 - random_below(random, i)];
            memcpy(key, e->key, e->key_size);
            name.size = e->key_size;
        }
        sequence += random_below(random, 2);
        reference_insert(plan, mt, 1, name, entry_trailer(sequence, ENTRY_PUT),
                         (uint32_t)random_below(random, 6));
    }
    memtable_free(mt);
}

/* A group begins with a new sequence number. */
static size_t group_border(const struct reference *plan, size_t near)
{
    if (near >= plan->count)
        return plan->count;
    while (near > 0 && entry_sequence(plan->entries[near].trailer) ==
                           entry_sequence(plan->entries[near - 1].trailer))
        near--;
    return near;
}

static uint64_t sequence_before(const struct reference *plan, size_t first)
{
    return first == 0 ? 0 : entry_sequence(plan->entries[first - 1].trailer);
}

/* ---- carrying on ----------------------------------------------------------------------------- */

struct takeover {
    const struct reference *plan;
    size_t first, limit; /* the interrupted group */
    size_t position;     /* before it */
};

/* What the next owner does with an arena that an owner left in the middle of the group. */
static void take_over(const struct takeover *t, uint8_t *arena)
{
    struct memtable *mt = NULL;
    lsm_error err = {0};
    ck_assert_msg(memtable_attach(arena, ARENA_SIZE, &mt, &err) == LSM_OK, "%s", err.message);
    reference_check_visible(t->plan, t->first, mt, sequence_before(t->plan, t->first));
    memtable_rewind(mt, t->position);
    ck_assert_uint_eq(memtable_entry_count(mt), t->first);
    reference_repeat(t->plan, mt, t->first, t->limit);
    reference_check_quick(t->plan, t->limit, mt);
    memtable_free(mt);
}

static void repeat_twice_more(const struct takeover *t, uint8_t *arena)
{
    struct memtable *mt = NULL;
    ck_assert_int_eq(memtable_attach(arena, ARENA_SIZE, &mt, NULL), LSM_OK);
    size_t used = memtable_bytes_used(mt);
    for (int round = 0; round < 2; round++) {
        memtable_rewind(mt, t->position);
        reference_repeat(t->plan, mt, t->first, t->limit);
    }
    ck_assert_uint_eq(memtable_bytes_used(mt), used); /* a redo of all that is done takes nothing */
    memtable_free(mt);
}

/* ---- between inserts ------------------------------------------------------------------------- */

static const enum key_shape shapes[] = {KEYS_ASCENDING_DECIMAL, KEYS_SHUFFLED_DECIMAL, KEYS_EXTREME,
                                        KEYS_SHORT};
#define SHAPE_COUNT 4

START_TEST(test_redo_after_any_number_of_inserts_completes_the_group)
{
    static uint8_t arena[ARENA_SIZE] __attribute__((aligned(64))), saved[ARENA_SIZE];
    struct random_state random =
        random_seeded(reference_seed("redo between inserts") + (uint64_t)_i);
    struct reference plan = {0};
    plan_inserts(&plan, shapes[_i / 2], 500, &random);
    struct memtable *mt = NULL;
    ck_assert_int_eq(memtable_new(kinds[_i % 2], arena, ARENA_SIZE, 1, &mt, NULL), LSM_OK);
    struct takeover t = {.plan = &plan};
    for (; t.first < plan.count; t.first = t.limit) {
        t.limit = group_border(&plan, t.first + 60);
        t.limit = t.limit > t.first ? t.limit : plan.count;
        t.position = memtable_position(mt);
        memcpy(saved, arena, ARENA_SIZE);
        for (size_t i = t.first; i <= t.limit; i += 1 + random_below(&random, 12)) {
            memcpy(arena, saved, ARENA_SIZE);
            struct memtable *dying = NULL;
            ck_assert_int_eq(memtable_attach(arena, ARENA_SIZE, &dying, NULL), LSM_OK);
            reference_repeat(&plan, dying, t.first, i);
            memtable_free(dying);
            take_over(&t, arena);
            repeat_twice_more(&t, arena);
        }
    }
    reference_check(&plan, plan.count, mt, &random);
    memtable_free(mt);
    reference_release(&plan);
}
END_TEST

START_TEST(test_redo_gives_back_nodes_that_were_not_linked)
{
    static uint8_t arena[ARENA_SIZE] __attribute__((aligned(64)));
    struct random_state random = random_seeded(5);
    struct reference plan = {0};
    plan_inserts(&plan, KEYS_RANDOM, 200, &random);
    struct memtable *mt = NULL;
    ck_assert_int_eq(memtable_new(kinds[_i], arena, ARENA_SIZE, 1, &mt, NULL), LSM_OK);
    reference_repeat(&plan, mt, 0, 200);
    size_t used = memtable_bytes_used(mt);
    for (int i = 0; i < 5; i++)
        (void)arena_take_node(mt, BTREE_NODE_SIZE); /* and its owner dies */
    ck_assert_uint_gt(memtable_bytes_used(mt), used);
    memtable_rewind(mt, memtable_position(mt));
    ck_assert_uint_eq(memtable_bytes_used(mt), used);
    reference_check_quick(&plan, 200, mt);
    memtable_free(mt);
    reference_release(&plan);
}
END_TEST

/* ---- between instructions -------------------------------------------------------------------- */

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#include <x86intrin.h>

#define TRAP_FLAG UINT64_C(0x100)

static struct {
    bool active;
    struct takeover takeover;
    uint8_t *arena;
    uint8_t last[ARENA_SIZE];
    uint8_t probe[ARENA_SIZE] __attribute__((aligned(64)));
    size_t instructions, states;
} stepper;

/* After every instruction. The interrupted code neither allocates nor holds a lock. */
static void on_step(int signal_number)
{
    (void)signal_number;
    if (!stepper.active)
        return;
    stepper.instructions++;
    if (memcmp(stepper.last, stepper.arena, ARENA_SIZE) == 0)
        return;
    stepper.states++;
    memcpy(stepper.last, stepper.arena, ARENA_SIZE);
    memcpy(stepper.probe, stepper.arena, ARENA_SIZE);
    take_over(&stepper.takeover, stepper.probe);
    if (stepper.states % 16 == 0)
        repeat_twice_more(&stepper.takeover, stepper.probe);
}

static void step_through(struct memtable *mt, const struct reference_entry *e)
{
    uint64_t hash = hash_key(e->key, e->key_size);
    uint8_t value[8];
    for (uint32_t i = 0; i < e->value_size; i++)
        value[i] = (uint8_t)(e->order * 31 + i);
    stepper.active = true;
    __writeeflags(__readeflags() | TRAP_FLAG);
    memtable_insert(mt, e->cf, LSM_SLICE(e->key, e->key_size), hash, e->trailer,
                    LSM_SLICE(value, e->value_size));
    __writeeflags(__readeflags() & ~TRAP_FLAG);
    stepper.active = false;
}

static void step_through_group(struct memtable *mt, uint8_t *arena, const struct reference *plan,
                               size_t first, size_t limit)
{
    stepper.takeover = (struct takeover){plan, first, limit, memtable_position(mt)};
    stepper.arena = arena;
    memcpy(stepper.last, arena, ARENA_SIZE);
    for (size_t i = first; i < limit; i++)
        step_through(mt, &plan->entries[i]);
}

static unsigned height_of(const struct memtable *mt)
{
    return (unsigned)(atomic_load(&mt->header->root) >> 32);
}

/* The inserts, of the plan in one go, that change the number of nodes the most: splits of leaves,
 * of inner nodes, growth of the tree. */
static size_t find_splits(const struct reference *plan, enum memtable_kind kind, size_t *places,
                          size_t wanted)
{
    static uint8_t arena[ARENA_SIZE] __attribute__((aligned(64)));
    struct memtable *mt = NULL;
    ck_assert_int_eq(memtable_new(kind, arena, ARENA_SIZE, 1, &mt, NULL), LSM_OK);
    size_t count = 0, leaf_splits = 0;
    for (size_t i = 0; i < plan->count; i++) {
        uint32_t low = atomic_load(&mt->header->node_low);
        unsigned height = height_of(mt);
        reference_repeat(plan, mt, i, i + 1);
        size_t taken = (low - atomic_load(&mt->header->node_low)) * ARENA_UNIT;
        bool is_large =
            kind == MEMTABLE_BTREE ? taken > 2 * BTREE_NODE_SIZE : taken >= sizeof(uint32_t) * 6;
        bool is_leaf_split = kind == MEMTABLE_BTREE && taken == 2 * BTREE_NODE_SIZE;
        leaf_splits += is_leaf_split;
        if ((is_large || height_of(mt) != height || (is_leaf_split && leaf_splits % 9 == 5)) &&
            count < wanted)
            places[count++] = i;
    }
    memtable_free(mt);
    return count;
}

static const struct {
    enum memtable_kind kind;
    enum key_shape shape;
} stepped[] = {
    {MEMTABLE_BTREE, KEYS_ASCENDING_DECIMAL},
    {MEMTABLE_BTREE, KEYS_SHUFFLED_DECIMAL},
    {MEMTABLE_BTREE, KEYS_EXTREME},
    {MEMTABLE_SKIPLIST, KEYS_SHUFFLED_DECIMAL},
};
#define STEPPED_COUNT 4

START_TEST(test_redo_after_any_instruction_completes_the_group)
{
    static uint8_t arena[ARENA_SIZE] __attribute__((aligned(64)));
    enum { PLACES = 3 };
    struct random_state random =
        random_seeded(reference_seed("redo between instructions") + (uint64_t)_i);
    struct sigaction action = {.sa_handler = on_step};
    ck_assert_int_eq(sigaction(SIGTRAP, &action, NULL), 0);
    struct reference plan = {0};
    plan_inserts(&plan, stepped[_i].shape, 500, &random);
    size_t places[PLACES];
    size_t place_count = find_splits(&plan, stepped[_i].kind, places, PLACES);

    struct memtable *mt = NULL;
    ck_assert_int_eq(memtable_new(stepped[_i].kind, arena, ARENA_SIZE, 1, &mt, NULL), LSM_OK);
    size_t done = 0;
    for (size_t p = 0; p < place_count; p++) {
        size_t first = group_border(&plan, places[p]);
        if (first < done)
            continue;
        reference_repeat(&plan, mt, done, first);
        done = group_border(&plan, places[p] + 2);
        done = done > first ? done : places[p] + 1;
        step_through_group(mt, arena, &plan, first, done);
    }
    printf("%zu groups, %zu instructions, %zu states\n", place_count, stepper.instructions,
           stepper.states);
    ck_assert_uint_gt(stepper.states, 50);
    memtable_free(mt);
    reference_release(&plan);
}
END_TEST
#endif

/* ---- a real kill ----------------------------------------------------------------------------- */

struct shared {
    _Atomic size_t first, limit, position; /* the intent */
    _Atomic size_t group;                  /* finished groups */
    uint8_t arena[ARENA_SIZE] __attribute__((aligned(64)));
};

static _Noreturn void insert_until_killed(struct shared *s, const struct reference *plan,
                                          size_t from)
{
    struct memtable *mt = NULL;
    if (memtable_attach(s->arena, ARENA_SIZE, &mt, NULL) != LSM_OK)
        _exit(1);
    while (from < plan->count) {
        size_t limit = group_border(plan, from + 5);
        limit = limit > from ? limit : plan->count;
        atomic_store(&s->first, from);
        atomic_store(&s->limit, limit);
        atomic_store(&s->position, memtable_position(mt));
        atomic_fetch_add(&s->group, 1);
        reference_repeat(plan, mt, from, limit);
        from = limit;
    }
    for (;;)
        pause();
}

START_TEST(test_redo_after_a_kill_completes_the_group)
{
    struct random_state random = random_seeded(reference_seed("redo after a kill") + (uint64_t)_i);
    struct shared *s =
        mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(s, MAP_FAILED);
    struct reference plan = {0};
    plan_inserts(&plan, KEYS_EXTREME, 500, &random);
    for (int kill_number = 0; kill_number < 60; kill_number++) {
        struct memtable *mt = NULL;
        ck_assert_int_eq(memtable_new(kinds[_i], s->arena, ARENA_SIZE, 1, &mt, NULL), LSM_OK);
        memtable_free(mt);
        atomic_store(&s->group, 0);
        pid_t child = fork();
        if (child == 0)
            insert_until_killed(s, &plan, 0);
        size_t wait_for = random_below(&random, 90);
        while (atomic_load(&s->group) < wait_for && atomic_load(&s->limit) < plan.count)
            ;
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
        if (atomic_load(&s->group) == 0)
            continue;
        struct takeover t = {&plan, atomic_load(&s->first), atomic_load(&s->limit),
                             atomic_load(&s->position)};
        take_over(&t, s->arena);
        repeat_twice_more(&t, s->arena);
    }
    reference_release(&plan);
    munmap(s, sizeof *s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memtable redo");
    TCase *tests = tcase_create("redo");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_redo_after_any_number_of_inserts_completes_the_group, 0,
                        2 * SHAPE_COUNT);
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
    tcase_add_loop_test(tests, test_redo_after_any_instruction_completes_the_group, 0,
                        STEPPED_COUNT);
#endif
    tcase_add_loop_test(tests, test_redo_gives_back_nodes_that_were_not_linked, 0, 2);
    tcase_add_loop_test(tests, test_redo_after_a_kill_completes_the_group, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
