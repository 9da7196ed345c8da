/*
 * From one holder of the sync lock to the next.
 *
 * What a holder knows of the current segment stands in shared memory; only what can be found again
 * from `written` on (what fits, what a cut-short write has reached) and the open file are its own.
 * The word `holder` says whose own knowledge is good.
 *
 * A holder that died may have left a write in flight, which lands at any later time: in blocks of
 * the current segment, from the one that holds `written` on, and in the head of that one with the
 * bytes it has already. So nobody writes to that segment again: it is flushed and sealed at
 * `written`, where a record ends, and the next one begins there; the ring has all the rest. The
 * dead holder's words are not trusted but for the atomic ones: which segment, and up to where.
 *
 *     died                                 the next holder finds            and
 *     with writes in flight                segment S, written W             seals S at W in T
 *     making T, before it has its name     S, W; a spare nobody knows       the same in a later T
 *     T has its name, S is current still   S, W; T off the chain            the same in a later T
 *     T is current                         T, W                             seals T at W, empty
 *
 * Until T is current `holder` is 0, so that a takeover that died or failed is begun again by
 * whoever comes next. Files off the chain are swept away.
 */
#include "engine/wal/wal_private.h"

#include "engine/base/step.h"

/* ---- from the living ------------------------------------------------------------------------- */

static lsm_status open_current(struct wal *wal, lsm_error *err)
{
    const struct shm_commit *commit = &wal->layout->commit;
    struct wal_current current = {
        .number = atomic_load_explicit(&commit->segment_number, memory_order_relaxed),
        .start = commit->segment_start,
        .size = wal->log->segment_bytes,
    };
    if (wal->file == NULL || wal->current.number != current.number) {
        struct io_file *file = NULL;
        lsm_status status =
            segment_open(&wal->dir, FILE_WAL, current.number, IO_FILE_WRITE, &file, err);
        if (status != LSM_OK)
            return status;
        io_file_close(wal->file);
        wal->file = file;
    }
    wal->current = current;
    wal->reached = wal->fits = wal_written(wal);
    return LSM_OK;
}

lsm_status wal_take_up(struct wal *wal, lsm_error *err)
{
    struct shm_log *log = wal->log;
    if (log->holder == wal->handle)
        return LSM_OK;
    if (wal->in_flight) /* let go too early; what it has written will be written again */
        (void)wal_write_finish_locked(wal, NULL);
    bool busy = atomic_load_explicit(&wal->layout->commit.sync_busy, memory_order_acquire) != 0;
    if (log->holder == 0 || busy)
        return wal_takeover_locked(wal, err);
    lsm_status status = open_current(wal, err);
    if (status == LSM_OK)
        log->holder = wal->handle;
    STEP("log: taken up");
    return status;
}

/* ---- from the dead --------------------------------------------------------------------------- */

/* Makes all that is written to the segment durable. The dead holder may have been about to. */
static lsm_status flush_old(struct wal *wal, uint64_t number, uint64_t written,
                            struct io_file **file, lsm_error *err)
{
    lsm_status status = segment_open(&wal->dir, FILE_WAL, number, IO_FILE_WRITE, file, err);
    if (status == LSM_OK)
        status = wal_sync_file(wal, *file, err);
    if (status == LSM_OK)
        wal_set_durable(wal, written);
    STEP("log takeover: flushed");
    return status;
}

lsm_status wal_takeover_locked(struct wal *wal, lsm_error *err)
{
    struct shm_commit *commit = &wal->layout->commit;
    uint64_t number = atomic_load_explicit(&commit->segment_number, memory_order_relaxed);
    uint64_t written = wal_written(wal);
    struct log_segment_header old;
    struct wal_beginning beginning = {.start = written, .previous = number};
    struct io_file *file = NULL;

    wal->log->holder = 0;
    atomic_store(&wal->log->sweep_due, 1);
    STEP("log takeover: begun");
    if (wal->in_flight)
        (void)wal_write_finish_locked(wal, NULL);
    lsm_status status = wal_check_poison(wal, err);
    if (status == LSM_OK)
        status = segment_read_header(&wal->dir, number, written, &old, err);
    if (status == LSM_OK)
        status = flush_old(wal, number, written, &file, err);
    if (status != LSM_OK)
        goto out;
    beginning.previous_start = old.start;
    status = wal_begin_segment(wal, &beginning, err);
    if (status != LSM_OK)
        goto out;
    /* Both only save space: a file that stays is tried again, and what stays in it costs no more
     * than that. */
    (void)io_file_truncate(file, segment_sealed_size(&old, written), NULL);
    STEP("log takeover: sealed");
    (void)wal_sweep(wal, NULL);
    shm_event_signal(&commit->flushed);
out:
    io_file_close(file);
    return status;
}
