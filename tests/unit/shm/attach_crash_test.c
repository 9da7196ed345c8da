/* Processes that are killed while they come in, leave or reap, and what the others find. */
#include "tests/unit/shm/attach_fixture.h"

#include "engine/base/random.h"
#include "engine/base/step.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

static void pause_us(unsigned us)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)us * 1000}, NULL);
}

static void *share(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    return memory;
}

/* ---- killed at a step ------------------------------------------------------------------------ */

/* All steps of coming in, leaving and reaping, and who passes them: somebody alone, somebody beside
 * another; who dies there beside another leaves a slot to be reaped. */
static const struct {
    const char *name;
    bool alone, beside, leaves_slot;
} steps[] = {
    {"attach: locked", true, true, false},
    {"attach: presence locked", true, true, false},
    {"attach: page cleared", true, false, false},
    {"attach: segment announced", true, false, false},
    {"segment: a stale one looked at", false, false, false}, /* the last one was removed */
    {"segment: file made", true, false, false},
    {"segment: mapped", true, false, false},
    {"attach: segment made", true, false, false},
    {"attach: segment named", true, false, false},
    {"attach: slot locked", true, true, false},
    {"attach: slot taken", true, true, true},
    {"attach: joined", false, true, true},
    {"attach: segment ready", true, false, false},
    {"attach: page written", true, false, false},
    {"attach: presence free", true, false, false},
    {"attach: presence shared", true, false, false},
    {"attach: founded", true, false, false},
    {"reap: slot locked", false, false, false},
    {"reap: cleaned", false, false, false},
    {"reap: slot free", false, false, false},
    {"detach: locked", true, true, true},
    {"detach: presence free", true, true, true},
    {"detach: decided", true, true, true},
    {"detach: segment removed", true, false, false},
    {"detach: slot free", false, true, false},
    {"detach: presence left", true, true, false},
    {"detach: done", true, true, false},
};

#define STEPS (sizeof steps / sizeof *steps)

static const char *fatal_step; /* of the child */

static void die_at_step(const char *name)
{
    bool is_known = false;
    if (strcmp(name, fatal_step) == 0)
        raise(SIGKILL);
    for (size_t i = 0; i < STEPS; i++)
        is_known = is_known || strcmp(name, steps[i].name) == 0;
    if (!is_known) {
        fprintf(stderr, "'%s' is not in the table of steps\n", name);
        _exit(4);
    }
}

static void set_fatal_step(const char *name)
{
    fatal_step = name;
    atomic_store(&step_hook, die_at_step);
}

/* In a child: everything that can be done with an attachment, dying on the way. */
static void live_until(const char *fatal)
{
    struct shm_attach_options o = options(5000);
    struct shm_attachment *a = NULL;
    enum shm_attach_role role;
    bool is_last = false;
    set_fatal_step(fatal);
    if (attach_with(&o, &a, &role, NULL) != LSM_OK)
        _exit(1);
    slot_of(a, shm_attachment_slot(a))->pin = 5;
    if (shm_reap(a, NULL, NULL, NULL, NULL) != LSM_OK)
        _exit(2);
    slot_of(a, shm_attachment_slot(a))->pin = 0;
    if (shm_detach_begin(a, &is_last, NULL) != LSM_OK)
        _exit(3);
    shm_detach_end(a);
    _exit(0);
}

/* False when it lived to the end: the step is not on its way. */
static bool kill_child_at(const char *fatal)
{
    int status = 0;
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        live_until(fatal);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) {
        ck_assert_int_eq(WEXITSTATUS(status), 0);
        return false;
    }
    ck_assert_int_eq(WTERMSIG(status), SIGKILL);
    return true;
}

START_TEST(test_attach_alone_killed_at_any_step_lets_the_next_one_found)
{
    for (size_t i = 0; i < STEPS; i++) {
        ck_assert_int_eq(kill_child_at(steps[i].name), steps[i].alone);
        ck_assert_int_le(segment_count(), 1);
        database++; /* the child may have died while it created one that nobody knows */
        struct shm_attachment *a = attach_as(SHM_ATTACH_FOUNDER);
        ck_assert_int_eq(segment_count(), 1); /* its own: the left-over one is gone */
        ck_assert_uint_eq(slots_in_use(a), 1);
        ck_assert(detach(a));
        ck_assert_int_eq(segment_count(), 0);
    }
}
END_TEST

START_TEST(test_attach_killed_at_any_step_beside_another_is_reaped)
{
    struct shm_attachment *holder = attach_as(SHM_ATTACH_FOUNDER);
    for (size_t i = 0; i < STEPS; i++) {
        uint32_t count = 0;
        ck_assert_int_eq(kill_child_at(steps[i].name), steps[i].beside);
        ck_assert(!shm_slot_is_alive(holder, 1));
        ck_ok(shm_reap(holder, NULL, NULL, &count, err));
        ck_assert_uint_eq(count, steps[i].leaves_slot);
        ck_assert_uint_eq(slots_in_use(holder), 1);
        ck_assert_uint_eq(slot_of(holder, 1)->pin, 0);
        ck_assert_int_eq(segment_count(), 1);
        struct shm_attachment *a = attach_as(SHM_ATTACH_JOINED);
        ck_assert_uint_eq(shm_attachment_slot(a), 1);
        ck_assert(!detach(a));
    }
    ck_assert(detach(holder));
}
END_TEST

START_TEST(test_attach_killed_after_a_fork_lets_the_next_one_found_though_its_child_lives)
{
    int ready[2];
    ck_assert_int_eq(pipe(ready), 0);
    pid_t owner = fork();
    if (owner == 0) {
        struct shm_attachment *a = attach_as(SHM_ATTACH_FOUNDER);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            char line[512];
            FILE *maps = fopen("/proc/self/maps", "r");
            grandchild = getpid();
            while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
                if (strstr(line, shm_segment_name(shm_attachment_segment(a))) != NULL ||
                    strstr(line, "/LOCK") != NULL)
                    grandchild = -1;
            if (maps == NULL || write(ready[1], &grandchild, sizeof grandchild) < 0)
                _exit(1);
        }
        for (;;)
            pause();
    }
    pid_t grandchild = 0;
    ck_assert_int_eq(read(ready[0], &grandchild, sizeof grandchild), sizeof grandchild);
    ck_assert_msg(grandchild > 0, "the child has the segment or the lock file mapped");
    ck_assert_int_eq(kill(owner, SIGKILL), 0);
    wait_killed(owner);
    struct shm_attachment *a = attach_as(SHM_ATTACH_FOUNDER);
    ck_assert_int_eq(kill(grandchild, 0), 0);
    ck_assert(detach(a));
    ck_assert_int_eq(kill(grandchild, SIGKILL), 0);
    close(ready[0]);
    close(ready[1]);
}
END_TEST

/* ---- reaping --------------------------------------------------------------------------------- */

static lsm_status note_reaped(void *context, struct shm_layout *layout, uint32_t index,
                              lsm_error *err)
{
    (void)context;
    (void)err;
    atomic_fetch_add(&layout->ctl.next_file_number, layout->slots[index].pin);
    return LSM_OK;
}

/* Leaves slot 1 in use with a dead owner. */
static void leave_a_slot(void)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct shm_attachment *a = attach_as(SHM_ATTACH_JOINED);
        slot_of(a, shm_attachment_slot(a))->pin = 5;
        raise(SIGKILL);
    }
    wait_killed(child);
}

START_TEST(test_reap_is_repeated_when_the_reaper_dies)
{
    const struct {
        const char *fatal;
        uint64_t calls;
        uint32_t second; /* slots left for the second reaper, the first one's own aside */
    } cases[] = {{"reap: slot locked", 1, 1}, {"reap: cleaned", 2, 1}, {"reap: slot free", 1, 0}};
    struct shm_attachment *holder = attach_as(SHM_ATTACH_FOUNDER);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        atomic_store(&shm_layout(shm_attachment_segment(holder))->ctl.next_file_number, 0);
        leave_a_slot();
        uint32_t generation = slot_of(holder, 1)->generation, count = 0;
        pid_t child = fork();
        if (child == 0) {
            struct shm_attach_options o = options(5000);
            struct shm_attachment *a = NULL;
            enum shm_attach_role role;
            set_fatal_step(cases[i].fatal);
            if (attach_with(&o, &a, &role, NULL) == LSM_OK)
                (void)shm_reap(a, note_reaped, NULL, NULL, NULL);
            _exit(1);
        }
        wait_killed(child);
        ck_assert_uint_eq(slots_in_use(holder), 2 + cases[i].second);
        ck_ok(shm_reap(holder, note_reaped, NULL, &count, err));
        ck_assert_uint_eq(count, cases[i].second + 1);
        ck_assert_uint_eq(slots_in_use(holder), 1);
        ck_assert_uint_gt(slot_of(holder, 1)->generation, generation);
        ck_assert_uint_eq(
            atomic_load(&shm_layout(shm_attachment_segment(holder))->ctl.next_file_number),
            5 * cases[i].calls);
    }
    ck_assert(detach(holder));
}
END_TEST

static lsm_status fail_to_reap(void *context, struct shm_layout *layout, uint32_t index,
                               lsm_error *err)
{
    (void)context;
    (void)layout;
    return lsm_fail(err, LSM_IO, "slot %u cannot be cleaned", (unsigned)index);
}

START_TEST(test_reap_that_fails_leaves_the_slot_for_another_try)
{
    struct shm_attachment *holder = attach_as(SHM_ATTACH_FOUNDER);
    uint32_t count = 7;
    lsm_error error = {0};
    leave_a_slot();
    ck_assert_int_eq(shm_reap(holder, fail_to_reap, NULL, &count, &error), LSM_IO);
    ck_assert_str_eq(error.message, "slot 1 cannot be cleaned");
    ck_assert_uint_eq(count, 0);
    ck_assert_uint_eq(slots_in_use(holder), 2);
    ck_ok(shm_reap(holder, note_reaped, NULL, &count, err));
    ck_assert_uint_eq(count, 1);
    ck_assert(detach(holder));
}
END_TEST

/* ---- many ------------------------------------------------------------------------------------ */

START_TEST(test_attach_of_as_many_as_there_are_slots_at_once)
{
    struct {
        _Atomic uint32_t attached;
        _Atomic uint32_t failed;
        _Atomic uint32_t taken[SHM_MAX_SLOTS];
    } *shared = share(sizeof *shared);
    pid_t children[SHM_MAX_SLOTS];
    for (size_t i = 0; i < SHM_MAX_SLOTS; i++) {
        children[i] = fork();
        ck_assert_int_ge(children[i], 0);
        if (children[i] == 0) {
            struct shm_attach_options o = options(30000);
            struct shm_attachment *a = NULL;
            enum shm_attach_role role;
            if (attach_with(&o, &a, &role, NULL) != LSM_OK)
                atomic_fetch_add(&shared->failed, 1);
            else if (atomic_fetch_add(&shared->taken[shm_attachment_slot(a)], 1) != 0)
                atomic_fetch_add(&shared->failed, 1);
            atomic_fetch_add(&shared->attached, 1);
            for (;;)
                pause();
        }
    }
    while (atomic_load(&shared->attached) < SHM_MAX_SLOTS)
        pause_us(1000);
    ck_assert_uint_eq(shared->failed, 0);

    struct shm_attach_options o = options(0);
    struct shm_attachment *a = NULL;
    enum shm_attach_role role;
    lsm_error error = {0};
    ck_assert_int_eq(shm_attach_begin(&o, &a, &role, &error), LSM_BUSY);
    ck_assert_ptr_nonnull(strstr(error.message, "all 64 slots"));
    ck_assert_ptr_nonnull(strstr(error.message, " 0 of them by processes that died"));
    for (size_t i = 0; i + 1 < SHM_MAX_SLOTS; i++) {
        kill(children[i], SIGKILL);
        wait_killed(children[i]);
    }
    ck_assert_int_eq(shm_attach_begin(&o, &a, &role, &error), LSM_BUSY);
    ck_assert_ptr_nonnull(strstr(error.message, " 63 of them by processes that died"));
    o.reap = note_reaped;
    ck_ok(shm_attach_begin(&o, &a, &role, err));
    ck_assert_int_eq(role, SHM_ATTACH_JOINED);
    uint32_t count = 0;
    ck_ok(shm_reap(a, note_reaped, NULL, &count, err));
    ck_assert_uint_eq(count, SHM_MAX_SLOTS - 2);
    ck_assert_uint_eq(slots_in_use(a), 2);
    kill(children[SHM_MAX_SLOTS - 1], SIGKILL);
    wait_killed(children[SHM_MAX_SLOTS - 1]);
    ck_assert(detach(a)); /* nobody else lives, though one slot is still in use */
    ck_assert_int_eq(segment_count(), 0);
    munmap(shared, sizeof *shared);
}
END_TEST

/* What each worker says of itself; the killer sets `killed` before it kills. */
struct worker {
    _Atomic uint64_t inside; /* head of the nonce of the segment it is in; 0: in none */
    _Atomic uint32_t killed;
};

struct arena {
    struct worker workers[6];
    _Atomic uint32_t joined, founded, last, violations;
};

#define WORKER_COUNT (sizeof((struct arena *)0)->workers / sizeof(struct worker))

/* Nobody that lives may be in another segment than this one. */
static void check_population(struct arena *arena, uint64_t nonce)
{
    for (size_t i = 0; i < WORKER_COUNT; i++) {
        uint64_t other = atomic_load(&arena->workers[i].inside);
        if (other != 0 && other != nonce && atomic_load(&arena->workers[i].killed) == 0)
            atomic_fetch_add(&arena->violations, 1);
    }
}

static void work(struct arena *arena, size_t index, uint64_t seed)
{
    struct random_state random = random_seeded(seed);
    struct shm_attach_options o = options(20000);
    for (;;) {
        struct shm_attachment *a = NULL;
        enum shm_attach_role role;
        bool is_last = false;
        if (attach_with(&o, &a, &role, NULL) != LSM_OK)
            _exit(1);
        uint64_t nonce;
        memcpy(&nonce, shm_layout(shm_attachment_segment(a))->ident.nonce, sizeof nonce);
        nonce |= 1;
        atomic_store(&arena->workers[index].inside, nonce);
        atomic_fetch_add(role == SHM_ATTACH_FOUNDER ? &arena->founded : &arena->joined, 1);
        check_population(arena, nonce);
        if (random_below(&random, 4) == 0 && shm_reap(a, NULL, NULL, NULL, NULL) != LSM_OK)
            _exit(2);
        pause_us((unsigned)random_below(&random, 500));
        check_population(arena, nonce);
        atomic_store(&arena->workers[index].inside, 0);
        if (shm_detach_begin(a, &is_last, NULL) != LSM_OK)
            _exit(3);
        atomic_fetch_add(&arena->last, is_last);
        shm_detach_end(a);
        pause_us((unsigned)random_below(&random, 500));
    }
}

static pid_t start_worker(struct arena *arena, size_t index, uint64_t seed)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        work(arena, index, seed);
    return child;
}

static void stop_worker(struct arena *arena, size_t index, pid_t child)
{
    atomic_store(&arena->workers[index].killed, 1);
    kill(child, SIGKILL);
    wait_killed(child);
    atomic_store(&arena->workers[index].inside, 0);
    atomic_store(&arena->workers[index].killed, 0);
}

START_TEST(test_attach_storm_of_kills_never_makes_two_populations)
{
    enum { ROUNDS = 250 };
    uint64_t seed = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    struct random_state random = random_seeded(seed);
    struct arena *arena = share(sizeof *arena);
    pid_t children[WORKER_COUNT];
    for (size_t i = 0; i < WORKER_COUNT; i++)
        children[i] = start_worker(arena, i, random_next(&random));
    for (unsigned round = 0; round < ROUNDS; round++) {
        pause_us((unsigned)random_below(&random, 8000));
        bool all = random_below(&random, 20) == 0;
        size_t first = all ? 0 : (size_t)random_below(&random, WORKER_COUNT);
        size_t limit = all ? WORKER_COUNT : first + 1;
        for (size_t i = first; i < limit; i++)
            stop_worker(arena, i, children[i]);
        for (size_t i = first; i < limit; i++)
            children[i] = start_worker(arena, i, random_next(&random));
    }
    for (size_t i = 0; i < WORKER_COUNT; i++)
        stop_worker(arena, i, children[i]);
    printf("%u founded, %u joined, %u were the last\n", arena->founded, arena->joined, arena->last);
    ck_assert_uint_eq(arena->violations, 0);
    ck_assert_uint_gt(arena->founded, 0);
    ck_assert_uint_gt(arena->joined, 0);
    struct shm_attachment *a = attach_as(SHM_ATTACH_FOUNDER);
    ck_assert_int_eq(segment_count(), 1);
    ck_assert(detach(a));
    munmap(arena, sizeof *arena);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm attach under kills");
    TCase *tests = tcase_create("attach");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_attach_alone_killed_at_any_step_lets_the_next_one_found);
    tcase_add_test(tests, test_attach_killed_at_any_step_beside_another_is_reaped);
    tcase_add_test(tests,
                   test_attach_killed_after_a_fork_lets_the_next_one_found_though_its_child_lives);
    tcase_add_test(tests, test_reap_is_repeated_when_the_reaper_dies);
    tcase_add_test(tests, test_reap_that_fails_leaves_the_slot_for_another_try);
    tcase_add_test(tests, test_attach_of_as_many_as_there_are_slots_at_once);
    tcase_add_test(tests, test_attach_storm_of_kills_never_makes_two_populations);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
