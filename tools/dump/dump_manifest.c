/* Every frame of a manifest and what its edit changes, and every damage between them. */
#include "tools/dump/files.h"
#include "tools/dump/row.h"

#include "engine/base/parse.h"
#include "engine/inspect/walk_manifest.h"
#include "engine/version/replay.h"
#include "engine/version/version.h"

#include <inttypes.h>
#include <stdio.h>

struct manifest_view {
    struct dumper *d;
    struct walk_manifest walk;
    struct replay replay; /* of the edits so far */
    bool replay_failed;
    uint64_t frames, damages;
};

/* ---- edits ----------------------------------------------------------------------------------- */

static bool show_numbers(struct dumper *d, const struct version_edit *edit)
{
    struct row row;
    if (edit->has_log) {
        row_begin(&row, d, 1, "log");
        row_u64(&row, "position", edit->log_position);
        row_hex(&row, "chain", edit->log_chain);
        row_flag(&row, "clean", edit->clean);
        if (!row_end(&row))
            return false;
    }
    if (edit->last_sequence == 0 && edit->next_file_number == 0 && edit->next_cf == 0)
        return true;
    row_begin(&row, d, 1, "numbers");
    if (edit->last_sequence != 0)
        row_u64(&row, "last_sequence", edit->last_sequence);
    if (edit->next_file_number != 0)
        row_u64(&row, "next_file", edit->next_file_number);
    if (edit->next_cf != 0)
        row_u64(&row, "next_family", edit->next_cf);
    return row_end(&row);
}

/* Only what is not as it is by itself. */
static void show_style(struct row *row, const lsm_cf_options *o)
{
    if (o->compaction > LSM_COMPACTION_LEVELED)
        row_text(row, "compaction", version_style_name(o->compaction));
    if (o->ttl != 0)
        row_u64(row, "ttl", o->ttl);
    if (o->fifo_size != 0)
        row_u64(row, "fifo_size", o->fifo_size);
    if (o->size_ratio != 0)
        row_u64(row, "size_ratio", o->size_ratio);
    if (o->min_merge_width != 0)
        row_u64(row, "min_merge_width", o->min_merge_width);
    if (o->max_size_amplification != 0)
        row_u64(row, "max_size_amplification", o->max_size_amplification);
    if (o->blob_threshold != 0)
        row_u64(row, "blob_threshold", o->blob_threshold);
    if (o->compression_above != 0) {
        char level[32];
        snprintf(level, sizeof level, "zstd:%" PRId32, o->compression_above);
        row_text(row, "compression_above", level);
    }
}

static bool show_family(struct dumper *d, const char *kind, const struct edit_cf *cf,
                        bool has_options)
{
    struct row row;
    row_begin(&row, d, 1, kind);
    row_u64(&row, "family", cf->id);
    if (cf->name != NULL)
        row_name(&row, "name", cf->name);
    if (has_options) {
        row_u64(&row, "compression", (uint64_t)cf->options.compression);
        row_u64(&row, "dictionary", cf->options.dictionary_size);
        row_u64(&row, "block_size", cf->options.block_size);
        row_u64(&row, "filter_bits", cf->options.filter_bits);
        row_u64(&row, "table_size", cf->options.table_size);
        row_u64(&row, "level_base_size", cf->options.level_base_size);
        row_u64(&row, "level_ratio", cf->options.level_ratio);
        row_u64(&row, "level0_trigger", cf->options.level0_trigger);
        row_u64(&row, "level0_slowdown", cf->options.level0_slowdown);
        row_u64(&row, "level0_stop", cf->options.level0_stop);
        show_style(&row, &cf->options);
    }
    return row_end(&row);
}

static bool show_families(struct dumper *d, const struct version_edit *edit)
{
    bool is_good = true;
    for (size_t i = 0; is_good && i < edit->dropped_count; i++)
        is_good = show_family(d, "drop", &(struct edit_cf){.id = edit->dropped[i]}, false);
    for (size_t i = 0; is_good && i < edit->created_count; i++)
        is_good = show_family(d, "create", &edit->created[i], true);
    for (size_t i = 0; is_good && i < edit->renamed_count; i++)
        is_good = show_family(d, "rename", &edit->renamed[i], false);
    return is_good;
}

static bool show_removed(struct dumper *d, const struct edit_file_removal *removal)
{
    char name[FILE_NAME_SIZE];
    struct row row;
    row_begin(&row, d, 1, "remove");
    row_text(&row, "file", file_name_make(FILE_TABLE, removal->number, name));
    row_u64(&row, "family", removal->cf);
    row_u64(&row, "level", removal->level);
    return row_end(&row);
}

static bool show_blob(struct dumper *d, const struct blob_meta *meta)
{
    char name[FILE_NAME_SIZE];
    struct row row;
    row_begin(&row, d, 1, "blob");
    row_text(&row, "file", file_name_make(FILE_BLOB, meta->number, name));
    row_u64(&row, "family", meta->cf);
    row_u64(&row, "bytes", meta->size);
    row_u64(&row, "entries", meta->entry_count);
    row_u64(&row, "raw_bytes", meta->raw_size);
    return row_end(&row);
}

bool dump_blob_use(struct dumper *d, const struct blob_use *use)
{
    char name[FILE_NAME_SIZE];
    struct row row;
    row_begin(&row, d, 2, "refers");
    row_text(&row, "file", file_name_make(FILE_BLOB, use->number, name));
    row_u64(&row, "entries", use->entry_count);
    row_u64(&row, "raw_bytes", use->bytes);
    return row_end(&row);
}

static bool show_uses(struct dumper *d, const struct table_meta *meta)
{
    bool is_good = true;
    for (size_t i = 0; is_good && i < meta->blob_count; i++)
        is_good = dump_blob_use(d, &meta->blobs[i]);
    return is_good;
}

static bool show_added(struct dumper *d, const struct table_meta *meta)
{
    char name[FILE_NAME_SIZE];
    struct row row;
    row_begin(&row, d, 1, "add");
    row_text(&row, "file", file_name_make(FILE_TABLE, meta->number, name));
    row_u64(&row, "family", meta->cf);
    row_u64(&row, "level", meta->level);
    row_u64(&row, "bytes", meta->size);
    row_u64(&row, "entries", meta->entry_count);
    row_u64(&row, "deletes", meta->delete_count);
    row_u64(&row, "min_sequence", meta->min_sequence);
    row_u64(&row, "max_sequence", meta->max_sequence);
    row_key(&row, "smallest", meta->smallest);
    row_key(&row, "largest", meta->largest);
    if (meta->newest_time != 0) {
        row_u64(&row, "oldest_time", meta->oldest_time);
        row_u64(&row, "newest_time", meta->newest_time);
    }
    row_flag(&row, "compress-later", meta->compress_later);
    return row_end(&row);
}

static bool show_edit(struct dumper *d, const struct version_edit *edit)
{
    bool is_good = show_numbers(d, edit) && show_families(d, edit);
    for (size_t i = 0; is_good && i < edit->removed_count; i++)
        is_good = show_removed(d, &edit->removed[i]);
    for (size_t i = 0; is_good && i < edit->added_count; i++)
        is_good = show_added(d, &edit->added[i]) && show_uses(d, &edit->added[i]);
    for (size_t i = 0; is_good && i < edit->blob_count; i++)
        is_good = show_blob(d, &edit->blobs[i]);
    return is_good;
}

/* ---- frames ---------------------------------------------------------------------------------- */

static bool show_fault(struct manifest_view *v, enum finding_id id, uint64_t offset,
                       uint64_t length, const char *text)
{
    const struct finding_kind *kind = finding_kind_of(id);
    struct row row;
    v->damages += kind->severity == LSM_DAMAGE ? 1 : 0;
    row_begin(&row, v->d, 0, finding_severity_name(kind->severity));
    row_text(&row, "id", kind->id);
    row_u64(&row, "offset", offset);
    row_u64(&row, "length", length);
    row_sentence(&row, "what", text[0] == '\0' ? kind->meaning : text);
    return row_end(&row);
}

static bool show_frame(struct manifest_view *v, const struct walk_edit *e)
{
    struct row row;
    row_begin(&row, v->d, 0, "frame");
    row_u64(&row, "offset", e->offset);
    row_u64(&row, "length", e->length);
    row_u64(&row, "number", e->frame.number);
    row_u64(&row, "kind", e->frame.kind);
    row_u64(&row, "more", e->frame.more);
    row_hex(&row, "checksum", e->frame.checksum);
    row_flag(&row, "snapshot", e->has_edit && e->edit.is_snapshot);
    return row_end(&row);
}

/* How the frame stands to those before it. */
static bool show_links(struct manifest_view *v, struct walk_edit *e)
{
    bool is_good = true;
    if (e->number_differs)
        is_good = show_fault(v, FINDING_FRAME_NUMBER, e->offset, e->length, e->text);
    else if (e->chain_differs)
        is_good = show_fault(v, FINDING_FRAME_CHAIN, e->offset, e->length, e->text);
    lsm_error err = {0};
    if (!is_good || !e->has_edit || v->replay_failed ||
        replay_apply(&v->replay, &e->edit, &err) == LSM_OK)
        return is_good;
    v->replay_failed = true;
    return show_fault(v, FINDING_EDIT_REPLAY, e->offset, e->length, err.message);
}

static bool show_extent(struct manifest_view *v, struct walk_edit *e)
{
    if (e->has_frame && !show_frame(v, e))
        return false;
    if (e->has_edit && !show_edit(v->d, &e->edit))
        return false;
    v->frames += e->has_frame ? 1 : 0;
    if (e->fault != FINDING_COUNT) {
        v->replay_failed = true;
        return show_fault(v, e->fault, e->offset, e->length, e->text);
    }
    return show_links(v, e);
}

static int walk_frames(struct manifest_view *v)
{
    struct dumper *d = v->d;
    lsm_error err = {0};
    for (;;) {
        struct walk_edit e = {0};
        if (cli_is_cancelled())
            return cli_cancelled(&d->cli);
        if (walk_manifest_next(&v->walk, &e, &err) != LSM_OK)
            return cli_library_error(&d->cli, NULL, &err);
        bool is_end = e.length == 0;
        bool is_good = is_end || show_extent(v, &e);
        edit_release(&e.edit);
        if (!is_good)
            return dump_fail_output(d);
        if (is_end)
            return EXIT_DONE;
    }
}

static int show_manifest(struct manifest_view *v)
{
    struct dumper *d = v->d;
    struct row row;
    row_begin(&row, d, 0, "manifest");
    row_text(&row, "file", v->walk.name);
    row_u64(&row, "bytes", v->walk.size);
    bool is_good = row_end(&row);
    if (is_good && v->walk.header_fault != FINDING_COUNT)
        is_good = show_fault(v, v->walk.header_fault, 0, FRAME_FILE_HEADER_SIZE,
                             v->walk.header_problem.message);
    int code = is_good ? walk_frames(v) : dump_fail_output(d);
    if (code != EXIT_DONE)
        return code;
    row_begin(&row, d, 0, "sum");
    row_u64(&row, "frames", v->frames);
    row_u64(&row, "families", v->replay.state.created_count);
    row_u64(&row, "tables", v->replay.state.added_count);
    row_u64(&row, "damages", v->damages);
    if (!row_end(&row))
        return dump_fail_output(d);
    if (v->damages > 0)
        code = cli_error(&d->cli, EXIT_DAMAGE, "LSM_CORRUPT",
                         "'%s' is damaged in %" PRIu64 " places; see lsm-verify", v->walk.name,
                         v->damages);
    return code;
}

int dump_manifest(struct dumper *d, struct dump_files *f, uint64_t number)
{
    struct manifest_view v = {.d = d};
    lsm_error err = {0};
    lsm_status status = walk_manifest_open(&f->env, number, WALK_WHOLE, &v.walk, &err);
    if (status == LSM_MISSING && d->is_image && number != f->manifest_number)
        return EXIT_DONE; /* removed since it was listed */
    if (status != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    int code = show_manifest(&v);
    replay_release(&v.replay);
    walk_manifest_close(&v.walk);
    return code;
}

int dump_manifests(struct dumper *d, struct dump_files *f)
{
    uint64_t number = f->manifest_number;
    enum file_kind kind;
    if (d->inspected != NULL && !parse_u64(d->inspected, &number) &&
        !(file_name_parse(d->inspected, &kind, &number) && kind == FILE_MANIFEST))
        return cli_error(&d->cli, EXIT_USAGE, "LSM_INVALID",
                         "--manifest: '%s' is no manifest's name", d->inspected);
    if (d->inspected == NULL && number == 0)
        return cli_library_error(&d->cli, NULL, &f->current_error);
    return dump_manifest(d, f, number);
}
