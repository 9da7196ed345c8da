/* The log: from the position that the manifest names through the segments, then the ring. */
#include "tests/lib/atlas_private.h"

#include "engine/format/batch.h"
#include "engine/format/file_name.h"
#include "engine/format/log_record.h"
#include "engine/format/stage_trailer.h"

#include <stdlib.h>

#define SEGMENTS_MAX 64 /* of a small database */

struct segment {
    struct log_segment_header header;
    const struct folder_file *file;
    size_t part;    /* of its header */
    uint64_t limit; /* the log goes on elsewhere from here */
    bool is_sealed; /* by the next one */
};

struct log_walk {
    struct atlas *atlas;
    const struct version_edit *state;
    struct segment segments[SEGMENTS_MAX];
    size_t count;
    uint64_t position, chain, synced;
};

static int segment_order(const void *a, const void *b)
{
    const struct segment *x = a, *y = b;
    return (x->header.number > y->header.number) - (x->header.number < y->header.number);
}

static bool add_segment(struct log_walk *w, const struct folder_file *file, uint64_t number)
{
    struct segment *segment = &w->segments[w->count];
    if (w->count == SEGMENTS_MAX || file->size < LOG_SEGMENT_HEADER ||
        log_segment_decode(file->bytes, w->atlas->uuid, number, &segment->header) != LOG_SEGMENT_OK)
        return atlas_fail(file->name, "no sound segment");
    struct atlas_part *part =
        atlas_add_part(w->atlas, ATLAS_SEGMENT_HEADER, file->name, 0, LOG_SEGMENT_HEADER);
    part->checksum = LOG_SEGMENT_HEADER - 8;
    part->seed = hash_place(w->atlas->uuid, number, 0);
    segment->file = file;
    segment->part = w->atlas->part_count - 1;
    segment->limit = segment->header.start + (file->size - LOG_SEGMENT_HEADER);
    w->count++;
    return true;
}

static bool find_segments(struct log_walk *w, const struct folder *files)
{
    for (size_t i = 0; i < files->count; i++) {
        enum file_kind kind;
        uint64_t number;
        if (file_name_parse(files->files[i].name, &kind, &number) && kind == FILE_WAL &&
            !add_segment(w, &files->files[i], number))
            return false;
    }
    qsort(w->segments, w->count, sizeof *w->segments, segment_order);
    for (size_t i = 0; i < w->count; i++) {
        struct segment *s = &w->segments[i];
        s->is_sealed = i + 1 < w->count;
        if (s->is_sealed && w->segments[i + 1].header.start < s->limit)
            s->limit = w->segments[i + 1].header.start;
        w->atlas->parts[s->part].is_proven = s->is_sealed;
        w->atlas->parts[s->part].is_live = s->limit > w->state->log_position || !s->is_sealed;
    }
    return true;
}

/* The record as a part, and its entries. */
static bool add_record(struct log_walk *w, const struct segment *s, const char *file,
                       uint64_t offset, const struct log_record *record)
{
    struct atlas_part *part = atlas_add_part(w->atlas, ATLAS_RECORD, file, offset, record->size);
    struct atlas_entry entry = {.sequence = record->sequence,
                                .needs = {w->atlas->part_count - 1, s->part},
                                .need_count = 2};
    struct batch_reader reader = batch_read(record->batch);
    struct batch_entry read;
    part->checksum = offset + record->size - 8;
    part->seed = log_segment_seed(&s->header, record->position);
    part->is_live = true;
    part->is_proven = s->is_sealed && file == s->file->name;
    part->position = record->position;
    part->sequence = record->sequence;
    part->entries = batch_count(record->batch);
    while (batch_next(&reader, &read)) {
        entry.family = read.cf;
        entry.is_delete = read.type == ENTRY_DELETE;
        entry.key = read.key;
        atlas_add_entry(w->atlas, &entry, read.value);
    }
    if (record->synced > w->synced)
        w->synced = record->synced;
    w->position += record->size;
    w->chain = record->checksum;
    return !reader.corrupt;
}

static bool is_next(const struct log_walk *w, const struct segment *s,
                    const struct log_record *record)
{
    uint64_t wanted = w->position == s->header.resume ? s->header.chain : w->chain;
    return w->chain == 0 || record->previous == wanted;
}

static void follow_segment(struct log_walk *w, const struct segment *s)
{
    while (w->position >= s->header.start && w->position < s->limit) {
        struct log_record record;
        uint64_t offset = LOG_SEGMENT_HEADER + (w->position - s->header.start);
        lsm_slice bytes = {s->file->bytes + offset, (size_t)(s->limit - w->position)};
        if (log_record_decode(bytes, w->position, log_segment_seed(&s->header, w->position),
                              &record) != LOG_RECORD_OK ||
            !is_next(w, s, &record))
            return;
        add_record(w, s, s->file->name, offset, &record);
    }
}

static void follow_ring(struct log_walk *w, const struct segment *s, const struct folder_file *ring)
{
    size_t size = ring->size - STAGE_TRAILER_SIZE;
    uint8_t *turned = test_alloc(size);
    for (;;) {
        struct log_record record;
        size_t offset = (size_t)(w->position % size);
        memcpy(turned, ring->bytes + offset, size - offset);
        memcpy(turned + (size - offset), ring->bytes, offset);
        if (log_record_decode(LSM_SLICE(turned, size), w->position,
                              log_segment_seed(&s->header, w->position),
                              &record) != LOG_RECORD_OK ||
            !is_next(w, s, &record))
            break;
        add_record(w, s, ring->name, offset, &record);
    }
    free(turned);
}

static void prove(struct log_walk *w)
{
    struct atlas *a = w->atlas;
    for (size_t i = 0; i < a->part_count; i++) {
        struct atlas_part *part = &a->parts[i];
        if (part->kind != ATLAS_RECORD)
            continue;
        part->is_proven = part->is_proven || part->position < w->synced;
        if (part->is_proven && part->sequence > a->proven_sequence)
            a->proven_sequence = part->sequence;
    }
}

bool atlas_walk_log(struct atlas *a, const struct folder *files, const struct version_edit *state)
{
    struct log_walk w = {.atlas = a, .state = state};
    w.position = state->log_position;
    w.chain = state->log_chain;
    if (!find_segments(&w, files))
        return false;
    for (size_t i = 0; i < w.count; i++)
        follow_segment(&w, &w.segments[i]);
    const struct folder_file *ring = folder_find(files, "STAGE");
    if (ring != NULL && ring->size > STAGE_TRAILER_SIZE && w.count > 0)
        follow_ring(&w, &w.segments[w.count - 1], ring);
    prove(&w);
    return true;
}
