/*
 * Which versions of a key somebody can still see. Snapshots cut the sequence numbers into strata:
 * all versions between two neighbouring snapshots look the same to everybody, but for the newest.
 * Entries come in table order: by key, then newest first.
 */
#ifndef ENGINE_COMPACT_VISIBLE_H
#define ENGINE_COMPACT_VISIBLE_H

#include "engine/base/buffer.h"
#include "engine/format/entry.h"

struct visible {
    const uint64_t *snapshots; /* ascending; borrowed */
    size_t count;
    struct buffer key; /* of the last entry; owned */
    uint64_t head;     /* of key */
    bool has_key;
    size_t stratum; /* of the newest version seen that is not above its upper end */
};

void visible_init(struct visible *v, const uint64_t *snapshots, size_t count);
void visible_release(struct visible *v);

enum visible_verdict {
    VISIBLE_HIDDEN, /* nobody sees it: a newer one is in the same stratum */
    VISIBLE_KEEP,
    VISIBLE_OLDEST, /* kept, and everything older of this key is hidden */
};

/* Looks at the next entry. *is_new_key: it is not a version of the key before. LSM_NO_MEMORY is the
 * only failure. `head` is bytes_head(key). */
lsm_status visible_next(struct visible *v, uint64_t head, lsm_slice key, uint64_t trailer,
                        bool *is_new_key, enum visible_verdict *verdict);

#endif
