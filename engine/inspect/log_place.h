/* Bytes of a log that may be damaged, by position: of a segment file, or of the stage ring. For
 * walk_log. */
#ifndef ENGINE_INSPECT_LOG_PLACE_H
#define ENGINE_INSPECT_LOG_PLACE_H

#include "engine/base/buffer.h"
#include "engine/format/file_name.h"
#include "engine/format/log_record.h"
#include "engine/format/stage_trailer.h"
#include "engine/inspect/correct.h"
#include "engine/io/io.h"

struct log_place {
    struct io_file *file; /* owned; NULL: there is none */
    char name[FILE_NAME_SIZE];
    uint64_t file_size;
    uint64_t ring_size;     /* of the ring; 0: a segment */
    uint64_t start, limit;  /* of a segment: positions that its file has bytes of */
    uint64_t window_offset; /* of what is in memory */
    struct buffer window;
    struct buffer joined; /* a run of bytes that goes round the end of the ring */
};

/* LSM_MISSING when there is no such file. */
lsm_status log_place_open(struct log_place *place, struct io_dir *dir, enum file_kind kind,
                          uint64_t number, lsm_error *err);
void log_place_close(struct log_place *place); /* zeroed is closed */
/* What was read so far is read anew: somebody may have written to the file. */
void log_place_refresh(struct log_place *place);
/* The last block of the stage file. */
struct log_trailer {
    enum stage_trailer_fault fault; /* as it stands there */
    bool is_corrected;              /* `change` puts it right */
    struct correct_change change;
    struct stage_trailer trailer; /* when the fault is OK, or corrected */
};
/* From now on the ring ends where the trailer begins, if there is one, or should be (is_marked). A
 * wrong byte of one that should be there is searched for, unless `no_correcting`. */
lsm_status log_place_read_trailer(struct log_place *place, const uint8_t uuid[HASH_UUID_SIZE],
                                  bool is_marked, bool no_correcting, struct log_trailer *found,
                                  lsm_error *err);

uint64_t log_place_offset(const struct log_place *place, uint64_t position); /* in the file */
/* Bytes from `position` on that it has, as far as `size`: fewer at its end. */
size_t log_place_room(const struct log_place *place, uint64_t position, size_t size);
/* `size` bytes at `position`, of which there is room; valid until the next call. */
lsm_status log_place_get(struct log_place *place, uint64_t position, size_t size,
                         const uint8_t **bytes, lsm_error *err);

#endif
