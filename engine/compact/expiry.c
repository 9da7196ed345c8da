/*
 * Data that goes by its age. Style fifo: tables stay as they were flushed, in level 0, and whole
 * tables are deleted, oldest first, while all together are over fifo_size or the newest entry of
 * one is older than ttl. The newest table is not deleted for its size.
 *
 * A table does not go before others that hold older versions of its keys, which would come back.
 * Within level 0 age says that already; elsewhere tables may lie that were taken in or repaired.
 */
#include "engine/compact/picker_private.h"

#include "engine/base/memory.h"
#include "engine/compact/shape.h"

#include <stdlib.h>

uint64_t file_expiry(const struct version_cf *cf, const struct version_file *file, uint64_t now)
{
    bool is_fifo = cf->options.compaction == LSM_COMPACTION_FIFO;
    uint64_t since = is_fifo ? file->meta.newest_time : file->meta.oldest_time;
    uint64_t ttl = cf->options.ttl;
    if (ttl == 0 || since == 0 || now == 0 || since > UINT64_MAX - ttl)
        return UINT64_MAX;
    return since + ttl <= now ? 0 : since + ttl - now;
}

static int compare_ages(const void *a, const void *b)
{
    const struct table_meta *x = &(*(struct version_file *const *)a)->meta;
    const struct table_meta *y = &(*(struct version_file *const *)b)->meta;
    if (x->max_sequence != y->max_sequence)
        return x->max_sequence < y->max_sequence ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

/* All tables of the family, oldest first. False: there are none, or some are busy, or there is no
 * memory. */
static bool collect(const struct version_cf *cf, struct version_file ***files, size_t *count,
                    uint64_t *bytes)
{
    size_t all = 0;
    *count = 0;
    *bytes = 0;
    for (size_t level = 0; level < VERSION_LEVELS; level++)
        all += cf->levels[level].count;
    if (all == 0)
        return false;
    *files = mem_alloc(all * sizeof **files);
    if (*files == NULL)
        return false;
    bool is_free = true;
    for (size_t level = 0; level < VERSION_LEVELS; level++) {
        for (size_t i = 0; i < cf->levels[level].count; i++) {
            struct version_file *file = cf->levels[level].files[i];
            is_free = is_free && !file->busy;
            *bytes += file->meta.size;
            (*files)[(*count)++] = file;
        }
    }
    qsort(*files, *count, sizeof **files, compare_ages);
    return is_free;
}

static bool may_hold_older(const struct version_file *other, const struct version_file *file)
{
    return other->meta.min_sequence < file->meta.max_sequence &&
           slice_compare(other->meta.smallest, file->meta.largest) <= 0 &&
           slice_compare(file->meta.smallest, other->meta.largest) <= 0;
}

/* Tables that stay and may hold older versions of the file's keys; files[index] is the file. */
static bool is_needed(struct version_file *const *files, size_t count, size_t index,
                      const bool *goes)
{
    for (size_t i = 0; i < count; i++) {
        if (i != index && !goes[i] && may_hold_older(files[i], files[index]))
            return true;
    }
    return false;
}

static void choose(const struct version_cf *cf, struct version_file *const *files, size_t count,
                   uint64_t bytes, uint64_t now, bool *goes)
{
    uint64_t limit = cf->options.fifo_size == 0 ? UINT64_MAX : cf->options.fifo_size;
    for (size_t i = 0; i < count; i++) {
        bool is_over = bytes > limit && i + 1 < count;
        if (!is_over && !file_is_old(cf, files[i], now))
            continue;
        goes[i] = !is_needed(files, count, i, goes);
        bytes -= goes[i] ? files[i]->meta.size : 0;
    }
}

static int compare_levels(const void *a, const void *b)
{
    uint32_t x = (*(struct version_file *const *)a)->meta.level;
    uint32_t y = (*(struct version_file *const *)b)->meta.level;
    return x != y ? (x < y ? -1 : 1) : compare_ages(a, b);
}

bool pick_fifo(const struct version_cf *cf, uint64_t now, double least, struct compaction *c)
{
    struct version_file **files = NULL;
    bool *goes = NULL;
    size_t count;
    uint64_t bytes;
    struct job job = {.cf = cf, .is_expiry = true, .hull = {.empty = true}};
    bool is_wanted = least < 1 && collect(cf, &files, &count, &bytes);
    if (is_wanted && (goes = mem_alloc_zeroed(count * sizeof *goes)) != NULL) {
        choose(cf, files, count, bytes, now, goes);
        for (size_t i = 0; i < count; i++) {
            if (goes[i])
                job_take(&job, files[i]);
        }
    }
    if (job.count > 0) {
        qsort(job.inputs, job.count, sizeof *job.inputs, compare_levels);
        job.input_level = job.inputs[0]->meta.level;
        job.output_level = job.inputs[job.count - 1]->meta.level;
        while (job.upper_count < job.count &&
               job.inputs[job.upper_count]->meta.level == job.input_level)
            job.upper_count++;
    }
    mem_free(files);
    mem_free(goes);
    return job_finish(&job, true, 1, c);
}

/* ---- when ------------------------------------------------------------------------------------ */

static uint64_t earliest(const struct version_cf *cf, uint64_t now, uint64_t seconds)
{
    bool is_fifo = cf->options.compaction == LSM_COMPACTION_FIFO;
    for (uint32_t level = 0; level < VERSION_LEVELS; level++) {
        /* What lies in the lowest level stays there. */
        if (!is_fifo && level > 0 && version_is_lowest(cf, level))
            break;
        for (size_t i = 0; i < cf->levels[level].count; i++) {
            uint64_t left = file_expiry(cf, cf->levels[level].files[i], now);
            seconds = left < seconds ? left : seconds;
        }
    }
    return seconds;
}

uint64_t compact_next_expiry(const struct version *version, uint64_t now)
{
    uint64_t seconds = UINT64_MAX;
    for (size_t i = 0; i < version->family_count; i++) {
        if (version->families[i]->options.ttl != 0)
            seconds = earliest(version->families[i], now, seconds);
    }
    return seconds;
}
