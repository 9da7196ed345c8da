/*
 * Giving space back.
 *
 * Segments that are recycled hold all their blocks, written once, which is what makes them fast; a
 * log that nobody writes to has no use for that. At rest the spares that were segments go, and the
 * current segment is sealed where it was written, cut off there, and followed by a fresh one, of
 * which only the first step is reserved. A segment that was cut off is not recycled.
 * Where tables hold all of the log, the old segment goes altogether.
 *
 * Every step leaves the log whole: a spare is no part of it, and the old segment is cut off only
 * when the next one, which says where it is sealed, has its name.
 */
#include "engine/wal/wal_private.h"

#include "engine/base/step.h"

lsm_status wal_drop_large_spares(struct wal *wal, bool *any, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < SHM_LOG_SPARES && status == LSM_OK; i++) {
        char name[FILE_NAME_SIZE];
        uint64_t word = atomic_load(&wal->log->spares[i]);
        if (word == 0 || wal_packed_filled(word) <= wal_reserve_step(wal))
            continue;
        if (!atomic_compare_exchange_strong(&wal->log->spares[i], &word, 0))
            continue;
        STEP("log rest: a spare taken");
        file_name_make(FILE_WAL_SPARE, wal_packed_number(word), name);
        status = io_dir_unlink(wal->dir.dir, name, NULL, err);
        STEP("log rest: a spare removed");
        *any = true;
        if (status != LSM_OK)
            atomic_store(&wal->log->sweep_due, 1);
    }
    return status;
}

/* Much more of the current segment is reserved than is needed, or will be by the next writes. */
static bool is_large(const struct wal *wal, uint64_t needed)
{
    uint64_t written = wal_written(wal);
    uint64_t used = LOG_SEGMENT_HEADER + (written - wal->current.start);
    return wal->log->reserved > (needed < written ? used : 0) + 2 * wal_reserve_step(wal);
}

/* Where it fails it costs only space: the file goes when nobody needs the segment any more. */
static void cut_off(struct wal *wal, const struct wal_current *old, uint64_t end)
{
    struct log_segment_header header = {.start = old->start, .size = old->size};
    struct io_file *file = NULL;
    if (segment_open(&wal->dir, FILE_WAL, old->number, IO_FILE_WRITE, &file, NULL) == LSM_OK)
        (void)io_file_truncate(file, segment_sealed_size(&header, end), NULL);
    io_file_close(file);
    STEP("log rest: cut off");
}

lsm_status wal_rest_locked(struct wal *wal, uint64_t needed, lsm_error *err)
{
    bool any = false;
    lsm_status status = wal_check_poison(wal, err);
    if (status == LSM_OK)
        status = wal_take_up(wal, err);
    if (status == LSM_OK)
        status = wal_write_finish_locked(wal, err);
    uint64_t written = wal_written(wal);
    bool rests = written == atomic_load(&wal->layout->commit.staged);
    if (status != LSM_OK || !rests || wal->log->finished)
        return status;
    status = wal_drop_large_spares(wal, &any, err);
    if (status != LSM_OK || !is_large(wal, needed))
        return status;
    struct wal_current old = wal->current;
    status = wal_begin_next(wal, false, err);
    if (status != LSM_OK)
        return status;
    if (needed >= written)
        return wal_forget_locked(wal, written, err);
    cut_off(wal, &old, written);
    return LSM_OK;
}
