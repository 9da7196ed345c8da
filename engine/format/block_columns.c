/* Columns of a block to planes of differences, and back. */
#include "engine/format/block_columns.h"

#include "engine/base/memory.h"
#include "engine/format/block.h"

#include <string.h>

#define COLUMN_COUNT 4
#define SCRATCH_SIZE ((size_t)4096) /* of the stack: a column of a usual block */

struct column {
    size_t at;    /* in the block */
    size_t count; /* of its numbers */
    size_t width; /* bytes of a number; 0: the block has no such column */
};

/* Where they are by the header. False when they do not fit into the block's size. */
static bool find_columns(const uint8_t *data, size_t size, struct column columns[COLUMN_COUNT])
{
    if (size < BLOCK_HEADER_SIZE)
        return false;
    size_t count = bytes_get_u32(data), at = BLOCK_HEADER_SIZE + block_tags_size((uint32_t)count);
    uint8_t flags = data[8];
    if (count > size)
        return false; /* the sums below cannot overflow */
    size_t trailer_width = flags & BLOCK_LONG_TRAILERS ? 8 : flags & BLOCK_SHORT_TRAILERS ? 4 : 0;
    const struct column wanted[COLUMN_COUNT] = {
        {.count = count, .width = BLOCK_HEAD_SIZE},
        {.count = count, .width = trailer_width},
        {.count = count + 1, .width = flags & BLOCK_WIDE_OFFSETS ? 4 : 2},
        {.count = count, .width = flags & BLOCK_KEY_SIZES ? 2 : 0},
    };
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        columns[i] = wanted[i];
        columns[i].at = at;
        at += wanted[i].count * wanted[i].width;
    }
    return at <= size;
}

static inline uint64_t number_at(const uint8_t *at, size_t width)
{
    return width == 8 ? bytes_get_u64(at) : width == 4 ? bytes_get_u32(at) : bytes_get_u16(at);
}

static inline void put_number(uint8_t *at, size_t width, uint64_t number)
{
    if (width == 8)
        bytes_put_u64(at, number);
    else if (width == 4)
        bytes_put_u32(at, (uint32_t)number);
    else
        bytes_put_u16(at, (uint16_t)number);
}

/* Swaps the part of `low` that is `shift` bits up with the part of `high` that is not. */
#define SWAP(low, high, shift, mask)                                                               \
    do {                                                                                           \
        uint64_t swap_ = ((rows[low] >> (shift)) ^ rows[high]) & (mask);                           \
        rows[high] ^= swap_;                                                                       \
        rows[low] ^= swap_ << (shift);                                                             \
    } while (0)

/* Eight times eight bytes, one u64 a row: rows become columns. Written out, since compilers do not
 * unroll it without being told to. */
static inline __attribute__((always_inline)) void transpose(uint64_t rows[8])
{
    const uint64_t half = UINT64_C(0x00000000ffffffff), quarter = UINT64_C(0x0000ffff0000ffff),
                   eighth = UINT64_C(0x00ff00ff00ff00ff);
    SWAP(0, 4, 32, half);
    SWAP(1, 5, 32, half);
    SWAP(2, 6, 32, half);
    SWAP(3, 7, 32, half);
    SWAP(0, 2, 16, quarter);
    SWAP(1, 3, 16, quarter);
    SWAP(4, 6, 16, quarter);
    SWAP(5, 7, 16, quarter);
    SWAP(0, 1, 8, eighth);
    SWAP(2, 3, 8, eighth);
    SWAP(4, 5, 8, eighth);
    SWAP(6, 7, 8, eighth);
}

static inline __attribute__((always_inline)) void split(const uint8_t *from, size_t count,
                                                        size_t width, uint8_t *to)
{
    uint64_t before = 0, rows[8];
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        for (size_t k = 0; k < 8; k++) {
            uint64_t number = number_at(from + (i + k) * width, width);
            rows[k] = number - before;
            before = number;
        }
        transpose(rows);
        for (size_t b = 0; b < width; b++)
            bytes_put_u64(to + b * count + i, rows[b]);
    }
    for (; i < count; i++) {
        uint64_t number = number_at(from + i * width, width), step = number - before;
        for (size_t b = 0; b < width; b++)
            to[b * count + i] = (uint8_t)(step >> (8 * b));
        before = number;
    }
}

static inline __attribute__((always_inline)) void join(const uint8_t *from, size_t count,
                                                       size_t width, uint8_t *to)
{
    uint64_t number = 0, rows[8];
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        for (size_t b = 0; b < 8; b++)
            rows[b] = b < width ? bytes_get_u64(from + b * count + i) : 0;
        transpose(rows);
        for (size_t k = 0; k < 8; k++) {
            number += rows[k];
            put_number(to + (i + k) * width, width, number);
        }
    }
    for (; i < count; i++) {
        uint64_t step = 0;
        for (size_t b = 0; b < width; b++)
            step |= (uint64_t)from[b * count + i] << (8 * b);
        number += step;
        put_number(to + i * width, width, number);
    }
}

void block_columns_turn(lsm_slice raw, uint8_t *to)
{
    struct column columns[COLUMN_COUNT];
    const uint8_t *from = raw.data;
    memcpy(to, from, raw.size);
    if (!find_columns(from, raw.size, columns))
        return;
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        const struct column *c = &columns[i];
        switch (c->width) { /* a loop for each width: compilers unroll it */
        case 8:
            split(from + c->at, c->count, 8, to + c->at);
            break;
        case 4:
            split(from + c->at, c->count, 4, to + c->at);
            break;
        case 2:
            split(from + c->at, c->count, 2, to + c->at);
            break;
        default:
            break;
        }
    }
}

const char *block_columns_turn_back(uint8_t *data, size_t size, bool *no_memory)
{
    struct column columns[COLUMN_COUNT];
    uint8_t stack[SCRATCH_SIZE], *scratch = stack;
    size_t most = 0;
    *no_memory = false;
    if (!find_columns(data, size, columns))
        return "its columns do not fit into its size";
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        most =
            columns[i].count * columns[i].width > most ? columns[i].count * columns[i].width : most;
    if (most > sizeof stack && (scratch = mem_alloc(most)) == NULL) {
        *no_memory = true;
        return "out of memory";
    }
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        const struct column *c = &columns[i];
        memcpy(scratch, data + c->at, c->count * c->width);
        switch (c->width) {
        case 8:
            join(scratch, c->count, 8, data + c->at);
            break;
        case 4:
            join(scratch, c->count, 4, data + c->at);
            break;
        case 2:
            join(scratch, c->count, 2, data + c->at);
            break;
        default:
            break;
        }
    }
    if (scratch != stack)
        mem_free(scratch);
    return NULL;
}

const char *block_unpack(struct decompress_pool *pool,
                         const struct decompress_dictionary *dictionary,
                         const struct table_frame *frame, lsm_slice payload, void *raw,
                         bool *no_memory)
{
    const char *wrong = decompress_run(pool, block_wants_dictionary(frame) ? dictionary : NULL,
                                       payload, raw, frame->raw_size, no_memory);
    bool is_turned = frame->compression == TABLE_ZSTD_COLUMNS ||
                     frame->compression == TABLE_ZSTD_COLUMNS_DICTIONARY;
    if (wrong == NULL && is_turned)
        wrong = block_columns_turn_back(raw, frame->raw_size, no_memory);
    return wrong;
}
