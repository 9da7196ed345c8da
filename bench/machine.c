#include "bench/machine.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE     256
#define MAP_LINE_SIZE 5120 /* with a path */

#define QUIET_ROUNDS   5
#define QUIET_ROUND_NS 100000000
#define QUIET_BUSY_S   0.01 /* of the processor in a round */

/* The number behind `name` in a "name: number" file; 0 when it is not there. */
static uint64_t proc_number(const char *path, const char *name)
{
    FILE *file = fopen(path, "r");
    char line[LINE_SIZE];
    unsigned long long value = 0;
    size_t size = strlen(name);
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, size) == 0 && sscanf(line + size, ": %llu", &value) == 1)
            break;
    }
    if (file != NULL)
        fclose(file);
    return value;
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

/* A page of a file counts when it is made dirty, as if it were on its way then. Where the file is
 * removed or cut before the kernel has written it back, it is on no way any more. */
static uint64_t written_bytes(void)
{
    uint64_t dirtied = proc_number("/proc/self/io", "write_bytes");
    uint64_t dropped = proc_number("/proc/self/io", "cancelled_write_bytes");
    return dirtied > dropped ? dirtied - dropped : 0;
}

struct machine_use machine_use_now(void)
{
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    return (struct machine_use){.read_bytes = proc_number("/proc/self/io", "read_bytes"),
                                .written_bytes = written_bytes(),
                                .user_s = seconds_of(usage.ru_utime),
                                .system_s = seconds_of(usage.ru_stime)};
}

uint64_t machine_peak_memory(void)
{
    return proc_number("/proc/self/status", "VmHWM") * 1024;
}

uint64_t machine_shared_memory(void)
{
    static const char status[] = "/proc/self/status";
    return (proc_number(status, "RssFile") + proc_number(status, "RssShmem")) * 1024;
}

uint64_t machine_own_memory(void)
{
    return proc_number("/proc/self/status", "RssAnon") * 1024;
}

/* Of files in the folder, what is in memory and mapped. */
static uint64_t mapped_of(const char *directory)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[MAP_LINE_SIZE], *path = realpath(directory, NULL);
    unsigned long long kilobytes = 0, sum = 0;
    size_t size = path != NULL ? strlen(path) : 0;
    bool is_of = false;
    while (file != NULL && path != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *name = strchr(line, '/');
        if (name != NULL)
            is_of = strncmp(name, path, size) == 0 && name[size] == '/';
        else if (strchr(line, '-') != NULL && strchr(line, '-') < strchr(line, ' '))
            is_of = false; /* a mapping of no file */
        else if (is_of && sscanf(line, "Rss: %llu", &kilobytes) == 1)
            sum += kilobytes;
    }
    if (file != NULL)
        fclose(file);
    free(path);
    return sum * 1024;
}

uint64_t machine_peak_held(const char *directory)
{
    uint64_t peak = machine_peak_memory();
    uint64_t mapped = proc_number("/proc/self/status", "RssFile") * 1024;
    return (peak > mapped ? peak - mapped : 0) + mapped_of(directory);
}

void machine_wait_until_quiet(void)
{
    struct machine_use last = machine_use_now();
    for (int quiet = 0; quiet < QUIET_ROUNDS;) {
        nanosleep(&(struct timespec){.tv_nsec = QUIET_ROUND_NS}, NULL);
        struct machine_use now = machine_use_now();
        double busy_s = now.user_s + now.system_s - last.user_s - last.system_s;
        bool writes = now.written_bytes != last.written_bytes;
        quiet = busy_s > QUIET_BUSY_S || writes ? 0 : quiet + 1;
        last = now;
    }
}

void machine_peak_memory_reset(void)
{
    int file = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return; /* then the peak is that of the process */
    ssize_t written = write(file, "5", 1);
    (void)written;
    close(file);
}

uint64_t machine_disk_bytes(const char *directory)
{
    DIR *folder = opendir(directory);
    uint64_t bytes = 0;
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        struct stat about;
        if (fstatat(dirfd(folder), entry->d_name, &about, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(about.st_mode))
            bytes += (uint64_t)about.st_blocks * 512;
    }
    if (folder != NULL)
        closedir(folder);
    return bytes;
}

void machine_describe(char *text, uint64_t capacity)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[LINE_SIZE], model[LINE_SIZE] = "unknown processor";
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "model name : %255[^\n]", model) == 1)
            break;
    }
    if (file != NULL)
        fclose(file);
    struct utsname kernel = {0};
    uname(&kernel);
    snprintf(text, capacity, "%ld x %s, %s %s", sysconf(_SC_NPROCESSORS_ONLN), model,
             kernel.sysname, kernel.release);
}
