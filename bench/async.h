/*
 * Many gets under way at once from one thread, for engines that can.
 */
#ifndef BENCH_ASYNC_H
#define BENCH_ASYNC_H

#include "bench/options.h"
#include "engine/lsm.h"

#define ASYNC_MAX_DEPTH 65536

/* The answer to a get. */
struct async_answer {
    uint32_t place;  /* that it was begun with */
    bool found;      /* */
    lsm_slice value; /* valid until something is begun in that place again */
};

struct engine_async {
    void *(*open)(void *db, uint32_t depth);
    void (*close)(void *queue);
    /* Begins a get in `place`, below the depth, where none is under way. */
    void (*get)(void *queue, uint32_t place, lsm_slice key);
    /* Waits for one answer at least; returns how many there are. */
    size_t (*wait)(void *queue, struct async_answer *answers, size_t capacity);
};

struct worker;
void async_work(struct worker *w);

extern const struct engine_async engine_lsm_async;

#endif
