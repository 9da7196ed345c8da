/*
 * A table that is gone together with every edit that named it leaves nothing behind but its number:
 * they are given one after the other, to tables and manifests. One is accounted for when its file
 * is there, when an edit says what became of it, or when a table says that it or its job was
 * written in its place. For any other nobody knows what it was; it may have been a table.
 *
 * What came before the last edit up to which all can be read needs no account: those edits name all
 * that was live then. Without any edit there are always numbers of old manifests and of tables
 * replaced long ago, and nothing can be concluded from them: that is told instead.
 */
#include "engine/repair/lineage_private.h"

#include <stdio.h>
#include <stdlib.h>

struct account {
    uint64_t *numbers; /* accounted for */
    size_t count, room;
    uint64_t begin; /* of those below nothing is asked */
};

static lsm_status note(struct account *a, uint64_t number, lsm_error *err)
{
    if (number < a->begin || number >= REPAIR_MAX_NUMBER)
        return LSM_OK;
    if (a->count == a->room) {
        size_t room = a->room == 0 ? 64 : 2 * a->room;
        uint64_t *grown = mem_resize(a->numbers, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        a->numbers = grown;
        a->room = room;
    }
    a->numbers[a->count++] = number;
    return LSM_OK;
}

static lsm_status note_tables(struct account *a, const struct lineage *l, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < l->count; i++) {
        const struct table_properties *p = &l->tables[i].properties;
        status = note(a, l->tables[i].meta.number, err);
        for (size_t k = 0; status == LSM_OK && k < p->replaced_count; k++)
            status = note(a, p->replaced[k], err);
        for (size_t k = 0; status == LSM_OK && k < p->replaced_job_count; k++)
            status = note(a, p->replaced_jobs[k], err);
        for (size_t k = 0; status == LSM_OK && k < p->blob_count; k++)
            status = note(a, p->blobs[k].number, err);
    }
    return status;
}

static lsm_status note_files(struct account *a, const struct repair *r, lsm_error *err)
{
    lsm_status status = r->current_is_good ? note(a, r->current_names, err) : LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < r->list.count; i++) {
        const struct walk_file *f = &r->list.files[i];
        if (f->name == WALK_NAME_OURS &&
            (f->kind == FILE_MANIFEST || f->kind == FILE_TEMPORARY || f->kind == FILE_BLOB))
            status = note(a, f->number, err);
    }
    return status;
}

static lsm_status note_facts(struct account *a, const struct repair_facts *f, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < f->removed_count; i++)
        status = note(a, f->removed[i], err);
    for (size_t i = 0; status == LSM_OK && i < f->added_count; i++)
        status = note(a, f->added[i].number, err);
    const uint64_t *blobs = (const uint64_t *)(const void *)f->blobs.data;
    for (size_t i = 0; status == LSM_OK && i < f->blobs.size / sizeof *blobs; i++)
        status = note(a, blobs[i], err);
    return status;
}

static int compare_numbers(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* Any key of any family may have been in it. */
static lsm_status lose_all(struct repair *r, uint64_t number, const char *problem, lsm_error *err)
{
    struct repair_loss loss = {.kinds = LSM_LOSS_LOST | LSM_LOSS_MAY_BE_STALE | LSM_LOSS_MAY_REVIVE,
                               .first_open = true,
                               .last_open = true,
                               .offset = LSM_NO_OFFSET};
    file_name_make(FILE_TABLE, number, loss.file);
    struct repair_step step =
        repair_step_of(REPAIR_MANIFEST, number, FINDING_TABLE_MISSING, loss.file);
    lsm_status status = repair_add_step(
        r, &step, problem, "any key may have been there: all of them are told below", err);
    return status == LSM_OK ? repair_add_loss(r, &loss, (lsm_slice){0}, (lsm_slice){0}, err)
                            : status;
}

static lsm_status tell_gaps(struct account *a, struct repair *r, lsm_error *err)
{
    char problem[160];
    uint64_t next = a->begin, first = 0, missing = 0;
    if (a->count > 1)
        qsort(a->numbers, a->count, sizeof *a->numbers, compare_numbers);
    for (size_t i = 0; i < a->count; i++) {
        if (a->numbers[i] > next && missing == 0)
            first = next;
        if (a->numbers[i] > next)
            missing += a->numbers[i] - next;
        next = a->numbers[i] + 1;
    }
    if (missing == 0)
        return LSM_OK;
    snprintf(problem, sizeof problem,
             "nobody says what became of %" PRIu64 " file%s, the first of number %" PRIu64
             ": there may have been a table",
             missing, missing == 1 ? "" : "s", first);
    return lose_all(r, first, problem, err);
}

/* A table file in which nothing can be read may have been live, unless somebody says otherwise. */
static lsm_status tell_unreadable(struct lineage *l, lsm_error *err)
{
    const uint64_t *numbers = (const uint64_t *)(const void *)l->unreadable.data;
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < l->unreadable.size / sizeof *numbers; i++) {
        bool is_known = facts_removed(&l->facts, numbers[i]) ||
                        facts_added(&l->facts, numbers[i]) != NULL ||
                        candidate_find(l, numbers[i]) != NULL || lineage_took(l, numbers[i]);
        if (!is_known)
            status = lose_all(l->r, numbers[i],
                              "nothing in this table can be read, and nobody "
                              "says that it was replaced",
                              err);
    }
    return status;
}

lsm_status repair_tell_unseen(struct repair *r, lsm_error *err)
{
    struct repair_loss loss = {
        .kinds = LSM_LOSS_UNSEEN, .first_open = true, .last_open = true, .offset = LSM_NO_OFFSET};
    for (size_t i = 0; i < r->loss_count; i++) {
        if (r->losses[i].kinds == LSM_LOSS_UNSEEN)
            return LSM_OK;
    }
    return repair_add_loss(r, &loss, (lsm_slice){0}, (lsm_slice){0}, err);
}

lsm_status account_for_numbers(struct lineage *l, lsm_error *err)
{
    struct account a = {.begin = l->facts.highest_mentioned + 1};
    const uint64_t *unreadable = (const uint64_t *)(const void *)l->unreadable.data;
    lsm_status status = note_tables(&a, l, err);
    if (status == LSM_OK)
        status = note_files(&a, l->r, err);
    if (status == LSM_OK)
        status = note_facts(&a, &l->facts, err);
    for (size_t i = 0; status == LSM_OK && i < l->unreadable.size / sizeof *unreadable; i++)
        status = note(&a, unreadable[i], err);
    if (status == LSM_OK)
        status = l->facts.highest_mentioned > 0 ? tell_gaps(&a, l->r, err)
                                                : repair_tell_unseen(l->r, err);
    if (status == LSM_OK)
        status = tell_unreadable(l, err);
    mem_free(a.numbers);
    return status;
}
