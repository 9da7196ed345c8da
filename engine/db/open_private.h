/*
 * What opening, closing and removing share: the steps of a handle's life, in the order of the files
 * below. None of them is called once the handle serves anybody.
 */
#ifndef ENGINE_DB_OPEN_PRIVATE_H
#define ENGINE_DB_OPEN_PRIVATE_H

#include "engine/db/db_private.h"
#include "engine/db/open.h"

/* ---- handle (db/handle.c) -------------------------------------------------------------------- */

/* *made is set on failure, too, unless there was no memory for it: it is freed by
 * db_handle_free(). */
lsm_status db_handle_new(const char *path, const lsm_options *options, lsm_db **made,
                         lsm_error *err);
/* Frees everything without writing anything. The threads have ended, and the log is closed. */
void db_handle_free(lsm_db *db);

/* ---- lock (db/lock.c) ------------------------------------------------------------------------ */

/* CURRENT is missing: LSM_CORRUPT where a database has lost it, LSM_MISSING where there is none and
 * none shall be made; LSM_OK: make one. */
lsm_status db_check_absent(lsm_db *db, lsm_error *err);
/* LSM_BUSY, and what shm_attach_begin() says. */
lsm_status db_lock_take(lsm_db *db, enum shm_attach_mode how, enum shm_attach_role *role,
                        lsm_error *err);
/* The same, but no LOCK is made in a directory that holds no database and shall not get one. */
lsm_status db_lock_take_if_database(lsm_db *db, enum shm_attach_mode how,
                                    enum shm_attach_role *role, lsm_error *err);
void db_lock_free(lsm_db *db);

/* ---- recovery (db/recover.c) ----------------------------------------------------------------- */

struct wal_options db_wal_options(lsm_db *db);
/* Reads the log behind `state` and begins to write it. The manifest is open, nobody is let in yet.
 */
lsm_status db_recover(lsm_db *db, const struct version_state *state, bool is_new, lsm_error *err);
/* Says in the manifest where the log begins, and whether it is empty for good from there on. */
lsm_status db_log_mark(lsm_db *db, uint64_t position, uint64_t chain, bool clean, lsm_error *err);

/* ---- open (db/open.c) ------------------------------------------------------------------------ */

lsm_status db_check_path(const char *path, lsm_error *err);

#endif
