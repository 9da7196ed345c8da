/*
 * What happens around a process that has a database open: fork, exec, exit in the middle of calls,
 * cancelled threads, signals, few descriptors, and descriptors that the application closes.
 */
#include "tests/unit/db/db_fixture.h"

#include "engine/db/db_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OPTIONS                                                                                    \
    "create=true,workers=1,memtable_size=64KiB,stage_size=64KiB,"                                  \
    "wal_segment_size=64KiB,table_size=32KiB,level0_trigger=2,cache_size=256KiB"
#define THREADS 3
#define KEYS    400

static void nap_us(long us)
{
    nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
}

/* ---- threads that are always in the middle of some call -------------------------------------- */

static _Atomic bool stop_threads;
static pthread_t threads[THREADS];

static lsm_slice key_of(unsigned i, char key[24])
{
    return LSM_SLICE(key, (size_t)snprintf(key, 24, "key-%05u", i % KEYS));
}

/* One of everything, for which nothing has to be released. */
static lsm_status use_once(lsm_db *db, unsigned i, lsm_error *err)
{
    char key[24], value[300];
    size_t size = 0;
    lsm_write_options sync = {.durability = LSM_SYNC};
    memset(value, (int)i, sizeof value);
    switch (i % 16) {
    case 3:
        return lsm_put(db, NULL, key_of(i * 7, key), LSM_SLICE(value, sizeof value), &sync, err);
    case 5:
        return i % 80 == 5 ? lsm_flush(db, err) : lsm_sync(db, err);
    case 7:
    case 9:
    case 11:
        return lsm_get_into(db, NULL, key_of(i * 13, key), NULL, value, sizeof value, &size, err);
    default:
        return lsm_put(db, NULL, key_of(i * 7, key), LSM_SLICE(value, sizeof value), NULL, err);
    }
}

static lsm_status walk_once(lsm_db *db, lsm_error *err)
{
    lsm_iter *it = NULL;
    lsm_status status = lsm_iter_open(db, NULL, NULL, &it, err);
    if (status != LSM_OK)
        return status;
    for (lsm_iter_first(it); lsm_iter_valid(it); lsm_iter_next(it))
        ;
    status = lsm_iter_status(it, err);
    lsm_iter_close(it);
    return status;
}

/* Nothing of Check's here, nor in a child: its lock may be held when somebody forks. */
static void *work(void *argument)
{
    lsm_error own = {0};
    lsm_status status = LSM_OK;
    for (unsigned i = 0; status == LSM_OK && !atomic_load(&stop_threads); i++) {
        status = use_once(argument, i, &own);
        if (status == LSM_OK && i % 64 == 0)
            status = walk_once(argument, &own);
    }
    if (status != LSM_OK)
        fprintf(stderr, "a thread ends early: %s\n", own.message);
    return status == LSM_OK ? NULL : argument;
}

static void start_work(lsm_db *db)
{
    atomic_store(&stop_threads, false);
    for (unsigned i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, work, db) != 0)
            abort();
    }
}

static void end_work(void)
{
    atomic_store(&stop_threads, true);
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
}

/* Waits for a child and makes sure that it ended well. */
static void expect_success(pid_t pid)
{
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %#x",
                  (unsigned)status);
}

/* In a child: what is wrong is said by its exit status, and the line on stderr. */
#define child_expects(what)                                                                        \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "child, line %d: %s: %s\n", __LINE__, #what, error.message);           \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* The address sanitizer does not let go of its heap's locks in a child, takes the end of a
 * cancelled thread for an overflow of its stack, and what a child inherits and leaves alone for a
 * leak. */
#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN   1
#define exit_child() _exit(0)
#else
#define UNDER_ASAN   0
#define exit_child() exit(0)
#endif

/* ---- fork ------------------------------------------------------------------------------------ */

static void child_is_refused(lsm_db *db)
{
    char buffer[8], **names = NULL;
    size_t size = 0, count = 0;
    uint64_t value = 0;
    lsm_cf *cf = NULL;
    lsm_snapshot *snapshot = NULL;
    lsm_iter *it = NULL;
    lsm_txn *txn = NULL;
    lsm_slice key = text("key-00001");
    lsm_pin pin = LSM_PIN_INIT;
    child_expects(lsm_put(db, NULL, key, key, NULL, &error) == LSM_FORKED);
    child_expects(lsm_delete(db, NULL, key, NULL, &error) == LSM_FORKED);
    child_expects(lsm_get(db, NULL, key, NULL, &pin, &error) == LSM_FORKED);
    child_expects(lsm_get_into(db, NULL, key, NULL, buffer, 8, &size, &error) == LSM_FORKED);
    child_expects(lsm_multi_get(db, NULL, 1, &key, NULL, &pin, &error) == LSM_FORKED);
    child_expects(lsm_snapshot_acquire(db, &snapshot, &error) == LSM_FORKED);
    child_expects(lsm_iter_open(db, NULL, NULL, &it, &error) == LSM_FORKED);
    child_expects(lsm_txn_begin(db, NULL, &txn, &error) == LSM_FORKED);
    child_expects(lsm_cf_open(db, "default", &cf, &error) == LSM_FORKED);
    child_expects(lsm_cf_create(db, "x", NULL, &cf, &error) == LSM_FORKED);
    child_expects(lsm_cf_list(db, &names, &count, &error) == LSM_FORKED);
    child_expects(lsm_cf_default(db) == NULL);
    child_expects(lsm_flush(db, &error) == LSM_FORKED);
    child_expects(lsm_sync(db, &error) == LSM_FORKED);
    child_expects(lsm_wait_idle(db, &error) == LSM_FORKED);
    child_expects(lsm_compact_range(db, NULL, NULL, &error) == LSM_FORKED);
    child_expects(lsm_property(db, NULL, "tables", &value, &error) == LSM_FORKED);
    child_expects(lsm_close(db, &error) == LSM_FORKED);
}

/* The child opens the same database, and one of its own. */
static void child_opens_anew(const char *own_path, const lsm_options *options)
{
    for (unsigned i = 0; i < 2; i++) {
        lsm_db *db = NULL;
        child_expects(lsm_open(i == 0 ? db_path : own_path, options, &db, &error) == LSM_OK);
        for (unsigned k = 0; k < 80; k++)
            child_expects(use_once(db, k, &error) == LSM_OK);
        child_expects(lsm_flush(db, &error) == LSM_OK);
        child_expects(lsm_close(db, &error) == LSM_OK);
    }
}

START_TEST(test_fork_child_is_refused_and_may_open_itself)
{
    char own_path[SCRATCH_PATH_SIZE + 16];
    snprintf(own_path, sizeof own_path, "%s/own", scratch);
    lsm_options options = options_of(OPTIONS);
    lsm_db *db = open_with(OPTIONS);
    start_work(db);
    for (unsigned i = 0; i < 25; i++) {
        nap_us(500 + (long)(i * 313 % 4000));
        pid_t pid = fork();
        if (pid == 0) {
            alarm(60);
            child_is_refused(db);
            child_opens_anew(own_path, &options);
            if (i % 2 == 0)
                _exit(0);
            fclose(stdout); /* nothing of the runner's is to be printed twice */
            exit_child();
        }
        expect_success(pid);
    }
    end_work();
    close_ok(db);
}
END_TEST

/* What is open on top of the handle: none of it may reach memory that the child has not. */
START_TEST(test_fork_child_may_give_up_what_it_inherited)
{
    lsm_db *db = open_with(OPTIONS);
    for (unsigned i = 0; i < 300; i++)
        ck_ok(use_once(db, i, &error));
    ck_ok(lsm_put(db, NULL, text("pinned"), text("value"), NULL, &error)); /* in a memtable */
    lsm_pin pins[2] = {LSM_PIN_INIT, LSM_PIN_INIT};
    lsm_snapshot *snapshot = NULL;
    lsm_iter *it = NULL;
    lsm_txn *txn = NULL;
    ck_ok(lsm_get(db, NULL, text("pinned"), NULL, &pins[0], &error));
    ck_ok(lsm_get(db, NULL, text("key-00007"), NULL, &pins[1], &error));
    ck_ok(lsm_snapshot_acquire(db, &snapshot, &error));
    ck_ok(lsm_iter_open(db, NULL, NULL, &it, &error));
    ck_ok(lsm_txn_begin(db, NULL, &txn, &error));
    ck_ok(lsm_txn_put(txn, NULL, text("in"), text("txn"), &error));
    lsm_iter_first(it);
    ck_assert(lsm_iter_valid(it));
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        child_expects(!lsm_iter_valid(it));
        child_expects(lsm_iter_key(it).size == 0 && lsm_iter_value(it).size == 0);
        lsm_iter_next(it);
        lsm_iter_first(it);
        lsm_iter_last(it);
        child_expects(!lsm_iter_valid(it));
        child_expects(lsm_iter_status(it, &error) == LSM_FORKED);
        child_expects(lsm_iter_refresh(it, &error) == LSM_FORKED);
        lsm_iter_close(it);
        lsm_pin_release(&pins[0]);
        lsm_pin_release(&pins[1]);
        child_expects(lsm_txn_commit(txn, NULL, &error) == LSM_FORKED);
        lsm_txn_free(txn);
        lsm_snapshot_release(db, snapshot);
        child_expects(lsm_close(db, &error) == LSM_FORKED);
        _exit(0);
    }
    expect_success(pid);
    ck_assert(lsm_iter_valid(it)); /* here nothing has changed */
    lsm_iter_close(it);
    lsm_pin_release(&pins[0]);
    lsm_pin_release(&pins[1]);
    ck_ok(lsm_txn_commit(txn, NULL, &error));
    lsm_txn_free(txn);
    lsm_snapshot_release(db, snapshot);
    close_ok(db);
}
END_TEST

/* A child that outlives its parent holds no lock of it. */
START_TEST(test_fork_child_that_lives_longer_holds_nothing)
{
    int go[2];
    ck_assert_int_eq(pipe(go), 0);
    lsm_options options = options_of(OPTIONS);
    pid_t parent = fork();
    if (parent == 0) {
        lsm_db *db = NULL;
        child_expects(lsm_open(db_path, &options, &db, &error) == LSM_OK);
        start_work(db);
        nap_us(20000);
        if (fork() == 0) { /* it stays until the pipe is closed */
            char byte;
            close(go[1]);
            (void)!read(go[0], &byte, 1);
            _exit(0);
        }
        kill(getpid(), SIGKILL);
    }
    int status;
    ck_assert_int_eq(waitpid(parent, &status, 0), parent);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%#x", (unsigned)status);
    lsm_db *db = NULL;
    ck_ok(lsm_open(db_path, &options, &db, &error));
    close_ok(db);
    close(go[1]);
    close(go[0]);
}
END_TEST

/* ---- exec ------------------------------------------------------------------------------------ */

/* In the program that took this one's place: every descriptor but the first three, and every
 * mapping of the database, is one too many. */
static int list_inherited(const char *directory)
{
    int failed = 0;
    DIR *folder = opendir("/proc/self/fd");
    for (struct dirent *e; folder != NULL && (e = readdir(folder)) != NULL;) {
        char target[300] = "", path[300];
        int fd = atoi(e->d_name);
        snprintf(path, sizeof path, "/proc/self/fd/%.20s", e->d_name);
        if (fd < 3 || fd == dirfd(folder) || readlink(path, target, sizeof target - 1) < 0)
            continue;
        fprintf(stderr, "descriptor %d is inherited: '%s'\n", fd, target);
        failed = 1;
    }
    if (folder != NULL)
        closedir(folder);
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[600];
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        if (strstr(line, directory) == NULL)
            continue;
        fprintf(stderr, "a mapping is inherited: %s", line);
        failed = 1;
    }
    if (maps != NULL)
        fclose(maps);
    return failed;
}

START_TEST(test_exec_inherits_no_descriptor)
{
    for (int fd = 3; fd < 1024; fd++) /* those of the runner are not what is looked for */
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    lsm_db *db = open_with(OPTIONS);
    start_work(db);
    for (unsigned i = 0; i < 10; i++) {
        nap_us(3000);
        pid_t pid = fork();
        if (pid == 0) {
            execl("/proc/self/exe", "environment_test", "--list-inherited", scratch, (char *)NULL);
            _exit(127);
        }
        expect_success(pid);
    }
    end_work();
    close_ok(db);
}
END_TEST

/* A segment or stage file is neither copied by fork nor written into a core file. */
START_TEST(test_mappings_stay_out_of_children_and_core_files)
{
    lsm_db *db = open_with(OPTIONS);
    char line[600], flags[600] = "";
    unsigned seen = 0;
    FILE *maps = fopen("/proc/self/smaps", "r");
    if (maps == NULL)
        exit(77);
    bool is_ours = false, has_memory = false;
    while (fgets(line, sizeof line, maps) != NULL) {
        if (strchr(line, '-') != NULL && strchr(line, '-') < strchr(line, ' ')) {
            is_ours = strstr(line, scratch) != NULL;
            has_memory = strstr(line, " ---s ") == NULL; /* a lock's anchor has none */
        }
        if (!is_ours || strncmp(line, "VmFlags:", 8) != 0)
            continue;
        seen++;
        snprintf(flags, sizeof flags, "%s", line);
        ck_assert_msg(strstr(flags, " dc") != NULL, "fork copies a mapping: %s", flags);
        ck_assert_msg(!has_memory || strstr(flags, " dd") != NULL, "it is dumped: %s", flags);
    }
    fclose(maps);
    ck_assert_uint_ge(seen, 2); /* the segment, and at least one lock */
    close_ok(db);
}
END_TEST

/* ---- exit ------------------------------------------------------------------------------------ */

#define EXITS 12

/* Works when a byte comes through the pipe, for a moment that differs by number, and exits. */
static void work_and_exit(int from, unsigned number)
{
    lsm_options options = options_of(OPTIONS);
    lsm_db *own = NULL;
    char begin;
    child_expects(read(from, &begin, 1) == 1);
    alarm(60);
    child_expects(lsm_open(db_path, &options, &own, &error) == LSM_OK);
    start_work(own);
    nap_us(2000 + (long)number * 1777);
    fclose(stdout);
    exit_child();
}

START_TEST(test_exit_while_threads_work_is_a_death_to_others)
{
    int begin[EXITS][2];
    pid_t pids[EXITS];
    for (unsigned i = 0; i < EXITS;
         i++) { /* while there is no thread: sanitizers cannot bear forks beside them */
        ck_assert_int_eq(pipe(begin[i]), 0);
        pids[i] = fork();
        if (pids[i] == 0)
            work_and_exit(begin[i][0], i);
    }
    lsm_db *db = open_with(OPTIONS);
    for (unsigned i = 0; i < EXITS; i++) {
        ck_assert_int_eq(write(begin[i][1], "b", 1), 1);
        for (unsigned k = 0; k < 200; k++)
            ck_ok(use_once(db, k, &error));
        expect_success(pids[i]);
        for (unsigned k = 0; k < 50; k++)
            ck_ok(use_once(db, k, &error));
    }
    ck_ok(lsm_flush(db, &error));
    ck_ok(db_reap(db, &error));
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++)
        ck_assert(&db->layout->slots[i] == db->slot ||
                  atomic_load(&db->layout->slots[i].state) == SHM_SLOT_FREE);
    close_ok(db);
}
END_TEST

/* ---- cancelled threads ----------------------------------------------------------------------- */

static _Atomic unsigned calls_begun, calls_ended;

/* Can be cancelled at any point of a call that is a cancellation point, and between two calls. */
static void *work_until_cancelled(void *argument)
{
    lsm_error own;
    for (unsigned i = 0;; i++) {
        atomic_fetch_add(&calls_begun, 1);
        lsm_status status = i % 100 == 99 ? lsm_compact_range(argument, NULL, NULL, &own)
                                          : use_once(argument, i, &own);
        atomic_fetch_add(&calls_ended, 1);
        if (status != LSM_OK)
            return argument;
        pthread_testcancel();
    }
}

static const char *const backends[] = {",io=auto", ",io=posix"};
#define BACKENDS (sizeof backends / sizeof *backends)

START_TEST(test_cancelled_thread_ends_between_calls)
{
    char options[400];
    snprintf(options, sizeof options, "%s%s", OPTIONS, backends[_i % (int)BACKENDS]);
    lsm_options parsed = options_of(options);
    if (_i >= (int)BACKENDS) /* then a caller does what workers would have done */
        parsed.workers = LSM_NO_WORKERS;
    lsm_db *db = NULL;
    ck_ok(lsm_open(db_path, &parsed, &db, &error));
    for (unsigned round = 0; round < 40; round++) {
        atomic_store(&calls_begun, 0);
        atomic_store(&calls_ended, 0);
        pthread_t cancelled[2];
        for (unsigned i = 0; i < 2; i++)
            ck_assert_int_eq(pthread_create(&cancelled[i], NULL, work_until_cancelled, db), 0);
        nap_us(200 + (long)(round * 733 % 9000));
        for (unsigned i = 0; i < 2; i++)
            pthread_cancel(cancelled[i]);
        for (unsigned i = 0; i < 2; i++) {
            void *result = NULL;
            pthread_join(cancelled[i], &result);
            ck_assert_ptr_eq(result, PTHREAD_CANCELED);
        }
        ck_assert_uint_eq(atomic_load(&calls_begun), atomic_load(&calls_ended));
    }
    for (unsigned i = 0; i < 100; i++)
        ck_ok(use_once(db, i, &error));
    ck_ok(lsm_flush(db, &error));
    close_ok(db);
}
END_TEST

/* ---- signals --------------------------------------------------------------------------------- */

static _Atomic unsigned alarms;

static void count_alarm(int number)
{
    (void)number;
    atomic_fetch_add(&alarms, 1);
}

static void expect_calls_to_succeed(const char *option_text)
{
    for (unsigned round = 0; round < 6; round++) {
        lsm_db *db = open_with(option_text);
        for (unsigned i = 0; i < 400; i++)
            ck_ok(use_once(db, i, &error));
        ck_ok(walk_once(db, &error));
        ck_ok(lsm_compact_range(db, NULL, NULL, &error));
        ck_ok(lsm_wait_idle(db, &error));
        close_ok(db);
    }
}

START_TEST(test_signals_do_not_make_calls_fail)
{
    char options[400];
    snprintf(options, sizeof options, "%s%s", OPTIONS, backends[_i % (int)BACKENDS]);
    struct sigaction action = {.sa_handler = count_alarm,
                               .sa_flags = _i >= (int)BACKENDS ? SA_RESTART : 0};
    ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
    expect_calls_to_succeed(options);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
    ck_assert_uint_gt(atomic_load(&alarms), 10);
}
END_TEST

/* ---- few descriptors ------------------------------------------------------------------------- */

static int count_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder != NULL && readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static unsigned get_all(lsm_db *db)
{
    unsigned failed = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        char key[24], value[300];
        size_t size = 0;
        lsm_status status =
            lsm_get_into(db, NULL, key_of(i, key), NULL, value, sizeof value, &size, &error);
        if (status == LSM_OK)
            ck_assert_uint_eq(size, sizeof value);
        else
            ck_assert_msg(status == LSM_IO, "%s", error.message);
        failed += status != LSM_OK;
    }
    return failed;
}

START_TEST(test_few_descriptors_make_calls_fail_and_nothing_else)
{
    lsm_db *db = open_with(OPTIONS);
    for (unsigned i = 0; i < 16 * KEYS; i++)
        ck_ok(use_once(db, i, &error));
    ck_ok(lsm_compact_range(db, NULL, NULL, &error));
    char key[24], value[300] = {0};
    for (unsigned i = 0; i < KEYS; i++)
        ck_ok(lsm_put(db, NULL, key_of(i, key), LSM_SLICE(value, sizeof value), NULL, &error));
    ck_ok(lsm_flush(db, &error));
    ck_ok(lsm_wait_idle(db, &error));
    close_ok(db);
    struct rlimit before;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    unsigned opened = 0, refused = 0;
    for (rlim_t room = 0; room < 24; room += 2) {
        struct rlimit few = before;
        few.rlim_cur = (rlim_t)count_descriptors() + room;
        lsm_options options = options_of(OPTIONS);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
        db = NULL;
        lsm_status status = lsm_open(db_path, &options, &db, &error);
        opened += status == LSM_OK;
        refused += status != LSM_OK;
        if (status == LSM_OK) {
            (void)get_all(db);
            /* Nothing is promised but an answer. */
            if (lsm_put(db, NULL, text("few"), text("few"), NULL, &error) == LSM_OK)
                opened += lsm_flush(db, &error) == LSM_OK;
        } else {
            ck_assert_msg(status == LSM_IO && error.message[0] != 0, "%d %s", status,
                          error.message);
        }
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
        if (db == NULL)
            continue;
        ck_assert_uint_eq(get_all(db), 0);
        (void)lsm_close(db, &error);
    }
    ck_assert_uint_gt(opened, 0);
    ck_assert_uint_gt(refused, 0);
    db = open_with(OPTIONS);
    ck_assert_uint_eq(get_all(db), 0);
    close_ok(db);
}
END_TEST

/* ---- closed descriptors ---------------------------------------------------------------------- */

/*
 * A process closes every descriptor behind the library's back, and writes on until a call fails.
 * The number of its last acknowledged write goes through the pipe.
 */
static void close_all_and_write(int from, int to, bool with_workers)
{
    char begin;
    child_expects(read(from, &begin, 1) == 1);
    lsm_options options = options_of(OPTIONS);
    lsm_db *db = NULL;
    uint32_t acknowledged = 0;
    alarm(60);
    if (!with_workers)
        options.workers = LSM_NO_WORKERS;
    child_expects(lsm_open(db_path, &options, &db, &error) == LSM_OK);
    dup2(to, 3);
    lsm_status status = LSM_OK;
    for (uint32_t i = 1; status == LSM_OK && i <= 3000; i++) {
        char key[24], value[300];
        memset(value, (int)i, sizeof value);
        if (i == 50)
            close_range(4, ~0u, 0);
        snprintf(key, sizeof key, "closed-%05u", i);
        status = lsm_put(db, NULL, text(key), LSM_SLICE(value, sizeof value), NULL, &error);
        if (status == LSM_OK)
            acknowledged = i;
    }
    child_expects(write(3, &acknowledged, sizeof acknowledged) == sizeof acknowledged);
    _exit(0);
}

START_TEST(test_closed_descriptors_harm_nobody_else)
{
    int pipes[2], begin[2];
    uint32_t acknowledged = 0;
    ck_assert_int_eq(pipe(pipes), 0);
    ck_assert_int_eq(pipe(begin), 0);
    pid_t pid = fork(); /* while there is no thread yet: sanitizers cannot bear that */
    if (pid == 0)
        close_all_and_write(begin[0], pipes[1], _i == 0);
    lsm_db *db = open_with(OPTIONS);
    ck_assert_int_eq(write(begin[1], "b", 1), 1);
    lsm_status poisoned = LSM_OK;
    for (unsigned i = 0; i < 400; i++) {
        lsm_status status = use_once(db, i, &error);
        ck_assert_msg(status == LSM_OK || status == LSM_POISONED || status == LSM_IO, "%s",
                      error.message);
        if (status != LSM_OK)
            poisoned = status;
    }
    expect_success(pid);
    ck_assert_int_eq(read(pipes[0], &acknowledged, sizeof acknowledged), sizeof acknowledged);
    ck_assert_uint_ge(acknowledged, 49);
    if (poisoned == LSM_OK) { /* unless it failed when the writing above was over */
        poisoned = atomic_load(&db->layout->ctl.poisoned) == 0 ? LSM_OK : LSM_POISONED;
        ck_assert_int_eq(lsm_put(db, NULL, text("still"), text("there"), NULL, &error), poisoned);
    }
    (void)lsm_close(db, &error);
    db = open_with(OPTIONS);
    for (uint32_t i = 1; i <= acknowledged; i++) {
        char key[24], value[300];
        size_t size = 0;
        snprintf(key, sizeof key, "closed-%05u", i);
        ck_ok(lsm_get_into(db, NULL, text(key), NULL, value, sizeof value, &size, &error));
        ck_assert_msg(size == sizeof value && value[0] == (char)i, "'%s' has %zu bytes", key, size);
    }
    close_ok(db);
    printf("closed descriptors: %" PRIu32 " acknowledged, the other one %s\n", acknowledged,
           lsm_strerror(poisoned));
}
END_TEST

int main(int count, char **words)
{
    if (count == 3 && strcmp(words[1], "--list-inherited") == 0)
        return list_inherited(words[2]);
#if defined(__SANITIZE_THREAD__)
    return 77; /* no threads after a fork with threads, and no exit of its own, under it */
#endif
    Suite *suite = suite_create("db/environment");
    TCase *forks = tcase_create("fork");
    tcase_add_checked_fixture(forks, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(forks, 120);
    if (!UNDER_ASAN)
        tcase_add_test(forks, test_fork_child_is_refused_and_may_open_itself);
    tcase_add_test(forks, test_fork_child_may_give_up_what_it_inherited);
    tcase_add_test(forks, test_fork_child_that_lives_longer_holds_nothing);
    tcase_add_test(forks, test_exec_inherits_no_descriptor);
    tcase_add_test(forks, test_mappings_stay_out_of_children_and_core_files);
    suite_add_tcase(suite, forks);
    TCase *ends = tcase_create("ends");
    tcase_add_checked_fixture(ends, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(ends, 120);
    tcase_add_test(ends, test_exit_while_threads_work_is_a_death_to_others);
    if (!UNDER_ASAN)
        tcase_add_loop_test(ends, test_cancelled_thread_ends_between_calls, 0, 2 * (int)BACKENDS);
    tcase_add_loop_test(ends, test_signals_do_not_make_calls_fail, 0, 2 * (int)BACKENDS);
    suite_add_tcase(suite, ends);
    TCase *descriptors = tcase_create("descriptors");
    tcase_add_checked_fixture(descriptors, fixture_set_up, fixture_tear_down);
    tcase_set_timeout(descriptors, 120);
    tcase_add_test(descriptors, test_few_descriptors_make_calls_fail_and_nothing_else);
    tcase_add_loop_test(descriptors, test_closed_descriptors_harm_nobody_else, 0, 2);
    suite_add_tcase(suite, descriptors);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
