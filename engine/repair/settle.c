/*
 * Where tables go when nobody knows their levels for sure: each pair that shares keys is ordered by
 * the versions that it holds, the older one below.
 *
 * Tables only sink, so it ends. Two that cannot be put in order (each has newer versions of some
 * keys, or there is no level left) are merged into one, which holds every version of both; what was
 * merged is not named any more. All tables are whole by now: damaged ones were written anew.
 */
#include "engine/repair/repair_private.h"

#include "engine/base/epoch.h"
#include "engine/base/step.h"
#include "engine/iter/merging.h"

#include <stdlib.h>

struct item {
    struct table_meta *meta; /* borrowed from the state or from r->made, or owned: see is_own */
    size_t index;            /* there */
    bool is_made, is_own;    /* in r->made; by this file */
    bool is_suspect;         /* its level is not known for sure */
    bool is_gone;            /* merged into another one */
};

struct settle {
    struct repair *r;
    struct item *items; /* by family, then first key, once sorted */
    size_t count, room;
};

/* Which of two tables may be read first? */
struct relation {
    bool a_first, b_first;
};

/* ---- what two tables hold -------------------------------------------------------------------- */

struct side {
    struct table *table;
    struct iter *it;
    lsm_error error;
};

static lsm_status side_open(struct repair *r, struct side *s, const struct table_meta *m)
{
    static const struct table_iter_options options = {.flags = TABLE_NO_FILL, .whole = true};
    *s = (struct side){.table = NULL};
    lsm_status status = table_open(&r->env, m->number, m->size, &s->table, &s->error);
    return status == LSM_OK ? table_iter_new(s->table, &options, &s->it, &s->error) : status;
}

static void side_close(struct side *s)
{
    iter_release(s->it);
    if (s->table != NULL)
        table_close(s->table);
}

/* Moves both on until they stand on one key; false at the end of either. */
static bool meet(struct side *a, struct side *b)
{
    while (a->it->valid && b->it->valid) {
        int order = slice_compare(a->it->entry->key, b->it->entry->key);
        if (order == 0)
            return true;
        iter_next(order < 0 ? a->it : b->it);
    }
    return false;
}

/* The versions of the key on which `s` stands; it stands behind them afterwards. */
static bool versions(struct side *s, struct buffer *key, uint64_t *newest, uint64_t *oldest)
{
    if (!buffer_assign(key, s->it->entry->key))
        return false;
    *newest = entry_sequence(s->it->entry->trailer);
    for (; s->it->valid && slice_equal(s->it->entry->key, buffer_slice(key)); iter_next(s->it))
        *oldest = entry_sequence(s->it->entry->trailer);
    return true;
}

static lsm_status compare_sides(struct side *a, struct side *b, struct relation *relation,
                                lsm_error *err)
{
    struct buffer key = {0};
    lsm_status status = LSM_OK;
    while (status == LSM_OK && (relation->a_first || relation->b_first) && meet(a, b)) {
        uint64_t newest_a = 0, oldest_a = 0, newest_b = 0, oldest_b = 0;
        if (!versions(a, &key, &newest_a, &oldest_a) || !versions(b, &key, &newest_b, &oldest_b))
            status = lsm_fail_memory(err, key.size);
        relation->a_first = relation->a_first && oldest_a >= newest_b;
        relation->b_first = relation->b_first && oldest_b >= newest_a;
    }
    buffer_release(&key);
    return status;
}

/* A table that cannot be read (its damage is to stay) is judged by its sequence numbers. */
static lsm_status compare(struct repair *r, const struct table_meta *a, const struct table_meta *b,
                          struct relation *relation, lsm_error *err)
{
    struct side x, y = {.table = NULL};
    *relation = (struct relation){.a_first = a->min_sequence >= b->max_sequence,
                                  .b_first = b->min_sequence >= a->max_sequence};
    if (relation->a_first || relation->b_first)
        return LSM_OK;
    *relation = (struct relation){true, true};
    lsm_status status = side_open(r, &x, a);
    if (status == LSM_OK)
        status = side_open(r, &y, b);
    if (status == LSM_OK) {
        lsm_slice first = slice_compare(a->smallest, b->smallest) > 0 ? a->smallest : b->smallest;
        iter_seek(x.it, first, ENTRY_MAX_TRAILER);
        iter_seek(y.it, first, ENTRY_MAX_TRAILER);
        status = compare_sides(&x, &y, relation, err);
    }
    bool is_read = status == LSM_OK && x.it->status == LSM_OK && y.it->status == LSM_OK;
    side_close(&x);
    side_close(&y);
    epoch_drain();
    if (status == LSM_NO_MEMORY)
        return status;
    if (!is_read)
        *relation = (struct relation){.a_first = a->max_sequence >= b->max_sequence,
                                      .b_first = a->max_sequence < b->max_sequence};
    return LSM_OK;
}

/* ---- merging --------------------------------------------------------------------------------- */

struct merge {
    struct settle *s;
    const struct table_meta *inputs[2];
    uint32_t level;
    uint64_t table_size; /* at which the next output is begun */
    struct table_writer *writer;
    struct buffer key; /* of the last entry */
    uint64_t trailer;
    bool has_last;
};

static lsm_status add_item(struct settle *s, const struct item *item, lsm_error *err)
{
    if (s->count == s->room) {
        size_t room = s->room == 0 ? 64 : 2 * s->room;
        struct item *grown = mem_resize(s->items, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        s->items = grown;
        s->room = room;
    }
    s->items[s->count++] = *item;
    return LSM_OK;
}

static lsm_status begin_output(struct merge *m, lsm_error *err)
{
    struct repair *r = m->s->r;
    struct table_write_options options;
    uint64_t replaced[2] = {m->inputs[0]->number, m->inputs[1]->number};
    uint32_t cf = m->inputs[0]->cf;
    for (size_t i = 0; i < r->state.snapshot.created_count; i++) {
        if (r->state.snapshot.created[i].id == cf)
            m->table_size = r->state.snapshot.created[i].options.table_size;
    }
    lsm_status status = repair_table_options(r, cf, m->level, m->level > 0, &options, err);
    options.replaced = replaced;
    options.replaced_count = 2;
    if (status == LSM_OK)
        status = table_writer_new(&r->env, &options, &m->writer, err);
    STEP("repair: merge begun");
    return status;
}

static lsm_status end_output(struct merge *m, lsm_error *err)
{
    struct table_writer *writer = m->writer;
    struct item item = {.is_own = true, .is_suspect = true};
    if (writer == NULL)
        return LSM_OK;
    m->writer = NULL;
    table_writer_is_last(writer);
    item.meta = mem_alloc_zeroed(sizeof *item.meta);
    if (item.meta == NULL) {
        table_writer_abort(writer);
        return lsm_fail_memory(err, sizeof *item.meta);
    }
    lsm_status status = table_writer_finish(writer, item.meta, err);
    STEP("repair: merge written");
    if (status == LSM_OK)
        status = add_item(m->s, &item, err);
    if (status != LSM_OK) {
        table_meta_release(item.meta);
        mem_free(item.meta);
    }
    return status;
}

/* One version may be in both. */
static bool is_same(const struct merge *m, const struct iter_entry *e)
{
    return m->has_last && entry_sequence(m->trailer) == entry_sequence(e->trailer) &&
           slice_equal(buffer_slice(&m->key), e->key);
}

static lsm_status take_entry(struct merge *m, const struct iter_entry *e, lsm_error *err)
{
    bool is_new_key = !m->has_last || !slice_equal(buffer_slice(&m->key), e->key);
    lsm_status status = LSM_OK;
    if (is_same(m, e))
        return LSM_OK;
    /* All versions of a key stay in one table. */
    if (m->writer != NULL && is_new_key && m->level > 0 &&
        table_writer_size(m->writer) >= m->table_size)
        status = end_output(m, err);
    if (status == LSM_OK && m->writer == NULL)
        status = begin_output(m, err);
    if (status == LSM_OK)
        status = table_writer_add(m->writer, e->key, e->trailer, e->value, err);
    if (!buffer_assign(&m->key, e->key))
        return lsm_fail_memory(err, e->key.size);
    m->trailer = e->trailer;
    m->has_last = true;
    return status;
}

static lsm_status run_merge(struct merge *m, lsm_error *err)
{
    struct side sides[2] = {{.table = NULL}, {.table = NULL}};
    struct iter *source = NULL;
    lsm_status status = side_open(m->s->r, &sides[0], m->inputs[0]);
    const struct side *failed = &sides[0];
    if (status == LSM_OK) {
        status = side_open(m->s->r, &sides[1], m->inputs[1]);
        failed = &sides[1];
    }
    if (status != LSM_OK) {
        status_copy(err, &failed->error);
    } else {
        struct iter *children[2] = {sides[0].it, sides[1].it};
        sides[0].it = sides[1].it = NULL; /* now owned by the merge */
        status = merging_new(children, 2, &source, err);
    }
    if (status == LSM_OK)
        source->ops->first(source);
    while (status == LSM_OK && source->valid) {
        status = take_entry(m, source->entry, err);
        iter_next(source);
    }
    if (status == LSM_OK && source->status != LSM_OK) {
        status = source->status;
        status_copy(err, sides[0].error.status != LSM_OK ? &sides[0].error : &sides[1].error);
    }
    iter_release(source);
    side_close(&sides[0]);
    side_close(&sides[1]);
    epoch_drain();
    return status == LSM_OK ? end_output(m, err) : status;
}

/* Its file goes when it is one that was written by now and nobody names. */
static void drop_item(struct settle *s, struct item *item)
{
    char name[FILE_NAME_SIZE];
    item->is_gone = true;
    if (item->is_own || item->is_made)
        (void)io_dir_unlink(s->r->dir, file_name_make(FILE_TABLE, item->meta->number, name), NULL,
                            NULL);
    else
        s->r->tables[item->index].is_merged = true;
}

static lsm_status merge_pair(struct settle *s, size_t upper, size_t lower, lsm_error *err)
{
    char names[2][FILE_NAME_SIZE];
    struct merge m = {.s = s, .inputs = {s->items[upper].meta, s->items[lower].meta}};
    m.level = m.inputs[0]->level > m.inputs[1]->level ? m.inputs[0]->level : m.inputs[1]->level;
    lsm_status status = run_merge(&m, err);
    table_writer_abort(m.writer);
    buffer_release(&m.key);
    if (status != LSM_OK)
        return status;
    repair_tell(s->r, "'%s' and '%s' are merged: neither could be put above the other",
                file_name_make(FILE_TABLE, m.inputs[0]->number, names[0]),
                file_name_make(FILE_TABLE, m.inputs[1]->number, names[1]));
    drop_item(s, &s->items[upper]);
    drop_item(s, &s->items[lower]);
    return LSM_OK;
}

/* ---- pairs ----------------------------------------------------------------------------------- */

/* Reads of level 0 begin with the table of the highest sequence number. */
static bool is_read_first(const struct table_meta *a, const struct table_meta *b)
{
    if (a->level != b->level)
        return a->level < b->level;
    if (a->max_sequence != b->max_sequence)
        return a->max_sequence > b->max_sequence;
    return a->number > b->number;
}

enum change { CHANGE_NONE, CHANGE_SUNK, CHANGE_MERGED };

static lsm_status settle_pair(struct settle *s, size_t i, size_t k, enum change *change,
                              lsm_error *err)
{
    bool i_is_first = is_read_first(s->items[i].meta, s->items[k].meta);
    size_t upper = i_is_first ? i : k, lower = i_is_first ? k : i;
    struct table_meta *above = s->items[upper].meta, *below = s->items[lower].meta;
    struct relation relation;
    bool is_one_run = above->level == below->level && above->level > 0;
    lsm_status status = compare(s->r, above, below, &relation, err);
    *change = CHANGE_NONE;
    if (status != LSM_OK || (relation.a_first && !is_one_run))
        return status;
    if (!relation.a_first) {
        size_t kept = upper;
        upper = lower;
        lower = kept;
        above = s->items[upper].meta;
        below = s->items[lower].meta;
    }
    if ((!relation.a_first && !relation.b_first) || above->level + 1 >= VERSION_LEVELS) {
        *change = CHANGE_MERGED;
        return merge_pair(s, upper, lower, err);
    }
    below->level = above->level + 1;
    s->items[lower].is_suspect = true;
    *change = CHANGE_SUNK;
    return LSM_OK;
}

static int compare_items(const void *left, const void *right)
{
    const struct item *a = left, *b = right;
    if (a->is_gone != b->is_gone)
        return a->is_gone ? 1 : -1;
    if (a->meta->cf != b->meta->cf)
        return a->meta->cf < b->meta->cf ? -1 : 1;
    int order = slice_compare(a->meta->smallest, b->meta->smallest);
    return order != 0 ? order
                      : (a->meta->number > b->meta->number) - (a->meta->number < b->meta->number);
}

static bool keys_meet(const struct table_meta *a, const struct table_meta *b)
{
    return a->cf == b->cf && slice_compare(a->smallest, b->largest) <= 0 &&
           slice_compare(b->smallest, a->largest) <= 0;
}

/* Once through all pairs. *again: something has moved. A merge ends it: there are other tables. */
static lsm_status pass(struct settle *s, bool *again, lsm_error *err)
{
    enum change change = CHANGE_NONE;
    lsm_status status = LSM_OK;
    *again = false;
    if (s->count > 1)
        qsort(s->items, s->count, sizeof *s->items, compare_items);
    for (size_t i = 0; status == LSM_OK && i < s->count && !s->items[i].is_gone; i++) {
        for (size_t k = i + 1; status == LSM_OK && k < s->count && !s->items[k].is_gone &&
                               keys_meet(s->items[i].meta, s->items[k].meta);
             k++) {
            if (!s->items[i].is_suspect && !s->items[k].is_suspect)
                continue;
            status = settle_pair(s, i, k, &change, err);
            *again = *again || change != CHANGE_NONE;
            if (change == CHANGE_MERGED)
                return status;
        }
    }
    return status;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static lsm_status list_items(struct settle *s, lsm_error *err)
{
    struct repair *r = s->r;
    struct version_edit *state = &r->state.snapshot;
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < state->added_count; i++) {
        struct item item = {
            .meta = &state->added[i], .index = i, .is_suspect = r->state.is_rebuilt};
        if (!repair_table_goes(&r->tables[i]))
            status = add_item(s, &item, err);
    }
    for (size_t i = 0; status == LSM_OK && i < r->made.added_count; i++) {
        struct item item = {
            .meta = &r->made.added[i], .index = i, .is_made = true, .is_suspect = true};
        status = add_item(s, &item, err);
    }
    return status;
}

/* r->made becomes what is left of it, and what was made of others here. */
static lsm_status give_made(struct settle *s, lsm_error *err)
{
    struct version_edit made = {0};
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < s->count; i++) {
        if ((s->items[i].is_made || s->items[i].is_own) && !s->items[i].is_gone)
            status = edit_add_table(&made, s->items[i].meta, err);
    }
    if (status != LSM_OK) {
        edit_release(&made);
        return status;
    }
    edit_release(&s->r->made);
    s->r->made = made;
    return LSM_OK;
}

static void settle_release(struct settle *s, bool failed)
{
    char name[FILE_NAME_SIZE];
    for (size_t i = 0; i < s->count; i++) {
        if (!s->items[i].is_own)
            continue;
        if (failed && !s->items[i].is_gone)
            (void)io_dir_unlink(
                s->r->dir, file_name_make(FILE_TABLE, s->items[i].meta->number, name), NULL, NULL);
        table_meta_release(s->items[i].meta);
        mem_free(s->items[i].meta);
    }
    mem_free(s->items);
}

lsm_status repair_settle(struct repair *r, lsm_error *err)
{
    struct settle s = {.r = r};
    bool again = r->state.is_rebuilt || r->made.added_count > 0;
    if (!again)
        return LSM_OK;
    lsm_status status = list_items(&s, err);
    while (status == LSM_OK && again)
        status = pass(&s, &again, err);
    if (status == LSM_OK)
        status = give_made(&s, err);
    settle_release(&s, status != LSM_OK);
    return status;
}
