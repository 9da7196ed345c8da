/* What the kernel knows about this process and about a folder. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdint.h>

struct machine_use {
    uint64_t written_bytes; /* sent to storage by this process, mapped files included */
    double user_s;          /* processor time of all threads */
    double system_s;
};

struct machine_use machine_use_now(void);

/* Largest resident memory since the last reset, shared segments included. */
uint64_t machine_peak_memory(void);
void machine_peak_memory_reset(void);

/* Blocks that the files of a folder occupy, in bytes. */
uint64_t machine_disk_bytes(const char *directory);

/* Processor and kernel, one line. */
void machine_describe(char *text, uint64_t capacity);

#endif
