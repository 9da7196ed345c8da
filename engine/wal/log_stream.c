/*
 * Chunks begin and end on IO_ALIGNMENT borders of the file, so that segments are read past the page
 * cache; a chunk of the ring never runs over the ring's end.
 */
#include "engine/wal/log_stream.h"

#include "engine/base/memory.h"
#include "engine/format/log_record.h"

#include <assert.h>

uint64_t log_source_offset(const struct log_source *source, uint64_t position)
{
    if (source->ring_size != 0)
        return position % source->ring_size;
    return LOG_SEGMENT_HEADER + (position - source->start);
}

static uint64_t align_down(const struct log_source *source, uint64_t position)
{
    return position - log_source_offset(source, position) % IO_ALIGNMENT;
}

static struct log_stream_chunk *chunk_at(struct log_stream *stream, unsigned index)
{
    return &stream->chunks[(stream->chunk_first + index) % LOG_STREAM_DEPTH];
}

lsm_status log_stream_open(struct log_stream *stream, struct io *io, lsm_error *err)
{
    *stream = (struct log_stream){0};
    return io_queue_open(io, LOG_STREAM_DEPTH, &stream->queue, err);
}

void log_stream_close(struct log_stream *stream)
{
    io_queue_close(stream->queue); /* drains, so the memory below is nobody's any more */
    for (unsigned i = 0; i < LOG_STREAM_DEPTH; i++)
        mem_free_buffer(stream->chunks[i].memory, stream->chunks[i].capacity);
    buffer_release(&stream->joined);
    *stream = (struct log_stream){0};
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static size_t chunk_size(const struct log_stream *stream, uint64_t first)
{
    const struct log_source *source = &stream->source;
    uint64_t size = source->limit - first + (IO_ALIGNMENT - 1);
    size -= size % IO_ALIGNMENT;
    if (size > LOG_STREAM_CHUNK)
        size = LOG_STREAM_CHUNK;
    uint64_t offset = log_source_offset(source, first);
    if (source->ring_size != 0 && size > source->ring_size - offset)
        size = source->ring_size - offset;
    return (size_t)size;
}

static lsm_status reserve_chunk(struct log_stream_chunk *c, size_t size, lsm_error *err)
{
    if (size <= c->capacity)
        return LSM_OK;
    mem_free_buffer(c->memory, c->capacity);
    c->capacity = 0;
    c->memory = mem_alloc_buffer(size);
    if (c->memory == NULL)
        return lsm_fail_memory(err, size);
    c->capacity = size;
    return LSM_OK;
}

/* Asks for as many chunks as there is room for. */
static lsm_status read_ahead(struct log_stream *stream, lsm_error *err)
{
    bool pushed = false;
    while (stream->chunk_count < LOG_STREAM_DEPTH && stream->next < stream->source.limit) {
        struct log_stream_chunk *c = chunk_at(stream, stream->chunk_count);
        size_t size = chunk_size(stream, stream->next);
        lsm_status status = reserve_chunk(c, size, err);
        if (status != LSM_OK)
            return status;
        c->first = stream->next;
        c->limit = stream->next + size;
        c->done = false;
        c->request = (struct io_request){
            .operation = IO_READ,
            .file = stream->source.file,
            .memory = c->memory,
            .size = size,
            .offset = log_source_offset(&stream->source, c->first),
            .owner = c,
        };
        io_queue_push(stream->queue, &c->request);
        stream->chunk_count++;
        stream->next = c->limit;
        pushed = true;
    }
    return pushed ? io_queue_submit(stream->queue, err) : LSM_OK;
}

static lsm_status check_request(const struct io_request *r, lsm_error *err)
{
    if (r->os_errno != 0)
        return io_request_error(r, err);
    if (r->transferred == r->size)
        return LSM_OK;
    lsm_status status = lsm_fail(
        err, LSM_CORRUPT, "'%s' ends at offset %" PRIu64 ", where %zu bytes more should be",
        io_file_name(r->file), r->offset + r->transferred, r->size - r->transferred);
    status_place(err, io_file_name(r->file), r->offset + r->transferred);
    status_numbers(err, r->offset + r->size, r->offset + r->transferred);
    return status;
}

static lsm_status wait_for(struct log_stream *stream, const struct log_stream_chunk *wanted,
                           lsm_error *err)
{
    while (!wanted->done) {
        struct io_request *r = io_queue_reap(stream->queue, true);
        assert(r != NULL);
        lsm_status status = check_request(r, err);
        if (status != LSM_OK)
            return status;
        ((struct log_stream_chunk *)r->owner)->done = true;
    }
    return LSM_OK;
}

static lsm_status drop_first(struct log_stream *stream, lsm_error *err)
{
    lsm_status status = wait_for(stream, chunk_at(stream, 0), err);
    stream->chunk_first = (stream->chunk_first + 1) % LOG_STREAM_DEPTH;
    stream->chunk_count--;
    return status;
}

/* Makes the first chunk the one that holds `position`. */
static lsm_status move_to(struct log_stream *stream, uint64_t position, lsm_error *err)
{
    assert(position < stream->source.limit);
    while (stream->chunk_count > 0 && chunk_at(stream, 0)->limit <= position) {
        lsm_status status = drop_first(stream, err);
        if (status != LSM_OK)
            return status;
    }
    if (stream->chunk_count == 0 && stream->next < position)
        stream->next = align_down(&stream->source, position);
    lsm_status status = read_ahead(stream, err);
    if (status != LSM_OK)
        return status;
    assert(chunk_at(stream, 0)->first <= position);
    return wait_for(stream, chunk_at(stream, 0), err);
}

/* ---- reading --------------------------------------------------------------------------------- */

lsm_status log_stream_begin(struct log_stream *stream, const struct log_source *source,
                            uint64_t position, lsm_error *err)
{
    while (stream->chunk_count > 0) {
        lsm_status status = drop_first(stream, err);
        if (status != LSM_OK)
            return status;
    }
    stream->source = *source;
    stream->next = align_down(source, position);
    return LSM_OK;
}

void log_stream_settle(struct log_stream *stream)
{
    while (io_queue_reap(stream->queue, true) != NULL)
        ;
    stream->chunk_count = 0;
}

/* Copies what lies in several chunks together; those left behind give way to later ones. */
static lsm_status join(struct log_stream *stream, uint64_t position, size_t size, lsm_error *err)
{
    buffer_clear(&stream->joined);
    if (!buffer_reserve(&stream->joined, size))
        return lsm_fail_memory(err, size);
    unsigned index = 0;
    while (stream->joined.size < size) {
        lsm_status status = LSM_OK;
        if (index == stream->chunk_count) {
            status = drop_first(stream, err);
            if (status == LSM_OK)
                status = read_ahead(stream, err);
            index--;
        }
        struct log_stream_chunk *c = chunk_at(stream, index++);
        if (status == LSM_OK)
            status = wait_for(stream, c, err);
        if (status != LSM_OK)
            return status;
        uint64_t at = position + stream->joined.size;
        uint64_t here = c->limit - at, left = size - stream->joined.size;
        buffer_append(&stream->joined, c->memory + (at - c->first),
                      (size_t)(here < left ? here : left));
    }
    return LSM_OK;
}

lsm_status log_stream_peek(struct log_stream *stream, uint64_t position, size_t size,
                           const uint8_t **bytes, lsm_error *err)
{
    assert(size > 0 && position + size <= stream->source.limit);
    const struct log_stream_chunk *c = chunk_at(stream, 0);
    /* All that there is room for is asked for when a chunk becomes the first one. */
    if (stream->chunk_count > 0 && c->done && position >= c->first && position + size <= c->limit) {
        *bytes = c->memory + (position - c->first);
        return LSM_OK;
    }
    lsm_status status = move_to(stream, position, err);
    if (status != LSM_OK)
        return status;
    c = chunk_at(stream, 0);
    if (position + size <= c->limit) {
        *bytes = c->memory + (position - c->first);
        return LSM_OK;
    }
    status = join(stream, position, size, err);
    if (status == LSM_OK)
        *bytes = stream->joined.data;
    return status;
}

lsm_status log_stream_span(struct log_stream *stream, uint64_t position, const uint8_t **bytes,
                           size_t *size, lsm_error *err)
{
    lsm_status status = move_to(stream, position, err);
    if (status != LSM_OK)
        return status;
    const struct log_stream_chunk *c = chunk_at(stream, 0);
    uint64_t limit = c->limit < stream->source.limit ? c->limit : stream->source.limit;
    *bytes = c->memory + (position - c->first);
    *size = (size_t)(limit - position);
    return LSM_OK;
}
