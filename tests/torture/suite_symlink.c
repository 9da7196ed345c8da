/*
 * Something else in the place of each file: links to files inside and outside, to nothing, second
 * names, FIFOs, folders, devices. Nothing outside of the directory may be written, made or
 * destroyed, nothing may hang, and no answer may be wrong.
 */
#include "tests/torture/bed.h"
#include "tests/torture/examine.h"
#include "tests/torture/reading.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum plant {
    LINK_OUTSIDE, /* to the file itself, which was moved out of the directory */
    LINK_NOWHERE, /* to a name outside that nobody has */
    LINK_UP,      /* through ".." to a file outside */
    HARD_LINK,    /* the file has a second name outside */
    FIFO,
    FOLDER,
    DEVICE, /* the null device; root only */
    PLANTS,
};

static const char *const plant_names[PLANTS] = {
    "a link to the file outside",
    "a link to nothing",
    "a link through ..",
    "a hard link",
    "a FIFO",
    "a folder",
    "a device",
};

struct garden {
    struct bed *bed;
    char outside[SCRATCH_PATH_SIZE + 16];
    char target[SCRATCH_PATH_SIZE + 32];
    char place[SCRATCH_PATH_SIZE + 16 + FOLDER_NAME_SIZE];
    struct folder outside_before;
};

static void write_file(const char *path, const struct folder_file *file)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, file->bytes, file->size) != (ssize_t)file->size)
        exit(99);
    close(fd);
}

/* False when it cannot be made here. */
static bool plant(struct garden *g, enum plant what)
{
    switch (what) {
    case LINK_OUTSIDE:
        return symlink(g->target, g->place) == 0;
    case LINK_NOWHERE:
        return symlink("/nowhere/at/all", g->place) == 0;
    case LINK_UP:
        return symlink("../outside/target", g->place) == 0;
    case HARD_LINK:
        return link(g->target, g->place) == 0;
    case FIFO:
        return mkfifo(g->place, 0600) == 0;
    case FOLDER:
        return mkdir(g->place, 0700) == 0;
    default:
        return mknod(g->place, S_IFCHR | 0600, makedev(1, 3)) == 0;
    }
}

static bool prepare(struct garden *g, const char *name, enum plant what)
{
    struct bed *bed = g->bed;
    struct folder outside = {0};
    folder_store(&bed->specimen.files, bed->torture->path);
    folder_store(&outside, g->outside);
    snprintf(g->target, sizeof g->target, "%s/target", g->outside);
    snprintf(g->place, sizeof g->place, "%s/%s", bed->torture->path, name);
    write_file(g->target, folder_find(&bed->specimen.files, name));
    folder_load(&g->outside_before, g->outside);
    return unlink(g->place) == 0 && plant(g, what);
}

/* Nothing outside has changed; a file that is in place under two names is the database's own. */
static void check_outside(struct garden *g, enum plant what, const char *after)
{
    struct folder now = {0};
    folder_load(&now, g->outside);
    const char *difference = folder_difference(&g->outside_before, &now);
    torture_check(g->bed->torture, what == HARD_LINK || difference == NULL,
                  "%s changed what is outside: %s", after, difference);
    folder_release(&now);
}

static void read_it(struct garden *g, const char *options, const char *what)
{
    struct torture *t = g->bed->torture;
    struct reading reading;
    struct reading_setup setup = {.path = t->path,
                                  .shm_dir = t->scratch,
                                  .options = options,
                                  .model = &g->bed->specimen.model};
    reading_take(&setup, &reading);
    torture_check(t, reading.wrong_count == 0, "%s: a wrong answer: %s", what, reading.wrong);
}

static bool is_needed(struct garden *g, const char *name)
{
    for (size_t i = 0; i < g->bed->atlas.part_count; i++) {
        const struct atlas_part *part = &g->bed->atlas.parts[i];
        if (part->is_live && strcmp(part->file, name) == 0)
            return true;
    }
    return false;
}

/* Such a file may have several names: checkpoints share it. */
static bool never_changes(const char *name)
{
    return strstr(name, ".sst") != NULL || strstr(name, ".blob") != NULL;
}

static void verify_and_repair(struct garden *g, const char *name, enum plant what)
{
    struct torture *t = g->bed->torture;
    struct examination e = {0};
    struct mending m = {0};
    examination_take(&e, t->path, t->io);
    if (strcmp(name, "LOCK") == 0 && e.status != LSM_OK) {
        /* Who else is there cannot be told: neither may go on. */
        torture_check(t, e.failed[0] != '\0', "verify refuses without a word");
        examination_release(&e);
        check_outside(g, what, "verify");
        return;
    }
    torture_check(t, e.status == LSM_OK, "verify could not run: %s", e.failed);
    torture_check(t,
                  !is_needed(g, name) || (what == HARD_LINK && never_changes(name)) ||
                      examination_names(&e, name, what == HARD_LINK ? LSM_WARNING : LSM_DAMAGE),
                  "verify does not name it: %s", examination_text(&e));
    examination_release(&e);
    check_outside(g, what, "verify");
    mending_take(&m, t->path, t->io);
    torture_check(t, m.status == LSM_OK, "repair could not: %s", m.failed);
    mending_release(&m);
    check_outside(g, what, "repair");
    if (what == HARD_LINK)
        return;
    examination_take(&e, t->path, t->io);
    torture_check(t, e.damage_count == 0, "not clean after the repair: %s", examination_text(&e));
    examination_release(&e);
}

static void try_file(struct garden *g, const char *name, enum plant what)
{
    struct torture *t = g->bed->torture;
    lsm_error err = {0};
    torture_case(t, "%s is %s", name, plant_names[what]);
    if (!prepare(g, name, what))
        return;
    read_it(g, SPECIMEN_OPTIONS ",read_only=true", "a read-only open");
    check_outside(g, what, "a read-only open");
    verify_and_repair(g, name, what);
    if (prepare(g, name, what))
        read_it(g, SPECIMEN_OPTIONS, "an open");
    check_outside(g, what, "an open");
    /* It may refuse; what it must not do is to reach out of the directory. */
    if (prepare(g, name, what) && lsm_destroy(t->path, &err) != LSM_OK)
        torture_check(t, err.message[0] != '\0', "lsm_destroy() fails without a word");
    check_outside(g, what, "lsm_destroy()");
}

int suite_symlink(struct torture *t)
{
    struct bed bed;
    struct garden g = {.bed = &bed};
    if (bed_begin(&bed, t)) {
        snprintf(g.outside, sizeof g.outside, "%s/outside", t->scratch);
        for (size_t i = 0; i < bed.specimen.files.count; i++) {
            for (int what = 0; what < PLANTS; what++)
                try_file(&g, bed.specimen.files.files[i].name, (enum plant)what);
        }
    }
    folder_release(&g.outside_before);
    bed_end(&bed);
    return TORTURE_DONE;
}
