/*
 * Inserting, and going back to repeat inserts that were interrupted.
 *
 * Counters are stored as absolute values, entry count and end of the records in one word, so that a
 * death between two stores leaves nothing that a redo would count twice.
 */
#include "engine/memtable/btree_private.h"

#include "engine/memtable/hash_index.h"

#define PLACE_LINES 4

static void count_entry(struct memtable *mt, uint64_t progress, uint32_t end, uint64_t sequence)
{
    struct arena_header *header = mt->header;
    if (sequence < atomic_load_explicit(&header->min_sequence, memory_order_relaxed))
        atomic_store_explicit(&header->min_sequence, sequence, memory_order_relaxed);
    if (sequence > atomic_load_explicit(&header->max_sequence, memory_order_relaxed))
        atomic_store_explicit(&header->max_sequence, sequence, memory_order_relaxed);
    store_progress(mt, progress_count(progress) + 1, end);
}

/* The lines that the next record comes to stand on, for as far as a processor does not go ahead by
 * itself. */
static inline void fetch_next_place(const struct memtable *mt, uint32_t place)
{
    const uint8_t *at = arena_at(mt, place);
    for (size_t line = 0; line < PLACE_LINES; line++)
        __builtin_prefetch(at + line * 64, 1);
}

void memtable_approach(struct memtable *mt, uint32_t cf, lsm_slice key, uint64_t hash,
                       struct memtable_way *way)
{
    way->cf = cf;
    way->key = key;
    way->mixed_hash = index_hash(cf, hash);
    way->progress = load_progress(mt);
    way->node_low = load_node_low(mt);
    __builtin_prefetch(index_line(mt, way->mixed_hash), 1);
    fetch_next_place(mt, progress_end(way->progress));
    if (mt->kind == MEMTABLE_BTREE)
        btree_approach(mt, way);
}

void memtable_insert_on(struct memtable *mt, struct memtable_way *way, uint64_t trailer,
                        lsm_slice value)
{
    uint64_t progress = load_progress(mt);
    struct entry e = {.target = target_of(way->cf, way->key),
                      .trailer = trailer,
                      .value = value,
                      .place = progress_end(progress)};
    size_t units = record_size(way->key.size, value.size) / ARENA_UNIT;
    assert(units <= load_node_low(mt) - e.place);
    assert(way->key.size <= LSM_MAX_KEY_SIZE && value.size <= LSM_MAX_VALUE_SIZE);

    uint32_t end = e.place + (uint32_t)units;
    mt->records_limit = end;
    if (mt->kind == MEMTABLE_BTREE)
        btree_insert(mt, &e, way);
    else
        skiplist_insert(mt, &e);
    index_add(mt, way->mixed_hash, e.place);
    count_entry(mt, progress, end, entry_sequence(trailer));
    mt->hint.progress = load_progress(mt);
}

void memtable_insert(struct memtable *mt, uint32_t cf, lsm_slice key, uint64_t hash,
                     uint64_t trailer, lsm_slice value)
{
    struct memtable_way way;
    memtable_approach(mt, cf, key, hash, &way);
    memtable_insert_on(mt, &way, trailer, value);
}

/*
 * Records lie one behind the other, so the ones between `position` and the end are counted, not
 * remembered. Nodes that the interrupted insert took and did not link are given back.
 */
void memtable_rewind(struct memtable *mt, size_t position)
{
    uint64_t progress = load_progress(mt);
    uint32_t at = (uint32_t)(position / ARENA_UNIT), end = progress_end(progress);
    uint64_t count = progress_count(progress);
    assert(at >= RECORDS_START && at <= end);
    while (at < end) {
        const struct record *r = record_at(mt, at);
        at += (uint32_t)(record_size(r->key_size, r->value_size) / ARENA_UNIT);
        count--;
    }
    assert(at == end);
    uint32_t low = mt->kind == MEMTABLE_BTREE ? btree_lowest_node(mt) : skiplist_lowest_node(mt);
    atomic_store_explicit(&mt->header->node_low, low, memory_order_relaxed);
    mt->hint = (struct append_hint){0};
    store_progress(mt, count, (uint32_t)(position / ARENA_UNIT));
}

bool memtable_inserted(const struct memtable *mt, size_t *position, struct memtable_entry *entry)
{
    size_t end = memtable_position(mt);
    assert(*position >= (size_t)RECORDS_START * ARENA_UNIT && *position <= end);
    if (*position == end)
        return false;
    const struct record *r = record_at(mt, (uint32_t)(*position / ARENA_UNIT));
    *entry = (struct memtable_entry){
        .cf = record_cf(r), .key = record_key(r), .value = record_value(r), .trailer = r->trailer};
    *position += record_size(r->key_size, r->value_size);
    return true;
}
