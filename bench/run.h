/* Runs one workload on its threads and says what came out. */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include "bench/workload.h"

struct result {
    const char *name; /* of the workload; "+writes" behind it for the thread beside */
    uint32_t threads;
    uint64_t operations;
    double seconds;
    uint64_t read_bytes;    /* keys and values */
    uint64_t written_bytes; /* keys and values */
    uint64_t found;
    uint64_t allocations;   /* of the calling threads */
    double processor_s;     /* of the whole process, background threads included */
    uint64_t storage_bytes; /* written to storage meanwhile */
    uint64_t disk_bytes;    /* occupied afterwards */
    uint64_t peak_memory;
    double amplification; /* since the database was opened; bytes to storage / user's bytes */
    double engine_amplification;        /* the same as the engine counts it; 0: unknown */
    struct phase phases[RESULT_PHASES]; /* name NULL: none */
    struct histogram latencies;
};

/* `beside` is filled when the workload has a thread beside; its operations are 0 otherwise. */
void run_workload(struct bench *b, const struct workload *workload, struct result *result,
                  struct result *beside);

#endif
