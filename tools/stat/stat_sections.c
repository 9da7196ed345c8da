/* The sections with a table or a block for each process or family. */
#include "tools/stat/stat.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- levels ---------------------------------------------------------------------------------- */

static void print_level0(const struct inspect_family *family)
{
    const lsm_cf_options *o = &family->options;
    if (!family->has_options)
        return;
    if (o->compaction != LSM_COMPACTION_LEVELED)
        printf("  %s\n", version_style_name(o->compaction));
    if (o->compaction == LSM_COMPACTION_FIFO)
        return;
    printf("  level 0 has %" PRIu64 " tables: merged from %" PRIu32 ", writers slowed from %" PRIu32
           ", stopped at %" PRIu32 "; debt %.0f%%\n",
           family->levels[0].tables, o->level0_trigger, o->level0_slowdown, o->level0_stop,
           family->level0_debt_ppm / 10000.0);
}

static void print_family(const struct inspect_live *live, const struct inspect_family *family)
{
    char name[STAT_TEXT], size[CLI_SIZE_TEXT];
    printf("%s\n  %5s %8s %12s %14s %14s\n", stat_family_name(live, family->id, name), "level",
           "tables", "size", "entries", "deletes");
    for (size_t i = 0; i < VERSION_LEVELS; i++) {
        const struct inspect_level *level = &family->levels[i];
        if (level->tables == 0 && i > 0)
            continue;
        printf("  %5zu %8" PRIu64 " %12s %14" PRIu64 " %14" PRIu64 "\n", i, level->tables,
               cli_format_size(level->bytes, size), level->entries, level->deletes);
    }
    print_level0(family);
}

void stat_print_levels(const struct cli *cli, const struct inspect_live *live)
{
    for (size_t i = 0; i < live->files.family_count; i++) {
        if (cli_wants_family(cli, live->files.families[i].name))
            print_family(live, &live->files.families[i]);
    }
}

/* ---- per process ----------------------------------------------------------------------------- */

/* What it says has been said, and it lives. */
static bool has_report(const struct inspect_process *p)
{
    return p->is_alive && p->report.said_age_ns != INSPECT_UNKNOWN;
}

static void print_nobody(const struct inspect_live *live, const char *what)
{
    if (live->process_count == 0)
        printf("no process has it open: there is no %s\n", what);
}

void stat_print_cache(const struct inspect_live *live)
{
    char who[STAT_TEXT], size[CLI_SIZE_TEXT], used[CLI_SIZE_TEXT], tables[CLI_SIZE_TEXT];
    print_nobody(live, "cache");
    for (size_t i = 0; i < live->process_count; i++) {
        const struct inspect_process *p = &live->processes[i];
        const struct inspect_report *r = &p->report;
        uint64_t asked = r->cache_hits + r->cache_misses;
        if (!has_report(p))
            continue;
        printf("process %s\n", stat_who(p->pid, p->command, who));
        printf("    blocks     %s of %s, %" PRIu64 " hits, %" PRIu64 " misses (%.1f%% hits)\n",
               cli_format_size(r->cache_bytes, used), cli_format_size(r->cache_size, size),
               r->cache_hits, r->cache_misses,
               asked == 0 ? 0.0 : 100.0 * (double)r->cache_hits / (double)asked);
        if (r->shared_cache_size > 0)
            printf("    shared     %s of %s by all, %" PRIu64 " blocks found there first\n",
                   cli_format_size(r->shared_cache_bytes, used),
                   cli_format_size(r->shared_cache_size, size), r->shared_cache_found);
        printf("    tables     %s of indexes and filters, as of %s ago\n",
               cli_format_size(r->table_bytes, tables), stat_duration(r->said_age_ns, who));
    }
}

/* What there was none of is left out. */
static void print_waits(const struct inspect_waits *waits)
{
    char count[STAT_TEXT], total[STAT_TEXT];
    for (size_t i = 0; i < SHM_WAIT_KINDS; i++) {
        if (waits[i].count > 0)
            printf("    %-10s %s, %s in all, the longest %.1f ms\n",
                   shm_wait_name((enum shm_wait)i), cli_plural(waits[i].count, "wait", count),
                   stat_duration(waits[i].total_us * 1000, total),
                   (double)waits[i].longest_us / 1000.0);
    }
}

void stat_print_stalls(const struct inspect_live *live)
{
    char who[STAT_TEXT], age[STAT_TEXT], size[CLI_SIZE_TEXT], count[STAT_TEXT];
    print_nobody(live, "stall");
    for (size_t i = 0; i < live->process_count; i++) {
        const struct inspect_process *p = &live->processes[i];
        const struct inspect_report *r = &p->report;
        if (!p->is_alive)
            continue;
        printf("process %s\n", stat_who(p->pid, p->command, who));
        printf("    %s     %s", r->stalled_writers > 0 ? "reason" : "state ",
               stat_stall_name(r->stall_reason));
        if (r->stall_age_ns != INSPECT_UNKNOWN)
            printf(", for %s", stat_duration(r->stall_age_ns, age));
        printf("\n    waiting    %s now; all together waited %s\n",
               cli_plural(r->stalled_writers, "writer", count),
               stat_duration(r->stalled_us * 1000, age));
        printf("    debt       %.0f%% of the way to stopping writers", r->debt_ppm / 10000.0);
        if (r->drain_rate > 0)
            printf("; merges take %s a second out of level 0",
                   cli_format_size(r->drain_rate, size));
        printf("\n");
        print_waits(r->waits);
        if (r->work_status != LSM_OK)
            printf("    FAILED     its last flush or merge: %s\n", r->work_error);
    }
    if (live->process_count > 0) {
        printf("all processes since it was opened\n");
        print_waits(live->waits);
    }
}

void stat_print_io(const struct inspect_live *live)
{
    char who[STAT_TEXT], flushed[CLI_SIZE_TEXT], in[CLI_SIZE_TEXT], out[CLI_SIZE_TEXT];
    print_nobody(live, "I/O");
    for (size_t i = 0; i < live->process_count; i++) {
        const struct inspect_process *p = &live->processes[i];
        const struct inspect_report *r = &p->report;
        if (!p->is_alive || (p->roles & SHM_ROLE_OPEN) == 0)
            continue;
        printf("process %s\n", stat_who(p->pid, p->command, who));
        printf("    backend    %s: %s\n", r->io_name, r->io_reason);
        printf("    log        %s\n", r->log_path);
        printf("    requests   %" PRIu64 " submissions to queues\n", r->io_submissions);
        printf("    moved      flushes wrote %s, merges read %s and wrote %s\n",
               cli_format_size(r->flush_bytes_written, flushed),
               cli_format_size(r->merge_bytes_read, in),
               cli_format_size(r->merge_bytes_written, out));
    }
}

/* ---- environment ----------------------------------------------------------------------------- */

static const char *compression_name(lsm_compression compression)
{
    return compression == LSM_COMPRESSION_NONE ? "none" : "zstd";
}

static void print_style(const lsm_cf_options *o)
{
    if (o->blob_threshold != 0)
        printf(",blob_threshold=%" PRIu32, o->blob_threshold);
    if (o->compression_above != 0)
        printf(",compression_above=zstd:%" PRId32, o->compression_above);
    printf(",compaction=%s", version_style_name(o->compaction));
    if (o->compaction == LSM_COMPACTION_TIERED)
        printf(",size_ratio=%" PRIu32 ",min_merge_width=%" PRIu32
               ",max_size_amplification=%" PRIu32,
               o->size_ratio, o->min_merge_width, o->max_size_amplification);
    if (o->fifo_size != 0)
        printf(",fifo_size=%" PRIu64, o->fifo_size);
    if (o->ttl != 0)
        printf(",ttl=%" PRIu32, o->ttl);
    printf("\n");
}

/* As lsm_options_parse() takes them. */
static void print_family_options(const struct inspect_live *live, const struct inspect_family *f)
{
    const lsm_cf_options *o = &f->options;
    char name[STAT_TEXT];
    printf("family     %s: ", stat_family_name(live, f->id, name));
    if (!f->has_options) {
        printf("its options cannot be read\n");
        return;
    }
    printf("compression=%s", compression_name(o->compression));
    if (o->compression != LSM_COMPRESSION_NONE)
        printf(":%" PRId32, o->compression_level);
    printf(",dictionary_size=%" PRIu32 ",block_size=%" PRIu32, o->dictionary_size, o->block_size);
    if (o->filter_bits == LSM_NO_FILTER)
        printf(",filter_bits=none");
    else
        printf(",filter_bits=%" PRIu32, o->filter_bits);
    printf(",table_size=%" PRIu64 ",level_base_size=%" PRIu64 ",level_ratio=%" PRIu32
           ",level0_trigger=%" PRIu32 ",level0_slowdown=%" PRIu32 ",level0_stop=%" PRIu32,
           o->table_size, o->level_base_size, o->level_ratio, o->level0_trigger, o->level0_slowdown,
           o->level0_stop);
    print_style(o);
}

void stat_print_environment(const struct cli *cli, const struct inspect_live *live)
{
    char size[CLI_SIZE_TEXT], more[CLI_SIZE_TEXT], who[STAT_TEXT];
    const struct inspect_log *log = &live->log;
    printf("library    %s, shared memory layout %d\n", lsm_version(), SHM_LAYOUT_VERSION);
    if (live->files.has_manifest)
        printf("manifest   MANIFEST-%06" PRIu64 ", %s, next file number %" PRIu64 "\n",
               live->files.manifest_number, cli_format_size(live->files.manifest_bytes, size),
               live->files.next_file_number);
    if (live->state != SHM_PEEK_NOBODY)
        printf("founder    process %s, PID namespace %" PRIu64 ", boot %s\n",
               stat_who(live->founder.pid, live->founder.command, who), live->founder.pid_namespace,
               live->founder.boot_id);
    if (live->has_segment) {
        printf("segment    %s\n", live->segment);
        printf("memtables  %" PRIu32 " arenas of %s\n", live->arena_count,
               cli_format_size(live->arena_size, size));
        printf("log        stage file %s, %s; segments of %s, %s\n",
               cli_format_size(log->stage_size, size), log->is_mapped ? "mapped" : "written",
               cli_format_size(log->segment_size, more),
               log->is_direct ? "past the page cache" : "through the page cache");
    }
    for (size_t i = 0; i < live->files.family_count; i++) {
        if (cli_wants_family(cli, live->files.families[i].name))
            print_family_options(live, &live->files.families[i]);
    }
}
