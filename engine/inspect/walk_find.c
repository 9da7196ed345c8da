/*
 * Finding frames by nothing but themselves: a magic word at a multiple of 8, and a checksum that
 * fits the place. A file may be made so that magic words are everywhere and claim long payloads, so
 * what is hashed in vain is counted.
 */
#include "engine/inspect/walk_table_private.h"

#include "engine/base/memory.h"

#define WINDOW ((size_t)256 << 10) /* bytes looked through at once */

struct window {
    uint8_t *bytes; /* owned; WINDOW + a frame's head */
    uint64_t offset;
    size_t size;
};

static lsm_status window_load(struct walk *w, struct window *win, uint64_t offset, lsm_error *err)
{
    uint64_t start = offset & ~(uint64_t)(IO_ALIGNMENT - 1), left = w->base.file_size - start;
    win->offset = start;
    win->size = left < WINDOW ? (size_t)left : WINDOW;
    int unreadable = 0;
    return walk_read(&w->env, w->file, win->bytes, win->size, start, &unreadable, err);
}

/* The hash of the frame's bytes [offset + 8, end), with the seed of its place. */
static lsm_status hash_frame(struct walk *w, const struct window *win, uint64_t offset,
                             uint64_t size, uint64_t *hash, lsm_error *err)
{
    uint64_t seed = hash_place(w->base.uuid, w->base.number, offset);
    uint64_t at = offset + 8, end = offset + size;
    if (end <= win->offset + win->size) {
        *hash = hash_bytes(win->bytes + (at - win->offset), (size_t)(end - at), seed);
        return LSM_OK;
    }
    struct window piece = {.bytes = mem_alloc_buffer(WINDOW)};
    if (piece.bytes == NULL)
        return lsm_fail_memory(err, WINDOW);
    lsm_status status = LSM_OK;
    if (w->hash == NULL && (w->hash = hash_stream_new()) == NULL)
        status = lsm_fail_memory(err, WINDOW);
    else
        hash_stream_begin(w->hash, seed);
    while (status == LSM_OK && at < end) {
        status = window_load(w, &piece, at, err);
        if (status != LSM_OK)
            break;
        uint64_t limit = piece.offset + piece.size < end ? piece.offset + piece.size : end;
        hash_stream_add(w->hash, piece.bytes + (at - piece.offset), (size_t)(limit - at));
        at = limit;
    }
    if (status == LSM_OK)
        *hash = hash_stream_end(w->hash);
    mem_free_buffer(piece.bytes, WINDOW);
    return status;
}

static struct table_frame read_head(const uint8_t *at)
{
    return (struct table_frame){
        .kind = at[12],
        .compression = at[13],
        .level = at[14],
        .stored_size = bytes_get_u32(at + 16),
        .raw_size = bytes_get_u32(at + 20),
        .cf = bytes_get_u32(at + 24),
        .entry_count = bytes_get_u32(at + 28),
        .min_sequence = bytes_get_u64(at + 32),
        .max_sequence = bytes_get_u64(at + 40),
    };
}

/* Is there a whole frame at `offset`, of which `at` are the first bytes? */
static lsm_status try_frame(struct walk *w, const struct window *win, uint64_t offset,
                            uint64_t limit, bool *is_whole, struct table_frame *frame,
                            lsm_error *err)
{
    const uint8_t *at = win->bytes + (offset - win->offset);
    uint64_t size = TABLE_FRAME_SIZE + (uint64_t)bytes_get_u32(at + 16);
    *is_whole = false;
    if (bytes_get_u32(at + 8) != TABLE_FRAME_MAGIC || at[12] < TABLE_FRAME_DATA ||
        at[12] > TABLE_FRAME_PROPERTIES || size > limit - offset || size > w->search_left)
        return LSM_OK;
    w->search_left -= size;
    uint64_t hash = 0;
    lsm_status status = hash_frame(w, win, offset, size, &hash, err);
    if (status != LSM_OK || hash != bytes_get_u64(at))
        return status;
    w->search_left += size; /* what is found is not in vain */
    *frame = read_head(at);
    *is_whole = true;
    return LSM_OK;
}

lsm_status walk_find_frame(struct walk *w, uint64_t offset, uint64_t limit, uint64_t *found,
                           struct table_frame *frame, lsm_error *err)
{
    struct window win = {.bytes = mem_alloc_buffer(WINDOW)};
    if (win.bytes == NULL)
        return lsm_fail_memory(err, WINDOW);
    lsm_status status = LSM_OK;
    bool is_whole = false;
    uint64_t at = (offset + TABLE_FRAME_ALIGNMENT - 1) & ~(uint64_t)(TABLE_FRAME_ALIGNMENT - 1);
    while (status == LSM_OK && limit >= TABLE_FRAME_SIZE && at <= limit - TABLE_FRAME_SIZE) {
        if (at < win.offset || at + TABLE_FRAME_SIZE > win.offset + win.size)
            status = window_load(w, &win, at, err);
        if (status == LSM_OK)
            status = try_frame(w, &win, at, limit, &is_whole, frame, err);
        if (is_whole)
            break;
        at += TABLE_FRAME_ALIGNMENT;
    }
    mem_free_buffer(win.bytes, WINDOW);
    if (status == LSM_OK)
        *found = is_whole ? at : limit;
    return status;
}
