/*
 * The bytes of a write batch, as they stand in a log record and in memory:
 *
 *     count u32 | entries: type u8, family varint, key size varint, key,
 *                          and for a put: value size varint, value
 *
 * One entry's bytes in front of its key, and between key and value, are made by the two header
 * functions, so that a single put can go to the log in pieces without being copied together.
 */
#ifndef ENGINE_FORMAT_BATCH_H
#define ENGINE_FORMAT_BATCH_H

#include "engine/base/buffer.h"
#include "engine/format/entry.h"

#define BATCH_HEADER_SIZE ((size_t)4)
#define BATCH_ENTRY_HEAD  ((size_t)11) /* longest bytes before a key: type, family, size */
#define BATCH_VALUE_HEAD  ((size_t)5)  /* longest bytes before a value */

struct batch_entry {
    enum entry_type type;
    uint32_t cf;
    lsm_slice key;   /* borrowed from the batch */
    lsm_slice value; /* empty unless a put */
};

/* Both return the bytes written at `at`. Sizes were checked against the limits of lsm.h. */
size_t batch_put_entry_head(uint8_t *at, enum entry_type type, uint32_t cf, size_t key_size);
size_t batch_put_value_head(uint8_t *at, size_t value_size);

/* Appends an entry and raises the count; `batch` begins with BATCH_HEADER_SIZE bytes. */
void batch_append(struct buffer *batch, enum entry_type type, uint32_t cf, lsm_slice key,
                  lsm_slice value);

struct batch_reader {
    struct cursor cursor;
    uint32_t left; /* entries not read yet */
    bool corrupt;
};

struct batch_reader batch_read(lsm_slice batch);
/* The next entry; false at the end or when the bytes are damaged (then corrupt is set). Bytes after
 * the last entry are damage too. */
bool batch_next(struct batch_reader *r, struct batch_entry *entry);
static inline uint32_t batch_count(lsm_slice batch)
{
    return batch.size < BATCH_HEADER_SIZE ? 0 : bytes_get_u32(batch.data);
}

#endif
