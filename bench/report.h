/* A line of text and a JSON object for each result. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "bench/run.h"

/* What the figures were taken on and with. */
void report_begin(const struct bench *b);

/* `beside`: the figures are those of the thread beside the workload. */
void report_result(const struct bench *b, const struct result *r, bool beside);

#endif
