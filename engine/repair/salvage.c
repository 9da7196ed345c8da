/*
 * A damaged table's entries into a new one. What can be corrected is corrected in a temporary copy
 * first, so that a dictionary or an index with one wrong byte costs nothing. The new table has the
 * old one's level: its keys are among those of the old one, so it overlaps nothing there.
 */
#include "engine/repair/repair_private.h"

#include "engine/base/step.h"
#include "engine/format/entry.h"

#include <string.h>

struct salvage {
    struct repair *r;
    struct repair_table *t;
    struct walk_table *walk;
    struct table_writer *writer;
    struct buffer key, last_key;
    uint64_t last_trailer;
    bool has_last;
    bool is_compressed; /* a block of it was */
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

static bool comes_behind(const struct salvage *s, lsm_slice key, uint64_t trailer)
{
    return !s->has_last ||
           entry_compare(buffer_slice(&s->last_key), s->last_trailer, key, trailer) < 0;
}

static lsm_status add_block(struct salvage *s, const struct walk_block *b, lsm_error *err)
{
    lsm_status status = LSM_OK;
    s->is_compressed = s->is_compressed || b->frame.compression != TABLE_RAW;
    if (s->writer == NULL)
        status = begin(s, err);
    for (uint32_t i = 0; status == LSM_OK && i < b->view.count; i++) {
        uint64_t trailer = block_trailer(&b->view, i) + (s->t->sequence_base << 8);
        if (!block_copy_key(&b->view, i, &s->key))
            return lsm_fail_memory(err, block_key_size(&b->view, i));
        lsm_slice key = buffer_slice(&s->key);
        if (!comes_behind(s, key, trailer) || slice_compare(key, s->t->meta.smallest) < 0 ||
            slice_compare(key, s->t->meta.largest) > 0)
            continue;
        status = table_writer_add(s->writer, key, trailer, block_value(&b->view, i), err);
        if (!buffer_assign(&s->last_key, key))
            return lsm_fail_memory(err, key.size);
        s->last_trailer = trailer;
        s->has_last = true;
    }
    return status;
}

static lsm_status finish(struct salvage *s, lsm_error *err)
{
    struct table_meta meta = {0};
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
    struct salvage s = {.r = r, .t = &r->tables[index]};
    char name[FILE_NAME_SIZE], copy[FILE_NAME_SIZE] = "";
    struct walk_table_options options = {.number = s.t->meta.number, .meta = &s.t->meta};
    struct walk_block b = {.length = 1};
    lsm_status status = LSM_OK;
    file_name_make(FILE_TABLE, s.t->meta.number, name);
    if (has_patches(r, s.t->meta.number)) {
        file_name_make(FILE_TEMPORARY, r->next_number++, copy);
        struct repair_target target = {FILE_TABLE, s.t->meta.number};
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
        status = finish(&s, err);
    table_writer_abort(s.writer);
    walk_table_close(s.walk);
    if (copy[0] != '\0')
        (void)io_dir_unlink(r->dir, copy, NULL, NULL);
    buffer_release(&s.key);
    buffer_release(&s.last_key);
    return status;
}
