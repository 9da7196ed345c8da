/*
 * The file CURRENT: which manifest is in force. Text that people can read, four lines:
 *
 *     lsm-current 1
 *     uuid 0f8b...
 *     manifest 7
 *     checksum 91c2...      (XXH3-64 of the bytes before this line)
 */
#ifndef ENGINE_FORMAT_CURRENT_H
#define ENGINE_FORMAT_CURRENT_H

#include "engine/base/hash.h"
#include "engine/base/status.h"

#define CURRENT_MAX_SIZE ((size_t)160) /* bytes, with a NUL */

/* Writes the text, with a NUL, and returns its length. */
size_t current_encode(const uint8_t uuid[HASH_UUID_SIZE], uint64_t manifest_number,
                      char text[CURRENT_MAX_SIZE]);

/* LSM_CORRUPT when it is not exactly what encode makes; LSM_NEWER_FORMAT. `directory` is for the
 * message. */
lsm_status current_decode(const char *text, size_t size, const char *directory,
                          uint8_t uuid[HASH_UUID_SIZE], uint64_t *manifest_number, lsm_error *err);

#endif
