/*
 * The manifest's bytes: a file header, then frames, each at a multiple of 8.
 *
 *   header  magic 8 | format u32 | incompatible u32 | uuid 16 | file number u64 | zeros 16 |
 *           checksum u64 of the 56 bytes before
 *   frame   checksum u64 | magic u32 | size u32 | number u64 | previous u64 | kind u32 | more u32 |
 *           payload (size bytes) | zeros to a multiple of 8
 *
 * A frame's checksum covers everything behind it up to the next frame and is seeded with uuid, file
 * number and offset; `previous` is the checksum of the frame before (of the file header for the
 * first), so a frame that is valid by itself is found after damage, and a missing, stale or doubled
 * one breaks the chain. Numbers grow by one from frame to frame and go on in the next file. `more`
 * counts the frames behind this one that make one change together with it.
 *
 * Reading is over the whole file in memory. What stands behind the last whole frame is either torn
 * (a write that was never acknowledged: a cut says nothing) or damage; frame_next() tells which.
 */
#ifndef ENGINE_FORMAT_FRAME_H
#define ENGINE_FORMAT_FRAME_H

#include "engine/base/buffer.h"
#include "engine/base/hash.h"
#include "engine/base/status.h"

#define FRAME_FILE_HEADER_SIZE ((size_t)64)
#define FRAME_HEADER_SIZE      ((size_t)40)
#define FRAME_MAX_PAYLOAD      ((size_t)64 << 20)
#define FRAME_FORMAT           UINT32_C(1)

enum frame_kind {
    FRAME_EDIT = 1, /* stored: never renumber. Kinds from FRAME_OPTIONAL on may be skipped */
    FRAME_OPTIONAL = UINT32_C(1) << 16,
};

/* Whose bytes they are; seeds every checksum. */
struct frame_place {
    uint8_t uuid[HASH_UUID_SIZE];
    uint64_t file_number;
};

/* Where the next frame goes. */
struct frame_chain {
    uint64_t offset;   /* in the file */
    uint64_t number;   /* of the frame */
    uint64_t previous; /* checksum */
};

/* Appends the file header to empty `bytes`; the chain begins with a frame called `number`. */
struct frame_chain frame_begin_file(const struct frame_place *place, uint64_t number,
                                    struct buffer *bytes);

/* Appends a frame for chain->offset and moves the chain on. bytes->failed on too little memory. */
void frame_append(const struct frame_place *place, enum frame_kind kind, uint32_t more,
                  lsm_slice payload, struct frame_chain *chain, struct buffer *bytes);

struct frame {
    uint64_t offset;
    uint64_t number;
    uint64_t checksum;
    uint64_t previous;
    uint32_t kind;
    uint32_t more;
    lsm_slice payload; /* borrowed from the bytes */
    size_t size;       /* of the whole, padding included */
};

struct frame_reader {
    struct frame_place place;
    const char *file_name; /* for messages */
    lsm_slice bytes;       /* the whole file, borrowed; or its end, */
    uint64_t base;         /* from here on */
    struct frame_chain chain;
    bool is_first;
};

/* Checks the file header: LSM_CORRUPT, LSM_NEWER_FORMAT. `bytes` and `file_name` are borrowed as
 * long as the reader is used. */
lsm_status frame_reader_open(struct frame_reader *r, const struct frame_place *place,
                             const char *file_name, lsm_slice bytes, lsm_error *err);

enum frame_result {
    FRAME_READ, /* *frame is set */
    FRAME_END,  /* nothing is left */
    FRAME_TORN, /* the bytes from chain.offset on are an unfinished write */
};

/*
 * The next frame. LSM_CORRUPT when bytes that were acknowledged are damaged: the first frame is not
 * whole, a valid frame follows the damage, the chain is broken, or one byte put right makes the
 * last frame whole again (no torn write looks like that).
 */
lsm_status frame_next(struct frame_reader *r, enum frame_result *result, struct frame *frame,
                      lsm_error *err);

/*
 * The frame that goes on at `chain`, for readers that know everything before it: `bytes` are the
 * file's from chain->offset on. False when it does not stand there whole, or does not follow the
 * frame before; otherwise the chain moves on.
 */
bool frame_follow(const struct frame_place *place, lsm_slice bytes, struct frame_chain *chain,
                  struct frame *frame);

/* For salvage: the frame that stands whole at `offset`, whatever the chain says; of a whole file,
 * or of its bytes from `offset` on. */
bool frame_at(const struct frame_place *place, lsm_slice bytes, uint64_t offset,
              struct frame *frame);
bool frame_at_front(const struct frame_place *place, lsm_slice bytes, uint64_t offset,
                    struct frame *frame);

#endif
