/*
 * Look, plan, do.
 *
 * Doing is in this order, each durable before the next begins: copies of what will be replaced, and
 * the record of how to take it back; corrected files, each by one rename; new tables and the new
 * log segment; the new manifest; CURRENT, by one rename; then what nobody names any more is
 * removed.
 */
#include "engine/repair/repair_private.h"
#include "engine/repair/undo.h"

#include "engine/base/cancel.h"
#include "engine/base/step.h"

#include <stdio.h>
#include <string.h>

#define ROUNDS 4u

/* ---- looking --------------------------------------------------------------------------------- */

static bool pace(void *context, uint64_t bytes)
{
    struct repair *r = context;
    r->bytes_done += bytes;
    return r->options->progress == NULL ||
           r->options->progress(r->options->context, r->bytes_done, 0);
}

#define PLANT_SUFFIX ".not-a-file"

/* A link, a FIFO or a folder in the place of a file. CURRENT is replaced by a rename, but no folder
 * can be. */
static bool is_planted(const struct walk_file *f)
{
    return f->name == WALK_NAME_OURS && !walk_file_is_plain(f) && f->kind != FILE_LOCK &&
           (f->kind != FILE_CURRENT || f->entry.kind == IO_ENTRY_DIRECTORY);
}

static lsm_status look_for_plants(struct repair *r, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < r->list.count; i++) {
        const struct walk_file *f = &r->list.files[i];
        if (!is_planted(f))
            continue;
        enum finding_id id =
            f->entry.kind == IO_ENTRY_SYMLINK ? FINDING_SYMLINK : FINDING_NOT_A_FILE;
        struct repair_step step = repair_step_of(REPAIR_PLANT, 0, id, f->text);
        char action[2 * FILE_NAME_SIZE];
        snprintf(action, sizeof action, "gets the name '%s%s'", f->text, PLANT_SUFFIX);
        status = repair_add_step(r, &step, finding_kind_of(id)->meaning, action, err);
    }
    return status;
}

/* It keeps what it is under a name that is none of the database's. */
static lsm_status put_plants_aside(struct repair *r, lsm_error *err)
{
    lsm_status status = LSM_OK;
    bool any = false;
    for (size_t i = 0; status == LSM_OK && i < r->list.count; i++) {
        char aside[IO_NAME_MAX];
        const struct walk_file *f = &r->list.files[i];
        if (!is_planted(f))
            continue;
        snprintf(aside, sizeof aside, "%s%s", f->text, PLANT_SUFFIX);
        status = io_dir_rename(r->dir, f->text, aside, err);
        STEP("repair: plant renamed");
        any = true;
    }
    return status == LSM_OK && any ? io_dir_sync(r->dir, err) : status;
}

static lsm_status look(struct repair *r, lsm_error *err)
{
    lsm_status status = walk_dir_read(r->dir, &r->list, err);
    if (status == LSM_OK)
        status = repair_identify(r, err);
    if (status == LSM_OK)
        status = repair_find_displaced(r, err);
    if (status == LSM_OK)
        status = repair_read_manifests(r, err);
    if (status == LSM_OK)
        status = repair_look_at_log(r, err);
    if (status == LSM_OK)
        status = repair_look_at_tables(r, err);
    if (status == LSM_OK)
        status = look_for_plants(r, err);
    if (r->state.snapshot.next_file_number > r->next_number)
        r->next_number = r->state.snapshot.next_file_number;
    return status;
}

/* ---- doing ----------------------------------------------------------------------------------- */

static void keep_release(struct repair_kept *k)
{
    for (size_t i = 0; i < k->count; i++)
        mem_free(k->names[i]);
    mem_free(k->names);
}

static lsm_status keep(struct repair *r, enum file_kind kind, uint64_t number, lsm_error *err)
{
    struct repair_kept *k = &r->kept;
    char name[FILE_NAME_SIZE];
    file_name_make(kind, number, name);
    const struct walk_file *f = walk_dir_find(&r->list, kind, number);
    /* What an earlier round made is not kept. */
    bool is_own = r->round > 0 &&
                  ((kind == FILE_WAL && number >= k->first_segment) ||
                   ((kind == FILE_TABLE || kind == FILE_MANIFEST) && number >= k->first_file) ||
                   (kind == FILE_CURRENT && !k->had_current));
    if (f == NULL || !walk_file_is_plain(f) || is_own)
        return LSM_OK;
    for (size_t i = 0; i < k->count; i++) {
        if (strcmp(k->names[i], name) == 0)
            return LSM_OK;
    }
    if (k->count == k->room) {
        size_t room = k->room == 0 ? 16 : 2 * k->room;
        char **grown = mem_resize(k->names, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        k->names = grown;
        k->room = room;
    }
    k->names[k->count] = mem_copy_text(name);
    if (k->names[k->count] == NULL)
        return lsm_fail_memory(err, sizeof name);
    k->count++;
    return repair_keep_file(r, name, err);
}

static bool is_segment(const struct walk_file *f)
{
    return f->name == WALK_NAME_OURS && f->kind == FILE_WAL;
}

/* After a rebuild none of those that were there is worth keeping as the generation before. */
static bool is_useless_manifest(const struct repair *r, const struct walk_file *f)
{
    return r->state.is_rebuilt && f->name == WALK_NAME_OURS && f->kind == FILE_MANIFEST &&
           walk_file_is_plain(f);
}

/* Copies of all that will be replaced or removed. */
static lsm_status keep_all(struct repair *r, lsm_error *err)
{
    bool commits = repair_needs_commit(r);
    lsm_status status = commits ? keep(r, FILE_CURRENT, 0, err) : LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < r->patch_count; i++) {
        if (repair_patch_counts(r, &r->patches[i]))
            status = keep(r, r->patches[i].kind, r->patches[i].file, err);
    }
    for (size_t i = 0; status == LSM_OK && i < r->state.snapshot.added_count; i++) {
        if (repair_table_goes(&r->tables[i]))
            status = keep(r, FILE_TABLE, r->tables[i].meta.number, err);
    }
    for (size_t i = 0; status == LSM_OK && i < r->list.count; i++) {
        const struct walk_file *f = &r->list.files[i];
        if ((is_segment(f) && !repair_leaves_log(r)) || is_useless_manifest(r, f))
            status = keep(r, f->kind, f->number, err);
    }
    if (status == LSM_OK && !repair_leaves_log(r))
        status = keep(r, FILE_STAGE, 0, err);
    return status;
}

/* What CURRENT will be. */
static size_t current_after(struct repair *r, uint64_t manifest, char text[CURRENT_MAX_SIZE])
{
    return current_encode(r->env.uuid, repair_needs_commit(r) ? manifest : r->current_names, text);
}

static lsm_status write_tables(struct repair *r, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < r->state.snapshot.added_count; i++) {
        if (r->tables[i].fate == TABLE_REWRITTEN && !r->tables[i].is_refused)
            status = repair_salvage_table(r, i, err);
    }
    if (status == LSM_OK && !repair_leaves_log(r))
        status = repair_salvage_log(r, err);
    if (status == LSM_OK && !repair_leaves_log(r))
        status = repair_begin_log(r, r->log.highest_position, err);
    if (status == LSM_OK)
        status = repair_settle(r, err);
    if (status == LSM_OK)
        status = io_dir_sync(r->dir, err);
    return status;
}

/* What stays in the way goes at last; there are copies of all of it. */
static lsm_status remove_old(struct repair *r, lsm_error *err)
{
    lsm_status status = LSM_OK;
    char name[FILE_NAME_SIZE];
    for (size_t i = 0; status == LSM_OK && i < r->state.snapshot.added_count; i++) {
        const struct repair_table *t = &r->tables[i];
        const struct walk_file *f = walk_dir_find(&r->list, FILE_TABLE, t->meta.number);
        if (!repair_table_goes(t) || f == NULL || !walk_file_is_plain(f))
            continue;
        status = io_dir_unlink(r->dir, file_name_make(FILE_TABLE, t->meta.number, name), NULL, err);
        STEP("repair: old table removed");
    }
    for (size_t i = 0; status == LSM_OK && i < r->list.count; i++) {
        const struct walk_file *f = &r->list.files[i];
        bool is_old_log = is_segment(f) && walk_file_is_plain(f) && !repair_leaves_log(r);
        if (!is_old_log && !is_useless_manifest(r, f))
            continue;
        status = io_dir_unlink(r->dir, f->text, NULL, err);
        STEP("repair: old file removed");
    }
    if (status == LSM_OK && r->stage_is_bad && !repair_leaves_log(r))
        status = io_dir_unlink(r->dir, "STAGE", NULL, err);
    return status == LSM_OK ? io_dir_sync(r->dir, err) : status;
}

/* It failed, or was cancelled: what nobody names yet goes again, as far as it can. */
static void discard_new(struct repair *r, uint64_t manifest)
{
    char name[FILE_NAME_SIZE];
    (void)io_dir_unlink(r->dir, file_name_make(FILE_MANIFEST, manifest, name), NULL, NULL);
    (void)io_dir_unlink(r->dir, file_name_make(FILE_TEMPORARY, manifest, name), NULL, NULL);
    for (size_t i = 0; i < r->made.added_count; i++)
        (void)io_dir_unlink(r->dir, file_name_make(FILE_TABLE, r->made.added[i].number, name), NULL,
                            NULL);
    if (!repair_leaves_log(r))
        (void)io_dir_unlink(r->dir, file_name_make(FILE_WAL, r->log.next_segment, name), NULL,
                            NULL);
}

static lsm_status begin_place(struct repair *r, lsm_error *err)
{
    lsm_status status = repair_make_place(r, err);
    r->kept.had_current = r->has_current;
    r->kept.first_file = r->next_number;
    r->kept.first_segment = r->log.next_segment == 0 ? UINT64_MAX : r->log.next_segment;
    if (status == LSM_OK)
        repair_tell(r, "what is replaced goes to '%s'", r->lost_path);
    return status;
}

static lsm_status do_all(struct repair *r, lsm_error *err)
{
    char current[CURRENT_MAX_SIZE];
    uint64_t manifest = r->next_number;
    bool commits = repair_needs_commit(r);
    size_t size = current_after(r, manifest, current);
    lsm_status status = r->round == 0 ? begin_place(r, err) : LSM_OK;
    if (status == LSM_OK)
        status = keep_all(r, err);
    STEP("repair: copies made");
    if (status == LSM_OK)
        status = undo_write(r, (lsm_slice){current, size}, err);
    r->is_in_force = false;
    r->next_number = manifest + 1;
    if (status == LSM_OK)
        status = put_plants_aside(r, err);
    if (status == LSM_OK)
        status = repair_put_patches(r, err);
    if (status == LSM_OK && commits)
        status = write_tables(r, err);
    if (status == LSM_OK && commits)
        status = repair_commit(r, manifest, err);
    if (status != LSM_OK && commits && !r->is_in_force)
        discard_new(r, manifest);
    if (status == LSM_OK && commits)
        status = remove_old(r, err);
    STEP("repair: done");
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Empties what looking fills; what was done and told stays. What the files contradicted each other
 * in was of those that were there before. */
static void repair_forget(struct repair *r)
{
    struct repair kept = *r;
    *r = (struct repair){.path = kept.path,
                         .options = kept.options,
                         .io = kept.io,
                         .dir = kept.dir,
                         .lock_file = kept.lock_file,
                         .locks = {kept.locks[0], kept.locks[1]},
                         .result = kept.result,
                         .walk = kept.walk,
                         .env = kept.env,
                         .lost = kept.lost,
                         .bytes_done = kept.bytes_done,
                         .round = kept.round,
                         .suspects = kept.suspects,
                         .kept = kept.kept};
    memcpy(r->lost_path, kept.lost_path, sizeof r->lost_path);
    r->result.table_count = 0; /* counted anew */
}

/* What one look found. */
static void found_release(struct repair *r)
{
    repair_plan_release(r);
    walk_dir_release(&r->list);
    edit_release(&r->state.snapshot);
    edit_release(&r->state.gone);
    buffer_release(&r->state.unbounded);
    buffer_release(&r->displaced);
    edit_release(&r->made);
    mem_free(r->tables);
}

/* The log lacks its beginning. When the manifest is an old one, or lost its last edits, tables may
 * hold what is missing: they are asked themselves. */
static lsm_status look_twice(struct repair *r, lsm_error *err)
{
    lsm_repair_result before = r->result;
    lsm_status status = look(r, err);
    if (status != LSM_OK || !r->log_has_hole || r->state.is_rebuilt || r->options->manifest != 0)
        return status;
    struct repair_contradiction *contradictions = r->contradictions;
    size_t count = r->contradiction_count;
    r->contradictions = NULL; /* they are of the same files */
    found_release(r);
    repair_forget(r);
    r->contradictions = contradictions;
    r->contradiction_count = r->contradiction_room = count;
    r->distrusts_manifest = true;
    r->result = before;
    return look(r, err);
}

/*
 * Behind a damaged index or footer there may be damage that shows only when that is corrected, so
 * it looks again after it did something, and goes on until nothing is left that it can do.
 */
static lsm_status look_and_do(struct repair *r, lsm_error *err)
{
    lsm_status status = LSM_OK;
    bool is_refused = false;
    for (; status == LSM_OK && !is_refused && r->round < ROUNDS; r->round++) {
        status = look_twice(r, err);
        if (status == LSM_OK)
            status = repair_show_plan(r, err);
        if (status != LSM_OK || r->step_count == 0)
            return status;
        if (r->options->dry_run) {
            r->result.is_damage_left = true;
            return LSM_OK;
        }
        status = do_all(r, err);
        is_refused = r->result.is_damage_left;
        if (status != LSM_OK || r->options->salvage_blocks || r->options->rebuild_manifest ||
            r->options->manifest != 0 || r->options->log == LSM_REPAIR_LOG_NONE)
            return status; /* asked for once */
        if (is_refused || r->round + 1 == ROUNDS)
            break;
        found_release(r);
        repair_forget(r);
    }
    return status;
}

static void repair_release(struct repair *r)
{
    found_release(r);
    keep_release(&r->kept);
    buffer_release(&r->suspects);
    block_cache_free(r->env.cache);
    io_dir_close(r->lost);
}

/*
 * Nobody has the database open, nor can anybody open it: the bytes of LOCK that mean so are held,
 * while its page, which is for processes that share memory, stays as it is.
 */
static lsm_status take_lock(struct repair *r, bool writes, lsm_error *err)
{
    /* It names who is there. */
    lsm_status status = shm_attach_look(r->io, r->dir, r->path, err);
    if (status != LSM_OK || !writes)
        return status;
    status = io_file_open(r->dir, "LOCK", IO_FILE_WRITE | IO_FILE_CREATE, 0, &r->lock_file, err);
    if (status == LSM_OK)
        status = io_lock(r->lock_file, SHM_LOCK_ATTACH, &r->locks[0], err);
    if (status == LSM_OK)
        status = io_lock(r->lock_file, SHM_LOCK_PRESENCE, &r->locks[1], err);
    return status;
}

static void free_lock(struct repair *r)
{
    io_unlock(r->locks[1]);
    io_unlock(r->locks[0]);
    io_file_close(r->lock_file);
    r->locks[0] = r->locks[1] = NULL;
    r->lock_file = NULL;
}

/* No LOCK is made in a directory that holds nothing of a database. */
static lsm_status check_is_database(struct repair *r, lsm_error *err)
{
    struct walk_dir list = {0};
    lsm_status status = walk_dir_read(r->dir, &list, err);
    bool is_database = false;
    for (size_t i = 0; status == LSM_OK && i < list.count; i++)
        is_database = is_database ||
                      (list.files[i].name == WALK_NAME_OURS && list.files[i].kind != FILE_LOCK);
    walk_dir_release(&list);
    if (status == LSM_OK && !is_database)
        status = lsm_fail(err, LSM_MISSING, "there is no database in '%s'", r->path);
    return status;
}

static lsm_status prepare(struct repair *r, bool writes, lsm_error *err)
{
    struct io_entry self;
    lsm_status status = io_dir_open(r->io, r->path, 0, 0, &r->dir, err);
    if (status == LSM_OK)
        status = check_is_database(r, err);
    if (status == LSM_OK)
        status = take_lock(r, writes, err);
    if (status != LSM_OK)
        return status;
    r->walk = (struct walk_env){
        .io = r->io, .dir = r->dir, .memory_limit = REPAIR_MEMORY, .pace = pace, .pace_context = r};
    r->env = (struct table_env){.io = r->io, .dir = r->dir, .cache = block_cache_new(0)};
    if (r->env.cache == NULL)
        return lsm_fail_memory(err, 0);
    /* New files get the permissions of those that are there. */
    if (io_dir_describe(r->dir, "LOCK", &self, NULL) == LSM_OK)
        r->env.mode = self.mode & 0666;
    return LSM_OK;
}

/* ---- a copy ---------------------------------------------------------------------------------- */

static lsm_status count_entry(void *context, const char *name, lsm_error *err)
{
    (void)name, (void)err;
    ++*(size_t *)context;
    return LSM_OK;
}

/* Copies the database to options->to. CURRENT comes last: until then the copy is none. */
static lsm_status copy_database(struct repair *r, lsm_error *err)
{
    struct io_dir *to = NULL;
    struct walk_dir list = {0};
    size_t entries = 0;
    lsm_status status = io_dir_open(r->io, r->options->to, IO_DIR_CREATE, 0, &to, err);
    if (status == LSM_OK)
        status = io_dir_list(to, count_entry, &entries, err);
    if (status == LSM_OK && entries > 0)
        status = lsm_fail(err, LSM_EXISTS, "'%s' is not empty", r->options->to);
    if (status == LSM_OK)
        status = walk_dir_read(r->dir, &list, err);
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; status == LSM_OK && i < list.count; i++) {
            const struct walk_file *f = &list.files[i];
            bool is_wanted = f->name == WALK_NAME_OURS && walk_file_is_plain(f) &&
                             f->kind != FILE_LOCK && f->kind != FILE_TEMPORARY &&
                             f->kind != FILE_WAL_SPARE && (f->kind == FILE_CURRENT) == (round == 1);
            if (is_wanted)
                status = repair_copy_file(r, r->dir, f->text, to, f->text, NULL, err);
        }
    }
    if (status == LSM_OK)
        status = io_dir_sync(to, err);
    walk_dir_release(&list);
    io_dir_close(to);
    return status;
}

/* ---- the door -------------------------------------------------------------------------------- */

static lsm_status run(struct repair *r, bool writes, lsm_error *err)
{
    lsm_status status = repair_find_contradictions(r, err);
    if (status == LSM_OK)
        status = prepare(r, writes, err);
    if (status == LSM_OK)
        status = look_and_do(r, err);
    return status;
}

static void finish(struct repair *r)
{
    repair_release(r);
    free_lock(r);
    io_dir_close(r->dir);
    r->dir = NULL;
}

/* The original is only read; the copy is then repaired like any other database. */
static lsm_status run_on_copy(struct repair *r, lsm_error *err)
{
    lsm_status status = io_dir_open(r->io, r->path, 0, 0, &r->dir, err);
    if (status == LSM_OK)
        status = check_is_database(r, err);
    if (status == LSM_OK)
        status = take_lock(r, false, err);
    if (status == LSM_OK)
        status = copy_database(r, err);
    io_dir_close(r->dir);
    r->dir = NULL;
    r->path = r->options->to;
    if (status == LSM_OK)
        status = run(r, true, err);
    r->result.is_changed = status == LSM_OK || r->result.is_changed;
    return status;
}

static lsm_status check_options(const char *path, const lsm_repair_options *o, lsm_error *err)
{
    if (path == NULL || path[0] == '\0')
        return lsm_fail(err, LSM_INVALID, "the path of the database is empty");
    if (o->struct_size != sizeof *o)
        return lsm_fail(err, LSM_INVALID, "lsm_repair_options has %zu bytes, %zu are known",
                        o->struct_size, sizeof *o);
    if ((unsigned)o->log > LSM_REPAIR_LOG_NONE)
        return lsm_fail(err, LSM_INVALID, "there is no way %u to treat the log", (unsigned)o->log);
    return LSM_OK;
}

static lsm_status repair_held(const char *path, const lsm_repair_options *options,
                              lsm_repair_result *result, lsm_error *err)
{
    static const lsm_repair_options defaults = LSM_REPAIR_OPTIONS_INIT;
    const lsm_repair_options *o = options == NULL ? &defaults : options;
    struct repair r = {.path = path, .options = o, .result = LSM_REPAIR_RESULT_INIT};
    lsm_status status = check_options(path, o, err);
    if (status == LSM_OK)
        status = io_open(o->io == NULL ? "auto" : o->io, &r.io, err);
    if (status != LSM_OK)
        return status;
    status = o->to != NULL && !o->dry_run ? run_on_copy(&r, err) : run(&r, !o->dry_run, err);
    if (status != LSM_OK && r.step_count > 0)
        r.result.is_damage_left = true;
    finish(&r);
    io_close(r.io);
    if (result != NULL)
        *result = r.result;
    if (status == LSM_OK && err != NULL)
        *err = (lsm_error){0};
    return status;
}

LSM_API lsm_status lsm_repair(const char *path, const lsm_repair_options *options,
                              lsm_repair_result *result, lsm_error *err)
{
    int before = cancel_hold();
    lsm_status status = repair_held(path, options, result, err);
    cancel_release(before);
    return status;
}

static lsm_status undo_held(const char *path, const char *record, bool force, lsm_error *err)
{
    static const lsm_repair_options defaults = LSM_REPAIR_OPTIONS_INIT;
    struct repair r = {.path = path, .options = &defaults};
    lsm_status status = check_options(path, &defaults, err);
    if (status == LSM_OK)
        status = io_open("auto", &r.io, err);
    if (status != LSM_OK)
        return status;
    status = prepare(&r, true, err);
    if (status == LSM_OK)
        status = walk_dir_read(r.dir, &r.list, err);
    if (status == LSM_OK)
        status = undo_run(&r, record, force, err);
    finish(&r);
    io_close(r.io);
    if (status == LSM_OK && err != NULL)
        *err = (lsm_error){0};
    return status;
}

LSM_API lsm_status lsm_repair_undo(const char *path, const char *record, bool force, lsm_error *err)
{
    int before = cancel_hold();
    lsm_status status = undo_held(path, record, force, err);
    cancel_release(before);
    return status;
}
