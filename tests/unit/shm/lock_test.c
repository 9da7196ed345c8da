/* A shared lock: who gets it, and that the next owner hears of its owner's death. */
#include "engine/shm/lock.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct shared {
    struct shm_lock lock;
    _Atomic int stage;
    int value; /* guarded by lock */
};

static struct shared *shared;

static void setup(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
    ck_assert_int_eq(shm_lock_init(&shared->lock), 0);
}

static void teardown(void)
{
    shm_lock_destroy(&shared->lock);
    munmap(shared, sizeof *shared);
}

static void wait_for_stage(int stage)
{
    while (atomic_load(&shared->stage) < stage)
        usleep(200);
}

/* A child that takes the lock, runs `inside` and is killed while holding it. */
static void kill_owner(void (*inside)(void))
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        (void)shm_lock(&shared->lock);
        if (inside != NULL)
            inside();
        atomic_store(&shared->stage, 1);
        for (;;)
            pause();
    }
    wait_for_stage(1);
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    atomic_store(&shared->stage, 0);
}

START_TEST(test_lock_held_is_busy_for_others)
{
    ck_assert_int_eq(shm_lock(&shared->lock), SHM_LOCKED);
    ck_assert_int_eq(atomic_load(&shared->lock.owner), (int)syscall(SYS_gettid));
    pid_t child = fork();
    if (child == 0)
        _exit(shm_trylock(&shared->lock) == SHM_LOCK_BUSY ? 0 : 1);
    int result = -1;
    ck_assert_int_eq(waitpid(child, &result, 0), child);
    ck_assert_int_eq(result, 0);
    shm_unlock(&shared->lock);
    ck_assert_int_eq(atomic_load(&shared->lock.owner), 0);
    ck_assert_int_eq(shm_trylock(&shared->lock), SHM_LOCKED);
    shm_unlock(&shared->lock);
}
END_TEST

START_TEST(test_lock_in_child_names_the_child)
{
    ck_assert_int_eq(shm_lock(&shared->lock), SHM_LOCKED); /* the parent's number is known now */
    shm_unlock(&shared->lock);
    pid_t child = fork();
    if (child == 0) {
        (void)shm_lock(&shared->lock);
        _exit(atomic_load(&shared->lock.owner) == getpid() ? 0 : 1);
    }
    int result = -1;
    ck_assert_int_eq(waitpid(child, &result, 0), child);
    ck_assert_int_eq(result, 0);
}
END_TEST

static void half_change(void)
{
    shared->value = 17;
}

START_TEST(test_lock_owner_killed_next_owner_is_told)
{
    kill_owner(half_change);
    ck_assert_int_eq(shm_lock(&shared->lock), SHM_LOCKED_OWNER_DIED);
    ck_assert_int_eq(shared->value, 17);
    shared->value = 0;
    shm_lock_repaired(&shared->lock);
    shm_unlock(&shared->lock);
    ck_assert_int_eq(shm_lock(&shared->lock), SHM_LOCKED);
    shm_unlock(&shared->lock);
}
END_TEST

START_TEST(test_lock_owner_killed_trylock_is_told)
{
    kill_owner(NULL);
    ck_assert_int_eq(shm_trylock(&shared->lock), SHM_LOCKED_OWNER_DIED);
    shm_lock_repaired(&shared->lock);
    shm_unlock(&shared->lock);
}
END_TEST

START_TEST(test_lock_repairer_killed_next_owner_is_told_again)
{
    kill_owner(NULL);
    kill_owner(NULL); /* it was told, and died before the repair was over */
    ck_assert_int_eq(shm_lock(&shared->lock), SHM_LOCKED_OWNER_DIED);
    shm_lock_repaired(&shared->lock);
    shm_unlock(&shared->lock);
}
END_TEST

START_TEST(test_lock_unrepaired_unlock_aborts_the_next_owner)
{
    kill_owner(NULL);
    ck_assert_int_eq(shm_lock(&shared->lock), SHM_LOCKED_OWNER_DIED);
    shm_unlock(&shared->lock);
    pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(2);
        (void)shm_lock(&shared->lock);
        _exit(0);
    }
    int result = 0;
    ck_assert_int_eq(waitpid(child, &result, 0), child);
    ck_assert(WIFSIGNALED(result) && WTERMSIG(result) == SIGABRT);
}
END_TEST

START_TEST(test_lock_waiter_is_woken_by_the_owners_death)
{
    pid_t owner = fork();
    if (owner == 0) {
        (void)shm_lock(&shared->lock);
        atomic_store(&shared->stage, 1);
        for (;;)
            pause();
    }
    wait_for_stage(1);
    pid_t waiter = fork();
    if (waiter == 0) {
        atomic_store(&shared->stage, 2);
        _exit(shm_lock(&shared->lock) == SHM_LOCKED_OWNER_DIED ? 0 : 1);
    }
    wait_for_stage(2);
    usleep(20000); /* most likely it waits inside by now; the outcome is the same when not */
    kill(owner, SIGKILL);
    int result = -1;
    ck_assert_int_eq(waitpid(waiter, &result, 0), waiter);
    ck_assert_int_eq(result, 0);
    ck_assert_int_eq(waitpid(owner, NULL, 0), owner);
}
END_TEST

#define PROCESS_COUNT 4
#define ROUND_COUNT   20000

START_TEST(test_lock_many_processes_exclude_each_other)
{
    pid_t children[PROCESS_COUNT];
    for (int i = 0; i < PROCESS_COUNT; i++) {
        children[i] = fork();
        if (children[i] != 0)
            continue;
        for (int round = 0; round < ROUND_COUNT; round++) {
            (void)shm_lock(&shared->lock);
            shared->value++;
            shm_unlock(&shared->lock);
        }
        _exit(0);
    }
    for (int i = 0; i < PROCESS_COUNT; i++)
        ck_assert_int_eq(waitpid(children[i], NULL, 0), children[i]);
    ck_assert_int_eq(shared->value, PROCESS_COUNT * ROUND_COUNT);
}
END_TEST

static uint64_t in_ms(unsigned ms)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + ms * UINT64_C(1000000);
}

START_TEST(test_lock_until_gives_up_and_never_takes_over_from_the_living)
{
    ck_assert_int_eq(shm_lock_until(&shared->lock, 1), SHM_LOCKED); /* free, so it does not wait */
    ck_assert_int_eq(shm_lock_owner(&shared->lock), syscall(SYS_gettid));
    shm_unlock(&shared->lock);
    ck_assert_int_eq(shm_lock_owner(&shared->lock), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        (void)shm_lock(&shared->lock);
        shared->value = 1;
        raise(SIGSTOP);
        shared->value = 2;
        shm_unlock(&shared->lock);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
    ck_assert(WIFSTOPPED(status));
    uint64_t deadline = in_ms(30);
    ck_assert_int_eq(shm_lock_until(&shared->lock, deadline), SHM_LOCK_TIMED_OUT);
    ck_assert_uint_ge(in_ms(0), deadline);
    ck_assert_int_eq(shm_lock_owner(&shared->lock), child);
    ck_assert_int_eq(shared->value, 1);
    kill(child, SIGCONT);
    ck_assert_int_eq(shm_lock_until(&shared->lock, in_ms(30000)), SHM_LOCKED);
    ck_assert_int_eq(shared->value, 2);
    shm_unlock(&shared->lock);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}
END_TEST

START_TEST(test_lock_until_hears_of_the_owners_death)
{
    kill_owner(NULL);
    ck_assert_int_eq(shm_lock_until(&shared->lock, in_ms(30000)), SHM_LOCKED_OWNER_DIED);
    shm_lock_repaired(&shared->lock);
    shm_unlock(&shared->lock);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm lock");
    TCase *tests = tcase_create("lock");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_lock_held_is_busy_for_others);
    tcase_add_test(tests, test_lock_in_child_names_the_child);
    tcase_add_test(tests, test_lock_owner_killed_next_owner_is_told);
    tcase_add_test(tests, test_lock_owner_killed_trylock_is_told);
    tcase_add_test(tests, test_lock_repairer_killed_next_owner_is_told_again);
    tcase_add_test(tests, test_lock_unrepaired_unlock_aborts_the_next_owner);
    tcase_add_test(tests, test_lock_waiter_is_woken_by_the_owners_death);
    tcase_add_test(tests, test_lock_many_processes_exclude_each_other);
    tcase_add_test(tests, test_lock_until_gives_up_and_never_takes_over_from_the_living);
    tcase_add_test(tests, test_lock_until_hears_of_the_owners_death);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
