#include "bench/witness.h"

#include "bench/clock.h"
#include "bench/options.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLEEP_NS   UINT64_C(1000000)
#define LEAST_NS   UINT64_C(1000000) /* what is shorter is not noted */
#define MOST_COUNT (1U << 17)        /* pauses of a processor; half an hour of nothing else */
#define READ_EVERY 16                /* sleeps; reading costs more than sleeping */
#define SECOND_NS  UINT64_C(1000000000)
#define TEXT_SIZE  128

/* Written by one thread, read by others: what lies below `count` stays as it is. */
struct processor_log {
    _Atomic uint64_t seen_ns; /* what began before has been noted */
    _Atomic uint64_t count;
    _Atomic uint64_t late_sum_ns;
    _Atomic uint64_t late_longest_ns;
    _Atomic bool full;
    struct span pauses[MOST_COUNT];
};

/* In a memory file without a name that other processes may map; only what is written takes memory.
 */
struct witness_log {
    size_t processor_count;
    struct processor_log processors[];
};

struct watcher {
    struct witness *witness;
    struct processor_log *log;
    size_t processor;
    int queue_file; /* tells for how long this thread was queued */
    const char *refusal;
    pthread_t thread;
};

struct witness {
    struct witness_log *log;
    int file;
    uint64_t tick_ns;
    struct watcher *watchers; /* owned; NULL in a process that only reads */
    _Atomic bool stop;
};

static size_t log_size(size_t processors)
{
    return sizeof(struct witness_log) + processors * sizeof(struct processor_log);
}

/* The kernel's count of nanoseconds that the calling thread could have run and did not. */
static bool read_queued(int file, uint64_t *ns)
{
    char text[TEXT_SIZE];
    unsigned long long ran, queued;
    ssize_t size = pread(file, text, sizeof text - 1, 0);
    if (size <= 0)
        return false;
    text[size] = '\0';
    if (sscanf(text, "%llu %llu", &ran, &queued) != 2)
        return false;
    *ns = queued;
    return true;
}

static const char *settle_on_processor(struct watcher *t)
{
    struct sched_param highest = {.sched_priority = sched_get_priority_max(SCHED_FIFO)};
    cpu_set_t alone;
    uint64_t queued;
    CPU_ZERO(&alone);
    CPU_SET(t->processor, &alone);
    if (pthread_setaffinity_np(pthread_self(), sizeof alone, &alone) != 0)
        return "a thread cannot be bound to a processor";
    if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &highest) != 0)
        return "real-time priority is refused; it needs root, CAP_SYS_NICE or ulimit -r";
    t->queue_file = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (t->queue_file < 0 || !read_queued(t->queue_file, &queued))
        return "/proc/thread-self/schedstat is not there, so the kernel's delays are not known";
    return NULL;
}

static void note(struct watcher *t, uint64_t due, uint64_t woke, uint64_t queued)
{
    struct processor_log *log = t->log;
    struct span pause = span_withheld(due, woke, queued, t->witness->tick_ns);
    uint64_t count = atomic_load_explicit(&log->count, memory_order_relaxed);
    atomic_fetch_add(&log->late_sum_ns, woke - due);
    if (woke - due > atomic_load(&log->late_longest_ns))
        atomic_store(&log->late_longest_ns, woke - due);
    if (span_size(pause) <= LEAST_NS)
        return;
    if (count == MOST_COUNT) {
        atomic_store(&log->full, true);
        return;
    }
    log->pauses[count] = pause;
    /* Pairs with noted(): who sees the count sees the pause. */
    atomic_store_explicit(&log->count, count + 1, memory_order_release);
}

/*
 * What the thread does besides sleeping, page faults included, lies behind one `woke` and before
 * the next `due`: it is never taken for a pause. Having been queued since a few sleeps before
 * counts as being queued now, which makes a pause shorter by a fraction of a millisecond.
 */
static void watch(struct watcher *t)
{
    uint64_t before = 0, after;
    for (uint64_t sleeps = 0; !atomic_load(&t->witness->stop); sleeps++) {
        if (sleeps % READ_EVERY == 0 && !read_queued(t->queue_file, &before))
            die("cannot read /proc/thread-self/schedstat: %s", strerror(errno));
        uint64_t due = clock_ns() + SLEEP_NS;
        struct timespec at = {(time_t)(due / SECOND_NS), (long)(due % SECOND_NS)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        uint64_t woke = clock_ns();
        if (woke > due + LEAST_NS && read_queued(t->queue_file, &after)) {
            note(t, due, woke, after - before);
            before = after;
        }
        atomic_store(&t->log->seen_ns, woke);
    }
}

static void *watcher_main(void *argument)
{
    struct watcher *t = argument;
    t->refusal = settle_on_processor(t);
    if (t->refusal == NULL)
        watch(t);
    atomic_store(&t->log->seen_ns, UINT64_MAX);
    if (t->queue_file >= 0)
        close(t->queue_file);
    return NULL;
}

void witness_begin(struct witness *w)
{
    atomic_store(&w->stop, false);
    for (size_t i = 0; i < w->log->processor_count; i++) {
        struct watcher *t = &w->watchers[i];
        struct processor_log *log = t->log;
        atomic_store(&log->count, 0);
        atomic_store(&log->seen_ns, 0);
        atomic_store(&log->late_sum_ns, 0);
        atomic_store(&log->late_longest_ns, 0);
        atomic_store(&log->full, false);
        t->queue_file = -1;
        if (pthread_create(&t->thread, NULL, watcher_main, t) != 0)
            die("cannot start a thread");
    }
    witness_settle(w, 1);
}

void witness_end(struct witness *w)
{
    atomic_store(&w->stop, true);
    for (size_t i = 0; i < w->log->processor_count; i++)
        pthread_join(w->watchers[i].thread, NULL);
}

void witness_settle(const struct witness *w, uint64_t ns)
{
    for (size_t i = 0; i < w->log->processor_count; i++) {
        while (atomic_load(&w->log->processors[i].seen_ns) < ns)
            nanosleep(&(struct timespec){.tv_nsec = SLEEP_NS}, NULL);
    }
}

static struct witness *map_log(int file, size_t processors)
{
    struct witness *w = calloc(1, sizeof *w);
    struct timespec tick = {0};
    if (w == NULL)
        die("out of memory");
    w->log = mmap(NULL, log_size(processors), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (w->log == MAP_FAILED)
        die("cannot map the memory of the witness: %s", strerror(errno));
    clock_getres(CLOCK_MONOTONIC_COARSE, &tick); /* moves with the ticks */
    w->tick_ns = (uint64_t)tick.tv_sec * SECOND_NS + (uint64_t)tick.tv_nsec;
    w->file = file;
    return w;
}

static void place_watchers(struct witness *w, const cpu_set_t *usable)
{
    size_t count = 0;
    w->watchers = calloc(w->log->processor_count, sizeof *w->watchers);
    if (w->watchers == NULL)
        die("out of memory");
    for (size_t processor = 0; processor < CPU_SETSIZE; processor++) {
        if (!CPU_ISSET(processor, usable))
            continue;
        w->watchers[count] = (struct watcher){
            .witness = w, .processor = processor, .log = &w->log->processors[count]};
        count++;
    }
}

struct witness *witness_new(const char **refusal)
{
    cpu_set_t usable;
    if (sched_getaffinity(0, sizeof usable, &usable) != 0) {
        *refusal = "the processors that this process may use are not known";
        return NULL;
    }
    size_t processors = (size_t)CPU_COUNT(&usable);
    int file = memfd_create("lsm-bench-witness", 0);
    if (file < 0 || ftruncate(file, (off_t)log_size(processors)) != 0)
        die("no memory for the witness: %s", strerror(errno));
    struct witness *w = map_log(file, processors);
    w->log->processor_count = processors;
    place_watchers(w, &usable);
    witness_begin(w); /* to see whether it may */
    witness_end(w);
    *refusal = NULL;
    for (size_t i = 0; i < processors && *refusal == NULL; i++)
        *refusal = w->watchers[i].refusal;
    if (*refusal == NULL)
        return w;
    witness_free(w);
    return NULL;
}

struct witness *witness_attach(int file)
{
    struct witness *w = map_log(file, 0);
    size_t processors = w->log->processor_count;
    munmap(w->log, log_size(0));
    free(w);
    return map_log(file, processors);
}

void witness_free(struct witness *w)
{
    if (w == NULL)
        return;
    munmap(w->log, log_size(w->log->processor_count));
    close(w->file);
    free(w->watchers);
    free(w);
}

int witness_file(const struct witness *w)
{
    return w->file;
}

size_t witness_processors(const struct witness *w)
{
    return w->log->processor_count;
}

uint64_t witness_tick_ns(const struct witness *w)
{
    return w->tick_ns;
}

static size_t noted(const struct processor_log *log)
{
    return (size_t)atomic_load_explicit(&log->count, memory_order_acquire);
}

static struct span *cover(const struct span *spans, size_t count, size_t depth, size_t *found)
{
    struct span *covered = malloc((count + 1) * sizeof *covered);
    *found = covered != NULL ? spans_cover(spans, count, depth, covered) : SIZE_MAX;
    if (*found == SIZE_MAX)
        die("out of memory");
    return covered;
}

void witness_pauses(const struct witness *w, struct pauses *pauses)
{
    size_t processors = w->log->processor_count, count = 0;
    struct span *spans = malloc(sizeof *spans);
    for (size_t i = 0; i < processors && spans != NULL; i++) {
        const struct processor_log *log = &w->log->processors[i];
        size_t more = noted(log);
        struct span *larger = realloc(spans, (count + more + 1) * sizeof *spans);
        if (larger == NULL)
            free(spans);
        else
            memcpy(larger + count, log->pauses, more * sizeof *spans);
        spans = larger;
        count += more;
    }
    if (spans == NULL)
        die("out of memory");
    pauses->any = cover(spans, count, 1, &pauses->any_count);
    pauses->all = cover(spans, count, processors, &pauses->all_count);
    free(spans);
}

void pauses_release(struct pauses *pauses)
{
    free(pauses->any);
    free(pauses->all);
    *pauses = (struct pauses){0};
}

static void add_up(const struct span *spans, size_t count, struct span within, uint64_t *sum_ns,
                   uint64_t *longest_ns)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t ns = spans_overlap(&spans[i], 1, within);
        *sum_ns += ns;
        if (ns > *longest_ns)
            *longest_ns = ns;
    }
}

struct witness_sums witness_sums(const struct witness *w, struct span within)
{
    struct witness_sums sums = {0};
    struct pauses pauses;
    witness_pauses(w, &pauses);
    add_up(pauses.any, pauses.any_count, within, &sums.any_sum_ns, &sums.any_longest_ns);
    add_up(pauses.all, pauses.all_count, within, &sums.all_sum_ns, &sums.all_longest_ns);
    pauses_release(&pauses);
    for (size_t i = 0; i < w->log->processor_count; i++) {
        struct processor_log *log = &w->log->processors[i];
        uint64_t longest = atomic_load(&log->late_longest_ns);
        for (size_t p = 0; p < noted(log); p++)
            sums.count += spans_overlap(&log->pauses[p], 1, within) > 0;
        sums.late_sum_ns += atomic_load(&log->late_sum_ns);
        if (longest > sums.late_longest_ns)
            sums.late_longest_ns = longest;
        sums.full = sums.full || atomic_load(&log->full);
    }
    return sums;
}
