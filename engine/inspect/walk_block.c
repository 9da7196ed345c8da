/*
 * From block to block: by the index where that is sound, else from the end of one frame to the
 * next. What does not open is an extent of damage; without an index it reaches up to the next frame
 * whose checksum fits.
 */
#include "engine/inspect/walk_table_private.h"

#include "engine/base/memory.h"
#include "engine/format/block_columns.h"

/* ---- separators ------------------------------------------------------------------------------ */

bool walk_separator(const struct table_index *index, uint32_t block, struct buffer *key)
{
    uint32_t first = index->ends[block], limit = index->ends[block + 1];
    buffer_clear(key);
    buffer_append(key, index->bytes, index->prefix_size);
    if (first != limit) {
        /* trailer, then the key after the prefix */
        const uint8_t *bytes = index->bytes + index->prefix_size + first;
        if (limit - first > 8)
            buffer_append(key, bytes + 8, limit - first - 8);
        return !key->failed;
    }
    /* The head is the separator: at most 8 bytes, without zeros at its end. */
    uint64_t head = BYTES_BE64(index->entries[block].head);
    uint8_t bytes[8];
    memcpy(bytes, &head, sizeof bytes);
    size_t size = sizeof bytes;
    while (size > 0 && bytes[size - 1] == 0)
        size--;
    buffer_append(key, bytes, size);
    return !key->failed;
}

/* ---- judging an extent ----------------------------------------------------------------------- */

static void blame(struct walk_block *b, enum finding_id fault, struct table_problem problem)
{
    b->fault = fault;
    b->problem = problem;
}

/* Why the frame does not open: whether its checksum fits tells damage from impossible contents. */
static void blame_frame(const struct walk *w, struct walk_block *b, struct table_problem problem)
{
    const uint8_t *at = b->stored.data;
    size_t size = b->stored.size;
    enum finding_id fault = FINDING_BLOCK_HEADER;
    if (size >= TABLE_FRAME_SIZE && bytes_get_u32(at + 8) == TABLE_FRAME_MAGIC &&
        bytes_get_u32(at + 16) <= size - TABLE_FRAME_SIZE) {
        uint64_t seed = hash_place(w->base.uuid, w->base.number, b->offset);
        size_t covered = TABLE_FRAME_SIZE - 8 + bytes_get_u32(at + 16);
        fault = hash_bytes(at + 8, covered, seed) == bytes_get_u64(at) ? FINDING_BLOCK_SIZE
                                                                       : FINDING_BLOCK_CHECKSUM;
    }
    blame(b, fault, problem);
}

/* Decodes a block whose frame is whole. LSM_NO_MEMORY is the only failure. */
static lsm_status decode(struct walk *w, struct walk_block *b, lsm_error *err)
{
    lsm_slice payload = table_frame_payload(b->stored, &b->frame);
    const uint8_t *raw = payload.data;
    b->raw_size = b->frame.raw_size;
    if (b->frame.compression != TABLE_RAW) {
        if (block_wants_dictionary(&b->frame) && w->prepared == NULL) {
            blame(b, FINDING_DICTIONARY_DAMAGED,
                  (struct table_problem){"its dictionary cannot be read", 0, 0});
            return LSM_OK;
        }
        if (b->raw_size > w->env.memory_limit) {
            b->too_large = true;
            return LSM_OK;
        }
        buffer_clear(&w->raw);
        if (!buffer_reserve(&w->raw, b->raw_size))
            return lsm_fail_memory(err, b->raw_size);
        bool no_memory = false;
        const char *wrong =
            block_unpack(w->pool, w->prepared, &b->frame, payload, w->raw.data, &no_memory);
        if (no_memory)
            return lsm_fail_memory(err, b->raw_size);
        if (wrong != NULL) {
            blame(b, FINDING_BLOCK_UNDECODABLE, (struct table_problem){wrong, 0, 0});
            return LSM_OK;
        }
        raw = w->raw.data;
    }
    const char *wrong = block_check(raw, b->raw_size);
    if (wrong != NULL) {
        blame(b, FINDING_BLOCK_MALFORMED, (struct table_problem){wrong, 0, 0});
        return LSM_OK;
    }
    b->view = block_view_of(raw);
    /* Of an ingested table: the one sequence number of all entries stands in its properties. */
    bool says_none = b->frame.max_sequence == 0 && (b->view.flags & BLOCK_LONG_TRAILERS) == 0;
    if (w->base.sequence_base != 0 && says_none)
        block_view_raise(&b->view, w->base.sequence_base);
    else if (w->base.properties.verdict == WALK_SOUND && w->base.sequence_base != 0)
        blame(b, FINDING_BLOCK_SEQUENCE,
              (struct table_problem){"it has sequence numbers of its own, in a table that was "
                                     "taken in whole",
                                     0, b->frame.max_sequence});
    return LSM_OK;
}

static void check_padding(struct walk_block *b)
{
    const uint8_t *bytes = b->stored.data;
    size_t at = TABLE_FRAME_SIZE + b->frame.stored_size;
    while (at < b->stored.size && bytes[at] == 0)
        at++;
    b->padding_is_bad = at < b->stored.size;
    b->padding_offset = b->offset + at;
}

/* A block over the memory limit: only its checksum is tested, piece by piece. */
static lsm_status judge_large(struct walk *w, struct walk_block *b, lsm_error *err)
{
    uint64_t found = b->offset + b->length;
    uint64_t spare = w->search_left;
    w->search_left = 2 * b->length; /* for the frame at its front, and little else */
    struct table_frame frame;
    lsm_status status = walk_find_frame(w, b->offset, b->offset + b->length, &found, &frame, err);
    w->search_left = spare;
    b->too_large = true;
    if (status == LSM_OK && found != b->offset) {
        b->too_large = false;
        blame(b, FINDING_BLOCK_CHECKSUM, (struct table_problem){"the checksum differs", 0, 0});
    } else if (status == LSM_OK) {
        b->has_frame = true;
        b->frame = frame;
    }
    return status;
}

/* Judges the extent [b->offset, b->offset + b->length). */
static lsm_status judge(struct walk *w, struct walk_block *b, lsm_error *err)
{
    b->fault = FINDING_COUNT;
    if (b->length > w->env.memory_limit)
        return judge_large(w, b, err);
    const uint8_t *bytes = NULL;
    lsm_status status =
        walk_stream_get(w->stream, b->offset, (size_t)b->length, &bytes, &b->unreadable, err);
    if (status != LSM_OK)
        return status;
    b->stored = (lsm_slice){bytes, (size_t)b->length};
    struct table_problem problem;
    uint64_t seed = hash_place(w->base.uuid, w->base.number, b->offset);
    if (!table_frame_open(b->stored, seed, &b->frame, &problem)) {
        blame_frame(w, b, problem);
        return LSM_OK;
    }
    b->has_frame = true;
    b->checksum = bytes_get_u64(bytes);
    check_padding(b);
    if (b->frame.kind != TABLE_FRAME_DATA) {
        blame(b, FINDING_BLOCK_HEADER,
              (struct table_problem){"the frame is no block", TABLE_FRAME_DATA, b->frame.kind});
        return LSM_OK;
    }
    return decode(w, b, err);
}

/* ---- bounds of damage ------------------------------------------------------------------------ */

static lsm_status bound_by_index(struct walk *w, struct walk_block *b, lsm_error *err)
{
    const struct table_index *index = &w->base.table_index;
    if (b->index > 0) {
        if (!walk_separator(index, b->index, &w->bound_first))
            return lsm_fail_memory(err, w->bound_first.size);
        b->first = buffer_slice(&w->bound_first);
        b->has_first = true;
    }
    if (b->index + 1 < index->count) {
        if (!walk_separator(index, b->index + 1, &w->bound_last))
            return lsm_fail_memory(err, w->bound_last.size);
        b->last = buffer_slice(&w->bound_last);
        b->has_last = true;
    }
    return LSM_OK;
}

/* The first key of the block that follows the damage. */
static lsm_status bound_by_next(struct walk *w, struct walk_block *b, const struct table_frame *f,
                                lsm_error *err)
{
    struct walk_block next = {.offset = b->offset + b->length,
                              .length = TABLE_FRAME_SIZE + (uint64_t)f->stored_size};
    if (f->kind != TABLE_FRAME_DATA || next.length > w->env.memory_limit)
        return LSM_OK;
    lsm_status status = judge(w, &next, err);
    if (status != LSM_OK || next.fault != FINDING_COUNT || next.too_large)
        return status;
    if (!block_copy_key(&next.view, 0, &w->bound_last))
        return lsm_fail_memory(err, block_key_size(&next.view, 0));
    b->last = buffer_slice(&w->bound_last);
    b->has_last = true;
    return LSM_OK;
}

static lsm_status bound_by_last(struct walk *w, struct walk_block *b, lsm_error *err)
{
    if (!w->has_last_key)
        return LSM_OK;
    if (!buffer_assign(&w->bound_first, buffer_slice(&w->last_key)))
        return lsm_fail_memory(err, w->last_key.size);
    b->first = buffer_slice(&w->bound_first);
    b->has_first = true;
    return LSM_OK;
}

static void bound_by_table(const struct walk *w, struct walk_block *b)
{
    const struct walk_table *t = &w->base;
    if (t->has_bounds && !b->has_first)
        b->first = t->first;
    if (t->has_bounds && !b->has_last)
        b->last = t->last;
    b->has_first = b->has_first || t->has_bounds;
    b->has_last = b->has_last || t->has_bounds;
}

static lsm_status note_last_key(struct walk *w, const struct walk_block *b, lsm_error *err)
{
    w->has_last_key = b->fault == FINDING_COUNT && !b->too_large;
    if (w->has_last_key && !block_copy_key(&b->view, b->view.count - 1, &w->last_key))
        return lsm_fail_memory(err, block_key_size(&b->view, b->view.count - 1));
    return LSM_OK;
}

/* ---- the walk -------------------------------------------------------------------------------- */

static lsm_status next_by_index(struct walk *w, struct walk_block *b, lsm_error *err)
{
    const struct table_index *index = &w->base.table_index;
    if (w->next_block >= index->count)
        return LSM_OK;
    b->has_index = true;
    b->index = w->next_block++;
    b->offset = index->offsets[b->index];
    b->length = index->offsets[b->index + 1] - b->offset;
    lsm_status status = judge(w, b, err);
    if (status == LSM_OK && b->fault != FINDING_COUNT)
        status = bound_by_index(w, b, err);
    return status;
}

/* Behind the last frame: is there nothing but zeros up to the end of the data? */
static lsm_status skip_zeros(struct walk *w, bool *is_end, lsm_error *err)
{
    *is_end = false;
    while (w->offset < w->base.data_limit) {
        uint64_t left = w->base.data_limit - w->offset;
        size_t size = left < TABLE_PAGE_SIZE ? (size_t)left : TABLE_PAGE_SIZE;
        const uint8_t *bytes = NULL;
        int unreadable = 0;
        lsm_status status = walk_stream_get(w->stream, w->offset, size, &bytes, &unreadable, err);
        if (status != LSM_OK)
            return status;
        size_t at = 0;
        while (at < size && bytes[at] == 0)
            at++;
        w->offset += at & ~(TABLE_FRAME_ALIGNMENT - 1);
        if (at < size || unreadable != 0)
            return LSM_OK;
    }
    *is_end = true;
    return LSM_OK;
}

/* Judges the frame at b->offset with the length that it claims itself; without has_frame it is
 * none. */
static lsm_status judge_by_itself(struct walk *w, struct walk_block *b, lsm_error *err)
{
    uint64_t left = w->base.data_limit - b->offset;
    const uint8_t *head = NULL;
    if (left < TABLE_FRAME_SIZE)
        return LSM_OK;
    lsm_status status =
        walk_stream_get(w->stream, b->offset, TABLE_FRAME_SIZE, &head, &b->unreadable, err);
    if (status != LSM_OK || bytes_get_u32(head + 8) != TABLE_FRAME_MAGIC ||
        bytes_get_u32(head + 16) > left - TABLE_FRAME_SIZE)
        return status;
    uint64_t size = TABLE_FRAME_SIZE + (uint64_t)bytes_get_u32(head + 16);
    size = (size + TABLE_FRAME_ALIGNMENT - 1) & ~(uint64_t)(TABLE_FRAME_ALIGNMENT - 1);
    b->length = size < left ? size : left;
    return judge(w, b, err);
}

/* The extent of the frame at w->offset by its own words, or up to the next that is whole. */
static lsm_status next_by_frames(struct walk *w, struct walk_block *b, lsm_error *err)
{
    bool is_end = false;
    uint64_t start = w->offset; /* zeros in front of damage may be part of it */
    lsm_status status = skip_zeros(w, &is_end, err);
    if (status != LSM_OK || is_end)
        return status;
    b->offset = w->offset;
    status = judge_by_itself(w, b, err);
    if (status != LSM_OK)
        return status;
    if (b->has_frame) {
        w->offset += b->length;
        return b->fault == FINDING_COUNT ? LSM_OK : bound_by_last(w, b, err);
    }
    struct table_frame frame = {0};
    uint64_t found = 0, limit = w->base.data_limit;
    int unreadable = b->unreadable;
    *b = (struct walk_block){.offset = start, .unreadable = unreadable};
    status = walk_find_frame(w, w->offset + TABLE_FRAME_ALIGNMENT, limit, &found, &frame, err);
    if (status != LSM_OK)
        return status;
    b->length = found - start;
    w->offset = found;
    blame(b, FINDING_BLOCK_CHECKSUM, (struct table_problem){"no block is whole here", 0, 0});
    status = bound_by_last(w, b, err);
    if (status == LSM_OK && found < limit)
        status = bound_by_next(w, b, &frame, err);
    return status;
}

lsm_status walk_table_next(struct walk_table *walk, struct walk_block *block, lsm_error *err)
{
    struct walk *w = walk_of(walk);
    *block = (struct walk_block){.fault = FINDING_COUNT};
    lsm_status status = LSM_OK;
    if (w->stream == NULL) {
        status = walk_stream_open(&w->env, w->file, walk->file_size, &w->stream, err);
        if (status == LSM_OK && w->want_digest && walk->properties.verdict == WALK_SOUND)
            walk_stream_want_digest(w->stream, walk->table_properties.digest_size);
    }
    if (status == LSM_OK)
        status = walk->index.verdict == WALK_SOUND ? next_by_index(w, block, err)
                                                   : next_by_frames(w, block, err);
    if (status != LSM_OK || block->length == 0)
        return status;
    if (block->fault != FINDING_COUNT)
        bound_by_table(w, block);
    return note_last_key(w, block, err);
}

void walk_table_skip(struct walk_table *walk, uint32_t count)
{
    struct walk *w = walk_of(walk);
    uint32_t left = walk->table_index.count - w->next_block;
    w->next_block += count < left ? count : left;
    w->has_last_key = false;
}

lsm_status walk_table_digest(struct walk_table *walk, uint64_t *digest, bool *is_known,
                             lsm_error *err)
{
    struct walk *w = walk_of(walk);
    *is_known = false;
    if (w->stream == NULL || walk->properties.verdict != WALK_SOUND ||
        walk->table_properties.digest_size > walk->file_size)
        return LSM_OK;
    return walk_stream_digest(w->stream, walk->table_properties.digest_size, digest, is_known, err);
}
