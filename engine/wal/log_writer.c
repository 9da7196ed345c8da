/*
 * From the ring into segments, in one write at a time: through the queue by the log writer, which
 * has time, and by a plain call where somebody waits for the sync that follows, which saves a
 * sleep.
 *
 * A write covers whole blocks of the file, from the one that holds `written` on, out of a private
 * buffer: a device must never read memory that somebody else may store into. Its first block has
 * been written before with less in it, which is why the next write has to wait for this one.
 *
 * Records never straddle two segments: before a write begins it is settled up to which record all
 * fit into the segment (`fits`), and it goes no further. `written` moves from the end of one record
 * to the end of another, so that a segment can be sealed there at any time; what a write that was
 * cut short has put behind it (`reached`) only this holder knows, and the next one writes it again.
 *
 * A sync pays for every block of the file that was never written before, since the file system has
 * to record it as well. So a write that somebody waits for and that goes beyond what is filled
 * takes a stretch of zeros along: one sync in some thousand pays for all.
 *
 * A segment that a write failed on is not written again. It is sealed where it was known to be
 * written, the next call begins another one there, and nothing is lost: the ring still holds the
 * rest. A failed sync is another matter, since nobody can say what it left undone.
 */
#include "engine/wal/wal_private.h"

#include "engine/base/step.h"

#include <errno.h>

/* ---- poison ---------------------------------------------------------------------------------- */

void wal_poison(struct wal *wal, const lsm_error *error)
{
    uint32_t number = error->os_errno != 0 ? (uint32_t)error->os_errno : EIO;
    uint32_t healthy = 0;
    atomic_compare_exchange_strong(&wal->layout->ctl.poisoned, &healthy, number);
}

lsm_status wal_check_poison(const struct wal *wal, lsm_error *err)
{
    int number = (int)atomic_load_explicit(&wal->layout->ctl.poisoned, memory_order_acquire);
    if (number == 0)
        return LSM_OK;
    lsm_status status =
        lsm_fail_errno(err, number,
                       "an earlier sync of the log in '%s' failed, so nothing more is written; "
                       "close and open the database again",
                       io_dir_path(wal->dir.dir));
    (void)status; /* of the errno; this is what it led to */
    if (err != NULL)
        err->status = LSM_POISONED;
    return LSM_POISONED;
}

/* ---- positions ------------------------------------------------------------------------------- */

static uint64_t staged_now(const struct wal *wal)
{
    /* Pairs with the release in wal_publish_locked(). */
    return atomic_load_explicit(&wal->layout->commit.staged, memory_order_acquire);
}

static void set_busy(struct wal *wal, uint32_t busy)
{
    atomic_store_explicit(&wal->layout->commit.sync_busy, busy, memory_order_release);
}

void wal_set_durable(struct wal *wal, uint64_t position)
{
    /* Pairs with the acquire of whoever waits for a sync. */
    atomic_store_explicit(&wal->layout->commit.durable, position, memory_order_release);
    shm_event_signal(&wal->layout->commit.flushed);
}

/* ---- sync ------------------------------------------------------------------------------------ */

/* Nobody can say what a failed sync of a file or of the directory left undone. */
static lsm_status poison_unless_ok(struct wal *wal, lsm_status status, const lsm_error *failure,
                                   lsm_error *err)
{
    if (status == LSM_OK)
        return LSM_OK;
    wal_poison(wal, failure);
    status_copy(err, failure);
    return status;
}

lsm_status wal_sync_file(struct wal *wal, struct io_file *file, lsm_error *err)
{
    lsm_error failure;
    return poison_unless_ok(wal, io_file_sync(file, &failure), &failure, err);
}

lsm_status wal_sync_dir(struct wal *wal, lsm_error *err)
{
    lsm_error failure;
    return poison_unless_ok(wal, io_dir_sync(wal->dir.dir, &failure), &failure, err);
}

/* Makes all of the current segment that is written durable. */
static lsm_status sync_current(struct wal *wal, lsm_error *err)
{
    uint64_t written = wal_written(wal);
    if (wal_durable(wal) == written)
        return LSM_OK;
    set_busy(wal, 1);
    STEP("log: sync begins");
    lsm_status status = wal_sync_file(wal, wal->file, err);
    STEP("log: synced");
    set_busy(wal, 0);
    if (status == LSM_OK)
        wal_set_durable(wal, written);
    STEP("log: durable told");
    return status;
}

/* ---- which record fits ----------------------------------------------------------------------- */

/* The length of the record at `position`, which is in the ring. */
static lsm_status record_length(const struct wal *wal, uint64_t position, uint64_t staged,
                                size_t *size, lsm_error *err)
{
    uint8_t head[LOG_RECORD_HEAD];
    enum log_record_fault fault = LOG_RECORD_SHORT;
    if (staged - position >= LOG_RECORD_MIN) {
        lsm_status status = wal_stage_copy_out(&wal->stage, position, head, sizeof head, err);
        if (status != LSM_OK)
            return status;
        fault = log_record_peek(head, size);
    }
    if (fault == LOG_RECORD_OK && *size > staged - position)
        fault = LOG_RECORD_BAD_LENGTH;
    if (fault == LOG_RECORD_OK)
        return LSM_OK;
    lsm_status status =
        lsm_fail(err, LSM_CORRUPT, "the stage ring holds no record at position %" PRIu64 ": %s",
                 position, log_record_fault_text(fault));
    status_place(err, "STAGE", position % wal->stage.size);
    return status;
}

/* Moves *end, where a record ends, on over all that lie in [*end, limit) whole. */
static lsm_status skip_records(const struct wal *wal, uint64_t *end, uint64_t limit,
                               uint64_t staged, lsm_error *err)
{
    while (*end < limit) {
        size_t size;
        lsm_status status = record_length(wal, *end, staged, &size, err);
        if (status != LSM_OK)
            return status;
        if (size > limit - *end)
            break;
        *end += size;
    }
    return LSM_OK;
}

/* Position behind the last byte the current segment has room for. */
static uint64_t current_limit(const struct wal *wal)
{
    return wal->current.start + (wal->current.size - LOG_SEGMENT_HEADER);
}

/* Moves `fits` on towards `staged`. */
static lsm_status extend_fits(struct wal *wal, uint64_t staged, lsm_error *err)
{
    uint64_t limit = current_limit(wal);
    if (staged > limit)
        return skip_records(wal, &wal->fits, limit, staged, err);
    wal->fits = staged;
    return LSM_OK;
}

lsm_status wal_begin_next(struct wal *wal, bool recycle, lsm_error *err)
{
    wal->log->finished = true;
    lsm_status status = sync_current(wal, err);
    if (status != LSM_OK)
        return status;
    struct wal_beginning beginning = {
        .recycle = recycle && wal->log->recyclable && wal->current.size == wal->log->segment_size,
        .start = wal_written(wal),
        .previous = wal->current.number,
        .previous_start = wal->current.start,
    };
    return wal_begin_segment(wal, &beginning, err);
}

/* Afterwards the current segment takes at least one byte behind `written`. */
static lsm_status make_room(struct wal *wal, uint64_t staged, lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (!wal->log->finished && wal->fits < staged)
        status = extend_fits(wal, staged, err);
    if (status != LSM_OK || (!wal->log->finished && wal->fits > wal_written(wal)))
        return status;
    status = wal_begin_next(wal, true, err);
    if (status == LSM_OK)
        status = extend_fits(wal, staged, err);
    assert(status != LSM_OK || wal->fits > wal_written(wal));
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* How far the write of [offset, limit) of the file goes when it takes a stretch of zeros along. */
static uint64_t fill_limit(const struct wal *wal, uint64_t offset, uint64_t limit)
{
    if (limit <= wal->log->filled)
        return limit;
    uint64_t longer = offset + WAL_FILL_SIZE;
    if (longer > wal->current.size)
        longer = wal->current.size;
    return longer > limit ? longer : limit;
}

/* Reserves room for the file's bytes below `limit`, a step at a time, so that a write does not fail
 * for want of it and a short log takes little. */
static lsm_status reserve(struct wal *wal, uint64_t limit, lsm_error *err)
{
    uint64_t reserved = wal->log->reserved, wanted = wal_reserve_limit(wal, limit);
    if (limit <= reserved)
        return LSM_OK;
    if (wanted > wal->current.size)
        wanted = wal->current.size;
    lsm_status status = io_file_allocate(wal->file, reserved, wanted - reserved, err);
    STEP("log segment: room reserved");
    if (status == LSM_OK)
        wal->log->reserved = wanted;
    return status;
}

/* Copies the next stretch out of the ring, whole records if one fits into the buffer. */
static lsm_status fill_request(struct wal *wal, uint64_t staged, bool awaited, lsm_error *err)
{
    uint64_t first = wal_block_start(wal, wal->reached);
    uint64_t limit = wal->fits;
    if (limit - first > WAL_WRITE_SIZE)
        limit = first + WAL_WRITE_SIZE;
    size_t size = (size_t)(limit - first);
    size_t padded = (size + IO_ALIGNMENT - 1) & ~(IO_ALIGNMENT - 1);
    uint64_t offset = LOG_SEGMENT_HEADER + (first - wal->current.start);
    if (awaited)
        padded = (size_t)(fill_limit(wal, offset, offset + padded) - offset);
    lsm_status status = reserve(wal, offset + padded, err);
    if (status == LSM_OK)
        status = wal_stage_copy_out(&wal->stage, first, wal->buffer, size, err);
    uint64_t record = wal_written(wal);
    if (limit == wal->fits)
        record = limit;
    else if (status == LSM_OK)
        status = skip_records(wal, &record, limit, staged, err);
    if (status != LSM_OK)
        return status;
    memset(wal->buffer + size, 0, padded - size);
    wal->flight_end = limit;
    wal->flight_record = record;
    wal->request = (struct io_request){
        .operation = IO_WRITE,
        .file = wal->file,
        .memory = wal->buffer,
        .size = padded,
        .offset = offset,
    };
    return LSM_OK;
}

/* Makes the request for what is staged and not written; *any tells whether there is something. */
static lsm_status prepare_request(struct wal *wal, bool awaited, bool *any, lsm_error *err)
{
    uint64_t staged = staged_now(wal);
    *any = staged != wal_written(wal);
    if (!*any)
        return LSM_OK;
    lsm_status status = make_room(wal, staged, err);
    return status == LSM_OK ? fill_request(wal, staged, awaited, err) : status;
}

lsm_status wal_write_begin_locked(struct wal *wal, lsm_error *err)
{
    bool any;
    lsm_status status = wal_check_poison(wal, err);
    if (status == LSM_OK)
        status = wal_take_up(wal, err);
    if (status != LSM_OK || wal->in_flight)
        return status;
    status = prepare_request(wal, false, &any, err);
    if (status != LSM_OK || !any)
        return status;
    set_busy(wal, 1);
    wal->in_flight = true;
    io_queue_push(wal->queue, &wal->request);
    status = io_queue_submit(wal->queue, err);
    if (status != LSM_OK) /* the write may be tried once more there; the lock will be let go */
        (void)wal_write_finish_locked(wal, NULL);
    STEP("log: write begun");
    return status;
}

/* The segment is not written to any more: what its last block holds is not known. */
static void give_up_segment(struct wal *wal)
{
    wal->log->finished = true;
    wal->log->recyclable = false;
}

/* The request was carried out. */
static void count_written(struct wal *wal)
{
    struct shm_commit *commit = &wal->layout->commit;
    uint64_t limit = wal->request.offset + wal->request.size;
    if (limit > wal->log->filled)
        wal->log->filled = limit;
    if (limit > wal->current.size / 2)
        atomic_store_explicit(&wal->log->spare_due, 1, memory_order_relaxed);
    wal->reached = wal->flight_end;
    atomic_fetch_add_explicit(&wal->bytes_written, wal->request.size, memory_order_relaxed);
    atomic_store_explicit(&commit->written, wal->flight_record, memory_order_release);
    STEP("log: written");
    /* Pairs with the acquire in has_room(): the bytes were copied out before they are given back.
     */
    atomic_store_explicit(&commit->reusable, wal_block_start(wal, wal->flight_record),
                          memory_order_release);
    STEP("log: reusable told");
}

lsm_status wal_write_finish_locked(struct wal *wal, lsm_error *err)
{
    if (!wal->in_flight)
        return LSM_OK;
    struct io_request *done = io_queue_reap(wal->queue, true);
    assert(done == &wal->request);
    wal->in_flight = false;
    if (wal->log->holder != wal->handle)
        return LSM_OK; /* the lock was let go too early, and somebody has sealed the segment */
    set_busy(wal, 0);
    if (done->os_errno != 0) {
        give_up_segment(wal);
        return io_request_error(done, err);
    }
    count_written(wal);
    shm_event_signal(&wal->layout->commit.flushed);
    return LSM_OK;
}

/* The next write, by a plain call. */
static lsm_status write_now(struct wal *wal, lsm_error *err)
{
    bool any;
    lsm_status status = prepare_request(wal, true, &any, err);
    if (status != LSM_OK || !any)
        return status;
    const struct io_request *r = &wal->request;
    set_busy(wal, 1);
    STEP("log: write begins");
    status = io_file_write(r->file, r->memory, r->size, r->offset, err);
    STEP("log: write over");
    set_busy(wal, 0);
    if (status == LSM_OK)
        count_written(wal);
    else
        give_up_segment(wal);
    return status;
}

lsm_status wal_write_locked(struct wal *wal, uint64_t position, lsm_error *err)
{
    assert(position <= staged_now(wal));
    lsm_status status = wal_check_poison(wal, err);
    while (status == LSM_OK && wal_written(wal) < position) {
        status = wal_write_begin_locked(wal, err);
        if (status == LSM_OK)
            status = wal_write_finish_locked(wal, err);
    }
    return status;
}

lsm_status wal_sync_locked(struct wal *wal, uint64_t position, lsm_error *err)
{
    assert(position <= staged_now(wal));
    lsm_status status = wal_check_poison(wal, err);
    if (status == LSM_OK)
        status = wal_take_up(wal, err);
    if (status == LSM_OK)
        status = wal_write_finish_locked(wal, err);
    while (status == LSM_OK && wal_written(wal) < position)
        status = write_now(wal, err);
    if (status == LSM_OK && wal_durable(wal) < position)
        status = sync_current(wal, err);
    return status;
}

bool wal_wants_write(const struct wal *wal)
{
    uint64_t due = wal->stage.size / 4 < WAL_WRITE_DUE ? wal->stage.size / 4 : WAL_WRITE_DUE;
    uint64_t written = atomic_load_explicit(&wal->layout->commit.written, memory_order_acquire);
    uint64_t staged = staged_now(wal);
    return staged > written && staged - written >= due;
}

bool wal_wants_spare(const struct wal *wal)
{
    return atomic_load_explicit(&wal->log->spare_due, memory_order_relaxed) != 0 &&
           wal_spare_count(wal) == 0;
}

uint64_t wal_bytes_written(const struct wal *wal)
{
    return atomic_load_explicit(&wal->bytes_written, memory_order_relaxed);
}
