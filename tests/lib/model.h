/*
 * What a database ought to hold, kept in the most obvious way: one sorted array of every version of
 * every key ever written. Tests run the same operations on it and on the engine, and compare.
 *
 * Each write takes one number (sequence), in the order of calls. A write that returned an error, or
 * that was under way when the machine stopped, may be there or not: it is *uncertain* until a test
 * has looked. After a power cut a test tries which prefix of the writes explains what it finds, and
 * cuts the model there.
 *
 * Values are not stored: a value is a number and a length, its bytes follow from them.
 * Out of memory ends the program.
 */
#ifndef TESTS_LIB_MODEL_H
#define TESTS_LIB_MODEL_H

#include "engine/lsm.h"

struct model_value {
    uint64_t seed;
    uint32_t size;
};

/* Writes value.size bytes. Some seeds give compressible bytes, some do not. */
void model_value_fill(struct model_value value, uint8_t *bytes);
uint64_t model_hash(lsm_slice bytes);

struct model_version {
    uint32_t family;
    bool is_delete;
    uint32_t size; /* of the value */
    uint64_t hash; /* of the value */
    uint64_t sequence;
    lsm_slice key; /* valid until the model is released or cut below it */
};

/* What became of a write. */
enum model_fate {
    MODEL_THERE,  /* it can be read */
    MODEL_ABSENT, /* it cannot */
};

struct model_family {
    char name[32];
    bool is_live;
};

struct model {
    struct model_version **versions; /* by family, key, and newest first */
    size_t count, capacity;
    uint64_t sequence; /* of the last write; the first is 1 */
    uint8_t *fates;    /* by sequence */
    size_t fate_capacity;
    struct model_family *families; /* by id; 0 is the default one */
    uint32_t family_count;
};

#define MODEL_NEWEST UINT64_MAX

void model_init(struct model *m); /* holds the family "default" and nothing else */
void model_release(struct model *m);

uint32_t model_family_create(struct model *m, const char *name); /* the new family's id */
void model_family_rename(struct model *m, uint32_t family, const char *name);
void model_family_drop(struct model *m, uint32_t family);
/* The id of the live family of that name, or UINT32_MAX. */
uint32_t model_family_find(const struct model *m, const char *name);

/* Begins a write: all that is put and deleted until the next call is one batch. */
uint64_t model_write(struct model *m, enum model_fate fate);
void model_put(struct model *m, uint32_t family, lsm_slice key, struct model_value value);
void model_delete(struct model *m, uint32_t family, lsm_slice key);
void model_set_fate(struct model *m, uint64_t sequence, enum model_fate fate);
/* Forgets every write after `sequence`. */
void model_cut(struct model *m, uint64_t sequence);

/* Each gives what a reader as of `at` finds, or NULL. Deleted keys are not found. */
const struct model_version *model_get(const struct model *m, uint32_t family, lsm_slice key,
                                      uint64_t at);
const struct model_version *model_first(const struct model *m, uint32_t family, uint64_t at);
const struct model_version *model_last(const struct model *m, uint32_t family, uint64_t at);
const struct model_version *model_seek(const struct model *m, uint32_t family, lsm_slice key,
                                       uint64_t at); /* first >= key */
const struct model_version *model_seek_for_prev(const struct model *m, uint32_t family,
                                                lsm_slice key, uint64_t at); /* last <= key */
const struct model_version *model_next(const struct model *m, const struct model_version *v,
                                       uint64_t at);
const struct model_version *model_prev(const struct model *m, const struct model_version *v,
                                       uint64_t at);

/* malloc and friends that end the program (exit 99) instead of failing. */
void *test_alloc(size_t size);
void *test_resize(void *memory, size_t size);

#endif
