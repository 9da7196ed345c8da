/*
 * The public iterator: over the merge of memtables and tables it shows, of every user key, the
 * newest version at or below its sequence number, unless that is a deletion.
 *
 * Forwards the merge stands on the entry that is shown, so key and value are borrowed from it.
 * Backwards the versions of a key come oldest first, so the one to show is only known when the walk
 * has left the key: the merge stands in front of the key that is shown, whose memory stays for that
 * step.
 *
 * A transaction's iterator has its own writes as one more source, under a sequence number above all
 * others, and tells the transaction what it walks over.
 */
#include "engine/db/iterator_private.h"

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

static inline bool is_key_of(const struct iter_entry *a, const struct iter_entry *b)
{
    return a->head == b->head && slice_equal(a->key, b->key);
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

static inline bool has_value(const struct iter_entry *entry)
{
    enum entry_type type = entry_type_of(entry->trailer);
    return type == ENTRY_PUT || type == ENTRY_BLOB;
}

/* Shows the entry, with its value at hand: who asks for that cannot be told of a failure. */
static void show(lsm_iter *it, const struct iter_entry *entry)
{
    it->shown = entry;
    if (entry_type_of(entry->trailer) != ENTRY_BLOB || it->keys_only)
        return;
    it->values.version = it->state->version;
    it->values.options =
        (struct table_iter_options){.flags = it->table_flags, .readahead = it->readahead};
    lsm_status status = value_reader_get(&it->values, entry->key, entry->trailer, entry->value,
                                         &it->blob_value, &it->error);
    if (status != LSM_OK)
        iter_failed(it, status);
}

/* ---- forwards -------------------------------------------------------------------------------- */

/*
 * From the merge's place on, the next key to show; versions of the key `left` (NULL: of none) are
 * passed. Where the walk has just been, a key stays for one step, and the versions of a key are
 * neighbours, newest first: so what is passed is compared with the entry before it, and not copied.
 */
static void settle_forwards(lsm_iter *it, const struct iter_entry *left)
{
    struct iter *m = it->merged;
    bool has_left = left != NULL;
    struct iter_entry last = has_left ? *left : (struct iter_entry){.head = 0};
    it->backwards = false;
    it->shown = NULL;
    for (; m->valid; iter_next(m)) {
        const struct iter_entry *entry = m->entry;
        if (has_left && is_key_of(&last, entry)) {
            last.key = entry->key;
            continue;
        }
        has_left = !is_unseen(it, entry);
        if (!has_left)
            continue;
        if (past_limit(it, entry->key))
            return;
        if (has_value(entry)) {
            show(it, entry);
            return;
        }
        it->owed.deletes_ns += COMPACT_DELETE_NS;
        last.head = entry->head;
        last.key = entry->key;
    }
    if (m->status != LSM_OK)
        iter_failed(it, m->status);
}

/* ---- backwards ------------------------------------------------------------------------------- */

/* Makes copies of what is to be shown: the merge will move on more than a step. */
static bool keep_saved(lsm_iter *it)
{
    if (!save(it, &it->saved_value, it->saved.value) || !save(it, &it->saved_key, it->saved.key))
        return false;
    it->saved.key = buffer_slice(&it->saved_key);
    it->saved.value = buffer_slice(&it->saved_value);
    return true;
}

/*
 * From the merge's place on towards the beginning, the next key to show. The versions of a key are
 * neighbours, oldest first; the one to show is known when another key comes, one step behind it
 * unless newer versions are not to be seen, so that most of the time nothing is copied.
 */
static void settle_backwards(lsm_iter *it)
{
    struct iter *m = it->merged;
    struct iter_entry last = {.head = 0};
    bool has_last = false, has_saved = false, is_kept = false;
    it->backwards = true;
    it->shown = NULL;
    for (; m->valid; iter_prev(m)) {
        const struct iter_entry *entry = m->entry;
        bool same = has_last && is_key_of(&last, entry);
        if (!same && (has_saved || before_first(it, entry->key)))
            break;
        if (!is_unseen(it, entry)) {
            has_saved = has_value(entry);
            is_kept = !has_saved;
            it->saved = *entry;
        } else if (has_saved && !is_kept) {
            if (!keep_saved(it))
                return;
            is_kept = true;
        }
        last.head = entry->head;
        last.key = entry->key;
        has_last = true;
    }
    if (m->status != LSM_OK)
        iter_failed(it, m->status);
    else if (has_saved)
        show(it, &it->saved);
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

void db_iter_pay(lsm_iter *it)
{
    if (compact_reads_sum(&it->owed) == 0 || it->state == NULL)
        return;
    db_reads_pay(it->db, it->state, it->cf, &it->owed);
    it->owed = (struct compact_reads){0, 0, 0};
}

/* A merge helps no walk that has begun, so paying waits for the next seek. */
static inline void owe_seek(lsm_iter *it)
{
    it->owed.runs_ns += it->seek_cost.runs_ns;
    it->owed.memory_ns += it->seek_cost.memory_ns;
    if (__builtin_expect(compact_reads_sum(&it->owed) >= READ_PAYMENT_NS, 0))
        db_iter_pay(it);
}

/* Counts the entries that a step forwards has brought, unless they are of the array that was
 * counted last: while the walk is in it, its end stays the same. */
static inline void owe_steps(lsm_iter *it)
{
    const struct iter *m = it->merged;
    const struct iter_entry *end = m->entry + m->run;
    if (end == it->counted_end)
        return;
    it->owed.runs_ns += (1 + m->run) * it->step_cost.runs_ns;
    it->owed.memory_ns += (1 + m->run) * it->step_cost.memory_ns;
    it->counted_end = end;
}

static void begin_seek(lsm_iter *it)
{
    owe_seek(it);
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
    settle_forwards(it, NULL);
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
    epoch_enter(); /* once instead of in every source */
    iter_seek(it->merged, key, has_own ? ENTRY_MAX_TRAILER : entry_seek_trailer(it->sequence));
    epoch_exit();
    settle_forwards(it, NULL);
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

static inline bool is_plain_backwards(const lsm_iter *it, const struct iter_entry *entry)
{
    return entry_type_of(entry->trailer) == ENTRY_PUT &&
           entry_sequence(entry->trailer) <= it->sequence &&
           (!it->has_first || entry->head > it->first_head);
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
    else
        settle_forwards(it, same ? m->entry : NULL);
}

static __attribute__((noinline)) void next_by_any_way(lsm_iter *it)
{
    if (it->shown == NULL || !iter_may_move(it))
        return;
    if (it->backwards) {
        it->saved = *it->shown;
        if (!keep_saved(it))
            return;
        iter_seek(it->merged, it->saved.key, 0);
        settle_forwards(it, &it->saved);
    } else {
        next_forwards(it);
    }
    if (it->counts_steps)
        owe_steps(it);
    walked_up(it);
}

/* The most common step calls nothing: to an entry in memory that is plain and has another head. */
LSM_API void lsm_iter_next(lsm_iter *it)
{
    struct iter *m = it->merged;
    const struct iter_entry *shown = it->shown;
    bool is_simple = shown != NULL && !it->backwards && !it->scan.is_tracking && m->run > 0 &&
                     it->fork_count == db_fork_count();
    if (__builtin_expect(is_simple && shown[1].head != shown->head && is_plain(it, &shown[1]), 1)) {
        m->run--;
        it->shown = m->entry = shown + 1;
        return;
    }
    next_by_any_way(it);
}

/* Turns a walk forwards around: from the key that is shown to the one before it. */
static void turn_back(lsm_iter *it)
{
    struct iter *m = it->merged;
    struct iter_entry last; /* its key stays for one step, as the next one's */
    do {
        last = *m->entry;
        iter_prev(m);
    } while (m->valid && is_key_of(&last, m->entry));
}

static __attribute__((noinline)) void prev_by_any_way(lsm_iter *it)
{
    if (it->shown == NULL || !iter_may_move(it))
        return;
    if (!it->backwards)
        turn_back(it);
    settle_backwards(it);
    walked_down(it);
}

/* As lsm_iter_next(): to an entry in memory that is plain, with an entry of another head before it,
 * which the merge then stands on. */
LSM_API void lsm_iter_prev(lsm_iter *it)
{
    struct iter *m = it->merged;
    const struct iter_entry *entry = m->entry;
    bool is_simple = it->shown != NULL && it->backwards && !it->scan.is_tracking && m->back > 0 &&
                     it->fork_count == db_fork_count();
    if (__builtin_expect(
            is_simple && entry[-1].head != entry->head && is_plain_backwards(it, entry), 1)) {
        m->back--;
        m->entry = entry - 1;
        it->shown = entry;
        return;
    }
    prev_by_any_way(it);
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
    return entry_type_of(it->shown->trailer) == ENTRY_BLOB ? it->blob_value : it->shown->value;
}

LSM_API lsm_status lsm_iter_status(const lsm_iter *it, lsm_error *err)
{
    if (it->fork_count != db_fork_count() && it->fork_count != ITER_ENDED)
        return db_check(it->db, err);
    if (it->status != LSM_OK)
        status_copy(err, &it->error);
    return it->status;
}
