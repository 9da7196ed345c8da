/*
 * Who and where we are, by system calls: this process and its machine, which file a handle means
 * and what kind of file system a directory is on. What cannot be told is left empty.
 */
#include "engine/io/host.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The head of a small file under /proc, cut to fit; empty when it cannot be read. */
static size_t read_small(const char *path, char *text, size_t size)
{
    text[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, size - 1);
    text[got > 0 ? got : 0] = '\0';
    close(fd);
    return got > 0 ? (size_t)got : 0;
}

/* Its first line. */
static void read_line(const char *path, char *line, size_t size)
{
    (void)read_small(path, line, size);
    line[strcspn(line, "\n")] = '\0';
}

void host_describe_process(struct io *io, struct io_process *process)
{
    (void)io;
    struct stat about;
    read_line("/proc/sys/kernel/random/boot_id", process->boot_id, sizeof process->boot_id);
    read_line("/proc/self/comm", process->command, sizeof process->command);
    process->pid_namespace = stat("/proc/self/ns/pid", &about) == 0 ? about.st_ino : 0;
    process->pid = getpid();
}

/* The value behind `name` in a /proc/ID/status; empty when it is not there. */
static const char *status_value(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at == NULL ? "" : at + strlen(name) + strspn(at + strlen(name), " \t");
}

void host_describe_thread(struct io *io, int64_t id, struct io_thread *thread)
{
    (void)io;
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/%" PRId64 "/status", id);
    if (id <= 0 || read_small(path, text, sizeof text) == 0)
        return;
    const char *name = status_value(text, "Name:");
    snprintf(thread->command, sizeof thread->command, "%.*s", (int)strcspn(name, "\n"), name);
    thread->state = status_value(text, "\nState:")[0];
    thread->is_stopped = thread->state == 'T' || thread->state == 't';
    thread->pid = strtoll(status_value(text, "\nTgid:"), NULL, 10);
}

int host_file_identity(struct io_file *file, struct io_identity *identity)
{
    struct stat about;
    if (fstat(((struct host_file *)file)->fd, &about) != 0)
        return errno;
    *identity = (struct io_identity){.device = about.st_dev, .inode = about.st_ino};
    return 0;
}

int host_dir_real_path(struct io_dir *dir, char *path, size_t size)
{
    char real[PATH_MAX];
    if (realpath(dir->path, real) == NULL)
        return errno;
    size_t length = strlen(real);
    if (length >= size)
        return ENAMETOOLONG;
    memcpy(path, real, length + 1);
    return 0;
}

static const struct {
    uint32_t magic;
    const char *name;
} remote_systems[] = {
    {0x6969u, "NFS"},      {0x517bu, "SMB"},      {0xff534d42u, "CIFS"},   {0xfe534d42u, "SMB2"},
    {0x01021997u, "9p"},   {0x65735546u, "FUSE"}, {0x564cu, "NCP"},        {0x5346414fu, "AFS"},
    {0x00c36400u, "Ceph"}, {0x73757245u, "Coda"}, {0x0bd00bd0u, "Lustre"},
};

const char *host_dir_remote_name(struct io_dir *dir)
{
    struct statfs about;
    if (fstatfs(((struct host_dir *)dir)->fd, &about) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof remote_systems / sizeof *remote_systems; i++)
        if (remote_systems[i].magic == (uint32_t)about.f_type)
            return remote_systems[i].name;
    return NULL;
}

uint64_t host_dir_free_bytes(struct io_dir *dir)
{
    struct statfs about;
    if (fstatfs(((struct host_dir *)dir)->fd, &about) != 0 || about.f_blocks == 0)
        return UINT64_MAX; /* a tmpfs without a limit has no blocks at all */
    return (uint64_t)about.f_bavail * (uint64_t)about.f_bsize;
}

/* One of the words between commas? */
static bool has_option(const char *options, const char *word)
{
    size_t length = strlen(word);
    while (*options != '\0') {
        size_t size = strcspn(options, ", \n");
        if (size == length && memcmp(options, word, size) == 0)
            return true;
        options += size;
        options += strspn(options, ", \n");
    }
    return false;
}

bool host_dir_lacks_barriers(struct io_dir *dir)
{
    struct stat about;
    char line[4096], device[48];
    if (fstat(((struct host_dir *)dir)->fd, &about) != 0)
        return false;
    snprintf(device, sizeof device, "%u:%u", major(about.st_dev), minor(about.st_dev));
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    bool lacks = false;
    while (mounts != NULL && fgets(line, sizeof line, mounts) != NULL) {
        /* id, parent, device, ..., "-", type, source, options of the file system */
        char found[48];
        const char *end = strstr(line, " - ");
        if (end == NULL || sscanf(line, "%*u %*u %47s", found) != 1 || strcmp(found, device) != 0)
            continue;
        lacks = has_option(end + 3, "nobarrier") || has_option(end + 3, "barrier=0");
        break;
    }
    if (mounts != NULL)
        (void)fclose(mounts);
    return lacks;
}
