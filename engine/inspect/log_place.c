/* Plain reads into a window that is a little larger than what is asked for. */
#include "engine/inspect/log_place.h"

#define WINDOW_SIZE ((size_t)256 << 10)

lsm_status log_place_open(struct log_place *place, struct io_dir *dir, enum file_kind kind,
                          uint64_t number, lsm_error *err)
{
    struct log_place opened = {0};
    file_name_make(kind, number, opened.name);
    lsm_status status = io_file_open(dir, opened.name, 0, 0, &opened.file, err);
    if (status == LSM_OK)
        status = io_file_size(opened.file, &opened.file_size, err);
    if (status != LSM_OK) {
        io_file_close(opened.file);
        return status;
    }
    if (kind == FILE_STAGE)
        opened.ring_size = (opened.file_size + (IO_ALIGNMENT - 1)) & ~(uint64_t)(IO_ALIGNMENT - 1);
    *place = opened;
    return LSM_OK;
}

void log_place_close(struct log_place *place)
{
    io_file_close(place->file);
    buffer_release(&place->window);
    buffer_release(&place->joined);
    *place = (struct log_place){0};
}

lsm_status log_place_read_trailer(struct log_place *place, const uint8_t uuid[HASH_UUID_SIZE],
                                  bool is_marked, bool no_correcting, struct log_trailer *found,
                                  lsm_error *err)
{
    uint8_t block[STAGE_TRAILER_SIZE];
    struct log_trailer t = {.fault = STAGE_TRAILER_NONE};
    *found = t;
    if (place->file_size <= STAGE_TRAILER_SIZE || place->file_size % IO_ALIGNMENT != 0)
        return LSM_OK;
    uint64_t offset = place->file_size - STAGE_TRAILER_SIZE;
    lsm_status status = io_file_read_exact(place->file, block, sizeof block, offset, err);
    if (status != LSM_OK)
        return status;
    t.fault = stage_trailer_decode(block, uuid, offset, &t.trailer);
    bool is_there = stage_trailer_is_there(t.fault);
    if (is_marked || is_there)
        place->ring_size = offset;
    if (is_marked && !is_there && !no_correcting)
        t.is_corrected =
            correct_stage_trailer(block, hash_place(uuid, 0, offset), &t.change) == CORRECT_DONE &&
            stage_trailer_decode(block, uuid, offset, &t.trailer) == STAGE_TRAILER_OK;
    *found = t;
    return LSM_OK;
}

uint64_t log_place_offset(const struct log_place *place, uint64_t position)
{
    return place->ring_size > 0 ? position % place->ring_size
                                : LOG_SEGMENT_HEADER + (position - place->start);
}

size_t log_place_room(const struct log_place *place, uint64_t position, size_t size)
{
    uint64_t room = 0;
    if (place->file == NULL)
        return 0;
    if (place->ring_size > 0)
        room = place->ring_size;
    else if (position >= place->start && position < place->limit)
        room = place->limit - position;
    return room < size ? (size_t)room : size;
}

/* What was cut off from the ring reads as zeros. */
static lsm_status read_bytes(struct log_place *place, uint8_t *to, size_t size, uint64_t offset,
                             lsm_error *err)
{
    size_t got = 0;
    lsm_status status = io_file_read(place->file, to, size, offset, &got, err);
    if (status == LSM_OK && got < size)
        memset(to + got, 0, size - got);
    return status;
}

void log_place_refresh(struct log_place *place)
{
    buffer_clear(&place->window);
}

static lsm_status read_window(struct log_place *place, uint64_t offset, size_t size, lsm_error *err)
{
    if (place->window.size > 0 && offset >= place->window_offset &&
        offset - place->window_offset <= place->window.size &&
        size <= place->window.size - (size_t)(offset - place->window_offset))
        return LSM_OK;
    uint64_t whole = place->ring_size > 0 ? place->ring_size : place->file_size;
    uint64_t left = whole - offset;
    size_t wanted = size < WINDOW_SIZE ? WINDOW_SIZE : size;
    if (wanted > left)
        wanted = (size_t)left;
    buffer_clear(&place->window);
    uint8_t *at = buffer_grow(&place->window, wanted);
    if (at == NULL)
        return lsm_fail_memory(err, wanted);
    place->window_offset = offset;
    lsm_status status = read_bytes(place, at, wanted, offset, err);
    if (status != LSM_OK)
        buffer_clear(&place->window);
    return status;
}

lsm_status log_place_get(struct log_place *place, uint64_t position, size_t size,
                         const uint8_t **bytes, lsm_error *err)
{
    uint64_t offset = log_place_offset(place, position);
    if (place->ring_size > 0 && size > place->ring_size - offset) {
        size_t first = (size_t)(place->ring_size - offset);
        buffer_clear(&place->joined);
        uint8_t *at = buffer_grow(&place->joined, size);
        if (at == NULL)
            return lsm_fail_memory(err, size);
        *bytes = at;
        lsm_status status = read_bytes(place, at, first, offset, err);
        return status == LSM_OK ? read_bytes(place, at + first, size - first, 0, err) : status;
    }
    lsm_status status = read_window(place, offset, size, err);
    if (status == LSM_OK)
        *bytes = place->window.data + (offset - place->window_offset);
    return status;
}
