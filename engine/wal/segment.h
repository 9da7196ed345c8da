/*
 * The segment files of a log directory: which there are, how they hang together, and how one is
 * made. Knows nothing of who writes them.
 */
#ifndef ENGINE_WAL_SEGMENT_H
#define ENGINE_WAL_SEGMENT_H

#include "engine/format/file_name.h"
#include "engine/format/log_record.h"
#include "engine/io/io.h"

/* What is needed to find and read the log. */
struct segment_dir {
    struct io *io;
    struct io_dir *dir;
    uint8_t uuid[HASH_UUID_SIZE];
    uint32_t mode; /* of new files */
};

/* The log's files in a directory, numbers ascending. Owned by the caller, who releases it. */
struct segment_list {
    uint64_t *segments;
    size_t segment_count;
    uint64_t *spares;
    size_t spare_count;
    uint64_t next_number; /* above all of them; at least 1 */
    bool has_stage;
};

lsm_status segment_list_read(struct io_dir *dir, struct segment_list *list, lsm_error *err);
void segment_list_release(struct segment_list *list);

/*
 * Reads and checks a header. end: where the segment is sealed, or SEGMENT_NOT_SEALED. LSM_MISSING;
 * LSM_CORRUPT, also when the file is shorter than that asks for; LSM_NEWER_FORMAT.
 */
#define SEGMENT_NOT_SEALED UINT64_MAX
lsm_status segment_read_header(const struct segment_dir *dir, uint64_t number, uint64_t end,
                               struct log_segment_header *header, lsm_error *err);

/* Bytes of the file that matter once the segment is sealed at `end`: the rest may be cut off. */
uint64_t segment_sealed_size(const struct log_segment_header *header, uint64_t end);

/* Headers of segments that continue each other, oldest first. */
struct segment_chain {
    struct log_segment_header *headers; /* owned */
    size_t count;
};

/*
 * Follows the seals from segment `newest` back until one begins at or before `from`. LSM_CORRUPT
 * when one is missing or does not fit to its successor. With `all` it goes on behind `from` as far
 * as there are whole segments; the rest is of no use to anybody.
 */
lsm_status segment_chain_read(const struct segment_dir *dir, uint64_t newest, uint64_t from,
                              bool all, struct segment_chain *chain, lsm_error *err);
void segment_chain_release(struct segment_chain *chain);

/* Opens a FILE_WAL or FILE_WAL_SPARE past the page cache; flags as io_file_open(). */
lsm_status segment_open(const struct segment_dir *dir, enum file_kind kind, uint64_t number,
                        unsigned flags, struct io_file **file, lsm_error *err);

/* A file with room for a segment, not part of the log yet. */
struct segment_spare {
    uint64_t number;
    uint64_t size;
    uint64_t filled;      /* bytes from its beginning on that are known to have been written */
    struct io_file *file; /* owned */
};

/* Makes NNNNNN.spare of `size` bytes with room reserved for the first `reserved` of them. Nothing
 * is left behind on failure. */
lsm_status segment_spare_make(const struct segment_dir *dir, uint64_t number, uint64_t size,
                              uint64_t reserved, struct segment_spare *spare, lsm_error *err);
/* Closes and removes it. */
void segment_spare_discard(const struct segment_dir *dir, struct segment_spare *spare);

#endif
