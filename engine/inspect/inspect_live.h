/*
 * What a database is doing now, as one plain struct, seen from outside: nothing is joined, locked
 * or written, so it works when every process that has the database open is stopped or stuck, and
 * costs them nothing.
 *
 * The numbers are read one after the other while others change them: each is one that was true, all
 * together need not have been true at once. What is not known is INSPECT_UNKNOWN. Where nobody has
 * the database open, only `files` is filled.
 */
#ifndef ENGINE_INSPECT_INSPECT_LIVE_H
#define ENGINE_INSPECT_INSPECT_LIVE_H

#include "engine/inspect/inspect_files.h"
#include "engine/shm/peek.h"

#define INSPECT_UNKNOWN UINT64_MAX
#define INSPECT_NOBODY  (-1) /* as an index of a process */

struct inspect_job {
    uint32_t cf;
    uint32_t input_level;
    uint32_t output_level;
    uint32_t input_count; /* 0: more than are told */
    uint32_t threads;
    uint64_t input_bytes;
    uint64_t bytes_done; /* of these */
    uint64_t bytes_written;
    uint64_t age_ns;
    bool is_manual;    /* a step of a compaction that somebody asked for */
    bool is_for_reads; /* reads have paid for it */
};

/* The lsm_compact_range() calls of a process. */
struct inspect_manual {
    uint32_t calls; /* the running one, and those that wait for their turn */
    bool is_running;
    uint32_t cf; /* of the running one, like the next */
    uint64_t age_ns;
    uint64_t bytes_done, bytes_total; /* read */
};

/* Of struct shm_waits. */
struct inspect_waits {
    uint64_t count, total_us, longest_us;
};

/* What a process said of itself, the last time it did: see struct shm_report. */
struct inspect_report {
    uint64_t attached_age_ns; /* since its opening was over */
    uint64_t said_age_ns;     /* since it said the numbers here; INSPECT_UNKNOWN: it did not yet */
    uint32_t stall_reason;    /* enum lsm_stall */
    uint64_t stall_age_ns;    /* since the reason is what it is */
    uint32_t stalled_writers; /* that wait now */
    uint64_t stalled_us;
    struct inspect_waits waits[SHM_WAIT_KINDS];
    uint32_t debt_ppm;
    uint32_t iterators;
    uint64_t drain_rate;
    uint64_t cache_size, cache_bytes, cache_hits, cache_misses;
    uint64_t shared_cache_size, shared_cache_bytes, shared_cache_found;
    uint64_t table_bytes;
    uint64_t flush_bytes_written, merge_bytes_read, merge_bytes_written, read_merges;
    uint64_t io_submissions;
    lsm_status work_status; /* of its last background work */
    char io_name[SHM_IO_NAME_SIZE];
    char io_reason[SHM_REASON_SIZE];
    char log_path[SHM_REASON_SIZE];
    char work_error[SHM_REASON_SIZE];
};

struct inspect_process {
    uint32_t slot;
    bool is_alive; /* false: it died and was not cleaned up after yet */
    int64_t pid;
    char command[SHM_COMMAND_SIZE + 1];
    char run_state; /* of its first thread, as in proc(5): 'T' is stopped; 0: not known */
    uint32_t roles; /* flags of enum shm_role; 0: it is still opening */
    struct inspect_report report;

    uint64_t pin;             /* oldest version of the tables in use here; 0: none */
    uint64_t pin_age_ns;      /* since the pin is what it is */
    uint64_t versions_behind; /* the newest one; 0 when there is no pin */
    bool holds_files;         /* superseded tables cannot go as long as it keeps this pin */
    uint64_t arenas;          /* a bit for each that it reads */
    uint32_t arena_count;
    uint32_t blocked_count; /* of these, flushed ones, which wait for it alone or with others */
    uint64_t blocked_bytes;

    uint32_t snapshot_count;  /* different sequence numbers */
    uint64_t oldest_snapshot; /* sequence number; INSPECT_UNKNOWN: none */
    uint64_t oldest_snapshot_age_ns;

    struct inspect_job jobs[SHM_SLOT_JOBS]; /* merges that it runs */
    size_t job_count;
    struct inspect_manual manual;
    uint32_t flushing_count; /* memtables that it writes to tables */
};

struct inspect_memtable {
    uint32_t arena;
    enum shm_memtable_state state;
    uint64_t id;
    uint64_t log_begin;
    uint64_t log_end;     /* INSPECT_UNKNOWN: it is not sealed yet */
    uint64_t entry_count; /* INSPECT_UNKNOWN like the next: it is not formatted yet */
    uint64_t bytes_used;
    uint64_t bytes_backed; /* memory that the arena takes */
    int owner;             /* process that makes or flushes it, an index; INSPECT_NOBODY */
    uint32_t reader_count;
};

struct inspect_lock {
    const char *name;    /* static: "append", ... */
    const char *purpose; /* static */
    int64_t thread;      /* its owner; 0: nobody has it */
    int64_t pid;         /* of the process of that thread; 0: not known */
    int process;         /* index; INSPECT_NOBODY: none of those that are attached */
    char run_state;      /* of the thread; 0: not known */
    bool is_gone;        /* there is no such thread any more: the next owner repairs */
};
#define INSPECT_LOCK_COUNT 5

struct inspect_log {
    uint64_t staged, written, durable, reusable; /* positions; see engine/wal/wal.h */
    uint64_t segment_number;
    uint64_t stage_size;
    uint64_t segment_size;
    bool is_mapped, is_direct;
    uint64_t pending_count; /* LSM_SYNC writes that wait for the flush of the log */
    bool is_busy;           /* a write or flush of the log is under way */
};

struct inspect_live {
    enum shm_peek_state state;
    lsm_error why;             /* with SHM_PEEK_HIDDEN */
    struct io_process founder; /* empty where nobody is there */
    char segment[IO_NAME_MAX + 2048];

    /* With SHM_PEEK_ALONE and SHM_PEEK_SHARED, down to `files`. */
    bool has_segment;
    uint64_t segment_bytes; /* memory that the shared segment takes */
    uint64_t arena_size;
    uint32_t arena_count;
    uint32_t arenas_free;
    uint32_t poisoned; /* an errno: the sync that failed; 0: none */
    uint64_t visible_sequence;
    uint64_t applied_sequence;
    uint64_t view_number;     /* of the published view: grows with every change */
    uint64_t current_version; /* of the tables */
    bool takeover_due;        /* somebody died in a commit, and the next writer finishes it */
    bool roll_forward_due;    /* somebody died in an edit, and the next one finishes it */
    struct inspect_waits waits[SHM_WAIT_KINDS]; /* of all processes, also those that left */
    struct inspect_log log;
    struct inspect_lock locks[INSPECT_LOCK_COUNT];
    struct inspect_process processes[SHM_MAX_SLOTS]; /* by slot */
    size_t process_count;
    size_t dead_count;
    struct inspect_memtable memtables[SHM_MAX_MEMTABLES]; /* not free ones; newest first */
    size_t memtable_count;

    struct inspect_files files;
};

/*
 * Looks at the database in `path`. *live is owned by the caller. LSM_MISSING when there is none;
 * LSM_IO, LSM_NO_MEMORY. Damage is no error: see live->files.damages.
 */
lsm_status inspect_live_open(struct io *io, const char *path, struct inspect_live **live,
                             lsm_error *err);
void inspect_live_free(struct inspect_live *live); /* NULL is allowed */

/* The process that keeps the oldest version, when superseded tables wait for it; or NULL. */
const struct inspect_process *inspect_file_holder(const struct inspect_live *live);

#endif
