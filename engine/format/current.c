/* Decoding is encoding backwards: a text is right when encoding what was read gives it again. */
#include "engine/format/current.h"

#include "engine/base/bytes.h"

#include <stdio.h>

#define CURRENT_FORMAT 1

size_t current_encode(const uint8_t uuid[HASH_UUID_SIZE], uint64_t manifest_number,
                      char text[CURRENT_MAX_SIZE])
{
    char hex[2 * HASH_UUID_SIZE + 1];
    for (size_t i = 0; i < HASH_UUID_SIZE; i++)
        snprintf(hex + 2 * i, 3, "%02x", uuid[i]);
    int size = snprintf(text, CURRENT_MAX_SIZE, "lsm-current %d\nuuid %s\nmanifest %" PRIu64 "\n",
                        CURRENT_FORMAT, hex, manifest_number);
    uint64_t checksum = hash_bytes(text, (size_t)size, 0);
    size += snprintf(text + size, CURRENT_MAX_SIZE - (size_t)size, "checksum %016" PRIx64 "\n",
                     checksum);
    return (size_t)size;
}

static lsm_status bad(const char *directory, const char *what, lsm_error *err)
{
    lsm_status status =
        lsm_fail(err, LSM_CORRUPT, "CURRENT in '%s' %s; see lsm-repair", directory, what);
    status_place(err, "CURRENT", 0);
    return status;
}

/* True when the last line is the checksum of all before it, whatever stands there. */
static bool checksum_fits(const char *text, size_t size)
{
    static const char word[] = "checksum ";
    const size_t line = sizeof word - 1 + 16 + 1;
    if (size <= line)
        return false;
    char expected[sizeof word + 32];
    snprintf(expected, sizeof expected, "%s%016" PRIx64 "\n", word,
             hash_bytes(text, size - line, 0));
    return memcmp(text + size - line, expected, line) == 0;
}

lsm_status current_decode(const char *text, size_t size, const char *directory,
                          uint8_t uuid[HASH_UUID_SIZE], uint64_t *manifest_number, lsm_error *err)
{
    char copy[CURRENT_MAX_SIZE], again[CURRENT_MAX_SIZE];
    if (size >= sizeof copy)
        return bad(directory, "is too long", err);
    memcpy(copy, text, size);
    copy[size] = '\0';
    if (!checksum_fits(copy, size))
        return bad(directory, "has a wrong checksum", err);
    unsigned format = 0;
    if (sscanf(copy, "lsm-current %u\n", &format) != 1)
        return bad(directory, "does not parse", err);
    if (format > CURRENT_FORMAT)
        return lsm_fail(err, LSM_NEWER_FORMAT,
                        "CURRENT in '%s' has format %u, this library knows %d", directory, format,
                        CURRENT_FORMAT);
    char hex[2 * HASH_UUID_SIZE + 1];
    uint64_t number;
    if (sscanf(copy, "lsm-current %u\nuuid %32[0-9a-f]\nmanifest %" SCNu64 "\n", &format, hex,
               &number) != 3)
        return bad(directory, "does not parse", err);
    uint8_t read[HASH_UUID_SIZE] = {0};
    for (size_t i = 0; i < HASH_UUID_SIZE && hex[2 * i] != '\0'; i++) {
        unsigned byte = 0;
        sscanf(hex + 2 * i, "%2x", &byte);
        read[i] = (uint8_t)byte;
    }
    if (current_encode(read, number, again) != size || memcmp(again, copy, size) != 0)
        return bad(directory, "does not parse", err);
    memcpy(uuid, read, HASH_UUID_SIZE);
    *manifest_number = number;
    return LSM_OK;
}
