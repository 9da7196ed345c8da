/*
 * The log writer's thread: copies the stage ring into the WAL segments behind the writers, once
 * 256 KiB or 2 ms have gathered, keeps the next segment and memory for the memtable ready, and
 * gives space back after a while without writes.
 *
 * It sleeps on a futex while there is nothing to write, so an idle database costs nothing. A commit
 * wakes it only when it announced that it sleeps. Without threads the committing thread writes the
 * log itself when enough has gathered.
 */
#include "engine/base/step.h"
#include "engine/db/db_private.h"

#include <time.h>

#define LOG_GATHER_NS UINT64_C(2000000)
#define LOG_IDLE_NS   UINT64_C(1000000000)
#define LOG_RETRY_NS  UINT64_C(50000000)
#define LOG_REST_NS   UINT64_C(2000000000) /* without a write: space goes back */

#define AHEAD_LEAST ((size_t)1 << 20) /* bytes of memory that are made ahead, on either side */
#define AHEAD_MOST  ((size_t)8 << 20)
#define AHEAD_STEP  SHM_BACK_STEP /* at once: writers see each that is done */

static lsm_status write_staged(lsm_db *db, bool wait, lsm_error *err)
{
    struct shm_layout *l = db->layout;
    if (wait)
        db_sync_lock(db);
    else if (!db_sync_trylock(db))
        return LSM_OK; /* whoever holds it writes the log */
    lsm_status status = wal_write_locked(db->wal, atomic_load(&l->commit.staged), err);
    shm_unlock(&l->locks.sync);
    return status;
}

void db_log_writer_nudge(lsm_db *db)
{
    if (!db->log_thread_runs) {
        if (wal_wants_write(db->wal))
            (void)write_staged(db, false, NULL); /* a failure shows when the ring is full */
        return;
    }
    if (atomic_load_explicit(&db->log_sleeping, memory_order_relaxed) &&
        atomic_exchange(&db->log_sleeping, false))
        shm_event_signal(&db->log_wake);
}

static bool log_is_written(const lsm_db *db)
{
    return atomic_load(&db->layout->commit.written) == atomic_load(&db->layout->commit.staged);
}

/* Waits for work: gathers for a moment when there is some, sleeps when there is none. */
static void wait_for_work(lsm_db *db, bool failed)
{
    uint32_t seen = shm_event_count(&db->log_wake);
    if (failed) {
        shm_event_wait(&db->log_wake, seen, LOG_RETRY_NS);
    } else if (!log_is_written(db)) {
        if (!wal_wants_write(db->wal))
            shm_event_wait(&db->log_wake, seen, LOG_GATHER_NS);
    } else {
        atomic_store(&db->log_sleeping, true);
        if (log_is_written(db) && !atomic_load(&db->closing))
            shm_event_wait(&db->log_wake, seen, LOG_IDLE_NS);
        atomic_store(&db->log_sleeping, false);
        if (!wal_wants_write(db->wal) && !atomic_load(&db->closing))
            shm_event_wait(&db->log_wake, shm_event_count(&db->log_wake), LOG_GATHER_NS);
    }
}

/* The log below it is in durable tables, as far as this process knows. */
static uint64_t log_needed_from(lsm_db *db)
{
    struct version_state state;
    pthread_mutex_lock(&db->view_lock);
    version_set_state(db->versions, &state);
    pthread_mutex_unlock(&db->view_lock);
    return state.log_position;
}

void db_log_rest(lsm_db *db, uint64_t staged)
{
    if (db->wal == NULL || atomic_load(&db->layout->commit.staged) != staged)
        return;
    uint64_t needed = log_needed_from(db);
    db_sync_lock(db);
    if (wal_write_locked(db->wal, staged, NULL) == LSM_OK)
        (void)wal_rest_locked(db->wal, needed, NULL);
    shm_unlock(&db->layout->locks.sync);
    STEP("log rest: unlocked");
}

/* How far the log went when it was looked at last. */
struct rest {
    uint64_t seen;     /* staged */
    uint64_t since_ns; /* it has been that */
    bool is_done;
};

/* Once in each quiet time. Where it fails, or somebody else is at the log, space is all it costs.
 */
static void rest_when_idle(lsm_db *db, struct rest *rest)
{
    uint64_t staged = atomic_load(&db->layout->commit.staged), now = io_now_ns(db->io);
    if (staged != rest->seen) {
        *rest = (struct rest){.seen = staged, .since_ns = now};
    } else if (!rest->is_done && now - rest->since_ns >= LOG_REST_NS) {
        uint64_t needed = log_needed_from(db);
        if (!db_sync_trylock(db))
            return;
        (void)wal_rest_locked(db->wal, needed, NULL);
        shm_unlock(&db->layout->locks.sync);
        rest->is_done = true;
    }
}

static size_t ahead_of(size_t used)
{
    return used < AHEAD_LEAST ? AHEAD_LEAST : used > AHEAD_MOST ? AHEAD_MOST : used;
}

/*
 * Has memory for the active memtable ready before writers come to it: making a page takes as long
 * as several commits. The more they have written the farther ahead, so that little data takes
 * little. What fails here fails again where a writer needs it.
 */
static void back_ahead(lsm_db *db)
{
    uint32_t arena = atomic_load_explicit(&db->reach.arena, memory_order_relaxed);
    size_t low = atomic_load_explicit(&db->reach.low, memory_order_relaxed);
    size_t high = atomic_load_explicit(&db->reach.high, memory_order_relaxed);
    if (high == 0) /* nobody has written */
        return;
    size_t more_low = ahead_of(low), more_high = ahead_of(db->arena_size - high);
    lsm_status status = LSM_OK;
    for (size_t step = AHEAD_STEP; step <= AHEAD_MOST && status == LSM_OK; step += AHEAD_STEP) {
        size_t up = low + (step < more_low ? step : more_low);
        size_t down = step < more_high ? step : more_high;
        status = shm_arena_back(db->segment, arena, up < db->arena_size ? up : db->arena_size,
                                high > down ? high - down : 0, NULL);
    }
}

static void *log_writer(void *argument)
{
    lsm_db *db = argument;
    if (db->forget_later > 0)
        db_forget_log(db, db->forget_later);
    struct rest rest = {.seen = UINT64_MAX};
    bool failed = false;
    while (!atomic_load(&db->closing)) {
        wait_for_work(db, failed);
        back_ahead(db);
        wal_populate_ahead(db->wal);
        lsm_error error;
        failed = !log_is_written(db) && write_staged(db, true, &error) != LSM_OK;
        if (failed)
            db_tell(db, &(lsm_event){.kind = LSM_EVENT_ERROR, .error = &error});
        if (wal_wants_spare(db->wal))
            (void)wal_prepare(db->wal, NULL); /* a failure shows at the next segment */
        rest_when_idle(db, &rest);
    }
    return NULL;
}

lsm_status db_log_writer_start(lsm_db *db, lsm_error *err)
{
    if (!db_has_workers(db))
        return LSM_OK;
    db->log_thread_runs = true;
    int failed = pthread_create(&db->log_thread, NULL, log_writer, db);
    if (failed != 0) {
        db->log_thread_runs = false;
        return lsm_fail_errno(err, failed, "no thread could be made for the log of '%s'", db->path);
    }
    return LSM_OK;
}

void db_log_writer_stop(lsm_db *db)
{
    if (!db->log_thread_runs)
        return;
    shm_event_signal(&db->log_wake);
    pthread_join(db->log_thread, NULL);
    db->log_thread_runs = false;
}
