/*
 * Several handles of one database, each with an attachment of its own as if it were another process
 * (none of them has threads): what one does between two steps of another.
 */
#include "tests/unit/db/db_fixture.h"

#include "engine/base/step.h"
#include "engine/db/db_private.h"
#include "engine/version/set_private.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS                                                                                    \
    "create=true,workers=none,memtable_size=256KiB,stage_size=128KiB,"                             \
    "wal_segment_size=128KiB,cache_size=1MiB"

/* What happens when this thread first reaches a step: keepers of the handles go through steps, too.
 */
static __thread const char *awaited_step;
static void (*at_step)(void);

static void on_step(const char *name)
{
    if (awaited_step == NULL || strcmp(name, awaited_step) != 0)
        return;
    awaited_step = NULL;
    at_step();
}

static void do_at(const char *step, void (*what)(void))
{
    awaited_step = step;
    at_step = what;
    atomic_store(&step_hook, on_step);
}

static void check_it_was_reached(void)
{
    atomic_store(&step_hook, NULL);
    ck_assert_msg(awaited_step == NULL, "'%s' was not reached", awaited_step);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
}

/* Another process dies at the step of what it is about. */
static void somebody_dies_at(const char *step, lsm_status (*doing)(lsm_db *db))
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        lsm_db *db = open_with(OPTIONS);
        do_at(step, die);
        _exit(1 + (int)doing(db));
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %d", status);
}

static lsm_db *first, *second; /* the handles */

/* `count` overlapping tables. */
static void make_tables(lsm_db *db, lsm_cf *cf, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        put_many(db, cf, 0, 20, 100);
        ck_ok(lsm_flush(db, &error));
    }
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

/* Nobody can bring the set up to date behind a dead owner: edits cannot begin. */
static void break_edits(void)
{
    char from[sizeof db_path + 16], to[sizeof db_path + 16];
    snprintf(from, sizeof from, "%s/CURRENT", db_path);
    snprintf(to, sizeof to, "%s/away", db_path);
    ck_assert_int_eq(rename(from, to), 0);
    atomic_store(&first->layout->version.roll_forward_due, 1);
}

static void mend_edits(void)
{
    char from[sizeof db_path + 16], to[sizeof db_path + 16];
    snprintf(from, sizeof from, "%s/away", db_path);
    snprintf(to, sizeof to, "%s/CURRENT", db_path);
    ck_assert_int_eq(rename(from, to), 0);
}

/* ---- flushes --------------------------------------------------------------------------------- */

/* It has not looked at the families since: they must not be missing in what it flushes. */
START_TEST(test_flush_keeps_a_family_that_another_process_made)
{
    lsm_db *flusher = open_with(OPTIONS), *writer = open_with(OPTIONS);
    lsm_cf *cf = NULL;
    ck_ok(lsm_cf_create(writer, "second", NULL, &cf, &error));
    put_text(writer, cf, "key", "value");
    ck_ok(lsm_flush(flusher, &error));
    expect_text(writer, cf, "key", "value");
    ck_ok(lsm_cf_open(flusher, "second", &cf, &error));
    expect_text(flusher, cf, "key", "value");
    close_ok(writer);
    close_ok(flusher);
}
END_TEST

START_TEST(test_family_that_another_process_made_is_found_at_once)
{
    first = open_with(OPTIONS);
    second = open_with(OPTIONS);
    lsm_cf *made = NULL, *found = NULL;
    char **names = NULL;
    size_t count = 0;
    ck_ok(lsm_cf_create(first, "made", NULL, &made, &error));
    ck_ok(lsm_cf_list(second, &names, &count, &error));
    ck_assert_uint_eq(count, 2);
    lsm_free(names);
    ck_ok(lsm_cf_create(first, "more", NULL, &made, &error));
    ck_ok(lsm_cf_open(second, "more", &found, &error));
    ck_assert_uint_eq(lsm_cf_id(found), lsm_cf_id(made));
    close_ok(first);
    close_ok(second);
}
END_TEST

/* ---- families -------------------------------------------------------------------------------- */

START_TEST(test_name_of_a_family_stays_readable_when_another_process_renames_it)
{
    lsm_cf *here = NULL, *there = NULL;
    first = open_with(OPTIONS);
    second = open_with(OPTIONS);
    ck_ok(lsm_cf_create(first, "before", NULL, &here, &error));
    const char *name = lsm_cf_name(here);
    ck_ok(lsm_cf_open(second, "before", &there, &error));
    ck_ok(lsm_cf_rename(second, there, "after", &error));
    expect_text(first, here, "absent", NULL);
    ck_assert_str_eq(name, "before");
    ck_assert_str_eq(lsm_cf_name(here), "after");
    close_ok(first);
    close_ok(second);
}
END_TEST

/* The handle that was made for it is another family's now. */
START_TEST(test_family_that_could_not_be_made_here_is_found_when_another_process_makes_it)
{
    lsm_cf *cf = NULL;
    first = open_with(OPTIONS);
    second = open_with(OPTIONS);
    version_set_break(first->versions, &(lsm_error){.status = LSM_IO}, NULL);
    ck_assert_int_ne(lsm_cf_create(first, "vain", NULL, &cf, &error), LSM_OK);
    ck_ok(lsm_cf_create(second, "made", NULL, &cf, &error));
    ck_ok(lsm_cf_open(first, "made", &cf, &error));
    expect_text(first, cf, "absent", NULL);
    (void)lsm_close(first, NULL);
    close_ok(second);
}
END_TEST

/* ---- compactions ----------------------------------------------------------------------------- */

/* The family that is being compacted. */
static void drop_family(void)
{
    lsm_cf *cf = NULL;
    ck_ok(lsm_cf_open(second, "second", &cf, &error));
    ck_ok(lsm_cf_drop(second, cf, &error));
    expect_text(first, NULL, "absent", NULL); /* looks at what changed, and lets go of the old */
    for (int i = 0; i < 4; i++)
        version_set_clean(second->versions);
}

START_TEST(test_compaction_ends_well_when_another_process_drops_its_family)
{
    lsm_cf *cf = NULL;
    first = open_with(OPTIONS);
    ck_ok(lsm_cf_create(first, "second", NULL, &cf, &error));
    make_tables(first, cf, 3);
    close_ok(first);
    first = open_with(OPTIONS); /* with no table open */
    second = open_with(OPTIONS);
    ck_ok(lsm_cf_open(first, "second", &cf, &error));
    do_at("compaction: claimed", drop_family);
    ck_ok(lsm_compact_range(first, cf, NULL, &error));
    check_it_was_reached();
    ck_fails(LSM_MISSING, lsm_cf_open(first, "second", &cf, &error));
    close_ok(second);
    close_ok(first);
}
END_TEST

static lsm_status compact(lsm_db *db)
{
    return lsm_compact_range(db, NULL, NULL, NULL);
}

/* The keeper reaps while a worker looks for work. */
static bool reap_and_pick_nothing(void *context, const struct version *version,
                                  struct compaction *c)
{
    ck_assert(!compact_pick_range(version, 0, 0, LSM_SLICE(NULL, 0), LSM_SLICE(NULL, 0), false, c));
    ck_ok(db_reap(context, &error));
    return false;
}

START_TEST(test_inputs_of_a_dead_compaction_are_free_when_it_is_reaped_during_a_search)
{
    struct compaction c = {0};
    first = open_with(OPTIONS);
    make_tables(first, NULL, 3);
    somebody_dies_at("compaction: written", compact);
    ck_ok(db_edit_begin(first, &error));
    struct version *version = version_set_current(first->versions);
    ck_assert(!db_job_take_locked(first, version, &c, reap_and_pick_nothing, first));
    bool due = compact_pick_range(version, 0, 0, LSM_SLICE(NULL, 0), LSM_SLICE(NULL, 0), false, &c);
    db_edit_end(first);
    compaction_release(&c);
    version_drop(version);
    ck_assert_msg(due, "the tables count as taken, and nobody works on them");
    close_ok(first);
}
END_TEST

static struct version *job_version;
static struct compaction job;

static bool pick_level0(void *context, const struct version *version, struct compaction *c)
{
    (void)context;
    return compact_pick_range(version, 0, 0, LSM_SLICE(NULL, 0), LSM_SLICE(NULL, 0), false, c);
}

static void end_the_job(void)
{
    ck_ok(db_compaction_run(second, job_version, &job, NULL, NULL, 0, 0, &error));
}

/* The other's job moves to level 1 what this one is about to take. */
START_TEST(test_manual_compaction_waits_for_the_job_of_another_process)
{
    lsm_compact_options force = {.force_bottom = true};
    first = open_with(OPTIONS);
    second = open_with(OPTIONS);
    make_tables(first, NULL, 3);
    ck_ok(db_edit_begin(second, &error));
    job_version = version_set_current(second->versions);
    ck_assert(db_job_take_locked(second, job_version, &job, pick_level0, NULL));
    db_edit_end(second);
    do_at("manual: waits", end_the_job);
    ck_ok(lsm_compact_range(first, NULL, &force, &error));
    check_it_was_reached();
    compaction_release(&job);
    version_drop(job_version);
    expect_text(first, NULL, "absent", NULL);
    ck_assert_uint_eq(property(first, "tables"), 1);
    close_ok(second);
    close_ok(first);
}
END_TEST

/* ---- files that nobody names ----------------------------------------------------------------- */

START_TEST(test_files_that_a_leaving_process_could_not_remove_are_removed_later)
{
    lsm_iter *iter = NULL;
    first = open_with(OPTIONS);
    make_tables(first, NULL, 3);
    second = open_with(OPTIONS);
    ck_ok(lsm_iter_open(second, NULL, NULL, &iter, &error));
    ck_ok(lsm_compact_range(first, NULL, NULL, &error));
    close_ok(first);
    ck_assert_uint_eq(count_tables(), 4); /* the iterator may read the old ones */
    lsm_iter_close(iter);
    expect_text(second, NULL, "absent", NULL);
    for (int i = 0; i < 4; i++)
        version_set_clean(second->versions);
    ck_ok(db_reap(second, &error));
    ck_assert_uint_eq(count_tables(), 1);
    close_ok(second);
}
END_TEST

START_TEST(test_outputs_of_a_compaction_that_could_not_be_published_are_removed)
{
    first = open_with(OPTIONS);
    second = open_with(OPTIONS);
    make_tables(first, NULL, 3);
    do_at("compaction: written", break_edits);
    ck_assert_int_ne(lsm_compact_range(first, NULL, NULL, &error), LSM_OK);
    check_it_was_reached();
    ck_assert_uint_eq(count_tables(), 4);
    mend_edits();
    expect_text(second, NULL, "absent", NULL);
    ck_ok(db_reap(second, &error));
    ck_assert_uint_eq(count_tables(), 3);
    ck_ok(lsm_compact_range(first, NULL, NULL, &error));
    close_ok(second);
    close_ok(first);
}
END_TEST

START_TEST(test_flush_writes_no_tables_while_edits_cannot_begin)
{
    first = open_with(OPTIONS);
    put_many(first, NULL, 0, 20, 100);
    break_edits();
    for (int i = 0; i < 3; i++)
        ck_assert_int_ne(lsm_flush(first, &error), LSM_OK);
    ck_assert_uint_eq(count_tables(), 0);
    mend_edits();
    ck_ok(lsm_flush(first, &error));
    ck_assert_uint_eq(count_tables(), 1);
    close_ok(first);
}
END_TEST

static lsm_status write_and_flush(lsm_db *db)
{
    put_many(db, NULL, 0, 20, 100);
    return lsm_flush(db, NULL);
}

/* Its files might be the running job's. */
START_TEST(test_orphans_that_a_running_job_hides_are_removed_when_it_has_ended)
{
    struct db_outputs outputs;
    first = open_with(OPTIONS);
    db_outputs_begin(first, &outputs);
    somebody_dies_at("flush: written", write_and_flush);
    ck_ok(db_reap(first, &error));
    ck_assert_uint_eq(count_tables(), 1);
    db_outputs_end(first, &outputs);
    ck_ok(db_reap(first, &error));
    expect_text(first, NULL, "absent", NULL);
    version_set_clean(first->versions);
    ck_assert_uint_eq(count_tables(), 0);
    close_ok(first);
}
END_TEST

/* ---- views ----------------------------------------------------------------------------------- */

/* An edit is durable and not published: a switch of the memtable must not show what it made, for
 * the files that it removed would go while a newcomer still begins with what is published. */
static void switch_and_join(void)
{
    lsm_cf *cf = NULL;
    char value[128];
    size_t size = 0;
    ck_ok(db_append_lock(first, &error));
    ck_ok(db_memtable_switch(first, &error));
    shm_unlock(&first->layout->locks.append);
    for (int i = 0; i < 4; i++)
        version_set_clean(first->versions);
    second = open_with(OPTIONS);
    ck_ok(lsm_cf_open(second, "second", &cf, &error));
    ck_ok(lsm_get_into(second, cf, text("many-000000"), NULL, value, sizeof value, &size, &error));
    ck_assert_uint_eq(size, 100);
}

START_TEST(test_switch_within_an_edit_shows_what_is_published)
{
    lsm_cf *cf = NULL;
    first = open_with(OPTIONS);
    ck_ok(lsm_cf_create(first, "second", NULL, &cf, &error));
    make_tables(first, cf, 1);
    do_at("edit: durable", switch_and_join);
    ck_ok(lsm_cf_drop(first, cf, &error));
    check_it_was_reached();
    ck_fails(LSM_MISSING, lsm_cf_open(second, "second", &cf, &error));
    close_ok(second);
    close_ok(first);
}
END_TEST

/* ---- the lock file --------------------------------------------------------------------------- */

START_TEST(test_nothing_is_written_when_the_lock_file_is_gone)
{
    char name[sizeof db_path + 16];
    first = open_with(OPTIONS);
    put_text(first, NULL, "key", "value");
    snprintf(name, sizeof name, "%s/LOCK", db_path);
    ck_assert_int_eq(unlink(name), 0);
    ck_fails(LSM_POISONED, db_reap(first, &error));
    ck_fails(LSM_POISONED, lsm_put(first, NULL, text("key"), text("more"), NULL, &error));
    ck_fails(LSM_POISONED, db_edit_begin(first, &error)); /* nor by a worker */
    expect_text(first, NULL, "key", "value");
    second = open_with(OPTIONS);
    ck_fails(LSM_POISONED, lsm_close(first, &error));
    expect_text(second, NULL, "key", "value");
    close_ok(second);
}
END_TEST

/* A process that has run out of descriptors cannot look at the LOCK file, which is no fault of it.
 */
START_TEST(test_lock_file_that_cannot_be_looked_at_now_poisons_nothing)
{
    struct rlimit limit, none;
    lsm_db *db = open_with(OPTIONS);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    lsm_status status = db_reap(db, &error);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_ok(status);
    put_text(db, NULL, "k", "v");
    close_ok(db);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("db/peers");
    TCase *tests = tcase_create("peers");
    tcase_add_checked_fixture(tests, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_flush_keeps_a_family_that_another_process_made);
    tcase_add_test(tests, test_family_that_another_process_made_is_found_at_once);
    tcase_add_test(tests, test_compaction_ends_well_when_another_process_drops_its_family);
    tcase_add_test(tests,
                   test_inputs_of_a_dead_compaction_are_free_when_it_is_reaped_during_a_search);
    tcase_add_test(tests, test_switch_within_an_edit_shows_what_is_published);
    tcase_add_test(tests, test_files_that_a_leaving_process_could_not_remove_are_removed_later);
    tcase_add_test(tests, test_outputs_of_a_compaction_that_could_not_be_published_are_removed);
    tcase_add_test(tests, test_flush_writes_no_tables_while_edits_cannot_begin);
    tcase_add_test(tests, test_name_of_a_family_stays_readable_when_another_process_renames_it);
    tcase_add_test(tests,
                   test_family_that_could_not_be_made_here_is_found_when_another_process_makes_it);
    tcase_add_test(tests, test_orphans_that_a_running_job_hides_are_removed_when_it_has_ended);
    tcase_add_test(tests, test_manual_compaction_waits_for_the_job_of_another_process);
    tcase_add_test(tests, test_nothing_is_written_when_the_lock_file_is_gone);
    tcase_add_test(tests, test_lock_file_that_cannot_be_looked_at_now_poisons_nothing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
