/*
 * What is whole of tables whose ranges follow each other, as one iterator. Whatever is wrong is
 * told; a block is left out when its checksum, its family or the order of its keys is wrong.
 */
#include "tools/dump/salvage.h"

#include "tools/cli/memory.h"

#include <inttypes.h>
#include <string.h>

struct chain_iter {
    struct iter base;
    struct iter_entry entry;
    struct salvage *salvage;
    const struct salvage_table **tables; /* owned; the tables are not */
    size_t count, next;                  /* the one to be opened next */
    struct walk_table *walk;             /* NULL: none is open */
    struct walk_block block;
    uint32_t at; /* in the block */
    struct buffer key;
    struct buffer last; /* key of the block before, with has_last */
    uint64_t last_trailer;
    bool has_last;
    uint64_t entries, gaps; /* of the table so far */
    lsm_error err;
};

static void chain_fail(struct chain_iter *it, lsm_status status)
{
    it->base.valid = false;
    it->base.status = status;
    status_copy(&it->salvage->failure, &it->err);
}

static void tell_missing(struct chain_iter *it, const struct salvage_table *table)
{
    char name[FILE_NAME_SIZE];
    const struct table_meta *meta = &table->meta;
    if (!table->is_live)
        return;
    salvage_tell(it->salvage,
                 &(struct salvage_gap){.table = meta->number,
                                       .file = file_name_make(FILE_TABLE, meta->number, name),
                                       .length = meta->size,
                                       .has_family = true,
                                       .cf = meta->cf,
                                       .has_first = table->has_bounds,
                                       .has_last = table->has_bounds,
                                       .first = meta->smallest,
                                       .last = meta->largest,
                                       .what = it->err.message});
}

/* Why nothing of the table can be used, or NULL. */
static const char *why_useless(const struct walk_table *walk)
{
    if (walk->is_foreign)
        return "the file belongs to another database or another table";
    for (size_t i = 0; i < TABLE_FOOTER_COUNT; i++) {
        if (walk->footers[i].verdict == WALK_NEWER && !walk->has_footer)
            return "the file was written by a newer version of the library";
    }
    return NULL;
}

/* What is wrong with a part costs no version: blocks are found without it. */
static void tell_parts(struct salvage *s, const struct walk_table *walk,
                       const struct table_meta *meta)
{
    if (meta->size != walk->file_size)
        salvage_tell_harmless(s, walk->name, walk->file_size,
                              "the file has another size than the manifest says");
    const struct walk_part *parts[] = {&walk->footers[0], &walk->footers[1], &walk->dictionary,
                                       &walk->filter,     &walk->index,      &walk->properties};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i]->padding_is_bad)
            salvage_tell_harmless(s, walk->name, parts[i]->padding_offset,
                                  "bytes that have to be zero are not");
        if (parts[i]->verdict != WALK_ABSENT && parts[i]->verdict != WALK_SOUND)
            salvage_tell_harmless(s, walk->name, parts[i]->extent.offset,
                                  parts[i]->problem.what == NULL ? "a part of the table is lost"
                                                                 : parts[i]->problem.what);
    }
}

/* Opens the next table that is there. False at the end and on failure. */
static bool chain_open_next(struct chain_iter *it)
{
    walk_table_close(it->walk);
    it->walk = NULL;
    while (it->next < it->count) {
        const struct salvage_table *table = it->tables[it->next++];
        struct walk_table_options options = {.number = table->meta.number,
                                             .meta = table->is_live ? &table->meta : NULL,
                                             .any = !it->salvage->files.has_uuid};
        lsm_status status = walk_table_open(&it->salvage->files.env, &options, &it->walk, &it->err);
        const char *useless = status == LSM_OK ? why_useless(it->walk) : NULL;
        if (useless != NULL) {
            status = lsm_fail(&it->err, LSM_CORRUPT, "%s", useless);
            walk_table_close(it->walk);
            it->walk = NULL;
        }
        if (status == LSM_OK) {
            if (table->is_live)
                tell_parts(it->salvage, it->walk, &table->meta);
            it->entries = it->gaps = 0;
            it->has_last = false;
            return true;
        }
        if (status != LSM_MISSING && status != LSM_CORRUPT && status != LSM_IO) {
            chain_fail(it, status);
            return false;
        }
        tell_missing(it, table);
    }
    return false;
}

static void tell_block(struct chain_iter *it, const char *what)
{
    const struct walk_block *b = &it->block;
    it->gaps++;
    const struct salvage_table *table = it->tables[it->next - 1];
    if (!table->is_live)
        return; /* what is missing there is nothing that the database holds */
    salvage_tell(it->salvage, &(struct salvage_gap){.table = table->meta.number,
                                                    .file = it->walk->name,
                                                    .offset = b->offset,
                                                    .length = b->length,
                                                    .has_family = true,
                                                    .cf = table->meta.cf,
                                                    .has_first = b->has_first,
                                                    .has_last = b->has_last,
                                                    .first = b->first,
                                                    .last = b->last,
                                                    .what = what});
}

/* A block's tags may be wrong, which only a read of one key looks at. */
static bool entries_ascend(const struct block_view *view)
{
    struct buffer key = {0};
    bool is_good = true;
    for (uint32_t i = 0; is_good && i + 1 < view->count; i++)
        is_good = block_copy_key(view, i, &key) &&
                  block_compare(view, i + 1, buffer_slice(&key), block_trailer(view, i)) > 0;
    buffer_release(&key);
    return is_good;
}

/* NULL, or why the entries of the block cannot be used. Its checksum may fit nevertheless. */
static const char *why_skipped(struct chain_iter *it)
{
    const struct walk_block *b = &it->block;
    if (b->too_large)
        return "a block is over the memory limit";
    if (b->fault != FINDING_COUNT)
        return b->problem.what != NULL ? b->problem.what : finding_kind_of(b->fault)->meaning;
    if (b->frame.cf != it->tables[it->next - 1]->meta.cf)
        return "a block belongs to another column family";
    const char *wrong = block_check_order(&b->view);
    if (wrong != NULL && !entries_ascend(&b->view))
        return wrong;
    if (wrong != NULL)
        salvage_tell_harmless(it->salvage, it->walk->name, b->offset, wrong);
    lsm_slice last = buffer_slice(&it->last);
    if (it->has_last && block_compare(&b->view, 0, last, it->last_trailer) <= 0)
        return "the keys of a block are not above those of the block before";
    return NULL;
}

/* The block is used. False when out of memory. */
static bool take_block(struct chain_iter *it)
{
    const struct walk_block *b = &it->block;
    it->entries += b->view.count;
    it->has_last = block_copy_key(&b->view, b->view.count - 1, &it->last);
    it->last_trailer = block_trailer(&b->view, b->view.count - 1);
    if (b->frame.entry_count != b->view.count)
        salvage_tell_harmless(it->salvage, it->walk->name, b->offset,
                              "the frame of a block says another number of entries");
    if (b->padding_is_bad)
        salvage_tell_harmless(it->salvage, it->walk->name, b->padding_offset,
                              "bytes that have to be zero are not");
    it->at = 0;
    return it->has_last;
}

/* The table was read to its end: what is missing without a gap to show for it? */
static void end_table(struct chain_iter *it)
{
    const struct salvage_table *table = it->tables[it->next - 1];
    uint64_t wanted = it->walk->properties.verdict == WALK_SOUND
                          ? it->walk->table_properties.entry_count
                          : table->meta.entry_count;
    if (it->gaps == 0 && it->entries < wanted) {
        (void)lsm_fail(&it->err, LSM_CORRUPT, "%" PRIu64 " entries of %" PRIu64 " are there",
                       it->entries, wanted);
        tell_missing(it, table);
    }
    walk_table_close(it->walk);
    it->walk = NULL;
}

/* The next block with entries in it. False at the end and on failure. */
static bool chain_next_block(struct chain_iter *it)
{
    struct cli *cli = &it->salvage->dumper->cli;
    for (;;) {
        if (it->walk == NULL && !chain_open_next(it))
            return false;
        lsm_status status = cli_is_cancelled()
                                ? lsm_fail(&it->err, LSM_CANCELLED, "cancelled by a signal")
                                : walk_table_next(it->walk, &it->block, &it->err);
        if (status != LSM_OK) {
            chain_fail(it, status);
            return false;
        }
        if (it->block.length == 0) {
            end_table(it);
            continue;
        }
        it->salvage->block_bytes += it->block.length;
        cli_throttle(cli, it->salvage->block_bytes);
        const char *wrong = why_skipped(it);
        if (wrong != NULL) {
            tell_block(it, wrong);
            continue;
        }
        if (take_block(it))
            return true;
        lsm_fail_memory(&it->err, LSM_MAX_KEY_SIZE);
        chain_fail(it, LSM_NO_MEMORY);
        return false;
    }
}

static void chain_settle(struct chain_iter *it)
{
    const struct block_view *view = &it->block.view;
    if (!block_copy_key(view, it->at, &it->key)) {
        lsm_fail_memory(&it->err, LSM_MAX_KEY_SIZE);
        chain_fail(it, LSM_NO_MEMORY);
        return;
    }
    lsm_slice key = buffer_slice(&it->key);
    it->entry = (struct iter_entry){.head = bytes_head(key.data, key.size),
                                    .key = key,
                                    .trailer = block_trailer(view, it->at),
                                    .value = block_value(view, it->at)};
    it->base.valid = true;
}

static void chain_first(struct iter *base)
{
    struct chain_iter *it = (struct chain_iter *)base;
    walk_table_close(it->walk);
    it->walk = NULL;
    it->next = 0;
    it->base.status = LSM_OK;
    it->base.valid = false;
    if (chain_next_block(it))
        chain_settle(it);
}

static void chain_next(struct iter *base)
{
    struct chain_iter *it = (struct chain_iter *)base;
    it->at++;
    it->base.valid = it->at < it->block.view.count || chain_next_block(it);
    if (it->base.valid)
        chain_settle(it);
}

static void chain_release(struct iter *base)
{
    struct chain_iter *it = (struct chain_iter *)base;
    walk_table_close(it->walk);
    buffer_release(&it->key);
    buffer_release(&it->last);
    memory_free(it->tables);
    memory_free(it);
}

static const struct iter_ops chain_ops = {
    .first = chain_first, .next = chain_next, .release = chain_release};

struct iter *salvage_chain_new(struct salvage *s, const struct salvage_table *const *tables,
                               size_t count)
{
    struct chain_iter *it = memory_alloc(sizeof *it);
    *it = (struct chain_iter){.base = {.ops = &chain_ops, .status = LSM_OK},
                              .salvage = s,
                              .tables = memory_alloc(count * sizeof *it->tables),
                              .count = count};
    memcpy(it->tables, tables, count * sizeof *it->tables);
    it->base.entry = &it->entry;
    return &it->base;
}
