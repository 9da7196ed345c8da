/* Decimal only; signs only where a number may be negative; no locale. */
#include "engine/base/parse.h"

#include <stdio.h>
#include <string.h>

static const char *take_digits(const char *text, uint64_t *value)
{
    uint64_t v = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*at - '0'), &v))
            return NULL;
    }
    if (at == text)
        return NULL;
    *value = v;
    return at;
}

bool parse_u64(const char *text, uint64_t *value)
{
    uint64_t v;
    const char *rest = take_digits(text, &v);
    if (rest == NULL || *rest != '\0')
        return false;
    *value = v;
    return true;
}

bool parse_i64(const char *text, int64_t *value)
{
    bool negative = *text == '-';
    uint64_t v;
    if (!parse_u64(text + negative, &v) || v > (uint64_t)INT64_MAX)
        return false;
    *value = negative ? -(int64_t)v : (int64_t)v;
    return true;
}

bool parse_size(const char *text, uint64_t *bytes)
{
    static const char units[] = "KMGT";
    uint64_t v;
    const char *rest = take_digits(text, &v);
    if (rest == NULL)
        return false;
    const char *unit = *rest == '\0' ? NULL : strchr(units, *rest);
    if (unit != NULL) {
        unsigned shift = 10 * (unsigned)(unit - units + 1);
        if (v > UINT64_MAX >> shift)
            return false;
        v <<= shift;
        rest++;
        if (*rest == 'i')
            rest++;
    }
    if (*rest == 'B')
        rest++;
    if (*rest != '\0')
        return false;
    *bytes = v;
    return true;
}

bool parse_bool(const char *text, bool *value)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *value = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

const char *parse_format_size(uint64_t bytes, char *text)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    snprintf(text, PARSE_SIZE_TEXT, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}
