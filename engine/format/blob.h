/*
 * Key-value separation: what tables and manifest say of values that stand in a file of their own.
 *
 * A blob file has the form of a table: entries with key, sequence number and value, in order, in
 * blocks with checksums, with an index, properties and footers. It is no table, for its entries
 * count only as far as tables refer to them. The entry in the table has the type ENTRY_BLOB, and as
 * its value a reference: the number of the blob file and the size of the value. The value is the
 * one that the blob file holds for the same key and sequence number.
 *
 * At most one live entry refers to each entry of a blob file, so what tables say of how much they
 * refer to adds up to how much of it is live.
 */
#ifndef ENGINE_FORMAT_BLOB_H
#define ENGINE_FORMAT_BLOB_H

#include "engine/base/bytes.h"
#include "engine/base/slice.h"

#define BLOB_REFERENCE_MAX_SIZE ((size_t)2 * BYTES_VARINT_MAX)

struct blob_reference {
    uint64_t number; /* of the blob file */
    uint64_t size;   /* bytes of the value */
};

/* Writes at most BLOB_REFERENCE_MAX_SIZE bytes to `at`; returns how many. */
static inline size_t blob_reference_encode(const struct blob_reference *reference, uint8_t *at)
{
    size_t size = bytes_put_varint(at, reference->number);
    return size + bytes_put_varint(at + size, reference->size);
}

/* False when the bytes are no reference. */
static inline bool blob_reference_decode(lsm_slice bytes, struct blob_reference *reference)
{
    struct cursor c = cursor_over(bytes.data, bytes.size);
    reference->number = cursor_take_varint(&c);
    reference->size = cursor_take_varint(&c);
    return !c.failed && cursor_left(&c) == 0 && reference->number != 0 &&
           reference->size <= LSM_MAX_VALUE_SIZE;
}

/* How much a table refers to in one blob file. */
struct blob_use {
    uint64_t number;
    uint64_t entry_count;
    uint64_t bytes; /* of keys and values, as they were written */
};

/* What the manifest keeps of a blob file. */
struct blob_meta {
    uint64_t number; /* of the file */
    uint64_t size;   /* bytes of the file */
    uint32_t cf;
    uint64_t entry_count;
    uint64_t raw_size; /* bytes of keys and values */
};

#endif
