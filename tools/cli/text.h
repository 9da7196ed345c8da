/*
 * Growing bytes, and the ways in which bytes are written as text:
 *
 *     hex      two lower-case digits a byte; read in either case
 *     print    ASCII from blank to tilde as it is, backslash doubled, all else as \hh
 *     base64   RFC 4648 with padding
 *
 * "Printable" never asks the locale, so a file means the same everywhere.
 */
#ifndef TOOLS_CLI_TEXT_H
#define TOOLS_CLI_TEXT_H

#include "engine/lsm.h"

struct text {
    char *bytes; /* owned */
    size_t size;
    size_t capacity;
};

void text_release(struct text *t); /* becomes empty */
void text_clear(struct text *t);   /* keeps the memory */
/* Room for `extra` more bytes; returns where they go. The caller adds to `size` what it wrote. */
char *text_reserve(struct text *t, size_t extra);
void text_append(struct text *t, const void *bytes, size_t size);
void text_append_string(struct text *t, const char *string);
void text_append_format(struct text *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The bytes with a NUL behind them; valid until the next change. */
const char *text_string(struct text *t);

static inline lsm_slice text_slice(const struct text *t)
{
    return LSM_SLICE(t->size == 0 ? "" : t->bytes, t->size);
}

void text_append_hex(struct text *t, lsm_slice bytes);
void text_append_print(struct text *t, lsm_slice bytes);
void text_append_base64(struct text *t, lsm_slice bytes);

/*
 * Append the decoded bytes. NULL when all was well, else what is wrong, a static sentence, with
 * *at the offset in `encoded` where it was found (`at` may be NULL).
 */
const char *text_decode_hex(struct text *t, lsm_slice encoded, size_t *at);
const char *text_decode_print(struct text *t, lsm_slice encoded, size_t *at);
const char *text_decode_base64(struct text *t, lsm_slice encoded, size_t *at);

/* True when print writes every byte as itself. */
bool text_is_printable(lsm_slice bytes);
/* True for well-formed UTF-8: no surrogates, no overlong forms. */
bool text_is_utf8(lsm_slice bytes);

#endif
