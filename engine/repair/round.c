/*
 * One round: look, and do what was planned.
 *
 * Doing is in this order, each durable before the next begins: copies of what will be replaced, and
 * the record of how to take it back; corrected files, each by one rename; new tables and the new
 * log segment; the new manifest; CURRENT, by one rename; then what nobody names any more is
 * removed.
 */
#include "engine/repair/repair_private.h"
#include "engine/repair/undo.h"

#include "engine/base/step.h"

#include <stdio.h>
#include <string.h>

/* ---- looking --------------------------------------------------------------------------------- */

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
    if (status == LSM_OK && edit_mark_read(r->dir, &r->mark, err) == LSM_NO_MEMORY)
        status = LSM_NO_MEMORY;
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

static lsm_status keep(struct repair *r, enum file_kind kind, uint64_t number, lsm_error *err)
{
    struct repair_kept *k = &r->kept;
    char name[FILE_NAME_SIZE];
    file_name_make(kind, number, name);
    const struct walk_file *f = walk_dir_find(&r->list, kind, number);
    /* What an earlier round made is not kept. */
    bool is_own =
        r->round > 0 && ((kind == FILE_WAL && number >= k->first_segment) ||
                         ((kind == FILE_TABLE || kind == FILE_BLOB || kind == FILE_MANIFEST) &&
                          number >= k->first_file) ||
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
    for (size_t i = 0; status == LSM_OK && i < r->blob_count; i++) {
        if (r->blobs[i].fault != NULL)
            status = keep(r, FILE_BLOB, r->blobs[i].meta.number, err);
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
    for (size_t i = 0; status == LSM_OK && i < r->blob_count; i++) {
        const struct repair_blob *blob = &r->blobs[i];
        const struct walk_file *f = walk_dir_find(&r->list, FILE_BLOB, blob->meta.number);
        if (blob->fault == NULL || blob->is_taken || f == NULL || !walk_file_is_plain(f))
            continue;
        status =
            io_dir_unlink(r->dir, file_name_make(FILE_BLOB, blob->meta.number, name), NULL, err);
        STEP("repair: blob file removed");
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
    for (size_t i = 0; i < r->made.blob_count; i++)
        (void)io_dir_unlink(r->dir, file_name_make(FILE_BLOB, r->made.blobs[i].number, name), NULL,
                            NULL);
    if (!repair_leaves_log(r))
        (void)io_dir_unlink(r->dir, file_name_make(FILE_WAL, r->log.next_segment, name), NULL,
                            NULL);
}

/* A rehearsal has no place: what it replaces stays as it is. */
static lsm_status begin_place(struct repair *r, lsm_error *err)
{
    lsm_status status = r->is_rehearsal ? LSM_OK : repair_make_place(r, err);
    r->kept.had_current = r->has_current;
    r->kept.first_file = r->next_number;
    r->kept.first_segment = r->log.next_segment == 0 ? UINT64_MAX : r->log.next_segment;
    if (status == LSM_OK)
        repair_tell(r, "what is replaced goes to '%s'", r->lost_path);
    return status;
}

lsm_status repair_do(struct repair *r, lsm_error *err)
{
    char current[CURRENT_MAX_SIZE];
    uint64_t manifest = r->next_number;
    bool commits = repair_needs_commit(r);
    size_t size = current_after(r, manifest, current);
    lsm_status status = r->round == 0 ? begin_place(r, err) : LSM_OK;
    if (status == LSM_OK && !r->is_rehearsal)
        status = keep_all(r, err);
    STEP("repair: copies made");
    if (status == LSM_OK && !r->is_rehearsal)
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

/* ---- the next round -------------------------------------------------------------------------- */

/* Empties what looking fills; what was done and told stays. What the files contradicted each other
 * in was of those that were there before. */
static void forget(struct repair *r)
{
    struct repair kept = *r;
    *r = (struct repair){.path = kept.path,
                         .options = kept.options,
                         .later = kept.later,
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
                         .told_rounds = kept.told_rounds,
                         .is_rehearsal = kept.is_rehearsal,
                         .real = kept.real,
                         .suspects = kept.suspects,
                         .suspect_blobs = kept.suspect_blobs,
                         .kept = kept.kept};
    memcpy(r->lost_path, kept.lost_path, sizeof r->lost_path);
}

/* What one look found. */
void repair_found_release(struct repair *r)
{
    repair_plan_release(r);
    walk_dir_release(&r->list);
    edit_release(&r->state.snapshot);
    edit_release(&r->state.gone);
    buffer_release(&r->state.unbounded);
    buffer_release(&r->displaced);
    edit_release(&r->made);
    mem_free(r->tables);
    mem_free(r->blobs);
}

void repair_next_round(struct repair *r)
{
    repair_found_release(r);
    forget(r);
    buffer_clear(&r->suspects); /* that damage is gone, or found by looking */
    buffer_clear(&r->suspect_blobs);
    r->round++;
}

/* Of the same files. What is known of contradictions stays. */
static lsm_status look_anew(struct repair *r, const lsm_repair_result *before, bool distrusts,
                            lsm_error *err)
{
    struct repair_contradiction *contradictions = r->contradictions;
    size_t count = r->contradiction_count;
    r->contradictions = NULL;
    repair_found_release(r);
    forget(r);
    r->contradictions = contradictions;
    r->contradiction_count = r->contradiction_room = count;
    r->distrusts_manifest = distrusts;
    r->result = *before;
    return look(r, err);
}

/*
 * What was done may leave parts that contradict each other: a table corrected in one place while
 * another was wrong under a checksum that fits, or versions that no table hid before. So nothing is
 * called repaired that was not verified.
 */
static lsm_status look_at_contradictions(struct repair *r, const lsm_repair_result *before,
                                         lsm_error *err)
{
    uint64_t damages = 0;
    lsm_status status = repair_check_again(r, &damages, err);
    if (status == LSM_OK && (r->contradiction_count > 0 || r->suspect_blobs.size > 0))
        status = look_anew(r, before, r->distrusts_manifest, err);
    if (status == LSM_OK && damages > 0 && r->step_count == 0)
        r->result.is_damage_left = true;
    return status;
}

/* The log lacks its beginning. When the manifest is an old one, or lost its last edits, tables may
 * hold what is missing: they are asked themselves. */
static bool asks_tables(const struct repair *r)
{
    return r->log_has_hole && !r->state.is_rebuilt && r->options->manifest == 0;
}

lsm_status repair_look(struct repair *r, lsm_error *err)
{
    r->result.table_count = 0; /* counted anew */
    lsm_repair_result before = r->result;
    lsm_status status = look(r, err);
    if (status == LSM_OK && asks_tables(r))
        status = look_anew(r, &before, true, err);
    if (status == LSM_OK && r->round > 0 && r->step_count == 0)
        status = look_at_contradictions(r, &before, err);
    return status;
}
