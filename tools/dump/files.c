#include "tools/dump/files.h"

#include "engine/base/bytes.h"
#include "engine/format/frame.h"
#include "engine/shm/peek.h"
#include "engine/version/manifest.h"
#include "tools/cli/memory.h"

#include <stdlib.h>
#include <string.h>

#define UUID_AT ((size_t)16) /* in the header of a manifest */

/* ---- whose it is ----------------------------------------------------------------------------- */

static bool take_uuid_of(struct dump_files *f, uint64_t number)
{
    char name[FILE_NAME_SIZE];
    struct text bytes = {0};
    struct frame_reader reader;
    struct frame_place place = {.file_number = number};
    file_name_make(FILE_MANIFEST, number, name);
    bool is_good = dump_files_read(f, name, FRAME_FILE_HEADER_SIZE, &bytes, NULL) == LSM_OK &&
                   bytes.size == FRAME_FILE_HEADER_SIZE;
    if (is_good) {
        memcpy(place.uuid, bytes.bytes + UUID_AT, sizeof place.uuid);
        is_good = frame_reader_open(&reader, &place, name, text_slice(&bytes), NULL) == LSM_OK;
    }
    if (is_good)
        memcpy(f->env.uuid, place.uuid, sizeof f->env.uuid);
    text_release(&bytes);
    return is_good;
}

/* CURRENT does not say: the newest manifest whose header is whole does. */
static int guess_uuid(struct dumper *d, struct dump_files *f)
{
    struct dump_file *files = NULL;
    size_t count = 0;
    int code = dump_files_list(d, f, &files, &count);
    for (size_t i = count; code == EXIT_DONE && !f->has_uuid && i-- > 0;) {
        if (files[i].kind == FILE_MANIFEST)
            f->has_uuid = take_uuid_of(f, files[i].number);
    }
    memory_free(files);
    return code;
}

/* Joins whoever has the database open, and holds on to the tables that there are: an open iterator
 * does. It is no failure when that cannot be. */
static void join(struct dumper *d, struct dump_files *f)
{
    struct shm_peek *peek = NULL;
    lsm_error err = {0};
    if (shm_peek_open(f->io, f->dir, d->cli.directory, &peek, &err) != LSM_OK)
        return;
    enum shm_peek_state state = shm_peek_state(peek);
    shm_peek_close(peek);
    f->is_open = state != SHM_PEEK_NOBODY;
    lsm_options options = d->cli.options;
    options.read_only = true;
    if (state == SHM_PEEK_SHARED &&
        (lsm_open(d->cli.directory, &options, &f->joined, &err) != LSM_OK ||
         lsm_iter_open(f->joined, NULL, NULL, &f->pin, &err) != LSM_OK))
        cli_warn(&d->cli,
                 "others have the database open and cannot be joined, so files may go away "
                 "meanwhile: %s",
                 err.message);
}

/* Between two reads. */
static bool go_on(void *context, uint64_t bytes)
{
    (void)context;
    (void)bytes;
    return !cli_is_cancelled();
}

int dump_files_open(struct dumper *d, struct dump_files *f)
{
    lsm_error err = {0};
    if (io_open(d->cli.options.io == NULL ? "auto" : d->cli.options.io, &f->io, &err) != LSM_OK ||
        io_dir_open(f->io, d->cli.directory, 0, 0, &f->dir, &err) != LSM_OK)
        return cli_library_error(&d->cli, NULL, &err);
    f->env.io = f->io;
    f->env.dir = f->dir;
    f->env.pace = go_on;
    join(d, f);
    lsm_status status =
        version_read_current(f->io, f->dir, f->env.uuid, &f->manifest_number, &f->current_error);
    f->has_uuid = status == LSM_OK;
    if (status == LSM_OK)
        return EXIT_DONE;
    f->manifest_number = 0;
    if (status != LSM_CORRUPT && status != LSM_MISSING && status != LSM_NEWER_FORMAT)
        return cli_library_error(&d->cli, NULL, &f->current_error);
    return guess_uuid(d, f);
}

void dump_files_close(struct dump_files *f)
{
    edit_release(&f->state);
    lsm_iter_close(f->pin);
    (void)lsm_close(f->joined, NULL); /* it only read */
    io_dir_close(f->dir);
    if (f->io != NULL)
        io_close(f->io);
    *f = (struct dump_files){0};
}

/* ---- the manifest ---------------------------------------------------------------------------- */

static int compare_tables(const void *a, const void *b)
{
    const struct table_meta *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

void dump_files_sort(struct dump_files *f)
{
    if (f->state.added_count > 0)
        qsort(f->state.added, f->state.added_count, sizeof *f->state.added, compare_tables);
}

int dump_files_load(struct dumper *d, struct dump_files *f)
{
    struct table_env env = {.io = f->io, .dir = f->dir};
    struct manifest manifest = {0};
    memcpy(env.uuid, f->env.uuid, sizeof env.uuid);
    if (f->manifest_number == 0) {
        f->state_error = f->current_error;
        return EXIT_DONE;
    }
    lsm_status status = manifest_open(&env, f->manifest_number, MANIFEST_WHOLE, false, &manifest,
                                      &f->state, &f->state_error);
    manifest_close(&manifest);
    f->has_state = f->log_is_known = status == LSM_OK;
    dump_files_sort(f);
    if (f->has_state || status == LSM_CORRUPT || status == LSM_MISSING ||
        status == LSM_NEWER_FORMAT)
        return EXIT_DONE;
    return cli_library_error(&d->cli, NULL, &f->state_error);
}

int dump_files_reload(struct dumper *d, struct dump_files *f)
{
    struct version_edit before = f->state;
    uint8_t uuid[HASH_UUID_SIZE];
    f->state = (struct version_edit){0};
    /* A new manifest may be in force by now. */
    (void)version_read_current(f->io, f->dir, uuid, &f->manifest_number, NULL);
    int code = dump_files_load(d, f);
    if (f->has_state) {
        edit_release(&before);
        return code;
    }
    edit_release(&f->state);
    f->state = before;
    f->has_state = f->log_is_known = true;
    return code;
}

const char *dump_files_family(const struct dump_files *f, uint32_t id)
{
    for (size_t i = 0; i < f->state.created_count; i++) {
        if (f->state.created[i].id == id)
            return f->state.created[i].name;
    }
    return NULL;
}

const struct table_meta *dump_files_table(const struct dump_files *f, uint64_t number)
{
    if (f->state.added_count == 0)
        return NULL;
    return bsearch(&(struct table_meta){.number = number}, f->state.added, f->state.added_count,
                   sizeof *f->state.added, compare_tables);
}

const struct blob_meta *dump_files_blob(const struct dump_files *f, uint64_t number)
{
    for (size_t i = 0; f->has_state && i < f->state.blob_count; i++) {
        if (f->state.blobs[i].number == number)
            return &f->state.blobs[i];
    }
    return NULL;
}

bool dump_files_may_be_unfinished(const struct dump_files *f, const struct table_meta *meta)
{
    return meta == NULL && f->is_open && f->has_state;
}

bool dump_files_wants(const struct dumper *d, const struct dump_files *f, uint32_t cf)
{
    const char *name = dump_files_family(f, cf);
    return name == NULL ? d->cli.family_count == 0 : cli_wants_family(&d->cli, name);
}

/* ---- the directory --------------------------------------------------------------------------- */

struct listing_of {
    struct dump_files *files;
    struct dump_file *list;
    size_t count, room;
};

static lsm_status list_file(void *context, const char *name, lsm_error *err)
{
    struct listing_of *l = context;
    struct dump_file found = {.bytes = UINT64_MAX};
    struct io_file *file = NULL;
    (void)err;
    if (!file_name_parse(name, &found.kind, &found.number))
        return LSM_OK;
    lsm_status status = io_file_open(l->files->dir, name, 0, 0, &file, NULL);
    if (status == LSM_MISSING) /* removed or renamed since it was listed */
        return LSM_OK;
    if (status == LSM_OK && io_file_size(file, &found.bytes, NULL) != LSM_OK)
        found.bytes = UINT64_MAX;
    io_file_close(file);
    if (l->count == l->room) {
        l->room = l->room == 0 ? 64 : 2 * l->room;
        l->list = memory_resize(l->list, l->room * sizeof *l->list);
    }
    l->list[l->count++] = found;
    return LSM_OK;
}

static int compare_files(const void *a, const void *b)
{
    const struct dump_file *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind > y->kind ? 1 : -1;
    return (x->number > y->number) - (x->number < y->number);
}

int dump_files_list(struct dumper *d, struct dump_files *f, struct dump_file **files, size_t *count)
{
    struct listing_of l = {.files = f};
    lsm_error err = {0};
    if (io_dir_list(f->dir, list_file, &l, &err) != LSM_OK) {
        memory_free(l.list);
        return cli_library_error(&d->cli, NULL, &err);
    }
    if (l.count > 0)
        qsort(l.list, l.count, sizeof *l.list, compare_files);
    *files = l.list;
    *count = l.count;
    return EXIT_DONE;
}

lsm_status dump_files_read(struct dump_files *f, const char *name, uint64_t limit,
                           struct text *bytes, lsm_error *err)
{
    struct io_file *file = NULL;
    uint64_t size = 0;
    size_t got = 0;
    lsm_status status = io_file_open(f->dir, name, 0, 0, &file, err);
    if (status == LSM_OK)
        status = io_file_size(file, &size, err);
    if (status == LSM_OK) {
        size = size < limit ? size : limit;
        char *memory = text_reserve(bytes, (size_t)size + 1);
        status = io_file_read(file, memory, (size_t)size, 0, &got, err);
        bytes->size += status == LSM_OK ? got : 0;
    }
    io_file_close(file);
    return status;
}
