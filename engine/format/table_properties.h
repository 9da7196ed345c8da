/*
 * What a table file says about itself, so that it is meaningful without a manifest: whose it is,
 * what it holds, which files it replaced, and a digest of all its bytes. Stored as the message of
 * proto/table.proto.
 */
#ifndef ENGINE_FORMAT_TABLE_PROPERTIES_H
#define ENGINE_FORMAT_TABLE_PROPERTIES_H

#include "engine/base/buffer.h"
#include "engine/base/status.h"
#include "engine/format/blob.h"

#define TABLE_PROPERTIES_MAX_SIZE ((size_t)1 << 20) /* bytes of the message */
#define TABLE_OPTIONS_MAX_SIZE    ((size_t)4096)    /* of cf_options */

struct table_properties {
    uint64_t number;
    uint32_t cf;
    lsm_slice cf_name;
    uint32_t level;              /* when written */
    lsm_slice smallest, largest; /* user keys */
    uint64_t min_sequence, max_sequence;
    uint64_t entry_count;
    uint64_t delete_count;
    uint64_t key_count; /* user keys; entries are their versions */
    uint64_t raw_size;  /* bytes of keys and values */
    uint64_t block_count;
    uint64_t data_size; /* bytes of all data blocks in the file */
    uint32_t block_size;
    uint32_t filter_bits;
    bool compressed;
    int32_t compression_level;
    uint64_t
        job; /* lineage: who wrote it, which of the outputs it is, and which files they replace */
    uint32_t output_index;
    const uint64_t *replaced;
    size_t replaced_count;
    bool last_output;              /* the job wrote no output behind this one */
    const uint64_t *replaced_jobs; /* the jobs that wrote the replaced files, each once */
    size_t replaced_job_count;
    uint64_t digest; /* of the file's first digest_size bytes, see table_digest_add() */
    uint64_t digest_size;
    lsm_slice writer; /* version of the library */
    lsm_slice
        cf_options; /* of the family when it was written, see edit_options_decode(); or empty */
    /* Not 0: the blocks say sequence number 0 for every entry, and this is the true one; there is
     * one entry a key. min_sequence and max_sequence are this number. */
    uint64_t sequence_base;
    /* When the oldest and the newest of its entries were flushed: seconds since 1970; 0: not known.
     */
    uint64_t oldest_time, newest_time;
    bool is_blob;                 /* the file is no table but a blob file */
    const struct blob_use *blobs; /* the blob files that it refers to, by number */
    size_t blob_count;
};

/* Appends the message. LSM_NO_MEMORY; LSM_TOO_LARGE over TABLE_PROPERTIES_MAX_SIZE. */
lsm_status table_properties_encode(const struct table_properties *p, struct buffer *to,
                                   lsm_error *err);

/*
 * Decodes bytes whose checksum fitted. The struct owns its slices and list until release.
 * LSM_CORRUPT (sizes, missing or impossible fields), LSM_NEWER_FORMAT, LSM_NO_MEMORY; the sentence
 * does not know the file, *err may be NULL.
 */
lsm_status table_properties_decode(lsm_slice bytes, struct table_properties *p, lsm_error *err);
void table_properties_release(struct table_properties *p);

#endif
