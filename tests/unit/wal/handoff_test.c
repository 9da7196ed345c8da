/* Several handles over one log that all live: whatever one leaves, the next goes on from there. */
#include "tests/unit/wal/crew.h"

#include <errno.h>
#include <pthread.h>

#define MEMBERS 4

/* ---- by turns -------------------------------------------------------------------------------- */

struct turns {
    struct rig rig;
    struct member members[MEMBERS]; /* the first is the founder */
    struct random_state random;
};

static bool turns_begin(struct turns *t, int backend, bool refuse_mapping, uint64_t seed)
{
    *t = (struct turns){.random = random_seeded(seed)};
    printf("seed %" PRIu64 "\n", seed);
    if (!rig_init(&t->rig, (enum rig_backend)backend, seed))
        return false;
    t->rig.options.refuse_mapping = refuse_mapping;
    rig_start(&t->rig, NULL);
    t->members[0].wal = t->rig.wal;
    for (size_t i = 1; i < MEMBERS; i++)
        member_join(&t->members[i], &t->rig);
    return true;
}

static void turn(struct turns *t)
{
    t->rig.wal = t->members[random_below(&t->random, MEMBERS)].wal;
}

static void leave_all(struct turns *t)
{
    for (size_t i = 1; i < MEMBERS; i++) {
        if (t->members[i].wal != NULL)
            member_leave(&t->members[i]);
    }
    t->rig.wal = t->members[0].wal;
}

static void put(struct turns *t, uint64_t *end)
{
    size_t size = rig_batch_size(t->rig.salt, t->rig.sequence + 1, wal_max_batch(t->rig.wal));
    while (!wal_has_room_locked(t->rig.wal, size)) {
        turn(t);
        ck_ok(wal_write_locked(t->rig.wal, rig_staged(&t->rig), err));
        turn(t);
    }
    ck_ok(rig_put_sized(&t->rig, size, end, err));
    ck_assert_uint_eq(*end, rig_staged(&t->rig));
}

static void do_something(struct turns *t)
{
    struct rig *rig = &t->rig;
    uint64_t end;
    turn(t);
    put(t, &end);
    turn(t);
    switch (random_below(&t->random, 12)) {
    case 0:
    case 1:
        ck_ok(wal_sync_locked(rig->wal, end, err));
        ck_assert_uint_ge(rig_durable(rig), end);
        break;
    case 2:
    case 3:
        ck_ok(wal_write_begin_locked(rig->wal, err));
        ck_ok(wal_write_finish_locked(rig->wal, err));
        break;
    case 4:
        ck_ok(wal_prepare(rig->wal, err));
        break;
    case 7:
        if (random_below(&t->random, 4) != 0)
            break;
        ck_ok(wal_sync_locked(rig->wal, end, err));
        ck_ok(wal_rest_locked(rig->wal, rig->from, err));
        break;
    case 5:
        if (random_below(&t->random, 4) != 0)
            break;
        rig->from = end;
        rig->from_chain = rig->layout->commit.chain;
        ck_ok(wal_forget_locked(rig->wal, end, err));
        ck_assert_uint_eq(crew_census(rig).segments, 1);
        ck_assert_uint_le(crew_census(rig).spares, 2);
        break;
    case 6: {
        size_t who = 1 + (size_t)random_below(&t->random, MEMBERS - 1);
        member_leave(&t->members[who]);
        member_join(&t->members[who], rig);
        rig->wal = t->members[who].wal;
        break;
    }
    default:
        break;
    }
    ck_assert_uint_le(rig_written(rig), rig_staged(rig));
    ck_assert_uint_le(rig_durable(rig), rig_written(rig));
}

static void check_log(struct rig *rig, uint64_t staged, uint64_t last)
{
    struct wal_end end;
    ck_ok(rig_replay(rig, &end, err));
    ck_assert_uint_eq(end.position, staged);
    if (end.record_count > 0)
        ck_assert_uint_eq(end.last_sequence, last);
}

static void take_turns(int backend, bool refuse_mapping, uint64_t seed)
{
    struct turns t;
    if (!turns_begin(&t, backend, refuse_mapping, seed))
        return;
    for (unsigned i = 0; i < 500; i++)
        do_something(&t);
    uint64_t staged = rig_staged(&t.rig);
    ck_assert_uint_gt(staged, 8 * RIG_SEGMENT);
    leave_all(&t);
    rig_abandon(&t.rig);
    check_log(&t.rig, staged, t.rig.sequence);
    rig_release(&t.rig);
}

START_TEST(test_handoff_random_turns_lose_nothing)
{
    take_turns(_i, false, 100);
}
END_TEST

START_TEST(test_handoff_random_turns_lose_nothing_without_a_mapping)
{
    take_turns(_i, true, 101);
}
END_TEST

/* The founder is nobody special: it may leave first, and the last one closes. */
START_TEST(test_handoff_last_member_closes_for_all)
{
    struct turns t;
    if (!turns_begin(&t, _i, false, 102))
        return;
    for (unsigned i = 0; i < 100; i++)
        do_something(&t);
    struct rig *rig = &t.rig;
    wal_detach(t.members[0].wal);
    member_leave(&t.members[1]);
    member_leave(&t.members[2]);
    uint64_t end;
    rig->wal = t.members[3].wal;
    ck_ok(rig_put_sized(rig, 100, &end, err));
    ck_ok(wal_sync_locked(rig->wal, end, err));
    struct io_dir *dir = t.members[3].options.dir;
    struct io *io = t.members[3].options.io;
    uint64_t staged = rig_staged(rig);
    rig_close_clean(rig);
    io_dir_close(dir);
    io_close(io);
    ck_assert_uint_eq(crew_census(rig).segments, 0);
    ck_assert_uint_gt(crew_census(rig).spares, 0);
    ck_assert_uint_le(crew_census(rig).spares, 2);
    struct wal_end found;
    rig_start(rig, &found);
    ck_assert_uint_eq(found.position, staged);
    ck_assert_uint_eq(found.record_count, 0);
    rig_release(rig);
}
END_TEST

START_TEST(test_handoff_joining_opens_nothing_but_the_stage_file)
{
    struct rig rig;
    ck_assert(rig_init(&rig, RIG_SIM, 103));
    rig_start(&rig, NULL);
    uint64_t end, steps = sim_step_count(rig.disk);
    uint64_t opens = sim_operation_count(rig.disk, SIM_FAULT_OPEN);
    struct member member;
    member_join(&member, &rig);
    struct census census = crew_census(&rig);
    ck_assert_uint_eq(sim_step_count(rig.disk), steps);
    ck_assert_uint_le(sim_operation_count(rig.disk, SIM_FAULT_OPEN), opens + 2);
    ck_assert_uint_eq(census.segments, 1);
    ck_assert_uint_eq(wal_max_batch(member.wal), wal_max_batch(rig.wal));
    ck_assert_ptr_nonnull(strstr(wal_path_text(member.wal), "past the page cache"));
    struct wal *founder = rig.wal;
    rig.wal = member.wal;
    ck_ok(rig_put_sized(&rig, 10, &end, err));
    ck_ok(wal_sync_locked(rig.wal, end, err));
    rig.wal = founder;
    ck_ok(wal_sync_locked(rig.wal, end, err));
    ck_assert_uint_eq(crew_census(&rig).segments, 1);
    member_leave(&member);
    rig_release(&rig);
}
END_TEST

START_TEST(test_handoff_joining_another_stage_file_is_refused)
{
    struct rig rig;
    ck_assert(rig_init(&rig, RIG_SIM, 104));
    rig_start(&rig, NULL);
    struct wal *wal = NULL;
    lsm_error error = {0};
    rig.layout->commit.log.stage_size += 4096;
    ck_assert_int_eq(wal_attach(&rig.options, &wal, &error), LSM_CORRUPT);
    ck_assert_ptr_null(wal);
    ck_assert_ptr_nonnull(strstr(error.message, "STAGE"));
    rig.layout->commit.log.stage_size -= 4096;
    rig.layout->commit.log.nonce[3] ^= 1; /* one of the same size, from another life */
    ck_assert_int_eq(wal_attach(&rig.options, &wal, &error), LSM_CORRUPT);
    ck_assert_ptr_null(wal);
    rig_release(&rig);
}
END_TEST

/* One that was away while the ring went round many times. */
START_TEST(test_handoff_member_comes_back_after_many_laps)
{
    struct rig rig;
    struct member member;
    ck_assert(rig_init(&rig, RIG_POSIX, 105));
    rig.options.stage_size = rig.options.segment_size = (uint64_t)5 << 20;
    rig_start(&rig, NULL);
    member_join(&member, &rig);
    struct wal *const wals[] = {rig.wal, member.wal};
    uint64_t end;
    for (unsigned round = 0; round < 4; round++) {
        rig.wal = wals[round % 2];
        for (unsigned i = 0; i < (round < 2 ? 1 : 20); i++)
            ck_ok(rig_put_sized(&rig, (size_t)1 << 20, &end, err));
        ck_ok(wal_write_locked(rig.wal, end, err));
    }
    rig.wal = wals[0];
    ck_ok(rig_put_sized(&rig, 100, &end, err));
    member_leave(&member);
    rig_abandon(&rig);
    check_log(&rig, end, rig.sequence);
    rig_release(&rig);
}
END_TEST

/* A member that waited long enough to have another one's segment open takes the newest. */
START_TEST(test_handoff_failed_write_of_one_is_sealed_by_another)
{
    struct rig rig;
    struct member member;
    ck_assert(rig_init(&rig, RIG_SIM, 106));
    rig_start(&rig, NULL);
    member_join(&member, &rig);
    struct wal *founder = rig.wal;
    uint64_t end;
    ck_ok(rig_put_sized(&rig, 1000, &end, err));
    ck_ok(wal_sync_locked(member.wal, end, err));
    uint64_t segment = rig.layout->commit.segment_number, written = rig_written(&rig);
    ck_ok(rig_put_sized(&rig, 1000, &end, err));
    sim_fail_after(rig.disk, SIM_FAULT_WRITE, 0, EIO, false);
    ck_assert_int_eq(wal_sync_locked(founder, end, NULL), LSM_IO);
    ck_ok(wal_sync_locked(member.wal, end, err));
    ck_assert_uint_gt(rig.layout->commit.segment_number, segment);
    ck_assert_uint_eq(rig.layout->commit.segment_start, written);
    ck_ok(rig_put_sized(&rig, 1000, &end, err));
    ck_ok(wal_sync_locked(founder, end, err));
    ck_ok(wal_forget_locked(founder, end, err)); /* which may not recycle it */
    ck_assert_uint_eq(crew_census(&rig).spares, 0);
    member_leave(&member);
    rig_release(&rig);
}
END_TEST

/* A file of any name may lie in the folder, and numbers go on above it. */
START_TEST(test_handoff_huge_file_numbers_go_without_spares)
{
    struct rig rig;
    struct io_file *file = NULL;
    uint64_t end;
    ck_assert(rig_init(&rig, RIG_SIM, 108));
    ck_ok(io_file_open(rig.options.dir, "9999999999999.spare", IO_FILE_WRITE | IO_FILE_CREATE, 0,
                       &file, err));
    io_file_close(file);
    rig_start(&rig, NULL);
    for (unsigned i = 0; i < 40; i++) {
        ck_ok(rig_put_sized(&rig, 4000, &end, err));
        ck_ok(wal_sync_locked(rig.wal, end, err));
        ck_ok(wal_prepare(rig.wal, err));
        rig.from = end;
        rig.from_chain = rig.layout->commit.chain;
        ck_ok(wal_forget_locked(rig.wal, end, err));
    }
    ck_assert_uint_gt(crew_census(&rig).newest, UINT64_C(9999999999999));
    ck_assert_uint_eq(crew_census(&rig).segments, 1);
    ck_assert_uint_eq(crew_census(&rig).spares, 0);
    rig_abandon(&rig);
    check_log(&rig, end, rig.sequence);
    rig_release(&rig);
}
END_TEST

/* ---- the append lock's dead owner -------------------------------------------------------------
 */

START_TEST(test_handoff_staged_record_of_the_dead_is_published_by_another)
{
    struct rig rig;
    struct member member;
    ck_assert(rig_init(&rig, RIG_SIM, 120));
    rig.options.refuse_mapping = _i == 1;
    rig_start(&rig, NULL);
    member_join(&member, &rig);
    uint64_t end, found_end = 0, sequence = 0;
    lsm_slice batch = {0}, piece = {"abc", 3};
    bool found = true;
    ck_ok(wal_stage_again_locked(rig.wal, &found, &sequence, &batch, &end, err));
    ck_assert(!found);
    ck_ok(rig_put_sized(&rig, 700, &end, err));
    for (unsigned i = 0; i < 2; i++) {
        ck_ok(wal_stage_again_locked(rig.wal, &found, &sequence, &batch, &end, err));
        ck_assert(!found);
        ck_ok(wal_append_takeover_locked(rig.wal, err));
    }
    ck_ok(wal_stage_locked(member.wal, 2, &piece, 1, &end, err)); /* and dies */
    ck_ok(wal_append_takeover_locked(rig.wal, err));
    ck_ok(wal_stage_again_locked(rig.wal, &found, &sequence, &batch, &found_end, err));
    ck_assert(found);
    ck_assert_uint_eq(sequence, 2);
    ck_assert_uint_eq(found_end, end);
    ck_assert_uint_eq(batch.size, 3);
    ck_assert_int_eq(memcmp(batch.data, "abc", 3), 0);
    wal_publish_locked(rig.wal);
    ck_assert_uint_eq(rig_staged(&rig), end);
    ck_ok(wal_stage_locked(rig.wal, 3, &piece, 1, &end, err));
    wal_publish_locked(rig.wal);
    ck_ok(wal_sync_locked(member.wal, end, err));
    member_leave(&member);
    rig_release(&rig);
}
END_TEST

/* Whole, but it continues another record than the one that is the last. */
START_TEST(test_handoff_staged_record_off_the_chain_is_not_found)
{
    struct rig rig;
    ck_assert(rig_init(&rig, RIG_SIM, 121));
    rig_start(&rig, NULL);
    uint64_t end, sequence;
    lsm_slice batch, piece = {"abc", 3};
    bool found;
    ck_ok(wal_stage_locked(rig.wal, 1, &piece, 1, &end, err));
    rig.layout->commit.chain = 77;
    ck_ok(wal_stage_again_locked(rig.wal, &found, &sequence, &batch, &end, err));
    ck_assert(!found);
    ck_ok(wal_append_takeover_locked(rig.wal, err));
    ck_ok(wal_stage_again_locked(rig.wal, &found, &sequence, &batch, &end, err));
    ck_assert(found);
    rig_release(&rig);
}
END_TEST

/* ---- a write that is cut short in a record ----------------------------------------------------
 */

START_TEST(test_handoff_seal_after_a_failed_write_is_the_end_of_a_record)
{
    const size_t mib = (size_t)1 << 20;
    struct rig rig;
    struct wal_end found;
    ck_assert(rig_init(&rig, RIG_SIM, 107));
    rig.options.stage_size = rig.options.segment_size = 8 * mib;
    rig_start(&rig, NULL);
    uint64_t first, end;
    ck_ok(rig_put_sized(&rig, 100, &first, err));
    ck_ok(rig_put_sized(&rig, 3 * mib, &end, err));
    sim_fail_after(rig.disk, SIM_FAULT_WRITE, 1 + (unsigned)_i, EIO, false);
    ck_assert_int_eq(wal_write_locked(rig.wal, end, NULL), LSM_IO);
    ck_assert_uint_eq(rig_written(&rig), first);
    ck_ok(rig_put_sized(&rig, 100, &end, err));
    ck_ok(wal_sync_locked(rig.wal, end, err));
    ck_assert_uint_eq(rig.layout->commit.segment_start, first);
    rig_crash(&rig, SIM_CRASH_LOSE_ALL, 1);
    ck_ok(rig_replay(&rig, &found, err));
    ck_assert_uint_eq(found.record_count, 3);
    rig_release(&rig);
}
END_TEST

/* ---- threads --------------------------------------------------------------------------------- */

struct worker {
    struct rig *rig;
    struct wal *wal;
    _Atomic bool *failed;
    uint64_t seed;
};

static bool worked(struct worker *w, lsm_status status, const lsm_error *error)
{
    if (status == LSM_OK)
        return true;
    fprintf(stderr, "%s\n", error->message);
    atomic_store(w->failed, true);
    return false;
}

static void *work(void *argument)
{
    struct worker *w = argument;
    struct random_state random = random_seeded(w->seed);
    struct shm_locks *locks = &w->rig->layout->locks;
    struct shm_commit *commit = &w->rig->layout->commit;
    uint8_t bytes[400];
    lsm_error error;
    for (unsigned i = 0; i < 250 && !atomic_load(w->failed);) {
        size_t size = (size_t)random_below(&random, sizeof bytes);
        uint64_t end = 0;
        shm_lock(&locks->append);
        bool room = wal_has_room_locked(w->wal, size);
        if (room) {
            uint64_t n = ++w->rig->sequence;
            lsm_slice piece = {bytes, size};
            rig_fill(w->rig->salt, n, bytes, size);
            w->rig->salts[n] = w->rig->salt;
            (void)worked(w, wal_stage_locked(w->wal, n, &piece, 1, &end, &error), &error);
            wal_publish_locked(w->wal);
            i++;
        }
        shm_unlock(&locks->append);
        unsigned dice = (unsigned)random_below(&random, 32);
        if (dice == 0)
            (void)worked(w, wal_prepare(w->wal, &error), &error);
        if (room && dice > 4)
            continue;
        if (dice % 2 == 0 || !room)
            shm_lock(&locks->sync);
        else if (shm_trylock(&locks->sync) == SHM_LOCK_BUSY)
            continue;
        lsm_status status = dice == 4 ? wal_forget_locked(w->wal, 0, &error)
                            : room    ? wal_sync_locked(w->wal, end, &error)
                                   : wal_write_locked(w->wal, atomic_load(&commit->staged), &error);
        shm_unlock(&locks->sync);
        (void)worked(w, status, &error);
    }
    return NULL;
}

static void work_together(int backend, bool refuse_mapping)
{
    struct turns t;
    _Atomic bool failed = false;
    pthread_t threads[MEMBERS];
    struct worker workers[MEMBERS];
    if (!turns_begin(&t, backend, refuse_mapping, 110))
        return;
    ck_assert_int_eq(shm_lock_init(&t.rig.layout->locks.append), 0);
    ck_assert_int_eq(shm_lock_init(&t.rig.layout->locks.sync), 0);
    for (size_t i = 0; i < MEMBERS; i++) {
        workers[i] = (struct worker){&t.rig, t.members[i].wal, &failed, 110 + i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < MEMBERS; i++)
        pthread_join(threads[i], NULL);
    ck_assert(!failed);
    uint64_t staged = rig_staged(&t.rig);
    leave_all(&t);
    rig_abandon(&t.rig);
    ck_assert_uint_eq(t.rig.sequence, MEMBERS * 250);
    check_log(&t.rig, staged, t.rig.sequence);
    rig_release(&t.rig);
}

START_TEST(test_handoff_threads_with_handles_of_their_own_lose_nothing)
{
    work_together(_i, false);
}
END_TEST

START_TEST(test_handoff_threads_lose_nothing_without_a_mapping)
{
    work_together(_i, true);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal/handoff");
    TCase *tests = tcase_create("handoff");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_handoff_random_turns_lose_nothing, 0, RIG_BACKENDS);
    tcase_add_loop_test(tests, test_handoff_random_turns_lose_nothing_without_a_mapping, 0,
                        RIG_BACKENDS);
    tcase_add_loop_test(tests, test_handoff_last_member_closes_for_all, 0, RIG_BACKENDS);
    tcase_add_test(tests, test_handoff_joining_opens_nothing_but_the_stage_file);
    tcase_add_test(tests, test_handoff_joining_another_stage_file_is_refused);
    tcase_add_test(tests, test_handoff_member_comes_back_after_many_laps);
    tcase_add_test(tests, test_handoff_failed_write_of_one_is_sealed_by_another);
    tcase_add_loop_test(tests, test_handoff_staged_record_of_the_dead_is_published_by_another, 0,
                        2);
    tcase_add_test(tests, test_handoff_staged_record_off_the_chain_is_not_found);
    tcase_add_test(tests, test_handoff_huge_file_numbers_go_without_spares);
    tcase_add_loop_test(tests, test_handoff_seal_after_a_failed_write_is_the_end_of_a_record, 0, 3);
    tcase_add_loop_test(tests, test_handoff_threads_with_handles_of_their_own_lose_nothing, 0,
                        RIG_BACKENDS);
    tcase_add_loop_test(tests, test_handoff_threads_lose_nothing_without_a_mapping, 0,
                        RIG_BACKENDS);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
