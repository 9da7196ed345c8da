/* Verifying for who works on a database already. */
#ifndef ENGINE_VERIFY_VERIFY_H
#define ENGINE_VERIFY_VERIFY_H

#include "engine/io/io.h"
#include "engine/lsm.h"

/*
 * lsm_verify() of a directory that the caller has open, while nobody else can open the database:
 * the caller holds its locks, or what `io` shows is the caller's alone. options->io and offline
 * mean nothing. `path` is for messages.
 */
lsm_status verify_held(struct io *io, struct io_dir *dir, const char *path,
                       const lsm_verify_options *options, lsm_verify_result *result,
                       lsm_error *err);

#endif
