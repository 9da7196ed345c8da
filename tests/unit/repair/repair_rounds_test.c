/*
 * Damage behind damage: later rounds are in the plan of a dry run, are asked about, stop who wants
 * only exact steps before anything is changed, and are taken back with the first.
 */
#include "tests/unit/repair/repair_fixture.h"

#include <time.h>

/* What the last look told of each round. */
static struct heard {
    unsigned steps[10], losses[10], plans;
    unsigned refused_round; /* on_plan() and on_step() say no from here on; 0: never */
    bool refuses_steps;
} heard;

static bool hear_step(void *context, const lsm_repair_step *step)
{
    (void)context;
    ck_assert_uint_ge(step->round, 1);
    ck_assert_uint_lt(step->round, 10);
    heard.steps[step->round]++;
    return !heard.refuses_steps || heard.refused_round == 0 || step->round < heard.refused_round;
}

static void hear_loss(void *context, const lsm_loss *loss)
{
    (void)context;
    ck_assert_uint_ge(loss->round, 1);
    heard.losses[loss->round]++;
}

static bool hear_plan(void *context, const lsm_repair_result *planned)
{
    (void)context;
    heard.plans++;
    ck_assert_uint_eq(planned->round_count, heard.plans);
    ck_assert_uint_gt(heard.steps[heard.plans], 0);
    return heard.refuses_steps || heard.refused_round == 0 || heard.plans < heard.refused_round;
}

static lsm_repair_options hearing(unsigned refused_round, bool refuses_steps)
{
    lsm_repair_options options = LSM_REPAIR_OPTIONS_INIT;
    heard = (struct heard){.refused_round = refused_round, .refuses_steps = refuses_steps};
    options.on_step = hear_step;
    options.on_loss = hear_loss;
    options.on_plan = hear_plan;
    return options;
}

START_TEST(test_repair_dry_run_tells_all_rounds)
{
    lsm_repair_result planned = LSM_REPAIR_RESULT_INIT, done = LSM_REPAIR_RESULT_INIT;
    make_damage_behind_damage();
    lsm_repair_options options = hearing(0, false);
    options.dry_run = true;
    ck_ok(lsm_repair(db_path, &options, &planned, &error));
    struct heard before = heard;
    ck_assert_uint_ge(planned.round_count, 2);
    ck_assert(planned.is_damage_left && !planned.is_changed && !planned.may_find_more);
    ck_assert_str_eq(planned.lost_path, "");
    ck_assert_uint_eq(heard.plans, 0);
    ck_assert(trees_are_equal("db", "damaged"));

    options = hearing(0, false);
    ck_ok(lsm_repair(db_path, &options, &done, &error));
    ck_assert_uint_eq(done.round_count, planned.round_count);
    ck_assert_uint_eq(heard.plans, done.round_count);
    ck_assert_mem_eq(heard.steps, before.steps, sizeof before.steps);
    ck_assert_mem_eq(heard.losses, before.losses, sizeof before.losses);
    ck_assert_uint_eq(done.step_count, planned.step_count);
    ck_assert_uint_eq(done.records_lost, planned.records_lost);
    ck_assert_uint_eq(done.loss_count, planned.loss_count);
    ck_assert(done.is_changed && !done.is_damage_left);
    ck_ok(lsm_repair_undo(db_path, NULL, false, &error));
    ck_assert(trees_are_equal("db", "damaged"));
}
END_TEST

START_TEST(test_repair_later_round_that_is_not_wanted_leaves_what_was_done)
{
    lsm_repair_result result = LSM_REPAIR_RESULT_INIT;
    make_damage_behind_damage();
    lsm_repair_options options = hearing(2, false);
    ck_fails(LSM_CANCELLED, lsm_repair(db_path, &options, &result, &error));
    ck_assert_uint_eq(heard.plans, 2);
    ck_assert(result.is_changed && result.is_damage_left);
    ck_assert_uint_eq(result.loss_count, heard.losses[1]);
    options = hearing(0, false); /* another one goes on where that stopped */
    lsm_repair_result again = LSM_REPAIR_RESULT_INIT;
    ck_ok(lsm_repair(db_path, &options, &again, &error));
    ck_assert_uint_ge(again.round_count, 1);
    ck_assert(!again.is_damage_left);
    /* One by one. */
    ck_ok(lsm_repair_undo(db_path, NULL, false, &error));
    ck_assert(!trees_are_equal("db", "damaged"));
    ck_ok(lsm_repair_undo(db_path, NULL, false, &error));
    ck_assert(trees_are_equal("db", "damaged"));
}
END_TEST

START_TEST(test_repair_refused_step_of_a_later_round_is_left)
{
    lsm_repair_result result = LSM_REPAIR_RESULT_INIT;
    make_damage_behind_damage();
    lsm_repair_options options = hearing(2, true);
    ck_ok(lsm_repair(db_path, &options, &result, &error));
    ck_assert(result.is_changed && result.is_damage_left);
    ck_assert_uint_eq(result.round_count, 2);
    ck_ok(lsm_repair_undo(db_path, NULL, false, &error));
    ck_assert(trees_are_equal("db", "damaged"));
}
END_TEST

/* What is asked for whether or not it is needed is done once, and later rounds do the rest. */
START_TEST(test_repair_that_salvages_or_drops_the_log_does_all_rounds)
{
    lsm_repair_result planned = LSM_REPAIR_RESULT_INIT, result = LSM_REPAIR_RESULT_INIT;
    make_damage_behind_damage();
    lsm_repair_options options = hearing(0, false);
    options.salvage_blocks = _i == 0;
    options.log = _i == 1 ? LSM_REPAIR_LOG_NONE : LSM_REPAIR_LOG_SKIP;
    options.rebuild_manifest = _i == 2;
    options.dry_run = true;
    ck_ok(lsm_repair(db_path, &options, &planned, &error));
    options = hearing(0, false);
    options.salvage_blocks = _i == 0;
    options.log = _i == 1 ? LSM_REPAIR_LOG_NONE : LSM_REPAIR_LOG_SKIP;
    options.rebuild_manifest = _i == 2;
    ck_ok(lsm_repair(db_path, &options, &result, &error));
    ck_assert_uint_eq(result.step_count, planned.step_count);
    ck_assert_uint_eq(result.round_count, planned.round_count);
    ck_assert(!result.is_damage_left);
    ck_ok(lsm_verify(db_path, NULL, NULL, &error));
    options = hearing(0, false);
    lsm_repair_result again = LSM_REPAIR_RESULT_INIT;
    ck_ok(lsm_repair(db_path, &options, &again, &error));
    ck_assert_uint_eq(again.step_count, 0);
}
END_TEST

/* All is told once, though it is done twice: first to a draft. */
START_TEST(test_repair_only_exact_steps_are_made_all_or_none)
{
    char name[64];
    lsm_repair_result result = LSM_REPAIR_RESULT_INIT;
    make_database(100);
    copy_tree("db", "before");
    for (unsigned n = 0; n < 3; n++) {
        ck_assert(nth_file(".sst", n, name));
        flip_byte(name, 2000, 0x40);
    }
    lsm_repair_options options = hearing(0, false);
    options.only_exact = true;
    ck_ok(lsm_repair(db_path, &options, &result, &error));
    ck_assert(result.is_changed && !result.is_damage_left && !result.is_data_lost);
    ck_assert_uint_ge(heard.steps[1], 3); /* told once, though it was rehearsed */
    ck_assert_uint_eq(heard.steps[1], result.step_count);
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s/lost+found'", db_path);
    ck_assert_int_eq(system(command), 0);
    ck_assert(trees_are_equal("db", "before"));

    make_damage_behind_damage();
    options = hearing(0, false);
    options.only_exact = true;
    ck_fails(LSM_CANCELLED, lsm_repair(db_path, &options, &result, &error));
    ck_assert(!result.is_changed && result.is_damage_left);
    ck_assert(trees_are_equal("db", "damaged"));
}
END_TEST

int main(void)
{
    const char *given = getenv("LSM_TEST_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("LSM_TEST_SEED=%u\n", seed);
    srandom(seed);
    Suite *suite = suite_create("repair_rounds");
    TCase *tcase = tcase_create("rounds");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, fixture_set_up, fixture_tear_down);
    tcase_add_test(tcase, test_repair_dry_run_tells_all_rounds);
    tcase_add_test(tcase, test_repair_later_round_that_is_not_wanted_leaves_what_was_done);
    tcase_add_test(tcase, test_repair_refused_step_of_a_later_round_is_left);
    tcase_add_loop_test(tcase, test_repair_that_salvages_or_drops_the_log_does_all_rounds, 0, 3);
    tcase_add_test(tcase, test_repair_only_exact_steps_are_made_all_or_none);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
