/* Directories for a database and its segments, and attachments to it, for the tests of attach. */
#ifndef TESTS_UNIT_SHM_ATTACH_FIXTURE_H
#define TESTS_UNIT_SHM_ATTACH_FIXTURE_H

#include "engine/shm/attach.h"

#include <check.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ck_ok(call)                                                                                \
    do {                                                                                           \
        lsm_error ck_error = {0};                                                                  \
        lsm_error *err = &ck_error;                                                                \
        lsm_status ck_status = (call);                                                             \
        ck_assert_msg(ck_status == LSM_OK, "%s: %d %s", #call, (int)ck_status, ck_error.message);  \
    } while (0)

static char root[64];
static char db_path[96];
static char shm_path[96];
static struct io *io;
static struct io_dir *db_dir;

static inline void setup(void)
{
    snprintf(root, sizeof root, "/tmp/attach_test.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    snprintf(db_path, sizeof db_path, "%s/db", root);
    snprintf(shm_path, sizeof shm_path, "%s/shm", root);
    ck_assert_int_eq(mkdir(db_path, 0700), 0);
    ck_assert_int_eq(mkdir(shm_path, 0700), 0);
    ck_ok(io_open("posix", &io, err));
    ck_ok(io_dir_open(io, db_path, 0, 0, &db_dir, err));
}

static inline void teardown(void)
{
    io_dir_close(db_dir);
    io_close(io);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    ck_assert_int_eq(system(command), 0);
}

static inline struct shm_attach_options options_in(struct io_dir *dir, unsigned timeout_ms)
{
    return (struct shm_attach_options){.io = io,
                                       .dir = dir,
                                       .path = io_dir_path(dir),
                                       .timeout_ms = timeout_ms,
                                       .allow_remote = true};
}

static inline struct shm_attach_options options(unsigned timeout_ms)
{
    return options_in(db_dir, timeout_ms);
}

static int database = 0xdb; /* every byte of the uuid of the one that is opened */

static inline struct shm_options segment_options(void)
{
    struct shm_options o = {.directory = shm_path, .arena_size = 65536, .memtable_count = 1};
    memset(o.uuid, database, sizeof o.uuid);
    return o;
}

/* Leaves as far as that is possible. */
static inline void give_up(struct shm_attachment *a, bool is_in)
{
    bool is_last;
    if (is_in && shm_detach_begin(a, &is_last, NULL) == LSM_OK)
        shm_detach_end(a);
    else
        shm_attachment_abandon(a);
}

/* Founds and is ready, or joins. */
static inline lsm_status attach_with(const struct shm_attach_options *o,
                                     struct shm_attachment **attachment, enum shm_attach_role *role,
                                     lsm_error *err)
{
    struct shm_attachment *a = NULL;
    struct shm_options so = segment_options();
    bool is_in = false;
    lsm_status status = shm_attach_begin(o, &a, role, err);
    if (status == LSM_OK && *role == SHM_ATTACH_FOUNDER)
        status = shm_attach_found(a, &so, err);
    is_in = status == LSM_OK;
    if (status == LSM_OK && *role == SHM_ATTACH_FOUNDER)
        status = shm_attach_ready(a, err);
    if (status != LSM_OK)
        give_up(a, is_in);
    else
        *attachment = a;
    return status;
}

static inline struct shm_attachment *attach_as(enum shm_attach_role expected)
{
    struct shm_attach_options o = options(5000);
    struct shm_attachment *a = NULL;
    enum shm_attach_role role;
    ck_ok(attach_with(&o, &a, &role, err));
    ck_assert_int_eq(role, expected);
    return a;
}

static inline bool detach(struct shm_attachment *a)
{
    bool is_last = false;
    ck_ok(shm_detach_begin(a, &is_last, err));
    shm_detach_end(a);
    return is_last;
}

static inline int segment_count(void)
{
    DIR *dir = opendir(shm_path);
    ck_assert_ptr_nonnull(dir);
    int count = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

static inline struct shm_slot *slot_of(struct shm_attachment *a, uint32_t index)
{
    return &shm_layout(shm_attachment_segment(a))->slots[index];
}

static inline uint32_t slots_in_use(struct shm_attachment *a)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SHM_MAX_SLOTS; i++)
        count += slot_of(a, i)->state == SHM_SLOT_IN_USE;
    return count;
}

static inline void wait_killed(pid_t child)
{
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "child ended with %x",
                  (unsigned)status);
}

#endif
