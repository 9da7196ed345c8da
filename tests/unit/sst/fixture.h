/* A simulated disk with a directory and a cache, and random sorted entries to fill tables with. */
#ifndef TESTS_UNIT_SST_FIXTURE_H
#define TESTS_UNIT_SST_FIXTURE_H

#include "engine/base/buffer.h"
#include "engine/base/hash.h"
#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/format/table_properties.h"
#include "engine/io/sim.h"
#include "engine/sst/table.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FIXTURE_DIR "db"

struct fixture {
    struct sim_disk *disk;
    struct io *io;
    struct io_dir *dir;
    struct table_env env;
    lsm_error error;
};

#define ck_ok(call)                                                                                \
    do {                                                                                           \
        lsm_status ck_ok_status = (call);                                                          \
        ck_assert_msg(ck_ok_status == LSM_OK, "%s: %s (%s)", #call, lsm_strerror(ck_ok_status),    \
                      f.error.message);                                                            \
    } while (0)

static struct fixture f;

static inline void fixture_open(uint64_t seed, uint64_t cache_bytes)
{
    f = (struct fixture){0};
    f.disk = sim_disk_new(seed);
    ck_ok(sim_open(f.disk, &f.io, &f.error));
    ck_ok(io_dir_open(f.io, FIXTURE_DIR, IO_DIR_CREATE, 0700, &f.dir, &f.error));
    f.env = (struct table_env){.io = f.io, .dir = f.dir, .mode = 0600};
    for (size_t i = 0; i < sizeof f.env.uuid; i++)
        f.env.uuid[i] = (uint8_t)(seed * 31 + i);
    f.env.cache = block_cache_new(cache_bytes);
    ck_assert_ptr_nonnull(f.env.cache);
}

static inline void fixture_new_cache(uint64_t cache_bytes)
{
    epoch_drain();
    block_cache_free(f.env.cache);
    f.env.cache = block_cache_new(cache_bytes);
    ck_assert_ptr_nonnull(f.env.cache);
}

static inline void fixture_close(void)
{
    epoch_drain();
    block_cache_free(f.env.cache);
    io_dir_close(f.dir);
    io_close(f.io);
    sim_disk_free(f.disk);
}

/* ---- entries --------------------------------------------------------------------------------- */

struct entry {
    lsm_slice key; /* owned, as value */
    uint64_t trailer;
    lsm_slice value;
};

struct entries {
    struct entry *at;
    size_t count;
};

enum key_shape {
    KEYS_SHORT,   /* 0 to 3 bytes of a small alphabet with 0x00 and 0xff */
    KEYS_DECIMAL, /* a prefix and digits */
    KEYS_BINARY,  /* 8 random bytes */
    KEYS_DEEP,    /* the same 20 bytes, then little */
    KEYS_LONG,    /* up to the limit */
    KEYS_MIXED,   /* any of the above */
    KEY_SHAPES,
};

static inline lsm_slice own_bytes(const void *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    if (size > 0)
        memcpy(copy, data, size);
    return (lsm_slice){copy, size};
}

static inline size_t make_key(struct random_state *r, enum key_shape shape, uint8_t *key)
{
    static const uint8_t alphabet[] = {0, 0, 1, 'a', 'b', 0xfe, 0xff};
    size_t size = 0;
    switch (shape) {
    case KEYS_SHORT:
        size = random_below(r, 4);
        for (size_t i = 0; i < size; i++)
            key[i] = alphabet[random_below(r, sizeof alphabet)];
        return size;
    case KEYS_DECIMAL:
        return (size_t)sprintf((char *)key, "user%012u", (unsigned)random_below(r, 100000000));
    case KEYS_BINARY:
        for (size_t i = 0; i < 8; i++)
            key[i] = (uint8_t)random_next(r);
        return 8;
    case KEYS_DEEP:
        memset(key, 0xff, 20);
        size = 20 + random_below(r, 14);
        for (size_t i = 20; i < size; i++)
            key[i] = alphabet[random_below(r, sizeof alphabet)];
        return size;
    case KEYS_LONG:
        size =
            random_below(r, 4) == 0 ? random_below(r, LSM_MAX_KEY_SIZE + 1) : random_below(r, 2000);
        memset(key, 'k', size);
        for (size_t i = 0; i < 12 && i < size; i++)
            key[size - 1 - i] = alphabet[random_below(r, sizeof alphabet)];
        return size;
    case KEYS_MIXED:
    case KEY_SHAPES:
    default:
        return make_key(r, (enum key_shape)random_below(r, random_below(r, 50) == 0 ? 5 : 4), key);
    }
}

static inline int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return entry_compare(x->key, x->trailer, y->key, y->trailer);
}

static inline lsm_slice make_value(struct random_state *r, size_t max)
{
    size_t size = max == 0 ? 0 : random_below(r, random_below(r, 10) == 0 ? max : max / 8 + 1);
    uint8_t *bytes = malloc(size + 1);
    bool packable = random_below(r, 4) != 0;
    for (size_t i = 0; i < size; i++)
        bytes[i] = packable ? (uint8_t)("value of some text "[i % 19]) : (uint8_t)random_next(r);
    return (lsm_slice){bytes, size};
}

/* `versions`: about how many of a key, at most. */
static inline struct entries make_entries(struct random_state *r, size_t count,
                                          enum key_shape shape, size_t versions, size_t max_value)
{
    static uint8_t key[LSM_MAX_KEY_SIZE + 64];
    struct entries e = {calloc(count, sizeof(struct entry)), 0};
    while (e.count < count) {
        lsm_slice made = {key, make_key(r, shape, key)};
        size_t n = versions <= 1 ? 1 : 1 + random_below(r, versions);
        for (size_t i = 0; i < n && e.count < count; i++) {
            enum entry_type type = random_below(r, 5) == 0 ? ENTRY_DELETE : ENTRY_PUT;
            uint64_t sequence =
                random_below(r, 20) == 0 ? random_next(r) >> 8 : 1 + random_below(r, 100000);
            e.at[e.count++] =
                (struct entry){own_bytes(made.data, made.size), entry_trailer(sequence, type),
                               type == ENTRY_DELETE ? own_bytes("", 0) : make_value(r, max_value)};
        }
    }
    qsort(e.at, e.count, sizeof *e.at, compare_entries);
    size_t kept = 0;
    for (size_t i = 0; i < e.count; i++) { /* one entry a key and sequence */
        if (kept > 0 && slice_equal(e.at[kept - 1].key, e.at[i].key) &&
            entry_sequence(e.at[kept - 1].trailer) == entry_sequence(e.at[i].trailer)) {
            free((void *)(uintptr_t)e.at[i].key.data);
            free((void *)(uintptr_t)e.at[i].value.data);
        } else {
            e.at[kept++] = e.at[i];
        }
    }
    e.count = kept;
    return e;
}

static inline void free_entries(struct entries *e)
{
    for (size_t i = 0; i < e->count; i++) {
        free((void *)(uintptr_t)e->at[i].key.data);
        free((void *)(uintptr_t)e->at[i].value.data);
    }
    free(e->at);
}

/* Index of the first entry >= (key, trailer). */
static inline size_t entries_seek(const struct entries *e, lsm_slice key, uint64_t trailer)
{
    size_t first = 0, limit = e->count;
    while (first < limit) {
        size_t middle = first + (limit - first) / 2;
        if (entry_compare(e->at[middle].key, e->at[middle].trailer, key, trailer) < 0)
            first = middle + 1;
        else
            limit = middle;
    }
    return first;
}

/* The newest version at `sequence`, or NULL. */
static inline const struct entry *entries_get(const struct entries *e, lsm_slice key,
                                              uint64_t sequence)
{
    size_t at = entries_seek(e, key, entry_seek_trailer(sequence));
    return at < e->count && slice_equal(e->at[at].key, key) ? &e->at[at] : NULL;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static inline struct table_write_options write_options(uint64_t number)
{
    return (struct table_write_options){
        .number = number,
        .cf = 7,
        .cf_name = "family",
        .level = 2,
        .block_size = 8192,
        .filter_bits = 12,
    };
}

static inline struct table_meta write_table(const struct entries *e,
                                            const struct table_write_options *options)
{
    struct table_writer *w = NULL;
    struct table_meta meta = {0};
    ck_ok(table_writer_new(&f.env, options, &w, &f.error));
    for (size_t i = 0; i < e->count; i++)
        ck_ok(table_writer_add(w, e->at[i].key, e->at[i].trailer, e->at[i].value, &f.error));
    ck_ok(table_writer_finish(w, &meta, &f.error));
    return meta;
}

#endif
