/*
 * Real processes over one log in shared memory, killed at random moments and at each place where a
 * death makes a difference; others take over and go on. Every record that was published is there.
 */
#include "tests/unit/wal/crew.h"

#include "engine/base/step.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define PROCESSES 4

/* What the processes tell each other and the test; in memory that is mapped by all. */
struct board {
    struct shm_layout layout;
    uint64_t sequence; /* of the last record (append) */
    uint64_t intent_sequence, intent_end;
    _Atomic uint64_t synced; /* position: some process was told so */
    _Atomic uint64_t takeovers;
    _Atomic uint64_t failures;
};

static struct board *board_new(void)
{
    struct board *board =
        mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(board, MAP_FAILED);
    ck_assert_int_eq(shm_lock_init(&board->layout.locks.append), 0);
    ck_assert_int_eq(shm_lock_init(&board->layout.locks.sync), 0);
    return board;
}

/* ---- a process ------------------------------------------------------------------------------- */

struct process {
    struct rig *rig;
    struct board *board;
    struct wal *wal;
    uint64_t die_at; /* at its how manieth place; 0: at none */
    uint64_t acts;   /* 0: without end */
    struct random_state random;
};

static uint64_t die_at, places; /* of this process */

static void at_place(const char *place)
{
    (void)place;
    if (++places == die_at)
        kill(getpid(), SIGKILL);
}

static void set_death(const struct process *p)
{
    die_at = p->die_at;
    places = 0;
    atomic_store(&step_hook, at_place);
}

static void must(struct process *p, lsm_status status, const lsm_error *error)
{
    if (status == LSM_OK)
        return;
    fprintf(stderr, "%s\n", error->message);
    atomic_fetch_add(&p->board->failures, 1);
    _exit(1);
}

static void lock_append(struct process *p)
{
    struct board *board = p->board;
    lsm_error error;
    if (shm_lock(&board->layout.locks.append) != SHM_LOCKED_OWNER_DIED)
        return;
    must(p, wal_append_takeover_locked(p->wal, &error), &error);
    if (atomic_load(&board->layout.commit.staged) == board->intent_end)
        board->sequence = board->intent_sequence;
    atomic_fetch_add(&board->takeovers, 1);
    shm_lock_repaired(&board->layout.locks.append);
}

static void lock_sync(struct process *p)
{
    struct board *board = p->board;
    lsm_error error;
    if (shm_lock(&board->layout.locks.sync) != SHM_LOCKED_OWNER_DIED)
        return;
    must(p, wal_takeover_locked(p->wal, &error), &error);
    atomic_fetch_add(&board->takeovers, 1);
    shm_lock_repaired(&board->layout.locks.sync);
}

static bool is_full(const struct board *board)
{
    return board->sequence + 2 >= RIG_MAX_RECORDS;
}

static void put(struct process *p, uint64_t *end)
{
    struct board *board = p->board;
    uint8_t bytes[3000];
    size_t size = (size_t)random_below(&p->random, random_below(&p->random, 8) == 0 ? 3000 : 300);
    lsm_error error;
    lock_append(p);
    while (!wal_has_room_locked(p->wal, size)) {
        shm_unlock(&board->layout.locks.append);
        lock_sync(p);
        must(p, wal_write_locked(p->wal, atomic_load(&board->layout.commit.staged), &error),
             &error);
        shm_unlock(&board->layout.locks.sync);
        lock_append(p);
    }
    uint64_t sequence = board->sequence + 1;
    *end = atomic_load(&board->layout.commit.staged);
    if (!is_full(board)) {
        rig_fill(p->rig->salt, sequence, bytes, size);
        lsm_slice piece = {bytes, size};
        must(p, wal_stage_locked(p->wal, sequence, &piece, 1, end, &error), &error);
        board->intent_sequence = sequence;
        board->intent_end = *end;
        wal_publish_locked(p->wal);
        board->sequence = sequence;
    }
    shm_unlock(&board->layout.locks.append);
}

static void write_or_sync(struct process *p, uint64_t end)
{
    struct board *board = p->board;
    lsm_error error;
    lock_sync(p);
    switch (random_below(&p->random, 8)) {
    case 0:
        must(p, wal_forget_locked(p->wal, 0, &error), &error); /* the files of the dead */
        break;
    case 1:
    case 2:
    case 3:
        must(p, wal_write_begin_locked(p->wal, &error), &error);
        must(p, wal_write_finish_locked(p->wal, &error), &error);
        break;
    default:
        must(p, wal_sync_locked(p->wal, end, &error), &error);
        if (atomic_load(&board->synced) < end)
            atomic_store(&board->synced, end);
        break;
    }
    shm_unlock(&board->layout.locks.sync);
}

static _Noreturn void live(struct process *p)
{
    struct member member;
    lsm_error error;
    member.options = p->rig->options;
    must(p, io_open(io_name(p->rig->io), &member.options.io, &error), &error);
    must(p, io_dir_open(member.options.io, p->rig->path, 0, 0, &member.options.dir, &error),
         &error);
    set_death(p);
    must(p, wal_attach(&member.options, &p->wal, &error), &error);
    for (uint64_t i = 1; p->acts == 0 || i <= p->acts; i++) {
        uint64_t end;
        put(p, &end);
        if (random_below(&p->random, 3) == 0)
            write_or_sync(p, end);
        if (random_below(&p->random, 10) == 0)
            must(p, wal_prepare(p->wal, &error), &error);
    }
    wal_detach(p->wal);
    io_dir_close(member.options.dir);
    io_close(member.options.io);
    _exit(0);
}

static pid_t spawn(struct process p)
{
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        live(&p);
    return pid;
}

/* Whether it ended by itself. */
static bool reap(pid_t pid)
{
    int how = 0;
    ck_assert_int_eq(waitpid(pid, &how, 0), pid);
    ck_assert(WIFEXITED(how) || (WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL));
    ck_assert(!WIFEXITED(how) || WEXITSTATUS(how) == 0);
    return WIFEXITED(how);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static bool found_log(struct rig *rig, struct board **board, enum rig_backend backend,
                      bool refuse_mapping)
{
    struct wal_end end;
    if (!rig_init(rig, backend, 200))
        return false;
    for (size_t i = 0; i < RIG_MAX_RECORDS; i++)
        rig->salts[i] = rig->salt;
    rig->options.refuse_mapping = refuse_mapping;
    *board = board_new();
    rig->options.layout = &(*board)->layout;
    ck_ok(rig_replay(rig, &end, err));
    ck_ok(wal_open(&rig->options, &end, &rig->wal, err));
    return true;
}

/* As after the last process died: no lock is held, nobody closed anything. */
static void check_log(struct rig *rig, struct board *board)
{
    struct wal_end end;
    struct shm_commit *commit = &board->layout.commit;
    uint64_t staged = atomic_load(&commit->staged);
    ck_assert_uint_eq(board->failures, 0);
    ck_assert_uint_le(board->synced, atomic_load(&commit->durable));
    ck_assert_uint_le(atomic_load(&commit->durable), atomic_load(&commit->written));
    ck_assert_uint_le(atomic_load(&commit->written), staged);
    ck_ok(rig_replay(rig, &end, err));
    ck_assert_uint_ge(end.position, staged); /* one more may have been staged whole */
    ck_assert_uint_ge(end.last_sequence + 1, board->sequence + 1);
    ck_assert_uint_le(end.last_sequence, board->sequence + 2);
    ck_assert_uint_eq(end.record_count, end.last_sequence);
}

static void end_log(struct rig *rig, struct board *board)
{
    wal_abandon(rig->wal);
    rig->wal = NULL;
    rig->layout = NULL;
    munmap(board, sizeof *board);
    rig_release(rig);
}

static const struct {
    enum rig_backend backend;
    bool refuse_mapping;
} ways[] = {{RIG_POSIX, false}, {RIG_URING, false}, {RIG_POSIX, true}};

#define WAYS ((int)(sizeof ways / sizeof *ways))

START_TEST(test_kill_at_each_place_then_another_goes_on)
{
    struct rig rig;
    struct board *board;
    if (!found_log(&rig, &board, ways[_i].backend, ways[_i].refuse_mapping))
        return;
    /* One life behind the other, over the same log: each dies one place later than the last. */
    uint64_t n = 1;
    bool ended = false;
    for (; !ended && n < 400 && !is_full(board); n++) {
        struct process p = {
            .rig = &rig, .board = board, .die_at = n, .acts = 30, .random = random_seeded(n / 40)};
        ended = reap(spawn(p));
        if (n % 10 == 0)
            check_log(&rig, board);
    }
    ck_assert_uint_gt(n, 30);
    check_log(&rig, board);
    printf("%" PRIu64 " places, %" PRIu64 " takeovers, %" PRIu64 " records\n", n,
           (uint64_t)board->takeovers, board->sequence);
    ck_assert_uint_gt(board->takeovers, n / 2);
    struct process last = {.rig = &rig, .board = board, .acts = 10, .random = random_seeded(1)};
    ck_assert(reap(spawn(last)));
    check_log(&rig, board);
    ck_ok(wal_forget_locked(rig.wal, rig_staged(&(struct rig){.layout = &board->layout}), err));
    ck_assert_uint_le(crew_census(&rig).segments, 2);
    ck_assert_uint_le(crew_census(&rig).spares, 2);
    end_log(&rig, board);
}
END_TEST

START_TEST(test_kill_at_random_moments_loses_nothing)
{
    struct rig rig;
    struct board *board;
    pid_t pids[PROCESSES];
    uint64_t seed = 300 + (uint64_t)_i;
    struct random_state random = random_seeded(seed);
    printf("seed %" PRIu64 "\n", seed);
    if (!found_log(&rig, &board, ways[_i].backend, ways[_i].refuse_mapping))
        return;
    struct process p = {.rig = &rig, .board = board};
    for (size_t i = 0; i < PROCESSES; i++) {
        p.random = random_seeded(seed * 1000 + i);
        pids[i] = spawn(p);
    }
    unsigned kills = 0;
    for (; kills < 40 && !is_full(board); kills++) {
        struct timespec pause = {.tv_nsec = (long)random_below(&random, 20000000)};
        size_t who = (size_t)random_below(&random, PROCESSES);
        nanosleep(&pause, NULL);
        ck_assert_int_eq(kill(pids[who], SIGKILL), 0);
        ck_assert(!reap(pids[who]));
        p.random = random_seeded(seed * 1000 + 100 + kills);
        pids[who] = spawn(p);
    }
    for (size_t i = 0; i < PROCESSES; i++)
        kill(pids[i], SIGKILL);
    for (size_t i = 0; i < PROCESSES; i++)
        (void)reap(pids[i]);
    printf("%u kills, %" PRIu64 " takeovers, %" PRIu64 " records\n", kills,
           (uint64_t)board->takeovers, board->sequence);
    check_log(&rig, board);
    end_log(&rig, board);
}
END_TEST

/* It dies with the lock of those who make spares, and leaves one half made. */
START_TEST(test_kill_while_making_a_spare_leaves_none_behind)
{
    struct rig rig;
    struct board *board;
    if (!found_log(&rig, &board, RIG_POSIX, false))
        return;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct process p = {.rig = &rig, .board = board, .die_at = 1};
        set_death(&p);
        if (wal_attach(&rig.options, &p.wal, NULL) == LSM_OK)
            (void)wal_prepare(p.wal, NULL);
        _exit(1);
    }
    ck_assert(!reap(pid));
    ck_assert_uint_eq(crew_census(&rig).spares, 1);
    ck_ok(wal_prepare(rig.wal, err));
    ck_assert_uint_eq(crew_census(&rig).spares, 2);
    ck_ok(wal_forget_locked(rig.wal, 0, err));
    ck_assert_uint_eq(crew_census(&rig).spares, 1);
    end_log(&rig, board);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal/kill");
    TCase *tests = tcase_create("kill");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_kill_at_each_place_then_another_goes_on, 0, WAYS);
    tcase_add_loop_test(tests, test_kill_at_random_moments_loses_nothing, 0, WAYS);
    tcase_add_test(tests, test_kill_while_making_a_spare_leaves_none_behind);
    suite_add_tcase(suite, tests);
    return rig_run(suite);
}
