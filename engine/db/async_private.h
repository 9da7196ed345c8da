/*
 * Asynchronous queues: what their parts share.
 *
 *   request  one submitted call; it is active, then finished, then delivered and freed
 *   search   one key of a request, on its way through the tables
 *   fetch    one block that searches wait for; they share it. It holds the state and the table
 *   lane     one read that the kernel may have, with its memory; a fetch without one waits in line
 *
 * A request that waits for a block holds the state that it began with, and no epoch: flushes,
 * compactions and evictions go on meanwhile, and what they replace is freed after the last such
 * request. Inside an epoch are only the steps between two waits.
 *
 * A queue is used by one thread at a time and needs no lock, but for what its syncer shares.
 */
#ifndef ENGINE_DB_ASYNC_PRIVATE_H
#define ENGINE_DB_ASYNC_PRIVATE_H

#include "engine/db/read_private.h"
#include "engine/version/search.h"

#define ASYNC_MAGIC     UINT32_C(0x6173796e)
#define ASYNC_DEPTH     32u
#define ASYNC_MAX_DEPTH 4096u
#define ASYNC_BUCKETS   1024u /* of the fetches under way; a power of two */
#define ASYNC_SCANNERS  4u    /* threads of a queue that scan */
#define ASYNC_SPARES    1024u /* requests and fetches kept for reuse, of each so many */

struct async_request;
struct async_fetch;

struct async_search {
    struct version_search search;
    struct async_request *request;
    struct async_fetch *fetch;        /* that it waits for; NULL: none */
    struct async_search *next_waiter; /* for the same fetch */
};

enum async_kind {
    ASYNC_GET,      /* into pins, one a search */
    ASYNC_GET_INTO, /* into buffer, one search */
    ASYNC_WRITE,    /* waits for ack, as a sync does */
    ASYNC_SCAN,     /* into scan */
};

struct async_request {
    struct async_request *next, *previous; /* of the active ones; next alone of other lists */
    struct async_request *next_ack;        /* of those that wait for their acks, oldest first */
    struct async_request *next_waiting;    /* in a list of scans */
    void *user_data;
    enum async_kind kind;
    lsm_status status;
    lsm_error *error;       /* owned; NULL: none, or no memory for it */
    struct db_state *state; /* held once a search waits; NULL before */
    unsigned table_flags;
    size_t waiting; /* searches that are not over */
    struct db_ack ack;
    uint64_t ticket; /* of the syncer, for the ack */

    lsm_pin *pins;   /* the caller's, as those below */
    void *buffer;    /* */
    size_t capacity; /* of buffer */
    size_t *size;    /* */
    lsm_scan *scan;  /* */

    lsm_iter *iter; /* of a scan that is not over; the thread's that runs it, as the next but one */
    size_t most_entries, most_bytes;
    lsm_scan found;
    bool is_answered;          /* *scan was set */
    _Atomic bool is_cancelled; /* a scan ends soon */

    size_t size_bytes; /* of this struct with what follows it */
    size_t search_count;
    struct async_search searches[]; /* and their keys behind them */
};

struct async_fetch {
    struct async_fetch *next_bucket; /* with the same hash */
    struct async_fetch *next;        /* in line for a lane, or spare */
    struct db_state *state;          /* held */
    struct version_file *file;       /* its table is held */
    struct table *table;
    uint32_t block_index;
    unsigned flags;
    struct async_search *first_waiter, *last_waiter;
};

struct async_lane {
    struct io_request request;
    struct async_fetch *fetch; /* NULL: free */
    void *memory;              /* owned */
    size_t capacity;
    struct async_lane *next; /* of the free ones, or of those that arrived */
};

/* The thread that syncs the log for requests that wait for it; made when one does. */
struct async_syncer {
    pthread_t thread;
    bool runs;
    struct async_request *first, *last; /* that wait; the owner's */

    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* guarded by lock */
    struct db_ack wanted; /* covers what was asked for since the last try began */
    uint64_t asked;       /* tickets, counted */
    uint64_t answered;    /* up to this one, the last try's, with: */
    lsm_status status;
    lsm_error error;
    bool closing;
};

/* Oldest first, linked through next_waiting. */
struct async_list {
    struct async_request *first, *last;
};

/* The threads that scan; made while scans wait and none of them is idle. */
struct async_scanner {
    size_t pending; /* scans submitted and not finished; the owner's */

    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* guarded by lock */
    pthread_t threads[ASYNC_SCANNERS];
    unsigned thread_count; /* only the owner changes it */
    unsigned idle_count;
    struct async_list waiting; /* for a thread */
    struct async_list done;    /* for the owner */
    bool closing;
};

struct lsm_async {
    uint32_t magic;
    lsm_db *db;
    uint64_t fork_count;

    size_t pending;               /* submitted and not delivered */
    struct async_request *active; /* newest first */
    struct async_request *finished_first, *finished_last;
    size_t finished_count;
    struct async_request *delivered; /* a list; their errors are still being read */
    struct async_request *spares;
    size_t spare_count;

    struct io_queue *queue;
    struct async_lane *lanes; /* owned */
    uint32_t depth;
    struct async_lane *free_lanes;
    size_t unsent; /* pushed since the last submission */
    struct async_fetch *line_first, *line_last;
    struct async_fetch *buckets[ASYNC_BUCKETS];
    struct async_fetch *spare_fetches;
    size_t spare_fetch_count;

    struct io_signal *signal; /* NULL: nobody has needed it yet */
    bool queue_raises;        /* it, at each completion */
    bool fd_is_out;           /* somebody watches it */
    bool is_raised;           /* by this thread */

    struct async_syncer syncer;
    struct async_scanner scanner;
};

/* ---- requests (db/async.c) ------------------------------------------------------------------- */

lsm_status async_check(const lsm_async *async, lsm_error *err);
/* A new one, active; `key_bytes` is room behind the searches. */
lsm_status async_request_new(lsm_async *async, size_t search_count, size_t key_bytes,
                             struct async_request **request, lsm_error *err);
/* Takes back one that is not to be submitted after all. */
void async_request_forget(lsm_async *async, struct async_request *request);
void async_request_finish(lsm_async *async, struct async_request *request);
/* Remembers a failure, the first of the request; `from` is copied. */
void async_request_fail(struct async_request *request, lsm_status status, const lsm_error *from);
/* The signal, made at the first need. */
lsm_status async_signal_make(lsm_async *async, lsm_error *err);
/* After something was submitted: whoever watches the descriptor is to come back. */
void async_tell(lsm_async *async);

/* ---- reads (db/async_read.c) ----------------------------------------------------------------- */

/* The block that a search waited for is there; or it is not, and `block` is NULL. Inside an epoch.
 */
void async_search_arrived(lsm_async *async, struct async_search *search, struct block *block,
                          lsm_status status, const lsm_error *error);
/* Ends a request that waits for blocks: its places for results are left alone from now on. */
void async_read_give_up(lsm_async *async, struct async_request *request);

/* ---- blocks (db/async_fetch.c) --------------------------------------------------------------- */

lsm_status async_fetches_open(lsm_async *async, lsm_error *err);
void async_fetches_close(lsm_async *async); /* nobody waits any more */
/* The search waits for its block from now on; `state` is held by the caller. Inside an epoch. */
lsm_status async_fetch_want(lsm_async *async, struct async_search *search, struct db_state *state,
                            lsm_error *err);
/* It does not wait any more. */
void async_fetch_forget(struct async_search *search);
/* Lets as many into the lanes as there are free ones. Inside an epoch. */
void async_fetches_push(lsm_async *async);
/* The same, and hands everything to the kernel. Not inside an epoch. */
void async_fetches_send(lsm_async *async);
/* Takes in what has been read. With `wait`: at least one, if any is in flight. */
void async_fetches_collect(lsm_async *async, bool wait);
/* Whether the kernel, or the queue, still has reads. */
bool async_fetches_in_flight(const lsm_async *async);

/* ---- syncs (db/async_write.c) ---------------------------------------------------------------- */

void async_syncer_open(lsm_async *async);
void async_syncer_close(lsm_async *async); /* waits for the thread */
/* Finishes the requests whose acks are given, or will not be. */
void async_acks_collect(lsm_async *async);

/* ---- scans (db/async_scan.c) ----------------------------------------------------------------- */

void async_scanner_open(lsm_async *async);
void async_scanner_close(lsm_async *async); /* ends what is running and waits for the threads */
/* Hands over the scans that are over. */
void async_scans_collect(lsm_async *async);
void async_scan_cancel(struct async_request *request);

#endif
