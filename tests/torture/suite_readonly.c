/*
 * A database that cannot be written: its files and its directory belong to somebody else. Reading
 * and verifying work and change nothing; whatever has to write fails with a sentence.
 */
#include "tests/torture/bed.h"
#include "tests/torture/examine.h"
#include "tests/torture/reading.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

/* Modes of the directory and of its files, for somebody who is not the owner. */
static const struct access {
    const char *text;
    mode_t directory, files;
    bool readable;
} accesses[] = {
    {"may be read", 0555, 0444, true},
    {"may be read by name only", 0511, 0444, false},
    {"may be listed, but not read", 0555, 0400, false},
    {"is closed", 0500, 0400, false},
};
#define ACCESSES (sizeof accesses / sizeof accesses[0])

static void set_modes(struct torture *t, const struct folder *files, const struct access *access)
{
    char path[SCRATCH_PATH_SIZE + 16 + FOLDER_NAME_SIZE];
    for (size_t i = 0; i < files->count; i++) {
        snprintf(path, sizeof path, "%s/%s", t->path, files->files[i].name);
        chmod(path, access->files);
    }
    chmod(t->path, access->directory);
    chmod(t->scratch, 0755);
}

static void become_nobody(void)
{
    if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0))
        _exit(99);
}

static void read_it(struct bed *bed, const struct access *access)
{
    struct torture *t = bed->torture;
    struct reading reading;
    struct reading_setup setup = {.path = t->path,
                                  .shm_dir = t->scratch,
                                  .options = SPECIMEN_OPTIONS ",read_only=true",
                                  .model = &bed->specimen.model};
    reading_take(&setup, &reading);
    torture_check(t, reading.wrong_count == 0, "a wrong answer: %s", reading.wrong);
    if (access->readable)
        torture_check(t, reading.failed_count == 0, "reading: %s", reading.failed);
    else
        torture_check(t, reading.status != LSM_OK && reading.failed[0] != '\0',
                      "opened although it cannot be read");
}

static void use_it(struct bed *bed, const struct access *access)
{
    struct torture *t = bed->torture;
    struct examination e = {0};
    struct mending m = {0};
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_error err = {0};
    lsm_db *db = NULL;
    read_it(bed, access);
    options.shm_dir = t->scratch;
    torture_check(t, lsm_open(t->path, &options, &db, &err) != LSM_OK && err.message[0] != '\0',
                  "opened for writing");
    examination_take(&e, t->path, t->io);
    if (access->readable)
        torture_check(t, e.status == LSM_OK && e.damage_count == 0, "verify: %s%s", e.failed,
                      examination_text(&e));
    else
        torture_check(t, e.status != LSM_OK || e.unclean_count > 0,
                      "verify finds nothing wrong with what it cannot read");
    examination_release(&e);
    mending_take(&m, t->path, t->io);
    torture_check(t, m.status != LSM_OK ? m.failed[0] != '\0' : !m.has_changed,
                  "repair fails without a word, or says that it changed something");
    mending_release(&m);
    torture_check(t, lsm_destroy(t->path, &err) != LSM_OK && err.message[0] != '\0',
                  "lsm_destroy() did it");
}

/* In a process of its own, which has given up its rights. */
static void try_as_nobody(struct bed *bed, const struct access *access)
{
    struct torture *t = bed->torture;
    struct folder after = {0};
    int status = 0;
    uint64_t before = t->failure_count, checks = t->check_count;
    torture_case(t, "somebody else's database that %s", access->text);
    folder_store(&bed->specimen.files, t->path);
    set_modes(t, &bed->specimen.files, access);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        become_nobody();
        alarm(TORTURE_CASE_SECONDS);
        use_it(bed, access);
        fflush(stdout);
        _exit(t->failure_count > before);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    t->check_count = checks + 6;
    torture_check(t, child > 0 && status == 0, "status %d of who tried", status);
    chmod(t->path, 0700);
    folder_load(&after, t->path);
    const char *difference = folder_difference(&bed->specimen.files, &after);
    torture_check(t, difference == NULL && folder_find(&after, "LOCK") != NULL,
                  "it was changed: %s", difference);
    folder_release(&after);
}

int suite_readonly(struct torture *t)
{
    struct bed bed;
    if (bed_begin(&bed, t)) {
        for (size_t i = 0; i < ACCESSES; i++)
            try_as_nobody(&bed, &accesses[i]);
    }
    bed_end(&bed);
    return TORTURE_DONE;
}
