/*
 * A batch in memory is the payload of its log record, so committing it is a copy. Beside the bytes
 * it keeps the distinct families it names, to check them without walking the entries.
 */
#include "engine/db/batch_private.h"
#include "engine/db/db_private.h"

#include "engine/base/memory.h"

struct savepoint {
    size_t size;
    uint32_t count;
    size_t family_count;
};

struct lsm_batch {
    struct buffer bytes;
    struct buffer families;   /* lsm_cf *[], distinct, in order of first use */
    struct buffer savepoints; /* struct savepoint[] */
};

static lsm_cf **batch_families(const lsm_batch *batch, size_t *count)
{
    *count = batch->families.size / sizeof(lsm_cf *);
    return (lsm_cf **)(void *)batch->families.data;
}

lsm_slice batch_bytes(const lsm_batch *batch)
{
    return buffer_slice(&batch->bytes);
}

lsm_status batch_check_entry(lsm_slice key, lsm_slice value, lsm_error *err)
{
    lsm_status status = db_check_key(key, err);
    if (status != LSM_OK)
        return status;
    if (value.data == NULL && value.size > 0)
        return lsm_fail(err, LSM_INVALID, "the value's data is NULL but its size is %zu",
                        value.size);
    if (value.size > LSM_MAX_VALUE_SIZE) {
        status = lsm_fail(err, LSM_TOO_LARGE, "the value has %zu bytes, the limit is %zu",
                          value.size, LSM_MAX_VALUE_SIZE);
        status_numbers(err, LSM_MAX_VALUE_SIZE, value.size);
    }
    return status;
}

lsm_status batch_check_families(lsm_db *db, const lsm_batch *batch, lsm_error *err)
{
    if (batch == NULL)
        return lsm_fail(err, LSM_INVALID, "the batch is NULL");
    size_t count;
    lsm_cf **families = batch_families(batch, &count);
    for (size_t i = 0; i < count; i++) {
        uint32_t id;
        lsm_status status = db_check_cf(db, families[i], &id, err);
        if (status != LSM_OK)
            return status;
    }
    return LSM_OK;
}

LSM_API lsm_status lsm_batch_new(lsm_batch **batch, lsm_error *err)
{
    if (batch == NULL)
        return lsm_fail(err, LSM_INVALID, "the place for the batch is NULL");
    lsm_batch *b = mem_alloc_zeroed(sizeof *b);
    if (b == NULL)
        return lsm_fail_memory(err, sizeof *b);
    buffer_append_u32(&b->bytes, 0);
    if (b->bytes.failed) {
        lsm_batch_free(b);
        return lsm_fail_memory(err, BATCH_HEADER_SIZE);
    }
    *batch = b;
    return LSM_OK;
}

LSM_API void lsm_batch_free(lsm_batch *batch)
{
    if (batch == NULL)
        return;
    buffer_release(&batch->bytes);
    buffer_release(&batch->families);
    buffer_release(&batch->savepoints);
    mem_free(batch);
}

LSM_API void lsm_batch_clear(lsm_batch *batch)
{
    batch->bytes.size = BATCH_HEADER_SIZE;
    bytes_put_u32(batch->bytes.data, 0);
    buffer_clear(&batch->families);
    buffer_clear(&batch->savepoints);
}

static bool remember_family(lsm_batch *batch, lsm_cf *cf)
{
    size_t count;
    lsm_cf **families = batch_families(batch, &count);
    for (size_t i = 0; i < count; i++) {
        if (families[i] == cf)
            return true;
    }
    buffer_append(&batch->families, &cf, sizeof cf);
    bool remembered = !batch->families.failed;
    batch->families.failed = false;
    return remembered;
}

static lsm_status batch_add(lsm_batch *batch, enum entry_type type, lsm_cf *cf, lsm_slice key,
                            lsm_slice value, lsm_error *err)
{
    if (batch == NULL)
        return lsm_fail(err, LSM_INVALID, "the batch is NULL");
    if (cf != NULL && cf->magic != DB_MAGIC)
        return lsm_fail(err, LSM_INVALID, "the column family is not one that the library gave");
    lsm_status status = batch_check_entry(key, value, err);
    if (status != LSM_OK)
        return status;
    if (lsm_batch_count(batch) >= LSM_MAX_BATCH_COUNT)
        return lsm_fail(err, LSM_TOO_LARGE, "a batch holds at most %" PRIu32 " entries",
                        LSM_MAX_BATCH_COUNT);
    size_t wanted = key.size + value.size;
    if (cf != NULL && !remember_family(batch, cf))
        return lsm_fail_memory(err, sizeof cf);
    batch_append(&batch->bytes, type, cf == NULL ? 0 : cf->id, key, value);
    if (batch->bytes.failed) {
        batch->bytes.failed = false;
        return lsm_fail_memory(err, wanted);
    }
    return LSM_OK;
}

LSM_API lsm_status lsm_batch_put(lsm_batch *batch, lsm_cf *cf, lsm_slice key, lsm_slice value,
                                 lsm_error *err)
{
    return batch_add(batch, ENTRY_PUT, cf, key, value, err);
}

LSM_API lsm_status lsm_batch_delete(lsm_batch *batch, lsm_cf *cf, lsm_slice key, lsm_error *err)
{
    return batch_add(batch, ENTRY_DELETE, cf, key, (lsm_slice){NULL, 0}, err);
}

LSM_API uint32_t lsm_batch_count(const lsm_batch *batch)
{
    return batch_count(buffer_slice(&batch->bytes));
}

LSM_API size_t lsm_batch_size(const lsm_batch *batch)
{
    return batch->bytes.size;
}

LSM_API lsm_status lsm_batch_savepoint(lsm_batch *batch, lsm_error *err)
{
    if (batch == NULL)
        return lsm_fail(err, LSM_INVALID, "the batch is NULL");
    struct savepoint point = {.size = batch->bytes.size,
                              .count = lsm_batch_count(batch),
                              .family_count = batch->families.size};
    buffer_append(&batch->savepoints, &point, sizeof point);
    if (batch->savepoints.failed) {
        batch->savepoints.failed = false;
        return lsm_fail_memory(err, sizeof point);
    }
    return LSM_OK;
}

LSM_API lsm_status lsm_batch_rollback(lsm_batch *batch, lsm_error *err)
{
    if (batch == NULL)
        return lsm_fail(err, LSM_INVALID, "the batch is NULL");
    if (batch->savepoints.size < sizeof(struct savepoint))
        return lsm_fail(err, LSM_INVALID, "the batch has no savepoint to roll back to");
    struct savepoint point;
    batch->savepoints.size -= sizeof point;
    memcpy(&point, batch->savepoints.data + batch->savepoints.size, sizeof point);
    batch->bytes.size = point.size;
    bytes_put_u32(batch->bytes.data, point.count);
    batch->families.size = point.family_count;
    return LSM_OK;
}
