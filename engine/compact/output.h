/*
 * The tables that a job writes: begun when there is an entry for them, cut between user keys, taken
 * back when the job fails. Large values go to blob files beside them, of a family that wants so.
 */
#ifndef ENGINE_COMPACT_OUTPUT_H
#define ENGINE_COMPACT_OUTPUT_H

#include "engine/compact/compact.h"

#define LEVEL0_TABLE_SIZE (UINT64_C(1) << 30) /* bytes at which a table of level 0 is cut */
#define BLOB_FILE_TABLES  8                   /* table sizes at which a blob file is cut */
#define BLOB_BLOCK_SIZE   UINT32_C(4096)      /* at most: a read of one value reads little else */
#define TABLE_MAX_BLOBS   4096                /* blob files that one table may refer to */

/*
 * What the outputs of one job have in common that are written side by side, each of its own range
 * of keys: the lineage counts their tables as one job's. Zeroed at first.
 */
struct output_job {
    _Atomic uint64_t number; /* of the job; 0: no table is begun */
    _Atomic uint32_t table_count, blob_count;
    _Atomic bool has_kept; /* one of them keeps its last table for the end of the job */
};

struct output {
    /* set at init */
    const struct compact_env *env;
    const struct version_cf *cf;
    uint32_t level;
    bool compress;
    int32_t compression_level;
    uint64_t max_size;        /* bytes of one table */
    const uint64_t *replaced; /* input files, for the lineage; borrowed */
    size_t replaced_count;
    const uint64_t *replaced_jobs; /* that wrote them; borrowed */
    size_t replaced_job_count;
    const struct version_level *below; /* cut before overlapping too much of it; NULL: never */

    uint64_t oldest_time, newest_time; /* of the entries; 0: now */

    struct table_pace *pace;     /* of all that the job writes; NULL: each file as env says */
    struct output_job *siblings; /* NULL: it is the only one of its job */

    struct table_writer *writer; /* NULL: none is begun */
    uint64_t unchecked;          /* bytes added since its size was looked at */
    uint64_t empty_size;         /* of its file without an entry: small tables need a size too */
    uint64_t job;                /* number of the first table */
    size_t below_index;          /* first file of `below` that ends at or behind the last key */
    uint64_t below_bytes;        /* passed by the table in work */
    struct table_meta *tables;   /* finished; owned */
    size_t count, room;
    uint64_t bytes, entries;

    struct table_writer *blob; /* NULL: none is begun */
    uint64_t blob_number;
    uint64_t blob_unchecked; /* bytes added since its size was looked at */
    struct blob_meta *blobs; /* finished; owned */
    size_t blob_count, blob_room;
};

/* Is a value of this size written to a blob file? */
static inline bool output_separates(const struct output *o, size_t value_size)
{
    uint32_t threshold = o->cf->options.blob_threshold;
    return threshold != 0 && value_size >= threshold;
}

/* Adds an entry; `is_new_key`: a table may end before it. */
lsm_status output_add(struct output *o, lsm_slice key, uint64_t trailer, lsm_slice value,
                      bool is_new_key, lsm_error *err);
/* Written so far, with the table in work. */
uint64_t output_bytes(const struct output *o);
/* Finishes the last blob file and the last table, in this order: a job that wrote its last table
 * has written all. */
lsm_status output_finish(struct output *o, lsm_error *err);
/*
 * Of one with siblings: nothing more comes. The first that says so keeps its last table unfinished;
 * when all of them have, output_finish() of each does the rest, on one thread.
 */
lsm_status output_rest(struct output *o, lsm_error *err);
/* Hands the files over to the edit; the directory was synced. */
lsm_status output_give(struct output *o, struct version_edit *edit, struct compact_result *result,
                       lsm_error *err);
/* Frees; `keep` tells whether the files stay. */
void output_release(struct output *o, bool keep);

#endif
