/*
 * The manifest in force is replayed edit by edit, as far as it is whole; the generation before,
 * which is kept in reserve, only has to be readable.
 */
#include "engine/verify/verify_private.h"

static lsm_status tell_edit(struct verify *v, const struct walk_manifest *m,
                            const struct walk_edit *e, enum finding_id id, const char *text,
                            lsm_error *err)
{
    lsm_finding f = finding_of(id);
    finding_place(&f, m->name, e->offset, e->length);
    if (e->number_differs)
        finding_numbers(&f, e->expected, e->found);
    return text[0] == '\0' ? verify_tell(v, &f, err) : verify_say(v, &f, err, "%s", text);
}

static uint64_t state_bytes(const struct version_edit *state)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < state->added_count; i++) {
        const struct table_meta *t = &state->added[i];
        bytes += sizeof *t + t->smallest.size + t->largest.size + t->blob_count * sizeof *t->blobs;
    }
    return bytes + state->blob_count * sizeof *state->blobs;
}

/* The list of live tables has to be in memory. Measured only when so much was added that it may be
 * too long. */
static lsm_status bound_state(struct verify *v, const struct walk_manifest *m,
                              const struct walk_edit *e)
{
    uint64_t limit = v->options.memory_limit;
    v->state_bytes += e->frame.size + e->edit.added_count * sizeof *e->edit.added;
    if (v->state_bytes <= limit)
        return LSM_OK;
    v->state_bytes = state_bytes(&v->replay.state);
    if (v->state_bytes <= limit / 2) /* so that measuring takes no more than reading */
        return LSM_OK;
    v->state_is_whole = false;
    verify_unmeasured(v, 1, m->name,
                      "what the manifest says from offset %" PRIu64 " on: the list of live tables "
                      "takes %" PRIu64 " bytes, over half of the memory limit of %" PRIu64,
                      e->offset, v->state_bytes, limit);
    return LSM_OK;
}

/* Applies a decoded edit while everything before it was whole. */
static lsm_status replay(struct verify *v, const struct walk_manifest *m, struct walk_edit *e,
                         lsm_error *err)
{
    if (!e->has_edit || !v->state_is_whole)
        return LSM_OK;
    if (!v->replay.has_snapshot && !e->edit.is_snapshot) {
        v->state_is_whole = false;
        return tell_edit(v, m, e, FINDING_NO_SNAPSHOT, "", err);
    }
    lsm_error inner = {.message = ""};
    lsm_status status = replay_apply(&v->replay, &e->edit, &inner);
    if (status == LSM_CORRUPT) {
        v->state_is_whole = false;
        return tell_edit(v, m, e, FINDING_EDIT_REPLAY, inner.message, err);
    }
    if (status != LSM_OK)
        status_copy(err, &inner);
    return status == LSM_OK ? bound_state(v, m, e) : status;
}

static lsm_status judge_edit(struct verify *v, const struct walk_manifest *m, struct walk_edit *e,
                             lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (e->is_too_large) {
        if (v->state_is_whole)
            verify_unmeasured(v, 1, m->name,
                              "what the manifest says from offset %" PRIu64 " on: %s", e->offset,
                              e->text);
        v->state_is_whole = false;
        return LSM_OK;
    }
    if (e->fault == FINDING_MANIFEST_TORN) /* in a live database there is none: it is cut before */
        return tell_edit(v, m, e, e->fault, e->text, err);
    if (e->fault != FINDING_COUNT) {
        v->state_is_whole = false;
        return tell_edit(v, m, e, e->fault, e->text, err);
    }
    if (e->number_differs || e->chain_differs || e->lacks_part) {
        v->state_is_whole = false;
        status = tell_edit(v, m, e, e->number_differs ? FINDING_FRAME_NUMBER : FINDING_FRAME_CHAIN,
                           e->text, err);
    }
    return status == LSM_OK ? replay(v, m, e, err) : status;
}

static lsm_status check_end(struct verify *v, const struct walk_manifest *m, lsm_error *err)
{
    struct walk_edit end = {.offset = m->chain.offset};
    if (m->more > 0 && v->state_is_whole) {
        v->state_is_whole = false;
        return tell_edit(v, m, &end, FINDING_FRAME_CHAIN,
                         "the manifest ends within an edit: parts of it are missing", err);
    }
    const struct version_place *place = &v->view.place;
    if (v->db != NULL && m->place.file_number == place->manifest_number && v->state_is_whole &&
        (m->chain.offset != place->offset || m->chain.number != place->frame_number)) {
        v->state_is_whole = false;
        end.number_differs = true;
        end.expected = place->frame_number;
        end.found = m->chain.number;
        return tell_edit(v, m, &end, FINDING_FRAME_NUMBER,
                         "the manifest ends elsewhere than those say who have it open", err);
    }
    return LSM_OK;
}

/* What a whole replay has to give: numbers that were given out. */
static lsm_status check_counters(struct verify *v, const struct walk_manifest *m, lsm_error *err)
{
    const struct version_edit *state = &v->replay.state;
    for (size_t i = 0; i < state->added_count; i++) {
        const struct table_meta *t = &state->added[i];
        if (t->number < state->next_file_number)
            continue;
        lsm_finding f = finding_of(FINDING_FILE_COUNTER);
        f.file = m->name;
        verify_blame_meta(&f, t);
        finding_numbers(&f, state->next_file_number, t->number);
        return verify_say(v, &f, err, "table %" PRIu64 " is live, but the next number is %" PRIu64,
                          t->number, state->next_file_number);
    }
    return LSM_OK;
}

/* The engine raises it by itself when it reads the manifest. */
static lsm_status check_last_sequence(struct verify *v, const struct walk_manifest *m,
                                      lsm_error *err)
{
    const struct version_edit *state = &v->replay.state;
    uint64_t highest = 0;
    for (size_t i = 0; i < state->added_count; i++)
        highest = state->added[i].max_sequence > highest ? state->added[i].max_sequence : highest;
    if (highest <= state->last_sequence)
        return LSM_OK;
    lsm_finding f = finding_of(FINDING_SEQUENCE_COUNTER);
    f.file = m->name;
    finding_numbers(&f, state->last_sequence, highest);
    return verify_tell(v, &f, err);
}

static lsm_status tell_unread(struct verify *v, lsm_status status, const lsm_error *inner,
                              lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    lsm_finding f =
        finding_of(status == LSM_MISSING ? FINDING_MANIFEST_MISSING : FINDING_MANIFEST_UNREADABLE);
    f.file = file_name_make(FILE_MANIFEST, v->manifest_number, name);
    return verify_say(v, &f, err, "%s",
                      status == LSM_MISSING ? "the manifest in force is missing; see lsm-repair(1)"
                                            : inner->message);
}

static bool is_of_the_machine(lsm_status status)
{
    return status == LSM_NO_MEMORY || status == LSM_CANCELLED || status == LSM_BUSY;
}

/* A frame is there three times: as it was read, as its message, as the edit. */
static uint64_t frame_limit(const struct verify *v)
{
    uint64_t limit = v->options.memory_limit / 4, most = FRAME_MAX_PAYLOAD + VERIFY_MIN_WALK;
    return limit < VERIFY_MIN_WALK ? VERIFY_MIN_WALK : limit < most ? limit : most;
}

static lsm_status walk_edits(struct verify *v, struct walk_manifest *m, lsm_error *err)
{
    for (;;) {
        struct walk_edit edit;
        lsm_status status = walk_manifest_next(m, &edit, err);
        if (status != LSM_OK)
            return status;
        if (edit.length == 0)
            break;
        status = judge_edit(v, m, &edit, err);
        edit_release(&edit.edit);
        if (status != LSM_OK)
            return status;
    }
    if (m->is_first && m->header_fault == FINDING_COUNT && v->state_is_whole) {
        struct walk_edit none = {.offset = FRAME_FILE_HEADER_SIZE};
        v->state_is_whole = false;
        return tell_edit(v, m, &none, FINDING_NO_SNAPSHOT, "", err);
    }
    return check_end(v, m, err);
}

/* Behind the last edit: what tables refer to has to have been added. */
static lsm_status settle_blobs(struct verify *v, const struct walk_manifest *m, lsm_error *err)
{
    lsm_error inner = {.message = ""};
    lsm_status status = replay_settle_blobs(&v->replay, &inner);
    if (status == LSM_OK)
        return LSM_OK;
    if (is_of_the_machine(status)) {
        status_copy(err, &inner);
        return status;
    }
    lsm_finding f = finding_of(FINDING_EDIT_REPLAY);
    f.file = m->name;
    v->state_is_whole = false;
    return verify_say(v, &f, err, "%s", inner.message);
}

static lsm_status walk_current(struct verify *v, lsm_error *err)
{
    struct walk_manifest m;
    lsm_error inner = {.message = ""};
    uint64_t limit = v->db != NULL ? v->view.place.offset : WALK_WHOLE;
    lsm_status status = walk_manifest_open(&v->env, v->manifest_number, limit, &m, &inner);
    v->state_is_whole = status == LSM_OK;
    v->state_bytes = 0;
    if (is_of_the_machine(status)) {
        status_copy(err, &inner);
        return status;
    }
    if (status != LSM_OK)
        return tell_unread(v, status, &inner, err);
    m.frame_limit = frame_limit(v);
    if (m.header_fault != FINDING_COUNT) {
        lsm_finding f = finding_of(m.header_fault);
        finding_place(&f, m.name, 0, FRAME_FILE_HEADER_SIZE);
        status = verify_say(v, &f, err, "%s", m.header_problem.message);
        v->state_is_whole = v->state_is_whole && m.header_fault == FINDING_MANIFEST_HEADER;
    }
    if (status == LSM_OK && m.header_fault != FINDING_MANIFEST_FOREIGN &&
        m.header_fault != FINDING_NEWER_FORMAT)
        status = walk_edits(v, &m, err);
    if (status == LSM_OK && v->replay.has_snapshot)
        status = settle_blobs(v, &m, err);
    v->state_bytes = state_bytes(&v->replay.state);
    v->last_frame = m.chain.number - 1;
    v->has_state = v->replay.has_snapshot;
    v->state_is_whole = v->state_is_whole && v->has_state;
    if (status == LSM_OK && v->state_is_whole)
        status = check_counters(v, &m, err);
    if (status == LSM_OK && v->state_is_whole)
        status = check_last_sequence(v, &m, err);
    walk_manifest_close(&m);
    return status;
}

/* Is everything in it whole? */
static lsm_status check_previous(struct verify *v, uint64_t number, lsm_error *err)
{
    struct walk_manifest m;
    struct walk_edit edit = {.length = 0};
    lsm_error inner = {.message = ""};
    lsm_status status = walk_manifest_open(&v->env, number, WALK_WHOLE, &m, &inner);
    if (status != LSM_OK) {
        if (is_of_the_machine(status))
            status_copy(err, &inner);
        return is_of_the_machine(status) ? status : LSM_OK; /* gone, or told by the inventory */
    }
    bool is_whole = m.header_fault == FINDING_COUNT;
    m.frame_limit = frame_limit(v);
    do {
        status = walk_manifest_next(&m, &edit, err);
        edit_release(&edit.edit);
        if (status == LSM_OK && edit.length > 0)
            is_whole = is_whole && !edit.number_differs && !edit.chain_differs &&
                       !edit.lacks_part &&
                       (edit.fault == FINDING_COUNT || edit.fault == FINDING_MANIFEST_TORN);
    } while (status == LSM_OK && edit.length > 0 && is_whole);
    if (status == LSM_OK && !is_whole) {
        lsm_finding f = finding_of(FINDING_PREVIOUS_DAMAGED);
        finding_place(&f, m.name, edit.length > 0 ? edit.offset : 0, edit.length);
        status = verify_tell(v, &f, err);
    }
    walk_manifest_close(&m);
    return status;
}

static lsm_status check_others(struct verify *v, lsm_error *err)
{
    uint64_t previous = 0;
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < v->listing.count; i++) {
        const struct walk_file *f = &v->listing.files[i];
        if (f->name == WALK_NAME_OURS && f->kind == FILE_MANIFEST &&
            f->number < v->manifest_number && f->number > previous)
            previous = f->number;
    }
    for (size_t i = 0; status == LSM_OK && i < v->listing.count; i++) {
        const struct walk_file *f = &v->listing.files[i];
        if (f->name != WALK_NAME_OURS || f->kind != FILE_MANIFEST ||
            f->number == v->manifest_number || f->number == previous || v->db != NULL)
            continue;
        lsm_finding note = finding_of(f->number > v->manifest_number ? FINDING_NEWER_GENERATION
                                                                     : FINDING_MANIFEST_OLD);
        note.file = f->text;
        status = verify_tell(v, &note, err);
    }
    if (status == LSM_OK && previous > 0)
        status = check_previous(v, previous, err);
    return status;
}

lsm_status verify_manifest(struct verify *v, lsm_error *err)
{
    verify_pass(v, 1, 0);
    if (v->db != NULL)
        v->manifest_number = v->view.place.manifest_number;
    if (v->manifest_number == 0)
        return LSM_OK; /* that CURRENT is lost was told, and there is no other */
    lsm_status status = walk_current(v, err);
    if (status == LSM_OK && v->options.file == NULL)
        status = check_others(v, err);
    return status;
}
