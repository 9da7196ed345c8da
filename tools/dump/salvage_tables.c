/* The tables and families of a damaged database: which there are. */
#include "tools/dump/salvage.h"

#include "engine/repair/state.h"
#include "tools/cli/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- families that the manifest lost --------------------------------------------------------- */

static bool family_is_known(const struct salvage *s, uint32_t id)
{
    for (size_t i = 0; i < s->family_count; i++) {
        if (s->families[i].id == id)
            return true;
    }
    for (size_t i = 0; i < s->gone.dropped_count; i++) {
        if (s->gone.dropped[i] == id)
            return true;
    }
    return false;
}

/* The name that a table says its family had, unless there is one of that name. */
static void name_by_table(struct salvage *s, const struct salvage_table *table, struct text *name)
{
    struct walk_table *walk = NULL;
    struct walk_table_options options = {.number = table->meta.number, .meta = &table->meta};
    if (walk_table_open(&s->files.env, &options, &walk, NULL) != LSM_OK)
        return;
    if (walk->properties.verdict == WALK_SOUND && !walk->is_foreign)
        text_append(name, walk->table_properties.cf_name.data, walk->table_properties.cf_name.size);
    walk_table_close(walk);
    for (size_t i = 0; i < s->family_count; i++) {
        if (strcmp(s->families[i].name, text_string(name)) == 0)
            text_clear(name);
    }
}

static void add_lost_families(struct salvage *s)
{
    for (size_t i = 0; i < s->table_count; i++) {
        uint32_t cf = s->tables[i].meta.cf;
        struct text name = {0};
        if (family_is_known(s, cf))
            continue;
        name_by_table(s, &s->tables[i], &name);
        if (name.size == 0)
            text_append_format(&name, "recovered-%" PRIu32, cf);
        add_family(s, cf, text_string(&name));
        text_release(&name);
        s->found_damage = true;
        cli_warn(&s->dumper->cli,
                 "the manifest names tables of column family %" PRIu32 ", which it does not know",
                 cf);
    }
}

/* ---- those that are not live ----------------------------------------------------------------- */

/* A table that nobody names, of a family that is there. What cannot be read is left out. */
static lsm_status add_superseded(struct salvage *s, uint64_t number, lsm_error *err)
{
    struct walk_table *walk = NULL;
    struct walk_table_options options = {.number = number, .any = !s->files.has_uuid};
    lsm_status status = walk_table_open(&s->files.env, &options, &walk, err);
    if (status != LSM_OK)
        return status == LSM_CANCELLED || status == LSM_NO_MEMORY ? status : LSM_OK;
    const struct table_properties *p = &walk->table_properties;
    if (walk->properties.verdict == WALK_SOUND && p->number == number) {
        struct table_meta meta = {.number = number,
                                  .size = walk->file_size,
                                  .cf = p->cf,
                                  .level = p->level,
                                  .smallest = p->smallest,
                                  .largest = p->largest};
        status = add_table(s, &meta, false, err);
    }
    walk_table_close(walk);
    return status;
}

static int find_superseded(struct salvage *s)
{
    struct dump_file *files = NULL;
    size_t count = 0;
    lsm_error err = {0};
    lsm_status status = LSM_OK;
    int code = dump_files_list(s->dumper, &s->files, &files, &count);
    for (size_t i = 0; code == EXIT_DONE && status == LSM_OK && i < count; i++) {
        if (files[i].kind == FILE_TABLE && dump_files_table(&s->files, files[i].number) == NULL)
            status = add_superseded(s, files[i].number, &err);
    }
    memory_free(files);
    return status == LSM_OK ? code : cli_library_error(&s->dumper->cli, NULL, &err);
}

/* ---- without a manifest ---------------------------------------------------------------------- */

/* Told when the families have names. */
static void keep_doubt(void *context, const struct repair_state_doubt *doubt)
{
    struct salvage *s = context;
    s->doubts = memory_resize(s->doubts, (s->doubt_count + 1) * sizeof *s->doubts);
    struct salvage_doubt *kept = &s->doubts[s->doubt_count++];
    *kept = (struct salvage_doubt){.has_family = !doubt->all_families,
                                   .cf = doubt->cf,
                                   .has_first = !doubt->first_open,
                                   .has_last = !doubt->last_open};
    (void)snprintf(kept->file, sizeof kept->file, "%s", doubt->file);
    text_append(&kept->first, doubt->first.data, doubt->first.size);
    text_append(&kept->last, doubt->last.data, doubt->last.size);
}

static void tell_doubts(struct salvage *s)
{
    for (size_t i = 0; i < s->doubt_count; i++) {
        const struct salvage_doubt *doubt = &s->doubts[i];
        salvage_tell_doubtful(s, &(struct salvage_gap){.file = doubt->file,
                                                       .has_family = doubt->has_family,
                                                       .cf = doubt->cf,
                                                       .has_first = doubt->has_first,
                                                       .has_last = doubt->has_last,
                                                       .first = text_slice(&doubt->first),
                                                       .last = text_slice(&doubt->last)});
    }
}

int salvage_rebuild_state(struct salvage *s)
{
    struct dump_files *f = &s->files;
    struct repair_state_view view = {.log_is_known = false};
    lsm_error err = {0};
    if (f->has_state)
        return EXIT_DONE;
    if (repair_read_state(f->io, f->dir, s->dumper->cli.directory, &view, keep_doubt, s, &err) !=
        LSM_OK)
        return cli_library_error(&s->dumper->cli, NULL, &err);
    s->found_damage = true;
    cli_warn(&s->dumper->cli, "the tables themselves say which of them are live: %s",
             f->state_error.message);
    memcpy(f->env.uuid, view.uuid, sizeof view.uuid);
    f->has_uuid = f->has_state = s->is_rebuilt = true;
    f->log_is_known = view.log_is_known;
    f->state = view.snapshot;
    dump_files_sort(f);
    s->gone = view.gone;
    return EXIT_DONE;
}

/* Families that nothing but the log knows. */
static void take_logged_families(struct salvage *s)
{
    for (size_t i = 0; i < s->log.count; i++) {
        uint32_t id = s->log.entries[i].cf;
        char name[32];
        if ((i > 0 && s->log.entries[i - 1].cf == id) || family_is_known(s, id))
            continue;
        (void)snprintf(name, sizeof name, "recovered-%" PRIu32, id);
        add_family(s, id, name);
    }
}

/* ---- both ------------------------------------------------------------------------------------ */

int salvage_find_tables(struct salvage *s)
{
    lsm_error err = {0};
    if (take_state(s, &err) != LSM_OK)
        return cli_library_error(&s->dumper->cli, NULL, &err);
    add_lost_families(s);
    if (s->is_rebuilt)
        take_logged_families(s);
    if (s->family_count > 0)
        qsort(s->families, s->family_count, sizeof *s->families, compare_ids);
    tell_doubts(s);
    return s->dumper->is_aggressive ? find_superseded(s) : EXIT_DONE;
}
