/* The tables of a damaged database: which there are, and what is whole in them. */
#include "tools/dump/salvage.h"

#include "tools/cli/memory.h"

#include <stdlib.h>
#include <string.h>

/* ---- a run of tables ------------------------------------------------------------------------- */

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

/* What is wrong with a part costs no version: blocks are found without it. */
static void tell_parts(struct salvage *s, const struct walk_table *walk)
{
    const struct walk_part *parts[] = {&walk->footers[0], &walk->footers[1], &walk->dictionary,
                                       &walk->filter,     &walk->index,      &walk->properties};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
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
        if (status == LSM_OK) {
            tell_parts(it->salvage, it->walk);
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

static void tell_block(struct chain_iter *it)
{
    const struct walk_block *b = &it->block;
    const struct salvage_table *table = it->tables[it->next - 1];
    salvage_tell(it->salvage,
                 &(struct salvage_gap){.table = table->meta.number,
                                       .file = it->walk->name,
                                       .offset = b->offset,
                                       .length = b->length,
                                       .has_family = true,
                                       .cf = table->meta.cf,
                                       .has_first = b->has_first,
                                       .has_last = b->has_last,
                                       .first = b->first,
                                       .last = b->last,
                                       .what = b->too_large ? "a block is over the memory limit"
                                               : b->problem.what != NULL
                                                   ? b->problem.what
                                                   : finding_kind_of(b->fault)->meaning});
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
            walk_table_close(it->walk);
            it->walk = NULL;
            continue;
        }
        it->salvage->block_bytes += it->block.length;
        cli_throttle(cli, it->salvage->block_bytes);
        if (it->block.fault == FINDING_COUNT && !it->block.too_large) {
            const struct salvage_table *table = it->tables[it->next - 1];
            dump_files_raise(it->walk, table->is_live ? &table->meta : NULL, &it->block);
            it->at = 0;
            return true;
        }
        tell_block(it);
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

/* ---- which there are ------------------------------------------------------------------------- */

static void add_family(struct salvage *s, uint32_t id, const char *name)
{
    s->families = memory_resize(s->families, (s->family_count + 1) * sizeof *s->families);
    s->families[s->family_count++] =
        (struct salvage_family){.id = id, .name = memory_copy_text(name)};
}

static lsm_status add_table(struct salvage *s, const struct table_meta *meta, bool is_live,
                            lsm_error *err)
{
    struct salvage_table table = {.has_bounds = true, .is_live = is_live};
    lsm_status status = table_meta_copy(&table.meta, meta, err);
    if (status != LSM_OK)
        return status;
    s->tables = memory_resize(s->tables, (s->table_count + 1) * sizeof *s->tables);
    s->tables[s->table_count++] = table;
    return LSM_OK;
}

static int compare_ids(const void *a, const void *b)
{
    const struct salvage_family *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static lsm_status take_state(struct salvage *s, lsm_error *err)
{
    const struct version_edit *state = &s->files.state;
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < state->created_count; i++)
        add_family(s, state->created[i].id, state->created[i].name);
    for (size_t i = 0; status == LSM_OK && i < state->added_count; i++)
        status = add_table(s, &state->added[i], true, err);
    return status;
}

int salvage_find_tables(struct salvage *s)
{
    lsm_error err = {0};
    lsm_status status = LSM_OK;
    if (!s->files.has_state)
        return cli_library_error(&s->dumper->cli, NULL, &s->files.state_error);
    status = take_state(s, &err);
    if (status != LSM_OK)
        return cli_library_error(&s->dumper->cli, NULL, &err);
    if (s->family_count > 0)
        qsort(s->families, s->family_count, sizeof *s->families, compare_ids);
    return EXIT_DONE;
}
