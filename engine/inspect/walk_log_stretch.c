/*
 * One stretch: the positions of one segment, and of the ring behind the newest.
 *
 * At each position the record is tried in the segment, then in the ring, then corrected in either.
 * What none of that gives is damage up to the next whole record, or the end: torn, where nothing
 * proves that the log was durable beyond, else damaged.
 */
#include "engine/inspect/walk_log_private.h"

#include "engine/base/bytes.h"
#include "engine/base/step.h"
#include "engine/format/batch.h"
#include "engine/wal/segment.h"

#include <stdio.h>

/* ---- one record ------------------------------------------------------------------------------ */

static uint64_t count_entries(lsm_slice batch, bool *is_whole)
{
    struct batch_reader r = batch_read(batch);
    struct batch_entry entry;
    uint64_t count = 0;
    while (batch_next(&r, &entry))
        count++;
    *is_whole = !r.corrupt;
    return count;
}

/* A whole record stands at w->position: tells it and goes on behind it. */
static lsm_status take(struct log_walk *w, const struct log_found *f, lsm_error *err)
{
    struct walk_log_record r = {.position = w->position,
                                .end = w->position + f->record.size,
                                .sequence = f->record.sequence,
                                .synced = f->record.synced,
                                .batch = f->record.batch,
                                .file = f->place->name,
                                .offset = log_place_offset(f->place, w->position),
                                .is_corrected = f->is_corrected};
    bool is_whole;
    lsm_status status = LSM_OK;
    r.entry_count = count_entries(r.batch, &is_whole);
    if (w->previous != 0 && f->record.previous != w->previous)
        status = walk_log_tell_record(w, FINDING_RECORD_CHAIN, f, w->previous, f->record.previous,
                                      "a log record does not follow the one before", err);
    if (status == LSM_OK && f->record.sequence <= w->end.last_sequence)
        status = walk_log_tell_record(w, FINDING_RECORD_SEQUENCE, f, w->end.last_sequence + 1,
                                      f->record.sequence, "the sequence numbers of the log go back",
                                      err);
    if (status == LSM_OK && !is_whole)
        status = walk_log_tell_record(
            w, FINDING_RECORD_MALFORMED, f, 0, 0,
            "a log record fits its checksum, but its batch does not decode", err);
    else if (status == LSM_OK && w->visitor->record != NULL)
        status = w->visitor->record(w->visitor->context, &r, err);
    if (status != LSM_OK)
        return status;
    if (is_whole) {
        w->end.record_count++;
        w->end.entry_count += r.entry_count;
        w->end.bytes += f->record.size;
        if (f->record.sequence > w->end.last_sequence)
            w->end.last_sequence = f->record.sequence;
    }
    w->position = r.end;
    w->end.position = r.end;
    w->previous = f->record.checksum;
    return LSM_OK;
}

/* Where the record at w->position stands, had or had not: for messages. */
static struct log_place *home_of(struct log_walk *w)
{
    if (log_place_room(&w->segment, w->position, LOG_RECORD_MIN) >= LOG_RECORD_MIN)
        return &w->segment;
    return w->ring.file != NULL ? &w->ring : NULL;
}

/*
 * No place has the record at w->position whole, nor can it be corrected. Tells what is lost and
 * goes on at the next whole one; *ended: there is none, or the log was torn here.
 */
static lsm_status skip(struct log_walk *w, enum log_record_fault fault, bool *ended, lsm_error *err)
{
    uint64_t next = LOG_NOT_SEALED;
    *ended = true;
    lsm_status status = LSM_OK;
    if (!walk_log_is_sealed(w)) {
        status = walk_log_prove(w, err);
        if (status != LSM_OK || w->position >= w->proven)
            return status;
    }
    status = walk_log_find_next(w, w->position + LOG_RECORD_ALIGNMENT, &next, err);
    if (status != LSM_OK)
        return status;
    uint64_t limit = next;
    if (next == LOG_NOT_SEALED) {
        limit = walk_log_is_sealed(w) ? w->stretch->end : w->proven;
        limit = limit < w->position ? w->position : limit;
    }
    status = walk_log_tell_lost(w, home_of(w), limit, fault, err);
    w->position = limit;
    w->previous = 0;
    *ended = next == LOG_NOT_SEALED;
    return status;
}

/* Where nothing proves that the log went on, it would end here without a word of damage. */
static lsm_status is_worth_correcting(struct log_walk *w, bool *is, lsm_error *err)
{
    const struct walk_log_options *o = w->options;
    *is = !o->no_correcting;
    if (!o->no_correcting || !o->corrects_end || walk_log_is_sealed(w))
        return LSM_OK;
    lsm_status status = walk_log_prove(w, err);
    *is = status == LSM_OK && w->position >= w->proven;
    return status;
}

static lsm_status try_places(struct log_walk *w, struct log_found *f, struct log_found *first,
                             lsm_error *err)
{
    lsm_status status = walk_log_read(w, &w->segment, w->position, f, err);
    *first = *f;
    if (status == LSM_OK && f->fault != LOG_RECORD_OK)
        status = walk_log_read(w, &w->ring, w->position, f, err);
    bool may_correct = false;
    if (status == LSM_OK && f->fault != LOG_RECORD_OK)
        status = is_worth_correcting(w, &may_correct, err);
    if (status == LSM_OK && may_correct)
        status = walk_log_correct(w, &w->segment, w->position, f, err);
    if (status == LSM_OK && may_correct && f->fault != LOG_RECORD_OK)
        status = walk_log_correct(w, &w->ring, w->position, f, err);
    return status;
}

/* Is it damage that the segment does not have the record? Not where the ring takes over: the log
 * was durable only as far as later records say. */
static lsm_status was_in_segment(struct log_walk *w, bool *was, lsm_error *err)
{
    *was = walk_log_is_sealed(w);
    if (*was)
        return LSM_OK;
    lsm_status status = walk_log_prove(w, err);
    *was = status == LSM_OK && w->position < w->proven;
    return status;
}

/*
 * The ring has the record, and it is not known yet that it has the log alone: should the segment
 * have it as well? The search moves the window, so the record is read anew. Writers may have come
 * round to it meanwhile; they wait until the segment has what they write over, so there it is now.
 */
static lsm_status judge_segment(struct log_walk *w, struct log_found *f, struct log_found *first,
                                bool *in_segment, bool *was_there, lsm_error *err)
{
    lsm_status status = was_in_segment(w, was_there, err);
    STEP("log walk: searched");
    if (status == LSM_OK)
        status = walk_log_read(w, &w->ring, w->position, f, err);
    if (status == LSM_OK && f->fault != LOG_RECORD_OK) {
        *was_there = false;
        log_place_refresh(&w->segment);
        status = try_places(w, f, first, err);
    } else if (status == LSM_OK && !*was_there && !walk_log_is_sealed(w)) {
        *in_segment = false; /* from here on the ring has the log alone */
    }
    return status;
}

static lsm_status walk_record(struct log_walk *w, bool *in_segment, bool *ended, lsm_error *err)
{
    struct log_found f, first;
    bool was_there = false;
    lsm_status status = try_places(w, &f, &first, err);
    if (status == LSM_OK && f.fault == LOG_RECORD_OK && f.place == &w->ring && !f.is_corrected &&
        *in_segment)
        status = judge_segment(w, &f, &first, in_segment, &was_there, err);
    if (status == LSM_OK && f.fault != LOG_RECORD_OK)
        return skip(w, first.fault, ended, err);
    if (status == LSM_OK && (f.is_corrected || was_there))
        status =
            walk_log_tell_saved(w, f.is_corrected ? f.place : &w->segment, first.fault, &f, err);
    return status == LSM_OK ? take(w, &f, err) : status;
}

/* ---- the run of them ------------------------------------------------------------------------- */

static lsm_status open_segment(struct log_walk *w, lsm_error *err)
{
    const struct log_stretch *s = w->stretch;
    if (s->state == LOG_HEADER_MISSING)
        return LSM_OK;
    lsm_status status = log_place_open(&w->segment, w->options->dir, FILE_WAL, s->number, err);
    if (status != LSM_OK)
        return status;
    struct log_place *p = &w->segment;
    uint64_t bytes = p->file_size < LOG_SEGMENT_HEADER ? 0 : p->file_size - LOG_SEGMENT_HEADER;
    p->start = s->start;
    p->limit = bytes > LOG_NOT_SEALED - s->start ? LOG_NOT_SEALED : s->start + bytes;
    if (log_stretch_has_header(s) && p->limit > log_segment_limit(&s->header))
        p->limit = log_segment_limit(&s->header);
    if (p->limit > s->end)
        p->limit = s->end;
    return LSM_OK;
}

/* The ring ends the log of the newest segment: is there a record begun? */
static lsm_status tell_torn(struct log_walk *w, lsm_error *err)
{
    struct log_place *places[] = {&w->ring, &w->segment};
    for (size_t i = 0; i < 2; i++) {
        const uint8_t *head;
        if (log_place_room(places[i], w->position, LOG_RECORD_MIN) < LOG_RECORD_MIN)
            continue;
        lsm_status status = log_place_get(places[i], w->position, LOG_RECORD_HEAD, &head, err);
        if (status != LSM_OK)
            return status;
        if (bytes_get_u32(head) != LOG_RECORD_MAGIC ||
            log_record_peek_position(head) != w->position)
            continue;
        w->end.is_torn = true;
        struct walk_log_damage d = {.id = FINDING_LOG_TORN,
                                    .file = places[i]->name,
                                    .offset = log_place_offset(places[i], w->position),
                                    .position = w->position,
                                    .limit = w->position,
                                    .text = "the log ends in a record that was never acknowledged"};
        return walk_log_tell(w, &d, err);
    }
    return LSM_OK;
}

/* A segment that is shorter than the next opening wants it to be, whatever was in the rest. */
static lsm_status check_length(struct log_walk *w, lsm_error *err)
{
    const struct log_stretch *s = w->stretch;
    char text[160];
    if (!log_stretch_has_header(s) || w->segment.file == NULL)
        return LSM_OK;
    uint64_t wanted =
        walk_log_is_sealed(w) ? segment_sealed_size(&s->header, s->end) : s->header.size;
    if (w->segment.file_size >= wanted)
        return LSM_OK;
    snprintf(text, sizeof text, "log segment '%s' has %" PRIu64 " bytes, and should have %" PRIu64,
             w->segment.name, w->segment.file_size, wanted);
    struct walk_log_damage d = {.id = FINDING_SEGMENT_SHORT,
                                .file = w->segment.name,
                                .offset = w->segment.file_size,
                                .length = wanted - w->segment.file_size,
                                .position = w->position,
                                .limit = w->position,
                                .has_numbers = true,
                                .expected = wanted,
                                .found = w->segment.file_size,
                                .text = text};
    return walk_log_tell(w, &d, err);
}

lsm_status walk_log_stretch(struct log_walk *w, lsm_error *err)
{
    const struct log_stretch *s = w->stretch;
    bool in_segment = true, ended = false;
    w->has_proven = false;
    lsm_status status = walk_log_tell_header(w, err);
    if (status == LSM_OK && w->position < s->start) {
        w->position = s->start;
        w->previous = 0;
    }
    if (status == LSM_OK)
        status = open_segment(w, err);
    if (status == LSM_OK)
        status = check_length(w, err);
    while (status == LSM_OK && !ended && w->position < s->end) {
        if (log_stretch_has_header(s) && w->position == s->header.resume && s->header.chain != 0 &&
            w->previous == 0)
            w->previous = s->header.chain;
        status = walk_record(w, &in_segment, &ended, err);
    }
    if (status == LSM_OK && !walk_log_is_sealed(w))
        status = tell_torn(w, err);
    log_place_close(&w->segment);
    return status;
}
