/*
 * What a backend of io.h provides. Backends return 0 or an errno; io.c makes the sentences, so that
 * they are the same everywhere. The base structs below are the first member of a backend's own.
 */
#ifndef ENGINE_IO_IO_PRIVATE_H
#define ENGINE_IO_IO_PRIVATE_H

#include "engine/io/io.h"

#include <errno.h>
#include <stdatomic.h>

/* Results besides errno values. A request cannot say the first one: it has IO_ERRNO_OFF. */
enum io_result {
    IO_RESULT_IRREGULAR = -1, /* open: neither a regular file nor a symbolic link */
    IO_RESULT_UNSAFE = -2,    /* map: the file system copies mapped pages on write */
    IO_RESULT_SHORT = -3,     /* map: the file is smaller than the range, or has holes in it */
};

#define IO_ERRNO_OFF ESHUTDOWN /* the simulated machine is off */

/* Largest transfer handed to the kernel at once: below its limit of INT_MAX, and aligned. */
#define IO_TRANSFER_MAX ((size_t)1 << 30)
/* How often in a row a transfer may fail with EAGAIN before that counts as an error. */
#define IO_AGAIN_MAX 1000

struct io {
    const struct io_ops *ops;
    const char *name;
    char reason[200];
    _Atomic uint64_t submission_count;
};

struct io_dir {
    struct io *io;
    char *path; /* set and freed by io.c, as in the two below */
};

struct io_file {
    struct io *io;
    char *path;       /* directory and name, for messages */
    const char *name; /* inside path */
    bool writable;
    bool aligned; /* IO_FILE_DIRECT was asked for: everything must be aligned */
    bool direct;  /* and was granted; set by the backend */
};

struct io_mapping {
    struct io *io;
    void *memory;
    size_t size;
};

struct io_lock {
    struct io *io;
};

struct io_queue {
    struct io *io;
    const struct io_queue_ops *ops;
    unsigned depth;
    unsigned in_flight;              /* pushed and not reaped */
    struct io_request *pushed_first; /* not yet handed over */
    struct io_request *pushed_last;  /* */
    struct io_request *done_first;   /* finished, in this order */
    struct io_request *done_last;    /* */
    bool is_broken;                  /* all that is handed over to it fails from now on */
};

struct io_queue_ops {
    /* Hands over what is in the pushed list; a failure comes back with the requests as well. */
    int (*submit)(struct io_queue *queue);
    /* The same, then moves finished requests to the done list: with `wait` at least one, if any is
     * in flight. */
    void (*collect)(struct io_queue *queue, bool wait);
    void (*close)(struct io_queue *queue); /* nothing is in flight */
    /* Has an eventfd written to at each completion from now on; false: it cannot. NULL: the queue
     * completes nothing between two calls. */
    bool (*raise)(struct io_queue *queue, int fd);
};

struct io_ops {
    void (*close)(struct io *io);
    uint64_t (*now_ns)(struct io *io);
    uint64_t (*wall_ms)(struct io *io);
    void (*random)(struct io *io, void *bytes, size_t size);

    void (*describe_process)(struct io *io, struct io_process *process); /* zeroed before */
    void (*describe_thread)(struct io *io, int64_t id, struct io_thread *thread); /* the same */

    int (*dir_open)(struct io *io, const char *path, unsigned flags, uint32_t mode,
                    struct io_dir **dir);
    void (*dir_close)(struct io_dir *dir);
    int (*dir_real_path)(struct io_dir *dir, char *path, size_t size);
    const char *(*dir_remote_name)(struct io_dir *dir);
    uint64_t (*dir_free_bytes)(struct io_dir *dir); /* NULL: there is always room */
    bool (*dir_lacks_barriers)(struct io_dir *dir);
    int (*dir_sync)(struct io_dir *dir);
    /* `stopped` gets the status of a visit that was not LSM_OK. */
    int (*dir_list)(struct io_dir *dir, io_visit visit, void *context, lsm_status *stopped,
                    lsm_error *err);
    int (*dir_describe)(struct io_dir *dir, const char *name, struct io_entry *entry);
    int (*dir_rename)(struct io_dir *dir, const char *from, const char *to);
    int (*dir_unlink)(struct io_dir *dir, const char *name);
    int (*dir_link)(struct io_dir *from, const char *name, struct io_dir *to);
    int (*dir_remove)(struct io *io, const char *path);
    /* Durable on return; *moved, false before, also when only that failed. */
    int (*dir_move)(struct io *io, const char *from, const char *to, bool *moved);

    int (*file_open)(struct io_dir *dir, const char *name, unsigned flags, uint32_t mode,
                     struct io_file **file);
    void (*file_close)(struct io_file *file);
    int (*file_identity)(struct io_file *file, struct io_identity *identity);
    int (*file_read)(struct io_file *file, void *memory, size_t size, uint64_t offset, size_t *got);
    int (*file_write)(struct io_file *file, const void *memory, size_t size, uint64_t offset);
    /* Some of it, *copied > 0 unless `from` ends; EXDEV: by hand, please. NULL: the same. */
    int (*file_copy)(struct io_file *from, struct io_file *to, uint64_t offset, size_t size,
                     size_t *copied);
    int (*file_sync)(struct io_file *file);
    /* NULL: nothing is ever waiting in the page cache. */
    void (*file_write_back)(struct io_file *file, uint64_t offset, uint64_t size);
    int (*file_size)(struct io_file *file, uint64_t *size);
    int (*file_truncate)(struct io_file *file, uint64_t size);
    int (*file_allocate)(struct io_file *file, uint64_t offset, uint64_t size);

    int (*map)(struct io_file *file, size_t size, unsigned flags, struct io_mapping **mapping);
    void (*unmap)(struct io_mapping *mapping);
    void (*populate)(struct io_mapping *mapping, size_t offset, size_t size);

    /* EAGAIN: busy, after that long. */
    int (*lock)(struct io_file *file, uint64_t byte, enum io_lock_mode mode, unsigned patience_ms,
                struct io_lock **lock);
    void (*unlock)(struct io_lock *lock);
    int (*lock_test)(struct io_file *file, uint64_t byte, bool *held);

    int (*queue_open)(struct io *io, unsigned depth, struct io_queue **queue);
};

/* For the backends' queues: lists of requests, and what is checked of every request. */
void queue_add_done(struct io_queue *queue, struct io_request *request, int number);
struct io_request *queue_take_pushed(struct io_queue *queue);
/* 0, or the errno a request has to fail with before it is tried. */
int queue_check(const struct io_request *request);

/*
 * Progress of a transfer that was handed over from `start` bytes on and moved `moved` bytes. A
 * direct one goes on from the last aligned place. True when it is finished: complete, at the end of
 * a file being read, or (a write, *number set) without headway.
 */
bool transfer_advance(struct io_request *request, size_t start, size_t moved, int *number);
size_t transfer_start(const struct io_request *request); /* where to go on */
size_t transfer_size(const struct io_request *request);  /* and how much to ask for */

#endif
