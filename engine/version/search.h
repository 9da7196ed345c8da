/*
 * A point read in steps that never wait for a block: for who has many of them under way at once and
 * reads what they want through a queue of its own.
 *
 *     version_search_begin(&s, family);
 *     version_search_advance(&s, &wants_block, err);      over, or a block is wanted:
 *         block `s.block_index` of `s.table` is brought in, see engine/sst/table_fetch.h
 *     version_search_look(&s, block);                     over, or version_search_advance() again
 */
#ifndef ENGINE_VERSION_SEARCH_H
#define ENGINE_VERSION_SEARCH_H

#include "engine/version/version.h"

/* Walks the files that may hold a key, newest data first. */
struct version_walk {
    const struct version_cf *cf;
    lsm_slice key;
    uint64_t max_sequence;
    uint64_t head;   /* of the key behind level 0's prefix */
    uint32_t levels; /* below 0 not looked at yet, one bit each */
    size_t left;     /* files of level 0 not looked at yet */
};

/*
 * version_get() in two steps: between them the caller does something else while the filters of the
 * files that may hold the key are fetched. All inside one epoch.
 */
#define VERSION_LOOKUP_FILES 16 /* whose filters are fetched together */

struct version_lookup {
    const struct version *version; /* held by the caller */
    struct version_walk walk;
    size_t count;
    struct table_slot *slots[VERSION_LOOKUP_FILES];
};

void version_lookup_begin(struct version_lookup *l, const struct version *version,
                          const struct version_cf *cf, lsm_slice key, uint64_t hash,
                          uint64_t max_sequence);
lsm_status version_lookup_end(struct version_lookup *l, uint64_t hash, unsigned table_flags,
                              bool *is_found, struct table_found *found, lsm_error *err);

/* How many files a get looked into for nothing that found the sequence number `found` (0: none):
 * for what is not there the last of them is not counted. Of `walk`, which may be over, the family,
 * key and sequence number count. */
size_t version_files_passed(const struct version_walk *walk, uint64_t found);

struct version_search {
    /* Set by the caller. The key stays where it is until the search is over. */
    lsm_slice key;
    uint64_t hash;
    uint64_t max_sequence;

    /* The answer: as of version_get(), and usable until the epoch ends; never owned. */
    bool is_found;
    struct table_found found;

    /* The block that is wanted; the table is open until the epoch ends. */
    struct version_file *file;
    struct table *table;
    uint32_t block_index;

    struct version_walk walk; /* the search's */
};

/* The version that `cf` is part of is held until the search is over. */
void version_search_begin(struct version_search *s, const struct version_cf *cf);

/*
 * Goes on until the answer is known or a block is wanted that is not in memory. Inside an epoch; a
 * table that is not open is opened, which waits for the disk. After a failure the search is over.
 */
lsm_status version_search_advance(struct version_search *s, bool *wants_block, lsm_error *err);

/* Looks into the block that was wanted, with its table open. True: the search is over. Inside an
 * epoch, or with the block held. */
bool version_search_look(struct version_search *s, struct block *block);

#endif
