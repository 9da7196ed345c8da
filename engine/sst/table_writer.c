/*
 * Building a table: entries are collected into blocks, blocks are framed, compressed when that
 * pays, and handed to the output.
 *
 * All versions of a key go into one block, unless that grows over CHAIN_LIMIT times the block size:
 * then the next block begins with an older version of the same key, and the index says so.
 *
 * With a dictionary, the first blocks wait in memory until there are enough of them to learn from.
 */
#include "engine/format/compress.h"
#include "engine/format/table_filter.h"
#include "engine/format/table_format.h"
#include "engine/format/table_index.h"
#include "engine/format/table_properties.h"
#include "engine/sst/table.h"
#include "engine/sst/table_output.h"

#include "engine/base/memory.h"
#include "engine/format/file_name.h"

#include <assert.h>

#define CHAIN_LIMIT     4   /* times the block size before versions of one key are separated */
#define SAMPLE_BLOCKS   3   /* blocks tried before compression may be given up for the table */
#define MIN_BLOCK_SIZE  256 /* raw bytes */
#define TRAINING_FACTOR 100 /* times the dictionary's size is what it is trained from, */
#define TRAINING_MAX    ((size_t)8 << 20) /* at most this many bytes */
#define DEFAULT_ZSTD    1

/* A block that waits for the dictionary: its place in `waiting`, headroom first. */
struct waiting_block {
    size_t offset;
    struct table_frame frame;
};

struct table_writer {
    struct table_env env;
    struct table_write_options options; /* cf_name and replaced are borrowed or below */
    char cf_name[TABLE_MAX_NAME + 1];
    char name[FILE_NAME_SIZE];
    struct table_output output;

    struct block_builder builder;
    size_t block_size; /* raw bytes at which a block is finished */
    struct table_index_builder index;
    struct buffer hashes;    /* of the keys, u64 in memory order */
    struct buffer first_key; /* of the block being emitted */
    struct buffer last_key;  /* of the block emitted last */
    uint64_t last_trailer;   /* of the block emitted last */
    struct buffer smallest;  /* first key of the table */
    struct buffer previous;  /* last key added, when the builder is empty */
    uint64_t previous_trailer;

    struct compressor *compressor; /* NULL: blocks stay raw */
    struct buffer packed;          /* frame of a compressed block */
    uint32_t sampled;              /* blocks tried */
    uint64_t sampled_raw, sampled_packed;
    bool training;            /* blocks wait for a dictionary */
    struct buffer dictionary; /* its frame; empty: none */
    struct buffer waiting;
    struct waiting_block *waiting_blocks; /* owned */
    size_t waiting_count, waiting_capacity;
    size_t waiting_raw; /* bytes */

    struct table_properties properties; /* counts as they grow */
};

/* ---- making and freeing ---------------------------------------------------------------------- */

static void writer_free(struct table_writer *w)
{
    table_output_close(&w->output);
    block_builder_release(&w->builder);
    table_index_builder_release(&w->index);
    struct buffer *buffers[] = {&w->hashes,   &w->first_key, &w->last_key,   &w->smallest,
                                &w->previous, &w->packed,    &w->dictionary, &w->waiting};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        buffer_release(buffers[i]);
    compressor_free(w->compressor);
    mem_free(w->waiting_blocks);
    mem_free(w);
}

static lsm_status check_options(const struct table_write_options *options, lsm_error *err)
{
    if (strlen(options->cf_name) > TABLE_MAX_NAME)
        return lsm_fail(err, LSM_INVALID, "the column family's name is longer than %d bytes",
                        TABLE_MAX_NAME);
    if (options->level > TABLE_MAX_LEVEL)
        return lsm_fail(err, LSM_INVALID, "a table cannot be of level %" PRIu32, options->level);
    if (options->dictionary_size > COMPRESS_MAX_DICTIONARY)
        return lsm_fail(err, LSM_INVALID,
                        "a dictionary of %" PRIu32 " bytes is wanted, at most %zu are possible",
                        options->dictionary_size, COMPRESS_MAX_DICTIONARY);
    return LSM_OK;
}

static lsm_status writer_prepare(struct table_writer *w, const struct table_env *env,
                                 const struct table_write_options *options, lsm_error *err)
{
    w->env = *env;
    w->options = *options;
    strcpy(w->cf_name, options->cf_name);
    w->options.cf_name = w->cf_name;
    if (w->options.filter_bits > TABLE_FILTER_MAX_BITS)
        w->options.filter_bits = options->filter_bits == LSM_NO_FILTER ? 0 : TABLE_FILTER_MAX_BITS;
    file_name_make(FILE_TABLE, options->number, w->name);
    block_builder_init(&w->builder, TABLE_FRAME_SIZE);
    /* A raw block and its frame fill whole pages when the block size does. */
    w->block_size = options->block_size > MIN_BLOCK_SIZE ? options->block_size : MIN_BLOCK_SIZE;
    w->block_size -= TABLE_FRAME_SIZE;
    if (!options->compress)
        return LSM_OK;
    if (options->compression_level == 0)
        w->options.compression_level = DEFAULT_ZSTD;
    w->compressor = compressor_new(w->options.compression_level);
    w->training = options->dictionary_size > 0;
    return w->compressor == NULL ? lsm_fail_memory(err, sizeof *w) : LSM_OK;
}

lsm_status table_writer_new(const struct table_env *env, const struct table_write_options *options,
                            struct table_writer **writer, lsm_error *err)
{
    lsm_status status = check_options(options, err);
    if (status != LSM_OK)
        return status;
    struct table_writer *w = mem_alloc_zeroed(sizeof *w);
    if (w == NULL)
        return lsm_fail_memory(err, sizeof *w);
    status = writer_prepare(w, env, options, err);
    if (status == LSM_OK)
        status = table_output_open(&w->output, env->io, env->dir, w->name, env->mode, options->rate,
                                   err);
    if (status != LSM_OK) {
        writer_free(w);
        return status;
    }
    *writer = w;
    return LSM_OK;
}

void table_writer_abort(struct table_writer *writer)
{
    if (writer == NULL)
        return;
    table_output_close(&writer->output);
    (void)io_dir_unlink(writer->env.dir, writer->name, NULL, NULL);
    writer_free(writer);
}

/* ---- blocks to the file ---------------------------------------------------------------------- */

static uint64_t seed_at(const struct table_writer *w, uint64_t offset)
{
    return hash_place(w->env.uuid, w->options.number, offset);
}

/* Puts a frame whose payload stands at framed + TABLE_FRAME_SIZE at `offset` of the file. */
static lsm_status write_frame(struct table_writer *w, uint8_t *framed,
                              const struct table_frame *frame, uint64_t offset, lsm_error *err)
{
    table_frame_seal(framed, frame, seed_at(w, offset));
    lsm_status status = table_output_pad(&w->output, offset, err);
    if (status == LSM_OK)
        status =
            table_output_append(&w->output, framed, TABLE_FRAME_SIZE + frame->stored_size, err);
    return status;
}

/* After the first blocks: is compression worth its time? */
static void note_sample(struct table_writer *w, size_t raw, size_t stored)
{
    w->sampled_raw += raw;
    w->sampled_packed += stored;
    if (++w->sampled != SAMPLE_BLOCKS || w->sampled_packed <= w->sampled_raw / 10 * 9)
        return;
    compressor_free(w->compressor);
    w->compressor = NULL;
}

/* The compressed frame in w->packed, or NULL when the block stays as it is. */
static uint8_t *compress_block(struct table_writer *w, lsm_slice raw, struct table_frame *frame)
{
    if (w->compressor == NULL)
        return NULL;
    size_t capacity = raw.size - raw.size / 8;
    size_t size = 0;
    buffer_clear(&w->packed);
    if (buffer_reserve(&w->packed, TABLE_FRAME_SIZE + capacity))
        size = compressor_run(w->compressor, raw, w->packed.data + TABLE_FRAME_SIZE, capacity);
    note_sample(w, raw.size, size == 0 ? raw.size : size);
    if (size == 0)
        return NULL;
    frame->compression = w->dictionary.size > 0 ? TABLE_ZSTD_DICTIONARY : TABLE_ZSTD;
    frame->stored_size = (uint32_t)size;
    w->properties.compressed = true;
    return w->packed.data;
}

static lsm_status index_block(struct table_writer *w, const uint8_t *raw, uint64_t offset,
                              lsm_error *err)
{
    struct block_view view = block_view_of(raw);
    if (!block_copy_key(&view, 0, &w->first_key))
        return lsm_fail_memory(err, block_key_size(&view, 0));
    table_index_add(&w->index, buffer_slice(&w->last_key), w->last_trailer,
                    buffer_slice(&w->first_key), offset);
    w->last_trailer = block_trailer(&view, view.count - 1);
    if (!block_copy_key(&view, view.count - 1, &w->last_key))
        return lsm_fail_memory(err, block_key_size(&view, view.count - 1));
    return LSM_OK;
}

/* A finished raw block, `framed` with headroom, goes to the file. */
static lsm_status emit_block(struct table_writer *w, uint8_t *framed, struct table_frame frame,
                             lsm_error *err)
{
    lsm_slice raw = {framed + TABLE_FRAME_SIZE, frame.raw_size};
    uint8_t *packed = compress_block(w, raw, &frame);
    uint64_t offset =
        table_frame_place(table_output_size(&w->output), TABLE_FRAME_SIZE + frame.stored_size);
    lsm_status status = index_block(w, raw.data, offset, err);
    if (status == LSM_OK)
        status = write_frame(w, packed != NULL ? packed : framed, &frame, offset, err);
    w->properties.block_count++;
    return status;
}

/* ---- dictionary ------------------------------------------------------------------------------ */

static lsm_status wait_block(struct table_writer *w, const uint8_t *framed,
                             const struct table_frame *frame, lsm_error *err)
{
    if (w->waiting_count == w->waiting_capacity) {
        size_t capacity = w->waiting_capacity == 0 ? 64 : w->waiting_capacity * 2;
        struct waiting_block *blocks = mem_resize(w->waiting_blocks, capacity * sizeof *blocks);
        if (blocks == NULL)
            return lsm_fail_memory(err, capacity * sizeof *blocks);
        w->waiting_blocks = blocks;
        w->waiting_capacity = capacity;
    }
    w->waiting_blocks[w->waiting_count++] = (struct waiting_block){w->waiting.size, *frame};
    buffer_append(&w->waiting, framed, TABLE_FRAME_SIZE + frame->raw_size);
    w->waiting_raw += frame->raw_size;
    return w->waiting.failed ? lsm_fail_memory(err, frame->raw_size) : LSM_OK;
}

/* Trains from the waiting blocks, at most TRAINING_MAX bytes of them. Without success (too little,
 * or nothing in common) there is no dictionary. */
static lsm_status train(struct table_writer *w, lsm_error *err)
{
    size_t *sizes = mem_alloc(w->waiting_count * sizeof *sizes);
    struct buffer samples = {0};
    unsigned count = 0;
    if (sizes == NULL)
        return lsm_fail_memory(err, w->waiting_count * sizeof *sizes);
    for (; count < w->waiting_count && samples.size < TRAINING_MAX; count++) {
        const struct waiting_block *b = &w->waiting_blocks[count];
        size_t left = TRAINING_MAX - samples.size;
        sizes[count] = b->frame.raw_size < left ? b->frame.raw_size : left;
        buffer_append(&samples, w->waiting.data + b->offset + TABLE_FRAME_SIZE, sizes[count]);
    }
    struct buffer *to = &w->dictionary;
    size_t size = 0, wanted = w->options.dictionary_size;
    if (!samples.failed && buffer_reserve(to, TABLE_FRAME_SIZE + wanted))
        size = compress_train(samples.data, sizes, count, to->data + TABLE_FRAME_SIZE, wanted);
    to->size = size == 0 ? 0 : TABLE_FRAME_SIZE + size;
    lsm_slice dictionary = {to->data + TABLE_FRAME_SIZE, size};
    bool out_of_memory = samples.failed || to->failed ||
                         (size > 0 && !compressor_set_dictionary(w->compressor, dictionary));
    buffer_release(&samples);
    mem_free(sizes);
    return out_of_memory ? lsm_fail_memory(err, wanted) : LSM_OK;
}

static lsm_status emit_waiting(struct table_writer *w, lsm_error *err)
{
    w->training = false;
    lsm_status status = w->waiting_count > 0 ? train(w, err) : LSM_OK;
    for (size_t i = 0; i < w->waiting_count && status == LSM_OK; i++) {
        const struct waiting_block *b = &w->waiting_blocks[i];
        status = emit_block(w, w->waiting.data + b->offset, b->frame, err);
    }
    buffer_release(&w->waiting);
    w->waiting_count = 0;
    return status;
}

static bool training_is_enough(const struct table_writer *w)
{
    size_t wanted = (size_t)w->options.dictionary_size * TRAINING_FACTOR;
    return w->waiting_raw >= (wanted < TRAINING_MAX ? wanted : TRAINING_MAX);
}

/* ---- entries --------------------------------------------------------------------------------- */

static lsm_status finish_block(struct table_writer *w, lsm_error *err)
{
    if (w->builder.count == 0 && !w->builder.failed)
        return LSM_OK;
    uint8_t *raw;
    size_t size;
    lsm_status status = block_builder_finish(&w->builder, &raw, &size);
    if (status != LSM_OK)
        return status == LSM_NO_MEMORY
                   ? lsm_fail_memory(err, w->builder.bytes.size)
                   : lsm_fail(err, status, "a block of '%s' is over the limit of %zu bytes",
                              w->name, BLOCK_MAX_SIZE);
    struct table_frame frame = {
        .kind = TABLE_FRAME_DATA,
        .compression = TABLE_RAW,
        .level = w->options.level,
        .stored_size = (uint32_t)size,
        .raw_size = (uint32_t)size,
        .cf = w->options.cf,
        .entry_count = w->builder.count,
        .min_sequence = entry_sequence(w->builder.min_trailer),
        .max_sequence = entry_sequence(w->builder.max_trailer),
    };
    uint8_t *framed = raw - TABLE_FRAME_SIZE;
    lsm_slice last = block_builder_last_key(&w->builder);
    buffer_clear(&w->previous);
    buffer_append(&w->previous, last.data, last.size);
    w->previous_trailer = block_builder_last_trailer(&w->builder);
    if (w->previous.failed || w->smallest.failed)
        return lsm_fail_memory(err, last.size);
    status = w->training ? wait_block(w, framed, &frame, err) : emit_block(w, framed, frame, err);
    if (status == LSM_OK && w->training && training_is_enough(w))
        status = emit_waiting(w, err);
    block_builder_clear(&w->builder);
    return status;
}

static lsm_slice last_key(const struct table_writer *w)
{
    return w->builder.count > 0 ? block_builder_last_key(&w->builder) : buffer_slice(&w->previous);
}

static uint64_t last_trailer(const struct table_writer *w)
{
    return w->builder.count > 0 ? block_builder_last_trailer(&w->builder) : w->previous_trailer;
}

/* Is the block finished before this entry? */
static bool block_is_full(const struct table_writer *w, lsm_slice key, lsm_slice value,
                          bool is_new_key)
{
    if (w->builder.count == 0)
        return false;
    size_t size = block_builder_size_with(&w->builder, key, value.size);
    return size > (is_new_key ? w->block_size : w->block_size * CHAIN_LIMIT);
}

static void count_entry(struct table_writer *w, lsm_slice key, uint64_t trailer, lsm_slice value)
{
    struct table_properties *p = &w->properties;
    uint64_t sequence = entry_sequence(trailer);
    if (p->entry_count == 0) {
        p->min_sequence = p->max_sequence = sequence;
        buffer_append(&w->smallest, key.data, key.size);
    }
    p->min_sequence = sequence < p->min_sequence ? sequence : p->min_sequence;
    p->max_sequence = sequence > p->max_sequence ? sequence : p->max_sequence;
    p->entry_count++;
    p->delete_count += entry_type_of(trailer) == ENTRY_DELETE;
    p->raw_size += key.size + value.size;
}

lsm_status table_writer_add(struct table_writer *writer, lsm_slice key, uint64_t trailer,
                            lsm_slice value, lsm_error *err)
{
    struct table_writer *w = writer;
    if (key.size > LSM_MAX_KEY_SIZE || value.size > LSM_MAX_VALUE_SIZE)
        return lsm_fail(err, LSM_TOO_LARGE,
                        "an entry for '%s' has a key of %zu and a value of %zu bytes", w->name,
                        key.size, value.size);
    bool is_new_key = true;
    if (w->properties.entry_count > 0) {
        int order = slice_compare(last_key(w), key);
        if (order > 0 || (order == 0 && last_trailer(w) <= trailer))
            return lsm_fail(err, LSM_CORRUPT,
                            "entry %" PRIu64 " for '%s' does not come after the one before it",
                            w->properties.entry_count, w->name);
        is_new_key = order != 0;
    }
    uint64_t hash = hash_key(key.data, key.size);
    if (block_is_full(w, key, value, is_new_key)) {
        lsm_status status = finish_block(w, err);
        if (status != LSM_OK)
            return status;
    }
    if (is_new_key) {
        w->properties.key_count++;
        if (w->options.filter_bits > 0)
            buffer_append(&w->hashes, &hash, sizeof hash);
    }
    count_entry(w, key, trailer, value);
    block_builder_add(&w->builder, key, hash, trailer, value);
    return w->builder.failed ? lsm_fail_memory(err, key.size + value.size) : LSM_OK;
}

uint64_t table_writer_size(const struct table_writer *writer)
{
    const struct table_writer *w = writer;
    uint64_t size = table_output_size(&w->output) + w->waiting_raw + w->dictionary.size;
    if (w->builder.count > 0)
        size += block_builder_size_with(&w->builder, (lsm_slice){NULL, 0}, 0);
    if (w->options.filter_bits > 0)
        size += table_filter_size(w->properties.key_count, w->options.filter_bits);
    size += (uint64_t)w->index.count * 20 + w->index.keys.size;
    return size + TABLE_MIN_FILE_SIZE;
}

/* ---- the rest of the file -------------------------------------------------------------------- */

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
    lsm_status status = write_frame(w, framed->data, &frame, extent->offset, err);
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

static lsm_status write_properties(struct table_writer *w, struct table_extent *extent,
                                   lsm_error *err)
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
    p->digest = table_output_digest(&w->output);
    p->digest_size = table_output_size(&w->output);
    p->writer = slice_of_text(lsm_version());
    struct buffer framed = {0};
    buffer_append_zeros(&framed, TABLE_FRAME_SIZE);
    lsm_status status = table_properties_encode(p, &framed, err);
    if (status == LSM_OK)
        status = write_part(w, &framed, TABLE_FRAME_PROPERTIES, 0, extent, err);
    buffer_release(&framed);
    return status;
}

/* The properties' extent reaches up to the first footer page. */
static lsm_status write_footers(struct table_writer *w, struct table_footer *footer, lsm_error *err)
{
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

static lsm_status write_parts(struct table_writer *w, lsm_error *err)
{
    struct table_footer footer = {0};
    uint64_t mask = TABLE_FRAME_ALIGNMENT - 1;
    lsm_status status =
        table_output_pad(&w->output, (table_output_size(&w->output) + mask) & ~mask, err);
    footer.data.size = table_output_size(&w->output);
    w->properties.data_size = footer.data.size;
    if (status == LSM_OK && w->dictionary.size > 0)
        status = write_part(w, &w->dictionary, TABLE_FRAME_DICTIONARY, 0, &footer.dictionary, err);
    if (status == LSM_OK)
        status = write_filter(w, &footer.filter, err);
    if (status == LSM_OK)
        status = write_index(w, &footer.index, err);
    if (status == LSM_OK)
        status = write_properties(w, &footer.properties, err);
    return status == LSM_OK ? write_footers(w, &footer, err) : status;
}

static lsm_status fill_meta(const struct table_writer *w, struct table_meta *meta, lsm_error *err)
{
    const struct table_properties *p = &w->properties;
    struct table_meta borrowed = {
        .number = p->number,
        .size = table_output_size(&w->output),
        .cf = p->cf,
        .level = p->level,
        .smallest = p->smallest,
        .largest = p->largest,
        .min_sequence = p->min_sequence,
        .max_sequence = p->max_sequence,
        .entry_count = p->entry_count,
        .delete_count = p->delete_count,
        .raw_size = p->raw_size,
    };
    return table_meta_copy(meta, &borrowed, err);
}

lsm_status table_writer_finish(struct table_writer *writer, struct table_meta *meta, lsm_error *err)
{
    struct table_writer *w = writer;
    struct table_meta made = {0};
    lsm_status status = LSM_OK;
    if (w->properties.entry_count == 0)
        status = lsm_fail(err, LSM_INVALID, "table '%s' was finished without an entry", w->name);
    if (status == LSM_OK)
        status = finish_block(w, err);
    if (status == LSM_OK && w->training)
        status = emit_waiting(w, err);
    if (status == LSM_OK)
        status = write_parts(w, err);
    if (status == LSM_OK)
        status = fill_meta(w, &made, err);
    if (status == LSM_OK)
        status = table_output_finish(&w->output, err);
    if (status != LSM_OK) {
        table_meta_release(&made);
        table_writer_abort(w);
        return status;
    }
    *meta = made;
    writer_free(w);
    return LSM_OK;
}
