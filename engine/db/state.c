/*
 * States: what readers hold while writers, flushes and compactions replace it.
 *
 * A state that was current has one reference of its own, given up through the epoch: so whoever
 * finds it inside an epoch may use it until the epoch ends, and take a reference meanwhile.
 *
 * layout->version.number counts what anybody changed; a state says which number it shows. A reader
 * that finds a newer number makes a newer state first, so that it sees what any process
 * acknowledged before the read began.
 */
#include "engine/db/db_private.h"

#include "engine/base/memory.h"

#include <assert.h>

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

/* Makes the state of number `number` out of what there is (change lock held). */
static lsm_status install_locked(lsm_db *db, struct db_state *blank, uint64_t number,
                                 lsm_error *err)
{
    lsm_status status = db_memtables_list_locked(db, blank->memtables, &blank->memtable_count, err);
    if (status != LSM_OK) {
        mem_free(blank);
        return status;
    }
    blank->references = 1;
    blank->number = number;
    blank->version = version_set_current(db->versions);
    /* Release: pairs with db_state_current(). */
    struct db_state *old = atomic_exchange_explicit(&db->state, blank, memory_order_acq_rel);
    atomic_store_explicit(&db->view_number, number, memory_order_release);
    if (old != NULL)
        epoch_retire(&old->retired, state_retired);
    return LSM_OK;
}

void db_state_publish_locked(lsm_db *db, struct db_state *blank)
{
    struct shm_version *v = &db->layout->version;
    uint64_t number = atomic_load_explicit(&v->number, memory_order_relaxed) + 1;
    (void)install_locked(db, blank, number, NULL);
    /* Release: pairs with db_refresh(). */
    atomic_store_explicit(&v->number, number, memory_order_release);
    shm_event_signal(&v->changed);
}

void db_state_publish(lsm_db *db, struct db_state *blank)
{
    shm_lock(&db->layout->locks.change);
    db_state_publish_locked(db, blank);
    shm_unlock(&db->layout->locks.change);
}

lsm_status db_state_refresh(lsm_db *db, lsm_error *err)
{
    struct db_state *blank = db_state_new();
    if (blank == NULL)
        return lsm_fail_memory(err, sizeof *blank);
    lsm_status status = LSM_OK;
    pthread_mutex_lock(&db->view_lock);
    shm_lock(&db->layout->locks.change);
    uint64_t number = atomic_load(&db->layout->version.number);
    if (atomic_load(&db->view_number) < number)
        status = install_locked(db, blank, number, err);
    else
        mem_free(blank);
    shm_unlock(&db->layout->locks.change);
    pthread_mutex_unlock(&db->view_lock);
    return status;
}

void db_state_clear(lsm_db *db)
{
    struct db_state *old = atomic_exchange(&db->state, NULL);
    if (old != NULL)
        epoch_retire(&old->retired, state_retired);
    db_memtable_drop(db->active_memtable);
    db_memtable_drop(db->newest);
    db->active_memtable = db->newest = NULL;
    while (db->recovered_count > 0)
        db_memtable_drop(db->recovered[--db->recovered_count]);
    epoch_drain();
}
