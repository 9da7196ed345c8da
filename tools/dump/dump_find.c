/*
 * Every place that mentions a key: records of the log, blocks of tables, whether these are live or
 * not, damage that may hold it; and of each such table how it came to be: the job that wrote it,
 * what that replaced, and the edits of manifests that added and removed it.
 */
#include "tools/dump/files.h"
#include "tools/dump/row.h"

#include "engine/format/batch.h"
#include "engine/format/table_filter.h"
#include "engine/inspect/walk_log.h"
#include "engine/inspect/walk_manifest.h"
#include "tools/cli/memory.h"

#include <inttypes.h>
#include <string.h>

/* An edit that adds or removes a table. */
struct event {
    uint64_t table;
    uint64_t manifest, frame, offset;
    uint32_t level;
    bool is_add;
};

struct finder {
    struct dumper *d;
    struct dump_files *f;
    lsm_slice key;
    uint64_t hash;
    struct dump_file *files; /* owned */
    size_t file_count;
    struct event *events; /* owned */
    size_t event_count, event_room;

    uint64_t places, damages;
    uint64_t table_count; /* whose range has the key */
    bool output_failed;
};

static const char *type_of(uint64_t trailer)
{
    return entry_type_of(trailer) == ENTRY_PUT      ? "put"
           : entry_type_of(trailer) == ENTRY_BLOB   ? "blob"
           : entry_type_of(trailer) == ENTRY_DELETE ? "delete"
                                                    : "unknown";
}

static void row_family(struct row *row, const struct finder *s, uint32_t cf)
{
    const char *name = dump_files_family(s->f, cf);
    row_u64(row, "family", cf);
    if (name != NULL)
        row_name(row, "name", name);
}

/* ---- the log --------------------------------------------------------------------------------- */

static bool show_logged(struct finder *s, const struct walk_log_record *record,
                        const struct batch_entry *entry)
{
    bool is_flushed = s->f->has_state && record->position < s->f->state.log_position;
    struct row row;
    row_begin(&row, s->d, 0, "log");
    row_family(&row, s, entry->cf);
    row_u64(&row, "sequence", record->sequence);
    row_text(&row, "type", entry->type == ENTRY_PUT ? "put" : "delete");
    row_text(&row, "file", record->file);
    row_u64(&row, "offset", record->offset);
    row_u64(&row, "position", record->position);
    row_text(&row, "state", is_flushed ? "in tables" : "in a memtable when open");
    if (entry->type == ENTRY_PUT)
        row_key(&row, "value", entry->value);
    s->places++;
    return row_end(&row);
}

static lsm_status find_in_record(void *context, const struct walk_log_record *record,
                                 lsm_error *err)
{
    struct finder *s = context;
    struct batch_reader r = batch_read(record->batch);
    struct batch_entry entry;
    while (batch_next(&r, &entry)) {
        if (!slice_equal(entry.key, s->key) || !dump_files_wants(s->d, s->f, entry.cf))
            continue;
        if (!show_logged(s, record, &entry)) {
            s->output_failed = true;
            return lsm_fail(err, LSM_CANCELLED, "the output cannot be written");
        }
    }
    return LSM_OK;
}

static lsm_status find_log_damage(void *context, const struct walk_log_damage *damage,
                                  lsm_error *err)
{
    struct finder *s = context;
    struct row row;
    if (finding_kind_of(damage->id)->severity != LSM_DAMAGE || damage->is_corrected ||
        damage->is_elsewhere || damage->position == damage->limit)
        return LSM_OK;
    row_begin(&row, s->d, 0, "damage");
    row_text(&row, "id", finding_kind_of(damage->id)->id);
    row_text(&row, "file", damage->file);
    row_u64(&row, "offset", damage->offset);
    row_u64(&row, "length", damage->length);
    row_sentence(&row, "what", damage->text);
    s->damages++;
    if (row_end(&row))
        return LSM_OK;
    s->output_failed = true;
    return lsm_fail(err, LSM_CANCELLED, "the output cannot be written");
}

static int find_in_log(struct finder *s)
{
    struct dump_log_reading reading = {
        .visitor = {.context = s, .record = find_in_record, .damage = find_log_damage},
        .from_oldest = true};
    struct walk_log_end end;
    if (!s->f->has_uuid)
        return EXIT_DONE;
    int code = dump_read_log(s->d, s->f, &reading, &end);
    return s->output_failed ? dump_fail_output(s->d) : code;
}

/* ---- manifests ------------------------------------------------------------------------------- */

static void add_event(struct finder *s, const struct event *event)
{
    if (s->event_count == s->event_room) {
        s->event_room = s->event_room == 0 ? 256 : 2 * s->event_room;
        s->events = memory_resize(s->events, s->event_room * sizeof *s->events);
    }
    s->events[s->event_count++] = *event;
}

static void collect_edit(struct finder *s, uint64_t manifest, const struct walk_edit *e)
{
    struct event event = {.manifest = manifest, .frame = e->frame.number, .offset = e->offset};
    for (size_t i = 0; i < e->edit.added_count; i++) {
        event.table = e->edit.added[i].number;
        event.level = e->edit.added[i].level;
        event.is_add = true;
        add_event(s, &event);
    }
    for (size_t i = 0; i < e->edit.removed_count; i++) {
        event.table = e->edit.removed[i].number;
        event.level = e->edit.removed[i].level;
        event.is_add = false;
        add_event(s, &event);
    }
}

/* What is wrong with a manifest is for --manifest to say. */
static int collect_edits(struct finder *s, uint64_t number)
{
    struct walk_manifest walk;
    lsm_error err = {0};
    lsm_status status = walk_manifest_open(&s->f->env, number, WALK_WHOLE, &walk, &err);
    if (status == LSM_CORRUPT || status == LSM_MISSING || status == LSM_IO)
        return EXIT_DONE;
    while (status == LSM_OK) {
        struct walk_edit e = {0};
        status = walk_manifest_next(&walk, &e, &err);
        bool is_end = status != LSM_OK || e.length == 0;
        if (!is_end && e.has_edit)
            collect_edit(s, number, &e);
        edit_release(&e.edit);
        if (is_end)
            break;
    }
    walk_manifest_close(&walk);
    return status == LSM_OK ? EXIT_DONE : cli_library_error(&s->d->cli, NULL, &err);
}

static bool show_events(struct finder *s, uint64_t table)
{
    bool is_good = true;
    for (size_t i = 0; is_good && i < s->event_count; i++) {
        const struct event *e = &s->events[i];
        char name[FILE_NAME_SIZE];
        struct row row;
        if (e->table != table)
            continue;
        row_begin(&row, s->d, 1, e->is_add ? "added" : "removed");
        row_text(&row, "manifest", file_name_make(FILE_MANIFEST, e->manifest, name));
        row_u64(&row, "edit", e->frame);
        row_u64(&row, "offset", e->offset);
        row_u64(&row, "level", e->level);
        is_good = row_end(&row);
    }
    return is_good;
}

/* ---- tables ---------------------------------------------------------------------------------- */

struct table_search {
    struct finder *s;
    struct walk_table *walk;
    const struct table_meta *meta; /* NULL: no live table */
    bool is_shown;                 /* its own line is there */
};

static bool show_lineage(struct finder *s, const struct table_properties *p)
{
    struct row row;
    row_begin(&row, s->d, 1, "made");
    row_u64(&row, "job", p->job);
    row_u64(&row, "output", p->output_index);
    row_u64(&row, "level", p->level);
    if (!row_end(&row))
        return false;
    for (size_t i = 0; i < p->replaced_count; i++) {
        char name[FILE_NAME_SIZE];
        row_begin(&row, s->d, 1, "replaced");
        row_text(&row, "file", file_name_make(FILE_TABLE, p->replaced[i], name));
        if (!row_end(&row))
            return false;
    }
    return true;
}

/* The table's own lines, in front of the first place in it. */
static bool show_table(struct table_search *t)
{
    struct finder *s = t->s;
    const struct walk_table *walk = t->walk;
    struct row row;
    if (t->is_shown)
        return true;
    t->is_shown = true;
    row_begin(&row, s->d, 0, "table");
    row_text(&row, "file", walk->name);
    if (t->meta != NULL) {
        row_family(&row, s, t->meta->cf);
        row_u64(&row, "level", t->meta->level);
    } else if (walk->properties.verdict == WALK_SOUND) {
        row_family(&row, s, walk->table_properties.cf);
    }
    row_text(&row, "state", t->meta != NULL ? "live" : s->f->has_state ? "not live" : "unknown");
    if (walk->filter.verdict == WALK_SOUND)
        row_text(&row, "filter",
                 table_filter_may_have(walk->filter_bytes.data, walk->filter_bytes.size, s->hash)
                     ? "may have it"
                     : "does not have it");
    if (!row_end(&row))
        return false;
    if (walk->properties.verdict == WALK_SOUND && !show_lineage(s, &walk->table_properties))
        return false;
    return show_events(s, walk->number);
}

static bool show_damage(struct table_search *t, const struct walk_block *block)
{
    struct row row;
    if ((block->has_first && slice_compare(t->s->key, block->first) < 0) ||
        (block->has_last && slice_compare(t->s->key, block->last) > 0))
        return true;
    if (dump_files_may_be_unfinished(t->s->f, t->meta))
        return true;
    t->s->damages++;
    if (!show_table(t))
        return false;
    row_begin(&row, t->s->d, 1, "damage");
    row_text(&row, "id", finding_kind_of(block->fault)->id);
    row_u64(&row, "offset", block->offset);
    row_u64(&row, "length", block->length);
    return row_end(&row);
}

static bool show_entries(struct table_search *t, const struct walk_block *block)
{
    const struct block_view *view = &block->view;
    uint32_t at = block_seek(view, t->s->key, ENTRY_MAX_TRAILER);
    for (; at < view->count && block_compare(view, at, t->s->key, block_trailer(view, at)) == 0;
         at++) {
        uint64_t trailer = block_trailer(view, at);
        struct row row;
        if (!show_table(t))
            return false;
        row_begin(&row, t->s->d, 1, "entry");
        row_u64(&row, "sequence", entry_sequence(trailer));
        row_text(&row, "type", type_of(trailer));
        row_u64(&row, "offset", block->offset);
        if (block->has_index)
            row_u64(&row, "block", block->index);
        row_u64(&row, "entry", at);
        if (entry_type_of(trailer) == ENTRY_PUT)
            row_key(&row, "value", block_value(view, at));
        struct blob_reference reference;
        char name[FILE_NAME_SIZE];
        if (entry_type_of(trailer) == ENTRY_BLOB &&
            blob_reference_decode(block_value(view, at), &reference)) {
            row_text(&row, "file", file_name_make(FILE_BLOB, reference.number, name));
            row_u64(&row, "bytes", reference.size);
        }
        t->s->places++;
        if (!row_end(&row))
            return false;
    }
    return true;
}

/* Is the whole block above the key? */
static bool block_is_above(const struct walk_block *block, lsm_slice key)
{
    return block_compare(&block->view, 0, key, 0) > 0;
}

static int search_blocks(struct table_search *t)
{
    struct dumper *d = t->s->d;
    struct walk_block block;
    lsm_error err = {0};
    if (t->walk->index.verdict == WALK_SOUND)
        walk_table_skip(t->walk,
                        table_index_find(&t->walk->table_index, t->s->key, ENTRY_MAX_TRAILER));
    for (;;) {
        if (cli_is_cancelled())
            return cli_cancelled(&d->cli);
        if (walk_table_next(t->walk, &block, &err) != LSM_OK)
            return cli_library_error(&d->cli, NULL, &err);
        if (block.length == 0)
            return EXIT_DONE;
        d->byte_count += block.length;
        cli_throttle(&d->cli, d->byte_count);
        bool is_whole = block.fault == FINDING_COUNT && !block.too_large;
        if (!(is_whole ? show_entries(t, &block) : show_damage(t, &block)))
            return dump_fail_output(d);
        if (is_whole ? block_is_above(&block, t->s->key)
                     : block.has_first && slice_compare(block.first, t->s->key) > 0)
            return EXIT_DONE;
    }
}

static int search_table(struct table_search *t)
{
    struct finder *s = t->s;
    const struct walk_table *walk = t->walk;
    uint32_t cf = t->meta != NULL ? t->meta->cf : walk->table_properties.cf;
    bool has_family = t->meta != NULL || walk->properties.verdict == WALK_SOUND;
    if (has_family && !dump_files_wants(s->d, s->f, cf))
        return EXIT_DONE;
    if (walk->has_bounds &&
        (slice_compare(s->key, walk->first) < 0 || slice_compare(s->key, walk->last) > 0))
        return EXIT_DONE;
    s->table_count++;
    return search_blocks(t);
}

static int find_in_table(struct finder *s, uint64_t number)
{
    struct table_search t = {.s = s, .meta = dump_files_table(s->f, number)};
    struct walk_table_options options = {.number = number, .meta = t.meta, .any = !s->f->has_uuid};
    lsm_error err = {0};
    lsm_status status = walk_table_open(&s->f->env, &options, &t.walk, &err);
    if (status == LSM_MISSING && t.meta == NULL)
        return EXIT_DONE; /* removed meanwhile */
    if (status != LSM_OK)
        return cli_library_error(&s->d->cli, NULL, &err);
    int code = search_table(&t);
    walk_table_close(t.walk);
    return code;
}

/* Those of the directory, and those that should be there. */
static int find_in_tables(struct finder *s)
{
    int code = EXIT_DONE;
    for (size_t i = 0; (code & ~EXIT_DAMAGE) == EXIT_DONE && i < s->file_count; i++) {
        if (s->files[i].kind == FILE_TABLE)
            code |= find_in_table(s, s->files[i].number);
    }
    for (size_t i = 0; i < s->f->state.added_count; i++) {
        const struct table_meta *meta = &s->f->state.added[i];
        bool is_there = false;
        for (size_t k = 0; k < s->file_count && !is_there; k++)
            is_there = s->files[k].kind == FILE_TABLE && s->files[k].number == meta->number;
        if (!is_there && dump_files_wants(s->d, s->f, meta->cf) &&
            slice_compare(s->key, meta->smallest) >= 0 && slice_compare(s->key, meta->largest) <= 0)
            code |=
                cli_error(&s->d->cli, EXIT_DAMAGE, "LSM_CORRUPT",
                          "table %" PRIu64 ", which may hold the key, is missing", meta->number);
    }
    return code;
}

/* ---- all ------------------------------------------------------------------------------------- */

static int find_everywhere(struct finder *s)
{
    struct dumper *d = s->d;
    struct row row;
    int code = find_in_log(s);
    if (code == EXIT_DONE) /* behind the log, which may have read a newer manifest */
        code = dump_files_list(d, s->f, &s->files, &s->file_count);
    for (size_t i = 0; code == EXIT_DONE && i < s->file_count; i++) {
        if (s->files[i].kind == FILE_MANIFEST)
            code = collect_edits(s, s->files[i].number);
    }
    if (code == EXIT_DONE)
        code = find_in_tables(s);
    if ((code & ~EXIT_DAMAGE) != EXIT_DONE)
        return code;
    row_begin(&row, d, 0, "sum");
    row_u64(&row, "places", s->places);
    row_u64(&row, "tables_in_range", s->table_count);
    row_u64(&row, "damages", s->damages);
    if (!row_end(&row))
        return code | dump_fail_output(d);
    if (s->damages > 0)
        code |= cli_error(&d->cli, EXIT_DAMAGE, "LSM_CORRUPT",
                          "%" PRIu64 " places are damaged that may hold the key; see lsm-verify",
                          s->damages);
    return code;
}

int dump_find(struct dumper *d, struct dump_files *f)
{
    struct finder s = {.d = d, .f = f, .key = text_slice(&d->find_key)};
    s.hash = hash_key(s.key.data, s.key.size);
    if (!f->has_state)
        cli_warn(&d->cli, "which tables are live cannot be told: %s", f->state_error.message);
    int code = find_everywhere(&s);
    memory_free(s.events);
    memory_free(s.files);
    return code;
}
