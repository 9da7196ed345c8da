/*
 * A disk in memory for tests. It keeps, for every file, what is durable and what was only written;
 * for every directory, which names are durable. A power cut keeps a chosen subset of what was not
 * synced: whole operations, or parts of them torn at 512 bytes or 4 KiB, names without data, sizes
 * without data (zeros or garbage). A process kill keeps everything written, mapped stores included,
 * and drops locks and handles.
 *
 * Everything is decided by a seed, so that a failing run can be repeated. One struct sim_disk holds
 * the bytes and outlives the environments opened on it, as a disk outlives its computers.
 */
#ifndef ENGINE_IO_SIM_H
#define ENGINE_IO_SIM_H

#include "engine/io/io.h"

struct sim_disk;

struct sim_disk *sim_disk_new(uint64_t seed); /* NULL when out of memory */
void sim_disk_free(struct sim_disk *disk);    /* every environment on it has been closed */
/* A copy of everything durable and pending; for trying several crashes of one moment. */
struct sim_disk *sim_disk_clone(const struct sim_disk *disk);

/*
 * An environment on the disk, as one process has it; several may be open. Its queue completions
 * come back in seeded order, and a write is done when it is submitted or when it completes, as
 * seeded.
 */
lsm_status sim_open(struct sim_disk *disk, struct io **io, lsm_error *err);

/*
 * One process dies while others live on: every later call on its environment fails like those on a
 * stopped machine, its locks are free, and its writes in flight land at some later step or never.
 */
void sim_kill(struct io *io);
/* The same by itself, before the environment's own `step` from now, counted from 1; 0: never. */
void sim_kill_at(struct io *io, uint64_t step);
bool sim_is_killed(struct io *io);

/*
 * Every submitted write, sync, name change and allocation is one step, counted from 1.
 * sim_stop_at(): when that step is reached the environment dies *before* it is done: this and every
 * later call on it fails with LSM_IO and "the simulated machine is off", and nothing more reaches
 * the disk. The tests then close what they opened (closing works) and call one of the crashes.
 */
uint64_t sim_step_count(const struct sim_disk *disk);
void sim_stop_at(struct sim_disk *disk, uint64_t step); /* 0: never; one in the past: now */
bool sim_is_stopped(const struct sim_disk *disk);

/* Writes submitted while another to some of the same bytes was in flight: their order is open. */
uint64_t sim_overlap_count(const struct sim_disk *disk);

enum sim_crash {
    SIM_CRASH_KILL,     /* the process died: all that was written or stored in a mapping stays */
    SIM_CRASH_LOSE_ALL, /* power cut, nothing unsynced survives */
    SIM_CRASH_KEEP_ALL, /* power cut, everything unsynced survives */
    SIM_CRASH_RANDOM,   /* power cut, a seeded subset survives, torn */
};
/*
 * Applies the crash and makes the disk usable again by a new environment; those opened before stay
 * dead. Faults, capacity and the count of steps stay.
 */
void sim_crash(struct sim_disk *disk, enum sim_crash crash, uint64_t seed);

/* ---- faults ---------------------------------------------------------------------------------- */

enum sim_fault_kind {
    SIM_FAULT_READ,     /* EIO */
    SIM_FAULT_WRITE,    /* */
    SIM_FAULT_SYNC,     /* files and directories; the data then counts as clean, as on ext4, but
                         * for what was stored through a mapping */
    SIM_FAULT_ALLOCATE, /* */
    SIM_FAULT_OPEN,     /* */
    SIM_FAULT_NAME,     /* rename, link and unlink */
    SIM_FAULT_LINK,     /* link alone; with EXDEV for ever there are two file systems */
    SIM_FAULT_KINDS,
};
/* The operation of that kind after `count` more fails with `os_errno`, once or for ever. */
void sim_fail_after(struct sim_disk *disk, enum sim_fault_kind kind, uint64_t count, int os_errno,
                    bool sticky);
void sim_fail_never(struct sim_disk *disk);
/* Operations of that kind so far, failed ones too: how far sim_fail_after() has to count. */
uint64_t sim_operation_count(const struct sim_disk *disk, enum sim_fault_kind kind);
uint64_t sim_read_bytes(const struct sim_disk *disk); /* that reads have given up to now */

/* Total bytes of space; writes and allocations beyond fail with ENOSPC. 0: no limit. */
void sim_set_capacity(struct sim_disk *disk, uint64_t bytes);

/* The file system claims to be another machine's, `name`; static storage. NULL: a local one. */
void sim_set_remote_name(struct sim_disk *disk, const char *name);

/*
 * Direct access for damage tests, without steps and faults: overwrites bytes inside a file, durable
 * ones included; reads a whole file as a process would see it (`bytes` valid until the next call).
 */
lsm_status sim_overwrite(struct sim_disk *disk, const char *path, const char *name, uint64_t offset,
                         const void *bytes, size_t size, lsm_error *err);
lsm_status sim_contents(struct sim_disk *disk, const char *path, const char *name,
                        const void **bytes, size_t *size, lsm_error *err);

#endif
