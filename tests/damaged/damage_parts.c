/*
 * Commands on parts, runs of bytes with one checksum. PART is three words: file, kind, and which of
 * them in the file (from the end: negative); OFFSET counts from the beginning of the part
 * (negative: from its end).
 *
 *     flip PART OFFSET BIT    set PART OFFSET HEX    zero PART OFFSET SIZE
 *     add PART OFFSET WIDTH DELTA                    to a little-endian number of WIDTH bytes
 *     seal PART               makes its checksum right for what stands there now
 *     exchange PART OFFSET OFFSET SIZE               two runs of bytes of one part
 *     payload PART SIZE       gives a frame of a table a payload of SIZE bytes, and seals it
 *     swap PART PART          exchanges as many bytes as the smaller one has
 *     copy PART PART          the first over the second
 *     properties FILE FIELD VALUE [VALUE]            writes the properties of a table anew
 *     chain PART              makes the records from this one on follow each other again
 */
#include "tests/damaged/damage.h"

#include "engine/base/hash.h"
#include "engine/format/log_record.h"
#include "engine/format/table_format.h"
#include "engine/format/table_properties.h"

#include <ctype.h>
#include <stdlib.h>

static uint8_t *bytes_of(struct surgeon *s, const struct atlas_part *part, int64_t offset,
                         size_t size)
{
    struct folder_file *file = folder_find(&s->work, part->file);
    uint64_t at = part->offset + (offset < 0 ? part->size : 0) + (uint64_t)offset;
    if (file == NULL || at + size > file->size)
        bad_script(s, "'%s' has no bytes there", part->file);
    return file->bytes + at;
}

static void set_bytes(struct surgeon *s, const struct atlas_part *part, int64_t offset,
                      const char *hex)
{
    uint8_t *at = bytes_of(s, part, offset, strlen(hex) / 2);
    for (; hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
        char digits[3] = {hex[0], hex[1], '\0'};
        if (!isxdigit((unsigned char)hex[0]) || !isxdigit((unsigned char)hex[1]))
            bad_script(s, "'%s' is not hexadecimal", hex);
        *at++ = (uint8_t)strtoul(digits, NULL, 16);
    }
}

static void add_to(struct surgeon *s, const struct command *c)
{
    size_t width = (size_t)number(s, c, 5);
    uint8_t *at = bytes_of(s, part_of(s, c, 1), number(s, c, 4), width);
    uint64_t value = (uint64_t)number(s, c, 6);
    for (size_t i = 0; i < width; i++) {
        value += at[i];
        at[i] = (uint8_t)value;
        value >>= 8;
    }
}

/* For what stands there now: the frame of a table may have another size than before. */
static void seal(struct surgeon *s, const struct atlas_part *sealed)
{
    struct atlas_part part = *sealed;
    uint8_t *at = bytes_of(s, &part, 0, 8);
    if (part.kind >= ATLAS_BLOCK && part.kind <= ATLAS_PROPERTIES &&
        bytes_get_u32(at + 16) <= part.size - TABLE_FRAME_SIZE) {
        part.checked = TABLE_FRAME_SIZE + bytes_get_u32(at + 16);
        memset(at + part.checked, 0, (size_t)(part.size - part.checked));
    }
    atlas_seal(&part, folder_find(&s->work, part.file));
}

static void exchange(struct surgeon *s, const struct command *c)
{
    const struct atlas_part *part = part_of(s, c, 1);
    size_t size = (size_t)number(s, c, 6);
    uint8_t *x = bytes_of(s, part, number(s, c, 4), size);
    uint8_t *y = bytes_of(s, part, number(s, c, 5), size);
    for (size_t i = 0; i < size; i++) {
        uint8_t kept = x[i];
        x[i] = y[i];
        y[i] = kept;
    }
}

static void set_payload(struct surgeon *s, const struct command *c)
{
    const struct atlas_part *part = part_of(s, c, 1);
    uint32_t size = (uint32_t)number(s, c, 4);
    uint8_t *frame = bytes_of(s, part, 0, TABLE_FRAME_SIZE + size);
    bytes_put_u32(frame + 16, size);
    bytes_put_u32(frame + 20, size);
    seal(s, part);
}

static void swap_or_copy(struct surgeon *s, const struct command *c, bool swap)
{
    const struct atlas_part *a = part_of(s, c, 1), *b = part_of(s, c, 4);
    size_t size = (size_t)(a->size < b->size ? a->size : b->size);
    uint8_t *x = bytes_of(s, a, 0, size), *y = bytes_of(s, b, 0, size);
    for (size_t i = 0; i < size; i++) {
        uint8_t kept = y[i];
        y[i] = x[i];
        x[i] = swap ? kept : x[i];
    }
}

/* ---- properties ------------------------------------------------------------------------------ */

/* How many entries refer to the first of its blob files. Valid until the next call. */
static void change_uses(struct surgeon *s, const struct command *c, struct table_properties *p)
{
    static struct blob_use uses[8];
    if (p->blob_count == 0 || p->blob_count > sizeof uses / sizeof *uses)
        bad_script(s, "it refers to %zu blob files", p->blob_count);
    memcpy(uses, p->blobs, p->blob_count * sizeof *uses);
    uses[0].entry_count = (uint64_t)number(s, c, 3);
    p->blobs = uses;
}

static void change_property(struct surgeon *s, const struct command *c, struct table_properties *p)
{
    const char *field = word(s, c, 2);
    if (strcmp(field, "smallest") == 0)
        p->smallest = slice_of_text(word(s, c, 3));
    else if (strcmp(field, "largest") == 0)
        p->largest = slice_of_text(word(s, c, 3));
    else if (strcmp(field, "entries") == 0)
        p->entry_count = (uint64_t)number(s, c, 3);
    else if (strcmp(field, "deletes") == 0)
        p->delete_count = (uint64_t)number(s, c, 3);
    else if (strcmp(field, "blocks") == 0)
        p->block_count = (uint64_t)number(s, c, 3);
    else if (strcmp(field, "sequences") == 0) {
        p->min_sequence = (uint64_t)number(s, c, 3);
        p->max_sequence = (uint64_t)number(s, c, 4);
    } else if (strcmp(field, "digest") == 0)
        p->digest = (uint64_t)number(s, c, 3);
    else if (strcmp(field, "values") == 0)
        change_uses(s, c, p);
    else
        bad_script(s, "there is no property '%s'", field);
}

/* Where the old ones stand, with room up to the footers. */
static void set_property(struct surgeon *s, const struct command *c)
{
    const char *words[] = {"properties", word(s, c, 1), "properties", "0"};
    struct command place = {.words = {words[0], words[1], words[2], words[3]}, .count = 4};
    struct atlas_part part = *part_of(s, &place, 1);
    struct table_frame frame;
    struct table_problem problem;
    struct table_properties p, kept;
    struct buffer encoded = {0};
    uint8_t *at = bytes_of(s, &part, 0, (size_t)part.size);
    if (!table_frame_open(LSM_SLICE(at, part.size), part.seed, &frame, &problem) ||
        table_properties_decode(table_frame_payload(LSM_SLICE(at, part.size), &frame), &p, NULL) !=
            LSM_OK)
        bad_script(s, "the properties are not sound");
    kept = p;
    change_property(s, c, &p);
    if (table_properties_encode(&p, &encoded, NULL) != LSM_OK ||
        TABLE_FRAME_SIZE + encoded.size > part.size)
        bad_script(s, "the properties do not fit");
    memset(at + TABLE_FRAME_SIZE, 0, (size_t)part.size - TABLE_FRAME_SIZE);
    memcpy(at + TABLE_FRAME_SIZE, encoded.data, encoded.size);
    frame.stored_size = frame.raw_size = (uint32_t)encoded.size;
    table_frame_seal(at, &frame, part.seed);
    buffer_release(&encoded);
    table_properties_release(&kept);
}

/* ---- the log --------------------------------------------------------------------------------- */

static int part_order(const void *a, const void *b)
{
    const struct atlas_part *x = *(const struct atlas_part *const *)a;
    const struct atlas_part *y = *(const struct atlas_part *const *)b;
    return (x->position > y->position) - (x->position < y->position);
}

static void chain(struct surgeon *s, const struct atlas_part *first)
{
    const struct atlas_part **records = test_alloc(s->atlas.part_count * sizeof *records);
    size_t count = 0;
    for (size_t i = 0; i < s->atlas.part_count; i++) {
        if (s->atlas.parts[i].kind == ATLAS_RECORD && s->atlas.parts[i].position >= first->position)
            records[count++] = &s->atlas.parts[i];
    }
    qsort(records, count, sizeof *records, part_order);
    for (size_t i = 0; i < count; i++) {
        uint8_t *at = bytes_of(s, records[i], 0, (size_t)records[i]->size);
        if (i > 0) {
            const struct atlas_part *before = records[i - 1];
            bytes_put_u64(at + 32, bytes_get_u64(bytes_of(s, before, 0, (size_t)before->size) +
                                                 before->size - 8));
        }
        atlas_seal(records[i], folder_find(&s->work, records[i]->file));
    }
    free(records);
}

bool damage_parts(struct surgeon *s, const struct command *c)
{
    const char *name = c->words[0];
    if (strcmp(name, "flip") == 0)
        *bytes_of(s, part_of(s, c, 1), number(s, c, 4), 1) ^= (uint8_t)(1 << number(s, c, 5));
    else if (strcmp(name, "set") == 0)
        set_bytes(s, part_of(s, c, 1), number(s, c, 4), word(s, c, 5));
    else if (strcmp(name, "zero") == 0)
        memset(bytes_of(s, part_of(s, c, 1), number(s, c, 4), (size_t)number(s, c, 5)), 0,
               (size_t)number(s, c, 5));
    else if (strcmp(name, "add") == 0)
        add_to(s, c);
    else if (strcmp(name, "seal") == 0)
        seal(s, part_of(s, c, 1));
    else if (strcmp(name, "exchange") == 0)
        exchange(s, c);
    else if (strcmp(name, "payload") == 0)
        set_payload(s, c);
    else if (strcmp(name, "swap") == 0 || strcmp(name, "copy") == 0)
        swap_or_copy(s, c, name[0] == 's');
    else if (strcmp(name, "properties") == 0)
        set_property(s, c);
    else if (strcmp(name, "chain") == 0)
        chain(s, part_of(s, c, 1));
    else
        return false;
    return true;
}
