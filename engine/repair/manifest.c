/*
 * The state of the database: what the manifest in force makes when it can be replayed, if need be
 * after correcting bytes of it; otherwise what tables and all whole edits of all manifests say.
 */
#include "engine/repair/repair_private.h"
#include "engine/version/replay.h"

#include <stdio.h>
#include <string.h>

/* ---- one manifest ---------------------------------------------------------------------------- */

struct attempt {
    struct repair *r;
    uint64_t number;
    char name[FILE_NAME_SIZE];
    struct frame_place place;
    struct walk_manifest walk;
    bool is_corrected;
    bool lacks_edits;    /* it is whole, but was cut behind a clean close */
    struct buffer bytes; /* of the manifest; owned */
    lsm_error why;       /* it cannot be replayed */
};

static void forget_manifest(struct attempt *a)
{
    walk_manifest_close(&a->walk);
    buffer_release(&a->bytes);
}

static lsm_status note_correction(struct attempt *a, uint64_t offset, uint8_t *bytes,
                                  const struct correct_change *c, enum finding_id id,
                                  lsm_error *err)
{
    char action[96], problem[96];
    uint64_t at = offset + c->offset;
    struct repair_patch patch = {.part = REPAIR_MANIFEST,
                                 .kind = FILE_MANIFEST,
                                 .file = a->number,
                                 .offset = at,
                                 .bytes = bytes + c->offset,
                                 .size = 1};
    struct repair_step step = repair_step_of(REPAIR_MANIFEST, a->number, id, a->name);
    step.offset = at;
    step.length = 1;
    step.is_exact = true;
    snprintf(problem, sizeof problem, "manifest '%s' has a wrong byte", a->name);
    snprintf(action, sizeof action, "byte %" PRIu64 " becomes 0x%02x again (it is 0x%02x)", at,
             c->expected, c->found);
    a->is_corrected = true;
    lsm_status status = repair_add_patch(a->r, &patch, err);
    return status == LSM_OK ? repair_add_step(a->r, &step, problem, action, err) : status;
}

/* Corrects what one wrong byte explains, in the bytes in memory. */
static lsm_status correct_bytes(struct attempt *a, lsm_error *err)
{
    struct buffer *bytes = &a->bytes;
    struct correct_change c;
    struct frame frame;
    lsm_status status = LSM_OK;
    if (bytes->size < FRAME_FILE_HEADER_SIZE)
        return LSM_OK;
    if (correct_manifest_header(bytes->data, hash_place(a->place.uuid, a->number, 0), &c) ==
        CORRECT_DONE)
        status = note_correction(a, 0, bytes->data, &c, FINDING_MANIFEST_HEADER, err);
    uint64_t at = FRAME_FILE_HEADER_SIZE;
    while (status == LSM_OK && at < bytes->size) {
        if (!frame_at(&a->place, buffer_slice(bytes), at, &frame)) {
            if (correct_manifest_frame(bytes->data + at, bytes->size - (size_t)at,
                                       hash_place(a->place.uuid, a->number, at),
                                       &c) != CORRECT_DONE ||
                !frame_at(&a->place, buffer_slice(bytes), at, &frame))
                break;
            status = note_correction(a, at, bytes->data + at, &c, FINDING_FRAME_CHECKSUM, err);
        }
        at += frame.size;
    }
    return status;
}

static void take_back(struct repair *r, size_t steps, size_t patches)
{
    while (r->step_count > steps) {
        r->step_count--;
        mem_free(r->steps[r->step_count].problem);
        mem_free(r->steps[r->step_count].action);
    }
    while (r->patch_count > patches)
        mem_free(r->patches[--r->patch_count].bytes);
}

/* *replayed: state.snapshot is set. Otherwise a->why says what is wrong. */
static lsm_status try_manifest(struct attempt *a, bool *replayed, lsm_error *err)
{
    struct repair *r = a->r;
    size_t steps = r->step_count, patches = r->patch_count;
    struct frame_chain chain;
    bool is_torn;
    *replayed = false;
    file_name_make(FILE_MANIFEST, a->number, a->name);
    a->place.file_number = a->number;
    memcpy(a->place.uuid, r->walk.uuid, sizeof a->place.uuid);
    lsm_status status = walk_manifest_open(&r->walk, a->number, WALK_WHOLE, &a->walk, &a->why);
    if (status == LSM_OK)
        status = walk_manifest_read_all(&r->walk, &a->walk, &a->bytes, &a->why);
    if (status != LSM_OK) {
        forget_manifest(a);
        if (status == LSM_NO_MEMORY || status == LSM_CANCELLED)
            status_copy(err, &a->why);
        return status == LSM_NO_MEMORY || status == LSM_CANCELLED ? status : LSM_OK;
    }
    status = replay_manifest(&a->place, a->name, buffer_slice(&a->bytes), &r->state.snapshot,
                             &chain, &is_torn, &a->why);
    if (status == LSM_CORRUPT) {
        status = correct_bytes(a, err);
        if (status != LSM_OK) {
            forget_manifest(a);
            return status;
        }
        status = !a->is_corrected ? LSM_CORRUPT
                                  : replay_manifest(&a->place, a->name, buffer_slice(&a->bytes),
                                                    &r->state.snapshot, &chain, &is_torn, NULL);
    }
    forget_manifest(a);
    *replayed = status == LSM_OK;
    if (status == LSM_OK)
        r->state.next_frame = chain.number;
    else
        take_back(r, steps, patches);
    if (status == LSM_NO_MEMORY || status == LSM_NEWER_FORMAT)
        status_copy(err, &a->why);
    return status == LSM_CORRUPT ? LSM_OK : status;
}

/* ---- what all of them say -------------------------------------------------------------------- */

static size_t find_number(const uint64_t *numbers, size_t count, uint64_t number)
{
    size_t low = 0, limit = count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (numbers[middle] < number)
            low = middle + 1;
        else
            limit = middle;
    }
    return low;
}

static size_t find_added(const struct repair_facts *f, uint64_t number)
{
    size_t low = 0, limit = f->added_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (f->added[middle].number < number)
            low = middle + 1;
        else
            limit = middle;
    }
    return low;
}

static lsm_status fact_removed(struct repair_facts *f, uint64_t number, lsm_error *err)
{
    size_t at = find_number(f->removed, f->removed_count, number);
    if (at < f->removed_count && f->removed[at] == number)
        return LSM_OK;
    if (f->removed_count == f->removed_room) {
        size_t room = f->removed_room == 0 ? 64 : 2 * f->removed_room;
        uint64_t *grown = mem_resize(f->removed, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        f->removed = grown;
        f->removed_room = room;
    }
    memmove(f->removed + at + 1, f->removed + at, (f->removed_count - at) * sizeof *f->removed);
    f->removed[at] = number;
    f->removed_count++;
    return LSM_OK;
}

static lsm_status fact_added(struct repair_facts *f, const struct table_meta *meta, lsm_error *err)
{
    size_t at = find_added(f, meta->number);
    if (at < f->added_count && f->added[at].number == meta->number) {
        f->added[at].level = meta->level;
        return LSM_OK;
    }
    if (f->added_count == f->added_room) {
        size_t room = f->added_room == 0 ? 64 : 2 * f->added_room;
        struct table_meta *grown = mem_resize(f->added, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        f->added = grown;
        f->added_room = room;
    }
    struct table_meta copy = {0};
    lsm_status status = table_meta_copy(&copy, meta, err);
    if (status != LSM_OK)
        return status;
    memmove(f->added + at + 1, f->added + at, (f->added_count - at) * sizeof *f->added);
    f->added[at] = copy;
    f->added_count++;
    return LSM_OK;
}

static bool edit_adds(const struct version_edit *edit, uint64_t number)
{
    for (size_t i = 0; i < edit->added_count; i++) {
        if (edit->added[i].number == number)
            return true;
    }
    return false;
}

static struct edit_cf *known_family(struct repair_facts *f, uint32_t id)
{
    for (size_t i = 0; i < f->families.created_count; i++) {
        if (f->families.created[i].id == id)
            return &f->families.created[i];
    }
    return NULL;
}

static lsm_status fact_families(struct repair_facts *f, const struct version_edit *edit,
                                lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < edit->created_count; i++) {
        const struct edit_cf *cf = &edit->created[i];
        if (known_family(f, cf->id) == NULL)
            status = edit_create_cf(&f->families, cf->id, cf->name, &cf->options, err);
    }
    for (size_t i = 0; status == LSM_OK && i < edit->renamed_count; i++) {
        struct edit_cf *cf = known_family(f, edit->renamed[i].id);
        char *name = cf == NULL ? NULL : mem_copy_text(edit->renamed[i].name);
        if (name == NULL)
            continue;
        mem_free(cf->name);
        cf->name = name;
    }
    for (size_t i = 0; status == LSM_OK && i < edit->dropped_count; i++)
        status = edit_drop_cf(&f->families, edit->dropped[i], err);
    return status;
}

static void fact_numbers(struct repair_facts *f, const struct version_edit *edit)
{
    if (edit->has_log) {
        f->has_log = true;
        f->log_position = edit->log_position;
        f->log_chain = edit->log_chain;
        f->clean = edit->clean;
    }
    if (edit->last_sequence > f->last_sequence)
        f->last_sequence = edit->last_sequence;
    if (edit->next_file_number > f->next_file_number)
        f->next_file_number = edit->next_file_number;
    if (edit->next_cf > f->next_cf)
        f->next_cf = edit->next_cf;
}

static void mention(struct repair_facts *f, uint64_t number)
{
    if (!f->has_hole && number > f->highest_mentioned && number < REPAIR_MAX_NUMBER)
        f->highest_mentioned = number;
}

static lsm_status take_edit(struct repair_facts *f, const struct version_edit *edit, lsm_error *err)
{
    lsm_status status = fact_families(f, edit, err);
    for (size_t i = 0; i < edit->removed_count; i++)
        mention(f, edit->removed[i].number);
    for (size_t i = 0; i < edit->added_count; i++)
        mention(f, edit->added[i].number);
    for (size_t i = 0; i < edit->blob_count; i++) {
        mention(f, edit->blobs[i].number);
        buffer_append(&f->blobs, &edit->blobs[i].number, sizeof edit->blobs[i].number);
    }
    if (f->blobs.failed)
        return lsm_fail_memory(err, f->blobs.size);
    for (size_t i = 0; status == LSM_OK && i < edit->removed_count; i++) {
        if (!edit_adds(edit, edit->removed[i].number))
            status = fact_removed(f, edit->removed[i].number, err);
    }
    for (size_t i = 0; status == LSM_OK && i < edit->added_count; i++)
        status = fact_added(f, &edit->added[i], err);
    fact_numbers(f, edit);
    return status;
}

/* A whole snapshot names all that is live: what was live before, and is not in it, is gone. */
struct snapshot_parts {
    struct version_edit all; /* added: numbers only; created: ids only */
    bool is_whole_so_far;
    uint64_t manifest; /* its number */
};

/* One that is not listed, but has tables, was forgotten, not dropped. */
static bool mentions_family(const struct version_edit *all, uint32_t id)
{
    for (size_t i = 0; i < all->created_count; i++) {
        if (all->created[i].id == id)
            return true;
    }
    for (size_t i = 0; i < all->added_count; i++) {
        if (all->added[i].cf == id)
            return true;
    }
    return false;
}

static lsm_status end_snapshot(struct repair_facts *f, const struct snapshot_parts *parts,
                               lsm_error *err)
{
    lsm_status status = LSM_OK;
    struct repair_facts listed = {0};
    for (size_t i = 0; status == LSM_OK && i < parts->all.added_count; i++)
        status = fact_added(&listed, &parts->all.added[i], err);
    for (size_t i = 0; status == LSM_OK && i < f->added_count; i++) {
        size_t at = find_added(&listed, f->added[i].number);
        if (at == listed.added_count || listed.added[at].number != f->added[i].number)
            status = fact_removed(f, f->added[i].number, err);
    }
    for (size_t i = 0; status == LSM_OK && i < f->families.created_count; i++) {
        if (!mentions_family(&parts->all, f->families.created[i].id))
            status = edit_drop_cf(&f->families, f->families.created[i].id, err);
    }
    repair_facts_release(&listed);
    return status;
}

static lsm_status take_part(struct repair_facts *f, struct snapshot_parts *parts,
                            const struct walk_edit *e, lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (e->edit.is_snapshot) {
        edit_release(&parts->all);
        parts->is_whole_so_far = true;
    } else if (!parts->is_whole_so_far) {
        return LSM_OK;
    }
    for (size_t i = 0; status == LSM_OK && i < e->edit.added_count; i++)
        status = edit_add_table(&parts->all, &e->edit.added[i], err);
    for (size_t i = 0; status == LSM_OK && i < e->edit.created_count; i++)
        status = edit_create_cf(&parts->all, e->edit.created[i].id, e->edit.created[i].name,
                                &e->edit.created[i].options, err);
    if (status == LSM_OK && e->frame.more == 0) {
        status = end_snapshot(f, parts, err);
        parts->is_whole_so_far = false;
        f->has_hole = false;
        mention(f, parts->manifest);
    }
    return status;
}

static lsm_status gather_from(struct repair *r, uint64_t number, struct repair_facts *f,
                              lsm_error *err)
{
    struct walk_manifest walk = {0};
    struct snapshot_parts parts = {.manifest = number};
    struct walk_edit e = {.length = 1};
    lsm_error why;
    if (walk_manifest_open(&r->walk, number, WALK_WHOLE, &walk, &why) != LSM_OK)
        return LSM_OK;
    lsm_status status = LSM_OK;
    while (status == LSM_OK && e.length > 0) {
        memset(&e, 0, sizeof e);
        status = walk_manifest_next(&walk, &e, err);
        if (status != LSM_OK || e.length == 0)
            break;
        if (!e.has_edit) {
            parts.is_whole_so_far = false;
            f->has_hole = true;
        }
        if (e.has_frame && e.frame.number >= f->next_frame && e.frame.number < REPAIR_MAX_NUMBER)
            f->next_frame = e.frame.number + 1;
        if (e.has_edit)
            status = take_edit(f, &e.edit, err);
        if (e.has_edit && status == LSM_OK)
            status = take_part(f, &parts, &e, err);
        edit_release(&e.edit);
    }
    edit_release(&parts.all);
    walk_manifest_close(&walk);
    return status;
}

lsm_status repair_gather_facts(struct repair *r, struct repair_facts *facts, lsm_error *err)
{
    lsm_status status = LSM_OK;
    uint64_t last = 0;
    for (;;) { /* by number, ascending */
        const struct walk_file *next = NULL;
        for (size_t i = 0; i < r->list.count; i++) {
            const struct walk_file *f = &r->list.files[i];
            if (f->name == WALK_NAME_OURS && f->kind == FILE_MANIFEST && walk_file_is_plain(f) &&
                f->number > last && (next == NULL || f->number < next->number))
                next = f;
        }
        if (next == NULL || status != LSM_OK)
            return status;
        last = next->number;
        status = gather_from(r, last, facts, err);
    }
}

void repair_facts_release(struct repair_facts *facts)
{
    for (size_t i = 0; i < facts->added_count; i++)
        table_meta_release(&facts->added[i]);
    mem_free(facts->added);
    mem_free(facts->removed);
    buffer_release(&facts->blobs);
    edit_release(&facts->families);
    *facts = (struct repair_facts){0};
}

/* ---- which one ------------------------------------------------------------------------------- */

/* The newest manifest with a number below `below`; 0: none. */
static uint64_t newest_below(const struct repair *r, uint64_t below)
{
    uint64_t newest = 0;
    for (size_t i = 0; i < r->list.count; i++) {
        const struct walk_file *f = &r->list.files[i];
        if (f->name == WALK_NAME_OURS && f->kind == FILE_MANIFEST && f->number < below &&
            f->number > newest)
            newest = f->number;
    }
    return newest;
}

static enum finding_id fault_of(const struct repair *r, uint64_t number)
{
    return walk_dir_find(&r->list, FILE_MANIFEST, number) == NULL ? FINDING_MANIFEST_MISSING
                                                                  : FINDING_FRAME_CHECKSUM;
}

/* What the state contradicts itself in; FINDING_COUNT: nothing. */
static enum finding_id contradiction(const struct repair *r)
{
    for (size_t i = 0; i < r->contradiction_count; i++) {
        if (r->contradictions[i].table == 0)
            return r->contradictions[i].id;
    }
    return FINDING_COUNT;
}

static lsm_status rebuild(struct repair *r, const struct attempt *a, lsm_error *err)
{
    bool is_wanted = r->options->rebuild_manifest;
    bool contradicts = r->state.contradicts;
    enum finding_id id = contradicts      ? contradiction(r)
                         : is_wanted      ? FINDING_NO_SNAPSHOT
                         : a->lacks_edits ? FINDING_EDITS_LOST
                                          : fault_of(r, a->number);
    struct repair_step step =
        repair_step_of(REPAIR_MANIFEST, a->number, id, a->number == 0 ? NULL : a->name);
    r->state.is_rebuilt = r->state.needs_generation = true;
    if (a->why.offset != LSM_NO_OFFSET && a->why.status != LSM_OK && a->why.file[0] != '\0')
        step.offset = a->why.offset;
    lsm_status status = repair_rebuild(r, err);
    if (status != LSM_OK)
        return status;
    r->state.log_is_known = contradicts && r->state.snapshot.has_log;
    const char *problem = contradicts                 ? finding_kind_of(id)->meaning
                          : is_wanted                 ? "the manifest is not to be believed"
                          : a->why.message[0] != '\0' ? a->why.message
                                                      : "there is no manifest";
    return repair_add_step(r, &step, problem,
                           "made anew from what the tables say of themselves and each other, and "
                           "from every edit that is whole",
                           err);
}

/*
 * Without CURRENT the newest manifest that is there need not be the one that was in force. It is
 * when the directory is as it says: all tables are there, and none came after it.
 */
static bool explains_directory(const struct repair *r)
{
    const struct version_edit *s = &r->state.snapshot;
    for (size_t i = 0; i < s->added_count; i++) {
        if (walk_dir_find(&r->list, FILE_TABLE, s->added[i].number) == NULL)
            return false;
    }
    for (size_t i = 0; i < r->list.count; i++) {
        const struct walk_file *f = &r->list.files[i];
        if (f->name == WALK_NAME_OURS && f->kind == FILE_TABLE && f->number >= s->next_file_number)
            return false;
    }
    return true;
}

/* LOCK names an edit that is behind the end of what was replayed. */
static bool lacks_marked_edit(const struct repair *r)
{
    return r->options->manifest == 0 && r->mark.frame_number >= r->state.next_frame &&
           memcmp(r->mark.uuid, r->walk.uuid, sizeof r->mark.uuid) == 0;
}

/* The lost edits changed no table that is there or named: what else they said is nowhere. */
static lsm_status take_without_them(struct repair *r, const struct attempt *a, lsm_error *err)
{
    char text[LOST_EDITS_TEXT];
    struct lost_edits lost = {
        .proof = LOST_EDITS_MARK, .wanted = r->mark.frame_number, .found = r->state.next_frame - 1};
    struct repair_step step =
        repair_step_of(REPAIR_MANIFEST, a->number, FINDING_EDITS_LOST, a->name);
    struct repair_loss loss = {.kinds = LSM_LOSS_MAY_REVIVE,
                               .first_open = true,
                               .last_open = true,
                               .offset = LSM_NO_OFFSET};
    memcpy(loss.file, a->name, sizeof loss.file);
    r->state.needs_generation = true;
    lsm_status status = repair_add_loss(r, &loss, (lsm_slice){0}, (lsm_slice){0}, err);
    if (status != LSM_OK)
        return status;
    return repair_add_step(r, &step, lost_edits_text(&lost, text),
                           "a new manifest takes over what this one says: column families may be "
                           "missing, have an old name, or be there again",
                           err);
}

lsm_status repair_read_manifests(struct repair *r, lsm_error *err)
{
    uint64_t named = r->options->manifest;
    struct attempt a = {.r = r};
    bool replayed = false;
    lsm_status status = LSM_OK;
    if (named == 0 && r->current_is_good)
        named = r->current_names;
    if (r->options->rebuild_manifest)
        return rebuild(r, &a, err);
    if (named != 0) {
        a.number = named;
        status = try_manifest(&a, &replayed, err);
    } else { /* CURRENT is lost: the newest that is whole was in force, or about to be */
        uint64_t number = newest_below(r, UINT64_MAX);
        if (number != 0) {
            a.number = number;
            status = try_manifest(&a, &replayed, err);
        }
    }
    if (status != LSM_OK)
        return status;
    if (replayed && r->distrusts_manifest) {
        a.lacks_edits = r->state.snapshot.clean;
        edit_release(&r->state.snapshot);
        replayed = false;
        lsm_fail(&a.why, LSM_CORRUPT,
                 a.lacks_edits ? "'%s' ends in a clean close, but there is a log or a table that "
                                 "came after it: edits are lost"
                               : "the log does not reach back to where '%s' says that the tables "
                                 "end: either is older than it was",
                 a.name);
    }
    if (replayed && named == 0 && !explains_directory(r)) {
        edit_release(&r->state.snapshot);
        replayed = false;
        lsm_fail(&a.why, LSM_CORRUPT,
                 "'%s' is the newest manifest, but there are tables that came after it", a.name);
    }
    if (replayed && lacks_marked_edit(r) && !explains_directory(r)) {
        a.lacks_edits = true;
        edit_release(&r->state.snapshot);
        replayed = false;
        lsm_fail(&a.why, LSM_CORRUPT,
                 "'%s' ends with edit %" PRIu64 ", but LOCK says that there was edit %" PRIu64
                 ": edits are lost",
                 a.name, r->state.next_frame - 1, r->mark.frame_number);
    }
    if (!replayed && r->options->manifest != 0)
        return lsm_fail(err, LSM_CORRUPT, "the manifest that was asked for cannot be used: %s",
                        a.why.message);
    if (replayed && r->options->manifest == 0 && contradiction(r) != FINDING_COUNT) {
        edit_release(&r->state.snapshot);
        r->state.contradicts = true;
    }
    if (!replayed || r->state.contradicts)
        return rebuild(r, &a, err);
    r->state.manifest = a.number;
    r->state.log_is_known = true;
    if (lacks_marked_edit(r))
        return take_without_them(r, &a, err);
    if (r->options->manifest != 0 &&
        !(r->current_is_good && r->options->manifest == r->current_names)) {
        struct repair_step step =
            repair_step_of(REPAIR_MANIFEST, a.number, FINDING_CURRENT_DAMAGED, a.name);
        r->state.needs_generation = true;
        return repair_add_step(r, &step, "another manifest is in force than the one to believe",
                               "a new manifest takes over what this one says", err);
    }
    return LSM_OK;
}
