/*
 * One life:
 *
 *   survivors come in | somebody dies before | victim comes in, prepares | somebody changes the
 * view | victim acts, and dies or stops at its point | survivors go on, the first of them may die,
 * too | they look at everything, the last one closes | a recoverer opens, looks and dies | a last
 * one opens, looks, closes, opens, looks and closes.
 *
 * What each of them finds is settled by the first and must be so for all that follow. The process
 * that calls life_run() never opens the database.
 */
#include "tests/crash/points.h"

#include "engine/db/db_private.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 20000 /* nobody needs longer for anything */

struct stage {
    const struct life *life;
    struct board *board;
    char directory[SCRATCH_PATH_SIZE];
    char path[SCRATCH_PATH_SIZE + 8];
    char shm_dir[SCRATCH_PATH_SIZE + 8];
    pid_t survivors[3]; /* 0: none, or ended */
    pid_t victim;
};

/* ---- waiting --------------------------------------------------------------------------------- */

#define LOOK_MS 20 /* at the most between two looks whether somebody has failed */

static const struct timespec look = {.tv_nsec = LOOK_MS * 1000000};

/* Until the word is not `seen` any more, or for one look. Nobody polls: with several lives at once
 * that took more of the processor than the lives. */
static void await_change(_Atomic uint32_t *word, uint32_t seen)
{
    (void)syscall(SYS_futex, word, FUTEX_WAIT, seen, &look, NULL, 0);
}

static void wake(_Atomic uint32_t *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void tell(_Atomic uint32_t *word)
{
    atomic_store(word, 1);
    wake(word);
}

static void tell_one_more(_Atomic uint32_t *word)
{
    atomic_fetch_add(word, 1);
    wake(word);
}

/* In an actor: until the director says so. */
static void await(_Atomic uint32_t *word)
{
    while (atomic_load(word) == 0) {
        if (verdict_is_failed())
            _exit(1);
        await_change(word, 0);
    }
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool wait_count(struct board *b, _Atomic uint32_t *word, uint32_t count, const char *what)
{
    uint64_t end = now_ms() + PATIENCE_MS;
    for (uint32_t seen; (seen = atomic_load(word)) < count;) {
        if (verdict_is_failed())
            return false;
        bool is_over = now_ms() >= end;
        if (is_over && what == NULL)
            return false; /* the caller says what it was */
        if (is_over) {
            verdict_fail("after %d s %s", PATIENCE_MS / 1000, what);
            return false;
        }
        await_change(word, seen);
    }
    (void)b;
    return true;
}

/* *status as waitpid() gives it; false: it takes too long, or somebody failed. SIGCHLD is blocked,
 * and comes when somebody stops, too. */
static bool wait_end(pid_t pid, int *status, const char *who)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    for (uint64_t end = now_ms() + PATIENCE_MS;;) {
        pid_t ended = waitpid(pid, status, WNOHANG | WUNTRACED);
        if (ended == pid)
            return true;
        if (ended < 0) {
            verdict_fail("waiting for %s: %s", who, strerror(errno));
            return false;
        }
        if (now_ms() >= end) {
            verdict_fail("%s is stuck for %d s", who, PATIENCE_MS / 1000);
            return false;
        }
        (void)sigtimedwait(&child, NULL, &look);
    }
}

static bool was_killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static bool check_end(int status, bool may_be_killed, const char *who)
{
    if ((WIFEXITED(status) && WEXITSTATUS(status) == 0) || (may_be_killed && was_killed(status)))
        return true;
    verdict_fail("%s ended with status %x", who, (unsigned)status);
    return false;
}

/* ---- actors ---------------------------------------------------------------------------------- */

typedef void (*actor_main)(struct stage *s, struct actor *a);

static pid_t start(struct stage *s, enum place place, bool has_workers, actor_main run)
{
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    struct actor a = {.board = s->board,
                      .path = s->path,
                      .shm_dir = s->shm_dir,
                      .place = place,
                      .has_workers = has_workers};
    run(s, &a);
    _exit(0);
}

static void victim_main(struct stage *s, struct actor *a)
{
    const struct role *role = s->life->role;
    struct board *b = s->board;
    if (!role->opens)
        actor_open(a);
    if (role->prepare != NULL)
        role->prepare(a);
    tell(&b->prepared);
    await(&b->go);
    stepping_begin(s->life->point.name == NULL ? &b->victim_steps : NULL, s->life->point,
                   s->life->stops ? SIGSTOP : SIGKILL);
    role->act(a);
    stepping_end();
    if (!role->closes)
        actor_close(a);
}

static void before_main(struct stage *s, struct actor *a)
{
    actor_open(a);
    s->life->role->before(a); /* returns where a survivor's worker was faster than it */
    actor_close(a);
}

static void between_main(struct stage *s, struct actor *a)
{
    actor_open(a);
    s->life->role->between(a);
    actor_close(a);
}

static void during_main(struct stage *s, struct actor *a)
{
    actor_open(a);
    s->life->role->during(a);
    actor_close(a);
}

/* What a survivor has open when the victim dies. */
struct held {
    lsm_iter *it;
    lsm_snapshot *snapshot;
    unsigned entries; /* that both show */
};

static unsigned count_shown(lsm_iter *it)
{
    unsigned entries = 0;
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it))
        entries++;
    must(lsm_iter_status(it, err));
    return entries;
}

static void hold(struct actor *a, struct held *held)
{
    must(lsm_snapshot_acquire(a->db, &held->snapshot, err));
    lsm_read_options options = {.snapshot = held->snapshot};
    must(lsm_iter_open(a->db, NULL, &options, &held->it, err));
    held->entries = count_shown(held->it);
}

static void look_again(lsm_iter *it, unsigned entries)
{
    unsigned shown = count_shown(it);
    if (shown != entries || entries == 0)
        verdict_end("an iterator over a snapshot shows %u entries, before it were %u", shown,
                    entries);
}

/* The iterator shows what it showed, and so does a new one. */
static void let_go(struct actor *a, struct held *held)
{
    if (held->it == NULL)
        return;
    look_again(held->it, held->entries);
    lsm_iter_close(held->it);
    lsm_read_options options = {.snapshot = held->snapshot};
    must(lsm_iter_open(a->db, NULL, &options, &held->it, err));
    look_again(held->it, held->entries);
    lsm_iter_close(held->it);
    lsm_snapshot_release(a->db, held->snapshot);
    held->it = NULL;
}

/* What goes on whatever a stopped process holds, and what its locks allow. */
/* The owner's number stands in the mutex from the moment on that it is locked; the word for
 * messages beside it comes later, and a stopped process may have got only so far. */
static bool is_held(const struct shm_lock *lock)
{
    return (__atomic_load_n(&lock->mutex.__data.__lock, __ATOMIC_ACQUIRE) & FUTEX_TID_MASK) != 0;
}

static void stand_by(struct actor *a, struct held *held)
{
    struct shm_locks *l = &a->db->layout->locks;
    look_again(held->it, held->entries);
    _Atomic uint32_t *part = &a->board->standing[a->place];
    bool may_read = !is_held(&l->change);
    bool may_write = may_read && !is_held(&l->append) && !is_held(&l->sync);
    atomic_store(part, 1);
    if (may_read)
        oracle_check_stopped(a);
    atomic_store(part, 2);
    if (may_write)
        actor_put(a, LSM_WRITE, 50);
    atomic_store(part, 3);
    if (may_read)
        oracle_look(a);
    atomic_store(part, 4);
    tell_one_more(&a->board->stood_by);
}

static void go_on(struct actor *a, unsigned variant)
{
    for (unsigned i = 0; i < 3; i++)
        actor_put(a, LSM_WRITE, 60);
    actor_batch(a, LSM_SYNC, 3, 60);
    oracle_check(a, false);
    if (variant % 3 == 1)
        must(lsm_flush(a->db, err));
    if (variant % 3 == 2)
        for (unsigned i = 0; i < 18; i++) /* more than a memtable holds */
            actor_batch(a, LSM_WRITE, 3, 1300);
    oracle_check(a, false);
}

/* The one that stays longest looks when all others have gone. */
static void judge(struct actor *a, uint32_t others)
{
    for (uint32_t seen; (seen = atomic_load(&a->board->judged)) < others;) {
        if (verdict_is_failed())
            _exit(1);
        await_change(&a->board->judged, seen);
    }
    oracle_check_shared(a); /* what a dead one began is finished, or given up, by then */
    oracle_check(a, true);
}

static uint32_t survivor_count(const struct life *life)
{
    uint32_t count = life->survivors == SURVIVORS_WORKERS ? 2 : life->survivors;
    return count + (count > 0 && life->second.name != NULL);
}

/* The last one closes when the others have, which shows in their slots. */
static void survivor_main(struct stage *s, struct actor *a)
{
    const struct life *life = s->life;
    struct board *b = s->board;
    uint32_t count = survivor_count(life), index = (uint32_t)(a->place - PLACE_SURVIVOR);
    bool dies = index == 0 && life->second.name != NULL;
    bool is_judge = life->second.name == NULL ? index == 0 : a->place == PLACE_WITNESS;
    struct held held = {.entries = 0};
    actor_open(a);
    actor_put(a, LSM_WRITE, 50);
    hold(a, &held);
    tell_one_more(&b->ready);
    if (life->stops) {
        while (atomic_load(&b->stopped) == 0 && atomic_load(&b->died) == 0)
            await_change(&b->stopped, 0);
        if (atomic_load(&b->stopped) != 0)
            stand_by(a, &held);
    }
    await(&b->died);
    if (life->variant == 0)
        let_go(a, &held);
    if (index > 0 && life->second.name != NULL)
        await(&b->alone);
    if (index == 0)
        stepping_begin(life->second.name == NULL ? &b->taker_steps : NULL, life->second, SIGKILL);
    go_on(a, life->variant);
    let_go(a, &held);
    if (index == 0 && (dies || !is_judge))
        stepping_end();
    if (is_judge) {
        stepping_end();
        judge(a, count - 1 - (life->second.name != NULL));
    }
    if (!is_judge) {
        actor_close(a);
        if (!dies)
            tell_one_more(&b->judged);
        return;
    }
    actor_close(a);
}

static void recoverer_main(struct stage *s, struct actor *a)
{
    const struct life *life = s->life;
    struct board *b = s->board;
    bool dies = life->survivors == SURVIVORS_NONE && life->second.name != NULL;
    if (life->survivors == SURVIVORS_NONE)
        stepping_begin(dies ? NULL : &b->taker_steps,
                       dies ? life->second : (struct step_point){NULL, 0}, SIGKILL);
    actor_open(a);
    if (atomic_load(&b->clean))
        oracle_check_files(a);
    must(lsm_sync(a->db, err));
    oracle_check(a, true);
    go_on(a, life->variant);
    kill(getpid(), SIGKILL);
}

static void last_main(struct stage *s, struct actor *a)
{
    (void)s;
    actor_open(a);
    oracle_check(a, true);
    actor_close(a);
    actor_open(a);
    oracle_check_files(a);
    oracle_check(a, true);
    actor_close(a);
}

/* ---- the order of events --------------------------------------------------------------------- */

static bool run_alone(struct stage *s, enum place place, actor_main run, bool may_be_killed,
                      const char *who)
{
    int status = 0;
    pid_t pid = start(s, place, false, run);
    bool ended = wait_end(pid, &status, who);
    if (!ended) {
        kill(pid, SIGKILL);
        (void)waitpid(pid, &status, 0);
        return false;
    }
    return check_end(status, may_be_killed, who);
}

static bool start_survivors(struct stage *s)
{
    uint32_t count = survivor_count(s->life);
    bool has_workers = s->life->survivors == SURVIVORS_WORKERS;
    for (uint32_t i = 0; i < count; i++) {
        bool is_witness = s->life->second.name != NULL && i == count - 1;
        enum place place = is_witness ? PLACE_WITNESS : (enum place)(PLACE_SURVIVOR + i);
        s->survivors[i] = start(s, place, has_workers && !is_witness, survivor_main);
        if (!wait_count(s->board, &s->board->ready, i + 1, "a survivor has not come in"))
            return false;
    }
    return true;
}

static bool let_stopped_go_on(struct stage *s, int *status)
{
    uint32_t count = survivor_count(s->life);
    tell(&s->board->stopped);
    char what[96];
    bool done = wait_count(s->board, &s->board->stood_by, count, NULL);
    snprintf(what, sizeof what, "parts %u and %u of standing by",
             (unsigned)atomic_load(&s->board->standing[PLACE_SURVIVOR]),
             (unsigned)atomic_load(&s->board->standing[PLACE_OTHER]));
    if (!done)
        verdict_fail("a survivor waits for a process that is stopped, in %s", what);
    if (count == 0)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    kill(s->victim, SIGCONT);
    return done && wait_end(s->victim, status, "the stopped victim");
}

static bool run_victim(struct stage *s, struct life_result *result)
{
    const struct life *life = s->life;
    int status = 0;
    s->victim = start(s, PLACE_VICTIM, life->role->has_workers, victim_main);
    atomic_store(&s->board->victim, s->victim);
    if (!wait_count(s->board, &s->board->prepared, 1, "the victim is not prepared"))
        return false;
    if (life->role->between != NULL &&
        !run_alone(s, PLACE_BEFORE, between_main, true, "who comes in between"))
        return false;
    tell(&s->board->go);
    if (life->role->during != NULL &&
        !run_alone(s, PLACE_BEFORE, during_main, false, "who comes in meanwhile"))
        return false;
    tell(&s->board->changed);
    if (!wait_end(s->victim, &status, "the victim"))
        return false;
    if (WIFSTOPPED(status)) {
        result->reached = true;
        if (!let_stopped_go_on(s, &status))
            return false;
    }
    s->victim = 0;
    result->reached |= was_killed(status);
    return check_end(status, life->point.name != NULL && !life->stops, "the victim");
}

static bool end_survivors(struct stage *s, struct life_result *result)
{
    uint32_t count = survivor_count(s->life);
    int status = 0;
    tell(&s->board->died);
    for (uint32_t i = 0; i < count; i++) {
        bool may_die = i == 0 && s->life->second.name != NULL;
        uint32_t at = s->life->second.name == NULL ? count - 1 - i : i; /* the judge last */
        if (!wait_end(s->survivors[at], &status, "a survivor"))
            return false;
        s->survivors[at] = 0;
        result->second_reached |= may_die && was_killed(status);
        if (!check_end(status, may_die, "a survivor"))
            return false;
        if (may_die)
            tell(&s->board->alone);
    }
    return true;
}

static bool check_no_segment(struct stage *s)
{
    unsigned count = 0;
    DIR *dir = opendir(s->shm_dir);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
        count += e->d_name[0] != '.';
    if (dir != NULL)
        closedir(dir);
    if (count > 0)
        verdict_fail("%u segments are left after the last one has closed", count);
    return count == 0;
}

static bool look_afterwards(struct stage *s, struct life_result *result)
{
    int status = 0;
    bool recovers = s->life->survivors == SURVIVORS_NONE;
    atomic_store(&s->board->clean, !recovers);
    if (!recovers && !check_no_segment(s))
        return false;
    pid_t pid = start(s, PLACE_RECOVERER, false, recoverer_main);
    if (!wait_end(pid, &status, "who recovers")) {
        kill(pid, SIGKILL);
        (void)waitpid(pid, &status, 0);
        return false;
    }
    if (!check_end(status, true, "who recovers"))
        return false;
    result->second_reached |= recovers && s->life->second.name != NULL;
    return run_alone(s, PLACE_OTHER, last_main, false, "the last one") && check_no_segment(s);
}

static void kill_all(struct stage *s)
{
    int status;
    for (size_t i = 0; i < sizeof s->survivors / sizeof *s->survivors; i++) {
        if (s->survivors[i] > 0) {
            kill(s->survivors[i], SIGKILL);
            (void)waitpid(s->survivors[i], &status, 0);
        }
    }
    if (s->victim > 0) {
        kill(s->victim, SIGKILL);
        (void)waitpid(s->victim, &status, 0);
    }
}

void life_run(const struct life *life, struct board *board, struct life_result *result)
{
    struct stage s = {.life = life, .board = board};
    sigset_t child, before;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &before); /* see wait_end() */
    memset(board, 0, sizeof *board);
    *result = (struct life_result){.failed = false};
    verdict = &board->verdict;
    scratch_make(s.directory);
    snprintf(s.path, sizeof s.path, "%s/db", s.directory);
    snprintf(s.shm_dir, sizeof s.shm_dir, "%s/shm", s.directory);
    bool going = start_survivors(&s);
    if (going && life->role->before != NULL)
        going = run_alone(&s, PLACE_BEFORE, before_main, true, "who dies before");
    going = going && run_victim(&s, result);
    going = going && end_survivors(&s, result);
    if (going)
        going = look_afterwards(&s, result);
    kill_all(&s);
    result->failed = !going || verdict_is_failed();
    if (result->failed)
        snprintf(result->message, sizeof result->message, "%s (left in %s)", board->verdict.message,
                 s.directory);
    else
        scratch_remove(s.directory);
    sigprocmask(SIG_SETMASK, &before, NULL);
}
