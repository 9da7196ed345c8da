/*
 * One stretch after the other, from the position on that tables do not hold; see
 * walk_log_stretch.c for what is done in each, and the header for where a record is looked for.
 */
#include "engine/inspect/walk_log_private.h"

#include "engine/base/bytes.h"
#include "engine/wal/segment.h"

#include <inttypes.h>
#include <stdio.h>

/* Bytes that may be hashed for things that turn out to be no records, besides the files' size. */
#define SEARCH_BUDGET (UINT64_C(4) << 30)

/* The newest segment lost its header: its first whole record tells where it begins. */
static lsm_status place_newest(struct log_walk *w, struct log_stretch *s, lsm_error *err)
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
        struct log_found f;
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
        status = walk_log_read(w, &place, position, &f, err);
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
static size_t first_stretch(const struct log_walk *w, uint64_t from)
{
    size_t first = 0;
    for (size_t i = 0; i < w->order.count; i++) {
        const struct log_stretch *s = &w->order.stretches[i];
        if (i + 1 < w->order.count && s->end <= from)
            first = i + 1;
    }
    return first;
}

static lsm_status tell_trailer(struct log_walk *w, const struct log_trailer *t, uint64_t newest,
                               lsm_error *err)
{
    char text[256];
    bool is_whole = t->fault == STAGE_TRAILER_OK;
    snprintf(
        text, sizeof text,
        "the stage file does not belong to the newest segment of the log, %06" PRIu64 ".wal: %s%s",
        newest,
        is_whole ? "it is of another time of this database" : stage_trailer_fault_text(t->fault),
        t->is_corrected ? "; one wrong byte explains it" : "");
    struct walk_log_damage d = {.id = stage_trailer_is_there(t->fault) ? FINDING_STAGE_FOREIGN
                                                                       : FINDING_STAGE_TRAILER,
                                .file = w->ring.name,
                                .offset = w->ring.ring_size,
                                .length = STAGE_TRAILER_SIZE,
                                .position = w->position,
                                .limit = w->position,
                                .is_corrected = t->is_corrected,
                                .change = t->change,
                                .text = text};
    return walk_log_tell(w, &d, err);
}

/* Is the ring the one that the newest segment's life wrote? Behind a clean close nothing is in it,
 * whosever it is. What is in a wrong one is looked at all the same: its records say whose they are.
 */
static lsm_status check_ring(struct log_walk *w, lsm_error *err)
{
    const struct walk_log_options *o = w->options;
    const struct log_order *order = &w->order;
    const struct log_stretch *newest =
        order->count > 0 ? &order->stretches[order->count - 1] : NULL;
    bool is_known = newest != NULL && log_stretch_has_header(newest);
    bool is_marked = is_known && (newest->header.flags & LOG_SEGMENT_MARKED) != 0;
    struct log_trailer t;
    lsm_status status =
        log_place_read_trailer(&w->ring, o->uuid, is_marked, o->no_correcting, &t, err);
    if (status != LSM_OK || !is_known || o->clean)
        return status;
    if (!is_marked && !stage_trailer_is_there(t.fault))
        return LSM_OK;
    bool fits = stage_trailer_fits(&t.trailer, &newest->header);
    if (t.fault == STAGE_TRAILER_OK && fits)
        return LSM_OK;
    t.is_corrected = t.is_corrected && fits;
    return tell_trailer(w, &t, newest->number, err);
}

static lsm_status open_ring(struct log_walk *w, lsm_error *err)
{
    const struct walk_log_options *o = w->options;
    lsm_status status = log_place_open(&w->ring, o->dir, FILE_STAGE, 0, err);
    if (status == LSM_CORRUPT || status == LSM_MISSING)
        return LSM_OK; /* no file at all: told by who looks at the inventory */
    if (status != LSM_OK)
        return status;
    uint64_t size = w->ring.file_size;
    bool is_too_large = size > WALK_LOG_MAX_STAGE + STAGE_TRAILER_SIZE;
    if (size == 0 || size % IO_ALIGNMENT != 0 || is_too_large) {
        if (is_too_large)
            w->ring.ring_size = 0;           /* looking through it could take for ever */
        if (!o->clean || w->order.count > 0) /* else it is made anew, and nothing is lost */
            status = walk_log_tell_file(w, FINDING_STAGE_SIZE, w->ring.name, size,
                                        "the stage file has a size that it cannot have", err);
    } else {
        status = check_ring(w, err);
    }
    if (w->ring.ring_size == 0)
        log_place_close(&w->ring);
    return status;
}

static lsm_status begin(struct log_walk *w, lsm_error *err)
{
    const struct walk_log_options *o = w->options;
    struct log_order *order = &w->order;
    if (order->has_stage) {
        lsm_status status = open_ring(w, err);
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

static lsm_status walk_all(struct log_walk *w, lsm_error *err)
{
    lsm_status status = begin(w, err);
    w->end.first_position = w->end.position = w->position;
    size_t first = first_stretch(w, w->position);
    bool is_first = true;
    for (size_t i = first; status == LSM_OK && i < w->order.count; i++) {
        w->stretch = &w->order.stretches[i];
        if (!w->stretch->has_start) { /* nothing in it can be told from rubbish */
            status = walk_log_tell_header(w, err);
            continue;
        }
        if (is_first && w->stretch->start > w->position)
            status = walk_log_tell_hole(w, w->stretch->start, err);
        is_first = false;
        if (status == LSM_OK)
            status = walk_log_stretch(w, err);
        w->end.newest_start = w->stretch->start;
    }
    if (status == LSM_OK && w->order.count == 0 && !w->options->clean && w->position > 0)
        status =
            walk_log_tell_file(w, FINDING_SEGMENT_MISSING, NULL, 0,
                               "there is no log segment, but the database was not closed", err);
    return status;
}

/* No record can stand beyond: every segment's file and a whole ring are counted in. */
static uint64_t highest_position(const struct log_walk *w)
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
    struct log_walk w = {.options = options,
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
