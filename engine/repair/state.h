/*
 * The state that lsm_repair() would give a damaged database, for whoever only wants to read it:
 * what the manifest in force makes, if need be with a wrong byte put right in memory; else what the
 * tables say of themselves and each other, and every whole edit of every manifest.
 */
#ifndef ENGINE_REPAIR_STATE_H
#define ENGINE_REPAIR_STATE_H

#include "engine/format/edit.h"
#include "engine/inspect/walk_table.h"

struct repair_state_view {
    uint8_t uuid[HASH_UUID_SIZE];
    struct version_edit snapshot; /* owned: edit_release() */
    struct version_edit gone;     /* owned; dropped: families that must not come back */
    bool log_is_known;            /* snapshot.log_position is true; else the log is read whole */
};

/* Keys of which rebuilding could not tell what became of them; all is borrowed. */
struct repair_state_doubt {
    const char *file;  /* empty: none alone */
    bool all_families; /* or only: */
    uint32_t cf;
    bool first_open, last_open; /* no bound */
    lsm_slice first, last;
};

/*
 * Only reads, and takes no lock: others should not have the database open. `doubt` is called before
 * it returns. LSM_MISSING when there is no database, LSM_CORRUPT when no file says whose it is;
 * LSM_IO, LSM_NO_MEMORY, LSM_NEWER_FORMAT.
 */
lsm_status repair_read_state(struct io *io, struct io_dir *dir, const char *path,
                             struct repair_state_view *view,
                             void (*doubt)(void *context, const struct repair_state_doubt *doubt),
                             void *context, lsm_error *err);

#endif
