/*
 * Inside lsm_repair().
 *
 *   repair.c     the door: lock, rounds, rehearsal
 *   round.c      one round: look, and do
 *   identity.c   CURRENT, and whose database it is when that is lost
 *   manifest.c   the state that the manifest makes, and what all whole edits say when it is damaged
 *   displaced.c  table files under the names of others
 *   candidates.c all tables that may be live
 *   lineage.c    which of them are, told by themselves
 *   families.c   which column families there are
 *   account.c    what may be missing without a trace
 *   blobs.c      blob files: which are whole, what puts others right, values out of the rest
 *   parts.c      what is wrong with the parts of one file, and which bytes put it right
 *   tables.c     what is wrong with each live table
 *   salvage.c    a damaged table's entries into a new one
 *   logs.c       what is wrong with the log, and its records into tables
 *   settle.c     levels for tables of which nobody knows them for sure
 *   plan.c       steps, losses and patches: the lists that looking fills
 *   place.c      lost+found, copies and corrected copies of files
 *   commit.c     the new manifest, and the rename that puts it in force
 *   undo.c       taking it back
 *
 * Looking only reads. Everything that is written is new; see docs/adr/0031-repair-by-new-files.md.
 */
#ifndef ENGINE_REPAIR_REPAIR_PRIVATE_H
#define ENGINE_REPAIR_REPAIR_PRIVATE_H

#include "engine/base/buffer.h"
#include "engine/base/memory.h"
#include "engine/format/current.h"
#include "engine/inspect/correct.h"
#include "engine/inspect/finding.h"
#include "engine/inspect/walk_dir.h"
#include "engine/inspect/walk_log.h"
#include "engine/inspect/walk_manifest.h"
#include "engine/inspect/walk_table.h"
#include "engine/inspect/walk_values.h"
#include "engine/shm/attach.h"
#include "engine/sst/table.h"
#include "engine/version/lost_edits.h"
#include "engine/version/version.h"

#define REPAIR_SEQUENCE_GAP (UINT64_C(1) << 32) /* above what was seen, where some may be lost */
#define REPAIR_MAX_NUMBER   (UINT64_C(1) << 62)
#define REPAIR_MEMORY       ((size_t)3 << 30) /* the largest block that is looked into */

/* ---- the lists ------------------------------------------------------------------------------- */

/* What a step, a patch or a refusal belongs to. */
enum repair_part {
    REPAIR_CURRENT,
    REPAIR_MANIFEST,
    REPAIR_TABLE, /* number: of the table */
    REPAIR_BLOB,  /* number: of the blob file */
    REPAIR_LOG,
    REPAIR_PLANT, /* something else in the place of a file */
};

struct repair_step {
    enum repair_part part;
    uint64_t number;
    enum finding_id id;
    char file[FILE_NAME_SIZE]; /* empty: none */
    uint64_t offset, length;
    char *problem, *action; /* owned */
    bool is_exact;
};

/* Bytes of a file that should be others. */
struct repair_patch {
    enum repair_part part;
    uint64_t number;
    enum file_kind kind;
    uint64_t file; /* its number */
    uint64_t offset;
    uint8_t *bytes; /* owned; NULL: zeros */
    size_t size;
};

struct repair_loss {
    unsigned kinds;
    bool has_cf;
    uint32_t cf;
    bool first_open, last_open;
    struct buffer first, last;
    uint64_t records, min_sequence, max_sequence;
    char file[FILE_NAME_SIZE];
    uint64_t offset, length;
};

enum table_fate {
    TABLE_STAYS,
    TABLE_PATCHED, /* its damage is corrected exactly */
    TABLE_REWRITTEN,
    TABLE_DROPPED, /* it cannot be read at all */
};

struct repair_table {
    struct table_meta meta; /* of the state; owned by it */
    uint64_t file;          /* number in the name of the file in which it stands */
    enum table_fate fate;
    bool is_refused;
    bool any_keys; /* its bounds are only those of the blocks that were whole at first sight */
    uint64_t blocks_lost, records_lost;
    bool has_keys;      /* there is a whole block */
    bool has_disorder;  /* entries are not in order */
    bool no_index;      /* what its index says is wrong */
    bool is_merged;     /* whole, but what it holds is in another table by now */
    bool doubts_values; /* for each value in a blob file it is looked whether it is there */
};

/* Sound parts that contradict each other: what lsm_verify() finds, and the walk of one file cannot.
 */
struct repair_contradiction {
    enum finding_id id;
    uint64_t table; /* number; 0: the state as a whole */
    uint64_t offset;
};

/* A blob file that a table refers to. */
struct repair_blob {
    struct blob_meta meta; /* only the number, unless it is whole */
    const char *fault;     /* static storage; NULL: it stays */
    bool is_patched;       /* it stays, and its damage is corrected exactly */
    bool is_refused;       /* but that is not wanted */
    bool is_missing;
    bool is_taken; /* the new state names it */
};

/* A table that stands in a file with the name of another one. */
struct repair_displaced {
    uint64_t number; /* of the table */
    uint64_t file;   /* in the name */
};

/* What looking at the manifests brought. */
struct repair_state {
    struct version_edit snapshot;
    struct version_edit gone; /* dropped: families that must not come back */
    uint64_t manifest;        /* number of the one believed; 0: none */
    uint64_t next_frame;      /* number of the frame to come */
    struct buffer unbounded; /* u64 each, ascending: tables of which blocks alone tell the bounds */
    uint64_t covered;        /* when rebuilt: highest sequence number that any table has */
    bool is_rebuilt;         /* from tables */
    bool contradicts;        /* a manifest could be read, but what it says cannot be */
    bool log_is_known;       /* snapshot.log_position is the true one */
    bool needs_generation;   /* a new manifest has to be written */
};

struct repair {
    /* set at start */
    const char *path;
    const lsm_repair_options *options; /* the caller's, or `later` */
    lsm_repair_options later;          /* of rounds behind the first */
    struct io *io;
    struct io_dir *dir;
    struct io_file *lock_file;
    struct io_lock *locks[2];
    lsm_repair_result result;

    /* found by looking */
    struct walk_dir list;
    struct walk_env walk; /* uuid is set by repair_identify() */
    struct table_env env; /* the same */
    bool has_current;     /* the file is there and was read */
    bool current_is_good; /* maybe by a patch */
    uint64_t current_names;
    struct edit_mark mark;   /* in LOCK: how far the manifest reached */
    uint64_t next_number;    /* of tables and manifests: above all files */
    struct buffer displaced; /* struct repair_displaced each, by number; see displaced.c */
    struct repair_state state;
    struct repair_table *tables; /* one for each of state.snapshot.added; owned */
    struct repair_blob *blobs;   /* those that were looked at, by number; owned */
    size_t blob_count, blob_room;
    struct walk_log_end log;
    bool log_is_lost; /* it cannot be left as it is: its records go into tables */
    bool stage_is_bad;
    uint64_t log_begins; /* what stands before is in tables, it turned out; 0: nothing is known */

    struct buffer suspects;      /* u64 each: tables in which lsm_verify() found damage at first */
    struct buffer suspect_blobs; /* u64 each: the same, of blob files */
    struct repair_contradiction *contradictions; /* owned */
    size_t contradiction_count, contradiction_room;
    struct repair_step *steps;
    size_t step_count, step_room;
    struct repair_patch *patches;
    size_t patch_count, patch_room;
    struct repair_loss *losses;
    size_t loss_count, loss_room;
    bool log_is_refused;
    bool log_has_hole;       /* in front: it does not reach back to where the manifest says */
    bool distrusts_manifest; /* so it looked again without believing that */

    /* being done */
    struct io_dir *lost; /* NULL: not made yet */
    char lost_path[1024];
    struct version_edit made; /* tables added; those that go are in `removed` */
    uint64_t bytes_done;
    bool is_in_force;     /* CURRENT was renamed, or may have been */
    unsigned round;       /* how often it looked before */
    unsigned told_rounds; /* as many were told in a rehearsal */
    bool is_rehearsal;    /* nothing is changed but, from the first round's doing on, a draft */
    struct repair_real {  /* then `io` and `dir` are the draft's, and these the true ones */
        struct io *io;    /* NULL: there is no draft */
        struct io_dir *dir;
    } real;
    struct repair_kept {
        char **names; /* owned, as the array is: files whose bytes from before are in `lost` */
        size_t count, room;
        bool had_current;
        uint64_t first_file, first_segment;
    } kept;
};

/* ---- plan.c ---------------------------------------------------------------------------------- */

/* Both texts are copied. */
lsm_status repair_add_step(struct repair *r, const struct repair_step *step, const char *problem,
                           const char *action, lsm_error *err);
/* Copies the bytes; NULL: zeros. */
lsm_status repair_add_patch(struct repair *r, const struct repair_patch *patch, lsm_error *err);
/* Forgets all steps and patches but the first ones. */
void repair_cut_plan(struct repair *r, size_t steps, size_t patches);
/* Copies the slices. */
lsm_status repair_add_loss(struct repair *r, const struct repair_loss *loss, lsm_slice first,
                           lsm_slice last, lsm_error *err);
/* Tells steps and losses to the caller, and asks. LSM_CANCELLED: nothing is to be done. */
lsm_status repair_show_plan(struct repair *r, lsm_error *err);
void repair_plan_release(struct repair *r);

const char *repair_family_name(const struct repair *r, uint32_t cf); /* NULL: not known */
/* It is gone, as far as any manifest says: what belongs to it must not come back. */
bool repair_family_was_dropped(const struct repair *r, uint32_t id);
/* Adds a family that no manifest knows to the state. Without a name, or when that is another one's,
 * it gets one of its own; options are those of the properties, as far as they say; either may be
 * NULL. */
lsm_status repair_family_make(struct repair *r, uint32_t id, const char *name,
                              const struct table_properties *p, lsm_error *err);
__attribute__((format(printf, 2, 3))) void repair_tell(struct repair *r, const char *format, ...);

/* Fills a file's name into a step. */
struct repair_step repair_step_of(enum repair_part part, uint64_t number, enum finding_id id,
                                  const char *file);

/* ---- a round --------------------------------------------------------------------------------- */

/* Fills the plan; what the look before it found was given back. */
lsm_status repair_look(struct repair *r, lsm_error *err);
/* Carries the plan out. */
lsm_status repair_do(struct repair *r, lsm_error *err);
/* Forgets what looking found; what was done stays, and its count. */
void repair_next_round(struct repair *r);
/* Gives back what looking found. */
void repair_found_release(struct repair *r);

/* ---- looking --------------------------------------------------------------------------------- */

/* Before the lock is taken: what the files contradict each other in. Tables never change, so it
 * holds for those that are there later, too. */
lsm_status repair_find_contradictions(struct repair *r, lsm_error *err);
/* The same after something was done, of what is there now. *damages: how much was found of all
 * kinds. */
lsm_status repair_check_again(struct repair *r, uint64_t *damages, lsm_error *err);
lsm_status repair_identify(struct repair *r, lsm_error *err);
lsm_status repair_find_displaced(struct repair *r, lsm_error *err);
/* The number in the name of the file that holds the table: mostly its own. */
uint64_t repair_file_of_table(const struct repair *r, uint64_t number);
lsm_status repair_read_manifests(struct repair *r, lsm_error *err);
/* A file that is gone may not be missed. Told once. */
lsm_status repair_tell_unseen(struct repair *r, lsm_error *err);
lsm_status repair_look_at_tables(struct repair *r, lsm_error *err);
lsm_status repair_look_at_log(struct repair *r, lsm_error *err);

/* ---- parts.c --------------------------------------------------------------------------------- */

/* A table or blob file that is looked at part by part. */
struct repair_parts {
    struct repair *r;
    enum repair_part part; /* what its steps and patches belong to, */
    uint64_t number;       /* with the number of this; */
    enum file_kind kind;   /* the patches are of this file, */
    uint64_t file;         /* which has this number in its name */
    char name[FILE_NAME_SIZE];
    struct walk_table *walk; /* owned by the caller, as the next two */
    struct io_file *in;
    struct buffer scratch;
    bool no_index; /* what its index says is wrong */
    bool dictionary_is_corrected;
    unsigned faults, unpatched; /* what is wrong, and how much of it no patch puts right */
};

/* Adds a step, and counts it. */
lsm_status repair_parts_note(struct repair_parts *p, enum finding_id id, uint64_t offset,
                             uint64_t length, const char *problem, const char *action,
                             bool is_exact, lsm_error *err);
/* Looks at everything but the blocks. */
lsm_status repair_parts_look(struct repair_parts *p, lsm_error *err);
/* Is one wrong byte all that is wrong with the frame in the extent? Then the frame as it was is in
 * the scratch. */
bool repair_parts_correct(struct repair_parts *p, uint64_t offset, uint64_t size,
                          struct correct_change *change);
/* Notes that change; `bytes` are those of the scratch. */
lsm_status repair_parts_patch_byte(struct repair_parts *p, enum finding_id id, uint64_t offset,
                                   const uint8_t *bytes, const struct correct_change *c,
                                   const char *problem, lsm_error *err);
/* Behind the corrected frame in the scratch there are zeros up to the next one. */
lsm_status repair_parts_behind_frame(struct repair_parts *p, uint64_t offset, lsm_error *err);
/* How much of the extent is behind the corrected frame in the scratch; 0: nothing but padding. For
 * extents that no index bounds: what is there may be another damaged frame. */
uint64_t repair_parts_rest(const struct repair_parts *p, uint64_t offset, uint64_t length);
/* Padding in [offset, limit) becomes zero again. */
lsm_status repair_parts_zero(struct repair_parts *p, enum finding_id id, uint64_t offset,
                             uint64_t limit, lsm_error *err);

/* ---- blobs.c --------------------------------------------------------------------------------- */

/* The blob file, which is looked at when it was not; valid until the next call. */
lsm_status repair_find_blob(struct repair *r, uint64_t number, const struct repair_blob **blob,
                            lsm_error *err);
/*
 * What becomes of an entry of type ENTRY_BLOB: it stays what it is when its blob file is whole, and
 * becomes one with its value, which stays until the next call, when that is given up; or its value
 * is gone. With `looks` whether it is there is looked for in any case.
 */
lsm_status repair_resolve(struct repair *r, struct walk_values *values, bool looks, lsm_slice key,
                          uint64_t *trailer, lsm_slice *value, bool *is_lost, lsm_error *err);
/* A blob file that was made: what the new state says of it when a table refers to it. */
lsm_status repair_add_blob(struct repair *r, const struct blob_meta *meta, lsm_error *err);
/* Adds the blob files that the tables of `next` refer to. */
lsm_status repair_collect_blobs(struct repair *r, struct version_edit *next, lsm_error *err);

/* What whole edits of any manifest say, besides their order. */
struct repair_facts {
    uint64_t *removed; /* numbers; sorted; owned */
    size_t removed_count, removed_room;
    struct table_meta *added; /* as last added; by number; owned with their keys */
    size_t added_count, added_room;
    struct version_edit families; /* created: those that are; dropped: ids that are gone */
    uint64_t log_position, log_chain;
    bool has_log, clean;
    uint64_t last_sequence, next_file_number, next_frame;
    struct buffer blobs;        /* u64 each: numbers of blob files that were added */
    uint64_t highest_mentioned; /* number of a file: what became of those below was written down */
    bool has_hole;              /* edits are missing since the last whole snapshot */
    uint32_t next_cf;
};
lsm_status repair_gather_facts(struct repair *r, struct repair_facts *facts, lsm_error *err);
void repair_facts_release(struct repair_facts *facts);
/* Makes state.snapshot out of the tables themselves, and of what the facts say. */
lsm_status repair_rebuild(struct repair *r, lsm_error *err);

/* ---- doing ----------------------------------------------------------------------------------- */

/* Makes the place for what is replaced. */
lsm_status repair_make_place(struct repair *r, lsm_error *err);
/* A copy of the file goes there, durable on return; once for each file. */
lsm_status repair_keep_file(struct repair *r, const char *name, lsm_error *err);
/* Copies `from` to the new file `to`, with the patches of `target` (NULL: none). What cannot be
 * read becomes zeros. Durable but for the name. */
struct repair_target {
    enum file_kind kind;
    uint64_t number;
};
lsm_status repair_copy_file(struct repair *r, struct io_dir *from_dir, const char *from,
                            struct io_dir *dir, const char *to, const struct repair_target *target,
                            lsm_error *err);

/* Is a new manifest to be written? */
bool repair_needs_commit(const struct repair *r);
/* Is the patch to be made in a file that stays? */
bool repair_patch_counts(const struct repair *r, const struct repair_patch *p);
/* Puts corrected files into their places. */
lsm_status repair_put_patches(struct repair *r, lsm_error *err);
/* Writes what the blocks of tables[index] hold into new tables of the same level; r->made gets
 * them. */
lsm_status repair_salvage_table(struct repair *r, size_t index, lsm_error *err);
/* Puts the tables that will be named into levels that agree with what they hold. */
lsm_status repair_settle(struct repair *r, lsm_error *err);
/* Writes the log's records into tables of level 0. */
lsm_status repair_salvage_log(struct repair *r, lsm_error *err);
/* A new, empty segment behind all others: replay begins there. */
lsm_status repair_begin_log(struct repair *r, uint64_t position, lsm_error *err);
/* Writes MANIFEST-<number> with the new state and puts it in force. */
lsm_status repair_commit(struct repair *r, uint64_t number, lsm_error *err);
static inline bool repair_leaves_log(const struct repair *r)
{
    return !r->log_is_lost || r->log_is_refused;
}
/* The table is not named any more when the repair is done. */
static inline bool repair_table_goes(const struct repair_table *t)
{
    return !t->is_refused && (t->fate == TABLE_REWRITTEN || t->fate == TABLE_DROPPED);
}

/* Options of a table that takes the place of one of this family. */
lsm_status repair_table_options(struct repair *r, uint32_t cf, uint32_t level, bool compress,
                                struct table_write_options *options, lsm_error *err);

#endif
