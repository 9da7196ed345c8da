#include "bench/waits.h"

#include "bench/clock.h"
#include "bench/options.h"

#include <sys/mman.h>

#define FIRST_CAPACITY 256 /* spans: a page */

static void *mapped(struct span *spans, size_t count, size_t wanted)
{
    size_t size = wanted * sizeof *spans;
    if (count > 0)
        return mremap(spans, count * sizeof *spans, size, MREMAP_MAYMOVE);
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void grow(struct waits *waits)
{
    size_t wanted = waits->capacity > 0 ? 2 * waits->capacity : FIRST_CAPACITY;
    void *larger = mapped(waits->spans, waits->capacity, wanted);
    if (larger == MAP_FAILED)
        die("out of memory");
    waits->spans = larger;
    waits->capacity = wanted;
}

void waits_note(struct waits *waits, uint64_t end_ticks, uint64_t ticks)
{
    uint64_t ns = clock_ticks_to_ns(ticks);
    if (ns < WAITS_LEAST_NS) {
        if (ns > waits->longest_other_ns)
            waits->longest_other_ns = ns;
        return;
    }
    if (waits->count == waits->capacity)
        grow(waits);
    uint64_t limit = clock_ns_at(end_ticks);
    waits->spans[waits->count++] = (struct span){limit - ns, limit};
}

void waits_release(struct waits *waits)
{
    if (waits->capacity > 0)
        munmap(waits->spans, waits->capacity * sizeof *waits->spans);
    *waits = (struct waits){0};
}

static void outside_add(struct outside *outside, uint64_t longest_ns, uint64_t sum_ns)
{
    if (longest_ns > outside->longest_ns)
        outside->longest_ns = longest_ns;
    outside->sum_ns += sum_ns;
}

void waits_reckon(const struct waits *waits, const struct pauses *pauses, struct waits_left *left)
{
    outside_add(&left->of_all, waits->longest_other_ns, 0);
    outside_add(&left->of_any, waits->longest_other_ns, 0);
    for (size_t i = 0; i < waits->count; i++) {
        struct span wait = waits->spans[i];
        uint64_t size = span_size(wait);
        uint64_t of_all = size - spans_overlap(pauses->all, pauses->all_count, wait);
        uint64_t of_any = size - spans_overlap(pauses->any, pauses->any_count, wait);
        outside_add(&left->of_all, of_all, of_all);
        outside_add(&left->of_any, of_any, of_any);
        left->count++;
        left->sum_ns += size;
    }
}

void waits_left_add(struct waits_left *all, const struct waits_left *one)
{
    outside_add(&all->of_all, one->of_all.longest_ns, one->of_all.sum_ns);
    outside_add(&all->of_any, one->of_any.longest_ns, one->of_any.sum_ns);
    all->count += one->count;
    all->sum_ns += one->sum_ns;
}
