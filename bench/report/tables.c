#include "bench/report/tables.h"

#include "bench/report/elsewhere.h"

#include <math.h>
#include <string.h>

#define TEXT_SIZE 256

#define RATIO_WITH_TWO_DIGITS 0.01 /* behind the point; smaller ones need more */

static int digits_behind(double value)
{
    return value >= 100 ? 0 : value >= 10 ? 1 : 2;
}

const char *number_text(double value, enum unit unit, char text[NUMBER_SIZE])
{
    static const struct scale {
        double least;
        double divisor;
        const char *name;
    } scales[][4] = {
        [UNIT_COUNT] = {{1e6, 1e6, " M"}, {1e3, 1e3, " k"}, {0, 1, ""}},
        [UNIT_SECONDS] = {{1, 1, " s"}, {1e-3, 1e-3, " ms"}, {0, 1e-6, " us"}},
        [UNIT_MICROS] = {{1e6, 1e6, " s"}, {1e3, 1e3, " ms"}, {0, 1, " us"}},
        [UNIT_BYTES] = {{1e9, 1e9, " GB"}, {1e6, 1e6, " MB"}, {1e3, 1e3, " kB"}, {0, 1, " B"}},
        [UNIT_SHARE] = {{0, 0.01, " %"}},
    };
    if (isnan(value))
        return "-";
    const struct scale *s = scales[unit];
    while (value < s->least)
        s++;
    double shown = value / s->divisor;
    snprintf(text, NUMBER_SIZE, "%.*f%s", shown == 0 ? 0 : digits_behind(shown), shown, s->name);
    return text;
}

const char *ratio_text(double ratio, char text[NUMBER_SIZE])
{
    if (isnan(ratio))
        return "-";
    if (ratio > 0 && ratio < RATIO_WITH_TWO_DIGITS)
        snprintf(text, NUMBER_SIZE, "%.1g", ratio);
    else
        snprintf(text, NUMBER_SIZE, "%.*f", digits_behind(ratio), ratio);
    return text;
}

void row_circumstances(const struct row *row, char *text, size_t capacity)
{
    int used = snprintf(text, capacity, "%s", row->state[0] != '\0' ? row->state : "empty");
    if (used < 0 || (size_t)used >= capacity)
        return;
    if (row->processes > 1)
        snprintf(text + used, capacity - (size_t)used, ", %d processes", row->processes);
    else if (row->threads > 1)
        snprintf(text + used, capacity - (size_t)used, ", %d threads", row->threads);
}

/* Of the column with the circumstances. */
static int circumstances_width(const struct results *r)
{
    char text[TEXT_SIZE];
    size_t longest = strlen("database");
    for (size_t i = 0; i < r->row_count; i++) {
        row_circumstances(&r->rows[i], text, sizeof text);
        if (strlen(text) > longest)
            longest = strlen(text);
    }
    return (int)longest;
}

static double own_speed(const struct row *row)
{
    return cell_median(row, 0, row->once ? MEASURE_SECONDS : MEASURE_OPS);
}

static enum unit speed_unit(const struct row *row)
{
    return row->once ? UNIT_SECONDS : UNIT_COUNT;
}

static bool begins_label(const struct results *r, size_t row)
{
    return row == 0 || strcmp(r->rows[row].label, r->rows[row - 1].label) != 0;
}

void tables_print(const struct results *r, FILE *file)
{
    char text[TEXT_SIZE], number[NUMBER_SIZE];
    int width = circumstances_width(r);
    fprintf(file, "Medians of %zu rounds. %s: operations a second, or time of what is done once;\n",
            r->rounds, r->engines[0].name);
    fprintf(file, "under the others: how many times as fast " OWN_ENGINE " is.\n");
    for (size_t i = 0; i < r->row_count; i++) {
        const struct row *row = &r->rows[i];
        if (begins_label(r, i)) {
            fprintf(file, "\n%-27s %-*s", row->label, width, "database");
            for (size_t e = 0; e < r->engine_count; e++)
                fprintf(file, " %13s", r->engines[e].name);
            fprintf(file, "\n");
        }
        if (!row_has_ratio(r, row))
            continue;
        row_circumstances(row, text, sizeof text);
        fprintf(file, "%-27s %-*s %13s", row->workload, width, text,
                number_text(own_speed(row), speed_unit(row), number));
        for (size_t e = 1; e < r->engine_count; e++)
            fprintf(file, " %13s", ratio_text(row_speed_ratio(row, e), number));
        fprintf(file, "\n");
    }
}

void tables_print_markdown(const struct results *r, FILE *file)
{
    char text[TEXT_SIZE], number[NUMBER_SIZE];
    for (size_t i = 0; i < r->row_count; i++) {
        const struct row *row = &r->rows[i];
        if (begins_label(r, i)) {
            fprintf(file, "%s| %s | on | libengine |", i > 0 ? "\n" : "", row->label);
            for (size_t e = 1; e < r->engine_count; e++)
                fprintf(file, " / %s |", r->engines[e].name);
            fprintf(file, "\n|---|---|--:|");
            for (size_t e = 1; e < r->engine_count; e++)
                fprintf(file, "--:|");
            fprintf(file, "\n");
        }
        if (!row_has_ratio(r, row))
            continue;
        row_circumstances(row, text, sizeof text);
        fprintf(file, "| %s | %s | %s%s |", row->workload, text,
                number_text(own_speed(row), speed_unit(row), number), row->once ? "" : "/s");
        for (size_t e = 1; e < r->engine_count; e++)
            fprintf(file, " %s |", ratio_text(row_speed_ratio(row, e), number));
        fprintf(file, "\n");
    }
    elsewhere_print_markdown(file);
}

void tables_print_tsv(const struct results *r, FILE *file)
{
    fprintf(file, "label\tdatabase\tworkload\tthreads\tprocesses\tmeasure\tengine\tmedian\tleast\t"
                  "most\n");
    for (size_t i = 0; i < r->row_count; i++) {
        const struct row *row = &r->rows[i];
        for (int m = 0; m < MEASURE_COUNT; m++) {
            for (size_t e = 0; e < r->engine_count && row_has(r, row, (enum measure)m); e++)
                fprintf(file, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%.6g\t%.6g\t%.6g\n", row->label,
                        row->state, row->workload, row->threads, row->processes, measures[m].key,
                        r->engines[e].name, cell_median(row, e, (enum measure)m),
                        cell_least(row, e, (enum measure)m), cell_most(row, e, (enum measure)m));
        }
    }
}
