/*
 * The file that a table is written to: appended bytes go out in aligned pieces of
 * TABLE_DIGEST_PIECE, past the page cache two in flight while the next one fills, and are digested
 * on the way. See docs/adr/0079.
 */
#ifndef ENGINE_SST_TABLE_OUTPUT_H
#define ENGINE_SST_TABLE_OUTPUT_H

#include "engine/base/buffer.h"
#include "engine/format/table_format.h"
#include "engine/sst/table.h"

#define TABLE_OUTPUT_PIECES 3

struct table_output {
    struct io *io;
    struct io_file *file;
    struct io_queue *queue; /* made at the first full piece, past the page cache */
    struct {
        uint8_t *memory; /* owned; made at first use */
        struct io_request request;
        bool in_flight;
    } pieces[TABLE_OUTPUT_PIECES];
    unsigned current;
    size_t used;             /* bytes of the current piece */
    uint64_t offset;         /* of the current piece in the file */
    uint64_t digest;         /* of all pieces before it */
    struct table_pace *pace; /* borrowed; NULL: no limit */
    lsm_status status;       /* of the first failure; later calls do nothing and return it */
};

/* Makes the file, which must not exist. */
lsm_status table_output_open(struct table_output *o, const struct table_env *env, const char *name,
                             struct table_pace *pace, lsm_error *err);

lsm_status table_output_append(struct table_output *o, const void *bytes, size_t size,
                               lsm_error *err);
/* Zeros up to `offset`, which is not before table_output_size(). */
lsm_status table_output_pad(struct table_output *o, uint64_t offset, lsm_error *err);

static inline uint64_t table_output_size(const struct table_output *o)
{
    return o->offset + o->used;
}

/* The digest of all bytes so far; the last piece of the digest ends here. */
uint64_t table_output_digest(const struct table_output *o);

/* Writes the rest (the size is a multiple of IO_ALIGNMENT) and waits for all; the memory goes. */
lsm_status table_output_flush(struct table_output *o, lsm_error *err);
lsm_status table_output_sync(struct table_output *o, lsm_error *err); /* what was flushed */

/*
 * Interrupted: suspend writes whole pages, syncs and closes, and gives the rest, less than a page,
 * to `tail`. resume opens the file again, `size` bytes long with its tail; no digest is asked for
 * any more.
 */
lsm_status table_output_suspend(struct table_output *o, struct buffer *tail, lsm_error *err);
lsm_status table_output_resume(struct table_output *o, const struct table_env *env,
                               const char *name, lsm_slice tail, uint64_t size, lsm_error *err);

/* Waits for writes in flight and closes; also after a failed open and twice. */
void table_output_close(struct table_output *o);

#endif
