/* What the files of the driver share. */
#ifndef TESTS_LIB_DRIVER_PRIVATE_H
#define TESTS_LIB_DRIVER_PRIVATE_H

#include "tests/lib/driver.h"

#define DRIVER_UNCERTAIN_MAX 6
#define DRIVER_RENAMES_MAX   8

struct driver_family {
    lsm_cf *cf;  /* NULL: the slot is empty */
    uint32_t id; /* in the model */
};

struct driver_snapshot {
    lsm_snapshot *snapshot; /* NULL: empty */
    uint64_t sequence;      /* in the model */
};

struct driver_iter {
    lsm_iter *iter; /* NULL: empty */
    uint32_t family;
    uint64_t at; /* sequence in the model */
    bool keys_only, has_snapshot;
    bool has_limit, is_empty;
    uint8_t *first, *limit; /* owned; first inclusive, limit exclusive */
    size_t first_size, limit_size;
    const struct model_version *position; /* NULL: not valid */
};

struct driver_pin {
    lsm_pin pin;
    bool is_held;
    uint64_t hash;
    uint32_t size;
};

/* A change of families that failed: the family may be found under either name, NULL for none. */
struct driver_rename {
    uint32_t family;
    char before[32], after[32]; /* empty: not there */
};

struct driver {
    struct driver_setup setup;
    struct io *io; /* of the simulated disk */
    lsm_db *db;
    lsm_options options;
    struct model model;
    struct driver_family families[SCRIPT_FAMILIES];
    struct driver_snapshot snapshots[SCRIPT_SNAPSHOTS + 1]; /* [0] is never held */
    struct driver_iter iters[SCRIPT_ITERATORS];
    struct driver_pin pins[SCRIPT_PINS];
    uint64_t durable; /* writes up to it survive a power cut */
    uint64_t uncertain[DRIVER_UNCERTAIN_MAX];
    uint32_t uncertain_count;
    struct driver_rename renames[DRIVER_RENAMES_MAX];
    uint32_t rename_count;
    bool was_opened, power_cut, poisoned, saw_error;
    uint64_t digest;
    uint8_t *key, *limit, *prefix, *buffer; /* scratch */
    size_t buffer_size;
    char message[1500];
};

enum driver_result driver_wrong(struct driver *d, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Judges a call that failed although it should not have. */
enum driver_result driver_failed(struct driver *d, const char *what, lsm_status status,
                                 const lsm_error *err);
void driver_reply(struct driver *d, uint64_t number); /* folds it into the digest */

enum driver_result driver_read_op(struct driver *d, const struct script_op *op);
enum driver_result driver_iter_op(struct driver *d, const struct script_op *op);
void driver_iter_drop(struct driver *d, struct driver_iter *it);
enum driver_result driver_pin_drop(struct driver *d, struct driver_pin *pin);
/* Finds which of the possible states the database is in, and makes it the model's. */
enum driver_result driver_adopt(struct driver *d);
/* Finds uncertain writes that can be read by now. */
enum driver_result driver_settle(struct driver *d);

#endif
