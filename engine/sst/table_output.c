/*
 * Past the page cache: a ring of three buffers, one fills while two are on their way.
 *
 * Through it: one buffer, copied into the page cache by the thread that filled it, as its own
 * processor has it at hand. The kernel's ring would wake a thread of the kernel for each piece,
 * which fetches the bytes from another processor. The disk works meanwhile all the same, for it is
 * told to start with each piece; otherwise the sync at the end would wait for the whole table.
 */
#include "engine/sst/table_output.h"

#include "engine/base/cancel.h"
#include "engine/base/memory.h"
#include "engine/base/step.h"

#include <assert.h>
#include <time.h>

#define NS_PER_SECOND UINT64_C(1000000000)
#define RATE_BURST_NS (NS_PER_SECOND / 20) /* unused time that may be saved up */

lsm_status table_output_open(struct table_output *o, const struct table_env *env, const char *name,
                             struct table_pace *pace, lsm_error *err)
{
    unsigned flags = IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_NEW | table_io_flags(env);
    *o = (struct table_output){.io = env->io, .pace = pace};
    o->status = io_file_open(env->dir, name, flags, env->mode, &o->file, err);
    STEP("table: made");
    return o->status;
}

static void sleep_ns(uint64_t ns)
{
    struct timespec left = {(time_t)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND)};
    int before = cancel_hold();
    while (nanosleep(&left, &left) != 0)
        ;
    cancel_release(before);
}

/* Charges for `size` bytes, and sleeps until those written before are paid for. */
static void pay(struct table_output *o, size_t size)
{
    struct table_pace *pace = o->pace;
    if (pace == NULL || pace->rate == 0)
        return;
    uint64_t cost = (uint64_t)((double)size * (double)NS_PER_SECOND / (double)pace->rate);
    uint64_t now = io_now_ns(o->io), turn;
    uint64_t free_at = atomic_load_explicit(&pace->free_at, memory_order_relaxed);
    do {
        turn = now > free_at && now - free_at > RATE_BURST_NS ? now - RATE_BURST_NS : free_at;
    } while (!atomic_compare_exchange_weak_explicit(&pace->free_at, &free_at, turn + cost,
                                                    memory_order_relaxed, memory_order_relaxed));
    if (turn <= now)
        return;
    sleep_ns(turn - now);
    now = io_now_ns(o->io);
    if (now < turn) /* a simulated clock stood still: the debt is paid all the same */
        atomic_fetch_sub_explicit(&pace->free_at, turn - now, memory_order_relaxed);
}

/* Waits for one write. */
static lsm_status reap(struct table_output *o, lsm_error *err)
{
    struct io_request *done = io_queue_reap(o->queue, true);
    if (done == NULL)
        return lsm_fail(err, LSM_IO, "a write to '%s' was lost by its queue",
                        io_file_name(o->file));
    o->pieces[(size_t)(uintptr_t)done->owner].in_flight = false;
    if (done->os_errno != 0)
        return io_request_error(done, err);
    if (done->transferred != done->size)
        return lsm_fail(err, LSM_IO,
                        "a write to '%s' at offset %" PRIu64 " was cut to %zu of %zu bytes",
                        io_file_name(o->file), done->offset, done->transferred, done->size);
    return LSM_OK;
}

/* Waits until the next buffer is free, too. */
static lsm_status submit_piece(struct table_output *o, lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (o->queue == NULL)
        status = io_queue_open(o->io, TABLE_OUTPUT_PIECES, &o->queue, err);
    if (status != LSM_OK)
        return status;
    struct io_request *request = &o->pieces[o->current].request;
    *request = (struct io_request){
        .operation = IO_WRITE,
        .file = o->file,
        .memory = o->pieces[o->current].memory,
        .size = TABLE_DIGEST_PIECE,
        .offset = o->offset,
        .owner = (void *)(uintptr_t)o->current,
    };
    o->pieces[o->current].in_flight = true;
    io_queue_push(o->queue, request);
    status = io_queue_submit(o->queue, err);
    o->current = (o->current + 1) % TABLE_OUTPUT_PIECES;
    while (status == LSM_OK && o->pieces[o->current].in_flight)
        status = reap(o, err);
    return status;
}

static lsm_status copy_piece(struct table_output *o, lsm_error *err)
{
    lsm_status status =
        io_file_write(o->file, o->pieces[o->current].memory, TABLE_DIGEST_PIECE, o->offset, err);
    if (status == LSM_OK)
        io_file_write_back(o->file, o->offset, TABLE_DIGEST_PIECE);
    return status;
}

/* The current piece is full: it is written, or sent off, and the current one is free. */
static lsm_status next_piece(struct table_output *o, lsm_error *err)
{
    o->digest = table_digest_add(o->digest, o->pieces[o->current].memory, TABLE_DIGEST_PIECE);
    pay(o, TABLE_DIGEST_PIECE);
    lsm_status status = io_file_is_direct(o->file) ? submit_piece(o, err) : copy_piece(o, err);
    o->offset += TABLE_DIGEST_PIECE;
    o->used = 0;
    return status;
}

/* Room in the current piece, which gets its memory here. */
static lsm_status open_piece(struct table_output *o, size_t *room, lsm_error *err)
{
    uint8_t **memory = &o->pieces[o->current].memory;
    if (*memory == NULL)
        *memory = mem_alloc_buffer(TABLE_DIGEST_PIECE);
    if (*memory == NULL)
        return lsm_fail_memory(err, TABLE_DIGEST_PIECE);
    *room = TABLE_DIGEST_PIECE - o->used;
    return LSM_OK;
}

/* NULL bytes are zeros. */
static lsm_status append(struct table_output *o, const uint8_t *bytes, uint64_t size,
                         lsm_error *err)
{
    while (size > 0 && o->status == LSM_OK) {
        size_t room = 0;
        o->status = open_piece(o, &room, err);
        if (o->status != LSM_OK)
            break;
        size_t part = size < room ? (size_t)size : room;
        uint8_t *at = o->pieces[o->current].memory + o->used;
        if (bytes != NULL) {
            memcpy(at, bytes, part);
            bytes += part;
        } else {
            memset(at, 0, part);
        }
        o->used += part;
        size -= part;
        if (o->used == TABLE_DIGEST_PIECE)
            o->status = next_piece(o, err);
    }
    return o->status;
}

lsm_status table_output_append(struct table_output *o, const void *bytes, size_t size,
                               lsm_error *err)
{
    return append(o, bytes, size, err);
}

lsm_status table_output_pad(struct table_output *o, uint64_t offset, lsm_error *err)
{
    assert(o->status != LSM_OK || offset >= table_output_size(o));
    return append(o, NULL, offset - table_output_size(o), err);
}

uint64_t table_output_digest(const struct table_output *o)
{
    return o->used == 0 ? o->digest
                        : table_digest_add(o->digest, o->pieces[o->current].memory, o->used);
}

static void free_pieces(struct table_output *o)
{
    for (unsigned i = 0; i < TABLE_OUTPUT_PIECES; i++) {
        mem_free_buffer(o->pieces[i].memory, TABLE_DIGEST_PIECE);
        o->pieces[i].memory = NULL;
    }
}

/* Waits for what is on its way, and writes `size` bytes of the current piece. */
static lsm_status write_out(struct table_output *o, size_t size, lsm_error *err)
{
    while (o->status == LSM_OK && o->queue != NULL && io_queue_in_flight(o->queue) > 0)
        o->status = reap(o, err);
    if (o->status == LSM_OK && size > 0) {
        pay(o, size);
        o->status = io_file_write(o->file, o->pieces[o->current].memory, size, o->offset, err);
    }
    STEP("table: written");
    return o->status;
}

lsm_status table_output_flush(struct table_output *o, lsm_error *err)
{
    assert(o->status != LSM_OK || o->used % IO_ALIGNMENT == 0);
    lsm_status status = write_out(o, o->used, err);
    if (status == LSM_OK)
        free_pieces(o);
    return status;
}

lsm_status table_output_sync(struct table_output *o, lsm_error *err)
{
    if (o->status == LSM_OK)
        o->status = io_file_sync(o->file, err);
    STEP("table: synced");
    return o->status;
}

lsm_status table_output_suspend(struct table_output *o, struct buffer *tail, lsm_error *err)
{
    size_t whole = o->used & ~(IO_ALIGNMENT - 1);
    lsm_status status = write_out(o, whole, err);
    if (status == LSM_OK)
        status = table_output_sync(o, err);
    if (status == LSM_OK) {
        buffer_clear(tail);
        if (o->used > whole)
            buffer_append(tail, o->pieces[o->current].memory + whole, o->used - whole);
        if (tail->failed)
            status = lsm_fail_memory(err, o->used - whole);
    }
    if (status == LSM_OK)
        table_output_close(o);
    return status;
}

lsm_status table_output_resume(struct table_output *o, const struct table_env *env,
                               const char *name, lsm_slice tail, uint64_t size, lsm_error *err)
{
    assert(tail.size < IO_ALIGNMENT && (size - tail.size) % IO_ALIGNMENT == 0);
    *o = (struct table_output){.io = env->io, .offset = size - tail.size};
    o->status = io_file_open(env->dir, name, IO_FILE_WRITE | table_io_flags(env), 0, &o->file, err);
    return table_output_append(o, tail.data, tail.size, err);
}

void table_output_close(struct table_output *o)
{
    io_queue_close(o->queue);
    io_file_close(o->file);
    free_pieces(o);
    *o = (struct table_output){.status = LSM_INVALID};
}
