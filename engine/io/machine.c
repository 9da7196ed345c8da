/*
 * Who and where we are, by system calls: this process and its machine, which file a handle means
 * and what kind of file system a directory is on. What cannot be told is left empty.
 */
#include "engine/io/host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The first line of a small file under /proc, cut to fit; empty when it cannot be read. */
static void read_line(const char *path, char *line, size_t size)
{
    line[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t got = read(fd, line, size - 1);
    line[got > 0 ? got : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    close(fd);
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

/* The value of a line of /proc/<thread>/status, or NULL. */
static const char *find_field(const char *status, const char *name)
{
    const char *at = strstr(status, name);
    return at == NULL ? NULL : at + strlen(name) + strspn(at + strlen(name), " \t");
}

void host_describe_thread(struct io *io, int64_t thread, struct io_thread *found)
{
    (void)io;
    char path[48], status[1024];
    snprintf(path, sizeof path, "/proc/%lld/status", (long long)thread);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t got = read(fd, status, sizeof status - 1);
    close(fd);
    status[got > 0 ? got : 0] = '\0';
    const char *name = find_field(status, "Name:"), *state = find_field(status, "\nState:"),
               *group = find_field(status, "\nTgid:");
    if (name == NULL || state == NULL || group == NULL)
        return;
    size_t length = strcspn(name, "\n");
    if (length >= sizeof found->command)
        length = sizeof found->command - 1;
    memcpy(found->command, name, length);
    found->is_stopped = *state == 'T' || *state == 't';
    found->pid = strtoll(group, NULL, 10);
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
