/*
 * A version edit: one change of the set of live files and families, as the manifest records it.
 *
 * The manifest is a run of frames { length, number, checksum chained to the frame before, bytes of
 * a protobuf message VersionEdit (proto/manifest.proto) }; the first frame of a file is a snapshot:
 * an edit that makes the whole state from nothing. The bytes are only parsed after the checksum
 * fitted, with bounded memory, and every field is checked afterwards.
 */
#ifndef ENGINE_FORMAT_EDIT_H
#define ENGINE_FORMAT_EDIT_H

#include "engine/base/buffer.h"
#include "engine/format/table_meta.h"

#define EDIT_MAX_SIZE    ((size_t)64 << 20) /* bytes of one encoded edit */
#define EDIT_LEVEL_COUNT 7                  /* levels that a table can be in */

struct edit_cf {
    uint32_t id;
    char *name; /* owned by the edit */
    lsm_cf_options options;
};

struct edit_file_removal {
    uint32_t cf;
    uint32_t level;
    uint64_t number;
};

struct version_edit {
    bool is_snapshot; /* replaces everything before it */
    bool has_log;     /* the log fields below are set */

    /* Every record that begins below log_position is in tables; chain is the checksum of the record
     * before it. clean: the database was closed and nothing is behind it. */
    uint64_t log_position;
    uint64_t log_chain;
    bool clean;

    uint64_t last_sequence;    /* 0: unchanged */
    uint64_t next_file_number; /* 0: unchanged */
    uint32_t next_cf;          /* 0: unchanged */

    struct edit_cf *created; /* families created, with their options */
    size_t created_count;
    struct edit_cf *renamed; /* id and new name; options unused */
    size_t renamed_count;
    uint32_t *dropped;
    size_t dropped_count;

    struct table_meta *added; /* owned by the edit */
    size_t added_count;
    struct edit_file_removal *removed;
    size_t removed_count;

    /* Blob files added. One is live as long as a table refers to it: nothing says that it goes. */
    struct blob_meta *blobs;
    size_t blob_count;
};

void edit_release(struct version_edit *edit); /* becomes empty */

/* Each copies what it is given; LSM_NO_MEMORY is the only failure. */
lsm_status edit_create_cf(struct version_edit *edit, uint32_t id, const char *name,
                          const lsm_cf_options *options, lsm_error *err);
lsm_status edit_rename_cf(struct version_edit *edit, uint32_t id, const char *name, lsm_error *err);
lsm_status edit_drop_cf(struct version_edit *edit, uint32_t id, lsm_error *err);
lsm_status edit_add_table(struct version_edit *edit, const struct table_meta *meta, lsm_error *err);
lsm_status edit_remove_table(struct version_edit *edit, uint32_t cf, uint32_t level,
                             uint64_t number, lsm_error *err);
lsm_status edit_add_blob(struct version_edit *edit, const struct blob_meta *meta, lsm_error *err);

/*
 * The protobuf bytes, appended to `bytes`; LSM_TOO_LARGE when they are over EDIT_MAX_SIZE.
 *
 * decode: LSM_CORRUPT with what is wrong, LSM_NEWER_FORMAT when the edit needs what this library
 * does not know, LSM_NO_MEMORY. `edit` is released by the caller only on success.
 */
lsm_status edit_encode(const struct version_edit *edit, struct buffer *bytes, lsm_error *err);
lsm_status edit_decode(lsm_slice bytes, struct version_edit *edit, lsm_error *err);

/* The same for the options of a family alone, as they also stand in tables. Decoded they are no
 * more than known: version_resolve_cf_options() says whether they are possible. */
lsm_status edit_options_encode(const lsm_cf_options *options, struct buffer *bytes, lsm_error *err);
lsm_status edit_options_decode(lsm_slice bytes, lsm_cf_options *options, lsm_error *err);

#endif
