/* What only a real system shows: file types, descriptors, modes, forks, refused system calls. */
#include "tests/unit/io/backend.h"

#include "engine/base/step.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define RW (IO_FILE_WRITE | IO_FILE_CREATE)

static struct backend b;

static void begin(void)
{
    ck_assert(backend_open(&b, 1)); /* posix: its files are those of uring too */
}

static void in_directory(char *path, size_t size, const char *name)
{
    snprintf(path, size, "%s/%s", b.path, name);
}

/* ---- file types ------------------------------------------------------------------------------ */

static void expect_refused(const char *name, const char *why)
{
    const unsigned ways[] = {0, IO_FILE_WRITE, RW, RW | IO_FILE_DIRECT};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct io_file *f = NULL;
        lsm_error error = {0};
        lsm_status status = io_file_open(b.dir, name, ways[i], 0, &f, &error);
        ck_assert_msg(status == LSM_CORRUPT, "%s flags %u: %d %s", name, ways[i], (int)status,
                      error.message);
        ck_assert_msg(strstr(error.message, why) != NULL, "%s", error.message);
        ck_assert_ptr_nonnull(strstr(error.message, b.path));
    }
}

START_TEST(test_file_symbolic_link_is_refused)
{
    begin();
    char path[300];
    in_directory(path, sizeof path, "link");
    ck_assert_int_eq(symlink("/etc/passwd", path), 0);
    expect_refused("link", "symbolic link");
    in_directory(path, sizeof path, "inside");
    io_file_close(backend_file(&b, "real", RW));
    ck_assert_int_eq(symlink("real", path), 0);
    expect_refused("inside", "symbolic link");
    backend_close(&b);
}
END_TEST

START_TEST(test_file_fifo_is_refused_without_hanging)
{
    begin();
    char path[300];
    in_directory(path, sizeof path, "fifo");
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    alarm(5);
    expect_refused("fifo", "not a regular file");
    alarm(0);
    backend_close(&b);
}
END_TEST

START_TEST(test_file_directory_and_socket_are_refused)
{
    begin();
    char path[300];
    in_directory(path, sizeof path, "sub");
    ck_assert_int_eq(mkdir(path, 0700), 0);
    expect_refused("sub", "not a regular file");
    ck_assert_int_eq(rmdir(path), 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
    ck_assert_int_eq(chdir(b.path), 0); /* the path of a socket must be short */
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(s, (struct sockaddr *)&address, sizeof address), 0);
    expect_refused("socket", "not a regular file");
    close(s);
    backend_close(&b);
}
END_TEST

START_TEST(test_dir_path_of_a_file_is_refused)
{
    begin();
    char path[300];
    struct io_dir *dir = NULL;
    lsm_error error = {0};
    io_file_close(backend_file(&b, "a", RW));
    in_directory(path, sizeof path, "a");
    ck_assert_int_eq(io_dir_open(b.io, path, IO_DIR_CREATE, 0, &dir, &error), LSM_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "not a directory"));
    backend_close(&b);
}
END_TEST

/* ---- descriptors and modes ------------------------------------------------------------------- */

/* Every descriptor above stderr that is not ours must be gone after exec. */
static unsigned count_open(bool cloexec_only)
{
    unsigned count = 0;
    for (int fd = 0; fd < 64; fd++) {
        int flags = fcntl(fd, F_GETFD);
        count += flags >= 0 && (!cloexec_only || (flags & FD_CLOEXEC) != 0);
    }
    return count;
}

START_TEST(test_descriptors_avoid_the_standard_ones_and_close_on_exec)
{
    struct io *io = NULL;
    struct io_queue *queue = NULL;
    ck_ok(io_open("auto", &io, err));
    begin();
    unsigned before = count_open(true);
    unsigned all_before = count_open(false);
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    struct io_file *f = NULL;
    struct io_dir *dir = NULL;
    struct io_lock *lock = NULL;
    lsm_status opened = io_file_open(b.dir, "a", RW, 0, &f, NULL);
    lsm_status listed = io_dir_open(b.io, b.path, 0, 0, &dir, NULL);
    lsm_status queued = io_queue_open(io, 4, &queue, NULL);
    lsm_status locked = io_lock(f, 0, &lock, NULL);
    bool standard_free = fcntl(0, F_GETFD) < 0 && fcntl(1, F_GETFD) < 0 && fcntl(2, F_GETFD) < 0;
    for (int fd = 0; fd < 3; fd++)
        ck_assert_int_eq(open("/dev/null", O_RDWR), fd);
    ck_assert(opened == LSM_OK && listed == LSM_OK && queued == LSM_OK && locked == LSM_OK);
    ck_assert(standard_free);
    ck_assert_uint_eq(count_open(true) - before, count_open(false) - all_before);
    io_unlock(lock);
    io_queue_close(queue);
    io_dir_close(dir);
    io_file_close(f);
    io_close(io);
    ck_assert_uint_eq(count_open(false), all_before);
    backend_close(&b);
}
END_TEST

/* With O_NONBLOCK, which guards the open against FIFOs, io_uring would answer EAGAIN. */
START_TEST(test_file_is_left_blocking)
{
    begin();
    unsigned regular = 0;
    struct io_file *f = backend_file(&b, "a", RW);
    struct io_file *g = backend_file(&b, "a", IO_FILE_WRITE | IO_FILE_DIRECT);
    for (int fd = 3; fd < 64; fd++) {
        struct stat about;
        if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode))
            continue;
        regular += (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
        ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    }
    ck_assert_uint_ge(regular, 2);
    io_file_close(g);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_posix_batch_is_done_in_the_order_of_the_disk)
{
    begin();
    struct io_file *f = backend_file(&b, "a", RW);
    struct io_queue *queue = NULL;
    char bytes[16] = {0};
    struct io_request requests[8];
    ck_ok(io_queue_open(b.io, 8, &queue, err));
    for (size_t i = 0; i < 8; i++) {
        requests[i] = (struct io_request){
            .operation = IO_WRITE, .file = f, .memory = bytes, .size = 16, .offset = (i * 5) % 8};
        io_queue_push(queue, &requests[i]);
    }
    uint64_t expected = 0;
    for (const struct io_request *r; (r = io_queue_reap(queue, true)) != NULL; expected++)
        ck_assert_uint_eq(r->offset, expected);
    ck_assert_uint_eq(expected, 8);
    io_queue_close(queue);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

static unsigned mode_of(const char *path)
{
    struct stat about;
    ck_assert_int_eq(stat(path, &about), 0);
    return about.st_mode & 07777;
}

START_TEST(test_modes_are_those_asked_for_whatever_the_umask)
{
    begin();
    const mode_t masks[] = {0, 077, 0777};
    for (size_t i = 0; i < 3; i++) {
        umask(masks[i]);
        char path[300];
        struct io_file *f = backend_file(&b, "default", RW);
        io_file_close(f);
        in_directory(path, sizeof path, "default");
        ck_assert_uint_eq(mode_of(path), 0600);
        ck_ok(io_file_open(b.dir, "shared", RW, 0660, &f, err));
        io_file_close(f);
        in_directory(path, sizeof path, "shared");
        ck_assert_uint_eq(mode_of(path), 0660);
        ck_ok(io_dir_unlink(b.dir, "default", NULL, err));
        ck_ok(io_dir_unlink(b.dir, "shared", NULL, err));
    }
    umask(022);
    struct io_dir *dir = NULL;
    char path[300];
    in_directory(path, sizeof path, "sub");
    ck_ok(io_dir_open(b.io, path, IO_DIR_CREATE, 02770, &dir, err));
    io_dir_close(dir);
    ck_assert_uint_eq(mode_of(path), 02770);
    ck_ok(io_dir_remove(b.io, path, err));
    ck_ok(io_dir_open(b.io, path, IO_DIR_CREATE, 0, &dir, err));
    io_dir_close(dir);
    ck_assert_uint_eq(mode_of(path), 0700);
    ck_ok(io_dir_remove(b.io, path, err));
    backend_close(&b);
}
END_TEST

START_TEST(test_file_existing_keeps_its_mode)
{
    begin();
    char path[300];
    struct io_file *f = NULL;
    ck_ok(io_file_open(b.dir, "a", RW, 0640, &f, err));
    io_file_close(f);
    ck_ok(io_file_open(b.dir, "a", RW, 0666, &f, err));
    io_file_close(f);
    in_directory(path, sizeof path, "a");
    ck_assert_uint_eq(mode_of(path), 0640);
    backend_close(&b);
}
END_TEST

/* ---- large files that go -------------------------------------------------------------------- */

#define LARGE_SIZE ((size_t)33 << 20)

static _Atomic unsigned pieces;

static void count_pieces(const char *name)
{
    if (strcmp(name, "file: a piece given back") == 0)
        atomic_fetch_add(&pieces, 1);
}

/* A file of LARGE_SIZE bytes that are all `c`; its path is put into `path`. */
static void make_large(const char *name, char c, char *path, size_t size)
{
    char *bytes = malloc(LARGE_SIZE);
    struct io_file *f = backend_file(&b, name, RW);
    memset(bytes, c, LARGE_SIZE);
    ck_ok(io_file_write(f, bytes, LARGE_SIZE, 0, err));
    io_file_close(f);
    free(bytes);
    in_directory(path, size, name);
}

static void expect_all(int fd, char c)
{
    char *bytes = malloc(LARGE_SIZE + 1);
    ck_assert_int_eq(pread(fd, bytes, LARGE_SIZE + 1, 0), (ssize_t)LARGE_SIZE);
    ck_assert(bytes[0] == c && memcmp(bytes, bytes + 1, LARGE_SIZE - 1) == 0);
    free(bytes);
}

/* Not every file system has leases; without them a file goes at once. */
static bool has_leases(const char *path)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool has = fcntl(fd, F_SETLEASE, F_WRLCK) == 0;
    close(fd);
    return has;
}

static unsigned pieces_of_unlink(const char *name)
{
    bool existed = false;
    char path[300];
    atomic_store(&pieces, 0);
    atomic_store(&step_hook, count_pieces);
    ck_ok(io_dir_unlink(b.dir, name, &existed, err));
    atomic_store(&step_hook, NULL);
    in_directory(path, sizeof path, name);
    ck_assert(existed);
    ck_assert_int_eq(access(path, F_OK), -1);
    return atomic_load(&pieces);
}

static void expect_pieces(const char *name, const char *path)
{
    bool has = has_leases(path);
    unsigned count = pieces_of_unlink(name);
    ck_assert_msg(has ? count >= 4 : count == 0, "%u pieces, leases: %d", count, has);
}

START_TEST(test_unlink_gives_a_large_file_back_in_pieces)
{
    begin();
    char path[300];
    make_large("a", 'a', path, sizeof path);
    expect_pieces("a", path);
    make_large("b", 'b', path, sizeof path);
    struct io_file *f = backend_file(&b, "b", RW);
    atomic_store(&pieces, 0);
    atomic_store(&step_hook, count_pieces);
    ck_ok(io_file_truncate(f, 100, err));
    atomic_store(&step_hook, NULL);
    ck_assert_uint_ge(atomic_load(&pieces), 4);
    uint64_t size;
    ck_ok(io_file_size(f, &size, err));
    ck_assert_uint_eq(size, 100);
    ck_ok(io_file_truncate(f, LARGE_SIZE, err));
    ck_ok(io_file_size(f, &size, err));
    ck_assert_uint_eq(size, LARGE_SIZE);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_unlink_cuts_no_file_that_somebody_has)
{
    begin();
    char path[300], other[300];
    /* one who has it open, here or in another process */
    make_large("a", 'a', path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    pid_t child = fork();
    if (child == 0) {
        close(fd);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        raise(SIGSTOP);
        char byte = 0;
        _exit(pread(fd, &byte, 1, LARGE_SIZE - 1) == 1 && byte == 'a' ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
    ck_assert(WIFSTOPPED(status));
    close(fd);
    ck_assert_uint_eq(pieces_of_unlink("a"), 0);
    kill(child, SIGCONT);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    make_large("a", 'c', path, sizeof path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_uint_eq(pieces_of_unlink("a"), 0);
    expect_all(fd, 'c');
    close(fd);
    /* a mapping */
    make_large("b", 'b', path, sizeof path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    const char *mapped = mmap(NULL, LARGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(mapped, MAP_FAILED);
    close(fd);
    ck_assert_uint_eq(pieces_of_unlink("b"), 0);
    ck_assert_int_eq(mapped[LARGE_SIZE - 1], 'b');
    munmap((void *)(uintptr_t)mapped, LARGE_SIZE);
    /* another name */
    make_large("c", 'c', path, sizeof path);
    in_directory(other, sizeof other, "d");
    ck_assert_int_eq(link(path, other), 0);
    ck_assert_uint_eq(pieces_of_unlink("c"), 0);
    fd = open(other, O_RDONLY | O_CLOEXEC);
    expect_all(fd, 'c');
    close(fd);
    expect_pieces("d", other);
    backend_close(&b);
}
END_TEST

/* ---- forks and deaths ------------------------------------------------------------------------ */

static void wait_for(pid_t child)
{
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
}

START_TEST(test_lock_is_free_after_the_owner_was_killed_though_its_child_lives)
{
    begin();
    int ready[2];
    ck_assert_int_eq(pipe(ready), 0);
    struct io_file *f = backend_file(&b, "LOCK", RW);
    pid_t owner = fork();
    if (owner == 0) {
        struct io_lock *lock = NULL;
        if (io_lock(f, 3, &lock, NULL) != LSM_OK)
            _exit(1);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            for (;;)
                pause();
        }
        if (write(ready[1], &grandchild, sizeof grandchild) < 0)
            _exit(1);
        for (;;)
            pause();
    }
    pid_t grandchild = 0;
    ck_assert_int_eq(read(ready[0], &grandchild, sizeof grandchild), sizeof grandchild);
    struct io_lock *lock = NULL;
    ck_assert(io_lock_is_held(f, 3));
    ck_assert_int_eq(io_lock(f, 3, &lock, NULL), LSM_BUSY);
    kill(owner, SIGKILL);
    lsm_status status = LSM_BUSY;
    for (unsigned i = 0; status == LSM_BUSY && i < 50; i++) /* a slow machine tears down slowly */
        status = io_lock(f, 3, &lock, NULL);
    ck_assert_int_eq(status, LSM_OK);
    ck_assert_int_eq(kill(grandchild, SIGKILL), 0);
    wait_for(owner);
    io_unlock(lock);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_mapping_is_not_inherited_by_fork)
{
    begin();
    struct io_file *f = backend_file(&b, "a", RW);
    struct io_mapping *m = NULL;
    ck_ok(io_file_allocate(f, 0, 4096, err));
    ck_ok(io_map(f, 4096, IO_MAP_WRITE, &m, err));
    void *memory = io_mapping_memory(m);
    pid_t child = fork();
    if (child == 0) {
        unsigned char resident = 0;
        _exit(mincore(memory, 4096, &resident) != 0 && errno == ENOMEM ? 0 : 1);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    io_unmap(m);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_mapped_stores_survive_a_kill)
{
    begin();
    struct io_file *f = backend_file(&b, "a", RW);
    ck_ok(io_file_allocate(f, 0, 8192, err));
    pid_t child = fork();
    if (child == 0) {
        struct io_mapping *m = NULL;
        if (io_map(f, 8192, IO_MAP_WRITE, &m, NULL) != LSM_OK)
            _exit(1);
        memcpy((char *)io_mapping_memory(m) + 5000, "survives", 8);
        kill(getpid(), SIGKILL);
    }
    wait_for(child);
    char got[8];
    ck_ok(io_file_read_exact(f, got, 8, 5000, err));
    ck_assert_mem_eq(got, "survives", 8);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

/* ---- choosing a backend ---------------------------------------------------------------------- */

START_TEST(test_environment_variable_chooses_for_auto_only)
{
    struct io *io = NULL;
    lsm_error error = {0};
    setenv("LSM_IO", "posix", 1);
    ck_ok(io_open("auto", &io, err));
    ck_assert_str_eq(io_name(io), "posix");
    ck_assert_str_eq(io_reason(io), "asked for by the environment variable LSM_IO");
    io_close(io);
    setenv("LSM_IO", "bogus", 1);
    io = NULL;
    ck_assert_int_eq(io_open("auto", &io, &error), LSM_INVALID);
    ck_assert_str_eq(error.message, "the environment variable LSM_IO asks for the i/o backend "
                                    "'bogus'; there are auto, uring and posix");
    ck_ok(io_open("posix", &io, err));
    ck_assert_str_eq(io_reason(io), "asked for by the caller");
    io_close(io);
    unsetenv("LSM_IO");
    ck_assert_int_eq(io_open("floppy", &io, &error), LSM_INVALID);
}
END_TEST

/* A sandbox in which `first` and `second` fail with `number`, as container profiles do. */
static void forbid(unsigned first, unsigned second, unsigned number)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, first, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, second, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | number),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

START_TEST(test_environment_falls_back_where_io_uring_is_forbidden)
{
    unsetenv("LSM_IO");
    forbid(SYS_io_uring_setup, SYS_io_uring_enter, EPERM);
    struct io *io = NULL;
    lsm_error error = {0};
    ck_ok(io_open("auto", &io, err));
    ck_assert_str_eq(io_name(io), "posix");
    ck_assert_str_eq(io_reason(io), "io_uring is refused: a ring cannot be made: Operation not "
                                    "permitted");
    io_close(io);
    ck_assert_int_eq(io_open("uring", &io, &error), LSM_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(error.message, "Operation not permitted"));
}
END_TEST

START_TEST(test_environment_falls_back_where_rings_do_not_work)
{
    unsetenv("LSM_IO");
    forbid(SYS_io_uring_enter, SYS_io_uring_enter, EPERM);
    struct io *io = NULL;
    ck_ok(io_open("auto", &io, err));
    ck_assert_str_eq(io_name(io), "posix");
    ck_assert_ptr_nonnull(strstr(io_reason(io), "a trial write failed"));
    io_close(io);
}
END_TEST

/* The sandbox closes after the ring was made. */
START_TEST(test_queue_whose_submission_fails_gives_its_requests_back)
{
    const unsigned numbers[] = {EPERM, EAGAIN};
    if (!backend_open(&b, 0))
        return;
    struct io_file *f = backend_file(&b, "a", RW);
    struct io_queue *queue = NULL;
    char bytes[16] = {0};
    struct io_request requests[6];
    lsm_error error = {0};
    ck_ok(io_queue_open(b.io, 4, &queue, err));
    forbid(SYS_io_uring_enter, SYS_io_uring_enter, numbers[_i]);
    for (size_t i = 0; i < 6; i++) {
        requests[i] = (struct io_request){
            .operation = IO_WRITE, .file = f, .memory = bytes, .size = 16, .offset = i * 16};
        io_queue_push(queue, &requests[i]);
    }
    ck_assert_int_eq(io_queue_submit(queue, &error), LSM_IO);
    ck_assert_int_eq(error.os_errno, numbers[_i]);
    unsigned reaped = 0;
    for (const struct io_request *r; (r = io_queue_reap(queue, true)) != NULL; reaped++)
        ck_assert_int_eq(r->os_errno, numbers[_i]);
    ck_assert_uint_eq(reaped, 6);
    ck_assert_uint_eq(io_queue_in_flight(queue), 0);
    uint64_t size = 1;
    ck_ok(io_file_size(f, &size, err));
    ck_assert_uint_eq(size, 0);
    io_queue_close(queue);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_links_are_refused_without_openat2_too)
{
    begin();
    char path[300];
    in_directory(path, sizeof path, "link");
    ck_assert_int_eq(symlink("/etc/passwd", path), 0);
    forbid(SYS_openat2, SYS_openat2, _i == 0 ? ENOSYS : EPERM);
    expect_refused("link", "symbolic link");
    struct io_file *f = backend_file(&b, "a", RW);
    ck_ok(io_file_write(f, "x", 1, 0, err));
    io_file_close(f);
    backend_close(&b);
}
END_TEST

START_TEST(test_file_allocation_works_without_fallocate)
{
    begin();
    struct io_file *f = backend_file(&b, "a", RW);
    char bytes[200000];
    memset(bytes, 'k', sizeof bytes);
    ck_ok(io_file_write(f, bytes, 70000, 0, err));
    forbid(SYS_fallocate, SYS_fallocate, EOPNOTSUPP);
    ck_ok(io_file_allocate(f, 10, 199990, err));
    ck_ok(io_file_read_exact(f, bytes, 200000, 0, err));
    size_t wrong = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        wrong += bytes[i] != (i < 70000 ? 'k' : 0);
    ck_assert_uint_eq(wrong, 0);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

#define FORK_COUNT 60

/* Forks children that outlive the locks; they end when the pipe's writing end is closed. */
static void *fork_children(void *context)
{
    const int *hold = context;
    for (unsigned i = 0; i < FORK_COUNT; i++) {
        pid_t child = fork();
        if (child == 0) {
            char byte;
            close(hold[1]);
            _exit(read(hold[0], &byte, 1) == 0 ? 0 : 1);
        }
        if (child < 0)
            return (void *)(uintptr_t)1;
    }
    return NULL;
}

START_TEST(test_lock_taken_while_others_fork_is_not_kept_by_their_children)
{
    begin();
    struct io_file *f = backend_file(&b, "LOCK", RW);
    struct io_lock *lock = NULL;
    int hold[2];
    pthread_t forker;
    ck_assert_int_eq(pipe(hold), 0);
    ck_assert_int_eq(pthread_create(&forker, NULL, fork_children, hold), 0);
    for (unsigned i = 0; i < 1000; i++) {
        ck_ok(io_lock(f, 5, &lock, err)); /* LSM_BUSY when a child keeps the one before */
        ck_assert_int_eq(
            io_lock_as(f, 5, IO_LOCK_SHARED, i % 16 == 0 ? 3 : 0, &(struct io_lock *){0}, NULL),
            LSM_BUSY);
        io_unlock(lock);
    }
    void *failed = NULL;
    ck_assert_int_eq(pthread_join(forker, &failed), 0);
    ck_assert_ptr_null(failed);
    ck_assert(!io_lock_is_held(f, 5));
    close(hold[1]);
    close(hold[0]);
    for (unsigned i = 0; i < FORK_COUNT; i++)
        ck_assert_int_gt(wait(NULL), 0);
    io_file_close(f);
    backend_close(&b);
}
END_TEST

/* glibc's open() is openat(); the files are open already. 0, or the number of what went wrong. */
static int lock_without_opening(struct io_file *f, struct io_file *g)
{
    struct io_lock *one = NULL;
    struct io_lock *two = NULL;
    forbid(SYS_openat, SYS_open, ENOENT);
    if (io_lock(f, 0, &one, NULL) != LSM_OK)
        return 1;
    if (io_lock(g, 0, &two, NULL) != LSM_BUSY)
        return 2;
    io_unlock(one);
    if (io_lock(g, 0, &two, NULL) != LSM_OK)
        return 3;
    io_unlock(two);
    return io_lock_is_held(f, 0) ? 4 : 0;
}

START_TEST(test_lock_works_without_proc)
{
    begin();
    struct io_file *f = backend_file(&b, "LOCK", RW);
    struct io_file *g = backend_file(&b, "LOCK", RW);
    pid_t child = fork();
    if (child == 0)
        _exit(
            lock_without_opening(f, g)); /* nothing can be opened any more, by sanitizers either */
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    io_file_close(f);
    io_file_close(g);
    backend_close(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("io host");
    TCase *cases = tcase_create("host");
    tcase_add_test(cases, test_file_symbolic_link_is_refused);
    tcase_add_test(cases, test_file_fifo_is_refused_without_hanging);
    tcase_add_test(cases, test_file_directory_and_socket_are_refused);
    tcase_add_test(cases, test_dir_path_of_a_file_is_refused);
    tcase_add_test(cases, test_descriptors_avoid_the_standard_ones_and_close_on_exec);
    tcase_add_test(cases, test_file_is_left_blocking);
    tcase_add_test(cases, test_posix_batch_is_done_in_the_order_of_the_disk);
    tcase_add_test(cases, test_modes_are_those_asked_for_whatever_the_umask);
    tcase_add_test(cases, test_file_existing_keeps_its_mode);
    tcase_add_test(cases, test_unlink_gives_a_large_file_back_in_pieces);
    tcase_add_test(cases, test_unlink_cuts_no_file_that_somebody_has);
    tcase_add_test(cases, test_lock_is_free_after_the_owner_was_killed_though_its_child_lives);
    tcase_add_test(cases, test_mapping_is_not_inherited_by_fork);
    tcase_add_test(cases, test_mapped_stores_survive_a_kill);
    tcase_add_test(cases, test_environment_variable_chooses_for_auto_only);
    tcase_add_test(cases, test_environment_falls_back_where_io_uring_is_forbidden);
    tcase_add_test(cases, test_environment_falls_back_where_rings_do_not_work);
    tcase_add_loop_test(cases, test_queue_whose_submission_fails_gives_its_requests_back, 0, 2);
    tcase_add_loop_test(cases, test_links_are_refused_without_openat2_too, 0, 2);
    tcase_add_test(cases, test_file_allocation_works_without_fallocate);
    tcase_add_test(cases, test_lock_taken_while_others_fork_is_not_kept_by_their_children);
    tcase_add_test(cases, test_lock_works_without_proc);
    suite_add_tcase(suite, cases);
    return backend_run(suite);
}
