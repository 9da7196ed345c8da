/*
 * What to compact next. Pure: it reads a version and the busy marks in it, and touches no disk.
 *
 * Two running jobs must never write overlapping ranges into one level. A job takes a run of
 * neighbours of its input level and every file of its output level that reaches into their hull, so
 * two jobs from one level into the next cannot meet. What is left are gaps: level 0 has no
 * neighbours, so all that lies between its busy files counts as taken; a job within one level
 * spans gaps that a job from above may fill, and the other way round, so both look at the hulls of
 * busy neighbours. For the same reason a trivial move goes down one level only.
 */
#include "engine/compact/picker_private.h"

#include "engine/base/memory.h"

#define MAX_JOB_BYTES      (UINT64_C(512) << 20) /* inputs of one job, beyond the first file */
#define MAX_MOVES          ((size_t)1024)        /* files that one trivial move takes */
#define GRANDPARENT_TABLES 10  /* a moved table overlaps at most so many table sizes below */
#define DELETE_WEIGHT      3.0 /* a table of deletions only is worth this many more than others */

/* ---- ranges -----------------------------------------------------------------------------------
 */

static const struct range no_range = {.empty = true};

static void range_take(struct range *r, const struct version_file *file)
{
    if (r->empty || slice_compare(file->meta.smallest, r->smallest) < 0)
        r->smallest = file->meta.smallest;
    if (r->empty || slice_compare(file->meta.largest, r->largest) > 0)
        r->largest = file->meta.largest;
    r->empty = false;
}

static bool range_meets(const struct range *r, const struct version_file *file)
{
    return !r->empty && slice_compare(file->meta.smallest, r->largest) <= 0 &&
           slice_compare(r->smallest, file->meta.largest) <= 0;
}

static bool ranges_meet(const struct range *a, const struct range *b)
{
    return !a->empty && !b->empty && slice_compare(a->smallest, b->largest) <= 0 &&
           slice_compare(b->smallest, a->largest) <= 0;
}

static struct range range_of(const struct version_file *file)
{
    return (struct range){file->meta.smallest, file->meta.largest, false};
}

/* The files of a level below 0 that reach into the range: [*first, *limit). */
static void level_overlap(const struct version_level *level, const struct range *r, size_t *first,
                          size_t *limit)
{
    *first = r->empty ? 0 : version_level_find(level, r->smallest);
    *limit = *first;
    while (!r->empty && *limit < level->count &&
           slice_compare(level->files[*limit]->meta.smallest, r->largest) <= 0)
        ++*limit;
}

static uint64_t overlap_bytes(const struct version_level *level, const struct range *r)
{
    size_t first, limit;
    uint64_t bytes = 0;
    level_overlap(level, r, &first, &limit);
    for (; first < limit; first++)
        bytes += level->files[first]->meta.size;
    return bytes;
}

/* ---- jobs in the making -----------------------------------------------------------------------
 */

void job_take(struct job *job, struct version_file *file)
{
    if (job->count == job->room) {
        size_t room = job->room == 0 ? 16 : job->room * 2;
        struct version_file **grown = mem_resize(job->inputs, room * sizeof *grown);
        if (grown == NULL) {
            job->failed = true;
            return;
        }
        job->inputs = grown;
        job->room = room;
    }
    job->inputs[job->count++] = file;
    job->bytes += file->meta.size;
    range_take(&job->hull, file);
}

/* Does the range meet the hull of busy neighbours of a level below 0? */
static bool meets_busy_run(const struct version_level *level, const struct range *r)
{
    for (size_t i = 0; i < level->count; i++) {
        struct range busy = no_range;
        for (; i < level->count && level->files[i]->busy; i++)
            range_take(&busy, level->files[i]);
        if (ranges_meet(&busy, r))
            return true;
    }
    return false;
}

/* Adds what the job overlaps in its output level; false when a running job has some of it. */
static bool job_take_lower(struct job *job)
{
    const struct version_level *level = &job->cf->levels[job->output_level];
    size_t first, limit;
    job->upper_count = job->count;
    level_overlap(level, &job->hull, &first, &limit);
    for (size_t i = first; i < limit; i++)
        job_take(job, level->files[i]);
    return !meets_busy_run(level, &job->hull);
}

static bool deeper_overlaps(const struct job *job)
{
    for (uint32_t i = job->output_level + 1; i < VERSION_LEVELS; i++) {
        size_t first, limit;
        level_overlap(&job->cf->levels[i], &job->hull, &first, &limit);
        if (first < limit)
            return true;
    }
    return false;
}

bool job_finish(struct job *job, bool is_wanted, double score, struct compaction *c)
{
    if (!is_wanted || job->failed || job->count == 0) {
        mem_free(job->inputs);
        return false;
    }
    *c = (struct compaction){
        .cf = job->cf->id,
        .input_level = job->input_level,
        .output_level = job->output_level,
        .inputs = job->inputs,
        .input_count = job->count,
        .upper_count = job->upper_count,
        .trivial = job->trivial,
        .is_expiry = job->is_expiry,
        .bottom = !job->is_expiry && !deeper_overlaps(job),
        .input_bytes = job->bytes,
        .score = score,
    };
    return true;
}

void compaction_release(struct compaction *c)
{
    mem_free(c->inputs);
    *c = (struct compaction){0};
}

/* ---- trivial moves ----------------------------------------------------------------------------
 */

/* A table moved over much data would make its next compaction a large one. */
static bool move_is_cheap(const struct version_cf *cf, const struct version_file *file, uint32_t to)
{
    if (to >= SHAPE_LOWEST)
        return true;
    struct range r = range_of(file);
    return overlap_bytes(&cf->levels[to + 1], &r) <= GRANDPARENT_TABLES * cf->options.table_size;
}

/* What gets to the lowest level is compressed on its way. */
static bool may_sink_raw(const struct job *job, const struct version_file *file)
{
    return !file->meta.compress_later || !version_is_lowest(job->cf, job->output_level);
}

static bool all_may_sink_raw(const struct job *job)
{
    bool all = true;
    for (size_t i = 0; i < job->count; i++)
        all = all && may_sink_raw(job, job->inputs[i]);
    return all;
}

/* Adds the file when it can be put into the output level as it is. */
static void move_take(struct job *job, struct version_file *file)
{
    const struct version_level *level = &job->cf->levels[job->output_level];
    struct range r = range_of(file);
    if (may_sink_raw(job, file) && overlap_bytes(level, &r) == 0 && !meets_busy_run(level, &r) &&
        move_is_cheap(job->cf, file, job->output_level))
        job_take(job, file);
}

/* ---- level 0 ----------------------------------------------------------------------------------
 */

static struct range busy_hull(const struct version_level *level)
{
    struct range hull = no_range;
    for (size_t i = 0; i < level->count; i++) {
        if (level->files[i]->busy)
            range_take(&hull, level->files[i]);
    }
    return hull;
}

static bool overlaps_neighbour(const struct version_level *level, size_t index)
{
    struct range r = range_of(level->files[index]);
    for (size_t i = 0; i < level->count; i++) {
        if (i != index && range_meets(&r, level->files[i]))
            return true;
    }
    return false;
}

/* Files of level 0 with nothing else in their range. With something newer in it a file would have
 * to be merged soon after its move, which is better done, and compressed, at once. */
bool pick_level0_move(const struct version_cf *cf, const struct shape *shape, double score,
                      struct compaction *c)
{
    const struct version_level *level = &cf->levels[0];
    struct job job = {.cf = cf, .output_level = shape->base, .trivial = true, .hull = no_range};
    struct range busy = busy_hull(level);
    for (size_t i = 0; i < level->count && job.count < MAX_MOVES; i++) {
        struct version_file *file = level->files[i];
        if (!range_meets(&busy, file) && !file->busy && !overlaps_neighbour(level, i))
            move_take(&job, file);
    }
    job.upper_count = job.count;
    return job_finish(&job, true, score, c);
}

/*
 * Takes, oldest first, what belongs together: the hull of those taken grows until no other file of
 * level 0 reaches into it. When that is over the job's limit only the oldest of them go: the newer
 * ones may wait, the older ones may not be overtaken.
 */
static void level0_closure(const struct version_level *level, struct range *hull)
{
    for (bool grown = true; grown;) {
        grown = false;
        for (size_t i = 0; i < level->count; i++) {
            struct range before = *hull;
            if (!range_meets(hull, level->files[i]))
                continue;
            range_take(hull, level->files[i]);
            grown |= slice_compare(before.smallest, hull->smallest) != 0 ||
                     slice_compare(before.largest, hull->largest) != 0;
        }
    }
}

static bool level0_take(struct job *job, const struct version_level *level, struct range hull)
{
    struct range busy = busy_hull(level);
    level0_closure(level, &hull);
    if (ranges_meet(&hull, &busy))
        return false;
    for (size_t i = 0; i < level->count; i++) {
        struct version_file *file = level->files[i];
        if (!range_meets(&hull, file))
            continue;
        if (job->count > 0 && job->bytes + file->meta.size > MAX_JOB_BYTES)
            break;
        job_take(job, file);
    }
    return job->count > 0;
}

static bool pick_level0(const struct version_cf *cf, const struct shape *shape, double score,
                        struct compaction *c)
{
    const struct version_level *level = &cf->levels[0];
    if (pick_level0_move(cf, shape, score, c))
        return true;
    for (size_t i = 0; i < level->count; i++) {
        struct job job = {.cf = cf, .output_level = shape->base, .hull = no_range};
        bool is_wanted = !level->files[i]->busy &&
                         level0_take(&job, level, range_of(level->files[i])) &&
                         job_take_lower(&job);
        if (job_finish(&job, is_wanted, score, c))
            return true;
    }
    return false;
}

/* ---- deeper levels ----------------------------------------------------------------------------
 */

/* Files of a level that can sink as they are. */
static bool pick_move(const struct version_cf *cf, uint32_t from, uint64_t excess, double score,
                      struct compaction *c)
{
    const struct version_level *level = &cf->levels[from];
    struct job job = {
        .cf = cf, .input_level = from, .output_level = from + 1, .trivial = true, .hull = no_range};
    for (size_t i = 0; i < level->count && job.count < MAX_MOVES && job.bytes < excess; i++) {
        if (!level->files[i]->busy)
            move_take(&job, level->files[i]);
    }
    job.upper_count = job.count;
    return job_finish(&job, true, score, c);
}

/* Bytes rewritten below for each byte that moves; tables full of deletions are worth more. */
static double file_cost(const struct version_cf *cf, const struct version_file *file, uint32_t to)
{
    struct range r = range_of(file);
    double deletes = (double)file->meta.delete_count / (double)file->meta.entry_count;
    return (double)overlap_bytes(&cf->levels[to], &r) /
           ((double)file->meta.size * (1 + DELETE_WEIGHT * deletes));
}

/* Adds neighbours as long as that brings in no more of the level below. */
static void grow_for_free(struct job *job, size_t index)
{
    const struct version_level *upper = &job->cf->levels[job->input_level];
    const struct version_level *lower = &job->cf->levels[job->output_level];
    size_t first, limit, first_now, limit_now;
    struct range hull = job->hull;
    level_overlap(lower, &hull, &first, &limit);
    if (first == limit)
        return;
    for (size_t i = index + 1; i < upper->count && !upper->files[i]->busy; i++) {
        range_take(&hull, upper->files[i]);
        level_overlap(lower, &hull, &first_now, &limit_now);
        if (limit_now != limit || job->bytes + upper->files[i]->meta.size > MAX_JOB_BYTES)
            break;
        job_take(job, upper->files[i]);
    }
    hull = job->hull;
    for (size_t i = index; i > 0 && !upper->files[i - 1]->busy; i--) {
        range_take(&hull, upper->files[i - 1]);
        level_overlap(lower, &hull, &first_now, &limit_now);
        if (first_now != first || job->bytes + upper->files[i - 1]->meta.size > MAX_JOB_BYTES)
            break;
        job_take(job, upper->files[i - 1]);
    }
}

static int compare_keys(const struct version_file *a, const struct version_file *b)
{
    return slice_compare(a->meta.smallest, b->meta.smallest);
}

/* Jobs read the files of a level one after the other, so they must be in order. */
static void sort_upper(struct job *job)
{
    for (size_t i = 1; i < job->count; i++) {
        struct version_file *file = job->inputs[i];
        size_t at = i;
        for (; at > 0 && compare_keys(job->inputs[at - 1], file) > 0; at--)
            job->inputs[at] = job->inputs[at - 1];
        job->inputs[at] = file;
    }
}

bool pick_file(const struct version_cf *cf, uint32_t from, size_t index, double score,
               struct compaction *c)
{
    struct job job = {.cf = cf, .input_level = from, .output_level = from + 1, .hull = no_range};
    job_take(&job, cf->levels[from].files[index]);
    if (!job.failed)
        grow_for_free(&job, index);
    sort_upper(&job);
    return job_finish(&job, !job.failed && job_take_lower(&job), score, c);
}

static bool pick_level(const struct version_cf *cf, const struct shape *shape, uint32_t from,
                       double score, struct compaction *c)
{
    const struct version_level *level = &cf->levels[from];
    uint64_t target = shape->targets[from];
    uint64_t excess = level->bytes > target ? level->bytes - target : 0;
    if (pick_move(cf, from, excess, score, c))
        return true;
    /* The cheapest file first; when a running job is in its way, the next cheapest. */
    size_t tried = SIZE_MAX;
    double tried_cost = -1;
    for (size_t tries = 0; tries < level->count; tries++) {
        size_t best = SIZE_MAX;
        double best_cost = 0;
        for (size_t i = 0; i < level->count; i++) {
            double cost = level->files[i]->busy ? -1 : file_cost(cf, level->files[i], from + 1);
            bool is_new = cost > tried_cost || (cost == tried_cost && cost >= 0 && i > tried);
            if (is_new && (best == SIZE_MAX || cost < best_cost)) {
                best = i;
                best_cost = cost;
            }
        }
        if (best == SIZE_MAX)
            return false;
        if (pick_file(cf, from, best, score, c))
            return true;
        tried = best;
        tried_cost = best_cost;
    }
    return false;
}

/* ---- the whole --------------------------------------------------------------------------------
 */

/* The file goes down with what it overlaps, or as it is where that is the same. */
static bool pick_old_file(const struct version_cf *cf, const struct shape *shape, uint32_t level,
                          struct version_file *file, struct compaction *c)
{
    struct job job = {.cf = cf,
                      .input_level = level,
                      .output_level = level == 0 ? shape->base : level + 1,
                      .hull = no_range};
    bool is_wanted = true;
    if (level == 0)
        is_wanted = level0_take(&job, &cf->levels[0], range_of(file));
    else
        job_take(&job, file);
    is_wanted = is_wanted && !job.failed && job_take_lower(&job);
    job.trivial = job.count == 1 && file->meta.delete_count == 0 && may_sink_raw(&job, file);
    return job_finish(&job, is_wanted, 1, c);
}

/* Tables that stay above the lowest level for longer than the family's ttl go down when nothing
 * else is to be done, so that what they delete or replace goes, too. */
static bool pick_old(const struct version_cf *cf, const struct shape *shape, uint64_t now,
                     struct compaction *c)
{
    for (uint32_t level = 0; level < SHAPE_LOWEST; level++) {
        const struct version_level *l = &cf->levels[level];
        for (size_t i = 0; i < l->count; i++) {
            if (!l->files[i]->busy && file_is_old(cf, l->files[i], now) &&
                pick_old_file(cf, shape, level, l->files[i], c))
                return true;
        }
    }
    return false;
}

static bool pick_leveled(const struct version_cf *cf, uint64_t now, double least,
                         struct compaction *c)
{
    struct shape shape;
    double scores[VERSION_LEVELS];
    shape_of(cf, &shape);
    for (uint32_t i = 0; i < VERSION_LEVELS; i++)
        scores[i] = shape_score(cf, &shape, i);
    for (;;) {
        uint32_t level = 0;
        for (uint32_t i = 1; i < VERSION_LEVELS; i++)
            level = scores[i] > scores[level] ? i : level;
        double score = scores[level];
        if (score < 1 || score <= least)
            break;
        if (level == 0 ? pick_level0(cf, &shape, score, c)
                       : pick_level(cf, &shape, level, score, c))
            return true;
        scores[level] = 0;
    }
    return cf->options.ttl != 0 && least < 1 && pick_old(cf, &shape, now, c);
}

/* The most urgent compaction of a family that beats `least`. */
static bool pick_family(const struct version_cf *cf, uint64_t now, double least,
                        struct compaction *c)
{
    switch (cf->options.compaction) {
    case LSM_COMPACTION_TIERED:
        return pick_tiered(cf, now, least, c);
    case LSM_COMPACTION_FIFO:
        return pick_fifo(cf, now, least, c);
    case LSM_COMPACTION_DEFAULT:
    case LSM_COMPACTION_LEVELED:
        break;
    }
    return pick_leveled(cf, now, least, c);
}

bool compact_pick(const struct version *version, uint64_t now, struct compaction *c)
{
    struct compaction best = {0};
    bool is_due = false;
    for (size_t i = 0; i < version->family_count; i++) {
        struct compaction found;
        if (!pick_family(version->families[i], now, best.score, &found))
            continue;
        compaction_release(&best);
        best = found;
        is_due = true;
    }
    if (is_due)
        *c = best;
    return is_due;
}

/* ---- by hand ----------------------------------------------------------------------------------
 */

static bool file_in_range(const struct version_file *file, lsm_slice first, lsm_slice limit)
{
    return (first.data == NULL || slice_compare(file->meta.largest, first) >= 0) &&
           (limit.data == NULL || slice_compare(file->meta.smallest, limit) < 0);
}

/* All of the range at once; where a busy file is in the way of that, what does not touch it. */
static bool pick_range_level0(const struct version_cf *cf, const struct shape *shape,
                              lsm_slice first, lsm_slice limit, struct compaction *c)
{
    const struct version_level *level = &cf->levels[0];
    struct job job = {.cf = cf, .output_level = shape->base, .hull = no_range};
    struct range hull = no_range;
    for (size_t i = 0; i < level->count; i++) {
        if (file_in_range(level->files[i], first, limit))
            range_take(&hull, level->files[i]);
    }
    bool is_wanted = !hull.empty && level0_take(&job, level, hull) && job_take_lower(&job);
    if (job_finish(&job, is_wanted, 0, c))
        return true;
    for (size_t i = 0; i < level->count; i++) {
        struct version_file *file = level->files[i];
        struct job part = {.cf = cf, .output_level = shape->base, .hull = no_range};
        is_wanted = !file->busy && file_in_range(file, first, limit) &&
                    level0_take(&part, level, range_of(file)) && job_take_lower(&part);
        if (job_finish(&part, is_wanted, 0, c))
            return true;
    }
    return false;
}

static bool would_change(const struct version_file *file)
{
    return file->meta.delete_count > 0 || file->meta.compress_later;
}

/* May the file be in a run? What it meets in the level below must be free, too. */
static bool is_free(const struct version_file *file, const struct version_level *lower,
                    enum compact_mode mode)
{
    struct range r = range_of(file);
    return !file->busy && (mode != COMPACT_REFRESH || would_change(file)) &&
           (mode != COMPACT_DOWN || !meets_busy_run(lower, &r));
}

/* A run of neighbours in the range, as many as one job may have. */
static bool pick_range_run(struct job *job, lsm_slice first, lsm_slice limit,
                           enum compact_mode mode)
{
    const struct version_level *level = &job->cf->levels[job->input_level];
    const struct version_level *lower = &job->cf->levels[job->output_level];
    for (size_t i = 0; i < level->count; i++) {
        struct version_file *file = level->files[i];
        if (!file_in_range(file, first, limit) || !is_free(file, lower, mode)) {
            if (job->count > 0)
                break;
            continue;
        }
        struct range r = job->hull;
        range_take(&r, file);
        uint64_t below = lower == level ? 0 : overlap_bytes(lower, &r);
        if (job->count > 0 && (job->bytes + file->meta.size + below > MAX_JOB_BYTES ||
                               (mode == COMPACT_DOWN && meets_busy_run(lower, &r))))
            break;
        job_take(job, file);
    }
    return job->count > 0;
}

bool compact_pick_range(const struct version *version, uint32_t cf_id, uint32_t level,
                        lsm_slice first, lsm_slice limit, enum compact_mode mode,
                        struct compaction *c)
{
    const struct version_cf *cf = version_find_cf(version, cf_id);
    struct shape shape;
    if (cf == NULL || level >= VERSION_LEVELS || (level == SHAPE_LOWEST && mode == COMPACT_DOWN))
        return false;
    if (cf->options.compaction == LSM_COMPACTION_FIFO ||
        (cf->options.compaction == LSM_COMPACTION_TIERED && writes_below(cf)))
        return false;
    shape_of(cf, &shape);
    if (level == 0)
        return pick_range_level0(cf, &shape, first, limit, c);
    struct job job = {.cf = cf,
                      .input_level = level,
                      .output_level = mode == COMPACT_DOWN ? level + 1 : level,
                      .hull = no_range};
    bool is_wanted = pick_range_run(&job, first, limit, mode);
    if (mode != COMPACT_DOWN) {
        struct range above = busy_hull(&cf->levels[0]);
        job.upper_count = job.count;
        is_wanted = is_wanted && !ranges_meet(&above, &job.hull) &&
                    !meets_busy_run(&cf->levels[level], &job.hull) &&
                    (level == 1 || !meets_busy_run(&cf->levels[level - 1], &job.hull));
    } else {
        is_wanted = is_wanted && job_take_lower(&job);
        job.trivial = job.count == job.upper_count && all_may_sink_raw(&job);
    }
    return job_finish(&job, is_wanted, 0, c);
}
