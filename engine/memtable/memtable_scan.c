/*
 * The iterator of a reader: of every key the one version that is there as of a sequence number. The
 * others stay out here, where each would be a record far from the last one in memory.
 *
 * Keys of one leaf of the tree are shown several at once, more of them while the walk goes on: a
 * seek whose entry is all that is wanted looks at one record. The cursor stands on the key that the
 * entries began with, and for each of them its place in the leaf is known, so that a walk may turn
 * round anywhere. The skiplist's keys are shown one by one.
 */
#include "engine/memtable/memtable_private.h"

#include "engine/base/memory.h"
#include "engine/base/status.h"

#define FIRST_BATCH 4u /* entries, after the one that a seek came to */

struct memtable_scan {
    struct iter base;
    const struct memtable *mt;
    const uint64_t *as_of; /* borrowed */
    uint32_t cf;
    unsigned wanted; /* entries in the next batch, when the walk goes on */
    struct memtable_cursor cursor;
    uint8_t places[BTREE_SLOTS]; /* in the leaf, of each entry */
    struct iter_entry entries[BTREE_SLOTS];
};

static struct memtable_scan *self_of(struct iter *it)
{
    return (struct memtable_scan *)it;
}

/* The version of the key that is shown; 0: none is. */
static inline uint32_t version_of(const struct memtable_scan *s, uint32_t newest)
{
    uint32_t at = newest;
    const struct record *r = record_at(s->mt, at);
    while (__builtin_expect(entry_sequence(r->trailer) > *s->as_of, 0)) {
        at = record_older(r);
        if (at == 0)
            return 0;
        r = record_at(s->mt, at);
    }
    return at;
}

static inline bool is_of_family(const struct memtable_scan *s, uint32_t at)
{
    return record_cf(record_at(s->mt, at)) == s->cf;
}

/* The entry with its head as given; what is read of the value first is fetched. */
static inline void put(struct memtable_scan *s, unsigned slot, const struct record *r,
                       uint64_t head, unsigned place)
{
    struct iter_entry *e = &s->entries[slot];
    const uint8_t *value = r->bytes + r->key_size;
    __builtin_prefetch(value);
    s->places[slot] = (uint8_t)place;
    e->head = head;
    e->key.data = r->bytes;
    e->key.size = r->key_size;
    e->trailer = r->trailer;
    e->value.data = value;
    e->value.size = r->value_size;
}

/* Do all keys at these places of the leaf begin with what is common? The outer two say so. */
static inline bool begin_as_all(const struct memtable_scan *s, unsigned first, unsigned last)
{
    const uint32_t *records = s->cursor.in.btree.records;
    const struct record *low = record_at(s->mt, records[first]);
    const struct record *high = record_at(s->mt, records[last]);
    return record_cf(low) == s->cf && record_cf(high) == s->cf &&
           slice_begins_with(record_key(low), s->base.common) &&
           slice_begins_with(record_key(high), s->base.common);
}

/* Takes the key at the place of the leaf into the slot, unless no version of it is shown. */
static inline bool take(struct memtable_scan *s, unsigned slot, unsigned place, bool is_common)
{
    uint32_t at = version_of(s, s->cursor.in.btree.records[place]);
    if (__builtin_expect(at == 0, 0))
        return false;
    const struct record *r = record_at(s->mt, at);
    uint64_t head = is_common ? tail_head(r->bytes, r->key_size, s->base.common.size)
                              : iter_head(record_key(r), s->base.common);
    put(s, slot, r, head, place);
    return true;
}

static void publish(struct memtable_scan *s, unsigned slot, unsigned run, unsigned back)
{
    s->base.valid = true;
    s->base.entry = &s->entries[slot];
    s->base.run = run;
    s->base.back = back;
}

static void end(struct memtable_scan *s)
{
    s->base.valid = false;
    s->base.run = s->base.back = 0;
}

/* Shows the key that the cursor is on, by itself. */
static void show_one(struct memtable_scan *s, unsigned slot, uint32_t at)
{
    const struct record *r = record_at(s->mt, at);
    unsigned place = s->cursor.kind == MEMTABLE_BTREE ? s->cursor.in.btree.index : 0;
    put(s, slot, r, iter_head(record_key(r), s->base.common), place);
    publish(s, slot, 0, 0);
}

/* Shows keys from the one on to which the cursor came forwards, those of up to `count` places in
 * its leaf; 0: it came to none. */
static void show_forwards(struct memtable_scan *s, uint32_t newest, unsigned count)
{
    const struct btree_cursor *c = &s->cursor.in.btree;
    uint32_t at = 0;
    while (newest != 0 && is_of_family(s, newest) && (at = version_of(s, newest)) == 0)
        newest = cursor_next(&s->cursor);
    if (at == 0) {
        end(s);
    } else if (count == 1 || s->cursor.kind != MEMTABLE_BTREE) {
        show_one(s, 0, at);
    } else {
        unsigned limit = c->index + count < c->count ? c->index + count : c->count, slot = 0;
        bool is_common = begin_as_all(s, c->index, limit - 1);
        for (unsigned place = c->index; place < limit; place++) {
            if (!is_common && !is_of_family(s, c->records[place]))
                break;
            slot += take(s, slot, place, is_common);
        }
        publish(s, 0, slot - 1, 0);
    }
}

/* The same backwards; the first key shown stands last among the entries. */
static void show_backwards(struct memtable_scan *s, uint32_t newest, unsigned count)
{
    const struct btree_cursor *c = &s->cursor.in.btree;
    uint32_t at = 0;
    while (newest != 0 && is_of_family(s, newest) && (at = version_of(s, newest)) == 0)
        newest = cursor_prev(&s->cursor);
    if (at == 0) {
        end(s);
    } else if (count == 1 || s->cursor.kind != MEMTABLE_BTREE) {
        show_one(s, BTREE_SLOTS - 1, at);
    } else {
        unsigned first = c->index + 1 > count ? c->index + 1 - count : 0, slot = BTREE_SLOTS - 1;
        bool is_common = begin_as_all(s, first, c->index);
        for (unsigned place = c->index + 1; place-- > first;) {
            if (!is_common && !is_of_family(s, c->records[place]))
                break;
            slot -= take(s, slot, place, is_common);
        }
        publish(s, BTREE_SLOTS - 1, 0, BTREE_SLOTS - 2 - slot);
    }
}

/* How many keys the next batch has. */
static unsigned take_wanted(struct memtable_scan *s)
{
    unsigned count = s->wanted;
    s->wanted = count * 2 < BTREE_SLOTS ? count * 2 : BTREE_SLOTS;
    return count;
}

/* Puts the cursor on the current entry. */
static void stand(struct memtable_scan *s)
{
    if (s->cursor.kind == MEMTABLE_BTREE)
        s->cursor.in.btree.index = s->places[s->base.entry - s->entries];
}

static void scan_first(struct iter *it)
{
    struct memtable_scan *s = self_of(it);
    struct target t = {.cf = s->cf};
    s->wanted = FIRST_BATCH;
    show_forwards(s, cursor_seek(&s->cursor, &t), FIRST_BATCH);
}

static void scan_last(struct iter *it)
{
    struct memtable_scan *s = self_of(it);
    s->wanted = FIRST_BATCH;
    show_backwards(s, cursor_seek_last(&s->cursor, s->cf), FIRST_BATCH);
}

/* Of the key that the cursor came to, which is *t or not: the version that is shown; 0: none. */
static uint32_t version_of_target(const struct memtable_scan *s, uint32_t newest,
                                  const struct target *t)
{
    bool is_it = newest != 0 && record_has_key(record_at(s->mt, newest), t);
    return is_it ? version_of(s, newest) : 0;
}

static void scan_approach(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct memtable_scan *s = self_of(it);
    struct target t = target_of(s->cf, key);
    (void)trailer;
    if (s->cursor.kind == MEMTABLE_BTREE)
        btree_cursor_approach(&s->cursor.in.btree, &t);
}

static void scan_seek(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct memtable_scan *s = self_of(it);
    struct target t = target_of(s->cf, key);
    uint32_t newest = cursor_seek(&s->cursor, &t);
    s->wanted = FIRST_BATCH;
    if (trailer < entry_seek_trailer(*s->as_of)) {
        uint32_t at = version_of_target(s, newest, &t);
        if (at != 0 && record_at(s->mt, at)->trailer > trailer)
            newest = cursor_next(&s->cursor); /* what is shown of the key stands before the place */
    }
    show_forwards(s, newest, 1);
}

static void scan_seek_for_prev(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct memtable_scan *s = self_of(it);
    struct target t = target_of(s->cf, key);
    uint32_t newest = cursor_seek(&s->cursor, &t);
    uint32_t at = version_of_target(s, newest, &t);
    s->wanted = FIRST_BATCH;
    if (at == 0 || record_at(s->mt, at)->trailer < trailer)
        newest = cursor_seek_before(&s->cursor, &t);
    show_backwards(s, newest, 1);
}

/* The batch behind this one would wait for the records of the next leaf. */
static inline void fetch_beyond(struct memtable_scan *s)
{
    struct btree_cursor *c = &s->cursor.in.btree;
    if (s->cursor.kind == MEMTABLE_BTREE && s->base.valid &&
        s->places[s->base.run] + s->wanted >= c->count)
        btree_cursor_fetch_next(c);
}

static void scan_next(struct iter *it)
{
    struct memtable_scan *s = self_of(it);
    assert(it->valid && it->run == 0);
    stand(s);
    show_forwards(s, cursor_next(&s->cursor), take_wanted(s));
    fetch_beyond(s);
}

static void scan_prev(struct iter *it)
{
    struct memtable_scan *s = self_of(it);
    assert(it->valid && it->back == 0);
    stand(s);
    show_backwards(s, cursor_prev(&s->cursor), take_wanted(s));
}

static void scan_rest(struct iter *it)
{
    struct memtable_scan *s = self_of(it);
    if (s->cursor.kind == MEMTABLE_BTREE)
        s->cursor.in.btree.approach.steps = 0;
}

static void scan_release(struct iter *it)
{
    mem_free(it);
}

static const struct iter_ops memtable_scan_ops = {
    .first = scan_first,
    .last = scan_last,
    .seek = scan_seek,
    .seek_for_prev = scan_seek_for_prev,
    .next = scan_next,
    .prev = scan_prev,
    .release = scan_release,
    .approach = scan_approach,
    .rest = scan_rest,
};

lsm_status memtable_scan_new(const struct memtable *mt, uint32_t cf, const uint64_t *as_of,
                             struct iter **it, lsm_error *err)
{
    struct memtable_scan *s = mem_alloc_zeroed(sizeof *s);
    if (s == NULL)
        return lsm_fail_memory(err, sizeof *s);
    s->base.ops = &memtable_scan_ops;
    s->base.entry = s->entries;
    s->mt = mt;
    s->as_of = as_of;
    s->cf = cf;
    cursor_init(&s->cursor, mt);
    *it = &s->base;
    return LSM_OK;
}
