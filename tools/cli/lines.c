#include "tools/cli/lines.h"

#include "tools/cli/cli.h"
#include "tools/cli/read_ahead.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINES_CHUNK ((size_t)256 << 10)
#define AHEAD_FROM  ((uint64_t)4 << 20) /* bytes of a file that are worth a thread */

bool lines_open(struct lines *l, const char *path)
{
    struct stat facts;
    *l = (struct lines){.descriptor = STDIN_FILENO};
    if (path != NULL) {
        l->descriptor = open(path, O_RDONLY | O_CLOEXEC);
        l->is_owner = true;
    }
    if (l->descriptor < 0 || fstat(l->descriptor, &facts) != 0) {
        l->os_errno = errno;
        return false;
    }
    if (S_ISDIR(facts.st_mode)) {
        l->os_errno = EISDIR;
        return false;
    }
    l->size = S_ISREG(facts.st_mode) ? (uint64_t)facts.st_size : 0;
    return true;
}

void lines_open_memory(struct lines *l, lsm_slice bytes)
{
    *l = (struct lines){.descriptor = -1, .at_end = true, .size = bytes.size};
    text_append(&l->buffer, bytes.data, bytes.size);
    l->bytes = l->buffer.bytes;
    l->filled = bytes.size;
}

void lines_close(struct lines *l)
{
    read_ahead_stop(l->ahead);
    if (l->is_owner && l->descriptor >= 0)
        close(l->descriptor);
    text_release(&l->buffer);
    *l = (struct lines){.descriptor = -1};
}

/* Keeps what was not handed out, at the beginning of the buffer. */
static void lines_keep(struct lines *l)
{
    size_t left = l->filled - l->consumed;
    if (l->bytes != l->buffer.bytes) {
        text_clear(&l->buffer);
        text_append(&l->buffer, l->bytes + l->consumed, left);
    } else if (l->consumed > 0) {
        memmove(l->buffer.bytes, l->bytes + l->consumed, left);
    }
    l->buffer.size = left;
    l->bytes = l->buffer.bytes;
    l->filled = left;
    l->consumed = 0;
}

/* Reads one more chunk behind what is kept. */
static bool lines_read(struct lines *l)
{
    /* A long line doubles the chunk, so that it is not moved once per chunk. */
    size_t wanted = l->filled < LINES_CHUNK ? LINES_CHUNK : l->filled;
    char *to = text_reserve(&l->buffer, wanted);
    for (;;) {
        ssize_t got = read(l->descriptor, to, wanted);
        if (got >= 0) {
            l->buffer.size += (size_t)got;
            l->bytes = l->buffer.bytes;
            l->filled = l->buffer.size;
            l->read += (uint64_t)got;
            l->at_end = got == 0;
            return got > 0;
        }
        if (errno != EINTR || cli_is_cancelled()) {
            l->os_errno = errno;
            return false;
        }
    }
}

/* The same from the thread that reads ahead: what is kept goes before its piece, or, of a long
 * line, the piece behind it. */
static bool lines_take_piece(struct lines *l)
{
    char *piece = NULL;
    size_t size = 0;
    if (!read_ahead_next(l->ahead, &piece, &size, &l->os_errno)) {
        l->at_end = l->os_errno == 0;
        return false;
    }
    if (l->filled <= READ_AHEAD_HEADROOM) {
        piece -= l->filled;
        if (l->filled > 0)
            memcpy(piece, l->bytes, l->filled);
        l->bytes = piece;
        l->filled += size;
    } else {
        text_append(&l->buffer, piece, size);
        l->bytes = l->buffer.bytes;
        l->filled = l->buffer.size;
    }
    return true;
}

static bool lines_fill(struct lines *l)
{
    if (l->at_end || l->os_errno != 0)
        return false;
    lines_keep(l);
    if (l->ahead == NULL && l->size >= AHEAD_FROM && l->read == LINES_CHUNK)
        l->ahead = read_ahead_start(l->descriptor);
    return l->ahead == NULL ? lines_read(l) : lines_take_piece(l);
}

int lines_peek(struct lines *l)
{
    if (l->consumed == l->filled && !lines_fill(l))
        return -1;
    return (unsigned char)l->bytes[l->consumed];
}

static lsm_slice lines_hand_out(struct lines *l, size_t size)
{
    lsm_slice line = {l->bytes + l->consumed, size};
    size_t taken = size + (l->has_lf ? 1 : 0);
    l->consumed += taken;
    l->offset += taken;
    l->number++;
    if (l->strip_cr && size > 0 && ((const char *)line.data)[size - 1] == '\r')
        line.size--;
    return line;
}

enum lines_result lines_next(struct lines *l, lsm_slice *line)
{
    size_t searched = 0;
    for (;;) {
        size_t left = l->filled - l->consumed;
        const char *start = left == 0 ? NULL : l->bytes + l->consumed;
        const char *lf = NULL;
        if (left > searched)
            lf = memchr(start + searched, '\n', left - searched);
        if (lf != NULL) {
            l->has_lf = true;
            *line = lines_hand_out(l, (size_t)(lf - start));
            return LINES_LINE;
        }
        searched = left;
        if (left > LINES_LONGEST)
            return LINES_FAILED;
        if (lines_fill(l))
            continue;
        if (l->os_errno != 0)
            return LINES_FAILED;
        if (left == 0)
            return LINES_END;
        l->has_lf = false;
        *line = lines_hand_out(l, left);
        return LINES_LINE;
    }
}
