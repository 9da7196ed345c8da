/*
 * Slots: one for each attachment. Taken under the attach lock, so that two newcomers cannot want
 * the same one; reaped under the slot's own lock only, which proves the owner's death and keeps
 * newcomers away. A slot is never free and locked by a reaper but for the moment between the two
 * stores.
 */
#include "engine/shm/attach_private.h"

#include "engine/base/step.h"

#include <assert.h>
#include <string.h>

static struct shm_slot *slot_at(struct shm_segment *segment, uint32_t index)
{
    return &shm_layout(segment)->slots[index];
}

static bool is_in_use(struct shm_slot *slot)
{
    return atomic_load_explicit(&slot->state, memory_order_acquire) == SHM_SLOT_IN_USE;
}

/* Whatever the owner said of itself. Everything is plain to repeat, should this process die too. */
static void clear_slot(struct shm_slot *slot)
{
    for (size_t i = 0; i < SHM_SLOT_JOBS; i++) {
        atomic_store_explicit(&slot->jobs[i].state, SHM_JOB_NONE, memory_order_relaxed);
        slot->jobs[i].input_count = 0;
    }
    for (size_t i = 0; i < SHM_SLOT_SNAPSHOTS; i++)
        atomic_store_explicit(&slot->snapshots[i], 0, memory_order_relaxed);
    atomic_store_explicit(&slot->out_floor, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->pin, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->arenas, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->roles, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->pid, 0, memory_order_relaxed);
    memset(slot->command, 0, sizeof slot->command);
    memset(&slot->manual, 0, sizeof slot->manual);
    memset(&slot->report, 0, sizeof slot->report);
}

static void free_slot(struct shm_slot *slot)
{
    clear_slot(slot);
    atomic_fetch_add_explicit(&slot->generation, 1, memory_order_relaxed);
    /* Pairs with the acquire in is_in_use(): who finds it free finds it empty. */
    atomic_store_explicit(&slot->state, SHM_SLOT_FREE, memory_order_release);
}

/* The slot is free and its lock is ours. */
static void occupy(struct shm_attachment *a, uint32_t index, struct io_lock *lock)
{
    struct shm_slot *slot = slot_at(a->segment, index);
    a->slot = index;
    a->slot_lock = lock;
    STEP("attach: slot locked");
    clear_slot(slot);
    a->generation = atomic_fetch_add_explicit(&slot->generation, 1, memory_order_relaxed) + 1;
    atomic_store_explicit(&slot->pid, a->process.pid, memory_order_relaxed);
    memcpy(slot->command, a->process.command, sizeof slot->command);
    atomic_store_explicit(&slot->state, SHM_SLOT_IN_USE, memory_order_release);
    STEP("attach: slot taken");
}

/* LSM_BUSY: its owner lives. Otherwise *lock, NULL when there is nothing to clean any more. */
static lsm_status lock_dead_slot(struct shm_attachment *a, uint32_t index, struct io_lock **lock,
                                 lsm_error *err)
{
    lsm_status status = io_try_lock(a->file, SHM_LOCK_SLOT(index), lock, err);
    if (status == LSM_OK && !is_in_use(slot_at(a->segment, index))) {
        io_unlock(*lock); /* another reaper was faster */
        *lock = NULL;
    }
    return status;
}

static lsm_status reap_locked(struct shm_attachment *a, uint32_t index, shm_reap_slot reap,
                              void *context, lsm_error *err)
{
    STEP("reap: slot locked");
    if (reap != NULL) {
        lsm_status status = reap(context, shm_layout(a->segment), index, err);
        if (status != LSM_OK)
            return status;
    }
    STEP("reap: cleaned");
    free_slot(slot_at(a->segment, index));
    STEP("reap: slot free");
    return LSM_OK;
}

static lsm_status take_free_slot(struct shm_attachment *a, lsm_error *err)
{
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        struct io_lock *lock = NULL;
        if (is_in_use(slot_at(a->segment, i)))
            continue;
        lsm_status status = io_try_lock(a->file, SHM_LOCK_SLOT(i), &lock, err);
        if (status == LSM_OK)
            occupy(a, i, lock);
        if (status != LSM_BUSY)
            return status;
    }
    return LSM_BUSY;
}

static lsm_status take_dead_slot(struct shm_attachment *a, uint32_t *dead, lsm_error *err)
{
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        struct io_lock *lock = NULL;
        lsm_status status = lock_dead_slot(a, i, &lock, err);
        if (status != LSM_OK && status != LSM_BUSY)
            return status;
        if (lock == NULL)
            continue;
        (*dead)++;
        if (a->options.reap == NULL) {
            io_unlock(lock);
            continue;
        }
        status = reap_locked(a, i, a->options.reap, a->options.reap_context, err);
        if (status == LSM_OK)
            occupy(a, i, lock);
        else
            io_unlock(lock);
        return status;
    }
    return LSM_BUSY;
}

lsm_status attach_take_slot(struct shm_attachment *a, lsm_error *err)
{
    uint32_t dead = 0;
    lsm_status status = take_free_slot(a, err);
    if (status == LSM_BUSY)
        status = take_dead_slot(a, &dead, err);
    if (status != LSM_BUSY)
        return status;
    return lsm_fail(err, LSM_BUSY,
                    "all %d slots of '%s' are taken, %" PRIu32
                    " of them by processes that died and were not cleaned up after yet; close it "
                    "in one of the others or try again later",
                    SHM_MAX_SLOTS, a->options.path, dead);
}

void attach_free_slot(struct shm_attachment *a)
{
    free_slot(slot_at(a->segment, a->slot));
}

bool shm_slot_is_alive(const struct shm_attachment *attachment, uint32_t index)
{
    assert(index < SHM_MAX_SLOTS);
    if (attachment->slot_lock != NULL && index == attachment->slot)
        return true; /* where there is no /proc a handle does not see its own locks */
    return io_lock_is_held(attachment->file, SHM_LOCK_SLOT(index));
}

bool attach_others_live(const struct shm_attachment *a)
{
    for (uint32_t i = 0; a->segment != NULL && i < SHM_MAX_SLOTS; i++)
        if (i != a->slot && is_in_use(slot_at(a->segment, i)) && shm_slot_is_alive(a, i))
            return true;
    return false;
}

const struct shm_slot *attach_living_slot(struct shm_segment *segment, struct io_file *file)
{
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++)
        if (is_in_use(slot_at(segment, i)) && io_lock_is_held(file, SHM_LOCK_SLOT(i)))
            return slot_at(segment, i);
    return NULL;
}

lsm_status shm_reap(struct shm_attachment *attachment, shm_reap_slot reap, void *context,
                    uint32_t *count, lsm_error *err)
{
    uint32_t reaped = 0;
    lsm_status status = LSM_OK;
    for (uint32_t i = 0; status == LSM_OK && i < SHM_MAX_SLOTS; i++) {
        struct io_lock *lock = NULL;
        if (i == attachment->slot || !is_in_use(slot_at(attachment->segment, i)))
            continue;
        status = lock_dead_slot(attachment, i, &lock, err);
        if (status == LSM_BUSY)
            status = LSM_OK;
        if (lock == NULL)
            continue;
        status = reap_locked(attachment, i, reap, context, err);
        io_unlock(lock);
        reaped += status == LSM_OK;
    }
    if (count != NULL)
        *count = reaped;
    if (status == LSM_OK && err != NULL)
        *err = (lsm_error){0}; /* a slot that is alive is no error */
    return status;
}
