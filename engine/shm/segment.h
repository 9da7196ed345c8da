/*
 * The shared segment: one file in tmpfs, mapped by every process that has the database open, that
 * holds whatever they must agree on at once: locks, positions of the log, the published sequence
 * number, the state of each memtable, and the memtables' arenas. Offsets only, never pointers.
 *
 *   ident | ctl | locks | commit | intent | version | memtables[] | reads | slots[] | arenas[]
 *   | frames
 *
 * Groups are 64-byte aligned; who may write a field is said beside it. The segment is never the
 * only home of acknowledged data: log and stage file are (see engine/wal).
 *
 * Who may map it, and when it goes, is engine/shm/attach.h. Everything in it that this header does
 * not describe (the nodes of a memtable) is part of the layout, too: a change of either raises
 * SHM_LAYOUT_VERSION.
 */
#ifndef ENGINE_SHM_SEGMENT_H
#define ENGINE_SHM_SEGMENT_H

#include "engine/io/io.h"
#include "engine/shm/event.h"
#include "engine/shm/lock.h"

#include <stdatomic.h>

#define SHM_MAGIC          UINT64_C(0x314d48534d534c65) /* "eLSMSHM1" */
#define SHM_LAYOUT_VERSION 10
#define SHM_MAX_MEMTABLES  64 /* arenas: one bit each in a process's slot */
#define SHM_MAX_SLOTS      64
#define SHM_SLOT_SNAPSHOTS 256
#define SHM_SLOT_JOBS      4
#define SHM_JOB_INPUTS     256
#define SHM_READ_ACCOUNTS  64
#define SHM_COMMAND_SIZE   16
#define SHM_IO_NAME_SIZE   16
#define SHM_REASON_SIZE    240
#define SHM_UUID_SIZE      16
#define SHM_MAX_PENDING    256 /* a power of two */

struct shm_ident { /* written once, before ctl.ready */
    _Alignas(64) uint64_t magic;
    uint64_t layout;              /* SHM_LAYOUT_VERSION */
    uint64_t layout_hash;         /* shm_layout_hash() */
    uint8_t uuid[SHM_UUID_SIZE];  /* of the database */
    uint8_t nonce[SHM_UUID_SIZE]; /* of this segment */
    uint64_t segment_size;        /* bytes */
    uint64_t arena_size;          /* bytes of one memtable's arena */
    uint64_t arenas_offset;       /* of the first arena, from the segment's start */
    uint64_t frames_offset;       /* of the shared blocks: engine/shm/frames.h */
    uint64_t frames_capacity;     /* bytes of them; 0: none */
    uint32_t memtable_count;
    uint32_t slot_count;
    struct io_identity lock_file; /* the LOCK file it belongs to; zero where there is none */
};

/* What writers wait for. */
enum shm_wait {
    SHM_WAIT_MEMTABLES, /* a flush */
    SHM_WAIT_LEVEL0,    /* compaction */
    SHM_WAIT_LOG,       /* room in the stage file */
    SHM_WAIT_LOCK,      /* others under the append lock, for a millisecond or longer */
    SHM_WAIT_SWITCH,    /* the next memtable, which they make themselves */
    SHM_WAIT_KINDS,
};

const char *shm_wait_name(enum shm_wait kind); /* "memtables", "level0", ... */

struct shm_waits {
    _Atomic uint64_t count;
    _Atomic uint64_t total_us;
    _Atomic uint64_t longest_us;
};

struct shm_ctl {
    _Alignas(64) _Atomic uint32_t ready; /* 1 once recovery is over */
    _Atomic uint32_t poisoned;           /* an errno: a sync failed, nobody acknowledges any more */
    _Atomic uint32_t log_is_doubtful;    /* a log that was found is needed, and may be lost yet */
    uint32_t max_compactions;            /* set at open: at once, by workers of all processes */
    _Atomic uint64_t next_file_number;   /* fetch_add */
    _Atomic uint64_t next_wal_number;    /* fetch_add */
    _Atomic uint64_t next_memtable_id;   /* fetch_add */
    /* Of all processes, also those that left. */
    _Alignas(64) struct shm_waits waits[SHM_WAIT_KINDS];
};

struct shm_locks {           /* lock order: reg, append, version, change; sync stands alone */
    struct shm_lock reg;     /* slots */
    struct shm_lock version; /* manifest, set of live files */
    struct shm_lock append;  /* the commit lock: stage ring, memtable, publication */
    struct shm_lock change;  /* which memtable is active */
    struct shm_lock sync;    /* the log writer: WAL segments */
};

/* A write that asked for LSM_SYNC: nothing from its sequence number on is visible until the log is
 * durable up to its end. */
struct shm_pending {
    _Atomic uint64_t sequence;
    _Atomic uint64_t end; /* position */
};

#define SHM_LOG_SPARES 2 /* files that wait to become a WAL segment */
#define SHM_LOG_CLEAN  8 /* old WAL segments that may become one again */

/* What the processes that write the log hand to each other; engine/wal alone looks inside. Nothing
 * of it outlives the death of a holder of the sync lock but what is atomic, and what is only set at
 * open. */
struct shm_log {
    _Alignas(64) uint64_t resume;        /* set at open: what every segment's header repeats */
    uint64_t resume_chain;               /* */
    uint8_t nonce[SHM_UUID_SIZE];        /* */
    uint8_t nonce_before[SHM_UUID_SIZE]; /* */
    uint64_t stage_size;                 /* set at open */
    uint64_t segment_size;               /* set at open */
    uint32_t is_mapped;                  /* set at open: so is the stage file, by whoever may */
    uint32_t is_direct;                  /* set at open: segments are written past the page cache */
    _Atomic uint64_t handle_count;       /* fetch_add: each process's handle gets a number */
    _Alignas(64) uint64_t holder; /* the handle that changed the fields below last; 0: the next one
                                     has to take over (sync) */
    uint64_t segment_bytes;       /* size of the file of commit.segment_number (sync) */
    uint64_t filled;              /* its bytes below have been written to once (sync) */
    uint64_t reserved;            /* and for those below there is room on disk (sync) */
    uint32_t finished;            /* nothing more may be written to it (sync) */
    uint32_t recyclable;          /* every write to it was waited for (sync) */
    uint64_t forgotten;           /* no older segment than this one is left (sync) */
    uint64_t clean_count;         /* ever entered in clean (sync) */
    _Atomic uint64_t
        clean[SHM_LOG_CLEAN]; /* packed: the last segments that may be recycled (sync) */
    _Atomic uint64_t spares[SHM_LOG_SPARES]; /* packed; 0: none. Put by anybody, taken under sync */
    _Atomic uint32_t spare_due;              /* the segment is half full */
    _Atomic uint32_t sweep_due; /* there may be files in the directory that nobody will use */
    struct shm_lock spare_lock; /* whoever makes a spare; only ever tried, so it has no order */
};

/* Positions are bytes of the log since the database began; see engine/wal/wal.h. */
struct shm_commit {
    _Alignas(64) _Atomic uint64_t staged;           /* end of the stage ring's contents (append) */
    _Atomic uint64_t applied_sequence;              /* last sequence number inserted (append) */
    uint64_t chain;                                 /* checksum of the last record (append) */
    _Alignas(64) _Atomic uint64_t visible_sequence; /* what readers may see */
    _Alignas(64) _Atomic uint64_t written;          /* in WAL segments up to here (sync) */
    _Atomic uint64_t durable;                       /* flushed up to here (sync) */
    _Atomic uint64_t reusable;                  /* the stage ring may be overwritten below (sync) */
    _Atomic uint64_t segment_number;            /* WAL segment being written (sync) */
    uint64_t segment_start;                     /* position of its first byte (sync) */
    _Atomic uint32_t sync_busy;                 /* a write or flush is under way (sync) */
    uint32_t sync_group;                        /* writers that the last flush served (sync) */
    _Alignas(64) _Atomic uint64_t pending_head; /* see pending (any, by compare and swap) */
    _Atomic uint64_t pending_tail;              /* (append) */
    struct shm_pending pending[SHM_MAX_PENDING]; /* sync writes not durable yet, oldest first */
    _Alignas(64) struct shm_event committed;     /* visible_sequence moved */
    struct shm_event flushed;                    /* written, durable or reusable moved */
    struct shm_log log;
};

/*
 * What the append lock's owner is about to do, recorded when its log record stands in the stage
 * ring and before anybody can see an effect. Should it die, the next owner does the same again: the
 * same record, sequence number and places in the memtable.
 */
enum shm_intent_state {
    SHM_INTENT_NONE = 0,   /* nothing has had an effect, or all is done */
    SHM_INTENT_COMMIT = 1, /* the fields below hold */
    SHM_INTENT_INGEST = 2, /* an ingest makes an edit; only `sequence` holds, which is its own, and
                              `memtable_id`: another one comes into force with the edit */
};

struct shm_intent {
    _Alignas(64) _Atomic uint32_t state;
    _Atomic uint32_t takeover_due; /* an owner died, and what it began is not finished yet */
    uint32_t durability;           /* enum lsm_durability */
    uint64_t sequence;             /* of the batch */
    uint64_t position;             /* in the log, of its record */
    uint64_t size;                 /* of the record */
    uint64_t memtable_id;          /* that it goes into */
    uint64_t memtable_place;       /* memtable_position() before the first insert */
};

enum shm_memtable_state {
    SHM_MEMTABLE_FREE = 0,
    SHM_MEMTABLE_BUILDING = 1,
    SHM_MEMTABLE_ACTIVE = 2,
    SHM_MEMTABLE_SEALED = 3,
    SHM_MEMTABLE_FLUSHING = 4,
    SHM_MEMTABLE_FLUSHED = 5, /* nobody new sees it; FREE when the last process let go of it */
};

/* An arena and the memtable in it. Changed under the change lock, but for `backed`, which only
 * grows. FREE, FLUSHED -> BUILDING -> ACTIVE -> SEALED -> FLUSHING -> FLUSHED -> FREE. */
struct shm_memtable {
    _Alignas(64) _Atomic uint32_t state; /* enum shm_memtable_state */
    uint32_t owner_slot;                 /* of BUILDING and FLUSHING */
    uint64_t id;                         /* grows with every switch */
    uint64_t log_begin;                  /* position of the first record in it */
    uint64_t log_end;                    /* position behind the last; set when sealed */
    uint64_t log_chain;           /* checksum of the record before log_end; set when sealed */
    uint64_t arena_offset;        /* from the segment's start */
    _Atomic uint64_t backed_low;  /* arena bytes [0, backed_low) are allocated */
    _Atomic uint64_t backed_high; /* arena bytes [backed_high, size) are allocated */
};

struct shm_version {
    _Alignas(64) _Atomic uint64_t number; /* grows with every change of the fields below */
    uint64_t active_memtable;             /* id */
    _Atomic uint32_t place_index;         /* which of places counts, modulo 2 */
    _Atomic uint32_t roll_forward_due;    /* an owner of the version lock died: (version) */
    struct {
        uint64_t number[5]; /* where the manifest ends: engine/db/edit.c */
    } places[2];
    _Atomic uint64_t orphans_below; /* tables below it may be nobody's; 0: none is (any) */
    struct shm_event changed;       /* number moved, or an arena may have become free */
};

/*
 * What reads of a family have cost for which merges would help, see struct compact_reads; stored by
 * anybody, relaxed but for `shape`. Families whose ids are equal modulo SHM_READ_ACCOUNTS share an
 * account: who comes to one that is another's, or that was kept for another shape of the family,
 * begins it anew. Whoever loses a race for that loses some of the counts, and nothing else.
 */
struct shm_read_account {
    _Alignas(64) _Atomic uint64_t shape; /* compact_shape_mark(); 0: nobody's */
    _Atomic uint64_t runs_ns;
    _Atomic uint64_t deletes_ns;
    _Atomic uint64_t memory_ns;
    _Atomic uint64_t ask_ns;        /* the sum at which workers are told to look at it next */
    _Atomic uint64_t rest_ns;       /* what was paid since the last write, */
    _Atomic uint64_t rest_ask_ns;   /* as ask_ns, */
    _Atomic uint64_t rest_sequence; /* and that write's number */
    _Atomic uint64_t carry; /* id + 1 of the family: its next shape is that after a flush for
                               reads, and they have paid for it, too; 0: none */
};

struct shm_reads {
    _Alignas(64) _Atomic uint32_t asks; /* of processes without workers: those of others look */
    struct shm_read_account accounts[SHM_READ_ACCOUNTS];
};

enum shm_slot_state {
    SHM_SLOT_FREE = 0,
    SHM_SLOT_IN_USE = 1, /* by a living process, or left by a dead one; its lock byte tells which */
};

enum shm_job_state {
    SHM_JOB_NONE = 0,
    SHM_JOB_RUNNING = 1,
};

struct shm_job {            /* a flush or compaction under way (version) */
    _Atomic uint32_t state; /* enum shm_job_state; stored last, release */
    uint32_t is_manual;     /* somebody asked for it: see shm_manual */
    uint32_t cf;
    uint32_t input_level;
    uint32_t output_level;
    uint32_t input_count;
    uint32_t threads;                /* that it may take, of max_merge_threads */
    uint32_t is_for_reads;           /* reads have paid for it: see shm_read_account */
    uint64_t since_ns;               /* see shm_report */
    uint64_t input_bytes;            /* of their files */
    _Atomic uint64_t bytes_done;     /* of these; its owner's, any time */
    _Atomic uint64_t bytes_written;  /* its owner's, any time */
    uint64_t inputs[SHM_JOB_INPUTS]; /* file numbers */
};

/*
 * The lsm_compact_range() calls of a process. One runs at a time, the others wait for their turn.
 * Whoever wants them to stop raises `cancels`: a call ends when it is not what it was when the call
 * began. Everything else is the owner's; a reader finds numbers that need not fit each other.
 */
struct shm_manual {
    _Atomic uint32_t calls;   /* that are in the process now */
    _Atomic uint32_t ended;   /* ever; wraps */
    _Atomic uint32_t cancels; /* anybody's: fetch_add; wraps */
    _Atomic uint32_t cf;      /* of the one that runs, like the next */
    _Atomic uint64_t since_ns;
    _Atomic uint64_t bytes_done;
    _Atomic uint64_t bytes_total;
};

enum shm_role {
    SHM_ROLE_OPEN = 1,    /* the opening is over */
    SHM_ROLE_WORKERS = 2, /* it has threads that flush and merge */
    SHM_ROLE_KEEPER = 4,  /* and one that clears up after the dead, and reports each second */
    SHM_ROLE_ALONE = 8,   /* it lets nobody in */
    SHM_ROLE_READER = 16, /* it does not write */
};

/*
 * What a process says of itself to those who look from outside (engine/inspect); nobody in the
 * engine reads it. Its owner stores it, relaxed, at events and each second, never on the path of a
 * write that does not wait. Times are io_now_ns(); 0: never.
 */
struct shm_report {
    _Alignas(64) _Atomic uint64_t attached_ns; /* when the opening was over */
    _Atomic uint64_t said_ns;                  /* when the numbers below were stored last */
    _Atomic uint64_t pin_ns;                   /* since when the pin is what it is */
    _Atomic uint64_t stall_ns;                 /* since when the reason is what it is */
    _Atomic uint32_t stall_reason;             /* enum lsm_stall */
    _Atomic uint32_t stalled_writers;          /* that wait now */
    _Atomic uint64_t stalled_us;               /* of all writers so far */
    struct shm_waits waits[SHM_WAIT_KINDS];    /* the same by what they waited for */
    _Atomic uint32_t debt_ppm;                 /* of compaction, of the way to stopping writers */
    _Atomic uint32_t iterators;
    _Atomic uint64_t drain_rate;  /* bytes a second that its merges take out of level 0 */
    _Atomic uint64_t cache_size;  /* bytes: limit of the block cache, */
    _Atomic uint64_t cache_bytes; /* and what is in it */
    _Atomic uint64_t cache_hits;
    _Atomic uint64_t cache_misses;
    _Atomic uint64_t shared_cache_size;  /* of that which all share, 0: none; what can be */
    _Atomic uint64_t shared_cache_bytes; /* found there, and how many blocks this process */
    _Atomic uint64_t shared_cache_found; /* found that it had not looked up before */
    _Atomic uint64_t table_bytes;        /* indexes and filters of open tables */
    _Atomic uint64_t flush_bytes_written;
    _Atomic uint64_t merge_bytes_read;
    _Atomic uint64_t merge_bytes_written;
    _Atomic uint64_t read_merges; /* that it made because of reads */
    _Atomic uint64_t io_submissions;
    _Atomic uint32_t work_status;                     /* lsm_status of its last background work */
    char io_name[SHM_IO_NAME_SIZE];                   /* texts are NUL-terminated */
    char io_reason[SHM_REASON_SIZE];                  /* why this one */
    char log_path[SHM_REASON_SIZE];                   /* how the log is written */
    char work_error[SHM_REASON_SIZE];                 /* the sentence of work_status */
    _Atomic uint64_t snapshot_ns[SHM_SLOT_SNAPSHOTS]; /* when each was taken */
};

/*
 * One for each attachment. Written by its owner; once the owner is dead by whoever holds the slot's
 * lock byte (shm_reap()). What names a slot elsewhere names its generation, too.
 */
struct shm_slot {
    _Alignas(64) _Atomic uint32_t state; /* enum shm_slot_state */
    _Atomic uint32_t generation;         /* grows with every owner, and with every reaping */
    _Atomic uint32_t roles;              /* flags of enum shm_role */
    _Atomic int64_t pid;                 /* for messages only, like the next */
    char command[SHM_COMMAND_SIZE];
    _Alignas(64) _Atomic uint64_t pin; /* oldest version number in use here; 0: none (change) */
    _Atomic uint64_t arenas;           /* that this process reads, a bit each */
    _Atomic uint64_t out_floor;        /* its running jobs' files are numbered from here; 0: none */
    _Atomic uint64_t snapshots[SHM_SLOT_SNAPSHOTS]; /* sequence numbers; 0: none */
    struct shm_job jobs[SHM_SLOT_JOBS];
    struct shm_manual manual;
    struct shm_report report;
};

struct shm_layout {
    struct shm_ident ident;
    struct shm_ctl ctl;
    struct shm_locks locks;
    struct shm_commit commit;
    struct shm_intent intent;
    struct shm_version version;
    struct shm_memtable memtables[SHM_MAX_MEMTABLES];
    struct shm_reads reads;
    struct shm_slot slots[SHM_MAX_SLOTS];
};

struct shm_segment; /* process-private handle */

struct shm_options {
    const char *directory; /* tmpfs, else any; created when missing. NULL: /dev/shm */
    uint8_t uuid[SHM_UUID_SIZE];
    uint64_t arena_size;
    uint32_t memtable_count;
    uint64_t frames_capacity;     /* bytes of blocks that all share; 0: none */
    uint32_t mode;                /* of the file; 0: 0600 */
    struct io_identity lock_file; /* the LOCK file that the caller holds; zero: none */
};

/*
 * Makes and maps a fresh segment named after the database's uuid and a random nonce, which nobody
 * may enter yet; left-over segments of the same uuid are removed as by
 * shm_segment_remove_stale(). Only the layout is allocated; arenas get memory through
 * shm_arena_back(). LSM_NO_SPACE when tmpfs is full, with what to do.
 */
lsm_status shm_segment_create(struct io *io, const struct shm_options *options,
                              struct shm_segment **segment, lsm_error *err);
/* Full path of the directory that segments are made in; makes it where it is missing. */
lsm_status shm_segment_directory(struct io *io, const char *directory, char *path, size_t size,
                                 lsm_error *err);
/*
 * Maps the segment `name` in `directory`, if it is the very file `expected` and lies as this build
 * lays it out. LSM_MISSING when there is no such file, LSM_UNSUPPORTED when it is another one or
 * laid out in another way, LSM_CORRUPT when it says of itself what cannot be.
 */
lsm_status shm_segment_open(struct io *io, const char *directory, const char *name,
                            struct io_identity expected, struct shm_segment **segment,
                            lsm_error *err);
/*
 * The same for reading only: nothing is locked or written, and a store to it is a fault. Memory of
 * an arena is looked at only below its backed_low, since reading a hole would allocate it.
 */
lsm_status shm_segment_look(struct io *io, const char *directory, const char *name,
                            struct io_identity expected, struct shm_segment **segment,
                            lsm_error *err);
/* Unmaps it; others go on with it. NULL is allowed. */
void shm_segment_close(struct shm_segment *segment);
/* Unmaps and unlinks it. NULL is allowed. */
void shm_segment_destroy(struct shm_segment *segment);
/*
 * Removes the segments that a dead population of database `uuid` left: those that belong to
 * `lock_file` (the caller holds it, so they are dead) and those that nobody has mapped. A copy of a
 * database has the same uuid, and its segment may live.
 */
lsm_status shm_segment_remove_stale(struct io *io, const char *directory,
                                    const uint8_t uuid[SHM_UUID_SIZE], struct io_identity lock_file,
                                    lsm_error *err);

const char *shm_segment_name(const struct shm_segment *segment);
/* Full path of the directory and identity of the file, for shm_segment_open(). */
lsm_status shm_segment_place(struct shm_segment *segment, char *directory, size_t size,
                             struct io_identity *identity, lsm_error *err);
/* Differs between builds that lay out the segment in different ways. */
uint64_t shm_layout_hash(void);
struct shm_layout *shm_layout(struct shm_segment *segment);
void *shm_arena(struct shm_segment *segment, uint32_t index);

/*
 * Makes sure that arena bytes [0, low) and [high, arena_size) are backed by memory, so that a store
 * there cannot raise SIGBUS. Works ahead in steps of SHM_BACK_STEP. Cheap when nothing is to do.
 * Any thread or process may call it for an arena at any time.
 */
#define SHM_BACK_STEP ((uint64_t)1 << 20)
static inline bool shm_arena_is_backed(const struct shm_layout *layout, uint32_t index,
                                       uint64_t low, uint64_t high)
{
    const struct shm_memtable *table = &layout->memtables[index];
    return low <= atomic_load_explicit(&table->backed_low, memory_order_relaxed) &&
           high >= atomic_load_explicit(&table->backed_high, memory_order_relaxed);
}
lsm_status shm_arena_back(struct shm_segment *segment, uint32_t index, uint64_t low, uint64_t high,
                          lsm_error *err);
/* The same for [offset, offset + size) of the segment, whole pages, each time it is called. */
lsm_status shm_segment_back(struct shm_segment *segment, uint64_t offset, uint64_t size,
                            lsm_error *err);
/* Whether there is so much shared memory left that some may be used for what can do without: the
 * memtables to come have theirs. */
bool shm_segment_has_room(const struct shm_segment *segment);
/* Bytes of memory the segment takes now, without its frames. */
uint64_t shm_segment_bytes(const struct shm_segment *segment);

#endif
