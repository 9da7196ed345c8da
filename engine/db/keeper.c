/*
 * The keeper: a thread of each process, but where the database is opened exclusively. It brings the
 * process's view up to date when others changed something, so that an idle process holds nothing
 * old for long; wakes the workers for what others left to do; and clears up after processes that
 * died.
 */
#include "engine/db/db_private.h"

#include "engine/base/step.h"
#include "engine/db/open.h"

#include <errno.h>

#define KEEPER_PERIOD_NS UINT64_C(1000000000) /* between two looks at who is alive */
#define KEEPER_PAUSE_NS  UINT64_C(1000000)    /* until threads may have left their epochs */

_Atomic bool db_keeper_off;

/* What a dead process had taken is anybody's again. May be repeated. */
static lsm_status reap(void *context, struct shm_layout *layout, uint32_t index, lsm_error *err)
{
    lsm_db *db = context;
    (void)err;
    db_change_lock(db);
    for (uint32_t i = 0; i < layout->ident.memtable_count; i++) {
        struct shm_memtable *m = &layout->memtables[i];
        uint32_t state = atomic_load(&m->state);
        if (m->owner_slot != index)
            continue;
        if (state == SHM_MEMTABLE_FLUSHING)
            atomic_store(&m->state, SHM_MEMTABLE_SEALED);
        else if (state == SHM_MEMTABLE_BUILDING)
            atomic_store(&m->state, SHM_MEMTABLE_FREE);
        STEP("reap: a memtable given back");
    }
    db_view_changed_locked(db);
    db_change_unlock(db);
    shm_frames_reap(db->segment, index);
    return LSM_OK;
}

/* Without its LOCK file the next one to open the database finds nobody there and recovers it: then
 * nothing may be written here any more. */
static lsm_status check_intact(lsm_db *db, lsm_error *err)
{
    if (shm_attachment_is_intact(db->attachment))
        return LSM_OK;
    uint32_t healthy = 0;
    atomic_compare_exchange_strong(&db->layout->ctl.poisoned, &healthy, ESTALE);
    return lsm_fail(err, LSM_POISONED,
                    "the LOCK file of '%s' was removed or replaced, so others may have opened it "
                    "without knowing of this process; close the database and open it again",
                    db->path);
}

lsm_status db_reap(lsm_db *db, lsm_error *err)
{
    uint32_t count = 0;
    if (db->options.read_only)
        return LSM_OK; /* its files may not be removed either */
    lsm_status status = check_intact(db, err);
    if (status != LSM_OK)
        return status;
    status = shm_reap(db->attachment, reap, db, &count, err);
    /* Should this process die before it says so, whoever reaps it will. */
    if (count > 0)
        db_orphans_expect(db);
    if (status == LSM_OK)
        status = db_remove_orphans(db, err);
    STEP("orphans: removed");
    if (count > 0)
        db_work_signal(db);
    return status;
}

/* Looks at who is alive, each second at most. */
static void look_around(lsm_db *db)
{
    uint64_t now = io_now_ns(db->io), due = atomic_load(&db->next_look_ns);
    if (now < due ||
        !atomic_compare_exchange_strong(&db->next_look_ns, &due, now + KEEPER_PERIOD_NS))
        return;
    if (atomic_exchange(&db->is_looking, true))
        return; /* it takes longer than the period; an attachment serves one thread at a time */
    (void)db_reap(db, NULL);
    atomic_store(&db->is_looking, false);
    version_set_clean(db->versions);
    db_report(db);
}

void db_wait_changed_until(lsm_db *db, uint32_t seen, const struct db_deadline *deadline)
{
    shm_event_wait(&db->layout->version.changed, seen, db_deadline_left_ns(deadline, DB_WAIT_NS));
    if (!db->options.exclusive && !db->keeper_runs)
        look_around(db);
}

/* Others may wait for memory that this process looked at. Returns how long the keeper may sleep. */
static uint64_t tell_of_cache(lsm_db *db)
{
    struct shm_frames *frames = block_cache_frames(db->tables.cache);
    return frames == NULL || shm_frames_tell(frames) ? KEEPER_PERIOD_NS : KEEPER_PAUSE_NS;
}

/* Processes without workers may have read for what a merge costs. */
static void look_at_reads(lsm_db *db)
{
    uint32_t asks = atomic_load(&db->layout->reads.asks);
    if (asks != db->read_asks)
        db_work_signal(db);
    db->read_asks = asks;
}

static void *keeper(void *argument)
{
    lsm_db *db = argument;
    while (!atomic_load(&db->closing)) {
        uint32_t seen = shm_event_count(&db->layout->version.changed);
        if (atomic_load(&db->view_number) != atomic_load(&db->layout->version.number)) {
            (void)db_refresh(db, NULL);
            STEP("keeper: refreshed");
            db_stall_update(db);
            db_work_signal(db);
        }
        look_around(db);
        uint64_t pause = tell_of_cache(db);
        if (atomic_exchange(&db->job_refused, false))
            db_work_signal(db); /* whoever was in the way may have ended without a change */
        look_at_reads(db);
        if (!atomic_load(&db->closing))
            shm_event_wait(&db->layout->version.changed, seen, pause);
    }
    return NULL;
}

lsm_status db_keeper_start(lsm_db *db, lsm_error *err)
{
    if (db->options.exclusive || (!db_has_workers(db) && atomic_load(&db_keeper_off)))
        return LSM_OK;
    int failed = pthread_create(&db->keeper_thread, NULL, keeper, db);
    if (failed != 0)
        return lsm_fail_errno(err, failed, "no thread could be made to keep '%s'", db->path);
    db->keeper_runs = true;
    return LSM_OK;
}

void db_keeper_stop(lsm_db *db)
{
    if (!db->keeper_runs)
        return;
    atomic_store(&db->closing, true);
    shm_event_signal(&db->layout->version.changed);
    pthread_join(db->keeper_thread, NULL);
    db->keeper_runs = false;
}
