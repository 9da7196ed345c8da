/*
 * Level targets follow from the largest level: going up from the lowest, each is the one below
 * divided by the ratio, until one is small enough to take level 0 in. So the lowest level holds
 * (ratio - 1) / ratio of the data whatever the total, and obsolete versions above it stay a small
 * part. Levels above the base have the target 0: what is left there drains downwards.
 */
#include "engine/compact/shape.h"

#include "engine/compact/compact.h"

/* Bytes over target at which writes stop, in sizes of level 1, and where slowing begins. */
#define DEBT_STOP 64
#define DEBT_SLOW 16

static uint32_t first_used_level(const struct version_cf *cf)
{
    for (uint32_t i = 1; i < SHAPE_LOWEST; i++) {
        if (cf->levels[i].count > 0)
            return i;
    }
    return SHAPE_LOWEST;
}

void shape_of(const struct version_cf *cf, struct shape *shape)
{
    uint64_t size = 0;
    for (size_t i = 1; i < VERSION_LEVELS; i++)
        size = cf->levels[i].bytes > size ? cf->levels[i].bytes : size;
    *shape = (struct shape){.base = SHAPE_LOWEST};
    bool is_leveled = cf->options.compaction == LSM_COMPACTION_LEVELED;
    for (size_t i = 1; i < VERSION_LEVELS && !is_leveled; i++)
        shape->targets[i] = UINT64_MAX;
    shape->targets[0] = cf->options.level0_trigger;
    shape->targets[SHAPE_LOWEST] = UINT64_MAX;
    while (is_leveled && shape->base > 1 && size > cf->options.level_base_size) {
        size /= cf->options.level_ratio;
        shape->targets[--shape->base] = size;
    }
    /* Level 0 must not pass by older data on its way down. */
    uint32_t used = first_used_level(cf);
    if (used < shape->base)
        shape->base = used;
}

double shape_score(const struct version_cf *cf, const struct shape *shape, uint32_t level)
{
    const struct version_level *l = &cf->levels[level];
    uint64_t free_count = 0, free_bytes = 0;
    for (size_t i = 0; i < l->count; i++) {
        free_count += !l->files[i]->busy;
        free_bytes += l->files[i]->busy ? 0 : l->files[i]->meta.size;
    }
    if (free_count == 0 || level == SHAPE_LOWEST)
        return 0;
    if (level == 0)
        return (double)free_count / (double)shape->targets[0];
    /* What must drain completely counts as full from its first byte. */
    uint64_t target = shape->targets[level];
    return target == 0 ? 1 + (double)free_bytes / (double)cf->options.level_base_size
                       : (double)free_bytes / (double)target;
}

void compact_level_targets(const struct version_cf *cf, uint64_t targets[VERSION_LEVELS])
{
    struct shape shape;
    shape_of(cf, &shape);
    memcpy(targets, shape.targets, sizeof shape.targets);
}

static double part_of_way(double now, double slow, double stop)
{
    if (now < slow)
        return 0;
    return stop <= slow ? 1 : (now - slow + 1) / (stop - slow + 1);
}

double compact_debt(const struct version_cf *cf)
{
    struct shape shape;
    if (cf->options.compaction == LSM_COMPACTION_FIFO)
        return 0;
    shape_of(cf, &shape);
    double files = part_of_way((double)cf->levels[0].count, cf->options.level0_slowdown,
                               cf->options.level0_stop);
    double over = 0, unit = (double)cf->options.level_base_size;
    for (uint32_t i = 1; i < SHAPE_LOWEST; i++) {
        if (cf->levels[i].bytes > shape.targets[i])
            over += (double)(cf->levels[i].bytes - shape.targets[i]);
    }
    double bytes =
        over / unit < DEBT_SLOW ? 0 : (over / unit - DEBT_SLOW) / (DEBT_STOP - DEBT_SLOW);
    return files > bytes ? files : bytes;
}
