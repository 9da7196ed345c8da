/* The steps that the loops of all workloads are made of. */
#include "bench/clock.h"
#include "bench/workload.h"

#include <inttypes.h>
#include <string.h>

void worker_sample_begin(struct worker *w)
{
    w->began_ticks = clock_ticks();
}

void worker_timed(struct worker *w, uint64_t began)
{
    uint64_t now = clock_ticks();
    histogram_add(&w->latencies, clock_ticks_to_ns(now - began));
    if (w->bench->witness != NULL)
        waits_note(&w->waits, now, now - began);
}

void worker_sample_end(struct worker *w)
{
    worker_timed(w, w->began_ticks);
    w->until_sample = w->sample_every;
}

void worker_put(struct worker *w, uint64_t n, bool batch)
{
    const struct engine *engine = w->bench->engine;
    lsm_slice key = key_make(&w->bench->keys, n, w->key);
    lsm_slice value = value_make(&w->bench->keys, key, w->value);
    if (batch)
        engine->batch_put(w->session, key, value);
    else
        engine->put(w->session, key, value, w->sync);
    w->written_bytes += key.size + value.size;
}

void worker_see(struct worker *w, lsm_slice key, lsm_slice value)
{
    if (w->bench->options->verify && !value_fits(&w->bench->keys, key, value))
        die("verify: '%.*s' has a wrong value of %zu bytes", (int)key.size, (const char *)key.data,
            value.size);
    w->found++;
    w->read_bytes += key.size + value.size;
}

void worker_misses(const struct worker *w, uint64_t n)
{
    die("%s: %s does not find key number %" PRIu64 ", which was put", w->workload->name,
        w->bench->engine->name, n);
}

void worker_get(struct worker *w, uint64_t n)
{
    const struct bench *b = w->bench;
    lsm_slice key = key_make(&b->keys, n, w->key), value;
    if (b->engine->get(w->session, key, &value))
        worker_see(w, key, value);
    else if (b->counts->complete && n < b->keys.count)
        worker_misses(w, n);
}

void worker_scan(struct worker *w, void *iter, uint64_t n, uint64_t count)
{
    const struct bench *b = w->bench;
    lsm_slice key = key_make(&b->keys, n, w->key);
    struct engine_entry entry;
    bool here = b->engine->iter_seek(iter, key, &entry);
    if (b->counts->complete && n < b->keys.count &&
        (!here || entry.key.size != key.size || memcmp(entry.key.data, key.data, key.size) != 0))
        worker_misses(w, n);
    for (uint64_t i = 0; here; i++) {
        worker_see(w, entry.key, entry.value);
        if (i == count)
            break;
        here = b->engine->iter_next(iter, &entry);
    }
}
