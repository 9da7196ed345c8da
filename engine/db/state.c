/*
 * States and memtables: what readers hold while writers, flushes and compactions replace it.
 *
 * A state that was current has one reference of its own, given up through the epoch: so whoever
 * finds it inside an epoch may use it until the epoch ends, and take a reference meanwhile.
 */
#include "engine/db/db_private.h"

#include "engine/base/memory.h"

#include <assert.h>

/* ---- memtables ------------------------------------------------------------------------------- */

static bool arena_take(lsm_db *db, uint32_t *arena)
{
    for (uint32_t i = 0; db->segment != NULL && i < db->options.memtable_count; i++) {
        uint32_t expected = SHM_MEMTABLE_FREE;
        if (atomic_compare_exchange_strong(&db->layout->memtables[i].state, &expected,
                                           SHM_MEMTABLE_BUILDING)) {
            *arena = i;
            return true;
        }
    }
    return false;
}

static enum memtable_kind memtable_kind_of(const lsm_db *db)
{
    return db->options.memtable[0] == 's' ? MEMTABLE_SKIPLIST : MEMTABLE_BTREE;
}

/* A fresh arena must be backed where memtable_new() and the first inserts touch it. */
static lsm_status arena_memory(lsm_db *db, struct db_memtable *m, void **memory, lsm_error *err)
{
    if (m->arena == DB_PRIVATE_ARENA) {
        *memory = m->private_memory = mem_alloc_aligned(64, m->size);
        return *memory == NULL ? lsm_fail_memory(err, m->size) : LSM_OK;
    }
    *memory = shm_arena(db->segment, m->arena);
    size_t low, high;
    memtable_reach_new(m->size, &low, &high);
    return shm_arena_back(db->segment, m->arena, low, high, err);
}

static lsm_status memtable_make(lsm_db *db, size_t size, struct db_memtable **memtable,
                                lsm_error *err)
{
    struct db_memtable *m = mem_alloc_zeroed(sizeof *m);
    if (m == NULL)
        return lsm_fail_memory(err, sizeof *m);
    m->db = db;
    m->references = 1;
    m->size = size;
    if (size > db->arena_size || !arena_take(db, &m->arena))
        m->arena = DB_PRIVATE_ARENA;
    uint64_t id = atomic_fetch_add(&db->layout->version.number, 1) + 1;
    void *memory = NULL;
    lsm_status status = arena_memory(db, m, &memory, err);
    if (status == LSM_OK)
        status = memtable_new(memtable_kind_of(db), memory, m->size, id, &m->table, err);
    if (status != LSM_OK) {
        db_memtable_drop(m);
        return status;
    }
    if (m->arena != DB_PRIVATE_ARENA) {
        db->layout->memtables[m->arena].id = id;
        atomic_store(&db->layout->memtables[m->arena].state, SHM_MEMTABLE_ACTIVE);
    }
    *memtable = m;
    return LSM_OK;
}

void db_memtable_drop(struct db_memtable *m)
{
    if (atomic_fetch_sub_explicit(&m->references, 1, memory_order_acq_rel) > 1)
        return;
    lsm_db *db = m->db;
    memtable_free(m->table);
    mem_free(m->private_memory);
    if (m->arena != DB_PRIVATE_ARENA) {
        atomic_store(&db->layout->memtables[m->arena].state, SHM_MEMTABLE_FREE);
        shm_event_signal(&db->layout->version.changed);
    }
    mem_free(m);
}

/* A flush makes it smaller at any time; only the caller of a switch makes it larger. */
static size_t memtable_count(lsm_db *db)
{
    shm_lock(&db->layout->locks.change);
    size_t count = db->memtable_count;
    shm_unlock(&db->layout->locks.change);
    return count;
}

lsm_status db_memtable_switch(lsm_db *db, lsm_error *err)
{
    if (memtable_count(db) >= db->options.memtable_count)
        return lsm_fail(err, LSM_BUSY, "all %" PRIu32 " memtables of '%s' wait to be flushed",
                        db->options.memtable_count, db->path);
    return db_memtable_switch_private(db, db->arena_size, err);
}

lsm_status db_memtable_switch_private(lsm_db *db, size_t size, lsm_error *err)
{
    if (memtable_count(db) == DB_MAX_MEMTABLES)
        return lsm_fail(err, LSM_NO_MEMORY,
                        "the log of '%s' fills more than %d memtables of %zu bytes; open it with a "
                        "larger memtable_size",
                        db->path, DB_MAX_MEMTABLES, db->arena_size);
    struct db_state *blank = db_state_new();
    if (blank == NULL)
        return lsm_fail_memory(err, sizeof *blank);
    struct db_memtable *fresh = NULL;
    lsm_status status = memtable_make(db, size, &fresh, err);
    if (status != LSM_OK) {
        mem_free(blank);
        return status;
    }
    uint64_t position = atomic_load(&db->layout->commit.staged);
    fresh->log_begin = position;
    shm_lock(&db->layout->locks.change);
    if (db->memtable_count > 0) {
        struct db_memtable *sealed = db->memtables[0];
        sealed->log_end = position;
        sealed->log_chain = db->layout->commit.chain;
        if (sealed->arena != DB_PRIVATE_ARENA) {
            db->layout->memtables[sealed->arena].log_end = position;
            atomic_store(&db->layout->memtables[sealed->arena].state, SHM_MEMTABLE_SEALED);
        }
    }
    for (size_t i = db->memtable_count; i > 0; i--)
        db->memtables[i] = db->memtables[i - 1];
    db->memtables[0] = fresh;
    db->memtable_count++;
    db->active = fresh->table;
    if (fresh->arena != DB_PRIVATE_ARENA)
        db->layout->memtables[fresh->arena].log_begin = position;
    db->layout->version.active_memtable = memtable_id(fresh->table);
    db_state_install_locked(db, blank);
    shm_unlock(&db->layout->locks.change);
    return LSM_OK;
}

/* ---- states ---------------------------------------------------------------------------------- */

struct db_state *db_state_new(void)
{
    return mem_alloc_zeroed(sizeof(struct db_state));
}

void db_state_keep(struct db_state *state)
{
    uint32_t before = atomic_fetch_add_explicit(&state->references, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
}

void db_state_drop(struct db_state *state)
{
    if (state == NULL || atomic_fetch_sub_explicit(&state->references, 1, memory_order_acq_rel) > 1)
        return;
    for (size_t i = 0; i < state->memtable_count; i++)
        db_memtable_drop(state->memtables[i]);
    version_drop(state->version);
    mem_free(state);
}

struct db_state *db_state_acquire(lsm_db *db)
{
    epoch_enter();
    struct db_state *state = db_state_current(db);
    db_state_keep(state);
    epoch_exit();
    return state;
}

static void state_retired(struct epoch_retired *thing)
{
    db_state_drop((struct db_state *)(void *)thing);
}

void db_state_install_locked(lsm_db *db, struct db_state *blank)
{
    blank->references = 1;
    blank->version = version_set_current(db->versions);
    blank->memtable_count = db->memtable_count;
    for (size_t i = 0; i < db->memtable_count; i++) {
        blank->memtables[i] = db->memtables[i];
        atomic_fetch_add_explicit(&db->memtables[i]->references, 1, memory_order_relaxed);
    }
    /* Release: pairs with db_state_current(). */
    struct db_state *old = atomic_exchange_explicit(&db->state, blank, memory_order_acq_rel);
    if (old != NULL)
        epoch_retire(&old->retired, state_retired);
    atomic_fetch_add(&db->layout->version.number, 1);
    shm_event_signal(&db->layout->version.changed);
}

void db_state_install(lsm_db *db, struct db_state *blank)
{
    shm_lock(&db->layout->locks.change);
    db_state_install_locked(db, blank);
    shm_unlock(&db->layout->locks.change);
}

void db_state_clear(lsm_db *db)
{
    struct db_state *old = atomic_exchange(&db->state, NULL);
    if (old != NULL)
        epoch_retire(&old->retired, state_retired);
    for (size_t i = 0; i < db->memtable_count; i++)
        db_memtable_drop(db->memtables[i]);
    db->memtable_count = 0;
    epoch_drain();
}
