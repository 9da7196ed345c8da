/*
 * Committing: a record is made in the ring where it lies there in one piece, else in private memory
 * and copied. Nobody looks at the ring behind `staged` but after a death, and then the checksum,
 * which the chain makes one of its place and life, tells a whole record from a part.
 * Nothing here waits, and nothing here does I/O but where the stage file cannot be mapped.
 *
 * Where the log ends, and the checksum of the last record, stand in shared memory and are read anew
 * each time: whoever had the append lock in between has moved them.
 */
#include "engine/wal/wal_private.h"

#include "engine/base/step.h"

size_t wal_max_batch(const struct wal *wal)
{
    uint64_t half = wal->stage.size / 2;
    return (size_t)(half < LOG_RECORD_MAX ? half : LOG_RECORD_MAX) - WAL_RECORD_OVERHEAD;
}

/* Only the holder of the append lock stores it. */
static uint64_t tail(const struct wal *wal)
{
    return atomic_load_explicit(&wal->layout->commit.staged, memory_order_relaxed);
}

static uint64_t reusable(const struct wal *wal)
{
    /* Pairs with the release of the log writer, who has read what it gives. */
    return atomic_load_explicit(&wal->layout->commit.reusable, memory_order_acquire);
}

static bool has_room(const struct wal *wal, size_t record_size)
{
    return record_size <= wal->stage.size - (tail(wal) - reusable(wal));
}

bool wal_has_room_locked(const struct wal *wal, size_t size)
{
    assert(size <= wal_max_batch(wal));
    return has_room(wal, log_record_size(size));
}

uint64_t wal_ring_half(const struct wal *wal)
{
    return wal->stage.size / 2;
}

uint32_t wal_ring_ppm(const struct wal *wal)
{
    uint64_t end = tail(wal), from = reusable(wal), half = wal_ring_half(wal);
    uint64_t used = end > from ? end - from : 0;
    if (__builtin_expect(used <= half, 1))
        return 0;
    used -= half;
    return (uint32_t)(used < half ? used * 1000000u / half : 1000000u);
}

/*
 * The first store into a page that is not mapped, or that the kernel wrote back since, costs
 * several times a short commit. The thread that writes the log sees to that a part of the ring
 * ahead of the tail is mapped to be stored to, but not before a stretch was written: such pages go
 * to disk some time. Page tables are a process's own, so each one's thread does it.
 */
void wal_populate_ahead(struct wal *wal)
{
    const struct wal_stage *stage = &wal->stage;
    if (stage->mapping == NULL || stage->size < WAL_POPULATE_FROM)
        return;
    uint64_t staged = tail(wal);
    uint64_t limit = staged - staged % WAL_STRETCH + stage->size / WAL_AHEAD_PART;
    if (wal->populate_from == 0)
        wal->populate_from = staged + WAL_STRETCH;
    if (staged < wal->populate_from || wal->populated >= limit)
        return;
    uint64_t first = wal->populated > staged ? wal->populated : staged;
    size_t offset = (size_t)(first % stage->size), size = (size_t)(limit - first);
    size_t here = size < stage->size - offset ? size : (size_t)(stage->size - offset);
    io_mapping_populate(stage->mapping, offset, here);
    if (here < size)
        io_mapping_populate(stage->mapping, 0, size - here);
    wal->populated = limit;
}

/* NULL: the record is to be made elsewhere. */
static uint8_t *place_in_ring(const struct wal *wal, uint64_t position, size_t size)
{
    size_t at = (size_t)(position % wal->stage.size);
    return wal->stage.mapping != NULL && size <= wal->stage.size - at ? wal->stage.ring + at : NULL;
}

/* Makes the record in the scratch buffer and copies it to the ring. */
static __attribute__((noinline)) lsm_status put_record(struct wal *wal, struct log_record *record,
                                                       size_t size, const lsm_slice *pieces,
                                                       size_t count, lsm_error *err)
{
    struct wal_stage *stage = &wal->stage;
    uint64_t position = record->position;
    buffer_clear(&wal->scratch);
    if (!buffer_reserve(&wal->scratch, size))
        return lsm_fail_memory(err, size);
    log_record_encode(wal->scratch.data, record, pieces, count, wal->seed);
    if (stage->mapping != NULL) {
        wal_stage_copy_in(stage, position, wal->scratch.data, size);
        return LSM_OK;
    }
    lsm_status status = wal_stage_refresh(stage, reusable(wal), position, size, err);
    if (status != LSM_OK)
        return status;
    wal_stage_copy_in(stage, position, wal->scratch.data, size);
    status = wal_stage_write(stage, position, size, err);
    if (status == LSM_OK)
        stage->held_limit = position + size;
    return status;
}

lsm_status wal_stage_locked(struct wal *wal, uint64_t sequence, const lsm_slice *pieces,
                            size_t count, uint64_t *end, lsm_error *err)
{
    const struct shm_commit *commit = &wal->layout->commit;
    size_t batch_size = 0;
    for (size_t i = 0; i < count; i++)
        batch_size += pieces[i].size;
    size_t size = log_record_size(batch_size);
    assert(has_room(wal, size));
    struct log_record record = {
        .position = tail(wal),
        .sequence = sequence,
        .synced = atomic_load_explicit(&commit->durable, memory_order_relaxed),
        .previous = commit->chain,
    };
    uint8_t *at = place_in_ring(wal, record.position, size);
    if (__builtin_expect(at != NULL, 1)) {
        log_record_encode(at, &record, pieces, count, wal->seed);
    } else {
        lsm_status status = put_record(wal, &record, size, pieces, count, err);
        if (status != LSM_OK)
            return status;
    }
    wal->staged_end = record.position + size;
    wal->staged_chain = record.checksum;
    *end = wal->staged_end;
    return LSM_OK;
}

void wal_publish_locked(struct wal *wal)
{
    struct shm_commit *commit = &wal->layout->commit;
    assert(wal->staged_end > tail(wal));
    commit->chain = wal->staged_chain;
    STEP("log: chain told");
    /* Pairs with the acquire in wal_write_begin_locked(): the log writer sees the bytes. */
    atomic_store_explicit(&commit->staged, wal->staged_end, memory_order_release);
}

/* ---- after a death --------------------------------------------------------------------------- */

/* The dead owner may have stored the chain and not the end. The last record ends in its checksum.
 */
lsm_status wal_append_takeover_locked(struct wal *wal, lsm_error *err)
{
    struct shm_commit *commit = &wal->layout->commit;
    uint64_t end = tail(wal), chain = wal->log->resume_chain;
    if (end != wal->log->resume) {
        uint8_t bytes[sizeof chain];
        lsm_status status =
            wal_stage_copy_out(&wal->stage, end - sizeof bytes, bytes, sizeof bytes, err);
        if (status != LSM_OK)
            return status;
        chain = bytes_get_u64(bytes);
    }
    commit->chain = chain;
    return LSM_OK;
}

lsm_status wal_stage_again_locked(struct wal *wal, bool *found, uint64_t *sequence,
                                  lsm_slice *batch, uint64_t *end, lsm_error *err)
{
    uint8_t head[LOG_RECORD_HEAD];
    uint64_t position = tail(wal);
    size_t size;
    struct log_record record;
    *found = false;
    lsm_status status = wal_stage_copy_out(&wal->stage, position, head, sizeof head, err);
    if (status != LSM_OK)
        return status;
    if (log_record_peek(head, &size) != LOG_RECORD_OK || !has_room(wal, size))
        return LSM_OK;
    buffer_clear(&wal->scratch);
    if (!buffer_reserve(&wal->scratch, size))
        return lsm_fail_memory(err, size);
    status = wal_stage_copy_out(&wal->stage, position, wal->scratch.data, size, err);
    if (status != LSM_OK)
        return status;
    enum log_record_fault fault =
        log_record_decode((lsm_slice){wal->scratch.data, size}, position, wal->seed, &record);
    if (fault != LOG_RECORD_OK || record.previous != wal->layout->commit.chain)
        return LSM_OK;
    wal->staged_end = position + size;
    wal->staged_chain = record.checksum;
    *found = true;
    *sequence = record.sequence;
    *batch = record.batch;
    *end = wal->staged_end;
    return LSM_OK;
}
