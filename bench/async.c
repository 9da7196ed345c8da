/* asyncrandom: gets of random keys, so many at once from each thread. */
#include "bench/async.h"

#include "bench/clock.h"
#include "bench/workload.h"

#include <inttypes.h>
#include <stdlib.h>

#define ANSWERS 64 /* taken at a time */

/* A get under way. */
struct place {
    uint8_t key[KEY_MAX_SIZE];
    uint64_t began_ticks; /* 0: not timed */
};

struct places {
    const struct engine_async *engine;
    void *queue;
    struct place *all;
    uint32_t depth;
    uint64_t begun;
};

static void begin(struct worker *w, struct places *p, uint32_t at)
{
    struct place *place = &p->all[at];
    lsm_slice key = key_make(&w->bench->keys, rng_below(&w->rng, w->bench->keys.count), place->key);
    bool timed = --w->until_sample == 0;
    place->began_ticks = timed ? clock_ticks() : 0;
    if (timed)
        w->until_sample = w->sample_every;
    p->engine->get(p->queue, at, key);
    p->begun++;
}

static void take(struct worker *w, struct places *p, const struct async_answer *answer)
{
    const struct place *place = &p->all[answer->place];
    if (place->began_ticks != 0)
        worker_timed(w, place->began_ticks);
    if (answer->found)
        worker_see(w, LSM_SLICE(place->key, w->bench->keys.key_size), answer->value);
    w->done++;
}

void async_work(struct worker *w)
{
    struct places p = {.engine = w->bench->engine->async, .depth = w->bench->options->depth};
    if (p.engine == NULL)
        die("engine %s has no asynchronous calls", w->bench->engine->name);
    p.all = calloc(p.depth, sizeof *p.all);
    if (p.all == NULL)
        die("out of memory");
    p.queue = p.engine->open(w->bench->db, p.depth);
    struct async_answer answers[ANSWERS];
    while (p.begun < p.depth && w->first + p.begun < w->limit)
        begin(w, &p, (uint32_t)p.begun);
    while (w->done < p.begun) {
        size_t count = p.engine->wait(p.queue, answers, ANSWERS);
        for (size_t i = 0; i < count; i++) {
            take(w, &p, &answers[i]);
            if (w->first + p.begun < w->limit &&
                !atomic_load_explicit(w->stop, memory_order_relaxed))
                begin(w, &p, answers[i].place);
        }
    }
    p.engine->close(p.queue);
    free(p.all);
}
