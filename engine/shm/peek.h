/*
 * Looking at a population from outside: nothing is locked, joined or written, so it costs those who
 * are there nothing and works when all of them are stopped.
 *
 * The segment is mapped for reading only, while others change it. So every field is loaded once,
 * checked, and never trusted as an index or a size; two fields need not belong together. The
 * segment never shrinks, and stays mapped when the population ends meanwhile: then it shows how it
 * was, and shm_peek_is_current() says so.
 */
#ifndef ENGINE_SHM_PEEK_H
#define ENGINE_SHM_PEEK_H

#include "engine/shm/segment.h"

enum shm_peek_state {
    SHM_PEEK_NOBODY,   /* nobody has the database open */
    SHM_PEEK_CHANGING, /* somebody opens or closes it: there is no segment to look at */
    SHM_PEEK_ALONE,    /* it is being opened, or open in a process that lets nobody in */
    SHM_PEEK_SHARED,   /* it is open, and others may join */
    SHM_PEEK_HIDDEN,   /* it is open, but cannot be looked at from here: shm_peek_why() */
};

struct shm_peek;

/*
 * Looks at who has the database in `dir` open. `path` is for messages; it, io and dir are borrowed
 * until shm_peek_close(). Waits some milliseconds for who is coming or leaving just now. LSM_IO,
 * LSM_NO_MEMORY; all else that is odd is a state.
 */
lsm_status shm_peek_open(struct io *io, struct io_dir *dir, const char *path,
                         struct shm_peek **peek, lsm_error *err);
void shm_peek_close(struct shm_peek *peek); /* NULL is allowed */

enum shm_peek_state shm_peek_state(const struct shm_peek *peek);
/* Why it is hidden; no error otherwise. */
const lsm_error *shm_peek_why(const struct shm_peek *peek);
/* Who founded the population, or closes it. Empty with SHM_PEEK_NOBODY. */
const struct io_process *shm_peek_founder(const struct shm_peek *peek);

/* With SHM_PEEK_ALONE and SHM_PEEK_SHARED; NULL otherwise. */
const struct shm_layout *shm_peek_layout(const struct shm_peek *peek);
const char *shm_peek_directory(const struct shm_peek *peek);
const char *shm_peek_name(const struct shm_peek *peek);
uint32_t shm_peek_arena_count(const struct shm_peek *peek);
uint64_t shm_peek_arena_size(const struct shm_peek *peek);
/* The first `size` bytes of an arena; NULL when they are not all backed by memory. */
const void *shm_peek_arena(const struct shm_peek *peek, uint32_t index, uint64_t size);

/* Whether slot `index` has a living owner. Costs a system call. */
bool shm_peek_slot_is_alive(const struct shm_peek *peek, uint32_t index);
/* Whether the population is still there. */
bool shm_peek_is_current(const struct shm_peek *peek);

#endif
