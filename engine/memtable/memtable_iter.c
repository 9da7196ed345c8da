/*
 * The iterator over all versions in one family: a cursor that goes from key to key, and the chain
 * of versions at each. Of two versions with one sequence number only the newer record is shown: it
 * hides the other.
 */
#include "engine/memtable/memtable_private.h"

#include "engine/base/memory.h"
#include "engine/base/status.h"

struct memtable_iter {
    struct iter base;
    struct iter_entry entry;
    const struct memtable *mt;
    uint32_t cf;
    uint32_t at; /* record shown */
    struct memtable_cursor cursor;
};

static struct memtable_iter *self_of(struct iter *it)
{
    return (struct memtable_iter *)it;
}

/* ---- versions of one key --------------------------------------------------------------------- */

static uint64_t sequence_at(const struct memtable *mt, uint32_t at)
{
    return entry_sequence(record_at(mt, at)->trailer);
}

/* The next older version that is not hidden by `at`, which is shown; 0 when there is none. */
static uint32_t older_shown(const struct memtable *mt, uint32_t at)
{
    const struct record *r = record_at(mt, at);
    uint32_t older = record_older(r);
    while (older != 0 && sequence_at(mt, older) == entry_sequence(r->trailer))
        older = record_older(record_at(mt, older));
    return older;
}

/* The newest record with the sequence number of `at`. */
static uint32_t newest_of_sequence(const struct memtable *mt, uint32_t at)
{
    uint64_t sequence = sequence_at(mt, at);
    for (;;) {
        uint32_t newer = record_newer(record_at(mt, at));
        if (newer == 0 || sequence_at(mt, newer) != sequence)
            return at;
        at = newer;
    }
}

/* The next newer version that is shown; 0 when there is none. */
static uint32_t newer_shown(const struct memtable *mt, uint32_t at)
{
    /* The one shown may have been hidden meanwhile; what hides it is no step. */
    uint32_t newer = record_newer(record_at(mt, newest_of_sequence(mt, at)));
    return newer == 0 ? 0 : newest_of_sequence(mt, newer);
}

static uint32_t oldest_shown(const struct memtable *mt, uint32_t at)
{
    for (uint32_t older = at; older != 0; older = older_shown(mt, at))
        at = older;
    return at;
}

/* ---- what is shown --------------------------------------------------------------------------- */

/* Shows record `at`; the iterator ends at 0 and at another family's records. */
static void show(struct memtable_iter *m, uint32_t at)
{
    const struct record *r = record_at(m->mt, at);
    m->base.valid = at != 0 && record_cf(r) == m->cf;
    if (!m->base.valid)
        return;
    m->at = at;
    lsm_slice key = record_key(r);
    m->entry = (struct iter_entry){.head = iter_head(key, m->base.common),
                                   .key = key,
                                   .trailer = r->trailer,
                                   .value = record_value(r)};
}

static void show_oldest(struct memtable_iter *m, uint32_t newest)
{
    show(m, newest == 0 ? 0 : oldest_shown(m->mt, newest));
}

static void memtable_iter_first(struct iter *it)
{
    struct memtable_iter *m = self_of(it);
    struct target t = {.cf = m->cf};
    show(m, cursor_seek(&m->cursor, &t));
}

static void memtable_iter_last(struct iter *it)
{
    struct memtable_iter *m = self_of(it);
    show_oldest(m, cursor_seek_last(&m->cursor, m->cf));
}

/* From the newest version on, the first with a trailer at or below the wanted one; 0: none. */
static uint32_t version_from(const struct memtable *mt, uint32_t newest, uint64_t trailer)
{
    uint32_t at = newest;
    while (at != 0 && record_at(mt, at)->trailer > trailer)
        at = older_shown(mt, at);
    return at;
}

/* The last shown version with a trailer at or above the wanted one; 0: none. */
static uint32_t version_to(const struct memtable *mt, uint32_t newest, uint64_t trailer)
{
    uint32_t found = 0;
    for (uint32_t at = newest; at != 0 && record_at(mt, at)->trailer >= trailer;
         at = older_shown(mt, at))
        found = at;
    return found;
}

static void memtable_iter_seek(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct memtable_iter *m = self_of(it);
    struct target t = target_of(m->cf, key);
    uint32_t newest = cursor_seek(&m->cursor, &t);
    if (newest != 0 && record_has_key(record_at(m->mt, newest), &t)) {
        uint32_t at = version_from(m->mt, newest, trailer);
        show(m, at != 0 ? at : cursor_next(&m->cursor));
        return;
    }
    show(m, newest);
}

static void memtable_iter_seek_for_prev(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct memtable_iter *m = self_of(it);
    struct target t = target_of(m->cf, key);
    uint32_t newest = cursor_seek(&m->cursor, &t);
    if (newest != 0 && record_has_key(record_at(m->mt, newest), &t)) {
        uint32_t at = version_to(m->mt, newest, trailer);
        if (at != 0)
            show(m, at);
        else
            show_oldest(m, cursor_prev(&m->cursor));
        return;
    }
    show_oldest(m, cursor_seek_before(&m->cursor, &t));
}

static void memtable_iter_next(struct iter *it)
{
    struct memtable_iter *m = self_of(it);
    uint32_t older = older_shown(m->mt, m->at);
    show(m, older != 0 ? older : cursor_next(&m->cursor));
}

static void memtable_iter_prev(struct iter *it)
{
    struct memtable_iter *m = self_of(it);
    uint32_t newer = newer_shown(m->mt, m->at);
    if (newer != 0)
        show(m, newer);
    else
        show_oldest(m, cursor_prev(&m->cursor));
}

static void memtable_iter_release(struct iter *it)
{
    mem_free(it);
}

static const struct iter_ops memtable_iter_ops = {
    .first = memtable_iter_first,
    .last = memtable_iter_last,
    .seek = memtable_iter_seek,
    .seek_for_prev = memtable_iter_seek_for_prev,
    .next = memtable_iter_next,
    .prev = memtable_iter_prev,
    .release = memtable_iter_release,
};

lsm_status memtable_iter_new(const struct memtable *mt, uint32_t cf, struct iter **it,
                             lsm_error *err)
{
    struct memtable_iter *m = mem_alloc_zeroed(sizeof *m);
    if (m == NULL)
        return lsm_fail_memory(err, sizeof *m);
    m->base.ops = &memtable_iter_ops;
    m->base.entry = &m->entry;
    m->mt = mt;
    m->cf = cf;
    cursor_init(&m->cursor, mt);
    *it = &m->base;
    return LSM_OK;
}
