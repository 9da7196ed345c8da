/*
 * The door: who may, how often, and on what: rounds of looking and doing, on the database, on a
 * copy, or first on a draft of it that shows what all rounds would do.
 */
#include "engine/repair/repair_private.h"
#include "engine/repair/undo.h"

#include "engine/base/cancel.h"
#include "engine/io/draft.h"

#include <stdio.h>
#include <string.h>

#define ROUNDS       8u
#define DRAFT_MEMORY ((size_t)1 << 30) /* of files that a rehearsal makes */

static bool pace(void *context, uint64_t bytes)
{
    struct repair *r = context;
    r->bytes_done += bytes;
    return r->options->progress == NULL ||
           r->options->progress(r->options->context, r->bytes_done, 0);
}

/* ---- rounds ---------------------------------------------------------------------------------- */

/* What was asked for whether or not it is needed is done by now, and not in each round again. */
static void ask_no_more(struct repair *r)
{
    r->later = *r->options;
    r->later.salvage_blocks = r->later.rebuild_manifest = false;
    r->later.manifest = 0;
    if (r->later.log == LSM_REPAIR_LOG_NONE)
        r->later.log = LSM_REPAIR_LOG_SKIP;
    r->options = &r->later;
}

/* Something was left out; another look would find it again. */
static bool is_refused(const struct repair *r)
{
    return r->result.is_damage_left;
}

/*
 * Behind a damaged index or footer there may be damage that shows only when that is corrected, so
 * it looks again after it did something, and goes on until nothing is left that it can do.
 */
static lsm_status look_and_do(struct repair *r, lsm_error *err)
{
    lsm_status status = LSM_OK;
    while (status == LSM_OK && !is_refused(r)) {
        status = repair_look(r, err);
        if (status == LSM_OK && r->round == ROUNDS) {
            r->result.is_damage_left = r->step_count > 0;
            return LSM_OK;
        }
        if (status == LSM_OK)
            status = repair_show_plan(r, err);
        if (status != LSM_OK || r->step_count == 0)
            return status;
        status = repair_do(r, err);
        ask_no_more(r);
        if (status == LSM_OK)
            repair_next_round(r);
    }
    return status;
}

/* ---- the rehearsal --------------------------------------------------------------------------- */

/* From here on everything is done to a draft. */
static lsm_status draft_begin(struct repair *r, lsm_error *err)
{
    struct io *io = NULL;
    struct io_dir *dir = NULL;
    lsm_status status = draft_open(r->io, DRAFT_MEMORY, &io, err);
    if (status == LSM_OK)
        status = io_dir_open(io, r->path, 0, 0, &dir, err);
    if (status != LSM_OK) {
        io_close(io);
        return status;
    }
    r->real = (struct repair_real){.io = r->io, .dir = r->dir};
    r->io = r->walk.io = r->env.io = io;
    r->dir = r->walk.dir = r->env.dir = dir;
    return LSM_OK;
}

/* Nothing that was found in the draft is held any more. */
static void draft_end(struct repair *r)
{
    if (r->real.io == NULL)
        return;
    io_dir_close(r->dir);
    io_close(r->io);
    r->io = r->walk.io = r->env.io = r->real.io;
    r->dir = r->walk.dir = r->env.dir = r->real.dir;
    r->real = (struct repair_real){0};
}

/* Does the plan to the draft. Where that does not work what lies behind it is not known. */
static lsm_status do_to_draft(struct repair *r, lsm_error *err)
{
    lsm_status status = r->round == 0 ? draft_begin(r, err) : LSM_OK;
    if (status == LSM_OK)
        status = repair_do(r, err);
    if (status == LSM_OK || status == LSM_CANCELLED)
        return status;
    r->result.may_find_more = true;
    return LSM_OK;
}

/* The rounds of a repair told before anything is changed. */
static lsm_status rehearse(struct repair *r, lsm_error *err)
{
    lsm_status status = LSM_OK;
    r->is_rehearsal = true;
    while (status == LSM_OK && r->round < ROUNDS) {
        status = repair_look(r, err);
        if (status == LSM_OK)
            status = repair_show_plan(r, err);
        if (status != LSM_OK && status != LSM_CANCELLED && r->round > 0) {
            r->result.may_find_more = true; /* what was told before holds */
            status = LSM_OK;
            break;
        }
        if (status == LSM_OK && r->step_count > 0)
            r->told_rounds = r->round + 1;
        if (status != LSM_OK || r->step_count == 0)
            break;
        r->result.may_find_more = is_refused(r) || r->round + 1 == ROUNDS;
        if (!r->result.may_find_more)
            status = do_to_draft(r, err);
        ask_no_more(r);
        if (r->result.may_find_more)
            break;
        if (status == LSM_OK)
            repair_next_round(r);
    }
    repair_next_round(r);
    draft_end(r);
    r->is_rehearsal = false;
    r->result.is_changed = false;
    if (r->result.step_count > 0)
        r->result.is_damage_left = true;
    return status;
}

/* What was found before the lock was taken, for a second time from the beginning. */
struct found_before {
    struct repair_contradiction *contradictions; /* owned */
    size_t count;
    struct buffer suspects, suspect_blobs;
};

static void found_release(struct found_before *f)
{
    mem_free(f->contradictions);
    buffer_release(&f->suspects);
    buffer_release(&f->suspect_blobs);
}

static lsm_status copy_found(const struct repair *r, struct found_before *f, lsm_error *err)
{
    size_t size = r->contradiction_count * sizeof *f->contradictions;
    f->count = r->contradiction_count;
    if (!buffer_assign(&f->suspects, buffer_slice(&r->suspects)) ||
        !buffer_assign(&f->suspect_blobs, buffer_slice(&r->suspect_blobs)))
        return lsm_fail_memory(err, r->suspects.size + r->suspect_blobs.size);
    if (size == 0)
        return LSM_OK;
    f->contradictions = mem_alloc(size);
    if (f->contradictions == NULL)
        return lsm_fail_memory(err, size);
    memcpy(f->contradictions, r->contradictions, size);
    return LSM_OK;
}

/* Hands it over. */
static void give_found(struct repair *r, struct found_before *f)
{
    buffer_release(&r->suspects);
    buffer_release(&r->suspect_blobs);
    r->contradictions = f->contradictions;
    r->contradiction_count = r->contradiction_room = f->count;
    r->suspects = f->suspects;
    r->suspect_blobs = f->suspect_blobs;
    *f = (struct found_before){0};
}

/* A dry run is a rehearsal; who wants all or nothing has one first. */
static lsm_status run_rounds(struct repair *r, lsm_error *err)
{
    static const lsm_repair_result fresh = LSM_REPAIR_RESULT_INIT;
    const lsm_repair_options *asked = r->options;
    struct found_before found = {0};
    if (!r->options->dry_run && !r->options->only_exact)
        return look_and_do(r, err);
    lsm_status status = copy_found(r, &found, err);
    if (status == LSM_OK)
        status = rehearse(r, err);
    bool is_over = status != LSM_OK || r->options->dry_run || r->result.step_count == 0;
    if (!is_over) {
        give_found(r, &found);
        r->round = 0;
        r->options = asked;
        r->result = fresh;
        status = look_and_do(r, err);
    }
    found_release(&found);
    return status;
}

static void keep_release(struct repair_kept *k)
{
    for (size_t i = 0; i < k->count; i++)
        mem_free(k->names[i]);
    mem_free(k->names);
}

static void repair_release(struct repair *r)
{
    repair_found_release(r);
    keep_release(&r->kept);
    buffer_release(&r->suspects);
    buffer_release(&r->suspect_blobs);
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
        status = run_rounds(r, err);
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
