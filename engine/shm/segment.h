/*
 * The shared segment: one file in tmpfs, mapped by every process that has the database open, that
 * holds whatever they must agree on at once: locks, positions of the log, the published sequence
 * number, the state of each memtable, and the memtables' arenas. Offsets only, never pointers.
 *
 *   ident | ctl | locks | commit | intent | version | memtables[] | slots[] | arenas[]
 *
 * Groups are 64-byte aligned; who may write a field is said beside it. The segment is never the
 * only home of acknowledged data: log and stage file are (see engine/wal).
 *
 * This version lets one process in; the layout is the one many will share.
 */
#ifndef ENGINE_SHM_SEGMENT_H
#define ENGINE_SHM_SEGMENT_H

#include "engine/io/io.h"
#include "engine/shm/event.h"
#include "engine/shm/lock.h"

#include <stdatomic.h>

#define SHM_MAGIC          UINT64_C(0x314d48534d534c65) /* "eLSMSHM1" */
#define SHM_LAYOUT_VERSION 1
#define SHM_MAX_MEMTABLES  64 /* arenas: one bit each in a process's slot */
#define SHM_MAX_SLOTS      64
#define SHM_UUID_SIZE      16
#define SHM_MAX_PENDING    256 /* a power of two */

struct shm_ident { /* written once, before ctl.ready */
    _Alignas(64) uint64_t magic;
    uint64_t layout;
    uint8_t uuid[SHM_UUID_SIZE];  /* of the database */
    uint8_t nonce[SHM_UUID_SIZE]; /* of this segment */
    uint64_t segment_size;        /* bytes */
    uint64_t arena_size;          /* bytes of one memtable's arena */
    uint64_t arenas_offset;       /* of the first arena, from the segment's start */
    uint32_t memtable_count;
    uint32_t slot_count;
    uint64_t lock_device, lock_inode; /* of the LOCK file it belongs to; 0 where there is none */
};

struct shm_ctl {
    _Alignas(64) _Atomic uint32_t ready; /* 1 once recovery is over */
    _Atomic uint32_t poisoned;           /* an errno: a sync failed, nobody acknowledges any more */
    _Atomic uint64_t next_file_number;   /* fetch_add */
    _Atomic uint64_t next_wal_number;    /* fetch_add */
    _Atomic uint64_t next_memtable_id;   /* fetch_add */
};

struct shm_locks {           /* lock order: reg, version, append, switch; sync stands alone */
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

/* Positions are bytes of the log since the database began; see engine/wal/wal.h. */
struct shm_commit {
    _Alignas(64) _Atomic uint64_t staged;           /* end of the stage ring's contents (append) */
    _Atomic uint64_t applied_sequence;              /* last sequence number inserted (append) */
    uint64_t chain;                                 /* checksum of the last record (append) */
    _Alignas(64) _Atomic uint64_t visible_sequence; /* what readers may see */
    _Alignas(64) _Atomic uint64_t written;          /* in WAL segments up to here (sync) */
    _Atomic uint64_t durable;                       /* flushed up to here (sync) */
    _Atomic uint64_t reusable;                  /* the stage ring may be overwritten below (sync) */
    uint64_t segment_number;                    /* WAL segment being written (sync) */
    uint64_t segment_start;                     /* position of its first byte (sync) */
    _Atomic uint32_t sync_busy;                 /* a write or flush is under way (sync) */
    uint32_t sync_group;                        /* writers that the last flush served (sync) */
    _Alignas(64) _Atomic uint64_t pending_head; /* see pending (any, by compare and swap) */
    _Atomic uint64_t pending_tail;              /* (append) */
    struct shm_pending pending[SHM_MAX_PENDING]; /* sync writes not durable yet, oldest first */
    _Alignas(64) struct shm_event committed;     /* visible_sequence moved */
    struct shm_event flushed;                    /* written, durable or reusable moved */
};

/*
 * What the append lock's owner is about to do, recorded when its log record stands in the stage
 * ring and before anybody can see an effect. Should it die, the next owner does the same again: the
 * same record, sequence number and places in the memtable.
 */
enum shm_intent_state {
    SHM_INTENT_NONE = 0,   /* nothing has had an effect, or all is done */
    SHM_INTENT_COMMIT = 1, /* the fields below hold */
};

struct shm_intent {
    _Alignas(64) _Atomic uint32_t state;
    uint32_t durability;     /* enum lsm_durability */
    uint64_t sequence;       /* of the batch */
    uint64_t position;       /* in the log, of its record */
    uint64_t size;           /* of the record */
    uint64_t memtable_id;    /* that it goes into */
    uint64_t memtable_place; /* memtable_position() before the first insert */
};

enum shm_memtable_state {
    SHM_MEMTABLE_FREE = 0,
    SHM_MEMTABLE_BUILDING = 1,
    SHM_MEMTABLE_ACTIVE = 2,
    SHM_MEMTABLE_SEALED = 3,
    SHM_MEMTABLE_FLUSHING = 4,
    SHM_MEMTABLE_FLUSHED = 5, /* nobody new sees it; FREE when the last process let go of it */
};

/* An arena and the memtable in it. Changed under the change lock, but for `backed`, which is the
 * append lock's. FREE, FLUSHED -> BUILDING -> ACTIVE -> SEALED -> FLUSHING -> FLUSHED -> FREE. */
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
    uint64_t manifest_number;
    uint64_t manifest_end;    /* bytes */
    struct shm_event changed; /* a flush, compaction or switch was installed: number moved */
};

struct shm_slot {                        /* one per process */
    _Alignas(64) _Atomic uint32_t state; /* 0 free, 1 in use */
    uint32_t generation;
    int64_t pid;             /* for messages */
    _Atomic uint64_t arenas; /* that this process reads, a bit each */
};

struct shm_layout {
    struct shm_ident ident;
    struct shm_ctl ctl;
    struct shm_locks locks;
    struct shm_commit commit;
    struct shm_intent intent;
    struct shm_version version;
    struct shm_memtable memtables[SHM_MAX_MEMTABLES];
    struct shm_slot slots[SHM_MAX_SLOTS];
};

struct shm_segment; /* process-private handle */

struct shm_options {
    const char *directory; /* tmpfs, else any; created when missing. NULL: /dev/shm */
    uint8_t uuid[SHM_UUID_SIZE];
    uint64_t arena_size;
    uint32_t memtable_count;
};

/*
 * Makes and maps a fresh segment named after the database's uuid and a random nonce; left-over
 * segments of the same uuid are removed (the caller holds the database's lock, so they are dead).
 * Only the layout is allocated; arenas get memory through shm_arena_back(). LSM_NO_SPACE when tmpfs
 * is full, with what to do.
 */
lsm_status shm_segment_create(struct io *io, const struct shm_options *options,
                              struct shm_segment **segment, lsm_error *err);
/* Unmaps and unlinks it. NULL is allowed. */
void shm_segment_destroy(struct shm_segment *segment);
/* Removes the segments that a dead population of database `uuid` left. */
lsm_status shm_segment_remove_stale(struct io *io, const char *directory,
                                    const uint8_t uuid[SHM_UUID_SIZE], lsm_error *err);

struct shm_layout *shm_layout(struct shm_segment *segment);
void *shm_arena(struct shm_segment *segment, uint32_t index);

/*
 * Makes sure that arena bytes [0, low) and [high, arena_size) are backed by memory, so that a store
 * there cannot raise SIGBUS. Works ahead in steps of SHM_BACK_STEP. Cheap when nothing is to do.
 */
#define SHM_BACK_STEP ((uint64_t)1 << 20)
lsm_status shm_arena_back(struct shm_segment *segment, uint32_t index, uint64_t low, uint64_t high,
                          lsm_error *err);
/* Bytes of memory the segment takes now. */
uint64_t shm_segment_bytes(const struct shm_segment *segment);

#endif
