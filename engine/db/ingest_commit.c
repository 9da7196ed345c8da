/*
 * The commit of an ingest: one edit, at one sequence number, that comes after all that was written
 * before and before all that is written after.
 *
 * Nobody commits meanwhile: the append lock is held from before the number is known until readers
 * see the tables. Three things make that sound.
 *
 *  - Reads stop at the first hit, and ask memtables before tables. So no memtable may hold an older
 *    version of a key of the ingest: where one might, it is flushed first. That is tried without
 * the lock, and done under it when writers were faster.
 *  - A reader takes the state first and the sequence number then. It must not find, in a state
 *    without the tables, what was written behind them: so the memtable is switched in the same
 *    change that publishes the edit, and later writes go into one that such a state does not have.
 *  - The number is made visible behind the state, and the log is durable up to the ingest before
 *    the edit is: what survives is a prefix of the commits.
 *
 * Where a death leaves it: before the edit is durable, with files that nobody names. After it, with
 * an edit that the next owner of the version lock adopts, and an intent that the next owner of the
 * append lock finds: it sees to the adoption and to the switch before it lets anybody write, and
 * spends the number.
 */
#include "engine/db/ingest_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"

#define FLUSH_ROUNDS 3 /* without the lock; then writers wait for one */

/* ---- memtables in the way -------------------------------------------------------------------- */

static lsm_status table_meets(const struct memtable *memtable, const struct table_meta *meta,
                              bool *meets, lsm_error *err)
{
    struct iter *it = NULL;
    lsm_status status = memtable_iter_new(memtable, meta->cf, &it, err);
    if (status != LSM_OK)
        return status;
    iter_seek(it, meta->smallest, ENTRY_MAX_TRAILER);
    *meets = it->valid && slice_compare(it->entry->key, meta->largest) <= 0;
    iter_release(it);
    return LSM_OK;
}

static lsm_status memtable_meets(const lsm_ingest *in, const struct memtable *memtable, bool *meets,
                                 lsm_error *err)
{
    lsm_status status = LSM_OK;
    *meets = false;
    if (memtable_entry_count(memtable) == 0)
        return LSM_OK;
    for (size_t i = 0; status == LSM_OK && !*meets && i < intake_table_count(in->intake); i++)
        status = table_meets(memtable, intake_table(in->intake, i), meets, err);
    return status;
}

/* Does a memtable hold entries between the ends of one of the tables? */
static lsm_status memtables_meet(const lsm_ingest *in, bool *meets, lsm_error *err)
{
    struct db_memtable *list[DB_MAX_MEMTABLES];
    size_t count = 0;
    *meets = false;
    db_change_lock(in->db);
    lsm_status status = db_memtables_list_locked(in->db, list, &count, err);
    db_change_unlock(in->db);
    for (size_t i = 0; status == LSM_OK && !*meets && i < count; i++)
        status = memtable_meets(in, list[i]->table, meets, err);
    while (count > 0)
        db_memtable_drop(list[--count]);
    return status;
}

/* Without the lock: what is in the way mostly is there already. */
static lsm_status flush_before(const lsm_ingest *in, lsm_error *err)
{
    lsm_status status = LSM_OK;
    bool meets = true;
    for (unsigned round = 0; status == LSM_OK && round < FLUSH_ROUNDS; round++) {
        status = memtables_meet(in, &meets, err);
        if (status != LSM_OK || !meets)
            break;
        status = db_seal_active(in->db, err);
        if (status == LSM_OK)
            status = db_flush_sealed(in->db, err);
    }
    return status == LSM_OK ? db_log_sync(in->db, atomic_load(&in->db->layout->commit.staged), err)
                            : status;
}

/* Nobody writes (append lock held). */
static lsm_status clear_locked(const lsm_ingest *in, lsm_error *err)
{
    bool meets = false;
    lsm_status status = memtables_meet(in, &meets, err);
    if (status != LSM_OK || !meets)
        return status;
    if (memtable_entry_count(in->db->active) > 0)
        status = db_memtable_switch(in->db, err);
    STEP("ingest: flushes under the lock");
    return status == LSM_OK ? db_flush_sealed(in->db, err) : status;
}

/* Takes the append lock, with nothing in the way and a memtable to go on with. */
static lsm_status lock_clear(const lsm_ingest *in, struct db_memtable **fresh, lsm_error *err)
{
    lsm_db *db = in->db;
    for (;;) {
        uint32_t seen = shm_event_count(&db->layout->version.changed);
        lsm_status status = db_append_lock(db, err);
        if (status != LSM_OK)
            return status;
        status = clear_locked(in, err);
        if (status == LSM_OK)
            status = db_memtable_prepare(db, fresh, err);
        if (status == LSM_OK)
            return LSM_OK;
        shm_unlock(&db->layout->locks.append);
        if (status != LSM_BUSY)
            return status;
        status = db_work_wait(db, err);
        if (status != LSM_OK)
            return status;
        db_wait_changed(db, seen);
    }
}

/* ---- levels ---------------------------------------------------------------------------------- */

static bool level_meets(const struct version_level *level, uint32_t index,
                        const struct table_meta *meta)
{
    for (size_t i = index == 0 ? 0 : version_level_find(level, meta->smallest); i < level->count;
         i++) {
        const struct table_meta *other = &level->files[i]->meta;
        if (slice_compare(other->smallest, meta->largest) <= 0 &&
            slice_compare(meta->smallest, other->largest) <= 0)
            return true;
        if (index > 0)
            return false;
    }
    return false;
}

/* The lowest level above which nothing older of the table's range is, nor comes out of a job. */
static uint32_t lowest_level(lsm_db *db, const struct version *version, const struct version_cf *cf,
                             const struct table_meta *meta)
{
    uint32_t lowest = 0;
    for (uint32_t level = 0; level < VERSION_LEVELS; level++) {
        if (level_meets(&cf->levels[level], level, meta) ||
            db_jobs_reach_locked(db, version, cf->id, level, meta->smallest, meta->largest))
            break;
        lowest = level;
    }
    return lowest;
}

static lsm_status find_levels(const lsm_ingest *in, uint32_t *levels, lsm_error *err)
{
    lsm_db *db = in->db;
    struct version *version = version_set_current(db->versions);
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < intake_table_count(in->intake); i++) {
        const struct table_meta *meta = intake_table(in->intake, i);
        const struct version_cf *cf = version_find_cf(version, meta->cf);
        if (cf == NULL)
            status = lsm_fail(err, LSM_MISSING,
                              "column family %" PRIu32 " of '%s' was dropped, nothing was ingested",
                              meta->cf, db->path);
        else
            levels[i] = lowest_level(db, version, cf, meta);
    }
    version_drop(version);
    return status;
}

/* ---- the edit -------------------------------------------------------------------------------- */

static uint64_t next_sequence(const lsm_db *db)
{
    return atomic_load_explicit(&db->layout->commit.applied_sequence, memory_order_relaxed) + 1;
}

static void intend_locked(lsm_db *db, uint64_t sequence)
{
    struct shm_intent *intent = &db->layout->intent;
    intent->sequence = sequence;
    intent->memtable_id = memtable_id(db->active);
    /* Release: whoever finds the state finds the numbers. */
    atomic_store_explicit(&intent->state, SHM_INTENT_INGEST, memory_order_release);
    STEP("ingest: intent");
}

/* Readers see the tables, and a memtable for what comes behind them. */
static void show_locked(lsm_db *db, struct db_memtable *fresh, struct db_state *blank)
{
    db_change_lock(db);
    db_place_publish_locked(db);
    db_memtable_activate_locked(db, fresh);
    db_state_publish_locked(db, blank);
    STEP("ingest: told");
    db_change_unlock(db);
    db_memtable_activated(db, fresh);
    STEP("ingest: in force");
}

/* Within an edit, the append lock held. Takes `fresh` and `blank` over when it succeeds. */
static lsm_status apply_locked(lsm_ingest *in, uint32_t *levels, struct db_memtable *fresh,
                               struct db_state *blank, lsm_error *err)
{
    lsm_db *db = in->db;
    uint64_t sequence = next_sequence(db);
    struct version_edit edit = {.last_sequence = sequence};
    lsm_status status = find_levels(in, levels, err);
    if (status == LSM_OK)
        status = intake_give(in->intake, sequence, levels, &edit, err);
    STEP("ingest: tables ended");
    if (status != LSM_OK) {
        db_edit_forget_tables(db, &edit);
        edit_release(&edit);
        return status;
    }
    intend_locked(db, sequence);
    status = version_set_apply(db->versions, &edit, err);
    STEP("ingest: durable");
    if (status == LSM_OK) {
        version_set_last_sequence(db->versions, sequence);
        show_locked(db, fresh, blank);
        db_commit_publish_locked(db, sequence);
        STEP("ingest: published");
        in->sequence = sequence;
    } else if (status != LSM_POISONED) {
        db_edit_forget_tables(db, &edit);
    }
    /* Nobody knows whether a poisoned edit is there: who may find out does so before he writes. */
    if (status == LSM_POISONED)
        atomic_store(&db->layout->intent.takeover_due, 1);
    else
        db_commit_done_locked(db);
    STEP("ingest: done");
    edit_release(&edit);
    return status;
}

lsm_status ingest_install(lsm_ingest *in, lsm_error *err)
{
    lsm_db *db = in->db;
    struct db_memtable *fresh = NULL;
    struct db_state *blank = db_state_new();
    uint32_t *levels = mem_alloc_zeroed(intake_table_count(in->intake) * sizeof *levels);
    lsm_status status = blank == NULL || levels == NULL ? lsm_fail_memory(err, sizeof *blank)
                                                        : flush_before(in, err);
    STEP("ingest: nothing in the way");
    if (status == LSM_OK)
        status = lock_clear(in, &fresh, err);
    if (status != LSM_OK)
        goto out;
    STEP("ingest: locked");
    status = db_log_sync(db, atomic_load(&db->layout->commit.staged), err);
    if (status == LSM_OK)
        status = db_edit_begin(db, err);
    if (status == LSM_OK) {
        status = apply_locked(in, levels, fresh, blank, err);
        db_edit_end(db);
    }
    if (status == LSM_OK)
        blank = NULL;
    else
        db_memtable_give_back(db, fresh);
    shm_unlock(&db->layout->locks.append);
    STEP("ingest: unlocked");
    db_advance_visible(db);
    if (status == LSM_OK) {
        db_stall_update(db);
        db_work_signal(db);
    }
out:
    mem_free(blank);
    mem_free(levels);
    return status;
}

/* ---- after a death --------------------------------------------------------------------------- */

lsm_status db_ingest_redo_locked(lsm_db *db, lsm_error *err)
{
    const struct shm_intent *intent = &db->layout->intent;
    uint64_t sequence = intent->sequence;
    struct version_state state;
    STEP("redo: ingest");
    lsm_status status = db_edit_begin(db, err); /* adopts the edit, if it is there */
    if (status != LSM_OK)
        return status;
    version_set_state(db->versions, &state);
    db_edit_end(db);
    STEP("redo: ingest adopted");
    /* As in show_locked(): a state without the tables may be in use, and has this memtable, even
     * when it is empty. Nobody writes to it any more; without another one nobody writes at all. */
    status = db_memtable_follow(db, err);
    if (status == LSM_OK && state.last_sequence >= sequence &&
        memtable_id(db->active) == intent->memtable_id)
        status = db_memtable_switch(db, err);
    STEP("redo: ingest switched");
    if (status != LSM_OK)
        return status;
    if (next_sequence(db) <= sequence)
        db_commit_publish_locked(db, sequence);
    STEP("redo: ingest published");
    db_commit_done_locked(db);
    return LSM_OK;
}
