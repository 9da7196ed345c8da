/*
 * Point reads. One key: the memtables newest first, then the tables, and the first version at or
 * below the read's sequence number decides. The state is loaded before the sequence number: what a
 * flush or compaction dropped from a state was invisible to every number read after it.
 *
 * Nothing is allocated here: a value is copied out inside the epoch, or pinned by a reference on
 * the memtable or block that holds it.
 */
#include "engine/db/read_account.h"
#include "engine/db/read_private.h"

#include "engine/base/hash.h"
#include "engine/base/memory.h"
#include "engine/version/search.h"

#include <assert.h>

/* The filters of memtables and tables are on their way to the cache before one is asked. */
static lsm_status find(lsm_db *db, const struct reading *r, lsm_slice key, struct hit *hit,
                       lsm_error *err)
{
    uint64_t hash = hash_key(key.data, key.size);
    for (size_t i = 0; i < r->state->memtable_count; i++)
        memtable_prefetch(r->state->memtables[i]->table, r->cf, hash);
    const struct version_cf *family = version_find_cf(r->state->version, r->cf);
    struct version_lookup lookup;
    if (family != NULL)
        version_lookup_begin(&lookup, r->state->version, family, key, hash, r->sequence);
    if (find_in_memtables(r, key, hash, hit))
        return LSM_OK;
    if (family == NULL)
        return dropped_family(db, r->cf, err);
    bool is_found = false;
    struct table_found found;
    lsm_status status = version_lookup_end(&lookup, hash, r->table_flags, &is_found, &found, err);
    if (status != LSM_OK)
        return status;
    hit_from_table(hit, is_found, &found);
    if (read_is_sampled(1))
        db_read_sample(r->state, &lookup.walk, hit_sequence(hit));
    return LSM_OK;
}

LSM_API void lsm_pin_release(lsm_pin *pin)
{
    if (pin == NULL || !pin->found)
        return;
    lsm_db *db = pin->owner[1];
    if (db == NULL) { /* a copy of what a transaction wrote */
        mem_free(pin->owner[0]);
        *pin = (lsm_pin)LSM_PIN_INIT;
        return;
    }
    struct db_memtable *memtable = pin->owner[0] == NULL ? pin->owner[1] : NULL;
    if (memtable != NULL)
        db = memtable->db;
    if (db->fork_count != db_fork_count()) { /* what it holds is the parent's */
        *pin = (lsm_pin)LSM_PIN_INIT;
        return;
    }
    if (memtable != NULL)
        db_memtable_drop(memtable);
    else
        block_drop(pin->owner[0]);
    /* Release: lsm_close() that reads 0 may free what the pin held. */
    atomic_fetch_sub_explicit(&db->pin_count, 1, memory_order_release);
    *pin = (lsm_pin)LSM_PIN_INIT;
}

/* The memtable of this database that the pin uses; NULL: none. */
static inline struct db_memtable *pinned_memtable(const lsm_db *db, const lsm_pin *pin)
{
    if (pin->owner[0] != NULL || pin->owner[1] == NULL)
        return NULL;
    struct db_memtable *memtable = pin->owner[1];
    return memtable->db == db ? memtable : NULL;
}

/*
 * Makes a pin that holds something of the same kind hold the hit: what was counted for the one
 * counts for the other, so that a loop of gets into one pin counts next to nothing. False when it
 * does not; nothing was done then. Inside the epoch of the search.
 */
static inline bool hit_pin_instead(lsm_db *db, const struct hit *hit, lsm_pin *pin)
{
    if (!pin->found || !hit_is_value(hit))
        return false;
    if (hit->memtable != NULL && pinned_memtable(db, pin) == hit->memtable) {
        pin->value = hit->value;
        return true;
    }
    if (hit->memtable == NULL && pin->owner[1] == db) {
        struct block *before = pin->owner[0];
        (void)hit_hold(db, hit, pin);
        block_drop(before);
        return true;
    }
    return false;
}

LSM_API lsm_status lsm_get(lsm_db *db, lsm_cf *cf, lsm_slice key, const lsm_read_options *options,
                           lsm_pin *pin, lsm_error *err)
{
    uint32_t id;
    lsm_status status = check_read(db, cf, &id, err);
    if (status == LSM_OK)
        status = db_check_key(key, err);
    if (status != LSM_OK)
        return status;
    if (pin == NULL)
        return lsm_fail(err, LSM_INVALID, "the place for the value is NULL");
    epoch_enter();
    struct reading r = reading_begin(db, id, options);
    struct hit hit;
    status = find(db, &r, key, &hit, err);
    lsm_pin fresh = LSM_PIN_INIT;
    bool is_pinned = status == LSM_OK && hit_pin_instead(db, &hit, pin);
    if (status == LSM_OK && !is_pinned)
        hit_pin(db, &hit, &fresh);
    epoch_exit();
    if (!is_pinned) {
        lsm_pin_release(pin);
        *pin = fresh;
    }
    return status;
}

LSM_API lsm_status lsm_get_into(lsm_db *db, lsm_cf *cf, lsm_slice key,
                                const lsm_read_options *options, void *buffer, size_t capacity,
                                size_t *size, lsm_error *err)
{
    uint32_t id;
    lsm_status status = check_read(db, cf, &id, err);
    if (status == LSM_OK)
        status = db_check_key(key, err);
    if (status != LSM_OK)
        return status;
    if (size == NULL || (buffer == NULL && capacity > 0))
        return lsm_fail(err, LSM_INVALID, "the place for the value or for its size is NULL");
    epoch_enter();
    struct reading r = reading_begin(db, id, options);
    struct hit hit;
    status = find(db, &r, key, &hit, err);
    if (status == LSM_OK) {
        *size = hit_copy(&hit, buffer, capacity);
        hit_let_go(&hit);
    }
    epoch_exit();
    return status;
}
