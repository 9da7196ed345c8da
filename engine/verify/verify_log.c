/*
 * The log behind the tables. In a live database it grows at its end and is cut at its beginning
 * while it is read, so what is found there is told only when it lies between the two.
 */
#include "engine/verify/verify_private.h"

#include "engine/base/memory.h"
#include "engine/format/batch.h"
#include "engine/inspect/evidence.h"
#include "engine/inspect/walk_log.h"

#include <stdio.h>

#define LIVE_TRIES 50
#define MOST_HELD  ((size_t)10000) /* damages of a live log that wait for their judgement */

struct held {
    struct walk_log_damage damage; /* its borrowed texts are copied behind */
    char file[FILE_NAME_SIZE];
    char text[400];
};

struct reading {
    struct verify *v;
    uint64_t last_sequence;
    uint64_t records;
    bool knows_begin;
    bool is_closed;    /* the manifest says so: there should be no record */
    uint64_t doubted;  /* findings that were not told, because the beginning is not known */
    bool too_many;     /* damages of a live log */
    struct held *held; /* owned */
    size_t held_count, held_room;
};

static bool family_is_known(const struct verify *v, uint32_t id)
{
    /* One that was dropped was known once. */
    return !v->state_is_whole || id < v->replay.state.next_cf;
}

static lsm_status tell_record(struct reading *r, const struct walk_log_record *record,
                              enum finding_id id, uint64_t expected, uint64_t found, lsm_error *err)
{
    lsm_finding f = finding_of(id);
    finding_place(&f, record->file, record->offset, record->end - record->position);
    finding_numbers(&f, expected, found);
    return verify_tell(r->v, &f, err);
}

/* The edit that opened the database is lost, and whatever else was told since. */
static lsm_status tell_unexpected(struct reading *r, const struct walk_log_record *record,
                                  lsm_error *err)
{
    lsm_finding f = finding_of(FINDING_CLOSED_BUT_LOG);
    finding_place(&f, record->file, record->offset, record->end - record->position);
    f.has_range = true;
    f.first_open = f.last_open = true;
    return verify_tell(r->v, &f, err);
}

static lsm_status see_record(void *context, const struct walk_log_record *record, lsm_error *err)
{
    struct reading *r = context;
    struct verify *v = r->v;
    lsm_status status = LSM_OK;
    if (r->is_closed && r->records == 0)
        status = tell_unexpected(r, record, err);
    r->records++;
    if (status == LSM_OK && record->sequence <= r->last_sequence && r->last_sequence != 0)
        status = tell_record(r, record, FINDING_RECORD_SEQUENCE, r->last_sequence + 1,
                             record->sequence, err);
    r->last_sequence = record->sequence;
    struct batch_reader batch = batch_read(record->batch);
    struct batch_entry entry;
    while (status == LSM_OK && batch_next(&batch, &entry)) {
        /* Somebody may have made it since the state was pinned. */
        if (family_is_known(v, entry.cf) ||
            (v->result.is_live && entry.cf >= v->replay.state.next_cf))
            continue;
        status =
            tell_record(r, record, FINDING_RECORD_FAMILY, v->replay.state.next_cf, entry.cf, err);
        break;
    }
    if (status == LSM_OK && !verify_pace(v, record->end - record->position))
        status = verify_go_on(v, err);
    return status;
}

static lsm_status tell_damage(struct verify *v, const struct walk_log_damage *d, lsm_error *err)
{
    lsm_finding f = finding_of(d->id);
    finding_place(&f, d->file, d->offset, d->length);
    if (d->has_numbers)
        finding_numbers(&f, d->expected, d->found);
    if (f.severity == LSM_DAMAGE) { /* whatever it wrote may be concerned */
        f.has_range = true;
        f.first_open = f.last_open = true;
    }
    return d->text == NULL ? verify_tell(v, &f, err) : verify_say(v, &f, err, "%s", d->text);
}

/* Without a whole manifest nobody knows where the log begins: what is left over of older segments,
 * and gaps between them, may be as they should. */
static bool depends_on_begin(enum finding_id id, const char *file)
{
    switch ((int)id) {
    case FINDING_SEGMENT_MISSING:
    case FINDING_RECORD_CHAIN:
    case FINDING_LOG_HOLE:
        return true;
    default:
        return file != NULL && strcmp(file, "STAGE") == 0;
    }
}

static lsm_status see_damage(void *context, const struct walk_log_damage *damage, lsm_error *err)
{
    struct reading *r = context;
    if (!r->knows_begin && depends_on_begin(damage->id, damage->file)) {
        r->doubted++;
        return LSM_OK;
    }
    if (r->v->db == NULL)
        return tell_damage(r->v, damage, err);
    if (finding_kind_of(damage->id)->severity != LSM_DAMAGE)
        return LSM_OK; /* the end moves, and what is left over is being used again */
    r->too_many = r->held_count == MOST_HELD;
    if (r->too_many)
        return LSM_OK;
    if (r->held_count == r->held_room) {
        size_t room = r->held_room == 0 ? 16 : r->held_room * 2;
        struct held *grown = mem_resize(r->held, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        r->held = grown;
        r->held_room = room;
    }
    struct held *h = &r->held[r->held_count++];
    *h = (struct held){.damage = *damage};
    if (damage->file != NULL)
        snprintf(h->file, sizeof h->file, "%s", damage->file);
    if (damage->text != NULL)
        snprintf(h->text, sizeof h->text, "%s", damage->text);
    return LSM_OK;
}

/* Of a live log: what is still behind the tables and was written when the reading began. */
static lsm_status tell_held(struct reading *r, uint64_t written, lsm_error *err)
{
    struct verify *v = r->v;
    struct db_view now = {0};
    if (r->held_count == 0)
        return LSM_OK;
    lsm_status status = db_view_acquire(v->db, &now, err);
    if (status != LSM_OK)
        return status;
    uint64_t begin = now.log_position;
    db_view_release(&now);
    for (size_t i = 0; status == LSM_OK && i < r->held_count; i++) {
        struct held *h = &r->held[i];
        if (h->damage.position < begin || h->damage.position >= written)
            continue;
        h->damage.file = h->damage.file == NULL ? NULL : h->file;
        h->damage.text = h->damage.text == NULL ? NULL : h->text;
        status = tell_damage(v, &h->damage, err);
    }
    return status;
}

static uint64_t log_bytes(const struct verify *v)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < v->listing.count; i++) {
        const struct walk_file *f = &v->listing.files[i];
        if (f->name == WALK_NAME_OURS && f->kind == FILE_WAL)
            bytes += f->entry.size;
    }
    return bytes;
}

static lsm_status read_once(struct reading *r, struct walk_log_options *options, lsm_error *err)
{
    struct walk_log_visitor visitor = {.context = r, .record = see_record, .damage = see_damage};
    struct walk_log_end end = {0};
    r->last_sequence = r->records = r->doubted = 0;
    r->held_count = 0;
    r->too_many = false;
    return walk_log(options, &visitor, &end, err);
}

/* Segments are removed while they are read: then it begins anew where the log begins now. */
static lsm_status read_live(struct reading *r, struct walk_log_options *options, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (unsigned i = 0; i < LIVE_TRIES; i++) {
        struct db_view now = {0};
        status = db_view_acquire(r->v->db, &now, err);
        if (status != LSM_OK)
            return status;
        options->from = now.log_position;
        options->chain = now.log_chain;
        options->from_oldest = options->clean = false;
        uint64_t written = now.written;
        db_view_release(&now);
        status = written <= options->from ? LSM_OK : read_once(r, options, err);
        if (status == LSM_OK)
            return tell_held(r, written, err);
        if (status != LSM_MISSING)
            return status;
    }
    return status;
}

/* The manifest is whole, but is it all of it? */
static lsm_status look_for_lost_edits(struct verify *v, lsm_error *err)
{
    struct lost_edits_evidence evidence;
    struct lost_edits lost = {.proof = LOST_EDITS_NONE};
    struct buffer numbers = {0};
    char manifest[FILE_NAME_SIZE], text[LOST_EDITS_TEXT];
    lsm_status status = evidence_gather(&v->env, &v->listing, &v->mark, &numbers, &evidence, err);
    if (status == LSM_OK)
        status =
            lost_edits_find(&evidence, v->env.uuid, &v->replay.state, v->last_frame, &lost, err);
    buffer_release(&numbers);
    if (status != LSM_OK || lost.proof == LOST_EDITS_NONE)
        return status;
    lsm_finding f = finding_of(FINDING_EDITS_LOST);
    f.file = file_name_make(FILE_MANIFEST, v->manifest_number, manifest);
    finding_numbers(&f, lost.wanted, lost.found);
    f.has_range = true;
    f.first_open = f.last_open = true;
    return verify_say(v, &f, err, "%s; see lsm-repair(1), and do not open the database before",
                      lost_edits_text(&lost, text));
}

lsm_status verify_log(struct verify *v, lsm_error *err)
{
    const struct version_edit *state = &v->replay.state;
    struct reading r = {.v = v};
    if (!v->has_uuid) {
        verify_unmeasured(v, 6, NULL, "the log: whose database it is cannot be told");
        return LSM_OK;
    }
    bool knows_begin = v->state_is_whole && state->has_log;
    r.knows_begin = knows_begin || v->db != NULL;
    r.is_closed = knows_begin && state->clean && v->db == NULL;
    struct walk_log_options options = {
        .io = v->io,
        .dir = v->dir,
        .from = knows_begin ? state->log_position : 0,
        .from_oldest = !knows_begin,
        .chain = knows_begin ? state->log_chain : 0,
        .clean = knows_begin && state->clean,
        .no_correcting = true,
        .corrects_end = v->db == NULL, /* of a live log the end may be half written */
    };
    memcpy(options.uuid, v->env.uuid, sizeof options.uuid);
    verify_pass(v, 6, log_bytes(v));
    lsm_error inner = {.message = ""};
    lsm_status status = LSM_OK;
    if (knows_begin && !state->clean && v->db == NULL &&
        walk_dir_find(&v->listing, FILE_STAGE, 0) == NULL) {
        lsm_finding f = finding_of(FINDING_STAGE_MISSING);
        f.file = "STAGE";
        status = verify_tell(v, &f, &inner);
    }
    if (status == LSM_OK)
        status = v->db != NULL ? read_live(&r, &options, &inner) : read_once(&r, &options, &inner);
    if (status == LSM_OK && v->state_is_whole && v->db == NULL)
        status = look_for_lost_edits(v, &inner);
    if (status == LSM_CORRUPT) { /* the position that the manifest names is none */
        lsm_finding f = finding_of(FINDING_LOG_HOLE);
        lsm_error why = inner;
        status = verify_say(v, &f, &inner, "%s", why.message);
    }
    if (status == LSM_IO || status == LSM_MISSING) {
        verify_unmeasured(v, 6, inner.file[0] == '\0' ? NULL : inner.file, "the log: %s",
                          inner.message);
        status = LSM_OK;
    } else if (status != LSM_OK) {
        status_copy(err, &inner);
    }
    if (status == LSM_OK && r.doubted > 0)
        verify_unmeasured(v, 6, NULL,
                          "the log: where it begins is not known, so %" PRIu64
                          " gaps or damages in it may be as they should",
                          r.doubted);
    if (status == LSM_OK && r.too_many)
        verify_unmeasured(v, 6, NULL, "the log: there are more damages than the %zu looked at",
                          MOST_HELD);
    v->result.records = r.records;
    if (v->db == NULL && r.last_sequence > v->result.sequence)
        v->result.sequence = r.last_sequence;
    mem_free(r.held);
    return status;
}
