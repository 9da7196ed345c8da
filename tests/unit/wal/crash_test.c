/*
 * Every moment at which a machine or process can die, while the log is written, closed, opened and
 * recovered. After each: what was synced (power cut) or published (kill) is there, in order and
 * whole, nothing else is, and the log can be written, killed and recovered again.
 */
#include "tests/unit/wal/rig.h"

#define SCRIPT_RECORDS 40
#define CRASHES        9

struct outcome {
    uint64_t published; /* records */
    uint64_t synced;    /* records */
};

struct script {
    uint64_t seed;
    uint64_t stage_size, segment_size;
    bool refuse_mapping;
    bool closes; /* clean closes among the rest */
};

static const struct script scripts[] = {
    {1, RIG_STAGE, RIG_STAGE, false, false},
    {2, RIG_STAGE, RIG_SEGMENT, false, true},
    {3, RIG_STAGE + 4096, RIG_SEGMENT, true, false},
    {4, RIG_STAGE, RIG_SEGMENT, true, true},
};

static enum sim_crash crash_kind(unsigned index)
{
    static const enum sim_crash kinds[] = {SIM_CRASH_KILL, SIM_CRASH_LOSE_ALL, SIM_CRASH_KEEP_ALL};
    return index < 3 ? kinds[index] : SIM_CRASH_RANDOM;
}

static bool is_off(const struct rig *rig)
{
    return sim_is_stopped(rig->disk);
}

/* ---- the script ------------------------------------------------------------------------------ */

/* The tables hold everything up to here; the log may forget it. */
static lsm_status flush_and_forget(struct rig *rig, lsm_error *err)
{
    rig->from = rig_staged(rig);
    rig->from_chain = rig->layout->commit.chain;
    rig->clean = false;
    return wal_forget_locked(rig->wal, rig->from, err);
}

static lsm_status reopen(struct rig *rig, lsm_error *err)
{
    struct wal_end end;
    rig->from = rig_staged(rig);
    rig->from_chain = rig->layout->commit.chain;
    rig->clean = true;
    lsm_status status = wal_close(rig->wal, true, err);
    rig->wal = NULL;
    free(rig->layout);
    rig->layout = NULL;
    if (status == LSM_OK)
        status = rig_open(rig, &end, err);
    return status;
}

static lsm_status rest(struct rig *rig, uint64_t end, lsm_error *err)
{
    lsm_status status = wal_write_locked(rig->wal, end, err);
    return status == LSM_OK ? wal_rest_locked(rig->wal, rig->from, err) : status;
}

static lsm_status step(struct rig *rig, const struct script *script, struct random_state *random,
                       struct outcome *outcome, lsm_error *err)
{
    uint64_t end;
    lsm_status status = rig_put(rig, &end, err);
    if (status != LSM_OK)
        return status;
    if (!is_off(rig))
        outcome->published = rig->sequence;
    switch (random_below(random, 10)) {
    case 0:
    case 1:
        status = wal_sync_locked(rig->wal, end, err);
        if (status == LSM_OK)
            outcome->synced = rig->sequence;
        return status;
    case 2:
        return wal_write_begin_locked(rig->wal, err);
    case 3:
        return wal_write_locked(rig->wal, end, err);
    case 4:
        return wal_prepare(rig->wal, err);
    case 5:
        return random_below(random, 2) == 0 ? flush_and_forget(rig, err) : LSM_OK;
    case 7:
        return random_below(random, 3) == 0 ? rest(rig, end, err) : LSM_OK;
    case 6:
        return script->closes && random_below(random, 3) == 0 ? reopen(rig, err) : LSM_OK;
    default:
        return LSM_OK;
    }
}

/* Runs until the end or until the machine stops. */
static void run_script(struct rig *rig, const struct script *script, unsigned count, uint64_t seed,
                       struct outcome *outcome)
{
    struct random_state random = random_seeded(seed);
    lsm_status status = LSM_OK;
    lsm_error err = {0};
    for (unsigned i = 0; i < count && status == LSM_OK && !is_off(rig); i++)
        status = step(rig, script, &random, outcome, &err);
    ck_assert_msg(status == LSM_OK || is_off(rig), "%s", err.message);
}

static void start_rig(struct rig *rig, const struct script *script)
{
    ck_assert(rig_init(rig, RIG_SIM, script->seed));
    rig->options.stage_size = script->stage_size;
    rig->options.segment_size = script->segment_size;
    rig->options.refuse_mapping = script->refuse_mapping;
}

/* A life from nothing that ends at `stop` (0: never). */
static void run_life(struct rig *rig, const struct script *script, uint64_t stop,
                     struct outcome *outcome)
{
    *outcome = (struct outcome){0};
    start_rig(rig, script);
    sim_stop_at(rig->disk, stop);
    struct wal_end end;
    lsm_error err = {0};
    lsm_status status = rig_open(rig, &end, &err);
    ck_assert_msg(status == LSM_OK || is_off(rig), "%s", err.message);
    if (status == LSM_OK)
        run_script(rig, script, SCRIPT_RECORDS, script->seed, outcome);
}

/* ---- what has to hold ------------------------------------------------------------------------ */

/* A second rig on a copy of the disk, at the same moment, switched off. */
static void split(struct rig *copy, const struct rig *rig)
{
    *copy = *rig;
    copy->disk = sim_disk_clone(rig->disk);
    ck_assert_ptr_nonnull(copy->disk);
    copy->wal = NULL;
    copy->layout = NULL;
}

static void restart(struct rig *rig, unsigned crash, uint64_t seed)
{
    sim_crash(rig->disk, crash_kind(crash), seed * CRASHES + crash);
    rig_environment(rig, NULL);
}

/* Number of the last record that the log or the tables hold. */
static uint64_t last_record(const struct rig *rig, const struct wal_end *end)
{
    if (end->last_sequence != 0)
        return end->last_sequence;
    for (uint64_t n = RIG_MAX_RECORDS - 1; n > 0; n--) {
        if (rig->ends[n] == rig->from && rig->from != 0)
            return n;
    }
    return 0;
}

static void check_outcome(const struct rig *rig, const struct wal_end *end, unsigned crash,
                          const struct outcome *outcome)
{
    uint64_t last = last_record(rig, end);
    ck_assert_uint_ge(last, outcome->synced);
    ck_assert_uint_le(last, outcome->published + 1);
    if (crash_kind(crash) == SIM_CRASH_KILL)
        ck_assert_uint_ge(last, outcome->published);
    else if (!rig->options.refuse_mapping)
        ck_assert_uint_le(last, outcome->published);
}

/* Goes on from what was recovered: later records of the dead life are forgotten. */
static void forget_behind(struct rig *rig, uint64_t last)
{
    rig->sequence = last;
    for (uint64_t n = last + 1; n < RIG_MAX_RECORDS; n++)
        rig->ends[n] = 0;
}

/* Recovers, writes on (half of the time what was lost, again), dies, recovers. */
static void recover_and_go_on(struct rig *rig, const struct script *script, unsigned crash,
                              uint64_t seed, struct outcome *outcome)
{
    struct wal_end end;
    ck_ok(rig_replay(rig, &end, err));
    check_outcome(rig, &end, crash, outcome);
    forget_behind(rig, last_record(rig, &end));
    uint64_t last = rig->sequence;
    ck_ok(rig_open_at(rig, &end, err));
    rig->sequence = last;
    outcome->published = outcome->synced = last; /* all of it is durable now */
    rig->salt += seed % 2;
    run_script(rig, script, 6, seed, outcome);
    rig_crash(rig, crash_kind(crash), seed);
    ck_ok(rig_replay(rig, &end, err));
    check_outcome(rig, &end, crash, outcome);
}

static void end_copy(struct rig *rig)
{
    if (rig->layout != NULL)
        rig_abandon(rig);
    rig_close_environment(rig);
    sim_disk_free(rig->disk);
}

static uint64_t count_steps(const struct script *script)
{
    struct rig rig;
    struct outcome outcome;
    run_life(&rig, script, 0, &outcome);
    ck_assert_uint_eq(outcome.published, SCRIPT_RECORDS);
    uint64_t steps = sim_step_count(rig.disk);
    rig_release(&rig);
    return steps;
}

START_TEST(test_crash_at_every_step_keeps_what_was_promised)
{
    const struct script *script = &scripts[_i];
    uint64_t steps = count_steps(script);
    for (uint64_t stop = 1; stop <= steps + 1; stop++) {
        struct rig rig;
        struct outcome outcome;
        run_life(&rig, script, stop, &outcome);
        for (unsigned crash = 0; crash < CRASHES; crash++) {
            struct rig copy;
            struct outcome promised = outcome;
            split(&copy, &rig);
            restart(&copy, crash, stop);
            recover_and_go_on(&copy, script, crash, stop + crash, &promised);
            end_copy(&copy);
        }
        rig_release(&rig);
    }
    printf("script %d: %" PRIu64 " steps, %d crashes each\n", _i, steps, CRASHES);
}
END_TEST

/* ---- crashes while recovering ---------------------------------------------------------------- */

/* Opens with a stop after `stop` more steps. Whether it got through. */
static bool try_open(struct rig *rig, uint64_t stop, struct wal_end *end)
{
    lsm_error err = {0};
    sim_stop_at(rig->disk, sim_step_count(rig->disk) + stop);
    lsm_status status = rig_open(rig, end, &err);
    ck_assert_msg(status == LSM_OK || is_off(rig), "%s", err.message);
    return status == LSM_OK;
}

/* One crash, then another one `stop` steps into the recovery. False: there are fewer steps. */
static bool crash_twice(const struct rig *rig, const struct script *script, unsigned first,
                        unsigned second, uint64_t stop, const struct outcome *outcome)
{
    struct rig copy;
    struct wal_end end = {0}, again;
    struct outcome promised = *outcome;
    split(&copy, rig);
    restart(&copy, first, stop);
    ck_ok(rig_replay(&copy, &again, err));
    check_outcome(&copy, &again, first, &promised);
    uint64_t found = last_record(&copy, &again);
    bool through = try_open(&copy, stop, &end);
    promised.published = found;
    if (through)
        promised.synced = found;
    rig_abandon(&copy);
    rig_close_environment(&copy);
    restart(&copy, second, stop + 1);
    recover_and_go_on(&copy, script, second, stop, &promised);
    end_copy(&copy);
    return !through;
}

START_TEST(test_crash_at_every_step_of_recovery_keeps_what_was_promised)
{
    static const unsigned firsts[] = {0, 3}, seconds[] = {0, 1, 4};
    const struct script *script = &scripts[_i];
    uint64_t steps = count_steps(script);
    for (uint64_t stop = 2; stop <= steps + 1; stop += 2) {
        struct rig rig;
        struct outcome outcome;
        run_life(&rig, script, stop, &outcome);
        for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
            for (size_t j = 0; j < sizeof seconds / sizeof *seconds; j++) {
                uint64_t at = 1;
                while (crash_twice(&rig, script, firsts[i], seconds[j], at, &outcome))
                    at++;
            }
        }
        rig_release(&rig);
    }
}
END_TEST

int main(void)
{
    int count = (int)(sizeof scripts / sizeof *scripts);
    Suite *suite = suite_create("wal/crash");
    TCase *tests = tcase_create("crash");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_crash_at_every_step_keeps_what_was_promised, 0, count);
    tcase_add_loop_test(tests, test_crash_at_every_step_of_recovery_keeps_what_was_promised, 0,
                        count);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
