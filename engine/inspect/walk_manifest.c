/* See the header. The judgement of a damaged tail, torn or rotten, is that of frame_next(). */
#include "engine/inspect/walk_manifest.h"

#include "engine/base/memory.h"
#include "engine/format/file_name.h"

#include <stdio.h>

#define FRAME_STEP    ((uint64_t)8)         /* frames begin at multiples of it */
#define SEARCH_BUDGET ((uint64_t)256 << 20) /* bytes hashed in vain at most behind damages */
#define SEARCH_PIECE  ((uint64_t)64 << 10)  /* looked through at a time */
#define TORN_MAX      ((uint64_t)16 << 20)  /* a longer end is not judged: it is damage */
#define NUMBER_AT     32                    /* of the file, in its header */
#define UUID_AT       16

void walk_manifest_close(struct walk_manifest *walk)
{
    walk_stream_close(walk->stream);
    io_file_close(walk->file);
    *walk = (struct walk_manifest){0};
}

static lsm_status open_file(const struct walk_env *env, struct walk_manifest *m, uint64_t limit,
                            lsm_error *err)
{
    lsm_status status = io_file_open(env->dir, m->name, 0, 0, &m->file, err);
    if (status == LSM_OK)
        status = io_file_size(m->file, &m->size, err);
    if (status == LSM_OK && limit < m->size)
        m->size = limit;
    if (status == LSM_OK && m->size > WALK_MANIFEST_MAX) {
        status = lsm_fail(err, LSM_CORRUPT,
                          "manifest '%s' has %" PRIu64 " bytes, over the limit of %" PRIu64,
                          m->name, m->size, WALK_MANIFEST_MAX);
        status_place(err, m->name, LSM_NO_OFFSET);
        status_numbers(err, WALK_MANIFEST_MAX, m->size);
    }
    m->search_left = SEARCH_BUDGET;
    m->frame_limit = FRAME_STEP + FRAME_HEADER_SIZE + FRAME_MAX_PAYLOAD;
    return status == LSM_OK ? walk_stream_open(env, m->file, m->size, &m->stream, err) : status;
}

/* What there is of the file's bytes [offset, offset + size). */
static lsm_status see(struct walk_manifest *m, uint64_t offset, uint64_t size, lsm_slice *bytes,
                      int *unreadable, lsm_error *err)
{
    const uint8_t *data = NULL;
    uint64_t left = offset < m->size ? m->size - offset : 0;
    size_t wanted = (size_t)(size < left ? size : left);
    *bytes = (lsm_slice){NULL, 0};
    *unreadable = 0;
    if (wanted == 0)
        return LSM_OK;
    lsm_status status = walk_stream_get(m->stream, offset, wanted, &data, unreadable, err);
    if (status == LSM_OK)
        *bytes = (lsm_slice){data, wanted};
    return status;
}

static lsm_status judge_header(struct walk_manifest *m, lsm_error *err)
{
    struct frame_reader reader;
    lsm_slice bytes;
    int unreadable;
    m->header_fault = FINDING_COUNT;
    m->chain = (struct frame_chain){.offset = FRAME_FILE_HEADER_SIZE};
    m->is_first = true;
    lsm_status status = see(m, 0, FRAME_FILE_HEADER_SIZE, &bytes, &unreadable, err);
    if (status != LSM_OK)
        return status;
    lsm_status judgement =
        frame_reader_open(&reader, &m->place, m->name, bytes, &m->header_problem);
    if (judgement == LSM_OK) {
        m->chain.previous = reader.chain.previous;
        m->has_chain = true;
        return LSM_OK;
    }
    const uint8_t *header = bytes.data;
    bool is_own = bytes.size < FRAME_FILE_HEADER_SIZE ||
                  (memcmp(header + UUID_AT, m->place.uuid, sizeof m->place.uuid) == 0 &&
                   bytes_get_u64(header + NUMBER_AT) == m->place.file_number);
    struct frame_place theirs;
    bool is_sound = false;
    if (!is_own) {
        memcpy(theirs.uuid, header + UUID_AT, sizeof theirs.uuid);
        theirs.file_number = bytes_get_u64(header + NUMBER_AT);
        is_sound = frame_reader_open(&reader, &theirs, m->name, bytes, NULL) == LSM_OK;
    }
    m->header_fault = judgement == LSM_NEWER_FORMAT ? FINDING_NEWER_FORMAT
                      : is_sound                    ? FINDING_MANIFEST_FOREIGN
                                                    : FINDING_MANIFEST_HEADER;
    return LSM_OK;
}

lsm_status walk_manifest_open(const struct walk_env *env, uint64_t number, uint64_t limit,
                              struct walk_manifest *walk, lsm_error *err)
{
    struct walk_manifest m = {.place = {.file_number = number}};
    memcpy(m.place.uuid, env->uuid, sizeof m.place.uuid);
    file_name_make(FILE_MANIFEST, number, m.name);
    lsm_status status = open_file(env, &m, limit, err);
    if (status == LSM_OK)
        status = judge_header(&m, err);
    if (status != LSM_OK) {
        walk_manifest_close(&m);
        return status;
    }
    *walk = m;
    return LSM_OK;
}

lsm_status walk_manifest_read_all(const struct walk_env *env, const struct walk_manifest *walk,
                                  struct buffer *bytes, lsm_error *err)
{
    uint8_t *at = walk->size == 0 ? NULL : buffer_grow(bytes, (size_t)walk->size);
    if (walk->size > 0 && at == NULL)
        return lsm_fail_memory(err, (size_t)walk->size);
    lsm_status status = io_file_read_exact(walk->file, at, (size_t)walk->size, 0, err);
    if (status == LSM_OK && env->pace != NULL && !env->pace(env->pace_context, walk->size))
        status = lsm_fail(err, LSM_CANCELLED, "the caller cancelled the reading");
    return status;
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* The size that the frame at the front of `head` says; 0 when none can begin there. */
static uint64_t size_said(const struct walk_manifest *m, lsm_slice head, uint64_t offset)
{
    const uint8_t *at = head.data;
    if (head.size < FRAME_HEADER_SIZE || memcmp(at + 8, "lfrm", 4) != 0)
        return 0;
    uint64_t payload = bytes_get_u32(at + 12);
    uint64_t size = (FRAME_HEADER_SIZE + payload + FRAME_STEP - 1) / FRAME_STEP * FRAME_STEP;
    return payload > FRAME_MAX_PAYLOAD || size > m->size - offset ? 0 : size;
}

/* Does a frame stand whole there? One over the limit is not looked at: *is_too_large. */
static lsm_status take_frame(struct walk_manifest *m, uint64_t offset, struct frame *frame,
                             bool *is_whole, uint64_t *too_large, lsm_error *err)
{
    lsm_slice bytes;
    int unreadable;
    *is_whole = false;
    *too_large = 0;
    lsm_status status = see(m, offset, FRAME_HEADER_SIZE, &bytes, &unreadable, err);
    uint64_t size = status == LSM_OK ? size_said(m, bytes, offset) : 0;
    if (size == 0)
        return status;
    if (size > m->frame_limit) {
        *too_large = size;
        return LSM_OK;
    }
    status = see(m, offset, size, &bytes, &unreadable, err);
    if (status == LSM_OK)
        *is_whole = frame_at_front(&m->place, bytes, offset, frame);
    return status;
}

/* The next frame that stands whole behind `offset`, or the file's size. */
static lsm_status find_frame(struct walk_manifest *m, uint64_t offset, uint64_t *found,
                             int *unreadable, lsm_error *err)
{
    uint64_t at = offset + FRAME_STEP;
    lsm_status status = LSM_OK;
    *found = m->size;
    while (status == LSM_OK && at + FRAME_HEADER_SIZE <= m->size) {
        lsm_slice bytes;
        int bad;
        status = see(m, at, SEARCH_PIECE, &bytes, &bad, err);
        *unreadable = bad != 0 ? bad : *unreadable;
        if (status != LSM_OK)
            break;
        const uint8_t *head = bytes.data;
        uint64_t limit = at + bytes.size - FRAME_HEADER_SIZE, size = 0;
        for (; at <= limit && size == 0; at += FRAME_STEP, head += FRAME_STEP)
            size = size_said(m, (lsm_slice){head, FRAME_HEADER_SIZE}, at);
        if (size == 0)
            continue;
        at -= FRAME_STEP;
        if (size > m->search_left)
            break;
        struct frame frame;
        bool is_whole;
        uint64_t too_large;
        status = take_frame(m, at, &frame, &is_whole, &too_large, err);
        if (status == LSM_OK && is_whole) {
            *found = at;
            return LSM_OK;
        }
        m->search_left -= size;
        at += FRAME_STEP;
    }
    return status;
}

/* Is what stands behind the last whole frame what a crash leaves? */
static lsm_status judge_tail(struct walk_manifest *m, bool *is_torn, lsm_error *err)
{
    struct buffer tail = {0};
    uint64_t size = m->size - m->chain.offset;
    *is_torn = false;
    uint8_t *bytes = buffer_grow(&tail, (size_t)size);
    if (bytes == NULL)
        return lsm_fail_memory(err, (size_t)size);
    lsm_status status = LSM_OK;
    if (io_file_read_exact(m->file, bytes, (size_t)size, m->chain.offset, NULL) == LSM_OK) {
        struct frame_reader reader = {.place = m->place,
                                      .file_name = m->name,
                                      .bytes = buffer_slice(&tail),
                                      .base = m->chain.offset,
                                      .chain = m->chain};
        enum frame_result result = FRAME_READ;
        struct frame frame;
        lsm_error inner = {.message = ""};
        status = frame_next(&reader, &result, &frame, &inner);
        *is_torn = status == LSM_OK && result == FRAME_TORN;
        if (status == LSM_CORRUPT)
            status = LSM_OK;
        else if (status != LSM_OK)
            status_copy(err, &inner);
    }
    buffer_release(&tail);
    return status;
}

/* Damage up to the next whole frame; at the end of the file it may be a torn write. */
static lsm_status take_damage(struct walk_manifest *m, struct walk_edit *e, lsm_error *err)
{
    uint64_t next = m->size;
    int unreadable = 0;
    bool is_torn = false, may_be_torn = false;
    lsm_status status = find_frame(m, e->offset, &next, &unreadable, err);
    if (status == LSM_OK && next == m->size && !m->is_first && m->has_chain && unreadable == 0 &&
        m->size - e->offset <= TORN_MAX) {
        may_be_torn = true;
        status = judge_tail(m, &is_torn, err);
    }
    if (status != LSM_OK)
        return status;
    e->length = next - e->offset;
    e->fault = is_torn ? FINDING_MANIFEST_TORN : FINDING_FRAME_CHECKSUM;
    snprintf(e->text, sizeof e->text, "%s",
             unreadable != 0  ? "the device refuses to read a part of it"
             : next < m->size ? "no frame is whole here, and others follow"
             : is_torn        ? "the last edit was not written to its end"
             : may_be_torn    ? "one byte of the last frame is wrong"
                              : "no frame is whole here");
    m->chain.offset = next;
    m->has_chain = false;
    return LSM_OK;
}

/* What it says is not known, but where it ends. */
static void take_too_large(struct walk_manifest *m, struct walk_edit *e, uint64_t size)
{
    e->is_too_large = true;
    e->length = size;
    snprintf(e->text, sizeof e->text, "a frame of %" PRIu64 " bytes is over the limit of %" PRIu64,
             size, m->frame_limit);
    m->chain.offset += size;
    m->has_chain = m->is_first = false;
    m->more = 0;
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
    if (m->chain.offset >= m->size)
        return LSM_OK;
    bool is_whole;
    uint64_t too_large;
    lsm_status status = take_frame(m, m->chain.offset, &edit->frame, &is_whole, &too_large, err);
    if (status != LSM_OK)
        return status;
    if (too_large > 0) {
        take_too_large(m, edit, too_large);
        return LSM_OK;
    }
    if (!is_whole)
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
