/* What is known of engines that lsm-bench has no driver for. */
#ifndef BENCH_REPORT_ELSEWHERE_H
#define BENCH_REPORT_ELSEWHERE_H

#include <stdio.h>

/* A section of text and one table: figures of another sitting, and what the engines publish. */
void elsewhere_print_html(FILE *file);
void elsewhere_print_markdown(FILE *file);

#endif
