/*
 * Opening a database, as the first one or beside others.
 *
 * The first: lock the directory, read CURRENT and the manifest, make the segment, recover the log
 * (engine/db/recover.c), and only then let anybody in. Those who come later join what it made.
 */
#include "engine/db/open_private.h"

#include "engine/base/cancel.h"
#include "engine/base/memory.h"
#include "engine/base/step.h"

/* ---- the manifest -----------------------------------------------------------------------------
 */

static struct version_options version_options_of(lsm_db *db)
{
    struct db_memory_parts parts;
    db_memory_parts(&db->options, &parts);
    return (struct version_options){.env = &db->tables,
                                    .max_open_tables = db->options.max_open_tables,
                                    .max_table_bytes = parts.tables_most,
                                    .read_only = db->options.read_only,
                                    .next_file_number =
                                        db->is_private ? NULL : &db->layout->ctl.next_file_number,
                                    .may_remove = db_may_remove,
                                    .may_remove_context = db};
}

/* Whose database it is: the segment is named after its uuid, before the manifest is read. */
static lsm_status manifest_look(lsm_db *db, bool *is_new, lsm_error *err)
{
    uint64_t manifest_number;
    lsm_status status =
        version_read_current(db->io, db->dir, db->tables.uuid, &manifest_number, err);
    *is_new = status == LSM_MISSING;
    if (status != LSM_MISSING)
        return status;
    status = db_check_absent(db, err);
    if (status == LSM_OK)
        io_random(db->io, db->tables.uuid, sizeof db->tables.uuid);
    return status;
}

static lsm_status manifest_open(lsm_db *db, struct version_state *state, bool is_new,
                                lsm_error *err)
{
    struct version_options options = version_options_of(db);
    if (!is_new)
        return version_set_recover(&options, &db->versions, state, err);
    lsm_cf_options cf;
    lsm_status status = version_resolve_cf_options(&db->options.cf, &cf, err);
    if (status == LSM_OK)
        status = version_set_create(&options, &cf, &db->versions, err);
    if (status == LSM_OK)
        version_set_state(db->versions, state);
    return status;
}

/* ---- shared memory ----------------------------------------------------------------------------
 */

static uint64_t cache_size(const lsm_db *db)
{
    return db->options.cache_size == LSM_NO_CACHE ? 0 : db->options.cache_size;
}

/* Who lets nobody in shares nothing. */
static uint64_t shared_cache_size(const lsm_db *db)
{
    return db->options.shared_cache && !db->options.exclusive ? cache_size(db) : 0;
}

/* Before any block is read. Where there is no shared memory for it the process's own cache serves.
 */
static lsm_status share_cache(lsm_db *db, lsm_error *err)
{
    struct shm_frames *frames = NULL;
    lsm_error refused = {0};
    if (db->segment == NULL || shared_cache_size(db) == 0)
        return LSM_OK;
    lsm_status status =
        shm_frames_open(db->segment, shm_attachment_slot(db->attachment), &frames, &refused);
    if (status != LSM_OK && status != LSM_NO_SPACE) {
        status_copy(err, &refused);
        return status;
    }
    if (frames != NULL)
        block_cache_share(db->tables.cache, frames);
    STEP("cache: shared");
    return LSM_OK;
}

static lsm_status layout_make(lsm_db *db, lsm_error *err)
{
    if (db->is_private) {
        db->layout = mem_alloc_aligned(64, sizeof *db->layout);
        if (db->layout == NULL)
            return lsm_fail_memory(err, sizeof *db->layout);
        memset(db->layout, 0, sizeof *db->layout);
        db->slot = &db->layout->slots[0];
        struct shm_locks *l = &db->layout->locks;
        struct shm_lock *locks[] = {&l->reg, &l->version, &l->append, &l->change, &l->sync};
        for (size_t i = 0; i < sizeof locks / sizeof *locks; i++) {
            int failed = shm_lock_init(locks[i]);
            if (failed != 0)
                return lsm_fail_errno(err, failed, "no lock could be made for '%s'", db->path);
        }
        return LSM_OK;
    }
    struct shm_options options = {.directory = db->options.shm_dir,
                                  .arena_size = db->arena_size,
                                  .memtable_count = SHM_MAX_MEMTABLES,
                                  .frames_capacity = shared_cache_size(db)};
    memcpy(options.uuid, db->tables.uuid, sizeof options.uuid);
    lsm_status status = shm_attach_found(db->attachment, &options, err);
    if (status != LSM_OK)
        return status;
    db->segment = shm_attachment_segment(db->attachment);
    db->layout = shm_layout(db->segment);
    db->slot = &db->layout->slots[shm_attachment_slot(db->attachment)];
    db->layout->ctl.max_compactions =
        db->options.max_compactions == 0 ? db_processor_count() : db->options.max_compactions;
    return LSM_OK;
}

/* ---- coming in --------------------------------------------------------------------------------
 */

/* error_if_exists, before a lock file is touched. */
static lsm_status check_not_there(lsm_db *db, lsm_error *err)
{
    uint8_t uuid[TABLE_UUID_SIZE];
    uint64_t manifest_number;
    if (!db->options.create || !db->options.error_if_exists)
        return LSM_OK;
    lsm_status status = version_read_current(db->io, db->dir, uuid, &manifest_number, NULL);
    if (status == LSM_MISSING)
        return LSM_OK;
    return lsm_fail(err, LSM_EXISTS, "there is a database in '%s' already", db->path);
}

/*
 * The log that was found may be whole in the page cache only: what an earlier process could not
 * sync is gone after a power cut, although every later sync succeeds. So what it held goes to
 * tables, and from then on only the segment that was begun here is needed. Where that fails the
 * workers try again, or the next flush.
 *
 * Where those who wrote it are known to have died before any sync failed, it was all made durable
 * by now: then the workers have time for it. Until one of the two is true the segment says that the
 * log is doubtful, for whoever comes after a death here.
 */
static void leave_old_log(lsm_db *db)
{
    bool is_doubtful = false;
    if (!db->log_is_sound || !db_has_workers(db) || !wal_is_direct(db->wal) ||
        db->recovered_count > 0)
        is_doubtful = db_flush_sealed(db, NULL) != LSM_OK && !db->log_is_sound;
    atomic_store(&db->layout->ctl.log_is_doubtful, is_doubtful);
}

static lsm_status found(lsm_db *db, lsm_error *err)
{
    struct version_state state = {0};
    bool is_new = false;
    db->opening = true;
    lsm_status status = manifest_look(db, &is_new, err);
    if (status == LSM_OK)
        status = layout_make(db, err);
    if (status == LSM_OK)
        status = share_cache(db, err);
    if (status == LSM_OK)
        status = manifest_open(db, &state, is_new, err);
    if (status == LSM_OK)
        status = db_recover(db, &state, is_new, err);
    if (status == LSM_OK)
        status = db_cf_load(db, err);
    if (status == LSM_OK && !db->options.read_only)
        leave_old_log(db);
    STEP("recover: old log left");
    db->opening = false;
    /* What could not be put into tables is in this process's memory alone: nobody else may join. */
    if (status == LSM_OK && !db->options.exclusive && !db->is_private && db->recovered_count == 0)
        status = shm_attach_ready(db->attachment, err);
    return status;
}

static lsm_status join_log(lsm_db *db, lsm_error *err)
{
    struct wal_options wal = db_wal_options(db);
    return wal_attach(&wal, &db->wal, err);
}

/* The sizes are those of who founded. */
static lsm_status join(lsm_db *db, lsm_error *err)
{
    db->segment = shm_attachment_segment(db->attachment);
    db->layout = shm_layout(db->segment);
    db->slot = &db->layout->slots[shm_attachment_slot(db->attachment)];
    db->arena_size = (size_t)db->layout->ident.arena_size;
    memcpy(db->tables.uuid, db->layout->ident.uuid, sizeof db->tables.uuid);
    lsm_status status = share_cache(db, err);
    if (status == LSM_OK && !db->options.read_only)
        status = join_log(db, err);
    STEP("join: log attached");
    if (status != LSM_OK)
        return status;
    struct version_options options = version_options_of(db);
    struct version_place place;
    db_change_lock(db);
    db_place_read_locked(db, &place);
    atomic_store(&db->slot->pin, place.frame_number - 1);
    STEP("join: pinned");
    atomic_store_explicit(&db->slot->report.pin_ns, io_now_ns(db->io), memory_order_relaxed);
    db_change_unlock(db);
    status = version_set_attach(&options, &place, &db->versions, err);
    STEP("join: manifest read");
    if (status == LSM_OK)
        status = db_refresh(db, err);
    STEP("join: refreshed");
    if (status == LSM_OK)
        (void)db_reap(db, NULL); /* where nobody has a keeper a dead one's slot is freed here */
    return status;
}

static lsm_status start_threads(lsm_db *db, lsm_error *err)
{
    if (db->is_private)
        return LSM_OK;
    lsm_status status = LSM_OK;
    if (!db->options.read_only)
        status = db_background_start(db, err);
    if (status == LSM_OK && !db->options.read_only)
        status = db_log_writer_start(db, err);
    if (status == LSM_OK)
        status = db_keeper_start(db, err);
    if (status == LSM_OK) {
        if (db_has_workers(db))
            block_cache_touch_ahead(db->tables.cache);
        db_report_begin(db);
        db_stall_update(db);
    }
    return status;
}

/*
 * Who only reads joins those who are there, to see what they write. Where nobody is it reads the
 * files by itself, and takes no lock: it only makes sure that nobody writes now.
 */
static lsm_status enter_to_read(lsm_db *db, enum shm_attach_role *role, lsm_error *err)
{
    for (;;) {
        lsm_status status = shm_attach_look(db->io, db->dir, db->path, err);
        db->is_private = status == LSM_OK;
        if (status != LSM_BUSY || db->options.exclusive)
            return status;
        status = db_lock_take(db, SHM_ATTACH_JOIN, role, err);
        if (status != LSM_MISSING) /* else they left in between */
            return status;
    }
}

/* A number for all memory holds only where the page cache is left out. */
static bool uses_page_cache(const lsm_options *options)
{
    return strcmp(options->direct_io, "false") == 0 ||
           (strcmp(options->direct_io, "auto") == 0 && options->memory == 0);
}

static lsm_status open_steps(lsm_db *db, lsm_error *err)
{
    enum shm_attach_role role = SHM_ATTACH_FOUNDER;
    bool create = db->options.create && !db->options.read_only;
    lsm_status status =
        io_dir_open(db->io, db->path, create ? IO_DIR_CREATE : 0, 0700, &db->dir, err);
    if (status == LSM_OK)
        status = check_not_there(db, err);
    if (status == LSM_OK && db->options.read_only)
        status = enter_to_read(db, &role, err);
    else if (status == LSM_OK)
        status = db_lock_take_if_database(
            db, db->options.exclusive ? SHM_ATTACH_ALONE : SHM_ATTACH_SHARED, &role, err);
    if (status != LSM_OK)
        return status;
    uint64_t cache = cache_size(db);
    struct db_memory_parts parts;
    db_memory_parts(&db->options, &parts);
    atomic_init(&db->ahead_left, (int64_t)parts.ahead);
    db->tables = (struct table_env){
        .io = db->io,
        .dir = db->dir,
        .cache = block_cache_new(cache),
        .queues = io_queue_pool_new(db->io, DB_QUEUE_DEPTH, DB_KEPT_QUEUES),
        .ahead_left = db->options.memory > 0 ? &db->ahead_left : NULL,
        .mode = db->options.mode,
        .is_buffered = uses_page_cache(&db->options),
    };
    if (db->tables.cache == NULL || db->tables.queues == NULL)
        return lsm_fail_memory(err, cache);
    db_memory_lend(&db->options, db->tables.cache);
    db->magic = DB_MAGIC; /* what is done from here on is checked as a caller's calls are */
    status = role == SHM_ATTACH_JOINED ? join(db, err) : found(db, err);
    return status == LSM_OK ? start_threads(db, err) : status;
}

/* ---- open -------------------------------------------------------------------------------------
 */

static lsm_status open_held(struct io *io, bool owns_io, const char *path,
                            const lsm_options *options, lsm_db **opened, lsm_error *err)
{
    lsm_db *db = NULL;
    lsm_status status = db_handle_new(path, options, &db, err);
    if (db != NULL) {
        db->io = io;
        db->owns_io = owns_io;
    } else if (owns_io) {
        io_close(io);
    }
    if (status == LSM_OK)
        status = open_steps(db, err);
    if (status != LSM_OK) {
        if (db != NULL)
            db_abandon(db);
        return status;
    }
    *opened = db;
    if (err != NULL)
        *err = (lsm_error){0}; /* what was only looked for and not there is no error */
    return LSM_OK;
}

static lsm_status open_on(struct io *io, bool owns_io, const char *path, const lsm_options *options,
                          lsm_db **opened, lsm_error *err)
{
    int before = cancel_hold(); /* the threads that it makes are not to be cancelled either */
    lsm_status status = open_held(io, owns_io, path, options, opened, err);
    cancel_release(before);
    return status;
}

lsm_status db_check_path(const char *path, lsm_error *err)
{
    if (path == NULL || path[0] == '\0')
        return lsm_fail(err, LSM_INVALID, "the path of the database is empty");
    return LSM_OK;
}

lsm_status db_open_on(struct io *io, const char *path, const lsm_options *options, lsm_db **db,
                      lsm_error *err)
{
    lsm_status status = db_check_path(path, err);
    if (status == LSM_OK && db == NULL)
        status = lsm_fail(err, LSM_INVALID, "the place for the handle is NULL");
    return status == LSM_OK ? open_on(io, false, path, options, db, err) : status;
}

LSM_API lsm_status lsm_open(const char *path, const lsm_options *options, lsm_db **db,
                            lsm_error *err)
{
    lsm_status status = db_check_path(path, err);
    if (status == LSM_OK && db == NULL)
        status = lsm_fail(err, LSM_INVALID, "the place for the handle is NULL");
    lsm_options resolved;
    if (status == LSM_OK)
        status = db_options_resolve(options, &resolved, err);
    struct io *io = NULL;
    if (status == LSM_OK)
        status = io_open(resolved.io, &io, err);
    return status == LSM_OK ? open_on(io, true, path, options, db, err) : status;
}
