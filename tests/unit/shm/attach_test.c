/* Coming in and leaving while nobody dies: roles, refusals, messages. */
#include "tests/unit/shm/attach_fixture.h"

#include "engine/base/memory.h"
#include "engine/io/sim.h"
#include "engine/shm/attach_page.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

static void pause_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000},
              NULL);
}

/* ---- roles ----------------------------------------------------------------------------------- */

START_TEST(test_attach_first_founds_second_joins_last_removes)
{
    struct shm_attachment *first = attach_as(SHM_ATTACH_FOUNDER);
    struct shm_attachment *second = attach_as(SHM_ATTACH_JOINED);
    ck_assert_int_eq(segment_count(), 1);
    struct shm_layout *a = shm_layout(shm_attachment_segment(first));
    struct shm_layout *b = shm_layout(shm_attachment_segment(second));
    ck_assert_ptr_ne(a, b);
    a->ctl.next_file_number = 4711;
    ck_assert_uint_eq(b->ctl.next_file_number, 4711);

    ck_assert_uint_eq(shm_attachment_slot(first), 0);
    ck_assert_uint_eq(shm_attachment_slot(second), 1);
    ck_assert_uint_eq(shm_attachment_generation(second), 1);
    ck_assert_int_eq(slot_of(first, 1)->pid, getpid());
    ck_assert(shm_slot_is_alive(first, 0));
    ck_assert(shm_slot_is_alive(first, 1));
    ck_assert(!shm_slot_is_alive(first, 2));
    ck_assert_uint_eq(slots_in_use(second), 2);

    ck_assert(!detach(first)); /* the founder is nobody special */
    ck_assert_int_eq(segment_count(), 1);
    ck_assert(!shm_slot_is_alive(second, 0));
    ck_assert_uint_eq(slots_in_use(second), 1);
    first = attach_as(SHM_ATTACH_JOINED);
    ck_assert_uint_eq(shm_attachment_slot(first), 0);
    ck_assert_uint_eq(shm_attachment_generation(first), 3); /* taken, given back, taken */
    ck_assert(!detach(second));
    ck_assert(detach(first));
    ck_assert_int_eq(segment_count(), 0);
    first = attach_as(SHM_ATTACH_FOUNDER);
    ck_assert(detach(first));
}
END_TEST

START_TEST(test_attach_of_a_founder_that_gives_up_leaves_nothing)
{
    struct shm_attach_options o = options(0);
    struct shm_options so = segment_options();
    for (unsigned made = 0; made < 2; made++) {
        struct shm_attachment *a = NULL;
        enum shm_attach_role role;
        bool is_last = false;
        ck_ok(shm_attach_begin(&o, &a, &role, err));
        ck_assert_int_eq(role, SHM_ATTACH_FOUNDER);
        if (made == 1)
            ck_ok(shm_attach_found(a, &so, err));
        ck_ok(shm_detach_begin(a, &is_last, err));
        ck_assert(is_last);
        shm_detach_end(a);
        ck_assert_int_eq(segment_count(), 0);
    }
}
END_TEST

START_TEST(test_attach_after_a_failed_founding_works)
{
    struct shm_attach_options o = options(0);
    struct shm_options so = segment_options();
    struct shm_attachment *a = NULL;
    enum shm_attach_role role;
    lsm_error error = {0};
    ck_ok(shm_attach_begin(&o, &a, &role, err));
    so.memtable_count = 0;
    ck_assert_int_eq(shm_attach_found(a, &so, &error), LSM_INVALID);
    ck_assert_ptr_null(shm_attachment_segment(a));
    so = segment_options();
    ck_ok(shm_attach_found(a, &so, err));
    ck_ok(shm_attach_ready(a, err));
    ck_assert(detach(a));
}
END_TEST

START_TEST(test_attach_leaves_a_slot_empty)
{
    struct shm_attachment *first = attach_as(SHM_ATTACH_FOUNDER);
    struct shm_attachment *second = attach_as(SHM_ATTACH_JOINED);
    struct shm_slot *slot = slot_of(second, 1);
    slot->pin = 7;
    slot->out_floor = 8;
    slot->snapshots[SHM_SLOT_SNAPSHOTS - 1] = 9;
    slot->jobs[SHM_SLOT_JOBS - 1].state = SHM_JOB_RUNNING;
    ck_assert(!detach(second));
    slot = slot_of(first, 1);
    ck_assert_uint_eq(slot->pin, 0);
    ck_assert_uint_eq(slot->out_floor, 0);
    ck_assert_uint_eq(slot->snapshots[SHM_SLOT_SNAPSHOTS - 1], 0);
    ck_assert_uint_eq(slot->jobs[SHM_SLOT_JOBS - 1].state, SHM_JOB_NONE);
    ck_assert_int_eq(slot->pid, 0);
    ck_assert(detach(first));
}
END_TEST

/* ---- waiting --------------------------------------------------------------------------------- */

static void check_names_this_process(const lsm_error *err, const char *what)
{
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld ", (long)getpid());
    ck_assert_int_eq(err->status, LSM_BUSY);
    ck_assert_msg(strstr(err->message, pid) != NULL && strstr(err->message, what) != NULL, "%s",
                  err->message);
}

START_TEST(test_attach_waits_for_recovery_until_the_deadline)
{
    struct shm_attach_options o = options(50);
    struct shm_options so = segment_options();
    struct shm_attachment *founder = NULL, *other = NULL;
    enum shm_attach_role role;
    lsm_error error = {0};
    ck_ok(shm_attach_begin(&o, &founder, &role, err));
    for (unsigned stage = 0; stage < 2; stage++) {
        uint64_t before = io_now_ns(io);
        ck_assert_int_eq(shm_attach_begin(&o, &other, &role, &error), LSM_BUSY);
        ck_assert_uint_ge(io_now_ns(io) - before, 50000000u);
        check_names_this_process(&error, "is being opened");
        ck_assert_int_eq(shm_attach_look(io, db_dir, db_path, &error), LSM_BUSY);
        if (stage == 0)
            ck_ok(shm_attach_found(founder, &so, err));
    }
    ck_assert_ptr_null(other);
    ck_ok(shm_attach_ready(founder, err));
    other = attach_as(SHM_ATTACH_JOINED);
    ck_assert(!detach(founder));
    ck_assert(detach(other));
    ck_ok(shm_attach_look(io, db_dir, db_path, err));
}
END_TEST

static void *join_in_time(void *context)
{
    struct shm_attach_options o = options(20000);
    enum shm_attach_role role = SHM_ATTACH_FOUNDER;
    return attach_with(&o, context, &role, NULL) == LSM_OK && role == SHM_ATTACH_JOINED ? NULL
                                                                                        : context;
}

START_TEST(test_attach_joins_when_recovery_ends_in_time)
{
    struct shm_attach_options o = options(0);
    struct shm_options so = segment_options();
    struct shm_attachment *founder = NULL, *other = NULL;
    enum shm_attach_role role;
    pthread_t thread;
    ck_ok(shm_attach_begin(&o, &founder, &role, err));
    ck_assert_int_eq(pthread_create(&thread, NULL, join_in_time, &other), 0);
    ck_ok(shm_attach_found(founder, &so, err));
    pause_ms(20);
    ck_ok(shm_attach_ready(founder, err));
    void *failed = NULL;
    ck_assert_int_eq(pthread_join(thread, &failed), 0);
    ck_assert_ptr_null(failed);
    ck_assert_uint_eq(shm_attachment_slot(other), 1);
    ck_assert(!detach(founder));
    ck_assert(detach(other));
}
END_TEST

START_TEST(test_attach_alone_is_busy_and_names_who_is_there)
{
    struct shm_attachment *first = attach_as(SHM_ATTACH_FOUNDER);
    struct shm_attachment *second = attach_as(SHM_ATTACH_JOINED);
    slot_of(first, 0)->pid = 123456; /* as if the founder were another process */
    ck_assert(!detach(first));
    struct shm_attach_options o = options(10);
    o.how = SHM_ATTACH_ALONE;
    struct shm_attachment *alone = NULL;
    enum shm_attach_role role;
    lsm_error error = {0};
    ck_assert_int_eq(shm_attach_begin(&o, &alone, &role, &error), LSM_BUSY);
    check_names_this_process(&error, "close it there first");
    ck_assert_int_eq(shm_attach_look(io, db_dir, db_path, &error), LSM_BUSY);
    check_names_this_process(&error, "close it there first");
    first = attach_as(SHM_ATTACH_JOINED); /* nothing is kept by the one that was refused */
    ck_assert(!detach(first));
    ck_assert(detach(second));
    ck_ok(shm_attach_begin(&o, &alone, &role, err));
    ck_assert_int_eq(role, SHM_ATTACH_FOUNDER);
    ck_assert(detach(alone));
}
END_TEST

START_TEST(test_attach_look_without_a_lock_file_sees_nobody)
{
    lsm_error error = {0};
    ck_assert_int_eq(shm_attach_look(io, db_dir, db_path, &error), LSM_OK);
    ck_assert_int_eq(error.status, LSM_OK);
}
END_TEST

/* ---- two threads ----------------------------------------------------------------------------- */

#define LOOPS 150

/* A segment may be used by who founded it or joined it, and by nobody after its last one left. */
static void *come_and_go(void *context)
{
    _Atomic int *founders = context;
    struct shm_attach_options o = options(20000);
    for (unsigned i = 0; i < LOOPS; i++) {
        struct shm_attachment *a = NULL;
        enum shm_attach_role role;
        bool is_last = false;
        if (attach_with(&o, &a, &role, NULL) != LSM_OK)
            return "cannot attach";
        if (role == SHM_ATTACH_FOUNDER && atomic_fetch_add(founders, 1) != 0)
            return "two populations at once";
        if (shm_attachment_slot(a) > 2 || !shm_slot_is_alive(a, shm_attachment_slot(a)))
            return "a slot is wrong";
        if (shm_detach_begin(a, &is_last, NULL) != LSM_OK)
            return "cannot detach";
        if (is_last)
            atomic_fetch_sub(founders, 1);
        shm_detach_end(a);
    }
    return NULL;
}

START_TEST(test_attach_threads_of_one_process_come_and_go)
{
    pthread_t threads[3];
    _Atomic int founders = 0;
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, come_and_go, &founders), 0);
    for (size_t i = 0; i < 3; i++) {
        void *failed = NULL;
        ck_assert_int_eq(pthread_join(threads[i], &failed), 0);
        ck_assert_msg(failed == NULL, "%s", (const char *)failed);
    }
    ck_assert_int_eq(founders, 0);
    ck_assert_int_eq(segment_count(), 0);
}
END_TEST

/* ---- refusals -------------------------------------------------------------------------------- */

static void read_page(const char *path, struct attach_page *page)
{
    uint8_t bytes[ATTACH_PAGE_SIZE];
    char name[160];
    snprintf(name, sizeof name, "%s/LOCK", path);
    int fd = open(name, O_RDONLY);
    ck_assert_int_eq(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    close(fd);
    ck_assert_int_eq(attach_page_decode(bytes, page), LSM_OK);
}

static void write_bytes(const char *path, const uint8_t bytes[ATTACH_PAGE_SIZE])
{
    char name[160];
    snprintf(name, sizeof name, "%s/LOCK", path);
    int fd = open(name, O_WRONLY | O_CREAT, 0600);
    ck_assert_int_eq(pwrite(fd, bytes, ATTACH_PAGE_SIZE, 0), ATTACH_PAGE_SIZE);
    close(fd);
}

static void write_page(const char *path, const struct attach_page *page)
{
    uint8_t bytes[ATTACH_PAGE_SIZE];
    attach_page_encode(page, bytes);
    write_bytes(path, bytes);
}

static void check_refused(lsm_status expected, const char *what)
{
    struct shm_attach_options o = options(0);
    struct shm_attachment *a = NULL;
    enum shm_attach_role role;
    lsm_error error = {0};
    ck_assert_int_eq(shm_attach_begin(&o, &a, &role, &error), expected);
    ck_assert_ptr_null(a);
    ck_assert_msg(strstr(error.message, what) != NULL, "'%s' not in: %s", what, error.message);
    ck_assert_msg(strstr(error.message, "close it") != NULL, "no advice: %s", error.message);
    ck_assert_int_eq(segment_count(), 1);
}

START_TEST(test_attach_of_strangers_is_refused_and_says_what_differs)
{
    struct shm_attachment *holder = attach_as(SHM_ATTACH_FOUNDER);
    struct attach_page good, page;
    read_page(db_path, &good);
    ck_assert(good.ready);

    page = good;
    page.process.boot_id[0] ^= 1;
    write_page(db_path, &page);
    check_refused(LSM_UNSUPPORTED, "another machine");
    page = good;
    page.process.pid_namespace++;
    write_page(db_path, &page);
    check_refused(LSM_UNSUPPORTED, "another PID namespace");
    page = good;
    memcpy(page.library, "musl", 4);
    write_page(db_path, &page);
    check_refused(LSM_UNSUPPORTED, "C library");
    page = good;
    page.layout_hash++;
    write_page(db_path, &page);
    check_refused(LSM_UNSUPPORTED, "another version");
    page = good;
    page.ready = false;
    write_page(db_path, &page);
    check_refused(LSM_CORRUPT, "not ready");
    page = good;
    page.nonce[3] ^= 1;
    write_page(db_path, &page);
    check_refused(LSM_CORRUPT, "other than its LOCK file says");
    page = good;
    page.segment.inode++;
    write_page(db_path, &page);
    check_refused(LSM_UNSUPPORTED, "not visible here");
    page = good;
    snprintf(page.directory, sizeof page.directory, "/tmp/there is/no such");
    write_page(db_path, &page);
    check_refused(LSM_UNSUPPORTED, "not visible here");
    uint8_t bytes[ATTACH_PAGE_SIZE] = {0};
    write_bytes(db_path, bytes);
    check_refused(LSM_CORRUPT, "damaged");

    write_page(db_path, &good);
    shm_layout(shm_attachment_segment(holder))->ident.lock_file.inode++;
    check_refused(LSM_CORRUPT, "another LOCK file");
    shm_layout(shm_attachment_segment(holder))->ident.lock_file.inode--;
    shm_layout(shm_attachment_segment(holder))->ctl.ready = 0;
    check_refused(LSM_CORRUPT, "not ready");
    shm_layout(shm_attachment_segment(holder))->ctl.ready = 1;
    struct shm_attachment *joined = attach_as(SHM_ATTACH_JOINED);
    ck_assert(!detach(joined));
    ck_assert(detach(holder));
}
END_TEST

START_TEST(test_attach_when_the_segment_was_replaced_is_refused)
{
    struct shm_attachment *holder = attach_as(SHM_ATTACH_FOUNDER);
    char path[256], away[300];
    snprintf(path, sizeof path, "%s/%s", shm_path,
             shm_segment_name(shm_attachment_segment(holder)));
    snprintf(away, sizeof away, "%s/away", shm_path);
    ck_assert_int_eq(rename(path, away), 0);
    check_refused(LSM_UNSUPPORTED, "not visible here");
    FILE *other = fopen(path, "w");
    ck_assert_ptr_nonnull(other);
    fclose(other);
    ck_assert_int_eq(segment_count(), 2);
    ck_assert_int_eq(unlink(away), 0);
    check_refused(LSM_UNSUPPORTED, "not visible here");
    ck_assert(detach(holder));
}
END_TEST

/* Ends 0 when joining is refused because of the namespace, 77 when there can be none. */
static void join_from_other_namespace(void)
{
    if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0)
        _exit(77);
    pid_t inner = fork();
    if (inner == 0) {
        struct shm_attach_options o = options(0);
        struct shm_attachment *a = NULL;
        enum shm_attach_role role;
        lsm_error error = {0};
        if (shm_attach_begin(&o, &a, &role, &error) != LSM_UNSUPPORTED)
            _exit(1);
        _exit(strstr(error.message, "PID namespace") != NULL ? 0 : 2);
    }
    int status = 0;
    if (inner < 0 || waitpid(inner, &status, 0) != inner)
        _exit(77);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 3);
}

START_TEST(test_attach_from_another_pid_namespace_is_refused)
{
    struct shm_attachment *holder = attach_as(SHM_ATTACH_FOUNDER);
    pid_t child = fork();
    if (child == 0)
        join_from_other_namespace();
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        printf("skipped: no PID namespace can be made here\n");
    else
        ck_assert_int_eq(WEXITSTATUS(status), 0);
    ck_assert(detach(holder));
}
END_TEST

START_TEST(test_attach_of_a_copied_directory_founds_and_leaves_the_original_alone)
{
    struct shm_attachment *original = attach_as(SHM_ATTACH_FOUNDER);
    struct attach_page page;
    char copy[160];
    read_page(db_path, &page);
    snprintf(copy, sizeof copy, "%s/copy", root);
    ck_assert_int_eq(mkdir(copy, 0700), 0);
    write_page(copy, &page);
    struct io_dir *dir = NULL;
    ck_ok(io_dir_open(io, copy, 0, 0, &dir, err));
    struct shm_attach_options o = options_in(dir, 0);
    struct shm_attachment *a = NULL;
    enum shm_attach_role role;
    ck_ok(attach_with(&o, &a, &role, err));
    ck_assert_int_eq(role, SHM_ATTACH_FOUNDER);
    ck_assert_int_eq(segment_count(), 2);
    struct shm_attachment *joined = attach_as(SHM_ATTACH_JOINED);
    ck_assert_mem_eq(shm_layout(shm_attachment_segment(joined))->ident.nonce, page.nonce,
                     SHM_UUID_SIZE);
    ck_assert(!detach(joined));
    ck_assert(detach(a));
    ck_assert_int_eq(segment_count(), 1);
    ck_assert(detach(original));
    io_dir_close(dir);
}
END_TEST

START_TEST(test_attach_follows_a_lock_file_that_is_replaced_while_it_waits)
{
    struct shm_attach_options o = options(0);
    struct shm_attachment *holder = NULL, *other = NULL;
    enum shm_attach_role role;
    pthread_t thread;
    char path[160];
    ck_ok(shm_attach_begin(&o, &holder, &role, err));
    ck_assert(shm_attachment_is_intact(holder));
    ck_assert_int_eq(pthread_create(&thread, NULL, join_in_time, &other), 0);
    pause_ms(20); /* mostly it waits for the old file now */
    snprintf(path, sizeof path, "%s/LOCK", db_path);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert(!shm_attachment_is_intact(holder));
    struct shm_attachment *newer = attach_as(SHM_ATTACH_FOUNDER); /* on the new file */
    ck_assert(detach(holder));
    void *failed = NULL;
    ck_assert_int_eq(pthread_join(thread, &failed), 0);
    ck_assert_ptr_null(failed);
    ck_assert_mem_eq(shm_layout(shm_attachment_segment(other))->ident.nonce,
                     shm_layout(shm_attachment_segment(newer))->ident.nonce, SHM_UUID_SIZE);
    ck_assert(shm_attachment_is_intact(other));
    ck_assert(!detach(newer));
    ck_assert(detach(other));
}
END_TEST

/* ---- elsewhere ------------------------------------------------------------------------------- */

START_TEST(test_attach_on_a_shared_file_system_is_refused)
{
    struct sim_disk *disk = sim_disk_new(1);
    struct io *sim = NULL;
    struct io_dir *dir = NULL;
    ck_ok(sim_open(disk, &sim, err));
    ck_ok(io_dir_open(sim, "db", IO_DIR_CREATE, 0, &dir, err));
    sim_set_remote_name(disk, "NFS");
    struct shm_attach_options o = {.io = sim, .dir = dir, .path = "db"};
    struct shm_attachment *a = NULL;
    enum shm_attach_role role;
    lsm_error error = {0};
    ck_assert_int_eq(shm_attach_begin(&o, &a, &role, &error), LSM_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(error.message, "(NFS)"));
    o.how = SHM_ATTACH_ALONE;
    ck_ok(shm_attach_begin(&o, &a, &role, err));
    ck_assert(detach(a));
    o.how = SHM_ATTACH_SHARED;
    o.allow_remote = true;
    ck_ok(shm_attach_begin(&o, &a, &role, err));
    ck_assert(detach(a));
    io_dir_close(dir);
    io_close(sim);
    sim_disk_free(disk);
}
END_TEST

static lsm_status count_reaped(void *context, struct shm_layout *layout, uint32_t index,
                               lsm_error *err)
{
    (void)err;
    *(uint64_t *)context += layout->slots[index].pin;
    return LSM_OK;
}

START_TEST(test_attach_on_the_simulated_disk_survives_the_death_of_another)
{
    struct sim_disk *disk = sim_disk_new(2);
    struct io *sims[2] = {NULL, NULL};
    struct io_dir *dirs[2] = {NULL, NULL};
    struct shm_attachment *a[2] = {NULL, NULL};
    for (size_t i = 0; i < 2; i++) {
        struct shm_options so = segment_options();
        enum shm_attach_role role;
        ck_ok(sim_open(disk, &sims[i], err));
        ck_ok(io_dir_open(sims[i], "db", IO_DIR_CREATE, 0, &dirs[i], err));
        struct shm_attach_options o = {.io = sims[i], .dir = dirs[i], .path = "db"};
        ck_ok(shm_attach_begin(&o, &a[i], &role, err));
        ck_assert_int_eq(role, i == 0 ? SHM_ATTACH_FOUNDER : SHM_ATTACH_JOINED);
        if (i == 0) {
            ck_ok(shm_attach_found(a[i], &so, err));
            ck_ok(shm_attach_ready(a[i], err));
        }
    }
    slot_of(a[0], 0)->pin = 42;
    sim_kill(sims[0]);
    bool is_last = false;
    ck_assert_int_eq(shm_detach_begin(a[0], &is_last, NULL), LSM_IO);
    shm_attachment_abandon(a[0]);
    uint64_t pins = 0;
    uint32_t count = 0;
    ck_ok(shm_reap(a[1], count_reaped, &pins, &count, err));
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(pins, 42);
    ck_assert(detach(a[1]));
    for (size_t i = 0; i < 2; i++) {
        io_dir_close(dirs[i]);
        io_close(sims[i]);
    }
    sim_disk_free(disk);
}
END_TEST

/* One with each allocation failing in turn. What is only looked up may fail without harm. */
static void check_allocation_failures(struct shm_attachment *holder)
{
    uint64_t made = 0;
    int64_t failures = 0;
    do {
        struct shm_attachment *a = NULL;
        struct shm_attach_options o = options(0);
        enum shm_attach_role role;
        lsm_error error = {0};
        uint64_t before = mem_allocation_count();
        mem_fail_after(failures, false);
        lsm_status status = attach_with(&o, &a, &role, &error);
        mem_fail_after(-1, false);
        made = mem_allocation_count() - before;
        ck_assert_msg(status == LSM_OK || status == LSM_NO_MEMORY, "%s", error.message);
        if (holder != NULL)
            ck_assert_uint_eq(slots_in_use(holder), status == LSM_OK ? 2 : 1);
        if (status == LSM_OK)
            ck_assert_int_eq(detach(a), holder == NULL);
        if (status != LSM_OK && holder == NULL) /* let go as by death: the next one removes it */
            ck_assert_int_le(segment_count(), 1);
        else
            ck_assert_int_eq(segment_count(), holder != NULL);
    } while (made > (uint64_t)failures++);
    ck_assert_int_gt(failures, 10);
}

START_TEST(test_attach_allocation_failures_leave_nothing_behind)
{
    check_allocation_failures(NULL);
    struct shm_attachment *holder = attach_as(SHM_ATTACH_FOUNDER);
    check_allocation_failures(holder);
    ck_assert(detach(holder));
    ck_assert_int_eq(segment_count(), 0);
}
END_TEST

/* ---- page ------------------------------------------------------------------------------------ */

START_TEST(test_attach_page_survives_coding_and_no_flipped_byte)
{
    struct io_process process;
    struct attach_page page, again;
    uint8_t bytes[ATTACH_PAGE_SIZE];
    io_describe_process(io, &process);
    attach_page_init(&page, &process);
    page.ready = true;
    memset(page.uuid, 1, sizeof page.uuid);
    memset(page.nonce, 2, sizeof page.nonce);
    page.segment = (struct io_identity){.device = 3, .inode = UINT64_MAX};
    snprintf(page.segment_name, sizeof page.segment_name, "lsm-name");
    memset(page.directory, 'd', sizeof page.directory - 1);
    attach_page_encode(&page, bytes);
    ck_assert_int_eq(attach_page_decode(bytes, &again), LSM_OK);
    ck_assert(again.ready);
    ck_assert_mem_eq(again.uuid, page.uuid, sizeof page.uuid);
    ck_assert_mem_eq(again.nonce, page.nonce, sizeof page.nonce);
    ck_assert(io_identity_equal(again.segment, page.segment));
    ck_assert_uint_eq(again.layout_hash, shm_layout_hash());
    ck_assert_int_eq(again.process.pid, getpid());
    ck_assert_uint_eq(again.process.pid_namespace, process.pid_namespace);
    ck_assert_str_eq(again.process.boot_id, process.boot_id);
    ck_assert_str_eq(again.process.command, process.command);
    ck_assert_str_eq(again.library, page.library);
    ck_assert_str_eq(again.segment_name, page.segment_name);
    ck_assert_str_eq(again.directory, page.directory);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 0x10;
        ck_assert_int_eq(attach_page_decode(bytes, &again), LSM_CORRUPT);
        bytes[i] ^= 0x10;
    }
    memset(page.directory, 'd', sizeof page.directory); /* no end */
    attach_page_encode(&page, bytes);
    ck_assert_int_eq(attach_page_decode(bytes, &again), LSM_CORRUPT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm attach");
    TCase *tests = tcase_create("attach");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_attach_first_founds_second_joins_last_removes);
    tcase_add_test(tests, test_attach_of_a_founder_that_gives_up_leaves_nothing);
    tcase_add_test(tests, test_attach_after_a_failed_founding_works);
    tcase_add_test(tests, test_attach_leaves_a_slot_empty);
    tcase_add_test(tests, test_attach_waits_for_recovery_until_the_deadline);
    tcase_add_test(tests, test_attach_joins_when_recovery_ends_in_time);
    tcase_add_test(tests, test_attach_alone_is_busy_and_names_who_is_there);
    tcase_add_test(tests, test_attach_look_without_a_lock_file_sees_nobody);
    tcase_add_test(tests, test_attach_threads_of_one_process_come_and_go);
    tcase_add_test(tests, test_attach_of_strangers_is_refused_and_says_what_differs);
    tcase_add_test(tests, test_attach_when_the_segment_was_replaced_is_refused);
    tcase_add_test(tests, test_attach_from_another_pid_namespace_is_refused);
    tcase_add_test(tests, test_attach_of_a_copied_directory_founds_and_leaves_the_original_alone);
    tcase_add_test(tests, test_attach_follows_a_lock_file_that_is_replaced_while_it_waits);
    tcase_add_test(tests, test_attach_on_a_shared_file_system_is_refused);
    tcase_add_test(tests, test_attach_on_the_simulated_disk_survives_the_death_of_another);
    tcase_add_test(tests, test_attach_allocation_failures_leave_nothing_behind);
    tcase_add_test(tests, test_attach_page_survives_coding_and_no_flipped_byte);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
