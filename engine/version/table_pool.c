/* See the header. An open table leaves the ring exactly once: evicted, or with its slot. */
#include "engine/version/table_pool.h"

#include "engine/base/memory.h"

#include <assert.h>
#include <errno.h>

#define POOL_MIN_LIMIT 8 /* tables, however few descriptors there are */

struct open_table {
    struct epoch_retired retired;
    struct table *table;
    struct table_slot *slot; /* valid while in the ring */
    struct table_pool *pool;
    _Atomic bool touched;
    struct open_table *next, *previous; /* in the ring; next alone on the list of the dead */
};

void table_pool_init(struct table_pool *pool, const struct table_env *env, uint32_t limit,
                     uint64_t byte_limit, struct dead_files *dead)
{
    *pool = (struct table_pool){.env = env,
                                .dead = dead,
                                .limit = limit < POOL_MIN_LIMIT ? POOL_MIN_LIMIT : limit,
                                .byte_limit = byte_limit != 0 ? byte_limit : UINT64_MAX};
    pthread_mutex_init(&pool->lock, NULL);
    pthread_mutex_init(&pool->dead_lock, NULL);
}

void table_pool_release(struct table_pool *pool)
{
    table_pool_clean(pool);
    assert(pool->open_count == 0);
    pthread_mutex_destroy(&pool->lock);
    pthread_mutex_destroy(&pool->dead_lock);
}

/* ---- the ring ---------------------------------------------------------------------------------
 */

static void ring_insert_locked(struct table_pool *pool, struct open_table *open)
{
    if (pool->hand == NULL) {
        open->next = open->previous = open;
        pool->hand = open;
    } else {
        open->next = pool->hand;
        open->previous = pool->hand->previous;
        open->next->previous = open;
        open->previous->next = open;
    }
    pool->open_count++;
    pool->open_bytes += table_memory(open->table);
}

static void ring_remove_locked(struct table_pool *pool, struct open_table *open)
{
    if (pool->hand == open)
        pool->hand = open->next == open ? NULL : open->next;
    open->next->previous = open->previous;
    open->previous->next = open->next;
    pool->open_count--;
    pool->open_bytes -= table_memory(open->table);
}

/* Takes one table nobody holds out of the ring and its slot; NULL when there is none. The first
 * round spares those used since the hand was here last. */
static struct open_table *ring_evict_locked(struct table_pool *pool)
{
    for (uint32_t steps = 2 * pool->open_count; steps > 0; steps--) {
        struct open_table *open = pool->hand;
        pool->hand = open->next;
        if (open->slot->holders > 0)
            continue;
        if (atomic_exchange_explicit(&open->touched, false, memory_order_relaxed))
            continue;
        ring_remove_locked(pool, open);
        atomic_store_explicit(&open->slot->open, NULL, memory_order_release);
        return open;
    }
    return NULL;
}

/* ---- the dead ---------------------------------------------------------------------------------
 */

static void table_is_unreachable(struct epoch_retired *thing)
{
    struct open_table *open = (struct open_table *)thing;
    struct table_pool *pool = open->pool;
    pthread_mutex_lock(&pool->dead_lock);
    open->next = pool->dead_tables;
    pool->dead_tables = open;
    pthread_mutex_unlock(&pool->dead_lock);
}

/* Closes one that nobody holds, as soon as no reader is inside. False when all are held. */
static bool evict_one(struct table_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct open_table *open = ring_evict_locked(pool);
    pthread_mutex_unlock(&pool->lock);
    if (open != NULL)
        epoch_retire(&open->retired, table_is_unreachable);
    return open != NULL;
}

/* Closes about `count` unheld tables. */
static void evict(struct table_pool *pool, uint32_t count)
{
    while (count > 0 && evict_one(pool))
        count--;
}

static bool has_room(struct table_pool *pool, uint64_t bytes)
{
    pthread_mutex_lock(&pool->lock);
    bool has = pool->open_count < pool->limit && bytes <= pool->byte_limit &&
               pool->open_bytes <= pool->byte_limit - bytes;
    pthread_mutex_unlock(&pool->lock);
    return has;
}

/* Closes tables until one more of so many bytes fits. */
static void make_room(struct table_pool *pool, uint64_t bytes)
{
    while (!has_room(pool, bytes) && evict_one(pool))
        ;
}

static void close_open_table(struct open_table *open)
{
    table_close(open->table);
    mem_free(open);
}

static void bury_slot(struct table_pool *pool, struct table_slot *slot)
{
    struct open_table *open = atomic_load_explicit(&slot->open, memory_order_acquire);
    if (open != NULL) {
        pthread_mutex_lock(&pool->lock);
        /* It may have been evicted between the load and here. */
        open = atomic_load_explicit(&slot->open, memory_order_relaxed);
        if (open != NULL)
            ring_remove_locked(pool, open);
        pthread_mutex_unlock(&pool->lock);
    }
    if (open != NULL)
        close_open_table(open);
    /* First among the dead, then off the list: a search for orphans finds it in one of them. */
    uint64_t dead_number = atomic_load_explicit(&slot->dead_number, memory_order_acquire);
    if (dead_number != 0 && pool->dead != NULL)
        dead_files_add(pool->dead, slot->kind, slot->number, slot->dead_level, dead_number);
    pthread_mutex_lock(&pool->dead_lock);
    if (slot->next != NULL)
        slot->next->previous = slot->previous;
    if (slot->previous != NULL)
        slot->previous->next = slot->next;
    else
        pool->slots = slot->next;
    pthread_mutex_unlock(&pool->dead_lock);
    pthread_mutex_destroy(&slot->lock);
    mem_free(slot);
}

void table_pool_clean(struct table_pool *pool)
{
    pthread_mutex_lock(&pool->dead_lock);
    struct open_table *tables = pool->dead_tables;
    struct table_slot *slots = pool->dead_slots;
    pool->dead_tables = NULL;
    pool->dead_slots = NULL;
    pthread_mutex_unlock(&pool->dead_lock);
    while (tables != NULL) {
        struct open_table *open = tables;
        tables = open->next;
        close_open_table(open);
    }
    while (slots != NULL) {
        struct table_slot *slot = slots;
        slots = slot->next_dead;
        bury_slot(pool, slot);
    }
}

lsm_status table_pool_list(struct table_pool *pool, struct listing *list, lsm_error *err)
{
    lsm_status status = LSM_OK;
    pthread_mutex_lock(&pool->dead_lock);
    for (struct table_slot *s = pool->slots; status == LSM_OK && s != NULL; s = s->next)
        status = listing_add(list, s->kind, s->number, err);
    pthread_mutex_unlock(&pool->dead_lock);
    return status;
}

uint64_t table_pool_memory(struct table_pool *pool)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&pool->lock);
    struct open_table *open = pool->hand;
    for (uint32_t i = 0; i < pool->open_count; i++, open = open->next)
        bytes += table_memory(open->table);
    pthread_mutex_unlock(&pool->lock);
    return bytes;
}

/* ---- slots ------------------------------------------------------------------------------------
 */

struct table_slot *table_slot_new(struct table_pool *pool, enum file_kind kind, uint64_t number,
                                  uint64_t size)
{
    struct table_slot *slot = mem_alloc_zeroed(sizeof *slot);
    if (slot == NULL)
        return NULL;
    slot->pool = pool;
    slot->kind = kind;
    slot->number = number;
    slot->size = size;
    atomic_init(&slot->references, 1);
    pthread_mutex_init(&slot->lock, NULL);
    pthread_mutex_lock(&pool->dead_lock);
    slot->next = pool->slots;
    if (slot->next != NULL)
        slot->next->previous = slot;
    pool->slots = slot;
    pthread_mutex_unlock(&pool->dead_lock);
    return slot;
}

void table_slot_keep(struct table_slot *slot)
{
    atomic_fetch_add_explicit(&slot->references, 1, memory_order_relaxed);
}

void table_slot_drop(struct table_slot *slot)
{
    /* acq_rel: whoever drops the last reference sees what others did before dropping theirs */
    if (atomic_fetch_sub_explicit(&slot->references, 1, memory_order_acq_rel) > 1)
        return;
    struct table_pool *pool = slot->pool;
    pthread_mutex_lock(&pool->dead_lock);
    slot->next_dead = pool->dead_slots;
    pool->dead_slots = slot;
    pthread_mutex_unlock(&pool->dead_lock);
}

struct table *table_slot_peek(struct table_slot *slot)
{
    /* pairs with the release store in open_locked() */
    struct open_table *open = atomic_load_explicit(&slot->open, memory_order_acquire);
    if (open == NULL)
        return NULL;
    if (!atomic_load_explicit(&open->touched, memory_order_relaxed))
        atomic_store_explicit(&open->touched, true, memory_order_relaxed);
    return open->table;
}

/* Out of descriptors: some tables are given up and the limit is lowered to what seems to fit. */
static bool make_room_for_descriptors(struct table_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    uint32_t count = pool->open_count / 8 + 1;
    uint32_t fits = pool->open_count > count ? pool->open_count - count : 0;
    if (fits < pool->limit)
        pool->limit = fits < POOL_MIN_LIMIT ? POOL_MIN_LIMIT : fits;
    pthread_mutex_unlock(&pool->lock);
    evict(pool, count);
    epoch_collect();
    table_pool_clean(pool);
    return count > 0;
}

static lsm_status open_with_retry(struct table_slot *slot, struct table **table, lsm_error *err)
{
    lsm_error own;
    lsm_status status =
        table_open_kind(slot->pool->env, slot->kind, slot->number, slot->size, table, &own);
    if (status == LSM_IO && (own.os_errno == EMFILE || own.os_errno == ENFILE) &&
        make_room_for_descriptors(slot->pool))
        status =
            table_open_kind(slot->pool->env, slot->kind, slot->number, slot->size, table, &own);
    if (status != LSM_OK)
        status_copy(err, &own);
    return status;
}

/* slot->lock is held and the table is not open. */
static lsm_status open_locked(struct table_slot *slot, lsm_error *err)
{
    struct table_pool *pool = slot->pool;
    struct open_table *open = mem_alloc_zeroed(sizeof *open);
    if (open == NULL)
        return lsm_fail_memory(err, sizeof *open);
    lsm_status status = open_with_retry(slot, &open->table, err);
    if (status != LSM_OK) {
        mem_free(open);
        return status;
    }
    open->slot = slot;
    open->pool = pool;
    atomic_init(&open->touched, true);
    make_room(pool, table_memory(open->table)); /* before it is in the ring, so that it stays */
    pthread_mutex_lock(&pool->lock);
    ring_insert_locked(pool, open);
    atomic_store_explicit(&slot->open, open, memory_order_release);
    pthread_mutex_unlock(&pool->lock);
    return LSM_OK;
}

lsm_status table_slot_get(struct table_slot *slot, struct table **table, lsm_error *err)
{
    assert(epoch_is_inside());
    struct table *found = table_slot_peek(slot);
    lsm_status status = LSM_OK;
    if (found == NULL) {
        pthread_mutex_lock(&slot->lock);
        while (status == LSM_OK && (found = table_slot_peek(slot)) == NULL)
            status = open_locked(slot, err);
        pthread_mutex_unlock(&slot->lock);
        table_pool_clean(slot->pool); /* what was evicted for this one, or earlier */
    }
    if (status == LSM_OK)
        *table = found;
    return status;
}

lsm_status table_slot_hold(struct table_slot *slot, struct table **table, lsm_error *err)
{
    struct table_pool *pool = slot->pool;
    /* A held table is not evicted, so holding first settles the race with the hand. */
    pthread_mutex_lock(&pool->lock);
    slot->holders++;
    pthread_mutex_unlock(&pool->lock);
    epoch_enter();
    lsm_status status = table_slot_get(slot, table, err);
    epoch_exit();
    if (status != LSM_OK)
        table_slot_unhold(slot);
    return status;
}

void table_slot_unhold(struct table_slot *slot)
{
    struct table_pool *pool = slot->pool;
    pthread_mutex_lock(&pool->lock);
    assert(slot->holders > 0);
    slot->holders--;
    pthread_mutex_unlock(&pool->lock);
}
