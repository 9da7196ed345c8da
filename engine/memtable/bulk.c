/*
 * Filling an empty memtable at once. Records are written where inserts would write them, one behind
 * the other, but nothing is linked; at the end their order is found by sorting, versions of a key
 * are chained, and the tree is built from its leaves up. What a key costs is then mostly the copy
 * of its record: no descent, no splits, and nodes are full.
 *
 * The skiplist is there to compare with: its entries are inserted as always.
 */
#include "engine/memtable/bulk_private.h"

#include "engine/base/memory.h"
#include "engine/base/status.h"
#include "engine/memtable/hash_index.h"

/* Bytes that the smallest entry takes of an arena, its part of a full node with it. */
#define LEAST_ENTRY (RECORD_MIN_SIZE + BTREE_NODE_SIZE / BTREE_SLOTS)
/* Inner levels that are not full, each by one node. */
#define BULK_SPARE_ROOM ((BTREE_MAX_HEIGHT + 1) * BTREE_NODE_SIZE)

#define LATE_COUNT ((size_t)16)

struct memtable_bulk {
    struct memtable *mt;       /* borrowed from begin to end */
    bool inserts;              /* as always: it cannot be collected, or was too much */
    struct head_item *entries; /* owned; touched as far as used, as is scratch */
    struct head_item *scratch; /* owned */
    size_t capacity;           /* of either, in entries */
    size_t count;
    size_t prefix; /* bytes that all keys have in common; heads are behind it, */
    size_t stale;  /* but those of the first so many entries are behind more */
    uint64_t min_sequence, max_sequence;
    /* The last entries, whose lines of the index are on their way: [0, late_count) of the ring that
     * begins at late_first. */
    struct late {
        uint64_t mixed;
        uint32_t place;
    } late[LATE_COUNT];
    size_t late_first, late_count;
};

bool memtable_bulk_is_full(const struct memtable_bulk *bulk, size_t count)
{
    return bulk->inserts || count > bulk->capacity - bulk->count;
}

lsm_status memtable_bulk_new(struct memtable_bulk **bulk, lsm_error *err)
{
    struct memtable_bulk *b = mem_alloc_zeroed(sizeof *b);
    if (b == NULL)
        return lsm_fail_memory(err, sizeof *b);
    *bulk = b;
    return LSM_OK;
}

static void free_entries(struct memtable_bulk *bulk)
{
    mem_free_buffer(bulk->entries, bulk->capacity * sizeof *bulk->entries);
    mem_free_buffer(bulk->scratch, bulk->capacity * sizeof *bulk->scratch);
    bulk->entries = bulk->scratch = NULL;
    bulk->capacity = 0;
}

void memtable_bulk_free(struct memtable_bulk *bulk)
{
    if (bulk == NULL)
        return;
    free_entries(bulk);
    mem_free(bulk);
}

/* As many as can be in an arena of the size. */
static lsm_status reserve_entries(struct memtable_bulk *bulk, uint64_t arena_size, lsm_error *err)
{
    uint64_t most = arena_size / LEAST_ENTRY;
    size_t capacity = most < MEMTABLE_BULK_MAX ? (size_t)most : MEMTABLE_BULK_MAX;
    size_t bytes = capacity * sizeof *bulk->entries;
    if (capacity <= bulk->capacity)
        return LSM_OK;
    free_entries(bulk);
    struct head_item *entries = mem_alloc_buffer(bytes), *scratch = mem_alloc_buffer(bytes);
    if (entries == NULL || scratch == NULL) {
        mem_free_buffer(entries, bytes);
        mem_free_buffer(scratch, bytes);
        return lsm_fail_memory(err, 2 * bytes);
    }
    bulk->entries = entries;
    bulk->scratch = scratch;
    bulk->capacity = capacity;
    return LSM_OK;
}

lsm_status memtable_bulk_begin(struct memtable_bulk *bulk, struct memtable *mt, lsm_error *err)
{
    assert(memtable_entry_count(mt) == 0);
    lsm_status status = reserve_entries(bulk, mt->header->size, err);
    if (status != LSM_OK)
        return status;
    bulk->mt = mt;
    bulk->inserts = mt->kind != MEMTABLE_BTREE;
    bulk->count = bulk->prefix = bulk->stale = 0;
    bulk->late_first = bulk->late_count = 0;
    bulk->min_sequence = UINT64_MAX;
    bulk->max_sequence = 0;
    return LSM_OK;
}

/* Bytes of all nodes over so many keys; only the last one of a level has fewer than its slots. */
static size_t node_room(size_t count)
{
    return count / (BTREE_SLOTS - 1) * BTREE_NODE_SIZE + BULK_SPARE_ROOM;
}

/* What memtable_entry_room() adds up to. */
static size_t insert_room(const struct memtable *mt, size_t count, size_t bytes)
{
    size_t nodes = count * (memtable_entry_room(mt, 0, 0) - memtable_record_room(0, 0));
    return bytes <= SIZE_MAX - nodes ? bytes + nodes : SIZE_MAX;
}

static bool has_room(const struct memtable_bulk *bulk, size_t count, size_t bytes)
{
    const struct memtable *mt = bulk->mt;
    size_t low = atomic_load_explicit(&mt->header->node_low, memory_order_relaxed);
    size_t left = low * ARENA_UNIT - memtable_position(mt), nodes = node_room(bulk->count + count);
    return nodes <= left && bytes <= left - nodes;
}

void memtable_bulk_reach(const struct memtable_bulk *bulk, size_t count, size_t bytes, size_t *low,
                         size_t *high)
{
    const struct memtable *mt = bulk->mt;
    if (bulk->inserts) {
        memtable_reach(mt, insert_room(mt, count, bytes), low, high);
        return;
    }
    size_t nodes_start = atomic_load_explicit(&mt->header->node_low, memory_order_relaxed);
    *low = memtable_position(mt) + bytes;
    *high = nodes_start * ARENA_UNIT - node_room(bulk->count + count);
}

/* Shortens the prefix to what the new key has of it, too. */
static void follow_prefix(struct memtable_bulk *bulk, const struct record *r)
{
    lsm_slice key = LSM_SLICE(r->family, FAMILY_SIZE + r->key_size);
    if (bulk->count == 0) {
        bulk->prefix = key.size;
        return;
    }
    const struct record *first = record_at(bulk->mt, bulk->entries[0].place);
    lsm_slice common = LSM_SLICE(first->family, bulk->prefix);
    if (slice_begins_with(key, common))
        return;
    bulk->prefix = slice_common_prefix(key, common);
    bulk->stale = bulk->count;
}

static void collect(struct memtable_bulk *bulk, const struct entry *e)
{
    struct memtable *mt = bulk->mt;
    record_write(mt, e, 0);
    const struct record *r = record_at(mt, e->place);
    follow_prefix(bulk, r);
    bulk->entries[bulk->count++] =
        (struct head_item){.head = record_head(r, bulk->prefix), .place = e->place};
    uint64_t sequence = entry_sequence(e->trailer);
    if (sequence < bulk->min_sequence)
        bulk->min_sequence = sequence;
    if (sequence > bulk->max_sequence)
        bulk->max_sequence = sequence;
}

/* The oldest of the late ones into the index. */
static void index_oldest(struct memtable_bulk *bulk)
{
    const struct late *l = &bulk->late[bulk->late_first];
    struct entry e = {.target = record_target(record_at(bulk->mt, l->place)), .place = l->place};
    index_add_unlinked(bulk->mt, l->mixed, &e);
    bulk->late_first = (bulk->late_first + 1) % LATE_COUNT;
    bulk->late_count--;
}

/* In the order of the entries, each some entries later. */
static void index_late(struct memtable_bulk *bulk, uint64_t mixed, uint32_t place)
{
    __builtin_prefetch(index_line(bulk->mt, mixed), 1);
    if (bulk->late_count == LATE_COUNT)
        index_oldest(bulk);
    bulk->late[(bulk->late_first + bulk->late_count++) % LATE_COUNT] = (struct late){mixed, place};
}

void memtable_bulk_add(struct memtable_bulk *bulk, uint32_t cf, lsm_slice key, uint64_t hash,
                       uint64_t trailer, lsm_slice value)
{
    struct memtable *mt = bulk->mt;
    if (bulk->inserts) {
        memtable_insert(mt, cf, key, hash, trailer, value);
        return;
    }
    assert(bulk->count < bulk->capacity);
    assert(key.size <= LSM_MAX_KEY_SIZE && value.size <= LSM_MAX_VALUE_SIZE);
    struct entry e = {.target = target_of(cf, key),
                      .trailer = trailer,
                      .value = value,
                      .place = (uint32_t)(memtable_position(mt) / ARENA_UNIT)};
    collect(bulk, &e);
    index_late(bulk, index_hash(cf, hash), e.place);
    mt->records_limit = e.place + (uint32_t)(record_size(key.size, value.size) / ARENA_UNIT);
    atomic_store_explicit(&mt->header->progress, (uint64_t)bulk->count << 32 | mt->records_limit,
                          memory_order_relaxed);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Chains the versions of one key, oldest first. Returns the newest. */
static uint32_t chain(struct memtable *mt, const struct head_item *versions, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        uint32_t older = versions[i - 1].place, newer = versions[i].place;
        atomic_store_explicit(&record_at(mt, newer)->older, older, memory_order_relaxed);
        atomic_store_explicit(&record_at(mt, older)->newer, newer, memory_order_relaxed);
    }
    return versions[count - 1].place;
}

/* The newest version of each key, in the order of the keys. */
static size_t take_keys(struct memtable_bulk *bulk, struct btree_child *keys)
{
    size_t count = 0;
    for (size_t first = 0, limit; first < bulk->count; first = limit) {
        limit = first + 1;
        while (limit < bulk->count && bulk->entries[limit].mark == BULK_GROUP_INSIDE)
            limit++;
        uint32_t newest = chain(bulk->mt, bulk->entries + first, limit - first);
        keys[count++] = (struct btree_child){.off = newest, .sep = newest};
    }
    return count;
}

/* Makes what was collected a tree. */
static void build(struct memtable_bulk *bulk)
{
    struct memtable *mt = bulk->mt;
    if (bulk->count == 0)
        return;
    while (bulk->late_count > 0)
        index_oldest(bulk);
    for (size_t i = 0; i < bulk->stale; i++)
        bulk->entries[i].head = record_head(record_at(mt, bulk->entries[i].place), bulk->prefix);
    bulk_sort(mt, bulk->entries, bulk->scratch, bulk->count);
    static_assert(sizeof(struct btree_child) <= sizeof(struct head_item), "keys fit in scratch");
    struct btree_child *keys = (void *)bulk->scratch;
    btree_build(mt, keys, take_keys(bulk, keys));
    atomic_store_explicit(&mt->header->min_sequence, bulk->min_sequence, memory_order_relaxed);
    atomic_store_explicit(&mt->header->max_sequence, bulk->max_sequence, memory_order_relaxed);
    bulk->count = 0;
}

void memtable_bulk_end(struct memtable_bulk *bulk)
{
    build(bulk);
    bulk->mt = NULL;
}

bool memtable_bulk_reserve(struct memtable_bulk *bulk, size_t count, size_t bytes)
{
    if (!memtable_bulk_is_full(bulk, count))
        return has_room(bulk, count, bytes);
    build(bulk);
    bulk->inserts = true;
    return memtable_has_room(bulk->mt, insert_room(bulk->mt, count, bytes));
}
