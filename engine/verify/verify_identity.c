/*
 * Whose database it is, and who may write to it. Where CURRENT is lost, the newest manifest says
 * the uuid, and where there is none, any table.
 */
#include "engine/verify/verify_private.h"

#include "engine/format/current.h"
#include "engine/shm/attach_page.h"

#define OTHERS_WRITE 0002u
#define GROUP_WRITES 0020u
#define SET_GROUP    02000u

/* ---- without CURRENT ------------------------------------------------------------------------- */

static bool has_data(const struct walk_dir *list)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct walk_file *f = &list->files[i];
        if (f->name != WALK_NAME_OURS)
            continue;
        bool unfinished = f->kind == FILE_MANIFEST && f->number == 1; /* a creation cut short */
        if (f->kind == FILE_TABLE || f->kind == FILE_BLOB || f->kind == FILE_WAL ||
            (f->kind == FILE_MANIFEST && !unfinished))
            return true;
    }
    return false;
}

/* The uuid that a manifest's own header says, where it is sound. */
static bool uuid_of_manifest(struct verify *v, const struct walk_file *f)
{
    uint8_t header[FRAME_FILE_HEADER_SIZE];
    struct io_file *file = NULL;
    if (io_file_open(v->dir, f->text, 0, 0, &file, NULL) != LSM_OK)
        return false;
    lsm_status status = io_file_read_exact(file, header, sizeof header, 0, NULL);
    io_file_close(file);
    if (status != LSM_OK)
        return false;
    struct frame_place place = {.file_number = f->number};
    memcpy(place.uuid, header + 16, sizeof place.uuid);
    struct frame_reader reader;
    if (frame_reader_open(&reader, &place, f->text, (lsm_slice){header, sizeof header}, NULL) !=
        LSM_OK)
        return false;
    memcpy(v->env.uuid, place.uuid, sizeof v->env.uuid);
    return true;
}

static bool uuid_of_table(struct verify *v, const struct walk_file *f)
{
    struct walk_table_options options = {.number = f->number, .any = true};
    struct walk_table *walk = NULL;
    if (walk_table_open(&v->env, &options, &walk, NULL) != LSM_OK)
        return false;
    bool is_told = walk->has_footer;
    if (is_told)
        memcpy(v->env.uuid, walk->uuid, sizeof v->env.uuid);
    walk_table_close(walk);
    return is_told;
}

static void guess_uuid(struct verify *v)
{
    const struct walk_file *newest = NULL;
    for (size_t i = 0; i < v->listing.count; i++) {
        const struct walk_file *f = &v->listing.files[i];
        if (f->name == WALK_NAME_OURS && f->kind == FILE_MANIFEST && walk_file_is_plain(f) &&
            (newest == NULL || f->number > newest->number) && uuid_of_manifest(v, f))
            newest = f;
    }
    if (newest != NULL) {
        (void)uuid_of_manifest(v, newest);
        v->manifest_number = newest->number;
        v->has_uuid = true;
    }
    for (size_t i = 0; i < v->listing.count && !v->has_uuid; i++) {
        const struct walk_file *f = &v->listing.files[i];
        if (f->name == WALK_NAME_OURS && f->kind == FILE_TABLE && walk_file_is_plain(f))
            v->has_uuid = uuid_of_table(v, f);
    }
}

/* ---- CURRENT --------------------------------------------------------------------------------- */

static lsm_status tell_current(struct verify *v, enum finding_id id, const char *text,
                               lsm_error *err)
{
    lsm_finding f = finding_of(id);
    f.file = "CURRENT";
    guess_uuid(v);
    return text == NULL ? verify_tell(v, &f, err) : verify_say(v, &f, err, "%s", text);
}

static lsm_status read_current(struct verify *v, lsm_error *err)
{
    struct io_file *file = NULL;
    lsm_error inner = {.message = ""};
    lsm_status status = io_file_open(v->dir, "CURRENT", 0, 0, &file, &inner);
    if (status == LSM_MISSING) {
        if (!has_data(&v->listing))
            return lsm_fail(err, LSM_MISSING, "there is no database in '%s'", v->path);
        return tell_current(v, FINDING_CURRENT_MISSING, NULL, err);
    }
    if (status == LSM_OK)
        status = io_file_read(file, v->current_text, sizeof v->current_text, 0, &v->current_size,
                              &inner);
    io_file_close(file);
    uint8_t uuid[HASH_UUID_SIZE];
    uint64_t number = 0;
    if (status == LSM_OK)
        status = current_decode(v->current_text, v->current_size, v->path, uuid, &number, &inner);
    if (status == LSM_OK) {
        memcpy(v->env.uuid, uuid, sizeof v->env.uuid);
        v->manifest_number = number;
        v->has_uuid = true;
        return LSM_OK;
    }
    if (status == LSM_NO_MEMORY || status == LSM_NEWER_FORMAT) {
        status_copy(err, &inner);
        return status;
    }
    return tell_current(v, status == LSM_IO ? FINDING_UNREADABLE : FINDING_CURRENT_DAMAGED,
                        inner.message, err);
}

/* ---- modes and owners ------------------------------------------------------------------------ */

static lsm_status check_access(struct verify *v, const struct io_entry *entry, const char *name,
                               lsm_error *err)
{
    const struct io_entry *self = &v->listing.self;
    bool is_dir = entry == self;
    lsm_status status = LSM_OK;
    bool group_may = (entry->mode & GROUP_WRITES) != 0 &&
                     (!is_dir || (entry->mode & SET_GROUP) == 0) && (self->mode & SET_GROUP) == 0;
    if ((entry->mode & OTHERS_WRITE) != 0 || group_may) {
        lsm_finding f = finding_of(FINDING_MODE_OPEN);
        f.file = name;
        status =
            verify_say(v, &f, err, "%s can be written by %s: its mode is %04o",
                       is_dir ? "the directory" : "the file",
                       (entry->mode & OTHERS_WRITE) != 0 ? "everybody" : "its group", entry->mode);
    }
    if (status == LSM_OK && entry->user != self->user) {
        lsm_finding f = finding_of(FINDING_OWNER_DIFFERS);
        f.file = name;
        finding_numbers(&f, self->user, entry->user);
        status = verify_say(v, &f, err, "the file belongs to user %u, the directory to user %u",
                            entry->user, self->user);
    }
    return status;
}

/* LOCK is believed only while somebody is there; what stands in it otherwise is of no use, but
 * should be what somebody wrote, or nothing. */
static lsm_status check_lock(struct verify *v, lsm_error *err)
{
    uint8_t page[ATTACH_PAGE_SIZE];
    struct attach_page decoded;
    struct io_file *file = NULL;
    size_t got = 0;
    const struct walk_file *lock = walk_dir_find(&v->listing, FILE_LOCK, 0);
    if (v->db != NULL || lock == NULL || !walk_file_is_plain(lock))
        return LSM_OK;
    if (io_file_open(v->dir, lock->text, 0, 0, &file, NULL) == LSM_OK &&
        io_file_read(file, page, sizeof page, 0, &got, NULL) != LSM_OK)
        got = 0;
    io_file_close(file);
    bool is_empty = got < sizeof page;
    for (size_t i = 0; !is_empty && i < sizeof page && page[i] == 0; i++)
        is_empty = i + 1 == sizeof page;
    if (is_empty || attach_page_decode(page, &decoded) != LSM_CORRUPT)
        return LSM_OK;
    lsm_finding f = finding_of(FINDING_LOCK_DAMAGED);
    finding_place(&f, lock->text, 0, sizeof page);
    return verify_tell(v, &f, err);
}

static lsm_status check_accesses(struct verify *v, lsm_error *err)
{
    lsm_status status = check_access(v, &v->listing.self, NULL, err);
    if (status == LSM_OK && io_dir_lacks_barriers(v->dir)) {
        lsm_finding f = finding_of(FINDING_MOUNT_NO_BARRIER);
        status = verify_tell(v, &f, err);
    }
    if (status == LSM_OK)
        status = check_lock(v, err);
    for (size_t i = 0; status == LSM_OK && i < v->listing.count; i++) {
        const struct walk_file *f = &v->listing.files[i];
        if (f->name == WALK_NAME_OURS && walk_file_is_plain(f))
            status = check_access(v, &f->entry, f->text, err);
    }
    return status;
}

lsm_status verify_identity(struct verify *v, lsm_error *err)
{
    verify_pass(v, 0, 0);
    /* Listed before CURRENT is read: what is in force then is in the listing, or was removed. */
    lsm_status status = walk_dir_read(v->dir, &v->listing, err);
    if (status == LSM_OK && edit_mark_read(v->dir, &v->mark, err) == LSM_NO_MEMORY)
        status = LSM_NO_MEMORY;
    if (status == LSM_OK)
        status = read_current(v, err);
    if (status == LSM_OK && v->options.file == NULL)
        status = check_accesses(v, err);
    if (v->has_uuid)
        memcpy(v->result.uuid, v->env.uuid, sizeof v->result.uuid);
    return status;
}
