/* See the header. The judgement of a damaged tail, torn or rotten, is that of frame_next(). */
#include "engine/inspect/walk_manifest.h"

#include "engine/base/memory.h"
#include "engine/format/file_name.h"

#include <stdio.h>

#define FRAME_STEP    ((uint64_t)8)         /* frames begin at multiples of it */
#define SEARCH_BUDGET ((uint64_t)256 << 20) /* bytes hashed in vain at most behind one damage */
#define NUMBER_AT     32                    /* of the file, in its header */
#define UUID_AT       16

void walk_manifest_close(struct walk_manifest *walk)
{
    buffer_release(&walk->bytes);
    *walk = (struct walk_manifest){0};
}

static lsm_status read_file(const struct walk_env *env, struct walk_manifest *m, uint64_t limit,
                            lsm_error *err)
{
    struct io_file *file = NULL;
    uint64_t size = 0;
    lsm_status status = io_file_open(env->dir, m->name, 0, 0, &file, err);
    if (status == LSM_OK)
        status = io_file_size(file, &size, err);
    if (status == LSM_OK && limit < size)
        size = limit;
    if (status == LSM_OK && size > WALK_MANIFEST_MAX) {
        status = lsm_fail(err, LSM_CORRUPT,
                          "manifest '%s' has %" PRIu64 " bytes, over the limit of %" PRIu64,
                          m->name, size, WALK_MANIFEST_MAX);
        status_place(err, m->name, LSM_NO_OFFSET);
        status_numbers(err, WALK_MANIFEST_MAX, size);
    }
    if (status == LSM_OK && size > 0 && buffer_grow(&m->bytes, (size_t)size) == NULL)
        status = lsm_fail_memory(err, (size_t)size);
    if (status == LSM_OK)
        status = io_file_read_exact(file, m->bytes.data, (size_t)size, 0, err);
    if (status == LSM_OK && env->pace != NULL && !env->pace(env->pace_context, size))
        status = lsm_fail(err, LSM_CANCELLED, "the caller cancelled the reading");
    io_file_close(file);
    return status;
}

static void judge_header(struct walk_manifest *m)
{
    struct frame_reader reader;
    m->header_fault = FINDING_COUNT;
    m->chain = (struct frame_chain){.offset = FRAME_FILE_HEADER_SIZE};
    m->is_first = true;
    lsm_status status =
        frame_reader_open(&reader, &m->place, m->name, buffer_slice(&m->bytes), &m->header_problem);
    if (status == LSM_OK) {
        m->chain.previous = reader.chain.previous;
        m->has_chain = true;
        return;
    }
    const uint8_t *header = m->bytes.data;
    bool is_own = m->bytes.size < FRAME_FILE_HEADER_SIZE ||
                  (memcmp(header + UUID_AT, m->place.uuid, sizeof m->place.uuid) == 0 &&
                   bytes_get_u64(header + NUMBER_AT) == m->place.file_number);
    struct frame_place theirs;
    bool is_sound = false;
    if (!is_own) {
        memcpy(theirs.uuid, header + UUID_AT, sizeof theirs.uuid);
        theirs.file_number = bytes_get_u64(header + NUMBER_AT);
        is_sound =
            frame_reader_open(&reader, &theirs, m->name, buffer_slice(&m->bytes), NULL) == LSM_OK;
    }
    m->header_fault = status == LSM_NEWER_FORMAT ? FINDING_NEWER_FORMAT
                      : is_sound                 ? FINDING_MANIFEST_FOREIGN
                                                 : FINDING_MANIFEST_HEADER;
}

lsm_status walk_manifest_open(const struct walk_env *env, uint64_t number, uint64_t limit,
                              struct walk_manifest *walk, lsm_error *err)
{
    struct walk_manifest m = {.place = {.file_number = number}};
    memcpy(m.place.uuid, env->uuid, sizeof m.place.uuid);
    file_name_make(FILE_MANIFEST, number, m.name);
    lsm_status status = read_file(env, &m, limit, err);
    if (status != LSM_OK) {
        walk_manifest_close(&m);
        return status;
    }
    judge_header(&m);
    *walk = m;
    return LSM_OK;
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* The next frame that stands whole behind `offset`, or the file's size. */
static uint64_t find_frame(const struct walk_manifest *m, uint64_t offset)
{
    lsm_slice bytes = buffer_slice(&m->bytes);
    uint64_t budget = SEARCH_BUDGET;
    for (uint64_t at = offset + FRAME_STEP; at < bytes.size; at += FRAME_STEP) {
        if (bytes.size - at < FRAME_HEADER_SIZE)
            break;
        const uint8_t *head = m->bytes.data + at;
        struct frame frame;
        if (memcmp(head + 8, "lfrm", 4) != 0)
            continue;
        uint64_t size = FRAME_HEADER_SIZE + (uint64_t)bytes_get_u32(head + 12);
        if (size > bytes.size - at || size > budget)
            continue;
        if (frame_at(&m->place, bytes, at, &frame))
            return at;
        budget -= size;
    }
    return bytes.size;
}

/* Damage up to the next whole frame; at the end of the file it may be a torn write. */
static lsm_status take_damage(struct walk_manifest *m, struct walk_edit *e, lsm_error *err)
{
    uint64_t next = find_frame(m, e->offset);
    e->length = next - e->offset;
    e->fault = FINDING_FRAME_CHECKSUM;
    if (next < m->bytes.size || m->is_first || !m->has_chain) {
        snprintf(e->text, sizeof e->text,
                 next < m->bytes.size ? "no frame is whole here, and others follow"
                                      : "no frame is whole here");
    } else {
        struct frame_reader reader = {
            .place = m->place,
            .file_name = m->name,
            .bytes = buffer_slice(&m->bytes),
            .chain = m->chain,
        };
        enum frame_result result = FRAME_READ;
        struct frame frame;
        lsm_error inner = {.message = ""};
        lsm_status status = frame_next(&reader, &result, &frame, &inner);
        if (status != LSM_OK && status != LSM_CORRUPT) {
            status_copy(err, &inner);
            return status;
        }
        bool is_torn = status == LSM_OK && result == FRAME_TORN;
        if (is_torn)
            e->fault = FINDING_MANIFEST_TORN;
        snprintf(e->text, sizeof e->text,
                 is_torn ? "the last edit was not written to its end"
                         : "one byte of the last frame is wrong");
    }
    m->chain.offset = next;
    m->has_chain = false;
    return LSM_OK;
}

static void check_links(const struct walk_manifest *m, struct walk_edit *e)
{
    const struct frame *f = &e->frame;
    if (!m->has_chain)
        return;
    if (!m->is_first && f->number != m->chain.number) {
        e->number_differs = true;
        e->expected = m->chain.number;
        e->found = f->number;
        snprintf(e->text, sizeof e->text, "frame %" PRIu64 " has to stand here, not %" PRIu64,
                 e->expected, e->found);
    } else if (f->previous != m->chain.previous) {
        e->chain_differs = true;
        snprintf(e->text, sizeof e->text, "the frame does not follow the one before it");
    } else if (m->more > 0 && f->more != m->more - 1) {
        e->lacks_part = true;
        snprintf(e->text, sizeof e->text, "a part of the edit before is missing");
    }
}

static lsm_status take_edit(struct walk_edit *e, lsm_error *err)
{
    if (e->frame.kind != FRAME_EDIT) {
        if (e->frame.kind >= FRAME_OPTIONAL)
            return LSM_OK;
        e->fault = FINDING_NEWER_FORMAT;
        snprintf(e->text, sizeof e->text,
                 "the frame is of kind %" PRIu32 ", unknown to this library", e->frame.kind);
        return LSM_OK;
    }
    lsm_error inner = {.message = ""};
    lsm_status status = edit_decode(e->frame.payload, &e->edit, &inner);
    e->has_edit = status == LSM_OK;
    if (status == LSM_CORRUPT || status == LSM_NEWER_FORMAT) {
        e->fault = status == LSM_CORRUPT ? FINDING_EDIT_MALFORMED : FINDING_NEWER_FORMAT;
        snprintf(e->text, sizeof e->text, "%.200s", inner.message);
        status = LSM_OK;
    } else if (status != LSM_OK) {
        status_copy(err, &inner);
    }
    return status;
}

lsm_status walk_manifest_next(struct walk_manifest *walk, struct walk_edit *edit, lsm_error *err)
{
    struct walk_manifest *m = walk;
    *edit = (struct walk_edit){.offset = m->chain.offset, .fault = FINDING_COUNT};
    if (m->chain.offset >= m->bytes.size)
        return LSM_OK;
    lsm_slice bytes = buffer_slice(&m->bytes);
    if (!frame_at(&m->place, bytes, m->chain.offset, &edit->frame))
        return take_damage(m, edit, err);
    edit->has_frame = true;
    edit->length = edit->frame.size;
    check_links(m, edit);
    m->chain = (struct frame_chain){.offset = edit->offset + edit->frame.size,
                                    .number = edit->frame.number + 1,
                                    .previous = edit->frame.checksum};
    m->has_chain = true;
    m->is_first = false;
    m->more = edit->frame.more;
    return take_edit(edit, err);
}
