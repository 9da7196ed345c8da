/*
 * Changing what all processes see: the locks of the segment but for the append lock (takeover.c),
 * with what is to be done when an owner died, and edits of the manifest.
 *
 * The published view is the place where the manifest ends, and the states of the arenas. Both are
 * changed under the change lock, together with version.number, which tells readers to look again.
 * The place is written beside the old one and put in force by one store, so that a death leaves
 * either.
 */
#include "engine/db/db_private.h"

#include "engine/base/step.h"

#include <assert.h>

/* ---- the change lock ------------------------------------------------------------------------- */

static void change_owner_died(lsm_db *db)
{
    STEP("repair: begin");
    db_memtables_repair_locked(db);
    STEP("repair: memtables");
    db_view_changed_locked(db);
    shm_lock_repaired(&db->layout->locks.change);
    STEP("repair: done");
}

void db_change_lock(lsm_db *db)
{
    if (shm_lock(&db->layout->locks.change) != SHM_LOCKED)
        change_owner_died(db);
}

lsm_status db_change_await(lsm_db *db, const struct db_deadline *deadline, lsm_error *err)
{
    enum shm_lock_result result = shm_lock_until(&db->layout->locks.change, deadline->at_ns);
    if (result == SHM_LOCK_TIMED_OUT)
        return db_timeout(db, deadline, DB_BEHIND_CHANGE, err);
    if (result == SHM_LOCKED_OWNER_DIED)
        change_owner_died(db);
    db_change_unlock(db);
    return LSM_OK;
}

void db_change_unlock(lsm_db *db)
{
    shm_unlock(&db->layout->locks.change);
}

void db_view_changed_locked(lsm_db *db)
{
    struct shm_version *v = &db->layout->version;
    /* Release: pairs with db_refresh(). */
    atomic_fetch_add_explicit(&v->number, 1, memory_order_release);
    STEP("view: number told");
    shm_event_signal(&v->changed);
}

/* ---- the sync lock --------------------------------------------------------------------------- */

/* Where it fails the log takes over first in every later call. */
static void sync_taken(lsm_db *db, enum shm_lock_result result)
{
    if (result != SHM_LOCKED_OWNER_DIED)
        return;
    (void)wal_takeover_locked(db->wal, NULL);
    STEP("log takeover: done");
    shm_lock_repaired(&db->layout->locks.sync);
}

void db_sync_lock(lsm_db *db)
{
    sync_taken(db, shm_lock(&db->layout->locks.sync));
}

lsm_status db_sync_lock_until(lsm_db *db, const struct db_deadline *deadline, lsm_error *err)
{
    enum shm_lock_result result = SHM_LOCKED;
    if (db_deadline_is_set(deadline))
        result = shm_lock_until(&db->layout->locks.sync, deadline->at_ns);
    else
        result = shm_lock(&db->layout->locks.sync);
    if (result == SHM_LOCK_TIMED_OUT)
        return db_timeout(db, deadline, DB_BEHIND_SYNC, err);
    sync_taken(db, result);
    return LSM_OK;
}

bool db_sync_trylock(lsm_db *db)
{
    enum shm_lock_result result = shm_trylock(&db->layout->locks.sync);
    sync_taken(db, result);
    return result != SHM_LOCK_BUSY;
}

/* ---- the place ------------------------------------------------------------------------------- */

void db_place_read_locked(const lsm_db *db, struct version_place *place)
{
    const struct shm_version *v = &db->layout->version;
    const uint64_t *p = v->places[atomic_load(&v->place_index) % 2].number;
    *place = (struct version_place){.manifest_number = p[0],
                                    .previous_number = p[1],
                                    .offset = p[2],
                                    .frame_number = p[3],
                                    .chain = p[4]};
}

/* Publishes where the set's manifest ends; false when it has been published (change lock held). */
static bool place_write_locked(lsm_db *db)
{
    struct shm_version *v = &db->layout->version;
    struct version_place old, place;
    db_place_read_locked(db, &old);
    version_set_place(db->versions, &place);
    if (old.frame_number == place.frame_number && old.manifest_number == place.manifest_number)
        return false;
    uint32_t index = atomic_load(&v->place_index) + 1;
    uint64_t *p = v->places[index % 2].number;
    p[0] = place.manifest_number;
    p[1] = place.previous_number;
    p[2] = place.offset;
    p[3] = place.frame_number;
    p[4] = place.chain;
    STEP("view: place written");
    atomic_store_explicit(&v->place_index, index, memory_order_release);
    STEP("view: place in force");
    return true;
}

void db_place_publish_locked(lsm_db *db)
{
    if (!db->is_private)
        (void)place_write_locked(db);
}

/* ---- edits ----------------------------------------------------------------------------------- */

/* What a dead owner of the version lock made durable is published, and what it began is ended. */
static lsm_status roll_forward_locked(lsm_db *db, lsm_error *err)
{
    struct version_place place;
    struct version_state state;
    bool adopted = false;
    db_change_lock(db);
    db_place_read_locked(db, &place);
    db_change_unlock(db);
    lsm_status status = version_set_roll_forward(db->versions, &place, &adopted, err);
    if (status != LSM_OK)
        return status;
    version_set_state(db->versions, &state);
    STEP("roll forward: adopted");
    db_change_lock(db);
    db_place_publish_locked(db);
    db_memtables_flushed_locked(db, state.log_position);
    db_view_changed_locked(db);
    db_change_unlock(db);
    STEP("roll forward: published");
    atomic_store(&db->layout->version.roll_forward_due, 0);
    STEP("roll forward: done");
    return LSM_OK;
}

static lsm_status follow_locked(lsm_db *db, lsm_error *err)
{
    struct version_place place;
    db_change_lock(db);
    db_place_read_locked(db, &place);
    db_change_unlock(db);
    return version_set_refresh(db->versions, &place, err);
}

/* The version lock was taken. */
static lsm_status edit_begin_locked(lsm_db *db, enum shm_lock_result result, lsm_error *err)
{
    struct shm_layout *l = db->layout;
    if (result == SHM_LOCKED_OWNER_DIED) {
        STEP("roll forward: owner dead");
        atomic_store(&l->version.roll_forward_due, 1);
        shm_lock_repaired(&l->locks.version);
        STEP("roll forward: due");
    }
    STEP("edit: locked");
    pthread_mutex_lock(&db->view_lock);
    int poison = (int)atomic_load(&l->ctl.poisoned);
    lsm_status status = LSM_OK;
    if (poison != 0)
        status =
            status_fail(err, LSM_POISONED, poison, __FILE__, __LINE__,
                        "'%s' takes no changes any more; close it and open it again", db->path);
    else if (!atomic_load(&l->ctl.ready)) /* nobody else is there */
        status = version_set_check_writable(db->versions, err);
    else if (atomic_load(&l->version.roll_forward_due))
        status = roll_forward_locked(db, err);
    else
        status = follow_locked(db, err);
    if (status != LSM_OK) {
        pthread_mutex_unlock(&db->view_lock);
        shm_unlock(&l->locks.version);
    }
    STEP("edit: begun");
    return status;
}

lsm_status db_edit_begin(lsm_db *db, lsm_error *err)
{
    return edit_begin_locked(db, shm_lock(&db->layout->locks.version), err);
}

lsm_status db_work_await(lsm_db *db, const struct db_deadline *deadline, lsm_error *err)
{
    enum shm_lock_result result = shm_lock_until(&db->layout->locks.version, deadline->at_ns);
    if (result == SHM_LOCK_TIMED_OUT)
        return db_timeout(db, deadline, DB_BEHIND_VERSION, err);
    lsm_status status = edit_begin_locked(db, result, err);
    if (status != LSM_OK)
        return status;
    db_edit_end(db);
    status = db_sync_lock_until(db, deadline, err);
    if (status == LSM_OK)
        shm_unlock(&db->layout->locks.sync);
    return status;
}

lsm_status db_edit_try_begin(lsm_db *db, bool *begun, lsm_error *err)
{
    enum shm_lock_result result = shm_trylock(&db->layout->locks.version);
    *begun = false;
    if (result == SHM_LOCK_BUSY)
        return LSM_OK;
    lsm_status status = edit_begin_locked(db, result, err);
    *begun = status == LSM_OK;
    return status;
}

void db_edit_end(lsm_db *db)
{
    /* What this set could not settle the next owner settles, in whichever process. */
    if (version_set_is_broken(db->versions))
        atomic_store(&db->layout->version.roll_forward_due, 1);
    /* An edit that failed may have begun a new manifest all the same. */
    if (!db->is_private) {
        db_change_lock(db);
        if (place_write_locked(db))
            db_view_changed_locked(db);
        db_change_unlock(db);
    }
    pthread_mutex_unlock(&db->view_lock);
    STEP("edit: published");
    shm_unlock(&db->layout->locks.version);
    STEP("edit: unlocked");
    version_set_clean(db->versions);
    STEP("edit: cleaned up");
}

/* ---- what is in use -------------------------------------------------------------------------- */

/* The oldest version that anything in this process uses, told to the others (arena_lock held). */
static void tell_oldest_locked(lsm_db *db)
{
    const struct db_pin *oldest = db->pins.next;
    if (oldest == &db->pins || oldest->number == atomic_load(&db->slot->pin))
        return;
    atomic_store(&db->slot->pin, oldest->number);
    atomic_store_explicit(&db->slot->report.pin_ns, io_now_ns(db->io), memory_order_relaxed);
}

void db_pin_add(lsm_db *db, struct db_pin *pin, uint64_t number)
{
    pthread_mutex_lock(&db->arena_lock);
    struct db_pin *after = db->pins.previous; /* the list ascends; most are added at its end */
    while (after != &db->pins && after->number > number)
        after = after->previous;
    pin->number = number;
    pin->previous = after;
    pin->next = after->next;
    pin->next->previous = pin;
    after->next = pin;
    tell_oldest_locked(db);
    pthread_mutex_unlock(&db->arena_lock);
}

void db_pin_remove(lsm_db *db, struct db_pin *pin)
{
    pthread_mutex_lock(&db->arena_lock);
    pin->previous->next = pin->next;
    pin->next->previous = pin->previous;
    tell_oldest_locked(db);
    pthread_mutex_unlock(&db->arena_lock);
}

bool db_may_remove(void *context, uint64_t dead_number)
{
    lsm_db *db = context;
    bool may = true;
    if (db->layout != NULL && atomic_load(&db->layout->ctl.poisoned) != 0)
        return false; /* another population may be there: check_intact() */
    if (db->layout == NULL || !atomic_load(&db->layout->ctl.ready))
        return true; /* nobody else is there */
    db_change_lock(db);
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        uint64_t pin = atomic_load(&db->layout->slots[i].pin);
        may = may && (pin == 0 || pin >= dead_number);
    }
    db_change_unlock(db);
    return may;
}
