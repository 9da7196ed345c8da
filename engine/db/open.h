/*
 * Opening a database on a given I/O environment: what lsm_open() does after choosing one, and what
 * tests use to run the whole engine on a simulated disk.
 */
#ifndef ENGINE_DB_OPEN_H
#define ENGINE_DB_OPEN_H

#include "engine/io/io.h"

#include <stdatomic.h>

/* As lsm_open(), on `io`, which is borrowed and outlives the handle. options->io is ignored. */
lsm_status db_open_on(struct io *io, const char *path, const lsm_options *options, lsm_db **db,
                      lsm_error *err);

/* As lsm_destroy(), on `io`. */
lsm_status db_destroy_on(struct io *io, const char *path, lsm_error *err);

/*
 * What the death of the process leaves: stops the threads and frees the memory without writing,
 * flushing or syncing anything. Snapshots, pins and iterators must have been released.
 */
void db_abandon(lsm_db *db);

/* For tests that fork beside handles, under sanitizers that cannot bear threads there: handles
 * without workers that are opened from now on have no keeper. They clear up after the dead when
 * they wait. */
extern _Atomic bool db_keeper_off;

#endif
