#include "engine/version/lost_edits.h"

#include "engine/format/file_name.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- the mark -------------------------------------------------------------------------------- */

void edit_mark_write(struct io_dir *dir, const struct edit_mark *mark)
{
    char name[FILE_NAME_SIZE];
    uint8_t bytes[EDIT_MARK_SIZE];
    struct io_file *file = NULL;
    edit_mark_encode(mark, bytes);
    if (io_file_open(dir, file_name_make(FILE_LOCK, 0, name), IO_FILE_WRITE, 0, &file, NULL) ==
        LSM_OK)
        (void)io_file_write(file, bytes, sizeof bytes, EDIT_MARK_OFFSET, NULL);
    io_file_close(file);
}

lsm_status edit_mark_read(struct io_dir *dir, struct edit_mark *mark, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    uint8_t bytes[EDIT_MARK_SIZE];
    size_t size = 0;
    struct io_file *file = NULL;
    *mark = (struct edit_mark){0};
    lsm_status status = io_file_open(dir, file_name_make(FILE_LOCK, 0, name), 0, 0, &file, err);
    if (status == LSM_MISSING || status == LSM_CORRUPT)
        return LSM_OK;
    if (status == LSM_OK)
        status = io_file_read(file, bytes, sizeof bytes, EDIT_MARK_OFFSET, &size, err);
    if (status == LSM_OK && size == sizeof bytes)
        (void)edit_mark_decode(bytes, mark);
    io_file_close(file);
    return status;
}

/* ---- the proof ------------------------------------------------------------------------------- */

static uint64_t last_sequence_of(const struct version_edit *state)
{
    uint64_t last = state->last_sequence;
    for (size_t i = 0; i < state->added_count; i++) {
        if (state->added[i].max_sequence > last)
            last = state->added[i].max_sequence;
    }
    return last;
}

static lsm_status ask_tables(const struct lost_edits_evidence *e, const struct version_edit *state,
                             struct lost_edits *lost, lsm_error *err)
{
    uint64_t last = last_sequence_of(state);
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < e->table_count; i++) {
        uint64_t sequence = 0;
        if (e->tables[i] < state->next_file_number)
            continue;
        status = e->ask(e->context, e->tables[i], &sequence, err);
        if (status != LSM_OK || sequence <= last) /* that is what an interrupted repair left */
            continue;
        *lost = (struct lost_edits){
            .proof = LOST_EDITS_TABLE, .wanted = sequence, .found = last, .table = e->tables[i]};
        break;
    }
    return status;
}

lsm_status lost_edits_find(const struct lost_edits_evidence *evidence,
                           const uint8_t uuid[HASH_UUID_SIZE], const struct version_edit *state,
                           uint64_t last_frame, struct lost_edits *lost, lsm_error *err)
{
    const struct edit_mark *mark = &evidence->mark;
    *lost = (struct lost_edits){.proof = LOST_EDITS_NONE};
    if (mark->frame_number > last_frame && memcmp(mark->uuid, uuid, sizeof mark->uuid) == 0) {
        *lost = (struct lost_edits){
            .proof = LOST_EDITS_MARK, .wanted = mark->frame_number, .found = last_frame};
        return LSM_OK;
    }
    if (!state->has_log || !state->clean)
        return LSM_OK;
    return ask_tables(evidence, state, lost, err);
}

const char *lost_edits_text(const struct lost_edits *lost, char text[LOST_EDITS_TEXT])
{
    char name[FILE_NAME_SIZE];
    if (lost->proof == LOST_EDITS_MARK)
        snprintf(text, LOST_EDITS_TEXT,
                 "the manifest ends with edit %" PRIu64
                 ", but LOCK says that there was edit %" PRIu64 ": edits are lost",
                 lost->found, lost->wanted);
    else
        snprintf(text, LOST_EDITS_TEXT,
                 "the manifest ends in a clean close at sequence number %" PRIu64
                 ", but '%s', which it does not name, was written after it and holds numbers up to "
                 "%" PRIu64 ": edits are lost",
                 lost->found, file_name_make(FILE_TABLE, lost->table, name), lost->wanted);
    return text;
}
