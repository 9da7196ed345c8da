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
#include "engine/repair/repair_private.h"

#include "engine/sst/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
    struct table_meta meta; /* owned keys */
    char cf_name[TABLE_MAX_NAME + 1];
    struct table_properties properties; /* owned; number 0: they are lost */
    bool is_dead;
    bool is_added; /* by an edit */
    bool is_unproven;
};

struct job {
    uint64_t number;
    const struct candidate *output; /* one of them */
    bool is_completed, is_refuted, is_known, is_doubtful;
};

struct lineage {
    struct repair *r;
    struct repair_facts facts;
    struct candidate *tables; /* by number */
    size_t count, room;
    struct job *jobs; /* by number, descending; those that replaced something */
    size_t job_count;
};

/* ---- reading --------------------------------------------------------------------------------- */

static lsm_status copy_key(lsm_slice *to, lsm_slice from, lsm_error *err)
{
    uint8_t *copy = mem_alloc(from.size);
    if (copy == NULL)
        return lsm_fail_memory(err, from.size);
    if (from.size > 0)
        memcpy(copy, from.data, from.size);
    mem_free((void *)(uintptr_t)to->data);
    *to = (lsm_slice){copy, from.size};
    return LSM_OK;
}

/* The two keys, which were copied one by one, as one allocation: so table_meta_release() frees
 * them. Without them when `status` is a failure, which it returns then. */
static lsm_status join_keys(struct table_meta *m, lsm_status status, lsm_error *err)
{
    struct table_meta joined = {0};
    if (status == LSM_OK)
        status = table_meta_copy(&joined, m, err);
    mem_free((void *)(uintptr_t)m->smallest.data);
    mem_free((void *)(uintptr_t)m->largest.data);
    m->smallest = joined.smallest;
    m->largest = joined.largest;
    return status;
}

static lsm_status widen(struct table_meta *m, const struct walk_block *b, lsm_error *err)
{
    struct buffer key = {0};
    lsm_status status = LSM_OK;
    if (!block_copy_key(&b->view, 0, &key))
        status = lsm_fail_memory(err, 0);
    if (status == LSM_OK &&
        (m->entry_count == 0 || slice_compare(buffer_slice(&key), m->smallest) < 0))
        status = copy_key(&m->smallest, buffer_slice(&key), err);
    if (status == LSM_OK && !block_copy_key(&b->view, b->view.count - 1, &key))
        status = lsm_fail_memory(err, 0);
    if (status == LSM_OK &&
        (m->entry_count == 0 || slice_compare(buffer_slice(&key), m->largest) > 0))
        status = copy_key(&m->largest, buffer_slice(&key), err);
    if (m->entry_count == 0 || b->frame.min_sequence < m->min_sequence)
        m->min_sequence = b->frame.min_sequence;
    if (b->frame.max_sequence > m->max_sequence)
        m->max_sequence = b->frame.max_sequence;
    m->cf = b->frame.cf;
    m->level = b->frame.level;
    m->entry_count += b->view.count;
    buffer_release(&key);
    return status;
}

/* A table that lost its properties is known by its blocks. */
static lsm_status meta_of_blocks(struct walk_table *walk, struct table_meta *m, lsm_error *err)
{
    struct walk_block b = {.length = 1};
    lsm_status status = LSM_OK;
    while (status == LSM_OK) {
        status = walk_table_next(walk, &b, err);
        if (status != LSM_OK || b.length == 0)
            break;
        if (b.fault == FINDING_COUNT && !b.too_large && b.view.count > 0)
            status = widen(m, &b, err);
    }
    return join_keys(m, status, err);
}

/* The properties after correcting one wrong byte of them. */
static lsm_status correct_properties(struct repair *r, const struct walk_table *walk,
                                     struct table_properties *p, lsm_error *err)
{
    struct io_file *file = NULL;
    struct table_extent e = walk->properties.extent;
    struct correct_change change;
    if (walk->properties.verdict != WALK_DAMAGED || e.size < TABLE_FRAME_SIZE ||
        e.size > 2 * TABLE_PROPERTIES_MAX_SIZE)
        return LSM_OK;
    uint8_t *bytes = mem_alloc((size_t)e.size);
    if (bytes == NULL)
        return lsm_fail_memory(err, (size_t)e.size);
    struct table_frame frame;
    struct table_problem problem;
    uint64_t seed = hash_place(walk->uuid, walk->number, e.offset);
    if (io_file_open(r->dir, walk->name, 0, 0, &file, NULL) == LSM_OK &&
        io_file_read_exact(file, bytes, (size_t)e.size, e.offset, NULL) == LSM_OK &&
        correct_table_frame(bytes, (size_t)e.size, seed, &change) == CORRECT_DONE &&
        table_frame_open((lsm_slice){bytes, (size_t)e.size}, seed, &frame, &problem))
        (void)table_properties_decode(
            table_frame_payload((lsm_slice){bytes, (size_t)e.size}, &frame), p, NULL);
    io_file_close(file);
    mem_free(bytes);
    return LSM_OK;
}

static lsm_status take_properties(struct candidate *c, const struct table_properties *p,
                                  lsm_error *err)
{
    struct table_meta *m = &c->meta;
    m->cf = p->cf;
    m->level = p->level;
    m->min_sequence = p->min_sequence;
    m->max_sequence = p->max_sequence;
    m->entry_count = p->entry_count;
    m->delete_count = p->delete_count;
    m->raw_size = p->raw_size;
    snprintf(c->cf_name, sizeof c->cf_name, "%.*s",
             (int)(p->cf_name.size < TABLE_MAX_NAME ? p->cf_name.size : TABLE_MAX_NAME),
             (const char *)p->cf_name.data);
    lsm_status status = copy_key(&m->smallest, p->smallest, err);
    if (status == LSM_OK)
        status = copy_key(&m->largest, p->largest, err);
    return join_keys(m, status, err);
}

/* LSM_OK with c->meta.entry_count 0: nothing in it can be read. */
static lsm_status read_candidate(struct lineage *l, const struct walk_file *f, struct candidate *c,
                                 lsm_error *err)
{
    struct walk_table *walk = NULL;
    struct walk_table_options options = {.number = f->number};
    *c = (struct candidate){.meta = {.number = f->number, .size = f->entry.size}};
    lsm_status status = walk_table_open(&l->r->walk, &options, &walk, err);
    if (status == LSM_MISSING || status == LSM_CORRUPT)
        return LSM_OK;
    if (status != LSM_OK || walk->is_foreign) {
        walk_table_close(walk);
        return status;
    }
    struct table_properties found = {0};
    const struct table_properties *p = &walk->table_properties;
    if (walk->properties.verdict != WALK_SOUND) {
        status = correct_properties(l->r, walk, &found, err);
        p = &found;
    }
    if (status == LSM_OK && p->entry_count > 0 && p->number == f->number) {
        status = take_properties(c, p, err);
        c->properties = *p;
        if (p != &found) /* now owned here */
            walk->table_properties = (struct table_properties){0};
        found = (struct table_properties){0};
    } else if (status == LSM_OK) {
        status = meta_of_blocks(walk, &c->meta, err);
        c->is_unproven = true;
    }
    table_properties_release(&found);
    if (walk->table_properties.number == 0)
        walk->properties.verdict = WALK_ABSENT;
    walk_table_close(walk);
    return status;
}

static void candidate_release(struct candidate *c)
{
    table_meta_release(&c->meta);
    table_properties_release(&c->properties);
}

static bool was_removed(const struct repair_facts *f, uint64_t number)
{
    size_t low = 0, limit = f->removed_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (f->removed[middle] < number)
            low = middle + 1;
        else
            limit = middle;
    }
    return low < f->removed_count && f->removed[low] == number;
}

static const struct table_meta *was_added(const struct repair_facts *f, uint64_t number)
{
    size_t low = 0, limit = f->added_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (f->added[middle].number < number)
            low = middle + 1;
        else
            limit = middle;
    }
    return low < f->added_count && f->added[low].number == number ? &f->added[low] : NULL;
}

static int compare_candidates(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    return (a->meta.number > b->meta.number) - (a->meta.number < b->meta.number);
}

static struct candidate *find_candidate(const struct lineage *l, uint64_t number)
{
    struct candidate key = {.meta.number = number};
    return l->count == 0 ? NULL
                         : bsearch(&key, l->tables, l->count, sizeof key, compare_candidates);
}

static lsm_status add_candidate(struct lineage *l, const struct candidate *c, lsm_error *err)
{
    if (l->count == l->room) {
        size_t room = l->room == 0 ? 64 : 2 * l->room;
        struct candidate *grown = mem_resize(l->tables, room * sizeof *grown);
        if (grown == NULL)
            return lsm_fail_memory(err, room * sizeof *grown);
        l->tables = grown;
        l->room = room;
    }
    l->tables[l->count++] = *c;
    return LSM_OK;
}

static lsm_status read_candidates(struct lineage *l, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < l->r->list.count; i++) {
        const struct walk_file *f = &l->r->list.files[i];
        if (f->name != WALK_NAME_OURS || f->kind != FILE_TABLE || !walk_file_is_plain(f) ||
            f->number == 0 || f->number >= REPAIR_MAX_NUMBER)
            continue;
        struct candidate c;
        status = read_candidate(l, f, &c, err);
        const struct table_meta *added = was_added(&l->facts, f->number);
        c.is_dead = was_removed(&l->facts, f->number);
        if (status == LSM_OK && added != NULL) { /* the edit knows it better */
            c.is_added = true;
            c.is_unproven = false;
            table_meta_release(&c.meta);
            status = table_meta_copy(&c.meta, added, err);
        }
        /* Nothing to be read, or what an ingest left before it was given its sequence number. */
        bool is_nothing = c.meta.entry_count == 0 || (c.is_unproven && c.meta.max_sequence == 0);
        if (status == LSM_OK && !is_nothing)
            status = add_candidate(l, &c, err);
        else
            candidate_release(&c);
    }
    if (l->count > 1)
        qsort(l->tables, l->count, sizeof *l->tables, compare_candidates);
    return status;
}

/* Tables that edits name and that are not there: looking at them will say so. */
static lsm_status add_missing(struct lineage *l, lsm_error *err)
{
    lsm_status status = LSM_OK;
    size_t there = l->count;
    for (size_t i = 0; status == LSM_OK && i < l->facts.added_count; i++) {
        const struct table_meta *m = &l->facts.added[i];
        bool is_there = false;
        for (size_t k = 0; k < there && !is_there; k++)
            is_there = l->tables[k].meta.number == m->number;
        if (is_there || was_removed(&l->facts, m->number))
            continue;
        struct candidate c = {.is_added = true};
        status = table_meta_copy(&c.meta, m, err);
        if (status == LSM_OK)
            status = add_candidate(l, &c, err);
    }
    if (l->count > 1)
        qsort(l->tables, l->count, sizeof *l->tables, compare_candidates);
    return status;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static bool is_output(const struct candidate *c, uint64_t job)
{
    return c->properties.number != 0 && c->properties.job == job &&
           c->properties.replaced_count > 0;
}

static struct job *find_job(const struct lineage *l, uint64_t number)
{
    for (size_t i = 0; i < l->job_count; i++) {
        if (l->jobs[i].number == number)
            return &l->jobs[i];
    }
    return NULL;
}

static int compare_jobs(const void *left, const void *right)
{
    const struct job *a = left, *b = right;
    return (a->number < b->number) - (a->number > b->number);
}

static lsm_status list_jobs(struct lineage *l, lsm_error *err)
{
    l->jobs = mem_alloc((l->count + 1) * sizeof *l->jobs);
    if (l->jobs == NULL)
        return lsm_fail_memory(err, (l->count + 1) * sizeof *l->jobs);
    for (size_t i = 0; i < l->count; i++) {
        const struct candidate *c = &l->tables[i];
        if (!is_output(c, c->properties.job))
            continue;
        struct job *job = find_job(l, c->properties.job);
        if (job == NULL) {
            job = &l->jobs[l->job_count++];
            *job = (struct job){.number = c->properties.job, .output = c};
        }
        job->is_known = job->is_known || c->is_added;
    }
    qsort(l->jobs, l->job_count, sizeof *l->jobs, compare_jobs);
    return LSM_OK;
}

static bool has_all_outputs(const struct lineage *l, uint64_t job)
{
    uint32_t last = 0, count = 0;
    bool has_last = false;
    for (size_t i = 0; i < l->count; i++) {
        const struct candidate *c = &l->tables[i];
        if (!is_output(c, job))
            continue;
        count++;
        if (c->properties.last_output) {
            has_last = true;
            last = c->properties.output_index;
        }
    }
    return has_last && count == last + 1; /* an index is given once */
}

/* Did a completed job take a file that this one took, too? */
static bool is_superseded(const struct lineage *l, const struct job *job)
{
    const struct candidate *mine = job->output;
    for (size_t i = 0; i < l->job_count; i++) {
        const struct job *other = &l->jobs[i];
        if (other == job || !other->is_completed)
            continue;
        const struct candidate *its = other->output;
        for (size_t a = 0; a < mine->properties.replaced_count; a++) {
            for (size_t b = 0; b < its->properties.replaced_count; b++) {
                if (mine->properties.replaced[a] == its->properties.replaced[b])
                    return true;
            }
        }
    }
    return false;
}

static bool has_all_inputs(const struct lineage *l, const struct job *job)
{
    const struct candidate *c = job->output;
    for (size_t i = 0; i < c->properties.replaced_count; i++) {
        if (find_candidate(l, c->properties.replaced[i]) == NULL)
            return false;
    }
    return true;
}

static void complete(struct lineage *l, struct job *job)
{
    const struct candidate *c = job->output;
    job->is_completed = true;
    for (size_t i = 0; i < c->properties.replaced_count; i++) {
        struct candidate *input = find_candidate(l, c->properties.replaced[i]);
        if (input != NULL)
            input->is_dead = true;
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
        if (has_all_outputs(l, job->number))
            complete(l, job);
        else if (has_all_inputs(l, job))
            job->is_refuted = true;
        else
            job->is_doubtful = true;
    }
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

/* ---- families -------------------------------------------------------------------------------- */

static bool was_dropped(const struct repair_facts *f, uint32_t id)
{
    for (size_t i = 0; i < f->families.dropped_count; i++) {
        if (f->families.dropped[i] == id)
            return true;
    }
    return false;
}

static bool name_is_taken(const struct version_edit *state, const char *name)
{
    for (size_t i = 0; i < state->created_count; i++) {
        if (strcmp(state->created[i].name, name) == 0)
            return true;
    }
    return false;
}

static bool has_family(const struct version_edit *state, uint32_t id)
{
    for (size_t i = 0; i < state->created_count; i++) {
        if (state->created[i].id == id)
            return true;
    }
    return false;
}

static lsm_status add_family(struct version_edit *state, uint32_t id, const char *name,
                             const struct table_properties *p, lsm_error *err)
{
    char own[32];
    lsm_cf_options options = LSM_CF_OPTIONS_INIT, resolved;
    if (id == 0 && (name == NULL || name[0] == '\0'))
        name = "default"; /* it never has another one */
    if (name == NULL || name[0] == '\0' || name_is_taken(state, name)) {
        snprintf(own, sizeof own, "recovered-%" PRIu32, id);
        name = own;
    }
    lsm_status status = version_resolve_cf_options(&options, &resolved, err);
    if (status == LSM_OK && p != NULL && p->block_size != 0) {
        options.block_size = p->block_size;
        options.filter_bits = p->filter_bits == 0 ? LSM_NO_FILTER : p->filter_bits;
        if (version_resolve_cf_options(&options, &resolved, NULL) != LSM_OK)
            status =
                version_resolve_cf_options(&(lsm_cf_options)LSM_CF_OPTIONS_INIT, &resolved, err);
    }
    if (status == LSM_OK)
        status = edit_create_cf(state, id, name, &resolved, err);
    if (id >= state->next_cf)
        state->next_cf = id + 1;
    return status;
}

static lsm_status make_families(struct lineage *l, struct version_edit *state, lsm_error *err)
{
    const struct version_edit *known = &l->facts.families;
    lsm_status status = LSM_OK;
    state->next_cf = l->facts.next_cf;
    for (size_t i = 0; status == LSM_OK && i < known->created_count; i++) {
        const struct edit_cf *cf = &known->created[i];
        if (was_dropped(&l->facts, cf->id))
            continue;
        status = edit_create_cf(state, cf->id, cf->name, &cf->options, err);
        if (cf->id >= state->next_cf)
            state->next_cf = cf->id + 1;
    }
    /* The newest table of a family knows its name. */
    for (size_t i = l->count; status == LSM_OK && i > 0; i--) {
        struct candidate *c = &l->tables[i - 1];
        if (was_dropped(&l->facts, c->meta.cf))
            c->is_dead = true;
        if (!c->is_dead && !has_family(state, c->meta.cf))
            status = add_family(state, c->meta.cf, c->cf_name,
                                c->properties.number != 0 ? &c->properties : NULL, err);
    }
    if (status == LSM_OK && !has_family(state, 0) && !was_dropped(&l->facts, 0))
        status = add_family(state, 0, NULL, NULL, err);
    return status;
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
    for (size_t i = 0; status == LSM_OK && i < l->facts.families.dropped_count; i++)
        status = edit_drop_cf(&r->state.gone, l->facts.families.dropped[i], err);
    r->state.next_frame = l->facts.next_frame == 0 ? 1 : l->facts.next_frame;
    return status;
}

lsm_status repair_rebuild(struct repair *r, lsm_error *err)
{
    struct lineage l = {.r = r};
    lsm_status status = repair_gather_facts(r, &l.facts, err);
    if (status == LSM_OK && r->options->rebuild_manifest) {
        /* Only which families there are and were is believed: a dropped one must not come back. */
        l.facts.removed_count = 0;
        for (size_t i = 0; i < l.facts.added_count; i++)
            table_meta_release(&l.facts.added[i]);
        l.facts.added_count = 0;
    }
    if (status == LSM_OK)
        status = read_candidates(&l, err);
    if (status == LSM_OK)
        status = list_jobs(&l, err);
    if (status == LSM_OK) {
        judge_jobs(&l);
        status = add_missing(&l, err);
    }
    if (status == LSM_OK)
        status = make_families(&l, &r->state.snapshot, err);
    if (status == LSM_OK)
        status = make_state(&l, err);
    for (size_t i = 0; i < l.count; i++)
        candidate_release(&l.tables[i]);
    mem_free(l.tables);
    mem_free(l.jobs);
    repair_facts_release(&l.facts);
    return status;
}
