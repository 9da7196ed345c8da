/*
 * YCSB's six mixes. Inserted keys go behind the highest, in order (YCSB hashes them by default);
 * records keep the size that the options say.
 */
#include "bench/workload.h"

#define SCAN_MAX 100

struct mix {
    double read, update, insert, scan; /* shares; the rest is read, then update */
    bool latest;                       /* reads favour what was inserted last */
};

static const struct mix mixes[] = {
    {.read = 0.5, .update = 0.5},
    {.read = 0.95, .update = 0.05},
    {.read = 1},
    {.read = 0.95, .insert = 0.05, .latest = true},
    {.scan = 0.95, .insert = 0.05},
    {.read = 0.5},
};

static uint64_t choose_key(struct worker *w, bool latest)
{
    const struct zipf *zipf = &w->bench->zipf;
    if (!latest)
        return zipf_next_scrambled(zipf, &w->rng);
    uint64_t limit = atomic_load_explicit(&w->bench->counts->key_limit, memory_order_relaxed);
    return limit - 1 - zipf_next(zipf, &w->rng);
}

static void insert_next(struct worker *w)
{
    worker_put(w, atomic_fetch_add(&w->bench->counts->key_limit, 1), false);
}

static void scan_some(struct worker *w, uint64_t n)
{
    const struct engine *engine = w->bench->engine;
    void *iter = engine->iter_open(w->session);
    worker_scan(w, iter, n, rng_below(&w->rng, SCAN_MAX));
    engine->iter_close(iter);
}

static void operate(struct worker *w, const struct mix *mix)
{
    double choice = rng_share(&w->rng);
    if ((choice -= mix->insert) < 0) {
        insert_next(w);
        return;
    }
    uint64_t n = choose_key(w, mix->latest);
    if ((choice -= mix->read) < 0) {
        worker_get(w, n);
    } else if ((choice -= mix->update) < 0) {
        worker_put(w, n, false);
    } else if ((choice -= mix->scan) < 0) {
        scan_some(w, n);
    } else {
        worker_get(w, n);
        worker_put(w, n, false);
    }
}

void ycsb_work(struct worker *w)
{
    const struct mix *mix = &mixes[w->workload->mix - 'a'];
    while (worker_goes_on(w)) {
        worker_begin(w);
        operate(w, mix);
        worker_end(w);
    }
}
