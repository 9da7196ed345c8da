/* What the commit path needs to know of a batch. */
#ifndef ENGINE_DB_BATCH_PRIVATE_H
#define ENGINE_DB_BATCH_PRIVATE_H

#include "engine/format/batch.h"

lsm_slice batch_bytes(const lsm_batch *batch); /* as in the log */
/* Sizes within the limits, pointers set where there are bytes. */
lsm_status batch_check_entry(lsm_slice key, lsm_slice value, lsm_error *err);
/* Every family of the batch belongs to `db` and is not dropped. */
lsm_status batch_check_families(lsm_db *db, const lsm_batch *batch, lsm_error *err);

#endif
