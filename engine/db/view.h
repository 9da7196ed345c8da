/*
 * The files of one moment of a database that others have open, for reading them directly: as long
 * as a view is held, no process removes a table that it names.
 */
#ifndef ENGINE_DB_VIEW_H
#define ENGINE_DB_VIEW_H

#include "engine/version/version.h"

struct db_state;

struct db_view {
    struct db_state *state;     /* held */
    struct version_place place; /* of the manifest that makes it */
    uint64_t sequence;     /* all writes up to it were acknowledged before the view was taken */
    uint64_t written;      /* segments hold the log up to this position, */
    uint64_t durable;      /* and durably up to this one */
    uint64_t log_position; /* the log below it is in tables, */
    uint64_t log_chain;    /* and this is the checksum of its last record */
    uint64_t job_limit;    /* tables below it that the view does not name are nobody's */
};

/* Whether the handle joined others; false: it reads by itself, and there is nothing to hold. */
bool db_is_joined(const lsm_db *db);

/* The newest moment. LSM_BUSY when it changed each time that it was looked at. */
lsm_status db_view_acquire(lsm_db *db, struct db_view *view, lsm_error *err);
void db_view_release(struct db_view *view); /* becomes empty; an empty one is allowed */

#endif
