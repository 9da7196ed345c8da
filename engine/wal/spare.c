/*
 * Spares, and how one becomes a segment.
 *
 * A file becomes a segment by its name alone: header (and, at an open, the log's tail) are written
 * and synced while it is still called a spare, then it is renamed and the directory synced. So a
 * crash at any moment leaves a whole segment or none. A spare's number says nothing; as a segment
 * it gets a fresh one, for numbers of segments are never used twice.
 *
 * Spares are known by words in shared memory, not by their names: a word is entered when the file
 * is ready, by whoever made it, and taken out by the holder of the sync lock, to whom the file then
 * belongs alone. A file without a word is being made, or was left by a dead process.
 */
#include "engine/wal/wal_private.h"

#include "engine/base/step.h"

static uint64_t fresh_number(struct wal *wal)
{
    return atomic_fetch_add(&wal->layout->ctl.next_wal_number, 1);
}

/* ---- the pool -------------------------------------------------------------------------------- */

bool wal_spare_put(struct wal *wal, uint64_t number, uint64_t filled)
{
    if (!wal_can_pack(number))
        return false;
    uint64_t word = wal_pack(number, filled);
    for (size_t i = 0; i < SHM_LOG_SPARES; i++) {
        uint64_t nothing = 0;
        if (atomic_compare_exchange_strong(&wal->log->spares[i], &nothing, word))
            return true;
    }
    return false;
}

static uint64_t pool_take(struct wal *wal)
{
    uint64_t word = 0;
    for (size_t i = SHM_LOG_SPARES; i > 0 && word == 0; i--)
        word = atomic_exchange(&wal->log->spares[i - 1], 0);
    return word;
}

size_t wal_spare_count(const struct wal *wal)
{
    size_t count = 0;
    for (size_t i = 0; i < SHM_LOG_SPARES; i++)
        count += atomic_load(&wal->log->spares[i]) != 0;
    return count;
}

bool wal_spare_is_known(const struct wal *wal, uint64_t number)
{
    for (size_t i = 0; i < SHM_LOG_SPARES; i++) {
        if (wal_packed_number(atomic_load(&wal->log->spares[i])) == number)
            return true;
    }
    return false;
}

static lsm_status make_spare(struct wal *wal, lsm_error *err)
{
    struct segment_spare spare;
    uint64_t number = fresh_number(wal);
    if (!wal_can_pack(number))
        return LSM_OK;
    lsm_status status = segment_spare_make(&wal->dir, number, wal->log->segment_size,
                                           wal_reserve_step(wal), &spare, err);
    if (status != LSM_OK)
        return status;
    STEP("log spare: made");
    if (!wal_spare_put(wal, spare.number, 0)) {
        segment_spare_discard(&wal->dir, &spare); /* recycling was faster */
        return LSM_OK;
    }
    STEP("log spare: told");
    io_file_close(spare.file);
    return LSM_OK;
}

lsm_status wal_prepare(struct wal *wal, lsm_error *err)
{
    lsm_status status = wal_check_poison(wal, err);
    if (status != LSM_OK || wal_spare_count(wal) > 0)
        return status;
    enum shm_lock_result result = shm_trylock(&wal->log->spare_lock);
    if (result == SHM_LOCK_BUSY)
        return LSM_OK; /* somebody is making one */
    if (result == SHM_LOCKED_OWNER_DIED) {
        atomic_store(&wal->log->sweep_due, 1); /* for the file it was making */
        shm_lock_repaired(&wal->log->spare_lock);
    }
    if (wal_spare_count(wal) == 0)
        status = make_spare(wal, err);
    shm_unlock(&wal->log->spare_lock);
    return status;
}

/* Enters a spare that a clean close left, when it is of use. */
static lsm_status adopt_spare(struct wal *wal, uint64_t number, lsm_error *err)
{
    struct io_file *file = NULL;
    uint64_t size = 0;
    lsm_status status = segment_open(&wal->dir, FILE_WAL_SPARE, number, IO_FILE_WRITE, &file, err);
    if (status != LSM_OK)
        return status;
    status = io_file_size(file, &size, err);
    io_file_close(file);
    if (status == LSM_OK && size == wal->log->segment_size)
        (void)wal_spare_put(wal, number, 0);
    return status;
}

lsm_status wal_adopt_spares(struct wal *wal, const struct segment_list *list, lsm_error *err)
{
    /* Segments are left only where nobody closed the log: the spares may be written to as well. */
    bool clean = list->segment_count == 0;
    lsm_status status = LSM_OK;
    /* Who closed it may have died before their names were durable: what is written to one would be
     * in a segment that comes back. */
    if (clean && list->spare_count > 0)
        status = wal_sync_dir(wal, err);
    for (size_t i = 0; i < list->spare_count && status == LSM_OK && clean; i++)
        status = adopt_spare(wal, list->spares[i], err);
    return status;
}

/* ---- beginning a segment --------------------------------------------------------------------- */

/* A spare of at least `size` bytes. */
static lsm_status take_spare(struct wal *wal, uint64_t size, struct segment_spare *spare,
                             lsm_error *err)
{
    uint64_t usual = wal->log->segment_size;
    uint64_t word = size <= usual ? pool_take(wal) : 0;
    if (word == 0)
        return segment_spare_make(&wal->dir, fresh_number(wal), size <= usual ? usual : size,
                                  wal_reserve_limit(wal, size), spare, err);
    STEP("log segment: file taken");
    struct segment_spare taken = {
        .number = wal_packed_number(word), .size = usual, .filled = wal_packed_filled(word)};
    lsm_status status =
        segment_open(&wal->dir, FILE_WAL_SPARE, taken.number, IO_FILE_WRITE, &taken.file, err);
    if (status == LSM_OK)
        *spare = taken;
    else
        atomic_store(&wal->log->sweep_due, 1);
    return status;
}

static struct log_segment_header make_header(struct wal *wal, const struct wal_beginning *b,
                                             uint64_t size)
{
    bool is_first = (b->flags & LOG_SEGMENT_OPENED) != 0; /* behind it the stage file is marked */
    struct log_segment_header header = {
        .flags = is_first ? b->flags : b->flags | LOG_SEGMENT_MARKED,
        .number = fresh_number(wal),
        .start = b->start,
        .size = size,
        .previous = b->previous,
        .previous_start = b->previous == 0 ? 0 : b->previous_start,
        .previous_end = b->previous == 0 ? 0 : b->start,
        .resume = wal->log->resume,
        .chain = wal->log->resume_chain,
    };
    memcpy(header.uuid, wal->dir.uuid, sizeof header.uuid);
    memcpy(header.nonce, wal->log->nonce, sizeof header.nonce);
    memcpy(header.nonce_before, wal->log->nonce_before, sizeof header.nonce_before);
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
    STEP("log segment: header written");
    return status == LSM_OK ? wal_sync_file(wal, spare->file, err) : status;
}

/* Gives the file its name as a segment and opens it by that. */
static lsm_status give_name(struct wal *wal, struct segment_spare *spare, uint64_t number,
                            struct io_file **file, lsm_error *err)
{
    char from[FILE_NAME_SIZE], to[FILE_NAME_SIZE];
    io_file_close(spare->file);
    spare->file = NULL;
    STEP("log segment: header synced");
    lsm_status status =
        io_dir_rename(wal->dir.dir, file_name_make(FILE_WAL_SPARE, spare->number, from),
                      file_name_make(FILE_WAL, number, to), err);
    STEP("log segment: renamed");
    if (status == LSM_OK)
        status = wal_sync_dir(wal, err);
    STEP("log segment: name synced");
    if (status == LSM_OK)
        status = segment_open(&wal->dir, FILE_WAL, number, IO_FILE_WRITE, file, err);
    return status;
}

/*
 * Takes `header` for the current segment. The number makes it so: a death before leaves the old
 * one, a death behind a new one whose other words nobody trusts.
 */
static void switch_to(struct wal *wal, const struct log_segment_header *header,
                      struct io_file *file, uint64_t filled, uint64_t reserved)
{
    struct shm_commit *commit = &wal->layout->commit;
    struct shm_log *log = wal->log;
    log->holder = 0;
    atomic_store_explicit(&commit->segment_number, header->number, memory_order_release);
    STEP("log segment: number told");
    commit->segment_start = header->start;
    log->segment_bytes = header->size;
    log->finished = false;
    log->recyclable = true;
    log->filled = filled;
    log->reserved = reserved;
    atomic_store(&log->spare_due, 0);
    atomic_store_explicit(&commit->reusable, header->start, memory_order_release);
    atomic_store_explicit(&commit->sync_busy, 0, memory_order_release);

    io_file_close(wal->file);
    wal->file = file;
    wal->current = (struct wal_current){header->number, header->start, header->size};
    wal->reached = wal->fits = header->start;
    wal_add_link(wal, &(struct wal_link){header->number, header->start, header->previous});
    log->holder = wal->handle;
    STEP("log segment: in force");
}

lsm_status wal_begin_segment(struct wal *wal, const struct wal_beginning *b, lsm_error *err)
{
    struct segment_spare spare;
    wal->log->finished = true;
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
    if (status != LSM_OK) {
        /* In vain: it stays off the chain, for the next one has a higher number. */
        atomic_store(&wal->log->sweep_due, 1);
        return status;
    }
    uint64_t filled = LOG_SEGMENT_HEADER + b->tail_size;
    uint64_t reserved = wal_reserve_limit(wal, filled);
    if (filled < spare.filled)
        filled = spare.filled;
    if (reserved < filled)
        reserved = filled;
    if (b->recycle)
        wal_note_clean(wal, wal->current.number, wal->log->filled);
    switch_to(wal, &header, file, filled, reserved);
    return LSM_OK;
}
