/*
 * Flush and compaction: a picker (policy, a pure function of a version) and jobs (mechanism: merge
 * and write). Whoever runs a job holds a reference to the version it was picked from.
 *
 * A job reads its inputs with big reads ahead and writes its outputs behind, drops what no snapshot
 * can see, and ends as a version edit, which the caller applies. Until then its outputs are files
 * nobody names. Trivial moves change the manifest alone.
 */
#ifndef ENGINE_COMPACT_COMPACT_H
#define ENGINE_COMPACT_COMPACT_H

#include "engine/memtable/memtable.h"
#include "engine/version/version.h"

#include <stdatomic.h>

/* ---- policy ---------------------------------------------------------------------------------- */

/*
 * What reads of a family have cost beyond what they would have cost, were its tables one sorted run
 * without deletions, in nanoseconds of one processor as they were measured once (COMPACT_*_NS): a
 * count, which does not depend on the machine.
 */
struct compact_reads {
    uint64_t runs_ns;    /* looking into more runs than one */
    uint64_t deletes_ns; /* walking over deletions */
    uint64_t memory_ns;  /* looking into memtables besides; a flush makes a run of them */
};
static inline uint64_t compact_reads_sum(const struct compact_reads *paid)
{
    return paid->runs_ns + paid->deletes_ns + paid->memory_ns;
}

#define COMPACT_GET_NS    UINT64_C(100) /* a get, for each run it looks into beyond the first */
#define COMPACT_SEEK_NS   UINT64_C(900) /* a seek, for each run but one */
#define COMPACT_STEP_NS   UINT64_C(20)  /* a step of a walk, for each run but one */
#define COMPACT_DELETE_NS UINT64_C(100) /* a deletion, and what it hides, walked over */
#define COMPACT_MERGE_NS  UINT64_C(6)   /* merging and compressing a byte */
/* Less than this is never worth a merge: small databases are merged by rules about their shape. */
#define COMPACT_READS_LEAST_NS UINT64_C(100000000)

struct compaction {
    uint32_t cf;
    uint32_t input_level;
    uint32_t output_level;
    /* By level, input_level first; those of level 0 oldest first. Borrowed of the version. */
    struct version_file **inputs;
    size_t input_count; /* all */
    size_t upper_count; /* those of input_level */
    bool trivial;       /* inputs can move down as they are */
    bool is_expiry;     /* inputs are deleted with what they hold; there are no outputs */
    bool bottom;        /* no deeper level overlaps the range: deletions can go */
    uint64_t input_bytes;
    double score;
    bool is_for_reads;               /* compact_pick_reads(): */
    struct compact_reads reads_left; /* what reads have paid for other merges than this one */

    /* The caller's, set once it is picked. */
    void *claim;
    bool is_manual;
    lsm_compression compression; /* of the lowest level; default: the family's */
    int32_t compression_level;
    uint32_t threads; /* that it is done on, the caller's included; 0: that one alone */
};
void compaction_release(struct compaction *c);

/*
 * The most urgent compaction of any family, marking nothing: false when none is due. Skips busy
 * files. Level targets follow from the bottom level's size (see lsm(7)): each level is the one
 * below divided by level_ratio, so that most data is in the lowest. Families of other styles: see
 * tiered.c and expiry.c. `now`: seconds since 1970; 0: no table is too old.
 */
bool compact_pick(const struct version *version, uint64_t now, struct compaction *c);
/*
 * What reads of the family have paid for: the merge, of level 0 into the base or of a level into
 * the next one, that gains most of what they have cost so far for each byte, once that is as much
 * as the merge will cost. `paid` is what they have cost since the shape of the family was another.
 * False, too, when a job has one of the family's files, and for other styles than leveled.
 */
bool compact_pick_reads(const struct version *version, uint32_t cf,
                        const struct compact_reads *paid, struct compaction *c);
/*
 * Have reads paid for a flush of the memtables and the merge that follows it, of level 0 and the
 * level below? `paid_ns` is all that they have cost since the last write: who writes on would fill
 * the memtables before they are flushed.
 */
bool compact_reads_pay_flush(const struct version_cf *cf, uint64_t paid_ns,
                             uint64_t memtable_bytes);
/* Differs between shapes of a family: as long as it stays what reads pay adds up. Never 0; the same
 * in every process. */
uint64_t compact_shape_mark(const struct version_cf *cf);
/* How many sorted runs its tables are. */
size_t compact_run_count(const struct version_cf *cf);
/* Seconds until a table is too old (0: one is), for those that can be picked then; UINT64_MAX: none
 * ever will be. */
uint64_t compact_next_expiry(const struct version *version, uint64_t now);
/*
 * The next step of a manual compaction of [first, limit) (data NULL is an open end): takes level
 * `level` files that overlap the range, and what they overlap below. False when that level has none
 * to do, or when there is no memory to say what.
 *
 * COMPACT_REWRITE: the files of that level (not 0) are rewritten in place instead, a run of them
 * from `first` on; the caller goes on behind the largest key of the inputs. COMPACT_REFRESH: the
 * same for those that a rewrite would change: they hold deletions, or are to be compressed and are
 * not. False for a family of style fifo: its tables stay as they are.
 */
enum compact_mode { COMPACT_DOWN = 0, COMPACT_REWRITE = 1, COMPACT_REFRESH = 2 };
bool compact_pick_range(const struct version *version, uint32_t cf, uint32_t level, lsm_slice first,
                        lsm_slice limit, enum compact_mode mode, struct compaction *c);
/* On how many threads a compaction is worth to be done: parts of it that fill some tables each. */
uint32_t compact_worth_threads(const struct version_cf *cf, const struct compaction *c);
/* How far compaction is behind: 0 when writers need not slow down, below 1 part of the way to
 * stopping them, from 1 on they wait. */
double compact_debt(const struct version_cf *cf);
/* The target size of each level, for people and tests; targets[0] is a count of files; UINT64_MAX:
 * no limit (the lowest). */
void compact_level_targets(const struct version_cf *cf, uint64_t targets[VERSION_LEVELS]);

/* ---- mechanism ------------------------------------------------------------------------------- */

struct compact_env {
    const struct table_env *tables;
    struct version_set *set;
    uint64_t rate;              /* bytes a second written; 0: no limit */
    bool in_haste;              /* somebody waits for a flush: it leaves compression for later */
    uint64_t limit_sequence;    /* a flush leaves out entries from here on; 0: none */
    const _Atomic bool *cancel; /* checked now and then: LSM_CANCELLED */
    /* Where it is told now and then how far the job is; NULL: nowhere. */
    _Atomic uint64_t *told_read, *told_written;
    /* Called now and then with the bytes read so far; NULL: none. False cancels. */
    bool (*progress)(void *context, uint64_t bytes_done);
    void *progress_context;
};

struct compact_result {
    uint64_t bytes_read, bytes_written;
    uint64_t entries_read, entries_written;
    uint64_t table_count;
};

/*
 * Writes the memtables' (oldest first) entries of every family to level-0 tables and adds them to
 * `edit`. What no one of `snapshots` (ascending sequence numbers; the newest state counts as one
 * always) can see is left out, deletions stay. Families that the version does not know (dropped)
 * are left out.
 */
lsm_status compact_flush(const struct compact_env *env, const struct version *version,
                         struct memtable *const *memtables, size_t memtable_count,
                         const uint64_t *snapshots, size_t snapshot_count,
                         struct version_edit *edit, struct compact_result *result, lsm_error *err);

/* Runs a compaction; adds outputs and removals to `edit`. On failure the outputs are removed. The
 * threads that it makes have ended when it returns; progress is told on the caller's. */
lsm_status compact_run(const struct compact_env *env, const struct version *version,
                       const struct compaction *c, const uint64_t *snapshots, size_t snapshot_count,
                       struct version_edit *edit, struct compact_result *result, lsm_error *err);

#endif
