#include "engine/format/stage_trailer.h"

#include <assert.h>
#include <string.h>

#define TRAILER_FORMAT 1
#define SECTOR_SIZE    512 /* of a disk: it is written as a whole */

enum trailer_offset {
    AT_MAGIC = 0,
    AT_FORMAT = 8,
    AT_UUID = 16,
    AT_RING_SIZE = 32,
    AT_NONCE = 40,
    AT_NONCE_BEFORE = 56,
    AT_CHECKSUM = 72,
};

static_assert(AT_UUID + HASH_UUID_SIZE == AT_RING_SIZE, "the uuid fits");
static_assert(AT_NONCE_BEFORE + LOG_NONCE_SIZE == AT_CHECKSUM, "the nonces fit");
static_assert(AT_CHECKSUM + 8 == STAGE_TRAILER_BYTES, "the checksum is its end");
static_assert(STAGE_TRAILER_BYTES <= SECTOR_SIZE, "it is rewritten as a whole or not");

static uint64_t checksum_of(const uint8_t *block, const uint8_t *uuid)
{
    return hash_bytes(block, AT_CHECKSUM, hash_place(uuid, 0, bytes_get_u64(block + AT_RING_SIZE)));
}

void stage_trailer_encode(uint8_t block[STAGE_TRAILER_SIZE], const struct stage_trailer *trailer)
{
    memset(block, 0, STAGE_TRAILER_SIZE);
    bytes_put_u64(block + AT_MAGIC, STAGE_TRAILER_MAGIC);
    bytes_put_u32(block + AT_FORMAT, TRAILER_FORMAT);
    memcpy(block + AT_UUID, trailer->uuid, sizeof trailer->uuid);
    bytes_put_u64(block + AT_RING_SIZE, trailer->ring_size);
    memcpy(block + AT_NONCE, trailer->nonce, sizeof trailer->nonce);
    memcpy(block + AT_NONCE_BEFORE, trailer->nonce_before, sizeof trailer->nonce_before);
    bytes_put_u64(block + AT_CHECKSUM, checksum_of(block, trailer->uuid));
}

enum stage_trailer_fault stage_trailer_decode(const uint8_t block[STAGE_TRAILER_SIZE],
                                              const uint8_t uuid[HASH_UUID_SIZE],
                                              uint64_t ring_size, struct stage_trailer *trailer)
{
    struct stage_trailer t = {.ring_size = bytes_get_u64(block + AT_RING_SIZE)};
    memcpy(t.uuid, block + AT_UUID, sizeof t.uuid);
    memcpy(t.nonce, block + AT_NONCE, sizeof t.nonce);
    memcpy(t.nonce_before, block + AT_NONCE_BEFORE, sizeof t.nonce_before);
    if (bytes_get_u64(block + AT_MAGIC) != STAGE_TRAILER_MAGIC)
        return STAGE_TRAILER_NONE;
    if (bytes_get_u64(block + AT_CHECKSUM) != checksum_of(block, t.uuid))
        return STAGE_TRAILER_BAD_CHECKSUM;
    if (memcmp(t.uuid, uuid, HASH_UUID_SIZE) != 0)
        return STAGE_TRAILER_OTHER_DATABASE;
    uint32_t format = bytes_get_u32(block + AT_FORMAT);
    if (format > TRAILER_FORMAT)
        return STAGE_TRAILER_NEWER;
    if (format == 0 || t.ring_size != ring_size)
        return STAGE_TRAILER_BAD_FIELDS;
    *trailer = t;
    return STAGE_TRAILER_OK;
}

const char *stage_trailer_fault_text(enum stage_trailer_fault fault)
{
    switch (fault) {
    case STAGE_TRAILER_OK:
        return "whole";
    case STAGE_TRAILER_NONE:
        return "its last block does not say whose it is";
    case STAGE_TRAILER_BAD_CHECKSUM:
        return "its last block, which says whose it is, is damaged";
    case STAGE_TRAILER_OTHER_DATABASE:
        return "it belongs to another database";
    case STAGE_TRAILER_NEWER:
        return "it has a newer format";
    case STAGE_TRAILER_BAD_FIELDS:
        return "its last block is that of a file of another size";
    }
    return "unknown fault";
}

bool stage_trailer_fits(const struct stage_trailer *trailer,
                        const struct log_segment_header *header)
{
    return memcmp(trailer->nonce, header->nonce, LOG_NONCE_SIZE) == 0 ||
           memcmp(trailer->nonce_before, header->nonce, LOG_NONCE_SIZE) == 0;
}
