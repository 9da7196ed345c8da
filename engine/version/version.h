/*
 * Versions: which tables hold the data now, and which held it for those who still read an older
 * state.
 *
 * A version is an immutable tree: families -> levels -> files. Installing an edit makes the next
 * version; the old one lives as long as somebody holds a reference. A file is removed from disk
 * when no version names it any more, of this process or, as may_remove() tells, of another. Level 0
 * holds whole flushes, newest last, ranges overlapping; in every deeper level the files are in key
 * order and do not overlap.
 *
 * The manifest makes the current version survive: each edit is framed, appended and synced before
 * the version it makes is installed. CURRENT names the manifest in force and is switched by rename
 * and a directory sync; the generation before is kept.
 *
 * Several processes share one manifest. Each has a set of its own over the same directory. Where
 * the manifest ends for all of them is published by the caller as a version_place, in memory that
 * they share; edits are applied under one lock of all processes, the version lock. The order is
 *
 *     lock; version_set_refresh() to the published place; version_set_apply(); publish
 *     version_set_place(); unlock
 *
 * and after the death of a lock's owner version_set_roll_forward() comes before the rest. Whoever
 * only reads refreshes without that lock. Within one process the caller calls attach, refresh,
 * apply, roll_forward, place, state and remove_orphans of a set one at a time.
 */
#ifndef ENGINE_VERSION_VERSION_H
#define ENGINE_VERSION_VERSION_H

#include "engine/format/edit.h"
#include "engine/sst/table.h"

#define VERSION_LEVELS EDIT_LEVEL_COUNT

struct version_set;

/* One table file, shared by all versions that name it. */
struct version_file {
    struct table_meta meta; /* set at making */
    bool busy;              /* an input of a running job, while one is picked (version lock held);
                             * known to this process only */
    uint32_t busy_to;       /* that job's output level; 0 while not busy */
    /* the rest is private to version/ */
};

struct version_level {
    struct version_file **files;
    size_t count;
    uint64_t bytes;
    /* What all keys of the level begin with, and bytes_head() of the files' bounds behind it, so
     * that looking for a file compares numbers. */
    size_t prefix_size;
    const uint64_t *heads;          /* of the largest keys */
    const uint64_t *smallest_heads; /* */
};

struct table_slot;

/* One blob file; see engine/format/blob.h. */
struct version_blob {
    struct blob_meta meta;
    uint64_t live_entries, live_bytes; /* of what it holds: what tables refer to */
    struct table_slot *slot;           /* private to version/ */
};

/* Values of a blob file of which less is live are written anew when a merge meets them. */
#define VERSION_BLOB_LEAST_LIVE 60 /* percent */

static inline bool version_blob_is_sparse(const struct version_blob *blob)
{
    return blob->live_bytes / VERSION_BLOB_LEAST_LIVE < blob->meta.raw_size / 100;
}

struct version_cf {
    uint32_t id;
    const char *name;
    lsm_cf_options options; /* every field resolved: no zeros that mean "default" */
    uint32_t used_levels;   /* that have files, one bit each */
    struct version_level levels[VERSION_LEVELS];
};

struct version {
    struct version_cf **families; /* by id */
    size_t family_count;
    struct version_blob *blobs; /* by number: every one that a table refers to */
    size_t blob_count;
    /* Of the last frame in the manifest that went into it: the same in every process, and growing
     * with every edit and every new manifest. */
    uint64_t number;
    /* the rest is private to version/ */
};

void version_keep(struct version *version);
void version_drop(struct version *version); /* NULL is allowed; may unlink files */

/* Is nothing in a deeper level? */
static inline bool version_is_lowest(const struct version_cf *cf, uint32_t level)
{
    for (uint32_t i = level + 1; i < VERSION_LEVELS; i++) {
        if (cf->levels[i].count > 0)
            return false;
    }
    return true;
}

/* NULL when there is no such family (dropped, never made). */
const struct version_cf *version_find_cf(const struct version *version, uint32_t id);
const struct version_cf *version_find_cf_named(const struct version *version, const char *name);

/* The table's file, or NULL; looks at all of them. */
struct version_file *version_find_file(const struct version *version, uint64_t number);

/* NULL when no table refers to it. */
const struct version_blob *version_find_blob(const struct version *version, uint64_t number);

/* In a level below 0: the index of the first file whose largest key is >= key; count when none. */
size_t version_level_find(const struct version_level *level, lsm_slice key);

/* ---- reading --------------------------------------------------------------------------------- */

/*
 * The newest version of a key with sequence <= max_sequence in the tables, of any type but
 * ENTRY_BLOB: such an entry is found with its value, as ENTRY_PUT. Inside an
 * epoch, with the version held or borrowed within it. See table_get() for the lifetime of found.
 */
lsm_status version_get(const struct version *version, const struct version_cf *cf, lsm_slice key,
                       uint64_t hash, uint64_t max_sequence, unsigned table_flags, bool *is_found,
                       struct table_found *found, lsm_error *err);

/* The same for many keys, with one submission per round for all blocks that must be read. Keys with
 * done set (and is_found not) are skipped; is_found, found and done are set for the others. After a
 * failure none is found. `queue` holds nothing else meanwhile. */
struct version_probe {
    lsm_slice key;
    uint64_t hash;
    uint64_t max_sequence;
    bool done;
    bool is_found;
    struct table_found found;
};
lsm_status version_multi_get(const struct version *version, const struct version_cf *cf,
                             struct version_probe *probes, size_t count, unsigned table_flags,
                             struct io_queue *queue, lsm_error *err);

/*
 * Is there a version newer than `floor` in the tables? Looks only into files that hold one at all.
 * *newest is the largest sequence number found for the key; 0: none above the floor. Inside an
 * epoch.
 */
lsm_status version_newer_than(const struct version_cf *cf, lsm_slice key, uint64_t hash,
                              uint64_t floor, uint64_t *newest, lsm_error *err);
/*
 * The same for any key in [first, limit) (limit.data NULL is an open end), with the version held:
 * one that was found is copied to `key`.
 */
lsm_status version_range_newer_than(const struct version_cf *cf, lsm_slice first, lsm_slice limit,
                                    uint64_t floor, struct buffer *key, uint64_t *newest,
                                    lsm_error *err);

/* Appends one iterator per level-0 file and one per deeper level that is not empty to children
 * (owned by the caller); `children` has room for version_iter_count() of them. The version is held
 * by the caller until all are released. Files wholly outside [first, limit) are left out (data NULL
 * is an open end). */
size_t version_iter_count(const struct version_cf *cf);
/* What all keys in the tables of the family begin with; valid as long as the version. */
lsm_slice version_common_prefix(const struct version_cf *cf);
lsm_status version_iters(const struct version_cf *cf, const struct table_iter_options *options,
                         lsm_slice first, lsm_slice limit, struct iter **children, size_t *count,
                         lsm_error *err);

/*
 * The value of an entry of type ENTRY_BLOB of the key, which becomes one of type ENTRY_PUT. The
 * block of the entry is dropped when it was owned, also on failure. Inside an epoch; LSM_CORRUPT
 * when the reference leads nowhere.
 */
lsm_status version_blob_get(const struct version *version, lsm_slice key, uint64_t hash,
                            unsigned table_flags, struct table_found *found, lsm_error *err);
/* For who reads many: the blob file and the size of the value that the value of such an entry
 * stands for, */
lsm_status version_blob_of(const struct version *version, lsm_slice value,
                           const struct version_blob **blob, uint64_t *size, lsm_error *err);
/* the file like version_table_keep(), while the version is held, */
lsm_status version_blob_keep(const struct version_blob *blob, struct table **table, lsm_error *err);
void version_blob_drop(const struct version_blob *blob);
/* and LSM_CORRUPT for a reference that leads nowhere. */
lsm_status version_blob_fail(const struct version_blob *blob, uint64_t sequence, lsm_error *err);

/* The file's table, opened when it is not; held until version_table_drop(). At most
 * max_open_tables stay open when nobody holds them. */
lsm_status version_table_keep(struct version_file *file, struct table **table, lsm_error *err);
void version_table_drop(struct version_file *file);

/* ---- the set --------------------------------------------------------------------------------- */

struct version_options {
    const struct table_env *env; /* outlives the set */
    uint32_t max_open_tables;
    uint64_t max_table_bytes;    /* of indexes and filters of open tables; 0: no limit */
    bool read_only;              /* nothing is written or removed */
    uint64_t manifest_roll_size; /* bytes at which a new manifest is begun; 0: 4 MiB */

    /* The counter of all processes that numbers of tables and manifests come from; outlives the
     * set. NULL: one of the set's own. Creation and recovery set it, everything else raises it. */
    _Atomic uint64_t *next_file_number;

    /*
     * May a file be removed that versions below `dead_number` name, and no later ones? True when
     * every process has said that it uses no version below, and takes none up: then for all
     * smaller numbers too. NULL: always, nobody else is there. Only version_set_clean(),
     * version_set_remove_orphans() and version_set_close() call it.
     */
    bool (*may_remove)(void *context, uint64_t dead_number);
    void *may_remove_context; /* outlives the set */
};

/*
 * Where the published manifest ends. Plain numbers, for shared memory; everything else that a
 * version_state holds follows from the frames before it. The current version's number is
 * frame_number - 1.
 */
struct version_place {
    uint64_t manifest_number;
    uint64_t previous_number; /* of the generation before, which is kept; 0: none */
    uint64_t offset;          /* in the manifest, of the next frame */
    uint64_t frame_number;    /* its number; grows with every publication */
    uint64_t chain;           /* checksum of the frame before it */
};

/* What recovery needs to know besides the files. */
struct version_state {
    uint64_t log_position;
    uint64_t log_chain;
    bool clean;
    uint64_t last_sequence;
    uint64_t next_file_number;
    uint32_t next_cf;
};

/*
 * Makes a new database's first manifest with the family "default" (id 0) and CURRENT. env->uuid is
 * recorded. It comes before anything else of the database but LOCK and STAGE: a directory without
 * CURRENT that holds tables or log segments is a damaged database. LSM_EXISTS when there is a
 * CURRENT.
 */
lsm_status version_set_create(const struct version_options *options,
                              const lsm_cf_options *default_cf, struct version_set **set,
                              lsm_error *err);
/* Reads only CURRENT, for the uuid and the manifest's number. LSM_MISSING when there is none, nor
 * anything that an interrupted creation cannot leave; LSM_CORRUPT when there is. */
lsm_status version_read_current(struct io *io, struct io_dir *dir, uint8_t uuid[TABLE_UUID_SIZE],
                                uint64_t *manifest_number, lsm_error *err);
/* Replays the manifest that CURRENT names. A torn last edit that was never acknowledged is cut;
 * any other damage is LSM_CORRUPT. Checks that every live file exists with its size. Unless
 * read_only a new manifest is begun (the old one may still be written by a dead process), older
 * generations than the last are removed, and so are files nobody names. A clean mark holds until an
 * edit with has_log says otherwise: the caller applies one before the log grows. */
lsm_status version_set_recover(const struct version_options *options, struct version_set **set,
                               struct version_state *state, lsm_error *err);
/*
 * Joins processes that have the database open. Reads the manifest up to `place` and ignores what
 * stands behind it, which is not published; begins no new one, removes nothing, looks at no table.
 * Until it returns the caller keeps may_remove() of the others from allowing versions above
 * place->frame_number - 1 to be cleared of old manifests: it has announced that version as in use,
 * or holds the lock under which the others ask. LSM_CORRUPT: the manifest is missing, or its edits
 * do not end at the place.
 */
lsm_status version_set_attach(const struct version_options *options,
                              const struct version_place *place, struct version_set **set,
                              lsm_error *err);

/*
 * Applies what others have published between the set's own place and `place`, also over new
 * manifests, and installs the version that this makes; files that stay keep their struct and their
 * open table. A place that is not newer than the set's own changes nothing. A failure changes
 * nothing either. The old current version has been announced as in use, as for attach. Does I/O.
 */
lsm_status version_set_refresh(struct version_set *set, const struct version_place *place,
                               lsm_error *err);

/* Where the set's manifest ends: the place after the last edit applied, read or adopted. Published
 * after every version_set_apply() that was not LSM_POISONED, for a failed one may have begun a new
 * manifest, and after version_set_roll_forward(). */
void version_set_place(const struct version_set *set, struct version_place *place);

/*
 * For the next owner of the version lock after one that died holding it, before anything else:
 * refreshes to the published `place`, then ends what the dead one began. Edits that stand whole
 * behind the place are made durable and applied; so is a manifest that CURRENT names already;
 * anything else behind the end is cut off, durably, or left behind in an old manifest. *adopted
 * says whether the set's place is now another than `place`, that is, has to be published; it is
 * untouched on failure. To be called again after a death or a failure at any point. Errors as for
 * version_set_apply(); LSM_CORRUPT also when a whole edit does not fit.
 */
lsm_status version_set_roll_forward(struct version_set *set, const struct version_place *place,
                                    bool *adopted, lsm_error *err);

/*
 * Removes table files with numbers below `limit` that nothing names, and manifests older than the
 * two that are kept: left by processes that died. They go when may_remove() allows the current
 * version's number, at once or in a later version_set_clean(). The caller first takes `limit`, the
 * least of next_file_number and of the numbers from which running jobs took theirs (read in this
 * order), then takes the version lock and refreshes the set, or rolls it forward where an owner
 * died, then calls with the lock held: an edit that stands in the manifest and was not published
 * names tables that this set does not know, and the next owner would adopt it. Lists the directory.
 */
lsm_status version_set_remove_orphans(struct version_set *set, uint64_t limit, lsm_error *err);

/* Every version but the current one has been dropped. NULL is allowed. True: removed files that
 * others may still read stay, for version_set_remove_orphans() of another set. */
bool version_set_close(struct version_set *set);

/* The current version, with a reference for the caller. Any thread. */
struct version *version_set_current(struct version_set *set);

/*
 * Makes `edit` durable in the manifest, then installs the version it makes (version lock held, or
 * the only user; the set's place is the published one). The edit's numbers last_sequence and
 * next_file_number are added when it left them 0. A failed sync or torn write begins a new manifest
 * once; when that fails too the set is broken: LSM_POISONED from then on, also for this call, and
 * no process may apply anything before version_set_roll_forward() of another set or a new opening.
 * Whether the edit will be found at the next open is unknown then: the files that it adds must be
 * left alone. Every other failure left nothing behind (LSM_CORRUPT: the edit does not fit the
 * current version; nothing was written).
 */
lsm_status version_set_apply(struct version_set *set, struct version_edit *edit, lsm_error *err);

/* LSM_READ_ONLY, or LSM_POISONED like every apply: an earlier one broke the set (version lock
 * held).
 */
lsm_status version_set_check_writable(const struct version_set *set, lsm_error *err);
/* Has an apply or a rolling forward failed with LSM_POISONED? (version lock held) */
bool version_set_is_broken(const struct version_set *set);

/* The counters and the log's place as of the last applied edit (version lock held). */
void version_set_state(struct version_set *set, struct version_state *state);

/* Bytes held by the indexes and filters of open tables. */
uint64_t version_set_memory(struct version_set *set);

/* Numbers for new tables; never reused, also not after a crash (orphans above the manifest's
 * counter are removed or skipped at recovery). Any thread. */
uint64_t version_new_file_number(struct version_set *set);
/* The sequence number that later edits record. Never goes down. Any thread. */
void version_set_last_sequence(struct version_set *set, uint64_t sequence);
/* Closes tables and unlinks files that nobody can reach any more, as far as no reader is inside an
 * epoch and may_remove() allows. version_drop() and version_set_apply() do the same without
 * may_remove(), and leave to this what would have to ask. No lock held that may_remove() takes. */
void version_set_clean(struct version_set *set);

/* Resolves zeros to defaults and checks ranges: LSM_INVALID names the option. */
lsm_status version_resolve_cf_options(const lsm_cf_options *given, lsm_cf_options *resolved,
                                      lsm_error *err);

/* "leveled", "tiered" or "fifo", as options are written; NULL: no such style. */
const char *version_style_name(lsm_compaction style);

#endif
