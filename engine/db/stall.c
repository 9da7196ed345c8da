/*
 * Back-pressure: writes are slowed before they are stopped.
 *
 * The debt of a family (compact_debt()) is 0 while compaction keeps up and 1 where writes stop.
 * Between the two, writers together are held to the rate at which compaction takes data in, times
 * the square of what is left of the way: each write moves the time at which the next one may go,
 * and sleeps at most a millisecond at a time, holding no lock.
 *
 * The same for memtables: writes stop when all are full and wait for their flush. From the middle
 * of the last one on they are held to the rate of flushes times what is left of it.
 *
 * And for the stage ring: writes stop when it is full, and the log writer may be behind the sync of
 * a segment, or of another writer, or a disk that answers nobody for as long as it likes. Beyond
 * its half they are held to what would fill that in a quarter of a second, times the square of what
 * is left: after n quarters 1 / (n + 1) of it still is.
 *
 * All rates fall to nothing, so that many writes wait a little before one has to wait until the
 * end of a flush or a merge. A single one waits no longer than STALL_MOST_NS for its turn.
 */
#include "engine/db/db_private.h"

#include "engine/base/cancel.h"

#include <time.h>

#define PPM               1000000u
#define STALL_STEP_NS     UINT64_C(1000000)
#define STALL_FIRST_RATE  UINT64_C(33554432) /* bytes a second, until it was measured */
#define STALL_LEAST_RATE  UINT64_C(16384)    /* bytes a second */
#define STALL_MOST_NS     UINT64_C(10000000) /* longest wait of a write of STALL_MOST_BYTES, */
#define STALL_MOST_BYTES  UINT64_C(32768)    /* and for each so many bytes more */
#define STALL_RING_PARTS  4u                 /* of a second, in which half a ring would be filled */
#define STALL_LEAST_FLUSH UINT64_C(1048576)  /* bytes; smaller flushes say little of their rate */

static void sleep_ns(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    int before = cancel_hold();
    (void)nanosleep(&t, NULL);
    cancel_release(before);
}

void db_tell(lsm_db *db, const lsm_event *event)
{
    if (db->options.listener == NULL)
        return;
    int before = cancel_hold(); /* it may do anything, in the middle of a call */
    db->options.listener(db->options.listener_context, event);
    cancel_release(before);
}

void db_stall_tell(lsm_db *db, lsm_stall reason)
{
    uint32_t before = atomic_exchange(&db->throttle.reason, (uint32_t)reason);
    if (before == (uint32_t)reason)
        return;
    db_report_stall(db, reason);
    db_tell(db, &(lsm_event){.kind = LSM_EVENT_STALL, .reason = reason});
}

void db_stall_update(lsm_db *db)
{
    (void)db_refresh(db, NULL); /* where it fails the older state has to do */
    struct db_state *state = db_state_acquire(db);
    double debt = 0;
    for (size_t i = 0; i < state->version->family_count; i++) {
        double d = compact_debt(state->version->families[i]);
        debt = d > debt ? d : debt;
    }
    db_state_drop(state);
    uint32_t ppm = debt <= 0 ? 0 : debt >= 1 ? PPM : (uint32_t)(debt * PPM);
    atomic_store(&db->throttle.debt_ppm, ppm);
    db_stall_look_at_memtables(db);
    db_stall_tell(db, ppm == 0 ? LSM_STALL_NONE : LSM_STALL_LEVEL0);
    db_report(db);
}

uint64_t db_stall_begin(lsm_db *db)
{
    atomic_fetch_add_explicit(&db->slot->report.stalled_writers, 1, memory_order_relaxed);
    return io_now_ns(db->io);
}

static void count_wait(struct shm_waits *w, uint64_t us)
{
    uint64_t longest = atomic_load_explicit(&w->longest_us, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->total_us, us, memory_order_relaxed);
    while (longest < us &&
           !atomic_compare_exchange_weak_explicit(&w->longest_us, &longest, us,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

void db_stall_count(lsm_db *db, enum shm_wait kind, uint64_t since_ns)
{
    uint64_t us = (io_now_ns(db->io) - since_ns) / 1000;
    count_wait(&db->slot->report.waits[kind], us);
    count_wait(&db->layout->ctl.waits[kind], us);
    us += atomic_fetch_add(&db->statistics.stall_us, us);
    atomic_store_explicit(&db->slot->report.stalled_us, us, memory_order_relaxed);
}

void db_stall_end(lsm_db *db, enum shm_wait kind, uint64_t since_ns)
{
    db_stall_count(db, kind, since_ns);
    atomic_fetch_sub_explicit(&db->slot->report.stalled_writers, 1, memory_order_relaxed);
}

/* ---- memtables ------------------------------------------------------------------------------- */

static bool only_one_is_left(lsm_db *db)
{
    return db_has_workers(db) && db_memtables_waiting(db) + 1 >= db->options.memtable_count;
}

void db_stall_look_at_memtables(lsm_db *db)
{
    bool is_last;
    do { /* two that look at once: who stores last has looked after the other */
        is_last = only_one_is_left(db);
        atomic_store(&db->throttle.is_last_memtable, is_last);
    } while (is_last != only_one_is_left(db));
}

void db_stall_measure_memtable_locked(lsm_db *db)
{
    uint64_t used = memtable_bytes_used(db->active), half = db->arena_size / 2;
    uint64_t ppm = used <= half ? 0 : (used - half) * PPM / half;
    atomic_store_explicit(&db->throttle.memtable_ppm, (uint32_t)(ppm < PPM ? ppm : PPM),
                          memory_order_relaxed);
}

void db_stall_measure_flush(lsm_db *db, uint64_t bytes, uint64_t duration_ns)
{
    if (bytes < STALL_LEAST_FLUSH || duration_ns == 0)
        return;
    uint64_t rate = (uint64_t)((double)bytes * 1e9 / (double)duration_ns);
    uint64_t old = atomic_load(&db->throttle.flush_rate);
    atomic_store(&db->throttle.flush_rate, old == 0 ? rate : (old * 3 + rate) / 4);
}

/* ---- turns ----------------------------------------------------------------------------------- */

/* `full`, falling to nothing as ppm rises, with the square of what is left or with that itself. */
static uint64_t part_of_rate(uint64_t full, uint32_t ppm, bool is_squared)
{
    double left = (double)(PPM - ppm) / PPM;
    double rate = (double)(full != 0 ? full : STALL_FIRST_RATE) * left;
    rate = is_squared ? rate * left : rate;
    return rate > STALL_LEAST_RATE ? (uint64_t)rate : STALL_LEAST_RATE;
}

static uint64_t allowed_rate(const lsm_db *db, uint32_t debt_ppm, uint32_t memtable_ppm,
                             uint32_t ring_ppm)
{
    const struct db_throttle *t = &db->throttle;
    uint64_t rate = UINT64_MAX;
    if (debt_ppm > 0)
        rate = part_of_rate(atomic_load(&t->drain_rate), debt_ppm, true);
    if (memtable_ppm > 0) {
        uint64_t other = part_of_rate(atomic_load(&t->flush_rate), memtable_ppm, false);
        rate = other < rate ? other : rate;
    }
    if (ring_ppm > 0) {
        uint64_t full = wal_ring_half(db->wal) * STALL_RING_PARTS;
        uint64_t other = part_of_rate(full, ring_ppm, true);
        rate = other < rate ? other : rate;
    }
    return rate;
}

/* What was measured holds as long as the memtable is the last one. */
static uint32_t memtable_pressure(lsm_db *db)
{
    if (!atomic_load_explicit(&db->throttle.is_last_memtable, memory_order_relaxed))
        atomic_store_explicit(&db->throttle.memtable_ppm, 0, memory_order_relaxed);
    return atomic_load_explicit(&db->throttle.memtable_ppm, memory_order_relaxed);
}

static bool is_slowed(lsm_db *db)
{
    return atomic_load_explicit(&db->throttle.debt_ppm, memory_order_relaxed) > 0 ||
           memtable_pressure(db) > 0 || wal_ring_ppm(db->wal) > 0;
}

/* Sleeps, from `at` on, which goes forward. Returns how long it took by the clock: where processors
 * are busy that is several times `ns`. */
static uint64_t sleep_of(lsm_db *db, uint64_t ns, uint64_t *at)
{
    sleep_ns(ns);
    uint64_t before = *at;
    *at = io_now_ns(db->io);
    return *at - before > ns ? *at - before : ns;
}

/* Takes a turn of `bytes` at `rate` and waits for it. A turn behind the deadline is not taken, but
 * waited for while the reason may go. */
static lsm_status wait_turn(lsm_db *db, size_t bytes, uint64_t rate, enum db_obstacle behind,
                            const struct db_deadline *deadline, lsm_error *err)
{
    uint64_t now = io_now_ns(db->io);
    uint64_t step = (uint64_t)bytes * 1000000000u / rate;
    uint64_t most = STALL_MOST_NS * (1 + bytes / STALL_MOST_BYTES);
    uint64_t next = atomic_load(&db->throttle.next_write_ns), turn;
    step = step < most ? step : most;
    do {
        turn = next > now ? next : now;
        turn = turn - now < most ? turn : now + most;
        if (db_deadline_is_set(deadline) && turn > now &&
            turn - now > db_deadline_left_ns(deadline, UINT64_MAX))
            break;
    } while (!atomic_compare_exchange_weak(&db->throttle.next_write_ns, &next, turn + step));
    /* Small debts are not worth a system call: they add up and are slept off together. */
    if (turn < now + STALL_STEP_NS / 4)
        return LSM_OK;
    enum shm_wait kind = behind == DB_BEHIND_MEMTABLES ? SHM_WAIT_MEMTABLES
                         : behind == DB_BEHIND_SYNC    ? SHM_WAIT_LOG
                                                       : SHM_WAIT_LEVEL0;
    (void)db_stall_begin(db);
    for (uint64_t at = now, left = turn - now; left > 0 && is_slowed(db);) {
        if (db_deadline_is_over(deadline)) {
            db_stall_end(db, kind, now);
            return db_timeout(db, deadline, behind, err);
        }
        uint64_t took = sleep_of(db, left < STALL_STEP_NS ? left : STALL_STEP_NS, &at);
        left -= took < left ? took : left;
    }
    db_stall_end(db, kind, now);
    return LSM_OK;
}

/* Slows for memtables and ring alone: whoever will not wait is not slowed, for there is room. */
static lsm_status wait_for_room(lsm_db *db, size_t bytes, bool no_wait, uint32_t memtable_ppm,
                                uint32_t ring_ppm, const struct db_deadline *deadline,
                                lsm_error *err)
{
    if (no_wait || (memtable_ppm | ring_ppm) == 0)
        return LSM_OK;
    if (memtable_ppm > 0)
        db_stall_tell(db, LSM_STALL_MEMTABLES);
    return wait_turn(db, bytes, allowed_rate(db, 0, memtable_ppm, ring_ppm),
                     memtable_ppm > 0 ? DB_BEHIND_MEMTABLES : DB_BEHIND_SYNC, deadline, err);
}

lsm_status db_stall_wait(lsm_db *db, size_t bytes, bool no_wait, const struct db_deadline *deadline,
                         lsm_error *err)
{
    uint32_t ppm = atomic_load_explicit(&db->throttle.debt_ppm, memory_order_relaxed);
    uint32_t memtable_ppm = memtable_pressure(db), ring_ppm = wal_ring_ppm(db->wal);
    if (ppm == 0)
        return wait_for_room(db, bytes, no_wait, memtable_ppm, ring_ppm, deadline, err);
    if (!db_has_workers(db))
        return db_work_wait_until(db, deadline, err);
    if (no_wait)
        return lsm_fail(err, LSM_BUSY,
                        "writes to '%s' wait: compaction is behind, too many level-0 tables",
                        db->path);
    if (ppm < PPM)
        return wait_turn(db, bytes, allowed_rate(db, ppm, memtable_ppm, ring_ppm),
                         DB_BEHIND_COMPACTION, deadline, err);
    uint64_t begin = db_stall_begin(db);
    lsm_status status = LSM_OK;
    while (status == LSM_OK && atomic_load(&db->throttle.debt_ppm) >= PPM) {
        uint32_t seen = shm_event_count(&db->layout->version.changed);
        status = db_work_wait(db, err);
        if (status == LSM_OK && db_deadline_is_over(deadline))
            status = db_timeout(db, deadline, DB_BEHIND_COMPACTION, err);
        if (status == LSM_OK && atomic_load(&db->throttle.debt_ppm) >= PPM)
            db_wait_changed_until(db, seen, deadline);
        if (status == LSM_OK && db_deadline_is_set(deadline))
            status = db_change_await(db, deadline, err);
        /* Two workers that measured at once may have stored the older debt last. */
        db_stall_update(db);
    }
    db_stall_end(db, SHM_WAIT_LEVEL0, begin);
    return status;
}
