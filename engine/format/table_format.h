/*
 * The frame around every part of a table file, and the footer at its end.
 *
 *     data blocks | dictionary? | filter? | index | properties | footer page | footer page
 *
 * Each part but the footers is a frame: a header of TABLE_FRAME_SIZE bytes, its payload, and zeros
 * up to where the next one begins (a multiple of TABLE_FRAME_ALIGNMENT). A frame is meaningful
 * without index or footer: its header repeats family, level, entry count and sequences, and its
 * magic word and checksum let a salvager find it.
 *
 *     offset  field                          offset  field
 *          0  checksum of all that follows        20  raw size u32 (== stored size unless
 *          8  magic u32                               compressed)
 *         12  kind u8                             24  column family u32
 *         13  compression u8                      28  entry count u32
 *         14  level u8, then a zero byte          32  smallest sequence u64
 *         16  stored size u32: the payload's      40  largest sequence u64
 *
 * A checksum is XXH3-64 seeded with hash_place(uuid, file number, offset of the frame), so that a
 * frame of another file or place is damage too. Integers are little-endian.
 *
 * The file ends with two pages that begin with the same footer (each with the checksum of its own
 * place) and are zero after it. File sizes are a multiple of TABLE_PAGE_SIZE.
 */
#ifndef ENGINE_FORMAT_TABLE_FORMAT_H
#define ENGINE_FORMAT_TABLE_FORMAT_H

#include "engine/base/bytes.h"
#include "engine/base/hash.h"
#include "engine/format/block.h"

#define TABLE_FRAME_SIZE      ((size_t)48)
#define TABLE_FRAME_ALIGNMENT ((size_t)8)
#define TABLE_FRAME_MAGIC     UINT32_C(0x624c5331)
#define TABLE_PAGE_SIZE       ((size_t)4096)
#define TABLE_FOOTER_SIZE     ((size_t)128)
#define TABLE_FOOTER_COUNT    ((size_t)2)
#define TABLE_FORMAT_VERSION  UINT32_C(1)
#define TABLE_MIN_FILE_SIZE   (3 * TABLE_PAGE_SIZE)
#define TABLE_MAX_LEVEL       UINT32_C(255)
/* The digest of a file is made of pieces of this size, see table_digest_add(). */
#define TABLE_DIGEST_PIECE ((size_t)1 << 20)

/* What is wrong with some bytes, for the sentence that the caller makes of it. */
struct table_problem {
    const char *what;  /* static storage; NULL: nothing */
    uint64_t expected; /* both 0 when no two numbers disagree */
    uint64_t found;
};

/* ---- frames ---------------------------------------------------------------------------------- */

/* Stored: never renumber. */
enum table_frame_kind {
    TABLE_FRAME_DATA = 1,
    TABLE_FRAME_DICTIONARY = 2,
    TABLE_FRAME_FILTER = 3,
    TABLE_FRAME_INDEX = 4,
    TABLE_FRAME_PROPERTIES = 5,
};

/* Stored: never renumber. */
enum table_compression {
    TABLE_RAW = 0,
    TABLE_ZSTD = 1,
    TABLE_ZSTD_DICTIONARY = 2, /* with the table's dictionary */
    /* The same of a block whose columns are turned, see block_columns.h. */
    TABLE_ZSTD_COLUMNS = 3,
    TABLE_ZSTD_COLUMNS_DICTIONARY = 4,
};

struct table_frame {
    enum table_frame_kind kind;
    enum table_compression compression;
    uint32_t level;
    uint32_t stored_size;
    uint32_t raw_size;
    uint32_t cf;
    uint32_t entry_count;
    uint64_t min_sequence;
    uint64_t max_sequence;
};

/* Writes the header in front of the payload that stands at `at` + TABLE_FRAME_SIZE already. */
void table_frame_seal(uint8_t *at, const struct table_frame *frame, uint64_t seed);

/*
 * Checks header and checksum of the frame at the start of `bytes`; what follows the payload is not
 * looked at. False with *problem filled when it is damaged.
 */
bool table_frame_open(lsm_slice bytes, uint64_t seed, struct table_frame *frame,
                      struct table_problem *problem);

/*
 * The same for a frame that must be of `kind` and fill `bytes` but for zeros of padding.
 */
bool table_frame_open_whole(lsm_slice bytes, uint64_t seed, enum table_frame_kind kind,
                            struct table_frame *frame, struct table_problem *problem);

static inline lsm_slice table_frame_payload(lsm_slice bytes, const struct table_frame *frame)
{
    return (lsm_slice){(const uint8_t *)bytes.data + TABLE_FRAME_SIZE, frame->stored_size};
}

/*
 * Where a frame of `size` bytes (header included) goes when the file is `offset` bytes long: at the
 * next multiple of TABLE_FRAME_ALIGNMENT, or at the next page when it would touch one page more
 * than it must and the gap costs less than a tenth of it.
 */
uint64_t table_frame_place(uint64_t offset, uint64_t size);

/* ---- footer ---------------------------------------------------------------------------------- */

struct table_extent {
    uint64_t offset;
    uint64_t size; /* 0: there is none */
};

struct table_footer {
    uint8_t uuid[HASH_UUID_SIZE];
    uint64_t number;
    uint64_t file_size;
    struct table_extent data;                                  /* of all data blocks; begins at 0 */
    struct table_extent dictionary, filter, index, properties; /* one frame each, with padding */
};

/* TABLE_FOOTER_SIZE bytes at `at`, which will stand at `offset` of the file. */
void table_footer_encode(const struct table_footer *footer, uint64_t offset, uint8_t *at);

/*
 * Decodes the footer page at `offset` of file `number` of database `uuid`, `file_size` bytes long;
 * `page` holds TABLE_PAGE_SIZE bytes. LSM_CORRUPT, or LSM_NEWER_FORMAT when it is sound but of a
 * later version, with *problem filled. Extents were checked: in order, adjacent, inside the file.
 */
lsm_status table_footer_decode(const uint8_t *page, uint64_t offset, uint64_t file_size,
                               const uint8_t uuid[HASH_UUID_SIZE], uint64_t number,
                               struct table_footer *footer, struct table_problem *problem);

/* Offset of footer page `index` (0, 1). */
static inline uint64_t table_footer_offset(uint64_t file_size, size_t index)
{
    return file_size - (TABLE_FOOTER_COUNT - index) * TABLE_PAGE_SIZE;
}

/* ---- digest ---------------------------------------------------------------------------------- */

/*
 * The digest of a file up to its properties: begins with 0, and takes the bytes in pieces of
 * TABLE_DIGEST_PIECE from offset 0 on, the last one shorter.
 */
static inline uint64_t table_digest_add(uint64_t digest, const void *piece, size_t size)
{
    return hash_bytes(piece, size, digest);
}

#endif
