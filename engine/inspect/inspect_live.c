/*
 * The segment is copied field by field into plain structs; only then anything is computed. Indexes
 * and sizes that were read are checked against those that peek.h vouches for.
 */
#include "engine/inspect/inspect_live.h"

#include "engine/base/memory.h"
#include "engine/memtable/memtable.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LOOK_TRIES    5
#define PLACE_TRIES   1000
#define RETRY_WAIT_NS 2000000

/* A plain field that others may store to meanwhile. */
#define LOAD(field)        __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define LOAD_ATOMIC(field) atomic_load_explicit(&(field), memory_order_relaxed)

/* ---- the view -------------------------------------------------------------------------------- */

/* The published end of the manifest. False when it changed each time, or is not there yet. */
static bool read_place(const struct shm_version *v, struct version_place *place)
{
    for (unsigned i = 0; i < PLACE_TRIES; i++) {
        /* Acquire: pairs with the release that puts a place in force. */
        uint32_t index = atomic_load_explicit(&v->place_index, memory_order_acquire);
        const uint64_t *p = v->places[index % 2].number;
        *place = (struct version_place){.manifest_number = LOAD(p[0]),
                                        .previous_number = LOAD(p[1]),
                                        .offset = LOAD(p[2]),
                                        .frame_number = LOAD(p[3]),
                                        .chain = LOAD(p[4])};
        atomic_thread_fence(memory_order_acquire);
        /* The other place may be written at any time, this one only after the index has moved. */
        if (atomic_load_explicit(&v->place_index, memory_order_relaxed) == index)
            return place->manifest_number != 0 && place->frame_number != 0;
    }
    return false;
}

static bool same_place(const struct version_place *a, const struct version_place *b)
{
    return a->manifest_number == b->manifest_number && a->frame_number == b->frame_number;
}

/* Tables below it that nobody names are nobody's. */
static uint64_t job_limit(const struct shm_layout *layout)
{
    uint64_t limit = LOAD_ATOMIC(layout->ctl.next_file_number);
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        uint64_t floor = LOAD_ATOMIC(layout->slots[i].out_floor);
        if (floor != 0 && floor < limit)
            limit = floor;
    }
    return limit;
}

/* ---- processes ------------------------------------------------------------------------------- */

/* How long ago; the clock is the same for all processes, but is looked at before theirs may be. */
static uint64_t age_of(uint64_t now, uint64_t then)
{
    if (then == 0)
        return INSPECT_UNKNOWN;
    return now > then ? now - then : 0;
}

static void read_jobs(const struct shm_slot *slot, uint64_t now, struct inspect_process *p)
{
    for (uint32_t j = 0; j < SHM_SLOT_JOBS; j++) {
        const struct shm_job *job = &slot->jobs[j];
        /* Acquire: who sees the state sees the inputs. */
        if (atomic_load_explicit(&job->state, memory_order_acquire) != SHM_JOB_RUNNING)
            continue;
        struct inspect_job found = {.cf = LOAD(job->cf),
                                    .input_level = LOAD(job->input_level),
                                    .output_level = LOAD(job->output_level),
                                    .input_count = LOAD(job->input_count),
                                    .input_bytes = LOAD(job->input_bytes),
                                    .bytes_done = LOAD_ATOMIC(job->bytes_done),
                                    .threads = LOAD(job->threads),
                                    .bytes_written = LOAD_ATOMIC(job->bytes_written),
                                    .age_ns = age_of(now, LOAD(job->since_ns)),
                                    .is_manual = LOAD(job->is_manual) != 0,
                                    .is_for_reads = LOAD(job->is_for_reads) != 0};
        if (found.input_count > SHM_JOB_INPUTS)
            found.input_count = 0;
        p->jobs[p->job_count++] = found;
    }
}

static void read_manual(const struct shm_manual *m, uint64_t now, struct inspect_manual *manual)
{
    uint64_t since_ns = LOAD_ATOMIC(m->since_ns);
    *manual = (struct inspect_manual){.calls = LOAD_ATOMIC(m->calls),
                                      .is_running = since_ns != 0,
                                      .cf = LOAD_ATOMIC(m->cf),
                                      .age_ns = age_of(now, since_ns),
                                      .bytes_done = LOAD_ATOMIC(m->bytes_done),
                                      .bytes_total = LOAD_ATOMIC(m->bytes_total)};
}

static void read_snapshots(const struct shm_slot *slot, uint64_t now, struct inspect_process *p)
{
    p->oldest_snapshot = INSPECT_UNKNOWN;
    p->oldest_snapshot_age_ns = INSPECT_UNKNOWN;
    for (uint32_t i = 0; i < SHM_SLOT_SNAPSHOTS; i++) {
        uint64_t stored = LOAD_ATOMIC(slot->snapshots[i]);
        if (stored == 0)
            continue;
        p->snapshot_count++;
        if (stored - 1 < p->oldest_snapshot) {
            p->oldest_snapshot = stored - 1;
            p->oldest_snapshot_age_ns = age_of(now, LOAD_ATOMIC(slot->report.snapshot_ns[i]));
        }
    }
}

/* `to` holds size + 1 bytes. */
static void read_text(const char *from, size_t size, char *to)
{
    for (size_t i = 0; i < size; i++)
        to[i] = LOAD(from[i]);
    to[size] = '\0';
}

static void read_waits(const struct shm_waits *from, struct inspect_waits *to)
{
    for (size_t i = 0; i < SHM_WAIT_KINDS; i++)
        to[i] = (struct inspect_waits){.count = LOAD_ATOMIC(from[i].count),
                                       .total_us = LOAD_ATOMIC(from[i].total_us),
                                       .longest_us = LOAD_ATOMIC(from[i].longest_us)};
}

static void read_report(const struct shm_report *r, uint64_t now, struct inspect_report *report)
{
    *report = (struct inspect_report){.attached_age_ns = age_of(now, LOAD_ATOMIC(r->attached_ns)),
                                      .said_age_ns = age_of(now, LOAD_ATOMIC(r->said_ns)),
                                      .stall_reason = LOAD_ATOMIC(r->stall_reason),
                                      .stall_age_ns = age_of(now, LOAD_ATOMIC(r->stall_ns)),
                                      .stalled_writers = LOAD_ATOMIC(r->stalled_writers),
                                      .stalled_us = LOAD_ATOMIC(r->stalled_us),
                                      .debt_ppm = LOAD_ATOMIC(r->debt_ppm),
                                      .iterators = LOAD_ATOMIC(r->iterators),
                                      .drain_rate = LOAD_ATOMIC(r->drain_rate),
                                      .cache_size = LOAD_ATOMIC(r->cache_size),
                                      .cache_bytes = LOAD_ATOMIC(r->cache_bytes),
                                      .cache_hits = LOAD_ATOMIC(r->cache_hits),
                                      .cache_misses = LOAD_ATOMIC(r->cache_misses),
                                      .shared_cache_size = LOAD_ATOMIC(r->shared_cache_size),
                                      .shared_cache_bytes = LOAD_ATOMIC(r->shared_cache_bytes),
                                      .shared_cache_found = LOAD_ATOMIC(r->shared_cache_found),
                                      .table_bytes = LOAD_ATOMIC(r->table_bytes),
                                      .flush_bytes_written = LOAD_ATOMIC(r->flush_bytes_written),
                                      .merge_bytes_read = LOAD_ATOMIC(r->merge_bytes_read),
                                      .merge_bytes_written = LOAD_ATOMIC(r->merge_bytes_written),
                                      .read_merges = LOAD_ATOMIC(r->read_merges),
                                      .io_submissions = LOAD_ATOMIC(r->io_submissions),
                                      .work_status = (lsm_status)LOAD_ATOMIC(r->work_status)};
    read_waits(r->waits, report->waits);
    read_text(r->io_name, sizeof r->io_name - 1, report->io_name);
    read_text(r->io_reason, sizeof r->io_reason - 1, report->io_reason);
    read_text(r->log_path, sizeof r->log_path - 1, report->log_path);
    read_text(r->work_error, sizeof r->work_error - 1, report->work_error);
}

/* False when the slot is free, or was given up or changed hands while it was read. */
static bool read_process(struct io *io, const struct shm_peek *peek, uint32_t index,
                         struct inspect_process *p)
{
    const struct shm_slot *slot = &shm_peek_layout(peek)->slots[index];
    uint32_t generation = LOAD_ATOMIC(slot->generation);
    /* Acquire: who finds it in use finds what its owner said of itself. */
    if (atomic_load_explicit(&slot->state, memory_order_acquire) != SHM_SLOT_IN_USE)
        return false;
    uint64_t now = io_now_ns(io);
    *p = (struct inspect_process){.slot = index,
                                  /* Acquire: pairs with the release at the opening's end. */
                                  .roles = atomic_load_explicit(&slot->roles, memory_order_acquire),
                                  .pid = LOAD_ATOMIC(slot->pid),
                                  .pin = LOAD_ATOMIC(slot->pin),
                                  .arenas = LOAD_ATOMIC(slot->arenas)};
    read_text(slot->command, sizeof slot->command, p->command);
    read_jobs(slot, now, p);
    read_manual(&slot->manual, now, &p->manual);
    read_snapshots(slot, now, p);
    read_report(&slot->report, now, &p->report);
    p->pin_age_ns = age_of(now, LOAD_ATOMIC(slot->report.pin_ns));
    p->arena_count = (uint32_t)__builtin_popcountll(p->arenas);
    p->is_alive = shm_peek_slot_is_alive(peek, index);
    struct io_thread thread;
    if (p->is_alive && io_describe_thread(io, p->pid, &thread))
        p->run_state = thread.state;
    atomic_thread_fence(memory_order_acquire);
    /* Without a pid it is being given up: that is emptied before it is called free. */
    return p->pid != 0 && LOAD_ATOMIC(slot->generation) == generation &&
           LOAD_ATOMIC(slot->state) == SHM_SLOT_IN_USE;
}

static void read_processes(struct io *io, const struct shm_peek *peek, struct inspect_live *live)
{
    uint64_t oldest = UINT64_MAX;
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++) {
        struct inspect_process *p = &live->processes[live->process_count];
        if (!read_process(io, peek, i, p))
            continue;
        live->process_count++;
        live->dead_count += !p->is_alive;
        if (p->pin != 0 && p->pin < live->current_version)
            p->versions_behind = live->current_version - p->pin;
        if (p->pin != 0 && p->pin < oldest)
            oldest = p->pin;
    }
    for (size_t i = 0; i < live->process_count; i++) {
        struct inspect_process *p = &live->processes[i];
        p->holds_files =
            p->pin == oldest && p->versions_behind > 0 && live->files.superseded.count > 0;
    }
}

static int process_in_slot(const struct inspect_live *live, uint32_t slot)
{
    for (size_t i = 0; i < live->process_count; i++) {
        if (live->processes[i].slot == slot)
            return (int)i;
    }
    return INSPECT_NOBODY;
}

/* ---- memtables ------------------------------------------------------------------------------- */

static uint64_t backed_bytes(const struct shm_memtable *m, uint64_t arena_size)
{
    uint64_t low = LOAD_ATOMIC(m->backed_low), high = LOAD_ATOMIC(m->backed_high);
    if (low >= high)
        return arena_size;
    return low > arena_size || high > arena_size ? 0 : low + (arena_size - high);
}

static bool has_owner(enum shm_memtable_state state)
{
    return state == SHM_MEMTABLE_BUILDING || state == SHM_MEMTABLE_FLUSHING;
}

static void count_readers(struct inspect_live *live, struct inspect_memtable *m)
{
    for (size_t i = 0; i < live->process_count; i++) {
        struct inspect_process *p = &live->processes[i];
        if ((p->arenas >> m->arena & 1) == 0)
            continue;
        m->reader_count++;
        if (m->state == SHM_MEMTABLE_FLUSHED) {
            p->blocked_count++;
            p->blocked_bytes += m->bytes_backed;
        }
    }
}

static void read_memtable(const struct shm_peek *peek, uint32_t index, struct inspect_live *live)
{
    const struct shm_memtable *m = &shm_peek_layout(peek)->memtables[index];
    struct memtable_glance glance;
    uint32_t state = atomic_load_explicit(&m->state, memory_order_acquire);
    uint64_t backed = backed_bytes(m, live->arena_size);
    live->segment_bytes += backed;
    if (state == SHM_MEMTABLE_FREE || state > SHM_MEMTABLE_FLUSHED) {
        live->arenas_free++;
        return;
    }
    struct inspect_memtable *found = &live->memtables[live->memtable_count++];
    *found = (struct inspect_memtable){.arena = index,
                                       .state = (enum shm_memtable_state)state,
                                       .id = LOAD(m->id),
                                       .log_begin = LOAD(m->log_begin),
                                       .log_end = LOAD(m->log_end),
                                       .entry_count = INSPECT_UNKNOWN,
                                       .bytes_used = INSPECT_UNKNOWN,
                                       .bytes_backed = backed,
                                       .owner = INSPECT_NOBODY};
    if (found->state < SHM_MEMTABLE_SEALED)
        found->log_end = INSPECT_UNKNOWN;
    const void *arena = shm_peek_arena(peek, index, MEMTABLE_HEADER_SIZE);
    if (arena != NULL && memtable_look(arena, (size_t)live->arena_size, &glance) &&
        glance.id == found->id) {
        found->entry_count = glance.entry_count;
        found->bytes_used = glance.bytes_used;
    }
    if (has_owner(found->state))
        found->owner = process_in_slot(live, LOAD(m->owner_slot));
    if (found->owner != INSPECT_NOBODY && found->state == SHM_MEMTABLE_FLUSHING)
        live->processes[found->owner].flushing_count++;
    count_readers(live, found);
    live->arenas_free += found->state == SHM_MEMTABLE_FLUSHED && found->reader_count == 0;
}

static int compare_memtables(const void *a, const void *b)
{
    const struct inspect_memtable *x = a, *y = b;
    return (x->id < y->id) - (x->id > y->id);
}

/* ---- locks and log --------------------------------------------------------------------------- */

static void read_lock(struct io *io, const struct shm_lock *lock, bool can_tell,
                      struct inspect_live *live, struct inspect_lock *found)
{
    struct io_thread thread;
    found->process = INSPECT_NOBODY;
    found->thread = LOAD_ATOMIC(lock->owner);
    if (found->thread == 0)
        return;
    if (!io_describe_thread(io, found->thread, &thread)) {
        found->is_gone = can_tell && LOAD_ATOMIC(lock->owner) == found->thread;
        return;
    }
    found->pid = thread.pid;
    found->run_state = thread.state;
    for (size_t i = 0; i < live->process_count; i++) {
        if (live->processes[i].is_alive && live->processes[i].pid == found->pid)
            found->process = (int)i;
    }
    /* A number that was given out again: the owner has died. */
    found->is_gone = found->process == INSPECT_NOBODY;
}

static void read_locks(struct io *io, const struct shm_layout *layout, struct inspect_live *live)
{
    const struct {
        const char *name, *purpose;
        const struct shm_lock *lock;
    } locks[INSPECT_LOCK_COUNT] = {
        {"append", "writers", &layout->locks.append},
        {"change", "what memtables and tables there are; refreshing", &layout->locks.change},
        {"version", "changing the manifest", &layout->locks.version},
        {"sync", "writing and flushing the log", &layout->locks.sync},
        {"reg", "slots", &layout->locks.reg},
    };
    struct io_process own;
    struct io_thread thread;
    io_describe_process(io, &own);
    bool can_tell = io_describe_thread(io, own.pid, &thread);
    for (size_t i = 0; i < INSPECT_LOCK_COUNT; i++) {
        live->locks[i].name = locks[i].name;
        live->locks[i].purpose = locks[i].purpose;
        read_lock(io, locks[i].lock, can_tell, live, &live->locks[i]);
    }
}

static void read_log(const struct shm_commit *c, struct inspect_log *log)
{
    /* Against their order, so that none is seen ahead of one that it follows. */
    log->reusable = LOAD_ATOMIC(c->reusable);
    log->durable = LOAD_ATOMIC(c->durable);
    log->written = LOAD_ATOMIC(c->written);
    log->staged = LOAD_ATOMIC(c->staged);
    log->segment_number = LOAD_ATOMIC(c->segment_number);
    log->stage_size = LOAD(c->log.stage_size);
    log->segment_size = LOAD(c->log.segment_size);
    log->is_mapped = LOAD(c->log.is_mapped) != 0;
    log->is_direct = LOAD(c->log.is_direct) != 0;
    uint64_t head = LOAD_ATOMIC(c->pending_head), tail = LOAD_ATOMIC(c->pending_tail);
    log->pending_count = tail > head && tail - head <= SHM_MAX_PENDING ? tail - head : 0;
    log->is_busy = LOAD_ATOMIC(c->sync_busy) != 0;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void read_segment(struct io *io, const struct shm_peek *peek, struct inspect_live *live)
{
    const struct shm_layout *l = shm_peek_layout(peek);
    live->arena_size = shm_peek_arena_size(peek);
    live->arena_count = shm_peek_arena_count(peek);
    live->poisoned = LOAD_ATOMIC(l->ctl.poisoned);
    live->visible_sequence = LOAD_ATOMIC(l->commit.visible_sequence);
    read_waits(l->ctl.waits, live->waits);
    live->applied_sequence = LOAD_ATOMIC(l->commit.applied_sequence);
    live->view_number = LOAD_ATOMIC(l->version.number);
    live->takeover_due = LOAD_ATOMIC(l->intent.takeover_due) != 0;
    live->roll_forward_due = LOAD_ATOMIC(l->version.roll_forward_due) != 0;
    live->segment_bytes = sizeof *l;
    read_log(&l->commit, &live->log);
    read_processes(io, peek, live);
    for (uint32_t i = 0; i < live->arena_count; i++)
        read_memtable(peek, i, live);
    qsort(live->memtables, live->memtable_count, sizeof *live->memtables, compare_memtables);
    read_locks(io, l, live);
    live->has_segment = true;
}

/*
 * The manifest and the directory, as of one published place: where it moved meanwhile, what looks
 * like damage may be the work of others, so it is done again.
 */
static lsm_status read_files(struct io *io, struct io_dir *dir, const struct shm_layout *layout,
                             struct inspect_live *live, lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (unsigned i = 0; i < LOOK_TRIES; i++) {
        struct version_place place, after;
        bool has_place = layout != NULL && read_place(&layout->version, &place);
        uint64_t limit = layout == NULL ? UINT64_MAX : job_limit(layout);
        inspect_files_release(&live->files);
        status = inspect_read_manifest(io, dir, has_place ? &place : NULL, &live->files, err);
        if (status == LSM_OK)
            status = inspect_read_directory(dir, limit, &live->files, err);
        live->current_version = has_place ? place.frame_number - 1 : live->files.version;
        bool is_steady = has_place
                             ? read_place(&layout->version, &after) && same_place(&place, &after)
                             : live->state == SHM_PEEK_NOBODY;
        if (status != LSM_OK || live->files.damage_count == 0 || is_steady)
            break;
    }
    return status;
}

static lsm_status look_once(struct io *io, struct io_dir *dir, struct inspect_live *live,
                            bool *is_current, lsm_error *err)
{
    struct shm_peek *peek = NULL;
    lsm_status status = shm_peek_open(io, dir, io_dir_path(dir), &peek, err);
    if (status != LSM_OK)
        return status;
    const struct shm_layout *layout = shm_peek_layout(peek);
    live->state = shm_peek_state(peek);
    live->why = *shm_peek_why(peek);
    if (live->state != SHM_PEEK_NOBODY)
        live->founder = *shm_peek_founder(peek);
    status = read_files(io, dir, layout, live, err);
    if (status == LSM_OK && layout != NULL) {
        snprintf(live->segment, sizeof live->segment, "%s/%s", shm_peek_directory(peek),
                 shm_peek_name(peek));
        read_segment(io, peek, live);
    }
    *is_current = shm_peek_is_current(peek);
    shm_peek_close(peek);
    return status;
}

static void start_again(struct inspect_live *live)
{
    inspect_files_release(&live->files);
    *live = (struct inspect_live){0};
}

lsm_status inspect_live_open(struct io *io, const char *path, struct inspect_live **live,
                             lsm_error *err)
{
    struct io_dir *dir = NULL;
    bool is_current = false;
    struct inspect_live *found = mem_alloc_zeroed(sizeof *found);
    if (found == NULL)
        return lsm_fail_memory(err, sizeof *found);
    lsm_status status = io_dir_open(io, path, 0, 0, &dir, err);
    for (unsigned i = 0; status == LSM_OK && !is_current && i < LOOK_TRIES; i++) {
        if (i > 0)
            (void)nanosleep(&(struct timespec){.tv_nsec = RETRY_WAIT_NS}, NULL);
        start_again(found);
        status = look_once(io, dir, found, &is_current, err);
    }
    io_dir_close(dir);
    if (status != LSM_OK) {
        inspect_live_free(found);
        return status;
    }
    *live = found;
    return LSM_OK;
}

void inspect_live_free(struct inspect_live *live)
{
    if (live != NULL)
        inspect_files_release(&live->files);
    mem_free(live);
}

const struct inspect_process *inspect_file_holder(const struct inspect_live *live)
{
    for (size_t i = 0; i < live->process_count; i++) {
        if (live->processes[i].holds_files)
            return &live->processes[i];
    }
    return NULL;
}
