/*
 * Committing: a record is made in private memory, checksum and all, and copied into the ring whole.
 * Nothing here waits, and nothing here does I/O but where the stage file cannot be mapped.
 */
#include "engine/wal/wal_private.h"

size_t wal_max_batch(const struct wal *wal)
{
    uint64_t half = wal->stage.size / 2;
    return (size_t)(half < LOG_RECORD_MAX ? half : LOG_RECORD_MAX) - WAL_RECORD_OVERHEAD;
}

static bool has_room(const struct wal *wal, size_t record_size)
{
    /* Pairs with the release in wal_write_finish_locked(): the log writer has read what it gives.
     */
    uint64_t reusable = atomic_load_explicit(&wal->layout->commit.reusable, memory_order_acquire);
    return record_size <= wal->stage.size - (wal->tail - reusable);
}

bool wal_has_room_locked(const struct wal *wal, size_t size)
{
    assert(size <= wal_max_batch(wal));
    return has_room(wal, log_record_size(size));
}

/*
 * Pages that the kernel wrote back are write-protected, and the first store into each costs a slow
 * fault. Dropping their table entries a stretch ahead makes it a quick one; the page cache keeps
 * the bytes, so it does not matter what is still in use there.
 */
static void renew(struct wal *wal)
{
    size_t offset = (size_t)((wal->renew_at + WAL_STRETCH) % wal->stage.size);
    size_t here = (size_t)wal->stage.size - offset;
    if (here > WAL_STRETCH)
        here = WAL_STRETCH;
    io_mapping_renew(wal->stage.mapping, offset, here);
    if (here < WAL_STRETCH)
        io_mapping_renew(wal->stage.mapping, 0, WAL_STRETCH - here);
    wal->renew_at += WAL_STRETCH;
}

lsm_status wal_stage_locked(struct wal *wal, uint64_t sequence, const lsm_slice *pieces,
                            size_t count, uint64_t *end, lsm_error *err)
{
    size_t batch_size = 0;
    for (size_t i = 0; i < count; i++)
        batch_size += pieces[i].size;
    size_t size = log_record_size(batch_size);
    assert(has_room(wal, size));
    buffer_clear(&wal->scratch);
    if (!buffer_reserve(&wal->scratch, size))
        return lsm_fail_memory(err, size);

    struct log_record record = {
        .position = wal->tail,
        .sequence = sequence,
        .synced = atomic_load_explicit(&wal->layout->commit.durable, memory_order_relaxed),
        .previous = wal->tail_chain,
    };
    log_record_encode(wal->scratch.data, &record, pieces, count, wal->seed);
    wal_stage_copy_in(&wal->stage, wal->tail, wal->scratch.data, size);
    if (wal->stage.mapping == NULL) {
        lsm_status status = wal_stage_write(&wal->stage, wal->tail, size, err);
        if (status != LSM_OK)
            return status;
    }
    wal->tail += size;
    wal->tail_chain = record.checksum;
    while (wal->tail >= wal->renew_at)
        renew(wal);
    *end = wal->tail;
    return LSM_OK;
}

void wal_publish_locked(struct wal *wal)
{
    struct shm_commit *commit = &wal->layout->commit;
    commit->chain = wal->tail_chain;
    /* Pairs with the acquire in wal_write_begin_locked(): the log writer sees the bytes. */
    atomic_store_explicit(&commit->staged, wal->tail, memory_order_release);
}
