/*
 * Disks and memory that fail. A failed read is never the end of the log; a failed write or a full
 * disk loses nothing and the log goes on; a failed sync is the end of writing.
 */
#include "tests/unit/wal/rig.h"

#include <errno.h>

/* ---- reads ----------------------------------------------------------------------------------- */

/* A log in two segments and the ring. */
static void make_log(struct rig *rig, uint64_t seed, unsigned count)
{
    ck_assert(rig_init(rig, RIG_SIM, seed));
    rig_start(rig, NULL);
    for (unsigned i = 0; i < count; i++) {
        uint64_t end;
        ck_ok(rig_put_sized(rig, 3000, &end, err));
        if (i % 4 == 0)
            ck_ok(wal_write_locked(rig->wal, end, err));
    }
}

START_TEST(test_fault_each_failed_read_is_an_error)
{
    struct rig rig;
    make_log(&rig, 1, 19);
    rig_abandon(&rig);
    struct wal_end end;
    unsigned failures = 0;
    for (uint64_t n = 0;; n++) {
        lsm_error error = {0};
        sim_fail_after(rig.disk, SIM_FAULT_READ, n, EIO, false);
        lsm_status status = rig_replay(&rig, &end, &error);
        if (status == LSM_OK)
            break;
        ck_assert_int_eq(status, LSM_IO);
        ck_assert_int_eq(error.os_errno, EIO);
        failures++;
    }
    ck_assert_uint_gt(failures, 4);
    ck_assert_uint_eq(end.record_count, 19);
    for (uint64_t n = 0;; n++) { /* the same in wal_open(), which may be tried again */
        lsm_error error = {0};
        sim_fail_never(rig.disk);
        ck_ok(rig_replay(&rig, &end, err));
        ck_assert_uint_eq(end.record_count, 19);
        sim_fail_after(rig.disk, SIM_FAULT_READ, n, EIO, false);
        lsm_status status = rig_open_at(&rig, &end, &error);
        if (status == LSM_OK)
            break;
        ck_assert_int_eq(status, LSM_IO);
        free(rig.layout);
        rig.layout = NULL;
    }
    rig_release(&rig);
}
END_TEST

START_TEST(test_fault_each_failed_open_is_an_error)
{
    lsm_status status = LSM_IO;
    uint64_t n = 0;
    for (; status != LSM_OK; n++) {
        struct rig rig;
        struct wal_end end;
        lsm_error error = {0};
        make_log(&rig, 2, 19);
        rig_abandon(&rig);
        sim_fail_after(rig.disk, SIM_FAULT_OPEN, n, EMFILE, false);
        status = rig_open(&rig, &end, &error);
        sim_fail_never(rig.disk);
        ck_assert(status == LSM_OK || status == LSM_IO);
        if (rig.wal == NULL) {
            free(rig.layout);
            rig.layout = NULL;
        }
        struct wal_end again;
        ck_ok(rig_replay(&rig, &again, err));
        ck_assert_uint_eq(again.record_count, 19);
        rig_release(&rig);
    }
    ck_assert_uint_gt(n, 6);
}
END_TEST

/* ---- writes ---------------------------------------------------------------------------------- */

START_TEST(test_fault_failed_write_seals_the_segment_and_the_log_goes_on)
{
    struct rig rig;
    make_log(&rig, 3, 2);
    uint64_t end, segment = rig.layout->commit.segment_number, written = rig_written(&rig);
    lsm_error error = {0};
    ck_ok(rig_put_sized(&rig, 100, &end, err));
    sim_fail_after(rig.disk, SIM_FAULT_WRITE, 0, EIO, false);
    ck_assert_int_eq(wal_write_locked(rig.wal, end, &error), LSM_IO);
    ck_assert_int_eq(error.os_errno, EIO);
    ck_assert_uint_eq(rig_written(&rig), written);
    ck_assert_uint_eq(atomic_load(&rig.layout->ctl.poisoned), 0);
    ck_ok(rig_put_sized(&rig, 100, &end, err));
    ck_ok(wal_sync_locked(rig.wal, end, err));
    ck_assert_uint_ne(rig.layout->commit.segment_number, segment);
    ck_assert_uint_eq(rig.layout->commit.segment_start, written);
    rig_crash(&rig, SIM_CRASH_LOSE_ALL, 1);
    struct wal_end found;
    ck_ok(rig_replay(&rig, &found, err));
    ck_assert_uint_eq(found.record_count, 4);
    rig_release(&rig);
}
END_TEST

START_TEST(test_fault_segment_with_a_failed_write_is_not_recycled)
{
    struct rig rig;
    make_log(&rig, 4, 2);
    uint64_t end;
    char name[FILE_NAME_SIZE], spare[FILE_NAME_SIZE];
    file_name_make(FILE_WAL, rig.layout->commit.segment_number, name);
    file_name_make(FILE_WAL_SPARE, rig.layout->commit.segment_number, spare);
    ck_ok(rig_put_sized(&rig, 100, &end, err));
    sim_fail_after(rig.disk, SIM_FAULT_WRITE, 0, EIO, false);
    ck_assert_int_eq(wal_write_locked(rig.wal, end, NULL), LSM_IO);
    ck_ok(wal_sync_locked(rig.wal, end, err));
    ck_ok(wal_forget_locked(rig.wal, end, err));
    struct io_file *file;
    ck_assert_int_eq(io_file_open(rig.options.dir, name, 0, 0, &file, NULL), LSM_MISSING);
    ck_assert_int_eq(io_file_open(rig.options.dir, spare, 0, 0, &file, NULL), LSM_MISSING);
    rig_release(&rig);
}
END_TEST

START_TEST(test_fault_full_disk_loses_nothing_and_ends_with_it)
{
    struct rig rig;
    make_log(&rig, 5, 1);
    sim_set_capacity(rig.disk, RIG_STAGE + RIG_SEGMENT + 4096);
    uint64_t end;
    lsm_status status = LSM_OK;
    lsm_error error = {0};
    for (unsigned i = 0; i < 40 && status == LSM_OK; i++)
        status = rig_put_sized(&rig, 2000, &end, &error);
    ck_assert_int_eq(status, LSM_NO_SPACE);
    ck_assert_int_eq(wal_write_locked(rig.wal, rig_staged(&rig), &error), LSM_NO_SPACE);
    ck_assert_int_eq(wal_prepare(rig.wal, &error), LSM_NO_SPACE);
    ck_assert_uint_eq(atomic_load(&rig.layout->ctl.poisoned), 0);
    uint64_t count = rig.sequence;
    sim_set_capacity(rig.disk, 0);
    ck_ok(wal_sync_locked(rig.wal, rig_staged(&rig), err));
    ck_ok(rig_put_sized(&rig, 2000, &end, err));
    rig_crash(&rig, SIM_CRASH_LOSE_ALL, 1);
    struct wal_end found;
    ck_ok(rig_replay(&rig, &found, err));
    ck_assert_uint_eq(found.record_count, count);
    rig_release(&rig);
}
END_TEST

/* Without a mapping a commit is a write, and may fail: then it never was. */
START_TEST(test_fault_failed_commit_by_write_stages_nothing)
{
    struct rig rig;
    ck_assert(rig_init(&rig, RIG_SIM, 6));
    rig.options.refuse_mapping = true;
    rig_start(&rig, NULL);
    uint64_t end, staged;
    ck_ok(rig_put_sized(&rig, 100, &end, err));
    staged = rig_staged(&rig);
    sim_fail_after(rig.disk, SIM_FAULT_WRITE, 0, ENOSPC, false);
    ck_assert_int_eq(rig_put_sized(&rig, 300, &end, NULL), LSM_NO_SPACE);
    ck_assert_uint_eq(rig_staged(&rig), staged);
    ck_ok(rig_put_sized(&rig, 200, &end, err));
    ck_ok(rig_put_sized(&rig, 50, &end, err));
    rig_crash(&rig, SIM_CRASH_KILL, 1);
    struct wal_end found;
    ck_ok(rig_replay(&rig, &found, err));
    ck_assert_uint_eq(found.record_count, 3);
    rig_release(&rig);
}
END_TEST

/* ---- syncs ----------------------------------------------------------------------------------- */

START_TEST(test_fault_failed_sync_is_the_end_of_writing)
{
    struct rig rig;
    make_log(&rig, 7, 1);
    uint64_t end;
    lsm_error error = {0};
    ck_ok(rig_put_sized(&rig, 100, &end, err));
    uint64_t durable = rig_durable(&rig);
    sim_fail_after(rig.disk, SIM_FAULT_SYNC, 0, EIO, false);
    ck_assert_int_eq(wal_sync_locked(rig.wal, end, &error), LSM_IO);
    ck_assert_uint_eq(atomic_load(&rig.layout->ctl.poisoned), EIO);
    ck_assert_uint_eq(rig_durable(&rig), durable);
    ck_assert_int_eq(wal_sync_locked(rig.wal, end, &error), LSM_POISONED);
    ck_assert_int_eq(error.status, LSM_POISONED);
    ck_assert_int_eq(wal_write_begin_locked(rig.wal, &error), LSM_POISONED);
    ck_assert_int_eq(wal_write_locked(rig.wal, end, &error), LSM_POISONED);
    ck_assert_int_eq(wal_forget_locked(rig.wal, end, &error), LSM_POISONED);
    ck_assert_int_eq(wal_prepare(rig.wal, &error), LSM_POISONED);
    ck_assert_uint_eq(rig_durable(&rig), durable);
    ck_assert_int_eq(wal_close(rig.wal, true, &error), LSM_POISONED);
    rig.wal = NULL;
    rig_release(&rig);
}
END_TEST

/* ---- every failure in turn ------------------------------------------------------------------- */

struct account {
    uint64_t synced;
    unsigned failures;
};

/* A life in which any call may fail once; the caller tries again. Returns false when poisoned. */
static bool live(struct rig *rig, struct account *account)
{
    struct random_state random = random_seeded(77);
    for (unsigned i = 0; i < 30; i++) {
        uint64_t end = rig_staged(rig);
        lsm_error error = {0};
        lsm_status status = rig_put_sized(rig, 100 + 500 * (i % 5), &end, &error);
        if (status == LSM_OK && i % 6 == 0 &&
            (status = wal_sync_locked(rig->wal, end, &error)) == LSM_OK)
            account->synced = rig->sequence;
        if (status == LSM_OK && i % 9 == 0)
            status = wal_prepare(rig->wal, &error);
        if (status == LSM_OK && i % 13 == 12) {
            rig->from = end;
            rig->from_chain = rig->layout->commit.chain;
            status = wal_forget_locked(rig->wal, end, &error);
        }
        if (status == LSM_OK && random_below(&random, 3) == 0)
            status = wal_write_locked(rig->wal, end, &error);
        if (status == LSM_POISONED)
            return false;
        if (status != LSM_OK) {
            account->failures++;
            ck_assert_msg(status == LSM_IO || status == LSM_NO_SPACE, "%s", error.message);
            ck_assert_str_ne(error.message, "");
        }
    }
    return true;
}

/* Opens a new log; a failure may be tried again. */
static bool open_in_spite(struct rig *rig, struct account *account)
{
    for (unsigned i = 0; i < 3; i++) {
        struct wal_end end;
        lsm_status status = rig_open(rig, &end, NULL);
        if (status == LSM_OK)
            return true;
        ck_assert(status == LSM_IO || status == LSM_NO_SPACE);
        account->failures++;
        free(rig->layout);
        rig->layout = NULL;
    }
    return false;
}

static unsigned fail_once(enum sim_fault_kind kind, uint64_t n, int number, bool refuse_mapping)
{
    struct rig rig;
    struct account account = {0};
    ck_assert(rig_init(&rig, RIG_SIM, 40 + n));
    rig.options.refuse_mapping = refuse_mapping;
    sim_fail_after(rig.disk, kind, n, number, false);
    ck_assert(open_in_spite(&rig, &account));
    bool healthy = live(&rig, &account);
    ck_assert(healthy || kind == SIM_FAULT_SYNC);
    uint64_t published = rig.sequence;
    sim_fail_never(rig.disk);
    rig_crash(&rig, n % 2 == 0 ? SIM_CRASH_KILL : SIM_CRASH_LOSE_ALL, n);
    struct wal_end end;
    ck_ok(rig_replay(&rig, &end, err));
    uint64_t last = end.last_sequence != 0 ? end.last_sequence : published;
    ck_assert_uint_le(last, published);
    ck_assert_uint_ge(last, account.synced);
    if (n % 2 == 0)
        ck_assert_uint_eq(last, published);
    rig_release(&rig);
    return account.failures;
}

static void fail_everywhere(enum sim_fault_kind kind, int number, bool refuse_mapping)
{
    uint64_t n = 0;
    unsigned quiet = 0;
    for (; quiet < 2; n++) /* two in a row that failed nowhere: there are no more operations */
        quiet = fail_once(kind, n, number, refuse_mapping) == 0 ? quiet + 1 : 0;
    ck_assert_uint_gt(n, 3);
}

START_TEST(test_fault_at_every_operation_once_loses_nothing)
{
    static const struct {
        enum sim_fault_kind kind;
        int number;
    } faults[] = {{SIM_FAULT_WRITE, EIO},   {SIM_FAULT_WRITE, ENOSPC}, {SIM_FAULT_ALLOCATE, ENOSPC},
                  {SIM_FAULT_OPEN, EMFILE}, {SIM_FAULT_NAME, EIO},     {SIM_FAULT_SYNC, EIO}};
    fail_everywhere(faults[_i / 2].kind, faults[_i / 2].number, _i % 2 == 1);
}
END_TEST

/* ---- memory ---------------------------------------------------------------------------------- */

START_TEST(test_fault_each_failed_allocation_is_told)
{
    unsigned failures = 0;
    for (int64_t n = 0;; n++) {
        struct rig rig;
        make_log(&rig, 60, 9);
        rig_abandon(&rig);
        struct wal_end end;
        uint64_t position;
        mem_fail_after(n, false);
        lsm_status status = rig_open(&rig, &end, NULL);
        if (status == LSM_OK)
            status = rig_put_sized(&rig, 6000, &position, NULL);
        if (status == LSM_OK)
            status = wal_sync_locked(rig.wal, position, NULL);
        if (status == LSM_OK)
            status = wal_prepare(rig.wal, NULL);
        mem_fail_after(-1, false);
        ck_assert(status == LSM_OK || status == LSM_NO_MEMORY);
        failures += status != LSM_OK;
        free(rig.wal == NULL ? rig.layout : NULL);
        rig.layout = rig.wal == NULL ? NULL : rig.layout;
        if (rig.wal != NULL)
            rig_abandon(&rig);
        ck_ok(rig_replay(&rig, &end, err));
        ck_assert_uint_ge(end.record_count, 9);
        rig_release(&rig);
        if (status == LSM_OK)
            break;
    }
    ck_assert_uint_gt(failures, 10);
}
END_TEST

/* ---- late writes of the dead ----------------------------------------------------------------- */

/* A process dies with a write in flight; its successor opens, writes and is killed, while the late
 * write lands at any time. */
START_TEST(test_fault_late_write_of_a_dead_process_is_never_seen)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct rig dead;
        make_log(&dead, seed, 3);
        uint64_t end;
        ck_ok(rig_put_sized(&dead, 2000, &end, err));
        ck_ok(rig_put_sized(&dead, 300, &end, err));
        ck_ok(wal_write_begin_locked(dead.wal, err));
        struct rig rig = dead;
        rig.wal = NULL;
        rig.layout = NULL;
        sim_kill(dead.io);
        rig_environment(&rig, NULL);
        struct wal_end found;
        rig_start(&rig, &found);
        ck_assert_uint_eq(found.record_count, 5);
        for (unsigned i = 0; i < 12; i++) {
            ck_ok(rig_put_sized(&rig, 100 * i, &end, err));
            if (i % 3 == 0)
                ck_ok(wal_sync_locked(rig.wal, end, err));
            if (i % 5 == 0)
                ck_ok(wal_prepare(rig.wal, err));
            if (i == 6) { /* the dead one's segment goes, and must not come back as another */
                rig.from = end;
                rig.from_chain = rig.layout->commit.chain;
                ck_ok(wal_forget_locked(rig.wal, end, err));
            }
        }
        rig_abandon(&dead);
        rig_close_environment(&dead);
        rig_crash(&rig, seed % 2 == 0 ? SIM_CRASH_KILL : SIM_CRASH_RANDOM, seed);
        ck_ok(rig_replay(&rig, &found, err));
        ck_assert_uint_ge(found.last_sequence, seed % 2 == 0 ? 17 : 15);
        rig_release(&rig);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal/fault");
    TCase *tests = tcase_create("fault");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_fault_each_failed_read_is_an_error);
    tcase_add_test(tests, test_fault_each_failed_open_is_an_error);
    tcase_add_test(tests, test_fault_failed_write_seals_the_segment_and_the_log_goes_on);
    tcase_add_test(tests, test_fault_segment_with_a_failed_write_is_not_recycled);
    tcase_add_test(tests, test_fault_full_disk_loses_nothing_and_ends_with_it);
    tcase_add_test(tests, test_fault_failed_commit_by_write_stages_nothing);
    tcase_add_test(tests, test_fault_failed_sync_is_the_end_of_writing);
    tcase_add_loop_test(tests, test_fault_at_every_operation_once_loses_nothing, 0, 12);
    tcase_add_test(tests, test_fault_each_failed_allocation_is_told);
    tcase_add_test(tests, test_fault_late_write_of_a_dead_process_is_never_seen);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
