/*
 * Arbitrary damage to a whole directory. The input is a run of changes of five bytes: which file,
 * where (u24), and the byte to put there. The top bit of the first says that the part is sealed
 * again with its right checksum, so that the fuzzer also gets behind those; the next one that the
 * last byte is no byte but says what becomes of the file (enum upheaval).
 *
 * Verify and reading are held against each other, both ways: where verify finds no damage all can
 * be read, and gets and walks agree; where it finds damage, opening or reading fails or
 * contradicts itself, or the finding is of those that reads do not need (harmless_to_reads). After
 * a repair all is clean. Without a forged checksum there is more: no answer is wrong, and nothing
 * is read afterwards that was never written.
 */
#include "tests/lib/atlas.h"
#include "tests/lib/scratch.h"
#include "tests/lib/specimen.h"
#include "tests/torture/agree.h"
#include "tests/torture/examine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHANGE_SIZE ((size_t)5)
#define SEALS       0x80
#define IS_UPHEAVAL 0x40
#define FILE_MASK   0x3f
#define READ_ONLY   SPECIMEN_OPTIONS ",read_only=true"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What can become of a whole file. */
enum upheaval { REMOVED, CUT, GROWN, OLD, SWAPPED, UPHEAVALS };

/*
 * Damage that no read needs to trip over. Each is one that reads cannot find without looking at
 * bytes that they do not need, which would cost every open or every block something:
 */
static const char *const harmless_to_reads[] = {
    "3-footer-copy", /* of two that say the same the last is read: a table opens with one read */
    "3-padding",     /* nobody reads it; it is checked because a writer's fault shows there */
    "7-digest",      /* it is over padding as well; all else that it covers has its own checksums */
};

/*
 * The same where a checksum was forged: what no disk does, and the library itself never writes.
 * Reads believe bytes whose 64-bit checksum fits; to check them against each other costs a block's
 * or a table's time at each read, and is what verify is for.
 */
static const char *const harmless_when_forged[] = {
    "0-newer-format",    /* the first of two footers says so, and the last one is read */
    "4-block-malformed", /* the end of a short key's head: it decides nothing among other heads */
    "4-block-sequence",  /* a frame repeats the bounds of its block, for a salvage without index */
    "6-record-chain",    /* opening ends the log there, as where it was torn */
    "7-meta-differs",    /* reads go by what the manifest says, and the table says it, too */
    "7-property-counts", /* they are for people, and for choosing what to merge */
    /* Reads miss or mistake an entry; it may be one that a newer version hides, or a deletion. */
    "4-block-order",
    "4-block-tags",
    "4-entry-type",
    "7-filter-misses",
    "7-index-separator",
};

/*
 * A record of the stage file that was never synced: opening ends the log in front of it, as a power
 * cut may have done, and that is no wrong answer. That one wrong byte explains it is found by a
 * search, which whoever opens a database does not wait for: nearly all such records are torn.
 */
static bool may_be_torn(const struct found *f)
{
    return strcmp(f->id, "6-record-checksum") == 0 && strcmp(f->file, "STAGE") == 0;
}

static struct specimen specimen;
static struct atlas atlas;
static char scratch[SCRATCH_PATH_SIZE], path[SCRATCH_PATH_SIZE + 8];

static void end(void)
{
    scratch_remove(scratch);
}

static void begin(void)
{
    scratch_make(scratch);
    atexit(end);
    snprintf(path, sizeof path, "%s/db", scratch);
    specimen_make(&specimen, path, 0);
    if (!atlas_make(&atlas, &specimen.files))
        abort();
}

/* ---- damage ---------------------------------------------------------------------------------- */

struct damage {
    struct folder files; /* owned */
    bool is_forged;      /* some checksum was made right again */
};

static void upheave(struct folder *files, size_t index, size_t offset, uint8_t what)
{
    struct folder_file *file = &files->files[index];
    struct folder_file *next = &files->files[(index + 1) % files->count];
    const struct folder_file *old = folder_find(&specimen.earlier, file->name);
    switch ((enum upheaval)(what % UPHEAVALS)) {
    case REMOVED:
        folder_remove(files, file->name);
        break;
    case CUT:
        folder_resize(file, file->size == 0 ? 0 : offset % file->size);
        break;
    case GROWN:
        folder_resize(file, file->size + offset % 8192);
        break;
    case OLD:
        if (old != NULL)
            folder_put(files, file->name, old->bytes, old->size);
        break;
    case SWAPPED: {
        struct folder_file kept = *file;
        file->bytes = next->bytes;
        file->size = next->size;
        next->bytes = kept.bytes;
        next->size = kept.size;
        break;
    }
    case UPHEAVALS:
        break;
    }
}

static void put_byte(struct damage *d, struct folder_file *file, size_t offset, uint8_t byte,
                     bool seals)
{
    if (file->size == 0)
        return;
    offset %= file->size;
    file->bytes[offset] = byte;
    const struct atlas_part *part = atlas_find(&atlas, file->name, offset);
    const struct folder_file *sound = folder_find(&specimen.files, file->name);
    if (seals && part != NULL && file->size == sound->size) {
        atlas_seal(part, file);
        d->is_forged = true;
    }
}

static void make_damage(struct damage *d, const uint8_t *data, size_t size)
{
    folder_copy(&d->files, &specimen.files);
    for (; size >= CHANGE_SIZE && d->files.count > 0; data += CHANGE_SIZE, size -= CHANGE_SIZE) {
        size_t index = (data[0] & FILE_MASK) % d->files.count;
        size_t offset = data[1] | (size_t)data[2] << 8 | (size_t)data[3] << 16;
        if ((data[0] & IS_UPHEAVAL) != 0)
            upheave(&d->files, index, offset, data[4]);
        else
            put_byte(d, &d->files.files[index], offset, data[4], (data[0] & SEALS) != 0);
    }
}

/* ---- what has to hold ------------------------------------------------------------------------ */

static void require(bool holds, const char *claim, const char *text)
{
    if (holds)
        return;
    fprintf(stderr, "%s: %s\n", claim, text);
    abort();
}

static struct reading_setup setup(void)
{
    return (struct reading_setup){
        .path = path, .shm_dir = scratch, .options = READ_ONLY, .model = &specimen.model};
}

#define IS_IN(id, list) is_in((id), (list), sizeof(list) / sizeof *(list))

static bool is_in(const char *id, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(id, list[i]) == 0)
            return true;
    }
    return false;
}

/* Has it found damage that reads have to trip over? */
static bool harms_reads(const struct examination *e, bool is_forged)
{
    for (size_t i = 0; i < e->count; i++) {
        const char *id = e->found[i].id;
        if (e->found[i].severity == LSM_DAMAGE && !IS_IN(id, harmless_to_reads) &&
            !may_be_torn(&e->found[i]) && !(is_forged && IS_IN(id, harmless_when_forged)))
            return true;
    }
    return false;
}

static void judge_verify(bool is_forged)
{
    struct reading_setup reads = setup();
    struct examination e;
    struct agreement agreement;
    struct reading reading;
    examination_take(&e, path, "posix");
    agreement_take(&reads, &agreement);
    reading_take(&reads, &reading);
    bool is_fine = agreement.status == LSM_OK && agreement.contradiction_count == 0;
    if (e.status == LSM_OK && e.damage_count == 0)
        require(is_fine, "verify says clean, but", agreement.text);
    if (!is_forged)
        require(reading.wrong_count == 0, "a wrong answer", reading.wrong);
    if (e.status == LSM_OK && harms_reads(&e, is_forged))
        require(!is_fine || reading.wrong_count > 0, "all is read, but verify says",
                examination_text(&e));
    examination_release(&e);
}

static void judge_repair(bool is_forged)
{
    struct reading_setup reads = setup();
    struct mending m;
    mending_take(&m, path, "posix");
    if (m.status == LSM_OK && !m.has_left) {
        struct examination e;
        struct survey survey;
        struct agreement agreement;
        examination_take(&e, path, "posix");
        require(e.status == LSM_OK && e.damage_count == 0, "not clean after the repair",
                e.status == LSM_OK ? examination_text(&e) : e.failed);
        examination_release(&e);
        agreement_take(&reads, &agreement);
        require(agreement.status == LSM_OK && (is_forged || agreement.contradiction_count == 0),
                "not to be read after the repair", agreement.text);
        require(agreement.key_count <= specimen.model.count,
                "more keys after the repair than were ever written", "");
        survey_take(&reads, NULL, NULL, &survey);
        require(is_forged || survey.counts[SURVEY_CORRUPT] == 0,
                "values after the repair that were never written", survey_text(&survey));
    }
    mending_release(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct damage damage = {.is_forged = false};
    if (atlas.part_count == 0)
        begin();
    make_damage(&damage, data, size);
    folder_store(&damage.files, path);
    folder_release(&damage.files);
    judge_verify(damage.is_forged);
    judge_repair(damage.is_forged);
    return 0;
}
