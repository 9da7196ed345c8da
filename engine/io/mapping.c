/*
 * Mappings and locks by system calls.
 *
 * A lock is taken on an open file description of its own, which only a one-page mapping keeps
 * alive: the descriptor is closed at once and the mapping is not inherited by fork. So neither an
 * unrelated close, nor closefrom(), nor a forked child that outlives its parent can change who
 * holds it; it ends with io_unlock() or with the process. Where there is no /proc to make such a
 * description, the lock is on the file's own and a forked child may keep it. Changing the mode of a
 * held lock would need its descriptor.
 */
#include "engine/io/host.h"

#include "engine/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* ---- mappings -------------------------------------------------------------------------------- */

/* File systems that write a mapped page to a new place, so that reserved space does not help it. */
#define BTRFS_MAGIC    0x9123683Eu
#define BCACHEFS_MAGIC 0xca451a4eu
#define ZFS_MAGIC      0x2fc12fc1u
#define NILFS_MAGIC    0x3434u

static bool is_copied_on_write(int fd)
{
    struct statfs about;
    if (fstatfs(fd, &about) != 0)
        return false;
    switch ((uint32_t)about.f_type) {
    case BTRFS_MAGIC: {
        int flags = 0;
        return ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0 || (flags & FS_NOCOW_FL) == 0;
    }
    case BCACHEFS_MAGIC:
    case ZFS_MAGIC:
    case NILFS_MAGIC:
        return true;
    default:
        return false;
    }
}

int host_map(struct io_file *file, size_t size, unsigned flags, struct io_mapping **mapping)
{
    int fd = ((struct host_file *)file)->fd;
    bool writes = (flags & IO_MAP_WRITE) != 0;
    if (writes && is_copied_on_write(fd))
        return IO_RESULT_UNSAFE;
    uint64_t file_size = 0;
    int number = host_file_size(file, &file_size);
    if (number != 0)
        return number;
    if (file_size < size)
        return IO_RESULT_SHORT;

    struct io_mapping *m = mem_alloc_zeroed(sizeof *m);
    if (m == NULL)
        return ENOMEM;
    m->memory = mmap(NULL, size, PROT_READ | (writes ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
    if (m->memory == MAP_FAILED) {
        number = errno;
        mem_free(m);
        return number;
    }
    m->size = size;
    if (madvise(m->memory, size, MADV_DONTFORK) != 0) {
        number = errno;
        host_unmap(m);
        return number;
    }
    madvise(m->memory, size, MADV_DONTDUMP); /* only keeps values out of core files */
    *mapping = m;
    return 0;
}

void host_unmap(struct io_mapping *mapping)
{
    munmap(mapping->memory, mapping->size);
    mem_free(mapping);
}

/* For the whole pages in the range. */
static void advise(struct io_mapping *mapping, size_t offset, size_t size, int advice)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t first = (offset + page - 1) / page * page;
    size_t limit = (offset + size) / page * page;
    if (first < limit)
        (void)madvise((char *)mapping->memory + first, limit - first, advice);
}

void host_populate(struct io_mapping *mapping, size_t offset, size_t size)
{
#ifdef MADV_POPULATE_WRITE /* Linux 5.14 */
    advise(mapping, offset, size, MADV_POPULATE_WRITE);
#else
    (void)mapping, (void)offset, (void)size;
#endif
}

/* ---- locks ----------------------------------------------------------------------------------- */

#define LOCK_PAUSE_NS 2000000 /* between two tries of a busy lock */

struct host_lock {
    struct io_lock base;
    int fd;       /* -1 once the mapping alone holds the description */
    void *anchor; /* MAP_FAILED: the descriptor does */
    size_t anchor_size;
    uint64_t byte;
};

static struct flock whole_lock(short type, uint64_t byte)
{
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1, .l_pid = 0};
}

/* A new description of an open file; without /proc another descriptor of the same (*shared). */
static int reopen(int fd, bool *shared)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY);
    struct stat a;
    struct stat b;
    if (again >= 0 && (fstat(fd, &a) != 0 || fstat(again, &b) != 0 || a.st_dev != b.st_dev ||
                       a.st_ino != b.st_ino)) {
        close(again);
        again = -1;
    }
    *shared = again < 0;
    if (*shared)
        again = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return host_raise_fd(again);
}

/* Hands the description over to a mapping; without one the descriptor keeps it. */
static void anchor_lock(struct host_lock *l)
{
    l->anchor_size = (size_t)sysconf(_SC_PAGESIZE);
    l->anchor = mmap(NULL, l->anchor_size, PROT_NONE, MAP_SHARED, l->fd, 0);
    if (l->anchor == MAP_FAILED)
        return;
    if (madvise(l->anchor, l->anchor_size, MADV_DONTFORK) != 0) {
        munmap(l->anchor, l->anchor_size);
        l->anchor = MAP_FAILED;
        return;
    }
    close(l->fd);
    l->fd = -1;
}

/*
 * Held while a description of a lock has a descriptor, and by whoever forks: a child that got the
 * descriptor would keep the lock after everybody let go of it.
 */
static pthread_mutex_t fork_gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_gate_once = PTHREAD_ONCE_INIT;

static void shut_gate(void)
{
    pthread_mutex_lock(&fork_gate);
}

static void open_gate(void)
{
    pthread_mutex_unlock(&fork_gate);
}

static void watch_forks(void)
{
    (void)pthread_atfork(shut_gate, open_gate, open_gate);
}

/* One try on a new description, which is gone again when it failed. */
static int try_lock(struct host_lock *l, int fd, enum io_lock_mode mode)
{
    bool shared = false;
    struct flock how = whole_lock(mode == IO_LOCK_SHARED ? F_RDLCK : F_WRLCK, l->byte);
    shut_gate();
    l->fd = reopen(fd, &shared);
    int number = l->fd < 0 || fcntl(l->fd, F_OFD_SETLK, &how) != 0 ? errno : 0;
    if (number == 0 && !shared)
        anchor_lock(l);
    if (number != 0 && l->fd >= 0)
        close(l->fd);
    open_gate();
    return number;
}

int host_lock(struct io_file *file, uint64_t byte, enum io_lock_mode mode, unsigned patience_ms,
              struct io_lock **lock)
{
    pthread_once(&fork_gate_once, watch_forks);
    struct host_lock *l = mem_alloc_zeroed(sizeof *l);
    if (l == NULL)
        return ENOMEM;
    l->byte = byte;
    l->anchor = MAP_FAILED;
    uint64_t deadline = host_now_ns(NULL) + (uint64_t)patience_ms * 1000000u;
    for (;;) {
        int number = try_lock(l, ((struct host_file *)file)->fd, mode);
        if (number == 0)
            break;
        bool busy = number == EAGAIN || number == EACCES;
        if (number != EINTR && (!busy || host_now_ns(NULL) >= deadline)) {
            mem_free(l);
            return number;
        }
        if (busy)
            nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
    }
    *lock = &l->base;
    return 0;
}

void host_unlock(struct io_lock *lock)
{
    struct host_lock *l = (struct host_lock *)lock;
    if (l->anchor != MAP_FAILED)
        munmap(l->anchor, l->anchor_size);
    if (l->fd >= 0) {
        struct flock how = whole_lock(F_UNLCK, l->byte);
        fcntl(l->fd, F_OFD_SETLK, &how);
        close(l->fd);
    }
    mem_free(l);
}

int host_lock_test(struct io_file *file, uint64_t byte, bool *held)
{
    struct flock how = whole_lock(F_WRLCK, byte);
    if (fcntl(((struct host_file *)file)->fd, F_OFD_GETLK, &how) != 0)
        return errno;
    *held = how.l_type != F_UNLCK;
    return 0;
}
