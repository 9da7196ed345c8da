/*
 * The operations that `make bench-cost` counts the instructions of: bench/cost/run starts this
 * under callgrind, which counts inside the functions called measure_* and nowhere else. Keys are
 * made beforehand, blocks are in the cache, nothing works in the background, and every number comes
 * from a fixed seed, so that two runs of one build differ by next to nothing.
 *
 * Three databases, of the same keys in another shape each:
 *
 *     memory  all in the memtable
 *     table   all in one run of tables
 *     runs    half in the lowest level, and a quarter each in two newer tables, well mixed
 *
 * It prints a line for each measured function: its name and how many operations it did.
 */
#include <engine/lsm.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_COUNT   20000u /* of a database */
#define READ_COUNT  5000u
#define KEY_SIZE    16u
#define VALUE_SIZE  100u
#define MULTI_COUNT 32u
#define SCAN_COUNT  10u
#define SEED        UINT64_C(0x5eed)
#define MEMTABLE    (UINT64_C(32) << 20)
#define MEASURED    __attribute__((noinline)) static

static uint8_t keys[KEY_COUNT][KEY_SIZE];
static uint8_t absent[READ_COUNT][KEY_SIZE]; /* between the others */
static uint32_t reads[READ_COUNT];           /* numbers of keys, in random order */
static uint8_t value[VALUE_SIZE];
static lsm_error error;
static uint64_t seen; /* what is read is used */
/* The measured operation; it also keeps the compiler from making one function of several. */
static const char *volatile operation = "making a database";

static void check(lsm_status status)
{
    if (status == LSM_OK)
        return;
    fprintf(stderr, "operations: %s: %s\n", operation, error.message);
    exit(1);
}

static void expect(bool right, const char *what)
{
    if (right)
        return;
    fprintf(stderr, "operations: %s: %s\n", operation, what);
    exit(1);
}

static uint64_t next_random(void)
{
    static uint64_t state = SEED;
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Decimal numbers, each a key twice as large as its place in the order. */
static void make_keys(void)
{
    char text[KEY_SIZE + 1];
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        snprintf(text, sizeof text, "%016" PRIu32, i * 2);
        memcpy(keys[i], text, KEY_SIZE);
    }
    for (uint32_t i = 0; i < READ_COUNT; i++) {
        reads[i] = (uint32_t)(next_random() % KEY_COUNT);
        snprintf(text, sizeof text, "%016" PRIu32, reads[i] * 2 + 1);
        memcpy(absent[i], text, KEY_SIZE);
    }
    for (size_t i = 0; i < VALUE_SIZE; i++)
        value[i] = (uint8_t)next_random();
}

/* Any number has its place in a random order of all keys. */
static lsm_slice shuffled(uint32_t i)
{
    return LSM_SLICE(keys[(uint64_t)i * 7919 % KEY_COUNT], KEY_SIZE);
}

static lsm_slice read_key(uint32_t i)
{
    return LSM_SLICE(keys[reads[i]], KEY_SIZE);
}

static void report(const char *name, uint64_t count)
{
    printf("%s %" PRIu64 "\n", name, count);
}

/* ---- what is measured ------------------------------------------------------------------------ */

static void put_range(lsm_db *db, uint32_t first, uint32_t limit)
{
    static const lsm_write_options options = {.durability = LSM_WRITE};
    for (uint32_t i = first; i < limit; i++)
        check(lsm_put(db, NULL, shuffled(i), LSM_SLICE(value, VALUE_SIZE), &options, &error));
}

MEASURED uint64_t measure_put(lsm_db *db)
{
    put_range(db, KEY_COUNT - READ_COUNT, KEY_COUNT);
    return READ_COUNT;
}

static uint64_t get_all(lsm_db *db, bool present)
{
    lsm_pin pin = LSM_PIN_INIT;
    for (uint32_t i = 0; i < READ_COUNT; i++) {
        lsm_slice key = present ? read_key(i) : LSM_SLICE(absent[i], KEY_SIZE);
        check(lsm_get(db, NULL, key, NULL, &pin, &error));
        expect(pin.found == present, "a key is not as it was written");
    }
    lsm_pin_release(&pin);
    return READ_COUNT;
}

static uint64_t multi_get_all(lsm_db *db)
{
    lsm_slice wanted[MULTI_COUNT];
    lsm_pin pins[MULTI_COUNT] = {0};
    uint64_t done = 0;
    for (; done + MULTI_COUNT <= READ_COUNT; done += MULTI_COUNT) {
        for (uint32_t i = 0; i < MULTI_COUNT; i++)
            wanted[i] = read_key((uint32_t)done + i);
        check(lsm_multi_get(db, NULL, MULTI_COUNT, wanted, NULL, pins, &error));
        for (uint32_t i = 0; i < MULTI_COUNT; i++) {
            expect(pins[i].found, "a key is not there");
            lsm_pin_release(&pins[i]);
        }
    }
    return done;
}

static uint64_t walk_up(lsm_iter *it)
{
    uint64_t count = 0;
    for (; lsm_iter_valid(it); lsm_iter_next(it), count++)
        seen += lsm_iter_key(it).size + lsm_iter_value(it).size;
    expect(count == KEY_COUNT, "a walk upwards misses keys");
    return count;
}

static uint64_t walk_down(lsm_iter *it)
{
    uint64_t count = 0;
    for (; lsm_iter_valid(it); lsm_iter_prev(it), count++)
        seen += lsm_iter_key(it).size + lsm_iter_value(it).size;
    expect(count == KEY_COUNT, "a walk downwards misses keys");
    return count;
}

static uint64_t seek_all(lsm_iter *it)
{
    for (uint32_t i = 0; i < READ_COUNT; i++) {
        lsm_iter_seek(it, read_key(i));
        seen += lsm_iter_value(it).size;
    }
    return READ_COUNT;
}

/* The whole of a short scan: an iterator is made, moved, and given back. */
static uint64_t scan_all(lsm_db *db)
{
    for (uint32_t i = 0; i < READ_COUNT; i++) {
        lsm_iter *it = NULL;
        check(lsm_iter_open(db, NULL, NULL, &it, &error));
        lsm_iter_seek(it, read_key(i));
        for (uint32_t n = 0; n < SCAN_COUNT && lsm_iter_valid(it); n++, lsm_iter_next(it))
            seen += lsm_iter_value(it).size;
        lsm_iter_close(it);
    }
    return READ_COUNT;
}

/* clang-format off */
/* A function for each operation and shape: measure_get_memory() and so on. */
#define MEASURE_ONE(name, source, work)                                                            \
    MEASURED uint64_t measure_##name(source)                                                       \
    {                                                                                              \
        operation = #name;                                                                         \
        return work;                                                                               \
    }

#define MEASURE(shape)                                                                             \
    MEASURE_ONE(get_##shape, lsm_db *db, get_all(db, true))                                        \
    MEASURE_ONE(missing_##shape, lsm_db *db, get_all(db, false))                                   \
    MEASURE_ONE(multiget_##shape, lsm_db *db, multi_get_all(db))                                   \
    MEASURE_ONE(next_##shape, lsm_iter *it, walk_up(it))                                           \
    MEASURE_ONE(prev_##shape, lsm_iter *it, walk_down(it))                                         \
    MEASURE_ONE(seek_##shape, lsm_iter *it, seek_all(it))                                          \
    MEASURE_ONE(scan10_##shape, lsm_db *db, scan_all(db))                                          \
                                                                                                   \
    static void reads_of_##shape(lsm_db *db)                                                       \
    {                                                                                              \
        lsm_iter *it = NULL;                                                                       \
        check(lsm_iter_open(db, NULL, NULL, &it, &error));                                         \
        lsm_iter_first(it);                                                                        \
        walk_up(it); /* brings all blocks into the cache */                                        \
        report("get_" #shape, measure_get_##shape(db));                                            \
        report("missing_" #shape, measure_missing_##shape(db));                                    \
        report("multiget_" #shape, measure_multiget_##shape(db));                                  \
        lsm_iter_first(it);                                                                        \
        report("next_" #shape, measure_next_##shape(it));                                          \
        lsm_iter_last(it);                                                                         \
        report("prev_" #shape, measure_prev_##shape(it));                                          \
        report("seek_" #shape, measure_seek_##shape(it));                                          \
        report("scan10_" #shape, measure_scan10_##shape(db));                                      \
        check(lsm_iter_status(it, &error));                                                        \
        lsm_iter_close(it);                                                                        \
    }

MEASURE(memory)
MEASURE(table)
MEASURE(runs)
/* clang-format on */

/* ---- the databases --------------------------------------------------------------------------- */

static lsm_db *open_in(const char *directory, const char *name)
{
    char path[4096];
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_db *db = NULL;
    options.create = true;
    options.error_if_exists = true;
    options.memtable_size = MEMTABLE;
    options.workers = LSM_NO_WORKERS;
    expect(snprintf(path, sizeof path, "%s/%s", directory, name) < (int)sizeof path,
           "the folder's name is too long");
    check(lsm_open(path, &options, &db, &error));
    return db;
}

static void in_memory(const char *directory)
{
    lsm_db *db = open_in(directory, "memory");
    put_range(db, 0, KEY_COUNT - READ_COUNT);
    report("put", measure_put(db));
    reads_of_memory(db);
    check(lsm_close(db, &error));
}

static void in_one_run(const char *directory)
{
    lsm_db *db = open_in(directory, "table");
    put_range(db, 0, KEY_COUNT);
    check(lsm_compact_range(db, NULL, NULL, &error));
    reads_of_table(db);
    check(lsm_close(db, &error));
}

static void in_three_runs(const char *directory)
{
    lsm_db *db = open_in(directory, "runs");
    put_range(db, 0, KEY_COUNT / 2);
    check(lsm_compact_range(db, NULL, NULL, &error));
    put_range(db, KEY_COUNT / 2, KEY_COUNT / 4 * 3);
    check(lsm_flush(db, &error));
    put_range(db, KEY_COUNT / 4 * 3, KEY_COUNT);
    check(lsm_flush(db, &error));
    reads_of_runs(db);
    check(lsm_close(db, &error));
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: operations EMPTY-DIRECTORY\n");
        return 2;
    }
    make_keys();
    in_memory(argv[1]);
    in_one_run(argv[1]);
    in_three_runs(argv[1]);
    return seen == 0;
}
