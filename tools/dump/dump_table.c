/*
 * What stands in table files: one that is named, or all that the manifest names. Each part is
 * judged by itself; what is damaged is a line like everything else, and the rest goes on behind it.
 */
#include "tools/dump/files.h"
#include "tools/dump/row.h"

#include "engine/base/parse.h"
#include "engine/format/table_filter.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct table_view {
    struct dumper *d;
    struct dump_files *f;
    struct walk_table *walk;
    const struct table_meta *meta; /* what the manifest says; NULL: nothing */
    const struct blob_meta *blob;  /* the same of a blob file */
    uint64_t blocks, entries, damages;
    uint64_t bytes; /* of blocks passed */
};

static const char *const verdict_names[] = {
    [WALK_ABSENT] = "absent",   [WALK_SOUND] = "sound",         [WALK_LOST] = "lost",
    [WALK_DAMAGED] = "damaged", [WALK_MALFORMED] = "malformed", [WALK_UNREADABLE] = "unreadable",
    [WALK_FOREIGN] = "foreign", [WALK_NEWER] = "newer",         [WALK_TOO_LARGE] = "too-large",
};

static bool verdict_is_damage(enum walk_verdict verdict)
{
    return verdict != WALK_ABSENT && verdict != WALK_SOUND;
}

static void row_problem(struct row *row, const struct table_problem *problem)
{
    if (problem->what == NULL)
        return;
    row_text(row, "what", problem->what);
    if (problem->expected != problem->found) {
        row_u64(row, "expected", problem->expected);
        row_u64(row, "found", problem->found);
    }
}

static void row_family(struct row *row, const struct table_view *v, uint32_t cf)
{
    const char *name = dump_files_family(v->f, cf);
    row_u64(row, "family", cf);
    if (name != NULL)
        row_name(row, "name", name);
}

/* ---- parts ----------------------------------------------------------------------------------- */

static bool show_part(struct table_view *v, const char *name, const struct walk_part *part)
{
    struct row row;
    v->damages += verdict_is_damage(part->verdict) ? 1 : 0;
    row_begin(&row, v->d, 1, "part");
    row_text(&row, "name", name);
    row_text(&row, "state", verdict_names[part->verdict]);
    if (part->verdict != WALK_ABSENT && part->verdict != WALK_LOST) {
        row_u64(&row, "offset", part->extent.offset);
        row_u64(&row, "length", part->extent.size);
    }
    row_problem(&row, &part->problem);
    return row_end(&row);
}

static bool show_parts(struct table_view *v)
{
    const struct walk_table *t = v->walk;
    return show_part(v, "dictionary", &t->dictionary) && show_part(v, "filter", &t->filter) &&
           show_part(v, "index", &t->index) && show_part(v, "properties", &t->properties) &&
           show_part(v, "footer-1", &t->footers[0]) && show_part(v, "footer-2", &t->footers[1]);
}

static bool show_head(struct table_view *v)
{
    const struct walk_table *t = v->walk;
    const struct table_meta *meta = v->meta;
    char uuid[2 * HASH_UUID_SIZE + 1];
    struct row row;
    for (size_t i = 0; i < HASH_UUID_SIZE; i++)
        (void)snprintf(uuid + 2 * i, 3, "%02x", t->uuid[i]);
    row_begin(&row, v->d, 0, "table");
    row_text(&row, "file", t->name);
    row_u64(&row, "bytes", t->file_size);
    row_text(&row, "uuid", uuid);
    if (meta != NULL) {
        row_family(&row, v, meta->cf);
        row_u64(&row, "level", meta->level);
        row_u64(&row, "entries", meta->entry_count);
    } else if (v->blob != NULL) {
        row_family(&row, v, v->blob->cf);
        row_u64(&row, "entries", v->blob->entry_count);
    } else if (v->f->has_state) {
        row_flag(&row, "not-live", true);
    }
    return row_end(&row);
}

/* ---- properties ------------------------------------------------------------------------------ */

static bool show_replaced(struct table_view *v, const struct table_properties *p)
{
    for (size_t i = 0; i < p->replaced_count; i++) {
        char name[FILE_NAME_SIZE];
        struct row row;
        row_begin(&row, v->d, 2, "replaced");
        row_text(&row, "file", file_name_make(FILE_TABLE, p->replaced[i], name));
        if (!row_end(&row))
            return false;
    }
    return true;
}

static bool show_uses(struct table_view *v, const struct table_properties *p)
{
    bool is_good = true;
    for (size_t i = 0; is_good && i < p->blob_count; i++)
        is_good = dump_blob_use(v->d, &p->blobs[i]);
    return is_good;
}

static bool show_properties(struct table_view *v)
{
    const struct table_properties *p = &v->walk->table_properties;
    struct row row;
    if (v->walk->properties.verdict != WALK_SOUND)
        return show_part(v, "properties", &v->walk->properties);
    row_begin(&row, v->d, 1, "properties");
    row_u64(&row, "number", p->number);
    row_u64(&row, "family", p->cf);
    struct text name = {0};
    text_append(&name, p->cf_name.data, p->cf_name.size);
    row_name(&row, "name", text_string(&name));
    text_release(&name);
    row_u64(&row, "level", p->level);
    row_key(&row, "smallest", p->smallest);
    row_key(&row, "largest", p->largest);
    row_u64(&row, "min_sequence", p->min_sequence);
    row_u64(&row, "max_sequence", p->max_sequence);
    row_u64(&row, "entries", p->entry_count);
    row_u64(&row, "deletes", p->delete_count);
    row_u64(&row, "keys", p->key_count);
    row_u64(&row, "raw_bytes", p->raw_size);
    row_u64(&row, "blocks", p->block_count);
    row_u64(&row, "data_bytes", p->data_size);
    row_u64(&row, "block_size", p->block_size);
    row_u64(&row, "filter_bits", p->filter_bits);
    row_flag(&row, "compressed", p->compressed);
    row_flag(&row, "blob_file", p->is_blob);
    if (p->newest_time != 0) {
        row_u64(&row, "oldest_time", p->oldest_time);
        row_u64(&row, "newest_time", p->newest_time);
    }
    if (p->sequence_base != 0)
        row_u64(&row, "sequence_base", p->sequence_base);
    row_u64(&row, "job", p->job);
    row_u64(&row, "output", p->output_index);
    row_u64(&row, "replaced", p->replaced_count);
    row_hex(&row, "digest", p->digest);
    row_u64(&row, "digest_bytes", p->digest_size);
    return row_end(&row) && show_replaced(v, p) && show_uses(v, p);
}

/* ---- index and filter ------------------------------------------------------------------------ */

static bool show_index(struct table_view *v)
{
    const struct table_index *index = &v->walk->table_index;
    struct buffer separator = {0};
    bool is_good = true;
    if (v->walk->index.verdict != WALK_SOUND)
        return show_part(v, "index", &v->walk->index);
    for (uint32_t i = 0; is_good && i < index->count && !cli_is_cancelled(); i++) {
        struct row row;
        row_begin(&row, v->d, 1, "separator");
        row_u64(&row, "block", i);
        row_u64(&row, "offset", index->offsets[i]);
        row_u64(&row, "length", index->offsets[i + 1] - index->offsets[i]);
        if (i > 0 && walk_separator(index, i, &separator))
            row_key(&row, "key", LSM_SLICE(separator.data, separator.size));
        is_good = row_end(&row);
    }
    buffer_release(&separator);
    return is_good;
}

static bool show_filter(struct table_view *v)
{
    const struct walk_table *t = v->walk;
    const uint8_t *bytes = t->filter_bytes.data;
    uint64_t bits = 0;
    struct row row;
    if (t->filter.verdict != WALK_SOUND)
        return show_part(v, "filter", &t->filter);
    for (size_t i = 0; i < t->filter_bytes.size; i++)
        bits += (uint64_t)__builtin_popcount(bytes[i]);
    row_begin(&row, v->d, 1, "filter");
    row_u64(&row, "offset", t->filter.extent.offset);
    row_u64(&row, "bytes", t->filter_bytes.size);
    row_u64(&row, "cells", t->filter_bytes.size / TABLE_FILTER_BLOCK);
    row_u64(&row, "bits_set", bits);
    if (t->properties.verdict == WALK_SOUND)
        row_u64(&row, "keys", t->table_properties.key_count);
    /* A key that is not there is taken for one that may be when its bit is set in each of the eight
     * words of its cell. */
    double share = (double)bits / (8.0 * (double)t->filter_bytes.size), wrong = share;
    for (int i = 0; i < 3; i++)
        wrong *= wrong;
    row_u64(&row, "false_positives_per_million", (uint64_t)(wrong * 1e6 + 0.5));
    return row_end(&row);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static const char *type_name(uint64_t trailer, char text[8])
{
    if (entry_type_of(trailer) == ENTRY_PUT)
        return "put";
    if (entry_type_of(trailer) == ENTRY_DELETE)
        return "delete";
    if (entry_type_of(trailer) == ENTRY_BLOB)
        return "blob";
    (void)snprintf(text, 8, "type%u", (unsigned)(trailer & 0xff));
    return text;
}

/* Where the value of such an entry is. */
static bool refers_to(uint64_t trailer, lsm_slice value, struct blob_reference *reference)
{
    return entry_type_of(trailer) == ENTRY_BLOB && blob_reference_decode(value, reference);
}

static bool show_entry(struct dumper *d, lsm_slice key, uint64_t trailer, lsm_slice value)
{
    char type[8], name[FILE_NAME_SIZE];
    struct row row;
    struct blob_reference reference;
    bool refers = refers_to(trailer, value, &reference);
    if (d->cli.json) {
        row_begin(&row, d, 0, "entry");
        row_shown_key(&row, "key", key);
        row_u64(&row, "sequence", entry_sequence(trailer));
        row_text(&row, "type", type_name(trailer, type));
        if (refers) {
            row_text(&row, "file", file_name_make(FILE_BLOB, reference.number, name));
            row_u64(&row, "bytes", reference.size);
        } else {
            row_key(&row, "value", value);
        }
        return row_end(&row);
    }
    struct text *to = &d->output.pending;
    cli_append_key(&d->cli, to, key);
    text_append_format(to, "@%" PRIu64 ":%s", entry_sequence(trailer), type_name(trailer, type));
    if (refers) {
        text_append_format(to, " => %" PRIu64 " bytes in '%s'", reference.size,
                           file_name_make(FILE_BLOB, reference.number, name));
    } else if (d->shows_data && entry_type_of(trailer) != ENTRY_DELETE) {
        text_append_string(to, " => ");
        cli_append_key(&d->cli, to, value);
    }
    text_append(to, "\n", 1);
    return output_put(&d->output);
}

static bool show_entries(struct table_view *v, const struct walk_block *block)
{
    struct buffer key = {0};
    bool is_good = true;
    for (uint32_t i = 0; is_good && i < block->view.count; i++) {
        if (!block_copy_key(&block->view, i, &key))
            break;
        lsm_slice slice = buffer_slice(&key);
        if (dump_range_has(&v->d->cli, slice))
            is_good = show_entry(v->d, slice, block_trailer(&block->view, i),
                                 block_value(&block->view, i));
    }
    if (key.failed)
        is_good = false;
    buffer_release(&key);
    return is_good;
}

static bool show_bounds(struct row *row, const struct walk_block *block)
{
    struct buffer key = {0};
    bool is_good = block_copy_key(&block->view, 0, &key);
    if (is_good)
        row_key(row, "first", buffer_slice(&key));
    is_good = is_good && block_copy_key(&block->view, block->view.count - 1, &key);
    if (is_good)
        row_key(row, "last", buffer_slice(&key));
    buffer_release(&key);
    return is_good;
}

static bool show_block(struct table_view *v, const struct walk_block *block)
{
    static const char *const compressions[] = {"raw", "zstd", "zstd+dictionary", "zstd+columns",
                                               "zstd+columns+dictionary"};
    bool is_damage = block->fault != FINDING_COUNT;
    struct row row;
    row_begin(&row, v->d, 1, is_damage ? "damage" : "block");
    row_u64(&row, "offset", block->offset);
    row_u64(&row, "length", block->length);
    if (block->has_index)
        row_u64(&row, "block", block->index);
    if (block->has_frame) {
        row_u64(&row, "family", block->frame.cf);
        row_u64(&row, "level", block->frame.level);
        row_u64(&row, "entries", block->frame.entry_count);
        row_u64(&row, "min_sequence", block->frame.min_sequence);
        row_u64(&row, "max_sequence", block->frame.max_sequence);
        row_text(&row, "stored",
                 block->frame.compression <= TABLE_ZSTD_COLUMNS_DICTIONARY
                     ? compressions[block->frame.compression]
                     : "unknown");
        row_u64(&row, "raw_bytes", block->frame.raw_size);
    }
    if (is_damage) {
        row_text(&row, "id", finding_kind_of(block->fault)->id);
        row_problem(&row, &block->problem);
        if (block->has_first)
            row_key(&row, "after", block->first);
        if (block->has_last)
            row_key(&row, "before", block->last);
    } else if (!block->too_large) {
        (void)show_bounds(&row, block);
    }
    row_flag(&row, "too-large", block->too_large);
    row_flag(&row, "padding-is-bad", block->padding_is_bad);
    return row_end(&row);
}

static int walk_blocks(struct table_view *v, uint32_t views)
{
    struct dumper *d = v->d;
    lsm_error err = {0};
    struct walk_block block;
    for (;;) {
        if (cli_is_cancelled())
            return cli_cancelled(&d->cli);
        if (walk_table_next(v->walk, &block, &err) != LSM_OK)
            return cli_library_error(&d->cli, NULL, &err);
        if (block.length == 0)
            return EXIT_DONE;
        bool is_damage = block.fault != FINDING_COUNT;
        v->blocks++;
        v->damages += is_damage ? 1 : 0;
        v->bytes += block.length;
        v->entries += is_damage || block.too_large ? 0 : block.view.count;
        bool is_good = true;
        if ((views & DUMP_VIEW_BLOCKS) != 0 || is_damage)
            is_good = show_block(v, &block);
        if (is_good && (views & DUMP_VIEW_INTERNAL) != 0 && !is_damage && !block.too_large)
            is_good = show_entries(v, &block);
        if (!is_good)
            return dump_fail_output(d);
        d->byte_count += block.length;
        progress_update(&d->cli.progress, v->bytes, v->walk->data_limit, d->byte_count);
        cli_throttle(&d->cli, d->byte_count);
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

static bool show_sum(struct table_view *v)
{
    struct row row;
    row_begin(&row, v->d, 1, "sum");
    row_u64(&row, "blocks", v->blocks);
    row_u64(&row, "entries", v->entries);
    row_u64(&row, "damages", v->damages);
    return row_end(&row);
}

static int show_table(struct table_view *v)
{
    struct dumper *d = v->d;
    uint32_t views = d->views;
    bool is_bare = (views & DUMP_VIEW_INTERNAL) != 0 && !d->cli.json; /* entries alone */
    bool is_good = is_bare || show_head(v);
    if (is_good && (views == 0 || d->is_image))
        is_good = show_parts(v) && show_properties(v);
    if (is_good && (views & DUMP_VIEW_PROPERTIES) != 0)
        is_good = show_properties(v);
    if (is_good && (views & DUMP_VIEW_INDEX) != 0)
        is_good = show_index(v);
    if (is_good && (views & DUMP_VIEW_FILTER) != 0)
        is_good = show_filter(v);
    int code = is_good ? EXIT_DONE : dump_fail_output(d);
    if (code == EXIT_DONE &&
        (views == 0 || (views & (DUMP_VIEW_BLOCKS | DUMP_VIEW_INTERNAL)) != 0)) {
        progress_pass(&d->cli.progress, v->walk->name);
        code = walk_blocks(v, views);
        progress_end(&d->cli.progress, v->bytes);
        if (code == EXIT_DONE && !is_bare && !show_sum(v))
            code = dump_fail_output(d);
    }
    bool is_unfinished =
        d->inspected == NULL && v->blob == NULL && dump_files_may_be_unfinished(v->f, v->meta);
    if (v->damages > 0 && code == EXIT_DONE && !is_unfinished)
        code = cli_error(&d->cli, EXIT_DAMAGE, "LSM_CORRUPT",
                         "'%s' is damaged in %" PRIu64 " places; see lsm-verify", v->walk->name,
                         v->damages);
    return code;
}

static int open_table(struct dumper *d, struct dump_files *f,
                      const struct walk_table_options *options)
{
    struct table_view view = {.d = d, .f = f, .meta = options->meta};
    lsm_error err = {0};
    if (options->is_blob)
        view.blob = dump_files_blob(f, options->number);
    lsm_status status = walk_table_open(&f->env, options, &view.walk, &err);
    if (status == LSM_MISSING && d->is_image && options->meta == NULL)
        return EXIT_DONE; /* removed since it was listed */
    if (status != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    int code = show_table(&view);
    walk_table_close(view.walk);
    return code;
}

/* "000012.sst", "12" or any other name of a file in the directory. */
static int named_table(struct dumper *d, struct dump_files *f)
{
    char name[FILE_NAME_SIZE];
    enum file_kind kind;
    struct walk_table_options options = {.name = d->inspected};
    if (parse_u64(d->inspected, &options.number))
        options.name = file_name_make(FILE_TABLE, options.number, name);
    if (!file_name_parse(options.name, &kind, &options.number) ||
        (kind != FILE_TABLE && kind != FILE_BLOB)) {
        options.number = 0;
        options.any = true;
    }
    options.any = options.any || !f->has_uuid;
    options.is_blob = !options.any && kind == FILE_BLOB;
    options.meta = options.is_blob ? NULL : dump_files_table(f, options.number);
    return open_table(d, f, &options);
}

int dump_table(struct dumper *d, struct dump_files *f, enum file_kind kind, uint64_t number)
{
    bool is_blob = kind == FILE_BLOB;
    struct walk_table_options options = {.number = number,
                                         .meta = is_blob ? NULL : dump_files_table(f, number),
                                         .is_blob = is_blob,
                                         .any = !f->has_uuid};
    return open_table(d, f, &options);
}

int dump_tables(struct dumper *d, struct dump_files *f)
{
    int code = EXIT_DONE;
    if (d->inspected != NULL)
        return named_table(d, f);
    if (!f->has_state)
        return cli_library_error(&d->cli, NULL, &f->state_error);
    for (size_t i = 0; i < f->state.added_count; i++) {
        const struct table_meta *meta = &f->state.added[i];
        if (!dump_files_wants(d, f, meta->cf))
            continue;
        int one = dump_table(d, f, FILE_TABLE, meta->number);
        code |= one;
        if (one != EXIT_DONE && one != EXIT_DAMAGE)
            break;
    }
    return code;
}
