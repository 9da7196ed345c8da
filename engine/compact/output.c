/* See the header. A table that overlaps much of the level below is cut early, so that its own
 * compaction will not be a large one. */
#include "engine/compact/output.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/file_name.h"

#define BELOW_TABLES 10 /* table sizes of the level below that one output may overlap */
#define SIZE_STEPS   64 /* its size is looked at so many times a table, not at every key */

/* The number of the job is that of its first table. */
static uint64_t job_number(struct output *o, uint64_t first_table)
{
    uint64_t number = 0;
    if (o->siblings == NULL ||
        atomic_compare_exchange_strong(&o->siblings->number, &number, first_table))
        return first_table;
    return number;
}

static lsm_status begin_table(struct output *o, lsm_error *err)
{
    uint64_t number = version_new_file_number(o->env->set);
    if (o->job == 0)
        o->job = job_number(o, number);
    const lsm_cf_options *options = &o->cf->options;
    struct table_write_options write = {
        .number = number,
        .cf = o->cf->id,
        .cf_name = o->cf->name,
        .cf_options = options,
        .level = o->level,
        .block_size = options->block_size,
        .filter_bits = options->filter_bits == LSM_NO_FILTER ? 0 : options->filter_bits,
        .compress = o->compress,
        .compression_level = o->compression_level,
        .dictionary_size = options->dictionary_size,
        .rate = o->env->rate,
        .pace = o->pace,
        .job = o->job,
        .replaced = o->replaced,
        .replaced_count = o->replaced_count,
        .replaced_jobs = o->replaced_jobs,
        .replaced_job_count = o->replaced_job_count,
        .oldest_time = o->oldest_time,
        .newest_time = o->newest_time,
    };
    o->below_bytes = 0;
    o->unchecked = 0;
    lsm_status status = table_writer_new(o->env->tables, &write, &o->writer, err);
    if (status == LSM_OK)
        o->empty_size = table_writer_size(o->writer);
    return status;
}

/* Tables are counted as they are finished, so that the last one has the highest index. */
static lsm_status end_table(struct output *o, bool is_last, lsm_error *err)
{
    if (o->writer == NULL)
        return LSM_OK;
    if (o->count == o->room) {
        size_t room = o->room == 0 ? 16 : o->room * 2;
        struct table_meta *grown = mem_resize(o->tables, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        o->tables = grown;
        o->room = room;
    }
    struct table_writer *writer = o->writer;
    struct table_meta meta = {0};
    uint32_t index =
        o->siblings == NULL ? (uint32_t)o->count : atomic_fetch_add(&o->siblings->table_count, 1);
    table_writer_of_job(writer, o->job, index, is_last);
    o->writer = NULL;
    lsm_status status = table_writer_finish(writer, &meta, err);
    if (status != LSM_OK)
        return status;
    meta.cf = o->cf->id;
    meta.level = o->level;
    meta.compress_later = !o->compress && o->cf->options.compression == LSM_COMPRESSION_ZSTD;
    o->tables[o->count++] = meta;
    o->bytes += meta.size;
    return LSM_OK;
}

/* Counts the files of the level below that end before the key. */
static void pass_below(struct output *o, lsm_slice key)
{
    while (o->below_index < o->below->count &&
           slice_compare(o->below->files[o->below_index]->meta.largest, key) < 0) {
        if (o->writer != NULL)
            o->below_bytes += o->below->files[o->below_index]->meta.size;
        o->below_index++;
    }
}

static bool table_is_full(struct output *o, lsm_slice key)
{
    if (o->below != NULL && o->below_index < o->below->count)
        pass_below(o, key);
    if (o->writer == NULL || o->unchecked < o->max_size / SIZE_STEPS)
        return false;
    o->unchecked = 0;
    return table_writer_size(o->writer) - o->empty_size >= o->max_size ||
           table_writer_blob_count(o->writer) > TABLE_MAX_BLOBS ||
           o->below_bytes > BELOW_TABLES * o->cf->options.table_size;
}

/* ---- blob files ------------------------------------------------------------------------------ */

static lsm_status begin_blob(struct output *o, lsm_error *err)
{
    const lsm_cf_options *options = &o->cf->options;
    o->blob_number = version_new_file_number(o->env->set);
    struct table_write_options write = {
        .number = o->blob_number,
        .is_blob = true,
        .cf = o->cf->id,
        .cf_name = o->cf->name,
        .level = o->level,
        .block_size = options->block_size < BLOB_BLOCK_SIZE ? options->block_size : BLOB_BLOCK_SIZE,
        /* A value is written once, or seldom more often: it is not left for later. */
        .compress = options->compression == LSM_COMPRESSION_ZSTD,
        .compression_level = options->compression_level,
        .rate = o->env->rate,
        .pace = o->pace,
        .job = o->job,
        .output_index = o->siblings == NULL ? (uint32_t)o->blob_count
                                            : atomic_fetch_add(&o->siblings->blob_count, 1),
        .oldest_time = o->oldest_time,
        .newest_time = o->newest_time,
    };
    o->blob_unchecked = 0;
    return table_writer_new(o->env->tables, &write, &o->blob, err);
}

static lsm_status end_blob(struct output *o, lsm_error *err)
{
    if (o->blob == NULL)
        return LSM_OK;
    if (o->blob_count == o->blob_room) {
        size_t room = o->blob_room == 0 ? 4 : o->blob_room * 2;
        struct blob_meta *grown = mem_resize(o->blobs, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        o->blobs = grown;
        o->blob_room = room;
    }
    struct table_writer *writer = o->blob;
    struct table_meta meta = {0};
    o->blob = NULL;
    lsm_status status = table_writer_finish(writer, &meta, err);
    STEP("blob file: written");
    if (status != LSM_OK)
        return status;
    o->blobs[o->blob_count++] = (struct blob_meta){.number = meta.number,
                                                   .size = meta.size,
                                                   .cf = o->cf->id,
                                                   .entry_count = meta.entry_count,
                                                   .raw_size = meta.raw_size};
    o->bytes += meta.size;
    table_meta_release(&meta);
    return LSM_OK;
}

static bool blob_is_full(struct output *o)
{
    uint64_t most = BLOB_FILE_TABLES * o->cf->options.table_size;
    if (o->blob == NULL || o->blob_unchecked < most / SIZE_STEPS)
        return false;
    o->blob_unchecked = 0;
    return table_writer_size(o->blob) >= most;
}

/* Writes the value to a blob file, and a reference to it to `reference`. */
static lsm_status separate(struct output *o, lsm_slice key, uint64_t trailer, lsm_slice value,
                           uint8_t *reference, size_t *size, lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (blob_is_full(o))
        status = end_blob(o, err);
    if (status == LSM_OK && o->blob == NULL)
        status = begin_blob(o, err);
    if (status == LSM_OK)
        status = table_writer_add(o->blob, key, trailer, value, err);
    o->blob_unchecked += key.size + value.size;
    struct blob_reference to = {.number = o->blob_number, .size = value.size};
    *size = blob_reference_encode(&to, reference);
    return status;
}

/* ---- entries --------------------------------------------------------------------------------- */

lsm_status output_add(struct output *o, lsm_slice key, uint64_t trailer, lsm_slice value,
                      bool is_new_key, lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (is_new_key && table_is_full(o, key))
        status = end_table(o, false, err);
    if (status == LSM_OK && o->writer == NULL)
        status = begin_table(o, err);
    uint8_t reference[BLOB_REFERENCE_MAX_SIZE];
    if (status == LSM_OK && output_separates(o, value.size) &&
        entry_type_of(trailer) == ENTRY_PUT) {
        size_t size;
        status = separate(o, key, trailer, value, reference, &size, err);
        trailer = entry_trailer(entry_sequence(trailer), ENTRY_BLOB);
        value = LSM_SLICE(reference, size);
    }
    if (status == LSM_OK)
        status = table_writer_add(o->writer, key, trailer, value, err);
    o->unchecked += key.size + value.size;
    o->entries++;
    return status;
}

uint64_t output_bytes(const struct output *o)
{
    return o->bytes + (o->writer == NULL ? 0 : table_writer_size(o->writer)) +
           (o->blob == NULL ? 0 : table_writer_size(o->blob));
}

lsm_status output_finish(struct output *o, lsm_error *err)
{
    lsm_status status = end_blob(o, err);
    return status == LSM_OK ? end_table(o, true, err) : status;
}

lsm_status output_rest(struct output *o, lsm_error *err)
{
    lsm_status status = end_blob(o, err);
    if (status == LSM_OK && o->writer != NULL && atomic_exchange(&o->siblings->has_kept, true))
        status = end_table(o, false, err);
    return status;
}

lsm_status output_give(struct output *o, struct version_edit *edit, struct compact_result *result,
                       lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < o->count; i++)
        status = edit_add_table(edit, &o->tables[i], err);
    for (size_t i = 0; status == LSM_OK && i < o->blob_count; i++)
        status = edit_add_blob(edit, &o->blobs[i], err);
    result->bytes_written += o->bytes;
    result->entries_written += o->entries;
    result->table_count += o->count;
    return status;
}

void output_release(struct output *o, bool keep)
{
    table_writer_abort(o->writer);
    for (size_t i = 0; i < o->count; i++) {
        char name[FILE_NAME_SIZE];
        if (!keep)
            (void)io_dir_unlink(o->env->tables->dir,
                                file_name_make(FILE_TABLE, o->tables[i].number, name), NULL, NULL);
        table_meta_release(&o->tables[i]);
    }
    table_writer_abort(o->blob);
    for (size_t i = 0; !keep && i < o->blob_count; i++) {
        char name[FILE_NAME_SIZE];
        (void)io_dir_unlink(o->env->tables->dir,
                            file_name_make(FILE_BLOB, o->blobs[i].number, name), NULL, NULL);
    }
    mem_free(o->blobs);
    mem_free(o->tables);
    *o = (struct output){0};
}
