/*
 * Removing a database: only files of its own, and CURRENT first.
 */
#include "engine/db/open_private.h"

#include "engine/format/file_name.h"

struct removal {
    struct io_dir *dir;
};

static lsm_status remove_file(void *context, const char *name, lsm_error *err)
{
    struct removal *r = context;
    enum file_kind kind;
    uint64_t number;
    if (!file_name_parse(name, &kind, &number) || kind == FILE_LOCK)
        return LSM_OK;
    return io_dir_unlink(r->dir, name, NULL, err);
}

/* The lock is held; LOCK itself goes last. */
static lsm_status remove_files(lsm_db *db, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    struct removal r = {.dir = db->dir};
    /* CURRENT first: a removal that is interrupted must not look like a database. */
    lsm_status status = io_dir_unlink(db->dir, file_name_make(FILE_CURRENT, 0, name), NULL, err);
    if (status == LSM_OK)
        status = io_dir_sync(db->dir, err);
    if (status == LSM_OK)
        status = io_dir_list(db->dir, remove_file, &r, err);
    if (status == LSM_OK)
        status = io_dir_unlink(db->dir, file_name_make(FILE_LOCK, 0, name), NULL, err);
    return status;
}

lsm_status db_destroy_on(struct io *io, const char *path, lsm_error *err)
{
    lsm_db *db = NULL;
    uint64_t manifest_number;
    enum shm_attach_role role;
    lsm_status status = db_check_path(path, err);
    if (status != LSM_OK)
        return status;
    status = db_handle_new(path, NULL, &db, err);
    if (db == NULL)
        return status;
    db->io = io;
    if (status == LSM_OK)
        status = io_dir_open(io, path, 0, 0, &db->dir, err);
    if (status == LSM_OK)
        status = db_lock_take_if_database(db, SHM_ATTACH_ALONE, &role, err);
    if (status == LSM_OK) {
        status = version_read_current(io, db->dir, db->tables.uuid, &manifest_number, err);
        if (status == LSM_CORRUPT || status == LSM_NEWER_FORMAT)
            status = LSM_OK; /* damaged databases are removed too */
    }
    if (status == LSM_OK)
        status = remove_files(db, err);
    bool removed = status == LSM_OK;
    db_handle_free(db);
    /* A directory with somebody else's files in it stays. */
    if (removed) {
        status = io_dir_remove(io, path, err);
        if (status == LSM_EXISTS)
            status = LSM_OK;
    }
    return status;
}

LSM_API lsm_status lsm_destroy(const char *path, lsm_error *err)
{
    struct io *io = NULL;
    lsm_status status = db_check_path(path, err);
    if (status == LSM_OK)
        status = io_open("auto", &io, err);
    if (status == LSM_OK)
        status = db_destroy_on(io, path, err);
    io_close(io);
    return status;
}
