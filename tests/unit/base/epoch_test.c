#include "engine/base/epoch.h"
#include "engine/base/memory.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define MAGIC_ALIVE UINT64_C(0xa11fe)

struct thing {
    struct epoch_retired retired; /* first: the callback casts back */
    uint64_t magic;
};

static _Atomic unsigned freed_count;

static struct thing *thing_new(void)
{
    struct thing *t = mem_alloc(sizeof *t);
    *t = (struct thing){.magic = MAGIC_ALIVE};
    return t;
}

static void thing_free(struct epoch_retired *retired)
{
    struct thing *t = (struct thing *)retired;
    t->magic = 0;
    mem_free(t);
    atomic_fetch_add(&freed_count, 1);
}

START_TEST(test_epoch_nobody_inside_frees_at_once)
{
    epoch_retire(&thing_new()->retired, thing_free);
    epoch_drain();
    ck_assert_uint_eq(freed_count, 1);
}
END_TEST

START_TEST(test_epoch_own_visit_holds_until_the_outermost_exit)
{
    epoch_enter();
    epoch_enter();
    ck_assert(epoch_is_inside());
    epoch_retire(&thing_new()->retired, thing_free);
    epoch_collect();
    ck_assert_uint_eq(freed_count, 0);
    epoch_exit();
    epoch_collect();
    ck_assert_uint_eq(freed_count, 0);
    epoch_exit();
    ck_assert(!epoch_is_inside());
    epoch_collect();
    ck_assert_uint_eq(freed_count, 1);
}
END_TEST

START_TEST(test_epoch_visitor_that_came_later_does_not_hold)
{
    epoch_enter();
    epoch_retire(&thing_new()->retired, thing_free);
    epoch_exit();
    epoch_enter();
    epoch_collect();
    ck_assert_uint_eq(freed_count, 1);
    epoch_exit();
}
END_TEST

struct gate {
    pthread_barrier_t entered, leave;
};

static void *stay_inside(void *argument)
{
    struct gate *gate = argument;
    epoch_enter();
    pthread_barrier_wait(&gate->entered);
    pthread_barrier_wait(&gate->leave);
    epoch_exit();
    return NULL;
}

/* More threads than slots: those beyond share one, and hold things all the same. */
START_TEST(test_epoch_more_threads_than_slots_all_hold)
{
    enum { THREADS = EPOCH_SLOT_COUNT + 8 };
    static pthread_t threads[THREADS];
    static struct gate gate;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    pthread_barrier_init(&gate.entered, NULL, THREADS + 1);
    pthread_barrier_init(&gate.leave, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], &small, stay_inside, &gate), 0);
    pthread_barrier_wait(&gate.entered);
    epoch_retire(&thing_new()->retired, thing_free);
    epoch_collect();
    ck_assert_uint_eq(freed_count, 0);
    pthread_barrier_wait(&gate.leave);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    epoch_drain();
    ck_assert_uint_eq(freed_count, 1);
    epoch_enter(); /* the slots of ended threads are free again */
    epoch_exit();
    pthread_attr_destroy(&small);
}
END_TEST

static _Atomic(struct thing *) shared;
static _Atomic bool stop;

static void *read_shared(void *argument)
{
    uint64_t *bad = argument;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        epoch_enter();
        struct thing *t = atomic_load_explicit(&shared, memory_order_acquire);
        for (int i = 0; i < 8; i++)
            *bad += *(volatile uint64_t *)&t->magic != MAGIC_ALIVE;
        epoch_exit();
    }
    return NULL;
}

static void *replace_shared(void *argument)
{
    (void)argument;
    for (int i = 0; i < 20000; i++) {
        struct thing *old = atomic_exchange(&shared, thing_new());
        epoch_retire(&old->retired, thing_free);
    }
    return NULL;
}

START_TEST(test_epoch_readers_never_see_a_freed_thing)
{
    pthread_t readers[3], writers[2];
    uint64_t bad[3] = {0};
    atomic_store(&shared, thing_new());
    for (int i = 0; i < 3; i++)
        pthread_create(&readers[i], NULL, read_shared, &bad[i]);
    for (int i = 0; i < 2; i++)
        pthread_create(&writers[i], NULL, replace_shared, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++) {
        pthread_join(readers[i], NULL);
        ck_assert_uint_eq(bad[i], 0);
    }
    epoch_drain();
    ck_assert_uint_eq(freed_count, 40000);
    mem_free(atomic_load(&shared));
}
END_TEST

struct slow_thing {
    struct epoch_retired retired;
    _Atomic bool begun;
    _Atomic bool done;
};

static void free_slowly(struct epoch_retired *retired)
{
    struct slow_thing *slow = (struct slow_thing *)retired;
    atomic_store(&slow->begun, true);
    for (int i = 0; i < 5000; i++)
        sched_yield();
    atomic_store(&slow->done, true);
}

static void *retire_slow_thing(void *argument)
{
    struct slow_thing *slow = argument;
    epoch_retire(&slow->retired, free_slowly);
    return NULL;
}

/* Another thread has taken the thing off the list, but is not done with it. */
START_TEST(test_epoch_drain_waits_for_other_threads_that_free)
{
    struct slow_thing slow = {.begun = false};
    pthread_t thread;
    pthread_create(&thread, NULL, retire_slow_thing, &slow);
    while (!atomic_load(&slow.begun))
        sched_yield();
    epoch_drain();
    ck_assert(atomic_load(&slow.done));
    pthread_join(thread, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("epoch");
    TCase *cases = tcase_create("epoch");
    tcase_add_test(cases, test_epoch_nobody_inside_frees_at_once);
    tcase_add_test(cases, test_epoch_own_visit_holds_until_the_outermost_exit);
    tcase_add_test(cases, test_epoch_visitor_that_came_later_does_not_hold);
    tcase_add_test(cases, test_epoch_more_threads_than_slots_all_hold);
    tcase_add_test(cases, test_epoch_readers_never_see_a_freed_thing);
    tcase_add_test(cases, test_epoch_drain_waits_for_other_threads_that_free);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
