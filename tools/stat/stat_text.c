/* Text for people: a line for each thing in the summary, a block for each in a section. */
#include "tools/stat/stat.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- the state ------------------------------------------------------------------------------- */

static void print_state(const struct cli *cli, const struct inspect_live *live)
{
    char who[STAT_TEXT], count[STAT_TEXT], dead[STAT_TEXT];
    char uuid[2 * TABLE_UUID_SIZE + 1];
    size_t alive = live->process_count - live->dead_count;
    printf("database   %s  %s\n", cli->directory, stat_uuid(live->files.uuid, uuid));
    stat_who(live->founder.pid, live->founder.command, who);
    switch (live->state) {
    case SHM_PEEK_NOBODY:
        printf("state      closed: nobody has it open; %s\n",
               !live->files.has_manifest ? "its manifest cannot be read"
               : live->files.is_clean    ? "it was closed cleanly"
                                         : "it was not closed, so the next open reads the log");
        break;
    case SHM_PEEK_CHANGING:
        printf("state      being opened or closed just now, last by process %s\n", who);
        break;
    case SHM_PEEK_ALONE:
        if (live->process_count > 0 && (live->processes[0].roles & SHM_ROLE_OPEN) == 0)
            printf("state      being opened by process %s\n", who);
        else
            printf("state      open in one process, which lets nobody in or is closing it: %s\n",
                   who);
        break;
    case SHM_PEEK_SHARED:
        printf("state      open in %s", cli_plural(alive, "process", count));
        if (live->dead_count > 0)
            printf("; %s died and was not cleaned up after yet (see -r)",
                   cli_plural(live->dead_count, "more", dead));
        printf("\n");
        break;
    case SHM_PEEK_HIDDEN:
        printf("state      open, but cannot be looked at from here: %s\n", live->why.message);
        break;
    }
    if (live->poisoned != 0)
        printf("POISONED   a sync of the log failed (%s): no write succeeds before all processes "
               "have closed it\n",
               strerror((int)live->poisoned));
}

/* ---- files ----------------------------------------------------------------------------------- */

static void print_held(const struct inspect_live *live)
{
    char count[STAT_TEXT], size[CLI_SIZE_TEXT], who[STAT_TEXT];
    const struct inspect_files *f = &live->files;
    const struct inspect_process *holder = inspect_file_holder(live);
    if (f->superseded.count == 0)
        return;
    printf("held       %s (%s) not needed any more",
           cli_plural(f->superseded.count, "table", count),
           cli_format_size(f->superseded.bytes, size));
    if (holder != NULL)
        printf(", kept for %sprocess %s, %s behind", holder->is_alive ? "" : "dead ",
               stat_who(holder->pid, holder->command, who),
               cli_plural(holder->versions_behind, "version", count));
    else
        printf(", removed %s", live->has_segment ? "soon" : "by the next open");
    printf("\n");
}

static void print_blobs(const struct inspect_files *f)
{
    char count[STAT_TEXT], size[CLI_SIZE_TEXT], other[CLI_SIZE_TEXT];
    uint64_t raw = 0, live = 0;
    for (size_t i = 0; i < f->blob_count; i++) {
        raw += f->blobs[i].raw_bytes;
        live += f->blobs[i].live_bytes;
    }
    if (f->blob_files.count + f->other_blobs.count == 0)
        return;
    printf("blobs      %s (%s)", cli_plural(f->blob_files.count, "blob file", count),
           cli_format_size(f->blob_files.bytes, size));
    if (raw > 0)
        printf(", %.0f %% live", 100.0 * (double)live / (double)raw);
    if (f->other_blobs.count > 0)
        printf("; %s (%s) more that no table refers to",
               cli_plural(f->other_blobs.count, "blob file", count),
               cli_format_size(f->other_blobs.bytes, other));
    printf("\n");
}

static void print_tables(const struct inspect_live *live)
{
    const struct inspect_files *f = &live->files;
    char count[STAT_TEXT], families[STAT_TEXT], size[CLI_SIZE_TEXT];
    if (f->has_manifest)
        printf("tables     %s (%s) in %s; version %" PRIu64 " in MANIFEST-%06" PRIu64 "\n",
               cli_plural(f->live.count, "table", count), cli_format_size(f->live.bytes, size),
               cli_plural(f->family_count, "family", families), f->version, f->manifest_number);
    print_blobs(f);
    print_held(live);
    if (f->unfinished.count > 0)
        printf("unfinished %s (%s) being written\n",
               cli_plural(f->unfinished.count, "table", count),
               cli_format_size(f->unfinished.bytes, size));
    printf("log        %s (%s)", cli_plural(f->segments.count, "segment", count),
           cli_format_size(f->segments.bytes, size));
    if (f->spares.count > 0)
        printf(", %s (%s)", cli_plural(f->spares.count, "spare", count),
               cli_format_size(f->spares.bytes, size));
    printf(", stage file %s", cli_format_size(f->stage_bytes, size));
    if (f->has_manifest)
        printf("; in tables up to position %" PRIu64, f->log_position);
    printf("\n");
}

/* ---- the segment ----------------------------------------------------------------------------- */

static void print_log(const struct inspect_live *live)
{
    const struct inspect_log *log = &live->log;
    char waiting[STAT_TEXT];
    uint64_t used = log->staged > log->reusable ? log->staged - log->reusable : 0;
    printf("positions  staged %" PRIu64 ", written %" PRIu64 ", durable %" PRIu64
           ", reusable %" PRIu64 "; segment %06" PRIu64 ".wal\n",
           log->staged, log->written, log->durable, log->reusable, log->segment_number);
    if (log->stage_size > 0)
        printf("stage      %.0f%% full; %s for the disk\n",
               100.0 * (double)used / (double)log->stage_size,
               cli_plural(log->pending_count, "sync write", waiting));
    printf("sequence   %" PRIu64 " visible, %" PRIu64 " applied, %" PRIu64 " in tables\n",
           live->visible_sequence, live->applied_sequence, live->files.last_sequence);
    if (live->takeover_due)
        printf("takeover   a writer died in its commit; the next writer finishes it\n");
    if (live->roll_forward_due)
        printf("takeover   somebody died while changing the manifest; the next one who changes it "
               "finishes that\n");
}

static void print_memtable(const struct inspect_live *live, const struct inspect_memtable *m)
{
    char used[CLI_SIZE_TEXT], who[STAT_TEXT], count[STAT_TEXT];
    printf("memtable   %" PRIu64 " %s, log from %" PRIu64, m->id,
           stat_memtable_state_name(m->state), m->log_begin);
    if (m->log_end != INSPECT_UNKNOWN)
        printf(" to %" PRIu64, m->log_end);
    if (m->bytes_used != INSPECT_UNKNOWN)
        printf(", %" PRIu64 " entries in %s", m->entry_count, cli_format_size(m->bytes_used, used));
    if (m->owner != INSPECT_NOBODY) {
        const struct inspect_process *p = &live->processes[m->owner];
        printf(", by process %s%s", stat_who(p->pid, p->command, who),
               p->is_alive ? "" : ", which is dead");
    }
    if (m->state == SHM_MEMTABLE_FLUSHED && m->reader_count == 0)
        printf(", free for the next one");
    else if (m->state == SHM_MEMTABLE_FLUSHED)
        printf(", not free: read by %s", cli_plural(m->reader_count, "process", count));
    printf("\n");
}

static void print_lock(const struct inspect_live *live, const struct inspect_lock *lock)
{
    char who[STAT_TEXT];
    if (lock->thread == 0)
        return;
    printf("lock       %s (%s): thread %" PRId64, lock->name, lock->purpose, lock->thread);
    if (lock->process != INSPECT_NOBODY) {
        const struct inspect_process *p = &live->processes[lock->process];
        printf(" of process %s", stat_who(p->pid, p->command, who));
    }
    if (lock->is_gone)
        printf(", which is dead: the next one who wants the lock repairs what it guards");
    else if (lock->run_state != 0)
        printf(", %s", stat_run_state_name(lock->run_state));
    printf("\n");
}

static void print_job(const struct inspect_live *live, const struct inspect_process *p,
                      const struct inspect_job *job)
{
    char who[STAT_TEXT], family[STAT_TEXT], count[STAT_TEXT], size[CLI_SIZE_TEXT];
    double part = job->input_bytes == 0 ? 0 : (double)job->bytes_done / (double)job->input_bytes;
    printf("job        %smerge of '%s'%s, level %" PRIu32 " into %" PRIu32,
           job->is_manual ? "manual " : "", stat_family_name(live, job->cf, family),
           job->is_for_reads ? " for its reads" : "", job->input_level, job->output_level);
    if (job->input_count > 0)
        printf(", %s", cli_plural(job->input_count, "table", count));
    printf(" (%s), %.0f%% done", cli_format_size(job->input_bytes, size), 100 * part);
    printf(", by process %s%s", stat_who(p->pid, p->command, who),
           p->is_alive ? "" : ", which is dead");
    if (job->threads > 1)
        printf(", on %s", cli_plural(job->threads, "thread", count));
    printf(", for %s\n", stat_duration(job->age_ns, who));
}

static void print_stalled(const struct inspect_live *live)
{
    char who[STAT_TEXT], count[STAT_TEXT];
    for (size_t i = 0; i < live->process_count; i++) {
        const struct inspect_process *p = &live->processes[i];
        if (p->is_alive && p->report.stalled_writers > 0)
            printf("stalled    %s of process %s: %s (see --explain-stall)\n",
                   cli_plural(p->report.stalled_writers, "writer", count),
                   stat_who(p->pid, p->command, who), stat_stall_name(p->report.stall_reason));
        if (p->report.work_status != LSM_OK)
            printf("FAILED     work of process %s: %s\n", stat_who(p->pid, p->command, who),
                   p->report.work_error);
    }
}

static void print_segment(const struct inspect_live *live)
{
    char size[CLI_SIZE_TEXT];
    print_log(live);
    for (size_t i = 0; i < live->memtable_count; i++)
        print_memtable(live, &live->memtables[i]);
    printf("memory     %s shared, %" PRIu32 " of %" PRIu32 " arenas free\n",
           cli_format_size(live->segment_bytes, size), live->arenas_free, live->arena_count);
    for (size_t i = 0; i < live->process_count; i++) {
        for (size_t j = 0; j < live->processes[i].job_count; j++)
            print_job(live, &live->processes[i], &live->processes[i].jobs[j]);
    }
    for (size_t i = 0; i < INSPECT_LOCK_COUNT; i++)
        print_lock(live, &live->locks[i]);
    print_stalled(live);
}

/* ---- processes ------------------------------------------------------------------------------- */

static void print_process_head(const struct inspect_process *p)
{
    char who[STAT_TEXT];
    printf("process %s  slot %" PRIu32 "  ", stat_who(p->pid, p->command, who), p->slot);
    if (!p->is_alive)
        printf("DEAD, not cleaned up after yet\n");
    else if (p->run_state == 'T' || p->run_state == 't')
        printf("STOPPED by a signal or a debugger\n");
    else
        printf("alive%s%s\n", p->run_state == 0 ? "" : ", ", stat_run_state_name(p->run_state));
    printf("    role       %s, attached for %s", stat_role_name(p->roles),
           stat_duration(p->report.attached_age_ns, who));
    if (p->report.said_age_ns != INSPECT_UNKNOWN)
        printf(", last report %s ago", stat_duration(p->report.said_age_ns, who));
    printf("\n");
}

static void print_process(const struct inspect_live *live, const struct inspect_process *p)
{
    char count[STAT_TEXT], more[STAT_TEXT], size[CLI_SIZE_TEXT];
    print_process_head(p);
    if (p->pin != 0)
        printf("    pin        version %" PRIu64 ", %s behind, for %s\n", p->pin,
               cli_plural(p->versions_behind, "version", count),
               stat_duration(p->pin_age_ns, more));
    printf("    arenas     %" PRIu32 "\n", p->arena_count);
    if (p->snapshot_count > 0)
        printf("    snapshots  %" PRIu32 ", the oldest at sequence %" PRIu64 ", for %s\n",
               p->snapshot_count, p->oldest_snapshot,
               stat_duration(p->oldest_snapshot_age_ns, more));
    if (p->report.iterators > 0)
        printf("    iterators  %" PRIu32 "\n", p->report.iterators);
    if (p->report.stalled_writers > 0)
        printf("    stalled    %s now (see -w)\n",
               cli_plural(p->report.stalled_writers, "writer", count));
    if (p->report.work_status != LSM_OK)
        printf("    FAILED     its last flush or merge: %s\n", p->report.work_error);
    if (p->flushing_count > 0)
        printf("    flushes    %s\n", cli_plural(p->flushing_count, "memtable", count));
    if (p->job_count > 0)
        printf("    merges     %zu\n", p->job_count);
    if (p->blocked_count > 0)
        printf("    BLOCKS     %s (%s) that %s flushed\n",
               cli_plural(p->blocked_count, "memtable", count),
               cli_format_size(p->blocked_bytes, size), p->blocked_count == 1 ? "is" : "are");
    if (p->holds_files)
        printf("    BLOCKS     %s (%s), which nothing newer needs\n",
               cli_plural(live->files.superseded.count, "table", more),
               cli_format_size(live->files.superseded.bytes, size));
}

static void print_processes(const struct inspect_live *live)
{
    if (live->process_count == 0)
        printf("no process has it open\n");
    for (size_t i = 0; i < live->process_count; i++)
        print_process(live, &live->processes[i]);
}

/* ---- all ------------------------------------------------------------------------------------- */

void stat_print(const struct cli *cli, const struct inspect_live *live, unsigned sections)
{
    if ((sections & STAT_SUMMARY) != 0) {
        print_state(cli, live);
        print_tables(live);
        if (live->has_segment)
            print_segment(live);
    }
    if ((sections & STAT_EXPLAIN) != 0)
        stat_print_causes(live);
    if ((sections & STAT_PROCESSES) != 0)
        print_processes(live);
    if ((sections & STAT_LEVELS) != 0)
        stat_print_levels(cli, live);
    if ((sections & STAT_CACHE) != 0)
        stat_print_cache(live);
    if ((sections & STAT_STALLS) != 0)
        stat_print_stalls(live);
    if ((sections & STAT_IO) != 0)
        stat_print_io(live);
    if ((sections & STAT_ENVIRONMENT) != 0)
        stat_print_environment(cli, live);
}
