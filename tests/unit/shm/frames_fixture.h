/* A segment with frames, handles to it as several processes would have them, blocks whose bytes
 * follow from their identity, and a check of everything that a shard counts. */
#ifndef TESTS_UNIT_SHM_FRAMES_FIXTURE_H
#define TESTS_UNIT_SHM_FRAMES_FIXTURE_H

#include "engine/base/memory.h"
#include "engine/base/random.h"
#include "engine/shm/frames_private.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

#define ck_ok(call)                                                                                \
    do {                                                                                           \
        lsm_error ck_error = {0};                                                                  \
        lsm_error *err = &ck_error;                                                                \
        lsm_status ck_status = (call);                                                             \
        ck_assert_msg(ck_status == LSM_OK, "%s: %d %s", #call, (int)ck_status, ck_error.message);  \
    } while (0)

/* Instead of ck_assert in what children run that are killed at any moment: Check writes a message
 * for each assertion to a file that a test shares with its children, and half a one ends it. */
#define ensure(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static char directory[64];
static struct io *io;
static struct shm_segment *segment; /* of who made it */

/* A handle over a mapping of its own. */
struct peer {
    struct shm_segment *segment;
    struct shm_frames *frames;
};

static inline void fixture_open(uint64_t capacity)
{
    snprintf(directory, sizeof directory, "/tmp/frames_test.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_ok(io_open("posix", &io, err));
    struct shm_options o = {.directory = directory,
                            .arena_size = 65536,
                            .memtable_count = 1,
                            .frames_capacity = capacity};
    ck_ok(shm_segment_create(io, &o, &segment, err));
}

static inline void fixture_close(void)
{
    shm_segment_destroy(segment);
    io_close(io);
    ck_assert_int_eq(rmdir(directory), 0);
}

static inline struct peer peer_open(uint32_t slot)
{
    struct peer p = {0};
    struct io_identity identity;
    char path[256];
    ensure(shm_segment_place(segment, path, sizeof path, &identity, NULL) == LSM_OK);
    ensure(shm_segment_open(io, path, shm_segment_name(segment), identity, &p.segment, NULL) ==
           LSM_OK);
    ensure(shm_frames_open(p.segment, slot, &p.frames, NULL) == LSM_OK);
    return p;
}

static inline void peer_close(struct peer *p)
{
    shm_frames_close(p->frames);
    shm_segment_close(p->segment);
}

/* What a killed process leaves: its slot says that it is there, and its references stay. */
static inline void peer_die(struct peer *p)
{
    uint32_t slot = p->frames->slot;
    struct frames_head *head = p->frames->head;
    shm_frames_close(p->frames);
    atomic_fetch_or(&head->attached, UINT64_C(1) << slot);
    shm_segment_close(p->segment);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static inline size_t block_size_of(uint64_t number, uint32_t index)
{
    return 3800 + (number * 7919 + index * 104729) % 500;
}

static inline void fill_block(uint8_t *data, size_t size, uint64_t number, uint32_t index)
{
    struct random_state r = random_seeded(number * 1000003 + index);
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = random_next(&r);
        memcpy(data + i, &word, size - i < 8 ? size - i : 8);
    }
}

static inline bool block_is_right(const struct shm_frame *frame, size_t size, uint64_t number,
                                  uint32_t index)
{
    static _Thread_local uint8_t wanted[FRAMES_MAX_BLOCK];
    fill_block(wanted, size, number, index);
    return memcmp(shm_frame_data(frame), wanted, size) == 0;
}

static inline struct shm_frame *insert_sized(struct shm_frames *f, uint64_t number, uint32_t index,
                                             size_t size)
{
    static _Thread_local uint8_t data[FRAMES_MAX_BLOCK + 1];
    fill_block(data, size, number, index);
    epoch_enter();
    struct shm_frame *frame = shm_frames_insert(f, number, index, data, size);
    if (frame != NULL)
        ensure(block_is_right(frame, size, number, index));
    epoch_exit();
    return frame;
}

static inline bool insert(struct shm_frames *f, uint64_t number, uint32_t index)
{
    return insert_sized(f, number, index, block_size_of(number, index)) != NULL;
}

/* Whether the block is there; if so it has to be right. */
static inline bool find(struct shm_frames *f, uint64_t number, uint32_t index)
{
    epoch_enter();
    struct shm_frame *frame = shm_frames_find(f, number, index);
    if (frame != NULL) {
        shm_frame_touch(frame);
        ensure(block_is_right(frame, block_size_of(number, index), number, index));
    }
    epoch_exit();
    return frame != NULL;
}

/* ---- what a shard counts --------------------------------------------------------------------- */

static inline void check_slab(const struct shm_frames *f, const struct frames_shard *shard,
                              uint32_t slab, uint64_t *live, uint64_t *limbo)
{
    const struct frames_slab *s = &f->slabs[slab];
    uint32_t free_count = 0, used = 0;
    for (uint32_t i = 0; i < s->pieces; i++) {
        struct shm_frame *frame = &f->frames[slab * FRAMES_SLAB_FRAMES + i];
        uint64_t number = atomic_load(&frame->number);
        ck_assert_uint_eq(frame->kind, SHM_FRAME_SHARED);
        ck_assert_ptr_eq(shm_frame_data(frame),
                         f->data + (uint64_t)slab * FRAMES_SLAB + (uint64_t)i * s->piece_size);
        used += number != 0 || frame->stamp != 0;
        *live += number != 0 ? s->piece_size : 0;
        *limbo += number == 0 && frame->stamp != 0 ? s->piece_size : 0;
        if (number != 0)
            ck_assert_ptr_eq(frames_look(f, number, atomic_load(&frame->index), UINT32_MAX), frame);
    }
    ck_assert_uint_eq(s->used, used);
    if (shard->emptying == slab + 1)
        return;
    for (uint32_t at = s->free; at != 0; at = atomic_load(&f->frames[at - 1].next)) {
        ck_assert_uint_eq((at - 1) / FRAMES_SLAB_FRAMES, slab);
        ck_assert_uint_lt(free_count, s->pieces);
        free_count++;
    }
    ck_assert_uint_eq(free_count + used, s->pieces);
}

static inline uint64_t list_bytes(const struct shm_frames *f, const struct frames_list *list)
{
    uint64_t bytes = 0;
    uint32_t count = 0;
    for (uint32_t at = list->first; at != 0; at = atomic_load(&f->frames[at - 1].next)) {
        ck_assert_uint_lt(count++, f->plan.slab_count * FRAMES_SLAB_FRAMES);
        bytes += frames_piece_size(f, &f->frames[at - 1]);
        if (atomic_load(&f->frames[at - 1].next) == 0)
            ck_assert_uint_eq(at, list->last);
    }
    return bytes;
}

static inline void check_lists(const struct shm_frames *f, const struct frames_shard *shard,
                               uint64_t limbo, uint32_t uncut)
{
    ck_assert_uint_eq(list_bytes(f, &shard->limbo), shard->limbo_bytes);
    ck_assert_uint_eq(shard->limbo_bytes + list_bytes(f, &shard->held), limbo);
    for (uint32_t class = 0; class < FRAMES_CLASSES; class ++) {
        uint64_t free_bytes = 0;
        for (uint32_t at = shard->partial[class]; at != 0; at = f->slabs[at - 1].next) {
            const struct frames_slab *s = &f->slabs[at - 1];
            ck_assert_uint_eq(s->class, class);
            ck_assert_uint_gt(s->pieces, s->used);
            free_bytes += (s->pieces - s->used) * s->piece_size;
        }
        ck_assert_uint_eq(free_bytes, shard->free_bytes[class]);
    }
    for (uint32_t at = shard->uncut; at != 0; at = f->slabs[at - 1].next) {
        ck_assert_uint_gt(uncut, 0);
        uncut--;
    }
    ck_assert_uint_eq(uncut, 0);
}

/* Nobody is at work. Repairs what a dead owner of a lock left. */
static inline void check_shards(struct shm_frames *f)
{
    for (uint32_t i = 0; i < f->plan.shard_count; i++) {
        struct frames_shard *shard = &f->head->shards[i];
        uint64_t live = 0, limbo = 0;
        uint32_t uncut = 0;
        ck_assert(frames_enter(f, shard));
        for (uint32_t own = 0; own < shard->grown; own++) {
            uint32_t slab = frames_slab_number(f, shard, own);
            uncut += f->slabs[slab].pieces == 0;
            check_slab(f, shard, slab, &live, &limbo);
        }
        ck_assert_uint_eq(live, shard->live_bytes);
        ck_assert_uint_eq(uncut * FRAMES_SLAB, shard->uncut_bytes);
        check_lists(f, shard, limbo, uncut);
        shm_unlock(&shard->lock);
    }
}

#endif
