#include "tools/cli/output.h"

#include "tools/cli/cli.h"
#include "tools/cli/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUTPUT_CHUNK ((size_t)256 << 10)

static bool output_failed(struct output *o)
{
    if (o->os_errno == 0)
        o->os_errno = errno;
    return false;
}

/* The file behind `path`, so that a symbolic link stays one. NULL: there is nothing yet. */
static char *resolve(const char *path, mode_t *mode)
{
    struct stat facts;
    if (stat(path, &facts) != 0)
        return NULL;
    *mode = facts.st_mode;
    return realpath(path, NULL);
}

static bool open_temporary(struct output *o, const char *target, mode_t mode)
{
    struct text name = {0};
    text_append_format(&name, "%s.%ld.tmp", target, (long)getpid());
    o->temporary = memory_copy_text(text_string(&name));
    text_release(&name);
    o->descriptor = open(o->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (o->descriptor < 0) {
        output_failed(o);
        memory_free(o->temporary);
        o->temporary = NULL;
        return false;
    }
    if (mode != 0 && fchmod(o->descriptor, mode & 07777) != 0)
        return output_failed(o);
    return true;
}

bool output_open(struct output *o, const char *path)
{
    mode_t mode = 0;
    *o = (struct output){.descriptor = STDOUT_FILENO};
    if (path == NULL)
        return true;
    char *resolved = resolve(path, &mode);
    o->path = memory_copy_text(resolved == NULL ? path : resolved);
    free(resolved);
    if (mode == 0 || S_ISREG(mode))
        return open_temporary(o, o->path, S_ISREG(mode) ? mode : 0);
    o->descriptor = open(o->path, O_WRONLY | O_CLOEXEC);
    return o->descriptor >= 0 || output_failed(o);
}

static bool output_flush(struct output *o)
{
    size_t done = 0;
    while (done < o->pending.size && o->os_errno == 0) {
        ssize_t written = write(o->descriptor, o->pending.bytes + done, o->pending.size - done);
        if (written >= 0)
            done += (size_t)written;
        else if (errno != EINTR || cli_is_cancelled())
            output_failed(o);
    }
    text_clear(&o->pending);
    o->byte_count += done;
    return o->os_errno == 0;
}

bool output_put(struct output *o)
{
    return o->pending.size < OUTPUT_CHUNK || output_flush(o);
}

static bool sync_directory_of(struct output *o)
{
    struct text name = {0};
    const char *slash = strrchr(o->path, '/');
    if (slash == NULL)
        text_append_string(&name, ".");
    else
        text_append(&name, o->path, (size_t)(slash - o->path + 1));
    int directory = open(text_string(&name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_good = directory >= 0 && fsync(directory) == 0;
    if (!is_good)
        output_failed(o);
    if (directory >= 0)
        close(directory);
    text_release(&name);
    return is_good;
}

bool output_commit(struct output *o)
{
    if (!output_flush(o))
        return false;
    if (o->temporary == NULL)
        return true;
    if (fsync(o->descriptor) != 0 || rename(o->temporary, o->path) != 0)
        return output_failed(o);
    memory_free(o->temporary);
    o->temporary = NULL;
    return sync_directory_of(o);
}

void output_close(struct output *o)
{
    if (o->temporary != NULL)
        unlink(o->temporary);
    else
        (void)output_flush(o);
    if (o->path != NULL && o->descriptor >= 0)
        close(o->descriptor);
    text_release(&o->pending);
    memory_free(o->path);
    memory_free(o->temporary);
    *o = (struct output){.descriptor = -1};
}
