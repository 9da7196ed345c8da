/* What the pickers of the styles share. */
#ifndef ENGINE_COMPACT_PICKER_PRIVATE_H
#define ENGINE_COMPACT_PICKER_PRIVATE_H

#include "engine/compact/compact.h"
#include "engine/compact/shape.h"

struct range {
    lsm_slice smallest, largest; /* both inclusive */
    bool empty;
};

/* A compaction in the making. */
struct job {
    const struct version_cf *cf;
    uint32_t input_level, output_level;
    struct version_file **inputs; /* owned */
    size_t count, room, upper_count;
    uint64_t bytes;
    struct range hull;
    bool trivial;
    bool is_expiry;
    bool failed; /* out of memory */
};

void job_take(struct job *job, struct version_file *file);
/* Hands the job over; false, freeing it, when it is not wanted, empty or failed. */
bool job_finish(struct job *job, bool is_wanted, double score, struct compaction *c);

/* Files of level 0 that can be moved into the base as they are. */
bool pick_level0_move(const struct version_cf *cf, const struct shape *shape, double score,
                      struct compaction *c);
/* A file of a level below 0, and neighbours that cost nothing more, into the next level. */
bool pick_file(const struct version_cf *cf, uint32_t from, size_t index, double score,
               struct compaction *c);

/* Seconds until the family's table is older than its ttl; UINT64_MAX: never, or its age is not
 * known. A time in the future, as after the clock was set back, is far away. */
uint64_t file_expiry(const struct version_cf *cf, const struct version_file *file, uint64_t now);

static inline bool file_is_old(const struct version_cf *cf, const struct version_file *file,
                               uint64_t now)
{
    return file_expiry(cf, file, now) == 0;
}

/* A job of the family writes below level 0. */
bool writes_below(const struct version_cf *cf);

/* The most urgent compaction of a family of the style that beats `least`; see compact_pick(). */
bool pick_tiered(const struct version_cf *cf, uint64_t now, double least, struct compaction *c);
bool pick_fifo(const struct version_cf *cf, uint64_t now, double least, struct compaction *c);

#endif
