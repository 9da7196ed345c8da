/*
 * Opening, recovering, closing and removing a database.
 *
 * Open: lock the directory, read CURRENT and the manifest, make the segment, replay the log behind
 * the manifest's log position into memtables, then open the log for writing (which makes durable
 * what was found), and only then let anybody in. What replay put into more memtables than there are
 * arenas waits in private memory for its flush.
 *
 * Close: flush, then one manifest edit that says "clean, the log is empty from here on".
 */
#include "engine/db/open.h"

#include "engine/db/db_private.h"

#include "engine/base/cancel.h"
#include "engine/base/hash.h"
#include "engine/base/memory.h"
#include "engine/base/parse.h"
#include "engine/base/step.h"
#include "engine/format/file_name.h"

#include <stdio.h>
#include <unistd.h>

#define ATTACH_PATIENCE_MS 10000 /* longest wait for who opens or closes the database */
#define RECOVERY_DOUBLING                                                                          \
    8 /* memtables after which recovery makes the next ones twice as large                         \
       */

/* ---- what is there --------------------------------------------------------------------------- */

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
    if (kind == FILE_TABLE || kind == FILE_WAL || (kind == FILE_MANIFEST && !unfinished)) {
        c->has_data = true;
        snprintf(c->example, sizeof c->example, "%s", name);
    }
    return LSM_OK;
}

/* CURRENT is missing: is there a database that lost it, or none? */
static lsm_status check_absent(lsm_db *db, lsm_error *err)
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

/* ---- the lock -------------------------------------------------------------------------------- */

static lsm_status lock_take(lsm_db *db, enum shm_attach_mode how, enum shm_attach_role *role,
                            lsm_error *err)
{
    struct shm_attach_options options = {
        .io = db->io,
        .dir = db->dir,
        .path = db->path,
        .mode = db->options.mode,
        .how = how,
        .timeout_ms = how == SHM_ATTACH_ALONE ? IO_LOCK_PATIENCE_MS : ATTACH_PATIENCE_MS};
    return shm_attach_begin(&options, &db->attachment, role, err);
}

/* Leaves nothing that is shared behind; what cannot be removed now is removed by the next open. */
static void lock_free(lsm_db *db)
{
    bool is_last;
    if (db->is_leaving || shm_detach_begin(db->attachment, &is_last, NULL) == LSM_OK)
        shm_detach_end(db->attachment);
    else
        shm_attachment_abandon(db->attachment);
}

/* No LOCK is left behind in a directory that holds no database and shall not get one. */
static lsm_status lock_take_if_database(lsm_db *db, enum shm_attach_mode how,
                                        enum shm_attach_role *role, lsm_error *err)
{
    if (!db->options.create) {
        uint8_t uuid[TABLE_UUID_SIZE];
        uint64_t manifest_number;
        lsm_status status = version_read_current(db->io, db->dir, uuid, &manifest_number, err);
        if (status == LSM_MISSING)
            return check_absent(db, err);
    }
    return lock_take(db, how, role, err);
}

/* ---- the manifest ---------------------------------------------------------------------------- */

static struct version_options version_options_of(lsm_db *db)
{
    return (struct version_options){.env = &db->tables,
                                    .max_open_tables = db->options.max_open_tables,
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
    status = check_absent(db, err);
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

/* ---- shared memory --------------------------------------------------------------------------- */

static uint32_t processor_count(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    if (count < 1)
        return 1;
    return count < DB_MAX_COMPACTIONS ? (uint32_t)count : DB_MAX_COMPACTIONS;
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
                                  .memtable_count = SHM_MAX_MEMTABLES};
    memcpy(options.uuid, db->tables.uuid, sizeof options.uuid);
    lsm_status status = shm_attach_found(db->attachment, &options, err);
    if (status != LSM_OK)
        return status;
    db->segment = shm_attachment_segment(db->attachment);
    db->layout = shm_layout(db->segment);
    db->slot = &db->layout->slots[shm_attachment_slot(db->attachment)];
    db->layout->ctl.max_compactions =
        db->options.max_compactions == 0 ? processor_count() : db->options.max_compactions;
    return LSM_OK;
}

/* ---- recovery -------------------------------------------------------------------------------- */

static struct wal_options wal_options_of(lsm_db *db)
{
    struct wal_options options = {.io = db->io,
                                  .dir = db->dir,
                                  .layout = db->is_private ? NULL : db->layout,
                                  .stage_size = db->options.stage_size,
                                  .segment_size = db->options.wal_segment_size,
                                  .mode = db->options.mode};
    memcpy(options.uuid, db->tables.uuid, sizeof options.uuid);
    return options;
}

static size_t batch_room(const lsm_db *db, lsm_slice batch)
{
    struct batch_reader r = batch_read(batch);
    struct batch_entry entry;
    size_t room = 0;
    while (batch_next(&r, &entry))
        room += memtable_entry_room(db->active, entry.key.size, entry.value.size);
    return room;
}

/* A record that is larger than today's memtables gets a private one of its own size. */
static lsm_status replay_room(lsm_db *db, size_t room, lsm_error *err)
{
    if (memtable_has_room(db->active, room))
        return LSM_OK;
    /* A long log and small memtables: fewer, larger ones. */
    size_t size = db->arena_size << (db->recovered_count / RECOVERY_DOUBLING);
    while (size < MEMTABLE_MAX_ARENA / 2 && room > size / 4)
        size *= 2;
    return db_memtable_recover(db, size, err);
}

static lsm_status replay_record(void *context, uint64_t position, uint64_t end, uint64_t sequence,
                                lsm_slice batch, lsm_error *err)
{
    lsm_db *db = context;
    /* A memtable switch in between takes the log's end from here. */
    atomic_store(&db->layout->commit.staged, position);
    lsm_status status = LSM_OK;
    if (db->active == NULL)
        status = db_memtable_recover(db, db->arena_size, err);
    if (status == LSM_OK)
        status = replay_room(db, batch_room(db, batch), err);
    if (status != LSM_OK)
        return status;
    struct batch_reader r = batch_read(batch);
    struct batch_entry entry;
    while (batch_next(&r, &entry))
        memtable_insert(db->active, entry.cf, entry.key, hash_key(entry.key.data, entry.key.size),
                        entry_trailer(sequence, entry.type), entry.value);
    if (r.corrupt) {
        status = lsm_fail(err, LSM_CORRUPT,
                          "the log record at position %" PRIu64 " of '%s' fits its checksum but is "
                          "no batch",
                          position, db->path);
        status_place(err, db->path, position);
        return status;
    }
    atomic_store(&db->layout->commit.staged, end);
    /* An ingest, which is not in the log, may have had a higher one. */
    if (sequence > atomic_load(&db->layout->commit.applied_sequence))
        atomic_store(&db->layout->commit.applied_sequence, sequence);
    db->layout->commit.chain = 0; /* this record's is not told; wal_open() knows the last one's */
    return LSM_OK;
}

/*
 * Says in the manifest whether the log behind `position` is empty for good. A clean close says so,
 * which spares the next open the reading of the log; that open takes it back once it has begun a
 * segment and before it lets anybody write.
 */
static lsm_status mark_log(lsm_db *db, uint64_t position, uint64_t chain, bool clean,
                           lsm_error *err)
{
    struct version_edit edit = {
        .has_log = true, .log_position = position, .log_chain = chain, .clean = clean};
    version_set_last_sequence(db->versions, atomic_load(&db->layout->commit.applied_sequence));
    lsm_status status = db_edit_begin(db, err);
    if (status == LSM_OK) {
        status = version_set_apply(db->versions, &edit, err);
        db_edit_end(db);
    }
    edit_release(&edit);
    return status;
}

/* What the log held is behind, an arena in front. */
static lsm_status first_view(lsm_db *db, lsm_error *err)
{
    db_memtable_recovered(db);
    if (!db->options.read_only) {
        db_change_lock(db);
        db_place_publish_locked(db);
        db_change_unlock(db);
        return db_memtable_switch(db, err);
    }
    struct db_state *blank = db_state_new();
    if (blank == NULL)
        return lsm_fail_memory(err, sizeof *blank);
    db_state_publish(db, blank);
    return db_state_current(db) == NULL ? lsm_fail_memory(err, sizeof *blank) : LSM_OK;
}

static lsm_status recover(lsm_db *db, const struct version_state *state, bool is_new,
                          lsm_error *err)
{
    struct shm_commit *c = &db->layout->commit;
    struct wal_options options = wal_options_of(db);
    struct wal_end end = {.position = state->log_position};
    atomic_store(&c->staged, state->log_position);
    atomic_store(&c->applied_sequence, state->last_sequence);
    c->chain = state->log_chain;
    lsm_status status = LSM_OK;
    if (!is_new)
        status = wal_replay(&options, state->log_position, state->log_chain, state->clean,
                            replay_record, db, &end, err);
    STEP("recover: log read");
    if (status == LSM_OK && !db->options.read_only)
        status = wal_open(&options, &end, &db->wal, err);
    STEP("recover: log open");
    if (status == LSM_OK)
        status = first_view(db, err);
    STEP("recover: first view");
    if (status != LSM_OK)
        return status;
    if (!db->options.read_only && state->clean)
        status = mark_log(db, state->log_position, state->log_chain, false, err);
    STEP("recover: log marked");
    if (status != LSM_OK)
        return status;
    uint64_t last = atomic_load(&c->applied_sequence);
    atomic_store(&c->visible_sequence, last);
    version_set_last_sequence(db->versions, last);
    return LSM_OK;
}

/* ---- open ------------------------------------------------------------------------------------ */

static lsm_status handle_new(const char *path, const lsm_options *options, lsm_db **made,
                             lsm_error *err)
{
    lsm_db *db = mem_alloc_aligned(64, sizeof *db);
    if (db == NULL)
        return lsm_fail_memory(err, sizeof *db);
    memset(db, 0, sizeof *db);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&db->cf_lock, NULL);
    pthread_mutex_init(&db->snapshot_lock, NULL);
    pthread_mutex_init(&db->queue_lock, NULL);
    pthread_mutex_init(&db->work_lock, NULL);
    pthread_mutex_init(&db->view_lock, NULL);
    pthread_mutex_init(&db->arena_lock, NULL);
    db->pins.next = db->pins.previous = &db->pins;
    db->outputs.next = db->outputs.previous = &db->outputs;
    pthread_cond_init(&db->work_due, &monotonic);
    pthread_cond_init(&db->work_done, &monotonic);
    pthread_condattr_destroy(&monotonic);
    db->snapshots.next = db->snapshots.previous = &db->snapshots;
    db->snapshots.sequence = UINT64_MAX; /* no snapshot's */
    db_watch_forks();
    db->fork_count = db_fork_count();
    db->path = mem_copy_text(path);
    lsm_status status = db->path == NULL ? lsm_fail_memory(err, strlen(path)) : LSM_OK;
    if (status == LSM_OK)
        status = db_options_resolve(options, &db->options, err);
    if (status == LSM_OK && db->options.read_only && db->options.create)
        status = lsm_fail(err, LSM_INVALID, "a database cannot be created read only");
    db->arena_size = (size_t)db->options.memtable_size / 64 * 64;
    *made = db;
    return status;
}

/* Frees everything without writing anything. */
static void handle_free(lsm_db *db)
{
    struct io *io = db->owns_io ? db->io : NULL;
    if (db->layout != NULL)
        db_state_clear(db);
    if (db->slot != NULL)
        atomic_store(&db->slot->pin, 0); /* nothing here uses a version any more */
    db_cf_free_all(db);
    if (version_set_close(db->versions) && db->layout != NULL)
        db_orphans_expect(db);
    epoch_drain();
    block_cache_free(db->tables.cache);
    while (db->queue_count > 0)
        io_queue_close(db->queues[--db->queue_count]);
    if (db->attachment != NULL)
        lock_free(db);
    else
        mem_free(db->layout);
    io_dir_close(db->dir);
    io_close(io);
    pthread_mutex_destroy(&db->cf_lock);
    pthread_mutex_destroy(&db->snapshot_lock);
    pthread_mutex_destroy(&db->queue_lock);
    pthread_mutex_destroy(&db->work_lock);
    pthread_mutex_destroy(&db->view_lock);
    pthread_mutex_destroy(&db->arena_lock);
    pthread_cond_destroy(&db->work_due);
    pthread_cond_destroy(&db->work_done);
    mem_free(db->path);
    db_bury(db);
}

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
 */
static void leave_old_log(lsm_db *db)
{
    (void)db_flush_sealed(db, NULL);
}

/* ---- coming in ------------------------------------------------------------------------------- */

static lsm_status found(lsm_db *db, lsm_error *err)
{
    struct version_state state = {0};
    bool is_new = false;
    db->opening = true;
    lsm_status status = manifest_look(db, &is_new, err);
    if (status == LSM_OK)
        status = layout_make(db, err);
    if (status == LSM_OK)
        status = manifest_open(db, &state, is_new, err);
    if (status == LSM_OK)
        status = recover(db, &state, is_new, err);
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
    struct wal_options wal = wal_options_of(db);
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
    lsm_status status = db->options.read_only ? LSM_OK : join_log(db, err);
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
        status = lock_take(db, SHM_ATTACH_JOIN, role, err);
        if (status != LSM_MISSING) /* else they left in between */
            return status;
    }
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
        status = lock_take_if_database(
            db, db->options.exclusive ? SHM_ATTACH_ALONE : SHM_ATTACH_SHARED, &role, err);
    if (status != LSM_OK)
        return status;
    uint64_t cache = db->options.cache_size == LSM_NO_CACHE ? 0 : db->options.cache_size;
    db->tables = (struct table_env){
        .io = db->io, .dir = db->dir, .cache = block_cache_new(cache), .mode = db->options.mode};
    if (db->tables.cache == NULL)
        return lsm_fail_memory(err, cache);
    db->magic = DB_MAGIC; /* what is done from here on is checked as a caller's calls are */
    status = role == SHM_ATTACH_JOINED ? join(db, err) : found(db, err);
    return status == LSM_OK ? start_threads(db, err) : status;
}

static lsm_status open_held(struct io *io, bool owns_io, const char *path,
                            const lsm_options *options, lsm_db **opened, lsm_error *err)
{
    lsm_db *db = NULL;
    lsm_status status = handle_new(path, options, &db, err);
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

static lsm_status check_path(const char *path, lsm_error *err)
{
    if (path == NULL || path[0] == '\0')
        return lsm_fail(err, LSM_INVALID, "the path of the database is empty");
    return LSM_OK;
}

lsm_status db_open_on(struct io *io, const char *path, const lsm_options *options, lsm_db **db,
                      lsm_error *err)
{
    lsm_status status = check_path(path, err);
    if (status == LSM_OK && db == NULL)
        status = lsm_fail(err, LSM_INVALID, "the place for the handle is NULL");
    return status == LSM_OK ? open_on(io, false, path, options, db, err) : status;
}

LSM_API lsm_status lsm_open(const char *path, const lsm_options *options, lsm_db **db,
                            lsm_error *err)
{
    lsm_status status = check_path(path, err);
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

/* ---- close ----------------------------------------------------------------------------------- */

void db_abandon(lsm_db *db)
{
    db_keeper_stop(db);
    db_background_stop(db);
    db_log_writer_stop(db);
    wal_abandon(db->wal);
    db->wal = NULL;
    handle_free(db);
}

static lsm_status flush_all(lsm_db *db, lsm_error *err)
{
    lsm_status status = db_check_write(db, err);
    if (status == LSM_OK)
        status = db_seal_active(db, err);
    return status == LSM_OK ? db_flush_sealed(db, err) : status;
}

static lsm_status check_unused(lsm_db *db, lsm_error *err)
{
    uint32_t iterators = atomic_load(&db->iterator_count), pins = atomic_load(&db->pin_count);
    uint32_t ingests = atomic_load(&db->ingest_count);
    if (iterators > 0 || pins > 0 || ingests > 0 || db->snapshot_count > 0)
        return lsm_fail(err, LSM_BUSY,
                        "'%s' has %" PRIu32 " open iterators, %" PRIu32
                        " snapshots (of transactions, too), %" PRIu32 " pinned values and %" PRIu32
                        " ingests; release them before closing",
                        db->path, iterators, db->snapshot_count, pins, ingests);
    return LSM_OK;
}

/* The last one leaves nothing in the log. */
static lsm_status close_files(lsm_db *db, lsm_error *err)
{
    lsm_status status = flush_all(db, err);
    STEP("close: flushed");
    if (status == LSM_OK)
        status = mark_log(db, atomic_load(&db->layout->commit.staged), db->layout->commit.chain,
                          true, err);
    STEP("close: marked clean");
    lsm_status closed = wal_close(db->wal, status == LSM_OK, status == LSM_OK ? err : NULL);
    STEP("close: log closed");
    return status == LSM_OK ? closed : status;
}

/* From here on this thread does what is still to be done. */
static void stop_threads(lsm_db *db)
{
    db_keeper_stop(db);
    db_background_stop(db);
    db_log_writer_stop(db);
    db->options.workers = LSM_NO_WORKERS;
    atomic_store(&db->closing, false);
}

static lsm_status leave(lsm_db *db, lsm_error *err)
{
    bool is_last = false;
    STEP("close: begin");
    stop_threads(db);
    STEP("close: threads ended");
    lsm_status status = shm_detach_begin(db->attachment, &is_last, err);
    db->is_leaving = status == LSM_OK;
    /* The last one who only reads leaves to the next opening what writers that died, or left it
     * behind, did not put into tables: it is all in the log. */
    if (is_last && !db->options.read_only)
        status = close_files(db, err);
    else
        wal_detach(db->wal);
    db->wal = NULL;
    handle_free(db);
    return status;
}

static lsm_status close_handle(lsm_db *db, lsm_error *err)
{
    lsm_status status = db_check(db, err);
    if (status == LSM_OK)
        status = check_unused(db, err);
    if (status != LSM_OK)
        return status;
    if (db->is_private) {
        db_abandon(db);
        return LSM_OK;
    }
    return leave(db, err);
}

LSM_API lsm_status lsm_close(lsm_db *db, lsm_error *err)
{
    if (db == NULL)
        return LSM_OK;
    int before = cancel_hold(); /* it waits for threads that end */
    lsm_status status = close_handle(db, err);
    cancel_release(before);
    return status;
}

/* ---- destroy --------------------------------------------------------------------------------- */

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
    lsm_status status = check_path(path, err);
    if (status != LSM_OK)
        return status;
    status = handle_new(path, NULL, &db, err);
    if (db == NULL)
        return status;
    db->io = io;
    if (status == LSM_OK)
        status = io_dir_open(io, path, 0, 0, &db->dir, err);
    if (status == LSM_OK)
        status = lock_take_if_database(db, SHM_ATTACH_ALONE, &role, err);
    if (status == LSM_OK) {
        status = version_read_current(io, db->dir, db->tables.uuid, &manifest_number, err);
        if (status == LSM_CORRUPT || status == LSM_NEWER_FORMAT)
            status = LSM_OK; /* damaged databases are removed too */
    }
    if (status == LSM_OK)
        status = remove_files(db, err);
    bool removed = status == LSM_OK;
    handle_free(db);
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
    lsm_status status = check_path(path, err);
    if (status == LSM_OK)
        status = io_open("auto", &io, err);
    if (status == LSM_OK)
        status = db_destroy_on(io, path, err);
    io_close(io);
    return status;
}
