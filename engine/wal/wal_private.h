/*
 * Inside the log.
 *
 *   segment.c      segment files: which there are, their headers, how one is made
 *   log_stream.c   reading a stretch of the log
 *   replay.c       finding the end of the log, and telling a torn tail from rot
 *   stage.c        the ring: the stage file, mapped or written
 *   stage_owner.c  whose life the stage file belongs to
 *   append.c       records into the ring
 *   log_writer.c   the ring's bytes into segments
 *   handover.c     from one holder of the sync lock to the next, dead or alive
 *   spare.c        spares, and segments begun in them
 *   forget.c       old segments recycled and removed
 *   rest.c         space given back when nobody writes
 *   wal.c          open, attach and close
 */
#ifndef ENGINE_WAL_WAL_PRIVATE_H
#define ENGINE_WAL_WAL_PRIVATE_H

#include "engine/base/buffer.h"
#include "engine/format/stage_trailer.h"
#include "engine/wal/segment.h"
#include "engine/wal/wal.h"

#include <assert.h>

#define WAL_MIN_STAGE  ((uint64_t)16 << 10)
#define WAL_WRITE_SIZE ((size_t)1 << 20)   /* longest write: bytes of the private buffer */
#define WAL_FILL_SIZE  ((size_t)512 << 10) /* of a write that goes where nothing was written yet */
#define WAL_WRITE_DUE  ((uint64_t)256 << 10)
#define WAL_STRETCH    ((uint64_t)1 << 20) /* the ring is mapped ahead in these */
#define WAL_AHEAD_PART 4                   /* of the ring is mapped ahead of its tail */
#define WAL_POPULATE_FROM                                                                          \
    (WAL_AHEAD_PART * WAL_STRETCH) /* bytes of a ring: less is soon in use                         \
                                    */

#define WAL_RESERVE_PART  16 /* of a segment */
#define WAL_RESERVE_LEAST ((uint64_t)16 << 10)
#define WAL_RESERVE_MOST  ((uint64_t)4 << 20)

static_assert(LOG_RECORD_OVERHEAD <= WAL_RECORD_OVERHEAD, "as wal.h promises");
static_assert(SHM_UUID_SIZE == HASH_UUID_SIZE, "one uuid");
static_assert(SHM_UUID_SIZE == LOG_NONCE_SIZE, "the nonces are in shared memory");

/* The ring. Byte p of the log is at p % size. */
struct wal_stage {
    uint8_t *ring;
    uint64_t size;
    struct io_file *file;       /* owned */
    struct io_mapping *mapping; /* owned; NULL: `ring` is private memory, owned, in which records
                                   are put together; each is then written to the file */

    /* Without a mapping the private memory holds these positions; others may have written the
     * rest. Guarded by the append lock. */
    uint64_t held_first, held_limit;
};

/* A place in the chain of segments. A number never gets another one. */
struct wal_link {
    uint64_t number;
    uint64_t start;
    uint64_t previous;
};

/* The segment that is written, as far as its writer has to know it. */
struct wal_current {
    uint64_t number;
    uint64_t start; /* position of its first byte */
    uint64_t size;  /* of the file */
};

struct wal {
    /* set at open */
    struct segment_dir dir;
    struct shm_layout *layout;
    struct shm_log *log; /* of the layout */
    uint64_t handle;     /* this one's number among all; see shm_log.holder */
    uint64_t seed;       /* of the records of this life */
    char path_text[256];

    struct wal_stage stage; /* set at open; its bytes as wal.h says */

    /* guarded by the append lock */
    struct buffer scratch; /* the record being made */
    uint64_t staged_end;   /* behind the record that is staged and not published */
    uint64_t staged_chain; /* its checksum */

    /* the log writer's thread's own; see wal_populate_ahead() */
    uint64_t populate_from; /* 0: nothing was seen yet */
    uint64_t populated;     /* the ring is mapped for the log up to here */

    /* guarded by the sync lock; worth something while log->holder is this handle */
    struct wal_current current;
    struct io_file *file; /* owned; of `current` */
    uint64_t reached;     /* the file holds the log up to here; behind written: part of a record */
    uint64_t fits;        /* all records below this position, where one ends, have room in it */
    struct io_queue *queue;
    struct io_request request;
    bool in_flight;         /* request is */
    uint64_t flight_end;    /* what `reached` will be */
    uint64_t flight_record; /* what `written` will be: the end of a record */
    uint8_t *buffer;        /* WAL_WRITE_SIZE bytes, aligned */
    struct wal_link *links; /* of segments on the chain, in no order: what was read once */
    size_t link_count, link_capacity;

    _Atomic uint64_t bytes_written;
};

/* First position of the block of the current segment that holds `position`. */
static inline uint64_t wal_block_start(const struct wal *wal, uint64_t position)
{
    return position - (position - wal->current.start) % IO_ALIGNMENT;
}

/* A number of a file and how far it has been filled, in one word that is there or not. Higher
 * numbers do not fit: their files are made when they are needed and unlinked afterwards. */
#define WAL_PACK_NUMBER_BITS 40
static inline bool wal_can_pack(uint64_t number)
{
    return number >> WAL_PACK_NUMBER_BITS == 0;
}
static inline uint64_t wal_pack(uint64_t number, uint64_t filled)
{
    uint64_t blocks = filled / IO_ALIGNMENT, most = UINT64_MAX >> WAL_PACK_NUMBER_BITS;
    assert(wal_can_pack(number));
    return (blocks < most ? blocks : most) << WAL_PACK_NUMBER_BITS | number;
}
static inline uint64_t wal_packed_number(uint64_t word)
{
    return word & ((UINT64_C(1) << WAL_PACK_NUMBER_BITS) - 1);
}
static inline uint64_t wal_packed_filled(uint64_t word)
{
    return (word >> WAL_PACK_NUMBER_BITS) * IO_ALIGNMENT;
}

/* Makes the database refuse writes from now on: a sync has failed with `error`. */
void wal_poison(struct wal *wal, const lsm_error *error);
/* LSM_POISONED when it was. */
lsm_status wal_check_poison(const struct wal *wal, lsm_error *err);

/* Only the holder of the sync lock stores these. */
static inline uint64_t wal_written(const struct wal *wal)
{
    return atomic_load_explicit(&wal->layout->commit.written, memory_order_relaxed);
}
static inline uint64_t wal_durable(const struct wal *wal)
{
    return atomic_load_explicit(&wal->layout->commit.durable, memory_order_relaxed);
}

/* Files of the log get their room in steps of this: small against the segment, so that a short log
 * takes little, and large against a write. Every spare has one. */
static inline uint64_t wal_reserve_step(const struct wal *wal)
{
    uint64_t step = wal->log->segment_size / WAL_RESERVE_PART;
    step -= step % IO_ALIGNMENT;
    if (step < WAL_RESERVE_LEAST)
        return WAL_RESERVE_LEAST;
    return step < WAL_RESERVE_MOST ? step : WAL_RESERVE_MOST;
}
/* Whole steps for the first `size` bytes of a file. */
static inline uint64_t wal_reserve_limit(const struct wal *wal, uint64_t size)
{
    uint64_t step = wal_reserve_step(wal);
    return (size + step - 1) / step * step;
}

/* ---- log_writer.c ---------------------------------------------------------------------------- */

/* Seals the current segment at `written` and begins the next. `recycle`: it may become a spare. */
lsm_status wal_begin_next(struct wal *wal, bool recycle, lsm_error *err);

/* Syncs a file of the log; a failure poisons. */
lsm_status wal_sync_file(struct wal *wal, struct io_file *file, lsm_error *err);
/* The same for the names in the directory. */
lsm_status wal_sync_dir(struct wal *wal, lsm_error *err);
/* Moves durable and tells those who wait. */
void wal_set_durable(struct wal *wal, uint64_t position);

/* ---- handover.c ------------------------------------------------------------------------------ */

/*
 * To be called by whoever has taken the sync lock, before anything else: goes on where the last
 * holder stopped. Costs one comparison when that was this handle. Takes over when the last one left
 * a write under way, or when an earlier takeover did not get to its end.
 */
lsm_status wal_take_up(struct wal *wal, lsm_error *err);

/* ---- spare.c --------------------------------------------------------------------------------- */

/*
 * Makes the next segment of the log and switches to it: `start`, and with LOG_SEGMENT_OPENED in
 * flags the tail that the opening found, are in it and durable before its name is. The old segment
 * is durable up to `start`. On failure nothing may be written to the old one any more either.
 *
 * recycle  The segment before may be recycled once it is forgotten.
 * tail     tail_size bytes from `start` on, in memory aligned and padded to IO_ALIGNMENT with
 * zeros.
 */
struct wal_beginning {
    uint32_t flags;
    bool recycle;
    uint64_t start;
    uint64_t previous, previous_start;
    const uint8_t *tail;
    size_t tail_size;
};
lsm_status wal_begin_segment(struct wal *wal, const struct wal_beginning *beginning,
                             lsm_error *err);

/* Puts the spare of this number where wal_begin_segment() finds it. False: there are enough. */
bool wal_spare_put(struct wal *wal, uint64_t number, uint64_t filled);
bool wal_spare_is_known(const struct wal *wal, uint64_t number);
size_t wal_spare_count(const struct wal *wal);
/* Takes over the spare files in `list` that a clean close left; the others are swept away. */
lsm_status wal_adopt_spares(struct wal *wal, const struct segment_list *list, lsm_error *err);

/* ---- forget.c -------------------------------------------------------------------------------- */

/* Remembers a place of the chain, so that its header need not be read again. */
void wal_add_link(struct wal *wal, const struct wal_link *link);
/* Notes that segment `number` may be recycled when it is forgotten. */
void wal_note_clean(struct wal *wal, uint64_t number, uint64_t filled);
/* Removes files that a dead process left and nobody needs, if there may be some. */
lsm_status wal_sweep(struct wal *wal, lsm_error *err);
/* Unlinks every segment, but for one that is small enough to be a spare: the log is empty. */
lsm_status wal_remove_all(struct wal *wal, lsm_error *err);

/* ---- rest.c ---------------------------------------------------------------------------------- */

/* Unlinks the spares that hold more than the first step; *any is set when there was one. The names
 * are not synced: a spare that comes back belongs to nobody. */
lsm_status wal_drop_large_spares(struct wal *wal, bool *any, lsm_error *err);

/* ---- stage.c --------------------------------------------------------------------------------- */

/* Reads [first, limit) of the log out of the stage file that is there. is_marked: it has a trailer,
 * says the newest segment. */
lsm_status wal_stage_read(const struct segment_dir *dir, bool is_marked, uint64_t first,
                          uint64_t limit, uint8_t *bytes, lsm_error *err);
/* Makes a stage file and puts it in the place of the one that is there, if any. file_number: no
 * other temporary file has it. */
lsm_status wal_stage_make(const struct segment_dir *dir, const struct stage_trailer *trailer,
                          uint64_t file_number, lsm_error *err);
/* Opens the stage file of the life that begins, or makes one when there is none, or one of another
 * size or life (what was in it is in segments by now). */
lsm_status wal_stage_open(struct wal_stage *stage, const struct segment_dir *dir,
                          const struct stage_trailer *trailer, bool refuse_mapping,
                          uint64_t file_number, lsm_error *err);
/* Opens the one that is in use. LSM_CORRUPT when it is not there with this size and nonce. */
lsm_status wal_stage_join(struct wal_stage *stage, const struct segment_dir *dir,
                          const struct stage_trailer *trailer, bool refuse_mapping, lsm_error *err);
void wal_stage_close(struct wal_stage *stage);

/* Copies out of the ring, whoever wrote it, or the file where there is no mapping. */
lsm_status wal_stage_copy_out(const struct wal_stage *stage, uint64_t position, void *bytes,
                              size_t size, lsm_error *err);
/* Copies into memory only: it does not write the file. */
void wal_stage_copy_in(struct wal_stage *stage, uint64_t position, const void *bytes, size_t size);

/*
 * Where there is no mapping: the private memory gets what others have written to the blocks that
 * hold [staged, staged + size), so that wal_stage_write() does not undo it; `needed` is the first
 * position that the ring still has to hold.
 */
lsm_status wal_stage_refresh(struct wal_stage *stage, uint64_t needed, uint64_t staged, size_t size,
                             lsm_error *err);
/* Where there is no mapping: writes the blocks that hold [position, position + size). */
lsm_status wal_stage_write(struct wal_stage *stage, uint64_t position, size_t size, lsm_error *err);

/* ---- stage_owner.c --------------------------------------------------------------------------- */

/* What a stage file is by its size and its last block. */
struct wal_stage_look {
    uint64_t file_size;
    uint64_t ring_size;
    enum stage_trailer_fault fault;
    struct stage_trailer trailer; /* when the fault is OK */
};
/* is_marked: the newest segment says that there is a trailer; else the ring may be the whole file,
 * as older libraries make it. */
lsm_status wal_stage_look(const struct segment_dir *dir, struct io_file *file, bool is_marked,
                          struct wal_stage_look *look, lsm_error *err);
/* LSM_CORRUPT when it is not the file that the life of the newest segment wrote. */
lsm_status wal_stage_check(const struct segment_dir *dir, const struct wal_stage_look *look,
                           const struct log_segment_header *newest, lsm_error *err);
/* Is it of the life that `trailer` names, and of its size? */
bool wal_stage_is_of(const struct wal_stage_look *look, const struct stage_trailer *trailer);
/* Writes the trailer; does not sync. */
lsm_status wal_stage_mark(struct io_file *file, const struct stage_trailer *trailer,
                          lsm_error *err);

/*
 * Before the first segment of a life is begun: has the stage file name that life beside the one
 * before, durably, so that from then on any other file can be told from it. Makes one when there is
 * none, or none that `is_needed`. *is_marked: false when it is an older library's, which stays as
 * it is until the segment has what is in it.
 */
lsm_status wal_stage_claim(const struct segment_dir *dir, const struct stage_trailer *trailer,
                           bool is_needed, uint64_t file_number, bool *is_marked, lsm_error *err);

#endif
