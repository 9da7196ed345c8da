/* What the manifest keeps of a table. */
#ifndef ENGINE_FORMAT_TABLE_META_H
#define ENGINE_FORMAT_TABLE_META_H

#include "engine/format/blob.h"

struct table_meta {
    uint64_t number; /* of the file */
    uint64_t size;   /* bytes of the file */
    uint32_t cf;
    uint32_t level;
    lsm_slice smallest, largest; /* user keys; owned when made by the engine, see release */
    uint64_t min_sequence, max_sequence;
    uint64_t entry_count;
    uint64_t delete_count;
    uint64_t raw_size;   /* bytes of keys and values */
    bool compress_later; /* raw, although its family compresses: not in the lowest level as it is */
    /* When the oldest and the newest of its entries were flushed: seconds since 1970; 0: not known.
     */
    uint64_t oldest_time, newest_time;
    /* The blob files that it refers to, by number; owned as the keys are. */
    struct blob_use *blobs;
    size_t blob_count;
};

/* Frees keys and uses. copy: `to` owns copies; LSM_NO_MEMORY is the only failure. */
void table_meta_release(struct table_meta *meta);
lsm_status table_meta_copy(struct table_meta *to, const struct table_meta *from, lsm_error *err);

#endif
