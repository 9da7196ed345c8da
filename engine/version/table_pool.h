/*
 * The open tables of a database: at most so many, and so many bytes of them, when nobody holds
 * them.
 *
 * A slot stands for one table or blob file for as long as any version names it. Its table is opened
 * at the first use. A reader inside an epoch uses the table without a count; a CLOCK hand closes
 * tables that were not touched in a round and that nobody holds. What is closed or removed goes
 * through an epoch first, then onto a list, and whoever calls table_pool_clean() does the work: an
 * epoch's callback may run on any thread under any lock.
 *
 * Lock order: slot->lock, then pool->lock.
 */
#ifndef ENGINE_VERSION_TABLE_POOL_H
#define ENGINE_VERSION_TABLE_POOL_H

#include "engine/base/epoch.h"
#include "engine/sst/table.h"
#include "engine/version/dead_files.h"

#include <pthread.h>
#include <stdatomic.h>

struct open_table;

struct table_pool {
    const struct table_env *env; /* set at init */
    struct dead_files *dead;     /* set at init: where removed files go; NULL: nothing is removed */

    /* guarded by lock */
    pthread_mutex_t lock;
    struct open_table *hand; /* a ring of all open tables */
    uint32_t open_count;
    uint32_t limit;
    uint64_t open_bytes;
    uint64_t byte_limit;

    /* guarded by dead_lock, which is a leaf */
    pthread_mutex_t dead_lock;
    struct open_table *dead_tables; /* to be closed */
    struct table_slot *dead_slots;  /* to be closed, removed when they shall be, and freed */
    struct table_slot *slots;       /* a list of all, the dead ones too */
};

struct table_slot {
    struct table_pool *pool; /* set at making, as number and size */
    enum file_kind kind;     /* a table or a blob file */
    uint64_t number;
    uint64_t size;
    _Atomic uint32_t references;
    _Atomic uint64_t dead_number; /* of the version whose edit removed the file; 0: none did */
    uint32_t dead_level;          /* where that was; set before dead_number */
    _Atomic(struct open_table *) open;
    pthread_mutex_t lock; /* held while the table is being opened */
    uint32_t holders;     /* guarded by pool->lock */
    struct table_slot *next_dead;
    struct table_slot *next, *previous; /* of all */
};

/* `byte_limit` 0 is none. The table in use last stays open, however large it is. */
void table_pool_init(struct table_pool *pool, const struct table_env *env, uint32_t limit,
                     uint64_t byte_limit, struct dead_files *dead);
/* Every slot has been dropped and every epoch is over. */
void table_pool_release(struct table_pool *pool);
/* Closes what is due, and hands removed files to pool->dead. Any thread, no lock held. */
void table_pool_clean(struct table_pool *pool);

/* Appends the files that versions in use name to the listing. No removed file escapes whoever asks
 * here first and pool->dead second. */
lsm_status table_pool_list(struct table_pool *pool, struct listing *list, lsm_error *err);

/* Bytes that the open tables hold. */
uint64_t table_pool_memory(struct table_pool *pool);

struct table_slot *table_slot_new(struct table_pool *pool, enum file_kind kind, uint64_t number,
                                  uint64_t size);
void table_slot_keep(struct table_slot *slot);
void table_slot_drop(struct table_slot *slot); /* no reader can find it any more */

/* The open table, or NULL; marks it as used. Inside an epoch. */
struct table *table_slot_peek(struct table_slot *slot);
/* The table, opened when it is not. Inside an epoch, which keeps it open. */
lsm_status table_slot_get(struct table_slot *slot, struct table **table, lsm_error *err);
/* The same, kept open until table_slot_unhold(). */
lsm_status table_slot_hold(struct table_slot *slot, struct table **table, lsm_error *err);
void table_slot_unhold(struct table_slot *slot);

#endif
