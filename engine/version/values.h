/*
 * Reads values out of the blob files of a version for who walks over entries in order: each blob
 * file that it meets is read by an iterator of its own, which reads ahead when the values stand one
 * behind the other there. For one value see version_blob_get().
 */
#ifndef ENGINE_VERSION_VALUES_H
#define ENGINE_VERSION_VALUES_H

#include "engine/version/version.h"

#define VALUE_READER_SOURCES 64 /* blob files that are read at once */

struct value_source {
    const struct version_blob *blob; /* held; NULL: none */
    struct iter *it;                 /* owned */
    uint64_t used_at;                /* the reader's clock */
};

/* Zeroed is empty, but for what is set first. */
struct value_reader {
    const struct version *version; /* held by the caller until release */
    struct table_iter_options options;

    struct value_source sources[VALUE_READER_SOURCES];
    size_t source_count; /* that were used since the release: the first ones */
    uint64_t clock;
    lsm_error error; /* of the iterators */
};

/* Lets the blob files go; may be used again, over another version. */
void value_reader_release(struct value_reader *r);

/* The value of an entry of type ENTRY_BLOB; it stays where it is until the next call. LSM_CORRUPT
 * when its reference leads nowhere, LSM_NO_MEMORY, and whatever reading gives. */
lsm_status value_reader_get(struct value_reader *r, lsm_slice key, uint64_t trailer,
                            lsm_slice reference, lsm_slice *value, lsm_error *err);

#endif
