#include "tests/torture/trial.h"

#include "engine/format/file_name.h"
#include "tests/lib/specimen.h"
#include "tests/torture/examine.h"
#include "tests/torture/reading.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_ONLY SPECIMEN_OPTIONS ",read_only=true"

void trial_begin(struct trial *trial, struct torture *torture, const struct model *model,
                 const struct folder *sound, const struct atlas *atlas)
{
    *trial = (struct trial){.torture = torture, .model = model, .sound = sound, .atlas = atlas};
    trial->touched = test_alloc(atlas->part_count * sizeof *trial->touched);
}

void trial_end(struct trial *trial)
{
    free(trial->touched);
}

/* ---- what the damage touches ----------------------------------------------------------------- */

struct touch {
    bool any;       /* something differs */
    bool live;      /* a part that the database needs */
    bool proven;    /* such a part, and no torn tail looks like that */
    bool log;       /* a live record or segment */
    bool manifest;  /* CURRENT or the manifest in force */
    bool last_edit; /* the last one in the manifest in force */
    bool is_cut;    /* the manifest in force lacks its end, and nothing else differs */
};

static bool part_is_touched(const struct atlas_part *part, const struct folder *sound,
                            const struct folder *damaged)
{
    const struct folder_file *a = folder_find(sound, part->file);
    const struct folder_file *b = folder_find(damaged, part->file);
    uint64_t end = part->offset + part->size;
    if (b == NULL)
        return true;
    if (end <= a->size && end <= b->size)
        return memcmp(a->bytes + part->offset, b->bytes + part->offset, part->size) != 0;
    /* A record that wraps around the end of the ring. */
    return a->size != b->size || memcmp(a->bytes, b->bytes, a->size) != 0;
}

/* Behind a close nothing is in the stage file that counts. */
static bool is_log(const struct trial *trial, const char *name)
{
    bool is_closed = atlas_nth(trial->atlas, ATLAS_SEGMENT_HEADER, 0) == NULL;
    return (strcmp(name, "STAGE") == 0 && !is_closed) || strstr(name, ".wal") != NULL;
}

/* The sizes of files that are needed count, and which segments of the log there are. */
static void compare_files(const struct trial *trial, const struct folder *a, const struct folder *b,
                          struct touch *touch)
{
    for (size_t i = 0; i < a->count; i++) {
        const char *name = a->files[i].name;
        const struct folder_file *other = folder_find(b, name);
        const struct atlas_part *part = atlas_find(trial->atlas, name, 0);
        if (other != NULL && other->size == a->files[i].size)
            continue;
        touch->log = touch->log || is_log(trial, name);
        touch->live = touch->live || is_log(trial, name) || (part != NULL && part->is_live);
    }
}

/* A ring of another size has its bytes at other positions. */
static bool ring_differs(const struct folder *sound, const struct folder *damaged)
{
    const struct folder_file *a = folder_find(sound, "STAGE"), *b = folder_find(damaged, "STAGE");
    return a != NULL && (b == NULL || a->size != b->size);
}

/* Where the end of the log is damaged it looks as a crash leaves it: it ends before. */
static void touch_tail(struct trial *trial, const struct folder *damaged)
{
    const struct atlas *a = trial->atlas;
    bool all_of_ring = ring_differs(trial->sound, damaged);
    trial->tail = UINT64_MAX;
    for (size_t i = 0; i < a->part_count; i++) {
        const struct atlas_part *part = &a->parts[i];
        if (part->kind != ATLAS_RECORD || part->is_proven)
            continue;
        trial->touched[i] = trial->touched[i] || (all_of_ring && strcmp(part->file, "STAGE") == 0);
        if (trial->touched[i] && part->sequence < trial->tail)
            trial->tail = part->sequence;
    }
    for (size_t i = 0; i < a->part_count; i++) {
        if (a->parts[i].kind == ATLAS_RECORD && a->parts[i].sequence >= trial->tail)
            trial->touched[i] = true;
    }
}

/* A crash before its last edits leaves such a manifest, too. Whether it is damage shows in what can
 * still be read. */
static bool is_manifest_cut(const struct folder *sound, const struct folder *damaged,
                            const struct atlas *atlas)
{
    char name[FILE_NAME_SIZE];
    size_t differing = 0;
    file_name_make(FILE_MANIFEST, atlas->manifest, name);
    const struct folder_file *a = folder_find(sound, name), *b = folder_find(damaged, name);
    if (a == NULL || b == NULL || b->size >= a->size || memcmp(a->bytes, b->bytes, b->size) != 0 ||
        sound->count != damaged->count)
        return false;
    for (size_t i = 0; i < sound->count; i++) {
        const struct folder_file *file = &sound->files[i];
        const struct folder_file *other = folder_find(damaged, file->name);
        differing += other == NULL || other->size != file->size ||
                     memcmp(file->bytes, other->bytes, file->size) != 0;
    }
    return differing == 1;
}

static struct touch find_touch(struct trial *trial, const struct folder *damaged)
{
    struct touch touch = {.any = folder_difference(trial->sound, damaged) != NULL};
    for (size_t i = 0; i < trial->atlas->part_count; i++) {
        const struct atlas_part *part = &trial->atlas->parts[i];
        trial->touched[i] = part_is_touched(part, trial->sound, damaged);
        if (!trial->touched[i] || !part->is_live)
            continue;
        touch.live = true;
        /* The newest segment may be missing as if it had never been; not so a part of it. */
        touch.proven =
            touch.proven || part->is_proven ||
            (part->kind == ATLAS_SEGMENT_HEADER && folder_find(damaged, part->file) != NULL);
        touch.log = touch.log || part->kind == ATLAS_RECORD || part->kind == ATLAS_SEGMENT_HEADER;
        touch.last_edit =
            touch.last_edit || (part->kind == ATLAS_MANIFEST_FRAME && !part->is_proven);
        touch.manifest = touch.manifest || part->kind <= ATLAS_MANIFEST_FRAME;
    }
    touch.is_cut = touch.manifest && is_manifest_cut(trial->sound, damaged, trial->atlas);
    touch_tail(trial, damaged);
    compare_files(trial, trial->sound, damaged, &touch);
    compare_files(trial, damaged, trial->sound, &touch);
    return touch;
}

/* ---- before the repair ----------------------------------------------------------------------- */

/* True: all that was ever written was read, as if nothing were wrong. */
static bool read_damaged(struct trial *trial, const struct touch *touch)
{
    struct torture *t = trial->torture;
    struct reading reading;
    struct reading_setup setup = {
        .path = t->path, .shm_dir = t->scratch, .options = READ_ONLY, .model = trial->model};
    reading_take(&setup, &reading);
    torture_check(t, reading.wrong_count == 0, "a wrong answer: %s", reading.wrong);
    if (!touch->live)
        torture_check(t, reading.failed_count == 0, "what is damaged is not needed, but: %s",
                      reading.failed);
    if (reading.status == LSM_OK && !touch->manifest) {
        uint64_t least = touch->log ? trial->atlas->proven_sequence : trial->atlas->last_sequence;
        torture_check(t, reading.sequence >= least,
                      "opened at sequence %" PRIu64 ", without what is known to be durable up to "
                      "%" PRIu64,
                      reading.sequence, least);
    }
    return reading.status == LSM_OK && reading.failed_count == 0 && reading.wrong_count == 0 &&
           reading.sequence >= trial->atlas->last_sequence;
}

static void verify_damaged(struct trial *trial, const struct touch *touch,
                           const struct trial_wants *wants, bool is_all_there)
{
    struct torture *t = trial->torture;
    struct examination e;
    struct folder after = {0};
    examination_take(&e, t->path, t->io);
    torture_check(t, e.status == LSM_OK, "verify could not run: %s", e.failed);
    if (touch->is_cut) {
        torture_check(t, is_all_there == (e.damage_count == 0),
                      "the manifest is cut, and all is %sthere, but verify says: %s",
                      is_all_there ? "" : "not ", examination_text(&e));
    } else if (touch->live && !wants->may_hide) {
        /* Without its last edit, as a crash leaves it, the manifest may need nothing of the rest.
         */
        bool is_needed = touch->proven && !(touch->last_edit && is_all_there);
        if (is_needed)
            torture_check(t, e.damage_count > 0, "verify does not see the damage: %s",
                          examination_text(&e));
        else
            torture_check(t, e.count > 0, "verify says nothing of the end of the log");
    }
    if (!touch->live)
        torture_check(t, e.damage_count == 0, "verify calls damage what nothing needs: %s",
                      examination_text(&e));
    if (!touch->any)
        torture_check(t, e.unclean_count == 0, "a false alarm: %s", examination_text(&e));
    examination_release(&e);
    folder_load(&after, t->path);
    const char *difference = folder_difference(t->damaged, &after);
    torture_check(t, difference == NULL, "verify changed something: %s", difference);
    folder_release(&after);
}

/* ---- after it -------------------------------------------------------------------------------- */

/* What must not be true of any key, with the first one of which it is. */
enum fault {
    FAULT_CORRUPT,
    FAULT_NOT_BACK,
    FAULT_NOT_DAMAGED,
    FAULT_NOT_REPORTED,
    FAULTS,
};

static const char *const fault_texts[FAULTS] = {
    "keys have values that they never had",
    "one byte was wrong, but keys did not come back",
    "keys differ of which the newest version was not damaged",
    "keys differ that are in no reported range",
};

struct judge {
    struct trial *trial;
    const struct mending *mending;
    bool all_back;
    bool missed; /* something that had to be reported */
    uint64_t counts[FAULTS];
    char first[FAULTS][80];
};

/* The newest version of the key in live parts. */
static const struct atlas_entry *newest_of(const struct atlas *a, uint32_t family, lsm_slice key)
{
    const struct atlas_entry *newest = NULL;
    for (size_t i = 0; i < a->entry_count; i++) {
        const struct atlas_entry *entry = &a->entries[i];
        if (entry->family == family && slice_compare(entry->key, key) == 0 &&
            (newest == NULL || entry->sequence > newest->sequence))
            newest = entry;
    }
    return newest;
}

static bool is_touched(const struct trial *trial, const struct atlas_entry *entry)
{
    for (size_t i = 0; i < entry->need_count; i++) {
        if (trial->touched[entry->needs[i]])
            return true;
    }
    return false;
}

/* A key that was erased for good is kept away by the table that was written without it: where that
 * is damaged, one that it replaced may have to speak for it again. */
static bool may_come_back(const struct trial *trial, enum survey_kind kind, uint32_t family)
{
    for (size_t i = 0; kind == SURVEY_REVIVED && i < trial->atlas->part_count; i++) {
        const struct atlas_part *part = &trial->atlas->parts[i];
        bool is_of_table = part->kind >= ATLAS_BLOCK && part->kind <= ATLAS_FOOTER;
        if (trial->touched[i] && part->is_live && is_of_table &&
            (part->family == family || part->kind == ATLAS_FOOTER))
            return true;
    }
    return false;
}

/* The file that held it is gone, with all that named it, and the report says that this would not be
 * noticed. */
static bool went_unseen(const struct judge *j, const struct atlas_entry *entry)
{
    const struct trial *trial = j->trial;
    for (size_t i = 0; j->mending->tells_unseen && i < entry->need_count; i++) {
        if (folder_find(trial->torture->damaged, trial->atlas->parts[entry->needs[i]].file) == NULL)
            return true;
    }
    return false;
}

static void note(struct judge *j, enum fault fault, bool is_true, enum survey_kind kind,
                 uint32_t family, lsm_slice key)
{
    static const char *const words[SURVEY_KINDS] = {"right", "lost", "stale", "revived", "corrupt"};
    if (is_true && j->counts[fault]++ == 0)
        snprintf(j->first[fault], sizeof j->first[fault], "'%.*s' of family %" PRIu32 " is %s",
                 (int)key.size, (const char *)key.data, family, words[kind]);
}

static void judge_key(void *context, enum survey_kind kind, uint32_t family, lsm_slice key)
{
    struct judge *j = context;
    struct trial *trial = j->trial;
    const struct atlas_entry *newest = newest_of(trial->atlas, family, key);
    trial->counts[kind - 1]++;
    note(j, FAULT_CORRUPT, kind == SURVEY_CORRUPT, kind, family, key);
    note(j, FAULT_NOT_BACK, j->all_back, kind, family, key);
    note(j, FAULT_NOT_DAMAGED,
         newest == NULL ? !may_come_back(trial, kind, family) : !is_touched(trial, newest), kind,
         family, key);
    /* Nobody can miss what looks as if it had never been acknowledged. */
    if (newest != NULL && newest->sequence >= trial->tail)
        return;
    if (newest != NULL && went_unseen(j, newest))
        return;
    j->missed = true;
    note(j, FAULT_NOT_REPORTED, !mending_reports(j->mending, family, key), kind, family, key);
}

/* Reads all there is and holds it against the model and the report. */
static void survey_repaired(struct trial *trial, const struct mending *mending,
                            const struct trial_wants *wants)
{
    struct torture *t = trial->torture;
    struct judge judge = {.trial = trial, .mending = mending, .all_back = wants->all_back};
    struct survey survey;
    struct reading_setup setup = {
        .path = t->path, .shm_dir = t->scratch, .options = SPECIMEN_OPTIONS, .model = trial->model};
    survey_take(&setup, judge_key, &judge, &survey);
    if (!torture_check(t, survey.status == LSM_OK, "cannot be read after the repair: %s",
                       survey.failed))
        return;
    for (size_t i = 0; i < FAULTS; i++)
        torture_check(t, judge.counts[i] == 0, "%s: %" PRIu64 ", the first: %s", fault_texts[i],
                      judge.counts[i], judge.first[i]);
    torture_check(t, !judge.missed || mending->has_lost,
                  "repair does not say that data was lost: %s", survey_text(&survey));
}

static void repair_again(struct trial *trial)
{
    struct torture *t = trial->torture;
    struct mending m;
    struct folder before = {0}, after = {0};
    folder_load(&before, t->path);
    mending_take(&m, t->path, t->io);
    folder_load(&after, t->path);
    const char *difference = folder_difference(&before, &after);
    torture_check(t, m.status == LSM_OK && !m.has_changed && difference == NULL,
                  "a second repair is not without work: %s%s", m.failed,
                  difference != NULL ? difference : "");
    mending_release(&m);
    folder_release(&before);
    folder_release(&after);
}

static void check_verified(struct trial *trial)
{
    struct torture *t = trial->torture;
    struct examination e;
    examination_take(&e, t->path, t->io);
    torture_check(t, e.status == LSM_OK && e.damage_count == 0, "not clean after the repair: %s%s",
                  e.failed, examination_text(&e));
    examination_release(&e);
}

static void check_repaired(struct trial *trial, const struct touch *touch,
                           const struct mending *mending, const struct trial_wants *wants)
{
    struct torture *t = trial->torture;
    struct folder after = {0};
    if (!torture_check(t, mending->status == LSM_OK, "repair could not: %s", mending->failed))
        return;
    if (!touch->any) {
        folder_load(&after, t->path);
        const char *difference = folder_difference(t->damaged, &after);
        torture_check(t, difference == NULL && !mending->has_changed,
                      "repair changed what was sound: %s", difference);
        folder_release(&after);
    }
    check_verified(trial);
    repair_again(trial);
    survey_repaired(trial, mending, wants);
}

void trial_run(struct trial *trial, const struct folder *damaged, const struct trial_wants *wants)
{
    struct torture *t = trial->torture;
    t->damaged = damaged;
    struct touch touch = find_touch(trial, damaged);
    folder_store(damaged, t->path);
    bool is_all_there = read_damaged(trial, &touch);
    verify_damaged(trial, &touch, wants, is_all_there);
    if (!t->look_only) {
        struct mending mending;
        mending_take(&mending, t->path, t->io);
        check_repaired(trial, &touch, &mending, wants);
        mending_release(&mending);
    }
    t->damaged = NULL;
}
