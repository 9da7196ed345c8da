/* The figures as tables of text. */
#ifndef BENCH_REPORT_TABLES_H
#define BENCH_REPORT_TABLES_H

#include "bench/report/results.h"

#include <stdio.h>

#define NUMBER_SIZE 32

/* A figure with three digits and its unit, as "1.23 M" or "456 MB"; "-" for NAN. */
const char *number_text(double value, enum unit unit, char text[NUMBER_SIZE]);
const char *ratio_text(double ratio, char text[NUMBER_SIZE]);

/* What the workload ran on, and with how many threads and processes, when more than one. */
void row_circumstances(const struct row *row, char *text, size_t capacity);

/* Speeds: libengine's figure, and how many times as fast it is as each other. Rows without a ratio
 * are left out. */
void tables_print(const struct results *r, FILE *file);
void tables_print_markdown(const struct results *r, FILE *file);

/* Every figure in one line, separated by tabs: for other programs. */
void tables_print_tsv(const struct results *r, FILE *file);

#endif
