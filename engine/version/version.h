/*
 * Versions: which tables hold the data now, and which held it for those who still read an older
 * state.
 *
 * A version is an immutable tree: families -> levels -> files. Installing an edit makes the next
 * version; the old one lives as long as somebody holds a reference. A file is removed from disk
 * when no version names it any more. Level 0 holds whole flushes, newest last, ranges overlapping;
 * in every deeper level the files are in key order and do not overlap.
 *
 * The manifest makes the current version survive: each edit is framed, appended and synced before
 * the version it makes is installed. CURRENT names the manifest in force and is switched by rename
 * and a directory sync; the generation before is kept.
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
    bool busy;              /* an input of a running job (guarded by the version lock) */
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

struct version_cf {
    uint32_t id;
    const char *name;
    lsm_cf_options options; /* every field resolved: no zeros that mean "default" */
    struct version_level levels[VERSION_LEVELS];
};

struct version {
    struct version_cf **families; /* by id */
    size_t family_count;
    uint64_t number; /* grows with every install */
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

/* In a level below 0: the index of the first file whose largest key is >= key; count when none. */
size_t version_level_find(const struct version_level *level, lsm_slice key);

/* ---- reading --------------------------------------------------------------------------------- */

/*
 * The newest version of a key with sequence <= max_sequence in the tables, of any type. Inside an
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
lsm_status version_iters(const struct version_cf *cf, const struct table_iter_options *options,
                         lsm_slice first, lsm_slice limit, struct iter **children, size_t *count,
                         lsm_error *err);

/* The file's table, opened when it is not; held until version_table_drop(). At most
 * max_open_tables stay open when nobody holds them. */
lsm_status version_table_keep(struct version_file *file, struct table **table, lsm_error *err);
void version_table_drop(struct version_file *file);

/* ---- the set --------------------------------------------------------------------------------- */

struct version_options {
    const struct table_env *env; /* outlives the set */
    uint32_t max_open_tables;
    bool read_only;              /* nothing is written or removed */
    uint64_t manifest_roll_size; /* bytes at which a new manifest is begun; 0: 4 MiB */
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
/* Every version but the current one has been dropped. NULL is allowed. */
void version_set_close(struct version_set *set);

/* The current version, with a reference for the caller. Any thread. */
struct version *version_set_current(struct version_set *set);

/*
 * Makes `edit` durable in the manifest, then installs the version it makes (version lock held, or
 * the only user). The edit's numbers last_sequence and next_file_number are added when it left them
 * 0. A failed sync or torn write begins a new manifest once; when that fails too the set is broken:
 * LSM_POISONED from then on, also for this call. Whether the edit will be found at the next open is
 * unknown then: the files that it adds must be left alone. Every other failure left nothing behind
 * (LSM_CORRUPT: the edit does not fit the current version; nothing was written).
 */
lsm_status version_set_apply(struct version_set *set, struct version_edit *edit, lsm_error *err);

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
 * epoch. version_drop() and version_set_apply() call it too. */
void version_set_clean(struct version_set *set);

/* Resolves zeros to defaults and checks ranges: LSM_INVALID names the option. */
lsm_status version_resolve_cf_options(const lsm_cf_options *given, lsm_cf_options *resolved,
                                      lsm_error *err);

#endif
