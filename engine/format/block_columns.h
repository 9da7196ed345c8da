/*
 * A block as it is compressed: its columns turned so that zstd sees what is alike in them.
 *
 * Heads ascend by little, offsets by the size of an entry, and sequence numbers share their high
 * bytes; but the bytes that are alike stand 8, 2 and 4 bytes apart. So each column is written as
 * differences from entry to entry, and as planes: first the lowest byte of all entries, then the
 * next. Header, tags, prefix and heap stay as and where they are, and so does the size.
 *
 *     block        3 heads         0x61.. 0x62.. 0x64..   ->  61 01 02  .. .. ..  (8 planes of 3)
 *     compressed   zstd of that: 4 to 6 % less than zstd of the block where values are of 100 bytes
 */
#ifndef ENGINE_FORMAT_BLOCK_COLUMNS_H
#define ENGINE_FORMAT_BLOCK_COLUMNS_H

#include "engine/format/compress.h"
#include "engine/format/table_format.h"

/* `raw` is a block that block_check() accepts; `to` has as many bytes, and is another place. */
void block_columns_turn(lsm_slice raw, uint8_t *to);

/*
 * Turns them back where they are. Reads and writes nothing outside whatever `data` holds; only
 * block_check() tells whether the result is a block. NULL, or why it cannot be one (static
 * storage), also when *no_memory is set.
 */
const char *block_columns_turn_back(uint8_t *data, size_t size, bool *no_memory);

/* Does it need the table's dictionary? */
static inline bool block_wants_dictionary(const struct table_frame *frame)
{
    return frame->compression == TABLE_ZSTD_DICTIONARY ||
           frame->compression == TABLE_ZSTD_COLUMNS_DICTIONARY;
}

/*
 * The block in the payload of a frame that is not TABLE_RAW, into `raw` with room for
 * frame->raw_size bytes. `dictionary` is looked at only where block_wants_dictionary(). As above.
 */
const char *block_unpack(struct decompress_pool *pool,
                         const struct decompress_dictionary *dictionary,
                         const struct table_frame *frame, lsm_slice payload, void *raw,
                         bool *no_memory);

#endif
