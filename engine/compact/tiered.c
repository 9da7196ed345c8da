/*
 * Style tiered: a family is a list of sorted runs, newest first, and neighbours in it are merged
 * into one when they are of like size, so that an entry is rewritten about as often as the data
 * doubles. What RocksDB calls universal; see ADR 0038.
 *
 * The runs of level 0 come first, then each deeper level is one. A run of level 0 is a table, or
 * several whose sequence numbers interlace, as those of one flush may. A merge takes whole
 * neighbouring runs and puts its output right above the next older run: into the level above it, or
 * into level 0 when that is in level 0 or 1. So newer stays above older, and all that reads,
 * verifies or compacts by hand may take the family for a leveled one.
 *
 * A level below 0 may not overlap itself, and the tables of a job's output may span gaps between
 * its inputs: so one job at a time writes below level 0. Others may merge runs of level 0
 * meanwhile.
 */
#include "engine/compact/picker_private.h"

#include "engine/base/memory.h"
#include "engine/compact/shape.h"

#include <stdlib.h>

struct run {
    uint32_t level;
    size_t first, limit; /* files of the level */
    uint64_t size;       /* bytes before compression */
    uint64_t min_sequence;
    bool busy;
};

struct runs {
    struct run *list; /* newest first; owned */
    size_t count;
};

static void run_take(struct run *run, const struct version_file *file)
{
    const struct table_meta *meta = &file->meta;
    run->size += meta->raw_size != 0 ? meta->raw_size : meta->size;
    run->min_sequence =
        meta->min_sequence < run->min_sequence ? meta->min_sequence : run->min_sequence;
}

static void add_level0(struct runs *runs, const struct version_level *level)
{
    for (size_t i = level->count; i > 0; i--) {
        const struct version_file *file = level->files[i - 1];
        struct run *last = runs->count == 0 ? NULL : &runs->list[runs->count - 1];
        if (last == NULL || file->meta.max_sequence < last->min_sequence) {
            last = &runs->list[runs->count++];
            *last = (struct run){.limit = i, .min_sequence = UINT64_MAX};
        }
        last->first = i - 1;
        run_take(last, file);
    }
}

/* False: there is no memory. */
static bool runs_collect(const struct version_cf *cf, struct runs *runs)
{
    size_t room = cf->levels[0].count + VERSION_LEVELS;
    *runs = (struct runs){.list = mem_alloc(room * sizeof *runs->list)};
    if (runs->list == NULL)
        return false;
    add_level0(runs, &cf->levels[0]);
    for (uint32_t i = 1; i < VERSION_LEVELS; i++) {
        const struct version_level *level = &cf->levels[i];
        if (level->count == 0)
            continue;
        struct run *run = &runs->list[runs->count++];
        *run = (struct run){.level = i, .limit = level->count, .min_sequence = UINT64_MAX};
        for (size_t f = 0; f < level->count; f++)
            run_take(run, level->files[f]);
    }
    return true;
}

static void runs_mark_busy(const struct version_cf *cf, struct runs *runs)
{
    for (size_t i = 0; i < runs->count; i++) {
        struct run *run = &runs->list[i];
        for (size_t f = run->first; f < run->limit; f++)
            run->busy |= cf->levels[run->level].files[f]->busy;
    }
}

/* ---- which runs ------------------------------------------------------------------------------ */

struct choice {
    size_t first, limit; /* runs */
};

/* The oldest run holds about what the family would take up without the others: how much more they
 * add is bounded by merging all. */
static bool choose_all(const struct runs *runs, uint32_t percent, struct choice *choice)
{
    uint64_t newer = 0;
    size_t first = 0, last = runs->count - 1;
    while (first < last && runs->list[first].busy)
        first++;
    for (size_t i = first; i < last; i++) {
        if (runs->list[i].busy)
            return false;
        newer += runs->list[i].size;
    }
    *choice = (struct choice){first, runs->count};
    return first < last && !runs->list[last].busy &&
           (double)newer * 100 >= (double)percent * (double)runs->list[last].size;
}

/* The newest neighbours, at least `least`, of which none is more than `percent` larger than all
 * newer ones together. */
static bool choose_alike(const struct runs *runs, uint32_t percent, size_t least,
                         struct choice *choice)
{
    for (size_t first = 0; first + 1 < runs->count; first++) {
        double together = 0;
        size_t limit = first;
        for (; limit < runs->count && !runs->list[limit].busy; limit++) {
            double size = (double)runs->list[limit].size;
            if (limit > first && together * (100 + percent) / 100 < size)
                break;
            together += size;
        }
        *choice = (struct choice){first, limit};
        if (limit - first >= least)
            return true;
    }
    return false;
}

/* So many of the newest that no more than `trigger` runs are left, or up to one that is busy. */
static bool choose_many(const struct runs *runs, const lsm_cf_options *options,
                        struct choice *choice)
{
    size_t count = 0, first = 0, trigger = options->level0_trigger;
    for (size_t i = 0; i < runs->count; i++)
        count += !runs->list[i].busy;
    while (first < runs->count && runs->list[first].busy)
        first++;
    size_t limit = first;
    while (limit < runs->count && !runs->list[limit].busy && limit - first <= count - trigger)
        limit++;
    *choice = (struct choice){first, limit};
    return count > trigger && limit - first >= 2;
}

static bool run_is_old(const struct version_cf *cf, const struct run *run, uint64_t now)
{
    for (size_t i = run->first; i < run->limit; i++) {
        if (file_is_old(cf, cf->levels[run->level].files[i], now))
            return true;
    }
    return false;
}

/* What is too old goes into the oldest run, with all between. */
static bool choose_old(const struct version_cf *cf, const struct runs *runs, uint64_t now,
                       struct choice *choice)
{
    size_t first = 0;
    while (first + 1 < runs->count && !run_is_old(cf, &runs->list[first], now))
        first++;
    if (first + 1 >= runs->count)
        return false;
    for (size_t i = first; i < runs->count; i++) {
        if (runs->list[i].busy)
            return false;
    }
    *choice = (struct choice){first, runs->count};
    return true;
}

/* ---- what becomes of them -------------------------------------------------------------------- */

bool writes_below(const struct version_cf *cf)
{
    for (size_t level = 0; level < VERSION_LEVELS; level++) {
        for (size_t i = 0; i < cf->levels[level].count; i++) {
            if (cf->levels[level].files[i]->busy && cf->levels[level].files[i]->busy_to > 0)
                return true;
        }
    }
    return false;
}

static uint32_t output_level_of(const struct runs *runs, const struct choice *choice)
{
    if (choice->limit == runs->count)
        return SHAPE_LOWEST;
    uint32_t older = runs->list[choice->limit].level;
    return older == 0 ? 0 : older - 1;
}

static int compare_smallest(const void *a, const void *b)
{
    const struct version_file *const *x = a, *const *y = b;
    return slice_compare((*x)->meta.smallest, (*y)->meta.smallest);
}

/* Nothing to merge: the tables can be put into one level as they are. */
static bool lie_apart(struct job *job)
{
    struct version_file **sorted = mem_alloc(job->count * sizeof *sorted);
    if (sorted == NULL)
        return false;
    memcpy(sorted, job->inputs, job->count * sizeof *sorted);
    qsort(sorted, job->count, sizeof *sorted, compare_smallest);
    bool apart = true;
    for (size_t i = 0; apart && i < job->count; i++) {
        apart = !sorted[i]->meta.compress_later || !version_is_lowest(job->cf, job->output_level);
        if (i > 0)
            apart =
                apart && slice_compare(sorted[i - 1]->meta.largest, sorted[i]->meta.smallest) < 0;
    }
    mem_free(sorted);
    return apart;
}

/* Level 0 has its files oldest first, so its runs are taken backwards. */
static void job_take_runs(struct job *job, const struct runs *runs, const struct choice *choice)
{
    size_t level0 = choice->first;
    while (level0 < choice->limit && runs->list[level0].level == 0)
        level0++;
    for (size_t i = level0; i > choice->first; i--) {
        const struct run *run = &runs->list[i - 1];
        for (size_t f = run->first; f < run->limit; f++)
            job_take(job, job->cf->levels[0].files[f]);
    }
    for (size_t i = level0; i < choice->limit; i++) {
        const struct run *run = &runs->list[i];
        for (size_t f = run->first; f < run->limit; f++)
            job_take(job, job->cf->levels[run->level].files[f]);
    }
    while (job->upper_count < job->count &&
           job->inputs[job->upper_count]->meta.level == job->input_level)
        job->upper_count++;
}

static bool job_of(const struct version_cf *cf, const struct runs *runs, struct choice choice,
                   double score, struct compaction *c)
{
    uint32_t output = output_level_of(runs, &choice);
    if (output > 0 && writes_below(cf)) {
        while (choice.limit > choice.first && runs->list[choice.limit - 1].level > 0)
            choice.limit--;
        output = 0;
    }
    if (choice.limit - choice.first < 2)
        return false;
    struct job job = {.cf = cf,
                      .input_level = runs->list[choice.first].level,
                      .output_level = output,
                      .hull = {.empty = true}};
    job_take_runs(&job, runs, &choice);
    job.trivial = !job.failed && output > 0 && lie_apart(&job);
    if (!job_finish(&job, true, score, c))
        return false;
    c->bottom = choice.limit == runs->count && output > 0;
    return true;
}

bool pick_tiered(const struct version_cf *cf, uint64_t now, double least, struct compaction *c)
{
    const lsm_cf_options *o = &cf->options;
    struct runs runs;
    struct choice choice;
    if (!runs_collect(cf, &runs))
        return false;
    runs_mark_busy(cf, &runs);
    double score = (double)runs.count / o->level0_trigger;
    bool found = false;
    if (runs.count > 1 && score >= 1 && score > least)
        found = (choose_all(&runs, o->max_size_amplification, &choice) &&
                 job_of(cf, &runs, choice, score, c)) ||
                (choose_alike(&runs, o->size_ratio, o->min_merge_width, &choice) &&
                 job_of(cf, &runs, choice, score, c)) ||
                (choose_many(&runs, o, &choice) && job_of(cf, &runs, choice, score, c));
    if (!found && least < 1)
        found = choose_old(cf, &runs, now, &choice) && job_of(cf, &runs, choice, 1, c);
    mem_free(runs.list);
    return found;
}
