/*
 * Inside the log.
 *
 *   segment.c      segment files: which there are, their headers, how one is made
 *   log_stream.c   reading a stretch of the log
 *   replay.c       finding the end of the log, and telling a torn tail from rot
 *   stage.c        the ring: the stage file, mapped or written
 *   append.c       records into the ring
 *   log_writer.c   the ring's bytes into segments
 *   spare.c        segments begun, recycled and removed
 *   wal.c          open and close
 */
#ifndef ENGINE_WAL_WAL_PRIVATE_H
#define ENGINE_WAL_WAL_PRIVATE_H

#include "engine/base/buffer.h"
#include "engine/wal/segment.h"
#include "engine/wal/wal.h"

#include <assert.h>
#include <pthread.h>

#define WAL_MIN_STAGE   ((uint64_t)16 << 10)
#define WAL_WRITE_SIZE  ((size_t)1 << 20)   /* longest write: bytes of the private buffer */
#define WAL_FILL_SIZE   ((size_t)512 << 10) /* of a write that goes where nothing was written yet */
#define WAL_WRITE_DUE   ((uint64_t)256 << 10)
#define WAL_STRETCH     ((uint64_t)1 << 20) /* the ring is renewed in these */
#define WAL_SPARE_COUNT 2

static_assert(LOG_RECORD_OVERHEAD <= WAL_RECORD_OVERHEAD, "as wal.h promises");
static_assert(SHM_UUID_SIZE == HASH_UUID_SIZE, "one uuid");

/* The ring. Byte p of the log is at p % size. */
struct wal_stage {
    uint8_t *ring;
    uint64_t size;
    struct io_file *file;       /* owned */
    struct io_mapping *mapping; /* owned; NULL: `ring` is private memory, owned, and each record is
                                   written to the file as well */
};

/* A segment that is not written any more. */
struct wal_old_segment {
    uint64_t number;
    uint64_t size;
    uint64_t end;    /* its bytes are all below this position */
    uint64_t filled; /* see struct wal */
    bool recyclable; /* nobody's write can still be on its way to it */
    bool is_spare;   /* it never was one: a spare that is not used again */
};

struct wal {
    /* set at open */
    struct segment_dir dir;
    struct shm_layout *layout;
    uint64_t segment_size;
    uint64_t resume, resume_chain; /* see log_segment_header, as the two below */
    uint8_t nonce[LOG_NONCE_SIZE], nonce_before[LOG_NONCE_SIZE];
    uint64_t seed; /* of this opening's records */
    char path_text[256];

    struct wal_stage stage; /* set at open; its bytes as wal.h says */

    /* guarded by the append lock */
    struct buffer scratch; /* the record being made */
    uint64_t tail;         /* behind the last record in the ring; commit.staged once published */
    uint64_t tail_chain;
    uint64_t renew_at; /* when the tail gets here the stretch one ahead is renewed */

    /* guarded by the sync lock */
    struct log_segment_header current; /* the segment being written */
    struct io_file *file;              /* owned; of it */
    bool finished;                     /* nothing more may be written to it: begin the next one */
    bool recyclable;                   /* it; see wal_old_segment */
    uint64_t fits;   /* all records below this position, where one ends, have room in it */
    uint64_t filled; /* of its file: all bytes below have been written since it was allocated */
    struct io_queue *queue;
    struct io_request request;
    bool in_flight;      /* request is */
    uint64_t flight_end; /* what `written` will be */
    uint8_t *buffer;     /* WAL_WRITE_SIZE bytes, aligned */
    struct wal_old_segment *old;
    size_t old_count, old_capacity;

    _Atomic uint64_t bytes_written;

    pthread_mutex_t spare_lock;
    struct segment_spare spares[WAL_SPARE_COUNT]; /* guarded by spare_lock, as the two below */
    size_t spare_count;
    bool preparing;
};

/* First position of the block of the current segment that holds `position`. */
static inline uint64_t wal_block_start(const struct wal *wal, uint64_t position)
{
    return position - (position - wal->current.start) % IO_ALIGNMENT;
}

/* Makes the database refuse writes from now on: a sync has failed with `error`. */
void wal_poison(struct wal *wal, const lsm_error *error);
/* LSM_POISONED when it was. */
lsm_status wal_check_poison(const struct wal *wal, lsm_error *err);

/* ---- spare.c --------------------------------------------------------------------------------- */

/*
 * Makes the next segment of the log and switches to it: `start`, and with LOG_SEGMENT_OPENED in
 * flags the tail that the opening found, are in it and durable before its name is. The old segment
 * is durable up to `start`. On failure nothing may be written to the old one any more either.
 *
 * tail  tail_size bytes from `start` on, in memory aligned and padded to IO_ALIGNMENT with zeros.
 */
struct wal_beginning {
    uint32_t flags;
    uint64_t start;
    uint64_t previous, previous_start;
    const uint8_t *tail;
    size_t tail_size;
};
lsm_status wal_begin_segment(struct wal *wal, const struct wal_beginning *beginning,
                             lsm_error *err);

/* Remembers a segment for wal_forget_locked(). */
lsm_status wal_add_old(struct wal *wal, const struct wal_old_segment *old, lsm_error *err);
/* Recycles or unlinks those below `position`, and makes that durable. */
lsm_status wal_remove_old(struct wal *wal, uint64_t position, lsm_error *err);
/* Takes over the spare files in `list` that a clean close left; the others go with the first old
 * segments. */
lsm_status wal_adopt_spares(struct wal *wal, const struct segment_list *list, lsm_error *err);

/* ---- stage.c --------------------------------------------------------------------------------- */

/* Reads [first, limit) of the log out of the stage file that is there. */
lsm_status wal_stage_read(const struct segment_dir *dir, uint64_t first, uint64_t limit,
                          uint8_t *bytes, lsm_error *err);
/* Opens the stage file, or makes one of `size` bytes when it is missing or has another size (what
 * was in it is in segments by now). */
lsm_status wal_stage_open(struct wal_stage *stage, const struct segment_dir *dir, uint64_t size,
                          bool refuse_mapping, uint64_t file_number, lsm_error *err);
void wal_stage_close(struct wal_stage *stage);

/* Copies to and from the ring. The second is for memory only: it does not write the file. */
void wal_stage_copy_out(const struct wal_stage *stage, uint64_t position, void *bytes, size_t size);
void wal_stage_copy_in(struct wal_stage *stage, uint64_t position, const void *bytes, size_t size);
/* Where there is no mapping: writes the blocks that hold [position, position + size). */
lsm_status wal_stage_write(struct wal_stage *stage, uint64_t position, size_t size, lsm_error *err);

#endif
