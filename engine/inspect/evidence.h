/*
 * What engine/version/lost_edits.h wants to know of a directory whose tables may be damaged.
 */
#ifndef ENGINE_INSPECT_EVIDENCE_H
#define ENGINE_INSPECT_EVIDENCE_H

#include "engine/base/buffer.h"
#include "engine/inspect/walk_dir.h"
#include "engine/inspect/walk_stream.h"
#include "engine/version/lost_edits.h"

/*
 * The evidence out of a listing, and a mark that was read before the manifest is. `numbers` is
 * where its tables are put, owned by the caller like `env`, which stays; a table whose properties
 * cannot be read proves nothing. LSM_NO_MEMORY; asking fails with LSM_IO, LSM_NO_MEMORY,
 * LSM_CANCELLED.
 */
lsm_status evidence_gather(const struct walk_env *env, const struct walk_dir *list,
                           const struct edit_mark *mark, struct buffer *numbers,
                           struct lost_edits_evidence *evidence, lsm_error *err);

#endif
