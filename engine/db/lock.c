/*
 * What a directory holds, and the lock that says who has it open.
 */
#include "engine/db/open_private.h"

#include "engine/format/file_name.h"

#include <stdio.h>

#define ATTACH_PATIENCE_MS 10000 /* longest wait for who opens or closes the database */

/* ---- what is there ----------------------------------------------------------------------------
 */

struct contents {
    bool has_data; /* files that only an existing database has */
    char example[FILE_NAME_SIZE];
};

static lsm_status note_file(void *context, const char *name, lsm_error *err)
{
    struct contents *c = context;
    enum file_kind kind;
    uint64_t number;
    (void)err;
    if (!file_name_parse(name, &kind, &number))
        return LSM_OK;
    bool unfinished = kind == FILE_MANIFEST && number == 1; /* a creation that was cut short */
    if (kind == FILE_TABLE || kind == FILE_BLOB || kind == FILE_WAL ||
        (kind == FILE_MANIFEST && !unfinished)) {
        c->has_data = true;
        snprintf(c->example, sizeof c->example, "%s", name);
    }
    return LSM_OK;
}

/* CURRENT is missing: is there a database that lost it, or none? */
lsm_status db_check_absent(lsm_db *db, lsm_error *err)
{
    struct contents c = {0};
    lsm_status status = io_dir_list(db->dir, note_file, &c, err);
    if (status != LSM_OK)
        return status;
    if (c.has_data) {
        status = lsm_fail(err, LSM_CORRUPT,
                          "'%s' holds '%s' but no CURRENT; it is a database that lost it: see "
                          "lsm-repair",
                          db->path, c.example);
        status_place(err, "CURRENT", LSM_NO_OFFSET);
        return status;
    }
    if (!db->options.create)
        return lsm_fail(err, LSM_MISSING, "there is no database in '%s'", db->path);
    return LSM_OK;
}

/* ---- the lock ---------------------------------------------------------------------------------
 */

/* Who wants it alone waits for nobody who has it open: only for who is just letting go. */
static unsigned patience_ms(const lsm_db *db, enum shm_attach_mode how)
{
    if (db->options.open_timeout_ms != 0)
        return db->options.open_timeout_ms;
    return how == SHM_ATTACH_ALONE ? IO_LOCK_PATIENCE_MS : ATTACH_PATIENCE_MS;
}

lsm_status db_lock_take(lsm_db *db, enum shm_attach_mode how, enum shm_attach_role *role,
                        lsm_error *err)
{
    struct shm_attach_options options = {.io = db->io,
                                         .dir = db->dir,
                                         .path = db->path,
                                         .mode = db->options.mode,
                                         .how = how,
                                         .timeout_ms = patience_ms(db, how)};
    return shm_attach_begin(&options, &db->attachment, role, err);
}

/* Leaves nothing that is shared behind; what cannot be removed now is removed by the next open. */
void db_lock_free(lsm_db *db)
{
    bool is_last;
    if (db->is_leaving || shm_detach_begin(db->attachment, &is_last, NULL) == LSM_OK)
        shm_detach_end(db->attachment);
    else
        shm_attachment_abandon(db->attachment);
}

/* No LOCK is left behind in a directory that holds no database and shall not get one. */
lsm_status db_lock_take_if_database(lsm_db *db, enum shm_attach_mode how,
                                    enum shm_attach_role *role, lsm_error *err)
{
    if (!db->options.create) {
        uint8_t uuid[TABLE_UUID_SIZE];
        uint64_t manifest_number;
        lsm_status status = version_read_current(db->io, db->dir, uuid, &manifest_number, err);
        if (status == LSM_MISSING)
            return db_check_absent(db, err);
    }
    return db_lock_take(db, how, role, err);
}
