/*
 * The directory against the manifest. What is no plain file is never opened. In a live database
 * only tables are judged that no running job can be writing.
 */
#include "engine/verify/verify_private.h"

#include "engine/base/memory.h"

#include <stdlib.h>

static const char *const entry_kinds[] = {
    [IO_ENTRY_FILE] = "a file",
    [IO_ENTRY_DIRECTORY] = "a directory",
    [IO_ENTRY_SYMLINK] = "a symbolic link",
    [IO_ENTRY_OTHER] = "neither a file nor a directory",
};

/* ---- tables of the manifest ------------------------------------------------------------------ */

static int compare_tables(const void *a, const void *b)
{
    const struct verify_table *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

static struct verify_table *find_table(const struct verify *v, uint64_t number)
{
    struct verify_table wanted = {.number = number};
    return v->table_count == 0
               ? NULL
               : bsearch(&wanted, v->tables, v->table_count, sizeof *v->tables, compare_tables);
}

static lsm_status take_tables(struct verify *v, lsm_error *err)
{
    const struct version_edit *state = &v->replay.state;
    size_t room = state->added_count + state->blob_count;
    if (!v->state_is_whole)
        room += v->listing.count;
    v->tables = mem_alloc_zeroed((room > 0 ? room : 1) * sizeof *v->tables);
    if (v->tables == NULL)
        return lsm_fail_memory(err, room * sizeof *v->tables);
    for (size_t i = 0; i < state->added_count; i++) {
        const struct table_meta *meta = &state->added[i];
        v->tables[v->table_count++] =
            (struct verify_table){.number = meta->number,
                                  .meta = meta,
                                  .file = walk_dir_find(&v->listing, FILE_TABLE, meta->number)};
    }
    for (size_t i = 0; i < state->blob_count; i++) {
        const struct blob_meta *blob = &state->blobs[i];
        v->tables[v->table_count++] =
            (struct verify_table){.number = blob->number,
                                  .is_blob = true,
                                  .blob = blob,
                                  .file = walk_dir_find(&v->listing, FILE_BLOB, blob->number)};
    }
    if (v->table_count > 0)
        qsort(v->tables, v->table_count, sizeof *v->tables, compare_tables);
    size_t named = v->table_count;
    /* Without a whole manifest every table that is there is looked at by itself. */
    for (size_t i = 0; !v->state_is_whole && v->has_uuid && i < v->listing.count; i++) {
        const struct walk_file *f = &v->listing.files[i];
        struct verify_table wanted = {.number = f->number};
        if (f->name != WALK_NAME_OURS || (f->kind != FILE_TABLE && f->kind != FILE_BLOB) ||
            (named > 0 &&
             bsearch(&wanted, v->tables, named, sizeof *v->tables, compare_tables) != NULL))
            continue;
        v->tables[v->table_count++] =
            (struct verify_table){.number = f->number, .is_blob = f->kind == FILE_BLOB, .file = f};
    }
    if (v->table_count > named)
        qsort(v->tables, v->table_count, sizeof *v->tables, compare_tables);
    return LSM_OK;
}

static bool is_of_interest(const struct verify *v, const char *name)
{
    return v->options.file == NULL || strcmp(v->options.file, name) == 0;
}

static void blame(lsm_finding *f, const struct verify_table *t)
{
    if (t->blob != NULL)
        finding_family(f, t->blob->cf, NULL);
    verify_blame_meta(f, t->meta);
}

static lsm_status check_table(struct verify *v, struct verify_table *t, lsm_error *err)
{
    char name[FILE_NAME_SIZE];
    file_name_make(t->is_blob ? FILE_BLOB : FILE_TABLE, t->number, name);
    if ((t->meta == NULL && t->blob == NULL) || !is_of_interest(v, name))
        return LSM_OK;
    uint64_t size = t->is_blob ? t->blob->size : t->meta->size;
    if (t->file == NULL) {
        t->is_told = true;
        if (!v->state_is_whole) /* edits that are lost may have removed it */
            return LSM_OK;
        lsm_finding f = finding_of(t->is_blob ? FINDING_BLOB_MISSING : FINDING_TABLE_MISSING);
        f.file = name;
        blame(&f, t);
        return verify_tell(v, &f, err);
    }
    if (!walk_file_is_plain(t->file) || t->file->entry.size == size)
        return LSM_OK; /* told below */
    t->is_told = true;
    lsm_finding f = finding_of(FINDING_TABLE_SIZE);
    f.file = name;
    blame(&f, t);
    finding_numbers(&f, size, t->file->entry.size);
    return verify_say(v, &f, err, "the %s has %" PRIu64 " bytes, but %" PRIu64 " by the manifest",
                      t->is_blob ? "blob file" : "table", t->file->entry.size, size);
}

/* ---- everything that is there ---------------------------------------------------------------- */

/* The table or blob file that this is; NULL: none that is looked at. */
static struct verify_table *find_file(const struct verify *v, const struct walk_file *file)
{
    if (file->kind != FILE_TABLE && file->kind != FILE_BLOB)
        return NULL;
    struct verify_table *t = find_table(v, file->number);
    return t != NULL && t->is_blob == (file->kind == FILE_BLOB) ? t : NULL;
}

static lsm_status check_plain(struct verify *v, const struct walk_file *file, lsm_error *err)
{
    const struct io_entry *entry = &file->entry;
    if (!walk_file_is_plain(file)) {
        lsm_finding f =
            finding_of(entry->kind == IO_ENTRY_SYMLINK ? FINDING_SYMLINK : FINDING_NOT_A_FILE);
        f.file = file->text;
        struct verify_table *t = find_file(v, file);
        if (t != NULL) {
            t->is_told = true;
            blame(&f, t);
        }
        return verify_say(v, &f, err, "in the place of a file of the database stands %s",
                          entry_kinds[entry->kind]);
    }
    lsm_status status = LSM_OK;
    bool changes =
        file->kind != FILE_TABLE && file->kind != FILE_BLOB; /* a checkpoint links those */
    if (entry->links > 1 && changes) {
        lsm_finding f = finding_of(FINDING_HARD_LINK);
        f.file = file->text;
        finding_numbers(&f, 1, entry->links);
        status = verify_tell(v, &f, err);
    }
    if (status == LSM_OK && entry->identity.device != v->listing.self.identity.device) {
        lsm_finding f = finding_of(FINDING_OTHER_DEVICE);
        f.file = file->text;
        status = verify_tell(v, &f, err);
    }
    return status;
}

static lsm_status tell_simply(struct verify *v, const struct walk_file *file, enum finding_id id,
                              lsm_error *err)
{
    lsm_finding f = finding_of(id);
    f.file = file->text;
    return verify_tell(v, &f, err);
}

static lsm_status check_ours(struct verify *v, const struct walk_file *file, lsm_error *err)
{
    lsm_status status = check_plain(v, file, err);
    if (status != LSM_OK || !walk_file_is_plain(file))
        return status;
    if (file->kind == FILE_TEMPORARY)
        return v->db != NULL ? LSM_OK : tell_simply(v, file, FINDING_TEMPORARY, err);
    bool is_blob = file->kind == FILE_BLOB;
    if ((!is_blob && file->kind != FILE_TABLE) || !v->state_is_whole || find_file(v, file) != NULL)
        return LSM_OK;
    if (v->db != NULL && file->number >= v->view.job_limit)
        return tell_simply(v, file, is_blob ? FINDING_BLOB_UNFINISHED : FINDING_TABLE_UNFINISHED,
                           err);
    return tell_simply(v, file, is_blob ? FINDING_BLOB_ORPHAN : FINDING_TABLE_ORPHAN, err);
}

static lsm_status check_file(struct verify *v, const struct walk_file *file, lsm_error *err)
{
    switch (file->name) {
    case WALK_NAME_OURS:
        return check_ours(v, file, err);
    case WALK_NAME_ODD:
        return tell_simply(v, file, FINDING_ODD_NAME, err);
    case WALK_NAME_FOREIGN:
        break;
    }
    return tell_simply(v, file, FINDING_FOREIGN_FILE, err);
}

lsm_status verify_inventory(struct verify *v, lsm_error *err)
{
    verify_pass(v, 2, v->listing.count);
    lsm_status status = take_tables(v, err);
    if (v->listing.unlisted > 0)
        verify_unmeasured(v, 2, NULL, "%" PRIu64 " more names in the directory",
                          v->listing.unlisted);
    for (size_t i = 0; status == LSM_OK && i < v->listing.count; i++) {
        if (is_of_interest(v, v->listing.files[i].text))
            status = check_file(v, &v->listing.files[i], err);
    }
    for (size_t i = 0; status == LSM_OK && i < v->table_count; i++)
        status = check_table(v, &v->tables[i], err);
    if (status == LSM_OK)
        status = verify_progress(v, v->listing.count, err);
    return status;
}
