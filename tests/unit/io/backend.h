/* One environment and one empty directory on a chosen backend, for the tests of engine/io. */
#ifndef TESTS_UNIT_IO_BACKEND_H
#define TESTS_UNIT_IO_BACKEND_H

#include "engine/io/sim.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKEND_COUNT 3

static const char *const backend_names[BACKEND_COUNT] = {"uring", "posix", "sim"};

struct backend {
    struct sim_disk *disk; /* NULL on the host */
    struct io *io;
    struct io_dir *dir;
    char path[200];
};

#define ck_ok(call)                                                                                \
    do {                                                                                           \
        lsm_error ck_error = {0};                                                                  \
        lsm_error *err = &ck_error;                                                                \
        lsm_status ck_status = (call);                                                             \
        ck_assert_msg(ck_status == LSM_OK, "%s: %d %s", #call, (int)ck_status, ck_error.message);  \
    } while (0)

static inline void backend_make_directory(struct backend *b)
{
    const char *root = getenv("TMPDIR");
    snprintf(b->path, sizeof b->path, "%s/lsm-io-XXXXXX", root != NULL ? root : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(b->path));
}

/* False, with the reason printed, where the backend is refused. */
static inline bool backend_open(struct backend *b, int index)
{
    *b = (struct backend){0};
    lsm_error error = {0};
    if (strcmp(backend_names[index], "sim") == 0) {
        b->disk = sim_disk_new(42);
        ck_assert_ptr_nonnull(b->disk);
        snprintf(b->path, sizeof b->path, "disk/db");
        ck_ok(sim_open(b->disk, &b->io, err));
        ck_ok(io_dir_open(b->io, b->path, IO_DIR_CREATE, 0, &b->dir, err));
        return true;
    }
    lsm_status status = io_open(backend_names[index], &b->io, &error);
    if (status == LSM_UNSUPPORTED) {
        printf("skipped on %s: %s\n", backend_names[index], error.message);
        return false;
    }
    ck_assert_msg(status == LSM_OK, "%s", error.message);
    backend_make_directory(b);
    ck_ok(io_dir_open(b->io, b->path, 0, 0, &b->dir, err));
    return true;
}

static inline lsm_status backend_unlink_visit(void *context, const char *name, lsm_error *err)
{
    return io_dir_unlink(context, name, NULL, err);
}

static inline void backend_close(struct backend *b)
{
    ck_ok(io_dir_list(b->dir, backend_unlink_visit, b->dir, err));
    io_dir_close(b->dir);
    ck_ok(io_dir_remove(b->io, b->path, err));
    io_close(b->io);
    sim_disk_free(b->disk);
}

static inline struct io_file *backend_file(struct backend *b, const char *name, unsigned flags)
{
    struct io_file *file = NULL;
    ck_ok(io_file_open(b->dir, name, flags, 0, &file, err));
    return file;
}

static inline void *backend_pages(size_t size, int byte)
{
    void *memory = aligned_alloc(IO_ALIGNMENT, size);
    ck_assert_ptr_nonnull(memory);
    memset(memory, byte, size);
    return memory;
}

static inline int backend_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}

#endif
