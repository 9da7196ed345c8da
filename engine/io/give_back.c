/*
 * Space of large files goes back to the file system piece by piece.
 *
 * A file system that tells its device about what it frees (mounted with "discard", or where the
 * disk is a file of a host that shrinks) has the device busy until all of it is done, for a large
 * file many times as long as with a write, and every write and sync of the log waits behind.
 * Between two pieces they get their turn.
 *
 * A file is cut only when it has no name and nobody else has it open, in no process: who does may
 * go on reading, as after any unlink(2). A write lease is given on just that condition; this thread
 * wants the answer and not the lease.
 */
#include "engine/io/host.h"

#include "engine/base/step.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE ((off_t)8 << 20) /* larger ones keep the device, smaller ones the processor */
#define LARGE (2 * PIECE)      /* smaller files go at once */

static int cut(int fd, off_t size)
{
    int result;
    do
        result = ftruncate(fd, size);
    while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

/* At whole pieces of the file: in between, the kernel would part large pages of its cache and write
 * zeros into one. */
static int cut_in_pieces(int fd, off_t from, off_t to)
{
    int number = 0;
    while (number == 0 && from - to > PIECE) {
        from = (from - 1) / PIECE * PIECE;
        number = cut(fd, from);
        STEP("file: a piece given back");
    }
    return number == 0 ? cut(fd, to) : number;
}

int host_file_truncate(struct io_file *file, uint64_t size)
{
    int fd = ((struct host_file *)file)->fd;
    struct stat about;
    if (fstat(fd, &about) != 0)
        return errno;
    return cut_in_pieces(fd, about.st_size, (off_t)size);
}

/* A descriptor of a regular file worth the effort; below 0: it is none. */
static int open_large(int dir, const char *name)
{
    struct stat about;
    if (fstatat(dir, name, &about, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(about.st_mode) ||
        about.st_nlink != 1 || about.st_size < LARGE)
        return -1;
    return host_open_beneath(dir, name, O_WRONLY | O_NONBLOCK, 0);
}

/* Only this descriptor is left of the file: it has no name, so nobody can come to it any more. */
static bool is_last(int fd, const struct stat *about)
{
    return S_ISREG(about->st_mode) && about->st_nlink == 0 && fcntl(fd, F_SETLEASE, F_WRLCK) == 0 &&
           fcntl(fd, F_SETLEASE, F_UNLCK) == 0;
}

int host_dir_unlink(struct io_dir *dir, const char *name)
{
    int at = ((struct host_dir *)dir)->fd;
    int fd = open_large(at, name);
    int number = unlinkat(at, name, 0) == 0 ? 0 : errno;
    struct stat about;
    /* Where the pieces cannot be cut, close() gives all back at once. */
    if (number == 0 && fd >= 0 && fstat(fd, &about) == 0 && is_last(fd, &about)) {
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* cheaper than page by page in cuts */
        (void)cut_in_pieces(fd, about.st_size, 0);
    }
    if (fd >= 0)
        close(fd);
    return number;
}
