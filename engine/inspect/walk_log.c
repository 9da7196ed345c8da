/*
 * One stretch after the other, from the position on that tables do not hold. At each position the
 * record is tried in the places that may have it; see the header for the order.
 */
#include "engine/inspect/walk_log.h"

#include "engine/base/memory.h"
#include "engine/format/batch.h"
#include "engine/inspect/log_order.h"
#include "engine/inspect/log_place.h"
#include "engine/wal/segment.h"

#include <stdio.h>
#include <string.h>

/* Bytes that may be hashed for things that turn out to be no records, besides the files' size. */
#define SEARCH_BUDGET (UINT64_C(4) << 30)
/* A record whose length is damaged is looked for up to here. */
#define CORRECT_REACH ((size_t)1 << 20)
#define SCAN_STEP     ((size_t)64 << 10)

struct walk {
    const struct walk_log_options *options;
    const struct walk_log_visitor *visitor;
    struct log_order order;
    const struct log_stretch *stretch;
    struct log_place segment; /* of the stretch; closed: it has no file */
    struct log_place ring;
    struct walk_log_end end;
    uint64_t position;
    uint64_t previous; /* checksum of the record before; 0: not known */
    bool has_proven;
    uint64_t proven; /* the log is known to have been durable up to here */
    uint64_t budget;
    struct buffer scratch;
};

/* A whole record, and where it is. */
struct found {
    struct log_place *place;
    struct log_record record;
    enum log_record_fault fault; /* when it is not whole */
    bool is_corrected;
    struct correct_change change;
};

/* ---- telling --------------------------------------------------------------------------------- */

static lsm_status tell(struct walk *w, const struct walk_log_damage *damage, lsm_error *err)
{
    if (finding_kind_of(damage->id)->severity == LSM_DAMAGE)
        w->end.damage_count++;
    if (damage->limit > damage->position)
        w->end.lost_bytes += damage->limit - damage->position;
    return w->visitor->damage == NULL ? LSM_OK
                                      : w->visitor->damage(w->visitor->context, damage, err);
}

/* The record at w->position was damaged and is not lost. */
static lsm_status tell_saved(struct walk *w, const struct log_place *place,
                             enum log_record_fault fault, const struct found *f, lsm_error *err)
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
    return tell(w, &d, err);
}

static lsm_status tell_lost(struct walk *w, const struct log_place *place, uint64_t limit,
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
    return tell(w, &d, err);
}

/* Damage of a file as a whole: no part of the log is lost by that alone. */
static lsm_status tell_file(struct walk *w, enum finding_id id, const char *file, uint64_t length,
                            const char *text, lsm_error *err)
{
    struct walk_log_damage d = {.id = id,
                                .file = file,
                                .length = length,
                                .offset = length > 0 ? 0 : LSM_NO_OFFSET,
                                .position = w->position,
                                .limit = w->position,
                                .text = text};
    return tell(w, &d, err);
}

/* ---- one record ------------------------------------------------------------------------------ */

static bool is_sealed(const struct walk *w)
{
    return w->stretch->end != LOG_NOT_SEALED;
}

static void decode(struct walk *w, lsm_slice bytes, uint64_t position, struct found *f)
{
    if (log_stretch_has_header(w->stretch)) {
        uint64_t seed = log_segment_seed(&w->stretch->header, position);
        f->fault = log_record_decode(bytes, position, seed, &f->record);
        return;
    }
    f->fault = LOG_RECORD_BAD_CHECKSUM;
    for (size_t i = 0; i < w->order.seed_count && f->fault != LOG_RECORD_OK; i++)
        f->fault = log_record_decode(bytes, position, w->order.seeds[i], &f->record);
}

/* The record at `position` as it stands in `place`; f->fault says what is wrong with it. */
static lsm_status read_at(struct walk *w, struct log_place *place, uint64_t position,
                          struct found *f, lsm_error *err)
{
    const uint8_t *bytes;
    size_t size = 0;
    *f = (struct found){.place = place, .fault = LOG_RECORD_SHORT};
    if (log_place_room(place, position, LOG_RECORD_MIN) < LOG_RECORD_MIN)
        return LSM_OK;
    lsm_status status = log_place_get(place, position, LOG_RECORD_HEAD, &bytes, err);
    if (status != LSM_OK)
        return status;
    f->fault = log_record_peek(bytes, &size);
    if (f->fault == LOG_RECORD_OK && log_record_peek_position(bytes) != position)
        f->fault = LOG_RECORD_OTHER_POSITION;
    if (f->fault == LOG_RECORD_OK &&
        (size > WALK_LOG_MAX_RECORD || log_place_room(place, position, size) < size ||
         size > w->stretch->end - position))
        f->fault = LOG_RECORD_BAD_LENGTH;
    if (f->fault != LOG_RECORD_OK)
        return LSM_OK;
    if (size > w->budget) {
        f->fault = LOG_RECORD_BAD_CHECKSUM;
        return LSM_OK;
    }
    status = log_place_get(place, position, size, &bytes, err);
    if (status != LSM_OK)
        return status;
    decode(w, (lsm_slice){bytes, size}, position, f);
    if (f->fault != LOG_RECORD_OK)
        w->budget -= size;
    return LSM_OK;
}

/* Do the bytes begin as the record at `position` would, but for one byte? */
static bool looks_like_one(const uint8_t *head, uint64_t position)
{
    uint8_t expected[8];
    unsigned wrong = 0;
    bytes_put_u32(expected, LOG_RECORD_MAGIC);
    for (size_t i = 0; i < 4; i++)
        wrong += head[i] != expected[i];
    bytes_put_u64(expected, position);
    for (size_t i = 0; i < 8; i++)
        wrong += head[8 + i] != expected[i];
    return wrong <= 1;
}

static enum correct_outcome correct_bytes(struct walk *w, uint64_t position,
                                          struct correct_change *change)
{
    struct buffer *s = &w->scratch;
    if (log_stretch_has_header(w->stretch))
        return correct_log_record(s->data, s->size, log_segment_seed(&w->stretch->header, position),
                                  change);
    enum correct_outcome outcome = CORRECT_FAILED;
    for (size_t i = 0; i < w->order.seed_count && outcome != CORRECT_DONE; i++)
        outcome = correct_log_record(s->data, s->size, w->order.seeds[i], change);
    return outcome;
}

/* Tries to put right the record that stands at `position` of `place`; its bytes are then in the
 * scratch. */
static lsm_status correct_at(struct walk *w, struct log_place *place, uint64_t position,
                             struct found *f, lsm_error *err)
{
    const uint8_t *bytes;
    size_t claimed = 0;
    if (log_place_room(place, position, LOG_RECORD_MIN) < LOG_RECORD_MIN)
        return LSM_OK;
    lsm_status status = log_place_get(place, position, LOG_RECORD_HEAD, &bytes, err);
    if (status != LSM_OK || !looks_like_one(bytes, position))
        return status;
    claimed = bytes_get_u32(bytes + 4);
    size_t reach = claimed > CORRECT_REACH ? claimed : CORRECT_REACH;
    uint64_t left = w->stretch->end - position;
    reach = left < reach ? (size_t)left : reach;
    reach = log_place_room(place, position, reach);
    if (reach > w->budget || reach > WALK_LOG_MAX_RECORD)
        return LSM_OK;
    status = log_place_get(place, position, reach, &bytes, err);
    if (status != LSM_OK)
        return status;
    if (!buffer_assign(&w->scratch, (lsm_slice){bytes, reach}))
        return lsm_fail_memory(err, reach);
    w->budget -= reach;
    if (correct_bytes(w, position, &f->change) != CORRECT_DONE)
        return LSM_OK;
    decode(w, buffer_slice(&w->scratch), position, f);
    f->is_corrected = f->fault == LOG_RECORD_OK;
    f->place = place;
    return LSM_OK;
}

/* ---- the next whole record ------------------------------------------------------------------- */

/* The first whole record of `place` at a position in [from, limit); `limit` when there is none. */
static lsm_status scan(struct walk *w, struct log_place *place, uint64_t from, uint64_t limit,
                       uint64_t *next, lsm_error *err)
{
    *next = limit;
    for (uint64_t at = from; at < limit;) {
        const uint8_t *bytes;
        size_t size = log_place_room(place, at, SCAN_STEP);
        if (limit - at < size)
            size = (size_t)(limit - at);
        size -= size % LOG_RECORD_ALIGNMENT;
        if (size < LOG_RECORD_ALIGNMENT)
            return LSM_OK;
        lsm_status status = log_place_get(place, at, size, &bytes, err);
        if (status != LSM_OK)
            return status;
        size_t i = 0;
        while (i < size && bytes_get_u32(bytes + i) != LOG_RECORD_MAGIC)
            i += LOG_RECORD_ALIGNMENT;
        at += i;
        if (i >= size)
            continue;
        struct found f;
        status = read_at(w, place, at, &f, err);
        if (status != LSM_OK)
            return status;
        if (f.fault == LOG_RECORD_OK) {
            *next = at;
            return LSM_OK;
        }
        at += LOG_RECORD_ALIGNMENT;
    }
    return LSM_OK;
}

/* Where places of the ring and of the segment end, for a search from `from` on. */
static uint64_t reach_of(const struct walk *w, const struct log_place *place, uint64_t from)
{
    uint64_t reach = 0;
    if (place->file == NULL)
        return from;
    if (place->ring_size > 0)
        reach = from + place->ring_size;
    else
        reach = place->limit;
    return reach < w->stretch->end ? reach : w->stretch->end;
}

/* LOG_NOT_SEALED when there is none. */
static lsm_status find_next(struct walk *w, uint64_t from, uint64_t *next, lsm_error *err)
{
    uint64_t in_segment = LOG_NOT_SEALED, in_ring = LOG_NOT_SEALED;
    uint64_t limit = reach_of(w, &w->segment, from);
    lsm_status status = LSM_OK;
    if (limit > from) {
        status = scan(w, &w->segment, from, limit, &in_segment, err);
        in_segment = in_segment == limit ? LOG_NOT_SEALED : in_segment;
    }
    limit = reach_of(w, &w->ring, from);
    limit = in_segment < limit ? in_segment : limit;
    if (status == LSM_OK && limit > from) {
        status = scan(w, &w->ring, from, limit, &in_ring, err);
        in_ring = in_ring == limit ? LOG_NOT_SEALED : in_ring;
    }
    *next = in_segment < in_ring ? in_segment : in_ring;
    return status;
}

/* ---- torn or rotten -------------------------------------------------------------------------- */

/* Raises w->proven to what the whole records of `place` say; a place of the ring may hold any
 * position that falls on it. */
static lsm_status prove_from(struct walk *w, struct log_place *place, uint64_t from, uint64_t limit,
                             lsm_error *err)
{
    for (uint64_t at = from; at < limit; at += LOG_RECORD_ALIGNMENT) {
        const uint8_t *bytes;
        size_t size = log_place_room(place, at, SCAN_STEP), i = 0;
        if (limit - at < size)
            size = (size_t)(limit - at);
        size -= size % LOG_RECORD_ALIGNMENT;
        if (size < LOG_RECORD_MIN)
            return LSM_OK;
        lsm_status status = log_place_get(place, at, size, &bytes, err);
        if (status != LSM_OK)
            return status;
        while (i + LOG_RECORD_HEAD <= size && bytes_get_u32(bytes + i) != LOG_RECORD_MAGIC)
            i += LOG_RECORD_ALIGNMENT;
        if (i + LOG_RECORD_HEAD > size) { /* the head may go over the end of the step */
            at += size > LOG_RECORD_HEAD ? size - LOG_RECORD_HEAD : 0;
            continue;
        }
        at += i;
        uint64_t position = log_record_peek_position(bytes + i);
        uint64_t synced = log_record_peek_synced(bytes + i);
        bool possible = place->ring_size == 0
                            ? position == at
                            : position >= at && position < LOG_NOT_SEALED &&
                                  position % place->ring_size == at % place->ring_size;
        if (!possible || synced > position || synced <= w->proven)
            continue;
        struct found f;
        status = read_at(w, place, position, &f, err);
        if (status != LSM_OK)
            return status;
        if (f.fault == LOG_RECORD_OK)
            w->proven = synced;
    }
    return LSM_OK;
}

/* How far the log is known to have been durable. */
static lsm_status prove(struct walk *w, lsm_error *err)
{
    if (w->has_proven)
        return LSM_OK;
    w->has_proven = true;
    w->proven = log_stretch_has_header(w->stretch) ? w->stretch->header.resume : 0;
    lsm_status status = LSM_OK;
    if (w->segment.file != NULL && w->segment.limit > w->position)
        status = prove_from(w, &w->segment, w->position, w->segment.limit, err);
    if (status == LSM_OK && w->ring.file != NULL)
        status = prove_from(w, &w->ring, w->position, w->position + w->ring.ring_size, err);
    return status;
}

/* ---- a stretch ------------------------------------------------------------------------------- */

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

static lsm_status tell_record(struct walk *w, enum finding_id id, const struct found *f,
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
    return tell(w, &d, err);
}

/* A whole record stands at w->position: tells it and goes on behind it. */
static lsm_status take(struct walk *w, const struct found *f, lsm_error *err)
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
        status = tell_record(w, FINDING_RECORD_CHAIN, f, w->previous, f->record.previous,
                             "a log record does not follow the one before", err);
    if (status == LSM_OK && f->record.sequence <= w->end.last_sequence)
        status = tell_record(w, FINDING_RECORD_SEQUENCE, f, w->end.last_sequence + 1,
                             f->record.sequence, "the sequence numbers of the log go back", err);
    if (status == LSM_OK && !is_whole)
        status = tell_record(w, FINDING_RECORD_MALFORMED, f, 0, 0,
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
static struct log_place *home_of(struct walk *w)
{
    if (log_place_room(&w->segment, w->position, LOG_RECORD_MIN) >= LOG_RECORD_MIN)
        return &w->segment;
    return w->ring.file != NULL ? &w->ring : NULL;
}

/*
 * No place has the record at w->position whole, nor can it be corrected. Tells what is lost and
 * goes on at the next whole one; *ended: there is none, or the log was torn here.
 */
static lsm_status skip(struct walk *w, enum log_record_fault fault, bool *ended, lsm_error *err)
{
    uint64_t next = LOG_NOT_SEALED;
    *ended = true;
    lsm_status status = LSM_OK;
    if (!is_sealed(w)) {
        status = prove(w, err);
        if (status != LSM_OK || w->position >= w->proven)
            return status;
    }
    status = find_next(w, w->position + LOG_RECORD_ALIGNMENT, &next, err);
    if (status != LSM_OK)
        return status;
    uint64_t limit = next;
    if (next == LOG_NOT_SEALED) {
        limit = is_sealed(w) ? w->stretch->end : w->proven;
        limit = limit < w->position ? w->position : limit;
    }
    status = tell_lost(w, home_of(w), limit, fault, err);
    w->position = limit;
    w->previous = 0;
    *ended = next == LOG_NOT_SEALED;
    return status;
}

/* Where nothing proves that the log went on, it would end here without a word of damage. */
static lsm_status is_worth_correcting(struct walk *w, bool *is, lsm_error *err)
{
    const struct walk_log_options *o = w->options;
    *is = !o->no_correcting;
    if (!o->no_correcting || !o->corrects_end || is_sealed(w))
        return LSM_OK;
    lsm_status status = prove(w, err);
    *is = status == LSM_OK && w->position >= w->proven;
    return status;
}

static lsm_status try_places(struct walk *w, struct found *f, struct found *first, lsm_error *err)
{
    lsm_status status = read_at(w, &w->segment, w->position, f, err);
    *first = *f;
    if (status == LSM_OK && f->fault != LOG_RECORD_OK)
        status = read_at(w, &w->ring, w->position, f, err);
    bool may_correct = false;
    if (status == LSM_OK && f->fault != LOG_RECORD_OK)
        status = is_worth_correcting(w, &may_correct, err);
    if (status == LSM_OK && may_correct)
        status = correct_at(w, &w->segment, w->position, f, err);
    if (status == LSM_OK && may_correct && f->fault != LOG_RECORD_OK)
        status = correct_at(w, &w->ring, w->position, f, err);
    return status;
}

/* Is it damage that the segment does not have the record? Not where the ring takes over: the log
 * was durable only as far as later records say. */
static lsm_status was_in_segment(struct walk *w, bool *was, lsm_error *err)
{
    *was = is_sealed(w);
    if (*was)
        return LSM_OK;
    lsm_status status = prove(w, err);
    *was = status == LSM_OK && w->position < w->proven;
    return status;
}

static lsm_status walk_record(struct walk *w, bool *in_segment, bool *ended, lsm_error *err)
{
    struct found f, first;
    bool was_there = false;
    lsm_status status = try_places(w, &f, &first, err);
    if (status != LSM_OK)
        return status;
    if (f.fault != LOG_RECORD_OK)
        return skip(w, first.fault, ended, err);
    if (f.place == &w->ring && !f.is_corrected && *in_segment) {
        status = was_in_segment(w, &was_there, err);
        if (status == LSM_OK && !was_there && !is_sealed(w))
            *in_segment = false; /* from here on the ring has the log alone */
        if (status == LSM_OK)    /* the search has moved the window */
            status = read_at(w, &w->ring, w->position, &f, err);
    }
    if (status == LSM_OK && (f.is_corrected || was_there))
        status = tell_saved(w, f.is_corrected ? f.place : &w->segment, first.fault, &f, err);
    return status == LSM_OK ? take(w, &f, err) : status;
}

static lsm_status open_segment(struct walk *w, lsm_error *err)
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

static lsm_status tell_header(struct walk *w, lsm_error *err)
{
    const struct log_stretch *s = w->stretch;
    char name[FILE_NAME_SIZE], text[256];
    file_name_make(FILE_WAL, s->number, name);
    if (s->state == LOG_HEADER_GOOD)
        return LSM_OK;
    if (s->state == LOG_HEADER_MISSING) {
        snprintf(text, sizeof text, "log segment '%s' is missing", name);
        return tell_file(w, FINDING_SEGMENT_MISSING, name, 0, text, err);
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
        .is_blind = s->state == LOG_HEADER_BAD && (!s->has_start || (!is_foreign && !is_sealed(w))),
        .change = s->change,
        .text = text};
    return tell(w, &d, err);
}

/* The ring ends the log of the newest segment: is there a record begun? */
static lsm_status tell_torn(struct walk *w, lsm_error *err)
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
        return tell(w, &d, err);
    }
    return LSM_OK;
}

/* A segment that is shorter than the next opening wants it to be, whatever was in the rest. */
static lsm_status check_length(struct walk *w, lsm_error *err)
{
    const struct log_stretch *s = w->stretch;
    char text[160];
    if (!log_stretch_has_header(s) || w->segment.file == NULL)
        return LSM_OK;
    uint64_t wanted = is_sealed(w) ? segment_sealed_size(&s->header, s->end) : s->header.size;
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
    return tell(w, &d, err);
}

static lsm_status walk_stretch(struct walk *w, lsm_error *err)
{
    const struct log_stretch *s = w->stretch;
    bool in_segment = true, ended = false;
    w->has_proven = false;
    lsm_status status = tell_header(w, err);
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
    if (status == LSM_OK && !is_sealed(w))
        status = tell_torn(w, err);
    log_place_close(&w->segment);
    return status;
}

/* ---- the whole log --------------------------------------------------------------------------- */

/* The newest segment lost its header: its first whole record tells where it begins. */
static lsm_status place_newest(struct walk *w, struct log_stretch *s, lsm_error *err)
{
    struct log_place place;
    lsm_status status = log_place_open(&place, w->options->dir, FILE_WAL, s->number, err);
    if (status != LSM_OK)
        return status;
    w->stretch = s;
    s->end = LOG_NOT_SEALED;
    for (uint64_t offset = LOG_SEGMENT_HEADER; offset + LOG_RECORD_MIN <= place.file_size;
         offset += LOG_RECORD_ALIGNMENT) {
        const uint8_t *head;
        struct found f;
        place.start = LOG_SEGMENT_HEADER; /* so that positions are offsets */
        place.limit = place.file_size;
        status = log_place_get(&place, offset, LOG_RECORD_HEAD, &head, err);
        if (status != LSM_OK)
            break;
        uint64_t position = log_record_peek_position(head);
        if (bytes_get_u32(head) != LOG_RECORD_MAGIC || position > LOG_NOT_SEALED / 2 ||
            position < offset - LOG_SEGMENT_HEADER)
            continue;
        place.start = position - (offset - LOG_SEGMENT_HEADER);
        place.limit = place.start + (place.file_size - LOG_SEGMENT_HEADER);
        status = read_at(w, &place, position, &f, err);
        if (status != LSM_OK || f.fault != LOG_RECORD_OK)
            continue;
        s->has_start = true;
        s->start = place.start;
        break;
    }
    log_place_close(&place);
    return status;
}

/* The last one that needs nothing before it: the walk begins there. */
static size_t first_stretch(const struct walk *w, uint64_t from)
{
    size_t first = 0;
    for (size_t i = 0; i < w->order.count; i++) {
        const struct log_stretch *s = &w->order.stretches[i];
        if (i + 1 < w->order.count && s->end <= from)
            first = i + 1;
    }
    return first;
}

static lsm_status begin(struct walk *w, lsm_error *err)
{
    const struct walk_log_options *o = w->options;
    struct log_order *order = &w->order;
    if (order->has_stage) {
        lsm_status status = log_place_open(&w->ring, o->dir, FILE_STAGE, 0, err);
        if (status == LSM_CORRUPT || status == LSM_MISSING)
            status = LSM_OK; /* no file at all: told by who looks at the inventory */
        if (status == LSM_OK && w->ring.file != NULL &&
            (w->ring.file_size == 0 || w->ring.file_size % IO_ALIGNMENT != 0 ||
             w->ring.file_size > WALK_LOG_MAX_STAGE)) {
            if (w->ring.file_size > WALK_LOG_MAX_STAGE)
                w->ring.ring_size = 0;         /* looking through it could take for ever */
            if (!o->clean || order->count > 0) /* else it is made anew, and nothing is lost */
                status = tell_file(w, FINDING_STAGE_SIZE, w->ring.name, w->ring.file_size,
                                   "the stage file has a size that it cannot have", err);
        }
        if (w->ring.ring_size == 0)
            log_place_close(&w->ring);
        if (status != LSM_OK)
            return status;
    }
    for (size_t i = 0; i < order->count; i++) {
        struct log_stretch *s = &order->stretches[i];
        lsm_status status = LSM_OK;
        if (i + 1 == order->count && !s->has_start && s->state == LOG_HEADER_BAD)
            status = place_newest(w, s, err);
        if (status != LSM_OK)
            return status;
        if (o->from_oldest && s->has_start && s->state != LOG_HEADER_MISSING) {
            w->position = s->start;
            break;
        }
    }
    return LSM_OK;
}

/* Between the tables' end and the oldest segment there is nothing. */
static lsm_status tell_hole(struct walk *w, uint64_t limit, lsm_error *err)
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
    return tell(w, &d, err);
}

static lsm_status walk_all(struct walk *w, lsm_error *err)
{
    lsm_status status = begin(w, err);
    w->end.first_position = w->end.position = w->position;
    size_t first = first_stretch(w, w->position);
    bool is_first = true;
    for (size_t i = first; status == LSM_OK && i < w->order.count; i++) {
        w->stretch = &w->order.stretches[i];
        if (!w->stretch->has_start) { /* nothing in it can be told from rubbish */
            status = tell_header(w, err);
            continue;
        }
        if (is_first && w->stretch->start > w->position)
            status = tell_hole(w, w->stretch->start, err);
        is_first = false;
        if (status == LSM_OK)
            status = walk_stretch(w, err);
        w->end.newest_start = w->stretch->start;
    }
    if (status == LSM_OK && w->order.count == 0 && !w->options->clean && w->position > 0)
        status = tell_file(w, FINDING_SEGMENT_MISSING, NULL, 0,
                           "there is no log segment, but the database was not closed", err);
    return status;
}

/* No record can stand beyond: every segment's file and a whole ring are counted in. */
static uint64_t highest_position(const struct walk *w)
{
    uint64_t highest = w->position;
    for (size_t i = 0; i < w->order.count; i++) {
        const struct log_stretch *s = &w->order.stretches[i];
        if (log_stretch_has_header(s) && log_segment_limit(&s->header) > highest)
            highest = log_segment_limit(&s->header);
        if (s->has_start && s->start > highest)
            highest = s->start;
    }
    highest += w->ring.ring_size;
    return (highest + (IO_ALIGNMENT - 1)) & ~(uint64_t)(IO_ALIGNMENT - 1);
}

lsm_status walk_log(const struct walk_log_options *options, const struct walk_log_visitor *visitor,
                    struct walk_log_end *end, lsm_error *err)
{
    struct walk w = {.options = options,
                     .visitor = visitor,
                     .position = options->from_oldest ? 0 : options->from,
                     .previous = options->from_oldest ? 0 : options->chain,
                     .budget = SEARCH_BUDGET};
    if (w.position > LOG_NOT_SEALED || w.position % LOG_RECORD_ALIGNMENT != 0)
        return lsm_fail(err, LSM_CORRUPT,
                        "the log cannot be read from position %" PRIu64 ": no record begins there",
                        w.position);
    lsm_status status = log_order_read(options, &w.order, err);
    if (status == LSM_OK)
        status = walk_all(&w, err);
    if (status == LSM_OK) {
        w.end.segment_count = w.order.count;
        w.end.newest_segment = w.order.newest;
        w.end.next_segment = w.order.next_number;
        w.end.highest_position = highest_position(&w);
        *end = w.end;
    }
    log_place_close(&w.segment);
    log_place_close(&w.ring);
    log_order_release(&w.order);
    buffer_release(&w.scratch);
    return status;
}
