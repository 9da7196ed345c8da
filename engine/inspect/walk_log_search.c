/*
 * Looking ahead of the walk: where the next whole record is, and whether anything proves that the
 * log went on.
 *
 * Both step over the places by their alignment and hash only what says that it is a record, out of
 * one budget: bytes that a user chose to look like records cost no more than that.
 */
#include "engine/inspect/walk_log_private.h"

#include "engine/base/bytes.h"

#define SCAN_STEP ((size_t)64 << 10)

/* ---- the next whole record ------------------------------------------------------------------- */

/* The first whole record of `place` at a position in [from, limit); `limit` when there is none. */
static lsm_status scan(struct log_walk *w, struct log_place *place, uint64_t from, uint64_t limit,
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
        struct log_found f;
        status = walk_log_read(w, place, at, &f, err);
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
static uint64_t reach_of(const struct log_walk *w, const struct log_place *place, uint64_t from)
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

lsm_status walk_log_find_next(struct log_walk *w, uint64_t from, uint64_t *next, lsm_error *err)
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
static lsm_status prove_from(struct log_walk *w, struct log_place *place, uint64_t from,
                             uint64_t limit, lsm_error *err)
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
        struct log_found f;
        status = walk_log_read(w, place, position, &f, err);
        if (status != LSM_OK)
            return status;
        if (f.fault == LOG_RECORD_OK)
            w->proven = synced;
    }
    return LSM_OK;
}

lsm_status walk_log_prove(struct log_walk *w, lsm_error *err)
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
