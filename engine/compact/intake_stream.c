/* The tables that an intake makes, in their final form but for their ends. */
#include "engine/compact/intake_private.h"

#include "engine/base/memory.h"

#define SIZE_STEPS 64 /* the size of a table is looked at so many times, not at every key */

static bool wants_zstd(const struct intake_family *family)
{
    return family->options.compression == LSM_COMPRESSION_ZSTD;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static lsm_status begin_table(struct stream *s, lsm_error *err)
{
    const lsm_cf_options *options = &s->family->options;
    struct table_write_options write = {
        .number = version_new_file_number(s->env->set),
        .cf = s->family->id,
        .cf_name = s->family->name,
        .cf_options = options,
        .level = VERSION_LEVELS - 1,
        .block_size = options->block_size,
        .filter_bits = options->filter_bits == LSM_NO_FILTER ? 0 : options->filter_bits,
        .compress = wants_zstd(s->family),
        .compression_level = options->compression_level,
        .dictionary_size = options->dictionary_size,
        .rate = s->env->rate,
    };
    write.job = write.number;
    s->unchecked = 0;
    lsm_status status = table_writer_new(s->env->tables, &write, &s->writer, err);
    if (status == LSM_OK)
        s->empty_size = table_writer_size(s->writer);
    return status;
}

static lsm_status end_table(struct stream *s, lsm_error *err)
{
    if (s->writer == NULL)
        return LSM_OK;
    if (s->count == s->room) {
        size_t room = s->room == 0 ? 16 : s->room * 2;
        struct table_writer **grown = mem_resize(s->sealed, room * sizeof(struct table_writer *));
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof(struct table_writer *));
        s->sealed = grown;
        s->room = room;
    }
    struct table_writer *writer = s->writer;
    s->writer = NULL;
    lsm_status status = table_writer_seal(writer, err);
    if (status == LSM_OK)
        s->sealed[s->count++] = writer;
    return status;
}

static bool table_is_full(struct stream *s)
{
    uint64_t most = s->family->options.table_size;
    if (s->writer == NULL || s->unchecked < most / SIZE_STEPS)
        return false;
    s->unchecked = 0;
    return table_writer_size(s->writer) - s->empty_size >= most;
}

lsm_status stream_add(struct stream *s, lsm_slice key, enum entry_type type, lsm_slice value,
                      lsm_error *err)
{
    lsm_status status = table_is_full(s) ? end_table(s, err) : LSM_OK;
    if (status == LSM_OK && s->writer == NULL)
        status = begin_table(s, err);
    if (status == LSM_OK)
        status = table_writer_add(s->writer, key, (uint64_t)type, value, err);
    s->unchecked += key.size + value.size;
    s->entries++;
    return status;
}

lsm_status stream_finish(struct stream *s, lsm_error *err)
{
    return end_table(s, err);
}

void stream_release(struct stream *s)
{
    table_writer_abort(s->writer);
    for (size_t i = 0; i < s->count; i++)
        table_writer_abort(s->sealed[i]);
    mem_free(s->sealed);
    buffer_release(&s->last_key);
    *s = (struct stream){.env = s->env, .family = s->family};
}
