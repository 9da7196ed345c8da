/* See the header for the record. Files get their bytes back by rename, CURRENT last; what the
 * repair made goes after that, and the copies go at the very end, so that an undo that is cut
 * short is finished by another. */
#include "engine/repair/undo.h"

#include "engine/base/parse.h"
#include "engine/base/step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing --------------------------------------------------------------------------------- */

static void put_text(struct buffer *b, const char *text)
{
    buffer_append(b, text, strlen(text));
}

static void put_hex(struct buffer *b, const void *bytes, size_t size)
{
    char hex[3];
    for (size_t i = 0; i < size; i++) {
        snprintf(hex, sizeof hex, "%02x", ((const uint8_t *)bytes)[i]);
        buffer_append(b, hex, 2);
    }
}

static void put_number(struct buffer *b, const char *word, uint64_t number)
{
    char line[64];
    snprintf(line, sizeof line, "%s %" PRIu64 "\n", word, number);
    put_text(b, line);
}

static lsm_status write_record(struct repair *r, lsm_slice text, lsm_error *err)
{
    struct io_file *file = NULL;
    lsm_status status = io_file_open(r->lost, UNDO_NEW,
                                     IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_NEW, 0, &file, err);
    if (status == LSM_OK)
        status = io_file_write(file, text.data, text.size, 0, err);
    if (status == LSM_OK)
        status = io_file_sync(file, err);
    io_file_close(file);
    if (status == LSM_OK)
        status = io_dir_rename(r->lost, UNDO_NEW, UNDO_NAME, err);
    STEP("repair: undo written");
    if (status == LSM_OK)
        status = io_dir_sync(r->lost, err);
    STEP("repair: place synced");
    return status;
}

lsm_status undo_write(struct repair *r, lsm_slice current_after, lsm_error *err)
{
    struct buffer text = {0};
    char line[64];
    put_text(&text, "lsm-undo 1\nuuid ");
    put_hex(&text, r->env.uuid, sizeof r->env.uuid);
    put_text(&text, "\ncurrent ");
    put_hex(&text, current_after.data, current_after.size);
    put_text(&text, "\n");
    put_number(&text, "had-current", r->kept.had_current);
    put_number(&text, "first-file", r->kept.first_file);
    put_number(&text, "first-segment", r->kept.first_segment);
    for (size_t i = 0; i < r->kept.count; i++) {
        put_text(&text, "keep ");
        put_text(&text, r->kept.names[i]);
        put_text(&text, "\n");
    }
    snprintf(line, sizeof line, "checksum %016" PRIx64 "\n", hash_bytes(text.data, text.size, 0));
    put_text(&text, line);
    lsm_status status =
        text.failed ? lsm_fail_memory(err, text.size) : write_record(r, buffer_slice(&text), err);
    buffer_release(&text);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct record {
    char *text; /* owned; lines end in NULs */
    char **keep;
    size_t keep_count;
    const char *uuid, *current; /* hex */
    bool had_current;
    uint64_t first_file, first_segment;
};

static lsm_status bad(const struct repair *r, const char *what, lsm_error *err)
{
    return lsm_fail(err, LSM_CORRUPT,
                    "the record '%s/%s' of a repair %s; its copies can be put "
                    "back by hand",
                    r->lost_path, UNDO_NAME, what);
}

static bool parse_line(struct record *record, char *line)
{
    enum file_kind kind;
    uint64_t number;
    char *value = strchr(line, ' ');
    if (value == NULL)
        return false;
    *value++ = '\0';
    if (strcmp(line, "uuid") == 0)
        record->uuid = value;
    else if (strcmp(line, "current") == 0)
        record->current = value;
    else if (strcmp(line, "had-current") == 0)
        record->had_current = strcmp(value, "1") == 0;
    else if (strcmp(line, "first-file") == 0)
        return parse_u64(value, &record->first_file);
    else if (strcmp(line, "first-segment") == 0)
        return parse_u64(value, &record->first_segment);
    else if (strcmp(line, "keep") == 0 && file_name_parse(value, &kind, &number) &&
             kind != FILE_LOCK)
        record->keep[record->keep_count++] = value;
    else
        return strcmp(line, "lsm-undo") == 0 && strcmp(value, "1") == 0;
    return true;
}

static lsm_status parse(struct repair *r, struct record *record, size_t size, lsm_error *err)
{
    static const char word[] = "checksum ";
    size_t tail = sizeof word - 1 + 17, lines = 1;
    char expected[64];
    if (size <= tail || memcmp(record->text + size - tail, word, sizeof word - 1) != 0)
        return bad(r, "is cut short", err);
    snprintf(expected, sizeof expected, "checksum %016" PRIx64 "\n",
             hash_bytes(record->text, size - tail, 0));
    if (memcmp(record->text + size - tail, expected, tail) != 0)
        return bad(r, "is damaged", err);
    record->text[size - tail] = '\0';
    for (const char *at = record->text; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    record->keep = mem_alloc(lines * sizeof *record->keep);
    if (record->keep == NULL)
        return lsm_fail_memory(err, lines * sizeof *record->keep);
    record->first_file = record->first_segment = UINT64_MAX;
    for (char *at = record->text; *at != '\0';) {
        char *end = strchr(at, '\n');
        if (end == NULL)
            return bad(r, "is damaged", err);
        *end = '\0';
        if (!parse_line(record, at))
            return bad(r, "has a line that is not known", err);
        at = end + 1;
    }
    return record->uuid == NULL || record->current == NULL ? bad(r, "lacks a line", err) : LSM_OK;
}

static lsm_status read_record(struct repair *r, struct record *record, lsm_error *err)
{
    struct io_file *file = NULL;
    uint64_t size = 0;
    lsm_status status = io_file_open(r->lost, UNDO_NAME, 0, 0, &file, err);
    if (status == LSM_OK)
        status = io_file_size(file, &size, err);
    if (status == LSM_OK && size > UNDO_MAX_SIZE)
        status = bad(r, "is too long", err);
    if (status == LSM_OK && (record->text = mem_alloc((size_t)size + 1)) == NULL)
        status = lsm_fail_memory(err, (size_t)size + 1);
    if (status == LSM_OK)
        status = io_file_read_exact(file, record->text, (size_t)size, 0, err);
    io_file_close(file);
    return status == LSM_OK ? parse(r, record, (size_t)size, err) : status;
}

/* ---- which one ------------------------------------------------------------------------------- */

struct newest {
    char name[256];
};

static lsm_status visit(void *context, const char *name, lsm_error *err)
{
    struct newest *n = context;
    (void)err;
    if (name[0] >= '0' && name[0] <= '9' && strlen(name) < sizeof n->name &&
        strcmp(name, n->name) > 0)
        snprintf(n->name, sizeof n->name, "%s", name);
    return LSM_OK;
}

static lsm_status find_newest(struct repair *r, lsm_error *err)
{
    char parent[1000];
    struct io_dir *dir = NULL;
    struct newest newest = {{0}};
    if ((size_t)snprintf(parent, sizeof parent, "%s/%s", r->path, UNDO_PARENT) >= sizeof parent)
        return lsm_fail(err, LSM_INVALID, "the path of '%s' is too long", r->path);
    lsm_status status = io_dir_open(r->io, parent, 0, 0, &dir, NULL);
    if (status == LSM_OK)
        status = io_dir_list(dir, visit, &newest, err);
    io_dir_close(dir);
    if (newest.name[0] == '\0')
        return lsm_fail(err, LSM_MISSING, "there is no repair of '%s' to take back", r->path);
    if ((size_t)snprintf(r->lost_path, sizeof r->lost_path, "%s/%s", parent, newest.name) >=
        sizeof r->lost_path)
        return lsm_fail(err, LSM_INVALID, "the path of '%s' is too long", r->path);
    return status;
}

static lsm_status open_record(struct repair *r, const char *record, lsm_error *err)
{
    if (record == NULL) {
        lsm_status status = find_newest(r, err);
        return status == LSM_OK ? io_dir_open(r->io, r->lost_path, 0, 0, &r->lost, err) : status;
    }
    size_t length = strlen(record);
    if (length >= sizeof r->lost_path)
        return lsm_fail(err, LSM_INVALID, "the path '%s' is too long", record);
    snprintf(r->lost_path, sizeof r->lost_path, "%s", record);
    char *slash = strrchr(r->lost_path, '/');
    if (slash != NULL && strcmp(slash + 1, UNDO_NAME) == 0)
        *slash = '\0'; /* the file was named, not its directory */
    else if (strcmp(r->lost_path, UNDO_NAME) == 0)
        snprintf(r->lost_path, sizeof r->lost_path, ".");
    return io_dir_open(r->io, r->lost_path, 0, 0, &r->lost, err);
}

/* ---- taking it back -------------------------------------------------------------------------- */

static bool hex_equals(const char *hex, const void *bytes, size_t size)
{
    char pair[3];
    if (strlen(hex) != 2 * size)
        return false;
    for (size_t i = 0; i < size; i++) {
        snprintf(pair, sizeof pair, "%02x", ((const uint8_t *)bytes)[i]);
        if (memcmp(hex + 2 * i, pair, 2) != 0)
            return false;
    }
    return true;
}

static size_t read_small(struct io_dir *dir, const char *name, char bytes[CURRENT_MAX_SIZE])
{
    struct io_file *file = NULL;
    size_t got = 0;
    if (io_file_open(dir, name, 0, 0, &file, NULL) != LSM_OK ||
        io_file_read(file, bytes, CURRENT_MAX_SIZE, 0, &got, NULL) != LSM_OK)
        got = 0;
    io_file_close(file);
    return got;
}

/* CURRENT is what the repair left, or what an undo that was cut short did. */
static lsm_status check_unused(struct repair *r, const struct record *record, lsm_error *err)
{
    char now[CURRENT_MAX_SIZE], before[CURRENT_MAX_SIZE];
    size_t size = read_small(r->dir, "CURRENT", now);
    size_t old = read_small(r->lost, "CURRENT", before);
    bool is_ours = hex_equals(record->current, now, size) ||
                   (record->had_current && size == old && memcmp(now, before, size) == 0) ||
                   (!record->had_current && size == 0);
    if (is_ours)
        return LSM_OK;
    return lsm_fail(err, LSM_EXISTS,
                    "'%s' was opened since it was repaired: taking the repair back would take back "
                    "what was written, too",
                    r->path);
}

static lsm_status restore(struct repair *r, const char *name, lsm_error *err)
{
    char copy[FILE_NAME_SIZE];
    file_name_make(FILE_TEMPORARY, r->next_number++, copy);
    lsm_status status = repair_copy_file(r, r->lost, name, r->dir, copy, NULL, err);
    STEP("undo: copy made");
    if (status == LSM_OK)
        status = io_dir_rename(r->dir, copy, name, err);
    STEP("undo: file restored");
    return status;
}

static bool is_kept(const struct record *record, const char *name)
{
    for (size_t i = 0; i < record->keep_count; i++) {
        if (strcmp(record->keep[i], name) == 0)
            return true;
    }
    return false;
}

static lsm_status remove_made(struct repair *r, const struct record *record, lsm_error *err)
{
    lsm_status status = LSM_OK;
    struct walk_dir list = {0};
    status = walk_dir_read(r->dir, &list, err);
    for (size_t i = 0; status == LSM_OK && i < list.count; i++) {
        const struct walk_file *f = &list.files[i];
        bool is_segment = f->kind == FILE_WAL || f->kind == FILE_WAL_SPARE;
        bool is_numbered = f->kind == FILE_TABLE || f->kind == FILE_BLOB ||
                           f->kind == FILE_MANIFEST || f->kind == FILE_TEMPORARY;
        if (f->name != WALK_NAME_OURS || is_kept(record, f->text) ||
            !((is_segment && f->number >= record->first_segment) ||
              (is_numbered && f->number >= record->first_file)))
            continue;
        status = io_dir_unlink(r->dir, f->text, NULL, err);
        STEP("undo: file removed");
    }
    walk_dir_release(&list);
    return status;
}

/* The copies are not needed any more. */
static lsm_status remove_place(struct repair *r, const struct record *record, lsm_error *err)
{
    char parent[1000];
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < record->keep_count; i++)
        status = io_dir_unlink(r->lost, record->keep[i], NULL, err);
    if (status == LSM_OK)
        status = io_dir_unlink(r->lost, UNDO_NAME, NULL, err);
    if (status == LSM_OK && io_dir_remove(r->io, r->lost_path, NULL) == LSM_OK &&
        (size_t)snprintf(parent, sizeof parent, "%s/%s", r->path, UNDO_PARENT) < sizeof parent)
        (void)io_dir_remove(r->io, parent, NULL);
    return status;
}

static lsm_status take_back(struct repair *r, const struct record *record, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < record->keep_count; i++) {
        if (strcmp(record->keep[i], "CURRENT") != 0)
            status = restore(r, record->keep[i], err);
    }
    if (status == LSM_OK)
        status = io_dir_sync(r->dir, err);
    STEP("undo: files synced");
    if (status == LSM_OK && !record->had_current)
        status = io_dir_unlink(r->dir, "CURRENT", NULL, err);
    else if (status == LSM_OK && is_kept(record, "CURRENT"))
        status = restore(r, "CURRENT", err);
    if (status == LSM_OK)
        status = io_dir_sync(r->dir, err);
    STEP("undo: in force");
    if (status == LSM_OK)
        status = remove_made(r, record, err);
    if (status == LSM_OK)
        status = io_dir_sync(r->dir, err);
    return status == LSM_OK ? remove_place(r, record, err) : status;
}

lsm_status undo_run(struct repair *r, const char *path, bool force, lsm_error *err)
{
    struct record record = {0};
    lsm_status status = open_record(r, path, err);
    if (status == LSM_OK)
        status = read_record(r, &record, err);
    if (status == LSM_OK && !force)
        status = check_unused(r, &record, err);
    if (status == LSM_OK && force) /* edits made since the repair are given up */
        edit_mark_write(r->dir, &(struct edit_mark){.frame_number = 0});
    if (status == LSM_OK) {
        /* temporary names that the record counts among the repair's */
        r->next_number = record.first_file;
        for (size_t i = 0; i < r->list.count; i++) {
            const struct walk_file *f = &r->list.files[i];
            if (f->name == WALK_NAME_OURS && f->number >= r->next_number &&
                f->number < REPAIR_MAX_NUMBER)
                r->next_number = f->number + 1;
        }
        status = take_back(r, &record, err);
    }
    mem_free(record.text);
    mem_free(record.keep);
    return status;
}
