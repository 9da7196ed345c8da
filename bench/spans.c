#include "bench/spans.h"

#include <stdlib.h>

/* Where a span begins or ends. */
struct edge {
    uint64_t at;
    int step; /* 1 or -1 */
};

uint64_t span_size(struct span span)
{
    return span.limit > span.first ? span.limit - span.first : 0;
}

struct span span_withheld(uint64_t due, uint64_t woke, uint64_t queued, uint64_t tick)
{
    uint64_t unknown = queued + tick;
    return (struct span){due, woke > due && woke - due > unknown ? woke - unknown : due};
}

/* At one moment ends go first: spans that only touch do not lie over each other. */
static int compare_edges(const void *a, const void *b)
{
    const struct edge *left = a, *right = b;
    if (left->at != right->at)
        return left->at < right->at ? -1 : 1;
    return left->step - right->step;
}

size_t spans_cover(const struct span *spans, size_t count, size_t depth, struct span *covered)
{
    struct edge *edges = malloc((2 * count + 1) * sizeof *edges);
    size_t edge_count = 0, found = 0, inside = 0;
    if (edges == NULL)
        return SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        if (span_size(spans[i]) == 0)
            continue;
        edges[edge_count++] = (struct edge){spans[i].first, 1};
        edges[edge_count++] = (struct edge){spans[i].limit, -1};
    }
    qsort(edges, edge_count, sizeof *edges, compare_edges);
    for (size_t i = 0; i < edge_count; i++) {
        uint64_t at = edges[i].at;
        if (edges[i].step > 0 && ++inside == depth) {
            if (found > 0 && covered[found - 1].limit == at)
                found--; /* goes on where the one before it ended */
            else
                covered[found].first = at;
        } else if (edges[i].step < 0 && inside-- == depth) {
            covered[found++].limit = at;
        }
    }
    free(edges);
    return found;
}

/* The first span that ends behind `at`. */
static size_t first_behind(const struct span *spans, size_t count, uint64_t at)
{
    size_t first = 0, limit = count;
    while (first < limit) {
        size_t middle = first + (limit - first) / 2;
        if (spans[middle].limit > at)
            limit = middle;
        else
            first = middle + 1;
    }
    return first;
}

uint64_t spans_overlap(const struct span *spans, size_t count, struct span with)
{
    uint64_t sum = 0;
    for (size_t i = first_behind(spans, count, with.first);
         i < count && spans[i].first < with.limit; i++) {
        struct span common = spans[i];
        if (common.first < with.first)
            common.first = with.first;
        if (common.limit > with.limit)
            common.limit = with.limit;
        sum += span_size(common);
    }
    return sum;
}
