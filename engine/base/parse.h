/* Text to numbers: the one way to parse a size, a number or a switch. */
#ifndef ENGINE_BASE_PARSE_H
#define ENGINE_BASE_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The whole of `text` must be used. False, with *value untouched, when it does not parse or fit. */
bool parse_u64(const char *text, uint64_t *value);
bool parse_i64(const char *text, int64_t *value);
/* Bytes: a number with an optional B, K, KB, KiB, M, MB, MiB, G.., T.. (powers of 1024 all). */
bool parse_size(const char *text, uint64_t *bytes);
bool parse_bool(const char *text, bool *value); /* true, false, yes, no, on, off, 1, 0 */

/* "64.0 MiB" for people; `text` holds at least PARSE_SIZE_TEXT bytes. Returns text. */
#define PARSE_SIZE_TEXT 32
const char *parse_format_size(uint64_t bytes, char *text);

#endif
