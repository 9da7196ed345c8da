/*
 * A picture of files: what stands at which offset. Every byte of a file is in exactly one extent,
 * damage and gaps included.
 */
#include "tools/dump/files.h"
#include "tools/dump/row.h"

#include "engine/format/frame.h"
#include "engine/format/log_record.h"
#include "engine/inspect/log_place.h"
#include "engine/inspect/walk_manifest.h"
#include "tools/cli/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct layout {
    struct dumper *d;
    struct dump_files *f;
    uint64_t next; /* offset up to which everything was shown */
    uint64_t damages;
};

/* An extent; what is left out in front of it is shown as a gap. */
static bool show_extent(struct layout *l, const char *what, const char *state, uint64_t offset,
                        uint64_t length)
{
    struct row row;
    if (offset > l->next && !show_extent(l, "unused", "", l->next, offset - l->next))
        return false;
    l->next = offset + length;
    if (!l->d->cli.json) {
        text_append_format(&l->d->output.pending,
                           "  %12" PRIu64 " .. %12" PRIu64 "  %12" PRIu64 "  %s%s%s\n", offset,
                           offset + length, length, what, state[0] == '\0' ? "" : ": ", state);
        return output_put(&l->d->output);
    }
    row_begin(&row, l->d, 0, "extent");
    row_u64(&row, "offset", offset);
    row_u64(&row, "length", length);
    row_text(&row, "what", what);
    if (state[0] != '\0')
        row_text(&row, "state", state);
    return row_end(&row);
}

static bool show_file(struct layout *l, const char *name, uint64_t bytes, const char *what)
{
    struct row row;
    l->next = 0;
    row_begin(&row, l->d, 0, "file");
    row_text(&row, "name", name);
    row_u64(&row, "bytes", bytes);
    row_text(&row, "what", what);
    return row_end(&row);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static bool show_part(struct layout *l, const char *name, const struct walk_part *part)
{
    bool is_damage = part->verdict != WALK_SOUND && part->verdict != WALK_ABSENT;
    l->damages += is_damage ? 1 : 0;
    if (part->verdict == WALK_ABSENT || part->extent.size == 0 || part->extent.offset < l->next)
        return true;
    return show_extent(l, name, is_damage ? "damaged" : "", part->extent.offset, part->extent.size);
}

/* Blocks that follow each other are shown as one extent. */
static int show_blocks(struct layout *l, struct walk_table *walk)
{
    uint64_t begin = 0, end = 0, count = 0, entries = 0;
    struct text what = {0};
    bool is_good = true;
    for (;;) {
        struct walk_block block;
        lsm_error err = {0};
        if (cli_is_cancelled() || walk_table_next(walk, &block, &err) != LSM_OK) {
            text_release(&what);
            return cli_is_cancelled() ? cli_cancelled(&l->d->cli)
                                      : cli_library_error(&l->d->cli, NULL, &err);
        }
        bool is_block = block.length > 0 && block.fault == FINDING_COUNT && block.offset == end;
        if (!is_block && count > 0) {
            text_clear(&what);
            text_append_format(&what, "%" PRIu64 " blocks with %" PRIu64 " entries", count,
                               entries);
            is_good = show_extent(l, text_string(&what), "", begin, end - begin);
            count = entries = 0;
        }
        if (block.length == 0 || !is_good)
            break;
        if (count == 0)
            begin = block.offset;
        end = block.offset + block.length;
        l->d->byte_count += block.length;
        cli_throttle(&l->d->cli, l->d->byte_count);
        if (block.fault != FINDING_COUNT) {
            l->damages++;
            is_good = show_extent(l, "damage", finding_kind_of(block.fault)->id, block.offset,
                                  block.length);
            continue;
        }
        count++;
        entries += block.too_large ? block.frame.entry_count : block.view.count;
    }
    text_release(&what);
    return is_good ? EXIT_DONE : dump_fail_output(l->d);
}

/* Or a blob file, which has the form of one. */
static int lay_out_table(struct layout *l, uint64_t number, uint64_t bytes, bool is_blob)
{
    const struct table_meta *meta = is_blob ? NULL : dump_files_table(l->f, number);
    uint64_t before = l->damages;
    struct walk_table_options options = {
        .number = number, .meta = meta, .is_blob = is_blob, .any = !l->f->has_uuid};
    struct walk_table *walk = NULL;
    lsm_error err = {0};
    lsm_status status = walk_table_open(&l->f->env, &options, &walk, &err);
    if (status == LSM_MISSING && meta == NULL)
        return EXIT_DONE; /* removed meanwhile */
    if (status != LSM_OK)
        return cli_library_error(&l->d->cli, NULL, &err);
    bool is_live = is_blob ? dump_files_blob(l->f, number) != NULL : meta != NULL;
    const char *what = is_blob           ? is_live ? "a live blob file" : "a blob file"
                       : is_live         ? "a live table"
                       : l->f->has_state ? "a table that is not live"
                                         : "a table";
    int code = show_file(l, walk->name, bytes, what) ? EXIT_DONE : dump_fail_output(l->d);
    if (code == EXIT_DONE)
        code = show_blocks(l, walk);
    bool is_good = show_part(l, "dictionary", &walk->dictionary) &&
                   show_part(l, "filter", &walk->filter) && show_part(l, "index", &walk->index) &&
                   show_part(l, "properties", &walk->properties) &&
                   show_part(l, "footer", &walk->footers[0]) &&
                   show_part(l, "footer again", &walk->footers[1]);
    if (is_good && l->next < walk->file_size)
        is_good = show_extent(l, "unknown", "", l->next, walk->file_size - l->next);
    walk_table_close(walk);
    if (!is_live && dump_files_may_be_unfinished(l->f, NULL))
        l->damages = before;
    return code == EXIT_DONE && !is_good ? dump_fail_output(l->d) : code;
}

/* ---- manifests ------------------------------------------------------------------------------- */

static bool show_frame(struct layout *l, const struct walk_edit *e)
{
    char what[64];
    if (e->fault != FINDING_COUNT) {
        l->damages += finding_kind_of(e->fault)->severity == LSM_DAMAGE ? 1 : 0;
        return show_extent(l, e->has_frame ? "frame" : "damage", finding_kind_of(e->fault)->id,
                           e->offset, e->length);
    }
    (void)snprintf(what, sizeof what, "edit %" PRIu64 "%s", e->frame.number,
                   e->has_edit && e->edit.is_snapshot ? ", a snapshot" : "");
    return show_extent(l, what, "", e->offset, e->length);
}

static int lay_out_manifest(struct layout *l, uint64_t number, uint64_t bytes)
{
    struct walk_manifest walk;
    lsm_error err = {0};
    lsm_status status = walk_manifest_open(&l->f->env, number, WALK_WHOLE, &walk, &err);
    if (status != LSM_OK)
        return status == LSM_MISSING ? EXIT_DONE : cli_library_error(&l->d->cli, NULL, &err);
    bool is_good =
        show_file(l, walk.name, bytes,
                  number == l->f->manifest_number ? "the manifest in force" : "a manifest");
    uint64_t before_last = l->damages;
    l->damages += walk.header_fault != FINDING_COUNT ? 1 : 0;
    uint64_t head = walk.size < FRAME_FILE_HEADER_SIZE ? walk.size : FRAME_FILE_HEADER_SIZE;
    is_good = is_good && show_extent(l, "header",
                                     walk.header_fault == FINDING_COUNT
                                         ? ""
                                         : finding_kind_of(walk.header_fault)->id,
                                     0, head);
    while (is_good && status == LSM_OK) {
        struct walk_edit e = {0};
        status = walk_manifest_next(&walk, &e, &err);
        bool is_end = status != LSM_OK || e.length == 0;
        if (!is_end && number == l->f->manifest_number) /* which has had its header for long */
            before_last = l->damages;
        is_good = is_end || show_frame(l, &e);
        edit_release(&e.edit);
        if (is_end)
            break;
    }
    if (is_good && status == LSM_OK && l->next < bytes)
        is_good = show_extent(l, "unknown", "", l->next, bytes - l->next);
    walk_manifest_close(&walk);
    /* What somebody may be writing: a manifest to come, or the last frame of the one in force. */
    if (dump_files_may_be_unfinished(l->f, NULL))
        l->damages = before_last;
    if (status != LSM_OK)
        return cli_library_error(&l->d->cli, NULL, &err);
    return is_good ? EXIT_DONE : dump_fail_output(l->d);
}

/* ---- the others ------------------------------------------------------------------------------ */

static int lay_out_segment(struct layout *l, uint64_t number, uint64_t bytes)
{
    char name[FILE_NAME_SIZE], what[96];
    struct text block = {0};
    struct log_segment_header header;
    enum log_segment_fault fault = LOG_SEGMENT_BAD_CHECKSUM;
    file_name_make(FILE_WAL, number, name);
    lsm_error err = {0};
    lsm_status status = dump_files_read(l->f, name, LOG_SEGMENT_HEADER, &block, &err);
    if (status != LSM_OK) {
        text_release(&block);
        return status == LSM_MISSING ? EXIT_DONE : cli_library_error(&l->d->cli, NULL, &err);
    }
    if (block.size == LOG_SEGMENT_HEADER)
        fault = log_segment_decode((const uint8_t *)block.bytes, l->f->env.uuid, number, &header);
    bool may_be_unfinished = dump_files_may_be_unfinished(l->f, NULL);
    l->damages += fault == LOG_SEGMENT_OK || may_be_unfinished ? 0 : 1;
    uint64_t head = bytes < LOG_SEGMENT_HEADER ? bytes : LOG_SEGMENT_HEADER;
    bool is_good =
        show_file(l, name, bytes, "a segment of the log") &&
        show_extent(l, "header", fault == LOG_SEGMENT_OK ? "" : log_segment_fault_text(fault), 0,
                    head);
    if (is_good && bytes > head) {
        (void)snprintf(what, sizeof what, "the log from position %" PRIu64,
                       fault == LOG_SEGMENT_OK ? header.start : 0);
        is_good =
            show_extent(l, fault == LOG_SEGMENT_OK ? what : "the log", "", head, bytes - head);
    }
    text_release(&block);
    return is_good ? EXIT_DONE : dump_fail_output(l->d);
}

static int lay_out_stage(struct layout *l, const struct dump_file *file)
{
    struct log_place place;
    struct log_trailer t;
    lsm_error err = {0};
    lsm_status status = log_place_open(&place, l->f->dir, FILE_STAGE, 0, &err);
    if (status == LSM_OK) {
        status = log_place_read_trailer(&place, l->f->env.uuid, false, true, &t, &err);
        log_place_close(&place);
    }
    if (status != LSM_OK)
        return cli_library_error(&l->d->cli, NULL, &err);
    bool has_trailer = stage_trailer_is_there(t.fault) && file->bytes > STAGE_TRAILER_SIZE;
    uint64_t ring = has_trailer ? file->bytes - STAGE_TRAILER_SIZE : file->bytes;
    bool is_good = show_file(l, "STAGE", file->bytes, "the newest part of the log, as a ring");
    if (is_good && ring > 0)
        is_good = show_extent(l, "ring", "", 0, ring);
    if (is_good && has_trailer)
        is_good = show_extent(l, "whose it is",
                              t.fault == STAGE_TRAILER_OK ? "" : stage_trailer_fault_text(t.fault),
                              ring, STAGE_TRAILER_SIZE);
    return is_good ? EXIT_DONE : dump_fail_output(l->d);
}

static int lay_out_other(struct layout *l, const struct dump_file *file)
{
    static const struct {
        enum file_kind kind;
        const char *what, *inside;
    } kinds[] = {
        {FILE_CURRENT, "names the manifest in force", "text"},
        {FILE_LOCK, "byte locks, and who holds them", "locks"},
        {FILE_WAL_SPARE, "waits to become a segment of the log", "room"},
        {FILE_TEMPORARY, "a left-over", "unknown"},
    };
    char name[FILE_NAME_SIZE];
    file_name_make(file->kind, file->number, name);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i].kind != file->kind)
            continue;
        bool is_good = show_file(l, name, file->bytes, kinds[i].what) &&
                       (file->bytes == 0 || show_extent(l, kinds[i].inside, "", 0, file->bytes));
        return is_good ? EXIT_DONE : dump_fail_output(l->d);
    }
    return EXIT_DONE;
}

static int lay_out(struct layout *l, const struct dump_file *file)
{
    if (file->bytes == UINT64_MAX) {
        char name[FILE_NAME_SIZE];
        return cli_error(&l->d->cli, EXIT_DAMAGE, "LSM_CORRUPT", "'%s' cannot be opened as a file",
                         file_name_make(file->kind, file->number, name));
    }
    switch (file->kind) {
    case FILE_TABLE:
    case FILE_BLOB:
        return lay_out_table(l, file->number, file->bytes, file->kind == FILE_BLOB);
    case FILE_MANIFEST:
        return lay_out_manifest(l, file->number, file->bytes);
    case FILE_WAL:
        return lay_out_segment(l, file->number, file->bytes);
    case FILE_STAGE:
        return lay_out_stage(l, file);
    default:
        return lay_out_other(l, file);
    }
}

int dump_layout(struct dumper *d, struct dump_files *f)
{
    struct layout l = {.d = d, .f = f};
    struct dump_file *files = NULL;
    size_t count = 0;
    int code = dump_files_list(d, f, &files, &count);
    for (size_t i = 0; (code & ~EXIT_DAMAGE) == EXIT_DONE && i < count; i++)
        code |= lay_out(&l, &files[i]);
    memory_free(files);
    if (l.damages > 0 && (code & ~EXIT_DAMAGE) == EXIT_DONE)
        code |= cli_error(&d->cli, EXIT_DAMAGE, "LSM_CORRUPT",
                          "%" PRIu64 " extents are damaged; see lsm-verify", l.damages);
    return code;
}
