/*
 * What the processes tell each other of their flushes and compactions.
 *
 * A compaction is claimed in its process's slot while the version lock is held, so that no other
 * process takes an input of it. A claim ends with the process: whoever reaps its slot clears it.
 * Claims are counted, too: workers begin no more compactions than max_compactions, which the
 * process that came first fixed, over all processes. Calls that compact on their own thread are not
 * held back, for they are not more than there are callers. There is one flush at a time in any
 * case.
 *
 * A large compaction takes more threads than one, as far as max_merge_threads leaves some when it
 * begins; the first one is never refused.
 *
 * The slot's out_floor is a file number that none of its running jobs' files is below: what is
 * above it and named by nobody may be somebody's output.
 */
#include "engine/db/db_private.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"

#include <unistd.h>

#define JOB_WHOLE_FAMILY UINT32_MAX /* as input_count: more inputs than there is room for */
#define MERGE_THREADS    8 /* of compactions, by default, however many processors there are */
#define MERGE_MEMORY     ((uint64_t)32 << 20) /* of the option `memory`, for each of them */

/* ---- claims ---------------------------------------------------------------------------------- */

static void mark_file(struct version_file *file, bool busy, uint32_t output_level)
{
    file->busy = busy;
    file->busy_to = output_level;
}

static void mark_family(const struct version_cf *cf, bool busy, uint32_t output_level)
{
    for (size_t level = 0; cf != NULL && level < VERSION_LEVELS; level++) {
        for (size_t i = 0; i < cf->levels[level].count; i++)
            mark_file(cf->levels[level].files[i], busy, output_level);
    }
}

static void mark_job(const struct version *version, const struct shm_job *job)
{
    if (atomic_load_explicit(&job->state, memory_order_acquire) != SHM_JOB_RUNNING)
        return;
    if (job->input_count > SHM_JOB_INPUTS) {
        mark_family(version_find_cf(version, job->cf), true, job->output_level);
        return;
    }
    for (uint32_t i = 0; i < job->input_count; i++) {
        struct version_file *file = version_find_file(version, job->inputs[i]);
        if (file != NULL)
            mark_file(file, true, job->output_level);
    }
}

/* The inputs of every process's jobs (version lock held). */
static void mark_running(lsm_db *db, const struct version *version)
{
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        struct shm_slot *slot = &db->layout->slots[i];
        for (uint32_t j = 0; j < SHM_SLOT_JOBS; j++)
            mark_job(version, &slot->jobs[j]);
    }
}

/* All of them: a job may have ended since it was marked, for who reaps takes no version lock. */
static void unmark_all(const struct version *version)
{
    for (size_t i = 0; i < version->family_count; i++)
        mark_family(version->families[i], false, 0);
}

static struct shm_job *free_job(lsm_db *db)
{
    for (uint32_t j = 0; j < SHM_SLOT_JOBS; j++) {
        if (atomic_load(&db->slot->jobs[j].state) == SHM_JOB_NONE)
            return &db->slot->jobs[j];
    }
    return NULL;
}

static uint32_t running_jobs(const struct shm_slot *slot)
{
    uint32_t count = 0;
    for (uint32_t j = 0; j < SHM_SLOT_JOBS; j++)
        count += atomic_load(&slot->jobs[j].state) == SHM_JOB_RUNNING;
    return count;
}

/* Over all processes. Who died with a claim does not count, even if nobody has reaped it yet; that
 * is asked only when it matters, for it costs system calls. */
bool db_job_is_allowed_locked(lsm_db *db)
{
    uint32_t limit = db->layout->ctl.max_compactions, count = 0;
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++)
        count += running_jobs(&db->layout->slots[i]);
    for (uint32_t i = 0; i < SHM_MAX_SLOTS && count >= limit; i++) {
        uint32_t jobs = running_jobs(&db->layout->slots[i]);
        if (jobs > 0 && !shm_slot_is_alive(db->attachment, i))
            count -= jobs;
    }
    if (count >= limit)
        atomic_store(&db->job_refused, true);
    return count < limit;
}

uint32_t db_processor_count(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    if (count < 1)
        return 1;
    return count < DB_MAX_COMPACTIONS ? (uint32_t)count : DB_MAX_COMPACTIONS;
}

/*
 * Threads of all jobs together. By default a job that nobody asked for leaves one processor to
 * those who read and write; and what `memory` says holds for the buffers of each thread, too.
 */
static uint32_t thread_limit(const lsm_db *db, const struct compaction *c)
{
    const lsm_options *o = &db->options;
    uint32_t limit = db_processor_count();
    if (o->max_merge_threads != 0)
        return o->max_merge_threads;
    if (!db_has_workers(db))
        return 1;
    limit = limit < MERGE_THREADS ? limit : MERGE_THREADS;
    if (o->memory != 0 && o->memory / MERGE_MEMORY < limit)
        limit = (uint32_t)(o->memory / MERGE_MEMORY);
    return c->is_manual ? limit : limit - (limit > 0);
}

/* What the jobs of all processes leave of them to one more. */
static uint32_t threads_left(lsm_db *db, const struct version *version, const struct compaction *c)
{
    uint32_t limit = thread_limit(db, c);
    uint32_t worth = compact_worth_threads(version_find_cf(version, c->cf), c), taken = 0;
    for (uint32_t i = 0; i < SHM_MAX_SLOTS * SHM_SLOT_JOBS && limit > 1 && worth > 1; i++) {
        const struct shm_job *job = &db->layout->slots[i / SHM_SLOT_JOBS].jobs[i % SHM_SLOT_JOBS];
        if (atomic_load_explicit(&job->state, memory_order_acquire) == SHM_JOB_RUNNING)
            taken += job->threads;
    }
    uint32_t left = limit > taken ? limit - taken : 1;
    return left < worth ? left : worth;
}

/* While it runs its inputs stay, also when another process drops their family. */
static struct db_pin *job_pin(lsm_db *db, const struct shm_job *job)
{
    return &db->job_pins[job - db->slot->jobs];
}

static void fill_job(struct shm_job *job, const struct compaction *c, uint64_t since_ns)
{
    job->since_ns = since_ns;
    job->is_manual = c->is_manual;
    job->is_for_reads = c->is_for_reads;
    job->input_bytes = c->input_bytes;
    atomic_store_explicit(&job->bytes_done, 0, memory_order_relaxed);
    atomic_store_explicit(&job->bytes_written, 0, memory_order_relaxed);
    job->cf = c->cf;
    job->input_level = c->input_level;
    job->output_level = c->output_level;
    job->input_count =
        c->input_count <= SHM_JOB_INPUTS ? (uint32_t)c->input_count : JOB_WHOLE_FAMILY;
    job->threads = c->threads;
    for (size_t i = 0; i < c->input_count && i < SHM_JOB_INPUTS; i++)
        job->inputs[i] = c->inputs[i]->meta.number;
    STEP("job: filled");
    /* Release: who sees the state sees the inputs. */
    atomic_store_explicit(&job->state, SHM_JOB_RUNNING, memory_order_release);
    STEP("job: running");
}

bool db_job_take_locked(lsm_db *db, const struct version *version, struct compaction *c,
                        db_job_pick pick, void *context)
{
    struct shm_job *job = free_job(db);
    if (job == NULL)
        return false;
    mark_running(db, version);
    bool found = pick(context, version, c);
    unmark_all(version);
    if (!found)
        return false;
    c->threads = threads_left(db, version, c);
    fill_job(job, c, io_now_ns(db->io));
    c->claim = job;
    db_pin_add(db, job_pin(db, job), version->number);
    return true;
}

void db_job_end_locked(lsm_db *db, struct compaction *c)
{
    struct shm_job *job = c->claim;
    db_pin_remove(db, job_pin(db, job));
    atomic_store_explicit(&job->state, SHM_JOB_NONE, memory_order_release);
    STEP("job: ended");
    c->claim = NULL;
}

void db_job_end(lsm_db *db, struct compaction *c)
{
    pthread_mutex_lock(&db->view_lock);
    db_job_end_locked(db, c);
    pthread_mutex_unlock(&db->view_lock);
}

static bool ranges_meet(lsm_slice a_first, lsm_slice a_last, lsm_slice b_first, lsm_slice b_last)
{
    return slice_compare(a_first, b_last) <= 0 && slice_compare(b_first, a_last) <= 0;
}

/* A job's outputs lie somewhere between the ends of all its inputs. */
static bool job_reaches(const struct shm_job *job, const struct version *version,
                        lsm_slice smallest, lsm_slice largest)
{
    const struct table_meta *first = NULL, *last = NULL;
    if (job->input_count > SHM_JOB_INPUTS)
        return true;
    for (uint32_t i = 0; i < job->input_count; i++) {
        const struct version_file *file = version_find_file(version, job->inputs[i]);
        if (file == NULL)
            continue; /* the edit that removed it ended the job */
        if (first == NULL || slice_compare(file->meta.smallest, first->smallest) < 0)
            first = &file->meta;
        if (last == NULL || slice_compare(file->meta.largest, last->largest) > 0)
            last = &file->meta;
    }
    return first != NULL && ranges_meet(first->smallest, last->largest, smallest, largest);
}

bool db_jobs_reach_locked(lsm_db *db, const struct version *version, uint32_t cf, uint32_t level,
                          lsm_slice smallest, lsm_slice largest)
{
    for (uint32_t i = 0; i < SHM_MAX_SLOTS * SHM_SLOT_JOBS; i++) {
        const struct shm_job *job = &db->layout->slots[i / SHM_SLOT_JOBS].jobs[i % SHM_SLOT_JOBS];
        if (atomic_load_explicit(&job->state, memory_order_acquire) != SHM_JOB_RUNNING ||
            job->cf != cf || level < job->input_level || level > job->output_level)
            continue;
        if (job_reaches(job, version, smallest, largest))
            return true;
    }
    return false;
}

/* ---- numbers of files ------------------------------------------------------------------------ */

/* That of the oldest running job (arena_lock held). */
static void tell_floor_locked(lsm_db *db)
{
    const struct db_outputs *oldest = db->outputs.next;
    atomic_store(&db->slot->out_floor, oldest == &db->outputs ? 0 : oldest->floor);
}

void db_outputs_begin(lsm_db *db, struct db_outputs *outputs)
{
    pthread_mutex_lock(&db->arena_lock);
    outputs->floor = atomic_load(&db->layout->ctl.next_file_number);
    outputs->next = &db->outputs;
    outputs->previous = db->outputs.previous;
    outputs->previous->next = outputs;
    outputs->next->previous = outputs;
    tell_floor_locked(db);
    pthread_mutex_unlock(&db->arena_lock);
    /* Who finds the counter behind a number that the job took finds the floor: orphan_limit(). */
    atomic_thread_fence(memory_order_seq_cst);
    STEP("outputs: floor told");
}

void db_outputs_end(lsm_db *db, struct db_outputs *outputs)
{
    pthread_mutex_lock(&db->arena_lock);
    outputs->previous->next = outputs->next;
    outputs->next->previous = outputs->previous;
    tell_floor_locked(db);
    pthread_mutex_unlock(&db->arena_lock);
    STEP("outputs: over");
}

/* ---- orphans --------------------------------------------------------------------------------- */

static void expect_below(lsm_db *db, uint64_t number)
{
    _Atomic uint64_t *below = &db->layout->version.orphans_below;
    uint64_t before = atomic_load(below);
    while (before < number && !atomic_compare_exchange_weak(below, &before, number))
        ;
}

void db_orphans_expect(lsm_db *db)
{
    atomic_store(&db->orphans_limit, 0);
    expect_below(db, atomic_load(&db->layout->ctl.next_file_number));
}

/* Files below it that nobody names are nobody's: the counter is read before the floors. */
static uint64_t orphan_limit(lsm_db *db)
{
    uint64_t limit = atomic_load(&db->layout->ctl.next_file_number);
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        uint64_t floor = atomic_load(&db->layout->slots[i].out_floor);
        if (floor != 0 && floor < limit)
            limit = floor;
    }
    return limit;
}

/*
 * A dead process may have made an edit durable and not published it: its tables are named by nobody
 * then, and its out_floor may be cleared already, yet the next owner of the version lock adopts the
 * edit. So the lock is taken first, which does that; not waited for, for its owner may be stopped.
 */
static lsm_status remove_below(lsm_db *db, uint64_t limit, bool *done, lsm_error *err)
{
    *done = false;
    bool begun = false;
    STEP("orphans: limit known");
    lsm_status status = db_edit_try_begin(db, &begun, err);
    if (!begun)
        return status;
    status = version_set_remove_orphans(db->versions, limit, err);
    db_edit_end(db);
    *done = status == LSM_OK;
    return status;
}

/* A running job hides the orphans above its floor: they are looked for when the floor has risen.
 * Should this process die meanwhile, whoever reaps it expects orphans again. */
lsm_status db_remove_orphans(lsm_db *db, lsm_error *err)
{
    bool done;
    uint64_t below = atomic_load(&db->layout->version.orphans_below);
    uint64_t limit = below == 0 ? 0 : orphan_limit(db);
    if (below == 0 || (limit < below && limit == atomic_load(&db->orphans_limit)) ||
        !atomic_compare_exchange_strong(&db->layout->version.orphans_below, &below, 0))
        return LSM_OK;
    lsm_status status = remove_below(db, limit, &done, err);
    if (done)
        atomic_store(&db->orphans_limit, limit);
    if (!done || limit < below)
        expect_below(db, below);
    return status;
}
