/*
 * What the one who founds does with the log: replays it, behind the manifest's log position, into
 * memtables, then opens it for writing, which makes durable what was found.
 *
 * The memtables are those of the segment, where they are sealed and flushed like any others. Where
 * they do not fit there, or there is no segment, all is read again into private memory.
 *
 * Nobody reads meanwhile, so a memtable is filled at once. It is finished by a second thread while
 * this one goes on reading: the next records, or what lies behind the log's end.
 */
#include "engine/db/open_private.h"

#include "engine/base/hash.h"
#include "engine/base/step.h"

/* Private memtables after which recovery makes the next ones twice as large. */
#define RECOVERY_DOUBLING 8
/* Entries that are sorted sooner than a thread is made. */
#define RECOVERY_FEW 4096
/* Memtables that are filled by half. */
#define RECOVERY_HALVES 2
/* Entries of a batch that are read once. */
#define RECOVERY_PARSED 4

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

/* A memtable that takes records, or is finished. */
struct filling {
    struct memtable_bulk *bulk;   /* owned; NULL until first used */
    struct db_memtable *memtable; /* held while it is filled and finished */
};

struct recovery {
    lsm_db *db;
    bool is_shared;      /* into the segment's memtables */
    bool ran_out;        /* which do not hold it all */
    size_t shared_count; /* of these, so far */
    struct filling now;  /* takes records */
    struct filling last; /* is finished by `thread` while has_thread */
    bool has_thread;
    pthread_t thread;
    uint64_t sequence; /* of the last record */
};

/* ---- memtables ------------------------------------------------------------------------------- */

static void *finish(void *argument)
{
    memtable_bulk_end(argument);
    return NULL;
}

/* Waits until the last memtable is finished. */
static void await_last(struct recovery *r)
{
    if (r->has_thread)
        pthread_join(r->thread, NULL);
    r->has_thread = false;
    db_memtable_drop(r->last.memtable);
    r->last.memtable = NULL;
}

/* The memtable that takes records takes no more. */
static void finish_now(struct recovery *r)
{
    if (r->now.memtable == NULL)
        return;
    await_last(r);
    struct filling idle = r->last;
    r->last = r->now;
    r->now = idle;
    if (memtable_entry_count(r->last.memtable->table) > RECOVERY_FEW)
        r->has_thread = pthread_create(&r->thread, NULL, finish, r->last.bulk) == 0;
    if (!r->has_thread)
        memtable_bulk_end(r->last.bulk);
}

static void recovery_release(struct recovery *r)
{
    await_last(r);
    db_memtable_drop(r->now.memtable);
    memtable_bulk_free(r->now.bulk);
    memtable_bulk_free(r->last.bulk);
}

/* In private memory a record that is larger than today's memtables gets one of its own size. */
static lsm_status next_private(lsm_db *db, size_t room, lsm_error *err)
{
    /* A long log and small memtables: fewer, larger ones. */
    size_t size = db->arena_size << (db->recovered_count / RECOVERY_DOUBLING);
    while (size < MEMTABLE_MAX_ARENA / 2 && room > size / 8) /* nodes may take four times more */
        size *= 2;
    return db_memtable_recover(db, size, err);
}

static lsm_status next_memtable(struct recovery *r, size_t count, size_t room, lsm_error *err)
{
    lsm_db *db = r->db;
    finish_now(r);
    lsm_status status = LSM_OK;
    if (r->now.bulk == NULL)
        status = memtable_bulk_new(&r->now.bulk, err);
    if (status != LSM_OK)
        return status;
    status = r->is_shared ? db_memtable_recover_shared(db, err) : next_private(db, room, err);
    r->ran_out = r->is_shared && (status == LSM_NO_SPACE || status == LSM_BUSY);
    if (status != LSM_OK)
        return status;
    r->shared_count += r->is_shared;
    r->now.memtable = r->is_shared ? db->active_memtable : db->recovered[0];
    db_memtable_keep(r->now.memtable);
    status = memtable_bulk_begin(r->now.bulk, r->now.memtable->table, err);
    if (status != LSM_OK)
        return status;
    if (memtable_bulk_reserve(r->now.bulk, count, room))
        return LSM_OK;
    r->ran_out = r->is_shared;
    return lsm_fail(err, r->is_shared ? LSM_NO_SPACE : LSM_NO_MEMORY,
                    "a log record of '%s' with %zu entries does not fit into a memtable of %zu "
                    "bytes",
                    db->path, count, r->now.memtable->size);
}

/*
 * The first ones are filled by half, so that the other thread has its part of a log that is not
 * much longer. Too many entries to be sorted at once go to several memtables, too. But arenas stay
 * backed once they were used, so no more of them are than will be anyway, or hardly.
 */
static bool is_time_for_next(const struct recovery *r, size_t count)
{
    if (r->now.memtable == NULL)
        return true;
    if (!r->is_shared)
        return false;
    bool is_half = memtable_bytes_used(r->now.memtable->table) > r->db->arena_size / 2;
    return (is_half && r->shared_count <= RECOVERY_HALVES) ||
           (r->shared_count < r->db->options.memtable_count &&
            memtable_bulk_is_full(r->now.bulk, count));
}

/* Makes room for a record and has memory behind it. */
static lsm_status reserve(struct recovery *r, size_t count, size_t room, lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (is_time_for_next(r, count) || !memtable_bulk_reserve(r->now.bulk, count, room))
        status = next_memtable(r, count, room, err);
    if (status != LSM_OK || !r->is_shared)
        return status;
    size_t low, high;
    memtable_bulk_reach(r->now.bulk, count, room, &low, &high);
    status = shm_arena_back(r->db->segment, r->now.memtable->arena, low, high, err);
    r->ran_out = status == LSM_NO_SPACE;
    return status;
}

/* ---- records --------------------------------------------------------------------------------- */

/* A batch whose entries are looked at twice: for their room, and to be added. Most have few. */
struct parsed {
    struct batch_reader first; /* behind `entries` */
    struct batch_entry entries[RECOVERY_PARSED];
    size_t kept;  /* of them */
    size_t count; /* of the whole batch */
    size_t room;
};

static lsm_status parse(const struct recovery *r, lsm_slice batch, uint64_t position,
                        struct parsed *p, lsm_error *err)
{
    struct batch_reader reader = batch_read(batch);
    struct batch_entry entry;
    p->kept = p->count = p->room = 0;
    while (p->kept < RECOVERY_PARSED && batch_next(&reader, &p->entries[p->kept])) {
        const struct batch_entry *e = &p->entries[p->kept++];
        p->room += memtable_record_room(e->key.size, e->value.size);
    }
    p->first = reader;
    for (p->count = p->kept; batch_next(&reader, &entry); p->count++)
        p->room += memtable_record_room(entry.key.size, entry.value.size);
    if (!reader.corrupt)
        return LSM_OK;
    lsm_status status =
        lsm_fail(err, LSM_CORRUPT,
                 "the log record at position %" PRIu64 " of '%s' fits its checksum but is no batch",
                 position, r->db->path);
    status_place(err, r->db->path, position);
    return status;
}

static void add(struct recovery *r, const struct batch_entry *e, uint64_t sequence)
{
    memtable_bulk_add(r->now.bulk, e->cf, e->key, hash_key(e->key.data, e->key.size),
                      entry_trailer(sequence, e->type), e->value);
}

static lsm_status replay_record(void *context, uint64_t position, uint64_t end, uint64_t sequence,
                                lsm_slice batch, lsm_error *err)
{
    struct recovery *r = context;
    struct shm_commit *c = &r->db->layout->commit;
    struct parsed parsed;
    struct batch_entry entry;
    /* A memtable switch takes the log's end from here. */
    atomic_store_explicit(&c->staged, position, memory_order_relaxed);
    lsm_status status = parse(r, batch, position, &parsed, err);
    if (status == LSM_OK)
        status = reserve(r, parsed.count, parsed.room, err);
    if (status != LSM_OK)
        return status;
    for (size_t i = 0; i < parsed.kept; i++)
        add(r, &parsed.entries[i], sequence);
    while (parsed.count > parsed.kept && batch_next(&parsed.first, &entry))
        add(r, &entry, sequence);
    atomic_store_explicit(&c->staged, end, memory_order_relaxed);
    r->sequence = sequence;
    c->chain = 0; /* this record's is not told; wal_open() knows the last one's */
    return LSM_OK;
}

static void replay_ended(void *context)
{
    finish_now(context);
}

static const struct wal_last_life *last_life(const lsm_db *db, struct wal_last_life *life)
{
    if (db->is_private)
        return NULL;
    struct shm_last_words words = shm_attachment_last_words(db->attachment);
    static_assert(sizeof life->nonce == sizeof words.log_nonce, "both are the log's");
    memcpy(life->nonce, words.log_nonce, sizeof life->nonce);
    life->durable = words.durable;
    return words.is_known ? life : NULL;
}

static lsm_status replay(struct recovery *r, const struct version_state *state, struct wal_end *end,
                         lsm_error *err)
{
    lsm_db *db = r->db;
    struct shm_commit *c = &db->layout->commit;
    struct wal_options options = db_wal_options(db);
    struct wal_last_life life;
    options.replay_ended = replay_ended;
    options.last_life = last_life(db, &life);
    atomic_store(&c->staged, state->log_position);
    c->chain = state->log_chain;
    r->sequence = 0;
    lsm_status status = wal_replay(&options, state->log_position, state->log_chain, state->clean,
                                   replay_record, r, end, err);
    if (status == LSM_OK)
        finish_now(r);
    await_last(r);
    /* An ingest, which is not in the log, may have had a higher one. */
    if (status == LSM_OK && r->sequence > atomic_load(&c->applied_sequence))
        atomic_store(&c->applied_sequence, r->sequence);
    return status;
}

static lsm_status replay_log(lsm_db *db, const struct version_state *state, struct wal_end *end,
                             lsm_error *err)
{
    struct recovery r = {.db = db, .is_shared = !db->is_private && !db->options.read_only};
    lsm_status status = replay(&r, state, end, err);
    if (status != LSM_OK && r.ran_out) {
        STEP("recover: does not fit");
        db_memtable_drop(r.now.memtable);
        r.now.memtable = NULL;
        db_memtable_unrecover(db);
        r.is_shared = r.ran_out = false;
        status = replay(&r, state, end, err);
    }
    recovery_release(&r);
    return status;
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
    lsm_status status = is_new ? LSM_OK : replay_log(db, state, &end, err);
    db->log_is_sound = end.is_of_last_life;
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
