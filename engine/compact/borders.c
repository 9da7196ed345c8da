/*
 * Where a merge can be parted: keys at which blocks of its inputs begin, with about how many bytes
 * of keys and values each of them has behind it, added up in the order of keys. Any string of bytes
 * is a border between user keys, so all versions of a key are on one side.
 */
#include "engine/compact/job_private.h"

#include "engine/base/memory.h"

#include <stdlib.h>

#define PART_SAMPLES 32 /* keys that are looked at for each part that is wanted */

/* A key of an input, and the bytes from there to the input's next one. */
struct sample {
    size_t offset; /* of the key in `bytes`, */
    lsm_slice key; /* when all are there */
    uint64_t weight;
};

struct samples {
    struct sample *list; /* owned */
    size_t count;
    uint64_t bytes;
};

static int compare_samples(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;
    return slice_compare(x->key, y->key);
}

static uint32_t piece_count(const struct table_meta *meta, uint64_t bytes, size_t parts)
{
    double share = bytes == 0 ? 0 : (double)meta->raw_size / (double)bytes;
    return 1 + (uint32_t)(share * (double)parts * PART_SAMPLES);
}

static lsm_status add_table(struct samples *s, struct version_file *file, uint32_t pieces,
                            struct buffer *bytes, lsm_error *err)
{
    struct table *table = NULL;
    struct buffer key = {0};
    lsm_status status = version_table_keep(file, &table, err);
    if (status != LSM_OK)
        return status;
    for (uint32_t i = 0; i < pieces && !bytes->failed; i++) {
        if (!table_piece_key(table, i, pieces, &key))
            break;
        s->list[s->count++] = (struct sample){
            .offset = bytes->size, .key.size = key.size, .weight = file->meta.raw_size / pieces};
        buffer_append(bytes, key.data, key.size);
    }
    if (bytes->failed || key.failed)
        status = lsm_fail_memory(err, bytes->size + key.size);
    buffer_release(&key);
    version_table_drop(file);
    return status;
}

static lsm_status collect(struct samples *s, const struct compaction *c, size_t parts,
                          struct buffer *bytes, lsm_error *err)
{
    size_t room = 0;
    for (size_t i = 0; i < c->input_count; i++)
        s->bytes += c->inputs[i]->meta.raw_size;
    for (size_t i = 0; i < c->input_count; i++)
        room += piece_count(&c->inputs[i]->meta, s->bytes, parts);
    s->list = mem_alloc(room * sizeof *s->list);
    if (s->list == NULL)
        return lsm_fail_memory(err, room * sizeof *s->list);
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < c->input_count; i++)
        status = add_table(s, c->inputs[i], piece_count(&c->inputs[i]->meta, s->bytes, parts),
                           bytes, err);
    for (size_t i = 0; i < s->count; i++)
        s->list[i].key.data = bytes->data + s->list[i].offset;
    if (status == LSM_OK)
        qsort(s->list, s->count, sizeof *s->list, compare_samples);
    return status;
}

static void choose(struct borders *b, const struct samples *s, size_t parts)
{
    uint64_t passed = 0;
    for (size_t i = 0; i < s->count && b->count + 1 < parts; i++) {
        const struct sample *at = &s->list[i];
        bool is_due = passed > 0 && passed >= s->bytes / parts * (b->count + 1);
        if (is_due && slice_compare(s->list[0].key, at->key) < 0 &&
            (b->count == 0 || slice_compare(b->keys[b->count - 1], at->key) < 0))
            b->keys[b->count++] = at->key;
        passed += at->weight;
    }
}

lsm_status borders_find(struct borders *b, const struct compaction *c, size_t parts, lsm_error *err)
{
    struct samples samples = {0};
    lsm_status status = LSM_OK;
    b->keys = mem_alloc(parts * sizeof *b->keys);
    if (b->keys == NULL)
        return lsm_fail_memory(err, parts * sizeof *b->keys);
    status = collect(&samples, c, parts, &b->bytes, err);
    if (status == LSM_OK)
        choose(b, &samples, parts);
    mem_free(samples.list);
    return status;
}

void borders_release(struct borders *b)
{
    mem_free(b->keys);
    buffer_release(&b->bytes);
    *b = (struct borders){0};
}
