/*
 * --status only looks, so it works on a database whose processes are stopped. --cancel has to write
 * its wish into the shared segment, so it joins those who are there; where nobody is, nothing is
 * opened.
 */
#include "tools/compact/compact.h"
#include "tools/stat/stat.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CANCEL_WAIT_MS 30000 /* a step looks for the wish after each MiB */

/* ---- who merges what ------------------------------------------------------------------------- */

static unsigned percent(uint64_t done, uint64_t total)
{
    return done >= total ? 100 : (unsigned)((double)done * 100 / (double)total);
}

static void print_manual(const struct inspect_live *live, const struct inspect_process *p)
{
    char who[STAT_TEXT], family[STAT_TEXT], count[STAT_TEXT], done[CLI_SIZE_TEXT];
    char total[CLI_SIZE_TEXT];
    const struct inspect_manual *m = &p->manual;
    uint32_t waiting = m->calls - (m->is_running && m->calls > 0);
    if (m->is_running)
        printf("asked for  '%s' by process %s, %s of %s read, for %s%s\n",
               stat_family_name(live, m->cf, family), stat_who(p->pid, p->command, who),
               cli_format_size(m->bytes_done, done), cli_format_size(m->bytes_total, total),
               stat_duration(m->age_ns, count), p->is_alive ? "" : "; it is dead");
    if (waiting > 0)
        printf("asked for  %s in process %s, waiting for the turn\n",
               cli_plural(waiting, "more call", count), stat_who(p->pid, p->command, who));
}

static void print_job(const struct inspect_live *live, const struct inspect_process *p,
                      const struct inspect_job *job)
{
    char who[STAT_TEXT], family[STAT_TEXT], size[CLI_SIZE_TEXT], written[CLI_SIZE_TEXT];
    char age[STAT_TEXT], count[STAT_TEXT];
    printf("merge      '%s', level %" PRIu32 " into %" PRIu32 ", %u%% of %s read, %s written, ",
           stat_family_name(live, job->cf, family), job->input_level, job->output_level,
           percent(job->bytes_done, job->input_bytes), cli_format_size(job->input_bytes, size),
           cli_format_size(job->bytes_written, written));
    printf("by process %s, ", stat_who(p->pid, p->command, who));
    if (job->threads > 1)
        printf("on %s, ", cli_plural(job->threads, "thread", count));
    printf("for %s%s\n", stat_duration(job->age_ns, age), p->is_alive ? "" : "; it is dead");
}

static void print_stall(const struct inspect_live *live)
{
    char who[STAT_TEXT], count[STAT_TEXT];
    bool any = false;
    for (size_t i = 0; i < live->process_count; i++) {
        const struct inspect_process *p = &live->processes[i];
        if (!p->is_alive || p->report.stalled_writers == 0)
            continue;
        printf("stalled    %s of process %s: %s\n",
               cli_plural(p->report.stalled_writers, "writer", count),
               stat_who(p->pid, p->command, who), stat_stall_name(p->report.stall_reason));
        any = true;
    }
    if (!any)
        printf("no writer waits\n");
}

static void print_live(const struct inspect_live *live)
{
    size_t jobs = 0;
    if (live->state == SHM_PEEK_NOBODY) {
        printf("no process has it open, so nothing is being merged\n");
        return;
    }
    for (size_t i = 0; i < live->process_count; i++) {
        const struct inspect_process *p = &live->processes[i];
        print_manual(live, p);
        for (size_t j = 0; j < p->job_count; j++)
            print_job(live, p, &p->jobs[j]);
        jobs += p->job_count;
    }
    if (jobs == 0)
        printf("nothing is being merged\n");
    print_stall(live);
}

static void add_live(const struct inspect_live *live, struct json_object *object)
{
    char family[STAT_TEXT];
    struct json_object *jobs = json_object_new_array(), *asked = json_object_new_array();
    uint64_t stalled = 0;
    for (size_t i = 0; i < live->process_count; i++) {
        const struct inspect_process *p = &live->processes[i];
        stalled += p->is_alive ? p->report.stalled_writers : 0;
        for (size_t j = 0; j < p->job_count; j++) {
            const struct inspect_job *job = &p->jobs[j];
            struct json_object *o = json_object_new_object();
            json_add_u64(o, "process", (uint64_t)p->pid);
            json_add(o, "alive", json_object_new_boolean(p->is_alive));
            json_add_text(o, "family", stat_family_name(live, job->cf, family));
            json_add_u64(o, "input-level", job->input_level);
            json_add_u64(o, "output-level", job->output_level);
            json_add_u64(o, "input-bytes", job->input_bytes);
            json_add_u64(o, "bytes-read", job->bytes_done);
            json_add_u64(o, "bytes-written", job->bytes_written);
            json_add_u64(o, "threads", job->threads);
            json_add(o, "manual", json_object_new_boolean(job->is_manual));
            json_add(o, "for-reads", json_object_new_boolean(job->is_for_reads));
            json_object_array_add(jobs, o);
        }
        if (p->manual.calls == 0)
            continue;
        struct json_object *o = json_object_new_object();
        json_add_u64(o, "process", (uint64_t)p->pid);
        json_add(o, "alive", json_object_new_boolean(p->is_alive));
        json_add_u64(o, "calls", p->manual.calls);
        if (p->manual.is_running) {
            json_add_text(o, "family", stat_family_name(live, p->manual.cf, family));
            json_add_u64(o, "bytes-done", p->manual.bytes_done);
            json_add_u64(o, "bytes-total", p->manual.bytes_total);
        }
        json_object_array_add(asked, o);
    }
    json_add_text(object, "state", stat_state_name(live->state));
    json_add(object, "merges", jobs);
    json_add(object, "asked-for", asked);
    json_add_u64(object, "stalled-writers", stalled);
}

static int check_wanted(struct cli *cli, const struct inspect_live *live)
{
    for (size_t i = 0; i < cli->family_count; i++) {
        if (compact_family(live, cli->families[i]) == NULL)
            return cli_error(cli, EXIT_OPERATION, "LSM_MISSING", "'%s' has no column family '%s'",
                             cli->directory, cli->families[i]);
    }
    return EXIT_DONE;
}

static void show_families(const struct cli *cli, const struct inspect_live *live,
                          struct json_object *object)
{
    struct json_object *families = object == NULL ? NULL : json_object_new_array();
    for (size_t i = 0; i < live->files.family_count; i++) {
        const struct inspect_family *family = &live->files.families[i];
        if (!cli_wants_family(cli, family->name))
            continue;
        if (families == NULL) {
            compact_print_levels(family, NULL);
            continue;
        }
        struct json_object *o = json_object_new_object();
        json_add(o, "name", json_bytes(LSM_SLICE(family->name, strlen(family->name))));
        json_add(o, "now", compact_levels_json(family));
        json_object_array_add(families, o);
    }
    if (families != NULL)
        json_add(object, "families", families);
}

int compact_status(struct cli *cli, struct io *io, struct json_object *object)
{
    int code = EXIT_DONE;
    struct inspect_live *live = compact_look(cli, io, &code);
    if (live == NULL)
        return code;
    if (live->state == SHM_PEEK_HIDDEN)
        code |= cli_error(cli, EXIT_OPERATION, cli_status_name(live->why.status),
                          "it cannot be looked at while it is open: %s", live->why.message);
    if (live->files.has_manifest)
        code |= check_wanted(cli, live);
    show_families(cli, live, object);
    if (object != NULL)
        add_live(live, object);
    else
        print_live(live);
    inspect_live_free(live);
    return code;
}

/* ---- asking to stop -------------------------------------------------------------------------- */

static int join_and_cancel(struct cli *cli, uint32_t *asked)
{
    lsm_error err = {0};
    lsm_db *db = NULL;
    int code = EXIT_DONE;
    cli->options.create = false;
    cli->options.workers = LSM_NO_WORKERS;
    if (lsm_open(cli->directory, &cli->options, &db, &err) != LSM_OK)
        return cli_library_error(cli, NULL, &err);
    if (lsm_compact_cancel(db, CANCEL_WAIT_MS, asked, &err) != LSM_OK)
        code = cli_library_error(cli, NULL, &err);
    if (lsm_close(db, &err) != LSM_OK)
        code |= cli_library_error(cli, "closing", &err);
    return code;
}

int compact_cancel(struct cli *cli, struct io *io, struct json_object *object)
{
    char count[STAT_TEXT];
    int code = EXIT_DONE;
    uint32_t asked = 0;
    struct inspect_live *live = compact_look(cli, io, &code);
    if (live == NULL)
        return code;
    bool is_open = live->state != SHM_PEEK_NOBODY;
    inspect_live_free(live);
    if (is_open)
        code |= join_and_cancel(cli, &asked);
    if (object != NULL)
        json_add_u64(object, "asked", asked);
    else if (!cli->quiet && asked == 0)
        printf("no compaction by hand is running\n");
    else if (!cli->quiet)
        printf("asked %s to stop\n", cli_plural(asked, "compaction", count));
    return code;
}
