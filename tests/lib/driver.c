/* Opening, closing, writing, families and maintenance; reading is in driver_read.c. */
#include "tests/lib/driver_private.h"

#include "engine/base/hash.h"
#include "engine/base/slice.h"
#include "engine/db/open.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BUFFER_SIZE ((size_t)1 << 20)

enum driver_result driver_wrong(struct driver *d, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(d->message, sizeof d->message, format, arguments);
    va_end(arguments);
    return DRIVER_WRONG;
}

/* A sentence that names the file at fault, as lsm.h promises. */
static bool error_is_told(lsm_status status, const lsm_error *err)
{
    if (err->status != status || err->message[0] == '\0')
        return false;
    bool about_file = status == LSM_IO || status == LSM_NO_SPACE || status == LSM_CORRUPT;
    return !about_file || err->file[0] != '\0' || strchr(err->message, '\'') != NULL ||
           strchr(err->message, '/') != NULL;
}

enum driver_result driver_failed(struct driver *d, const char *what, lsm_status status,
                                 const lsm_error *err)
{
    d->saw_error = true;
    bool is_off = d->setup.disk != NULL && sim_is_stopped(d->setup.disk);
    if (!is_off && !d->setup.tolerant)
        return driver_wrong(d, "%s failed: %s: %s (%s:%d)", what, lsm_strerror(status),
                            err->message, err->source_file, err->source_line);
    if (!is_off && !error_is_told(status, err))
        return driver_wrong(d, "%s failed without saying where: %s: status %d, '%s', file '%s'",
                            what, lsm_strerror(status), (int)err->status, err->message, err->file);
    if (!is_off && status != LSM_IO && status != LSM_NO_SPACE && status != LSM_NO_MEMORY &&
        status != LSM_POISONED)
        return driver_wrong(d, "%s blames the wrong thing: %s: %s (%s:%d)", what,
                            lsm_strerror(status), err->message, err->source_file, err->source_line);
    if (status == LSM_POISONED)
        d->poisoned = true;
    return is_off ? DRIVER_STOPPED : DRIVER_OK;
}

void driver_reply(struct driver *d, uint64_t number)
{
    d->digest = hash_bytes(&number, sizeof number, d->digest);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void set_up(struct driver *d, const struct driver_setup *setup)
{
    d->setup = *setup;
    d->buffer_size = BUFFER_SIZE;
    d->buffer = test_alloc(BUFFER_SIZE);
    d->key = test_alloc(SCRIPT_KEY_MAX);
    d->limit = test_alloc(SCRIPT_KEY_MAX);
    d->prefix = test_alloc(SCRIPT_KEY_MAX);
    d->options = (lsm_options)LSM_OPTIONS_INIT;
    d->options.create = true;
    d->options.exclusive = setup->disk != NULL; /* every call of a simulated disk is counted */
    d->options.io = setup->disk == NULL ? setup->backend : NULL;
    d->options.shm_dir = setup->shm_dir;
    lsm_error err = {0};
    if (setup->options != NULL && lsm_options_parse(&d->options, setup->options, &err) != LSM_OK) {
        fprintf(stderr, "options '%s' are refused: %s\n", setup->options, err.message);
        exit(99);
    }
}

struct driver *driver_new(const struct driver_setup *setup)
{
    struct driver *d = test_alloc(sizeof *d);
    memset(d, 0, sizeof *d);
    set_up(d, setup);
    model_init(&d->model);
    return d;
}

void driver_free(struct driver *d)
{
    if (d == NULL)
        return;
    if (d->db != NULL)
        driver_abandon(d, false);
    model_release(&d->model);
    free(d->buffer);
    free(d->key);
    free(d->limit);
    free(d->prefix);
    free(d);
}

static enum driver_result release_held(struct driver *d)
{
    enum driver_result result = DRIVER_OK;
    for (size_t i = 0; i < SCRIPT_ITERATORS; i++)
        driver_iter_drop(d, &d->iters[i]);
    for (size_t i = 0; i < SCRIPT_PINS; i++) {
        enum driver_result one = driver_pin_drop(d, &d->pins[i]);
        result = one != DRIVER_OK ? one : result;
    }
    for (size_t i = 1; i <= SCRIPT_SNAPSHOTS; i++) {
        lsm_snapshot_release(d->db, d->snapshots[i].snapshot);
        d->snapshots[i].snapshot = NULL;
    }
    return result;
}

static lsm_status open_database(struct driver *d, const lsm_options *options, lsm_error *err)
{
    if (d->setup.disk == NULL)
        return lsm_open(d->setup.path, options, &d->db, err);
    if (d->io == NULL) {
        lsm_status status = sim_open(d->setup.disk, &d->io, err);
        if (status != LSM_OK)
            return status;
    }
    return db_open_on(d->io, d->setup.path, options, &d->db, err);
}

static void close_environment(struct driver *d)
{
    if (d->io != NULL)
        io_close(d->io);
    d->io = NULL;
}

/* After an open: each family of the model gets its handle again. */
static enum driver_result find_families(struct driver *d)
{
    for (size_t i = 0; i < SCRIPT_FAMILIES; i++) {
        struct driver_family *family = &d->families[i];
        lsm_error err = {0};
        if (i == 0)
            family->cf = lsm_cf_default(d->db);
        else if (family->id == 0 || !d->model.families[family->id].is_live)
            *family = (struct driver_family){0};
        else if (lsm_cf_open(d->db, d->model.families[family->id].name, &family->cf, &err) !=
                 LSM_OK)
            return driver_wrong(d, "family '%s' is gone: %s", d->model.families[family->id].name,
                                err.message);
    }
    return DRIVER_OK;
}

enum driver_result driver_open(struct driver *d)
{
    lsm_error err = {0};
    lsm_status status = open_database(d, &d->options, &err);
    if (status != LSM_OK) {
        close_environment(d);
        enum driver_result result = driver_failed(d, "open", status, &err);
        return result == DRIVER_OK ? DRIVER_STOPPED : result;
    }
    d->poisoned = false;
    enum driver_result result = driver_adopt(d);
    if (result == DRIVER_OK)
        result = find_families(d);
    d->was_opened = true;
    return result;
}

enum driver_result driver_close(struct driver *d)
{
    enum driver_result result = release_held(d);
    lsm_error err = {0};
    lsm_status status = lsm_close(d->db, &err);
    d->db = NULL;
    close_environment(d);
    if (status == LSM_OK && d->uncertain_count == 0)
        d->durable = d->model.sequence;
    if (status != LSM_OK && result == DRIVER_OK)
        result = driver_failed(d, "close", status, &err);
    return result;
}

void driver_abandon(struct driver *d, bool power)
{
    d->power_cut = d->power_cut || power;
    if (d->db == NULL)
        return;
    release_held(d);
    db_abandon(d->db);
    d->db = NULL;
    close_environment(d);
}

static enum driver_result reopen(struct driver *d, const struct script_op *op)
{
    enum driver_result result = driver_close(d);
    if (result != DRIVER_OK)
        return result;
    if ((op->flags & SCRIPT_F_READ_ONLY) != 0 && d->uncertain_count == 0) {
        lsm_options options = d->options;
        lsm_error err = {0};
        options.read_only = true;
        options.create = false;
        lsm_status status = open_database(d, &options, &err);
        if (status != LSM_OK) {
            close_environment(d);
            result = driver_failed(d, "read-only open", status, &err);
            return result == DRIVER_OK ? DRIVER_STOPPED : result;
        }
        result = find_families(d);
        if (result == DRIVER_OK)
            result = driver_verify(d);
        enum driver_result closed = driver_close(d);
        if (result != DRIVER_OK || closed != DRIVER_OK)
            return result != DRIVER_OK ? result : closed;
    }
    return driver_open(d);
}

static enum driver_result crash(struct driver *d, const struct script_op *op)
{
    static const enum sim_crash crashes[] = {SIM_CRASH_KILL, SIM_CRASH_LOSE_ALL, SIM_CRASH_KEEP_ALL,
                                             SIM_CRASH_RANDOM};
    bool power = d->setup.disk != NULL && op->power != SCRIPT_KILL;
    driver_abandon(d, power);
    if (d->setup.disk != NULL)
        sim_crash(d->setup.disk, crashes[op->power], op->seed);
    enum driver_result result = driver_open(d);
    return result == DRIVER_OK ? driver_verify(d) : result;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void model_apply(struct driver *d, const struct script_op *op)
{
    uint8_t *key = d->key;
    if (op->kind == SCRIPT_PUT)
        model_put(&d->model, d->families[op->family].id, script_key_bytes(&op->key, key),
                  op->value);
    if (op->kind == SCRIPT_DELETE)
        model_delete(&d->model, d->families[op->family].id, script_key_bytes(&op->key, key));
    for (uint32_t i = 0; i < op->entry_count; i++) {
        const struct script_entry *entry = &op->entries[i];
        if (entry->kind == SCRIPT_ENTRY_PUT)
            model_put(&d->model, d->families[entry->family].id, script_key_bytes(&entry->key, key),
                      entry->value);
        else
            model_delete(&d->model, d->families[entry->family].id,
                         script_key_bytes(&entry->key, key));
    }
}

/* Iterators and snapshots cannot follow a write that turns up later. */
static void drop_views(struct driver *d)
{
    for (size_t i = 0; i < SCRIPT_ITERATORS; i++)
        driver_iter_drop(d, &d->iters[i]);
    for (size_t i = 1; i <= SCRIPT_SNAPSHOTS; i++) {
        lsm_snapshot_release(d->db, d->snapshots[i].snapshot);
        d->snapshots[i].snapshot = NULL;
    }
}

/* Records in the model what a write did, or may have done. */
static enum driver_result write_done(struct driver *d, const struct script_op *op,
                                     lsm_status status, const lsm_error *err)
{
    bool is_sync = (op->flags & SCRIPT_F_SYNC) != 0;
    bool is_off = d->setup.disk != NULL && sim_is_stopped(d->setup.disk);
    if (status == LSM_OK && (!is_off || is_sync)) {
        model_write(&d->model, MODEL_THERE);
        model_apply(d, op);
        if (is_sync)
            d->durable = d->model.sequence;
        return is_off ? DRIVER_STOPPED : DRIVER_OK;
    }
    bool was_poisoned = d->poisoned;
    enum driver_result result =
        status == LSM_OK ? DRIVER_STOPPED : driver_failed(d, "write", status, err);
    if (result == DRIVER_WRONG || (status == LSM_POISONED && was_poisoned))
        return result; /* refused: not there, and never will be */
    if (d->uncertain_count == DRIVER_UNCERTAIN_MAX)
        return DRIVER_STOPPED;
    drop_views(d);
    uint64_t sequence = model_write(&d->model, MODEL_ABSENT);
    model_apply(d, op);
    d->uncertain[d->uncertain_count++] = sequence;
    return d->uncertain_count == DRIVER_UNCERTAIN_MAX ? DRIVER_STOPPED : result;
}

static enum driver_result write_one(struct driver *d, const struct script_op *op)
{
    if (d->families[op->family].cf == NULL)
        return DRIVER_OK;
    lsm_write_options options = {.durability =
                                     (op->flags & SCRIPT_F_SYNC) != 0 ? LSM_SYNC : LSM_WRITE};
    lsm_slice key = script_key_bytes(&op->key, d->key);
    lsm_cf *cf = d->families[op->family].cf;
    lsm_error err = {0};
    lsm_status status;
    if (op->kind == SCRIPT_PUT) {
        uint8_t *value = test_alloc(op->value.size);
        model_value_fill(op->value, value);
        status = lsm_put(d->db, cf, key, LSM_SLICE(value, op->value.size), &options, &err);
        free(value);
    } else
        status = lsm_delete(d->db, cf, key, &options, &err);
    return write_done(d, op, status, &err);
}

/* Adds one entry to the batch of the engine. */
static lsm_status batch_add(struct driver *d, lsm_batch *batch, const struct script_entry *entry,
                            lsm_error *err)
{
    lsm_cf *cf = d->families[entry->family].cf;
    lsm_slice key = script_key_bytes(&entry->key, d->key);
    if (entry->kind == SCRIPT_ENTRY_DELETE)
        return lsm_batch_delete(batch, cf, key, err);
    uint8_t *value = test_alloc(entry->value.size);
    model_value_fill(entry->value, value);
    lsm_status status = lsm_batch_put(batch, cf, key, LSM_SLICE(value, entry->value.size), err);
    free(value);
    return status;
}

/* Fills both the engine's batch and `plain`, the entries that no rollback took away. */
static lsm_status fill_batch(struct driver *d, const struct script_op *op, lsm_batch *batch,
                             struct script_op *plain, lsm_error *err)
{
    uint32_t saves[64];
    uint32_t save_count = 0;
    lsm_status status = LSM_OK;
    for (uint32_t i = 0; i < op->entry_count && status == LSM_OK; i++) {
        const struct script_entry *entry = &op->entries[i];
        if (entry->kind == SCRIPT_ENTRY_SAVE && save_count < 64) {
            status = lsm_batch_savepoint(batch, err);
            saves[save_count++] = plain->entry_count;
        } else if (entry->kind == SCRIPT_ENTRY_ROLLBACK && save_count > 0) {
            status = lsm_batch_rollback(batch, err);
            plain->entry_count = saves[--save_count];
        } else if (entry->kind <= SCRIPT_ENTRY_DELETE && d->families[entry->family].cf != NULL) {
            status = batch_add(d, batch, entry, err);
            plain->entries[plain->entry_count++] = *entry;
        }
    }
    return status;
}

/* Reads the key, so that the commit has something to validate, and writes it. */
static lsm_status txn_add(struct driver *d, lsm_txn *txn, const struct script_entry *entry,
                          lsm_error *err)
{
    lsm_cf *cf = d->families[entry->family].cf;
    lsm_slice key = script_key_bytes(&entry->key, d->key);
    size_t size;
    lsm_status status = lsm_txn_get_into(txn, cf, key, NULL, NULL, 0, &size, err);
    if (status != LSM_OK || entry->kind == SCRIPT_ENTRY_DELETE)
        return status != LSM_OK ? status : lsm_txn_delete(txn, cf, key, err);
    uint8_t *value = test_alloc(entry->value.size);
    model_value_fill(entry->value, value);
    status = lsm_txn_put(txn, cf, key, LSM_SLICE(value, entry->value.size), err);
    free(value);
    return status;
}

/* As fill_batch(). */
static lsm_status fill_txn(struct driver *d, const struct script_op *op, lsm_txn *txn,
                           struct script_op *plain, lsm_error *err)
{
    uint32_t saves[64];
    uint32_t save_count = 0;
    lsm_status status = LSM_OK;
    for (uint32_t i = 0; i < op->entry_count && status == LSM_OK; i++) {
        const struct script_entry *entry = &op->entries[i];
        if (entry->kind == SCRIPT_ENTRY_SAVE && save_count < 64) {
            status = lsm_txn_savepoint(txn, err);
            saves[save_count++] = plain->entry_count;
        } else if (entry->kind == SCRIPT_ENTRY_ROLLBACK && save_count > 0) {
            status = lsm_txn_rollback_to_savepoint(txn, err);
            plain->entry_count = saves[--save_count];
        } else if (entry->kind <= SCRIPT_ENTRY_DELETE && d->families[entry->family].cf != NULL) {
            status = txn_add(d, txn, entry, err);
            plain->entries[plain->entry_count++] = *entry;
        }
    }
    return status;
}

/* A batch with the flag SCRIPT_F_TXN. */
static enum driver_result write_txn(struct driver *d, const struct script_op *op)
{
    lsm_write_options options = {.durability =
                                     (op->flags & SCRIPT_F_SYNC) != 0 ? LSM_SYNC : LSM_WRITE};
    lsm_txn_options serializable = LSM_TXN_OPTIONS_INIT;
    serializable.isolation = LSM_TXN_SERIALIZABLE;
    struct script_op plain = *op;
    plain.entries = test_alloc((op->entry_count + 1) * sizeof *plain.entries);
    plain.entry_count = 0;
    lsm_txn *txn = NULL;
    lsm_error err = {0};
    enum driver_result result = DRIVER_OK;
    lsm_status status = lsm_txn_begin(d->db, &serializable, &txn, &err);
    if (status == LSM_OK)
        status = fill_txn(d, op, txn, &plain, &err);
    if (status != LSM_OK)
        result = driver_failed(d, "filling a transaction", status, &err);
    else if ((op->flags & SCRIPT_F_ABORT) == 0) {
        status = lsm_txn_commit(txn, &options, &err);
        if (plain.entry_count > 0)
            result = write_done(d, &plain, status, &err);
        else if (status != LSM_OK)
            result = driver_failed(d, "committing an empty transaction", status, &err);
    }
    lsm_txn_free(txn);
    free(plain.entries);
    return result;
}

/* Fills both the ingest and `plain`, the entries that it takes. */
static lsm_status fill_ingest(struct driver *d, const struct script_op *op, lsm_ingest *ingest,
                              struct script_op *plain, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (uint32_t i = 0; i < op->entry_count && status == LSM_OK; i++) {
        const struct script_entry *entry = &op->entries[i];
        lsm_cf *cf = entry->kind <= SCRIPT_ENTRY_DELETE ? d->families[entry->family].cf : NULL;
        if (cf == NULL)
            continue;
        lsm_slice key = script_key_bytes(&entry->key, d->key);
        if (entry->kind == SCRIPT_ENTRY_DELETE) {
            status = lsm_ingest_delete(ingest, cf, key, err);
        } else {
            uint8_t *value = test_alloc(entry->value.size);
            model_value_fill(entry->value, value);
            status = lsm_ingest_put(ingest, cf, key, LSM_SLICE(value, entry->value.size), err);
            free(value);
        }
        plain->entries[plain->entry_count++] = *entry;
    }
    return status;
}

/* A batch with the flag SCRIPT_F_INGEST, which is durable when it is there. */
static enum driver_result write_ingest(struct driver *d, const struct script_op *op)
{
    lsm_ingest_options options = LSM_INGEST_OPTIONS_INIT;
    options.memory_limit = (size_t)64 << 10;
    struct script_op plain = *op;
    plain.flags |= SCRIPT_F_SYNC;
    plain.entries = test_alloc((op->entry_count + 1) * sizeof *plain.entries);
    plain.entry_count = 0;
    lsm_ingest *ingest = NULL;
    lsm_error err = {0};
    enum driver_result result = DRIVER_OK;
    lsm_status status = lsm_ingest_begin(d->db, &options, &ingest, &err);
    if (status == LSM_OK)
        status = fill_ingest(d, op, ingest, &plain, &err);
    if (status != LSM_OK)
        result = driver_failed(d, "filling an ingest", status, &err);
    else if ((op->flags & SCRIPT_F_ABORT) == 0) {
        status = lsm_ingest_commit(ingest, &err);
        if (plain.entry_count > 0)
            result = write_done(d, &plain, status, &err);
        else if (status != LSM_OK)
            result = driver_failed(d, "committing an empty ingest", status, &err);
    }
    lsm_ingest_free(ingest);
    free(plain.entries);
    return result;
}

static enum driver_result write_batch(struct driver *d, const struct script_op *op)
{
    if ((op->flags & SCRIPT_F_TXN) != 0)
        return write_txn(d, op);
    if ((op->flags & SCRIPT_F_INGEST) != 0)
        return write_ingest(d, op);
    lsm_write_options options = {.durability =
                                     (op->flags & SCRIPT_F_SYNC) != 0 ? LSM_SYNC : LSM_WRITE};
    struct script_op plain = *op;
    plain.entries = test_alloc((op->entry_count + 1) * sizeof *plain.entries);
    plain.entry_count = 0;
    lsm_batch *batch = NULL;
    lsm_error err = {0};
    enum driver_result result = DRIVER_OK;
    lsm_status status = lsm_batch_new(&batch, &err);
    if (status == LSM_OK)
        status = fill_batch(d, op, batch, &plain, &err);
    if (status != LSM_OK)
        result = driver_failed(d, "filling a batch", status, &err);
    else if (lsm_batch_count(batch) != plain.entry_count)
        result = driver_wrong(d, "batch holds %u entries instead of %u", lsm_batch_count(batch),
                              plain.entry_count);
    else {
        status = lsm_write(d->db, batch, &options, &err);
        if (plain.entry_count > 0)
            result = write_done(d, &plain, status, &err);
        else if (status != LSM_OK) /* an empty batch promises nothing */
            result = driver_failed(d, "writing an empty batch", status, &err);
    }
    lsm_batch_free(batch);
    free(plain.entries);
    return result;
}

/* ---- families -------------------------------------------------------------------------------- */

static enum driver_result family_uncertain(struct driver *d, uint32_t family, const char *before,
                                           const char *after, enum driver_result result)
{
    if (d->rename_count == DRIVER_RENAMES_MAX)
        return DRIVER_STOPPED;
    struct driver_rename *r = &d->renames[d->rename_count++];
    r->family = family;
    snprintf(r->before, sizeof r->before, "%s", before);
    snprintf(r->after, sizeof r->after, "%s", after);
    return result;
}

/* A change that was acknowledged settles what earlier ones left open. */
static void family_certain(struct driver *d, uint32_t family)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->rename_count; i++) {
        if (d->renames[i].family != family)
            d->renames[kept++] = d->renames[i];
    }
    d->rename_count = kept;
}

static enum driver_result family_create(struct driver *d, const struct script_op *op)
{
    struct driver_family *family = &d->families[op->family];
    char name[32];
    if (family->cf != NULL)
        return DRIVER_OK;
    snprintf(name, sizeof name, "family-%u", op->name);
    lsm_error err = {0};
    lsm_cf *cf = NULL;
    bool is_taken = model_family_find(&d->model, name) != UINT32_MAX;
    lsm_status status = lsm_cf_create(d->db, name, &d->options.cf, &cf, &err);
    if (is_taken && status != LSM_EXISTS && !d->saw_error)
        return driver_wrong(d, "family '%s' made twice: %s", name, lsm_strerror(status));
    if (is_taken)
        return DRIVER_OK;
    if (status == LSM_OK) {
        *family = (struct driver_family){cf, model_family_create(&d->model, name)};
        return DRIVER_OK;
    }
    enum driver_result result = driver_failed(d, "cf_create", status, &err);
    if (result == DRIVER_WRONG)
        return result;
    uint32_t id = model_family_create(&d->model, name);
    model_family_drop(&d->model, id);
    return family_uncertain(d, id, "", name, result);
}

static enum driver_result family_drop(struct driver *d, const struct script_op *op)
{
    struct driver_family *family = &d->families[op->family];
    if (family->cf == NULL || op->family == 0)
        return DRIVER_OK;
    lsm_error err = {0};
    lsm_status status = lsm_cf_drop(d->db, family->cf, &err);
    enum driver_result result = DRIVER_OK;
    if (status != LSM_OK) {
        result = driver_failed(d, "cf_drop", status, &err);
        if (result == DRIVER_WRONG)
            return result;
        result = family_uncertain(d, family->id, d->model.families[family->id].name, "", result);
    } else {
        model_family_drop(&d->model, family->id);
        family_certain(d, family->id);
    }
    *family = (struct driver_family){0};
    return result;
}

static enum driver_result family_rename(struct driver *d, const struct script_op *op)
{
    struct driver_family *family = &d->families[op->family];
    char name[32];
    if (family->cf == NULL || op->family == 0)
        return DRIVER_OK;
    snprintf(name, sizeof name, "family-%u", op->name);
    lsm_error err = {0};
    uint32_t holder = model_family_find(&d->model, name);
    lsm_status status = lsm_cf_rename(d->db, family->cf, name, &err);
    if (holder == family->id && (status == LSM_OK || status == LSM_EXISTS))
        return DRIVER_OK;
    if (holder != UINT32_MAX && holder != family->id)
        return status == LSM_EXISTS || d->saw_error
                   ? DRIVER_OK
                   : driver_wrong(d, "renamed to '%s', which is taken: %s", name,
                                  lsm_strerror(status));
    if (status != LSM_OK) {
        enum driver_result result = driver_failed(d, "cf_rename", status, &err);
        if (result == DRIVER_WRONG)
            return result;
        return family_uncertain(d, family->id, d->model.families[family->id].name, name, result);
    }
    if (strcmp(lsm_cf_name(family->cf), name) != 0)
        return driver_wrong(d, "renamed to '%s', but it is called '%s'", name,
                            lsm_cf_name(family->cf));
    model_family_rename(&d->model, family->id, name);
    family_certain(d, family->id);
    return DRIVER_OK;
}

/* ---- maintenance ----------------------------------------------------------------------------- */

static bool count_down(void *context, uint64_t done, uint64_t total)
{
    uint32_t *left = context;
    (void)done;
    (void)total;
    return (*left)-- > 0;
}

static enum driver_result compact(struct driver *d, const struct script_op *op)
{
    if (d->families[op->family].cf == NULL)
        return DRIVER_OK;
    uint32_t left = op->count;
    lsm_compact_options options = {.force_bottom = (op->flags & SCRIPT_F_FORCE) != 0};
    if ((op->flags & SCRIPT_F_KEY) != 0)
        options.first = script_key_bytes(&op->key, d->key);
    if ((op->flags & SCRIPT_F_LIMIT) != 0)
        options.limit = script_key_bytes(&op->limit, d->limit);
    if (options.first.data != NULL && options.limit.data != NULL &&
        slice_compare(options.first, options.limit) > 0) {
        lsm_slice first = options.first;
        options.first = options.limit;
        options.limit = first;
    }
    if ((op->flags & SCRIPT_F_CANCEL) != 0) {
        options.progress = count_down;
        options.progress_context = &left;
    }
    lsm_error err = {0};
    lsm_status status = lsm_compact_range(d->db, d->families[op->family].cf, &options, &err);
    if (status == LSM_OK || ((op->flags & SCRIPT_F_CANCEL) != 0 && status == LSM_CANCELLED))
        return DRIVER_OK;
    return driver_failed(d, "compact_range", status, &err);
}

static enum driver_result maintain(struct driver *d, const struct script_op *op)
{
    lsm_error err = {0};
    lsm_status status = LSM_OK;
    if (op->kind == SCRIPT_FLUSH)
        status = lsm_flush(d->db, &err);
    else if (op->kind == SCRIPT_SYNC)
        status = lsm_sync(d->db, &err);
    else
        status = lsm_wait_idle(d->db, &err);
    if (status != LSM_OK)
        return driver_failed(d,
                             op->kind == SCRIPT_FLUSH  ? "flush"
                             : op->kind == SCRIPT_SYNC ? "sync"
                                                       : "wait_idle",
                             status, &err);
    if (op->kind != SCRIPT_WAIT_IDLE)
        d->durable = d->model.sequence;
    return DRIVER_OK;
}

static enum driver_result take_snapshot(struct driver *d, const struct script_op *op)
{
    struct driver_snapshot *s = &d->snapshots[op->snapshot];
    if (op->snapshot == 0)
        return DRIVER_OK;
    lsm_snapshot_release(d->db, s->snapshot);
    s->snapshot = NULL;
    if (op->kind == SCRIPT_UNSNAPSHOT || d->uncertain_count > 0)
        return DRIVER_OK;
    lsm_error err = {0};
    lsm_status status = lsm_snapshot_acquire(d->db, &s->snapshot, &err);
    s->sequence = d->model.sequence;
    return status == LSM_OK ? DRIVER_OK : driver_failed(d, "snapshot", status, &err);
}

/* ---- running --------------------------------------------------------------------------------- */

enum driver_result driver_step(struct driver *d, const struct script_op *op)
{
    if (d->db == NULL)
        return DRIVER_STOPPED;
    switch (op->kind) {
    case SCRIPT_PUT:
    case SCRIPT_DELETE:
        return write_one(d, op);
    case SCRIPT_BATCH:
        return write_batch(d, op);
    case SCRIPT_GET:
    case SCRIPT_GET_INTO:
    case SCRIPT_MULTI_GET:
    case SCRIPT_PIN:
    case SCRIPT_UNPIN:
        return driver_read_op(d, op);
    case SCRIPT_SNAPSHOT:
    case SCRIPT_UNSNAPSHOT:
        return take_snapshot(d, op);
    case SCRIPT_CF_CREATE:
        return family_create(d, op);
    case SCRIPT_CF_DROP:
        return family_drop(d, op);
    case SCRIPT_CF_RENAME:
        return family_rename(d, op);
    case SCRIPT_FLUSH:
    case SCRIPT_SYNC:
    case SCRIPT_WAIT_IDLE:
        return maintain(d, op);
    case SCRIPT_COMPACT:
        return compact(d, op);
    case SCRIPT_REOPEN:
        return reopen(d, op);
    case SCRIPT_CRASH:
        return crash(d, op);
    case SCRIPT_CHECK:
        return driver_verify(d);
    default:
        return driver_iter_op(d, op);
    }
}

enum driver_result driver_run(struct driver *d, const struct script *s, size_t first, size_t limit,
                              size_t *at)
{
    for (size_t i = first; i < limit && i < s->count; i++) {
        if (at != NULL)
            *at = i;
        enum driver_result result = driver_step(d, &s->ops[i]);
        if (result == DRIVER_OK && d->setup.disk != NULL && sim_is_stopped(d->setup.disk))
            result = DRIVER_STOPPED;
        if (result != DRIVER_OK)
            return result;
    }
    return DRIVER_OK;
}

/* ---- looking --------------------------------------------------------------------------------- */

const char *driver_message(const struct driver *d)
{
    return d->message;
}

uint64_t driver_digest(const struct driver *d)
{
    return d->digest;
}

lsm_db *driver_db(struct driver *d)
{
    return d->db;
}

const struct model *driver_model(const struct driver *d)
{
    return &d->model;
}

bool driver_saw_error(const struct driver *d)
{
    return d->saw_error;
}

void driver_set_tolerant(struct driver *d, bool tolerant)
{
    d->setup.tolerant = tolerant;
}

uint64_t driver_oracle_hash(const struct driver *d)
{
    uint64_t numbers[] = {d->model.sequence, d->power_cut ? d->durable : 0, d->power_cut,
                          d->uncertain_count, d->rename_count};
    uint64_t hash = hash_bytes(numbers, sizeof numbers, 0);
    hash = hash_bytes(d->uncertain, d->uncertain_count * sizeof d->uncertain[0], hash);
    for (uint32_t i = 0; i < d->model.family_count; i++) {
        const struct model_family *family = &d->model.families[i];
        hash = hash_bytes(family->name, strlen(family->name), hash + family->is_live);
    }
    return hash;
}

static void copy_model(struct model *to, const struct model *from)
{
    *to = *from;
    to->families = test_alloc(from->family_count * sizeof *to->families);
    memcpy(to->families, from->families, from->family_count * sizeof *to->families);
    to->fates = test_alloc(from->fate_capacity);
    if (from->sequence > 0)
        memcpy(to->fates, from->fates, from->sequence + 1);
    to->versions = test_alloc(from->count * sizeof(to->versions[0]));
    to->capacity = from->count;
    for (size_t i = 0; i < from->count; i++) {
        struct model_version *v = test_alloc(sizeof *v);
        *v = *from->versions[i];
        void *key = test_alloc(v->key.size);
        if (v->key.size > 0)
            memcpy(key, v->key.data, v->key.size);
        v->key.data = key;
        to->versions[i] = v;
    }
}

struct driver *driver_fork(const struct driver *d, struct sim_disk *disk)
{
    struct driver *copy = test_alloc(sizeof *copy);
    struct driver_setup setup = d->setup;
    setup.disk = disk;
    *copy = *d;
    copy->db = NULL;
    copy->io = NULL;
    set_up(copy, &setup);
    copy_model(&copy->model, &d->model);
    return copy;
}
