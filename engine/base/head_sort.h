/*
 * Sorting by numbers that grow with keys, the first bytes of what tells them apart, without looking
 * at a key: digit by digit, stable, so that what came first of equals stays first.
 */
#ifndef ENGINE_BASE_HEAD_SORT_H
#define ENGINE_BASE_HEAD_SORT_H

#include <stddef.h>
#include <stdint.h>

struct head_item {
    uint64_t head;
    uint32_t place; /* of what it stands for; the caller's, as is */
    uint32_t mark;
};

/* By head, items that are equal in the order in which they came. `count` is under 2^32, `scratch`
 * has room for as many. */
void head_sort(struct head_item *items, struct head_item *scratch, size_t count);

#endif
