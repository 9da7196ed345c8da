/*
 * Manifests lost while replaced tables are still there, since a reader pinned them and its process
 * was killed: nothing comes back that was deleted or overwritten, and nothing is lost.
 */
#include "tests/lib/stepping.h"
#include "tests/unit/repair/repair_fixture.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define ROUNDS  8u
#define READERS 3u

/* What the writer, another process, leaves in shared memory. */
static struct diary {
    unsigned truth[FAMILIES][KEYS];
    unsigned write_count;
    struct step_record steps;
} * diary;

struct life {
    lsm_db *db;
    lsm_cf *cfs[FAMILIES];
    lsm_iter *readers[READERS];
    unsigned seed;
    bool erases;             /* whole families, so that a merge leaves nothing */
    bool only_erases;        /* one, and no more */
    unsigned armed_round;    /* in which the step counts */
    struct step_point point; /* where it is killed; no name: at the end */
};

static void write_diary(void)
{
    memcpy(diary->truth, truth, sizeof truth);
    diary->write_count = write_count;
}

/* Readers come and go: some tables that were replaced stay, others are removed. */
static void change_readers(struct life *l)
{
    for (unsigned i = 0; i < READERS; i++) {
        if (random() % 3 != 0)
            continue;
        lsm_iter_close(l->readers[i]);
        l->readers[i] = NULL;
        if (random() % 4 == 0)
            continue;
        ck_ok(lsm_iter_open(l->db, l->cfs[random() % FAMILIES], NULL, &l->readers[i], &error));
        lsm_iter_first(l->readers[i]);
    }
}

static void erase_family(struct life *l, unsigned family)
{
    for (unsigned k = 0; k < KEYS; k++) {
        if (truth[family][k] != 0)
            write_one(l->db, l->cfs[family], family, k, true);
    }
}

static void one_round(struct life *l, unsigned round)
{
    unsigned family = (unsigned)random() % FAMILIES;
    lsm_compact_options options = {.force_bottom = random() % 2 == 0};
    write_many(l->db, l->cfs, 200 + (unsigned)random() % 600);
    if (l->erases && round % 3 == 2)
        erase_family(l, family);
    write_diary(); /* nothing that follows writes */
    if (round == l->armed_round)
        stepping_begin(l->point.name == NULL ? &diary->steps : NULL, l->point, SIGKILL);
    ck_ok(lsm_flush(l->db, &error));
    if (random() % 3 != 0)
        ck_ok(lsm_compact_range(l->db, l->cfs[family], &options, &error));
    if (round == l->armed_round)
        stepping_end();
    change_readers(l);
}

/* A merge of values and of the deletions of them all leaves nothing; killed as its inputs go. */
static void live_to_erase(struct life *l)
{
    lsm_compact_options options = {.force_bottom = true};
    write_many(l->db, l->cfs, 2000);
    ck_ok(lsm_flush(l->db, &error));
    ck_ok(lsm_compact_range(l->db, l->cfs[1], &options, &error));
    erase_family(l, 1);
    ck_ok(lsm_flush(l->db, &error));
    write_diary();
    stepping_begin(l->point.name == NULL ? &diary->steps : NULL, l->point, SIGKILL);
    ck_ok(lsm_compact_range(l->db, l->cfs[1], &options, &error));
}

static void live(struct life *l)
{
    srandom(l->seed);
    memset(truth, 0, sizeof truth);
    write_count = 0;
    l->db = open_with(OPTIONS);
    open_families(l->db, l->cfs);
    for (unsigned round = 0; round < ROUNDS && !l->only_erases; round++)
        one_round(l, round);
    if (l->only_erases)
        live_to_erase(l);
    write_many(l->db, l->cfs, (unsigned)random() % 100);
    write_diary();
    kill(getpid(), SIGKILL);
}

/* Leaves the database as the killed process did, and here what it ought to hold. */
static void live_and_die(struct life *l)
{
    int how;
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", db_path);
    ck_assert_int_eq(system(command), 0);
    fflush(stdout);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        live(l);
        _exit(1);
    }
    ck_assert_int_eq(waitpid(child, &how, 0), child);
    ck_assert_msg(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL, "seed %u", l->seed);
    memcpy(truth, diary->truth, sizeof truth);
    write_count = diary->write_count;
}

static void remove_manifests(void)
{
    char name[64];
    while (nth_file("MANIFEST-", 0, name))
        remove_file(name);
    remove_file("CURRENT");
}

static unsigned count_tables(void)
{
    unsigned count = 0;
    char name[64];
    while (nth_file(".sst", count, name))
        count++;
    return count;
}

/* One that was just made, by whichever part of a merge. */
static bool has_empty_table(void)
{
    char name[64], path[600];
    struct stat about;
    for (unsigned n = 0; nth_file(".sst", n, name); n++) {
        snprintf(path, sizeof path, "%s/%s", db_path, name);
        ck_assert_int_eq(stat(path, &about), 0);
        if (about.st_size == 0)
            return true;
    }
    return false;
}

/*
 * Repaired without manifests it holds what it held. Nothing is told to be in doubt, but where a
 * merge left no table at all that could tell what it replaced, and where a table was just made: an
 * empty file may be what is left of a live one.
 */
static void repair_without_manifests(const struct life *l, const char *when)
{
    bool may_doubt = l->erases || has_empty_table();
    remove_manifests();
    repair_now();
    size_t told_count = told.loss_count;
    told.loss_count = 0; /* no excuse */
    struct wrongs w = check_contents();
    ck_assert_msg(w.lost + w.stale + w.revived == 0, "seed %u, %s: %u lost, %u stale, %u revived",
                  l->seed, when, w.lost, w.stale, w.revived);
    ck_assert_msg(may_doubt || told_count == 0, "seed %u, %s: %zu ranges are told", l->seed, when,
                  told_count);
}

START_TEST(test_repair_replaced_tables_that_a_killed_reader_pinned_stay_dead)
{
    unsigned obsolete = 0;
    for (unsigned i = 0; i < 6; i++) {
        struct life l = {.seed = (unsigned)random(), .armed_round = ROUNDS, .erases = i % 2 == 1};
        live_and_die(&l);
        copy_tree("db", "before");
        repair_now(); /* with its manifest it is a healthy database */
        ck_assert_uint_eq(told.steps, 0);
        ck_assert(trees_are_equal("db", "before"));
        unsigned all = count_tables() - (unsigned)told.result.table_count;
        remove_file("CURRENT");
        repair_now();
        ck_assert_uint_eq(told.loss_count, 0);
        check_whole();
        copy_tree("before", "db");
        repair_without_manifests(&l, "killed at its end");
        check_stays();
        obsolete += all;
    }
    printf("%u replaced tables were there\n", obsolete);
    ck_assert_uint_gt(obsolete, 20); /* else it would show nothing */
}
END_TEST

/* Killed in a flush or compaction, between any two steps of it. */
START_TEST(test_repair_replaced_tables_stay_dead_wherever_the_writer_is_killed)
{
    static struct step_point points[4096];
    for (unsigned i = 0; i < 2; i++) {
        struct life l = {.seed = (unsigned)random(), .erases = i % 2 == 1};
        l.armed_round = ROUNDS - 1 - (unsigned)random() % 3;
        memset(&diary->steps, 0, sizeof diary->steps);
        live_and_die(&l);
        size_t count = stepping_points(&diary->steps, 4, points, sizeof points / sizeof *points);
        ck_assert_uint_gt(count, 5);
        for (unsigned k = 0; k < 8; k++) {
            l.point = points[(size_t)random() % count];
            live_and_die(&l);
            repair_without_manifests(&l, l.point.name);
        }
        l.point.name = NULL;
    }
}
END_TEST

START_TEST(test_repair_after_a_merge_that_left_nothing_revives_nothing)
{
    static struct step_point points[4096];
    struct life l = {.seed = (unsigned)random(), .erases = true, .only_erases = true};
    memset(&diary->steps, 0, sizeof diary->steps);
    live_and_die(&l);
    size_t count = stepping_points(&diary->steps, 100, points, sizeof points / sizeof *points);
    unsigned removals = 0;
    for (size_t k = 0; k < count; k++) {
        l.point = points[k];
        if (strcmp(points[k].name, "clean: a file removed") != 0)
            continue;
        live_and_die(&l);
        repair_without_manifests(&l, l.point.name);
        removals++;
    }
    ck_assert_uint_ge(removals, 2);
}
END_TEST

int main(void)
{
    const char *given = getenv("LSM_TEST_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("LSM_TEST_SEED=%u\n", seed);
    srandom(seed);
    diary = mmap(NULL, sizeof *diary, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (diary == MAP_FAILED)
        return 99;
    Suite *suite = suite_create("repair_pinned");
    TCase *tcase = tcase_create("pinned");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, fixture_set_up, fixture_tear_down);
    tcase_add_test(tcase, test_repair_replaced_tables_that_a_killed_reader_pinned_stay_dead);
    tcase_add_test(tcase, test_repair_replaced_tables_stay_dead_wherever_the_writer_is_killed);
    tcase_add_test(tcase, test_repair_after_a_merge_that_left_nothing_revives_nothing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
