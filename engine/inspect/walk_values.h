/*
 * Values out of blob files that may be damaged anywhere, for who walks over the entries of a table:
 * they come in the order in which a blob file holds their values, so a walk over it that only goes
 * forwards finds them; what goes back begins another one, a bounded number of times. A block in
 * which one byte is wrong is read as it was.
 */
#ifndef ENGINE_INSPECT_WALK_VALUES_H
#define ENGINE_INSPECT_WALK_VALUES_H

#include "engine/format/compress.h"
#include "engine/inspect/walk_table.h"

#define WALK_VALUES_SOURCES  8            /* blob files that are walked over at once */
#define WALK_VALUES_RESTARTS UINT64_C(64) /* of one of them, for entries that are not in order */

struct walk_value_source {
    uint64_t number;         /* of the blob file; 0: none */
    struct walk_table *walk; /* owned; NULL: it cannot be opened */
    struct walk_block block;
    struct buffer last;           /* key that was looked for */
    struct buffer frame, raw;     /* of a block that was corrected */
    struct decompress_pool *pool; /* owned; for these */
    bool has_block, is_over;
    uint64_t used_at, restarts;
};

/* Zeroed but for `env` is the beginning. */
struct walk_values {
    const struct walk_env *env; /* borrowed */
    struct walk_value_source sources[WALK_VALUES_SOURCES];
    uint64_t clock;
};
void walk_values_release(struct walk_values *v);

/*
 * The value that an entry of type ENTRY_BLOB refers to, valid until the next call; *is_found is
 * false when its blob file does not hold it whole. LSM_NO_MEMORY, LSM_CANCELLED.
 */
lsm_status walk_values_find(struct walk_values *v, lsm_slice key, uint64_t trailer,
                            const struct blob_reference *reference, bool *is_found,
                            lsm_slice *value, lsm_error *err);

#endif
