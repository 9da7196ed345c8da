/*
 * Reading the log, also while others write it: then it moves on under the reader, and what it reads
 * may be gone the next moment, which looks like damage. So it is read into memory, as fast as that
 * goes, and told when the reading was whole; one that finds damage is thrown away and done again,
 * from where the tables end by then. The end of the log, which is in the ring, may be overwritten
 * before a slow reader gets there: so later readings stop where the segments ended when they began.
 * What still seems damaged after all that is told.
 */
#include "tools/dump/files.h"

#include "engine/shm/peek.h"

#include "tools/cli/memory.h"

#include <string.h>

#define WHOLE_READINGS   4 /* up to the end of the log */
#define SHORTER_READINGS 8 /* up to where it was written */

/* ---- what was read --------------------------------------------------------------------------- */

/* A record or a damage. What it borrows is in `bytes`, at these offsets. */
struct kept_item {
    bool is_damage;
    union {
        struct walk_log_record record;
        struct walk_log_damage damage;
    };
    size_t file, bytes, text;
};

struct kept_log {
    struct text bytes;
    struct kept_item *items;
    size_t count, room;
};

#define KEPT_NONE SIZE_MAX

static size_t keep_bytes(struct kept_log *log, lsm_slice bytes)
{
    size_t at = log->bytes.size;
    if (bytes.data == NULL)
        return KEPT_NONE;
    text_append(&log->bytes, bytes.data, bytes.size);
    return at;
}

static size_t keep_string(struct kept_log *log, const char *string)
{
    return keep_bytes(log, (lsm_slice){string, string == NULL ? 0 : strlen(string) + 1});
}

static const char *kept_string(const struct kept_log *log, size_t at)
{
    return at == KEPT_NONE ? NULL : log->bytes.bytes + at;
}

static void keep_item(struct kept_log *log, struct kept_item item)
{
    if (log->count == log->room) {
        log->room = log->room == 0 ? 256 : 2 * log->room;
        log->items = memory_resize(log->items, log->room * sizeof *log->items);
    }
    log->items[log->count++] = item;
}

static lsm_status cancelled(lsm_error *err)
{
    return lsm_fail(err, LSM_CANCELLED, "cancelled by a signal");
}

static lsm_status keep_record(void *context, const struct walk_log_record *record, lsm_error *err)
{
    struct kept_log *log = context;
    (void)err;
    keep_item(log, (struct kept_item){.record = *record,
                                      .file = keep_string(log, record->file),
                                      .bytes = keep_bytes(log, record->batch),
                                      .text = KEPT_NONE});
    return LSM_OK;
}

static lsm_status keep_damage(void *context, const struct walk_log_damage *damage, lsm_error *err)
{
    struct kept_log *log = context;
    (void)err;
    keep_item(log, (struct kept_item){.is_damage = true,
                                      .damage = *damage,
                                      .file = keep_string(log, damage->file),
                                      .bytes = keep_bytes(log, damage->right),
                                      .text = keep_string(log, damage->text)});
    return LSM_OK;
}

static lsm_status tell_kept(struct kept_log *log, const struct walk_log_visitor *to, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < log->count; i++) {
        struct kept_item *item = &log->items[i];
        if (item->is_damage) {
            item->damage.file = kept_string(log, item->file);
            item->damage.text = kept_string(log, item->text);
            item->damage.right.data = kept_string(log, item->bytes);
            status = to->damage(to->context, &item->damage, err);
        } else {
            item->record.file = kept_string(log, item->file);
            item->record.batch.data = kept_string(log, item->bytes);
            status =
                cli_is_cancelled() ? cancelled(err) : to->record(to->context, &item->record, err);
        }
    }
    return status;
}

static void kept_release(struct kept_log *log)
{
    text_release(&log->bytes);
    memory_free(log->items);
    *log = (struct kept_log){0};
}

/* ---- one reading ----------------------------------------------------------------------------- */

struct reading {
    const struct walk_log_visitor *visitor;
    uint64_t limit; /* what begins there or behind is not looked at */
    bool is_over;   /* it was reached */
    bool begin_is_known;
    uint64_t position; /* behind the last record */
    uint64_t damages;
};

static lsm_status reach_limit(struct reading *r, lsm_error *err)
{
    r->is_over = true;
    return lsm_fail(err, LSM_CANCELLED, "the end of what is to be read was reached");
}

static lsm_status pass_record(void *context, const struct walk_log_record *record, lsm_error *err)
{
    struct reading *r = context;
    if (cli_is_cancelled())
        return cancelled(err);
    if (record->position >= r->limit)
        return reach_limit(r, err);
    r->position = record->end;
    return r->visitor->record(r->visitor->context, record, err);
}

static lsm_status pass_damage(void *context, const struct walk_log_damage *damage, lsm_error *err)
{
    struct reading *r = context;
    if (damage->position >= r->limit)
        return reach_limit(r, err);
    if (damage->id == FINDING_LOG_HOLE && !r->begin_is_known)
        return LSM_OK; /* what is missing in front may be in tables */
    r->damages += finding_kind_of(damage->id)->severity == LSM_DAMAGE ? 1 : 0;
    return r->visitor->damage(r->visitor->context, damage, err);
}

static lsm_status read_once(struct dump_files *f, uint64_t from, struct reading *reading,
                            struct walk_log_end *end, lsm_error *err)
{
    bool is_known = f->log_is_known && from == f->state.log_position;
    struct walk_log_options options = {.io = f->io,
                                       .dir = f->dir,
                                       .from = from,
                                       .from_oldest = !f->log_is_known && from == 0,
                                       .chain = is_known ? f->state.log_chain : 0,
                                       .clean = is_known && f->state.clean};
    struct walk_log_visitor visitor = {
        .context = reading, .record = pass_record, .damage = pass_damage};
    memcpy(options.uuid, f->env.uuid, sizeof options.uuid);
    *end = (struct walk_log_end){0};
    lsm_status status = walk_log(&options, &visitor, end, err);
    if (!reading->is_over)
        return status;
    end->first_position = options.from;
    end->position = reading->position;
    return LSM_OK;
}

/* Where the oldest segment begins that is there; `oldest` stays where no header can be read. */
static int find_oldest(struct dumper *d, struct dump_files *f, uint64_t *oldest)
{
    uint64_t lowest = UINT64_MAX;
    struct dump_file *files = NULL;
    size_t count = 0;
    int code = dump_files_list(d, f, &files, &count);
    for (size_t i = 0; code == EXIT_DONE && i < count; i++) {
        struct log_segment_header header;
        struct text block = {0};
        char name[FILE_NAME_SIZE];
        file_name_make(FILE_WAL, files[i].number, name);
        bool is_good = files[i].kind == FILE_WAL &&
                       dump_files_read(f, name, LOG_SEGMENT_HEADER, &block, NULL) == LSM_OK &&
                       block.size == LOG_SEGMENT_HEADER &&
                       log_segment_decode((const uint8_t *)block.bytes, f->env.uuid,
                                          files[i].number, &header) == LOG_SEGMENT_OK;
        if (is_good && header.start < lowest)
            lowest = header.start;
        text_release(&block);
    }
    memory_free(files);
    if (lowest != UINT64_MAX)
        *oldest = lowest;
    return code;
}

/* How far the segments have the log. */
static uint64_t written_now(struct dumper *d, struct dump_files *f)
{
    struct shm_peek *peek = NULL;
    uint64_t written = UINT64_MAX;
    if (shm_peek_open(f->io, f->dir, d->cli.directory, &peek, NULL) != LSM_OK)
        return written;
    if (shm_peek_state(peek) == SHM_PEEK_SHARED)
        written = atomic_load(&shm_peek_layout(peek)->commit.written);
    shm_peek_close(peek);
    return written;
}

static int fail(struct dumper *d, const lsm_error *err)
{
    return cli_is_cancelled() ? cli_cancelled(&d->cli) : cli_library_error(&d->cli, NULL, err);
}

/* The log as it stands. */
static int read_still(struct dumper *d, struct dump_files *f, const struct dump_log_reading *how,
                      struct walk_log_end *end)
{
    struct reading reading = {
        .visitor = &how->visitor, .limit = UINT64_MAX, .begin_is_known = f->log_is_known};
    lsm_error err = {0};
    uint64_t from = f->state.log_position, oldest = from;
    int code = find_oldest(d, f, &oldest);
    if (code != EXIT_DONE)
        return code;
    /* Where tables end is known for certain, or the log in front of what there is is not wanted. */
    if (f->log_is_known ? how->from_oldest && oldest < from : oldest > from)
        from = oldest;
    return read_once(f, from, &reading, end, &err) == LSM_OK ? EXIT_DONE : fail(d, &err);
}

/* Keeps it as it is while others write to it: of the first reading that is whole. Returns the code.
 */
static int read_moving(struct dumper *d, struct dump_files *f, struct kept_log *kept,
                       struct walk_log_end *end)
{
    struct walk_log_visitor keep = {.context = kept, .record = keep_record, .damage = keep_damage};
    for (unsigned tries = 1;; tries++) {
        struct reading reading = {.visitor = &keep, .limit = UINT64_MAX, .begin_is_known = true};
        lsm_error err = {0};
        if (tries > WHOLE_READINGS)
            reading.limit = written_now(d, f);
        kept_release(kept);
        lsm_status status = read_once(f, f->state.log_position, &reading, end, &err);
        bool is_last = tries == WHOLE_READINGS + SHORTER_READINGS;
        if (status == LSM_OK && reading.damages > 0 && is_last)
            cli_warn(&d->cli, "others write to the log meanwhile: what seems damaged may only "
                              "have moved");
        if (status == LSM_OK && (reading.damages == 0 || is_last))
            return EXIT_DONE;
        if (is_last || status == LSM_NO_MEMORY || status == LSM_CANCELLED)
            return fail(d, &err);
        int code = dump_files_reload(d, f);
        if (code != EXIT_DONE)
            return code;
    }
}

int dump_read_log(struct dumper *d, struct dump_files *f, const struct dump_log_reading *how,
                  struct walk_log_end *end)
{
    struct kept_log kept = {0};
    lsm_error err = {0};
    if (!f->is_open || !f->log_is_known)
        return read_still(d, f, how, end);
    int code = read_moving(d, f, &kept, end);
    if (code == EXIT_DONE && tell_kept(&kept, &how->visitor, &err) != LSM_OK)
        code = fail(d, &err);
    kept_release(&kept);
    return code;
}
