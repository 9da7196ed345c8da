#include "tests/torture/agree.h"

#include "engine/base/slice.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The keys of one family in the order of a walk forwards. */
struct seen {
    char *key; /* owned */
    size_t key_size;
    uint64_t value_hash;
};

struct agreeing {
    struct agreement *agreement;
    lsm_db *db;
    lsm_cf *cf;
    const char *name;  /* of the family */
    struct seen *seen; /* owned */
    size_t count;
};

static lsm_slice key_of(const struct seen *seen)
{
    return LSM_SLICE(seen->key, seen->key_size);
}

__attribute__((format(printf, 3, 4))) static void contradicts(struct agreeing *a, lsm_slice key,
                                                              const char *format, ...)
{
    struct agreement *agreement = a->agreement;
    if (agreement->contradiction_count++ > 0)
        return;
    int size = snprintf(agreement->text, READING_TEXT, "family '%s', key '%.*s': ", a->name,
                        (int)(key.size < 100 ? key.size : 100), (const char *)key.data);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(agreement->text + size, READING_TEXT - (size_t)size, format, arguments);
    va_end(arguments);
}

static void remember(struct agreeing *a, lsm_slice key, lsm_slice value)
{
    if ((a->count & (a->count - 1)) == 0)
        a->seen = test_resize(a->seen, (2 * a->count + 1) * sizeof *a->seen);
    struct seen *seen = &a->seen[a->count++];
    *seen = (struct seen){test_alloc(key.size), key.size, model_hash(value)};
    if (key.size > 0)
        memcpy(seen->key, key.data, key.size);
}

static void forget(struct agreeing *a)
{
    for (size_t i = 0; i < a->count; i++)
        free(a->seen[i].key);
    free(a->seen);
    a->seen = NULL;
    a->count = 0;
}

static lsm_status walk_forwards(struct agreeing *a, lsm_iter *iter, lsm_error *err)
{
    for (lsm_iter_first(iter); lsm_iter_valid(iter); lsm_iter_next(iter)) {
        lsm_slice key = lsm_iter_key(iter);
        if (a->count > 0 && slice_compare(key_of(&a->seen[a->count - 1]), key) >= 0)
            contradicts(a, key, "a walk comes to it behind a key that is not smaller");
        remember(a, key, lsm_iter_value(iter));
    }
    return lsm_iter_status(iter, err);
}

static lsm_status walk_backwards(struct agreeing *a, lsm_iter *iter, lsm_error *err)
{
    size_t left = a->count;
    for (lsm_iter_last(iter); lsm_iter_valid(iter) && left > 0; lsm_iter_prev(iter), left--) {
        lsm_slice key = lsm_iter_key(iter);
        const struct seen *seen = &a->seen[left - 1];
        if (slice_compare(key_of(seen), key) != 0)
            contradicts(a, key, "a walk backwards comes to it instead of '%.*s'",
                        (int)(seen->key_size < 100 ? seen->key_size : 100), seen->key);
        else if (seen->value_hash != model_hash(lsm_iter_value(iter)))
            contradicts(a, key, "a walk backwards gives another value");
    }
    lsm_status status = lsm_iter_status(iter, err);
    if (status == LSM_OK && (left > 0 || lsm_iter_valid(iter)))
        contradicts(a, LSM_SLICE("", 0), "a walk backwards finds %s keys",
                    left > 0 ? "fewer" : "more");
    return status;
}

static lsm_status get_all(struct agreeing *a, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < a->count && status == LSM_OK; i++) {
        const struct seen *seen = &a->seen[i];
        lsm_pin pin = LSM_PIN_INIT;
        status = lsm_get(a->db, a->cf, key_of(seen), NULL, &pin, err);
        if (status == LSM_OK && !pin.found)
            contradicts(a, key_of(seen), "a get does not find it");
        else if (status == LSM_OK && seen->value_hash != model_hash(pin.value))
            contradicts(a, key_of(seen), "a get gives another value");
        lsm_pin_release(&pin);
    }
    return status;
}

static lsm_status read_family(struct agreeing *a, lsm_error *err)
{
    lsm_iter *iter = NULL;
    lsm_status status = lsm_cf_open(a->db, a->name, &a->cf, err);
    if (status == LSM_OK)
        status = lsm_iter_open(a->db, a->cf, NULL, &iter, err);
    if (status == LSM_OK)
        status = walk_forwards(a, iter, err);
    if (status == LSM_OK)
        status = walk_backwards(a, iter, err);
    lsm_iter_close(iter);
    if (status == LSM_OK)
        status = get_all(a, err);
    a->agreement->key_count += a->count;
    forget(a);
    return status;
}

static lsm_status read_families(struct agreeing *a, lsm_error *err)
{
    char **names = NULL;
    size_t count = 0;
    lsm_status status = lsm_cf_list(a->db, &names, &count, err);
    for (size_t i = 0; i < count && status == LSM_OK; i++) {
        a->name = names[i];
        status = read_family(a, err);
    }
    lsm_free(names);
    return status;
}

void agreement_take(const struct reading_setup *setup, struct agreement *agreement)
{
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_error err = {0};
    *agreement = (struct agreement){0};
    struct agreeing a = {.agreement = agreement};
    lsm_status status = lsm_options_parse(&options, setup->options, &err);
    options.shm_dir = setup->shm_dir;
    if (status == LSM_OK)
        status = lsm_open(setup->path, &options, &a.db, &err);
    if (status == LSM_OK) {
        status = read_families(&a, &err);
        lsm_error closing = {0};
        if (lsm_close(a.db, &closing) != LSM_OK && status == LSM_OK) {
            status = closing.status;
            err = closing;
        }
    }
    agreement->status = status;
    if (status != LSM_OK)
        snprintf(agreement->text, READING_TEXT, "%s", err.message);
}
