#include "engine/format/edit_mark.h"

#include "engine/base/bytes.h"

#include <assert.h>
#include <string.h>

#define MARK_MAGIC  UINT64_C(0x4b52414d4d534c65) /* "eLSMMARK" */
#define MARK_FORMAT 1

enum mark_offset {
    AT_MAGIC = 0,
    AT_FORMAT = 8,
    AT_UUID = 16,
    AT_FRAME_NUMBER = 32,
    AT_CHECKSUM = 56,
};

static_assert(AT_UUID + HASH_UUID_SIZE == AT_FRAME_NUMBER, "the uuid fits");
static_assert(AT_CHECKSUM + 8 == EDIT_MARK_SIZE, "the checksum is its end");

void edit_mark_encode(const struct edit_mark *mark, uint8_t bytes[EDIT_MARK_SIZE])
{
    memset(bytes, 0, EDIT_MARK_SIZE);
    bytes_put_u64(bytes + AT_MAGIC, MARK_MAGIC);
    bytes_put_u32(bytes + AT_FORMAT, MARK_FORMAT);
    memcpy(bytes + AT_UUID, mark->uuid, sizeof mark->uuid);
    bytes_put_u64(bytes + AT_FRAME_NUMBER, mark->frame_number);
    bytes_put_u64(bytes + AT_CHECKSUM, hash_bytes(bytes, AT_CHECKSUM, 0));
}

bool edit_mark_decode(const uint8_t bytes[EDIT_MARK_SIZE], struct edit_mark *mark)
{
    if (bytes_get_u64(bytes + AT_MAGIC) != MARK_MAGIC ||
        bytes_get_u32(bytes + AT_FORMAT) != MARK_FORMAT ||
        bytes_get_u64(bytes + AT_CHECKSUM) != hash_bytes(bytes, AT_CHECKSUM, 0))
        return false;
    if (bytes_get_u64(bytes + AT_FRAME_NUMBER) > EDIT_MARK_MAX)
        return false;
    memcpy(mark->uuid, bytes + AT_UUID, sizeof mark->uuid);
    mark->frame_number = bytes_get_u64(bytes + AT_FRAME_NUMBER);
    return true;
}
