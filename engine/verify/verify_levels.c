/*
 * Tables against each other: below level 0 they do not overlap, none is there together with one
 * that replaced it, and a newer version of a key never lies below an older one.
 */
#include "engine/verify/verify_private.h"

#include "engine/base/memory.h"

#include <stdlib.h>

static int compare_place(const void *a, const void *b)
{
    const struct verify_table *const *x = a, *const *y = b;
    const struct table_meta *m = (*x)->meta, *n = (*y)->meta;
    if (m->cf != n->cf)
        return m->cf < n->cf ? -1 : 1;
    if (m->level != n->level)
        return m->level < n->level ? -1 : 1;
    int order = slice_compare(m->smallest, n->smallest);
    return order != 0 ? order : (m->number > n->number) - (m->number < n->number);
}

static lsm_status tell_pair(struct verify *v, enum finding_id id, const struct table_meta *a,
                            const struct table_meta *b, lsm_slice first, lsm_slice last,
                            const char *format, lsm_error *err)
{
    char name[FILE_NAME_SIZE], other[FILE_NAME_SIZE];
    lsm_finding f = finding_of(id);
    f.file = file_name_make(FILE_TABLE, a->number, name);
    finding_family(&f, a->cf, NULL);
    if (slice_compare(first, last) <= 0)
        finding_range(&f, first, last);
    finding_numbers(&f, a->number, b->number);
    return verify_say(v, &f, err, "%s '%s' (levels %" PRIu32 " and %" PRIu32 ")", format,
                      file_name_make(FILE_TABLE, b->number, other), a->level, b->level);
}

static lsm_slice larger(lsm_slice a, lsm_slice b)
{
    return slice_compare(a, b) >= 0 ? a : b;
}

static lsm_slice smaller(lsm_slice a, lsm_slice b)
{
    return slice_compare(a, b) <= 0 ? a : b;
}

static lsm_status check_overlap(struct verify *v, const struct table_meta *a,
                                const struct table_meta *b, lsm_error *err)
{
    if (a->cf != b->cf || a->level != b->level || a->level == 0 ||
        slice_compare(a->largest, b->smallest) < 0)
        return LSM_OK;
    return tell_pair(v, FINDING_LEVEL_OVERLAP, a, b, b->smallest, smaller(a->largest, b->largest),
                     "its keys overlap those of", err);
}

static lsm_status check_table(struct verify *v, const struct table_meta *m, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    if (verify_family_name(v, m->cf) == NULL) {
        lsm_finding f = finding_of(FINDING_FAMILY_UNKNOWN);
        f.file = file_name_make(FILE_TABLE, m->number, name);
        verify_blame_meta(&f, m);
        return verify_tell(v, &f, err);
    }
    if (slice_compare(m->smallest, m->largest) > 0) {
        lsm_finding f = finding_of(FINDING_EDIT_REPLAY);
        f.file = file_name_make(FILE_TABLE, m->number, name);
        finding_family(&f, m->cf, NULL);
        return verify_say(v, &f, err, "the manifest says that its first key is above its last");
    }
    return LSM_OK;
}

/* ---- lineage --------------------------------------------------------------------------------- */

static const struct verify_table *find(const struct verify *v, uint64_t number)
{
    size_t first = 0, limit = v->table_count;
    while (first < limit) {
        size_t middle = first + (limit - first) / 2;
        if (v->tables[middle].number < number)
            first = middle + 1;
        else
            limit = middle;
    }
    return first < v->table_count && v->tables[first].number == number ? &v->tables[first] : NULL;
}

static lsm_status check_lineage(struct verify *v, const struct verify_table *t, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < t->replaced_count; i++) {
        const struct verify_table *old = find(v, t->replaced[i]);
        if (old == NULL || old->meta == NULL || t->meta == NULL || old == t)
            continue;
        status =
            tell_pair(v, FINDING_REPLACED_ALIVE, old->meta, t->meta,
                      larger(old->meta->smallest, t->meta->smallest),
                      smaller(old->meta->largest, t->meta->largest), "it was replaced by", err);
    }
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static lsm_status check_sorted(struct verify *v, struct verify_table **sorted, size_t count,
                               lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < count; i++) {
        status = check_table(v, sorted[i]->meta, err);
        if (status == LSM_OK && i > 0)
            status = check_overlap(v, sorted[i - 1]->meta, sorted[i]->meta, err);
    }
    if (status == LSM_OK && v->options.level == LSM_VERIFY_FULL)
        status = verify_versions(v, sorted, count, err);
    return status;
}

lsm_status verify_levels(struct verify *v, lsm_error *err)
{
    struct verify_table **sorted = NULL;
    size_t count = 0;
    verify_pass(v, 7, 0);
    sorted = mem_alloc((v->table_count > 0 ? v->table_count : 1) * sizeof *sorted);
    if (sorted == NULL)
        return lsm_fail_memory(err, v->table_count * sizeof *sorted);
    for (size_t i = 0; i < v->table_count; i++) {
        if (v->tables[i].meta != NULL)
            sorted[count++] = &v->tables[i];
    }
    if (count > 0)
        qsort(sorted, count, sizeof *sorted, compare_place);
    lsm_status status = check_sorted(v, sorted, count, err);
    for (size_t i = 0; status == LSM_OK && v->state_is_whole && i < v->table_count; i++)
        status = check_lineage(v, &v->tables[i], err);
    mem_free(sorted);
    return status;
}
