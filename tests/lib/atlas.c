/* Files and tables; the log is in atlas_log.c. */
#include "tests/lib/atlas_private.h"

#include "engine/base/memory.h"
#include "engine/format/blob.h"
#include "engine/format/block_columns.h"
#include "engine/format/compress.h"
#include "engine/format/current.h"
#include "engine/format/file_name.h"
#include "engine/format/table_filter.h"
#include "engine/format/table_index.h"
#include "engine/version/replay.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const kind_names[ATLAS_KINDS] = {
    "CURRENT", "manifest header", "manifest frame", "block",          "dictionary", "filter",
    "index",   "properties",      "footer",         "segment header", "record",
};

const char *atlas_kind_name(enum atlas_kind kind)
{
    return kind_names[kind];
}

bool atlas_fail(const char *file, const char *what)
{
    fprintf(stderr, "the atlas: '%s': %s\n", file, what);
    return false;
}

struct atlas_part *atlas_add_part(struct atlas *a, enum atlas_kind kind, const char *file,
                                  uint64_t offset, uint64_t size)
{
    if ((a->part_count & (a->part_count - 1)) == 0)
        a->parts = test_resize(a->parts, (2 * a->part_count + 1) * sizeof *a->parts);
    struct atlas_part *part = &a->parts[a->part_count++];
    *part = (struct atlas_part){.kind = kind,
                                .offset = offset,
                                .size = size,
                                .checked = size,
                                .checksum = offset,
                                .is_proven = true};
    snprintf(part->file, sizeof part->file, "%s", file);
    return part;
}

void atlas_add_entry(struct atlas *a, const struct atlas_entry *entry, lsm_slice value)
{
    if ((a->entry_count & (a->entry_count - 1)) == 0)
        a->entries = test_resize(a->entries, (2 * a->entry_count + 1) * sizeof *a->entries);
    struct atlas_entry *added = &a->entries[a->entry_count++];
    uint8_t *key = test_alloc(entry->key.size);
    if (entry->key.size > 0)
        memcpy(key, entry->key.data, entry->key.size);
    *added = *entry;
    added->key.data = key;
    added->value_size = (uint32_t)value.size;
    added->value_hash = model_hash(value);
    if (entry->sequence > a->last_sequence)
        a->last_sequence = entry->sequence;
}

void atlas_release(struct atlas *a)
{
    for (size_t i = 0; i < a->entry_count; i++)
        free((void *)(uintptr_t)a->entries[i].key.data);
    for (size_t i = 0; i < a->value_count; i++)
        free((void *)(uintptr_t)a->values[i].entry.key.data);
    free(a->values);
    free(a->entries);
    free(a->parts);
    *a = (struct atlas){0};
}

/* ---- tables ---------------------------------------------------------------------------------- */

struct table_walk {
    struct atlas *atlas;
    const struct folder_file *file;
    uint64_t number;
    bool is_live;
    bool is_blob; /* its entries are what those of tables refer to */
    struct table_footer footer;
    struct decompress_pool *pool;
    struct decompress_dictionary *dictionary;
    size_t dictionary_part; /* SIZE_MAX: none */
};

/* The frame at `extent` as a part. */
static struct atlas_part *add_frame(struct table_walk *w, enum atlas_kind kind,
                                    struct table_extent extent, struct table_frame *frame)
{
    struct table_problem problem;
    uint64_t seed = hash_place(w->atlas->uuid, w->number, extent.offset);
    if (extent.size > w->file->size || extent.offset > w->file->size - extent.size ||
        !table_frame_open(LSM_SLICE(w->file->bytes + extent.offset, extent.size), seed, frame,
                          &problem))
        return NULL;
    struct atlas_part *part =
        atlas_add_part(w->atlas, kind, w->file->name, extent.offset, extent.size);
    part->checked = TABLE_FRAME_SIZE + frame->stored_size;
    part->seed = seed;
    part->is_live = w->is_live;
    part->family = frame->cf;
    part->entries = frame->entry_count;
    return part;
}

/* A value of a blob file, as an entry that no family has yet. */
static void atlas_add_value(struct atlas *a, uint64_t number, const struct atlas_entry *entry,
                            lsm_slice value)
{
    atlas_add_entry(a, entry, value);
    struct atlas_entry *added = &a->entries[--a->entry_count];
    if ((a->value_count & (a->value_count - 1)) == 0)
        a->values = test_resize(a->values, (2 * a->value_count + 1) * sizeof *a->values);
    a->values[a->value_count++] = (struct atlas_value){.entry = *added, .number = number};
}

/* An entry whose value is in a blob file takes what that takes to read. */
static bool add_referred(struct table_walk *w, struct atlas_entry *entry, lsm_slice reference)
{
    struct blob_reference to;
    struct atlas *a = w->atlas;
    if (!blob_reference_decode(reference, &to))
        return atlas_fail(w->file->name, "an entry is no reference");
    for (size_t i = 0; i < a->value_count; i++) {
        const struct atlas_entry *v = &a->values[i].entry;
        if (a->values[i].number != to.number || v->sequence != entry->sequence ||
            !slice_equal(v->key, entry->key))
            continue;
        entry->needs[entry->need_count++] = v->needs[0];
        atlas_add_entry(a, entry, LSM_SLICE("", 0));
        a->entries[a->entry_count - 1].value_size = v->value_size;
        a->entries[a->entry_count - 1].value_hash = v->value_hash;
        return true;
    }
    return atlas_fail(w->file->name, "an entry refers to a value that is not there");
}

/* The block's entries. */
static bool read_block(struct table_walk *w, size_t part, const struct table_frame *frame)
{
    uint64_t offset = w->atlas->parts[part].offset;
    lsm_slice stored = {w->file->bytes + offset + TABLE_FRAME_SIZE, frame->stored_size};
    struct buffer key = {0};
    bool no_memory, sound;
    uint8_t *raw = test_alloc(frame->raw_size);
    if (frame->compression == TABLE_RAW)
        memcpy(raw, stored.data, stored.size);
    else if (block_unpack(w->pool, w->dictionary, frame, stored, raw, &no_memory) != NULL)
        return atlas_fail(w->file->name, "a block cannot be decompressed");
    sound = block_check(raw, frame->raw_size) == NULL;
    struct block_view view = {0};
    if (sound)
        view = block_view_of(raw);
    for (uint32_t i = 0; sound && w->is_live && i < view.count; i++) {
        uint64_t trailer = block_trailer(&view, i);
        lsm_slice value = block_value(&view, i);
        struct atlas_entry entry = {.family = frame->cf,
                                    .is_delete = entry_type_of(trailer) == ENTRY_DELETE,
                                    .sequence = entry_sequence(trailer),
                                    .needs = {part, w->dictionary_part},
                                    .need_count = block_wants_dictionary(frame) ? 2 : 1};
        buffer_clear(&key);
        sound = block_copy_key(&view, i, &key);
        entry.key = buffer_slice(&key);
        if (w->is_blob)
            atlas_add_value(w->atlas, w->number, &entry, value);
        else if (entry_type_of(trailer) == ENTRY_BLOB)
            sound = add_referred(w, &entry, value);
        else
            atlas_add_entry(w->atlas, &entry, value);
    }
    buffer_release(&key);
    free(raw);
    return sound || atlas_fail(w->file->name, "a block is not sound");
}

static bool walk_blocks(struct table_walk *w)
{
    struct table_index index;
    struct table_problem problem;
    struct table_frame frame;
    lsm_slice payload;
    bool sound = true;
    struct atlas_part *part = add_frame(w, ATLAS_INDEX, w->footer.index, &frame);
    if (part == NULL)
        return atlas_fail(w->file->name, "the index is not sound");
    payload = LSM_SLICE(w->file->bytes + part->offset + TABLE_FRAME_SIZE, frame.stored_size);
    if (!table_index_decode(payload, w->footer.data.size, &index, &problem))
        return atlas_fail(w->file->name, "the index cannot be decoded");
    for (uint32_t i = 0; i < index.count && sound; i++) {
        struct table_extent extent = {index.offsets[i], index.offsets[i + 1] - index.offsets[i]};
        part = add_frame(w, ATLAS_BLOCK, extent, &frame);
        sound = part != NULL ? read_block(w, w->atlas->part_count - 1, &frame)
                             : atlas_fail(w->file->name, "a block's frame is not sound");
    }
    table_index_release(&index);
    return sound;
}

static void add_footers(struct table_walk *w)
{
    for (size_t i = 0; i < TABLE_FOOTER_COUNT; i++) {
        uint64_t offset = table_footer_offset(w->file->size, i);
        struct atlas_part *part =
            atlas_add_part(w->atlas, ATLAS_FOOTER, w->file->name, offset, TABLE_PAGE_SIZE);
        part->checked = TABLE_FOOTER_SIZE;
        part->checksum = offset + TABLE_FOOTER_SIZE - 8;
        part->seed = hash_place(w->atlas->uuid, w->number, offset);
        part->is_live = w->is_live;
    }
}

static bool walk_parts(struct table_walk *w)
{
    struct table_frame frame;
    if (w->footer.dictionary.size > 0) {
        struct atlas_part *part = add_frame(w, ATLAS_DICTIONARY, w->footer.dictionary, &frame);
        if (part == NULL)
            return atlas_fail(w->file->name, "the dictionary is not sound");
        w->dictionary_part = w->atlas->part_count - 1;
        w->dictionary = decompress_dictionary_new(
            LSM_SLICE(w->file->bytes + part->offset + TABLE_FRAME_SIZE, frame.stored_size));
    }
    if (w->footer.filter.size > 0 && add_frame(w, ATLAS_FILTER, w->footer.filter, &frame) == NULL)
        return atlas_fail(w->file->name, "the filter is not sound");
    if (add_frame(w, ATLAS_PROPERTIES, w->footer.properties, &frame) == NULL)
        return atlas_fail(w->file->name, "the properties are not sound");
    add_footers(w);
    return walk_blocks(w);
}

static bool walk_table(struct atlas *a, const struct folder_file *file, uint64_t number,
                       bool is_live, bool is_blob)
{
    struct table_walk w = {
        .atlas = a, .file = file, .number = number, .is_live = is_live, .is_blob = is_blob};
    struct table_problem problem;
    w.dictionary_part = SIZE_MAX;
    if (file->size < TABLE_MIN_FILE_SIZE)
        return atlas_fail(file->name, "too short");
    uint64_t offset = table_footer_offset(file->size, 0);
    if (table_footer_decode(file->bytes + offset, offset, file->size, a->uuid, number, &w.footer,
                            &problem) != LSM_OK)
        return atlas_fail(file->name, problem.what);
    w.pool = decompress_pool_new();
    bool sound = walk_parts(&w);
    decompress_dictionary_free(w.dictionary);
    decompress_pool_free(w.pool);
    return sound;
}

static bool is_named(const struct version_edit *state, uint64_t number)
{
    for (size_t i = 0; i < state->added_count; i++) {
        if (state->added[i].number == number)
            return true;
    }
    for (size_t i = 0; i < state->blob_count; i++) {
        if (state->blobs[i].number == number)
            return true;
    }
    return false;
}

/* Or the blob files, which come first. */
static bool walk_tables(struct atlas *a, const struct folder *files,
                        const struct version_edit *state, enum file_kind wanted)
{
    bool sound = true;
    for (size_t i = 0; i < files->count && sound; i++) {
        enum file_kind kind;
        uint64_t number;
        if (file_name_parse(files->files[i].name, &kind, &number) && kind == wanted)
            sound = walk_table(a, &files->files[i], number, is_named(state, number),
                               wanted == FILE_BLOB);
    }
    return sound;
}

/* ---- manifests ------------------------------------------------------------------------------- */

static bool walk_manifest(struct atlas *a, const struct folder_file *file, uint64_t number)
{
    struct frame_place place = {.file_number = number};
    struct frame_reader reader;
    struct frame frame;
    enum frame_result result;
    memcpy(place.uuid, a->uuid, sizeof place.uuid);
    if (frame_reader_open(&reader, &place, file->name, LSM_SLICE(file->bytes, file->size), NULL) !=
        LSM_OK)
        return atlas_fail(file->name, "the header is not sound");
    struct atlas_part *part =
        atlas_add_part(a, ATLAS_MANIFEST_HEADER, file->name, 0, FRAME_FILE_HEADER_SIZE);
    part->checksum = FRAME_FILE_HEADER_SIZE - 8;
    part->seed = hash_place(a->uuid, number, 0);
    part->is_live = number == a->manifest;
    for (;;) {
        if (frame_next(&reader, &result, &frame, NULL) != LSM_OK || result == FRAME_TORN)
            return atlas_fail(file->name, "a frame is not sound");
        if (result == FRAME_END) {
            part->is_proven = false; /* the last one */
            return true;
        }
        part = atlas_add_part(a, ATLAS_MANIFEST_FRAME, file->name, frame.offset, frame.size);
        part->seed = hash_place(a->uuid, number, frame.offset);
        part->is_live = number == a->manifest;
    }
}

/* The state that CURRENT leads to, owned by the caller. */
static bool read_state(struct atlas *a, const struct folder *files, struct version_edit *state)
{
    char name[FILE_NAME_SIZE];
    struct folder_file *current = folder_find(files, "CURRENT");
    if (current == NULL || current_decode((const char *)current->bytes, current->size, "", a->uuid,
                                          &a->manifest, NULL) != LSM_OK)
        return atlas_fail("CURRENT", "not sound");
    struct atlas_part *part = atlas_add_part(a, ATLAS_CURRENT, "CURRENT", 0, current->size);
    part->checksum = ATLAS_NO_CHECKSUM;
    part->is_live = true;
    struct folder_file *file = folder_find(files, file_name_make(FILE_MANIFEST, a->manifest, name));
    struct frame_place place = {.file_number = a->manifest};
    memcpy(place.uuid, a->uuid, sizeof place.uuid);
    struct frame_chain chain;
    bool is_torn;
    lsm_error error = {0};
    if (file == NULL || replay_manifest(&place, name, LSM_SLICE(file->bytes, file->size), state,
                                        &chain, &is_torn, &error) != LSM_OK)
        return atlas_fail(name, error.message);
    return true;
}

bool atlas_make(struct atlas *a, const struct folder *files)
{
    struct version_edit state;
    *a = (struct atlas){0};
    if (!read_state(a, files, &state))
        return false;
    bool sound =
        walk_tables(a, files, &state, FILE_BLOB) && walk_tables(a, files, &state, FILE_TABLE);
    for (size_t i = 0; i < files->count && sound; i++) {
        enum file_kind kind;
        uint64_t number;
        if (file_name_parse(files->files[i].name, &kind, &number) && kind == FILE_MANIFEST)
            sound = walk_manifest(a, &files->files[i], number);
    }
    a->proven_sequence = a->last_sequence;
    if (sound)
        sound = atlas_walk_log(a, files, &state);
    edit_release(&state);
    return sound;
}

/* ---- asking ---------------------------------------------------------------------------------- */

const struct atlas_part *atlas_find(const struct atlas *a, const char *file, uint64_t offset)
{
    for (size_t i = 0; i < a->part_count; i++) {
        const struct atlas_part *part = &a->parts[i];
        if (offset >= part->offset && offset - part->offset < part->size &&
            strcmp(part->file, file) == 0)
            return part;
    }
    return NULL;
}

const struct atlas_part *atlas_nth(const struct atlas *a, enum atlas_kind kind, size_t index)
{
    for (size_t i = 0; i < a->part_count; i++) {
        if (a->parts[i].kind == kind && a->parts[i].is_live && index-- == 0)
            return &a->parts[i];
    }
    return NULL;
}

void atlas_seal(const struct atlas_part *part, struct folder_file *file)
{
    if (part->checksum == ATLAS_NO_CHECKSUM || part->offset + part->checked > file->size)
        return;
    uint8_t *at = file->bytes + part->offset;
    size_t size = (size_t)part->checked - 8;
    if (part->checksum == part->offset)
        bytes_put_u64(at, hash_bytes(at + 8, size, part->seed));
    else
        bytes_put_u64(at + size, hash_bytes(at, size, part->seed));
}
