#include "tests/lib/folder.h"

#include "tests/lib/model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Noreturn static void die(const char *what, const char *name)
{
    fprintf(stderr, "%s '%s': %s\n", what, name, strerror(errno));
    exit(99);
}

void folder_release(struct folder *f)
{
    for (size_t i = 0; i < f->count; i++)
        free(f->files[i].bytes);
    free(f->files);
    *f = (struct folder){0};
}

/* Where `name` stands, or would. */
static size_t search(const struct folder *f, const char *name)
{
    size_t i = 0;
    while (i < f->count && strcmp(f->files[i].name, name) < 0)
        i++;
    return i;
}

uint64_t folder_size(const struct folder *f)
{
    uint64_t size = 0;
    for (size_t i = 0; i < f->count; i++)
        size += f->files[i].size;
    return size;
}

struct folder_file *folder_find(const struct folder *f, const char *name)
{
    size_t i = search(f, name);
    return i < f->count && strcmp(f->files[i].name, name) == 0 ? &f->files[i] : NULL;
}

/* A file of that name, empty. */
static struct folder_file *make_file(struct folder *f, const char *name)
{
    struct folder_file *found = folder_find(f, name);
    if (found != NULL) {
        free(found->bytes);
        found->bytes = NULL;
        found->size = 0;
        return found;
    }
    size_t at = search(f, name);
    f->files = test_resize(f->files, (f->count + 1) * sizeof *f->files);
    memmove(&f->files[at + 1], &f->files[at], (f->count - at) * sizeof *f->files);
    f->count++;
    f->files[at] = (struct folder_file){.size = 0};
    snprintf(f->files[at].name, sizeof f->files[at].name, "%s", name);
    return &f->files[at];
}

void folder_put(struct folder *f, const char *name, const void *bytes, size_t size)
{
    uint8_t *copy = test_alloc(size);
    if (size > 0)
        memcpy(copy, bytes, size);
    struct folder_file *file = make_file(f, name);
    file->bytes = copy;
    file->size = size;
}

void folder_remove(struct folder *f, const char *name)
{
    size_t at = search(f, name);
    if (folder_find(f, name) == NULL)
        return;
    free(f->files[at].bytes);
    f->count--;
    memmove(&f->files[at], &f->files[at + 1], (f->count - at) * sizeof *f->files);
}

void folder_resize(struct folder_file *file, size_t size)
{
    file->bytes = test_resize(file->bytes, size);
    if (size > file->size)
        memset(file->bytes + file->size, 0, size - file->size);
    file->size = size;
}

void folder_copy(struct folder *to, const struct folder *from)
{
    struct folder made = {.count = from->count};
    made.files = test_alloc(from->count * sizeof *made.files);
    for (size_t i = 0; i < from->count; i++) {
        made.files[i] = from->files[i];
        made.files[i].bytes = test_alloc(from->files[i].size);
        if (from->files[i].size > 0)
            memcpy(made.files[i].bytes, from->files[i].bytes, from->files[i].size);
    }
    folder_release(to);
    *to = made;
}

/* ---- directories ----------------------------------------------------------------------------- */

static void read_file(int directory, struct folder *f, const char *name)
{
    struct stat info;
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && (errno == ELOOP || errno == ENXIO || errno == ENOENT))
        return;
    if (fd < 0 || fstat(fd, &info) != 0)
        die("cannot read", name);
    if (S_ISREG(info.st_mode)) {
        size_t size = (size_t)info.st_size;
        uint8_t *bytes = test_alloc(size);
        if (size > 0 && pread(fd, bytes, size, 0) != (ssize_t)size)
            die("cannot read all of", name);
        struct folder_file *file = make_file(f, name);
        file->bytes = bytes;
        file->size = size;
    }
    close(fd);
}

void folder_load(struct folder *f, const char *path)
{
    folder_release(f);
    DIR *directory = opendir(path);
    if (directory == NULL)
        die("cannot list", path);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (strlen(entry->d_name) < FOLDER_NAME_SIZE)
            read_file(dirfd(directory), f, entry->d_name);
    }
    closedir(directory);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    return where->level == 0 ? 0 : remove(path);
}

static void write_file(int directory, const struct folder_file *file)
{
    int fd = openat(directory, file->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || (file->size > 0 && pwrite(fd, file->bytes, file->size, 0) != (ssize_t)file->size))
        die("cannot write", file->name);
    close(fd);
}

void folder_store(const struct folder *f, const char *path)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        die("cannot make", path);
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        die("cannot empty", path);
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        die("cannot open", path);
    for (size_t i = 0; i < f->count; i++)
        write_file(directory, &f->files[i]);
    close(directory);
}

/* ---- comparing ------------------------------------------------------------------------------- */

__attribute__((format(printf, 1, 2))) static const char *sentence(const char *format, ...)
{
    static char text[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return text;
}

static const char *file_difference(const struct folder_file *a, const struct folder_file *b)
{
    if (a->size != b->size)
        return sentence("'%s' has %zu bytes and %zu", a->name, a->size, b->size);
    for (size_t i = 0; i < a->size; i++) {
        if (a->bytes[i] != b->bytes[i])
            return sentence("'%s' differs at offset %zu: 0x%02x and 0x%02x", a->name, i,
                            a->bytes[i], b->bytes[i]);
    }
    return NULL;
}

static const char *missing_in(const struct folder *there, const struct folder *in)
{
    for (size_t i = 0; i < there->count; i++) {
        const char *name = there->files[i].name;
        if (strcmp(name, "LOCK") != 0 && folder_find(in, name) == NULL)
            return sentence("'%s' is in one of them only", name);
    }
    return NULL;
}

const char *folder_difference(const struct folder *a, const struct folder *b)
{
    const char *difference = missing_in(a, b);
    if (difference == NULL)
        difference = missing_in(b, a);
    for (size_t i = 0; i < a->count && difference == NULL; i++) {
        if (strcmp(a->files[i].name, "LOCK") != 0)
            difference = file_difference(&a->files[i], folder_find(b, a->files[i].name));
    }
    return difference;
}
