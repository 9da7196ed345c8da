/* Encoding is trusted, decoding is not: any byte of a log may be damaged or somebody's left-over.
 */
#include "engine/format/log_record.h"

#include <assert.h>

enum record_place {
    AT_MAGIC = 0,
    AT_LENGTH = 4,
    AT_POSITION = 8,
    AT_SEQUENCE = 16,
    AT_SYNCED = 24,
    AT_PREVIOUS = 32,
    /* Counted from the record's end: */
    BACK_LENGTH = 16,
    BACK_PADDING = 12,
    BACK_CHECKSUM = 8,
};

/* ---- records --------------------------------------------------------------------------------- */

uint64_t log_record_seed(const uint8_t uuid[HASH_UUID_SIZE], const uint8_t nonce[LOG_NONCE_SIZE])
{
    uint8_t both[HASH_UUID_SIZE + LOG_NONCE_SIZE];
    memcpy(both, uuid, HASH_UUID_SIZE);
    memcpy(both + HASH_UUID_SIZE, nonce, LOG_NONCE_SIZE);
    return hash_bytes(both, sizeof both, 0);
}

void log_record_encode(uint8_t *at, struct log_record *record, const lsm_slice *pieces,
                       size_t count, uint64_t seed)
{
    uint8_t *to = at + LOG_RECORD_HEAD;
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].size > 0)
            memcpy(to, pieces[i].data, pieces[i].size);
        to += pieces[i].size;
    }
    size_t batch_size = (size_t)(to - at) - LOG_RECORD_HEAD;
    size_t size = log_record_size(batch_size);
    size_t padding = size - LOG_RECORD_MIN - batch_size;
    assert(size <= LOG_RECORD_MAX && padding < LOG_RECORD_ALIGNMENT);
    memset(to, 0, padding);

    bytes_put_u32(at + AT_MAGIC, LOG_RECORD_MAGIC);
    bytes_put_u32(at + AT_LENGTH, (uint32_t)size);
    bytes_put_u64(at + AT_POSITION, record->position);
    bytes_put_u64(at + AT_SEQUENCE, record->sequence);
    bytes_put_u64(at + AT_SYNCED, record->synced);
    bytes_put_u64(at + AT_PREVIOUS, record->previous);
    uint8_t *end = at + size;
    bytes_put_u32(end - BACK_LENGTH, (uint32_t)size);
    bytes_put_u32(end - BACK_PADDING, (uint32_t)padding);
    record->checksum = hash_bytes(at, size - BACK_CHECKSUM, seed);
    bytes_put_u64(end - BACK_CHECKSUM, record->checksum);
    record->size = size;
}

enum log_record_fault log_record_peek(const uint8_t *head, size_t *size)
{
    if (bytes_get_u32(head + AT_MAGIC) != LOG_RECORD_MAGIC)
        return LOG_RECORD_NO_MAGIC;
    size_t length = bytes_get_u32(head + AT_LENGTH);
    if (length < LOG_RECORD_MIN || length % LOG_RECORD_ALIGNMENT != 0)
        return LOG_RECORD_BAD_LENGTH;
    *size = length;
    return LOG_RECORD_OK;
}

/* Fewer zeros than an alignment, and zeros they are. */
static bool padding_is_right(const uint8_t *end, size_t size, uint32_t padding)
{
    if (padding >= LOG_RECORD_ALIGNMENT || padding > size - LOG_RECORD_MIN)
        return false;
    for (size_t i = 0; i < padding; i++) {
        if (end[-(ptrdiff_t)(LOG_RECORD_TAIL + 1 + i)] != 0)
            return false;
    }
    return true;
}

enum log_record_fault log_record_decode(lsm_slice bytes, uint64_t position, uint64_t seed,
                                        struct log_record *record)
{
    const uint8_t *at = bytes.data;
    size_t size;
    if (bytes.size < LOG_RECORD_HEAD)
        return LOG_RECORD_SHORT;
    enum log_record_fault fault = log_record_peek(at, &size);
    if (fault != LOG_RECORD_OK)
        return fault;
    if (log_record_peek_position(at) != position)
        return LOG_RECORD_OTHER_POSITION;
    if (size > bytes.size)
        return LOG_RECORD_SHORT;
    const uint8_t *end = at + size;
    if (bytes_get_u32(end - BACK_LENGTH) != size)
        return LOG_RECORD_BAD_LENGTH;
    uint64_t checksum = bytes_get_u64(end - BACK_CHECKSUM);
    if (hash_bytes(at, size - BACK_CHECKSUM, seed) != checksum)
        return LOG_RECORD_BAD_CHECKSUM;
    uint32_t padding = bytes_get_u32(end - BACK_PADDING);
    if (!padding_is_right(end, size, padding))
        return LOG_RECORD_BAD_PADDING;
    *record = (struct log_record){
        .position = position,
        .sequence = bytes_get_u64(at + AT_SEQUENCE),
        .synced = bytes_get_u64(at + AT_SYNCED),
        .previous = bytes_get_u64(at + AT_PREVIOUS),
        .checksum = checksum,
        .size = size,
        .batch = {at + LOG_RECORD_HEAD, size - LOG_RECORD_MIN - padding},
    };
    return LOG_RECORD_OK;
}

const char *log_record_fault_text(enum log_record_fault fault)
{
    switch (fault) {
    case LOG_RECORD_OK:
        return "whole";
    case LOG_RECORD_SHORT:
        return "its bytes end too early";
    case LOG_RECORD_NO_MAGIC:
        return "no record begins here";
    case LOG_RECORD_BAD_LENGTH:
        return "its length is wrong";
    case LOG_RECORD_OTHER_POSITION:
        return "it belongs to another position";
    case LOG_RECORD_BAD_CHECKSUM:
        return "its checksum differs";
    case LOG_RECORD_BAD_PADDING:
        return "its padding is not zero";
    }
    return "unknown fault";
}

/* ---- segment headers ------------------------------------------------------------------------- */

#define SEGMENT_CHECKSUM_AT (LOG_SEGMENT_HEADER - 8)
#define SEGMENT_UUID_AT     16
#define SEGMENT_NUMBER_AT   (SEGMENT_UUID_AT + HASH_UUID_SIZE)

static uint64_t header_checksum(const uint8_t *block, const uint8_t *uuid, uint64_t number)
{
    return hash_bytes(block, SEGMENT_CHECKSUM_AT, hash_place(uuid, number, 0));
}

void log_segment_encode(uint8_t block[LOG_SEGMENT_HEADER], const struct log_segment_header *header)
{
    memset(block, 0, LOG_SEGMENT_HEADER);
    bytes_put_u64(block, LOG_SEGMENT_MAGIC);
    bytes_put_u32(block + 8, LOG_SEGMENT_FORMAT);
    bytes_put_u32(block + 12, header->flags);
    memcpy(block + SEGMENT_UUID_AT, header->uuid, HASH_UUID_SIZE);
    const uint64_t numbers[] = {header->number,   header->start,          header->size,
                                header->previous, header->previous_start, header->previous_end,
                                header->resume,   header->chain};
    uint8_t *at = block + SEGMENT_NUMBER_AT;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++, at += 8)
        bytes_put_u64(at, numbers[i]);
    memcpy(at, header->nonce, LOG_NONCE_SIZE);
    memcpy(at + LOG_NONCE_SIZE, header->nonce_before, LOG_NONCE_SIZE);
    bytes_put_u64(block + SEGMENT_CHECKSUM_AT,
                  header_checksum(block, header->uuid, header->number));
}

static bool header_is_consistent(const struct log_segment_header *h)
{
    if (h->number == 0 || h->previous >= h->number || h->flags > LOG_SEGMENT_FLAGS_KNOWN)
        return false;
    if (h->size <= LOG_SEGMENT_HEADER || h->size % LOG_SEGMENT_HEADER != 0)
        return false;
    if (h->start % LOG_RECORD_ALIGNMENT != 0 || h->resume % LOG_RECORD_ALIGNMENT != 0)
        return false;
    if (h->start > UINT64_MAX / 2 || h->size > UINT64_MAX / 4 || h->resume > UINT64_MAX / 2)
        return false; /* so that sums of them cannot overflow */
    if (h->previous != 0 && (h->previous_end != h->start || h->previous_start > h->start))
        return false;
    bool opened = (h->flags & LOG_SEGMENT_OPENED) != 0;
    return opened ? h->start <= h->resume : h->start >= h->resume;
}

enum log_segment_fault log_segment_decode(const uint8_t block[LOG_SEGMENT_HEADER],
                                          const uint8_t uuid[HASH_UUID_SIZE], uint64_t number,
                                          struct log_segment_header *header)
{
    if (bytes_get_u64(block) != LOG_SEGMENT_MAGIC)
        return LOG_SEGMENT_NO_MAGIC;
    struct log_segment_header h = {.flags = bytes_get_u32(block + 12)};
    memcpy(h.uuid, block + SEGMENT_UUID_AT, HASH_UUID_SIZE);
    uint64_t *const numbers[] = {&h.number,         &h.start,        &h.size,   &h.previous,
                                 &h.previous_start, &h.previous_end, &h.resume, &h.chain};
    const uint8_t *at = block + SEGMENT_NUMBER_AT;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++, at += 8)
        *numbers[i] = bytes_get_u64(at);
    memcpy(h.nonce, at, LOG_NONCE_SIZE);
    memcpy(h.nonce_before, at + LOG_NONCE_SIZE, LOG_NONCE_SIZE);

    /* Magic and checksum stand where they are in every format, so that a newer one is not taken for
     * damage, nor damage for a newer one. */
    if (bytes_get_u64(block + SEGMENT_CHECKSUM_AT) != header_checksum(block, h.uuid, h.number))
        return LOG_SEGMENT_BAD_CHECKSUM;
    if (memcmp(h.uuid, uuid, HASH_UUID_SIZE) != 0)
        return LOG_SEGMENT_OTHER_DATABASE;
    if (h.number != number)
        return LOG_SEGMENT_OTHER_NUMBER;
    uint32_t format = bytes_get_u32(block + 8);
    if (format > LOG_SEGMENT_FORMAT)
        return LOG_SEGMENT_NEWER;
    if (format == 0 || !header_is_consistent(&h))
        return LOG_SEGMENT_BAD_FIELDS;
    *header = h;
    return LOG_SEGMENT_OK;
}

const char *log_segment_fault_text(enum log_segment_fault fault)
{
    switch (fault) {
    case LOG_SEGMENT_OK:
        return "whole";
    case LOG_SEGMENT_NO_MAGIC:
        return "it does not begin as a log segment";
    case LOG_SEGMENT_BAD_CHECKSUM:
        return "its checksum differs";
    case LOG_SEGMENT_OTHER_DATABASE:
        return "it belongs to another database";
    case LOG_SEGMENT_OTHER_NUMBER:
        return "it belongs to another file";
    case LOG_SEGMENT_NEWER:
        return "it has a newer format";
    case LOG_SEGMENT_BAD_FIELDS:
        return "its fields contradict each other";
    }
    return "unknown fault";
}

uint64_t log_segment_seed(const struct log_segment_header *header, uint64_t position)
{
    return log_record_seed(header->uuid,
                           position >= header->resume ? header->nonce : header->nonce_before);
}
