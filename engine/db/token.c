/*
 * Snapshot tokens: where a snapshot stands, as text that can be handed to another process.
 *
 *     lsm1-<112 hexadecimal digits>
 *
 * The digits are 56 bytes:
 *
 *   0   database    16 bytes  uuid
 *   16  population  16 bytes  nonce of the shared segment
 *   32  generation  u32       of the slot
 *   36  slot        u16
 *   38  entry       u16       in the slot's snapshots
 *   40  sequence    u64
 *   48  checksum    u64       of the bytes before, seed 0
 *
 * A token keeps nothing alive and gives no rights: it is only good while the snapshot that it names
 * is held.
 */
#include "engine/db/db_private.h"

#include "engine/base/bytes.h"
#include "engine/base/hash.h"

#include <assert.h>

#define TOKEN_PREFIX   "lsm1-"
#define TOKEN_BYTES    56
#define TOKEN_CHECKED  48
#define TOKEN_LENGTH   (sizeof TOKEN_PREFIX - 1 + 2 * (size_t)TOKEN_BYTES)
#define TOKEN_NONCE_AT SHM_UUID_SIZE

static_assert(TOKEN_LENGTH < LSM_SNAPSHOT_TOKEN_SIZE, "a token and its NUL fit");
static_assert(SHM_MAX_SLOTS <= UINT16_MAX && SHM_SLOT_SNAPSHOTS <= UINT16_MAX, "in 16 bits");

/* ---- text ------------------------------------------------------------------------------------ */

static void write_digits(const uint8_t bytes[TOKEN_BYTES], char token[LSM_SNAPSHOT_TOKEN_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    memset(token, 0, LSM_SNAPSHOT_TOKEN_SIZE);
    memcpy(token, TOKEN_PREFIX, sizeof TOKEN_PREFIX - 1);
    char *at = token + sizeof TOKEN_PREFIX - 1;
    for (size_t i = 0; i < TOKEN_BYTES; i++) {
        *at++ = digits[bytes[i] >> 4];
        *at++ = digits[bytes[i] & 15];
    }
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static lsm_status read_digits(const char *token, uint8_t bytes[TOKEN_BYTES], lsm_error *err)
{
    size_t length = strnlen(token, LSM_SNAPSHOT_TOKEN_SIZE);
    if (length != TOKEN_LENGTH || memcmp(token, TOKEN_PREFIX, sizeof TOKEN_PREFIX - 1) != 0) {
        lsm_status status = lsm_fail(err, LSM_INVALID,
                                     "the text of %zu characters is no snapshot token, which has "
                                     "%zu and begins with '" TOKEN_PREFIX "'",
                                     length, TOKEN_LENGTH);
        status_numbers(err, TOKEN_LENGTH, length);
        return status;
    }
    const char *at = token + sizeof TOKEN_PREFIX - 1;
    for (size_t i = 0; i < TOKEN_BYTES; i++) {
        int high = digit_value(*at++), low = digit_value(*at++);
        if (high < 0 || low < 0)
            return lsm_fail(err, LSM_INVALID,
                            "the snapshot token is damaged: there is no hexadecimal digit at %zu",
                            (size_t)(at - token) - (high < 0 ? 2 : 1));
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return LSM_OK;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static void encode(const lsm_db *db, const struct db_snapshot_place *place,
                   uint8_t bytes[TOKEN_BYTES])
{
    memcpy(bytes, db->layout->ident.uuid, SHM_UUID_SIZE);
    memcpy(bytes + TOKEN_NONCE_AT, db->layout->ident.nonce, SHM_UUID_SIZE);
    bytes_put_u32(bytes + 32, place->generation);
    bytes_put_u16(bytes + 36, (uint16_t)place->slot);
    bytes_put_u16(bytes + 38, (uint16_t)place->entry);
    bytes_put_u64(bytes + 40, place->sequence);
    bytes_put_u64(bytes + TOKEN_CHECKED, hash_bytes(bytes, TOKEN_CHECKED, 0));
}

static lsm_status check_origin(const lsm_db *db, const uint8_t bytes[TOKEN_BYTES], lsm_error *err)
{
    uint64_t stored = bytes_get_u64(bytes + TOKEN_CHECKED);
    uint64_t computed = hash_bytes(bytes, TOKEN_CHECKED, 0);
    if (stored != computed) {
        lsm_status status = lsm_fail(err, LSM_INVALID,
                                     "the snapshot token is damaged: its checksum is %016" PRIx64
                                     ", expected %016" PRIx64,
                                     stored, computed);
        status_numbers(err, computed, stored);
        return status;
    }
    if (memcmp(bytes, db->layout->ident.uuid, SHM_UUID_SIZE) != 0)
        return lsm_fail(err, LSM_INVALID,
                        "the snapshot token belongs to another database than '%s'", db->path);
    if (memcmp(bytes + TOKEN_NONCE_AT, db->layout->ident.nonce, SHM_UUID_SIZE) != 0)
        return lsm_fail(err, LSM_MISSING,
                        "the snapshot token is older than the present opening of '%s', which all "
                        "processes had closed in between, or of a copy of it",
                        db->path);
    return LSM_OK;
}

static lsm_status decode(const uint8_t bytes[TOKEN_BYTES], struct db_snapshot_place *place,
                         lsm_error *err)
{
    *place = (struct db_snapshot_place){.generation = bytes_get_u32(bytes + 32),
                                        .slot = bytes_get_u16(bytes + 36),
                                        .entry = bytes_get_u16(bytes + 38),
                                        .sequence = bytes_get_u64(bytes + 40)};
    if (place->slot >= SHM_MAX_SLOTS || place->entry >= SHM_SLOT_SNAPSHOTS)
        return lsm_fail(err, LSM_INVALID,
                        "the snapshot token is damaged: it names entry %" PRIu32 " of slot %" PRIu32
                        ", there are %d and %d",
                        place->entry, place->slot, SHM_SLOT_SNAPSHOTS, SHM_MAX_SLOTS);
    return LSM_OK;
}

/* ---- the calls ------------------------------------------------------------------------------- */

LSM_API lsm_status lsm_snapshot_export(lsm_db *db, const lsm_snapshot *snapshot,
                                       char token[LSM_SNAPSHOT_TOKEN_SIZE], lsm_error *err)
{
    lsm_status status = db_check(db, err);
    if (status == LSM_OK && db->options.read_only)
        status = lsm_fail(err, LSM_READ_ONLY,
                          "'%s' was opened for reading only, which shares no snapshots", db->path);
    if (status != LSM_OK)
        return status;
    if (snapshot == NULL || token == NULL)
        return lsm_fail(err, LSM_INVALID, "the snapshot or the place for its token is NULL");
    struct db_snapshot_place place;
    if (!db_snapshot_place(db, snapshot, &place))
        return lsm_fail(err, LSM_INVALID, "the snapshot is not one of this handle of '%s'",
                        db->path);
    uint8_t bytes[TOKEN_BYTES];
    encode(db, &place, bytes);
    write_digits(bytes, token);
    return LSM_OK;
}

LSM_API lsm_status lsm_snapshot_open(lsm_db *db, const char *token, lsm_snapshot **snapshot,
                                     lsm_error *err)
{
    lsm_status status = db_check(db, err);
    if (status != LSM_OK)
        return status;
    if (token == NULL || snapshot == NULL)
        return lsm_fail(err, LSM_INVALID, "the token or the place for the snapshot is NULL");
    uint8_t bytes[TOKEN_BYTES];
    struct db_snapshot_place place;
    status = read_digits(token, bytes, err);
    if (status == LSM_OK && db->is_private)
        status =
            lsm_fail(err, LSM_MISSING,
                     "the snapshot is not held any more: no other process has '%s' open", db->path);
    if (status == LSM_OK)
        status = check_origin(db, bytes, err);
    if (status == LSM_OK)
        status = decode(bytes, &place, err);
    return status == LSM_OK ? db_snapshot_join(db, &place, snapshot, err) : status;
}
