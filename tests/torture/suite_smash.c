/* Bytes and pages overwritten, parts swapped within and between files, old copies put back. */
#include "tests/torture/bed.h"

#include <inttypes.h>
#include <stdlib.h>

/* Runs of bytes: most where something is, some anywhere. */
static void overwrite(struct bed *bed, size_t size, bool with_zeros)
{
    struct random_state *random = &bed->torture->random;
    const struct atlas_part *part = bed_random_part(bed);
    struct folder_file *file =
        random_below(random, 6) == 0 ? bed_random_file(bed) : folder_find(&bed->work, part->file);
    uint64_t offset = strcmp(file->name, part->file) == 0 ? bed_random_byte(bed, part)
                                                          : random_below(random, file->size);
    if (size >= 512)
        offset -= offset % size;
    size = size > file->size - offset ? (size_t)(file->size - offset) : size;
    torture_case(bed->torture, "%zu bytes of %s from %" PRIu64 " on are %s", size, file->name,
                 offset, with_zeros ? "zero" : "garbage");
    if (with_zeros)
        memset(file->bytes + offset, 0, size);
    else
        bed_fill_random(bed, file->bytes + offset, size);
    bed_run(bed, (struct trial_wants){.all_back = size == 1});
    bed_clear(bed);
}

static void swap(struct bed *bed)
{
    const struct atlas_part *a = bed_random_part(bed), *b = bed_random_part(bed);
    size_t size = (size_t)(a->size < b->size ? a->size : b->size);
    struct folder_file *x = folder_find(&bed->work, a->file), *y = folder_find(&bed->work, b->file);
    if (a == b || a->offset + size > x->size || b->offset + size > y->size)
        return;
    torture_case(bed->torture, "swapped: %s of %s at %" PRIu64 " and %s of %s at %" PRIu64,
                 atlas_kind_name(a->kind), a->file, a->offset, atlas_kind_name(b->kind), b->file,
                 b->offset);
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = x->bytes[a->offset + i];
        x->bytes[a->offset + i] = y->bytes[b->offset + i];
        y->bytes[b->offset + i] = byte;
    }
    bed_run(bed, (struct trial_wants){0});
    bed_clear(bed);
}

/* What a file held an hour ago, as a disk that loses a write gives it back. */
static void put_back(struct bed *bed)
{
    const struct folder *old = &bed->specimen.earlier;
    const struct folder_file *from = &old->files[random_below(&bed->torture->random, old->count)];
    torture_case(bed->torture, "an old copy of %s", from->name);
    folder_put(&bed->work, from->name, from->bytes, from->size);
    bed_run(bed, (struct trial_wants){0});
    bed_clear(bed);
}

/* Several wounds at once. */
static void smash_many(struct bed *bed)
{
    struct random_state *random = &bed->torture->random;
    uint64_t count = 2 + random_below(random, 20);
    torture_case(bed->torture, "%" PRIu64 " wounds", count);
    for (uint64_t i = 0; i < count; i++) {
        const struct atlas_part *part = bed_random_part(bed);
        struct folder_file *file = folder_find(&bed->work, part->file);
        file->bytes[bed_random_byte(bed, part)] ^= (uint8_t)(1 + random_below(random, 255));
    }
    bed_run(bed, (struct trial_wants){0});
    bed_clear(bed);
}

int suite_smash(struct torture *t)
{
    static const size_t sizes[] = {1, 2, 16, 512, 4096, 65536};
    struct bed bed;
    if (bed_begin(&bed, t)) {
        uint64_t count = torture_cases(t, 300, 20000);
        while (t->case_count < count) {
            switch (random_below(&t->random, 8)) {
            case 0:
                swap(&bed);
                break;
            case 1:
                put_back(&bed);
                break;
            case 2:
                smash_many(&bed);
                break;
            default:
                overwrite(&bed, sizes[random_below(&t->random, 6)],
                          random_below(&t->random, 3) == 0);
            }
        }
    }
    bed_end(&bed);
    return TORTURE_DONE;
}
