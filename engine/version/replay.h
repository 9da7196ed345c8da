/*
 * Replaying a manifest: edits go in, one after the other, and the state they make comes out as one
 * snapshot edit. Cheaper than a version per edit, and of use without a database directory.
 */
#ifndef ENGINE_VERSION_REPLAY_H
#define ENGINE_VERSION_REPLAY_H

#include "engine/format/edit.h"
#include "engine/format/frame.h"

struct replay {
    struct version_edit state; /* families in order of creation, tables in no order */

    /* Where each table is in state.added: open addressing by number, entries are index + 1. */
    uint32_t *slots;
    size_t slot_count; /* a power of two, or 0 */
    bool has_snapshot;
};

void replay_release(struct replay *r);

/* Moves what the edit holds into the state; the edit becomes empty on success. LSM_CORRUPT when it
 * does not fit what came before. */
lsm_status replay_apply(struct replay *r, struct version_edit *edit, lsm_error *err);

/* Puts the blob files of the state in order, and lets those go that no table refers to any more.
 * LSM_CORRUPT when a table refers to one that was never added; for who looks at the state itself.
 */
lsm_status replay_settle_blobs(struct replay *r, lsm_error *err);

/* Checks the whole and hands over the state as a snapshot edit; `r` becomes empty. */
lsm_status replay_finish(struct replay *r, struct version_edit *snapshot, lsm_error *err);

/*
 * Replays the bytes of a whole manifest file. *chain says where the last whole edit ended and
 * *is_torn whether unfinished bytes follow it.
 */
lsm_status replay_manifest(const struct frame_place *place, const char *file_name, lsm_slice bytes,
                           struct version_edit *snapshot, struct frame_chain *chain, bool *is_torn,
                           lsm_error *err);

#endif
