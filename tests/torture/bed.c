#include "tests/torture/bed.h"

#include <inttypes.h>

bool bed_begin(struct bed *bed, struct torture *t)
{
    return bed_begin_seeded(bed, t, 0, BED_KILLED);
}

bool bed_begin_seeded(struct bed *bed, struct torture *t, uint64_t seed, enum bed_end end)
{
    struct folder nothing = {0};
    *bed = (struct bed){.torture = t};
    folder_store(&nothing, t->path);
    (end == BED_KILLED ? specimen_make : specimen_make_closed)(&bed->specimen, t->path, seed);
    bed_clear(bed);
    bool sound = atlas_make(&bed->atlas, &bed->specimen.files);
    trial_begin(&bed->trial, t, &bed->specimen.model, &bed->specimen.files, &bed->atlas);
    torture_case(t, "specimen %" PRIu64 "%s, nothing damaged", seed,
                 end == BED_KILLED ? "" : ", closed");
    if (!torture_check(t, sound, "the specimen is not sound"))
        return false;
    bed_run(bed, (struct trial_wants){0});
    return true;
}

void bed_end(struct bed *bed)
{
    trial_end(&bed->trial);
    atlas_release(&bed->atlas);
    folder_release(&bed->work);
    specimen_release(&bed->specimen);
}

void bed_clear(struct bed *bed)
{
    folder_copy(&bed->work, &bed->specimen.files);
}

void bed_run(struct bed *bed, struct trial_wants wants)
{
    trial_run(&bed->trial, &bed->work, &wants);
}

const struct atlas_part *bed_random_part(struct bed *bed)
{
    struct random_state *random = &bed->torture->random;
    for (;;) { /* kinds first: else most would be blocks */
        enum atlas_kind kind = (enum atlas_kind)random_below(random, ATLAS_KINDS);
        size_t there = 0;
        while (atlas_nth(&bed->atlas, kind, there) != NULL)
            there++;
        if (there > 0)
            return atlas_nth(&bed->atlas, kind, random_below(random, there));
    }
}

uint64_t bed_random_byte(struct bed *bed, const struct atlas_part *part)
{
    struct random_state *random = &bed->torture->random;
    uint64_t size = random_below(random, 4) == 0 ? part->size : part->checked;
    const struct folder_file *file = folder_find(&bed->specimen.files, part->file);
    return (part->offset + random_below(random, size)) % file->size;
}

struct folder_file *bed_random_file(struct bed *bed)
{
    return &bed->work.files[random_below(&bed->torture->random, bed->work.count)];
}

void bed_fill_random(struct bed *bed, uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)random_next(&bed->torture->random);
}
