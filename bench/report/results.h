/*
 * The figures of many runs of lsm-bench: read from its JSON lines, put together by what was
 * measured, the same figure of several rounds becoming its median.
 */
#ifndef BENCH_REPORT_RESULTS_H
#define BENCH_REPORT_RESULTS_H

#include <stdbool.h>
#include <stddef.h>

#define OWN_ENGINE "lsm" /* the one that the others are compared with */

/* name in the JSON, title, unit, whether more is better */
#define MEASURE_LIST(X)                                                                            \
    X(OPS, "ops_per_second", "operations a second", UNIT_COUNT, true)                              \
    X(SECONDS, "seconds", "seconds, of what is done once", UNIT_SECONDS, false)                    \
    X(P50, "p50_us", "latency, median", UNIT_MICROS, false)                                        \
    X(P90, "p90_us", "latency, 90 %", UNIT_MICROS, false)                                          \
    X(P99, "p99_us", "latency, 99 %", UNIT_MICROS, false)                                          \
    X(P999, "p999_us", "latency, 99.9 %", UNIT_MICROS, false)                                      \
    X(P9999, "p9999_us", "latency, 99.99 %", UNIT_MICROS, false)                                   \
    X(MAX, "max_us", "latency, the longest", UNIT_MICROS, false)                                   \
    X(OUTSIDE_ALL, "max_outside_all_us", "latency, outside of pauses of all", UNIT_MICROS, false)  \
    X(OUTSIDE_ANY, "max_outside_any_us", "latency, outside of pauses of any", UNIT_MICROS, false)  \
    X(PROCESSOR, "processor_us_per_op", "processor time an operation, all threads", UNIT_MICROS,   \
      false)                                                                                       \
    X(MEMORY, "peak_memory_bytes", "memory at its peak", UNIT_BYTES, false)                        \
    X(SHARE, "memory_share", "memory held at the peak, of what the engine was given", UNIT_SHARE,  \
      false)                                                                                       \
    X(READ, "storage_read_bytes", "read from storage", UNIT_BYTES, false)                          \
    X(WRITTEN, "storage_bytes", "written to storage", UNIT_BYTES, false)                           \
    X(DISK, "disk_bytes", "size on disk afterwards", UNIT_BYTES, false)

enum measure {
#define MEASURE_ID(id, key, title, unit, more) MEASURE_##id,
    MEASURE_LIST(MEASURE_ID)
#undef MEASURE_ID
        MEASURE_COUNT
};

enum unit { UNIT_COUNT, UNIT_SECONDS, UNIT_MICROS, UNIT_BYTES, UNIT_SHARE };

struct measure_about {
    const char *key;
    const char *title;
    enum unit unit;
    bool more_is_better;
};

extern const struct measure_about measures[MEASURE_COUNT];

/* One figure of one engine. */
struct figure {
    double *values; /* owned; one a round */
    size_t count;
    size_t capacity;
};

struct cell {
    struct figure figures[MEASURE_COUNT];
};

/* One workload as it was run: the same for every engine. All text is owned. */
struct row {
    char *label; /* of the run */
    char *state; /* of the database before */
    char *workload;
    bool once; /* done once and timed, not an operation many times */
    int threads;
    int processes;
    struct cell *cells; /* owned; one an engine */
};

struct engine_about {
    char *name;
    char *version;
    char *settings; /* of the first run */
};

struct results {
    struct row *rows; /* owned, in the order they were first seen, those of a label together */
    size_t row_count;
    struct engine_about *engines; /* owned; OWN_ENGINE first */
    size_t engine_count;
    char *machine;
    long long time; /* of the first run, seconds since 1970 */
    size_t rounds;  /* that every row has values of */
};

/* Dies, naming the line, when the file is not what lsm-bench writes. */
void results_read(struct results *r, const char *path);
void results_release(struct results *r);

/* The figure's median over the rounds; NAN when it has no value. The row's cells are sorted. */
double cell_median(const struct row *row, size_t engine, enum measure m);
double cell_least(const struct row *row, size_t engine, enum measure m);
double cell_most(const struct row *row, size_t engine, enum measure m);

/* How fast libengine is beside an engine: 2 is twice as fast. NAN when one has no figure, and for
 * what only waits or prepares. */
double row_speed_ratio(const struct row *row, size_t engine);

/* Whether there is a row_speed_ratio() for any engine. */
bool row_has_ratio(const struct results *r, const struct row *row);

/* libengine's figure over that of an engine. NAN when one has none or it is 0. */
double row_ratio(const struct row *row, size_t engine, enum measure m);

/* Whether the row has the figure, for any engine, and it says anything in such a row. */
bool row_has(const struct results *r, const struct row *row, enum measure m);

_Noreturn void report_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
