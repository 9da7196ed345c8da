/*
 * Whose life the stage file belongs to: its trailer, see engine/format/stage_trailer.h.
 *
 * The trailer is durable before a segment of the life it names has a name of its own, and such a
 * segment says that there is one. So whatever is found behind a death, one of its two nonces is
 * that of the newest segment. Otherwise the file was exchanged, and writes that were acknowledged
 * may have been in the right one.
 */
#include "engine/wal/wal_private.h"

#include "engine/base/step.h"

lsm_status wal_stage_look(const struct segment_dir *dir, struct io_file *file, bool is_marked,
                          struct wal_stage_look *look, lsm_error *err)
{
    uint8_t block[STAGE_TRAILER_SIZE];
    struct wal_stage_look l = {.fault = STAGE_TRAILER_NONE};
    lsm_status status = io_file_size(file, &l.file_size, err);
    if (status != LSM_OK)
        return status;
    l.ring_size = l.file_size;
    if (l.file_size > STAGE_TRAILER_SIZE && l.file_size % IO_ALIGNMENT == 0) {
        uint64_t offset = l.file_size - STAGE_TRAILER_SIZE;
        status = io_file_read_exact(file, block, sizeof block, offset, err);
        if (status != LSM_OK)
            return status;
        l.fault = stage_trailer_decode(block, dir->uuid, offset, &l.trailer);
        if (is_marked || stage_trailer_is_there(l.fault))
            l.ring_size = offset;
    }
    *look = l;
    return LSM_OK;
}

lsm_status wal_stage_check(const struct segment_dir *dir, const struct wal_stage_look *look,
                           const struct log_segment_header *newest, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    bool is_marked = (newest->flags & LOG_SEGMENT_MARKED) != 0;
    if (look->fault == STAGE_TRAILER_OK && stage_trailer_fits(&look->trailer, newest))
        return LSM_OK;
    if (!is_marked && !stage_trailer_is_there(look->fault))
        return LSM_OK;
    file_name_make(FILE_STAGE, 0, name);
    if (look->fault == STAGE_TRAILER_NEWER)
        return lsm_fail(err, LSM_NEWER_FORMAT,
                        "the stage file '%s' in '%s' has a newer format than this library knows",
                        name, io_dir_path(dir->dir));
    const char *why = look->fault == STAGE_TRAILER_OK ? "it is of another time of this database"
                                                      : stage_trailer_fault_text(look->fault);
    lsm_status status =
        lsm_fail(err, LSM_CORRUPT,
                 "the stage file '%s' is not the one that was in use when the database was left: "
                 "%s; the last writes may be in the right one: put it back, or see lsm-repair(1)",
                 name, why);
    status_place(err, name, look->ring_size);
    return status;
}

bool wal_stage_is_of(const struct wal_stage_look *look, const struct stage_trailer *trailer)
{
    return look->fault == STAGE_TRAILER_OK && look->ring_size == trailer->ring_size &&
           memcmp(look->trailer.nonce, trailer->nonce, LOG_NONCE_SIZE) == 0;
}

lsm_status wal_stage_mark(struct io_file *file, const struct stage_trailer *trailer, lsm_error *err)
{
    uint8_t block[STAGE_TRAILER_SIZE];
    stage_trailer_encode(block, trailer);
    return io_file_write(file, block, sizeof block, trailer->ring_size, err);
}

/* The file is this database's: a mark in its place. */
static lsm_status mark_durably(struct io_file *file, const struct wal_stage_look *look,
                               const struct stage_trailer *trailer, lsm_error *err)
{
    struct stage_trailer marked = *trailer;
    marked.ring_size = look->ring_size;
    lsm_status status = wal_stage_mark(file, &marked, err);
    STEP("stage file: marked");
    if (status == LSM_OK)
        status = io_file_sync(file, err);
    STEP("stage file: mark synced");
    return status;
}

lsm_status wal_stage_claim(const struct segment_dir *dir, const struct stage_trailer *trailer,
                           bool is_needed, uint64_t file_number, bool *is_marked, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    struct io_file *file = NULL;
    struct wal_stage_look look = {.fault = STAGE_TRAILER_NONE};
    file_name_make(FILE_STAGE, 0, name);
    lsm_status status = io_file_open(dir->dir, name, IO_FILE_WRITE, dir->mode, &file, err);
    if (status == LSM_OK)
        status = wal_stage_look(dir, file, false, &look, err);
    else if (status == LSM_MISSING)
        status = LSM_OK;
    bool is_ours = look.fault == STAGE_TRAILER_OK;
    if (status == LSM_OK && is_ours)
        status = mark_durably(file, &look, trailer, err);
    io_file_close(file);
    if (status == LSM_OK && !is_ours && !is_needed)
        status = wal_stage_make(dir, trailer, file_number, err);
    if (status == LSM_OK)
        *is_marked = is_ours || !is_needed;
    return status;
}
