/*
 * Repairs that are killed at each of their steps, and that run out of space: what is there then is
 * the state before or the one after, and another repair ends at the state after. Repairs of what is
 * open elsewhere are refused and change nothing.
 */
#include "tests/lib/stepping.h"
#include "tests/torture/bed.h"
#include "tests/torture/examine.h"
#include "tests/torture/reading.h"

#include "tests/lib/verdict.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define POINTS_MAX      4096
#define OCCURRENCES_MAX 6 /* of one step, in the quick run */

/* A wound that makes repair do one sort of work. */
static const struct wound {
    const char *text;
    enum atlas_kind kind;
    size_t count;   /* of such parts that are hit */
    size_t bytes;   /* of each: 1 is corrected, more is not */
    const char *in; /* files whose name ends so; NULL: any */
} wounds[] = {
    {"a bit of a block", ATLAS_BLOCK, 1, 1, NULL},
    {"three blocks", ATLAS_BLOCK, 3, 40, NULL},
    {"a dictionary", ATLAS_DICTIONARY, 1, 30, NULL},
    {"a bit of CURRENT", ATLAS_CURRENT, 1, 1, NULL},
    {"the manifest", ATLAS_MANIFEST_FRAME, 2, 30, NULL},
    {"a record of the log", ATLAS_RECORD, 1, 20, NULL},
    {"a bit of a record", ATLAS_RECORD, 1, 1, NULL},
    {"a segment's header", ATLAS_SEGMENT_HEADER, 1, 30, NULL},
    {"footers", ATLAS_FOOTER, 2, 30, NULL},
};
#define WOUNDS (sizeof wounds / sizeof wounds[0])

/* Of a database whose large values are in blob files. */
static const struct wound blob_wounds[] = {
    {"a bit of a blob file", ATLAS_BLOCK, 1, 1, ".blob"},
    {"blocks of blob files", ATLAS_BLOCK, 4, 40, ".blob"},
    {"footers of a blob file", ATLAS_FOOTER, 2, 30, ".blob"},
};
#define BLOB_WOUNDS (sizeof blob_wounds / sizeof blob_wounds[0])

static struct step_record *steps; /* shared with the children */

/* The nth part of that kind that is needed, in such a file. */
static const struct atlas_part *part_of(const struct bed *bed, const struct wound *wound,
                                        size_t index)
{
    if (wound->in == NULL)
        return atlas_nth(&bed->atlas, wound->kind, index);
    for (size_t i = 0; i < bed->atlas.part_count; i++) {
        const struct atlas_part *part = &bed->atlas.parts[i];
        if (part->kind == wound->kind && part->is_live && strstr(part->file, wound->in) != NULL &&
            index-- == 0)
            return part;
    }
    return NULL;
}

static void hurt(struct bed *bed, const struct wound *wound)
{
    bed_clear(bed);
    for (size_t i = 0; i < wound->count; i++) {
        const struct atlas_part *part = part_of(bed, wound, i);
        if (part == NULL)
            continue;
        struct folder_file *file = folder_find(&bed->work, part->file);
        for (size_t k = 0; k < wound->bytes; k++)
            file->bytes[part->offset + part->checked / 2 + k % (part->checked / 2)] ^= 0x10;
    }
    bed->torture->damaged = &bed->work;
}

/* Repairs in a child. It dies at `point`, or finds at most `space` bytes free in any file (0: no
 * limit). */
static int repair_in_child(struct torture *t, struct step_point point, rlim_t space)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct mending m;
        struct rlimit limit = {space, space};
        signal(SIGXFSZ, SIG_IGN);
        alarm(TORTURE_CASE_SECONDS);
        if (space > 0 && setrlimit(RLIMIT_FSIZE, &limit) != 0)
            _exit(99);
        stepping_begin(point.name == NULL ? steps : NULL, point, SIGKILL);
        mending_take(&m, t->path, t->io);
        stepping_end();
        _exit(m.status == LSM_OK ? 0 : 1);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return child > 0 ? status : -1;
}

/* What a repair that nobody disturbs makes of it. */
struct outcome {
    uint64_t counts[SURVEY_KINDS];
};

static void survey(struct bed *bed, struct outcome *outcome)
{
    struct torture *t = bed->torture;
    struct survey survey;
    struct reading_setup setup = {.path = t->path,
                                  .shm_dir = t->scratch,
                                  .options = SPECIMEN_OPTIONS,
                                  .model = &bed->specimen.model};
    survey_take(&setup, NULL, NULL, &survey);
    torture_check(t, survey.status == LSM_OK, "cannot be read: %s", survey.failed);
    torture_check(t, survey.counts[SURVEY_CORRUPT] == 0, "values that were never written");
    memcpy(outcome->counts, survey.counts, sizeof outcome->counts);
}

static void finish(struct bed *bed, const struct outcome *wanted)
{
    struct torture *t = bed->torture;
    struct mending m;
    struct examination e;
    struct outcome outcome;
    mending_take(&m, t->path, t->io);
    torture_check(t, m.status == LSM_OK, "the next repair cannot: %s", m.failed);
    mending_release(&m);
    examination_take(&e, t->path, t->io);
    torture_check(t, e.status == LSM_OK && e.damage_count == 0, "not clean: %s%s", e.failed,
                  examination_text(&e));
    examination_release(&e);
    survey(bed, &outcome);
    for (int kind = SURVEY_RIGHT; kind < SURVEY_KINDS; kind++)
        torture_check(t, outcome.counts[kind] == wanted->counts[kind],
                      "kind %d: %" PRIu64 " keys instead of %" PRIu64, kind, outcome.counts[kind],
                      wanted->counts[kind]);
}

/* What the killed one left may be looked at, and never lies. */
static void look(struct bed *bed)
{
    struct torture *t = bed->torture;
    struct reading reading;
    struct reading_setup setup = {.path = t->path,
                                  .shm_dir = t->scratch,
                                  .options = SPECIMEN_OPTIONS ",read_only=true",
                                  .model = &bed->specimen.model};
    reading_take(&setup, &reading);
    /* After a repair that lost something an old answer is right; a value never written is not. */
    torture_check(t, reading.status != LSM_OK || reading.answer_count > 0, "nothing is there: %s",
                  reading.wrong);
}

static void kill_at_each(struct bed *bed, const struct wound *wound, uint64_t most)
{
    struct torture *t = bed->torture;
    static struct step_point points[POINTS_MAX];
    struct outcome wanted;
    torture_case(t, "repair of %s", wound->text);
    hurt(bed, wound);
    folder_store(&bed->work, t->path);
    atomic_store(&steps->count, 0);
    if (!torture_check(t, repair_in_child(t, (struct step_point){0}, 0) == 0, "repair fails"))
        return;
    survey(bed, &wanted);
    size_t count =
        stepping_points(steps, t->is_full ? UINT_MAX : OCCURRENCES_MAX, points, POINTS_MAX);
    torture_check(t, count > 0, "repair passes no steps");
    uint64_t stride = count > most ? count / most : 1;
    for (size_t i = random_below(&t->random, stride); i < count; i += stride) {
        torture_case(t, "repair of %s killed at '%s' %u", wound->text, points[i].name,
                     points[i].occurrence);
        folder_store(&bed->work, t->path);
        int status = repair_in_child(t, points[i], 0);
        torture_check(t, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                      "it was not killed: status %d", status);
        look(bed);
        finish(bed, &wanted);
    }
}

/* No file can grow beyond a limit, as on a full disk: it fails, and nothing is worse than before.
 */
static void run_out_of_space(struct bed *bed, const struct wound *wound, uint64_t tries)
{
    struct torture *t = bed->torture;
    struct outcome wanted;
    hurt(bed, wound);
    folder_store(&bed->work, t->path);
    if (repair_in_child(t, (struct step_point){0}, 0) != 0)
        return; /* was told before */
    survey(bed, &wanted);
    for (uint64_t i = 0; i < tries; i++) {
        rlim_t space = 1 + random_below(&t->random, 30000);
        torture_case(t, "repair of %s with %" PRIu64 " bytes of space", wound->text,
                     (uint64_t)space);
        folder_store(&bed->work, t->path);
        int status = repair_in_child(t, (struct step_point){0}, space);
        torture_check(t, WIFEXITED(status), "it ended with status %d", status);
        finish(bed, &wanted);
    }
}

/* Somebody has it open: refused. */
static void repair_live(struct bed *bed)
{
    struct torture *t = bed->torture;
    lsm_options options = LSM_OPTIONS_INIT;
    lsm_error err = {0};
    lsm_db *db = NULL;
    struct mending m;
    torture_case(t, "repair of a database that is open");
    bed_clear(bed);
    folder_store(&bed->work, t->path);
    lsm_status status = lsm_options_parse(&options, SPECIMEN_OPTIONS, &err);
    options.shm_dir = t->scratch;
    if (status == LSM_OK)
        status = lsm_open(t->path, &options, &db, &err);
    if (!torture_check(t, status == LSM_OK, "%s", err.message))
        return;
    mending_take(&m, t->path, t->io);
    torture_check(t, m.status == LSM_BUSY && !m.has_changed, "not refused: %s", m.failed);
    mending_release(&m);
    torture_check(
        t, lsm_put(db, NULL, LSM_SLICE("after", 5), LSM_SLICE("it", 2), NULL, &err) == LSM_OK,
        "the one who has it open cannot go on: %s", err.message);
    torture_check(t, lsm_close(db, &err) == LSM_OK, "%s", err.message);
}

static void interrupt(struct bed *bed, const struct wound *list, size_t count)
{
    uint64_t most = torture_cases(bed->torture, 12, UINT64_MAX);
    for (size_t i = 0; i < count; i++)
        kill_at_each(bed, &list[i], most);
    for (size_t i = 0; i < count; i++)
        run_out_of_space(bed, &list[i], torture_cases(bed->torture, 3, 200));
    bed->torture->damaged = NULL;
}

int suite_repair_crash(struct torture *t)
{
    struct bed bed;
    steps = shared_memory(sizeof *steps);
    if (bed_begin(&bed, t)) {
        interrupt(&bed, wounds, WOUNDS);
        repair_live(&bed);
    }
    bed_end(&bed);
    if (bed_begin_seeded(&bed, t, SPECIMEN_BLOBS, BED_KILLED))
        interrupt(&bed, blob_wounds, BLOB_WOUNDS);
    bed_end(&bed);
    return TORTURE_DONE;
}
