/*
 * Workloads: what each thread does (work) or what is done once to the whole database (control).
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include "bench/engine.h"
#include "bench/histogram.h"
#include "bench/keys.h"
#include "bench/waits.h"
#include "bench/witness.h"
#include "bench/zipf.h"

#include <pthread.h>
#include <stdatomic.h>

#define RESULT_PHASES 2
#define STATE_SIZE    128

/* What moves while a workload runs, for all its threads and processes. */
struct counts {
    _Atomic uint64_t key_limit; /* number of the next key that is inserted */
    _Atomic uint64_t key_first; /* of the oldest that has not been expired */
    bool complete;              /* every key below keys.count is there; moves between workloads */
};

/* One database under measurement. */
struct bench {
    const struct bench_options *options;
    const struct engine *engine;
    const char *directory;
    void *db;
    struct key_maker keys;
    struct zipf zipf; /* made by the first workload that wants it */
    struct counts counts_here;
    struct counts *counts; /* counts_here, or what the processes share */
    uint32_t process_index;
    char state[STATE_SIZE];  /* what made the database what it is: "fillrandom+settle" */
    uint64_t user_bytes;     /* keys and values written since db was opened */
    uint64_t storage_bytes;  /* machine_use.written_bytes when db was opened */
    uint64_t own_memory;     /* of this program, before it was opened first */
    struct witness *witness; /* owned; NULL: nobody watches the machine */
    const char *unwitnessed; /* why --witness cannot be obeyed; NULL: it can, or is not given */
    uint64_t bound;          /* what the engine was told to keep to; 0: nothing */
};

/* One thread of one workload. */
struct worker {
    struct bench *bench;
    const struct workload *workload;
    void *session;
    struct rng rng;
    uint64_t first; /* this thread does operations [first, limit) of all */
    uint64_t limit;
    uint32_t task_count; /* threads of all processes that share the operations */
    const _Atomic bool *stop;
    bool sync;
    bool beside; /* does workload->beside, until *stop */

    /* What came out. */
    uint64_t done; /* operations */
    uint64_t read_bytes;
    uint64_t written_bytes;
    uint64_t found;
    uint64_t allocations;
    struct histogram latencies;
    struct waits waits; /* noted when bench.witness is there */

    /* Running. */
    uint32_t sample_every;
    uint32_t until_sample;
    uint64_t began_ticks;
    uint8_t key[KEY_MAX_SIZE];
    uint8_t *value; /* owned; value_size bytes */
    pthread_t thread;
    pthread_barrier_t *start;
};

struct phase {
    const char *name;
    double seconds;
};

struct workload {
    const char *name;
    const char *help;
    void (*work)(struct worker *w);
    void (*beside)(struct worker *w); /* what one more thread does until the others are done */
    void (*control)(struct bench *b, struct phase phases[RESULT_PHASES]);
    uint64_t (*operation_count)(const struct bench_options *o);
    uint32_t batch_count; /* puts in a batch unless --batch says; 0: no batches */
    int mix;              /* of YCSB: 'a' to 'f' */
    bool empty_first;     /* starts from an empty database */
    bool sync;
    bool in_order; /* of key number, not permuted */
    bool zipf;     /* wants bench.zipf */
    bool fills;    /* afterwards every key is there */
    bool shapes;   /* what comes after it is another measurement: goes into bench.state */
    bool deletes;
    bool copies;                    /* wants engine.checkpoint */
    void (*check)(struct bench *b); /* afterwards, not measured; NULL: nothing to check */
};

/* NULL when there is none of that name. */
const struct workload *workload_find(const char *name, size_t size);
void workload_print_list(void);

/* The loops of YCSB A to F. */
void ycsb_work(struct worker *w);

/* The loops over keys that stand for points in time; in series.c. */
void series_append(struct worker *w);
void series_scan(struct worker *w);
void series_expire(struct worker *w);
uint64_t series_append_count(const struct bench_options *o);
uint64_t series_scan_count(const struct bench_options *o);
uint64_t series_expire_count(const struct bench_options *o);

/* Once around the whole database; in control.c. */
void control_compact(struct bench *b, struct phase phases[RESULT_PHASES]);
void control_flush(struct bench *b, struct phase phases[RESULT_PHASES]);
void control_settle(struct bench *b, struct phase phases[RESULT_PHASES]);
void control_checkpoint(struct bench *b, struct phase phases[RESULT_PHASES]);
void control_reopen(struct bench *b, struct phase phases[RESULT_PHASES]);
void control_recover(struct bench *b, struct phase phases[RESULT_PHASES]);
void control_evict(struct bench *b, struct phase phases[RESULT_PHASES]);
void control_die(struct bench *b, struct phase phases[RESULT_PHASES]);

/* That the copy which control_checkpoint() made holds what bench.db does; then removes it. */
void checkpoint_check(struct bench *b);

/* Opens bench.db and starts the counts of what is written to it. */
void bench_open(struct bench *b);
void bench_close(struct bench *b);

/* ---- for the loops --------------------------------------------------------------------------- */

/* Whether the thread has another operation to do. */
static inline bool worker_goes_on(const struct worker *w)
{
    return w->first + w->done < w->limit && !atomic_load_explicit(w->stop, memory_order_relaxed);
}

/* Counts an operation that began at clock_ticks() `began` and ends now. */
void worker_timed(struct worker *w, uint64_t began);

/* Around each operation; one of sample_every is timed. */
void worker_sample_begin(struct worker *w);
void worker_sample_end(struct worker *w);

static inline void worker_begin(struct worker *w)
{
    if (--w->until_sample == 0)
        worker_sample_begin(w);
}
static inline void worker_end(struct worker *w)
{
    if (w->until_sample == 0)
        worker_sample_end(w);
    w->done++;
}

/* Dies: key number n was put and is not found. */
_Noreturn void worker_misses(const struct worker *w, uint64_t n);

/* Puts key number n; into the session's batch when `batch`. */
void worker_put(struct worker *w, uint64_t n, bool batch);
/* Gets key number n, which must be there; under --verify checks its value. */
void worker_get(struct worker *w, uint64_t n);
/* Counts an entry that was read; under --verify checks its value. */
void worker_see(struct worker *w, lsm_slice key, lsm_slice value);
/* Seeks key number n, which must be there, and reads `count` entries behind it. */
void worker_scan(struct worker *w, void *iter, uint64_t n, uint64_t count);

#endif
