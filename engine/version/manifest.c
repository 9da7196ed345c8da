/*
 * A snapshot may be large, so it is written as several frames of about a megabyte, which count down
 * to the last; a file that lacks one of them is damaged, as CURRENT names it only when all are
 * durable.
 */
#include "engine/version/manifest.h"

#include "engine/base/memory.h"
#include "engine/base/step.h"
#include "engine/format/current.h"
#include "engine/format/file_name.h"
#include "engine/version/replay.h"

#include <assert.h>

#define PART_SIZE   ((size_t)512 << 10) /* bytes of keys and names in one part of a snapshot */
#define TABLE_BYTES ((size_t)80)        /* what a table takes besides its keys, about, */
#define BLOB_BYTES  ((size_t)40)        /* and a blob file, or one more that a table refers to */

static_assert(EDIT_MAX_SIZE <= FRAME_MAX_PAYLOAD, "every edit fits into a frame");

/* ---- snapshots --------------------------------------------------------------------------------
 */

struct snapshot {
    struct version_edit part; /* its arrays are of borrowed things */
    size_t part_bytes;
    size_t created_room, added_room, blob_room;
    struct buffer payloads; /* of all parts, one behind the other */
    struct buffer sizes;    /* u64 each */
    lsm_error *err;
};

static lsm_status part_end(struct snapshot *s)
{
    size_t before = s->payloads.size;
    lsm_status status = edit_encode(&s->part, &s->payloads, s->err);
    buffer_append_u64(&s->sizes, s->payloads.size - before);
    if (status == LSM_OK && s->sizes.failed)
        status = lsm_fail_memory(s->err, s->sizes.size + 8);
    s->part.is_snapshot = false;
    s->part.has_log = false;
    s->part.created_count = s->part.added_count = s->part.blob_count = 0;
    s->part_bytes = 0;
    return status;
}

static lsm_status part_room(struct snapshot *s, size_t bytes)
{
    s->part_bytes += bytes;
    return s->part_bytes > PART_SIZE && s->part_bytes > bytes ? part_end(s) : LSM_OK;
}

static bool room_for_one(void **array, size_t *room, size_t count, size_t element)
{
    if (count < *room)
        return true;
    size_t wanted = *room == 0 ? 64 : *room * 2;
    void *grown = mem_resize(*array, wanted * element);
    if (grown == NULL)
        return false;
    *array = grown;
    *room = wanted;
    return true;
}

static lsm_status snapshot_family(struct snapshot *s, const struct version_cf *cf)
{
    lsm_status status = part_room(s, strlen(cf->name) + sizeof cf->options);
    if (status != LSM_OK)
        return status;
    if (!room_for_one((void **)&s->part.created, &s->created_room, s->part.created_count,
                      sizeof *s->part.created))
        return lsm_fail_memory(s->err, 2 * s->created_room * sizeof *s->part.created);
    s->part.created[s->part.created_count++] =
        (struct edit_cf){.id = cf->id, .name = (char *)(uintptr_t)cf->name, .options = cf->options};
    return LSM_OK;
}

static lsm_status snapshot_table(struct snapshot *s, const struct table_meta *meta)
{
    lsm_status status = part_room(s, TABLE_BYTES + meta->smallest.size + meta->largest.size +
                                         meta->blob_count * BLOB_BYTES);
    if (status != LSM_OK)
        return status;
    if (!room_for_one((void **)&s->part.added, &s->added_room, s->part.added_count,
                      sizeof *s->part.added))
        return lsm_fail_memory(s->err, 2 * s->added_room * sizeof *s->part.added);
    s->part.added[s->part.added_count++] = *meta;
    return LSM_OK;
}

static lsm_status snapshot_blob(struct snapshot *s, const struct blob_meta *meta)
{
    lsm_status status = part_room(s, BLOB_BYTES);
    if (status != LSM_OK)
        return status;
    if (!room_for_one((void **)&s->part.blobs, &s->blob_room, s->part.blob_count,
                      sizeof *s->part.blobs))
        return lsm_fail_memory(s->err, 2 * s->blob_room * sizeof *s->part.blobs);
    s->part.blobs[s->part.blob_count++] = *meta;
    return LSM_OK;
}

static lsm_status snapshot_collect(struct snapshot *s, const struct version *version)
{
    lsm_status status = LSM_OK;
    for (size_t i = 0; status == LSM_OK && i < version->family_count; i++)
        status = snapshot_family(s, version->families[i]);
    for (size_t i = 0; i < version->family_count; i++) {
        for (size_t k = 0; k < VERSION_LEVELS; k++) {
            const struct version_level *level = &version->families[i]->levels[k];
            for (size_t f = 0; status == LSM_OK && f < level->count; f++)
                status = snapshot_table(s, &level->files[f]->meta);
        }
    }
    for (size_t i = 0; status == LSM_OK && i < version->blob_count; i++)
        status = snapshot_blob(s, &version->blobs[i].meta);
    return status == LSM_OK ? part_end(s) : status;
}

/* Appends the frames of a snapshot to `bytes`. */
static lsm_status snapshot_frames(const struct frame_place *place, const struct version *version,
                                  const struct version_state *state, struct frame_chain *chain,
                                  struct buffer *bytes, lsm_error *err)
{
    struct snapshot s = {.err = err,
                         .part = {.is_snapshot = true,
                                  .has_log = true,
                                  .log_position = state->log_position,
                                  .log_chain = state->log_chain,
                                  .clean = state->clean,
                                  .last_sequence = state->last_sequence,
                                  .next_file_number = state->next_file_number,
                                  .next_cf = state->next_cf}};
    lsm_status status = snapshot_collect(&s, version);
    size_t count = s.sizes.size / 8, at = 0;
    for (size_t i = 0; status == LSM_OK && i < count; i++) {
        size_t size = (size_t)bytes_get_u64(s.sizes.data + 8 * i);
        frame_append(place, FRAME_EDIT, (uint32_t)(count - 1 - i),
                     (lsm_slice){s.payloads.data + at, size}, chain, bytes);
        at += size;
    }
    if (status == LSM_OK && bytes->failed)
        status = lsm_fail_memory(err, s.payloads.size);
    mem_free(s.part.created);
    mem_free(s.part.added);
    mem_free(s.part.blobs);
    buffer_release(&s.payloads);
    buffer_release(&s.sizes);
    return status;
}

/* ---- files ------------------------------------------------------------------------------------
 */

static struct frame_place place_of(const struct table_env *env, uint64_t number)
{
    struct frame_place place = {.file_number = number};
    memcpy(place.uuid, env->uuid, sizeof place.uuid);
    return place;
}

/* A new file with these bytes, durable with its name. */
static lsm_status write_new_file(const struct table_env *env, const char *name, lsm_slice bytes,
                                 struct io_file **file, lsm_error *err)
{
    struct io_file *made = NULL;
    lsm_status status = io_file_open(env->dir, name, IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_NEW,
                                     env->mode, &made, err);
    if (status != LSM_OK)
        return status;
    STEP("manifest file: made");
    status = io_file_write(made, bytes.data, bytes.size, 0, err);
    STEP("manifest file: written");
    if (status == LSM_OK)
        status = io_file_sync(made, err);
    STEP("manifest file: synced");
    if (status == LSM_OK)
        status = io_dir_sync(env->dir, err);
    STEP("manifest file: name synced");
    if (status != LSM_OK) {
        io_file_close(made);
        (void)io_dir_unlink(env->dir, name, NULL, NULL); /* or the next recovery removes it */
        return status;
    }
    *file = made;
    return LSM_OK;
}

lsm_status manifest_create(const struct table_env *env, uint64_t number, uint64_t frame_number,
                           const struct version *version, const struct version_state *state,
                           struct manifest *manifest, lsm_error *err)
{
    struct manifest m = {.env = env, .place = place_of(env, number)};
    struct buffer bytes = {0};
    char name[FILE_NAME_SIZE];
    m.chain = frame_begin_file(&m.place, frame_number, &bytes);
    lsm_status status = snapshot_frames(&m.place, version, state, &m.chain, &bytes, err);
    if (status == LSM_OK)
        status = write_new_file(env, file_name_make(FILE_MANIFEST, number, name),
                                buffer_slice(&bytes), &m.file, err);
    buffer_release(&bytes);
    if (status != LSM_OK)
        return status;
    m.roll_size = m.chain.offset * MANIFEST_ROLL_GROW;
    *manifest = m;
    return LSM_OK;
}

void manifest_close(struct manifest *m)
{
    io_file_close(m->file);
    *m = (struct manifest){0};
}

lsm_status manifest_put_in_force(const struct table_env *env, uint64_t number, bool *is_uncertain,
                                 lsm_error *err)
{
    char text[CURRENT_MAX_SIZE], temporary[FILE_NAME_SIZE], current[FILE_NAME_SIZE];
    size_t size = current_encode(env->uuid, number, text);
    struct io_file *file = NULL;
    *is_uncertain = false;
    file_name_make(FILE_TEMPORARY, number, temporary);
    lsm_status status = write_new_file(env, temporary, (lsm_slice){text, size}, &file, err);
    if (status != LSM_OK)
        return status;
    io_file_close(file);
    *is_uncertain = true;
    status = io_dir_rename(env->dir, temporary, file_name_make(FILE_CURRENT, 0, current), err);
    STEP("manifest: current renamed");
    if (status == LSM_OK)
        status = io_dir_sync(env->dir, err);
    STEP("manifest: current synced");
    *is_uncertain = status != LSM_OK;
    return status;
}

lsm_status manifest_append(struct manifest *m, const struct version_edit *edit, bool *is_broken,
                           lsm_error *err)
{
    struct buffer payload = {0}, bytes = {0};
    struct frame_chain chain = m->chain;
    *is_broken = false;
    lsm_status status = edit_encode(edit, &payload, err);
    if (status != LSM_OK)
        goto out;
    frame_append(&m->place, FRAME_EDIT, 0, buffer_slice(&payload), &chain, &bytes);
    if (bytes.failed) {
        status = lsm_fail_memory(err, payload.size);
        goto out;
    }
    STEP("manifest: frame begins");
    status = io_file_write(m->file, bytes.data, bytes.size, m->chain.offset, err);
    STEP("manifest: frame written");
    if (status == LSM_OK) {
        status = io_file_sync(m->file, err);
        STEP("manifest: frame synced");
        *is_broken = status != LSM_OK;
    } else {
        /* Cutting off what was written makes the end known again, unless the device is bad. */
        *is_broken = status != LSM_NO_SPACE ||
                     io_file_truncate(m->file, m->chain.offset, NULL) != LSM_OK ||
                     io_file_sync(m->file, NULL) != LSM_OK;
    }
    if (status == LSM_OK)
        m->chain = chain;
out:
    buffer_release(&payload);
    buffer_release(&bytes);
    return status;
}

/* ---- reading ----------------------------------------------------------------------------------
 */

static lsm_status check_size(const struct manifest *m, uint64_t size, lsm_error *err)
{
    lsm_status status = LSM_OK;
    const char *name = io_file_name(m->file);
    if (size > MANIFEST_MAX_SIZE)
        status = lsm_fail(err, LSM_CORRUPT,
                          "manifest '%s' has %" PRIu64 " bytes, over the limit of %" PRIu64, name,
                          size, MANIFEST_MAX_SIZE);
    else if (size < m->chain.offset)
        status = lsm_fail(err, LSM_CORRUPT,
                          "manifest '%s' ends at offset %" PRIu64 ", but was read up to %" PRIu64,
                          name, size, m->chain.offset);
    if (status != LSM_OK)
        status_place(err, name, LSM_NO_OFFSET);
    return status;
}

lsm_status manifest_read_tail(struct manifest *m, uint64_t limit, struct buffer *bytes,
                              lsm_error *err)
{
    uint64_t size = limit;
    lsm_status status = limit == MANIFEST_WHOLE ? io_file_size(m->file, &size, err) : LSM_OK;
    if (status == LSM_OK)
        status = check_size(m, size, err);
    if (status != LSM_OK || size == m->chain.offset)
        return status;
    size_t count = (size_t)(size - m->chain.offset);
    uint8_t *at = buffer_grow(bytes, count);
    if (at == NULL)
        return lsm_fail_memory(err, count);
    return io_file_read_exact(m->file, at, count, m->chain.offset, err);
}

/* Where the snapshot at the head of a file ends; the whole size when that cannot be told, for the
 * replay to say why. */
static uint64_t head_size(const struct frame_place *place, lsm_slice bytes)
{
    struct frame frame = {.size = FRAME_FILE_HEADER_SIZE, .more = 1};
    uint64_t end = FRAME_FILE_HEADER_SIZE;
    while (frame.more > 0) {
        if (!frame_at(place, bytes, end, &frame))
            return bytes.size;
        end += frame.size;
    }
    return end;
}

static lsm_status is_missing(const struct table_env *env, const char *name, lsm_error *err)
{
    /* Not "there is no database": CURRENT says that there is one. */
    lsm_status status = lsm_fail(
        err, LSM_CORRUPT, "the manifest '%s' is in force in '%s', but missing; see lsm-repair",
        name, io_dir_path(env->dir));
    status_place(err, name, LSM_NO_OFFSET);
    return status;
}

lsm_status manifest_open(const struct table_env *env, uint64_t number, uint64_t limit,
                         bool is_writable, struct manifest *manifest, struct version_edit *snapshot,
                         lsm_error *err)
{
    struct manifest m = {.env = env, .place = place_of(env, number)};
    struct buffer bytes = {0};
    char name[FILE_NAME_SIZE];
    bool is_torn = false;
    file_name_make(FILE_MANIFEST, number, name);
    lsm_status status =
        io_file_open(env->dir, name, is_writable ? IO_FILE_WRITE : 0, env->mode, &m.file, err);
    if (status == LSM_MISSING)
        status = is_missing(env, name, err);
    if (status == LSM_OK)
        status =
            manifest_read_tail(&m, limit == MANIFEST_HEAD ? MANIFEST_WHOLE : limit, &bytes, err);
    lsm_slice wanted = buffer_slice(&bytes);
    uint64_t head = status == LSM_OK ? head_size(&m.place, wanted) : 0;
    if (limit == MANIFEST_HEAD)
        wanted.size = (size_t)head;
    if (status == LSM_OK)
        status = replay_manifest(&m.place, name, wanted, snapshot, &m.chain, &is_torn, err);
    buffer_release(&bytes);
    if (status == LSM_OK) {
        m.roll_size = head * MANIFEST_ROLL_GROW;
        *manifest = m;
    } else {
        manifest_close(&m);
    }
    return status;
}
