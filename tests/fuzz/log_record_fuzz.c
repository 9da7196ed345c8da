/*
 * Arbitrary bytes as a segment header, as a run of log records, and as a batch. The first byte says
 * whether checksums are put right first, so that the fuzzer also gets behind them.
 */
#include "engine/format/batch.h"
#include "engine/format/log_record.h"

#include <stdlib.h>

#define FUZZ_SEED UINT64_C(0x5eed)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t uuid[HASH_UUID_SIZE] = "0123456789abcde";

static void require(bool claim)
{
    if (!claim)
        abort();
}

static void read_batch(lsm_slice batch)
{
    struct batch_reader reader = batch_read(batch);
    struct batch_entry entry;
    const uint8_t *begin = batch.data;
    uint32_t count = 0;
    while (batch_next(&reader, &entry)) {
        const uint8_t *key = entry.key.data, *value = entry.value.data;
        require(entry.key.size == 0 ||
                (key >= begin && key + entry.key.size <= begin + batch.size));
        require(entry.value.size == 0 ||
                (value >= begin && value + entry.value.size <= begin + batch.size));
        count++;
    }
    require(reader.corrupt || count == batch_count(batch));
}

static void sign_record(uint8_t *bytes, size_t size, uint64_t position)
{
    size_t length;
    if (size < LOG_RECORD_MIN)
        return;
    bytes_put_u32(bytes, LOG_RECORD_MAGIC);
    bytes_put_u64(bytes + 8, position);
    if (log_record_peek(bytes, &length) != LOG_RECORD_OK || length > size)
        return;
    bytes_put_u32(bytes + length - 16, (uint32_t)length);
    bytes_put_u64(bytes + length - 8, hash_bytes(bytes, length - 8, FUZZ_SEED));
}

static void read_records(uint8_t *bytes, size_t size, bool sign)
{
    for (size_t at = 0; at < size;) {
        struct log_record record;
        if (sign)
            sign_record(bytes + at, size - at, at);
        if (log_record_decode((lsm_slice){bytes + at, size - at}, at, FUZZ_SEED, &record) !=
            LOG_RECORD_OK) {
            at += LOG_RECORD_ALIGNMENT;
            continue;
        }
        require(record.size <= size - at && record.batch.size + LOG_RECORD_MIN <= record.size);
        read_batch(record.batch);
        at += record.size;
    }
}

static void read_header(const uint8_t *bytes, size_t size, bool sign)
{
    uint8_t block[LOG_SEGMENT_HEADER] = {0};
    struct log_segment_header header;
    memcpy(block, bytes, size < sizeof block ? size : sizeof block);
    if (sign) {
        bytes_put_u64(block, LOG_SEGMENT_MAGIC);
        memcpy(block + 16, uuid, sizeof uuid);
        bytes_put_u64(block + 32, 12);
        bytes_put_u64(block + LOG_SEGMENT_HEADER - 8,
                      hash_bytes(block, LOG_SEGMENT_HEADER - 8, hash_place(uuid, 12, 0)));
    }
    if (log_segment_decode(block, uuid, 12, &header) == LOG_SEGMENT_OK)
        require(header.number == 12 && log_segment_limit(&header) > header.start &&
                header.previous < header.number);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    bool sign = (data[0] & 1) != 0;
    size--;
    uint8_t *bytes = malloc(size + 1); /* its own, so that a sanitizer sees a read behind it */
    require(bytes != NULL);
    memcpy(bytes, data + 1, size);
    read_header(bytes, size, sign);
    read_batch((lsm_slice){bytes, size});
    read_records(bytes, size, sign);
    free(bytes);
    return 0;
}
