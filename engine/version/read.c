/*
 * Point reads over the tables of a family: level 0 from the newest file to the oldest, then one
 * file a level. The filters' lines of all candidates are fetched before the first is tested, so
 * that a read waits for memory once and not once a run.
 */
#include "engine/version/walk_private.h"

#include <assert.h>

/* ---- one key ----------------------------------------------------------------------------------
 */

/* The next files that may hold the key, their filters on the way to the cache. */
static void collect_files(struct version_lookup *l, uint64_t hash)
{
    for (l->count = 0; l->count < VERSION_LOOKUP_FILES; l->count++) {
        struct version_file *file = walk_next(&l->walk);
        if (file == NULL)
            break;
        struct table_slot *slot = live_file_of(file)->slot;
        l->slots[l->count] = slot;
        struct table *table = table_slot_peek(slot);
        if (table != NULL)
            table_prefetch_filter(table, hash);
    }
}

void version_lookup_begin(struct version_lookup *l, const struct version *version,
                          const struct version_cf *cf, lsm_slice key, uint64_t hash,
                          uint64_t max_sequence)
{
    l->version = version;
    l->walk = walk_begin(cf, key, max_sequence);
    l->count = 0;
    if (cf->used_levels != 0)
        collect_files(l, hash);
}

lsm_status version_lookup_end(struct version_lookup *l, uint64_t hash, unsigned table_flags,
                              bool *is_found, struct table_found *found, lsm_error *err)
{
    const struct version_walk *w = &l->walk;
    *is_found = false;
    for (;;) {
        for (size_t i = 0; i < l->count; i++) {
            struct table *table;
            lsm_status status = table_slot_get(l->slots[i], &table, err);
            if (status == LSM_OK)
                status = table_get(table, w->key, hash, w->max_sequence, table_flags, is_found,
                                   found, err);
            if (status == LSM_OK && *is_found && entry_type_of(found->trailer) == ENTRY_BLOB)
                status = version_blob_get(l->version, w->key, hash, table_flags, found, err);
            if (status != LSM_OK || *is_found)
                return status;
        }
        if (l->count < VERSION_LOOKUP_FILES)
            return LSM_OK;
        collect_files(l, hash);
    }
}

lsm_status version_get(const struct version *version, const struct version_cf *cf, lsm_slice key,
                       uint64_t hash, uint64_t max_sequence, unsigned table_flags, bool *is_found,
                       struct table_found *found, lsm_error *err)
{
    struct version_lookup l;
    version_lookup_begin(&l, version, cf, key, hash, max_sequence);
    return version_lookup_end(&l, hash, table_flags, is_found, found, err);
}

/* ---- what is newer than a number --------------------------------------------------------------
 */

lsm_status version_newer_than(const struct version_cf *cf, lsm_slice key, uint64_t hash,
                              uint64_t floor, uint64_t *newest, lsm_error *err)
{
    assert(epoch_is_inside());
    *newest = 0;
    struct version_walk walk = walk_begin(cf, key, ENTRY_MAX_SEQUENCE);
    for (struct version_file *file; (file = walk_next(&walk)) != NULL;) {
        if (file->meta.max_sequence <= floor)
            continue;
        struct table *table;
        struct table_found found;
        bool is_found = false;
        lsm_status status = table_slot_get(live_file_of(file)->slot, &table, err);
        if (status == LSM_OK)
            status = table_get(table, key, hash, ENTRY_MAX_SEQUENCE, 0, &is_found, &found, err);
        if (status != LSM_OK)
            return status;
        if (!is_found)
            continue;
        if (found.owned)
            block_drop(found.block);
        /* Files come newest first: what follows is older. */
        uint64_t sequence = entry_sequence(found.trailer);
        *newest = sequence > floor ? sequence : 0;
        return LSM_OK;
    }
    return LSM_OK;
}

static lsm_status table_range_newer_than(struct table *table, lsm_slice first, lsm_slice limit,
                                         uint64_t floor, struct buffer *key, uint64_t *newest,
                                         lsm_error *err)
{
    static const struct table_iter_options options = {.flags = TABLE_NO_FILL};
    struct iter *it = NULL;
    lsm_status status = table_iter_new(table, &options, &it, err);
    if (status != LSM_OK)
        return status;
    iter_seek(it, first, ENTRY_MAX_TRAILER);
    for (; it->valid && *newest == 0; iter_next(it)) {
        if (limit.data != NULL && slice_compare(it->entry->key, limit) >= 0)
            break;
        if (entry_sequence(it->entry->trailer) <= floor)
            continue;
        *newest = entry_sequence(it->entry->trailer);
        if (!buffer_assign(key, it->entry->key)) {
            status = lsm_fail_memory(err, it->entry->key.size);
            break;
        }
    }
    if (status == LSM_OK && !it->valid)
        status = it->status;
    iter_release(it);
    return status;
}

static bool file_overlaps(const struct table_meta *meta, lsm_slice first, lsm_slice limit)
{
    return slice_compare(meta->largest, first) >= 0 &&
           (limit.data == NULL || slice_compare(meta->smallest, limit) < 0);
}

lsm_status version_range_newer_than(const struct version_cf *cf, lsm_slice first, lsm_slice limit,
                                    uint64_t floor, struct buffer *key, uint64_t *newest,
                                    lsm_error *err)
{
    lsm_status status = LSM_OK;
    *newest = 0;
    for (uint32_t i = 0; i < VERSION_LEVELS; i++) {
        const struct version_level *level = &cf->levels[i];
        for (size_t f = 0; f < level->count && status == LSM_OK && *newest == 0; f++) {
            struct version_file *file = level->files[f];
            struct table *table;
            if (file->meta.max_sequence <= floor || !file_overlaps(&file->meta, first, limit))
                continue;
            status = version_table_keep(file, &table, err);
            if (status != LSM_OK)
                return status;
            status = table_range_newer_than(table, first, limit, floor, key, newest, err);
            version_table_drop(file);
        }
    }
    return status;
}

/* ---- many keys --------------------------------------------------------------------------------
 */

#define MULTI_GROUP 32 /* keys worked on together: their blocks are read with one submission */

/* One key of a group: where it is on its way down, and what it waits for. */
struct pursuit {
    struct version_probe *wanted;
    struct version_walk walk;
    struct version_file *file; /* to be probed next */
    struct table_probe probe;
    bool is_reading;
    bool is_following; /* waits for a block that another one reads */
};

struct group {
    struct pursuit *pursuits;
    size_t count;
    struct io_queue *queue;
    lsm_error *err;
};

/* What is read before it is written; the rest is large. */
static void pursuit_init(struct pursuit *p, const struct version_cf *cf,
                         struct version_probe *wanted, unsigned table_flags)
{
    p->wanted = wanted;
    p->walk = walk_begin(cf, wanted->key, wanted->max_sequence);
    p->probe.key = wanted->key;
    p->probe.hash = wanted->hash;
    p->probe.max_sequence = wanted->max_sequence;
    p->probe.flags = table_flags;
    p->probe.request.owner = p;
    p->is_reading = false;
    p->is_following = false;
}

/* The next file to look into, with its filter on the way to the cache. */
static void pursuit_advance(struct pursuit *p)
{
    p->probe.is_located = false;
    p->file = walk_next(&p->walk);
    if (p->file == NULL) {
        p->wanted->done = true;
        return;
    }
    struct table *table = table_slot_peek(live_file_of(p->file)->slot);
    if (table != NULL)
        table_prefetch_filter(table, p->wanted->hash);
}

/* Asks the file's filter; a file that does not have the key is passed over. */
static lsm_status pursuit_locate(struct group *g, struct pursuit *p)
{
    struct table *table;
    lsm_status status = table_slot_get(live_file_of(p->file)->slot, &table, g->err);
    if (status != LSM_OK)
        return status;
    p->probe.table = table;
    if (!table_probe_locate(&p->probe))
        pursuit_advance(p);
    return LSM_OK;
}

static void pursuit_take_state(struct pursuit *p, enum table_probe_state state)
{
    p->is_reading = state == TABLE_PROBE_READ;
    if (state == TABLE_PROBE_FOUND) {
        p->wanted->is_found = true;
        p->wanted->found = p->probe.found;
        p->wanted->done = true;
    } else if (state == TABLE_PROBE_ABSENT) {
        pursuit_advance(p);
    }
}

static bool is_waiting(const struct pursuit *p)
{
    return p->wanted->done || p->is_reading || p->is_following;
}

static lsm_status locate_all(struct group *g, bool *moved)
{
    lsm_status status = LSM_OK;
    *moved = false;
    for (size_t i = 0; i < g->count && status == LSM_OK; i++) {
        struct pursuit *p = &g->pursuits[i];
        if (is_waiting(p) || p->probe.is_located)
            continue;
        status = pursuit_locate(g, p);
        *moved = true;
    }
    return status;
}

/* What lies between the filter and the comparison with the key, each step for all. */
static void approach_all(struct group *g)
{
    for (size_t i = 0; i < g->count; i++) {
        if (!is_waiting(&g->pursuits[i]))
            table_probe_find_block(&g->pursuits[i].probe);
    }
    for (size_t i = 0; i < g->count; i++) {
        if (!is_waiting(&g->pursuits[i]))
            table_probe_approach(&g->pursuits[i].probe);
    }
    for (size_t i = 0; i < g->count; i++) {
        if (!is_waiting(&g->pursuits[i]))
            table_probe_approach_entry(&g->pursuits[i].probe);
    }
}

/* Is the block of pursuit `at`, which is not in memory, being read for one before it? */
static bool is_read_for_another(const struct group *g, size_t at)
{
    const struct table_probe *own = &g->pursuits[at].probe;
    if (own->block != NULL)
        return false;
    for (size_t i = 0; i < at; i++) {
        const struct pursuit *other = &g->pursuits[i];
        if (other->is_reading && table_probe_wants_same(own, &other->probe))
            return true;
    }
    return false;
}

static lsm_status search_all(struct group *g, bool *moved)
{
    lsm_status status = LSM_OK;
    *moved = false;
    for (size_t i = 0; i < g->count && status == LSM_OK; i++) {
        struct pursuit *p = &g->pursuits[i];
        enum table_probe_state state;
        if (is_waiting(p))
            continue;
        p->is_following = is_read_for_another(g, i);
        if (p->is_following)
            continue;
        status = table_probe_begin(&p->probe, &state, g->err);
        if (status == LSM_OK)
            pursuit_take_state(p, state);
        *moved = true;
    }
    return status;
}

/*
 * Looks into files until every key is found, absent, or waits for a read. Each step is done for all
 * keys before the next, so that what one step fetched is there when the next one needs it.
 */
static lsm_status group_probe(struct group *g)
{
    lsm_status status = LSM_OK;
    for (bool moved = true; moved && status == LSM_OK;) {
        while (moved && status == LSM_OK)
            status = locate_all(g, &moved);
        if (status != LSM_OK)
            break;
        approach_all(g);
        status = search_all(g, &moved);
    }
    return status;
}

/* Reads what keys wait for, with one submission. Every read is reaped, also after a failure, which
 * is the first one seen. */
static lsm_status group_read(struct group *g, bool *did_read)
{
    lsm_status status = LSM_OK;
    size_t in_flight = 0;
    for (size_t i = 0; i < g->count; i++) {
        struct pursuit *p = &g->pursuits[i];
        if (!p->is_reading)
            continue;
        io_queue_push(g->queue, &p->probe.request);
        in_flight++;
    }
    *did_read = in_flight > 0;
    if (in_flight > 0)
        status = io_queue_submit(g->queue, g->err);
    for (size_t i = 0; i < g->count; i++)
        g->pursuits[i].is_following = false;
    for (; in_flight > 0; in_flight--) {
        struct io_request *request = io_queue_reap(g->queue, true);
        assert(request != NULL);
        struct pursuit *p = request->owner;
        enum table_probe_state state = TABLE_PROBE_ABSENT;
        p->is_reading = false;
        lsm_status own = table_probe_finish(&p->probe, &state, status == LSM_OK ? g->err : NULL);
        if (own == LSM_OK)
            pursuit_take_state(p, state);
        else if (status == LSM_OK)
            status = own;
    }
    return status;
}

/* After a failure: probes that wait for a read hold memory, which only finishing frees. */
static void group_give_up(struct group *g)
{
    bool did_read = true;
    g->err = NULL; /* the first failure is told, not these */
    while (did_read)
        (void)group_read(g, &did_read);
}

static lsm_status group_run(struct group *g)
{
    for (size_t i = 0; i < g->count; i++)
        pursuit_advance(&g->pursuits[i]);
    bool did_read = true;
    lsm_status status = LSM_OK;
    while (status == LSM_OK && did_read) {
        status = group_probe(g);
        if (status == LSM_OK)
            status = group_read(g, &did_read);
    }
    if (status != LSM_OK)
        group_give_up(g);
    return status;
}

/* After a failure nothing is handed out, neither what earlier groups found. */
static void forget_found(struct version_probe *probes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (probes[i].is_found && probes[i].found.owned)
            block_drop(probes[i].found.block);
        probes[i].is_found = false;
    }
}

lsm_status version_multi_get(const struct version *version, const struct version_cf *cf,
                             struct version_probe *probes, size_t count, unsigned table_flags,
                             struct io_queue *queue, lsm_error *err)
{
    assert(epoch_is_inside());
    struct pursuit pursuits[MULTI_GROUP];
    struct group g = {.pursuits = pursuits, .queue = queue, .err = err};
    for (size_t next = 0; next < count;) {
        for (g.count = 0; g.count < MULTI_GROUP && next < count; next++) {
            struct version_probe *wanted = &probes[next];
            if (wanted->done)
                continue;
            wanted->is_found = false;
            pursuit_init(&pursuits[g.count++], cf, wanted, table_flags);
        }
        lsm_status status = group_run(&g);
        if (status != LSM_OK) {
            forget_found(probes, count);
            return status;
        }
    }
    lsm_status status = version_blob_multi_get(version, probes, count, table_flags, queue, err);
    if (status != LSM_OK)
        forget_found(probes, count);
    return status;
}
