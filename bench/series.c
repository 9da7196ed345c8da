/*
 * A time series: key numbers are points in time, put in order, so the highest key is now. Time is
 * one entry a second. What expires is deleted as each engine does it best: by one call for a range,
 * or key by key where it has none; finding the oldest entry afterwards has to pass what that left.
 */
#include "bench/workload.h"

#include <inttypes.h>
#include <string.h>

#define HOUR_ENTRIES 3600
#define SCAN_SHARE   1000 /* a scan for so many of --reads */
#define EXPIRE_STEPS 20
#define EXPIRE_SHARE 100 /* each step deletes one of so many keys of the beginning */

uint64_t series_append_count(const struct bench_options *o)
{
    return o->key_count;
}

uint64_t series_scan_count(const struct bench_options *o)
{
    return o->read_count / SCAN_SHARE + 1;
}

uint64_t series_expire_count(const struct bench_options *o)
{
    (void)o;
    return EXPIRE_STEPS;
}

void series_append(struct worker *w)
{
    while (worker_goes_on(w)) {
        uint64_t n = atomic_fetch_add(&w->bench->counts->key_limit, 1);
        worker_begin(w);
        worker_put(w, n, false);
        worker_end(w);
    }
}

void series_scan(struct worker *w)
{
    const struct engine *engine = w->bench->engine;
    while (worker_goes_on(w)) {
        uint64_t limit = atomic_load(&w->bench->counts->key_limit);
        uint64_t first = limit > HOUR_ENTRIES ? limit - HOUR_ENTRIES : 0;
        worker_begin(w);
        void *iter = engine->iter_open(w->session);
        worker_scan(w, iter, first, limit - first - 1);
        engine->iter_close(iter);
        worker_end(w);
    }
}

static void remove_numbers(struct worker *w, uint64_t first, uint64_t limit)
{
    const struct bench *b = w->bench;
    uint8_t limit_bytes[KEY_MAX_SIZE];
    if (b->engine->remove_range != NULL) {
        lsm_slice begin = key_make(&b->keys, first, w->key);
        b->engine->remove_range(w->session, begin, key_make(&b->keys, limit, limit_bytes), w->sync);
        return;
    }
    for (uint64_t n = first; n < limit; n++)
        b->engine->remove(w->session, key_make(&b->keys, n, w->key), w->sync);
}

static void find_oldest(struct worker *w, uint64_t n)
{
    const struct engine *engine = w->bench->engine;
    struct engine_entry entry;
    void *iter = engine->iter_open(w->session);
    lsm_slice key = key_make(&w->bench->keys, n, w->key);
    if (!engine->iter_first(iter, &entry) || entry.key.size != key.size ||
        memcmp(entry.key.data, key.data, key.size) != 0)
        die("ts-expire: %s: the oldest entry is not key number %" PRIu64, engine->name, n);
    worker_see(w, entry.key, entry.value);
    engine->iter_close(iter);
}

void series_expire(struct worker *w)
{
    struct bench *b = w->bench;
    uint64_t step = b->keys.count / EXPIRE_SHARE + 1;
    while (worker_goes_on(w)) {
        uint64_t first = atomic_fetch_add(&b->counts->key_first, step);
        if (first + step >= atomic_load(&b->counts->key_limit))
            die("ts-expire: nothing is left to expire");
        worker_begin(w);
        remove_numbers(w, first, first + step);
        if (w->task_count == 1)
            find_oldest(w, first + step);
        worker_end(w);
    }
}
