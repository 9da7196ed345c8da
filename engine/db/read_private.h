/*
 * What point reads have in common, whether they wait for the disk or not.
 *
 * The state is loaded before the sequence number: what a flush or compaction dropped from a state
 * was invisible to every number read after it.
 */
#ifndef ENGINE_DB_READ_PRIVATE_H
#define ENGINE_DB_READ_PRIVATE_H

#include "engine/db/db_private.h"

#include <string.h>

struct reading {
    uint32_t cf;
    uint64_t sequence;
    unsigned table_flags;
    struct db_state *state;
};

struct hit {
    bool is_found; /* a version of the key, perhaps a deletion */
    uint64_t trailer;
    lsm_slice value;
    struct db_memtable *memtable; /* where it is: here, */
    struct block *block;          /* or here */
    bool block_owned;
};

static inline lsm_status dropped_family(const lsm_db *db, uint32_t cf, lsm_error *err)
{
    return lsm_fail(err, LSM_MISSING, "column family %" PRIu32 " of '%s' was dropped", cf,
                    db->path);
}

static inline lsm_status check_read(lsm_db *db, lsm_cf *cf, uint32_t *id, lsm_error *err)
{
    lsm_status status = db_check(db, err);
    if (status == LSM_OK)
        status = db_refresh(db, err);
    return status == LSM_OK ? db_check_cf(db, cf, id, err) : status;
}

static inline uint64_t reading_sequence(const lsm_db *db, const lsm_read_options *options)
{
    if (options != NULL && options->snapshot != NULL)
        return options->snapshot->sequence;
    return atomic_load_explicit(&db->layout->commit.visible_sequence, memory_order_acquire);
}

/* Inside an epoch. */
static inline struct reading reading_begin(lsm_db *db, uint32_t cf, const lsm_read_options *options)
{
    struct db_state *state = db_state_current(db);
    return (struct reading){.cf = cf,
                            .state = state,
                            .sequence = reading_sequence(db, options),
                            .table_flags =
                                options != NULL && options->no_fill_cache ? TABLE_NO_FILL : 0};
}

static inline bool find_in_memtables(const struct reading *r, lsm_slice key, uint64_t hash,
                                     struct hit *hit)
{
    struct memtable_found found;
    for (size_t i = 0; i < r->state->memtable_count; i++) {
        struct db_memtable *m = r->state->memtables[i];
        if (memtable_get(m->table, r->cf, key, hash, r->sequence, &found)) {
            *hit = (struct hit){
                .is_found = true, .trailer = found.trailer, .value = found.value, .memtable = m};
            return true;
        }
    }
    return false;
}

static inline void hit_from_table(struct hit *hit, bool is_found, const struct table_found *found)
{
    *hit = (struct hit){.is_found = is_found};
    if (!is_found)
        return;
    hit->trailer = found->trailer;
    hit->value = found->value;
    hit->block = found->block;
    hit->block_owned = found->owned;
}

/* 0: nothing was found. */
static inline uint64_t hit_sequence(const struct hit *hit)
{
    return hit->is_found ? entry_sequence(hit->trailer) : 0;
}

static inline bool hit_is_value(const struct hit *hit)
{
    return hit->is_found && entry_type_of(hit->trailer) == ENTRY_PUT;
}

static inline void hit_let_go(const struct hit *hit)
{
    if (hit->block_owned)
        block_drop(hit->block);
}

/* Copies as much of the value as fits; returns its whole size, or LSM_ABSENT. */
static inline size_t hit_copy(const struct hit *hit, void *buffer, size_t capacity)
{
    if (!hit_is_value(hit))
        return LSM_ABSENT;
    size_t copied = hit->value.size < capacity ? hit->value.size : capacity;
    if (copied > 0)
        memcpy(buffer, hit->value.data, copied);
    return hit->value.size;
}

/*
 * Inside the epoch of the search. owner[0] is the block that holds the value, and owner[1] the
 * database; or owner[0] is NULL and owner[1] the memtable. A transaction's own value is owner[0],
 * with owner[1] NULL. False: there is no value. The pin, and the memtable's use by it, are the
 * caller's to count.
 */
static inline bool hit_hold(lsm_db *db, const struct hit *hit, lsm_pin *pin)
{
    *pin = (lsm_pin)LSM_PIN_INIT;
    if (!hit_is_value(hit)) {
        hit_let_go(hit);
        return false;
    }
    pin->found = true;
    pin->value = hit->value;
    if (hit->memtable != NULL) {
        pin->owner[1] = hit->memtable;
    } else {
        pin->owner[1] = db;
        if (!hit->block_owned)
            block_keep(hit->block);
        pin->owner[0] = hit->block;
    }
    return true;
}

static inline void count_pins(lsm_db *db, uint32_t count)
{
    atomic_fetch_add_explicit(&db->pin_count, count, memory_order_relaxed);
}

/* Inside the epoch of the search. */
static inline void hit_pin(lsm_db *db, const struct hit *hit, lsm_pin *pin)
{
    if (!hit_hold(db, hit, pin))
        return;
    if (hit->memtable != NULL)
        atomic_fetch_add_explicit(&hit->memtable->references, 1, memory_order_relaxed);
    count_pins(db, 1);
}

#endif
