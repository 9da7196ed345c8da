/*
 * The log writer's thread: copies the stage ring into the WAL segments behind the writers, once
 * 256 KiB or a tenth of a second have gathered, keeps the next segment and memory for the memtable
 * ready, and gives space back after a while without writes.
 *
 * A write ends in the middle of a block, which the next one writes again: many small ones would
 * send several times to the disk what was put. Nobody waits for them: a sync writes by itself, and
 * who did not ask for one has in the ring what was promised.
 *
 * It sleeps on a futex while there is nothing to write, so an idle database costs nothing. A commit
 * wakes it only when it announced that it sleeps, or gathers and enough has come. Without threads
 * the committing thread writes the log itself when enough has gathered.
 */
#include "engine/base/step.h"
#include "engine/db/db_private.h"

#include <time.h>

#define LOG_GATHER_NS UINT64_C(100000000)
#define LOG_IDLE_NS   UINT64_C(1000000000)
#define LOG_RETRY_NS  UINT64_C(50000000)
#define LOG_REST_NS   UINT64_C(2000000000) /* without a write: space goes back */

enum log_sleep {
    LOG_AWAKE = 0,
    LOG_GATHERS, /* until enough is staged */
    LOG_SLEEPS,  /* until something is */
};

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
    uint32_t sleep = atomic_load_explicit(&db->log_sleeping, memory_order_relaxed);
    if (sleep == LOG_AWAKE || (sleep == LOG_GATHERS && !wal_wants_write(db->wal)))
        return;
    if (atomic_exchange(&db->log_sleeping, LOG_AWAKE) != LOG_AWAKE)
        shm_event_signal(&db->log_wake);
}

static bool log_is_written(const lsm_db *db)
{
    return atomic_load(&db->layout->commit.written) == atomic_load(&db->layout->commit.staged);
}

static void wait_as(lsm_db *db, enum log_sleep how, uint64_t ns)
{
    uint32_t seen = shm_event_count(&db->log_wake);
    atomic_store(&db->log_sleeping, how);
    bool is_due = how == LOG_GATHERS ? wal_wants_write(db->wal) : !log_is_written(db);
    if (!is_due && !atomic_load(&db->closing))
        shm_event_wait(&db->log_wake, seen, ns);
    atomic_store(&db->log_sleeping, LOG_AWAKE);
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

static void make_ahead(lsm_db *db)
{
    back_ahead(db);
    wal_populate_ahead(db->wal);
}

static void *log_writer(void *argument)
{
    lsm_db *db = argument;
    if (db->forget_later > 0)
        db_forget_log(db, db->forget_later);
    struct rest rest = {.seen = UINT64_MAX};
    bool failed = false;
    while (!atomic_load(&db->closing)) {
        if (failed)
            shm_event_wait(&db->log_wake, shm_event_count(&db->log_wake), LOG_RETRY_NS);
        else if (log_is_written(db))
            wait_as(db, LOG_SLEEPS, LOG_IDLE_NS);
        make_ahead(db);
        if (!failed && !log_is_written(db))
            wait_as(db, LOG_GATHERS, LOG_GATHER_NS);
        make_ahead(db);
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
