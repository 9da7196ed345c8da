/*
 * Whose database it is: the uuid seeds every checksum, so without it nothing can be judged. CURRENT
 * says it, and so does every manifest, table and log segment by itself.
 */
#include "engine/repair/repair_private.h"

#include <stdio.h>
#include <string.h>

static lsm_status read_current(struct repair *r, char text[CURRENT_MAX_SIZE], size_t *size,
                               lsm_error *err)
{
    struct io_file *file = NULL;
    lsm_status status = io_file_open(r->dir, "CURRENT", 0, 0, &file, err);
    if (status == LSM_OK)
        status = io_file_read(file, text, CURRENT_MAX_SIZE, 0, size, err);
    io_file_close(file);
    return status;
}

static lsm_status correct_it(struct repair *r, char text[CURRENT_MAX_SIZE], size_t size,
                             lsm_error *err)
{
    struct correct_change c;
    if (correct_current((uint8_t *)text, size, &c) != CORRECT_DONE ||
        current_decode(text, size, r->path, r->walk.uuid, &r->current_names, NULL) != LSM_OK)
        return LSM_OK;
    char action[96];
    r->current_is_good = true;
    struct repair_patch patch = {.part = REPAIR_CURRENT,
                                 .kind = FILE_CURRENT,
                                 .offset = c.offset,
                                 .bytes = (uint8_t *)text + c.offset,
                                 .size = 1};
    struct repair_step step = repair_step_of(REPAIR_CURRENT, 0, FINDING_CURRENT_DAMAGED, "CURRENT");
    step.offset = c.offset;
    step.length = 1;
    step.is_exact = true;
    snprintf(action, sizeof action, "byte %zu becomes 0x%02x again (it is 0x%02x)", c.offset,
             c.expected, c.found);
    lsm_status status = repair_add_patch(r, &patch, err);
    return status == LSM_OK ? repair_add_step(r, &step, "CURRENT has one wrong byte", action, err)
                            : status;
}

/* ---- without CURRENT ------------------------------------------------------------------------- */

static bool manifest_tells(struct repair *r, const struct walk_file *f)
{
    struct io_file *file = NULL;
    uint8_t bytes[FRAME_FILE_HEADER_SIZE];
    struct frame_place place = {.file_number = f->number};
    struct frame_reader reader;
    size_t got = 0;
    if (io_file_open(r->dir, f->text, 0, 0, &file, NULL) != LSM_OK)
        return false;
    lsm_status status = io_file_read(file, bytes, sizeof bytes, 0, &got, NULL);
    io_file_close(file);
    if (status != LSM_OK || got < sizeof bytes)
        return false;
    memcpy(place.uuid, bytes + 16, sizeof place.uuid);
    if (frame_reader_open(&reader, &place, f->text, (lsm_slice){bytes, sizeof bytes}, NULL) !=
        LSM_OK)
        return false;
    memcpy(r->walk.uuid, place.uuid, sizeof place.uuid);
    return true;
}

static bool table_tells(struct repair *r, const struct walk_file *f)
{
    struct walk_table *walk = NULL;
    struct walk_table_options options = {.number = f->number, .any = true};
    if (walk_table_open(&r->walk, &options, &walk, NULL) != LSM_OK)
        return false;
    bool tells = walk->has_footer && walk->number == f->number;
    if (tells)
        memcpy(r->walk.uuid, walk->uuid, sizeof r->walk.uuid);
    walk_table_close(walk);
    return tells;
}

static bool segment_tells(struct repair *r, const struct walk_file *f)
{
    struct io_file *file = NULL;
    struct log_segment_header header;
    uint8_t uuid[HASH_UUID_SIZE];
    size_t got = 0;
    bool tells = false;
    uint8_t *block = mem_alloc(LOG_SEGMENT_HEADER);
    if (block != NULL && io_file_open(r->dir, f->text, 0, 0, &file, NULL) == LSM_OK &&
        io_file_read(file, block, LOG_SEGMENT_HEADER, 0, &got, NULL) == LSM_OK &&
        got == LOG_SEGMENT_HEADER) {
        memcpy(uuid, block + 16, sizeof uuid);
        tells = log_segment_decode(block, uuid, f->number, &header) == LOG_SEGMENT_OK;
    }
    io_file_close(file);
    mem_free(block);
    if (tells)
        memcpy(r->walk.uuid, uuid, sizeof uuid);
    return tells;
}

/* The newest file that says it by itself: manifests before tables before segments. */
static bool find_uuid(struct repair *r)
{
    static const enum file_kind kinds[] = {FILE_MANIFEST, FILE_TABLE, FILE_WAL};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (size_t i = r->list.count; i > 0; i--) {
            const struct walk_file *f = &r->list.files[i - 1];
            if (f->name != WALK_NAME_OURS || f->kind != kinds[k] || !walk_file_is_plain(f))
                continue;
            if (kinds[k] == FILE_MANIFEST ? manifest_tells(r, f)
                : kinds[k] == FILE_TABLE  ? table_tells(r, f)
                                          : segment_tells(r, f))
                return true;
        }
    }
    return false;
}

static lsm_status without_current(struct repair *r, lsm_error *err)
{
    if (!find_uuid(r)) {
        bool has_files = false;
        for (size_t i = 0; i < r->list.count; i++)
            has_files = has_files || (r->list.files[i].name == WALK_NAME_OURS &&
                                      r->list.files[i].kind != FILE_LOCK);
        return lsm_fail(err, has_files ? LSM_CORRUPT : LSM_MISSING,
                        has_files ? "no file in '%s' tells whose database it is: nothing can be "
                                    "told from rubbish there"
                                  : "there is no database in '%s'",
                        r->path);
    }
    enum finding_id id = r->has_current ? FINDING_CURRENT_DAMAGED : FINDING_CURRENT_MISSING;
    struct repair_step step = repair_step_of(REPAIR_CURRENT, 0, id, "CURRENT");
    r->state.needs_generation = true;
    return repair_add_step(r, &step, finding_kind_of(id)->meaning,
                           "written anew, naming a new manifest", err);
}

static void find_next_number(struct repair *r)
{
    r->next_number = 1;
    for (size_t i = 0; i < r->list.count; i++) {
        const struct walk_file *f = &r->list.files[i];
        bool counts =
            f->name == WALK_NAME_OURS && (f->kind == FILE_MANIFEST || f->kind == FILE_TABLE ||
                                          f->kind == FILE_BLOB || f->kind == FILE_TEMPORARY);
        if (counts && f->number >= r->next_number && f->number < REPAIR_MAX_NUMBER)
            r->next_number = f->number + 1;
    }
}

lsm_status repair_identify(struct repair *r, lsm_error *err)
{
    char text[CURRENT_MAX_SIZE];
    size_t size = 0;
    lsm_error why = {0};
    find_next_number(r);
    lsm_status status = read_current(r, text, &size, &why);
    r->has_current = status == LSM_OK;
    if (status == LSM_OK) {
        status = current_decode(text, size, r->path, r->walk.uuid, &r->current_names, &why);
        if (status == LSM_NEWER_FORMAT) {
            status_copy(err, &why);
            return status;
        }
        r->current_is_good = status == LSM_OK;
        status = status == LSM_OK ? LSM_OK : correct_it(r, text, size, err);
        if (status != LSM_OK)
            return status;
    } else if (status == LSM_IO || status == LSM_NO_MEMORY) {
        status_copy(err, &why);
        return status;
    }
    status = r->current_is_good ? LSM_OK : without_current(r, err);
    memcpy(r->env.uuid, r->walk.uuid, sizeof r->env.uuid);
    return status;
}
