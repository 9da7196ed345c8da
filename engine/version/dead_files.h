/*
 * Files that the newest version does not need any more, until they are removed. Another process may
 * still read a version that does, so each waits with the number of the version since which nobody
 * new can see it, and is unlinked when the owner of the set says that none older is in use. Without
 * such an owner nobody else is there, and a file goes at once.
 *
 * What may go at once goes in such an order that a kill in between leaves no old value without what
 * hides it: files that died earlier first, and of those that died together, as inputs of one merge,
 * the deeper level first, and blob files behind the tables that refer to them. Without a manifest
 * nobody would know otherwise, where the merge left no table that could tell.
 *
 * What cannot be unlinked, or remembered, is counted and left to the search for orphans.
 */
#ifndef ENGINE_VERSION_DEAD_FILES_H
#define ENGINE_VERSION_DEAD_FILES_H

#include "engine/io/io.h"
#include "engine/version/listing.h"

#include <pthread.h>
#include <stdatomic.h>

struct dead_file {
    struct dead_file *next;
    enum file_kind kind;
    uint64_t number;
    uint64_t dead_number; /* of the first version without it */
    uint32_t level;       /* where a table was */
};

struct dead_files {
    struct io_dir *dir; /* set at init */
    bool (*may_remove)(void *context, uint64_t dead_number);
    void *context;

    pthread_mutex_t lock; /* a leaf */
    struct dead_file *first;

    _Atomic uint64_t unlink_failures;
};

void dead_files_init(struct dead_files *dead, struct io_dir *dir,
                     bool (*may_remove)(void *context, uint64_t dead_number), void *context);
void dead_files_release(struct dead_files *dead); /* forgets what still waits */

/* `level`: of a table; else 0. */
void dead_files_add(struct dead_files *dead, enum file_kind kind, uint64_t number, uint32_t level,
                    uint64_t dead_number);
/* Unlinks what may go. No lock held that may_remove() takes. */
void dead_files_clean(struct dead_files *dead);
/* Appends those that wait to the listing. */
lsm_status dead_files_list(struct dead_files *dead, struct listing *list, lsm_error *err);

#endif
