/*
 * Pieces lie at multiples of their size; piece k stands in slot k modulo their number. A run of
 * bytes within one piece is handed out in place, a longer one is put together in `joint`.
 */
#include "engine/inspect/walk_stream.h"

#include "engine/base/memory.h"
#include "engine/format/table_format.h"

#include <assert.h>
#include <errno.h>

static_assert(WALK_PIECE == TABLE_DIGEST_PIECE, "the digest is made of whole pieces");

#define NO_PIECE   UINT64_MAX
#define PIECE_PAGE IO_ALIGNMENT

struct piece {
    struct io_request request;
    uint8_t *memory;
    uint64_t number; /* NO_PIECE: none */
    size_t size;
    bool is_in_flight;
    bool has_bad; /* a page of it is unreadable */
    int bad_errno;
    uint8_t bad[WALK_PIECE / PIECE_PAGE / 8]; /* a bit for each page */
};

struct walk_stream {
    const struct walk_env *env;
    struct io_file *file;
    struct io_queue *queue;
    uint64_t file_size;
    uint64_t piece_count; /* of the file */
    uint64_t low;         /* pieces from here on are wanted */
    uint64_t next_piece;  /* to be requested */
    uint64_t passed;      /* pieces below are in the digest, as far as it reaches */
    uint64_t digest_size;
    uint64_t digest;
    bool digest_is_whole;
    uint8_t *joint;
    size_t joint_room;
    struct piece pieces[WALK_PIECES];
};

/* ---- reading at once ------------------------------------------------------------------------- */

/* Errors of the medium, as opposed to those of this program or its surroundings. */
static bool is_medium_error(lsm_status status, const lsm_error *e)
{
    return status == LSM_IO && e->os_errno != EBADF && e->os_errno != EINVAL;
}

static lsm_status read_pages(struct io_file *file, uint8_t *memory, size_t size, uint64_t offset,
                             uint8_t *bad, int *bad_errno, lsm_error *err)
{
    for (size_t at = 0; at < size; at += PIECE_PAGE) {
        size_t page = size - at < PIECE_PAGE ? size - at : PIECE_PAGE, got = 0;
        lsm_error inner = {.status = LSM_OK};
        lsm_status status = io_file_read(file, memory + at, PIECE_PAGE, offset + at, &got, &inner);
        if (status != LSM_OK && !is_medium_error(status, &inner)) {
            status_copy(err, &inner);
            return status;
        }
        if (status == LSM_OK && got >= page)
            continue;
        memset(memory + at, 0, page);
        *bad_errno = status == LSM_OK ? EIO : inner.os_errno;
        if (bad != NULL)
            bad[at / PIECE_PAGE / 8] |= (uint8_t)(1u << (at / PIECE_PAGE % 8));
    }
    return LSM_OK;
}

static lsm_status pace(const struct walk_env *env, uint64_t bytes, lsm_error *err)
{
    if (env->pace != NULL && !env->pace(env->pace_context, bytes))
        return lsm_fail(err, LSM_CANCELLED, "the caller cancelled the reading");
    return LSM_OK;
}

static size_t aligned_up(size_t size)
{
    return (size + PIECE_PAGE - 1) & ~(PIECE_PAGE - 1);
}

lsm_status walk_read(const struct walk_env *env, struct io_file *file, void *memory, size_t size,
                     uint64_t offset, int *unreadable, lsm_error *err)
{
    size_t got = 0;
    lsm_error inner = {.status = LSM_OK};
    *unreadable = 0;
    lsm_status status = io_file_read(file, memory, aligned_up(size), offset, &got, &inner);
    if (status == LSM_OK && got < size) {
        status = lsm_fail(err, LSM_CORRUPT,
                          "'%s' has become shorter: %zu bytes at offset %" PRIu64
                          " are left of %zu; is somebody else writing to it?",
                          io_file_name(file), got, offset, size);
        status_place(err, io_file_name(file), offset);
        return status;
    }
    if (is_medium_error(status, &inner))
        status = read_pages(file, memory, size, offset, NULL, unreadable, err);
    else if (status != LSM_OK)
        status_copy(err, &inner);
    return status == LSM_OK ? pace(env, size, err) : status;
}

/* ---- making ---------------------------------------------------------------------------------- */

void walk_stream_close(struct walk_stream *s)
{
    if (s == NULL)
        return;
    io_queue_close(s->queue);
    for (size_t i = 0; i < WALK_PIECES; i++)
        mem_free_buffer(s->pieces[i].memory, WALK_PIECE);
    mem_free_buffer(s->joint, s->joint_room);
    mem_free(s);
}

lsm_status walk_stream_open(const struct walk_env *env, struct io_file *file, uint64_t file_size,
                            struct walk_stream **stream, lsm_error *err)
{
    struct walk_stream *s = mem_alloc_zeroed(sizeof *s);
    if (s == NULL)
        return lsm_fail_memory(err, sizeof *s);
    s->env = env;
    s->file = file;
    s->file_size = file_size;
    s->piece_count = file_size / WALK_PIECE + (file_size % WALK_PIECE != 0);
    s->digest_is_whole = true;
    lsm_status status = io_queue_open(env->io, WALK_PIECES, &s->queue, err);
    for (size_t i = 0; status == LSM_OK && i < WALK_PIECES; i++) {
        s->pieces[i].number = NO_PIECE;
        s->pieces[i].memory = mem_alloc_buffer(WALK_PIECE);
        if (s->pieces[i].memory == NULL)
            status = lsm_fail_memory(err, WALK_PIECE);
    }
    if (status != LSM_OK) {
        walk_stream_close(s);
        return status;
    }
    *stream = s;
    return LSM_OK;
}

void walk_stream_want_digest(struct walk_stream *s, uint64_t size)
{
    s->digest_size = size < s->file_size ? size : s->file_size;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static struct piece *slot_of(struct walk_stream *s, uint64_t number)
{
    return &s->pieces[number % WALK_PIECES];
}

static void request_piece(struct walk_stream *s, uint64_t number)
{
    struct piece *p = slot_of(s, number);
    uint64_t offset = number * WALK_PIECE, left = s->file_size - offset;
    p->number = number;
    p->size = left < WALK_PIECE ? (size_t)left : WALK_PIECE;
    p->has_bad = false;
    p->is_in_flight = true;
    p->request = (struct io_request){
        .operation = IO_READ,
        .file = s->file,
        .memory = p->memory,
        .size = aligned_up(p->size),
        .offset = offset,
        .owner = p,
    };
    io_queue_push(s->queue, &p->request);
}

/* Asks for what comes next, as far as there are slots that nobody needs any more. */
static lsm_status read_ahead(struct walk_stream *s, lsm_error *err)
{
    if (s->next_piece < s->low)
        s->next_piece = s->low;
    bool pushed = false;
    while (s->next_piece < s->piece_count && s->next_piece < s->low + WALK_PIECES &&
           !slot_of(s, s->next_piece)->is_in_flight) {
        request_piece(s, s->next_piece++);
        pushed = true;
    }
    return pushed ? io_queue_submit(s->queue, err) : LSM_OK;
}

static lsm_status take_reaped(struct walk_stream *s, struct io_request *r, lsm_error *err)
{
    struct piece *p = r->owner;
    p->is_in_flight = false;
    if (r->os_errno != 0 || r->transferred < p->size) {
        memset(p->bad, 0, sizeof p->bad);
        p->has_bad = true;
        p->bad_errno = 0;
        lsm_status status =
            read_pages(s->file, p->memory, p->size, r->offset, p->bad, &p->bad_errno, err);
        p->has_bad = p->bad_errno != 0;
        if (status != LSM_OK)
            return status;
    }
    return pace(s->env, p->size, err);
}

static lsm_status reap_one(struct walk_stream *s, lsm_error *err)
{
    struct io_request *done = io_queue_reap(s->queue, true);
    if (done == NULL)
        return lsm_fail(err, LSM_IO, "a read of '%s' was lost", io_file_name(s->file));
    return take_reaped(s, done, err);
}

/* Goes back to piece `number`, whose slot has been used for a later one. */
static lsm_status read_again_from(struct walk_stream *s, uint64_t number, lsm_error *err)
{
    while (io_queue_in_flight(s->queue) > 0) {
        lsm_status status = reap_one(s, err);
        if (status != LSM_OK)
            return status;
    }
    for (size_t i = 0; i < WALK_PIECES; i++)
        s->pieces[i].number = NO_PIECE;
    s->next_piece = number;
    return LSM_OK;
}

/* Makes piece `number` be in memory; it is in the window that begins at s->low. */
static lsm_status wait_piece(struct walk_stream *s, uint64_t number, lsm_error *err)
{
    const struct piece *p = slot_of(s, number);
    lsm_status status = LSM_OK;
    while (status == LSM_OK && (p->number != number || p->is_in_flight)) {
        if (p->number != number && number < s->next_piece)
            status = read_again_from(s, number, err);
        if (status == LSM_OK)
            status = read_ahead(s, err);
        if (status == LSM_OK)
            status = reap_one(s, err);
    }
    return status;
}

/* Takes the pieces below `limit` into the digest, as far as it reaches. */
static lsm_status pass(struct walk_stream *s, uint64_t limit, lsm_error *err)
{
    while (s->passed < limit && s->passed * WALK_PIECE < s->digest_size) {
        s->low = s->passed;
        lsm_status status = wait_piece(s, s->passed, err);
        if (status != LSM_OK)
            return status;
        const struct piece *p = slot_of(s, s->passed);
        uint64_t left = s->digest_size - s->passed * WALK_PIECE;
        s->digest = table_digest_add(s->digest, p->memory, left < p->size ? (size_t)left : p->size);
        s->digest_is_whole = s->digest_is_whole && !p->has_bad;
        s->passed++;
    }
    if (s->passed < limit)
        s->passed = limit;
    return LSM_OK;
}

static int bad_errno_in(const struct piece *p, size_t from, size_t limit)
{
    if (!p->has_bad)
        return 0;
    for (size_t page = from / PIECE_PAGE; page * PIECE_PAGE < limit; page++) {
        if ((p->bad[page / 8] & (1u << (page % 8))) != 0)
            return p->bad_errno;
    }
    return 0;
}

static lsm_status make_joint(struct walk_stream *s, size_t size, lsm_error *err)
{
    if (s->joint_room >= size)
        return LSM_OK;
    size_t room = aligned_up(size) < WALK_PIECE ? WALK_PIECE : aligned_up(size);
    uint8_t *grown = mem_alloc_buffer(room);
    if (grown == NULL)
        return lsm_fail_memory(err, room);
    mem_free_buffer(s->joint, s->joint_room);
    s->joint = grown;
    s->joint_room = room;
    return LSM_OK;
}

lsm_status walk_stream_get(struct walk_stream *s, uint64_t offset, size_t size,
                           const uint8_t **bytes, int *unreadable, lsm_error *err)
{
    uint64_t first = offset / WALK_PIECE;
    uint64_t last = size == 0 ? first : (offset + size - 1) / WALK_PIECE;
    *unreadable = 0;
    lsm_status status = pass(s, first, err);
    s->low = first;
    if (status == LSM_OK)
        status = read_ahead(s, err);
    if (status == LSM_OK && first != last)
        status = make_joint(s, size, err);
    for (uint64_t number = first; status == LSM_OK && number <= last; number++) {
        if (last - first >= WALK_PIECES) /* its first pieces make room for the last ones */
            s->low = number;
        status = wait_piece(s, number, err);
        if (status != LSM_OK)
            break;
        const struct piece *p = slot_of(s, number);
        uint64_t start = number * WALK_PIECE;
        size_t from = number == first ? (size_t)(offset - start) : 0;
        size_t limit = number == last ? (size_t)(offset + size - start) : WALK_PIECE;
        int bad = bad_errno_in(p, from, limit);
        if (bad != 0)
            *unreadable = bad;
        if (first == last)
            *bytes = p->memory + from;
        else
            memcpy(s->joint + (start + from - offset), p->memory + from, limit - from);
    }
    if (status == LSM_OK && first != last)
        *bytes = s->joint;
    return status;
}

lsm_status walk_stream_digest(struct walk_stream *s, uint64_t size, uint64_t *digest,
                              bool *is_whole, lsm_error *err)
{
    if (size != s->digest_size) {
        *is_whole = false;
        return LSM_OK;
    }
    uint64_t limit = size / WALK_PIECE + (size % WALK_PIECE != 0);
    lsm_status status = pass(s, limit, err);
    *digest = s->digest;
    *is_whole = s->digest_is_whole;
    return status;
}
