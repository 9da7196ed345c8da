/* The simulated disk: queues, stops, faults, space, clones, threads. */
#include "tests/unit/io/machine.h"

#include "engine/base/memory.h"
#include "engine/base/random.h"

#include <errno.h>
#include <pthread.h>

/* ---- queues ---------------------------------------------------------------------------------- */

/* Writes 'a' and 'b' to one place at once; the byte that is there in the end, 0 for neither. */
static int race_two_writes(uint64_t seed, bool stop, enum sim_crash how)
{
    struct machine m = new_machine(seed);
    put_file(&m, "a", 'o', SECTOR, true);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_queue *queue = NULL;
    char bytes[2][512];
    struct io_request requests[2];
    ck_ok(io_queue_open(m.io, 4, &queue, err));
    for (size_t i = 0; i < 2; i++) {
        memset(bytes[i], i == 0 ? 'a' : 'b', SECTOR);
        requests[i] = (struct io_request){
            .operation = IO_WRITE, .file = f, .memory = bytes[i], .size = SECTOR};
        io_queue_push(queue, &requests[i]);
    }
    ck_ok(io_queue_submit(queue, err));
    ck_assert_uint_eq(sim_overlap_count(m.disk), 1);
    if (stop)
        sim_stop_at(m.disk, 1);
    io_queue_close(queue);
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(requests[i].os_errno != 0, stop);
    io_file_close(f);
    crash(&m, how, seed);
    size_t size = 0;
    const unsigned char *found = contents(&m, "a", &size);
    ck_assert_uint_eq(size, SECTOR);
    int byte = found[0];
    ck_assert(is_all(&m, "a", byte, SECTOR));
    discard(&m);
    return byte;
}

START_TEST(test_sim_writes_in_flight_land_in_any_order)
{
    unsigned seen[256] = {0};
    for (uint64_t seed = 1; seed <= 100; seed++)
        seen[race_two_writes(seed, false, SIM_CRASH_KILL)]++;
    ck_assert_msg(seen['a'] > 10 && seen['b'] > 10, "a %u b %u", seen['a'], seen['b']);
    ck_assert_uint_eq(seen['o'], 0);
}
END_TEST

START_TEST(test_sim_writes_in_flight_at_the_end_may_land_or_not)
{
    const enum sim_crash ways[] = {SIM_CRASH_KILL, SIM_CRASH_RANDOM};
    for (size_t w = 0; w < 2; w++) {
        unsigned seen[256] = {0};
        for (uint64_t seed = 1; seed <= 200; seed++)
            seen[race_two_writes(seed, true, ways[w])]++;
        ck_assert_msg(seen['a'] > 5 && seen['b'] > 5 && seen['o'] > 5, "a %u b %u o %u", seen['a'],
                      seen['b'], seen['o']);
    }
    for (uint64_t seed = 1; seed <= 50; seed++) {
        ck_assert_int_eq(race_two_writes(seed, true, SIM_CRASH_LOSE_ALL), 'o');
        ck_assert_int_ne(race_two_writes(seed, true, SIM_CRASH_KEEP_ALL), 'o');
    }
}
END_TEST

START_TEST(test_sim_overlap_is_counted_between_writes_in_flight_only)
{
    struct machine m = new_machine(4);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_queue *queue = NULL;
    char bytes[512] = {0};
    struct io_request requests[3];
    const uint64_t offsets[3] = {0, SECTOR, SECTOR - 1};
    ck_ok(io_queue_open(m.io, 4, &queue, err));
    for (size_t i = 0; i < 3; i++)
        requests[i] = (struct io_request){.operation = IO_WRITE,
                                          .file = f,
                                          .memory = bytes,
                                          .size = SECTOR,
                                          .offset = offsets[i]};
    for (size_t i = 0; i < 3; i++) { /* one after the other */
        io_queue_push(queue, &requests[i]);
        ck_assert_ptr_eq(io_queue_reap(queue, true), &requests[i]);
    }
    io_queue_push(queue, &requests[0]); /* side by side */
    io_queue_push(queue, &requests[1]);
    ck_ok(io_queue_submit(queue, err));
    ck_assert_uint_eq(sim_overlap_count(m.disk), 0);
    io_queue_push(queue, &requests[2]);
    ck_ok(io_queue_submit(queue, err));
    ck_assert_uint_eq(sim_overlap_count(m.disk), 1);
    io_queue_close(queue);
    io_file_close(f);
    discard(&m);
}
END_TEST

START_TEST(test_sim_requests_complete_in_seeded_order)
{
    unsigned first_is_last = 0;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct machine m = new_machine(seed);
        put_file(&m, "a", 'o', 8 * PAGE, true);
        struct io_file *f = open_file(&m, "a", 0);
        struct io_queue *queue = NULL;
        static char bytes[8][4096];
        struct io_request requests[8];
        ck_ok(io_queue_open(m.io, 8, &queue, err));
        for (size_t i = 0; i < 8; i++) {
            requests[i] = (struct io_request){.operation = IO_READ,
                                              .file = f,
                                              .memory = bytes[i],
                                              .size = PAGE,
                                              .offset = i * PAGE};
            io_queue_push(queue, &requests[i]);
        }
        const struct io_request *last = NULL;
        for (const struct io_request *r; (r = io_queue_reap(queue, true)) != NULL;)
            last = r;
        first_is_last += last == &requests[0];
        io_queue_close(queue);
        io_file_close(f);
        discard(&m);
    }
    ck_assert_msg(first_is_last > 0 && first_is_last < 50, "%u", first_is_last);
}
END_TEST

START_TEST(test_sim_killed_process_leaves_writes_that_land_later_or_never)
{
    unsigned at_once = 0;
    unsigned later = 0;
    unsigned never = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct machine victim = new_machine(seed);
        put_file(&victim, "wal", 'o', SECTOR, true);
        struct machine survivor;
        boot(&survivor, victim.disk);
        struct io_file *f = open_file(&victim, "wal", RW);
        struct io_lock *lock = NULL;
        struct io_queue *queue = NULL;
        char bytes[512];
        memset(bytes, 'z', sizeof bytes);
        struct io_request r = {.operation = IO_WRITE, .file = f, .memory = bytes, .size = SECTOR};
        ck_ok(io_lock(f, 0, &lock, err));
        ck_ok(io_queue_open(victim.io, 4, &queue, err));
        io_queue_push(queue, &r);
        ck_ok(io_queue_submit(queue, err));
        sim_kill(victim.io);
        ck_assert_int_eq(io_file_sync(f, NULL), LSM_IO);
        io_queue_close(queue);
        ck_assert_int_ne(r.os_errno, 0);
        struct io_file *g = open_file(&survivor, "wal", RW);
        ck_assert(!io_lock_is_held(g, 0));
        bool landed = is_all(&survivor, "wal", 'z', SECTOR);
        at_once += landed;
        for (unsigned i = 0; i < 4; i++)
            ck_ok(io_dir_sync(survivor.dir, err));
        bool landed_later = is_all(&survivor, "wal", 'z', SECTOR);
        later += landed_later && !landed;
        never += !landed_later;
        io_unlock(lock);
        io_file_close(f);
        io_file_close(g);
        shut(&victim);
        discard(&survivor);
    }
    ck_assert_msg(at_once > 10 && later > 10 && never > 5, "at once %u later %u never %u", at_once,
                  later, never);
}
END_TEST

/* ---- stopping -------------------------------------------------------------------------------- */

/* Replaces "CURRENT" as a careful program does; stops at the first failure. */
static lsm_status replace_current(struct machine *m, lsm_error *err)
{
    struct io_file *f = NULL;
    char bytes[100];
    memset(bytes, 'n', sizeof bytes);
    lsm_status status = io_file_open(m->dir, "tmp", RW, 0, &f, err);
    if (status == LSM_OK)
        status = io_file_write(f, bytes, sizeof bytes, 0, err);
    if (status == LSM_OK)
        status = io_file_sync(f, err);
    io_file_close(f);
    if (status == LSM_OK)
        status = io_dir_rename(m->dir, "tmp", "CURRENT", err);
    return status == LSM_OK ? io_dir_sync(m->dir, err) : status;
}

START_TEST(test_sim_stop_at_each_step_leaves_the_old_or_the_new)
{
    struct machine m = new_machine(5);
    put_file(&m, "CURRENT", 'o', 50, true);
    struct sim_disk *start = sim_disk_clone(m.disk);
    uint64_t first = sim_step_count(m.disk);
    ck_ok(replace_current(&m, err));
    uint64_t last = sim_step_count(m.disk);
    ck_assert_uint_eq(last - first, 5); /* create, write, sync, rename, directory sync */
    discard(&m);

    unsigned news = 0;
    for (uint64_t step = first + 1; step <= last; step++)
        for (uint64_t seed = 1; seed <= 40; seed++) {
            boot(&m, sim_disk_clone(start));
            sim_stop_at(m.disk, step);
            lsm_error error = {0};
            ck_assert_int_eq(replace_current(&m, &error), LSM_IO);
            ck_assert_ptr_nonnull(strstr(error.message, OFF));
            ck_assert(sim_is_stopped(m.disk));
            ck_assert_uint_eq(sim_step_count(m.disk), step - 1);
            enum sim_crash how = seed <= 3 ? (enum sim_crash)(seed - 1) : SIM_CRASH_RANDOM;
            crash(&m, how, seed);
            bool is_new = is_all(&m, "CURRENT", 'n', 100);
            ck_assert(is_new || is_all(&m, "CURRENT", 'o', 50));
            ck_assert(!is_new || step == last); /* the rename is step last - 1 */
            news += is_new;
            ck_ok(replace_current(&m, err)); /* the disk works again */
            ck_assert(is_all(&m, "CURRENT", 'n', 100));
            discard(&m);
        }
    ck_assert_uint_gt(news, 5);
    sim_disk_free(start);
}
END_TEST

static lsm_status count_visit(void *context, const char *name, lsm_error *err)
{
    (void)name;
    (void)err;
    ++*(unsigned *)context;
    return LSM_OK;
}

START_TEST(test_sim_stopped_machine_refuses_everything)
{
    struct machine m = new_machine(5);
    put_file(&m, "a", 'o', 2 * PAGE, true);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_file *g = NULL;
    struct io_dir *dir = NULL;
    struct io_mapping *mapping = NULL;
    struct io_lock *lock = NULL;
    struct io *io = NULL;
    lsm_error error = {0};
    char bytes[16] = {0};
    size_t got = 0;
    uint64_t size = 0;
    unsigned visits = 0;
    sim_stop_at(m.disk, sim_step_count(m.disk));
    ck_assert_int_eq(io_file_read(f, bytes, 16, 0, &got, &error), LSM_IO);
    ck_assert_str_eq(error.message, "cannot read 16 bytes at offset 0 of 'db/a': " OFF);
    ck_assert_int_eq(io_file_write(f, bytes, 16, 0, NULL), LSM_IO);
    ck_assert_int_eq(io_file_sync(f, NULL), LSM_IO);
    ck_assert_int_eq(io_file_size(f, &size, NULL), LSM_IO);
    ck_assert_int_eq(io_file_truncate(f, 0, NULL), LSM_IO);
    ck_assert_int_eq(io_file_allocate(f, 0, 99999, NULL), LSM_IO);
    ck_assert_int_eq(io_file_open(m.dir, "a", 0, 0, &g, NULL), LSM_IO);
    ck_assert_int_eq(io_file_open(m.dir, "b", RW, 0, &g, NULL), LSM_IO);
    ck_assert_int_eq(io_dir_open(m.io, "db", 0, 0, &dir, NULL), LSM_IO);
    ck_assert_int_eq(io_dir_list(m.dir, count_visit, &visits, NULL), LSM_IO);
    ck_assert_int_eq(io_dir_sync(m.dir, NULL), LSM_IO);
    ck_assert_int_eq(io_dir_rename(m.dir, "a", "b", NULL), LSM_IO);
    ck_assert_int_eq(io_dir_unlink(m.dir, "a", NULL, NULL), LSM_IO);
    ck_assert_int_eq(io_dir_remove(m.io, "db", NULL), LSM_IO);
    ck_assert_int_eq(io_map(f, PAGE, 0, &mapping, NULL), LSM_IO);
    ck_assert_int_eq(io_lock(f, 0, &lock, NULL), LSM_IO);
    ck_assert_int_eq(sim_open(m.disk, &io, &error), LSM_IO);
    ck_assert_ptr_nonnull(strstr(error.message, OFF));
    ck_assert_uint_eq(visits, 0);
    io_file_close(f);
    crash(&m, SIM_CRASH_KILL, 1);
    ck_assert(is_all(&m, "a", 'o', 2 * PAGE));
    discard(&m);
}
END_TEST

START_TEST(test_sim_stopped_queue_gives_requests_back_with_the_reason)
{
    struct machine m = new_machine(5);
    put_file(&m, "a", 'o', PAGE, true);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_queue *queue = NULL;
    char bytes[512] = {0};
    struct io_request requests[6];
    ck_ok(io_queue_open(m.io, 4, &queue, err));
    sim_stop_at(m.disk, sim_step_count(m.disk) + 3);
    for (size_t i = 0; i < 6; i++) {
        requests[i] =
            (struct io_request){.operation = IO_WRITE, .file = f, .memory = bytes, .size = SECTOR};
        io_queue_push(queue, &requests[i]);
    }
    unsigned failed = 0;
    for (const struct io_request *r; (r = io_queue_reap(queue, true)) != NULL;)
        failed += r->os_errno != 0;
    ck_assert_uint_ge(failed, 4); /* steps 1 and 2 were done, perhaps not reaped */
    ck_assert(sim_is_stopped(m.disk));
    lsm_error error = {0};
    ck_assert_int_eq(io_request_error(&requests[5], &error), LSM_IO);
    ck_assert_str_eq(error.message, "cannot write 512 bytes at offset 0 to 'db/a': " OFF);
    io_queue_close(queue);
    io_file_close(f);
    discard(&m);
}
END_TEST

/* ---- faults and space ------------------------------------------------------------------------ */

START_TEST(test_sim_faults_fail_the_chosen_operation_once_or_for_ever)
{
    struct machine m = new_machine(6);
    put_file(&m, "a", 'o', PAGE, true);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_file *g = NULL;
    char bytes[16] = {0};
    lsm_error error = {0};
    sim_fail_after(m.disk, SIM_FAULT_WRITE, 1, EIO, false);
    ck_ok(io_file_write(f, bytes, 16, 0, err));
    ck_assert_int_eq(io_file_write(f, bytes, 16, 512, &error), LSM_IO);
    ck_assert_str_eq(error.message,
                     "cannot write 16 bytes at offset 512 to 'db/a': Input/output error");
    ck_assert_int_eq(error.os_errno, EIO);
    ck_ok(io_file_write(f, bytes, 16, 0, err));

    sim_fail_after(m.disk, SIM_FAULT_READ, 0, EIO, true);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(io_file_read_exact(f, bytes, 16, 0, NULL), LSM_IO);
    sim_fail_never(m.disk);
    ck_ok(io_file_read_exact(f, bytes, 16, 0, err));

    sim_fail_after(m.disk, SIM_FAULT_ALLOCATE, 0, ENOSPC, false);
    ck_assert_int_eq(io_file_allocate(f, 0, 99999, NULL), LSM_NO_SPACE);
    sim_fail_after(m.disk, SIM_FAULT_OPEN, 0, EMFILE, false);
    ck_assert_int_eq(io_file_open(m.dir, "a", 0, 0, &g, NULL), LSM_IO);
    sim_fail_after(m.disk, SIM_FAULT_NAME, 1, EIO, false);
    ck_ok(io_dir_rename(m.dir, "a", "b", err));
    ck_assert_int_eq(io_dir_unlink(m.dir, "b", NULL, NULL), LSM_IO);
    ck_assert(exists(&m, "b"));
    sim_fail_after(m.disk, SIM_FAULT_SYNC, 0, EIO, false);
    ck_assert_int_eq(io_dir_sync(m.dir, NULL), LSM_IO);
    ck_ok(io_dir_sync(m.dir, err));
    io_file_close(f);
    discard(&m);
}
END_TEST

START_TEST(test_sim_fault_reaches_queued_requests)
{
    struct machine m = new_machine(6);
    put_file(&m, "a", 'o', PAGE, true);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_queue *queue = NULL;
    char bytes[16] = {0};
    ck_ok(io_queue_open(m.io, 4, &queue, err));
    for (int operation = 0; operation < 2; operation++) {
        struct io_request r = {.operation = operation == 0 ? IO_READ : IO_WRITE,
                               .file = f,
                               .memory = bytes,
                               .size = 16};
        sim_fail_after(m.disk, operation == 0 ? SIM_FAULT_READ : SIM_FAULT_WRITE, 0, EIO, false);
        for (int turn = 0; turn < 2; turn++) {
            io_queue_push(queue, &r);
            ck_assert_ptr_eq(io_queue_reap(queue, true), &r);
            ck_assert_int_eq(r.os_errno, turn == 0 ? EIO : 0);
        }
    }
    io_queue_close(queue);
    io_file_close(f);
    discard(&m);
}
END_TEST

/* As on ext4: the failed pages count as clean, a second sync succeeds and brings nothing back. */
START_TEST(test_sim_failed_sync_loses_the_data_for_good)
{
    struct machine m = new_machine(6);
    put_file(&m, "a", 'o', PAGE, true);
    struct io_file *f = open_file(&m, "a", RW);
    ck_ok(io_file_write(f, "new", 3, 0, err));
    sim_fail_after(m.disk, SIM_FAULT_SYNC, 0, EIO, false);
    lsm_error error = {0};
    ck_assert_int_eq(io_file_sync(f, &error), LSM_IO);
    ck_assert_str_eq(error.message, "cannot sync 'db/a', its last writes may be lost: "
                                    "Input/output error");
    ck_ok(io_file_sync(f, err));
    char got[3];
    ck_ok(io_file_read_exact(f, got, 3, 0, err));
    ck_assert_mem_eq(got, "new", 3); /* the page cache still shows it */
    io_file_close(f);
    crash(&m, SIM_CRASH_KEEP_ALL, 1);
    ck_assert(is_all(&m, "a", 'o', PAGE));
    discard(&m);
}
END_TEST

/* A mapping of an earlier life must not make it kinder. */
START_TEST(test_sim_failed_sync_loses_the_data_of_a_once_mapped_file_too)
{
    struct machine m = new_machine(6);
    put_file(&m, "a", 'o', PAGE, true);
    struct io_file *f = open_file(&m, "a", RW);
    io_unmap(map_file(f, PAGE));
    io_file_close(f);
    crash(&m, SIM_CRASH_LOSE_ALL, 1);
    f = open_file(&m, "a", RW);
    ck_ok(io_file_write(f, "new", 3, 0, err));
    sim_fail_after(m.disk, SIM_FAULT_SYNC, 0, EIO, false);
    ck_assert_int_eq(io_file_sync(f, NULL), LSM_IO);
    io_file_close(f);
    crash(&m, SIM_CRASH_KEEP_ALL, 1);
    ck_assert(is_all(&m, "a", 'o', PAGE));
    discard(&m);
}
END_TEST

START_TEST(test_sim_capacity_is_a_full_disk_until_something_is_removed)
{
    struct machine m = new_machine(6);
    put_file(&m, "a", 'a', 4 * PAGE, true);
    sim_set_capacity(m.disk, 8 * PAGE);
    put_file(&m, "b", 'b', 4 * PAGE, true);
    struct io_file *f = open_file(&m, "c", RW);
    lsm_error error = {0};
    ck_assert_int_eq(io_file_write(f, "x", 1, 0, &error), LSM_NO_SPACE);
    ck_assert_str_eq(error.message,
                     "cannot write 1 bytes at offset 0 to 'db/c': No space left on device");
    ck_assert_int_eq(io_file_allocate(f, 0, PAGE, NULL), LSM_NO_SPACE);
    struct io_file *a = open_file(&m, "a", RW);
    ck_ok(io_file_write(a, "x", 1, 0, err)); /* in place */
    char bytes[2 * 4096] = {0};
    ck_assert_int_eq(io_file_write(a, bytes, sizeof bytes, 4 * PAGE - 100, NULL), LSM_NO_SPACE);
    ck_ok(io_file_read_exact(a, bytes + PAGE, 101, 4 * PAGE - 101, err));
    ck_assert_mem_eq(bytes + PAGE, "a\0\0", 3); /* what fitted was written */
    ck_ok(io_dir_unlink(m.dir, "a", NULL, err));
    ck_assert_int_eq(io_file_write(f, "x", 1, 0, NULL), LSM_NO_SPACE); /* still open */
    io_file_close(a);
    ck_ok(io_file_write(f, "x", 1, 0, err));
    ck_ok(io_file_allocate(f, 0, 4 * PAGE, err));
    ck_assert_int_eq(io_file_allocate(f, 0, 5 * PAGE, NULL), LSM_NO_SPACE);
    ck_ok(io_dir_rename(m.dir, "c", "b", err)); /* frees what it replaces */
    ck_ok(io_file_allocate(f, 0, 8 * PAGE, err));
    io_file_close(f);
    discard(&m);
}
END_TEST

/* ---- clones and looking in ------------------------------------------------------------------- */

START_TEST(test_sim_clone_is_independent)
{
    struct machine m = new_machine(8);
    put_file(&m, "a", 'd', 2 * PAGE, true);
    put_file(&m, "a", 'p', 2 * PAGE, false);
    struct io_file *f = open_file(&m, "a", RW);
    struct io_mapping *mapping = map_file(f, 2 * PAGE);
    ((char *)io_mapping_memory(mapping))[PAGE] = 'm';
    struct machine lost;
    struct machine kept;
    struct sim_disk *clones[2] = {sim_disk_clone(m.disk), sim_disk_clone(m.disk)};
    sim_crash(clones[0], SIM_CRASH_LOSE_ALL, 1);
    sim_crash(clones[1], SIM_CRASH_KEEP_ALL, 1);
    boot(&lost, clones[0]);
    boot(&kept, clones[1]);
    ck_assert(is_all(&lost, "a", 'd', 2 * PAGE));
    size_t size = 0;
    const unsigned char *bytes = contents(&kept, "a", &size);
    ck_assert_uint_eq(size, 2 * PAGE);
    ck_assert_int_eq(bytes[PAGE], 'm');
    put_file(&lost, "a", 'x', PAGE, true);
    put_file(&kept, "b", 'y', PAGE, true);
    ck_assert(!exists(&m, "b"));
    ((char *)io_mapping_memory(mapping))[PAGE] = 'p';
    ck_assert(is_all(&m, "a", 'p', 2 * PAGE));
    io_unmap(mapping);
    io_file_close(f);
    discard(&m);
    ck_assert(is_all(&lost, "a", 'x', PAGE)); /* outlives the original */
    discard(&lost);
    discard(&kept);
}
END_TEST

START_TEST(test_sim_clone_has_writes_in_flight_and_unsynced_names)
{
    unsigned landed = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct machine m = new_machine(seed);
        put_file(&m, "a", 'o', SECTOR, true);
        ck_ok(io_dir_rename(m.dir, "a", "b", err));
        struct io_file *f = open_file(&m, "b", RW);
        struct io_queue *queue = NULL;
        char bytes[512];
        memset(bytes, 'n', sizeof bytes);
        struct io_request r = {.operation = IO_WRITE, .file = f, .memory = bytes, .size = SECTOR};
        ck_ok(io_queue_open(m.io, 4, &queue, err));
        io_queue_push(queue, &r);
        ck_ok(io_queue_submit(queue, err));
        const enum sim_crash ways[] = {SIM_CRASH_LOSE_ALL, SIM_CRASH_KEEP_ALL, SIM_CRASH_KILL};
        for (size_t w = 0; w < 3; w++) {
            struct machine copy = {.disk = sim_disk_clone(m.disk)};
            sim_crash(copy.disk, ways[w], seed);
            ck_assert_int_eq(exists(&copy, "b"), ways[w] != SIM_CRASH_LOSE_ALL);
            bool is_new = is_all(&copy, exists(&copy, "b") ? "b" : "a", 'n', SECTOR);
            if (ways[w] == SIM_CRASH_KILL)
                landed += is_new;
            else
                ck_assert_int_eq(is_new, ways[w] == SIM_CRASH_KEEP_ALL);
            sim_disk_free(copy.disk);
        }
        io_queue_close(queue);
        io_file_close(f);
        discard(&m);
    }
    ck_assert_msg(landed > 10 && landed < 40, "%u", landed);
}
END_TEST

START_TEST(test_sim_clone_shares_pages)
{
    struct machine m = new_machine(8);
    for (int i = 0; i < 8; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        put_file(&m, name, i, 64 * PAGE, true);
    }
    uint64_t before = mem_allocation_count();
    struct sim_disk *clone = sim_disk_clone(m.disk);
    ck_assert_uint_lt(mem_allocation_count() - before, 80); /* of 512 pages */
    sim_disk_free(clone);
    discard(&m);
}
END_TEST

START_TEST(test_sim_overwrite_damages_durably_and_inside_only)
{
    struct machine m = new_machine(8);
    put_file(&m, "a", 'o', 100, true);
    lsm_error error = {0};
    ck_ok(sim_overwrite(m.disk, "db", "a", 50, "DAMAGE", 6, err));
    crash(&m, SIM_CRASH_LOSE_ALL, 1);
    size_t size = 0;
    const unsigned char *bytes = contents(&m, "a", &size);
    ck_assert_uint_eq(size, 100);
    ck_assert_mem_eq(bytes + 49, "oDAMAGEo", 8);
    ck_assert_int_eq(sim_overwrite(m.disk, "db", "a", 98, "xyz", 3, &error), LSM_INVALID);
    ck_assert_int_eq(sim_overwrite(m.disk, "db", "none", 0, "x", 1, &error), LSM_MISSING);
    ck_assert_str_eq(error.message, "there is no 'db/none' on the simulated disk");
    discard(&m);
}
END_TEST

/* ---- against a plain array ------------------------------------------------------------------- */

#define MODEL_SIZE ((size_t)40000)

struct model {
    unsigned char bytes[40000];
    size_t size;
    size_t mapped; /* bytes of the file that the mapping shows */
};

static void random_change(struct random_state *random, struct io_file *f, struct model *model,
                          struct io_mapping **mapping)
{
    static unsigned char bytes[40000];
    size_t offset = (size_t)random_below(random, MODEL_SIZE);
    size_t size = (size_t)random_below(random, MODEL_SIZE - offset) + 1;
    memset(bytes, (int)random_below(random, 256), size);
    switch (random_below(random, 6)) {
    case 0:
    case 1:
        ck_ok(io_file_write(f, bytes, size, offset, err));
        memcpy(model->bytes + offset, bytes, size);
        if (offset + size > model->size)
            model->size = offset + size;
        return;
    case 2:
        if (*mapping != NULL)
            return; /* nobody cuts a mapped file */
        ck_ok(io_file_truncate(f, offset, err));
        memset(model->bytes + offset, 0, MODEL_SIZE - offset);
        model->size = offset;
        return;
    case 3:
        ck_ok(io_file_allocate(f, offset, size, err));
        if (offset + size > model->size)
            model->size = offset + size;
        return;
    case 4:
        if (*mapping == NULL && model->size > 0) {
            ck_ok(io_file_allocate(f, 0, model->size, err));
            *mapping = map_file(f, model->size);
            model->mapped = model->size;
        } else if (*mapping != NULL) {
            io_unmap(*mapping);
            *mapping = NULL;
        }
        return;
    default:
        if (*mapping != NULL && offset < model->size && random_below(random, 2) == 0 &&
            model->mapped >= model->size) {
            size = size < model->size - offset ? size : model->size - offset;
            memcpy((char *)io_mapping_memory(*mapping) + offset, bytes, size);
            memcpy(model->bytes + offset, bytes, size);
        } else {
            ck_ok(io_file_sync(f, err));
        }
    }
}

/* Random changes, looked at as they are, after a sync and a cut, and in clones kept or killed. */
START_TEST(test_sim_random_changes_match_a_plain_array)
{
    static struct model model;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct random_state random = random_seeded(seed);
        struct machine m = new_machine(seed);
        struct io_file *f = open_file(&m, "a", RW);
        struct io_mapping *mapping = NULL;
        ck_ok(io_dir_sync(m.dir, err));
        memset(&model, 0, sizeof model);
        for (unsigned i = 0; i < 60; i++) {
            random_change(&random, f, &model, &mapping);
            size_t size = 0;
            const unsigned char *bytes = contents(&m, "a", &size);
            ck_assert_msg(size == model.size && memcmp(bytes, model.bytes, size) == 0,
                          "seed %u change %u", (unsigned)seed, i);
            struct machine copy = {.disk = sim_disk_clone(m.disk)};
            sim_crash(copy.disk, i % 2 == 0 ? SIM_CRASH_KEEP_ALL : SIM_CRASH_KILL, i);
            bytes = contents(&copy, "a", &size);
            ck_assert_msg(size == model.size && memcmp(bytes, model.bytes, size) == 0,
                          "seed %u change %u, clone", (unsigned)seed, i);
            sim_disk_free(copy.disk);
        }
        ck_ok(io_file_sync(f, err));
        io_unmap(mapping);
        io_file_close(f);
        crash(&m, SIM_CRASH_LOSE_ALL, 1);
        size_t size = 0;
        const unsigned char *bytes = contents(&m, "a", &size);
        ck_assert_msg(size == model.size && memcmp(bytes, model.bytes, size) == 0, "seed %u, cut",
                      (unsigned)seed);
        discard(&m);
    }
}
END_TEST

/* ---- threads ----------------------------------------------------------------------------------
 */

struct worker {
    struct sim_disk *disk;
    int index;
};

static void *work(void *context)
{
    const struct worker *w = context;
    struct machine m;
    char name[16];
    boot(&m, w->disk);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "%d-%d", w->index, i % 7);
        put_file(&m, name, i, 3000, i % 5 == 0);
        struct sim_disk *clone = i % 10 == 0 ? sim_disk_clone(w->disk) : NULL;
        if (clone != NULL)
            sim_crash(clone, SIM_CRASH_RANDOM, (uint64_t)i);
        sim_disk_free(clone);
        ck_ok(io_dir_unlink(m.dir, name, NULL, err));
    }
    shut(&m);
    return NULL;
}

START_TEST(test_sim_serves_threads)
{
    struct sim_disk *disk = sim_disk_new(10);
    struct worker workers[3];
    pthread_t threads[3];
    struct machine m;
    boot(&m, disk);
    for (int i = 0; i < 3; i++) {
        workers[i] = (struct worker){.disk = disk, .index = i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    unsigned visits = 0;
    ck_ok(io_dir_list(m.dir, count_visit, &visits, err));
    ck_assert_uint_eq(visits, 0);
    discard(&m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("simulated disk");
    TCase *cases = tcase_create("sim");
    const TTest *const tests[] = {
        test_sim_writes_in_flight_land_in_any_order,
        test_sim_writes_in_flight_at_the_end_may_land_or_not,
        test_sim_overlap_is_counted_between_writes_in_flight_only,
        test_sim_requests_complete_in_seeded_order,
        test_sim_killed_process_leaves_writes_that_land_later_or_never,
        test_sim_stop_at_each_step_leaves_the_old_or_the_new,
        test_sim_stopped_machine_refuses_everything,
        test_sim_stopped_queue_gives_requests_back_with_the_reason,
        test_sim_faults_fail_the_chosen_operation_once_or_for_ever,
        test_sim_fault_reaches_queued_requests,
        test_sim_failed_sync_loses_the_data_for_good,
        test_sim_failed_sync_loses_the_data_of_a_once_mapped_file_too,
        test_sim_capacity_is_a_full_disk_until_something_is_removed,
        test_sim_clone_is_independent,
        test_sim_clone_has_writes_in_flight_and_unsynced_names,
        test_sim_clone_shares_pages,
        test_sim_overwrite_damages_durably_and_inside_only,
        test_sim_random_changes_match_a_plain_array,
        test_sim_serves_threads,
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(cases, tests[i]);
    suite_add_tcase(suite, cases);
    return backend_run(suite);
}
