#include "bench/run.h"

#include "bench/allocations.h"
#include "bench/clock.h"
#include "bench/machine.h"
#include "bench/processes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the threads of one process begin and stop by. */
struct start {
    pthread_barrier_t barrier;
    uint32_t count; /* of threads */
    _Atomic bool stop;
    _Atomic bool stop_beside;
};

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

void result_add(struct result *all, const struct result *one)
{
    all->threads += one->threads;
    all->operations += one->operations;
    all->read_bytes += one->read_bytes;
    all->written_bytes += one->written_bytes;
    all->found += one->found;
    all->allocations += one->allocations;
    all->processor_s += one->processor_s;
    all->storage_bytes += one->storage_bytes;
    all->storage_read_bytes += one->storage_read_bytes;
    if (one->ended_ns > all->ended_ns)
        all->ended_ns = one->ended_ns;
    histogram_merge(&all->latencies, &one->latencies);
    waits_left_add(&all->waits_left, &one->waits_left);
}

/* What the machine has left of the long waits, when all threads are done. */
static void reckon_waits(const struct bench *b, struct worker *workers, uint32_t count,
                         struct result *result, struct result *beside)
{
    struct pauses pauses;
    if (b->witness == NULL)
        return;
    witness_settle(b->witness, clock_ns());
    witness_pauses(b->witness, &pauses);
    for (uint32_t i = 0; i < count; i++) {
        struct worker *w = &workers[i];
        waits_reckon(&w->waits, &pauses, w->beside ? &beside->waits_left : &result->waits_left);
        waits_release(&w->waits);
    }
    pauses_release(&pauses);
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

static void timer_begin(struct timer *t, pthread_t *thread)
{
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->ended, NULL);
    if (pthread_create(thread, NULL, timer_main, t) != 0)
        die("cannot start a thread");
}

static void timer_end(struct timer *t, pthread_t thread)
{
    pthread_mutex_lock(&t->lock);
    t->over = true;
    pthread_cond_signal(&t->ended);
    pthread_mutex_unlock(&t->lock);
    pthread_join(thread, NULL);
}

static void begin_at_once(struct bench *b)
{
    (void)b;
}

/* This process's threads, and in the first process the one beside. Returns how many. */
static uint32_t start_workers(struct worker *workers, struct bench *b,
                              const struct workload *workload, struct start *start)
{
    const struct bench_options *o = b->options;
    uint32_t count = o->threads, tasks = count * o->processes, first = b->process_index * count;
    uint64_t operations = workload->operation_count(o);
    for (uint32_t i = 0; i < start->count; i++) {
        struct worker *w = &workers[i];
        uint32_t task = first + i;
        w->beside = i >= count;
        w->first = operations * task / tasks;
        w->limit = w->beside ? UINT64_MAX : operations * (task + 1) / tasks;
        w->task_count = tasks;
        w->stop = w->beside ? &start->stop_beside : &start->stop;
        w->start = &start->barrier;
        worker_start(w, b, workload, w->beside ? tasks : task);
    }
    return count;
}

void run_threads(struct bench *b, const struct workload *workload, struct result *result,
                 struct result *beside, void (*begin)(struct bench *b))
{
    const struct bench_options *o = b->options;
    bool has_beside = workload->beside != NULL && b->process_index == 0;
    struct start start = {.count = o->threads + has_beside};
    struct worker *workers = calloc(start.count, sizeof *workers);
    bool timed = o->duration_s > 0 && !(o->whole_fills && workload->empty_first);
    struct timer timer = {.seconds = o->duration_s, .stop = &start.stop};
    pthread_t timer_thread;
    if (workers == NULL)
        die("out of memory");
    pthread_barrier_init(&start.barrier, NULL, start.count + 1);
    uint32_t count = start_workers(workers, b, workload, &start);
    begin(b);
    if (timed)
        timer_begin(&timer, &timer_thread);
    uint64_t began = clock_ns();
    pthread_barrier_wait(&start.barrier);
    for (uint32_t i = 0; i < count; i++)
        worker_finish(&workers[i], result);
    result->ended_ns = clock_ns();
    result->seconds = (double)(result->ended_ns - began) / 1e9;
    if (has_beside) {
        atomic_store(&start.stop_beside, true);
        worker_finish(&workers[count], beside);
        beside->ended_ns = clock_ns();
        beside->seconds = (double)(beside->ended_ns - began) / 1e9;
    }
    if (timed)
        timer_end(&timer, timer_thread);
    reckon_waits(b, workers, start.count, result, beside);
    pthread_barrier_destroy(&start.barrier);
    free(workers);
}

static void make_empty(struct bench *b)
{
    bench_close(b);
    b->engine->destroy(b->directory);
    bench_open(b);
    atomic_store(&b->counts->key_limit, b->keys.count);
    atomic_store(&b->counts->key_first, 0);
    b->counts->complete = false;
    b->state[0] = '\0';
}

static void prepare(struct bench *b, const struct workload *workload)
{
    if (workload->empty_first && !b->options->keep_data)
        make_empty(b);
    if (workload->zipf && b->zipf.count == 0)
        zipf_init(&b->zipf, b->keys.count);
}

/* Less than nothing where more of what earlier workloads wrote was thrown away. */
static uint64_t grown(uint64_t before, uint64_t after)
{
    return after > before ? after - before : 0;
}

void measure_use(struct result *result, const struct machine_use *before)
{
    struct machine_use after = machine_use_now();
    result->processor_s += after.user_s + after.system_s - before->user_s - before->system_s;
    result->storage_bytes += grown(before->written_bytes, after.written_bytes);
    result->storage_read_bytes += after.read_bytes - before->read_bytes;
}

/* Other processes' writes are in storage_bytes, but not in what this one has written in all. */
static void measure_database(struct bench *b, struct result *result, uint64_t by_others)
{
    b->storage_bytes -= by_others;
    if (result->peak_memory == 0) {
        uint64_t held = machine_peak_held(b->directory);
        result->peak_memory = machine_peak_memory();
        result->held_memory = held > b->own_memory ? held - b->own_memory : 0;
    }
    result->disk_bytes = machine_disk_bytes(b->directory);
    if (b->user_bytes == 0)
        return;
    uint64_t stored = grown(b->storage_bytes, machine_use_now().written_bytes);
    result->amplification = (double)stored / (double)b->user_bytes;
    result->engine_amplification = (double)b->engine->bytes_written(b->db) / (double)b->user_bytes;
}

/* What a reader has to know of the database's past: the last fill, and what was done since. */
static void note_state(struct bench *b, const struct workload *workload)
{
    size_t used = strlen(b->state), size = strlen(workload->name);
    if (workload->empty_first)
        snprintf(b->state, sizeof b->state, "%s", workload->name);
    else if (workload->shapes && (used < size || strcmp(b->state + used - size, workload->name)))
        snprintf(b->state + used, sizeof b->state - used, "%s%s", used > 0 ? "+" : "",
                 workload->name);
}

static void run_control(struct bench *b, const struct workload *workload, struct result *result)
{
    const struct bench_options *o = b->options;
    result->operations = 1;
    result->threads = o->threads * o->processes; /* by which the database is what it is */
    result->processes = o->processes;
    workload->control(b, result->phases);
    for (int i = 0; i < RESULT_PHASES; i++)
        result->seconds += result->phases[i].seconds;
    result->ended_ns = clock_ns();
}

static bool runs_in_many(const struct bench *b, const struct workload *workload)
{
    return b->options->processes > 1 && workload->control == NULL;
}

static void run_where_it_goes(struct bench *b, const struct workload *workload,
                              struct result *result, struct result *beside)
{
    if (workload->control != NULL)
        run_control(b, workload, result);
    else if (runs_in_many(b, workload))
        processes_run(b, workload, result, beside);
    else
        run_threads(b, workload, result, beside, begin_at_once);
}

/* The pauses are those within the time of the workload and of the thread beside it. */
static void witness_stop(struct witness *witness, struct result *result,
                         const struct result *beside)
{
    witness_end(witness);
    uint64_t first = result->ended_ns - (uint64_t)(result->seconds * 1e9);
    uint64_t limit = beside->ended_ns > result->ended_ns ? beside->ended_ns : result->ended_ns;
    result->pauses = witness_sums(witness, (struct span){first, limit});
}

void run_workload(struct bench *b, const struct workload *workload, struct result *result,
                  struct result *beside)
{
    const struct bench_options *o = b->options;
    *result = (struct result){.name = workload->name,
                              .processes = runs_in_many(b, workload) ? o->processes : 1};
    *beside = (struct result){.name = workload->name, .processes = 1};
    prepare(b, workload);
    machine_peak_memory_reset();
    struct machine_use before = machine_use_now();
    if (b->witness != NULL)
        witness_begin(b->witness);
    run_where_it_goes(b, workload, result, beside);
    if (b->witness != NULL)
        witness_stop(b->witness, result, beside);
    uint64_t by_others = result->storage_bytes;
    measure_use(result, &before);
    if (workload->fills && result->operations == b->keys.count)
        b->counts->complete = true;
    if (workload->deletes)
        b->counts->complete = false;
    b->user_bytes += result->written_bytes + beside->written_bytes;
    measure_database(b, result, by_others);
    snprintf(result->state, sizeof result->state, "%s", b->state);
    snprintf(beside->state, sizeof beside->state, "%s", b->state);
    note_state(b, workload);
    if (workload->check != NULL)
        workload->check(b);
}
