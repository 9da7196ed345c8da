/* What flush and compaction share: the loop from a sorted source to tables. */
#ifndef ENGINE_COMPACT_JOB_PRIVATE_H
#define ENGINE_COMPACT_JOB_PRIVATE_H

#include "engine/compact/output.h"
#include "engine/compact/visible.h"
#include "engine/version/values.h"

struct pump {
    const struct compact_env *env;
    struct iter *source; /* on its first entry; borrowed */
    struct output *output;
    struct visible visible;
    uint64_t limit_sequence; /* entries from here on are left out; 0: none */
    struct value_reader values; /* over the version of the source; released by the caller */

    /* For deletions that nothing older hides behind: the levels below the output, searched with a
     * cursor each, as keys ascend. NULL: deletions stay. */
    const struct version_cf *deeper;
    uint32_t deeper_from; /* first level to look into */
    size_t deeper_at[VERSION_LEVELS];

    uint64_t total_bytes; /* what progress counts up to */
    uint64_t raw_total;   /* of keys and values, where known */
    uint64_t raw_bytes;   /* passed so far */
    uint64_t moved_bytes; /* of values that came along out of blob files */
    uint64_t raw_told;    /* the sum of both when the caller was asked last */
    uint64_t entries;
};

/* Moves everything that somebody can see. LSM_CANCELLED, LSM_NEWER_FORMAT (an entry of an unknown
 * type) and whatever reading and writing gives. */
lsm_status pump_run(struct pump *p, lsm_error *err);

#endif
