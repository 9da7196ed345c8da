/* See the header. The source that was used longest ago makes room for another. */
#include "engine/inspect/walk_values.h"

#include "engine/format/block_columns.h"
#include "engine/format/entry.h"
#include "engine/inspect/correct.h"

static void source_close(struct walk_value_source *s)
{
    walk_table_close(s->walk);
    buffer_release(&s->last);
    buffer_release(&s->frame);
    buffer_release(&s->raw);
    decompress_pool_free(s->pool);
    *s = (struct walk_value_source){0};
}

void walk_values_release(struct walk_values *v)
{
    for (size_t i = 0; i < WALK_VALUES_SOURCES; i++)
        source_close(&v->sources[i]);
}

/* Begins at the front; what cannot be opened holds nothing. */
static lsm_status source_begin(struct walk_values *v, struct walk_value_source *s, uint64_t number,
                               lsm_error *err)
{
    struct walk_table_options options = {.number = number, .is_blob = true};
    lsm_error why = {.message = ""};
    uint64_t used_at = s->used_at, restarts = s->restarts;
    source_close(s);
    lsm_status status = walk_table_open(v->env, &options, &s->walk, &why);
    if (status == LSM_OK && s->walk->is_foreign)
        source_close(s);
    s->number = number;
    s->used_at = used_at;
    s->restarts = restarts;
    s->is_over = s->walk == NULL;
    if (status == LSM_OK || status == LSM_MISSING || status == LSM_CORRUPT || status == LSM_IO)
        return LSM_OK;
    status_copy(err, &why);
    return status;
}

static lsm_status source_of(struct walk_values *v, uint64_t number,
                            struct walk_value_source **source, lsm_error *err)
{
    struct walk_value_source *oldest = &v->sources[0];
    for (size_t i = 0; i < WALK_VALUES_SOURCES; i++) {
        struct walk_value_source *s = &v->sources[i];
        if (s->number == number) {
            s->used_at = ++v->clock;
            *source = s;
            return LSM_OK;
        }
        if (s->used_at < oldest->used_at)
            oldest = s;
    }
    oldest->restarts = 0;
    oldest->used_at = ++v->clock;
    *source = oldest;
    return source_begin(v, oldest, number, err);
}

/* *wrong: what keeps the corrected frame from being a block; NULL: nothing, and s->raw holds it. */
static lsm_status unpack(struct walk_value_source *s, uint64_t seed, const char **wrong,
                         lsm_error *err)
{
    struct table_frame frame;
    struct table_problem problem;
    bool no_memory = false;
    *wrong = "it is no block";
    if (!table_frame_open(buffer_slice(&s->frame), seed, &frame, &problem) ||
        frame.kind != TABLE_FRAME_DATA || block_wants_dictionary(&frame))
        return LSM_OK;
    lsm_slice payload = table_frame_payload(buffer_slice(&s->frame), &frame);
    buffer_clear(&s->raw);
    if (frame.compression == TABLE_RAW) {
        if (!buffer_assign(&s->raw, payload))
            return lsm_fail_memory(err, payload.size);
    } else {
        if (s->pool == NULL)
            s->pool = decompress_pool_new();
        uint8_t *to = buffer_grow(&s->raw, frame.raw_size);
        if (s->pool == NULL || to == NULL)
            return lsm_fail_memory(err, frame.raw_size);
        *wrong = block_unpack(s->pool, NULL, &frame, payload, to, &no_memory);
        if (no_memory)
            return lsm_fail_memory(err, frame.raw_size);
        if (*wrong != NULL)
            return LSM_OK;
    }
    *wrong = block_check(s->raw.data, s->raw.size);
    return LSM_OK;
}

/* Is the damage of the block one wrong byte? Then its view is what it was. */
static lsm_status correct_block(struct walk_value_source *s, bool *is_corrected, lsm_error *err)
{
    struct walk_block *b = &s->block;
    struct correct_change change;
    uint64_t seed = hash_place(s->walk->uuid, s->walk->number, b->offset);
    const char *wrong = NULL;
    *is_corrected = false;
    if ((b->fault != FINDING_BLOCK_CHECKSUM && b->fault != FINDING_BLOCK_HEADER) ||
        b->unreadable != 0 || b->stored.size < TABLE_FRAME_SIZE)
        return LSM_OK;
    if (!buffer_assign(&s->frame, b->stored))
        return lsm_fail_memory(err, b->stored.size);
    if (correct_table_frame(s->frame.data, s->frame.size, seed, &change) != CORRECT_DONE)
        return LSM_OK;
    lsm_status status = unpack(s, seed, &wrong, err);
    *is_corrected = status == LSM_OK && wrong == NULL;
    if (*is_corrected)
        b->view = block_view_of(s->raw.data);
    return status;
}

/* The next whole block. */
static lsm_status source_next_block(struct walk_value_source *s, lsm_error *err)
{
    lsm_status status = LSM_OK;
    s->has_block = false;
    while (status == LSM_OK && !s->is_over && !s->has_block) {
        status = walk_table_next(s->walk, &s->block, err);
        s->is_over = status != LSM_OK || s->block.length == 0;
        bool is_whole = !s->is_over && s->block.fault == FINDING_COUNT && !s->block.too_large;
        if (!s->is_over && !is_whole)
            status = correct_block(s, &is_whole, err);
        s->has_block = status == LSM_OK && is_whole && s->block.view.count > 0 &&
                       block_check_order(&s->block.view) == NULL;
    }
    return status;
}

/* Was the place where the entry would be passed already? */
static bool went_past(const struct walk_value_source *s, lsm_slice key, uint64_t trailer)
{
    if (!s->has_block)
        return s->is_over && s->walk != NULL;
    return block_compare(&s->block.view, 0, key, trailer) > 0;
}

/* To the block in which the entry is, if it is in any. */
static lsm_status source_seek(struct walk_values *v, struct walk_value_source *s, lsm_slice key,
                              uint64_t trailer, lsm_error *err)
{
    lsm_status status = LSM_OK;
    if (went_past(s, key, trailer) && slice_compare(key, buffer_slice(&s->last)) < 0 &&
        s->restarts < WALK_VALUES_RESTARTS) {
        s->restarts++;
        status = source_begin(v, s, s->number, err);
    }
    if (status == LSM_OK && !buffer_assign(&s->last, key))
        return lsm_fail_memory(err, key.size);
    while (status == LSM_OK && !s->is_over) {
        if (s->has_block &&
            block_compare(&s->block.view, s->block.view.count - 1, key, trailer) >= 0)
            break;
        status = source_next_block(s, err);
    }
    return status;
}

lsm_status walk_values_find(struct walk_values *v, lsm_slice key, uint64_t trailer,
                            const struct blob_reference *reference, bool *is_found,
                            lsm_slice *value, lsm_error *err)
{
    struct walk_value_source *s = NULL;
    uint64_t wanted = entry_trailer(entry_sequence(trailer), ENTRY_PUT);
    *is_found = false;
    lsm_status status = source_of(v, reference->number, &s, err);
    if (status == LSM_OK)
        status = source_seek(v, s, key, wanted, err);
    if (status != LSM_OK || !s->has_block)
        return status;
    const struct block_view *view = &s->block.view;
    uint32_t at = block_seek(view, key, wanted);
    if (at < view->count && block_compare(view, at, key, wanted) == 0 &&
        block_value(view, at).size == reference->size) {
        *value = block_value(view, at);
        *is_found = true;
    }
    return LSM_OK;
}
