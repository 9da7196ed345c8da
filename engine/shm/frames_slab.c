/*
 * A slab is cut into pieces of one size, in one of some ways, when the first block of that size
 * needs one. It becomes uncut when all its pieces are free, or is emptied on purpose when there is
 * no slab for another size.
 *
 * The pieces of a slab are in four states: with a block (it has an identity), in limbo (none, but a
 * stamp), free (neither), and just taken. Lists say the same for speed, and can be made from that.
 */
#include "engine/shm/frames_private.h"

#include "engine/base/step.h"

#include <assert.h>

#define GRANULE ((size_t)64) /* blocks begin with a line */
#define MODESTY 1024         /* failures until memory is asked for again where there was none */
#define PATIENCE                                                                                   \
    256 /* failures until another slab is emptied: of the first something is in use for long */

/* Into how many pieces. Near 4 and 8 KiB, where most blocks are, the ways are near each other. */
static const uint8_t class_pieces[FRAMES_CLASSES] = {
    128, 112, 96, 80, 72, 66, 64, 62, 60, 58, 56, 54, 52, 48, 44, 40, 36, 34, 33, 32, 31, 30, 29,
    28,  26,  24, 22, 20, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9,  8,  7,  6,  5,  4,  3,  2,  1};

/* ---- sizes ----------------------------------------------------------------------------------- */

static uint32_t piece_size_of(uint32_t pieces)
{
    return (uint32_t)(FRAMES_SLAB / pieces / GRANULE * GRANULE);
}

uint32_t frames_class_of(size_t size)
{
    assert(size <= FRAMES_MAX_BLOCK);
    uint32_t class = 0;
    while (piece_size_of(class_pieces[class]) < size)
        class ++;
    return class;
}

/* ---- lists of slabs -------------------------------------------------------------------------- */

static uint32_t free_bytes_of(const struct frames_slab *slab)
{
    return (slab->pieces - slab->used) * slab->piece_size;
}

static void link_partial(struct shm_frames *f, struct frames_shard *shard, uint32_t number)
{
    struct frames_slab *slab = &f->slabs[number];
    uint32_t *first = &shard->partial[slab->class];
    slab->previous = 0;
    slab->next = *first;
    if (*first != 0)
        f->slabs[*first - 1].previous = number + 1;
    *first = number + 1;
}

static void unlink_partial(struct shm_frames *f, struct frames_shard *shard, uint32_t number)
{
    struct frames_slab *slab = &f->slabs[number];
    if (slab->previous != 0)
        f->slabs[slab->previous - 1].next = slab->next;
    else
        shard->partial[slab->class] = slab->next;
    if (slab->next != 0)
        f->slabs[slab->next - 1].previous = slab->previous;
}

static void make_uncut(struct shm_frames *f, struct frames_shard *shard, uint32_t number)
{
    struct frames_slab *slab = &f->slabs[number];
    slab->pieces = 0;
    slab->used = 0;
    slab->free = 0;
    slab->next = shard->uncut;
    shard->uncut = number + 1;
    shard->uncut_bytes += FRAMES_SLAB;
}

/* ---- cutting --------------------------------------------------------------------------------- */

static void init_piece(struct shm_frames *f, uint32_t slab, uint32_t piece, uint32_t piece_size)
{
    struct shm_frame *frame = &f->frames[slab * FRAMES_SLAB_FRAMES + piece];
    const uint8_t *data = f->data + (uint64_t)slab * FRAMES_SLAB + (uint64_t)piece * piece_size;
    assert(atomic_load_explicit(&frame->number, memory_order_relaxed) == 0);
    frame->stamp = 0;
    frame->place = (uint32_t)((size_t)(data - (const uint8_t *)frame) / FRAMES_UNIT);
    if (frame->kind != SHM_FRAME_SHARED)
        frame->kind = SHM_FRAME_SHARED;
}

static void push_free(struct shm_frames *f, struct frames_slab *slab, struct shm_frame *frame)
{
    frame->stamp = 0;
    atomic_store_explicit(&frame->next, slab->free, memory_order_relaxed);
    slab->free = frames_number_of(f, frame) + 1;
}

static void cut(struct shm_frames *f, struct frames_shard *shard, uint32_t class)
{
    uint32_t number = shard->uncut - 1;
    struct frames_slab *slab = &f->slabs[number];
    shard->uncut = slab->next;
    shard->uncut_bytes -= FRAMES_SLAB;
    slab->class = class;
    slab->piece_size = piece_size_of(class_pieces[class]);
    for (uint32_t i = class_pieces[class]; i-- > 0;) {
        init_piece(f, number, i, slab->piece_size);
        push_free(f, slab, &f->frames[number * FRAMES_SLAB_FRAMES + i]);
    }
    STEP("frames: pieces made");
    slab->pieces = class_pieces[class];
    shard->free_bytes[class] += free_bytes_of(slab);
    link_partial(f, shard, number);
    STEP("frames: slab cut");
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* One more slab with memory, as long as much is left for memtables. */
static bool grow(struct shm_frames *f, struct frames_shard *shard)
{
    if (shard->grown == shard->slab_count)
        return false;
    if (shard->modesty > 0) {
        shard->modesty--;
        return false;
    }
    uint32_t number = frames_slab_number(f, shard, shard->grown);
    uint64_t descriptors = f->region + f->plan.frames + (uint64_t)number * IO_ALIGNMENT;
    uint64_t data = f->region + f->plan.data + (uint64_t)number * FRAMES_SLAB;
    if (!shm_segment_has_room(f->segment) ||
        shm_segment_back(f->segment, descriptors, IO_ALIGNMENT, NULL) != LSM_OK ||
        shm_segment_back(f->segment, data, FRAMES_SLAB, NULL) != LSM_OK) {
        shard->modesty = MODESTY;
        return false;
    }
    STEP("frames: slab backed");
    shard->grown++;
    make_uncut(f, shard, number);
    atomic_fetch_add_explicit(&shard->backed_bytes, FRAMES_SLAB + IO_ALIGNMENT,
                              memory_order_relaxed);
    return true;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

struct shm_frame *frames_take(struct shm_frames *f, struct frames_shard *shard, uint32_t class)
{
    if (shard->partial[class] == 0) {
        if (shard->uncut == 0 && !grow(f, shard))
            return NULL;
        cut(f, shard, class);
    }
    uint32_t number = shard->partial[class] - 1;
    struct frames_slab *slab = &f->slabs[number];
    struct shm_frame *frame = &f->frames[slab->free - 1];
    slab->free = atomic_load_explicit(&frame->next, memory_order_relaxed);
    slab->used++;
    shard->free_bytes[class] -= slab->piece_size;
    if (slab->free == 0)
        unlink_partial(f, shard, number);
    return frame;
}

void frames_give_back(struct shm_frames *f, struct frames_shard *shard, struct shm_frame *frame)
{
    uint32_t number = frames_number_of(f, frame) / FRAMES_SLAB_FRAMES;
    struct frames_slab *slab = &f->slabs[number];
    slab->used--;
    frame->stamp = 0;
    if (shard->emptying == number + 1) {
        if (slab->used == 0) {
            shard->emptying = 0;
            make_uncut(f, shard, number);
        }
        return;
    }
    if (slab->free == 0)
        link_partial(f, shard, number);
    push_free(f, slab, frame);
    shard->free_bytes[slab->class] += slab->piece_size;
    if (slab->used == 0) {
        shard->free_bytes[slab->class] -= free_bytes_of(slab);
        unlink_partial(f, shard, number);
        make_uncut(f, shard, number);
    }
}

/* Puts the slab back among the others: something in it is in use for long. */
static void stop_emptying(struct shm_frames *f, struct frames_shard *shard)
{
    uint32_t number = shard->emptying - 1;
    struct frames_slab *slab = &f->slabs[number];
    shard->emptying = 0;
    slab->free = 0;
    for (uint32_t i = 0; i < slab->pieces; i++) {
        struct shm_frame *frame = &f->frames[number * FRAMES_SLAB_FRAMES + i];
        if (atomic_load_explicit(&frame->number, memory_order_relaxed) == 0 && frame->stamp == 0)
            push_free(f, slab, frame);
    }
    if (slab->free == 0)
        return;
    shard->free_bytes[slab->class] += free_bytes_of(slab);
    link_partial(f, shard, number);
}

bool frames_empty_slab(struct shm_frames *f, struct frames_shard *shard, uint32_t *chosen)
{
    if (shard->emptying != 0) {
        if (shard->patience-- > 0)
            return false;
        stop_emptying(f, shard);
    }
    for (uint32_t i = 0; i < shard->grown; i++) {
        uint32_t own_index = (shard->hand / FRAMES_SLAB_FRAMES + i) % shard->grown;
        uint32_t number = frames_slab_number(f, shard, own_index);
        struct frames_slab *slab = &f->slabs[number];
        if (slab->pieces == 0)
            continue;
        if (slab->free != 0) {
            shard->free_bytes[slab->class] -= free_bytes_of(slab);
            unlink_partial(f, shard, number);
        }
        shard->emptying = number + 1;
        shard->patience = PATIENCE;
        shard->hand = (own_index + 1) % shard->grown * FRAMES_SLAB_FRAMES;
        *chosen = number;
        return true;
    }
    return false;
}

void frames_slabs_recount(struct shm_frames *f, struct frames_shard *shard)
{
    shard->uncut = 0;
    shard->uncut_bytes = 0;
    shard->emptying = 0;
    for (uint32_t i = 0; i < FRAMES_CLASSES; i++) {
        shard->partial[i] = 0;
        shard->free_bytes[i] = 0;
    }
    for (uint32_t i = 0; i < shard->grown; i++) {
        uint32_t number = frames_slab_number(f, shard, i);
        struct frames_slab *slab = &f->slabs[number];
        slab->free = 0;
        slab->used = slab->pieces;
        if (slab->pieces == 0)
            make_uncut(f, shard, number);
    }
    atomic_store_explicit(&shard->backed_bytes, shard->grown * (FRAMES_SLAB + IO_ALIGNMENT),
                          memory_order_relaxed);
}
