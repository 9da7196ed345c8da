/*
 * Merges that reads have paid for.
 *
 * As with skis that are rented until the rents together are their price: a merge is begun when
 * reads have cost as much, without it, as it will cost. Whether the reads go on or end just then,
 * no more than twice is spent of what would have been best for that load; and what is written
 * because of reads is bounded by the reads there were.
 *
 * What reads paid for looking into many runs is shared out evenly among all runs but one: a job is
 * worth the shares of the runs that it makes go. A part of a level is worth that part of its share.
 * What they paid for walking over deletions is shared out by where these are, above the lowest
 * level. What a job is worth is spent with it, and the rest stays for others.
 */
#include "engine/compact/picker_private.h"

#include "engine/base/hash.h"

size_t compact_run_count(const struct version_cf *cf)
{
    size_t count = cf->levels[0].count;
    for (uint32_t i = 1; i < VERSION_LEVELS; i++)
        count += cf->levels[i].count > 0;
    return count;
}

uint64_t compact_shape_mark(const struct version_cf *cf)
{
    uint64_t facts[1 + 2 * VERSION_LEVELS] = {cf->id};
    for (size_t i = 0; i < VERSION_LEVELS; i++) {
        facts[1 + 2 * i] = cf->levels[i].count;
        facts[2 + 2 * i] = cf->levels[i].bytes;
    }
    uint64_t mark = hash_bytes(facts, sizeof facts, 0);
    return mark == 0 ? 1 : mark;
}

/* What the picking knows of a family. */
struct readings {
    const struct version_cf *cf;
    const struct compact_reads *paid;
    double runs;    /* but one */
    double deletes; /* above the lowest level; those of level 0 always are */
};

static bool family_is_idle(const struct version_cf *cf)
{
    for (size_t level = 0; level < VERSION_LEVELS; level++) {
        for (size_t i = 0; i < cf->levels[level].count; i++) {
            if (cf->levels[level].files[i]->busy)
                return false;
        }
    }
    return true;
}

static double deletes_of(struct version_file *const *files, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)files[i]->meta.delete_count;
    return sum;
}

static double deletes_above_lowest(const struct version_cf *cf)
{
    double sum = deletes_of(cf->levels[0].files, cf->levels[0].count);
    for (uint32_t i = 1; !version_is_lowest(cf, i); i++)
        sum += deletes_of(cf->levels[i].files, cf->levels[i].count);
    return sum;
}

/* How many runs fewer there are after the job. A move over a gap between levels is a step on the
 * way to that, and costs nothing. */
static double runs_gone(const struct version_cf *cf, const struct compaction *c)
{
    const struct version_level *upper = &cf->levels[c->input_level];
    double bytes = 0;
    if (c->input_level == 0)
        return (double)c->upper_count - (cf->levels[c->output_level].count == 0);
    if (cf->levels[c->output_level].count == 0 && !c->trivial)
        return 0;
    for (size_t i = 0; i < c->upper_count; i++)
        bytes += (double)c->inputs[i]->meta.size;
    return bytes / (double)upper->bytes;
}

static double part_of(double part, double whole)
{
    if (whole <= 0)
        return 0;
    return part < whole ? part / whole : 1;
}

/* Takes the candidate over when it is worth what it costs and more so than the best one so far. */
static void consider(const struct readings *r, struct compaction *c, struct compaction *best)
{
    double runs = part_of(runs_gone(r->cf, c), r->runs);
    double deletes = c->trivial ? 0 : part_of(deletes_of(c->inputs, c->upper_count), r->deletes);
    double worth = runs * (double)r->paid->runs_ns + deletes * (double)r->paid->deletes_ns;
    double cost = c->trivial ? 1 : (double)(c->input_bytes * COMPACT_MERGE_NS);
    c->score = worth / cost;
    if (c->score < 1 || c->score <= best->score) {
        compaction_release(c);
        return;
    }
    c->is_for_reads = true;
    c->reads_left.runs_ns = (uint64_t)((1 - runs) * (double)r->paid->runs_ns);
    c->reads_left.deletes_ns = (uint64_t)((1 - deletes) * (double)r->paid->deletes_ns);
    compaction_release(best);
    *best = *c;
}

static size_t file_of_most_deletes(const struct version_level *level)
{
    size_t most = 0;
    for (size_t i = 1; i < level->count; i++) {
        if (level->files[i]->meta.delete_count > level->files[most]->meta.delete_count)
            most = i;
    }
    return most;
}

static void consider_level(const struct readings *r, const struct version *version, uint32_t level,
                           struct compaction *best)
{
    static const lsm_slice open_end = {NULL, 0};
    const struct version_cf *cf = r->cf;
    struct compaction c = {0};
    struct shape shape;
    shape_of(cf, &shape);
    if (level == 0 && pick_level0_move(cf, &shape, 0, &c))
        consider(r, &c, best);
    if (compact_pick_range(version, cf->id, level, open_end, open_end, COMPACT_DOWN, &c))
        consider(r, &c, best);
    if (level > 0 && r->paid->deletes_ns > 0 &&
        pick_file(cf, level, file_of_most_deletes(&cf->levels[level]), 0, &c))
        consider(r, &c, best);
}

bool compact_pick_reads(const struct version *version, uint32_t cf_id,
                        const struct compact_reads *paid, struct compaction *c)
{
    const struct version_cf *cf = version_find_cf(version, cf_id);
    if (cf == NULL || cf->options.compaction != LSM_COMPACTION_LEVELED ||
        paid->runs_ns + paid->deletes_ns < COMPACT_READS_LEAST_NS || !family_is_idle(cf))
        return false;
    struct readings r = {.cf = cf,
                         .paid = paid,
                         .runs = (double)compact_run_count(cf) - 1,
                         .deletes = deletes_above_lowest(cf)};
    struct compaction best = {0};
    for (uint32_t level = 0; level == 0 || !version_is_lowest(cf, level); level++) {
        if (cf->levels[level].count > 0)
            consider_level(&r, version, level, &best);
    }
    if (best.inputs == NULL)
        return false;
    *c = best;
    return true;
}

bool compact_reads_pay_flush(const struct version_cf *cf, uint64_t paid_ns, uint64_t memtable_bytes)
{
    struct shape shape;
    if (cf->options.compaction != LSM_COMPACTION_LEVELED || paid_ns < COMPACT_READS_LEAST_NS ||
        compact_run_count(cf) == 0)
        return false;
    shape_of(cf, &shape);
    uint64_t bytes = memtable_bytes + cf->levels[0].bytes + cf->levels[shape.base].bytes;
    return paid_ns / COMPACT_MERGE_NS >= bytes;
}
