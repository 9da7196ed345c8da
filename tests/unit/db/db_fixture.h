/* A database in a directory of its own, for tests of the public door. */
#ifndef TESTS_UNIT_DB_DB_FIXTURE_H
#define TESTS_UNIT_DB_DB_FIXTURE_H

#include "engine/db/open.h"
#include "engine/lsm.h"
#include "tests/lib/scratch.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_OPTIONS                                                                              \
    "create=true,workers=none,memtable_size=64KiB,stage_size=128KiB,wal_segment_size=128KiB,"      \
    "cache_size=1MiB"

/* Set up before each test, removed after it. */
static char scratch[SCRATCH_PATH_SIZE]; /* also where shared segments go */
static char db_path[SCRATCH_PATH_SIZE + 8];
static lsm_error error;

static inline void fixture_set_up(void)
{
#ifdef __SANITIZE_ADDRESS__
    /* Where a thread allocates during a fork the child waits for it for ever, with gcc 12. */
    atomic_store(&db_keeper_off, true);
#endif
    scratch_make(scratch);
    snprintf(db_path, sizeof db_path, "%s/db", scratch);
}

static inline void fixture_tear_down(void)
{
    scratch_remove(scratch);
}

#define ck_ok(call)                                                                                \
    do {                                                                                           \
        lsm_status status_ = (call);                                                               \
        ck_assert_msg(status_ == LSM_OK, "%s: %s: %s", #call, lsm_strerror(status_),               \
                      error.message);                                                              \
    } while (0)

/* The call fails with `wanted`, and says so in a sentence. */
#define ck_fails(wanted, call)                                                                     \
    do {                                                                                           \
        error = (lsm_error){0};                                                                    \
        lsm_status status_ = (call);                                                               \
        ck_assert_msg(status_ == (wanted), "%s: %s instead of %s: %s", #call,                      \
                      lsm_strerror(status_), lsm_strerror(wanted), error.message);                 \
        ck_assert_msg(error.status == (wanted) && error.message[0] != '\0', "%s: no message",      \
                      #call);                                                                      \
    } while (0)

static inline lsm_slice text(const char *t)
{
    return LSM_SLICE(t, strlen(t));
}

static inline lsm_options options_of(const char *option_text)
{
    lsm_options options = LSM_OPTIONS_INIT;
    ck_ok(lsm_options_parse(&options, option_text, &error));
    options.shm_dir = scratch;
    return options;
}

static inline lsm_db *open_with(const char *option_text)
{
    lsm_options options = options_of(option_text);
    lsm_db *db = NULL;
    ck_ok(lsm_open(db_path, &options, &db, &error));
    return db;
}

static inline lsm_db *open_small(void)
{
    return open_with(SMALL_OPTIONS);
}

static inline void close_ok(lsm_db *db)
{
    ck_ok(lsm_close(db, &error));
}

static inline void put_text(lsm_db *db, lsm_cf *cf, const char *key, const char *value)
{
    ck_ok(lsm_put(db, cf, text(key), text(value), NULL, &error));
}

/* `value` NULL: the key is not there. */
static inline void expect_text_at(lsm_db *db, lsm_cf *cf, const lsm_snapshot *snapshot,
                                  const char *key, const char *value)
{
    lsm_read_options options = {.snapshot = snapshot};
    lsm_pin pin = LSM_PIN_INIT;
    ck_ok(lsm_get(db, cf, text(key), &options, &pin, &error));
    ck_assert_msg(pin.found == (value != NULL), "key '%s' is %s", key,
                  pin.found ? "there" : "not there");
    if (value != NULL) {
        ck_assert_uint_eq(pin.value.size, strlen(value));
        ck_assert_mem_eq(pin.value.data, value, pin.value.size);
    }
    lsm_pin_release(&pin);
}

static inline void expect_text(lsm_db *db, lsm_cf *cf, const char *key, const char *value)
{
    expect_text_at(db, cf, NULL, key, value);
}

/* `count` keys of `size` bytes of value each, from `first` on. */
static inline void put_many(lsm_db *db, lsm_cf *cf, unsigned first, unsigned count, size_t size)
{
    char key[32];
    char *value = malloc(size + 1);
    for (unsigned i = first; i < first + count; i++) {
        snprintf(key, sizeof key, "many-%06u", i);
        memset(value, 'a' + (int)(i % 26), size);
        ck_ok(lsm_put(db, cf, text(key), LSM_SLICE(value, size), NULL, &error));
    }
    free(value);
}

static inline uint64_t property(lsm_db *db, const char *name)
{
    uint64_t value = 0;
    ck_ok(lsm_property(db, NULL, name, &value, &error));
    return value;
}

#endif
