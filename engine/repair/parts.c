/*
 * The parts of a file, a table or a blob file: what is wrong with each, and which bytes put it
 * right. What follows from other bytes of the file is noted as patches: one wrong byte under a
 * checksum, a footer whose copy is sound, zeros of padding.
 */
#include "engine/repair/repair_private.h"

#include <stdio.h>
#include <string.h>

/* ---- patches --------------------------------------------------------------------------------- */

lsm_status repair_parts_note(struct repair_parts *p, enum finding_id id, uint64_t offset,
                             uint64_t length, const char *problem, const char *action,
                             bool is_exact, lsm_error *err)
{
    char sentence[320];
    const char *noun = p->kind == FILE_BLOB ? "blob file" : "table";
    struct repair_step step = repair_step_of(p->part, p->number, id, p->name);
    step.offset = offset;
    step.length = length;
    step.is_exact = is_exact;
    p->faults++;
    p->unpatched += !is_exact;
    if (offset == LSM_NO_OFFSET)
        snprintf(sentence, sizeof sentence, "%s '%s': %s", noun, p->name, problem);
    else
        snprintf(sentence, sizeof sentence, "%s '%s' at offset %" PRIu64 ": %s", noun, p->name,
                 offset, problem);
    return repair_add_step(p->r, &step, sentence, action, err);
}

static lsm_status patch(struct repair_parts *p, uint64_t offset, const uint8_t *bytes, size_t size,
                        lsm_error *err)
{
    struct repair_patch change = {.part = p->part,
                                  .number = p->number,
                                  .kind = p->kind,
                                  .file = p->file,
                                  .offset = offset,
                                  .bytes = (uint8_t *)(uintptr_t)bytes,
                                  .size = size};
    return repair_add_patch(p->r, &change, err);
}

lsm_status repair_parts_patch_byte(struct repair_parts *p, enum finding_id id, uint64_t offset,
                                   const uint8_t *bytes, const struct correct_change *c,
                                   const char *problem, lsm_error *err)
{
    char action[96];
    uint64_t at = offset + c->offset;
    snprintf(action, sizeof action, "byte %" PRIu64 " becomes 0x%02x again (it is 0x%02x)", at,
             c->expected, c->found);
    lsm_status status = patch(p, at, bytes + c->offset, 1, err);
    return status == LSM_OK ? repair_parts_note(p, id, offset, 0, problem, action, true, err)
                            : status;
}

lsm_status repair_parts_zero(struct repair_parts *p, enum finding_id id, uint64_t offset,
                             uint64_t limit, lsm_error *err)
{
    lsm_status status = patch(p, offset, NULL, (size_t)(limit - offset), err);
    return status == LSM_OK
               ? repair_parts_note(p, id, offset, limit - offset, "padding is not zero",
                                   "the padding becomes zero again", true, err)
               : status;
}

/* The extent's bytes in the scratch; false when the device refuses them. */
static bool read_extent(struct repair_parts *p, uint64_t offset, uint64_t size)
{
    buffer_clear(&p->scratch);
    if (size > REPAIR_MEMORY)
        return false;
    uint8_t *at = buffer_grow(&p->scratch, (size_t)size);
    return at != NULL && io_file_read_exact(p->in, at, (size_t)size, offset, NULL) == LSM_OK;
}

static uint64_t seed_at(const struct repair_parts *p, uint64_t offset)
{
    return hash_place(p->walk->uuid, p->walk->number, offset);
}

bool repair_parts_correct(struct repair_parts *p, uint64_t offset, uint64_t size,
                          struct correct_change *change)
{
    return read_extent(p, offset, size) &&
           correct_table_frame(p->scratch.data, p->scratch.size, seed_at(p, offset), change) ==
               CORRECT_DONE;
}

lsm_status repair_parts_behind_frame(struct repair_parts *p, uint64_t offset, lsm_error *err)
{
    size_t used = TABLE_FRAME_SIZE + bytes_get_u32(p->scratch.data + 16), at = used;
    while (at < p->scratch.size && p->scratch.data[at] == 0)
        at++;
    if (at >= p->scratch.size || offset + p->scratch.size > p->walk->file_size)
        return LSM_OK;
    return repair_parts_zero(p, FINDING_PADDING, offset + at, offset + p->scratch.size, err);
}

uint64_t repair_parts_rest(const struct repair_parts *p, uint64_t offset, uint64_t length)
{
    uint64_t used = TABLE_FRAME_SIZE + (uint64_t)bytes_get_u32(p->scratch.data + 16);
    uint64_t end = offset + length;
    used = (used + TABLE_FRAME_ALIGNMENT - 1) & ~(uint64_t)(TABLE_FRAME_ALIGNMENT - 1);
    uint64_t at = used;
    while (at < length && p->scratch.data[at] == 0)
        at++;
    bool is_moved = end % TABLE_PAGE_SIZE == 0 && end - (offset + used) < TABLE_PAGE_SIZE;
    if (used >= length || (at == length && is_moved))
        return 0;
    return length - used;
}

/* ---- the parts ------------------------------------------------------------------------------- */

static lsm_status look_at_part(struct repair_parts *p, const struct walk_part *part,
                               enum finding_id id, enum finding_id malformed, lsm_error *err)
{
    struct correct_change c;
    const char *what =
        part->problem.what != NULL ? part->problem.what : finding_kind_of(id)->meaning;
    if (part->verdict == WALK_ABSENT || part->verdict == WALK_SOUND) {
        if (!part->padding_is_bad)
            return LSM_OK;
        return repair_parts_zero(p, FINDING_PADDING, part->padding_offset,
                                 part->extent.offset + part->extent.size, err);
    }
    if (part->verdict == WALK_DAMAGED &&
        repair_parts_correct(p, part->extent.offset, part->extent.size, &c)) {
        p->dictionary_is_corrected = p->dictionary_is_corrected || part == &p->walk->dictionary;
        lsm_status status =
            repair_parts_patch_byte(p, id, part->extent.offset, p->scratch.data, &c, what, err);
        return status == LSM_OK ? repair_parts_behind_frame(p, part->extent.offset, err) : status;
    }
    return repair_parts_note(p, part->verdict == WALK_MALFORMED ? malformed : id,
                             part->verdict == WALK_LOST ? LSM_NO_OFFSET : part->extent.offset,
                             part->extent.size, what, "made anew with the table", false, err);
}

/* A footer page is damaged: its bytes follow from the other one, or from one changed byte. */
static lsm_status look_at_footer(struct repair_parts *p, size_t which, lsm_error *err)
{
    const struct walk_part *part = &p->walk->footers[which];
    const struct walk_part *other = &p->walk->footers[1 - which];
    uint64_t offset = part->extent.offset;
    uint8_t page[TABLE_PAGE_SIZE] = {0};
    struct correct_change c;
    enum finding_id id = other->verdict == WALK_SOUND ? FINDING_FOOTER_COPY : FINDING_FOOTER_LOST;
    const char *what = part->problem.what != NULL ? part->problem.what : "the footer is damaged";
    if (part->verdict == WALK_SOUND)
        return LSM_OK;
    if (other->verdict == WALK_SOUND && part->extent.size == TABLE_PAGE_SIZE) {
        table_footer_encode(&p->walk->footer, offset, page);
        lsm_status status = patch(p, offset, page, sizeof page, err);
        return status == LSM_OK ? repair_parts_note(p, id, offset, sizeof page, what,
                                                    "the page is written from its copy", true, err)
                                : status;
    }
    if (part->extent.size == TABLE_PAGE_SIZE && read_extent(p, offset, TABLE_PAGE_SIZE) &&
        correct_table_footer(p->scratch.data, seed_at(p, offset), &c) == CORRECT_DONE)
        return repair_parts_patch_byte(p, id, offset, p->scratch.data, &c, what, err);
    return repair_parts_note(p, id, part->extent.size == 0 ? LSM_NO_OFFSET : offset,
                             part->extent.size, what, "made anew with the table", false, err);
}

lsm_status repair_parts_look(struct repair_parts *p, lsm_error *err)
{
    const struct walk_table *w = p->walk;
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < TABLE_FOOTER_COUNT; i++)
        status = look_at_footer(p, i, err);
    if (status == LSM_OK && w->footers_differ)
        status =
            repair_parts_note(p, FINDING_FOOTERS_DIFFER, LSM_NO_OFFSET, 0, "its two footers differ",
                              "made anew with the table", false, err);
    if (status == LSM_OK)
        status = look_at_part(p, &w->dictionary, FINDING_DICTIONARY_DAMAGED,
                              FINDING_DICTIONARY_DAMAGED, err);
    if (status == LSM_OK)
        status = look_at_part(p, &w->filter, FINDING_FILTER_DAMAGED, FINDING_FILTER_MALFORMED, err);
    if (status == LSM_OK)
        status = look_at_part(p, &w->index, FINDING_INDEX_DAMAGED,
                              p->no_index ? FINDING_INDEX_BLOCKS : FINDING_INDEX_MALFORMED, err);
    if (status == LSM_OK)
        status = look_at_part(p, &w->properties, FINDING_PROPERTIES_DAMAGED,
                              FINDING_PROPERTIES_MALFORMED, err);
    return status;
}
