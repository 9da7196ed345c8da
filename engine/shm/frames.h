/*
 * Frames: decoded blocks of tables that all processes of a population share, at the end of their
 * segment. N processes that read the same blocks hold one copy of them.
 *
 *   head | slabs[] | buckets[] | references[slots][frames] | frames[] | data slabs
 *
 * A frame is a descriptor of 32 bytes beside its data. It carries its identity, file number and
 * block of it: whoever has an old pointer to a frame compares, and is never given another block's
 * bytes. File numbers are never used twice, and a block never changes.
 *
 * Finding takes no lock. A frame found inside an epoch (engine/base/epoch.h) may be read until the
 * epoch ends; to read it longer take a reference. References are counted for each process apart, so
 * that what a dead one held goes with its slot.
 *
 * Memory of a frame that was taken out (its identity is cleared then) is used again when every
 * attached process has told that none of its threads is in an epoch that began before, and none
 * holds a reference: each says so with shm_frames_tell(), at its own misses, and asked by an event.
 *
 * Nobody ever waits: who finds a lock taken goes on without putting its block in, so a process that
 * is stopped, or one of those that hold back memory, costs others room at most. A lock whose owner
 * died is repaired by counting anew what the frames say of themselves; an identity is stored only
 * when the data is whole.
 */
#ifndef ENGINE_SHM_FRAMES_H
#define ENGINE_SHM_FRAMES_H

#include "engine/shm/segment.h"

#include <assert.h>

#define FRAMES_MAX_BLOCK ((size_t)256 << 10) /* bytes; larger ones have no place here */
#define FRAMES_MIN_SIZE  ((uint64_t)4 << 20) /* bytes of all frames; smaller asks get none */
#define FRAMES_UNIT      32                  /* of a frame's `place` */

enum shm_frame_kind {
    SHM_FRAME_OWN = 0,    /* of one process, elsewhere: engine/sst/cache.h */
    SHM_FRAME_SHARED = 1, /* in the segment */
};

struct shm_frame {
    _Atomic uint64_t number; /* of the file; 0: nothing. Stored last, release */
    uint64_t stamp;          /* epoch at which it was taken out (shard) */
    _Atomic uint32_t index;  /* of the block in the file */
    uint32_t place;          /* of the data: FRAMES_UNIT bytes behind this, so many times */
    _Atomic uint32_t next;   /* of its bucket, or list; number + 1, 0: the last (shard) */
    _Atomic bool touched;    /* since the hand passed */
    uint8_t kind;            /* enum shm_frame_kind; never changes */
};

static_assert(sizeof(struct shm_frame) == FRAMES_UNIT, "frames stand side by side");

/* Whether it holds this block now; inside an epoch it then does so until the end of that. */
static inline bool shm_frame_is(const struct shm_frame *frame, uint64_t number, uint32_t index)
{
    /* Acquire: pairs with the release that stored the identity after the data. */
    return atomic_load_explicit(&frame->number, memory_order_acquire) == number &&
           atomic_load_explicit(&frame->index, memory_order_relaxed) == index;
}

static inline const uint8_t *shm_frame_data(const struct shm_frame *frame)
{
    return (const uint8_t *)frame + (size_t)frame->place * FRAMES_UNIT;
}

static inline void shm_frame_touch(struct shm_frame *frame)
{
    if (!atomic_load_explicit(&frame->touched, memory_order_relaxed))
        atomic_store_explicit(&frame->touched, true, memory_order_relaxed);
}

struct shm_frames; /* a process's handle */

/* Bytes of the segment that frames with `capacity` bytes of data take; 0 when that is too few. */
uint64_t shm_frames_region(uint64_t capacity);
/* Differs between builds that lay them out in different ways. */
uint64_t shm_frames_layout_hash(void);
/* Lays out the frames of a new segment; whoever makes it does. LSM_NO_SPACE. */
lsm_status shm_frames_make(struct shm_segment *segment, lsm_error *err);

/*
 * For the owner of slot `slot`, before its threads read. *frames is NULL when the segment has none.
 * LSM_NO_MEMORY; LSM_NO_SPACE when there is no shared memory for the references.
 */
lsm_status shm_frames_open(struct shm_segment *segment, uint32_t slot, struct shm_frames **frames,
                           lsm_error *err);
/* All references are dropped, nobody is in an epoch, the segment is still mapped. NULL is allowed.
 */
void shm_frames_close(struct shm_frames *frames);
/* Gives back what the dead owner of slot `slot` held. May be repeated. */
void shm_frames_reap(struct shm_segment *segment, uint32_t slot);

/* Whether it is a frame of this segment: only the address is looked at. */
bool shm_frames_have(const struct shm_frames *frames, const void *frame);

/* The frame of a block, or NULL: it is not there, or was not found because somebody changes the
 * bucket. Inside an epoch, unless it is only asked whether. */
struct shm_frame *shm_frames_find(struct shm_frames *frames, uint64_t number, uint32_t index);
/* The same, not counted. */
struct shm_frame *shm_frames_peek(const struct shm_frames *frames, uint64_t number, uint32_t index);

/*
 * Copies a block in. Inside an epoch. Returns its frame, or that of another who was faster; NULL
 * when there is no room now or somebody else is at it. Never waits.
 */
struct shm_frame *shm_frames_insert(struct shm_frames *frames, uint64_t number, uint32_t index,
                                    const void *data, size_t size);

/* Keeps a frame of any open handle of this process beyond the epoch; inside it, or by who has a
 * reference. Drop gives it back. */
void shm_frame_keep(struct shm_frame *frame);
void shm_frame_drop(struct shm_frame *frame);

/* Tells the others that this process looks at nothing that was taken out by now, when that is so or
 * as soon as it is. False: not yet; call again. */
bool shm_frames_tell(struct shm_frames *frames);

struct shm_frames_counts {
    uint64_t capacity;    /* bytes of data, all processes together, like the next two */
    uint64_t bytes;       /* that can be found */
    uint64_t backed;      /* bytes of memory taken, that of descriptors as well */
    uint64_t found;       /* blocks that this process got by shm_frames_find() */
    uint64_t inserted;    /* and those it put in, */
    uint64_t turned_away; /* or could not */
};
void shm_frames_count(struct shm_frames *frames, struct shm_frames_counts *counts);

#endif
