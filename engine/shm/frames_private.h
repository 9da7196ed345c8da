/* How frames lie in the segment, and what the files that handle them share. */
#ifndef ENGINE_SHM_FRAMES_PRIVATE_H
#define ENGINE_SHM_FRAMES_PRIVATE_H

#include "engine/base/epoch.h"
#include "engine/shm/frames.h"

#define FRAMES_SLAB        FRAMES_MAX_BLOCK
#define FRAMES_SLAB_FRAMES 128 /* descriptors of a slab: so many pieces it is cut into at most */
#define FRAMES_CLASSES     46  /* ways to cut a slab: frames_slab.c */
#define FRAMES_MAX_SHARDS  8
#define FRAMES_SHARD_SLABS 32 /* fewer, and there are fewer shards */
#define FRAMES_MAX_SIZE    ((uint64_t)64 << 30)
#define FRAMES_RESERVE     32  /* one part in so many is kept free or about to be */
#define FRAMES_BATCH       128 /* frames that are taken out, or used again, at one insertion */
#define FRAMES_MAX_CHAIN   64  /* of a bucket, that is looked at without the lock */

/* A piece of memory that is cut into frames of one size. All of it is its shard's. */
struct frames_slab {
    uint32_t pieces; /* 0: not cut. Stored last */
    uint32_t piece_size;
    uint32_t class;
    uint32_t used;           /* pieces with a block, or in limbo */
    uint32_t free;           /* first free piece, a frame's number + 1 */
    uint32_t next, previous; /* slab + 1: of those with free pieces, or of those not cut (next) */
};

struct frames_list {
    uint32_t first, last; /* frame + 1; 0: empty */
};

/*
 * Each has slabs and buckets of its own. Frames in limbo are taken out and may still be looked at;
 * they stand in the order in which they came. Those that were found to have references stand apart:
 * they may have them for long.
 */
struct frames_shard {
    struct shm_lock lock;
    uint32_t slab_count; /* set at make; slab i of all is shard i modulo their count's */
    uint32_t grown;      /* slabs that have memory, the first ones */
    uint32_t hand;       /* slab of its own times FRAMES_SLAB_FRAMES, and piece */
    struct frames_list limbo, held;
    uint32_t uncut;                      /* slab + 1: grown and not cut */
    uint32_t emptying;                   /* slab + 1: it is to become uncut, nothing is put in */
    uint32_t patience;                   /* failures until another one is chosen */
    uint32_t modesty;                    /* and until memory is asked for again */
    uint32_t asked;                      /* insertions since all were called to tell */
    uint32_t partial[FRAMES_CLASSES];    /* slab + 1: with free pieces, not being emptied */
    uint64_t limbo_bytes, uncut_bytes;   /* limbo without held */
    uint64_t free_bytes[FRAMES_CLASSES]; /* of the slabs in partial */
    uint32_t starved[FRAMES_CLASSES];    /* insertions without room, one after the other */
    _Atomic uint64_t live_bytes;         /* what can be found; read by anybody, as the next */
    _Atomic uint64_t backed_bytes;
};

struct frames_process {
    _Alignas(64) _Atomic uint64_t seen; /* it looks at nothing taken out before this epoch */
};

struct frames_head {
    _Alignas(64) _Atomic uint64_t epoch;    /* grows with every batch that is taken out */
    _Alignas(64) _Atomic uint64_t attached; /* slots that use frames, a bit each */
    _Atomic uint64_t asked;                 /* epoch of the last call to all to tell */
    struct frames_process processes[SHM_MAX_SLOTS];
    struct frames_shard shards[FRAMES_MAX_SHARDS];
};

/* Sizes and places, from the start of the region; the same for everybody, from the capacity. */
struct frames_plan {
    uint32_t slab_count, shard_count;
    uint32_t bucket_count; /* a power of two */
    uint64_t slabs, buckets, references, reference_stride, frames, data, end;
};

struct shm_frames {
    struct epoch_retired retired; /* first: see told() */
    struct shm_segment *segment;
    uint32_t slot;
    struct frames_plan plan;
    uint64_t region; /* of the segment: where it begins */
    struct frames_head *head;
    struct frames_slab *slabs;
    _Atomic uint32_t *buckets;
    _Atomic uint32_t *references; /* this process's, one for each frame */
    struct shm_frame *frames;
    uint8_t *data;
    uint64_t frames_bytes;
    _Atomic bool telling; /* retired is in use */
    uint64_t told;        /* the epoch that it tells */
    uint32_t handle;      /* among those of the process */
    _Atomic uint64_t found, inserted, turned_away;
};

void frames_plan_make(uint64_t capacity, struct frames_plan *plan);
/* A handle over the mapped region, without a slot. */
void frames_bind(struct shm_frames *f, struct shm_segment *segment);

static inline uint64_t frames_hash(uint64_t number, uint32_t index)
{
    uint64_t h = (number ^ (uint64_t)index << 40) * UINT64_C(0x9e3779b97f4a7c15);
    h = (h ^ h >> 32) + index;
    h *= UINT64_C(0xd6e8feb86659fd93);
    return h ^ h >> 32;
}

static inline struct frames_shard *frames_shard_of(const struct shm_frames *f, uint64_t hash)
{
    return &f->head->shards[hash & (f->plan.shard_count - 1)];
}

/* One of the shard's own: number of a bucket and of its shard agree modulo the count of shards. */
static inline _Atomic uint32_t *frames_bucket_of(const struct shm_frames *f, uint64_t hash)
{
    return &f->buckets[hash & (f->plan.bucket_count - 1)];
}

static inline uint32_t frames_number_of(const struct shm_frames *f, const struct shm_frame *frame)
{
    return (uint32_t)(frame - f->frames);
}

/* ---- slabs and pieces; the shard's lock is held ---------------------------------------------- */

/* The way to cut a slab for blocks of `size` bytes. */
uint32_t frames_class_of(size_t size);
/* A piece of this class without a block, counted as used; NULL: there is none free. */
struct shm_frame *frames_take(struct shm_frames *f, struct frames_shard *shard, uint32_t class);
/* A piece that is in no list any more is free. */
void frames_give_back(struct shm_frames *f, struct frames_shard *shard, struct shm_frame *frame);
/* The shard is empty and has `grown` slabs; those that are cut stay so, all their pieces used. */
void frames_slabs_recount(struct shm_frames *f, struct frames_shard *shard);
/* The slab under the hand is to become uncut: nothing more is put in. False: one is already, or
 * there is none. */
bool frames_empty_slab(struct shm_frames *f, struct frames_shard *shard, uint32_t *slab);

static inline uint32_t frames_slab_number(const struct shm_frames *f,
                                          const struct frames_shard *shard, uint32_t own_index)
{
    return own_index * f->plan.shard_count + (uint32_t)(shard - f->head->shards);
}

static inline uint32_t frames_piece_size(const struct shm_frames *f, const struct shm_frame *frame)
{
    return f->slabs[frames_number_of(f, frame) / FRAMES_SLAB_FRAMES].piece_size;
}

/* Takes the shard's lock if it is free, and repairs what a dead owner left. False: it is taken. */
bool frames_enter(struct shm_frames *f, struct frames_shard *shard);

/* ---- buckets; the lock is not held, or `longest` is as long as can be -------------------------
 */

struct shm_frame *frames_look(const struct shm_frames *f, uint64_t number, uint32_t index,
                              uint32_t longest);

#endif
