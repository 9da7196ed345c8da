/*
 * Why writers wait, and for whom. The conditions are those under which the engine makes them wait
 * (engine/db/commit.c, stall.c), judged from what is published; a lock counts as a cause only when
 * its owner cannot let go of it by itself.
 */
#include "tools/stat/stat.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SILENCE_NS                                                                                 \
    UINT64_C(10000000000)                 /* without a report of a keeper, which comes each second \
                                           */
#define OLD_HOLD_NS UINT64_C(60000000000) /* from which a snapshot or pin is worth a sentence */

struct list {
    struct stat_cause *causes;
    size_t count;
};

static void add(struct list *list, const char *kind, enum stat_effect effect, int64_t pid,
                const char *format, ...) __attribute__((format(printf, 5, 6)));

static void add(struct list *list, const char *kind, enum stat_effect effect, int64_t pid,
                const char *format, ...)
{
    va_list arguments;
    if (list->count == STAT_MOST_CAUSES)
        return;
    struct stat_cause *cause = &list->causes[list->count++];
    *cause = (struct stat_cause){.kind = kind, .effect = effect, .pid = pid};
    va_start(arguments, format);
    (void)vsnprintf(cause->sentence, sizeof cause->sentence, format, arguments);
    va_end(arguments);
}

static bool is_stopped(char run_state)
{
    return run_state == 'T' || run_state == 't';
}

/* ---- locks ----------------------------------------------------------------------------------- */

static void explain_lock(const struct inspect_live *live, const struct inspect_lock *lock,
                         struct list *list)
{
    char who[STAT_TEXT];
    if (lock->thread == 0 || lock->process == INSPECT_NOBODY || !is_stopped(lock->run_state))
        return;
    const struct inspect_process *p = &live->processes[lock->process];
    bool stops = strcmp(lock->name, "append") == 0 || strcmp(lock->name, "change") == 0;
    add(list, "lock", stops ? STAT_STOPS_WRITERS : STAT_SLOWS_WRITERS, p->pid,
        "process %s is stopped and holds the %s lock (%s): continue it with 'kill -CONT %" PRId64
        "', or end it with 'kill -KILL %" PRId64 "', which loses nothing that it acknowledged",
        stat_who(p->pid, p->command, who), lock->name, lock->purpose, p->pid, p->pid);
}

/* ---- memtables ------------------------------------------------------------------------------- */

static const struct inspect_process *flusher_of(const struct inspect_live *live)
{
    for (size_t i = 0; i < live->memtable_count; i++) {
        const struct inspect_memtable *m = &live->memtables[i];
        if (m->state == SHM_MEMTABLE_FLUSHING && m->owner != INSPECT_NOBODY)
            return &live->processes[m->owner];
    }
    return NULL;
}

static bool anybody_works(const struct inspect_live *live)
{
    for (size_t i = 0; i < live->process_count; i++) {
        const struct inspect_process *p = &live->processes[i];
        if (p->is_alive && !is_stopped(p->run_state) && (p->roles & SHM_ROLE_WORKERS) != 0)
            return true;
    }
    return false;
}

static bool anybody_waits_for(const struct inspect_live *live, lsm_stall reason)
{
    for (size_t i = 0; i < live->process_count; i++) {
        const struct inspect_process *p = &live->processes[i];
        if (p->is_alive && p->report.stalled_writers > 0 && p->report.stall_reason == reason)
            return true;
    }
    return false;
}

static void explain_flushes(const struct inspect_live *live, struct list *list)
{
    char count[STAT_TEXT], who[STAT_TEXT];
    uint64_t waiting = 0;
    for (size_t i = 0; i < live->memtable_count; i++)
        waiting += live->memtables[i].state == SHM_MEMTABLE_SEALED ||
                   live->memtables[i].state == SHM_MEMTABLE_FLUSHING;
    bool stops = anybody_waits_for(live, LSM_STALL_MEMTABLES);
    const struct inspect_process *p = flusher_of(live);
    enum stat_effect effect = stops ? STAT_STOPS_WRITERS : STAT_HINDERS_NOTHING;
    bool is_odd = p == NULL || !p->is_alive || is_stopped(p->run_state);
    if (waiting == 0 || (!stops && !is_odd))
        return;
    cli_plural(waiting, "memtable", count);
    if (p == NULL)
        add(list, "memtables", effect, 0, "%s for a flush, which nobody has begun%s",
            strcat(count, waiting == 1 ? " waits" : " wait"),
            anybody_works(live) ? ""
                                : ": no process that runs has workers, so the next writer that "
                                  "needs room does it");
    else if (!p->is_alive)
        add(list, "memtables", effect, p->pid,
            "process %s died while it flushed (%s to flush): another one takes over when it is "
            "cleaned up after, see -rr",
            stat_who(p->pid, p->command, who), count);
    else
        add(list, "memtables", effect, p->pid, "process %s flushes (%s to flush)%s",
            stat_who(p->pid, p->command, who), count,
            is_stopped(p->run_state) ? " and is stopped: continue it, or end it" : "");
}

static void explain_arenas(const struct inspect_live *live, struct list *list)
{
    char who[STAT_TEXT], count[STAT_TEXT], size[CLI_SIZE_TEXT];
    for (size_t i = 0; i < live->process_count; i++) {
        const struct inspect_process *p = &live->processes[i];
        if (p->blocked_count == 0 || (live->arenas_free > 0 && p->blocked_count < 4))
            continue;
        add(list, "arenas", live->arenas_free == 0 ? STAT_STOPS_WRITERS : STAT_HINDERS_NOTHING,
            p->pid,
            "process %s still reads %s that %s flushed long ago (%s of memory; %" PRIu32
            " of %" PRIu32 " arenas are free): let it close old iterators and snapshots",
            stat_who(p->pid, p->command, who), cli_plural(p->blocked_count, "memtable", count),
            p->blocked_count == 1 ? "was" : "were", cli_format_size(p->blocked_bytes, size),
            live->arenas_free, live->arena_count);
    }
}

/* ---- compaction ------------------------------------------------------------------------------ */

static const struct inspect_process *merger_of(const struct inspect_live *live, uint32_t family)
{
    for (size_t i = 0; i < live->process_count; i++) {
        for (size_t j = 0; j < live->processes[i].job_count; j++) {
            if (live->processes[i].jobs[j].cf == family &&
                live->processes[i].jobs[j].input_level == 0)
                return &live->processes[i];
        }
    }
    return NULL;
}

static void explain_level0(const struct inspect_live *live, const struct inspect_family *family,
                           struct list *list)
{
    char name[STAT_TEXT], who[STAT_TEXT], by[STAT_TEXT + 64];
    if (family->level0_debt_ppm == 0)
        return;
    const struct inspect_process *p = merger_of(live, family->id);
    if (p != NULL)
        (void)snprintf(
            by, sizeof by, "process %s merges them%s%s", stat_who(p->pid, p->command, who),
            is_stopped(p->run_state) ? ", but is stopped" : "", p->is_alive ? "" : ", but is dead");
    else
        (void)snprintf(by, sizeof by, "%s",
                       anybody_works(live) ? "nobody merges them just now"
                                           : "no process that runs has workers to merge them");
    add(list, "level0",
        family->level0_debt_ppm >= 1000000 ? STAT_STOPS_WRITERS : STAT_SLOWS_WRITERS,
        p == NULL ? 0 : p->pid,
        "compaction of '%s' is behind: %" PRIu64
        " tables in level 0, writers are slowed from %" PRIu32 " and stopped at %" PRIu32 "; %s",
        stat_family_name(live, family->id, name), family->levels[0].tables,
        family->options.level0_slowdown, family->options.level0_stop, by);
}

/* Level 0 is not the only debt: what the processes say beyond it. */
static void explain_debt(const struct inspect_live *live, struct list *list)
{
    uint32_t worst = 0, seen = 0;
    for (size_t i = 0; i < live->process_count; i++) {
        const struct inspect_process *p = &live->processes[i];
        if (p->is_alive && p->report.debt_ppm > worst)
            worst = p->report.debt_ppm;
    }
    for (size_t i = 0; i < live->files.family_count; i++)
        seen = live->files.families[i].level0_debt_ppm > seen
                   ? live->files.families[i].level0_debt_ppm
                   : seen;
    if (worst > 0 && seen == 0)
        add(list, "debt", worst >= 1000000 ? STAT_STOPS_WRITERS : STAT_SLOWS_WRITERS, 0,
            "compaction is behind by %.0f%% of what stops writers: levels below 0 are over their "
            "sizes (see -l), or it has caught up since the last report",
            worst / 10000.0);
}

/* ---- the log --------------------------------------------------------------------------------- */

static void explain_log(const struct inspect_live *live, struct list *list)
{
    const struct inspect_log *log = &live->log;
    const struct inspect_lock *sync = NULL;
    char who[STAT_TEXT];
    uint64_t used = log->staged > log->reusable ? log->staged - log->reusable : 0;
    for (size_t i = 0; i < INSPECT_LOCK_COUNT; i++) {
        if (strcmp(live->locks[i].name, "sync") == 0)
            sync = &live->locks[i];
    }
    bool is_full = log->stage_size > 0 && used >= log->stage_size - log->stage_size / 16;
    if (!is_full && !anybody_waits_for(live, LSM_STALL_LOG))
        return;
    bool has_owner = sync != NULL && sync->process != INSPECT_NOBODY;
    const struct inspect_process *p = has_owner ? &live->processes[sync->process] : NULL;
    add(list, "log", STAT_SLOWS_WRITERS, p == NULL ? 0 : p->pid,
        "the stage file is %.0f%% full: the log is not written fast enough%s%s",
        log->stage_size == 0 ? 0.0 : 100.0 * (double)used / (double)log->stage_size,
        p == NULL ? "" : ", now by process ", p == NULL ? "" : stat_who(p->pid, p->command, who));
}

/* ---- who holds what -------------------------------------------------------------------------- */

static void explain_process(const struct inspect_live *live, const struct inspect_process *p,
                            struct list *list)
{
    char who[STAT_TEXT], age[STAT_TEXT], count[STAT_TEXT], size[CLI_SIZE_TEXT];
    stat_who(p->pid, p->command, who);
    if (!p->is_alive)
        add(list, "dead", STAT_HINDERS_NOTHING, p->pid,
            "process %s died and was not cleaned up after yet: a process with workers does it "
            "within a second, others when they wait; or run lsm-stat -rr",
            who);
    else if (is_stopped(p->run_state))
        add(list, "stopped", STAT_HINDERS_NOTHING, p->pid,
            "process %s is stopped by a signal or a debugger: continue it with 'kill -CONT %" PRId64
            "' or end it",
            who, p->pid);
    else if ((p->roles & SHM_ROLE_KEEPER) != 0 && p->report.said_age_ns != INSPECT_UNKNOWN &&
             p->report.said_age_ns > SILENCE_NS)
        add(list, "silent", STAT_HINDERS_NOTHING, p->pid,
            "process %s has not reported for %s, although it should each second: it may wait for a "
            "lock",
            who, stat_duration(p->report.said_age_ns, age));
    if (p->report.work_status != LSM_OK)
        add(list, "work", STAT_SLOWS_WRITERS, p->pid,
            "the last flush or merge of process %s failed: %s", who, p->report.work_error);
    if (p->oldest_snapshot_age_ns != INSPECT_UNKNOWN && p->oldest_snapshot_age_ns > OLD_HOLD_NS)
        add(list, "snapshot", STAT_HINDERS_NOTHING, p->pid,
            "process %s has held a snapshot (sequence %" PRIu64
            ") for %s: old versions of keys are kept for it",
            who, p->oldest_snapshot, stat_duration(p->oldest_snapshot_age_ns, age));
    if (p->holds_files && p->is_alive)
        add(list, "tables", STAT_HINDERS_NOTHING, p->pid,
            "process %s reads tables of %s ago: %s (%s) cannot be removed", who,
            stat_duration(p->pin_age_ns, age),
            cli_plural(live->files.superseded.count, "table", count),
            cli_format_size(live->files.superseded.bytes, size));
}

/* ---- all ------------------------------------------------------------------------------------- */

static int compare_causes(const struct stat_cause *a, const struct stat_cause *b)
{
    return (int)b->effect - (int)a->effect;
}

/* What stops writers first; otherwise as found. Few, so by insertion. */
static void sort_causes(struct list *list)
{
    for (size_t i = 1; i < list->count; i++) {
        struct stat_cause moved = list->causes[i];
        size_t at = i;
        for (; at > 0 && compare_causes(&list->causes[at - 1], &moved) > 0; at--)
            list->causes[at] = list->causes[at - 1];
        list->causes[at] = moved;
    }
}

size_t stat_explain(const struct inspect_live *live, struct stat_cause causes[STAT_MOST_CAUSES])
{
    struct list list = {.causes = causes};
    if (live->poisoned != 0)
        add(&list, "poisoned", STAT_STOPS_WRITERS, 0,
            "a sync of the log failed (%s), so every write fails: close the database in all "
            "processes, look after the device, and open it again",
            strerror((int)live->poisoned));
    for (size_t i = 0; i < INSPECT_LOCK_COUNT; i++)
        explain_lock(live, &live->locks[i], &list);
    explain_flushes(live, &list);
    explain_arenas(live, &list);
    for (size_t i = 0; i < live->files.family_count && live->has_segment; i++)
        explain_level0(live, &live->files.families[i], &list);
    explain_debt(live, &list);
    if (live->has_segment)
        explain_log(live, &list);
    for (size_t i = 0; i < live->process_count; i++)
        explain_process(live, &live->processes[i], &list);
    sort_causes(&list);
    return list.count;
}

void stat_print_causes(const struct inspect_live *live)
{
    static const char *const effects[] = {"note", "slows writers", "STOPS WRITERS"};
    struct stat_cause causes[STAT_MOST_CAUSES];
    size_t count = stat_explain(live, causes);
    for (size_t i = 0; i < count; i++)
        printf("%s: %s\n", effects[causes[i].effect], causes[i].sentence);
    if (count == 0 || causes[0].effect == STAT_HINDERS_NOTHING)
        printf("nothing stops or slows writers%s\n", live->has_segment ? "" : ": it is not open");
}
