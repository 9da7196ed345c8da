/*
 * What is wrong with each live table. Where the right bytes can be told (one wrong byte under a
 * checksum, a footer whose copy is sound, zeros of padding) they are noted as patches; a table
 * whose damage is all of that kind becomes again what it was. Any other is written anew from its
 * whole blocks, and what the others may have held is told as lost.
 */
#include "engine/repair/repair_private.h"

#include "engine/format/entry.h"

#include <stdio.h>
#include <string.h>

struct look {
    struct repair *r;
    struct repair_table *t;
    struct repair_parts p; /* of its file */
    size_t index;
    struct buffer last_key; /* of the last whole block */
    bool has_last_key;
    struct walk_values values; /* of blob files that are given up */
    bool gives_up_values;      /* there are such */
    struct buffer lost_first,
        lost_last; /* keys of entries that follow each other and lost theirs */
    uint64_t lost_count, lost_min, lost_max; /* of them: how many, and their sequence numbers */
    uint64_t passed;                         /* entries of the extents before, known or reckoned */
};

/* ---- losses ---------------------------------------------------------------------------------- */

/* May an older version of keys in the range come to light? */
static bool has_older(const struct repair *r, const struct repair_table *t)
{
    const struct table_meta *m = &t->meta;
    const struct version_edit *s = &r->state.snapshot;
    for (size_t i = 0; i < s->added_count; i++) {
        const struct table_meta *o = &s->added[i];
        /* Of a state made from the tables levels are settled only when all are whole. */
        bool is_older = r->state.is_rebuilt
                            ? o->min_sequence < m->max_sequence
                            : o->level > m->level || (o->level == 0 && m->level == 0 &&
                                                      o->max_sequence < m->max_sequence);
        bool overlaps = t->any_keys || (slice_compare(o->smallest, m->largest) <= 0 &&
                                        slice_compare(m->smallest, o->largest) <= 0);
        if (o->number != m->number && o->cf == m->cf && is_older && overlaps)
            return true;
    }
    return false;
}

/* Where the blocks end, as far as can be told. */
static uint64_t end_of_blocks(const struct look *k)
{
    const struct walk_table *w = k->p.walk;
    bool is_short = w->file_size < k->t->meta.size && w->properties.verdict != WALK_SOUND;
    return is_short ? k->t->meta.size : w->data_limit;
}

/* How many entries an extent holds: its frame says it, or of those that are not accounted for yet
 * it has its share of the bytes that were not passed yet. */
static uint64_t entries_in(const struct look *k, const struct walk_block *b)
{
    if (b->has_frame)
        return b->frame.entry_count;
    uint64_t all = k->t->meta.entry_count, end = end_of_blocks(k);
    uint64_t left = all > k->passed ? all - k->passed : 0;
    uint64_t bytes = end > b->offset ? end - b->offset : 0;
    if (b->length < bytes)
        left = (uint64_t)((double)left * (double)b->length / (double)bytes + 0.5);
    return left > 0 ? left : 1; /* 0 would be none that is known of */
}

/* The extent without its last `rest` bytes is done with. */
static void pass(struct look *k, const struct walk_block *b, uint64_t rest)
{
    struct walk_block passed = *b;
    passed.length -= rest;
    k->passed += entries_in(k, &passed);
}

static lsm_status lose(struct look *k, const struct walk_block *b, lsm_error *err)
{
    const struct table_meta *m = &k->t->meta;
    struct repair_loss loss = {.kinds = LSM_LOSS_LOST,
                               .has_cf = true,
                               .cf = m->cf,
                               .min_sequence = m->min_sequence,
                               .max_sequence = m->max_sequence,
                               .offset = LSM_NO_OFFSET,
                               .records = m->entry_count};
    lsm_slice first = m->smallest, last = m->largest;
    snprintf(loss.file, sizeof loss.file, "%s", k->p.name);
    if (has_older(k->r, k->t))
        loss.kinds |= LSM_LOSS_MAY_BE_STALE | LSM_LOSS_MAY_REVIVE;
    if (b != NULL) {
        loss.offset = b->offset;
        loss.length = b->length;
        if (b->has_first)
            first = b->first;
        if (b->has_last)
            last = b->last;
        loss.records = entries_in(k, b);
        if (b->has_frame && b->frame.max_sequence > 0) {
            loss.min_sequence = b->frame.min_sequence;
            loss.max_sequence = b->frame.max_sequence;
        }
    }
    loss.first_open = k->t->any_keys && (b == NULL || !b->has_first);
    loss.last_open = k->t->any_keys && (b == NULL || !b->has_last);
    if (loss.first_open || loss.last_open) /* nor how many there were */
        loss.records = 0;
    k->t->records_lost += loss.records;
    return repair_add_loss(k->r, &loss, first, last, err);
}

/* ---- values in blob files -------------------------------------------------------------------- */

/* Tells the run of entries that ends here. */
static lsm_status end_lost_values(struct look *k, lsm_error *err)
{
    if (k->lost_count == 0)
        return LSM_OK;
    struct repair_loss loss = {.kinds = LSM_LOSS_LOST,
                               .has_cf = true,
                               .cf = k->t->meta.cf,
                               .min_sequence = k->lost_min,
                               .max_sequence = k->lost_max,
                               .offset = LSM_NO_OFFSET,
                               .records = k->lost_count};
    snprintf(loss.file, sizeof loss.file, "%s", k->p.name);
    if (has_older(k->r, k->t))
        loss.kinds |= LSM_LOSS_MAY_BE_STALE | LSM_LOSS_MAY_REVIVE;
    k->t->records_lost += k->lost_count;
    k->lost_count = 0;
    return repair_add_loss(k->r, &loss, buffer_slice(&k->lost_first), buffer_slice(&k->lost_last),
                           err);
}

static lsm_status lose_value(struct look *k, lsm_slice key, uint64_t sequence, lsm_error *err)
{
    if ((k->lost_count == 0 && !buffer_assign(&k->lost_first, key)) ||
        !buffer_assign(&k->lost_last, key))
        return lsm_fail_memory(err, key.size);
    if (k->lost_count == 0)
        k->lost_min = k->lost_max = sequence;
    k->lost_min = sequence < k->lost_min ? sequence : k->lost_min;
    k->lost_max = sequence > k->lost_max ? sequence : k->lost_max;
    k->lost_count++;
    return LSM_OK;
}

/* The blob files that it is said to refer to. Does a table stay as it is, so do they. */
static lsm_status look_at_blobs(struct look *k, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < k->t->meta.blob_count; i++) {
        const struct repair_blob *blob;
        char name[FILE_NAME_SIZE], problem[200];
        status = repair_find_blob(k->r, k->t->meta.blobs[i].number, &blob, err);
        if (status != LSM_OK || blob->fault == NULL)
            continue;
        k->gives_up_values = true;
        file_name_make(FILE_BLOB, blob->meta.number, name);
        snprintf(problem, sizeof problem, "it refers to blob file '%s', which is given up: %s",
                 name, blob->fault);
        status = repair_parts_note(
            &k->p, blob->is_missing ? FINDING_BLOB_MISSING : FINDING_BLOB_REFERENCE, LSM_NO_OFFSET,
            0, problem,
            "written anew with the values that are whole; the keys of the others are told "
            "below",
            false, err);
    }
    /* Properties that are lost cannot tell, nor does who verified trust the table. */
    k->t->doubts_values = k->p.walk->properties.verdict != WALK_SOUND;
    for (size_t i = 0; i < k->r->contradiction_count; i++)
        k->t->doubts_values =
            k->t->doubts_values || (k->r->contradictions[i].table == k->t->meta.number &&
                                    k->r->contradictions[i].id == FINDING_BLOB_REFERENCE);
    for (size_t i = 0; k->t->doubts_values && i < k->r->list.count; i++)
        k->gives_up_values = k->gives_up_values || k->r->list.files[i].kind == FILE_BLOB;
    return status;
}

static lsm_status look_at_value(struct look *k, const struct walk_block *b, uint32_t index,
                                lsm_error *err)
{
    uint64_t trailer = block_trailer(&b->view, index);
    bool is_lost = false;
    if (entry_type_of(trailer) != ENTRY_BLOB)
        return end_lost_values(k, err);
    if (!block_copy_key(&b->view, index, &k->p.scratch))
        return lsm_fail_memory(err, block_key_size(&b->view, index));
    lsm_slice value = block_value(&b->view, index);
    lsm_status status =
        repair_resolve(k->r, &k->values, k->t->doubts_values, buffer_slice(&k->p.scratch), &trailer,
                       &value, &is_lost, err);
    if (status != LSM_OK)
        return status;
    return is_lost ? lose_value(k, buffer_slice(&k->p.scratch), entry_sequence(trailer), err)
                   : end_lost_values(k, err);
}

/* Those of a whole block. */
static lsm_status look_at_values(struct look *k, const struct walk_block *b, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (uint32_t i = 0; status == LSM_OK && i < b->view.count; i++)
        status = look_at_value(k, b, i, err);
    return status;
}

/* ---- the blocks ------------------------------------------------------------------------------ */

/* Are the entries in order, in the table's bounds, and of its family? NULL when all is well. */
static const char *check_entries(struct look *k, const struct walk_block *b, enum finding_id *id)
{
    const struct table_meta *m = &k->t->meta;
    struct buffer *key = &k->p.scratch;
    *id = FINDING_BLOCK_ORDER;
    const char *wrong = block_check_order(&b->view);
    if (wrong != NULL)
        return wrong;
    for (uint32_t i = 0; i < b->view.count; i++) {
        if (!entry_type_is_known(block_trailer(&b->view, i))) {
            *id = FINDING_ENTRY_TYPE;
            return "it holds an entry of an unknown type";
        }
    }
    if (b->frame.cf != m->cf) {
        *id = FINDING_BLOCK_FAMILY;
        return "it belongs to another column family";
    }
    *id = FINDING_KEY_OUTSIDE;
    if (!block_copy_key(&b->view, 0, key))
        return NULL;
    if (!k->t->any_keys && slice_compare(buffer_slice(key), m->smallest) < 0)
        return "it holds keys below the table's first";
    if (k->has_last_key && slice_compare(buffer_slice(key), buffer_slice(&k->last_key)) < 0) {
        *id = FINDING_BLOCK_ORDER;
        return "its keys do not come behind those of the block before";
    }
    if (!block_copy_key(&b->view, b->view.count - 1, &k->last_key))
        return NULL;
    k->has_last_key = true;
    if (!k->t->any_keys && slice_compare(buffer_slice(&k->last_key), m->largest) > 0)
        return "it holds keys above the table's last";
    return NULL;
}

/* *rest: so many bytes at the extent's end are still to be looked at. */
static lsm_status look_at_block(struct look *k, const struct walk_block *b, uint64_t *rest,
                                lsm_error *err)
{
    struct correct_change c;
    lsm_status status = LSM_OK;
    if (b->padding_is_bad)
        status = repair_parts_zero(&k->p, FINDING_PADDING, b->padding_offset, b->offset + b->length,
                                   err);
    if (status != LSM_OK || b->too_large)
        return status;
    if (b->fault == FINDING_COUNT) {
        enum finding_id id;
        const char *wrong = check_entries(k, b, &id);
        k->t->has_keys = true;
        status = look_at_values(k, b, err);
        if (wrong == NULL || status != LSM_OK)
            return status;
        k->t->has_disorder = k->t->has_disorder || id == FINDING_BLOCK_ORDER;
        /* A block in the place of another one: what stood there is not known. */
        bool is_kept = id == FINDING_KEY_OUTSIDE ||
                       (id == FINDING_BLOCK_ORDER && block_check_order(&b->view) != NULL);
        status = repair_parts_note(&k->p, id, b->offset, b->length, wrong,
                                   is_kept ? "its entries go in order into a new table"
                                           : "what does not fit there is left out of the new table",
                                   false, err);
        return status == LSM_OK && !is_kept ? lose(k, b, err) : status;
    }
    if (b->fault == FINDING_DICTIONARY_DAMAGED && k->p.dictionary_is_corrected) {
        k->t->has_keys = true;
        return k->gives_up_values ? lose(k, b, err) : LSM_OK;
    }
    const char *what =
        b->problem.what != NULL ? b->problem.what : finding_kind_of(b->fault)->meaning;
    bool may_be_corrected = b->fault == FINDING_BLOCK_CHECKSUM || b->fault == FINDING_BLOCK_HEADER;
    if (may_be_corrected && b->unreadable == 0 &&
        repair_parts_correct(&k->p, b->offset, b->length, &c)) {
        k->t->has_keys = true;
        status =
            repair_parts_patch_byte(&k->p, b->fault, b->offset, k->p.scratch.data, &c, what, err);
        if (status == LSM_OK && k->gives_up_values) /* nobody looked at what its entries refer to */
            status = lose(k, b, err);
        if (status == LSM_OK && k->p.walk->index.verdict == WALK_SOUND)
            return repair_parts_behind_frame(&k->p, b->offset, err);
        *rest = status == LSM_OK ? repair_parts_rest(&k->p, b->offset, b->length) : 0;
        return status;
    }
    k->t->blocks_lost++;
    status = repair_parts_note(&k->p, b->fault, b->offset, b->length, what,
                               "the block is left out; the keys it may have held are told below",
                               false, err);
    return status == LSM_OK ? lose(k, b, err) : status;
}

/* Without an index several damaged blocks may stand in one extent; what one of them claims tells
 * where the next one begins. */
static lsm_status look_at_extent(struct look *k, const struct walk_block *b, lsm_error *err)
{
    uint64_t rest = 0;
    lsm_status status = look_at_block(k, b, &rest, err);
    pass(k, b, rest);
    while (status == LSM_OK && rest > 0) {
        struct walk_block next = {.offset = b->offset + b->length - rest,
                                  .length = rest,
                                  .fault = FINDING_BLOCK_CHECKSUM,
                                  .has_first = b->has_first,
                                  .has_last = b->has_last,
                                  .first = b->first,
                                  .last = b->last};
        rest = 0;
        status = look_at_block(k, &next, &rest, err);
        pass(k, &next, rest);
    }
    return status;
}

/* Without an index blocks of which nothing but zeros is left show by the gap alone. */
static lsm_status look_at_gap(struct look *k, uint64_t offset, const struct walk_block *next,
                              uint64_t limit, lsm_error *err)
{
    struct walk_block gap = {.offset = offset,
                             .length = limit - offset,
                             .has_first = k->has_last_key,
                             .first = buffer_slice(&k->last_key)};
    if (next != NULL && next->fault == FINDING_COUNT && !next->too_large &&
        block_copy_key(&next->view, 0, &k->p.scratch)) {
        gap.has_last = true;
        gap.last = buffer_slice(&k->p.scratch);
    }
    k->t->blocks_lost++;
    lsm_status status = repair_parts_note(
        &k->p, FINDING_BLOCK_HEADER, offset, gap.length, "there are zeros where blocks should be",
        "the keys that may have been there are told below", false, err);
    if (status == LSM_OK)
        status = lose(k, &gap, err);
    pass(k, &gap, 0);
    return status;
}

/* A frame may be moved to the next page when that costs little. */
static bool gap_is_right(uint64_t offset, const struct walk_block *next)
{
    uint64_t gap = next->offset - offset;
    return gap < TABLE_FRAME_ALIGNMENT ||
           (next->offset % TABLE_PAGE_SIZE == 0 && gap <= next->length / 10);
}

static lsm_status look_behind_blocks(struct look *k, uint64_t end, lsm_error *err)
{
    const struct walk_table *w = k->p.walk;
    if (w->footers[0].verdict == WALK_SOUND || w->footers[1].verdict == WALK_SOUND) {
        uint64_t limit = w->footer.data.size;
        return limit >= end + TABLE_FRAME_ALIGNMENT ? look_at_gap(k, end, NULL, limit, err)
                                                    : LSM_OK;
    }
    bool is_short =
        !k->has_last_key || slice_compare(buffer_slice(&k->last_key), k->t->meta.largest) < 0;
    uint64_t limit = w->file_size > end ? w->file_size : end;
    return is_short && end < limit ? look_at_gap(k, end, NULL, limit, err) : LSM_OK;
}

static lsm_status look_at_blocks(struct look *k, lsm_error *err)
{
    struct walk_block b = {.length = 1};
    lsm_status status = LSM_OK;
    bool has_index = k->p.walk->index.verdict == WALK_SOUND;
    uint64_t end = 0;
    while (status == LSM_OK) {
        status = walk_table_next(k->p.walk, &b, err);
        if (status != LSM_OK || b.length == 0)
            break;
        if (!has_index && !gap_is_right(end, &b))
            status = look_at_gap(k, end, &b, b.offset, err);
        if (status == LSM_OK)
            status = look_at_extent(k, &b, err);
        end = b.offset + b.length;
    }
    return status == LSM_OK && !has_index ? look_behind_blocks(k, end, err) : status;
}

/* ---- a table --------------------------------------------------------------------------------- */

static lsm_status drop(struct look *k, enum finding_id id, const char *problem, lsm_error *err)
{
    k->t->fate = TABLE_DROPPED;
    lsm_status status =
        repair_parts_note(&k->p, id, LSM_NO_OFFSET, 0, problem,
                          "taken out of the manifest; the keys it held are told below", false, err);
    return status == LSM_OK ? lose(k, NULL, err) : status;
}

/* What does not show in the parts by themselves. */
static lsm_status take_contradictions(struct look *k, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < k->r->contradiction_count; i++) {
        const struct repair_contradiction *c = &k->r->contradictions[i];
        if (c->table == k->t->meta.number)
            status = repair_parts_note(&k->p, c->id, c->offset, 0, finding_kind_of(c->id)->meaning,
                                       "written anew from its blocks", false, err);
    }
    return status;
}

static bool is_newer(const struct walk_table *w)
{
    return !w->has_footer &&
           (w->footers[0].verdict == WALK_NEWER || w->footers[1].verdict == WALK_NEWER);
}

static lsm_status look_inside(struct look *k, lsm_error *err)
{
    char text[128];
    lsm_status status = LSM_OK;
    if (is_newer(k->p.walk))
        return lsm_fail(err, LSM_NEWER_FORMAT,
                        "table '%s' was written by a newer version of the library; repair the "
                        "database with that version",
                        k->p.name);
    if (k->p.walk->is_foreign)
        return drop(k, FINDING_TABLE_FOREIGN, "it belongs to another database or number", err);
    if (k->p.walk->file_size != k->t->meta.size) {
        snprintf(text, sizeof text, "it has %" PRIu64 " bytes, and should have %" PRIu64,
                 k->p.walk->file_size, k->t->meta.size);
        status = repair_parts_note(&k->p, FINDING_TABLE_SIZE, LSM_NO_OFFSET, 0, text,
                                   "written anew from its blocks", false, err);
    }
    if (status == LSM_OK)
        status = look_at_blobs(k, err);
    if (status == LSM_OK)
        status = repair_parts_look(&k->p, err);
    if (status == LSM_OK)
        status = look_at_blocks(k, err);
    if (status == LSM_OK)
        status = end_lost_values(k, err);
    if (status != LSM_OK)
        return status;
    if (k->p.walk->file_size < k->t->meta.size) { /* what was behind the end */
        struct walk_block b = {.offset = k->p.walk->file_size,
                               .length = k->t->meta.size - k->p.walk->file_size,
                               .has_first = k->has_last_key,
                               .first = buffer_slice(&k->last_key)};
        status = lose(k, &b, err);
    }
    if (k->p.faults == 0)
        status = take_contradictions(k, err);
    if (status == LSM_OK && k->r->options->salvage_blocks && k->p.faults == 0)
        status = repair_parts_note(&k->p, FINDING_PROPERTY_COUNTS, LSM_NO_OFFSET, 0,
                                   "it is to be written anew", "written anew from its blocks",
                                   false, err);
    k->t->fate = k->p.faults == 0      ? TABLE_STAYS
                 : k->p.unpatched == 0 ? TABLE_PATCHED
                 : k->t->has_keys      ? TABLE_REWRITTEN
                                       : TABLE_DROPPED;
    return status;
}

/* It stands in a file with the name of another table. */
static lsm_status tell_displaced(struct look *k, const char *file, lsm_error *err)
{
    char problem[96];
    bool is_there = walk_dir_find(&k->r->list, FILE_TABLE, k->t->meta.number) != NULL;
    snprintf(problem, sizeof problem, "what it holds stands in '%s'", file);
    return repair_parts_note(&k->p, is_there ? FINDING_TABLE_FOREIGN : FINDING_TABLE_MISSING,
                             LSM_NO_OFFSET, 0, problem, "written anew from there", false, err);
}

/* How many entries stand in whole blocks; *all_right: there is nothing else where blocks are. */
static lsm_status count_whole(struct look *k, const struct walk_table_options *options,
                              uint64_t *entries, bool *all_right, lsm_error *err)
{
    struct walk_table *walk = NULL;
    struct walk_block b = {.length = 1};
    *entries = 0;
    *all_right = true;
    lsm_status status = walk_table_open(&k->r->walk, options, &walk, err);
    while (status == LSM_OK) {
        status = walk_table_next(walk, &b, err);
        if (status != LSM_OK || b.length == 0)
            break;
        bool is_whole = b.fault == FINDING_COUNT;
        *entries += is_whole && !b.too_large ? b.view.count : 0;
        *all_right = *all_right && is_whole && !b.padding_is_bad;
    }
    walk_table_close(walk);
    return status;
}

static bool is_suspect(const struct repair *r, uint64_t number)
{
    for (size_t at = 0; at < r->suspects.size; at += sizeof number) {
        if (memcmp(r->suspects.data + at, &number, sizeof number) == 0)
            return true;
    }
    return false;
}

/* An index whose checksum fits may still be wrong: then there are more whole blocks in the file
 * than it leads to. */
static lsm_status doubt_index(struct look *k, struct walk_table_options *options, lsm_error *err)
{
    uint64_t by_index = 0, by_frames = 0;
    bool all_right = true;
    bool is_verified = k->r->round == 0 && !k->r->state.is_rebuilt;
    if (k->p.walk->index.verdict != WALK_SOUND || k->p.walk->is_foreign ||
        (is_verified && !is_suspect(k->r, k->t->meta.number)))
        return LSM_OK;
    lsm_status status = count_whole(k, options, &by_index, &all_right, err);
    if (status != LSM_OK || all_right)
        return status;
    options->no_index = true;
    status = count_whole(k, options, &by_frames, &all_right, err);
    options->no_index = k->t->no_index = k->p.no_index = by_frames > by_index;
    if (status != LSM_OK || !k->t->no_index)
        return status;
    walk_table_close(k->p.walk);
    k->p.walk = NULL;
    return walk_table_open(&k->r->walk, options, &k->p.walk, err);
}

static lsm_status look_at_table(struct repair *r, size_t index, lsm_error *err)
{
    struct repair_table *t = &r->tables[index];
    struct look k = {.r = r, .index = index, .t = t, .p = {.r = r}, .values = {.env = &r->walk}};
    char file[FILE_NAME_SIZE];
    /* Bounds that only the blocks tell say nothing of blocks that are lost. */
    struct walk_table_options options = {
        .number = k.t->meta.number, .name = file, .meta = k.t->any_keys ? NULL : &k.t->meta};
    lsm_error why = {0};
    k.t->file = repair_file_of_table(r, k.t->meta.number);
    k.p.part = REPAIR_TABLE;
    k.p.kind = FILE_TABLE;
    k.p.number = t->meta.number;
    k.p.file = t->file;
    file_name_make(FILE_TABLE, k.t->meta.number, k.p.name);
    file_name_make(FILE_TABLE, k.t->file, file);
    lsm_status status = walk_table_open(&r->walk, &options, &k.p.walk, &why);
    if (status == LSM_MISSING) {
        status = drop(&k, FINDING_TABLE_MISSING, "it is missing", err);
    } else if (status == LSM_CORRUPT) {
        status = drop(&k, FINDING_NOT_A_FILE, "it is no file that can be read", err);
    } else if (status != LSM_OK) {
        status_copy(err, &why);
    } else {
        status = doubt_index(&k, &options, err);
        if (status == LSM_OK)
            status = io_file_open(r->dir, file, 0, 0, &k.p.in, err);
        if (status == LSM_OK && k.t->file != k.t->meta.number)
            status = tell_displaced(&k, file, err);
        if (status == LSM_OK)
            status = look_inside(&k, err);
    }
    walk_table_close(k.p.walk);
    io_file_close(k.p.in);
    walk_values_release(&k.values);
    buffer_release(&k.p.scratch);
    buffer_release(&k.last_key);
    buffer_release(&k.lost_first);
    buffer_release(&k.lost_last);
    return status;
}

/* The list is in ascending order. */
static bool has_number(const struct buffer *list, uint64_t number)
{
    const uint64_t *numbers = (const uint64_t *)(const void *)list->data;
    size_t low = 0, count = list->size / sizeof *numbers, limit = count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (numbers[middle] < number)
            low = middle + 1;
        else
            limit = middle;
    }
    return low < count && numbers[low] == number;
}

lsm_status repair_look_at_tables(struct repair *r, lsm_error *err)
{
    size_t count = r->state.snapshot.added_count;
    lsm_status status = LSM_OK;
    r->tables = mem_alloc_zeroed((count + 1) * sizeof *r->tables);
    if (r->tables == NULL)
        return lsm_fail_memory(err, (count + 1) * sizeof *r->tables);
    for (size_t i = 0; status == LSM_OK && i < count; i++) {
        struct repair_table *t = &r->tables[i];
        t->meta = r->state.snapshot.added[i];
        t->any_keys = has_number(&r->state.unbounded, t->meta.number);
        status = look_at_table(r, i, err);
        r->result.table_count++;
        r->result.blocks_lost += t->blocks_lost;
        r->result.tables_rewritten += t->fate == TABLE_REWRITTEN;
        r->result.tables_lost += t->fate == TABLE_DROPPED;
    }
    return status;
}
