/* Version 2 of control groups (one tree) and version 1 (a tree for memory alone). */
#include "bench/limit.h"

#include "bench/options.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INSIDE    "LSM_BENCH_MEMORY_LIMITED" /* set for the processes that this one starts */
#define PATH_SIZE 512

static const struct tree {
    const char *root;
    const char *limit_file;
    const char *proc_prefix; /* of this tree's line in /proc/self/cgroup */
} trees[] = {
    {"/sys/fs/cgroup", "memory.max", "0::"},
    {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", ":memory:"},
};

static char group[PATH_SIZE], home[PATH_SIZE]; /* made, and where this process was before */

/* Where there is no such tree there is no such file, and none must be made. */
static bool write_number(const char *folder, const char *name, uint64_t number)
{
    char path[2 * PATH_SIZE], text[32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int size = snprintf(text, sizeof text, "%" PRIu64, number);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    bool written = write(file, text, (size_t)size) == size;
    close(file);
    return written;
}

static void find_home(const struct tree *tree)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    char line[PATH_SIZE];
    snprintf(home, sizeof home, "%s", tree->root);
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *at = strstr(line, tree->proc_prefix);
        line[strcspn(line, "\n")] = '\0';
        if (at != NULL)
            snprintf(home, sizeof home, "%s%.200s", tree->root, at + strlen(tree->proc_prefix));
    }
    if (file != NULL)
        fclose(file);
}

static void leave(void)
{
    if (write_number(home, "cgroup.procs", (uint64_t)getpid()))
        rmdir(group);
}

/* 0, or the error. */
static int enter(const struct tree *tree, uint64_t bytes)
{
    snprintf(group, sizeof group, "%s/lsm-bench.%ld", tree->root, (long)getpid());
    if (mkdir(group, 0700) != 0)
        return errno;
    if (write_number(group, tree->limit_file, bytes) &&
        write_number(group, "cgroup.procs", (uint64_t)getpid()))
        return 0;
    int error = errno;
    rmdir(group);
    return error;
}

void limit_memory(uint64_t bytes)
{
    if (getenv(INSIDE) != NULL)
        return;
    int error = 0;
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        find_home(&trees[i]);
        if ((error = enter(&trees[i], bytes)) != 0)
            continue;
        if (setenv(INSIDE, "1", 1) != 0 || atexit(leave) != 0)
            die("out of memory");
        return;
    }
    die_unable("--memory: cannot make a control group with a memory limit in %s or %s: %s",
               trees[0].root, trees[1].root, strerror(error));
}
