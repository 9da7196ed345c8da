/*
 * Telling a torn tail from rot: a tear leaves whole sectors missing, so nothing valid can follow
 * and putting one byte right does not help. The search for such a byte has a budget, because its
 * cost grows with the square of the frame's size; over it the tail counts as torn.
 */
#include "engine/format/frame.h"

#include "engine/base/memory.h"

#define FILE_MAGIC          "lsm-man\n"
#define FRAME_MAGIC         UINT32_C(0x6d72666c) /* "lfrm" */
#define FRAME_ALIGNMENT     ((size_t)8)
#define INCOMPATIBLE_KNOWN  UINT32_C(0)
#define HEADER_CHECKSUM_AT  (FRAME_FILE_HEADER_SIZE - 8)
#define SECTOR_SIZE         ((uint64_t)512)     /* the smallest piece that a disk writes */
#define SEARCH_BUDGET_BYTES ((uint64_t)1 << 30) /* hashed at most to judge one tail: 0.1 s */

static size_t padded(size_t size)
{
    return (size + FRAME_ALIGNMENT - 1) & ~(FRAME_ALIGNMENT - 1);
}

/* ---- writing ----------------------------------------------------------------------------------
 */

struct frame_chain frame_begin_file(const struct frame_place *place, uint64_t number,
                                    struct buffer *bytes)
{
    uint8_t header[FRAME_FILE_HEADER_SIZE] = FILE_MAGIC;
    bytes_put_u32(header + 8, FRAME_FORMAT);
    bytes_put_u32(header + 12, 0);
    memcpy(header + 16, place->uuid, HASH_UUID_SIZE);
    bytes_put_u64(header + 32, place->file_number);
    uint64_t checksum =
        hash_bytes(header, HEADER_CHECKSUM_AT, hash_place(place->uuid, place->file_number, 0));
    bytes_put_u64(header + HEADER_CHECKSUM_AT, checksum);
    buffer_append(bytes, header, sizeof header);
    return (struct frame_chain){
        .offset = FRAME_FILE_HEADER_SIZE, .number = number, .previous = checksum};
}

void frame_append(const struct frame_place *place, enum frame_kind kind, uint32_t more,
                  lsm_slice payload, struct frame_chain *chain, struct buffer *bytes)
{
    size_t size = padded(FRAME_HEADER_SIZE + payload.size);
    uint8_t *at = buffer_grow(bytes, size);
    if (at == NULL)
        return;
    memset(at + size - FRAME_ALIGNMENT, 0, FRAME_ALIGNMENT);
    bytes_put_u32(at + 8, FRAME_MAGIC);
    bytes_put_u32(at + 12, (uint32_t)payload.size);
    bytes_put_u64(at + 16, chain->number);
    bytes_put_u64(at + 24, chain->previous);
    bytes_put_u32(at + 32, (uint32_t)kind);
    bytes_put_u32(at + 36, more);
    if (payload.size > 0)
        memcpy(at + FRAME_HEADER_SIZE, payload.data, payload.size);
    uint64_t seed = hash_place(place->uuid, place->file_number, chain->offset);
    uint64_t checksum = hash_bytes(at + 8, size - 8, seed);
    bytes_put_u64(at, checksum);
    chain->offset += size;
    chain->number++;
    chain->previous = checksum;
}

/* ---- reading ----------------------------------------------------------------------------------
 */

lsm_status frame_reader_open(struct frame_reader *r, const struct frame_place *place,
                             const char *file_name, lsm_slice bytes, lsm_error *err)
{
    const uint8_t *header = bytes.data;
    lsm_status status = LSM_OK;
    if (bytes.size < FRAME_FILE_HEADER_SIZE)
        status =
            lsm_fail(err, LSM_CORRUPT, "manifest '%s' has %zu bytes, fewer than its header of %zu",
                     file_name, bytes.size, FRAME_FILE_HEADER_SIZE);
    else if (memcmp(header, FILE_MAGIC, 8) != 0)
        status = lsm_fail(err, LSM_CORRUPT, "'%s' does not begin like a manifest", file_name);
    if (status != LSM_OK) {
        status_place(err, file_name, 0);
        return status;
    }
    uint64_t number = bytes_get_u64(header + 32);
    uint64_t stored = bytes_get_u64(header + HEADER_CHECKSUM_AT);
    uint64_t computed = hash_bytes(header, HEADER_CHECKSUM_AT, hash_place(header + 16, number, 0));
    uint32_t unknown = bytes_get_u32(header + 12) & ~INCOMPATIBLE_KNOWN;
    if (stored != computed)
        status = lsm_fail(err, LSM_CORRUPT, "the header of manifest '%s' has a wrong checksum",
                          file_name);
    else if (memcmp(header + 16, place->uuid, HASH_UUID_SIZE) != 0)
        status = lsm_fail(err, LSM_CORRUPT, "manifest '%s' belongs to another database", file_name);
    else if (number != place->file_number)
        status = lsm_fail(err, LSM_CORRUPT,
                          "manifest '%s' says that its number is %" PRIu64 ", not %" PRIu64,
                          file_name, number, place->file_number);
    else if (bytes_get_u32(header + 8) > FRAME_FORMAT || unknown != 0)
        status = lsm_fail(err, LSM_NEWER_FORMAT,
                          "manifest '%s' has format %u with features %#x, this library knows %u",
                          file_name, bytes_get_u32(header + 8), unknown, FRAME_FORMAT);
    if (status != LSM_OK) {
        status_place(err, file_name, 0);
        return status;
    }
    *r = (struct frame_reader){
        .place = *place,
        .file_name = file_name,
        .bytes = bytes,
        .chain = {.offset = FRAME_FILE_HEADER_SIZE, .previous = stored},
        .is_first = true,
    };
    return LSM_OK;
}

/* The size of the frame that begins at `at`, padding included; 0 when its header is impossible. */
static size_t plausible_size(const uint8_t *at, size_t left)
{
    if (left < FRAME_HEADER_SIZE || bytes_get_u32(at + 8) != FRAME_MAGIC)
        return 0;
    size_t payload = bytes_get_u32(at + 12);
    if (payload > FRAME_MAX_PAYLOAD)
        return 0;
    size_t size = padded(FRAME_HEADER_SIZE + payload);
    return size > left ? 0 : size;
}

bool frame_at_front(const struct frame_place *place, lsm_slice bytes, uint64_t offset,
                    struct frame *frame)
{
    const uint8_t *at = bytes.data;
    size_t size = plausible_size(at, bytes.size);
    if (size == 0)
        return false;
    uint64_t seed = hash_place(place->uuid, place->file_number, offset);
    uint64_t checksum = bytes_get_u64(at);
    if (hash_bytes(at + 8, size - 8, seed) != checksum)
        return false;
    *frame = (struct frame){
        .offset = offset,
        .number = bytes_get_u64(at + 16),
        .checksum = checksum,
        .previous = bytes_get_u64(at + 24),
        .kind = bytes_get_u32(at + 32),
        .more = bytes_get_u32(at + 36),
        .payload = {at + FRAME_HEADER_SIZE, bytes_get_u32(at + 12)},
        .size = size,
    };
    return true;
}

bool frame_at(const struct frame_place *place, lsm_slice bytes, uint64_t offset,
              struct frame *frame)
{
    if (offset > bytes.size)
        return false;
    lsm_slice rest = {(const uint8_t *)bytes.data + offset, bytes.size - (size_t)offset};
    return frame_at_front(place, rest, offset, frame);
}

static struct frame_chain chain_behind(const struct frame *frame)
{
    return (struct frame_chain){
        .offset = frame->offset + frame->size,
        .number = frame->number + 1,
        .previous = frame->checksum,
    };
}

bool frame_follow(const struct frame_place *place, lsm_slice bytes, struct frame_chain *chain,
                  struct frame *frame)
{
    struct frame found;
    if (!frame_at_front(place, bytes, chain->offset, &found) || found.previous != chain->previous ||
        found.number != chain->number)
        return false;
    *chain = chain_behind(&found);
    *frame = found;
    return true;
}

/* ---- torn or rotten ---------------------------------------------------------------------------
 */

/* What may still be spent on judging a tail. */
struct search {
    const struct frame_reader *reader;
    uint8_t *bytes; /* a copy of the tail, to try changes in */
    size_t size;
    uint64_t seed;
    uint64_t budget;
};

static bool spend(struct search *s, size_t bytes)
{
    bool enough = s->budget >= bytes;
    s->budget = enough ? s->budget - bytes : 0;
    return enough;
}

/* Looks for a whole frame behind the damage. Without budget: true, for damage is the safe answer.
 */
static bool valid_frame_follows(const struct frame_reader *r)
{
    uint64_t budget = SEARCH_BUDGET_BYTES;
    const uint8_t *bytes = r->bytes.data;
    for (size_t at = (size_t)(r->chain.offset - r->base) + FRAME_ALIGNMENT; at < r->bytes.size;
         at += FRAME_ALIGNMENT) {
        struct frame frame;
        lsm_slice rest = {bytes + at, r->bytes.size - at};
        size_t size = plausible_size(rest.data, rest.size);
        if (size == 0)
            continue;
        if (budget < size || frame_at_front(&r->place, rest, r->base + at, &frame))
            return true;
        budget -= size;
    }
    return false;
}

static bool checksum_fits(struct search *s)
{
    size_t size = plausible_size(s->bytes, s->size);
    if (size == 0 || !spend(s, size))
        return false;
    return hash_bytes(s->bytes + 8, size - 8, s->seed) == bytes_get_u64(s->bytes);
}

/* One byte off in the checksum itself: no search is needed. */
static bool checksum_is_off_by_one_byte(struct search *s)
{
    size_t size = plausible_size(s->bytes, s->size);
    if (size == 0 || !spend(s, size))
        return false;
    uint64_t wrong = hash_bytes(s->bytes + 8, size - 8, s->seed) ^ bytes_get_u64(s->bytes);
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if ((wrong & ~(UINT64_C(0xff) << shift)) == 0)
            return true;
    }
    return false;
}

/* A torn write may lack a last sector that holds one byte which is not zero: that is no rot. */
static bool sector_is_all_zero(const struct search *s, size_t at)
{
    uint64_t base = s->reader->chain.offset;
    uint64_t first = (base + at) / SECTOR_SIZE * SECTOR_SIZE, limit = first + SECTOR_SIZE;
    size_t from = first < base ? 0 : (size_t)(first - base);
    size_t to = limit - base < s->size ? (size_t)(limit - base) : s->size;
    for (size_t i = from; i < to; i++) {
        if (s->bytes[i] != 0)
            return false;
    }
    return true;
}

/* Tries changes of the byte at `at`: each single bit, or all values. */
static bool byte_can_be_corrected(struct search *s, size_t at, bool bits_only)
{
    uint8_t original = s->bytes[at];
    bool fits = false;
    for (unsigned change = 1; !fits && change < 256 && s->budget > 0; change++) {
        if (bits_only && (change & (change - 1)) != 0)
            continue;
        s->bytes[at] = (uint8_t)(original ^ change);
        fits = checksum_fits(s);
    }
    s->bytes[at] = original;
    return fits && !sector_is_all_zero(s, at);
}

static bool one_byte_is_wrong(struct search *s)
{
    if (checksum_is_off_by_one_byte(s))
        return true;
    /* Changes of the header may move the frame's end; behind it nothing helps. */
    for (size_t at = 8; at < FRAME_HEADER_SIZE && at < s->size; at++) {
        if (byte_can_be_corrected(s, at, false))
            return true;
    }
    size_t limit = plausible_size(s->bytes, s->size);
    for (size_t at = FRAME_HEADER_SIZE; at < limit && s->budget > 0; at++) {
        if (byte_can_be_corrected(s, at, true))
            return true;
    }
    for (size_t at = FRAME_HEADER_SIZE; at < limit && s->budget > 0; at++) {
        if (byte_can_be_corrected(s, at, false))
            return true;
    }
    return false;
}

static lsm_status frame_is_rotten(const struct frame_reader *r, bool *is_rotten, lsm_error *err)
{
    size_t begin = (size_t)(r->chain.offset - r->base), size = r->bytes.size - begin;
    struct search s = {
        .reader = r,
        .bytes = mem_alloc(size),
        .size = size,
        .seed = hash_place(r->place.uuid, r->place.file_number, r->chain.offset),
        .budget = SEARCH_BUDGET_BYTES,
    };
    if (s.bytes == NULL)
        return lsm_fail_memory(err, size);
    memcpy(s.bytes, (const uint8_t *)r->bytes.data + begin, size);
    *is_rotten = one_byte_is_wrong(&s);
    mem_free(s.bytes);
    return LSM_OK;
}

static lsm_status damaged(const struct frame_reader *r, const char *what, lsm_error *err)
{
    lsm_fail(err, LSM_CORRUPT, "manifest '%s' is damaged at offset %" PRIu64 ": %s; see lsm-repair",
             r->file_name, r->chain.offset, what);
    status_place(err, r->file_name, r->chain.offset);
    return LSM_CORRUPT;
}

static lsm_status judge_tail(const struct frame_reader *r, enum frame_result *result,
                             lsm_error *err)
{
    if (r->is_first)
        return damaged(r, "its first frame is not whole", err);
    if (valid_frame_follows(r))
        return damaged(r, "a frame has a wrong checksum and others follow it", err);
    bool is_rotten = false;
    lsm_status status = frame_is_rotten(r, &is_rotten, err);
    if (status != LSM_OK)
        return status;
    if (is_rotten)
        return damaged(r, "one byte of its last frame is wrong", err);
    *result = FRAME_TORN;
    return LSM_OK;
}

lsm_status frame_next(struct frame_reader *r, enum frame_result *result, struct frame *frame,
                      lsm_error *err)
{
    uint64_t begin = r->chain.offset - r->base;
    if (begin == r->bytes.size && !r->is_first) {
        *result = FRAME_END;
        return LSM_OK;
    }
    struct frame found;
    size_t left = begin < r->bytes.size ? r->bytes.size - (size_t)begin : 0;
    lsm_slice rest = {left == 0 ? r->bytes.data : (const uint8_t *)r->bytes.data + begin, left};
    if (!frame_at_front(&r->place, rest, r->chain.offset, &found))
        return judge_tail(r, result, err);
    if (found.previous != r->chain.previous)
        return damaged(r, "a frame does not follow the one before it", err);
    if (!r->is_first && found.number != r->chain.number) {
        lsm_status status = damaged(r, "a frame has the wrong number", err);
        status_numbers(err, r->chain.number, found.number);
        return status;
    }
    r->is_first = false;
    r->chain = chain_behind(&found);
    *frame = found;
    *result = FRAME_READ;
    return LSM_OK;
}
