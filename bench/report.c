#include "bench/report.h"

#include "bench/allocations.h"
#include "bench/machine.h"

#include <inttypes.h>
#include <stdio.h>

#define TEXT_SIZE 512
#define MB        1e6

void report_begin(const struct bench *b)
{
    const struct bench_options *o = b->options;
    char engine[TEXT_SIZE], machine[TEXT_SIZE];
    b->engine->describe(engine, sizeof engine);
    machine_describe(machine, sizeof machine);
    printf("engine    %s\n", engine);
    printf("machine   %s\n", machine);
    printf("database  %s: %" PRIu64 " keys of %" PRIu32 " bytes, values of %" PRIu32
           " bytes of which %.0f %% are left by compression (%s)\n",
           b->directory, o->key_count, o->key_size, o->value_size, 100 * o->compressible,
           o->compress ? "zstd" : "none");
    printf("memory    memtable %.1f MB, cache %.1f MB, filter %" PRIu32 " bits a key\n",
           (double)o->memtable_size / MB, (double)o->cache_size / MB, o->filter_bits);
    printf("%-18s %8s %10s %8s %11s %8s | %8s %8s %8s %8s %9s | %6s %7s %7s %7s\n", "workload",
           "threads", "ops", "s", "ops/s", "MB/s", "p50 us", "p90", "p99", "p99.9", "max", "alloc",
           "disk MB", "peak MB", "w.amp");
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

static void print_line(const struct result *r, bool beside)
{
    const struct histogram *h = &r->latencies;
    char name[64];
    snprintf(name, sizeof name, "%s%s", r->name, beside ? "+writes" : "");
    double mb = (double)(r->read_bytes + r->written_bytes) / MB;
    printf("%-18s %8" PRIu32 " %10" PRIu64 " %8.3f", name, r->threads, r->operations, r->seconds);
    if (r->phases[0].name == NULL)
        printf(" %11.0f %8.1f | %8.2f %8.2f %8.2f %8.2f %9.1f | %6.2f",
               per_second(r, (double)r->operations), per_second(r, mb), micros(h, 0.5),
               micros(h, 0.9), micros(h, 0.99), micros(h, 0.999), (double)h->max / 1000,
               allocations_per_operation(r));
    for (int i = 0; i < RESULT_PHASES && r->phases[i].name != NULL; i++)
        printf("  %s %.3f s", r->phases[i].name, r->phases[i].seconds);
    if (!beside)
        printf(" %7.1f %7.1f %7.2f", (double)r->disk_bytes / MB, (double)r->peak_memory / MB,
               r->amplification);
    printf("\n");
}

static void print_json(const struct bench *b, const struct result *r, bool beside, FILE *file)
{
    const struct bench_options *o = b->options;
    const struct histogram *h = &r->latencies;
    fprintf(
        file,
        "{\"schema\":\"lsm-bench/1\",\"engine\":\"%s\",\"workload\":\"%s%s\",\"threads\":%" PRIu32
        ",\"keys\":%" PRIu64 ",\"key_size\":%" PRIu32 ",\"value_size\":%" PRIu32,
        b->engine->name, r->name, beside ? "+writes" : "", r->threads, o->key_count, o->key_size,
        o->value_size);
    fprintf(file, ",\"operations\":%" PRIu64 ",\"seconds\":%.6f,\"ops_per_second\":%.1f",
            r->operations, r->seconds, per_second(r, (double)r->operations));
    fprintf(file, ",\"mb_per_second\":%.3f,\"found\":%" PRIu64,
            per_second(r, (double)(r->read_bytes + r->written_bytes) / MB), r->found);
    fprintf(
        file, ",\"p50_us\":%.3f,\"p90_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f,\"max_us\":%.3f",
        micros(h, 0.5), micros(h, 0.9), micros(h, 0.99), micros(h, 0.999), (double)h->max / 1000);
    if (allocations_are_counted())
        fprintf(file, ",\"allocations_per_op\":%.4f", allocations_per_operation(r));
    for (int i = 0; i < RESULT_PHASES && r->phases[i].name != NULL; i++)
        fprintf(file, ",\"%s_s\":%.6f", r->phases[i].name, r->phases[i].seconds);
    fprintf(file, ",\"processor_s\":%.3f,\"storage_bytes\":%" PRIu64, r->processor_s,
            r->storage_bytes);
    fprintf(file,
            ",\"disk_bytes\":%" PRIu64 ",\"peak_memory_bytes\":%" PRIu64
            ",\"write_amplification\":%.3f,\"engine_write_amplification\":%.3f}\n",
            r->disk_bytes, r->peak_memory, r->amplification, r->engine_amplification);
}

void report_result(const struct bench *b, const struct result *r, bool beside)
{
    print_line(r, beside);
    if (b->options->histogram && r->latencies.total > 0)
        histogram_print(&r->latencies);
    fflush(stdout);
    if (b->options->json_file == NULL)
        return;
    FILE *file = fopen(b->options->json_file, "a");
    if (file == NULL)
        die("cannot write '%s'", b->options->json_file);
    print_json(b, r, beside, file);
    if (fclose(file) != 0)
        die("cannot write '%s'", b->options->json_file);
}
