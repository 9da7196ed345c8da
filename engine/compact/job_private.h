/* What flush and compaction share, the loop from a sorted source to tables; and what the parts of a
 * compaction do. */
#ifndef ENGINE_COMPACT_JOB_PRIVATE_H
#define ENGINE_COMPACT_JOB_PRIVATE_H

#include "engine/compact/output.h"
#include "engine/compact/visible.h"
#include "engine/version/values.h"

/* How far a job is, over all pumps that work on it, of which one asks the caller. */
struct pump_watch {
    const struct compact_env *env;
    uint64_t total_bytes; /* what progress counts up to */
    uint64_t raw_total;   /* of keys and values, where known */
    _Atomic uint64_t raw_bytes, written_bytes;
    _Atomic bool is_stopped; /* one of the pumps failed: the others end, too */
};

/* Tells how far the job is, and asks the caller: LSM_CANCELLED. One thread of the job calls. */
lsm_status pump_watch_ask(struct pump_watch *w, lsm_error *err);

struct pump {
    struct iter *source; /* on its first entry; borrowed */
    struct output *output;
    struct visible visible;
    uint64_t limit_sequence; /* entries from here on are left out; 0: none */
    lsm_slice limit;         /* ends before this key; data NULL: with the source. Borrowed */
    struct pump_watch *watch;
    bool is_asking;
    struct value_reader values; /* over the version of the source; released by the caller */

    /* For deletions that nothing older hides behind: the levels below the output, searched with a
     * cursor each, as keys ascend. NULL: deletions stay. */
    const struct version_cf *deeper;
    uint32_t deeper_from; /* first level to look into */
    size_t deeper_at[VERSION_LEVELS];

    uint64_t raw_bytes;              /* of keys and values that passed so far */
    uint64_t moved_bytes;            /* of values that came along out of blob files */
    uint64_t both_told;              /* the sum of both at the last look, */
    uint64_t raw_told, written_told; /* and what the watch knows of it */
    uint64_t entries;
};

/* Moves everything that somebody can see. LSM_CANCELLED, LSM_NEWER_FORMAT (an entry of an unknown
 * type) and whatever reading and writing gives. */
lsm_status pump_run(struct pump *p, lsm_error *err);

/* ---- borders.c ------------------------------------------------------------------------------- */

/* Keys, or beginnings of keys, ascending. Zeroed at first. */
struct borders {
    struct buffer bytes;
    lsm_slice *keys; /* owned; they lie in bytes */
    size_t count;
};

/* Where to part the inputs into at most `parts` of about the same size each. */
lsm_status borders_find(struct borders *b, const struct compaction *c, size_t parts,
                        lsm_error *err);
void borders_release(struct borders *b);

/* ---- merge.c --------------------------------------------------------------------------------- */

/* A merge of all that a compaction takes: set by the caller but for what follows `parts`. */
struct merge {
    const struct compaction *c;
    const struct version *version;
    const struct output *output; /* each part begins with a copy of it */
    const uint64_t *snapshots;
    size_t snapshot_count;
    size_t part_limit; /* so many at most; at least 1 */

    struct pump_watch watch; /* env and sums set by the caller */
    struct output_job job;
    struct table_pace pace;
    struct merge_part *parts; /* owned */
    size_t part_count;
};

/* Writes the outputs, which belong to the merge until they are given away. */
lsm_status merge_run(struct merge *m, lsm_error *err);
/* Adds the outputs to the edit. The directory is synced here. */
lsm_status merge_give(struct merge *m, struct version_edit *edit, struct compact_result *result,
                      lsm_error *err);
/* Frees; `keep` tells whether the files stay. */
void merge_release(struct merge *m, bool keep);

#endif
