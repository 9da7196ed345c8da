#include "engine/base/pages.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MiB ((uint64_t)1 << 20)

struct run {
    uint8_t *memory;
    size_t size;
    uint8_t mark;
};

static void run_check(const struct run *run)
{
    ck_assert_uint_eq((uintptr_t)run->memory % MEM_PAGE, 0);
    size_t kept = 0;
    while (kept < run->size && run->memory[kept] == run->mark)
        kept++;
    ck_assert_uint_eq(kept, run->size);
}

static void run_renew(struct run *run, size_t size, uint8_t mark)
{
    if (run->memory != NULL) {
        run_check(run);
        pages_give_back(run->memory, run->size);
    }
    *run = (struct run){pages_take(size), size, mark};
    ck_assert_ptr_nonnull(run->memory);
    memset(run->memory, mark, size);
}

static void run_end(struct run *run)
{
    run_check(run);
    pages_give_back(run->memory, run->size);
}

/* Runs of all sizes keep their bytes, while others come and go. */
static void *renew_runs(void *seed)
{
    enum { RUNS = 100, STEPS = 5000 };
    struct random_state r = random_seeded((uintptr_t)seed);
    struct run runs[RUNS] = {{0}};
    for (unsigned n = 0; n < STEPS; n++) {
        struct run *run = &runs[n < RUNS ? n : random_below(&r, RUNS)];
        size_t most = random_below(&r, 8) == 0 ? PAGES_RUN_BYTES : 3 * MEM_PAGE;
        run_renew(run, (size_t)random_below(&r, most + 1), (uint8_t)n);
    }
    for (unsigned i = 0; i < RUNS; i++)
        run_end(&runs[i]);
    return NULL;
}

START_TEST(test_pages_do_not_overlap)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, renew_runs, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_le(pages_bytes(), MiB); /* one chunk is kept */
}
END_TEST

/* However often runs of other sizes are wanted, no more than twice their bytes is behind them. */
START_TEST(test_pages_are_used_again)
{
    enum { RUNS = 1000, STEPS = 200000 };
    struct random_state r = random_seeded(3);
    struct run *runs = calloc(RUNS, sizeof *runs);
    uint64_t most = 0;
    for (unsigned n = 0; n < STEPS; n++) {
        struct run *run = &runs[n < RUNS ? n : random_below(&r, RUNS)];
        if (run->memory != NULL)
            pages_give_back(run->memory, run->size);
        run->size = (size_t)(1 + random_below(&r, 3)) * MEM_PAGE;
        run->memory = pages_take(run->size);
        most = pages_bytes() > most ? pages_bytes() : most;
    }
    ck_assert_uint_le(most, 2 * RUNS * 2 * MEM_PAGE);
    for (unsigned i = 0; i < RUNS; i++)
        pages_give_back(runs[i].memory, runs[i].size);
    ck_assert_uint_le(pages_bytes(), MiB);
    free(runs);
}
END_TEST

/* The largest ones find no room where single pages are scattered, and leave those what they have.
 */
START_TEST(test_pages_large_runs_beside_scattered_pages)
{
    enum { RUNS = 2000, LARGE = 50 };
    uint8_t **runs = calloc(RUNS, sizeof *runs), *large[LARGE];
    for (unsigned i = 0; i < RUNS; i++)
        ck_assert_ptr_nonnull(runs[i] = pages_take(MEM_PAGE));
    uint64_t full = pages_bytes();
    for (unsigned i = 0; i < RUNS; i += 2)
        pages_give_back(runs[i], MEM_PAGE);
    for (unsigned i = 0; i < LARGE; i++) {
        ck_assert_ptr_nonnull(large[i] = pages_take(PAGES_RUN_BYTES));
        memset(large[i], 1, PAGES_RUN_BYTES);
    }
    ck_assert_uint_le(pages_bytes(), full + (LARGE / 7 + 1) * MiB);
    for (unsigned i = 0; i < RUNS; i += 2)
        ck_assert_ptr_nonnull(runs[i] = pages_take(1));
    ck_assert_uint_le(pages_bytes(), full + (LARGE / 7 + 1) * MiB);
    for (unsigned i = 0; i < LARGE; i++)
        pages_give_back(large[i], PAGES_RUN_BYTES);
    for (unsigned i = 0; i < RUNS; i++)
        pages_give_back(runs[i], MEM_PAGE);
    ck_assert_uint_le(pages_bytes(), MiB);
    free(runs);
}
END_TEST

static _Atomic bool is_over;

static void *take_always(void *unused)
{
    while (!is_over)
        pages_give_back(pages_take(1), 1);
    return unused;
}

/* A child of a fork may take some although another thread was in the middle of that. */
START_TEST(test_pages_may_be_taken_after_a_fork)
{
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, take_always, NULL), 0);
    for (unsigned i = 0; i < 100; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(30);
            pages_give_back(pages_take(9000), 9000);
            _exit(0);
        }
        int how;
        ck_assert_int_eq(waitpid(child, &how, 0), child);
        ck_assert_int_eq(how, 0);
    }
    is_over = true;
    pthread_join(thread, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pages");
    TCase *cases = tcase_create("pages");
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_pages_do_not_overlap);
    tcase_add_test(cases, test_pages_are_used_again);
    tcase_add_test(cases, test_pages_large_runs_beside_scattered_pages);
    tcase_add_test(cases, test_pages_may_be_taken_after_a_fork);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
