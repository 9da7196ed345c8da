/*
 * The checks in front of every public call. They cost a few loads: whether the process forked since
 * the open is a counter raised by pthread_atfork, not a getpid() per call.
 */
#include "engine/db/db_private.h"

#include "engine/base/memory.h"

#include <errno.h>
#include <string.h>

_Atomic uint64_t db_forks;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

/* Closed handles that are not freed yet, oldest overwritten first. */
#define GRAVE_COUNT 64
static pthread_mutex_t grave_lock = PTHREAD_MUTEX_INITIALIZER;
static lsm_db *graves[GRAVE_COUNT];
static size_t grave_next;

static void fork_begins(void)
{
    pthread_mutex_lock(&grave_lock);
}

static void fork_is_over(void)
{
    pthread_mutex_unlock(&grave_lock);
}

static void fork_happened(void)
{
    atomic_fetch_add(&db_forks, 1);
    fork_is_over();
}

static void fork_watch(void)
{
    (void)pthread_atfork(fork_begins, fork_is_over, fork_happened);
}

void db_watch_forks(void)
{
    pthread_once(&fork_once, fork_watch);
}

lsm_status db_check(const lsm_db *db, lsm_error *err)
{
    if (db == NULL)
        return lsm_fail(err, LSM_INVALID, "the database handle is NULL");
    if (db->magic == DB_MAGIC_CLOSED)
        return lsm_fail(err, LSM_INVALID, "the database handle was closed");
    if (db->magic != DB_MAGIC)
        return lsm_fail(err, LSM_INVALID, "the database handle is not one that lsm_open() gave");
    if (db->fork_count != db_fork_count())
        return lsm_fail(err, LSM_FORKED,
                        "the handle of '%s' was inherited over fork; open it again in the child",
                        db->path);
    return LSM_OK;
}

lsm_status db_check_write(const lsm_db *db, lsm_error *err)
{
    lsm_status status = db_check(db, err);
    if (status != LSM_OK)
        return status;
    if (db->options.read_only)
        return lsm_fail(err, LSM_READ_ONLY, "'%s' was opened for reading only", db->path);
    int poison = (int)atomic_load_explicit(&db->layout->ctl.poisoned, memory_order_relaxed);
    if (poison != 0)
        return status_fail(err, LSM_POISONED, poison, __FILE__, __LINE__,
                           "a sync of '%s' failed earlier; close and reopen it to write again",
                           db->path);
    return LSM_OK;
}

lsm_status db_check_cf(const lsm_db *db, lsm_cf *cf, uint32_t *id, lsm_error *err)
{
    if (cf == NULL) {
        *id = 0;
        return LSM_OK;
    }
    if (cf->magic != DB_MAGIC || cf->db != db)
        return lsm_fail(err, LSM_INVALID, "the column family belongs to another database");
    if (atomic_load_explicit(&cf->dropped, memory_order_relaxed))
        return lsm_fail(err, LSM_MISSING, "column family %" PRIu32 " of '%s' was dropped", cf->id,
                        db->path);
    *id = cf->id;
    return LSM_OK;
}

lsm_status db_check_key(lsm_slice key, lsm_error *err)
{
    if (key.data == NULL && key.size > 0)
        return lsm_fail(err, LSM_INVALID, "the key's data is NULL but its size is %zu", key.size);
    if (key.size > LSM_MAX_KEY_SIZE) {
        lsm_status status = lsm_fail(err, LSM_TOO_LARGE, "the key has %zu bytes, the limit is %zu",
                                     key.size, LSM_MAX_KEY_SIZE);
        status_numbers(err, LSM_MAX_KEY_SIZE, key.size);
        return status;
    }
    return LSM_OK;
}

void db_bury(lsm_db *db)
{
    memset(db, 0, sizeof *db);
    db->magic = DB_MAGIC_CLOSED;
    pthread_mutex_lock(&grave_lock);
    lsm_db *old = graves[grave_next];
    graves[grave_next] = db;
    grave_next = (grave_next + 1) % GRAVE_COUNT;
    pthread_mutex_unlock(&grave_lock);
    mem_free(old);
}
