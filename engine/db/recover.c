/*
 * What the one who founds does with the log: replays it, behind the manifest's log position, into
 * memtables, then opens it for writing, which makes durable what was found. What does not fit into
 * the arenas that there are waits in private memory for its flush.
 */
#include "engine/db/open_private.h"

#include "engine/base/hash.h"
#include "engine/base/step.h"

/* Memtables after which recovery makes the next ones twice as large. */
#define RECOVERY_DOUBLING 8

struct wal_options db_wal_options(lsm_db *db)
{
    struct wal_options options = {.io = db->io,
                                  .dir = db->dir,
                                  .layout = db->is_private ? NULL : db->layout,
                                  .stage_size = db->options.stage_size,
                                  .segment_size = db->options.wal_segment_size,
                                  .mode = db->options.mode};
    memcpy(options.uuid, db->tables.uuid, sizeof options.uuid);
    return options;
}

static size_t batch_room(const lsm_db *db, lsm_slice batch)
{
    struct batch_reader r = batch_read(batch);
    struct batch_entry entry;
    size_t room = 0;
    while (batch_next(&r, &entry))
        room += memtable_entry_room(db->active, entry.key.size, entry.value.size);
    return room;
}

/* A record that is larger than today's memtables gets a private one of its own size. */
static lsm_status replay_room(lsm_db *db, size_t room, lsm_error *err)
{
    if (memtable_has_room(db->active, room))
        return LSM_OK;
    /* A long log and small memtables: fewer, larger ones. */
    size_t size = db->arena_size << (db->recovered_count / RECOVERY_DOUBLING);
    while (size < MEMTABLE_MAX_ARENA / 2 && room > size / 4)
        size *= 2;
    return db_memtable_recover(db, size, err);
}

static lsm_status replay_record(void *context, uint64_t position, uint64_t end, uint64_t sequence,
                                lsm_slice batch, lsm_error *err)
{
    lsm_db *db = context;
    /* A memtable switch in between takes the log's end from here. */
    atomic_store(&db->layout->commit.staged, position);
    lsm_status status = LSM_OK;
    if (db->active == NULL)
        status = db_memtable_recover(db, db->arena_size, err);
    if (status == LSM_OK)
        status = replay_room(db, batch_room(db, batch), err);
    if (status != LSM_OK)
        return status;
    struct batch_reader r = batch_read(batch);
    struct batch_entry entry;
    while (batch_next(&r, &entry))
        memtable_insert(db->active, entry.cf, entry.key, hash_key(entry.key.data, entry.key.size),
                        entry_trailer(sequence, entry.type), entry.value);
    if (r.corrupt) {
        status = lsm_fail(err, LSM_CORRUPT,
                          "the log record at position %" PRIu64 " of '%s' fits its checksum but is "
                          "no batch",
                          position, db->path);
        status_place(err, db->path, position);
        return status;
    }
    atomic_store(&db->layout->commit.staged, end);
    /* An ingest, which is not in the log, may have had a higher one. */
    if (sequence > atomic_load(&db->layout->commit.applied_sequence))
        atomic_store(&db->layout->commit.applied_sequence, sequence);
    db->layout->commit.chain = 0; /* this record's is not told; wal_open() knows the last one's */
    return LSM_OK;
}

/*
 * Says in the manifest whether the log behind `position` is empty for good. A clean close says so,
 * which spares the next open the reading of the log; that open takes it back once it has begun a
 * segment and before it lets anybody write.
 */
lsm_status db_log_mark(lsm_db *db, uint64_t position, uint64_t chain, bool clean, lsm_error *err)
{
    struct version_edit edit = {
        .has_log = true, .log_position = position, .log_chain = chain, .clean = clean};
    version_set_last_sequence(db->versions, atomic_load(&db->layout->commit.applied_sequence));
    lsm_status status = db_edit_begin(db, err);
    if (status == LSM_OK) {
        status = version_set_apply(db->versions, &edit, err);
        db_edit_end(db);
    }
    edit_release(&edit);
    return status;
}

/* What the log held is behind, an arena in front. */
static lsm_status first_view(lsm_db *db, lsm_error *err)
{
    db_memtable_recovered(db);
    if (!db->options.read_only) {
        db_change_lock(db);
        db_place_publish_locked(db);
        db_change_unlock(db);
        return db_memtable_switch(db, err);
    }
    struct db_state *blank = db_state_new();
    if (blank == NULL)
        return lsm_fail_memory(err, sizeof *blank);
    db_state_publish(db, blank);
    return db_state_current(db) == NULL ? lsm_fail_memory(err, sizeof *blank) : LSM_OK;
}

lsm_status db_recover(lsm_db *db, const struct version_state *state, bool is_new, lsm_error *err)
{
    struct shm_commit *c = &db->layout->commit;
    struct wal_options options = db_wal_options(db);
    struct wal_end end = {.position = state->log_position};
    atomic_store(&c->staged, state->log_position);
    atomic_store(&c->applied_sequence, state->last_sequence);
    c->chain = state->log_chain;
    lsm_status status = LSM_OK;
    if (!is_new)
        status = wal_replay(&options, state->log_position, state->log_chain, state->clean,
                            replay_record, db, &end, err);
    STEP("recover: log read");
    if (status == LSM_OK && !db->options.read_only)
        status = wal_open(&options, &end, &db->wal, err);
    STEP("recover: log open");
    if (status == LSM_OK)
        status = first_view(db, err);
    STEP("recover: first view");
    if (status != LSM_OK)
        return status;
    if (!db->options.read_only && state->clean)
        status = db_log_mark(db, state->log_position, state->log_chain, false, err);
    STEP("recover: log marked");
    if (status != LSM_OK)
        return status;
    uint64_t last = atomic_load(&c->applied_sequence);
    atomic_store(&c->visible_sequence, last);
    version_set_last_sequence(db->versions, last);
    return LSM_OK;
}
