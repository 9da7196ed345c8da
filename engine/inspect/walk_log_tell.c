/* What the visitor hears of damage: which file, where, what of the log it costs, what would put it
 * right. */
#include "engine/inspect/walk_log_private.h"

#include <stdio.h>

lsm_status walk_log_tell(struct log_walk *w, const struct walk_log_damage *damage, lsm_error *err)
{
    if (finding_kind_of(damage->id)->severity == LSM_DAMAGE)
        w->end.damage_count++;
    if (damage->limit > damage->position)
        w->end.lost_bytes += damage->limit - damage->position;
    return w->visitor->damage == NULL ? LSM_OK
                                      : w->visitor->damage(w->visitor->context, damage, err);
}

lsm_status walk_log_tell_saved(struct log_walk *w, const struct log_place *place,
                               enum log_record_fault fault, const struct log_found *f,
                               lsm_error *err)
{
    char text[256];
    snprintf(text, sizeof text, "the log record at position %" PRIu64 " is damaged (%s); %s",
             w->position, log_record_fault_text(fault),
             f->is_corrected ? "one wrong byte explains it" : "the stage file holds it whole");
    struct walk_log_damage d = {
        .id = FINDING_RECORD_CHECKSUM,
        .file = place->name,
        .offset = log_place_offset(place, w->position),
        .length = f->record.size,
        .position = w->position,
        .limit = w->position,
        .is_corrected = f->is_corrected,
        .is_elsewhere = !f->is_corrected,
        .change = f->change,
        .ring_size = place->ring_size,
        .right = {(const uint8_t *)f->record.batch.data - LOG_RECORD_HEAD, f->record.size},
        .text = text};
    return walk_log_tell(w, &d, err);
}

lsm_status walk_log_tell_lost(struct log_walk *w, const struct log_place *place, uint64_t limit,
                              enum log_record_fault fault, lsm_error *err)
{
    char text[256], name[FILE_NAME_SIZE];
    bool in_file = place != NULL && log_place_room(place, w->position, 1) > 0;
    file_name_make(FILE_WAL, w->stretch->number, name);
    snprintf(text, sizeof text,
             "the log from position %" PRIu64 " to %" PRIu64 " cannot be read (%s)", w->position,
             limit, in_file ? log_record_fault_text(fault) : "its bytes are not there");
    struct walk_log_damage d = {.id = in_file ? FINDING_RECORD_CHECKSUM : FINDING_SEGMENT_SHORT,
                                .file = in_file ? place->name : name,
                                .offset =
                                    in_file ? log_place_offset(place, w->position) : LSM_NO_OFFSET,
                                .length = limit - w->position,
                                .position = w->position,
                                .limit = limit,
                                .text = text};
    if (!in_file && w->stretch->state == LOG_HEADER_MISSING)
        d.id = FINDING_SEGMENT_MISSING;
    return walk_log_tell(w, &d, err);
}

lsm_status walk_log_tell_file(struct log_walk *w, enum finding_id id, const char *file,
                              uint64_t length, const char *text, lsm_error *err)
{
    struct walk_log_damage d = {.id = id,
                                .file = file,
                                .length = length,
                                .offset = length > 0 ? 0 : LSM_NO_OFFSET,
                                .position = w->position,
                                .limit = w->position,
                                .text = text};
    return walk_log_tell(w, &d, err);
}

lsm_status walk_log_tell_record(struct log_walk *w, enum finding_id id, const struct log_found *f,
                                uint64_t expected, uint64_t found, const char *text, lsm_error *err)
{
    bool is_lost = id == FINDING_RECORD_MALFORMED;
    struct walk_log_damage d = {.id = id,
                                .file = f->place->name,
                                .offset = log_place_offset(f->place, w->position),
                                .length = f->record.size,
                                .position = w->position,
                                .limit = w->position + (is_lost ? f->record.size : 0),
                                .has_numbers = expected != found,
                                .expected = expected,
                                .found = found,
                                .text = text};
    return walk_log_tell(w, &d, err);
}

lsm_status walk_log_tell_header(struct log_walk *w, lsm_error *err)
{
    const struct log_stretch *s = w->stretch;
    char name[FILE_NAME_SIZE], text[256];
    file_name_make(FILE_WAL, s->number, name);
    if (s->state == LOG_HEADER_GOOD)
        return LSM_OK;
    if (s->state == LOG_HEADER_MISSING) {
        snprintf(text, sizeof text, "log segment '%s' is missing", name);
        return walk_log_tell_file(w, FINDING_SEGMENT_MISSING, name, 0, text, err);
    }
    bool is_foreign =
        s->fault == LOG_SEGMENT_OTHER_DATABASE || s->fault == LOG_SEGMENT_OTHER_NUMBER;
    snprintf(text, sizeof text, "the header of log segment '%s' is bad: %s%s", name,
             log_segment_fault_text(s->fault),
             s->state == LOG_HEADER_CORRECTED ? "; one wrong byte explains it" : "");
    struct walk_log_damage d = {
        .id = is_foreign && s->state == LOG_HEADER_BAD ? FINDING_SEGMENT_FOREIGN
                                                       : FINDING_SEGMENT_HEADER,
        .file = name,
        .length = LOG_SEGMENT_HEADER,
        .position = w->position,
        .limit = w->position,
        .is_corrected = s->state == LOG_HEADER_CORRECTED,
        /* of the newest one the records behind its beginning may have a nonce of their own */
        .is_blind = s->state == LOG_HEADER_BAD &&
                    (!s->has_start || (!is_foreign && !walk_log_is_sealed(w))),
        .change = s->change,
        .text = text};
    return walk_log_tell(w, &d, err);
}

lsm_status walk_log_tell_hole(struct log_walk *w, uint64_t limit, lsm_error *err)
{
    char text[256];
    snprintf(text, sizeof text,
             "the log from position %" PRIu64 " to %" PRIu64 " is not there, and no table holds it",
             w->position, limit);
    struct walk_log_damage d = {.id = FINDING_LOG_HOLE,
                                .offset = LSM_NO_OFFSET,
                                .position = w->position,
                                .limit = limit,
                                .text = text};
    w->previous = 0;
    return walk_log_tell(w, &d, err);
}
