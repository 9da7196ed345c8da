/* One object with everything, whatever sections were asked for: keys in lsm-stat(1). */
#include "tools/stat/stat.h"

#include <stdio.h>
#include <string.h>

static void add_bool(struct json_object *object, const char *name, bool value)
{
    json_add(object, name, json_object_new_boolean(value));
}

/* Unknown numbers are null. */
static void add_number(struct json_object *object, const char *name, uint64_t value)
{
    json_add(object, name, value == INSPECT_UNKNOWN ? NULL : json_u64(value));
}

static void add_sum(struct json_object *object, const char *name, struct inspect_sum sum)
{
    struct json_object *o = json_object_new_object();
    json_add_u64(o, "count", sum.count);
    json_add_u64(o, "bytes", sum.bytes);
    json_add(object, name, o);
}

/* ---- files ----------------------------------------------------------------------------------- */

static struct json_object *json_family(const struct inspect_family *family)
{
    struct json_object *o = json_object_new_object();
    struct json_object *levels = json_object_new_array();
    json_add_u64(o, "id", family->id);
    json_add_text(o, "name", family->name);
    json_add_u64(o, "level0_debt_ppm", family->level0_debt_ppm);
    json_add_u64(o, "level0_slowdown", family->options.level0_slowdown);
    json_add_u64(o, "level0_stop", family->options.level0_stop);
    json_add_text(o, "compaction", version_style_name(family->options.compaction));
    for (size_t i = 0; i < VERSION_LEVELS; i++) {
        const struct inspect_level *level = &family->levels[i];
        struct json_object *l = json_object_new_object();
        json_add_u64(l, "level", i);
        json_add_u64(l, "tables", level->tables);
        json_add_u64(l, "bytes", level->bytes);
        json_add_u64(l, "entries", level->entries);
        json_add_u64(l, "deletes", level->deletes);
        json_object_array_add(levels, l);
    }
    json_add(o, "levels", levels);
    return o;
}

static void add_files(struct json_object *object, const struct cli *cli,
                      const struct inspect_files *f)
{
    struct json_object *o = json_object_new_object();
    struct json_object *families = json_object_new_array();
    struct json_object *damages = json_object_new_array();
    if (f->has_manifest) {
        json_add_u64(o, "manifest", f->manifest_number);
        json_add_u64(o, "manifest_bytes", f->manifest_bytes);
        json_add_u64(o, "version", f->version);
        json_add_u64(o, "log_position", f->log_position);
        add_bool(o, "clean", f->is_clean);
        json_add_u64(o, "last_sequence", f->last_sequence);
        json_add_u64(o, "next_file_number", f->next_file_number);
    }
    add_sum(o, "live", f->live);
    add_sum(o, "superseded", f->superseded);
    add_sum(o, "unfinished", f->unfinished);
    add_sum(o, "blob_files", f->blob_files);
    add_sum(o, "other_blobs", f->other_blobs);
    add_sum(o, "segments", f->segments);
    add_sum(o, "spares", f->spares);
    add_sum(o, "manifests", f->manifests);
    add_sum(o, "temporary", f->others);
    json_add_u64(o, "stage_bytes", f->stage_bytes);
    json_add(object, "files", o);
    for (size_t i = 0; i < f->family_count; i++) {
        if (cli_wants_family(cli, f->families[i].name))
            json_object_array_add(families, json_family(&f->families[i]));
    }
    json_add(object, "families", families);
    for (size_t i = 0; i < f->damage_count; i++) {
        struct json_object *d = json_object_new_object();
        json_add_text(d, "file", f->damages[i].file);
        json_add_text(d, "message", f->damages[i].message);
        json_object_array_add(damages, d);
    }
    json_add(object, "damages", damages);
}

/* ---- processes ------------------------------------------------------------------------------- */

static struct json_object *json_job(const struct inspect_job *job)
{
    struct json_object *o = json_object_new_object();
    json_add_text(o, "kind", "merge");
    json_add_u64(o, "family", job->cf);
    json_add_u64(o, "input_level", job->input_level);
    json_add_u64(o, "output_level", job->output_level);
    add_number(o, "inputs", job->input_count == 0 ? INSPECT_UNKNOWN : job->input_count);
    add_number(o, "input_bytes", job->input_bytes);
    add_number(o, "bytes_done", job->bytes_done);
    add_number(o, "bytes_written", job->bytes_written);
    json_object_object_add(o, "manual", json_object_new_boolean(job->is_manual));
    json_object_object_add(o, "for_reads", json_object_new_boolean(job->is_for_reads));
    add_number(o, "threads", job->threads);
    add_number(o, "age_ns", job->age_ns);
    return o;
}

static struct json_object *json_waits(const struct inspect_waits *waits)
{
    struct json_object *all = json_object_new_object();
    for (size_t i = 0; i < SHM_WAIT_KINDS; i++) {
        struct json_object *o = json_object_new_object();
        json_add_u64(o, "count", waits[i].count);
        json_add_u64(o, "total_us", waits[i].total_us);
        json_add_u64(o, "longest_us", waits[i].longest_us);
        json_add(all, shm_wait_name((enum shm_wait)i), o);
    }
    return all;
}

/* Of a process that reported once. */
static struct json_object *json_report(const struct inspect_report *r)
{
    struct json_object *o = json_object_new_object();
    add_number(o, "age_ns", r->said_age_ns);
    json_add_text(o, "stall_reason", stat_stall_name(r->stall_reason));
    add_number(o, "stall_age_ns", r->stall_age_ns);
    json_add_u64(o, "stalled_writers", r->stalled_writers);
    json_add_u64(o, "stalled_us", r->stalled_us);
    json_add(o, "waits", json_waits(r->waits));
    json_add_u64(o, "debt_ppm", r->debt_ppm);
    json_add_u64(o, "drain_rate", r->drain_rate);
    json_add_u64(o, "iterators", r->iterators);
    json_add_u64(o, "cache_size", r->cache_size);
    json_add_u64(o, "cache_bytes", r->cache_bytes);
    json_add_u64(o, "cache_hits", r->cache_hits);
    json_add_u64(o, "cache_misses", r->cache_misses);
    json_add_u64(o, "shared_cache_size", r->shared_cache_size);
    json_add_u64(o, "shared_cache_bytes", r->shared_cache_bytes);
    json_add_u64(o, "shared_cache_found", r->shared_cache_found);
    json_add_u64(o, "table_bytes", r->table_bytes);
    json_add_u64(o, "flush_bytes_written", r->flush_bytes_written);
    json_add_u64(o, "merge_bytes_read", r->merge_bytes_read);
    json_add_u64(o, "merge_bytes_written", r->merge_bytes_written);
    json_add_u64(o, "read_merges", r->read_merges);
    json_add_u64(o, "io_submissions", r->io_submissions);
    json_add_text(o, "io_backend", r->io_name);
    json_add_text(o, "io_reason", r->io_reason);
    json_add_text(o, "log_path", r->log_path);
    json_add_text(o, "work_status", cli_status_name(r->work_status));
    json_add_text(o, "work_error", r->work_error);
    return o;
}

static struct json_object *json_process(const struct inspect_process *p)
{
    struct json_object *o = json_object_new_object();
    struct json_object *jobs = json_object_new_array();
    json_add_u64(o, "slot", p->slot);
    json_add(o, "pid", json_object_new_int64(p->pid));
    json_add_text(o, "command", p->command);
    add_bool(o, "alive", p->is_alive);
    json_add_text(o, "run_state", stat_run_state_name(p->run_state));
    json_add_text(o, "role", stat_role_name(p->roles));
    add_bool(o, "workers", (p->roles & SHM_ROLE_WORKERS) != 0);
    add_number(o, "attached_age_ns", p->report.attached_age_ns);
    add_number(o, "pin_age_ns", p->pin == 0 ? INSPECT_UNKNOWN : p->pin_age_ns);
    add_number(o, "pin", p->pin == 0 ? INSPECT_UNKNOWN : p->pin);
    json_add_u64(o, "versions_behind", p->versions_behind);
    add_bool(o, "blocks_tables", p->holds_files);
    json_add_u64(o, "arenas", p->arena_count);
    json_add_u64(o, "blocked_memtables", p->blocked_count);
    json_add_u64(o, "blocked_memtable_bytes", p->blocked_bytes);
    json_add_u64(o, "snapshots", p->snapshot_count);
    add_number(o, "oldest_snapshot", p->oldest_snapshot);
    add_number(o, "oldest_snapshot_age_ns", p->oldest_snapshot_age_ns);
    json_add_u64(o, "flushing", p->flushing_count);
    for (size_t i = 0; i < p->job_count; i++)
        json_object_array_add(jobs, json_job(&p->jobs[i]));
    json_add(o, "jobs", jobs);
    json_add(o, "report", (p->roles & SHM_ROLE_OPEN) == 0 ? NULL : json_report(&p->report));
    return o;
}

/* ---- the segment ----------------------------------------------------------------------------- */

static struct json_object *json_memtable(const struct inspect_live *live,
                                         const struct inspect_memtable *m)
{
    struct json_object *o = json_object_new_object();
    json_add_u64(o, "id", m->id);
    json_add_u64(o, "arena", m->arena);
    json_add_text(o, "state", stat_memtable_state_name(m->state));
    json_add_u64(o, "log_begin", m->log_begin);
    add_number(o, "log_end", m->log_end);
    add_number(o, "entries", m->entry_count);
    add_number(o, "bytes_used", m->bytes_used);
    json_add_u64(o, "bytes_backed", m->bytes_backed);
    json_add_u64(o, "readers", m->reader_count);
    if (m->owner != INSPECT_NOBODY)
        json_add(o, "owner_pid", json_object_new_int64(live->processes[m->owner].pid));
    return o;
}

static struct json_object *json_lock(const struct inspect_lock *lock)
{
    struct json_object *o = json_object_new_object();
    json_add_text(o, "name", lock->name);
    add_bool(o, "held", lock->thread != 0);
    if (lock->thread == 0)
        return o;
    json_add(o, "thread", json_object_new_int64(lock->thread));
    if (lock->process != INSPECT_NOBODY)
        json_add(o, "pid", json_object_new_int64(lock->pid));
    json_add_text(o, "run_state", stat_run_state_name(lock->run_state));
    add_bool(o, "owner_is_dead", lock->is_gone);
    return o;
}

static void add_log(struct json_object *object, const struct inspect_log *log)
{
    struct json_object *o = json_object_new_object();
    json_add_u64(o, "staged", log->staged);
    json_add_u64(o, "written", log->written);
    json_add_u64(o, "durable", log->durable);
    json_add_u64(o, "reusable", log->reusable);
    json_add_u64(o, "segment", log->segment_number);
    json_add_u64(o, "stage_size", log->stage_size);
    json_add_u64(o, "segment_size", log->segment_size);
    json_add_u64(o, "sync_writes_waiting", log->pending_count);
    add_bool(o, "busy", log->is_busy);
    add_bool(o, "mapped", log->is_mapped);
    add_bool(o, "direct", log->is_direct);
    json_add(object, "log", o);
}

static void add_segment(struct json_object *object, const struct inspect_live *live)
{
    struct json_object *sequence = json_object_new_object();
    struct json_object *memory = json_object_new_object();
    struct json_object *memtables = json_object_new_array();
    struct json_object *locks = json_object_new_array();
    json_add_u64(sequence, "visible", live->visible_sequence);
    json_add_u64(sequence, "applied", live->applied_sequence);
    json_add(object, "sequence", sequence);
    json_add_text(memory, "segment", live->segment);
    json_add_u64(memory, "bytes", live->segment_bytes);
    json_add_u64(memory, "arena_size", live->arena_size);
    json_add_u64(memory, "arenas", live->arena_count);
    json_add_u64(memory, "arenas_free", live->arenas_free);
    json_add(object, "shared_memory", memory);
    json_add_u64(object, "poisoned_errno", live->poisoned);
    json_add_u64(object, "view", live->view_number);
    add_bool(object, "commit_takeover_due", live->takeover_due);
    add_bool(object, "edit_takeover_due", live->roll_forward_due);
    json_add(object, "waits", json_waits(live->waits));
    add_log(object, &live->log);
    for (size_t i = 0; i < live->memtable_count; i++)
        json_object_array_add(memtables, json_memtable(live, &live->memtables[i]));
    json_add(object, "memtables", memtables);
    for (size_t i = 0; i < INSPECT_LOCK_COUNT; i++)
        json_object_array_add(locks, json_lock(&live->locks[i]));
    json_add(object, "locks", locks);
}

static struct json_object *json_causes(const struct inspect_live *live)
{
    static const char *const effects[] = {"none", "slows", "stops"};
    struct stat_cause causes[STAT_MOST_CAUSES];
    size_t count = stat_explain(live, causes);
    struct json_object *array = json_object_new_array();
    for (size_t i = 0; i < count; i++) {
        struct json_object *o = json_object_new_object();
        json_add_text(o, "kind", causes[i].kind);
        json_add_text(o, "effect_on_writers", effects[causes[i].effect]);
        json_add(o, "pid", causes[i].pid == 0 ? NULL : json_object_new_int64(causes[i].pid));
        json_add_text(o, "sentence", causes[i].sentence);
        json_object_array_add(array, o);
    }
    return array;
}

void stat_add_json(struct json_object *object, const struct cli *cli,
                   const struct inspect_live *live)
{
    char uuid[2 * TABLE_UUID_SIZE + 1];
    struct json_object *processes = json_object_new_array();
    json_add_text(object, "directory", cli->directory);
    json_add_text(object, "uuid", stat_uuid(live->files.uuid, uuid));
    json_add_text(object, "state", stat_state_name(live->state));
    if (live->state == SHM_PEEK_HIDDEN)
        json_add_text(object, "why", live->why.message);
    for (size_t i = 0; i < live->process_count; i++)
        json_object_array_add(processes, json_process(&live->processes[i]));
    json_add(object, "processes", processes);
    if (live->has_segment)
        add_segment(object, live);
    add_files(object, cli, &live->files);
    json_add(object, "causes", json_causes(live));
}
