/*
 * Which tables are live, told by themselves, when no manifest says it as a whole.
 *
 * A table names the job that wrote it, which of the job's outputs it is, whether it is the last,
 * the files that the outputs replace, and the jobs that had written those. So:
 *
 *   - A job was completed when all its outputs are there; when an edit that is whole adds one of
 *     them; or when a completed job read one of them.
 *   - Of two jobs that took the same file only one was completed. When neither is known otherwise
 *     it is the later one: the file would not have been there for it.
 *   - What a completed job replaced is not live. Outputs of a job that was not completed are not
 *     live as long as all its inputs are there.
 *
 * A merge changes nothing that can be seen, so it does no harm to count one as completed that ended
 * with its last output written and its edit not. Levels are those of the edits, else those written
 * into the tables, which may have moved down since: repair_settle() puts them in order.
 */
#include "engine/repair/lineage_private.h"

#include <stdlib.h>

/* ---- jobs ------------------------------------------------------------------------------------ */

static bool is_output(const struct candidate *c, uint64_t job)
{
    return c->properties.number != 0 && c->properties.job == job &&
           c->properties.replaced_count > 0;
}

static int compare_jobs(const void *left, const void *right)
{
    const struct job *a = left, *b = right;
    return (a->number < b->number) - (a->number > b->number);
}

static struct job *find_job(const struct lineage *l, uint64_t number)
{
    struct job key = {.number = number};
    return l->job_count == 0 ? NULL
                             : bsearch(&key, l->jobs, l->job_count, sizeof key, compare_jobs);
}

/* Of the same job. */
static void join_jobs(struct job *job, const struct job *output)
{
    job->output_count += output->output_count;
    job->is_known = job->is_known || output->is_known;
    if (output->has_last) {
        job->has_last = true;
        job->last_index = output->last_index;
    }
}

static lsm_status list_jobs(struct lineage *l, lsm_error *err)
{
    size_t count = 0;
    l->jobs = mem_alloc((l->count + 1) * sizeof *l->jobs);
    if (l->jobs == NULL)
        return lsm_fail_memory(err, (l->count + 1) * sizeof *l->jobs);
    for (size_t i = 0; i < l->count; i++) {
        const struct candidate *c = &l->tables[i];
        if (is_output(c, c->properties.job))
            l->jobs[count++] = (struct job){.number = c->properties.job,
                                            .output = c,
                                            .output_count = 1,
                                            .has_last = c->properties.last_output,
                                            .last_index = c->properties.output_index,
                                            .is_known = c->is_added};
    }
    if (count > 1)
        qsort(l->jobs, count, sizeof *l->jobs, compare_jobs);
    for (size_t i = 0; i < count; i++) {
        struct job *last = l->job_count == 0 ? NULL : &l->jobs[l->job_count - 1];
        if (last != NULL && last->number == l->jobs[i].number)
            join_jobs(last, &l->jobs[i]);
        else
            l->jobs[l->job_count++] = l->jobs[i];
    }
    return LSM_OK;
}

static int compare_taken(const void *left, const void *right)
{
    const struct taken *a = left, *b = right;
    return (a->file > b->file) - (a->file < b->file);
}

static struct taken *find_taken(const struct lineage *l, uint64_t file)
{
    struct taken key = {.file = file};
    return l->taken_count == 0 ? NULL
                               : bsearch(&key, l->taken, l->taken_count, sizeof key, compare_taken);
}

bool lineage_took(const struct lineage *l, uint64_t file)
{
    return find_taken(l, file) != NULL;
}

/* Every file that any table says it was written in place of, once. */
static lsm_status list_taken(struct lineage *l, lsm_error *err)
{
    size_t count = 0, kept = 0;
    for (size_t i = 0; i < l->count; i++)
        count += l->tables[i].properties.replaced_count;
    l->taken = mem_alloc((count + 1) * sizeof *l->taken);
    if (l->taken == NULL)
        return lsm_fail_memory(err, (count + 1) * sizeof *l->taken);
    count = 0;
    for (size_t i = 0; i < l->count; i++) {
        const struct table_properties *p = &l->tables[i].properties;
        for (size_t k = 0; k < p->replaced_count; k++)
            l->taken[count++] = (struct taken){.file = p->replaced[k]};
    }
    if (count > 1)
        qsort(l->taken, count, sizeof *l->taken, compare_taken);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || l->taken[kept - 1].file != l->taken[i].file)
            l->taken[kept++] = l->taken[i];
    }
    l->taken_count = kept;
    return LSM_OK;
}

static bool has_all_outputs(const struct job *job)
{
    return job->has_last && job->output_count == job->last_index + 1; /* an index is given once */
}

/* Did a completed job take a file that this one took, too? */
static bool is_superseded(const struct lineage *l, const struct job *job)
{
    const struct table_properties *p = &job->output->properties;
    for (size_t i = 0; i < p->replaced_count; i++) {
        const struct taken *taken = find_taken(l, p->replaced[i]);
        if (taken != NULL && taken->job != 0)
            return true;
    }
    return false;
}

static bool has_all_inputs(const struct lineage *l, const struct job *job)
{
    const struct candidate *c = job->output;
    for (size_t i = 0; i < c->properties.replaced_count; i++) {
        if (candidate_find(l, c->properties.replaced[i]) == NULL)
            return false;
    }
    return true;
}

static void complete(struct lineage *l, struct job *job)
{
    const struct candidate *c = job->output;
    job->is_completed = true;
    for (size_t i = 0; i < c->properties.replaced_count; i++) {
        struct candidate *input = candidate_find(l, c->properties.replaced[i]);
        struct taken *taken = find_taken(l, c->properties.replaced[i]);
        if (input != NULL)
            input->is_dead = true;
        if (taken != NULL)
            taken->job = job->number;
    }
    for (size_t i = 0; i < c->properties.replaced_job_count; i++) {
        struct job *before = find_job(l, c->properties.replaced_jobs[i]);
        if (before != NULL)
            before->is_known = true;
    }
}

/* From the latest on: a job that is completed vouches for earlier ones. */
static void judge_jobs(struct lineage *l)
{
    for (size_t i = 0; i < l->job_count; i++) {
        struct job *job = &l->jobs[i];
        if (job->is_known)
            complete(l, job);
    }
    for (size_t i = 0; i < l->job_count; i++) {
        struct job *job = &l->jobs[i];
        if (job->is_completed)
            continue;
        if (job->is_known) {
            complete(l, job);
            continue;
        }
        if (is_superseded(l, job)) {
            job->is_refuted = true;
            continue;
        }
        if (has_all_outputs(job))
            complete(l, job);
        else if (has_all_inputs(l, job))
            job->is_refuted = true;
        else
            job->is_doubtful = true;
    }
}

/* What became of a job became of its outputs. */
static void judge_outputs(struct lineage *l)
{
    for (size_t i = 0; i < l->count; i++) {
        struct candidate *c = &l->tables[i];
        const struct job *job =
            is_output(c, c->properties.job) ? find_job(l, c->properties.job) : NULL;
        if (job != NULL && job->is_refuted)
            c->is_dead = true;
        if (job != NULL && job->is_doubtful)
            c->is_unproven = true;
    }
}

/* ---- the state ------------------------------------------------------------------------------- */

static lsm_status make_state(struct lineage *l, lsm_error *err)
{
    struct repair *r = l->r;
    struct version_edit *state = &r->state.snapshot;
    lsm_status status = LSM_OK;
    state->is_snapshot = true;
    state->has_log = true;
    state->last_sequence = l->facts.last_sequence;
    state->next_file_number = r->next_number;
    if (l->facts.next_file_number > state->next_file_number &&
        l->facts.next_file_number < REPAIR_MAX_NUMBER)
        state->next_file_number = l->facts.next_file_number;
    if (!r->options->rebuild_manifest && l->facts.has_log) {
        state->log_position = l->facts.log_position;
        state->log_chain = 0;
        state->clean = l->facts.clean;
    }
    for (size_t i = 0; status == LSM_OK && i < l->count; i++) {
        const struct candidate *c = &l->tables[i];
        if (c->meta.max_sequence > r->state.covered)
            r->state.covered = c->meta.max_sequence;
        if (c->is_dead)
            continue;
        status = edit_add_table(state, &c->meta, err);
        if (c->properties.number == 0 && !c->is_added)
            buffer_append(&r->state.unbounded, &c->meta.number, sizeof c->meta.number);
        if (status == LSM_OK && r->state.unbounded.failed)
            status = lsm_fail_memory(err, r->state.unbounded.size);
        if (status == LSM_OK && c->is_unproven) {
            struct repair_loss loss = {.kinds = LSM_LOSS_MAY_BE_STALE | LSM_LOSS_MAY_REVIVE,
                                       .has_cf = true,
                                       .cf = c->meta.cf,
                                       .min_sequence = c->meta.min_sequence,
                                       .max_sequence = c->meta.max_sequence,
                                       .offset = LSM_NO_OFFSET};
            file_name_make(FILE_TABLE, c->meta.number, loss.file);
            status = repair_add_loss(r, &loss, c->meta.smallest, c->meta.largest, err);
        }
    }
    r->state.next_frame = l->facts.next_frame == 0 ? 1 : l->facts.next_frame;
    return status;
}

lsm_status repair_rebuild(struct repair *r, lsm_error *err)
{
    struct lineage l = {.r = r};
    lsm_status status = repair_gather_facts(r, &l.facts, err);
    if (status == LSM_OK)
        status = candidates_read(&l, err);
    if (status == LSM_OK)
        status = list_jobs(&l, err);
    if (status == LSM_OK)
        status = list_taken(&l, err);
    if (status == LSM_OK) {
        judge_jobs(&l);
        judge_outputs(&l);
        status = account_for_numbers(&l, err);
    }
    if (status == LSM_OK)
        status = candidates_add_missing(&l, err); /* moves the tables: jobs hold no more */
    if (status == LSM_OK)
        status = families_make(&l, err);
    if (status == LSM_OK)
        status = make_state(&l, err);
    candidates_release(&l);
    mem_free(l.jobs);
    mem_free(l.taken);
    repair_facts_release(&l.facts);
    return status;
}
