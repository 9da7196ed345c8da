/* Files that are gone, alone and in pairs, empty, doubled, and under each other's names. */
#include "tests/torture/bed.h"

#include <stdio.h>
#include <stdlib.h>

static void lose(struct bed *bed, const char *a, const char *b)
{
    torture_case(bed->torture, "%s%s%s is gone", a, b != NULL ? " and " : "", b != NULL ? b : "");
    folder_remove(&bed->work, a);
    if (b != NULL)
        folder_remove(&bed->work, b);
    bed_run(bed, (struct trial_wants){0});
    bed_clear(bed);
}

static void empty(struct bed *bed, const char *name)
{
    torture_case(bed->torture, "%s is empty", name);
    folder_resize(folder_find(&bed->work, name), 0);
    bed_run(bed, (struct trial_wants){0});
    bed_clear(bed);
}

static void copy_over(struct bed *bed, const char *from, const char *to)
{
    struct folder_file *file = folder_find(&bed->specimen.files, from);
    torture_case(bed->torture, "%s is a copy of %s", to, from);
    folder_put(&bed->work, to, file->bytes, file->size);
    bed_run(bed, (struct trial_wants){0});
    bed_clear(bed);
}

/* A second copy under a name that nobody has. */
static void copy_aside(struct bed *bed, const char *name)
{
    char other[FOLDER_NAME_SIZE + 8];
    const char *dot = strchr(name, '.');
    if (dot != NULL)
        snprintf(other, sizeof other, "000077%s", dot);
    else if (strncmp(name, "MANIFEST-", 9) == 0)
        snprintf(other, sizeof other, "MANIFEST-000077");
    else
        snprintf(other, sizeof other, "%s.copy", name);
    copy_over(bed, name, other);
}

static void add_foreign(struct bed *bed)
{
    static const char *const names[] = {"README",  "12.sst",     "000012.sst~", "000012.SST",
                                        ".hidden", "MANIFEST-7", "000031.tmp",  "LOCK.old"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        torture_case(bed->torture, "a foreign file '%s'", names[i]);
        folder_put(&bed->work, names[i], "something", 9);
        bed_run(bed, (struct trial_wants){0});
        bed_clear(bed);
    }
}

static void singles(struct bed *bed)
{
    const struct folder *files = &bed->specimen.files;
    for (size_t i = 0; i < files->count; i++) {
        lose(bed, files->files[i].name, NULL);
        empty(bed, files->files[i].name);
        copy_aside(bed, files->files[i].name);
    }
}

/* Every so manieth of the pairs, beginning at a random one. */
static void pairs(struct bed *bed, uint64_t count)
{
    const struct folder *files = &bed->specimen.files;
    uint64_t pair_count = files->count * (files->count - 1) / 2;
    uint64_t step = count >= pair_count ? 1 : pair_count / (count > 0 ? count : 1);
    uint64_t number = random_below(&bed->torture->random, step);
    for (size_t i = 0; i < files->count; i++) {
        for (size_t j = i + 1; j < files->count; j++) {
            if (number++ % step != 0)
                continue;
            lose(bed, files->files[i].name, files->files[j].name);
            copy_over(bed, files->files[i].name, files->files[j].name);
        }
    }
}

int suite_missing(struct torture *t)
{
    struct bed bed;
    uint64_t count = torture_cases(t, 30, UINT64_MAX);
    if (bed_begin(&bed, t)) {
        singles(&bed);
        add_foreign(&bed);
        pairs(&bed, count);
    }
    bed_end(&bed);
    if (bed_begin_seeded(&bed, t, 0, BED_CLOSED)) {
        singles(&bed);
        pairs(&bed, count / 2);
    }
    bed_end(&bed);
    return TORTURE_DONE;
}
