/*
 * Directories and files by system calls, for the uring and posix backends.
 *
 * A directory is opened once by path; everything else is a single name relative to it, opened
 * through openat2(2) so that neither a symbolic link nor ".." can lead out of it (O_NOFOLLOW where
 * the kernel or a sandbox refuses openat2). O_NONBLOCK keeps a FIFO from hanging the open; it is
 * taken off again, since io_uring would answer EAGAIN instead of waiting.
 */
#include "engine/io/host.h"

#include "engine/base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_DIR_MODE  0700u
#define DEFAULT_FILE_MODE 0600u
/* Bytes of one step of the allocation by hand. */
#define ALLOCATE_STEP ((size_t)65536)

/* ---- clock and randomness -------------------------------------------------------------------- */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t host_now_ns(struct io *io)
{
    (void)io;
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t host_wall_ms(struct io *io)
{
    (void)io;
    return clock_ns(CLOCK_REALTIME) / 1000000u;
}

void host_random(struct io *io, void *bytes, size_t size)
{
    (void)io;
    unsigned char *to = bytes;
    while (size > 0) {
        ssize_t n = getrandom(to, size, 0);
        if (n < 0 && errno != EINTR)
            break;
        if (n > 0) {
            to += n;
            size -= (size_t)n;
        }
    }
    /* Only a sandbox that forbids getrandom(2) gets here: a nonce made of time and place. */
    for (uint64_t mix = clock_ns(CLOCK_REALTIME) ^ (uint64_t)getpid() << 40 ^ (uintptr_t)to;
         size > 0; size--) {
        mix = mix * 0x5851f42d4c957f2du + clock_ns(CLOCK_MONOTONIC);
        *to++ = (unsigned char)(mix >> 56);
    }
}

/* ---- descriptors ----------------------------------------------------------------------------- */

int host_raise_fd(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO)
        return fd;
    int raised = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int number = errno;
    close(fd);
    errno = number;
    return raised;
}

static int open_beneath_once(int dir, const char *name, int flags, uint32_t mode)
{
    struct open_how how = {
        .flags = (unsigned)flags,
        .mode = (flags & O_CREAT) != 0 ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd = syscall(SYS_openat2, dir, name, &how, sizeof how);
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
        return (int)fd;
    return openat(dir, name, flags | O_NOFOLLOW, mode);
}

int host_open_beneath(int dir, const char *name, int flags, uint32_t mode)
{
    int fd;
    do
        fd = open_beneath_once(dir, name, flags | O_CLOEXEC, mode);
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return host_raise_fd(fd);
}

/* ---- directories ----------------------------------------------------------------------------- */

static int open_directory(int at, const char *path)
{
    return host_raise_fd(openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int sync_directory(int fd)
{
    if (fsync(fd) == 0)
        return 0;
    /* Some network file systems cannot sync a directory and say so; they write names through. */
    return errno == EINVAL || errno == ENOTSUP ? 0 : errno;
}

/* The descriptor is negative for a directory that we may write but not read. */
static int open_parent(const char *path, int *fd)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    while (length > 0 && path[length - 1] != '/')
        length--;
    char *parent = mem_copy_text(length == 0 ? "." : path);
    if (parent == NULL)
        return ENOMEM;
    if (length > 0)
        parent[length] = '\0';
    *fd = open_directory(AT_FDCWD, parent);
    mem_free(parent);
    return 0;
}

/* Makes the name of the directory `made` in its parent durable. */
static int sync_name(int parent, int made)
{
    if (parent < 0)
        return syncfs(made) == 0 ? 0 : errno;
    return sync_directory(parent);
}

static int sync_new_name(const char *path, int made)
{
    int parent = -1;
    int number = open_parent(path, &parent);
    if (number == 0)
        number = sync_name(parent, made);
    if (parent >= 0)
        close(parent);
    return number;
}

static int make_directory(const char *path, uint32_t mode, int *fd)
{
    uint32_t wanted = mode != 0 ? mode : DEFAULT_DIR_MODE;
    if (mkdir(path, DEFAULT_DIR_MODE) != 0 && errno != EEXIST)
        return errno;
    *fd = open_directory(AT_FDCWD, path);
    if (*fd < 0)
        return errno;
    if (fchmod(*fd, wanted) != 0)
        return errno;
    return sync_new_name(path, *fd);
}

int host_dir_open(struct io *io, const char *path, unsigned flags, uint32_t mode,
                  struct io_dir **dir)
{
    (void)io;
    int number = 0;
    int fd = open_directory(AT_FDCWD, path);
    if (fd < 0)
        number = errno;
    if (number == ENOENT && (flags & IO_DIR_CREATE) != 0)
        number = make_directory(path, mode, &fd);

    struct host_dir *d = NULL;
    if (number == 0 && (d = mem_alloc_zeroed(sizeof *d)) == NULL)
        number = ENOMEM;
    if (number != 0) {
        if (fd >= 0)
            close(fd);
        return number;
    }
    d->fd = fd;
    *dir = &d->base;
    return 0;
}

static int dir_fd(const struct io_dir *dir)
{
    return ((const struct host_dir *)dir)->fd;
}

void host_dir_close(struct io_dir *dir)
{
    close(dir_fd(dir));
    mem_free(dir);
}

int host_dir_sync(struct io_dir *dir)
{
    return sync_directory(dir_fd(dir));
}

int host_dir_list(struct io_dir *dir, io_visit visit, void *context, lsm_status *stopped,
                  lsm_error *err)
{
    int fd = open_directory(dir_fd(dir), "."); /* a position of its own */
    if (fd < 0)
        return errno;
    DIR *stream = fdopendir(fd);
    if (stream == NULL) {
        int number = errno;
        close(fd);
        return number;
    }
    int number = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (entry == NULL) {
            number = errno;
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        *stopped = visit(context, entry->d_name, err);
        if (*stopped != LSM_OK)
            break;
    }
    closedir(stream);
    return number;
}

int host_dir_describe(struct io_dir *dir, const char *name, struct io_entry *entry)
{
    struct stat about;
    int result = name == NULL ? fstat(dir_fd(dir), &about)
                              : fstatat(dir_fd(dir), name, &about, AT_SYMLINK_NOFOLLOW);
    if (result != 0)
        return errno;
    *entry = (struct io_entry){
        .kind = S_ISREG(about.st_mode)   ? IO_ENTRY_FILE
                : S_ISDIR(about.st_mode) ? IO_ENTRY_DIRECTORY
                : S_ISLNK(about.st_mode) ? IO_ENTRY_SYMLINK
                                         : IO_ENTRY_OTHER,
        .mode = about.st_mode & 07777,
        .user = about.st_uid,
        .group = about.st_gid,
        .size = about.st_size < 0 ? 0 : (uint64_t)about.st_size,
        .links = about.st_nlink,
        .identity = {.device = about.st_dev, .inode = about.st_ino},
    };
    return 0;
}

int host_dir_rename(struct io_dir *dir, const char *from, const char *to)
{
    return renameat(dir_fd(dir), from, dir_fd(dir), to) == 0 ? 0 : errno;
}

int host_dir_link(struct io_dir *from, const char *name, struct io_dir *to)
{
    return linkat(dir_fd(from), name, dir_fd(to), name, 0) == 0 ? 0 : errno;
}

int host_dir_remove(struct io *io, const char *path)
{
    (void)io;
    return rmdir(path) == 0 ? 0 : errno;
}

/* Without RENAME_NOREPLACE only an empty directory that was made since the look can be replaced. */
static int move_without_replacing(const char *from, const char *to)
{
    struct stat about;
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return errno;
    if (lstat(to, &about) == 0)
        return EEXIST;
    return errno == ENOENT && rename(from, to) == 0 ? 0 : errno;
}

/* All that can be lacking is there before the name is given. */
int host_dir_move(struct io *io, const char *from, const char *to, bool *moved)
{
    (void)io;
    int parent = -1;
    int fd = open_directory(AT_FDCWD, from);
    if (fd < 0)
        return errno;
    int number = open_parent(to, &parent);
    if (number == 0)
        number = move_without_replacing(from, to);
    *moved = number == 0;
    if (number == 0)
        number = sync_name(parent, fd);
    if (parent >= 0)
        close(parent);
    close(fd);
    return number;
}

/* ---- opening files --------------------------------------------------------------------------- */

/* Opens or makes `name`; a made one gets `mode` whatever the umask. */
static int open_or_make(int dir, const char *name, unsigned flags, uint32_t mode, int *fd)
{
    int how = ((flags & IO_FILE_WRITE) != 0 ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_NOCTTY;
    uint32_t wanted = mode != 0 ? mode : DEFAULT_FILE_MODE;
    for (;;) {
        if ((flags & IO_FILE_NEW) == 0 || (flags & IO_FILE_CREATE) == 0) {
            *fd = host_open_beneath(dir, name, how, 0);
            if (*fd >= 0)
                return 0;
            if (errno != ENOENT || (flags & IO_FILE_CREATE) == 0)
                return errno;
        }
        *fd = host_open_beneath(dir, name, how | O_CREAT | O_EXCL, DEFAULT_FILE_MODE);
        if (*fd >= 0)
            return fchmod(*fd, wanted) == 0 ? 0 : errno;
        if (errno != EEXIST || (flags & IO_FILE_NEW) != 0)
            return errno;
    }
}

/* Whether direct transfers aligned to IO_ALIGNMENT work; false when the kernel does not say. */
static bool is_aligned_enough(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx about;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &about) != 0 ||
        (about.stx_mask & STATX_DIOALIGN) == 0)
        return true; /* an older kernel: the open(2) flag alone decides */
    return about.stx_dio_offset_align != 0 && about.stx_dio_offset_align <= IO_ALIGNMENT &&
           about.stx_dio_mem_align <= IO_ALIGNMENT;
#else
    (void)fd;
    return true;
#endif
}

/* Turns O_NONBLOCK off, and O_DIRECT on where it is wanted and possible. */
static int settle_flags(int fd, bool direct_wanted, bool *direct)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return errno;
    flags &= ~O_NONBLOCK;
    *direct = direct_wanted && is_aligned_enough(fd) && fcntl(fd, F_SETFL, flags | O_DIRECT) == 0;
    if (*direct)
        return 0;
    return fcntl(fd, F_SETFL, flags) == 0 ? 0 : errno;
}

static int check_regular(int fd)
{
    struct stat about;
    if (fstat(fd, &about) != 0)
        return errno;
    return S_ISREG(about.st_mode) ? 0 : IO_RESULT_IRREGULAR;
}

int host_file_open(struct io_dir *dir, const char *name, unsigned flags, uint32_t mode,
                   struct io_file **file)
{
    int fd = -1;
    bool direct = false;
    struct host_file *f = NULL;
    int number = open_or_make(dir_fd(dir), name, flags, mode, &fd);
    if (number == EISDIR || number == ENXIO) /* a directory, a socket */
        number = IO_RESULT_IRREGULAR;
    if (number == 0)
        number = check_regular(fd);
    if (number == 0)
        number = settle_flags(fd, (flags & IO_FILE_DIRECT) != 0, &direct);
    if (number == 0 && !direct && (flags & IO_FILE_RANDOM) != 0)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    if (number == 0 && (f = mem_alloc_zeroed(sizeof *f)) == NULL)
        number = ENOMEM;
    if (number != 0) {
        if (fd >= 0)
            close(fd);
        return number;
    }
    f->fd = fd;
    f->base.direct = direct;
    *file = &f->base;
    return 0;
}

static int file_fd(const struct io_file *file)
{
    return ((const struct host_file *)file)->fd;
}

void host_file_close(struct io_file *file)
{
    close(file_fd(file)); /* EINTR or EIO: it is closed, and whoever needed the data has synced */
    mem_free(file);
}

/* ---- transfers ------------------------------------------------------------------------------- */

/* Goes on with a request until it is finished. */
static int transfer(struct io_request *request)
{
    int fd = file_fd(request->file);
    unsigned again = 0;
    int number = 0;
    for (;;) {
        size_t start = transfer_start(request);
        char *memory = start == 0 ? request->memory : (char *)request->memory + start;
        off_t offset = (off_t)(request->offset + start);
        size_t size = transfer_size(request);
        ssize_t n = request->operation == IO_READ ? pread(fd, memory, size, offset)
                                                  : pwrite(fd, memory, size, offset);
        if (n < 0 && (errno == EINTR || (errno == EAGAIN && again++ < IO_AGAIN_MAX)))
            continue;
        if (n < 0)
            return errno;
        again = 0;
        if (transfer_advance(request, start, (size_t)n, &number))
            return number;
    }
}

int host_file_read(struct io_file *file, void *memory, size_t size, uint64_t offset, size_t *got)
{
    struct io_request request = {
        .operation = IO_READ, .file = file, .memory = memory, .size = size, .offset = offset};
    int number = transfer(&request);
    *got = request.progress;
    return number;
}

int host_file_write(struct io_file *file, const void *memory, size_t size, uint64_t offset)
{
    struct io_request request = {.operation = IO_WRITE,
                                 .file = file,
                                 .memory = (void *)(uintptr_t)memory,
                                 .size = size,
                                 .offset = offset};
    return transfer(&request);
}

int host_file_copy(struct io_file *from, struct io_file *to, uint64_t offset, size_t size,
                   size_t *copied)
{
    off_t from_offset = (off_t)offset, to_offset = (off_t)offset;
    ssize_t n;
    do
        n = copy_file_range(file_fd(from), &from_offset, file_fd(to), &to_offset, size, 0);
    while (n < 0 && errno == EINTR);
    if (n >= 0) {
        *copied = (size_t)n;
        return 0;
    }
    bool is_refused = errno == ENOSYS || errno == EINVAL || errno == EOPNOTSUPP || errno == EPERM;
    return is_refused ? EXDEV : errno;
}

int host_file_sync(struct io_file *file)
{
    int result;
    do
        result = fdatasync(file_fd(file));
    while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

/* Errors of the writing are left for fdatasync to tell: this flag alone looks at none. */
void host_file_write_back(struct io_file *file, uint64_t offset, uint64_t size)
{
    (void)sync_file_range(file_fd(file), (off_t)offset, (off_t)size, SYNC_FILE_RANGE_WRITE);
}

int host_file_size(struct io_file *file, uint64_t *size)
{
    struct stat about;
    if (fstat(file_fd(file), &about) != 0)
        return errno;
    *size = (uint64_t)about.st_size;
    return 0;
}

/* Where fallocate(2) is missing: writes back what is there and zeros behind it. */
static int allocate_by_hand(struct io_file *file, uint64_t first, uint64_t limit)
{
    char *memory = mem_alloc_aligned(IO_ALIGNMENT, ALLOCATE_STEP);
    if (memory == NULL)
        return ENOMEM;
    int number = 0;
    for (uint64_t at = first; at < limit && number == 0;) {
        size_t step = limit - at < ALLOCATE_STEP ? (size_t)(limit - at) : ALLOCATE_STEP;
        size_t got = 0;
        number = host_file_read(file, memory, step, at, &got);
        if (number == 0) {
            memset(memory + got, 0, step - got);
            number = host_file_write(file, memory, step, at);
        }
        at += step;
    }
    mem_free(memory);
    return number;
}

int host_file_allocate(struct io_file *file, uint64_t offset, uint64_t size)
{
    if (size == 0)
        return 0;
    int result;
    do
        result = fallocate(file_fd(file), 0, (off_t)offset, (off_t)size);
    while (result != 0 && errno == EINTR);
    if (result == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return errno;
    return allocate_by_hand(file, offset, offset + size);
}
