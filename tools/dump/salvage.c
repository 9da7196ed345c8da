/*
 * lsm-dump --salvage: the walk over what is whole.
 *
 * The tables of a family are put into as few runs as their ranges allow, so that one table a run is
 * open at a time, and the runs are merged with the log's versions.
 */
#include "tools/dump/salvage.h"

#include "engine/iter/merging.h"
#include "tools/cli/memory.h"

#include <stdlib.h>
#include <string.h>

/* ---- runs ------------------------------------------------------------------------------------ */

static int compare_smallest(const void *a, const void *b)
{
    const struct salvage_table *x = *(const struct salvage_table *const *)a;
    const struct salvage_table *y = *(const struct salvage_table *const *)b;
    if (x->has_bounds != y->has_bounds)
        return x->has_bounds ? 1 : -1;
    int order = x->has_bounds ? slice_compare(x->meta.smallest, y->meta.smallest) : 0;
    return order != 0 ? order
                      : (x->meta.number > y->meta.number) - (x->meta.number < y->meta.number);
}

/*
 * Moves to the front of `tables`, sorted, a run of tables none of which begins before the one in
 * front of it has ended. Returns how many.
 */
static size_t take_run(const struct salvage_table **tables, size_t count)
{
    const struct salvage_table **rest = memory_alloc(count * sizeof *rest);
    size_t run = 1, left = 0;
    for (size_t i = 1; i < count; i++) {
        const struct salvage_table *last = tables[run - 1];
        if (last->has_bounds && tables[i]->has_bounds &&
            slice_compare(last->meta.largest, tables[i]->meta.smallest) < 0)
            tables[run++] = tables[i];
        else
            rest[left++] = tables[i];
    }
    memcpy(tables + run, rest, left * sizeof *rest);
    memory_free(rest);
    return run;
}

/* Everything that holds versions of the family, merged. */
static lsm_status open_merged(struct salvage *s, uint32_t cf, struct iter **merged, lsm_error *err)
{
    const struct salvage_table **tables = memory_alloc((s->table_count + 1) * sizeof *tables);
    struct iter **children = memory_alloc((s->table_count + 1) * sizeof *children);
    size_t count = 0, child_count = 0;
    for (size_t i = 0; i < s->table_count; i++) {
        if (s->tables[i].meta.cf == cf)
            tables[count++] = &s->tables[i];
    }
    if (count > 0)
        qsort(tables, count, sizeof *tables, compare_smallest);
    for (size_t at = 0; at < count;) {
        size_t run = take_run(tables + at, count - at);
        children[child_count++] = salvage_chain_new(s, tables + at, run);
        at += run;
    }
    children[child_count] = salvage_log_iter(s, cf);
    child_count += children[child_count] != NULL ? 1 : 0;
    lsm_status status = merging_new(children, child_count, merged, err);
    memory_free(children);
    memory_free(tables);
    return status;
}

/* ---- versions of one key --------------------------------------------------------------------- */

/* The versions met so far, newest first; with --aggressive they are given out oldest first. */
struct versions {
    struct text key;
    bool has_key;
    uint64_t last_trailer;
    struct text values; /* of the puts */
    size_t *ends;       /* in values; owned */
    size_t count, room;
};

static void keep_version(struct versions *v, lsm_slice value)
{
    if (v->count == v->room) {
        v->room = v->room == 0 ? 8 : 2 * v->room;
        v->ends = memory_resize(v->ends, v->room * sizeof *v->ends);
    }
    text_append(&v->values, value.data, value.size);
    v->ends[v->count++] = v->values.size;
}

static int give_out(struct dumper *d, struct versions *v, dump_visitor visit)
{
    int code = EXIT_DONE;
    for (size_t i = v->count; code == EXIT_DONE && i-- > 0;) {
        size_t begin = i == 0 ? 0 : v->ends[i - 1];
        lsm_slice value = {v->values.bytes == NULL ? "" : v->values.bytes + begin,
                           v->ends[i] - begin};
        code = visit(d, text_slice(&v->key), value);
        d->pair_count++;
        d->byte_count += v->key.size + value.size;
    }
    text_clear(&v->values);
    v->count = 0;
    return code;
}

/* The value is gone: no older one is given out in its place. */
static void tell_lost_value(struct salvage *s, uint32_t cf, lsm_slice key, uint64_t number)
{
    char name[FILE_NAME_SIZE];
    salvage_tell(s, &(struct salvage_gap){.table = number,
                                          .file = file_name_make(FILE_BLOB, number, name),
                                          .offset = LSM_NO_OFFSET,
                                          .has_family = true,
                                          .cf = cf,
                                          .has_first = true,
                                          .has_last = true,
                                          .first = key,
                                          .last = key,
                                          .is_value = true,
                                          .what = "a value of it is damaged or missing"});
}

/* Keeps the value that the entry refers to. */
static int keep_referred(struct salvage *s, uint32_t cf, struct versions *v,
                         const struct iter_entry *e)
{
    struct blob_reference reference;
    lsm_slice value;
    bool is_found = false;
    lsm_error err = {0};
    if (blob_reference_decode(e->value, &reference)) {
        lsm_status status =
            walk_values_find(&s->values, e->key, e->trailer, &reference, &is_found, &value, &err);
        if (status != LSM_OK)
            return cli_is_cancelled() ? cli_cancelled(&s->dumper->cli)
                                      : cli_library_error(&s->dumper->cli, NULL, &err);
    } else {
        reference.number = 0;
    }
    if (is_found)
        keep_version(v, value);
    else
        tell_lost_value(s, cf, e->key, reference.number);
    return EXIT_DONE;
}

static int take_entry(struct dumper *d, uint32_t cf, struct versions *v, const struct iter_entry *e,
                      dump_visitor visit)
{
    int code = EXIT_DONE;
    bool is_new = !v->has_key || !slice_equal(e->key, text_slice(&v->key));
    if (!is_new && (!d->is_aggressive || e->trailer == v->last_trailer))
        return EXIT_DONE;
    if (is_new) {
        code = give_out(d, v, visit);
        text_clear(&v->key);
        text_append(&v->key, e->key.data, e->key.size);
        v->has_key = true;
    }
    v->last_trailer = e->trailer;
    if (entry_type_of(e->trailer) == ENTRY_PUT)
        keep_version(v, e->value);
    if (code == EXIT_DONE && entry_type_of(e->trailer) == ENTRY_BLOB)
        code = keep_referred(d->salvage, cf, v, e);
    return code;
}

/* ---- the walk -------------------------------------------------------------------------------- */

static int walk_merged(struct salvage *s, uint32_t cf, struct iter *merged, dump_visitor visit)
{
    struct dumper *d = s->dumper;
    struct versions v = {0};
    int code = EXIT_DONE;
    uint64_t seen = 0;
    for (merged->ops->first(merged); code == EXIT_DONE && merged->valid; iter_next(merged)) {
        if (cli_is_cancelled()) {
            code = cli_cancelled(&d->cli);
            break;
        }
        if (dump_range_has(&d->cli, merged->entry->key))
            code = take_entry(d, cf, &v, merged->entry, visit);
        progress_update(&d->cli.progress, ++seen, 0, d->byte_count);
    }
    if (code == EXIT_DONE)
        code = give_out(d, &v, visit);
    progress_end(&d->cli.progress, seen);
    if (code == EXIT_DONE && merged->status != LSM_OK)
        code = cli_is_cancelled() ? cli_cancelled(&d->cli)
                                  : cli_library_error(&d->cli, NULL, &s->failure);
    text_release(&v.key);
    text_release(&v.values);
    memory_free(v.ends);
    return code;
}

static int walk_family(struct dumper *d, const char *name, dump_visitor visit)
{
    struct salvage *s = d->salvage;
    struct iter *merged = NULL;
    lsm_error err = {0};
    size_t i = 0;
    while (strcmp(s->families[i].name, name) != 0)
        i++;
    if (open_merged(s, s->families[i].id, &merged, &err) != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    progress_pass(&d->cli.progress, name);
    s->values.env = &s->files.env;
    int code = walk_merged(s, s->families[i].id, merged, visit);
    walk_values_release(&s->values);
    iter_release(merged);
    return code;
}

/* ---- begin and end --------------------------------------------------------------------------- */

static void take_names(struct dumper *d, const struct salvage *s)
{
    d->names = memory_alloc((s->family_count + 1) * sizeof *d->names);
    for (size_t i = 0; i < s->family_count; i++)
        d->names[i] = s->families[i].name;
    d->name_count = s->family_count;
}

int dump_open_salvage(struct dumper *d)
{
    struct salvage *s = memory_alloc(sizeof *s);
    *s = (struct salvage){.dumper = d};
    d->salvage = s;
    d->walk = walk_family;
    int code = dump_files_open(d, &s->files);
    if (code == EXIT_DONE)
        code = dump_files_load(d, &s->files);
    if (code == EXIT_DONE)
        code = salvage_rebuild_state(s);
    if (code == EXIT_DONE)
        code = salvage_read_log(s);
    if (code == EXIT_DONE)
        code = salvage_find_tables(s);
    if (code != EXIT_DONE)
        return code;
    take_names(d, s);
    d->style.sequence = s->log.last_sequence > s->files.state.last_sequence
                            ? s->log.last_sequence
                            : s->files.state.last_sequence;
    return cli_check_families(&d->cli, d->names, d->name_count);
}

int dump_close_salvage(struct dumper *d, int code)
{
    struct salvage *s = d->salvage;
    if (s->found_damage)
        code |= EXIT_DAMAGE;
    if (s->lost_data)
        code |= EXIT_LOST;
    salvage_log_release(&s->log);
    for (size_t i = 0; i < s->family_count; i++)
        memory_free(s->families[i].name);
    for (size_t i = 0; i < s->table_count; i++)
        table_meta_release(&s->tables[i].meta);
    memory_free(s->families);
    memory_free(s->tables);
    key_set_release(&s->told);
    memory_free(d->names);
    d->names = NULL;
    for (size_t i = 0; i < s->doubt_count; i++) {
        text_release(&s->doubts[i].first);
        text_release(&s->doubts[i].last);
    }
    memory_free(s->doubts);
    edit_release(&s->gone);
    dump_files_close(&s->files);
    memory_free(s);
    d->salvage = NULL;
    return code;
}
