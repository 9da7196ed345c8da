/*
 * What the files of a database say: the manifest up to a given end, and the directory compared with
 * it. Reads names, sizes and the manifest, no table and no log.
 */
#ifndef ENGINE_INSPECT_INSPECT_FILES_H
#define ENGINE_INSPECT_INSPECT_FILES_H

#include "engine/version/version.h"

struct inspect_sum {
    uint64_t count; /* files */
    uint64_t bytes;
};

struct inspect_level {
    uint64_t tables;
    uint64_t bytes;
    uint64_t entries;
    uint64_t deletes; /* of the entries */
};

struct inspect_family {
    uint32_t id;
    char *name; /* owned */
    lsm_cf_options options;
    bool has_options; /* they are whole: no zeros that mean "default" */
    struct inspect_level levels[VERSION_LEVELS];
    /* How far level 0 is on the way from slowing writers to stopping them: 0 to 1,000,000. */
    uint32_t level0_debt_ppm;
};

struct inspect_table {
    uint64_t number;
    uint64_t size;
    uint32_t cf;
    uint32_t level;
};

struct inspect_blob {
    uint64_t number;
    uint64_t size;
    uint32_t cf;
    uint64_t raw_bytes;  /* of keys and values in it */
    uint64_t live_bytes; /* of these, what tables refer to */
};

struct inspect_files {
    uint8_t uuid[TABLE_UUID_SIZE];

    /* of the manifest */
    bool has_manifest; /* the fields up to `tables` hold */
    uint64_t manifest_number;
    uint64_t manifest_bytes; /* read */
    uint64_t version;        /* number of the version it makes */
    uint64_t log_position;   /* the log below it is in tables */
    bool is_clean;           /* it was closed, and the log behind is empty */
    uint64_t last_sequence;  /* in tables */
    uint64_t next_file_number;
    struct inspect_family *families; /* by id; owned */
    size_t family_count;
    struct inspect_table *tables; /* by number; owned */
    size_t table_count;
    struct inspect_blob *blobs; /* by number; owned */
    size_t blob_count;

    /* of the directory */
    struct inspect_sum live;        /* tables that the manifest names */
    struct inspect_sum superseded;  /* tables that were replaced and are not removed yet, or that
                                       nobody names */
    struct inspect_sum unfinished;  /* tables that somebody may be writing */
    struct inspect_sum blob_files;  /* that live tables refer to */
    struct inspect_sum other_blobs; /* that none does: replaced, or somebody may be writing them */
    struct inspect_sum segments;    /* of the log */
    struct inspect_sum spares;      /* files that wait to become one */
    struct inspect_sum manifests;
    struct inspect_sum others; /* temporary files */
    uint64_t stage_bytes;

    lsm_error *damages; /* owned; what is missing or wrong */
    size_t damage_count;
};

void inspect_files_release(struct inspect_files *files); /* becomes empty */

/*
 * Reads the manifest that CURRENT names, or, with `place`, that manifest up to that end.
 * LSM_MISSING when there is no database; damage is noted in files->damages, with LSM_OK.
 */
lsm_status inspect_read_manifest(struct io *io, struct io_dir *dir,
                                 const struct version_place *place, struct inspect_files *files,
                                 lsm_error *err);

/*
 * Lists the directory and compares it with the manifest. Tables from `job_limit` on that nobody
 * names may be a running job's.
 */
lsm_status inspect_read_directory(struct io_dir *dir, uint64_t job_limit,
                                  struct inspect_files *files, lsm_error *err);

#endif
