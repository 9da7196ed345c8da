/*
 * Checkpoints on a simulated disk: the power goes off, or the process dies, before each step in
 * turn; each call fails in turn; the disk is full. The original is never harmed, the checkpoint is
 * whole or not there, and the next one of that name is made whatever was left.
 */
#include "engine/base/memory.h"
#include "engine/db/open_private.h"
#include "engine/io/sim.h"
#include "tests/unit/db/db_fixture.h"

#include <errno.h>

#define DB   "/db"
#define COPY "/copy"

#define AGAIN                                                                                      \
    "workers=none,memtable_size=64KiB,stage_size=64KiB,wal_segment_size=64KiB,"                    \
    "cache_size=64KiB"
#define OPTIONS AGAIN ",create=true"

struct machine {
    struct sim_disk *disk;
    struct io *io;
    lsm_db *db;
};

static lsm_db *open_on(struct io *io, const char *path, const char *option_text)
{
    lsm_options options = options_of(option_text);
    lsm_db *db = NULL;
    ck_ok(db_open_on(io, path, &options, &db, &error));
    return db;
}

static struct machine start(void)
{
    struct machine m = {.disk = sim_disk_new(7)};
    ck_ok(sim_open(m.disk, &m.io, &error));
    m.db = open_on(m.io, DB, OPTIONS);
    put_many(m.db, NULL, 0, 40, 1000);
    ck_ok(lsm_flush(m.db, &error));
    put_many(m.db, NULL, 30, 20, 500);
    lsm_write_options sync = {.durability = LSM_SYNC};
    ck_ok(lsm_put(m.db, NULL, text("last"), text("1"), &sync, &error));
    return m;
}

static void end(struct machine *m)
{
    close_ok(m->db);
    io_close(m->io);
    sim_disk_free(m->disk);
}

static void expect_whole(lsm_db *db)
{
    lsm_iter *iter = NULL;
    unsigned count = 0;
    ck_ok(lsm_iter_open(db, NULL, NULL, &iter, &error));
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter)) {
        if (++count == 1)
            continue; /* "last" */
        ck_assert_uint_eq(lsm_iter_value(iter).size, count <= 31 ? 1000 : 500);
    }
    ck_ok(lsm_iter_status(iter, &error));
    ck_assert_uint_eq(count, 51);
    lsm_iter_close(iter);
}

static void expect_whole_at(struct io *io, const char *path)
{
    lsm_db *db = open_on(io, path, AGAIN);
    expect_whole(db);
    put_text(db, NULL, "z", "1");
    close_ok(db);
}

static bool is_there(struct io *io, const char *path)
{
    struct io_dir *dir = NULL;
    lsm_status status = io_dir_open(io, path, 0, 0, &dir, &error);
    ck_assert(status == LSM_OK || status == LSM_MISSING);
    io_dir_close(dir);
    return status == LSM_OK;
}

static lsm_status make(lsm_db *db, bool copy)
{
    lsm_checkpoint_options options = LSM_CHECKPOINT_OPTIONS_INIT;
    options.copy = copy;
    error = (lsm_error){0};
    return lsm_checkpoint(db, COPY, &options, &error);
}

/* After a crash: what is there, and whether another checkpoint can be made. */
static void look_after(struct machine *m, bool copy, bool was_made)
{
    ck_ok(sim_open(m->disk, &m->io, &error));
    bool is_made = is_there(m->io, COPY);
    ck_assert(is_made || !was_made);
    if (is_made) {
        expect_whole_at(m->io, COPY);
        ck_ok(db_destroy_on(m->io, COPY, &error));
    }
    m->db = open_on(m->io, DB, AGAIN);
    expect_whole(m->db);
    ck_ok(make(m->db, copy));
    ck_assert(!is_there(m->io, COPY ".partial"));
    expect_whole_at(m->io, COPY);
    expect_whole(m->db);
}

/* False when the checkpoint was finished before that step. */
static bool crash_at(uint64_t step, enum sim_crash crash, bool copy)
{
    struct machine m = start();
    sim_stop_at(m.disk, sim_step_count(m.disk) + step);
    bool was_made = make(m.db, copy) == LSM_OK;
    db_abandon(m.db);
    io_close(m.io);
    sim_crash(m.disk, crash, step);
    look_after(&m, copy, was_made);
    end(&m);
    return !was_made;
}

START_TEST(test_checkpoint_cut_at_each_step_is_whole_or_not_there)
{
    enum sim_crash crash = (enum sim_crash)(_i / 2);
    uint64_t step = 1;
    while (crash_at(step, crash, _i % 2 == 1))
        step++;
    ck_assert_uint_gt(step, 10);
}
END_TEST

static const struct {
    enum sim_fault_kind kind;
    int os_errno;
} faults[] = {
    {SIM_FAULT_READ, EIO},    {SIM_FAULT_WRITE, EIO},   {SIM_FAULT_WRITE, ENOSPC},
    {SIM_FAULT_SYNC, EIO},    {SIM_FAULT_OPEN, EMFILE}, {SIM_FAULT_NAME, EIO},
    {SIM_FAULT_LINK, ENOSPC},
};

START_TEST(test_checkpoint_that_fails_says_so_and_leaves_nothing)
{
    struct machine m = start();
    bool copy = _i % 2 == 1;
    size_t which = (size_t)_i / 2;
    uint64_t failures = 0;
    for (uint64_t at = 0;; at++) {
        sim_fail_after(m.disk, faults[which].kind, at, faults[which].os_errno, false);
        lsm_status status = make(m.db, copy);
        sim_fail_never(m.disk);
        if (status == LSM_OK)
            break;
        failures++;
        ck_assert_msg(error.status == status && error.message[0] != '\0', "no message");
        ck_assert(!is_there(m.io, COPY));
        expect_whole(m.db);
    }
    expect_whole_at(m.io, COPY);
    bool is_never_done = (faults[which].kind == SIM_FAULT_LINK && copy) ||
                         (faults[which].kind == SIM_FAULT_READ && !copy);
    ck_assert(is_never_done || failures > 0);
    ck_assert(!is_there(m.io, COPY ".partial"));
    end(&m);
}
END_TEST

START_TEST(test_checkpoint_copies_where_links_cannot_be)
{
    struct machine m = start();
    uint64_t reads = sim_operation_count(m.disk, SIM_FAULT_READ);
    sim_fail_after(m.disk, SIM_FAULT_LINK, 0, _i == 0 ? EXDEV : _i == 1 ? EPERM : EMLINK, true);
    ck_ok(make(m.db, false));
    ck_assert_uint_gt(sim_operation_count(m.disk, SIM_FAULT_READ), reads);
    sim_fail_never(m.disk);
    expect_whole_at(m.io, COPY);
    end(&m);
}
END_TEST

START_TEST(test_checkpoint_on_a_full_disk_leaves_nothing)
{
    struct machine m = start();
    bool copy = _i == 1;
    uint64_t failures = 0;
    for (uint64_t room = 4096;; room += 12288) {
        struct sim_disk *disk = sim_disk_clone(m.disk);
        struct machine clone = {.disk = disk};
        ck_ok(sim_open(disk, &clone.io, &error));
        clone.db = open_on(clone.io, DB, AGAIN);
        sim_set_capacity(disk, 600 * 1024 + room);
        lsm_status status = make(clone.db, copy);
        sim_set_capacity(disk, 0);
        expect_whole(clone.db);
        ck_assert(status == LSM_OK || status == LSM_NO_SPACE);
        ck_assert(is_there(clone.io, COPY) == (status == LSM_OK));
        ck_assert(!is_there(clone.io, COPY ".partial"));
        if (status == LSM_OK)
            expect_whole_at(clone.io, COPY);
        end(&clone);
        failures += status == LSM_NO_SPACE;
        if (status == LSM_OK)
            break;
    }
    ck_assert_uint_gt(failures, 5);
    end(&m);
}
END_TEST

START_TEST(test_checkpoint_without_memory_leaves_nothing)
{
    struct machine m = start();
    bool copy = _i == 1;
    for (int64_t at = 0;; at++) {
        mem_fail_after(at, false);
        lsm_status status = make(m.db, copy);
        mem_fail_after(-1, false);
        if (status == LSM_OK)
            break;
        ck_assert_int_eq(status, LSM_NO_MEMORY);
        ck_assert(!is_there(m.io, COPY));
    }
    ck_assert(!is_there(m.io, COPY ".partial"));
    expect_whole_at(m.io, COPY);
    expect_whole(m.db);
    end(&m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("checkpoint_crash");
    TCase *c = tcase_create("checkpoint_crash");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, fixture_set_up, fixture_tear_down);
    tcase_add_loop_test(c, test_checkpoint_cut_at_each_step_is_whole_or_not_there, 0, 8);
    tcase_add_loop_test(c, test_checkpoint_that_fails_says_so_and_leaves_nothing, 0,
                        (int)(2 * sizeof faults / sizeof faults[0]));
    tcase_add_loop_test(c, test_checkpoint_copies_where_links_cannot_be, 0, 3);
    tcase_add_loop_test(c, test_checkpoint_on_a_full_disk_leaves_nothing, 0, 2);
    tcase_add_loop_test(c, test_checkpoint_without_memory_leaves_nothing, 0, 2);
    suite_add_tcase(s, c);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
