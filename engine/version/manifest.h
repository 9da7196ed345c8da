/*
 * The manifest as a file: made with a snapshot at its head, appended to edit by edit, read whole.
 * Only synchronous calls, so that no write of a dead process can arrive late.
 */
#ifndef ENGINE_VERSION_MANIFEST_H
#define ENGINE_VERSION_MANIFEST_H

#include "engine/format/frame.h"
#include "engine/version/version.h"

#define MANIFEST_ROLL_SIZE ((uint64_t)4 << 20)   /* from here on a new manifest is begun, */
#define MANIFEST_ROLL_GROW 2                     /* or at so many times its snapshot's size */
#define MANIFEST_MAX_SIZE  ((uint64_t)512 << 20) /* a larger file is no manifest */

struct manifest {
    const struct table_env *env;
    struct io_file *file; /* owned; NULL: none */
    struct frame_place place;
    struct frame_chain chain; /* where the next edit goes */
    uint64_t roll_size;       /* twice the snapshot at its head */
};

/*
 * Writes MANIFEST-<number> with a snapshot of `version` and `state`; durable on return, but not in
 * force. Its first frame is called `frame_number`. A failure leaves no file where it can.
 */
lsm_status manifest_create(const struct table_env *env, uint64_t number, uint64_t frame_number,
                           const struct version *version, const struct version_state *state,
                           struct manifest *manifest, lsm_error *err);
void manifest_close(struct manifest *m); /* becomes empty */

/* Makes CURRENT name the manifest. *is_uncertain: it failed so late that either may be named. */
lsm_status manifest_put_in_force(const struct table_env *env, uint64_t number, bool *is_uncertain,
                                 lsm_error *err);

/*
 * Appends the edit and syncs it. *is_broken: the file's end is unknown, so nothing may follow in
 * it. When it is not set, a failure left nothing behind.
 */
lsm_status manifest_append(struct manifest *m, const struct version_edit *edit, bool *is_broken,
                           lsm_error *err);

/*
 * Replays the first `limit` bytes of MANIFEST-<number> into a snapshot edit, owned by the caller.
 * The manifest's chain is behind the last whole edit; it keeps the file open, for writing when
 * `is_writable`.
 */
#define MANIFEST_WHOLE UINT64_MAX
#define MANIFEST_HEAD  UINT64_C(0) /* the snapshot that the file begins with, no more */
lsm_status manifest_open(const struct table_env *env, uint64_t number, uint64_t limit,
                         bool is_writable, struct manifest *manifest, struct version_edit *snapshot,
                         lsm_error *err);

/* The file's bytes from the chain's place up to `limit`, appended to `bytes`. LSM_CORRUPT when it
 * is shorter (MANIFEST_WHOLE: than the chain's place). */
lsm_status manifest_read_tail(struct manifest *m, uint64_t limit, struct buffer *bytes,
                              lsm_error *err);

#endif
