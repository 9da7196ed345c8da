/*
 * The one place that does I/O: files, directories, mappings, locks, clock and randomness.
 *
 * A `struct io` is one environment, made by a backend:
 *   uring   io_uring for queues, plain system calls for the rest      io_uring_open()
 *   posix   system calls only (where io_uring is refused)             io_posix_open()
 *   sim     a disk in memory that loses, tears and reorders what was  engine/io/sim.h
 *           not synced, and can be told to fail
 * io_open() picks one. Everybody above is written against requests and completions, so that the
 * simulated disk decides their order and result.
 *
 * Synchronous calls (io_file_read, io_file_write, io_file_sync) loop over short transfers, EINTR
 * and EAGAIN. Queues give many requests in flight: push, submit, reap; see io_queue below.
 *
 * Names inside a directory never hold '/'; every open is relative to a directory handle, refuses
 * symbolic links and anything but regular files, and is O_CLOEXEC. Errors name directory and file.
 */
#ifndef ENGINE_IO_IO_H
#define ENGINE_IO_IO_H

#include "engine/base/status.h"

#define IO_ALIGNMENT ((size_t)4096) /* of direct reads and writes: offset, length and memory */
#define IO_NAME_MAX  ((size_t)64)   /* longest file name the engine makes, with its NUL */

#define IO_LOCK_PATIENCE_MS 200 /* how long io_lock() waits for somebody else to let go */

struct io;
struct io_dir;
struct io_file;
struct io_queue;
struct io_mapping;
struct io_lock;
struct io_signal;

/* What tells a file from every other one, whatever the names; as long as it is open. */
struct io_identity {
    uint64_t device;
    uint64_t inode;
};

/* ---- environment ----------------------------------------------------------------------------- */

/*
 * kind: "auto", "uring" or "posix". "auto" obeys the environment variable LSM_IO, then tries
 * io_uring with a real write, sync and read, and falls back to posix when it is refused.
 * "uring" fails (LSM_UNSUPPORTED) where it is refused.
 */
lsm_status io_open(const char *kind, struct io **io, lsm_error *err);
void io_close(struct io *io); /* every file, queue and mapping has been closed */

const char *io_name(const struct io *io);   /* "uring", "posix", "sim" */
const char *io_reason(const struct io *io); /* why this one: a sentence */

uint64_t io_now_ns(struct io *io);                       /* monotonic */
uint64_t io_wall_ms(struct io *io);                      /* since 1970; for display only */
void io_random(struct io *io, void *bytes, size_t size); /* good enough for uuids and nonces */
uint64_t io_submission_count(struct io *io);             /* queue submissions so far */

/* Which process on which machine this is; for telling whether two can share memory and locks. */
struct io_process {
    char boot_id[40];       /* of the running kernel, as text; empty when it is not told */
    uint64_t pid_namespace; /* two processes that differ in it cannot share a robust lock */
    int64_t pid;            /* for messages only, like the next */
    char command[16];
};
void io_describe_process(struct io *io, struct io_process *process);

/* What the system says of a thread of any process, for messages only; a process's id is that of its
 * first thread. */
struct io_thread {
    int64_t pid;      /* of the process it belongs to; 0: there is none, or nothing is told of it */
    char state;       /* as in proc(5): 'R' running, 'S' asleep, 'Z' dead, ... */
    char command[16]; /* of the thread */
    bool is_stopped;  /* by a signal or a debugger */
};
/* False when there is no such thread, or nothing is told of it; *thread is empty then. */
bool io_describe_thread(struct io *io, int64_t id, struct io_thread *thread);

/* ---- directories ----------------------------------------------------------------------------- */

enum io_dir_flags {
    IO_DIR_CREATE = 1, /* make it (0700, or as `mode`) when missing; the parent must exist */
};

/*
 * LSM_MISSING when it does not exist and is not to be created. `path` is copied for messages. A
 * directory made here is durable on return (its parent is synced). mode 0: 0700.
 */
lsm_status io_dir_open(struct io *io, const char *path, unsigned flags, uint32_t mode,
                       struct io_dir **dir, lsm_error *err);
void io_dir_close(struct io_dir *dir);
const char *io_dir_path(const struct io_dir *dir);
/* The path from the root, without symbolic links: what another process finds the directory by. */
lsm_status io_dir_real_path(struct io_dir *dir, char *path, size_t size, lsm_error *err);
/* What the file system is called when another machine, or a program, answers for it ("NFS"): locks
 * and mappings there need not hold between all who use it. NULL for a local one. Static storage. */
const char *io_dir_remote_name(struct io_dir *dir);

/* What the file system has left; UINT64_MAX where it has no limit, or does not tell. */
uint64_t io_dir_free_bytes(struct io_dir *dir);

/* Whether it is mounted so that a sync does not reach the medium (no barriers). False when that is
 * not told. */
bool io_dir_lacks_barriers(struct io_dir *dir);

/* Makes creations, renames and removals in the directory durable. */
lsm_status io_dir_sync(struct io_dir *dir, lsm_error *err);

/* Calls visit for every entry but "." and ".."; stops at the first status that is not LSM_OK. */
typedef lsm_status (*io_visit)(void *context, const char *name, lsm_error *err);
lsm_status io_dir_list(struct io_dir *dir, io_visit visit, void *context, lsm_error *err);

/* What a name in a directory stands for; nothing is opened or followed. */
enum io_entry_kind {
    IO_ENTRY_FILE,
    IO_ENTRY_DIRECTORY,
    IO_ENTRY_SYMLINK,
    IO_ENTRY_OTHER, /* a pipe, a socket, a device */
};
struct io_entry {
    enum io_entry_kind kind;
    uint32_t mode; /* permission bits */
    uint32_t user, group;
    uint64_t size;
    uint64_t links; /* names that it has */
    struct io_identity identity;
};
/* `name` may be any that io_dir_list() gives; NULL: the directory itself. LSM_MISSING when there is
 * none (any more). */
lsm_status io_dir_describe(struct io_dir *dir, const char *name, struct io_entry *entry,
                           lsm_error *err);

lsm_status io_dir_rename(struct io_dir *dir, const char *from, const char *to, lsm_error *err);
/* *existed (may be NULL) tells whether there was something to remove; a missing one is LSM_OK. Who
 * has it open may go on; the space of a large file that nobody has goes back piece by piece. */
lsm_status io_dir_unlink(struct io_dir *dir, const char *name, bool *existed, lsm_error *err);
/*
 * Gives a file of `from` the same name in `to` besides: one file with two names. LSM_UNSUPPORTED
 * where that cannot be (another file system, one without links, too many of them, not allowed): it
 * can be copied. LSM_EXISTS, LSM_MISSING.
 */
lsm_status io_dir_link(struct io_dir *from, const char *name, struct io_dir *to, lsm_error *err);
/* Removes the empty directory `path` itself. LSM_EXISTS when it is not empty. */
lsm_status io_dir_remove(struct io *io, const char *path, lsm_error *err);
/*
 * Gives the directory `from` the path `to`, on the same file system, durably. Open handles stay
 * good, but their messages go on to say `from`. LSM_EXISTS when something is there already: nothing
 * is ever replaced. *is_moved (may be NULL) tells after a failure, too, whether it is at `to` now:
 * then that may not be durable.
 */
lsm_status io_dir_move(struct io *io, const char *from, const char *to, bool *is_moved,
                       lsm_error *err);

/* ---- files ----------------------------------------------------------------------------------- */

enum io_file_flags {
    IO_FILE_WRITE = 1,   /* read and write; otherwise read only */
    IO_FILE_CREATE = 2,  /* make it when missing */
    IO_FILE_NEW = 4,     /* with CREATE: LSM_EXISTS when there is one */
    IO_FILE_DIRECT = 8,  /* bypass the page cache where the file system lets us, see below */
    IO_FILE_RANDOM = 16, /* where it is not bypassed: the system shall read nothing but what is
                          * asked for. A hint */
};

/*
 * LSM_MISSING when it does not exist; LSM_CORRUPT when it is no regular file; LSM_INVALID when the
 * name is none that a file inside a directory can have. `mode` is for a file made here, whatever
 * the umask; 0: 0600.
 *
 * IO_FILE_DIRECT: every read and write is aligned to IO_ALIGNMENT in offset, length and memory.
 * When the file system refuses O_DIRECT the file is used buffered (io_file_is_direct() tells).
 */
lsm_status io_file_open(struct io_dir *dir, const char *name, unsigned flags, uint32_t mode,
                        struct io_file **file, lsm_error *err);
/* No request on it is in flight. NULL is allowed. Does not sync. */
void io_file_close(struct io_file *file);
const char *io_file_name(const struct io_file *file);
bool io_file_is_direct(const struct io_file *file);

lsm_status io_file_identity(struct io_file *file, struct io_identity *identity, lsm_error *err);
static inline bool io_identity_equal(struct io_identity a, struct io_identity b)
{
    return a.device == b.device && a.inode == b.inode;
}

/* Reads up to `size` bytes; *got < size only at the end of the file. */
lsm_status io_file_read(struct io_file *file, void *memory, size_t size, uint64_t offset,
                        size_t *got, lsm_error *err);
/* Reads exactly `size` bytes; an earlier end of the file is LSM_CORRUPT with both sizes. */
lsm_status io_file_read_exact(struct io_file *file, void *memory, size_t size, uint64_t offset,
                              lsm_error *err);
lsm_status io_file_write(struct io_file *file, const void *memory, size_t size, uint64_t offset,
                         lsm_error *err);
/* Writes [offset, offset + size) of `from` to the same place in `to`, in the kernel where it can,
 * which shares the blocks on file systems that do. An earlier end of `from` is LSM_CORRUPT. Neither
 * is opened with IO_FILE_DIRECT. */
lsm_status io_file_copy(struct io_file *from, struct io_file *to, uint64_t offset, uint64_t size,
                        lsm_error *err);
/* fdatasync: bytes and size durable (the name needs io_dir_sync). Never retry a failed one. */
lsm_status io_file_sync(struct io_file *file, lsm_error *err);
/* Tells the kernel to start writing back what was written to [offset, offset + size), so that a
 * later io_file_sync() waits for less. A hint; nothing is durable by it. */
void io_file_write_back(struct io_file *file, uint64_t offset, uint64_t size);
lsm_status io_file_size(struct io_file *file, uint64_t *size, lsm_error *err);
/* A large file that is cut may have any size in between when the process dies or the power fails. */
lsm_status io_file_truncate(struct io_file *file, uint64_t size, lsm_error *err);
/* Reserves disk space for [offset, offset + size) so that later writes and mapped stores there
 * cannot run out of it; extends the size. LSM_NO_SPACE when there is none. */
lsm_status io_file_allocate(struct io_file *file, uint64_t offset, uint64_t size, lsm_error *err);

/* ---- mappings -------------------------------------------------------------------------------- */

enum io_map_flags {
    IO_MAP_WRITE = 1,
    IO_MAP_HOLES = 2, /* the range may have holes; each part is allocated before a store to it */
};

/*
 * Maps [0, size) of a file, shared: stores are in the page cache at once, so they survive the death
 * of the process but no power cut before an io_file_sync(). The range must be allocated, but see
 * IO_MAP_HOLES. Not inherited by fork. LSM_UNSUPPORTED where mapped writes are unsafe (see decision
 * 6 of the log: the caller then writes with io_file_write).
 */
lsm_status io_map(struct io_file *file, size_t size, unsigned flags, struct io_mapping **mapping,
                  lsm_error *err);
void io_unmap(struct io_mapping *mapping);
void *io_mapping_memory(const struct io_mapping *mapping);
/* Tells the kernel that [offset, offset + size), allocated, will be stored to soon: one call in
 * place of a fault a page. A hint; contents stay. */
void io_mapping_populate(struct io_mapping *mapping, size_t offset, size_t size);

/* ---- locks ----------------------------------------------------------------------------------- */

enum io_lock_mode {
    IO_LOCK_SHARED,    /* with other shared ones */
    IO_LOCK_EXCLUSIVE, /* alone */
};

/*
 * A lock on byte `byte` of a file, held by the returned object until io_unlock() or the death of
 * the process (an OFD lock, so two handles in one process exclude each other as well). It stays
 * held when `file` is closed, and a forked child does not inherit it. A just killed process lets go
 * a little late, so a busy lock is tried again for `patience_ms` before LSM_BUSY.
 *
 * A held lock cannot change its mode: whoever needs that holds another lock meanwhile, lets go and
 * takes it anew.
 */
lsm_status io_lock_as(struct io_file *file, uint64_t byte, enum io_lock_mode mode,
                      unsigned patience_ms, struct io_lock **lock, lsm_error *err);
/* Exclusive, with IO_LOCK_PATIENCE_MS. */
lsm_status io_lock(struct io_file *file, uint64_t byte, struct io_lock **lock, lsm_error *err);
/* Exclusive, without patience, for looking through many locks for a free one. */
lsm_status io_try_lock(struct io_file *file, uint64_t byte, struct io_lock **lock, lsm_error *err);
void io_unlock(struct io_lock *lock); /* NULL is allowed */
/* Whether anybody, this process included, holds the lock now, in whatever mode. False when it
 * cannot be told. */
bool io_lock_is_held(struct io_file *file, uint64_t byte);

/* ---- queues ---------------------------------------------------------------------------------- */

enum io_operation {
    IO_READ,
    IO_WRITE,
};

/* One transfer. Owned by the caller; it and its memory live until it was reaped. */
struct io_request {
    enum io_operation operation;
    struct io_file *file;
    void *memory; /* process-private: never shared memory, see ADR on the log */
    size_t size;
    uint64_t offset;
    void *owner; /* the caller's */

    /* Set when reaped. */
    size_t transferred; /* == size on success, less only for a read at the end of the file */
    int os_errno;       /* 0: success */

    /* The queue's. */
    struct io_request *next;
    size_t progress;
};

/*
 * A queue is used by one thread at a time, and a push belongs to the thread that reaps it.
 * The posix backend does the work at submit.
 */
lsm_status io_queue_open(struct io *io, unsigned depth, struct io_queue **queue, lsm_error *err);
void io_queue_close(struct io_queue *queue); /* drains first; NULL is allowed */

/* Adds a request to the next submission. Any number; those over the depth wait their turn. */
void io_queue_push(struct io_queue *queue, struct io_request *request);
/* Hands all pushed requests to the kernel with one system call (where they fit). Does not wait. */
lsm_status io_queue_submit(struct io_queue *queue, lsm_error *err);
/* The next finished request, waiting for it when `wait`; NULL when none is (or none is in flight).
 * Submits pushed requests first. Short transfers and retries are dealt with inside. */
struct io_request *io_queue_reap(struct io_queue *queue, bool wait);
unsigned io_queue_in_flight(const struct io_queue *queue); /* pushed and not reaped */

/*
 * Has the signal raised whenever a request may be reaped, from now on and until the queue is
 * closed. False: this queue cannot, and does not need it either, for after io_queue_submit() its
 * requests are finished, or (sim) will be by io_queue_reap() alone.
 */
bool io_queue_raise(struct io_queue *queue, struct io_signal *signal);

/* The error of a reaped request with os_errno != 0, as a sentence with file and offset. */
lsm_status io_request_error(const struct io_request *request, lsm_error *err);

/* ---- signals --------------------------------------------------------------------------------- */

/*
 * Wakes a thread that sleeps in poll(2) or epoll_wait(2): raised by any thread, lowered by the one
 * that is about to look for what has happened, in this order. In every environment it is real.
 */
lsm_status io_signal_open(struct io_signal **signal, lsm_error *err);
void io_signal_close(struct io_signal *signal);                  /* NULL is allowed */
int io_signal_descriptor(const struct io_signal *signal);        /* readable while it is raised */
void io_signal_raise(struct io_signal *signal);                  /* any thread */
void io_signal_lower(struct io_signal *signal);                  /* */
void io_signal_wait(struct io_signal *signal, uint64_t most_ns); /* may return early */

#endif
