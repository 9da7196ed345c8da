/*
 * Reading a manifest as one that may be damaged anywhere: frame by frame, each judged by itself,
 * going on behind damage with the next frame whose checksum fits its place. Edits are decoded, not
 * replayed: whether they fit each other is for the reader to say (engine/version/replay.h).
 *
 * The file goes by in pieces: of it there is never more in memory than the frame that is looked at
 * and what was read ahead. What the device refuses to give counts as damage.
 */
#ifndef ENGINE_INSPECT_WALK_MANIFEST_H
#define ENGINE_INSPECT_WALK_MANIFEST_H

#include "engine/base/buffer.h"
#include "engine/format/edit.h"
#include "engine/format/frame.h"
#include "engine/inspect/finding.h"
#include "engine/inspect/walk_stream.h"

#define WALK_MANIFEST_MAX ((uint64_t)512 << 20) /* a larger file is no manifest */
#define WALK_WHOLE        UINT64_MAX

struct walk_manifest {
    char name[64];
    struct frame_place place;
    struct io_file *file;       /* owned */
    struct walk_stream *stream; /* owned */
    uint64_t size;              /* of the file, or of what is walked of it */
    uint64_t frame_limit; /* bytes of the largest frame that is read; the caller may lower it */
    uint64_t search_left; /* bytes that may still be hashed in vain behind damages */
    enum finding_id header_fault; /* of the file's header; FINDING_COUNT: none */
    lsm_error header_problem;     /* a sentence, with a fault */

    /* where the walk is */
    struct frame_chain chain; /* what the next frame has to be, as far as it is known */
    bool has_chain;           /* chain.number and chain.previous are known */
    bool is_first;            /* no frame was whole yet */
    uint32_t more;            /* frames that have to follow to make one change with the last */
};

struct walk_edit {
    uint64_t offset;
    uint64_t length;                    /* 0: the end was reached */
    enum finding_id fault;              /* FINDING_COUNT: none. One of pass 1: 1-frame-checksum,
                                           1-edit-malformed, 0-newer-format, or the note 1-torn-tail */
    char text[240];                     /* a sentence, with a fault or a broken link */
    bool has_frame;                     /* the checksum fits: `frame` holds */
    struct frame frame;                 /* borrowed from the walk */
    bool number_differs, chain_differs; /* it does not follow the frame before */
    uint64_t expected, found;           /* numbers, with number_differs */
    bool is_too_large;        /* over frame_limit: not looked at; what it says is not known */
    bool lacks_part;          /* the frame before was part of a change that is not continued here */
    bool has_edit;            /* `edit` is decoded; the frame is of a kind that has one */
    struct version_edit edit; /* owned by the caller: edit_release() */
};

/*
 * Opens MANIFEST-<number>, of which the first `limit` bytes will be walked (WALK_WHOLE: all). A
 * header that is wrong is told in the struct; frames are read all the same. LSM_MISSING;
 * LSM_CORRUPT when it is no file, or too large; LSM_IO, LSM_NO_MEMORY, LSM_CANCELLED. `env` is
 * borrowed until the close.
 */
lsm_status walk_manifest_open(const struct walk_env *env, uint64_t number, uint64_t limit,
                              struct walk_manifest *walk, lsm_error *err);
void walk_manifest_close(struct walk_manifest *walk); /* becomes empty */

/* All its bytes at once, for who has to change them; appended to `bytes`. LSM_IO, LSM_CANCELLED,
 * LSM_NO_MEMORY. */
lsm_status walk_manifest_read_all(const struct walk_env *env, const struct walk_manifest *walk,
                                  struct buffer *bytes, lsm_error *err);

/* The next frame, or extent of damage; edit->frame is valid until the next call. LSM_NO_MEMORY,
 * LSM_CANCELLED, LSM_IO. */
lsm_status walk_manifest_next(struct walk_manifest *walk, struct walk_edit *edit, lsm_error *err);

#endif
