/*
 * Asking the compactions by hand of every process to stop. The wish is a counter in the slot of
 * each; who asks then waits until the calls that were there have ended, or their process has.
 */
#include "engine/db/db_private.h"

void db_manual_begin(lsm_db *db, uint32_t *cancels)
{
    struct shm_manual *r = &db->slot->manual;
    /* Counted first: whoever raises the counter behind this finds a call to wait for. */
    atomic_fetch_add(&r->calls, 1);
    *cancels = atomic_load(&r->cancels);
}

void db_manual_end(lsm_db *db)
{
    struct shm_manual *r = &db->slot->manual;
    atomic_fetch_add(&r->ended, 1);
    atomic_fetch_sub(&r->calls, 1);
    shm_event_signal(&db->layout->version.changed);
}

struct asked {
    uint32_t generation; /* of the slot */
    uint32_t calls;
    uint32_t ended; /* before they were asked */
};

static uint32_t ask(lsm_db *db, struct asked asked[SHM_MAX_SLOTS])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        struct shm_slot *slot = &db->layout->slots[i];
        struct shm_manual *r = &slot->manual;
        asked[i].generation = atomic_load(&slot->generation);
        asked[i].ended = atomic_load(&r->ended);
        asked[i].calls = atomic_load(&r->calls);
        if (asked[i].calls > 0)
            atomic_fetch_add(&r->cancels, 1);
        count += asked[i].calls;
    }
    return count;
}

static bool has_ended(lsm_db *db, uint32_t index, const struct asked *asked)
{
    struct shm_slot *slot = &db->layout->slots[index];
    return asked->calls == 0 || atomic_load(&slot->generation) != asked->generation ||
           atomic_load(&slot->manual.ended) - asked->ended >= asked->calls ||
           atomic_load(&slot->manual.calls) == 0 ||
           (db->attachment != NULL && !shm_slot_is_alive(db->attachment, index));
}

static uint32_t first_running(lsm_db *db, const struct asked asked[SHM_MAX_SLOTS])
{
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        if (!has_ended(db, i, &asked[i]))
            return i;
    }
    return SHM_MAX_SLOTS;
}

LSM_API lsm_status lsm_compact_cancel(lsm_db *db, uint32_t timeout_ms, uint32_t *asked_count,
                                      lsm_error *err)
{
    struct asked asked[SHM_MAX_SLOTS];
    struct db_deadline deadline = {0};
    lsm_status status = db_check(db, err);
    if (status != LSM_OK)
        return status;
    if (timeout_ms > 0)
        db_deadline_set(&deadline, timeout_ms);
    uint32_t count = ask(db, asked), running;
    if (asked_count != NULL)
        *asked_count = count;
    for (;;) {
        uint32_t seen = shm_event_count(&db->layout->version.changed);
        running = first_running(db, asked);
        if (running == SHM_MAX_SLOTS)
            return LSM_OK;
        if (db_deadline_is_over(&deadline))
            break;
        db_wait_changed_until(db, seen, &deadline);
    }
    return lsm_fail(err, LSM_TIMEOUT,
                    "process %" PRId64 " has not stopped its compaction of '%s' within %" PRIu32
                    " ms, it may do so later; see lsm-stat -r",
                    atomic_load(&db->layout->slots[running].pid), db->path, timeout_ms);
}
