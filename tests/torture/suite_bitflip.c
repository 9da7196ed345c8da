/* One flipped bit in every kind of file. */
#include "tests/torture/bed.h"

#include <inttypes.h>

static void flip(struct bed *bed, const char *name, uint64_t offset, unsigned bit)
{
    struct folder_file *file = folder_find(&bed->work, name);
    const struct atlas_part *part = atlas_find(&bed->atlas, name, offset);
    const char *what = part == NULL    ? "nothing"
                       : part->is_live ? atlas_kind_name(part->kind)
                                       : "not needed";
    torture_case(bed->torture, "bit %u of byte %" PRIu64 " of %s (%s)", bit, offset, name, what);
    file->bytes[offset] ^= (uint8_t)(1u << bit);
    bed_run(bed, (struct trial_wants){.all_back = true});
    file->bytes[offset] ^= (uint8_t)(1u << bit);
}

/* Mostly parts that are needed, of all kinds; now and then any byte. */
static void sample(struct bed *bed, uint64_t count)
{
    struct random_state *random = &bed->torture->random;
    while (bed->torture->case_count < count) {
        unsigned bit = (unsigned)random_below(random, 8);
        if (random_below(random, 8) == 0) {
            const struct folder_file *file = bed_random_file(bed);
            flip(bed, file->name, random_below(random, file->size), bit);
        } else {
            const struct atlas_part *part = bed_random_part(bed);
            flip(bed, part->file, bed_random_byte(bed, part), bit);
        }
    }
}

/* One of all bits; of a byte that nobody needs only one is flipped. */
static void flip_at(struct bed *bed, uint64_t place)
{
    struct folder_file *file = torture_file_at(&bed->work, 8, &place);
    uint64_t offset = place / 8;
    unsigned bit = (unsigned)(place % 8);
    const struct atlas_part *part = atlas_find(&bed->atlas, file->name, offset);
    if ((part != NULL && part->is_live) || bit == offset % 8)
        flip(bed, file->name, offset, bit);
}

/* Every bit of every part that is needed, and one of each byte of all else. */
static void all(struct bed *bed)
{
    uint64_t total = 8 * folder_size(&bed->work);
    for (uint64_t i = 0; i < total; i++)
        flip_at(bed, torture_shuffled(bed->torture, i, total));
}

int suite_bitflip(struct torture *t)
{
    struct bed bed;
    if (bed_begin(&bed, t)) {
        if (t->is_full && t->cases == 0)
            all(&bed);
        else
            sample(&bed, torture_cases(t, 300, 0));
    }
    bed_end(&bed);
    return TORTURE_DONE;
}
