/*
 * The end of a table: the parts behind its data blocks, and then the file's own end, properties and
 * footers. The two may lie apart: a sealed table lacks its end until it is known which sequence
 * number its entries have, and is no table before that.
 */
#include "engine/sst/table_writer_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/table_filter.h"

#include <assert.h>

/* ---- parts ----------------------------------------------------------------------------------- */

/* Writes the frame of a part; `framed` holds headroom and payload. */
static lsm_status write_part(struct table_writer *w, struct buffer *framed,
                             enum table_frame_kind kind, uint64_t count,
                             struct table_extent *extent, lsm_error *err)
{
    if (framed->failed)
        return lsm_fail_memory(err, framed->capacity);
    size_t payload = framed->size - TABLE_FRAME_SIZE;
    if (payload > UINT32_MAX)
        return lsm_fail(err, LSM_TOO_LARGE, "a part of '%s' is %zu bytes long", w->name, payload);
    struct table_frame frame = {
        .kind = kind,
        .compression = TABLE_RAW,
        .level = w->options.level,
        .stored_size = (uint32_t)payload,
        .raw_size = (uint32_t)payload,
        .cf = w->options.cf,
        .entry_count = (uint32_t)count,
        .min_sequence = w->properties.min_sequence,
        .max_sequence = w->properties.max_sequence,
    };
    uint64_t mask = TABLE_FRAME_ALIGNMENT - 1;
    extent->offset = table_output_size(&w->output);
    lsm_status status = table_writer_frame(w, framed->data, &frame, extent->offset, err);
    if (status == LSM_OK)
        status = table_output_pad(&w->output, (table_output_size(&w->output) + mask) & ~mask, err);
    extent->size = table_output_size(&w->output) - extent->offset;
    return status;
}

static lsm_status write_filter(struct table_writer *w, struct table_extent *extent, lsm_error *err)
{
    size_t count = w->hashes.size / sizeof(uint64_t);
    size_t size = table_filter_size(count, w->options.filter_bits);
    if (w->hashes.failed)
        return lsm_fail_memory(err, w->hashes.capacity);
    if (count == 0 || size == 0) { /* none wanted, or more keys than a frame can hold bits for */
        w->properties.filter_bits = 0;
        return LSM_OK;
    }
    struct buffer framed = {0};
    buffer_append_zeros(&framed, TABLE_FRAME_SIZE + size);
    if (!framed.failed)
        table_filter_build(framed.data + TABLE_FRAME_SIZE, size,
                           (const uint64_t *)(const void *)w->hashes.data, count);
    w->properties.filter_bits = w->options.filter_bits;
    lsm_status status = write_part(w, &framed, TABLE_FRAME_FILTER, count, extent, err);
    buffer_release(&framed);
    return status;
}

static lsm_status write_index(struct table_writer *w, struct table_extent *extent, lsm_error *err)
{
    struct buffer framed = {0};
    buffer_append_zeros(&framed, TABLE_FRAME_SIZE);
    lsm_status status = table_index_finish(&w->index, buffer_slice(&w->smallest),
                                           buffer_slice(&w->last_key), &framed);
    if (status == LSM_NO_MEMORY)
        status = lsm_fail_memory(err, framed.capacity);
    else if (status != LSM_OK)
        lsm_fail(err, status, "the index of '%s' grows too large", w->name);
    else
        status = write_part(w, &framed, TABLE_FRAME_INDEX, w->index.count, extent, err);
    buffer_release(&framed);
    return status;
}

static void fill_properties(struct table_writer *w)
{
    struct table_properties *p = &w->properties;
    p->number = w->options.number;
    p->cf = w->options.cf;
    p->cf_name = slice_of_text(w->cf_name);
    p->level = w->options.level;
    p->smallest = buffer_slice(&w->smallest);
    p->largest = buffer_slice(&w->last_key);
    p->block_size = w->options.block_size;
    p->compression_level = w->options.compress ? w->options.compression_level : 0;
    p->job = w->options.job;
    p->output_index = w->options.output_index;
    p->replaced = w->options.replaced;
    p->replaced_count = w->options.replaced_count;
    p->last_output = w->is_last;
    p->replaced_jobs = w->options.replaced_jobs;
    p->replaced_job_count = w->options.replaced_job_count;
    uint64_t now = io_wall_ms(w->env.io) / 1000;
    p->oldest_time = w->options.oldest_time != 0 ? w->options.oldest_time : now;
    p->newest_time = w->options.newest_time != 0 ? w->options.newest_time : now;
    p->digest = table_output_digest(&w->output);
    p->digest_size = table_output_size(&w->output);
    p->writer = slice_of_text(lsm_version());
    p->is_blob = w->options.is_blob;
    p->blobs = w->blobs;
    p->blob_count = w->blob_count;
    p->cf_options = buffer_slice(&w->cf_options);
}

/* Dictionary, filter and index; the properties, but for the sequence number of a sealed table. */
static lsm_status write_parts(struct table_writer *w, lsm_error *err)
{
    struct table_footer *footer = &w->footer;
    uint64_t mask = TABLE_FRAME_ALIGNMENT - 1;
    lsm_status status =
        table_output_pad(&w->output, (table_output_size(&w->output) + mask) & ~mask, err);
    footer->data.size = table_output_size(&w->output);
    w->properties.data_size = footer->data.size;
    if (status == LSM_OK && w->dictionary.size > 0)
        status = write_part(w, &w->dictionary, TABLE_FRAME_DICTIONARY, 0, &footer->dictionary, err);
    if (status == LSM_OK)
        status = write_filter(w, &footer->filter, err);
    if (status == LSM_OK)
        status = write_index(w, &footer->index, err);
    if (status == LSM_OK)
        fill_properties(w);
    return status;
}

/* Everything but the end. */
static lsm_status write_body(struct table_writer *w, lsm_error *err)
{
    if (w->properties.entry_count == 0)
        return lsm_fail(err, LSM_INVALID, "table '%s' was finished without an entry", w->name);
    lsm_status status = table_writer_flush(w, err);
    return status == LSM_OK ? write_parts(w, err) : status;
}

/* ---- the end --------------------------------------------------------------------------------- */

static lsm_status write_properties(struct table_writer *w, lsm_error *err)
{
    struct buffer framed = {0};
    buffer_append_zeros(&framed, TABLE_FRAME_SIZE);
    lsm_status status = table_properties_encode(&w->properties, &framed, err);
    if (status == LSM_OK)
        status = write_part(w, &framed, TABLE_FRAME_PROPERTIES, 0, &w->footer.properties, err);
    buffer_release(&framed);
    return status;
}

/* The properties' extent reaches up to the first footer page. */
static lsm_status write_footers(struct table_writer *w, lsm_error *err)
{
    struct table_footer *footer = &w->footer;
    uint64_t mask = TABLE_PAGE_SIZE - 1;
    uint64_t first = (table_output_size(&w->output) + mask) & ~mask;
    memcpy(footer->uuid, w->env.uuid, HASH_UUID_SIZE);
    footer->number = w->options.number;
    footer->file_size = first + TABLE_FOOTER_COUNT * TABLE_PAGE_SIZE;
    footer->properties.size = first - footer->properties.offset;
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < TABLE_FOOTER_COUNT && status == LSM_OK; i++) {
        uint8_t bytes[TABLE_FOOTER_SIZE];
        uint64_t offset = table_footer_offset(footer->file_size, i);
        table_footer_encode(footer, offset, bytes);
        status = table_output_pad(&w->output, offset, err);
        if (status == LSM_OK)
            status = table_output_append(&w->output, bytes, sizeof bytes, err);
    }
    return status == LSM_OK ? table_output_pad(&w->output, footer->file_size, err) : status;
}

static lsm_status write_end(struct table_writer *w, lsm_error *err)
{
    lsm_status status = write_properties(w, err);
    if (status == LSM_OK)
        status = write_footers(w, err);
    return status == LSM_OK ? table_output_flush(&w->output, err) : status;
}

static lsm_status fill_meta(struct table_writer *w, lsm_error *err)
{
    const struct table_properties *p = &w->properties;
    struct table_meta borrowed = {
        .number = p->number,
        .cf = p->cf,
        .level = p->level,
        .smallest = p->smallest,
        .largest = p->largest,
        .min_sequence = p->min_sequence,
        .max_sequence = p->max_sequence,
        .entry_count = p->entry_count,
        .delete_count = p->delete_count,
        .raw_size = p->raw_size,
        .oldest_time = p->oldest_time,
        .newest_time = p->newest_time,
        .blobs = w->blobs,
        .blob_count = w->blob_count,
    };
    return table_meta_copy(&w->meta, &borrowed, err);
}

/* Hands over what is known of the table, and frees the writer; or takes the file back. */
static lsm_status end(struct table_writer *w, lsm_status status, struct table_meta *meta)
{
    if (status != LSM_OK) {
        table_writer_abort(w);
        return status;
    }
    *meta = w->meta;
    meta->size = w->footer.file_size;
    w->meta = (struct table_meta){0};
    table_writer_free(w);
    return LSM_OK;
}

lsm_status table_writer_finish(struct table_writer *writer, struct table_meta *meta, lsm_error *err)
{
    lsm_status status = write_body(writer, err);
    if (status == LSM_OK)
        status = fill_meta(writer, err);
    if (status == LSM_OK)
        status = write_end(writer, err);
    if (status == LSM_OK)
        status = table_output_sync(&writer->output, err);
    return end(writer, status, meta);
}

/* ---- apart ----------------------------------------------------------------------------------- */

/* What is not needed for the end. */
static void release_most(struct table_writer *w)
{
    struct buffer *buffers[] = {&w->hashes, &w->first_key,  &w->previous,
                                &w->packed, &w->dictionary, &w->waiting};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        buffer_release(buffers[i]);
    block_builder_release(&w->builder);
    table_index_builder_release(&w->index);
    compressor_free(w->compressor);
    w->compressor = NULL;
    mem_free(w->waiting_blocks);
    w->waiting_blocks = NULL;
}

lsm_status table_writer_seal(struct table_writer *writer, lsm_error *err)
{
    struct table_writer *w = writer;
    lsm_status status = write_body(w, err);
    if (status == LSM_OK &&
        (w->properties.max_sequence != 0 || w->properties.key_count != w->properties.entry_count))
        status = lsm_fail(err, LSM_INVALID,
                          "table '%s' is to be sealed, but some of its entries have sequence "
                          "numbers, or one key",
                          w->name);
    if (status == LSM_OK)
        status = fill_meta(w, err);
    if (status == LSM_OK)
        status = table_output_suspend(&w->output, &w->tail, err);
    if (status != LSM_OK) {
        table_writer_abort(w);
        return status;
    }
    release_most(w);
    return LSM_OK;
}

const struct table_meta *table_writer_sealed(const struct table_writer *writer)
{
    return &writer->meta;
}

void table_writer_of_job(struct table_writer *writer, uint64_t job, uint32_t output_index,
                         bool is_last)
{
    writer->options.job = writer->properties.job = job;
    writer->options.output_index = writer->properties.output_index = output_index;
    writer->is_last = writer->properties.last_output = is_last;
}

lsm_status table_writer_end(struct table_writer *writer, uint64_t sequence, lsm_error *err)
{
    struct table_writer *w = writer;
    struct table_properties *p = &w->properties;
    assert(sequence <= ENTRY_MAX_SEQUENCE);
    p->sequence_base = p->min_sequence = p->max_sequence = sequence;
    w->meta.min_sequence = w->meta.max_sequence = sequence;
    lsm_status status = table_output_resume(&w->output, &w->env, w->name, buffer_slice(&w->tail),
                                            p->digest_size, err);
    STEP("table: end begun");
    if (status == LSM_OK)
        status = write_end(w, err);
    STEP("table: end written");
    return status;
}

lsm_status table_writer_settle(struct table_writer *writer, struct table_meta *meta, lsm_error *err)
{
    return end(writer, table_output_sync(&writer->output, err), meta);
}
