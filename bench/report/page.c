#include "bench/report/page.h"

#include "bench/report/elsewhere.h"
#include "bench/report/plots.h"
#include "bench/report/tables.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define TEXT_SIZE 256

#define CLEARLY_BETTER 1.1 /* a ratio that is worth a colour */

static const char style[] =
    "body{font:15px/1.45 sans-serif;color:#222;background:#fff;margin:2em auto;max-width:1320px;"
    "padding:0 1em}\n"
    "h1{font-size:1.6em}h2{font-size:1.25em;margin-top:2em;border-bottom:1px solid #ccc}"
    "h3{font-size:1em;margin:1.4em 0 .4em}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px}\n"
    "th,td{padding:2px 6px;text-align:right;white-space:nowrap;border-bottom:1px solid #eee}\n"
    "th{border-bottom:1px solid "
    "#888}th.t,td.t{text-align:left}th.s,td.s{white-space:normal}th.s{width:5em}\n"
    ".good{background:#dcefe0}.bad{background:#f8dcd6}.spread{color:#777;font-size:11px}\n"
    ".plots{display:flex;flex-wrap:wrap;gap:8px 20px}figure{margin:0}"
    "figcaption{font-size:13px;margin:6px 0 0 4px}\n"
    "svg{max-width:100%;height:auto}code{font-size:12px}\n"
    ".key{display:inline-block;width:.8em;height:.8em;margin-right:.4em}\n";

static bool begins_label(const struct results *r, size_t row)
{
    return row == 0 || strcmp(r->rows[row].label, r->rows[row - 1].label) != 0;
}

static size_t label_limit(const struct results *r, size_t first)
{
    size_t limit = first + 1;
    while (limit < r->row_count && !begins_label(r, limit))
        limit++;
    return limit;
}

static void print_element(FILE *file, const char *begin, const char *text, const char *end)
{
    fputs(begin, file);
    print_escaped(file, text);
    fputs(end, file);
}

static void print_head(const struct results *r, FILE *file)
{
    char date[TEXT_SIZE] = "?";
    time_t at = (time_t)r->time;
    struct tm parts;
    if (gmtime_r(&at, &parts) != NULL)
        strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &parts);
    fprintf(
        file,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width\">\n"
        "<title>libengine beside other engines</title>\n<style>\n%s</style></head><body>\n"
        "<h1>libengine beside other engines</h1>\n<p>Medians of %zu rounds, engines by turns in "
        "one sitting, one process an engine. %s on ",
        style, r->rounds, date);
    print_element(file, "", r->machine != NULL ? r->machine : "an unknown machine", ".</p>\n");
}

static void print_engine_heads(const struct results *r, size_t first, FILE *file)
{
    for (size_t e = first; e < r->engine_count; e++) {
        fprintf(file, "<th><span class=\"key\" style=\"background:%s\"></span>", plot_colour(e));
        print_element(file, "", r->engines[e].name, "</th>");
    }
    fputs("</tr>\n", file);
}

static void print_row_names(const struct row *row, FILE *file)
{
    char text[TEXT_SIZE];
    row_circumstances(row, text, sizeof text);
    print_element(file, "<tr><td class=\"t\">", row->workload, "</td>");
    print_element(file, "<td class=\"t\">", text, "</td>");
}

/* The median, and below it the least and the most of all rounds. */
static void print_figure(const struct row *row, size_t engine, enum measure m, const char *class,
                         FILE *file)
{
    char median[NUMBER_SIZE], least[NUMBER_SIZE], most[NUMBER_SIZE];
    enum unit unit = measures[m].unit;
    fprintf(file, "<td%s>%s", class, number_text(cell_median(row, engine, m), unit, median));
    if (row->cells[engine].figures[m].count > 1)
        fprintf(file, "<br><span class=\"spread\">%s &ndash; %s</span>",
                number_text(cell_least(row, engine, m), unit, least),
                number_text(cell_most(row, engine, m), unit, most));
    fputs("</td>", file);
}

static const char *ratio_class(double ratio)
{
    if (ratio > CLEARLY_BETTER)
        return " class=\"good\"";
    return ratio < 1 / CLEARLY_BETTER ? " class=\"bad\"" : "";
}

static void print_speed_table(const struct results *r, size_t first, size_t limit, FILE *file)
{
    fputs("<div class=\"wide\"><table><tr><th class=\"t\">workload</th><th class=\"t\">database"
          "</th>",
          file);
    for (size_t e = 1; e < r->engine_count; e++)
        print_element(file, "<th>/ ", r->engines[e].name, "</th>");
    print_engine_heads(r, 0, file);
    for (size_t i = first; i < limit; i++) {
        const struct row *row = &r->rows[i];
        char text[NUMBER_SIZE];
        print_row_names(row, file);
        for (size_t e = 1; e < r->engine_count; e++) {
            double ratio = row_speed_ratio(row, e);
            fprintf(file, "<td%s>%s</td>", ratio_class(ratio), ratio_text(ratio, text));
        }
        for (size_t e = 0; e < r->engine_count; e++)
            print_figure(row, e, row->once ? MEASURE_SECONDS : MEASURE_OPS, "", file);
        fputs("</tr>\n", file);
    }
    fputs("</table></div>\n", file);
}

static void print_speeds(const struct results *r, FILE *file)
{
    fputs("<h2>Speed</h2>\n<p>A ratio is how many times as fast libengine is: above 1 it is "
          "faster. Figures are operations a second, or the time of what is done once; small below "
          "them the least and the most of all rounds. A dash: the engine cannot do it, or it is "
          "nothing to be fast at.</p>\n",
          file);
    for (size_t first = 0, limit; first < r->row_count; first = limit) {
        limit = label_limit(r, first);
        print_element(file, "<h3>", r->rows[first].label, "</h3>\n<div class=\"wide\">");
        plot_ratios(r, first, limit, file);
        fputs("</div>\n", file);
        print_speed_table(r, first, limit, file);
    }
}

/* What only runs with a witness have is left out where there was none. */
static bool has_column(const struct results *r, const struct row *row, int m)
{
    return m <= MEASURE_MAX || row_has(r, row, (enum measure)m);
}

static void print_latency_table(const struct results *r, const struct row *row, FILE *file)
{
    fputs("<table><tr><th class=\"t\">engine</th>", file);
    for (int m = MEASURE_P50; m <= MEASURE_OUTSIDE_ANY; m++) {
        if (has_column(r, row, m))
            fprintf(file, "<th%s>%s</th>", m > MEASURE_MAX ? " class=\"s\"" : "",
                    strchr(measures[m].title, ',') + 2);
    }
    fputs("</tr>\n", file);
    for (size_t e = 0; e < r->engine_count; e++) {
        char text[NUMBER_SIZE];
        if (isnan(cell_median(row, e, MEASURE_P50)))
            continue;
        print_element(file, "<tr><td class=\"t\">", r->engines[e].name, "</td>");
        for (int m = MEASURE_P50; m <= MEASURE_OUTSIDE_ANY; m++) {
            if (has_column(r, row, m))
                fprintf(file, "<td>%s</td>",
                        number_text(cell_median(row, e, (enum measure)m), UNIT_MICROS, text));
        }
        fputs("</tr>\n", file);
    }
    fputs("</table>", file);
}

static bool has_measure(const struct results *r, size_t first, size_t limit, enum measure m)
{
    for (size_t i = first; i < limit; i++) {
        if (row_has(r, &r->rows[i], m))
            return true;
    }
    return false;
}

static void print_latencies(const struct results *r, FILE *file)
{
    fputs("<h2>Latency</h2>\n<p>Of one call; a batch and a multiget are one call. Logarithmic "
          "scales. Where the machine's pauses were witnessed: the longest without the time in "
          "which all processors were withheld, and without that in which any was.</p>\n",
          file);
    for (size_t first = 0, limit; first < r->row_count; first = limit) {
        limit = label_limit(r, first);
        if (!has_measure(r, first, limit, MEASURE_P50))
            continue;
        print_element(file, "<details><summary>", r->rows[first].label,
                      "</summary>\n<div class=\"plots\">\n");
        for (size_t i = first; i < limit; i++) {
            char text[TEXT_SIZE];
            if (!plot_has_latencies(r, &r->rows[i]))
                continue;
            row_circumstances(&r->rows[i], text, sizeof text);
            print_element(file, "<figure><figcaption><b>", r->rows[i].workload, "</b> (");
            print_element(file, "", text, ")</figcaption>\n");
            plot_latencies(r, &r->rows[i], file);
            print_latency_table(r, &r->rows[i], file);
            fputs("</figure>\n", file);
        }
        fputs("</div></details>\n", file);
    }
}

static void print_use_table(const struct results *r, size_t first, size_t limit, enum measure m,
                            FILE *file)
{
    print_element(file, "<h3>", r->rows[first].label, ": ");
    print_element(file, "", measures[m].title, "</h3>\n");
    fputs("<div class=\"wide\"><table><tr><th class=\"t\">workload</th><th class=\"t\">database"
          "</th>",
          file);
    print_engine_heads(r, 0, file);
    for (size_t i = first; i < limit; i++) {
        const struct row *row = &r->rows[i];
        if (!row_has(r, row, m))
            continue;
        print_row_names(row, file);
        for (size_t e = 0; e < r->engine_count; e++)
            print_figure(row, e, m, "", file);
        fputs("</tr>\n", file);
    }
    fputs("</table></div>\n", file);
}

static void print_use(const struct results *r, FILE *file)
{
    fputs(
        "<h2>What it takes</h2>\n<p>Less is better. Bytes read and written are the kernel's count "
        "for the process while the workload ran; processor time includes background "
        "threads.</p>\n",
        file);
    for (size_t first = 0, limit; first < r->row_count; first = limit) {
        limit = label_limit(r, first);
        print_element(file, "<details><summary>", r->rows[first].label, "</summary>\n");
        for (int m = MEASURE_PROCESSOR; m < MEASURE_COUNT; m++) {
            if (has_measure(r, first, limit, (enum measure)m))
                print_use_table(r, first, limit, (enum measure)m, file);
        }
        fputs("</details>\n", file);
    }
}

static void print_settings(const struct results *r, FILE *file)
{
    fputs("<h2>Settings</h2>\n<p>Of the first run of each engine; sizes, threads and memory of "
          "the others follow their headings.</p>\n<table>\n",
          file);
    for (size_t e = 0; e < r->engine_count; e++) {
        print_element(file, "<tr><td class=\"t\">", r->engines[e].version, "</td>");
        print_element(file, "<td class=\"t s\"><code>", r->engines[e].settings,
                      "</code></td></tr>\n");
    }
    fputs("</table>\n", file);
}

void page_print(const struct results *r, FILE *file)
{
    print_head(r, file);
    print_speeds(r, file);
    print_latencies(r, file);
    print_use(r, file);
    elsewhere_print_html(file);
    print_settings(r, file);
    fputs("</body></html>\n", file);
}
