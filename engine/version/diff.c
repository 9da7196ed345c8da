/*
 * What changed between a version and a snapshot read from a newer manifest, as an edit, so that
 * the version built of it shares everything that stayed: a process that missed the edits in between
 * keeps its open tables.
 */
#include "engine/version/version_private.h"

#include "engine/base/memory.h"

#include <stdlib.h>

struct diff {
    const struct version *base;
    const struct version_edit *snapshot;
    struct version_edit *edit;
    const struct table_meta **old, **new; /* by number; one allocation */
    size_t old_count, new_count;
    lsm_error *err;
};

/* ---- families ---------------------------------------------------------------------------------
 */

static const struct edit_cf *find_created(const struct version_edit *snapshot, uint32_t id)
{
    /* A snapshot has its families in the order of their ids. */
    size_t low = 0, limit = snapshot->created_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (snapshot->created[middle].id < id)
            low = middle + 1;
        else
            limit = middle;
    }
    return low < snapshot->created_count && snapshot->created[low].id == id
               ? &snapshot->created[low]
               : NULL;
}

static lsm_status diff_families(struct diff *d)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < d->base->family_count; i++) {
        const struct version_cf *cf = d->base->families[i];
        const struct edit_cf *now = find_created(d->snapshot, cf->id);
        if (now == NULL)
            status = edit_drop_cf(d->edit, cf->id, d->err);
        else if (strcmp(now->name, cf->name) != 0)
            status = edit_rename_cf(d->edit, cf->id, now->name, d->err);
    }
    for (size_t i = 0; status == LSM_OK && i < d->snapshot->created_count; i++) {
        const struct edit_cf *now = &d->snapshot->created[i];
        if (version_find_cf(d->base, now->id) == NULL)
            status = edit_create_cf(d->edit, now->id, now->name, &now->options, d->err);
    }
    return status;
}

/* ---- tables -----------------------------------------------------------------------------------
 */

static int compare_numbers(const void *a, const void *b)
{
    const struct table_meta *x = *(const struct table_meta *const *)a;
    const struct table_meta *y = *(const struct table_meta *const *)b;
    return (x->number > y->number) - (x->number < y->number);
}

static size_t table_count(const struct version *version)
{
    size_t count = 0;
    for (size_t i = 0; i < version->family_count; i++) {
        for (size_t k = 0; k < VERSION_LEVELS; k++)
            count += version->families[i]->levels[k].count;
    }
    return count;
}

static lsm_status collect_tables(struct diff *d)
{
    size_t count = table_count(d->base) + d->snapshot->added_count;
    d->old = mem_alloc(count * sizeof *d->old);
    if (d->old == NULL)
        return lsm_fail_memory(d->err, count * sizeof *d->old);
    for (size_t i = 0; i < d->base->family_count; i++) {
        for (size_t k = 0; k < VERSION_LEVELS; k++) {
            const struct version_level *level = &d->base->families[i]->levels[k];
            for (size_t f = 0; f < level->count; f++)
                d->old[d->old_count++] = &level->files[f]->meta;
        }
    }
    d->new = d->old + d->old_count;
    for (size_t i = 0; i < d->snapshot->added_count; i++)
        d->new[d->new_count++] = &d->snapshot->added[i];
    qsort(d->old, d->old_count, sizeof *d->old, compare_numbers);
    qsort(d->new, d->new_count, sizeof *d->new, compare_numbers);
    return LSM_OK;
}

static bool is_same(const struct table_meta *a, const struct table_meta *b)
{
    return a->cf == b->cf && a->level == b->level && a->compress_later == b->compress_later;
}

static lsm_status diff_table(struct diff *d, const struct table_meta *old,
                             const struct table_meta *new)
{
    lsm_status status = LSM_OK;
    if (old != NULL && new != NULL && is_same(old, new))
        return LSM_OK;
    /* What a dropped family held goes with it. */
    if (old != NULL && find_created(d->snapshot, old->cf) != NULL)
        status = edit_remove_table(d->edit, old->cf, old->level, old->number, d->err);
    if (status == LSM_OK && new != NULL)
        status = edit_add_table(d->edit, new, d->err);
    return status;
}

static lsm_status diff_tables(struct diff *d)
{
    lsm_status status = collect_tables(d);
    for (size_t i = 0, k = 0; status == LSM_OK && (i < d->old_count || k < d->new_count);) {
        int order = i == d->old_count   ? 1
                    : k == d->new_count ? -1
                                        : compare_numbers(&d->old[i], &d->new[k]);
        status = diff_table(d, order <= 0 ? d->old[i] : NULL, order >= 0 ? d->new[k] : NULL);
        i += order <= 0;
        k += order >= 0;
    }
    return status;
}

lsm_status version_diff(const struct version *base, const struct version_edit *snapshot,
                        struct version_edit *edit, lsm_error *err)
{
    struct diff d = {.base = base, .snapshot = snapshot, .edit = edit, .err = err};
    lsm_status status = diff_families(&d);
    if (status == LSM_OK)
        status = diff_tables(&d);
    for (size_t i = 0; status == LSM_OK && i < snapshot->blob_count; i++) {
        if (version_find_blob(base, snapshot->blobs[i].number) == NULL)
            status = edit_add_blob(edit, &snapshot->blobs[i], err);
    }
    mem_free(d.old);
    return status;
}
