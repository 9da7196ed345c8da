/*
 * The last block of the stage file: whose ring is in front of it.
 *
 *     magic u64 | format u32 | zero u32 | uuid | size of the ring u64 | nonce | nonce before |
 *     checksum u64 | zeros
 *
 * Each opening draws a nonce, and records in the ring are read with it alone. So a ring of another
 * database, or of another life of this one, reads like an empty one. Here it says which lives it
 * belongs to: that of `nonce`, and until that has begun its first segment the one before it, whose
 * records are still in the ring. A ring whose trailer does not name the life that the newest
 * segment belongs to is not the one that this life wrote.
 *
 * All that ever changes is in the first 512 bytes, so that a write that is cut short leaves the old
 * trailer or the new one.
 */
#ifndef ENGINE_FORMAT_STAGE_TRAILER_H
#define ENGINE_FORMAT_STAGE_TRAILER_H

#include "engine/format/log_record.h"

#include <stdbool.h>

#define STAGE_TRAILER_SIZE  ((size_t)4096)
#define STAGE_TRAILER_BYTES ((size_t)80)                 /* that count, the checksum at their end */
#define STAGE_TRAILER_MAGIC UINT64_C(0x31475453304d534c) /* "LSM0STG1" */

struct stage_trailer {
    uint8_t uuid[HASH_UUID_SIZE];
    uint64_t ring_size; /* and where the trailer stands */
    uint8_t nonce[LOG_NONCE_SIZE];
    uint8_t nonce_before[LOG_NONCE_SIZE]; /* `nonce` again once its first segment stands */
};

enum stage_trailer_fault {
    STAGE_TRAILER_OK = 0,
    STAGE_TRAILER_NONE,           /* it does not begin as one: made by an older library, or torn */
    STAGE_TRAILER_BAD_CHECKSUM,   /* */
    STAGE_TRAILER_OTHER_DATABASE, /* whole, but of another uuid */
    STAGE_TRAILER_NEWER,          /* whole, but of a format this library does not know */
    STAGE_TRAILER_BAD_FIELDS,     /* whole, but the ring has another size */
};

void stage_trailer_encode(uint8_t block[STAGE_TRAILER_SIZE], const struct stage_trailer *trailer);
/* The block at offset `ring_size`. *trailer is filled only when it is OK. */
enum stage_trailer_fault stage_trailer_decode(const uint8_t block[STAGE_TRAILER_SIZE],
                                              const uint8_t uuid[HASH_UUID_SIZE],
                                              uint64_t ring_size, struct stage_trailer *trailer);
const char *stage_trailer_fault_text(enum stage_trailer_fault fault);

/* Is there a trailer at all, whosever it is? Then the ring ends before it. */
static inline bool stage_trailer_is_there(enum stage_trailer_fault fault)
{
    return fault != STAGE_TRAILER_NONE && fault != STAGE_TRAILER_BAD_CHECKSUM;
}

/* Does the ring hold what the life of the newest segment `header` wrote? */
bool stage_trailer_fits(const struct stage_trailer *trailer,
                        const struct log_segment_header *header);

#endif
