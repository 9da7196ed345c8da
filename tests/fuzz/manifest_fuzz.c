/*
 * Arbitrary bytes as a manifest file, as an edit, and as CURRENT. The first byte says which, and
 * whether checksums are put right first, so that the fuzzer gets behind them. What was replayed
 * must encode again and replay to the same.
 */
#include "engine/base/memory.h"
#include "engine/format/current.h"
#include "engine/version/replay.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct frame_place place = {.uuid = "0123456789abcde", .file_number = 7};

static void require(bool claim)
{
    if (!claim)
        abort();
}

static void read_edit(lsm_slice bytes)
{
    struct version_edit edit, again;
    struct buffer encoded = {0};
    if (edit_decode(bytes, &edit, NULL) != LSM_OK)
        return;
    require(edit_encode(&edit, &encoded, NULL) == LSM_OK);
    require(edit_decode(buffer_slice(&encoded), &again, NULL) == LSM_OK);
    require(edit.added_count == again.added_count && edit.removed_count == again.removed_count);
    require(edit.created_count == again.created_count && edit.next_cf == again.next_cf);
    edit_release(&edit);
    edit_release(&again);
    buffer_release(&encoded);
}

/* A snapshot that came out is one that replays: tables and families by the same counts. */
static void replay_again(const struct version_edit *snapshot)
{
    struct replay r = {0};
    struct version_edit copy, out;
    struct buffer encoded = {0};
    require(edit_encode(snapshot, &encoded, NULL) == LSM_OK);
    require(edit_decode(buffer_slice(&encoded), &copy, NULL) == LSM_OK);
    require(replay_apply(&r, &copy, NULL) == LSM_OK);
    require(replay_finish(&r, &out, NULL) == LSM_OK);
    require(out.added_count == snapshot->added_count);
    require(out.created_count == snapshot->created_count);
    edit_release(&copy);
    edit_release(&out);
    buffer_release(&encoded);
}

static void read_manifest(lsm_slice bytes)
{
    struct version_edit snapshot;
    struct frame_chain chain;
    bool is_torn;
    lsm_error error = {0};
    lsm_status status =
        replay_manifest(&place, "MANIFEST-000007", bytes, &snapshot, &chain, &is_torn, &error);
    if (status != LSM_OK) {
        require(error.status == status && error.message[0] != '\0');
        return;
    }
    require(chain.offset <= bytes.size && is_torn == (chain.offset < bytes.size));
    replay_again(&snapshot);
    edit_release(&snapshot);
}

/* Cuts the input into payloads, each led by its length, and frames them. */
static void read_signed_manifest(const uint8_t *data, size_t size)
{
    struct buffer bytes = {0};
    struct frame_chain chain = frame_begin_file(&place, 1, &bytes);
    while (size > 2) {
        size_t payload = bytes_get_u16(data);
        data += 2;
        size -= 2;
        payload = payload > size ? size : payload;
        frame_append(&place, FRAME_EDIT, 0, LSM_SLICE(data, payload), &chain, &bytes);
        data += payload;
        size -= payload;
    }
    require(!bytes.failed);
    read_manifest(buffer_slice(&bytes));
    buffer_release(&bytes);
}

static void read_current(const uint8_t *data, size_t size)
{
    uint8_t uuid[HASH_UUID_SIZE];
    uint64_t number;
    char text[CURRENT_MAX_SIZE];
    if (current_decode((const char *)data, size, "directory", uuid, &number, NULL) == LSM_OK)
        require(current_encode(uuid, number, text) == size && memcmp(text, data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    /* A copy of its own, so that reading past its end is seen. */
    uint8_t *copy = malloc(size - 1 + (size == 1));
    require(copy != NULL);
    memcpy(copy, data + 1, size - 1);
    switch (data[0] % 4) {
    case 0:
        read_edit(LSM_SLICE(copy, size - 1));
        break;
    case 1:
        read_manifest(LSM_SLICE(copy, size - 1));
        break;
    case 2:
        read_signed_manifest(copy, size - 1);
        break;
    default:
        read_current(copy, size - 1);
    }
    free(copy);
    return 0;
}
