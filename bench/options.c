/* The command line: one table makes the parser's list and the text of --help. */
#include "bench/options.h"

#include "bench/async.h"
#include "bench/engine.h"
#include "bench/workload.h"
#include "engine/lsm.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE  16
#define EXIT_FAILED 8
#define EXIT_UNABLE 4

/* How --memory is shared out; the rest is the page cache's, or for indexes, filters and tables. */
#define MEMORY_LEAST     (UINT64_C(32) << 20)
#define MEMTABLE_DEFAULT (UINT64_C(64) << 20)
#define CACHE_DEFAULT    (UINT64_C(128) << 20)
#define MEMTABLE_SHARE   16 /* one sixteenth, up to the default */
#define CACHE_SHARE      2

/* name, what follows it, help */
#define OPTION_LIST(X)                                                                             \
    X(WORKLOADS, "workloads", "LIST", "what to run, in this order, on one database (see below)")   \
    X(ENGINE, "engine", "NAME", "lsm (default) or another that was compiled in")                   \
    X(DB, "db", "DIR", "database; kept afterwards. Default: a new one in $TMPDIR, removed")        \
    X(NUM, "num", "N", "keys in the database (default 1000000)")                                   \
    X(READS, "reads", "N", "operations of workloads that read (default: as --num)")                \
    X(SYNCS, "syncs", "N", "operations of fillsync (default: a hundredth of --num)")               \
    X(KEY_SIZE, "key-size", "BYTES", "default 16")                                                 \
    X(KEY_FORMAT, "key-format", "FORMAT", "binary (default), decimal or user")                     \
    X(VALUE_SIZE, "value-size", "BYTES", "default 100")                                            \
    X(COMPRESSIBLE, "compressible", "SHARE", "of a value left after compression (default 0.5)")    \
    X(THREADS, "threads", "N", "that share the operations (default 1)")                            \
    X(PROCESSES, "processes", "N", "that share the operations, --threads each (default 1)")        \
    X(BATCH, "batch", "N", "puts in a batch: of fills (default 1), of fillbatch (default 100)")    \
    X(MULTIGET, "multiget-size", "N", "keys of one multiget (default 32)")                         \
    X(DEPTH, "depth", "N", "gets of asyncrandom at once (default 32)")                             \
    X(NEXTS, "seek-nexts", "N", "entries read after a seek (default 10)")                          \
    X(KEEP_ITERATOR, "keep-iterator", NULL, "seekrandom seeks one iterator, not a new one each")   \
    X(SYNC, "sync", NULL, "every write survives a power cut")                                      \
    X(MEMORY, "memory", "BYTES", "enforced with a cgroup, page cache included; see README.md")     \
    X(MEMTABLE, "memtable", "BYTES", "default 64MiB; with --memory a sixteenth of that")           \
    X(CACHE, "cache", "BYTES", "block cache (default 128MiB; with --memory half of it)")           \
    X(FILTER_BITS, "filter-bits", "N", "bits a key (default 10; 0: no filter)")                    \
    X(COMPRESSION, "compression", "NAME", "zstd (default; level 1, lowest level only) or none")    \
    X(OPTIONS, "options", "TEXT", "more options of engine lsm, as \"workers=4,block_size=16KiB\"") \
    X(DURATION, "duration", "SECONDS", "stop each workload then (default: when it is done)")       \
    X(WHOLE_FILLS, "whole-fills", NULL, "--duration does not stop what fills an empty database")   \
    X(SEED, "seed", "N", "of all random choices (default 1)")                                      \
    X(SAMPLE, "sample", "N", "time one operation of N (default 16; 1 when syncing)")               \
    X(VERIFY, "verify", NULL, "check every value and order read, and what must be there")          \
    X(KEEP_DATA, "keep-data", NULL, "fill workloads do not empty the database first")              \
    X(HISTOGRAM, "histogram", NULL, "print the whole distribution of latencies")                   \
    X(WITNESS, "witness", NULL, "tell the machine's pauses from waits for the engine; needs root") \
    X(JSON, "json", "FILE", "append one JSON object a workload")                                   \
    X(LABEL, "label", "TEXT", "stands in each of them, to tell runs apart")                        \
    X(LIST_ENGINES, "list-engines", NULL, "print the engines of this build, one a line")           \
    X(CHILD, "child", "PLACE", "")                                                                 \
    X(HELP, "help", NULL, "")                                                                      \
    X(VERSION, "version", NULL, "")

enum option_id {
#define OPTION_ID(id, name, argument, help) OPTION_##id,
    OPTION_LIST(OPTION_ID)
#undef OPTION_ID
};

static _Noreturn void say_and_exit(int code, const char *more, const char *format,
                                   va_list arguments)
{
    fflush(stdout);
    fputs("lsm-bench: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs(more, stderr);
    exit(code);
}

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_and_exit(EXIT_FAILED, "\n", format, arguments);
}

void die_of_usage(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_and_exit(EXIT_USAGE, "; see --help\n", format, arguments);
}

void die_unable(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_and_exit(EXIT_UNABLE, "\n", format, arguments);
}

static _Noreturn void refuse(const char *name, const char *text)
{
    die_of_usage("--%s does not take '%s'", name, text);
}

static _Noreturn void print_help(void)
{
    printf("Usage: lsm-bench --workloads=LIST [OPTION]...\n\n");
#define OPTION_HELP(id, name, argument, help)                                                      \
    if ((help)[0] != '\0')                                                                         \
        printf("  --%s%s%-*s %s\n", name, (argument) == NULL ? "" : "=",                           \
               (int)(24 - strlen(name) - ((argument) != NULL)),                                    \
               (const char *)(argument) == NULL ? "" : (const char *)(argument), help);
    OPTION_LIST(OPTION_HELP)
#undef OPTION_HELP
    printf("\nWorkloads:\n");
    workload_print_list();
    exit(0);
}

/* A number with an optional binary unit; the public door has no parser of its own for one. */
static uint64_t take_number(const char *name, const char *text, uint64_t least, uint64_t most)
{
    static const char units[] = "KMGT";
    char *rest;
    unsigned long long value = strtoull(text, &rest, 10);
    const char *unit = *rest == '\0' ? NULL : strchr(units, *rest);
    if (rest == text || *text == '-')
        refuse(name, text);
    if (unit != NULL) {
        unsigned shift = 10 * (unsigned)(unit - units + 1);
        if (value > UINT64_MAX >> shift)
            refuse(name, text);
        value <<= shift;
        rest++;
        if (*rest == 'i')
            rest++;
        if (*rest == 'B')
            rest++;
    }
    if (*rest != '\0' || value < least || value > most)
        refuse(name, text);
    return value;
}

static size_t take_word(const char *name, const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, words[i]) == 0)
            return i;
    }
    refuse(name, text);
}

static double take_share(const char *name, const char *text)
{
    char *rest;
    double value = strtod(text, &rest);
    if (rest == text || *rest != '\0' || !(value > 0 && value <= 1))
        refuse(name, text);
    return value;
}

static void take_option(struct bench_options *o, enum option_id id, const char *name,
                        const char *text)
{
    static const char *const formats[] = {"binary", "decimal", "user"};
    static const char *const compressions[] = {"none", "zstd"};
    switch (id) {
    case OPTION_WORKLOADS:
        o->workloads = text;
        break;
    case OPTION_ENGINE:
        o->engine = text;
        break;
    case OPTION_DB:
        o->directory = text;
        break;
    case OPTION_NUM:
        o->key_count = take_number(name, text, 1, UINT32_MAX);
        break;
    case OPTION_READS:
        o->read_count = take_number(name, text, 1, UINT64_MAX);
        break;
    case OPTION_SYNCS:
        o->sync_count = take_number(name, text, 1, UINT64_MAX);
        break;
    case OPTION_KEY_SIZE:
        o->key_size = (uint32_t)take_number(name, text, 8, 1024);
        break;
    case OPTION_KEY_FORMAT:
        o->key_format = (enum key_format)take_word(name, text, formats, 3);
        break;
    case OPTION_VALUE_SIZE:
        o->value_size = (uint32_t)take_number(name, text, 8, 1 << 26);
        break;
    case OPTION_COMPRESSIBLE:
        o->compressible = take_share(name, text);
        break;
    case OPTION_THREADS:
        o->threads = (uint32_t)take_number(name, text, 1, 1024);
        break;
    case OPTION_PROCESSES:
        o->processes = (uint32_t)take_number(name, text, 1, 1024);
        break;
    case OPTION_BATCH:
        o->batch_count = (uint32_t)take_number(name, text, 1, 1 << 20);
        break;
    case OPTION_MULTIGET:
        o->multiget_count = (uint32_t)take_number(name, text, 1, 1 << 16);
        break;
    case OPTION_DEPTH:
        o->depth = (uint32_t)take_number(name, text, 1, ASYNC_MAX_DEPTH);
        break;
    case OPTION_NEXTS:
        o->seek_nexts = (uint32_t)take_number(name, text, 0, UINT32_MAX);
        break;
    case OPTION_KEEP_ITERATOR:
        o->keep_iterator = true;
        break;
    case OPTION_SYNC:
        o->sync = true;
        break;
    case OPTION_MEMORY:
        o->memory = take_number(name, text, MEMORY_LEAST, UINT64_MAX);
        break;
    case OPTION_MEMTABLE:
        o->memtable_size = take_number(name, text, 1, UINT64_MAX);
        break;
    case OPTION_CACHE:
        o->cache_size = take_number(name, text, 1, UINT64_MAX);
        break;
    case OPTION_FILTER_BITS:
        o->filter_bits = (uint32_t)take_number(name, text, 0, 100);
        break;
    case OPTION_COMPRESSION:
        o->compress = take_word(name, text, compressions, 2) == 1;
        break;
    case OPTION_OPTIONS:
        o->engine_options = text;
        break;
    case OPTION_DURATION:
        o->duration_s = take_number(name, text, 1, UINT32_MAX);
        break;
    case OPTION_WHOLE_FILLS:
        o->whole_fills = true;
        break;
    case OPTION_SEED:
        o->seed = take_number(name, text, 0, UINT64_MAX);
        break;
    case OPTION_SAMPLE:
        o->sample_every = (uint32_t)take_number(name, text, 1, UINT32_MAX);
        break;
    case OPTION_VERIFY:
        o->verify = true;
        break;
    case OPTION_KEEP_DATA:
        o->keep_data = true;
        break;
    case OPTION_HISTOGRAM:
        o->histogram = true;
        break;
    case OPTION_WITNESS:
        o->witness = true;
        break;
    case OPTION_JSON:
        o->json_file = text;
        break;
    case OPTION_LABEL:
        o->label = text;
        break;
    case OPTION_LIST_ENGINES:
        engine_print_list();
        exit(0);
    case OPTION_CHILD:
        o->child = text;
        break;
    case OPTION_HELP:
        print_help();
    case OPTION_VERSION:
        printf("lsm-bench (libengine) %s\n", lsm_version());
        exit(0);
    }
}

static void check_together(const struct bench_options *o)
{
    char largest[32];
    int digits = snprintf(largest, sizeof largest, "%llu", (unsigned long long)o->key_count * 2);
    uint32_t needed = o->key_format == KEY_BINARY    ? 9
                      : o->key_format == KEY_DECIMAL ? (uint32_t)digits
                                                     : (uint32_t)digits + 4;
    if (o->key_size < needed)
        die_of_usage("--key-size is %u; this many keys in this format need %u", o->key_size,
                     needed);
    if (o->workloads == NULL)
        die_of_usage("--workloads is missing");
}

static uint64_t memtable_default(uint64_t memory)
{
    uint64_t share = memory / MEMTABLE_SHARE;
    return memory == 0 || share > MEMTABLE_DEFAULT ? MEMTABLE_DEFAULT : share;
}

void options_parse(struct bench_options *o, int argc, char **argv)
{
    static const struct option list[] = {
#define OPTION_ENTRY(id, name, argument, help)                                                     \
    {name, (argument) == NULL ? no_argument : required_argument, NULL, OPTION_##id},
        OPTION_LIST(OPTION_ENTRY)
#undef OPTION_ENTRY
            {NULL, 0, NULL, 0}};
    *o = (struct bench_options){.arguments = argv,
                                .argument_count = argc,
                                .engine = "lsm",
                                .key_count = 1000000,
                                .key_size = 16,
                                .value_size = 100,
                                .compressible = 0.5,
                                .threads = 1,
                                .processes = 1,
                                .multiget_count = 32,
                                .depth = 32,
                                .seek_nexts = 10,
                                .filter_bits = 10,
                                .compress = true,
                                .seed = 1};
    int id, index = 0;
    while ((id = getopt_long(argc, argv, "", list, &index)) != -1) {
        if (id == '?')
            exit(EXIT_USAGE);
        take_option(o, (enum option_id)id, list[index].name, optarg);
    }
    if (optind < argc)
        die_of_usage("'%s' is not an option", argv[optind]);
    check_together(o);
    o->has_sizes = o->memtable_size != 0 || o->cache_size != 0;
    if (o->memtable_size == 0)
        o->memtable_size = memtable_default(o->memory);
    if (o->cache_size == 0)
        o->cache_size = o->memory > 0 ? o->memory / CACHE_SHARE : CACHE_DEFAULT;
    if (o->read_count == 0)
        o->read_count = o->key_count;
    if (o->sync_count == 0)
        o->sync_count = o->key_count < 100 ? 1 : o->key_count / 100;
}
