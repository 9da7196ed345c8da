/*
 * Putting right what one flipped bit or one wrong byte damaged: the stored checksums have 64 bits,
 * so the one change of the bytes that makes a checksum fit is the one that undoes the damage (a
 * wrong one fits with a chance of 2^-64 a try; at most 2^40 are made).
 *
 * The search is exact and bounded. XXH3 is taken apart for it: a changed byte changes two of eight
 * lanes by amounts that are known, and only these are carried on to the end of the bytes. So a try
 * costs about a nanosecond a KiB behind the byte: all bits of 8 KiB take some milliseconds, all
 * bytes some hundredths of a second. Over CORRECT_BYTES_LIMIT only bits are tried, over
 * CORRECT_BITS_LIMIT only the checksum itself and the header.
 */
#ifndef ENGINE_INSPECT_CORRECT_H
#define ENGINE_INSPECT_CORRECT_H

#include "engine/base/hash.h"
#include "engine/base/status.h"

#define CORRECT_BITS_LIMIT  ((size_t)512 << 10) /* bytes covered by a checksum */
#define CORRECT_BYTES_LIMIT ((size_t)128 << 10)

enum correct_outcome {
    CORRECT_NOTHING,  /* the checksum fits: nothing is wrong with these bytes */
    CORRECT_DONE,     /* one byte was put right, in place */
    CORRECT_FAILED,   /* no change of one byte makes it fit */
    CORRECT_TOO_LONG, /* none of those that were tried: the bytes are over a limit */
};

struct correct_change {
    size_t offset; /* in the bytes given */
    uint8_t found; /* what stood there */
    uint8_t expected;
    bool is_bit; /* they differ in one bit */
};

/*
 * Each takes bytes that should be what its name says, and writes the right byte into them on
 * CORRECT_DONE; otherwise they are as before. `available` is how many bytes there are: the thing
 * itself may be shorter, as its header says (which may be what is wrong). *change is set on
 * CORRECT_DONE only.
 */

/* Seeded with hash_place(uuid, number, offset), as the next three. The frame may be followed by
 * anything. */
enum correct_outcome correct_table_frame(uint8_t *bytes, size_t available, uint64_t seed,
                                         struct correct_change *change);
/* The first TABLE_FOOTER_SIZE bytes of a footer page. */
enum correct_outcome correct_table_footer(uint8_t *bytes, uint64_t seed,
                                          struct correct_change *change);
enum correct_outcome correct_manifest_frame(uint8_t *bytes, size_t available, uint64_t seed,
                                            struct correct_change *change);
/* FRAME_FILE_HEADER_SIZE bytes. */
enum correct_outcome correct_manifest_header(uint8_t *bytes, uint64_t seed,
                                             struct correct_change *change);
/* LOG_SEGMENT_HEADER bytes; the seed is hash_place(uuid, number, 0). */
enum correct_outcome correct_log_segment(uint8_t *bytes, uint64_t seed,
                                         struct correct_change *change);
/* STAGE_TRAILER_BYTES bytes; the seed is hash_place(uuid, 0, offset of the trailer). */
enum correct_outcome correct_stage_trailer(uint8_t *bytes, uint64_t seed,
                                           struct correct_change *change);
/* The seed is log_segment_seed() of its position. */
enum correct_outcome correct_log_record(uint8_t *bytes, size_t available, uint64_t seed,
                                        struct correct_change *change);
/* The text of CURRENT. */
enum correct_outcome correct_current(uint8_t *text, size_t size, struct correct_change *change);

#endif
