/*
 * A checkpoint: the state of one moment as a database of its own, while others write.
 *
 * Tables and blob files never change, so those of the current version become the checkpoint's by a
 * second name.
 * What is in memtables is written to tables of the checkpoint's own, numbered by the counter of
 * all, so that no log is needed: log segments and the stage file are written in place and could not
 * be shared. The manifest is one snapshot and says that the database was closed cleanly.
 *
 * Which moment. The state and the newest visible sequence number are taken together, while nobody
 * commits: all writes up to that number are in the state, and so are the families that they went
 * to. Were an ingest to come between, its tables could be merged away with all that they delete,
 * and the state would lack that and the number would not tell. What is above the number in the
 * state's memtables is left out: it waits for its sync. A table may hold such a write, flushed
 * while it waited; then the last number in tables is the moment, for all that was written before it
 * is in tables or in the state's memtables, and their families are in the version that has the
 * table.
 *
 * The database's uuid stays, and so do the numbers of files: both seed every checksum.
 */
#include "engine/db/checkpoint_private.h"
#include "engine/db/db_private.h"

#include "engine/base/cancel.h"
#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/file_name.h"
#include "engine/version/manifest.h"

#define COPY_STEP       (UINT64_C(8) << 20) /* bytes between two looks whether to go on */
#define PERMISSION_BITS 0777u

struct checkpoint {
    lsm_db *db;
    lsm_checkpoint_options options;
    struct checkpoint_place place;
    struct table_env tables; /* in the new directory */
    struct db_pin pin;
    struct version *version; /* held, and pinned */
    uint64_t sequence;       /* of the moment */
    struct version_edit edit;
    uint64_t bytes_done, bytes_total;
};

/* ---- progress -------------------------------------------------------------------------------- */

static bool tell(const struct checkpoint *c, uint64_t more)
{
    uint64_t done = c->bytes_done + more;
    return c->options.progress == NULL ||
           c->options.progress(c->options.progress_context,
                               done < c->bytes_total ? done : c->bytes_total, c->bytes_total);
}

static lsm_status advance(struct checkpoint *c, uint64_t bytes, lsm_error *err)
{
    c->bytes_done += bytes;
    if (tell(c, 0))
        return LSM_OK;
    return lsm_fail(err, LSM_CANCELLED, "the caller cancelled a checkpoint of '%s'", c->db->path);
}

static bool flush_progress(void *context, uint64_t bytes_done)
{
    (void)bytes_done; /* counts what was in the memtables at the end */
    return tell(context, 0);
}

/* ---- the moment ------------------------------------------------------------------------------ */

static uint64_t last_in_tables(const struct version *version, uint64_t *bytes)
{
    uint64_t last = 0;
    for (size_t i = 0; i < version->family_count; i++) {
        for (size_t k = 0; k < VERSION_LEVELS; k++) {
            const struct version_level *level = &version->families[i]->levels[k];
            *bytes += level->bytes;
            for (size_t f = 0; f < level->count; f++) {
                uint64_t max = level->files[f]->meta.max_sequence;
                last = max > last ? max : last;
            }
        }
    }
    for (size_t i = 0; i < version->blob_count; i++)
        *bytes += version->blobs[i].meta.size;
    return last;
}

/* Writes what the state's memtables hold to tables of the checkpoint. */
static lsm_status write_memtables(struct checkpoint *c, const struct db_state *state,
                                  lsm_error *err)
{
    struct memtable *memtables[DB_MAX_MEMTABLES];
    size_t count = state->memtable_count;
    for (size_t i = 0; i < count; i++) /* oldest first */
        memtables[i] = state->memtables[count - 1 - i]->table;
    struct compact_env env = {.tables = &c->tables,
                              .set = c->db->versions,
                              .in_haste = true,
                              .limit_sequence = c->sequence + 1,
                              .progress = flush_progress,
                              .progress_context = c};
    struct compact_result result = {0};
    return compact_flush(&env, state->version, memtables, count, &c->sequence, 1, &c->edit, &result,
                         err);
}

/* Nobody commits meanwhile. What a dead process began to commit is left to who writes next: it was
 * not acknowledged. */
static lsm_status take_moment_locked(lsm_db *db, struct db_state **state, uint64_t *visible,
                                     lsm_error *err)
{
    lsm_status status = db_refresh(db, err);
    if (status != LSM_OK)
        return status;
    *state = db_state_acquire(db);
    db_advance_visible(db); /* who committed last may not have come to it */
    *visible = atomic_load_explicit(&db->layout->commit.visible_sequence, memory_order_acquire);
    STEP("checkpoint: number read");
    return LSM_OK;
}

static lsm_status take_moment(lsm_db *db, struct db_state **state, uint64_t *visible,
                              lsm_error *err)
{
    lsm_status status = db_refresh(db, err); /* most of it before others have to wait */
    STEP("checkpoint: refreshed");
    if (status != LSM_OK)
        return status;
    if (db->is_private) /* there are no others */
        return take_moment_locked(db, state, visible, err);
    db_append_hold(db);
    STEP("checkpoint: commits held");
    status = take_moment_locked(db, state, visible, err);
    shm_unlock(&db->layout->locks.append);
    return status;
}

/* The version stays until the end; the memtables only until they are written, for writers need
 * their arenas. */
static lsm_status take_state(struct checkpoint *c, lsm_error *err)
{
    lsm_db *db = c->db;
    struct db_state *state = NULL;
    uint64_t visible = 0;
    lsm_status status = take_moment(db, &state, &visible, err);
    if (status != LSM_OK)
        return status;
    STEP("checkpoint: state taken");
    uint64_t last = last_in_tables(state->version, &c->bytes_total), memtable_bytes = 0;
    c->sequence = visible > last ? visible : last;
    c->version = state->version;
    version_keep(c->version);
    db_pin_add(db, &c->pin, c->version->number);
    STEP("checkpoint: pinned");
    for (size_t i = 0; i < state->memtable_count; i++)
        memtable_bytes += memtable_bytes_used(state->memtables[i]->table);
    c->bytes_total += memtable_bytes;
    status = write_memtables(c, state, err);
    db_state_drop(state);
    STEP("checkpoint: memtables written");
    return status == LSM_OK ? advance(c, memtable_bytes, err) : status;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static lsm_status copy_bytes(struct checkpoint *c, struct io_file *from, struct io_file *to,
                             uint64_t size, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (uint64_t at = 0; status == LSM_OK && at < size;) {
        uint64_t step = size - at < COPY_STEP ? size - at : COPY_STEP;
        status = io_file_copy(from, to, at, step, err);
        if (status == LSM_OK)
            status = advance(c, step, err);
        at += step;
    }
    return status == LSM_OK ? io_file_sync(to, err) : status;
}

static lsm_status copy_file(struct checkpoint *c, const char *name, uint64_t size, lsm_error *err)
{
    struct io_file *from = NULL, *to = NULL;
    struct io_entry entry;
    lsm_status status = io_file_open(c->db->dir, name, 0, 0, &from, err);
    if (status == LSM_OK)
        status = io_dir_describe(c->db->dir, name, &entry, err);
    if (status == LSM_OK)
        status = io_file_open(c->place.dir, name, IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_NEW,
                              entry.mode & PERMISSION_BITS, &to, err);
    if (status == LSM_OK)
        status = copy_bytes(c, from, to, size, err);
    io_file_close(to);
    io_file_close(from);
    STEP("checkpoint: a file copied");
    return status;
}

/* A file that never changes, of `size` bytes. */
static lsm_status take_file(struct checkpoint *c, enum file_kind kind, uint64_t number,
                            uint64_t size, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    file_name_make(kind, number, name);
    if (c->options.copy)
        return copy_file(c, name, size, err);
    lsm_status status = io_dir_link(c->db->dir, name, c->place.dir, err);
    STEP("checkpoint: a file linked");
    if (status == LSM_UNSUPPORTED)
        return copy_file(c, name, size, err);
    return status == LSM_OK ? advance(c, size, err) : status;
}

static lsm_status take_tables(struct checkpoint *c, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < c->version->family_count; i++) {
        for (size_t k = 0; k < VERSION_LEVELS; k++) {
            const struct version_level *level = &c->version->families[i]->levels[k];
            for (size_t f = 0; status == LSM_OK && f < level->count; f++) {
                const struct table_meta *meta = &level->files[f]->meta;
                status = take_file(c, FILE_TABLE, meta->number, meta->size, err);
            }
        }
    }
    for (size_t i = 0; status == LSM_OK && i < c->version->blob_count; i++) {
        const struct blob_meta *meta = &c->version->blobs[i].meta;
        status = take_file(c, FILE_BLOB, meta->number, meta->size, err);
    }
    return status;
}

/* ---- the manifest ---------------------------------------------------------------------------- */

static uint32_t next_cf(const struct version *version)
{
    uint32_t next = 1;
    for (size_t i = 0; i < version->family_count; i++) {
        if (version->families[i]->id >= next)
            next = version->families[i]->id + 1;
    }
    return next;
}

static lsm_status write_manifest(struct checkpoint *c, lsm_error *err)
{
    struct manifest manifest = {0};
    bool is_broken, is_uncertain;
    uint64_t number = version_new_file_number(c->db->versions);
    struct version_state state = {.clean = true,
                                  .last_sequence = c->sequence,
                                  .next_file_number = number + 1,
                                  .next_cf = next_cf(c->version)};
    lsm_status status = manifest_create(&c->tables, number, 1, c->version, &state, &manifest, err);
    if (status == LSM_OK && c->edit.added_count > 0)
        status = manifest_append(&manifest, &c->edit, &is_broken, err);
    if (status == LSM_OK)
        status = manifest_put_in_force(&c->tables, number, &is_uncertain, err);
    manifest_close(&manifest);
    return status;
}

/* ---- the call -------------------------------------------------------------------------------- */

static lsm_status make(struct checkpoint *c, const char *path, lsm_error *err)
{
    lsm_db *db = c->db;
    struct io_entry self;
    lsm_status status = io_dir_describe(db->dir, NULL, &self, err);
    if (status == LSM_OK)
        status = checkpoint_place_open(&c->place, db->io, path, self.mode & PERMISSION_BITS, err);
    if (status != LSM_OK)
        return status;
    c->tables = db->tables;
    c->tables.dir = c->place.dir;
    status = take_state(c, err);
    if (status == LSM_OK)
        status = take_tables(c, err);
    if (status == LSM_OK)
        status = write_manifest(c, err);
    return status == LSM_OK ? checkpoint_place_finish(&c->place, err) : status;
}

static lsm_status check_options(const lsm_checkpoint_options *given,
                                lsm_checkpoint_options *options, lsm_error *err)
{
    *options = (lsm_checkpoint_options)LSM_CHECKPOINT_OPTIONS_INIT;
    if (given == NULL)
        return LSM_OK;
    if (given->struct_size != sizeof *given)
        return lsm_fail(err, LSM_INVALID,
                        "lsm_checkpoint_options.struct_size is %zu, expected %zu; begin with "
                        "LSM_CHECKPOINT_OPTIONS_INIT",
                        given->struct_size, sizeof *given);
    *options = *given;
    return LSM_OK;
}

LSM_API lsm_status lsm_checkpoint(lsm_db *db, const char *path,
                                  const lsm_checkpoint_options *options, lsm_error *err)
{
    struct checkpoint c = {.db = db};
    lsm_status status = db_check(db, err);
    if (status == LSM_OK && (path == NULL || path[0] == '\0'))
        status = lsm_fail(err, LSM_INVALID, "the path of the checkpoint is empty");
    if (status == LSM_OK)
        status = check_options(options, &c.options, err);
    if (status != LSM_OK)
        return status;
    int before = cancel_hold();
    atomic_fetch_add(&db->checkpoint_count, 1);
    status = make(&c, path, err);
    checkpoint_place_close(&c.place);
    if (c.version != NULL) {
        db_pin_remove(db, &c.pin);
        version_drop(c.version);
    }
    edit_release(&c.edit);
    atomic_fetch_sub(&db->checkpoint_count, 1);
    cancel_release(before);
    return status;
}
