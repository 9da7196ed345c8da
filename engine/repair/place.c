/*
 * Where replaced files go, and copies of files with some bytes put right.
 *
 * A file that will be replaced or removed is copied to lost+found first, durably, and with it the
 * record of how to take all back: lines of text, "keep NAME" for each copy, and the numbers from
 * which on files are the repair's own.
 */
#include "engine/repair/repair_private.h"

#include "engine/base/step.h"
#include "engine/repair/undo.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define PIECE ((size_t)1 << 20)

/* ---- copies ---------------------------------------------------------------------------------- */

/* Reads a piece; pages that the device refuses become zeros. */
static lsm_status read_piece(struct io_file *file, uint8_t *to, size_t size, uint64_t offset,
                             lsm_error *err)
{
    size_t got = 0;
    lsm_status status = io_file_read(file, to, size, offset, &got, err);
    if (status != LSM_IO)
        return status;
    for (size_t at = 0; at < size; at += IO_ALIGNMENT) {
        size_t part = size - at < IO_ALIGNMENT ? size - at : IO_ALIGNMENT;
        if (io_file_read(file, to + at, part, offset + at, &got, NULL) != LSM_OK)
            memset(to + at, 0, part);
    }
    return LSM_OK;
}

static void apply_patches(const struct repair *r, const struct repair_target *target,
                          uint8_t *bytes, size_t size, uint64_t offset)
{
    for (size_t i = 0; i < r->patch_count; i++) {
        const struct repair_patch *p = &r->patches[i];
        if (p->kind != target->kind || p->file != target->number || p->offset >= offset + size ||
            p->offset + p->size <= offset)
            continue;
        for (size_t k = 0; k < p->size; k++) {
            uint64_t at = p->offset + k;
            if (at >= offset && at < offset + size)
                bytes[at - offset] = p->bytes == NULL ? 0 : p->bytes[k];
        }
    }
}

static lsm_status copy_pieces(struct repair *r, struct io_file *in, struct io_file *out,
                              uint64_t size, const struct repair_target *target, lsm_error *err)
{
    uint8_t *piece = mem_alloc(PIECE);
    lsm_status status = piece == NULL ? lsm_fail_memory(err, PIECE) : LSM_OK;
    for (uint64_t at = 0; status == LSM_OK && at < size; at += PIECE) {
        size_t part = size - at < PIECE ? (size_t)(size - at) : PIECE;
        status = read_piece(in, piece, part, at, err);
        if (status == LSM_OK && target != NULL)
            apply_patches(r, target, piece, part, at);
        if (status == LSM_OK)
            status = io_file_write(out, piece, part, at, err);
    }
    mem_free(piece);
    if (status == LSM_OK)
        status = io_file_sync(out, err);
    return status;
}

lsm_status repair_copy_file(struct repair *r, struct io_dir *from_dir, const char *from,
                            struct io_dir *dir, const char *to, const struct repair_target *target,
                            lsm_error *err)
{
    struct io_file *in = NULL, *out = NULL;
    struct io_entry entry;
    uint64_t size = 0;
    lsm_status status = io_dir_describe(from_dir, from, &entry, err);
    if (status == LSM_OK)
        status = io_file_open(from_dir, from, 0, 0, &in, err);
    if (status == LSM_OK)
        status = io_file_size(in, &size, err);
    if (status == LSM_OK)
        status = io_file_open(dir, to, IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_NEW,
                              entry.mode & 0777, &out, err);
    if (status == LSM_OK) {
        STEP("repair: copy begun");
        status = copy_pieces(r, in, out, size, target, err);
        io_file_close(out);
        if (status != LSM_OK)
            (void)io_dir_unlink(dir, to, NULL, NULL);
    }
    STEP("repair: copy made");
    io_file_close(in);
    return status;
}

/* ---- lost+found ------------------------------------------------------------------------------ */

static void time_text(struct repair *r, unsigned attempt, char text[32])
{
    time_t seconds = (time_t)(io_wall_ms(r->io) / 1000);
    struct tm day = {0};
    gmtime_r(&seconds, &day);
    size_t length = strftime(text, 24, "%Y%m%d-%H%M%S", &day);
    if (attempt > 0)
        snprintf(text + length, 32 - length, "-%u", attempt);
}

/* A directory of our own, not the target of somebody's link. */
static lsm_status check_parent(struct repair *r, lsm_error *err)
{
    struct io_entry entry;
    lsm_status status = io_dir_describe(r->dir, UNDO_PARENT, &entry, err);
    if (status == LSM_MISSING)
        return LSM_OK;
    if (status == LSM_OK && entry.kind != IO_ENTRY_DIRECTORY)
        status = lsm_fail(err, LSM_INVALID,
                          "'%s' in '%s' is no directory; move it away, or choose another place for "
                          "what is replaced",
                          UNDO_PARENT, r->path);
    return status;
}

static lsm_status open_place(struct repair *r, lsm_error *err)
{
    char parent[1000], text[32];
    struct io_dir *dir = NULL;
    lsm_status status;
    if (r->options->lost != NULL) {
        snprintf(parent, sizeof parent, "%s", r->options->lost);
    } else {
        status = check_parent(r, err);
        if (status != LSM_OK)
            return status;
        if (strlen(r->path) + sizeof UNDO_PARENT + 1 > sizeof parent)
            return lsm_fail(err, LSM_INVALID, "the path of '%s' is too long", r->path);
        snprintf(parent, sizeof parent, "%s/%s", r->path, UNDO_PARENT);
    }
    status = io_dir_open(r->io, parent, IO_DIR_CREATE, 0700, &dir, err);
    if (status != LSM_OK)
        return status;
    io_dir_close(dir);
    for (unsigned attempt = 0; attempt < 1000; attempt++) {
        time_text(r, attempt, text);
        if ((size_t)snprintf(r->lost_path, sizeof r->lost_path, "%s/%s", parent, text) >=
            sizeof r->lost_path)
            break;
        status = io_dir_open(r->io, r->lost_path, 0, 0, &dir, NULL);
        if (status == LSM_OK) { /* an earlier repair's */
            io_dir_close(dir);
            continue;
        }
        return io_dir_open(r->io, r->lost_path, IO_DIR_CREATE, 0700, &r->lost, err);
    }
    return lsm_fail(err, LSM_EXISTS, "there is no free name for another repair in '%s'", parent);
}

lsm_status repair_make_place(struct repair *r, lsm_error *err)
{
    lsm_status status = open_place(r, err);
    STEP("repair: place made");
    if (status == LSM_OK)
        snprintf(r->result.lost_path, sizeof r->result.lost_path, "%s", r->lost_path);
    return status;
}

lsm_status repair_keep_file(struct repair *r, const char *name, lsm_error *err)
{
    struct io_entry entry;
    lsm_status status = io_dir_describe(r->lost, name, &entry, NULL);
    if (status == LSM_OK)
        return LSM_OK;
    status = io_dir_describe(r->dir, name, &entry, NULL);
    if (status != LSM_OK || entry.kind != IO_ENTRY_FILE)
        return LSM_OK; /* nothing to keep */
    return repair_copy_file(r, r->dir, name, r->lost, name, NULL, err);
}

/* ---- corrected files ------------------------------------------------------------------------- */

static const struct repair_table *table_of(const struct repair *r, uint64_t number)
{
    for (size_t i = 0; i < r->state.snapshot.added_count; i++) {
        if (r->tables[i].meta.number == number)
            return &r->tables[i];
    }
    return NULL;
}

static bool blob_is_corrected(const struct repair *r, uint64_t number)
{
    for (size_t i = 0; i < r->blob_count; i++) {
        if (r->blobs[i].meta.number == number)
            return r->blobs[i].is_patched && !r->blobs[i].is_refused;
    }
    return false;
}

bool repair_patch_counts(const struct repair *r, const struct repair_patch *p)
{
    const struct repair_table *t;
    switch (p->part) {
    case REPAIR_PLANT: /* has no patches */
    case REPAIR_CURRENT:
        return !repair_needs_commit(r);
    case REPAIR_MANIFEST:
        return true;
    case REPAIR_TABLE:
        t = table_of(r, p->number);
        return t != NULL && t->fate == TABLE_PATCHED && !t->is_refused;
    case REPAIR_BLOB:
        return blob_is_corrected(r, p->number);
    case REPAIR_LOG:
        return !r->log_is_lost && !r->log_is_refused;
    }
    return false;
}

static lsm_status put_file(struct repair *r, enum file_kind kind, uint64_t number, lsm_error *err)
{
    char name[FILE_NAME_SIZE], copy[FILE_NAME_SIZE];
    file_name_make(kind, number, name);
    file_name_make(FILE_TEMPORARY, r->next_number++, copy);
    struct repair_target target = {kind, number};
    lsm_status status = repair_copy_file(r, r->dir, name, r->dir, copy, &target, err);
    STEP("repair: corrected copy made");
    if (status == LSM_OK)
        status = io_dir_rename(r->dir, copy, name, err);
    STEP("repair: corrected copy in place");
    if (status == LSM_OK)
        repair_tell(r, "'%s' is corrected", name);
    return status;
}

lsm_status repair_put_patches(struct repair *r, lsm_error *err)
{
    lsm_status status = LSM_OK;
    bool any = false;
    for (size_t i = 0; status == LSM_OK && i < r->patch_count; i++) {
        const struct repair_patch *p = &r->patches[i];
        bool is_first = repair_patch_counts(r, p);
        for (size_t k = 0; k < i && is_first; k++)
            is_first = r->patches[k].kind != p->kind || r->patches[k].file != p->file;
        if (!is_first)
            continue;
        any = true;
        status = put_file(r, p->kind, p->file, err);
    }
    if (status == LSM_OK && any) {
        r->result.is_changed = true;
        status = io_dir_sync(r->dir, err);
    }
    STEP("repair: corrections synced");
    return status;
}
