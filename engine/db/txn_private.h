/*
 * A transaction's inside: what it wrote, what must not have changed when it commits, and the
 * iterators that are open on it.
 *
 * Nothing here is known to other threads or processes. What they wrote is found in the memtables
 * and tables by sequence number, see engine/db/txn_validate.c.
 */
#ifndef ENGINE_DB_TXN_PRIVATE_H
#define ENGINE_DB_TXN_PRIVATE_H

#include "engine/db/db_private.h"
#include "engine/db/txn_map.h"

#include "engine/base/buffer.h"

enum txn_state {
    TXN_ACTIVE,
    TXN_COMMITTED,
    TXN_ROLLED_BACK,
    TXN_UNKNOWN, /* in the log, and then a sync failed */
    TXN_PENDING, /* in the log, and then its time was up */
};

/* Keys of one family that an iterator has walked over: [low, high). */
struct txn_range {
    struct txn_range *next;
    uint32_t cf;
    bool has_low; /* otherwise nothing was walked yet */
    bool is_open; /* no upper end */
    struct buffer low, high;
};

struct lsm_txn {
    uint32_t magic;
    enum txn_state state;
    lsm_db *db;
    lsm_isolation isolation;
    size_t memory_limit;
    lsm_snapshot *snapshot; /* NULL when ended */
    uint64_t sequence;      /* see lsm_txn_sequence() */

    struct txn_map writes;
    uint64_t operation;       /* of the last write */
    struct buffer undo;       /* struct txn_node *[]: which node each version went to, in order */
    struct buffer savepoints; /* uint64_t[]: the operation before each */

    struct txn_map reads; /* keys, without versions */
    bool reads_for_update;
    struct txn_range *ranges; /* owned */
    size_t range_bytes;

    struct txn_scan *scans; /* of open iterators */
};

/* What a transaction and an open iterator know of each other. */
struct txn_scan {
    struct txn_scan *next;
    lsm_txn *txn; /* NULL: the iterator is none of a transaction's, or no longer */
    lsm_iter *iter;
    uint64_t operation;       /* the last one that the iterator shows */
    bool is_tracking;         /* what is walked must be remembered */
    struct txn_range *walked; /* since the last seek; borrowed of txn; NULL: nothing yet */
    struct buffer place;      /* work space */
};

/* ---- db/txn.c -------------------------------------------------------------------------------- */

/* LSM_TOO_LARGE when `extra` more bytes are over the limit. */
lsm_status txn_check_memory(const lsm_txn *txn, size_t extra, lsm_error *err);

/* ---- what iterators walked (db/txn_scan.c) --------------------------------------------------- */

/* One end of a walk. */
struct txn_end {
    lsm_slice key;
    bool behind;  /* the key, rather than in front of it */
    bool is_open; /* behind all keys; key means nothing */
};

void txn_scan_join(struct txn_scan *scan, lsm_txn *txn, lsm_iter *iter);
void txn_scan_leave(struct txn_scan *scan); /* twice is allowed, and on a zeroed one */
/* A seek: the next walk starts at `from`, in whatever direction. */
lsm_status txn_scan_begin(struct txn_scan *scan, uint32_t cf, struct txn_end from, lsm_error *err);
/* The walk has come up to `to`, upwards; or down to `key`. On failure the move must not be seen. */
lsm_status txn_scan_up(struct txn_scan *scan, struct txn_end to, lsm_error *err);
lsm_status txn_scan_down(struct txn_scan *scan, lsm_slice key, lsm_error *err);
void txn_ranges_release(lsm_txn *txn);

/* ---- validation (db/txn_validate.c) ---------------------------------------------------------- */

/* Is all that must not have changed since the snapshot as it was? LSM_CONFLICT. */
lsm_status txn_validate(lsm_txn *txn, lsm_error *err);
/* The same, and `batch` is written in the same moment. *sequence is its number once it is in the
 * log, untouched until then. */
lsm_status txn_validate_and_write(lsm_txn *txn, lsm_slice batch, const lsm_write_options *options,
                                  uint64_t *sequence, lsm_error *err);

/* ---- iterators (db/iterator.c) --------------------------------------------------------------- */

/* txn NULL: none; otherwise options->snapshot is its. */
lsm_status db_iter_open(lsm_db *db, lsm_cf *cf, const lsm_read_options *options, lsm_txn *txn,
                        lsm_iter **iter, lsm_error *err);
/* It is never valid again, and `why` is what its status says. */
void db_iter_end(lsm_iter *it, const char *why);

#endif
