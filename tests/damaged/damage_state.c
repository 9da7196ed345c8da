/*
 * Commands on what the manifest says. The first group changes the state and writes the manifest in
 * force anew, as one sound snapshot; the second appends or writes frames that are sound by
 * themselves.
 *
 *     state next-file N | last-sequence N | next-family N | log DELTA | clean
 *     state level TABLE LEVEL | entries TABLE N | file-size TABLE N | sequences TABLE MIN MAX
 *     state values TABLE N (that refer to the first of its blob files)
 *     state smallest TABLE KEY | largest TABLE KEY | family TABLE ID
 *     state add TABLE LEVEL (a table that is not needed comes back) | forget TABLE
 *     state forget-family ID
 *
 *     frame HEX               one more frame, with any payload
 *     edit remove FAMILY LEVEL NUMBER | edit drop FAMILY            one more edit
 *     frames number | chain | no-snapshot                           the manifest with such a fault
 *     mark N                  LOCK says that there was frame N
 */
#include "tests/damaged/damage.h"

#include "engine/base/memory.h"
#include "engine/format/edit_mark.h"
#include "engine/format/file_name.h"
#include "engine/format/table_format.h"
#include "engine/format/table_properties.h"
#include "engine/version/replay.h"

#include <ctype.h>
#include <stdlib.h>

static struct frame_place place_of(const struct surgeon *s)
{
    struct frame_place place = {.file_number = s->atlas.manifest};
    memcpy(place.uuid, s->atlas.uuid, sizeof place.uuid);
    return place;
}

static const char *manifest_name(const struct surgeon *s)
{
    static char name[FILE_NAME_SIZE];
    return file_name_make(FILE_MANIFEST, s->atlas.manifest, name);
}

static void encode(struct surgeon *s, const struct version_edit *edit, struct buffer *bytes)
{
    if (edit_encode(edit, bytes, NULL) != LSM_OK)
        bad_script(s, "the edit cannot be encoded");
}

/* The manifest in force as this snapshot and nothing else. */
static void write_state(struct surgeon *s)
{
    struct frame_place place = place_of(s);
    struct buffer bytes = {0}, payload = {0};
    struct frame_chain chain = frame_begin_file(&place, 50, &bytes);
    encode(s, &s->state, &payload);
    frame_append(&place, FRAME_EDIT, 0, buffer_slice(&payload), &chain, &bytes);
    folder_put(&s->work, manifest_name(s), bytes.data, bytes.size);
    buffer_release(&bytes);
    buffer_release(&payload);
}

/* ---- the state ------------------------------------------------------------------------------- */

static struct table_meta *meta_of(struct surgeon *s, const struct command *c, size_t index)
{
    uint64_t wanted = table_number_of(s, c, index);
    for (size_t i = 0; i < s->state.added_count; i++) {
        if (s->state.added[i].number == wanted)
            return &s->state.added[i];
    }
    bad_script(s, "the manifest does not name '%s'", word(s, c, index));
}

/* `key` is one of the table's. */
static void set_key(struct surgeon *s, struct table_meta *meta, lsm_slice *key, const char *text)
{
    struct table_meta changed;
    lsm_slice before = *key;
    *key = slice_of_text(text);
    if (table_meta_copy(&changed, meta, NULL) != LSM_OK)
        bad_script(s, "out of memory");
    *key = before;
    table_meta_release(meta);
    *meta = changed;
}

/* A table that is there, as its own properties describe it. */
static void add_table(struct surgeon *s, const struct command *c)
{
    struct table_footer footer;
    struct table_problem problem;
    struct table_frame frame;
    struct table_properties p;
    const struct folder_file *file = file_of(s, c, 2);
    uint64_t of_file = table_number_of(s, c, 2), at = table_footer_offset(file->size, 0);
    if (table_footer_decode(file->bytes + at, at, file->size, s->atlas.uuid, of_file, &footer,
                            &problem) != LSM_OK)
        bad_script(s, "the table is not sound");
    lsm_slice bytes = {file->bytes + footer.properties.offset, footer.properties.size};
    if (!table_frame_open(bytes, hash_place(s->atlas.uuid, of_file, footer.properties.offset),
                          &frame, &problem) ||
        table_properties_decode(table_frame_payload(bytes, &frame), &p, NULL) != LSM_OK)
        bad_script(s, "the properties are not sound");
    struct table_meta meta = {.number = of_file,
                              .size = file->size,
                              .cf = p.cf,
                              .level = (uint32_t)number(s, c, 3),
                              .smallest = p.smallest,
                              .largest = p.largest,
                              .min_sequence = p.min_sequence,
                              .max_sequence = p.max_sequence,
                              .entry_count = p.entry_count,
                              .delete_count = p.delete_count,
                              .raw_size = p.raw_size};
    if (edit_add_table(&s->state, &meta, NULL) != LSM_OK)
        bad_script(s, "out of memory");
    table_properties_release(&p);
}

static void forget_table(struct surgeon *s, const struct command *c)
{
    struct table_meta *meta = meta_of(s, c, 2);
    table_meta_release(meta);
    *meta = s->state.added[--s->state.added_count];
}

static void forget_family(struct surgeon *s, uint32_t id)
{
    for (size_t i = 0; i < s->state.created_count; i++) {
        if (s->state.created[i].id != id)
            continue;
        mem_free(s->state.created[i].name);
        memmove(&s->state.created[i], &s->state.created[i + 1],
                (--s->state.created_count - i) * sizeof *s->state.created);
        return;
    }
    bad_script(s, "there is no family of that id");
}

static bool change_table(struct surgeon *s, const struct command *c, const char *field)
{
    if (strcmp(field, "level") == 0)
        meta_of(s, c, 2)->level = (uint32_t)number(s, c, 3);
    else if (strcmp(field, "entries") == 0)
        meta_of(s, c, 2)->entry_count = (uint64_t)number(s, c, 3);
    else if (strcmp(field, "file-size") == 0)
        meta_of(s, c, 2)->size = (uint64_t)number(s, c, 3);
    else if (strcmp(field, "values") == 0 && meta_of(s, c, 2)->blob_count > 0)
        meta_of(s, c, 2)->blobs[0].entry_count = (uint64_t)number(s, c, 3);
    else if (strcmp(field, "family") == 0)
        meta_of(s, c, 2)->cf = (uint32_t)number(s, c, 3);
    else if (strcmp(field, "sequences") == 0) {
        meta_of(s, c, 2)->min_sequence = (uint64_t)number(s, c, 3);
        meta_of(s, c, 2)->max_sequence = (uint64_t)number(s, c, 4);
    } else if (strcmp(field, "smallest") == 0)
        set_key(s, meta_of(s, c, 2), &meta_of(s, c, 2)->smallest, word(s, c, 3));
    else if (strcmp(field, "largest") == 0)
        set_key(s, meta_of(s, c, 2), &meta_of(s, c, 2)->largest, word(s, c, 3));
    else if (strcmp(field, "add") == 0)
        add_table(s, c);
    else if (strcmp(field, "forget") == 0)
        forget_table(s, c);
    else
        return false;
    return true;
}

static void change_state(struct surgeon *s, const struct command *c)
{
    const char *field = word(s, c, 1);
    if (strcmp(field, "next-file") == 0)
        s->state.next_file_number = (uint64_t)number(s, c, 2);
    else if (strcmp(field, "last-sequence") == 0)
        s->state.last_sequence = (uint64_t)number(s, c, 2);
    else if (strcmp(field, "next-family") == 0)
        s->state.next_cf = (uint32_t)number(s, c, 2);
    else if (strcmp(field, "log") == 0)
        s->state.log_position += (uint64_t)number(s, c, 2);
    else if (strcmp(field, "clean") == 0)
        s->state.clean = true;
    else if (strcmp(field, "forget-family") == 0)
        forget_family(s, (uint32_t)number(s, c, 2));
    else if (!change_table(s, c, field))
        bad_script(s, "the state has no '%s'", field);
    write_state(s);
}

/* ---- frames ---------------------------------------------------------------------------------- */

static void append_frame(struct surgeon *s, lsm_slice payload)
{
    struct frame_place place = place_of(s);
    const struct folder_file *file = folder_find(&s->work, manifest_name(s));
    struct version_edit state;
    struct frame_chain chain;
    struct buffer bytes = {0};
    bool is_torn;
    if (replay_manifest(&place, file->name, LSM_SLICE(file->bytes, file->size), &state, &chain,
                        &is_torn, NULL) != LSM_OK)
        bad_script(s, "the manifest cannot be appended to");
    edit_release(&state);
    buffer_append(&bytes, file->bytes, file->size);
    frame_append(&place, FRAME_EDIT, 0, payload, &chain, &bytes);
    folder_put(&s->work, manifest_name(s), bytes.data, bytes.size);
    buffer_release(&bytes);
}

static void append_hex(struct surgeon *s, const char *hex)
{
    struct buffer payload = {0};
    for (; hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
        char digits[3] = {hex[0], hex[1], '\0'};
        buffer_append_u8(&payload, (uint8_t)strtoul(digits, NULL, 16));
    }
    append_frame(s, buffer_slice(&payload));
    buffer_release(&payload);
}

static void append_edit(struct surgeon *s, const struct command *c)
{
    struct version_edit edit = {0};
    struct buffer payload = {0};
    lsm_status status;
    if (strcmp(word(s, c, 1), "drop") == 0)
        status = edit_drop_cf(&edit, (uint32_t)number(s, c, 2), NULL);
    else
        status = edit_remove_table(&edit, (uint32_t)number(s, c, 2), (uint32_t)number(s, c, 3),
                                   (uint64_t)number(s, c, 4), NULL);
    if (status != LSM_OK)
        bad_script(s, "out of memory");
    encode(s, &edit, &payload);
    append_frame(s, buffer_slice(&payload));
    edit_release(&edit);
    buffer_release(&payload);
}

/* The state in two frames that do not fit together, or without the snapshot that has to be first.
 */
static void write_frames(struct surgeon *s, const char *fault)
{
    struct frame_place place = place_of(s);
    struct version_edit nothing = {.last_sequence = s->state.last_sequence};
    struct buffer bytes = {0}, snapshot = {0}, edit = {0};
    struct frame_chain chain = frame_begin_file(&place, 50, &bytes);
    encode(s, &s->state, &snapshot);
    encode(s, &nothing, &edit);
    if (strcmp(fault, "no-snapshot") != 0)
        frame_append(&place, FRAME_EDIT, 0, buffer_slice(&snapshot), &chain, &bytes);
    if (strcmp(fault, "number") == 0)
        chain.number++;
    else if (strcmp(fault, "chain") == 0)
        chain.previous ^= 1;
    frame_append(&place, FRAME_EDIT, 0, buffer_slice(&edit), &chain, &bytes);
    frame_append(&place, FRAME_EDIT, 0, buffer_slice(&edit), &chain, &bytes);
    folder_put(&s->work, manifest_name(s), bytes.data, bytes.size);
    buffer_release(&bytes);
    buffer_release(&snapshot);
    buffer_release(&edit);
}

static void mark_frame(struct surgeon *s, const struct command *c)
{
    struct edit_mark mark = {.frame_number = (uint64_t)number(s, c, 1)};
    struct folder_file *lock = folder_find(&s->work, "LOCK");
    if (lock == NULL)
        bad_script(s, "there is no LOCK");
    memcpy(mark.uuid, s->atlas.uuid, sizeof mark.uuid);
    if (lock->size < EDIT_MARK_OFFSET + EDIT_MARK_SIZE)
        folder_resize(lock, EDIT_MARK_OFFSET + EDIT_MARK_SIZE);
    edit_mark_encode(&mark, lock->bytes + EDIT_MARK_OFFSET);
}

bool damage_state(struct surgeon *s, const struct command *c)
{
    const char *name = c->words[0];
    if (strcmp(name, "state") == 0)
        change_state(s, c);
    else if (strcmp(name, "frame") == 0)
        append_hex(s, word(s, c, 1));
    else if (strcmp(name, "edit") == 0)
        append_edit(s, c);
    else if (strcmp(name, "frames") == 0)
        write_frames(s, word(s, c, 1));
    else if (strcmp(name, "mark") == 0)
        mark_frame(s, c);
    else
        return false;
    return true;
}
