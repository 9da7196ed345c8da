/*
 * The door of the memtable: makes and attaches arenas, keeps the counters, adds up room, and hands
 * keys to the structure behind.
 *
 * Counters are stored as absolute values, entry count and end of the records in one word, so that a
 * death between two stores leaves nothing that a redo would count twice.
 */
#include "engine/memtable/btree_private.h"

#include "engine/base/memory.h"
#include "engine/base/status.h"
#include "engine/memtable/hash_index.h"

#define INDEX_SHARE 24 /* the index takes this part of the arena */

/* ---- make, attach, free ---------------------------------------------------------------------- */

static size_t index_line_count(size_t arena_size)
{
    return arena_size / INDEX_SHARE / INDEX_LINE_SIZE;
}

static_assert(MEMTABLE_MIN_ARENA / INDEX_SHARE / INDEX_LINE_SIZE >= INDEX_WINDOW, "a window fits");

/* Lines of the index and nodes begin on borders of cache lines from the arena's start. */
static size_t index_start(size_t arena_size)
{
    return (arena_size - index_line_count(arena_size) * INDEX_LINE_SIZE) & ~(size_t)63;
}

/* All bits that the place of a record may have. */
static uint32_t index_places(size_t arena_size)
{
    return UINT32_MAX >> __builtin_clz((uint32_t)(arena_size / ARENA_UNIT - 1));
}

static_assert(MEMTABLE_MAX_ARENA / ARENA_UNIT - 1 <= UINT32_MAX / 2, "a word has a bit of a tag");

static bool cpu_has_simd(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
#else
    return false;
#endif
}

static struct memtable *handle_over(void *arena)
{
    struct memtable *mt = mem_alloc_aligned(_Alignof(struct memtable), sizeof *mt);
    if (mt == NULL)
        return NULL;
    *mt = (struct memtable){.arena = arena, .header = arena, .has_simd = cpu_has_simd()};
    return mt;
}

static void take_header_over(struct memtable *mt)
{
    const struct arena_header *header = mt->header;
    mt->kind = (enum memtable_kind)header->kind;
    mt->index = arena_at(mt, header->index_offset);
    mt->index_home_count = header->index_line_count - INDEX_WINDOW + 1;
    mt->index_places = index_places((size_t)header->size);
}

static lsm_status check_arena(const void *arena, size_t size, lsm_error *err)
{
    if ((uintptr_t)arena % ARENA_UNIT != 0)
        return lsm_fail(err, LSM_INVALID, "a memtable's arena is not aligned to %zu bytes",
                        ARENA_UNIT);
    if (size < MEMTABLE_MIN_ARENA || size > MEMTABLE_MAX_ARENA)
        return lsm_fail(err, LSM_INVALID,
                        "a memtable's arena of %zu bytes is not between %zu and %zu", size,
                        MEMTABLE_MIN_ARENA, MEMTABLE_MAX_ARENA);
    return LSM_OK;
}

lsm_status memtable_new(enum memtable_kind kind, void *arena, size_t size, uint64_t id,
                        struct memtable **mt, lsm_error *err)
{
    lsm_status status = check_arena(arena, size, err);
    if (status != LSM_OK)
        return status;
    if (kind != MEMTABLE_BTREE && kind != MEMTABLE_SKIPLIST)
        return lsm_fail(err, LSM_INVALID, "there is no memtable of kind %d", (int)kind);
    struct memtable *m = handle_over(arena);
    if (m == NULL)
        return lsm_fail_memory(err, sizeof *m);

    struct arena_header *header = m->header;
    uint32_t index_offset = (uint32_t)(index_start(size) / ARENA_UNIT);
    memset(header, 0, sizeof *header);
    header->magic = ARENA_MAGIC;
    header->size = size;
    header->id = id;
    header->kind = kind;
    header->index_offset = index_offset;
    header->index_line_count = (uint32_t)index_line_count(size);
    atomic_store_explicit(&header->node_low, index_offset, memory_order_relaxed);
    atomic_store_explicit(&header->min_sequence, UINT64_MAX, memory_order_relaxed);
    take_header_over(m);
    store_progress(m, 0, RECORDS_START);
    m->records_limit = RECORDS_START;
    memset(m->index, 0, header->index_line_count * INDEX_LINE_SIZE);
    if (kind == MEMTABLE_BTREE)
        btree_init(m);
    else
        skiplist_init(m);
    *mt = m;
    return LSM_OK;
}

void memtable_reach_new(size_t size, size_t *low, size_t *high)
{
    *low = sizeof(struct arena_header);
    *high = index_start(size) - BTREE_NODE_SIZE;
    static_assert(BTREE_NODE_SIZE >= SKIPLIST_ENTRY_ROOM, "either first node fits");
}

lsm_status memtable_attach(void *arena, size_t size, struct memtable **mt, lsm_error *err)
{
    lsm_status status = check_arena(arena, size, err);
    if (status != LSM_OK)
        return status;
    const struct arena_header *header = arena;
    if (header->magic != ARENA_MAGIC || header->size != size) {
        lsm_fail(err, LSM_CORRUPT,
                 "the memtable's header is damaged: magic %" PRIx64 " and %" PRIu64
                 " bytes where %" PRIx64 " and %zu were expected",
                 header->magic, header->size, ARENA_MAGIC, size);
        status_numbers(err, size, header->size);
        return LSM_CORRUPT;
    }
    uint32_t node_low = atomic_load_explicit(&header->node_low, memory_order_relaxed);
    uint32_t end = progress_end(atomic_load_explicit(&header->progress, memory_order_relaxed));
    uint32_t root = (uint32_t)atomic_load_explicit(&header->root, memory_order_acquire);
    if ((header->kind != MEMTABLE_BTREE && header->kind != MEMTABLE_SKIPLIST) ||
        header->index_offset != index_start(size) / ARENA_UNIT ||
        header->index_line_count != index_line_count(size) || end < RECORDS_START ||
        node_low < end || root < node_low || root >= header->index_offset)
        return lsm_fail(err, LSM_CORRUPT,
                        "the memtable's header is damaged: kind %" PRIu32
                        ", records to unit %" PRIu32 ", nodes from %" PRIu32 ", root at %" PRIu32
                        ", index at %" PRIu32,
                        header->kind, end, node_low, root, header->index_offset);
    struct memtable *m = handle_over(arena);
    if (m == NULL)
        return lsm_fail_memory(err, sizeof *m);
    take_header_over(m);
    *mt = m;
    return LSM_OK;
}

void memtable_free(struct memtable *mt)
{
    mem_free(mt);
}

/* ---- counters and room ----------------------------------------------------------------------- */

/* Plain fields are loaded like atomic ones: the arena may be formatted anew meanwhile. */
bool memtable_look(const void *arena, size_t size, struct memtable_glance *glance)
{
    const struct arena_header *h = arena;
    if (size < MEMTABLE_HEADER_SIZE || __atomic_load_n(&h->magic, __ATOMIC_RELAXED) != ARENA_MAGIC)
        return false;
    uint64_t used_size = __atomic_load_n(&h->size, __ATOMIC_RELAXED);
    uint64_t progress = atomic_load_explicit(&h->progress, memory_order_relaxed);
    uint32_t low = atomic_load_explicit(&h->node_low, memory_order_relaxed);
    if (used_size > size || progress_end(progress) > low || low > used_size / ARENA_UNIT)
        return false;
    *glance = (struct memtable_glance){
        .id = __atomic_load_n(&h->id, __ATOMIC_RELAXED),
        .entry_count = progress_count(progress),
        .bytes_used = used_size - (uint64_t)(low - progress_end(progress)) * ARENA_UNIT};
    return true;
}

uint64_t memtable_id(const struct memtable *mt)
{
    return mt->header->id;
}

uint64_t memtable_entry_count(const struct memtable *mt)
{
    return progress_count(load_progress(mt));
}

size_t memtable_bytes_used(const struct memtable *mt)
{
    return (size_t)mt->header->size -
           (load_node_low(mt) - memtable_position(mt) / ARENA_UNIT) * ARENA_UNIT;
}

size_t memtable_position(const struct memtable *mt)
{
    return (size_t)progress_end(load_progress(mt)) * ARENA_UNIT;
}

uint64_t memtable_min_sequence(const struct memtable *mt)
{
    return atomic_load_explicit(&mt->header->min_sequence, memory_order_relaxed);
}

uint64_t memtable_max_sequence(const struct memtable *mt)
{
    return atomic_load_explicit(&mt->header->max_sequence, memory_order_relaxed);
}

static size_t node_room(const struct memtable *mt)
{
    return mt->kind == MEMTABLE_BTREE ? BTREE_ENTRY_ROOM : SKIPLIST_ENTRY_ROOM;
}

size_t memtable_record_room(size_t key_size, size_t value_size)
{
    return record_size(key_size, value_size);
}

size_t memtable_entry_room(const struct memtable *mt, size_t key_size, size_t value_size)
{
    return record_size(key_size, value_size) + node_room(mt);
}

/* The most entries that `bytes` can be the sum of. */
static_assert(sizeof(struct arena_header) == MEMTABLE_HEADER_SIZE, "what memtable_look() reads");

static size_t max_entry_count(const struct memtable *mt, size_t bytes)
{
    return mt->kind == MEMTABLE_BTREE ? bytes / (RECORD_MIN_SIZE + BTREE_ENTRY_ROOM)
                                      : bytes / (RECORD_MIN_SIZE + SKIPLIST_ENTRY_ROOM);
}

#define FEW_ENTRIES 4 /* whose extra room need not be known exactly to make memory ready */

/* What extra_room() never exceeds, in a fraction of its time. */
static inline size_t most_extra_room(const struct memtable *mt, size_t entry_count)
{
    size_t nodes = (BTREE_MAX_HEIGHT + 2) * (2 * entry_count + 1);
    return mt->kind == MEMTABLE_BTREE ? nodes * BTREE_NODE_SIZE : 0;
}

static size_t extra_room(const struct memtable *mt, size_t entry_count)
{
    return mt->kind == MEMTABLE_BTREE ? btree_extra_room(mt, entry_count) : 0;
}

bool memtable_has_room(const struct memtable *mt, size_t bytes)
{
    size_t left = (size_t)load_node_low(mt) * ARENA_UNIT - memtable_position(mt);
    size_t count = max_entry_count(mt, bytes);
    return bytes <= left &&
           (most_extra_room(mt, count) <= left - bytes || extra_room(mt, count) <= left - bytes);
}

bool memtable_reach_quick(const struct memtable *mt, size_t count, size_t bytes, size_t *low,
                          size_t *high)
{
    size_t nodes_start = (size_t)load_node_low(mt) * ARENA_UNIT;
    size_t nodes = count * node_room(mt) + most_extra_room(mt, count);
    *low = memtable_position(mt) + bytes;
    *high = nodes <= nodes_start ? nodes_start - nodes : 0;
    return *low <= *high;
}

void memtable_reach(const struct memtable *mt, size_t bytes, size_t *low, size_t *high)
{
    size_t records_end = memtable_position(mt);
    size_t nodes_start = (size_t)load_node_low(mt) * ARENA_UNIT;
    size_t left = nodes_start - records_end;
    bytes = bytes < left ? bytes : left;
    size_t count = max_entry_count(mt, bytes);
    size_t extra = count <= FEW_ENTRIES ? most_extra_room(mt, count) : extra_room(mt, count);
    size_t nodes = count * node_room(mt) + extra;
    *low = records_end + bytes;
    *high = nodes_start - (nodes < left ? nodes : left);
}

uint32_t arena_take_node(struct memtable *mt, size_t size)
{
    /* Whole nodes of the tree keep their alignment; the skiplist's need none. */
    uint32_t low = load_node_low(mt) - (uint32_t)(size / ARENA_UNIT);
    assert(low >= mt->records_limit && low < load_node_low(mt));
    atomic_store_explicit(&mt->header->node_low, low, memory_order_relaxed);
    return low;
}

/* ---- look up --------------------------------------------------------------------------------- */

/* From the root alone, whose line few inserts touch. */
static inline bool is_empty(const struct memtable *mt)
{
    if (mt->kind != MEMTABLE_BTREE)
        return memtable_entry_count(mt) == 0;
    uint64_t root = btree_root(mt);
    return BTREE_ROOT_HEIGHT(root) == 0 &&
           perm_count(node_perm(node_at(mt, BTREE_ROOT_NODE(root)))) == 0;
}

bool memtable_may_contain(const struct memtable *mt, uint32_t cf, uint64_t hash)
{
    if (is_empty(mt))
        return false;
    uint64_t mixed = index_hash(cf, hash);
    return index_may_have(mt, mixed);
}

void memtable_prefetch(const struct memtable *mt, uint32_t cf, uint64_t hash)
{
    if (!is_empty(mt))
        __builtin_prefetch(index_line(mt, index_hash(cf, hash)));
}

/* From the newest version of a key on, the first that is visible; `at` 0: no such key. */
static inline bool take_visible(const struct memtable *mt, uint32_t at, uint64_t max_sequence,
                                struct memtable_found *found)
{
    while (at != 0) {
        const struct record *r = record_at(mt, at);
        if (entry_sequence(r->trailer) <= max_sequence) {
            found->trailer = r->trailer;
            found->value = record_value(r);
            return true;
        }
        at = record_older(r);
    }
    return false;
}

static inline uint32_t find(const struct memtable *mt, uint64_t mixed, const struct target *t)
{
    uint32_t at = index_find(mt, mixed, t);
    if (__builtin_expect(at != INDEX_UNKNOWN, 1))
        return at;
    return mt->kind == MEMTABLE_BTREE ? btree_find(mt, t) : skiplist_find(mt, t);
}

bool memtable_get(const struct memtable *mt, uint32_t cf, lsm_slice key, uint64_t hash,
                  uint64_t max_sequence, struct memtable_found *found)
{
    if (is_empty(mt))
        return false;
    struct target t = target_of(cf, key);
    return take_visible(mt, find(mt, index_hash(cf, hash), &t), max_sequence, found);
}

/* Begins to fetch the records that may be the key's. */
static inline bool approach(const struct memtable *mt, uint64_t mixed)
{
    const struct index_line *line = index_line(mt, mixed);
    unsigned hits = index_hits(mt, line, index_tag(mt, mixed));
    bool may_contain = hits != 0 || index_line_is_full(line);
    for (; hits != 0; hits &= hits - 1)
        record_prefetch(mt, index_word(line, (unsigned)__builtin_ctz(hits)) & mt->index_places);
    return may_contain;
}

#define GET_MANY ((size_t)64) /* keys that wait for their records together */

size_t memtable_get_many(const struct memtable *mt, uint32_t cf, uint64_t max_sequence,
                         struct memtable_wanted *wanted, size_t count)
{
    if (is_empty(mt))
        return 0;
    size_t found = 0;
    for (size_t next = 0; next < count;) {
        struct memtable_wanted *approached[GET_MANY];
        size_t approached_count = 0;
        for (; next < count && approached_count < GET_MANY; next++) {
            if (!wanted[next].is_found && approach(mt, index_hash(cf, wanted[next].hash)))
                approached[approached_count++] = &wanted[next];
        }
        for (size_t i = 0; i < approached_count; i++) {
            struct memtable_wanted *w = approached[i];
            struct target t = target_of(cf, w->key);
            uint32_t at = find(mt, index_hash(cf, w->hash), &t);
            w->is_found = take_visible(mt, at, max_sequence, &w->found);
            found += w->is_found;
        }
    }
    return found;
}

bool memtable_key_range(const struct memtable *mt, uint32_t cf, lsm_slice *lowest,
                        lsm_slice *highest)
{
    struct memtable_cursor c = {.kind = MEMTABLE_BTREE};
    struct target first = {.cf = cf};
    cursor_init(&c, mt);
    uint32_t low = cursor_seek(&c, &first), high = cursor_seek_last(&c, cf);
    if (low == 0 || high == 0 || record_cf(record_at(mt, low)) != cf ||
        record_cf(record_at(mt, high)) != cf)
        return false;
    *lowest = record_key(record_at(mt, low));
    *highest = record_key(record_at(mt, high));
    return true;
}

bool memtable_next_cf(const struct memtable *mt, uint32_t from, uint32_t *cf)
{
    struct memtable_cursor c = {.kind = MEMTABLE_BTREE};
    struct target t = {.cf = from};
    cursor_init(&c, mt);
    uint32_t at = cursor_seek(&c, &t);
    if (at == 0)
        return false;
    *cf = record_cf(record_at(mt, at));
    return true;
}
