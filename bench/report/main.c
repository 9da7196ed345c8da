/*
 * lsm-bench-report RESULTS FOLDER: makes, of what lsm-bench has appended to RESULTS with --json,
 *
 *     medians.tsv   every figure
 *     ratios.txt    speeds beside each other; printed too
 *     ratios.md     the same as Markdown
 *     ratios-N.svg  the same, drawn, a file for each label
 *     report.html   all of it
 */
#include "bench/report/page.h"
#include "bench/report/plots.h"
#include "bench/report/tables.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE 16

static FILE *create(const char *folder, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", folder, name) < 0)
        report_die("out of memory");
    FILE *file = fopen(path, "we");
    if (file == NULL)
        report_die("cannot write '%s': %s", path, strerror(errno));
    free(path);
    return file;
}

static void finish(FILE *file, const char *name)
{
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        report_die("cannot write '%s'", name);
}

static void write_file(const struct results *r, const char *folder, const char *name,
                       void (*print)(const struct results *r, FILE *file))
{
    FILE *file = create(folder, name);
    print(r, file);
    finish(file, name);
}

static void write_plots(const struct results *r, const char *folder)
{
    size_t limit = 0;
    for (int number = 1; limit < r->row_count; number++) {
        size_t first = limit;
        char name[32];
        while (limit < r->row_count && strcmp(r->rows[limit].label, r->rows[first].label) == 0)
            limit++;
        snprintf(name, sizeof name, "ratios-%d.svg", number);
        FILE *file = create(folder, name);
        plot_ratios(r, first, limit, file);
        finish(file, name);
    }
}

int main(int argc, char **argv)
{
    struct results r;
    if (argc != 3 || argv[1][0] == '-') {
        fputs("Usage: lsm-bench-report RESULTS FOLDER\n", stderr);
        return EXIT_USAGE;
    }
    results_read(&r, argv[1]);
    write_file(&r, argv[2], "medians.tsv", tables_print_tsv);
    write_file(&r, argv[2], "ratios.txt", tables_print);
    write_file(&r, argv[2], "ratios.md", tables_print_markdown);
    write_file(&r, argv[2], "report.html", page_print);
    write_plots(&r, argv[2]);
    tables_print(&r, stdout);
    results_release(&r);
    return 0;
}
