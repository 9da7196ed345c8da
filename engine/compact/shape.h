/* The shape that the levels of a family should have; see ADR 0012. */
#ifndef ENGINE_COMPACT_SHAPE_H
#define ENGINE_COMPACT_SHAPE_H

#include "engine/version/version.h"

#define SHAPE_LOWEST ((uint32_t)VERSION_LEVELS - 1)

struct shape {
    uint32_t base; /* level 0 is merged into this one; levels between hold nothing */
    uint64_t targets[VERSION_LEVELS]; /* bytes; [0] is a count of files; UINT64_MAX: no limit, as
                                       * for all levels of a family that is not leveled */
};

void shape_of(const struct version_cf *cf, struct shape *shape);

/* Size over target, counting files that no job has; 0 for the lowest level. */
double shape_score(const struct version_cf *cf, const struct shape *shape, uint32_t level);

#endif
