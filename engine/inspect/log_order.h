/*
 * The segments of a log that may be damaged, put in the order of the positions they hold. For
 * walk_log.
 */
#ifndef ENGINE_INSPECT_LOG_ORDER_H
#define ENGINE_INSPECT_LOG_ORDER_H

#include "engine/inspect/walk_log.h"

enum log_header_state {
    LOG_HEADER_GOOD,
    LOG_HEADER_CORRECTED, /* `change` put it right */
    LOG_HEADER_BAD,       /* `fault` */
    LOG_HEADER_MISSING,   /* there is no such file */
};

/* A run of positions: those of one segment. */
struct log_stretch {
    uint64_t number;
    enum log_header_state state;
    enum log_segment_fault fault;
    struct correct_change change;
    struct log_segment_header header; /* unless BAD or MISSING */
    bool has_start;                   /* `start` is known */
    uint64_t start;
    uint64_t end; /* where it is sealed; LOG_NOT_SEALED: the newest */
};
#define LOG_NOT_SEALED (UINT64_MAX / 2)

struct log_order {
    struct log_stretch *stretches; /* oldest first; owned */
    size_t count;
    uint64_t *seeds; /* of all records that headers tell of; owned */
    size_t seed_count;
    uint64_t newest; /* number of the newest file; 0: none */
    uint64_t next_number;
    bool has_stage;
};

lsm_status log_order_read(const struct walk_log_options *options, struct log_order *order,
                          lsm_error *err);
void log_order_release(struct log_order *order);

static inline bool log_stretch_has_header(const struct log_stretch *s)
{
    return s->state == LOG_HEADER_GOOD || s->state == LOG_HEADER_CORRECTED;
}

#endif
