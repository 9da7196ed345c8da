/* See the header. When there is no room, the source that was used longest ago makes it. */
#include "engine/version/values.h"

static void source_close(struct value_source *s)
{
    if (s->blob == NULL)
        return;
    iter_release(s->it);
    version_blob_drop(s->blob);
    *s = (struct value_source){0};
}

void value_reader_release(struct value_reader *r)
{
    for (; r->source_count > 0; r->source_count--)
        source_close(&r->sources[r->source_count - 1]);
    r->version = NULL;
}

static lsm_status source_open(struct value_reader *r, struct value_source *s,
                              const struct version_blob *blob, lsm_error *err)
{
    struct table *table = NULL;
    lsm_status status = version_blob_keep(blob, &table, err);
    if (status != LSM_OK)
        return status;
    status = table_iter_new(table, &r->options, &s->it, &r->error);
    if (status != LSM_OK) {
        status_copy(err, &r->error);
        version_blob_drop(blob);
        return status;
    }
    s->blob = blob;
    return LSM_OK;
}

static lsm_status source_of(struct value_reader *r, const struct version_blob *blob,
                            struct value_source **source, lsm_error *err)
{
    struct value_source *oldest = &r->sources[0];
    for (size_t i = 0; i < r->source_count; i++) {
        struct value_source *s = &r->sources[i];
        if (s->blob == blob) {
            *source = s;
            s->used_at = ++r->clock;
            return LSM_OK;
        }
        if (s->used_at < oldest->used_at)
            oldest = s;
    }
    if (r->source_count < VALUE_READER_SOURCES)
        oldest = &r->sources[r->source_count++];
    source_close(oldest);
    lsm_status status = source_open(r, oldest, blob, err);
    if (status == LSM_OK) {
        oldest->used_at = ++r->clock;
        *source = oldest;
    }
    return status;
}

lsm_status value_reader_get(struct value_reader *r, lsm_slice key, uint64_t trailer,
                            lsm_slice reference, lsm_slice *value, lsm_error *err)
{
    const struct version_blob *blob = NULL;
    struct value_source *s = NULL;
    uint64_t size = 0, wanted = entry_trailer(entry_sequence(trailer), ENTRY_PUT);
    lsm_status status = version_blob_of(r->version, reference, &blob, &size, err);
    if (status == LSM_OK)
        status = source_of(r, blob, &s, err);
    if (status != LSM_OK)
        return status;
    iter_seek(s->it, key, wanted);
    if (!s->it->valid && s->it->status != LSM_OK) {
        status = s->it->status;
        status_copy(err, &r->error);
        s->it->status = LSM_OK;
        return status;
    }
    if (!s->it->valid || s->it->entry->trailer != wanted || s->it->entry->value.size != size ||
        !slice_equal(s->it->entry->key, key))
        return version_blob_fail(blob, entry_sequence(trailer), err);
    *value = s->it->entry->value;
    return LSM_OK;
}
