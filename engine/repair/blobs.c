/*
 * Values in blob files. A blob file that is whole stays as it is, and one whose damage can be
 * corrected exactly becomes again what it was. Any other is given up: each table that refers to it
 * is written anew, and its values that are still whole go into a new blob file beside that;
 * afterwards nobody refers to the old one. Entries whose value is gone are left out and told as
 * lost.
 */
#include "engine/repair/repair_private.h"

#include "engine/format/entry.h"

#include <stdio.h>
#include <string.h>

/* ---- whole or not ---------------------------------------------------------------------------- */

static const char *fault_of_parts(const struct walk_table *w)
{
    const struct walk_part *parts[] = {&w->footers[0], &w->footers[1], &w->properties,
                                       &w->index,      &w->filter,     &w->dictionary};
    if (w->is_foreign)
        return "it belongs to another database or number";
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        bool is_needed = i < 4;
        if (parts[i]->verdict != WALK_SOUND && (is_needed || parts[i]->verdict != WALK_ABSENT))
            return parts[i]->problem.what != NULL ? parts[i]->problem.what : "it is damaged";
        if (parts[i]->padding_is_bad)
            return "padding is not zero";
    }
    if (w->footers_differ)
        return "its two footers differ";
    return w->table_properties.is_blob ? NULL : "it says that it is a table";
}

static const char *fault_of_block(const struct walk_block *b, uint64_t *entries, uint64_t *bytes)
{
    if (b->fault != FINDING_COUNT)
        return b->problem.what != NULL ? b->problem.what : finding_kind_of(b->fault)->meaning;
    if (b->too_large || b->padding_is_bad)
        return b->too_large ? "a block of it is too large" : "padding is not zero";
    for (uint32_t i = 0; i < b->view.count; i++) {
        if (entry_type_of(block_trailer(&b->view, i)) != ENTRY_PUT)
            return "it holds an entry that is no value";
        *bytes += block_key_size(&b->view, i) + block_value(&b->view, i).size;
    }
    *entries += b->view.count;
    return block_check_order(&b->view);
}

/* One wrong byte of each block in the extent is put right: without an index there may be several.
 * *is_right: that is all that was wrong. */
static lsm_status correct_extent(struct repair_parts *p, const struct walk_block *b, bool *is_right,
                                 lsm_error *err)
{
    const char *what =
        b->problem.what != NULL ? b->problem.what : finding_kind_of(b->fault)->meaning;
    uint64_t rest = b->length;
    lsm_status status = LSM_OK;
    while (status == LSM_OK && rest > 0) {
        struct correct_change c;
        uint64_t offset = b->offset + b->length - rest;
        *is_right = repair_parts_correct(p, offset, rest, &c);
        if (!*is_right)
            return LSM_OK;
        status = repair_parts_patch_byte(p, b->fault, offset, p->scratch.data, &c, what, err);
        if (status == LSM_OK && p->walk->index.verdict == WALK_SOUND)
            return repair_parts_behind_frame(p, offset, err);
        rest = repair_parts_rest(p, offset, rest);
    }
    return status;
}

static lsm_status correct_block(struct repair_parts *p, const struct walk_block *b, bool *is_right,
                                lsm_error *err)
{
    *is_right = false;
    if (b->too_large || b->unreadable != 0)
        return LSM_OK;
    if (b->fault == FINDING_BLOCK_CHECKSUM || b->fault == FINDING_BLOCK_HEADER)
        return correct_extent(p, b, is_right, err);
    *is_right = b->fault == FINDING_COUNT && b->padding_is_bad;
    return *is_right ? repair_parts_zero(p, FINDING_PADDING, b->padding_offset,
                                         b->offset + b->length, err)
                     : LSM_OK;
}

/* *fault: what is wrong, but what was noted as patches; with those the contents cannot be counted,
 * which is done when it is looked at again. */
static lsm_status look_at_blocks(struct repair_parts *p, const char **fault, lsm_error *err)
{
    const struct table_properties *properties = &p->walk->table_properties;
    struct walk_block b = {.length = 1};
    uint64_t entries = 0, bytes = 0;
    lsm_status status = LSM_OK;
    while (status == LSM_OK && *fault == NULL) {
        bool is_right = false;
        status = walk_table_next(p->walk, &b, err);
        if (status != LSM_OK || b.length == 0)
            break;
        *fault = fault_of_block(&b, &entries, &bytes);
        if (*fault != NULL)
            status = correct_block(p, &b, &is_right, err);
        if (is_right)
            *fault = NULL;
    }
    if (status == LSM_OK && *fault == NULL && p->faults == 0 &&
        (entries != properties->entry_count || bytes != properties->raw_size))
        *fault = "it holds more or less than it says";
    return status;
}

/* What the manifest says of it; false: nothing. */
static bool take_as_named(const struct repair *r, struct repair_blob *blob)
{
    const struct version_edit *s = &r->state.snapshot;
    for (size_t i = 0; i < s->blob_count; i++) {
        if (s->blobs[i].number == blob->meta.number) {
            blob->meta = s->blobs[i];
            return true;
        }
    }
    return false;
}

static void take_as_it_says(const struct walk_table *walk, struct repair_blob *blob)
{
    const struct table_properties *p = &walk->table_properties;
    blob->meta = (struct blob_meta){.number = blob->meta.number,
                                    .size = walk->file_size,
                                    .cf = p->cf,
                                    .entry_count = p->entry_count,
                                    .raw_size = p->raw_size};
}

/* Decides what becomes of it. Steps and patches are left only when it is corrected. */
static lsm_status look_inside(struct repair_parts *p, struct repair_blob *blob, lsm_error *err)
{
    struct repair *r = p->r;
    size_t steps = r->step_count, patches = r->patch_count;
    const struct walk_table *walk = p->walk;
    bool knows_itself = walk->properties.verdict == WALK_SOUND;
    const char *fault = fault_of_parts(walk);
    lsm_status status = LSM_OK;
    if (fault != NULL && !walk->is_foreign)
        status = repair_parts_look(p, err);
    /* All of that may be corrected, unless it is of another kind. */
    if (p->faults > 0 && p->unpatched == 0 && (!knows_itself || walk->table_properties.is_blob))
        fault = NULL;
    if (status == LSM_OK)
        status = look_at_blocks(p, &fault, err);
    if (status != LSM_OK)
        return status;
    if (fault == NULL && knows_itself)
        take_as_it_says(walk, blob);
    else if (fault == NULL && !take_as_named(r, blob))
        fault = "its properties are damaged, and no manifest tells the same";
    blob->fault = fault;
    blob->is_patched = fault == NULL && p->faults > 0;
    if (fault != NULL)
        repair_cut_plan(r, steps, patches);
    return LSM_OK;
}

static lsm_status open_and_look(struct repair *r, struct walk_table *walk, struct repair_blob *blob,
                                lsm_error *err)
{
    uint64_t number = blob->meta.number;
    struct repair_parts p = {.r = r,
                             .part = REPAIR_BLOB,
                             .number = number,
                             .kind = FILE_BLOB,
                             .file = number,
                             .walk = walk};
    file_name_make(FILE_BLOB, number, p.name);
    lsm_status status = io_file_open(r->dir, p.name, 0, 0, &p.in, err);
    if (status == LSM_OK)
        status = look_inside(&p, blob, err);
    io_file_close(p.in);
    buffer_release(&p.scratch);
    return status;
}

static bool is_suspect(const struct repair *r, uint64_t number)
{
    for (size_t at = 0; at < r->suspect_blobs.size; at += sizeof number) {
        if (memcmp(r->suspect_blobs.data + at, &number, sizeof number) == 0)
            return true;
    }
    return false;
}

static lsm_status look_at_blob(struct repair *r, struct repair_blob *blob, lsm_error *err)
{
    struct walk_table_options options = {.number = blob->meta.number, .is_blob = true};
    struct walk_table *walk = NULL;
    lsm_error why = {.message = ""};
    const struct walk_file *f = walk_dir_find(&r->list, FILE_BLOB, blob->meta.number);
    lsm_status status = LSM_MISSING;
    if (f != NULL && walk_file_is_plain(f))
        status = walk_table_open(&r->walk, &options, &walk, &why);
    blob->is_missing = status == LSM_MISSING || status == LSM_CORRUPT;
    if (blob->is_missing) {
        blob->fault = status == LSM_MISSING ? "it is missing" : "it is no file that can be read";
        return LSM_OK;
    }
    if (status != LSM_OK) {
        status_copy(err, &why);
        return status;
    }
    bool is_newer = !walk->has_footer && (walk->footers[0].verdict == WALK_NEWER ||
                                          walk->footers[1].verdict == WALK_NEWER);
    if (is_newer)
        status = lsm_fail(err, LSM_NEWER_FORMAT,
                          "blob file '%s' was written by a newer version of the library; repair "
                          "the database with that version",
                          walk->name);
    else
        status = open_and_look(r, walk, blob, err);
    walk_table_close(walk);
    if (status == LSM_OK && blob->fault == NULL && !blob->is_patched &&
        is_suspect(r, blob->meta.number))
        blob->fault = "its parts contradict each other";
    return status;
}

/* Where it is among those that were looked at, or would be. */
static size_t place_of(const struct repair *r, uint64_t number)
{
    size_t low = 0, limit = r->blob_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (r->blobs[middle].meta.number < number)
            low = middle + 1;
        else
            limit = middle;
    }
    return low;
}

static lsm_status insert(struct repair *r, size_t place, const struct repair_blob *blob,
                         lsm_error *err)
{
    if (r->blob_count == r->blob_room) {
        size_t room = r->blob_room == 0 ? 16 : 2 * r->blob_room;
        struct repair_blob *grown = mem_resize(r->blobs, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        r->blobs = grown;
        r->blob_room = room;
    }
    memmove(r->blobs + place + 1, r->blobs + place, (r->blob_count - place) * sizeof *r->blobs);
    r->blobs[place] = *blob;
    r->blob_count++;
    return LSM_OK;
}

lsm_status repair_add_blob(struct repair *r, const struct blob_meta *meta, lsm_error *err)
{
    return insert(r, place_of(r, meta->number), &(struct repair_blob){.meta = *meta}, err);
}

lsm_status repair_find_blob(struct repair *r, uint64_t number, const struct repair_blob **blob,
                            lsm_error *err)
{
    size_t place = place_of(r, number);
    if (place == r->blob_count || r->blobs[place].meta.number != number) {
        struct repair_blob found = {.meta = {.number = number}};
        lsm_status status = look_at_blob(r, &found, err);
        if (status == LSM_OK)
            status = insert(r, place, &found, err);
        if (status != LSM_OK)
            return status;
    }
    *blob = &r->blobs[place];
    return LSM_OK;
}

lsm_status repair_collect_blobs(struct repair *r, struct version_edit *next, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; i < r->blob_count; i++)
        r->blobs[i].is_taken = false;
    for (size_t i = 0; status == LSM_OK && i < next->added_count; i++) {
        const struct table_meta *table = &next->added[i];
        for (size_t k = 0; status == LSM_OK && k < table->blob_count; k++) {
            const struct repair_blob *blob;
            status = repair_find_blob(r, table->blobs[k].number, &blob, err);
            if (status != LSM_OK)
                break;
            /* A table that was to stay as it is refers to it: it is named as far as it is known. */
            struct repair_blob *own = &r->blobs[blob - r->blobs];
            if (own->is_taken)
                continue;
            own->is_taken = true;
            if (own->fault != NULL && !take_as_named(r, own))
                status = lsm_fail(err, LSM_CORRUPT,
                                  "table %" PRIu64 ", which is not to be written anew, refers to "
                                  "blob file %" PRIu64 ", of which nothing is known",
                                  table->number, own->meta.number);
            if (status == LSM_OK)
                status = edit_add_blob(next, &own->meta, err);
        }
    }
    return status;
}

/* ---- entries ----------------------------------------------------------------------------------
 */

lsm_status repair_resolve(struct repair *r, struct walk_values *values, bool looks, lsm_slice key,
                          uint64_t *trailer, lsm_slice *value, bool *is_lost, lsm_error *err)
{
    struct blob_reference reference;
    const struct repair_blob *blob = NULL;
    bool is_found = false;
    lsm_slice found = {NULL, 0};
    *is_lost = true;
    if (!blob_reference_decode(*value, &reference))
        return LSM_OK;
    lsm_status status = repair_find_blob(r, reference.number, &blob, err);
    if (status != LSM_OK)
        return status;
    bool stays = blob->fault == NULL;
    *is_lost = false;
    if (stays && !looks)
        return LSM_OK;
    status = walk_values_find(values, key, *trailer, &reference, &is_found, &found, err);
    if (status != LSM_OK)
        return status;
    *is_lost = !is_found;
    if (is_found && !stays) {
        *value = found;
        *trailer = entry_trailer(entry_sequence(*trailer), ENTRY_PUT);
    }
    return LSM_OK;
}
