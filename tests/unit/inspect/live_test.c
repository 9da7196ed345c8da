/*
 * Databases as other processes have them open: what they hold is told of them, dead, stopped and
 * storming ones too, and no bytes in the shared memory make who looks at it stumble.
 */
#include "tests/unit/db/db_fixture.h"

#include "engine/base/random.h"
#include "engine/base/step.h"
#include "engine/inspect/inspect_live.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OPTIONS                                                                                    \
    "create=true,workers=none,memtable_size=256KiB,stage_size=128KiB,"                             \
    "wal_segment_size=128KiB,cache_size=1MiB"
#define LOOKS  3000
#define ROUNDS 60

static struct io *io;

static void set_up(void)
{
    fixture_set_up();
    ck_ok(io_open("posix", &io, &error));
}

static void tear_down(void)
{
    io_close(io);
    fixture_tear_down();
}

static struct inspect_live *look(void)
{
    struct inspect_live *live = NULL;
    ck_ok(inspect_live_open(io, db_path, &live, &error));
    return live;
}

/* ---- other processes ------------------------------------------------------------------------- */

struct member {
    pid_t pid;
    int said; /* a byte arrives when it has done what it had to do */
};

typedef void (*part)(lsm_db *db);

static struct member member_begin(part play)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        close(ends[0]);
        lsm_db *db = open_with(OPTIONS);
        play(db);
        if (write(ends[1], "", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ends[1]);
    return (struct member){.pid = pid, .said = ends[0]};
}

static void member_await(struct member *m)
{
    char byte;
    ck_assert_int_eq(read(m->said, &byte, 1), 1);
}

static void member_kill(struct member *m)
{
    int status;
    kill(m->pid, SIGKILL);
    ck_assert_int_eq(waitpid(m->pid, &status, 0), m->pid);
    close(m->said);
}

static const struct inspect_process *process_of(const struct inspect_live *live, pid_t pid)
{
    for (size_t i = 0; i < live->process_count; i++) {
        if (live->processes[i].pid == pid)
            return &live->processes[i];
    }
    ck_abort_msg("process %d is not told of", (int)pid);
    return NULL;
}

static void do_nothing(lsm_db *db)
{
    (void)db;
}

/* A snapshot, a transaction and an iterator, of two sequence numbers. */
static void hold_things(lsm_db *db)
{
    lsm_snapshot *snapshot = NULL;
    lsm_txn *txn = NULL;
    lsm_iter *iter = NULL;
    put_many(db, NULL, 0, 10, 100);
    ck_ok(lsm_snapshot_acquire(db, &snapshot, &error));
    put_many(db, NULL, 10, 5, 100);
    ck_ok(lsm_txn_begin(db, NULL, &txn, &error));
    ck_ok(lsm_iter_open(db, NULL, NULL, &iter, &error));
    lsm_iter_first(iter);
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(test_live_without_database_is_missing)
{
    struct inspect_live *live = NULL;
    ck_fails(LSM_MISSING, inspect_live_open(io, db_path, &live, &error));
    ck_assert_int_eq(mkdir(db_path, 0700), 0);
    ck_fails(LSM_MISSING, inspect_live_open(io, db_path, &live, &error));
    ck_assert_ptr_null(live);
}
END_TEST

START_TEST(test_live_of_a_closed_database_is_what_its_files_say)
{
    lsm_db *db = open_with(OPTIONS);
    put_many(db, NULL, 0, 100, 100);
    close_ok(db);
    struct inspect_live *live = look();
    ck_assert_int_eq(live->state, SHM_PEEK_NOBODY);
    ck_assert(!live->has_segment);
    ck_assert(live->files.has_manifest);
    ck_assert(live->files.is_clean);
    ck_assert_uint_eq(live->files.family_count, 1);
    ck_assert_str_eq(live->files.families[0].name, "default");
    ck_assert_uint_eq(live->files.families[0].levels[0].entries, 100);
    ck_assert_uint_eq(live->files.live.count, 1);
    ck_assert_uint_eq(live->files.damage_count, 0);
    inspect_live_free(live);
}
END_TEST

START_TEST(test_live_tells_what_a_process_holds)
{
    struct member m = member_begin(hold_things);
    member_await(&m);
    struct inspect_live *live = look();
    const struct inspect_process *p = process_of(live, m.pid);
    ck_assert_int_eq(live->state, SHM_PEEK_SHARED);
    ck_assert(p->is_alive);
    ck_assert_uint_eq(p->roles & ~(uint32_t)SHM_ROLE_KEEPER, SHM_ROLE_OPEN);
    ck_assert_uint_eq(p->snapshot_count, 2);
    ck_assert_uint_eq(p->oldest_snapshot, 10);
    ck_assert_uint_lt(p->oldest_snapshot_age_ns, UINT64_C(60000000000));
    ck_assert_uint_eq(p->report.iterators, 1);
    ck_assert_uint_eq(p->arena_count, 1);
    ck_assert_uint_eq(p->versions_behind, 0);
    ck_assert_str_ne(p->report.io_name, "");
    ck_assert_str_ne(p->report.io_reason, "");
    ck_assert_uint_eq(live->visible_sequence, 15);
    ck_assert_uint_eq(live->memtable_count, 1);
    ck_assert_int_eq(live->memtables[0].state, SHM_MEMTABLE_ACTIVE);
    ck_assert_uint_eq(live->memtables[0].entry_count, 15);
    ck_assert_uint_eq(live->memtables[0].reader_count, 1);
    ck_assert_uint_ge(live->log.staged, live->log.written);
    inspect_live_free(live);
    member_kill(&m);
    live = look();
    ck_assert_int_eq(live->state, SHM_PEEK_NOBODY);
    ck_assert(!live->files.is_clean);
    inspect_live_free(live);
}
END_TEST

START_TEST(test_live_names_a_dead_process_and_what_waits_for_it)
{
    struct member living = member_begin(do_nothing);
    member_await(&living);
    struct member dead = member_begin(hold_things);
    member_await(&dead);
    kill(living.pid, SIGSTOP); /* so that nobody cleans up */
    ck_assert_int_eq(waitpid(living.pid, NULL, WUNTRACED), living.pid);
    member_kill(&dead);
    struct inspect_live *live = look();
    const struct inspect_process *p = process_of(live, dead.pid);
    ck_assert(!p->is_alive);
    ck_assert_uint_eq(p->snapshot_count, 2);
    ck_assert_uint_eq(live->dead_count, 1);
    ck_assert_int_eq(process_of(live, living.pid)->run_state, 'T');
    inspect_live_free(live);
    member_kill(&living);
}
END_TEST

/* What a reader keeps others from freeing is told of it, and of nobody else. */
START_TEST(test_live_tells_who_blocks_memtables_and_tables)
{
    struct member m = member_begin(hold_things);
    member_await(&m);
    lsm_db *db = open_with(OPTIONS);
    for (unsigned i = 0; i < 3; i++) {
        put_many(db, NULL, 0, 50, 100);
        ck_ok(lsm_flush(db, &error));
    }
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    put_many(db, NULL, 100, 1, 10); /* a newer view */
    struct inspect_live *live = look();
    const struct inspect_process *p = process_of(live, m.pid);
    ck_assert_uint_eq(p->blocked_count, 1);
    ck_assert_uint_gt(p->blocked_bytes, 0);
    ck_assert(p->holds_files);
    ck_assert_ptr_eq(inspect_file_holder(live), p);
    ck_assert_uint_ge(live->files.superseded.count, 3);
    ck_assert(!process_of(live, getpid())->holds_files);
    ck_assert_uint_ge(p->versions_behind, 3);
    ck_assert_uint_eq(process_of(live, getpid())->blocked_count, 0);
    ck_assert_uint_eq(live->files.damage_count, 0);
    inspect_live_free(live);
    member_kill(&m);
    close_ok(db);
}
END_TEST

/* The tool formats what was found; it must end by itself, whatever that is. */
static void run_tool(const char *option)
{
    char command[1200];
    const char *build = getenv("top_builddir");
    if (build == NULL)
        return;
    snprintf(command, sizeof command, "'%s/lsm-stat' -q %s '%s' >'%s/out' 2>'%s/err'", build,
             option, db_path, scratch, scratch);
    int status = system(command);
    /* Damage and what cannot be done are fair; sanitizers end a program with other codes. */
    ck_assert_msg(WIFEXITED(status) && (WEXITSTATUS(status) & ~12) == 0, "%s: %d", command, status);
    snprintf(command, sizeof command, "! grep -q 'runtime error' '%s/err'", scratch);
    ck_assert_int_eq(system(command), 0);
}

static const char *fatal_step;
static int fatal_signal;

static void signal_at_step(const char *name)
{
    if (strcmp(name, fatal_step) == 0)
        kill(getpid(), fatal_signal);
}

/* A process that gets the signal in a commit, while it holds the append lock. */
static pid_t writer_gets(int number)
{
    fatal_step = "commit: inserted";
    fatal_signal = number;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        lsm_db *db = open_with(OPTIONS);
        put_text(db, NULL, "a", "1");
        atomic_store(&step_hook, signal_at_step);
        put_text(db, NULL, "b", "2");
        _exit(1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
    ck_assert(number == SIGSTOP ? WIFSTOPPED(status) : WIFSIGNALED(status));
    return pid;
}

static const struct inspect_lock *append_lock(const struct inspect_live *live)
{
    for (size_t i = 0; i < INSPECT_LOCK_COUNT; i++) {
        if (strcmp(live->locks[i].name, "append") == 0)
            return &live->locks[i];
    }
    ck_abort_msg("there is no append lock");
    return NULL;
}

/* What the tool says in `file` ("out", "err"); it is run when the tests are run by make. */
static void expect_tool(const char *option, const char *file, const char *wanted)
{
    char path[SCRATCH_PATH_SIZE + 8], said[4096] = "";
    if (getenv("top_builddir") == NULL)
        return;
    run_tool(option);
    snprintf(path, sizeof path, "%s/%s", scratch, file);
    FILE *stream = fopen(path, "r");
    ck_assert_ptr_nonnull(stream);
    said[fread(said, 1, sizeof said - 1, stream)] = '\0';
    fclose(stream);
    ck_assert_msg(strstr(said, wanted) != NULL, "'%s' is not in '%s'", wanted, said);
}

START_TEST(test_live_names_a_stopped_owner_of_the_append_lock)
{
    struct member m = member_begin(do_nothing);
    member_await(&m);
    pid_t pid = writer_gets(SIGSTOP);
    member_kill(&m);
    struct inspect_live *live = look();
    const struct inspect_lock *lock = append_lock(live);
    ck_assert_uint_eq(live->dead_count, 1);
    ck_assert_int_eq(lock->thread, pid); /* its first thread */
    ck_assert_int_eq(lock->pid, pid);
    ck_assert_int_eq(lock->run_state, 'T');
    ck_assert(!lock->is_gone);
    ck_assert_int_ne(lock->process, INSPECT_NOBODY);
    ck_assert_int_eq(live->processes[lock->process].pid, pid);
    ck_assert_int_eq(live->processes[lock->process].run_state, 'T');
    inspect_live_free(live);
    expect_tool("--explain-stall", "out", "STOPS WRITERS: process ");
    expect_tool("--explain-stall", "out", "is stopped and holds the append lock");
    expect_tool("", "out", "lock       append (writers): thread ");
    expect_tool("-rr", "err", "is stopped and holds the append lock");
    int status;
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
}
END_TEST

START_TEST(test_live_says_that_the_owner_of_the_append_lock_died)
{
    struct member m = member_begin(do_nothing);
    member_await(&m);
    pid_t pid = writer_gets(SIGKILL);
    struct inspect_live *live = look();
    const struct inspect_lock *lock = append_lock(live);
    ck_assert_int_eq(lock->thread, pid);
    ck_assert(lock->is_gone);
    ck_assert_int_eq(lock->process, INSPECT_NOBODY);
    ck_assert(!process_of(live, pid)->is_alive);
    inspect_live_free(live);
    member_kill(&m);
}
END_TEST

START_TEST(test_live_notes_missing_and_short_tables)
{
    char command[SCRATCH_PATH_SIZE + 64];
    lsm_db *db = open_with(OPTIONS);
    put_many(db, NULL, 0, 10, 100);
    ck_ok(lsm_flush(db, &error));
    put_many(db, NULL, 0, 10, 100);
    close_ok(db);
    snprintf(command, sizeof command, "cd '%s' && set -- *.sst && rm $1 && echo >>$2", db_path);
    ck_assert_int_eq(system(command), 0);
    struct inspect_live *live = look();
    ck_assert_uint_eq(live->files.damage_count, 2);
    ck_assert_uint_eq(live->files.live.count, 1);
    ck_assert_uint_eq(live->files.families[0].levels[0].tables, 2);
    inspect_live_free(live);
}
END_TEST

/* ---- storms ---------------------------------------------------------------------------------- */

/* Writes, flushes, merges, reads, comes and goes, until it is killed. */
static void storm(unsigned seed)
{
    for (unsigned round = 0;; round++) {
        lsm_db *db =
            open_with(round % 2 == 0 ? OPTIONS ",max_open_tables=20" : "workers=1,cache_size=1MiB");
        for (unsigned i = 0; i < 8; i++) {
            lsm_snapshot *snapshot = NULL;
            put_many(db, NULL, (seed + i * 37) % 100, 100, 200);
            ck_ok(lsm_snapshot_acquire(db, &snapshot, &error));
            ck_ok(lsm_flush(db, &error));
            if (i % 4 == 3)
                ck_ok(lsm_compact_range(db, NULL, NULL, &error));
            lsm_snapshot_release(db, snapshot);
        }
        close_ok(db);
    }
}

static pid_t storm_begin(unsigned seed)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        storm(seed);
    return pid;
}

static void check_look(const struct inspect_live *live)
{
    ck_assert_msg(live->files.damage_count == 0, "%s", live->files.damages[0].message);
    ck_assert_int_ne(live->state, SHM_PEEK_HIDDEN);
    ck_assert_uint_le(live->process_count, 8);
    ck_assert_uint_le(live->log.written, live->log.staged);
    for (size_t i = 0; i < live->process_count; i++)
        ck_assert_int_gt(live->processes[i].pid, 0);
    if (live->files.has_manifest) {
        ck_assert_uint_eq(live->files.family_count, 1);
        ck_assert_str_eq(live->files.families[0].name, "default");
    }
}

START_TEST(test_live_of_storming_processes_is_never_damaged)
{
    pid_t pids[2];
    close_ok(open_with(OPTIONS));
    for (unsigned i = 0; i < 2; i++)
        pids[i] = storm_begin(i);
    uint64_t shared = 0;
    for (unsigned i = 0; i < LOOKS; i++) {
        struct inspect_live *live = look();
        check_look(live);
        shared += live->state == SHM_PEEK_SHARED;
        inspect_live_free(live);
        if (i % (LOOKS / 8) == LOOKS / 8 - 1) { /* one dies and another comes */
            int status;
            kill(pids[i % 2], SIGKILL);
            ck_assert_int_eq(waitpid(pids[i % 2], &status, 0), pids[i % 2]);
            ck_assert_msg(WIFSIGNALED(status), "a writer ended with %d", status);
            pids[i % 2] = storm_begin(i);
        }
    }
    ck_assert_uint_gt(shared, LOOKS / 10);
    for (unsigned i = 0; i < 2; i++) {
        kill(pids[i], SIGKILL);
        (void)waitpid(pids[i], NULL, 0);
    }
}
END_TEST

/* ---- hostile memory -------------------------------------------------------------------------- */

static void scribble(struct random_state *random, uint8_t *at, size_t size)
{
    unsigned kind = (unsigned)random_below(random, 4);
    for (size_t i = 0; i < size; i++) {
        if (kind == 0 || random_below(random, 64) == 0)
            at[i] = kind == 3 ? 0xff : (uint8_t)random_below(random, 256);
    }
}

START_TEST(test_live_of_scribbled_memory_does_not_crash)
{
    struct random_state random;
    uint64_t seed = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    random = random_seeded(seed);
    struct member m = member_begin(hold_things);
    member_await(&m);
    struct inspect_live *live = look();
    int fd = open(live->segment, O_RDWR);
    ck_assert_int_ge(fd, 0);
    size_t first = offsetof(struct shm_layout, ctl), size = sizeof(struct shm_layout);
    uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    inspect_live_free(live);
    kill(m.pid, SIGSTOP);
    uint8_t *good = malloc(size);
    memcpy(good, memory, size);
    for (unsigned i = 0; i < ROUNDS; i++) {
        static const char *const options[] = {"--json", "--prometheus", "-rlcwie --explain-stall",
                                              ""};
        memcpy(memory + first, good + first, size - first);
        scribble(&random, memory + first, size - first);
        live = look();
        ck_assert_uint_le(live->process_count, SHM_MAX_SLOTS);
        ck_assert_uint_le(live->memtable_count, SHM_MAX_MEMTABLES);
        inspect_live_free(live);
        run_tool(options[i % 4]);
    }
    free(good);
    munmap(memory, size);
    close(fd);
    member_kill(&m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("inspect/live");
    TCase *tests = tcase_create("live");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 100);
    tcase_add_test(tests, test_live_without_database_is_missing);
    tcase_add_test(tests, test_live_of_a_closed_database_is_what_its_files_say);
    tcase_add_test(tests, test_live_tells_what_a_process_holds);
    tcase_add_test(tests, test_live_names_a_dead_process_and_what_waits_for_it);
    tcase_add_test(tests, test_live_tells_who_blocks_memtables_and_tables);
    tcase_add_test(tests, test_live_names_a_stopped_owner_of_the_append_lock);
    tcase_add_test(tests, test_live_says_that_the_owner_of_the_append_lock_died);
    tcase_add_test(tests, test_live_notes_missing_and_short_tables);
    tcase_add_test(tests, test_live_of_storming_processes_is_never_damaged);
    tcase_add_test(tests, test_live_of_scribbled_memory_does_not_crash);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
