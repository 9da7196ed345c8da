/* The lines of a file or of stdin, with their numbers. */
#ifndef TOOLS_CLI_LINES_H
#define TOOLS_CLI_LINES_H

#include "tools/cli/text.h"

/* A value of the longest size in the format that needs most bytes, with room for its wrapping. */
#define LINES_LONGEST (LSM_MAX_VALUE_SIZE * 6 + ((size_t)1 << 20))

enum lines_result {
    LINES_LINE,
    LINES_END,
    LINES_FAILED, /* see os_errno; 0 there: a line is over LINES_LONGEST */
};

struct lines {
    int descriptor;
    bool strip_cr;            /* a CR before the LF belongs to the line's end */
    bool is_owner;            /* of the descriptor */
    struct read_ahead *ahead; /* owned; NULL: it was not worth it so far, or is no regular file */
    char *bytes;              /* what was read and not dropped: of the buffer or of a piece of it */
    size_t filled;
    size_t consumed; /* bytes of them that were handed out */
    struct text buffer;
    uint64_t read;   /* bytes, by this thread */
    bool at_end;     /* read() said so */
    uint64_t size;   /* of the file; 0: not known */
    uint64_t offset; /* of the next line */
    uint64_t number; /* of the line handed out last; from 1 */
    bool has_lf;     /* that line ended with one */
    int os_errno;
};

/* path NULL: stdin. False with os_errno set. */
bool lines_open(struct lines *l, const char *path);
/* For tests: lines of memory, copied. */
void lines_open_memory(struct lines *l, lsm_slice bytes);
void lines_close(struct lines *l);

/* *line is without its LF and valid until the next call. */
enum lines_result lines_next(struct lines *l, lsm_slice *line);
/* The first byte of the next line, or -1 at the end or after a failure. */
int lines_peek(struct lines *l);

#endif
