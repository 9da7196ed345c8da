/*
 * The public iterator: over the merge of memtables and tables it shows, of every user key, the
 * newest version at or below its sequence number, unless that is a deletion.
 *
 * Forwards the merge stands on the entry that is shown, so key and value are borrowed from it.
 * Backwards the versions of a key come oldest first, so the one to show is only known when the walk
 * has left the key: key and value are copied, and the merge stands in front of the key.
 *
 * A transaction's iterator has its own writes as one more source, under a sequence number above all
 * others, and tells the transaction what it walks over.
 */
#include "engine/db/txn_private.h"

#include "engine/base/memory.h"
#include "engine/iter/merging.h"

#include <assert.h>

struct lsm_iter {
    lsm_db *db;
    uint32_t cf;
    uint64_t fork_count;
    struct db_state *state; /* held */
    struct iter *merged;    /* owned */
    uint64_t sequence;
    bool has_snapshot;
    bool keys_only;
    unsigned table_flags;
    size_t readahead;
    struct buffer first, limit; /* bounds */
    bool has_first, has_limit;
    uint64_t limit_head; /* keys with a smaller head are below the limit */

    const struct iter_entry *shown; /* the merge's (forwards) or `saved`; NULL: not valid */
    bool backwards;
    struct buffer saved_key;   /* the key shown (backwards), or being left (forwards) */
    struct buffer saved_value; /* the value shown (backwards) */
    struct iter_entry saved;   /* over both */
    struct txn_scan scan;      /* zeroed unless a transaction's */
    lsm_status status;
    lsm_error error;
};

#define ITER_ENDED UINT64_MAX /* fork_count of an iterator whose transaction ended */

static lsm_status iter_failed(lsm_iter *it, lsm_status status)
{
    it->shown = NULL;
    if (it->status == LSM_OK)
        it->status = status;
    return status;
}

static bool save(lsm_iter *it, struct buffer *to, lsm_slice bytes)
{
    if (buffer_assign(to, bytes))
        return true;
    iter_failed(it, lsm_fail_memory(&it->error, bytes.size));
    return false;
}

static bool save_key(lsm_iter *it, const struct iter_entry *entry)
{
    if (!save(it, &it->saved_key, entry->key))
        return false;
    it->saved.head = entry->head;
    it->saved.key = buffer_slice(&it->saved_key);
    return true;
}

static inline bool is_saved_key(const lsm_iter *it, const struct iter_entry *entry)
{
    return entry->head == it->saved.head && slice_equal(entry->key, it->saved.key);
}

static bool past_limit(const lsm_iter *it, lsm_slice key)
{
    return it->has_limit && slice_compare(key, buffer_slice(&it->limit)) >= 0;
}

static bool before_first(const lsm_iter *it, lsm_slice key)
{
    return it->has_first && slice_compare(key, buffer_slice(&it->first)) < 0;
}

/* Is the entry behind the moment that is shown? A transaction's own writes never are. */
static inline bool is_unseen(const lsm_iter *it, const struct iter_entry *entry)
{
    uint64_t sequence = entry_sequence(entry->trailer);
    return sequence > it->sequence && sequence != ENTRY_MAX_SEQUENCE;
}

/* ---- forwards -------------------------------------------------------------------------------- */

/* From the merge's place on, the next key to show. With `skip`, versions of saved_key are passed.
 */
static void settle_forwards(lsm_iter *it, bool skip)
{
    struct iter *m = it->merged;
    it->backwards = false;
    it->shown = NULL;
    while (m->valid) {
        if (is_unseen(it, m->entry) || (skip && is_saved_key(it, m->entry))) {
            iter_next(m);
            continue;
        }
        if (past_limit(it, m->entry->key))
            return;
        if (entry_type_of(m->entry->trailer) == ENTRY_PUT) {
            it->shown = m->entry;
            return;
        }
        if (!save_key(it, m->entry))
            return;
        skip = true;
        iter_next(m);
    }
    if (m->status != LSM_OK)
        iter_failed(it, m->status);
}

/* ---- backwards ------------------------------------------------------------------------------- */

static const struct iter_entry *show_saved(lsm_iter *it)
{
    it->saved.value = buffer_slice(&it->saved_value);
    return &it->saved;
}

/* From the merge's place on towards the beginning, the next key to show. */
static void settle_backwards(lsm_iter *it)
{
    struct iter *m = it->merged;
    it->backwards = true;
    it->shown = NULL;
    bool has_key = false, has_value = false;
    while (m->valid) {
        bool same = has_key && is_saved_key(it, m->entry);
        if (!same) {
            if (has_value)
                break;
            if (before_first(it, m->entry->key))
                break;
            if (!save_key(it, m->entry))
                return;
            has_key = true;
        }
        if (!is_unseen(it, m->entry)) {
            has_value = entry_type_of(m->entry->trailer) == ENTRY_PUT;
            if (has_value && !save(it, &it->saved_value, m->entry->value))
                return;
        }
        iter_prev(m);
    }
    if (m->status != LSM_OK)
        iter_failed(it, m->status);
    else
        it->shown = has_value ? show_saved(it) : NULL;
}

/* ---- what a transaction's iterator walks over ------------------------------------------------ */

/* False: it could not be remembered, and the iterator must not move. */
static bool walk_from(lsm_iter *it, struct txn_end from)
{
    if (!it->scan.is_tracking)
        return true;
    lsm_status status = txn_scan_begin(&it->scan, it->cf, from, &it->error);
    if (status != LSM_OK)
        iter_failed(it, status);
    return status == LSM_OK;
}

static struct txn_end upper_end(const lsm_iter *it)
{
    return (struct txn_end){.key = buffer_slice(&it->limit), .is_open = !it->has_limit};
}

static void note_walk_up(lsm_iter *it)
{
    if (it->status != LSM_OK)
        return;
    struct txn_end to = upper_end(it);
    if (it->shown != NULL)
        to = (struct txn_end){.key = lsm_iter_key(it), .behind = true};
    lsm_status status = txn_scan_up(&it->scan, to, &it->error);
    if (status != LSM_OK)
        iter_failed(it, status);
}

static inline void walked_up(lsm_iter *it)
{
    if (__builtin_expect(it->scan.is_tracking, 0))
        note_walk_up(it);
}

static void walked_down(lsm_iter *it)
{
    if (!it->scan.is_tracking || it->status != LSM_OK)
        return;
    lsm_slice to = it->shown != NULL ? lsm_iter_key(it) : buffer_slice(&it->first);
    lsm_status status = txn_scan_down(&it->scan, to, &it->error);
    if (status != LSM_OK)
        iter_failed(it, status);
}

/* ---- moving ---------------------------------------------------------------------------------- */

static bool refuse_move(lsm_iter *it)
{
    it->shown = NULL;
    if (it->fork_count != ITER_ENDED)
        iter_failed(it, db_check(it->db, &it->error));
    return false;
}

static inline bool iter_may_move(lsm_iter *it)
{
    return __builtin_expect(it->fork_count == db_fork_count(), 1) || refuse_move(it);
}

void db_iter_end(lsm_iter *it, const char *why)
{
    it->shown = NULL;
    it->fork_count = ITER_ENDED;
    it->status = lsm_fail(&it->error, LSM_INVALID, "%s", why);
}

static void begin_seek(lsm_iter *it)
{
    it->status = LSM_OK;
    it->merged->status = LSM_OK;
    it->shown = NULL;
}

LSM_API void lsm_iter_first(lsm_iter *it)
{
    if (!iter_may_move(it))
        return;
    begin_seek(it);
    if (!walk_from(it, (struct txn_end){.key = buffer_slice(&it->first)}))
        return;
    if (it->has_first)
        iter_seek(it->merged, buffer_slice(&it->first), ENTRY_MAX_TRAILER);
    else
        it->merged->ops->first(it->merged);
    settle_forwards(it, false);
    walked_up(it);
}

LSM_API void lsm_iter_last(lsm_iter *it)
{
    if (!iter_may_move(it))
        return;
    begin_seek(it);
    if (!walk_from(it, upper_end(it)))
        return;
    /* The last entry below (limit, newest) is the last one of a smaller key. */
    if (it->has_limit)
        it->merged->ops->seek_for_prev(it->merged, buffer_slice(&it->limit), ENTRY_MAX_TRAILER);
    else
        it->merged->ops->last(it->merged);
    settle_backwards(it);
    walked_down(it);
}

LSM_API void lsm_iter_seek(lsm_iter *it, lsm_slice key)
{
    if (before_first(it, key)) {
        lsm_iter_first(it);
        return;
    }
    if (!iter_may_move(it))
        return;
    begin_seek(it);
    if (!walk_from(it, (struct txn_end){.key = key}))
        return;
    bool has_own = it->scan.txn != NULL;
    iter_seek(it->merged, key, has_own ? ENTRY_MAX_TRAILER : entry_seek_trailer(it->sequence));
    settle_forwards(it, false);
    walked_up(it);
}

LSM_API void lsm_iter_seek_for_prev(lsm_iter *it, lsm_slice key)
{
    if (past_limit(it, key)) {
        lsm_iter_last(it);
        return;
    }
    if (!iter_may_move(it))
        return;
    begin_seek(it);
    if (!walk_from(it, (struct txn_end){.key = key, .behind = true}))
        return;
    it->merged->ops->seek_for_prev(it->merged, key, 0);
    settle_backwards(it);
    walked_down(it);
}

/* Is this what most entries are: to be shown, as no version of its key came before it? */
static inline bool is_plain(const lsm_iter *it, const struct iter_entry *entry)
{
    return entry_type_of(entry->trailer) == ENTRY_PUT &&
           entry_sequence(entry->trailer) <= it->sequence && entry->head < it->limit_head;
}

static void next_forwards(lsm_iter *it)
{
    struct iter *m = it->merged;
    uint64_t head = m->entry->head;
    lsm_slice key = m->entry->key; /* stays for this step */
    iter_next(m);
    bool same = m->valid && m->entry->head == head && slice_equal(m->entry->key, key);
    if (__builtin_expect(m->valid && !same && is_plain(it, m->entry), 1))
        it->shown = m->entry;
    else if (!same || save_key(it, m->entry))
        settle_forwards(it, same);
}

LSM_API void lsm_iter_next(lsm_iter *it)
{
    if (it->shown == NULL || !iter_may_move(it))
        return;
    if (__builtin_expect(it->backwards, 0)) {
        iter_seek(it->merged, it->saved.key, 0);
        settle_forwards(it, true);
    } else {
        next_forwards(it);
    }
    walked_up(it);
}

LSM_API void lsm_iter_prev(lsm_iter *it)
{
    if (it->shown == NULL || !iter_may_move(it))
        return;
    if (!it->backwards) {
        if (!save_key(it, it->merged->entry))
            return;
        do {
            iter_prev(it->merged);
        } while (it->merged->valid && is_saved_key(it, it->merged->entry));
    }
    settle_backwards(it);
    walked_down(it);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* What it stands on is not there in a child of fork(). */
static inline bool is_shown(const lsm_iter *it)
{
    return it->shown != NULL && it->fork_count == db_fork_count();
}

LSM_API bool lsm_iter_valid(const lsm_iter *it)
{
    return is_shown(it);
}

LSM_API lsm_slice lsm_iter_key(const lsm_iter *it)
{
    if (!is_shown(it))
        return (lsm_slice){NULL, 0};
    return it->shown->key;
}

LSM_API lsm_slice lsm_iter_value(const lsm_iter *it)
{
    if (!is_shown(it) || it->keys_only)
        return (lsm_slice){NULL, 0};
    return it->shown->value;
}

LSM_API lsm_status lsm_iter_status(const lsm_iter *it, lsm_error *err)
{
    if (it->fork_count != db_fork_count() && it->fork_count != ITER_ENDED)
        return db_check(it->db, err);
    if (it->status != LSM_OK)
        status_copy(err, &it->error);
    return it->status;
}

/* ---- making ---------------------------------------------------------------------------------- */

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
    for (size_t i = 0; i < state->memtable_count; i++) {
        /* What is inserted from now on is newer than the iterator's sequence number. */
        if (memtable_entry_count(state->memtables[i]->table) == 0)
            continue;
        lsm_status status =
            memtable_iter_new(state->memtables[i]->table, it->cf, &children[*count], err);
        if (status != LSM_OK)
            return status;
        (*count)++;
    }
    struct table_iter_options options = {.flags = it->table_flags, .readahead = it->readahead};
    size_t table_count = 0;
    lsm_status status = version_iters(family, &options, bound(it->has_first, &it->first),
                                      bound(it->has_limit, &it->limit), children + *count,
                                      &table_count, &it->error);
    *count += table_count;
    if (status != LSM_OK)
        status_copy(err, &it->error);
    return status;
}

/* The merge of all that `state` holds of the iterator's family. */
static lsm_status merge_state(lsm_iter *it, const struct db_state *state, struct iter **merged,
                              lsm_error *err)
{
    const struct version_cf *family = version_find_cf(state->version, it->cf);
    if (family == NULL)
        return lsm_fail(err, LSM_MISSING, "column family %" PRIu32 " of '%s' was dropped", it->cf,
                        it->db->path);
    size_t size = (1 + state->memtable_count + version_iter_count(family)) * sizeof(struct iter *);
    struct iter **children = mem_alloc(size);
    if (children == NULL)
        return lsm_fail_memory(err, size);
    size_t count = 0;
    lsm_slice common = version_common_prefix(family);
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
        db_state_drop(state);
        return status;
    }
    iter_release(it->merged);
    db_state_drop(it->state);
    it->merged = merged;
    it->limit_head =
        it->has_limit ? iter_head(buffer_slice(&it->limit), merged->common) : UINT64_MAX;
    it->state = state;
    if (!it->has_snapshot)
        it->sequence = visible;
    it->shown = NULL;
    it->status = LSM_OK;
    return LSM_OK;
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
    lsm_iter *it = mem_alloc_zeroed(sizeof *it);
    if (it == NULL)
        return lsm_fail_memory(err, sizeof *it);
    it->db = db;
    it->cf = id;
    it->fork_count = db->fork_count;
    it->keys_only = options->keys_only;
    it->readahead = options->readahead;
    it->table_flags = options->no_fill_cache ? TABLE_NO_FILL : 0;
    it->has_snapshot = options->snapshot != NULL;
    it->sequence = it->has_snapshot ? options->snapshot->sequence : 0;
    if (txn != NULL)
        txn_scan_join(&it->scan, txn, it);
    atomic_fetch_add(&db->iterator_count, 1);
    atomic_fetch_add_explicit(&db->slot->report.iterators, 1, memory_order_relaxed);
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
    iter_release(it->merged);
    db_state_drop(it->state);
    if (it->fork_count == db_fork_count()) /* a child has no shared memory */
        atomic_fetch_sub_explicit(&it->db->slot->report.iterators, 1, memory_order_relaxed);
    atomic_fetch_sub(&it->db->iterator_count, 1);
    buffer_release(&it->first);
    buffer_release(&it->limit);
    buffer_release(&it->saved_key);
    buffer_release(&it->saved_value);
    mem_free(it);
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
