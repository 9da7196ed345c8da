/* Processes that are killed anywhere while they share blocks, and what the others find. */
#include "tests/unit/shm/frames_fixture.h"

#include "tests/lib/stepping.h"

#include "engine/base/step.h"

#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#define MAX_STEPS 64
#define KEPT      50 /* frames, by each process at once */

/* The steps that a life passes, and how often; in shared memory. */
static struct passed {
    size_t count;
    struct {
        const char *name; /* stands at the same address in every process that fork made */
        unsigned times;
    } at[MAX_STEPS];
} * passed;

static void *share(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    return memory;
}

/* ---- lives ----------------------------------------------------------------------------------- */

/* Finds or puts in random blocks, keeps some. Nothing found may be wrong. */
static void load(struct shm_frames *f, uint64_t seed, unsigned steps)
{
    struct random_state random = random_seeded(seed);
    struct shm_frame *kept[KEPT] = {NULL};
    for (unsigned i = 0; i < steps; i++) {
        uint64_t number = 1 + random_below(&random, 20);
        uint32_t index = (uint32_t)random_below(&random, 200);
        epoch_enter();
        if (!find(f, number, index))
            (void)insert(f, number, index);
        struct shm_frame *frame = shm_frames_find(f, number, index);
        if (frame != NULL && random_below(&random, 8) == 0) {
            struct shm_frame **place = &kept[random_below(&random, KEPT)];
            shm_frame_keep(frame);
            if (*place != NULL)
                shm_frame_drop(*place);
            *place = frame;
        }
        epoch_exit();
    }
    for (size_t i = 0; i < KEPT; i++)
        if (kept[i] != NULL)
            shm_frame_drop(kept[i]);
}

/* Everything that can be done with frames. */
static void live(uint32_t slot, uint64_t seed)
{
    struct peer p = peer_open(slot);
    load(p.frames, seed, 1500);
    for (uint32_t i = 0; i < 100; i++) /* another size: slabs are emptied */
        (void)insert_sized(p.frames, 50, i, 100000);
    load(p.frames, seed + 1, 500);
    shm_frames_reap(p.segment, 9);
    peer_close(&p);
}

/* In a child of slot 1. Returns whether it was killed at the point. */
static bool kill_at(struct step_point point)
{
    int status;
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        stepping_begin(NULL, point, SIGKILL);
        live(1, 11);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) {
        ck_assert_int_eq(WEXITSTATUS(status), 0);
        return false;
    }
    return true;
}

static void note_step(const char *name)
{
    size_t i = 0;
    while (i < passed->count && strcmp(passed->at[i].name, name) != 0)
        i++;
    if (i == MAX_STEPS)
        _exit(4);
    if (i == passed->count)
        passed->at[passed->count++].name = name;
    passed->at[i].times++;
}

static void note_a_life(void)
{
    int status;
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        atomic_store(&step_hook, note_step);
        live(1, 11);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The survivor clears up, finds everything in order, and has the whole capacity to itself. */
static void check_survivor(void)
{
    struct peer p = peer_open(0);
    struct shm_frames_counts counts;
    shm_frames_reap(p.segment, 1);
    check_shards(p.frames);
    load(p.frames, 77, 3000);
    check_shards(p.frames);
    shm_frames_count(p.frames, &counts);
    ck_assert_uint_gt(counts.inserted, 100);
    ck_assert_uint_gt(counts.bytes, 2 * MIB);
    ck_assert(counts.turned_away < counts.inserted / 2);
    peer_close(&p);
}

START_TEST(test_frames_killed_at_any_step_leave_all_in_order)
{
    passed = share(sizeof *passed);
    fixture_open(4 * MIB);
    note_a_life();
    fixture_close();
    ck_assert_uint_ge(passed->count, 16);
    for (size_t i = 0; i < passed->count; i++) {
        unsigned times[] = {1, passed->at[i].times / 2, passed->at[i].times};
        for (size_t k = 0; k < 3; k++) {
            if (times[k] == 0 || (k > 0 && times[k] == times[k - 1]))
                continue;
            fixture_open(4 * MIB);
            ck_assert_msg(kill_at((struct step_point){passed->at[i].name, times[k]}), "'%s' %u",
                          passed->at[i].name, times[k]);
            check_survivor();
            fixture_close();
        }
    }
}
END_TEST

/* The next owner of the lock dies while it repairs; the one after it finds all in order. */
START_TEST(test_frames_killed_at_repair_are_repaired_by_the_next)
{
    static const char *const inside[] = {"frames: piece taken", "frames: unlinked",
                                         "frames: left limbo", "frames: identity stored",
                                         "frames: pieces made"};
    static const char *const repairs[] = {"frames: repair begun", "frames: slab repaired"};
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        for (unsigned k = 0; k < 4; k++) {
            fixture_open(4 * MIB);
            ck_assert(kill_at((struct step_point){inside[i], 10}));
            struct peer p = peer_open(0);
            shm_frames_reap(p.segment, 1);
            peer_close(&p);
            ck_assert(kill_at((struct step_point){repairs[k > 0], k > 0 ? k : 1}));
            check_survivor();
            fixture_close();
        }
    }
}
END_TEST

/* ---- a storm --------------------------------------------------------------------------------- */

#define MEMBERS 4
#define DEATHS  60

static pid_t spawn(uint32_t slot, uint64_t seed)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child != 0)
        return child;
    struct peer p = peer_open(slot);
    for (uint64_t i = 0;; i++) {
        load(p.frames, seed + i, 200);
        (void)shm_frames_tell(p.frames);
    }
}

START_TEST(test_frames_of_processes_killed_at_random_are_always_right)
{
    uint64_t seed = (uint64_t)getpid();
    struct random_state random = random_seeded(seed);
    pid_t members[MEMBERS + 1] = {0};
    printf("seed %lu\n", (unsigned long)seed);
    fixture_open(8 * MIB);
    for (uint32_t slot = 1; slot <= MEMBERS; slot++)
        members[slot] = spawn(slot, random_next(&random));
    for (unsigned i = 0; i < DEATHS; i++) {
        int status;
        uint32_t slot = 1 + (uint32_t)random_below(&random, MEMBERS);
        nanosleep(&(struct timespec){.tv_nsec = (long)random_below(&random, 20000000)}, NULL);
        kill(members[slot], SIGKILL);
        ck_assert_int_eq(waitpid(members[slot], &status, 0), members[slot]);
        ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "a member saw wrong");
        shm_frames_reap(segment, slot);
        members[slot] = spawn(slot, random_next(&random));
    }
    for (uint32_t slot = 1; slot <= MEMBERS; slot++) {
        int status;
        kill(members[slot], SIGKILL);
        waitpid(members[slot], &status, 0);
        ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "a member saw wrong");
        shm_frames_reap(segment, slot);
    }
    check_survivor();
    fixture_close();
}
END_TEST

/* Who stops with a lock held makes nobody wait. */
START_TEST(test_frames_stopped_with_a_lock_hold_up_nobody)
{
    int status;
    fixture_open(4 * MIB);
    pid_t child = fork();
    if (child == 0) {
        stepping_begin(NULL, (struct step_point){"frames: data copied", 20}, SIGSTOP);
        live(1, 11);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
    ck_assert(WIFSTOPPED(status));
    struct peer p = peer_open(0);
    struct shm_frames_counts counts;
    ck_assert(!insert(p.frames, 60, 1));
    shm_frames_count(p.frames, &counts);
    ck_assert_uint_eq(counts.turned_away, 1);
    kill(child, SIGCONT);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    bool is_in = false;
    for (uint32_t i = 0; i < 100 && !is_in; i++)
        is_in = insert(p.frames, 60, i);
    ck_assert(is_in);
    check_shards(p.frames);
    peer_close(&p);
    fixture_close();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("frames crash");
    TCase *all = tcase_create("all");
    tcase_set_timeout(all, 120);
    tcase_add_test(all, test_frames_killed_at_any_step_leave_all_in_order);
    tcase_add_test(all, test_frames_killed_at_repair_are_repaired_by_the_next);
    tcase_add_test(all, test_frames_of_processes_killed_at_random_are_always_right);
    tcase_add_test(all, test_frames_stopped_with_a_lock_hold_up_nobody);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
