/*
 * The record at a position as it stands in one place: decoded, or put right. Nothing is believed of
 * it before its checksum fits; a length that the place, the stretch or the budget has no room for
 * is damage. A record that begins as one would but for one byte is searched for the change that
 * makes the checksum fit; where no header tells the seed, those of the other openings are tried.
 */
#include "engine/inspect/walk_log_private.h"

#include "engine/base/bytes.h"

/* A record whose length is damaged is looked for up to here. */
#define CORRECT_REACH ((size_t)1 << 20)

static void decode(struct log_walk *w, lsm_slice bytes, uint64_t position, struct log_found *f)
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

lsm_status walk_log_read(struct log_walk *w, struct log_place *place, uint64_t position,
                         struct log_found *f, lsm_error *err)
{
    const uint8_t *bytes;
    size_t size = 0;
    *f = (struct log_found){.place = place, .fault = LOG_RECORD_SHORT};
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

static enum correct_outcome correct_bytes(struct log_walk *w, uint64_t position,
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

lsm_status walk_log_correct(struct log_walk *w, struct log_place *place, uint64_t position,
                            struct log_found *f, lsm_error *err)
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
