/*
 * The open database: one process's handle on the directory, the shared segment and the threads.
 *
 * Lock order (a lock is taken only while holding locks to its left):
 *
 *     layout->locks.append -> layout->locks.version -> layout->locks.change -> leaves
 *
 * layout->locks.sync stands alone: it is only ever *tried* while append is held, and its owner
 * takes nothing but leaves. Leaves: work_lock, cf_lock, snapshot_lock. No lock is held
 * over an API return.
 *
 * What a reader sees is one struct db_state: the memtables and the version of tables that together
 * hold all data. It is replaced whole, and found without a lock inside an epoch.
 */
#ifndef ENGINE_DB_DB_PRIVATE_H
#define ENGINE_DB_DB_PRIVATE_H

#include "engine/base/epoch.h"
#include "engine/compact/compact.h"
#include "engine/io/io.h"
#include "engine/memtable/memtable.h"
#include "engine/shm/attach.h"
#include "engine/shm/segment.h"
#include "engine/version/version.h"
#include "engine/wal/wal.h"

#include <pthread.h>
#include <stdatomic.h>

#define DB_MAGIC        UINT32_C(0x6c736d31)
#define DB_MAGIC_CLOSED UINT32_C(0xdead1511)
#define DB_WAIT_NS      UINT64_C(20000000)

#define DB_MAX_COMPACTIONS (SHM_MAX_SLOTS * SHM_SLOT_JOBS) /* claims there are */

/* A memtable and its place in the log. */
struct db_memtable {
    _Atomic uint32_t references; /* the list's, states', pins' */
    lsm_db *db;
    struct memtable *table;
    uint32_t arena; /* index in the segment; DB_PRIVATE_ARENA: private_memory */
    void *private_memory;
    size_t size;        /* of the arena */
    uint64_t log_end;   /* of a private one: position behind its last record, */
    uint64_t log_chain; /* and the checksum of the record before */
};
#define DB_PRIVATE_ARENA UINT32_MAX
#define DB_MAX_WAITING   8 /* memtables, active and waiting for a flush, by option */
/* Memtables that recovery may pile up in private memory before they are flushed. */
#define DB_MAX_PRIVATE 64
/* And in the segment. */
#define DB_MAX_SHARED       (SHM_MAX_MEMTABLES / 2)
#define DB_PARKED_ITERATORS 4
#define DB_QUEUE_DEPTH      64 /* of queues for multi-gets and iterators, */
#define DB_KEPT_QUEUES      8  /* and how many idle ones are kept */
#define DB_MAX_MEMTABLES    (DB_MAX_PRIVATE + SHM_MAX_MEMTABLES)

/* Something that uses a version's tables. */
struct db_pin {
    uint64_t number; /* of the version */
    struct db_pin *next, *previous;
};

/* How far writers have come in the active arena; the three need not be of one moment. */
struct db_reach {
    _Atomic uint32_t arena;
    _Atomic size_t low, high; /* see memtable_reach() */
};

/* Something that makes table files. */
struct db_outputs {
    uint64_t floor; /* their numbers begin here */
    struct db_outputs *next, *previous;
};

struct db_state {
    struct epoch_retired retired; /* how the current state's own reference is given up */
    struct db_pin pin;
    lsm_db *db;
    _Atomic uint32_t references;
    uint64_t number;         /* layout->version.number of what it shows */
    struct version *version; /* held */
    size_t memtable_count;   /* newest first; held */
    struct db_memtable *memtables[DB_MAX_MEMTABLES];
};

/* Of a family, now or earlier. */
struct db_name {
    struct db_name *next;
    char text[];
};

struct lsm_cf {
    uint32_t magic;
    lsm_db *db;
    uint32_t id;
    _Atomic bool dropped;
    struct db_name *names; /* newest first; guarded by cf_lock. All stay until the end: others may
                            * rename it while somebody here still reads what it was called */
    struct lsm_cf *next;
};

struct lsm_snapshot {
    uint64_t sequence;
    struct lsm_snapshot *next, *previous;
};

struct db_statistics {
    _Atomic uint64_t flush_bytes_written;
    _Atomic uint64_t compaction_bytes_read;
    _Atomic uint64_t compaction_bytes_written;
    _Atomic uint64_t stall_us;
    _Atomic uint64_t read_merges;
};

/* Back-pressure: see engine/db/stall.h. */
struct db_throttle {
    _Atomic uint32_t debt_ppm;      /* of the way to stopping; 0: none */
    _Atomic uint64_t next_write_ns; /* a slowed writer waits for it */
    _Atomic uint64_t drain_rate;    /* bytes a second that compaction takes in, smoothed */
    _Atomic bool is_last_memtable;  /* all but the active one wait for their flush */
    _Atomic uint32_t memtable_ppm;  /* of the way from there to stopping; 0: none */
    _Atomic uint64_t flush_rate;    /* bytes a second that flushes take in, smoothed */
    _Atomic uint32_t reason;        /* lsm_stall told to the listener last */
};

struct lsm_db {
    uint32_t magic;

    /* set at open */
    lsm_options options; /* every field resolved */
    char *path;
    uint64_t fork_count;
    struct io *io;
    bool owns_io;
    bool is_private; /* read only, and nobody else had it open: nothing is shared */
    struct io_dir *dir;
    struct shm_attachment *attachment; /* NULL when is_private */
    struct table_env tables;
    _Atomic int64_t ahead_left; /* see table_env */
    struct version_set *versions;
    struct shm_segment *segment; /* the attachment's; NULL when is_private */
    struct shm_layout *layout;   /* in the segment, or this process's own when is_private */
    struct wal *wal;             /* NULL when read only */
    size_t arena_size;
    struct lsm_cf *default_cf;

    /* guarded by layout->locks.change; what a recovery found, older than all in the segment */
    struct db_memtable *recovered[DB_MAX_PRIVATE]; /* newest first, held */
    size_t recovered_count;
    bool recovered_flushing;
    struct db_memtable *newest; /* that this process has made, held: no state may show it yet */

    _Atomic(struct db_state *) state;
    _Atomic uint64_t view_number; /* == state->number: a glance tells whether it is the newest */
    pthread_mutex_t view_lock;    /* one thread at a time brings the state up to date */

    /* guarded by layout->locks.append */
    struct db_memtable *active_memtable; /* held */
    struct memtable *active;             /* == active_memtable->table */
    struct db_reach reach;               /* read without the lock */

    /* guarded by arena_lock: the wrappers of each arena, told to others by slot->arenas */
    pthread_mutex_t arena_lock;
    uint32_t arena_uses[SHM_MAX_MEMTABLES];
    struct db_pin pins;                    /* head of the ring, ascending */
    struct db_pin job_pins[SHM_SLOT_JOBS]; /* of the running compactions */
    struct db_outputs outputs;             /* head of the ring, ascending */
    struct shm_slot *slot;                 /* this process's */

    /* guarded by cf_lock */
    pthread_mutex_t cf_lock;
    struct lsm_cf *families;

    /* guarded by snapshot_lock; the list is in order of sequence */
    pthread_mutex_t snapshot_lock;
    struct lsm_snapshot snapshots; /* head of the ring */
    uint32_t snapshot_count;
    _Atomic uint32_t iterator_count;
    lsm_iter *_Atomic parked[DB_PARKED_ITERATORS]; /* closed, and kept for the next open */
    _Atomic uint32_t ingest_count;
    _Atomic uint32_t checkpoint_count;       /* being made */
    _Atomic uint32_t async_count;            /* open queues */
    _Alignas(64) _Atomic uint32_t pin_count; /* a line of its own: every pinned read writes it */

    /* guarded by work_lock */
    pthread_mutex_t work_lock;
    pthread_cond_t work_due;  /* workers wait for it */
    pthread_cond_t work_done; /* those who wait for workers */
    pthread_t workers[32];
    size_t worker_count;
    uint64_t work_generation; /* grows whenever something may have become due */
    bool flushing;
    uint32_t compacting;
    uint32_t manual_waiting; /* manual compactions that want the field for themselves */
    bool manual_running;
    lsm_status work_status; /* first failure of background work; cleared when work succeeds */
    lsm_error work_error;

    pthread_t keeper_thread;
    bool keeper_runs;
    uint32_t read_asks;             /* the keeper's: of layout->reads, when it looked last */
    _Atomic uint64_t next_look_ns;  /* at who is alive */
    _Atomic bool is_looking;        /* somebody */
    _Atomic uint64_t orphans_limit; /* of the last look for orphans */
    _Atomic bool job_refused;       /* for max_compactions: to be tried again */

    /* the log writer's thread */
    pthread_t log_thread;
    bool log_thread_runs;
    struct shm_event log_wake;
    _Atomic uint32_t log_sleeping; /* enum in log_writer.c */

    _Atomic bool closing;     /* threads end */
    bool is_leaving;          /* shm_detach_begin() was called */
    bool opening;             /* the one thread there is waits for what is done */
    bool log_is_sound;        /* at the opening: no sync of what was found had failed */
    uint64_t forget_later;    /* the log below it goes when the opening is over */
    _Atomic bool cancel_work; /* running compactions give up */
    struct db_statistics statistics;
    struct db_throttle throttle;
};

/* ---- guards (db/guard.c) --------------------------------------------------------------------- */

/* Is this a handle that may be used now? LSM_INVALID, LSM_FORKED. */
lsm_status db_check(const lsm_db *db, lsm_error *err);
/* The same, and that it may write: LSM_READ_ONLY, LSM_POISONED. */
lsm_status db_check_write(const lsm_db *db, lsm_error *err);
/* NULL means the default family. LSM_INVALID, LSM_MISSING. */
lsm_status db_check_cf(const lsm_db *db, lsm_cf *cf, uint32_t *id, lsm_error *err);
lsm_status db_check_key(lsm_slice key, lsm_error *err);
/* Forks that made this process and its parents, counted from the first db_watch_forks() on. */
extern _Atomic uint64_t db_forks;
void db_watch_forks(void);
static inline uint64_t db_fork_count(void)
{
    return atomic_load_explicit(&db_forks, memory_order_relaxed);
}
/* Frees a closed handle, but keeps the last few so that using them is noticed. */
void db_bury(lsm_db *db);

/* ---- state (db/state.c) ---------------------------------------------------------------------- */

/* The current state; inside an epoch. */
static inline struct db_state *db_state_current(lsm_db *db)
{
    return atomic_load_explicit(&db->state, memory_order_acquire); /* pairs with install */
}
void db_state_keep(struct db_state *state); /* inside the epoch it was found in, or when held */
void db_state_drop(struct db_state *state);
struct db_state *db_state_acquire(lsm_db *db); /* the current one, held */

/* Memory for the next state. */
struct db_state *db_state_new(void);
/*
 * Says that the memtables or the version have changed, and makes `blank` the current state out of
 * them (change lock held; the set's current version is the one that belongs to them). Takes `blank`
 * over. Where memory is short the state stays as it was, and the next reader tries again.
 */
void db_state_publish_locked(lsm_db *db, struct db_state *blank);
/* The same when only the memtables have changed: another thread's edit may be in the set and not
 * be published, and what it removes must stay until it is (change lock held). */
void db_state_switch_locked(lsm_db *db, struct db_state *blank);
/* The same within an edit, taking the lock; publishes the end of the manifest, too. */
void db_state_publish(lsm_db *db, struct db_state *blank);
/* Frees the closed iterators that are kept for the next open: they hold the state that was current
 * (db/iterator_open.c). */
void db_iter_unpark_all(lsm_db *db);
/* Gives up the current state at close. */
void db_state_clear(lsm_db *db);

/* The part of db_refresh() that works. */
lsm_status db_state_refresh(lsm_db *db, lsm_error *err);
/* Brings the state up to date when somebody has changed something since. First in every read. */
static inline lsm_status db_refresh(lsm_db *db, lsm_error *err)
{
    /* Acquire: what was changed before the number is seen by who sees the number. */
    uint64_t newest = atomic_load_explicit(&db->layout->version.number, memory_order_acquire);
    if (__builtin_expect(atomic_load_explicit(&db->view_number, memory_order_acquire) >= newest, 1))
        return LSM_OK;
    return db_state_refresh(db, err);
}

/* ---- memtables (db/memtables.c) -------------------------------------------------------------- */

void db_memtable_keep(struct db_memtable *memtable);
void db_memtable_drop(struct db_memtable *memtable);
/* All that hold unflushed data, newest first, each held; LSM_NO_MEMORY (change lock held). */
lsm_status db_memtables_list_locked(lsm_db *db, struct db_memtable *list[DB_MAX_MEMTABLES],
                                    size_t *count, lsm_error *err);
/* How many wait for a flush, or are being flushed. */
size_t db_memtables_waiting(lsm_db *db);

/*
 * Puts a new memtable in front and seals the one before (append lock held, or alone). LSM_BUSY when
 * memtable_count of them wait for their flush, or when readers still hold every other arena.
 */
lsm_status db_memtable_switch(lsm_db *db, lsm_error *err);
/* The parts of a switch, for one that comes with an edit: prepare makes a memtable, which is given
 * back or put in front; activate is followed by publishing a state (change lock held), and
 * activated, which takes `fresh` over, comes behind it. (append lock held) */
lsm_status db_memtable_prepare(lsm_db *db, struct db_memtable **fresh, lsm_error *err);
void db_memtable_give_back(lsm_db *db, struct db_memtable *fresh); /* NULL is allowed */
void db_memtable_activate_locked(lsm_db *db, struct db_memtable *fresh);
void db_memtable_activated(lsm_db *db, struct db_memtable *fresh);
/* Makes db->active the memtable that takes writes now, whoever made it (append lock held). */
lsm_status db_memtable_find_active(lsm_db *db, lsm_error *err);
static inline lsm_status db_memtable_follow(lsm_db *db, lsm_error *err)
{
    if (db->active != NULL && memtable_id(db->active) == db->layout->version.active_memtable)
        return LSM_OK;
    return db_memtable_find_active(db, err);
}
/*
 * For recovery, while nobody else is in. A new memtable in the segment, the active one there; the
 * one before it is sealed at the log position `staged` and the chain there. LSM_NO_SPACE and
 * LSM_BUSY when there are too many, or when shared memory is short.
 */
lsm_status db_memtable_recover_shared(lsm_db *db, lsm_error *err);
/* The same of `size` bytes in private memory. */
lsm_status db_memtable_recover(lsm_db *db, size_t size, lsm_error *err);
/* Recovery is over: the last of them takes no more. */
void db_memtable_recovered(lsm_db *db);
/* Those in the segment are empty again: recovery begins anew. */
void db_memtable_unrecover(lsm_db *db);

/* Takes all that wait for the caller to flush, oldest first, each held; none while others flush. */
struct db_flush {
    struct db_memtable *memtables[DB_MAX_MEMTABLES];
    size_t count;
    size_t recovered_count;      /* of these, the first */
    uint64_t log_begin;          /* of the first, */
    uint64_t log_end, log_chain; /* and behind all of them */
};
lsm_status db_flush_take(lsm_db *db, struct db_flush *flush, lsm_error *err);
/* They are in tables now (change lock held): nobody new sees them. */
void db_flush_done_locked(lsm_db *db, const struct db_flush *flush);
/* They are not: somebody else may take them. */
void db_flush_give_back(lsm_db *db, const struct db_flush *flush);
void db_flush_release(struct db_flush *flush);

/* What a death under the change lock may have left (change lock held). */
void db_memtables_repair_locked(lsm_db *db);
/* Tables hold the log up to `position`: so do those of memtables that end there. */
void db_memtables_flushed_locked(lsm_db *db, uint64_t position);

/* ---- deadlines (db/deadline.c) --------------------------------------------------------------- */

/* What a write that gives up waiting leaves: which status, and what the sentence says. */
enum db_outcome { DB_NOTHING_WRITTEN = 0, DB_NOT_DURABLE = 1, DB_NOT_VISIBLE = 2 };

/* Until when a write waits. Everywhere NULL, or at_ns 0, means for ever. */
struct db_deadline {
    uint64_t at_ns; /* CLOCK_MONOTONIC */
    uint32_t timeout_ms;
    enum db_outcome outcome;
};

/* What it waited for. */
enum db_obstacle {
    DB_BEHIND_APPEND,     /* a lock */
    DB_BEHIND_SYNC,       /* a lock */
    DB_BEHIND_VERSION,    /* a lock */
    DB_BEHIND_CHANGE,     /* a lock */
    DB_BEHIND_MEMTABLES,  /* a flush, or readers that keep the arenas */
    DB_BEHIND_COMPACTION, /* level 0 is too full */
};

void db_deadline_set(struct db_deadline *deadline, uint32_t timeout_ms);
static inline bool db_deadline_is_set(const struct db_deadline *deadline)
{
    return deadline != NULL && deadline->at_ns != 0;
}
bool db_deadline_is_over(const struct db_deadline *deadline);
/* The smaller of `most` and what is left. */
uint64_t db_deadline_left_ns(const struct db_deadline *deadline, uint64_t most);
/* LSM_TIMEOUT or LSM_PENDING, naming who is in the way. */
lsm_status db_timeout(lsm_db *db, const struct db_deadline *deadline, enum db_obstacle obstacle,
                      lsm_error *err);

/* As the one without a deadline (which may be NULL), but LSM_BUSY when what a dead owner began
 * wants a memtable and none is free. */
lsm_status db_append_lock_now(lsm_db *db, const struct db_deadline *deadline, lsm_error *err);
/* As the calls without a deadline; LSM_TIMEOUT with nothing held. */
lsm_status db_append_lock_until(lsm_db *db, const struct db_deadline *deadline, lsm_error *err);
lsm_status db_sync_lock_until(lsm_db *db, const struct db_deadline *deadline, lsm_error *err);
/* Takes the change lock and lets go of it again: calls that wait for it without limit come next. */
lsm_status db_change_await(lsm_db *db, const struct db_deadline *deadline, lsm_error *err);
/* The same for the version lock and the sync lock, before work on the calling thread. */
lsm_status db_work_await(lsm_db *db, const struct db_deadline *deadline, lsm_error *err);

/* ---- locks and edits (db/edit.c) ------------------------------------------------------------- */

/* Each finishes, or makes good, what a dead owner was about. */
void db_change_lock(lsm_db *db);
void db_change_unlock(lsm_db *db);
void db_sync_lock(lsm_db *db);
bool db_sync_trylock(lsm_db *db); /* false: somebody has it */

/* Tells everybody to look again (change lock held). */
void db_view_changed_locked(lsm_db *db);
/* The published end of the manifest, and publishing it within an edit (change lock held). */
void db_place_read_locked(const lsm_db *db, struct version_place *place);
void db_place_publish_locked(lsm_db *db);

/*
 * Around version_set_apply(): takes the version lock and brings the set up to date; then publishes
 * and lets go. Between them the caller has the set for itself. db_edit_end() only after LSM_OK.
 */
lsm_status db_edit_begin(lsm_db *db, lsm_error *err);
/* *begun: false when somebody has the version lock, or on failure. */
lsm_status db_edit_try_begin(lsm_db *db, bool *begun, lsm_error *err);
void db_edit_end(lsm_db *db);

/* What is pinned, and everything newer, is not removed by any process. The caller holds a version
 * of that number, or an older pin. */
void db_pin_add(lsm_db *db, struct db_pin *pin, uint64_t number);
void db_pin_remove(lsm_db *db, struct db_pin *pin);
bool db_may_remove(void *context, uint64_t dead_number);

/* ---- compaction by hand (db/manual_cancel.c) ------------------------------------------------- */

/* Around a call, for those who want to see it end. *cancels: it is to stop once the slot's counter
 * is not this any more. */
void db_manual_begin(lsm_db *db, uint32_t *cancels);
void db_manual_end(lsm_db *db);

/* ---- jobs (db/jobs.c) ------------------------------------------------------------------------ */

/* Picks a compaction that no process works on, and claims it (within an edit). `version` is the
 * set's current one; nobody removes its files until the job ends. */
typedef bool (*db_job_pick)(void *context, const struct version *version, struct compaction *c);
bool db_job_take_locked(lsm_db *db, const struct version *version, struct compaction *c,
                        db_job_pick pick, void *context);
/* May a worker of this process begin a compaction, by max_compactions (within an edit)? */
bool db_job_is_allowed_locked(lsm_db *db);
/* Of the machine, at most DB_MAX_COMPACTIONS. */
uint32_t db_processor_count(void);
void db_job_end_locked(lsm_db *db, struct compaction *c); /* within an edit, or with view_lock */
void db_job_end(lsm_db *db, struct compaction *c);

/* May a running job put a table into that level that overlaps the range (within an edit)? */
bool db_jobs_reach_locked(lsm_db *db, const struct version *version, uint32_t cf, uint32_t level,
                          lsm_slice smallest, lsm_slice largest);

/* Around the making of table files: from before the first number is taken to when they are named.
 */
void db_outputs_begin(lsm_db *db, struct db_outputs *outputs);
void db_outputs_end(lsm_db *db, struct db_outputs *outputs);
/* There may be tables in the directory that nobody will name nor remove. */
void db_orphans_expect(lsm_db *db);
/* Looks for those, if there may be some; what cannot be judged now is looked at in a later call. */
lsm_status db_remove_orphans(lsm_db *db, lsm_error *err);

/* ---- the keeper (db/keeper.c) ---------------------------------------------------------------- */

lsm_status db_keeper_start(lsm_db *db, lsm_error *err);
void db_keeper_stop(lsm_db *db);
/* Takes back what dead processes had taken. The keeper's, or the only thread's. */
lsm_status db_reap(lsm_db *db, lsm_error *err);
/* Waits a moment for something to be published behind `seen`, which is version.changed's count from
 * before the caller looked. Where no keeper runs it also clears up after the dead. No lock held. */
void db_wait_changed_until(lsm_db *db, uint32_t seen, const struct db_deadline *deadline);
static inline void db_wait_changed(lsm_db *db, uint32_t seen)
{
    db_wait_changed_until(db, seen, NULL);
}

/* ---- commit (db/commit.c) -------------------------------------------------------------------- */

/* The parts of a commit that a takeover does again (append lock held). */
void db_pending_enter_locked(struct shm_commit *c, uint64_t sequence, uint64_t end);
void db_commit_insert_locked(lsm_db *db, lsm_slice batch, uint64_t sequence);
void db_commit_publish_locked(lsm_db *db, uint64_t sequence);
void db_commit_done_locked(lsm_db *db);
/* Takes the append lock; what a dead owner began is finished first (db/takeover.c). */
lsm_status db_append_lock(lsm_db *db, lsm_error *err);
/* Takes it so that nobody commits, not to commit: what a dead owner began stays as it is, for the
 * next call of the above. For handles that only read, too. */
void db_append_hold(lsm_db *db);

/* Asked under the append lock, when nothing can keep a write from being appended but what it says.
 */
struct db_commit_check {
    lsm_status (*run_locked)(struct db_commit_check *check, lsm_error *err);
    struct db_deadline deadline; /* of the whole commit; set: counts instead of the options' */
    uint64_t sequence;           /* out: the write's, once it is in the log; untouched until then */
};
/* Commits a batch (not empty, its families checked). check NULL: none. A status of the check's ends
 * the call with nothing written. */
lsm_status db_commit_batch(lsm_db *db, lsm_slice batch, const lsm_write_options *options,
                           struct db_commit_check *check, lsm_error *err);
/* Writes the log up to what is staged now and makes it durable. */
lsm_status db_log_sync_until(lsm_db *db, uint64_t position, const struct db_deadline *deadline,
                             lsm_error *err);
static inline lsm_status db_log_sync(lsm_db *db, uint64_t position, lsm_error *err)
{
    return db_log_sync_until(db, position, NULL, err);
}
/* What a write, or a sync, waits for that is in the log already. */
struct db_ack {
    uint64_t sequence; /* to be visible; 0: of a sync alone */
    uint64_t end;      /* of its record; with is_sync to be durable */
    bool is_sync;
};
/* As lsm_write() up to where it would wait for the sync. *ack is what is left to wait for; nothing,
 * where it is given. */
lsm_status db_write_begin(lsm_db *db, const lsm_batch *batch, const lsm_write_options *options,
                          struct db_ack *ack, lsm_error *err);
bool db_ack_is_given(const lsm_db *db, const struct db_ack *ack);
/* Waits for it, syncing the log unless somebody else does. */
lsm_status db_ack_wait(lsm_db *db, const struct db_ack *ack, lsm_error *err);
/* Raises visible_sequence as far as durability allows. Any thread. */
void db_advance_visible(lsm_db *db);
/* Seals the active memtable if it holds anything; waits for a free arena. */
lsm_status db_seal_active(lsm_db *db, lsm_error *err);

/* ---- ingests (db/ingest_commit.c) ------------------------------------------------------------ */

/* What an ingest that died may have made durable is published, and its sequence number is nobody
 * else's (append lock held). */
lsm_status db_ingest_redo_locked(lsm_db *db, lsm_error *err);

/* ---- background (db/background.c, db/log_writer.c) ------------------------------------------- */

lsm_status db_background_start(lsm_db *db, lsm_error *err);
void db_background_stop(lsm_db *db);
/* Tells the workers that there may be work. */
void db_work_signal(lsm_db *db);
/* Since 1970, for the age of tables. */
uint64_t db_wall_seconds(lsm_db *db);
/* Does due work on the calling thread when there are no workers; otherwise waits a little for
 * theirs. The status is that of failed background work. */
lsm_status db_work_wait_until(lsm_db *db, const struct db_deadline *deadline, lsm_error *err);
static inline lsm_status db_work_wait(lsm_db *db, lsm_error *err)
{
    return db_work_wait_until(db, NULL, err);
}
/* Until work_done is signalled (work_lock held). */
void db_work_done_wait_locked(lsm_db *db);
/* Flushes every sealed memtable; on the calling thread when there are no workers. */
lsm_status db_flush_sealed(lsm_db *db, lsm_error *err);
/* What the log holds below `position` is in tables now: it can go. A failure costs only space. */
void db_forget_log(lsm_db *db, uint64_t position);
lsm_status db_flush_once(lsm_db *db, bool *did_work, lsm_error *err);
/* Of an edit that was not applied: takes the tables that it adds off the disk. */
void db_edit_forget_tables(lsm_db *db, const struct version_edit *edit);
/* Runs one compaction to its end and installs it. */
lsm_status db_compaction_run(lsm_db *db, struct version *version, struct compaction *c,
                             lsm_progress progress, void *progress_context, uint64_t bytes_before,
                             uint64_t bytes_total, lsm_error *err);

lsm_status db_log_writer_start(lsm_db *db, lsm_error *err);
/* After an LSM_WRITE: wakes the log writer when there is enough to do, or writes the log itself
 * when there is none. */
void db_log_writer_nudge(lsm_db *db);
void db_log_writer_stop(lsm_db *db);
/* Gives the log's disk space back at once where nothing was written since it ended at `staged`: for
 * a caller who has waited until all was done. What fails is tried again when nobody writes. */
void db_log_rest(lsm_db *db, uint64_t staged);
static inline bool db_has_workers(const lsm_db *db)
{
    return db->options.workers != LSM_NO_WORKERS;
}

/* ---- snapshots (db/snapshot.c) --------------------------------------------------------------- */

/* The sequence numbers that compaction must keep visible, ascending, the newest visible one last.
 * Owned by the caller (mem_free). */
lsm_status db_snapshot_list(lsm_db *db, uint64_t **sequences, size_t *count, lsm_error *err);

/* Where in the segment a snapshot of any process stands; what a token says (db/token.c). */
struct db_snapshot_place {
    uint32_t slot; /* < SHM_MAX_SLOTS */
    uint32_t generation;
    uint32_t entry; /* < SHM_SLOT_SNAPSHOTS */
    uint64_t sequence;
};
/* False when this handle holds no such snapshot. */
bool db_snapshot_place(lsm_db *db, const lsm_snapshot *snapshot, struct db_snapshot_place *place);
/* A snapshot of this process at the number of another's, which must still be held. LSM_MISSING when
 * it is not; LSM_TOO_LARGE as lsm_snapshot_acquire(). */
lsm_status db_snapshot_join(lsm_db *db, const struct db_snapshot_place *place,
                            lsm_snapshot **snapshot, lsm_error *err);

/* ---- families (db/cf.c) ---------------------------------------------------------------------- */

lsm_status db_cf_load(lsm_db *db, lsm_error *err); /* handles for all families of the version */
/* The same after others may have created, renamed or dropped some. */
lsm_status db_cf_follow(lsm_db *db, lsm_error *err);
void db_cf_free_all(lsm_db *db);

/* ---- options (db/options.c) ------------------------------------------------------------------ */

lsm_status db_options_resolve(const lsm_options *given, lsm_options *resolved, lsm_error *err);

/* ---- memory (db/memory_share.c) -------------------------------------------------------------- */

/* The number for all, in bytes: its parts, but for the last, add up to it. */
struct db_memory_parts {
    uint64_t memtables; /* and what else is in the segment */
    uint64_t log;
    uint64_t written; /* what merges and flushes hold of what they write, */
    uint64_t ahead;   /* and what they, and iterators, read ahead */
    uint64_t heap;
    uint64_t blocks_and_tables; /* cached, still being freed; indexes and filters of open tables */
    uint64_t tables_most;       /* what these may have of it */
};
/* As resolved options say; all 0 without `memory`. */
void db_memory_parts(const lsm_options *options, struct db_memory_parts *parts);
/* What tables take comes out of the cache. Without `memory` it stays as it is. */
void db_memory_lend(const lsm_options *options, struct block_cache *cache);
/* Gives memtable_size, stage_size and cache_size, where they are 0, their parts of options->memory.
 * LSM_INVALID: what was given does not fit into it. */
lsm_status db_memory_share(lsm_options *options, uint32_t memtable_count, uint32_t workers,
                           lsm_error *err);

/* ---- reports (db/report.c) ------------------------------------------------------------------- */

/* What others see of this process, see struct shm_report. Any thread; the opening is over. */
void db_report_begin(lsm_db *db);
void db_report(lsm_db *db);
void db_report_stall(lsm_db *db, lsm_stall reason);
void db_report_work(lsm_db *db, lsm_status status, const char *sentence);

/* ---- stalls (db/stall.c) --------------------------------------------------------------------- */

/* Measures the debt of the current version; after each install. */
void db_stall_update(lsm_db *db);
/* Whether the active memtable is the last that is free; after each switch and flush. */
void db_stall_look_at_memtables(lsm_db *db);
/* How full that one is (append lock held). */
void db_stall_measure_memtable_locked(lsm_db *db);
/* A flush took in so many bytes. */
void db_stall_measure_flush(lsm_db *db, uint64_t bytes, uint64_t duration_ns);
/* Slows or stops the caller before a write of `bytes`, where there is debt; LSM_BUSY with no_wait.
 */
lsm_status db_stall_wait(lsm_db *db, size_t bytes, bool no_wait, const struct db_deadline *deadline,
                         lsm_error *err);
/* Remembers why writers wait, and tells the listener when that changed. */
void db_stall_tell(lsm_db *db, lsm_stall reason);
/* A writer begins to wait; returns now. Then it has waited since then. */
uint64_t db_stall_begin(lsm_db *db);
void db_stall_end(lsm_db *db, enum shm_wait kind, uint64_t since_ns);
/* The same for what is known only afterwards. */
void db_stall_count(lsm_db *db, enum shm_wait kind, uint64_t since_ns);
void db_tell(lsm_db *db, const lsm_event *event);

#endif
