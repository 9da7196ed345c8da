#include "bench/report.h"

#include "bench/allocations.h"
#include "bench/machine.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define TEXT_SIZE     512
#define SETTINGS_SIZE 2048
#define NAME_SIZE     64
#define MB            1e6

/* A member of an object, not the first. */
static void json_text(FILE *file, const char *name, const char *text)
{
    fprintf(file, ",\"%s\":\"", name);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(file, "\\%c", *text);
        else if ((unsigned char)*text < ' ')
            fprintf(file, "\\u%04x", (unsigned)*text);
        else
            fputc(*text, file);
    }
    fputc('"', file);
}

static void json_number(FILE *file, const char *name, uint64_t number)
{
    fprintf(file, ",\"%s\":%" PRIu64, name, number);
}

static double millis(uint64_t ns)
{
    return (double)ns / 1e6;
}

static FILE *json_open(const char *path)
{
    FILE *file = fopen(path, "ae");
    if (file == NULL)
        die("cannot write '%s'", path);
    return file;
}

static void json_close(FILE *file, const char *path)
{
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        die("cannot write '%s'", path);
}

/* What all objects begin with. */
static void json_head(const struct bench *b, const char *record, FILE *file)
{
    fprintf(file, "{\"schema\":\"lsm-bench/2\",\"record\":\"%s\"", record);
    if (b->options->label != NULL)
        json_text(file, "label", b->options->label);
    json_text(file, "engine", b->engine->name);
}

struct about {
    char engine[TEXT_SIZE];
    char settings[SETTINGS_SIZE];
    char machine[TEXT_SIZE];
};

static void json_run(const struct bench *b, const struct about *about)
{
    const struct bench_options *o = b->options;
    FILE *file = json_open(o->json_file);
    json_head(b, "run", file);
    json_text(file, "version", about->engine);
    json_text(file, "settings", about->settings);
    json_text(file, "machine", about->machine);
    json_number(file, "time", (uint64_t)time(NULL));
    json_number(file, "keys", o->key_count);
    json_number(file, "key_size", o->key_size);
    json_number(file, "value_size", o->value_size);
    fprintf(file, ",\"compressible\":%.3f", o->compressible);
    json_number(file, "memory", o->memory);
    json_number(file, "bound", b->bound);
    json_number(file, "memtable", o->memtable_size);
    json_number(file, "cache", o->cache_size);
    if (b->unwitnessed != NULL)
        json_text(file, "unwitnessed", b->unwitnessed);
    if (b->witness != NULL)
        json_number(file, "witnessed_processors", witness_processors(b->witness));
    fprintf(file, "}\n");
    json_close(file, o->json_file);
}

static void print_witness(const struct bench *b)
{
    if (b->unwitnessed != NULL)
        printf("witness   none, so the machine's pauses are not known: %s\n", b->unwitnessed);
    else if (b->witness != NULL)
        printf("witness   on %zu processors; pauses are the least that is shown: a delay by the "
               "kernel and a tick of %.0f ms are taken off each\n",
               witness_processors(b->witness), millis(witness_tick_ns(b->witness)));
}

void report_begin(const struct bench *b)
{
    const struct bench_options *o = b->options;
    struct about about;
    b->engine->describe(about.engine, sizeof about.engine);
    b->engine->settings(o, about.settings, sizeof about.settings);
    machine_describe(about.machine, sizeof about.machine);
    if (o->json_file != NULL)
        json_run(b, &about);
    printf("engine    %s\n", about.engine);
    printf("settings  %s\n", about.settings);
    printf("machine   %s\n", about.machine);
    printf("database  %s: %" PRIu64 " keys of %" PRIu32 " bytes, values of %" PRIu32
           " bytes of which %.0f %% are left by compression (%s)\n",
           b->directory, o->key_count, o->key_size, o->value_size, 100 * o->compressible,
           o->compress ? "on" : "off");
    print_witness(b);
    printf("memory    ");
    if (b->bound > 0 && !o->has_sizes)
        printf("%.1f MB for the engine to share out", (double)b->bound / MB);
    else
        printf("memtable %.1f MB, cache %.1f MB", (double)o->memtable_size / MB,
               (double)o->cache_size / MB);
    printf(", filter %" PRIu32 " bits a key", o->filter_bits);
    if (o->memory > 0)
        printf(", %.1f MB for all with the page cache", (double)o->memory / MB);
    printf("\n%-18s %8s %10s %8s %11s %8s | %8s %8s %8s %8s %9s %9s | %6s %7s %7s %7s%s\n",
           "workload", "threads", "ops", "s", "ops/s", "MB/s", "p50 us", "p90", "p99", "p99.9",
           "p99.99", "max", "alloc", "disk MB", "peak MB", "w.amp", b->bound > 0 ? "  memory" : "");
    fflush(stdout);
}

static double micros(const struct histogram *h, double share)
{
    return (double)histogram_percentile(h, share) / 1000;
}

static double per_second(const struct result *r, double amount)
{
    return r->seconds > 0 ? amount / r->seconds : 0;
}

static double allocations_per_operation(const struct result *r)
{
    return r->operations > 0 ? (double)r->allocations / (double)r->operations : 0;
}

/* Of what the engine was told to keep to. */
static double share_held(const struct bench *b, const struct result *r)
{
    return b->bound > 0 ? (double)r->held_memory / (double)b->bound : 0;
}

static void print_line(const struct bench *b, const struct result *r, bool beside)
{
    const struct histogram *h = &r->latencies;
    char name[NAME_SIZE];
    snprintf(name, sizeof name, "%s%s", r->name, beside ? "+writes" : "");
    double mb = (double)(r->read_bytes + r->written_bytes) / MB;
    printf("%-18s %8" PRIu32 " %10" PRIu64 " %8.3f", name, r->threads, r->operations, r->seconds);
    if (r->phases[0].name == NULL)
        printf(" %11.0f %8.1f | %8.2f %8.2f %8.2f %8.2f %9.1f %9.1f | %6.2f",
               per_second(r, (double)r->operations), per_second(r, mb), micros(h, 0.5),
               micros(h, 0.9), micros(h, 0.99), micros(h, 0.999), micros(h, 0.9999),
               (double)h->max / 1000, allocations_per_operation(r));
    for (int i = 0; i < RESULT_PHASES && r->phases[i].name != NULL; i++)
        printf("  %s %.3f s", r->phases[i].name, r->phases[i].seconds);
    if (!beside)
        printf(" %7.1f %7.1f %7.2f", (double)r->disk_bytes / MB, (double)r->peak_memory / MB,
               r->amplification);
    if (!beside && b->bound > 0 && r->held_memory > 0)
        printf(" %6.1f %%", 100 * share_held(b, r));
    printf("\n");
}

static void json_latencies(const struct histogram *h, FILE *file)
{
    static const struct {
        const char *name;
        double share;
    } points[] = {{"p50_us", 0.5},
                  {"p90_us", 0.9},
                  {"p99_us", 0.99},
                  {"p999_us", 0.999},
                  {"p9999_us", 0.9999}};
    if (h->total == 0)
        return;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        fprintf(file, ",\"%s\":%.3f", points[i].name, micros(h, points[i].share));
    fprintf(file, ",\"max_us\":%.3f", (double)h->max / 1000);
}

/* Under the line: what the machine withheld, and what that leaves of the long waits. */
static void print_waits(const struct bench *b, const struct result *r, bool beside)
{
    const struct witness_sums *p = &r->pauses;
    const struct waits_left *w = &r->waits_left;
    if (b->witness == NULL)
        return;
    if (!beside)
        printf("    machine: %" PRIu64 " pauses; any processor %.1f ms, longest %.1f; all of %zu "
               "%.1f ms, longest %.1f; witnesses late %.1f ms, longest %.1f%s\n",
               p->count, millis(p->any_sum_ns), millis(p->any_longest_ns),
               witness_processors(b->witness), millis(p->all_sum_ns), millis(p->all_longest_ns),
               millis(p->late_sum_ns), millis(p->late_longest_ns),
               p->full ? "; too many to note all" : "");
    if (r->latencies.total > 0)
        printf("    waits of %.0f ms and more: %" PRIu64 ", %.1f ms; outside of pauses of all "
               "processors %.1f ms, longest %.1f; of any %.1f ms, longest %.1f\n",
               millis(WAITS_LEAST_NS), w->count, millis(w->sum_ns), millis(w->of_all.sum_ns),
               millis(w->of_all.longest_ns), millis(w->of_any.sum_ns),
               millis(w->of_any.longest_ns));
}

static void json_seconds(FILE *file, const char *name, uint64_t ns)
{
    fprintf(file, ",\"%s\":%.6f", name, (double)ns / 1e9);
}

static void json_micros(FILE *file, const char *name, uint64_t ns)
{
    fprintf(file, ",\"%s\":%.3f", name, (double)ns / 1e3);
}

static void json_pauses(const struct witness_sums *p, FILE *file)
{
    json_number(file, "pauses", p->count);
    json_seconds(file, "pauses_any_s", p->any_sum_ns);
    json_micros(file, "pauses_any_longest_us", p->any_longest_ns);
    json_seconds(file, "pauses_all_s", p->all_sum_ns);
    json_micros(file, "pauses_all_longest_us", p->all_longest_ns);
    json_number(file, "pauses_full", p->full);
    json_seconds(file, "witness_late_s", p->late_sum_ns);
    json_micros(file, "witness_late_longest_us", p->late_longest_ns);
}

static void json_waits(const struct waits_left *w, FILE *file)
{
    json_number(file, "waits", w->count);
    json_seconds(file, "waits_s", w->sum_ns);
    json_seconds(file, "waits_outside_all_s", w->of_all.sum_ns);
    json_micros(file, "max_outside_all_us", w->of_all.longest_ns);
    json_seconds(file, "waits_outside_any_s", w->of_any.sum_ns);
    json_micros(file, "max_outside_any_us", w->of_any.longest_ns);
}

/* The processor time of a thread beside is in the other's, which is the whole process's. */
static void json_use(const struct bench *b, const struct result *r, FILE *file)
{
    double operations = r->operations > 0 ? (double)r->operations : 1;
    if (allocations_are_counted())
        fprintf(file, ",\"allocations_per_op\":%.4f", allocations_per_operation(r));
    fprintf(file, ",\"processor_s\":%.3f,\"processor_us_per_op\":%.4f", r->processor_s,
            1e6 * r->processor_s / operations);
    json_number(file, "storage_bytes", r->storage_bytes);
    json_number(file, "storage_read_bytes", r->storage_read_bytes);
    json_number(file, "disk_bytes", r->disk_bytes);
    json_number(file, "peak_memory_bytes", r->peak_memory);
    if (r->held_memory > 0)
        json_number(file, "held_memory_bytes", r->held_memory);
    if (b->bound > 0 && r->held_memory > 0)
        fprintf(file, ",\"memory_share\":%.4f", share_held(b, r));
    fprintf(file, ",\"write_amplification\":%.3f,\"engine_write_amplification\":%.3f",
            r->amplification, r->engine_amplification);
}

static void json_result(const struct bench *b, const struct result *r, bool beside)
{
    const struct bench_options *o = b->options;
    FILE *file = json_open(o->json_file);
    char name[NAME_SIZE];
    snprintf(name, sizeof name, "%s%s", r->name, beside ? "+writes" : "");
    json_head(b, "result", file);
    json_text(file, "workload", name);
    json_text(file, "state", r->state);
    json_number(file, "once", r->phases[0].name != NULL);
    json_number(file, "threads", r->threads);
    json_number(file, "processes", r->processes);
    json_number(file, "operations", r->operations);
    fprintf(file, ",\"seconds\":%.6f,\"ops_per_second\":%.1f,\"mb_per_second\":%.3f", r->seconds,
            per_second(r, (double)r->operations),
            per_second(r, (double)(r->read_bytes + r->written_bytes) / MB));
    json_number(file, "found", r->found);
    for (int i = 0; i < RESULT_PHASES && r->phases[i].name != NULL; i++)
        fprintf(file, ",\"%s_s\":%.6f", r->phases[i].name, r->phases[i].seconds);
    json_latencies(&r->latencies, file);
    if (b->witness != NULL && r->latencies.total > 0)
        json_waits(&r->waits_left, file);
    if (b->witness != NULL && !beside)
        json_pauses(&r->pauses, file);
    if (!beside)
        json_use(b, r, file);
    fprintf(file, "}\n");
    json_close(file, o->json_file);
}

void report_result(const struct bench *b, const struct result *r, bool beside)
{
    print_line(b, r, beside);
    print_waits(b, r, beside);
    if (b->options->histogram && r->latencies.total > 0)
        histogram_print(&r->latencies);
    fflush(stdout);
    if (b->options->json_file != NULL)
        json_result(b, r, beside);
}
