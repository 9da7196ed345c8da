/*
 * What reads cost that merges would save, kept in an account for each family in the segment, so
 * that a merge can be paid for by the reads of all processes; see ADR 0070 and engine/compact.
 *
 * Gets are counted by samples: each thread looks at one in READ_SAMPLE and counts it for all. An
 * iterator counts for itself and pays now and then. A handle that is read-only, or has
 * no_read_merges, pays nothing and merges nothing for reads.
 */
#ifndef ENGINE_DB_READ_ACCOUNT_H
#define ENGINE_DB_READ_ACCOUNT_H

#include "engine/db/db_private.h"
#include "engine/version/search.h"

#define READ_SAMPLE     256
#define READ_PAYMENT_NS UINT64_C(1000000) /* an iterator pays when it owes so much */

/* Gets of tables until the next sample, less one; found without a call in a shared library, too. */
extern __thread uint32_t read_countdown __attribute__((tls_model("initial-exec")));

static inline bool reads_are_counted(const lsm_db *db)
{
    return !db->options.read_only && !db->options.no_read_merges;
}

/* Counts gets that looked into tables; true: one of them stands for READ_SAMPLE of them. */
static inline bool read_is_sampled(uint32_t gets)
{
    if (__builtin_expect(read_countdown >= gets, 1)) {
        read_countdown -= gets;
        return false;
    }
    read_countdown += READ_SAMPLE - gets;
    return true;
}

/* A sample: the get that `walk` was for, in `state` (held, or inside the epoch), found an entry
 * with the sequence number `found`; 0: none. */
void db_read_sample(const struct db_state *state, const struct version_walk *walk, uint64_t found);

/* Reads in that state have cost so much; nothing, when the tables are others now. No lock held. */
void db_reads_pay(lsm_db *db, const struct db_state *state, uint32_t cf,
                  const struct compact_reads *paid);

/* Seals the active memtable where reads have paid for its flush, and nobody has written meanwhile:
 * what is in it is merged with the tables then. False: there is nothing to be done. */
bool db_reads_seal(lsm_db *db);
/* Would it? `version` is the current one. */
bool db_reads_want_flush(lsm_db *db, const struct version *version);
/* The merge that reads have paid for, if one is to be made now: see compact_pick_reads(). */
bool db_reads_pick(lsm_db *db, const struct version *version, struct compaction *c);
/* It was picked from `version` and is in force (within the edit), or has failed. */
void db_reads_spend_locked(lsm_db *db, const struct version *version, const struct compaction *c);
void db_reads_forget(lsm_db *db, const struct compaction *c);

#endif
