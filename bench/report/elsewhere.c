/*
 * TidesDB and SplinterDB are in no distribution and so have no driver. One sitting of an early
 * harness, in 2026, had them beside RocksDB, all through their C APIs, before there was anything of
 * libengine to set beside them: so the figures here serve to compare the three with each other. A
 * ratio to a figure of libengine's, from another machine or another day, would be made up.
 */
#include "bench/report/elsewhere.h"

#include <stddef.h>

#define PEERS 3

#define TITLE "Others, by design and published figures"

static const char caveat[] =
    "Not measured in this run: lsm-bench has no driver for TidesDB and SplinterDB, which no "
    "distribution packages. The figures are those of another sitting, on another day, of the three "
    "beside each other and without libengine. They say how these engines stood to RocksDB there, "
    "and nothing may be divided by a figure of the tables above.";

static const char setting[] =
    "2 Zen 3 cores, ext4 on a virtual disk, Linux 6.18; RocksDB 11.9, TidesDB 9.3.14, SplinterDB "
    "of 2026, built with -O2 or -O3 and -DNDEBUG; 1 M pairs of 16 and 100 bytes, 1 thread, no "
    "compression, filters of 10 bits a key, 64 MiB memtable, 1 GiB cache. Operations a second "
    "unless it says otherwise. That machine's figures move by half within an hour.";

static const char *const names[PEERS] = {"RocksDB", "TidesDB", "SplinterDB"};

static const struct known {
    const char *workload;
    const char *figures[PEERS];
} known[] = {
    {"fillseq", {"240-293 k", "294-379 k", "444 k"}},
    {"fillseq, batches of 100", {"1.64 M", "1.82 M", "no batches"}},
    {"fillrandom", {"155 k", "141 k", "264 k"}},
    {"overwrite", {"145 k", "151 k", "286 k"}},
    {"fillsync, 1 / 4 / 16 threads",
     {"3.4 / 7.3 / 15.5 k", "4.0 / 6.5 / 8.6 k", "no durable commit"}},
    {"readrandom after fillrandom", {"144-168 k", "43 k", "206 k"}},
    {"readmissing / after compact", {"0.28 / 1.1 M", "0.20 / 2.4-4.2 M", "0.45 / 1.1 M"}},
    {"readseq / after compact", {"2.3 / 3.2 M", "4.1 / 11 M", "4.7 / 15 M"}},
    {"seek and 10 entries / after compact", {"43 / 102 k", "9 / 20 k", "27 / 71 k"}},
    {"readwhilewriting: reads + writes", {"101 k + 124 k", "47 k + 116 k", "160 k + 273 k"}},
    {"recovery of 400,000 puts", {"1.89 s", "2.25 s", "not implemented"}},
    {"disk for 116 MB", {"118 MB", "126 MB", "869 MB"}},
};

#define KNOWN_COUNT (sizeof known / sizeof *known)

static const struct design {
    const char *name;
    const char *text;
} designs[] = {
    {"TidesDB",
     "An LSM tree of blocks of 64 KiB, which a point read has to go through even when all is in "
     "memory (17 to 23 us there); keys that are missing are found so by the filter first, and "
     "fast. "
     "A commit is one pwritev. One process. Its makers publish writes 1.3 to 10 times as fast as "
     "RocksDB's, in batches of 1000 from 8 threads and without syncs, and, for version 9.2.1, "
     "random reads from a cold cache 0.49 times as fast. Their seeks 24 times as fast were not "
     "seen "
     "in that sitting: 0.2 times."},
    {"SplinterDB",
     "A tree of B-trees with routing filters and pages of 4 KiB, made for fast devices; the best "
     "rate of inserts of all. It has no call that makes a commit durable, and its documentation "
     "says that recovery is not implemented. Range scans cost much processor time (14 to 37 us for "
     "a seek and 10 entries there; others have published the same in 2022). One process."},
};

#define DESIGN_COUNT (sizeof designs / sizeof *designs)

void elsewhere_print_html(FILE *file)
{
    fprintf(file, "<h2>" TITLE "</h2>\n<p>%s</p>\n<ul>\n", caveat);
    for (size_t i = 0; i < DESIGN_COUNT; i++)
        fprintf(file, "<li><b>%s.</b> %s</li>\n", designs[i].name, designs[i].text);
    fprintf(file, "</ul>\n<p>%s</p>\n<div class=\"wide\"><table><tr><th class=\"t\">workload</th>",
            setting);
    for (size_t p = 0; p < PEERS; p++)
        fprintf(file, "<th>%s</th>", names[p]);
    fputs("</tr>\n", file);
    for (size_t i = 0; i < KNOWN_COUNT; i++) {
        fprintf(file, "<tr><td class=\"t\">%s</td>", known[i].workload);
        for (size_t p = 0; p < PEERS; p++)
            fprintf(file, "<td>%s</td>", known[i].figures[p]);
        fputs("</tr>\n", file);
    }
    fputs("</table></div>\n", file);
}

void elsewhere_print_markdown(FILE *file)
{
    fprintf(file, "\n### " TITLE "\n\n%s\n", caveat);
    for (size_t i = 0; i < DESIGN_COUNT; i++)
        fprintf(file, "\n- **%s.** %s", designs[i].name, designs[i].text);
    fprintf(file, "\n\n%s\n\n| workload |", setting);
    for (size_t p = 0; p < PEERS; p++)
        fprintf(file, " %s |", names[p]);
    fprintf(file, "\n|---|");
    for (size_t p = 0; p < PEERS; p++)
        fprintf(file, "--:|");
    for (size_t i = 0; i < KNOWN_COUNT; i++) {
        fprintf(file, "\n| %s |", known[i].workload);
        for (size_t p = 0; p < PEERS; p++)
            fprintf(file, " %s |", known[i].figures[p]);
    }
    fprintf(file, "\n");
}
