/* What a tool wants of snapshots and the public door does not offer: one at a given number. */
#ifndef ENGINE_DB_SNAPSHOT_H
#define ENGINE_DB_SNAPSHOT_H

#include "engine/lsm.h"

/*
 * Holds the state at `sequence`, which must be the newest one or one that a snapshot of any process
 * holds: of no other can it be told whether compactions have dropped a part. LSM_MISSING when it is
 * neither; LSM_TOO_LARGE and *snapshot as with lsm_snapshot_acquire().
 */
lsm_status db_snapshot_hold(lsm_db *db, uint64_t sequence, lsm_snapshot **snapshot, lsm_error *err);

#endif
