#include "bench/report/results.h"

#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_FAILED 8
#define SCHEMA      "lsm-bench/2"

const struct measure_about measures[MEASURE_COUNT] = {
#define MEASURE_ABOUT(id, key, title, unit, more) {key, title, unit, more},
    MEASURE_LIST(MEASURE_ABOUT)
#undef MEASURE_ABOUT
};

void report_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("lsm-bench-report: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(EXIT_FAILED);
}

static void *grown(void *array, size_t count, size_t size)
{
    void *larger = realloc(array, count * size);
    if (larger == NULL)
        report_die("out of memory");
    return larger;
}

static char *copy_of(const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL)
        report_die("out of memory");
    return copy;
}

/* "" when the member is missing. */
static const char *text_of(json_object *object, const char *name)
{
    json_object *member;
    return json_object_object_get_ex(object, name, &member) ? json_object_get_string(member) : "";
}

static double number_of(json_object *object, const char *name)
{
    json_object *member;
    return json_object_object_get_ex(object, name, &member) ? json_object_get_double(member) : NAN;
}

/* A new engine gets a cell in every row. */
static size_t engine_index(struct results *r, const char *name)
{
    for (size_t i = 0; i < r->engine_count; i++) {
        if (strcmp(r->engines[i].name, name) == 0)
            return i;
    }
    size_t at = r->engine_count++;
    r->engines = grown(r->engines, r->engine_count, sizeof *r->engines);
    r->engines[at] = (struct engine_about){copy_of(name), copy_of(""), copy_of("")};
    for (size_t i = 0; i < r->row_count; i++) {
        r->rows[i].cells = grown(r->rows[i].cells, r->engine_count, sizeof(struct cell));
        r->rows[i].cells[at] = (struct cell){0};
    }
    return at;
}

/* Room behind the last row of the label: lines of a set that share one may stand apart in it. */
static struct row *row_new(struct results *r, const char *label)
{
    r->rows = grown(r->rows, r->row_count + 1, sizeof *r->rows);
    size_t at = r->row_count++;
    for (size_t i = 0; i + 1 < r->row_count; i++) {
        if (strcmp(r->rows[i].label, label) == 0)
            at = i + 1;
    }
    memmove(&r->rows[at + 1], &r->rows[at], (r->row_count - 1 - at) * sizeof *r->rows);
    return &r->rows[at];
}

static struct row *row_for(struct results *r, json_object *result)
{
    const char *label = text_of(result, "label"), *state = text_of(result, "state");
    const char *workload = text_of(result, "workload");
    int threads = (int)number_of(result, "threads");
    int processes = (int)number_of(result, "processes");
    for (size_t i = 0; i < r->row_count; i++) {
        struct row *row = &r->rows[i];
        if (strcmp(row->workload, workload) == 0 && strcmp(row->state, state) == 0 &&
            strcmp(row->label, label) == 0 && row->threads == threads &&
            row->processes == processes)
            return row;
    }
    struct row *row = row_new(r, label);
    struct cell *cells = calloc(r->engine_count, sizeof *cells);
    if (cells == NULL)
        report_die("out of memory");
    *row = (struct row){.label = copy_of(label),
                        .state = copy_of(state),
                        .workload = copy_of(workload),
                        .once = number_of(result, "once") > 0,
                        .threads = threads,
                        .processes = processes,
                        .cells = cells};
    return row;
}

static void figure_add(struct figure *f, double value)
{
    if (f->count == f->capacity) {
        f->capacity = 2 * f->capacity + 4;
        f->values = grown(f->values, f->capacity, sizeof *f->values);
    }
    size_t at = f->count++; /* few values: kept sorted as they come */
    for (; at > 0 && f->values[at - 1] > value; at--)
        f->values[at] = f->values[at - 1];
    f->values[at] = value;
}

static void take_result(struct results *r, json_object *result)
{
    size_t engine = engine_index(r, text_of(result, "engine"));
    struct row *row = row_for(r, result);
    for (int m = 0; m < MEASURE_COUNT; m++) {
        double value = number_of(result, measures[m].key);
        if (!isnan(value))
            figure_add(&row->cells[engine].figures[m], value);
    }
}

static void take_run(struct results *r, json_object *run)
{
    size_t engine = engine_index(r, text_of(run, "engine"));
    struct engine_about *about = &r->engines[engine];
    if (about->version[0] == '\0') {
        free(about->version);
        free(about->settings);
        about->version = copy_of(text_of(run, "version"));
        about->settings = copy_of(text_of(run, "settings"));
    }
    if (r->machine == NULL) {
        r->machine = copy_of(text_of(run, "machine"));
        r->time = (long long)number_of(run, "time");
    }
}

static void take_line(struct results *r, const char *line, const char *path, size_t number)
{
    json_object *object = json_tokener_parse(line);
    const char *record = object != NULL ? text_of(object, "record") : "";
    if (object == NULL || strcmp(text_of(object, "schema"), SCHEMA) != 0)
        report_die("line %zu of '%s' is not of schema %s", number, path, SCHEMA);
    if (strcmp(record, "run") == 0)
        take_run(r, object);
    else if (strcmp(record, "result") == 0)
        take_result(r, object);
    json_object_put(object);
}

static size_t most_values(const struct results *r, const struct row *row)
{
    size_t most = 0;
    for (size_t e = 0; e < r->engine_count; e++) {
        for (int m = 0; m < MEASURE_COUNT; m++)
            most = row->cells[e].figures[m].count > most ? row->cells[e].figures[m].count : most;
    }
    return most;
}

/* What several lines of a set do alike has more values than there were rounds. */
static void count_rounds(struct results *r)
{
    for (size_t i = 0; i < r->row_count; i++) {
        size_t most = most_values(r, &r->rows[i]);
        if (i == 0 || most < r->rounds)
            r->rounds = most;
    }
}

/* The engine that all others are compared with becomes the first. */
static void own_engine_first(struct results *r, const char *path)
{
    size_t own = 0;
    while (own < r->engine_count && strcmp(r->engines[own].name, OWN_ENGINE) != 0)
        own++;
    if (own == r->engine_count)
        report_die("'%s' has no result of engine " OWN_ENGINE, path);
    struct engine_about about = r->engines[own];
    r->engines[own] = r->engines[0];
    r->engines[0] = about;
    for (size_t i = 0; i < r->row_count; i++) {
        struct cell cell = r->rows[i].cells[own];
        r->rows[i].cells[own] = r->rows[i].cells[0];
        r->rows[i].cells[0] = cell;
    }
}

void results_read(struct results *r, const char *path)
{
    *r = (struct results){0};
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t capacity = 0, number = 0;
    if (file == NULL)
        report_die("cannot read '%s': %s", path, strerror(errno));
    while (getline(&line, &capacity, file) > 0)
        take_line(r, line, path, ++number);
    if (ferror(file))
        report_die("cannot read '%s': %s", path, strerror(errno));
    free(line);
    fclose(file);
    own_engine_first(r, path);
    count_rounds(r);
}

void results_release(struct results *r)
{
    for (size_t i = 0; i < r->row_count; i++) {
        struct row *row = &r->rows[i];
        for (size_t e = 0; e < r->engine_count; e++) {
            for (int m = 0; m < MEASURE_COUNT; m++)
                free(row->cells[e].figures[m].values);
        }
        free(row->label);
        free(row->state);
        free(row->workload);
        free(row->cells);
    }
    for (size_t i = 0; i < r->engine_count; i++) {
        free(r->engines[i].name);
        free(r->engines[i].version);
        free(r->engines[i].settings);
    }
    free(r->rows);
    free(r->engines);
    free(r->machine);
    *r = (struct results){0};
}

static const struct figure *figure_of(const struct row *row, size_t engine, enum measure m)
{
    return &row->cells[engine].figures[m];
}

double cell_median(const struct row *row, size_t engine, enum measure m)
{
    const struct figure *f = figure_of(row, engine, m);
    if (f->count == 0)
        return NAN;
    return (f->values[(f->count - 1) / 2] + f->values[f->count / 2]) / 2;
}

double cell_least(const struct row *row, size_t engine, enum measure m)
{
    const struct figure *f = figure_of(row, engine, m);
    return f->count > 0 ? f->values[0] : NAN;
}

double cell_most(const struct row *row, size_t engine, enum measure m)
{
    const struct figure *f = figure_of(row, engine, m);
    return f->count > 0 ? f->values[f->count - 1] : NAN;
}

double row_ratio(const struct row *row, size_t engine, enum measure m)
{
    double own = cell_median(row, 0, m), other = cell_median(row, engine, m);
    return other > 0 ? own / other : NAN;
}

double row_speed_ratio(const struct row *row, size_t engine)
{
    if (!row->once)
        return row_ratio(row, engine, MEASURE_OPS);
    if (strcmp(row->workload, "settle") == 0 || strcmp(row->workload, "evict") == 0)
        return NAN; /* one waits, the other prepares: no work to be fast at */
    double own = cell_median(row, 0, MEASURE_SECONDS);
    return own > 0 ? cell_median(row, engine, MEASURE_SECONDS) / own : NAN;
}

bool row_has_ratio(const struct results *r, const struct row *row)
{
    for (size_t e = 1; e < r->engine_count; e++) {
        if (row_speed_ratio(row, e) > 0)
            return true;
    }
    return false;
}

bool row_has(const struct results *r, const struct row *row, enum measure m)
{
    if (row->once ? m == MEASURE_OPS || m == MEASURE_PROCESSOR : m == MEASURE_SECONDS)
        return false;
    for (size_t e = 0; e < r->engine_count; e++) {
        if (figure_of(row, e, m)->count > 0)
            return true;
    }
    return false;
}
