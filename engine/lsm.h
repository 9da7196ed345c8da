/*
 * libengine: an ordered map from byte strings to byte strings, kept in one directory.
 *
 * A newcomer's picture: a write is appended to a log and inserted into a sorted table in memory
 * (the memtable). Full memtables are flushed to sorted files (SSTables) of level 0, and background
 * workers merge those downwards, level by level (compaction). A read looks into the memtables, then
 * into the files, newest first. Every batch of writes gets one sequence number; snapshots and
 * iterators read as of one.
 *
 * Threads: an lsm_db serves any number of threads. Iterators, batches, transactions and pins
 * belong to one thread at a time. Fork: in a child every call on an inherited handle returns
 * LSM_FORKED, iterators are not valid, and values that are pinned are not there; the child may open
 * the database itself.
 *
 * Errors: whatever can fail returns an lsm_status, and fills the caller's lsm_error (may be NULL)
 * with one sentence that says what failed, where, and what was expected. Not found is a value, never
 * an error. Out-parameters stay untouched on failure unless said otherwise.
 *
 * Manual: lsm(7) for the ideas, lsm_open(3), lsm_put(3), lsm_get(3), lsm_batch(3), lsm_ingest(3), lsm_iter(3),
 * lsm_snapshot(3), lsm_txn(3), lsm_async(3), lsm_cf(3), lsm_compact(3), lsm_checkpoint(3),
 * lsm_property(3) for the calls.
 */
#ifndef ENGINE_LSM_H
#define ENGINE_LSM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LSM_API        __attribute__((visibility("default")))
#define LSM_MUST_CHECK __attribute__((warn_unused_result))
#else
#define LSM_API
#define LSM_MUST_CHECK
#endif

/* ---- status and error ------------------------------------------------------------------------ */

/* One list makes the enum, the text of lsm_strerror() and the table in lsm(7). Never renumber. */
#define LSM_STATUS_LIST(X)                                                                         \
    X(LSM_OK, 0, "success")                                                                        \
    X(LSM_INVALID, 1, "the call was used wrongly")                                                 \
    X(LSM_IO, 2, "a system call failed")                                                           \
    X(LSM_CORRUPT, 3, "stored data is damaged")                                                    \
    X(LSM_NO_MEMORY, 4, "out of memory")                                                           \
    X(LSM_NO_SPACE, 5, "no space left on the device")                                              \
    X(LSM_BUSY, 6, "somebody else holds it")                                                       \
    X(LSM_MISSING, 7, "it does not exist")                                                         \
    X(LSM_EXISTS, 8, "it exists already")                                                          \
    X(LSM_TOO_LARGE, 9, "a size is over its limit")                                                \
    X(LSM_READ_ONLY, 10, "the database was opened for reading only")                               \
    X(LSM_CANCELLED, 11, "the caller cancelled the work")                                          \
    X(LSM_NEWER_FORMAT, 12, "written by a newer version of the library")                           \
    X(LSM_FORKED, 13, "the handle was inherited over fork")                                        \
    X(LSM_POISONED, 14, "a sync failed earlier; reopen the database")                              \
    X(LSM_UNSUPPORTED, 15, "this system cannot do it")                                             \
    X(LSM_CONFLICT, 16, "another write came between; run the transaction again")                   \
    X(LSM_TIMEOUT, 17, "the time was up; nothing was written")                                     \
    X(LSM_PENDING, 18, "written, but not durable or visible when the time was up")

typedef enum lsm_status {
#define LSM_STATUS_ENUM(name, number, text) name = number,
    LSM_STATUS_LIST(LSM_STATUS_ENUM)
#undef LSM_STATUS_ENUM
} lsm_status;

#define LSM_NO_OFFSET UINT64_MAX /* lsm_error.offset when no place in a file is meant */

/*
 * What went wrong. Owned by the caller; every status but LSM_OK fills it. A zeroed struct is "no
 * error". The message never holds values, and a key only with LSM_CONFLICT.
 */
typedef struct lsm_error {
    lsm_status status;
    int os_errno;            /* 0 when no system call was at fault */
    uint64_t offset;         /* in `file`, bytes; LSM_NO_OFFSET when none */
    uint64_t expected;       /* `expected` and `found` are both 0 when no two numbers disagreed */
    uint64_t found;          /* */
    const char *source_file; /* where the failure was first seen; static storage */
    int source_line;
    char file[128];    /* file or directory at fault; empty when none; cut when too long */
    char message[400]; /* one sentence, NUL-terminated, cut when too long */
} lsm_error;

/* The fixed text of a status ("stored data is damaged"); never NULL, static storage. */
LSM_API const char *lsm_strerror(lsm_status status);

/* The version of the library that is linked, as "1.2.3"; static storage. */
LSM_API const char *lsm_version(void);

/* ---- bytes ----------------------------------------------------------------------------------- */

/* A run of bytes that somebody else owns. As an argument it is borrowed until the call returns. */
typedef struct lsm_slice {
    const void *data; /* may be NULL when size is 0 */
    size_t size;      /* bytes */
} lsm_slice;

#define LSM_SLICE(pointer, bytes) ((lsm_slice){(pointer), (bytes)})

/* Limits; over them a call returns LSM_TOO_LARGE. The empty key is a legal key. */
#define LSM_MAX_KEY_SIZE    ((size_t)65535)      /* bytes */
#define LSM_MAX_VALUE_SIZE  ((size_t)1 << 30)    /* bytes; see also lsm_options.stage_size */
#define LSM_MAX_CF_NAME     ((size_t)255)        /* bytes of a column family's name */
#define LSM_MAX_CF_COUNT    ((uint32_t)65536)    /* column families, the dropped ones not counted */
#define LSM_MAX_BATCH_COUNT ((uint32_t)1 << 28)  /* entries in one batch */

/* ---- options --------------------------------------------------------------------------------- */

typedef enum lsm_compression {
    LSM_COMPRESSION_DEFAULT = 0, /* zstd */
    LSM_COMPRESSION_NONE = 1,
    LSM_COMPRESSION_ZSTD = 2,
} lsm_compression;

/* How the tables of a column family are merged; see Compaction styles in lsm(7). */
typedef enum lsm_compaction {
    LSM_COMPACTION_DEFAULT = 0, /* leveled */
    LSM_COMPACTION_LEVELED = 1, /* one sorted run a level: least space, fastest reads */
    LSM_COMPACTION_TIERED = 2,  /* runs of like size are merged: least is written */
    LSM_COMPACTION_FIFO = 3,    /* nothing is merged; the oldest tables are deleted, data and all */
} lsm_compaction;

/*
 * Options of one column family. 0 means the default everywhere. They are stored in the manifest
 * when the family is created, and the stored ones win on later opens.
 */
typedef struct lsm_cf_options {
    size_t struct_size;           /* sizeof(lsm_cf_options); set by LSM_CF_OPTIONS_INIT */
    lsm_compression compression;  /* of the lowest level that holds data */
    int32_t compression_level;    /* zstd level there; 0: 1 */
    uint32_t dictionary_size;     /* bytes of a trained dictionary a table; 0: none */
    uint32_t block_size;          /* raw bytes of a data block; 0: 8 KiB; 512 B to 1 MiB */
    uint32_t filter_bits;         /* bits a key in the filters; 0: 12; LSM_NO_FILTER: no filter */
    uint64_t table_size;          /* target bytes of a table below level 0; 0: 32 MiB */
    uint64_t level_base_size;     /* target bytes of level 1; 0: 256 MiB */
    uint32_t level_ratio;         /* size of a level / size of the one above; 0: 8; 2 to 100 */
    uint32_t level0_trigger;      /* level-0 tables that start a compaction; 0: 4 */
    uint32_t level0_slowdown;     /* level-0 tables from which writes are slowed; 0: 12 */
    uint32_t level0_stop;         /* level-0 tables at which writes wait; 0: 20 */
    lsm_compaction compaction;    /* style; 0: leveled */
    uint32_t ttl;                 /* seconds after which tables above the lowest level are merged
                                   * down, of fifo: deleted; 0: never */
    uint64_t fifo_size;           /* of fifo: bytes of tables over which the oldest are deleted;
                                   * 0: no limit, but then ttl must be set */
    uint32_t size_ratio;          /* of tiered: a run is merged with newer ones when it is at most
                                   * so many percent larger than they are together; 0: 1 */
    uint32_t min_merge_width;     /* of tiered: least runs that are merged; 0: 2 */
    uint32_t max_size_amplification; /* of tiered: percent of the oldest run that newer ones may
                                      * hold before all are merged; 0: 200 */
    int32_t compression_above;    /* zstd level of what compaction writes above the lowest level;
                                   * 0: raw */
    uint32_t blob_threshold;      /* bytes from which a value is written to a blob file, once, and
                                   * merges move a reference to it; 64 or more; 0: none is */
} lsm_cf_options;

/* Limits of compression_level. */
#define LSM_LEAST_COMPRESSION (-100)
#define LSM_MOST_COMPRESSION  22

#define LSM_NO_FILTER       UINT32_MAX
#define LSM_CF_OPTIONS_INIT {.struct_size = sizeof(lsm_cf_options)}

typedef struct lsm_event lsm_event;

/* Why and when writers wait; `reason` of lsm_event. */
typedef enum lsm_stall {
    LSM_STALL_NONE = 0,
    LSM_STALL_MEMTABLES = 1, /* every memtable is full and waits for its flush */
    LSM_STALL_LEVEL0 = 2,    /* compaction is behind: too many level-0 tables */
    LSM_STALL_LOG = 3,       /* the stage file is full: the log cannot be written fast enough */
} lsm_stall;

/*
 * Options of a database. 0 or NULL means the default everywhere, so start from LSM_OPTIONS_INIT
 * and set what you care about. The same options parse from text, see lsm_options_parse().
 */
typedef struct lsm_options {
    size_t struct_size;           /* sizeof(lsm_options); set by LSM_OPTIONS_INIT */
    bool create;                  /* make the directory and the database when missing */
    bool error_if_exists;         /* with create: LSM_EXISTS when there is one already */
    bool read_only;               /* joins those who write, or reads the files by itself */
    bool exclusive;               /* nobody else may have it open meanwhile, else LSM_BUSY */
    const char *io;               /* "auto" (default), "uring", "posix"; LSM_IO overrides "auto" */
    const char *shm_dir;          /* where the shared segment goes; NULL: /dev/shm */
    uint32_t mode;                /* permission bits of new files; 0: 0600 (directory 0700) */
    uint64_t memory;              /* bytes this process may use for all below that are 0: memtables,
                                   * cache, stage file, open tables, merges; 0: their defaults */
    uint64_t memtable_size;       /* bytes of one memtable's arena; 0: 64 MiB; 64 KiB to 16 GiB */
    uint32_t memtable_count;      /* active and waiting memtables together; 0: 3; 2 to 8 */
    const char *memtable;         /* "btree" (default) or "skiplist" */
    uint64_t cache_size;          /* bytes of the block cache; 0: 256 MiB; LSM_NO_CACHE: none */
    const char *direct_io;        /* "true": tables are read and written past the page cache;
                                   * "false": through it; "auto" (default): past it with `memory` */
    uint64_t stage_size;          /* bytes of the stage file; 0: 16 MiB; a batch may fill half */
    uint64_t wal_segment_size;    /* bytes of a log segment; 0: 64 MiB; at least stage_size */
    uint32_t workers;             /* threads for flush and compaction; 0: 2; see LSM_NO_WORKERS */
    uint32_t max_compactions;     /* by workers of all processes at once; 0: one a processor */
    uint32_t max_open_tables;     /* table files kept open; 0: 1000 */
    uint64_t background_rate;     /* bytes a second written by compactions; 0: no limit */
    lsm_cf_options cf;            /* of the default column family when the database is created */
    void (*listener)(void *context, const lsm_event *event); /* see lsm_event */
    void *listener_context;
    bool shared_cache;            /* blocks are cached once for all processes: lsm(7) */
    uint32_t max_merge_threads;   /* of compactions of all processes at once; 0: lsm_open(3) */
    bool no_read_merges;          /* reads cause no merges: lsm_open(3) */
    uint32_t open_timeout_ms;     /* longest wait of lsm_open() for others; 0: lsm_open(3) */
} lsm_options;

#define LSM_NO_CACHE   UINT64_MAX
#define LSM_NO_WORKERS UINT32_MAX /* a light client: calls that have to wait for a flush do it */
#define LSM_OPTIONS_INIT                                                                           \
    {                                                                                              \
        .struct_size = sizeof(lsm_options), .cf = LSM_CF_OPTIONS_INIT                              \
    }

/*
 * Sets options from text: "memtable_size=128MiB,cache_size=1GiB,compression=zstd:3,create=true".
 * Names are those of the struct members (members of `cf` without a prefix); sizes take B, KiB, MiB,
 * GiB, TiB. Strings that `text` gave to `io`, `shm_dir`, `memtable` or `direct_io` are kept in static
 * tables or refused, so `options` borrows nothing from `text` except shm_dir, which must outlive
 * lsm_open().
 *
 * LSM_INVALID for an unknown name, a bad value or one out of range; options set before it stay.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_options_parse(lsm_options *options, const char *text,
                                                    lsm_error *err);

/* What a listener is told. Called on engine threads and on writers; it must not call the library. */
typedef enum lsm_event_kind {
    LSM_EVENT_FLUSH = 1,      /* a memtable became level-0 tables */
    LSM_EVENT_COMPACTION = 2, /* a merge was installed; or tables were deleted for their age */
    LSM_EVENT_STALL = 3,      /* writers are slowed or wait, or no longer: see reason */
    LSM_EVENT_ERROR = 4,      /* background work failed: see error */
} lsm_event_kind;

struct lsm_event {
    lsm_event_kind kind;
    const char *cf_name;    /* NULL when it concerns all */
    int level;              /* output level of a compaction */
    uint64_t input_bytes;   /* */
    uint64_t output_bytes;  /* */
    uint64_t entry_count;   /* written */
    uint64_t duration_us;   /* */
    lsm_stall reason;       /* */
    const lsm_error *error; /* valid until the listener returns */
};

/* ---- database -------------------------------------------------------------------------------- */

typedef struct lsm_db lsm_db;
typedef struct lsm_cf lsm_cf;             /* a column family; owned by the database */
typedef struct lsm_snapshot lsm_snapshot; /* a sequence number held */
typedef struct lsm_iter lsm_iter;
typedef struct lsm_batch lsm_batch;

/*
 * Opens the database in directory `path`, recovering what an earlier process left.
 *
 * options  NULL: all defaults (open an existing database read-write).
 * db       Out; owned by the caller, lsm_close() it.
 *
 * LSM_INVALID: empty path, options out of range. LSM_MISSING: no database there and no `create`.
 * LSM_EXISTS: see error_if_exists. LSM_BUSY: another handle has it open, and one of the two asks for
 * `exclusive`; or 64 have; the message names a pid. LSM_UNSUPPORTED: those there cannot be joined from
 * here (another machine, namespace or build); the message says what differs. LSM_CORRUPT: a file is damaged or missing; nothing was changed; see lsm-repair(1).
 * LSM_NEWER_FORMAT, LSM_IO, LSM_NO_SPACE, LSM_NO_MEMORY.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_open(const char *path, const lsm_options *options,
                                           lsm_db **db, lsm_error *err);

/*
 * Stops the background work, flushes memtables (of a shared database the last to leave does), and
 * frees the handle. No other call may be running;
 * iterators, transactions, snapshots and pins that were not released make it return LSM_BUSY and
 * keep the handle. NULL is allowed. Any other error means that the log, not the tables, holds the
 * last writes; the handle is freed and the next open recovers them.
 */
LSM_API lsm_status lsm_close(lsm_db *db, lsm_error *err);

/*
 * Removes a database: exactly the files that parse as its own, then the directory when empty.
 * LSM_BUSY while a process has it open; LSM_MISSING when there is none.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_destroy(const char *path, lsm_error *err);

/* ---- column families ------------------------------------------------------------------------- */

/* The family every database has ("default"). Passing NULL as `cf` to any call means this one. */
LSM_API lsm_cf *lsm_cf_default(lsm_db *db);

/* LSM_EXISTS when the name is taken. options NULL: defaults. *cf lives until lsm_close(). */
LSM_API LSM_MUST_CHECK lsm_status lsm_cf_create(lsm_db *db, const char *name,
                                                const lsm_cf_options *options, lsm_cf **cf,
                                                lsm_error *err);

/* Finds a family by name: LSM_MISSING when there is none. */
LSM_API LSM_MUST_CHECK lsm_status lsm_cf_open(lsm_db *db, const char *name, lsm_cf **cf,
                                              lsm_error *err);

/* Drops a family with all it holds. Iterators and snapshots opened before still read it. */
LSM_API LSM_MUST_CHECK lsm_status lsm_cf_drop(lsm_db *db, lsm_cf *cf, lsm_error *err);

/* Gives a family another name; its id and data stay. LSM_EXISTS when the name is taken. */
LSM_API LSM_MUST_CHECK lsm_status lsm_cf_rename(lsm_db *db, lsm_cf *cf, const char *name,
                                                lsm_error *err);

LSM_API const char *lsm_cf_name(const lsm_cf *cf); /* valid until lsm_close() */
LSM_API uint32_t lsm_cf_id(const lsm_cf *cf);      /* never reused in a database */

/*
 * All families in order of id: *names is an array of *count strings, owned by the caller and freed
 * with one lsm_free(*names).
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_cf_list(lsm_db *db, char ***names, size_t *count,
                                              lsm_error *err);

/* Frees what the library says is freed with it. NULL is allowed. */
LSM_API void lsm_free(void *memory);

/* ---- writing --------------------------------------------------------------------------------- */

/* What a write survives once its call has returned; see lsm(7). */
typedef enum lsm_durability {
    LSM_WRITE = 0, /* kill -9 of every process at any moment; a power cut may take it */
    LSM_SYNC = 1,  /* a power cut too: it is on stable storage */
} lsm_durability;

typedef struct lsm_write_options {
    lsm_durability durability;
    bool no_wait; /* LSM_BUSY instead of waiting when writers are stalled; nothing was written */
    uint32_t timeout_ms; /* longest wait; 0: no limit. See LSM_TIMEOUT and LSM_PENDING below */
} lsm_write_options;

/*
 * Sets, or deletes, one key. options NULL: LSM_WRITE. Visible to every later read when it returns.
 * Deleting what is not there is no error. May wait when compaction is behind (see lsm_stall).
 *
 * LSM_TOO_LARGE, LSM_READ_ONLY, LSM_NO_SPACE, LSM_IO; LSM_POISONED after a sync failed.
 *
 * After timeout_ms, where that is not 0, with a message that names the process in the way:
 * LSM_TIMEOUT: nothing was written. LSM_PENDING: it is written and survives kill -9, readers see it
 * as soon as it is durable (or what it waited for is), but whether it ever will be is not known: do
 * not write it again without looking. Nobody is deprived of a lock: the process in the way goes on
 * where it was. System calls that have begun, and the work of a process without workers, are
 * waited for.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_put(lsm_db *db, lsm_cf *cf, lsm_slice key, lsm_slice value,
                                          const lsm_write_options *options, lsm_error *err);
LSM_API LSM_MUST_CHECK lsm_status lsm_delete(lsm_db *db, lsm_cf *cf, lsm_slice key,
                                             const lsm_write_options *options, lsm_error *err);

/*
 * A batch collects puts and deletes over any families; lsm_write() applies all or none of it, under
 * one sequence number. Later entries win over earlier ones of the same key. Keys and values are
 * copied in. A batch may be written, cleared and filled again any number of times.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_batch_new(lsm_batch **batch, lsm_error *err);
LSM_API void lsm_batch_free(lsm_batch *batch); /* NULL is allowed */
LSM_API void lsm_batch_clear(lsm_batch *batch);
LSM_API LSM_MUST_CHECK lsm_status lsm_batch_put(lsm_batch *batch, lsm_cf *cf, lsm_slice key,
                                                lsm_slice value, lsm_error *err);
LSM_API LSM_MUST_CHECK lsm_status lsm_batch_delete(lsm_batch *batch, lsm_cf *cf, lsm_slice key,
                                                   lsm_error *err);
LSM_API uint32_t lsm_batch_count(const lsm_batch *batch);
LSM_API size_t lsm_batch_size(const lsm_batch *batch); /* bytes it takes in the log */

/* Savepoints nest. Rollback removes what was added since the last one, and that savepoint. */
LSM_API LSM_MUST_CHECK lsm_status lsm_batch_savepoint(lsm_batch *batch, lsm_error *err);
LSM_API LSM_MUST_CHECK lsm_status lsm_batch_rollback(lsm_batch *batch, lsm_error *err);

/* Statuses as lsm_put(). The batch stays as it is and may be written again. Empty: LSM_OK. */
LSM_API LSM_MUST_CHECK lsm_status lsm_write(lsm_db *db, const lsm_batch *batch,
                                            const lsm_write_options *options, lsm_error *err);

/* Makes every write acknowledged before the call survive a power cut. Without limit: where that
 * matters make the last of the writes an LSM_SYNC with a timeout_ms. */
LSM_API LSM_MUST_CHECK lsm_status lsm_sync(lsm_db *db, lsm_error *err);

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct lsm_read_options {
    const lsm_snapshot *snapshot; /* NULL: the newest visible state */
    bool no_fill_cache;           /* leave the block cache as it is (large scans) */

    /* For iterators only. */
    lsm_slice first;     /* lower bound, inclusive; data NULL: none. Copied */
    lsm_slice limit;     /* upper bound, exclusive; data NULL: none. Copied */
    lsm_slice prefix;    /* keys that begin with it only; narrows the bounds. Copied */
    bool keys_only;      /* the value of every entry reads as empty */
    size_t readahead;    /* bytes to read ahead; 0: grows by itself with a sequential scan */
} lsm_read_options;

/*
 * A value held in place, without a copy. Owned by the caller, who passes it to lsm_pin_release().
 * Zero it, or use LSM_PIN_INIT, before the first use.
 */
typedef struct lsm_pin {
    lsm_slice value; /* valid until lsm_pin_release() */
    bool found;
    void *owner[2]; /* the library's */
} lsm_pin;

#define LSM_PIN_INIT {.value = {NULL, 0}}
#define LSM_ABSENT   SIZE_MAX /* the size that lsm_get_into() gives for a key that is not there */

/* Reads one key and pins its value; pin->found tells whether it is there. Releases `pin` first. */
LSM_API LSM_MUST_CHECK lsm_status lsm_get(lsm_db *db, lsm_cf *cf, lsm_slice key,
                                          const lsm_read_options *options, lsm_pin *pin,
                                          lsm_error *err);
LSM_API void lsm_pin_release(lsm_pin *pin); /* may be called again, and on a zeroed pin */

/*
 * Reads one key into the caller's buffer: at most `capacity` bytes are copied, *size is the size of
 * the whole value, or LSM_ABSENT.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_get_into(lsm_db *db, lsm_cf *cf, lsm_slice key,
                                               const lsm_read_options *options, void *buffer,
                                               size_t capacity, size_t *size, lsm_error *err);

/*
 * Reads `count` keys of one family as of one moment; what is not in memory is read with one
 * submission to the ring. pins[i] belongs to keys[i] and is released by the caller; on failure all
 * of them are released.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_multi_get(lsm_db *db, lsm_cf *cf, size_t count,
                                                const lsm_slice *keys,
                                                const lsm_read_options *options, lsm_pin *pins,
                                                lsm_error *err);

/* Holds the current state for reading. Data it can see is kept on disk until the release.
 * LSM_TOO_LARGE: this process holds snapshots of 256 different states already. */
LSM_API LSM_MUST_CHECK lsm_status lsm_snapshot_acquire(lsm_db *db, lsm_snapshot **snapshot,
                                                       lsm_error *err);
LSM_API void lsm_snapshot_release(lsm_db *db, lsm_snapshot *snapshot); /* NULL is allowed */
LSM_API uint64_t lsm_snapshot_sequence(const lsm_snapshot *snapshot);

/*
 * A token is text that names a snapshot, for another process that shares the database: it goes
 * through a pipe, an environment variable or an argument. It keeps nothing: the snapshot has to be
 * held until the other one has opened it, and may be released then.
 */
#define LSM_SNAPSHOT_TOKEN_SIZE ((size_t)128) /* bytes, the NUL included; the rest is zero */

/* LSM_INVALID: not a snapshot of this handle. LSM_READ_ONLY: such a handle's are nobody else's. */
LSM_API LSM_MUST_CHECK lsm_status lsm_snapshot_export(lsm_db *db, const lsm_snapshot *snapshot,
                                                      char token[LSM_SNAPSHOT_TOKEN_SIZE],
                                                      lsm_error *err);
/*
 * Holds the state of a token for reading, as a snapshot of this handle. Any number of times, in any
 * process, also where the token was made.
 *
 * LSM_INVALID: it is no token, damaged, or of another database. LSM_MISSING: its snapshot was
 * released, its process closed the database or died, or all have closed it since. LSM_TOO_LARGE as
 * above.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_snapshot_open(lsm_db *db, const char *token,
                                                    lsm_snapshot **snapshot, lsm_error *err);

/*
 * An iterator sees one moment of one family, in key order. It begins unpositioned (not valid).
 * After an error it is not valid and lsm_iter_status() says why.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_iter_open(lsm_db *db, lsm_cf *cf,
                                                const lsm_read_options *options, lsm_iter **iter,
                                                lsm_error *err);
LSM_API void lsm_iter_close(lsm_iter *iter); /* NULL is allowed */
LSM_API bool lsm_iter_valid(const lsm_iter *iter);
LSM_API void lsm_iter_first(lsm_iter *iter);
LSM_API void lsm_iter_last(lsm_iter *iter);
LSM_API void lsm_iter_seek(lsm_iter *iter, lsm_slice key);          /* first entry >= key */
LSM_API void lsm_iter_seek_for_prev(lsm_iter *iter, lsm_slice key); /* last entry <= key */
LSM_API void lsm_iter_next(lsm_iter *iter); /* nothing when not valid */
LSM_API void lsm_iter_prev(lsm_iter *iter); /* nothing when not valid */
LSM_API lsm_slice lsm_iter_key(const lsm_iter *iter);   /* valid until the iterator moves */
LSM_API lsm_slice lsm_iter_value(const lsm_iter *iter); /* valid until the iterator moves */
LSM_API lsm_status lsm_iter_status(const lsm_iter *iter, lsm_error *err);

/* Moves the iterator to the newest state; it is unpositioned afterwards. Not with a snapshot. */
LSM_API LSM_MUST_CHECK lsm_status lsm_iter_refresh(lsm_iter *iter, lsm_error *err);

/* ---- transactions ---------------------------------------------------------------------------- */

/*
 * An optimistic transaction reads one moment, keeps its writes to itself, and takes no lock: whether
 * somebody else came between is found out by lsm_txn_commit(), which then returns LSM_CONFLICT and
 * writes nothing. Others see all of its writes at once, or none.
 */
typedef struct lsm_txn lsm_txn;

typedef enum lsm_isolation {
    /* Of two transactions that write the same key, the first to commit wins. */
    LSM_TXN_SNAPSHOT = 0,
    /* Besides, nothing that was read has changed: no key that was looked up, found or not, and no
     * range that an iterator walked, gaps and ends included. Those who commit might as well have
     * run one after the other, in order of lsm_txn_sequence(). */
    LSM_TXN_SERIALIZABLE = 1,
} lsm_isolation;

typedef struct lsm_txn_options {
    size_t struct_size; /* sizeof(lsm_txn_options); set by LSM_TXN_OPTIONS_INIT */
    lsm_isolation isolation;
    size_t memory_limit; /* bytes of own writes and of what was read; 0: 64 MiB */
} lsm_txn_options;

#define LSM_TXN_OPTIONS_INIT {.struct_size = sizeof(lsm_txn_options)}

/*
 * Begins a transaction over the newest visible state, which it holds as a snapshot does until it
 * ends. options NULL: defaults. Owned by the caller, lsm_txn_free() it. A database that was opened
 * for reading only has transactions that only read.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_txn_begin(lsm_db *db, const lsm_txn_options *options,
                                                lsm_txn **txn, lsm_error *err);
/* Rolls back what was not committed. NULL is allowed. Iterators are closed by the caller, before or
 * after. */
LSM_API void lsm_txn_free(lsm_txn *txn);

/*
 * As lsm_put() and lsm_delete(), seen by this transaction alone until it commits. LSM_TOO_LARGE
 * when memory_limit is reached; the transaction stays as it was.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_txn_put(lsm_txn *txn, lsm_cf *cf, lsm_slice key,
                                              lsm_slice value, lsm_error *err);
LSM_API LSM_MUST_CHECK lsm_status lsm_txn_delete(lsm_txn *txn, lsm_cf *cf, lsm_slice key,
                                                 lsm_error *err);

/*
 * As lsm_get(), lsm_get_into() and lsm_multi_get() at the transaction's snapshot, over its own
 * writes. options->snapshot must be NULL. A pinned value outlives the transaction; one that it wrote
 * itself is copied.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_txn_get(lsm_txn *txn, lsm_cf *cf, lsm_slice key,
                                              const lsm_read_options *options, lsm_pin *pin,
                                              lsm_error *err);
LSM_API LSM_MUST_CHECK lsm_status lsm_txn_get_into(lsm_txn *txn, lsm_cf *cf, lsm_slice key,
                                                   const lsm_read_options *options, void *buffer,
                                                   size_t capacity, size_t *size, lsm_error *err);
LSM_API LSM_MUST_CHECK lsm_status lsm_txn_multi_get(lsm_txn *txn, lsm_cf *cf, size_t count,
                                                    const lsm_slice *keys,
                                                    const lsm_read_options *options, lsm_pin *pins,
                                                    lsm_error *err);
/* The same as lsm_txn_get(), and the commit conflicts when the key has changed since the snapshot,
 * under either isolation and also when nothing is written. */
LSM_API LSM_MUST_CHECK lsm_status lsm_txn_get_for_update(lsm_txn *txn, lsm_cf *cf, lsm_slice key,
                                                         const lsm_read_options *options,
                                                         lsm_pin *pin, lsm_error *err);

/*
 * An iterator over the transaction's snapshot and the writes that it made before this call: later
 * ones do not show, so a loop may write what it walks over. Moved, read and closed with the
 * lsm_iter_*() calls; LSM_INVALID from lsm_iter_status() once the transaction has ended, or was
 * rolled back to a savepoint older than writes that the iterator shows. Not to be refreshed.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_txn_iter_open(lsm_txn *txn, lsm_cf *cf,
                                                    const lsm_read_options *options,
                                                    lsm_iter **iter, lsm_error *err);

/*
 * Savepoints nest. Rolling back to the last one takes back the writes made since, and that
 * savepoint; releasing it keeps them. What was read since stays read. LSM_INVALID without one.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_txn_savepoint(lsm_txn *txn, lsm_error *err);
LSM_API LSM_MUST_CHECK lsm_status lsm_txn_rollback_to_savepoint(lsm_txn *txn, lsm_error *err);
LSM_API LSM_MUST_CHECK lsm_status lsm_txn_release_savepoint(lsm_txn *txn, lsm_error *err);

/*
 * Writes all or nothing, under one sequence number, and ends the transaction. Without writes and
 * without lsm_txn_get_for_update() it always succeeds: what was read was true at one moment.
 *
 * LSM_CONFLICT: the message names the key, its family and both sequence numbers, which are also in
 * err->expected (the snapshot's) and err->found. Other statuses as lsm_write(). After LSM_CONFLICT
 * and after every failure that wrote nothing the transaction is still there, to be committed again
 * or freed. After LSM_IO and LSM_POISONED from a sync, and after LSM_PENDING, it has ended: the
 * writes are in the log, and whether they survive a power cut is unknown.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_txn_commit(lsm_txn *txn, const lsm_write_options *options,
                                                 lsm_error *err);
/* Forgets all writes and ends the transaction; only lsm_txn_free() and lsm_txn_sequence() follow. */
LSM_API LSM_MUST_CHECK lsm_status lsm_txn_rollback(lsm_txn *txn, lsm_error *err);
/* The snapshot's sequence number; after a commit that wrote something, that of its writes. */
LSM_API uint64_t lsm_txn_sequence(const lsm_txn *txn);

/* ---- asynchronous calls ---------------------------------------------------------------------- */

/*
 * A queue of requests that one thread makes and that are answered later: reads wait for the disk
 * side by side, and writes for their sync, while the thread does something else. It makes progress
 * in the calls below alone, but for syncs and scans. See lsm_async(3).
 *
 *     lsm_async_get(queue, NULL, key, NULL, &pin, my_data, &err);   any number of times
 *     lsm_async_wait(queue, 1, 0, completions, 64, &count, &err);   some of them are answered
 *
 * A call that returns something else than LSM_OK submitted nothing. Otherwise there will be one
 * completion with its `user_data`, in whatever order, unless the queue is closed before. Keys and
 * batches are copied; places for results (pins, buffers, sizes) are the caller's and must stay where
 * they are until the completion was delivered; they are filled by then, and unspecified before.
 *
 * Threads: a queue belongs to one thread at a time. Fork: a child gets LSM_FORKED.
 */
typedef struct lsm_async lsm_async;

typedef struct lsm_async_options {
    size_t struct_size; /* sizeof(lsm_async_options); set by LSM_ASYNC_OPTIONS_INIT */
    uint32_t depth;     /* blocks read at once, others wait in line; 0: 32; at most 4096 */
} lsm_async_options;

#define LSM_ASYNC_OPTIONS_INIT {.struct_size = sizeof(lsm_async_options)}

/* What became of a request. */
typedef struct lsm_completion {
    void *user_data;        /* as it was submitted */
    lsm_status status;      /* */
    const lsm_error *error; /* NULL when LSM_OK, or when there is no memory for it; valid until the
                               next call with the queue */
} lsm_completion;

/* options NULL: defaults. Owned by the caller, lsm_async_close() it before lsm_close(). */
LSM_API LSM_MUST_CHECK lsm_status lsm_async_open(lsm_db *db, const lsm_async_options *options,
                                                 lsm_async **async, lsm_error *err);
/*
 * Gives up what was not delivered: its places for results are not written to any more, and nothing
 * is left pinned for it. Waits for reads that the kernel has begun. Writes that were submitted stay
 * written: those that were to be durable are when it returns, unless that fails. NULL is allowed.
 */
LSM_API void lsm_async_close(lsm_async *async);

/*
 * As lsm_get(), lsm_get_into() and lsm_multi_get(), as of the moment of this call; a snapshot may be
 * released when it has returned. What is in memory is answered at once; a block that several
 * requests want is read once. A table that was never read from is opened in the call.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_async_get(lsm_async *async, lsm_cf *cf, lsm_slice key,
                                                const lsm_read_options *options, lsm_pin *pin,
                                                void *user_data, lsm_error *err);
LSM_API LSM_MUST_CHECK lsm_status lsm_async_get_into(lsm_async *async, lsm_cf *cf, lsm_slice key,
                                                     const lsm_read_options *options, void *buffer,
                                                     size_t capacity, size_t *size, void *user_data,
                                                     lsm_error *err);
LSM_API LSM_MUST_CHECK lsm_status lsm_async_multi_get(lsm_async *async, lsm_cf *cf, size_t count,
                                                      const lsm_slice *keys,
                                                      const lsm_read_options *options,
                                                      lsm_pin *pins, void *user_data,
                                                      lsm_error *err);

/* An entry of a scan, in memory of the scan's. */
typedef struct lsm_entry {
    lsm_slice key;
    lsm_slice value;
} lsm_entry;

/* What a scan has found. */
typedef struct lsm_scan {
    lsm_entry *entries; /* in key order; owned by the caller, who passes it to lsm_free() */
    size_t count;       /* */
    bool has_more;      /* there are entries behind them within the bounds */
} lsm_scan;

/*
 * Reads entries in key order as an iterator does, within the bounds in `options`, as of the moment
 * of this call: at most most_entries, and no more than most_bytes of keys and values together (0:
 * 1 MiB) unless the first is larger. The next scan begins at the last key with a zero byte behind
 * it. Up to four scans of a queue are at work at once, in threads of its own.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_async_scan(lsm_async *async, lsm_cf *cf,
                                                 const lsm_read_options *options,
                                                 size_t most_entries, size_t most_bytes,
                                                 lsm_scan *scan, void *user_data, lsm_error *err);

/*
 * As lsm_write(): when the call returns the batch is in the log, in order of the calls, and survives
 * kill -9; the completion says that it is visible, and as durable as was asked. Syncs are made by a
 * thread of the queue, one for all that wait. Where writers are stalled the call waits like theirs;
 * options->no_wait and options->timeout_ms are about that.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_async_write(lsm_async *async, const lsm_batch *batch,
                                                  const lsm_write_options *options, void *user_data,
                                                  lsm_error *err);
/* As lsm_sync(). */
LSM_API LSM_MUST_CHECK lsm_status lsm_async_sync(lsm_async *async, void *user_data, lsm_error *err);

/*
 * Goes on with everything and delivers what is finished: at most `capacity` completions, *count of
 * them, oldest first. Never waits, but for the posix backend's reads.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_async_poll(lsm_async *async, lsm_completion *completions,
                                                 size_t capacity, size_t *count, lsm_error *err);
/*
 * The same, waiting until `least` (or `capacity`, or all that are pending, if that is less) are
 * finished, or timeout_ms are over (0: no limit): then there are fewer, and that is no error.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_async_wait(lsm_async *async, size_t least, uint32_t timeout_ms,
                                                 lsm_completion *completions, size_t capacity,
                                                 size_t *count, lsm_error *err);

/* Requests that were submitted and not delivered. */
LSM_API size_t lsm_async_pending(const lsm_async *async);

/*
 * Ends the reads that carry this user_data and are not finished: they complete with LSM_CANCELLED; a
 * scan, which others work on, may still succeed. Returns how many. Writes and syncs are not cancelled.
 */
LSM_API size_t lsm_async_cancel(lsm_async *async, const void *user_data);

/*
 * An eventfd for poll(2), select(2) or epoll(7): readable when lsm_async_poll() has something to do,
 * be it to deliver or to begin what was submitted. The queue's: not to be read, written or closed.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_async_fd(lsm_async *async, int *fd, lsm_error *err);

/* ---- maintenance ----------------------------------------------------------------------------- */

/* Writes every memtable to tables and returns when they are durable. */
LSM_API LSM_MUST_CHECK lsm_status lsm_flush(lsm_db *db, lsm_error *err);

/* Told about a running lsm_compact_range(); return false to cancel it. */
typedef bool (*lsm_progress)(void *context, uint64_t bytes_done, uint64_t bytes_total);

typedef struct lsm_compact_options {
    lsm_slice first; /* first key; data NULL: from the beginning */
    lsm_slice limit; /* keys below it; data NULL: to the end */
    bool force_bottom; /* rewrite the lowest level too, even when nothing above overlaps it */
    lsm_progress progress; /* NULL: none; called on the calling thread */
    void *progress_context;
    bool refresh_bottom; /* the same where that changes them: deletions, data not compressed yet */
    bool one_level;      /* only the tables of `level` go down, or are rewritten if it is the lowest */
    uint32_t level;
    lsm_compression compression; /* of the lowest level, this time; default: the family's */
    int32_t compression_level;   /* with it; 0: 1 */
    bool pause_if_stall;         /* between two steps wait as long as writers of any process wait */
    void (*damaged)(void *context, const lsm_error *err); /* NULL: none; of each damaged table */
    void *damaged_context;
} lsm_compact_options;

/*
 * Flushes, then merges the range down into the lowest level that holds data. LSM_CANCELLED when
 * progress or lsm_compact_cancel() said so; what was merged until then stays merged. LSM_CORRUPT
 * when an input is damaged: it is left as it is with what overlaps it, the rest is merged all the same.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_compact_range(lsm_db *db, lsm_cf *cf,
                                                    const lsm_compact_options *options,
                                                    lsm_error *err);

/*
 * Asks the lsm_compact_range() calls of every process that has the database open to stop, and waits
 * until they have. They return LSM_CANCELLED.
 *
 * timeout_ms  0: waits without limit.
 * asked       Out, may be NULL: how many calls there were.
 *
 * LSM_TIMEOUT names a process that has not stopped yet; it may do so later.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_compact_cancel(lsm_db *db, uint32_t timeout_ms,
                                                     uint32_t *asked, lsm_error *err);

/* Waits until no flush and no compaction is due. Where nobody has written meanwhile, the disk space
 * that the log keeps for writers is given back, as after two seconds without a write. */
LSM_API LSM_MUST_CHECK lsm_status lsm_wait_idle(lsm_db *db, lsm_error *err);

/* ---- checkpoints ----------------------------------------------------------------------------- */

typedef struct lsm_checkpoint_options {
    size_t struct_size; /* sizeof(lsm_checkpoint_options); set by LSM_CHECKPOINT_OPTIONS_INIT */
    bool copy;          /* of the tables; default: share their files where that is possible */
    lsm_progress progress; /* NULL: none; on the calling thread; false cancels */
    void *progress_context;
} lsm_checkpoint_options;

#define LSM_CHECKPOINT_OPTIONS_INIT {.struct_size = sizeof(lsm_checkpoint_options)}

/*
 * Makes a database of its own in the new directory `path`, with all families as they are at one
 * moment of the call: every write acknowledged before it is in, and of any batch all or nothing.
 * Others, in all processes, go on reading and writing meanwhile.
 *
 * On the same file system tables become hard links, so that a checkpoint costs time and space of
 * what is in memtables alone; space that they share is freed when both databases have done with it.
 * No table is ever changed, so neither can harm the other. Elsewhere, and with options->copy, they
 * are copied. The copy has the uuid of the original.
 *
 * It is built in "<path>.partial", and has its name when all of it is durable; what a call that
 * was interrupted left there the next one of that path removes.
 *
 * options, err  may be NULL.
 *
 * LSM_EXISTS: there is something at `path`, or in "<path>.partial" what no interrupted call leaves
 * there, such as a database; nothing is removed then. LSM_BUSY: somebody else makes a checkpoint
 * there, or has that directory open as a database. LSM_CANCELLED; LSM_MISSING: there is no directory
 * to put it in; LSM_NO_SPACE, LSM_IO, LSM_NO_MEMORY, LSM_INVALID. After a failure there is nothing
 * at `path`. Any thread may call; a
 * database that was opened for reading only will do.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_checkpoint(lsm_db *db, const char *path,
                                                 const lsm_checkpoint_options *options,
                                                 lsm_error *err);

/* ---- ingests --------------------------------------------------------------------------------- */

/*
 * An ingest takes many entries in at once: they are sorted and written straight to tables, past log
 * and memtables, and become part of the database all together or not at all. It is the fast way to
 * load, above all when the keys come in order.
 */
typedef struct lsm_ingest lsm_ingest;

typedef struct lsm_ingest_options {
    size_t struct_size;  /* sizeof(lsm_ingest_options); set by LSM_INGEST_OPTIONS_INIT */
    size_t memory_limit; /* bytes for sorting; at least 64 KiB. 0: 256 MiB, or an eighth of `memory` */
    bool keep_first;     /* of several entries of a key the first one counts, not the last */
    lsm_progress progress; /* NULL: none; called on the calling thread by the commit */
    void *progress_context;
} lsm_ingest_options;

#define LSM_INGEST_OPTIONS_INIT {.struct_size = sizeof(lsm_ingest_options)}

/*
 * Begins an ingest. options NULL: defaults. Owned by the caller, lsm_ingest_free() it before
 * lsm_close(). Belongs to one thread at a time. What is not committed takes disk space meanwhile,
 * twice that of the entries that come out of order, and leaves nothing behind, however it ends.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_ingest_begin(lsm_db *db, const lsm_ingest_options *options,
                                                   lsm_ingest **ingest, lsm_error *err);
/*
 * Adds an entry, in any order and of any family; key and value are copied. Of several entries of a
 * key the last one counts. An ingest that LSM_IO, LSM_NO_SPACE, LSM_CORRUPT or LSM_NO_MEMORY came
 * from has failed: it takes no more.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_ingest_put(lsm_ingest *ingest, lsm_cf *cf, lsm_slice key,
                                                 lsm_slice value, lsm_error *err);
LSM_API LSM_MUST_CHECK lsm_status lsm_ingest_delete(lsm_ingest *ingest, lsm_cf *cf, lsm_slice key,
                                                    lsm_error *err);
/*
 * Makes all entries visible at once, in all processes, and durable, as one write that comes after
 * all others until now. Writers wait while the database takes the tables in, and, where memtables
 * hold keys between those of the ingest, perhaps for a flush. Readers do not wait.
 *
 * LSM_CANCELLED when progress said so; LSM_MISSING when a family was dropped meanwhile. After any
 * failure but LSM_POISONED nothing was ingested; the ingest has ended in any case. After
 * LSM_POISONED the next open tells whether it was.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_ingest_commit(lsm_ingest *ingest, lsm_error *err);
/* Takes back what was not committed, and frees. NULL is allowed. */
LSM_API void lsm_ingest_free(lsm_ingest *ingest);

LSM_API uint64_t lsm_ingest_sequence(const lsm_ingest *ingest); /* after the commit: its number */
LSM_API uint64_t lsm_ingest_count(const lsm_ingest *ingest); /* after it: entries, one a key */

/* ---- numbers --------------------------------------------------------------------------------- */

/*
 * A number about the database; LSM_INVALID for an unknown name. Names (cf NULL: over all families):
 * "entries" (estimate), "level0-tables", "tables", "table-bytes", "blob-bytes",
 * "blob-bytes-raw", "blob-bytes-live", "levels", "memtable-bytes",
 * "cache-bytes", "cache-hits", "cache-misses", "shared-cache-bytes", "shared-cache-found",
 * "snapshots", "sequence", "log-bytes-written", "flush-bytes-written",
 * "compaction-bytes-written", "compaction-bytes-read",
 * "compaction-bytes-running" (written by merges that are not over yet), "stall-us",
 * "io-submissions", "memory-bytes".
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_property(lsm_db *db, lsm_cf *cf, const char *name,
                                               uint64_t *value, lsm_error *err);

/*
 * Text about the database, written to `text` and cut at `capacity` with a NUL: "io" (the backend
 * and why), "levels" (a table), "stall" (why writers wait, or "none"), "uuid". *size is the length
 * of the whole text.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_property_text(lsm_db *db, lsm_cf *cf, const char *name,
                                                    char *text, size_t capacity, size_t *size,
                                                    lsm_error *err);

/* ---- checking -------------------------------------------------------------------------------- */

typedef enum lsm_severity {
    LSM_NOTE = 1,    /* nothing is wrong; worth knowing */
    LSM_WARNING = 2, /* no data is affected */
    LSM_DAMAGE = 3,  /* stored bytes are wrong, missing, or contradict each other */
} lsm_severity;

/*
 * One thing that was found out about the files of a database: what, where, and which keys it may
 * concern. Everything in it is borrowed until the callback returns.
 */
typedef struct lsm_finding {
    size_t struct_size;    /* sizeof(lsm_finding) of the library */
    const char *id;        /* stable; pass number, dash, words: "4-block-checksum" */
    unsigned pass;         /* 0 to 8, see lsm-verify(1) */
    lsm_severity severity; /* */
    const char *file;      /* name in the directory; NULL: none */
    uint64_t offset;       /* in the file, bytes; LSM_NO_OFFSET: the whole file */
    uint64_t length;       /* bytes from there on; 0: not known */
    bool has_cf;           /* it is known whose bytes these are: cf_id */
    uint32_t cf_id;        /* column family */
    const char *cf_name;   /* NULL when not known */
    bool has_range;        /* keys that may be affected lie in [first, last] of that family */
    bool first_open;       /* no lower bound is known: `first` is not set */
    bool last_open;        /* no upper bound is known: `last` is not set */
    lsm_slice first;       /* */
    lsm_slice last;        /* */
    bool has_numbers;      /* expected and found are set */
    uint64_t expected;     /* */
    uint64_t found;        /* */
    const char *text;      /* one sentence; holds no bytes of keys and values */
} lsm_finding;

typedef enum lsm_verify_level {
    LSM_VERIFY_NORMAL = 0, /* manifest, inventory, log, and every block of every table */
    LSM_VERIFY_QUICK = 1,  /* no blocks: manifest, inventory, ends of tables, log */
    LSM_VERIFY_FULL = 2,   /* also what only shows when everything is held against everything:
                              filters, indexes, counts, digests, order of versions over levels */
} lsm_verify_level;

typedef struct lsm_verify_options {
    size_t struct_size;      /* sizeof(lsm_verify_options); set by LSM_VERIFY_OPTIONS_INIT */
    lsm_verify_level level;  /* */
    const char *io;          /* as in lsm_options */
    bool offline;            /* LSM_BUSY when anybody has the database open */
    bool first_error;        /* stop at the first damage */
    unsigned threads;        /* that read tables; 0: 2 */
    uint64_t memory_limit;   /* bytes, 0: 64 MiB. What does not fit is unmeasured */
    uint64_t rate;           /* bytes read a second at most; 0: no limit */
    unsigned sample_percent; /* of the blocks, chosen by `seed`; 0: all of them */
    uint64_t seed;           /* of the choice */
    const char *file;        /* only this table of the directory; NULL: everything */
    const char *const *families; /* names; NULL: all. Narrows what is read of tables */
    size_t family_count;         /* */
    const char *const *ignored;  /* ids of findings that are not told and do not count */
    size_t ignored_count;        /* */

    void *context; /* of the callbacks below, each of which may be NULL. They are called by one
                      thread at a time, but not always by the same, and must not call the library */
    /* Told of each finding. Return false to cancel. */
    bool (*finding)(void *context, const lsm_finding *finding);
    /* Told what was not looked at, and why. `file` may be NULL. */
    void (*unmeasured)(void *context, unsigned pass, const char *file, const char *cause);
    /* done of total bytes of a pass; return false to cancel. */
    bool (*progress)(void *context, unsigned pass, const char *name, uint64_t done,
                     uint64_t total);
    /* Told once, before the tables: whose files they are, and which state. */
    void (*identified)(void *context, const uint8_t uuid[16], uint64_t sequence);
    /* Asked before the blocks of a table are read: true leaves it out. Tables never change, and
     * `digest` tells those of equal names apart, so a caller may remember which were verified. */
    bool (*skip_table)(void *context, const char *file, uint64_t size, uint64_t digest);
    /* The whole of a table was read; is_sound: nothing was found wrong with it. */
    void (*table_done)(void *context, const char *file, uint64_t size, uint64_t digest,
                       bool is_sound);
} lsm_verify_options;

#define LSM_VERIFY_OPTIONS_INIT {.struct_size = sizeof(lsm_verify_options)}

typedef struct lsm_verify_result {
    size_t struct_size;      /* sizeof(lsm_verify_result); set by the call */
    uint64_t notes;          /* findings by severity */
    uint64_t warnings;       /* */
    uint64_t damages;        /* */
    uint64_t ignored;        /* findings that options.ignored left out */
    uint64_t unmeasured;     /* things that could not be looked at */
    uint64_t bytes_read;     /* */
    uint64_t tables;         /* verified, */
    uint64_t blob_files;     /* the same */
    uint64_t tables_skipped; /* by skip_table */
    uint64_t blocks;         /* read */
    uint64_t entries;        /* in them */
    uint64_t records;        /* of the log */
    uint64_t sequence;       /* the state that was verified: all writes up to it */
    bool is_live;            /* others had the database open meanwhile */
    bool has_newer_format;   /* something was written by a newer version of the library */
    uint8_t uuid[16];        /* of the database; zeros: not known */
} lsm_verify_result;

/*
 * Reads the database in `path` and tells everything that is wrong with it. Nothing is written, not
 * even a lock file, so a read-only medium will do. Where others have the database open it joins them
 * and reads the tables of one moment, which are kept for it meanwhile: writers go on, files that
 * they replace take space until it returns.
 *
 * options, err  may be NULL. result: out, may be NULL; filled also on LSM_CORRUPT and LSM_CANCELLED.
 *
 * LSM_OK: no damage. LSM_CORRUPT: there is damage; the message tells how much and the first of it.
 * LSM_CANCELLED; LSM_MISSING: there is no database; LSM_BUSY: see `offline`, or it is open in a
 * process that lets nobody in; LSM_UNSUPPORTED: it is open where it cannot be joined from here;
 * LSM_NEWER_FORMAT; LSM_INVALID, LSM_IO, LSM_NO_MEMORY.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_verify(const char *path, const lsm_verify_options *options,
                                             lsm_verify_result *result, lsm_error *err);

/* All ids of findings: the `index`-th, with its meaning and what lsm-repair(1) does about it; NULL
 * behind the last. The strings are static; meaning and repair may be NULL. */
LSM_API const char *lsm_finding_id(size_t index, const char **meaning, const char **repair);

/* ---- repairing ------------------------------------------------------------------------------- */

/* What may have happened to the keys of a range; a sum. */
typedef enum lsm_loss_kind {
    LSM_LOSS_LOST = 1,       /* their newest values may be gone */
    LSM_LOSS_MAY_BE_STALE = 2, /* an older value may be found in place of a newer one */
    LSM_LOSS_MAY_REVIVE = 4, /* keys that were deleted may be found again */
    LSM_LOSS_UNSEEN = 8,     /* nothing is known to be wrong, but a file that held some would not be
                              * missed: all that named it is gone. Always alone; not in loss_count */
} lsm_loss_kind;

/* Keys that a repair cannot vouch for: everything lost, stale or revived lies in one of these. */
typedef struct lsm_loss {
    size_t struct_size;    /* sizeof(lsm_loss) of the library */
    unsigned kinds;        /* sum of lsm_loss_kind */
    bool has_cf;           /* false: any column family */
    uint32_t cf_id;        /* */
    const char *cf_name;   /* NULL when not known */
    bool first_open;       /* no lower bound: `first` is not set */
    bool last_open;        /* no upper bound: `last` is not set */
    lsm_slice first;       /* the keys lie in [first, last] */
    lsm_slice last;        /* */
    uint64_t records;      /* lost, about; 0: not known */
    uint64_t min_sequence; /* of what is lost; both 0: not known */
    uint64_t max_sequence; /* */
    const char *file;      /* that held it; NULL: none in particular */
    uint64_t offset;       /* in the file; LSM_NO_OFFSET: the whole file */
    uint64_t length;       /* bytes; 0: not known */
    unsigned round;        /* as in lsm_repair_step */
} lsm_loss;

/* One thing that is wrong, and what is to be done about it. */
typedef struct lsm_repair_step {
    size_t struct_size;    /* sizeof(lsm_repair_step) of the library */
    const char *id;        /* of the finding, as in lsm_finding */
    lsm_severity severity; /* */
    const char *file;      /* NULL: none */
    uint64_t offset;       /* LSM_NO_OFFSET: the whole file */
    uint64_t length;       /* 0: not known */
    const char *problem;   /* a sentence; holds no bytes of keys and values, as the next */
    const char *action;    /* "byte 17 becomes 0x41 again" */
    bool is_exact;         /* afterwards everything is as it was before the damage */
    unsigned round;        /* from 1 on: what lies behind damage shows when that is put right */
} lsm_repair_step;

/* What becomes of the log when records in it are damaged and cannot be corrected. */
typedef enum lsm_repair_log {
    LSM_REPAIR_LOG_SKIP = 0, /* every record that is whole is kept */
    LSM_REPAIR_LOG_STOP = 1, /* those before the first damage */
    LSM_REPAIR_LOG_NONE = 2, /* none at all, whole or not */
} lsm_repair_log;

typedef struct lsm_repair_result {
    size_t struct_size;      /* sizeof(lsm_repair_result); set by LSM_REPAIR_RESULT_INIT */
    bool is_changed;         /* files of the database were changed */
    bool is_damage_left;     /* something that is wrong was not put right */
    bool is_data_lost;       /* records are gone, or values may be older than they were */
    uint64_t step_count;     /* steps of the plan */
    uint64_t exact_count;    /* of these, exact ones */
    uint64_t table_count;    /* live tables looked at */
    uint64_t tables_rewritten;
    uint64_t tables_lost;
    uint64_t blocks_lost;
    uint64_t records_lost;   /* in tables and log, about */
    uint64_t log_records;    /* of the log, kept */
    uint64_t log_bytes_lost; /* of the log */
    uint64_t loss_count;     /* those of LSM_LOSS_UNSEEN not counted */
    unsigned round_count;    /* rounds in which something was found */
    bool may_find_more;      /* a dry run could not tell all of what another round would find */
    char lost_path[1024];    /* what was replaced is here; empty: nothing was */
} lsm_repair_result;

#define LSM_REPAIR_RESULT_INIT {.struct_size = sizeof(lsm_repair_result)}

typedef struct lsm_repair_options {
    size_t struct_size;     /* sizeof(lsm_repair_options); set by LSM_REPAIR_OPTIONS_INIT */
    const char *io;         /* as in lsm_options */
    bool dry_run;           /* make the plan of all rounds, change nothing */
    bool only_exact;        /* do nothing when a step of any round would not be exact */
    lsm_repair_log log;     /* */
    bool rebuild_manifest;  /* believe no manifest, only the tables themselves */
    uint64_t manifest;      /* number of the one to believe, whatever CURRENT says; 0: CURRENT's */
    bool salvage_blocks;    /* write every table anew from its blocks, sound or not */
    const char *to;         /* a new directory: a copy is repaired, the original not written to */
    const char *lost;       /* where replaced files go; NULL: lost+found/<time>/ in the database */
    /* Told every step of the plan. False leaves this one out; then damage is left. NULL: all. */
    bool (*on_step)(void *context, const lsm_repair_step *step);
    /* Told, before anything is changed, what will be lost. */
    void (*on_loss)(void *context, const lsm_loss *loss);
    /* The plan of round planned->round_count is complete; its numbers are of all rounds up to here.
     * False: LSM_CANCELLED, nothing more is changed. NULL: go on. Not called for a dry run. */
    bool (*on_plan)(void *context, const lsm_repair_result *planned);
    /* Told what was done, a sentence each. */
    void (*on_done)(void *context, const char *text);
    lsm_progress progress;  /* bytes of files looked at; false cancels. NULL: none */
    void *context;          /* of all of these; they are called on the calling thread */
} lsm_repair_options;

#define LSM_REPAIR_OPTIONS_INIT {.struct_size = sizeof(lsm_repair_options)}

/*
 * Finds out what is wrong with the database in `path` and puts it right, as far as the files allow:
 * one wrong bit or byte is corrected exactly; what else is damaged is left behind, block by block
 * and record by record, and the ranges of keys that it may concern are told. See lsm-repair(1).
 *
 * No file is written in place. New files are made and become durable, one rename puts them in
 * force, then what they replace moves to lost+found, from where lsm_repair_undo() gives it back.
 * When the process or the machine stops at any moment, the database is as before or repaired, and
 * another repair finishes. Where nothing is wrong nothing is written; the log is never replayed
 * for that.
 *
 * Damage may hide behind damage, so it looks again, under the same lock, until a look finds
 * nothing: each round is planned, told and asked about before it is done. A dry run, and one of
 * only exact steps, does the rounds to a draft in memory first.
 *
 * options, result, err  Each may be NULL.
 *
 * LSM_BUSY with the process when anybody has the database open; LSM_MISSING; LSM_NEWER_FORMAT when
 * a file needs a newer library, LSM_IO, LSM_NO_SPACE, LSM_NO_MEMORY, LSM_READ_ONLY, LSM_EXISTS
 * (options->to), LSM_CANCELLED: the database is as before, or as before but for corrections that
 * were already made, or as an earlier round left it. Damage that cannot be repaired is no error: see the result.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_repair(const char *path, const lsm_repair_options *options,
                                             lsm_repair_result *result, lsm_error *err);

/*
 * Takes a repair back: gives every file of the database its bytes from before. `record` is the file
 * "undo" that the repair left beside them, NULL the newest one in lost+found. LSM_EXISTS when the
 * database was written to since, unless `force`; LSM_MISSING, LSM_BUSY, LSM_CORRUPT as above.
 */
LSM_API LSM_MUST_CHECK lsm_status lsm_repair_undo(const char *path, const char *record, bool force,
                                                  lsm_error *err);

#ifdef __cplusplus
}
#endif

#endif
