/*
 * The internal key: what a version of a user key is called inside the engine.
 *
 *     user key | trailer = sequence << 8 | type
 *
 * Entries sort by user key ascending, then by trailer descending, so the newest version of a key
 * comes first and "the newest version at or below sequence s" is a seek to (key, s << 8 | 0xff).
 */
#ifndef ENGINE_FORMAT_ENTRY_H
#define ENGINE_FORMAT_ENTRY_H

#include "engine/base/slice.h"

/* Stored in logs and tables: never renumber. */
enum entry_type {
    ENTRY_DELETE = 0,       /* the key is gone; no value */
    ENTRY_PUT = 1,          /* the key has this value */
    ENTRY_RANGE_DELETE = 2, /* reserved: [key, value) is gone */
    ENTRY_MERGE = 3,        /* reserved: value is an operand of a merge operator */
    ENTRY_PUT_EXPIRING = 4, /* reserved: value begins with its expiry time */
    ENTRY_BLOB = 5,         /* in tables only: value says in which blob file the value is */
};

#define ENTRY_MAX_SEQUENCE ((UINT64_C(1) << 56) - 1)
#define ENTRY_MAX_TRAILER  UINT64_MAX /* sorts before every entry of its key */

static inline uint64_t entry_trailer(uint64_t sequence, enum entry_type type)
{
    return sequence << 8 | (uint64_t)type;
}

static inline uint64_t entry_sequence(uint64_t trailer)
{
    return trailer >> 8;
}

static inline enum entry_type entry_type_of(uint64_t trailer)
{
    return (enum entry_type)(trailer & 0xff);
}

/* The trailer to seek with for what is visible at `sequence`. */
static inline uint64_t entry_seek_trailer(uint64_t sequence)
{
    return sequence << 8 | 0xff;
}

/* True for the types this version of the library writes to tables, and reads there. */
static inline bool entry_type_is_known(uint64_t trailer)
{
    return (trailer & 0xff) <= ENTRY_PUT || (trailer & 0xff) == ENTRY_BLOB;
}

/* The same for batches and the log. */
static inline bool entry_type_is_logged(uint64_t trailer)
{
    return (trailer & 0xff) <= ENTRY_PUT;
}

/* <0, 0, >0 in the order above. */
static inline int entry_compare(lsm_slice key_a, uint64_t trailer_a, lsm_slice key_b,
                                uint64_t trailer_b)
{
    int order = slice_compare(key_a, key_b);
    if (order != 0)
        return order;
    return (trailer_a < trailer_b) - (trailer_a > trailer_b);
}

#endif
