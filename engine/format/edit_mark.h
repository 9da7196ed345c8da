/*
 * The edit mark: how far the manifest was known to reach, written down beside it.
 *
 * A manifest that was cut between two frames is whole. When no log has to reach back to it, and no
 * table came after, nothing in the other files tells that edits are gone: those that made, dropped
 * or renamed families, say. So their number is in the mark, which is written when they are durable.
 *
 *     magic u64 | format u32 | zero u32 | uuid | frame number u64 | zeros | checksum u64
 *
 * It stands in LOCK, behind the bytes that are locked, and is no more than a hint: it is not
 * synced, and a database without it is whole.
 */
#ifndef ENGINE_FORMAT_EDIT_MARK_H
#define ENGINE_FORMAT_EDIT_MARK_H

#include "engine/base/hash.h"
#include "engine/lsm.h"

#include <stdbool.h>

#define EDIT_MARK_SIZE   ((size_t)64)
#define EDIT_MARK_MAX    (UINT64_C(1) << 62) /* no manifest has so many frames */
#define EDIT_MARK_OFFSET UINT64_C(4352)      /* in LOCK */

struct edit_mark {
    uint8_t uuid[HASH_UUID_SIZE]; /* of the database */
    uint64_t frame_number;        /* of a frame of the manifest that was durable; 0: not known */
};

void edit_mark_encode(const struct edit_mark *mark, uint8_t bytes[EDIT_MARK_SIZE]);
/* False when it is none that this library knows; then the mark is untouched. */
bool edit_mark_decode(const uint8_t bytes[EDIT_MARK_SIZE], struct edit_mark *mark);

#endif
