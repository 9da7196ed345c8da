/*
 * The write path.
 *
 * Under the append lock a writer copies its record into the stage ring, gives it to the log writer,
 * inserts into the memtable, and publishes its sequence number: that is the whole of an LSM_WRITE.
 * An LSM_SYNC write then waits for the flush; whoever holds the sync lock writes and flushes for
 * all that is staged, which is the group commit. A large one starts the log's append before the
 * insert when nobody else is writing the log, so that the two overlap.
 *
 * Visibility: nothing is visible at a weaker durability than it asked for, and visible_sequence is
 * a prefix of commit order. Sync writes that are not durable yet stand in a ring of pending
 * (sequence, end of record); visible_sequence stays below the oldest of them. Readers of the ring
 * load applied_sequence *before* they look for pending writes: a pending write is entered before
 * its number is applied, so one that is missing is durable.
 */
#include "engine/db/db_private.h"
#include "engine/db/batch_private.h"

#include "engine/base/hash.h"
#include "engine/base/step.h"

#include <errno.h>
#include <sched.h>

#define OVERLAP_FROM                                                                               \
    64 /* entries of a batch that take long enough to insert to begin a write before */

#define DRAIN_PARTS 4 /* of the stage ring: who finds it full writes one of them */

#define GATHER_YIELDS 4 /* of the processor, without another writer coming */

/* One write on its way: either a single entry or a batch. */
struct commit {
    lsm_slice pieces[5]; /* of the log record */
    size_t piece_count;
    size_t size; /* of the pieces */
    const struct batch_entry *single;
    uint64_t single_hash;
    lsm_slice batch;
    uint32_t entry_count;
    lsm_durability durability;
    bool no_wait;
    struct db_commit_check *check; /* NULL: none */
    struct db_ack *ack;            /* out; NULL: the call waits by itself */
    struct db_deadline deadline;
};

/* ---- visibility ------------------------------------------------------------------------------ */

static void raise_to(_Atomic uint64_t *word, uint64_t value)
{
    uint64_t now = atomic_load_explicit(word, memory_order_relaxed);
    while (now < value && !atomic_compare_exchange_weak_explicit(
                              word, &now, value, memory_order_release, memory_order_relaxed))
        ;
}

void db_advance_visible(lsm_db *db)
{
    struct shm_commit *c = &db->layout->commit;
    for (;;) {
        uint64_t applied = atomic_load_explicit(&c->applied_sequence, memory_order_acquire);
        uint64_t head = atomic_load(&c->pending_head);
        if (head == atomic_load(&c->pending_tail)) {
            raise_to(&c->visible_sequence, applied);
            return;
        }
        struct shm_pending *oldest = &c->pending[head % SHM_MAX_PENDING];
        uint64_t sequence = atomic_load(&oldest->sequence), end = atomic_load(&oldest->end);
        if (end > atomic_load(&c->durable)) {
            /* The entry may have been reused while it was read; then head has moved. */
            if (atomic_load(&c->pending_head) != head)
                continue;
            raise_to(&c->visible_sequence, sequence - 1 < applied ? sequence - 1 : applied);
            return;
        }
        atomic_compare_exchange_strong(&c->pending_head, &head, head + 1);
    }
}

static bool pending_is_full(const struct shm_commit *c)
{
    return atomic_load(&c->pending_tail) - atomic_load(&c->pending_head) == SHM_MAX_PENDING;
}

void db_pending_enter_locked(struct shm_commit *c, uint64_t sequence, uint64_t end)
{
    uint64_t tail = atomic_load_explicit(&c->pending_tail, memory_order_relaxed);
    atomic_store(&c->pending[tail % SHM_MAX_PENDING].sequence, sequence);
    atomic_store(&c->pending[tail % SHM_MAX_PENDING].end, end);
    atomic_store(&c->pending_tail, tail + 1);
}

/* ---- waiting for the log --------------------------------------------------------------------- */

static lsm_status poisoned(lsm_db *db, lsm_error *err)
{
    return db_check_write(db, err);
}

static uint64_t waiting_writers(const struct shm_commit *c)
{
    return atomic_load(&c->pending_tail) - atomic_load(&c->pending_head);
}

/*
 * The writers that the last flush served have just woken and are about to write again. Whoever is
 * first would flush for itself alone and make the others wait for two flushes: it lets them come,
 * as long as they do come.
 */
static void gather_group_locked(lsm_db *db)
{
    struct shm_commit *c = &db->layout->commit;
    uint64_t waiting = waiting_writers(c);
    for (unsigned idle = 0; waiting < c->sync_group && idle < GATHER_YIELDS;) {
        sched_yield();
        uint64_t now = waiting_writers(c);
        idle = now == waiting ? idle + 1 : 0;
        waiting = now;
    }
    c->sync_group = (uint32_t)waiting;
}

lsm_status db_log_sync_until(lsm_db *db, uint64_t position, const struct db_deadline *deadline,
                             lsm_error *err)
{
    struct shm_layout *l = db->layout;
    for (;;) {
        uint32_t seen = shm_event_count(&l->commit.flushed);
        if (atomic_load_explicit(&l->commit.durable, memory_order_acquire) >= position)
            return LSM_OK;
        lsm_status status = poisoned(db, err);
        if (status != LSM_OK)
            return status;
        if (!db_sync_trylock(db)) {
            if (db_deadline_is_over(deadline))
                return db_timeout(db, deadline, DB_BEHIND_SYNC, err);
            shm_event_wait(&l->commit.flushed, seen, db_deadline_left_ns(deadline, DB_WAIT_NS));
            continue;
        }
        STEP("sync: locked");
        if (atomic_load(&l->commit.durable) < position) {
            gather_group_locked(db);
            status = wal_sync_locked(db->wal, atomic_load(&l->commit.staged), err);
        }
        shm_unlock(&l->locks.sync);
        STEP("sync: unlocked");
        db_advance_visible(db);
        STEP("sync: visible");
        shm_event_signal(&l->commit.flushed);
        if (status != LSM_OK)
            return status;
    }
}

/*
 * Waits for room in the stage ring, or makes some: who has the sync lock writes the log in steps,
 * and after each there is room. `seen` is the count of commit.flushed from before the caller
 * looked.
 */
static lsm_status log_drain(lsm_db *db, uint32_t seen, const struct db_deadline *deadline,
                            lsm_error *err)
{
    struct shm_commit *c = &db->layout->commit;
    db_stall_tell(db, LSM_STALL_LOG);
    lsm_status status = poisoned(db, err);
    if (status == LSM_OK && !db_sync_trylock(db)) {
        if (db_deadline_is_over(deadline))
            return db_timeout(db, deadline, DB_BEHIND_SYNC, err);
        shm_event_wait(&c->flushed, seen, db_deadline_left_ns(deadline, DB_WAIT_NS));
        STEP("drain: waited");
        return LSM_OK;
    }
    STEP("drain: locked");
    if (status == LSM_OK) {
        uint64_t staged = atomic_load(&c->staged), part = atomic_load(&c->written);
        part += db->layout->commit.log.stage_size / DRAIN_PARTS;
        status = wal_write_locked(db->wal, part < staged ? part : staged, err);
        shm_unlock(&db->layout->locks.sync);
    }
    STEP("drain: done");
    if (status == LSM_OK && db_deadline_is_set(deadline))
        status = db_change_await(db, deadline, err);
    if (status == LSM_OK)
        db_stall_update(db);
    return status;
}

/* An LSM_WRITE behind a sync write waits until that one is durable. */
static lsm_status wait_visible(lsm_db *db, uint64_t sequence, uint64_t end,
                               const struct db_deadline *deadline, lsm_error *err)
{
    struct shm_commit *c = &db->layout->commit;
    for (;;) {
        db_advance_visible(db);
        if (atomic_load_explicit(&c->visible_sequence, memory_order_acquire) >= sequence)
            return LSM_OK;
        /* Only sync writes before this one can hold it back; all of them end before `end`. */
        lsm_status status = db_log_sync_until(db, end, deadline, err);
        if (status != LSM_OK)
            return status;
    }
}

/* What an LSM_SYNC or a write behind one waits for, once it is in the log. */
static lsm_status wait_durable(lsm_db *db, uint64_t sequence, uint64_t end, bool sync,
                               struct db_deadline deadline, lsm_error *err)
{
    lsm_status status = LSM_OK;
    deadline.outcome = DB_NOT_DURABLE;
    if (sync)
        status = db_log_sync_until(db, end, &deadline, err);
    deadline.outcome = DB_NOT_VISIBLE;
    return status == LSM_OK ? wait_visible(db, sequence, end, &deadline, err) : status;
}

bool db_ack_is_given(const lsm_db *db, const struct db_ack *ack)
{
    const struct shm_commit *c = &db->layout->commit;
    if (ack->is_sync && atomic_load_explicit(&c->durable, memory_order_acquire) < ack->end)
        return false;
    return atomic_load_explicit(&c->visible_sequence, memory_order_acquire) >= ack->sequence;
}

lsm_status db_ack_wait(lsm_db *db, const struct db_ack *ack, lsm_error *err)
{
    struct db_deadline none = {0};
    return wait_durable(db, ack->sequence, ack->end, ack->is_sync, none, err);
}

/* ---- room ------------------------------------------------------------------------------------ */

static size_t memtable_room(const lsm_db *db, const struct commit *w)
{
    if (w->single != NULL)
        return memtable_entry_room(db->active, w->single->key.size, w->single->value.size);
    struct batch_reader r = batch_read(w->batch);
    struct batch_entry entry;
    size_t room = 0;
    while (batch_next(&r, &entry))
        room += memtable_entry_room(db->active, entry.key.size, entry.value.size);
    return room;
}

static lsm_status too_large(lsm_db *db, const struct commit *w, lsm_error *err)
{
    lsm_status status =
        lsm_fail(err, LSM_TOO_LARGE,
                 "a write of %zu bytes does not fit into an empty memtable of %" PRIu64
                 " bytes; raise memtable_size",
                 w->size, (uint64_t)db->arena_size);
    status_numbers(err, db->arena_size, w->size);
    return status;
}

/* For the log writer's thread, which makes memory ahead of it. */
static void tell_reach(lsm_db *db, size_t low, size_t high)
{
    atomic_store_explicit(&db->reach.arena, db->active_memtable->arena, memory_order_relaxed);
    atomic_store_explicit(&db->reach.low, low, memory_order_relaxed);
    atomic_store_explicit(&db->reach.high, high, memory_order_relaxed);
}

/* Makes sure that the arena's pages exist before a store can touch them. */
static lsm_status back_arena(lsm_db *db, size_t room, lsm_error *err)
{
    size_t low, high;
    memtable_reach(db->active, room, &low, &high);
    tell_reach(db, low, high);
    return shm_arena_back(db->segment, db->active_memtable->arena, low, high, err);
}

/* Bytes of its records in the memtable, at most. A batch holds each key and value, and more. */
static inline size_t most_record_room(const struct commit *w)
{
    size_t bytes = w->single != NULL ? w->single->key.size + w->single->value.size : w->batch.size;
    return bytes + w->entry_count * MEMTABLE_RECORD_OVERHEAD;
}

/* A quick look that nearly always finds room, and memory for it. */
static inline bool has_room_locked(lsm_db *db, const struct commit *w)
{
    size_t low, high;
    if (!memtable_reach_quick(db->active, w->entry_count, most_record_room(w), &low, &high) ||
        !shm_arena_is_backed(db->layout, db->active_memtable->arena, low, high) ||
        !wal_has_room_locked(db->wal, w->size))
        return false;
    tell_reach(db, low, high);
    return w->durability != LSM_SYNC || !pending_is_full(&db->layout->commit);
}

/* A wait that goes on over several looks is one. */
struct wait {
    uint64_t since_ns; /* 0: there was none */
    enum shm_wait kind;
};

static void wait_begin(lsm_db *db, struct wait *wait, enum shm_wait kind)
{
    if (wait->since_ns == 0)
        *wait = (struct wait){.since_ns = db_stall_begin(db), .kind = kind};
}

static lsm_status next_memtable(lsm_db *db, lsm_error *err)
{
    uint64_t begin = io_now_ns(db->io);
    lsm_status status = db_memtable_switch(db, err);
    if (status == LSM_OK)
        db_stall_count(db, SHM_WAIT_SWITCH, begin);
    return status;
}

static inline lsm_status append_lock_for(lsm_db *db, const struct commit *w, lsm_error *err)
{
    if (__builtin_expect(w->no_wait, 0))
        return db_append_lock_now(db, &w->deadline, err);
    return __builtin_expect(w->deadline.at_ns == 0, 1)
               ? db_append_lock(db, err)
               : db_append_lock_until(db, &w->deadline, err);
}

/*
 * Takes the append lock with room for `w` in memtable, ring and pending ring, waiting outside the
 * lock for whatever is short.
 */
static lsm_status lock_with_room_waiting(lsm_db *db, const struct commit *w, struct wait *wait,
                                         lsm_error *err)
{
    struct shm_layout *l = db->layout;
    for (;;) {
        uint32_t seen = shm_event_count(&l->version.changed);
        uint32_t flushed = shm_event_count(&l->commit.flushed);
        lsm_status status = append_lock_for(db, w, err);
        if (status != LSM_OK)
            return status;
        bool memtables_full = false;
        size_t room = memtable_room(db, w);
        if (!memtable_has_room(db->active, room)) {
            if (memtable_entry_count(db->active) == 0)
                status = too_large(db, w, err);
            else
                status = next_memtable(db, err);
            memtables_full = status == LSM_BUSY;
            if (status == LSM_OK) {
                shm_unlock(&l->locks.append);
                db_stall_look_at_memtables(db);
                db_work_signal(db);
                if (!db_has_workers(db))
                    status = db_work_wait_until(db, &w->deadline, err);
                if (status != LSM_OK)
                    return status;
                continue;
            }
        }
        if (status == LSM_OK)
            status = back_arena(db, room, err);
        bool ring_full = !wal_has_room_locked(db->wal, w->size);
        bool pending_full = w->durability == LSM_SYNC && pending_is_full(&l->commit);
        if (status == LSM_OK && !ring_full && !pending_full) {
            if (atomic_load_explicit(&db->throttle.is_last_memtable, memory_order_relaxed))
                db_stall_measure_memtable_locked(db);
            return LSM_OK;
        }
        shm_unlock(&l->locks.append);
        if (memtables_full)
            db_stall_tell(db, LSM_STALL_MEMTABLES);
        if (memtables_full && !w->no_wait) {
            wait_begin(db, wait, SHM_WAIT_MEMTABLES);
            status = db_work_wait_until(db, &w->deadline, err);
            if (status == LSM_OK && db_deadline_is_over(&w->deadline))
                status = db_timeout(db, &w->deadline, DB_BEHIND_MEMTABLES, err);
            if (status == LSM_OK)
                db_wait_changed_until(db, seen, &w->deadline);
        } else if (status == LSM_OK && ring_full) {
            wait_begin(db, wait, SHM_WAIT_LOG);
            status = log_drain(db, flushed, &w->deadline, err);
        } else if (status == LSM_OK) {
            wait_begin(db, wait, SHM_WAIT_LOG);
            status = db_log_sync_until(db, atomic_load(&l->commit.staged), &w->deadline, err);
        }
        if (status != LSM_OK)
            return status;
    }
}

static inline lsm_status lock_with_room(lsm_db *db, const struct commit *w, lsm_error *err)
{
    lsm_status status = append_lock_for(db, w, err);
    if (__builtin_expect(status != LSM_OK, 0))
        return status;
    if (__builtin_expect(has_room_locked(db, w), 1)) {
        if (atomic_load_explicit(&db->throttle.is_last_memtable, memory_order_relaxed))
            db_stall_measure_memtable_locked(db);
        return LSM_OK;
    }
    shm_unlock(&db->layout->locks.append);
    struct wait wait = {0};
    status = lock_with_room_waiting(db, w, &wait, err);
    if (__builtin_expect(wait.since_ns != 0, 0))
        db_stall_end(db, wait.kind, wait.since_ns);
    return status;
}

/* ---- the commit ------------------------------------------------------------------------------ */

/* Goes ahead to the places of the first entry, while its log record is made. */
static void approach_locked(lsm_db *db, const struct commit *w, struct memtable_way *way)
{
    if (w->single != NULL)
        memtable_approach(db->active, w->single->cf, w->single->key, w->single_hash, way);
}

static bool approach_next(lsm_db *db, struct batch_reader *r, struct batch_entry *entry,
                          struct memtable_way *way)
{
    if (!batch_next(r, entry))
        return false;
    memtable_approach(db->active, entry->cf, entry->key, hash_key(entry->key.data, entry->key.size),
                      way);
    return true;
}

/* One entry ahead, so that memory is waited for while the one before is inserted. */
void db_commit_insert_locked(lsm_db *db, lsm_slice batch, uint64_t sequence)
{
    struct batch_reader r = batch_read(batch);
    struct batch_entry entries[2];
    struct memtable_way ways[2];
    unsigned at = 0;
    bool is_there = approach_next(db, &r, &entries[at], &ways[at]);
    while (is_there) {
        unsigned next = at ^ 1;
        is_there = approach_next(db, &r, &entries[next], &ways[next]);
        memtable_insert_on(db->active, &ways[at], entry_trailer(sequence, entries[at].type),
                           entries[at].value);
        STEP("commit: an entry inserted");
        at = next;
    }
}

static void insert_locked(lsm_db *db, const struct commit *w, struct memtable_way *way,
                          uint64_t sequence)
{
    if (w->single != NULL)
        memtable_insert_on(db->active, way, entry_trailer(sequence, w->single->type),
                           w->single->value);
    else
        db_commit_insert_locked(db, w->batch, sequence);
}

/* The record stands in the ring at [position, end): from here on the commit is finished, if not by
 * this thread then by the lock's next owner. */
static void intend_locked(lsm_db *db, const struct commit *w, uint64_t sequence, uint64_t position,
                          uint64_t end)
{
    struct shm_intent *intent = &db->layout->intent;
    intent->durability = (uint32_t)w->durability;
    intent->sequence = sequence;
    intent->position = position;
    intent->size = end - position;
    intent->memtable_id = memtable_id(db->active);
    intent->memtable_place = memtable_position(db->active);
    STEP("commit: intent filled");
    /* Release: whoever finds the state finds the fields, and the record in the ring. */
    atomic_store_explicit(&intent->state, SHM_INTENT_COMMIT, memory_order_release);
    STEP("commit: intent");
}

void db_commit_done_locked(lsm_db *db)
{
    atomic_store_explicit(&db->layout->intent.state, SHM_INTENT_NONE, memory_order_release);
}

void db_commit_publish_locked(lsm_db *db, uint64_t sequence)
{
    struct shm_commit *c = &db->layout->commit;
    /* Release: pairs with the acquire in db_advance_visible(). */
    atomic_store_explicit(&c->applied_sequence, sequence, memory_order_release);
    /* A store is enough: others only raise it, by compare and swap, to what was applied before. */
    if (atomic_load(&c->pending_head) == atomic_load(&c->pending_tail))
        atomic_store_explicit(&c->visible_sequence, sequence, memory_order_release);
}

static lsm_status commit(lsm_db *db, const struct commit *w, lsm_error *err)
{
    struct shm_layout *l = db->layout;
    if (w->size > wal_max_batch(db->wal)) {
        lsm_status status = lsm_fail(err, LSM_TOO_LARGE,
                                     "a write of %zu bytes is over the limit of %zu, half of the "
                                     "stage file; raise stage_size",
                                     w->size, wal_max_batch(db->wal));
        status_numbers(err, wal_max_batch(db->wal), w->size);
        return status;
    }
    lsm_status status = LSM_OK;
    if ((atomic_load_explicit(&db->throttle.debt_ppm, memory_order_relaxed) |
         atomic_load_explicit(&db->throttle.memtable_ppm, memory_order_relaxed) |
         wal_ring_ppm(db->wal)) != 0)
        status = db_stall_wait(db, w->size, w->no_wait, &w->deadline, err);
    if (status == LSM_OK)
        status = lock_with_room(db, w, err);
    if (status != LSM_OK)
        return status;
    if (w->check != NULL && (status = w->check->run_locked(w->check, err)) != LSM_OK) {
        shm_unlock(&l->locks.append);
        return status;
    }

    struct memtable_way way;
    approach_locked(db, w, &way);
    uint64_t sequence = atomic_load_explicit(&l->commit.applied_sequence, memory_order_relaxed) + 1;
    uint64_t position = atomic_load_explicit(&l->commit.staged, memory_order_relaxed), end = 0;
    STEP("commit: begin");
    status = wal_stage_locked(db->wal, sequence, w->pieces, w->piece_count, &end, err);
    if (status != LSM_OK) {
        shm_unlock(&l->locks.append);
        return status;
    }
    if (w->check != NULL)
        w->check->sequence = sequence;
    bool sync = w->durability == LSM_SYNC, writing = false;
    STEP("commit: record in the ring");
    intend_locked(db, w, sequence, position, end);
    if (sync)
        db_pending_enter_locked(&l->commit, sequence, end);
    STEP("commit: pending");
    wal_publish_locked(db->wal);
    STEP("commit: staged");
    if (sync && w->ack == NULL && w->entry_count >= OVERLAP_FROM && db_sync_trylock(db)) {
        writing = true;
        status = wal_write_begin_locked(db->wal, err);
    }
    insert_locked(db, w, &way, sequence);
    STEP("commit: inserted");
    db_commit_publish_locked(db, sequence);
    STEP("commit: published");
    db_commit_done_locked(db);
    STEP("commit: done");
    shm_unlock(&l->locks.append);
    STEP("commit: unlocked");

    if (writing) {
        if (status == LSM_OK)
            status = wal_sync_locked(db->wal, end, err);
        shm_unlock(&l->locks.sync);
        db_advance_visible(db);
        shm_event_signal(&l->commit.flushed);
        if (status != LSM_OK)
            return status;
    }
    if (w->ack != NULL)
        *w->ack = (struct db_ack){.sequence = sequence, .end = end, .is_sync = sync};
    else if (sync ||
             atomic_load_explicit(&l->commit.visible_sequence, memory_order_acquire) < sequence)
        status = wait_durable(db, sequence, end, sync, w->deadline, err);
    if (status == LSM_OK && !sync)
        db_log_writer_nudge(db);
    return status;
}

static void set_options(struct commit *w, const lsm_write_options *options)
{
    if (options != NULL) {
        w->durability = options->durability;
        w->no_wait = options->no_wait;
        if (options->timeout_ms != 0)
            db_deadline_set(&w->deadline, options->timeout_ms);
    }
}

/* Brings the handles of families up to date: another process may have dropped one. */
static lsm_status see_drops(lsm_db *db, const struct db_deadline *deadline, lsm_error *err)
{
    uint64_t newest = atomic_load_explicit(&db->layout->version.number, memory_order_acquire);
    if (atomic_load_explicit(&db->view_number, memory_order_acquire) >= newest)
        return LSM_OK;
    lsm_status status = db_deadline_is_set(deadline) ? db_change_await(db, deadline, err) : LSM_OK;
    return status == LSM_OK ? db_refresh(db, err) : status;
}

static lsm_status commit_single(lsm_db *db, lsm_cf *cf, enum entry_type type, lsm_slice key,
                                lsm_slice value, const lsm_write_options *options, lsm_error *err)
{
    lsm_status status = db_check_write(db, err);
    struct batch_entry entry = {.type = type, .key = key, .value = value};
    struct commit w = {.single = &entry, .entry_count = 1};
    set_options(&w, options);
    if (status == LSM_OK && cf != NULL)
        status = see_drops(db, &w.deadline, err);
    if (status == LSM_OK)
        status = db_check_cf(db, cf, &entry.cf, err);
    if (status == LSM_OK)
        status = batch_check_entry(key, value, err);
    if (status != LSM_OK)
        return status;

    w.single_hash = hash_key(key.data, key.size);
    uint8_t head[BATCH_HEADER_SIZE + BATCH_ENTRY_HEAD], value_head[BATCH_VALUE_HEAD];
    bytes_put_u32(head, 1);
    size_t head_size = BATCH_HEADER_SIZE +
                       batch_put_entry_head(head + BATCH_HEADER_SIZE, type, entry.cf, key.size);
    w.pieces[w.piece_count++] = LSM_SLICE(head, head_size);
    w.pieces[w.piece_count++] = key;
    w.size = head_size + key.size;
    if (type == ENTRY_PUT) {
        size_t size = batch_put_value_head(value_head, value.size);
        w.pieces[w.piece_count++] = LSM_SLICE(value_head, size);
        w.pieces[w.piece_count++] = value;
        w.size += size + value.size;
    }
    return commit(db, &w, err);
}

LSM_API lsm_status lsm_put(lsm_db *db, lsm_cf *cf, lsm_slice key, lsm_slice value,
                           const lsm_write_options *options, lsm_error *err)
{
    return commit_single(db, cf, ENTRY_PUT, key, value, options, err);
}

LSM_API lsm_status lsm_delete(lsm_db *db, lsm_cf *cf, lsm_slice key,
                              const lsm_write_options *options, lsm_error *err)
{
    return commit_single(db, cf, ENTRY_DELETE, key, (lsm_slice){NULL, 0}, options, err);
}

lsm_status db_commit_batch(lsm_db *db, lsm_slice batch, const lsm_write_options *options,
                           struct db_commit_check *check, lsm_error *err)
{
    struct commit w = {.batch = batch, .entry_count = batch_count(batch), .check = check};
    set_options(&w, options);
    if (check != NULL && db_deadline_is_set(&check->deadline))
        w.deadline = check->deadline;
    w.pieces[0] = w.batch;
    w.piece_count = 1;
    w.size = w.batch.size;
    return commit(db, &w, err);
}

static lsm_status write_batch(lsm_db *db, const lsm_batch *batch, const lsm_write_options *options,
                              struct db_ack *ack, lsm_error *err)
{
    struct commit w = {.piece_count = 1, .ack = ack};
    set_options(&w, options);
    lsm_status status = db_check_write(db, err);
    if (status == LSM_OK)
        status = see_drops(db, &w.deadline, err);
    if (status == LSM_OK)
        status = batch_check_families(db, batch, err);
    if (status != LSM_OK || lsm_batch_count(batch) == 0)
        return status;
    w.batch = w.pieces[0] = batch_bytes(batch);
    w.size = w.batch.size;
    w.entry_count = batch_count(w.batch);
    return commit(db, &w, err);
}

LSM_API lsm_status lsm_write(lsm_db *db, const lsm_batch *batch, const lsm_write_options *options,
                             lsm_error *err)
{
    return write_batch(db, batch, options, NULL, err);
}

lsm_status db_write_begin(lsm_db *db, const lsm_batch *batch, const lsm_write_options *options,
                          struct db_ack *ack, lsm_error *err)
{
    *ack = (struct db_ack){0};
    return write_batch(db, batch, options, ack, err);
}

LSM_API lsm_status lsm_sync(lsm_db *db, lsm_error *err)
{
    lsm_status status = db_check_write(db, err);
    if (status != LSM_OK)
        return status;
    return db_log_sync(db, atomic_load(&db->layout->commit.staged), err);
}

lsm_status db_seal_active(lsm_db *db, lsm_error *err)
{
    struct shm_layout *l = db->layout;
    for (;;) {
        uint32_t seen = shm_event_count(&l->version.changed);
        lsm_status status = db_append_lock(db, err);
        if (status != LSM_OK)
            return status;
        if (memtable_entry_count(db->active) > 0)
            status = db_memtable_switch(db, err);
        shm_unlock(&l->locks.append);
        if (status != LSM_BUSY)
            return status;
        status = db_work_wait(db, err);
        if (status != LSM_OK)
            return status;
        db_wait_changed(db, seen);
    }
}
