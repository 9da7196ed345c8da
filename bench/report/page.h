/* One HTML file with everything in it: no other file, no script, nothing fetched. */
#ifndef BENCH_REPORT_PAGE_H
#define BENCH_REPORT_PAGE_H

#include "bench/report/results.h"

#include <stdio.h>

void page_print(const struct results *r, FILE *file);

#endif
