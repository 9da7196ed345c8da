/*
 * Inside walk_log().
 *
 *   walk_log.c          the door: from which stretch on, and what all of them come to
 *   walk_log_stretch.c  one stretch, record by record
 *   walk_log_read.c     one record in one place, maybe corrected
 *   walk_log_search.c   the next whole record, and how far the log is known to have been durable
 *   walk_log_tell.c     what the visitor hears of damage
 *   log_order.c         segments in the order of their positions
 *   log_place.c         bytes of a segment or the ring by position
 */
#ifndef ENGINE_INSPECT_WALK_LOG_PRIVATE_H
#define ENGINE_INSPECT_WALK_LOG_PRIVATE_H

#include "engine/base/buffer.h"
#include "engine/inspect/log_order.h"
#include "engine/inspect/log_place.h"
#include "engine/inspect/walk_log.h"

struct log_walk {
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
struct log_found {
    struct log_place *place;
    struct log_record record;
    enum log_record_fault fault; /* when it is not whole */
    bool is_corrected;
    struct correct_change change;
};

static inline bool walk_log_is_sealed(const struct log_walk *w)
{
    return w->stretch->end != LOG_NOT_SEALED;
}

/* ---- walk_log_tell.c: each counts the damage, and returns what the visitor does ---------------
 */

lsm_status walk_log_tell(struct log_walk *w, const struct walk_log_damage *damage, lsm_error *err);
/* The record at w->position was damaged in `place`, and is not lost. */
lsm_status walk_log_tell_saved(struct log_walk *w, const struct log_place *place,
                               enum log_record_fault fault, const struct log_found *f,
                               lsm_error *err);
/* [w->position, limit) is lost; `place` is where it stood, NULL: nowhere. */
lsm_status walk_log_tell_lost(struct log_walk *w, const struct log_place *place, uint64_t limit,
                              enum log_record_fault fault, lsm_error *err);
/* Damage of a file as a whole: no part of the log is lost by that alone. */
lsm_status walk_log_tell_file(struct log_walk *w, enum finding_id id, const char *file,
                              uint64_t length, const char *text, lsm_error *err);
/* A whole record does not fit to those before, or its batch does not decode. */
lsm_status walk_log_tell_record(struct log_walk *w, enum finding_id id, const struct log_found *f,
                                uint64_t expected, uint64_t found, const char *text,
                                lsm_error *err);
/* Of the stretch's segment; nothing when its header is good. */
lsm_status walk_log_tell_header(struct log_walk *w, lsm_error *err);
/* Nobody has [w->position, limit): the oldest segment begins behind. */
lsm_status walk_log_tell_hole(struct log_walk *w, uint64_t limit, lsm_error *err);

/* ---- walk_log_read.c --------------------------------------------------------------------------
 */

/* The record at `position` as it stands in `place`; f->fault says what is wrong with it. */
lsm_status walk_log_read(struct log_walk *w, struct log_place *place, uint64_t position,
                         struct log_found *f, lsm_error *err);
/* Tries to put it right; its bytes are then in the scratch, and f->is_corrected. */
lsm_status walk_log_correct(struct log_walk *w, struct log_place *place, uint64_t position,
                            struct log_found *f, lsm_error *err);

/* ---- walk_log_search.c ------------------------------------------------------------------------
 */

/* The first whole record at `from` or behind, in either place; LOG_NOT_SEALED when there is none.
 */
lsm_status walk_log_find_next(struct log_walk *w, uint64_t from, uint64_t *next, lsm_error *err);
/* Sets w->proven: how far the log is known to have been durable. Looks once in a stretch. */
lsm_status walk_log_prove(struct log_walk *w, lsm_error *err);

/* ---- walk_log_stretch.c -----------------------------------------------------------------------
 */

/* Walks over w->stretch from w->position on. */
lsm_status walk_log_stretch(struct log_walk *w, lsm_error *err);

#endif
