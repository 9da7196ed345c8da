/*
 * Opening goes in an order that leaves the log whole at every step: what stands in segments is made
 * durable; a new segment that seals it takes the ring's tail, durable before it has a name; only
 * then may the stage file be replaced. Nobody appends before all of it is done.
 *
 * A process that joins later finds everything in shared memory and opens the stage file alone.
 */
#include "engine/wal/wal_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"

#include <stdio.h>

/* ---- checks ---------------------------------------------------------------------------------- */

static lsm_status check_size(uint64_t value, uint64_t least, const char *name, lsm_error *err)
{
    if (value >= least && value % IO_ALIGNMENT == 0 && value <= SIZE_MAX / 4)
        return LSM_OK;
    lsm_status status = lsm_fail(
        err, LSM_INVALID, "%s is %" PRIu64 ": at least %" PRIu64 " and a multiple of %zu is needed",
        name, value, least, IO_ALIGNMENT);
    status_numbers(err, least, value);
    return status;
}

static lsm_status check_arguments(const struct wal_options *options, const struct wal_end *end,
                                  lsm_error *err)
{
    assert(options->layout != NULL);
    lsm_status status = check_size(options->stage_size, WAL_MIN_STAGE, "the stage size", err);
    if (status == LSM_OK)
        status = check_size(options->segment_size, options->stage_size, "the size of a log segment",
                            err);
    if (status != LSM_OK)
        return status;
    bool fits = end->segments_end <= end->position && end->position % LOG_RECORD_ALIGNMENT == 0;
    if (!fits || (end->last_segment == 0 && end->segments_end != end->position))
        return lsm_fail(err, LSM_INVALID,
                        "the log cannot end at position %" PRIu64 " with segments up to %" PRIu64,
                        end->position, end->segments_end);
    return LSM_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* What is found at open and needed until it is over. */
struct opening {
    const struct wal_end *end;
    struct segment_list list;
    struct segment_chain chain; /* of the segments that are there; its last is end->last_segment */
    uint8_t *tail;              /* the log from end->segments_end on, padded to whole blocks */
    size_t tail_size;           /* padded */
    bool stage_is_marked;       /* the stage file names the life that begins */
};

static void opening_release(struct opening *opening)
{
    segment_list_release(&opening->list);
    segment_chain_release(&opening->chain);
    mem_free(opening->tail);
}

static lsm_status find_segments(struct wal *wal, struct opening *opening, lsm_error *err)
{
    const struct wal_end *end = opening->end;
    lsm_status status = segment_list_read(wal->dir.dir, &opening->list, err);
    if (status == LSM_OK && end->last_segment != 0)
        status = segment_chain_read(&wal->dir, end->last_segment, end->segments_end, true,
                                    &opening->chain, err);
    if (status != LSM_OK)
        return status;
    uint64_t next = opening->list.next_number;
    if (end->next_segment > next)
        next = end->next_segment;
    if (atomic_load(&wal->layout->ctl.next_wal_number) < next)
        atomic_store(&wal->layout->ctl.next_wal_number, next);
    return LSM_OK;
}

/* Flushes every old segment. A process that was killed may have written what it never flushed. */
static lsm_status flush_old_segments(struct wal *wal, const struct opening *opening, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < opening->list.segment_count && status == LSM_OK; i++) {
        struct io_file *file = NULL;
        status =
            segment_open(&wal->dir, FILE_WAL, opening->list.segments[i], IO_FILE_WRITE, &file, err);
        if (status == LSM_OK)
            status = io_file_sync(file, err);
        io_file_close(file);
    }
    return status;
}

/* The newest segment that was found; NULL: there is none. */
static const struct log_segment_header *newest_segment(const struct opening *opening)
{
    const struct segment_chain *chain = &opening->chain;
    return chain->count > 0 ? &chain->headers[chain->count - 1] : NULL;
}

static lsm_status read_tail(struct wal *wal, struct opening *opening, lsm_error *err)
{
    const struct log_segment_header *newest = newest_segment(opening);
    bool is_marked = newest != NULL && (newest->flags & LOG_SEGMENT_MARKED) != 0;
    const struct wal_end *end = opening->end;
    size_t size = (size_t)(end->position - end->segments_end);
    size_t padding = (IO_ALIGNMENT - size % IO_ALIGNMENT) % IO_ALIGNMENT;
    if (size == 0)
        return LSM_OK;
    opening->tail = mem_alloc_aligned(IO_ALIGNMENT, size + padding);
    if (opening->tail == NULL)
        return lsm_fail_memory(err, size + padding);
    memset(opening->tail + size, 0, padding);
    opening->tail_size = size + padding;
    return wal_stage_read(&wal->dir, is_marked, end->segments_end, end->position, opening->tail,
                          err);
}

/* The nonce of this life begins to count, and the one of the tail is kept beside it. */
static void draw_nonce(struct wal *wal, const struct opening *opening)
{
    struct shm_log *log = wal->log;
    log->resume = opening->end->position;
    log->resume_chain = opening->end->chain;
    io_random(wal->dir.io, log->nonce, sizeof log->nonce);
    memset(log->nonce_before, 0, sizeof log->nonce_before);
    if (newest_segment(opening) != NULL)
        memcpy(log->nonce_before, newest_segment(opening)->nonce, sizeof log->nonce_before);
    wal->seed = log_record_seed(wal->dir.uuid, log->nonce);
}

/* `before`: the life of the ring until this one begins. */
static struct stage_trailer trailer_of(const struct wal *wal, const uint8_t before[LOG_NONCE_SIZE])
{
    struct stage_trailer trailer = {.ring_size = wal->log->stage_size};
    memcpy(trailer.uuid, wal->dir.uuid, sizeof trailer.uuid);
    memcpy(trailer.nonce, wal->log->nonce, sizeof trailer.nonce);
    memcpy(trailer.nonce_before, before, sizeof trailer.nonce_before);
    return trailer;
}

static lsm_status claim_stage(struct wal *wal, struct opening *opening, lsm_error *err)
{
    struct stage_trailer trailer = trailer_of(wal, wal->log->nonce_before);
    uint64_t number = atomic_load(&wal->layout->ctl.next_wal_number); /* nobody else is here */
    return wal_stage_claim(&wal->dir, &trailer, opening->tail_size > 0, number,
                           &opening->stage_is_marked, err);
}

static lsm_status open_stage(struct wal *wal, const struct wal_options *options, lsm_error *err)
{
    struct stage_trailer trailer = trailer_of(wal, wal->log->nonce);
    uint64_t number = atomic_fetch_add(&wal->layout->ctl.next_wal_number, 1);
    return wal_stage_open(&wal->stage, &wal->dir, &trailer, options->refuse_mapping, number, err);
}

static lsm_status begin_first_segment(struct wal *wal, const struct opening *opening,
                                      lsm_error *err)
{
    const struct segment_chain *chain = &opening->chain;
    struct wal_beginning beginning = {
        .flags = LOG_SEGMENT_OPENED | (opening->stage_is_marked ? LOG_SEGMENT_MARKED : 0),
        .start = opening->end->segments_end,
        .previous = opening->end->last_segment,
        .previous_start = chain->count > 0 ? chain->headers[chain->count - 1].start : 0,
        .tail = opening->tail,
        .tail_size = opening->tail_size,
    };
    return wal_begin_segment(wal, &beginning, err);
}

/* Nobody writes to the old segment any more: the space it had in reserve is given back, so that a
 * process that dies again and again does not fill the disk. Where it fails it costs only space. */
static void trim_old_segment(struct wal *wal, const struct opening *opening)
{
    const struct segment_chain *chain = &opening->chain;
    struct io_file *file = NULL;
    if (chain->count == 0)
        return;
    const struct log_segment_header *last = &chain->headers[chain->count - 1];
    uint64_t size = segment_sealed_size(last, opening->end->segments_end);
    if (segment_open(&wal->dir, FILE_WAL, last->number, IO_FILE_WRITE, &file, NULL) == LSM_OK)
        (void)io_file_truncate(file, size, NULL);
    io_file_close(file);
}

/* The block of the log's end is written again by the next append: its head must be in the ring. */
static lsm_status settle_ring(struct wal *wal, const struct opening *opening, lsm_error *err)
{
    struct wal_stage *stage = &wal->stage;
    uint64_t position = opening->end->position, start = opening->end->segments_end;
    uint64_t block = wal_block_start(wal, position);
    size_t size = (size_t)(position - block);
    lsm_status status = LSM_OK;
    if (size > 0) {
        wal_stage_copy_in(stage, block, opening->tail + (block - start), size);
        if (stage->mapping == NULL)
            status = wal_stage_write(stage, block, size, err);
    }
    if (status != LSM_OK)
        return status;
    stage->held_first = block;
    stage->held_limit = position;
    wal->reached = wal->fits = position;

    struct shm_commit *commit = &wal->layout->commit;
    commit->chain = opening->end->chain;
    atomic_store(&commit->sync_busy, 0);
    atomic_store(&commit->written, position);
    atomic_store(&commit->durable, position);
    atomic_store(&commit->reusable, block);
    atomic_store(&commit->staged, position);
    return LSM_OK;
}

static void describe_path(struct wal *wal)
{
    const char *stage = wal->stage.mapping != NULL
                            ? "a commit is a copy into the mapped stage file"
                            : "a commit is a write to the stage file, which cannot be mapped here";
    const char *direct = wal->log->is_direct
                             ? "past the page cache"
                             : "through the page cache, which this file system insists on";
    snprintf(wal->path_text, sizeof wal->path_text, "%s; segments are written by %s %s", stage,
             io_name(wal->dir.io), direct);
}

/* What all processes share; the layout is fresh, and nobody else has it. */
static lsm_status settle_layout(struct wal *wal, const struct wal_options *options, lsm_error *err)
{
    struct shm_log *log = wal->log;
    memset(log, 0, sizeof *log);
    log->stage_size = options->stage_size;
    log->segment_size = options->segment_size;
    wal->handle = atomic_fetch_add(&log->handle_count, 1) + 1;
    atomic_store(&log->sweep_due, 1); /* for what earlier lives have left */
    int error = shm_lock_init(&log->spare_lock);
    return error == 0 ? LSM_OK
                      : lsm_fail_errno(err, error, "cannot make a lock for the log in '%s'",
                                       io_dir_path(wal->dir.dir));
}

static lsm_status open_at(struct wal *wal, const struct wal_options *options,
                          struct opening *opening, lsm_error *err)
{
    lsm_status status = settle_layout(wal, options, err);
    if (status == LSM_OK)
        status = find_segments(wal, opening, err);
    if (status == LSM_OK)
        status = flush_old_segments(wal, opening, err);
    if (status == LSM_OK)
        status = wal_adopt_spares(wal, &opening->list, err);
    if (status == LSM_OK)
        status = read_tail(wal, opening, err);
    if (status != LSM_OK)
        return status;
    draw_nonce(wal, opening);
    STEP("log open: old segments synced");
    status = claim_stage(wal, opening, err);
    STEP("log open: stage file claimed");
    if (status == LSM_OK)
        status = begin_first_segment(wal, opening, err);
    if (status != LSM_OK)
        return status;
    trim_old_segment(wal, opening);
    STEP("log open: old segment cut");
    status = open_stage(wal, options, err);
    if (status == LSM_OK)
        status = settle_ring(wal, opening, err);
    if (status != LSM_OK)
        return status;
    wal->log->is_mapped = wal->stage.mapping != NULL;
    wal->log->is_direct = io_file_is_direct(wal->file);
    describe_path(wal);
    return LSM_OK;
}

static void close_files(struct wal *wal)
{
    io_queue_close(wal->queue); /* waits for what is in flight */
    io_file_close(wal->file);
    wal_stage_close(&wal->stage);
    wal->queue = NULL;
    wal->file = NULL;
}

static void wal_free(struct wal *wal)
{
    close_files(wal);
    buffer_release(&wal->scratch);
    mem_free_buffer(wal->buffer, WAL_WRITE_SIZE);
    mem_free(wal->links);
    mem_free(wal);
}

static lsm_status wal_new(const struct wal_options *options, struct wal **wal, lsm_error *err)
{
    struct wal *w = mem_alloc_zeroed(sizeof *w);
    if (w == NULL)
        return lsm_fail_memory(err, sizeof *w);
    w->dir = (struct segment_dir){.io = options->io, .dir = options->dir, .mode = options->mode};
    memcpy(w->dir.uuid, options->uuid, sizeof w->dir.uuid);
    w->layout = options->layout;
    w->log = &options->layout->commit.log;
    lsm_status status = io_queue_open(options->io, 1, &w->queue, err);
    if (status == LSM_OK) {
        w->buffer = mem_alloc_buffer(WAL_WRITE_SIZE);
        if (w->buffer == NULL)
            status = lsm_fail_memory(err, WAL_WRITE_SIZE);
    }
    if (status != LSM_OK) {
        wal_free(w);
        return status;
    }
    *wal = w;
    return LSM_OK;
}

lsm_status wal_open(const struct wal_options *options, const struct wal_end *end, struct wal **wal,
                    lsm_error *err)
{
    struct opening opening = {.end = end};
    struct wal *w = NULL;
    lsm_status status = check_arguments(options, end, err);
    if (status == LSM_OK)
        status = wal_new(options, &w, err);
    if (status != LSM_OK)
        return status;
    status = open_at(w, options, &opening, err);
    opening_release(&opening);
    if (status == LSM_OK)
        *wal = w;
    else
        wal_free(w);
    return status;
}

lsm_status wal_attach(const struct wal_options *options, struct wal **wal, lsm_error *err)
{
    assert(options->layout != NULL);
    struct wal *w = NULL;
    lsm_status status = wal_new(options, &w, err);
    if (status != LSM_OK)
        return status;
    w->handle = atomic_fetch_add(&w->log->handle_count, 1) + 1;
    w->seed = log_record_seed(w->dir.uuid, w->log->nonce);
    bool refuse_mapping = options->refuse_mapping || !w->log->is_mapped;
    struct stage_trailer trailer = trailer_of(w, w->log->nonce);
    status = wal_stage_join(&w->stage, &w->dir, &trailer, refuse_mapping, err);
    if (status != LSM_OK) {
        wal_free(w);
        return status;
    }
    describe_path(w);
    *wal = w;
    return LSM_OK;
}

/* ---- closing --------------------------------------------------------------------------------- */

void wal_detach(struct wal *wal)
{
    if (wal == NULL)
        return;
    assert(!wal->in_flight);
    wal_free(wal);
}

/* Nobody needs a byte of the log any more: what is small of its files waits for the next open. */
static lsm_status keep_as_spares(struct wal *wal, lsm_error *err)
{
    struct shm_log *log = wal->log;
    lsm_status status = wal_check_poison(wal, err);
    if (status != LSM_OK)
        return status;
    /* Where that fails, or the segment was a dead process's, its file goes. */
    bool known = wal_take_up(wal, NULL) == LSM_OK;
    if (known && log->recyclable && wal->current.size == log->segment_size)
        wal_note_clean(wal, wal->current.number, log->filled);
    close_files(wal); /* the directory takes a descriptor to read */
    return wal_remove_all(wal, err);
}

void wal_abandon(struct wal *wal)
{
    if (wal != NULL)
        wal_free(wal);
}

lsm_status wal_close(struct wal *wal, bool clean, lsm_error *err)
{
    if (wal == NULL)
        return LSM_OK;
    lsm_status status = LSM_OK;
    if (clean) {
        (void)wal_write_finish_locked(wal, NULL); /* where it failed the file is not recycled */
        status = keep_as_spares(wal, err);
    }
    wal_free(wal);
    return status;
}

const char *wal_path_text(const struct wal *wal)
{
    return wal->path_text;
}

bool wal_is_direct(const struct wal *wal)
{
    return wal->log->is_direct != 0;
}
