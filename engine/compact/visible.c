/* The stratum of a sequence number is the count of snapshots below it: 0 is what the oldest
 * snapshot sees, `count` what only the newest readers see. */
#include "engine/compact/visible.h"

void visible_init(struct visible *v, const uint64_t *snapshots, size_t count)
{
    *v = (struct visible){.snapshots = snapshots, .count = count};
}

void visible_release(struct visible *v)
{
    buffer_release(&v->key);
    *v = (struct visible){0};
}

static inline bool is_same_key(const struct visible *v, uint64_t head, lsm_slice key)
{
    if (!v->has_key || head != v->head || key.size != v->key.size)
        return false;
    return key.size <= 8 || memcmp(key.data, v->key.data, key.size) == 0;
}

static size_t stratum_of(const struct visible *v, uint64_t sequence)
{
    /* Most entries are older than every snapshot. */
    if (v->count == 0 || sequence <= v->snapshots[0])
        return 0;
    size_t low = 1, limit = v->count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (v->snapshots[middle] < sequence)
            low = middle + 1;
        else
            limit = middle;
    }
    return low;
}

lsm_status visible_next(struct visible *v, uint64_t head, lsm_slice key, uint64_t trailer,
                        bool *is_new_key, enum visible_verdict *verdict)
{
    size_t stratum = stratum_of(v, entry_sequence(trailer));
    bool is_same = is_same_key(v, head, key);
    *is_new_key = !is_same;
    if (is_same && stratum == v->stratum) {
        *verdict = VISIBLE_HIDDEN;
        return LSM_OK;
    }
    if (!is_same) {
        buffer_clear(&v->key);
        buffer_append(&v->key, key.data, key.size);
        if (v->key.failed)
            return LSM_NO_MEMORY;
        v->head = head;
        v->has_key = true;
    }
    v->stratum = stratum;
    *verdict = stratum == 0 ? VISIBLE_OLDEST : VISIBLE_KEEP;
    return LSM_OK;
}
