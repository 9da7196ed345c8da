/*
 * The life of a segment file: spare, segment, spare again or gone.
 *
 * A file becomes a segment by its name alone: header (and, at an open, the log's tail) are written
 * and synced while it is still called a spare, then it is renamed and the directory synced. So a
 * crash at any moment leaves a whole segment or none. A spare's number says nothing; as a segment
 * it gets a fresh one, for numbers of segments are never used twice.
 *
 * A segment turns into a spare only when every write to it was waited for by this process. What a
 * dead process wrote may still be on its way, so its segments are unlinked, and so are the spares
 * beside them.
 */
#include "engine/wal/wal_private.h"

#include "engine/base/memory.h"

static uint64_t fresh_number(struct wal *wal)
{
    return atomic_fetch_add(&wal->layout->ctl.next_wal_number, 1);
}

/* A failed sync of the directory or of a header leaves names or seals in doubt. */
static lsm_status poison_unless_ok(struct wal *wal, lsm_status status, const lsm_error *failure,
                                   lsm_error *err)
{
    if (status == LSM_OK)
        return LSM_OK;
    wal_poison(wal, failure);
    status_copy(err, failure);
    return status;
}

static lsm_status sync_file(struct wal *wal, struct io_file *file, lsm_error *err)
{
    lsm_error failure;
    return poison_unless_ok(wal, io_file_sync(file, &failure), &failure, err);
}

static lsm_status sync_dir(struct wal *wal, lsm_error *err)
{
    lsm_error failure;
    return poison_unless_ok(wal, io_dir_sync(wal->dir.dir, &failure), &failure, err);
}

/* ---- the pool -------------------------------------------------------------------------------- */

static bool pool_add(struct wal *wal, const struct segment_spare *spare)
{
    pthread_mutex_lock(&wal->spare_lock);
    bool room = wal->spare_count < WAL_SPARE_COUNT;
    if (room)
        wal->spares[wal->spare_count++] = *spare;
    pthread_mutex_unlock(&wal->spare_lock);
    return room;
}

static bool pool_take(struct wal *wal, struct segment_spare *spare)
{
    pthread_mutex_lock(&wal->spare_lock);
    bool found = wal->spare_count > 0;
    if (found)
        *spare = wal->spares[--wal->spare_count];
    pthread_mutex_unlock(&wal->spare_lock);
    return found;
}

static bool pool_is_full(struct wal *wal)
{
    pthread_mutex_lock(&wal->spare_lock);
    bool full = wal->spare_count == WAL_SPARE_COUNT;
    pthread_mutex_unlock(&wal->spare_lock);
    return full;
}

/* The right to make a spare: one at a time, and only when there is none. */
static bool begin_preparing(struct wal *wal)
{
    pthread_mutex_lock(&wal->spare_lock);
    bool due = wal->spare_count == 0 && !wal->preparing;
    if (due)
        wal->preparing = true;
    pthread_mutex_unlock(&wal->spare_lock);
    return due;
}

static void end_preparing(struct wal *wal)
{
    pthread_mutex_lock(&wal->spare_lock);
    wal->preparing = false;
    pthread_mutex_unlock(&wal->spare_lock);
}

lsm_status wal_prepare(struct wal *wal, lsm_error *err)
{
    lsm_status status = wal_check_poison(wal, err);
    if (status != LSM_OK || !begin_preparing(wal))
        return status;
    struct segment_spare spare;
    status = segment_spare_make(&wal->dir, fresh_number(wal), wal->segment_size, &spare, err);
    if (status == LSM_OK && !pool_add(wal, &spare))
        segment_spare_discard(&wal->dir, &spare); /* recycling was faster */
    end_preparing(wal);
    return status;
}

/* Adds a spare that a clean close left to the pool, when it is of use. */
static lsm_status adopt_spare(struct wal *wal, uint64_t number, bool *adopted, lsm_error *err)
{
    struct segment_spare spare = {.number = number};
    lsm_status status =
        segment_open(&wal->dir, FILE_WAL_SPARE, number, IO_FILE_WRITE, &spare.file, err);
    if (status != LSM_OK)
        return status;
    status = io_file_size(spare.file, &spare.size, err);
    *adopted = status == LSM_OK && spare.size == wal->segment_size && pool_add(wal, &spare);
    if (!*adopted)
        io_file_close(spare.file);
    return status;
}

lsm_status wal_adopt_spares(struct wal *wal, const struct segment_list *list, lsm_error *err)
{
    /* Segments are left only where nobody closed the log: the spares may be written to as well. */
    bool clean = list->segment_count == 0;
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < list->spare_count && status == LSM_OK; i++) {
        bool adopted = false;
        if (clean)
            status = adopt_spare(wal, list->spares[i], &adopted, err);
        struct wal_old_segment unused = {.number = list->spares[i], .is_spare = true};
        if (status == LSM_OK && !adopted)
            status = wal_add_old(wal, &unused, err);
    }
    return status;
}

/* ---- beginning a segment --------------------------------------------------------------------- */

/* A spare of at least `size` bytes. */
static lsm_status take_spare(struct wal *wal, uint64_t size, struct segment_spare *spare,
                             lsm_error *err)
{
    if (size <= wal->segment_size) {
        size = wal->segment_size;
        if (pool_take(wal, spare))
            return LSM_OK;
    }
    return segment_spare_make(&wal->dir, fresh_number(wal), size, spare, err);
}

static struct log_segment_header make_header(struct wal *wal, const struct wal_beginning *b,
                                             uint64_t size)
{
    struct log_segment_header header = {
        .flags = b->flags,
        .number = fresh_number(wal),
        .start = b->start,
        .size = size,
        .previous = b->previous,
        .previous_start = b->previous == 0 ? 0 : b->previous_start,
        .previous_end = b->previous == 0 ? 0 : b->start,
        .resume = wal->resume,
        .chain = wal->resume_chain,
    };
    memcpy(header.uuid, wal->dir.uuid, sizeof header.uuid);
    memcpy(header.nonce, wal->nonce, sizeof header.nonce);
    memcpy(header.nonce_before, wal->nonce_before, sizeof header.nonce_before);
    return header;
}

/* Writes what makes a spare a segment, and makes it durable; only its name is missing then. */
static lsm_status write_beginning(struct wal *wal, const struct segment_spare *spare,
                                  const struct log_segment_header *header,
                                  const struct wal_beginning *b, lsm_error *err)
{
    assert(!wal->in_flight && b->tail_size % IO_ALIGNMENT == 0);
    log_segment_encode(wal->buffer, header);
    lsm_status status = io_file_write(spare->file, wal->buffer, LOG_SEGMENT_HEADER, 0, err);
    if (status == LSM_OK && b->tail_size > 0)
        status = io_file_write(spare->file, b->tail, b->tail_size, LOG_SEGMENT_HEADER, err);
    return status == LSM_OK ? sync_file(wal, spare->file, err) : status;
}

/* Gives the file its name as a segment and opens it by that. */
static lsm_status give_name(struct wal *wal, struct segment_spare *spare, uint64_t number,
                            struct io_file **file, lsm_error *err)
{
    char from[FILE_NAME_SIZE], to[FILE_NAME_SIZE];
    io_file_close(spare->file);
    spare->file = NULL;
    lsm_status status =
        io_dir_rename(wal->dir.dir, file_name_make(FILE_WAL_SPARE, spare->number, from),
                      file_name_make(FILE_WAL, number, to), err);
    if (status == LSM_OK)
        status = sync_dir(wal, err);
    if (status == LSM_OK)
        status = segment_open(&wal->dir, FILE_WAL, number, IO_FILE_WRITE, file, err);
    return status;
}

static bool reserve_old(struct wal *wal)
{
    if (wal->old_count < wal->old_capacity)
        return true;
    size_t capacity = wal->old_capacity == 0 ? 8 : 2 * wal->old_capacity;
    struct wal_old_segment *old = mem_resize(wal->old, capacity * sizeof *old);
    if (old == NULL)
        return false;
    wal->old = old;
    wal->old_capacity = capacity;
    return true;
}

lsm_status wal_add_old(struct wal *wal, const struct wal_old_segment *old, lsm_error *err)
{
    if (!reserve_old(wal))
        return lsm_fail_memory(err, 2 * wal->old_capacity * sizeof *wal->old);
    wal->old[wal->old_count++] = *old;
    return LSM_OK;
}

/* Takes `header` for the current segment; room for the old one was reserved. */
static void switch_to(struct wal *wal, const struct log_segment_header *header,
                      struct io_file *file, uint64_t filled)
{
    if (wal->file != NULL) {
        assert(wal->old_count < wal->old_capacity);
        wal->old[wal->old_count++] = (struct wal_old_segment){
            .number = wal->current.number,
            .size = wal->current.size,
            .end = header->start,
            .filled = wal->filled,
            .recyclable = wal->recyclable,
        };
        io_file_close(wal->file);
    }
    wal->file = file;
    wal->current = *header;
    wal->finished = false;
    wal->recyclable = true;
    wal->fits = header->start;
    wal->filled = filled;
    struct shm_commit *commit = &wal->layout->commit;
    commit->segment_number = header->number;
    commit->segment_start = header->start;
    atomic_store_explicit(&commit->reusable, header->start, memory_order_release);
}

lsm_status wal_begin_segment(struct wal *wal, const struct wal_beginning *b, lsm_error *err)
{
    if (!reserve_old(wal))
        return lsm_fail_memory(err, 2 * wal->old_capacity * sizeof *wal->old);
    struct segment_spare spare;
    lsm_status status = take_spare(wal, LOG_SEGMENT_HEADER + b->tail_size, &spare, err);
    if (status != LSM_OK)
        return status;
    struct log_segment_header header = make_header(wal, b, spare.size);
    status = write_beginning(wal, &spare, &header, b, err);
    if (status != LSM_OK) {
        segment_spare_discard(&wal->dir, &spare);
        return status;
    }
    struct io_file *file = NULL;
    status = give_name(wal, &spare, header.number, &file, err);
    uint64_t filled = LOG_SEGMENT_HEADER + b->tail_size;
    if (filled < spare.filled)
        filled = spare.filled;
    if (status == LSM_OK)
        switch_to(wal, &header, file, filled);
    return status; /* a segment begun in vain stays off the chain: the next one has a higher number
                    */
}

/* ---- recycling ------------------------------------------------------------------------------- */

static lsm_status recycle(struct wal *wal, const struct wal_old_segment *old, lsm_error *err)
{
    char from[FILE_NAME_SIZE], to[FILE_NAME_SIZE];
    uint64_t number = old->number;
    struct segment_spare spare = {.number = number, .size = old->size, .filled = old->filled};
    lsm_status status = io_dir_rename(wal->dir.dir, file_name_make(FILE_WAL, number, from),
                                      file_name_make(FILE_WAL_SPARE, number, to), err);
    if (status == LSM_OK)
        status = segment_open(&wal->dir, FILE_WAL_SPARE, number, IO_FILE_WRITE, &spare.file, err);
    if (status == LSM_OK && !pool_add(wal, &spare))
        segment_spare_discard(&wal->dir, &spare); /* wal_prepare() was faster */
    return status;
}

static lsm_status remove_one(struct wal *wal, const struct wal_old_segment *old, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    enum file_kind kind = old->is_spare ? FILE_WAL_SPARE : FILE_WAL;
    if (old->recyclable && old->size == wal->segment_size && !pool_is_full(wal))
        return recycle(wal, old, err);
    return io_dir_unlink(wal->dir.dir, file_name_make(kind, old->number, name), NULL, err);
}

lsm_status wal_remove_old(struct wal *wal, uint64_t position, lsm_error *err)
{
    lsm_status status = LSM_OK;
    size_t kept = 0, removed = 0;
    for (size_t i = 0; i < wal->old_count; i++) {
        struct wal_old_segment old = wal->old[i];
        if (old.end <= position && status == LSM_OK) {
            status = remove_one(wal, &old, err);
            if (status == LSM_OK) {
                removed++;
                continue;
            }
            old.recyclable = false; /* which name it has now is not known */
        }
        wal->old[kept++] = old;
    }
    wal->old_count = kept;
    /* Before a spare is written to: its old name must not come back with new bytes. */
    lsm_status synced = removed > 0 ? sync_dir(wal, status == LSM_OK ? err : NULL) : LSM_OK;
    return status == LSM_OK ? synced : status;
}

lsm_status wal_forget_locked(struct wal *wal, uint64_t position, lsm_error *err)
{
    lsm_status status = wal_check_poison(wal, err);
    return status == LSM_OK ? wal_remove_old(wal, position, err) : status;
}
