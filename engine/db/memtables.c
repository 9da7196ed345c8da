/*
 * Memtables: the arenas of the shared segment, and what a recovery found.
 *
 * Which arenas hold a memtable, and in which state, stands in the segment under the change lock. A
 * process reads an arena through a wrapper of its own, struct db_memtable, and says in its slot
 * which arenas it has wrappers for: a flushed arena is used again when no slot names it any more.
 * What a recovery found is in the private memory of the process that recovered, until it is in
 * tables.
 */
#include "engine/db/db_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"

#include <assert.h>

static struct shm_memtable *arena_of(const lsm_db *db, uint32_t arena)
{
    return &db->layout->memtables[arena];
}

static enum shm_memtable_state state_of(const lsm_db *db, uint32_t arena)
{
    return (enum shm_memtable_state)atomic_load(&arena_of(db, arena)->state);
}

static void set_state(lsm_db *db, uint32_t arena, enum shm_memtable_state state)
{
    atomic_store(&arena_of(db, arena)->state, state);
}

static uint32_t arena_count(const lsm_db *db)
{
    return db->layout->ident.memtable_count;
}

static enum memtable_kind memtable_kind_of(const lsm_db *db)
{
    return db->options.memtable[0] == 's' ? MEMTABLE_SKIPLIST : MEMTABLE_BTREE;
}

/* ---- wrappers -------------------------------------------------------------------------------- */

static void use_arena(lsm_db *db, uint32_t arena)
{
    pthread_mutex_lock(&db->arena_lock);
    if (db->arena_uses[arena]++ == 0)
        atomic_fetch_or(&db->slot->arenas, UINT64_C(1) << arena);
    pthread_mutex_unlock(&db->arena_lock);
}

static void leave_arena(lsm_db *db, uint32_t arena)
{
    pthread_mutex_lock(&db->arena_lock);
    bool is_last = --db->arena_uses[arena] == 0;
    if (is_last)
        atomic_fetch_and(&db->slot->arenas, ~(UINT64_C(1) << arena));
    pthread_mutex_unlock(&db->arena_lock);
    if (is_last)
        shm_event_signal(&db->layout->version.changed); /* a writer may wait for an arena */
}

static struct db_memtable *wrapper_new(lsm_db *db, uint32_t arena, size_t size)
{
    struct db_memtable *m = mem_alloc_zeroed(sizeof *m);
    if (m == NULL)
        return NULL;
    m->db = db;
    m->references = 1;
    m->size = size;
    m->arena = arena;
    if (arena != DB_PRIVATE_ARENA)
        use_arena(db, arena);
    return m;
}

void db_memtable_keep(struct db_memtable *m)
{
    atomic_fetch_add_explicit(&m->references, 1, memory_order_relaxed);
}

void db_memtable_drop(struct db_memtable *m)
{
    if (m == NULL || atomic_fetch_sub_explicit(&m->references, 1, memory_order_acq_rel) > 1)
        return;
    memtable_free(m->table);
    mem_free(m->private_memory);
    if (m->arena != DB_PRIVATE_ARENA)
        leave_arena(m->db, m->arena);
    mem_free(m);
}

/* The wrapper of the memtable `id` that this process has, held, or NULL (change lock held). */
static struct db_memtable *known_wrapper(lsm_db *db, uint32_t arena, uint64_t id)
{
    struct db_memtable *found = db->newest;
    if (found != NULL && found->arena == arena && memtable_id(found->table) == id) {
        db_memtable_keep(found);
        return found;
    }
    found = NULL;
    epoch_enter();
    struct db_state *state = db_state_current(db);
    for (size_t i = 0; state != NULL && found == NULL && i < state->memtable_count; i++) {
        struct db_memtable *m = state->memtables[i];
        if (m->arena == arena && memtable_id(m->table) == id)
            found = m;
    }
    if (found != NULL)
        db_memtable_keep(found);
    epoch_exit();
    return found;
}

/* A wrapper of the memtable in the arena, held (change lock held). */
static lsm_status wrapper_of(lsm_db *db, uint32_t arena, struct db_memtable **wrapper,
                             lsm_error *err)
{
    struct db_memtable *m = known_wrapper(db, arena, arena_of(db, arena)->id);
    if (m != NULL) {
        *wrapper = m;
        return LSM_OK;
    }
    m = wrapper_new(db, arena, db->arena_size);
    if (m == NULL)
        return lsm_fail_memory(err, sizeof *m);
    lsm_status status =
        memtable_attach(shm_arena(db->segment, arena), db->arena_size, &m->table, err);
    if (status != LSM_OK) {
        db_memtable_drop(m);
        return status;
    }
    *wrapper = m;
    return LSM_OK;
}

/* ---- lists ----------------------------------------------------------------------------------- */

static bool is_live(enum shm_memtable_state state)
{
    return state == SHM_MEMTABLE_ACTIVE || state == SHM_MEMTABLE_SEALED ||
           state == SHM_MEMTABLE_FLUSHING;
}

/* The arenas with unflushed data, newest first (change lock held). */
static size_t live_arenas(const lsm_db *db, uint32_t arenas[SHM_MAX_MEMTABLES])
{
    size_t count = 0;
    for (uint32_t i = 0; i < arena_count(db); i++) {
        if (!is_live(state_of(db, i)))
            continue;
        size_t at = count++;
        for (; at > 0 && arena_of(db, arenas[at - 1])->id < arena_of(db, i)->id; at--)
            arenas[at] = arenas[at - 1];
        arenas[at] = i;
    }
    return count;
}

lsm_status db_memtables_list_locked(lsm_db *db, struct db_memtable *list[DB_MAX_MEMTABLES],
                                    size_t *count, lsm_error *err)
{
    uint32_t arenas[SHM_MAX_MEMTABLES];
    size_t live = live_arenas(db, arenas), n = 0;
    lsm_status status = LSM_OK;
    while (n < live && status == LSM_OK) {
        status = wrapper_of(db, arenas[n], &list[n], err);
        n += status == LSM_OK;
    }
    for (size_t i = 0; status == LSM_OK && i < db->recovered_count; i++) {
        list[n++] = db->recovered[i];
        db_memtable_keep(db->recovered[i]);
    }
    while (status != LSM_OK && n > 0)
        db_memtable_drop(list[--n]);
    *count = n;
    return status;
}

static size_t waiting_locked(const lsm_db *db)
{
    size_t count = db->recovered_count;
    for (uint32_t i = 0; i < arena_count(db); i++) {
        enum shm_memtable_state state = state_of(db, i);
        count += state == SHM_MEMTABLE_SEALED || state == SHM_MEMTABLE_FLUSHING;
    }
    return count;
}

size_t db_memtables_waiting(lsm_db *db)
{
    db_change_lock(db);
    size_t count = waiting_locked(db);
    db_change_unlock(db);
    return count;
}

/* ---- a new one ------------------------------------------------------------------------------- */

/* Flushed arenas that nobody reads any more are free (change lock held). */
static void reclaim_locked(lsm_db *db)
{
    uint64_t used = 0;
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++)
        used |= atomic_load(&db->layout->slots[i].arenas);
    for (uint32_t i = 0; i < arena_count(db); i++) {
        if (state_of(db, i) == SHM_MEMTABLE_FLUSHED && (used >> i & 1) == 0)
            set_state(db, i, SHM_MEMTABLE_FREE);
    }
    STEP("switch: old arenas freed");
}

/* Takes a free arena, the first one, so that as few as can be take memory. */
static bool arena_take(lsm_db *db, uint32_t *arena)
{
    bool found = false;
    db_change_lock(db);
    reclaim_locked(db);
    for (uint32_t i = 0; i < arena_count(db) && !found; i++) {
        found = state_of(db, i) == SHM_MEMTABLE_FREE;
        if (found) {
            *arena = i;
            arena_of(db, i)->owner_slot = (uint32_t)(db->slot - db->layout->slots);
            set_state(db, i, SHM_MEMTABLE_BUILDING);
            STEP("switch: arena taken");
        }
    }
    db_change_unlock(db);
    return found;
}

static void arena_give_back(lsm_db *db, uint32_t arena)
{
    db_change_lock(db);
    set_state(db, arena, SHM_MEMTABLE_FREE);
    db_change_unlock(db);
}

/* Formats the arena. It must be backed where memtable_new() and the first inserts touch it. */
static lsm_status arena_format(lsm_db *db, uint32_t arena, struct db_memtable **made,
                               lsm_error *err)
{
    struct db_memtable *m = wrapper_new(db, arena, db->arena_size);
    if (m == NULL)
        return lsm_fail_memory(err, sizeof *m);
    uint64_t id = atomic_fetch_add(&db->layout->ctl.next_memtable_id, 1) + 1;
    size_t low, high;
    memtable_reach_new(m->size, &low, &high);
    lsm_status status = shm_arena_back(db->segment, arena, low, high, err);
    STEP("switch: arena backed");
    if (status == LSM_OK)
        status = memtable_new(memtable_kind_of(db), shm_arena(db->segment, arena), m->size, id,
                              &m->table, err);
    if (status != LSM_OK)
        db_memtable_drop(m);
    else
        *made = m;
    return status;
}

/* Seals the active memtable and makes `fresh` the active one (change lock held). */
static void activate_locked(lsm_db *db, const struct db_memtable *fresh)
{
    struct shm_layout *l = db->layout;
    uint64_t position = atomic_load(&l->commit.staged);
    struct shm_memtable *new = arena_of(db, fresh->arena);
    new->id = memtable_id(fresh->table);
    new->log_begin = position;
    for (uint32_t i = 0; i < arena_count(db); i++) {
        struct shm_memtable *old = arena_of(db, i);
        if (state_of(db, i) != SHM_MEMTABLE_ACTIVE)
            continue;
        old->log_end = position;
        old->log_chain = l->commit.chain;
        STEP("switch: sealed");
        set_state(db, i, SHM_MEMTABLE_SEALED);
    }
    STEP("switch: none active");
    set_state(db, fresh->arena, SHM_MEMTABLE_ACTIVE);
    STEP("switch: active");
    l->version.active_memtable = new->id;
}

static lsm_status no_room(lsm_db *db, lsm_error *err)
{
    return lsm_fail(err, LSM_BUSY, "all %" PRIu32 " memtables of '%s' wait to be flushed",
                    db->options.memtable_count, db->path);
}

static lsm_status prepare(lsm_db *db, struct db_memtable **fresh, lsm_error *err)
{
    uint32_t arena;
    if (!arena_take(db, &arena))
        return lsm_fail(err, LSM_BUSY,
                        "readers hold all %" PRIu32 " memtables of '%s'; close old iterators",
                        arena_count(db), db->path);
    lsm_status status = arena_format(db, arena, fresh, err);
    if (status != LSM_OK)
        arena_give_back(db, arena);
    STEP("switch: built");
    return status;
}

lsm_status db_memtable_prepare(lsm_db *db, struct db_memtable **fresh, lsm_error *err)
{
    if (db->active_memtable != NULL && db_memtables_waiting(db) + 1 >= db->options.memtable_count)
        return no_room(db, err);
    return prepare(db, fresh, err);
}

void db_memtable_give_back(lsm_db *db, struct db_memtable *fresh)
{
    if (fresh == NULL)
        return;
    uint32_t arena = fresh->arena;
    db_memtable_drop(fresh);
    arena_give_back(db, arena);
}

void db_memtable_activate_locked(lsm_db *db, struct db_memtable *fresh)
{
    activate_locked(db, fresh);
    db_memtable_drop(db->newest);
    db->newest = fresh;
    db_memtable_keep(fresh);
    STEP("switch: activated");
}

void db_memtable_activated(lsm_db *db, struct db_memtable *fresh)
{
    db_memtable_drop(db->active_memtable);
    db->active_memtable = fresh;
    db->active = fresh->table;
}

lsm_status db_memtable_switch(lsm_db *db, lsm_error *err)
{
    struct db_memtable *fresh = NULL;
    struct db_state *blank = db_state_new();
    if (blank == NULL)
        return lsm_fail_memory(err, sizeof *blank);
    lsm_status status = db_memtable_prepare(db, &fresh, err);
    if (status != LSM_OK) {
        mem_free(blank);
        return status;
    }
    db_change_lock(db);
    db_memtable_activate_locked(db, fresh);
    db_state_switch_locked(db, blank);
    STEP("switch: told");
    db_change_unlock(db);
    STEP("switch: done");
    db_memtable_activated(db, fresh);
    return LSM_OK;
}

/* ---- after a death --------------------------------------------------------------------------- */

/* The newest arena that holds data, or SHM_MAX_MEMTABLES (change lock held). */
static uint32_t newest_live(const lsm_db *db)
{
    uint32_t arenas[SHM_MAX_MEMTABLES];
    return live_arenas(db, arenas) > 0 ? arenas[0] : SHM_MAX_MEMTABLES;
}

/* A switch may have sealed the old one and not begun the new one: then the old one goes on. */
void db_memtables_repair_locked(lsm_db *db)
{
    uint32_t newest = newest_live(db);
    if (newest == SHM_MAX_MEMTABLES)
        return;
    if (state_of(db, newest) == SHM_MEMTABLE_SEALED)
        set_state(db, newest, SHM_MEMTABLE_ACTIVE);
    STEP("repair: state set");
    db->layout->version.active_memtable = arena_of(db, newest)->id;
}

void db_memtables_flushed_locked(lsm_db *db, uint64_t position)
{
    for (uint32_t i = 0; i < arena_count(db); i++) {
        enum shm_memtable_state state = state_of(db, i);
        bool is_waiting = state == SHM_MEMTABLE_SEALED || state == SHM_MEMTABLE_FLUSHING;
        if (is_waiting && arena_of(db, i)->log_end <= position)
            set_state(db, i, SHM_MEMTABLE_FLUSHED);
        STEP("roll forward: an arena looked at");
    }
}

lsm_status db_memtable_find_active(lsm_db *db, lsm_error *err)
{
    struct db_memtable *found = NULL;
    lsm_status status = LSM_OK;
    db_change_lock(db);
    uint32_t newest = newest_live(db);
    if (newest == SHM_MAX_MEMTABLES)
        status = lsm_fail(err, LSM_CORRUPT, "no memtable of '%s' takes writes", db->path);
    else
        status = wrapper_of(db, newest, &found, err);
    if (status == LSM_OK) {
        db_memtable_drop(db->newest);
        db->newest = found;
        db_memtable_keep(found);
    }
    db_change_unlock(db);
    if (status != LSM_OK)
        return status;
    db_memtable_drop(db->active_memtable);
    db->active_memtable = found;
    db->active = found->table;
    return LSM_OK;
}

/* ---- recovery -------------------------------------------------------------------------------- */

/* Ends the newest of the recovered ones here (change lock held). */
static void end_recovered_locked(lsm_db *db)
{
    if (db->recovered_count == 0)
        return;
    db->recovered[0]->log_end = atomic_load(&db->layout->commit.staged);
    db->recovered[0]->log_chain = db->layout->commit.chain;
}

lsm_status db_memtable_recover_shared(lsm_db *db, lsm_error *err)
{
    struct db_memtable *m = NULL;
    if (waiting_locked(db) >= DB_MAX_SHARED || !shm_segment_has_room(db->segment))
        return lsm_fail(err, LSM_NO_SPACE, "the log of '%s' does not fit into shared memory",
                        db->path);
    lsm_status status = prepare(db, &m, err);
    if (status != LSM_OK)
        return status;
    db_change_lock(db);
    db_memtable_activate_locked(db, m);
    db_change_unlock(db);
    db_memtable_activated(db, m);
    return LSM_OK;
}

lsm_status db_memtable_recover(lsm_db *db, size_t size, lsm_error *err)
{
    if (db->recovered_count == DB_MAX_PRIVATE)
        return lsm_fail(err, LSM_NO_MEMORY,
                        "the log of '%s' fills more than %d memtables of %zu bytes; open it with a "
                        "larger memtable_size",
                        db->path, DB_MAX_PRIVATE, db->arena_size);
    struct db_memtable *m = wrapper_new(db, DB_PRIVATE_ARENA, size);
    if (m == NULL)
        return lsm_fail_memory(err, sizeof *m);
    uint64_t id = atomic_fetch_add(&db->layout->ctl.next_memtable_id, 1) + 1;
    m->private_memory = mem_alloc_aligned(64, size);
    lsm_status status =
        m->private_memory == NULL
            ? lsm_fail_memory(err, size)
            : memtable_new(memtable_kind_of(db), m->private_memory, size, id, &m->table, err);
    if (status != LSM_OK) {
        db_memtable_drop(m);
        return status;
    }
    db_change_lock(db);
    end_recovered_locked(db);
    memmove(db->recovered + 1, db->recovered, db->recovered_count * sizeof *db->recovered);
    db->recovered[0] = m;
    db->recovered_count++;
    db_change_unlock(db);
    db->active = m->table;
    return LSM_OK;
}

/* The newest in the segment stays active there until another one is. */
void db_memtable_recovered(lsm_db *db)
{
    db_change_lock(db);
    end_recovered_locked(db);
    db_change_unlock(db);
    db_memtable_drop(db->active_memtable);
    db->active_memtable = NULL;
    db->active = NULL;
}

void db_memtable_unrecover(lsm_db *db)
{
    db_memtable_drop(db->active_memtable);
    db_memtable_drop(db->newest);
    db->active_memtable = db->newest = NULL;
    db->active = NULL;
    db_change_lock(db);
    for (uint32_t i = 0; i < arena_count(db); i++)
        set_state(db, i, SHM_MEMTABLE_FREE);
    db_change_unlock(db);
}

/* ---- flushes --------------------------------------------------------------------------------- */

static bool somebody_flushes(const lsm_db *db)
{
    bool any = db->recovered_flushing;
    for (uint32_t i = 0; i < arena_count(db); i++)
        any |= state_of(db, i) == SHM_MEMTABLE_FLUSHING;
    return any;
}

/* Marks an arena as this process's to flush, or as nobody's. */
static void claim(lsm_db *db, const struct db_memtable *m, enum shm_memtable_state state)
{
    arena_of(db, m->arena)->owner_slot = (uint32_t)(db->slot - db->layout->slots);
    set_state(db, m->arena, state);
}

lsm_status db_flush_take(lsm_db *db, struct db_flush *flush, lsm_error *err)
{
    struct db_memtable *list[DB_MAX_MEMTABLES];
    size_t count = 0;
    *flush = (struct db_flush){.count = 0};
    db_change_lock(db);
    lsm_status status = LSM_OK;
    if (!somebody_flushes(db))
        status = db_memtables_list_locked(db, list, &count, err);
    for (size_t i = count; i > 0; i--) {
        struct db_memtable *m = list[i - 1];
        bool is_recovered = m->arena == DB_PRIVATE_ARENA;
        if (!is_recovered && state_of(db, m->arena) != SHM_MEMTABLE_SEALED) {
            db_memtable_drop(m);
            continue;
        }
        if (flush->count == 0 && !is_recovered)
            flush->log_begin = arena_of(db, m->arena)->log_begin;
        flush->memtables[flush->count++] = m;
        flush->recovered_count += is_recovered;
        flush->log_end = is_recovered ? m->log_end : arena_of(db, m->arena)->log_end;
        flush->log_chain = is_recovered ? m->log_chain : arena_of(db, m->arena)->log_chain;
        if (is_recovered)
            db->recovered_flushing = true;
        else
            claim(db, m, SHM_MEMTABLE_FLUSHING);
        STEP("flush: a memtable claimed");
    }
    db_change_unlock(db);
    STEP("flush: taken");
    return status;
}

void db_flush_done_locked(lsm_db *db, const struct db_flush *flush)
{
    for (size_t i = 0; i < flush->count; i++) {
        if (i < flush->recovered_count)
            db_memtable_drop(db->recovered[--db->recovered_count]);
        else
            set_state(db, flush->memtables[i]->arena, SHM_MEMTABLE_FLUSHED);
        STEP("flush: a memtable done");
    }
    if (flush->recovered_count > 0)
        db->recovered_flushing = false;
}

void db_flush_give_back(lsm_db *db, const struct db_flush *flush)
{
    db_change_lock(db);
    for (size_t i = flush->recovered_count; i < flush->count; i++) {
        if (state_of(db, flush->memtables[i]->arena) == SHM_MEMTABLE_FLUSHING)
            claim(db, flush->memtables[i], SHM_MEMTABLE_SEALED);
    }
    if (flush->recovered_count > 0)
        db->recovered_flushing = false;
    db_change_unlock(db);
}

void db_flush_release(struct db_flush *flush)
{
    while (flush->count > 0)
        db_memtable_drop(flush->memtables[--flush->count]);
}
