/*
 * Measures the memtable alone: nanoseconds an operation for both structures.
 *
 *     memtable_bench [entries [value-bytes [btree|skiplist]]]
 *
 * Keys are 16 bytes: random ones, and ascending or shuffled decimals. Hashing the key is part of
 * insert and get, as it is part of a write and a read. Time is the thread's own, and every figure
 * is the best of three rounds, because a shared machine only ever adds to it.
 */
#include "engine/base/hash.h"
#include "engine/base/random.h"
#include "engine/memtable/memtable.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define KEY_SIZE ((size_t)16)
#define ROUNDS   3

enum keys {
    KEYS_RANDOM,
    KEYS_ASCENDING,
    KEYS_SHUFFLED,
    KEYS_KINDS,
};

static const char *const keys_names[KEYS_KINDS] = {"random", "ascending", "decimal"};

struct figures {
    double insert, get, miss, scan;
    size_t bytes;
};

struct bench {
    size_t entry_count;
    lsm_slice value;
    uint8_t *arena;
    size_t arena_size;
    char (*keys)[KEY_SIZE];   /* in the order of the inserts */
    char (*wanted)[KEY_SIZE]; /* the same in the order of the gets */
    char (*absent)[KEY_SIZE];
    uint32_t *order;
};

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *must(void *memory)
{
    if (memory == NULL || memory == MAP_FAILED) {
        fprintf(stderr, "memtable_bench: out of memory\n");
        exit(EXIT_FAILURE);
    }
    return memory;
}

static void shuffle(uint32_t *order, size_t count, struct random_state *random)
{
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    for (size_t i = count; i > 1; i--) {
        size_t j = random_below(random, i);
        uint32_t other = order[j];
        order[j] = order[i - 1];
        order[i - 1] = other;
    }
}

static void decimal_key(char *key, uint64_t number)
{
    char text[KEY_SIZE + 8];
    snprintf(text, sizeof text, "%016llu", (unsigned long long)number);
    memcpy(key, text, KEY_SIZE);
}

static void make_keys(struct bench *b, enum keys kind, struct random_state *random)
{
    shuffle(b->order, b->entry_count, random);
    for (size_t i = 0; i < b->entry_count; i++) {
        if (kind == KEYS_RANDOM) {
            for (size_t at = 0; at < KEY_SIZE; at += 8) {
                uint64_t bits = random_next(random), other = random_next(random);
                memcpy(b->keys[i] + at, &bits, 8);
                memcpy(b->absent[i] + at, &other, 8);
            }
        } else {
            uint64_t number = kind == KEYS_ASCENDING ? i : b->order[i];
            decimal_key(b->keys[i], 2 * number);
            decimal_key(b->absent[i], 2 * number + 1);
        }
    }
    /* Side by side, so that reading them costs the same as reading what a caller just made. */
    shuffle(b->order, b->entry_count, random);
    for (size_t i = 0; i < b->entry_count; i++)
        memcpy(b->wanted[i], b->keys[b->order[i]], KEY_SIZE);
}

static lsm_slice key_slice(char key[KEY_SIZE])
{
    return LSM_SLICE(key, KEY_SIZE);
}

static double run_insert(struct bench *b, struct memtable *mt)
{
    double start = now_ns();
    size_t inserted = 0;
    for (; inserted < b->entry_count; inserted++) {
        lsm_slice key = key_slice(b->keys[inserted]);
        if (!memtable_has_room(mt, memtable_entry_room(mt, key.size, b->value.size)))
            break;
        memtable_insert(mt, 0, key, hash_key(key.data, key.size),
                        entry_trailer(inserted + 1, ENTRY_PUT), b->value);
    }
    double spent = now_ns() - start;
    if (inserted < b->entry_count) {
        fprintf(stderr, "memtable_bench: the arena holds %zu entries only\n", inserted);
        exit(EXIT_FAILURE);
    }
    return spent / (double)b->entry_count;
}

enum get_kind {
    GET_PRESENT,
    GET_ABSENT,
};

static double run_get(struct bench *b, const struct memtable *mt, enum get_kind kind)
{
    size_t found_count = 0;
    double start = now_ns();
    for (size_t i = 0; i < b->entry_count; i++) {
        struct memtable_found found;
        lsm_slice key = key_slice(kind == GET_PRESENT ? b->wanted[i] : b->absent[i]);
        uint64_t hash = hash_key(key.data, key.size);
        if (memtable_get(mt, 0, key, hash, ENTRY_MAX_SEQUENCE, &found))
            found_count += found.value.size == b->value.size;
    }
    double spent = now_ns() - start;
    if (found_count != (kind == GET_PRESENT ? b->entry_count : 0)) {
        fprintf(stderr, "memtable_bench: %zu keys were found\n", found_count);
        exit(EXIT_FAILURE);
    }
    return spent / (double)b->entry_count;
}

static double run_scan(struct bench *b, const struct memtable *mt)
{
    struct iter *it = NULL;
    if (memtable_iter_new(mt, 0, &it, NULL) != LSM_OK)
        exit(EXIT_FAILURE);
    size_t count = 0;
    uint64_t sum = 0;
    double start = now_ns();
    for (it->ops->first(it); it->valid; iter_next(it)) {
        count++;
        sum += it->entry->head + it->entry->value.size;
    }
    double spent = now_ns() - start;
    iter_release(it);
    if (count != b->entry_count || sum == 0)
        exit(EXIT_FAILURE);
    return spent / (double)count;
}

static void keep_best(double *best, double measured)
{
    if (*best == 0 || measured < *best)
        *best = measured;
}

static struct figures measure(struct bench *b, enum memtable_kind kind)
{
    struct figures f = {0};
    for (int round = 0; round < ROUNDS; round++) {
        struct memtable *mt = NULL;
        lsm_error err = {0};
        if (memtable_new(kind, b->arena, b->arena_size, 1, &mt, &err) != LSM_OK) {
            fprintf(stderr, "memtable_bench: %s\n", err.message);
            exit(EXIT_FAILURE);
        }
        keep_best(&f.insert, run_insert(b, mt));
        keep_best(&f.get, run_get(b, mt, GET_PRESENT));
        keep_best(&f.miss, run_get(b, mt, GET_ABSENT));
        keep_best(&f.scan, run_scan(b, mt));
        f.bytes = memtable_bytes_used(mt);
        memtable_free(mt);
    }
    return f;
}

static const char *const kind_names[] = {
    [MEMTABLE_BTREE] = "btree", [MEMTABLE_SKIPLIST] = "skiplist"};

int main(int argc, char **argv)
{
    struct bench b = {.entry_count = 500000};
    size_t value_size = 100;
    if (argc > 1)
        b.entry_count = strtoul(argv[1], NULL, 10);
    if (argc > 2)
        value_size = strtoul(argv[2], NULL, 10);
    if (b.entry_count == 0 || value_size == 0) {
        fprintf(stderr, "usage: memtable_bench [entries [value-bytes [btree|skiplist]]]\n");
        return EXIT_FAILURE;
    }
    b.arena_size = b.entry_count * (value_size + 130) + ((size_t)1 << 20);
    b.arena =
        must(mmap(NULL, b.arena_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    memset(b.arena, 1, b.arena_size); /* arenas are recycled: their pages are there */
    b.keys = must(calloc(b.entry_count, KEY_SIZE));
    b.wanted = must(calloc(b.entry_count, KEY_SIZE));
    b.absent = must(calloc(b.entry_count, KEY_SIZE));
    b.order = must(calloc(b.entry_count, sizeof *b.order));
    char *value = must(malloc(value_size));
    memset(value, 'v', value_size);
    b.value = LSM_SLICE(value, value_size);

    printf("%zu entries, %zu B keys, %zu B values; ns an operation\n", b.entry_count, KEY_SIZE,
           value_size);
    printf("%-10s %-9s %7s %7s %7s %7s %8s\n", "keys", "kind", "insert", "get", "miss", "scan",
           "B/entry");
    for (int keys = 0; keys < KEYS_KINDS; keys++) {
        struct random_state random = random_seeded(7);
        make_keys(&b, (enum keys)keys, &random);
        for (int kind = MEMTABLE_BTREE; kind <= MEMTABLE_SKIPLIST; kind++) {
            if (argc > 3 && strcmp(argv[3], kind_names[kind]) != 0)
                continue;
            struct figures f = measure(&b, (enum memtable_kind)kind);
            size_t index = b.arena_size / 24;
            printf("%-10s %-9s %7.1f %7.1f %7.1f %7.1f %8.1f\n", keys_names[keys], kind_names[kind],
                   f.insert, f.get, f.miss, f.scan,
                   (double)(f.bytes - index) / (double)b.entry_count);
        }
    }
    free(value);
    free(b.order);
    free(b.absent);
    free(b.wanted);
    free(b.keys);
    munmap(b.arena, b.arena_size);
    return EXIT_SUCCESS;
}
