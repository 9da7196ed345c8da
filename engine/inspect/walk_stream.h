/*
 * Reading a file from front to back in large pieces, several of them in flight, through the queue
 * of engine/io: as fast as the device gives them, in bounded memory. What the device refuses to
 * give is told page by page and does not stop the reading.
 */
#ifndef ENGINE_INSPECT_WALK_STREAM_H
#define ENGINE_INSPECT_WALK_STREAM_H

#include "engine/base/hash.h"
#include "engine/io/io.h"

#define WALK_PIECE        ((size_t)1 << 20) /* bytes of one read */
#define WALK_PIECES       4                 /* in flight */
#define WALK_MEMORY_LIMIT ((size_t)24 << 20)

/* What all walks over one database share. Outlives them. */
struct walk_env {
    struct io *io;
    struct io_dir *dir;
    uint8_t uuid[HASH_UUID_SIZE];
    size_t memory_limit; /* bytes that one walk holds at most, about; 0: WALK_MEMORY_LIMIT */
    /* Called behind every read with its bytes, on the thread that walks; false ends the walk with
     * LSM_CANCELLED. NULL: none. */
    bool (*pace)(void *context, uint64_t bytes);
    void *pace_context;
};

struct walk_stream;

/* `file` is borrowed until the close; opened with IO_FILE_DIRECT or not. */
lsm_status walk_stream_open(const struct walk_env *env, struct io_file *file, uint64_t file_size,
                            struct walk_stream **stream, lsm_error *err);
void walk_stream_close(struct walk_stream *s); /* NULL is allowed */

/*
 * The bytes [offset, offset + size), which lie inside the file; valid until the next call. No
 * offset is below that of the call before. `size` is at most the memory limit.
 *
 * *unreadable is the errno with which the device refused a part of them (that part reads as
 * zeros; the same for what the file has lost since), or 0. LSM_CANCELLED, LSM_NO_MEMORY.
 */
lsm_status walk_stream_get(struct walk_stream *s, uint64_t offset, size_t size,
                           const uint8_t **bytes, int *unreadable, lsm_error *err);

/*
 * The table digest of the first `size` bytes: what was passed already is in it, the rest is read.
 * *is_whole is false, and the digest untold, when a part is unreadable or was not wanted.
 */
lsm_status walk_stream_digest(struct walk_stream *s, uint64_t size, uint64_t *digest,
                              bool *is_whole, lsm_error *err);
/* To be said before the first get: the digest will be of so many bytes. Nothing is jumped over
 * then. */
void walk_stream_want_digest(struct walk_stream *s, uint64_t size);

/* A part of the file at any place, read at once: `memory` is aligned to IO_ALIGNMENT, as the offset
 * is, and has room for `size` bytes rounded up to it. Otherwise as get. */
lsm_status walk_read(const struct walk_env *env, struct io_file *file, void *memory, size_t size,
                     uint64_t offset, int *unreadable, lsm_error *err);

#endif
