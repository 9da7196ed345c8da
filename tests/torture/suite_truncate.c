/* Files that are shorter or longer than they were. */
#include "tests/torture/bed.h"

#include <inttypes.h>

#define GROWN_MAX ((size_t)8192)

static void resize(struct bed *bed, const char *name, size_t size, bool with_garbage)
{
    struct folder_file *file = folder_find(&bed->work, name);
    size_t before = file->size;
    torture_case(bed->torture, "%s cut or grown from %zu to %zu bytes%s", name, before, size,
                 with_garbage ? " of garbage" : "");
    folder_resize(file, size);
    if (with_garbage && size > before)
        bed_fill_random(bed, file->bytes + before, size - before);
    bed_run(bed, (struct trial_wants){0});
    bed_clear(bed);
}

/* Places that a cut may mistake for a good end: where parts and pages begin. */
static size_t tempting_size(struct bed *bed, const struct folder_file *file)
{
    struct random_state *random = &bed->torture->random;
    for (unsigned tries = 0; tries < 20; tries++) {
        const struct atlas_part *part = bed_random_part(bed);
        if (strcmp(part->file, file->name) == 0)
            return (size_t)(part->offset + random_below(random, 3)) - (part->offset > 0);
    }
    return random_below(random, file->size / 4096 + 1) * 4096;
}

static void try_one(struct bed *bed)
{
    struct random_state *random = &bed->torture->random;
    const struct folder_file *file = bed_random_file(bed);
    switch (random_below(random, 5)) {
    case 0:
        resize(bed, file->name, file->size + 1 + random_below(random, GROWN_MAX),
               random_below(random, 2) == 0);
        break;
    case 1:
        resize(bed, file->name, file->size + 4096, false);
        break;
    case 2:
        resize(bed, file->name, random_below(random, file->size), false);
        break;
    case 3:
        resize(bed, file->name, file->size - 1, false);
        break;
    default:
        resize(bed, file->name, tempting_size(bed, file), false);
    }
}

/* Every length of every file, or every fourth of a long one. */
static void all(struct bed *bed)
{
    uint64_t total = folder_size(&bed->work);
    for (uint64_t i = 0; i < total; i++) {
        uint64_t cut = torture_shuffled(bed->torture, i, total);
        const struct folder_file *file = torture_file_at(&bed->work, 1, &cut);
        if (file->size <= 4096 || cut % 4 == 0)
            resize(bed, file->name, (size_t)cut, false);
    }
}

/* Between two frames: the manifest is whole then, and is one that the database had once. */
static void cut_at_frames(struct bed *bed)
{
    for (size_t i = 0; i < bed->atlas.part_count; i++) {
        const struct atlas_part *part = &bed->atlas.parts[i];
        if (part->kind == ATLAS_MANIFEST_FRAME && part->is_live)
            resize(bed, part->file, part->offset, false);
    }
}

int suite_truncate(struct torture *t)
{
    struct bed bed;
    uint64_t count = torture_cases(t, 150, 0);
    if (bed_begin_seeded(&bed, t, 0, BED_CLOSED)) {
        cut_at_frames(&bed);
        while (t->case_count < count / 3)
            try_one(&bed);
    }
    bed_end(&bed);
    if (bed_begin(&bed, t)) {
        while (t->case_count < count)
            try_one(&bed);
        if (t->is_full && t->cases == 0)
            all(&bed);
    }
    bed_end(&bed);
    return TORTURE_DONE;
}
