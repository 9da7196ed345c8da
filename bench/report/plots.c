/*
 * Coordinates are in pixels of a drawing that is shown at its own size. Nothing depends on how wide
 * a text comes out: names stand in a column of their own to the left, numbers to the right of what
 * they belong to, in room that is kept free for them.
 */
#include "bench/report/plots.h"

#include "bench/report/tables.h"

#include <math.h>
#include <string.h>

#define TEXT_SIZE 256
#define NAME_SIZE (2 * TEXT_SIZE)

/* Of plot_ratios(). */
#define NAMES_LEAST  400
#define LETTER_WIDTH 7 /* at most, on average, of a name */
#define NAME_GAP     10
#define BARS_WIDTH   520
#define NUMBER_WIDTH 60
#define BAR_HEIGHT   11
#define ROW_GAP      10
#define HEAD_HEIGHT  50
#define FOOT_HEIGHT  16

/* Of plot_latencies(). */
#define POINT_COUNT  6
#define LEFT_WIDTH   64
#define POINT_STEP   62
#define PLOT_HEIGHT  170
#define TOP_HEIGHT   14
#define LEGEND_WIDTH 120
#define TICKS_HEIGHT 24

static const enum measure latency_points[POINT_COUNT] = {MEASURE_P50,  MEASURE_P90,   MEASURE_P99,
                                                         MEASURE_P999, MEASURE_P9999, MEASURE_MAX};
static const char *const latency_names[POINT_COUNT] = {"50 %",   "90 %",    "99 %",
                                                       "99.9 %", "99.99 %", "longest"};

/* A logarithmic axis over [least, most]. */
struct axis {
    double least;
    double most;
    double from; /* pixels */
    double to;
};

static double axis_at(const struct axis *a, double value)
{
    double share = log(value / a->least) / log(a->most / a->least);
    return a->from + share * (a->to - a->from);
}

const char *plot_colour(size_t engine)
{
    static const char *const colours[] = {"#0072b2", "#e69f00", "#009e73",
                                          "#cc79a7", "#d55e00", "#56b4e9"};
    return colours[engine % (sizeof colours / sizeof *colours)];
}

void print_escaped(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            fputs("&amp;", file);
            break;
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '"':
            fputs("&quot;", file);
            break;
        default:
            fputc(*text, file);
        }
    }
}

static void begin(FILE *file, double width, double height)
{
    fprintf(
        file,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 "
        "%.0f %.0f\" font-family=\"sans-serif\" font-size=\"12\">\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
        width, height, width, height);
}

static void write_text(FILE *file, double x, double y, const char *anchor, const char *text)
{
    fprintf(file, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" fill=\"#222\">", x, y, anchor);
    print_escaped(file, text);
    fprintf(file, "</text>\n");
}

static void draw_line(FILE *file, double x1, double y1, double x2, double y2, const char *colour)
{
    fprintf(file, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x1, y1,
            x2, y2, colour);
}

static void draw_key(FILE *file, double x, double y, size_t engine, const char *name)
{
    fprintf(file, "<rect x=\"%.1f\" y=\"%.1f\" width=\"12\" height=\"10\" fill=\"%s\"/>\n", x,
            y - 9, plot_colour(engine));
    write_text(file, x + 17, y, "start", name);
}

/* ---- ratios ---------------------------------------------------------------------------------- */

static size_t bar_count(const struct results *r, const struct row *row)
{
    size_t count = 0;
    for (size_t e = 1; e < r->engine_count; e++)
        count += row_speed_ratio(row, e) > 0;
    return count;
}

static void row_name(const struct row *row, char name[NAME_SIZE])
{
    char text[TEXT_SIZE];
    row_circumstances(row, text, sizeof text);
    snprintf(name, NAME_SIZE, "%s (%s)", row->workload, text);
}

static double names_width(const struct results *r, size_t first, size_t limit)
{
    double width = NAMES_LEAST;
    for (size_t i = first; i < limit; i++) {
        char name[NAME_SIZE];
        row_name(&r->rows[i], name);
        if (row_has_ratio(r, &r->rows[i]))
            width = fmax(width, (double)strlen(name) * LETTER_WIDTH + NAME_GAP);
    }
    return width;
}

/* Powers of two around all ratios and 1. */
static struct axis ratio_axis(const struct results *r, size_t first, size_t limit)
{
    double names = names_width(r, first, limit);
    struct axis a = {0.5, 2, names, names + BARS_WIDTH};
    for (size_t i = first; i < limit; i++) {
        for (size_t e = 1; e < r->engine_count; e++) {
            double ratio = row_speed_ratio(&r->rows[i], e);
            while (ratio > 0 && ratio < a.least)
                a.least /= 2;
            while (ratio > 0 && ratio < INFINITY && ratio > a.most)
                a.most *= 2;
        }
    }
    return a;
}

static void draw_ratio_grid(const struct axis *a, double height, FILE *file)
{
    double step = a->most / a->least > 512 ? 4 : 2;
    char text[NUMBER_SIZE];
    for (double at = 1; at <= a->most; at *= step) {
        draw_line(file, axis_at(a, at), HEAD_HEIGHT, axis_at(a, at), height - FOOT_HEIGHT,
                  at == 1 ? "#222" : "#ddd");
        snprintf(text, sizeof text, "%.0f", at);
        write_text(file, axis_at(a, at), HEAD_HEIGHT - 6, "middle", text);
    }
    for (double at = 1 / step; at >= a->least; at /= step) {
        draw_line(file, axis_at(a, at), HEAD_HEIGHT, axis_at(a, at), height - FOOT_HEIGHT, "#ddd");
        snprintf(text, sizeof text, "1/%.0f", 1 / at);
        write_text(file, axis_at(a, at), HEAD_HEIGHT - 6, "middle", text);
    }
}

static void draw_ratio(const struct axis *a, double ratio, double y, size_t engine, FILE *file)
{
    double one = axis_at(a, 1), end = axis_at(a, ratio);
    char text[NUMBER_SIZE];
    fprintf(file,
            "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n"
            "<text x=\"%.1f\" y=\"%.1f\" font-size=\"10\" fill=\"#222\">%s</text>\n",
            fmin(one, end), y, fmax(fabs(end - one), 1), BAR_HEIGHT - 1, plot_colour(engine),
            fmax(one, end) + 4, y + BAR_HEIGHT - 2.5, ratio_text(ratio, text));
}

void plot_ratios(const struct results *r, size_t first, size_t limit, FILE *file)
{
    struct axis a = ratio_axis(r, first, limit);
    double height = HEAD_HEIGHT + FOOT_HEIGHT, y = HEAD_HEIGHT + ROW_GAP / 2.0, x = a.from;
    for (size_t i = first; i < limit; i++) {
        if (row_has_ratio(r, &r->rows[i]))
            height += (double)bar_count(r, &r->rows[i]) * BAR_HEIGHT + ROW_GAP;
    }
    begin(file, a.to + NUMBER_WIDTH, height);
    draw_ratio_grid(&a, height, file);
    for (size_t e = 1; e < r->engine_count; e++, x += LEGEND_WIDTH)
        draw_key(file, x, 16, e, r->engines[e].name);
    for (size_t i = first; i < limit; i++) {
        const struct row *row = &r->rows[i];
        char name[NAME_SIZE];
        if (!row_has_ratio(r, row))
            continue;
        double bars = (double)bar_count(r, row) * BAR_HEIGHT;
        row_name(row, name);
        write_text(file, a.from - NAME_GAP, y + bars / 2 + 4, "end", name);
        for (size_t e = 1; e < r->engine_count; e++) {
            double ratio = row_speed_ratio(row, e);
            if (!(ratio > 0))
                continue;
            draw_ratio(&a, ratio, y, e, file);
            y += BAR_HEIGHT;
        }
        y += ROW_GAP;
    }
    fprintf(file, "</svg>\n");
}

/* ---- latencies ------------------------------------------------------------------------------- */

bool plot_has_latencies(const struct results *r, const struct row *row)
{
    return row_has(r, row, MEASURE_P50);
}

/* Powers of ten around all of the row's latencies. */
static struct axis latency_axis(const struct results *r, const struct row *row)
{
    double least = INFINITY, most = 0;
    for (size_t e = 0; e < r->engine_count; e++) {
        for (int p = 0; p < POINT_COUNT; p++) {
            double value = cell_median(row, e, latency_points[p]);
            if (value > 0) {
                least = fmin(least, value);
                most = fmax(most, value);
            }
        }
    }
    if (!(most > 0))
        least = most = 1;
    return (struct axis){pow(10, floor(log10(least))), pow(10, floor(log10(most)) + 1),
                         TOP_HEIGHT + PLOT_HEIGHT, TOP_HEIGHT};
}

static void draw_latency_grid(const struct axis *a, FILE *file)
{
    double right = LEFT_WIDTH + (POINT_COUNT - 1) * POINT_STEP;
    char text[NUMBER_SIZE];
    for (double at = a->least; at < a->most * 1.5; at *= 10) {
        double y = axis_at(a, at);
        draw_line(file, LEFT_WIDTH, y, right, y, "#ddd");
        bool seconds = at >= 1e6, millis = at >= 1e3;
        snprintf(text, sizeof text, "%g %s",
                 at / (seconds  ? 1e6
                       : millis ? 1e3
                                : 1),
                 seconds  ? "s"
                 : millis ? "ms"
                          : "us");
        write_text(file, LEFT_WIDTH - 8, y + 4, "end", text);
    }
    for (int p = 0; p < POINT_COUNT; p++)
        write_text(file, LEFT_WIDTH + p * POINT_STEP, TOP_HEIGHT + PLOT_HEIGHT + 18, "middle",
                   latency_names[p]);
}

static void draw_latency(const struct axis *a, const struct row *row, size_t engine, FILE *file)
{
    fprintf(file, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%d\" points=\"",
            plot_colour(engine), engine == 0 ? 3 : 2);
    for (int p = 0; p < POINT_COUNT; p++) {
        double value = cell_median(row, engine, latency_points[p]);
        if (value > 0)
            fprintf(file, "%d,%.1f ", LEFT_WIDTH + p * POINT_STEP, axis_at(a, value));
    }
    fprintf(file, "\"/>\n");
}

void plot_latencies(const struct results *r, const struct row *row, FILE *file)
{
    struct axis a = latency_axis(r, row);
    double right = LEFT_WIDTH + (POINT_COUNT - 1) * POINT_STEP + 40, y = TOP_HEIGHT + 14;
    begin(file, right + LEGEND_WIDTH, TOP_HEIGHT + PLOT_HEIGHT + TICKS_HEIGHT);
    draw_latency_grid(&a, file);
    for (size_t e = r->engine_count; e > 0; e--)
        draw_latency(&a, row, e - 1, file);
    for (size_t e = 0; e < r->engine_count; e++) {
        if (isnan(cell_median(row, e, MEASURE_P50)))
            continue;
        draw_key(file, right, y, e, r->engines[e].name);
        y += 18;
    }
    fprintf(file, "</svg>\n");
}
