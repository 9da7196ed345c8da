/*
 * Putting blocks in, and taking out those that were not touched since the hand passed (CLOCK).
 *
 * All changes are made under the shard's lock, which is only ever tried. An owner that dies inside
 * leaves lists and sums that need not fit; identities, data and what slabs are cut into do fit at
 * every step, and the rest is made from them.
 */
#include "engine/shm/frames_private.h"

#include "engine/base/step.h"

#include <assert.h>
#include <string.h>

#define TRIES      200  /* at the lock: whoever has it is done within a microsecond or is stopped */
#define HAND_STEPS 2048 /* of one insertion: the rest is the next one's */
#define HELD_LOOKS 4    /* at frames that somebody held, at each insertion */
#define HUNGER     4    /* insertions without room before a slab is emptied */
#define ASK_AGAIN  64   /* insertions until who did not tell is called once more */

/* ---- buckets and limbo ----------------------------------------------------------------------- */

/* An identity is stored last: until then the frame has no block. */
static void put_in(struct shm_frames *f, struct shm_frame *frame, uint64_t number, uint32_t index)
{
    _Atomic uint32_t *bucket = frames_bucket_of(f, frames_hash(number, index));
    atomic_store_explicit(&frame->next, atomic_load_explicit(bucket, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&frame->index, index, memory_order_relaxed);
    /* Release: the data is whole; pairs with the acquire in shm_frame_is(). */
    atomic_store_explicit(&frame->number, number, memory_order_release);
    STEP("frames: identity stored");
    /* Release: `next` is stored; pairs with the acquire in frames_look(). */
    atomic_store_explicit(bucket, frames_number_of(f, frame) + 1, memory_order_release);
}

static void unlink_from_bucket(struct shm_frames *f, struct shm_frame *frame)
{
    uint64_t number = atomic_load_explicit(&frame->number, memory_order_relaxed);
    uint32_t index = atomic_load_explicit(&frame->index, memory_order_relaxed);
    _Atomic uint32_t *link = frames_bucket_of(f, frames_hash(number, index));
    uint32_t wanted = frames_number_of(f, frame) + 1, at;
    while ((at = atomic_load_explicit(link, memory_order_relaxed)) != 0 && at != wanted)
        link = &f->frames[at - 1].next;
    assert(at == wanted);
    atomic_store_explicit(link, atomic_load_explicit(&frame->next, memory_order_relaxed),
                          memory_order_release);
}

static void take_out(struct shm_frames *f, struct frames_shard *shard, struct shm_frame *frame)
{
    unlink_from_bucket(f, frame);
    STEP("frames: unlinked");
    atomic_store_explicit(&frame->number, 0, memory_order_release);
    atomic_fetch_sub_explicit(&shard->live_bytes, frames_piece_size(f, frame),
                              memory_order_relaxed);
}

static void append(struct shm_frames *f, struct frames_list *list, struct shm_frame *frame)
{
    uint32_t at = frames_number_of(f, frame) + 1;
    atomic_store_explicit(&frame->next, 0, memory_order_relaxed);
    if (list->last == 0)
        list->first = at;
    else
        atomic_store_explicit(&f->frames[list->last - 1].next, at, memory_order_relaxed);
    list->last = at;
}

static struct shm_frame *remove_first(struct shm_frames *f, struct frames_list *list)
{
    struct shm_frame *frame = &f->frames[list->first - 1];
    list->first = atomic_load_explicit(&frame->next, memory_order_relaxed);
    if (list->first == 0)
        list->last = 0;
    return frame;
}

static void to_limbo(struct shm_frames *f, struct frames_shard *shard, struct shm_frame *frame)
{
    append(f, &shard->limbo, frame);
    shard->limbo_bytes += frames_piece_size(f, frame);
}

/* Frames whose identity was cleared before are dead from this epoch on. */
static uint64_t next_epoch(struct shm_frames *f)
{
    /* The fence of the Dekker pair: see frames.c. */
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_fetch_add(&f->head->epoch, 1);
}

/* ---- taking out ------------------------------------------------------------------------------ */

struct batch {
    struct shm_frame *frames[FRAMES_BATCH];
    uint32_t count;
    uint64_t bytes;
};

static void batch_take_out(struct shm_frames *f, struct frames_shard *shard, struct batch *batch,
                           struct shm_frame *frame)
{
    take_out(f, shard, frame);
    batch->bytes += frames_piece_size(f, frame);
    batch->frames[batch->count++] = frame;
}

static void batch_end(struct shm_frames *f, struct frames_shard *shard, struct batch *batch)
{
    if (batch->count == 0)
        return;
    STEP("frames: taken out");
    uint64_t stamp = next_epoch(f);
    for (uint32_t i = 0; i < batch->count; i++) {
        batch->frames[i]->stamp = stamp;
        to_limbo(f, shard, batch->frames[i]);
    }
    STEP("frames: in limbo");
}

/* The frame under the hand, which moves on; NULL: there is no block. */
static struct shm_frame *under_hand(struct shm_frames *f, struct frames_shard *shard)
{
    uint32_t own_index = shard->hand / FRAMES_SLAB_FRAMES;
    uint32_t piece = shard->hand % FRAMES_SLAB_FRAMES;
    uint32_t slab = frames_slab_number(f, shard, own_index < shard->grown ? own_index : 0);
    if (own_index >= shard->grown || piece >= f->slabs[slab].pieces) {
        shard->hand = own_index + 1 < shard->grown ? (own_index + 1) * FRAMES_SLAB_FRAMES : 0;
        return NULL;
    }
    shard->hand++;
    struct shm_frame *frame = &f->frames[slab * FRAMES_SLAB_FRAMES + piece];
    return atomic_load_explicit(&frame->number, memory_order_relaxed) == 0 ? NULL : frame;
}

static void run_hand(struct shm_frames *f, struct frames_shard *shard, uint64_t wanted)
{
    struct batch batch = {.count = 0};
    for (uint32_t i = 0; i < HAND_STEPS && batch.count < FRAMES_BATCH && batch.bytes < wanted;
         i++) {
        struct shm_frame *frame = under_hand(f, shard);
        if (frame == NULL)
            continue;
        if (atomic_load_explicit(&frame->touched, memory_order_relaxed))
            atomic_store_explicit(&frame->touched, false, memory_order_relaxed);
        else
            batch_take_out(f, shard, &batch, frame);
    }
    batch_end(f, shard, &batch);
}

static_assert(FRAMES_BATCH >= FRAMES_SLAB_FRAMES, "a slab is emptied in one batch");

static void empty_slab(struct shm_frames *f, struct frames_shard *shard)
{
    uint32_t slab;
    struct batch batch = {.count = 0};
    if (!frames_empty_slab(f, shard, &slab))
        return;
    STEP("frames: a slab to be emptied");
    for (uint32_t i = 0; i < f->slabs[slab].pieces; i++) {
        struct shm_frame *frame = &f->frames[slab * FRAMES_SLAB_FRAMES + i];
        if (atomic_load_explicit(&frame->number, memory_order_relaxed) != 0)
            batch_take_out(f, shard, &batch, frame);
    }
    batch_end(f, shard, &batch);
}

/* What is kept free, or on its way to being so. */
static uint64_t reserve_of(const struct frames_shard *shard)
{
    return shard->grown * FRAMES_SLAB / FRAMES_RESERVE;
}

static uint64_t at_hand(const struct frames_shard *shard, uint32_t class)
{
    return shard->free_bytes[class] + shard->uncut_bytes;
}

/* For the insertions to come. The hand runs for many at once, so that epochs are few. */
static void make_room(struct shm_frames *f, struct frames_shard *shard, uint32_t class)
{
    uint64_t reserve = reserve_of(shard), soon = at_hand(shard, class) + shard->limbo_bytes;
    if (shard->grown < shard->slab_count && shard->modesty == 0)
        return;
    if (soon < reserve)
        run_hand(f, shard, reserve - soon + reserve / 4);
}

/* ---- using again ----------------------------------------------------------------------------- */

static uint64_t oldest_seen(const struct shm_frames *f)
{
    uint64_t oldest = UINT64_MAX, left = atomic_load(&f->head->attached);
    for (; left != 0; left &= left - 1) {
        /* Acquire: pairs with the release in told(). */
        uint64_t seen = atomic_load_explicit(&f->head->processes[__builtin_ctzll(left)].seen,
                                             memory_order_acquire);
        oldest = seen < oldest ? seen : oldest;
    }
    return oldest;
}

static bool is_referenced(const struct shm_frames *f, const struct shm_frame *frame)
{
    uint64_t left = atomic_load_explicit(&f->head->attached, memory_order_relaxed);
    uint64_t number = frames_number_of(f, frame);
    const uint8_t *all = (const uint8_t *)f->head + f->plan.references;
    for (; left != 0; left &= left - 1) {
        uint64_t slot = (uint64_t)__builtin_ctzll(left);
        const _Atomic uint32_t *own =
            (const _Atomic uint32_t *)(const void *)(all + slot * f->plan.reference_stride);
        /* Acquire: pairs with the release in shm_frame_drop(). */
        if (atomic_load_explicit(&own[number], memory_order_acquire) != 0)
            return true;
    }
    return false;
}

/* Looks at some of those that had references. */
static void look_at_held(struct shm_frames *f, struct frames_shard *shard)
{
    for (uint32_t i = 0; i < HELD_LOOKS && shard->held.first != 0; i++) {
        struct shm_frame *frame = remove_first(f, &shard->held);
        STEP("frames: no more held");
        if (is_referenced(f, frame))
            append(f, &shard->held, frame);
        else
            frames_give_back(f, shard, frame);
    }
}

/* Returns the stamp that somebody has to see before more of limbo can be used again; 0: none. */
static uint64_t use_again(struct shm_frames *f, struct frames_shard *shard)
{
    look_at_held(f, shard);
    if (shard->limbo.first == 0)
        return 0;
    uint64_t oldest = oldest_seen(f);
    for (uint32_t i = 0; i < FRAMES_BATCH && shard->limbo.first != 0; i++) {
        uint64_t stamp = f->frames[shard->limbo.first - 1].stamp;
        if (stamp >= oldest)
            return stamp;
        struct shm_frame *frame = remove_first(f, &shard->limbo);
        shard->limbo_bytes -= frames_piece_size(f, frame);
        STEP("frames: left limbo");
        if (is_referenced(f, frame))
            append(f, &shard->held, frame);
        else
            frames_give_back(f, shard, frame);
    }
    return 0;
}

/* ---- after a death --------------------------------------------------------------------------- */

static void clear_buckets(struct shm_frames *f, struct frames_shard *shard)
{
    uint32_t first = (uint32_t)(shard - f->head->shards);
    for (uint32_t i = first; i < f->plan.bucket_count; i += f->plan.shard_count)
        atomic_store_explicit(&f->buckets[i], 0, memory_order_release);
}

static uint32_t frame_limit(const struct shm_frames *f)
{
    return f->plan.slab_count * FRAMES_SLAB_FRAMES;
}

/* A frame of a cut slab: its block can be found again, or it is in limbo until who may look at it
 * does no more. */
static void settle(struct shm_frames *f, struct frames_shard *shard, struct shm_frame *frame,
                   uint64_t stamp)
{
    uint64_t number = atomic_load_explicit(&frame->number, memory_order_relaxed);
    uint32_t index = atomic_load_explicit(&frame->index, memory_order_relaxed);
    if (number != 0 && frames_look(f, number, index, frame_limit(f)) == NULL) {
        put_in(f, frame, number, index);
        atomic_fetch_add_explicit(&shard->live_bytes, frames_piece_size(f, frame),
                                  memory_order_relaxed);
        return;
    }
    atomic_store_explicit(&frame->number, 0, memory_order_release);
    frame->stamp = stamp;
    to_limbo(f, shard, frame);
}

static void repair(struct shm_frames *f, struct frames_shard *shard)
{
    clear_buckets(f, shard);
    shard->limbo = shard->held = (struct frames_list){0};
    shard->limbo_bytes = 0;
    shard->hand = 0;
    atomic_store_explicit(&shard->live_bytes, 0, memory_order_relaxed);
    STEP("frames: repair begun");
    frames_slabs_recount(f, shard);
    /* No two frames have one identity, so none loses it here: the dead one's stamps are older. */
    uint64_t stamp = next_epoch(f);
    for (uint32_t i = 0; i < shard->grown; i++) {
        uint32_t slab = frames_slab_number(f, shard, i);
        for (uint32_t piece = 0; piece < f->slabs[slab].pieces; piece++)
            settle(f, shard, &f->frames[slab * FRAMES_SLAB_FRAMES + piece], stamp);
        STEP("frames: slab repaired");
    }
}

bool frames_enter(struct shm_frames *f, struct frames_shard *shard)
{
    enum shm_lock_result got = shm_trylock(&shard->lock);
    for (uint32_t i = 0; got == SHM_LOCK_BUSY && i < TRIES; i++) {
        got = shm_trylock(&shard->lock);
    }
    if (got == SHM_LOCKED_OWNER_DIED) {
        repair(f, shard);
        shm_lock_repaired(&shard->lock);
    }
    return got != SHM_LOCK_BUSY;
}

/* ---- putting in ------------------------------------------------------------------------------ */

static struct shm_frame *copy_in(struct shm_frames *f, struct frames_shard *shard, uint32_t class,
                                 uint64_t number, uint32_t index, const void *data, size_t size)
{
    struct shm_frame *frame = frames_take(f, shard, class);
    if (frame == NULL)
        return NULL;
    STEP("frames: piece taken");
    memcpy((uint8_t *)frame + (size_t)frame->place * FRAMES_UNIT, data, size);
    atomic_store_explicit(&frame->touched, false, memory_order_relaxed);
    STEP("frames: data copied");
    put_in(f, frame, number, index);
    atomic_fetch_add_explicit(&shard->live_bytes, frames_piece_size(f, frame),
                              memory_order_relaxed);
    return frame;
}

/* Blocks of this size find no room, and none is on its way: another size has to give up a slab. */
static void note_hunger(struct shm_frames *f, struct frames_shard *shard, uint32_t class,
                        bool is_fed)
{
    if (is_fed) {
        shard->starved[class] = 0;
    } else if (shard->limbo_bytes < reserve_of(shard) / 2 && ++shard->starved[class] >= HUNGER) {
        shard->starved[class] = 0;
        empty_slab(f, shard);
    }
}

/* Calls everybody to tell, once for each batch that is waited for, and now and then again. */
static bool is_time_to_ask(struct shm_frames *f, struct frames_shard *shard, uint64_t stamp)
{
    uint64_t asked = atomic_load_explicit(&f->head->asked, memory_order_relaxed);
    if (asked > stamp && ++shard->asked < ASK_AGAIN)
        return false;
    shard->asked = 0;
    atomic_store_explicit(&f->head->asked, atomic_load(&f->head->epoch), memory_order_relaxed);
    return true;
}

static void count(_Atomic uint64_t *what)
{
    atomic_fetch_add_explicit(what, 1, memory_order_relaxed);
}

struct shm_frame *shm_frames_insert(struct shm_frames *frames, uint64_t number, uint32_t index,
                                    const void *data, size_t size)
{
    assert(epoch_is_inside());
    if (size > FRAMES_MAX_BLOCK || number == 0)
        return NULL;
    struct frames_shard *shard = frames_shard_of(frames, frames_hash(number, index));
    if (!frames_enter(frames, shard)) {
        count(&frames->turned_away);
        return NULL;
    }
    STEP("frames: locked");
    struct shm_frame *frame = frames_look(frames, number, index, frame_limit(frames));
    uint64_t stamp = 0;
    bool asks = false;
    if (frame == NULL) {
        uint32_t class = frames_class_of(size);
        stamp = use_again(frames, shard);
        frame = copy_in(frames, shard, class, number, index, data, size);
        note_hunger(frames, shard, class, frame != NULL);
        make_room(frames, shard, class);
        if (stamp != 0 && at_hand(shard, class) < reserve_of(shard) / 2)
            asks = is_time_to_ask(frames, shard, stamp);
        count(frame != NULL ? &frames->inserted : &frames->turned_away);
    }
    shm_unlock(&shard->lock);
    if (stamp != 0)
        (void)shm_frames_tell(frames);
    if (asks)
        shm_event_signal(&shm_layout(frames->segment)->version.changed);
    return frame;
}
