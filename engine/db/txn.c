/*
 * Transactions: the calls. Writes stay in a private map until the commit; reads look there first
 * and then at the snapshot. What validation needs to know is kept beside: the keys that were read
 * (`reads`), and the ranges that iterators walked over.
 *
 * Versions of a key are kept apart only where somebody may want the older one: a savepoint, or an
 * open iterator. Otherwise the newer one takes its place.
 */
#include "engine/db/txn_private.h"

#include "engine/base/memory.h"
#include "engine/db/batch_private.h"

#define TXN_MAGIC                UINT32_C(0x6c736d74)
#define TXN_DEFAULT_MEMORY_LIMIT ((size_t)64 << 20)

/* ---- checks ---------------------------------------------------------------------------------- */

static const char *const ended_texts[] = {
    [TXN_COMMITTED] = "the transaction was committed; begin another one",
    [TXN_ROLLED_BACK] = "the transaction was rolled back; begin another one",
    [TXN_UNKNOWN] = "the transaction ended with a failed sync; reopen the database",
    [TXN_PENDING] = "the transaction was written, but was not durable or visible in time; look at "
                    "what it wrote, and begin another one",
};

static lsm_status txn_check(const lsm_txn *txn, lsm_error *err)
{
    if (txn == NULL)
        return lsm_fail(err, LSM_INVALID, "the transaction is NULL");
    if (txn->magic != TXN_MAGIC)
        return lsm_fail(err, LSM_INVALID, "the transaction is not one that lsm_txn_begin() gave");
    if (txn->state != TXN_ACTIVE) /* its database may be closed by now */
        return lsm_fail(err, LSM_INVALID, "%s", ended_texts[txn->state]);
    return db_check(txn->db, err);
}

static size_t memory_used(const lsm_txn *txn)
{
    return txn->writes.size_bytes + txn->reads.size_bytes + txn->range_bytes + txn->undo.size +
           txn->savepoints.size;
}

lsm_status txn_check_memory(const lsm_txn *txn, size_t extra, lsm_error *err)
{
    size_t used = memory_used(txn);
    if (used <= txn->memory_limit && extra <= txn->memory_limit - used)
        return LSM_OK;
    lsm_status status = lsm_fail(
        err, LSM_TOO_LARGE,
        "the transaction holds %zu bytes of writes and reads and wants %zu more, its limit "
        "is %zu; do less in one, or raise memory_limit of lsm_txn_options",
        used, extra, txn->memory_limit);
    status_numbers(err, txn->memory_limit, used + extra);
    return status;
}

/* ---- begin and end --------------------------------------------------------------------------- */

static lsm_status check_options(const lsm_txn_options *options, lsm_error *err)
{
    if (options->struct_size != sizeof *options)
        return lsm_fail(err, LSM_INVALID,
                        "lsm_txn_options.struct_size is %zu, expected %zu; begin with "
                        "LSM_TXN_OPTIONS_INIT",
                        options->struct_size, sizeof *options);
    if (options->isolation != LSM_TXN_SNAPSHOT && options->isolation != LSM_TXN_SERIALIZABLE)
        return lsm_fail(err, LSM_INVALID,
                        "the isolation %d is neither LSM_TXN_SNAPSHOT nor "
                        "LSM_TXN_SERIALIZABLE",
                        (int)options->isolation);
    return LSM_OK;
}

LSM_API lsm_status lsm_txn_begin(lsm_db *db, const lsm_txn_options *options, lsm_txn **txn,
                                 lsm_error *err)
{
    static const lsm_txn_options defaults = LSM_TXN_OPTIONS_INIT;
    if (options == NULL)
        options = &defaults;
    lsm_status status = db_check(db, err);
    if (status == LSM_OK)
        status = check_options(options, err);
    if (status != LSM_OK)
        return status;
    if (txn == NULL)
        return lsm_fail(err, LSM_INVALID, "the place for the transaction is NULL");
    lsm_txn *t = mem_alloc_zeroed(sizeof *t);
    if (t == NULL)
        return lsm_fail_memory(err, sizeof *t);
    status = lsm_snapshot_acquire(db, &t->snapshot, err);
    if (status != LSM_OK) {
        mem_free(t);
        return status;
    }
    t->magic = TXN_MAGIC;
    t->db = db;
    t->isolation = options->isolation;
    t->memory_limit = options->memory_limit == 0 ? TXN_DEFAULT_MEMORY_LIMIT : options->memory_limit;
    t->sequence = lsm_snapshot_sequence(t->snapshot);
    t->writes.random = t->reads.random = random_seeded(t->sequence ^ (uintptr_t)t);
    *txn = t;
    return LSM_OK;
}

static void end_iterators(lsm_txn *txn, uint64_t operation, const char *why)
{
    struct txn_scan *next;
    for (struct txn_scan *scan = txn->scans; scan != NULL; scan = next) {
        next = scan->next;
        if (scan->operation <= operation)
            continue;
        lsm_iter *it = scan->iter;
        txn_scan_leave(scan);
        db_iter_end(it, why);
    }
}

static void end_all_iterators(lsm_txn *txn)
{
    while (txn->scans != NULL) {
        lsm_iter *it = txn->scans->iter;
        txn_scan_leave(txn->scans);
        db_iter_end(it, "the iterator's transaction has ended");
    }
}

static void txn_end(lsm_txn *txn, enum txn_state state)
{
    end_all_iterators(txn);
    txn_map_release(&txn->writes);
    txn_map_release(&txn->reads);
    txn_ranges_release(txn);
    buffer_release(&txn->undo);
    buffer_release(&txn->savepoints);
    lsm_snapshot_release(txn->db, txn->snapshot);
    txn->snapshot = NULL;
    txn->state = state;
}

LSM_API void lsm_txn_free(lsm_txn *txn)
{
    if (txn == NULL || txn->magic != TXN_MAGIC)
        return;
    if (txn->state == TXN_ACTIVE)
        txn_end(txn, TXN_ROLLED_BACK);
    txn->magic = 0;
    mem_free(txn);
}

LSM_API lsm_status lsm_txn_rollback(lsm_txn *txn, lsm_error *err)
{
    lsm_status status = txn_check(txn, err);
    if (status == LSM_OK)
        txn_end(txn, TXN_ROLLED_BACK);
    return status;
}

LSM_API uint64_t lsm_txn_sequence(const lsm_txn *txn)
{
    return txn->sequence;
}

/* ---- writes ---------------------------------------------------------------------------------- */

static bool last_savepoint(const lsm_txn *txn, uint64_t *operation)
{
    if (txn->savepoints.size == 0)
        return false;
    memcpy(operation, txn->savepoints.data + txn->savepoints.size - sizeof *operation,
           sizeof *operation);
    return true;
}

/* May nobody want the key's newest version once there is a newer one? */
static bool may_replace(const lsm_txn *txn, const struct txn_node *node)
{
    uint64_t kept = 0;
    (void)last_savepoint(txn, &kept);
    return node != NULL && node->newest != NULL && node->newest->operation > kept &&
           txn->scans == NULL;
}

static lsm_status check_room(lsm_txn *txn, const struct txn_node *node, lsm_slice key,
                             lsm_slice value, bool replace, lsm_error *err)
{
    if (node == NULL && txn->writes.count >= LSM_MAX_BATCH_COUNT)
        return lsm_fail(err, LSM_TOO_LARGE, "a transaction writes at most %" PRIu32 " keys",
                        LSM_MAX_BATCH_COUNT);
    size_t extra = txn_version_size(value.size);
    if (node == NULL)
        extra += txn_node_size(key.size);
    if (!replace)
        extra += sizeof node;
    lsm_status status = txn_check_memory(txn, extra, err);
    if (status == LSM_OK && !replace && !buffer_reserve(&txn->undo, sizeof node)) {
        txn->undo.failed = false;
        status = lsm_fail_memory(err, sizeof node);
    }
    return status;
}

static lsm_status txn_write(lsm_txn *txn, enum entry_type type, lsm_cf *cf, lsm_slice key,
                            lsm_slice value, lsm_error *err)
{
    uint32_t id;
    lsm_status status = txn_check(txn, err);
    if (status == LSM_OK)
        status = db_check_write(txn->db, err);
    if (status == LSM_OK)
        status = db_check_cf(txn->db, cf, &id, err);
    if (status == LSM_OK)
        status = batch_check_entry(key, value, err);
    if (status != LSM_OK)
        return status;
    struct txn_node *node = txn_map_find(&txn->writes, id, key);
    bool replace = may_replace(txn, node);
    status = check_room(txn, node, key, value, replace, err);
    if (status != LSM_OK)
        return status;
    if (node == NULL && (node = txn_map_take(&txn->writes, id, cf, key)) == NULL)
        return lsm_fail_memory(err, txn_node_size(key.size));
    if (!txn_map_push(&txn->writes, node, txn->operation + 1, type, value, replace)) {
        if (node->newest == NULL)
            txn_map_remove(&txn->writes, node);
        return lsm_fail_memory(err, txn_version_size(value.size));
    }
    if (!replace) {
        txn->operation++;
        buffer_append(&txn->undo, &node, sizeof node);
    }
    return LSM_OK;
}

LSM_API lsm_status lsm_txn_put(lsm_txn *txn, lsm_cf *cf, lsm_slice key, lsm_slice value,
                               lsm_error *err)
{
    return txn_write(txn, ENTRY_PUT, cf, key, value, err);
}

LSM_API lsm_status lsm_txn_delete(lsm_txn *txn, lsm_cf *cf, lsm_slice key, lsm_error *err)
{
    return txn_write(txn, ENTRY_DELETE, cf, key, (lsm_slice){NULL, 0}, err);
}

/* ---- savepoints ------------------------------------------------------------------------------ */

LSM_API lsm_status lsm_txn_savepoint(lsm_txn *txn, lsm_error *err)
{
    lsm_status status = txn_check(txn, err);
    if (status == LSM_OK)
        status = txn_check_memory(txn, sizeof txn->operation, err);
    if (status != LSM_OK)
        return status;
    buffer_append(&txn->savepoints, &txn->operation, sizeof txn->operation);
    if (txn->savepoints.failed) {
        txn->savepoints.failed = false;
        return lsm_fail_memory(err, sizeof txn->operation);
    }
    return LSM_OK;
}

static lsm_status take_savepoint(lsm_txn *txn, uint64_t *operation, lsm_error *err)
{
    lsm_status status = txn_check(txn, err);
    if (status != LSM_OK)
        return status;
    if (!last_savepoint(txn, operation))
        return lsm_fail(err, LSM_INVALID, "the transaction has no savepoint");
    txn->savepoints.size -= sizeof *operation;
    return LSM_OK;
}

static void take_back_last(lsm_txn *txn)
{
    struct txn_node *node;
    txn->undo.size -= sizeof node;
    memcpy(&node, txn->undo.data + txn->undo.size, sizeof node);
    txn_map_pop(&txn->writes, node);
    if (node->newest == NULL)
        txn_map_remove(&txn->writes, node);
    txn->operation--;
}

LSM_API lsm_status lsm_txn_rollback_to_savepoint(lsm_txn *txn, lsm_error *err)
{
    uint64_t operation = 0;
    lsm_status status = take_savepoint(txn, &operation, err);
    if (status != LSM_OK)
        return status;
    end_iterators(txn, operation,
                  "the iterator's transaction was rolled back to a savepoint that is older than "
                  "writes that the iterator shows");
    while (txn->operation > operation)
        take_back_last(txn);
    return LSM_OK;
}

LSM_API lsm_status lsm_txn_release_savepoint(lsm_txn *txn, lsm_error *err)
{
    uint64_t operation;
    return take_savepoint(txn, &operation, err);
}

/* ---- reads ----------------------------------------------------------------------------------- */

/* The caller's options with the transaction's snapshot. */
static lsm_status own_options(const lsm_txn *txn, const lsm_read_options *given,
                              lsm_read_options *own, lsm_error *err)
{
    *own = given == NULL ? (lsm_read_options){.snapshot = NULL} : *given;
    if (own->snapshot != NULL)
        return lsm_fail(err, LSM_INVALID,
                        "a transaction reads at its own snapshot; leave that of the options NULL");
    own->snapshot = txn->snapshot;
    return LSM_OK;
}

static lsm_status check_read(lsm_txn *txn, lsm_cf *cf, const lsm_read_options *given, uint32_t *id,
                             lsm_read_options *own, lsm_error *err)
{
    lsm_status status = txn_check(txn, err);
    if (status == LSM_OK)
        status = db_check_cf(txn->db, cf, id, err);
    return status == LSM_OK ? own_options(txn, given, own, err) : status;
}

/* The newest version that the transaction wrote itself, or NULL. */
static const struct txn_version *own_version(const lsm_txn *txn, uint32_t cf, lsm_slice key)
{
    const struct txn_node *node = txn_map_find(&txn->writes, cf, key);
    return node == NULL ? NULL : node->newest;
}

/* The key must not have changed when the transaction commits. */
static lsm_status remember_key(lsm_txn *txn, uint32_t cf, lsm_cf *family, lsm_slice key,
                               lsm_error *err)
{
    if (txn_map_find(&txn->reads, cf, key) != NULL)
        return LSM_OK;
    lsm_status status = txn_check_memory(txn, txn_node_size(key.size), err);
    if (status == LSM_OK && txn_map_take(&txn->reads, cf, family, key) == NULL)
        status = lsm_fail_memory(err, txn_node_size(key.size));
    return status;
}

/* Looks among the own writes; NULL: not there, and the read that follows is remembered. */
static lsm_status read_own(lsm_txn *txn, uint32_t id, lsm_cf *cf, lsm_slice key,
                           const struct txn_version **own, lsm_error *err)
{
    lsm_status status = db_check_key(key, err);
    if (status != LSM_OK)
        return status;
    *own = own_version(txn, id, key);
    if (*own == NULL && txn->isolation == LSM_TXN_SERIALIZABLE)
        status = remember_key(txn, id, cf, key, err);
    return status;
}

static lsm_status pin_own(const struct txn_version *own, lsm_pin *pin, lsm_error *err)
{
    void *copy = NULL;
    if (own->type == ENTRY_PUT) {
        copy = mem_alloc(own->value_size);
        if (copy == NULL)
            return lsm_fail_memory(err, own->value_size);
        bytes_copy(copy, own->value, own->value_size);
    }
    lsm_pin_release(pin);
    if (own->type == ENTRY_PUT)
        *pin = (lsm_pin){.value = {copy, own->value_size}, .found = true, .owner = {copy, NULL}};
    return LSM_OK;
}

LSM_API lsm_status lsm_txn_get(lsm_txn *txn, lsm_cf *cf, lsm_slice key,
                               const lsm_read_options *options, lsm_pin *pin, lsm_error *err)
{
    uint32_t id;
    lsm_read_options at_snapshot;
    const struct txn_version *own = NULL;
    lsm_status status = check_read(txn, cf, options, &id, &at_snapshot, err);
    if (status != LSM_OK)
        return status;
    if (pin == NULL)
        return lsm_fail(err, LSM_INVALID, "the place for the value is NULL");
    status = read_own(txn, id, cf, key, &own, err);
    if (status != LSM_OK)
        return status;
    return own != NULL ? pin_own(own, pin, err) : lsm_get(txn->db, cf, key, &at_snapshot, pin, err);
}

LSM_API lsm_status lsm_txn_get_for_update(lsm_txn *txn, lsm_cf *cf, lsm_slice key,
                                          const lsm_read_options *options, lsm_pin *pin,
                                          lsm_error *err)
{
    uint32_t id;
    lsm_read_options at_snapshot;
    lsm_status status = check_read(txn, cf, options, &id, &at_snapshot, err);
    if (status == LSM_OK)
        status = db_check_key(key, err);
    if (status == LSM_OK)
        status = remember_key(txn, id, cf, key, err);
    if (status != LSM_OK)
        return status;
    txn->reads_for_update = true;
    return lsm_txn_get(txn, cf, key, options, pin, err);
}

LSM_API lsm_status lsm_txn_get_into(lsm_txn *txn, lsm_cf *cf, lsm_slice key,
                                    const lsm_read_options *options, void *buffer, size_t capacity,
                                    size_t *size, lsm_error *err)
{
    uint32_t id;
    lsm_read_options at_snapshot;
    const struct txn_version *own = NULL;
    lsm_status status = check_read(txn, cf, options, &id, &at_snapshot, err);
    if (status != LSM_OK)
        return status;
    if (size == NULL || (buffer == NULL && capacity > 0))
        return lsm_fail(err, LSM_INVALID, "the place for the value or for its size is NULL");
    status = read_own(txn, id, cf, key, &own, err);
    if (status != LSM_OK)
        return status;
    if (own == NULL)
        return lsm_get_into(txn->db, cf, key, &at_snapshot, buffer, capacity, size, err);
    *size = own->type == ENTRY_PUT ? own->value_size : LSM_ABSENT;
    if (own->type == ENTRY_PUT && capacity > 0)
        bytes_copy(buffer, own->value, own->value_size < capacity ? own->value_size : capacity);
    return LSM_OK;
}

/* Own writes over what was found in the database. */
static lsm_status pin_own_many(const lsm_txn *txn, uint32_t cf, size_t count, const lsm_slice *keys,
                               lsm_pin *pins, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < count && status == LSM_OK; i++) {
        const struct txn_version *own = own_version(txn, cf, keys[i]);
        if (own != NULL)
            status = pin_own(own, &pins[i], err);
    }
    for (size_t i = 0; i < count && status != LSM_OK; i++)
        lsm_pin_release(&pins[i]);
    return status;
}

LSM_API lsm_status lsm_txn_multi_get(lsm_txn *txn, lsm_cf *cf, size_t count, const lsm_slice *keys,
                                     const lsm_read_options *options, lsm_pin *pins, lsm_error *err)
{
    uint32_t id;
    lsm_read_options at_snapshot;
    const struct txn_version *own;
    lsm_status status = check_read(txn, cf, options, &id, &at_snapshot, err);
    if (status != LSM_OK)
        return status;
    if (count > 0 && (keys == NULL || pins == NULL))
        return lsm_fail(err, LSM_INVALID, "the array of keys or of values is NULL");
    for (size_t i = 0; i < count && status == LSM_OK; i++)
        status = read_own(txn, id, cf, keys[i], &own, err);
    if (status == LSM_OK)
        status = lsm_multi_get(txn->db, cf, count, keys, &at_snapshot, pins, err);
    return status == LSM_OK ? pin_own_many(txn, id, count, keys, pins, err) : status;
}

LSM_API lsm_status lsm_txn_iter_open(lsm_txn *txn, lsm_cf *cf, const lsm_read_options *options,
                                     lsm_iter **iter, lsm_error *err)
{
    uint32_t id;
    lsm_read_options at_snapshot;
    lsm_status status = check_read(txn, cf, options, &id, &at_snapshot, err);
    return status == LSM_OK ? db_iter_open(txn->db, cf, &at_snapshot, txn, iter, err) : status;
}

/* ---- commit ---------------------------------------------------------------------------------- */

/* The writes as a batch, one entry a key. */
static lsm_status make_batch(const lsm_txn *txn, struct buffer *batch, lsm_error *err)
{
    buffer_append_u32(batch, 0);
    const struct txn_node *before = NULL;
    for (const struct txn_node *n = txn_map_first(&txn->writes); n != NULL; n = n->next[0]) {
        uint32_t id;
        lsm_status status = LSM_OK;
        if (before == NULL || before->cf != n->cf)
            status = db_check_cf(txn->db, n->family, &id, err);
        if (status != LSM_OK)
            return status;
        batch_append(batch, n->newest->type, n->cf, txn_node_key(n),
                     LSM_SLICE(n->newest->value, n->newest->value_size));
        before = n;
    }
    return batch->failed ? lsm_fail_memory(err, txn->writes.size_bytes) : LSM_OK;
}

static lsm_status commit_writes(lsm_txn *txn, const lsm_write_options *options, lsm_error *err)
{
    struct buffer batch = {0};
    uint64_t sequence = 0;
    lsm_status status = db_check_write(txn->db, err);
    if (status == LSM_OK)
        status = make_batch(txn, &batch, err);
    if (status == LSM_OK)
        status = txn_validate_and_write(txn, buffer_slice(&batch), options, &sequence, err);
    buffer_release(&batch);
    if (sequence != 0) {
        txn->sequence = sequence;
        txn_end(txn, status == LSM_OK        ? TXN_COMMITTED
                     : status == LSM_PENDING ? TXN_PENDING
                                             : TXN_UNKNOWN);
    }
    return status;
}

LSM_API lsm_status lsm_txn_commit(lsm_txn *txn, const lsm_write_options *options, lsm_error *err)
{
    lsm_status status = txn_check(txn, err);
    if (status != LSM_OK)
        return status;
    if (txn->writes.count > 0)
        return commit_writes(txn, options, err);
    /* What was read was true at the snapshot: only a promise about now needs a look. */
    if (txn->reads_for_update)
        status = txn_validate(txn, err);
    if (status == LSM_OK)
        txn_end(txn, TXN_COMMITTED);
    return status;
}
