/*
 * What a memtable ought to hold: every insert in one array that is sorted when asked, and keys of
 * many shapes to put into both.
 */
#ifndef TESTS_UNIT_MEMTABLE_MEMTABLE_REFERENCE_H
#define TESTS_UNIT_MEMTABLE_MEMTABLE_REFERENCE_H

#include "engine/base/random.h"
#include "engine/memtable/memtable.h"

struct reference_entry {
    uint32_t cf;
    uint8_t *key; /* owned */
    size_t key_size;
    uint64_t trailer;
    uint32_t order;      /* of the insert */
    uint32_t value_size; /* the value's bytes follow from size and order */
};

struct reference {
    struct reference_entry *entries;
    size_t count, capacity;
};

enum key_shape {
    KEYS_ASCENDING_DECIMAL,
    KEYS_DESCENDING_DECIMAL,
    KEYS_SHUFFLED_DECIMAL,
    KEYS_LONG_PREFIX, /* "user" tables: much in common at several lengths */
    KEYS_EXTREME,     /* bytes 0x00 and 0xff, many lengths, prefixes of one another */
    KEYS_RANDOM,
    KEYS_SHORT, /* 0 to 3 bytes: many versions */
    KEYS_HUGE,  /* up to the limit, different in the last bytes only */
    KEYS_MIXED,
    KEYS_SHAPES,
};

extern const char *const key_shape_names[KEYS_SHAPES];

#define KEY_BUFFER_SIZE ((size_t)65535)

/* Writes the key number `i` of a shape; returns its size. */
size_t make_key(enum key_shape shape, uint64_t i, struct random_state *random, uint8_t *key);

void reference_release(struct reference *r);

/* Inserts into both. */
void reference_insert(struct reference *r, struct memtable *mt, uint32_t cf, lsm_slice key,
                      uint64_t trailer, uint32_t value_size);
/* Repeats the inserts [first, count) into the memtable only. */
void reference_repeat(const struct reference *r, struct memtable *mt, size_t first, size_t limit);
/* Repeats all of them, each approached up to REFERENCE_AHEAD - 1 inserts before its own. */
#define REFERENCE_AHEAD 6
void reference_repeat_ahead(const struct reference *r, struct memtable *mt,
                            struct random_state *random);
/* Adds the entry number `index` to a bulk, too. */
void reference_bulk_add(const struct reference *r, size_t index, struct memtable_bulk *bulk);

/* Checks gets, iterators in both directions, seeks and families against the first `count` inserts.
 * `random` chooses what to look for. */
void reference_check(const struct reference *r, size_t count, const struct memtable *mt,
                     struct random_state *random);

/* Families, walks and gets only. */
void reference_check_quick(const struct reference *r, size_t count, const struct memtable *mt);
/* What a reader sees at `sequence`, while entries with higher ones may be there or not. */
void reference_check_visible(const struct reference *r, size_t count, const struct memtable *mt,
                             uint64_t sequence);

/* The seed of a random test: the environment variable SEED or the clock; printed. */
uint64_t reference_seed(const char *test);

#endif
