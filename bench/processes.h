/*
 * A workload shared by several processes that have one database open. The first process, whose
 * figures are reported, keeps its handle but does no operation; the others are this program again,
 * given --child=PLACE, the place being their number, the descriptor of memory that all share, and
 * that of the first one's witness or -1.
 */
#ifndef BENCH_PROCESSES_H
#define BENCH_PROCESSES_H

#include "bench/run.h"

#include <sys/types.h>

/* Starts this program again with other arguments, silent on stdout. Ended by process_wait(). */
pid_t process_spawn(char *const arguments[]);

/* Returns when it has ended well, dies when it has not. */
void process_wait(pid_t child);

/* The bench's command line, then `count` more arguments that override it; owned by the caller. */
char **process_arguments(const struct bench *b, char *const more[], size_t count);

/* Runs `workload` in --processes processes, and adds up what they have done. */
void processes_run(struct bench *b, const struct workload *workload, struct result *result,
                   struct result *beside);

/* In a child, before the database is opened: finds its place. Then its share of the work. */
void process_child_begin(struct bench *b);
void process_child_run(struct bench *b, const struct workload *workload);

#endif
