/* Two windows of neighbouring pieces: one is used while the other is read. */
#include "engine/compact/spill_private.h"

#include "engine/base/memory.h"

static uint64_t piece_count(const struct spill *s)
{
    return (s->size + SPILL_PAYLOAD - 1) / SPILL_PAYLOAD;
}

/* Bytes of records in a piece. */
static size_t piece_used(const struct spill *s, uint64_t piece)
{
    uint64_t left = s->size - piece * SPILL_PAYLOAD;
    return left < SPILL_PAYLOAD ? (size_t)left : SPILL_PAYLOAD;
}

/* Bytes of a piece in the file. */
static size_t piece_size(const struct spill *s, uint64_t piece)
{
    size_t size = sizeof(uint64_t) + piece_used(s, piece);
    return (size + IO_ALIGNMENT - 1) & ~(IO_ALIGNMENT - 1);
}

/* ---- windows --------------------------------------------------------------------------------- */

/* Asks for the next pieces, if there are any. */
static lsm_status ask(struct spill_reader *r, unsigned window, lsm_error *err)
{
    const struct spill *s = r->spill;
    uint64_t first = r->next_piece, count = piece_count(s);
    r->windows[window].first = r->windows[window].limit = first;
    if (first >= count)
        return LSM_OK;
    if (r->windows[window].memory == NULL)
        r->windows[window].memory = mem_alloc_buffer(r->window_size);
    if (r->windows[window].memory == NULL)
        return lsm_fail_memory(err, r->window_size);
    uint64_t limit = first + r->window_size / SPILL_PIECE;
    limit = limit < count ? limit : count;
    r->windows[window].limit = r->next_piece = limit;
    struct io_request *request = &r->windows[window].request;
    *request = (struct io_request){
        .operation = IO_READ,
        .file = s->file->file,
        .memory = r->windows[window].memory,
        .size = (size_t)(limit - 1 - first) * SPILL_PIECE + piece_size(s, limit - 1),
        .offset = s->offset + first * SPILL_PIECE,
        .owner = (void *)(uintptr_t)window,
    };
    r->windows[window].in_flight = true;
    io_queue_push(r->queue, request);
    return io_queue_submit(r->queue, err);
}

static lsm_status await(struct spill_reader *r, unsigned window, lsm_error *err)
{
    while (r->windows[window].in_flight) {
        struct io_request *done = io_queue_reap(r->queue, true);
        if (done == NULL)
            return lsm_fail(err, LSM_IO, "a read of '%s' was lost by its queue",
                            io_file_name(r->spill->file->file));
        r->windows[(size_t)(uintptr_t)done->owner].in_flight = false;
        if (done->os_errno != 0)
            return io_request_error(done, err);
        if (done->transferred != done->size)
            return lsm_fail(err, LSM_CORRUPT,
                            "a read of '%s' at offset %" PRIu64
                            " gave %zu of %zu bytes that were written there",
                            io_file_name(r->spill->file->file), done->offset, done->transferred,
                            done->size);
    }
    return LSM_OK;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

/* Goes to r->piece, which is the first of a window or behind the piece before. */
static lsm_status enter_piece(struct spill_reader *r, lsm_error *err)
{
    const struct spill *s = r->spill;
    lsm_status status = LSM_OK;
    if (r->piece >= r->windows[r->current].limit) {
        status = ask(r, r->current, err);
        r->current = (r->current + 1) % SPILL_WINDOWS;
        if (status == LSM_OK)
            status = await(r, r->current, err);
    }
    if (status != LSM_OK)
        return status;
    size_t place = (size_t)(r->piece - r->windows[r->current].first) * SPILL_PIECE;
    const uint8_t *bytes = r->windows[r->current].memory + place;
    size_t size = piece_size(s, r->piece);
    uint64_t seed = spill_seed(s, r->piece);
    if (bytes_get_u64(bytes) != hash_bytes(bytes + sizeof seed, size - sizeof seed, seed))
        return lsm_fail(err, LSM_CORRUPT,
                        "what was put aside in '%s' came back with a different checksum at offset "
                        "%" PRIu64,
                        io_file_name(s->file->file), s->offset + r->piece * SPILL_PIECE);
    r->at = bytes + sizeof seed;
    r->limit = r->at + piece_used(s, r->piece);
    return LSM_OK;
}

static bool is_at_end(const struct spill_reader *r)
{
    return r->piece + 1 >= piece_count(r->spill);
}

lsm_status spill_open(struct spill_reader *r, const struct spill *spill, uint64_t position,
                      size_t memory, lsm_error *err)
{
    size_t window = memory / SPILL_WINDOWS & ~(SPILL_PIECE - 1);
    window = window < SPILL_PIECE ? SPILL_PIECE : window;
    r->spill = spill;
    r->window_size = window > SPILL_WINDOW_MAX ? SPILL_WINDOW_MAX : window;
    r->piece = r->next_piece = position / SPILL_PAYLOAD;
    if (position >= spill->size)
        return LSM_OK;
    lsm_status status = io_queue_open(spill->file->env->io, SPILL_WINDOWS, &r->queue, err);
    for (unsigned i = 0; status == LSM_OK && i < SPILL_WINDOWS; i++)
        status = ask(r, i, err);
    if (status == LSM_OK)
        status = await(r, 0, err);
    if (status == LSM_OK)
        status = enter_piece(r, err);
    if (status == LSM_OK)
        r->at += position % SPILL_PAYLOAD;
    return status;
}

void spill_close(struct spill_reader *r)
{
    io_queue_close(r->queue);
    for (unsigned i = 0; i < SPILL_WINDOWS; i++)
        mem_free_buffer(r->windows[i].memory, r->window_size);
    buffer_release(&r->whole);
    *r = (struct spill_reader){0};
}

/* ---- records --------------------------------------------------------------------------------- */

/* Puts a record of several pieces together. */
static lsm_status join(struct spill_reader *r, lsm_error *err)
{
    struct record head = record_at(r->at);
    size_t size = record_size(head.key_size, head.value_size);
    uint64_t left = r->spill->size - r->piece * SPILL_PAYLOAD;
    if (size > left)
        return lsm_fail(err, LSM_CORRUPT,
                        "an entry put aside in '%s' has %zu bytes where %" PRIu64 " are left",
                        io_file_name(r->spill->file->file), size, left);
    buffer_clear(&r->whole);
    if (!buffer_reserve(&r->whole, size))
        return lsm_fail_memory(err, size);
    lsm_status status = LSM_OK;
    while (status == LSM_OK && r->whole.size < size) {
        size_t part = (size_t)(r->limit - r->at), wanted = size - r->whole.size;
        part = part < wanted ? part : wanted;
        buffer_append(&r->whole, r->at, part);
        r->at += part;
        if (r->whole.size < size) {
            r->piece++;
            status = enter_piece(r, err);
        }
    }
    return status;
}

lsm_status spill_next_slowly(struct spill_reader *r, const uint8_t **record, lsm_error *err)
{
    *record = NULL;
    if (r->at == r->limit) {
        if (r->queue == NULL || is_at_end(r))
            return LSM_OK;
        r->piece++;
        lsm_status status = enter_piece(r, err);
        if (status != LSM_OK)
            return status;
    }
    size_t left = (size_t)(r->limit - r->at);
    if (left >= record_size_at(r->at)) {
        *record = r->at;
        r->at += record_size_at(r->at);
        return LSM_OK;
    }
    lsm_status status = join(r, err);
    if (status == LSM_OK)
        *record = r->whole.data;
    return status;
}
