/* Drawings of the figures, as SVG that a page can hold or a file be made of. */
#ifndef BENCH_REPORT_PLOTS_H
#define BENCH_REPORT_PLOTS_H

#include "bench/report/results.h"

#include <stdio.h>

/* Of an engine, by its place in results.engines; told apart by colour-blind eyes too. */
const char *plot_colour(size_t engine);

/* Prints text with what XML takes for markup written otherwise. */
void print_escaped(FILE *file, const char *text);

/* Bars, on a logarithmic scale: how fast libengine is beside each other engine, for the rows
 * [first, limit). Rows without a ratio are left out. */
void plot_ratios(const struct results *r, size_t first, size_t limit, FILE *file);

/* Lines, on a logarithmic scale: the latencies of a row from the median to the longest. */
void plot_latencies(const struct results *r, const struct row *row, FILE *file);

/* Whether plot_latencies() has anything to draw. */
bool plot_has_latencies(const struct results *r, const struct row *row);

#endif
