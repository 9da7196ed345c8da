/*
 * Random databases, random damage of every sort at once: what is not damaged comes back exactly,
 * nothing comes back that was never written, what differs is in a range that repair reports, and
 * the result is a sound database.
 */
#include "tests/torture/bed.h"

#include <inttypes.h>
#include <stdio.h>

#define CASES_EACH 20 /* on one database */

struct wound {
    void (*make)(struct bed *bed);
    const char *text;
};

static size_t skewed(struct random_state *random, size_t limit)
{
    size_t bits = random_below(random, 11);
    size_t number = 1 + random_below(random, (size_t)1 << bits);
    return number < limit ? number : limit;
}

static struct folder_file *random_place(struct bed *bed, uint64_t *offset)
{
    const struct atlas_part *part = bed_random_part(bed);
    struct folder_file *file = folder_find(&bed->work, part->file);
    *offset = bed_random_byte(bed, part);
    return file != NULL && *offset < file->size ? file : NULL;
}

static void wound_bytes(struct bed *bed)
{
    struct random_state *random = &bed->torture->random;
    for (size_t n = skewed(random, 1000); n > 0; n--) {
        uint64_t offset;
        struct folder_file *file = random_place(bed, &offset);
        if (file != NULL)
            file->bytes[offset] = (uint8_t)random_next(random);
    }
}

static void wound_bits(struct bed *bed)
{
    struct random_state *random = &bed->torture->random;
    for (size_t n = skewed(random, 30); n > 0; n--) {
        uint64_t offset;
        struct folder_file *file = random_place(bed, &offset);
        if (file != NULL)
            file->bytes[offset] ^= (uint8_t)(1u << random_below(random, 8));
    }
}

static void wound_range(struct bed *bed)
{
    uint64_t offset;
    struct folder_file *file = random_place(bed, &offset);
    size_t size = skewed(&bed->torture->random, 8192);
    if (file == NULL)
        return;
    size = size < file->size - offset ? size : (size_t)(file->size - offset);
    memset(file->bytes + offset, 0, size);
}

static void wound_cut(struct bed *bed)
{
    struct folder_file *file = bed_random_file(bed);
    folder_resize(file, random_below(&bed->torture->random, file->size + 1));
}

static void wound_drop(struct bed *bed)
{
    folder_remove(&bed->work, bed_random_file(bed)->name);
}

static void wound_old_copy(struct bed *bed)
{
    const struct folder *old = &bed->specimen.earlier;
    const struct folder_file *from = &old->files[random_below(&bed->torture->random, old->count)];
    folder_put(&bed->work, from->name, from->bytes, from->size);
}

static void wound_swap(struct bed *bed)
{
    struct folder_file *a = bed_random_file(bed), *b = bed_random_file(bed);
    struct folder_file kept = *a;
    a->bytes = b->bytes;
    a->size = b->size;
    b->bytes = kept.bytes;
    b->size = kept.size;
}

/* The root of everything: CURRENT, or a manifest, or all of them. */
static void wound_root(struct bed *bed)
{
    uint64_t which = random_below(&bed->torture->random, 4);
    for (size_t i = bed->work.count; i-- > 0;) {
        const char *name = bed->work.files[i].name;
        bool is_current = strcmp(name, "CURRENT") == 0;
        bool is_manifest = strncmp(name, "MANIFEST-", 9) == 0;
        if ((is_current && which != 1) || (is_manifest && which >= 1))
            folder_remove(&bed->work, name);
        if (which == 1 && is_manifest)
            break; /* the newest only */
    }
}

static const struct wound wounds[] = {
    {wound_bytes, "bytes"},        {wound_bits, "bits"},
    {wound_range, "zeros"},        {wound_cut, "cut"},
    {wound_drop, "gone"},          {wound_old_copy, "an old copy"},
    {wound_swap, "files swapped"}, {wound_root, "the root gone"},
};
#define WOUNDS (sizeof wounds / sizeof wounds[0])

static void try_one(struct bed *bed, uint64_t number, uint64_t seed)
{
    struct random_state *random = &bed->torture->random;
    char text[160] = "";
    size_t size = 0, count = random_below(random, 3) == 0 ? 1 + random_below(random, 4) : 1;
    for (size_t i = 0; i < count && bed->work.count > 1; i++) {
        const struct wound *wound = &wounds[random_below(random, WOUNDS)];
        wound->make(bed);
        size += (size_t)snprintf(text + size, sizeof text - size, "%s%s", i > 0 ? ", " : "",
                                 wound->text);
    }
    torture_case(bed->torture, "case %" PRIu64 " on specimen %" PRIu64 ": %s", number, seed, text);
    bed_run(bed, (struct trial_wants){0});
    bed_clear(bed);
}

int suite_salvage(struct torture *t)
{
    static const char *const kinds[] = {"lost", "stale", "revived", "corrupt"};
    uint64_t count = torture_cases(t, 200, 20000), sums[4] = {0};
    for (uint64_t i = 0; i < count;) {
        struct bed bed;
        uint64_t seed = 1 + random_next(&t->random) % 1000000;
        enum bed_end end = random_below(&t->random, 3) == 0 ? BED_CLOSED : BED_KILLED;
        if (bed_begin_seeded(&bed, t, seed, end)) {
            for (unsigned n = 0; n < CASES_EACH && i < count; n++)
                try_one(&bed, i++, seed);
        } else {
            i += CASES_EACH;
        }
        for (size_t k = 0; k < 4; k++)
            sums[k] += bed.trial.counts[k];
        bed_end(&bed);
    }
    for (size_t k = 0; k < 4; k++)
        printf("%s %.2f a case%s", kinds[k], (double)sums[k] / (double)count, k < 3 ? ", " : "\n");
    return TORTURE_DONE;
}
