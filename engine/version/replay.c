/*
 * The state is itself an edit. Tables are found by number through a hash table of indexes; removing
 * one moves the last into its place.
 */
#include "engine/version/replay.h"

#include "engine/base/memory.h"

#include <assert.h>
#include <stdlib.h>

#define MAX_FILE_NUMBER (UINT64_C(1) << 62) /* above it a counter could overflow */
#define FIRST_SLOTS     64

void replay_release(struct replay *r)
{
    edit_release(&r->state);
    mem_free(r->slots);
    *r = (struct replay){0};
}

/* ---- the index --------------------------------------------------------------------------------
 */

static size_t slot_of(const struct replay *r, uint64_t number)
{
    uint64_t mixed = number * UINT64_C(0x9e3779b97f4a7c15);
    size_t at = (size_t)(mixed >> 32) & (r->slot_count - 1);
    while (r->slots[at] != 0 && r->state.added[r->slots[at] - 1].number != number)
        at = (at + 1) & (r->slot_count - 1);
    return at;
}

static struct table_meta *find_table(const struct replay *r, uint64_t number)
{
    if (r->slot_count == 0)
        return NULL;
    uint32_t entry = r->slots[slot_of(r, number)];
    return entry == 0 ? NULL : &r->state.added[entry - 1];
}

static bool index_grow(struct replay *r)
{
    if (r->slot_count > 0 && (r->state.added_count + 1) * 2 <= r->slot_count)
        return true;
    size_t count = r->slot_count == 0 ? FIRST_SLOTS : r->slot_count * 2;
    uint32_t *slots = mem_alloc_zeroed(count * sizeof *slots);
    if (slots == NULL)
        return false;
    mem_free(r->slots);
    r->slots = slots;
    r->slot_count = count;
    for (size_t i = 0; i < r->state.added_count; i++)
        r->slots[slot_of(r, r->state.added[i].number)] = (uint32_t)(i + 1);
    return true;
}

/* Closes the gap: entries behind it that would not be found any more move up. */
static void index_remove(struct replay *r, size_t at)
{
    size_t mask = r->slot_count - 1, next = (at + 1) & mask;
    r->slots[at] = 0;
    while (r->slots[next] != 0) {
        uint32_t entry = r->slots[next];
        r->slots[next] = 0;
        r->slots[slot_of(r, r->state.added[entry - 1].number)] = entry;
        next = (next + 1) & mask;
    }
}

static void remove_table(struct replay *r, struct table_meta *table)
{
    struct version_edit *state = &r->state;
    size_t last = state->added_count - 1, index = (size_t)(table - state->added);
    index_remove(r, slot_of(r, table->number));
    table_meta_release(table);
    if (index != last) {
        size_t at = slot_of(r, state->added[last].number);
        *table = state->added[last];
        r->slots[at] = (uint32_t)(index + 1);
    }
    state->added_count--;
}

/* Takes the keys of *meta. */
static lsm_status add_table(struct replay *r, struct table_meta *meta, lsm_error *err)
{
    if (find_table(r, meta->number) != NULL)
        return lsm_fail(err, LSM_CORRUPT, "table %" PRIu64 " is added twice", meta->number);
    if (r->state.added_count >= UINT32_MAX / 2)
        return lsm_fail(err, LSM_CORRUPT, "a manifest names more than %u tables", UINT32_MAX / 2);
    struct version_edit *state = &r->state;
    struct table_meta *grown = state->added;
    size_t count = state->added_count;
    if ((count & (count - 1)) == 0)
        grown = mem_resize(state->added, (count == 0 ? 1 : 2 * count) * sizeof *grown);
    if (grown == NULL)
        return lsm_fail_memory(err, (count + 1) * sizeof *grown);
    state->added = grown;
    if (!index_grow(r))
        return lsm_fail_memory(err, 2 * r->slot_count * sizeof *r->slots);
    size_t at = slot_of(r, meta->number);
    state->added[count] = *meta;
    r->slots[at] = (uint32_t)(count + 1);
    state->added_count++;
    *meta = (struct table_meta){0};
    return LSM_OK;
}

/* ---- families ---------------------------------------------------------------------------------
 */

/* Families are in order of id: ids are given out once and upwards. */
static struct edit_cf *find_family(const struct replay *r, uint32_t id)
{
    size_t low = 0, limit = r->state.created_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (r->state.created[middle].id < id)
            low = middle + 1;
        else
            limit = middle;
    }
    if (low == r->state.created_count)
        return NULL;
    struct edit_cf *found = &r->state.created[low];
    return found->id == id && found->name != NULL ? found : NULL;
}

static lsm_status unknown_family(uint32_t id, const char *what, lsm_error *err)
{
    return lsm_fail(err, LSM_CORRUPT, "column family %u is %s but does not exist", id, what);
}

/* Takes out the dropped families, which have lost their names, and their tables: one sweep for all
 * that an edit drops. */
static void sweep_dropped(struct replay *r)
{
    struct version_edit *state = &r->state;
    for (size_t i = state->added_count; i > 0; i--) {
        if (find_family(r, state->added[i - 1].cf) == NULL)
            remove_table(r, &state->added[i - 1]);
    }
    size_t kept = 0;
    for (size_t i = 0; i < state->created_count; i++) {
        if (state->created[i].name != NULL)
            state->created[kept++] = state->created[i];
    }
    state->created_count = kept;
}

static lsm_status drop_families(struct replay *r, const struct version_edit *edit, lsm_error *err)
{
    for (size_t i = 0; i < edit->dropped_count; i++) {
        struct edit_cf *family = find_family(r, edit->dropped[i]);
        if (family == NULL)
            return unknown_family(edit->dropped[i], "dropped", err);
        mem_free(family->name);
        family->name = NULL;
    }
    if (edit->dropped_count > 0)
        sweep_dropped(r);
    return LSM_OK;
}

static lsm_status create_family(struct replay *r, const struct edit_cf *created, lsm_error *err)
{
    size_t count = r->state.created_count;
    if (count > 0 && created->id <= r->state.created[count - 1].id)
        return lsm_fail(err, LSM_CORRUPT, "column family %u is created after family %u",
                        created->id, r->state.created[count - 1].id);
    if (count >= LSM_MAX_CF_COUNT)
        return lsm_fail(err, LSM_CORRUPT, "a manifest names more than %u column families",
                        LSM_MAX_CF_COUNT);
    return edit_create_cf(&r->state, created->id, created->name, &created->options, err);
}

static lsm_status rename_family(struct replay *r, struct edit_cf *renamed, lsm_error *err)
{
    struct edit_cf *family = find_family(r, renamed->id);
    if (family == NULL)
        return unknown_family(renamed->id, "renamed", err);
    char *old = family->name;
    family->name = renamed->name;
    renamed->name = old;
    return LSM_OK;
}

static lsm_status apply_families(struct replay *r, struct version_edit *edit, lsm_error *err)
{
    lsm_status status = drop_families(r, edit, err);
    for (size_t i = 0; status == LSM_OK && i < edit->created_count; i++)
        status = create_family(r, &edit->created[i], err);
    for (size_t i = 0; status == LSM_OK && i < edit->renamed_count; i++)
        status = rename_family(r, &edit->renamed[i], err);
    return status;
}

/* ---- edits ------------------------------------------------------------------------------------
 */

static lsm_status apply_removals(struct replay *r, const struct version_edit *edit, lsm_error *err)
{
    for (size_t i = 0; i < edit->removed_count; i++) {
        const struct edit_file_removal *removal = &edit->removed[i];
        struct table_meta *table = find_table(r, removal->number);
        if (table == NULL || table->cf != removal->cf || table->level != removal->level)
            return lsm_fail(err, LSM_CORRUPT,
                            "table %" PRIu64
                            " is removed from level %u of column family %u, where it is not",
                            removal->number, removal->level, removal->cf);
        remove_table(r, table);
    }
    return LSM_OK;
}

static void apply_numbers(struct version_edit *state, const struct version_edit *edit)
{
    if (edit->has_log) {
        state->has_log = true;
        state->log_position = edit->log_position;
        state->log_chain = edit->log_chain;
        state->clean = edit->clean;
    }
    if (edit->last_sequence > state->last_sequence)
        state->last_sequence = edit->last_sequence;
    if (edit->next_file_number > state->next_file_number)
        state->next_file_number = edit->next_file_number;
    if (edit->next_cf > state->next_cf)
        state->next_cf = edit->next_cf;
}

/* ---- blob files -------------------------------------------------------------------------------
 */

static int compare_blobs(const void *a, const void *b)
{
    const struct blob_meta *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

static struct blob_meta *find_blob(struct version_edit *state, uint64_t number)
{
    size_t low = 0, limit = state->blob_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (state->blobs[middle].number < number)
            low = middle + 1;
        else
            limit = middle;
    }
    return low < state->blob_count && state->blobs[low].number == number ? &state->blobs[low]
                                                                         : NULL;
}

/* Puts them in order, and lets those go that no table refers to any more. */
lsm_status replay_settle_blobs(struct replay *r, lsm_error *err)
{
    struct version_edit *state = &r->state;
    if (state->blob_count > 0)
        qsort(state->blobs, state->blob_count, sizeof *state->blobs, compare_blobs);
    for (size_t i = 1; i < state->blob_count; i++) {
        if (state->blobs[i].number == state->blobs[i - 1].number)
            return lsm_fail(err, LSM_CORRUPT, "blob file %" PRIu64 " is added twice",
                            state->blobs[i].number);
    }
    bool *is_live = mem_alloc_zeroed(state->blob_count * sizeof *is_live);
    if (is_live == NULL)
        return lsm_fail_memory(err, state->blob_count * sizeof *is_live);
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < state->added_count; i++) {
        const struct table_meta *table = &state->added[i];
        for (size_t k = 0; status == LSM_OK && k < table->blob_count; k++) {
            const struct blob_meta *blob = find_blob(state, table->blobs[k].number);
            if (blob != NULL)
                is_live[blob - state->blobs] = true;
            else
                status = lsm_fail(err, LSM_CORRUPT,
                                  "table %" PRIu64 " refers to blob file %" PRIu64
                                  ", which was never added",
                                  table->number, table->blobs[k].number);
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < state->blob_count; i++) {
        if (is_live[i])
            state->blobs[kept++] = state->blobs[i];
    }
    state->blob_count = kept;
    mem_free(is_live);
    return status;
}

lsm_status replay_apply(struct replay *r, struct version_edit *edit, lsm_error *err)
{
    if (edit->is_snapshot)
        replay_release(r);
    else if (!r->has_snapshot)
        return lsm_fail(err, LSM_CORRUPT, "a manifest does not begin with a snapshot");
    r->has_snapshot = true;
    /* Removals first: a table that moves is removed and added by one edit. */
    lsm_status status = apply_removals(r, edit, err);
    if (status == LSM_OK)
        status = apply_families(r, edit, err);
    for (size_t i = 0; status == LSM_OK && i < edit->added_count; i++)
        status = add_table(r, &edit->added[i], err);
    for (size_t i = 0; status == LSM_OK && i < edit->blob_count; i++)
        status = edit_add_blob(&r->state, &edit->blobs[i], err);
    if (status != LSM_OK)
        return status;
    apply_numbers(&r->state, edit);
    edit_release(edit);
    return LSM_OK;
}

lsm_status replay_finish(struct replay *r, struct version_edit *snapshot, lsm_error *err)
{
    struct version_edit *state = &r->state;
    if (!r->has_snapshot)
        return lsm_fail(err, LSM_CORRUPT, "a manifest holds no snapshot");
    if (state->next_file_number > MAX_FILE_NUMBER)
        return lsm_fail(err, LSM_CORRUPT, "the next file number %" PRIu64 " is impossible",
                        state->next_file_number);
    for (size_t i = 0; i < state->added_count; i++) {
        if (state->added[i].number >= state->next_file_number)
            return lsm_fail(err, LSM_CORRUPT,
                            "table %" PRIu64 " has a number that was not given out yet",
                            state->added[i].number);
        if (state->added[i].max_sequence > state->last_sequence)
            state->last_sequence = state->added[i].max_sequence;
    }
    lsm_status status = replay_settle_blobs(r, err);
    if (status != LSM_OK)
        return status;
    for (size_t i = 0; i < state->blob_count; i++) {
        if (state->blobs[i].number >= state->next_file_number)
            return lsm_fail(err, LSM_CORRUPT,
                            "blob file %" PRIu64 " has a number that was not given out yet",
                            state->blobs[i].number);
    }
    for (size_t i = 0; i < state->created_count; i++) {
        if (state->created[i].id >= state->next_cf)
            return lsm_fail(err, LSM_CORRUPT,
                            "column family %u has a number that was not given out yet",
                            state->created[i].id);
    }
    state->is_snapshot = true;
    *snapshot = *state;
    *state = (struct version_edit){0};
    replay_release(r);
    return LSM_OK;
}

/* ---- files ------------------------------------------------------------------------------------
 */

static lsm_status replay_frame(struct replay *r, const struct frame *frame, const char *file_name,
                               lsm_error *err)
{
    if (frame->kind >= FRAME_OPTIONAL)
        return LSM_OK;
    if (frame->kind != FRAME_EDIT)
        return lsm_fail(err, LSM_NEWER_FORMAT,
                        "manifest '%s' has a frame of the unknown kind %u at offset %" PRIu64,
                        file_name, frame->kind, frame->offset);
    struct version_edit edit = {0};
    lsm_error own = {0};
    lsm_status status = edit_decode(frame->payload, &edit, &own);
    if (status == LSM_OK)
        status = replay_apply(r, &edit, &own);
    edit_release(&edit);
    if (status != LSM_OK) {
        lsm_fail(err, status, "manifest '%s', edit %" PRIu64 " at offset %" PRIu64 ": %s",
                 file_name, frame->number, frame->offset, own.message);
        status_place(err, file_name, frame->offset);
    }
    return status;
}

lsm_status replay_manifest(const struct frame_place *place, const char *file_name, lsm_slice bytes,
                           struct version_edit *snapshot, struct frame_chain *chain, bool *is_torn,
                           lsm_error *err)
{
    struct replay r = {0};
    struct frame_reader reader;
    enum frame_result result = FRAME_READ;
    uint32_t more = 0;
    lsm_status status = frame_reader_open(&reader, place, file_name, bytes, err);
    while (status == LSM_OK) {
        struct frame frame;
        status = frame_next(&reader, &result, &frame, err);
        if (status != LSM_OK || result != FRAME_READ)
            break;
        if (more > 0 && frame.more != more - 1) {
            status = lsm_fail(err, LSM_CORRUPT,
                              "manifest '%s' lacks a part of an edit at offset %" PRIu64, file_name,
                              frame.offset);
            status_place(err, file_name, frame.offset);
            break;
        }
        more = frame.more;
        status = replay_frame(&r, &frame, file_name, err);
    }
    if (status == LSM_OK && more > 0) {
        /* Edits in parts are snapshots, and complete before CURRENT names their file. */
        status = lsm_fail(err, LSM_CORRUPT,
                          "manifest '%s' ends at offset %" PRIu64
                          " within an edit, %u parts are missing",
                          file_name, reader.chain.offset, more);
        status_place(err, file_name, reader.chain.offset);
    }
    if (status == LSM_OK)
        status = replay_finish(&r, snapshot, err);
    replay_release(&r);
    if (status == LSM_OK) {
        *chain = reader.chain;
        *is_torn = result == FRAME_TORN;
    }
    return status;
}
