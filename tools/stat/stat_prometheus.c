/*
 * The text exposition format 0.0.4: for each metric a HELP and a TYPE line, then its samples. What
 * is not known has no sample. Label values escape backslash, quote and newline, and are made
 * printable otherwise: the format wants UTF-8.
 */
#include "tools/stat/stat.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LABELS 384

/* Begins a metric: the name stays for the samples. */
static const char *metric_name;
static const char *directory;

static void metric(const char *name, const char *type, const char *text)
{
    metric_name = name;
    printf("# HELP %s %s\n# TYPE %s %s\n", name, text, name, type);
}

static void append_escaped(struct text *to, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '"')
            text_append_format(to, "\\%c", *value);
        else if (*value == '\n')
            text_append_string(to, "\\n");
        else
            text_append(to, *value >= ' ' && *value <= '~' ? value : "?", 1);
    }
}

/* `labels`: name, value, ..., NULL behind those of the database. */
static void sample(uint64_t value, ...)
{
    struct text line = {0};
    va_list labels;
    if (value == INSPECT_UNKNOWN)
        return;
    text_append_format(&line, "%s{db=\"", metric_name);
    append_escaped(&line, directory);
    text_append_string(&line, "\"");
    va_start(labels, value);
    for (const char *name; (name = va_arg(labels, const char *)) != NULL;) {
        text_append_format(&line, ",%s=\"", name);
        append_escaped(&line, va_arg(labels, const char *));
        text_append_string(&line, "\"");
    }
    va_end(labels);
    printf("%s} %" PRIu64 "\n", text_string(&line), value);
    text_release(&line);
}

static void gauge(const char *name, const char *text, uint64_t value)
{
    metric(name, "gauge", text);
    sample(value, NULL);
}

static void counter(const char *name, const char *text, uint64_t value)
{
    metric(name, "counter", text);
    sample(value, NULL);
}

/* ---- processes ------------------------------------------------------------------------------- */

typedef uint64_t (*process_value)(const struct inspect_process *p);

static void of_processes(const struct inspect_live *live, const char *name, const char *type,
                         const char *text, process_value value)
{
    char pid[24];
    metric(name, type, text);
    for (size_t i = 0; i < live->process_count; i++) {
        const struct inspect_process *p = &live->processes[i];
        (void)snprintf(pid, sizeof pid, "%" PRId64, p->pid);
        sample(value(p), "pid", pid, "command", p->command, NULL);
    }
}

static uint64_t seconds(uint64_t ns)
{
    return ns == INSPECT_UNKNOWN ? ns : ns / 1000000000u;
}

/* clang-format off */
static uint64_t get_up(const struct inspect_process *p) { return p->is_alive; }
static uint64_t get_stopped(const struct inspect_process *p) { return p->run_state == 'T' || p->run_state == 't'; }
static uint64_t get_workers(const struct inspect_process *p) { return (p->roles & SHM_ROLE_WORKERS) != 0; }
static uint64_t get_behind(const struct inspect_process *p) { return p->versions_behind; }
static uint64_t get_blocked(const struct inspect_process *p) { return p->blocked_count; }
static uint64_t get_blocks_tables(const struct inspect_process *p) { return p->holds_files; }
static uint64_t get_snapshots(const struct inspect_process *p) { return p->snapshot_count; }
static uint64_t get_snapshot_age(const struct inspect_process *p) { return seconds(p->oldest_snapshot_age_ns); }
static uint64_t get_pin_age(const struct inspect_process *p) { return seconds(p->pin_age_ns); }
static uint64_t get_report_age(const struct inspect_process *p) { return seconds(p->report.said_age_ns); }
static uint64_t get_jobs(const struct inspect_process *p) { return p->job_count; }
static uint64_t get_stalled(const struct inspect_process *p) { return p->report.stalled_writers; }
static uint64_t get_stalled_us(const struct inspect_process *p) { return p->report.stalled_us; }
static uint64_t get_failed(const struct inspect_process *p) { return p->report.work_status != LSM_OK; }
static uint64_t get_iterators(const struct inspect_process *p) { return p->report.iterators; }
static uint64_t get_cache_bytes(const struct inspect_process *p) { return p->report.cache_bytes; }
static uint64_t get_cache_size(const struct inspect_process *p) { return p->report.cache_size; }
static uint64_t get_cache_hits(const struct inspect_process *p) { return p->report.cache_hits; }
static uint64_t get_cache_misses(const struct inspect_process *p) { return p->report.cache_misses; }
static uint64_t get_flushed(const struct inspect_process *p) { return p->report.flush_bytes_written; }
static uint64_t get_merged_in(const struct inspect_process *p) { return p->report.merge_bytes_read; }
static uint64_t get_merged_out(const struct inspect_process *p) { return p->report.merge_bytes_written; }
static uint64_t get_read_merges(const struct inspect_process *p) { return p->report.read_merges; }
static uint64_t get_submissions(const struct inspect_process *p) { return p->report.io_submissions; }

static const struct {
    const char *name, *type, *text;
    process_value value;
} process_metrics[] = {
    {"lsm_process_up", "gauge", "1: the process lives; 0: it died and was not cleaned up after.", get_up},
    {"lsm_process_stopped", "gauge", "1: the process is stopped by a signal or a debugger.", get_stopped},
    {"lsm_process_workers", "gauge", "1: the process has threads that flush and merge.", get_workers},
    {"lsm_process_report_age_seconds", "gauge", "Time since the process reported.", get_report_age},
    {"lsm_process_versions_behind", "gauge", "Versions of the tables between the newest and its pin.", get_behind},
    {"lsm_process_pin_age_seconds", "gauge", "Time since its pin moved.", get_pin_age},
    {"lsm_process_blocks_tables", "gauge", "1: superseded tables stay because of its pin.", get_blocks_tables},
    {"lsm_process_blocked_memtables", "gauge", "Flushed memtables that it still reads.", get_blocked},
    {"lsm_process_snapshots", "gauge", "Different sequence numbers that it holds.", get_snapshots},
    {"lsm_process_oldest_snapshot_age_seconds", "gauge", "Time since its oldest snapshot was taken.", get_snapshot_age},
    {"lsm_process_iterators", "gauge", "Open iterators.", get_iterators},
    {"lsm_process_merges", "gauge", "Merges that it runs.", get_jobs},
    {"lsm_process_stalled_writers", "gauge", "Writers that wait now.", get_stalled},
    {"lsm_process_stall_microseconds_total", "counter", "Time that its writers have waited.", get_stalled_us},
    {"lsm_process_work_failed", "gauge", "1: its last flush or merge failed.", get_failed},
    {"lsm_process_cache_bytes", "gauge", "Bytes in its block cache.", get_cache_bytes},
    {"lsm_process_cache_limit_bytes", "gauge", "Limit of its block cache.", get_cache_size},
    {"lsm_process_cache_hits_total", "counter", "Blocks found in its cache.", get_cache_hits},
    {"lsm_process_cache_misses_total", "counter", "Blocks not found in its cache.", get_cache_misses},
    {"lsm_process_flush_bytes_total", "counter", "Bytes that its flushes wrote.", get_flushed},
    {"lsm_process_merge_read_bytes_total", "counter", "Bytes that its merges read.", get_merged_in},
    {"lsm_process_merge_written_bytes_total", "counter", "Bytes that its merges wrote.", get_merged_out},
    {"lsm_process_read_merges_total", "counter", "Merges that it made because of reads.", get_read_merges},
    {"lsm_process_io_submissions_total", "counter", "Submissions to its I/O queues.", get_submissions},
};
/* clang-format on */

/* ---- families -------------------------------------------------------------------------------- */

static void of_levels(const struct cli *cli, const struct inspect_live *live, const char *name,
                      const char *text, size_t member)
{
    char level[8];
    metric(name, "gauge", text);
    for (size_t i = 0; i < live->files.family_count; i++) {
        const struct inspect_family *family = &live->files.families[i];
        if (!cli_wants_family(cli, family->name))
            continue;
        for (size_t k = 0; k < VERSION_LEVELS; k++) {
            const uint8_t *at = (const uint8_t *)&family->levels[k] + member;
            (void)snprintf(level, sizeof level, "%zu", k);
            sample(*(const uint64_t *)(const void *)at, "family", family->name, "level", level,
                   NULL);
        }
    }
}

static void print_families(const struct cli *cli, const struct inspect_live *live)
{
    of_levels(cli, live, "lsm_level_tables", "Tables of the level.",
              offsetof(struct inspect_level, tables));
    of_levels(cli, live, "lsm_level_bytes", "Bytes of the level's tables.",
              offsetof(struct inspect_level, bytes));
    of_levels(cli, live, "lsm_level_entries", "Entries of the level, deletes and old versions too.",
              offsetof(struct inspect_level, entries));
    metric("lsm_level0_debt_ppm", "gauge",
           "How far level 0 is from slowing writers (0) to stopping them (1000000).");
    for (size_t i = 0; i < live->files.family_count; i++) {
        if (cli_wants_family(cli, live->files.families[i].name))
            sample(live->files.families[i].level0_debt_ppm, "family", live->files.families[i].name,
                   NULL);
    }
}

/* ---- the rest -------------------------------------------------------------------------------- */

static void print_files(const struct inspect_files *f)
{
    gauge("lsm_damages", "Missing or wrong files.", f->damage_count);
    gauge("lsm_tables_superseded", "Tables not needed any more and not removed yet.",
          f->superseded.count);
    gauge("lsm_tables_superseded_bytes", "Their bytes.", f->superseded.bytes);
    gauge("lsm_tables_unfinished_bytes", "Bytes of tables that are being written.",
          f->unfinished.bytes);
    gauge("lsm_blob_files_bytes", "Bytes of the blob files that tables refer to.",
          f->blob_files.bytes);
    gauge("lsm_log_files_bytes", "Bytes of log segments.", f->segments.bytes);
    if (f->has_manifest)
        gauge("lsm_version", "Number of the version of the tables.", f->version);
}

static void print_memtables(const struct inspect_live *live)
{
    uint64_t counts[SHM_MEMTABLE_FLUSHED + 1] = {0}, bytes[SHM_MEMTABLE_FLUSHED + 1] = {0};
    for (size_t i = 0; i < live->memtable_count; i++) {
        const struct inspect_memtable *m = &live->memtables[i];
        counts[m->state]++;
        bytes[m->state] += m->bytes_used == INSPECT_UNKNOWN ? 0 : m->bytes_used;
    }
    metric("lsm_memtables", "gauge", "Memtables in each state.");
    for (int s = SHM_MEMTABLE_BUILDING; s <= SHM_MEMTABLE_FLUSHED; s++)
        sample(counts[s], "state", stat_memtable_state_name((enum shm_memtable_state)s), NULL);
    metric("lsm_memtable_bytes", "gauge", "Bytes used by memtables in each state.");
    for (int s = SHM_MEMTABLE_BUILDING; s <= SHM_MEMTABLE_FLUSHED; s++)
        sample(bytes[s], "state", stat_memtable_state_name((enum shm_memtable_state)s), NULL);
}

static void print_causes(const struct inspect_live *live)
{
    struct stat_cause causes[STAT_MOST_CAUSES];
    size_t count = stat_explain(live, causes);
    uint64_t effect = 0;
    for (size_t i = 0; i < count; i++)
        effect = causes[i].effect > effect ? causes[i].effect : effect;
    gauge("lsm_writers_held_up", "0: not; 1: something slows writers; 2: something stops them.",
          effect);
}

static void print_waits(const struct inspect_waits *waits)
{
    static const struct {
        const char *name, *type, *text;
        size_t member;
    } metrics[] = {
        {"lsm_waits_total", "counter", "Waits of writers, of all processes.",
         offsetof(struct inspect_waits, count)},
        {"lsm_wait_microseconds_total", "counter", "Time that these took.",
         offsetof(struct inspect_waits, total_us)},
        {"lsm_wait_longest_microseconds", "gauge", "The longest of them.",
         offsetof(struct inspect_waits, longest_us)},
    };
    for (size_t m = 0; m < sizeof metrics / sizeof *metrics; m++) {
        metric(metrics[m].name, metrics[m].type, metrics[m].text);
        for (size_t i = 0; i < SHM_WAIT_KINDS; i++) {
            const uint8_t *at = (const uint8_t *)&waits[i] + metrics[m].member;
            sample(*(const uint64_t *)(const void *)at, "reason", shm_wait_name((enum shm_wait)i),
                   NULL);
        }
    }
}

static void print_segment(const struct inspect_live *live)
{
    const struct inspect_log *log = &live->log;
    counter("lsm_sequence", "Newest visible sequence number.", live->visible_sequence);
    counter("lsm_log_staged_bytes_total", "Log positions: end of the stage ring.", log->staged);
    counter("lsm_log_written_bytes_total", "In log segments up to here.", log->written);
    counter("lsm_log_durable_bytes_total", "Durable up to here.", log->durable);
    gauge("lsm_log_stage_used_bytes", "Bytes of the stage ring that cannot be overwritten yet.",
          log->staged > log->reusable ? log->staged - log->reusable : 0);
    gauge("lsm_log_stage_size_bytes", "Size of the stage ring.", log->stage_size);
    gauge("lsm_log_sync_writes_waiting", "Writes that wait until the log is durable.",
          log->pending_count);
    gauge("lsm_poisoned", "1: a sync failed, and no write succeeds any more.", live->poisoned != 0);
    gauge("lsm_shared_memory_bytes", "Memory of the shared segment.", live->segment_bytes);
    gauge("lsm_arenas_free", "Arenas that can become a memtable.", live->arenas_free);
    gauge("lsm_processes_dead", "Processes that died and were not cleaned up after.",
          live->dead_count);
    metric("lsm_lock_held", "gauge", "1: a thread had the lock when it was looked at.");
    for (size_t i = 0; i < INSPECT_LOCK_COUNT; i++)
        sample(live->locks[i].thread != 0, "lock", live->locks[i].name, NULL);
    print_waits(live->waits);
    print_memtables(live);
    print_causes(live);
    for (size_t i = 0; i < sizeof process_metrics / sizeof *process_metrics; i++)
        of_processes(live, process_metrics[i].name, process_metrics[i].type,
                     process_metrics[i].text, process_metrics[i].value);
}

void stat_print_prometheus(const struct cli *cli, const struct inspect_live *live)
{
    directory = cli->directory;
    gauge("lsm_open", "1: some process has the database open.", live->state != SHM_PEEK_NOBODY);
    print_files(&live->files);
    print_families(cli, live);
    if (live->has_segment)
        print_segment(live);
}
