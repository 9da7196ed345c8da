/*
 * Processes die in the middle of flushes and compactions, and others clear up after them: what the
 * dead one made durable is adopted and its files stay; what it only began is removed and redone.
 */
#include "tests/unit/db/db_fixture.h"

#include "engine/base/step.h"
#include "engine/db/db_private.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS                                                                                    \
    "create=true,workers=none,memtable_size=256KiB,stage_size=128KiB,"                             \
    "wal_segment_size=128KiB,cache_size=1MiB"
#define KEYS 50

static const char *fatal_step;

static void die_at_step(const char *name)
{
    if (strcmp(name, fatal_step) == 0)
        kill(getpid(), SIGKILL);
}

/* Another process writes and flushes, and dies at the step. */
static void flusher_dies_at(const char *step)
{
    fatal_step = step;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        lsm_db *db = open_with(OPTIONS);
        put_many(db, NULL, 0, KEYS, 100);
        atomic_store(&step_hook, die_at_step);
        _exit(1 + (int)lsm_flush(db, NULL));
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                  "the flusher did not reach '%s': status %d", step, status);
}

static unsigned count_tables(void)
{
    unsigned count = 0;
    DIR *dir = opendir(db_path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        count += strstr(e->d_name, ".sst") != NULL;
    closedir(dir);
    return count;
}

static void expect_many(lsm_db *db)
{
    for (unsigned i = 0; i < KEYS; i++) {
        char key[32], value[128];
        size_t size = 0;
        snprintf(key, sizeof key, "many-%06u", i);
        ck_ok(lsm_get_into(db, NULL, text(key), NULL, value, sizeof value, &size, &error));
        ck_assert_uint_eq(size, 100);
    }
}

static const struct {
    const char *step;
    unsigned tables; /* in the end: each flush makes one */
} flushes[] = {{"flush: written", 1}, {"flush: durable", 1}, {"edit: published", 1}};

START_TEST(test_reaping_a_flusher_keeps_what_it_made_durable)
{
    lsm_db *db = open_with(OPTIONS);
    flusher_dies_at(flushes[_i].step);
    ck_ok(db_reap(db, &error));
    expect_many(db);
    ck_ok(lsm_flush(db, &error)); /* adopts the edit, or flushes again */
    ck_ok(db_reap(db, &error));
    expect_many(db);
    close_ok(db);
    db = open_with(OPTIONS);
    expect_many(db);
    close_ok(db);
    ck_assert_uint_eq(count_tables(), flushes[_i].tables);
}
END_TEST

/* The flusher holds a claim on the memtable: who waits for it must find out that it is dead. */
START_TEST(test_light_client_goes_on_after_the_death_of_a_flusher)
{
    lsm_db *db = open_with(OPTIONS);
    flusher_dies_at("flush: written");
    put_many(db, NULL, 0, 6000, 500); /* more than all memtables hold */
    expect_text(db, NULL, "many-999999", NULL);
    ck_ok(lsm_flush(db, &error));
    close_ok(db);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("db/reap");
    TCase *tests = tcase_create("reap");
    tcase_add_checked_fixture(tests, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_reaping_a_flusher_keeps_what_it_made_durable, 0,
                        sizeof flushes / sizeof *flushes);
    tcase_add_test(tests, test_light_client_goes_on_after_the_death_of_a_flusher);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
