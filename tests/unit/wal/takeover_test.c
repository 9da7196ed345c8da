/*
 * A process dies in the middle of whatever it does to the log, at each place where that makes a
 * difference, with writes in flight that land later or never; the next one takes over, and dies
 * itself or lives; then the machine is killed or loses power. Whatever was promised is there.
 *
 * The dying process is a thread with an environment of its own on the simulated disk, which is told
 * of each place and stops there for good: from then on nothing it does reaches the disk. When all
 * is over it goes on, in shared memory as it was then, so that it can free what it holds.
 */
#include "tests/unit/wal/crew.h"

#include "engine/base/step.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>

struct victim {
    struct member member;
    struct rig *rig;
    pthread_t thread;
    sem_t stopped; /* dead, or done */
    sem_t over;    /* the test is */
    uint64_t die_at, places;
    bool is_dead, takes_over;
    char place[40]; /* where it died */
    uint64_t synced;
    struct shm_layout *layout; /* as it was when it died */
};

static _Thread_local struct victim *dying; /* this thread's, if it is one */

static void at_place(const char *place)
{
    struct victim *v = dying;
    if (v == NULL || v->is_dead || ++v->places != v->die_at)
        return;
    v->is_dead = true;
    snprintf(v->place, sizeof v->place, "%s", place);
    sim_kill(v->member.options.io);
    sem_post(&v->stopped);
    sem_wait(&v->over);
}

/* ---- the dying ------------------------------------------------------------------------------- */

/* As rig_put_sized(), but ends when dead: the account is the survivors'. */
static bool victim_put(struct victim *v, size_t size, uint64_t *end)
{
    struct rig *rig = v->rig;
    uint8_t bytes[6000];
    uint64_t sequence = rig->sequence + 1;
    if (!wal_has_room_locked(v->member.wal, size) &&
        wal_write_locked(v->member.wal, rig_staged(rig), NULL) != LSM_OK)
        return false;
    rig_fill(rig->salt, sequence, bytes, size);
    rig->salts[sequence] = rig->salt;
    lsm_slice piece = {bytes, size};
    if (wal_stage_locked(v->member.wal, sequence, &piece, 1, end, NULL) != LSM_OK)
        return false;
    wal_publish_locked(v->member.wal);
    if (v->is_dead)
        return false;
    rig->ends[sequence] = *end;
    rig->sequence = sequence;
    return true;
}

static bool victim_sync(struct victim *v, uint64_t end)
{
    bool done = wal_sync_locked(v->member.wal, end, NULL) == LSM_OK && !v->is_dead;
    if (done)
        v->synced = end;
    return done;
}

static bool victim_forget(struct victim *v, uint64_t end)
{
    uint64_t chain = v->rig->layout->commit.chain;
    if (wal_sync_locked(v->member.wal, end, NULL) != LSM_OK || v->is_dead)
        return false;
    v->rig->from = end; /* the manifest says so first */
    v->rig->from_chain = chain;
    return wal_forget_locked(v->member.wal, end, NULL) == LSM_OK && !v->is_dead;
}

static void *live(void *argument)
{
    struct victim *v = dying = argument;
    uint64_t end;
    bool alive = !v->takes_over || wal_takeover_locked(v->member.wal, NULL) == LSM_OK;
    for (unsigned i = 1; i <= 36 && alive && !v->is_dead; i++) {
        alive = victim_put(v, (i * 1700) % 5000, &end);
        if (alive && i % 3 == 0)
            alive = victim_sync(v, end);
        if (alive && i % 6 == 4)
            alive = wal_prepare(v->member.wal, NULL) == LSM_OK;
        if (alive && i % 11 == 0)
            alive = victim_forget(v, end);
        if (alive && i % 3 == 1)
            alive = wal_write_begin_locked(v->member.wal, NULL) == LSM_OK;
    }
    if (!v->is_dead)
        sem_post(&v->stopped);
    sem_wait(&v->over);
    return NULL;
}

static void victim_start(struct victim *v, struct rig *rig, uint64_t die_at, bool takes_over)
{
    *v = (struct victim){.rig = rig, .die_at = die_at, .takes_over = takes_over};
    member_join(&v->member, rig);
    ck_assert_int_eq(sem_init(&v->stopped, 0, 0), 0);
    ck_assert_int_eq(sem_init(&v->over, 0, 0), 0);
    atomic_store(&step_hook, at_place);
    ck_assert_int_eq(pthread_create(&v->thread, NULL, live, v), 0);
    sem_wait(&v->stopped);
    if (!v->is_dead) { /* it has come to the end of its life */
        v->is_dead = true;
        snprintf(v->place, sizeof v->place, "end");
        sim_kill(v->member.options.io);
    }
    v->layout = aligned_alloc(64, sizeof *rig->layout);
    memcpy(v->layout, rig->layout, sizeof *rig->layout);
}

static void victim_end(struct victim *v, struct shm_layout *layout)
{
    memcpy(layout, v->layout, sizeof *layout);
    free(v->layout);
    sem_post(&v->over); /* once for at_place(), */
    sem_post(&v->over); /* once for live() */
    pthread_join(v->thread, NULL);
    wal_abandon(v->member.wal);
    member_close(&v->member);
    sem_destroy(&v->stopped);
    sem_destroy(&v->over);
}

/* ---- the survivors --------------------------------------------------------------------------- */

/* What the append lock's next owner does. */
static void mend_append(struct rig *rig)
{
    ck_ok(wal_append_takeover_locked(rig->wal, err));
    ck_assert_uint_eq(rig_staged(rig), rig->ends[rig->sequence]);
}

static void go_on(struct rig *rig, uint64_t seed, uint64_t *synced)
{
    struct random_state random = random_seeded(seed);
    for (unsigned i = 0; i < 12; i++) {
        uint64_t end;
        ck_ok(rig_put_sized(rig, (size_t)random_below(&random, 5000), &end, err));
        if (random_below(&random, 4) == 0) {
            ck_ok(wal_sync_locked(rig->wal, end, err));
            *synced = end;
        }
        if (random_below(&random, 5) == 0)
            ck_ok(wal_prepare(rig->wal, err));
        if (i == 7 && seed % 2 == 0) {
            ck_ok(wal_sync_locked(rig->wal, end, err));
            rig->from = *synced = end;
            rig->from_chain = rig->layout->commit.chain;
            ck_ok(wal_forget_locked(rig->wal, end, err));
            ck_assert_uint_eq(crew_census(rig).segments, 1);
            ck_assert_uint_le(crew_census(rig).spares, 3); /* a stopped one may be making one */
        }
    }
}

/* The machine goes down and comes back; the log is read, written and read again. */
static void check_recovery(struct rig *rig, uint64_t seed, uint64_t staged, uint64_t synced)
{
    static const enum sim_crash kinds[] = {SIM_CRASH_KILL, SIM_CRASH_LOSE_ALL, SIM_CRASH_RANDOM};
    enum sim_crash crash = kinds[seed % 3];
    struct wal_end end, again;
    rig_crash(rig, crash, seed);
    ck_ok(rig_replay(rig, &end, err));
    ck_assert_uint_ge(end.position, crash == SIM_CRASH_KILL ? staged : synced);
    ck_assert_uint_le(end.position, staged);
    ck_ok(rig_open_at(rig, &end, err));
    uint64_t position;
    ck_ok(rig_put_sized(rig, 1000, &position, err));
    ck_ok(wal_sync_locked(rig->wal, position, err));
    rig_crash(rig, SIM_CRASH_LOSE_ALL, seed);
    ck_ok(rig_replay(rig, &again, err));
    ck_assert_uint_eq(again.record_count, end.record_count + 1);
}

/* One life in which `first` dies at its n-th place and, if not 0, the next one at its m-th. False
 * when the last of them had fewer places. */
static bool die_and_take_over(uint64_t first, uint64_t second, uint64_t seed, bool refuse_mapping)
{
    struct rig rig;
    struct victim victims[2];
    ck_assert(rig_init(&rig, RIG_SIM, seed));
    rig.options.refuse_mapping = refuse_mapping;
    rig_start(&rig, NULL);
    uint64_t end, synced = 0;
    for (unsigned i = 0; i < 3; i++)
        ck_ok(rig_put_sized(&rig, 900, &end, err));
    ck_ok(wal_sync_locked(rig.wal, end, err));

    size_t count = 1 + (second != 0);
    bool more = true;
    for (size_t i = 0; i < count; i++) {
        victim_start(&victims[i], &rig, i == 0 ? first : second, i > 0);
        more = strcmp(victims[i].place, "end") != 0;
        if (victims[i].synced > synced)
            synced = victims[i].synced;
        mend_append(&rig);
    }
    ck_assert_uint_ge(rig_durable(&rig), synced);
    uint64_t dead_segment = rig.layout->commit.segment_number, written = rig_written(&rig);
    ck_ok(wal_takeover_locked(rig.wal, err));
    ck_assert_uint_gt(rig.layout->commit.segment_number, dead_segment);
    ck_assert_uint_eq(rig.layout->commit.segment_start, written);
    ck_assert_uint_eq(rig_durable(&rig), written);
    go_on(&rig, seed, &synced);
    uint64_t staged = rig_staged(&rig);

    struct shm_layout *layout = rig.layout; /* the dead still look at it */
    wal_abandon(rig.wal);
    rig.wal = NULL;
    rig.layout = NULL;
    check_recovery(&rig, seed, staged, synced);
    for (size_t i = 0; i < count; i++)
        victim_end(&victims[i], layout);
    free(layout);
    rig_release(&rig);
    return more;
}

START_TEST(test_takeover_after_a_death_at_each_place_loses_nothing)
{
    uint64_t n = 1;
    while (die_and_take_over(n, 0, n * 4 + (uint64_t)_i, _i == 3))
        n++;
    ck_assert_uint_gt(n, 60);
    printf("%" PRIu64 " places\n", n);
}
END_TEST

START_TEST(test_takeover_that_dies_at_each_place_is_done_again)
{
    for (uint64_t n = 1; n < 60; n += 1 + n % 7) {
        for (uint64_t m = 1; m <= 14; m++)
            (void)die_and_take_over(n, m, n * 16 + m, _i == 1);
    }
}
END_TEST

/* ---- takeovers that fail ----------------------------------------------------------------------
 */

static void die_with_a_write_in_flight(struct rig *rig, struct member *dead)
{
    uint64_t end;
    ck_assert(rig_init(rig, RIG_SIM, 500));
    rig_start(rig, NULL);
    member_join(dead, rig);
    ck_ok(rig_put_sized(rig, 1500, &end, err));
    ck_ok(wal_sync_locked(dead->wal, end, err));
    ck_ok(rig_put_sized(rig, 2500, &end, err));
    ck_ok(wal_write_begin_locked(dead->wal, err));
    sim_kill(dead->options.io);
}

static void end_of_dead(struct member *dead)
{
    wal_abandon(dead->wal);
    member_close(dead);
}

START_TEST(test_takeover_that_fails_is_done_by_a_later_call)
{
    static const enum sim_fault_kind kinds[] = {SIM_FAULT_OPEN, SIM_FAULT_READ, SIM_FAULT_WRITE,
                                                SIM_FAULT_ALLOCATE, SIM_FAULT_NAME};
    unsigned failures = 0;
    for (uint64_t n = 0; n < 8; n++) {
        struct rig rig;
        struct member dead, other;
        struct wal_end found;
        die_with_a_write_in_flight(&rig, &dead);
        member_join(&other, &rig);
        uint64_t end = rig_staged(&rig), segment = rig.layout->commit.segment_number;
        sim_fail_after(rig.disk, kinds[_i], n, EIO, false);
        failures += wal_takeover_locked(rig.wal, NULL) != LSM_OK;
        sim_fail_never(rig.disk);
        ck_assert_uint_eq(atomic_load(&rig.layout->ctl.poisoned), 0);
        ck_ok(wal_sync_locked(other.wal, end, err)); /* by another one, even */
        ck_assert_uint_gt(rig.layout->commit.segment_number, segment);
        ck_ok(wal_forget_locked(rig.wal, 0, err));
        ck_assert_uint_eq(crew_census(&rig).segments, 2);
        ck_assert_uint_eq(crew_census(&rig).spares, 0);
        member_leave(&other);
        wal_abandon(rig.wal);
        struct shm_layout *layout = rig.layout;
        rig.wal = NULL;
        rig.layout = NULL;
        rig_crash(&rig, SIM_CRASH_LOSE_ALL, n);
        ck_ok(rig_replay(&rig, &found, err));
        ck_assert_uint_eq(found.record_count, 2);
        end_of_dead(&dead);
        free(layout);
        rig_release(&rig);
    }
    ck_assert_uint_gt(failures, 0);
}
END_TEST

START_TEST(test_takeover_whose_flush_fails_poisons)
{
    struct rig rig;
    struct member dead;
    lsm_error error = {0};
    die_with_a_write_in_flight(&rig, &dead);
    sim_fail_after(rig.disk, SIM_FAULT_SYNC, 0, EIO, false);
    ck_assert_int_eq(wal_takeover_locked(rig.wal, &error), LSM_IO);
    ck_assert_uint_eq(atomic_load(&rig.layout->ctl.poisoned), EIO);
    ck_assert_int_eq(wal_takeover_locked(rig.wal, &error), LSM_POISONED);
    ck_assert_int_eq(wal_sync_locked(rig.wal, rig_staged(&rig), &error), LSM_POISONED);
    end_of_dead(&dead);
    rig_release(&rig);
}
END_TEST

/* A lock that is let go with a write begun: as if its holder had died. */
START_TEST(test_takeover_of_a_write_that_was_left_in_flight_by_the_living)
{
    struct rig rig;
    struct member member;
    struct wal_end found;
    uint64_t end;
    ck_assert(rig_init(&rig, RIG_SIM, 501 + (uint64_t)_i));
    rig_start(&rig, NULL);
    member_join(&member, &rig);
    for (unsigned i = 0; i < 6; i++) {
        ck_ok(rig_put_sized(&rig, 700, &end, err));
        ck_ok(wal_write_begin_locked(member.wal, err));
        uint64_t segment = rig.layout->commit.segment_number;
        ck_ok(rig_put_sized(&rig, 300, &end, err));
        ck_ok(wal_sync_locked(rig.wal, end, err));
        ck_assert_uint_gt(rig.layout->commit.segment_number, segment);
        ck_ok(wal_write_finish_locked(member.wal, err)); /* too late to count */
        ck_assert_uint_eq(rig_written(&rig), end);
        ck_ok(rig_put_sized(&rig, 100, &end, err));
        ck_ok(wal_sync_locked(_i % 2 == 0 ? member.wal : rig.wal, end, err));
    }
    member_leave(&member);
    rig_crash(&rig, SIM_CRASH_LOSE_ALL, 1);
    ck_ok(rig_replay(&rig, &found, err));
    ck_assert_uint_eq(found.record_count, 18);
    rig_release(&rig);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal/takeover");
    TCase *tests = tcase_create("takeover");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_takeover_after_a_death_at_each_place_loses_nothing, 0, 4);
    tcase_add_loop_test(tests, test_takeover_that_dies_at_each_place_is_done_again, 0, 2);
    tcase_add_loop_test(tests, test_takeover_that_fails_is_done_by_a_later_call, 0, 5);
    tcase_add_test(tests, test_takeover_whose_flush_fails_poisons);
    tcase_add_loop_test(tests, test_takeover_of_a_write_that_was_left_in_flight_by_the_living, 0,
                        4);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
