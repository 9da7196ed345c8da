/*
 * Deadlines of writes: how long is left, and the sentence when nothing is.
 *
 * Giving up never takes anything from anybody: a stopped process stays the owner of its locks and
 * goes on where it was. So all that can be done for the caller is to say who it is. A lock tells
 * the thread of its owner, and the kernel whose that thread is; everything else is found in the
 * slots. It is all read without a lock and may be outdated, which a message may be.
 */
#include "engine/db/db_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND UINT64_C(1000000000)
#define NS_PER_MS     UINT64_C(1000000)
#define WHO_SIZE      96
#define PATH_SHOWN    120 /* so that what follows it is not cut */

/* ---- time ------------------------------------------------------------------------------------ */

/* The clock that the locks wait by, which is not that of a simulated disk. */
static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

void db_deadline_set(struct db_deadline *deadline, uint32_t timeout_ms)
{
    deadline->timeout_ms = timeout_ms;
    deadline->at_ns = now_ns() + timeout_ms * NS_PER_MS;
}

bool db_deadline_is_over(const struct db_deadline *deadline)
{
    return db_deadline_is_set(deadline) && now_ns() >= deadline->at_ns;
}

uint64_t db_deadline_left_ns(const struct db_deadline *deadline, uint64_t most)
{
    if (!db_deadline_is_set(deadline))
        return most;
    uint64_t now = now_ns(), left = now < deadline->at_ns ? deadline->at_ns - now : 0;
    return left < most ? left : most;
}

/* ---- who it is ------------------------------------------------------------------------------- */

static void describe_process(lsm_db *db, int64_t thread, char who[WHO_SIZE])
{
    struct io_thread found;
    bool is_told = io_describe_thread(db->io, thread, &found);
    const char *stopped = found.is_stopped ? ", which is stopped," : "";
    if (!is_told)
        snprintf(who, WHO_SIZE, "thread %" PRId64, thread);
    else if (found.pid == getpid())
        snprintf(who, WHO_SIZE, "thread %" PRId64 " of this process%s", thread, stopped);
    else
        snprintf(who, WHO_SIZE, "process %" PRId64 " (%s)%s", found.pid, found.command, stopped);
}

static bool describe_slot(lsm_db *db, uint32_t index, char who[WHO_SIZE])
{
    if (index >= SHM_MAX_SLOTS)
        return false;
    int64_t pid = atomic_load(&db->layout->slots[index].pid);
    if (pid == getpid())
        snprintf(who, WHO_SIZE, "this process");
    else if (pid != 0)
        describe_process(db, pid, who);
    return pid != 0;
}

static bool describe_owner(lsm_db *db, const struct shm_lock *lock, char who[WHO_SIZE])
{
    int64_t thread = shm_lock_owner(lock);
    if (thread != 0)
        describe_process(db, thread, who);
    return thread != 0;
}

static uint32_t flusher(const lsm_db *db)
{
    for (uint32_t i = 0; i < db->layout->ident.memtable_count; i++) {
        const struct shm_memtable *m = &db->layout->memtables[i];
        if (atomic_load(&m->state) == SHM_MEMTABLE_FLUSHING)
            return m->owner_slot;
    }
    return SHM_MAX_SLOTS;
}

static uint32_t merger(const lsm_db *db)
{
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++)
        for (uint32_t j = 0; j < SHM_SLOT_JOBS; j++)
            if (atomic_load(&db->layout->slots[i].jobs[j].state) == SHM_JOB_RUNNING)
                return i;
    return SHM_MAX_SLOTS;
}

/* Who holds most of the memtables that are flushed and free but for their readers. */
static uint32_t greatest_reader(const lsm_db *db, int *count)
{
    uint64_t flushed = 0;
    uint32_t greatest = SHM_MAX_SLOTS;
    for (uint32_t i = 0; i < db->layout->ident.memtable_count; i++)
        if (atomic_load(&db->layout->memtables[i].state) == SHM_MEMTABLE_FLUSHED)
            flushed |= UINT64_C(1) << i;
    *count = 0;
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        int held = __builtin_popcountll(atomic_load(&db->layout->slots[i].arenas) & flushed);
        if (held > *count) {
            *count = held;
            greatest = i;
        }
    }
    return greatest;
}

static bool any_is_free(const lsm_db *db)
{
    for (uint32_t i = 0; i < db->layout->ident.memtable_count; i++)
        if (atomic_load(&db->layout->memtables[i].state) == SHM_MEMTABLE_FREE)
            return true;
    return false;
}

/* ---- the sentence ---------------------------------------------------------------------------- */

/* Begin and end of it; the middle says who does what. */
static const struct {
    lsm_status status;
    const char *begin, *end;
} outcomes[] = {
    [DB_NOTHING_WRITTEN] = {LSM_TIMEOUT, "nothing was written", ""},
    [DB_NOT_DURABLE] = {LSM_PENDING, "the write is in the log, but was not durable",
                        "; whether it will be is not known"},
    [DB_NOT_VISIBLE] = {LSM_PENDING,
                        "the write is in the log, but sync writes before it were not durable",
                        "; it is visible when they are, if ever"},
};

static lsm_status sentence(lsm_db *db, const struct db_deadline *deadline, const char *who,
                           const char *does, const char *behind, lsm_error *err)
{
    return lsm_fail(err, outcomes[deadline->outcome].status,
                    "%s within %" PRIu32 " ms: %s %s '%.*s'%s%s", outcomes[deadline->outcome].begin,
                    deadline->timeout_ms, who, does, PATH_SHOWN, db->path, behind,
                    outcomes[deadline->outcome].end);
}

static lsm_status behind_memtables(lsm_db *db, const struct db_deadline *deadline, lsm_error *err)
{
    char who[WHO_SIZE], behind[64];
    int count;
    if (describe_slot(db, flusher(db), who))
        return sentence(db, deadline, who, "has yet to flush the full memtables of", "", err);
    if (!any_is_free(db) && describe_slot(db, greatest_reader(db, &count), who)) {
        snprintf(behind, sizeof behind, ", %d of %" PRIu32 "; close old iterators", count,
                 db->layout->ident.memtable_count);
        return sentence(db, deadline, who, "reads old memtables of", behind, err);
    }
    return sentence(db, deadline, "nobody", "has yet flushed the full memtables of", "", err);
}

static lsm_status behind_compaction(lsm_db *db, const struct db_deadline *deadline, lsm_error *err)
{
    char who[WHO_SIZE] = "nobody";
    (void)describe_slot(db, merger(db), who);
    return sentence(db, deadline, who, "merges the tables of", ", and too many are in level 0",
                    err);
}

static lsm_status behind_lock(lsm_db *db, const struct db_deadline *deadline,
                              enum db_obstacle obstacle, lsm_error *err)
{
    const struct shm_locks *l = &db->layout->locks;
    const struct {
        const struct shm_lock *lock;
        const char *does;
    } locks[] = {[DB_BEHIND_APPEND] = {&l->append, "holds the append lock of"},
                 [DB_BEHIND_SYNC] = {&l->sync, "holds the sync lock of"},
                 [DB_BEHIND_VERSION] = {&l->version, "holds the version lock of"},
                 [DB_BEHIND_CHANGE] = {&l->change, "holds the change lock of"}};
    char who[WHO_SIZE] = "somebody";
    (void)describe_owner(db, locks[obstacle].lock, who);
    return sentence(db, deadline, who, locks[obstacle].does, "", err);
}

lsm_status db_timeout(lsm_db *db, const struct db_deadline *deadline, enum db_obstacle obstacle,
                      lsm_error *err)
{
    switch (obstacle) {
    case DB_BEHIND_MEMTABLES:
        return behind_memtables(db, deadline, err);
    case DB_BEHIND_COMPACTION:
        return behind_compaction(db, deadline, err);
    case DB_BEHIND_APPEND:
    case DB_BEHIND_SYNC:
    case DB_BEHIND_VERSION:
    case DB_BEHIND_CHANGE:
        break;
    }
    return behind_lock(db, deadline, obstacle, err);
}
