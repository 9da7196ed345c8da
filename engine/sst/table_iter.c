/*
 * Walking a table. The current block is held by reference, so no epoch is held between calls.
 * Entries are taken out of it in batches, which grow while the walk goes forwards: a seek whose
 * entry is all that is wanted takes one. Two batches take turns, so that the keys of the one before
 * are still there when the next one is shown.
 */
#include "engine/sst/table_ahead.h"
#include "engine/sst/table_batch.h"
#include "engine/sst/table_private.h"

#include <assert.h>

struct table_iter {
    struct iter it; /* first: the caller's view */
    struct table *table;
    lsm_error *err;
    unsigned flags;                  /* enum table_read_flags */
    struct block *block;             /* held; NULL before the first move */
    struct block *left;              /* held: the one before, whose entry the last step left */
    struct table_batch_block source; /* over it */
    uint32_t block_index;
    uint32_t turn;       /* which batch is in use */
    uint32_t first;      /* entry of the block that it begins with */
    uint32_t wanted;     /* entries in the next one, when the walk goes on forwards */
    uint32_t approached; /* one above the block that the coming seek ends in; 0: not known */
    uint32_t sought;     /* one above the entry there; 0: not known */
    bool is_searching;   /* the coming seek's `search` has begun, and its block is not known */
    struct table_index_search search;
    uint64_t share;      /* of the way through the block, of the key; GUESS_WHOLE: not known */
    uint32_t seek_count; /* of which some are learned from */
    uint32_t run;        /* blocks entered one after the other, forwards */
    struct table_ahead ahead;
    struct read_lane lane; /* unless it was given another one */
    struct table_batch batches[2];
};

#define CACHE_LINE     64
#define FIRST_BATCH    4  /* entries, after the one that a seek came to */
#define PREFETCH_LINES 10 /* of a block: header and columns of some forty entries */

/* ---- blocks ---------------------------------------------------------------------------------- */

/* The block from the cache, held, or NULL. */
static struct block *cached_block(struct table_iter *ti, uint32_t index)
{
    struct block_cache *cache = ti->table->env->cache;
    void *_Atomic *slot = table_slot(ti->table, index);
    epoch_enter();
    struct block *block = ti->flags & TABLE_NO_FILL
                              ? block_cache_peek(cache, slot, ti->table->number, index)
                              : block_cache_find(cache, slot, ti->table->number, index);
    if (block != NULL)
        block_keep(block);
    epoch_exit();
    return block;
}

/* Gives a decoded block to the cache and holds what is used in its place. */
static struct block *publish_block(struct table_iter *ti, uint32_t index, struct block *block)
{
    if (ti->flags & TABLE_NO_FILL)
        return block;
    bool owned;
    epoch_enter();
    block = table_block_publish(ti->table, index, ti->flags, block, &owned);
    if (!owned)
        block_keep(block);
    epoch_exit();
    return block;
}

/* Through the lane, with what is read ahead. */
static lsm_status read_block(struct table_iter *ti, uint32_t index, bool is_backwards,
                             struct block **block)
{
    const uint8_t *bytes;
    if (!ti->ahead.is_open)
        table_ahead_begin(&ti->ahead, index, is_backwards);
    lsm_status status = table_ahead_take(&ti->ahead, index, &bytes, ti->err);
    if (status == LSM_OK)
        status = table_block_decode(ti->table, index, bytes, block, ti->err);
    if (status == LSM_OK)
        *block = publish_block(ti, index, *block);
    return status;
}

/* The iterator is about to come to the block: does its walk go on, or begin? */
static lsm_status walk_to(struct table_iter *ti, uint32_t index, bool is_backwards)
{
    struct table_ahead *a = &ti->ahead;
    bool in_sequence = ti->block != NULL &&
                       (is_backwards ? index + 1 == ti->block_index : index == ti->block_index + 1);
    ti->run = in_sequence && !is_backwards ? ti->run + 1 : 0;
    bool goes_on = in_sequence && a->is_backwards == is_backwards;
    if (a->is_open && a->is_fresh)
        goes_on = index == a->opened;
    else if (a->is_open && !goes_on)
        goes_on = table_ahead_reaches(a, index, is_backwards);
    if ((ti->block != NULL || a->is_fresh) && !goes_on)
        table_ahead_stop(a);
    if (!a->is_open && a->plan.is_sure)
        table_ahead_begin(a, index, is_backwards);
    return a->is_open ? table_ahead_follow(a, index, ti->err) : LSM_OK;
}

static void fail(struct table_iter *ti, lsm_status status)
{
    ti->it.valid = false;
    ti->it.run = ti->it.back = 0;
    ti->it.status = status;
}

/* Fetches what is read first of a block that is in memory: its columns, as long as it is small.
 * Outside an epoch the block may be gone: its address is fetched, never read. NULL: it is not. */
static const uint8_t *prefetch_block(const struct table_iter *ti, uint32_t index)
{
    const struct table *t = ti->table;
    const uint8_t *bytes = block_cache_place(t->env->cache, table_slot(t, index), t->number, index);
    if (bytes == NULL)
        return NULL;
    for (size_t i = 0; i < PREFETCH_LINES; i++)
        __builtin_prefetch(bytes + i * CACHE_LINE);
    return bytes;
}

/* The entries of the block stay until the next one is left. */
static void leave_block(struct table_iter *ti)
{
    if (ti->block == NULL)
        return;
    block_drop(ti->left);
    ti->left = ti->block;
    ti->block = NULL;
}

static void drop_blocks(struct table_iter *ti)
{
    block_drop(ti->block);
    block_drop(ti->left);
    ti->block = ti->left = NULL;
}

/* Makes `index` the current block. False when that failed. */
static bool enter_block(struct table_iter *ti, uint32_t index, bool is_backwards)
{
    if (ti->block != NULL && ti->block_index == index)
        return true;
    lsm_status status = walk_to(ti, index, is_backwards);
    struct block *block = status == LSM_OK ? cached_block(ti, index) : NULL;
    if (block == NULL && status == LSM_OK)
        status = read_block(ti, index, is_backwards, &block);
    if (status != LSM_OK) {
        fail(ti, status);
        return false;
    }
    if (ti->run > 0 && index + 1 < ti->table->index.count)
        (void)prefetch_block(ti, index + 1);
    if (is_backwards && ti->run == 0 && index > 0)
        (void)prefetch_block(ti, index - 1);
    leave_block(ti);
    ti->block = block;
    ti->block_index = index;
    table_batch_block_init(&ti->source, block_data(block), ti->table->properties.sequence_base,
                           ti->it.common.size);
    return true;
}

/* ---- entries --------------------------------------------------------------------------------- */

/* Where the current entry is in the block. */
static inline uint32_t current_index(const struct table_iter *ti)
{
    return ti->first + (uint32_t)(ti->it.entry - ti->batches[ti->turn].entries);
}

/* Shows entry `index` of the current block, and `count` in all from there on without a call. */
static void show(struct table_iter *ti, uint32_t index, uint32_t count)
{
    uint32_t left = ti->source.view.count - index;
    struct table_batch *batch = &ti->batches[ti->turn ^= 1];
    if (!table_batch_fill(batch, &ti->source, index, count < left ? count : left)) {
        fail(ti, lsm_fail_memory(ti->err, block_key_size(&ti->source.view, index)));
        return;
    }
    ti->first = index;
    ti->it.entry = batch->entries;
    ti->it.run = batch->count - 1;
    ti->it.back = 0;
    ti->it.valid = true;
}

/* Of the `count` entries that end with `index`, as many as their keys let stand in one batch. */
static bool fill_up_to(struct table_iter *ti, struct table_batch *batch, uint32_t index,
                       uint32_t count)
{
    for (;;) {
        if (!table_batch_fill(batch, &ti->source, index + 1 - count, count))
            return false;
        if (batch->count == count)
            return true;
        count = batch->count < count / 2 ? batch->count : (count + 1) / 2;
    }
}

/* Shows entry `index`, and entries before it without a call, more with each batch. */
static void show_back(struct table_iter *ti, uint32_t index)
{
    uint32_t count = ti->wanted < index + 1 ? ti->wanted : index + 1;
    struct table_batch *batch = &ti->batches[ti->turn ^= 1];
    if (!fill_up_to(ti, batch, index, count)) {
        fail(ti, lsm_fail_memory(ti->err, block_key_size(&ti->source.view, index)));
        return;
    }
    ti->wanted = ti->wanted < TABLE_BATCH_MAX ? ti->wanted * 2 : ti->wanted;
    ti->first = index + 1 - batch->count;
    ti->it.entry = &batch->entries[batch->count - 1];
    ti->it.run = 0;
    ti->it.back = batch->count - 1;
    ti->it.valid = true;
}

/* The entry that a seek came to. */
static void show_one(struct table_iter *ti, uint32_t index)
{
    ti->wanted = FIRST_BATCH;
    show(ti, index, 1);
}

/* The next entries on the way forwards. */
static void show_more(struct table_iter *ti, uint32_t index)
{
    uint32_t count = ti->wanted;
    ti->wanted = count < TABLE_BATCH_MAX ? count * 2 : count;
    show(ti, index, count);
}

static void end(struct table_iter *ti)
{
    ti->it.valid = false;
    ti->it.run = ti->it.back = 0;
}

static void show_first_of(struct table_iter *ti, uint32_t block_index)
{
    if (block_index >= ti->table->index.count)
        end(ti);
    else if (enter_block(ti, block_index, false))
        show_more(ti, 0);
}

static void show_last_of(struct table_iter *ti, uint32_t block_index)
{
    if (enter_block(ti, block_index, true))
        show_back(ti, ti->source.view.count - 1);
}

static struct table_iter *of(struct iter *it)
{
    return (struct table_iter *)it;
}

static void iter_first_entry(struct iter *it)
{
    it->status = LSM_OK;
    of(it)->wanted = FIRST_BATCH;
    show_first_of(of(it), 0);
}

static void iter_last_entry(struct iter *it)
{
    it->status = LSM_OK;
    of(it)->wanted = FIRST_BATCH;
    show_last_of(of(it), of(it)->table->index.count - 1);
}

/* Fetches the bytes around the place in the block where the entry is guessed to be. */
static void prefetch_guessed(struct table_iter *ti, const uint8_t *bytes)
{
    struct guess g = guess_unpack(atomic_load_explicit(&ti->table->guess, memory_order_relaxed));
    if (ti->share == GUESS_WHOLE || !guess_is_trusted(g))
        return;
    bytes += CACHE_LINE + guess_place(g, ti->share); /* behind the head of a block of our own */
    for (int i = -1; i <= 1; i++)
        __builtin_prefetch(bytes + i * CACHE_LINE);
}

/* The entry was found, and shows whether the guess was right. */
static void learn(struct table_iter *ti, uint32_t entry)
{
    const struct block_view *v = &ti->source.view;
    if (ti->share == GUESS_WHOLE || entry >= v->count)
        return;
    struct guess g = guess_unpack(atomic_load_explicit(&ti->table->guess, memory_order_relaxed));
    if (guess_wants_answer(g, ti->seek_count++))
        table_guess_learn(ti->table, g, ti->share, v->data, (uint32_t)block_offset(v, entry));
}

/* Finds the block in the index, and begins to fetch what is read of it. */
static uint32_t locate_block(struct table_iter *ti, uint64_t trailer, bool *is_cached)
{
    uint32_t shared;
    const struct table_index *in = &ti->table->index;
    uint32_t index = table_index_search_end(in, &ti->search, trailer, &shared);
    bool is_here = ti->block != NULL && ti->block_index == index;
    const uint8_t *bytes = is_here ? NULL : prefetch_block(ti, index);
    *is_cached = is_here || bytes != NULL;
    ti->is_searching = false;
    ti->share = table_index_share(in, &ti->search, index, GUESS_WHOLE);
    if (bytes != NULL)
        prefetch_guessed(ti, bytes);
    return index;
}

/* The third step, when the block is in memory: finds the entry, and fetches it. */
static void approach_in_block(struct table_iter *ti, lsm_slice key, uint64_t trailer)
{
    const struct table *t = ti->table;
    uint32_t index = ti->approached - 1;
    bool is_here = ti->block != NULL && ti->block_index == index;
    if (!is_here && (!block_cache_has(t->env->cache, table_slot(t, index), t->number, index) ||
                     !enter_block(ti, index, false)))
        return;
    uint32_t entry = block_seek(&ti->source.view, key, trailer);
    learn(ti, entry);
    ti->sought = entry + 1;
    if (entry < ti->source.view.count)
        __builtin_prefetch(ti->source.view.data + block_offset(&ti->source.view, entry));
}

static void iter_approach_entry(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct table_iter *ti = of(it);
    if (ti->approached != 0) {
        approach_in_block(ti, key, trailer);
    } else if (ti->is_searching) {
        bool is_cached;
        uint32_t index = locate_block(ti, trailer, &is_cached);
        ti->approached = index + 1;
        if (!is_cached)
            table_ahead_approach(&ti->ahead, index);
    } else {
        table_index_search_begin(&ti->table->index, key, &ti->search);
        ti->is_searching = true;
        ti->sought = 0;
    }
}

/* The block in which (key, trailer) is, as approached or looked up now. */
static uint32_t find_block(struct table_iter *ti, lsm_slice key, uint64_t trailer)
{
    uint32_t approached = ti->approached;
    ti->approached = 0;
    if (approached != 0)
        return approached - 1;
    bool is_cached;
    ti->sought = 0;
    table_index_search_begin(&ti->table->index, key, &ti->search);
    return locate_block(ti, trailer, &is_cached);
}

static uint32_t find_entry(struct table_iter *ti, lsm_slice key, uint64_t trailer)
{
    uint32_t sought = ti->sought;
    ti->sought = 0;
    if (sought != 0)
        return sought - 1;
    uint32_t index = block_seek(&ti->source.view, key, trailer);
    learn(ti, index);
    return index;
}

static void iter_seek_entry(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct table_iter *ti = of(it);
    it->status = LSM_OK;
    if (!enter_block(ti, find_block(ti, key, trailer), false))
        return;
    uint32_t index = find_entry(ti, key, trailer);
    if (index < ti->source.view.count) {
        show_one(ti, index);
    } else {
        ti->wanted = FIRST_BATCH;
        show_first_of(ti, ti->block_index + 1);
    }
}

static void iter_seek_for_prev_entry(struct iter *it, lsm_slice key, uint64_t trailer)
{
    struct table_iter *ti = of(it);
    it->status = LSM_OK;
    ti->wanted = FIRST_BATCH;
    if (!enter_block(ti, find_block(ti, key, trailer), true))
        return;
    uint32_t index = block_seek(&ti->source.view, key, trailer);
    if (index < ti->source.view.count && block_compare(&ti->source.view, index, key, trailer) == 0)
        show_one(ti, index);
    else if (index > 0)
        show_one(ti, index - 1);
    else if (ti->block_index > 0)
        show_last_of(ti, ti->block_index - 1);
    else
        end(ti);
}

static void iter_next_entry(struct iter *it)
{
    struct table_iter *ti = of(it);
    assert(it->valid && it->run == 0);
    uint32_t index = current_index(ti) + 1;
    if (index < ti->source.view.count)
        show_more(ti, index);
    else
        show_first_of(ti, ti->block_index + 1);
}

static void iter_prev_entry(struct iter *it)
{
    struct table_iter *ti = of(it);
    assert(it->valid && it->back == 0);
    uint32_t index = current_index(ti);
    if (index > 0)
        show_back(ti, index - 1);
    else if (ti->block_index > 0)
        show_last_of(ti, ti->block_index - 1);
    else
        end(ti);
}

static void init_ahead(struct table_iter *ti, const struct table_iter_options *options)
{
    struct table_ahead_plan plan = {
        .first_size = TABLE_AHEAD_FIRST, .max_size = TABLE_AHEAD_MAX, .depth = TABLE_AHEAD_DEPTH};
    if (options->whole)
        plan = (struct table_ahead_plan){TABLE_AHEAD_WHOLE, TABLE_AHEAD_WHOLE,
                                         TABLE_AHEAD_WHOLE_DEPTH, true};
    else if (options->readahead > 0)
        plan.first_size = plan.max_size = options->readahead / TABLE_AHEAD_DEPTH;
    plan.is_sure = options->whole || options->readahead > 0;
    if (options->lane == NULL)
        read_lane_init(&ti->lane, ti->table->env->io, ti->table->env->queues);
    table_ahead_init(&ti->ahead, ti->table, options->lane != NULL ? options->lane : &ti->lane,
                     &plan);
    ti->ahead.first = options->first;
    ti->ahead.limit = options->limit;
}

static void iter_rest_entry(struct iter *it)
{
    struct table_iter *ti = of(it);
    drop_blocks(ti);
    ti->run = 0;
    ti->approached = 0;
    ti->is_searching = false;
    table_ahead_rest(&ti->ahead);
    read_lane_release(&ti->lane);
}

static void iter_release_entry(struct iter *it)
{
    struct table_iter *ti = of(it);
    table_ahead_release(&ti->ahead);
    read_lane_release(&ti->lane);
    drop_blocks(ti);
    table_batch_release(&ti->batches[0]);
    table_batch_release(&ti->batches[1]);
    mem_free(ti);
}

static const struct iter_ops table_iter_ops = {
    .first = iter_first_entry,
    .last = iter_last_entry,
    .seek = iter_seek_entry,
    .seek_for_prev = iter_seek_for_prev_entry,
    .next = iter_next_entry,
    .prev = iter_prev_entry,
    .release = iter_release_entry,
    .approach = iter_approach_entry,
    .rest = iter_rest_entry,
};

lsm_status table_iter_new(struct table *table, const struct table_iter_options *options,
                          struct iter **it, lsm_error *err)
{
    struct table_iter *ti = mem_alloc(sizeof *ti);
    if (ti == NULL)
        return lsm_fail_memory(err, sizeof *ti);
    memset(ti, 0, offsetof(struct table_iter, batches));
    ti->batches[0].keys = ti->batches[1].keys = (struct buffer){0};
    ti->it.ops = &table_iter_ops;
    ti->table = table;
    ti->err = err;
    ti->flags = options->flags;
    init_ahead(ti, options);
    *it = &ti->it;
    return LSM_OK;
}

void table_iter_turn_to(struct iter *it, struct table *table, bool goes_on)
{
    struct table_iter *ti = of(it);
    end(ti);
    leave_block(ti);
    ti->table = table;
    ti->approached = 0;
    ti->is_searching = false;
    ti->run = 0;
    table_ahead_turn_to(&ti->ahead, table, goes_on);
}
