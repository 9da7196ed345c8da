/* Reading back from the ring what was staged: for who takes over a commit that was interrupted. */
#include "engine/wal/wal_private.h"

lsm_status wal_staged_record_locked(struct wal *wal, uint64_t position, uint64_t size,
                                    struct buffer *bytes, struct log_record *record, lsm_error *err)
{
    enum log_record_fault fault = LOG_RECORD_SHORT;
    buffer_clear(bytes);
    if (size >= LOG_RECORD_MIN && size <= wal->stage.size) {
        uint8_t *at = buffer_grow(bytes, (size_t)size);
        if (at == NULL)
            return lsm_fail_memory(err, (size_t)size);
        lsm_status status = wal_stage_copy_out(&wal->stage, position, at, (size_t)size, err);
        if (status != LSM_OK)
            return status;
        fault = log_record_decode(buffer_slice(bytes), position, wal->seed, record);
    }
    if (fault == LOG_RECORD_OK && record->size != size)
        fault = LOG_RECORD_BAD_LENGTH;
    if (fault != LOG_RECORD_OK) {
        lsm_status status =
            lsm_fail(err, LSM_CORRUPT,
                     "the stage ring of '%s' does not hold the record at position "
                     "%" PRIu64 " that an interrupted write was to commit: %s",
                     io_dir_path(wal->dir.dir), position, log_record_fault_text(fault));
        status_place(err, "STAGE", position % wal->stage.size);
        return status;
    }
    return LSM_OK;
}
