#include "bench/files.h"

#include "bench/options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MODE      0600
#define DIRECTORY_MODE 0700
#define COPY_SIZE      ((size_t)1 << 30)

static int open_file(const char *directory, const char *name, int flags)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", directory, name) < 0)
        die("out of memory");
    int file = open(path, flags | O_CLOEXEC, FILE_MODE);
    if (file < 0)
        die("cannot open '%s': %s", path, strerror(errno));
    free(path);
    return file;
}

void files_make_directory(const char *path)
{
    if (mkdir(path, DIRECTORY_MODE) != 0)
        die("cannot make '%s': %s", path, strerror(errno));
}

void files_copy(const char *from, const char *to, const char *name)
{
    int source = open_file(from, name, O_RDONLY);
    int target = open_file(to, name, O_WRONLY | O_CREAT | O_EXCL);
    ssize_t copied;
    while ((copied = copy_file_range(source, NULL, target, NULL, COPY_SIZE, 0)) > 0)
        ;
    if (copied < 0 || fsync(target) != 0)
        die("cannot copy '%s/%s' to '%s': %s", from, name, to, strerror(errno));
    close(source);
    close(target);
}

void files_sync(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fsync(file) != 0)
        die("cannot sync '%s': %s", path, strerror(errno));
    close(file);
}
