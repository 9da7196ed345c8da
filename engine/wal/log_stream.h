/*
 * Reading a stretch of the log as one run of bytes, whatever lies below: a segment file or the
 * ring. Large reads are kept in flight ahead of the reader, so that recovery is bound by the disk
 * or by hashing, not by their sum.
 */
#ifndef ENGINE_WAL_LOG_STREAM_H
#define ENGINE_WAL_LOG_STREAM_H

#include "engine/base/buffer.h"
#include "engine/io/io.h"

#define LOG_STREAM_DEPTH 4
#define LOG_STREAM_CHUNK ((size_t)1 << 20)

/* Where the bytes stand. */
struct log_source {
    struct io_file *file; /* borrowed */
    uint64_t start;       /* of a segment: the position of its first byte */
    uint64_t ring_size;   /* of the ring: its bytes, a multiple of IO_ALIGNMENT; 0: a segment */
    uint64_t limit;       /* position behind the last byte to read */
};

uint64_t log_source_offset(const struct log_source *source, uint64_t position); /* in the file */

struct log_stream_chunk {
    struct io_request request;
    uint8_t *memory;       /* owned; NULL until first used */
    size_t capacity;       /* of it */
    uint64_t first, limit; /* positions it holds */
    bool done;
};

/* Zeroed is closed. */
struct log_stream {
    struct io_queue *queue; /* owned */
    struct log_source source;
    struct log_stream_chunk chunks[LOG_STREAM_DEPTH]; /* a ring */
    unsigned chunk_first, chunk_count;
    uint64_t next;        /* position of the first byte not asked for */
    struct buffer joined; /* bytes that lie in several chunks */
};

lsm_status log_stream_open(struct log_stream *stream, struct io *io, lsm_error *err);
void log_stream_close(struct log_stream *stream);

/* Waits for all reads in flight and forgets them, failed or not. Before the source's file is
 * closed. */
void log_stream_settle(struct log_stream *stream);

/* Starts reading `source` (copied) at `position`. May be called again, after success or damage; not
 * after an error. */
lsm_status log_stream_begin(struct log_stream *stream, const struct log_source *source,
                            uint64_t position, lsm_error *err);

/*
 * Gives the `size` bytes at `position` in one piece, valid until the next call. Positions only grow
 * from call to call, except that the last one may be asked for again when it was for at most
 * IO_ALIGNMENT bytes. position + size is at most the source's limit. LSM_IO when they cannot be
 * read, LSM_CORRUPT when the file ends before them.
 */
lsm_status log_stream_peek(struct log_stream *stream, uint64_t position, size_t size,
                           const uint8_t **bytes, lsm_error *err);

/* The same for as many bytes as are there in one piece: at least one. position < limit. */
lsm_status log_stream_span(struct log_stream *stream, uint64_t position, const uint8_t **bytes,
                           size_t *size, lsm_error *err);

#endif
