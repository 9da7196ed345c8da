/* Comparing runs of bytes. The order of keys is memcmp, then length: decided once, here. */
#ifndef ENGINE_BASE_SLICE_H
#define ENGINE_BASE_SLICE_H

#include "engine/lsm.h"

#include <string.h>

static inline int slice_compare(lsm_slice a, lsm_slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0)
        return order;
    return (a.size > b.size) - (a.size < b.size);
}

static inline bool slice_equal(lsm_slice a, lsm_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool slice_begins_with(lsm_slice s, lsm_slice prefix)
{
    return s.size >= prefix.size && (prefix.size == 0 || memcmp(s.data, prefix.data, prefix.size) == 0);
}

static inline lsm_slice slice_of_text(const char *text)
{
    return (lsm_slice){text, strlen(text)};
}

/* Length of the longest run of bytes that both begin with. */
static inline size_t slice_common_prefix(lsm_slice a, lsm_slice b)
{
    const uint8_t *x = a.data, *y = b.data;
    size_t limit = a.size < b.size ? a.size : b.size, n = 0;
    while (n < limit && x[n] == y[n])
        n++;
    return n;
}

#endif
