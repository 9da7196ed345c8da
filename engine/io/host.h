/*
 * The part that the uring and posix backends share: directories, files, mappings, locks and clock
 * by system calls.
 */
#ifndef ENGINE_IO_HOST_H
#define ENGINE_IO_HOST_H

#include "engine/io/io_private.h"

struct host_dir {
    struct io_dir base;
    int fd;
};

struct host_file {
    struct io_file base;
    int fd;
};

/* Moves a descriptor to 3 or above, so that a stray print to stderr cannot reach a database file.
 * Keeps O_CLOEXEC. -1 with errno set (and `fd` closed) when there is none left. */
int host_raise_fd(int fd);

/* `fd`, made like openat(2), with symbolic links refused and nothing but `dir` reachable. */
int host_open_beneath(int dir, const char *name, int flags, uint32_t mode);

int host_dir_open(struct io *io, const char *path, unsigned flags, uint32_t mode,
                  struct io_dir **dir);
void host_dir_close(struct io_dir *dir);
int host_dir_real_path(struct io_dir *dir, char *path, size_t size);
const char *host_dir_remote_name(struct io_dir *dir);
uint64_t host_dir_free_bytes(struct io_dir *dir);
bool host_dir_lacks_barriers(struct io_dir *dir);
int host_dir_sync(struct io_dir *dir);
int host_dir_list(struct io_dir *dir, io_visit visit, void *context, lsm_status *stopped,
                  lsm_error *err);
int host_dir_describe(struct io_dir *dir, const char *name, struct io_entry *entry);
int host_dir_rename(struct io_dir *dir, const char *from, const char *to);
int host_dir_unlink(struct io_dir *dir, const char *name);
int host_dir_link(struct io_dir *from, const char *name, struct io_dir *to);
int host_dir_remove(struct io *io, const char *path);
int host_dir_move(struct io *io, const char *from, const char *to, bool *moved);

int host_file_open(struct io_dir *dir, const char *name, unsigned flags, uint32_t mode,
                   struct io_file **file);
void host_file_close(struct io_file *file);
int host_file_identity(struct io_file *file, struct io_identity *identity);
int host_file_read(struct io_file *file, void *memory, size_t size, uint64_t offset, size_t *got);
int host_file_write(struct io_file *file, const void *memory, size_t size, uint64_t offset);
int host_file_copy(struct io_file *from, struct io_file *to, uint64_t offset, size_t size,
                   size_t *copied);
int host_file_sync(struct io_file *file);
void host_file_write_back(struct io_file *file, uint64_t offset, uint64_t size);
int host_file_size(struct io_file *file, uint64_t *size);
int host_file_truncate(struct io_file *file, uint64_t size);
int host_file_allocate(struct io_file *file, uint64_t offset, uint64_t size);

int host_map(struct io_file *file, size_t size, unsigned flags, struct io_mapping **mapping);
void host_unmap(struct io_mapping *mapping);
void host_populate(struct io_mapping *mapping, size_t offset, size_t size);

int host_lock(struct io_file *file, uint64_t byte, enum io_lock_mode mode, unsigned patience_ms,
              struct io_lock **lock);
void host_unlock(struct io_lock *lock);
int host_lock_test(struct io_file *file, uint64_t byte, bool *held);

void host_describe_process(struct io *io, struct io_process *process);
void host_describe_thread(struct io *io, int64_t id, struct io_thread *thread);
uint64_t host_now_ns(struct io *io);
uint64_t host_wall_ms(struct io *io);
void host_random(struct io *io, void *bytes, size_t size);

/* A queue that does its work at submit by pread and pwrite; for both backends. */
int posix_queue_open(struct io *io, unsigned depth, struct io_queue **queue);

/* The backends; 0 or ENOMEM. uring_open() says ENOTSUP where it is refused, and why in `reason`. */
int posix_open(struct io **io);
int uring_open(struct io **io, char *reason, size_t reason_size);

/* All of struct io_ops but close and queue_open. */
#define HOST_OPS                                                                                   \
    .now_ns = host_now_ns, .wall_ms = host_wall_ms, .random = host_random,                         \
    .describe_process = host_describe_process, .describe_thread = host_describe_thread,            \
    .dir_open = host_dir_open, .dir_close = host_dir_close, .dir_real_path = host_dir_real_path,   \
    .dir_remote_name = host_dir_remote_name, .dir_free_bytes = host_dir_free_bytes,                \
    .dir_lacks_barriers = host_dir_lacks_barriers, .dir_sync = host_dir_sync,                      \
    .dir_list = host_dir_list, .dir_describe = host_dir_describe, .dir_rename = host_dir_rename,   \
    .dir_unlink = host_dir_unlink, .dir_remove = host_dir_remove, .dir_link = host_dir_link,       \
    .dir_move = host_dir_move, .file_copy = host_file_copy, .file_open = host_file_open,           \
    .file_close = host_file_close, .file_identity = host_file_identity,                            \
    .file_read = host_file_read, .file_write = host_file_write, .file_sync = host_file_sync,       \
    .file_write_back = host_file_write_back, .file_size = host_file_size,                          \
    .file_truncate = host_file_truncate, .file_allocate = host_file_allocate, .map = host_map,     \
    .unmap = host_unmap, .populate = host_populate, .lock = host_lock, .unlock = host_unlock,      \
    .lock_test = host_lock_test

#endif
