/*
 * Opening: what CURRENT names is replayed, compared with the directory, and written anew. The old
 * manifest is never appended to again, so nothing has to be cut off its end, and it stays as the
 * generation before.
 */
#include "engine/version/lost_edits.h"
#include "engine/version/set_private.h"

#include "engine/base/buffer.h"
#include "engine/base/step.h"
#include "engine/format/current.h"
#include "engine/format/file_name.h"
#include "engine/format/table_properties.h"

#define FIRST_MANIFEST  UINT64_C(1)
#define MAX_FILE_NUMBER (UINT64_C(1) << 62) /* a name above it is an orphan, not a counter */

/* ---- CURRENT ----------------------------------------------------------------------------------
 */

/* Without CURRENT, files that only a database with one can have mean that it was lost. */
static lsm_status current_is_missing(struct io_dir *dir, lsm_error *err)
{
    struct listing list = {0};
    lsm_status status = listing_read(&list, dir, err);
    for (size_t i = 0; status == LSM_OK && i < list.count; i++) {
        const struct found_file *f = &list.files[i];
        bool made_first =
            f->number == FIRST_MANIFEST && (f->kind == FILE_MANIFEST || f->kind == FILE_TEMPORARY);
        if (made_first || (f->kind != FILE_TABLE && f->kind != FILE_BLOB && f->kind != FILE_WAL &&
                           f->kind != FILE_MANIFEST && f->kind != FILE_TEMPORARY))
            continue;
        char name[FILE_NAME_SIZE];
        status = lsm_fail(err, LSM_CORRUPT,
                          "CURRENT is missing in '%s', but '%s' is there; see "
                          "lsm-repair",
                          io_dir_path(dir), file_name_make(f->kind, f->number, name));
        status_place(err, "CURRENT", LSM_NO_OFFSET);
    }
    listing_release(&list);
    return status == LSM_OK
               ? lsm_fail(err, LSM_MISSING, "there is no database in '%s'", io_dir_path(dir))
               : status;
}

lsm_status version_read_current(struct io *io, struct io_dir *dir, uint8_t uuid[TABLE_UUID_SIZE],
                                uint64_t *manifest_number, lsm_error *err)
{
    (void)io;
    struct io_file *file = NULL;
    char name[FILE_NAME_SIZE], text[CURRENT_MAX_SIZE];
    size_t size = 0;
    lsm_status status = io_file_open(dir, file_name_make(FILE_CURRENT, 0, name), 0, 0, &file, err);
    if (status == LSM_MISSING)
        return current_is_missing(dir, err);
    if (status == LSM_OK)
        status = io_file_read(file, text, sizeof text, 0, &size, err);
    if (status == LSM_OK)
        status = current_decode(text, size, io_dir_path(dir), uuid, manifest_number, err);
    io_file_close(file);
    return status;
}

/* ---- creation ---------------------------------------------------------------------------------
 */

static void remove_interrupted_creation(struct io_dir *dir)
{
    char name[FILE_NAME_SIZE];
    (void)io_dir_unlink(dir, file_name_make(FILE_MANIFEST, FIRST_MANIFEST, name), NULL, NULL);
    (void)io_dir_unlink(dir, file_name_make(FILE_TEMPORARY, FIRST_MANIFEST, name), NULL, NULL);
}

static lsm_status check_absent(const struct table_env *env, lsm_error *err)
{
    uint8_t uuid[TABLE_UUID_SIZE];
    uint64_t number;
    lsm_status status = version_read_current(env->io, env->dir, uuid, &number, err);
    if (status == LSM_MISSING)
        return LSM_OK;
    return status != LSM_OK ? status
                            : lsm_fail(err, LSM_EXISTS, "there is a database in '%s' already",
                                       io_dir_path(env->dir));
}

lsm_status version_set_create(const struct version_options *options,
                              const lsm_cf_options *default_cf, struct version_set **set,
                              lsm_error *err)
{
    const struct table_env *env = options->env;
    struct version_edit edit = {.next_cf = 1};
    struct version_set *s = NULL;
    struct live_version *empty = NULL, *first = NULL;
    bool is_uncertain;
    lsm_status status = check_absent(env, err);
    if (status != LSM_OK)
        return status;
    remove_interrupted_creation(env->dir);
    s = version_set_new(options);
    if (s == NULL)
        return lsm_fail_memory(err, sizeof *s);
    atomic_store(s->next_file_number, FIRST_MANIFEST);
    s->state.next_cf = 1;
    s->state.clean = true; /* there is no log yet */
    empty = version_new_empty(&s->pool);
    status = empty == NULL ? lsm_fail_memory(err, sizeof *empty)
                           : edit_create_cf(&edit, 0, "default", default_cf, err);
    if (status == LSM_OK)
        status = version_build(&empty->base, &edit, &s->pool, &first, err);
    if (status == LSM_OK)
        status = version_set_rotate(s, &first->base, &s->state, 1, &is_uncertain, err);
    if (status == LSM_OK) {
        version_set_install(s, first);
        *set = s;
        s = NULL;
    } else if (first != NULL) {
        version_drop(&first->base);
    }
    edit_release(&edit);
    if (empty != NULL)
        version_drop(&empty->base);
    version_set_close(s);
    return status;
}

/* ---- recovery ---------------------------------------------------------------------------------
 */

static lsm_status check_file(const struct table_env *env, enum file_kind kind, uint64_t number,
                             uint32_t cf, uint64_t wanted, lsm_error *err)
{
    const char *what = kind == FILE_BLOB ? "blob file" : "table";
    char name[FILE_NAME_SIZE];
    struct io_file *file = NULL;
    uint64_t size = 0;
    file_name_make(kind, number, name);
    lsm_status status = io_file_open(env->dir, name, 0, 0, &file, err);
    if (status == LSM_MISSING) {
        status = lsm_fail(err, LSM_CORRUPT,
                          "%s '%s' of column family %u is missing in '%s'; see lsm-repair", what,
                          name, cf, io_dir_path(env->dir));
        status_place(err, name, LSM_NO_OFFSET);
    }
    if (status == LSM_OK)
        status = io_file_size(file, &size, err);
    if (status == LSM_OK && size != wanted) {
        status = lsm_fail(err, LSM_CORRUPT,
                          "%s '%s' in '%s' has %" PRIu64 " bytes, the manifest says %" PRIu64
                          "; see lsm-repair",
                          what, name, io_dir_path(env->dir), size, wanted);
        status_place(err, name, LSM_NO_OFFSET);
        status_numbers(err, wanted, size);
    }
    io_file_close(file);
    return status;
}

static lsm_status check_tables(const struct table_env *env, const struct version_edit *snapshot,
                               lsm_error *err)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < snapshot->added_count; i++)
        status = check_file(env, FILE_TABLE, snapshot->added[i].number, snapshot->added[i].cf,
                            snapshot->added[i].size, err);
    for (size_t i = 0; status == LSM_OK && i < snapshot->blob_count; i++)
        status = check_file(env, FILE_BLOB, snapshot->blobs[i].number, snapshot->blobs[i].cf,
                            snapshot->blobs[i].size, err);
    return status;
}

static bool is_orphan(const struct version_set *set, const struct found_file *file,
                      const struct listing *live)
{
    switch (file->kind) {
    case FILE_TEMPORARY:
        return true;
    case FILE_MANIFEST:
        return file->number != set->manifest.place.file_number &&
               file->number != set->previous_number;
    case FILE_TABLE:
    case FILE_BLOB:
        return !listing_has(live, file);
    default:
        return false;
    }
}

/* Files nobody names any more. What cannot be removed is tried again at the next recovery. */
static lsm_status remove_orphans(struct version_set *set, const struct listing *list,
                                 lsm_error *err)
{
    struct listing live = {0};
    lsm_status status = table_pool_list(&set->pool, &live, err);
    listing_sort(&live);
    for (size_t i = 0; status == LSM_OK && i < list->count; i++) {
        char name[FILE_NAME_SIZE];
        if (!is_orphan(set, &list->files[i], &live))
            continue;
        file_name_make(list->files[i].kind, list->files[i].number, name);
        if (io_dir_unlink(set->options.env->dir, name, NULL, NULL) != LSM_OK)
            atomic_fetch_add(&set->dead.unlink_failures, 1);
        STEP("recover: an orphan removed");
    }
    listing_release(&live);
    return status;
}

/* No number that a file had before the crash is given out again. */
static void count_past_files(struct version_set *set, const struct listing *list)
{
    uint64_t next = set->state.next_file_number;
    for (size_t i = 0; i < list->count; i++) {
        const struct found_file *f = &list->files[i];
        bool counted = f->kind == FILE_TABLE || f->kind == FILE_BLOB || f->kind == FILE_MANIFEST ||
                       f->kind == FILE_TEMPORARY;
        if (counted && f->number >= next && f->number < MAX_FILE_NUMBER)
            next = f->number + 1;
    }
    atomic_store(set->next_file_number, next);
}

static lsm_status replay(struct version_set *set, uint64_t number, struct version_edit *snapshot,
                         lsm_error *err)
{
    const struct table_env *env = set->options.env;
    lsm_status status =
        manifest_open(env, number, MANIFEST_WHOLE, false, &set->manifest, snapshot, err);
    if (status != LSM_OK)
        return status;
    version_state_apply(&set->state, snapshot);
    version_raise(&set->last_sequence, snapshot->last_sequence);
    status = version_resolve_stored(snapshot, err);
    return status == LSM_OK ? check_tables(env, snapshot, err) : status;
}

/* ---- a whole manifest that lost its end -------------------------------------------------------
 */

static lsm_status ask_table(const void *context, uint64_t number, uint64_t *max_sequence,
                            lsm_error *err)
{
    const struct table_env *env = context;
    struct table *table = NULL;
    lsm_status status = table_open(env, number, 0, &table, err);
    if (status == LSM_OK)
        *max_sequence = table_properties(table)->max_sequence;
    table_close(table);
    return status == LSM_CORRUPT || status == LSM_MISSING ? LSM_OK : status;
}

/* A mark that cannot be read is none: it is a hint, and what it speaks of is whole without it. */
static lsm_status see_mark(const struct table_env *env, struct edit_mark *mark, lsm_error *err)
{
    lsm_error why = {0};
    lsm_status status = edit_mark_read(env->dir, mark, &why);
    if (status != LSM_NO_MEMORY)
        return LSM_OK;
    if (err != NULL)
        *err = why;
    return status;
}

/* Which tables there are, and how far the manifest reached: looked at before it is read. */
static lsm_status see_evidence(const struct table_env *env, struct lost_edits_evidence *evidence,
                               struct buffer *tables, lsm_error *err)
{
    struct listing list = {0};
    *evidence = (struct lost_edits_evidence){.ask = ask_table, .context = env};
    lsm_status status = see_mark(env, &evidence->mark, err);
    if (status == LSM_OK)
        status = listing_read(&list, env->dir, err);
    for (size_t i = 0; status == LSM_OK && i < list.count; i++) {
        if (list.files[i].kind == FILE_TABLE)
            buffer_append(tables, &list.files[i].number, sizeof list.files[i].number);
    }
    listing_release(&list);
    if (tables->failed)
        return lsm_fail_memory(err, tables->size);
    evidence->tables = (const uint64_t *)(const void *)tables->data;
    evidence->table_count = tables->size / sizeof *evidence->tables;
    return status;
}

/* What the lost edits said must not be overwritten, nor its tables go as orphans. */
static lsm_status check_end(const struct version_set *set, const struct version_edit *snapshot,
                            const struct lost_edits_evidence *evidence, lsm_error *err)
{
    const struct table_env *env = set->options.env;
    struct lost_edits lost;
    char text[LOST_EDITS_TEXT], name[FILE_NAME_SIZE];
    lsm_status status =
        lost_edits_find(evidence, env->uuid, snapshot, version_set_number(set), &lost, err);
    if (status != LSM_OK || lost.proof == LOST_EDITS_NONE)
        return status;
    status = lsm_fail(err, LSM_CORRUPT, "in '%s' %s; see lsm-repair", io_dir_path(env->dir),
                      lost_edits_text(&lost, text));
    file_name_make(lost.proof == LOST_EDITS_TABLE ? FILE_TABLE : FILE_MANIFEST,
                   lost.proof == LOST_EDITS_TABLE ? lost.table : set->manifest.place.file_number,
                   name);
    status_place(err, name, LSM_NO_OFFSET);
    status_numbers(err, lost.wanted, lost.found);
    return status;
}

/* From here on the old manifest is history. That the database was closed cleanly stays true until
 * the caller has begun a log segment and says so with an edit: until then there is none. */
static lsm_status begin_anew(struct version_set *set, lsm_error *err)
{
    struct listing list = {0};
    bool is_uncertain;
    /* The process that renamed CURRENT may have been killed before it made that durable. A new
     * manifest must not become durable without a CURRENT beside it. */
    lsm_status status = io_dir_sync(set->options.env->dir, err);
    STEP("recover: directory synced");
    if (status == LSM_OK)
        status = listing_read(&list, set->options.env->dir, err);
    if (status == LSM_OK) {
        count_past_files(set, &list);
        status = version_set_rotate_current(set, set->manifest.chain.number, &is_uncertain, err);
    }
    STEP("recover: manifest begun");
    if (status == LSM_OK)
        status = remove_orphans(set, &list, err);
    listing_release(&list);
    return status;
}

lsm_status version_set_recover(const struct version_options *options, struct version_set **set,
                               struct version_state *state, lsm_error *err)
{
    uint8_t uuid[TABLE_UUID_SIZE];
    uint64_t number = 0;
    struct version_edit snapshot = {0};
    struct live_version *empty = NULL, *recovered = NULL;
    struct version_state found;
    struct lost_edits_evidence evidence;
    struct buffer tables = {0};
    struct version_set *s = version_set_new(options);
    lsm_status status = s == NULL ? lsm_fail_memory(err, sizeof *s)
                                  : see_evidence(options->env, &evidence, &tables, err);
    if (status == LSM_OK)
        status = version_read_current(options->env->io, options->env->dir, uuid, &number, err);
    if (status == LSM_OK)
        status = replay(s, number, &snapshot, err);
    if (status != LSM_OK)
        goto out;
    status = check_end(s, &snapshot, &evidence, err);
    if (status != LSM_OK)
        goto out;
    found = s->state;
    atomic_store(s->next_file_number, found.next_file_number);
    empty = version_new_empty(&s->pool);
    status = empty == NULL ? lsm_fail_memory(err, sizeof *empty)
                           : version_build(&empty->base, &snapshot, &s->pool, &recovered, err);
    if (status != LSM_OK)
        goto out;
    version_set_install(s, recovered);
    if (!options->read_only)
        status = begin_anew(s, err);
    if (status != LSM_OK)
        goto out;
    found.next_file_number = atomic_load(s->next_file_number);
    *state = found;
    *set = s;
    s = NULL;
out:
    if (empty != NULL)
        version_drop(&empty->base);
    edit_release(&snapshot);
    buffer_release(&tables);
    version_set_close(s);
    return status;
}
