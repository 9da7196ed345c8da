/*
 * Measures tables alone: building, point reads and scans, with everything cached and with nothing.
 *
 *     table_bench [entries [value-bytes [directory]]]
 *
 * Keys are 16 bytes: a prefix and decimals; values are half text, half random, as db_bench makes
 * them. Times are the best of three rounds, because a shared machine only ever adds to them.
 * Hashing the key is part of a get. Files go to `directory` (default "."), past the page cache.
 */
#include "engine/base/hash.h"
#include "engine/base/random.h"
#include "engine/format/block.h"
#include "engine/sst/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define KEY_SIZE   ((size_t)16)
#define ROUNDS     3
#define POOL_SIZE  ((size_t)1 << 20)
#define DISK_READS 2000
#define GROUP      8 /* gets whose filters are prefetched together */

struct bench {
    struct table_env env;
    size_t count;
    size_t value_size;
    uint8_t *pool; /* values are pieces of it */
    uint32_t *order;
    struct table *table;
    lsm_error error;
};

static double clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static void must(const struct bench *b, lsm_status status)
{
    if (status == LSM_OK)
        return;
    fprintf(stderr, "table_bench: %s\n", b->error.message);
    exit(EXIT_FAILURE);
}

static void *must_have(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "table_bench: out of memory\n");
        exit(EXIT_FAILURE);
    }
    return memory;
}

/* Even numbers are there, odd ones are not. */
static lsm_slice make_key(char *key, size_t number)
{
    char digits[KEY_SIZE];
    memcpy(digits, "user", 4);
    for (size_t i = KEY_SIZE; i > 4; number /= 10)
        digits[--i] = (char)('0' + number % 10);
    memcpy(key, digits, KEY_SIZE);
    return (lsm_slice){key, KEY_SIZE};
}

static lsm_slice make_value(const struct bench *b, size_t number)
{
    size_t at = number * 7919 * b->value_size % (POOL_SIZE - b->value_size);
    return (lsm_slice){b->pool + at, b->value_size};
}

static void fill_pool(struct bench *b)
{
    struct random_state r = random_seeded(1);
    b->pool = must_have(malloc(POOL_SIZE));
    for (size_t i = 0; i < POOL_SIZE; i++)
        b->pool[i] = i / 50 % 2 == 0 ? (uint8_t)random_next(&r) : (uint8_t)('a' + i / 50 % 20);
}

static void fill_order(struct bench *b)
{
    struct random_state r = random_seeded(2);
    b->order = must_have(malloc(b->count * sizeof *b->order));
    for (size_t i = 0; i < b->count; i++)
        b->order[i] = (uint32_t)i;
    for (size_t i = b->count - 1; i > 0; i--) {
        size_t j = random_below(&r, i + 1);
        uint32_t swap = b->order[i];
        b->order[i] = b->order[j];
        b->order[j] = swap;
    }
}

/* ---- building -------------------------------------------------------------------------------- */

/* Wall and processor time an entry. */
static double build(struct bench *b, uint64_t number, bool compress, struct table_meta *meta,
                    double *cpu)
{
    struct table_write_options options = {
        .number = number,
        .cf_name = "default",
        .block_size = 8192,
        .filter_bits = 12,
        .compress = compress,
    };
    (void)io_dir_unlink(b->env.dir, number == 1 ? "000001.sst" : "000002.sst", NULL, NULL);
    double start = now_ns(), cpu_start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    struct table_writer *w;
    must(b, table_writer_new(&b->env, &options, &w, &b->error));
    for (size_t i = 0; i < b->count; i++) {
        char key[KEY_SIZE];
        must(b, table_writer_add(w, make_key(key, i * 2), entry_trailer(i + 1, ENTRY_PUT),
                                 make_value(b, i), &b->error));
    }
    must(b, table_writer_finish(w, meta, &b->error));
    *cpu = (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_start) / (double)b->count;
    return (now_ns() - start) / (double)b->count;
}

/* Blocks alone, in memory. */
static double build_blocks(const struct bench *b)
{
    struct block_builder builder;
    block_builder_init(&builder, 0);
    double start = now_ns();
    for (size_t i = 0; i < b->count; i++) {
        char bytes[KEY_SIZE];
        lsm_slice key = make_key(bytes, i * 2), value = make_value(b, i);
        if (builder.count > 0 && block_builder_size_with(&builder, key, value.size) > 8144) {
            uint8_t *data;
            size_t size;
            if (block_builder_finish(&builder, &data, &size) != LSM_OK)
                exit(EXIT_FAILURE);
            block_builder_clear(&builder);
        }
        block_builder_add(&builder, key, hash_key(bytes, KEY_SIZE), entry_trailer(i, ENTRY_PUT),
                          value);
    }
    double ns = (now_ns() - start) / (double)b->count;
    block_builder_release(&builder);
    return ns;
}

/* What making keys and values costs, to be taken off. */
static double build_nothing(const struct bench *b)
{
    volatile size_t sum = 0; /* keeps the work from being left out */
    double start = now_ns();
    for (size_t i = 0; i < b->count; i++) {
        char key[KEY_SIZE];
        sum += (size_t)make_key(key, i * 2).size + make_value(b, i).size;
    }
    return sum == 0 ? 0 : (now_ns() - start) / (double)b->count;
}

/* ---- reading --------------------------------------------------------------------------------- */

static double get_all(struct bench *b, size_t odd, size_t count)
{
    char(*keys)[KEY_SIZE] = must_have(malloc(count * KEY_SIZE));
    for (size_t i = 0; i < count; i++)
        make_key(keys[i], (size_t)b->order[i] * 2 + odd);
    size_t found_count = 0;
    double start = now_ns();
    for (size_t i = 0; i < count; i++) {
        lsm_slice key = {keys[i], KEY_SIZE};
        bool is_found;
        struct table_found found;
        epoch_enter();
        must(b, table_get(b->table, key, hash_key(key.data, key.size), ENTRY_MAX_SEQUENCE, 0,
                          &is_found, &found, &b->error));
        if (is_found && found.value.size == b->value_size)
            found_count++;
        if (is_found && found.owned)
            block_drop(found.block);
        epoch_exit();
    }
    double ns = (now_ns() - start) / (double)count;
    if (found_count != (odd ? 0 : count))
        exit(EXIT_FAILURE);
    free(keys);
    return ns;
}

/* The same through probes, GROUP filters prefetched together. */
static double probe_all(struct bench *b)
{
    struct table_probe probes[GROUP];
    char keys[GROUP][KEY_SIZE];
    size_t found_count = 0, count = b->count / GROUP * GROUP;
    double start = now_ns();
    for (size_t i = 0; i < count; i += GROUP) {
        epoch_enter();
        for (size_t j = 0; j < GROUP; j++) {
            probes[j] = (struct table_probe){.table = b->table, .max_sequence = ENTRY_MAX_SEQUENCE};
            probes[j].key = make_key(keys[j], (size_t)b->order[i + j] * 2);
            probes[j].hash = hash_key(keys[j], KEY_SIZE);
            table_prefetch_filter(b->table, probes[j].hash);
        }
        for (size_t j = 0; j < GROUP; j++) {
            enum table_probe_state state;
            must(b, table_probe_begin(&probes[j], &state, &b->error));
            found_count += state == TABLE_PROBE_FOUND;
        }
        epoch_exit();
    }
    if (found_count != count)
        exit(EXIT_FAILURE);
    return (now_ns() - start) / (double)count;
}

static double scan(struct bench *b, struct table_iter_options options, bool backwards)
{
    struct iter *it;
    size_t count = 0;
    double start = now_ns();
    must(b, table_iter_new(b->table, &options, &it, &b->error));
    if (backwards) {
        for (it->ops->last(it); it->valid; iter_prev(it))
            count += it->entry->value.size == b->value_size;
    } else {
        for (it->ops->first(it); it->valid; iter_next(it))
            count += it->entry->value.size == b->value_size;
    }
    if (count != b->count)
        exit(EXIT_FAILURE);
    iter_release(it);
    return (now_ns() - start) / (double)b->count;
}

static double seek_all(struct bench *b)
{
    struct iter *it;
    size_t count = b->count / 4;
    must(b, table_iter_new(b->table, &(struct table_iter_options){0}, &it, &b->error));
    double start = now_ns();
    for (size_t i = 0; i < count; i++) {
        char key[KEY_SIZE];
        iter_seek(it, make_key(key, (size_t)b->order[i] * 2), ENTRY_MAX_TRAILER);
        if (!it->valid)
            exit(EXIT_FAILURE);
    }
    double ns = (now_ns() - start) / (double)count;
    iter_release(it);
    return ns;
}

static void least(double *best, double ns)
{
    if (*best == 0 || ns < *best)
        *best = ns;
}

static void new_cache(struct bench *b, uint64_t bytes)
{
    if (b->env.cache != NULL) {
        epoch_drain();
        block_cache_free(b->env.cache);
    }
    b->env.cache = must_have(block_cache_new(bytes));
}

static void measure_reads(struct bench *b, const struct table_meta *meta)
{
    double opened = 0, get = 0, miss = 0, probe = 0, next = 0, prev = 0, seek = 0, make = 0;
    double cold_get = 0, cold_scan = 0;
    for (int round = 0; round < ROUNDS; round++) {
        new_cache(b, UINT64_C(8) << 30);
        double start = now_ns();
        must(b, table_open(&b->env, meta->number, meta->size, &b->table, &b->error));
        least(&opened, now_ns() - start);
        (void)scan(b, (struct table_iter_options){0}, false);
        least(&get, get_all(b, 0, b->count));
        least(&miss, get_all(b, 1, b->count));
        least(&make, build_nothing(b));
        least(&probe, probe_all(b));
        least(&seek, seek_all(b));
        least(&next, scan(b, (struct table_iter_options){0}, false));
        least(&prev, scan(b, (struct table_iter_options){0}, true));
        table_close(b->table);
        new_cache(b, 0);
        must(b, table_open(&b->env, meta->number, meta->size, &b->table, &b->error));
        least(&cold_get, get_all(b, 0, b->count < DISK_READS ? b->count : DISK_READS));
        least(&cold_scan,
              scan(b, (struct table_iter_options){.whole = true, .flags = TABLE_NO_FILL}, false));
        if (round == ROUNDS - 1)
            printf("  bytes an entry %.1f, index and filter %.2f, blocks %llu\n",
                   (double)meta->size / (double)b->count,
                   (double)table_memory(b->table) / (double)b->count,
                   (unsigned long long)(meta->size / 8192));
        table_close(b->table);
    }
    printf("  open %.0f us\n", opened / 1000);
    printf(
        "  cached, ns: get %.0f, missing %.0f, probe in groups of %d %.0f, seek %.0f, next %.1f, "
        "prev %.1f\n",
        get, miss, GROUP, probe - make, seek - make, next, prev);
    printf("  nothing cached: get %.1f us, whole scan %.1f ns an entry (%.0f MB/s of entries)\n",
           cold_get / 1000, cold_scan, (double)(KEY_SIZE + b->value_size) / cold_scan * 1000);
}

int main(int argc, char **argv)
{
    struct bench b = {.count = 1000000, .value_size = 100};
    if (argc > 1)
        b.count = strtoul(argv[1], NULL, 10);
    if (argc > 2)
        b.value_size = strtoul(argv[2], NULL, 10);
    if (b.count < GROUP || b.value_size >= POOL_SIZE) {
        fprintf(stderr, "usage: table_bench [entries [value-bytes [directory]]]\n");
        return EXIT_FAILURE;
    }
    must(&b, io_open("auto", &b.env.io, &b.error));
    must(&b, io_dir_open(b.env.io, argc > 3 ? argv[3] : ".", 0, 0700, &b.env.dir, &b.error));
    b.env.mode = 0600;
    new_cache(&b, 0);
    fill_pool(&b);
    fill_order(&b);
    printf("%zu entries, keys %zu, values %zu, io %s\n", b.count, KEY_SIZE, b.value_size,
           io_name(b.env.io));
    double make = 0, blocks = 0;
    for (int round = 0; round < ROUNDS; round++) {
        least(&make, build_nothing(&b));
        least(&blocks, build_blocks(&b));
    }
    printf("blocks in memory: %.0f ns an entry\n", blocks - make);
    for (uint64_t number = 1; number <= 2; number++) {
        double best = 0, best_cpu = 0, cpu = 0;
        struct table_meta meta = {0};
        for (int round = 0; round < ROUNDS; round++) {
            table_meta_release(&meta);
            least(&best, build(&b, number, number == 2, &meta, &cpu) - make);
            least(&best_cpu, cpu - make);
        }
        printf("%s: build %.0f ns an entry, %.0f of the processor\n",
               number == 1 ? "raw" : "zstd 1", best, best_cpu);
        measure_reads(&b, &meta);
        table_meta_release(&meta);
    }
    (void)io_dir_unlink(b.env.dir, "000001.sst", NULL, NULL);
    (void)io_dir_unlink(b.env.dir, "000002.sst", NULL, NULL);
    block_cache_free(b.env.cache);
    io_dir_close(b.env.dir);
    io_close(b.env.io);
    free(b.pool);
    free(b.order);
    return EXIT_SUCCESS;
}
