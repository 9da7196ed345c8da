/* What the kernel knows about this process and about a folder. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdint.h>

struct machine_use {
    uint64_t read_bytes;    /* fetched from storage by this process */
    uint64_t written_bytes; /* sent to storage by this process, mapped files included, without what
                               was thrown away before it got there; may fall */
    double user_s;          /* processor time of all threads */
    double system_s;
};

struct machine_use machine_use_now(void);

/* Largest resident memory since the last reset, shared segments included. */
uint64_t machine_peak_memory(void);
void machine_peak_memory_reset(void);

/* What the process holds by itself now, without what is mapped. */
uint64_t machine_own_memory(void);

/* The peak without code and other mapped files, but for those of the folder. */
uint64_t machine_peak_held(const char *directory);

/* What of it is now mapped from files and shared segments, so other processes may have it too. */
uint64_t machine_shared_memory(void);

/* Returns when this process has been neither computing nor writing for half a second: the only sign
 * that an engine without a call for it has nothing to do in the background. */
void machine_wait_until_quiet(void);

/* Blocks that the files of a folder occupy, in bytes. */
uint64_t machine_disk_bytes(const char *directory);

/* Processor and kernel, one line. */
void machine_describe(char *text, uint64_t capacity);

#endif
