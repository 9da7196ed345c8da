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
#include "engine/base/step.h"

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
    db_pin_remove(state->db, &state->pin);
    STEP("state: pin removed");
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

/* Makes the blank, which has its memtables, the current state of that version, whose reference is
 * taken over (change lock held). */
static void install_locked(lsm_db *db, struct db_state *blank, struct version *version,
                           uint64_t number)
{
    blank->references = 1;
    blank->number = number;
    blank->version = version;
    blank->db = db;
    db_pin_add(db, &blank->pin, version->number);
    STEP("state: pinned");
    /* Release: pairs with db_state_current(). */
    struct db_state *old = atomic_exchange_explicit(&db->state, blank, memory_order_acq_rel);
    atomic_store_explicit(&db->view_number, number, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* before looking: see iterator_open.c */
    db_iter_unpark_all(db);
    if (old != NULL)
        epoch_retire(&old->retired, state_retired);
}

/* The reference on `version` is taken over. */
static void publish_locked(lsm_db *db, struct db_state *blank, struct version *version)
{
    uint64_t number = atomic_load(&db->layout->version.number);
    /* Who has not seen what others changed must not claim to show the newest. */
    bool is_newest = number == atomic_load(&db->view_number) || db->state == NULL;
    if (is_newest &&
        db_memtables_list_locked(db, blank->memtables, &blank->memtable_count, NULL) == LSM_OK) {
        install_locked(db, blank, version, number + 1);
    } else {
        version_drop(version);
        mem_free(blank);
    }
    db_view_changed_locked(db);
}

void db_state_publish_locked(lsm_db *db, struct db_state *blank)
{
    publish_locked(db, blank, version_set_current(db->versions));
}

void db_state_switch_locked(lsm_db *db, struct db_state *blank)
{
    struct db_state *state = atomic_load(&db->state); /* stays while the lock is held */
    struct version *version = state == NULL ? version_set_current(db->versions) : state->version;
    if (state != NULL)
        version_keep(version);
    publish_locked(db, blank, version);
}

void db_state_publish(lsm_db *db, struct db_state *blank)
{
    STEP("edit: durable");
    db_change_lock(db);
    db_place_publish_locked(db);
    db_state_publish_locked(db, blank);
    db_change_unlock(db);
}

/*
 * The list of memtables and the end of the manifest are taken together, under the change lock. The
 * manifest is then read without it: should more be flushed meanwhile, the arenas in the list are
 * this process's by its slot, and hold what they held.
 */
lsm_status db_state_refresh(lsm_db *db, lsm_error *err)
{
    struct db_memtable *list[DB_MAX_MEMTABLES];
    struct version_place place;
    size_t count = 0;
    struct db_state *blank = db_state_new();
    if (blank == NULL)
        return lsm_fail_memory(err, sizeof *blank);
    pthread_mutex_lock(&db->view_lock);
    db_change_lock(db);
    uint64_t number = atomic_load(&db->layout->version.number);
    bool is_due = atomic_load(&db->view_number) < number;
    db_place_read_locked(db, &place);
    lsm_status status = is_due ? db_memtables_list_locked(db, list, &count, err) : LSM_OK;
    db_change_unlock(db);
    STEP("refresh: listed");
    if (is_due && status == LSM_OK && !db->is_private)
        status = version_set_refresh(db->versions, &place, err);
    STEP("refresh: manifest read");
    /* First: it may fail, and who sees the new number sees what was dropped. */
    if (is_due && status == LSM_OK)
        status = db_cf_follow(db, err);
    if (is_due && status == LSM_OK) {
        db_change_lock(db);
        if (atomic_load(&db->view_number) < number) {
            memcpy(blank->memtables, list, count * sizeof *list);
            blank->memtable_count = count;
            count = 0;
            install_locked(db, blank, version_set_current(db->versions), number);
            blank = NULL;
        }
        db_change_unlock(db);
    }
    while (count > 0)
        db_memtable_drop(list[--count]);
    mem_free(blank);
    pthread_mutex_unlock(&db->view_lock);
    STEP("refresh: done");
    return status;
}

void db_state_clear(lsm_db *db)
{
    struct db_state *old = atomic_exchange(&db->state, NULL);
    db_iter_unpark_all(db);
    if (old != NULL)
        epoch_retire(&old->retired, state_retired);
    db_memtable_drop(db->active_memtable);
    db_memtable_drop(db->newest);
    db->active_memtable = db->newest = NULL;
    while (db->recovered_count > 0)
        db_memtable_drop(db->recovered[--db->recovered_count]);
    epoch_drain();
}
