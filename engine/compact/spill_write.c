/* Pieces are collected into writes; two of them are on their way while the next one fills. */
#include "engine/compact/spill_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/file_name.h"

lsm_status spill_file_open(struct spill_file *f, const struct table_env *env, uint64_t number,
                           lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    *f = (struct spill_file){.env = env, .number = number};
    lsm_status status =
        io_file_open(env->dir, file_name_make(FILE_TABLE, number, name),
                     IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_NEW | table_io_flags(env), env->mode,
                     &f->file, err);
    STEP("spill: made");
    if (status == LSM_OK)
        status = io_dir_unlink(env->dir, name, NULL, err);
    STEP("spill: nameless");
    if (status != LSM_OK)
        spill_file_close(f);
    return status;
}

void spill_file_close(struct spill_file *f)
{
    if (f->file != NULL) /* it has no name: cut, it goes back piece by piece, closed all at once */
        (void)io_file_truncate(f->file, 0, NULL);
    io_file_close(f->file);
    *f = (struct spill_file){0};
}

lsm_status spill_begin(struct spill_writer *w, struct spill_file *file, lsm_error *err)
{
    w->file = file;
    w->spill = (struct spill){.file = file, .offset = file->size};
    return w->status = io_queue_open(file->env->io, SPILL_WRITES, &w->queue, err);
}

/* Waits for one write. */
static lsm_status reap(struct spill_writer *w, lsm_error *err)
{
    struct io_request *done = io_queue_reap(w->queue, true);
    if (done == NULL)
        return lsm_fail(err, LSM_IO, "a write to '%s' was lost by its queue",
                        io_file_name(w->file->file));
    w->writes[(size_t)(uintptr_t)done->owner].in_flight = false;
    if (done->os_errno != 0)
        return io_request_error(done, err);
    if (done->transferred != done->size)
        return lsm_fail(err, LSM_IO,
                        "a write to '%s' at offset %" PRIu64 " was cut to %zu of %zu bytes",
                        io_file_name(w->file->file), done->offset, done->transferred, done->size);
    return LSM_OK;
}

/* Sends off the pieces of the current write, `size` bytes, and waits until the next one is free.
 * Through the page cache this thread copies them itself, as table_output.c does, and for its
 * reasons; but the disk is told nothing, for the file may be gone before it would have to hear. */
static lsm_status submit(struct spill_writer *w, size_t size, lsm_error *err)
{
    uint64_t offset = w->spill.offset + (w->index + 1 - w->piece) * SPILL_PIECE;
    w->piece = 0;
    if (!io_file_is_direct(w->file->file))
        return io_file_write(w->file->file, w->writes[w->current].memory, size, offset, err);
    struct io_request *request = &w->writes[w->current].request;
    *request = (struct io_request){.operation = IO_WRITE,
                                   .file = w->file->file,
                                   .memory = w->writes[w->current].memory,
                                   .size = size,
                                   .offset = offset,
                                   .owner = (void *)(uintptr_t)w->current};
    w->writes[w->current].in_flight = true;
    io_queue_push(w->queue, request);
    lsm_status status = io_queue_submit(w->queue, err);
    w->current = (w->current + 1) % SPILL_WRITES;
    while (status == LSM_OK && w->writes[w->current].in_flight)
        status = reap(w, err);
    return status;
}

static lsm_status begin_piece(struct spill_writer *w, lsm_error *err)
{
    uint8_t **memory = &w->writes[w->current].memory;
    if (*memory == NULL)
        *memory = mem_alloc_buffer(SPILL_WRITE_PIECES * SPILL_PIECE);
    if (*memory == NULL)
        return lsm_fail_memory(err, SPILL_WRITE_PIECES * SPILL_PIECE);
    w->at = *memory + w->piece * SPILL_PIECE + sizeof(uint64_t);
    return LSM_OK;
}

/* The piece is full, or the last one: its bytes are `size` with the checksum. */
static lsm_status end_piece(struct spill_writer *w, size_t size, bool is_last, lsm_error *err)
{
    uint8_t *piece = w->writes[w->current].memory + w->piece * SPILL_PIECE;
    uint64_t seed = spill_seed(&w->spill, w->index);
    bytes_put_u64(piece, hash_bytes(piece + sizeof seed, size - sizeof seed, seed));
    w->piece++;
    w->file->size = w->spill.offset + w->index * SPILL_PIECE + size;
    lsm_status status = LSM_OK;
    if (is_last || w->piece == SPILL_WRITE_PIECES)
        status = submit(w, (w->piece - 1) * SPILL_PIECE + size, err);
    w->index++;
    w->used = 0;
    w->at = NULL;
    return status;
}

lsm_status spill_append(struct spill_writer *w, const void *bytes, size_t size, lsm_error *err)
{
    const uint8_t *from = bytes;
    while (size > 0 && w->status == LSM_OK) {
        if (w->at == NULL && (w->status = begin_piece(w, err)) != LSM_OK)
            break;
        size_t room = SPILL_PAYLOAD - w->used;
        size_t part = size < room ? size : room;
        memcpy(w->at, from, part);
        w->at += part;
        w->used += part;
        from += part;
        size -= part;
        if (w->used == SPILL_PAYLOAD)
            w->status = end_piece(w, SPILL_PIECE, false, err);
    }
    return w->status;
}

/* What is left is written in whole pages. */
static lsm_status write_rest(struct spill_writer *w, lsm_error *err)
{
    if (w->used > 0) {
        size_t size = (sizeof(uint64_t) + w->used + IO_ALIGNMENT - 1) & ~(IO_ALIGNMENT - 1);
        memset(w->at, 0, size - sizeof(uint64_t) - w->used);
        return end_piece(w, size, true, err);
    }
    if (w->piece == 0)
        return LSM_OK;
    w->index--; /* submit() counts from the piece that ended last */
    return submit(w, w->piece * SPILL_PIECE, err);
}

lsm_status spill_end(struct spill_writer *w, struct spill *spill, lsm_error *err)
{
    w->spill.size = spill_position(w);
    if (w->status == LSM_OK)
        w->status = write_rest(w, err);
    while (w->status == LSM_OK && io_queue_in_flight(w->queue) > 0)
        w->status = reap(w, err);
    STEP("spill: written");
    lsm_status status = w->status;
    if (status == LSM_OK)
        *spill = w->spill;
    spill_abort(w);
    return status;
}

void spill_abort(struct spill_writer *w)
{
    io_queue_close(w->queue);
    for (unsigned i = 0; i < SPILL_WRITES; i++)
        mem_free_buffer(w->writes[i].memory, SPILL_WRITE_PIECES * SPILL_PIECE);
    *w = (struct spill_writer){.status = LSM_INVALID};
}
