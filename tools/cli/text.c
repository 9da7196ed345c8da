#include "tools/cli/text.h"

#include "engine/base/bytes.h"
#include "tools/cli/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TEXT_FIRST_CAPACITY ((size_t)256)

void text_release(struct text *t)
{
    memory_free(t->bytes);
    *t = (struct text){0};
}

void text_clear(struct text *t)
{
    t->size = 0;
}

char *text_reserve(struct text *t, size_t extra)
{
    if (t->bytes == NULL || t->capacity - t->size < extra) {
        size_t wanted = t->size + extra;
        size_t capacity = t->capacity < TEXT_FIRST_CAPACITY ? TEXT_FIRST_CAPACITY : t->capacity * 2;
        t->capacity = capacity < wanted ? wanted : capacity;
        t->bytes = memory_resize(t->bytes, t->capacity);
    }
    return t->bytes + t->size;
}

void text_append(struct text *t, const void *bytes, size_t size)
{
    if (size == 0)
        return;
    memcpy(text_reserve(t, size), bytes, size);
    t->size += size;
}

void text_append_string(struct text *t, const char *string)
{
    text_append(t, string, strlen(string));
}

void text_append_format(struct text *t, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length > 0) {
        char *at = text_reserve(t, (size_t)length + 1);
        (void)vsnprintf(at, (size_t)length + 1, format, again);
        t->size += (size_t)length;
    }
    va_end(again);
}

const char *text_string(struct text *t)
{
    *text_reserve(t, 1) = '\0';
    return t->bytes;
}

/* ---- writing --------------------------------------------------------------------------------- */

static const char hex_digits[] = "0123456789abcdef";

/*
 * The digits of four bytes, first byte first in memory. Each byte of `nibbles` holds one of them as
 * a number; those over 9 are moved from behind '9' to 'a'.
 */
static uint64_t four_as_hex(uint32_t four)
{
    uint64_t spread = four;
    spread = (spread | spread << 16) & UINT64_C(0x0000ffff0000ffff);
    spread = (spread | spread << 8) & UINT64_C(0x00ff00ff00ff00ff);
    uint64_t nibbles =
        (spread >> 4 & UINT64_C(0x000f000f000f000f)) | (spread & UINT64_C(0x000f000f000f000f)) << 8;
    uint64_t is_letter = (nibbles + UINT64_C(0x0606060606060606)) >> 4;
    is_letter &= UINT64_C(0x0101010101010101);
    return nibbles + UINT64_C(0x3030303030303030) + is_letter * ('a' - '9' - 1);
}

void text_append_hex(struct text *t, lsm_slice bytes)
{
    const unsigned char *from = bytes.data;
    char *to = text_reserve(t, bytes.size * 2);
    size_t i = 0;
    for (; bytes.size - i >= 4; i += 4)
        bytes_put_u64(to + 2 * i, four_as_hex(bytes_get_u32(from + i)));
    for (; i < bytes.size; i++) {
        to[2 * i] = hex_digits[from[i] >> 4];
        to[2 * i + 1] = hex_digits[from[i] & 15];
    }
    t->size += bytes.size * 2;
}

static bool byte_is_plain(unsigned char byte)
{
    return byte >= 0x20 && byte < 0x7f && byte != '\\';
}

void text_append_print(struct text *t, lsm_slice bytes)
{
    const unsigned char *from = bytes.data;
    char *to = text_reserve(t, bytes.size * 3);
    char *start = to;
    for (size_t i = 0; i < bytes.size; i++) {
        if (byte_is_plain(from[i])) {
            *to++ = (char)from[i];
            continue;
        }
        *to++ = '\\';
        if (from[i] == '\\') {
            *to++ = '\\';
        } else {
            *to++ = hex_digits[from[i] >> 4];
            *to++ = hex_digits[from[i] & 15];
        }
    }
    t->size += (size_t)(to - start);
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void text_append_base64(struct text *t, lsm_slice bytes)
{
    const unsigned char *from = bytes.data;
    (void)text_reserve(t, (bytes.size + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t left = bytes.size - i;
        uint32_t group = (uint32_t)from[i] << 16;
        if (left > 1)
            group |= (uint32_t)from[i + 1] << 8;
        if (left > 2)
            group |= from[i + 2];
        char quad[4] = {base64_digits[group >> 18], base64_digits[group >> 12 & 63],
                        left > 1 ? base64_digits[group >> 6 & 63] : '=',
                        left > 2 ? base64_digits[group & 63] : '='};
        text_append(t, quad, sizeof quad);
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

static int hex_value(unsigned char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

static const char *decode_failed(const char *sentence, size_t offset, size_t *at)
{
    if (at != NULL)
        *at = offset;
    return sentence;
}

#define EACH_BYTE(value) (UINT64_C(0x0101010101010101) * (uint64_t)(value))

/*
 * Eight digits at once, first digit first in memory; the four bytes likewise. False when one of
 * them is none. In `digit` a byte is below 10 where there is a decimal one, in `letter` from 1 to 6
 * where there is another; adding what is missing to 0x80 shows it in the top bit.
 */
static inline bool eight_from_hex(uint64_t text, uint32_t *bytes)
{
    uint64_t top = EACH_BYTE(0x80);
    uint64_t digit = text ^ EACH_BYTE(0x30), letter = (text | EACH_BYTE(0x20)) ^ EACH_BYTE(0x60);
    uint64_t no_digit = ((digit & ~top) + EACH_BYTE(0x80 - 10)) & top;
    uint64_t no_letter =
        (((letter & ~top) + EACH_BYTE(0x80 - 7)) | ~((letter & ~top) + EACH_BYTE(0x80 - 1))) & top;
    uint64_t nibbles = (text & EACH_BYTE(0x0f)) + (no_digit >> 7) * 9;
    uint64_t pairs = (nibbles << 4 | nibbles >> 8) & UINT64_C(0x00ff00ff00ff00ff);
    pairs = (pairs | pairs >> 8) & UINT64_C(0x0000ffff0000ffff);
    *bytes = (uint32_t)(pairs | pairs >> 16);
    return ((text & top) | (no_digit & no_letter)) == 0;
}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
typedef uint8_t digits_vector __attribute__((vector_size(16)));
typedef uint16_t pairs_vector __attribute__((vector_size(16)));
typedef uint8_t bytes_vector __attribute__((vector_size(8)));

/* Sixteen digits at once, in a vector: the compiler finds instructions for it, or does without. */
static inline bool sixteen_from_hex(const unsigned char *from, char *to)
{
    digits_vector text;
    memcpy(&text, from, sizeof text);
    digits_vector digit = text - '0', letter = (text | 0x20) - 'a';
    digits_vector is_digit = (digits_vector)(digit < 10), is_letter = (digits_vector)(letter < 6);
    digits_vector nibbles = (digit & is_digit) | ((letter + 10) & is_letter);
    digits_vector is_known = is_digit | is_letter;
    pairs_vector pairs = (pairs_vector)nibbles; /* the first digit in the lower byte */
    bytes_vector bytes = __builtin_convertvector((pairs << 4 | pairs >> 8) & 0xff, bytes_vector);
    uint64_t known[2];
    memcpy(known, &is_known, sizeof known);
    memcpy(to, &bytes, sizeof bytes);
    return (known[0] & known[1]) == UINT64_MAX;
}
#else
static inline bool sixteen_from_hex(const unsigned char *from, char *to)
{
    (void)from;
    (void)to;
    return false;
}
#endif

const char *text_decode_hex(struct text *t, lsm_slice encoded, size_t *at)
{
    const unsigned char *from = encoded.data;
    char *to = text_reserve(t, encoded.size / 2);
    size_t i = 0;
    uint32_t four;
    while (i + 16 <= encoded.size && sixteen_from_hex(from + i, to + i / 2))
        i += 16;
    for (; i + 8 <= encoded.size && eight_from_hex(bytes_get_u64(from + i), &four); i += 8)
        bytes_put_u32((uint8_t *)to + i / 2, four);
    for (; i + 1 < encoded.size; i += 2) {
        int high = hex_value(from[i]), low = hex_value(from[i + 1]);
        if (high < 0 || low < 0)
            return decode_failed("not a hexadecimal digit", high < 0 ? i : i + 1, at);
        to[i / 2] = (char)(high << 4 | low);
    }
    if (encoded.size % 2 != 0)
        return decode_failed(hex_value(from[encoded.size - 1]) < 0
                                 ? "not a hexadecimal digit"
                                 : "an odd number of hexadecimal digits",
                             encoded.size - 1, at);
    t->size += encoded.size / 2;
    return NULL;
}

/* What stands in front of the next backslash is copied as it is; its length. */
static size_t copy_until_backslash(char *to, const unsigned char *from, size_t size)
{
    if (size == 0 || from[0] == '\\') /* one escape often follows another */
        return 0;
    const unsigned char *backslash = memchr(from, '\\', size);
    size_t plain = backslash == NULL ? size : (size_t)(backslash - from);
    memcpy(to, from, plain);
    return plain;
}

const char *text_decode_print(struct text *t, lsm_slice encoded, size_t *at)
{
    const unsigned char *from = encoded.data;
    char *to = text_reserve(t, encoded.size);
    char *start = to;
    for (size_t i = 0;;) {
        size_t plain = copy_until_backslash(to, from + i, encoded.size - i);
        to += plain;
        i += plain;
        if (i == encoded.size)
            break;
        size_t left = encoded.size - i;
        if (left >= 2 && from[i + 1] == '\\') {
            *to++ = '\\';
            i += 2;
            continue;
        }
        int high = left >= 2 ? hex_value(from[i + 1]) : -1;
        int low = left >= 3 ? hex_value(from[i + 2]) : -1;
        if (high < 0 || low < 0)
            return decode_failed("a backslash is followed by neither two hexadecimal digits nor "
                                 "another backslash",
                                 i, at);
        *to++ = (char)(high << 4 | low);
        i += 3;
    }
    t->size += (size_t)(to - start);
    return NULL;
}

static int base64_value(unsigned char digit)
{
    const char *found = digit == '\0' ? NULL : strchr(base64_digits, digit);
    return found == NULL ? -1 : (int)(found - base64_digits);
}

const char *text_decode_base64(struct text *t, lsm_slice encoded, size_t *at)
{
    const unsigned char *from = encoded.data;
    if (encoded.size % 4 != 0)
        return decode_failed("the length of base64 text is not a multiple of four", encoded.size,
                             at);
    for (size_t i = 0; i < encoded.size; i += 4) {
        bool is_last = i + 4 == encoded.size;
        size_t padding = !is_last || from[i + 3] != '=' ? 0 : from[i + 2] != '=' ? 1 : 2;
        uint32_t group = 0;
        for (size_t j = 0; j < 4 - padding; j++) {
            int value = base64_value(from[i + j]);
            if (value < 0)
                return decode_failed("not a base64 digit", i + j, at);
            group |= (uint32_t)value << (18 - 6 * j);
        }
        if ((group & ((UINT32_C(1) << (8 * padding)) - 1)) != 0)
            return decode_failed("base64 text ends with stray bits", i + 3 - padding, at);
        char bytes[3] = {(char)(group >> 16 & 0xff), (char)(group >> 8 & 0xff),
                         (char)(group & 0xff)};
        text_append(t, bytes, 3 - padding);
    }
    return NULL;
}

bool text_is_printable(lsm_slice bytes)
{
    const unsigned char *at = bytes.data;
    for (size_t i = 0; i < bytes.size; i++) {
        if (!byte_is_plain(at[i]))
            return false;
    }
    return true;
}

/* Bytes of the character that begins at `at`, 0 when it is malformed. */
static size_t utf8_length(const unsigned char *at, size_t left)
{
    unsigned char low = 0x80, high = 0xbf; /* bounds of the second byte */
    size_t length = 0;
    if (at[0] < 0x80)
        return 1;
    if (at[0] >= 0xc2 && at[0] <= 0xdf)
        length = 2;
    else if (at[0] >= 0xe0 && at[0] <= 0xef)
        length = 3;
    else if (at[0] >= 0xf0 && at[0] <= 0xf4)
        length = 4;
    if (length == 0 || left < length)
        return 0;
    if (at[0] == 0xe0)
        low = 0xa0;
    else if (at[0] == 0xed)
        high = 0x9f;
    else if (at[0] == 0xf0)
        low = 0x90;
    else if (at[0] == 0xf4)
        high = 0x8f;
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    return length;
}

bool text_is_utf8(lsm_slice bytes)
{
    const unsigned char *at = bytes.data;
    size_t i = 0;
    while (i < bytes.size) {
        size_t length = utf8_length(at + i, bytes.size - i);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}
