/*
 * Spills: what an intake puts aside for a while, one behind the other in a file without a name. It
 * is gone when it is closed, or its process dies, so that nobody ever meets one.
 *
 * A spill holds records, as they lie in memory, one after the other in pieces with a checksum each;
 * a record may go on in the next piece.
 */
#ifndef ENGINE_COMPACT_SPILL_PRIVATE_H
#define ENGINE_COMPACT_SPILL_PRIVATE_H

#include "engine/base/buffer.h"
#include "engine/base/hash.h"
#include "engine/format/entry.h"
#include "engine/io/io.h"
#include "engine/sst/table.h"

/* ---- records --------------------------------------------------------------------------------- */

/* Key and value follow, and what makes its size a multiple of RECORD_ALIGNMENT. */
struct record {
    uint32_t value_size;
    uint16_t key_size;
    uint8_t type; /* enum entry_type */
    uint8_t unused;
};
#define RECORD_ALIGNMENT sizeof(struct record)
_Static_assert(sizeof(struct record) == 8, "records lie close together");

static inline size_t record_size(size_t key_size, size_t value_size)
{
    return (sizeof(struct record) + key_size + value_size + RECORD_ALIGNMENT - 1) &
           ~(RECORD_ALIGNMENT - 1);
}

static inline struct record record_at(const uint8_t *at)
{
    struct record r;
    memcpy(&r, at, sizeof r);
    return r;
}

static inline size_t record_size_at(const uint8_t *at)
{
    struct record r = record_at(at);
    return record_size(r.key_size, r.value_size);
}

static inline lsm_slice record_key(const uint8_t *at)
{
    return (lsm_slice){at + sizeof(struct record), record_at(at).key_size};
}

static inline lsm_slice record_value(const uint8_t *at)
{
    struct record r = record_at(at);
    return (lsm_slice){at + sizeof r + r.key_size, r.value_size};
}

/* Room for the record is at `to`. */
static inline void record_put(uint8_t *to, enum entry_type type, lsm_slice key, lsm_slice value)
{
    struct record r = {
        .value_size = (uint32_t)value.size, .key_size = (uint16_t)key.size, .type = (uint8_t)type};
    size_t size = record_size(key.size, value.size);
    bytes_put_u64(to + size - sizeof r, 0); /* no chance bytes at its end */
    memcpy(to, &r, sizeof r);
    if (key.size > 0)
        memcpy(to + sizeof r, key.data, key.size);
    if (value.size > 0)
        memcpy(to + sizeof r + key.size, value.data, value.size);
}

/* ---- spills ---------------------------------------------------------------------------------- */

#define SPILL_PIECE   ((size_t)64 << 10)
#define SPILL_PAYLOAD (SPILL_PIECE - sizeof(uint64_t)) /* bytes of records in a piece */

/* Zeroed is none. */
struct spill_file {
    const struct table_env *env;
    struct io_file *file; /* owned */
    uint64_t number;
    uint64_t size; /* what the next spill begins at, a multiple of IO_ALIGNMENT */
};
/* `number`: a file number nobody else has. */
lsm_status spill_file_open(struct spill_file *f, const struct table_env *env, uint64_t number,
                           lsm_error *err);
void spill_file_close(struct spill_file *f);

struct spill {
    const struct spill_file *file;
    uint64_t offset; /* of its first piece */
    uint64_t size;   /* bytes of records */
};

/* What its checksum begins with. */
static inline uint64_t spill_seed(const struct spill *s, uint64_t piece)
{
    return hash_place(s->file->env->uuid, s->file->number, s->offset + piece * SPILL_PIECE);
}

#define SPILL_WRITE_PIECES 8 /* in one write */
#define SPILL_WRITES       3 /* one fills while two are on their way */

/* Zeroed and then begun. */
struct spill_writer {
    struct spill_file *file;
    struct spill spill;
    struct io_queue *queue;
    struct {
        uint8_t *memory; /* owned; made at first use */
        struct io_request request;
        bool in_flight;
    } writes[SPILL_WRITES];
    unsigned current;
    size_t piece;      /* of the current write */
    size_t used;       /* bytes of it */
    uint64_t index;    /* of the piece */
    uint8_t *at;       /* its next byte; NULL: it has no memory yet */
    lsm_status status; /* of the first failure */
};

/* One at a time is written to a file. */
lsm_status spill_begin(struct spill_writer *w, struct spill_file *file, lsm_error *err);
lsm_status spill_append(struct spill_writer *w, const void *bytes, size_t size, lsm_error *err);
static inline uint64_t spill_position(const struct spill_writer *w)
{
    return w->index * SPILL_PAYLOAD + w->used;
}
/* Everything is written (not synced: nobody will look for it after a power cut). The writer is
 * released, whatever is returned. */
lsm_status spill_end(struct spill_writer *w, struct spill *spill, lsm_error *err);
void spill_abort(struct spill_writer *w); /* also of one that has ended */

#define SPILL_WINDOW_MAX ((size_t)1 << 20)
#define SPILL_WINDOWS    2 /* one is used while the other is on its way */

/* Zeroed and then opened. Any number may read a spill. */
struct spill_reader {
    const struct spill *spill;
    struct io_queue *queue;
    struct {
        uint8_t *memory; /* owned */
        struct io_request request;
        uint64_t first, limit; /* pieces */
        bool in_flight;
    } windows[SPILL_WINDOWS];
    size_t window_size;
    unsigned current;    /* window */
    uint64_t next_piece; /* that no window has */
    uint64_t piece;      /* that is read */
    const uint8_t *at, *limit;
    struct buffer whole; /* a record of several pieces */
};

/* Begins at a record's position. `memory`: bytes for its windows, more or less. */
lsm_status spill_open(struct spill_reader *r, const struct spill *spill, uint64_t position,
                      size_t memory, lsm_error *err);
void spill_close(struct spill_reader *r);

lsm_status spill_next_slowly(struct spill_reader *r, const uint8_t **record, lsm_error *err);

/* The next record, valid until the next call; NULL: there is none. */
static inline lsm_status spill_next(struct spill_reader *r, const uint8_t **record, lsm_error *err)
{
    size_t left = (size_t)(r->limit - r->at);
    if (left < sizeof(struct record) || left < record_size_at(r->at))
        return spill_next_slowly(r, record, err);
    *record = r->at;
    r->at += record_size_at(r->at);
    return LSM_OK;
}

#endif
