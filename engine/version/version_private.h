/*
 * What stands behind the structs of version.h. Everything is immutable after its making but for
 * counts: a version shares untouched families with the one before, a family untouched levels.
 *
 * The counts: a version holds its families, a family its levels' arrays, an array its files, a file
 * its table slot. The last drop of a version retires it through an epoch, because readers may
 * borrow it there.
 */
#ifndef ENGINE_VERSION_VERSION_PRIVATE_H
#define ENGINE_VERSION_VERSION_PRIVATE_H

#include "engine/version/table_pool.h"
#include "engine/version/version.h"

struct live_file {
    struct version_file base;
    _Atomic uint32_t references;
    struct table_slot *slot; /* held; shared when a file moved to another level */
};

struct level_files {
    _Atomic uint32_t references;
    struct version_level level; /* its arrays are behind this struct, in one allocation */
};

struct live_cf {
    struct version_cf base; /* levels[i] == arrays[i]->level; name is owned */
    _Atomic uint32_t references;
    struct level_files *arrays[VERSION_LEVELS]; /* held; NULL when empty */
};

struct live_version {
    struct version base;
    struct epoch_retired retired;
    _Atomic uint32_t references;
    struct table_pool *pool;
};

static inline struct live_file *live_file_of(struct version_file *file)
{
    return (struct live_file *)file;
}

static inline struct live_cf *live_cf_of(const struct version_cf *cf)
{
    return (struct live_cf *)(uintptr_t)cf;
}

/* An empty version with number 0 and one reference. */
struct live_version *version_new_empty(struct table_pool *pool);

/*
 * The version that `edit` makes of `base`, with one reference; it gets its number when it is
 * installed. LSM_CORRUPT when the edit does not
 * fit: a family made twice, a table removed that is not there, tables of one level overlapping.
 */
lsm_status version_build(const struct version *base, const struct version_edit *edit,
                         struct table_pool *pool, struct live_version **next, lsm_error *err);

/* After `edit` became durable and made version `number`: the files that it took from `base` go when
 * nobody names them. */
void version_mark_removed(const struct version *base, const struct version_edit *edit,
                          const struct version *next, uint64_t number);
/* The edit that makes of `base` what `snapshot` says; added to empty `edit`, which is released by
 * the caller also on failure. */
lsm_status version_diff(const struct version *base, const struct version_edit *snapshot,
                        struct version_edit *edit, lsm_error *err);

/* The blob files: of the next version, whose tables are there; of those that `base` had and `next`
 * has no more; of a version that goes. */
lsm_status version_build_blobs(const struct version *base, const struct version_edit *edit,
                               struct table_pool *pool, struct live_version *next, lsm_error *err);
void version_mark_blobs(const struct version *base, const struct version *next, uint64_t number);
void version_release_blobs(struct version *version);
/* The values of those found that are in blob files, with one submission a group. After a failure
 * what is not found any more was dropped. */
lsm_status version_blob_multi_get(const struct version *version, struct version_probe *probes,
                                  size_t count, unsigned table_flags, struct io_queue *queue,
                                  lsm_error *err);

void version_cf_drop(struct live_cf *cf);

/* A level's array out of `count` files in order, taking a reference on each. `files` is borrowed.
 */
struct level_files *level_files_new(struct version_file **files, size_t count);
void level_files_drop(struct level_files *array); /* NULL is allowed */

/* The key's head behind the level's prefix; false when no file of the level can hold the key. */
bool level_head(const struct version_level *level, lsm_slice key, uint64_t *head);
/* Does the key lie in the range of file `index`? `head` is from level_head(). */
bool level_file_spans(const struct version_level *level, size_t index, lsm_slice key,
                      uint64_t head);
/* Below level 0: the file whose range holds the key, or NULL. */
struct version_file *level_file_of(const struct version_level *level, lsm_slice key);

#endif
