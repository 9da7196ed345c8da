/* Every record of the log, or of one segment, and every damage between them. */
#include "tools/dump/files.h"
#include "tools/dump/row.h"

#include "engine/base/parse.h"
#include "engine/format/batch.h"
#include "engine/inspect/log_place.h"
#include "engine/inspect/walk_log.h"
#include "tools/cli/memory.h"

#include <inttypes.h>
#include <string.h>

struct log_view {
    struct dumper *d;
    struct dump_files *f;
    const char *only; /* records of this file; NULL: of all */
    uint64_t records, entries, damages;
    bool output_failed;
};

static lsm_status stop(struct log_view *v, lsm_error *err)
{
    v->output_failed = true;
    return lsm_fail(err, LSM_CANCELLED, "the output cannot be written");
}

/* ---- headers --------------------------------------------------------------------------------- */

static int show_segment(struct log_view *v, uint64_t number)
{
    char name[FILE_NAME_SIZE];
    struct text bytes = {0};
    struct log_segment_header header;
    struct row row;
    file_name_make(FILE_WAL, number, name);
    lsm_error err = {0};
    lsm_status status = dump_files_read(v->f, name, LOG_SEGMENT_HEADER, &bytes, &err);
    if (status != LSM_OK) {
        text_release(&bytes);
        bool is_gone = status == LSM_MISSING && v->only == NULL; /* since it was listed */
        return is_gone ? EXIT_DONE : cli_library_error(&v->d->cli, NULL, &err);
    }
    enum log_segment_fault fault = LOG_SEGMENT_BAD_CHECKSUM;
    if (bytes.size == LOG_SEGMENT_HEADER)
        fault = log_segment_decode((const uint8_t *)bytes.bytes, v->f->env.uuid, number, &header);
    row_begin(&row, v->d, 0, "segment");
    row_text(&row, "file", name);
    row_text(&row, "state", fault == LOG_SEGMENT_OK ? "sound" : log_segment_fault_text(fault));
    if (fault == LOG_SEGMENT_OK) {
        row_u64(&row, "bytes", header.size);
        row_u64(&row, "start", header.start);
        row_u64(&row, "previous", header.previous);
        row_u64(&row, "resume", header.resume);
        row_hex(&row, "chain", header.chain);
        row_flag(&row, "opened", (header.flags & LOG_SEGMENT_OPENED) != 0);
        row_hex(&row, "life", bytes_get_u64(header.nonce));
    }
    text_release(&bytes);
    return row_end(&row) ? EXIT_DONE : dump_fail_output(v->d);
}

/* The block behind the ring, which says whose it is. */
static int show_stage(struct log_view *v)
{
    static const char name[] = "STAGE";
    struct log_place place;
    struct log_trailer t;
    struct row row;
    lsm_error err = {0};
    lsm_status status = log_place_open(&place, v->f->dir, FILE_STAGE, 0, &err);
    if (status == LSM_MISSING && v->only == NULL)
        return EXIT_DONE;
    if (status == LSM_OK) {
        status = log_place_read_trailer(&place, v->f->env.uuid, false, true, &t, &err);
        log_place_close(&place);
    }
    if (status != LSM_OK)
        return cli_library_error(&v->d->cli, NULL, &err);
    bool is_sound = t.fault == STAGE_TRAILER_OK;
    row_begin(&row, v->d, 0, "stage");
    row_text(&row, "file", name);
    row_text(&row, "state", is_sound ? "sound" : stage_trailer_fault_text(t.fault));
    if (is_sound) {
        row_u64(&row, "bytes", t.trailer.ring_size);
        row_hex(&row, "life", bytes_get_u64(t.trailer.nonce));
        row_hex(&row, "life_before", bytes_get_u64(t.trailer.nonce_before));
    }
    return row_end(&row) ? EXIT_DONE : dump_fail_output(v->d);
}

/* ---- records --------------------------------------------------------------------------------- */

static bool show_entries(struct log_view *v, const struct walk_log_record *record)
{
    struct batch_reader r = batch_read(record->batch);
    struct batch_entry entry;
    while (batch_next(&r, &entry)) {
        const char *name = dump_files_family(v->f, entry.cf);
        struct row row;
        row_begin(&row, v->d, 1, entry.type == ENTRY_PUT ? "put" : "delete");
        row_u64(&row, "family", entry.cf);
        if (name != NULL)
            row_name(&row, "name", name);
        row_shown_key(&row, "key", entry.key);
        if (entry.type == ENTRY_PUT)
            row_shown_key(&row, "value", entry.value);
        if (!row_end(&row))
            return false;
    }
    return true;
}

static lsm_status show_record(void *context, const struct walk_log_record *record, lsm_error *err)
{
    struct log_view *v = context;
    struct row row;
    if (v->only != NULL && strcmp(v->only, record->file) != 0)
        return LSM_OK;
    row_begin(&row, v->d, 0, "record");
    row_u64(&row, "position", record->position);
    row_u64(&row, "end", record->end);
    row_text(&row, "file", record->file);
    row_u64(&row, "offset", record->offset);
    row_u64(&row, "sequence", record->sequence);
    row_u64(&row, "synced", record->synced);
    row_u64(&row, "entries", record->entry_count);
    row_flag(&row, "corrected", record->is_corrected);
    v->records++;
    v->entries += record->entry_count;
    v->d->byte_count += record->end - record->position;
    cli_throttle(&v->d->cli, v->d->byte_count);
    if (!row_end(&row) || ((v->d->shows_data || v->d->is_image) && !show_entries(v, record)))
        return stop(v, err);
    return LSM_OK;
}

static lsm_status show_damage(void *context, const struct walk_log_damage *damage, lsm_error *err)
{
    struct log_view *v = context;
    const struct finding_kind *kind = finding_kind_of(damage->id);
    struct row row;
    if (v->only != NULL && (damage->file == NULL || strcmp(v->only, damage->file) != 0))
        return LSM_OK;
    v->damages += kind->severity == LSM_DAMAGE ? 1 : 0;
    row_begin(&row, v->d, 0, finding_severity_name(kind->severity));
    row_text(&row, "id", kind->id);
    if (damage->file != NULL)
        row_text(&row, "file", damage->file);
    row_u64(&row, "offset", damage->offset);
    row_u64(&row, "length", damage->length);
    row_u64(&row, "position", damage->position);
    row_u64(&row, "limit", damage->limit);
    row_sentence(&row, "what", damage->text);
    row_flag(&row, "corrected", damage->is_corrected);
    row_flag(&row, "elsewhere", damage->is_elsewhere);
    return row_end(&row) ? LSM_OK : stop(v, err);
}

static int walk_records(struct log_view *v)
{
    struct dumper *d = v->d;
    struct dump_log_reading reading = {
        .visitor = {.context = v, .record = show_record, .damage = show_damage},
        .from_oldest = v->only != NULL};
    struct walk_log_end end = {0};
    struct row row;
    int code = dump_read_log(d, v->f, &reading, &end);
    if (v->output_failed)
        return dump_fail_output(d);
    if (code != EXIT_DONE)
        return code;
    row_begin(&row, d, 0, "sum");
    row_u64(&row, "records", v->records);
    row_u64(&row, "entries", v->entries);
    row_u64(&row, "damages", v->damages);
    row_u64(&row, "log_begin", end.first_position);
    row_u64(&row, "log_end", end.position);
    row_flag(&row, "torn", end.is_torn);
    if (!row_end(&row))
        return dump_fail_output(d);
    if (v->damages == 0)
        return EXIT_DONE;
    return cli_error(&d->cli, EXIT_DAMAGE, "LSM_CORRUPT",
                     "the log is damaged in %" PRIu64 " places; see lsm-verify", v->damages);
}

int dump_log(struct dumper *d, struct dump_files *f)
{
    struct log_view v = {.d = d, .f = f};
    char name[FILE_NAME_SIZE];
    enum file_kind kind = FILE_WAL;
    uint64_t number = 0;
    struct dump_file *files = NULL;
    size_t count = 0;
    if (d->inspected != NULL && strcmp(d->inspected, "all") != 0) {
        if (parse_u64(d->inspected, &number))
            file_name_make(FILE_WAL, number, name);
        else if (file_name_parse(d->inspected, &kind, &number) &&
                 (kind == FILE_WAL || kind == FILE_STAGE))
            file_name_make(kind, number, name);
        else
            return cli_error(&d->cli, EXIT_USAGE, "LSM_INVALID",
                             "--wal: '%s' is neither a segment's name nor STAGE", d->inspected);
        v.only = name;
    }
    if (!f->has_uuid)
        return cli_library_error(&d->cli, "whose log it is cannot be told", &f->current_error);
    int code = v.only == NULL ? dump_files_list(d, f, &files, &count) : EXIT_DONE;
    for (size_t i = 0; code == EXIT_DONE && i < count; i++) {
        if (files[i].kind == FILE_WAL)
            code = show_segment(&v, files[i].number);
    }
    if (v.only != NULL && kind == FILE_WAL)
        code = show_segment(&v, number);
    if (code == EXIT_DONE && (v.only == NULL || kind == FILE_STAGE))
        code = show_stage(&v);
    memory_free(files);
    return code == EXIT_DONE ? walk_records(&v) : code;
}
