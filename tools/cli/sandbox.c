/*
 * Landlock rules hang on inodes, so every path is opened here (O_PATH) and may be renamed later.
 * The kernel's numbers are spelled out where <linux/landlock.h> of an older system lacks them; the
 * version that the running kernel reports decides which of them it is told.
 *
 * Before version 2 a file could not be renamed from one directory into another, which lsm-repair
 * does; such a kernel counts as one without Landlock.
 */
#include "tools/cli/sandbox.h"

#include "engine/shm/attach_page.h"
#include "tools/cli/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LANDLOCK_OLDEST   2
#define LANDLOCK_TRUNCATE 3 /* versions from which the kernel knows more */
#define LANDLOCK_NET      4
#define LANDLOCK_DEVICES  5
#define LANDLOCK_SCOPES   6

#define FS_TRUNCATE     (UINT64_C(1) << 14)
#define FS_IOCTL_DEVICE (UINT64_C(1) << 15)
#define NET_ALL         UINT64_C(3) /* to bind and to connect TCP sockets */
#define SCOPE_ALL       UINT64_C(3) /* abstract UNIX sockets, signals */

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_WRITE                                                                                   \
    (FS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |                    \
     LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |   \
     LANDLOCK_ACCESS_FS_REFER | FS_TRUNCATE)
#define FS_OF_FILES                                                                                \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |   \
     FS_TRUNCATE | FS_IOCTL_DEVICE)
#define FS_VERSION_2 ((UINT64_C(1) << 14) - 1)

#define SHM_DIRECTORY "/dev/shm"
#define NEW_MODE      0700 /* of a directory that is made here, as the engine does */

struct ruleset_attributes { /* struct landlock_ruleset_attr of the newest kernels */
    uint64_t files;
    uint64_t net;
    uint64_t scopes;
};

struct sandbox {
    struct cli *cli;
    int ruleset;
    long version;
    uint64_t handled;
};

static uint64_t handled_of(long version)
{
    uint64_t handled = FS_VERSION_2;
    handled |= version >= LANDLOCK_TRUNCATE ? FS_TRUNCATE : 0;
    handled |= version >= LANDLOCK_DEVICES ? FS_IOCTL_DEVICE : 0;
    return handled;
}

static bool ruleset_make(struct sandbox *s)
{
    struct ruleset_attributes attributes = {
        .files = s->handled, .net = NET_ALL, .scopes = SCOPE_ALL};
    size_t size = sizeof attributes;
    if (s->version < LANDLOCK_SCOPES)
        size = offsetof(struct ruleset_attributes, scopes);
    if (s->version < LANDLOCK_NET)
        size = offsetof(struct ruleset_attributes, net);
    s->ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
    return s->ruleset >= 0;
}

/* What cannot be opened or allowed stays forbidden: who needs it then says so by its name. */
static void allow_descriptor(struct sandbox *s, int fd, uint64_t access)
{
    struct stat about;
    if (fd < 0)
        return;
    if (fstat(fd, &about) == 0) {
        struct landlock_path_beneath_attr rule = {.parent_fd = fd};
        rule.allowed_access = access & s->handled;
        if (!S_ISDIR(about.st_mode))
            rule.allowed_access &= FS_OF_FILES;
        (void)syscall(SYS_landlock_add_rule, s->ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    }
    close(fd);
}

static void allow(struct sandbox *s, const char *path, uint64_t access)
{
    allow_descriptor(s, open(path, O_PATH | O_CLOEXEC), access);
}

/* The directory that `path` is an entry of; owned by the caller. */
static char *directory_of(const char *path)
{
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/')
        size--;
    while (size > 0 && path[size - 1] != '/')
        size--;
    char *directory = memory_copy_text(size == 0 ? "." : path);
    if (size > 0)
        directory[size] = '\0';
    return directory;
}

/* Makes the last directory of the path; whoever uses it says what is wrong when that fails. */
static void make_directory(const char *path)
{
    if (mkdir(path, NEW_MODE) != 0)
        return;
    char *parent = directory_of(path);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    memory_free(parent);
}

static void allow_written_file(struct sandbox *s, const char *path)
{
    struct stat about;
    if (stat(path, &about) == 0 && !S_ISREG(about.st_mode)) {
        allow(s, path, LANDLOCK_ACCESS_FS_WRITE_FILE);
        return;
    }
    char *directory = directory_of(path);
    allow(s, directory, FS_WRITE);
    memory_free(directory);
}

/* ---- the segment ----------------------------------------------------------------------------- */

static bool read_lock_page(const char *directory, struct attach_page *page)
{
    uint8_t bytes[ATTACH_PAGE_SIZE];
    bool is_page = false;
    int at = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd =
        at < 0 ? -1 : openat(at, "LOCK", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0) {
        is_page = read(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes &&
                  attach_page_decode(bytes, page) == LSM_OK;
        close(fd);
    }
    if (at >= 0)
        close(at);
    return is_page;
}

/*
 * Whoever came first chose the segment's directory, and the LOCK page says so; the page may be
 * forged. So it is believed only where the very file lies that it describes, which nobody can forge
 * who cannot write there. Then that file is allowed, and removing it: the last one who leaves does.
 */
static void allow_segment(struct sandbox *s, const char *database)
{
    struct attach_page page;
    struct stat about;
    if (!read_lock_page(database, &page) || strncmp(page.segment_name, "lsm-", 4) != 0 ||
        strchr(page.segment_name, '/') != NULL)
        return;
    int at = open(page.directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return;
    int fd = openat(at, page.segment_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &about) == 0 && S_ISREG(about.st_mode) &&
        about.st_dev == page.segment.device && about.st_ino == page.segment.inode) {
        allow_descriptor(s, fd, FS_WRITE);
        allow_descriptor(s, at, LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE);
        return;
    }
    if (fd >= 0)
        close(fd);
    close(at);
}

static void allow_database(struct sandbox *s, const struct sandbox_wish *wish)
{
    const char *database = s->cli->directory;
    const char *shm = s->cli->options.shm_dir == NULL ? SHM_DIRECTORY : s->cli->options.shm_dir;
    if (wish->creates_database) {
        make_directory(database);
        char *parent = directory_of(database);
        allow(s, parent, LANDLOCK_ACCESS_FS_REMOVE_DIR); /* of directories that are empty */
        memory_free(parent);
    }
    if (s->cli->options.shm_dir != NULL)
        make_directory(shm);
    allow(s, database, wish->writes_database ? FS_WRITE : FS_READ);
    allow(s, shm, FS_WRITE);
    allow_segment(s, database);
    if (wish->writes_database)
        return;
    /* A reader's locks are taken through a descriptor for writing. */
    int at = open(database, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (at >= 0) {
        allow_descriptor(s, openat(at, "LOCK", O_PATH | O_NOFOLLOW | O_CLOEXEC),
                         LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE);
        close(at);
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void allow_all(struct sandbox *s, const struct sandbox_wish *wish)
{
    allow(s, "/proc", FS_READ);
    allow(s, "/sys/devices/system/cpu", FS_READ); /* how many there are */
    if (!wish->has_no_database)
        allow_database(s, wish);
    for (size_t i = 0; wish->read != NULL && wish->read[i] != NULL; i++)
        allow(s, wish->read[i], FS_READ);
    for (size_t i = 0; wish->write_files != NULL && wish->write_files[i] != NULL; i++)
        allow_written_file(s, wish->write_files[i]);
    for (size_t i = 0; wish->write_directories != NULL && wish->write_directories[i] != NULL; i++) {
        make_directory(wish->write_directories[i]);
        allow(s, wish->write_directories[i], FS_WRITE);
    }
}

void sandbox_enter(struct cli *cli, const struct sandbox_wish *wish)
{
    struct sandbox s = {.cli = cli, .ruleset = -1};
    const char *setting = getenv("LSM_SANDBOX");
    if (setting != NULL && strcmp(setting, "off") == 0) {
        cli_note(cli, "not locked in: LSM_SANDBOX=off");
        return;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        cli_note(cli, "not locked in: %s", strerror(errno));
        return;
    }
    s.version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    s.handled = handled_of(s.version);
    if (s.version < LANDLOCK_OLDEST || !ruleset_make(&s)) {
        cli_note(cli, "not locked in: this kernel has no Landlock, or one that is too old");
        return;
    }
    tzset(); /* reads /etc/localtime */
    allow_all(&s, wish);
    if (syscall(SYS_landlock_restrict_self, s.ruleset, 0) == 0)
        cli_note(cli, "locked in with Landlock %ld", s.version);
    else
        cli_note(cli, "not locked in: %s", strerror(errno));
    close(s.ruleset);
}
