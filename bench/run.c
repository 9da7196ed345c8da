#include "bench/run.h"

#include "bench/allocations.h"
#include "bench/clock.h"
#include "bench/machine.h"

#include <stdlib.h>

static void *worker_main(void *argument)
{
    struct worker *w = argument;
    pthread_barrier_wait(w->start);
    uint64_t allocations = allocations_of_thread();
    if (w->beside)
        w->workload->beside(w);
    else
        w->workload->work(w);
    w->allocations = allocations_of_thread() - allocations;
    return NULL;
}

static void worker_start(struct worker *w, struct bench *b, const struct workload *workload,
                         uint32_t index)
{
    const struct bench_options *o = b->options;
    w->bench = b;
    w->workload = workload;
    w->rng = (struct rng){o->seed * 1000003 + index * 7919 + 17};
    w->sync = workload->sync || o->sync;
    w->sample_every = o->sample_every > 0 ? o->sample_every : w->sync ? 1 : 16;
    w->until_sample = 1;
    w->session = b->engine->session_open(b->db, o);
    w->value = malloc(o->value_size);
    if (w->value == NULL || pthread_create(&w->thread, NULL, worker_main, w) != 0)
        die("cannot start thread %u", index);
}

static void worker_finish(struct worker *w, struct result *result)
{
    pthread_join(w->thread, NULL);
    w->bench->engine->session_close(w->session);
    free(w->value);
    result->threads++;
    result->operations += w->done;
    result->read_bytes += w->read_bytes;
    result->written_bytes += w->written_bytes;
    result->found += w->found;
    result->allocations += w->allocations;
    histogram_merge(&result->latencies, &w->latencies);
}

struct timer {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool over;
    uint64_t seconds;
    _Atomic bool *stop;
};

static void *timer_main(void *argument)
{
    struct timer *t = argument;
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += (time_t)t->seconds;
    pthread_mutex_lock(&t->lock);
    while (!t->over && pthread_cond_timedwait(&t->ended, &t->lock, &at) == 0)
        ;
    pthread_mutex_unlock(&t->lock);
    atomic_store(t->stop, true);
    return NULL;
}

static void timer_end(struct timer *t, pthread_t thread)
{
    pthread_mutex_lock(&t->lock);
    t->over = true;
    pthread_cond_signal(&t->ended);
    pthread_mutex_unlock(&t->lock);
    pthread_join(thread, NULL);
}

static void run_threads(struct bench *b, const struct workload *workload, struct result *result,
                        struct result *beside)
{
    const struct bench_options *o = b->options;
    uint32_t count = o->threads, all = count + (workload->beside != NULL);
    uint64_t operations = workload->operation_count(o);
    struct worker *workers = calloc(all, sizeof *workers);
    _Atomic bool stop = false, stop_beside = false;
    pthread_barrier_t start;
    struct timer timer = {.seconds = o->duration_s, .stop = &stop};
    pthread_t timer_thread;
    if (workers == NULL)
        die("out of memory");
    pthread_barrier_init(&start, NULL, all + 1);
    for (uint32_t i = 0; i < all; i++) {
        workers[i].first = operations * i / count;
        workers[i].limit = i < count ? operations * (i + 1) / count : UINT64_MAX;
        workers[i].beside = i >= count;
        workers[i].stop = i < count ? &stop : &stop_beside;
        workers[i].start = &start;
        worker_start(&workers[i], b, workload, i);
    }
    if (o->duration_s > 0) {
        pthread_mutex_init(&timer.lock, NULL);
        pthread_cond_init(&timer.ended, NULL);
        if (pthread_create(&timer_thread, NULL, timer_main, &timer) != 0)
            die("cannot start a thread");
    }
    uint64_t began = clock_ns();
    pthread_barrier_wait(&start);
    for (uint32_t i = 0; i < count; i++)
        worker_finish(&workers[i], result);
    result->seconds = (double)(clock_ns() - began) / 1e9;
    if (all > count) {
        atomic_store(&stop_beside, true);
        worker_finish(&workers[count], beside);
        beside->seconds = (double)(clock_ns() - began) / 1e9;
    }
    if (o->duration_s > 0)
        timer_end(&timer, timer_thread);
    pthread_barrier_destroy(&start);
    free(workers);
}

static void make_empty(struct bench *b)
{
    bench_close(b);
    b->engine->destroy(b->directory);
    bench_open(b);
    atomic_store(&b->key_limit, b->keys.count);
    b->complete = false;
}

static void prepare(struct bench *b, const struct workload *workload)
{
    if (workload->empty_first && !b->options->keep_data)
        make_empty(b);
    if (workload->zipf && b->zipf.count == 0)
        zipf_init(&b->zipf, b->keys.count);
}

static void measure_ends(struct bench *b, struct result *result, const struct machine_use *before)
{
    struct machine_use after = machine_use_now();
    result->processor_s = after.user_s + after.system_s - before->user_s - before->system_s;
    result->storage_bytes = after.written_bytes - before->written_bytes;
    result->peak_memory = machine_peak_memory();
    result->disk_bytes = machine_disk_bytes(b->directory);
    if (b->user_bytes == 0)
        return;
    uint64_t stored = after.written_bytes - b->storage_bytes;
    result->amplification = (double)stored / (double)b->user_bytes;
    result->engine_amplification = (double)b->engine->bytes_written(b->db) / (double)b->user_bytes;
}

void run_workload(struct bench *b, const struct workload *workload, struct result *result,
                  struct result *beside)
{
    *result = (struct result){.name = workload->name};
    *beside = (struct result){.name = workload->name};
    prepare(b, workload);
    machine_peak_memory_reset();
    struct machine_use before = machine_use_now();
    if (workload->control != NULL) {
        result->operations = 1;
        result->threads = 1;
        workload->control(b, result->phases);
        for (int i = 0; i < RESULT_PHASES; i++)
            result->seconds += result->phases[i].seconds;
    } else {
        run_threads(b, workload, result, beside);
    }
    if (workload->fills && result->operations == b->keys.count)
        b->complete = true;
    if (workload->deletes)
        b->complete = false;
    b->user_bytes += result->written_bytes + beside->written_bytes;
    measure_ends(b, result, &before);
}
