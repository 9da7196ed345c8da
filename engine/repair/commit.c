/*
 * The new state: a manifest with one snapshot, in as many frames as it takes, and CURRENT renamed
 * to name it. Until the rename nothing that is there knows of the new files; from then on nothing
 * needs the old ones.
 */
#include "engine/repair/repair_private.h"

#include "engine/base/step.h"
#include "engine/version/manifest.h"
#include "engine/version/replay.h"
#include "engine/wal/segment.h"

#include <stdlib.h>
#include <string.h>

#define PART_TABLES ((size_t)4096) /* in one frame of the snapshot */

bool repair_needs_commit(const struct repair *r)
{
    if (r->state.needs_generation || !repair_leaves_log(r))
        return true;
    for (size_t i = 0; i < r->state.snapshot.added_count; i++) {
        if (repair_table_goes(&r->tables[i]))
            return true;
    }
    return false;
}

/* ---- the log --------------------------------------------------------------------------------- */

static lsm_status write_header(const struct segment_spare *spare,
                               const struct log_segment_header *header, lsm_error *err)
{
    uint8_t *block = mem_alloc_aligned(IO_ALIGNMENT, LOG_SEGMENT_HEADER);
    if (block == NULL)
        return lsm_fail_memory(err, LOG_SEGMENT_HEADER);
    log_segment_encode(block, header);
    lsm_status status = io_file_write(spare->file, block, LOG_SEGMENT_HEADER, 0, err);
    if (status == LSM_OK)
        status = io_file_sync(spare->file, err);
    mem_free(block);
    return status;
}

lsm_status repair_begin_log(struct repair *r, uint64_t position, lsm_error *err)
{
    struct segment_dir dir = {.io = r->io, .dir = r->dir, .mode = r->env.mode};
    struct segment_spare spare = {0};
    char from[FILE_NAME_SIZE], to[FILE_NAME_SIZE];
    uint64_t number = r->log.next_segment;
    struct log_segment_header header = {
        .flags = LOG_SEGMENT_OPENED,
        .number = number,
        .start = position,
        .size = 2 * LOG_SEGMENT_HEADER,
        .previous = r->log.newest_segment,
        .resume = position,
    };
    memcpy(dir.uuid, r->env.uuid, sizeof dir.uuid);
    memcpy(header.uuid, r->env.uuid, sizeof header.uuid);
    io_random(r->io, header.nonce, sizeof header.nonce);
    memcpy(header.nonce_before, header.nonce, sizeof header.nonce);
    if (header.previous != 0) {
        header.previous_start = r->log.newest_start < position ? r->log.newest_start : position;
        header.previous_end = position;
    }
    lsm_status status = segment_spare_make(&dir, number, header.size, header.size, &spare, err);
    if (status != LSM_OK)
        return status;
    status = write_header(&spare, &header, err);
    STEP("repair: log segment written");
    if (status != LSM_OK) {
        segment_spare_discard(&dir, &spare);
        return status;
    }
    io_file_close(spare.file);
    status = io_dir_rename(r->dir, file_name_make(FILE_WAL_SPARE, number, from),
                           file_name_make(FILE_WAL, number, to), err);
    STEP("repair: log segment named");
    return status;
}

/* ---- the state ------------------------------------------------------------------------------- */

static uint64_t highest_sequence(const struct repair *r, const struct version_edit *next)
{
    uint64_t highest = next->last_sequence;
    for (size_t i = 0; i < next->added_count; i++) {
        if (next->added[i].max_sequence > highest)
            highest = next->added[i].max_sequence;
    }
    if (r->log.last_sequence > highest)
        highest = r->log.last_sequence;
    return highest;
}

static lsm_status collect_tables(struct repair *r, struct version_edit *next, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < r->state.snapshot.added_count; i++) {
        if (!repair_table_goes(&r->tables[i]) && !r->tables[i].is_merged)
            status = edit_add_table(next, &r->state.snapshot.added[i], err);
    }
    for (size_t i = 0; status == LSM_OK && i < r->made.added_count; i++)
        status = edit_add_table(next, &r->made.added[i], err);
    return status;
}

static int compare_families(const void *left, const void *right)
{
    const struct edit_cf *a = left, *b = right;
    return (a->id > b->id) - (a->id < b->id);
}

static lsm_status make_next(struct repair *r, uint64_t number, struct version_edit *next,
                            lsm_error *err)
{
    const struct version_edit *s = &r->state.snapshot;
    lsm_status status = LSM_OK;
    *next = (struct version_edit){.is_snapshot = true,
                                  .has_log = true,
                                  .log_position = s->log_position,
                                  .log_chain = s->log_chain,
                                  .clean = s->clean,
                                  .last_sequence = s->last_sequence,
                                  .next_file_number = s->next_file_number,
                                  .next_cf = s->next_cf};
    for (size_t i = 0; status == LSM_OK && i < s->created_count; i++)
        status =
            edit_create_cf(next, s->created[i].id, s->created[i].name, &s->created[i].options, err);
    if (next->created_count > 1) /* a manifest names them in this order */
        qsort(next->created, next->created_count, sizeof *next->created, compare_families);
    if (status == LSM_OK)
        status = collect_tables(r, next, err);
    if (status == LSM_OK)
        status = repair_collect_blobs(r, next, err);
    if (next->next_file_number <= number)
        next->next_file_number = number + 1;
    if (r->next_number > next->next_file_number)
        next->next_file_number = r->next_number;
    /* Where the true last number may be lost, go well beyond what was seen; never where records of
     * the log are still to be replayed, which know it. */
    bool is_uncertain = !repair_leaves_log(r) || (r->state.is_rebuilt && r->log.record_count == 0);
    next->last_sequence = highest_sequence(r, next);
    if (is_uncertain && next->last_sequence < ENTRY_MAX_SEQUENCE - 2 * REPAIR_SEQUENCE_GAP)
        next->last_sequence += REPAIR_SEQUENCE_GAP;
    if (!is_uncertain && r->log.record_count > 0 && s->last_sequence > 0)
        next->last_sequence = s->last_sequence;
    if (!repair_leaves_log(r)) {
        next->log_position = r->log.highest_position;
        next->log_chain = 0;
        next->clean = true; /* nothing is in the new segment, nor in the stage file */
    }
    return status;
}

/* Frames are counted on behind those that were, also behind those that are lost. */
static uint64_t first_frame(const struct repair *r)
{
    bool is_ours = memcmp(r->mark.uuid, r->env.uuid, sizeof r->mark.uuid) == 0;
    uint64_t marked = is_ours ? r->mark.frame_number : 0;
    return marked < r->state.next_frame ? r->state.next_frame : marked + 1;
}

/* The frames of the snapshot, behind a file header. */
static lsm_status encode(struct repair *r, uint64_t number, struct version_edit *next,
                         struct buffer *bytes, lsm_error *err)
{
    struct frame_place place = {.file_number = number};
    struct buffer payload = {0};
    size_t parts = next->added_count == 0 ? 1 : (next->added_count + PART_TABLES - 1) / PART_TABLES;
    lsm_status status = LSM_OK;
    memcpy(place.uuid, r->env.uuid, sizeof place.uuid);
    struct frame_chain chain = frame_begin_file(&place, first_frame(r), bytes);
    for (size_t i = 0; status == LSM_OK && i < parts; i++) {
        struct version_edit part = i == 0 ? *next : (struct version_edit){0};
        size_t first = i * PART_TABLES;
        part.blobs = i == 0 ? next->blobs : NULL;
        part.blob_count = i == 0 ? next->blob_count : 0;
        part.added = next->added + first;
        part.added_count =
            next->added_count - first < PART_TABLES ? next->added_count - first : PART_TABLES;
        buffer_clear(&payload);
        status = edit_encode(&part, &payload, err);
        if (status == LSM_OK)
            frame_append(&place, FRAME_EDIT, (uint32_t)(parts - 1 - i), buffer_slice(&payload),
                         &chain, bytes);
    }
    if (status == LSM_OK && bytes->failed)
        status = lsm_fail_memory(err, bytes->size);
    buffer_release(&payload);
    return status;
}

/* What was written has to be what the next opening will understand. */
static lsm_status check(struct repair *r, uint64_t number, lsm_slice bytes, lsm_error *err)
{
    struct frame_place place = {.file_number = number};
    struct version_edit again = {0};
    struct frame_chain chain;
    bool is_torn;
    char name[FILE_NAME_SIZE];
    memcpy(place.uuid, r->env.uuid, sizeof place.uuid);
    lsm_status status = replay_manifest(&place, file_name_make(FILE_MANIFEST, number, name), bytes,
                                        &again, &chain, &is_torn, err);
    edit_release(&again);
    return status;
}

lsm_status repair_commit(struct repair *r, uint64_t number, lsm_error *err)
{
    struct version_edit next;
    struct buffer bytes = {0};
    struct io_file *file = NULL;
    char name[FILE_NAME_SIZE];
    bool is_uncertain = false;
    file_name_make(FILE_MANIFEST, number, name);
    lsm_status status = make_next(r, number, &next, err);
    if (status == LSM_OK)
        status = encode(r, number, &next, &bytes, err);
    if (status == LSM_OK)
        status = check(r, number, buffer_slice(&bytes), err);
    if (status == LSM_OK)
        status = io_file_open(r->dir, name, IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_NEW,
                              r->env.mode, &file, err);
    if (status == LSM_OK)
        status = io_file_write(file, bytes.data, bytes.size, 0, err);
    if (status == LSM_OK)
        status = io_file_sync(file, err);
    STEP("repair: manifest written");
    if (status == LSM_OK)
        status = io_dir_sync(r->dir, err);
    STEP("repair: new names synced");
    if (status == LSM_OK)
        status = manifest_put_in_force(&r->env, number, &is_uncertain, err);
    r->is_in_force = status == LSM_OK || is_uncertain;
    STEP("repair: in force");
    if (status == LSM_OK) {
        r->result.is_changed = true;
        repair_tell(r, "'%s' is in force", name);
    }
    io_file_close(file);
    buffer_release(&bytes);
    edit_release(&next);
    return status;
}
