/*
 * The stage file is zero-filled and durable at its full size before it gets its name, so that
 * stores into the mapping cannot run out of space, and a size that is not the file's own is damage.
 */
#include "engine/wal/wal_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"

#define FILL_STEP ((size_t)1 << 20)

static const char *stage_name(char *name)
{
    return file_name_make(FILE_STAGE, 0, name);
}

/* ---- the file -------------------------------------------------------------------------------- */

lsm_status wal_stage_read(const struct segment_dir *dir, bool is_marked, uint64_t first,
                          uint64_t limit, uint8_t *bytes, lsm_error *err)
{
    if (first == limit)
        return LSM_OK;
    char name[FILE_NAME_SIZE];
    struct io_file *file = NULL;
    struct wal_stage_look look = {0};
    lsm_status status = io_file_open(dir->dir, stage_name(name), 0, dir->mode, &file, err);
    if (status != LSM_OK)
        return status;
    status = wal_stage_look(dir, file, is_marked, &look, err);
    uint64_t size = look.ring_size;
    if (status == LSM_OK && limit - first > size) {
        status = lsm_fail(err, LSM_CORRUPT,
                          "the stage file '%s' has %" PRIu64 " bytes, and %" PRIu64
                          " of the log should be in it",
                          name, size, limit - first);
        status_place(err, name, size);
        status_numbers(err, limit - first, size);
    }
    while (status == LSM_OK && first < limit) {
        uint64_t offset = first % size;
        uint64_t step = limit - first < size - offset ? limit - first : size - offset;
        status = io_file_read_exact(file, bytes, (size_t)step, offset, err);
        bytes += step;
        first += step;
    }
    io_file_close(file);
    return status;
}

static lsm_status fill(struct io_file *file, const struct stage_trailer *trailer, lsm_error *err)
{
    uint64_t size = trailer->ring_size;
    uint8_t *zeros = mem_alloc_zeroed(FILL_STEP);
    if (zeros == NULL)
        return lsm_fail_memory(err, FILL_STEP);
    lsm_status status = io_file_allocate(file, 0, size + STAGE_TRAILER_SIZE, err);
    for (uint64_t at = 0; at < size && status == LSM_OK;) {
        size_t step = size - at < FILL_STEP ? (size_t)(size - at) : FILL_STEP;
        status = io_file_write(file, zeros, step, at, err);
        at += step;
    }
    mem_free(zeros);
    if (status == LSM_OK)
        status = wal_stage_mark(file, trailer, err);
    return status == LSM_OK ? io_file_sync(file, err) : status;
}

lsm_status wal_stage_make(const struct segment_dir *dir, const struct stage_trailer *trailer,
                          uint64_t file_number, lsm_error *err)
{
    char name[FILE_NAME_SIZE], temporary[FILE_NAME_SIZE];
    file_name_make(FILE_TEMPORARY, file_number, temporary);
    struct io_file *file = NULL;
    lsm_status status = io_dir_unlink(dir->dir, temporary, NULL, err);
    if (status == LSM_OK)
        status = io_file_open(dir->dir, temporary, IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_NEW,
                              dir->mode, &file, err);
    if (status != LSM_OK)
        return status;
    STEP("stage file: made");
    status = fill(file, trailer, err);
    io_file_close(file);
    STEP("stage file: filled");
    if (status == LSM_OK)
        status = io_dir_rename(dir->dir, temporary, stage_name(name), err);
    STEP("stage file: renamed");
    if (status != LSM_OK) {
        (void)io_dir_unlink(dir->dir, temporary, NULL, NULL); /* the first failure is told */
        return status;
    }
    return io_dir_sync(dir->dir, err);
}

/* Opens the file when it is there, of the size and life of the trailer; else *file stays NULL. */
static lsm_status open_file(const struct segment_dir *dir, const struct stage_trailer *trailer,
                            struct io_file **file, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    struct io_file *opened = NULL;
    struct wal_stage_look look = {0};
    lsm_status status =
        io_file_open(dir->dir, stage_name(name), IO_FILE_WRITE, dir->mode, &opened, err);
    if (status == LSM_MISSING)
        return LSM_OK;
    if (status == LSM_OK)
        status = wal_stage_look(dir, opened, false, &look, err);
    if (status != LSM_OK || !wal_stage_is_of(&look, trailer)) {
        io_file_close(opened);
        return status;
    }
    *file = opened;
    return LSM_OK;
}

/* The ring's memory: the file's own pages, or where that is refused or unsafe private ones. */
static lsm_status get_ring(struct wal_stage *stage, bool refuse_mapping, lsm_error *err)
{
    lsm_status status = LSM_UNSUPPORTED;
    size_t size = (size_t)stage->size;
    if (!refuse_mapping)
        status = io_map(stage->file, size, IO_MAP_WRITE, &stage->mapping, err);
    if (status == LSM_OK)
        stage->ring = io_mapping_memory(stage->mapping);
    if (status != LSM_UNSUPPORTED)
        return status;
    stage->ring = mem_alloc_aligned(IO_ALIGNMENT, size);
    if (stage->ring == NULL)
        return lsm_fail_memory(err, size);
    memset(stage->ring, 0, size);
    return LSM_OK;
}

/* The one that was claimed names the life alone from now on. Not synced: should that be lost, it
 * names the one before, too, and only a ring of the next life is taken for one of this. */
static lsm_status open_or_make(const struct segment_dir *dir, const struct stage_trailer *trailer,
                               uint64_t file_number, struct io_file **file, lsm_error *err)
{
    lsm_status status = open_file(dir, trailer, file, err);
    if (status == LSM_OK && *file != NULL) {
        status = wal_stage_mark(*file, trailer, err);
        STEP("stage file: in force");
        return status;
    }
    if (status == LSM_OK)
        status = wal_stage_make(dir, trailer, file_number, err);
    if (status == LSM_OK)
        status = open_file(dir, trailer, file, err);
    if (status == LSM_OK && *file == NULL)
        status = lsm_fail(err, LSM_IO, "the stage file vanished while it was made");
    return status;
}

lsm_status wal_stage_open(struct wal_stage *stage, const struct segment_dir *dir,
                          const struct stage_trailer *trailer, bool refuse_mapping,
                          uint64_t file_number, lsm_error *err)
{
    uint64_t size = trailer->ring_size;
    struct wal_stage s = {.size = size};
    lsm_status status = open_or_make(dir, trailer, file_number, &s.file, err);
    /* A file that was copied here may have holes; a store into one could end the process. Only
     * while nobody else stores: where the kernel cannot do it all bytes are written once more. */
    if (status == LSM_OK && !refuse_mapping) {
        status = io_file_allocate(s.file, 0, size, err);
        refuse_mapping = status == LSM_UNSUPPORTED;
        if (refuse_mapping)
            status = LSM_OK;
    }
    if (status == LSM_OK)
        status = get_ring(&s, refuse_mapping, err);
    if (status == LSM_OK)
        *stage = s;
    else
        wal_stage_close(&s);
    return status;
}

lsm_status wal_stage_join(struct wal_stage *stage, const struct segment_dir *dir,
                          const struct stage_trailer *trailer, bool refuse_mapping, lsm_error *err)
{
    struct wal_stage s = {.size = trailer->ring_size};
    lsm_status status = open_file(dir, trailer, &s.file, err);
    if (status == LSM_OK && s.file == NULL) {
        char name[FILE_NAME_SIZE];
        status = lsm_fail(err, LSM_CORRUPT,
                          "the stage file '%s' in '%s' is not the one of %" PRIu64
                          " bytes that the processes with the database open are using",
                          stage_name(name), io_dir_path(dir->dir), s.size);
        status_place(err, stage_name(name), 0);
    }
    if (status == LSM_OK)
        status = get_ring(&s, refuse_mapping, err);
    if (status == LSM_OK)
        *stage = s;
    else
        wal_stage_close(&s);
    return status;
}

void wal_stage_close(struct wal_stage *stage)
{
    if (stage->mapping != NULL)
        io_unmap(stage->mapping);
    else
        mem_free(stage->ring);
    io_file_close(stage->file);
    *stage = (struct wal_stage){0};
}

/* ---- the ring -------------------------------------------------------------------------------- */

static lsm_status get_bytes(const struct wal_stage *stage, size_t at, void *bytes, size_t size,
                            lsm_error *err)
{
    if (stage->mapping == NULL)
        return io_file_read_exact(stage->file, bytes, size, at, err);
    memcpy(bytes, stage->ring + at, size);
    return LSM_OK;
}

lsm_status wal_stage_copy_out(const struct wal_stage *stage, uint64_t position, void *bytes,
                              size_t size, lsm_error *err)
{
    size_t at = (size_t)(position % stage->size);
    size_t first = size < stage->size - at ? size : (size_t)(stage->size - at);
    lsm_status status = get_bytes(stage, at, bytes, first, err);
    if (status == LSM_OK && first < size)
        status = get_bytes(stage, 0, (uint8_t *)bytes + first, size - first, err);
    return status;
}

void wal_stage_copy_in(struct wal_stage *stage, uint64_t position, const void *bytes, size_t size)
{
    size_t at = (size_t)(position % stage->size);
    size_t first = size < stage->size - at ? size : (size_t)(stage->size - at);
    memcpy(stage->ring + at, bytes, first);
    if (first < size)
        memcpy(stage->ring, (const uint8_t *)bytes + first, size - first);
}

/* Whole blocks, so that the kernel never has to read one before it can change a part of it. */
static lsm_status write_blocks(struct wal_stage *stage, size_t first, size_t limit, lsm_error *err)
{
    first -= first % IO_ALIGNMENT;
    limit += (IO_ALIGNMENT - limit % IO_ALIGNMENT) % IO_ALIGNMENT;
    return io_file_write(stage->file, stage->ring + first, limit - first, first, err);
}

static lsm_status read_block(struct wal_stage *stage, uint64_t position, lsm_error *err)
{
    size_t at = (size_t)(position % stage->size);
    at -= at % IO_ALIGNMENT;
    return io_file_read_exact(stage->file, stage->ring + at, IO_ALIGNMENT, at, err);
}

lsm_status wal_stage_refresh(struct wal_stage *stage, uint64_t needed, uint64_t staged, size_t size,
                             lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (stage->held_limit != staged) {
        status = read_block(stage, staged, err);
        stage->held_first = stage->held_limit = staged;
    }
    /* The last block may end in what stands there since the last lap. */
    if (status == LSM_OK && stage->held_first > needed)
        status = read_block(stage, staged + size - 1, err);
    if (status != LSM_OK)
        stage->held_limit = UINT64_MAX;
    return status;
}

lsm_status wal_stage_write(struct wal_stage *stage, uint64_t position, size_t size, lsm_error *err)
{
    size_t at = (size_t)(position % stage->size);
    if (size <= stage->size - at)
        return write_blocks(stage, at, at + size, err);
    lsm_status status = write_blocks(stage, at, (size_t)stage->size, err);
    if (status == LSM_OK)
        status = write_blocks(stage, 0, size - (size_t)(stage->size - at), err);
    return status;
}
