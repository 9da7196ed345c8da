/* A repair that is killed at any of its steps: another one finishes, and nothing more is lost. */
#include "tests/lib/stepping.h"
#include "tests/unit/repair/repair_fixture.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

static const uint8_t zeros[8192];
static struct step_record *record;

/* Of everything that reads find. */
static uint64_t contents(void)
{
    uint64_t sum = 0;
    lsm_cf *cfs[FAMILIES] = {NULL, NULL};
    lsm_db *db = open_with(OPTIONS ",create=false");
    ck_ok(lsm_cf_open(db, "other", &cfs[1], &error));
    for (unsigned f = 0; f < FAMILIES; f++) {
        lsm_iter *it = NULL;
        ck_ok(lsm_iter_open(db, cfs[f], NULL, &it, &error));
        for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it)) {
            lsm_slice key = lsm_iter_key(it), value = lsm_iter_value(it);
            const uint8_t *bytes = key.data;
            for (size_t i = 0; i < key.size; i++)
                sum = sum * 31 + bytes[i];
            bytes = value.data;
            for (size_t i = 0; i < value.size; i++)
                sum = sum * 37 + bytes[i];
        }
        ck_ok(lsm_iter_status(it, &error));
        lsm_iter_close(it);
    }
    close_ok(db);
    return sum;
}

/* Repairs in a child that is killed at the point; true when it got that far. */
static bool repair_in_child(struct step_point point)
{
    fflush(stdout);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        lsm_repair_options options = LSM_REPAIR_OPTIONS_INIT;
        options.io = "posix";
        stepping_begin(point.name == NULL ? record : NULL, point, SIGKILL);
        _exit(lsm_repair(db_path, &options, NULL, NULL) == LSM_OK ? 0 : 1);
    }
    int how;
    ck_assert_int_eq(waitpid(child, &how, 0), child);
    if (WIFSIGNALED(how))
        return true;
    ck_assert_int_eq(WEXITSTATUS(how), 0);
    return false;
}

/* The damage is in "damaged". */
static void kill_everywhere(unsigned every)
{
    static struct step_point points[4096];
    copy_tree("damaged", "db");
    memset(record, 0, sizeof *record);
    ck_assert(!repair_in_child((struct step_point){NULL, 0}));
    uint64_t wanted = contents();
    size_t count = stepping_points(record, 2, points, sizeof points / sizeof *points);
    ck_assert_uint_gt(count, 5);
    for (size_t i = (size_t)random() % every; i < count; i += every) {
        copy_tree("damaged", "db");
        ck_assert_msg(repair_in_child(points[i]), "'%s' was not passed", points[i].name);
        copy_tree("db", "killed");
        repair_now();
        repair_now();
        ck_assert_msg(told.steps == 0, "killed at '%s': %s", points[i].name, told.first_problem);
        ck_assert_msg(contents() == wanted, "killed at '%s' (%u)", points[i].name,
                      points[i].occurrence);
    }
    printf("%zu points\n", count);
}

START_TEST(test_repair_killed_with_a_corrected_table)
{
    char name[64];
    make_database(50);
    ck_assert(nth_file(".sst", 1, name));
    flip_byte(name, 3000, 0x10);
    ck_assert(nth_file(".sst", 3, name));
    flip_byte(name, 5000, 0x01);
    copy_tree("db", "damaged");
    kill_everywhere(1);
}
END_TEST

START_TEST(test_repair_killed_with_a_salvaged_table)
{
    char name[64];
    make_database(50);
    ck_assert(nth_file(".sst", 1, name));
    change_file(name, 2048, zeros, 3000);
    copy_tree("db", "damaged");
    kill_everywhere(3);
}
END_TEST

START_TEST(test_repair_killed_with_a_lost_manifest)
{
    char name[64];
    make_database(100);
    while (nth_file("MANIFEST-", 0, name))
        remove_file(name);
    remove_file("CURRENT");
    ck_assert(nth_file(".sst", 1, name));
    change_file(name, 2048, zeros, 3000);
    copy_tree("db", "damaged");
    kill_everywhere(3);
}
END_TEST

START_TEST(test_repair_killed_with_a_damaged_log)
{
    char name[64];
    make_database(150);
    for (unsigned n = 0; nth_file(".wal", n, name); n++) /* their headers, and what follows */
        change_file(name, 0, zeros, sizeof zeros);
    copy_tree("db", "damaged");
    kill_everywhere(3);
}
END_TEST

/* Something lies behind the damage of the manifest; two repairs are taken back one by one. */
START_TEST(test_repair_killed_in_any_of_its_rounds)
{
    make_damage_behind_damage();
    kill_everywhere(5);

    copy_tree("damaged", "db");
    ck_assert(repair_in_child((struct step_point){"repair: done", 1}));
    repair_now();
    ck_assert(told.result.is_changed);
    ck_ok(lsm_repair_undo(db_path, NULL, false, &error));
    ck_ok(lsm_repair_undo(db_path, NULL, false, &error));
    ck_assert(trees_are_equal("db", "damaged"));
}
END_TEST

int main(void)
{
    const char *given = getenv("LSM_TEST_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("LSM_TEST_SEED=%u\n", seed);
    srandom(seed);
    record = mmap(NULL, sizeof *record, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (record == MAP_FAILED)
        return 99;
    Suite *suite = suite_create("repair_crash");
    TCase *tcase = tcase_create("kill");
    tcase_set_timeout(tcase, 180);
    tcase_add_checked_fixture(tcase, fixture_set_up, fixture_tear_down);
    tcase_add_test(tcase, test_repair_killed_with_a_corrected_table);
    tcase_add_test(tcase, test_repair_killed_with_a_salvaged_table);
    tcase_add_test(tcase, test_repair_killed_with_a_lost_manifest);
    tcase_add_test(tcase, test_repair_killed_with_a_damaged_log);
    tcase_add_test(tcase, test_repair_killed_in_any_of_its_rounds);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
