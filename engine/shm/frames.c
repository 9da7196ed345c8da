/*
 * Coming in, leaving, telling and finding.
 *
 * The Dekker pairs: who takes a frame out clears its identity, then (full fence) raises the epoch
 * and reads what the processes have seen; a process reads the epoch, lets its threads leave the
 * epochs they are in (engine/base/epoch.h has a pair of its own), then stores what it has seen. A
 * newcomer stores its word and its bit, then (full fence) looks for frames.
 */
#include "engine/shm/frames.h"
#include "engine/shm/frames_private.h"

#include "engine/base/hash.h"
#include "engine/base/memory.h"
#include "engine/base/step.h"

#include <assert.h>

#define PAGE ((uint64_t)IO_ALIGNMENT)

/* ---- places ---------------------------------------------------------------------------------- */

static uint64_t whole_pages(uint64_t size)
{
    return (size + PAGE - 1) / PAGE * PAGE;
}

void frames_plan_make(uint64_t capacity, struct frames_plan *p)
{
    *p = (struct frames_plan){0};
    if (capacity < FRAMES_MIN_SIZE)
        return;
    if (capacity > FRAMES_MAX_SIZE)
        capacity = FRAMES_MAX_SIZE;
    p->slab_count = (uint32_t)(capacity / FRAMES_SLAB);
    p->shard_count = 1;
    while (p->shard_count < FRAMES_MAX_SHARDS &&
           p->slab_count / (2 * p->shard_count) >= FRAMES_SHARD_SLABS)
        p->shard_count *= 2;
    p->bucket_count = 1024;
    while (p->bucket_count < p->slab_count * (FRAMES_SLAB / 4096))
        p->bucket_count *= 2;
    uint64_t frame_count = (uint64_t)p->slab_count * FRAMES_SLAB_FRAMES;
    p->slabs = whole_pages(sizeof(struct frames_head));
    p->buckets = p->slabs + whole_pages(p->slab_count * sizeof(struct frames_slab));
    p->references = p->buckets + whole_pages(p->bucket_count * sizeof(uint32_t));
    p->reference_stride = whole_pages(frame_count * sizeof(uint32_t));
    p->frames = p->references + SHM_MAX_SLOTS * p->reference_stride;
    p->data = p->frames + whole_pages(frame_count * sizeof(struct shm_frame));
    p->data = (p->data + FRAMES_SLAB - 1) / FRAMES_SLAB * FRAMES_SLAB;
    p->end = p->data + (uint64_t)p->slab_count * FRAMES_SLAB;
}

static_assert((FRAMES_MAX_SIZE * 2) / FRAMES_UNIT <= UINT32_MAX + UINT64_C(1),
              "a frame's place can name every distance");
static_assert(FRAMES_SLAB_FRAMES * sizeof(struct shm_frame) == IO_ALIGNMENT,
              "the descriptors of a slab are a page, which is allocated with it");

uint64_t shm_frames_region(uint64_t capacity)
{
    struct frames_plan plan;
    frames_plan_make(capacity, &plan);
    return plan.end;
}

uint64_t shm_frames_layout_hash(void)
{
    const uint64_t facts[] = {sizeof(struct frames_head),
                              sizeof(struct frames_shard),
                              sizeof(struct frames_slab),
                              sizeof(struct shm_frame),
                              FRAMES_SLAB,
                              FRAMES_SLAB_FRAMES,
                              FRAMES_SHARD_SLABS,
                              FRAMES_MAX_SIZE,
                              frames_hash(12345, 67),
                              FRAMES_CLASSES};
    return hash_bytes(facts, sizeof facts, 0);
}

void frames_bind(struct shm_frames *f, struct shm_segment *segment)
{
    const struct shm_ident *ident = &shm_layout(segment)->ident;
    frames_plan_make(ident->frames_capacity, &f->plan);
    uint8_t *base = (uint8_t *)shm_layout(segment) + ident->frames_offset;
    f->segment = segment;
    f->region = ident->frames_offset;
    f->head = (struct frames_head *)(void *)base;
    f->slabs = (struct frames_slab *)(void *)(base + f->plan.slabs);
    f->buckets = (_Atomic uint32_t *)(void *)(base + f->plan.buckets);
    f->references = (_Atomic uint32_t *)(void *)(base + f->plan.references +
                                                 f->slot * f->plan.reference_stride);
    f->frames = (struct shm_frame *)(void *)(base + f->plan.frames);
    f->data = base + f->plan.data;
    f->frames_bytes = (uint64_t)f->plan.slab_count * FRAMES_SLAB_FRAMES * sizeof(struct shm_frame);
}

lsm_status shm_frames_make(struct shm_segment *segment, lsm_error *err)
{
    struct shm_frames f = {0};
    if (shm_layout(segment)->ident.frames_capacity == 0)
        return LSM_OK;
    frames_bind(&f, segment);
    lsm_status status = shm_segment_back(segment, f.region, f.plan.references, err);
    for (uint32_t i = 0; status == LSM_OK && i < f.plan.shard_count; i++) {
        struct frames_shard *shard = &f.head->shards[i];
        shard->slab_count =
            f.plan.slab_count / f.plan.shard_count + (i < f.plan.slab_count % f.plan.shard_count);
        int error = shm_lock_init(&shard->lock);
        if (error != 0)
            status =
                lsm_fail_errno(err, error, "cannot make a lock in '%s'", shm_segment_name(segment));
    }
    if (status == LSM_OK) /* 0 is what nobody has seen anything at */
        atomic_store_explicit(&f.head->epoch, 1, memory_order_relaxed);
    return status;
}

/* ---- the frames of all open handles ---------------------------------------------------------- */

#define MAX_OPEN    64 /* handles of a process; those beyond have no frames */
#define PAGES_BITS  28
#define PAGE_SHIFT  12
#define PAGES_LIMIT (UINT64_C(1) << PAGES_BITS)

static_assert(IO_ALIGNMENT == (size_t)1 << PAGE_SHIFT, "descriptors begin with a page");

/* Where descriptors are mapped, in one word, so that who looks for another handle's never sees half
 * of a change: page of the address, and count of pages. 0: free. */
static struct {
    _Atomic uint64_t range;
    _Atomic bool is_taken;
    _Atomic uint32_t *references; /* stored before the range */
} open_handles[MAX_OPEN];

static bool add_handle(struct shm_frames *f)
{
    uint64_t page = (uint64_t)(uintptr_t)f->frames >> PAGE_SHIFT;
    uint64_t pages = f->frames_bytes >> PAGE_SHIFT;
    if (page >= UINT64_C(1) << (64 - PAGES_BITS) || pages >= PAGES_LIMIT)
        return false;
    for (size_t i = 0; i < MAX_OPEN; i++) {
        if (atomic_exchange(&open_handles[i].is_taken, true))
            continue;
        f->handle = (uint32_t)i;
        open_handles[i].references = f->references;
        atomic_store_explicit(&open_handles[i].range, page << PAGES_BITS | pages,
                              memory_order_release);
        return true;
    }
    return false;
}

static void remove_handle(struct shm_frames *f)
{
    atomic_store_explicit(&open_handles[f->handle].range, 0, memory_order_release);
    atomic_store_explicit(&open_handles[f->handle].is_taken, false, memory_order_release);
}

static _Atomic uint32_t *reference_of(const struct shm_frame *frame)
{
    uint64_t page = (uint64_t)(uintptr_t)frame >> PAGE_SHIFT;
    for (size_t i = 0; i < MAX_OPEN; i++) {
        uint64_t range = atomic_load_explicit(&open_handles[i].range, memory_order_acquire);
        uint64_t first = range >> PAGES_BITS;
        if (page - first >= (range & (PAGES_LIMIT - 1)))
            continue;
        size_t offset = (uintptr_t)frame - (uintptr_t)(first << PAGE_SHIFT);
        return &open_handles[i].references[offset / sizeof *frame];
    }
    assert(false); /* it is no frame of an open handle */
    return NULL;
}

void shm_frame_keep(struct shm_frame *frame)
{
    atomic_fetch_add_explicit(reference_of(frame), 1, memory_order_relaxed);
}

void shm_frame_drop(struct shm_frame *frame)
{
    /* Release: our reads are done; pairs with the acquire of who uses the memory again. */
    uint32_t before = atomic_fetch_sub_explicit(reference_of(frame), 1, memory_order_release);
    assert(before > 0);
    (void)before;
}

/* ---- coming in and leaving ------------------------------------------------------------------- */

static void clear_references(const struct shm_frames *f)
{
    for (uint64_t i = 0; i < (uint64_t)f->plan.slab_count * FRAMES_SLAB_FRAMES; i++)
        if (atomic_load_explicit(&f->references[i], memory_order_relaxed) != 0)
            atomic_store_explicit(&f->references[i], 0, memory_order_relaxed);
}

lsm_status shm_frames_open(struct shm_segment *segment, uint32_t slot, struct shm_frames **frames,
                           lsm_error *err)
{
    assert(slot < SHM_MAX_SLOTS);
    *frames = NULL;
    if (shm_layout(segment)->ident.frames_capacity == 0)
        return LSM_OK;
    struct shm_frames *f = mem_alloc_zeroed(sizeof *f);
    if (f == NULL)
        return lsm_fail_memory(err, sizeof *f);
    f->slot = slot;
    frames_bind(f, segment);
    uint64_t offset = f->region + f->plan.references + slot * f->plan.reference_stride;
    lsm_status status = shm_segment_back(segment, offset, f->plan.reference_stride, err);
    if (status != LSM_OK || !add_handle(f)) {
        mem_free(f);
        return status;
    }
    clear_references(f);
    STEP("frames: references cleared");
    atomic_store(&f->head->processes[slot].seen, atomic_load(&f->head->epoch));
    atomic_fetch_or(&f->head->attached, UINT64_C(1) << slot);
    atomic_thread_fence(memory_order_seq_cst); /* the newcomer's of the Dekker pair */
    STEP("frames: attached");
    *frames = f;
    return LSM_OK;
}

void shm_frames_close(struct shm_frames *frames)
{
    if (frames == NULL)
        return;
    epoch_drain(); /* it may be telling */
    atomic_fetch_and(&frames->head->attached, ~(UINT64_C(1) << frames->slot));
    STEP("frames: left");
    remove_handle(frames);
    mem_free(frames);
}

void shm_frames_reap(struct shm_segment *segment, uint32_t slot)
{
    if (shm_layout(segment)->ident.frames_capacity == 0)
        return;
    struct shm_frames f = {.slot = slot};
    frames_bind(&f, segment);
    uint64_t bit = UINT64_C(1) << slot;
    if (!(atomic_load(&f.head->attached) & bit))
        return; /* it may not even have memory for references */
    clear_references(&f);
    STEP("reap: references cleared");
    atomic_fetch_and(&f.head->attached, ~bit);
    STEP("reap: frames left");
}

/* ---- telling --------------------------------------------------------------------------------- */

static void told(struct epoch_retired *retired)
{
    struct shm_frames *f = (struct shm_frames *)(void *)retired;
    /* Release: what our threads read is read; pairs with the acquire in frames_oldest_seen(). */
    atomic_store_explicit(&f->head->processes[f->slot].seen, f->told, memory_order_release);
    atomic_store_explicit(&f->telling, false, memory_order_release);
}

bool shm_frames_tell(struct shm_frames *frames)
{
    uint64_t epoch = atomic_load(&frames->head->epoch);
    _Atomic uint64_t *seen = &frames->head->processes[frames->slot].seen;
    if (atomic_load_explicit(seen, memory_order_relaxed) == epoch)
        return true;
    if (atomic_exchange_explicit(&frames->telling, true, memory_order_acquire)) {
        epoch_collect();
    } else {
        frames->told = epoch;
        epoch_retire(&frames->retired, told);
    }
    return !atomic_load_explicit(&frames->telling, memory_order_relaxed);
}

/* ---- finding --------------------------------------------------------------------------------- */

bool shm_frames_have(const struct shm_frames *frames, const void *frame)
{
    return (uintptr_t)frame - (uintptr_t)frames->frames < frames->frames_bytes;
}

struct shm_frame *frames_look(const struct shm_frames *f, uint64_t number, uint32_t index,
                              uint32_t longest)
{
    uint32_t limit = f->plan.slab_count * FRAMES_SLAB_FRAMES;
    uint32_t at =
        atomic_load_explicit(frames_bucket_of(f, frames_hash(number, index)), memory_order_acquire);
    for (uint32_t i = 0; at != 0 && at <= limit && i < longest; i++) {
        struct shm_frame *frame = &f->frames[at - 1];
        if (shm_frame_is(frame, number, index))
            return frame;
        at = atomic_load_explicit(&frame->next, memory_order_acquire);
    }
    return NULL;
}

struct shm_frame *shm_frames_peek(const struct shm_frames *frames, uint64_t number, uint32_t index)
{
    return frames_look(frames, number, index, FRAMES_MAX_CHAIN);
}

struct shm_frame *shm_frames_find(struct shm_frames *frames, uint64_t number, uint32_t index)
{
    struct shm_frame *frame = shm_frames_peek(frames, number, index);
    if (frame != NULL)
        atomic_fetch_add_explicit(&frames->found, 1, memory_order_relaxed);
    return frame;
}

void shm_frames_count(struct shm_frames *frames, struct shm_frames_counts *counts)
{
    *counts = (struct shm_frames_counts){
        .capacity = (uint64_t)frames->plan.slab_count * FRAMES_SLAB,
        .found = atomic_load_explicit(&frames->found, memory_order_relaxed),
        .inserted = atomic_load_explicit(&frames->inserted, memory_order_relaxed),
        .turned_away = atomic_load_explicit(&frames->turned_away, memory_order_relaxed),
        .backed = frames->plan.references,
    };
    for (uint32_t i = 0; i < frames->plan.shard_count; i++) {
        struct frames_shard *shard = &frames->head->shards[i];
        counts->bytes += atomic_load_explicit(&shard->live_bytes, memory_order_relaxed);
        counts->backed += atomic_load_explicit(&shard->backed_bytes, memory_order_relaxed);
    }
}
