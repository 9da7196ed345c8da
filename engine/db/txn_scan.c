/*
 * What a transaction's iterators have walked over. A range is the transaction's from the seek that
 * begins it, and grows with every move before the move is seen: so nothing is left to be done when
 * the iterator is closed, where nothing may fail.
 */
#include "engine/db/txn_private.h"

#include "engine/base/memory.h"

void txn_scan_join(struct txn_scan *scan, lsm_txn *txn, lsm_iter *iter)
{
    *scan = (struct txn_scan){.next = txn->scans,
                              .txn = txn,
                              .iter = iter,
                              .operation = txn->operation,
                              .is_tracking = txn->isolation == LSM_TXN_SERIALIZABLE};
    txn->scans = scan;
}

void txn_scan_leave(struct txn_scan *scan)
{
    if (scan->txn == NULL)
        return;
    struct txn_scan **link = &scan->txn->scans;
    while (*link != scan)
        link = &(*link)->next;
    *link = scan->next;
    buffer_release(&scan->place);
    scan->txn = NULL;
    scan->walked = NULL;
    scan->is_tracking = false;
}

static void range_free(struct txn_range *range)
{
    buffer_release(&range->low);
    buffer_release(&range->high);
    mem_free(range);
}

void txn_ranges_release(lsm_txn *txn)
{
    while (txn->ranges != NULL) {
        struct txn_range *range = txn->ranges;
        txn->ranges = range->next;
        range_free(range);
    }
    txn->range_bytes = 0;
}

/* Makes `end`, which is not open, a key that a range may begin or stop at: scan->place. */
static lsm_status set_place(struct txn_scan *scan, struct txn_end end, lsm_error *err)
{
    buffer_assign(&scan->place, end.key);
    if (end.behind) /* key\0 is the first key behind it */
        buffer_append_u8(&scan->place, 0);
    return scan->place.failed ? lsm_fail_memory(err, end.key.size + 1) : LSM_OK;
}

static int place_compare(const struct txn_scan *scan, const struct buffer *key)
{
    return slice_compare(buffer_slice(&scan->place), buffer_slice(key));
}

/* Makes scan->place the bound. */
static lsm_status bound_take(struct txn_scan *scan, struct buffer *bound, lsm_error *err)
{
    struct buffer place = scan->place;
    if (place.size > bound->size) {
        lsm_status status = txn_check_memory(scan->txn, place.size - bound->size, err);
        if (status != LSM_OK)
            return status;
    }
    scan->txn->range_bytes += place.size;
    scan->txn->range_bytes -= bound->size;
    scan->place = *bound;
    *bound = place;
    return LSM_OK;
}

/* Does the walk since the last seek cover scan->place, or the open end? Then it goes on. */
static bool is_covered(const struct txn_scan *scan, bool is_open)
{
    const struct txn_range *range = scan->walked;
    if (range == NULL || is_open)
        return range != NULL && range->is_open;
    return range->has_low && place_compare(scan, &range->low) >= 0 &&
           (range->is_open || place_compare(scan, &range->high) <= 0);
}

lsm_status txn_scan_begin(struct txn_scan *scan, uint32_t cf, struct txn_end from, lsm_error *err)
{
    lsm_txn *txn = scan->txn;
    lsm_status status = from.is_open ? LSM_OK : set_place(scan, from, err);
    if (status != LSM_OK || is_covered(scan, from.is_open))
        return status;
    size_t key_bytes = from.is_open ? 0 : 2 * scan->place.size;
    status = txn_check_memory(txn, sizeof(struct txn_range) + key_bytes, err);
    if (status != LSM_OK)
        return status;
    struct txn_range *range = mem_alloc_zeroed(sizeof *range);
    if (range == NULL)
        return lsm_fail_memory(err, sizeof *range);
    range->cf = cf;
    range->is_open = from.is_open;
    range->has_low = !from.is_open;
    if (range->has_low && (!buffer_assign(&range->low, buffer_slice(&scan->place)) ||
                           !buffer_assign(&range->high, buffer_slice(&scan->place)))) {
        range_free(range);
        return lsm_fail_memory(err, key_bytes);
    }
    range->next = txn->ranges;
    txn->ranges = range;
    txn->range_bytes += sizeof *range + key_bytes;
    scan->walked = range;
    return LSM_OK;
}

lsm_status txn_scan_up(struct txn_scan *scan, struct txn_end to, lsm_error *err)
{
    struct txn_range *range = scan->walked;
    if (range->is_open)
        return LSM_OK;
    if (to.is_open) {
        range->is_open = true;
        return LSM_OK;
    }
    lsm_status status = set_place(scan, to, err);
    if (status != LSM_OK || place_compare(scan, &range->high) <= 0)
        return status;
    return bound_take(scan, &range->high, err);
}

lsm_status txn_scan_down(struct txn_scan *scan, lsm_slice key, lsm_error *err)
{
    struct txn_range *range = scan->walked;
    lsm_status status = set_place(scan, (struct txn_end){.key = key}, err);
    if (status != LSM_OK || (range->has_low && place_compare(scan, &range->low) >= 0))
        return status;
    status = bound_take(scan, &range->low, err);
    if (status == LSM_OK)
        range->has_low = true;
    return status;
}
