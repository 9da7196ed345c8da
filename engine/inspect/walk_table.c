/*
 * Footers and parts. Without a sound footer the whole file is looked through once for frames, which
 * say by themselves what they are; the blocks are walked afterwards.
 */
#include "engine/inspect/walk_table_private.h"

#include "engine/base/memory.h"
#include "engine/format/table_filter.h"

/* ---- footers --------------------------------------------------------------------------------- */

static void take_footer(struct walk *w, size_t index, const uint8_t *page, uint64_t file_size,
                        bool any)
{
    struct walk_table *t = &w->base;
    struct walk_part *part = &t->footers[index];
    struct table_footer footer;
    uint64_t offset = part->extent.offset;
    lsm_status status =
        table_footer_decode(page, offset, file_size, t->uuid, t->number, &footer, &part->problem);
    if (status == LSM_CORRUPT) {
        /* Sound by its own words? Then it is somebody else's. */
        struct table_problem ignored;
        if (table_footer_decode(page, offset, file_size, page + 16, bytes_get_u64(page + 32),
                                &footer, &ignored) == LSM_OK) {
            part->verdict = WALK_FOREIGN;
            t->is_foreign = !any;
            memcpy(t->uuid, footer.uuid, sizeof t->uuid);
            t->number = footer.number;
            status = LSM_OK;
        } else {
            part->verdict = WALK_DAMAGED;
        }
    }
    if (status == LSM_NEWER_FORMAT)
        part->verdict = WALK_NEWER;
    if (status != LSM_OK)
        return;
    if (part->verdict != WALK_FOREIGN || any) {
        part->verdict = t->is_foreign ? WALK_FOREIGN : WALK_SOUND;
        part->problem = (struct table_problem){NULL, 0, 0};
    }
    t->footers_differ =
        t->has_footer && memcmp(&footer, &t->footer, sizeof footer) != 0; /* no padding inside */
    t->footer = footer;
    t->has_footer = true;
}

/* Both pages before `end`, where the footers of a file of that size are. */
static lsm_status read_footers(struct walk *w, uint64_t end, bool any, lsm_error *err)
{
    struct walk_table *t = &w->base;
    uint8_t *pages = mem_alloc_buffer(3 * TABLE_PAGE_SIZE);
    if (pages == NULL)
        return lsm_fail_memory(err, 3 * TABLE_PAGE_SIZE);
    uint64_t first = table_footer_offset(end, 0), start = first & ~(uint64_t)(IO_ALIGNMENT - 1);
    int unreadable = 0;
    lsm_status status =
        walk_read(&w->env, w->file, pages, (size_t)(end - start), start, &unreadable, err);
    for (size_t i = 0; status == LSM_OK && i < TABLE_FOOTER_COUNT; i++) {
        t->footers[i] = (struct walk_part){
            .extent = {.offset = table_footer_offset(end, i), .size = TABLE_PAGE_SIZE}};
        take_footer(w, i, pages + (t->footers[i].extent.offset - start), end, any);
        if (t->footers[i].verdict != WALK_SOUND && unreadable != 0)
            t->footers[i].verdict = WALK_UNREADABLE;
    }
    mem_free_buffer(pages, 3 * TABLE_PAGE_SIZE);
    return status;
}

static lsm_status find_footers(struct walk *w, const struct walk_table_options *options,
                               lsm_error *err)
{
    struct walk_table *t = &w->base;
    struct table_problem too_short = {"the file is too short", TABLE_MIN_FILE_SIZE, t->file_size};
    for (size_t i = 0; i < TABLE_FOOTER_COUNT; i++)
        t->footers[i] = (struct walk_part){.verdict = WALK_LOST, .problem = too_short};
    lsm_status status = LSM_OK;
    if (t->file_size >= TABLE_MIN_FILE_SIZE)
        status = read_footers(w, t->file_size, options->any, err);
    uint64_t wanted = options->meta == NULL ? 0 : options->meta->size;
    if (status != LSM_OK || t->has_footer || wanted >= t->file_size || wanted < TABLE_MIN_FILE_SIZE)
        return status;
    /* Something was appended: they may stand where they were. */
    struct walk_part before[TABLE_FOOTER_COUNT];
    memcpy(before, t->footers, sizeof before);
    status = read_footers(w, wanted, options->any, err);
    if (!t->has_footer)
        memcpy(t->footers, before, sizeof before);
    return status;
}

/* ---- parts ----------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *at, size_t size, size_t *bad)
{
    for (size_t i = 0; i < size; i++) {
        if (at[i] != 0) {
            *bad = i;
            return false;
        }
    }
    return true;
}

/* The part's frame in `memory` (freed by the caller, also on failure); *payload when it is whole.
 */
static lsm_status read_part(struct walk *w, struct walk_part *part, enum table_frame_kind kind,
                            uint8_t **memory, size_t *room, lsm_slice *payload, lsm_error *err)
{
    uint64_t start = part->extent.offset & ~(uint64_t)(IO_ALIGNMENT - 1);
    uint64_t size = part->extent.offset + part->extent.size - start;
    if (size > w->env.memory_limit) {
        part->verdict = WALK_TOO_LARGE;
        part->problem =
            (struct table_problem){"it is over the memory limit", w->env.memory_limit, size};
        return LSM_OK;
    }
    *room = ((size_t)size + IO_ALIGNMENT - 1) & ~(IO_ALIGNMENT - 1);
    *memory = mem_alloc_buffer(*room);
    if (*memory == NULL)
        return lsm_fail_memory(err, *room);
    int unreadable = 0;
    lsm_status status = walk_read(&w->env, w->file, *memory, (size_t)size, start, &unreadable, err);
    if (status != LSM_OK)
        return status;
    lsm_slice bytes = {*memory + (part->extent.offset - start), (size_t)part->extent.size};
    uint64_t seed = hash_place(w->base.uuid, w->base.number, part->extent.offset);
    struct table_frame frame;
    part->verdict = WALK_DAMAGED;
    if (!table_frame_open(bytes, seed, &frame, &part->problem)) {
        if (unreadable != 0)
            part->verdict = WALK_UNREADABLE;
        return LSM_OK;
    }
    if (frame.kind != kind) {
        part->problem = (struct table_problem){"the frame is of another kind", kind, frame.kind};
        return LSM_OK;
    }
    part->verdict = WALK_SOUND;
    part->problem = (struct table_problem){NULL, 0, 0};
    size_t used = TABLE_FRAME_SIZE + frame.stored_size, bad = 0;
    part->padding_is_bad = !is_zero((const uint8_t *)bytes.data + used, bytes.size - used, &bad);
    part->padding_offset = part->extent.offset + used + bad;
    *payload = table_frame_payload(bytes, &frame);
    return LSM_OK;
}

static void malformed(struct walk_part *part, const char *what, uint64_t expected, uint64_t found)
{
    part->verdict = WALK_MALFORMED;
    part->problem = (struct table_problem){what, expected, found};
}

/* What an opening of the table refuses. */
static void judge_properties(struct walk_table *t)
{
    const struct table_properties *p = &t->table_properties;
    const struct table_footer *f = &t->footer;
    if (p->number != t->number)
        malformed(&t->properties, "they are of another file", t->number, p->number);
    else if (t->has_footer && p->data_size != f->data.size)
        malformed(&t->properties, "the data has another size", f->data.size, p->data_size);
    else if (t->has_footer && p->digest_size != f->properties.offset)
        malformed(&t->properties, "the digest ends elsewhere", f->properties.offset,
                  p->digest_size);
}

static lsm_status take_properties(struct walk *w, lsm_slice payload, lsm_error *err)
{
    struct walk_table *t = &w->base;
    lsm_error inner = {.message = ""};
    lsm_status status = table_properties_decode(payload, &t->table_properties, &inner);
    if (status == LSM_OK) {
        judge_properties(t);
        return LSM_OK;
    }
    if (status != LSM_CORRUPT && status != LSM_NEWER_FORMAT) {
        status_copy(err, &inner);
        return status;
    }
    malformed(&t->properties,
              status == LSM_CORRUPT ? "their message cannot be decoded"
                                    : "their message is of a newer format",
              0, 0);
    if (status == LSM_NEWER_FORMAT)
        t->properties.verdict = WALK_NEWER;
    return LSM_OK;
}

static lsm_status take_index(struct walk *w, lsm_slice payload, lsm_error *err)
{
    struct walk_table *t = &w->base;
    struct table_problem problem;
    if (payload.size > w->env.memory_limit / 2) { /* decoding copies it */
        t->index.verdict = WALK_TOO_LARGE;
        return LSM_OK;
    }
    if (table_index_decode(payload, t->data_limit, &t->table_index, &problem))
        return LSM_OK;
    if (problem.what == NULL)
        return lsm_fail_memory(err, payload.size);
    malformed(&t->index, problem.what, problem.expected, problem.found);
    return LSM_OK;
}

static lsm_status take_filter(struct walk *w, lsm_slice payload, lsm_error *err)
{
    struct walk_table *t = &w->base;
    if (payload.size == 0 || payload.size % TABLE_FILTER_BLOCK != 0) {
        malformed(&t->filter, "its size is impossible", 0, payload.size);
        return LSM_OK;
    }
    w->filter_memory = mem_alloc_aligned(64, payload.size);
    if (w->filter_memory == NULL)
        return lsm_fail_memory(err, payload.size);
    memcpy(w->filter_memory, payload.data, payload.size);
    t->filter_bytes = (lsm_slice){w->filter_memory, payload.size};
    return LSM_OK;
}

static lsm_status take_dictionary(struct walk *w, lsm_slice payload, lsm_error *err)
{
    struct walk_table *t = &w->base;
    if (payload.size > COMPRESS_MAX_DICTIONARY) {
        malformed(&t->dictionary, "it is too long", COMPRESS_MAX_DICTIONARY, payload.size);
        return LSM_OK;
    }
    w->prepared = decompress_dictionary_new(payload);
    if (w->prepared == NULL)
        return lsm_fail_memory(err, payload.size);
    return LSM_OK;
}

typedef lsm_status (*take_part)(struct walk *w, lsm_slice payload, lsm_error *err);

static lsm_status load_part(struct walk *w, struct walk_part *part, enum table_frame_kind kind,
                            take_part take, lsm_error *err)
{
    if (part->extent.size == 0)
        return LSM_OK; /* absent, or lost */
    uint8_t *memory = NULL;
    size_t room = 0;
    lsm_slice payload;
    lsm_status status = read_part(w, part, kind, &memory, &room, &payload, err);
    if (status == LSM_OK && part->verdict == WALK_SOUND)
        status = take(w, payload, err);
    mem_free_buffer(memory, room);
    return status;
}

/* ---- without a footer ------------------------------------------------------------------------ */

static struct walk_part *part_of_kind(struct walk_table *t, enum table_frame_kind kind)
{
    switch (kind) {
    case TABLE_FRAME_DICTIONARY:
        return &t->dictionary;
    case TABLE_FRAME_FILTER:
        return &t->filter;
    case TABLE_FRAME_INDEX:
        return &t->index;
    case TABLE_FRAME_PROPERTIES:
        return &t->properties;
    case TABLE_FRAME_DATA:
        break;
    }
    return NULL;
}

/* Looks for the parts by their frames. The blocks end where the first part begins. */
static lsm_status find_parts(struct walk *w, const struct table_meta *meta, lsm_error *err)
{
    struct walk_table *t = &w->base;
    /* What was appended to the file is none of its blocks, and may be as long as it likes. */
    uint64_t limit = meta != NULL && meta->size < t->file_size ? meta->size : t->file_size;
    t->data_limit = limit;
    t->dictionary.verdict = t->filter.verdict = WALK_ABSENT;
    t->index.verdict = t->properties.verdict = WALK_LOST;
    lsm_status status = LSM_OK;
    uint64_t at = 0;
    while (status == LSM_OK && at < limit) {
        struct table_frame frame;
        uint64_t found = limit;
        status = walk_find_frame(w, at, limit, &found, &frame, err);
        if (status != LSM_OK || found == limit)
            break;
        uint64_t size = TABLE_FRAME_SIZE + (uint64_t)frame.stored_size;
        struct walk_part *part = part_of_kind(t, frame.kind);
        if (part != NULL) {
            part->extent = (struct table_extent){.offset = found, .size = size};
            if (found < t->data_limit)
                t->data_limit = found;
        }
        at = found + size;
    }
    w->search_left = walk_search_budget(t->file_size);
    return status;
}

static void take_extents(struct walk_table *t)
{
    const struct table_footer *f = &t->footer;
    t->dictionary.extent = f->dictionary;
    t->filter.extent = f->filter;
    t->index.extent = f->index;
    t->properties.extent = f->properties;
    t->data_limit = f->data.size;
}

/* ---- opening --------------------------------------------------------------------------------- */

void walk_table_close(struct walk_table *walk)
{
    if (walk == NULL)
        return;
    struct walk *w = walk_of(walk);
    walk_stream_close(w->stream);
    io_file_close(w->file);
    table_index_release(&w->base.table_index);
    table_properties_release(&w->base.table_properties);
    decompress_dictionary_free(w->prepared);
    decompress_pool_free(w->pool);
    hash_stream_free(w->hash);
    mem_free(w->filter_memory);
    struct buffer *buffers[] = {&w->raw,        &w->last_key, &w->bound_first,
                                &w->bound_last, &w->smallest, &w->largest};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        buffer_release(buffers[i]);
    mem_free(w);
}

static lsm_status take_bounds(struct walk *w, const struct table_meta *meta, lsm_error *err)
{
    struct walk_table *t = &w->base;
    lsm_slice first = {NULL, 0}, last = {NULL, 0};
    if (t->properties.verdict == WALK_SOUND) {
        first = t->table_properties.smallest;
        last = t->table_properties.largest;
    } else if (meta != NULL) {
        first = meta->smallest;
        last = meta->largest;
    } else {
        return LSM_OK;
    }
    if (!buffer_assign(&w->smallest, first) || !buffer_assign(&w->largest, last))
        return lsm_fail_memory(err, first.size + last.size);
    t->first = buffer_slice(&w->smallest);
    t->last = buffer_slice(&w->largest);
    t->has_bounds = true;
    return LSM_OK;
}

static lsm_status load(struct walk *w, const struct walk_table_options *options, lsm_error *err)
{
    struct walk_table *t = &w->base;
    lsm_status status = io_file_size(w->file, &t->file_size, err);
    w->search_left = walk_search_budget(t->file_size);
    if (status == LSM_OK)
        status = find_footers(w, options, err);
    if (status != LSM_OK)
        return status;
    if (t->has_footer)
        take_extents(t);
    else if (t->footers[0].verdict == WALK_NEWER || t->footers[1].verdict == WALK_NEWER)
        t->index.verdict = t->properties.verdict = WALK_LOST;
    else
        status = find_parts(w, options->meta, err);
    if (status == LSM_OK)
        status = load_part(w, &t->properties, TABLE_FRAME_PROPERTIES, take_properties, err);
    if (!t->has_footer && t->properties.verdict == WALK_SOUND &&
        t->table_properties.data_size < t->data_limit)
        t->data_limit = t->table_properties.data_size;
    if (status == LSM_OK)
        status = load_part(w, &t->index, TABLE_FRAME_INDEX, take_index, err);
    if (options->no_index && t->index.verdict == WALK_SOUND)
        malformed(&t->index, "it names places where no blocks are", 0, 0);
    if (status == LSM_OK)
        status = load_part(w, &t->filter, TABLE_FRAME_FILTER, take_filter, err);
    if (status == LSM_OK)
        status = load_part(w, &t->dictionary, TABLE_FRAME_DICTIONARY, take_dictionary, err);
    if (t->properties.verdict == WALK_SOUND)
        t->sequence_base = t->table_properties.sequence_base;
    else if (options->meta != NULL && options->meta->min_sequence == options->meta->max_sequence)
        t->sequence_base = options->meta->max_sequence; /* if its blocks say 0 */
    if (status == LSM_OK)
        status = take_bounds(w, options->meta, err);
    return status;
}

lsm_status walk_table_open(const struct walk_env *env, const struct walk_table_options *options,
                           struct walk_table **walk, lsm_error *err)
{
    struct walk *w = mem_alloc_zeroed(sizeof *w);
    if (w == NULL)
        return lsm_fail_memory(err, sizeof *w);
    char made[FILE_NAME_SIZE];
    const char *name = options->name;
    if (name == NULL)
        name = file_name_make(options->is_blob ? FILE_BLOB : FILE_TABLE, options->number, made);
    w->env = *env;
    if (w->env.memory_limit == 0)
        w->env.memory_limit = WALK_MEMORY_LIMIT;
    w->want_digest = options->want_digest;
    w->base.number = options->number;
    memcpy(w->base.uuid, env->uuid, sizeof w->base.uuid);
    lsm_status status = LSM_OK;
    if (strlen(name) >= sizeof w->base.name)
        status = lsm_fail(err, LSM_INVALID, "the name of a file is longer than %zu bytes",
                          sizeof w->base.name - 1);
    else
        strcpy(w->base.name, name);
    if (status == LSM_OK)
        status = io_file_open(env->dir, name, IO_FILE_DIRECT, 0, &w->file, err);
    if (status == LSM_OK)
        status = load(w, options, err);
    if (status == LSM_OK && (w->pool = decompress_pool_new()) == NULL)
        status = lsm_fail_memory(err, sizeof *w);
    if (status != LSM_OK) {
        walk_table_close(&w->base);
        return status;
    }
    *walk = &w->base;
    return LSM_OK;
}
