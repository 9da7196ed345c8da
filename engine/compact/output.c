/* See the header. A table that overlaps much of the level below is cut early, so that its own
 * compaction will not be a large one. */
#include "engine/compact/output.h"

#include "engine/base/memory.h"
#include "engine/format/file_name.h"

#define BELOW_TABLES 10 /* table sizes of the level below that one output may overlap */
#define SIZE_STEPS   64 /* its size is looked at so many times a table, not at every key */

static lsm_status begin_table(struct output *o, lsm_error *err)
{
    uint64_t number = version_new_file_number(o->env->set);
    if (o->index == 0)
        o->job = number;
    const lsm_cf_options *options = &o->cf->options;
    struct table_write_options write = {
        .number = number,
        .cf = o->cf->id,
        .cf_name = o->cf->name,
        .level = o->level,
        .block_size = options->block_size,
        .filter_bits = options->filter_bits == LSM_NO_FILTER ? 0 : options->filter_bits,
        .compress = o->compress,
        .compression_level = o->compression_level,
        .dictionary_size = options->dictionary_size,
        .rate = o->env->rate,
        .job = o->job,
        .output_index = o->index,
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

static lsm_status end_table(struct output *o, lsm_error *err)
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
    o->writer = NULL;
    lsm_status status = table_writer_finish(writer, &meta, err);
    if (status != LSM_OK)
        return status;
    meta.cf = o->cf->id;
    meta.level = o->level;
    meta.compress_later = !o->compress && o->cf->options.compression == LSM_COMPRESSION_ZSTD;
    o->tables[o->count++] = meta;
    o->index++;
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
           o->below_bytes > BELOW_TABLES * o->cf->options.table_size;
}

lsm_status output_add(struct output *o, lsm_slice key, uint64_t trailer, lsm_slice value,
                      bool is_new_key, lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (is_new_key && table_is_full(o, key))
        status = end_table(o, err);
    if (status == LSM_OK && o->writer == NULL)
        status = begin_table(o, err);
    if (status == LSM_OK)
        status = table_writer_add(o->writer, key, trailer, value, err);
    o->unchecked += key.size + value.size;
    o->entries++;
    return status;
}

uint64_t output_bytes(const struct output *o)
{
    return o->bytes + (o->writer == NULL ? 0 : table_writer_size(o->writer));
}

lsm_status output_finish(struct output *o, lsm_error *err)
{
    if (o->writer != NULL)
        table_writer_is_last(o->writer);
    return end_table(o, err);
}

lsm_status output_give(struct output *o, struct version_edit *edit, struct compact_result *result,
                       lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < o->count; i++)
        status = edit_add_table(edit, &o->tables[i], err);
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
    mem_free(o->tables);
    *o = (struct output){0};
}
