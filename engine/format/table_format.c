/* Frames and footers: bytes to structs and back. */
#include "engine/format/table_format.h"

#include <assert.h>

#define FOOTER_MAGIC UINT64_C(0x656c626174736d6c) /* "lmstable" */

static bool is_zero(const uint8_t *at, size_t size)
{
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++)
        any |= at[i];
    return any == 0;
}

static bool refuse(struct table_problem *problem, const char *what, uint64_t expected,
                   uint64_t found)
{
    *problem = (struct table_problem){what, expected, found};
    return false;
}

/* ---- frames ---------------------------------------------------------------------------------- */

void table_frame_seal(uint8_t *at, const struct table_frame *frame, uint64_t seed)
{
    assert(frame->level <= TABLE_MAX_LEVEL);
    bytes_put_u32(at + 8, TABLE_FRAME_MAGIC);
    at[12] = (uint8_t)frame->kind;
    at[13] = (uint8_t)frame->compression;
    at[14] = (uint8_t)frame->level;
    at[15] = 0;
    bytes_put_u32(at + 16, frame->stored_size);
    bytes_put_u32(at + 20, frame->raw_size);
    bytes_put_u32(at + 24, frame->cf);
    bytes_put_u32(at + 28, frame->entry_count);
    bytes_put_u64(at + 32, frame->min_sequence);
    bytes_put_u64(at + 40, frame->max_sequence);
    bytes_put_u64(at, hash_bytes(at + 8, TABLE_FRAME_SIZE - 8 + frame->stored_size, seed));
}

static bool check_frame_fields(const struct table_frame *f, struct table_problem *problem)
{
    if (f->kind < TABLE_FRAME_DATA || f->kind > TABLE_FRAME_PROPERTIES)
        return refuse(problem, "the frame is of an unknown kind", 0, f->kind);
    if (f->compression > TABLE_ZSTD_COLUMNS_DICTIONARY)
        return refuse(problem, "the frame's compression is unknown", 0, f->compression);
    if (f->compression != TABLE_RAW && f->kind != TABLE_FRAME_DATA)
        return refuse(problem, "a frame is compressed that must not be", 0, f->kind);
    if (f->compression == TABLE_RAW && f->raw_size != f->stored_size)
        return refuse(problem, "the frame's sizes disagree", f->stored_size, f->raw_size);
    if (f->kind == TABLE_FRAME_DATA && f->raw_size > BLOCK_MAX_SIZE)
        return refuse(problem, "the frame's raw size is over the limit", BLOCK_MAX_SIZE,
                      f->raw_size);
    return true;
}

bool table_frame_open(lsm_slice bytes, uint64_t seed, struct table_frame *frame,
                      struct table_problem *problem)
{
    struct cursor c = cursor_over(bytes.data, bytes.size);
    uint64_t checksum = cursor_take_u64(&c);
    uint32_t magic = cursor_take_u32(&c);
    struct table_frame f;
    f.kind = cursor_take_u8(&c);
    f.compression = cursor_take_u8(&c);
    f.level = cursor_take_u8(&c);
    uint8_t zero = cursor_take_u8(&c);
    f.stored_size = cursor_take_u32(&c);
    f.raw_size = cursor_take_u32(&c);
    f.cf = cursor_take_u32(&c);
    f.entry_count = cursor_take_u32(&c);
    f.min_sequence = cursor_take_u64(&c);
    f.max_sequence = cursor_take_u64(&c);
    if (c.failed)
        return refuse(problem, "a frame is cut off", TABLE_FRAME_SIZE, bytes.size);
    if (magic != TABLE_FRAME_MAGIC)
        return refuse(problem, "there is no frame", TABLE_FRAME_MAGIC, magic);
    if (f.stored_size > cursor_left(&c))
        return refuse(problem, "a frame is longer than its place", cursor_left(&c), f.stored_size);
    uint64_t found =
        hash_bytes((const uint8_t *)bytes.data + 8, TABLE_FRAME_SIZE - 8 + f.stored_size, seed);
    if (found != checksum)
        return refuse(problem, "the checksum differs", checksum, found);
    if (zero != 0)
        return refuse(problem, "the frame's header is not zero where it must be", 0, zero);
    if (!check_frame_fields(&f, problem))
        return false;
    *frame = f;
    return true;
}

bool table_frame_open_whole(lsm_slice bytes, uint64_t seed, enum table_frame_kind kind,
                            struct table_frame *frame, struct table_problem *problem)
{
    struct table_frame f;
    if (!table_frame_open(bytes, seed, &f, problem))
        return false;
    if (f.kind != kind)
        return refuse(problem, "the frame is of another kind", kind, f.kind);
    size_t used = TABLE_FRAME_SIZE + f.stored_size;
    if (!is_zero((const uint8_t *)bytes.data + used, bytes.size - used))
        return refuse(problem, "the padding is not zero", 0, 0);
    *frame = f;
    return true;
}

uint64_t table_frame_place(uint64_t offset, uint64_t size)
{
    uint64_t place = (offset + TABLE_FRAME_ALIGNMENT - 1) & ~(TABLE_FRAME_ALIGNMENT - 1);
    uint64_t within = place % TABLE_PAGE_SIZE;
    uint64_t needed = (size + TABLE_PAGE_SIZE - 1) / TABLE_PAGE_SIZE;
    uint64_t touched = (within + size + TABLE_PAGE_SIZE - 1) / TABLE_PAGE_SIZE;
    uint64_t gap = TABLE_PAGE_SIZE - within;
    return touched > needed && gap < size / 10 ? place + gap : place;
}

/* ---- footer ---------------------------------------------------------------------------------- */

static uint8_t *put_extent(uint8_t *at, struct table_extent extent)
{
    bytes_put_u64(at, extent.offset);
    bytes_put_u64(at + 8, extent.size);
    return at + 16;
}

/* magic, version, incompatible bits, uuid, number, file size, extents, checksum: 128 bytes. */
void table_footer_encode(const struct table_footer *footer, uint64_t offset, uint8_t *at)
{
    memset(at, 0, TABLE_FOOTER_SIZE);
    bytes_put_u64(at, FOOTER_MAGIC);
    bytes_put_u32(at + 8, TABLE_FORMAT_VERSION);
    memcpy(at + 16, footer->uuid, HASH_UUID_SIZE);
    bytes_put_u64(at + 32, footer->number);
    bytes_put_u64(at + 40, footer->file_size);
    bytes_put_u64(at + 48, footer->data.size);
    uint8_t *extent = put_extent(at + 56, footer->dictionary);
    extent = put_extent(extent, footer->filter);
    extent = put_extent(extent, footer->index);
    extent = put_extent(extent, footer->properties);
    assert(extent == at + TABLE_FOOTER_SIZE - 8);
    uint64_t seed = hash_place(footer->uuid, footer->number, offset);
    bytes_put_u64(extent, hash_bytes(at, TABLE_FOOTER_SIZE - 8, seed));
}

static struct table_extent get_extent(struct cursor *c)
{
    struct table_extent extent;
    extent.offset = cursor_take_u64(c);
    extent.size = cursor_take_u64(c);
    return extent;
}

/* `extent` begins where the one before ended, or is absent. Moves *end to its end. */
static bool extent_follows(struct table_extent extent, bool required, uint64_t limit, uint64_t *end)
{
    if (extent.size == 0)
        return !required && extent.offset == 0;
    if (extent.offset != *end || extent.size < TABLE_FRAME_SIZE || extent.size > limit - *end)
        return false;
    *end += extent.size;
    return true;
}

static bool check_extents(const struct table_footer *f, struct table_problem *problem)
{
    uint64_t limit = table_footer_offset(f->file_size, 0);
    uint64_t end = 0;
    if (!extent_follows(f->data, true, limit, &end) ||
        !extent_follows(f->dictionary, false, limit, &end) ||
        !extent_follows(f->filter, false, limit, &end) ||
        !extent_follows(f->index, true, limit, &end) ||
        !extent_follows(f->properties, true, limit, &end) || end != limit)
        return refuse(problem, "the footer's parts do not fill the file", limit, end);
    return true;
}

/* Why a checksum fails: the footer of another file or database, or damage. */
static const char *checksum_reason(const uint8_t *page, uint64_t offset,
                                   const struct table_footer *f, uint64_t checksum,
                                   const uint8_t *uuid, uint64_t number)
{
    if (hash_bytes(page, TABLE_FOOTER_SIZE - 8, hash_place(f->uuid, f->number, offset)) != checksum)
        return "the footer's checksum differs";
    if (memcmp(f->uuid, uuid, HASH_UUID_SIZE) != 0)
        return "the table belongs to another database";
    return f->number != number ? "the table is another file of this database" : NULL;
}

lsm_status table_footer_decode(const uint8_t *page, uint64_t offset, uint64_t file_size,
                               const uint8_t uuid[HASH_UUID_SIZE], uint64_t number,
                               struct table_footer *footer, struct table_problem *problem)
{
    struct cursor c = cursor_over(page, TABLE_FOOTER_SIZE);
    struct table_footer f = {0};
    uint64_t magic = cursor_take_u64(&c);
    uint32_t version = cursor_take_u32(&c);
    uint32_t incompatible = cursor_take_u32(&c);
    memcpy(f.uuid, cursor_take(&c, HASH_UUID_SIZE), HASH_UUID_SIZE);
    f.number = cursor_take_u64(&c);
    f.file_size = cursor_take_u64(&c);
    f.data = (struct table_extent){0, cursor_take_u64(&c)};
    f.dictionary = get_extent(&c);
    f.filter = get_extent(&c);
    f.index = get_extent(&c);
    f.properties = get_extent(&c);
    uint64_t checksum = cursor_take_u64(&c);
    assert(!c.failed && cursor_left(&c) == 0);

    *problem = (struct table_problem){"there is no footer", FOOTER_MAGIC, magic};
    if (magic != FOOTER_MAGIC)
        return LSM_CORRUPT;
    *problem = (struct table_problem){checksum_reason(page, offset, &f, checksum, uuid, number),
                                      number, f.number};
    if (problem->what != NULL)
        return LSM_CORRUPT;
    *problem =
        (struct table_problem){"the footer is of a newer format", TABLE_FORMAT_VERSION, version};
    if (version != TABLE_FORMAT_VERSION || incompatible != 0)
        return version == 0 ? LSM_CORRUPT : LSM_NEWER_FORMAT;
    *problem = (struct table_problem){"the file has another size", f.file_size, file_size};
    if (f.file_size != file_size)
        return LSM_CORRUPT;
    if (!is_zero(page + TABLE_FOOTER_SIZE, TABLE_PAGE_SIZE - TABLE_FOOTER_SIZE)) {
        *problem = (struct table_problem){"the footer's page is not zero after it", 0, 0};
        return LSM_CORRUPT;
    }
    if (!check_extents(&f, problem))
        return LSM_CORRUPT;
    *problem = (struct table_problem){NULL, 0, 0};
    *footer = f;
    return LSM_OK;
}
