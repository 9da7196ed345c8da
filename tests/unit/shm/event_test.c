/* Shared events: no wake-up is lost, whoever waits, and a killed waiter spoils nothing. */
#include "engine/shm/event.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LONG_NS                                                                                    \
    UINT64_C(60000000000) /* far over the tests' own time limit: it must not run out               \
                           */

struct shared {
    struct shm_event event;
    struct shm_event answer;
    _Atomic uint32_t condition;
    _Atomic uint32_t seen;
};

static struct shared *shared;

static void setup(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
}

static void teardown(void)
{
    munmap(shared, sizeof *shared);
}

static void wait_until(struct shm_event *event, _Atomic uint32_t *word, uint32_t value)
{
    for (;;) {
        uint32_t seen = shm_event_count(event);
        if (atomic_load(word) >= value)
            return;
        shm_event_wait(event, seen, LONG_NS);
    }
}

START_TEST(test_event_count_moves_with_every_signal)
{
    uint32_t before = shm_event_count(&shared->event);
    shm_event_signal(&shared->event);
    ck_assert_uint_ne(shm_event_count(&shared->event), before);
    shm_event_wait(&shared->event, before, LONG_NS); /* it happened: must not sleep */
}
END_TEST

START_TEST(test_event_wait_without_signal_ends_after_the_timeout)
{
    uint32_t seen = shm_event_count(&shared->event);
    shm_event_wait(&shared->event, seen, 3000000);
    ck_assert_uint_eq(shm_event_count(&shared->event), seen);
    shm_event_wait(&shared->event, seen, 3000000); /* the mark of the first waiter is no news */
    ck_assert_uint_eq(shm_event_count(&shared->event), seen);
}
END_TEST

/* Ping-pong without time-outs that could hide a lost wake-up: one lost and the test hangs. */
static void play(uint32_t rounds)
{
    for (uint32_t i = 1; i <= rounds; i++) {
        wait_until(&shared->event, &shared->condition, i);
        atomic_store(&shared->seen, i);
        shm_event_signal(&shared->answer);
    }
}

START_TEST(test_event_between_processes_loses_no_signal)
{
    enum { ROUNDS = 20000 };
    pid_t child = fork();
    if (child == 0) {
        play(ROUNDS);
        _exit(0);
    }
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        atomic_store(&shared->condition, i);
        shm_event_signal(&shared->event);
        wait_until(&shared->answer, &shared->seen, i);
    }
    int result = -1;
    ck_assert_int_eq(waitpid(child, &result, 0), child);
    ck_assert_int_eq(result, 0);
}
END_TEST

#define WAITER_COUNT 6

static void *wait_for_end(void *argument)
{
    (void)argument;
    wait_until(&shared->event, &shared->condition, 2000);
    return NULL;
}

START_TEST(test_event_one_signal_wakes_all_waiters)
{
    pthread_t waiters[WAITER_COUNT];
    for (int i = 0; i < WAITER_COUNT; i++)
        ck_assert_int_eq(pthread_create(&waiters[i], NULL, wait_for_end, NULL), 0);
    for (uint32_t i = 1; i <= 2000; i++) {
        atomic_store(&shared->condition, i);
        shm_event_signal(&shared->event);
    }
    for (int i = 0; i < WAITER_COUNT; i++)
        ck_assert_int_eq(pthread_join(waiters[i], NULL), 0);
}
END_TEST

START_TEST(test_event_killed_waiter_leaves_it_working)
{
    pid_t child = fork();
    if (child == 0) {
        atomic_store(&shared->seen, 1);
        shm_event_wait(&shared->event, shm_event_count(&shared->event), LONG_NS);
        _exit(0);
    }
    while (atomic_load(&shared->event.word) == 0) /* until it says that it waits */
        usleep(200);
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);

    shm_event_signal(&shared->event);
    ck_assert_uint_eq(atomic_load(&shared->event.word) & SHM_EVENT_WAITED, 0);
    pthread_t waiter;
    ck_assert_int_eq(pthread_create(&waiter, NULL, wait_for_end, NULL), 0);
    usleep(5000);
    atomic_store(&shared->condition, 2000);
    shm_event_signal(&shared->event);
    ck_assert_int_eq(pthread_join(waiter, NULL), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm event");
    TCase *tests = tcase_create("event");
    tcase_set_timeout(tests, 30);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_event_count_moves_with_every_signal);
    tcase_add_test(tests, test_event_wait_without_signal_ends_after_the_timeout);
    tcase_add_test(tests, test_event_between_processes_loses_no_signal);
    tcase_add_test(tests, test_event_one_signal_wakes_all_waiters);
    tcase_add_test(tests, test_event_killed_waiter_leaves_it_working);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
