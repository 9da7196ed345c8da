/*
 * Data blocks that are found in one step and read in another: for who has many reads in flight, and
 * lets all keys that want a block share one read of it.
 */
#ifndef ENGINE_SST_TABLE_FETCH_H
#define ENGINE_SST_TABLE_FETCH_H

#include "engine/sst/table.h"

/* Filter and index: which block holds the key, if the table does. False: it certainly does not.
 * Inside an epoch. */
bool table_fetch_locate(const struct table *table, lsm_slice key, uint64_t hash,
                        uint64_t max_sequence, uint32_t *index);

/* The block, if it is in memory, usable until epoch_exit(); else NULL. Inside an epoch. */
struct block *table_fetch_cached(struct table *table, uint32_t index);

/* The newest version with sequence <= max_sequence of a key that table_fetch_locate() said is in
 * this block; found->owned is not set. */
bool table_fetch_look(const struct table *table, struct block *block, lsm_slice key, uint64_t hash,
                      uint64_t max_sequence, struct table_found *found);

/* Bytes of memory, aligned to IO_ALIGNMENT, that reading the block takes. */
size_t table_fetch_size(const struct table *table, uint32_t index);

/* Makes the read of the block, to be pushed; its owner is the caller's to set. The table stays open
 * until it was reaped. */
void table_fetch_begin(struct table *table, uint32_t index, void *memory,
                       struct io_request *request);

/*
 * After it was reaped: verifies and decodes the block, and gives it to the cache, as the flags say.
 * Inside an epoch, until the end of which *block may be used; *owned tells that the cache did not
 * take it: the caller drops it. The memory is free again, also after a failure: LSM_CORRUPT,
 * LSM_IO, LSM_NO_MEMORY.
 */
lsm_status table_fetch_finish(struct table *table, uint32_t index, unsigned flags,
                              const struct io_request *request, struct block **block, bool *owned,
                              lsm_error *err);

#endif
