/*
 * Building a table: entries are collected into blocks, blocks are framed, compressed when that
 * pays, and handed to the output.
 *
 * All versions of a key go into one block, unless that grows over CHAIN_LIMIT times the block size:
 * then the next block begins with an older version of the same key, and the index says so.
 *
 * With a dictionary, the first blocks wait in memory until there are enough of them to learn from.
 */
#include "engine/sst/table_writer_private.h"

#include "engine/base/memory.h"
#include "engine/format/block_columns.h"
#include "engine/format/edit.h"
#include "engine/format/table_filter.h"

#include <assert.h>

/* Blocks tried before compression may be given up for the table; those that its dictionary was made
 * from are not among them. */
#define SAMPLE_BLOCKS   3
#define CHAIN_LIMIT     4   /* times the block size before versions of one key are separated */
#define MIN_BLOCK_SIZE  256 /* raw bytes */
#define TRAINING_FACTOR 100 /* times the dictionary's size is what it is trained from, */
#define TRAINING_MAX    ((size_t)8 << 20) /* at most this many bytes */
#define DEFAULT_ZSTD    1

/* ---- making and freeing ---------------------------------------------------------------------- */

void table_writer_free(struct table_writer *w)
{
    table_output_close(&w->output);
    block_builder_release(&w->builder);
    table_index_builder_release(&w->index);
    struct buffer *buffers[] = {&w->hashes,   &w->first_key, &w->last_key,  &w->smallest,
                                &w->previous, &w->turned,    &w->packed,    &w->dictionary,
                                &w->waiting,  &w->tail,      &w->cf_options};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        buffer_release(buffers[i]);
    table_meta_release(&w->meta);
    compressor_free(w->compressor);
    mem_free(w->waiting_blocks);
    mem_free(w->blobs);
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
    file_name_make(options->is_blob ? FILE_BLOB : FILE_TABLE, options->number, w->name);
    block_builder_init(&w->builder, TABLE_FRAME_SIZE);
    /* A raw block and its frame fill whole pages when the block size does. */
    w->block_size = options->block_size > MIN_BLOCK_SIZE ? options->block_size : MIN_BLOCK_SIZE;
    w->block_size -= TABLE_FRAME_SIZE;
    w->options.cf_options = NULL; /* it is the caller's */
    w->own_pace.rate = options->rate;
    w->pace = options->pace != NULL ? options->pace : &w->own_pace;
    lsm_status status = options->cf_options == NULL
                            ? LSM_OK
                            : edit_options_encode(options->cf_options, &w->cf_options, err);
    if (status != LSM_OK || !options->compress)
        return status;
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
        status = table_output_open(&w->output, env, w->name, w->pace, err);
    if (status != LSM_OK) {
        table_writer_free(w);
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
    table_writer_free(writer);
}

/* ---- blocks to the file ---------------------------------------------------------------------- */

static uint64_t seed_at(const struct table_writer *w, uint64_t offset)
{
    return hash_place(w->env.uuid, w->options.number, offset);
}

lsm_status table_writer_frame(struct table_writer *w, uint8_t *framed,
                              const struct table_frame *frame, uint64_t offset, lsm_error *err)
{
    table_frame_seal(framed, frame, seed_at(w, offset));
    lsm_status status = table_output_pad(&w->output, offset, err);
    if (status == LSM_OK)
        status =
            table_output_append(&w->output, framed, TABLE_FRAME_SIZE + frame->stored_size, err);
    return status;
}

/* After the first blocks: is compression worth its time? What a dictionary was made from says
 * nothing of that: it is known to the dictionary, and what comes after it is not. */
static void note_sample(struct table_writer *w, size_t raw, size_t stored)
{
    if (w->trained_on)
        return;
    w->sampled_raw += raw;
    w->sampled_packed += stored;
    if (++w->sampled != SAMPLE_BLOCKS || w->sampled_packed <= w->sampled_raw / 10 * 9)
        return;
    compressor_free(w->compressor);
    w->compressor = NULL;
}

/* The block in the form that is compressed, in w->turned; NULL when out of memory. */
static const uint8_t *turn_columns(struct table_writer *w, lsm_slice raw)
{
    buffer_clear(&w->turned);
    uint8_t *turned = buffer_grow(&w->turned, raw.size);
    if (turned != NULL)
        block_columns_turn(raw, turned);
    return turned;
}

/* The compressed frame in w->packed, or NULL when the block stays as it is. */
static uint8_t *compress_block(struct table_writer *w, lsm_slice raw, struct table_frame *frame)
{
    if (w->compressor == NULL)
        return NULL;
    size_t capacity = raw.size - raw.size / 8;
    size_t size = 0;
    buffer_clear(&w->packed);
    if (turn_columns(w, raw) != NULL && buffer_reserve(&w->packed, TABLE_FRAME_SIZE + capacity))
        size = compressor_run(w->compressor, buffer_slice(&w->turned),
                              w->packed.data + TABLE_FRAME_SIZE, capacity);
    note_sample(w, raw.size, size == 0 ? raw.size : size);
    if (size == 0)
        return NULL;
    frame->compression =
        w->dictionary.size > 0 ? TABLE_ZSTD_COLUMNS_DICTIONARY : TABLE_ZSTD_COLUMNS;
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
        status = table_writer_frame(w, packed != NULL ? packed : framed, &frame, offset, err);
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
        const uint8_t *raw = w->waiting.data + b->offset + TABLE_FRAME_SIZE;
        const uint8_t *turned = turn_columns(w, (lsm_slice){raw, b->frame.raw_size});
        sizes[count] = b->frame.raw_size < left ? b->frame.raw_size : left;
        buffer_append(&samples, turned != NULL ? turned : raw, sizes[count]);
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
    w->trained_on = w->dictionary.size > 0;
    for (size_t i = 0; i < w->waiting_count && status == LSM_OK; i++) {
        const struct waiting_block *b = &w->waiting_blocks[i];
        status = emit_block(w, w->waiting.data + b->offset, b->frame, err);
    }
    w->trained_on = false;
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

/* The place of blob file `number` among those referred to, which is made. NULL without memory. */
static struct blob_use *blob_use_of(struct table_writer *w, uint64_t number)
{
    if (w->blob_last < w->blob_count && w->blobs[w->blob_last].number == number)
        return &w->blobs[w->blob_last];
    size_t low = 0, limit = w->blob_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (w->blobs[middle].number < number)
            low = middle + 1;
        else
            limit = middle;
    }
    w->blob_last = low;
    if (low < w->blob_count && w->blobs[low].number == number)
        return &w->blobs[low];
    if (w->blob_count == w->blob_room) {
        size_t room = w->blob_room == 0 ? 8 : w->blob_room * 2;
        struct blob_use *grown = mem_resize(w->blobs, room * sizeof *grown);
        if (grown == NULL)
            return NULL;
        w->blobs = grown;
        w->blob_room = room;
    }
    memmove(w->blobs + low + 1, w->blobs + low, (w->blob_count - low) * sizeof *w->blobs);
    w->blobs[low] = (struct blob_use){.number = number};
    w->blob_count++;
    return &w->blobs[low];
}

static lsm_status count_reference(struct table_writer *w, lsm_slice key, lsm_slice value,
                                  lsm_error *err)
{
    struct blob_reference reference;
    if (!blob_reference_decode(value, &reference))
        return lsm_fail(err, LSM_CORRUPT,
                        "entry %" PRIu64 " for '%s' is no reference to a blob file",
                        w->properties.entry_count, w->name);
    struct blob_use *use = blob_use_of(w, reference.number);
    if (use == NULL)
        return lsm_fail_memory(err, w->blob_room * sizeof *w->blobs);
    use->entry_count++;
    use->bytes += key.size + reference.size;
    return LSM_OK;
}

size_t table_writer_blob_count(const struct table_writer *writer)
{
    return writer->blob_count;
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
    if (entry_type_of(trailer) == ENTRY_BLOB) {
        lsm_status status = count_reference(w, key, value, err);
        if (status != LSM_OK)
            return status;
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

void table_writer_is_last(struct table_writer *writer)
{
    writer->is_last = true;
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

lsm_status table_writer_flush(struct table_writer *w, lsm_error *err)
{
    lsm_status status = finish_block(w, err);
    return status == LSM_OK && w->training ? emit_waiting(w, err) : status;
}
