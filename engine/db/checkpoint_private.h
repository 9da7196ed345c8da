/* The directory that a checkpoint is built in, see checkpoint_place.c. */
#ifndef ENGINE_DB_CHECKPOINT_PRIVATE_H
#define ENGINE_DB_CHECKPOINT_PRIVATE_H

#include "engine/io/io.h"

struct checkpoint_place {
    struct io *io;
    char *path;         /* where it will be; owned, as all below */
    char *partial_path; /* where it is built */
    struct io_dir *dir; /* the latter */
    struct io_lock *lock; /* NULL: not ours, or finished */
    bool is_named;        /* it is at `path` now */
};

/*
 * Makes an empty directory beside `path` that nobody else builds a checkpoint in; what an earlier
 * one left there is removed. `mode` is the directory's. LSM_EXISTS: there is something at `path`,
 * or in the directory what no unfinished checkpoint holds; then nothing was removed. LSM_BUSY:
 * somebody else builds one there, or has it open. The place is closed in any case.
 */
lsm_status checkpoint_place_open(struct checkpoint_place *place, struct io *io, const char *path,
                                 uint32_t mode, lsm_error *err);
/* Everything in it is durable: gives it its name. */
lsm_status checkpoint_place_finish(struct checkpoint_place *place, lsm_error *err);
/* Removes what was not finished. */
void checkpoint_place_close(struct checkpoint_place *place);

#endif
