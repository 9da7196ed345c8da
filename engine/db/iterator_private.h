/* What the parts of the public iterator share. */
#ifndef ENGINE_DB_ITERATOR_PRIVATE_H
#define ENGINE_DB_ITERATOR_PRIVATE_H

#include "engine/db/read_account.h"
#include "engine/db/txn_private.h"
#include "engine/iter/iter.h"
#include "engine/version/values.h"

struct lsm_iter {
    lsm_db *db;
    uint32_t cf;
    uint64_t fork_count;
    struct db_state *state; /* held */
    struct iter *merged;    /* owned */
    struct read_lane lane;  /* of its tables */
    size_t left_out;        /* memtables of the state that were empty and are not in the merge */
    bool shows_all;         /* made without bounds, flags, or a transaction */
    uint64_t sequence;
    bool has_snapshot;
    bool keys_only;
    unsigned table_flags;
    size_t readahead;
    struct buffer first, limit; /* bounds */
    bool has_first, has_limit;
    uint64_t limit_head; /* keys with a smaller head are below the limit, */
    uint64_t first_head; /* and those with a larger one above the first */

    const struct iter_entry *shown; /* the merge's, or `saved` (backwards); NULL: not valid */
    bool backwards;
    struct iter_entry saved;    /* what the merge's last step left, or copied to: */
    struct buffer saved_key;    /* */
    struct buffer saved_value;  /* */
    struct value_reader values; /* of blob files */
    lsm_slice blob_value;       /* of the entry shown, when it only refers to one */
    struct txn_scan scan;       /* zeroed unless a transaction's */

    /* What its tables' being several runs costs, see engine/db/read_account.h, */
    struct compact_reads seek_cost, step_cost;
    bool counts_steps;                    /* step_cost is not nothing */
    const struct iter_entry *counted_end; /* of the steps that are in `owed` */
    struct compact_reads owed;            /* and what was not paid yet */
    lsm_status status;
    lsm_error error;
};

void db_iter_pay(lsm_iter *it); /* what is owed */

#define ITER_ENDED UINT64_MAX /* fork_count of an iterator whose transaction ended */

#endif
