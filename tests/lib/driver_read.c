/* Reading and comparing: gets, pins, iterators, and the whole content. */
#include "tests/lib/driver_private.h"

#include "engine/base/hash.h"
#include "engine/base/slice.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A key for people: its length and its last bytes. */
static const char *key_text(lsm_slice key, char text[80])
{
    const uint8_t *bytes = key.data;
    int used = snprintf(text, 80, "%zu bytes", key.size);
    for (size_t i = key.size > 12 ? key.size - 12 : 0; i < key.size; i++)
        used += snprintf(text + used, 80 - (size_t)used, "%s%02x", i == 0 ? " " : " ", bytes[i]);
    return text;
}

/* Is what the engine found for a key what the model says? `size` is LSM_ABSENT for not found. */
static enum driver_result compare_value(struct driver *d, const char *what, lsm_slice key,
                                        const struct model_version *wanted, size_t size,
                                        uint64_t hash)
{
    char text[80];
    driver_reply(d, size == LSM_ABSENT ? 0 : hash + 1);
    if (wanted == NULL && size == LSM_ABSENT)
        return DRIVER_OK;
    if (wanted == NULL)
        return driver_wrong(d, "%s finds a key that is not there (%s): %zu bytes", what,
                            key_text(key, text), size);
    if (size == LSM_ABSENT)
        return driver_wrong(d, "%s does not find a key (%s) of write %" PRIu64 " of %" PRIu64, what,
                            key_text(key, text), wanted->sequence, d->model.sequence);
    if (size != wanted->size || hash != wanted->hash)
        return driver_wrong(d,
                            "%s finds another value (%s): %zu bytes instead of the %u of write "
                            "%" PRIu64 " of %" PRIu64,
                            what, key_text(key, text), size, wanted->size, wanted->sequence,
                            d->model.sequence);
    return DRIVER_OK;
}

/* ---- single reads ---------------------------------------------------------------------------- */

static enum driver_result pin_compare(struct driver *d, const char *what, lsm_slice key,
                                      const struct model_version *wanted, const lsm_pin *pin)
{
    return compare_value(d, what, key, wanted, pin->found ? pin->value.size : LSM_ABSENT,
                         pin->found ? model_hash(pin->value) : 0);
}

enum driver_result driver_pin_drop(struct driver *d, struct driver_pin *held)
{
    enum driver_result result = DRIVER_OK;
    if (held->is_held &&
        (held->pin.value.size != held->size || model_hash(held->pin.value) != held->hash))
        result =
            driver_wrong(d, "a pinned value of %u bytes changed while it was held", held->size);
    lsm_pin_release(&held->pin);
    held->is_held = false;
    return result;
}

struct reader {
    lsm_cf *cf;
    uint32_t family;
    uint64_t at;
    lsm_read_options options;
};

static struct reader reader_of(struct driver *d, const struct script_op *op)
{
    struct driver_snapshot *s = &d->snapshots[op->snapshot];
    return (struct reader){
        .cf = d->families[op->family].cf,
        .family = d->families[op->family].id,
        .at = s->snapshot == NULL ? MODEL_NEWEST : s->sequence,
        .options = {.snapshot = s->snapshot, .no_fill_cache = (op->flags & SCRIPT_F_NO_FILL) != 0},
    };
}

static enum driver_result get(struct driver *d, const struct script_op *op, struct reader *r)
{
    lsm_slice key = script_key_bytes(&op->key, d->key);
    lsm_pin pin = LSM_PIN_INIT;
    lsm_error err = {0};
    lsm_status status = lsm_get(d->db, r->cf, key, &r->options, &pin, &err);
    if (status != LSM_OK)
        return driver_failed(d, "get", status, &err);
    const struct model_version *wanted = model_get(&d->model, r->family, key, r->at);
    enum driver_result result = pin_compare(d, "get", key, wanted, &pin);
    lsm_pin_release(&pin);
    return result;
}

static enum driver_result get_into(struct driver *d, const struct script_op *op, struct reader *r)
{
    lsm_slice key = script_key_bytes(&op->key, d->key);
    size_t capacity = op->count < d->buffer_size ? op->count : d->buffer_size - 1;
    size_t size = 0;
    lsm_error err = {0};
    memset(d->buffer, 0xe7, capacity + 1);
    lsm_status status =
        lsm_get_into(d->db, r->cf, key, &r->options, d->buffer, capacity, &size, &err);
    if (status != LSM_OK)
        return driver_failed(d, "get_into", status, &err);
    if (d->buffer[capacity] != 0xe7)
        return driver_wrong(d, "get_into wrote behind a buffer of %zu bytes", capacity);
    const struct model_version *wanted = model_get(&d->model, r->family, key, r->at);
    if (wanted != NULL && size == wanted->size && size > capacity) {
        driver_reply(d, size);
        return DRIVER_OK; /* cut: the size is right, the bytes are those of other reads */
    }
    uint64_t hash = size <= capacity ? model_hash(LSM_SLICE(d->buffer, size)) : 0;
    return compare_value(d, "get_into", key, wanted, size, hash);
}

static enum driver_result multi_get(struct driver *d, const struct script_op *op, struct reader *r)
{
    uint32_t count = op->entry_count;
    lsm_slice *keys = test_alloc((count + 1) * sizeof *keys);
    lsm_pin *pins = test_alloc((count + 1) * sizeof *pins);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *bytes = test_alloc(script_key_size(&op->entries[i].key));
        keys[i] = script_key_bytes(&op->entries[i].key, bytes);
        pins[i] = (lsm_pin)LSM_PIN_INIT;
    }
    lsm_error err = {0};
    lsm_status status = lsm_multi_get(d->db, r->cf, count, keys, &r->options, pins, &err);
    enum driver_result result =
        status == LSM_OK ? DRIVER_OK : driver_failed(d, "multi_get", status, &err);
    for (uint32_t i = 0; i < count; i++) {
        if (status == LSM_OK && result == DRIVER_OK)
            result = pin_compare(d, "multi_get", keys[i],
                                 model_get(&d->model, r->family, keys[i], r->at), &pins[i]);
        lsm_pin_release(&pins[i]);
        free((void *)(uintptr_t)keys[i].data);
    }
    free(keys);
    free(pins);
    return result;
}

static enum driver_result hold_pin(struct driver *d, const struct script_op *op, struct reader *r)
{
    struct driver_pin *held = &d->pins[op->slot % SCRIPT_PINS];
    enum driver_result result = driver_pin_drop(d, held);
    if (result != DRIVER_OK || op->kind == SCRIPT_UNPIN)
        return result;
    lsm_slice key = script_key_bytes(&op->key, d->key);
    lsm_error err = {0};
    lsm_status status = lsm_get(d->db, r->cf, key, &r->options, &held->pin, &err);
    if (status != LSM_OK)
        return driver_failed(d, "get", status, &err);
    const struct model_version *wanted = model_get(&d->model, r->family, key, r->at);
    result = pin_compare(d, "get", key, wanted, &held->pin);
    if (result == DRIVER_OK && wanted != NULL) {
        held->is_held = true;
        held->size = wanted->size;
        held->hash = wanted->hash;
    }
    return result;
}

enum driver_result driver_read_op(struct driver *d, const struct script_op *op)
{
    struct reader reader = reader_of(d, op);
    if (reader.cf == NULL)
        return DRIVER_OK;
    enum driver_result settled = driver_settle(d);
    if (settled != DRIVER_OK)
        return settled == DRIVER_STOPPED ? DRIVER_OK : settled;
    switch (op->kind) {
    case SCRIPT_GET:
        return get(d, op, &reader);
    case SCRIPT_GET_INTO:
        return get_into(d, op, &reader);
    case SCRIPT_MULTI_GET:
        return multi_get(d, op, &reader);
    default:
        return hold_pin(d, op, &reader);
    }
}

/* ---- iterators ------------------------------------------------------------------------------- */

void driver_iter_drop(struct driver *d, struct driver_iter *it)
{
    (void)d;
    lsm_iter_close(it->iter);
    free(it->first);
    free(it->limit);
    *it = (struct driver_iter){0};
}

static void set_first(struct driver_iter *it, lsm_slice first)
{
    if (it->first != NULL && slice_compare(first, LSM_SLICE(it->first, it->first_size)) <= 0)
        return;
    it->first = test_resize(it->first, first.size + 1);
    if (first.size > 0)
        memcpy(it->first, first.data, first.size);
    it->first_size = first.size;
}

static void set_limit(struct driver_iter *it, lsm_slice limit)
{
    if (it->has_limit && slice_compare(limit, LSM_SLICE(it->limit, it->limit_size)) >= 0)
        return;
    it->limit = test_resize(it->limit, limit.size + 1);
    if (limit.size > 0)
        memcpy(it->limit, limit.data, limit.size);
    it->limit_size = limit.size;
    it->has_limit = true;
}

/* The range of keys that begin with `prefix` ends before the prefix with its last byte raised;
 * bytes 0xff cannot be raised and are left out. */
static void narrow_to_prefix(struct driver_iter *it, lsm_slice prefix, uint8_t *scratch)
{
    set_first(it, prefix);
    size_t size = prefix.size;
    if (size > 0)
        memcpy(scratch, prefix.data, size);
    while (size > 0 && scratch[size - 1] == 0xff)
        size--;
    if (size > 0) {
        scratch[size - 1]++;
        set_limit(it, LSM_SLICE(scratch, size));
    }
}

static enum driver_result iter_open(struct driver *d, const struct script_op *op,
                                    struct driver_iter *it)
{
    struct reader r = reader_of(d, op);
    if (r.cf == NULL || d->uncertain_count > 0)
        return DRIVER_OK;
    driver_iter_drop(d, it);
    if ((op->flags & SCRIPT_F_KEY) != 0)
        r.options.first = script_key_bytes(&op->key, d->key);
    if ((op->flags & SCRIPT_F_LIMIT) != 0)
        r.options.limit = script_key_bytes(&op->limit, d->limit);
    if ((op->flags & SCRIPT_F_PREFIX) != 0)
        r.options.prefix = script_key_bytes(&op->prefix, d->prefix);
    r.options.keys_only = (op->flags & SCRIPT_F_KEYS_ONLY) != 0;
    r.options.readahead = op->count;
    lsm_error err = {0};
    lsm_status status = lsm_iter_open(d->db, r.cf, &r.options, &it->iter, &err);
    if (status != LSM_OK)
        return driver_failed(d, "iter_open", status, &err);
    it->family = r.family;
    it->has_snapshot = r.options.snapshot != NULL;
    it->at = it->has_snapshot ? r.at : d->model.sequence;
    it->keys_only = r.options.keys_only;
    set_first(it, r.options.first);
    if (r.options.limit.data != NULL)
        set_limit(it, r.options.limit);
    if (r.options.prefix.data != NULL)
        narrow_to_prefix(it, r.options.prefix, d->key);
    it->is_empty = it->has_limit && slice_compare(LSM_SLICE(it->first, it->first_size),
                                                  LSM_SLICE(it->limit, it->limit_size)) >= 0;
    return lsm_iter_valid(it->iter) ? driver_wrong(d, "a fresh iterator is positioned") : DRIVER_OK;
}

/* NULL for what lies outside the iterator's bounds. */
static const struct model_version *within(const struct driver_iter *it,
                                          const struct model_version *v)
{
    if (v == NULL || it->is_empty ||
        slice_compare(v->key, LSM_SLICE(it->first, it->first_size)) < 0)
        return NULL;
    bool is_behind =
        it->has_limit && slice_compare(v->key, LSM_SLICE(it->limit, it->limit_size)) >= 0;
    return is_behind ? NULL : v;
}

static const struct model_version *model_seek_within(const struct driver *d,
                                                     const struct driver_iter *it, lsm_slice key)
{
    lsm_slice first = LSM_SLICE(it->first, it->first_size);
    return within(
        it, model_seek(&d->model, it->family, slice_compare(key, first) < 0 ? first : key, it->at));
}

static const struct model_version *model_back_within(const struct driver *d,
                                                     const struct driver_iter *it, lsm_slice key)
{
    lsm_slice limit = LSM_SLICE(it->limit, it->limit_size);
    if (!it->has_limit || slice_compare(key, limit) < 0)
        return within(it, model_seek_for_prev(&d->model, it->family, key, it->at));
    const struct model_version *v = model_seek_for_prev(&d->model, it->family, limit, it->at);
    if (v != NULL && slice_equal(v->key, limit))
        v = model_prev(&d->model, v, it->at);
    return within(it, v);
}

static const struct model_version *model_last_within(const struct driver *d,
                                                     const struct driver_iter *it)
{
    if (it->has_limit)
        return model_back_within(d, it, LSM_SLICE(it->limit, it->limit_size));
    return within(it, model_last(&d->model, it->family, it->at));
}

static enum driver_result iter_compare(struct driver *d, struct driver_iter *it)
{
    char text[80], other[80];
    lsm_error err = {0};
    lsm_status status = lsm_iter_status(it->iter, &err);
    if (status != LSM_OK) {
        it->position = NULL;
        if (lsm_iter_valid(it->iter))
            return driver_wrong(d, "an iterator is valid after a failure");
        return driver_failed(d, "iterator", status, &err);
    }
    if (!lsm_iter_valid(it->iter)) {
        driver_reply(d, 0);
        if (it->position == NULL)
            return DRIVER_OK;
        return driver_wrong(d, "iterator ends, the next key is (%s) of write %" PRIu64,
                            key_text(it->position->key, text), it->position->sequence);
    }
    lsm_slice key = lsm_iter_key(it->iter);
    lsm_slice value = lsm_iter_value(it->iter);
    driver_reply(d, model_hash(key));
    if (it->position == NULL)
        return driver_wrong(d, "iterator finds (%s) where there is nothing", key_text(key, text));
    if (!slice_equal(key, it->position->key))
        return driver_wrong(d, "iterator finds (%s) instead of (%s) of write %" PRIu64,
                            key_text(key, text), key_text(it->position->key, other),
                            it->position->sequence);
    if (it->keys_only)
        return value.size == 0 ? DRIVER_OK : driver_wrong(d, "keys_only iterator gives a value");
    return compare_value(d, "iterator", key, it->position, value.size, model_hash(value));
}

static enum driver_result iter_step(struct driver *d, const struct script_op *op,
                                    struct driver_iter *it)
{
    uint32_t steps = op->count == 0 ? 1 : op->count;
    enum driver_result result = DRIVER_OK;
    for (uint32_t i = 0; i < steps && result == DRIVER_OK; i++) {
        bool was_valid = it->position != NULL;
        if (op->kind == SCRIPT_ITER_NEXT) {
            lsm_iter_next(it->iter);
            it->position =
                was_valid ? within(it, model_next(&d->model, it->position, it->at)) : NULL;
        } else {
            lsm_iter_prev(it->iter);
            it->position =
                was_valid ? within(it, model_prev(&d->model, it->position, it->at)) : NULL;
        }
        result = iter_compare(d, it);
        if (!was_valid)
            break;
    }
    return result;
}

static enum driver_result iter_refresh(struct driver *d, struct driver_iter *it)
{
    if (it->has_snapshot || d->uncertain_count > 0 || !d->model.families[it->family].is_live)
        return DRIVER_OK;
    lsm_error err = {0};
    lsm_status status = lsm_iter_refresh(it->iter, &err);
    if (status != LSM_OK) {
        driver_iter_drop(d, it);
        return driver_failed(d, "iter_refresh", status, &err);
    }
    it->at = d->model.sequence;
    it->position = NULL;
    return iter_compare(d, it);
}

enum driver_result driver_iter_op(struct driver *d, const struct script_op *op)
{
    struct driver_iter *it = &d->iters[op->slot % SCRIPT_ITERATORS];
    if (op->kind == SCRIPT_ITER_OPEN)
        return iter_open(d, op, it);
    if (it->iter == NULL)
        return DRIVER_OK;
    lsm_slice key = script_key_bytes(&op->key, d->key);
    switch (op->kind) {
    case SCRIPT_ITER_CLOSE:
        driver_iter_drop(d, it);
        return DRIVER_OK;
    case SCRIPT_ITER_REFRESH:
        return iter_refresh(d, it);
    case SCRIPT_ITER_FIRST:
        lsm_iter_first(it->iter);
        it->position = model_seek_within(d, it, LSM_SLICE(it->first, it->first_size));
        break;
    case SCRIPT_ITER_LAST:
        lsm_iter_last(it->iter);
        it->position = model_last_within(d, it);
        break;
    case SCRIPT_ITER_SEEK:
        lsm_iter_seek(it->iter, key);
        it->position = model_seek_within(d, it, key);
        break;
    case SCRIPT_ITER_SEEK_FOR_PREV:
        lsm_iter_seek_for_prev(it->iter, key);
        it->position = model_back_within(d, it, key);
        break;
    default:
        return iter_step(d, op, it);
    }
    return iter_compare(d, it);
}

/* ---- the whole content ----------------------------------------------------------------------- */

struct found {
    uint32_t family;
    uint32_t size;
    uint64_t hash;
    lsm_slice key; /* owned */
};

struct contents {
    struct found *entries;
    size_t count, capacity;
};

static void contents_release(struct contents *c)
{
    for (size_t i = 0; i < c->count; i++)
        free((void *)(uintptr_t)c->entries[i].key.data);
    free(c->entries);
    *c = (struct contents){0};
}

static void contents_add(struct contents *c, uint32_t family, lsm_slice key, lsm_slice value)
{
    if (c->count == c->capacity) {
        c->capacity = c->capacity * 2 + 64;
        c->entries = test_resize(c->entries, c->capacity * sizeof *c->entries);
    }
    uint8_t *bytes = test_alloc(key.size);
    if (key.size > 0)
        memcpy(bytes, key.data, key.size);
    c->entries[c->count++] = (struct found){.family = family,
                                            .size = (uint32_t)value.size,
                                            .hash = model_hash(value),
                                            .key = LSM_SLICE(bytes, key.size)};
}

static lsm_status read_family(struct driver *d, uint32_t family, bool forwards, struct contents *c,
                              lsm_error *err)
{
    lsm_cf *cf = NULL;
    lsm_iter *iter = NULL;
    lsm_status status = lsm_cf_open(d->db, d->model.families[family].name, &cf, err);
    if (status == LSM_OK)
        status = lsm_iter_open(d->db, cf, NULL, &iter, err);
    if (status != LSM_OK)
        return status;
    if (forwards)
        lsm_iter_first(iter);
    else
        lsm_iter_last(iter);
    while (lsm_iter_valid(iter)) {
        contents_add(c, family, lsm_iter_key(iter), lsm_iter_value(iter));
        if (forwards)
            lsm_iter_next(iter);
        else
            lsm_iter_prev(iter);
    }
    status = lsm_iter_status(iter, err);
    lsm_iter_close(iter);
    return status;
}

static lsm_status read_contents(struct driver *d, struct contents *c, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (uint32_t i = 0; i < d->model.family_count && status == LSM_OK; i++) {
        if (d->model.families[i].is_live)
            status = read_family(d, i, true, c, err);
    }
    return status;
}

static bool contents_match(const struct driver *d, const struct contents *c)
{
    size_t at = 0;
    for (uint32_t i = 0; i < d->model.family_count; i++) {
        if (!d->model.families[i].is_live)
            continue;
        for (const struct model_version *v = model_first(&d->model, i, MODEL_NEWEST); v != NULL;
             v = model_next(&d->model, v, MODEL_NEWEST), at++) {
            const struct found *f = &c->entries[at];
            if (at == c->count || f->family != i || f->hash != v->hash || f->size != v->size ||
                !slice_equal(f->key, v->key))
                return false;
        }
    }
    return at == c->count;
}

/* ---- after a crash or a fault ---------------------------------------------------------------- */

/* Lets the uncertain writes up to `cut` be there as `mask` says. */
static void choose_fates(struct driver *d, uint64_t cut, uint32_t mask)
{
    for (uint32_t i = 0; i < d->uncertain_count; i++) {
        bool is_there = d->uncertain[i] <= cut && (mask >> i & 1) != 0;
        model_set_fate(&d->model, d->uncertain[i], is_there ? MODEL_THERE : MODEL_ABSENT);
    }
}

static bool any_choice_matches(struct driver *d, const struct contents *c, uint64_t cut,
                               uint32_t at_least)
{
    uint32_t usable = 0; /* bits of the uncertain writes up to the cut */
    for (uint32_t i = 0; i < d->uncertain_count; i++)
        usable |= d->uncertain[i] <= cut ? 1u << i : 0;
    for (uint32_t mask = usable;; mask = (mask - 1) & usable) {
        if ((mask & at_least) == at_least) {
            choose_fates(d, cut, mask);
            if (contents_match(d, c))
                return true;
        }
        if (mask == 0)
            return false;
    }
}

/* The last write that may not be missing. */
static uint64_t oldest_cut(const struct driver *d)
{
    uint64_t floor = d->model.sequence;
    if (d->power_cut)
        return d->durable;
    /* Trailing uncertain writes may be absent, which a choice of fates says as well. */
    return floor;
}

static enum driver_result adopt_writes(struct driver *d, const struct contents *c)
{
    uint64_t floor = oldest_cut(d);
    uint64_t last = d->model.sequence;
    uint8_t *fates = test_alloc(last + 1);
    memcpy(fates, d->model.fates == NULL ? fates : d->model.fates,
           d->model.fates == NULL ? 0 : last + 1);
    bool is_found = false;
    uint64_t cut = last;
    for (;; cut--) {
        is_found = any_choice_matches(d, c, cut, 0);
        if (is_found || cut == floor)
            break;
        model_set_fate(&d->model, cut, MODEL_ABSENT);
    }
    if (is_found)
        model_cut(&d->model, cut);
    else if (d->model.fates != NULL)
        memcpy(d->model.fates, fates, last + 1);
    free(fates);
    if (is_found)
        return DRIVER_OK;
    return driver_wrong(d,
                        "what is there (%zu keys) is no prefix of the writes: %" PRIu64
                        " were made, %" PRIu64 " of them must be there, %u are uncertain",
                        c->count, last, floor, d->uncertain_count);
}

static bool list_holds(char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

/* Which of the names that changes of uncertain outcome gave a family does it have? Or none? */
static void settle_family(struct driver *d, uint32_t family, char *const *names, size_t count)
{
    struct model_family *f = &d->model.families[family];
    bool may_be_missing = !f->is_live;
    bool is_settled = f->is_live && list_holds(names, count, f->name);
    for (uint32_t i = 0; i < d->rename_count && !is_settled; i++) {
        const struct driver_rename *r = &d->renames[i];
        const char *name = r->after[0] != '\0' ? r->after : r->before;
        if (r->family != family)
            continue;
        may_be_missing |= r->before[0] == '\0' || r->after[0] == '\0';
        if (list_holds(names, count, name)) {
            f->is_live = true;
            model_family_rename(&d->model, family, name);
            is_settled = true;
        }
    }
    if (!is_settled && may_be_missing)
        f->is_live = false;
}

static enum driver_result adopt_families(struct driver *d)
{
    char **names = NULL;
    size_t count = 0, live = 0;
    lsm_error err = {0};
    lsm_status status = lsm_cf_list(d->db, &names, &count, &err);
    if (status != LSM_OK)
        return driver_failed(d, "cf_list", status, &err);
    for (uint32_t i = 0; i < d->rename_count; i++)
        settle_family(d, d->renames[i].family, names, count);
    enum driver_result result = DRIVER_OK;
    for (uint32_t i = 0; i < d->model.family_count && result == DRIVER_OK; i++) {
        if (!d->model.families[i].is_live)
            continue;
        live++;
        if (!list_holds(names, count, d->model.families[i].name))
            result = driver_wrong(d, "family '%s' is gone", d->model.families[i].name);
    }
    if (result == DRIVER_OK && live != count)
        result = driver_wrong(d, "there are %zu families instead of %zu", count, live);
    lsm_free(names);
    return result;
}

enum driver_result driver_adopt(struct driver *d)
{
    if (!d->was_opened && d->model.sequence == 0 && d->rename_count == 0 && !d->power_cut)
        return DRIVER_OK;
    enum driver_result result = adopt_families(d);
    if (result != DRIVER_OK)
        return result;
    struct contents contents = {0};
    lsm_error err = {0};
    lsm_status status = read_contents(d, &contents, &err);
    result = status == LSM_OK ? adopt_writes(d, &contents)
                              : driver_failed(d, "reading everything", status, &err);
    contents_release(&contents);
    if (result != DRIVER_OK || status != LSM_OK)
        return result == DRIVER_OK ? DRIVER_STOPPED : result;
    d->uncertain_count = 0;
    d->rename_count = 0;
    d->power_cut = false;
    d->durable = d->model.sequence; /* an open makes what it found durable */
    return DRIVER_OK;
}

enum driver_result driver_settle(struct driver *d)
{
    if (d->uncertain_count == 0)
        return DRIVER_OK;
    uint32_t there = 0; /* what could be read once must stay readable */
    for (uint32_t i = 0; i < d->uncertain_count; i++)
        there |= d->model.fates[d->uncertain[i]] == MODEL_THERE ? 1u << i : 0;
    struct contents contents = {0};
    lsm_error err = {0};
    lsm_status status = read_contents(d, &contents, &err);
    enum driver_result result = DRIVER_OK;
    if (status != LSM_OK) {
        result = driver_failed(d, "reading everything", status, &err);
        result = result == DRIVER_OK ? DRIVER_STOPPED : result;
    } else if (!any_choice_matches(d, &contents, d->model.sequence, there))
        result = driver_wrong(d, "no choice of %u uncertain writes explains what is there",
                              d->uncertain_count);
    contents_release(&contents);
    return result;
}

static enum driver_result verify_gets(struct driver *d, uint32_t family, lsm_cf *cf)
{
    const struct model_version *last = NULL;
    enum driver_result result = DRIVER_OK;
    for (size_t i = 0; i < d->model.count && result == DRIVER_OK; i++) {
        const struct model_version *v = d->model.versions[i];
        if (v->family != family || (last != NULL && slice_equal(last->key, v->key)))
            continue;
        last = v;
        lsm_pin pin = LSM_PIN_INIT;
        lsm_error err = {0};
        lsm_status status = lsm_get(d->db, cf, v->key, NULL, &pin, &err);
        result = status != LSM_OK
                     ? driver_failed(d, "get", status, &err)
                     : pin_compare(d, "get (everything)", v->key,
                                   model_get(&d->model, family, v->key, MODEL_NEWEST), &pin);
        lsm_pin_release(&pin);
    }
    return result;
}

static enum driver_result verify_family(struct driver *d, uint32_t family)
{
    struct contents forwards = {0}, backwards = {0};
    lsm_error err = {0};
    lsm_cf *cf = NULL;
    const struct model_version *v = model_first(&d->model, family, MODEL_NEWEST);
    enum driver_result result = DRIVER_OK;
    lsm_status status = lsm_cf_open(d->db, d->model.families[family].name, &cf, &err);
    if (status == LSM_OK)
        status = read_family(d, family, true, &forwards, &err);
    if (status == LSM_OK)
        status = read_family(d, family, false, &backwards, &err);
    if (status != LSM_OK) {
        result = driver_failed(d, "reading everything", status, &err);
        goto out;
    }
    if (forwards.count != backwards.count)
        result =
            driver_wrong(d, "%zu keys forwards, %zu backwards", forwards.count, backwards.count);
    for (size_t i = 0; i < forwards.count && result == DRIVER_OK; i++) {
        const struct found *f = &forwards.entries[i];
        const struct found *b = &backwards.entries[forwards.count - 1 - i];
        if (v == NULL || !slice_equal(v->key, f->key))
            result = driver_wrong(d, "family %u, entry %zu of a full scan: %s", family, i,
                                  v == NULL ? "too many keys" : "another key");
        else if (!slice_equal(f->key, b->key) || f->hash != b->hash)
            result = driver_wrong(d, "entry %zu of a full scan differs backwards", i);
        else
            result = compare_value(d, "a full scan", f->key, v, f->size, f->hash);
        v = v == NULL ? NULL : model_next(&d->model, v, MODEL_NEWEST);
    }
    if (result == DRIVER_OK && v != NULL)
        result = driver_wrong(d, "a full scan of family %u ends after %zu keys, too early", family,
                              forwards.count);
    if (result == DRIVER_OK)
        result = verify_gets(d, family, cf);
out:
    contents_release(&forwards);
    contents_release(&backwards);
    return result;
}

enum driver_result driver_verify(struct driver *d)
{
    enum driver_result result = driver_settle(d);
    for (uint32_t i = 0; i < d->model.family_count && result == DRIVER_OK; i++) {
        if (d->model.families[i].is_live)
            result = verify_family(d, i);
    }
    return result;
}
