/*
 * Where a dump goes: stdout, or a file that appears whole or not at all. A file is written under a
 * temporary name beside its own, synced and renamed by output_commit(); until then a file that was
 * there before stays as it was. What is no regular file (a pipe, /dev/null) is written directly.
 */
#ifndef TOOLS_CLI_OUTPUT_H
#define TOOLS_CLI_OUTPUT_H

#include "tools/cli/text.h"

struct output {
    int descriptor;
    char *path;      /* owned; NULL: stdout */
    char *temporary; /* owned; NULL: written directly */
    struct text pending;
    uint64_t byte_count; /* put so far */
    int os_errno;        /* of the first failure; every later write does nothing */
};

/* Each returns false with os_errno set on failure. path NULL: stdout. */
bool output_open(struct output *o, const char *path);
/* Hands on what is pending when there is enough of it. Lines are appended to o->pending. */
bool output_put(struct output *o);
/* Writes everything; a file is synced and gets its name. */
bool output_commit(struct output *o);
/* Frees, and removes a file that was not committed. To stdout goes what was put. */
void output_close(struct output *o);

#endif
