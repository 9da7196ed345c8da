/* See the header. Damage is collected, so that one bad file hides nothing of the others. */
#include "engine/inspect/inspect_files.h"

#include "engine/base/memory.h"
#include "engine/format/file_name.h"
#include "engine/version/manifest.h"

#include <stdlib.h>

#define PPM          1000000u
#define MOST_DAMAGES 1000 /* noted; a directory that lost all its tables has many */

void inspect_files_release(struct inspect_files *f)
{
    for (size_t i = 0; i < f->family_count; i++)
        mem_free(f->families[i].name);
    mem_free(f->families);
    mem_free(f->tables);
    mem_free(f->blobs);
    mem_free(f->damages);
    *f = (struct inspect_files){0};
}

static lsm_status note_damage(struct inspect_files *f, const lsm_error *damage, lsm_error *err)
{
    if (f->damage_count == MOST_DAMAGES)
        return LSM_OK;
    size_t size = (f->damage_count + 1) * sizeof *f->damages;
    lsm_error *grown = mem_resize(f->damages, size);
    if (grown == NULL)
        return lsm_fail_memory(err, size);
    f->damages = grown;
    f->damages[f->damage_count++] = *damage;
    return LSM_OK;
}

/* ---- the manifest ---------------------------------------------------------------------------- */

static struct inspect_family *find_family(struct inspect_files *f, uint32_t id)
{
    for (size_t i = 0; i < f->family_count; i++) {
        if (f->families[i].id == id)
            return &f->families[i];
    }
    return NULL;
}

static int compare_families(const void *a, const void *b)
{
    const struct inspect_family *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static int compare_tables(const void *a, const void *b)
{
    const struct inspect_table *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

/* As compact_debt() counts it, for level 0 alone. */
static uint32_t level0_debt(const struct inspect_family *family)
{
    uint64_t now = family->levels[0].tables, slow = family->options.level0_slowdown,
             stop = family->options.level0_stop;
    if (!family->has_options || now < slow || family->options.compaction == LSM_COMPACTION_FIFO)
        return 0;
    if (stop <= slow || now >= stop)
        return PPM;
    return (uint32_t)((now - slow + 1) * PPM / (stop - slow + 1));
}

static lsm_status take_families(struct inspect_files *f, const struct version_edit *edit,
                                lsm_error *err)
{
    size_t size = edit->created_count * sizeof *f->families;
    f->families = mem_alloc_zeroed(size > 0 ? size : 1);
    if (f->families == NULL)
        return lsm_fail_memory(err, size);
    for (size_t i = 0; i < edit->created_count; i++) {
        const struct edit_cf *created = &edit->created[i];
        struct inspect_family *family = &f->families[f->family_count];
        family->id = created->id;
        family->name = mem_copy_text(created->name);
        if (family->name == NULL)
            return lsm_fail_memory(err, strlen(created->name) + 1);
        f->family_count++;
        family->has_options =
            version_resolve_cf_options(&created->options, &family->options, NULL) == LSM_OK;
    }
    return LSM_OK;
}

static lsm_status take_tables(struct inspect_files *f, const struct version_edit *edit,
                              lsm_error *err)
{
    size_t size = edit->added_count * sizeof *f->tables;
    f->tables = mem_alloc_zeroed(size > 0 ? size : 1);
    if (f->tables == NULL)
        return lsm_fail_memory(err, size);
    for (size_t i = 0; i < edit->added_count; i++) {
        const struct table_meta *meta = &edit->added[i];
        struct inspect_family *family = find_family(f, meta->cf);
        f->tables[f->table_count++] = (struct inspect_table){
            .number = meta->number, .size = meta->size, .cf = meta->cf, .level = meta->level};
        if (family == NULL || meta->level >= VERSION_LEVELS)
            continue;
        struct inspect_level *level = &family->levels[meta->level];
        level->tables++;
        level->bytes += meta->size;
        level->entries += meta->entry_count;
        level->deletes += meta->delete_count;
    }
    return LSM_OK;
}

static struct inspect_blob *find_blob(const struct inspect_files *f, uint64_t number)
{
    size_t low = 0, limit = f->blob_count;
    while (low < limit) {
        size_t middle = low + (limit - low) / 2;
        if (f->blobs[middle].number < number)
            low = middle + 1;
        else
            limit = middle;
    }
    return low < f->blob_count && f->blobs[low].number == number ? &f->blobs[low] : NULL;
}

/* A snapshot has them in the order of their numbers. */
static lsm_status take_blobs(struct inspect_files *f, const struct version_edit *edit,
                             lsm_error *err)
{
    size_t size = edit->blob_count * sizeof *f->blobs;
    f->blobs = mem_alloc_zeroed(size > 0 ? size : 1);
    if (f->blobs == NULL)
        return lsm_fail_memory(err, size);
    for (size_t i = 0; i < edit->blob_count; i++)
        f->blobs[f->blob_count++] = (struct inspect_blob){.number = edit->blobs[i].number,
                                                          .size = edit->blobs[i].size,
                                                          .cf = edit->blobs[i].cf,
                                                          .raw_bytes = edit->blobs[i].raw_size};
    for (size_t i = 0; i < edit->added_count; i++) {
        for (size_t k = 0; k < edit->added[i].blob_count; k++) {
            struct inspect_blob *blob = find_blob(f, edit->added[i].blobs[k].number);
            if (blob != NULL)
                blob->live_bytes += edit->added[i].blobs[k].bytes;
        }
    }
    return LSM_OK;
}

static lsm_status take_manifest(struct inspect_files *f, const struct manifest *m,
                                const struct version_edit *edit, lsm_error *err)
{
    f->manifest_bytes = m->chain.offset;
    f->version = m->chain.number - 1;
    f->log_position = edit->log_position;
    f->is_clean = edit->clean;
    f->last_sequence = edit->last_sequence;
    f->next_file_number = edit->next_file_number;
    lsm_status status = take_families(f, edit, err);
    if (status == LSM_OK)
        status = take_tables(f, edit, err);
    if (status == LSM_OK)
        status = take_blobs(f, edit, err);
    if (status != LSM_OK)
        return status;
    f->has_manifest = true;
    if (f->family_count > 0)
        qsort(f->families, f->family_count, sizeof *f->families, compare_families);
    if (f->table_count > 0)
        qsort(f->tables, f->table_count, sizeof *f->tables, compare_tables);
    for (size_t i = 0; i < f->family_count; i++)
        f->families[i].level0_debt_ppm = level0_debt(&f->families[i]);
    return LSM_OK;
}

static lsm_status check_end(const struct manifest *m, const struct version_place *place,
                            lsm_error *err)
{
    if (place == NULL ||
        (m->chain.offset == place->offset && m->chain.number == place->frame_number))
        return LSM_OK;
    const char *name = io_file_name(m->file);
    lsm_fail(err, LSM_CORRUPT,
             "manifest '%s' was published up to edit %" PRIu64 " at offset %" PRIu64
             ", but its whole edits end with %" PRIu64 " at offset %" PRIu64,
             name, place->frame_number - 1, place->offset, m->chain.number - 1, m->chain.offset);
    status_place(err, name, m->chain.offset);
    status_numbers(err, place->offset, m->chain.offset);
    return LSM_CORRUPT;
}

lsm_status inspect_read_manifest(struct io *io, struct io_dir *dir,
                                 const struct version_place *place, struct inspect_files *files,
                                 lsm_error *err)
{
    struct table_env env = {.io = io, .dir = dir};
    struct manifest m = {0};
    struct version_edit edit = {0};
    lsm_error damage = {0};
    uint64_t number = 0;
    lsm_status status = version_read_current(io, dir, env.uuid, &number, &damage);
    if (status == LSM_OK) {
        memcpy(files->uuid, env.uuid, sizeof files->uuid);
        files->manifest_number = place == NULL ? number : place->manifest_number;
        status = manifest_open(&env, files->manifest_number,
                               place == NULL ? MANIFEST_WHOLE : place->offset, false, &m, &edit,
                               &damage);
    }
    if (status == LSM_OK)
        status = check_end(&m, place, &damage);
    if (status == LSM_OK)
        status = take_manifest(files, &m, &edit, &damage);
    if (status == LSM_CORRUPT || status == LSM_NEWER_FORMAT)
        status = note_damage(files, &damage, err);
    else if (status != LSM_OK)
        status_copy(err, &damage);
    manifest_close(&m);
    edit_release(&edit);
    return status;
}

/* ---- the directory --------------------------------------------------------------------------- */

struct comparison {
    struct inspect_files *files;
    struct io_dir *dir;
    uint64_t job_limit;
    bool *seen; /* of each table of the manifest */
};

/* False when it is gone already: others remove files while they are listed. */
static bool size_of(struct io_dir *dir, const char *name, uint64_t *size)
{
    struct io_file *file = NULL;
    bool found = io_file_open(dir, name, 0, 0, &file, NULL) == LSM_OK &&
                 io_file_size(file, size, NULL) == LSM_OK;
    io_file_close(file);
    return found;
}

static void add(struct inspect_sum *sum, uint64_t bytes)
{
    sum->count++;
    sum->bytes += bytes;
}

static lsm_status note_size(struct comparison *c, const char *what, const char *name,
                            uint64_t wanted, uint64_t size, lsm_error *err)
{
    lsm_error damage = {0};
    (void)lsm_fail(&damage, LSM_CORRUPT,
                   "%s '%s' in '%s' has %" PRIu64 " bytes, the manifest says %" PRIu64
                   "; see lsm-repair",
                   what, name, io_dir_path(c->dir), size, wanted);
    status_place(&damage, name, LSM_NO_OFFSET);
    status_numbers(&damage, wanted, size);
    return note_damage(c->files, &damage, err);
}

static lsm_status see_table(struct comparison *c, const char *name, uint64_t number, uint64_t size,
                            lsm_error *err)
{
    struct inspect_files *f = c->files;
    const struct inspect_table *table =
        f->table_count == 0 ? NULL
                            : bsearch(&(struct inspect_table){.number = number}, f->tables,
                                      f->table_count, sizeof *f->tables, compare_tables);
    if (table == NULL) {
        add(number >= c->job_limit || !f->has_manifest ? &f->unfinished : &f->superseded, size);
        return LSM_OK;
    }
    c->seen[table - f->tables] = true;
    add(&f->live, size);
    if (size == table->size)
        return LSM_OK;
    return note_size(c, "table", name, table->size, size, err);
}

static lsm_status see_blob(struct comparison *c, const char *name, uint64_t number, uint64_t size,
                           lsm_error *err)
{
    const struct inspect_blob *blob = find_blob(c->files, number);
    add(blob == NULL ? &c->files->other_blobs : &c->files->blob_files, size);
    if (blob == NULL)
        return LSM_OK;
    c->seen[c->files->table_count + (size_t)(blob - c->files->blobs)] = true;
    return size == blob->size ? LSM_OK : note_size(c, "blob file", name, blob->size, size, err);
}

static lsm_status see_file(void *context, const char *name, lsm_error *err)
{
    struct comparison *c = context;
    struct inspect_files *f = c->files;
    enum file_kind kind;
    uint64_t number, size = 0;
    if (!file_name_parse(name, &kind, &number) || !size_of(c->dir, name, &size))
        return LSM_OK;
    switch (kind) {
    case FILE_TABLE:
        return see_table(c, name, number, size, err);
    case FILE_BLOB:
        return see_blob(c, name, number, size, err);
    case FILE_STAGE:
        f->stage_bytes = size;
        break;
    case FILE_MANIFEST:
        add(&f->manifests, size);
        break;
    case FILE_WAL:
        add(&f->segments, size);
        break;
    case FILE_WAL_SPARE:
        add(&f->spares, size);
        break;
    case FILE_TEMPORARY:
        add(&f->others, size);
        break;
    default:
        break;
    }
    return LSM_OK;
}

static lsm_status note_missing(struct comparison *c, lsm_error *err)
{
    struct inspect_files *f = c->files;
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < f->table_count + f->blob_count; i++) {
        bool is_blob = i >= f->table_count;
        uint64_t number = is_blob ? f->blobs[i - f->table_count].number : f->tables[i].number;
        uint32_t cf = is_blob ? f->blobs[i - f->table_count].cf : f->tables[i].cf;
        char name[FILE_NAME_SIZE];
        lsm_error damage = {0};
        if (c->seen[i])
            continue;
        file_name_make(is_blob ? FILE_BLOB : FILE_TABLE, number, name);
        (void)lsm_fail(&damage, LSM_CORRUPT,
                       "%s '%s' of column family %u is missing in '%s'; see lsm-repair",
                       is_blob ? "blob file" : "table", name, cf, io_dir_path(c->dir));
        status_place(&damage, name, LSM_NO_OFFSET);
        status = note_damage(f, &damage, err);
    }
    return status;
}

lsm_status inspect_read_directory(struct io_dir *dir, uint64_t job_limit,
                                  struct inspect_files *files, lsm_error *err)
{
    struct comparison c = {.files = files, .dir = dir, .job_limit = job_limit};
    size_t count = files->table_count + files->blob_count;
    c.seen = mem_alloc_zeroed(count > 0 ? count : 1);
    if (c.seen == NULL)
        return lsm_fail_memory(err, count);
    lsm_status status = io_dir_list(dir, see_file, &c, err);
    if (status == LSM_OK)
        status = note_missing(&c, err);
    mem_free(c.seen);
    return status;
}
