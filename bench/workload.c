/* The loops, and the table of all workloads. */
#include "bench/workload.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILLBATCH_COUNT 100

static uint64_t count_keys(const struct bench_options *o)
{
    return o->key_count;
}

static uint64_t count_reads(const struct bench_options *o)
{
    return o->read_count;
}

static uint64_t count_syncs(const struct bench_options *o)
{
    return o->sync_count;
}

static uint64_t number_at(const struct worker *w, uint64_t i)
{
    const struct key_maker *keys = &w->bench->keys;
    return w->workload->in_order ? i : key_permute(keys, i % keys->count);
}

static uint64_t random_number(struct worker *w)
{
    return rng_below(&w->rng, w->bench->keys.count);
}

static void fill_batches(struct worker *w, uint32_t batch_count)
{
    while (worker_goes_on(w)) {
        uint64_t at = w->first + w->done, left = w->limit - at;
        uint64_t count = left < batch_count ? left : batch_count;
        worker_begin(w);
        for (uint64_t i = 0; i < count; i++)
            worker_put(w, number_at(w, at + i), true);
        w->bench->engine->batch_write(w->session, w->sync);
        worker_end(w);
        w->done += count - 1;
    }
}

static void fill(struct worker *w)
{
    uint32_t batch_count = w->bench->options->batch_count;
    if (batch_count == 0)
        batch_count = w->workload->batch_count;
    if (batch_count > 1) {
        fill_batches(w, batch_count);
        return;
    }
    while (worker_goes_on(w)) {
        uint64_t n = number_at(w, w->first + w->done);
        worker_begin(w);
        worker_put(w, n, false);
        worker_end(w);
    }
}

static void overwrite(struct worker *w)
{
    while (worker_goes_on(w)) {
        worker_begin(w);
        worker_put(w, random_number(w), false);
        worker_end(w);
    }
}

static void delete_random(struct worker *w)
{
    while (worker_goes_on(w)) {
        lsm_slice key = key_make(&w->bench->keys, random_number(w), w->key);
        worker_begin(w);
        w->bench->engine->remove(w->session, key, w->sync);
        worker_end(w);
        w->written_bytes += key.size;
    }
}

static void read_random(struct worker *w)
{
    while (worker_goes_on(w)) {
        worker_begin(w);
        worker_get(w, random_number(w));
        worker_end(w);
    }
}

/* Every key once, so that what an engine keeps in memory is there. */
static void get_all(struct worker *w)
{
    while (worker_goes_on(w)) {
        uint64_t n = number_at(w, w->first + w->done);
        worker_begin(w);
        worker_get(w, n);
        worker_end(w);
    }
}

static void read_missing(struct worker *w)
{
    lsm_slice value;
    while (worker_goes_on(w)) {
        lsm_slice key = key_make_missing(&w->bench->keys, random_number(w), w->key);
        worker_begin(w);
        if (w->bench->engine->get(w->session, key, &value))
            die("a key that was never written has a value of %zu bytes", value.size);
        worker_end(w);
    }
}

static void multi_get(struct worker *w)
{
    const struct bench *b = w->bench;
    size_t most = b->options->multiget_count, key_size = b->keys.key_size;
    uint8_t *bytes = malloc(most * KEY_MAX_SIZE);
    uint64_t *numbers = malloc(most * sizeof *numbers);
    lsm_slice *keys = malloc(most * sizeof *keys), *values = malloc(most * sizeof *values);
    if (bytes == NULL || numbers == NULL || keys == NULL || values == NULL)
        die("out of memory");
    while (worker_goes_on(w)) {
        uint64_t left = w->limit - w->first - w->done;
        size_t count = left < most ? (size_t)left : most;
        worker_begin(w);
        for (size_t i = 0; i < count; i++) {
            numbers[i] = random_number(w);
            keys[i] = key_make(&b->keys, numbers[i], bytes + i * key_size);
        }
        b->engine->multi_get(w->session, count, keys, values);
        for (size_t i = 0; i < count; i++) {
            if (values[i].data != NULL)
                worker_see(w, keys[i], values[i]);
            else if (b->counts->complete)
                worker_misses(w, numbers[i]);
        }
        worker_end(w);
        w->done += count - 1;
    }
    free(bytes);
    free(numbers);
    free(keys);
    free(values);
}

/* Under --verify: that `key` lies beyond the one before it, in the direction of the scan. */
static void check_order(struct worker *w, lsm_slice key, bool forward)
{
    size_t size = w->bench->keys.key_size;
    int order = key.size == size ? memcmp(key.data, w->key, size) : 0;
    if (w->done > 0 && (forward ? order <= 0 : order >= 0))
        die("verify: entry %" PRIu64 " of the scan is out of order", w->done);
    memcpy(w->key, key.data, size);
}

static void read_all(struct worker *w, bool forward)
{
    const struct bench *b = w->bench;
    const struct engine *engine = b->engine;
    void *iter = engine->iter_open(w->session);
    struct engine_entry entry;
    bool here = forward ? engine->iter_first(iter, &entry) : engine->iter_last(iter, &entry);
    w->limit -= w->first; /* every thread begins at the end */
    w->first = 0;
    while (here && worker_goes_on(w)) {
        if (b->options->verify)
            check_order(w, entry.key, forward);
        worker_see(w, entry.key, entry.value);
        worker_begin(w);
        here = forward ? engine->iter_next(iter, &entry) : engine->iter_prev(iter, &entry);
        worker_end(w);
    }
    engine->iter_close(iter);
    bool whole = w->limit >= b->keys.count && b->options->duration_s == 0;
    if (b->counts->complete && whole && w->done < b->keys.count)
        die("the scan gave %" PRIu64 " entries of %" PRIu64, w->done, b->keys.count);
}

static void read_forward(struct worker *w)
{
    read_all(w, true);
}

static void read_reverse(struct worker *w)
{
    read_all(w, false);
}

static void seek_random(struct worker *w)
{
    const struct bench *b = w->bench;
    void *kept = b->options->keep_iterator ? b->engine->iter_open(w->session) : NULL;
    while (worker_goes_on(w)) {
        worker_begin(w);
        void *iter = kept != NULL ? kept : b->engine->iter_open(w->session);
        worker_scan(w, iter, random_number(w), b->options->seek_nexts);
        if (kept == NULL)
            b->engine->iter_close(iter);
        worker_end(w);
    }
    if (kept != NULL)
        b->engine->iter_close(kept);
}

static const struct workload workloads[] = {
    {.name = "fillseq",
     .help = "put every key, in order, into an empty database",
     .work = fill,
     .operation_count = count_keys,
     .empty_first = true,
     .in_order = true,
     .fills = true},
    {.name = "fillrandom",
     .help = "put every key once, in random order, into an empty database",
     .work = fill,
     .operation_count = count_keys,
     .empty_first = true,
     .fills = true},
    {.name = "fillbatch",
     .help = "fillrandom in batches",
     .work = fill,
     .operation_count = count_keys,
     .batch_count = FILLBATCH_COUNT,
     .empty_first = true,
     .fills = true},
    {.name = "fillsync",
     .help = "put random keys, each synced; see --syncs",
     .work = fill,
     .operation_count = count_syncs,
     .sync = true},
    {.name = "overwrite",
     .help = "put random keys again",
     .shapes = true,
     .work = overwrite,
     .operation_count = count_keys},
    {.name = "deleterandom",
     .help = "delete random keys",
     .shapes = true,
     .work = delete_random,
     .operation_count = count_keys,
     .deletes = true},
    {.name = "readrandom",
     .help = "get random keys",
     .work = read_random,
     .operation_count = count_reads},
    {.name = "warm",
     .help = "get every key once, in order: what follows does not read anything for the first time",
     .work = get_all,
     .operation_count = count_keys,
     .in_order = true,
     .shapes = true},
    {.name = "readmissing",
     .help = "get keys that are not there, all over the range",
     .work = read_missing,
     .operation_count = count_reads},
    {.name = "multiget",
     .help = "get random keys, --multiget-size at a time",
     .work = multi_get,
     .operation_count = count_reads},
    {.name = "asyncrandom",
     .help = "get random keys, --depth at once from each thread",
     .work = async_work,
     .operation_count = count_reads},
    {.name = "readseq",
     .help = "scan forward from the first key",
     .work = read_forward,
     .operation_count = count_reads},
    {.name = "readreverse",
     .help = "scan backward from the last key",
     .work = read_reverse,
     .operation_count = count_reads},
    {.name = "seekrandom",
     .help = "open an iterator, seek a random key, read --seek-nexts entries behind it",
     .work = seek_random,
     .operation_count = count_reads},
    {.name = "readwhilewriting",
     .help = "readrandom while one more thread overwrites",
     .work = read_random,
     .beside = overwrite,
     .operation_count = count_reads},
#define YCSB(letter, text)                                                                         \
    {                                                                                              \
        .name = "ycsb-" letter, .help = text, .work = ycsb_work, .operation_count = count_reads,   \
        .mix = (letter)[0], .zipf = true                                                           \
    }
    YCSB("a", "half reads, half updates, Zipf's law"),
    YCSB("b", "95 % reads, 5 % updates, Zipf's law"),
    YCSB("c", "reads, Zipf's law"),
    YCSB("d", "95 % reads of the latest keys, 5 % inserts"),
    YCSB("e", "95 % scans of 1 to 100 entries, 5 % inserts"),
    YCSB("f", "half reads, half reads followed by an update, Zipf's law"),
#undef YCSB
    {.name = "ts-append",
     .help = "time series: put keys behind the highest, in order",
     .work = series_append,
     .operation_count = series_append_count},
    {.name = "ts-scan",
     .help = "time series: scan the last hour, 3600 entries, to the end",
     .work = series_scan,
     .operation_count = series_scan_count},
    {.name = "ts-expire",
     .help = "time series: delete the oldest hundredth, then find the first entry",
     .work = series_expire,
     .operation_count = series_expire_count,
     .shapes = true,
     .deletes = true},
    {.name = "compact",
     .help = "merge everything into the lowest level",
     .shapes = true,
     .control = control_compact},
    {.name = "flush",
     .help = "write the memtables to tables",
     .shapes = true,
     .control = control_flush},
    {.name = "settle",
     .help = "wait until no background work is due",
     .shapes = true,
     .control = control_settle},
    {.name = "checkpoint",
     .help = "make a copy of the database beside it, which is then opened, compared and removed",
     .shapes = true,
     .copies = true,
     .control = control_checkpoint,
     .check = checkpoint_check},
    {.name = "reopen", .help = "close and open", .control = control_reopen},
    {.name = "recover",
     .help = "let another process overwrite --num keys and end without closing; then open",
     .control = control_recover},
    {.name = "evict",
     .help = "reopen, with the database's files out of the page cache",
     .shapes = true,
     .control = control_evict},
    {.name = "die", .help = "end this process without closing", .control = control_die},
};

#define WORKLOAD_COUNT (sizeof workloads / sizeof *workloads)

const struct workload *workload_find(const char *name, size_t size)
{
    for (size_t i = 0; i < WORKLOAD_COUNT; i++) {
        if (strlen(workloads[i].name) == size && memcmp(workloads[i].name, name, size) == 0)
            return &workloads[i];
    }
    return NULL;
}

void workload_print_list(void)
{
    for (size_t i = 0; i < WORKLOAD_COUNT; i++)
        printf("  %-18s%s\n", workloads[i].name, workloads[i].help);
}
