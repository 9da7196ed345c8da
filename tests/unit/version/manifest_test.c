/*
 * What survives: edits, rotations and recoveries under power cuts, kills and failing calls at every
 * step, and damage of every byte.
 */
#include "rig.h"

#include "engine/format/frame.h"

/* ---- a script of edits ------------------------------------------------------------------------
 */

#define SCRIPT_EDITS 14

/* Edit `i` of the script, with the files that it needs. Tables have the numbers that the set gives
 * out, so `tables` remembers them by their place in the script. */
struct script {
    uint64_t tables[SCRIPT_EDITS];
    size_t applied; /* acknowledged */
    struct rig_text states[SCRIPT_EDITS + 1];
};

static lsm_status add_table(struct rig *r, struct script *s, size_t i, struct version_edit *edit,
                            uint32_t cf, uint32_t level, const char *key)
{
    uint64_t number = version_new_file_number(r->set);
    lsm_status status = rig_fake_table(r, number, 10 + i);
    if (status != LSM_OK)
        return status;
    s->tables[i] = number;
    struct table_meta meta = {.number = number,
                              .size = 10 + i,
                              .cf = cf,
                              .level = level,
                              .smallest = LSM_SLICE(key, strlen(key)),
                              .largest = LSM_SLICE(key, strlen(key)),
                              .min_sequence = i,
                              .max_sequence = i + 1,
                              .entry_count = 1};
    return edit_add_table(edit, &meta, &r->error);
}

static lsm_status fill_edit(struct rig *r, struct script *s, size_t i, struct version_edit *edit)
{
    lsm_cf_options options = rig_cf_options();
    char key[32];
    snprintf(key, sizeof key, "key %zu", i);
    switch (i) {
    case 3:
        options.level_ratio = 11;
        edit->next_cf = 2;
        return edit_create_cf(edit, 1, "other", &options, &r->error);
    case 5:
        return edit_rename_cf(edit, 1, "renamed", &r->error);
    case 6: /* a move */
        s->tables[i] = s->tables[1];
        edit_remove_table(edit, 0, 0, s->tables[1], NULL);
        return edit_add_table(edit,
                              &(struct table_meta){.number = s->tables[1],
                                                   .size = 11,
                                                   .level = 6,
                                                   .smallest = LSM_SLICE("a", 1),
                                                   .largest = LSM_SLICE("b", 1),
                                                   .entry_count = 1},
                              &r->error);
    case 8: /* a compaction */
        edit_remove_table(edit, 0, 0, s->tables[0], NULL);
        edit_remove_table(edit, 0, 0, s->tables[2], NULL);
        return add_table(r, s, i, edit, 0, 5, key);
    case 10:
        edit->has_log = true;
        edit->log_position = 4711;
        edit->log_chain = 815;
        return LSM_OK;
    case 12:
        return edit_drop_cf(edit, 1, &r->error);
    default:
        return add_table(r, s, i, edit, i == 4 || i == 7 ? 1 : 0, i < 6 ? 0 : (uint32_t)i % 2, key);
    }
}

/* Applies edits from `first` on until one fails. */
static lsm_status run_script(struct rig *r, struct script *s, size_t first)
{
    lsm_status status = LSM_OK;
    for (size_t i = first; status == LSM_OK && i < SCRIPT_EDITS; i++) {
        struct version_edit edit = {0};
        status = fill_edit(r, s, i, &edit);
        if (status == LSM_OK)
            status = version_set_apply(r->set, &edit, &r->error);
        if (status == LSM_OK)
            s->applied = i + 1;
        edit_release(&edit);
    }
    return status;
}

/* The states that the script goes through, learnt from a run without faults. */
static void learn_states(struct script *s, uint64_t roll_size, uint64_t *steps)
{
    struct rig r;
    rig_open(&r, 1);
    r.options.manifest_roll_size = roll_size;
    rig_ok(&r, rig_create(&r));
    s->states[0] = rig_describe(&r);
    for (size_t i = 0; i < SCRIPT_EDITS; i++) {
        struct version_edit edit = {0};
        rig_ok(&r, fill_edit(&r, s, i, &edit));
        rig_ok(&r, version_set_apply(r.set, &edit, &r.error));
        edit_release(&edit);
        s->states[i + 1] = rig_describe(&r);
    }
    s->applied = SCRIPT_EDITS;
    rig_close_set(&r);
    *steps = sim_step_count(r.disk);
    rig_close(&r);
}

/* The recovered state is the one after `acked` edits, or after the one that was under way. */
static void assert_is_prefix(struct rig *r, const struct script *s, size_t acked)
{
    struct rig_text now = rig_describe(r);
    bool fits = strcmp(now.at, s->states[acked].at) == 0 ||
                (acked < SCRIPT_EDITS && strcmp(now.at, s->states[acked + 1].at) == 0);
    ck_assert_msg(fits, "after %zu edits:\n%sfound:\n%s", acked, s->states[acked].at, now.at);
}

START_TEST(test_manifest_every_edit_comes_back)
{
    struct script s = {0};
    struct rig r;
    rig_open(&r, 1);
    rig_ok(&r, rig_create(&r));
    rig_ok(&r, run_script(&r, &s, 0));
    struct rig_text before = rig_describe(&r);
    uint64_t next = version_new_file_number(r.set);
    for (int i = 0; i < 3; i++) {
        rig_close_set(&r);
        rig_ok(&r, rig_recover(&r));
        struct rig_text after = rig_describe(&r);
        ck_assert_str_eq(before.at, after.at);
        ck_assert_uint_eq(r.state.log_position, 4711);
        ck_assert_uint_eq(r.state.log_chain, 815);
        ck_assert(!r.state.clean);
        ck_assert_uint_eq(r.state.last_sequence, SCRIPT_EDITS);
        ck_assert_uint_eq(r.state.next_cf, 2);
        ck_assert_uint_gt(version_new_file_number(r.set), next);
    }
    rig_close(&r);
}
END_TEST

START_TEST(test_manifest_clean_mark_holds_until_the_log_begins)
{
    struct rig r;
    rig_open(&r, 1);
    rig_ok(&r, rig_create(&r));
    struct version_edit edit = {.has_log = true, .log_position = 9, .clean = true};
    rig_ok(&r, version_set_apply(r.set, &edit, &r.error));
    rig_close_set(&r);
    r.options.read_only = true;
    rig_ok(&r, rig_recover(&r));
    ck_assert(r.state.clean);
    rig_close_set(&r);
    r.options.read_only = false;
    rig_ok(&r, rig_recover(&r));
    ck_assert(r.state.clean);
    ck_assert_uint_eq(r.state.log_position, 9);
    rig_close_set(&r);
    rig_ok(&r, rig_recover(&r));
    ck_assert(r.state.clean);
    struct version_edit begun = {.has_log = true, .log_position = 10};
    rig_ok(&r, version_set_apply(r.set, &begun, &r.error));
    rig_close_set(&r);
    rig_ok(&r, rig_recover(&r));
    ck_assert(!r.state.clean);
    ck_assert_uint_eq(r.state.log_position, 10);
    rig_close(&r);
}
END_TEST

START_TEST(test_manifest_rolls_and_keeps_two_generations)
{
    struct script s = {0};
    struct rig r;
    rig_open(&r, 1);
    r.options.manifest_roll_size = 1;
    rig_ok(&r, rig_create(&r));
    rig_ok(&r, run_script(&r, &s, 0));
    struct rig_text before = rig_describe(&r);
    uint8_t uuid[TABLE_UUID_SIZE];
    uint64_t current;
    rig_ok(&r, version_read_current(r.io, r.dir, uuid, &current, &r.error));
    ck_assert_uint_gt(current, 1);
    ck_assert_int_eq(memcmp(uuid, r.env.uuid, sizeof uuid), 0);
    size_t generations = 0;
    for (uint64_t i = 0; i <= current; i++)
        generations += rig_has_file(&r, FILE_MANIFEST, i);
    ck_assert_uint_eq(generations, 2);
    rig_close_set(&r);
    rig_ok(&r, rig_recover(&r));
    struct rig_text after = rig_describe(&r);
    ck_assert_str_eq(before.at, after.at);
    rig_close(&r);
}
END_TEST

START_TEST(test_manifest_large_snapshot_goes_in_parts)
{
    struct rig r;
    rig_open(&r, 1);
    rig_ok(&r, rig_create(&r));
    uint8_t *key = malloc(LSM_MAX_KEY_SIZE);
    memset(key, 'k', LSM_MAX_KEY_SIZE);
    struct version_edit edit = {0};
    for (unsigned i = 0; i < 40; i++) {
        uint64_t number = version_new_file_number(r.set);
        rig_ok(&r, rig_fake_table(&r, number, 1));
        key[0] = (uint8_t)i;
        struct table_meta meta = {.number = number,
                                  .size = 1,
                                  .level = 6,
                                  .smallest = LSM_SLICE(key, LSM_MAX_KEY_SIZE - 1),
                                  .largest = LSM_SLICE(key, LSM_MAX_KEY_SIZE),
                                  .entry_count = 1};
        rig_ok(&r, edit_add_table(&edit, &meta, &r.error));
    }
    rig_ok(&r, version_set_apply(r.set, &edit, &r.error));
    edit_release(&edit);
    struct rig_text before = rig_describe(&r);
    for (int i = 0; i < 2; i++) {
        rig_close_set(&r);
        rig_ok(&r, rig_recover(&r));
        struct rig_text after = rig_describe(&r);
        ck_assert_str_eq(before.at, after.at);
    }
    /* The second recovery read a snapshot in parts. Without the last one it is no snapshot. */
    rig_close_set(&r);
    uint8_t uuid[TABLE_UUID_SIZE];
    uint64_t number;
    char name[FILE_NAME_SIZE];
    struct io_file *file;
    uint64_t size;
    rig_ok(&r, version_read_current(r.io, r.dir, uuid, &number, &r.error));
    file_name_make(FILE_MANIFEST, number, name);
    rig_ok(&r, io_file_open(r.dir, name, IO_FILE_WRITE, 0, &file, &r.error));
    rig_ok(&r, io_file_size(file, &size, &r.error));
    ck_assert_uint_gt(size, 40 * 2 * (LSM_MAX_KEY_SIZE - 1));
    rig_ok(&r, io_file_truncate(file, size - 8, &r.error));
    io_file_close(file);
    ck_assert_int_eq(rig_recover(&r), LSM_CORRUPT);
    ck_assert_str_eq(r.error.file, name);
    free(key);
    rig_close(&r);
}
END_TEST

/* ---- power cuts -------------------------------------------------------------------------------
 */

static void crash(struct rig *r, uint64_t kind, uint64_t seed)
{
    rig_unplug(r);
    sim_crash(r->disk, (enum sim_crash)kind, seed);
    rig_plug_in(r);
}

/* Runs the script until the machine stops at `step`, and recovers, with a second stop at step
 * `second` of the recovery (0: none). Returns false when the script ended before `step`. */
static bool cut_and_recover(const struct script *reference, uint64_t roll_size, uint64_t step,
                            enum sim_crash kind, uint64_t second, bool *second_reached)
{
    struct script s = {0};
    struct rig r;
    rig_open(&r, step);
    r.options.manifest_roll_size = roll_size;
    sim_stop_at(r.disk, step);
    lsm_status status = rig_create(&r);
    bool created = status == LSM_OK;
    if (created)
        status = run_script(&r, &s, 0);
    bool stopped = sim_is_stopped(r.disk);
    ck_assert(stopped || status == LSM_OK);
    sim_stop_at(r.disk, 0);
    crash(&r, kind, step * 31 + second);
    if (second > 0) {
        sim_stop_at(r.disk, sim_step_count(r.disk) + second);
        status = rig_recover(&r);
        *second_reached = sim_is_stopped(r.disk);
        ck_assert(*second_reached || status == LSM_OK || !created);
        sim_stop_at(r.disk, 0);
        crash(&r, kind, step * 37 + second);
    }
    status = rig_recover(&r);
    if (status == LSM_MISSING) {
        ck_assert(!created);
        status = rig_create(&r); /* what is left of the first try is in nobody's way */
        ck_assert_msg(status == LSM_OK, "%s", r.error.message);
    } else {
        ck_assert_msg(status == LSM_OK, "step %llu.%llu crash %d: %s", (unsigned long long)step,
                      (unsigned long long)second, (int)kind, r.error.message);
    }
    assert_is_prefix(&r, reference, s.applied);
    /* It goes on, and that survives too. */
    size_t before = version_new_file_number(r.set);
    struct version_edit edit = {.next_cf = 10};
    lsm_cf_options options = rig_cf_options();
    rig_ok(&r, edit_create_cf(&edit, 9, "after", &options, &r.error));
    rig_ok(&r, version_set_apply(r.set, &edit, &r.error));
    edit_release(&edit);
    struct rig_text text = rig_describe(&r);
    crash(&r, SIM_CRASH_LOSE_ALL, step);
    rig_ok(&r, rig_recover(&r));
    struct rig_text again = rig_describe(&r);
    ck_assert_str_eq(text.at, again.at);
    ck_assert_uint_gt(version_new_file_number(r.set), before);
    rig_close(&r);
    return stopped;
}

static void cut_everywhere(uint64_t roll_size)
{
    static struct script reference;
    uint64_t steps;
    memset(&reference, 0, sizeof reference);
    learn_states(&reference, roll_size, &steps);
    ck_assert_uint_gt(steps, SCRIPT_EDITS * 2);
    for (uint64_t step = 1; step <= steps; step++) {
        for (int kind = SIM_CRASH_KILL; kind <= SIM_CRASH_RANDOM; kind++) {
            bool reached;
            cut_and_recover(&reference, roll_size, step, (enum sim_crash)kind, 0, &reached);
        }
    }
}

START_TEST(test_manifest_power_cut_at_every_step_keeps_a_prefix)
{
    cut_everywhere(0);
}
END_TEST

START_TEST(test_manifest_power_cut_while_rolling_keeps_a_prefix)
{
    cut_everywhere(1);
}
END_TEST

START_TEST(test_manifest_power_cut_in_recovery_keeps_a_prefix)
{
    static struct script reference;
    uint64_t steps;
    learn_states(&reference, 1, &steps);
    for (uint64_t step = 1; step <= steps; step += 3) {
        bool reached = true;
        for (uint64_t second = 1; reached && second < 40; second++)
            cut_and_recover(&reference, 1, step, SIM_CRASH_RANDOM, second, &reached);
    }
}
END_TEST

/* ---- failing calls ----------------------------------------------------------------------------
 */

/* Every call of a kind fails in turn, once or for ever. What was acknowledged is there afterwards,
 * and after a failure nothing is acknowledged that a later open would not find. */
static void fail_everywhere(enum sim_fault_kind kind, int number, bool sticky)
{
    static struct script reference;
    uint64_t steps;
    memset(&reference, 0, sizeof reference);
    learn_states(&reference, 1, &steps);
    bool hit = true;
    for (uint64_t count = 0; hit; count++) {
        struct script s = {0};
        struct rig r;
        rig_open(&r, count);
        r.options.manifest_roll_size = 1;
        rig_ok(&r, rig_create(&r));
        sim_fail_after(r.disk, kind, count, number, sticky);
        lsm_status status = LSM_OK;
        hit = false;
        for (size_t i = 0; i < SCRIPT_EDITS; i++) {
            struct version_edit edit = {0};
            bool poisoned = false;
            status = fill_edit(&r, &s, i, &edit);
            if (status == LSM_OK) {
                status = version_set_apply(r.set, &edit, &r.error);
                poisoned = status == LSM_POISONED;
            }
            edit_release(&edit);
            hit |= status != LSM_OK;
            if (status != LSM_OK)
                ck_assert(r.error.message[0] != '\0');
            if (poisoned) { /* and stays so */
                struct version_edit more = {.last_sequence = 1};
                ck_assert_int_eq(version_set_apply(r.set, &more, &r.error), LSM_POISONED);
            }
            if (status != LSM_OK)
                break;
            s.applied = i + 1;
        }
        sim_fail_never(r.disk);
        if (!hit && s.applied == SCRIPT_EDITS && count > steps)
            hit = false;
        else if (!hit)
            hit = count < steps; /* some failures are borne: names that cannot be removed */
        crash(&r, SIM_CRASH_LOSE_ALL, count);
        rig_ok(&r, rig_recover(&r));
        assert_is_prefix(&r, &reference, s.applied);
        rig_close(&r);
    }
}

START_TEST(test_manifest_failing_syncs_lose_nothing)
{
    fail_everywhere(SIM_FAULT_SYNC, EIO, false);
    fail_everywhere(SIM_FAULT_SYNC, EIO, true);
}
END_TEST

START_TEST(test_manifest_failing_writes_lose_nothing)
{
    fail_everywhere(SIM_FAULT_WRITE, EIO, false);
    fail_everywhere(SIM_FAULT_WRITE, ENOSPC, true);
}
END_TEST

START_TEST(test_manifest_failing_names_and_opens_lose_nothing)
{
    fail_everywhere(SIM_FAULT_NAME, EIO, false);
    fail_everywhere(SIM_FAULT_NAME, EIO, true);
    fail_everywhere(SIM_FAULT_OPEN, EMFILE, false);
}
END_TEST

/* One failed sync is answered with a new manifest, and the edit is acknowledged. */
START_TEST(test_manifest_failed_sync_rotates_once)
{
    struct rig r;
    rig_open(&r, 1);
    rig_ok(&r, rig_create(&r));
    struct version_edit edit = {.has_log = true, .log_position = 5};
    sim_fail_after(r.disk, SIM_FAULT_SYNC, 0, EIO, false);
    rig_ok(&r, version_set_apply(r.set, &edit, &r.error));
    uint8_t uuid[TABLE_UUID_SIZE];
    uint64_t number;
    rig_ok(&r, version_read_current(r.io, r.dir, uuid, &number, &r.error));
    ck_assert_uint_eq(number, 2);
    crash(&r, SIM_CRASH_LOSE_ALL, 1);
    rig_ok(&r, rig_recover(&r));
    ck_assert_uint_eq(r.state.log_position, 5);
    sim_fail_after(r.disk, SIM_FAULT_SYNC, 0, EIO, true);
    ck_assert_int_eq(version_set_apply(r.set, &edit, &r.error), LSM_POISONED);
    ck_assert_int_eq(r.error.os_errno, EIO);
    sim_fail_never(r.disk);
    ck_assert_int_eq(version_set_apply(r.set, &edit, &r.error), LSM_POISONED);
    rig_close(&r);
}
END_TEST

/* So is a failed write that may have left something behind. */
START_TEST(test_manifest_failed_write_rotates_once)
{
    struct rig r;
    rig_open(&r, 1);
    rig_ok(&r, rig_create(&r));
    struct version_edit edit = {.has_log = true, .log_position = 5};
    sim_fail_after(r.disk, SIM_FAULT_WRITE, 0, EIO, false);
    rig_ok(&r, version_set_apply(r.set, &edit, &r.error));
    ck_assert(rig_has_file(&r, FILE_MANIFEST, 2));
    sim_fail_after(r.disk, SIM_FAULT_WRITE, 0, EIO, true);
    ck_assert_int_eq(version_set_apply(r.set, &edit, &r.error), LSM_POISONED);
    rig_close(&r);
}
END_TEST

/* A full disk refuses edits; with space again they go on without a reopen. */
START_TEST(test_manifest_full_disk_recovers_in_place)
{
    struct rig r;
    rig_open(&r, 1);
    rig_ok(&r, rig_create(&r));
    struct version_edit edit = {.has_log = true, .log_position = 5};
    for (int i = 0; i < 3; i++) {
        sim_fail_after(r.disk, SIM_FAULT_WRITE, 0, ENOSPC, true);
        ck_assert_int_eq(version_set_apply(r.set, &edit, &r.error), LSM_NO_SPACE);
        ck_assert_int_eq(version_set_apply(r.set, &edit, &r.error), LSM_NO_SPACE);
        sim_fail_never(r.disk);
        edit.log_position++;
        rig_ok(&r, version_set_apply(r.set, &edit, &r.error));
    }
    crash(&r, SIM_CRASH_LOSE_ALL, 1);
    rig_ok(&r, rig_recover(&r));
    ck_assert_uint_eq(r.state.log_position, 8);
    rig_close(&r);
}
END_TEST

START_TEST(test_manifest_failing_reads_are_told_and_change_nothing)
{
    struct script s = {0};
    struct rig r;
    rig_open(&r, 1);
    rig_ok(&r, rig_create(&r));
    rig_ok(&r, run_script(&r, &s, 0));
    struct rig_text before = rig_describe(&r);
    rig_close_set(&r);
    static const enum sim_fault_kind kinds[] = {SIM_FAULT_READ, SIM_FAULT_OPEN};
    for (size_t k = 0; k < 2; k++) { /* the first file that is opened is LOCK: a hint, see there */
        size_t failures = 0;
        for (uint64_t count = k;; count++, failures++) {
            sim_fail_after(r.disk, kinds[k], count, EIO, false);
            lsm_status status = rig_recover(&r);
            sim_fail_never(r.disk);
            if (status == LSM_OK)
                break;
            ck_assert_int_eq(status, LSM_IO);
            ck_assert_int_eq(r.error.os_errno, EIO);
        }
        ck_assert_uint_gt(failures, k == 0 ? 1 : 3);
        struct rig_text after = rig_describe(&r);
        ck_assert_str_eq(before.at, after.at);
        rig_close_set(&r);
    }
    rig_close(&r);
}
END_TEST

START_TEST(test_manifest_without_memory_fails_cleanly)
{
    struct script s = {0};
    struct rig r;
    rig_open(&r, 1);
    rig_ok(&r, rig_create(&r));
    rig_ok(&r, run_script(&r, &s, 0));
    struct rig_text before = rig_describe(&r);
    rig_close_set(&r);
    int64_t count = 0;
    lsm_status status;
    for (;; count++) {
        mem_fail_after(count, false);
        status = rig_recover(&r);
        mem_fail_after(-1, false);
        if (status == LSM_OK)
            break;
        ck_assert_int_eq(status, LSM_NO_MEMORY);
    }
    ck_assert_int_gt(count, 20);
    struct rig_text after = rig_describe(&r);
    ck_assert_str_eq(before.at, after.at);
    for (count = 0;; count++) {
        struct version_edit edit = {0};
        rig_ok(&r, edit_create_cf(&edit, 2, "new", &(lsm_cf_options){0}, &r.error));
        edit.created[0].options = rig_cf_options();
        edit.next_cf = 3;
        mem_fail_after(count, false);
        status = version_set_apply(r.set, &edit, &r.error);
        mem_fail_after(-1, false);
        edit_release(&edit);
        if (status == LSM_OK)
            break;
        ck_assert_int_eq(status, LSM_NO_MEMORY);
        after = rig_describe(&r);
        ck_assert_str_eq(before.at, after.at);
    }
    ck_assert_int_gt(count, 5);
    rig_close(&r);
}
END_TEST

START_TEST(test_manifest_creation_without_memory_can_be_repeated)
{
    struct rig r;
    rig_open(&r, 1);
    lsm_status status;
    int64_t count = 0;
    for (;; count++) {
        mem_fail_after(count, false);
        status = rig_create(&r);
        mem_fail_after(-1, false);
        if (status != LSM_NO_MEMORY)
            break;
    }
    /* The last failure may have come when CURRENT was there already. */
    if (status == LSM_EXISTS)
        status = rig_recover(&r);
    ck_assert_int_eq(status, LSM_OK);
    ck_assert_int_gt(count, 10);
    struct version *v = version_set_current(r.set);
    ck_assert_ptr_nonnull(version_find_cf_named(v, "default"));
    ck_assert_ptr_null(version_find_cf_named(v, "other"));
    ck_assert_ptr_null(version_find_cf(v, 1));
    version_drop(v);
    rig_close(&r);
}
END_TEST

START_TEST(test_manifest_read_only_set_refuses_edits)
{
    struct rig r;
    struct version_state state;
    rig_open(&r, 1);
    rig_ok(&r, rig_create(&r));
    struct version_edit edit = {.has_log = true, .log_position = 3, .next_cf = 4};
    rig_ok(&r, version_set_apply(r.set, &edit, &r.error));
    version_set_state(r.set, &state);
    ck_assert_uint_eq(state.log_position, 3);
    ck_assert_uint_eq(state.next_cf, 4);
    rig_close_set(&r);
    r.options.read_only = true;
    uint64_t steps = sim_step_count(r.disk);
    rig_ok(&r, rig_recover(&r));
    ck_assert_int_eq(version_set_apply(r.set, &edit, &r.error), LSM_READ_ONLY);
    rig_close_set(&r);
    ck_assert_uint_eq(sim_step_count(r.disk), steps); /* nothing was written */
    rig_close(&r);
}
END_TEST

/* ---- damage -----------------------------------------------------------------------------------
 */

/* A database of two generations, closed; returns its manifest's number. */
static uint64_t closed_database(struct rig *r)
{
    struct script s = {0};
    uint8_t uuid[TABLE_UUID_SIZE];
    uint64_t number;
    rig_open(r, 1);
    rig_ok(r, rig_create(r));
    rig_ok(r, run_script(r, &s, 0));
    rig_close_set(r);
    rig_ok(r, version_read_current(r->io, r->dir, uuid, &number, &r->error));
    return number;
}

START_TEST(test_manifest_every_wrong_byte_is_refused)
{
    struct rig r;
    char name[FILE_NAME_SIZE];
    const void *bytes;
    size_t size;
    uint64_t number = closed_database(&r);
    r.options.read_only = true;
    for (int which = 0; which < 2; which++) {
        if (which == 0)
            file_name_make(FILE_MANIFEST, number, name);
        else
            file_name_make(FILE_CURRENT, 0, name);
        rig_ok(&r, sim_contents(r.disk, RIG_DIR, name, &bytes, &size, &r.error));
        uint8_t *original = malloc(size);
        memcpy(original, bytes, size);
        for (size_t i = 0; i < size; i++) {
            uint8_t wrong = (uint8_t)(original[i] ^ (1 + i % 255));
            rig_ok(&r, sim_overwrite(r.disk, RIG_DIR, name, i, &wrong, 1, &r.error));
            lsm_status status = rig_recover(&r);
            ck_assert_msg(status == LSM_CORRUPT, "%s byte %zu: %d", name, i, (int)status);
            ck_assert_str_eq(r.error.file, name);
            rig_ok(&r, sim_overwrite(r.disk, RIG_DIR, name, i, &original[i], 1, &r.error));
        }
        free(original);
    }
    rig_ok(&r, rig_recover(&r));
    rig_close(&r);
}
END_TEST

START_TEST(test_manifest_cut_at_every_byte_keeps_a_prefix)
{
    static struct script reference;
    uint64_t steps, size, number;
    char name[FILE_NAME_SIZE];
    struct rig r;
    struct io_file *file;
    learn_states(&reference, 0, &steps);
    number = closed_database(&r);
    r.options.read_only = true;
    file_name_make(FILE_MANIFEST, number, name);
    rig_ok(&r, io_file_open(r.dir, name, IO_FILE_WRITE, 0, &file, &r.error));
    rig_ok(&r, io_file_size(file, &size, &r.error));
    size_t left = SCRIPT_EDITS, corrupt = 0;
    while (size-- > 0) {
        rig_ok(&r, io_file_truncate(file, size, &r.error));
        lsm_status status = rig_recover(&r);
        if (status != LSM_OK) {
            /* Only once the snapshot itself is cut, or when an edit is cut off that removed files,
             * which are missing then. */
            ck_assert_int_eq(status, LSM_CORRUPT);
            corrupt++;
            continue;
        }
        struct rig_text now = rig_describe(&r);
        while (left > 0 && strcmp(now.at, reference.states[left].at) != 0)
            left--;
        ck_assert_str_eq(now.at, reference.states[left].at);
        rig_close_set(&r);
    }
    ck_assert_uint_lt(left, SCRIPT_EDITS);
    ck_assert_uint_gt(corrupt, 0);
    io_file_close(file);
    rig_close(&r);
}
END_TEST

static void assert_refused(struct rig *r, lsm_status expected, const char *file)
{
    ck_assert_int_eq(rig_recover(r), expected);
    ck_assert_str_eq(r->error.file, file);
    ck_assert_ptr_nonnull(strstr(r->error.message, file));
}

START_TEST(test_manifest_missing_and_foreign_files_are_told)
{
    struct rig r;
    char name[FILE_NAME_SIZE], hidden[FILE_NAME_SIZE];
    uint64_t number = closed_database(&r);
    /* each table, then the manifest, then CURRENT */
    for (uint64_t i = 1; i < number + 40; i++) {
        if (!rig_has_file(&r, FILE_TABLE, i))
            continue;
        file_name_make(FILE_TABLE, i, name);
        file_name_make(FILE_TABLE, 999999, hidden);
        rig_ok(&r, io_dir_rename(r.dir, name, hidden, &r.error));
        assert_refused(&r, LSM_CORRUPT, name);
        rig_ok(&r, io_dir_rename(r.dir, hidden, name, &r.error));
        struct io_file *file;
        rig_ok(&r, io_file_open(r.dir, name, IO_FILE_WRITE, 0, &file, &r.error));
        uint64_t size;
        rig_ok(&r, io_file_size(file, &size, &r.error));
        rig_ok(&r, io_file_truncate(file, size - 1, &r.error));
        assert_refused(&r, LSM_CORRUPT, name);
        ck_assert_uint_eq(r.error.expected, size);
        ck_assert_uint_eq(r.error.found, size - 1);
        rig_ok(&r, io_file_truncate(file, size, &r.error));
        io_file_close(file);
    }
    file_name_make(FILE_MANIFEST, number, name);
    file_name_make(FILE_MANIFEST, 999999, hidden);
    rig_ok(&r, io_dir_rename(r.dir, name, hidden, &r.error));
    assert_refused(&r, LSM_CORRUPT, name);
    rig_ok(&r, io_dir_rename(r.dir, hidden, name, &r.error));
    rig_ok(&r, io_dir_rename(r.dir, "CURRENT", "hidden", &r.error));
    assert_refused(&r, LSM_CORRUPT, "CURRENT");
    ck_assert_int_eq(rig_create(&r), LSM_CORRUPT);
    rig_ok(&r, io_dir_rename(r.dir, "hidden", "CURRENT", &r.error));
    ck_assert_int_eq(rig_create(&r), LSM_EXISTS);
    rig_ok(&r, rig_recover(&r));
    rig_close(&r);
}
END_TEST

START_TEST(test_manifest_of_another_database_is_refused)
{
    struct rig r, other;
    char name[FILE_NAME_SIZE];
    const void *bytes;
    size_t size;
    uint64_t number = closed_database(&r);
    rig_open(&other, 2);
    other.env.uuid[0] ^= 1;
    rig_ok(&other, rig_create(&other));
    rig_close_set(&other);
    file_name_make(FILE_MANIFEST, number, name);
    rig_ok(&other, sim_contents(other.disk, RIG_DIR, name, &bytes, &size, &other.error));
    rig_ok(&r, sim_overwrite(r.disk, RIG_DIR, name, 0, bytes, size, &r.error));
    assert_refused(&r, LSM_CORRUPT, name);
    rig_close(&r);
    rig_close(&other);
}
END_TEST

START_TEST(test_manifest_orphans_go_and_their_numbers_stay_used)
{
    struct rig r;
    uint64_t number = closed_database(&r);
    rig_ok(&r, rig_fake_table(&r, 500, 5));
    char name[FILE_NAME_SIZE];
    struct io_file *file;
    rig_ok(&r, io_file_open(r.dir, file_name_make(FILE_TEMPORARY, 600, name),
                            IO_FILE_WRITE | IO_FILE_CREATE, 0, &file, &r.error));
    io_file_close(file);
    rig_ok(&r,
           io_file_open(r.dir, "notes.txt", IO_FILE_WRITE | IO_FILE_CREATE, 0, &file, &r.error));
    io_file_close(file);
    r.options.read_only = true;
    rig_ok(&r, rig_recover(&r));
    rig_close_set(&r);
    ck_assert(rig_has_file(&r, FILE_TABLE, 500) && rig_has_file(&r, FILE_TEMPORARY, 600));
    r.options.read_only = false;
    rig_ok(&r, rig_recover(&r));
    ck_assert(!rig_has_file(&r, FILE_TABLE, 500) && !rig_has_file(&r, FILE_TEMPORARY, 600));
    ck_assert(rig_has_file(&r, FILE_MANIFEST, number));
    ck_assert_uint_gt(version_new_file_number(r.set), 600);
    rig_ok(&r, io_file_open(r.dir, "notes.txt", 0, 0, &file, &r.error));
    io_file_close(file);
    rig_close(&r);
}
END_TEST

START_TEST(test_manifest_edits_that_do_not_fit_change_nothing)
{
    struct script s = {0};
    struct rig r;
    rig_open(&r, 1);
    rig_ok(&r, rig_create(&r));
    rig_ok(&r, run_script(&r, &s, 0));
    struct rig_text before = rig_describe(&r);
    struct table_meta meta = {.number = 5, .size = 1, .level = 5, .entry_count = 1};
    for (int i = 0; i < 9; i++) {
        struct version_edit edit = {0};
        lsm_cf_options options = rig_cf_options();
        switch (i) {
        case 0:
            edit_remove_table(&edit, 0, 3, s.tables[13], NULL);
            break;
        case 1:
            edit_drop_cf(&edit, 77, NULL);
            break;
        case 2:
            edit_rename_cf(&edit, 77, "x", NULL);
            break;
        case 3:
            edit.next_cf = 3;
            edit_create_cf(&edit, 2, "default", &options, NULL);
            break;
        case 4:
            edit_create_cf(&edit, 2, "too early", &options, NULL);
            break;
        case 5:
            meta.number = 1000000;
            edit_add_table(&edit, &meta, NULL);
            break;
        case 6: /* overlaps table 8 of the script */
            meta.number = 5;
            meta.smallest = LSM_SLICE("key", 3);
            meta.largest = LSM_SLICE("l", 1);
            edit_add_table(&edit, &meta, NULL);
            break;
        case 7:
            meta.cf = 1; /* dropped */
            edit_add_table(&edit, &meta, NULL);
            break;
        case 8:
            edit_create_cf(&edit, 0, "again", &options, NULL);
            break;
        }
        ck_assert_msg(version_set_apply(r.set, &edit, &r.error) == LSM_CORRUPT, "edit %d", i);
        edit_release(&edit);
        struct rig_text after = rig_describe(&r);
        ck_assert_str_eq(before.at, after.at);
    }
    rig_close_set(&r);
    rig_ok(&r, rig_recover(&r));
    struct rig_text after = rig_describe(&r);
    ck_assert_str_eq(before.at, after.at);
    rig_close(&r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("manifest");
    TCase *tcase = tcase_create("manifest");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_manifest_every_edit_comes_back);
    tcase_add_test(tcase, test_manifest_clean_mark_holds_until_the_log_begins);
    tcase_add_test(tcase, test_manifest_rolls_and_keeps_two_generations);
    tcase_add_test(tcase, test_manifest_large_snapshot_goes_in_parts);
    tcase_add_test(tcase, test_manifest_power_cut_at_every_step_keeps_a_prefix);
    tcase_add_test(tcase, test_manifest_power_cut_while_rolling_keeps_a_prefix);
    tcase_add_test(tcase, test_manifest_power_cut_in_recovery_keeps_a_prefix);
    tcase_add_test(tcase, test_manifest_failing_syncs_lose_nothing);
    tcase_add_test(tcase, test_manifest_failing_writes_lose_nothing);
    tcase_add_test(tcase, test_manifest_failing_names_and_opens_lose_nothing);
    tcase_add_test(tcase, test_manifest_failed_sync_rotates_once);
    tcase_add_test(tcase, test_manifest_failed_write_rotates_once);
    tcase_add_test(tcase, test_manifest_full_disk_recovers_in_place);
    tcase_add_test(tcase, test_manifest_failing_reads_are_told_and_change_nothing);
    tcase_add_test(tcase, test_manifest_without_memory_fails_cleanly);
    tcase_add_test(tcase, test_manifest_creation_without_memory_can_be_repeated);
    tcase_add_test(tcase, test_manifest_read_only_set_refuses_edits);
    tcase_add_test(tcase, test_manifest_every_wrong_byte_is_refused);
    tcase_add_test(tcase, test_manifest_cut_at_every_byte_keeps_a_prefix);
    tcase_add_test(tcase, test_manifest_missing_and_foreign_files_are_told);
    tcase_add_test(tcase, test_manifest_of_another_database_is_refused);
    tcase_add_test(tcase, test_manifest_orphans_go_and_their_numbers_stay_used);
    tcase_add_test(tcase, test_manifest_edits_that_do_not_fit_change_nothing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
