#include "engine/base/head_sort.h"

#include <string.h>

#define VALUES 256 /* of a byte */

static inline unsigned digit_of(const struct head_item *item, unsigned digit)
{
    return (unsigned)(item->head >> 8 * digit) & (VALUES - 1);
}

/* counts[v]: items whose digit is v. */
static void scatter(const struct head_item *from, struct head_item *to, size_t count,
                    unsigned digit, const uint32_t *counts)
{
    uint32_t places[VALUES], place = 0;
    for (unsigned v = 0; v < VALUES; v++) {
        places[v] = place;
        place += counts[v];
    }
    for (size_t i = 0; i < count; i++)
        to[places[digit_of(&from[i], digit)]++] = from[i];
}

void head_sort(struct head_item *items, struct head_item *scratch, size_t count)
{
    uint32_t counts[sizeof(uint64_t)][VALUES] = {{0}};
    struct head_item *from = items, *to = scratch;
    for (size_t i = 0; i < count; i++) {
        for (unsigned digit = 0; digit < sizeof(uint64_t); digit++)
            counts[digit][digit_of(&items[i], digit)]++;
    }
    for (unsigned digit = 0; count > 0 && digit < sizeof(uint64_t); digit++) {
        if (counts[digit][digit_of(&from[0], digit)] == count)
            continue;
        scatter(from, to, count, digit, counts[digit]);
        struct head_item *swapped = from;
        from = to;
        to = swapped;
    }
    if (from != items)
        memcpy(items, from, count * sizeof *items);
}
