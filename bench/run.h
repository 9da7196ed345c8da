/* Runs one workload on its threads and says what came out. */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include "bench/machine.h"
#include "bench/workload.h"

struct result {
    const char *name; /* of the workload; "+writes" behind it for the thread beside */
    uint32_t threads;
    uint64_t operations;
    double seconds;
    uint64_t read_bytes;    /* keys and values */
    uint64_t written_bytes; /* keys and values */
    uint64_t found;
    uint64_t allocations; /* of the calling threads */
    uint32_t processes;
    double processor_s;     /* of the whole process, background threads included */
    uint64_t storage_bytes; /* written to storage meanwhile */
    uint64_t storage_read_bytes;
    uint64_t disk_bytes; /* occupied afterwards */
    uint64_t peak_memory;
    uint64_t held_memory;   /* by the engine, at the peak, without code; 0: not measured */
    char state[STATE_SIZE]; /* of the database, before */
    uint64_t ended_ns;      /* clock_ns() when its threads were done */
    double amplification;   /* since the database was opened; bytes to storage / user's bytes */
    double engine_amplification;        /* the same as the engine counts it; 0: unknown */
    struct phase phases[RESULT_PHASES]; /* name NULL: none */
    struct histogram latencies;
    struct witness_sums pauses;   /* of the machine meanwhile, when bench.witness is there */
    struct waits_left waits_left; /* then too */
};

/*
 * For a workload on threads, one process's share of it. `begin` is called when every thread waits
 * to begin; returns when it is time.
 */
void run_threads(struct bench *b, const struct workload *workload, struct result *result,
                 struct result *beside, void (*begin)(struct bench *b));

/* What the process has used since `before`, into `result`. */
void measure_use(struct result *result, const struct machine_use *before);

void result_add(struct result *all, const struct result *one);

/* `beside` is filled when the workload has a thread beside; its operations are 0 otherwise. */
void run_workload(struct bench *b, const struct workload *workload, struct result *result,
                  struct result *beside);

#endif
