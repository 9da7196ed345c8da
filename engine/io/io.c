/*
 * The front of the floor: checks arguments, calls the backend and makes the sentences of its
 * errors, so that all backends refuse the same things in the same words.
 */
#include "engine/io/io.h"

#include "engine/base/cancel.h"
#include "engine/base/memory.h"
#include "engine/io/host.h"
#include "engine/io/io_private.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COPY_STEP ((size_t)1 << 20) /* bytes moved at once where the kernel does not copy */

/* ---- errors ---------------------------------------------------------------------------------- */

/* The sentence of a failed operation on `path`. */
__attribute__((format(printf, 5, 6))) static lsm_status fail(lsm_error *err, int number,
                                                             const char *path, uint64_t offset,
                                                             const char *format, ...)
{
    char what[360];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);

    lsm_status status;
    switch (number) {
    case IO_ERRNO_OFF:
        status = lsm_fail(err, LSM_IO, "%s: the simulated machine is off", what);
        break;
    case ENOENT:
        status = lsm_fail(err, LSM_MISSING, "%s: it does not exist", what);
        break;
    case EEXIST:
    case ENOTEMPTY:
        status = lsm_fail(err, LSM_EXISTS, "%s: %s", what,
                          number == EEXIST ? "it exists already" : "it is not empty");
        break;
    case ELOOP:
        status =
            lsm_fail(err, LSM_CORRUPT, "%s: it is a symbolic link, expected a regular file", what);
        break;
    case IO_RESULT_IRREGULAR:
        status = lsm_fail(err, LSM_CORRUPT, "%s: it is not a regular file", what);
        break;
    case ENOTDIR:
        status = lsm_fail(err, LSM_INVALID, "%s: it is not a directory", what);
        break;
    default:
        status = lsm_fail_errno(err, number, "%s", what);
    }
    status_place(err, path, offset);
    return status;
}

static lsm_status check_name(const char *name, const char *directory, lsm_error *err)
{
    size_t length = strnlen(name, NAME_MAX + 1);
    if (length > 0 && length <= NAME_MAX && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
        strcmp(name, "..") != 0)
        return LSM_OK;
    lsm_status status =
        lsm_fail(err, LSM_INVALID, "'%.*s' is no name of a file inside directory '%s'",
                 (int)(length < 64 ? length : 64), name, directory);
    status_place(err, directory, LSM_NO_OFFSET);
    return status;
}

/* ---- environment ----------------------------------------------------------------------------- */

static lsm_status open_posix(const char *reason, struct io **io, lsm_error *err)
{
    struct io *made = NULL;
    if (posix_open(&made) != 0)
        return lsm_fail_memory(err, sizeof *made);
    snprintf(made->reason, sizeof made->reason, "%s", reason);
    *io = made;
    return LSM_OK;
}

/* LSM_UNSUPPORTED, without an error, where io_uring is refused; `why` says how. */
static lsm_status open_uring(const char *reason, struct io **io, char *why, size_t why_size,
                             lsm_error *err)
{
    struct io *made = NULL;
    int number = uring_open(&made, why, why_size);
    if (number == ENOTSUP)
        return LSM_UNSUPPORTED;
    if (number != 0)
        return lsm_fail_memory(err, sizeof *made);
    snprintf(made->reason, sizeof made->reason, "%s", reason);
    *io = made;
    return LSM_OK;
}

static lsm_status open_auto(struct io **io, lsm_error *err)
{
    char why[160] = "";
    lsm_status status = open_uring("io_uring works here", io, why, sizeof why, err);
    if (status != LSM_UNSUPPORTED)
        return status;
    char reason[200];
    snprintf(reason, sizeof reason, "io_uring is refused: %s", why);
    return open_posix(reason, io, err);
}

static lsm_status open_kind(const char *kind, struct io **io, lsm_error *err)
{
    const char *asked_by = "the caller";
    if (strcmp(kind, "auto") == 0) {
        const char *wish = secure_getenv("LSM_IO");
        if (wish == NULL || *wish == '\0' || strcmp(wish, "auto") == 0)
            return open_auto(io, err);
        kind = wish;
        asked_by = "the environment variable LSM_IO";
    }

    char reason[200];
    snprintf(reason, sizeof reason, "asked for by %s", asked_by);
    if (strcmp(kind, "posix") == 0)
        return open_posix(reason, io, err);
    if (strcmp(kind, "uring") != 0)
        return lsm_fail(err, LSM_INVALID,
                        "%s asks for the i/o backend '%.40s'; there are auto, uring and posix",
                        asked_by, kind);
    char why[160] = "";
    lsm_status status = open_uring(reason, io, why, sizeof why, err);
    if (status == LSM_UNSUPPORTED)
        return lsm_fail(err, status, "%s asks for io_uring, which is refused: %s", asked_by, why);
    return status;
}

lsm_status io_open(const char *kind, struct io **io, lsm_error *err)
{
    int before = cancel_hold();
    lsm_status status = open_kind(kind, io, err);
    cancel_release(before);
    return status;
}

void io_close(struct io *io)
{
    int before = cancel_hold();
    if (io != NULL)
        io->ops->close(io);
    cancel_release(before);
}

const char *io_name(const struct io *io)
{
    return io->name;
}

const char *io_reason(const struct io *io)
{
    return io->reason;
}

uint64_t io_now_ns(struct io *io)
{
    return io->ops->now_ns(io);
}

uint64_t io_wall_ms(struct io *io)
{
    return io->ops->wall_ms(io);
}

void io_random(struct io *io, void *bytes, size_t size)
{
    int before = cancel_hold();
    io->ops->random(io, bytes, size);
    cancel_release(before);
}

void io_describe_process(struct io *io, struct io_process *process)
{
    *process = (struct io_process){0};
    int before = cancel_hold();
    io->ops->describe_process(io, process);
    cancel_release(before);
}

bool io_describe_thread(struct io *io, int64_t id, struct io_thread *thread)
{
    *thread = (struct io_thread){0};
    io->ops->describe_thread(io, id, thread);
    return thread->pid != 0;
}

uint64_t io_submission_count(struct io *io)
{
    return atomic_load_explicit(&io->submission_count, memory_order_relaxed);
}

/* ---- directories ----------------------------------------------------------------------------- */

lsm_status io_dir_open(struct io *io, const char *path, unsigned flags, uint32_t mode,
                       struct io_dir **dir, lsm_error *err)
{
    char *copy = mem_copy_text(path);
    if (copy == NULL)
        return lsm_fail_memory(err, strlen(path) + 1);
    struct io_dir *opened = NULL;
    int before = cancel_hold();
    int number = io->ops->dir_open(io, path, flags, mode, &opened);
    cancel_release(before);
    if (number != 0) {
        mem_free(copy);
        return fail(err, number, path, LSM_NO_OFFSET, "cannot open directory '%s'", path);
    }
    opened->io = io;
    opened->path = copy;
    *dir = opened;
    return LSM_OK;
}

void io_dir_close(struct io_dir *dir)
{
    if (dir == NULL)
        return;
    mem_free(dir->path);
    int before = cancel_hold();
    dir->io->ops->dir_close(dir);
    cancel_release(before);
}

const char *io_dir_path(const struct io_dir *dir)
{
    return dir->path;
}

lsm_status io_dir_real_path(struct io_dir *dir, char *path, size_t size, lsm_error *err)
{
    int before = cancel_hold();
    int number = dir->io->ops->dir_real_path(dir, path, size);
    cancel_release(before);
    if (number == 0)
        return LSM_OK;
    return fail(err, number, dir->path, LSM_NO_OFFSET, "cannot tell the full path of '%s'",
                dir->path);
}

const char *io_dir_remote_name(struct io_dir *dir)
{
    int before = cancel_hold();
    const char *name = dir->io->ops->dir_remote_name(dir);
    cancel_release(before);
    return name;
}

uint64_t io_dir_free_bytes(struct io_dir *dir)
{
    if (dir->io->ops->dir_free_bytes == NULL)
        return UINT64_MAX;
    int before = cancel_hold();
    uint64_t bytes = dir->io->ops->dir_free_bytes(dir);
    cancel_release(before);
    return bytes;
}

bool io_dir_lacks_barriers(struct io_dir *dir)
{
    int before = cancel_hold();
    bool lacks = dir->io->ops->dir_lacks_barriers(dir);
    cancel_release(before);
    return lacks;
}

lsm_status io_dir_sync(struct io_dir *dir, lsm_error *err)
{
    int before = cancel_hold();
    int number = dir->io->ops->dir_sync(dir);
    cancel_release(before);
    if (number == 0)
        return LSM_OK;
    return fail(err, number, dir->path, LSM_NO_OFFSET, "cannot sync directory '%s'", dir->path);
}

lsm_status io_dir_list(struct io_dir *dir, io_visit visit, void *context, lsm_error *err)
{
    lsm_status stopped = LSM_OK;
    int before = cancel_hold();
    int number = dir->io->ops->dir_list(dir, visit, context, &stopped, err);
    cancel_release(before);
    if (number == 0)
        return stopped;
    return fail(err, number, dir->path, LSM_NO_OFFSET, "cannot list directory '%s'", dir->path);
}

lsm_status io_dir_describe(struct io_dir *dir, const char *name, struct io_entry *entry,
                           lsm_error *err)
{
    const char *shown = name == NULL ? "." : name;
    if (name != NULL && (*name == '\0' || strchr(name, '/') != NULL))
        return lsm_fail(err, LSM_INVALID, "'%s' is no name in a directory", name);
    struct io_entry found;
    int before = cancel_hold();
    int number = dir->io->ops->dir_describe(dir, name, &found);
    cancel_release(before);
    if (number != 0)
        return fail(err, number, shown, LSM_NO_OFFSET, "cannot look at '%s/%s'", dir->path, shown);
    *entry = found;
    return LSM_OK;
}

lsm_status io_dir_rename(struct io_dir *dir, const char *from, const char *to, lsm_error *err)
{
    lsm_status status = check_name(from, dir->path, err);
    if (status == LSM_OK)
        status = check_name(to, dir->path, err);
    if (status != LSM_OK)
        return status;
    int before = cancel_hold();
    int number = dir->io->ops->dir_rename(dir, from, to);
    cancel_release(before);
    if (number == 0)
        return LSM_OK;
    return fail(err, number, from, LSM_NO_OFFSET, "cannot rename '%s/%s' to '%s'", dir->path, from,
                to);
}

lsm_status io_dir_unlink(struct io_dir *dir, const char *name, bool *existed, lsm_error *err)
{
    lsm_status status = check_name(name, dir->path, err);
    if (status != LSM_OK)
        return status;
    int before = cancel_hold();
    int number = dir->io->ops->dir_unlink(dir, name);
    cancel_release(before);
    if (number != 0 && number != ENOENT)
        return fail(err, number, name, LSM_NO_OFFSET, "cannot remove '%s/%s'", dir->path, name);
    if (existed != NULL)
        *existed = number == 0;
    return LSM_OK;
}

static bool is_no_place_for_links(int number)
{
    return number == EXDEV || number == EPERM || number == EMLINK || number == EOPNOTSUPP ||
           number == ENOSYS;
}

lsm_status io_dir_link(struct io_dir *from, const char *name, struct io_dir *to, lsm_error *err)
{
    lsm_status status = check_name(name, from->path, err);
    if (status != LSM_OK)
        return status;
    int before = cancel_hold();
    int number = from->io->ops->dir_link(from, name, to);
    cancel_release(before);
    if (number == 0)
        return LSM_OK;
    if (!is_no_place_for_links(number))
        return fail(err, number, name, LSM_NO_OFFSET, "cannot link '%s/%s' into '%s'", from->path,
                    name, to->path);
    status = lsm_fail(err, LSM_UNSUPPORTED, "'%s/%s' can have no second name in '%s'", from->path,
                      name, to->path);
    status_place(err, name, LSM_NO_OFFSET);
    return status;
}

lsm_status io_dir_remove(struct io *io, const char *path, lsm_error *err)
{
    int before = cancel_hold();
    int number = io->ops->dir_remove(io, path);
    cancel_release(before);
    if (number == 0)
        return LSM_OK;
    return fail(err, number == EEXIST ? ENOTEMPTY : number, path, LSM_NO_OFFSET,
                "cannot remove directory '%s'", path);
}

lsm_status io_dir_move(struct io *io, const char *from, const char *to, bool *is_moved,
                       lsm_error *err)
{
    bool moved = false;
    int before = cancel_hold();
    int number = io->ops->dir_move(io, from, to, &moved);
    cancel_release(before);
    if (is_moved != NULL)
        *is_moved = moved;
    if (number == 0)
        return LSM_OK;
    return fail(err, number == ENOTEMPTY || number == ENOTDIR ? EEXIST : number, to, LSM_NO_OFFSET,
                "cannot give directory '%s' the name '%s'", from, to);
}

/* ---- files ----------------------------------------------------------------------------------- */

lsm_status io_file_open(struct io_dir *dir, const char *name, unsigned flags, uint32_t mode,
                        struct io_file **file, lsm_error *err)
{
    lsm_status status = check_name(name, dir->path, err);
    if (status != LSM_OK)
        return status;
    size_t prefix = strlen(dir->path) + 1;
    size_t size = prefix + strlen(name) + 1;
    char *path = mem_alloc(size);
    if (path == NULL)
        return lsm_fail_memory(err, size);
    snprintf(path, size, "%s/%s", dir->path, name);

    struct io_file *opened = NULL;
    int before = cancel_hold();
    int number = dir->io->ops->file_open(dir, name, flags, mode, &opened);
    cancel_release(before);
    if (number != 0) {
        status = fail(err, number, name, LSM_NO_OFFSET, "cannot open '%s'", path);
        mem_free(path);
        return status;
    }
    opened->io = dir->io;
    opened->path = path;
    opened->name = path + prefix;
    opened->writable = (flags & IO_FILE_WRITE) != 0;
    opened->aligned = (flags & IO_FILE_DIRECT) != 0;
    *file = opened;
    return LSM_OK;
}

void io_file_close(struct io_file *file)
{
    if (file == NULL)
        return;
    mem_free(file->path);
    int before = cancel_hold();
    file->io->ops->file_close(file);
    cancel_release(before);
}

const char *io_file_name(const struct io_file *file)
{
    return file->name;
}

bool io_file_is_direct(const struct io_file *file)
{
    return file->direct;
}

/* 0 when the transfer is one that the file allows. */
static int check_transfer(const struct io_file *file, const void *memory, size_t size,
                          uint64_t offset)
{
    if (offset > INT64_MAX || size > (uint64_t)INT64_MAX - offset)
        return EINVAL;
    if (file->aligned && ((uintptr_t)memory | size | offset) % IO_ALIGNMENT != 0)
        return EINVAL;
    return 0;
}

static lsm_status fail_transfer(const struct io_file *file, const char *verb, size_t size,
                                uint64_t offset, int number, lsm_error *err)
{
    return fail(err, number, file->name, offset, "cannot %s %zu bytes at offset %" PRIu64 " %s'%s'",
                verb, size, offset, *verb == 'r' ? "of " : "to ", file->path);
}

lsm_status io_file_read(struct io_file *file, void *memory, size_t size, uint64_t offset,
                        size_t *got, lsm_error *err)
{
    size_t moved = 0;
    int number = check_transfer(file, memory, size, offset);
    int before = cancel_hold();
    if (number == 0)
        number = file->io->ops->file_read(file, memory, size, offset, &moved);
    cancel_release(before);
    if (number != 0)
        return fail_transfer(file, "read", size, offset, number, err);
    *got = moved;
    return LSM_OK;
}

lsm_status io_file_read_exact(struct io_file *file, void *memory, size_t size, uint64_t offset,
                              lsm_error *err)
{
    size_t got = 0;
    lsm_status status = io_file_read(file, memory, size, offset, &got, err);
    if (status != LSM_OK || got == size)
        return status;
    status = lsm_fail(err, LSM_CORRUPT,
                      "'%s' ends early: expected %zu bytes at offset %" PRIu64 ", found %zu",
                      file->path, size, offset, got);
    status_place(err, file->name, offset);
    status_numbers(err, size, got);
    return status;
}

lsm_status io_file_write(struct io_file *file, const void *memory, size_t size, uint64_t offset,
                         lsm_error *err)
{
    int number = check_transfer(file, memory, size, offset);
    int before = cancel_hold();
    if (number == 0)
        number = file->writable ? file->io->ops->file_write(file, memory, size, offset) : EBADF;
    cancel_release(before);
    return number == 0 ? LSM_OK : fail_transfer(file, "write", size, offset, number, err);
}

static lsm_status copy_by_hand(struct io_file *from, struct io_file *to, uint64_t offset,
                               uint64_t size, lsm_error *err)
{
    size_t room = size < COPY_STEP ? (size_t)size : COPY_STEP;
    void *memory = mem_alloc(room);
    if (memory == NULL)
        return lsm_fail_memory(err, room);
    lsm_status status = LSM_OK;
    for (uint64_t done = 0; status == LSM_OK && done < size;) {
        size_t step = size - done < room ? (size_t)(size - done) : room;
        status = io_file_read_exact(from, memory, step, offset + done, err);
        if (status == LSM_OK)
            status = io_file_write(to, memory, step, offset + done, err);
        done += step;
    }
    mem_free(memory);
    return status;
}

lsm_status io_file_copy(struct io_file *from, struct io_file *to, uint64_t offset, uint64_t size,
                        lsm_error *err)
{
    uint64_t done = 0;
    while (from->io->ops->file_copy != NULL && done < size) {
        size_t step = size - done < IO_TRANSFER_MAX ? (size_t)(size - done) : IO_TRANSFER_MAX;
        size_t copied = 0;
        int before = cancel_hold();
        int number = from->io->ops->file_copy(from, to, offset + done, step, &copied);
        cancel_release(before);
        if (number == EXDEV || (number == 0 && copied == 0))
            break; /* by hand, which also tells an early end */
        if (number != 0)
            return fail(err, number, to->name, offset + done, "cannot copy '%s' to '%s'",
                        from->path, to->path);
        done += copied;
    }
    return done < size ? copy_by_hand(from, to, offset + done, size - done, err) : LSM_OK;
}

lsm_status io_file_sync(struct io_file *file, lsm_error *err)
{
    int before = cancel_hold();
    int number = file->io->ops->file_sync(file);
    cancel_release(before);
    if (number == 0)
        return LSM_OK;
    return fail(err, number, file->name, LSM_NO_OFFSET,
                "cannot sync '%s', its last writes may be lost", file->path);
}

void io_file_write_back(struct io_file *file, uint64_t offset, uint64_t size)
{
    if (file->direct || file->io->ops->file_write_back == NULL)
        return;
    int before = cancel_hold();
    file->io->ops->file_write_back(file, offset, size);
    cancel_release(before);
}

lsm_status io_file_identity(struct io_file *file, struct io_identity *identity, lsm_error *err)
{
    int before = cancel_hold();
    int number = file->io->ops->file_identity(file, identity);
    cancel_release(before);
    if (number == 0)
        return LSM_OK;
    return fail(err, number, file->name, LSM_NO_OFFSET, "cannot tell which file '%s' is",
                file->path);
}

lsm_status io_file_size(struct io_file *file, uint64_t *size, lsm_error *err)
{
    int before = cancel_hold();
    int number = file->io->ops->file_size(file, size);
    cancel_release(before);
    if (number == 0)
        return LSM_OK;
    return fail(err, number, file->name, LSM_NO_OFFSET, "cannot tell the size of '%s'", file->path);
}

lsm_status io_file_truncate(struct io_file *file, uint64_t size, lsm_error *err)
{
    int number = EINVAL;
    if (size <= INT64_MAX)
        number = file->writable ? file->io->ops->file_truncate(file, size) : EBADF;
    if (number == 0)
        return LSM_OK;
    return fail(err, number, file->name, size, "cannot cut '%s' to %" PRIu64 " bytes", file->path,
                size);
}

lsm_status io_file_allocate(struct io_file *file, uint64_t offset, uint64_t size, lsm_error *err)
{
    int number = EINVAL;
    int before = cancel_hold();
    if (offset <= INT64_MAX && size <= (uint64_t)INT64_MAX - offset)
        number = file->writable ? file->io->ops->file_allocate(file, offset, size) : EBADF;
    cancel_release(before);
    if (number == 0)
        return LSM_OK;
    return fail(err, number, file->name, offset,
                "cannot reserve %" PRIu64 " bytes of disk at offset %" PRIu64 " of '%s'", size,
                offset, file->path);
}

/* ---- mappings -------------------------------------------------------------------------------- */

lsm_status io_map(struct io_file *file, size_t size, unsigned flags, struct io_mapping **mapping,
                  lsm_error *err)
{
    struct io_mapping *made = NULL;
    int number = EINVAL;
    if (size > 0)
        number = (flags & IO_MAP_WRITE) != 0 && !file->writable
                     ? EBADF
                     : file->io->ops->map(file, size, flags, &made);
    if (number == IO_RESULT_UNSAFE) {
        lsm_status status = lsm_fail(err, LSM_UNSUPPORTED,
                                     "cannot map '%s': its file system copies on write, so that a "
                                     "store may end in SIGBUS",
                                     file->path);
        status_place(err, file->name, LSM_NO_OFFSET);
        return status;
    }
    if (number == IO_RESULT_SHORT) {
        lsm_status status =
            lsm_fail(err, LSM_INVALID, "cannot map %zu bytes of '%s': they are not all allocated",
                     size, file->path);
        status_place(err, file->name, LSM_NO_OFFSET);
        return status;
    }
    if (number != 0)
        return fail(err, number, file->name, LSM_NO_OFFSET, "cannot map %zu bytes of '%s'", size,
                    file->path);
    made->io = file->io;
    made->size = size;
    *mapping = made;
    return LSM_OK;
}

void io_unmap(struct io_mapping *mapping)
{
    if (mapping != NULL)
        mapping->io->ops->unmap(mapping);
}

void *io_mapping_memory(const struct io_mapping *mapping)
{
    return mapping->memory;
}

void io_mapping_populate(struct io_mapping *mapping, size_t offset, size_t size)
{
    if (offset <= mapping->size && size <= mapping->size - offset)
        mapping->io->ops->populate(mapping, offset, size);
}

/* ---- locks ----------------------------------------------------------------------------------- */

lsm_status io_lock_as(struct io_file *file, uint64_t byte, enum io_lock_mode mode,
                      unsigned patience_ms, struct io_lock **lock, lsm_error *err)
{
    struct io_lock *made = NULL;
    int number = EINVAL;
    int before = cancel_hold();
    if (byte < INT64_MAX)
        number = file->writable ? file->io->ops->lock(file, byte, mode, patience_ms, &made) : EBADF;
    cancel_release(before);
    if (number == EAGAIN || number == EACCES) {
        lsm_status status =
            lsm_fail(err, LSM_BUSY, "somebody else holds the lock on byte %" PRIu64 " of '%s'",
                     byte, file->path);
        status_place(err, file->name, byte);
        return status;
    }
    if (number != 0)
        return fail(err, number, file->name, byte, "cannot lock byte %" PRIu64 " of '%s'", byte,
                    file->path);
    made->io = file->io;
    *lock = made;
    return LSM_OK;
}

lsm_status io_lock(struct io_file *file, uint64_t byte, struct io_lock **lock, lsm_error *err)
{
    return io_lock_as(file, byte, IO_LOCK_EXCLUSIVE, IO_LOCK_PATIENCE_MS, lock, err);
}

lsm_status io_try_lock(struct io_file *file, uint64_t byte, struct io_lock **lock, lsm_error *err)
{
    return io_lock_as(file, byte, IO_LOCK_EXCLUSIVE, 0, lock, err);
}

void io_unlock(struct io_lock *lock)
{
    int before = cancel_hold();
    if (lock != NULL)
        lock->io->ops->unlock(lock);
    cancel_release(before);
}

bool io_lock_is_held(struct io_file *file, uint64_t byte)
{
    bool held = false;
    int before = cancel_hold();
    bool known = byte < INT64_MAX && file->io->ops->lock_test(file, byte, &held) == 0;
    cancel_release(before);
    return known && held;
}

/* ---- queues ---------------------------------------------------------------------------------- */

lsm_status io_queue_open(struct io *io, unsigned depth, struct io_queue **queue, lsm_error *err)
{
    struct io_queue *made = NULL;
    int before = cancel_hold();
    int number = io->ops->queue_open(io, depth > 0 ? depth : 1, &made);
    cancel_release(before);
    if (number != 0)
        return fail(err, number, "", LSM_NO_OFFSET, "cannot make an i/o queue of depth %u", depth);
    *queue = made;
    return LSM_OK;
}

void io_queue_close(struct io_queue *queue)
{
    if (queue == NULL)
        return;
    while (io_queue_reap(queue, true) != NULL)
        ;
    int before = cancel_hold();
    queue->ops->close(queue);
    cancel_release(before);
}

static void list_append(struct io_request **first, struct io_request **last, struct io_request *r)
{
    r->next = NULL;
    if (*first == NULL)
        *first = r;
    else
        (*last)->next = r;
    *last = r;
}

static struct io_request *list_take(struct io_request **first)
{
    struct io_request *r = *first;
    if (r != NULL) {
        *first = r->next;
        r->next = NULL;
    }
    return r;
}

struct io_request *queue_take_pushed(struct io_queue *queue)
{
    return list_take(&queue->pushed_first);
}

void queue_add_done(struct io_queue *queue, struct io_request *request, int number)
{
    request->os_errno = number;
    request->transferred = request->progress;
    list_append(&queue->done_first, &queue->done_last, request);
}

int queue_check(const struct io_request *request)
{
    if (request->operation == IO_WRITE && !request->file->writable)
        return EBADF;
    return check_transfer(request->file, request->memory, request->size, request->offset);
}

void io_queue_push(struct io_queue *queue, struct io_request *request)
{
    request->transferred = 0;
    request->progress = 0;
    request->os_errno = 0;
    list_append(&queue->pushed_first, &queue->pushed_last, request);
    queue->in_flight++;
}

lsm_status io_queue_submit(struct io_queue *queue, lsm_error *err)
{
    int before = cancel_hold();
    int number = queue->pushed_first == NULL ? 0 : queue->ops->submit(queue);
    cancel_release(before);
    if (number == 0)
        return LSM_OK;
    return fail(err, number, "", LSM_NO_OFFSET, "cannot submit to the i/o queue");
}

struct io_request *io_queue_reap(struct io_queue *queue, bool wait)
{
    if (queue->pushed_first != NULL || (queue->done_first == NULL && queue->in_flight > 0)) {
        int before = cancel_hold();
        queue->ops->collect(queue, wait && queue->done_first == NULL);
        cancel_release(before);
    }
    struct io_request *r = list_take(&queue->done_first);
    if (r != NULL)
        queue->in_flight--;
    return r;
}

unsigned io_queue_in_flight(const struct io_queue *queue)
{
    return queue->in_flight;
}

lsm_status io_request_error(const struct io_request *request, lsm_error *err)
{
    return fail_transfer(request->file, request->operation == IO_READ ? "read" : "write",
                         request->size, request->offset, request->os_errno, err);
}

/* ---- progress of a transfer ------------------------------------------------------------------ */

size_t transfer_start(const struct io_request *request)
{
    size_t done = request->progress;
    return request->file->direct ? done - done % IO_ALIGNMENT : done;
}

size_t transfer_size(const struct io_request *request)
{
    size_t left = request->size - transfer_start(request);
    return left < IO_TRANSFER_MAX ? left : IO_TRANSFER_MAX;
}

bool transfer_advance(struct io_request *request, size_t start, size_t moved, int *number)
{
    size_t reached = start + moved;
    *number = 0;
    if (reached > request->progress) {
        request->progress = reached < request->size ? reached : request->size;
        return request->progress == request->size;
    }
    if (request->operation == IO_WRITE && request->progress < request->size)
        *number = EIO; /* the kernel wrote nothing and gave no reason */
    return true;
}
