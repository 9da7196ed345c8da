/*
 * Arbitrary damage to a whole directory. The input is a run of patches of five bytes: which file,
 * where (u24), and the byte to put there; the top bit of the first says that the part is sealed
 * again with its right checksum, so that the fuzzer also gets behind those.
 *
 * Verify may say what it likes but must come back; where it finds no damage all can be read, and
 * after a repair it finds none. No value that was never written is ever read, unless the fuzzer
 * sealed one.
 */
#include "tests/lib/atlas.h"
#include "tests/lib/scratch.h"
#include "tests/lib/specimen.h"
#include "tests/torture/examine.h"
#include "tests/torture/reading.h"

#include <stdio.h>
#include <stdlib.h>

#define PATCH_SIZE ((size_t)5)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct specimen specimen;
static struct atlas atlas;
static char scratch[SCRATCH_PATH_SIZE], path[SCRATCH_PATH_SIZE + 8];

static void require(bool claim)
{
    if (!claim)
        abort();
}

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
    require(atlas_make(&atlas, &specimen.files));
}

static bool patch_all(struct folder *files, const uint8_t *data, size_t size)
{
    bool any_sealed = false;
    for (; size >= PATCH_SIZE; data += PATCH_SIZE, size -= PATCH_SIZE) {
        struct folder_file *file = &files->files[(data[0] & 0x7f) % files->count];
        size_t offset = data[1] | (size_t)data[2] << 8 | (size_t)data[3] << 16;
        if (file->size == 0)
            continue;
        offset %= file->size;
        file->bytes[offset] = data[4];
        const struct atlas_part *part = atlas_find(&atlas, file->name, offset);
        if ((data[0] & 0x80) != 0 && part != NULL) {
            atlas_seal(part, file);
            any_sealed = true;
        }
    }
    return any_sealed;
}

static uint64_t survey(const char *options, lsm_status *status)
{
    struct survey found;
    struct reading_setup setup = {
        .path = path, .shm_dir = scratch, .options = options, .model = &specimen.model};
    survey_take(&setup, NULL, NULL, &found);
    *status = found.status;
    return found.counts[SURVEY_CORRUPT];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct folder files = {0};
    struct examination e;
    struct mending m;
    lsm_status status;
    if (atlas.part_count == 0)
        begin();
    folder_copy(&files, &specimen.files);
    bool is_forged = patch_all(&files, data, size);
    folder_store(&files, path);
    folder_release(&files);

    examination_take(&e, path, "posix");
    uint64_t corrupt = survey(SPECIMEN_OPTIONS ",read_only=true", &status);
    require(corrupt == 0 || is_forged);
    require(e.status != LSM_OK || e.damage_count > 0 || status == LSM_OK);
    examination_release(&e);

    mending_take(&m, path, "posix");
    if (m.status == LSM_OK && !m.has_left) {
        examination_take(&e, path, "posix");
        require(is_forged || (e.status == LSM_OK && e.damage_count == 0));
        examination_release(&e);
        corrupt = survey(SPECIMEN_OPTIONS ",read_only=true", &status);
        require(is_forged || (status == LSM_OK && corrupt == 0));
    }
    mending_release(&m);
    return 0;
}
