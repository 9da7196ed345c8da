/*
 * Validation: no version newer than the transaction's snapshot of any key that it wrote or read,
 * nor in any range that its iterators walked.
 *
 * Only stored versions are asked, by sequence number, in the memtables and tables of the current
 * state: so it does not matter which thread or process wrote them. That is enough because the
 * newest version of a key never goes away while a snapshot is held that is older than it: flush and
 * compaction drop a version only for a newer one, or a deletion that the oldest snapshot sees too
 * (engine/compact/visible.h). A job that listed the snapshots before this one was taken keeps what
 * is newer than the sequence number visible then, and the snapshot is not below that.
 *
 * Most of the work is done without a lock, against everything up to a mark: a sequence number and
 * the place in the active memtable where the next one goes. What is inserted behind the mark is
 * looked through, record by record, under the append lock just before the transaction's own record
 * is appended: a few compares for each. When too much came meanwhile the mark is moved and the
 * search repeated for what is new, without the lock; the last round does whatever is left under it.
 */
#include "engine/db/txn_private.h"

#include "engine/base/hash.h"
#include "engine/base/memory.h"
#include "engine/base/step.h"

#include <stdio.h>
#include <stdlib.h>

#define ROUNDS       4                  /* the last one does not leave anything to a next one */
#define LOCKED_BYTES ((size_t)64 << 10) /* of memtable looked through under the lock */

#define KEY_BYTES_SHOWN 32

/* Ranges put together: sorted, apart from one another. Borrowed from the transaction's. */
struct span {
    uint32_t cf;
    bool is_open;
    lsm_slice low, high;
};

struct mark {
    uint64_t sequence;
    uint64_t memtable; /* id */
    size_t position;   /* in it */
};

struct validation {
    struct db_commit_check check; /* first: it is what the commit gives back */
    lsm_txn *txn;
    struct span *spans; /* owned */
    size_t span_count;
    struct mark mark;
    bool is_last_round;
    bool again;                /* too much is behind the mark */
    uint64_t newest;           /* the version in the way */
    struct db_state *searched; /* under the lock, and given up without it; NULL: none */
};

/* ---- the error ------------------------------------------------------------------------------- */

static void show_key(lsm_slice key, char shown[4 * KEY_BYTES_SHOWN + 4])
{
    const uint8_t *bytes = key.data;
    char *at = shown;
    for (size_t i = 0; i < key.size && i < KEY_BYTES_SHOWN; i++) {
        if (bytes[i] >= 0x20 && bytes[i] < 0x7f && bytes[i] != '\\' && bytes[i] != '\'')
            *at++ = (char)bytes[i];
        else
            at += snprintf(at, 5, "\\x%02x", bytes[i]);
    }
    strcpy(at, key.size > KEY_BYTES_SHOWN ? "..." : "");
}

static lsm_status conflict(struct validation *v, const struct db_state *state, uint32_t cf,
                           lsm_slice key, uint64_t newer, lsm_error *err)
{
    const lsm_txn *txn = v->txn;
    char shown[4 * KEY_BYTES_SHOWN + 4];
    show_key(key, shown);
    v->newest = newer;
    const struct version_cf *family = version_find_cf(state->version, cf);
    const char *how = txn_map_find(&txn->writes, cf, key) != NULL  ? "wrote"
                      : txn_map_find(&txn->reads, cf, key) != NULL ? "read"
                                                                   : "walked over";
    lsm_status status = lsm_fail(
        err, LSM_CONFLICT,
        "key '%s' of column family '%.100s', which the transaction %s, has sequence number %" PRIu64
        ", newer than its snapshot %" PRIu64 "; run the transaction again",
        shown, family == NULL ? "(dropped)" : family->name, how, newer, txn->snapshot->sequence);
    status_numbers(err, txn->snapshot->sequence, newer);
    return status;
}

/* ---- ranges ---------------------------------------------------------------------------------- */

static int span_order(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    if (x->cf != y->cf)
        return x->cf < y->cf ? -1 : 1;
    return slice_compare(x->low, y->low);
}

/* Does `next`, which begins no earlier, begin inside `span` or where it ends? */
static bool span_meets(const struct span *span, const struct span *next)
{
    return span->cf == next->cf && (span->is_open || slice_compare(next->low, span->high) <= 0);
}

static lsm_status collect_spans(struct validation *v, lsm_error *err)
{
    size_t count = 0, kept = 0;
    for (const struct txn_range *r = v->txn->ranges; r != NULL; r = r->next)
        count += r->has_low;
    if (count == 0)
        return LSM_OK;
    v->spans = mem_alloc(count * sizeof *v->spans);
    if (v->spans == NULL)
        return lsm_fail_memory(err, count * sizeof *v->spans);
    count = 0;
    for (const struct txn_range *r = v->txn->ranges; r != NULL; r = r->next) {
        if (r->has_low)
            v->spans[count++] = (struct span){.cf = r->cf,
                                              .is_open = r->is_open,
                                              .low = buffer_slice(&r->low),
                                              .high = buffer_slice(&r->high)};
    }
    qsort(v->spans, count, sizeof *v->spans, span_order);
    for (size_t i = 1; i < count; i++) {
        struct span *last = &v->spans[kept], *next = &v->spans[i];
        if (!span_meets(last, next))
            v->spans[++kept] = *next;
        else if (next->is_open || (!last->is_open && slice_compare(next->high, last->high) > 0)) {
            last->is_open = next->is_open;
            last->high = next->high;
        }
    }
    v->span_count = kept + 1;
    return LSM_OK;
}

/* A bound for interfaces where data NULL means that there is none. */
static lsm_slice bound_of(lsm_slice key)
{
    return key.data == NULL ? LSM_SLICE("", 0) : key;
}

static lsm_slice upper_bound(const struct span *span)
{
    return span->is_open ? LSM_SLICE(NULL, 0) : bound_of(span->high);
}

static bool in_spans(const struct validation *v, uint32_t cf, lsm_slice key)
{
    size_t low = 0, limit = v->span_count; /* the first span that begins behind the key */
    struct span wanted = {.cf = cf, .low = key};
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (span_order(&v->spans[middle], &wanted) <= 0)
            low = middle + 1;
        else
            limit = middle;
    }
    if (low == 0)
        return false;
    const struct span *span = &v->spans[low - 1];
    return span->cf == cf && (span->is_open || slice_compare(key, span->high) < 0);
}

/* ---- search without the lock ----------------------------------------------------------------- */

static lsm_status find_family(const lsm_db *db, const struct db_state *state, uint32_t cf,
                              const struct version_cf **family, lsm_error *err)
{
    *family = version_find_cf(state->version, cf);
    if (*family == NULL)
        return lsm_fail(err, LSM_MISSING, "column family %" PRIu32 " of '%s' was dropped", cf,
                        db->path);
    return LSM_OK;
}

/* The newest version of a key that is above `floor`; 0: none. Sources are asked newest first, and
 * none behind one that has nothing above the floor can have. */
static lsm_status key_newer_than(const struct db_state *state, const struct version_cf *family,
                                 lsm_slice key, uint64_t floor, uint64_t *newest, lsm_error *err)
{
    uint64_t hash = hash_key(key.data, key.size);
    struct memtable_found found;
    *newest = 0;
    for (size_t i = 0; i < state->memtable_count; i++) {
        const struct memtable *mt = state->memtables[i]->table;
        if (memtable_entry_count(mt) == 0)
            continue;
        if (memtable_max_sequence(mt) <= floor)
            return LSM_OK;
        if (memtable_get(mt, family->id, key, hash, ENTRY_MAX_SEQUENCE, &found)) {
            uint64_t sequence = entry_sequence(found.trailer);
            *newest = sequence > floor ? sequence : 0;
            return LSM_OK;
        }
    }
    epoch_enter();
    lsm_status status = version_newer_than(family, key, hash, floor, newest, err);
    epoch_exit();
    return status;
}

static lsm_status find_families(const lsm_db *db, const struct db_state *state,
                                const struct txn_map *map, lsm_error *err)
{
    const struct version_cf *family = NULL;
    lsm_status status = LSM_OK;
    for (const struct txn_node *n = txn_map_first(map); n != NULL && status == LSM_OK;
         n = n->next[0])
        if (family == NULL || family->id != n->cf)
            status = find_family(db, state, n->cf, &family, err);
    return status;
}

/*
 * A drop has no sequence number, so no search finds it. A handle says that its family was dropped
 * only once this process has looked since, which the state here has.
 */
static lsm_status check_families(const struct validation *v, const struct db_state *state,
                                 lsm_error *err)
{
    const lsm_db *db = v->txn->db;
    const struct version_cf *family;
    lsm_status status = find_families(db, state, &v->txn->writes, err);
    if (status == LSM_OK)
        status = find_families(db, state, &v->txn->reads, err);
    for (size_t i = 0; i < v->span_count && status == LSM_OK; i++)
        status = find_family(db, state, v->spans[i].cf, &family, err);
    return status;
}

static lsm_status search_keys(struct validation *v, const struct db_state *state,
                              const struct txn_map *map, uint64_t floor, lsm_error *err)
{
    const struct version_cf *family = NULL;
    for (const struct txn_node *n = txn_map_first(map); n != NULL; n = n->next[0]) {
        uint64_t newest = 0;
        lsm_status status = LSM_OK;
        if (family == NULL || family->id != n->cf)
            status = find_family(v->txn->db, state, n->cf, &family, err);
        if (status == LSM_OK)
            status = key_newer_than(state, family, txn_node_key(n), floor, &newest, err);
        if (status == LSM_OK && newest != 0)
            status = conflict(v, state, n->cf, txn_node_key(n), newest, err);
        if (status != LSM_OK)
            return status;
    }
    return LSM_OK;
}

static lsm_status search_span_in_memtable(struct validation *v, const struct db_state *state,
                                          const struct memtable *mt, const struct span *span,
                                          uint64_t floor, lsm_error *err)
{
    struct iter *it = NULL;
    lsm_status status = memtable_iter_new(mt, span->cf, &it, err);
    if (status != LSM_OK)
        return status;
    iter_seek(it, span->low, ENTRY_MAX_TRAILER);
    for (; it->valid && status == LSM_OK; iter_next(it)) {
        if (!span->is_open && slice_compare(it->entry->key, span->high) >= 0)
            break;
        uint64_t sequence = entry_sequence(it->entry->trailer);
        if (sequence > floor)
            status = conflict(v, state, span->cf, it->entry->key, sequence, err);
    }
    iter_release(it);
    return status;
}

static lsm_status search_span(struct validation *v, const struct db_state *state,
                              const struct span *span, uint64_t floor, lsm_error *err)
{
    for (size_t i = 0; i < state->memtable_count; i++) {
        const struct memtable *mt = state->memtables[i]->table;
        if (memtable_entry_count(mt) == 0)
            continue;
        if (memtable_max_sequence(mt) <= floor)
            return LSM_OK;
        lsm_status status = search_span_in_memtable(v, state, mt, span, floor, err);
        if (status != LSM_OK)
            return status;
    }
    const struct version_cf *family;
    lsm_status status = find_family(v->txn->db, state, span->cf, &family, err);
    if (status != LSM_OK)
        return status;
    struct buffer key = {0};
    uint64_t newest;
    status = version_range_newer_than(family, bound_of(span->low), upper_bound(span), floor, &key,
                                      &newest, err);
    if (status == LSM_OK && newest != 0)
        status = conflict(v, state, span->cf, buffer_slice(&key), newest, err);
    buffer_release(&key);
    return status;
}

/* LSM_CONFLICT when anything in `state` above `floor` must not be there. */
static lsm_status search(struct validation *v, const struct db_state *state, uint64_t floor,
                         lsm_error *err)
{
    lsm_status status = search_keys(v, state, &v->txn->writes, floor, err);
    if (status == LSM_OK)
        status = search_keys(v, state, &v->txn->reads, floor, err);
    for (size_t i = 0; i < v->span_count && status == LSM_OK; i++)
        status = search_span(v, state, &v->spans[i], floor, err);
    return status;
}

/* ---- what came since the mark ---------------------------------------------------------------- */

static uint64_t applied_sequence(lsm_db *db)
{
    return atomic_load_explicit(&db->layout->commit.applied_sequence, memory_order_relaxed);
}

/* Moves the mark to what is there now; *state (held) has all up to it. */
static lsm_status set_mark(struct validation *v, struct db_state **state, lsm_error *err)
{
    lsm_db *db = v->txn->db;
    lsm_status status = db_append_lock_until(db, &v->check.deadline, err);
    if (status != LSM_OK)
        return status;
    status = db_refresh(db, err);
    if (status == LSM_OK) {
        v->mark = (struct mark){.sequence = applied_sequence(db),
                                .memtable = memtable_id(db->active),
                                .position = memtable_position(db->active)};
        *state = db_state_acquire(db);
    }
    shm_unlock(&db->layout->locks.append);
    return status;
}

static lsm_status look_through_locked(struct validation *v, lsm_error *err)
{
    const lsm_txn *txn = v->txn;
    size_t position = v->mark.position;
    struct memtable_entry entry;
    while (memtable_inserted(txn->db->active, &position, &entry)) {
        if (txn_map_find(&txn->writes, entry.cf, entry.key) == NULL &&
            txn_map_find(&txn->reads, entry.cf, entry.key) == NULL &&
            !in_spans(v, entry.cf, entry.key))
            continue;
        epoch_enter();
        lsm_status status = conflict(v, db_state_current(txn->db), entry.cf, entry.key,
                                     entry_sequence(entry.trailer), err);
        epoch_exit();
        return status;
    }
    return LSM_OK;
}

static lsm_status validate_locked(struct db_commit_check *check, lsm_error *err)
{
    struct validation *v = (struct validation *)check;
    lsm_db *db = v->txn->db;
    STEP("transaction: check");
    if (applied_sequence(db) == v->mark.sequence)
        return LSM_OK;
    bool is_same_memtable = memtable_id(db->active) == v->mark.memtable;
    if (!v->is_last_round &&
        (!is_same_memtable || memtable_position(db->active) - v->mark.position > LOCKED_BYTES)) {
        v->again = true;
        return LSM_BUSY;
    }
    if (is_same_memtable)
        return look_through_locked(v, err);
    lsm_status status = db_refresh(db, err);
    if (status != LSM_OK)
        return status;
    v->searched = db_state_acquire(db);
    return search(v, v->searched, v->mark.sequence, err);
}

/*
 * The version that was in the way may be one of a sync write that is not durable yet: nobody sees
 * it, so running the transaction again at once would meet it again. What the wait may fail with is
 * told to the next write.
 */
static void wait_until_visible(lsm_db *db, uint64_t sequence, const struct db_deadline *deadline)
{
    const struct shm_commit *c = &db->layout->commit;
    db_advance_visible(db);
    if (atomic_load(&c->visible_sequence) < sequence &&
        db_log_sync_until(db, atomic_load(&c->staged), deadline, NULL) == LSM_OK)
        db_advance_visible(db);
}

/* ---- the two calls --------------------------------------------------------------------------- */

lsm_status txn_validate(lsm_txn *txn, lsm_error *err)
{
    struct validation v = {.txn = txn};
    lsm_status status = collect_spans(&v, err);
    if (status == LSM_OK) {
        status = db_refresh(txn->db, err);
        struct db_state *state = db_state_acquire(txn->db);
        if (status == LSM_OK)
            status = search(&v, state, txn->snapshot->sequence, err);
        db_state_drop(state);
    }
    mem_free(v.spans);
    return status;
}

lsm_status txn_validate_and_write(lsm_txn *txn, lsm_slice batch, const lsm_write_options *options,
                                  uint64_t *sequence, lsm_error *err)
{
    struct validation v = {
        .check.run_locked = validate_locked, .txn = txn, .mark.sequence = txn->snapshot->sequence};
    if (options != NULL && options->timeout_ms != 0)
        db_deadline_set(&v.check.deadline, options->timeout_ms);
    lsm_status status = collect_spans(&v, err);
    for (unsigned round = 1; status == LSM_OK; round++) {
        uint64_t floor = v.mark.sequence;
        struct db_state *state = NULL;
        status = set_mark(&v, &state, err);
        if (status == LSM_OK)
            status = check_families(&v, state, err);
        if (status == LSM_OK && v.mark.sequence > floor)
            status = search(&v, state, floor, err);
        db_state_drop(state);
        if (status != LSM_OK)
            break;
        v.again = false;
        v.is_last_round = round == ROUNDS;
        status = db_commit_batch(txn->db, batch, options, &v.check, err);
        db_state_drop(v.searched);
        v.searched = NULL;
        if (!v.again)
            break;
        status = LSM_OK;
    }
    if (status == LSM_CONFLICT && (options == NULL || !options->no_wait))
        wait_until_visible(txn->db, v.newest, &v.check.deadline);
    if (v.check.sequence != 0)
        *sequence = v.check.sequence;
    mem_free(v.spans);
    return status;
}
