/*
 * Runs a script on the engine and on the model at once, and compares every reply.
 *
 * The driver knows which writes were acknowledged, which of them are durable, and which are
 * uncertain, so that after a crash or a fault it can say whether what is found may be there.
 */
#ifndef TESTS_LIB_DRIVER_H
#define TESTS_LIB_DRIVER_H

#include "engine/io/sim.h"
#include "tests/lib/script.h"

struct driver;

struct driver_setup {
    const char *backend;   /* "sim", "posix" or "uring" */
    const char *options;   /* for lsm_options_parse() */
    const char *path;      /* the database's directory */
    const char *shm_dir;   /* NULL: the default */
    struct sim_disk *disk; /* for "sim"; borrowed, outlives the driver */
    bool tolerant;         /* calls may fail as faults are being injected; wrong answers may not */
};

enum driver_result {
    DRIVER_OK,
    DRIVER_WRONG,   /* the engine is at fault; see driver_message() */
    DRIVER_STOPPED, /* the simulated machine went off, or (tolerant) the database is not open */
};

struct driver *driver_new(const struct driver_setup *setup);
/* Abandons the database when it is open. NULL is allowed. */
void driver_free(struct driver *d);

/* Opens the database (creating it at the first time) and finds out which uncertain writes are
 * there. */
enum driver_result driver_open(struct driver *d);
enum driver_result driver_close(struct driver *d);
/* Runs ops [first, limit) of a script. *at (may be NULL) becomes the index of the last one begun.
 */
enum driver_result driver_run(struct driver *d, const struct script *s, size_t first, size_t limit,
                              size_t *at);
enum driver_result driver_step(struct driver *d, const struct script_op *op);

/* The process dies: memory is freed, nothing is written. The caller then applies the crash to the
 * disk; `power` says that what was not synced may be gone. */
void driver_abandon(struct driver *d, bool power);

/* Everything, in all families, forwards, backwards and key by key. */
enum driver_result driver_verify(struct driver *d);

const char *driver_message(const struct driver *d); /* what was wrong */
uint64_t driver_digest(const struct driver *d);     /* of all replies */
lsm_db *driver_db(struct driver *d);                /* NULL when not open */
const struct model *driver_model(const struct driver *d);
bool driver_saw_error(const struct driver *d); /* some call failed (tolerant) */
void driver_set_tolerant(struct driver *d, bool tolerant);
/* What decides which states are right after a crash now: for recognising equal ones. */
uint64_t driver_oracle_hash(const struct driver *d);
/* Goes on with a copy of another disk, knowing what `d` knows; `d` is not open. */
struct driver *driver_fork(const struct driver *d, struct sim_disk *disk);

#endif
