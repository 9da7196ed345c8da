/*
 * A file read by a thread of its own, some pieces ahead of who uses them: copying out of the page
 * cache costs a third of what it costs to understand the bytes. For regular files, where a read
 * always ends soon; what may wait for somebody, a pipe or a terminal, is read in the caller's
 * thread, which a signal can wake.
 */
#ifndef TOOLS_CLI_READ_AHEAD_H
#define TOOLS_CLI_READ_AHEAD_H

#include <stdbool.h>
#include <stddef.h>

struct read_ahead;

/* Bytes before each piece that its user may write to, to put what was left of the last one there.
 */
#define READ_AHEAD_HEADROOM ((size_t)16 << 10)

/* Goes on where the descriptor stands, which is the thread's until the end. NULL: no thread could
 * be made, and nothing was read. */
struct read_ahead *read_ahead_start(int descriptor);

/* The next piece, the caller's until the next call. False: *os_errno is 0 at the end of the file,
 * or says what failed behind the pieces so far; there is no next call. */
bool read_ahead_next(struct read_ahead *a, char **bytes, size_t *size, int *os_errno);

/* Waits for a read that is on its way. NULL is allowed. */
void read_ahead_stop(struct read_ahead *a);

#endif
