/*
 * Point reads of many keys, in groups. A group takes each step together: the filters' lines of all
 * its keys are fetched before one is tested, the nodes of a memtable's level for all before one is
 * searched, and so on down the tables, so that the keys wait for memory, or for the disk, together
 * and not one after the other. Values are pinned as by lsm_get(), but counted once a group.
 */
#include "engine/db/read_account.h"
#include "engine/db/read_private.h"

#include "engine/base/hash.h"

#include <assert.h>

/* Keys of a group: its work space lives on the stack. */
#define MULTI_GROUP 64

struct group {
    lsm_db *db;
    struct reading reading;
    struct io_queue *queue; /* NULL: nothing has gone to the tables so far */
    lsm_error *err;
    size_t count;
    const lsm_slice *keys;
    struct memtable_wanted wanted[MULTI_GROUP];
    struct hit hits[MULTI_GROUP];
};

/* ---- a group --------------------------------------------------------------------------------- */

/* Hashes the keys, with their filters on the way to the cache. */
static void group_begin(struct group *g, const lsm_slice *keys, size_t count)
{
    const struct db_state *state = g->reading.state;
    g->keys = keys;
    g->count = count;
    for (size_t i = 0; i < count; i++) {
        struct memtable_wanted *w = &g->wanted[i];
        w->key = keys[i];
        w->hash = hash_key(keys[i].data, keys[i].size);
        w->is_found = false;
        for (size_t m = 0; m < state->memtable_count; m++)
            memtable_prefetch(state->memtables[m]->table, g->reading.cf, w->hash);
    }
}

static void take_hits(struct group *g, const bool *had, struct db_memtable *memtable)
{
    for (size_t i = 0; i < g->count; i++) {
        const struct memtable_wanted *w = &g->wanted[i];
        if (w->is_found && !had[i])
            g->hits[i] = (struct hit){.is_found = true,
                                      .trailer = w->found.trailer,
                                      .value = w->found.value,
                                      .memtable = memtable};
    }
}

/* Returns how many keys have their answer: the memtables, newest first. */
static size_t group_look_into_memtables(struct group *g)
{
    const struct reading *r = &g->reading;
    size_t found = 0;
    for (size_t m = 0; m < r->state->memtable_count && found < g->count; m++) {
        struct db_memtable *memtable = r->state->memtables[m];
        bool had[MULTI_GROUP];
        for (size_t i = 0; i < g->count; i++)
            had[i] = g->wanted[i].is_found;
        size_t more = memtable_get_many(memtable->table, r->cf, r->sequence, g->wanted, g->count);
        if (more > 0)
            take_hits(g, had, memtable);
        found += more;
    }
    return found;
}

/* The keys that no memtable has. */
static lsm_status group_look_into_tables(struct group *g)
{
    const struct reading *r = &g->reading;
    struct version_probe probes[MULTI_GROUP];
    uint8_t numbers[MULTI_GROUP]; /* of the keys that the probes look for */
    static_assert(MULTI_GROUP <= UINT8_MAX, "numbers of keys fit");
    static_assert(MULTI_GROUP <= READ_SAMPLE, "a group holds one sample at most");
    const struct version_cf *family = version_find_cf(r->state->version, r->cf);
    if (family == NULL)
        return dropped_family(g->db, r->cf, g->err);
    lsm_status status =
        g->queue != NULL ? LSM_OK : io_queue_pool_take(g->db->tables.queues, &g->queue, g->err);
    if (status != LSM_OK)
        return status;
    size_t count = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct memtable_wanted *w = &g->wanted[i];
        if (w->is_found)
            continue;
        probes[count] =
            (struct version_probe){.key = w->key, .hash = w->hash, .max_sequence = r->sequence};
        numbers[count++] = (uint8_t)i;
    }
    status = version_multi_get(r->state->version, family, probes, count, r->table_flags, g->queue,
                               g->err);
    for (size_t i = 0; i < count && status == LSM_OK; i++)
        hit_from_table(&g->hits[numbers[i]], probes[i].is_found, &probes[i].found);
    if (status == LSM_OK && count > 0 && read_is_sampled((uint32_t)count)) {
        struct version_walk walk = {
            .cf = family, .key = probes[0].key, .max_sequence = r->sequence};
        db_read_sample(r->state, &walk, hit_sequence(&g->hits[numbers[0]]));
    }
    return status;
}

static void count_uses(struct db_memtable *memtable, uint32_t count)
{
    if (count > 0)
        atomic_fetch_add_explicit(&memtable->references, count, memory_order_relaxed);
}

/* Values of one memtable that follow each other are counted at once. */
static void group_pin(const struct group *g, lsm_pin *pins)
{
    struct db_memtable *memtable = NULL;
    uint32_t uses = 0, pinned = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct hit *hit = &g->hits[i];
        if (!hit_hold(g->db, hit, &pins[i]))
            continue;
        pinned++;
        if (hit->memtable == NULL)
            continue;
        if (hit->memtable != memtable) {
            count_uses(memtable, uses);
            memtable = hit->memtable;
            uses = 0;
        }
        uses++;
    }
    count_uses(memtable, uses);
    if (pinned > 0)
        count_pins(g->db, pinned);
}

static lsm_status group_run(struct group *g, const lsm_slice *keys, size_t count, lsm_pin *pins)
{
    group_begin(g, keys, count);
    lsm_status status = LSM_OK;
    if (group_look_into_memtables(g) < count)
        status = group_look_into_tables(g);
    if (status == LSM_OK)
        group_pin(g, pins);
    return status;
}

LSM_API lsm_status lsm_multi_get(lsm_db *db, lsm_cf *cf, size_t count, const lsm_slice *keys,
                                 const lsm_read_options *options, lsm_pin *pins, lsm_error *err)
{
    uint32_t id;
    lsm_status status = check_read(db, cf, &id, err);
    if (status != LSM_OK)
        return status;
    if (count > 0 && (keys == NULL || pins == NULL))
        return lsm_fail(err, LSM_INVALID, "the array of keys or of values is NULL");
    for (size_t i = 0; i < count; i++) {
        status = db_check_key(keys[i], err);
        if (status != LSM_OK)
            return status;
    }
    for (size_t i = 0; i < count; i++)
        lsm_pin_release(&pins[i]);
    struct group g;
    g.db = db;
    g.queue = NULL;
    g.err = err;
    epoch_enter();
    g.reading = reading_begin(db, id, options);
    for (size_t i = 0; i < count && status == LSM_OK; i += MULTI_GROUP) {
        size_t left = count - i;
        status = group_run(&g, keys + i, left < MULTI_GROUP ? left : MULTI_GROUP, pins + i);
    }
    epoch_exit();
    io_queue_pool_give_back(db->tables.queues, g.queue);
    for (size_t i = 0; i < count && status != LSM_OK; i++)
        lsm_pin_release(&pins[i]);
    return status;
}
