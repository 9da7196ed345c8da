/*
 * Where a checkpoint is built: in PATH.partial, which becomes PATH by one rename when all of it is
 * durable. So PATH is a whole database or nothing.
 *
 * Who builds holds the lock of a database that somebody opens, on LOCK in that directory. A death
 * lets go of it, and the next checkpoint of that name clears up. The lock may be had a moment after
 * the directory got its name, or was removed: then it is on a file that PATH.partial does not hold,
 * and the whole is begun again.
 *
 * Cleared up is only what can be nothing but an unfinished checkpoint: files of the kinds that one
 * has, with a LOCK that nobody has written to, as whoever opens a database does. With one thing
 * else in the directory all of it is somebody's, and is left as it is.
 */
#include "engine/db/checkpoint_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/file_name.h"
#include "engine/shm/attach.h"

#include <errno.h>
#include <string.h>

#define PLACE_SUFFIX ".partial"
#define PLACE_TRIES  100 /* to find the directory where it was a moment ago */

static lsm_status make_paths(struct checkpoint_place *p, const char *path, lsm_error *err)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    p->path = mem_alloc(length + 1);
    p->partial_path = mem_alloc(length + sizeof PLACE_SUFFIX);
    if (p->path == NULL || p->partial_path == NULL)
        return lsm_fail_memory(err, length + sizeof PLACE_SUFFIX);
    memcpy(p->path, path, length);
    p->path[length] = '\0';
    memcpy(p->partial_path, path, length);
    memcpy(p->partial_path + length, PLACE_SUFFIX, sizeof PLACE_SUFFIX);
    return LSM_OK;
}

/* Whether PATH is something that cannot be opened as a directory: a file, a link to nowhere. Of a
 * parent that may be written and not read, or is none, the move tells. */
static lsm_status look_for_name(struct checkpoint_place *p, bool *is_there, lsm_error *err)
{
    const char *slash = strrchr(p->path, '/');
    struct io_dir *dir = NULL;
    struct io_entry entry;
    lsm_error why = {0};
    *is_there = false;
    char *parent = mem_copy_text(slash == NULL ? "." : p->path);
    if (parent == NULL)
        return lsm_fail_memory(err, strlen(p->path) + 1);
    if (slash != NULL)
        parent[slash == p->path ? 1 : slash - p->path] = '\0';
    lsm_status status = io_dir_open(p->io, parent, 0, 0, &dir, &why);
    if (status == LSM_OK)
        status = io_dir_describe(dir, slash == NULL ? p->path : slash + 1, &entry, &why);
    *is_there = status == LSM_OK;
    io_dir_close(dir);
    mem_free(parent);
    if (status == LSM_OK || status == LSM_MISSING || why.os_errno == EACCES)
        return LSM_OK;
    if (err != NULL)
        *err = why;
    return status;
}

static lsm_status check_free(struct checkpoint_place *p, lsm_error *err)
{
    struct io_dir *dir = NULL;
    bool is_there = true;
    lsm_status status = io_dir_open(p->io, p->path, 0, 0, &dir, err);
    io_dir_close(dir);
    if (status == LSM_MISSING || status == LSM_INVALID || status == LSM_CORRUPT)
        status = look_for_name(p, &is_there, err);
    if (status != LSM_OK || !is_there)
        return status;
    status = lsm_fail(err, LSM_EXISTS, "a checkpoint goes to a new directory, but there is '%s'",
                      p->path);
    status_place(err, p->path, LSM_NO_OFFSET);
    return status;
}

/* ---- the lock -------------------------------------------------------------------------------- */

static lsm_status open_lock_file(struct io_dir *dir, unsigned flags, struct io_file **file,
                                 lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    return io_file_open(dir, file_name_make(FILE_LOCK, 0, name), flags, 0, file, err);
}

/* Is the file what PATH.partial/LOCK stands for now? */
static lsm_status still_there(struct checkpoint_place *p, struct io_file *locked, bool *is_there,
                              lsm_error *err)
{
    struct io_dir *dir = NULL;
    struct io_file *file = NULL;
    struct io_identity mine, found;
    *is_there = false;
    lsm_status status = io_dir_open(p->io, p->partial_path, 0, 0, &dir, err);
    if (status == LSM_OK)
        status = open_lock_file(dir, 0, &file, err);
    if (status == LSM_OK)
        status = io_file_identity(file, &found, err);
    if (status == LSM_OK)
        status = io_file_identity(locked, &mine, err);
    if (status == LSM_OK)
        *is_there = io_identity_equal(mine, found);
    io_file_close(file);
    io_dir_close(dir);
    return status == LSM_MISSING ? LSM_OK : status;
}

static lsm_status in_use(const struct checkpoint_place *p, lsm_error *err)
{
    lsm_status status = lsm_fail(
        err, LSM_BUSY, "somebody else makes a checkpoint in '%s', or has it open", p->partial_path);
    status_place(err, p->partial_path, LSM_NO_OFFSET);
    return status;
}

/* ---- what is in it --------------------------------------------------------------------------- */

static bool checkpoint_has(enum file_kind kind)
{
    return kind == FILE_LOCK || kind == FILE_CURRENT || kind == FILE_MANIFEST ||
           kind == FILE_TABLE || kind == FILE_BLOB || kind == FILE_TEMPORARY;
}

static lsm_status check_own_file(void *context, const char *name, lsm_error *err)
{
    const struct checkpoint_place *p = context;
    struct io_entry entry;
    enum file_kind kind;
    uint64_t number;
    lsm_status status = io_dir_describe(p->dir, name, &entry, err);
    if (status != LSM_OK)
        return status == LSM_MISSING ? LSM_OK : status; /* another checkpoint's, a moment ago */
    if (file_name_parse(name, &kind, &number) && checkpoint_has(kind) &&
        entry.kind == IO_ENTRY_FILE && (kind != FILE_LOCK || entry.size == 0))
        return LSM_OK;
    status =
        lsm_fail(err, LSM_EXISTS,
                 "'%s' is where a checkpoint would be built, but holds '%s', which none leaves "
                 "there; remove or rename it",
                 p->partial_path, name);
    status_place(err, name, LSM_NO_OFFSET);
    return status;
}

/* Nothing in it but what an unfinished checkpoint leaves? */
static lsm_status check_own(struct checkpoint_place *p, lsm_error *err)
{
    lsm_status status = io_dir_list(p->dir, check_own_file, p, err);
    return status == LSM_MISSING ? LSM_OK : status; /* removed by who had it */
}

static lsm_status remove_own_file(void *context, const char *name, lsm_error *err)
{
    struct checkpoint_place *p = context;
    enum file_kind kind;
    uint64_t number;
    if (!file_name_parse(name, &kind, &number) || !checkpoint_has(kind) || kind == FILE_LOCK)
        return LSM_OK;
    return io_dir_unlink(p->dir, name, NULL, err);
}

/* ---- taking it ------------------------------------------------------------------------------- */

/* Who has a database open holds its presence, and comes in and leaves under the other lock. */
static lsm_status check_nobody_there(struct io_file *file, lsm_error *err)
{
    struct io_lock *presence = NULL;
    lsm_status status = io_try_lock(file, SHM_LOCK_PRESENCE, &presence, err);
    io_unlock(presence);
    return status;
}

/* LOCK of the directory that was opened; none is in one that was removed since. */
static lsm_status lock(struct checkpoint_place *p, struct io_file **file, lsm_error *err)
{
    lsm_status status = open_lock_file(p->dir, IO_FILE_WRITE | IO_FILE_CREATE, file, err);
    if (status == LSM_MISSING)
        return LSM_OK;
    if (status == LSM_OK)
        status = io_try_lock(*file, SHM_LOCK_ATTACH, &p->lock, err);
    if (status == LSM_OK)
        status = check_nobody_there(*file, err);
    return status == LSM_BUSY ? in_use(p, err) : status;
}

/* One try; the directory is open afterwards when it is taken. It is looked at first without the
 * lock, so that no LOCK is made in what is somebody else's. */
static lsm_status take(struct checkpoint_place *p, uint32_t mode, bool *is_taken, lsm_error *err)
{
    struct io_file *file = NULL;
    *is_taken = false;
    lsm_status status = io_dir_open(p->io, p->partial_path, IO_DIR_CREATE, mode, &p->dir, err);
    if (status == LSM_OK)
        status = check_own(p, err);
    if (status == LSM_OK)
        status = lock(p, &file, err);
    if (status == LSM_OK && p->lock != NULL)
        status = still_there(p, file, is_taken, err);
    if (status == LSM_OK && *is_taken)
        status = check_own(p, err);
    io_file_close(file);
    if (status == LSM_OK && *is_taken)
        return LSM_OK;
    *is_taken = false;
    io_unlock(p->lock);
    p->lock = NULL;
    io_dir_close(p->dir);
    p->dir = NULL;
    if (status != LSM_OK)
        (void)io_dir_remove(p->io, p->partial_path, NULL); /* where it is empty */
    return status;
}

lsm_status checkpoint_place_open(struct checkpoint_place *place, struct io *io, const char *path,
                                 uint32_t mode, lsm_error *err)
{
    bool is_taken = false;
    place->io = io;
    lsm_status status = make_paths(place, path, err);
    if (status == LSM_OK)
        status = check_free(place, err);
    for (unsigned i = 0; status == LSM_OK && !is_taken; i++)
        status = i < PLACE_TRIES ? take(place, mode, &is_taken, err) : in_use(place, err);
    STEP("checkpoint: place taken");
    return status == LSM_OK ? io_dir_list(place->dir, remove_own_file, place, err) : status;
}

lsm_status checkpoint_place_finish(struct checkpoint_place *place, lsm_error *err)
{
    lsm_status status = io_dir_sync(place->dir, err);
    STEP("checkpoint: durable");
    if (status == LSM_OK)
        status = io_dir_move(place->io, place->partial_path, place->path, &place->is_named, err);
    STEP("checkpoint: named");
    if (status != LSM_OK)
        return status;
    io_unlock(place->lock);
    place->lock = NULL;
    return LSM_OK;
}

/* Where the directory is that goes. One that has its name, but not durably, loses it first: what is
 * at PATH is never a part of a database. */
static const char *unname(const struct checkpoint_place *place)
{
    bool is_back = !place->is_named;
    if (!is_back)
        (void)io_dir_move(place->io, place->path, place->partial_path, &is_back, NULL);
    return is_back ? place->partial_path : place->path;
}

void checkpoint_place_close(struct checkpoint_place *place)
{
    char name[FILE_NAME_SIZE];
    if (place->lock != NULL) {
        const char *path = unname(place);
        (void)io_dir_list(place->dir, remove_own_file, place, NULL);
        (void)io_dir_unlink(place->dir, file_name_make(FILE_LOCK, 0, name), NULL, NULL);
        (void)io_dir_remove(place->io, path, NULL);
        io_unlock(place->lock);
    }
    io_dir_close(place->dir);
    mem_free(place->path);
    mem_free(place->partial_path);
    *place = (struct checkpoint_place){0};
}
