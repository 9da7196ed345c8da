/* lsm-bench: runs workloads in sequence on one database of one engine and measures them. */
#include "bench/clock.h"
#include "bench/limit.h"
#include "bench/processes.h"
#include "bench/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Every name is looked up before the first workload runs. */
static const struct workload *take_workload(const char **list)
{
    size_t size = strcspn(*list, ",");
    const struct workload *workload = workload_find(*list, size);
    if (workload == NULL)
        die_of_usage("no workload '%.*s'", (int)size, *list);
    *list += size + ((*list)[size] == ',');
    return workload;
}

static char *make_directory(void)
{
    const char *parent = getenv("TMPDIR");
    char *directory = NULL;
    if (asprintf(&directory, "%s/lsm-bench.XXXXXX", parent != NULL ? parent : "/tmp") < 0)
        die("out of memory");
    if (mkdtemp(directory) == NULL)
        die("cannot make a directory '%s'", directory);
    return directory;
}

static void check_processes(const struct bench_options *o, const struct engine *engine)
{
    if (o->processes > 1 && !engine->many_processes)
        die_unable("engine '%s' cannot be open in several processes at once", engine->name);
}

static void check_calls(const struct bench_options *o, const struct engine *engine)
{
    for (const char *list = o->workloads; *list != '\0';) {
        if (take_workload(&list)->copies && engine->checkpoint == NULL)
            die_unable("engine '%s' has no call for a checkpoint", engine->name);
    }
}

static uint64_t take_bound(const struct bench_options *o, const struct engine *engine)
{
    uint64_t bound = engine->bound != NULL ? engine->bound(o) : 0;
    if (bound > 0 && o->has_sizes)
        die_of_usage("--memtable and --cache go with --memory, not with --options=memory=...");
    return bound;
}

/* One of several processes that share a workload: what it measures goes to the first one. */
static void run_child(struct bench *b)
{
    const char *list = b->options->workloads;
    process_child_begin(b);
    bench_open(b);
    process_child_run(b, take_workload(&list));
    bench_close(b);
}

static void run_list(struct bench *b)
{
    struct result *result = malloc(2 * sizeof *result), *beside = result + 1;
    if (result == NULL)
        die("out of memory");
    for (const char *list = b->options->workloads; *list != '\0';) {
        const struct workload *workload = take_workload(&list);
        run_workload(b, workload, result, beside);
        report_result(b, result, false);
        if (beside->operations > 0)
            report_result(b, beside, true);
    }
    free(result);
}

int main(int argc, char **argv)
{
    struct bench_options options;
    options_parse(&options, argc, argv);
    for (const char *list = options.workloads; *list != '\0';)
        (void)take_workload(&list);
    const struct engine *engine = engine_find(options.engine);
    check_processes(&options, engine);
    check_calls(&options, engine);
    uint64_t bound = take_bound(&options, engine);
    clock_calibrate();
    if (options.memory > 0)
        limit_memory(options.memory);
    char *temporary = options.directory == NULL ? make_directory() : NULL;
    struct bench b = {.options = &options,
                      .engine = engine,
                      .bound = bound,
                      .directory = temporary != NULL ? temporary : options.directory,
                      .counts_here = {.key_limit = options.key_count}};
    b.counts = &b.counts_here;
    key_maker_init(&b.keys, &options);
    if (options.child != NULL) {
        run_child(&b);
    } else {
        if (options.witness)
            b.witness = witness_new(&b.unwitnessed);
        b.own_memory = machine_own_memory();
        bench_open(&b);
        report_begin(&b);
        run_list(&b);
        bench_close(&b);
    }
    witness_free(b.witness);
    if (temporary != NULL) {
        b.engine->destroy(temporary);
        rmdir(temporary);
        free(temporary);
    }
    key_maker_release(&b.keys);
    return 0;
}
