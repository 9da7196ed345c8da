/*
 * A damaged table's entries into a new one. What can be corrected is corrected in a temporary copy
 * first, so that a dictionary or an index with one wrong byte costs nothing. The new table has the
 * old one's level: its keys are among those of the old one, so it overlaps nothing there. Values
 * out of a blob file that is given up go to a new one beside the new table.
 */
#include "engine/repair/repair_private.h"

#include "engine/base/step.h"
#include "engine/format/blob.h"
#include "engine/format/entry.h"

#include <stdlib.h>
#include <string.h>

/* An entry that waits to be sorted. */
struct late_entry {
    size_t key_at, key_size, value_at, value_size; /* in salvage.late_bytes */
    uint64_t trailer;
};

struct salvage {
    struct repair *r;
    struct repair_table *t;
    struct walk_table *walk;
    struct table_writer *writer;
    struct table_writer *blob; /* of values out of blob files that are given up; NULL: none yet */
    uint64_t blob_number;
    struct buffer key, last_key;
    uint64_t last_trailer;
    bool has_last;
    bool is_compressed; /* a block of it was */
    struct walk_values values;

    /* Of a table with entries that are not in order: all of them. */
    struct buffer late_bytes, late; /* late: struct late_entry each */
};

lsm_status repair_table_options(struct repair *r, uint32_t cf, uint32_t level, bool compress,
                                struct table_write_options *options, lsm_error *err)
{
    const struct version_edit *s = &r->state.snapshot;
    for (size_t i = 0; i < s->created_count; i++) {
        const struct edit_cf *f = &s->created[i];
        if (f->id != cf)
            continue;
        uint64_t number = r->next_number++;
        *options = (struct table_write_options){
            .number = number,
            .cf = cf,
            .cf_name = f->name,
            .cf_options = &f->options,
            .level = level,
            .block_size = f->options.block_size,
            .filter_bits = f->options.filter_bits == LSM_NO_FILTER ? 0 : f->options.filter_bits,
            .compress = compress && f->options.compression == LSM_COMPRESSION_ZSTD,
            .compression_level = f->options.compression_level,
            .dictionary_size = f->options.dictionary_size,
            .job = number,
        };
        return LSM_OK;
    }
    return lsm_fail(err, LSM_CORRUPT, "column family %" PRIu32 " does not exist", cf);
}

static lsm_status begin(struct salvage *s, lsm_error *err)
{
    struct table_write_options options;
    lsm_status status = repair_table_options(s->r, s->t->meta.cf, s->t->meta.level,
                                             s->is_compressed, &options, err);
    options.replaced = &s->t->meta.number;
    options.replaced_count = 1;
    if (status == LSM_OK)
        status = table_writer_new(&s->r->env, &options, &s->writer, err);
    STEP("repair: table begun");
    return status;
}

#define BLOB_BLOCK_SIZE UINT32_C(4096) /* at most: a read of one value reads little else */

static lsm_status begin_blob(struct salvage *s, lsm_error *err)
{
    struct table_write_options options;
    lsm_status status =
        repair_table_options(s->r, s->t->meta.cf, s->t->meta.level, true, &options, err);
    options.is_blob = true;
    options.cf_options = NULL;
    options.filter_bits = 0;
    options.dictionary_size = 0;
    if (options.block_size > BLOB_BLOCK_SIZE)
        options.block_size = BLOB_BLOCK_SIZE;
    s->blob_number = options.number;
    if (status == LSM_OK)
        status = table_writer_new(&s->r->env, &options, &s->blob, err);
    STEP("repair: blob file begun");
    return status;
}

/* Writes the value to the new blob file; the entry becomes one that refers to it. */
static lsm_status separate(struct salvage *s, lsm_slice key, uint64_t *trailer, lsm_slice *value,
                           uint8_t reference[BLOB_REFERENCE_MAX_SIZE], lsm_error *err)
{
    lsm_status status = s->blob == NULL ? begin_blob(s, err) : LSM_OK;
    if (status == LSM_OK)
        status = table_writer_add(s->blob, key, *trailer, *value, err);
    struct blob_reference to = {.number = s->blob_number, .size = value->size};
    *value = LSM_SLICE(reference, blob_reference_encode(&to, reference));
    *trailer = entry_trailer(entry_sequence(*trailer), ENTRY_BLOB);
    return status;
}

static lsm_status finish_blob(struct salvage *s, lsm_error *err)
{
    struct table_meta meta = {0};
    struct table_writer *writer = s->blob;
    char name[FILE_NAME_SIZE];
    if (writer == NULL)
        return LSM_OK;
    s->blob = NULL;
    lsm_status status = table_writer_finish(writer, &meta, err);
    STEP("repair: blob file written");
    if (status != LSM_OK)
        return status;
    struct blob_meta blob = {.number = meta.number,
                             .size = meta.size,
                             .cf = s->t->meta.cf,
                             .entry_count = meta.entry_count,
                             .raw_size = meta.raw_size};
    repair_tell(s->r, "'%s' holds %" PRIu64 " values that were whole in damaged blob files",
                file_name_make(FILE_BLOB, meta.number, name), meta.entry_count);
    table_meta_release(&meta);
    status = edit_add_blob(&s->r->made, &blob, err);
    return status == LSM_OK ? repair_add_blob(s->r, &blob, err) : status;
}

static bool comes_behind(const struct salvage *s, lsm_slice key, uint64_t trailer)
{
    return !s->has_last ||
           entry_compare(buffer_slice(&s->last_key), s->last_trailer, key, trailer) < 0;
}

/* Keys beyond the range that the manifest knows must not reach into another table of the level. */
static bool fits_level(const struct salvage *s, lsm_slice key)
{
    const struct table_meta *mine = &s->t->meta;
    const struct version_edit *state = &s->r->state.snapshot;
    if (mine->level == 0 || s->t->any_keys ||
        (slice_compare(key, mine->smallest) >= 0 && slice_compare(key, mine->largest) <= 0))
        return true;
    for (size_t i = 0; i < state->added_count; i++) {
        const struct table_meta *other = &state->added[i];
        if (other->number == mine->number || other->cf != mine->cf || other->level != mine->level)
            continue;
        /* Neither may it stand between them from the other's far side. */
        bool is_behind = slice_compare(mine->largest, other->smallest) < 0;
        if (is_behind ? slice_compare(key, other->smallest) >= 0
                      : slice_compare(key, other->largest) <= 0)
            return false;
    }
    return true;
}

static lsm_status add_entry(struct salvage *s, lsm_slice key, uint64_t trailer, lsm_slice value,
                            lsm_error *err)
{
    uint8_t reference[BLOB_REFERENCE_MAX_SIZE];
    bool is_lost = false, refers = entry_type_of(trailer) == ENTRY_BLOB;
    lsm_status status = LSM_OK;
    if (!comes_behind(s, key, trailer) || !fits_level(s, key) || !entry_type_is_known(trailer))
        return LSM_OK;
    if (refers)
        status = repair_resolve(s->r, &s->values, s->t->doubts_values, key, &trailer, &value,
                                &is_lost, err);
    if (status != LSM_OK || is_lost)
        return status;
    if (refers && entry_type_of(trailer) == ENTRY_PUT)
        status = separate(s, key, &trailer, &value, reference, err);
    if (status != LSM_OK)
        return status;
    status = table_writer_add(s->writer, key, trailer, value, err);
    if (!buffer_assign(&s->last_key, key))
        return lsm_fail_memory(err, key.size);
    s->last_trailer = trailer;
    s->has_last = true;
    return status;
}

static lsm_status keep_for_later(struct salvage *s, lsm_slice key, uint64_t trailer,
                                 lsm_slice value, lsm_error *err)
{
    struct late_entry entry = {.key_at = s->late_bytes.size,
                               .key_size = key.size,
                               .value_at = s->late_bytes.size + key.size,
                               .value_size = value.size,
                               .trailer = trailer};
    buffer_append(&s->late_bytes, key.data, key.size);
    buffer_append(&s->late_bytes, value.data, value.size);
    buffer_append(&s->late, &entry, sizeof entry);
    return s->late_bytes.failed || s->late.failed ? lsm_fail_memory(err, key.size + value.size)
                                                  : LSM_OK;
}

static int compare_late(const void *a, const void *b, void *context)
{
    const struct late_entry *x = a, *y = b;
    const uint8_t *bytes = ((const struct salvage *)context)->late_bytes.data;
    return entry_compare(LSM_SLICE(bytes + x->key_at, x->key_size), x->trailer,
                         LSM_SLICE(bytes + y->key_at, y->key_size), y->trailer);
}

/* In order at last; of two that are the same version of a key the one that came first is kept. */
static lsm_status add_late(struct salvage *s, lsm_error *err)
{
    struct late_entry *entries = (struct late_entry *)(void *)s->late.data;
    size_t count = s->late.size / sizeof *entries;
    lsm_status status = LSM_OK;
    if (count > 1)
        qsort_r(entries, count, sizeof *entries, compare_late, s);
    for (size_t i = 0; status == LSM_OK && i < count; i++) {
        const struct late_entry *e = &entries[i];
        status = add_entry(s, LSM_SLICE(s->late_bytes.data + e->key_at, e->key_size), e->trailer,
                           LSM_SLICE(s->late_bytes.data + e->value_at, e->value_size), err);
    }
    return status;
}

static lsm_status add_block(struct salvage *s, const struct walk_block *b, lsm_error *err)
{
    lsm_status status = LSM_OK;
    s->is_compressed = s->is_compressed || b->frame.compression != TABLE_RAW;
    if (s->writer == NULL)
        status = begin(s, err);
    for (uint32_t i = 0; status == LSM_OK && i < b->view.count; i++) {
        uint64_t trailer = block_trailer(&b->view, i);
        if (!block_copy_key(&b->view, i, &s->key))
            return lsm_fail_memory(err, block_key_size(&b->view, i));
        lsm_slice key = buffer_slice(&s->key), value = block_value(&b->view, i);
        status = s->t->has_disorder ? keep_for_later(s, key, trailer, value, err)
                                    : add_entry(s, key, trailer, value, err);
    }
    return status;
}

static lsm_status finish(struct salvage *s, lsm_error *err)
{
    struct table_meta meta = {0};
    lsm_status done = finish_blob(s, err);
    if (done != LSM_OK)
        return done;
    if (s->writer != NULL && s->has_last) {
        table_writer_is_last(s->writer);
        struct table_writer *writer = s->writer;
        s->writer = NULL;
        lsm_status status = table_writer_finish(writer, &meta, err);
        if (status != LSM_OK)
            return status;
        STEP("repair: table written");
        meta.compress_later = s->t->meta.compress_later;
        status = edit_add_table(&s->r->made, &meta, err);
        char name[FILE_NAME_SIZE], old[FILE_NAME_SIZE];
        repair_tell(s->r, "'%s' holds the %" PRIu64 " entries that were whole in '%s'",
                    file_name_make(FILE_TABLE, meta.number, name), meta.entry_count,
                    file_name_make(FILE_TABLE, s->t->meta.number, old));
        table_meta_release(&meta);
        return status;
    }
    return LSM_OK;
}

static bool has_patches(const struct repair *r, uint64_t number)
{
    for (size_t i = 0; i < r->patch_count; i++) {
        if (r->patches[i].kind == FILE_TABLE && r->patches[i].file == number)
            return true;
    }
    return false;
}

lsm_status repair_salvage_table(struct repair *r, size_t index, lsm_error *err)
{
    struct salvage s = {.r = r, .t = &r->tables[index], .values = {.env = &r->walk}};
    char name[FILE_NAME_SIZE], copy[FILE_NAME_SIZE] = "";
    struct walk_table_options options = {
        .number = s.t->meta.number, .name = name, .meta = &s.t->meta, .no_index = s.t->no_index};
    struct walk_block b = {.length = 1};
    lsm_status status = LSM_OK;
    file_name_make(FILE_TABLE, s.t->file, name);
    if (has_patches(r, s.t->file)) {
        file_name_make(FILE_TEMPORARY, r->next_number++, copy);
        struct repair_target target = {FILE_TABLE, s.t->file};
        status = repair_copy_file(r, r->dir, name, r->dir, copy, &target, err);
        options.name = copy;
    }
    if (status == LSM_OK)
        status = walk_table_open(&r->walk, &options, &s.walk, err);
    while (status == LSM_OK) {
        status = walk_table_next(s.walk, &b, err);
        if (status != LSM_OK || b.length == 0)
            break;
        if (b.fault == FINDING_COUNT && !b.too_large)
            status = add_block(&s, &b, err);
    }
    if (status == LSM_OK)
        status = add_late(&s, err);
    if (status == LSM_OK)
        status = finish(&s, err);
    table_writer_abort(s.writer);
    table_writer_abort(s.blob);
    walk_table_close(s.walk);
    walk_values_release(&s.values);
    if (copy[0] != '\0')
        (void)io_dir_unlink(r->dir, copy, NULL, NULL);
    buffer_release(&s.key);
    buffer_release(&s.last_key);
    buffer_release(&s.late_bytes);
    buffer_release(&s.late);
    return status;
}
