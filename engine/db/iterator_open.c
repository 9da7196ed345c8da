/*
 * Making public iterators, and keeping a few for the next caller.
 *
 * An iterator that is closed is parked when it shows the whole of a family in the current state;
 * the next one that is opened there takes it over, with its merge and all that the sources have
 * found out, for a new sequence number. A parked iterator holds its state as an open one would, so
 * whoever replaces the state empties the places: it stores the state, then looks into them, and who
 * parks stores the iterator, then looks at the state; one of the two sees the other's store.
 */
#include "engine/db/iterator_private.h"

#include "engine/base/memory.h"
#include "engine/iter/merging.h"

/* ---- bounds ---------------------------------------------------------------------------------- */

/* The smallest string above all that begin with `prefix`; false when there is none. */
static bool prefix_limit(struct buffer *limit, lsm_slice prefix)
{
    const uint8_t *bytes = prefix.data;
    size_t size = prefix.size;
    while (size > 0 && bytes[size - 1] == 0xff)
        size--;
    if (size == 0)
        return false;
    buffer_clear(limit);
    buffer_append(limit, bytes, size);
    if (!limit->failed)
        limit->data[size - 1]++;
    return true;
}

static lsm_status set_bounds(lsm_iter *it, const lsm_read_options *options, lsm_error *err)
{
    lsm_slice first = options->first, limit = options->limit, prefix = options->prefix;
    it->has_first = first.data != NULL;
    buffer_append(&it->first, first.data, first.size);
    it->has_limit = limit.data != NULL;
    buffer_append(&it->limit, limit.data, limit.size);
    if (prefix.data != NULL && prefix.size > 0) {
        if (!it->has_first || slice_compare(prefix, buffer_slice(&it->first)) > 0) {
            buffer_clear(&it->first);
            buffer_append(&it->first, prefix.data, prefix.size);
            it->has_first = true;
        }
        struct buffer above = {0};
        if (prefix_limit(&above, prefix) && !above.failed &&
            (!it->has_limit || slice_compare(buffer_slice(&above), buffer_slice(&it->limit)) < 0)) {
            buffer_clear(&it->limit);
            buffer_append(&it->limit, above.data, above.size);
            it->has_limit = true;
        }
        bool failed = above.failed;
        buffer_release(&above);
        it->limit.failed |= failed;
    }
    if (it->first.failed || it->limit.failed)
        return lsm_fail_memory(err, first.size + limit.size + prefix.size);
    return LSM_OK;
}

static lsm_slice bound(bool has, const struct buffer *b)
{
    static const uint8_t empty = 0;
    if (!has)
        return (lsm_slice){NULL, 0};
    return b->size == 0 ? LSM_SLICE(&empty, 0) : buffer_slice(b);
}

/* What a seek and a step cost beyond those in one run of tables, and that a merge would save. */
static void note_costs(lsm_iter *it, size_t runs, size_t memtables)
{
    uint64_t tables = runs > 0 ? runs - 1 : 0, memory = runs > 0 ? memtables : 0;
    it->seek_cost = (struct compact_reads){.runs_ns = tables * COMPACT_SEEK_NS,
                                           .memory_ns = memory * COMPACT_SEEK_NS};
    it->step_cost = (struct compact_reads){.runs_ns = tables * COMPACT_STEP_NS,
                                           .memory_ns = memory * COMPACT_STEP_NS};
    it->counts_steps = tables + memory > 0;
}

/* One iterator a memtable and sorted run of tables, and one for a transaction's own writes;
 * children has room for all. */
static lsm_status collect_children(lsm_iter *it, const struct db_state *state,
                                   const struct version_cf *family, struct iter **children,
                                   size_t *count, lsm_error *err)
{
    if (it->scan.txn != NULL) {
        lsm_status status = txn_map_iter_new(&it->scan.txn->writes, it->cf, it->scan.operation,
                                             &children[*count], err);
        if (status != LSM_OK)
            return status;
        (*count)++;
    }
    size_t memtables_begin = *count;
    for (size_t i = 0; i < state->memtable_count; i++) {
        /* What is inserted from now on is newer than the iterator's sequence number. */
        if (memtable_entry_count(state->memtables[i]->table) == 0) {
            it->left_out++;
            continue;
        }
        lsm_status status = memtable_scan_new(state->memtables[i]->table, it->cf, &it->sequence,
                                              &children[*count], err);
        if (status != LSM_OK)
            return status;
        (*count)++;
    }
    struct table_iter_options options = {
        .flags = it->table_flags,
        .readahead = it->readahead,
        .first = bound(it->has_first, &it->first),
        .limit = bound(it->has_limit, &it->limit),
        .lane = &it->lane,
    };
    size_t table_count = 0;
    lsm_status status = version_iters(family, &options, options.first, options.limit,
                                      children + *count, &table_count, &it->error);
    note_costs(it, table_count, *count - memtables_begin);
    *count += table_count;
    if (status != LSM_OK)
        status_copy(err, &it->error);
    return status;
}

/*
 * What keys begin with, so that the bytes behind it decide most matches: what those in tables begin
 * with, or, while there are none, those in memory. Later keys may begin with something else.
 */
static lsm_slice common_prefix(const lsm_iter *it, const struct db_state *state,
                               const struct version_cf *family)
{
    lsm_slice common = {NULL, 0}, lowest, highest;
    bool has_one = false;
    if (version_iter_count(family) > 0)
        return version_common_prefix(family);
    for (size_t i = 0; i < state->memtable_count; i++) {
        if (!memtable_key_range(state->memtables[i]->table, it->cf, &lowest, &highest))
            continue;
        highest.size = slice_common_prefix(lowest, highest);
        common.size = has_one ? slice_common_prefix(common, highest) : highest.size;
        common.data = highest.data;
        has_one = true;
    }
    return common;
}

/* The merge of all that `state` holds of the iterator's family. */
static lsm_status merge_state(lsm_iter *it, const struct db_state *state, struct iter **merged,
                              lsm_error *err)
{
    it->left_out = 0;
    const struct version_cf *family = version_find_cf(state->version, it->cf);
    if (family == NULL)
        return lsm_fail(err, LSM_MISSING, "column family %" PRIu32 " of '%s' was dropped", it->cf,
                        it->db->path);
    size_t size = (1 + state->memtable_count + version_iter_count(family)) * sizeof(struct iter *);
    struct iter **children = mem_alloc(size);
    if (children == NULL)
        return lsm_fail_memory(err, size);
    size_t count = 0;
    lsm_slice common = common_prefix(it, state, family);
    lsm_status status = collect_children(it, state, family, children, &count, err);
    for (size_t i = 0; i < count; i++)
        children[i]->common = common;
    if (status == LSM_OK)
        status = merging_new(children, count, merged, err);
    else
        while (count > 0)
            iter_release(children[--count]);
    if (status == LSM_OK)
        (*merged)->common = common;
    mem_free(children);
    return status;
}

/* Takes the current state and builds the merge over it. */
static lsm_status iter_attach(lsm_iter *it, lsm_error *err)
{
    lsm_status status = db_refresh(it->db, err);
    if (status != LSM_OK)
        return status;
    struct db_state *state = db_state_acquire(it->db);
    uint64_t visible =
        atomic_load_explicit(&it->db->layout->commit.visible_sequence, memory_order_acquire);
    struct iter *merged = NULL;
    status = merge_state(it, state, &merged, err);
    if (status != LSM_OK) {
        it->shows_all = false; /* it goes on as it was, but nobody takes it over */
        db_state_drop(state);
        return status;
    }
    db_iter_pay(it);
    iter_release(it->merged);
    value_reader_release(&it->values);
    db_state_drop(it->state);
    it->merged = merged;
    it->limit_head =
        it->has_limit ? iter_head(buffer_slice(&it->limit), merged->common) : UINT64_MAX;
    it->first_head = it->has_first ? iter_head(buffer_slice(&it->first), merged->common) : 0;
    it->state = state;
    if (!it->has_snapshot)
        it->sequence = visible;
    it->shown = NULL;
    it->status = LSM_OK;
    return LSM_OK;
}

/* ---- parking --------------------------------------------------------------------------------- */

static void iter_free(lsm_iter *it)
{
    iter_release(it->merged);
    read_lane_release(&it->lane);
    value_reader_release(&it->values);
    db_state_drop(it->state);
    buffer_release(&it->first);
    buffer_release(&it->limit);
    buffer_release(&it->saved_key);
    buffer_release(&it->saved_value);
    mem_free(it);
}

void db_iter_unpark_all(lsm_db *db)
{
    for (size_t i = 0; i < DB_PARKED_ITERATORS; i++) {
        lsm_iter *it = atomic_exchange(&db->parked[i], NULL);
        if (it != NULL)
            iter_free(it);
    }
}

/* Whoever is in the place already has to go. */
static void park_at(lsm_db *db, size_t place, lsm_iter *it)
{
    const struct db_state *state = it->state;
    lsm_iter *other = atomic_exchange(&db->parked[place], it);
    if (other != NULL)
        iter_free(other);
    if (atomic_load(&db->state) == state)
        return;
    it = atomic_exchange(&db->parked[place], NULL);
    if (it != NULL)
        iter_free(it);
}

/* False when it is not worth keeping, or all places are taken. */
static bool park(lsm_iter *it)
{
    lsm_db *db = it->db;
    if (!it->shows_all || it->status != LSM_OK || it->merged == NULL ||
        it->state != atomic_load_explicit(&db->state, memory_order_relaxed))
        return false;
    for (size_t i = 0; i < DB_PARKED_ITERATORS; i++) {
        if (atomic_load_explicit(&db->parked[i], memory_order_relaxed) != NULL)
            continue;
        it->shown = NULL;
        iter_rest(it->merged);
        read_lane_release(&it->lane);
        value_reader_release(&it->values);
        park_at(db, i, it);
        return true;
    }
    return false;
}

static size_t count_empty(const struct db_state *state)
{
    size_t count = 0;
    for (size_t i = 0; i < state->memtable_count; i++)
        count += memtable_entry_count(state->memtables[i]->table) == 0;
    return count;
}

/* A parked iterator over all of the family as it is now, or NULL. */
static lsm_iter *unpark(lsm_db *db, uint32_t cf)
{
    for (size_t i = 0; i < DB_PARKED_ITERATORS; i++) {
        if (atomic_load_explicit(&db->parked[i], memory_order_relaxed) == NULL)
            continue;
        lsm_iter *it = atomic_exchange(&db->parked[i], NULL);
        if (it == NULL)
            continue;
        bool is_current = it->state == atomic_load_explicit(&db->state, memory_order_acquire) &&
                          it->left_out == count_empty(it->state);
        if (is_current && it->cf == cf)
            return it;
        if (is_current)
            park_at(db, i, it);
        else
            iter_free(it);
    }
    return NULL;
}

/* ---- opening and closing --------------------------------------------------------------------- */

static bool wants_all(const lsm_read_options *options, const lsm_txn *txn)
{
    return txn == NULL && options->first.data == NULL && options->limit.data == NULL &&
           options->prefix.data == NULL && options->readahead == 0 && !options->no_fill_cache;
}

static void count_open(lsm_db *db, int by)
{
    atomic_fetch_add(&db->iterator_count, (uint32_t)by);
    atomic_fetch_add_explicit(&db->slot->report.iterators, (uint32_t)by, memory_order_relaxed);
}

/* A new one, without its merge; NULL when out of memory. */
static lsm_iter *iter_new(lsm_db *db, uint32_t cf, const lsm_read_options *options, bool shows_all)
{
    lsm_iter *it = mem_alloc_zeroed(sizeof *it);
    if (it == NULL)
        return NULL;
    it->db = db;
    it->cf = cf;
    it->fork_count = db->fork_count;
    it->readahead = options->readahead;
    it->table_flags = options->no_fill_cache ? TABLE_NO_FILL : 0;
    it->shows_all = shows_all;
    read_lane_init(&it->lane, db->tables.io, db->tables.queues);
    return it;
}

/* What differs between two that show all. */
static void set_view(lsm_iter *it, const lsm_read_options *options)
{
    it->keys_only = options->keys_only;
    it->has_snapshot = options->snapshot != NULL;
    it->sequence = it->has_snapshot ? options->snapshot->sequence
                                    : atomic_load_explicit(&it->db->layout->commit.visible_sequence,
                                                           memory_order_acquire);
}

lsm_status db_iter_open(lsm_db *db, lsm_cf *cf, const lsm_read_options *options, lsm_txn *txn,
                        lsm_iter **iter, lsm_error *err)
{
    static const lsm_read_options defaults = {.snapshot = NULL};
    uint32_t id;
    lsm_status status = db_check(db, err);
    if (status == LSM_OK)
        status = db_check_cf(db, cf, &id, err);
    if (status != LSM_OK)
        return status;
    if (iter == NULL)
        return lsm_fail(err, LSM_INVALID, "the place for the iterator is NULL");
    if (options == NULL)
        options = &defaults;
    bool shows_all = wants_all(options, txn);
    status = db_refresh(db, err);
    if (status != LSM_OK)
        return status;
    lsm_iter *it = shows_all ? unpark(db, id) : NULL;
    if (it != NULL) {
        set_view(it, options);
        count_open(db, 1);
        *iter = it;
        return LSM_OK;
    }
    it = iter_new(db, id, options, shows_all);
    if (it == NULL)
        return lsm_fail_memory(err, sizeof *it);
    set_view(it, options);
    if (txn != NULL)
        txn_scan_join(&it->scan, txn, it);
    count_open(db, 1);
    status = set_bounds(it, options, err);
    if (status == LSM_OK)
        status = iter_attach(it, err);
    if (status != LSM_OK) {
        lsm_iter_close(it);
        return status;
    }
    *iter = it;
    return LSM_OK;
}

LSM_API lsm_status lsm_iter_open(lsm_db *db, lsm_cf *cf, const lsm_read_options *options,
                                 lsm_iter **iter, lsm_error *err)
{
    return db_iter_open(db, cf, options, NULL, iter, err);
}

LSM_API void lsm_iter_close(lsm_iter *it)
{
    if (it == NULL || it->db->fork_count != db_fork_count())
        return; /* a child leaves it alone: what it holds is the parent's */
    txn_scan_leave(&it->scan);
    lsm_db *db = it->db;
    if (!park(it)) {
        db_iter_pay(it);
        iter_free(it);
    }
    count_open(db, -1);
}

LSM_API lsm_status lsm_iter_refresh(lsm_iter *it, lsm_error *err)
{
    lsm_status status = db_check(it->db, err);
    if (status != LSM_OK)
        return status;
    if (it->has_snapshot)
        return lsm_fail(err, LSM_INVALID, "an iterator over a snapshot cannot be refreshed");
    return iter_attach(it, err);
}
